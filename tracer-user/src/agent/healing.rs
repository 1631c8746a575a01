//! Reads `/proc`: once when the agent begins, and again where records of process life were lost.
//!
//! One reading at a time, on a thread [apart](super::apart), and [`PAUSE`] between two. Reading a
//! process's arguments reads its memory, and that may be such that the reader waits for ever (a page of
//! a file whose file system is a program of the process's own). Such a process is set aside, which is
//! told: from then on it is read without its memory, and so is every other of its user where a second
//! one is as bad; after [`ASIDE`] of them, every process of whoever is not root.

use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracer_common::tag::Tag;

use super::apart::{Apart, Limits, Word};
use super::owner::Owner;
use super::{host, tags};
use crate::sensor::Sensor;
use crate::source::snapshot::{self, Aside, Reading};

/// Time between the begins of two readings.
const PAUSE: Duration = Duration::from_secs(5);

/// Processes that are set aside before all of users are.
const ASIDE: usize = 16;

/// To read a process takes a tenth of a millisecond.
const LIMITS: Limits = Limits {
    at_once: 1,
    stuck: 2 * ASIDE,
    patience: Duration::from_secs(5),
};

/// Tags that are looked at: as many as the map takes.
const TAGGED: usize = 262_144;

pub(super) struct Healing {
    wanted: bool,
    due: Instant,
    /// There is no healing any more.
    off: bool,
    /// A reading is under way.
    running: bool,
    /// How many readings were begun: a result of an earlier one comes too late.
    begun: u64,
    aside: Aside,
    apart: Apart<Result<Found, String>>,
}

/// What a reading found.
pub(super) struct Found {
    /// When it began, nanoseconds since boot.
    pub(super) boot_ns: u64,
    pub(super) records: Vec<Bytes>,
}

impl Healing {
    pub(super) fn new() -> Self {
        Self {
            wanted: false,
            due: Instant::now(),
            off: false,
            running: false,
            begun: 0,
            aside: Aside::default(),
            apart: Apart::new("tracer-proc", LIMITS),
        }
    }

    /// The processes that run when the agent begins, as records of this time; no tags are known.
    ///
    /// # Errors
    ///
    /// Why `/proc` cannot be read.
    pub(super) async fn first(&mut self, boot_ns: u64) -> Result<Vec<Bytes>, String> {
        loop {
            self.begin(move |at, aside| {
                read(boot_ns, at, aside, &|_| Tag::ZERO).map_err(|error| error.to_string())
            });
            if let Some(found) = self.next().await {
                return found.map(|found| found.records);
            }
            if self.off {
                return Err("too many processes of root do not let their memory be read".to_owned());
            }
        }
    }

    /// Asks for a reading; it begins at the next [`Self::step`] for which it is time.
    pub(super) const fn want(&mut self) {
        self.wanted = true;
    }

    /// Begins a reading where one is wanted and due.
    pub(super) fn step(&mut self, sensor: &Sensor) {
        let now = Instant::now();
        if !self.wanted || self.off || self.running || now < self.due {
            return;
        }
        self.wanted = false;
        self.due = now + PAUSE;
        if !host::sees_all_processes() {
            return self.stop("this is not the host's pid namespace");
        }
        let mut tags = match sensor.share_tags() {
            Ok(tags) => tags,
            Err(error) => return self.stop(&error.to_string()),
        };
        self.begin(move |at, aside| {
            let tagged: Vec<u32> = tags.tagged(TAGGED).collect();
            let tag = |tgid| tags.get(tgid).unwrap_or(Tag::ZERO);
            let found = read(host::boot_ns(), at, aside, &tag).map_err(|error| error.to_string());
            // Whose end the kernel side has not seen, or who ended before its tag was set.
            tags::sweep(&mut tags, tagged, |tgid| {
                snapshot::started(Path::new("/proc"), tgid).is_some()
            });
            found
        });
    }

    /// Waits for the next reading. Cancel safe.
    pub(super) async fn found(&mut self) -> Found {
        loop {
            match self.next().await {
                Some(Ok(found)) => return found,
                // A `/proc` that cannot be listed shows nobody, which is not believed.
                Some(Err(error)) => eprintln!("tracer: cannot read /proc: {error}"),
                None => self.wanted = true,
            }
        }
    }

    fn begin(
        &mut self,
        read: impl FnOnce(&AtomicU32, &Aside) -> Result<Found, String> + Send + 'static,
    ) {
        self.begun += 1;
        self.running = true;
        let aside = self.aside.clone();
        self.apart
            .ask(self.begun, Owner::Host, move |at| read(at, &aside));
    }

    /// What becomes of the reading under way; `None` where it has to be done again. Cancel safe.
    async fn next(&mut self) -> Option<Result<Found, String>> {
        loop {
            let (number, word) = self.apart.told().await;
            if number != self.begun {
                continue; // it was given up before
            }
            self.running = false;
            match word {
                Word::Done(found) => return Some(found),
                Word::Stuck(pid) => {
                    // Not this one, should it come back.
                    self.begun += 1;
                    self.set_aside(pid);
                    return None;
                }
                Word::Hopeless => return Some(Err("too many processes do not answer".to_owned())),
                Word::Refused(error) => return Some(Err(error.to_string())),
            }
        }
    }

    fn set_aside(&mut self, pid: u32) {
        let user = self.aside.add(Path::new("/proc"), pid);
        let more = user.map(|uid| format!(", and so is every other of user {uid}"));
        eprintln!(
            "tracer: cannot read the memory of process {pid}: no answer; it is passed over{}",
            more.unwrap_or_default()
        );
        if self.aside.len() >= LIMITS.stuck {
            self.stop("too many processes do not let their memory be read");
        } else if self.aside.len() >= ASIDE && !self.aside.has_all_users() {
            self.aside.add_all_users();
            eprintln!(
                "tracer: too many processes do not let their memory be read: arguments are read of \
                 root's only"
            );
        }
    }

    fn stop(&mut self, why: &str) {
        self.off = true;
        eprintln!("tracer: what was lost stays lost, /proc is not read again: {why}");
    }
}

fn read(
    boot_ns: u64,
    at: &AtomicU32,
    aside: &Aside,
    tag: &dyn Fn(u32) -> Tag,
) -> std::io::Result<Found> {
    let mut records = Vec::new();
    let reading = Reading {
        proc: Path::new("/proc"),
        boot_ns,
        tag,
        at,
        aside,
    };
    reading.take(|record| records.push(record))?;
    Ok(Found { boot_ns, records })
}
