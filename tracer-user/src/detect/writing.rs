//! The rules on what a server's lineage writes, however it reached the kernel: by opening a file, by
//! giving one another name, by mounting one directory over another. Pure.

use tracer_common::event::{EventKind, flag};

use super::code::{Code, application, code, is_bytecode};
use super::nearest::{Nearest, nearest};
use super::written::By;
use super::{Detector, Found, is_exchange, rules};
use crate::alert::{Directory, Rule, Severity};
use crate::enrich::docroot::{Kind, Match, path};
use crate::event::{Change, Event, FileAccess, FileId};
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
    server: &'a Server,
    server_depth: Option<usize>,
    severity: Severity,
    starting: bool,
    /// It is the server itself, and no other program that it ran.
    own: bool,
    /// `nginx (web server)`, or another process and what it has to do with one.
    name: String,
    /// `, which nginx (web server) wrote,`
    wrote: String,
}

/// What an alert would say of a write.
struct Matched {
    rule: &'static Rule,
    what: &'static str,
    directory: Option<Directory>,
}

impl Detector {
    /// A file that was opened for writing, created, written to or mapped.
    pub(super) fn file(
        &mut self,
        store: &Store,
        event: &Event,
        file: &FileAccess,
    ) -> Option<Found> {
        let nearest = nearest(store, event, false, |_| true)?;
        let verb = if file.kind == EventKind::Write {
            "wrote to"
        } else if file.kind == EventKind::Map {
            "mapped for writing"
        } else if file.created {
            "created"
        } else if file.f_flags & 0o2000 != 0 {
            "opened for appending"
        } else {
            "opened for writing"
        };
        let who = Who::of(&nearest, event);
        let at = Name {
            path: &file.path,
            mnt_ns: file.mnt_ns,
            directory: file.directory,
            is_code: false,
        };
        self.write(&who, event, at, verb)
    }

    /// A file that was given a name, or rights.
    pub(super) fn change(
        &mut self,
        store: &Store,
        event: &Event,
        change: &Change,
    ) -> Option<Found> {
        let of_lineage = nearest(store, event, false, |_| true);
        // What was only tried may have left another file by the new name.
        let is_tried = event.meta.flags & flag::ATTEMPT != 0
            && [EventKind::Rename, EventKind::Link].contains(&change.kind);
        let name = if is_tried { &change.old } else { &change.new };
        let by = self.written.by(change.file, name).cloned();
        let who = match (&of_lineage, &by) {
            (Some(nearest), _) => Who::of(nearest, event),
            // Somebody else moves what a server wrote: an administrator may well mean it.
            (None, Some(by)) => Who::mover(store, event, by),
            (None, None) => return None,
        };
        let mut found = self.names(&who, event, change, &change.old, &change.new);
        if let Some((old, new)) = &change.early {
            // Either pair may be the one that the kernel took.
            let other = Change {
                directory: None,
                ..change.clone()
            };
            found = found.or_else(|| self.names(&who, event, &other, old, new));
            if let Some(found) = &mut found {
                found
                    .reason
                    .push_str(", and the names were others when the call began");
                found.severity = found.severity.max(Severity::High);
            }
        }
        if let Some(found) = &mut found
            && event.meta.flags & flag::BASE_CHANGED != 0
        {
            found
                .reason
                .push_str(", and what the name is relative to was another when the call began");
            found.severity = found.severity.max(Severity::High);
        }
        if let (Some(found), Some(by)) = (&mut found, by) {
            found.writer = found.writer.or(Some(by.writer));
        }
        found
    }

