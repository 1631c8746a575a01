//! Servers whose configuration is read for the directories they serve, and where those are.
//!
//! Read in the background, two at a time: once when a server is seen, and again every minute while
//! it lives, as a reload gives it a new configuration without a new program. Servers that run the
//! same program with the same arguments are one. Bounded: a server beyond the bound keeps the
//! default directories.
//!
//! Directories are identified as the server sees them, those of its configuration and, where it sees
//! other mounts or another root than the agent, the default and the user's ones too: again with each
//! reading, and soon after a server's lineage made or renamed something that may be one.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};

use super::places::{Moved, Places, View};
use crate::enrich::docroot::{DiscoverRequest, Discovery, Entry, discover, identify};
use crate::event::FileId;
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
    /// Directories that hold whatever server is seen: the user's and the default ones.
    everywhere: Arc<[Entry]>,
    places: Places,
    views: View,
    /// Something happened that may have moved directories.
    stale: bool,
    found: mpsc::Receiver<Word>,
    give: mpsc::Sender<Word>,
    /// What was found and not asked for yet.
    waiting: VecDeque<Found>,
    slots: Arc<Semaphore>,
    /// Readings begun and not ended.
    reading: Arc<AtomicUsize>,
}

/// What is found out.
pub(super) enum Found {
    /// A directory that a server names.
    Directory(Entry),
    /// Where a directory is, or no longer.
    Moved(Moved),
}

/// What a reading tells.
enum Word {
    Directory(Entry),
    /// All that a view names, and where it is.
    Places(View, Vec<(FileId, Entry)>),
    /// The directories of a server's configuration.
    Named(View, Arc<[Entry]>),
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
    view: View,
    /// What its configuration named when it was read last.
    named: Arc<[Entry]>,
}

impl Servers {
    /// No server yet; the directories that hold everywhere, as the agent itself sees them.
    pub(super) fn new(everywhere: Vec<Entry>) -> Self {
        let (give, found) = mpsc::channel(FOUND);
        let mut servers = Self {
            known: HashMap::new(),
            everywhere: everywhere.into(),
            places: Places::default(),
            views: 0,
            stale: false,
            found,
            give,
            waiting: VecDeque::new(),
            slots: Arc::new(Semaphore::new(2)),
            reading: Arc::new(AtomicUsize::new(0)),
        };
        match DiscoverRequest::own() {
            Ok(request) => servers.insert(Kind::own(), request),
            Err(error) => {
                eprintln!("tracer: directories are known by name only: /proc/self: {error}");
            }
        }
        servers
    }

    /// How many directories found no room to be watched by identity.
    pub(super) const fn refused(&self) -> u64 {
        self.places.refused()
    }

    /// Something that may be a directory was made, renamed or mounted: they are identified anew at the
    /// next [`Self::refresh`].
    pub(super) const fn moved(&mut self) {
        self.stale = true;
    }

