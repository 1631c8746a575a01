//! Typed pointers into kernel structures: every kernel read is a method here.
//!
//! Offsets come from user space ([`KernelOffsets`]), resolved from the running kernel's BTF. A
//! member that this kernel lacks reads as `None`, and the verifier prunes the read.

use core::mem::size_of;
use core::ptr::{NonNull, read_volatile};

use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_probe_read_kernel, bpf_probe_read_user,
};
use tracer_common::control::{ABSENT, Control};
use tracer_common::event::{FdInfo, Ids, Namespaces, fd_kind};
use tracer_common::offsets::KernelOffsets;
use tracer_common::tag::InodeKey;

/// Set by user space before load, frozen then.
#[unsafe(no_mangle)]
static OFFSETS: KernelOffsets = KernelOffsets::ABSENT;

/// Set by user space before load, frozen then.
#[unsafe(no_mangle)]
pub static CONTROL: Control = Control::ZERO;

/// A setting of [`Control`], as the verifier will know it.
macro_rules! control {
    ($($field:tt)+) => {{
        // SAFETY: reads a field of a live static; volatile, because user space sets it after
        // compilation.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::CONTROL.$($field)+) }
    }};
}
pub(crate) use control;

/// The agent's own thread group.
#[inline(always)]
pub fn own_tgid() -> u32 {
    control!(own_tgid)
}

/// Reads the member that lies at an offset of the table.
macro_rules! member {
    ($base:expr, $offset:ident) => {{
        // SAFETY: reads a field of a live static; volatile, because user space sets it after
        // compilation.
        let offset = unsafe { read_volatile(&raw const OFFSETS.$offset) };
        read_at($base, offset)
    }};
}

/// The address of a member, for members that are embedded structures.
macro_rules! address {
    ($base:expr, $offset:ident) => {{
        // SAFETY: as in `member!`.
        let offset = unsafe { read_volatile(&raw const OFFSETS.$offset) };
        if offset == ABSENT || $base.is_null() {
            None
        } else {
            Some($base.wrapping_add(offset as usize))
        }
    }};
}

#[inline(always)]
fn read_at<T: Copy>(base: *const u8, offset: u32) -> Option<T> {
    if offset == ABSENT {
        None
    } else {
        read(base.wrapping_add(offset as usize))
    }
}

/// Reads a kernel value; `None` where the address is not mapped.
#[inline(always)]
fn read<T: Copy>(at: *const u8) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the destination is `size_of::<T>()` bytes of our stack; the helper checks the source
    // and fills all of the destination or fails.
    let failed = unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, at.cast())
    };
    if failed == 0 {
        // SAFETY: the helper filled it; `T` is an integer, an array of them or a pointer here.
        Some(unsafe { value.assume_init() })
    } else {
        None
    }
}

/// Reads a byte of the current process; `None` where its page is not there.
#[inline(always)]
pub fn user_byte(at: *const u8) -> Option<u8> {
    let mut byte = 0_u8;
    // SAFETY: the destination is one byte of our stack; the helper checks the source.
    let failed = unsafe { bpf_probe_read_user((&raw mut byte).cast(), 1, at.cast()) };
    if failed == 0 { Some(byte) } else { None }
}

#[inline(always)]
fn non_null(pointer: *const u8) -> Option<*const u8> {
    if pointer.is_null() {
        None
    } else {
        Some(pointer)
    }
}

