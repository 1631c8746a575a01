//! What files are beside their names: mode, owner, size, extended attributes.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use tracer_common::control::Function;
use tracer_common::event::{ChangeBody, EventKind, flag};
use tracer_common::limits::{MOUNTS, NAME_BYTES};
use tracer_common::probe::{SLOT_NOTIFY_CHANGE, SLOT_SETXATTR};

use super::note::Note;
use super::{Who, control, dentry, result, word};
use crate::guard;
use crate::kernel::{self, Dentry, File, Iattr, Mount, Path};
use crate::output::{Caller, Record, Ring};

/// Bits of `iattr.ia_valid`, include/linux/fs.h.
const ATTR_MODE: u32 = 1 << 0;
const ATTR_UID: u32 = 1 << 1;
const ATTR_GID: u32 = 1 << 2;
const ATTR_SIZE: u32 = 1 << 3;
/// Cut by an open, which is told itself.
const ATTR_OPEN: u32 = 1 << 15;

/// `security_path_chmod(path, mode)` from `chmod_common`, fs/open.c, for chmod(2), fchmod(2) and their
/// kin: the file is known and locked, nothing is checked or done.
#[fentry(function = "security_path_chmod")]
pub fn path_chmod(ctx: FEntryContext) -> i32 {
    begin(&ctx, EventKind::Chmod, Path::at(ctx.arg(0)));
    0
}

/// `security_path_chown(path, uid, gid)` from `chown_common`, fs/open.c, in the same state; or, where
/// the kernel does not let programs attach to a function that takes structures, that one's begin,
/// which has the path too.
#[fentry(function = "security_path_chown")]
pub fn path_chown(ctx: FEntryContext) -> i32 {
    begin(&ctx, EventKind::Chown, Path::at(ctx.arg(0)));
    0
}

/// `security_path_truncate(path)` from `vfs_truncate`, fs/open.c: truncate(2); on older kernels from
/// `do_sys_ftruncate` and `handle_truncate` too.
#[fentry(function = "security_path_truncate")]
pub fn path_truncate(ctx: FEntryContext) -> i32 {
    begin(&ctx, EventKind::Truncate, Path::at(ctx.arg(0)));
    0
}

/// `security_file_truncate(file)` from `do_ftruncate`, fs/open.c, and `handle_truncate`, fs/namei.c, which
/// is for an open.
#[fentry(function = "security_file_truncate")]
pub fn file_truncate(ctx: FEntryContext) -> i32 {
    let file = File::new(ctx.arg(0));
    begin(&ctx, EventKind::Truncate, file.and_then(|file| file.path()));
    0
}

#[inline(always)]
fn begin(ctx: &FEntryContext, kind: EventKind, file: Option<Path>) -> Option<()> {
    let file = file?;
    let note = Note::begin(ctx, kind, file.dentry.inode())?;
    note.file(file);
    Some(())
}

/// `notify_change(..., dentry, attr, ...)`, fs/attr.c: done, or failed. The kernel comes here for itself
/// too (a write that takes the set-user-id bit away, overlayfs on its layers), without a note.
#[fexit(function = "notify_change")]
pub fn notify_change(ctx: FExitContext) -> i32 {
    changed(&ctx);
    0
}

#[inline(always)]
fn changed(ctx: &FExitContext) -> Option<()> {
    let note = Note::any(ctx)?;
    let dentry = dentry!(ctx, NotifyChange)?;
    if !note.is_new(dentry) {
        return None;
    }
    // Right behind it.
    let attr = word(
        ctx.as_ptr(),
        control!(dentries[Function::NotifyChange as usize]) + 1,
    )?;
    let attr = Iattr::new(attr as *const u8)?;
    let valid = attr.valid();
    let succeeded = note.succeeded(result!(ctx, NotifyChange)) && valid & ATTR_OPEN == 0;
    let uid = if valid & ATTR_UID == 0 {
        u32::MAX
    } else {
        attr.uid()
    };
    let gid = if valid & ATTR_GID == 0 {
        u32::MAX
    } else {
        attr.gid()
    };
    let (expected, number) = if note.is(EventKind::Chmod) {
        note.body.new_mode = attr.mode();
        (ATTR_MODE, 0)
    } else if note.is(EventKind::Chown) {
        (0, u64::from(uid) << 32 | u64::from(gid))
    } else {
        (ATTR_SIZE, attr.size())
    };
    note.body.number = number;
    if valid & expected != expected {
        return None;
    }
    if succeeded {
        note.tell(ctx, SLOT_NOTIFY_CHANGE);
        if note.is(EventKind::Truncate) {
            wrote(ctx, dentry);
        }
    }
    Note::end(ctx);
    Some(())
}

