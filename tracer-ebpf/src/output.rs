//! The only way out: two rings, the scratch space records are built in, and the count of what was
//! lost.

use core::mem::size_of;

use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_probe_read_kernel_str,
    bpf_probe_read_user, bpf_probe_read_user_str,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use tracer_common::event::{EventHeader, EventKind, VERSION};
use tracer_common::limits::{
    FILE_RING_BYTES, LIFE_RING_BYTES, NAME_BYTES, PATH_BYTES, PATH_STEPS, SCRATCH_BYTES,
};
use tracer_common::probe::{DROPS, Drop, SLOTS, Tier};
use tracer_common::tag::Tag;
use tracer_common::wire::Wire;

use crate::kernel::{Dentry, Mount, Path, Task};

#[map]
static LIFE: RingBuf = RingBuf::with_byte_size(LIFE_RING_BYTES, 0);

#[map]
static FILES: RingBuf = RingBuf::with_byte_size(FILE_RING_BYTES, 0);

#[map(name = "DROPS")]
static DROP_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DROPS, 0);

/// One slot per probe and CPU. Kernels whose tracepoints may be preempted still never run the same
/// program twice at once on one CPU (`__bpf_trace_run`, kernel/trace/bpf_trace.c, counts a miss
/// instead), so a slot has one writer.
#[map(name = "SCRATCH")]
static SCRATCH_MAP: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(SLOTS, 0);

#[repr(C, align(8))]
struct Scratch([u8; SCRATCH_BYTES]);

/// Which ring a record goes to.
#[derive(Clone, Copy)]
pub enum Ring {
    /// Fork, exec, exit, listen.
    Life,
    /// Open, rename.
    Files,
}

/// Counts a loss.
#[inline(always)]
pub fn dropped(reason: Drop) {
    if let Some(count) = DROP_COUNTS.get_ptr_mut(reason as u32) {
        // SAFETY: the pointer is this CPU's own counter, valid for the program's run.
        unsafe { *count += 1 };
    }
}

/// A header for an event of `task`, now.
#[inline(always)]
pub fn header(kind: EventKind, task: Task, tgid: u32, tid: u32, tag: Tag) -> EventHeader {
    EventHeader {
        // SAFETY: takes no argument, reads a clock.
        boot_ns: unsafe { bpf_ktime_get_boot_ns() },
        start_boot_ns: task.start_boot_ns(),
        tag,
        tgid,
        tid,
        tail_len: 0,
        // SAFETY: takes no argument.
        cpu: unsafe { bpf_get_smp_processor_id() } as u32,
        kind: kind.raw(),
        flags: 0,
        tier: Tier::Tracepoint as u8,
        version: VERSION,
        reserved: 0,
    }
}

/// A record without a tail.
#[repr(C)]
pub struct Fixed<B> {
    header: EventHeader,
    body: B,
}

/// Sends a record of fixed size to the life ring.
#[inline(always)]
pub fn send<B: Wire>(header: EventHeader, body: B) {
    match LIFE.reserve::<Fixed<B>>(0) {
        Some(mut entry) => {
            entry.write(Fixed { header, body });
            entry.submit(0);
        }
        None => dropped(Drop::LifeRingFull),
    }
}

/// A record under construction, in a scratch slot: header, body, then sections.
pub struct Record {
    base: *mut u8,
    len: usize,
}

/// A section as it was written.
pub struct Section {
    /// Bytes.
    pub len: u16,
    /// Something is missing from it.
    pub truncated: bool,
}

impl Section {
    const EMPTY: Self = Self { len: 0, truncated: false };
}

impl Record {
    /// Starts a record with body `B` in a probe's slot.
    #[inline(always)]
    pub fn start<B: Wire>(slot: u32) -> Option<(Self, *mut EventHeader, *mut B)> {
        let Some(scratch) = SCRATCH_MAP.get_ptr_mut(slot) else {
            dropped(Drop::NoScratch);
            return None;
        };
        let base = scratch.cast::<u8>();
        // SAFETY: the slot is larger than header and body together; both are eight-byte aligned in
        // it, as the header's size is a multiple of eight.
        let body = unsafe { base.add(size_of::<EventHeader>()) };
        let len = size_of::<EventHeader>() + size_of::<B>();
        Some((Self { base, len }, base.cast(), body.cast()))
    }

    /// Sends the record.
    #[inline(always)]
    pub fn finish<B: Wire>(self, ring: Ring) {
        let Self { base, len } = self;
        let fixed = size_of::<EventHeader>() + size_of::<B>();
        if len < fixed || len > SCRATCH_BYTES {
            return;
        }
        // SAFETY: `base` is a scratch slot that begins with a header; the difference is checked
        // above and below 24 KiB.
        unsafe { (*base.cast::<EventHeader>()).tail_len = (len - fixed) as u32 };
        let (map, reason) = match ring {
            Ring::Life => (&LIFE, Drop::LifeRingFull),
            Ring::Files => (&FILES, Drop::FileRingFull),
        };
        // SAFETY: `base` is valid for `SCRATCH_BYTES`, and `len` is not larger (checked above).
        let bytes = unsafe { core::slice::from_raw_parts(base, len) };
        if map.output::<[u8]>(bytes, 0).is_err() {
            dropped(reason);
        }
    }