    /// Judges a change of names by these.
    fn names(
        &mut self,
        who: &Who<'_>,
        event: &Event,
        change: &Change,
        old: &[u8],
        new: &[u8],
    ) -> Option<Found> {
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
            let other = self.renamed(who, event, new, at.named(old));
            return found.or(other);
        }
        if is(EventKind::Link) {
            let verb = format!("linked {}{} as", show(old), who.wrote);
            let found = self.write(who, event, at, &verb);
            return found.or_else(|| self.leads(who, event, at));
        }
        if is(EventKind::Symlink) {
            return self.symlink(who, event, change, at);
        }
        if is(EventKind::Mknod) {
            return self.write(who, event, at, "created");
        }
        if is(EventKind::Mount) {
            return self.mount(who, event, change, at);
        }
        if is(EventKind::Chmod) && makes_executable(change) {
            return self.write(who, event, at, "made executable");
        }
        if is(EventKind::Setxattr) && gives_rights(change) {
            return self.write(who, event, at, "gave capabilities to");
        }
        None
    }

    fn renamed(&mut self, who: &Who<'_>, event: &Event, old: &[u8], at: Name<'_>) -> Option<Found> {
        // Python keeps what it compiled so, in a worker too.
        if who.own && is_bytecode(old, at.path) {
            return None;
        }
        let show = String::from_utf8_lossy;
        let verb = format!("renamed {}{} to", show(old), who.wrote);
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
                self.write(who, event, at.below(&path), &verb)
            }
            None => self.write(who, event, at, &verb),
        };
        found.or_else(|| self.leads(who, event, at))
    }

    /// A symbolic link: code by its own name or by that of what it points to; or a way to a directory,
    /// which is then served as far as it leads.
    fn symlink(
        &mut self,
        who: &Who<'_>,
        event: &Event,
        change: &Change,
        at: Name<'_>,
    ) -> Option<Found> {
        let verb = format!(
            "made a link to {}:",
            String::from_utf8_lossy(&change.detail)
        );
        self.write(who, event, at, &verb)
            .or_else(|| self.leads(who, event, at))
    }

    /// Judges a name that is a link's by where that leads.
    fn leads(&mut self, who: &Who<'_>, event: &Event, at: Name<'_>) -> Option<Found> {
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
        self.write(who, event, at.below(&name), &verb)
    }

    /// What is mounted on, in or over a watched directory takes the place of its files.
    fn mount(
        &mut self,
        who: &Who<'_>,
        event: &Event,
        change: &Change,
        at: Name<'_>,
    ) -> Option<Found> {
        // On the root directory: a sandbox of its own begins so.
        if change.number & MOUNT_SETTINGS != 0 || at.path == b"/" {
            return None;
        }
        let found = self.place(at);
        let found = found.or_else(|| self.directories.below(at.mnt_ns, at.path))?;
        let rule = match found.kind {
            Kind::Component => &rules::COMPONENT_WRITE,
            Kind::Served | Kind::Application | Kind::Cgi => &rules::CODE_WRITE,
        };
        let matched = Matched {
            rule,
            what: "other files in the place of those of a directory that servers use",
            directory: Some(directory(&found)),
        };
        let source = String::from_utf8_lossy(&change.detail);
        let verb = format!("mounted {source} on");
        self.tell(who, event, at.path, &verb, matched)
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
    fn write(&mut self, who: &Who<'_>, event: &Event, at: Name<'_>, verb: &str) -> Option<Found> {
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
        let (rule, what) = match (&found, kind) {
            (Some(found), _) if found.kind == Kind::Component => (
                &rules::COMPONENT_WRITE,
                "in a directory that servers load components from",
            ),
            (Some(found), _) if found.kind == Kind::Cgi => (
                &rules::CODE_WRITE,
                "in a directory of programs run on request",
            ),
            (_, Some(_)) if unnamed => (&rules::CODE_WRITE, "a file whose name is not known whole"),
            (Some(_), Some(_)) if of_name.is_none() && !at.is_code => (
                &rules::CODE_WRITE,
                "a name where code is served that another thread may have rewritten unseen",
            ),
            (Some(_), Some(Code::Program)) if of_application => (
                &rules::CODE_WRITE,
                "code of the application that the server runs",
            ),
            (Some(_), Some(Code::Program)) => (&rules::CODE_WRITE, "code where it is served"),
            (Some(_), Some(Code::Control)) => (
                &rules::CODE_WRITE,
                "a file that says how served files are run",
            ),
            (None, Some(_)) if cut && (of_name.is_some() || at.is_code) => (
                &rules::CODE_WRITE,
                "code under a path that is not known whole",
            ),
            (None, Some(_)) => {
                self.is_undecided = true;
                return None;
            }
            (Some(_) | None, None) => return None,
        };
        let directory = found.as_ref().map(directory);
        let matched = Matched {
            rule,
            what,
            directory,
        };
        self.tell(who, event, path, verb, matched)
    }

    fn tell(
        &mut self,
        who: &Who<'_>,
        event: &Event,
        path: &[u8],
        verb: &str,
        matched: Matched,
    ) -> Option<Found> {
        if who.starting {
            return None; // an application server unpacks what an administrator gave it
        }
        if !self.is_new_write(event, path) {
            self.suppressed += 1;
            return None;
        }
        let mut reason = format!(
            "{} {verb} {}: {}",
            who.name,
            String::from_utf8_lossy(path),
            matched.what,
        );
        if event.meta.flags & flag::URING != 0 {
            reason.push_str(", through io_uring");
        }
        if event.meta.flags & flag::ATTEMPT != 0 {
            reason.push_str("; whether that succeeded is not known");
        }
        Some(Found {
            rule: matched.rule,
            severity: who.severity,
            reason,
            server_depth: who.server_depth,
            server: who.server.clone(),
            directory: matched.directory,
            writer: event.payload.writer(),
        })
    }
}

impl<'a> Who<'a> {
    fn of(nearest: &'a Nearest<'_>, event: &Event) -> Self {
        let server = &nearest.server;
        Self {
            server,
            server_depth: nearest.server_depth(),
            severity: Severity::High,
            starting: nearest.depth == 0 && nearest.is_starting(event),
            own: nearest.depth == 0,
            name: named(server),
            wrote: String::new(),
        }
    }

    /// A process of no server's lineage, with a file that one of this server's wrote.
    fn mover(store: &Store, event: &Event, by: &'a By) -> Self {
        let process = store.get(event.meta.subject);
        let name = process
            .and_then(Process::image)
            .map(|image| String::from_utf8_lossy(path::name(&image.exec.exe)).into_owned());
        let uid = event.payload.ids().map_or(0, |ids| ids.euid);
        Self {
            server: &by.server,
            server_depth: None,
            severity: Severity::Medium,
            starting: false,
            own: false,
            name: format!(
                "{} (user {uid})",
                name.unwrap_or_else(|| "a process".to_owned())
            ),
            wrote: format!(", which {} wrote,", named(&by.server)),
        }
    }
}

fn named(server: &Server) -> String {
    format!("{} ({} server)", server.name, server.role.name())
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
