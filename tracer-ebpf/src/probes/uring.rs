//! What server lineages do to files through io_uring, in the tracepoint tier: no system call of
//! theirs is seen doing it.
//!
//! A request is looked at twice. Handed in, it is the kernel's own copy, names included, that no one
//! can rewrite any more: what has no descriptor to ask is told then, as an attempt. Done, an open has
//! its file, and is told by that like any other. Refuses to believe the rings themselves, which are the
//! caller's memory: neither an entry that it submits nor one that it is given is read.
//!
//! The caller is the task, one of its workers, or the thread that polls its ring: all of them have
//! its number, its tag and its descriptors (`create_io_thread`, kernel/fork.c). Connections are not
//! told here: `inet_sock_set_state` sees who listens, whatever call it was.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::RawTracePointContext;
use tracer_common::control::ABSENT;
use tracer_common::event::{ChangeBody, EventKind, FileBody, flag, fmode};
use tracer_common::limits::{NAME_BYTES, PATH_BYTES, REQUESTS, STRING_BYTES};
use tracer_common::probe::{
    Drop, SLOT_URING_COMPLETE, SLOT_URING_OVERFLOW, SLOT_URING_SUBMIT, Tier,
};
use tracer_common::tag::InodeKey;

use super::file;
use crate::guard;
use crate::kernel::{self, Path, Request, Task, UringContext, control};
use crate::output::{self, Caller, Record, Ring};

/// `IORING_OP_*`, include/uapi/linux/io_uring.h
mod operation {
    pub const WRITEV: u8 = 2;
    pub const WRITE_FIXED: u8 = 5;
    pub const FALLOCATE: u8 = 17;
    pub const OPENAT: u8 = 18;
    pub const WRITE: u8 = 23;
    pub const OPENAT2: u8 = 28;
    pub const SPLICE: u8 = 30;
    pub const RENAMEAT: u8 = 35;
    pub const UNLINKAT: u8 = 36;
    pub const MKDIRAT: u8 = 37;
    pub const SYMLINKAT: u8 = 38;
    pub const LINKAT: u8 = 39;
    pub const FSETXATTR: u8 = 41;
    pub const SETXATTR: u8 = 42;
    pub const FTRUNCATE: u8 = 55;
}

/// The operations that are looked at, as bits.
const OF_INTEREST: u64 = 1 << operation::WRITEV
    | 1 << operation::WRITE_FIXED
    | 1 << operation::FALLOCATE
    | 1 << operation::OPENAT
    | 1 << operation::WRITE
    | 1 << operation::OPENAT2
    | 1 << operation::SPLICE
    | 1 << operation::RENAMEAT
    | 1 << operation::UNLINKAT
    | 1 << operation::MKDIRAT
    | 1 << operation::SYMLINKAT
    | 1 << operation::LINKAT
    | 1 << operation::FSETXATTR
    | 1 << operation::SETXATTR
    | 1 << operation::FTRUNCATE;

/// `AT_FDCWD`, include/uapi/linux/fcntl.h
const AT_FDCWD: i32 = -100;

/// `O_ACCMODE`, `O_CREAT` and `O_TRUNC`, include/uapi/asm-generic/fcntl.h
const O_ACCMODE: u32 = 0o3;
const O_CREAT: u32 = 0o100;
const O_TRUNC: u32 = 0o1000;

/// A request as the caller numbers it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Number {
    ring: u64,
    user_data: u64,
}

/// Opens that were handed in, by their number: where the end of a request is told without the request.
/// Numbers are the caller's and need not be unique, so one that ends takes no other's entry away: a
/// file may be told once more than it was opened. The least recently used goes first.
#[map(name = "REQUESTS")]
static REQUEST_MAP: LruHashMap<Number, u32> = LruHashMap::with_max_entries(REQUESTS, 0);

