//! Process life: fork, exec, exit.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_get_current_cgroup_id;
use aya_ebpf::macros::{fexit, raw_tracepoint};
use aya_ebpf::programs::{FExitContext, RawTracePointContext};
use tracer_common::event::{EventKind, ExecBody, ExitBody, FdInfo, ForkBody, Ids, flag};
use tracer_common::limits::{
    ARGS_HEAD_BYTES, ARGS_TAIL_BYTES, CGROUP_BYTES, CGROUP_STEPS, STRING_BYTES,
};
use tracer_common::probe::{Drop, SLOT_EXEC, SLOT_EXIT, SLOT_FORK, Tier};
use tracer_common::tag::{InodeKey, Tag, Writer};

use super::{lsm, network, privilege};
use crate::guard;
use crate::kernel::{self, Bprm, File, Inode, Task};
use crate::output::{self, Caller, Record, Ring};

#[inline(always)]
fn caller(ctx: &RawTracePointContext, task: Task, tag: Tag, slot: u32) -> Caller {
    Caller {
        task,
        tgid: ctx.tgid(),
        tid: ctx.pid(),
        tag,
        slot,
        tier: Tier::Tracepoint,
        flags: 0,
    }
}

/// `trace_sched_process_fork(current, p)` in `kernel_clone`, kernel/fork.c: the child is complete
/// and has its number, but has not run and is not yet on a run queue, so nothing it does can come
/// before its tag. `parent` is the creator even with `CLONE_PARENT`, which makes
/// `child->real_parent` another process.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    if fork(&ctx).is_none() {
        output::dropped(Drop::TaskFault);
    }
    0
}

#[inline(always)]
fn fork(ctx: &RawTracePointContext) -> Option<()> {
    let creator = Task::new(ctx.arg(0))?;
    let child = Task::new(ctx.arg(1))?;
    let child_tgid = child.tgid()?;
    if child.tid()? != child_tgid {
        return Some(()); // a thread
    }
    let tgid = ctx.tgid();
    let tag = guard::tag(tgid);
    let child_tag = guard::inherit(tag, child_tgid);
    let (child_vpid, child_pid_ns) = child.pid_in_namespace().unwrap_or((0, 0));
    let parent = child.real_parent();
    let mut ids = Ids::ZERO;
    creator.ids(&mut ids);
    output::send(
        EventKind::Fork,
        &caller(ctx, creator, tag, SLOT_FORK),
        ForkBody {
            child_start_boot_ns: child.start_boot_ns(),
            parent_start_boot_ns: parent.map_or(0, Task::start_boot_ns),
            child_tag,
            ids,
            child_tgid,
            parent_tgid: parent.and_then(Task::tgid).unwrap_or(0),
            child_vpid,
            child_pid_ns,
        },
    );
    Some(())
}

/// `trace_sched_process_exec(current, old_pid, bprm)` in `exec_binprm`, fs/exec.c: the new image is
/// in place (mm, argument area, credentials, name) and has not run an instruction. A thread that
/// was not the leader has already taken the leader's number; `old_pid` is the one it had. Arguments
/// are read from the new stack, which nobody else can write to yet.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    if exec(&ctx).is_none() {
        output::dropped(Drop::TaskFault);
    }
    0
}

