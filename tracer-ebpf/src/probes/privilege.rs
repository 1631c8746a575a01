//! What processes of server lineages become, and whom they reach into: names, users, capabilities,
//! namespaces, other processes' memory, and execs that failed.
//!
//! Tells what is so after the call, from the task, and not what was asked for. Where the hook
//! cannot see what was before, it is held against what was told last.

use core::mem::size_of;
use core::ptr::read_volatile;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_probe_read_user_str;
use aya_ebpf::macros::{fentry, fexit, map, raw_tracepoint};
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::{FEntryContext, FExitContext, RawTracePointContext};
use tracer_common::control::Call;
use tracer_common::event::{
    CommBody, CredentialBody, EventKind, ExecFailedBody, Ids, NamespaceBody, TraceBody, flag,
    fmode, namespace_call, trace_method,
};
use tracer_common::limits::{CREDENTIALS, NAME_BYTES};
use tracer_common::probe::{
    SLOT_COMM, SLOT_COMMIT_CREDS, SLOT_COMPAT_EXECVE, SLOT_COMPAT_EXECVEAT, SLOT_EXECVE,
    SLOT_EXECVEAT, SLOT_NAMESPACES, SLOT_PIVOT_ROOT, SLOT_PTRACE, SLOT_SET_FS_ROOT, Tier,
};

use super::lsm::Who;
use super::syscall::{Abi, Syscall};
use crate::guard;
use crate::kernel::{self, Cred, File, Path, Task};
use crate::output::{self, Caller, Record, Ring};

/// Bits of unshare(2) that mean a namespace (`CLONE_NEW*`, include/uapi/linux/sched.h).
const CLONE_NEW: u64 = 0x7e02_0080;
const CLONE_NEWUSER: u64 = 0x1000_0000;

/// Requests of ptrace(2), include/uapi/linux/ptrace.h
const PTRACE_ATTACH: u64 = 16;
const PTRACE_SEIZE: u64 = 0x4206;

/// `PTRACE_MODE_ATTACH`, include/linux/ptrace.h
const PTRACE_MODE_ATTACH: u32 = 0x2;

/// The current process, where a server's lineage: for the programs of the lsm tier.
#[inline(always)]
fn caller(ctx: &impl EbpfContext, slot: u32) -> Option<Caller> {
    Who::tagged(ctx)?.caller(slot)
}

/// `trace_task_rename(task, comm)` in `__set_task_comm`, fs/exec.c: the task still has its old name. From
/// prctl(2), from a write to `/proc/PID/comm` by any thread of the process, and from execve(2), whose
/// own name is not told: the exec is.
#[raw_tracepoint(tracepoint = "task_rename")]
pub fn task_rename(ctx: RawTracePointContext) -> i32 {
    let Some(task) = Task::new(ctx.arg(0)) else {
        return 0;
    };
    let (Some(tgid), Some(tid)) = (task.tgid(), task.tid()) else {
        return 0;
    };
    let tag = guard::tag(tgid);
    if tgid != tid || !tag.is_server_lineage() || task.is_in_execve() {
        return 0;
    }
    let mut body = CommBody::ZERO;
    task.comm(&mut body.old);
    kernel::kernel_name(ctx.arg(1), &mut body.new);
    if body.old != body.new {
        let caller = Caller {
            task,
            tgid,
            tid: ctx.pid(),
            tag,
            slot: SLOT_COMM,
            tier: Tier::Tracepoint,
            flags: 0,
        };
        output::send_bounded(EventKind::Comm, &caller, body);
    }
    0
}

/// `commit_creds(new)`, kernel/cred.c, at its begin: the task still has its old credentials, and nothing
/// can refuse the new ones any more. From setuid(2) and its kin, capset(2), unshare(2) and setns(2)
/// of user namespaces; from execve(2) too, whose own are told by the exec.
#[fentry]
pub fn commit_creds(ctx: FEntryContext) -> i32 {
    if let Some(caller) = caller(&ctx, SLOT_COMMIT_CREDS)
        && let Some(new) = Cred::new(ctx.arg(0))
        && !caller.task.is_in_execve()
    {
        let now = describe(new);
        let same = match caller.task.cred() {
            Some(cred) => describe(cred) == now,
            None => false,
        };
        if !same {
            output::send_bounded(EventKind::Credentials, &caller, now);
        }
    }
    0
}

