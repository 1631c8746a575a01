//! Files that server lineages open for writing, create or rename.

use core::ptr::read_volatile;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use tracer_common::control::SyscallAbi;
use tracer_common::event::{EventKind, OpenBody, RenameBody, flag, fmode};
use tracer_common::limits::STRING_BYTES;
use tracer_common::probe::{Drop, SLOT_SYSCALL};
use tracer_common::tag::Tag;

use crate::guard;
use crate::kernel::{self, Registers, Task, control};
use crate::output::{self, Record, Ring};

/// `trace_sys_exit(regs, ret)` (`syscall_exit_work`, kernel/entry): the call is done, its result is
/// known and a new descriptor is installed, but the caller has not seen it. The raw tracepoint
/// fires for every convention, 32-bit and x32 included, which the per-call ones do not.
///
/// The order of the tests is the cost of every system call on the host: result, number, tag.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit(ctx: RawTracePointContext) -> i32 {
    let result: i64 = ctx.arg(1);
    if result < 0 {
        return 0;
    }
    let registers = Registers::new(ctx.arg(0));
    let Some(number) = registers.number() else {
        return 0;
    };
    if !of_interest(number) {
        return 0;
    }
    let tgid = ctx.tgid();
    let tag = guard::tag(tgid);
    if !tag.is_server_lineage() || tgid == kernel::own_tgid() {
        return 0;
    }
    let Some(task) = Task::current() else {
        return 0;
    };
    let caller = Caller {
        task,
        tgid,
        tid: ctx.pid(),
        tag,
    };
    // The bit itself is the index, without a branch: the verifier then goes through what follows
    // once, for any convention, and not once for each.
    let convention = (task.compat_word() >> control!(compat_shift)) as usize & 1;
    let abi = Abi(convention);
    let flags = if convention == 0 { 0 } else { flag::COMPAT };
    if abi.opens(number) {
        open(caller, result as u32, flags);
    } else if abi.renames(number) {
        rename(caller, &Names::of(abi, registers, number), flags);
    }
    0
}

#[derive(Clone, Copy)]
struct Caller {
    task: Task,
    tgid: u32,
    tid: u32,
    tag: Tag,
}

/// Whether a call is one of ours in either convention. A number that means something else in the
/// caller's own is sorted out after the tag test.
#[inline(always)]
fn of_interest(number: u32) -> bool {
    let (native, compat) = (Abi(0), Abi(1));
    native.opens(number) || compat.opens(number) || native.renames(number) || compat.renames(number)
}

/// A convention: its index in [`Control::abi`](tracer_common::control::Control::abi), 0 or 1.
#[derive(Clone, Copy)]
struct Abi(usize);

/// Reads a setting of a convention.
macro_rules! setting {
    ($abi:expr, $($field:tt)+) => {{
        let table = (&raw const kernel::CONTROL.abi).cast::<SyscallAbi>();
        // SAFETY: the index is 0 or 1, of two; volatile, because user space sets the table after
        // compilation.
        unsafe { read_volatile(&raw const (*table.add($abi.0)).$($field)+) }
    }};
}

impl Abi {
    #[inline(always)]
    fn opens(self, number: u32) -> bool {
        number == setting!(self, open)
            || number == setting!(self, creat)
            || number == setting!(self, openat)
            || number == setting!(self, openat2)
    }

    #[inline(always)]
    fn renames(self, number: u32) -> bool {
        number == setting!(self, rename)
            || number == setting!(self, renameat)
            || number == setting!(self, renameat2)
    }
}

