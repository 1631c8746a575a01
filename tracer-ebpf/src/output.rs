//! The only way out: two rings, the scratch space records are built in, and the count of what was
//! lost.

use core::ffi::c_void;
use core::mem::size_of;
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_probe_read_kernel_str,
    bpf_probe_read_user, bpf_probe_read_user_str,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use tracer_common::event::{EventHeader, EventKind, VERSION};
use tracer_common::ledger::{Ledger, Line, column};
use tracer_common::limits::{
    FILE_RING_BYTES, LIFE_RING_BYTES, NAME_BYTES, PATH_BYTES, PATH_STEPS, SCRATCH_BYTES,
};
use tracer_common::probe::{DROPS, Drop, SCRATCHES, SLOTS, Tier};
use tracer_common::tag::{InodeKey, Tag};
use tracer_common::wire::Wire;

use crate::guard;
use crate::kernel::{Dentry, Mount, Path, Task, control};
use crate::quota;

#[map]
static LIFE: RingBuf = RingBuf::with_byte_size(LIFE_RING_BYTES, 0);

#[map]
static FILES: RingBuf = RingBuf::with_byte_size(FILE_RING_BYTES, 0);

#[map(name = "DROPS")]
static DROP_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(DROPS, 0);

/// How many records each program has made on each CPU, delivered or not, and how many of them it lost.
/// One value, so that user space reads it whole.
#[map(name = "LEDGER")]
static LEDGER_MAP: PerCpuArray<Ledger> = PerCpuArray::with_max_entries(1, 0);

/// One slot per probe and CPU. Kernels whose tracepoints may be preempted still never run the same
/// program twice at once on one CPU (`__bpf_trace_run`, kernel/trace/bpf_trace.c, counts a miss
/// instead), so a slot has one writer.
#[map(name = "SCRATCH")]
static SCRATCH_MAP: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(SCRATCHES, 0);

/// Where the next section begins is kept in the map too, not in a register: what is read from map
/// memory is any number to the verifier, so its states at the top of a loop are alike and it sees
/// each step of a path walk once, not once for every way to get there. So is what a walk found: a
/// value that a function returns would have the verifier of 5.10 take every number on the way
/// there for one that matters (`backtrack_insn`, kernel/bpf/verifier.c, cannot go back into it).
#[repr(C, align(8))]
struct Scratch {
    record: [u8; SCRATCH_BYTES],
    len: u64,
    complete: u64,
    /// Whether walks look for watched directories.
    watch: u64,
    /// The nearest one that the last walk met.
    directory: InodeKey,
    /// Whether any walk of this record met one.
    watched: u64,
    /// Bytes of the first name that the last walk wrote, and where it begins.
    leaf: u64,
    leaf_at: u64,
    /// What the last look at a name found.
    base: Base,
}

/// What is known of the last component of a name.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Base {
    /// A hash of it.
    pub hash: u32,
    /// The name has a component before it.
    pub slash: u16,
    /// It has `.so` in it, as libraries have.
    pub library: u16,
}

/// Which ring a record goes to.
#[derive(Clone, Copy)]
pub enum Ring {
    /// Fork, exec, exit, listen.
    Life,
    /// Open, rename.
    Files,
}

/// Counts a loss, other than of a record that has its number.
#[inline(always)]
pub fn dropped(reason: Drop) {
    if let Some(count) = DROP_COUNTS.get_ptr_mut(reason as u32) {
        // SAFETY: the pointer is this CPU's own counter, valid for the program's run. A program that
        // interrupts another right here may hide a count of the other's; what the ledger rests on is
        // counted apart (`lost`).
        unsafe { *count += 1 };
    }
    #[cfg(feature = "log")]
    diagnose(reason as u32);
}

/// Says a loss at once, by the number of its reason, in builds with diagnostics.
#[cfg(feature = "log")]
#[inline(never)]
fn diagnose(reason: u32) {
    aya_log_ebpf::warn!((), "drop {}", reason);
}

/// Who does what is told, and which program tells it.
#[derive(Clone, Copy)]
pub struct Caller {
    /// The task.
    pub task: Task,
    /// Its thread group.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// Its tag.
    pub tag: Tag,
    /// Slot of the program.
    pub slot: u32,
    /// Its tier.
    pub tier: Tier,
    /// Bits of [`flag`](tracer_common::event::flag) that hold whatever is told.
    pub flags: u16,
}

