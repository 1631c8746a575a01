//! How many file records the lineage of one server may make: so that one that is noisy, or made to
//! be, cannot fill the file ring and hide what another does.
//!
//! What it refuses: to hold back process life, and what happens in a watched directory. Those are
//! what alerts hang on, and go to the ring however many they are.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use tracer_common::limits::{QUOTA_BURST_SECONDS, QUOTAS};

use crate::kernel::control;

/// For each server process (`Tag::server`, zero for those whose server is not known), the time at which
/// its quota is whole again, nanoseconds since boot. The least recently used begins anew.
#[map(name = "QUOTA")]
static QUOTA_MAP: LruHashMap<u32, u64> = LruHashMap::with_max_entries(QUOTAS, 0);

const SECOND_NS: u64 = 1_000_000_000;

/// Whether a server's lineage may make one more record now, and if so, takes it off the quota.
///
/// A bucket of tokens in one word (the "generic cell rate algorithm", ITU-T I.371): each record moves
/// the time at which the bucket is full again by the time that one token takes, and where that lies
/// further ahead than a whole bucket takes, there is none left. Two CPUs at the very same moment may
/// take the same token: a bound on noise, not a meter. What was refused is counted exactly.
#[inline(always)]
pub fn allows(server: u32, now_ns: u64) -> bool {
    let rate = u64::from(control!(quota_per_second));
    if rate == 0 {
        return true;
    }
    let each_ns = SECOND_NS / rate;
    let Some(full_at) = QUOTA_MAP.get_ptr_mut(server) else {
        // The first of this server. Where the map cannot take it, nothing is held back.
        let _unlimited = QUOTA_MAP.insert(server, now_ns + each_ns, 0);
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
