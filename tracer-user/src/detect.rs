//! The rules: when what a server's lineage does is an alert. Pure.
//!
//! A rule looks at facts of the event and of the lineage only. Exceptions bind to a *shape* (these
//! exact arguments, this start-up phase, this kind of directory), never to a server as such, so that
//! an attacker gains nothing by being inside the excepted server.

mod aliases;
pub mod case;
pub mod code;
pub mod exception;
mod excused;
mod executing;
mod expected;
pub(crate) mod incident;
mod nearest;
mod reaching;
mod recall;
pub mod roles;
pub mod severity;
mod shells;
pub mod sigma;
mod undecided;
mod writing;
mod written;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use tracer_common::event::{EventKind, access, flag};

use self::aliases::{Aliases, Link};
use self::exception::{Exception, ExceptionSet, Exceptions};
pub use self::excused::Told;
use self::nearest::{nearest, server_of};
pub(crate) use self::recall::Kept;
use self::shells::Shells;
use self::sigma::profile::Profile;
use self::sigma::{Category, RuleSet};
use self::undecided::Undecided;
pub use self::undecided::{Asked, Dropped, QUESTIONS};
use self::written::{By, Changed, Written};
use crate::alert::{Directory, Severity};
use crate::enrich::docroot::{Added, Directories, Entry, path};
use crate::event::{Change, Event, FileAccess, FileId, Payload, ProcessKey, Writer};
use crate::lineage::Store;
use crate::lineage::process::Server;
use crate::rule::Rule;
use crate::source::Resolved;

/// How long a server's own start-up may take before it listens, nanoseconds.
const START_UP_NS: u64 = 60_000_000_000;

/// Two alerts on the same file by the same process within this time are one, nanoseconds.
const SAME_WRITE_NS: u64 = 1_000_000_000;

/// How soon a child that a starting server makes runs a program, nanoseconds.
const CHILD_EXEC_NS: u64 = 1_000_000_000;

/// Processes noted that have another root directory. With more of them every process of a server's
/// lineage is taken for one.
const ROOTED: usize = 1024;

/// `RENAME_EXCHANGE`, include/uapi/linux/fs.h
const RENAME_EXCHANGE: u32 = 1 << 1;

/// A rule that matched, before it is known whether that is an alert of its own.
struct Matched {
    rule: Arc<Rule>,
    severity: Severity,
    reason: String,
    writer: Option<Writer>,
    perhaps: Vec<Arc<Exception>>,
    told: Option<Box<Told>>,
}

/// A rule that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The rule.
    pub rule: Arc<Rule>,
    /// How bad, by the facts.
    pub severity: Severity,
    /// One sentence.
    pub reason: String,
    /// Place of the nearest server in the chain, zero being the subject; `None` where the server is
    /// the writer's.
    pub server_depth: Option<usize>,
    /// That server, or the writer's.
    pub server: Option<Server>,
    /// The directory, for a file.
    pub directory: Option<Directory>,
    /// Who of a server's lineage wrote the file before.
    pub writer: Option<Writer>,
    /// It is no alert, if what is asked for is as one of these exceptions says.
    pub perhaps: Vec<Arc<Exception>>,
    /// What the rule saw, for who asks why.
    pub told: Option<Box<Told>>,
}

/// The rules, and their memory.
pub struct Detector {
    rules: Arc<RuleSet>,
    /// Where what each rule costs is counted.
    profile: Option<Arc<Profile>>,
    directories: Directories,
    undecided: Undecided,
    /// The event that is being judged is code in no directory known so far.
    is_undecided: bool,
    written: Written,
    shells: Shells,
    aliases: Aliases,
    /// Who has another root directory, and so have those that it made.
    rooted: HashSet<ProcessKey>,
    recent: VecDeque<(u64, ProcessKey, Vec<u8>)>,
    suppressed: u64,
    exceptions: Exceptions,
    /// Whether exceptions ignore the event that is being judged; `None` where no rule matched.
    is_ignored: Option<bool>,
}

impl Detector {
    /// Rules that remember nothing yet. What servers wrote may take `written_bytes`.
    #[must_use]
    pub fn new(written_bytes: usize) -> Self {
        Self {
            rules: RuleSet::pack(),
            profile: None,
            directories: Directories::default(),
            undecided: Undecided::default(),
            is_undecided: false,
            written: Written::new(written_bytes),
            shells: Shells::default(),
            aliases: Aliases::default(),
            rooted: HashSet::new(),
            recent: VecDeque::new(),
            suppressed: 0,
            exceptions: Exceptions::default(),
            is_ignored: None,
        }
    }

    /// Judges by these rules from now on.
    pub fn set_rules(&mut self, rules: Arc<RuleSet>) {
        self.rules = rules;
    }

    /// Counts what each rule costs from now on.
    pub fn set_profile(&mut self, profile: Arc<Profile>) {
        self.profile = Some(profile);
    }

    /// The rules in use.
    #[must_use]
    pub const fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// The exceptions in use.
    #[must_use]
    pub const fn exceptions(&self) -> &Exceptions {
        &self.exceptions
    }

