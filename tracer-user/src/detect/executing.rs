//! The rules on what a server's lineage runs, and on who runs what it wrote. Pure.

use tracer_common::event::{access, flag};
use tracer_common::tag::{Role, via};

use super::expected::{self, Dropped, absolute, is_conversation, is_own_program, is_sendmail};
use super::nearest::{Nearest, Place, nearest, server_of};
use super::roles::{self, Program};
use super::written::By;
use super::{Detector, Found, rules, user};
use crate::alert::{Rule, Severity};
use crate::enrich::docroot::Kind;
use crate::event::{Event, Exec, FileAccess, Writer, is_inet};
use crate::lineage::Store;
use crate::lineage::process::{Process, Via};

/// Set-user-id and set-group-id (`S_ISUID`, `S_ISGID`).
const SET_ID: u16 = 0o6000;

/// Mail servers run commands to deliver, by design; but not every server may call one.
fn counts(role: Role) -> bool {
    role != Role::Mail
}

/// How bad it is by what the server is for. What runs commands for those who manage a host does so all day,
/// and of a program that is known by serving only nobody knows what it is for: an order of words is less of
/// such a one than a shell that waits for words.
const fn ordinary(role: Role, is_dropped: bool, is_given_work: bool) -> Severity {
    match role {
        Role::Agent if is_given_work => Severity::Low,
        Role::Agent if is_dropped => Severity::Medium,
        Role::Service if is_given_work => Severity::Medium,
        Role::Agent
        | Role::Service
        | Role::Web
        | Role::App
        | Role::Database
        | Role::Cache
        | Role::Mail
        | Role::Ftp
        | Role::Ci => Severity::High,
    }
}

impl Detector {
    pub(super) fn exec(&mut self, store: &mut Store, event: &Event, exec: &Exec) -> Option<Found> {
        let dropped = self.dropped(store, exec);
        let nameless = exec.nlink == 0;
        let of_lineage = nearest(store, event, true, counts);
        let container = store.place_of(event.meta.subject);
        let outsider = of_lineage
            .as_ref()
            .is_none_or(|nearest| nearest.beside.is_some());
        // What a name means is less sure where another process uses it.
        let dropped = dropped.filter(|dropped| {
            !outsider
                || dropped.identity
                || dropped
                    .by
                    .is_same_path(exec.ns.mnt, container, &dropped.path)
        });
        let nearest = of_lineage.or_else(|| beside(dropped.as_ref()?))?;
        // A server that starts a server (php-fpm reloading, Apache running php-cgi) runs none of these; one
        // that is called so and is a shell is a shell.
        let program = self.shells.program(exec);
        let is_dropped = dropped.is_some() || (nameless && program.is_none());
        if program.is_none() && !is_dropped {
            return None;
        }
        if dropped.is_none() && !nameless && self.is_expected(&nearest, event, exec, program) {
            return None;
        }
        let rule = match program {
            _ if is_dropped => &rules::DROPPED_EXEC,
            _ if nearest.server.role == Role::Database => &rules::DATABASE_SHELL,
            _ => &rules::SHELL,
        };
        let remote = exec.stdio.iter().any(is_inet);
        let privileged = dropped.as_ref().is_some_and(|dropped| {
            dropped.identity && (exec.mode & SET_ID != 0 || self.written.is_privileged(exec.file))
        });
        // Maintenance that an application does by itself: as the same user, by its interpreter.
        let may_be_its_own = dropped
            .as_ref()
            .is_some_and(|dropped| !dropped.direct && dropped.by.uid == Some(exec.ids.euid));
        let severity = if remote || nameless || privileged {
            Severity::Critical
        } else if outsider && may_be_its_own {
            Severity::Medium
        } else {
            let is_given_work = !is_dropped && !program.is_some_and(|it| is_conversation(it, exec));
            ordinary(nearest.server.role, is_dropped, is_given_work)
        };
        let what = match (program, &dropped) {
            (_, Some(_)) => "a program that it wrote",
            (None, None) => "a program",
            (Some(program), None) => article(program),
        };
        let path = dropped.as_ref().map_or(&exec.exe, |dropped| &dropped.path);
        let path = if outsider { path } else { &exec.exe };
        let mut reason = match nearest.beside {
            None => told(&nearest, &format!("executed {what}"), path),
            Some(via) => outside(&nearest, via, dropped.is_some(), what, path),
        };
        if remote {
            reason.push_str(", its input or output is a network connection");
        }
        if nameless {
            reason.push_str(", from a file that has no name");
        }
        if privileged {
            reason.push_str(", with more rights than who runs it");
        }
        let writer = exec.writer.or(dropped.map(|dropped| dropped.by.writer));
        let matched = Matched {
            rule,
            severity,
            reason,
            writer,
        };
        self.once(store, event, nearest.place(), matched)
    }

    /// A file that is used other than for writing: mapped by a loader to be executed, or read by the
    /// interpreter that was given it.
    pub(super) fn runs(
        &mut self,
        store: &mut Store,
        event: &Event,
        file: &FileAccess,
    ) -> Option<Found> {
        if file.access & access::EXEC != 0 {
            return self.maps(store, event, file);
        }
        // Who reads what was written is a server that serves it, and no matter; but not who came to
        // its tag by that.
        let writer = file.writer?;
        let process = store.get(event.meta.subject)?;
        let by_this = process.link.is_some_and(|link| {
            link.via == Via::File
                && link.boot_ns == event.meta.boot_ns
                && event.meta.tag.via & via::FILE != 0
        });
        let interprets = process
            .image()
            .is_some_and(|image| self.shells.program(&image.exec).is_some());
        if !by_this || !interprets {
            return None;
        }
        let rule = &rules::DROPPED_EXEC;
        if process.alerted.iter().any(|(known, _)| *known == rule.id) {
            return None; // told by the name that the interpreter was given
        }
        let by = self.written.by(Some(file.file), &file.path);
        let wrote = by.map_or_else(|| user(store, writer.process), |by| by.uid);
        let severity = if wrote == Some(file.ids.euid) {
            Severity::Medium
        } else {
            Severity::High
        };
        let nearest = nearest(store, event, false, counts)?;
        let reason = outside(&nearest, Via::File, true, "", &file.path);
        let matched = Matched {
            rule,
            severity,
            reason,
            writer: Some(writer),
        };
        self.once(store, event, nearest.place(), matched)
    }