/// `switch_task_namespaces(p, new)`, kernel/nsproxy.c, at its end: the task has its new namespaces. From
/// setns(2) and unshare(2), from the end of a task with none, and from execve(2) into another time
/// namespace.
#[fexit]
pub fn switch_task_namespaces(ctx: FExitContext) -> i32 {
    if let Some(caller) = caller(&ctx, SLOT_NAMESPACES) {
        let (task, new): (*const u8, *const u8) = (ctx.arg(0), ctx.arg(1));
        if Task::new(task) == Some(caller.task) && !new.is_null() && !caller.task.is_in_execve() {
            namespace(&caller, namespace_call::SWITCH, || caller.task.root());
        }
    }
    0
}

/// `set_fs_root(fs, path)`, fs/fs_struct.c, at its end: the root is the new one. From chroot(2); from
/// setns(2) too, whose own is left out, as `switch_task_namespaces` tells it.
#[fexit]
pub fn set_fs_root(ctx: FExitContext) -> i32 {
    if let Some(caller) = caller(&ctx, SLOT_SET_FS_ROOT)
        && let Some(root) = Path::at(ctx.arg(1))
        && caller.task.moves_to(ctx.arg(0), root)
    {
        namespace(&caller, namespace_call::CHROOT, || Some(root));
    }
    0
}

/// `security_sb_pivotroot(old, new)`, security/security.c, at its end: called by pivot_root(2) when both
/// paths are resolved, before anything is moved. What is told is where the new root lies now.
#[fexit]
pub fn sb_pivotroot(ctx: FExitContext) -> i32 {
    let result: i32 = ctx.arg(2);
    if result == 0
        && let Some(caller) = caller(&ctx, SLOT_PIVOT_ROOT)
    {
        let caller = Caller {
            flags: caller.flags | flag::ATTEMPT,
            ..caller
        };
        namespace(&caller, namespace_call::PIVOT_ROOT, || Path::at(ctx.arg(1)));
    }
    0
}

/// `security_ptrace_access_check(child, mode)`, security/security.c, at its end: the last question of
/// `__ptrace_may_access`, kernel/ptrace.c, which ptrace(2), process_vm_writev(2), pidfd_getfd(2) and
/// the open of `/proc/PID/mem` ask before they do anything. Never asked of the caller's own threads.
#[fexit]
pub fn ptrace_access_check(ctx: FExitContext) -> i32 {
    let (mode, result): (u32, i32) = (ctx.arg(1), ctx.arg(2));
    if result == 0
        && mode & PTRACE_MODE_ATTACH != 0
        && let Some(caller) = caller(&ctx, SLOT_PTRACE)
    {
        trace(&caller, Task::new(ctx.arg(0)), 0, trace_method::ACCESS);
    }
    0
}

/// `__x64_sys_execve(regs)` (`SYSCALL_DEFINE3(execve)`, fs/exec.c) at its end: where it failed, the process
/// goes on as it was, and the name is where the kernel has just read it.
#[fexit]
pub fn execve(ctx: FExitContext) -> i32 {
    exec_result(&ctx, Call::Execve, SLOT_EXECVE)
}

/// The same of execveat(2).
#[fexit]
pub fn execveat(ctx: FExitContext) -> i32 {
    exec_result(&ctx, Call::Execveat, SLOT_EXECVEAT)
}

/// The same of a 32-bit caller's execve(2).
#[fexit]
pub fn compat_execve(ctx: FExitContext) -> i32 {
    exec_result(&ctx, Call::Execve, SLOT_COMPAT_EXECVE)
}

/// And of its execveat(2).
#[fexit]
pub fn compat_execveat(ctx: FExitContext) -> i32 {
    exec_result(&ctx, Call::Execveat, SLOT_COMPAT_EXECVEAT)
}

#[inline(always)]
fn exec_result(ctx: &FExitContext, call: Call, slot: u32) -> i32 {
    let result: i64 = ctx.arg(1);
    if result < 0
        && let Some(caller) = caller(ctx, slot)
    {
        let call = Syscall {
            code: call.code(),
            abi: Abi::of(caller.task),
            registers: kernel::first_argument(ctx.as_ptr().cast()),
            result,
        };
        exec_failed(&caller, &call);
    }
    0
}

/// Whether a call executes something.
#[inline(always)]
pub fn is_exec(call: &Syscall) -> bool {
    call.is(Call::Execve) || call.is(Call::Execveat)
}

/// An exec that failed. The name is the caller's string: there is no file.
#[inline(always)]
pub fn exec_failed(caller: &Caller, call: &Syscall) {
    let name = if call.is(Call::Execve) {
        call.arg::<0>()
    } else {
        call.arg::<1>()
    };
    failed(caller, name, call.result);
}

