//! The probes: where each program attaches and which tier it belongs to.

/// Which family of hooks produced a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Tier {
    /// Raw and BTF tracepoints: every kernel with BTF.
    Tracepoint = 1,
    /// LSM, fentry and fexit: kernels where BPF trampolines work.
    Lsm = 2,
    /// Read from `/proc` by the agent, not seen by a hook.
    Snapshot = 3,
}

impl Tier {
    /// The tier with this wire number.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::Tracepoint),
            2 => Some(Self::Lsm),
            3 => Some(Self::Snapshot),
            _ => None,
        }
    }

    /// The tier's word in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tracepoint => "tracepoint",
            Self::Lsm => "lsm",
            Self::Snapshot => "snapshot",
        }
    }
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// To a raw tracepoint.
    RawTracepoint,
    /// To the begin of a kernel function, by a trampoline.
    Fentry,
    /// To its end.
    Fexit,
}

/// One program of the object file.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Name of the program in the object.
    pub name: &'static str,
    /// How it is attached.
    pub attach: Attach,
    /// Where: tracepoints or functions, newest name first; the first that the kernel has is taken.
    pub hooks: &'static [&'static str],
    /// The tier it belongs to; `None` for the programs of every tier.
    pub tier: Option<Tier>,
    /// Number of the program among those of its tier and of every tier. Below [`SCRATCHES`] it is
    /// the index of its scratch space too; programs whose records are of fixed size need none.
    pub slot: u32,
    /// Whether there can be a sensor without it.
    pub need: Need,
    /// What is not seen where the probe is missing.
    pub lost: &'static str,
    /// The word of its losses, where the kernel leaves it out.
    pub missed: &'static str,
}

/// Whether there can be a sensor without a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Without it its tier is not used; of a program of every tier, the agent is of no use.
    Required,
    /// Something is not seen without it.
    Optional,
    /// The same; but a kernel that does not have its hook has nothing to be seen there, or shows it to
    /// another probe.
    WherePresent,
}

impl Need {
    /// The word of it in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Optional => "optional",
            Self::WherePresent => "where present",
        }
    }
}

impl Probe {
    /// The word of its tier in output; `every` for a program of every tier.
    #[must_use]
    pub const fn tier_name(&self) -> &'static str {
        match self.tier {
            Some(tier) => tier.name(),
            None => "every",
        }
    }
}

/// Scratch spaces: one a program that builds records of variable length, so that a program
/// interrupted by another on the same CPU keeps its record.
pub const SCRATCHES: u32 = 24;

/// Highest slot, and one.
pub const SLOTS: u32 = 64;

