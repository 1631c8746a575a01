//! Names and attributes of files that are changed, in the tracepoint tier: told by the strings of the
//! caller, or where the call has a descriptor by the file behind it.
//!
//! What server lineages do is told, and what anyone does to a file that one of them wrote. A string of
//! the caller is read after the call, when its page is resident because the kernel has just read it,
//! and once more when the call begins: where the two differ, another thread rewrote it, and user
//! space says so. What it is relative to is looked up at both times, too. Refuses to resolve a name: the
//! directory that it is relative to is the kernel's, the rest is what the caller said.

mod shape;

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use tracer_common::control::Call;
use tracer_common::event::{ChangeBody, EventKind, flag};
use tracer_common::limits::STRING_BYTES;
use tracer_common::tag::InodeKey;

use self::shape::{HERE, NONE, Shape};
use super::syscall::Syscall;
use crate::guard;
use crate::kernel::{self, Dentry, Path, Task, control};
use crate::output::{Caller, Record, Ring};

/// `AT_FDCWD` and flags of calls with names, include/uapi/linux/fcntl.h.
const AT_FDCWD: i32 = -100;
const AT_SYMLINK_FOLLOW: u32 = 0x400;

/// `RENAME_EXCHANGE`, include/uapi/linux/fs.h.
const RENAME_EXCHANGE: u32 = 0x2;

/// `S_IFMT` and the types that have a device (include/uapi/linux/stat.h).
const S_IFMT: u16 = 0o170_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFBLK: u16 = 0o060_000;

/// What is worked out in the course of one call. In a map for the verifier's sake, as the scratch
/// space of records is: see [`crate::output`].
#[map(name = "CHANGE")]
static WORK_MAP: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

type Work = [u64; WORK];

/// First the six arguments, then what stands for [`NONE`] and [`HERE`], then these.
const WORK: usize = 8 + Place::Written as usize + 1;

/// What is kept where.
#[derive(Clone, Copy)]
enum Place {
    /// The directory of the side that is looked at.
    Directory,
    /// And its name.
    Name,
    /// The entry that a descriptor without a name stands for, or zero.
    Whole,
    /// Not zero where the side has a name.
    Named,
    /// Bytes of the directory's path.
    DirectoryLen,
    /// Bytes of the name.
    NameLen,
    /// Not zero where the name has more than one component.
    Slash,
    /// Hash of its last one.
    Hash,
    /// What the name was relative to: a dentry and its mount, or zero where it is absolute.
    Dentry,
    Mount,
    /// Not zero where a name was relative to something else when the call began.
    Moved,
    /// The entry of the file that it happened to, or zero where only its name is known.
    Subject,
    /// Not zero where the caller is of a server's lineage.
    Tagged,
    /// Not zero where the old side is a descriptor, or there is none.
    Resolved,
    /// Not zero where a server's lineage may have written that file.
    Written,
}

/// Whether a call, by its code, is one of those below.
#[inline(always)]
pub fn is_change(code: u8) -> bool {
    code >= Call::Truncate64.code() && code <= Call::Ftruncate64Aligned.code()
}

/// A call begins: nothing is done yet, the strings are what the kernel is about to read, and what they
/// are relative to is what it is about to look up. The pages of the strings may not be resident.
#[inline(always)]
pub fn begins(caller: &Caller, call: &Syscall) {
    let Some(begin) = guard::Beginning::new() else {
        return;
    };
    let shape = Shape::of(call.code);
    let (old, new) = (call.arg_at(shape.old_name()), call.arg_at(shape.new_name()));
    if shape.has_old() != 0 {
        let mut directory = directory(call, shape.old_dir());
        let follows = call.arg_at(shape.flags()) as u32 & AT_SYMLINK_FOLLOW != 0;
        if shape.kind() == EventKind::Link.raw() as u8 && follows {
            let number = Record::descriptor(caller, old as *const u8);
            if number != u64::MAX {
                directory = number as i32;
            }
        }
        begin.place(guard::OLD, place(caller.task, directory));
    }
    let new_place = place(caller.task, directory(call, shape.new_dir()));
    begin.place(guard::NEW, new_place);
    begin.keep(caller, [old, new]);
}

/// The directory's descriptor that a call came with, by its place in a [`Shape`].
#[inline(always)]
fn directory(call: &Syscall, at: u8) -> i32 {
    if at == HERE {
        AT_FDCWD
    } else {
        call.arg_at(at) as i32
    }
}

/// A call that failed changed nothing.
#[inline(always)]
pub fn failed(caller: &Caller) {
    if caller.tag.is_server_lineage() {
        guard::end(caller);
    }
}

