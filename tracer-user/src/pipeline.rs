//! All state between bytes and documents, owned by one task. Pure: no I/O, no clock.
//!
//! Inputs go in one at a time; documents and commands come out. The same inputs give the same
//! documents, byte for byte, which is what replay rests on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tracer_common::tag::{InodeKey, Tag};
use uuid::Uuid;

use crate::alert::{Alert, Document, EnrichedEvent, HostFacts, Integrity, ProcessView};
use crate::config::Emit;
use crate::detect::{Detector, Found};
use crate::enrich::container::container_id;
use crate::event::{Event, Meta, Payload, ProcessKey, decode};
use crate::lineage::process::{Image, Origin, Process, Server};
use crate::lineage::{Retag, Store};
use crate::order::Order;
use crate::source::{Input, Loss};

/// What the pipeline asks the outside for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Tag a process in the kernel.
    Tag(u32, Tag),
    /// Make an executable give roles in the kernel.
    Role(InodeKey, u32),
    /// Read a server's configuration for the directories it serves.
    Discover(ServerSeen),
}

/// A server whose configuration may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSeen {
    /// The process.
    pub key: ProcessKey,
    /// Its name in the roles table.
    pub server: &'static str,
    /// What it ran.
    pub image: Image,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records decoded.
    pub events: u64,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Alerts raised.
    pub alerts: u64,
    /// Lost events, whatever the reason.
    pub lost: u64,
}

/// Losses remembered for `tracer.integrity`.
const LOSSES: usize = 1024;

/// The namespace of every id: UUIDv5 of "tracer" in the DNS namespace would need a domain of ours,
/// so a fixed random one.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_6c0e_3f53_4b0c_9a55_0a6c_1d2b_74e9);

/// The pipeline.
pub struct Pipeline {
    emit: Emit,
    order: Order,
    store: Store,
    detector: Detector,
    host: Arc<HostFacts>,
    boot_wall_ns: i128,
    users: HashMap<u32, Arc<str>>,
    groups: HashMap<u32, Arc<str>>,
    losses: VecDeque<Loss>,
    totals: Totals,
    documents: Vec<Document>,
    commands: Vec<Command>,
}

impl Pipeline {
    /// An empty pipeline with a store of at most `processes`. Even the directories to look for come
    /// as inputs, so that a recording holds them.
    #[must_use]
    pub fn new(emit: Emit, processes: usize) -> Self {
        Self {
            emit,
            order: Order::default(),
            store: Store::new(processes),
            detector: Detector::default(),
            host: Arc::new(HostFacts::default()),
            boot_wall_ns: 0,
            users: HashMap::new(),
            groups: HashMap::new(),
            losses: VecDeque::new(),
            totals: Totals::default(),
            documents: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// Takes one input.
    pub fn input(&mut self, input: Input) {
        match input {
            Input::Host(host) => self.host = Arc::new(host),
            Input::Clock(boot_wall_ns) => self.boot_wall_ns = boot_wall_ns,
            Input::Name { group, id, name } => {
                let names = if group {
                    &mut self.groups
                } else {
                    &mut self.users
                };
                names.insert(id, name.into());
            }
            Input::Directory(entry) => {
                for (event, found) in self.detector.add_directory(&self.store, entry) {
                    self.raise(&event, found);
                }
            }
            Input::DirectoryAt { file, entry } => {
                for (event, found) in self.detector.place_directory(&self.store, file, entry) {
                    self.raise(&event, found);
                }
            }
            Input::DirectoryLeft(file) => self.detector.displace_directory(file),
            Input::Record(bytes) => match decode(&bytes) {
                Ok(event) => {
                    if let Some(event) = self.order.push(event) {
                        self.event(&event);
                    }
                }
                Err(_) => self.totals.undecodable += 1,
            },
            Input::SnapshotEnd => {
                while let Some(event) = self.order.release(u64::MAX) {
                    self.event(&event);
                }
                let mut retag = Vec::new();
                self.store.tag_descendants(&mut retag);
                self.retag(retag);
            }
            Input::Watermark(boot_ns) => {
                while let Some(event) = self.order.release(boot_ns) {
                    self.event(&event);
                }
            }
            Input::Loss(loss) => {
                self.totals.lost += loss.count;
                if self.losses.len() >= LOSSES {
                    self.losses.pop_front();
                }
                self.losses.push_back(loss);
            }
        }
    }

    /// The documents since last asked.
    pub fn take_documents(&mut self) -> Vec<Document> {
        std::mem::take(&mut self.documents)
    }

    /// The commands since last asked.
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// Whether events wait for a watermark.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.order.is_empty()
    }

    /// How many processes are known.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.store.len()
    }