/// The file that was really opened, from the descriptor: the path the caller passed may have been
/// a link, relative, or rewritten since. Between the descriptor's installation and here another
/// thread can have closed or replaced it; then nothing or the other file is seen, and the former is
/// counted.
#[inline(always)]
fn open(caller: Caller, fd: u32, flags: u16) {
    let Some(file) = caller.task.file(fd) else {
        output::dropped(Drop::FileFault);
        return;
    };
    let f_mode = file.mode();
    if f_mode & (fmode::WRITE | fmode::CREATED) == 0 || !file.is_regular() {
        return;
    }
    let Some(inode) = file.inode() else {
        output::dropped(Drop::FileFault);
        return;
    };
    let Some((record, header, body)) = Record::start::<OpenBody>(SLOT_SYSCALL) else {
        return;
    };
    // SAFETY: both point into this program's own scratch slot, apart from each other, and are
    // written by nobody else during this run (see `output::SCRATCH_MAP`).
    let (header, body) = unsafe { (&mut *header, &mut *body) };
    *header = output::header(
        EventKind::Open,
        caller.task,
        caller.tgid,
        caller.tid,
        caller.tag,
    );
    let Some(key) = inode.key() else {
        output::dropped(Drop::FileFault);
        return;
    };
    body.inode = key.inode;
    body.dev = key.dev;
    body.size = inode.size();
    body.mnt_ns = caller.task.mnt_ns();
    body.f_mode = f_mode;
    body.f_flags = file.flags();
    body.uid = inode.uid();
    body.gid = inode.gid();
    body.nlink = inode.nlink();
    body.mode = inode.mode();
    caller.task.ids(&mut body.ids);
    header.flags = flags;
    record.flag_if(f_mode & fmode::CREATED != 0, flag::CREATED);
    let path = record.path(file.path());
    body.path_len = path.len;
    record.flag_if(path.truncated, flag::PATH_TRUNCATED);
    record.finish::<OpenBody>(Ring::Files);
}

/// `AT_FDCWD`, include/uapi/linux/fcntl.h
const AT_FDCWD: i32 = -100;

struct Names {
    old_dir: i32,
    old: u64,
    new_dir: i32,
    new: u64,
    flags: u32,
}

impl Names {
    #[inline(always)]
    fn of(abi: Abi, registers: Registers, number: u32) -> Self {
        let first = registers.at(setting!(abi, arg[0]));
        let second = registers.at(setting!(abi, arg[1]));
        if number == setting!(abi, rename) {
            return Self {
                old_dir: AT_FDCWD,
                old: first,
                new_dir: AT_FDCWD,
                new: second,
                flags: 0,
            };
        }
        let with_flags = number == setting!(abi, renameat2);
        Self {
            old_dir: first as i32,
            old: second,
            new_dir: registers.at(setting!(abi, arg[2])) as i32,
            new: registers.at(setting!(abi, arg[3])),
            flags: if with_flags {
                registers.at(setting!(abi, arg[4])) as u32
            } else {
                0
            },
        }
    }
}

/// A rename has no descriptor: its names are the caller's strings, read after the call, when their
/// pages are resident because the kernel has just read them. The directories they are relative to
/// are the kernel's.
#[inline(always)]
fn rename(caller: Caller, names: &Names, flags: u16) {
    let Some((record, header, body)) = Record::start::<RenameBody>(SLOT_SYSCALL) else {
        return;
    };
    // SAFETY: as in `open`.
    let (header, body) = unsafe { (&mut *header, &mut *body) };
    *header = output::header(
        EventKind::Rename,
        caller.task,
        caller.tgid,
        caller.tid,
        caller.tag,
    );
    caller.task.ids(&mut body.ids);
    body.mnt_ns = caller.task.mnt_ns();
    body.rename_flags = names.flags;
    header.flags = flags;
    let old_dir = directory(record, caller.task, names.old_dir, names.old);
    body.old_dir_len = old_dir.len;
    record.flag_if(old_dir.truncated, flag::PATH_TRUNCATED);
    let old = record.user_string::<STRING_BYTES>(names.old as *const u8);
    body.old_len = old.len;
    record.flag_if(old.truncated, flag::STRING_TRUNCATED);
    let new_dir = directory(record, caller.task, names.new_dir, names.new);
    body.new_dir_len = new_dir.len;
    record.flag_if(new_dir.truncated, flag::PATH_TRUNCATED);
    let new = record.user_string::<STRING_BYTES>(names.new as *const u8);
    body.new_len = new.len;
    record.flag_if(new.truncated, flag::STRING_TRUNCATED);
    record.finish::<RenameBody>(Ring::Files);
}

/// The directory that a name is relative to; empty where the name is absolute, and the descriptor
/// then may be anything.
#[inline(always)]
fn directory(record: Record, task: Task, fd: i32, name: u64) -> output::Section {
    if kernel::user_byte(name as *const u8) == Some(b'/') {
        return output::Section {
            len: 0,
            truncated: false,
        };
    }
    // Chosen before the walk, so that the walk is there once.
    let path = if fd == AT_FDCWD {
        task.cwd()
    } else {
        task.file(fd as u32).and_then(|file| file.path())
    };
    record.path(path)
}