    /// They, to count or to set their clock.
    pub const fn exceptions_mut(&mut self) -> &mut Exceptions {
        &mut self.exceptions
    }

    /// Takes other exceptions.
    pub fn set_exceptions(&mut self, set: Arc<ExceptionSet>) {
        self.exceptions.replace(set);
    }

    /// Whether the latest event is to be told of to nobody.
    #[must_use]
    pub fn ignores(&self) -> bool {
        self.is_ignored == Some(true)
    }

    /// Matches that were no alert of their own, because they were part of one already raised.
    #[must_use]
    pub const fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Written files, or names of them, that were forgotten because there were too many.
    #[must_use]
    pub const fn written_forgotten(&self) -> u64 {
        self.written.forgotten()
    }

    /// The same of links that servers made.
    #[must_use]
    pub const fn links_forgotten(&self) -> u64 {
        self.aliases.forgotten()
    }

    /// What server lineages wrote, as far as it is remembered, the latest first: who, and the path.
    pub fn written(&self) -> impl Iterator<Item = (Writer, Vec<u8>)> {
        self.written.all().map(|(by, path)| (by.writer, path))
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
        let about = self.undecided.answered((mnt_ns, directory.clone()));
        let leads = !real.is_empty() && real != directory;
        if leads {
            self.aliases.lend(directory, real);
        }
        let mut all = Vec::new();
        for (number, event) in about {
            let found = self.look(store, &event);
            self.undecided.settle(number, !found.is_empty());
            all.extend(found.into_iter().map(|found| (event.clone(), found)));
        }
        if leads {
            self.aliases.forget();
        }
        all
    }

    /// Directories whose real place would decide, and whose turn it is to be asked about. Each is to be
    /// answered by [`Self::resolved`].
    pub fn take_questions(&mut self) -> Vec<Asked> {
        self.undecided.take_questions()
    }

    /// What found no room to be judged again, since last asked.
    pub const fn take_dropped(&mut self) -> Dropped {
        self.undecided.take_dropped()
    }

    fn judge_again(&mut self, store: &Store) -> Vec<(Event, Found)> {
        let mut all = Vec::new();
        for event in self.undecided.take_kept() {
            let found = self.look(store, &event);
            if found.is_empty() && self.is_undecided {
                self.undecided.keep(event);
            } else {
                all.extend(found.into_iter().map(|found| (event.clone(), found)));
            }
        }
        all
    }

    /// Judges what gave a file its content or its name, and keeps it where more may become known.
    fn judge(&mut self, store: &Store, event: &Event) -> Vec<Found> {
        let found = self.look(store, event);
        if found.is_empty() && self.is_undecided {
            let names = by_name(event).map(|(ns, name)| (ns, path::parent(name).to_vec()));
            let questions = names.collect();
            self.undecided.insert(event.clone(), questions);
        }
        found
    }

    fn look(&mut self, store: &Store, event: &Event) -> Vec<Found> {
        self.is_undecided = false;
        match &event.payload {
            Payload::File(file) => self.file(store, event, file),
            Payload::Change(change) => self.change(store, event, change),
            Payload::Fork(_)
            | Payload::Exec(_)
            | Payload::Exit(_)
            | Payload::Socket(_)
            | Payload::Observed(_)
            | Payload::ExecFailed(_)
            | Payload::Credentials(_)
            | Payload::Namespace(_)
            | Payload::Trace(_)
            | Payload::Comm(_) => Vec::new(),
        }
    }

    /// Applies the rules to an event that the store has taken in.
    pub fn event(&mut self, store: &mut Store, event: &Event) -> Vec<Found> {
        self.is_ignored = None;
        match &event.payload {
            Payload::Exec(exec) => {
                self.shells.learn(exec);
                self.exec(store, event, exec)
            }
            Payload::File(file) if writes(file) => {
                self.remember_file(store, event, file);
                self.judge(store, event)
            }
            Payload::File(file) => self.runs(store, event, file),
            Payload::Change(change) => {
                self.follow(store, event, change);
                self.judge(store, event)
            }
            Payload::Observed(exec) => {
                self.shells.learn(exec);
                Vec::new()
            }
            Payload::Namespace(change) => {
                if change.root != b"/" && self.rooted.len() < ROOTED {
                    self.rooted.insert(event.meta.subject);
                }
                Vec::new()
            }
            Payload::Socket(socket) => self.connects(store, event, socket),
            Payload::Trace(_) => self.reaches(store, event, Category::ProcessAccess),
            Payload::Credentials(_) => self.reaches(store, event, Category::PrivilegeChange),
            Payload::Fork(_) | Payload::Exit(_) | Payload::ExecFailed(_) | Payload::Comm(_) => {
                Vec::new()
            }
        }
    }

    /// Applies the rules to a process that was found running a program whose exec was lost.
    pub fn found(&mut self, store: &mut Store, event: &Event) -> Vec<Found> {
        let Payload::Observed(exec) = &event.payload else {
            return Vec::new();
        };
        self.is_ignored = None;
        self.shells.learn(exec);
        self.exec(store, event, exec)
    }