    fn insert(&mut self, kind: Kind, request: DiscoverRequest) {
        let known = Known {
            request,
            due: Instant::now(),
            view: self.views,
            named: Arc::new([]),
        };
        self.views += 1;
        self.known.insert(kind, known);
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
            self.insert(kind, request);
        }
    }

    /// Reads what is due and gives what was found until all is read, or until `patience` is over:
    /// the rest comes by [`Self::found`].
    pub(super) async fn settle(&mut self, patience: Duration) -> Vec<Found> {
        self.refresh();
        let deadline = tokio::time::Instant::now() + patience;
        while self.reading.load(Ordering::Acquire) > 0 || !self.found.is_empty() {
            match tokio::time::timeout_at(deadline, self.found.recv()).await {
                Ok(Some(word)) => self.hear(word),
                Ok(None) | Err(_) => break,
            }
        }
        std::mem::take(&mut self.waiting).into()
    }

    /// Begins to read what is due, and forgets servers that have ended.
    pub(super) fn refresh(&mut self) {
        let now = Instant::now();
        let lives = |known: &Known| {
            Path::new("/proc")
                .join(known.request.tgid.to_string())
                .exists()
        };
        let ended = self
            .known
            .extract_if(|_, known| known.due <= now && !lives(known));
        let ended: Vec<View> = ended.map(|(_, known)| known.view).collect();
        for view in ended {
            let moved = self.places.replace(view, Vec::new());
            self.waiting.extend(moved.into_iter().map(Found::Moved));
        }
        let stale = std::mem::take(&mut self.stale);
        for (kind, known) in &mut self.known {
            let is_due = known.due <= now;
            if !is_due && !stale {
                continue;
            }
            if is_due {
                known.due = now + AGAIN;
            }
            let work = Work {
                request: known.request.clone(),
                view: known.view,
                // The agent has no configuration of this kind.
                reads: is_due && !kind.server.is_empty(),
                named: Arc::clone(&known.named),
                everywhere: Arc::clone(&self.everywhere),
            };
            let give = self.give.clone();
            let slots = Arc::clone(&self.slots);
            let reading = Arc::clone(&self.reading);
            reading.fetch_add(1, Ordering::AcqRel);
            tokio::spawn(async move {
                let Ok(_slot) = slots.acquire().await else {
                    return;
                };
                let words = tokio::task::spawn_blocking(move || work.perform()).await;
                for word in words.unwrap_or_default() {
                    if give.send(word).await.is_err() {
                        return;
                    }
                }
                reading.fetch_sub(1, Ordering::AcqRel);
                // Wakes `settle`; a closed channel means that the agent has ended.
                let _ended = give.send(Word::Done).await;
            });
        }
    }

    /// Waits for the next thing that was found.
    pub(super) async fn found(&mut self) -> Found {
        loop {
            if let Some(found) = self.waiting.pop_front() {
                return found;
            }
            match self.found.recv().await {
                Some(word) => self.hear(word),
                // The agent holds a sender, so this does not happen while it runs.
                None => std::future::pending().await,
            }
        }
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::Directory(entry) => self.waiting.push_back(Found::Directory(entry)),
            Word::Places(view, places) => {
                // Not of a server that was forgotten meanwhile: nobody would take it back.
                if self.known.values().any(|known| known.view == view) {
                    let moved = self.places.replace(view, places);
                    self.waiting.extend(moved.into_iter().map(Found::Moved));
                }
            }
            Word::Named(view, named) => {
                let known = self.known.values_mut().find(|known| known.view == view);
                if let Some(known) = known {
                    known.named = named;
                }
            }
            Word::Done => {}
        }
    }
}

impl Kind {
    /// The agent itself, which is no server.
    const fn own() -> Self {
        Self {
            server: "",
            exe: Vec::new(),
            args: Vec::new(),
            cwd: Vec::new(),
            mnt_ns: 0,
        }
    }
}

/// One reading.
struct Work {
    request: DiscoverRequest,
    view: View,
    /// Whether the configuration is read, or taken as it was.
    reads: bool,
    named: Arc<[Entry]>,
    everywhere: Arc<[Entry]>,
}

impl Work {
    fn perform(self) -> Vec<Word> {
        let mut words = Vec::new();
        let mut named = self.named;
        if self.reads {
            let entries = read(&self.request);
            words.extend(entries.iter().cloned().map(Word::Directory));
            named = entries.into();
            words.push(Word::Named(self.view, Arc::clone(&named)));
        }
        let mut entries = named.to_vec();
        // What the agent sees for itself it has asked for itself.
        if self.request.server.is_empty() || sees_otherwise(self.request.tgid) {
            entries.extend(self.everywhere.iter().cloned());
        }
        words.push(Word::Places(self.view, identify(&self.request, &entries)));
        words
    }
}

/// Whether a process has other mounts or another root than the agent.
fn sees_otherwise(tgid: u32) -> bool {
    let view = |process: &str| {
        ["ns/mnt", "root"]
            .map(|link| std::fs::read_link(Path::new("/proc").join(process).join(link)))
    };
    let same = view(&tgid.to_string())
        .into_iter()
        .zip(view("self"))
        .all(|(theirs, own)| matches!((theirs, own), (Ok(theirs), Ok(own)) if theirs == own));
    !same
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
