//! Files that server lineages open, write and map: told by the file that the kernel has in hand.

use tracer_common::event::{EventKind, FileBody, flag, fmode};
use tracer_common::probe::Drop;

use crate::guard;
use crate::kernel::File;
use crate::output::{self, Caller, Record, Ring};

/// A descriptor that an open has just given. The path the caller passed may have been a link,
/// relative, or rewritten since. Between the descriptor's installation and here another thread can
/// have closed or replaced it; then nothing or the other file is seen, and the former is counted.
#[inline(always)]
pub fn opened(caller: &Caller, fd: u32) {
    let Some(file) = caller.task.file(fd) else {
        output::dropped(Drop::FileFault);
        return;
    };
    open(caller, file);
}

/// A file that is open, for writing or just created, or else not told.
#[inline(always)]
pub fn open(caller: &Caller, file: File) {
    if file.mode() & (fmode::WRITE | fmode::CREATED) == 0 || !file.is_regular() {
        return;
    }
    if tell(caller, EventKind::Open, file, 0).is_none() {
        output::dropped(Drop::FileFault);
    }
}

/// A file that was handed over.
#[inline(always)]
pub fn received(caller: &Caller, file: File) {
    if file.mode() & fmode::WRITE == 0 || !file.is_regular() {
        return;
    }
    if tell(caller, EventKind::Write, file, 0).is_none() {
        output::dropped(Drop::FileFault);
    }
}

/// A file that is mapped.
#[inline(always)]
pub fn map(caller: &Caller, file: File, prot: u64, flags: u64) {
    // MAP_SHARED
    if flags & 1 == 0 || file.mode() & fmode::WRITE == 0 || !file.is_regular() {
        return;
    }
    if tell(caller, EventKind::Map, file, prot as u32 & 6).is_none() {
        output::dropped(Drop::FileFault);
    }
}

/// Tells of a file, and remembers who wrote it.
#[inline(always)]
fn tell(caller: &Caller, kind: EventKind, file: File, access: u32) -> Option<()> {
    let inode = file.inode()?;
    let key = inode.key()?;
    let f_mode = file.mode();
    let (record, body) = Record::start::<FileBody>(kind, caller)?;
    // SAFETY: points into this program's own scratch slot, which is written by nobody else during this
    // run (see `output::SCRATCH_MAP`); the record writes behind it only.
    let body = unsafe { &mut *body };
    body.file = key;
    body.generation = inode.generation();
    body.writer = guard::wrote(caller, &key, inode);
    body.size = inode.size();
    body.mnt_ns = caller.task.mnt_ns();
    body.f_mode = f_mode;
    body.f_flags = file.flags();
    body.access = access;
    body.uid = inode.uid();
    body.gid = inode.gid();
    body.nlink = inode.nlink();
    body.mode = inode.mode();
    caller.task.ids(&mut body.ids);
    record.flag_if(f_mode & fmode::CREATED != 0, flag::CREATED);
    record.watch(true);
    let path = record.path(file.path());
    body.path_len = path.len;
    body.directory = record.directory();
    record.flag_if(path.truncated, flag::PATH_TRUNCATED);
    record.finish::<FileBody>(Ring::Files);
    Some(())
}
