//! Names that are given and taken away: rename, link, symlink, unlink, rmdir, mkdir, mknod.
//!
//! Each is a pair (see [`note`](super::note)). The first half is `security_path_*`, from fs/namei.c: the
//! directories are locked and the names looked up, nothing has been checked or done. The second is the
//! end of `vfs_*`, same file, with the result of the file system; for rmdir what comes of its success.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use tracer_common::event::EventKind;
use tracer_common::probe::{
    SLOT_D_DELETE, SLOT_VFS_CREATE, SLOT_VFS_LINK, SLOT_VFS_MKDIR, SLOT_VFS_MKNOD, SLOT_VFS_RENAME,
    SLOT_VFS_SYMLINK, SLOT_VFS_UNLINK,
};
use tracer_common::tag::Writer;

use super::note::{self, Note};
use super::{Who, control, dentry, result};
use crate::guard;
use crate::kernel::{Dentry, Path, Renamedata};

/// `RENAME_EXCHANGE`, include/uapi/linux/fs.h
const RENAME_EXCHANGE: u32 = 0x2;

/// `AT_REMOVEDIR`, include/uapi/linux/fcntl.h
const AT_REMOVEDIR: u32 = 0x200;

/// `S_IFMT` and `S_IFREG`, include/uapi/linux/stat.h
const S_IFMT: u16 = 0o170_000;
const S_IFREG: u16 = 0o100_000;

/// `security_path_rename(old_dir, old_dentry, new_dir, new_dentry, flags)` from `do_renameat2`.
#[fentry(function = "security_path_rename")]
pub fn path_rename(ctx: FEntryContext) -> i32 {
    begin_rename(&ctx);
    0
}

#[inline(always)]
fn begin_rename(ctx: &FEntryContext) -> Option<()> {
    let (old, from) = (Dentry::new(ctx.arg(1))?, Path::at(ctx.arg(0))?);
    let (new, to) = (Dentry::new(ctx.arg(3))?, Path::at(ctx.arg(2))?);
    let flags: u32 = ctx.arg(4);
    if flags & RENAME_EXCHANGE != 0 && is_about_new(ctx, old, new) {
        begin_move(ctx, flags, (new, to), (old, from))
    } else {
        begin_move(ctx, flags, (old, from), (new, to))
    }
}

#[inline(always)]
fn begin_move(
    ctx: &FEntryContext,
    flags: u32,
    (old, from): (Dentry, Path),
    (new, to): (Dentry, Path),
) -> Option<()> {
    let note = Note::begin(ctx, EventKind::Rename, old.inode())?;
    note.body.call_flags = flags;
    note.old(old, from);
    note.named(new, to);
    Some(())
}

/// Whether it is the second of two files that change places that a server's lineage wrote, and not the
/// first. Who is of no lineage is told by that file then: the other way round it is the same exchange.
#[inline(always)]
fn is_about_new(ctx: &FEntryContext, old: Dentry, new: Dentry) -> bool {
    Who::anyone(ctx).is_some_and(|who| !who.is_tagged())
        && new.inode().is_some_and(guard::is_written)
        && !old.inode().is_some_and(guard::is_written)
}

/// `vfs_rename(rd)`.
#[fexit(function = "vfs_rename")]
pub fn vfs_rename(ctx: FExitContext) -> i32 {
    end_rename(&ctx);
    0
}

#[inline(always)]
fn end_rename(ctx: &FExitContext) -> Option<()> {
    let names = Renamedata::new(ctx.arg(0))?;
    let Some(note) = Note::any(ctx) else {
        note::missing(ctx);
        return None;
    };
    let (old, new) = (names.old(), names.new_name());
    let exchanged = note.body.call_flags & RENAME_EXCHANGE != 0;
    let is_same =
        note.is_old(old) && note.is_new(new) || exchanged && note.is_old(new) && note.is_new(old);
    if !note.is(EventKind::Rename) || !is_same {
        return None;
    }
    if note.succeeded(result!(ctx, Rename)) {
        note.tell(ctx, SLOT_VFS_RENAME);
    }
    Note::end(ctx);
    Some(())
}

