//! Servers whose configuration is read for the directories they serve.
//!
//! Read in the background, two at a time: once when a server is seen, and again every minute while
//! it lives, as a reload gives it a new configuration without a new program. Servers that run the
//! same program with the same arguments are one. Bounded: a server beyond the bound keeps the
//! default directories.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};

use crate::enrich::docroot::{DiscoverRequest, Discovery, Entry, discover};
use crate::pipeline::ServerSeen;

/// Servers followed at once.
const SERVERS: usize = 1024;

/// How often a configuration is read again.
const AGAIN: Duration = Duration::from_secs(60);

/// Directories that wait for the pipeline.
const FOUND: usize = 4096;

pub(super) struct Servers {
    known: HashMap<Kind, Known>,
    found: mpsc::Receiver<Entry>,
    give: mpsc::Sender<Entry>,
    slots: Arc<Semaphore>,
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

    /// Reads the configuration of every server that is due, now and here.
    pub(super) fn settle(&mut self) -> Vec<Entry> {
        let again = Instant::now() + AGAIN;
        self.known
            .values_mut()
            .flat_map(|known| {
                known.due = again;
                read(&known.request)
            })
            .collect()
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
            tokio::spawn(async move {
                let Ok(_slot) = slots.acquire().await else {
                    return;
                };
                let entries = tokio::task::spawn_blocking(move || read(&request)).await;
                for entry in entries.unwrap_or_default() {
                    if give.send(entry).await.is_err() {
                        return;
                    }
                }
            });
        }
    }

    /// Waits for the next directory that was found.
    pub(super) async fn found(&mut self) -> Entry {
        match self.found.recv().await {
            Some(entry) => entry,
            // The agent holds a sender, so this does not happen while it runs.
            None => std::future::pending().await,
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
    for problem in problems {
        eprintln!("tracer: {problem}");
    }
    directories
        .into_iter()
        .map(|found| Entry {
            mnt_ns: None,
            ..found.into_entry(request.mnt_ns)
        })
        .collect()
}
