//! Loops over names and paths, as global functions: the verifier goes through such a one once for each
//! program, for any arguments, and not once more wherever it is called (`BTF_FUNC_GLOBAL`,
//! `do_check_subprogs` of kernel/bpf/verifier.c). Their arguments can therefore be numbers only: a slot,
//! addresses, lengths. What they find is in the scratch slot (see `Scratch`).

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::generated::bpf_probe_read_user_str;
use tracer_common::limits::{NAME_BYTES, PATH_BYTES, PATH_STEPS, SCRATCH_BYTES, STRING_BYTES};

use super::{Record, SCRATCH_MAP};
use crate::kernel::{self, Dentry, Mount};

/// The walk of [`Record::path`], from the addresses of a dentry and its mount.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn walk(slot: u64, dentry: u64, mount: u64) -> u64 {
    let (Some(scratch), Some(mut dentry), Some(mut mount)) = (
        SCRATCH_MAP.get_ptr_mut(slot as u32),
        Dentry::new(dentry as *const u8),
        Mount::new(mount as *const u8),
    ) else {
        return 0;
    };
    let record = Record(scratch);
    let start = record.len();
    record.set_complete(false);
    // SAFETY: as in `Record::len`.
    unsafe {
        write_volatile(&raw mut (*record.0).leaf, 0);
        write_volatile(&raw mut (*record.0).leaf_at, start as u64);
    }
    record.set_left(None);
    let mut first = true;
    for _ in 0..PATH_STEPS {
        if Some(dentry) == mount.root() {
            if first {
                record.set_left(Some(dentry));
                first = false;
            }
            let Some(parent) = mount.parent() else { break };
            if parent == mount {
                // One that was taken away has no place, but its own files' view of where they are.
                record.set_complete(mount.is_in_namespace());
                break;
            }
            let Some(mountpoint) = mount.mountpoint() else {
                break;
            };
            dentry = mountpoint;
            mount = parent;
            continue;
        }
        let sequence = dentry.sequence();
        let (Some(parent), Some(name)) = (dentry.parent(), dentry.name()) else {
            break;
        };
        if parent == dentry && kernel::byte(name) == Some(b'/') {
            // Known by a handle only, without a name (`d_obtain_alias`, fs/dcache.c): where it is nobody
            // has looked up yet.
            break;
        }
        let at = record.len();
        if at > start + PATH_BYTES - NAME_BYTES {
            break;
        }
        let Some(written) = record.name(name) else {
            break;
        };
        if sequence & 1 != 0 || dentry.sequence() != sequence {
            // Renamed meanwhile: half of each name, or one name and the other's directory. Once more, as
            // a lookup does (`__d_lookup_rcu`, fs/dcache.c), out of the steps that there are.
            record.set_len(at);
            continue;
        }
        record.meet(parent);
        if at == start {
            // SAFETY: as in `Record::len`.
            unsafe { write_volatile(&raw mut (*record.0).leaf, written.into()) };
        }
        if parent == dentry {
            // The root of no mount: a memfd, a pipe.
            record.set_complete(true);
            break;
        }
        dentry = parent;
    }
    if record.len() == start && record.complete() {
        record.root();
    }
    0
}

/// The walk of [`Record::climb`], from the address of a dentry: to the root of its file system, whatever
/// of it is mounted where. Looks for watched directories, and writes nothing.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn climb(slot: u64, dentry: u64) -> u64 {
    let (Some(scratch), Some(mut dentry)) = (
        SCRATCH_MAP.get_ptr_mut(slot as u32),
        Dentry::new(dentry as *const u8),
    ) else {
        return 0;
    };
    let record = Record(scratch);
    for _ in 0..PATH_STEPS {
        let Some(parent) = dentry.parent() else { break };
        if parent == dentry || !record.is_watching() {
            return 0;
        }
        record.meet(parent);
        dentry = parent;
    }
    // Too deep: one further up may be watched.
    record.set_complete(false);
    0
}

/// What [`Record::glance`] does.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn glance(slot: u64, name: u64, user: u64) -> u64 {
    let Some(scratch) = SCRATCH_MAP.get_ptr_mut(slot as u32) else {
        return 0;
    };
    let record = Record(scratch);
    record.set_len(0);
    let name = name as *const u8;
    let name = if user != 0 {
        record.user_string::<STRING_BYTES>(name)
    } else {
        record.kernel_string::<STRING_BYTES>(name)
    };
    record.set_complete(name.len > 0);
    look(slot, 0, name.len.into());
    0
}

