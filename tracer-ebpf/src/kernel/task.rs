//! Tasks: who runs, as whom, where.

use core::mem::size_of;
use core::ptr::read_volatile;

use aya_ebpf::helpers::generated::bpf_get_current_task;
use tracer_common::event::{FdInfo, Ids, Namespaces};

use super::{
    ABSENT, Cgroup, Cred, File, Kernfs, OFFSETS, Path, Task, global_nr, kernel_name, non_null,
    read, read_at,
};

/// The terminal, user and process ids of a task that sit in `signal_struct`.
pub struct Session {
    /// Process group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// Controlling terminal, kernel encoding.
    pub tty: u32,
}

/// A bit of `signal_struct.flags` (include/linux/sched/signal.h).
const SIGNAL_GROUP_EXIT: u32 = 0x4;

/// Index of `PIDTYPE_PGID` and `PIDTYPE_SID` in `signal_struct.pids` (`enum pid_type`,
/// include/linux/pid_types.h; unchanged since 4.19).
const PIDTYPE_PGID: usize = 2;
const PIDTYPE_SID: usize = 3;

impl Task {
    /// The task that runs now.
    #[inline(always)]
    pub fn current() -> Option<Self> {
        // SAFETY: takes no argument.
        Self::new(unsafe { bpf_get_current_task() } as *const u8)
    }

    /// `tgid`
    #[inline(always)]
    pub fn tgid(self) -> Option<u32> {
        member!(self.ptr(), task_tgid)
    }

    /// `pid`: the thread.
    #[inline(always)]
    pub fn tid(self) -> Option<u32> {
        member!(self.ptr(), task_pid)
    }

    /// `group_leader`
    #[inline(always)]
    fn leader(self) -> Option<Self> {
        Self::new(member!(self.ptr(), task_group_leader)?)
    }

    /// When the process (its thread group leader) started: what `/proc/PID/stat` shows
    /// (`do_task_stat`, fs/proc/array.c), so that both name the same process.
    #[inline(always)]
    pub fn start_boot_ns(self) -> u64 {
        let leader = self.leader().unwrap_or(self);
        member!(leader.ptr(), task_start_boottime).unwrap_or(0)
    }

    /// `real_parent`: the kernel's parent, a reaper once the creator is gone.
    #[inline(always)]
    pub fn real_parent(self) -> Option<Self> {
        let leader = self.leader().unwrap_or(self);
        Self::new(member!(leader.ptr(), task_real_parent)?)
    }

    /// What wait(2) tells the parent: the code of what ended the whole group, else the leader's own
    /// (`wait_task_zombie`, kernel/exit.c). On newer kernels the last thread that ends is taken for
    /// what ended the group (`synchronize_group_exit`, same file).
    #[inline(always)]
    pub fn exit_status(self) -> u32 {
        let signal = self.signal();
        let flags: u32 = signal
            .and_then(|signal| member!(signal, signal_flags))
            .unwrap_or(0);
        let code = if flags & SIGNAL_GROUP_EXIT == 0 {
            let leader = self.leader().unwrap_or(self);
            member!(leader.ptr(), task_exit_code)
        } else {
            signal.and_then(|signal| member!(signal, signal_group_exit_code))
        };
        code.unwrap_or(0)
    }

    /// Whether no thread of the process is left. `signal->live` is counted down before
    /// `sched_process_exit` (`do_exit`, kernel/exit.c); two threads that end at once may both see
    /// zero, so a process can be reported ended twice, never not at all.
    #[inline(always)]
    pub fn is_last_thread(self) -> bool {
        let live: Option<u32> = self
            .signal()
            .and_then(|signal| member!(signal, signal_live));
        match live {
            Some(live) => live == 0,
            None => self.tid() == self.tgid(),
        }
    }

    #[inline(always)]
    fn signal(self) -> Option<*const u8> {
        non_null(member!(self.ptr(), task_signal)?)
    }

    #[inline(always)]
    fn mm(self) -> Option<*const u8> {
        non_null(member!(self.ptr(), task_mm)?)
    }

    /// `mm->arg_start`, `mm->arg_end`
    #[inline(always)]
    pub fn args(self) -> Option<(u64, u64)> {
        let mm = self.mm()?;
        Some((member!(mm, mm_arg_start)?, member!(mm, mm_arg_end)?))
    }

