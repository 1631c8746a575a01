//! What a server's lineage runs, and who runs what it wrote: the facts for the rules. Pure.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tracer_common::event::{access, flag};
use tracer_common::limits::STRING_BYTES;
use tracer_common::tag::{Role, via};

use super::case::{Case, Fact};
use super::expected::{self, Dropped, absolute, is_conversation, is_own_program};
use super::nearest::{Nearest, Place, nearest, server_of};
use super::roles::{self, Program, tools};
use super::severity::severity;
use super::sigma::Category;
use super::written::By;
use super::{Detector, Found, Matched, user};
use crate::alert::Severity;
use crate::enrich::docroot::{Kind, path};
use crate::event::{Event, Exec, FileAccess, ProcessKey, Writer, ip, is_inet};
use crate::lineage::Store;
use crate::lineage::process::{Process, Server, Via};

/// Set-user-id and set-group-id (`S_ISUID`, `S_ISGID`).
const SET_ID: u16 = 0o6000;

/// Mail servers run commands to deliver, by design; but not every server may call one.
fn counts(role: Role) -> bool {
    role != Role::Mail
}

impl Detector {
    pub(super) fn exec(&mut self, store: &mut Store, event: &Event, exec: &Exec) -> Vec<Found> {
        let (place, matched) = self.executes(store, event, exec);
        self.once(store, event, &place, matched)
    }

    fn executes(&mut self, store: &Store, event: &Event, exec: &Exec) -> (Place, Vec<Matched>) {
        let dropped = self.dropped(store, exec);
        let nameless = exec.nlink == 0;
        // One walk for the many that have no server above: where the nearest one counts, it is the nearest that does.
        let any = nearest(store, event, true, |_| true);
        let (of_lineage, other) = match any {
            Some(any) if !counts(any.server.role) => {
                (nearest(store, event, true, counts), Some(any))
            }
            any => (any, None),
        };
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
        let nearest = of_lineage.or_else(|| beside(dropped.as_ref()?)).or(other);
        let mut case = Case::new(Category::ProcessCreation, store, event);
        // A server that starts a server (php-fpm reloading, Apache running php-cgi) runs none of these; one
        // that is called so and is a shell is a shell.
        case.program = self.shells.program(exec);
        let program = case.program;
        if let Some(nearest) = &nearest {
            case.near(nearest, event);
            let is_plain = dropped.is_none() && !nameless;
            case.ordinary = is_plain
                .then(|| self.ordinary(nearest, event, exec, program))
                .flatten();
        }
        let is_dropped = dropped.is_some() || (nameless && program.is_none());
        let privileged = dropped.as_ref().is_some_and(|dropped| {
            dropped.identity && (exec.mode & SET_ID != 0 || self.written.is_privileged(exec.file))
        });
        // Maintenance that an application does by itself: as the same user, by its interpreter.
        let may_be_its_own = dropped
            .as_ref()
            .is_some_and(|dropped| !dropped.direct && dropped.by.uid == Some(exec.ids.euid));
        let is_given_work = !is_dropped && !program.is_some_and(|it| is_conversation(it, exec));
        let remote = exec.stdio.iter().any(is_inet);
        let facts = &mut case.facts;
        facts.set(Fact::Written, dropped.is_some());
        facts.set(Fact::Fileless, nameless);
        facts.set(Fact::RemoteStdio, remote);
        facts.set(Fact::GainsRights, privileged);
        facts.set(Fact::Outside, nearest.is_some() && outsider);
        facts.set(Fact::Maintenance, may_be_its_own);
        facts.set(Fact::GivenWork, is_given_work);
        let place = nearest.as_ref().map_or(Place::NONE, Nearest::place);
        let reason = || {
            let what = match (program, &dropped) {
                (_, Some(_)) => "executed a program that it wrote",
                (None, None) if nameless => "executed a program",
                (None, None) => {
                    tools::kind(roles::effective_name(exec)).map_or("executed", tools::words)
                }
                (Some(program), None) => executed(program),
            };
            let path = dropped.as_ref().map_or(&exec.exe, |dropped| &dropped.path);
            let path = if outsider { path } else { &exec.exe };
            let mut reason = match &nearest {
                None => format!(
                    "{} executed: {}",
                    case.creator(),
                    String::from_utf8_lossy(path)
                ),
                Some(nearest) => match nearest.beside {
                    None => told(nearest, what, path),
                    Some(via) => outside(nearest, via, dropped.is_some(), what, path),
                },
            };
            if let Some(fd) = exec.stdio.iter().find(|fd| is_inet(fd)) {
                reason.push_str(", its input or output is a network connection");
                if let Some(ip) = ip(fd.family, fd.remote_addr) {
                    let peer = SocketAddr::new(ip, fd.remote_port);
                    let _infallible = write!(reason, " with {peer}");
                }
            }
            for (fact, words) in [
                (Fact::Fileless, ", from a file that has no name"),
                (Fact::GainsRights, ", with more rights than who runs it"),
            ] {
                if case.facts.has(fact) {
                    reason.push_str(words);
                }
            }
            reason
        };
        let writer = exec
            .writer
            .or(dropped.as_ref().map(|dropped| dropped.by.writer));
        let matched = self.matches(&case, writer, reason);
        let matched = self.excuse(&case, matched);
        let matched = self.recall_why(&case, &place, matched);
        (place, matched)
    }