/// Nanoseconds since boot, suspend included.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: takes no argument, reads a clock.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// A header for an event of the caller, now.
#[inline(always)]
pub fn header(kind: EventKind, caller: &Caller) -> EventHeader {
    header_raw(kind.raw(), caller)
}

#[inline(always)]
fn header_raw(kind: u16, caller: &Caller) -> EventHeader {
    EventHeader {
        boot_ns: now(),
        start_boot_ns: caller.task.start_boot_ns(),
        seq: 0,
        tag: caller.tag,
        tgid: caller.tgid,
        tid: caller.tid,
        tail_len: 0,
        // SAFETY: takes no argument.
        cpu: unsafe { bpf_get_smp_processor_id() } as u32,
        kind,
        flags: caller.flags,
        tier: caller.tier as u8,
        version: VERSION,
        slot: caller.slot as u16,
    }
}

/// The line of a program in this CPU's ledger. A program is not run twice at once on one CPU, so it
/// has one writer.
#[inline(always)]
fn line(slot: u32) -> Option<*mut Line> {
    let ledger = LEDGER_MAP.get_ptr_mut(0)?;
    // SAFETY: the pointer is this CPU's own ledger, valid for the program's run, and the masked slot is
    // one of its lines.
    Some(unsafe {
        (&raw mut (*ledger).lines)
            .cast::<Line>()
            .add((slot & (SLOTS - 1)) as usize)
    })
}

/// The number of a record that is about to be handed over.
#[inline(always)]
fn number(slot: u32) -> u64 {
    let Some(line) = line(slot) else {
        return 0;
    };
    // SAFETY: as `line` says.
    unsafe {
        (*line).made += 1;
        (*line).made
    }
}

/// Counts a record that is lost after it got its number, in the column of its reason.
#[inline(always)]
fn lost(slot: u32, reason: Drop) {
    let (Some(line), Some(column)) = (line(slot), column(reason)) else {
        return;
    };
    // SAFETY: as `line` says, and the column is one of the line's.
    unsafe { *(&raw mut (*line).lost).cast::<u64>().add(column) += 1 };
    #[cfg(feature = "log")]
    diagnose(reason as u32);
}