/// `trace_io_uring_submit_req(req)` in `io_submit_sqe`, io_uring/io_uring.c (`io_uring_submit_sqe`
/// before 6.3): the request is prepared, so the names of it are the kernel's own copies, and has not
/// begun. Runs in the caller or, for a ring that is polled, in its `iou-sqp` thread. Requests of a
/// chain that waits for another come here too; one that the preparation refused does not.
#[raw_tracepoint(tracepoint = "io_uring_submit_req")]
pub fn io_uring_submit(ctx: RawTracePointContext) -> i32 {
    let first = ctx.arg::<u64>(0);
    // The kernel holds the highest argument that is reached against what the tracepoint has, so the
    // second is read nowhere else; and one place of two would be an address that is not a constant.
    let request = if control!(uring_submit_request) == 1 {
        ctx.arg::<u64>(1)
    } else {
        first
    };
    let Some(request) = Request::new(request as *const u8) else {
        return 0;
    };
    let operation = request.opcode();
    if operation >= 64 || OF_INTEREST >> operation & 1 == 0 {
        return 0;
    }
    let Some(caller) = caller(&ctx, SLOT_URING_SUBMIT) else {
        return 0;
    };
    match operation {
        operation::OPENAT | operation::OPENAT2 => opening(&caller, request),
        operation::WRITEV
        | operation::WRITE_FIXED
        | operation::FALLOCATE
        | operation::WRITE
        | operation::SPLICE
        | operation::FTRUNCATE => {
            if let Some(file) = request.file(caller.task) {
                file::received(&caller, file);
            }
        }
        _ => {
            if let Some(names) = Names::of(operation, request, caller.task) {
                change(&caller, &names);
            }
        }
    }
    0
}

/// `trace_io_uring_complete(ctx, req, cqe)` in `io_fill_cqe_req`, io_uring/io_uring.h (`ctx, user_data,
/// res, cflags` in `__io_cqring_fill_event`, io_uring/io_uring.c, before 5.17): the request is done and
/// the descriptor of an open installed, and the caller is about to be told. Runs in the caller, its
/// poller or one of its workers.
#[raw_tracepoint(tracepoint = "io_uring_complete")]
pub fn io_uring_complete(ctx: RawTracePointContext) -> i32 {
    let Some(caller) = caller(&ctx, SLOT_URING_COMPLETE) else {
        return 0;
    };
    let ring = UringContext::new(ctx.arg::<u64>(0) as *const u8);
    if control!(uring_complete_request) == ABSENT {
        if control!(uring_complete_result) == 2 {
            let number = Number {
                ring: ctx.arg(0),
                user_data: ctx.arg(1),
            };
            numbered(&caller, &number, ctx.arg::<u64>(2) as i32);
        }
        return 0;
    }
    let request = ctx.arg::<u64>(1);
    // Some completions have none: what a request tells before its end.
    let Some(request) = Request::new(request as *const u8) else {
        return 0;
    };
    if !matches!(request.opcode(), operation::OPENAT | operation::OPENAT2) {
        return 0;
    }
    if let Some(result) = request.result() {
        done(&caller, ring, request.open_slot(), result);
    }
    0
}

/// `trace_io_uring_cqe_overflow(ctx, user_data, res, cflags, ocqe)` in `io_cqring_event_overflow`,
/// io_uring/io_uring.c, since 5.17: a request is done, and its completion has to wait because the
/// caller did not take those before it. `io_uring_complete` is not told of it, then or later.
#[raw_tracepoint(tracepoint = "io_uring_cqe_overflow")]
pub fn io_uring_overflow(ctx: RawTracePointContext) -> i32 {
    let Some(caller) = caller(&ctx, SLOT_URING_OVERFLOW) else {
        return 0;
    };
    let number = Number {
        ring: ctx.arg(0),
        user_data: ctx.arg(1),
    };
    numbered(&caller, &number, ctx.arg::<u64>(2) as i32);
    0
}

/// Who did it, if what they do is told.
#[inline(always)]
fn caller(ctx: &RawTracePointContext, slot: u32) -> Option<Caller> {
    let tgid = ctx.tgid();
    let tag = guard::tag(tgid);
    let is_tagged = tag.is_server_lineage();
    if (!is_tagged && control!(any_writer) == 0) || tgid == kernel::own_tgid() {
        return None;
    }
    Some(Caller {
        task: Task::current()?,
        tgid,
        tid: ctx.pid(),
        tag,
        slot,
        tier: Tier::Tracepoint,
        flags: if is_tagged {
            flag::URING
        } else {
            flag::URING | flag::UNTAGGED
        },
    })
}