    /// Appends a path as components, leaf first.
    ///
    /// Walks dentry parents, and at the root of a mount goes on from its mountpoint, as `d_path`
    /// does (`prepend_path`, fs/d_path.c), to the root of the mount namespace. Without the
    /// kernel's `rename_lock` a concurrent rename of an ancestor can give a path that was true in
    /// parts; dentries and mounts are freed by RCU, and every read is checked, so never a fault.
    #[inline(always)]
    pub fn path(&mut self, path: Option<Path>) -> Section {
        let Some(path) = path else {
            dropped(Drop::PathFault);
            return Section { len: 0, truncated: true };
        };
        let before = self.len;
        let walked = walk(self.base, before, path.dentry, path.mount);
        let (len, complete) = ((walked & !COMPLETE) as usize, walked & COMPLETE != 0);
        if len > SCRATCH_BYTES {
            return Section { len: 0, truncated: true };
        }
        self.len = len;
        if !complete {
            dropped(Drop::PathFault);
        }
        Section { len: (len - before) as u16, truncated: !complete }
    }

    /// Appends the names of a chain of kernel objects, leaf first, until `next` says it is done.
    #[inline(always)]
    pub fn name(&mut self, name: *const u8) -> Option<u16> {
        let at = self.len;
        if at > SCRATCH_BYTES - NAME_BYTES || name.is_null() {
            return None;
        }
        // SAFETY: `at + NAME_BYTES` lies in the slot (checked); the helper checks the source.
        let written = unsafe {
            bpf_probe_read_kernel_str(self.base.add(at).cast(), NAME_BYTES as u32, name.cast())
        };
        if written <= 0 || written > NAME_BYTES as i64 {
            return None;
        }
        self.len = at + written as usize;
        Some(written as u16)
    }

    /// Appends a kernel string, at most `MAX` bytes with its NUL.
    #[inline(always)]
    pub fn kernel_string<const MAX: usize>(&mut self, string: *const u8) -> Section {
        self.string::<MAX>(string, false)
    }

    /// Appends a string of the current process.
    #[inline(always)]
    pub fn user_string<const MAX: usize>(&mut self, string: *const u8) -> Section {
        self.string::<MAX>(string, true)
    }

    #[inline(always)]
    fn string<const MAX: usize>(&mut self, string: *const u8, user: bool) -> Section {
        let at = self.len;
        if at > SCRATCH_BYTES - MAX {
            return Section { len: 0, truncated: true };
        }
        if string.is_null() {
            return Section::EMPTY;
        }
        // SAFETY: `at + MAX` lies in the slot (checked).
        let to = unsafe { self.base.add(at) }.cast();
        let written = if user {
            // SAFETY: as above; the helper checks the source.
            unsafe { bpf_probe_read_user_str(to, MAX as u32, string.cast()) }
        } else {
            // SAFETY: as above; the helper checks the source.
            unsafe { bpf_probe_read_kernel_str(to, MAX as u32, string.cast()) }
        };
        if written <= 0 || written > MAX as i64 {
            dropped(Drop::StringFault);
            return Section { len: 0, truncated: true };
        }
        self.len = at + written as usize;
        Section { len: written as u16, truncated: written == MAX as i64 }
    }

    /// Appends `len` bytes of the current process, at most `MAX`; `None` where they fault.
    #[inline(always)]
    pub fn user_bytes<const MAX: usize>(&mut self, from: u64, len: u64) -> Option<u16> {
        let at = self.len;
        if at > SCRATCH_BYTES - MAX {
            return None;
        }
        let len = if len > MAX as u64 { MAX as u64 } else { len };
        // SAFETY: `at + MAX` lies in the slot (checked), `len` is not above `MAX`; the helper checks
        // the source.
        let failed = unsafe {
            bpf_probe_read_user(self.base.add(at).cast(), len as u32, from as *const _)
        };
        if failed != 0 {
            return None;
        }
        self.len = at + len as usize;
        Some(len as u16)
    }
}

/// Set in what [`walk`] returns when it reached the root.
const COMPLETE: u64 = 1 << 63;

/// The walk of [`Record::path`]: its own function, so that its stack is its own. Returns where the
/// next section begins, with [`COMPLETE`]; one register, as BPF functions return no more.
#[inline(never)]
fn walk(base: *mut u8, start: usize, mut dentry: Dentry, mut mount: Mount) -> u64 {
    let mut at = start;
    if at > SCRATCH_BYTES - PATH_BYTES - NAME_BYTES {
        return start as u64;
    }
    let mut complete = false;
    for _ in 0..PATH_STEPS {
        if Some(dentry) == mount.root() {
            let Some(parent) = mount.parent() else { break };
            if parent == mount {
                complete = true;
                break;
            }
            let Some(mountpoint) = mount.mountpoint() else { break };
            dentry = mountpoint;
            mount = parent;
            continue;
        }
        let (Some(parent), Some(name)) = (dentry.parent(), dentry.name()) else { break };
        if at > start + PATH_BYTES - NAME_BYTES || at > SCRATCH_BYTES - NAME_BYTES {
            break;
        }
        // SAFETY: `at + NAME_BYTES` lies in the slot (checked); the helper checks the source.
        let written = unsafe {
            bpf_probe_read_kernel_str(base.add(at).cast(), NAME_BYTES as u32, name.cast())
        };
        if written <= 0 || written > NAME_BYTES as i64 {
            break;
        }
        at += written as usize;
        if parent == dentry {
            // The root of no mount: a memfd, a pipe, a file of a detached mount.
            complete = true;
            break;
        }
        dentry = parent;
    }
    if at == start && complete {
        // The root directory itself.
        // SAFETY: `at` is below `SCRATCH_BYTES - NAME_BYTES` (checked at the top).
        unsafe { base.add(at).cast::<[u8; 2]>().write(*b"/\0") };
        at += 2;
    }
    at as u64 | if complete { COMPLETE } else { 0 }
}