    /// `mm->exe_file`
    #[inline(always)]
    pub fn exe(self) -> Option<File> {
        File::new(member!(self.mm()?, mm_exe_file)?)
    }

    /// `fs->pwd`
    #[inline(always)]
    pub fn cwd(self) -> Option<Path> {
        let fs = non_null(member!(self.ptr(), task_fs)?)?;
        Path::at(address!(fs, fs_pwd)?)
    }

    /// `fs->root`
    #[inline(always)]
    pub fn root(self) -> Option<Path> {
        let fs = non_null(member!(self.ptr(), task_fs)?)?;
        Path::at(address!(fs, fs_root)?)
    }

    /// Whether a path that becomes the root of `fs` becomes this task's: not where setns(2) prepares a
    /// root aside, or one of a mount namespace that the task is not in yet.
    #[inline(always)]
    pub fn moves_to(self, fs: *const u8, root: Path) -> bool {
        let own: Option<*const u8> = member!(self.ptr(), task_fs);
        let ns: Option<*const u8> = self.nsproxy().and_then(|proxy| member!(proxy, nsproxy_mnt));
        own == Some(fs) && (root.mount.ns().is_none() || root.mount.ns() == ns)
    }

    /// `comm`, NUL-ended.
    #[inline(always)]
    pub fn comm(self, comm: &mut [u8; 16]) {
        if let Some(name) = address!(self.ptr(), task_comm) {
            kernel_name(name, comm);
        }
    }

    /// Whether it is inside execve(2) (`in_execve`, set by `do_execveat_common` and its kin, fs/exec.c).
    #[inline(always)]
    pub fn is_in_execve(self) -> bool {
        // SAFETY: as in `member!`.
        let bit = unsafe { read_volatile(&raw const OFFSETS.task_in_execve) };
        if bit == ABSENT {
            return false;
        }
        let byte: Option<u8> = read_at(self.ptr(), bit / 8);
        byte.unwrap_or(0) >> (bit % 8) & 1 != 0
    }

    /// The file behind a descriptor (`files_lookup_fd_raw`, include/linux/fdtable.h).
    #[inline(always)]
    pub fn file(self, fd: u32) -> Option<File> {
        let files = non_null(member!(self.ptr(), task_files)?)?;
        let fdt: *const u8 = member!(files, files_fdt)?;
        let max: u32 = member!(fdt, fdt_max_fds)?;
        if fd >= max {
            return None;
        }
        let table: *const u8 = member!(fdt, fdt_fd)?;
        File::new(read(
            table.wrapping_add(fd as usize * size_of::<*const u8>()),
        )?)
    }

    /// Writes what a descriptor is.
    #[inline(always)]
    pub fn describe_fd(self, fd: u32, info: &mut FdInfo) {
        *info = FdInfo::ZERO;
        if let Some(file) = self.file(fd) {
            file.describe(info);
        }
    }

    /// `cred`: what it acts as.
    #[inline(always)]
    pub fn cred(self) -> Option<Cred> {
        Cred::new(member!(self.ptr(), task_cred)?)
    }

    /// Whether it acts with other credentials than its own for the moment, as the kernel has it do for
    /// work of its own (`override_creds`, kernel/cred.c).
    #[inline(always)]
    pub fn acts_for_another(self) -> bool {
        let (own, now): (Option<u64>, Option<u64>) = (
            member!(self.ptr(), task_real_cred),
            member!(self.ptr(), task_cred),
        );
        own.is_some() && own != now
    }

    /// Writes users and groups.
    #[inline(always)]
    pub fn ids(self, ids: &mut Ids) {
        match self.cred() {
            Some(cred) => cred.ids(ids),
            None => *ids = Ids::ZERO,
        }
    }

    /// Effective and permitted capabilities.
    #[inline(always)]
    pub fn capabilities(self) -> (u64, u64) {
        self.cred().map_or((0, 0), Cred::capabilities)
    }

    /// Login user and audit session; `u32::MAX` where unset or not built in.
    #[inline(always)]
    pub fn audit(self) -> (u32, u32) {
        (
            member!(self.ptr(), task_loginuid).unwrap_or(u32::MAX),
            member!(self.ptr(), task_sessionid).unwrap_or(u32::MAX),
        )
    }

    /// Where the mount namespace is.
    #[inline(always)]
    pub fn mnt_namespace(self) -> u64 {
        self.nsproxy()
            .and_then(|proxy| member!(proxy, nsproxy_mnt))
            .unwrap_or(0)
    }

