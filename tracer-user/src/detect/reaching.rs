//! What a server's lineage reaches: other hosts, other processes, other rights. The facts for the rules. Pure.
//!
//! Judged by what the process is now, except for a socket that begins to listen: what listens is a server from then
//! on, and whose child it is says the server above. Refuses to judge what nobody of a server's lineage does.

use tracer_common::event::{EventKind, trace_method};

use super::case::Case;
use super::executing::named;
use super::nearest::{Nearest, nearest};
use super::sigma::Category;
use super::{Detector, Found};
use crate::event::{Event, Payload, ProcessKey, Socket, Trace, ip};
use crate::lineage::Store;
use crate::lineage::process::Process;

/// `CAP_SETUID` (include/uapi/linux/capability.h): who has it becomes any user by right.
const CAP_SETUID: u64 = 1 << 7;

impl Detector {
    /// A connection that was made or taken, or a socket that listens.
    pub(super) fn connects(
        &mut self,
        store: &mut Store,
        event: &Event,
        socket: &Socket,
    ) -> Vec<Found> {
        if action(socket).is_none() {
            return Vec::new();
        }
        self.reaches(store, event, Category::NetworkConnection)
    }

    /// What is no file, no program and no name.
    pub(super) fn reaches(
        &mut self,
        store: &mut Store,
        event: &Event,
        category: Category,
    ) -> Vec<Found> {
        if !self.rules.has(category) {
            return Vec::new();
        }
        let (place, matched) = {
            let store = &*store;
            let listens = matches!(&event.payload, Payload::Socket(socket) if socket.kind == EventKind::Listen);
            let Some(nearest) = nearest(store, event, listens, |_| true) else {
                return Vec::new();
            };
            let mut case = Case::new(category, store, event);
            case.program = case.exec.and_then(|exec| self.shells.program(exec));
            case.near(&nearest, event);
            let matched = self.matches(&case, None, || reason(&case, &nearest));
            (nearest.place(), matched)
        };
        self.once(store, event, &place, matched)
    }
}

fn reason(case: &Case<'_>, nearest: &Nearest<'_>) -> String {
    let mut reason = named(&nearest.server);
    let program = case.exec.map(|exec| String::from_utf8_lossy(&exec.exe));
    if nearest.depth != 0
        && let Some(program) = program
    {
        reason = format!("{program}, which {reason} ran,");
    }
    let did = match &case.event.payload {
        Payload::Socket(socket) => {
            let what = match action(socket) {
                Some("listen") => "listens on",
                Some("accept") => "took a connection from",
                _ => "connected to",
            };
            format!("{what} {}", peer(socket))
        }
        Payload::Trace(trace) => format!(
            "reached into process {}{}: {}",
            trace.target.map_or(trace.target_vpid, |target| target.tgid),
            target(case)
                .and_then(Process::image)
                .map(|image| format!(" ({})", String::from_utf8_lossy(&image.exec.exe)))
                .unwrap_or_default(),
            method(trace),
        ),
        Payload::Credentials(_) => match gained(case) {
            Some("user") => "became root without a program that makes it so".to_owned(),
            _ => "got capabilities that it was not permitted".to_owned(),
        },
        Payload::Fork(_)
        | Payload::Exec(_)
        | Payload::Exit(_)
        | Payload::File(_)
        | Payload::Change(_)
        | Payload::Observed(_)
        | Payload::ExecFailed(_)
        | Payload::Namespace(_)
        | Payload::Comm(_) => String::new(),
    };
    format!("{reason} {did}")
}

/// What was done with a socket, where that is a connection.
pub(super) fn action(socket: &Socket) -> Option<&'static str> {
    let is = |kind| socket.kind == kind;
    if is(EventKind::Connect) {
        Some("connect")
    } else if is(EventKind::Accept) {
        Some("accept")
    } else if is(EventKind::Listen) {
        Some("listen")
    } else {
        None
    }
}

/// The other end, of a socket that listens its own.
fn peer(socket: &Socket) -> String {
    let ends = &socket.socket;
    let (addr, port) = if socket.kind == EventKind::Listen {
        (ends.local_addr, ends.local_port)
    } else {
        (ends.remote_addr, ends.remote_port)
    };
    match ip(ends.family, addr) {
        Some(ip) => std::net::SocketAddr::new(ip, port).to_string(),
        None => String::from_utf8_lossy(&socket.name).into_owned(),
    }
}

/// Whether nobody beyond this host is at the other end: a loopback address, or a unix socket. Of a socket that listens
/// its own address says so.
pub(super) fn is_local(socket: &Socket) -> bool {
    let ends = &socket.socket;
    let addr = if socket.kind == EventKind::Listen {
        ends.local_addr
    } else {
        ends.remote_addr
    };
    ip(ends.family, addr).is_none_or(|ip| ip.is_loopback())
}

/// What one process did to another.
pub(super) const fn trace<'a>(case: &Case<'a>) -> Option<&'a Trace> {
    if let Payload::Trace(trace) = &case.event.payload {
        Some(trace)
    } else {
        None
    }
}

/// The process that was reached into, where it is known.
pub(super) fn target<'a>(case: &Case<'a>) -> Option<&'a Process> {
    case.store.get(trace(case)?.target?)
}

/// Whether the target belongs to the outermost server that the subject descends from, as the workers of one that looks
/// into its own do.
pub(super) fn is_of_server(case: &Case<'_>) -> Option<bool> {
    let target = target(case)?;
    let chain = |key: ProcessKey| case.store.chain(key);
    let is_server = |process: &&Process| process.images.iter().any(|image| image.server.is_some());
    let outermost = chain(case.event.meta.subject).filter(is_server).last()?.key;
    Some(chain(target.key).any(|process| process.key == outermost))
}

/// How it reached in.
pub(super) const fn method(trace: &Trace) -> &'static str {
    match trace.method {
        trace_method::PTRACE => "ptrace",
        trace_method::VM_WRITE => "process_vm_writev",
        trace_method::MEM => "mem",
        _ => "access",
    }
}

/// What a process got that nothing it had before explains: `user`, where it became root and was it in no role and could
/// not become any user; `capabilities`, where it has some that it was not permitted, in the user namespace in which it
/// began its program.
pub(super) fn gained(case: &Case<'_>) -> Option<&'static str> {
    let Payload::Credentials(now) = &case.event.payload else {
        return None;
    };
    let process = case.process?;
    let earlier = |known: &&crate::lineage::process::RanAs| known.boot_ns < case.event.meta.boot_ns;
    let before = process.ran_as.iter().rev().find(earlier)?;
    let permitted = before.capabilities.map(|(_, permitted)| permitted);
    let was_root = [before.ids.uid, before.ids.euid, before.ids.suid].contains(&0);
    if now.ids.euid == 0 && !was_root && permitted.is_none_or(|known| known & CAP_SETUID == 0) {
        return Some("user");
    }
    let same_ns = process.image()?.exec.ns.user == now.user_ns;
    (same_ns && !was_root && now.cap_effective & !permitted? != 0).then_some("capabilities")
}