#[inline(always)]
fn exec(ctx: &RawTracePointContext) -> Option<()> {
    let task = Task::new(ctx.arg(0))?;
    let old_pid: u32 = ctx.arg(1);
    let bprm = Bprm::new(ctx.arg(2))?;
    let tgid = ctx.tgid();
    // A note of the thread under its old number, which nobody asks for any more.
    lsm::forget(tgid, old_pid);
    let exe = task.exe();
    let inode = exe.and_then(|exe| exe.inode());
    // Its tag is found below.
    let caller = caller(ctx, task, Tag::ZERO, SLOT_EXEC);
    let (record, body) = Record::start::<ExecBody>(EventKind::Exec, &caller)?;
    // SAFETY: points into this program's own scratch slot, which is written by nobody else during this
    // run (see `output::SCRATCH_MAP`); the record writes behind it only.
    let body = unsafe { &mut *body };
    descend(record, body, inode, tgid, old_pid);
    body.nlink = inode.map_or(1, |inode| inode.nlink());
    body.mode = inode.map_or(0, |inode| inode.mode());
    // SAFETY: takes no argument.
    body.cgroup_id = unsafe { bpf_get_current_cgroup_id() };
    let parent = task.real_parent();
    body.parent_start_boot_ns = parent.map_or(0, Task::start_boot_ns);
    body.parent_tgid = parent.and_then(Task::tgid).unwrap_or(0);
    body.old_pid = old_pid;
    let [stdin, stdout, stderr] = &mut body.stdio;
    descriptor(task, 0, stdin);
    descriptor(task, 1, stdout);
    descriptor(task, 2, stderr);
    task.ids(&mut body.ids);
    task.namespaces(&mut body.ns);
    (body.cap_effective, body.cap_permitted) = task.capabilities();
    (body.loginuid, body.sessionid) = task.audit();
    let session = task.session();
    body.pgid = session.pgid;
    body.sid = session.sid;
    body.tty = session.tty;
    let path = record.path(exe.and_then(|exe| exe.path()));
    body.exe_len = path.len;
    record.flag_if(path.truncated, flag::PATH_TRUNCATED);
    let cwd = record.path(task.cwd());
    body.cwd_len = cwd.len;
    record.flag_if(cwd.truncated, flag::CWD_TRUNCATED);
    body.cgroup_len = cgroup(record, task);
    let filename = record.kernel_string::<STRING_BYTES>(bprm.filename());
    body.filename_len = filename.len;
    if body.interp_len == AWAIT && bprm.is_interpreted() {
        guard::await_script(tgid);
    }
    let interp = record.kernel_string::<STRING_BYTES>(bprm.interp());
    body.interp_len = interp.len;
    record.flag_if(
        filename.truncated || interp.truncated,
        flag::STRING_TRUNCATED,
    );
    body.args_len = 0;
    body.args_head_len = 0;
    body.args_tail_len = 0;
    if args(record, task, body).is_none() {
        output::dropped(Drop::ArgsFault);
        record.flag_if(true, flag::ARGS_UNREADABLE);
    }
    record.finish::<ExecBody>(Ring::Life);
    privilege::executed(&caller);
    Some(())
}

/// In [`ExecBody::interp_len`] until that is known: whose script it is shows when it is opened.
const AWAIT: u16 = 1;

/// Which file runs and who wrote it, and the tag that the process has with it: its own, the writer's
/// where it has none, and the roles that the file gives. All of it goes into the record at once, and
/// this is a function of its own, for the verifier's sake: none of the ways through it is left in a
/// register or on the stack when the walks begin.
#[inline(never)]
fn descend(record: Record, body: &mut ExecBody, exe: Option<Inode>, tgid: u32, old_pid: u32) {
    let noted = guard::executed(old_pid);
    network::executes(tgid);
    body.writer = noted.unwrap_or(Writer::ZERO);
    let mut key = InodeKey::ZERO;
    if let Some(inode) = exe {
        key = inode.key().unwrap_or(InodeKey::ZERO);
        let writer = guard::writer(&key, inode);
        if writer.tgid != 0 {
            body.writer = writer;
        }
    }
    body.inode = key.inode;
    body.dev = key.dev;
    let mut tag = guard::tag(tgid);
    if !tag.is_server_lineage() && body.writer.tgid != 0 && tgid != kernel::own_tgid() {
        tag = guard::by_file(tgid, &body.writer);
    }
    body.generation = exe.map_or(0, Inode::generation);
    let tag = guard::execute(tgid, tag, &key, body.generation);
    record.set_tag(tag);
    if noted.is_none() && !tag.is_server_lineage() {
        body.interp_len = AWAIT;
    }
}

/// `security_bprm_check(bprm)` in `search_binary_handler`, fs/exec.c: for each file of a chain of
/// interpreters, the script first. It may be executed, and nothing of it has been read by the handlers
/// that come after. The exec itself shows the last file only.
#[fexit]
pub fn bprm_check(ctx: FExitContext) -> i32 {
    let result: i32 = ctx.arg(1);
    let Some(bprm) = Bprm::new(ctx.arg(0)) else {
        return 0;
    };
    if let (0, Some(inode)) = (result, bprm.file().and_then(File::inode))
        && let Some(key) = inode.key()
    {
        let writer = guard::writer(&key, inode);
        guard::executes(ctx.pid(), !bprm.is_interpreted(), &writer);
    }
    0
}

