//! Files that server lineages open, write and map: told by the file that the kernel has in hand.
//!
//! [`open`], [`received`] and [`map`] are what any tier calls with a file; only [`done`] knows system
//! calls. Refuses to go by a string of the caller.

use tracer_common::control::Call;
use tracer_common::event::{EventKind, FileBody, access, flag, fmode};
use tracer_common::probe::Drop;
use tracer_common::tag::{InodeKey, Writer};

use super::privilege;
use super::syscall::Syscall;
use crate::guard;
use crate::kernel::{self, File, Inode};
use crate::output::{self, Caller, Record, Ring};

/// `FICLONE` and `FICLONERANGE`, include/uapi/linux/fs.h; the same for 32-bit callers.
const FICLONE: u32 = 0x4004_9409;
const FICLONERANGE: u32 = 0x4020_940d;

/// Bit of the kinds of mapping that share what is written with the file: `MAP_SHARED` 1 and
/// `MAP_SHARED_VALIDATE` 3, not `MAP_PRIVATE` 2 (include/uapi/linux/mman.h).
const MAP_SHARED: u64 = 1;

/// Whether a call is one of those below.
#[inline(always)]
pub fn is_use(call: &Syscall) -> bool {
    call.code >= Call::Open.code() && call.code <= Call::OldMmap.code()
}

/// A call that succeeded and has to do with a descriptor: one that it gave, or one that it was given.
/// Between the installation of the former and here another thread can have closed or replaced it; then
/// nothing or the other file is seen, and the former is counted.
#[inline(always)]
pub fn done(caller: &Caller, call: &Syscall) {
    let (mut protection, mut flags) = (0, 0);
    let fd = if call.is(Call::Open) {
        call.result as u32
    } else if call.is(Call::WriteThird) {
        call.arg::<2>() as u32
    } else if call.is(Call::Mmap) {
        protection = call.arg::<2>();
        flags = call.arg::<3>();
        call.arg::<4>() as u32
    } else if call.is(Call::OldMmap) {
        // `struct mmap_arg_struct32`, arch/x86/kernel/sys_ia32.c: address, length, then these.
        let words = call.arg::<0>();
        protection = kernel::user_word(words.wrapping_add(8)).into();
        flags = kernel::user_word(words.wrapping_add(12)).into();
        kernel::user_word(words.wrapping_add(16))
    } else {
        call.arg::<0>() as u32
    };
    if call.is(Call::Ioctl) {
        let request = call.arg::<1>() as u32;
        if request != FICLONE && request != FICLONERANGE {
            return;
        }
    }
    let mapped = call.is(Call::Mmap) || call.is(Call::OldMmap);
    let Some(file) = caller.task.file(fd) else {
        // An anonymous mapping has none; else another thread closed it since.
        if !mapped {
            output::dropped(Drop::FileFault);
        }
        return;
    };
    let told = if call.is(Call::Open) {
        privilege::memory(caller, file);
        opening(caller, file)
    } else if mapped {
        mapping(caller, file, protection, flags)
    } else {
        writing(file)
    };
    say(caller, file, told);
}

/// A file that is open: told where it is for writing or just created, or where it is for reading and a
/// server's lineage wrote it.
#[inline(always)]
pub fn open(caller: &Caller, file: File) {
    privilege::memory(caller, file);
    say(caller, file, opening(caller, file));
}

/// A file that the caller was given, open already: told where it can be written and no server's lineage
/// wrote it yet, for then nobody opened it that would have been told.
#[inline(always)]
pub fn received(caller: &Caller, file: File) {
    say(caller, file, writing(file));
}

/// A file that is mapped, with the protection (`PROT_*`) and the flags (`MAP_*`) of mmap(2).
#[inline(always)]
pub fn map(caller: &Caller, file: File, protection: u64, flags: u64) {
    say(caller, file, mapping(caller, file, protection, flags));
}

/// What was done with a file, where it is to be told.
#[derive(Clone, Copy)]
struct Use {
    kind: EventKind,
    access: u32,
}

/// What is known of a regular file before anything is told.
struct Known {
    key: InodeKey,
    writer: Writer,
}

/// Nothing of what is no regular file, or lies where no data is kept.
#[inline(always)]
fn known(file: File) -> Option<Known> {
    let inode = file.inode()?;
    if !file.is_regular() || inode.is_pseudo() {
        return None;
    }
    let key = inode.key()?;
    let writer = guard::writer(&key, inode);
    Some(Known { key, writer })
}

#[inline(always)]
fn opening(caller: &Caller, file: File) -> Option<Use> {
    if file.mode() & (fmode::WRITE | fmode::CREATED) != 0 {
        // Those of `/proc` too: another process's memory is among them.
        return if file.is_regular() {
            Use::of(EventKind::Open)
        } else {
            None
        };
    }
    if !caller.tag.is_server_lineage() || file.mode() & fmode::READ == 0 {
        return None;
    }
    match known(file) {
        Some(known) if known.writer.tgid != 0 => Use::of(EventKind::Read),
        _ => None,
    }
}