/// The call has succeeded.
#[inline(always)]
pub fn done(caller: &Caller, call: &Syscall) {
    let is_of_anyone = control!(any_writer) != 0 || Shape::of(call.code).anyone() != 0;
    if !is_of_anyone && !caller.tag.is_server_lineage() {
        return;
    }
    let Some(work) = Working::begin(caller, call) else {
        return;
    };
    change(caller, call, work);
    if is_tagged(work) {
        guard::end(caller);
    }
}

#[inline(always)]
fn change(caller: &Caller, call: &Syscall, work: Working) -> Option<()> {
    let shape = Shape::of(call.code);
    if !is_tagged(work) {
        if shape.anyone() != 0 {
            written(caller, work, shape);
        }
        let is_watched = control!(any_writer) != 0 && shape.kind() != EventKind::Mount.raw() as u8;
        if work.get(Place::Written) == 0 && !is_watched {
            return None;
        }
    }
    let (record, body) = Record::start::<ChangeBody>(EventKind::Rename, caller)?;
    record.kind(shape.kind().into());
    record.flag_if(!is_tagged(work), flag::UNTAGGED);
    // SAFETY: points into this program's own scratch slot, which is written by nobody else during this
    // run (see `output::SCRATCH_MAP`); the record writes behind it only.
    let body = unsafe { &mut *body };
    caller.task.ids(&mut body.ids);
    body.mnt_ns = caller.task.mnt_ns();
    body.call_flags = work.argument(shape.flags()) as u32 | u32::from(shape.implied());
    body.new_mode = work.argument(shape.mode()) as u16;
    number(call, work, shape, body);

    work.set(Place::Moved, 0);
    work.set(Place::Resolved, 1);
    if shape.has_old() != 0 {
        work.ask(shape.old_dir(), shape.old_name());
        if shape.kind() == EventKind::Link.raw() as u8 && body.call_flags & AT_SYMLINK_FOLLOW != 0 {
            descriptor(record, work);
        }
        side(caller.slot.into(), caller.task.number());
        body.old_dir_len = work.get(Place::DirectoryLen) as u16;
        body.old_len = work.get(Place::NameLen) as u16;
        moved(caller, work, guard::OLD);
        let whole = work.get(Place::Whole);
        work.set(Place::Resolved, whole);
        work.set(Place::Subject, whole);
        if shape.kind() == EventKind::Rename.raw() as u8 && body.call_flags & RENAME_EXCHANGE != 0 {
            guard::named(work.get(Place::Hash) as u32);
        }
    }
    record.watch(true);
    work.ask(shape.new_dir(), shape.new_name());
    side(caller.slot.into(), caller.task.number());
    body.new_dir_len = work.get(Place::DirectoryLen) as u16;
    body.new_len = work.get(Place::NameLen) as u16;
    moved(caller, work, guard::NEW);
    let whole = work.get(Place::Whole);
    let moved = work.get(Place::Moved) != 0;
    record.flag_if(moved, flag::BASE_CHANGED);
    record.flag_if(
        work.get(Place::Resolved) != 0 && whole != 0 && !moved,
        flag::RESOLVED,
    );
    if shape.has_old() == 0 {
        work.set(Place::Subject, whole);
    }
    // What lies below a component of the caller's may be anywhere.
    if work.get(Place::Slash) == 0 {
        body.directory = record.directory();
    }
    subject(work, body);

    let detail = work.argument(shape.detail()) as *const u8;
    let detail = record.user_string::<STRING_BYTES>(detail);
    body.detail_len = detail.len;
    record.flag_if(detail.truncated, flag::STRING_TRUNCATED);

    if is_tagged(work) {
        early(caller, record, body);
    } else if work.get(Place::Written) == 0
        && work.get(Place::Slash) == 0
        && body.directory == InodeKey::ZERO
    {
        return None;
    }
    if shape.kind() == EventKind::Rename.raw() as u8 || shape.kind() == EventKind::Link.raw() as u8
    {
        guard::named(work.get(Place::Hash) as u32);
    }
    record.finish::<ChangeBody>(Ring::Files);
    Some(())
}

#[inline(always)]
fn is_tagged(work: Working) -> bool {
    work.get(Place::Tagged) != 0
}

