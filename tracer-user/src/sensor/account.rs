//! What the kernel side made and lost, and how full its maps are.

use std::os::fd::AsFd as _;

use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use aya::{Ebpf, Pod};
use tracer_common::ledger::{LOSSES, Ledger, column};
use tracer_common::probe::Drop as Lost;
use tracer_common::tag::{InodeKey, Serves, Tag, Writer};

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

/// The tags, for another thread to look them up.
pub struct Tags(HashMap<MapData, u32, Plain<Tag>>);

impl Tags {
    /// The tag that the kernel holds for a process; all zero where it has none.
    #[must_use]
    pub fn get(&self, tgid: u32) -> Tag {
        self.0.get(&tgid, 0).map_or(Tag::ZERO, |Plain(tag)| tag)
    }
}

impl Sensor {
    /// What each program made on each CPU since load, where it made anything.
    #[must_use]
    pub fn accounts(&self) -> Vec<Account> {
        let mut accounts = Vec::new();
        for (cpu, Plain(ledger)) in (0..).zip(read(&self.ledger).iter()) {
            for (slot, line) in (0..).zip(&ledger.lines) {
                if line.made > 0 {
                    accounts.push(Account {
                        cpu,
                        slot,
                        made: line.made,
                        lost: line.lost.iter().sum(),
                    });
                }
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

    /// How many records were lost since load, by reason.
    #[must_use]
    pub fn lost_records(&self) -> Vec<(Lost, u64)> {
        let mut sums = LOSSES.map(|reason| (reason, 0));
        for Plain(ledger) in read(&self.ledger).iter() {
            for line in &ledger.lines {
                for ((_, sum), lost) in sums.iter_mut().zip(line.lost) {
                    *sum += lost;
                }
            }
        }
        sums.to_vec()
    }

    /// How often the kernel side lost something, by reason, since load.
    #[must_use]
    pub fn drops(&self) -> Vec<(Lost, u64)> {
        let records = self.lost_records();
        Lost::ALL
            .iter()
            .map(|&reason| {
                let count = match column(reason).and_then(|column| records.get(column)) {
                    Some(&(_, count)) => count,
                    None => self
                        .drops
                        .get(&(reason as u32), 0)
                        .map_or(0, |per_cpu| per_cpu.iter().copied().sum()),
                };
                (reason, count)
            })
            .collect()
    }

    /// How full the maps are. Asks the kernel for key after key, so it is not for every moment.
    #[must_use]
    pub fn occupancy(&self) -> Vec<Occupancy> {
        let occupancy = |counter: &Counter| Occupancy {
            name: counter.name,
            used: (counter.count)(),
            size: counter.size,
        };
        self.counters.iter().map(occupancy).collect()
    }

    /// Unloads every program. What they made until now is in the rings and the ledger, and nothing
    /// follows.
    pub fn detach(&mut self) {
        for report in &self.attached.reports {
            attach::unload(&mut self.ebpf, report.probe);
        }
    }

    /// The tags, for another thread.
    ///
    /// # Errors
    ///
    /// This process may not have another descriptor.
    pub fn share_tags(&self) -> Result<Tags, SensorError> {
        open(again(&self.shared_tags)?).map(Tags)
    }
}

/// Counts the entries of one map.
pub(super) struct Counter {
    name: &'static str,
    size: u32,
    count: Box<dyn Fn() -> u32>,
}

/// Handles of the maps that are counted.
pub(super) fn counters(ebpf: &Ebpf) -> Result<Vec<Counter>, SensorError> {
    Ok(vec![
        counter::<u32, Plain<Tag>>(ebpf, "tags", "TAGS")?,
        counter::<Plain<InodeKey>, Plain<Serves>>(ebpf, "role_inodes", "ROLE_INODES")?,
        counter::<Plain<InodeKey>, Plain<Writer>>(ebpf, "written", "WRITTEN")?,
        counter::<Plain<InodeKey>, u32>(ebpf, "watched_directories", "DIRECTORIES")?,
        counter::<u64, u64>(ebpf, "quotas", "QUOTA")?,
    ])
}

fn counter<K: Pod + 'static, V: Pod + 'static>(
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

/// The ledger of each possible CPU; empty where the kernel does not give it.
fn read(ledger: &PerCpuArray<MapData, Plain<Ledger>>) -> Vec<Plain<Ledger>> {
    ledger
        .get(&0, 0)
        .map_or_else(|_| Vec::new(), |cpus| cpus.to_vec())
}