    /// A dynamic loader, or a program without a name, maps another program into itself: that is what
    /// runs from now on, whatever the links that it was named by. And a program that a server ran maps
    /// what that server's lineage wrote, as `LD_PRELOAD` has it: of a server's own process that is
    /// a library that it unpacked.
    fn maps(&mut self, store: &mut Store, event: &Event, file: &FileAccess) -> Option<Found> {
        let image = store.get(event.meta.subject).and_then(Process::image)?;
        let exec = &image.exec;
        let remote = exec.stdio.iter().any(is_inet);
        let nearest = nearest(store, event, false, counts)?;
        let by = self.written.holds(file.file, file.generation, &file.path);
        let writer = file.writer.or_else(|| Some(by?.writer));
        let becomes_it = exec.nlink == 0 || roles::is_loader(roles::base(&exec.exe));
        if !becomes_it && (writer.is_none() || nearest.depth == 0) {
            return None;
        }
        let program = self.shells.loaded(file.file, &file.path);
        let (rule, what): (&'static Rule, _) = match (writer, program) {
            (Some(_), _) => (&rules::DROPPED_EXEC, "a program that it wrote"),
            (None, Some(program)) if nearest.server.role == Role::Database => {
                (&rules::DATABASE_SHELL, article(program))
            }
            (None, Some(program)) => (&rules::SHELL, article(program)),
            (None, None) => return None,
        };
        let severity = if remote {
            Severity::Critical
        } else {
            Severity::High
        };
        let reason = told(&nearest, &format!("loaded {what} into another"), &file.path);
        let matched = Matched {
            rule,
            severity,
            reason,
            writer,
        };
        self.once(store, event, nearest.place(), matched)
    }

    /// What of an exec a server's lineage wrote: by what is remembered here, else by what the kernel
    /// remembers of the executable.
    fn dropped(&self, store: &Store, exec: &Exec) -> Option<Dropped> {
        expected::dropped(&self.written, exec).or_else(|| {
            let writer = exec.writer?;
            let server = server_of(store, writer.process, writer.tag, &|_| true)?;
            Some(Dropped {
                path: exec.exe.clone(),
                by: By {
                    writer,
                    server,
                    uid: user(store, writer.process),
                    mnt_ns: exec.ns.mnt,
                    container: None,
                },
                direct: true,
                identity: true,
            })
        })
    }

    /// The match as an alert, where it is one of its own. What an alerted program starts is the same
    /// attack, unless it is worse or of another kind.
    fn once(
        &mut self,
        store: &mut Store,
        event: &Event,
        place: Place,
        matched: Matched,
    ) -> Option<Found> {
        let Matched {
            rule,
            severity,
            reason,
            writer,
        } = matched;
        let subject = event.meta.subject;
        let told = store
            .chain(subject)
            .take(place.depth + 1)
            .flat_map(|process| &process.alerted)
            .any(|(known, told)| *known == rule.id && *told >= severity);
        if told {
            self.suppressed += 1;
            return None;
        }
        // Noted where the attack begins: at the child that the server made for it.
        let begin = store.chain(subject).nth(place.begin);
        if let Some(key) = begin.map(|process| process.key)
            && let Some(process) = store.get_mut(key)
        {
            process.alerted.retain(|(known, _)| *known != rule.id);
            process.alerted.push((rule.id, severity));
        }
        Some(Found {
            rule,
            severity,
            reason,
            server_depth: place.server_depth,
            server: place.server,
            directory: None,
            writer,
        })
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
}

/// What an alert would say.
struct Matched {
    rule: &'static Rule,
    severity: Severity,
    reason: String,
    writer: Option<Writer>,
}

/// The server of who wrote what an outsider executes.
fn beside<'a>(dropped: &Dropped) -> Option<Nearest<'a>> {
    let server = dropped.by.server.clone();
    counts(server.role).then(|| Nearest::beside(server, 0, Via::File))
}

const fn article(program: Program) -> &'static str {
    match program {
        Program::Shell => "a shell",
        Program::Interpreter => "an interpreter",
    }
}

/// `nginx (web server) executed a shell: /bin/sh`
fn told(nearest: &Nearest<'_>, what: &str, path: &[u8]) -> String {
    format!(
        "{} ({} server) {what}: {}",
        nearest.server.name,
        nearest.server.role.name(),
        String::from_utf8_lossy(path),
    )
}

/// The same of a process that no server made.
fn outside(nearest: &Nearest<'_>, via: Via, dropped: bool, what: &str, path: &[u8]) -> String {
    let what = match (via, dropped) {
        (_, true) => "wrote a program that a process outside its lineage executed".to_owned(),
        (Via::File, false) => format!("wrote a program that executed {what}"),
        (Via::Trace, false) => format!("reached into a process that executed {what}"),
    };
    told(nearest, &what, path)
}