    /// What happened so far.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Counts of the stages that have a bound or leave something out, by name.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let store = self.store.stats();
        vec![
            ("processes", self.store.len() as u64),
            ("processes_evicted", store.evicted),
            ("processes_refused", store.refused),
            ("records_late", self.order.late()),
            ("alerts_suppressed", self.detector.suppressed()),
            ("directories", self.detector.directories().len() as u64),
            (
                "directories_by_identity",
                self.detector.directories().placed() as u64,
            ),
            ("directories_refused", self.detector.directories().refused()),
        ]
    }

    fn event(&mut self, event: &Event) {
        self.totals.events += 1;
        if self.is_repeated_end(event) || self.is_no_change(event) {
            return;
        }
        let mut retag = Vec::new();
        self.store.apply(event, &mut retag);
        self.retag(retag);
        self.discover(event);
        if let Some(found) = self.detector.event(&mut self.store, event) {
            self.raise(event, found);
        }
        if self.emit != Emit::Alerts {
            let event = self.enrich(event);
            self.documents.push(Document { event, alert: None });
        }
    }

    /// Threads that end together may each be the last to the kernel side, which then tells the end of
    /// their process twice.
    fn is_repeated_end(&self, event: &Event) -> bool {
        matches!(event.payload, Payload::Exit(_))
            && self
                .store
                .get(event.meta.subject)
                .is_some_and(|process| process.ended.is_some())
    }

    /// A call that sets users or capabilities to what they are, as each thread of a process does after
    /// the first.
    fn is_no_change(&self, event: &Event) -> bool {
        matches!(&event.payload, Payload::Credentials(credentials)
            if self
                .store
                .get(event.meta.subject)
                .is_some_and(|process| process.credentials.as_ref() == Some(credentials)))
    }

    fn raise(&mut self, event: &Event, found: Found) {
        self.totals.alerts += 1;
        if self.emit != Emit::Events {
            let event = self.enrich(event);
            let alert = Some(alert(&event, found));
            self.documents.push(Document { event, alert });
        }
    }

    fn retag(&mut self, retag: Vec<Retag>) {
        self.commands
            .extend(retag.into_iter().map(|retag| match retag {
                Retag::Set(tgid, tag) => Command::Tag(tgid, tag),
                Retag::Executable(file, roles) => Command::Role(
                    InodeKey {
                        inode: file.inode,
                        dev: file.dev,
                        reserved: 0,
                    },
                    roles,
                ),
            }));
    }

    /// A process that has just become a server may serve directories nobody told us of.
    fn discover(&mut self, event: &Event) {
        if !matches!(
            event.payload,
            Payload::Exec(_) | Payload::Observed(_) | Payload::Socket(_)
        ) {
            return;
        }
        let key = event.meta.subject;
        let mut chain = self.store.chain(key);
        let Some(image) = chain.next().and_then(Process::image) else {
            return;
        };
        // What runs below a server may be the attacker's: its configuration is not believed.
        let below = chain.any(|process| process.images.iter().any(|image| image.server.is_some()));
        if below {
            return;
        }
        if let Some(Server { name, .. }) = image.server {
            let seen = ServerSeen {
                key,
                server: name,
                image: image.clone(),
            };
            self.commands.push(Command::Discover(seen));
        }
    }

    fn enrich(&self, event: &Event) -> EnrichedEvent {
        let mut chain = self.store.chain(event.meta.subject);
        let process = chain.next();
        let oldest = self.store.chain(event.meta.subject).last();
        let view = |process: &Process| self.view(process);
        let integrity = self.integrity(process, oldest);
        let lineage = chain.map(view).collect();
        let process = process.map_or_else(|| self.unknown(event), view);
        let child = match &event.payload {
            Payload::Fork(fork) => self.store.get(fork.child).map(view),
            Payload::Exec(_)
            | Payload::Exit(_)
            | Payload::File(_)
            | Payload::Change(_)
            | Payload::Socket(_)
            | Payload::Observed(_)
            | Payload::ExecFailed(_)
            | Payload::Credentials(_)
            | Payload::Namespace(_)
            | Payload::Trace(_)
            | Payload::Comm(_) => None,
        };
        EnrichedEvent {
            event: event.clone(),
            id: self.event_id(event),
            boot_wall_ns: self.boot_wall_ns,
            process,
            lineage,
            child,
            integrity,
            host: Arc::clone(&self.host),
        }
    }

    /// What was lost since the oldest ancestor that the lineage rests on was seen to begin.
    fn integrity(&self, process: Option<&Process>, oldest: Option<&Process>) -> Integrity {
        let since = process.map_or(0, |process| {
            self.store
                .chain(process.key)
                .filter(|process| process.origin == Origin::Witnessed)
                .map(|process| process.start_boot_ns)
                .min()
                .unwrap_or(process.start_boot_ns)
        });
        let mut lost: Vec<(String, u64)> = Vec::new();
        for loss in self.losses.iter().filter(|loss| loss.boot_ns >= since) {
            match lost.iter_mut().find(|(reason, _)| *reason == loss.reason) {
                Some((_, count)) => *count += loss.count,
                None => lost.push((loss.reason.clone(), loss.count)),
            }
        }
        // PID 1, or the parent of kernel threads (2), or what the kernel itself started (0).
        let lineage_broken = oldest.is_none_or(|oldest| oldest.key.tgid > 2);
        Integrity {
            lost,
            lineage_broken,
        }
    }

    fn view(&self, process: &Process) -> ProcessView {
        let image = process.image().cloned();
        let ids = process.ids;
        let name = |names: &HashMap<u32, Arc<str>>, id: Option<u32>| {
            id.and_then(|id| names.get(&id)).cloned()
        };
        ProcessView {
            key: process.key,
            entity_id: self.entity_id(process.key),
            start_boot_ns: process.start_boot_ns,
            origin: process.origin,
            vpid: process.vpid,
            previous: process
                .images
                .split_last()
                .map(|(_, before)| before.to_vec())
                .unwrap_or_default(),
            inherited: process.inherited == process.images.len() && !process.images.is_empty(),
            ids,
            user_name: name(&self.users, ids.map(|ids| ids.uid)),
            group_name: name(&self.groups, ids.map(|ids| ids.gid)),
            server: image.as_ref().and_then(|image| image.server.clone()),
            container_id: image
                .as_ref()
                .and_then(|image| container_id(&image.exec.cgroup)),
            image,
            ports: process.ports.clone(),
            ended: process.ended,
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
        self.view(&Process {
            ids: image.as_ref().map(|image| image.exec.ids),
            images: image.into_iter().collect(),
            ..Process::new(subject, start_boot_ns, Origin::Inferred, tag)
        })
    }

    fn entity_id(&self, key: ProcessKey) -> Uuid {
        let text = format!(
            "process|{}|{}|{}",
            self.host.boot_id, key.tgid, key.start_ticks
        );
        Uuid::new_v5(&NAMESPACE, text.as_bytes())
    }

    fn event_id(&self, event: &Event) -> Uuid {
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

fn alert(event: &EnrichedEvent, found: Found) -> Alert {
    let Found {
        rule,
        severity,
        reason,
        server_depth,
        server,
        directory,
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
