//! The rules: when what a server's lineage does is an alert. Pure.
//!
//! A rule looks at facts of the event and of the lineage only. Exceptions bind to a *shape* (these
//! exact arguments, this start-up phase, this kind of directory), never to a server as such, so that
//! an attacker gains nothing by being inside the excepted server.

pub mod code;
mod expected;
pub mod roles;
pub mod rules;
mod written;

use std::collections::VecDeque;

use tracer_common::event::{EventKind, flag};
use tracer_common::tag::Role;

use self::code::{Code, code};
use self::expected::{absolute, is_own_program, is_sendmail, is_written};
use self::roles::Program;
use self::written::Written;
use crate::alert::{Directory, Rule, Severity};
use crate::enrich::docroot::{Added, Directories, Entry, Kind};
use crate::event::{
    Change, Event, Exec, FileAccess, FileId, Payload, ProcessKey, is_inet, is_listening,
};
use crate::lineage::Store;
use crate::lineage::process::{Image, Process, Server};

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
    /// Place of the nearest server in the chain, zero being the subject.
    pub server_depth: usize,
    /// That server.
    pub server: Server,
    /// The directory, for a file.
    pub directory: Option<Directory>,
}

/// The rules' memory.
#[derive(Default)]
pub struct Detector {
    directories: Directories,
    /// Writes of code outside every directory known so far, in case one becomes known.
    undecided: VecDeque<Event>,
    written: Written,
    recent: VecDeque<(u64, ProcessKey, Vec<u8>)>,
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

