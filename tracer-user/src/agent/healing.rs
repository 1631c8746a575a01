//! Reads `/proc` again where records of process life were lost, on a thread of its own.
//!
//! One reading at a time and [`PAUSE`] between two. Reading a process's arguments reads its memory, and
//! that may be such that the reader waits forever (a page that a file system of the process's own, or
//! userfaultfd(2), does not give). So a reading has [`PATIENCE`]; a process that it got stuck at is read
//! without its memory from then on, and the thread is left behind. After [`STUCK`] of those there is no
//! healing any more, and that is said.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tracer_common::tag::Tag;

use super::{host, tags};
use crate::sensor::Sensor;
use crate::source::snapshot::{self, Reading};

/// Time between the begins of two readings.
const PAUSE: Duration = Duration::from_secs(5);

/// How long a reading may take: it takes a tenth of a millisecond a process, on hosts with millions of
/// them too.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tags that are looked at: as many as the map takes.
const TAGGED: usize = 262_144;

/// Threads left behind.
const STUCK: usize = 16;

pub(super) struct Healing {
    wanted: bool,
    due: Instant,
    /// Why there is no healing, once that is so.
    off: bool,
    running: Option<Running>,
    /// How many readings were begun: a result of an earlier one comes too late.
    begun: u64,
    aside: Vec<u32>,
    give: mpsc::Sender<Found>,
    found: mpsc::Receiver<Found>,
}

struct Running {
    since: Instant,
    at: Arc<AtomicU32>,
}

/// What a reading found.
pub(super) struct Found {
    number: u64,
    /// When it began, nanoseconds since boot.
    pub(super) boot_ns: u64,
    pub(super) records: Vec<Bytes>,
}

impl Healing {
    pub(super) fn new() -> Self {
        let (give, found) = mpsc::channel(1);
        Self {
            wanted: false,
            due: Instant::now(),
            off: false,
            running: None,
            begun: 0,
            aside: Vec::new(),
            give,
            found,
        }
    }

    /// Asks for a reading; it begins at the next [`Self::step`] for which it is time.
    pub(super) const fn want(&mut self) {
        self.wanted = true;
    }

    /// Begins a reading where one is wanted and due, and gives up one that got stuck.
    pub(super) fn step(&mut self, sensor: &Sensor) {
        let now = Instant::now();
        if let Some(running) = &self.running {
            if now < running.since + PATIENCE {
                return;
            }
            let pid = running.at.load(Ordering::Acquire);
            eprintln!(
                "tracer: cannot read the memory of process {pid}: no answer; it is passed over"
            );
            self.aside.push(pid);
            self.running = None;
            self.wanted = true;
            if self.aside.len() >= STUCK {
                self.stop("too many processes do not let their memory be read");
            }
        }
        if self.wanted && !self.off && now >= self.due {
            self.wanted = false;
            self.due = now + PAUSE;
            if let Err(why) = self.begin(sensor) {
                self.stop(&why);
            }
        }
    }

    fn stop(&mut self, why: &str) {
        self.off = true;
        eprintln!("tracer: what was lost stays lost, /proc is not read again: {why}");
    }

    fn begin(&mut self, sensor: &Sensor) -> Result<(), String> {
        if !host::sees_all_processes() {
            return Err("this is not the host's pid namespace".to_owned());
        }
        let mut tags = sensor.share_tags().map_err(|error| error.to_string())?;
        self.begun += 1;
        let (number, aside, give) = (self.begun, self.aside.clone(), self.give.clone());
        let at = Arc::new(AtomicU32::new(0));
        self.running = Some(Running {
            since: Instant::now(),
            at: Arc::clone(&at),
        });
        let read = move || {
            let boot_ns = host::boot_ns();
            let mut records = Vec::new();
            let tagged: Vec<u32> = tags.tagged(TAGGED).collect();
            let reading = Reading {
                proc: Path::new("/proc"),
                boot_ns,
                tag: &|tgid| tags.get(tgid).unwrap_or(Tag::ZERO),
                at: &at,
                aside: &aside,
            };
            // A `/proc` that cannot be listed shows nobody, which is not believed.
            if let Err(error) = reading.take(|record| records.push(record)) {
                eprintln!("tracer: cannot read /proc: {error}");
                records.clear();
            }
            // Whose end the kernel side has not seen, or who ended before its tag was set.
            tags::sweep(&mut tags, tagged, |tgid| {
                snapshot::started(Path::new("/proc"), tgid).is_some()
            });
            let found = Found {
                number,
                boot_ns,
                records,
            };
            // Nobody listens where the agent has ended or has given this reading up.
            let _ended = give.try_send(found);
        };
        std::thread::Builder::new()
            .name("tracer-heal".to_owned())
            .spawn(read)
            .map(std::mem::drop)
            .map_err(|error| error.to_string())
    }

    /// Waits for the next reading. Cancel safe.
    pub(super) async fn found(&mut self) -> Found {
        loop {
            match self.found.recv().await {
                Some(found) if found.number == self.begun => {
                    self.running = None;
                    if !found.records.is_empty() {
                        return found;
                    }
                }
                Some(_) => {}
                // The agent holds a sender, so this does not happen while it runs.
                None => std::future::pending().await,
            }
        }
    }
}
