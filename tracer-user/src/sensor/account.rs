//! What the kernel side made and lost, and how full its maps are.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray};
use aya::{Ebpf, Pod};
use tracer_common::ledger::{LOSSES, Ledger, Line, column};
use tracer_common::limits::NOTE_BYTES;
use tracer_common::probe::Drop as Lost;
use tracer_common::tag::{InodeKey, Serves, Tag, Writer};

use crate::source::Stream;

use super::{Plain, Sensor, SensorError, attach, chain, map_error};

#[expect(
    unsafe_code,
    reason = "aya asks for a promise that the contract's types keep"
)]
// SAFETY: `Ledger` is `repr(C)`, integers only, without padding: `tracer_common::wire!` checks it.
unsafe impl Pod for Plain<Ledger> {}

#[expect(
    unsafe_code,
    reason = "aya asks for a promise that the contract's types keep"
)]
// SAFETY: as for `Plain<Ledger>`.
unsafe impl Pod for Plain<Writer> {}

/// What one program made on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// The CPU.
    pub cpu: u32,
    /// The program's slot.
    pub slot: u16,
    /// Records made, lost ones included: the number of the last one.
    pub made: u64,
    /// Lost ones, whatever the reason.
    pub lost: u64,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// What it holds.
    pub name: &'static str,
    /// How many.
    pub used: u32,
    /// How many there can be.
    pub size: u32,
}

impl Occupancy {
    /// Whether hardly any room is left: nine tenths are in use.
    #[must_use]
    pub const fn is_nearly_full(self) -> bool {
        self.used >= self.size - self.size / 10
    }
}

/// The tags that the kernel holds, by process: a handle of its own, for any thread.
pub struct Tags(HashMap<MapData, u32, Plain<Tag>>);

impl Tags {
    /// The tag of a process.
    #[must_use]
    pub fn get(&self, tgid: u32) -> Option<Tag> {
        self.0.get(&tgid, 0).ok().map(|Plain(tag)| tag)
    }

    /// Sets a tag where the process has one, or where it has none. False where that is not so.
    ///
    /// # Errors
    ///
    /// The map is full, or the kernel refused.
    pub fn put(&mut self, tgid: u32, tag: Tag, has_one: bool) -> Result<bool, SensorError> {
        // include/uapi/linux/bpf.h
        const BPF_NOEXIST: u64 = 1;
        const BPF_EXIST: u64 = 2;
        let flags = if has_one { BPF_EXIST } else { BPF_NOEXIST };
        match self.0.insert(tgid, Plain(tag), flags) {
            Ok(()) => Ok(true),
            Err(error) if is_other_than_thought(&error) => Ok(false),
            Err(error) => Err(map_error(&error)),
        }
    }

    /// Removes a tag; absent is not an error.
    pub fn remove(&mut self, tgid: u32) {
        let _absent = self.0.remove(&tgid);
    }

    /// The processes that have one, at most `most`: under churn the kernel may begin again.
    pub fn tagged(&self, most: usize) -> impl Iterator<Item = u32> {
        self.0.keys().take(most).map_while(Result::ok)
    }
}

