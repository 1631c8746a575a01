//! Mounts.

use aya_ebpf::macros::fexit;
use aya_ebpf::programs::FExitContext;
use tracer_common::event::{ChangeBody, EventKind, flag};
use tracer_common::limits::STRING_BYTES;
use tracer_common::probe::{SLOT_MOVE_MOUNT, SLOT_PATH_MOUNT};

use super::Who;
use crate::kernel::Path;
use crate::output::{Record, Ring};

/// `MS_MOVE`, include/uapi/linux/mount.h
const MS_MOVE: u64 = 8192;

/// `path_mount(dev_name, path, type, flags, data)`, fs/namespace.c: mount(2), done or failed; the
/// mountpoint is the kernel's, the source the caller's string in kernel memory.
#[fexit(function = "path_mount")]
pub fn path_mount(ctx: FExitContext) -> i32 {
    let result: i32 = ctx.arg(5);
    if result == 0 {
        tell(
            &ctx,
            SLOT_PATH_MOUNT,
            None,
            Path::at(ctx.arg(1)),
            ctx.arg(3),
            ctx.arg(0),
            0,
        );
    }
    0
}

/// `security_move_mount(from_path, to_path)` from `vfs_move_mount` (`move_mount(2)` before),
/// fs/namespace.c: permitted, and not yet done.
#[fexit(function = "security_move_mount")]
pub fn move_mount(ctx: FExitContext) -> i32 {
    let result: i32 = ctx.arg(2);
    if result == 0 {
        let (from, to) = (Path::at(ctx.arg(0)), Path::at(ctx.arg(1)));
        tell(
            &ctx,
            SLOT_MOVE_MOUNT,
            from,
            to,
            MS_MOVE,
            core::ptr::null(),
            flag::ATTEMPT,
        );
    }
    0
}

#[inline(always)]
fn tell(
    ctx: &FExitContext,
    slot: u32,
    from: Option<Path>,
    to: Option<Path>,
    number: u64,
    source: *const u8,
    flags: u16,
) -> Option<()> {
    let caller = Who::tagged(ctx)?.caller(slot)?;
    let (record, body) = Record::start::<ChangeBody>(EventKind::Mount, &caller)?;
    // SAFETY: points into this program's own scratch slot, which is written by nobody else during this
    // run (see `output::SCRATCH_MAP`); the record writes behind it only.
    let body = unsafe { &mut *body };
    body.number = number;
    caller.task.ids(&mut body.ids);
    body.mnt_ns = caller.task.mnt_ns();
    record.flag_if(true, flags | flag::RESOLVED);
    if from.is_some() {
        let from = record.path(from);
        body.old_dir_len = from.len;
        record.flag_if(from.truncated, flag::PATH_TRUNCATED);
    }
    record.watch(true);
    if let Some(to) = to {
        record.meet(to.dentry);
    }
    let to = record.path(to);
    body.new_dir_len = to.len;
    body.directory = record.directory();
    record.flag_if(to.truncated, flag::PATH_TRUNCATED);
    let source = record.kernel_string::<STRING_BYTES>(source);
    body.detail_len = source.len;
    record.flag_if(source.truncated, flag::STRING_TRUNCATED);
    record.finish::<ChangeBody>(Ring::Files);
    Some(())
}