/// Bytes of a name that are looked at, from its end. A component that is longer is known by so many, and
/// may have another before it.
const LOOK: u64 = 64;

/// Looks at a name from its end, `len` bytes with its NUL at `at` of the scratch slot, as far as its
/// last component goes.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn look(slot: u64, at: u64, len: u64) -> u64 {
    let Some(scratch) = SCRATCH_MAP.get_ptr_mut(slot as u32) else {
        return 0;
    };
    let record = Record(scratch);
    // FNV-1a, over the bytes from the last to the first.
    let mut hash: u32 = 0x811c_9dc5;
    // SAFETY: as in `Record::len`.
    unsafe {
        write_volatile(&raw mut (*record.0).three, 0);
        write_volatile(&raw mut (*record.0).base.slash, (len > LOOK).into());
        write_volatile(&raw mut (*record.0).base.library, 0);
    }
    for back in 0..LOOK {
        // The NUL is not looked at.
        if back + 2 > len {
            break;
        }
        let place = at + len - 2 - back;
        if place >= SCRATCH_BYTES as u64 {
            break;
        }
        // SAFETY: `place` lies in the record's bytes, as just checked.
        let byte = unsafe { read_volatile(record.0.cast::<u8>().add(place as usize)) };
        if byte == b'/' {
            // SAFETY: as in `Record::len`.
            unsafe { write_volatile(&raw mut (*record.0).base.slash, 1) };
            break;
        }
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        // SAFETY: as in `Record::len`.
        unsafe {
            let three = read_volatile(&raw const (*record.0).three) << 8 | u64::from(byte);
            write_volatile(&raw mut (*record.0).three, three);
            if three & 0xff_ffff == u32::from_be_bytes([0, b'o', b's', b'.']).into() {
                write_volatile(&raw mut (*record.0).base.library, 1);
            }
        }
    }
    // SAFETY: as in `Record::len`.
    unsafe { write_volatile(&raw mut (*record.0).base.hash, hash) };
    0
}

/// The number that [`Record::descriptor_of`] is asked for.
#[unsafe(no_mangle)]
#[inline(never)]
pub(super) extern "C" fn number_of(slot: u64, name: u64) -> u64 {
    let Some(scratch) = SCRATCH_MAP.get_ptr_mut(slot as u32) else {
        return 0;
    };
    let record = Record(scratch);
    let name = name as *const u8;
    // The longest of the names below, and a number of ten digits.
    const MOST: usize = 32;
    // SAFETY: as in `Record::len`.
    unsafe {
        write_volatile(&raw mut (*record.0).number, u64::MAX);
        write_volatile(&raw mut (*record.0).digits, 0);
    }
    let Some((_, to)) = record.room(MOST) else {
        return 0;
    };
    let text = to.cast::<u8>();
    // SAFETY: `room` gave that many bytes; the helper checks the source.
    let written = unsafe { bpf_probe_read_user_str(to, MOST as u32, name.cast()) };
    if written <= 0 {
        return 0;
    }
    let begin = if is_at(text, b"/proc/self/fd/") {
        b"/proc/self/fd/".len()
    } else if is_at(text, b"/proc/thread-self/fd/") {
        b"/proc/thread-self/fd/".len()
    } else if is_at(text, b"/dev/fd/") {
        b"/dev/fd/".len()
    } else {
        return 0;
    };
    for digit in begin..MOST {
        // SAFETY: below the number of bytes that `room` gave.
        let byte = unsafe { read_volatile(text.add(digit)) };
        // SAFETY: as in `Record::len`.
        unsafe {
            let number = read_volatile(&raw const (*record.0).digits);
            if byte == 0 {
                if digit > begin {
                    write_volatile(&raw mut (*record.0).number, number);
                }
                return 0;
            }
            if !byte.is_ascii_digit() || number > u32::MAX.into() {
                return 0;
            }
            let number = number * 10 + u64::from(byte - b'0');
            write_volatile(&raw mut (*record.0).digits, number);
        }
    }
    0
}

/// Whether a text begins with these bytes. Without a branch, and without a call to memcmp: what the
/// verifier sees is one way through.
#[inline(always)]
fn is_at<const N: usize>(text: *const u8, begin: &[u8; N]) -> bool {
    let mut differs = 0;
    for (at, byte) in begin.iter().enumerate() {
        // SAFETY: the caller has at least `N` bytes there.
        differs |= unsafe { read_volatile(text.add(at)) } ^ byte;
    }
    differs == 0
}