macro_rules! probes {
    ($( $const:ident = $slot:literal, $name:literal, $tier:tt, $attach:ident [$($hook:literal)|+], $need:ident,
        $lost:literal, $missed:literal; )+) => {
        $( #[doc = concat!("Slot of `", $name, "`.")] pub const $const: u32 = $slot; )+

        /// Every probe. Attached in this order: exits first, so that no tag outlives its process.
        pub const PROBES: &[Probe] = &[ $( Probe {
            name: $name,
            attach: Attach::$attach,
            hooks: &[ $($hook),+ ],
            tier: probes!(@tier $tier),
            slot: $slot,
            need: probes!(@need $need),
            lost: $lost,
            missed: $missed,
        }, )+ ];
    };
    (@tier every) => { None };
    (@tier tracepoint) => { Some(Tier::Tracepoint) };
    (@tier lsm) => { Some(Tier::Lsm) };
    (@need required) => { Need::Required };
    (@need optional) => { Need::Optional };
    (@need present) => { Need::WherePresent };
}

probes! {
    SLOT_EXIT = 32, "sched_process_exit", every, RawTracepoint ["sched_process_exit"], required,
        "process ends; the process store could not be kept bounded", "exit_missed";
    SLOT_FORK = 33, "sched_process_fork", every, RawTracepoint ["sched_process_fork"], required,
        "process creation and with it all lineage", "fork_missed";
    SLOT_EXEC = 0, "sched_process_exec", every, RawTracepoint ["sched_process_exec"], required,
        "programs run by servers: shells, interpreters", "exec_missed";
    SLOT_LISTEN = 34, "inet_sock_set_state", every, RawTracepoint ["inet_sock_set_state"], optional,
        "servers known only by listening (node, java -jar, python)", "listen_missed";
    SLOT_COMM = 35, "task_rename", every, RawTracepoint ["task_rename"], optional,
        "processes that give themselves another name", "task_rename_missed";

    SLOT_SYS_EXIT = 1, "sys_exit", tracepoint, RawTracepoint ["sys_exit"], required,
        "files written, created or renamed by servers, and their connections", "sys_exit_missed";
    SLOT_SYS_ENTER = 2, "sys_enter", tracepoint, RawTracepoint ["sys_enter"], optional,
        "names that another thread rewrote during a call", "sys_enter_missed";
    SLOT_URING_SUBMIT = 3, "io_uring_submit", tracepoint,
        RawTracepoint ["io_uring_submit_req" | "io_uring_submit_sqe"], optional,
        "files renamed, linked or removed through io_uring", "io_uring_submit_missed";
    SLOT_URING_COMPLETE = 4, "io_uring_complete", tracepoint, RawTracepoint ["io_uring_complete"], optional,
        "files opened through io_uring", "io_uring_complete_missed";
    SLOT_URING_OVERFLOW = 5, "io_uring_overflow", tracepoint, RawTracepoint ["io_uring_cqe_overflow"], present,
        "files opened through a full io_uring (before Linux 5.17 io_uring_complete sees them)",
        "io_uring_overflow_missed";

    SLOT_FILE_OPEN = 1, "file_open", lsm, Fexit ["security_file_open"], required,
        "files opened for writing or created by servers", "file_open_missed";
    SLOT_FILE_RECEIVE = 2, "file_receive", lsm, Fexit ["security_file_receive"], optional,
        "descriptors received over sockets", "file_receive_missed";
    SLOT_MMAP_FILE = 3, "mmap_file", lsm, Fexit ["security_mmap_file"], optional,
        "files mapped for writing or execution", "mmap_file_missed";
    SLOT_PATH_RENAME = 40, "path_rename", lsm, Fentry ["security_path_rename"], required,
        "files renamed by servers", "path_rename_missed";
    SLOT_VFS_RENAME = 4, "vfs_rename", lsm, Fexit ["vfs_rename"], required,
        "files renamed by servers", "vfs_rename_missed";
    SLOT_PATH_LINK = 41, "path_link", lsm, Fentry ["security_path_link"], optional,
        "hard links", "path_link_missed";
    SLOT_VFS_LINK = 5, "vfs_link", lsm, Fexit ["vfs_link"], optional,
        "hard links", "vfs_link_missed";
    SLOT_PATH_UNLINK = 42, "path_unlink", lsm, Fentry ["security_path_unlink"], optional,
        "removed names", "path_unlink_missed";
    SLOT_VFS_UNLINK = 6, "vfs_unlink", lsm, Fexit ["vfs_unlink"], optional,
        "removed names", "vfs_unlink_missed";
    SLOT_PATH_RMDIR = 43, "path_rmdir", lsm, Fentry ["security_path_rmdir"], optional,
        "removed directories", "path_rmdir_missed";
    SLOT_D_DELETE = 7, "d_delete", lsm, Fentry ["d_delete"], optional,
        "removed directories", "d_delete_missed";
    SLOT_PATH_MKDIR = 44, "path_mkdir", lsm, Fentry ["security_path_mkdir"], optional,
        "new directories", "path_mkdir_missed";
    SLOT_VFS_MKDIR = 8, "vfs_mkdir", lsm, Fexit ["vfs_mkdir"], optional,
        "new directories", "vfs_mkdir_missed";
    SLOT_PATH_MKNOD = 45, "path_mknod", lsm, Fentry ["security_path_mknod"], optional,
        "special files", "path_mknod_missed";
    SLOT_VFS_MKNOD = 9, "vfs_mknod", lsm, Fexit ["vfs_mknod"], optional,
        "special files", "vfs_mknod_missed";
    SLOT_VFS_CREATE = 23, "vfs_create", lsm, Fexit ["vfs_create"], optional,
        "regular files made by mknod(2)", "vfs_create_missed";
    SLOT_PATH_SYMLINK = 46, "path_symlink", lsm, Fentry ["security_path_symlink"], optional,
        "symbolic links", "path_symlink_missed";
    SLOT_VFS_SYMLINK = 10, "vfs_symlink", lsm, Fexit ["vfs_symlink"], optional,
        "symbolic links", "vfs_symlink_missed";
    SLOT_PATH_CHMOD = 47, "path_chmod", lsm, Fentry ["security_path_chmod"], optional,
        "changed modes", "path_chmod_missed";
    SLOT_PATH_CHOWN = 48, "path_chown", lsm, Fentry ["security_path_chown" | "chown_common"], optional,
        "changed owners", "path_chown_missed";
    SLOT_PATH_TRUNCATE = 49, "path_truncate", lsm, Fentry ["security_path_truncate"], optional,
        "files cut by name", "path_truncate_missed";
    SLOT_FILE_TRUNCATE = 50, "file_truncate", lsm, Fentry ["security_file_truncate"], present,
        "files cut by descriptor (before Linux 6.2 path_truncate sees them)", "file_truncate_missed";
    SLOT_NOTIFY_CHANGE = 11, "notify_change", lsm, Fexit ["notify_change"], optional,
        "changed modes and owners, files cut", "notify_change_missed";
    SLOT_SETXATTR = 12, "inode_post_setxattr", lsm, Fexit ["security_inode_post_setxattr"], optional,
        "extended attributes, file capabilities among them", "setxattr_missed";
    SLOT_PATH_MOUNT = 13, "path_mount", lsm, Fexit ["path_mount"], optional,
        "mounts", "path_mount_missed";
    SLOT_MOVE_MOUNT = 14, "move_mount", lsm, Fexit ["security_move_mount"], optional,
        "mounts by move_mount(2)", "move_mount_missed";
    SLOT_SET_FS_ROOT = 15, "set_fs_root", lsm, Fexit ["set_fs_root"], optional,
        "changed root directories", "set_fs_root_missed";
    SLOT_PIVOT_ROOT = 16, "sb_pivotroot", lsm, Fexit ["security_sb_pivotroot"], optional,
        "pivot_root(2)", "pivot_root_missed";
    SLOT_NAMESPACES = 17, "switch_task_namespaces", lsm, Fexit ["switch_task_namespaces"], optional,
        "changed namespaces", "namespaces_missed";
    SLOT_COMMIT_CREDS = 51, "commit_creds", lsm, Fentry ["commit_creds"], optional,
        "changed users, groups and capabilities", "commit_creds_missed";
    SLOT_PTRACE = 22, "ptrace_access_check", lsm, Fexit ["security_ptrace_access_check"], optional,
        "processes that servers reach into", "ptrace_missed";
    SLOT_FD_INSTALL = 53, "fd_install", lsm, Fexit ["fd_install"], optional,
        "sockets that become standard input or output", "fd_install_missed";
    SLOT_DUP2 = 54, "dup2", lsm, Fexit ["__x64_sys_dup2"], present,
        "sockets that become standard input or output by dup2(2)", "dup2_missed";
    SLOT_DUP3 = 55, "dup3", lsm, Fexit ["__x64_sys_dup3" | "__arm64_sys_dup3"], optional,
        "sockets that become standard input or output by dup3(2)", "dup3_missed";
    SLOT_COMPAT_DUP2 = 56, "compat_dup2", lsm, Fexit ["__ia32_sys_dup2" | "__arm64_sys_dup2"], present,
        "the same of 32-bit programs", "compat_dup2_missed";
    SLOT_EXECVE = 18, "execve", lsm, Fexit ["__x64_sys_execve" | "__arm64_sys_execve"], optional,
        "failed execs", "execve_missed";
    SLOT_EXECVEAT = 19, "execveat", lsm, Fexit ["__x64_sys_execveat" | "__arm64_sys_execveat"], optional,
        "failed execs", "execveat_missed";
    SLOT_COMPAT_EXECVE = 20, "compat_execve", lsm,
        Fexit ["__ia32_compat_sys_execve" | "__arm64_compat_sys_execve"], present,
        "failed execs of 32-bit programs", "compat_execve_missed";
    SLOT_COMPAT_EXECVEAT = 21, "compat_execveat", lsm,
        Fexit ["__ia32_compat_sys_execveat" | "__arm64_compat_sys_execveat"], present,
        "failed execs of 32-bit programs", "compat_execveat_missed";
    SLOT_BPRM_CHECK = 57, "bprm_check", lsm, Fexit ["security_bprm_check"], optional,
        "scripts that servers wrote, executed under another name", "bprm_check_missed";
    SLOT_SOCKET_CONNECT = 60, "socket_connect", lsm, Fexit ["security_socket_connect"], optional,
        "connections of servers", "socket_connect_missed";
    SLOT_SOCKET_BIND = 61, "socket_bind", lsm, Fexit ["security_socket_bind"], optional,
        "addresses given to sockets", "socket_bind_missed";
    SLOT_SOCKET_LISTEN = 62, "socket_listen", lsm, Fexit ["security_socket_listen"], optional,
        "unix sockets that are listened on", "socket_listen_missed";
    SLOT_SOCK_GRAFT = 63, "sock_graft", lsm, Fentry ["security_sock_graft"], optional,
        "accepted connections; servers known only by taking them (socket activation)", "sock_graft_missed";
    SLOT_SENDMSG = 39, "socket_sendmsg", lsm, Fexit ["security_socket_sendmsg"], optional,
        "datagrams to new peers", "sendmsg_missed";
}

/// The slots of the probes of one tier and of every tier, as bits.
const fn slots(probes: &[Probe], tier: Tier) -> u64 {
    match probes {
        [] => 0,
        [first, rest @ ..] => {
            let others = slots(rest, tier);
            let counts = match first.tier {
                None => true,
                Some(of) => of as u8 == tier as u8,
            };
            if !counts {
                return others;
            }
            assert!(
                first.slot < SLOTS && others & (1 << first.slot) == 0,
                "slots are unique"
            );
            others | 1 << first.slot
        }
    }
}

const _: () = assert!(slots(PROBES, Tier::Tracepoint) != 0 && slots(PROBES, Tier::Lsm) != 0);

macro_rules! drops {
    ($( $(#[$doc:meta])* $name:ident = $index:literal, $text:literal, $lossy:literal; )+) => {
        /// Why the kernel side lost something or could not read it. The discriminant is the index
        /// of its per-CPU counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Drop { $( $(#[$doc])* $name = $index, )+ }

        impl Drop {
            /// Every reason, in the order of its counter.
            pub const ALL: &[Self] = &[ $( Self::$name, )+ ];

            /// The reason's word in metrics and output.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }

            /// Whether an event or a tag was lost, rather than one fact of an event.
            #[must_use]
            pub const fn loses_event(self) -> bool {
                match self { $( Self::$name => $lossy, )+ }
            }
        }
    };
}

drops! {
    /// The life ring was full.
    LifeRingFull = 0, "life_ring_full", true;
    /// The file ring was full.
    FileRingFull = 1, "file_ring_full", true;
    /// The map of tagged processes was full.
    TagMapFull = 2, "tag_map_full", true;
    /// The program's scratch slot could not be had.
    NoScratch = 3, "no_scratch", true;
    /// The argument area could not be read.
    ArgsFault = 4, "args_fault", false;
    /// A path could not be followed to its root.
    PathFault = 5, "path_fault", false;
    /// A string of the caller could not be read.
    StringFault = 6, "string_fault", false;
    /// The descriptor of an open had no file: closed by another thread, or unreadable.
    FileFault = 7, "file_fault", true;
    /// A member of a task that its event rests on could not be read.
    TaskFault = 8, "task_fault", true;
    /// A server's lineage made more records than its quota allows: of files, or of what is told with process
    /// life and costs a process nothing.
    FileQuota = 9, "file_quota", true;
    /// What a call began with could not be noted: too many are under way.
    CallMapFull = 10, "call_map_full", true;
    /// A member of a socket that its event rests on could not be read.
    SocketFault = 11, "socket_fault", true;
    /// A written file could not be remembered.
    WrittenMapFull = 12, "written_map_full", false;
    /// What a change of a name began with was not there when it was done.
    NoteLost = 13, "note_lost", true;
}

/// How many drop counters there are.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a dozen reasons fit in any integer"
)]
pub const DROPS: u32 = Drop::ALL.len() as u32;