#[inline(never)]
fn failed(caller: &Caller, name: u64, result: i64) {
    let kind = EventKind::ExecFailed;
    let Some((record, body)) = Record::start::<ExecFailedBody>(kind, caller) else {
        return;
    };
    // SAFETY: points into this program's own scratch slot, which is written by nobody else during this
    // run (see `output::SCRATCH_MAP`).
    let body = unsafe { &mut *body };
    caller.task.ids(&mut body.ids);
    body.error = (result as i32).wrapping_neg() as u32;
    let to = body.name.as_mut_ptr();
    // SAFETY: the destination has that many bytes; the helper checks the source.
    let written =
        unsafe { bpf_probe_read_user_str(to.cast(), NAME_BYTES as u32, name as *const _) };
    if written > 0 {
        body.name_len = written as u32 - 1;
    }
    record.flag_if(
        written <= 0 || written == NAME_BYTES as i64,
        flag::STRING_TRUNCATED,
    );
    record.finish::<ExecFailedBody>(Ring::Bounded);
}

/// Whether a call is one of those below, which are the last. One comparison: with two, the verifier would
/// go through all other calls twice, as those before and those after.
#[inline(always)]
pub fn is_privilege(call: &Syscall) -> bool {
    call.code >= Call::Credentials.code()
}

/// A call that succeeded.
#[inline(always)]
pub fn done(caller: &Caller, call: &Syscall) {
    if call.code >= Call::Ptrace.code() {
        let request = call.arg::<0>();
        let is_ptrace = call.is(Call::Ptrace);
        if is_ptrace && request != PTRACE_ATTACH && request != PTRACE_SEIZE {
            return;
        }
        let number = if is_ptrace { call.arg::<1>() } else { request };
        // As in `changed`.
        let method = u32::from(call.code) - METHODS;
        reach(caller, number as u32, method);
    } else if call.code >= Call::Setns.code() {
        changed(caller, call.code, call.arg::<0>());
    } else if call.result == 0 {
        credentials(caller);
    }
}

/// What to subtract from a call's code for its number in [`namespace_call`].
const CALLS: u32 = Call::Setns as u32 - namespace_call::SETNS;

/// What to subtract from a call's code for its number in [`trace_method`].
const METHODS: u32 = Call::Ptrace as u32 - trace_method::PTRACE;

const _: () = assert!(
    Call::Unshare as u32 - CALLS == namespace_call::UNSHARE
        && Call::Chroot as u32 - CALLS == namespace_call::CHROOT
        && Call::PivotRoot as u32 - CALLS == namespace_call::PIVOT_ROOT
        && Call::VmWrite as u32 - METHODS == trace_method::VM_WRITE
);

/// A call that changed namespaces or the root, and where the user namespace is one of them, the
/// credentials. Its word for the record is calculated, not chosen: to the verifier it then is any
/// number, and what follows is gone through once for all calls. A function of its own, as those
/// below, so that what came before does not count either.
#[inline(never)]
fn changed(caller: &Caller, code: u8, flags: u64) {
    if code == Call::Unshare.code() && flags & CLONE_NEW == 0 {
        return;
    }
    if code == Call::Setns.code() || code == Call::Unshare.code() && flags & CLONE_NEWUSER != 0 {
        credentials(caller);
    }
    namespace(caller, u32::from(code) - CALLS, || caller.task.root());
}

#[inline(never)]
fn credentials(caller: &Caller) {
    let kind = EventKind::Credentials;
    let Some((record, body)) = Record::start::<CredentialBody>(kind, caller) else {
        return;
    };
    // SAFETY: points into this program's own scratch slot, which is written by nobody else during this
    // run (see `output::SCRATCH_MAP`).
    let body = unsafe { &mut *body };
    if let Some(cred) = caller.task.cred() {
        cred.ids(&mut body.ids);
        (body.cap_effective, body.cap_permitted) = cred.capabilities();
        body.user_ns = cred.user_ns();
        if !is_changed(caller, body) {
            return;
        }
        record.finish::<CredentialBody>(Ring::Bounded);
    }
}

/// Credentials that processes were last told with, by [`subject`]: calls that change nothing are not told.
#[map(name = "CREDENTIALS")]
static CREDENTIAL_MAP: LruHashMap<u64, CredentialBody> =
    LruHashMap::with_max_entries(CREDENTIALS, 0);

/// A process, whoever has its number later: the start's nanoseconds alone tell nearly all apart.
#[inline(always)]
fn subject(caller: &Caller) -> u64 {
    caller.task.start_boot_ns() ^ (u64::from(caller.tgid) << 32)
}