    fn judge_again(&mut self, store: &Store) -> Vec<(Event, Found)> {
        let undecided = std::mem::take(&mut self.undecided);
        let mut all = Vec::new();
        for event in undecided {
            let found = match &event.payload {
                Payload::File(open) => self.open(store, &event, open),
                Payload::Change(rename) => self.rename(store, &event, rename),
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
    }

    /// Applies the rules to an event that the store has taken in.
    pub fn event(&mut self, store: &mut Store, event: &Event) -> Option<Found> {
        match &event.payload {
            Payload::Exec(exec) => self.exec(store, event, exec),
            Payload::File(open) if open.kind == EventKind::Open => {
                if nearest(store, event, false, |_| true).is_some() {
                    self.written.insert(open.file, &open.path);
                }
                self.open(store, event, open)
            }
            Payload::Change(rename) if rename.kind == EventKind::Rename => {
                if nearest(store, event, false, |_| true).is_some() {
                    let Change { old, new, .. } = &**rename;
                    if is_exchange(rename) {
                        self.written.exchange(old, new);
                    } else {
                        self.written.rename(old, new);
                    }
                }
                self.rename(store, event, rename)
            }
            Payload::Fork(_)
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
        }
    }

    fn exec(&mut self, store: &mut Store, event: &Event, exec: &Exec) -> Option<Found> {
        let subject = event.meta.subject;
        let written = is_written(&self.written, exec);
        let nameless = exec.nlink == 0;
        if !written && !nameless && roles::is_native(exec) {
            return None; // a server starts a server: php-fpm reloading, Apache running php-cgi
        }
        // Mail servers run commands to deliver, by design; but not every server may call one.
        let nearest = nearest(store, event, true, |role| role != Role::Mail)?;
        let program = roles::program(exec);
        let dropped = written || (nameless && program.is_none());
        if program.is_none() && !dropped {
            return None;
        }
        if !written && !nameless && self.is_expected(&nearest, event, exec, program) {
            return None;
        }
        let (rule, mut severity) = match program {
            _ if dropped => (&rules::DROPPED_EXEC, Severity::High),
            _ if nearest.server.role == Role::Database => (&rules::DATABASE_SHELL, Severity::High),
            _ => (&rules::SHELL, Severity::High),
        };
        let remote = exec.stdio.iter().find(|fd| is_inet(fd));
        if remote.is_some() || nameless {
            severity = Severity::Critical;
        }
        // What an alerted program starts is the same attack, unless it is worse or of another kind.
        let told = store
            .chain(subject)
            .take(nearest.depth + 1)
            .flat_map(|process| &process.alerted)
            .any(|(known, told)| *known == rule.id && *told >= severity);
        if told {
            self.suppressed += 1;
            return None;
        }
        let what = match program {
            _ if written => "a program that it wrote",
            _ if dropped => "a program",
            Some(Program::Shell) => "a shell",
            Some(Program::Interpreter) | None => "an interpreter",
        };
        let mut reason = format!(
            "{} ({} server) executed {what}: {}",
            nearest.server.name,
            nearest.server.role.name(),
            String::from_utf8_lossy(&exec.exe),
        );
        if remote.is_some() {
            reason.push_str(", its input or output is a network connection");
        }
        if nameless {
            reason.push_str(", from a file that has no name");
        }
        let found = Found {
            rule,
            severity,
            reason,
            server_depth: nearest.depth,
            server: nearest.server,
            directory: None,
        };
        // Noted where the attack begins: at the child that the server made for it.
        let begin = store
            .chain(subject)
            .nth(found.server_depth.saturating_sub(1));
        if let Some(key) = begin.map(|process| process.key)
            && let Some(process) = store.get_mut(key)
        {
            process.alerted.retain(|(known, _)| *known != rule.id);
            process.alerted.push((rule.id, severity));
        }
        Some(found)
    }

    /// The shapes of a shell or interpreter that are a server's ordinary work.
    fn is_expected(
        &self,
        nearest: &Nearest<'_>,
        event: &Event,
        exec: &Exec,
        program: Option<Program>,
    ) -> bool {
        nearest.is_starting(event)
            || (program == Some(Program::Shell) && is_sendmail(exec))
            || self.is_cgi(nearest, event, exec)
            || nearest
                .image
                .is_some_and(|server| is_own_program(server, exec, &self.written))
    }

    /// A CGI program: the kernel was given a script of a CGI directory, and no server wrote it. The
    /// script's name is the caller's word, so it counts only where it cannot mean another file:
    /// without `..`, and in the namespaces of the server, where `/usr/lib/cgi-bin` is not what an
    /// attacker mounted or rooted there.
    fn is_cgi(&self, nearest: &Nearest<'_>, event: &Event, exec: &Exec) -> bool {
        let dots = |name: &[u8]| name.split(|&byte| byte == b'/').any(|part| part == b"..");
        let Some(server) = nearest.image else {
            return false;
        };
        if exec.filename == exec.interp
            || event.meta.flags & flag::STRING_TRUNCATED != 0
            || dots(&exec.filename)
            || (exec.ns.mnt, exec.ns.user) != (server.exec.ns.mnt, server.exec.ns.user)
        {
            return false;
        }
        let script = absolute(&exec.cwd, &exec.filename);
        !self.written.has_path(&script)
            && self
                .directories
                .lookup(exec.ns.mnt, &script)
                .is_some_and(|found| found.kind == Kind::Cgi)
    }

    fn open(&mut self, store: &Store, event: &Event, open: &FileAccess) -> Option<Found> {
        let nearest = nearest(store, event, false, |_| true)?;
        let verb = if open.created {
            "created"
        } else if open.f_flags & 0o2000 != 0 {
            "opened for appending"
        } else {
            "opened for writing"
        };
        self.write(&nearest, event, open.mnt_ns, &open.path, verb)
    }

    fn rename(&mut self, store: &Store, event: &Event, rename: &Change) -> Option<Found> {
        let nearest = nearest(store, event, false, |_| true)?;
        let mut judge = |from: &[u8], to: &[u8]| {
            let verb = format!("renamed {} to", String::from_utf8_lossy(from));
            // A directory brings what was written in it.
            let inside = match code(to) {
                Some(_) => None,
                None => self.written.code_below(to).map(<[u8]>::to_vec),
            };
            match inside {
                Some(path) => {
                    let verb = format!("{verb} {} and with it", String::from_utf8_lossy(to));
                    self.write(&nearest, event, rename.mnt_ns, &path, &verb)
                }
                None => self.write(&nearest, event, rename.mnt_ns, to, &verb),
            }
        };
        let found = judge(&rename.old, &rename.new);
        if !is_exchange(rename) {
            return found;
        }
        let other = judge(&rename.new, &rename.old);
        found.or(other)
    }

    fn write(
        &mut self,
        nearest: &Nearest<'_>,
        event: &Event,
        mnt_ns: u32,
        path: &[u8],
        verb: &str,
    ) -> Option<Found> {
        // A path cut at its front may be anywhere: a deep directory must not hide a web shell. Nor
        // must a name that is cut at its end, or that could not be read.
        let cut = event.meta.flags & flag::PATH_TRUNCATED != 0;
        let unnamed = cut && event.meta.flags & flag::STRING_TRUNCATED != 0;
        let kind = code(path).or(unnamed.then_some(Code::Program));
        let found = self.directories.lookup(mnt_ns, path);
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
            (Some(_), Some(Code::Program)) => (&rules::CODE_WRITE, "code where it is served"),
            (Some(_), Some(Code::Control)) => (
                &rules::CODE_WRITE,
                "a file that says how served files are run",
            ),
            (None, Some(_)) if cut => (
                &rules::CODE_WRITE,
                "code under a path that is not known whole",
            ),
            (None, Some(_)) => {
                self.remember_undecided(event);
                return None;
            }
            (Some(_) | None, None) => return None,
        };
        if nearest.depth == 0 && nearest.is_starting(event) {
            return None; // an application server unpacks what an administrator gave it
        }
        let directory = found.map(|found| Directory {
            path: found.path.to_vec(),
            kind: found.kind.name(),
            source: found.source.to_owned(),
        });
        if !self.is_new_write(event, path) {
            self.suppressed += 1;
            return None;
        }
        Some(Found {
            rule,
            severity: Severity::High,
            reason: format!(
                "{} ({} server) {verb} {}: {what}",
                nearest.server.name,
                nearest.server.role.name(),
                String::from_utf8_lossy(path),
            ),
            server_depth: nearest.depth,
            server: nearest.server.clone(),
            directory,
        })
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

/// Whether two names change places.
const fn is_exchange(rename: &Change) -> bool {
    rename.flags & RENAME_EXCHANGE != 0
}

/// The nearest server of a lineage.
struct Nearest<'a> {
    server: Server,
    depth: usize,
    process: Option<&'a Process>,
    image: Option<&'a Image>,
    /// The process of the chain that the server created; `None` where the subject is the server.
    child: Option<&'a Process>,
    /// Another server made this one, or was it before.
    inside: bool,
}

/// Walks from the subject to its creators, to a server of a role that `counts`. Of the subject's own
/// programs the one it runs now counts only where `exec` is false: an exec is judged by what ran
/// before it.
fn nearest<'a>(
    store: &'a Store,
    event: &Event,
    exec: bool,
    counts: impl Fn(Role) -> bool,
) -> Option<Nearest<'a>> {
    let mut depth = 0;
    let mut child = None;
    let mut chain = store.chain(event.meta.subject);
    while let Some(process) = chain.next() {
        // What a process inherited is its creator's, and counts here only while it runs nothing of
        // its own: as with the worker that a server forks. Not at its own exec.
        let of_own = process.images.len() > process.inherited;
        let (front, back) = match (exec && depth == 0, of_own) {
            (true, _) => (process.inherited, 1),
            (false, true) => (process.inherited, 0),
            (false, false) => (0, 0),
        };
        let image = process
            .images
            .iter()
            .skip(front)
            .rev()
            .skip(back)
            .find(|image| {
                image
                    .server
                    .as_ref()
                    .is_some_and(|server| counts(server.role))
            });
        if let Some(image) = image
            && let Some(server) = &image.server
        {
            let other = |known: &Image| {
                let known = known.server.as_ref();
                known.is_some_and(|known| known.name != server.name)
            };
            let inside = process.images.iter().any(other)
                || chain.any(|above| above.images.iter().any(|image| image.server.is_some()));
            return Some(Nearest {
                server: server.clone(),
                depth,
                process: Some(process),
                image: Some(image),
                child,
                inside,
            });
        }
        depth += 1;
        child = Some(process);
    }
    // The kernel knows more than the store where records were lost.
    let tag = event.meta.tag;
    let role = Role::ALL
        .iter()
        .find(|role| tag.roles & role.bit() != 0 && counts(**role))?;
    Some(Nearest {
        server: Server {
            name: "server",
            role: *role,
        },
        depth: usize::from(tag.distance).min(depth.saturating_sub(1)),
        process: None,
        image: None,
        child: None,
        inside: true,
    })
}

