//! What a document shows of an event: the process and its ancestors as they are known at that moment, and
//! what was lost. Refuses to change anything.

use std::sync::Arc;

use uuid::Uuid;

use super::Pipeline;
use super::contents::{executable, written};
use super::names::names_of;
use crate::alert::{Author, EnrichedEvent, Integrity, ProcessView};
use crate::enrich::container::place;
use crate::event::{Event, Meta, Payload, ProcessKey, TICK_NS, Writer};
use crate::lineage::process::{Image, Origin, Process, Via};

/// The namespace of every id: UUIDv5 of "tracer" in the DNS namespace would need a domain of ours,
/// so a fixed random one.
pub(super) const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_6c0e_3f53_4b0c_9a55_0a6c_1d2b_74e9);

impl Pipeline {
    pub(super) fn enrich(&self, event: &Event, writer: Option<Writer>) -> EnrichedEvent {
        let mut chain = self.store.chain(event.meta.subject);
        let process = chain.next();
        let oldest = self.store.chain(event.meta.subject).last();
        let view = |process: &Process| self.view(process);
        let integrity = self.integrity(process, oldest, event.meta.boot_ns);
        let lineage = chain.map(view).collect();
        let process = process.map_or_else(|| self.unknown(event), view);
        let (child, target) = match &event.payload {
            Payload::Fork(fork) => (Some(fork.child), None),
            Payload::Trace(trace) => (None, trace.target),
            Payload::Exec(_)
            | Payload::Exit(_)
            | Payload::File(_)
            | Payload::Change(_)
            | Payload::Socket(_)
            | Payload::Observed(_)
            | Payload::ExecFailed(_)
            | Payload::Credentials(_)
            | Payload::Namespace(_)
            | Payload::Comm(_) => (None, None),
        };
        let known = |key: Option<ProcessKey>| self.store.get(key?).map(view);
        let subject = child.unwrap_or(event.meta.subject);
        let (child, target) = (known(child), known(target));
        let kin = self.kin(subject);
        EnrichedEvent {
            event: event.clone(),
            content: written(event)
                .map(|(moment, ..)| self.contents.get(moment))
                .unwrap_or_default(),
            id: self.event_id(event),
            boot_wall_ns: self.boot_wall_ns,
            process,
            lineage,
            child,
            target,
            writer: writer.map(|writer| self.author(writer)),
            link: self.link(event.meta.subject),
            kin,
            exec_session: self.is_exec_session(event.meta.subject),
            integrity,
            host: Arc::clone(&self.host),
        }
    }

    /// Who wrote a file, and that process's lineage.
    fn author(&self, writer: Writer) -> Author {
        let mut chain = self
            .store
            .chain(writer.process)
            .map(|process| self.view(process));
        let process = chain.next().unwrap_or_else(|| {
            let (key, tag) = (writer.process, writer.tag);
            let start_boot_ns = key.start_ticks * TICK_NS;
            self.view(&Process::new(key, start_boot_ns, Origin::Inferred, tag))
        });
        Author {
            process,
            lineage: chain.collect(),
            boot_ns: writer.boot_ns,
            tag: writer.tag,
        }
    }

    /// Who a process came to its tag by, and that process's lineage.
    fn link(&self, key: ProcessKey) -> Option<(Via, Author)> {
        let link = self.store.link(key)?;
        let mut chain = self.store.linked(key);
        let from = chain.next()?;
        let author = Author {
            process: self.view(from),
            lineage: chain.map(|process| self.view(process)).collect(),
            boot_ns: link.boot_ns,
            tag: from.tag,
        };
        Some((link.via, author))
    }

