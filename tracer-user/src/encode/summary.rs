//! Sentences about documents, safe to show.

use tracer_common::event::{EventKind, FdInfo};

use super::scope::Scope;
use super::text::{quoted, visible};
use super::words::{Status, address, signal};
use crate::event::{Exec, FileAccess, Payload};

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
        Payload::Change(change) => {
            let old = path(&change.old);
            let new = path(&change.new);
            match change.kind {
                EventKind::Rename => format!("{who} renamed {old} to {new}"),
                EventKind::Link => format!("{who} linked {old} as {new}"),
                kind => format!("{who} {}: {new}", kind.name()),
            }
        }
        Payload::Socket(socket) => {
            let FdInfo {
                family,
                local_addr,
                local_port,
                ..
            } = socket.socket;
            let verb = match socket.kind {
                EventKind::Listen => "listens on",
                kind => kind.name(),
            };
            match address(family, local_addr) {
                Some(ip) => format!("{who} {verb} {}", std::net::SocketAddr::new(ip, local_port)),
                None => format!("{who} {verb} port {local_port}"),
            }
        }
        Payload::ExecFailed(failed) => {
            format!("{who} could not execute {}", path(&failed.filename))
        }
        Payload::Credentials(credentials) => {
            format!("{who} became user {}", credentials.ids.euid)
        }
        Payload::Namespace(_) => format!("{who} changed namespaces or its root directory"),
        Payload::Trace(trace) => match trace.target {
            Some(target) => format!("{who} reached into process {}", target.tgid),
            None => format!("{who} reached into a process"),
        },
        Payload::Comm(comm) => format!("{who} called itself {}", path(text(&comm.new))),
    }
}

/// What was done with a file.
pub(super) const fn file_verb(file: &FileAccess) -> &'static str {
    match file.kind {
        EventKind::Write => "wrote to",
        EventKind::Map => "mapped",
        EventKind::Read => "opened for reading",
        _ if file.created => "created",
        _ => "opened for writing",
    }
}

/// A string of the kernel: up to its NUL.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or(bytes)
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
