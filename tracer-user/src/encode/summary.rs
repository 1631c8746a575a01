//! Sentences about documents, safe to show.

use std::net::{IpAddr, SocketAddr};

use tracer_common::event::{EventKind, access, flag};

use super::scope::Scope;
use super::text::{quoted, visible};
use super::words::{
    AF_UNIX, Status, address, error, mode, namespace_call, signal, socket_name, trace_method,
};
use crate::event::{Change, Credentials, Exec, FileAccess, Payload, Socket, text};

/// `php-fpm8.2(815)`
pub(super) fn label(scope: Scope<'_>) -> String {
    let mut out = String::new();
    visible(scope.name(), &mut out);
    if out.is_empty() {
        out.push('?');
    }
    out.push_str(&format!("({})", scope.process.key.tgid));
    out
}

/// Arguments as one line.
pub(super) fn command(exec: &Exec) -> String {
    let mut out = String::new();
    for (index, argument) in exec.args.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        quoted(argument, &mut out);
    }
    out
}

/// What happened, in one line.
pub(super) fn sentence(scope: Scope<'_>) -> String {
    let who = label(scope);
    match scope.payload() {
        Payload::Fork(_) => match scope.ancestor(1) {
            Some(creator) if scope.document.event.child.is_some() => {
                format!(
                    "{} created process {}",
                    label(creator),
                    scope.process.key.tgid
                )
            }
            _ => format!("{who} created a process"),
        },
        Payload::Exec(exec) => with_command(format!("{who} executed"), exec),
        Payload::Observed(exec) => with_command(format!("{who} was already running"), exec),
        Payload::Exit(exit) => {
            let status = Status(exit.status);
            match status.signal() {
                None => format!("{who} ended with code {}", status.code()),
                Some(number) => match signal(number) {
                    Some(name) => format!("{who} was ended by {name}"),
                    None => format!("{who} was ended by signal {number}"),
                },
            }
        }
        Payload::File(file) => format!("{who} {} {}", file_verb(file), path(&file.path)),
        Payload::Change(change) => format!("{who} {}", change_phrase(change)),
        Payload::Socket(socket) => {
            let early = scope.document.event.event.meta.flags & flag::ATTEMPT != 0;
            format!("{who} {}", socket_phrase(socket, early))
        }
        Payload::ExecFailed(failed) => {
            let (file, why) = (path(&failed.filename), error(failed.error));
            format!("{who} could not execute {file}: {why}")
        }
        Payload::Credentials(credentials) => {
            let Credentials {
                ids, cap_effective, ..
            } = credentials;
            let count = cap_effective.count_ones();
            format!(
                "{who} now is user {}, effective {}, with {count} capabilities",
                ids.uid, ids.euid
            )
        }
        Payload::Namespace(now) => {
            let root = path(&now.root);
            let call = namespace_call(now.call).unwrap_or("a call");
            format!("{who} changed its namespaces or root directory by {call}: its root is {root}")
        }
        Payload::Trace(trace) => {
            let method = trace_method(trace.method).unwrap_or("a call");
            let whom = match (scope.target(), trace.target) {
                (Some(target), _) => label(target),
                (None, Some(target)) => format!("process {}", target.tgid),
                (None, None) => format!("process {} of its namespace", trace.target_vpid),
            };
            format!("{who} reached into {whom} by {method}")
        }
        Payload::Comm(comm) => {
            let (old, new) = (path(text(&comm.old)), path(text(&comm.new)));
            format!("{who} renamed its thread from {old} to {new}")
        }
    }
}

/// What was done with a socket. `early` is for what may still fail.
fn socket_phrase(socket: &Socket, early: bool) -> String {
    let info = &socket.socket;
    let end = |address: Option<IpAddr>, port| match address {
        Some(ip) if port == 0 => ip.to_string(),
        Some(ip) => SocketAddr::new(ip, port).to_string(),
        None if socket.name.is_empty() => "a socket without a name".to_owned(),
        None => path(&socket_name(&socket.name)),
    };
    let local = end(address(info.family, info.local_addr), info.local_port);
    let remote = end(address(info.family, info.remote_addr), info.remote_port);
    let is = |kind| socket.kind == kind;
    if is(EventKind::Connect) {
        let verb = if early {
            "began to connect"
        } else {
            "connected"
        };
        format!("{verb} to {remote}")
    } else if is(EventKind::Send) {
        format!("sent a datagram to {remote}")
    } else if is(EventKind::Accept) && info.family == AF_UNIX {
        format!("accepted a connection to {local}")
    } else if is(EventKind::Accept) {
        format!("accepted a connection from {remote} to {local}")
    } else if is(EventKind::Bind) {
        let verb = if early { "began to bind" } else { "bound" };
        format!("{verb} a socket to {local}")
    } else if is(EventKind::Redirect) {
        let which = match socket.fd {
            Some(0) => "standard input",
            Some(1) => "standard output",
            Some(2) => "standard error",
            _ => "descriptor",
        };
        let what = if info.remote_port == 0 {
            "a socket".to_owned()
        } else {
            format!("a connection with {remote}")
        };
        format!("made {what} its {which}")
    } else {
        format!("listens on {local}")
    }
}

/// What was done with a file.
pub(super) fn file_verb(file: &FileAccess) -> &'static str {
    let verbs = [
        (EventKind::Write, "wrote to"),
        (EventKind::Read, "opened for reading"),
    ];
    match verbs.iter().find(|(kind, _)| *kind == file.kind) {
        Some((_, verb)) => verb,
        None if file.kind == EventKind::Map && file.access & access::WRITE != 0 => {
            "mapped for writing"
        }
        None if file.kind == EventKind::Map => "mapped for execution",
        None if file.created => "created",
        None => "opened for writing",
    }
}

/// What was done to names or attributes: `renamed /a to /b`.
pub(super) fn change_phrase(change: &Change) -> String {
    let (old, new) = (path(&change.old), path(&change.new));
    let detail = path(&change.detail);
    let phrases = [
        (EventKind::Rename, format!("renamed {old} to {new}")),
        (EventKind::Link, format!("linked {old} as {new}")),
        (EventKind::Symlink, format!("made {new} a link to {detail}")),
        (EventKind::Unlink, format!("removed {new}")),
        (EventKind::Mkdir, format!("made the directory {new}")),
        (EventKind::Mknod, format!("made the file {new}")),
        (
            EventKind::Truncate,
            format!("cut {new} to {} bytes", change.number),
        ),
        (
            EventKind::Chmod,
            format!("changed the mode of {new} to {}", mode(change.new_mode)),
        ),
        (EventKind::Chown, format!("changed the owner of {new}")),
        (
            EventKind::Setxattr,
            format!("set the attribute {detail} of {new}"),
        ),
        (EventKind::Mount, format!("mounted {detail} on {new}")),
    ];
    let phrase = phrases.into_iter().find(|(kind, _)| *kind == change.kind);
    phrase.map_or_else(|| format!("changed {new}"), |(_, phrase)| phrase)
}

/// A path, visible; a question mark where it is not known.
pub(super) fn path(bytes: &[u8]) -> String {
    let mut out = String::new();
    visible(bytes, &mut out);
    if out.is_empty() {
        out.push('?');
    }
    out
}

fn with_command(mut text: String, exec: &Exec) -> String {
    if !exec.args.is_empty() {
        text.push_str(": ");
        text.push_str(&command(exec));
    }
    text
}
