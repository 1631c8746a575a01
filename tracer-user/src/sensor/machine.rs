//! How large the kernel side's maps are, from the machine. Pure but for reading two numbers; a
//! machine that does not tell them gets the smallest sizes.
//!
//! Every map has its full size from the first try of a probe on: what a host cannot give is found at
//! start and not under load. Per-CPU maps need no answer here: the kernel makes them as many as there
//! are possible CPUs.

use std::fs;

use tracer_common::limits::{
    FILE_RING_BYTES, LIFE_RING_BYTES, NOTES, PEERS, QUOTAS, TAGS, WRITTEN,
};

/// CPUs at most that are told apart: more than any kernel is built for.
const MOST_NUMBERED: usize = 65_536;

const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";
const PID_MAX: &str = "/proc/sys/kernel/pid_max";

/// Most CPUs that a kernel is built for (`NR_CPUS`, arch/x86/Kconfig).
const MOST_CPUS: u32 = 8192;

/// CPUs that share rings of the default size. What two make at their highest rate fills one in a second;
/// eight in a quarter of that, which is a dozen times the pause between two looks of the agent.
const CPUS_OF_DEFAULT_RINGS: u32 = 8;

/// How much larger than by default rings become, at most: pages of a ring are there from the start, and
/// one reader takes what 64 CPUs make or does not.
const MOST_RINGS: u32 = 8;

/// Most tags: a bucket of the map takes 16 bytes from the start (`struct bucket`,
/// kernel/bpf/hashtab.c), so these are 4 MiB, and about 80 bytes a process in use. More processes of
/// servers at once would take a host 25 GiB for the kernel's part of them alone.
const MOST_TAGS: u32 = 262_144;

/// Entries of an LRU map that each CPU may hold for itself (`LOCAL_FREE_TARGET`,
/// kernel/bpf/bpf_lru_list.c), and as many in use: a smaller map would lose entries long before it is
/// full.
const LRU_OF_A_CPU: u32 = 256;

/// Sizes of the maps that depend on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Ring of process life, bytes.
    pub life_ring_bytes: u32,
    /// Ring of file events, bytes.
    pub file_ring_bytes: u32,
    /// Tagged processes.
    pub tags: u32,
    /// Files that servers wrote.
    pub written: u32,
    /// Servers with a quota.
    pub quotas: u32,
    /// Peers that datagrams were sent to.
    pub peers: u32,
    /// Threads inside a change of a name.
    pub notes: u32,
}

impl Sizes {
    /// Sizes for this machine.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::of(
            cpus(&read(POSSIBLE_CPUS)).unwrap_or(1),
            read(PID_MAX).trim().parse().unwrap_or(0),
        )
    }

    /// Sizes for a machine with so many possible CPUs, on which process numbers are below `pid_max`.
    #[must_use]
    pub fn of(cpus: u32, pid_max: u32) -> Self {
        let rings = cpus
            .div_ceil(CPUS_OF_DEFAULT_RINGS)
            .clamp(1, MOST_RINGS)
            .next_power_of_two();
        let lru = |least: u32| least.max(cpus.min(MOST_CPUS) * LRU_OF_A_CPU);
        Self {
            life_ring_bytes: LIFE_RING_BYTES * rings,
            file_ring_bytes: FILE_RING_BYTES * rings,
            // As many as there can be processes, so that the map cannot be full; `pid_max` can be
            // raised later, therefore not fewer than by default.
            tags: pid_max.clamp(TAGS, MOST_TAGS),
            written: lru(WRITTEN),
            quotas: lru(QUOTAS),
            peers: lru(PEERS),
            notes: lru(NOTES),
        }
    }
}

/// The numbers of the possible CPUs, in the order in which the kernel gives what it has of each; none where
/// it does not say.
pub(super) fn possible_cpus() -> Vec<u32> {
    members(&fs::read_to_string(POSSIBLE_CPUS).unwrap_or_default())
}

/// The numbers of such a list.
fn members(list: &str) -> Vec<u32> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    let ranges = list.trim().split(',').filter_map(range);
    ranges.flatten().take(MOST_NUMBERED).collect()
}

/// The highest number of a list of ranges such as `0-3,8-11`, and one.
fn cpus(list: &str) -> Option<u32> {
    list.trim()
        .split([',', '-'])
        .filter_map(|number| number.parse::<u32>().ok())
        .max()?
        .checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        for (list, count) in [
            ("0\n", Some(1)),
            ("0-1\n", Some(2)),
            ("0-3,8-11", Some(12)),
            ("", None),
            ("none", None),
            ("0-4294967295", None),
        ] {
            assert_eq!(cpus(list), count, "{list:?}");
        }
        for (list, numbers) in [
            ("0-1\n", &[0, 1][..]),
            ("0,4-6,8", &[0, 4, 5, 6, 8]),
            ("", &[]),
            ("none", &[]),
        ] {
            assert_eq!(members(list), numbers, "{list:?}");
        }
        assert_eq!(members("0-4294967295").len(), MOST_NUMBERED);
    }

    #[test]
    fn sizes_have_bounds_on_every_machine() {
        const MIB: u32 = 1024 * 1024;
        for (cpus, life, quotas) in [
            (0, 8, 1024),
            (1, 8, 1024),
            (8, 8, 2048),
            (9, 16, 2304),
            (33, 64, 8448),
            (64, 64, 16_384),
            (4096, 64, 1_048_576),
        ] {
            let sizes = Sizes::of(cpus, 32_768);
            assert_eq!(sizes.life_ring_bytes, life * MIB, "{cpus} CPUs");
            assert_eq!(sizes.file_ring_bytes, life * MIB / 2, "{cpus} CPUs");
            assert_eq!(sizes.quotas, quotas, "{cpus} CPUs");
        }
        for (pid_max, tags) in [
            (0, 65_536),
            (32_768, 65_536),
            (100_000, 100_000),
            (4_194_304, 262_144),
        ] {
            assert_eq!(Sizes::of(2, pid_max).tags, tags, "pid_max {pid_max}");
        }
        assert_eq!(Sizes::of(u32::MAX, u32::MAX).written, 2_097_152);
    }
}
