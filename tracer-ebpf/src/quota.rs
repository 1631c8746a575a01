//! How many records the lineage of one server may make: so that one that is noisy, or made to be, cannot
//! fill the rings and hide what another does.
//!
//! What it refuses: to hold back fork, exec and exit, which all else hangs on and a process has to be
//! made for. What happens in a watched directory has a larger bucket of its own, and so has what a
//! process can do as often as it likes and is told with process life.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use tracer_common::limits::{
    LIFE_QUOTA_PART, LIFE_QUOTA_PER_SECOND, QUOTA_BURST_SECONDS, QUOTAS, WATCHED_QUOTA_TIMES,
};
use tracer_common::tag::Tag;

use crate::kernel::control;

/// For each server process ([`Tag::payer`], zero for those whose server is not known, [`NOBODY`] for
/// those of no server) and each [`Bucket`], which is the upper half of the key, the time at which it is
/// full again, nanoseconds since boot. The least recently used begins anew.
#[map(name = "QUOTA")]
static QUOTA_MAP: LruHashMap<u64, u64> = LruHashMap::with_max_entries(QUOTAS, 0);

/// Who has no tag: they have one quota together.
const NOBODY: u32 = u32::MAX;

/// What a record counts as.
#[derive(Clone, Copy)]
pub enum Bucket {
    /// A file or a connection.
    Files,
    /// The same in a watched directory.
    Watched,
    /// What is told with process life, and costs a process nothing.
    Life,
}

const SECOND_NS: u64 = 1_000_000_000;

/// Whether a server's lineage may make one more record now, and if so, takes it off the quota.
///
/// A bucket of tokens in one word (the "generic cell rate algorithm", ITU-T I.371): each record moves
/// the time at which the bucket is full again by the time that one token takes, and where that lies
/// further ahead than a whole bucket takes, there is none left. Two CPUs at the very same moment may
/// take the same token: a bound on noise, not a meter. What was refused is counted exactly.
#[inline(always)]
pub fn allows(bucket: Bucket, tag: Tag, now_ns: u64) -> bool {
    let rate = u64::from(control!(quota_per_second));
    if rate == 0 {
        return true;
    }
    let each_ns = SECOND_NS / rate;
    let each_ns = match bucket {
        Bucket::Files => each_ns,
        Bucket::Watched => each_ns / WATCHED_QUOTA_TIMES,
        // However large the quota of files: the ring is not.
        Bucket::Life if rate / LIFE_QUOTA_PART > LIFE_QUOTA_PER_SECOND => {
            SECOND_NS / LIFE_QUOTA_PER_SECOND
        }
        Bucket::Life => each_ns * LIFE_QUOTA_PART,
    };
    let payer = if tag.is_server_lineage() {
        tag.payer()
    } else {
        NOBODY
    };
    let key = u64::from(payer) | (bucket as u64) << 32;
    let Some(full_at) = QUOTA_MAP.get_ptr_mut(key) else {
        // The first of this server. Where the map cannot take it, nothing is held back.
        let _unlimited = QUOTA_MAP.insert(key, now_ns + each_ns, 0);
        return true;
    };
    // SAFETY: the pointer is to a value of the map, valid for the program's run and aligned. Volatile, as
    // other CPUs write to it.
    let at = unsafe { read_volatile(full_at) };
    if at < now_ns {
        // SAFETY: as above.
        unsafe { write_volatile(full_at, now_ns + each_ns) };
        return true;
    }
    if at - now_ns > QUOTA_BURST_SECONDS * SECOND_NS {
        return false;
    }
    // SAFETY: as above.
    unsafe { write_volatile(full_at, at + each_ns) };
    true
}