/// A process without a tag that executes a script has opened a file. The first that may be executed and is
/// no library is its script, or the kernel had not taken it for one; what it is named by is not looked
/// at: a link or a descriptor may be what was executed. Where a server's lineage wrote it, the process
/// has that one's tag from now on, and so it has where such a library comes before. Returns the tag
/// that it has.
#[inline(always)]
pub fn script(caller: &Caller, entry: Tag, fd: u32) -> Tag {
    if let Some(file) = caller.task.file(fd).filter(|file| file.is_regular())
        && let Some(inode) = file.inode()
        && inode.mode() & 0o111 != 0
    {
        let key = inode.key().unwrap_or(InodeKey::ZERO);
        let writer = guard::writer(&key, inode);
        if writer.tgid != 0 {
            return guard::by_file(caller.tgid, &writer);
        }
        let name = file.path().and_then(|path| path.dentry.name());
        if let Some(base) = name.and_then(|name| Record::glance(caller, name, false))
            && base.library == 0
        {
            guard::clear(caller.tgid);
            return Tag::ZERO;
        }
    }
    guard::still_await(caller.tgid, entry);
    Tag::ZERO
}

/// What a descriptor is. A function of its own, so that its stack is its own: that of the hook and that of
/// what it calls have to be at most 512 bytes together (`check_max_stack_depth`, kernel/bpf/verifier.c,
/// which rounds each up to 32).
#[inline(never)]
fn descriptor(task: Task, fd: u32, info: &mut FdInfo) {
    task.describe_fd(fd, info);
}

/// Takes the argument area: all of it, or its head and its end. Clamped to the area, because the
/// stack may end right after it: php-fpm clears its children's environment, and a read past the
/// area's end then faults as a whole.
#[inline(always)]
fn args(record: Record, task: Task, body: &mut ExecBody) -> Option<()> {
    let (start, end) = task.args()?;
    let total = end.checked_sub(start)?;
    body.args_len = total;
    body.args_head_len = record.user_bytes::<ARGS_HEAD_BYTES>(start, total)?;
    let rest = total - body.args_head_len as u64;
    if rest > 0 {
        let tail = if rest > ARGS_TAIL_BYTES as u64 {
            ARGS_TAIL_BYTES as u64
        } else {
            rest
        };
        record.flag_if(tail < rest, flag::ARGS_TRUNCATED);
        body.args_tail_len = record.user_bytes::<ARGS_TAIL_BYTES>(end - tail, tail)?;
    }
    Some(())
}

/// The cgroup's path, leaf first.
#[inline(always)]
fn cgroup(record: Record, task: Task) -> u16 {
    let mut len = 0;
    let mut node = task.cgroup().and_then(|cgroup| cgroup.node());
    for _ in 0..CGROUP_STEPS {
        let Some(this) = node else { break };
        let parent = this.parent();
        if parent.is_none() && len == 0 {
            // The root: it has no parent and an empty name.
            return record.root();
        }
        let (Some(_), Some(name)) = (parent, this.name()) else {
            break;
        };
        let Some(written) = record.name(name) else {
            break;
        };
        len += written;
        if len > CGROUP_BYTES as u16 {
            break;
        }
        node = parent;
    }
    len
}

/// `trace_sched_process_exit(tsk)` in `do_exit`, kernel/exit.c: runs for each thread, after
/// `signal->live` was counted down; the task still has its files and memory on most kernels, which
/// is not relied on.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    if exit(&ctx).is_none() {
        output::dropped(Drop::TaskFault);
    }
    0
}

#[inline(always)]
fn exit(ctx: &RawTracePointContext) -> Option<()> {
    let task = Task::new(ctx.arg(0))?;
    let tgid = ctx.tgid();
    lsm::forget(tgid, ctx.pid());
    let tag = guard::tag(tgid);
    let caller = caller(ctx, task, tag, SLOT_EXIT);
    // A thread that the kernel ended inside a call did not come to the call's end; and its tag may be gone
    // with another thread of the process already.
    guard::end(&caller);
    if !task.is_last_thread() {
        return Some(());
    }
    if guard::entry(tgid) != Tag::ZERO {
        guard::clear(tgid);
    }
    output::send(
        EventKind::Exit,
        &caller,
        ExitBody {
            status: task.exit_status(),
            reserved: 0,
        },
    );
    Some(())
}
