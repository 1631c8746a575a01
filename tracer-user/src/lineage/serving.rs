//! Who serves: what makes a process a server beyond its name, and what makes it none. Pure.
//!
//! A process that listens, or that takes connections from a socket that it was handed, is a server, unless it
//! is a way to the host itself ([`roles::entry`]), or serves for somebody who is logged in: a development
//! server. The latter is none for as long as the session lasts, and a server from then on. Below a server
//! neither holds.

use std::collections::BTreeSet;

use tracer_common::event::{EventKind, FdInfo, fd_kind};

use super::process::{Process, Why};
use super::{PORTS, Retag, Store};
use crate::detect::roles;
use crate::detect::roles::entry::{Entry, entry};
use crate::event::{Meta, ProcessKey, Socket};

/// Processes that serve within sessions, of all sessions: more are servers.
const DEVELOPING: usize = 4096;

/// Processes that serve within a session: the session's, and the one that serves.
pub(super) type Developing = BTreeSet<(ProcessKey, ProcessKey)>;

/// Where a process stands that begins to serve.
enum Standing {
    /// In the lineage of a server.
    Below,
    /// In none.
    Apart,
    /// In a session that lasts.
    Session(ProcessKey),
    /// It is a way to the host itself.
    Entry,
}

/// Whether a socket is of the internet families, in whatever state.
const fn is_inet(socket: &FdInfo) -> bool {
    /// `AF_INET` and `AF_INET6`, include/linux/socket.h
    const INET: u16 = 2;
    const INET6: u16 = 10;
    socket.kind == fd_kind::SOCKET && matches!(socket.family, INET | INET6)
}

impl Store {
    /// A process uses a socket. A unix socket has no port and serves nobody from afar.
    pub(super) fn socket(&mut self, meta: &Meta, used: &Socket, retag: &mut Vec<Retag>) {
        let why = if used.kind == EventKind::Listen {
            Why::Listens
        } else if used.kind == EventKind::Accept {
            Why::Accepts
        } else {
            return;
        };
        if is_inet(&used.socket) {
            self.serves(meta, used.socket.local_port, why, retag);
        }
    }

    /// A process listens, or takes a connection.
    fn serves(&mut self, meta: &Meta, port: u16, why: Why, retag: &mut Vec<Retag>) {
        let key = meta.subject;
        let Some(process) = self.get_mut(key) else {
            return;
        };
        // Zero is a port that the kernel has not chosen yet: another record tells it.
        let is_new = port != 0 && !process.ports.contains(&port);
        if is_new && process.ports.len() < PORTS {
            process.ports.push(port);
        }
        if process.image().is_none_or(|image| image.server.is_some()) {
            return;
        }
        match self.standing(key) {
            Standing::Entry => {}
            Standing::Session(session) if self.developing.len() < DEVELOPING => {
                self.developing.insert((session, key));
                if let Some(process) = self.get_mut(key) {
                    process.session = Some(session);
                }
            }
            standing @ (Standing::Below | Standing::Apart | Standing::Session(_)) => {
                let below = matches!(standing, Standing::Below);
                self.becomes_server(key, below, why, retag);
            }
        }
    }

    /// A process has ended: what served in its session is a server from now on.
    pub(super) fn leaves(&mut self, key: ProcessKey, retag: &mut Vec<Retag>) {
        if self.developing.is_empty() {
            return;
        }
        if let Some(session) = self.get(key).and_then(|process| process.session) {
            self.developing.remove(&(session, key));
        }
        const FIRST: ProcessKey = ProcessKey {
            tgid: 0,
            start_ticks: 0,
        };
        while let Some(&(session, served)) = self.developing.range((key, FIRST)..).next() {
            if session != key {
                return;
            }
            self.developing.remove(&(session, served));
            let Some(process) = self.get_mut(served) else {
                continue;
            };
            process.session = None;
            if process.ended.is_none() {
                self.becomes_server(served, false, Why::Listens, retag);
            }
        }
    }

    /// Below a server only a runtime is one of its own: all else that listens there is that server's, as an
    /// attacker's listener is.
    fn becomes_server(&mut self, key: ProcessKey, below: bool, why: Why, retag: &mut Vec<Retag>) {
        let Some(process) = self.get_mut(key) else {
            return;
        };
        let Some(image) = process.images.last_mut() else {
            return;
        };
        let server = if below {
            roles::runtime(&image.exec, why)
        } else {
            Some(roles::by_serving(&image.exec, why))
        };
        let Some(server) = server.filter(|_| image.server.is_none()) else {
            return;
        };
        let before = process.tag;
        process.tag = before.serving(server.role.bit(), key.tgid);
        image.server = Some(server);
        if process.tag.roles & !before.roles != 0 {
            retag.push(Retag::Set(key, process.tag));
        }
    }

    fn standing(&self, key: ProcessKey) -> Standing {
        let mut way: Option<(Entry, &Process)> = None;
        for process in self.chain(key) {
            let served = process.images.iter().any(|image| image.server.is_some());
            if served || process.tag.is_server_lineage() || process.link.is_some() {
                return Standing::Below;
            }
            way = way.or_else(|| Some((entry(process)?, process)));
        }
        match way {
            Some((_, process)) if process.key == key => Standing::Entry,
            Some((way, process)) if way.is_session() && process.ended.is_none() => {
                Standing::Session(process.key)
            }
            Some(_) | None => Standing::Apart,
        }
    }
}
