//! The rules: when what a server's lineage does is an alert. Pure.
//!
//! A rule looks at facts of the event and of the lineage only. Exceptions bind to a *shape* (these
//! exact arguments, this start-up phase, this kind of directory), never to a server as such, so that
//! an attacker gains nothing by being inside the excepted server.

pub mod code;
mod executing;
mod expected;
mod nearest;
pub mod roles;
pub mod rules;
mod writing;
mod written;

use std::collections::VecDeque;

use tracer_common::event::{EventKind, access, flag};

use self::nearest::{nearest, server_of};
use self::writing::Aliases;
use self::written::{By, Written};
use crate::alert::{Directory, Rule, Severity};
use crate::enrich::container::container_id;
use crate::enrich::docroot::{Added, Directories, Entry, path};
use crate::event::{Change, Event, FileAccess, FileId, Payload, ProcessKey, Writer};
use crate::lineage::Store;
use crate::lineage::process::{Process, Server};
use crate::source::Resolved;

/// How long a server's own start-up may take before it listens, nanoseconds.
const START_UP_NS: u64 = 60_000_000_000;

/// Two alerts on the same file by the same process within this time are one, nanoseconds.
const SAME_WRITE_NS: u64 = 1_000_000_000;

/// Writes of code kept in case their directory becomes known, and for how long, nanoseconds: the
/// configuration of a server is read within a second of its start, however busy the host is.
const UNDECIDED: usize = 256;
const UNDECIDED_NS: u64 = 10_000_000_000;

/// How soon a child that a starting server makes runs a program, nanoseconds.
const CHILD_EXEC_NS: u64 = 1_000_000_000;

/// `RENAME_EXCHANGE`, include/uapi/linux/fs.h
const RENAME_EXCHANGE: u32 = 1 << 1;

/// A rule that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The rule.
    pub rule: &'static Rule,
    /// How bad, by the facts.
    pub severity: Severity,
    /// One sentence.
    pub reason: String,
    /// Place of the nearest server in the chain, zero being the subject; `None` where the server is
    /// the writer's.
    pub server_depth: Option<usize>,
    /// That server.
    pub server: Server,
    /// The directory, for a file.
    pub directory: Option<Directory>,
    /// Who of a server's lineage wrote the file before.
    pub writer: Option<Writer>,
}

/// The rules' memory.
#[derive(Default)]
pub struct Detector {
    directories: Directories,
    /// Writes of code outside every directory known so far, in case one becomes known.
    undecided: VecDeque<Event>,
    written: Written,
    aliases: Aliases,
    recent: VecDeque<(u64, ProcessKey, Vec<u8>)>,
    /// How many events were noted as undecided.
    noted: u64,
    /// Directories that callers named, and it would matter where they lead.
    questions: Vec<(u32, Vec<u8>)>,
    suppressed: u64,
}

impl Detector {
    /// Matches that were no alert of their own, because they were part of one already raised.
    #[must_use]
    pub const fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Served and component directories.
    #[must_use]
    pub const fn directories(&self) -> &Directories {
        &self.directories
    }

    /// Adds a directory, and judges again what was written before it was known: a server may be
    /// attacked while its configuration is still being read.
    pub fn add_directory(&mut self, store: &Store, entry: Entry) -> Vec<(Event, Found)> {
        if self.directories.add(entry) != Added::New {
            return Vec::new();
        }
        self.judge_again(store)
    }

    /// Forgets a directory that no server names any more.
    pub fn forget_directory(&mut self, name: &[u8]) {
        self.directories.forget(name);
    }

    /// Notes where a directory is, as the kernel identifies it, and judges again likewise.
    pub fn place_directory(
        &mut self,
        store: &Store,
        file: FileId,
        entry: Entry,
    ) -> Vec<(Event, Found)> {
        if self.directories.place(file, entry) != Added::New {
            return Vec::new();
        }
        self.judge_again(store)
    }