    /// Inode number of the mount namespace.
    #[inline(always)]
    pub fn mnt_ns(self) -> u32 {
        let ns: Option<*const u8> = self
            .nsproxy()
            .and_then(|proxy| member!(proxy, nsproxy_mnt))
            .and_then(non_null);
        ns.and_then(|ns| member!(ns, mnt_ns_inum)).unwrap_or(0)
    }

    /// Inode number of the network namespace.
    #[inline(always)]
    pub fn net_ns(self) -> u32 {
        let ns: Option<*const u8> = self
            .nsproxy()
            .and_then(|proxy| member!(proxy, nsproxy_net))
            .and_then(non_null);
        ns.and_then(|ns| member!(ns, net_ns_inum)).unwrap_or(0)
    }

    #[inline(always)]
    fn nsproxy(self) -> Option<*const u8> {
        non_null(member!(self.ptr(), task_nsproxy)?)
    }

    /// The process's number and the inode number of its own pid namespace.
    #[inline(always)]
    pub fn pid_in_namespace(self) -> Option<(u32, u32)> {
        let upid = self.upid()?;
        let ns: *const u8 = member!(upid, upid_ns)?;
        Some((
            member!(upid, upid_nr)?,
            member!(ns, pid_ns_inum).unwrap_or(0),
        ))
    }

    /// Its number in its own pid namespace, as the kernel keeps it (`task_active_pid_ns`,
    /// kernel/pid.c): `struct upid`.
    #[inline(always)]
    pub(super) fn upid(self) -> Option<*const u8> {
        let leader = self.leader().unwrap_or(self);
        let pid = non_null(member!(leader.ptr(), task_thread_pid)?)?;
        let level: u32 = member!(pid, pid_level)?;
        // SAFETY: as in `member!`.
        let size = unsafe { read_volatile(&raw const OFFSETS.upid_size) };
        // MAX_PID_NS_LEVEL is 32 (include/linux/pid_namespace.h).
        if size == ABSENT || level > 32 {
            return None;
        }
        Some(address!(pid, pid_numbers)?.wrapping_add(level as usize * size as usize))
    }

    /// Writes the namespaces.
    #[inline(always)]
    pub fn namespaces(self, ns: &mut Namespaces) {
        *ns = Namespaces::ZERO;
        ns.mnt = self.mnt_ns();
        ns.net = self.net_ns();
        if let Some((vpid, pid)) = self.pid_in_namespace() {
            ns.vpid = vpid;
            ns.pid = pid;
        }
        if let Some(proxy) = self.nsproxy() {
            let uts: Option<*const u8> = member!(proxy, nsproxy_uts);
            ns.uts = uts
                .and_then(non_null)
                .and_then(|uts| member!(uts, uts_ns_inum))
                .unwrap_or(0);
            let ipc: Option<*const u8> = member!(proxy, nsproxy_ipc);
            ns.ipc = ipc
                .and_then(non_null)
                .and_then(|ipc| member!(ipc, ipc_ns_inum))
                .unwrap_or(0);
            let cgroup: Option<*const u8> = member!(proxy, nsproxy_cgroup);
            ns.cgroup = cgroup
                .and_then(non_null)
                .and_then(|c| member!(c, cgroup_ns_inum))
                .unwrap_or(0);
        }
        ns.user = self.cred().map_or(0, Cred::user_ns);
    }

    /// Process group, session, terminal.
    #[inline(always)]
    pub fn session(self) -> Session {
        let mut session = Session {
            pgid: 0,
            sid: 0,
            tty: 0,
        };
        let Some(signal) = self.signal() else {
            return session;
        };
        if let Some(pids) = address!(signal, signal_pids) {
            let slot = size_of::<*const u8>();
            let pgid: Option<*const u8> = read(pids.wrapping_add(PIDTYPE_PGID * slot));
            session.pgid = pgid.and_then(non_null).and_then(global_nr).unwrap_or(0);
            let sid: Option<*const u8> = read(pids.wrapping_add(PIDTYPE_SID * slot));
            session.sid = sid.and_then(non_null).and_then(global_nr).unwrap_or(0);
        }
        let tty: Option<*const u8> = member!(signal, signal_tty);
        if let Some(tty) = tty.and_then(non_null) {
            session.tty = tty_device(tty).unwrap_or(0);
        }
        session
    }