    fn remember_file(&mut self, store: &Store, event: &Event, file: &FileAccess) {
        // Those of /proc are no files that anybody could execute or serve.
        if file.path.starts_with(b"/proc/") {
            return;
        }
        if let Some(by) = subject(store, event, file.mnt_ns) {
            let known = Some(file.file).filter(|file| *file != FileId::default());
            let generation = known.map(|_| file.generation);
            self.written.insert(known, generation, &file.path, by);
        }
    }

    /// Keeps the names of written files and of links, whoever changes them.
    fn follow(&mut self, store: &Store, event: &Event, change: &Change) {
        let Change { new, file, .. } = change;
        if writing::gives_rights(change) {
            self.written.privilege(*file, new);
        }
        if ![
            EventKind::Rename,
            EventKind::Link,
            EventKind::Symlink,
            EventKind::Unlink,
            EventKind::Mknod,
        ]
        .contains(&change.kind)
        {
            return;
        }
        self.remember_writer(store, change);
        let maker = subject(store, event, change.mnt_ns);
        let container = match &maker {
            Some(_) => None,
            None => store.place_of(event.meta.subject),
        };
        // A server's lineage may have made itself a place where names mean other files.
        let same = |by: &By, path: &[u8]| match &maker {
            Some(_) => by.is_in(change.mnt_ns),
            None => by.is_same_path(change.mnt_ns, container, path),
        };
        let is_tried = event.meta.flags & flag::ATTEMPT != 0;
        let is_resolved = event.meta.flags & flag::RESOLVED != 0;
        let is_rooted = maker.is_some() && !is_resolved && self.is_rooted(store, event);
        let changed = Changed {
            file: *file,
            perhaps: is_tried || change.early.is_some() || is_rooted,
            same: &same,
        };
        // Either pair of names may be the one that the kernel took.
        let early = change.early.as_ref().map(|(old, new)| (old, new));
        for (old, new) in [(&change.old, new)].into_iter().chain(early) {
            self.follow_names(change, (old, new), &changed, maker.as_ref());
        }
    }

    /// Whether absolute names may mean other files to the subject than they say.
    fn is_rooted(&self, store: &Store, event: &Event) -> bool {
        self.rooted.len() >= ROOTED
            || (!self.rooted.is_empty()
                && store
                    .chain(event.meta.subject)
                    .any(|process| self.rooted.contains(&process.key)))
    }

    /// Notes what the kernel remembers to be written: before this side knew, or forgotten here.
    fn remember_writer(&mut self, store: &Store, change: &Change) {
        if let (Some(file), Some(writer)) = (change.file, change.writer)
            && [EventKind::Rename, EventKind::Link].contains(&change.kind)
            && !self.written.knows(file)
            && let Some(server) = server_of(store, writer.process, writer.tag, &|_| true)
        {
            let by = By {
                writer,
                server,
                uid: user(store, writer.process),
                mnt_ns: change.mnt_ns,
                container: None,
            };
            self.written.insert(Some(file), None, &change.old, by);
        }
    }

    fn follow_names(
        &mut self,
        change: &Change,
        (old, new): (&[u8], &[u8]),
        changed: &Changed<'_>,
        maker: Option<&By>,
    ) {
        let Change {
            file, directory, ..
        } = change;
        let directories = &self.directories;
        let matters = |path: &[u8], file: Option<FileId>| {
            let by_file = file.and_then(|file| directories.by_file(file));
            by_file.is_some() || directories.lookup(change.mnt_ns, path).is_some()
        };
        let (written, aliases) = (&mut self.written, &mut self.aliases);
        let is = |kind| change.kind == kind;
        if is(EventKind::Rename) && is_exchange(change) {
            written.exchange(old, new, changed);
            aliases.exchange((old, new), *directory, changed, &matters);
        } else if is(EventKind::Rename) {
            written.rename(old, new, changed);
            aliases.rename(old, new, *directory, changed, &matters);
        } else if is(EventKind::Link) {
            written.link(old, new, changed);
            aliases.link(old, new, *directory, &matters);
        } else if is(EventKind::Unlink) {
            written.unlink(new, changed);
            aliases.unlink(new, changed);
        } else if is(EventKind::Symlink) {
            written.unlink(new, changed);
            let link = maker.and_then(|by| Link::new(new, &change.detail, *directory, by.clone()));
            if let Some(link) = link {
                aliases.insert(link, changed, &matters);
            }
        } else if is(EventKind::Mknod)
            && let (Some(file), Some(by)) = (file, maker)
        {
            written.insert(Some(*file), None, new, by.clone());
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
    Some(By {
        writer: Writer {
            process: event.meta.subject,
            boot_ns: event.meta.boot_ns,
            tag: event.meta.tag,
        },
        server: nearest.server,
        uid: event.payload.ids().map(|ids| ids.euid),
        mnt_ns,
        container: store.place_of(event.meta.subject).cloned(),
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