/// `security_path_link(old_dentry, new_dir, new_dentry)` from `do_linkat`. Both names are on one mount,
/// which has just been checked.
#[fentry(function = "security_path_link")]
pub fn path_link(ctx: FEntryContext) -> i32 {
    begin_link(&ctx);
    0
}

#[inline(always)]
fn begin_link(ctx: &FEntryContext) -> Option<()> {
    let old = Dentry::new(ctx.arg(0))?;
    let new = Dentry::new(ctx.arg(2))?;
    let note = Note::begin(ctx, EventKind::Link, old.inode())?;
    let directory = Path::at(ctx.arg(1))?;
    note.old_file(Path {
        dentry: old,
        mount: directory.mount,
    });
    note.named(new, directory);
    Some(())
}

/// `vfs_link(old_dentry, ..., dir, new_dentry, ...)`.
#[fexit(function = "vfs_link")]
pub fn vfs_link(ctx: FExitContext) -> i32 {
    let (name, result) = (dentry!(ctx, Link), result!(ctx, Link));
    end(&ctx, EventKind::Link, SLOT_VFS_LINK, name, result);
    0
}

/// `security_path_unlink(dir, dentry)` from `do_unlinkat`.
#[fentry(function = "security_path_unlink")]
pub fn path_unlink(ctx: FEntryContext) -> i32 {
    begin_remove(&ctx, 0);
    0
}

/// `security_path_rmdir(dir, dentry)` from `do_rmdir`.
#[fentry(function = "security_path_rmdir")]
pub fn path_rmdir(ctx: FEntryContext) -> i32 {
    begin_remove(&ctx, AT_REMOVEDIR);
    0
}

#[inline(always)]
fn begin_remove(ctx: &FEntryContext, flags: u32) -> Option<()> {
    let name = Dentry::new(ctx.arg(1))?;
    let note = Note::begin(ctx, EventKind::Unlink, name.inode())?;
    note.body.call_flags = flags;
    note.named(name, Path::at(ctx.arg(0))?);
    Some(())
}

/// `vfs_unlink(..., dir, dentry, ...)`.
#[fexit(function = "vfs_unlink")]
pub fn vfs_unlink(ctx: FExitContext) -> i32 {
    let (name, result) = (dentry!(ctx, Unlink), result!(ctx, Unlink));
    end(&ctx, EventKind::Unlink, SLOT_VFS_UNLINK, name, result);
    0
}

/// `d_delete(dentry)`, fs/dcache.c, from `vfs_rmdir` where it succeeded. That one itself is part of its
/// only caller on some kernels, where no program sees its end.
#[fentry(function = "d_delete")]
pub fn d_delete(ctx: FEntryContext) -> i32 {
    deleted(&ctx);
    0
}

#[inline(always)]
fn deleted(ctx: &FEntryContext) -> Option<()> {
    let note = Note::any(ctx)?;
    let is_same = note.is(EventKind::Unlink) && note.is_new(ctx.arg(0));
    // A file's name is told by `vfs_unlink`, which comes here too.
    if !is_same || note.body.call_flags != AT_REMOVEDIR {
        return None;
    }
    note.tell(ctx, SLOT_D_DELETE);
    Note::end(ctx);
    Some(())
}

/// `security_path_mkdir(dir, dentry, mode)` from `do_mkdirat`.
#[fentry(function = "security_path_mkdir")]
pub fn path_mkdir(ctx: FEntryContext) -> i32 {
    begin_make(&ctx, EventKind::Mkdir, |note| {
        note.body.new_mode = ctx.arg(2)
    });
    0
}

/// `security_path_mknod(dir, dentry, mode, dev)` from `do_mknodat`, and from `may_o_create` for a file
/// that an open is to make: such a note is taken by the open (`file_open`), if that comes about.
#[fentry(function = "security_path_mknod")]
pub fn path_mknod(ctx: FEntryContext) -> i32 {
    begin_make(&ctx, EventKind::Mknod, |note| {
        let mode: u16 = ctx.arg(2);
        // Without a type it is a regular file.
        note.body.new_mode = if mode & S_IFMT == 0 {
            mode | S_IFREG
        } else {
            mode
        };
        let device: u32 = ctx.arg(3);
        // From the encoding of the call to the kernel's own (`new_decode_dev`, include/linux/kdev_t.h).
        let device = (device & 0xf_ff00) << 12 | device & 0xff | device >> 12 & 0xf_ff00;
        note.body.number = device.into();
    });
    0
}

