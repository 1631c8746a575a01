//! What identifies documents, and what they say where the store knows less than usual.

use std::sync::Arc;

use uuid::Uuid;

use super::Pipeline;
use crate::alert::{Alert, EnrichedEvent, Integrity, ProcessView};
use crate::detect::Found;
use crate::event::{Event, Meta, Payload, ProcessKey};
use crate::lineage::process::{Image, Origin, Process};

/// The namespace of every id: UUIDv5 of "tracer" in the DNS namespace would need a domain of ours,
/// so a fixed random one.
pub(super) const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_6c0e_3f53_4b0c_9a55_0a6c_1d2b_74e9);

impl Pipeline {
    /// What was lost from the begin of the oldest ancestor that began while the agent ran, up to the
    /// event.
    pub(super) fn integrity(
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
        Integrity {
            lost: self.losses.between(since, until_boot_ns),
            lineage_broken,
        }
    }

    /// A subject that the store refused: what the record itself says.
    pub(super) fn unknown(&self, event: &Event) -> ProcessView {
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
        self.view(&Process {
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

/// The alert that was found in an event.
pub(super) fn alert(event: &EnrichedEvent, found: Found) -> Alert {
    let Found {
        rule,
        severity,
        reason,
        server_depth,
        server,
        directory,
        writer: _,
    } = found;
    let text = format!("alert|{}|{}", event.id, rule.id);
    Alert {
        id: Uuid::new_v5(&NAMESPACE, text.as_bytes()),
        rule,
        severity,
        reason,
        server_depth,
        server,
        directory,
    }
}
