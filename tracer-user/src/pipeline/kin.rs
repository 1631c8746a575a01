//! Whom a process belongs to beside its creators, as a document shows it: its parent now, the leaders of its
//! group and session, and how its lineage came onto the host.

use tracer_common::event::FdInfo;

use super::Pipeline;
use crate::alert::{Entry, Kin};
use crate::event::{ProcessKey, is_inet};
use crate::lineage::process::{Image, Process};

/// Programs that take logins from afar, one of which is below each login.
const SSHD: &[&[u8]] = &[b"sshd", b"sshd-session", b"sshd-auth", b"dropbear"];

impl Pipeline {
    pub(super) fn kin(&self, key: ProcessKey) -> Kin {
        let Some(process) = self.store.get(key) else {
            return Kin::default();
        };
        let parent = self.store.parent(process);
        let leader = |number: Option<u32>| {
            let number = number.filter(|number| *number != 0)?;
            let since = process.image()?.boot_ns;
            let leader = self.store.holder(number, since)?;
            Some(self.view(leader))
        };
        let exec = process.image().map(|image| &image.exec);
        Kin {
            parent: parent
                .and_then(|parent| self.store.get(parent.key))
                .map(|parent| self.view(parent)),
            parent_inferred: parent.is_some_and(|parent| parent.inferred),
            group_leader: leader(exec.map(|exec| exec.pgid)),
            session_leader: leader(exec.map(|exec| exec.sid)),
            entry: self.entered(key),
        }
    }

    /// The nearest process of the lineage that a login from afar or a container began with, else the one that
    /// the first process of the host made.
    pub(super) fn entered(&self, key: ProcessKey) -> Option<Entry> {
        let mut chain = self.store.chain(key).peekable();
        while let Some(process) = chain.next() {
            let above = *chain.peek()?;
            let kind = if is_sshd(above) && !is_sshd(process) {
                "sshd"
            } else if self.store.place(process).is_some_and(|inside| {
                let around = self.store.place(above);
                around.is_none_or(|around| around.id != inside.id)
            }) {
                "container"
            } else if above.key.tgid == 1 && process.image()?.exec.tty.is_some() {
                "console"
            } else if above.key.tgid == 1 {
                "init"
            } else {
                continue;
            };
            let socket = if kind == "sshd" {
                std::iter::once(above)
                    .chain(chain.skip(1))
                    .take_while(|process| is_sshd(process))
                    .find_map(connection)
            } else {
                None
            };
            return Some(Entry {
                leader: self.view(process),
                kind,
                socket,
            });
        }
        None
    }
}

fn is_sshd(process: &Process) -> bool {
    process.image().is_some_and(takes_logins)
}

fn takes_logins(image: &Image) -> bool {
    let name = image.exec.exe.rsplit(|byte| *byte == b'/').next();
    name.is_some_and(|name| SSHD.contains(&name))
}

/// The connection that it was handed as its standard input, as sshd hands it on to the program of a session.
fn connection(process: &Process) -> Option<FdInfo> {
    let images = process.images.iter().filter(|image| takes_logins(image));
    let mut fds = images.flat_map(|image| &image.exec.stdio);
    fds.find(|fd| is_inet(fd) && fd.remote_port != 0).copied()
}
