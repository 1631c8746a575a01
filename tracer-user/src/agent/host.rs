//! Facts of this host, and its clocks.

use std::fs;
use std::path::Path;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::alert::HostFacts;

/// Inode number of the initial pid namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PID_NS: &str = "pid:[4026531836]";

/// Whether this is the host's pid namespace: in another, `/proc` has other numbers than the kernel side.
pub(super) fn sees_all_processes() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|ours| ours == Path::new(INITIAL_PID_NS))
}

/// Now on the clock that records carry: nanoseconds since boot, suspend included.
pub(super) fn boot_ns() -> u64 {
    u64::try_from(ns(clock_gettime(ClockId::Boottime))).unwrap_or(0)
}

/// Wall time of boot, nanoseconds since the Unix epoch.
pub(super) fn boot_wall_ns() -> i128 {
    ns(clock_gettime(ClockId::Realtime)) - ns(clock_gettime(ClockId::Boottime))
}

fn ns(time: Timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// Names and versions of this host. What cannot be read stays empty.
pub(super) fn facts() -> HostFacts {
    let line = |path: &str| {
        fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    let uname = rustix::system::uname();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches(['"', '\'']).to_owned())
            .unwrap_or_default()
    };
    HostFacts {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        machine_id: line("/etc/machine-id"),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        architecture: uname.machine().to_string_lossy().into_owned(),
        kernel: uname.release().to_string_lossy().into_owned(),
        os_platform: field("ID"),
        os_name: field("NAME"),
        os_version: field("VERSION_ID"),
    }
}