    /// The word of the task that says how it called the kernel.
    #[inline(always)]
    pub fn compat_word(self) -> u32 {
        read_at(self.ptr(), control!(compat_offset)).unwrap_or(0)
    }

    /// The cgroup whose path names the container: the v2 one, unless the memory controller (or
    /// pids, where memory is not built in) sits in a v1 hierarchy, where container runtimes make
    /// their groups then.
    #[inline(always)]
    pub fn cgroup(self) -> Option<Cgroup> {
        let css_set = non_null(member!(self.ptr(), task_cgroups)?)?;
        let v2 = Cgroup::new(member!(css_set, css_set_dfl_cgrp)?)?;
        let Some(v1) = controller_cgroup(css_set) else {
            return Some(v2);
        };
        let (v1_root, v2_root): (Option<u64>, Option<u64>) = (
            member!(v1.ptr(), cgroup_root),
            member!(v2.ptr(), cgroup_root),
        );
        if v1_root != v2_root && v1.node().and_then(Kernfs::parent).is_some() {
            Some(v1)
        } else {
            Some(v2)
        }
    }
}

impl Cred {
    /// Writes users and groups.
    #[inline(always)]
    pub fn ids(self, ids: &mut Ids) {
        ids.uid = member!(self.ptr(), cred_uid).unwrap_or(u32::MAX);
        ids.euid = member!(self.ptr(), cred_euid).unwrap_or(u32::MAX);
        ids.suid = member!(self.ptr(), cred_suid).unwrap_or(u32::MAX);
        ids.gid = member!(self.ptr(), cred_gid).unwrap_or(u32::MAX);
        ids.egid = member!(self.ptr(), cred_egid).unwrap_or(u32::MAX);
        ids.sgid = member!(self.ptr(), cred_sgid).unwrap_or(u32::MAX);
    }

    /// Effective and permitted capabilities.
    #[inline(always)]
    pub fn capabilities(self) -> (u64, u64) {
        (
            member!(self.ptr(), cred_cap_effective).unwrap_or(0),
            member!(self.ptr(), cred_cap_permitted).unwrap_or(0),
        )
    }

    /// Inode number of the user namespace.
    #[inline(always)]
    pub fn user_ns(self) -> u32 {
        let user: Option<*const u8> = member!(self.ptr(), cred_user_ns);
        user.and_then(non_null)
            .and_then(|user| member!(user, user_ns_inum))
            .unwrap_or(0)
    }
}

/// `tty_devnum`, drivers/tty/tty_io.c: `MKDEV(driver->major, driver->minor_start) + index`.
#[inline(always)]
fn tty_device(tty: *const u8) -> Option<u32> {
    let driver = non_null(member!(tty, tty_driver)?)?;
    let major: u32 = member!(driver, tty_driver_major)?;
    let minor: u32 = member!(driver, tty_driver_minor_start)?;
    let index: u32 = member!(tty, tty_index)?;
    Some((major << 20 | minor).wrapping_add(index))
}

/// `css_set->subsys[memory or pids]->cgroup`
#[inline(always)]
fn controller_cgroup(css_set: *const u8) -> Option<Cgroup> {
    // SAFETY: as in `member!`.
    let memory = unsafe { read_volatile(&raw const OFFSETS.memory_cgrp_id) };
    // SAFETY: as in `member!`.
    let pids = unsafe { read_volatile(&raw const OFFSETS.pids_cgrp_id) };
    let index = if memory == ABSENT { pids } else { memory };
    if index == ABSENT {
        return None;
    }
    let table = address!(css_set, css_set_subsys)?;
    let css = read(table.wrapping_add(index as usize * size_of::<*const u8>()))?;
    Cgroup::new(member!(non_null(css)?, css_cgroup)?)
}

impl Cgroup {
    /// `kn`: its directory.
    #[inline(always)]
    pub fn node(self) -> Option<Kernfs> {
        Kernfs::new(member!(self.ptr(), cgroup_kn)?)
    }
}

impl Kernfs {
    /// `parent`; `None` at the root.
    #[inline(always)]
    pub fn parent(self) -> Option<Self> {
        Self::new(member!(self.ptr(), kernfs_parent)?)
    }

    /// `name`
    #[inline(always)]
    pub fn name(self) -> Option<*const u8> {
        non_null(member!(self.ptr(), kernfs_name)?)
    }
}
