//! What server lineages do to files through io_uring, in the tracepoint tier: no system call of
//! theirs is seen doing it.
//!
//! A request is looked at twice. Handed in, it is the kernel's own copy, names included, that no one
//! can rewrite any more: what has no descriptor to ask is told then, as an attempt. Done, an open has
//! its file, and is told by that like any other. Refuses to believe the rings themselves, which are the
//! caller's memory: neither an entry that it submits nor one that it is given is read.
//!
//! The caller is the task, one of its workers, or the thread that polls its ring: since 5.12 all of them
//! have its number, its tag and its descriptors (`create_io_thread`, kernel/fork.c). Before, workers are
//! threads of the kernel and no tracepoint has a request that is handed in: there nothing is seen.
//! A connection is announced here, and told by `inet_sock_set_state` when it begins; what is sent is not
//! seen.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::{LruHashMap, PerCpuArray};
use aya_ebpf::programs::RawTracePointContext;
use tracer_common::control::ABSENT;
use tracer_common::event::{ChangeBody, EventKind, FileBody, flag, fmode};
use tracer_common::limits::{PATH_BYTES, REQUESTS, STRING_BYTES};
use tracer_common::probe::{
    Drop, SLOT_URING_COMPLETE, SLOT_URING_OVERFLOW, SLOT_URING_SUBMIT, Tier,
};
use tracer_common::tag::InodeKey;

use super::{file, network};
use crate::guard;
use crate::kernel::{self, File, Path, Request, Task, UringContext, control};
use crate::output::{self, Caller, Record, Ring};

/// `IORING_OP_*`, include/uapi/linux/io_uring.h
mod operation {
    pub const WRITEV: u8 = 2;
    pub const WRITE_FIXED: u8 = 5;
    pub const CONNECT: u8 = 16;
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
    pub const WRITEV_FIXED: u8 = 61;
}

/// The operations that are looked at whoever hands them in, as bits: they may be about a file that a
/// server's lineage wrote.
const OF_ANYONE: u64 = 1 << operation::RENAMEAT
    | 1 << operation::UNLINKAT
    | 1 << operation::MKDIRAT
    | 1 << operation::SYMLINKAT
    | 1 << operation::LINKAT
    | 1 << operation::FSETXATTR
    | 1 << operation::SETXATTR;

