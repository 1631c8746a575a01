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
use tracer_common::limits::{FILE_RING_BYTES, LIFE_RING_BYTES, NAME_BYTES, SCRATCH_BYTES};
use tracer_common::probe::{DROPS, Drop, SCRATCHES, Tier};
use tracer_common::tag::{InodeKey, Tag};
use tracer_common::wire::Wire;

use crate::guard;
use crate::kernel::{Dentry, Path, Task, control};
use crate::ledger;
use crate::quota::{self, Bucket};

mod walk;

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
    /// The root of the first mount that the last walk came to the end of, or zero.
    left: u64,
    /// Bytes of the first name that the last walk wrote, and where it begins.
    leaf: u64,
    leaf_at: u64,
    /// What the last look at a name found, and the bytes that it is at.
    base: Base,
    three: u64,
    /// The descriptor that [`Record::descriptor_of`] found, and the number as far as it is read.
    number: u64,
    digits: u64,
}

/// What is known of the last component of a name.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Base {
    /// A hash of it.
    pub hash: u32,
    /// The name has a component before it, or is too long to know.
    pub slash: u16,
    /// It has `.so` in it, as libraries have.
    pub library: u16,
}

/// Which ring a record goes to.
#[derive(Clone, Copy)]
pub enum Ring {
    /// Process life: fork, exec, exit. Never held back.
    Life,
    /// The same ring, as far as the quota goes: what a process can do as often as it likes.
    Bounded,
    /// Files and connections.
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
pub fn diagnose(reason: u32) {
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
    header.seq = ledger::made(caller.slot);
    reserve(header, caller, body);
}

/// The same, as far as the quota goes.
#[inline(always)]
pub fn send_bounded<B: Wire>(kind: EventKind, caller: &Caller, body: B) {
    let mut header = header(kind, caller);
    header.seq = ledger::made(caller.slot);
    if quota::allows(Bucket::Life, header.tag, header.boot_ns) {
        reserve(header, caller, body);
    } else {
        ledger::lost(caller.slot, Drop::FileQuota);
    }
}

#[inline(always)]
fn reserve<B: Wire>(header: EventHeader, caller: &Caller, body: B) {
    match LIFE.reserve::<Fixed<B>>(0) {
        Some(mut entry) => {
            entry.write(Fixed { header, body });
            entry.submit(wake_up(&LIFE, header.tag));
        }
        None => ledger::lost(caller.slot, Drop::LifeRingFull),
    }
}

/// Sends a record of fixed size that is filled where it will be read, so that a large body is not on
/// the stack. The body that `fill` is given is zero; the kind is its wire number,
/// and the flags are added to the caller's.
#[inline(always)]
pub fn send_filled<B: Wire>(
    ring: Ring,
    kind: u16,
    flags: u16,
    caller: &Caller,
    fill: impl FnOnce(&mut B),
) {
    let (map, reason) = match ring {
        Ring::Life | Ring::Bounded => (&LIFE, Drop::LifeRingFull),
        Ring::Files => (&FILES, Drop::FileRingFull),
    };
    let mut header = header_raw(kind, caller);
    header.flags |= flags;
    header.seq = ledger::made(caller.slot);
    let bucket = match ring {
        Ring::Life => None,
        Ring::Bounded => Some(Bucket::Life),
        Ring::Files => Some(Bucket::Files),
    };
    if let Some(bucket) = bucket
        && !quota::allows(bucket, header.tag, header.boot_ns)
    {
        ledger::lost(caller.slot, Drop::FileQuota);
        return;
    }
    match map.reserve::<Fixed<B>>(0) {
        Some(mut entry) => {
            let at = entry.as_mut_ptr();
            // SAFETY: the entry is ours until it is submitted, and large enough; a body of zeroes is
            // valid, as it is for every bit pattern (`Wire`).
            unsafe {
                (&raw mut (*at).header).write(header);
                zero(&raw mut (*at).body);
                fill(&mut (*at).body);
            }
            entry.submit(wake_up(map, header.tag));
        }
        None => ledger::lost(caller.slot, reason),
    }
}

/// Zeroes a value word by word. What the compiler makes of a large `write_bytes` is a loop over bytes,
/// which costs a thousand instructions of the verifier each time it comes by.
///
/// # Safety
///
/// As for [`core::ptr::write_bytes`] of one `T`, at an address that is a multiple of eight.
#[inline(always)]
pub unsafe fn zero<T>(at: *mut T) {
    const { assert!(size_of::<T>().is_multiple_of(size_of::<u64>())) };
    for word in 0..size_of::<T>() / size_of::<u64>() {
        // SAFETY: a word of the value. Volatile, so that it is not made a loop over bytes again.
        unsafe { write_volatile(at.cast::<u64>().add(word), 0) };
    }
}

/// Copies a value word by word, for the same reason.
///
/// # Safety
///
/// As for [`core::ptr::copy_nonoverlapping`] of one `T`, between addresses that are multiples of
/// eight.
#[inline(always)]
pub unsafe fn copy<T>(from: *const T, to: *mut T) {
    const { assert!(size_of::<T>().is_multiple_of(size_of::<u64>())) };
    for word in 0..size_of::<T>() / size_of::<u64>() {
        // SAFETY: a word of each value, volatile as in `zero`.
        unsafe {
            write_volatile(
                to.cast::<u64>().add(word),
                read_volatile(from.cast::<u64>().add(word)),
            );
        }
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
            zero(body);
            body
        };
        Some((record, body))
    }

