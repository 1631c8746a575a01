//! What a server's lineage writes, however it reached the kernel: by opening a file, by giving one another
//! name, by mounting one directory over another. The facts for the rules. Pure.

use tracer_common::event::{EventKind, flag};

use super::case::{Case, Doubt, Fact, FileCase};
use super::code::{Code, application, code, is_bytecode};
use super::executing::named;
use super::nearest::{Nearest, nearest};
use super::sigma::Category;
use super::written::By;
use super::{Detector, Found, is_exchange};
use crate::alert::Directory;
use crate::enrich::docroot::{Kind, Match, path};
use crate::event::{Change, Event, FileAccess, FileId, Payload};
use crate::lineage::Store;
use crate::lineage::process::{Process, Server};

/// The attribute that holds a file's capabilities (capabilities(7)).
const CAPABILITY: &[u8] = b"security.capability";

/// Execution by anybody, and set-user-id and set-group-id.
const EXECUTE: u16 = 0o111;
const SET_ID: u16 = 0o6000;

/// Flags of mount(2) that bring no other files: `MS_REMOUNT`, `MS_UNBINDABLE`, `MS_PRIVATE`,
/// `MS_SLAVE`, `MS_SHARED` (include/uapi/linux/mount.h).
const MOUNT_SETTINGS: u64 = 32 | 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20;

/// A name as it is judged.
#[derive(Clone, Copy)]
struct Name<'a> {
    path: &'a [u8],
    mnt_ns: u32,
    /// The nearest watched directory that the kernel found it in.
    directory: Option<FileId>,
    /// It is code, whatever this path is: that may be cut short.
    is_code: bool,
}

impl<'a> Name<'a> {
    /// Code that is below it.
    const fn below(self, path: &'a [u8]) -> Self {
        Self {
            path,
            is_code: true,
            ..self
        }
    }

    /// The other of two names: of that the kernel did not tell the directory.
    const fn named(self, path: &'a [u8]) -> Self {
        Self {
            path,
            directory: None,
            ..self
        }
    }
}

/// Who an alert on a write is about.
struct Who<'a> {
    /// The nearest server, or that of who wrote the file.
    server: Option<&'a Server>,
    /// The former.
    nearest: Option<&'a Nearest<'a>>,
    /// It is the server itself, and no other program that it ran.
    own: bool,
    /// `nginx (web server)`, or another process and what it has to do with one.
    name: String,
    /// `, which nginx (web server) wrote,`
    wrote: String,
}

/// A name as it was judged.
struct Seen {
    file: FileCase,
    /// `created`, `renamed /tmp/a to` …
    verb: String,
    /// What the file is to a server; empty where it is nothing.
    what: &'static str,
}

impl Seen {
    /// The other, where this one is nothing to a server and the other is.
    fn or(self, other: impl FnOnce() -> Self) -> Self {
        if !self.what.is_empty() {
            return self;
        }
        let other = other();
        if other.what.is_empty() { self } else { other }
    }
}

impl Detector {
    /// A file that was opened for writing, created, written to or mapped.
    pub(super) fn file(&mut self, store: &Store, event: &Event, file: &FileAccess) -> Vec<Found> {
        let nearest = nearest(store, event, false, |_| true);
        let (action, verb) = if file.kind == EventKind::Write {
            ("written", "wrote to")
        } else if file.kind == EventKind::Map {
            ("mapped", "mapped for writing")
        } else if file.created {
            ("created", "created")
        } else if file.f_flags & 0o2000 != 0 {
            ("appended", "opened for appending")
        } else {
            ("opened", "opened for writing")
        };
        let who = Who::of(store, event, nearest.as_ref(), None);
        let at = Name {
            path: &file.path,
            mnt_ns: file.mnt_ns,
            directory: file.directory,
            is_code: false,
        };
        let seen = self.write(&who, event, at, action, verb);
        let mut categories = vec![Category::FileEvent];
        categories.extend((!file.created).then_some(Category::FileChange));
        self.tell(store, event, &who, seen, &categories)
    }

    /// A file that was given a name, or rights.
    pub(super) fn change(&mut self, store: &Store, event: &Event, change: &Change) -> Vec<Found> {
        let of_lineage = nearest(store, event, false, |_| true);
        // What was only tried may have left another file by the new name.
        let is_tried = event.meta.flags & flag::ATTEMPT != 0
            && [EventKind::Rename, EventKind::Link].contains(&change.kind);
        let name = if is_tried { &change.old } else { &change.new };
        let by = self.written.by(change.file, name).cloned();
        // Somebody else moves what a server wrote: an administrator may well mean it.
        let mover = by.as_ref().filter(|_| of_lineage.is_none());
        let who = Who::of(store, event, of_lineage.as_ref(), mover);
        let mut seen = self.names(&who, event, change, &change.old, &change.new);
        let mut raced = "";
        if let Some((old, new)) = &change.early {
            // Either pair may be the one that the kernel took.
            let other = Change {
                directory: None,
                ..change.clone()
            };
            seen = seen.or(|| self.names(&who, event, &other, old, new));
            raced = ", and the names were others when the call began";
        }
        if event.meta.flags & flag::BASE_CHANGED != 0 {
            raced = ", and what the name is relative to was another when the call began";
        }
        let categories = categories(change);
        let mut all = self.tell(store, event, &who, seen, &categories);
        for found in &mut all {
            found.reason.push_str(raced);
            found.writer = found.writer.or(by.as_ref().map(|by| by.writer));
        }
        all
    }