/// The number that goes with the kind.
#[inline(always)]
fn number(call: &Syscall, work: Working, shape: Shape, body: &mut ChangeBody) {
    let (high, low) = (work.argument(shape.high()), work.argument(shape.low()));
    let unused = shape.unused() & 63;
    body.number = high << 32 | low << unused >> unused;
    if call.is(Call::Chown16) || call.is(Call::Fchown16) {
        body.number = wide(high) << 32 | wide(low);
    } else if call.is(Call::Setxattrat) {
        // `struct xattr_args` (include/uapi/linux/xattr.h): address and size of the value.
        body.number = kernel::user_word(call.arg::<4>().wrapping_add(8)).into();
    } else if shape.kind() == EventKind::Mknod.raw() as u8 {
        // From the encoding of the call to the kernel's own (`new_decode_dev`,
        // include/linux/kdev_t.h). Other types have none.
        let kind = body.new_mode & S_IFMT;
        body.number = if kind == S_IFCHR || kind == S_IFBLK {
            (low & 0xf_ff00) << 12 | low & 0xff | low >> 12 & 0xf_ff00
        } else {
            0
        };
    }
}

/// A user or group of 16 bits (`low2highuid`, include/linux/highuid.h).
#[inline(always)]
fn wide(id: u64) -> u64 {
    let id = id & 0xffff;
    if id == 0xffff { u32::MAX.into() } else { id }
}

/// What is known of the file where the call came with its descriptor.
#[inline(always)]
fn subject(work: Working, body: &mut ChangeBody) {
    let entry = work.get(Place::Subject) as *const u8;
    if let Some(inode) = Dentry::new(entry).and_then(Dentry::inode) {
        let _key = guard::fill(body, inode);
    }
}

/// Notes whether the name that [`side`] looked at last was relative to something else when the call
/// began: another thread changed the descriptor or the working directory.
#[inline(always)]
fn moved(caller: &Caller, work: Working, side: u64) {
    let (dentry, mount) = (work.get(Place::Dentry), work.get(Place::Mount));
    if is_tagged(work) && dentry != 0 && guard::was_elsewhere(caller, side, dentry, mount) {
        work.set(Place::Moved, 1);
    }
}

/// Appends the names as they were when the call began, as far as they could be read then. Where a
/// descriptor was found in the old name, its name has to have been one at the begin too: of which file,
/// [`moved`] has seen.
#[inline(always)]
fn early(caller: &Caller, record: Record, body: &mut ChangeBody) {
    let Some(begin) = guard::begun(caller) else {
        record.flag_if(true, flag::UNVERIFIED);
        return;
    };
    record.flag_if(begin.unread != 0, flag::UNVERIFIED);
    if begin.unread & guard::OLD == 0 {
        body.early_old_len = record.kernel_string::<STRING_BYTES>(begin.old).len;
    }
    if begin.unread & guard::NEW == 0 {
        body.early_new_len = record.kernel_string::<STRING_BYTES>(begin.new).len;
    }
}

/// Notes whether a server's lineage may have written the file that a call of someone else is about:
/// by the file where there is one, else by the last component of its name. Of two that change places it
/// may be either.
#[inline(always)]
fn written(caller: &Caller, work: Working, shape: Shape) {
    if shape.has_old() != 0 {
        work.ask(shape.old_dir(), shape.old_name());
    } else {
        work.ask(shape.new_dir(), shape.new_name());
    }
    look_up(caller, work);
    let is_exchange = shape.kind() == EventKind::Rename.raw() as u8
        && work.argument(shape.flags()) as u32 & RENAME_EXCHANGE != 0;
    if is_exchange && work.get(Place::Written) == 0 {
        work.ask(shape.new_dir(), shape.new_name());
        look_up(caller, work);
    }
}

/// The same of one side.
#[inline(never)]
fn look_up(caller: &Caller, work: Working) {
    let name = work.get(Place::Name) as *const u8;
    let is_written = if name.is_null() || kernel::user_byte(name) == Some(0) {
        let path = base(work, caller.task);
        match path.and_then(|path| path.dentry.inode()) {
            Some(inode) => match inode.key() {
                Some(key) => guard::writer(&key, inode).tgid != 0,
                None => false,
            },
            None => false,
        }
    } else {
        match Record::glance(caller, name, true) {
            Some(base) => guard::is_written_name(base.hash),
            None => false,
        }
    };
    work.set(Place::Written, is_written.into());
}

/// The place that the directory of a side stands for.
#[inline(always)]
fn base(work: Working, task: Task) -> Option<Path> {
    place(task, work.get(Place::Directory) as i32)
}

/// The place that a descriptor stands for.
#[inline(always)]
fn place(task: Task, fd: i32) -> Option<Path> {
    if fd == AT_FDCWD {
        task.cwd()
    } else {
        task.file(fd as u32).and_then(|file| file.path())
    }
}