    /// The record that a program builds, by its slot: for a function that takes no pointers.
    #[inline(always)]
    pub fn at(slot: u64) -> Option<Self> {
        SCRATCH_MAP.get_ptr_mut(slot as u32).map(Self)
    }

    /// The last component of a name, to be looked at before it is known whether there will be a record:
    /// one of the kernel's or of the current process. `None` where it cannot be read.
    #[inline(always)]
    pub fn glance(caller: &Caller, name: *const u8, user: bool) -> Option<Base> {
        walk::glance(caller.slot.into(), name as u64, user.into());
        let Some(scratch) = SCRATCH_MAP.get_ptr_mut(caller.slot) else {
            dropped(Drop::NoScratch);
            return None;
        };
        // SAFETY: as in `len`.
        unsafe {
            if read_volatile(&raw const (*scratch).complete) == 0 {
                None
            } else {
                Some(read_volatile(&raw const (*scratch).base))
            }
        }
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

    /// Sets the subject's tag, where it is found after the record was begun.
    #[inline(always)]
    pub fn set_tag(self, tag: Tag) {
        let header = self.0.cast::<EventHeader>();
        // SAFETY: a slot begins with the header; otherwise as in `len`.
        unsafe { write_volatile(&raw mut (*header).tag, tag) };
    }

    /// Room for `bytes` more, if there is, and where it begins. Nobody may use the latter after a helper
    /// call: a number that lives through one is kept on the stack, and from there the verifier of 5.10
    /// reads it back without its bounds, for this very check too.
    #[inline(always)]
    fn room(self, bytes: usize) -> Option<(usize, *mut c_void)> {
        let at = self.len();
        // Read once more for the address: what is needed for long is kept on the stack, and the verifier
        // of 5.10 forgets there what it knew of it.
        let place = self.len();
        if place > SCRATCH_BYTES - bytes {
            return None;
        }
        // SAFETY: `place + bytes` lies in the slot, as just checked.
        Some((at, unsafe { self.0.cast::<u8>().add(place) }.cast()))
    }

    /// What was written to the room belongs to the record.
    #[inline(always)]
    fn grow(self, bytes: usize) {
        self.set_len(self.len() + bytes);
    }

    /// Makes it a record of another kind with the same body.
    #[inline(always)]
    pub fn kind(self, raw: u16) {
        let header = self.0.cast::<EventHeader>();
        // SAFETY: a slot begins with the header; otherwise as in `len`.
        unsafe { write_volatile(&raw mut (*header).kind, raw) }
    }

    /// Sends the record.
    #[inline(always)]
    pub fn finish<B: Wire>(self, ring: Ring) {
        let fixed = size_of::<EventHeader>() + size_of::<B>();
        hand_over(self.slot(), fixed as u64, ring as u64);
    }

    /// Appends a path as components, leaf first.
    ///
    /// Walks dentry parents, and at the root of a mount goes on from its mountpoint, as `d_path`
    /// does (`prepend_path`, fs/d_path.c), to the root of the mount namespace. Each name is whole and
    /// in its directory (`Dentry::sequence`); without the kernel's `rename_lock` a concurrent rename of
    /// an ancestor can still give a path that was true in parts. Dentries and mounts are freed by RCU, and every read is checked, so never a fault.
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
        walk::walk(self.slot(), path.dentry.number(), path.mount.number());
        self.climb();
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

    /// Where the file lies in a part of a file system that is mounted for itself, looks for watched
    /// directories above that part: it may be reached through them elsewhere. Only the first mount
    /// counts, which is the file's own.
    #[inline(always)]
    fn climb(self) {
        // SAFETY: as in `len`.
        let left = unsafe { read_volatile(&raw const (*self.0).left) };
        if left != 0 && self.is_watching() {
            walk::climb(self.slot(), left);
        }
    }

    #[inline(always)]
    fn set_left(self, root: Option<Dentry>) {
        let root = root.map_or(0, Dentry::number);
        // SAFETY: as in `len`.
        unsafe { write_volatile(&raw mut (*self.0).left, root) }
    }

    /// Whether a walk looks for a watched directory still.
    #[inline(always)]
    fn is_watching(self) -> bool {
        // SAFETY: as in `len`.
        unsafe { read_volatile(&raw const (*self.0).watch) != 0 }
    }

    /// Notes a directory that a walk comes to, if it is the first watched one.
    #[inline(always)]
    pub fn meet(self, directory: Dentry) {
        if !self.is_watching() {
            return;
        }
        if let Some(inode) = directory.inode()
            && let Some(key) = inode.key()
            && guard::is_watched(&key, inode)
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
        walk::look(self.slot(), at, len);
        // SAFETY: as in `len`.
        unsafe { read_volatile(&raw const (*self.0).base) }
    }

    /// The descriptor of the caller that a path of the current process names, as in
    /// `/proc/self/fd/7`; the highest number where it names none so. Appends nothing.
    #[inline(always)]
    pub fn descriptor_of(self, name: *const u8) -> u64 {
        walk::number_of(self.slot(), name as u64);
        // SAFETY: as in `len`.
        unsafe { read_volatile(&raw const (*self.0).number) }
    }

    /// The same, for a program that has no record to build: nothing is in its slot, its number neither.
    #[inline(always)]
    pub fn descriptor(caller: &Caller, name: *const u8) -> u64 {
        let Some(record) = Self::at(caller.slot.into()) else {
            return u64::MAX;
        };
        record.set_len(0);
        walk::number_of(caller.slot.into(), name as u64);
        // SAFETY: as in `len`.
        unsafe { read_volatile(&raw const (*record.0).number) }
    }

    /// Appends one name of the kernel's.
    #[inline(always)]
    pub fn name(self, name: *const u8) -> Option<u16> {
        let (_, to) = self.room(NAME_BYTES)?;
        // SAFETY: `room` gave that many bytes; the helper checks the source.
        let written = unsafe { bpf_probe_read_kernel_str(to, NAME_BYTES as u32, name.cast()) };
        if written <= 0 || written > NAME_BYTES as i64 {
            return None;
        }
        self.grow(written as usize);
        Some(written as u16)
    }

    /// Appends what stands for a root directory, whose path has no component.
    #[inline(always)]
    pub fn root(self) -> u16 {
        let Some((_, to)) = self.room(2) else {
            return 0;
        };
        // SAFETY: `room` gave two bytes.
        unsafe { to.cast::<[u8; 2]>().write_unaligned(*b"/\0") };
        self.grow(2);
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
        let Some((_, to)) = self.room(MAX) else {
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
        self.grow(written as usize);
        Section {
            len: written as u16,
            truncated: written == MAX as i64,
        }
    }

    /// Appends `len` bytes of the current process, at most `MAX`; `None` where they fault.
    #[inline(always)]
    pub fn user_bytes<const MAX: usize>(self, from: u64, len: u64) -> Option<u16> {
        let (_, to) = self.room(MAX)?;
        let len = if len > MAX as u64 { MAX as u64 } else { len };
        // SAFETY: `room` gave `MAX` bytes and `len` is not above it; the helper checks the source.
        let failed = unsafe { bpf_probe_read_user(to, len as u32, from as *const _) };
        if failed != 0 {
            return None;
        }
        self.grow(len as usize);
        Some(len as u16)
    }
}

/// Gives the record in a slot its number, and hands it over or counts it as lost. Its header and body
/// have `fixed` bytes. A global function as those of [`walk`] are.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hand_over(slot: u64, fixed: u64, ring: u64) -> u64 {
    let Some(scratch) = SCRATCH_MAP.get_ptr_mut(slot as u32) else {
        return 0;
    };
    let record = Record(scratch);
    let len = record.len();
    if len < fixed as usize || len > SCRATCH_BYTES {
        return 0;
    }
    let slot = slot as u32;
    let base = scratch.cast::<u8>();
    let header = base.cast::<EventHeader>();
    // SAFETY: a slot begins with the header.
    let (tag, boot_ns) = unsafe {
        (*header).tail_len = (len - fixed as usize) as u32;
        (*header).seq = ledger::made(slot);
        ((*header).tag, (*header).boot_ns)
    };
    let files = ring == Ring::Files as u64;
    let is_free = ring == Ring::Life as u64;
    let bucket = if !files {
        Bucket::Life
    } else if record.is_watched() {
        Bucket::Watched
    } else {
        Bucket::Files
    };
    if !is_free && !quota::allows(bucket, tag, boot_ns) {
        ledger::lost(slot, Drop::FileQuota);
        return 0;
    }
    // SAFETY: `base` is valid for `SCRATCH_BYTES`, and `len` is not larger (checked above).
    let bytes = unsafe { core::slice::from_raw_parts(base, len) };
    if files {
        if FILES.output::<[u8]>(bytes, wake_up(&FILES, tag)).is_err() {
            ledger::lost(slot, Drop::FileRingFull);
        }
    } else if LIFE.output::<[u8]>(bytes, wake_up(&LIFE, tag)).is_err() {
        ledger::lost(slot, Drop::LifeRingFull);
    }
    0
}