    /// What was lost from the begin of the oldest ancestor that began while the agent ran, up to the
    /// event.
    fn integrity(
        &self,
        process: Option<&Process>,
        oldest: Option<&Process>,
        until_boot_ns: u64,
    ) -> Integrity {
        let since = process.map_or(0, |process| {
            self.store
                .chain(process.key)
                .filter(|process| matches!(process.origin, Origin::Witnessed | Origin::Healed))
                .map(|process| process.start_boot_ns)
                .min()
                .unwrap_or(process.start_boot_ns)
        });
        // PID 1, or the parent of kernel threads (2), or what the kernel itself started (0).
        let lineage_broken = oldest.is_none_or(|oldest| oldest.key.tgid > 2);
        // Who made the oldest is known, and not followed further or known no more.
        let ancestry_truncated =
            lineage_broken && oldest.is_some_and(|oldest| oldest.creator.is_some());
        Integrity {
            lost: self.losses.between(since, until_boot_ns),
            lineage_broken,
            ancestry_truncated,
            blind_ns: self.blind_ns(process, until_boot_ns),
        }
    }

    pub(super) fn view(&self, process: &Process) -> ProcessView {
        let image = process.image().cloned();
        ProcessView {
            key: process.key,
            entity_id: self.entity_id(process.key),
            start_boot_ns: process.start_boot_ns,
            origin: process.origin,
            inferred_by: process.inferred_by,
            vpid: process.vpid,
            previous: process
                .images
                .split_last()
                .map(|(_, before)| before.to_vec())
                .unwrap_or_default(),
            inherited: process.inherited == process.images.len() && !process.images.is_empty(),
            ids: process.ids,
            content: image
                .as_ref()
                .map(|image| self.contents.get(executable(image)))
                .unwrap_or_default(),
            names: names_of(&self.names, image.as_ref()),
            server: image.as_ref().and_then(|image| image.server.clone()),
            container: self
                .store
                .place(process)
                .map(|place| self.containers.view(place)),
            image,
            ports: process.ports.clone(),
            ended: process.ended,
            ran_as: process.ran_as.clone(),
            images_forgotten: process.images_forgotten,
        }
    }

    /// A subject that the store refused: what the record itself says.
    fn unknown(&self, event: &Event) -> ProcessView {
        let image = match &event.payload {
            Payload::Exec(exec) | Payload::Observed(exec) => Some(Image {
                exec: Arc::new((**exec).clone()),
                boot_ns: event.meta.boot_ns,
                observed: false,
                server: None,
            }),
            Payload::Fork(_)
            | Payload::Exit(_)
            | Payload::File(_)
            | Payload::Change(_)
            | Payload::Socket(_)
            | Payload::ExecFailed(_)
            | Payload::Credentials(_)
            | Payload::Namespace(_)
            | Payload::Trace(_)
            | Payload::Comm(_) => None,
        };
        let Meta {
            subject,
            start_boot_ns,
            tag,
            ..
        } = event.meta;
        let cgroup = image.as_ref().map_or(&[][..], |image| &image.exec.cgroup);
        self.view(&Process {
            place: place(cgroup).map(Arc::new),
            placed: !cgroup.is_empty(),
            ids: image.as_ref().map(|image| image.exec.ids),
            images: image.into_iter().collect(),
            ..Process::new(subject, start_boot_ns, Origin::Inferred, tag)
        })
    }

    pub(super) fn entity_id(&self, key: ProcessKey) -> Uuid {
        let text = format!(
            "process|{}|{}|{}",
            self.host.boot_id, key.tgid, key.start_ticks
        );
        Uuid::new_v5(&NAMESPACE, text.as_bytes())
    }

    pub(super) fn event_id(&self, event: &Event) -> Uuid {
        let kind = event.payload.kind().name();
        let meta = &event.meta;
        let mut text = format!(
            "event|{}|{}|{}|{}|{}|{kind}",
            self.host.boot_id, meta.subject.tgid, meta.subject.start_ticks, meta.tid, meta.boot_ns,
        );
        if let Payload::Socket(socket) = &event.payload {
            // The snapshot finds all of a process's sockets at one time.
            let (port, family, addr) = (
                socket.socket.local_port,
                socket.socket.family,
                socket.socket.local_addr,
            );
            text.push_str(&format!("|{family}|{addr:?}|{port}"));
        }
        Uuid::new_v5(&NAMESPACE, text.as_bytes())
    }
}
