//! The loaded sensor and its records, for one test at a time.
//!
//! The host goes on living while tests run: a test asks for records of processes it made itself,
//! and whatever else comes along is only looked at for being well formed.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use tracer::event::{Change, Event, Exec, Exit, FileAccess, Fork, Meta, Payload, Socket, decode};
use tracer::sensor::{Sensor, SensorError, SensorOptions, TierChoice};
use tracer_common::event::{EventHeader, EventKind, flag};
use tracer_common::limits::{FILE_RING_BYTES, LIFE_RING_BYTES};
use tracer_common::probe::{Drop as Lost, Tier};
use tracer_common::wire::split;

use crate::sys;

/// How long a test waits for what must come. Emulated guests are slow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// The kernel wakes a reader only for server lineages: for the rest this is how often we look.
const LOOK: Duration = Duration::from_millis(5);

/// The tier that the tests are for: `TRACER_TIER`, in the words of `--tier`.
fn tier() -> TierChoice {
    let Ok(word) = std::env::var("TRACER_TIER") else {
        return TierChoice::Auto;
    };
    <TierChoice as clap::ValueEnum>::from_str(&word, false)
        .unwrap_or_else(|_| panic!("TRACER_TIER={word}: it can be auto, lsm or tracepoint"))
}

/// A sensor, its rings, and the records since the test began that nobody has taken yet.
pub(crate) struct Watch {
    /// The loaded programs.
    pub(crate) sensor: Sensor,
    life: RingBuf<MapData>,
    files: RingBuf<MapData>,
    seen: Vec<Event>,
}

impl Watch {
    /// Loads with rings of the default size.
    pub(crate) fn load() -> Result<Self, SensorError> {
        Self::with_rings(LIFE_RING_BYTES, FILE_RING_BYTES)
    }

    /// Loads with rings of these sizes.
    pub(crate) fn with_rings(
        life_ring_bytes: u32,
        file_ring_bytes: u32,
    ) -> Result<Self, SensorError> {
        // Tests of the hooks are not about quotas.
        Self::with_quota(life_ring_bytes, file_ring_bytes, 0)
    }

    /// The same with a quota of file records a second.
    pub(crate) fn with_quota(
        life_ring_bytes: u32,
        file_ring_bytes: u32,
        quota_per_second: u32,
    ) -> Result<Self, SensorError> {
        Self::with(&SensorOptions {
            btf: None,
            tier: tier(),
            life_ring_bytes,
            file_ring_bytes,
            quota_per_second,
            any_writer: false,
        })
    }

    /// Loads to tell what any process writes in watched directories.
    pub(crate) fn of_any_writer() -> Result<Self, SensorError> {
        Self::with(&SensorOptions {
            btf: None,
            tier: tier(),
            life_ring_bytes: LIFE_RING_BYTES,
            file_ring_bytes: FILE_RING_BYTES,
            quota_per_second: 0,
            any_writer: true,
        })
    }

    fn with(options: &SensorOptions) -> Result<Self, SensorError> {
        let mut sensor = Sensor::load(options)?;
        let (life, files) = sensor.take_rings()?;
        Ok(Self {
            sensor,
            life,
            files,
            seen: Vec::new(),
        })
    }

    /// Forgets what came so far.
    pub(crate) fn forget(&mut self) {
        self.read();
        self.seen.clear();
    }

    /// Takes the headers of what is in the rings, with the number of the ring. How many there were.
    pub(crate) fn headers(&mut self, mut take: impl FnMut(usize, &EventHeader)) -> u64 {
        let mut taken = 0;
        for (number, ring) in [&mut self.life, &mut self.files].into_iter().enumerate() {
            while let Some(record) = ring.next() {
                let (header, _) = split::<EventHeader>(&record).unwrap();
                take(number, &header);
                taken += 1;
            }
        }
        taken
    }

    /// Waits until there is something in the rings, or a moment.
    pub(crate) fn wait(&self) {
        sys::wait_readable(&[self.life.as_raw_fd(), self.files.as_raw_fd()], LOOK);
    }

    /// Takes what is in the rings. Every record of the host must be one that decodes.
    pub(crate) fn read(&mut self) {
        for ring in [&mut self.life, &mut self.files] {
            while let Some(record) = ring.next() {
                match decode(&record) {
                    Ok(event) => self.seen.push(event),
                    Err(error) => panic!("{error}: {:?}", &*record),
                }
            }
        }
    }

    /// Everything that came, each ring in its order.
    pub(crate) fn take_all(&mut self) -> Vec<Event> {
        self.read();
        std::mem::take(&mut self.seen)
    }

    /// What came of a process and was not taken.
    pub(crate) fn rest(&mut self, tgid: u32) -> Vec<Event> {
        self.read();
        let mine = self
            .seen
            .extract_if(.., |event| event.meta.subject.tgid == tgid);
        mine.collect()
    }