macro_rules! pointers {
    ($( $(#[$doc:meta])* $name:ident; )+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[repr(transparent)]
        pub struct $name(NonNull<u8>);

        impl $name {
            /// From an address that the kernel gave; `None` for null.
            #[inline(always)]
            pub fn new(address: *const u8) -> Option<Self> {
                NonNull::new(address.cast_mut()).map(Self)
            }

            #[inline(always)]
            fn ptr(self) -> *const u8 {
                self.0.as_ptr()
            }
        }
    )+};
}

pointers! {
    /// `struct task_struct`
    Task;
    /// `struct linux_binprm`
    Bprm;
    /// `struct file`
    File;
    /// `struct inode`
    Inode;
    /// `struct dentry`
    Dentry;
    /// `struct mount`, around the `struct vfsmount` that paths point to
    Mount;
    /// `struct cgroup`
    Cgroup;
    /// `struct kernfs_node`
    Kernfs;
    /// `struct sock`
    Sock;
}

/// Where a name is: `struct path`.
#[derive(Clone, Copy)]
pub struct Path {
    /// `path.dentry`
    pub dentry: Dentry,
    /// The mount around `path.mnt`
    pub mount: Mount,
}

impl Path {
    #[inline(always)]
    fn at(path: *const u8) -> Option<Self> {
        let dentry = Dentry::new(member!(path, path_dentry)?)?;
        let mount = Mount::around(member!(path, path_mnt)?)?;
        Some(Self { dentry, mount })
    }
}

impl Dentry {
    /// `d_parent`: itself at a root.
    #[inline(always)]
    pub fn parent(self) -> Option<Self> {
        Self::new(member!(self.ptr(), dentry_parent)?)
    }

    /// `d_name.name`
    #[inline(always)]
    pub fn name(self) -> Option<*const u8> {
        non_null(member!(address!(self.ptr(), dentry_name)?, qstr_name)?)
    }
}

impl Mount {
    /// `real_mount()`, fs/mount.h.
    #[inline(always)]
    fn around(vfsmount: *const u8) -> Option<Self> {
        // SAFETY: as in `member!`.
        let offset = unsafe { read_volatile(&raw const OFFSETS.mount_mnt) };
        if vfsmount.is_null() || offset == ABSENT {
            return None;
        }
        Self::new(vfsmount.wrapping_sub(offset as usize))
    }

    /// `mnt.mnt_root`
    #[inline(always)]
    pub fn root(self) -> Option<Dentry> {
        Dentry::new(member!(address!(self.ptr(), mount_mnt)?, vfsmount_root)?)
    }

    /// `mnt_parent`: itself at the root of a mount namespace.
    #[inline(always)]
    pub fn parent(self) -> Option<Self> {
        Self::new(member!(self.ptr(), mount_parent)?)
    }

    /// `mnt_mountpoint`
    #[inline(always)]
    pub fn mountpoint(self) -> Option<Dentry> {
        Dentry::new(member!(self.ptr(), mount_mountpoint)?)
    }
}

impl Inode {
    /// `i_ino` and the device of its super block.
    #[inline(always)]
    pub fn key(self) -> Option<InodeKey> {
        let sb: *const u8 = member!(self.ptr(), inode_sb)?;
        Some(InodeKey {
            inode: member!(self.ptr(), inode_ino)?,
            dev: member!(sb, sb_dev)?,
            reserved: 0,
        })
    }

    /// `i_mode`
    #[inline(always)]
    pub fn mode(self) -> u16 {
        member!(self.ptr(), inode_mode).unwrap_or(0)
    }

    /// `i_nlink`; 1 where it cannot be read, as zero has a meaning.
    #[inline(always)]
    pub fn nlink(self) -> u32 {
        member!(self.ptr(), inode_nlink).unwrap_or(1)
    }

    /// `i_uid`
    #[inline(always)]
    pub fn uid(self) -> u32 {
        member!(self.ptr(), inode_uid).unwrap_or(u32::MAX)
    }

    /// `i_gid`
    #[inline(always)]
    pub fn gid(self) -> u32 {
        member!(self.ptr(), inode_gid).unwrap_or(u32::MAX)
    }

    /// `i_size`
    #[inline(always)]
    pub fn size(self) -> u64 {
        member!(self.ptr(), inode_size).unwrap_or(0)
    }

    #[inline(always)]
    fn rdev(self) -> u32 {
        member!(self.ptr(), inode_rdev).unwrap_or(0)
    }
}

/// `S_IFMT` and the types of `i_mode` (include/uapi/linux/stat.h).
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const S_IFREG: u16 = 0o100_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFIFO: u16 = 0o010_000;

impl File {
    /// `f_path`
    #[inline(always)]
    pub fn path(self) -> Option<Path> {
        Path::at(address!(self.ptr(), file_path)?)
    }

    /// `f_inode`
    #[inline(always)]
    pub fn inode(self) -> Option<Inode> {
        Inode::new(member!(self.ptr(), file_inode)?)
    }

    /// `f_mode`
    #[inline(always)]
    pub fn mode(self) -> u32 {
        member!(self.ptr(), file_mode).unwrap_or(0)
    }

    /// `f_flags`
    #[inline(always)]
    pub fn flags(self) -> u32 {
        member!(self.ptr(), file_flags).unwrap_or(0)
    }

    /// Whether it is a regular file.
    #[inline(always)]
    pub fn is_regular(self) -> bool {
        match self.inode() {
            Some(inode) => inode.mode() & S_IFMT == S_IFREG,
            None => false,
        }
    }

    /// Writes what the descriptor is into `info`, which must be zero.
    #[inline(always)]
    fn describe(self, info: &mut FdInfo) {
        let Some(inode) = self.inode() else { return };
        info.inode = member!(inode.ptr(), inode_ino).unwrap_or(0);
        match inode.mode() & S_IFMT {
            S_IFREG => info.kind = fd_kind::FILE,
            S_IFIFO => info.kind = fd_kind::PIPE,
            S_IFCHR => {
                info.rdev = inode.rdev();
                info.kind = match (info.rdev >> 20, info.rdev & 0xf_ffff) {
                    (1, 3) => fd_kind::NULL,
                    // Documentation/admin-guide/devices.txt: 4 tty and ttyS, 5 tty and console,
                    // 136 to 143 pts.
                    (4 | 5 | 136..=143, _) => fd_kind::TTY,
                    _ => fd_kind::OTHER,
                };
            }
            S_IFSOCK => {
                info.kind = fd_kind::SOCKET;
                let socket: Option<*const u8> = member!(self.ptr(), file_private_data);
                if let Some(sock) = socket
                    .and_then(non_null)
                    .and_then(|socket| member!(socket, socket_sk))
                    .and_then(Sock::new)
                {
                    sock.describe(info);
                }
            }
            _ => info.kind = fd_kind::OTHER,
        }
    }
}

/// `AF_UNIX`
const AF_UNIX: u16 = 1;
/// `AF_INET`
const AF_INET: u16 = 2;
/// `AF_INET6`
const AF_INET6: u16 = 10;

impl Sock {
    /// `skc_family`
    #[inline(always)]
    pub fn family(self) -> u16 {
        member!(self.ptr(), sk_family).unwrap_or(0)
    }

    /// `skc_num`: host order.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        member!(self.ptr(), sk_lport).unwrap_or(0)
    }

    /// Local address; IPv4 in the first four bytes.
    #[inline(always)]
    pub fn local_addr(self) -> [u8; 16] {
        let v4 = member!(self.ptr(), sk_laddr4);
        let v6 = member!(self.ptr(), sk_laddr6);
        self.address(v4, v6)
    }

    #[inline(always)]
    fn remote_addr(self) -> [u8; 16] {
        let v4 = member!(self.ptr(), sk_raddr4);
        let v6 = member!(self.ptr(), sk_raddr6);
        self.address(v4, v6)
    }

    #[inline(always)]
    fn address(self, v4: Option<[u8; 4]>, v6: Option<[u8; 16]>) -> [u8; 16] {
        let mut address = [0; 16];
        match self.family() {
            AF_INET => {
                if let Some([a, b, c, d]) = v4 {
                    address = [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                }
            }
            AF_INET6 => {
                if let Some(v6) = v6 {
                    address = v6;
                }
            }
            _ => {}
        }
        address
    }

    #[inline(always)]
    fn describe(self, info: &mut FdInfo) {
        info.family = self.family();
        info.state = member!(self.ptr(), sk_state).unwrap_or(0);
        match info.family {
            AF_INET | AF_INET6 => {
                info.local_port = self.local_port();
                info.remote_port = u16::from_be(member!(self.ptr(), sk_rport).unwrap_or(0));
                info.local_addr = self.local_addr();
                info.remote_addr = self.remote_addr();
            }
            AF_UNIX => {
                let peer: Option<*const u8> = member!(self.ptr(), sk_peer_pid);
                info.peer_tgid = peer.and_then(non_null).and_then(global_nr).unwrap_or(0);
            }
            _ => {}
        }
    }
}

/// `pid_nr()`: the number of a `struct pid` in the initial namespace.
#[inline(always)]
fn global_nr(pid: *const u8) -> Option<u32> {
    member!(address!(pid, pid_numbers)?, upid_nr)
}

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

    #[inline(always)]
    fn cred(self) -> Option<*const u8> {
        non_null(member!(self.ptr(), task_cred)?)
    }

    /// Writes users and groups.
    #[inline(always)]
    pub fn ids(self, ids: &mut Ids) {
        let Some(cred) = self.cred() else {
            *ids = Ids::ZERO;
            return;
        };
        ids.uid = member!(cred, cred_uid).unwrap_or(u32::MAX);
        ids.euid = member!(cred, cred_euid).unwrap_or(u32::MAX);
        ids.suid = member!(cred, cred_suid).unwrap_or(u32::MAX);
        ids.gid = member!(cred, cred_gid).unwrap_or(u32::MAX);
        ids.egid = member!(cred, cred_egid).unwrap_or(u32::MAX);
        ids.sgid = member!(cred, cred_sgid).unwrap_or(u32::MAX);
    }

    /// Effective and permitted capabilities.
    #[inline(always)]
    pub fn capabilities(self) -> (u64, u64) {
        let Some(cred) = self.cred() else {
            return (0, 0);
        };
        (
            member!(cred, cred_cap_effective).unwrap_or(0),
            member!(cred, cred_cap_permitted).unwrap_or(0),
        )
    }

    /// Login user and audit session; `u32::MAX` where unset or not built in.
    #[inline(always)]
    pub fn audit(self) -> (u32, u32) {
        (
            member!(self.ptr(), task_loginuid).unwrap_or(u32::MAX),
            member!(self.ptr(), task_sessionid).unwrap_or(u32::MAX),
        )
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

    /// The process's number and the inode number of its own pid namespace
    /// (`task_active_pid_ns`, kernel/pid.c).
    #[inline(always)]
    pub fn pid_in_namespace(self) -> Option<(u32, u32)> {
        let leader = self.leader().unwrap_or(self);
        let pid = non_null(member!(leader.ptr(), task_thread_pid)?)?;
        let level: u32 = member!(pid, pid_level)?;
        // SAFETY: as in `member!`.
        let size = unsafe { read_volatile(&raw const OFFSETS.upid_size) };
        // MAX_PID_NS_LEVEL is 32 (include/linux/pid_namespace.h).
        if size == ABSENT || level > 32 {
            return None;
        }
        let upid = address!(pid, pid_numbers)?.wrapping_add(level as usize * size as usize);
        let ns: *const u8 = member!(upid, upid_ns)?;
        Some((
            member!(upid, upid_nr)?,
            member!(ns, pid_ns_inum).unwrap_or(0),
        ))
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
        let user: Option<*const u8> = self.cred().and_then(|cred| member!(cred, cred_user_ns));
        ns.user = user
            .and_then(non_null)
            .and_then(|user| member!(user, user_ns_inum))
            .unwrap_or(0);
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

impl Bprm {
    /// `filename`: what execve was given, in kernel memory. The script, where there is one.
    #[inline(always)]
    pub fn filename(self) -> *const u8 {
        member!(self.ptr(), bprm_filename).unwrap_or(core::ptr::null())
    }

    /// `interp`: what runs it.
    #[inline(always)]
    pub fn interp(self) -> *const u8 {
        member!(self.ptr(), bprm_interp).unwrap_or(core::ptr::null())
    }
}

/// The registers a system call came with: `struct pt_regs`.
#[derive(Clone, Copy)]
pub struct Registers(*const u8);

impl Registers {
    /// From the address the tracepoint gave.
    #[inline(always)]
    pub fn new(address: *const u8) -> Self {
        Self(address)
    }

    /// The number of the call, without the x32 bit; `None` where it was none.
    #[inline(always)]
    pub fn number(self) -> Option<u32> {
        let number: u32 = read_at(self.0, control!(nr_offset))?;
        let number = number & !control!(x32_mask);
        if number > i32::MAX as u32 {
            None
        } else {
            Some(number)
        }
    }

    /// The register at an offset of the convention table.
    #[inline(always)]
    pub fn at(self, offset: u32) -> u64 {
        read_at(self.0, offset).unwrap_or(0)
    }
}
