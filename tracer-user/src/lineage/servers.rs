//! The servers that run: who each is, what made it known, where it takes connections and what descends from
//! it. Pure.
//!
//! One entry a server, not one a worker: a process that runs nothing but what a server before it in its chain
//! ran is one of that server's descendants.

use std::collections::HashMap;

use tracer_common::tag::Role;

use super::Store;
use super::process::{Image, Process, Why};
use crate::event::ProcessKey;

/// A server that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// The process.
    pub key: ProcessKey,
    /// Its name, from the roles table or its executable's.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// What it is known by.
    pub why: Why,
    /// Since when it runs that program, nanoseconds since boot.
    pub since_boot_ns: u64,
    /// Its executable.
    pub executable: Vec<u8>,
    /// Its effective user; `None` where unknown.
    pub uid: Option<u32>,
    /// Ports that it, or a worker of its, listens on or takes connections at, ascending.
    pub ports: Vec<u16>,
    /// The container it runs in.
    pub container: Option<String>,
    /// Processes that live and whose nearest server it is, itself left out.
    pub descendants: usize,
    /// Those of them that run a program of their own, by which they are no workers.
    pub programs: usize,
    /// The server of whose lineage it is itself.
    pub below: Option<ProcessKey>,
}

/// The servers that live, in the order in which they started.
#[must_use]
pub fn servers(store: &Store) -> Vec<ServerView> {
    let mut found: HashMap<ProcessKey, ServerView> = HashMap::new();
    for process in store.living() {
        if let Some(image) = own(process) {
            found.extend(view(store, process, image).map(|view| (process.key, view)));
        }
    }
    for process in store.living() {
        let mut chain = store.chain(process.key);
        let Some(server) = chain.find_map(|above| found.get(&above.key)).map(|s| s.key) else {
            continue;
        };
        let Some(server) = found
            .get_mut(&server)
            .filter(|view| view.key != process.key)
        else {
            continue;
        };
        server.descendants += 1;
        let image = process.image().filter(|image| image.server.is_some());
        if process.images.len() == process.inherited || image.is_some() {
            server.ports.extend(&process.ports);
        } else {
            server.programs += 1;
        }
    }
    let mut all: Vec<ServerView> = found.into_values().collect();
    for server in &mut all {
        server.ports.sort_unstable();
        server.ports.dedup();
    }
    all.sort_unstable_by_key(|server| (server.key.start_ticks, server.key.tgid));
    all
}

/// The server that a process runs, where it is no worker: it executed the program itself, or nobody above it
/// is that server.
fn own(process: &Process) -> Option<&Image> {
    process.image().filter(|image| image.server.is_some())
}

fn view(store: &Store, process: &Process, image: &Image) -> Option<ServerView> {
    let server = image.server.as_ref()?;
    let mut above = store.chain(process.key).skip(1);
    let below = above.find(|above| above.images.iter().any(|image| image.server.is_some()));
    // One that ran before the agent did has no program that is known to be inherited: there it is the same
    // program of the same server.
    let is_same = |above: &Process| {
        let theirs = above.image().filter(|_| image.observed);
        theirs.is_some_and(|theirs| {
            theirs.server == image.server && theirs.exec.file == image.exec.file
        })
    };
    let is_worker = below.is_some_and(|above| {
        let inherits = process.images.len() == process.inherited;
        above.ended.is_none() && (inherits || is_same(above))
    });
    (!is_worker).then(|| ServerView {
        key: process.key,
        name: server.name.to_string(),
        role: server.role,
        why: server.why,
        since_boot_ns: if image.observed {
            // It was read then; it has run it for longer.
            process.start_boot_ns
        } else {
            image.boot_ns
        },
        executable: image.exec.exe.clone(),
        uid: process.ids.map(|ids| ids.euid),
        ports: process.ports.clone(),
        container: store.place(process).map(|place| place.id.clone()),
        descendants: 0,
        programs: 0,
        below: below.map(|above| above.key),
    })
}
