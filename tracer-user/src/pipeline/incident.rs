//! Whose incident an alert is, and what makes it one of its own. Refuses to know what an incident is: that is
//! [`crate::detect::incident`].

use uuid::Uuid;

use tracer_common::tag::Role;

use super::Pipeline;
use super::contents::complete_contents;
use super::names::complete_names;
use super::raised::alert_id;
use super::view::NAMESPACE;
use crate::alert::Document;
use crate::detect::incident::{Sighting, Use, Verdict, of_file, of_writer};
use crate::detect::{Found, severity};
use crate::enrich::docroot::path;
use crate::event::{Event, Payload, ProcessKey, Writer};
use crate::lineage::process::{Process, Server, Why};

impl Pipeline {
    /// Takes an alert into the incident of its server, and makes it worse where it uses what an earlier one is about.
    pub(super) fn incident(&mut self, event: &Event, found: &mut Found) -> (ProcessKey, Verdict) {
        let used = self.incidents.about(&uses(event, found));
        if !used.is_empty() {
            found.severity = severity::of_use(found.severity);
        }
        let server = self.incident_of(event, found);
        let alert = alert_id(self.event_id(event), &found.rule);
        let (place, shape) = shape(event);
        let boot_id = &self.host.boot_id;
        let new_id = || {
            let ProcessKey { tgid, start_ticks } = server;
            let text = format!("incident|{boot_id}|{tgid}|{start_ticks}|{alert}");
            Uuid::new_v5(&NAMESPACE, text.as_bytes())
        };
        let sighting = Sighting {
            server,
            boot_ns: event.meta.boot_ns,
            rule: &found.rule,
            severity: found.severity,
            alert,
            reason: &found.reason,
            place,
            shape: &shape,
            about: about(event, found),
            used,
        };
        let mut due = Vec::new();
        let verdict = self.incidents.take(sighting, new_id, &mut due);
        self.roll_up(due);
        self.restart.changed();
        (server, verdict)
    }

    /// Lets roll-ups go whose time is over.
    pub(super) fn pass_incidents(&mut self, now_boot_ns: u64) {
        let mut due = Vec::new();
        self.incidents.pass(now_boot_ns, &mut due);
        self.roll_up(due);
    }

    /// What they show has waited long enough for facts.
    fn roll_up(&mut self, due: Vec<Document>) {
        for mut document in due {
            self.containers.complete(&mut document.event);
            complete_names(&self.names, &mut document.event);
            complete_contents(&self.contents, &mut document.event);
            self.documents.push(document);
        }
    }

    /// The process that the server began with; without a server that which the lineage came onto the host with.
    fn incident_of(&self, event: &Event, found: &Found) -> ProcessKey {
        let subject = event.meta.subject;
        let depth = found.server_depth;
        let own = depth.and_then(|depth| self.store.chain(subject).nth(depth));
        let beside = || {
            found.server.as_ref()?;
            let writer = found.writer.map(|writer| self.store.chain(writer.process));
            let mut chain = writer
                .into_iter()
                .flatten()
                .chain(self.store.linked(subject));
            chain.find(|process| server(process).is_some())
        };
        match own.or_else(beside) {
            Some(process) => self.first_of(process),
            None if found.server.is_some() => found.writer.map_or(subject, |writer| writer.process),
            None => self
                .entered(subject)
                .map_or(subject, |entry| entry.leader.key),
        }
    }

    /// From a worker up to who made it, as long as that is a server too: its own master, or the one that it works for.
    /// What manages hosts or runs jobs makes servers and is not part of them.
    fn first_of(&self, process: &Process) -> ProcessKey {
        let own = server(process).map(|server| &server.name);
        let is_of_it = |above: &&Process| {
            server(above).is_some_and(|above| {
                let manages = [Role::Agent, Role::Ci].contains(&above.role);
                !manages && (above.why == Why::Named || Some(&above.name) == own)
            })
        };
        let above = self.store.chain(process.key).skip(1);
        let last = above.take_while(is_of_it).last();
        last.map_or(process.key, |last| last.key)
    }
}

/// The server that a process is.
fn server(process: &Process) -> Option<&Server> {
    process
        .images
        .iter()
        .rev()
        .find_map(|image| image.server.as_ref())
}

/// The program or directory that an event is about, and what tells it from others there.
fn shape(event: &Event) -> (&[u8], Vec<u8>) {
    match &event.payload {
        Payload::Exec(exec) | Payload::Observed(exec) => (&exec.exe, exec.args.join(&0)),
        Payload::File(file) => (path::parent(&file.path), file.path.clone()),
        Payload::Change(change) => (path::parent(&change.new), change.new.clone()),
        Payload::Socket(socket) => {
            let end = &socket.socket;
            let shape = [&end.remote_addr[..], &end.remote_port.to_le_bytes()].concat();
            (socket.kind.name().as_bytes(), shape)
        }
        Payload::Trace(trace) => {
            let target = trace.target.map_or(0, |target| target.tgid);
            (b"trace", target.to_le_bytes().to_vec())
        }
        Payload::Fork(_)
        | Payload::Exit(_)
        | Payload::ExecFailed(_)
        | Payload::Credentials(_)
        | Payload::Namespace(_)
        | Payload::Comm(_) => (event.payload.kind().name().as_bytes(), Vec::new()),
    }
}

/// What an alert is about: the file that was written or given a name, and the write itself.
fn about(event: &Event, found: &Found) -> Vec<Use> {
    // Of a change of names the generation is not told; the write that it is of is.
    let file = if let Payload::File(file) = &event.payload {
        of_file(file.file, file.generation)
    } else if let Payload::Change(_) = &event.payload {
        None
    } else {
        return Vec::new();
    };
    let this = of_writer(Writer {
        process: event.meta.subject,
        boot_ns: event.meta.boot_ns,
        tag: event.meta.tag,
    });
    let before = found.writer.map(of_writer);
    file.into_iter().chain(before).chain([this]).collect()
}

/// What an alert uses: the program that runs, and the write that it is of.
fn uses(event: &Event, found: &Found) -> Vec<Use> {
    let file = if let Payload::Exec(exec) = &event.payload {
        of_file(exec.file, exec.generation)
    } else if let Payload::File(file) = &event.payload {
        of_file(file.file, file.generation)
    } else {
        return Vec::new();
    };
    // Without a writer the file is not what it was, or is not what an alert was about.
    let Some(writer) = found.writer else {
        return Vec::new();
    };
    file.into_iter().chain([of_writer(writer)]).collect()
}