/// Through a descriptor that a server's lineage opened for writing it wrote already: the open was told.
#[inline(always)]
fn writing(file: File) -> Option<Use> {
    if file.mode() & fmode::WRITE == 0 {
        return None;
    }
    match known(file) {
        Some(known) if known.writer.tgid == 0 => Use::of(EventKind::Write),
        _ => None,
    }
}

/// What is shared and open for writing may be written whatever the protection is now: mprotect(2) can
/// raise it.
#[inline(always)]
fn mapping(caller: &Caller, file: File, protection: u64, flags: u64) -> Option<Use> {
    let writes = flags & MAP_SHARED != 0 && file.mode() & fmode::WRITE != 0;
    let executes = protection & u64::from(access::EXEC) != 0;
    if !writes && !executes {
        return None;
    }
    let known = known(file)?;
    let mut access = 0;
    if writes && known.writer.tgid == 0 {
        access |= access::WRITE;
    }
    let is_code = if caller.tag.is_server_lineage() {
        known.writer.tgid != 0 || is_program(caller, file, &known.key)
    } else {
        // The exec is told itself.
        known.writer.tgid != 0 && !is_own(caller, &known.key)
    };
    if executes && is_code {
        access |= access::EXEC;
    }
    if access == 0 {
        return None;
    }
    Some(Use {
        kind: EventKind::Map,
        access,
    })
}

/// Whether a file is neither a library by its name nor what the process runs anyway: what is left is
/// the program that a loader was told to run, whatever the link it was named by.
#[inline(always)]
fn is_program(caller: &Caller, file: File, key: &InodeKey) -> bool {
    if is_own(caller, key) {
        return false;
    }
    let name = file.path().and_then(|path| path.dentry.name());
    match name.and_then(|name| Record::glance(caller, name, false)) {
        Some(base) => base.library == 0,
        None => true,
    }
}

/// Whether a file is what the process runs.
#[inline(always)]
fn is_own(caller: &Caller, key: &InodeKey) -> bool {
    let own = caller.task.exe().and_then(|exe| exe.inode());
    own.and_then(Inode::key) == Some(*key)
}

impl Use {
    #[inline(always)]
    fn of(kind: EventKind) -> Option<Self> {
        Some(Self { kind, access: 0 })
    }
}

#[inline(always)]
fn say(caller: &Caller, file: File, told: Option<Use>) {
    if let Some(told) = told
        && tell(caller, told, file).is_none()
    {
        output::dropped(Drop::FileFault);
    }
}

/// Tells of a file, and remembers who wrote it. What is done by no server's lineage is told only in
/// watched directories, and of what such a lineage wrote.
#[inline(always)]
fn tell(caller: &Caller, told: Use, file: File) -> Option<()> {
    let inode = file.inode()?;
    let key = inode.key()?;
    let f_mode = file.mode();
    let (record, body) = Record::start::<FileBody>(told.kind, caller)?;
    // SAFETY: points into this program's own scratch slot, which is written by nobody else during this
    // run (see `output::SCRATCH_MAP`); the record writes behind it only.
    let body = unsafe { &mut *body };
    body.file = key;
    body.generation = inode.generation();
    body.size = inode.size();
    body.mnt_ns = caller.task.mnt_ns();
    body.f_mode = f_mode;
    body.f_flags = file.flags();
    body.access = told.access;
    body.uid = inode.uid();
    body.gid = inode.gid();
    body.nlink = inode.nlink();
    body.mode = inode.mode();
    caller.task.ids(&mut body.ids);
    body.writer = guard::writer(&key, inode);
    record.flag_if(!caller.tag.is_server_lineage(), flag::UNTAGGED);
    record.flag_if(f_mode & fmode::CREATED != 0, flag::CREATED);
    record.watch(true);
    let path = record.path(file.path());
    body.path_len = path.len;
    body.directory = record.directory();
    record.flag_if(path.truncated, flag::PATH_TRUNCATED);
    // Not even its own name is known.
    record.flag_if(path.truncated && path.len == 0, flag::STRING_TRUNCATED);
    if !caller.tag.is_server_lineage() {
        if body.directory == InodeKey::ZERO && body.writer.tgid == 0 {
            return Some(());
        }
    } else if f_mode & (fmode::WRITE | fmode::CREATED) != 0 && !inode.is_pseudo() {
        guard::wrote(caller, &key, inode);
        guard::named(record.leaf().hash);
    }
    record.finish::<FileBody>(Ring::Files);
    Some(())
}