    /// Forgets where a directory was.
    pub fn displace_directory(&mut self, file: FileId) {
        self.directories.displace(file);
    }

    /// Judges again what was given a name in a directory, now that it is known where that led.
    pub fn resolved(&mut self, store: &Store, resolved: Resolved) -> Vec<(Event, Found)> {
        let Resolved {
            mnt_ns,
            directory,
            real,
        } = resolved;
        let (about, others): (Vec<Event>, Vec<Event>) = std::mem::take(&mut self.undecided)
            .into_iter()
            .partition(|event| {
                by_name(event).any(|(ns, path)| ns == mnt_ns && path::parent(path) == directory)
            });
        self.undecided = about.into();
        self.aliases.lend(directory, real);
        let found = self.judge_again(store);
        self.aliases.forget();
        for event in others {
            self.remember_undecided(&event);
        }
        found
    }

    /// Directories whose real place would decide, since last asked: mount namespace and name.
    pub fn take_questions(&mut self) -> Vec<(u32, Vec<u8>)> {
        std::mem::take(&mut self.questions)
    }

    fn judge_again(&mut self, store: &Store) -> Vec<(Event, Found)> {
        let undecided = std::mem::take(&mut self.undecided);
        let mut all = Vec::new();
        for event in undecided {
            let found = match &event.payload {
                Payload::File(file) => self.file(store, &event, file),
                Payload::Change(change) => self.change(store, &event, change),
                Payload::Fork(_)
                | Payload::Exec(_)
                | Payload::Exit(_)
                | Payload::Socket(_)
                | Payload::Observed(_)
                | Payload::ExecFailed(_)
                | Payload::Credentials(_)
                | Payload::Namespace(_)
                | Payload::Trace(_)
                | Payload::Comm(_) => None,
            };
            all.extend(found.map(|found| (event, found)));
        }
        all
    }

    fn remember_undecided(&mut self, event: &Event) {
        let oldest = event.meta.boot_ns.saturating_sub(UNDECIDED_NS);
        while self
            .undecided
            .front()
            .is_some_and(|event| event.meta.boot_ns < oldest)
            || self.undecided.len() >= UNDECIDED
        {
            self.undecided.pop_front();
        }
        self.undecided.push_back(event.clone());
        self.noted += 1;
    }

    /// Applies the rules to an event that the store has taken in.
    pub fn event(&mut self, store: &mut Store, event: &Event) -> Option<Found> {
        match &event.payload {
            Payload::Exec(exec) => self.exec(store, event, exec),
            Payload::File(file) if writes(file) => {
                self.remember_file(store, event, file);
                self.file(store, event, file)
            }
            Payload::File(file) => self.runs(store, event, file),
            Payload::Change(change) => {
                self.follow(store, event, change);
                let noted = self.noted;
                let found = self.change(store, event, change);
                if self.noted > noted {
                    let names = by_name(event);
                    let parents = names.map(|(ns, path)| (ns, path::parent(path).to_vec()));
                    self.questions.extend(parents);
                }
                found
            }
            Payload::Fork(_)
            | Payload::Exit(_)
            | Payload::Socket(_)
            | Payload::Observed(_)
            | Payload::ExecFailed(_)
            | Payload::Credentials(_)
            | Payload::Namespace(_)
            | Payload::Trace(_)
            | Payload::Comm(_) => None,
        }
    }

    /// Applies the rules to a process that was found running a program whose exec was lost.
    pub fn found(&mut self, store: &mut Store, event: &Event) -> Option<Found> {
        let Payload::Observed(exec) = &event.payload else {
            return None;
        };
        self.exec(store, event, exec)
    }

    fn remember_file(&mut self, store: &Store, event: &Event, file: &FileAccess) {
        // Those of /proc are no files that anybody could execute or serve.
        if file.path.starts_with(b"/proc/") {
            return;
        }
        if let Some(by) = subject(store, event, file.mnt_ns) {
            self.written.insert(file.file, &file.path, by);
        }
    }