    /// Waits for the first record of a process that `select` wants, and takes it.
    fn take<T>(
        &mut self,
        what: &str,
        tgid: u32,
        mut select: impl FnMut(&Payload) -> Option<T>,
    ) -> (Meta, T) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let late = Instant::now() > deadline;
            self.read();
            let mut found = None;
            let at = self.seen.iter().position(|event| {
                if event.meta.subject.tgid == tgid {
                    found = select(&event.payload);
                }
                found.is_some()
            });
            if let (Some(at), Some(found)) = (at, found) {
                return (self.seen.remove(at).meta, found);
            }
            assert!(
                !late,
                "no {what} of process {tgid} within {DEADLINE:?}; of it came: {:#?}; programs that \
                 the kernel left out: {:?}",
                self.rest(tgid),
                self.sensor.misses()
            );
            self.wait();
        }
    }

    /// The record of `creator` making `child`.
    pub(crate) fn fork(&mut self, creator: u32, child: u32) -> (Meta, Fork) {
        self.take("fork", creator, |payload| match payload {
            Payload::Fork(fork) if fork.child.tgid == child => Some(*fork),
            _ => None,
        })
    }

    /// The next process that `creator` makes.
    pub(crate) fn forked(&mut self, creator: u32) -> (Meta, Fork) {
        self.take("fork", creator, |payload| match payload {
            Payload::Fork(fork) => Some(*fork),
            _ => None,
        })
    }

    /// The next exec of a process.
    pub(crate) fn exec(&mut self, tgid: u32) -> (Meta, Exec) {
        self.take("exec", tgid, |payload| match payload {
            Payload::Exec(exec) => Some((**exec).clone()),
            _ => None,
        })
    }

    /// The end of a process.
    pub(crate) fn exit(&mut self, tgid: u32) -> (Meta, Exit) {
        self.take("exit", tgid, |payload| match payload {
            Payload::Exit(exit) => Some(*exit),
            _ => None,
        })
    }

    /// The next open of a process. The generation of a file is not known outside the kernel: it is
    /// left out, as is who wrote the file before.
    pub(crate) fn open(&mut self, tgid: u32) -> (Meta, FileAccess) {
        let (meta, open) = self.file(EventKind::Open, tgid);
        let open = FileAccess {
            generation: 0,
            writer: None,
            ..open
        };
        (meta, open)
    }

    /// The next use of a file of this kind by a process.
    pub(crate) fn file(&mut self, kind: EventKind, tgid: u32) -> (Meta, FileAccess) {
        self.take(kind.name(), tgid, |payload| match payload {
            Payload::File(file) if file.kind == kind => Some((**file).clone()),
            _ => None,
        })
    }

    /// The next change of this kind by a process, as far as both tiers tell it: without what follows
    /// from the kernel's having the file in hand.
    pub(crate) fn common(&mut self, kind: EventKind, tgid: u32) -> (Meta, Change) {
        let (mut meta, change) = self.change(kind, tgid);
        let resolved = meta.flags & flag::RESOLVED != 0;
        assert_eq!(resolved, meta.tier == Tier::Lsm, "{meta:?}");
        meta.flags &= !flag::RESOLVED;
        let common = Change {
            file: None,
            writer: None,
            mode: 0,
            ..change
        };
        (meta, common)
    }

    /// The next rename of a process.
    pub(crate) fn rename(&mut self, tgid: u32) -> (Meta, Change) {
        self.common(EventKind::Rename, tgid)
    }

    /// The next change of this kind by a process.
    pub(crate) fn change(&mut self, kind: EventKind, tgid: u32) -> (Meta, Change) {
        self.take(kind.name(), tgid, |payload| match payload {
            Payload::Change(change) if change.kind == kind => Some((**change).clone()),
            _ => None,
        })
    }

    /// The next listen of a process.
    pub(crate) fn listen(&mut self, tgid: u32) -> (Meta, Socket) {
        self.socket(EventKind::Listen, tgid)
    }

    /// The next use of a socket of this kind by a process.
    pub(crate) fn socket(&mut self, kind: EventKind, tgid: u32) -> (Meta, Socket) {
        self.take(kind.name(), tgid, |payload| match payload {
            Payload::Socket(socket) if socket.kind == kind => Some((**socket).clone()),
            _ => None,
        })
    }

    /// The next event of this kind of a process.
    pub(crate) fn event(&mut self, kind: EventKind, tgid: u32) -> (Meta, Payload) {
        self.take(kind.name(), tgid, |payload| {
            (payload.kind() == kind).then(|| payload.clone())
        })
    }

    /// How often the kernel side lost something for this reason.
    pub(crate) fn drops(&self, reason: Lost) -> u64 {
        let drops = self.sensor.drops();
        let found = drops.iter().find(|(of, _)| *of == reason);
        found.map(|(_, count)| *count).unwrap()
    }
}
