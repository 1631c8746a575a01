//! Files that are opened, received and mapped.

use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use tracer_common::event::{access, fmode};
use tracer_common::probe::{SLOT_FILE_OPEN, SLOT_FILE_RECEIVE, SLOT_MMAP_FILE};

use super::{Who, note};
use crate::guard;
use crate::kernel::{File, control};
use crate::probes::file;

/// `FMODE_NOACCOUNT`, include/linux/fs.h: opened by the kernel for itself, the file under a file of
/// overlayfs among them (`alloc_empty_backing_file`, fs/file_table.c). Not `FMODE_BACKING`, which changed
/// its place in 6.14: what is there since is a file that fanotify opened for its reader.
const NOACCOUNT: u32 = 0x2000_0000;

/// `security_file_open(file)`, from `do_dentry_open`, fs/open.c: path, inode and mode of the file are
/// in place and it may be opened; the file system's own open comes after, which fails for regular
/// files only where storage does. No descriptor yet. Every way to open leads here: open(2) in all
/// conventions, open_by_handle_at(2), `O_TMPFILE`, io_uring, execve(2), and the kernel's own, which
/// are left out; `O_PATH` does not, as it gives no access.
#[fexit(function = "security_file_open")]
pub fn file_open(ctx: FExitContext) -> i32 {
    if let Some(file) = File::new(ctx.arg(0))
        && file.mode() & fmode::CREATED != 0
        && let Some(path) = file.path()
    {
        note::made_by_open(&ctx, path.dentry);
    }
    let result: i32 = ctx.arg(1);
    if result == 0 {
        open(&ctx);
    }
    0
}

#[inline(always)]
fn open(ctx: &FExitContext) -> Option<()> {
    let who = Who::anyone(ctx)?;
    let file = File::new(ctx.arg(0))?;
    if !who.is_tagged() && !concerns(file) {
        return None;
    }
    if file.mode() & NOACCOUNT != 0 || file.path()?.mount.is_private() {
        return None;
    }
    file::open(&who.caller(SLOT_FILE_OPEN)?, file);
    Some(())
}

/// Whether it matters that a process of no server's lineage opens this: for writing, and such a lineage
/// wrote it before or everybody's writing is asked for.
#[inline(always)]
fn concerns(file: File) -> bool {
    file.mode() & (fmode::WRITE | fmode::CREATED) != 0
        && (control!(any_writer) != 0 || file.inode().is_some_and(guard::is_written))
}

/// Whether somebody of no server's lineage is about to execute what such a lineage wrote: a library.
#[inline(always)]
fn is_code(file: File, protection: u64) -> bool {
    protection & u64::from(access::EXEC) != 0 && file.inode().is_some_and(guard::is_written)
}

/// `security_file_receive(file)`, from `receive_fd` and its kin, fs/file.c (`scm_detach_fds` before):
/// somebody handed the file over a socket, and it may be taken; the descriptor is not installed yet.
#[fexit(function = "security_file_receive")]
pub fn file_receive(ctx: FExitContext) -> i32 {
    let result: i32 = ctx.arg(1);
    if result == 0
        && let Some(who) = Who::tagged(&ctx)
        && let (Some(file), Some(caller)) = (File::new(ctx.arg(0)), who.caller(SLOT_FILE_RECEIVE))
    {
        file::received(&caller, file);
    }
    0
}

/// `security_mmap_file(file, prot, flags)`, from `vm_mmap_pgoff`, mm/util.c: the mapping may be made;
/// what can fail yet is address space. The kernel maps programs and their loaders this way too.
/// mprotect(2) is not seen: a file that is mapped to be written to later counts as mapped for writing
/// already, one that is mapped to be executed later (`READ_IMPLIES_EXEC` does that too) is not told.
#[fexit(function = "security_mmap_file")]
pub fn mmap_file(ctx: FExitContext) -> i32 {
    let result: i32 = ctx.arg(3);
    if result == 0
        && let Some(who) = Who::anyone(&ctx)
        && let Some(file) = File::new(ctx.arg(0))
        && (who.is_tagged() || is_code(file, ctx.arg(1)))
        && let Some(caller) = who.caller(SLOT_MMAP_FILE)
    {
        file::map(&caller, file, ctx.arg(1), ctx.arg(2));
    }
    0
}