/// Appends a side: the directory that its name is relative to (nothing where the name is absolute, and
/// the descriptor then may be anything), and the name. An empty name, with which no call succeeds
/// that does not take it so (`AT_EMPTY_PATH`), and none at all stand for the descriptor itself: then
/// its whole path is the directory. What it is asked and what it found is in the map, and it is a
/// global function as the walk of [`crate::output`] is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn side(slot: u64, task: u64) -> u64 {
    let (Some(record), Some(work), Some(task)) = (
        Record::at(slot),
        Working::get_mut(),
        Task::new(task as *const u8),
    ) else {
        return 0;
    };
    let name = work.get(Place::Name) as *const u8;
    work.set(Place::Whole, 0);
    work.set(Place::Dentry, 0);
    work.set(Place::DirectoryLen, 0);
    work.set(Place::NameLen, 0);
    work.set(Place::Hash, 0);
    let first = if name.is_null() {
        Some(0)
    } else {
        kernel::user_byte(name)
    };
    work.set(Place::Named, (first != Some(0)).into());
    work.set(Place::Slash, (first == Some(b'/')).into());
    if work.get(Place::Slash) == 0 {
        let path = base(work, task);
        if let Some(path) = path {
            work.set(Place::Dentry, path.dentry.number());
            work.set(Place::Mount, path.mount.number());
            if work.get(Place::Named) == 0 {
                work.set(Place::Whole, path.dentry.number());
            } else {
                record.meet(path.dentry);
            }
        }
        let directory = record.path(path);
        work.set(Place::DirectoryLen, directory.len.into());
        record.flag_if(directory.truncated, flag::PATH_TRUNCATED);
    }
    if work.get(Place::Named) != 0 {
        let name = work.get(Place::Name) as *const u8;
        let name = record.user_string::<STRING_BYTES>(name);
        work.set(Place::NameLen, name.len.into());
        record.flag_if(name.truncated, flag::STRING_TRUNCATED);
        let last = record.last(work.get(Place::NameLen) as u16);
        work.set(Place::Hash, last.hash.into());
        work.set(
            Place::Slash,
            work.get(Place::Slash) | u64::from(last.slash) | u64::from(name.truncated),
        );
    }
    0
}

/// Where the name that is asked for is that of a descriptor of the caller (proc(5)), asks for the
/// descriptor instead: how a file without a name gets one where the caller has no rights for
/// `AT_EMPTY_PATH`.
#[inline(always)]
fn descriptor(record: Record, work: Working) {
    let number = record.descriptor_of(work.get(Place::Name) as *const u8);
    if number != u64::MAX {
        work.set(Place::Directory, number);
        work.set(Place::Name, 0);
    }
}

/// This CPU's [`Work`].
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Working(*mut Work);

impl Working {
    #[inline(always)]
    fn get_mut() -> Option<Self> {
        WORK_MAP.get_ptr_mut(0).map(Self)
    }

    #[inline(always)]
    fn begin(caller: &Caller, call: &Syscall) -> Option<Self> {
        let work = Self::get_mut()?;
        work.put(0, call.arg::<0>());
        work.put(1, call.arg::<1>());
        work.put(2, call.arg::<2>());
        work.put(3, call.arg::<3>());
        work.put(4, call.arg::<4>());
        work.put(5, call.arg::<5>());
        work.put(NONE.into(), 0);
        work.put(HERE.into(), AT_FDCWD as u64);
        work.set(Place::Tagged, caller.tag.roles.into());
        work.set(Place::Subject, 0);
        work.set(Place::Written, 0);
        Some(work)
    }

    /// An argument by its place in a [`Shape`].
    #[inline(always)]
    fn argument(self, at: u8) -> u64 {
        self.take((at & 7).into())
    }

    /// Has [`side`] look at this directory and name.
    #[inline(always)]
    fn ask(self, directory: u8, name: u8) {
        self.set(Place::Directory, self.argument(directory));
        self.set(Place::Name, self.argument(name));
    }

    #[inline(always)]
    fn get(self, place: Place) -> u64 {
        self.take(8 + place as usize)
    }

    #[inline(always)]
    fn set(self, place: Place, value: u64) {
        self.put(8 + place as usize, value);
    }

    /// Callers keep `at` below [`WORK`].
    #[inline(always)]
    fn take(self, at: usize) -> u64 {
        // SAFETY: the pointer is this CPU's own, valid for the program's run, and `at` lies in it.
        // Volatile, so that the value stays out of registers.
        unsafe { read_volatile(self.0.cast::<u64>().add(at)) }
    }

    /// As [`Self::take`].
    #[inline(always)]
    fn put(self, at: usize, value: u64) {
        // SAFETY: as in `take`.
        unsafe { write_volatile(self.0.cast::<u64>().add(at), value) }
    }
}