pub(super) fn is_other_than_thought(error: &MapError) -> bool {
    let MapError::SyscallError(error) = error else {
        return false;
    };
    let kind = error.io_error.kind();
    matches!(kind, io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
}

impl Sensor {
    /// What each program made on each CPU since load, where it made anything.
    #[must_use]
    pub fn accounts(&self) -> Vec<Account> {
        let mut accounts = Vec::new();
        for (Stream { cpu, slot }, line) in lines(&read(&self.ledger), &self.cpus) {
            if line.made > 0 {
                accounts.push(Account {
                    cpu,
                    slot,
                    made: line.made,
                    lost: line.lost.iter().sum(),
                });
            }
        }
        accounts
    }

    /// How many records the kernel side made since load, lost ones included. Once both sides are at
    /// rest, it is what arrived and what was lost ([`Self::lost_records`]).
    #[must_use]
    pub fn made(&self) -> u64 {
        self.accounts().iter().map(|account| account.made).sum()
    }

    /// How many records each program lost on each CPU since load, by reason. Nothing where the kernel does
    /// not say.
    #[must_use]
    pub fn lost_by_stream(&self) -> Vec<(Lost, Vec<(Stream, u64)>)> {
        let ledgers = read(&self.ledger);
        if ledgers.is_empty() {
            return Vec::new();
        }
        let mut all = LOSSES.map(|reason| (reason, Vec::new()));
        for (stream, line) in lines(&ledgers, &self.cpus) {
            for ((_, streams), lost) in all.iter_mut().zip(line.lost) {
                if lost > 0 {
                    streams.push((stream, lost));
                }
            }
        }
        all.into()
    }

    /// How many records were lost since load, by reason. Nothing where the kernel does not say.
    #[must_use]
    pub fn lost_records(&self) -> Vec<(Lost, u64)> {
        let sum = |streams: Vec<(Stream, u64)>| streams.iter().map(|(_, lost)| lost).sum();
        let all = self.lost_by_stream().into_iter();
        all.map(|(reason, streams)| (reason, sum(streams)))
            .collect()
    }

    /// How often the kernel side lost something other than a numbered record, by reason, since load.
    /// Without those of which the kernel does not say it.
    #[must_use]
    pub fn other_drops(&self) -> Vec<(Lost, u64)> {
        let others = Lost::ALL.iter().filter(|reason| column(**reason).is_none());
        others
            .filter_map(|&reason| {
                let per_cpu = self.drops.get(&(reason as u32), 0).ok()?;
                Some((reason, per_cpu.iter().copied().sum()))
            })
            .collect()
    }

    /// How often the kernel side lost something, by reason, since load.
    #[must_use]
    pub fn drops(&self) -> Vec<(Lost, u64)> {
        let mut all = self.lost_records();
        all.extend(self.other_drops());
        all
    }

    /// How full the maps are, see [`Counters::occupancy`].
    #[must_use]
    pub fn occupancy(&self) -> Vec<Occupancy> {
        self.counters.occupancy()
    }

    /// The maps that can be counted, for another thread.
    #[must_use]
    pub fn share_counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Unloads every program. What they made until now is in the rings and the ledger, and nothing
    /// follows.
    pub fn detach(&mut self) {
        for report in &self.attached.reports {
            attach::unload(&mut self.ebpf, report.probe);
        }
    }

    /// The tags, for whoever sets them and looks them up.
    ///
    /// # Errors
    ///
    /// This process may not have another descriptor.
    pub fn share_tags(&self) -> Result<Tags, SensorError> {
        open(again(&self.shared_tags)?).map(Tags)
    }
}

/// Counts the entries of one map.
struct Counter {
    name: &'static str,
    size: u32,
    count: Box<dyn Fn() -> u32 + Send + Sync>,
}

/// Handles of the maps that are counted.
pub struct Counters(Vec<Counter>);

impl Counters {
    /// How full the maps are. Asks the kernel for key after key, some hundred thousand times where they
    /// are full, so it is not for a thread that has anything else to do.
    #[must_use]
    pub fn occupancy(&self) -> Vec<Occupancy> {
        let occupancy = |counter: &Counter| Occupancy {
            name: counter.name,
            used: (counter.count)(),
            size: counter.size,
        };
        self.0.iter().map(occupancy).collect()
    }
}

/// Opens those handles.
pub(super) fn counters(ebpf: &Ebpf) -> Result<Arc<Counters>, SensorError> {
    let counters = vec![
        counter::<u32, Plain<Tag>>(ebpf, "tags", "TAGS")?,
        counter::<Plain<InodeKey>, Plain<Serves>>(ebpf, "role_inodes", "ROLE_INODES")?,
        counter::<Plain<InodeKey>, Plain<Writer>>(ebpf, "written", "WRITTEN")?,
        counter::<Plain<InodeKey>, u32>(ebpf, "watched_directories", "DIRECTORIES")?,
        counter::<u64, u64>(ebpf, "quotas", "QUOTA")?,
        counter::<u64, [u8; NOTE_BYTES]>(ebpf, "notes", "NOTES")?,
    ];
    Ok(Arc::new(Counters(counters)))
}

fn counter<K: Pod + Send + Sync + 'static, V: Pod + Send + Sync + 'static>(
    ebpf: &Ebpf,
    name: &'static str,
    map: &str,
) -> Result<Counter, SensorError> {
    let data = share(ebpf, map)?;
    let size = data
        .info()
        .map_err(|error| map_error(&error))?
        .max_entries();
    let map = open::<K, V>(data)?;
    // Under churn the kernel may begin again from the first key, so there is an end to it.
    let most = usize::try_from(size).unwrap_or(usize::MAX);
    let count = move || {
        let keys = map.keys().take(most).take_while(Result::is_ok).count();
        u32::try_from(keys).unwrap_or(u32::MAX)
    };
    Ok(Counter {
        name,
        size,
        count: Box::new(count),
    })
}

fn open<K: Pod, V: Pod>(data: MapData) -> Result<HashMap<MapData, K, V>, SensorError> {
    Map::from_map_data(data)
        .and_then(HashMap::try_from)
        .map_err(|error| map_error(&error))
}

/// A second handle of a map of the object.
pub(super) fn share(ebpf: &Ebpf, name: &str) -> Result<MapData, SensorError> {
    match ebpf.map(name) {
        Some(Map::HashMap(data) | Map::LruHashMap(data)) => again(data),
        _ => Err(SensorError::Object(format!("no map {name}"))),
    }
}

fn again(data: &MapData) -> Result<MapData, SensorError> {
    let fd = data.fd().as_fd().try_clone_to_owned();
    let fd = fd.map_err(|error| SensorError::Object(chain(&error)))?;
    MapData::from_fd(fd).map_err(|error| map_error(&error))
}

/// Each line of the ledger and whose it is. CPUs may have gaps in their numbers: they come in the order of
/// `cpus`.
fn lines<'a>(
    ledgers: &'a [Plain<Ledger>],
    cpus: &'a [u32],
) -> impl Iterator<Item = (Stream, &'a Line)> {
    (0..).zip(ledgers).flat_map(|(place, Plain(ledger))| {
        let known = usize::try_from(place).ok().and_then(|at| cpus.get(at));
        let cpu = known.copied().unwrap_or(place);
        let lines = (0..).zip(&ledger.lines);
        lines.map(move |(slot, line)| (Stream { cpu, slot }, line))
    })
}

/// The ledger of each possible CPU; empty where the kernel does not give it.
fn read(ledger: &PerCpuArray<MapData, Plain<Ledger>>) -> Vec<Plain<Ledger>> {
    ledger
        .get(&0, 0)
        .map_or_else(|_| Vec::new(), |cpus| cpus.to_vec())
}