/// The end of a request that is known by its number only.
#[inline(always)]
fn numbered(caller: &Caller, number: &Number, result: i32) {
    // SAFETY: four bytes, read once; the reference does not outlive the expression.
    if let Some(slot) = unsafe { REQUEST_MAP.get(number) }.copied() {
        let ring = UringContext::new(number.ring as *const u8);
        done(caller, ring, slot, result);
    }
}

/// An open that is done.
#[inline(always)]
fn done(caller: &Caller, ring: Option<UringContext>, slot: u32, result: i32) {
    if result < 0 {
        return;
    }
    match Request::opened(ring, caller.task, slot, result as u32) {
        Some(file) => file::open(caller, file),
        None => output::dropped(Drop::FileFault),
    }
}

/// An open that has not begun: noted, so that its end is known. Where there is none that is told, or
/// it would not say which file it gave, the name has to do.
#[inline(always)]
fn opening(caller: &Caller, request: Request) {
    let slot = request.open_slot();
    if let Some(ring) = request.ring() {
        let number = Number {
            ring: ring.address(),
            user_data: request.user_data(),
        };
        // An LRU map makes room for itself.
        if REQUEST_MAP.insert(&number, slot, 0).is_err() {
            output::dropped(Drop::CallMapFull);
        }
    }
    if !request.is_silent() && (slot == 0 || UringContext::tells_files()) {
        return;
    }
    let flags = request.open_flags();
    let is_writing = flags & O_ACCMODE != 0 || flags & O_TRUNC != 0;
    if !is_writing && flags & O_CREAT == 0 {
        return;
    }
    let Some((record, body)) = Record::start::<FileBody>(EventKind::Open, caller) else {
        return;
    };
    // SAFETY: points into this program's own scratch slot, which is written by nobody else during this
    // run (see `output::SCRATCH_MAP`); the record writes behind it only.
    let body = unsafe { &mut *body };
    caller.task.ids(&mut body.ids);
    body.mnt_ns = caller.task.mnt_ns();
    body.f_flags = flags;
    body.f_mode = if is_writing { fmode::WRITE } else { 0 };
    record.flag_if(true, flag::ATTEMPT);
    record.watch(true);
    let name = request.open_name();
    body.path_len = directory(record, base(caller.task, request.open_dir()), name);
    body.directory = record.directory();
    let name = record.kernel_string::<PATH_BYTES>(name);
    body.name_len = name.len;
    record.flag_if(name.truncated, flag::STRING_TRUNCATED);
    if is_told(caller, record) {
        record.finish::<FileBody>(Ring::Files);
    }
}

/// What a request is about to change.
struct Names {
    kind: EventKind,
    old_dir: Option<Path>,
    old: *const u8,
    new_dir: Option<Path>,
    new: *const u8,
    detail: *const u8,
    number: u64,
    flags: u32,
    mode: u16,
}