/// Who cuts a file writes it.
#[inline(always)]
fn wrote(ctx: &FExitContext, dentry: u64) -> Option<()> {
    let caller = Who::tagged(ctx)?.caller(SLOT_NOTIFY_CHANGE)?;
    let inode = Dentry::new(dentry as *const u8)?.inode()?;
    guard::wrote(&caller, &inode.key()?, inode);
    Some(())
}

/// `security_inode_post_setxattr(dentry, name, value, size, flags)` from `__vfs_setxattr_noperm`,
/// fs/xattr.c: done. No mount is known here: the path is by the first mount of the whole file system
/// that the thread can see, and where there is none it begins at the file system's root and is marked
/// as cut.
#[fexit(function = "security_inode_post_setxattr")]
pub fn inode_post_setxattr(ctx: FExitContext) -> i32 {
    if let Some(who) = Who::anyone(&ctx) {
        attribute(&ctx, who);
    }
    0
}

#[inline(always)]
fn attribute(ctx: &FExitContext, who: Who) -> Option<()> {
    let dentry = Dentry::new(ctx.arg(0))?;
    let inode = dentry.inode()?;
    if !who.is_tagged() && !guard::is_written(inode) {
        return None;
    }
    let caller = who.caller(SLOT_SETXATTR)?;
    if caller.task.acts_for_another() && is_overlay(ctx.arg(1)) {
        return None;
    }
    let (record, body) = Record::start::<ChangeBody>(EventKind::Setxattr, &caller)?;
    // SAFETY: points into this program's own scratch slot, which is written by nobody else during this
    // run (see `output::SCRATCH_MAP`); the record writes behind it only.
    let body = unsafe { &mut *body };
    guard::fill(body, inode)?;
    body.number = ctx.arg(3);
    body.call_flags = ctx.arg(4);
    caller.task.ids(&mut body.ids);
    body.mnt_ns = caller.task.mnt_ns();
    record.flag_if(true, flag::RESOLVED);
    record.watch(true);
    let dentry = Dentry::new(record.plain(dentry.number()) as *const u8)?;
    // Where no mount is known at all, the path is left out and counted.
    let (path, known) = match locate(&caller, dentry) {
        Some((path, known)) => (Some(path), known),
        None => (None, false),
    };
    let path = record.path(path);
    body.new_dir_len = path.len;
    body.directory = record.directory();
    record.flag_if(path.truncated || !known, flag::PATH_TRUNCATED);
    let name = record.kernel_string::<NAME_BYTES>(ctx.arg(1));
    body.detail_len = name.len;
    record.flag_if(name.truncated, flag::STRING_TRUNCATED);
    record.finish::<ChangeBody>(Ring::Files);
    Some(())
}

/// Whether an attribute is one that overlayfs keeps on its layers (`OVL_XATTR_TRUSTED_PREFIX` and
/// `OVL_XATTR_USER_PREFIX`, fs/overlayfs/overlayfs.h).
#[inline(always)]
fn is_overlay(name: *const u8) -> bool {
    const TRUSTED: u128 = u128::from_le_bytes(*b"trusted.overlay.");
    const USER: u128 = u128::from_le_bytes(*b"user.overlay.\0\0\0");
    let head = u128::from_le_bytes(kernel::head(name));
    head == TRUSTED || head & ((1 << 104) - 1) == USER
}

/// A file by a mount of its file system; and whether that is one that the thread can see, of all of it.
#[inline(always)]
fn locate(caller: &Caller, dentry: Dentry) -> Option<(Path, bool)> {
    let file_system = dentry.file_system();
    let root = Dentry::root_of(file_system);
    let namespace = caller.task.mnt_namespace();
    let mut mount = Mount::first_of(file_system)?;
    for _ in 0..MOUNTS {
        if mount.namespace() == namespace && mount.root() == root {
            return Some((Path { dentry, mount }, true));
        }
        let Some(next) = mount.next_of(file_system) else {
            break;
        };
        mount = next;
    }
    let mount = Mount::first_of(file_system)?;
    Some((Path { dentry, mount }, false))
}