    /// A file that is used other than for writing: mapped by a loader to be executed, or read by the
    /// interpreter that was given it.
    pub(super) fn runs(
        &mut self,
        store: &mut Store,
        event: &Event,
        file: &FileAccess,
    ) -> Vec<Found> {
        let judged = if file.access & access::EXEC != 0 {
            self.maps(store, event, file)
        } else {
            self.reads(store, event, file)
        };
        let Some((place, matched)) = judged else {
            return Vec::new();
        };
        self.once(store, event, &place, matched)
    }

    /// Who reads what was written is a server that serves it, and no matter; but not who came to its tag by that.
    fn reads(
        &mut self,
        store: &Store,
        event: &Event,
        file: &FileAccess,
    ) -> Option<(Place, Vec<Matched>)> {
        let writer = file.writer?;
        let process = store.get(event.meta.subject)?;
        let by_this = process.link.is_some_and(|link| {
            link.via == Via::File
                && link.boot_ns == event.meta.boot_ns
                && event.meta.tag.via & via::FILE != 0
        });
        let program = self.shells.program(&process.image()?.exec);
        if !by_this || program.is_none() {
            return None;
        }
        let by = self.written.by(Some(file.file), &file.path);
        let wrote = by.map_or_else(|| user(store, writer.process), |by| by.uid);
        let nearest = nearest(store, event, false, counts)?;
        let mut case = Case::new(Category::ProcessCreation, store, event);
        case.near(&nearest, event);
        case.program = program;
        case.facts.set(Fact::Written, true);
        case.facts.set(Fact::Outside, true);
        case.facts
            .set(Fact::Maintenance, wrote == Some(file.ids.euid));
        let mut matched = self.matches(&case, Some(writer), || {
            outside(&nearest, Via::File, true, "", &file.path)
        });
        // Told by the name that the interpreter was given.
        let is_told = |rule: &str| process.alerted.iter().any(|(known, _)| &**known == rule);
        matched.retain(|matched| !is_told(&matched.rule.id));
        let place = nearest.place();
        let matched = self.excuse(&case, matched);
        let matched = self.recall_why(&case, &place, matched);
        Some((place, matched))
    }

    /// A dynamic loader, or a program without a name, maps another program into itself: that is what
    /// runs from now on, whatever the links that it was named by. And a program that a server ran maps
    /// what that server's lineage wrote, as `LD_PRELOAD` has it: of a server's own process that is
    /// a library that it unpacked.
    fn maps(
        &mut self,
        store: &Store,
        event: &Event,
        file: &FileAccess,
    ) -> Option<(Place, Vec<Matched>)> {
        let image = store.get(event.meta.subject).and_then(Process::image)?;
        let exec = &image.exec;
        let nearest = nearest(store, event, false, counts)?;
        let by = self.written.holds(file.file, file.generation, &file.path);
        let writer = file.writer.or_else(|| Some(by?.writer));
        let becomes_it = exec.nlink == 0 || roles::is_loader(roles::base(&exec.exe));
        let mut case = Case::new(Category::ImageLoad, store, event);
        case.near(&nearest, event);
        case.program = self.shells.loaded(file.file, &file.path);
        case.file = Some(super::case::FileCase {
            path: file.path.clone(),
            action: "loaded",
            ..super::case::FileCase::default()
        });
        case.facts.set(Fact::Written, writer.is_some());
        case.facts
            .set(Fact::RemoteStdio, exec.stdio.iter().any(is_inet));
        let what = match (writer, case.program) {
            (Some(_), _) => "loaded a program that it wrote into another",
            (None, Some(Program::Shell)) => "loaded a shell into another",
            (None, Some(Program::Interpreter)) => "loaded an interpreter into another",
            (None, None) => "loaded",
        };
        let reason = || told(&nearest, what, &file.path);
        let mut matched = self.matches(&case, writer, reason);
        if becomes_it || (writer.is_some() && nearest.depth != 0) {
            case.category = Category::ProcessCreation;
            case.image = Some(&file.path);
            matched.extend(self.matches(&case, writer, reason));
        }
        let place = nearest.place();
        let matched = self.excuse(&case, matched);
        let matched = self.recall_why(&case, &place, matched);
        Some((place, matched))
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

    /// The rules that match a case, each with its severity.
    pub(super) fn matches(
        &self,
        case: &Case<'_>,
        writer: Option<Writer>,
        reason: impl Fn() -> String,
    ) -> Vec<Matched> {
        let rules = self.rules.matching(case.category, case);
        if let Some(profile) = &self.profile {
            profile.judge(case.category, case);
        }
        rules
            .into_iter()
            .map(|rule| Matched {
                severity: severity(rule.level, case),
                reason: reason(),
                rule,
                writer,
                perhaps: Vec::new(),
                told: None,
            })
            .collect()
    }

    /// The matches as alerts, where they are some of their own. What an alerted program starts is the same
    /// attack, unless it is worse or of another kind.
    pub(super) fn once(
        &mut self,
        store: &mut Store,
        event: &Event,
        place: &Place,
        matched: Vec<Matched>,
    ) -> Vec<Found> {
        let mut all = Vec::new();
        for Matched {
            rule,
            severity,
            reason,
            writer,
            perhaps,
            told,
        } in matched
        {
            let subject = event.meta.subject;
            if is_told(store, subject, place, &rule.id, severity) {
                self.suppressed += 1;
                continue;
            }
            // Noted where the attack begins: at the child that the server made for it.
            // Of what may yet prove to be no alert nothing is folded into it.
            let begin = store.chain(subject).nth(place.begin);
            let begin = begin.filter(|_| perhaps.is_empty());
            if let Some(key) = begin.map(|process| process.key)
                && let Some(process) = store.get_mut(key)
            {
                process.alerted.retain(|(known, _)| *known != rule.id);
                process.alerted.push((rule.id.clone(), severity));
            }
            all.push(Found {
                rule,
                severity,
                reason,
                server_depth: place.server_depth,
                server: place.server.clone(),
                directory: None,
                writer,
                perhaps,
                told,
            });
        }
        all
    }

    /// The shape by which a shell or interpreter is a server's ordinary work.
    fn ordinary(
        &self,
        nearest: &Nearest<'_>,
        event: &Event,
        exec: &Exec,
        program: Option<Program>,
    ) -> Option<&'static str> {
        if nearest.is_starting(event) {
            Some("start-up")
        } else if self.is_cgi(nearest, event, exec)
            || (program.is_none() && self.is_below_cgi(nearest, event))
        {
            Some("cgi")
        } else if nearest
            .image
            .is_some_and(|server| is_own_program(server, exec, &self.written))
        {
            Some("own-program")
        } else {
            None
        }
    }