/// Whether a record wakes the reader: an alert may hang on one of a server lineage; any other only
/// where much is waiting already (`BPF_RB_*`, include/uapi/linux/bpf.h).
#[inline(always)]
fn wake_up(ring: &RingBuf, tag: Tag) -> u64 {
    if tag.is_server_lineage()
        || ring.query(u64::from(BPF_RB_AVAIL_DATA)) > u64::from(control!(wake_bytes))
    {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
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
pub fn send<B: Wire>(kind: EventKind, caller: &Caller, body: B) {
    let mut header = header(kind, caller);
    header.seq = number(caller.slot);
    match LIFE.reserve::<Fixed<B>>(0) {
        Some(mut entry) => {
            entry.write(Fixed { header, body });
            entry.submit(wake_up(&LIFE, header.tag));
        }
        None => lost(caller.slot, Drop::LifeRingFull),
    }
}

/// A record under construction, in a scratch slot: header, body, then sections.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Record(*mut Scratch);

/// A section as it was written.
pub struct Section {
    /// Bytes.
    pub len: u16,
    /// Something is missing from it.
    pub truncated: bool,
}

impl Record {
    /// Starts a record with body `B`, all zero, in the scratch space of the caller's program.
    #[inline(always)]
    pub fn start<B: Wire>(kind: EventKind, caller: &Caller) -> Option<(Self, *mut B)> {
        Self::start_raw(kind.raw(), caller)
    }

    /// The same, for a kind that is known as a number only.
    #[inline(always)]
    pub fn start_raw<B: Wire>(kind: u16, caller: &Caller) -> Option<(Self, *mut B)> {
        let Some(scratch) = SCRATCH_MAP.get_ptr_mut(caller.slot) else {
            dropped(Drop::NoScratch);
            return None;
        };
        let record = Self(scratch);
        record.set_len(size_of::<EventHeader>() + size_of::<B>());
        record.watch(false);
        // SAFETY: as in `len`.
        unsafe { write_volatile(&raw mut (*scratch).watched, 0) };
        let at = scratch.cast::<EventHeader>();
        // SAFETY: the slot is larger than header and body together; both are eight-byte aligned in
        // it, as the header's size is a multiple of eight. It is written by nobody else during this
        // run (see `SCRATCH_MAP`).
        let body = unsafe {
            at.write(header_raw(kind, caller));
            let body = at.add(1).cast::<B>();
            body.write_bytes(0, 1);
            body
        };
        Some((record, body))
    }

    /// Starts over with nothing in the scratch space of the caller's program, to look at names before it
    /// is known whether there will be a record.
    #[inline(always)]
    pub fn blank(caller: &Caller) -> Option<Self> {
        let Some(scratch) = SCRATCH_MAP.get_ptr_mut(caller.slot) else {
            dropped(Drop::NoScratch);
            return None;
        };
        let record = Self(scratch);
        record.set_len(0);
        Some(record)
    }

    /// Whether the walks that follow look for watched directories.
    #[inline(always)]
    pub fn watch(self, on: bool) {
        // SAFETY: as in `len`.
        unsafe {
            write_volatile(&raw mut (*self.0).watch, on.into());
            write_volatile(&raw mut (*self.0).directory, InodeKey::ZERO);
        }
    }

    /// The nearest watched directory that the last walk met; zero where none.
    #[inline(always)]
    pub fn directory(self) -> InodeKey {
        // SAFETY: as in `len`.
        unsafe { read_volatile(&raw const (*self.0).directory) }
    }

    /// Whether any walk of the record met a watched directory.
    #[inline(always)]
    fn is_watched(self) -> bool {
        // SAFETY: as in `len`.
        unsafe { read_volatile(&raw const (*self.0).watched) != 0 }
    }

    /// The slot of the program, and so of the scratch space.
    #[inline(always)]
    fn slot(self) -> u64 {
        // SAFETY: a slot begins with the header; otherwise as in `len`.
        unsafe { read_volatile(&raw const (*self.0.cast::<EventHeader>()).slot).into() }
    }

    #[inline(always)]
    fn len(self) -> usize {
        // SAFETY: the pointer is a slot of this program, valid for its run. Volatile, so that the
        // value stays out of registers (see `Scratch`).
        unsafe { read_volatile(&raw const (*self.0).len) as usize }
    }

    #[inline(always)]
    fn set_len(self, len: usize) {
        // SAFETY: as in `len`.
        unsafe { write_volatile(&raw mut (*self.0).len, len as u64) }
    }

    #[inline(always)]
    fn complete(self) -> bool {
        // SAFETY: as in `len`.
        unsafe { read_volatile(&raw const (*self.0).complete) != 0 }
    }

    #[inline(always)]
    fn set_complete(self, complete: bool) {
        // SAFETY: as in `len`.
        unsafe { write_volatile(&raw mut (*self.0).complete, complete.into()) }
    }

    /// An address as any number, by way of the map: an argument of a function is a pointer to the
    /// verifier, which global functions do not take.
    #[inline(always)]
    pub fn plain(self, address: u64) -> u64 {
        // SAFETY: as in `len`. The field is set anew by each walk.
        unsafe {
            write_volatile(&raw mut (*self.0).complete, address);
            read_volatile(&raw const (*self.0).complete)
        }
    }

    /// Sets bits of the header's flags, if something is so. In the map at once, for the verifier's
    /// sake (see [`Scratch`]): a flag in a register would have it see all that follows twice.
    #[inline(always)]
    pub fn flag_if(self, is_so: bool, bits: u16) {
        if is_so {
            let header = self.0.cast::<EventHeader>();
            // SAFETY: a slot begins with the header; otherwise as in `len`.
            unsafe {
                let flags = read_volatile(&raw const (*header).flags);
                write_volatile(&raw mut (*header).flags, flags | bits);
            }
        }
    }

    /// Room for `bytes` more, if there is.
    #[inline(always)]
    fn room(self, bytes: usize) -> Option<(usize, *mut c_void)> {
        let at = self.len();
        if at > SCRATCH_BYTES - bytes {
            return None;
        }
        // SAFETY: `at + bytes` lies in the slot, as just checked.
        Some((at, unsafe { self.0.cast::<u8>().add(at) }.cast()))
    }

    /// Sends the record.
    #[inline(always)]
    pub fn finish<B: Wire>(self, ring: Ring) {
        let len = self.len();
        let fixed = size_of::<EventHeader>() + size_of::<B>();
        if len < fixed || len > SCRATCH_BYTES {
            return;
        }
        let base = self.0.cast::<u8>();
        let header = base.cast::<EventHeader>();
        // SAFETY: a slot begins with the header.
        let (slot, tag, boot_ns) = unsafe {
            (*header).tail_len = (len - fixed) as u32;
            let slot = u32::from((*header).slot);
            (*header).seq = number(slot);
            (slot, (*header).tag, (*header).boot_ns)
        };
        let (map, reason) = match ring {
            Ring::Life => (&LIFE, Drop::LifeRingFull),
            Ring::Files => (&FILES, Drop::FileRingFull),
        };
        if matches!(ring, Ring::Files) && !self.is_watched() && !quota::allows(tag.server, boot_ns)
        {
            lost(slot, Drop::FileQuota);
            return;
        }
        // SAFETY: `base` is valid for `SCRATCH_BYTES`, and `len` is not larger (checked above).
        let bytes = unsafe { core::slice::from_raw_parts(base, len) };
        if map.output::<[u8]>(bytes, wake_up(map, tag)).is_err() {
            lost(slot, reason);
        }
    }

    /// Appends a path as components, leaf first.
    ///
    /// Walks dentry parents, and at the root of a mount goes on from its mountpoint, as `d_path`
    /// does (`prepend_path`, fs/d_path.c), to the root of the mount namespace. Without the
    /// kernel's `rename_lock` a concurrent rename of an ancestor can give a path that was true in
    /// parts; dentries and mounts are freed by RCU, and every read is checked, so never a fault.
    #[inline(always)]
    pub fn path(self, path: Option<Path>) -> Section {
        let Some(path) = path else {
            dropped(Drop::PathFault);
            return Section {
                len: 0,
                truncated: true,
            };
        };
        let start = self.len();
        walk(self.slot(), path.dentry.number(), path.mount.number());
        let complete = self.complete();
        if !complete {
            dropped(Drop::PathFault);
        }
        Section {
            // At most PATH_BYTES.
            len: self.len().wrapping_sub(start) as u16,
            truncated: !complete,
        }
    }

    /// Notes a directory that a walk comes to, if it is the first watched one.
    #[inline(always)]
    pub fn meet(self, directory: Dentry) {
        // SAFETY: as in `len`.
        let watch = unsafe { read_volatile(&raw const (*self.0).watch) != 0 };
        if !watch {
            return;
        }
        if let Some(key) = directory.inode().and_then(|inode| inode.key())
            && guard::is_watched(&key)
        {
            // SAFETY: as in `len`.
            unsafe {
                write_volatile(&raw mut (*self.0).directory, key);
                write_volatile(&raw mut (*self.0).watch, 0);
                write_volatile(&raw mut (*self.0).watched, 1);
            }
        }
    }

    /// The last component of the path that the last walk wrote.
    #[inline(always)]
    pub fn leaf(self) -> Base {
        // SAFETY: as in `len`.
        let (at, len) = unsafe {
            (
                read_volatile(&raw const (*self.0).leaf_at),
                read_volatile(&raw const (*self.0).leaf),
            )
        };
        self.base(at, len)
    }

    /// The last component of the string that was written last, `written` bytes with its NUL.
    #[inline(always)]
    pub fn last(self, written: u16) -> Base {
        self.base(
            (self.len() as u64).wrapping_sub(written.into()),
            written.into(),
        )
    }

    #[inline(always)]
    fn base(self, at: u64, len: u64) -> Base {
        look(self.slot(), at, len);
        // SAFETY: as in `len`.
        unsafe { read_volatile(&raw const (*self.0).base) }
    }

    /// Appends one name of the kernel's.
    #[inline(always)]
    pub fn name(self, name: *const u8) -> Option<u16> {
        let (at, to) = self.room(NAME_BYTES)?;
        // SAFETY: `room` gave that many bytes; the helper checks the source.
        let written = unsafe { bpf_probe_read_kernel_str(to, NAME_BYTES as u32, name.cast()) };
        if written <= 0 || written > NAME_BYTES as i64 {
            return None;
        }
        self.set_len(at + written as usize);
        Some(written as u16)
    }

    /// Appends what stands for a root directory, whose path has no component.
    #[inline(always)]
    pub fn root(self) -> u16 {
        let Some((at, to)) = self.room(2) else {
            return 0;
        };
        // SAFETY: `room` gave two bytes.
        unsafe { to.cast::<[u8; 2]>().write_unaligned(*b"/\0") };
        self.set_len(at + 2);
        2
    }

    /// Appends a kernel string, at most `MAX` bytes with its NUL.
    #[inline(always)]
    pub fn kernel_string<const MAX: usize>(self, string: *const u8) -> Section {
        self.string::<MAX>(string, false)
    }

    /// Appends a string of the current process.
    #[inline(always)]
    pub fn user_string<const MAX: usize>(self, string: *const u8) -> Section {
        self.string::<MAX>(string, true)
    }

    #[inline(always)]
    fn string<const MAX: usize>(self, string: *const u8, user: bool) -> Section {
        if string.is_null() {
            return Section {
                len: 0,
                truncated: false,
            };
        }
        let Some((at, to)) = self.room(MAX) else {
            return Section {
                len: 0,
                truncated: true,
            };
        };
        let written = if user {
            // SAFETY: `room` gave that many bytes; the helper checks the source.
            unsafe { bpf_probe_read_user_str(to, MAX as u32, string.cast()) }
        } else {
            // SAFETY: as above.
            unsafe { bpf_probe_read_kernel_str(to, MAX as u32, string.cast()) }
        };
        if written <= 0 || written > MAX as i64 {
            dropped(Drop::StringFault);
            return Section {
                len: 0,
                truncated: true,
            };
        }
        self.set_len(at + written as usize);
        Section {
            len: written as u16,
            truncated: written == MAX as i64,
        }
    }

    /// Appends `len` bytes of the current process, at most `MAX`; `None` where they fault.
    #[inline(always)]
    pub fn user_bytes<const MAX: usize>(self, from: u64, len: u64) -> Option<u16> {
        let (at, to) = self.room(MAX)?;
        let len = if len > MAX as u64 { MAX as u64 } else { len };
        // SAFETY: `room` gave `MAX` bytes and `len` is not above it; the helper checks the source.
        let failed = unsafe { bpf_probe_read_user(to, len as u32, from as *const _) };
        if failed != 0 {
            return None;
        }
        self.set_len(at + len as usize);
        Some(len as u16)
    }
}

/// The walk of [`Record::path`]. What it found is in the scratch slot: see [`Scratch`].
///
/// A global function (`BTF_FUNC_GLOBAL`): the verifier goes through it once for each program, for any
/// arguments, and not once more wherever it is called (`do_check_subprogs`, kernel/bpf/verifier.c).
/// Its arguments can therefore be numbers only: the slot, and the addresses of a dentry and a mount.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk(slot: u64, dentry: u64, mount: u64) -> u64 {
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
    for _ in 0..PATH_STEPS {
        if Some(dentry) == mount.root() {
            let Some(parent) = mount.parent() else { break };
            if parent == mount {
                record.set_complete(true);
                break;
            }
            let Some(mountpoint) = mount.mountpoint() else {
                break;
            };
            dentry = mountpoint;
            mount = parent;
            continue;
        }
        let (Some(parent), Some(name)) = (dentry.parent(), dentry.name()) else {
            break;
        };
        record.meet(parent);
        let at = record.len();
        if at > start + PATH_BYTES - NAME_BYTES {
            break;
        }
        let Some(written) = record.name(name) else {
            break;
        };
        if at == start {
            // SAFETY: as in `Record::len`.
            unsafe { write_volatile(&raw mut (*record.0).leaf, written.into()) };
        }
        if parent == dentry {
            // The root of no mount: a memfd, a pipe, a file of a detached mount.
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

/// Looks at a name from its end, `len` bytes with its NUL at `at` of the scratch slot, as far as its
/// last component goes. A global function as [`walk`] is, and what it found is in the slot.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn look(slot: u64, at: u64, len: u64) -> u64 {
    let Some(scratch) = SCRATCH_MAP.get_ptr_mut(slot as u32) else {
        return 0;
    };
    let record = Record(scratch);
    // FNV-1a, over the bytes from the last to the first.
    let mut hash: u32 = 0x811c_9dc5;
    let mut three: u32 = 0;
    // SAFETY: as in `Record::len`.
    unsafe {
        write_volatile(&raw mut (*record.0).base.slash, 0);
        write_volatile(&raw mut (*record.0).base.library, 0);
    }
    for back in 0..NAME_BYTES as u64 {
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
        three = (three << 8 | u32::from(byte)) & 0xff_ffff;
        if three == u32::from_be_bytes([0, b'o', b's', b'.']) {
            // SAFETY: as in `Record::len`.
            unsafe { write_volatile(&raw mut (*record.0).base.library, 1) };
        }
    }
    // SAFETY: as in `Record::len`.
    unsafe { write_volatile(&raw mut (*record.0).base.hash, hash) };
    0
}