    /// Judges a change of names by these.
    fn names(
        &mut self,
        who: &Who<'_>,
        event: &Event,
        change: &Change,
        old: &[u8],
        new: &[u8],
    ) -> Seen {
        let is = |kind| change.kind == kind;
        let at = Name {
            path: new,
            mnt_ns: change.mnt_ns,
            directory: change.directory,
            is_code: false,
        };
        let show = String::from_utf8_lossy;
        if is(EventKind::Rename) {
            let found = self.renamed(who, event, old, at);
            if !is_exchange(change) {
                return found;
            }
            return found.or(|| self.renamed(who, event, new, at.named(old)));
        }
        if is(EventKind::Link) {
            let verb = format!("linked {}{} as", show(old), who.wrote);
            let found = self.write(who, event, at, "linked", &verb);
            return found.or(|| self.leads(who, event, at));
        }
        if is(EventKind::Symlink) {
            return self.symlink(who, event, change, at);
        }
        if is(EventKind::Mknod) {
            return self.write(who, event, at, "created", "created");
        }
        if is(EventKind::Mount) {
            return self.mount(change, at);
        }
        if is(EventKind::Chmod) && makes_executable(change) {
            return self.write(who, event, at, "executable", "made executable");
        }
        if is(EventKind::Setxattr) && gives_rights(change) {
            return self.write(who, event, at, "capabilities", "gave capabilities to");
        }
        Self::nothing(at.path, "other", "changed")
    }

    /// A name that is nothing to a server.
    fn nothing(path: &[u8], action: &'static str, verb: &str) -> Seen {
        Seen {
            file: FileCase {
                path: path.to_vec(),
                action,
                ..FileCase::default()
            },
            verb: verb.to_owned(),
            what: "",
        }
    }

    fn renamed(&mut self, who: &Who<'_>, event: &Event, old: &[u8], at: Name<'_>) -> Seen {
        let show = String::from_utf8_lossy;
        let verb = format!("renamed {}{} to", show(old), who.wrote);
        // Python keeps what it compiled so, in a worker too.
        if who.own && is_bytecode(old, at.path) {
            return Self::nothing(at.path, "renamed", &verb);
        }
        // A directory brings what was written in it. Where that was only tried, not all of it has the new
        // name by now.
        let inside = match code(at.path) {
            Some(_) => None,
            None => self.written.code_below(at.path).or_else(|| {
                let rest = self.written.code_below(old)?.split_off(old.len());
                Some([at.path, &rest].concat())
            }),
        };
        let found = match inside {
            Some(path) => {
                let verb = format!("{verb} {} and with it", show(at.path));
                self.write(who, event, at.below(&path), "renamed", &verb)
            }
            None => self.write(who, event, at, "renamed", &verb),
        };
        found.or(|| self.leads(who, event, at))
    }

    /// A symbolic link: code by its own name or by that of what it points to; or a way to a directory,
    /// which is then served as far as it leads.
    fn symlink(&mut self, who: &Who<'_>, event: &Event, change: &Change, at: Name<'_>) -> Seen {
        let verb = format!(
            "made a link to {}:",
            String::from_utf8_lossy(&change.detail)
        );
        self.write(who, event, at, "symlinked", &verb)
            .or(|| self.leads(who, event, at))
    }

    /// Judges a name that is a link's by where that leads.
    fn leads(&mut self, who: &Who<'_>, event: &Event, at: Name<'_>) -> Seen {
        let led = self.led(who, event, at);
        led.unwrap_or_else(|| Self::nothing(at.path, "symlinked", "made"))
    }

    fn led(&mut self, who: &Who<'_>, event: &Event, at: Name<'_>) -> Option<Seen> {
        let target = self.aliases.target(at.path)?.to_vec();
        let rest = match code(&target) {
            // The name of what it points to says what it is.
            Some(_) => [b"/", path::name(&target)].concat(),
            None => {
                let dir = target.strip_suffix(b"/").unwrap_or(&target);
                self.written.code_below(&target)?.split_off(dir.len())
            }
        };
        self.place(at)?;
        let name = [at.path, &rest].concat();
        let verb = format!(
            "made a link to {} and with it",
            String::from_utf8_lossy(&target)
        );
        Some(self.write(who, event, at.below(&name), "symlinked", &verb))
    }

