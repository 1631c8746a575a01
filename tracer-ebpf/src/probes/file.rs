//! Files that server lineages open for writing, create or rename.

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

/// Reads one convention's table as constants that the verifier knows.
macro_rules! abi {
    ($side:ident) => {
        SyscallAbi {
            arg: [
                control!($side.arg[0]),
                control!($side.arg[1]),
                control!($side.arg[2]),
                control!($side.arg[3]),
                control!($side.arg[4]),
            ],
            open: control!($side.open),
            creat: control!($side.creat),
            openat: control!($side.openat),
            openat2: control!($side.openat2),
            rename: control!($side.rename),
            renameat: control!($side.renameat),
            renameat2: control!($side.renameat2),
            reserved: 0,
        }
    };
}

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
    // One of the two tables first, so that what follows is there once: the verifier of 5.10 walks
    // paths too slowly to do it for each convention.
    let (abi, flags) = if task.compat_word() & control!(compat_mask) == 0 {
        (abi!(native), 0)
    } else {
        (abi!(compat), flag::COMPAT)
    };
    dispatch(caller, registers, number, result, &abi, flags);
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
    let (native, compat) = (abi!(native), abi!(compat));
    opens(&native, number)
        || opens(&compat, number)
        || renames(&native, number)
        || renames(&compat, number)
}

#[inline(always)]
fn opens(abi: &SyscallAbi, number: u32) -> bool {
    number == abi.open || number == abi.creat || number == abi.openat || number == abi.openat2
}

#[inline(always)]
fn renames(abi: &SyscallAbi, number: u32) -> bool {
    number == abi.rename || number == abi.renameat || number == abi.renameat2
}

#[inline(always)]
fn dispatch(
    caller: Caller,
    registers: Registers,
    number: u32,
    result: i64,
    abi: &SyscallAbi,
    flags: u16,
) {
    if opens(abi, number) {
        open(caller, result as u32, flags);
    } else if renames(abi, number) {
        let argument = |index: usize| registers.at(abi.arg[index]);
        let names = if number == abi.rename {
            Names {
                old_dir: AT_FDCWD,
                old: argument(0),
                new_dir: AT_FDCWD,
                new: argument(1),
                flags: 0,
            }
        } else {
            Names {
                old_dir: argument(0) as i32,
                old: argument(1),
                new_dir: argument(2) as i32,
                new: argument(3),
                flags: if number == abi.renameat2 {
                    argument(4) as u32
                } else {
                    0
                },
            }
        };
        rename(caller, &names, flags);
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
    let (Some(inode), Some((record, header, body))) =
        (file.inode(), Record::start::<OpenBody>(SLOT_SYSCALL))
    else {
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
    let path = record.path(file.path());
    body.path_len = path.len;
    header.flags = flags
        | if path.truncated {
            flag::PATH_TRUNCATED
        } else {
            0
        }
        | if f_mode & fmode::CREATED == 0 {
            0
        } else {
            flag::CREATED
        };
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

/// A rename has no descriptor: its names are the caller's strings, read after the call, when their
/// pages are resident because the kernel has just read them. The directories they are relative to
/// are the kernel's.
#[inline(always)]
fn rename(caller: Caller, names: &Names, mut flags: u16) {
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
    let old_dir = directory(record, caller.task, names.old_dir, names.old);
    let old = record.user_string::<STRING_BYTES>(names.old as *const u8);
    let new_dir = directory(record, caller.task, names.new_dir, names.new);
    let new = record.user_string::<STRING_BYTES>(names.new as *const u8);
    body.old_dir_len = old_dir.len;
    body.old_len = old.len;
    body.new_dir_len = new_dir.len;
    body.new_len = new.len;
    if old.truncated || new.truncated {
        flags |= flag::STRING_TRUNCATED;
    }
    if old_dir.truncated || new_dir.truncated {
        flags |= flag::PATH_TRUNCATED;
    }
    header.flags = flags;
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
