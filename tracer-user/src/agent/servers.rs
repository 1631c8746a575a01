//! Servers whose configuration is read for the directories they serve.
//!
//! Read in the background, two at a time: once when a server is seen, and again every minute while
//! it lives, as a reload gives it a new configuration without a new program. Servers that run the
//! same program with the same arguments are one. Bounded: a server beyond the bound keeps the
//! default directories.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};

use crate::enrich::docroot::{DiscoverRequest, Discovery, Entry, discover};
use crate::pipeline::ServerSeen;

/// Servers followed at once.
const SERVERS: usize = 1024;

/// How often a configuration is read again.
const AGAIN: Duration = Duration::from_secs(60);

/// Directories taken from one server: those of one host's sites, not room for a flood.
const DIRECTORIES: usize = 1024;

/// Directories that wait for the pipeline.
const FOUND: usize = 4096;

pub(super) struct Servers {
    known: HashMap<Kind, Known>,
    found: mpsc::Receiver<Found>,
    give: mpsc::Sender<Found>,
    slots: Arc<Semaphore>,
    /// Readings begun and not ended.
    reading: Arc<AtomicUsize>,
}

/// What a reading tells.
enum Found {
    Directory(Entry),
    Done,
}

/// What makes two processes the same server.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    server: &'static str,
    exe: Vec<u8>,
    args: Vec<Vec<u8>>,
    cwd: Vec<u8>,
    mnt_ns: u32,
}

struct Known {
    request: DiscoverRequest,
    due: Instant,
}

impl Servers {
    pub(super) fn new() -> Self {
        let (give, found) = mpsc::channel(FOUND);
        Self {
            known: HashMap::new(),
            found,
            give,
            slots: Arc::new(Semaphore::new(2)),
            reading: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Notes a server; its configuration is read at the next [`Self::refresh`].
    pub(super) fn seen(&mut self, seen: ServerSeen) {
        let ServerSeen { key, server, image } = seen;
        let exec = &image.exec;
        let kind = Kind {
            server,
            exe: exec.exe.clone(),
            args: exec.args.clone(),
            cwd: exec.cwd.clone(),
            mnt_ns: exec.ns.mnt,
        };
        let request = DiscoverRequest {
            tgid: key.tgid,
            start_ticks: key.start_ticks,
            server,
            args: exec.args.clone(),
            exe: exec.exe.clone(),
            cwd: exec.cwd.clone(),
            mnt_ns: exec.ns.mnt,
        };
        if let Some(known) = self.known.get_mut(&kind) {
            // The same server in another process: read through the one that lives.
            known.request = request;
        } else if self.known.len() < SERVERS {
            self.known.insert(
                kind,
                Known {
                    request,
                    due: Instant::now(),
                },
            );
        }
    }

    /// Reads what is due and gives what was found until all is read, or until `patience` is over:
    /// the rest comes by [`Self::found`].
    pub(super) async fn settle(&mut self, patience: Duration) -> Vec<Entry> {
        self.refresh();
        let mut entries = Vec::new();
        let deadline = tokio::time::Instant::now() + patience;
        while self.reading.load(Ordering::Acquire) > 0 || !self.found.is_empty() {
            match tokio::time::timeout_at(deadline, self.found.recv()).await {
                Ok(Some(Found::Directory(entry))) => entries.push(entry),
                Ok(Some(Found::Done)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        entries
    }

    /// Begins to read what is due, and forgets servers that have ended.
    pub(super) fn refresh(&mut self) {
        let now = Instant::now();
        self.known.retain(|_, known| {
            known.due > now || PathBuf::from(format!("/proc/{}", known.request.tgid)).exists()
        });
        for known in self.known.values_mut().filter(|known| known.due <= now) {
            known.due = now + AGAIN;
            let (request, give) = (known.request.clone(), self.give.clone());
            let slots = Arc::clone(&self.slots);
            let reading = Arc::clone(&self.reading);
            reading.fetch_add(1, Ordering::AcqRel);
            tokio::spawn(async move {
                let Ok(_slot) = slots.acquire().await else {
                    return;
                };
                let entries = tokio::task::spawn_blocking(move || read(&request)).await;
                for entry in entries.unwrap_or_default() {
                    if give.send(Found::Directory(entry)).await.is_err() {
                        return;
                    }
                }
                reading.fetch_sub(1, Ordering::AcqRel);
                // Wakes `settle`; a closed channel means that the agent has ended.
                let _ended = give.send(Found::Done).await;
            });
        }
    }

    /// Waits for the next directory that was found.
    pub(super) async fn found(&mut self) -> Entry {
        loop {
            match self.found.recv().await {
                Some(Found::Directory(entry)) => return entry,
                Some(Found::Done) => {}
                // The agent holds a sender, so this does not happen while it runs.
                None => std::future::pending().await,
            }
        }
    }
}

/// Directories hold in every mount namespace: nginx and php-fpm of one site often run in two
/// containers that share its files under one path.
fn read(request: &DiscoverRequest) -> Vec<Entry> {
    let Discovery {
        directories,
        problems,
        ..
    } = discover(request);
    // A process that has ended meanwhile is no problem.
    if PathBuf::from(format!("/proc/{}", request.tgid)).exists() {
        for problem in problems {
            eprintln!("tracer: {problem}");
        }
    }
    directories
        .into_iter()
        .take(DIRECTORIES)
        .map(|found| Entry {
            mnt_ns: None,
            ..found.into_entry(request.mnt_ns)
        })
        .collect()
}