impl Nearest<'_> {
    /// Whether the server is still starting: it executed its program itself and a short time ago,
    /// both witnessed, does not listen yet, and what happens runs as the same user, in a child that
    /// was made for it. A worker is forked to stay and often changes its user: it never is. Nor is a
    /// server that another one runs: php-cgi starts for every request, and an attacker can start any.
    fn is_starting(&self, event: &Event) -> bool {
        let (Some(process), Some(image)) = (self.process, self.image) else {
            return false;
        };
        let now_boot_ns = event.meta.boot_ns;
        let own = process
            .images
            .iter()
            .skip(process.inherited)
            .any(|known| std::ptr::eq(known, image));
        let made_for_it = self.child.is_none_or(|child| {
            let first = child.images.get(child.inherited);
            let ran_boot_ns = first.map_or(now_boot_ns, |first| first.boot_ns);
            ran_boot_ns.saturating_sub(child.start_boot_ns) < CHILD_EXEC_NS
        });
        own && made_for_it
            && !self.inside
            && !image.observed
            && process.ports.is_empty()
            // A FastCGI server is given the socket to serve on as its standard input.
            && !is_listening(&image.exec.stdio[0])
            && now_boot_ns.saturating_sub(image.boot_ns) < START_UP_NS
            && event.payload.ids().is_none_or(|ids| ids.euid == image.exec.ids.euid)
    }
}
