//! The server that something is judged by: the nearest of the lineage that the process was born
//! into, else of the one that it is linked to. Pure.

use tracer_common::tag::{Role, Tag};

use super::{CHILD_EXEC_NS, START_UP_NS};
use crate::event::{Event, Exec, ProcessKey, is_listening};
use crate::lineage::Store;
use crate::lineage::process::{Image, Process, Server, Via, Why};

/// The nearest server of a lineage.
pub(super) struct Nearest<'a> {
    pub(super) server: Server,
    /// Steps up from the subject: to the server, or where that is beside the lineage, to the process
    /// that is linked to it.
    pub(super) depth: usize,
    /// The server is not of the subject's lineage: how the two are connected.
    pub(super) beside: Option<Via>,
    pub(super) process: Option<&'a Process>,
    pub(super) image: Option<&'a Image>,
    /// The process of the chain that the server created; `None` where the subject is the server.
    child: Option<&'a Process>,
    /// Another server made this one, or was it before.
    inside: bool,
}

/// Where a server stands to the subject.
pub(super) struct Place {
    /// See [`Nearest::depth`].
    pub(super) depth: usize,
    /// Where an attack begins: the child that the server made for it, or the process that is linked
    /// to it.
    pub(super) begin: usize,
    /// Its place in the lineage of the subject; `None` where it is beside that.
    pub(super) server_depth: Option<usize>,
    pub(super) server: Option<Server>,
}

/// Walks from the subject to its creators, to a server of a role that `counts`. Of the subject's own
/// programs the one it runs now counts only where `exec` is false: an exec is judged by what ran
/// before it.
pub(super) fn nearest<'a>(
    store: &'a Store,
    event: &Event,
    exec: bool,
    counts: impl Fn(Role) -> bool,
) -> Option<Nearest<'a>> {
    let mut depth = 0;
    let mut child = None;
    let mut linked = None;
    let mut chain = store.chain(event.meta.subject);
    while let Some(process) = chain.next() {
        if let Some((image, server)) = own_server(process, exec && depth == 0, &counts) {
            let other = |known: &Image| {
                let known = known.server.as_ref();
                known.is_some_and(|known| known.name != server.name)
            };
            let inside = process.images.iter().any(other)
                || chain.any(|above| above.images.iter().any(|image| image.server.is_some()));
            return Some(Nearest {
                server: server.clone(),
                depth,
                beside: None,
                process: Some(process),
                image: Some(image),
                child,
                inside,
            });
        }
        if linked.is_none() {
            linked = process.link.map(|link| (depth, link.via));
        }
        depth += 1;
        child = Some(process);
    }
    let tag = event.meta.tag;
    if let Some((depth, via)) = linked {
        let mut chain = store.linked(event.meta.subject);
        let server = chain.find_map(|process| own_server(process, false, &counts));
        let server = server.map(|(_, server)| server.clone());
        if let Some(server) = server.or_else(|| of_tag(tag, &counts)) {
            return Some(Nearest::beside(server, depth, via));
        }
    }
    // The kernel knows more than the store where records were lost.
    Some(Nearest {
        depth: usize::from(tag.distance).min(depth.saturating_sub(1)),
        beside: None,
        ..Nearest::beside(of_tag(tag, &counts)?, 0, Via::File)
    })
}

/// The server of a process: what it runs itself, or what its creator ran where it runs nothing of its
/// own.
fn own_server<'a>(
    process: &'a Process,
    exec: bool,
    counts: &impl Fn(Role) -> bool,
) -> Option<(&'a Image, &'a Server)> {
    // What a process inherited is its creator's, and counts here only while it runs nothing of
    // its own: as with the worker that a server forks. Not at its own exec.
    let of_own = process.images.len() > process.inherited;
    let (front, back) = match (exec, of_own) {
        (true, _) => (process.inherited, 1),
        (false, true) => (process.inherited, 0),
        (false, false) => (0, 0),
    };
    let images = process.images.iter().skip(front).rev().skip(back);
    images
        .filter_map(|image| Some((image, image.server.as_ref()?)))
        .find(|(_, server)| counts(server.role))
}

/// The server that a process descends from, or is; what its tag says where the store does not know.
pub(super) fn server_of(
    store: &Store,
    key: ProcessKey,
    tag: Tag,
    counts: &impl Fn(Role) -> bool,
) -> Option<Server> {
    let mut chain = store.chain(key).chain(store.linked(key));
    let server = chain.find_map(|process| own_server(process, false, counts));
    server
        .map(|(_, server)| server.clone())
        .or_else(|| of_tag(tag, counts))
}

fn of_tag(tag: Tag, counts: &impl Fn(Role) -> bool) -> Option<Server> {
    let role = Role::ALL
        .iter()
        .find(|role| tag.roles & role.bit() != 0 && counts(**role))?;
    Some(Server {
        name: "server".into(),
        role: *role,
        why: Why::Named,
    })
}

impl Place {
    /// That of a subject that has nothing to do with a server.
    pub(super) const NONE: Self = Self {
        depth: 0,
        begin: 0,
        server_depth: None,
        server: None,
    };
}

impl Nearest<'_> {
    /// A server that is not of the subject's lineage. Of that nothing is an exception.
    pub(super) const fn beside(server: Server, depth: usize, via: Via) -> Self {
        Self {
            server,
            depth,
            beside: Some(via),
            process: None,
            image: None,
            child: None,
            inside: true,
        }
    }

    /// What is left of it without the store.
    pub(super) fn place(&self) -> Place {
        let of_lineage = self.beside.is_none();
        Place {
            depth: self.depth,
            begin: if of_lineage {
                self.depth.saturating_sub(1)
            } else {
                self.depth
            },
            server_depth: of_lineage.then_some(self.depth),
            server: Some(self.server.clone()),
        }
    }

    /// The first program that the server's child ran.
    pub(super) fn first(&self) -> Option<&Exec> {
        let child = self.child?;
        Some(&child.images.get(child.inherited)?.exec)
    }

    /// Its place in the lineage of the subject.
    pub(super) fn server_depth(&self) -> Option<usize> {
        self.beside.is_none().then_some(self.depth)
    }

    /// Whether the server is still starting: it executed its program itself and a short time ago,
    /// both witnessed, does not listen yet, and what happens runs as the same user, in a child that
    /// was made for it. A worker is forked to stay and often changes its user: it never is. Nor is a
    /// server that another one runs: php-cgi starts for every request, and an attacker can start any.
    pub(super) fn is_starting(&self, event: &Event) -> bool {
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
            // What is a server by serving serves.
            && self.server.why == Why::Named
            && process.ports.is_empty()
            // A FastCGI server is given the socket to serve on as its standard input.
            && !is_listening(&image.exec.stdio[0])
            && now_boot_ns.saturating_sub(image.boot_ns) < START_UP_NS
            && event.payload.ids().is_none_or(|ids| ids.euid == image.exec.ids.euid)
    }
}