/// `security_path_symlink(dir, dentry, old_name)` from `do_symlinkat`.
#[fentry(function = "security_path_symlink")]
pub fn path_symlink(ctx: FEntryContext) -> i32 {
    begin_make(&ctx, EventKind::Symlink, |note| note.detail(ctx.arg(2)));
    0
}

#[inline(always)]
fn begin_make(ctx: &FEntryContext, kind: EventKind, fill: impl FnOnce(&mut Note)) -> Option<()> {
    let name = Dentry::new(ctx.arg(1))?;
    let note = Note::begin(ctx, kind, None)?;
    note.named(name, Path::at(ctx.arg(0))?);
    fill(note);
    Some(())
}

/// `vfs_mkdir(..., dir, dentry, mode, ...)`.
#[fexit(function = "vfs_mkdir")]
pub fn vfs_mkdir(ctx: FExitContext) -> i32 {
    let (name, result) = (dentry!(ctx, Mkdir), result!(ctx, Mkdir));
    end(&ctx, EventKind::Mkdir, SLOT_VFS_MKDIR, name, result);
    0
}

/// `vfs_mknod(..., dir, dentry, mode, dev, ...)`: what is no regular file.
#[fexit(function = "vfs_mknod")]
pub fn vfs_mknod(ctx: FExitContext) -> i32 {
    let (name, result) = (dentry!(ctx, Mknod), result!(ctx, Mknod));
    end(&ctx, EventKind::Mknod, SLOT_VFS_MKNOD, name, result);
    0
}

/// `vfs_create(..., dentry, mode, ...)` from `do_mknodat`: a regular file. What an open makes does not
/// come this way.
#[fexit(function = "vfs_create")]
pub fn vfs_create(ctx: FExitContext) -> i32 {
    let (name, result) = (dentry!(ctx, Create), result!(ctx, Create));
    end(&ctx, EventKind::Mknod, SLOT_VFS_CREATE, name, result);
    0
}

/// `vfs_symlink(..., dir, dentry, oldname, ...)`.
#[fexit(function = "vfs_symlink")]
pub fn vfs_symlink(ctx: FExitContext) -> i32 {
    let (name, result) = (dentry!(ctx, Symlink), result!(ctx, Symlink));
    end(&ctx, EventKind::Symlink, SLOT_VFS_SYMLINK, name, result);
    0
}

/// The second half, of what has one name or only a new one that counts.
#[inline(always)]
fn end(
    ctx: &FExitContext,
    kind: EventKind,
    slot: u32,
    name: Option<u64>,
    result: Option<u64>,
) -> Option<()> {
    let Some(note) = Note::any(ctx) else {
        // Names of message queues are removed without a first half (`mq_unlink`, ipc/mqueue.c).
        if !matches!(kind, EventKind::Unlink) {
            note::missing(ctx);
        }
        return None;
    };
    if !note.is(kind) || !note.is_new(name?) {
        return None;
    }
    if note.succeeded(result) {
        if matches!(
            kind,
            EventKind::Mkdir | EventKind::Mknod | EventKind::Symlink
        ) {
            made(note, ctx, slot);
        }
        note.tell(ctx, slot);
    }
    Note::end(ctx);
    Some(())
}

/// Takes the identity of what there is now. A regular file is its maker's from the start.
#[inline(always)]
fn made(note: &mut Note, ctx: &FExitContext, slot: u32) -> Option<()> {
    let inode = note.new_dentry()?.inode()?;
    let key = guard::fill(&mut note.body, inode)?;
    // Of what was not there before there was no mode, and no writer.
    note.body.mode = 0;
    note.body.writer = Writer::ZERO;
    if slot == SLOT_VFS_CREATE {
        let caller = Who::tagged(ctx)?.caller(slot)?;
        guard::wrote(&caller, &key, inode);
    }
    Some(())
}