/// All that are looked at.
const OF_INTEREST: u64 = OF_ANYONE
    | 1 << operation::WRITEV
    | 1 << operation::WRITE_FIXED
    | 1 << operation::CONNECT
    | 1 << operation::FALLOCATE
    | 1 << operation::OPENAT
    | 1 << operation::WRITE
    | 1 << operation::OPENAT2
    | 1 << operation::SPLICE
    | 1 << operation::FTRUNCATE
    | 1 << operation::WRITEV_FIXED;

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
    /// The process: rings are freed, and one of another process may come to lie there. An open ends in
    /// the process that handed it in: at once, in one of its workers, or in the ring's own thread.
    tgid: u64,
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
    // Not attached there: what it would take for a request is the ring.
    if control!(uring_submit_request) == ABSENT {
        return 0;
    }
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
    let is_change = OF_ANYONE >> operation & 1 != 0;
    let Some(caller) = caller(&ctx, SLOT_URING_SUBMIT, is_change) else {
        return 0;
    };
    match operation {
        operation::OPENAT | operation::OPENAT2 => opening(&caller, request),
        operation::CONNECT => network::will_connect(caller.tgid),
        operation::WRITEV
        | operation::WRITE_FIXED
        | operation::WRITEV_FIXED
        | operation::FALLOCATE
        | operation::WRITE
        | operation::SPLICE
        | operation::FTRUNCATE => {
            if let Some(file) = request.file(caller.task) {
                file::received(&caller, file);
            }
        }
        _ => {
            if let Some(work) = Work::of(operation, request, caller.task) {
                change(&caller, work);
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
    let Some(caller) = caller(&ctx, SLOT_URING_COMPLETE, false) else {
        return 0;
    };
    let ring = UringContext::new(ctx.arg::<u64>(0) as *const u8);
    if control!(uring_complete_request) == ABSENT {
        if control!(uring_complete_result) == 2 {
            let number = Number {
                ring: ctx.arg(0),
                user_data: ctx.arg(1),
                tgid: caller.tgid.into(),
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
    let Some(caller) = caller(&ctx, SLOT_URING_OVERFLOW, false) else {
        return 0;
    };
    let number = Number {
        ring: ctx.arg(0),
        user_data: ctx.arg(1),
        tgid: caller.tgid.into(),
    };
    numbered(&caller, &number, ctx.arg::<u64>(2) as i32);
    0
}

/// Who did it, if what they do is looked at: not only server lineages where it is told of anyone, or
/// that was asked for.
#[inline(always)]
fn caller(ctx: &RawTracePointContext, slot: u32, anyone: bool) -> Option<Caller> {
    let tgid = ctx.tgid();
    let tag = guard::tag(tgid);
    let is_tagged = tag.is_server_lineage();
    if (!is_tagged && !anyone && control!(any_writer) == 0) || tgid == kernel::own_tgid() {
        return None;
    }
    Some(Caller {
        task: Task::current()?,
        tgid,
        tid: ctx.pid(),
        tag,
        slot,
        tier: Tier::Tracepoint,
        flags: flag::URING | (u16::from(!is_tagged) * flag::UNTAGGED),
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

/// An open that has not begun: noted, so that its end is known. Where nobody is told of its end, or it
/// would not say which file it gave, the name has to do.
#[inline(always)]
fn opening(caller: &Caller, request: Request) {
    let slot = request.open_slot();
    let is_known = note(caller, request, slot);
    if is_known && !request.is_silent() && (slot == 0 || UringContext::tells_files()) {
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
    if caller.tag.is_server_lineage() {
        guard::named(record.last(name.len).hash);
    } else if body.directory == InodeKey::ZERO {
        return;
    }
    record.finish::<FileBody>(Ring::Files);
}

/// Notes an open by its number. Not where the number is another's too, whose file comes another way: the
/// end of one could not be told from that of the other.
#[inline(always)]
fn note(caller: &Caller, request: Request, slot: u32) -> bool {
    let Some(ring) = request.ring() else {
        return false;
    };
    let number = Number {
        ring: ring.address(),
        user_data: request.user_data(),
        tgid: caller.tgid.into(),
    };
    // SAFETY: four bytes, read once; the reference does not outlive the expression.
    if let Some(known) = unsafe { REQUEST_MAP.get(number) }.copied() {
        return known == slot;
    }
    // An LRU map makes room for itself.
    if REQUEST_MAP.insert(number, slot, 0).is_err() {
        output::dropped(Drop::CallMapFull);
        return false;
    }
    true
}

/// What a request is about to change. In a map for the verifier's sake, as the scratch space of records
/// is (see [`crate::output`]): what the kinds of request differ in is any number to it, and the body that
/// they share is there once.
#[map(name = "URING_CHANGE")]
static WORK_MAP: PerCpuArray<[u64; WORK]> = PerCpuArray::with_max_entries(1, 0);

const WORK: usize = Place::NameLen as usize + 1;

/// What is kept where.
#[derive(Clone, Copy)]
enum Place {
    Kind,
    OldDir,
    Old,
    NewDir,
    New,
    /// The file, of a request that has a descriptor of it.
    File,
    Detail,
    Number,
    Flags,
    Mode,
    /// What [`side`] found: bytes of the directory and of the name.
    DirLen,
    NameLen,
}

/// This CPU's. A program is not run twice at once on one CPU.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Work(*mut [u64; WORK]);

impl Work {
    /// What a request is about to change, where it is known on this kernel.
    #[inline(always)]
    fn of(operation: u8, request: Request, task: Task) -> Option<Self> {
        let work = Self(WORK_MAP.get_ptr_mut(0)?);
        // SAFETY: the pointer is this CPU's own, valid for the program's run.
        unsafe { work.0.write_bytes(0, 1) };
        match operation {
            operation::RENAMEAT => {
                work.kind(EventKind::Rename);
                work.names(request.rename()?);
            }
            operation::LINKAT => {
                work.kind(EventKind::Link);
                work.names(request.link()?);
            }
            operation::SYMLINKAT => {
                let ([_, dir], [target, name], _) = request.link()?;
                work.kind(EventKind::Symlink);
                work.name(dir, name);
                work.set(Place::Detail, target as u64);
            }
            operation::UNLINKAT => {
                let (dir, name, flags) = request.unlink()?;
                work.kind(EventKind::Unlink);
                work.name(dir, name);
                work.set(Place::Flags, flags.into());
            }
            operation::MKDIRAT => {
                let (dir, name, mode) = request.mkdir()?;
                work.kind(EventKind::Mkdir);
                work.name(dir, name);
                work.set(Place::Mode, mode.into());
            }
            operation::SETXATTR | operation::FSETXATTR => {
                let (name, attribute, size) = request.attribute()?;
                work.kind(EventKind::Setxattr);
                work.set(Place::Detail, attribute as u64);
                work.set(Place::Number, size);
                if operation == operation::SETXATTR {
                    work.name(AT_FDCWD, name);
                } else {
                    work.set(Place::File, request.file(task)?.address() as u64);
                }
            }
            _ => return None,
        }
        Some(work)
    }

    #[inline(always)]
    fn kind(self, kind: EventKind) {
        self.set(Place::Kind, kind.raw().into());
    }

    #[inline(always)]
    fn names(self, ([old_dir, new_dir], [old, new], flags): ([i32; 2], [*const u8; 2], u32)) {
        self.set(Place::OldDir, old_dir as u64);
        self.set(Place::Old, old as u64);
        self.name(new_dir, new);
        self.set(Place::Flags, flags.into());
    }

    #[inline(always)]
    fn name(self, dir: i32, name: *const u8) {
        self.set(Place::NewDir, dir as u64);
        self.set(Place::New, name as u64);
    }

    #[inline(always)]
    fn get(self, place: Place) -> u64 {
        // SAFETY: the pointer is this CPU's own, valid for the program's run, and a place lies in it.
        // Volatile, so that the value stays out of registers.
        unsafe { read_volatile(self.0.cast::<u64>().add(place as usize)) }
    }

    #[inline(always)]
    fn set(self, place: Place, value: u64) {
        // SAFETY: as in `get`.
        unsafe { write_volatile(self.0.cast::<u64>().add(place as usize), value) }
    }
}

/// Tells of a change that has not begun: what a server's lineage is about to do, or what anyone is to
/// a file that may be one that it wrote, or in a watched directory.
#[inline(always)]
fn change(caller: &Caller, work: Work) {
    let is_tagged = caller.tag.is_server_lineage();
    let told = is_tagged || is_written(caller, work);
    if !told && control!(any_writer) == 0 {
        return;
    }
    let Some((record, body)) = Record::start::<ChangeBody>(EventKind::Rename, caller) else {
        return;
    };
    record.kind(work.get(Place::Kind) as u16);
    // SAFETY: as in `opening`.
    let body = unsafe { &mut *body };
    caller.task.ids(&mut body.ids);
    body.mnt_ns = caller.task.mnt_ns();
    body.call_flags = work.get(Place::Flags) as u32;
    body.number = work.get(Place::Number);
    body.new_mode = work.get(Place::Mode) as u16;
    record.flag_if(true, flag::ATTEMPT);
    side(record, work, caller.task, Place::OldDir as u64);
    body.old_dir_len = work.get(Place::DirLen) as u16;
    body.old_len = work.get(Place::NameLen) as u16;
    record.watch(true);
    side(record, work, caller.task, Place::NewDir as u64);
    body.new_dir_len = work.get(Place::DirLen) as u16;
    body.new_len = work.get(Place::NameLen) as u16;
    body.directory = record.directory();
    if let Some(inode) = File::new(work.get(Place::File) as *const u8).and_then(|file| file.inode())
        && guard::fill(body, inode).is_some()
    {
        // The path is that of the file itself.
        record.flag_if(true, flag::RESOLVED);
    }
    let detail = record.kernel_string::<STRING_BYTES>(work.get(Place::Detail) as *const u8);
    body.detail_len = detail.len;
    record.flag_if(detail.truncated, flag::STRING_TRUNCATED);
    if told || body.directory != InodeKey::ZERO {
        record.finish::<ChangeBody>(Ring::Files);
    }
}

/// Whether a server's lineage may have written the file: by the file where there is one, else by the
/// last component of its name; of two that change places, either.
#[inline(always)]
fn is_written(caller: &Caller, work: Work) -> bool {
    if let Some(inode) = File::new(work.get(Place::File) as *const u8).and_then(|file| file.inode())
    {
        return match inode.key() {
            Some(key) => guard::writer(&key, inode).tgid != 0,
            None => false,
        };
    }
    let old = work.get(Place::Old);
    let name = if old == 0 { work.get(Place::New) } else { old };
    is_written_name(caller, name)
        || is_exchange(work) && is_written_name(caller, work.get(Place::New))
}

#[inline(always)]
fn is_written_name(caller: &Caller, name: u64) -> bool {
    match Record::glance(caller, name as *const u8, false) {
        Some(base) => guard::is_written_name(base.hash),
        None => false,
    }
}

/// Whether two names change places.
#[inline(always)]
fn is_exchange(work: Work) -> bool {
    /// `RENAME_EXCHANGE`, include/uapi/linux/fs.h
    const RENAME_EXCHANGE: u64 = 0x2;
    work.get(Place::Kind) == EventKind::Rename.raw().into()
        && work.get(Place::Flags) & RENAME_EXCHANGE != 0
}

/// Appends one side of a change: the directory that its name is relative to, and the name; or the path of
/// the file itself, of a request that has one. A function of its own, so that it is there once; what it
/// is asked and what it found is in the map. `at` is the place of the directory, the name's is next.
#[inline(never)]
fn side(record: Record, work: Work, task: Task, at: u64) {
    let is_new = at == Place::NewDir as u64;
    let (dir, name) = if is_new {
        (work.get(Place::NewDir), work.get(Place::New))
    } else {
        (work.get(Place::OldDir), work.get(Place::Old))
    };
    work.set(Place::DirLen, 0);
    work.set(Place::NameLen, 0);
    let file = File::new(work.get(Place::File) as *const u8);
    if is_new && let Some(file) = file {
        let section = record.path(file.path());
        record.flag_if(section.truncated, flag::PATH_TRUNCATED);
        work.set(Place::DirLen, section.len.into());
        return;
    }
    let name = name as *const u8;
    if name.is_null() {
        return;
    }
    work.set(
        Place::DirLen,
        directory(record, base(task, dir as i32), name).into(),
    );
    let section = record.kernel_string::<STRING_BYTES>(name);
    record.flag_if(section.truncated, flag::STRING_TRUNCATED);
    work.set(Place::NameLen, section.len.into());
    // What a server's lineage gives a name may be what it wrote.
    let kind = work.get(Place::Kind);
    if is_new && (kind == EventKind::Rename.raw().into() || kind == EventKind::Link.raw().into())
        || is_exchange(work)
    {
        guard::named(record.last(section.len).hash);
    }
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
