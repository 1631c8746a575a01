//! The servers of a host: which processes they are, by what they are known, what they have below them.
//! Pure.
//!
//! A server is one process here, the one that a supervisor started: its workers are part of it, whose
//! ports are its own.

use std::collections::HashMap;

use super::Store;
use super::process::{Process, Server};
use crate::alert::{Directory, ProcessView};
use crate::detect::roles;
use crate::event::ProcessKey;

/// A server that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// Its process: entity id, pid, container and what else is known of it.
    pub process: ProcessView,
    /// Its name and its role.
    pub server: Server,
    /// By what it is known.
    pub why: &'static str,
    /// Ports that it or a worker of its listens on, in order.
    pub ports: Vec<u16>,
    /// Directories that its configuration names. Who reads that adds them: not known to the pipeline.
    pub directories: Vec<Directory>,
    /// Living processes below it, its workers among them.
    pub descendants: usize,
}

/// What is known of a server without its surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its process.
    pub key: ProcessKey,
    /// Its name and its role.
    pub server: Server,
    /// See [`ServerView::why`].
    pub why: &'static str,
    /// See [`ServerView::ports`].
    pub ports: Vec<u16>,
    /// See [`ServerView::descendants`].
    pub descendants: usize,
}

/// The servers that run, in the order in which they were started.
#[must_use]
pub fn running(store: &Store) -> Vec<Running> {
    let mut found: HashMap<ProcessKey, Running> = HashMap::new();
    let living = || store.all().filter(|process| process.ended.is_none());
    for process in living() {
        if let Some(server) = server(process) {
            let head = head(store, process, server);
            let running = found.entry(head.key).or_insert_with(|| Running {
                key: head.key,
                server: server.clone(),
                why: why(head),
                ports: Vec::new(),
                descendants: 0,
            });
            running.ports.extend(&process.ports);
        }
    }
    for process in living() {
        for above in store.chain(process.key).skip(1) {
            if let Some(running) = found.get_mut(&above.key) {
                running.descendants += 1;
            }
        }
    }
    let mut found: Vec<Running> = found.into_values().collect();
    for running in &mut found {
        running.ports.sort_unstable();
        running.ports.dedup();
    }
    found.sort_unstable_by_key(|running| (running.key.start_ticks, running.key.tgid));
    found
}

/// The server that a process is.
#[must_use]
pub fn server(process: &Process) -> Option<&Server> {
    process.image()?.server.as_ref()
}

/// The process that a worker is a worker of.
fn head<'a>(store: &'a Store, process: &'a Process, of: &Server) -> &'a Process {
    store
        .chain(process.key)
        .take_while(|above| above.ended.is_none() && server(above) == Some(of))
        .last()
        .unwrap_or(process)
}

/// By what a server is known: its program, the title that it gave itself, or that it listens.
fn why(process: &Process) -> &'static str {
    let Some(image) = process.image() else {
        return "unknown";
    };
    if roles::by_exec(&image.exec).is_some() {
        "program"
    } else if roles::by_title(&image.exec).is_some() {
        "title"
    } else {
        "listening"
    }
}