    /// What a CGI program runs that is neither a shell nor an interpreter.
    fn is_below_cgi(&self, nearest: &Nearest<'_>, event: &Event) -> bool {
        let Some(first) = nearest.first() else {
            return false;
        };
        // Whether its name was cut was known at its exec only: one of that length is none.
        first.filename.len() < STRING_BYTES - 1 && self.is_cgi(nearest, event, first)
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

/// Whether the same was told of a process, or of one between it and its server.
pub(super) fn is_told(
    store: &Store,
    subject: ProcessKey,
    place: &Place,
    rule: &str,
    severity: Severity,
) -> bool {
    let chain = store.chain(subject).take(place.depth + 1);
    chain
        .flat_map(|process| &process.alerted)
        .any(|(known, told)| &**known == rule && *told >= severity)
}

/// The server of who wrote what an outsider executes.
fn beside<'a>(dropped: &Dropped) -> Option<Nearest<'a>> {
    let server = dropped.by.server.clone();
    counts(server.role).then(|| Nearest::beside(server, 0, Via::File))
}

const fn executed(program: Program) -> &'static str {
    match program {
        Program::Shell => "executed a shell",
        Program::Interpreter => "executed an interpreter",
    }
}

/// `nginx (web server)`
pub(super) fn named(server: &Server) -> String {
    format!("{} ({} server)", server.name, server.role.name())
}

/// `nginx (web server) executed a shell: /bin/sh`
fn told(nearest: &Nearest<'_>, what: &str, path: &[u8]) -> String {
    let server = named(&nearest.server);
    format!("{server} {what}: {}", String::from_utf8_lossy(path))
}

/// The same of a process that no server made.
fn outside(nearest: &Nearest<'_>, via: Via, dropped: bool, what: &str, path: &[u8]) -> String {
    let what = match (via, dropped) {
        (_, true) => "wrote a program that a process outside its lineage executed".to_owned(),
        (Via::File, false) => format!("wrote a program that {what}"),
        (Via::Trace, false) => format!("reached into a process that {what}"),
    };
    told(nearest, &what, path)
}

impl<'a> Case<'a> {
    /// Puts in what is known by the nearest server.
    pub(super) fn near(&mut self, nearest: &'a Nearest<'a>, event: &Event) {
        self.nearest = Some(nearest);
        self.server = Some(&nearest.server);
        self.is_starting = nearest.is_starting(event);
    }

    /// Name of the program that created the subject.
    fn creator(&self) -> String {
        let parent = self.parent().map(|image| path::name(&image.exec.exe));
        let name = parent.filter(|name| !name.is_empty());
        name.map_or_else(
            || "a process".to_owned(),
            |name| String::from_utf8_lossy(name).into_owned(),
        )
    }
}