impl Names {
    #[inline(always)]
    fn of(operation: u8, request: Request, task: Task) -> Option<Self> {
        let none = Self {
            kind: EventKind::Rename,
            old_dir: None,
            old: core::ptr::null(),
            new_dir: None,
            new: core::ptr::null(),
            detail: core::ptr::null(),
            number: 0,
            flags: 0,
            mode: 0,
        };
        match operation {
            operation::RENAMEAT => {
                let (dirs, names, flags) = request.rename()?;
                Some(Self {
                    kind: EventKind::Rename,
                    old_dir: base(task, dirs[0]),
                    old: names[0],
                    new_dir: base(task, dirs[1]),
                    new: names[1],
                    flags,
                    ..none
                })
            }
            operation::LINKAT => {
                let (dirs, names, flags) = request.link()?;
                Some(Self {
                    kind: EventKind::Link,
                    old_dir: base(task, dirs[0]),
                    old: names[0],
                    new_dir: base(task, dirs[1]),
                    new: names[1],
                    flags,
                    ..none
                })
            }
            operation::SYMLINKAT => {
                let (dirs, names, _) = request.link()?;
                Some(Self {
                    kind: EventKind::Symlink,
                    new_dir: base(task, dirs[1]),
                    new: names[1],
                    detail: names[0],
                    ..none
                })
            }
            operation::UNLINKAT => {
                let (dir, name, flags) = request.unlink()?;
                Some(Self {
                    kind: EventKind::Unlink,
                    new_dir: base(task, dir),
                    new: name,
                    flags,
                    ..none
                })
            }
            operation::MKDIRAT => {
                let (dir, name, mode) = request.mkdir()?;
                Some(Self {
                    kind: EventKind::Mkdir,
                    new_dir: base(task, dir),
                    new: name,
                    mode,
                    ..none
                })
            }
            operation::SETXATTR => {
                let (name, attribute, size) = request.attribute()?;
                Some(Self {
                    kind: EventKind::Setxattr,
                    new_dir: task.cwd(),
                    new: name,
                    detail: attribute,
                    number: size,
                    ..none
                })
            }
            operation::FSETXATTR => {
                // The file itself stands in the directory's place: its path is whole.
                let (_, attribute, size) = request.attribute()?;
                Some(Self {
                    kind: EventKind::Setxattr,
                    new_dir: request.file(task)?.path(),
                    detail: attribute,
                    number: size,
                    ..none
                })
            }
            _ => None,
        }
    }
}

/// Tells of a change that has not begun.
#[inline(always)]
fn change(caller: &Caller, names: &Names) {
    let Some((record, body)) = Record::start::<ChangeBody>(names.kind, caller) else {
        return;
    };
    // SAFETY: as in `opening`.
    let body = unsafe { &mut *body };
    caller.task.ids(&mut body.ids);
    body.mnt_ns = caller.task.mnt_ns();
    body.call_flags = names.flags;
    body.number = names.number;
    body.new_mode = names.mode;
    record.flag_if(true, flag::ATTEMPT);
    // A file without a name of its own is the descriptor's.
    record.flag_if(names.new.is_null(), flag::RESOLVED);
    if !names.old.is_null() {
        body.old_dir_len = directory(record, names.old_dir, names.old);
        body.old_len = string::<STRING_BYTES>(record, names.old);
    }
    record.watch(true);
    body.new_dir_len = directory(record, names.new_dir, names.new);
    body.directory = record.directory();
    body.new_len = string::<STRING_BYTES>(record, names.new);
    body.detail_len = if matches!(names.kind, EventKind::Setxattr) {
        string::<NAME_BYTES>(record, names.detail)
    } else {
        string::<STRING_BYTES>(record, names.detail)
    };
    if is_told(caller, record) {
        record.finish::<ChangeBody>(Ring::Files);
    }
}

/// What is done by no server's lineage is told only in watched directories.
#[inline(always)]
fn is_told(caller: &Caller, record: Record) -> bool {
    caller.tag.is_server_lineage() || record.directory() != InodeKey::ZERO
}

#[inline(always)]
fn string<const MAX: usize>(record: Record, string: *const u8) -> u16 {
    let section = record.kernel_string::<MAX>(string);
    record.flag_if(section.truncated, flag::STRING_TRUNCATED);
    section.len
}

/// The directory that a descriptor stands for.
#[inline(always)]
fn base(task: Task, fd: i32) -> Option<Path> {
    if fd == AT_FDCWD {
        task.cwd()
    } else {
        task.file(fd as u32).and_then(|file| file.path())
    }
}

/// Appends the directory that a name is relative to; nothing where the name is absolute, and the
/// descriptor then may be anything.
#[inline(always)]
fn directory(record: Record, path: Option<Path>, name: *const u8) -> u16 {
    if kernel::byte(name) == Some(b'/') {
        return 0;
    }
    if let Some(path) = path {
        record.meet(path.dentry);
    }
    let section = record.path(path);
    record.flag_if(section.truncated, flag::PATH_TRUNCATED);
    section.len
}
