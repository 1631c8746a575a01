//! The process store: every process of the host, who made it, what it ran. Pure.
//!
//! A process stays while it lives, while any descendant lives, and for a grace time after. What all of
//! them take is bounded; what the bound pushed out or refused is counted.

pub mod heal;
mod kin;
mod link;
pub mod orphan;
mod places;
pub mod process;
pub mod recall;
pub mod servers;
mod serving;
pub mod tree;
mod weight;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tracer_common::event::Ids;
use tracer_common::tag::{Serves, Tag};

use self::places::Places;
use self::process::{Ended, Image, Origin, Process, RanAs};
use self::serving::Developing;
use crate::detect::roles;
use crate::event::{Event, Exec, Fork, Meta, Payload, ProcessKey};

/// How long an ended process without living descendants is kept: long enough for file and network
/// records of its last moments, whose ring is another.
const GRACE_NS: u64 = 30_000_000_000;

/// Programs kept of one process: a chain of execs in one pid. The first and the latest stay.
const IMAGES: usize = 8;

/// Ports kept of one process.
const PORTS: usize = 16;

/// Refused processes remembered, so that each counts once: the latest.
const REFUSED: usize = 16_384;

/// Longest chain of ancestors followed. Real ones are below 30; a longer one is cut, and says so.
pub const CHAIN: usize = 128;

/// What the store asks the kernel side for, so that both hold the same tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retag {
    /// The kernel's tag of a process lacks roles that its lineage has.
    Set(ProcessKey, Tag),
    /// This executable gives a role whoever runs it.
    Executable(crate::event::FileId, Serves),
}

impl Retag {
    fn executable(exec: &Exec, server: &process::Server) -> Self {
        let serves = Serves {
            roles: server.role.bit(),
            generation: exec.generation,
        };
        Self::Executable(exec.file, serves)
    }
}

/// Counts of what the bound did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Ended processes removed before their grace time was over.
    pub evicted: u64,
    /// Living processes not taken in or let go, because every other lives too. Each once, however often it
    /// is told of.
    pub refused: u64,
}

/// All processes.
pub struct Store {
    processes: HashMap<ProcessKey, Box<Process>>,
    /// How many processes of the store each one created, itself in the store or not; one more where it
    /// is kept beyond its end.
    children: HashMap<ProcessKey, usize>,
    /// The process that holds a number now.
    current: HashMap<u32, ProcessKey>,
    /// Ended processes in the order they ended, with when.
    ended: VecDeque<(u64, ProcessKey)>,
    /// Processes that are kept beyond their end, in the order they were first.
    kept: VecDeque<ProcessKey>,
    /// Processes that were refused, and the same in the order in which they first were.
    refused: HashSet<ProcessKey>,
    refusals: VecDeque<ProcessKey>,
    /// Processes that an earlier agent knew living, until the snapshot shows them.
    awaited: HashSet<ProcessKey>,
    /// Who serves within a session that lasts.
    developing: Developing,
    /// Some were refused since there was room.
    owes: bool,
    /// Processes in the order they were taken in; some of them are gone.
    newest: Vec<ProcessKey>,
    /// The containers that processes are in.
    places: Places,
    /// How many processes share each program and each container, by where its facts are in memory.
    shared: HashMap<usize, usize>,
    /// Processes that were changed since they were counted.
    touched: Vec<ProcessKey>,
    /// What all take that are counted, bytes.
    held: usize,
    max: usize,
    stats: StoreStats,
}

