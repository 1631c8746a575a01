//! Names and attributes of files that server lineages change, in the tracepoint tier: told by the
//! strings of the caller, as there is no descriptor to ask.

use tracer_common::control::Call;
use tracer_common::event::{ChangeBody, EventKind, flag};
use tracer_common::limits::STRING_BYTES;

use super::syscall::Syscall;
use crate::kernel::{self, Task};
use crate::output::{self, Caller, Record, Ring};

/// `AT_FDCWD`, include/uapi/linux/fcntl.h
const AT_FDCWD: i32 = -100;

/// Whether a call is one of those below.
#[inline(always)]
pub fn is_change(call: &Syscall) -> bool {
    call.is(Call::Rename) || call.is(Call::Renameat) || call.is(Call::Renameat2)
}

/// Names are read after the call, when their pages are resident because the kernel has just read
/// them. The directories they are relative to are the kernel's.
#[inline(always)]
pub fn done(caller: &Caller, call: &Syscall) {
    let names = if call.is(Call::Rename) {
        Names {
            old_dir: AT_FDCWD,
            old: call.arg::<0>(),
            new_dir: AT_FDCWD,
            new: call.arg::<1>(),
            flags: 0,
        }
    } else {
        Names {
            old_dir: call.arg::<0>() as i32,
            old: call.arg::<1>(),
            new_dir: call.arg::<2>() as i32,
            new: call.arg::<3>(),
            flags: if call.is(Call::Renameat2) {
                call.arg::<4>() as u32
            } else {
                0
            },
        }
    };
    let Some((record, body)) = Record::start::<ChangeBody>(EventKind::Rename, caller) else {
        return;
    };
    // SAFETY: points into this program's own scratch slot, which is written by nobody else during this
    // run (see `output::SCRATCH_MAP`); the record writes behind it only.
    let body = unsafe { &mut *body };
    caller.task.ids(&mut body.ids);
    body.mnt_ns = caller.task.mnt_ns();
    body.call_flags = names.flags;
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
    record.finish::<ChangeBody>(Ring::Files);
}

struct Names {
    old_dir: i32,
    old: u64,
    new_dir: i32,
    new: u64,
    flags: u32,
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