    /// Keeps the names of written files, whoever changes them.
    fn follow(&mut self, store: &Store, event: &Event, change: &Change) {
        let Change { old, new, file, .. } = change;
        let is = |kinds: &[EventKind]| kinds.contains(&change.kind);
        if let (Some(file), Some(writer)) = (file, change.writer)
            && is(&[EventKind::Rename, EventKind::Link])
            && self.written.by(Some(*file), b"").is_none()
            && let Some(server) = server_of(store, writer.process, writer.tag, &|_| true)
        {
            // The kernel remembers what was written before this side knew, or was forgotten here.
            let by = By {
                writer,
                server,
                uid: user(store, writer.process),
                mnt_ns: change.mnt_ns,
                container: None,
            };
            self.written.insert(*file, old, by);
        }
        if is(&[EventKind::Rename]) {
            if is_exchange(change) {
                self.written.exchange(old, new);
            } else {
                self.written.rename(old, new);
            }
        } else if is(&[EventKind::Link]) {
            self.written.link(*file, old, new);
        } else if is(&[EventKind::Mknod])
            && let Some(file) = file
            && let Some(by) = subject(store, event, change.mnt_ns)
        {
            self.written.insert(*file, new, by);
        }
        if writing::gives_rights(change) {
            self.written.privilege(*file, new);
        }
    }

    /// Whether this process has not just been told of with this file: one call of the language's
    /// library may open it twice.
    fn is_new_write(&mut self, event: &Event, path: &[u8]) -> bool {
        let (now, subject) = (event.meta.boot_ns, event.meta.subject);
        while self
            .recent
            .front()
            .is_some_and(|(at, ..)| at.saturating_add(SAME_WRITE_NS) < now)
            || self.recent.len() > 1024
        {
            self.recent.pop_front();
        }
        if self
            .recent
            .iter()
            .any(|(_, key, known)| *key == subject && known == path)
        {
            return false;
        }
        self.recent.push_back((now, subject, path.to_vec()));
        true
    }
}

/// The subject of an event as who wrote a file, where it is of a server's lineage.
fn subject(store: &Store, event: &Event, mnt_ns: u32) -> Option<By> {
    let nearest = nearest(store, event, false, |_| true)?;
    let image = store.get(event.meta.subject).and_then(Process::image);
    Some(By {
        writer: Writer {
            process: event.meta.subject,
            boot_ns: event.meta.boot_ns,
            tag: event.meta.tag,
        },
        server: nearest.server,
        uid: event.payload.ids().map(|ids| ids.euid),
        mnt_ns,
        container: image.and_then(|image| container_id(&image.exec.cgroup)),
    })
}

/// The effective user of a process, as last told.
fn user(store: &Store, key: ProcessKey) -> Option<u32> {
    Some(store.get(key)?.ids?.euid)
}

/// Whether a file may have other content after it was used so.
fn writes(file: &FileAccess) -> bool {
    [EventKind::Open, EventKind::Write].contains(&file.kind) || file.access & access::WRITE != 0
}

/// The names that an event gave a file, where they are the caller's words: links in them were not
/// followed.
fn by_name(event: &Event) -> impl Iterator<Item = (u32, &[u8])> {
    let resolved = event.meta.flags & flag::RESOLVED != 0;
    let change = if let Payload::Change(change) = &event.payload
        && !resolved
    {
        Some(change)
    } else {
        None
    };
    change.into_iter().flat_map(|change| {
        let early = change.early.as_ref().map(|(_, new)| new);
        let exchanged = is_exchange(change).then_some(&change.old);
        let names = std::iter::once(&change.new).chain(early).chain(exchanged);
        names
            .filter(|name| !name.is_empty())
            .map(|name| (change.mnt_ns, name.as_slice()))
    })
}

/// Whether two names change places.
const fn is_exchange(rename: &Change) -> bool {
    rename.flags & RENAME_EXCHANGE != 0
}