impl Store {
    /// An empty store of processes that take at most `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            processes: HashMap::new(),
            children: HashMap::new(),
            current: HashMap::new(),
            ended: VecDeque::new(),
            kept: VecDeque::new(),
            refused: HashSet::new(),
            refusals: VecDeque::new(),
            awaited: HashSet::new(),
            developing: Developing::new(),
            owes: false,
            newest: Vec::new(),
            places: Places::default(),
            shared: HashMap::new(),
            touched: Vec::new(),
            held: 0,
            max,
            stats: StoreStats::default(),
        }
    }

    /// A process.
    #[must_use]
    pub fn get(&self, key: ProcessKey) -> Option<&Process> {
        self.processes.get(&key).map(|process| &**process)
    }

    /// A process, to note something about it.
    pub fn get_mut(&mut self, key: ProcessKey) -> Option<&mut Process> {
        if self.uncount(key) {
            self.touched.push(key);
        }
        self.processes.get_mut(&key).map(|process| &mut **process)
    }

    /// A process and its creators, nearest first, up to [`CHAIN`].
    pub fn chain(&self, key: ProcessKey) -> impl Iterator<Item = &Process> {
        let mut next = self.get(key);
        std::iter::from_fn(move || {
            let process = next?;
            next = process.creator.and_then(|creator| self.get(creator));
            Some(process)
        })
        .take(CHAIN)
    }

    /// Every process, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Process> {
        self.processes.values().map(|process| &**process)
    }

    /// The processes that live, in no order.
    pub fn living(&self) -> impl Iterator<Item = &Process> {
        let processes = self.processes.values().map(|process| &**process);
        processes.filter(|process| process.ended.is_none())
    }

    /// How many processes are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.processes.len()
    }

    /// Whether any process is of a server's lineage.
    #[must_use]
    pub fn knows_servers(&self) -> bool {
        let mut processes = self.processes.values();
        processes.any(|process| process.tag.is_server_lineage())
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// What the bound did.
    #[must_use]
    pub const fn stats(&self) -> StoreStats {
        self.stats
    }

    /// Whether processes were refused for whom there is room by now: a tenth of all, so that this is not so
    /// again at once. Says so once.
    pub fn has_room_again(&mut self) -> bool {
        let has = self.owes && self.held < self.max - self.max / 10;
        self.owes &= !has;
        has
    }

    /// Takes in what an event says of processes. `retag` is told where the kernel should know more.
    pub fn apply(&mut self, event: &Event, retag: &mut Vec<Retag>) {
        let Event { meta, payload } = event;
        match payload {
            Payload::Fork(fork) => self.fork(meta, fork, retag),
            Payload::Exec(exec) => self.exec(meta, exec, retag),
            Payload::Observed(exec) => self.observed(meta, exec, retag),
            Payload::Exit(exit) => {
                self.subject(meta);
                if let Some(process) = self.get_mut(meta.subject)
                    && process.ended.is_none_or(|ended| ended.status.is_none())
                {
                    process.ended = Some(Ended {
                        boot_ns: meta.boot_ns,
                        status: Some(exit.status),
                    });
                    self.ended.push_back((meta.boot_ns, meta.subject));
                }
                self.leaves(meta.subject, retag);
            }
            Payload::Socket(socket) => {
                self.used(meta, socket.ids);
                self.socket(meta, socket, retag);
            }
            Payload::File(file) => {
                self.used(meta, payload.ids());
                self.file(meta, file, retag);
            }
            Payload::Trace(trace) => {
                self.used(meta, payload.ids());
                self.trace(meta, trace, retag);
            }
            Payload::Credentials(credentials) => {
                self.subject(meta);
                if let Some(process) = self.get_mut(meta.subject) {
                    process.runs_as(RanAs {
                        boot_ns: meta.boot_ns,
                        ids: credentials.ids,
                        capabilities: Some((credentials.cap_effective, credentials.cap_permitted)),
                    });
                    process.ids = Some(credentials.ids);
                    process.credentials = Some(*credentials);
                }
            }
            Payload::Change(_)
            | Payload::ExecFailed(_)
            | Payload::Namespace(_)
            | Payload::Comm(_) => self.used(meta, payload.ids()),
        }
        self.collect(meta.boot_ns);
        self.fit();
    }

    /// The subject did something, as these users and groups.
    fn used(&mut self, meta: &Meta, ids: Option<Ids>) {
        self.subject(meta);
        if let (Some(process), Some(ids)) = (self.get_mut(meta.subject), ids) {
            process.runs_as(RanAs {
                boot_ns: meta.boot_ns,
                ids,
                capabilities: None,
            });
            process.ids = Some(ids);
        }
    }

    /// After the snapshot: gives every descendant of a server its tag, in the kernel too.
    pub fn tag_descendants(&mut self, retag: &mut Vec<Retag>) {
        self.adopt_orphans();
        let mut keys: Vec<ProcessKey> = self.processes.keys().copied().collect();
        // So that the same processes give the same commands, on replay too.
        keys.sort_unstable();
        for key in keys {
            let tag = self.lineage_tag(key);
            if let Some(process) = self.get_mut(key)
                && tag.is_server_lineage()
                && process.ended.is_none()
            {
                let tag = recall::tag(process, tag);
                // Also where the store knew: the kernel was never told of an observed process.
                process.tag = tag;
                retag.push(Retag::Set(key, tag));
            }
        }
        self.fit();
    }

    /// The tag that a process has by what it and its creators run.
    fn lineage_tag(&self, key: ProcessKey) -> Tag {
        let (mut roles, mut distance, mut server_tgid, mut first) = (0, None, None, 0);
        for (depth, process) in self.chain(key).enumerate() {
            let own = process
                .images
                .iter()
                .filter_map(|image| image.server.as_ref());
            for server in own {
                roles |= server.role.bit();
                distance.get_or_insert(depth);
                server_tgid.get_or_insert(process.key.tgid);
                first = process.key.tgid;
            }
            roles |= process.tag.roles;
        }
        if roles == 0 {
            return Tag::ZERO;
        }
        let distance = distance.and_then(|depth| u16::try_from(depth).ok());
        Tag {
            roles,
            server: server_tgid.unwrap_or(0),
            distance: distance.unwrap_or(u16::MAX),
            quota: if server_tgid == Some(first) { 0 } else { first },
            ..Tag::ZERO
        }
    }

    fn fork(&mut self, meta: &Meta, fork: &Fork, retag: &mut Vec<Retag>) {
        self.used(meta, Some(fork.ids));
        let Some(creator) = self.get(meta.subject) else {
            return;
        };
        let inherited: Vec<Image> = creator.image().cloned().into_iter().collect();
        let mut tag = fork.child_tag;
        if creator.tag.roles & !tag.roles != 0 {
            // The creator became a server in user space's eyes after the kernel copied its tag.
            tag = Tag {
                roles: tag.roles | creator.tag.roles,
                ..creator.tag.child()
            };
            retag.push(Retag::Set(fork.child, tag));
        }
        let child = Process {
            creator: Some(meta.subject),
            parent: Some(fork.parent),
            vpid: fork.vpid,
            pid_ns: fork.pid_ns,
            inherited: inherited.len(),
            images: inherited,
            place: creator.place.clone(),
            placed: creator.placed,
            ids: Some(fork.ids),
            credentials: creator.credentials,
            ..Process::new(fork.child, fork.child_start_boot_ns, Origin::Witnessed, tag)
        };
        self.insert(child);
    }

    fn exec(&mut self, meta: &Meta, exec: &Exec, retag: &mut Vec<Retag>) {
        self.subject(meta);
        self.executes(meta, exec, retag);
        let server = roles::by_exec(exec);
        let Some(process) = self.get_mut(meta.subject) else {
            return;
        };
        process.runs_as(RanAs {
            boot_ns: meta.boot_ns,
            ids: exec.ids,
            capabilities: Some((exec.cap_effective, exec.cap_permitted)),
        });
        process.became(exec);
        let before = process.parent.replace(exec.parent);
        process.tag.roles |= meta.tag.roles;
        if meta.tag.is_server_lineage() {
            process.tag.server = meta.tag.server;
            process.tag.quota = meta.tag.quota;
            process.tag.distance = meta.tag.distance;
            process.tag.via |= meta.tag.via;
        }
        if let Some(server) = &server {
            // What it does from now on is a server's, not part of what was told before.
            process.alerted.clear();
            process.tag = process.tag.serving(server.role.bit(), meta.subject.tgid);
            if roles::by_file_alone(exec) {
                retag.push(Retag::executable(exec, server));
            }
        }
        if process.tag.roles & !meta.tag.roles != 0 {
            retag.push(Retag::Set(meta.subject, process.tag));
        }
        let image = Image {
            exec: Arc::new(exec.clone()),
            boot_ns: meta.boot_ns,
            observed: false,
            server,
        };
        push_image(process, image);
        let orphaned = process.origin == Origin::Inferred && process.creator.is_none();
        if orphaned {
            // Its fork was lost: the parent it has now is the best that is known.
            let parent = (exec.parent.tgid != 0).then_some(exec.parent);
            self.set_creator(meta.subject, parent);
        }
        self.moved(meta.subject, &exec.cgroup);
        self.adopted(before, exec.parent);
    }

    fn observed(&mut self, meta: &Meta, exec: &Exec, retag: &mut Vec<Retag>) {
        let server = roles::by_exec(exec).or_else(|| roles::by_title(exec));
        if let Some(server) = &server
            && roles::by_file_alone(exec)
        {
            // So that its next start is tagged by the kernel itself.
            retag.push(Retag::executable(exec, server));
        }
        let tag = server.as_ref().map_or(Tag::ZERO, |server| Tag {
            roles: server.role.bit(),
            server: meta.subject.tgid,
            ..Tag::ZERO
        });
        let image = Image {
            exec: Arc::new(exec.clone()),
            boot_ns: meta.boot_ns,
            observed: true,
            server,
        };
        let parent = (exec.parent.tgid != 0).then_some(exec.parent);
        if self.awaited.remove(&meta.subject) {
            return self.seen_again(meta, exec, image);
        }
        if let Some(process) = self.get_mut(meta.subject) {
            // Known from another's record only: now it is known itself.
            if process.origin == Origin::Inferred {
                process.origin = Origin::Observed;
                process.parent = parent;
                process.tag.roles |= tag.roles;
                process.images.insert(0, image);
                let placed = process.placed;
                self.set_creator(meta.subject, parent);
                if !placed {
                    self.moved(meta.subject, &exec.cgroup);
                }
            }
            return;
        }
        self.insert(Process {
            creator: parent,
            parent,
            ..Process::running(meta, Origin::Observed, tag, exec, image)
        });
        self.moved(meta.subject, &exec.cgroup);
    }

    /// Makes sure the subject of an event is in the store.
    fn subject(&mut self, meta: &Meta) {
        if self.processes.contains_key(&meta.subject) {
            return;
        }
        let (key, start) = (meta.subject, meta.start_boot_ns);
        self.insert(Process::new(key, start, Origin::Inferred, meta.tag));
    }

    fn insert(&mut self, mut process: Process) {
        let key = process.key;
        if let Some(known) = self.get_mut(key) {
            // Seen before its fork record: by the snapshot, which read it between fork and now, or
            // by a record of its own that came early. The fork knows the true creator; what was
            // witnessed of the process itself stays.
            if known.origin != Origin::Witnessed {
                known.origin = process.origin;
                known.start_boot_ns = process.start_boot_ns;
                known.parent = process.parent;
                known.vpid = process.vpid;
                known.pid_ns = process.pid_ns;
                known.ids = known.ids.or(process.ids);
                known.credentials = known.credentials.or(process.credentials);
                if !known.placed {
                    (known.place, known.placed) = (process.place.take(), process.placed);
                }
                known.tag.roles |= process.tag.roles;
                known.images.retain(|image| !image.observed);
                known.inherited = process.images.len();
                process.images.append(&mut known.images);
                known.images = process.images;
                self.set_creator(key, process.creator);
            }
            return;
        }
        if let Some(earlier) = self.current.insert(key.tgid, key)
            && let Some(before) = self.get_mut(earlier)
            && before.ended.is_none()
        {
            // The number is in use again, so its end was lost.
            before.ended = Some(Ended {
                boot_ns: process.start_boot_ns,
                status: None,
            });
            self.ended.push_front((process.start_boot_ns, earlier));
        }
        if let Some(creator) = process.creator {
            *self.children.entry(creator).or_default() += 1;
        }
        self.processes.insert(key, Box::new(process));
        self.newest.push(key);
        self.touched.push(key);
        self.fit();
    }

    fn set_creator(&mut self, key: ProcessKey, creator: Option<ProcessKey>) {
        let Some(process) = self.get_mut(key) else {
            return;
        };
        let old = std::mem::replace(&mut process.creator, creator);
        if let Some(creator) = creator {
            *self.children.entry(creator).or_default() += 1;
        }
        if let Some(old) = old {
            self.forget_child(old);
            self.reconsider(old);
        }
    }

    /// Looks again at an ended process that may have waited for nothing but what has just gone.
    fn reconsider(&mut self, key: ProcessKey) {
        if let Some(ended) = self.get(key).and_then(|process| process.ended) {
            self.ended.push_front((ended.boot_ns, key));
        }
    }

    fn forget_child(&mut self, creator: ProcessKey) {
        if let Some(count) = self.children.get_mut(&creator) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.children.remove(&creator);
            }
        }
    }

    /// Removes what ended longer ago than the grace time and has no descendant left.
    fn collect(&mut self, now_boot_ns: u64) {
        while let Some(&(boot_ns, key)) = self.ended.front() {
            if boot_ns.saturating_add(GRACE_NS) > now_boot_ns {
                return;
            }
            self.ended.pop_front();
            self.remove_if_leaf(key, now_boot_ns);
        }
    }

    /// Makes room by removing the process that ended first, grace or not, and those that are kept
    /// beyond their end last. False where every process lives or has a living descendant.
    fn evict(&mut self) -> bool {
        loop {
            while let Some((_, key)) = self.ended.pop_front() {
                let removed = self.remove_if_leaf(key, u64::MAX);
                if removed > 0 {
                    self.stats.evicted += removed;
                    return true;
                }
            }
            if !self.let_go() {
                return false;
            }
        }
    }

    /// Removes an ended process without children in the store, then its creators the same way. One
    /// with children is removed when the last of them is. How many were.
    fn remove_if_leaf(&mut self, key: ProcessKey, now_boot_ns: u64) -> u64 {
        let mut next = Some(key);
        let mut removed = 0;
        while let Some(key) = next.take() {
            let gone = !self.children.contains_key(&key)
                && self
                    .processes
                    .get(&key)
                    .and_then(|process| process.ended)
                    .is_some_and(|ended| ended.boot_ns.saturating_add(GRACE_NS) <= now_boot_ns);
            if !gone {
                break;
            }
            next = self.remove(key);
            removed += 1;
        }
        removed
    }

    /// Removes a process; whose child it was.
    fn remove(&mut self, key: ProcessKey) -> Option<ProcessKey> {
        self.uncount(key);
        let process = self.processes.remove(&key)?;
        if self.current.get(&key.tgid) == Some(&key) {
            self.current.remove(&key.tgid);
        }
        if let Some(creator) = process.creator {
            self.forget_child(creator);
        }
        process.creator
    }
}

/// Adds a program. An observed one that turns out to be this very exec, read while it happened, is
/// replaced.
fn push_image(process: &mut Process, image: Image) {
    if let Some(last) = process.images.last()
        && last.observed
        && last.exec.file == image.exec.file
        && last.exec.args == image.exec.args
    {
        process.images.pop();
    }
    if process.images.len() >= IMAGES {
        // Neither the first nor, as long as there is another, a server: its descendants' lineage
        // rests on that.
        let middle = 1.max(process.inherited)..process.images.len();
        let plain = |at: &usize| {
            let image = process.images.get(*at);
            image.is_some_and(|image| image.server.is_none())
        };
        let at = middle.clone().find(plain).unwrap_or(middle.start);
        process.images.remove(at.min(IMAGES - 1));
        process.images_forgotten = process.images_forgotten.saturating_add(1);
    }
    process.images.push(image);
}