/// Whether these are others than a process was last told with. Where they cannot be noted, or nothing was
/// told of it yet, they are told. A function of its own, for the sake of the stack.
#[inline(never)]
fn is_changed(caller: &Caller, now: &CredentialBody) -> bool {
    let subject = subject(caller);
    if let Some(known) = CREDENTIAL_MAP.get_ptr(subject) {
        let mut differs = 0;
        for word in 0..size_of::<CredentialBody>() / size_of::<u64>() {
            // SAFETY: a word of each value, which are of that size and aligned. Volatile, so that it is
            // no call of memcmp, and without a branch: to the verifier it is one way.
            differs |= unsafe {
                read_volatile(known.cast::<u64>().add(word))
                    ^ read_volatile((&raw const *now).cast::<u64>().add(word))
            };
        }
        if differs == 0 {
            return false;
        }
    }
    let _told_again = CREDENTIAL_MAP.insert(subject, now, 0);
    true
}

/// An exec tells the credentials itself: from now on it is those that others are held against.
#[inline(never)]
pub fn executed(caller: &Caller) {
    // Absent is what most processes are.
    let _absent = CREDENTIAL_MAP.remove(subject(caller));
}

#[inline(never)]
fn reach(caller: &Caller, number: u32, method: u32) {
    trace(caller, caller.task.by_number(number), number, method);
}

/// An open file that may be the memory of another process. Only where no other hook sees who is reached
/// into.
#[inline(never)]
pub fn memory(caller: &Caller, file: File) {
    if caller.tier as u8 == Tier::Tracepoint as u8
        && file.mode() & fmode::WRITE != 0
        && caller.tag.is_server_lineage()
        && let Some(target) = file.memory_of()
    {
        trace(caller, Some(target), 0, trace_method::MEM);
    }
}

#[inline(always)]
fn describe(cred: Cred) -> CredentialBody {
    let mut ids = Ids::ZERO;
    cred.ids(&mut ids);
    let (cap_effective, cap_permitted) = cred.capabilities();
    CredentialBody {
        cap_effective,
        cap_permitted,
        ids,
        user_ns: cred.user_ns(),
        reserved: 0,
    }
}

/// `root` is asked for where it is needed: what is carried along on the stack without having been found
/// is read back all the same, which the verifier of 5.10 refuses.
#[inline(always)]
fn namespace(caller: &Caller, call: u32, root: impl FnOnce() -> Option<Path>) {
    let kind = EventKind::Namespace;
    let Some((record, body)) = Record::start::<NamespaceBody>(kind, caller) else {
        return;
    };
    // SAFETY: points into this program's own scratch slot, which is written by nobody else during this
    // run (see `output::SCRATCH_MAP`); the record writes behind it only.
    let body = unsafe { &mut *body };
    body.call = call;
    caller.task.ids(&mut body.ids);
    caller.task.namespaces(&mut body.ns);
    let path = record.path(root());
    body.root_len = path.len;
    record.flag_if(path.truncated, flag::PATH_TRUNCATED);
    record.finish::<NamespaceBody>(Ring::Bounded);
}

/// The caller reached into another process, which from now on is of its lineage. Told again only where
/// it attached again: a write is one of many. The agent itself is told and not tagged; a target that is
/// known by its number only is left to user space.
#[inline(always)]
fn trace(caller: &Caller, target: Option<Task>, number: u32, method: u32) {
    let tgid = target.and_then(Task::tgid).unwrap_or(0);
    if tgid == caller.tgid {
        return;
    }
    let Some((record, body)) = Record::start::<TraceBody>(EventKind::Trace, caller) else {
        return;
    };
    // SAFETY: points into this program's own scratch slot, which is written by nobody else during this
    // run (see `output::SCRATCH_MAP`).
    let body = unsafe { &mut *body };
    body.method = method;
    body.target_vpid = number;
    if tgid != 0 && tgid != kernel::own_tgid() {
        let is_new = guard::by_trace(&caller.tag, tgid, &mut body.target_tag);
        if method != trace_method::PTRACE && !is_new {
            return;
        }
    }
    body.target_start_boot_ns = target.map_or(0, Task::start_boot_ns);
    caller.task.ids(&mut body.ids);
    body.target_tgid = tgid;
    body.pid_ns = caller.task.pid_in_namespace().map_or(0, |(_, ns)| ns);
    record.finish::<TraceBody>(Ring::Bounded);
}
