//! Sentences about documents, safe to show.

use super::scope::Scope;
use super::text::{quoted, visible};
use super::words::{Status, address, signal};
use crate::event::{Exec, Payload};

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
        Payload::Open(open) => {
            let verb = if open.created {
                "created"
            } else {
                "opened for writing"
            };
            format!("{who} {verb} {}", path(&open.path))
        }
        Payload::Rename(rename) => format!(
            "{who} renamed {} to {}",
            path(&rename.old),
            path(&rename.new)
        ),
        Payload::Listen(listen) => match address(listen.family, listen.addr) {
            Some(ip) => format!(
                "{who} listens on {}",
                std::net::SocketAddr::new(ip, listen.port)
            ),
            None => format!("{who} listens on port {}", listen.port),
        },
    }
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