    /// What is mounted on, in or over a watched directory takes the place of its files.
    fn mount(&self, change: &Change, at: Name<'_>) -> Seen {
        let source = String::from_utf8_lossy(&change.detail);
        let mut seen = Self::nothing(at.path, "mounted", &format!("mounted {source} on"));
        // On the root directory: a sandbox of its own begins so.
        if change.number & MOUNT_SETTINGS != 0 || at.path == b"/" {
            return seen;
        }
        let found = self.place(at);
        let found = found.or_else(|| self.directories.below(at.mnt_ns, at.path));
        if let Some(found) = &found {
            seen.what = "other files in the place of those of a directory that servers use";
            seen.file.directory = Some(directory(found));
        }
        seen
    }

    /// The watched directory that a name is in: by the identity that the kernel found, else by the
    /// path, else by where a link leads.
    fn place(&self, at: Name<'_>) -> Option<Match<'_>> {
        let lookup = |path: &[u8]| self.directories.lookup(at.mnt_ns, path);
        let by_path = lookup(at.path);
        let by_file = at.directory.and_then(|file| self.directories.by_file(file));
        match (by_file, by_path) {
            // Of two in one tree the inner one decides; else the path says less than the kernel.
            (Some(file), Some(path)) if path.path.starts_with(file.path) || file.weakens(&path) => {
                Some(path)
            }
            (None, Some(path)) => Some(path),
            (Some(file), _) => Some(file),
            (None, None) => self.aliases.find(at.path, |path, file| {
                let by_file = file.and_then(|file| self.directories.by_file(file));
                lookup(path).or(by_file)
            }),
        }
    }

    /// Judges a name that a file has from now on.
    fn write(
        &mut self,
        who: &Who<'_>,
        event: &Event,
        at: Name<'_>,
        action: &'static str,
        verb: &str,
    ) -> Seen {
        let path = at.path;
        // A path cut at its front may be anywhere: a deep directory must not hide a web shell. Nor
        // must a name that is cut at its end, or that could not be read.
        let cut = event.meta.flags & flag::PATH_TRUNCATED != 0;
        let unnamed = cut && event.meta.flags & flag::STRING_TRUNCATED != 0;
        // One that was not seen when the call began may have been any other.
        let doubtful = event.meta.flags & flag::UNVERIFIED != 0;
        let found = self.place(at);
        let of_application = found.is_some_and(|found| found.kind == Kind::Application);
        let of_name = if of_application {
            application(path)
        } else {
            code(path)
        };
        let kind = of_name.or((unnamed || doubtful || at.is_code).then_some(Code::Program));
        let (doubt, what) = match (&found, kind) {
            (Some(found), _) if found.kind == Kind::Component => {
                (None, "in a directory that servers load components from")
            }
            (Some(found), _) if found.kind == Kind::Cgi => {
                (None, "in a directory of programs run on request")
            }
            (_, Some(_)) if unnamed => (Some(Doubt::Path), "a file whose name is not known whole"),
            (Some(_), Some(_)) if of_name.is_none() && !at.is_code => (
                Some(Doubt::Name),
                "a name where code is served that another thread may have rewritten unseen",
            ),
            (Some(_), Some(Code::Program)) if of_application => {
                (None, "code of the application that the server runs")
            }
            (Some(_), Some(Code::Program)) => (None, "code where it is served"),
            (Some(_), Some(Code::Control)) => (None, "a file that says how served files are run"),
            (None, Some(_)) if cut && (of_name.is_some() || at.is_code) => (
                Some(Doubt::Path),
                "code under a path that is not known whole",
            ),
            (Some(_) | None, None) | (None, Some(_)) => (None, ""),
        };
        let is_undecided = found.is_none() && kind.is_some() && what.is_empty();
        let directory = found.as_ref().map(directory);
        self.is_undecided |= is_undecided && who.server.is_some();
        Seen {
            file: FileCase {
                path: path.to_vec(),
                action,
                directory,
                code: kind.map(Code::name),
                doubt,
            },
            verb: verb.to_owned(),
            what,
        }
    }

    /// Applies the rules of these categories.
    fn tell(
        &mut self,
        store: &Store,
        event: &Event,
        who: &Who<'_>,
        seen: Seen,
        categories: &[Category],
    ) -> Vec<Found> {
        let Seen { file, verb, what } = seen;
        let directory = file.directory.clone();
        let path = file.path.clone();
        let mut case = Case::new(Category::FileEvent, store, event);
        if let Some(nearest) = who.nearest {
            case.near(nearest, event);
            // What a server unpacks while it starts an administrator gave it.
            case.is_starting &= nearest.depth == 0;
        }
        case.server = who.server;
        case.facts.set(
            Fact::OfSystem,
            file.directory.is_none() && file.doubt.is_none(),
        );
        case.file = Some(file);
        let changed = matches!(&event.payload, Payload::Change(change) if change.early.is_some())
            || event.meta.flags & flag::BASE_CHANGED != 0;
        case.facts.set(Fact::NamesChanged, changed);
        let is_mover = who.nearest.is_none() && who.server.is_some();
        case.facts.set(Fact::Outside, is_mover);
        case.facts.set(Fact::Moved, is_mover);
        let reason = || {
            let mut reason = format!("{} {verb} {}", who.name, String::from_utf8_lossy(&path));
            if !what.is_empty() {
                reason.push_str(": ");
                reason.push_str(what);
            }
            if event.meta.flags & flag::URING != 0 {
                reason.push_str(", through io_uring");
            }
            if event.meta.flags & flag::ATTEMPT != 0 {
                reason.push_str("; whether that succeeded is not known");
            }
            reason
        };
        let mut matched = Vec::new();
        for category in categories {
            case.category = *category;
            matched.extend(self.matches(&case, event.payload.writer(), reason));
        }
        let mut matched = self.excuse(&case, matched);
        if matched.is_empty() {
            return Vec::new();
        }
        if !self.is_new_write(event, &path) {
            self.suppressed += matched.len() as u64;
            return Vec::new();
        }
        for matched in &mut matched {
            matched.told = Some(self.why(&case));
        }
        let server_depth = who.nearest.and_then(Nearest::server_depth);
        let found = matched.into_iter().map(|matched| Found {
            rule: matched.rule,
            severity: matched.severity,
            reason: matched.reason,
            server_depth,
            server: who.server.cloned(),
            directory: directory.clone(),
            writer: matched.writer,
            perhaps: matched.perhaps,
            told: matched.told,
        });
        found.collect()
    }
}

impl<'a> Who<'a> {
    /// The subject, by its nearest server; without one by that whose file it moves.
    fn of(
        store: &Store,
        event: &Event,
        nearest: Option<&'a Nearest<'a>>,
        by: Option<&'a By>,
    ) -> Self {
        if let Some(nearest) = nearest {
            return Self {
                server: Some(&nearest.server),
                nearest: Some(nearest),
                own: nearest.depth == 0,
                name: named(&nearest.server),
                wrote: String::new(),
            };
        }
        let process = store.get(event.meta.subject);
        let name = process
            .and_then(Process::image)
            .map(|image| String::from_utf8_lossy(path::name(&image.exec.exe)).into_owned());
        let uid = event.payload.ids().map_or(0, |ids| ids.euid);
        let wrote = by.map(|by| format!(", which {} wrote,", named(&by.server)));
        Self {
            server: by.map(|by| &by.server),
            nearest: None,
            own: false,
            name: format!(
                "{} (user {uid})",
                name.unwrap_or_else(|| "a process".to_owned())
            ),
            wrote: wrote.unwrap_or_default(),
        }
    }
}

/// What a change is to rules. Rights that make a file a program, or a stronger one, are content to them.
fn categories(change: &Change) -> Vec<Category> {
    let is = |kinds: &[EventKind]| kinds.contains(&change.kind);
    let gives = makes_executable(change) || gives_rights(change);
    if is(&[EventKind::Rename]) {
        vec![Category::FileEvent, Category::FileRename]
    } else if is(&[EventKind::Unlink]) {
        vec![Category::FileDelete]
    } else if is(&[
        EventKind::Link,
        EventKind::Symlink,
        EventKind::Mknod,
        EventKind::Mount,
    ]) {
        vec![Category::FileEvent]
    } else if is(&[EventKind::Chmod, EventKind::Setxattr]) && gives {
        vec![Category::FileEvent, Category::FileChange]
    } else if is(&[
        EventKind::Chmod,
        EventKind::Chown,
        EventKind::Setxattr,
        EventKind::Truncate,
    ]) {
        vec![Category::FileChange]
    } else {
        Vec::new()
    }
}

fn directory(found: &Match<'_>) -> Directory {
    Directory {
        path: found.path.to_vec(),
        kind: found.kind.name(),
        source: found.source.to_owned(),
    }
}

/// Whether a change of mode lets a file be executed that could not be.
fn makes_executable(change: &Change) -> bool {
    change.new_mode & EXECUTE != 0 && change.mode & EXECUTE == 0
}

/// Whether a file runs with more rights than who runs it from now on.
pub(super) fn gives_rights(change: &Change) -> bool {
    (change.kind == EventKind::Setxattr && change.detail == CAPABILITY)
        || (change.kind == EventKind::Chmod && change.new_mode & SET_ID != 0)
}
