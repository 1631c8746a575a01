//! The records: a header, one fixed body per kind, then a tail of variable sections.
//!
//! An event is born here. A new kind is a row in [`EventKind`], a body below, a probe that fills it
//! and a decoder; the compiler asks for the rest.
//!
//! Text in the tail is bytes. A *path* is its components, leaf first, each ended by NUL, as the
//! kernel walk meets them; user space turns them round.

use crate::limits::STDIO;
use crate::tag::Tag;
use crate::wire;

macro_rules! kinds {
    ($( $(#[$doc:meta])* $name:ident = $raw:literal, $text:literal; )+) => {
        /// What a record tells.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum EventKind { $( $(#[$doc])* $name = $raw, )+ }

        impl EventKind {
            /// Every kind.
            pub const ALL: &[Self] = &[ $( Self::$name, )+ ];

            /// The kind with this wire number.
            #[must_use]
            pub const fn from_raw(raw: u16) -> Option<Self> {
                match raw { $( $raw => Some(Self::$name), )+ _ => None }
            }

            /// The kind's wire number.
            #[must_use]
            pub const fn raw(self) -> u16 {
                self as u16
            }

            /// The kind's word in output (`event.action` after ECS and Elastic Defend's usage).
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }
        }
    };
}

kinds! {
    /// A process created another. The header's subject is the true creator.
    Fork = 1, "fork";
    /// A process replaced its image.
    Exec = 2, "exec";
    /// The last thread of a process ended.
    Exit = 3, "end";
    /// A process of a server lineage opened a file for writing, or created it.
    Open = 4, "open";
    /// A process of a server lineage renamed a file.
    Rename = 5, "rename";
    /// A process began to listen on an internet socket.
    Listen = 6, "listen";
    /// A process that ran already when the agent started, read from `/proc`. Body of [`ExecBody`].
    Observed = 7, "already_running";
}

/// Bits of [`EventHeader::flags`]: facts that are missing or cut short.
pub mod flag {
    /// The executable's or file's path is cut at the front: too many components or bytes.
    pub const PATH_TRUNCATED: u16 = 1 << 0;
    /// The working directory is cut at the front.
    pub const CWD_TRUNCATED: u16 = 1 << 1;
    /// The middle of the argument area is missing.
    pub const ARGS_TRUNCATED: u16 = 1 << 2;
    /// The argument area could not be read.
    pub const ARGS_UNREADABLE: u16 = 1 << 3;
    /// A string of the caller is cut short or could not be read.
    pub const STRING_TRUNCATED: u16 = 1 << 4;
    /// The file did not exist before this call (`FMODE_CREATED`).
    pub const CREATED: u16 = 1 << 5;
    /// The call came by the 32-bit convention.
    pub const COMPAT: u16 = 1 << 6;
}

/// Bits of `file.f_mode` (include/linux/fs.h).
pub mod fmode {
    /// `FMODE_WRITE`
    pub const WRITE: u32 = 0x2;
    /// `FMODE_CREATED`
    pub const CREATED: u32 = 0x10_0000;
}

/// What a descriptor is. Values of [`FdInfo::kind`].
pub mod fd_kind {
    /// Not open, or unreadable.
    pub const NONE: u8 = 0;
    /// Regular file.
    pub const FILE: u8 = 1;
    /// Pipe or FIFO.
    pub const PIPE: u8 = 2;
    /// Terminal.
    pub const TTY: u8 = 3;
    /// `/dev/null`
    pub const NULL: u8 = 4;
    /// Socket; see the address fields.
    pub const SOCKET: u8 = 5;
    /// Anything else: another device, a directory, an anonymous inode.
    pub const OTHER: u8 = 6;
}

wire! {
    /// Starts every record.
    pub struct EventHeader {
        /// Kernel time of the event: nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`).
        pub boot_ns: u64,
        /// Start of the subject's thread group leader, nanoseconds since boot (`task_struct.start_boottime`).
        pub start_boot_ns: u64,
        /// The subject's tag when the event happened.
        pub tag: Tag,
        /// The subject: its thread group id in the initial pid namespace.
        pub tgid: u32,
        /// The thread that did it.
        pub tid: u32,
        /// Bytes after the body.
        pub tail_len: u32,
        /// CPU the event happened on.
        pub cpu: u32,
        /// [`EventKind`]
        pub kind: u16,
        /// Bits of [`flag`].
        pub flags: u16,
        /// [`Tier`](crate::probe::Tier)
        pub tier: u8,
        /// Layout version, [`VERSION`].
        pub version: u8,
        /// Unused, zero.
        pub reserved: u16,
    }

    /// Users and groups of a task, in the initial user namespace (include/linux/cred.h).
    pub struct Ids {
        /// Real user.
        pub uid: u32,
        /// Effective user.
        pub euid: u32,
        /// Saved user.
        pub suid: u32,
        /// Real group.
        pub gid: u32,
        /// Effective group.
        pub egid: u32,
        /// Saved group.
        pub sgid: u32,
    }

    /// Inode numbers of a task's namespaces; zero where unknown.
    pub struct Namespaces {
        /// Mount namespace.
        pub mnt: u32,
        /// PID namespace the task lives in.
        pub pid: u32,
        /// Network namespace.
        pub net: u32,
        /// User namespace.
        pub user: u32,
        /// UTS namespace.
        pub uts: u32,
        /// IPC namespace.
        pub ipc: u32,
        /// Cgroup namespace.
        pub cgroup: u32,
        /// The process's pid in its own namespace.
        pub vpid: u32,
    }

    /// What one of the descriptors 0 to 2 is.
    pub struct FdInfo {
        /// Inode number.
        pub inode: u64,
        /// Local address, network order; IPv4 in the first four bytes.
        pub local_addr: [u8; 16],
        /// Peer address, the same way.
        pub remote_addr: [u8; 16],
        /// Local port, host order.
        pub local_port: u16,
        /// Peer port, host order.
        pub remote_port: u16,
        /// Device number of a device file, kernel encoding.
        pub rdev: u32,
        /// Process at the other end of a unix socket, zero where unknown.
        pub peer_tgid: u32,
        /// Address family of a socket (`AF_INET` 2, `AF_INET6` 10, `AF_UNIX` 1).
        pub family: u16,
        /// [`fd_kind`]
        pub kind: u8,
        /// State of a socket (`TCP_ESTABLISHED` 1 …, include/net/tcp_states.h).
        pub state: u8,
    }

    /// Body of [`EventKind::Fork`]. No tail.
    pub struct ForkBody {
        /// Start of the child, nanoseconds since boot.
        pub child_start_boot_ns: u64,
        /// Start of the child's current parent (its reaper), which `CLONE_PARENT` makes another
        /// process than the creator.
        pub parent_start_boot_ns: u64,
        /// Tag the child begins with.
        pub child_tag: Tag,
        /// Users and groups of the creator at that moment, which the child begins with.
        pub ids: Ids,
        /// The child.
        pub child_tgid: u32,
        /// The child's current parent.
        pub parent_tgid: u32,
        /// The child's pid in its own pid namespace.
        pub child_vpid: u32,
        /// PID namespace of the child.
        pub child_pid_ns: u32,
    }

    /// Body of [`EventKind::Exec`] and [`EventKind::Observed`].
    ///
    /// Tail: executable path, working directory and cgroup path (as components), then the name
    /// given to execve, the interpreter, the head and the end of the argument area (as bytes).
    pub struct ExecBody {
        /// Inode of the executable.
        pub inode: u64,
        /// Id of the cgroup v2 the task is in (`bpf_get_current_cgroup_id`).
        pub cgroup_id: u64,
        /// Whole length of the argument area, bytes.
        pub args_len: u64,
        /// Effective capabilities.
        pub cap_effective: u64,
        /// Permitted capabilities.
        pub cap_permitted: u64,
        /// Start of the current parent, nanoseconds since boot.
        pub parent_start_boot_ns: u64,
        /// Standard input, output and error.
        pub stdio: [FdInfo; STDIO],
        /// Users and groups after the exec.
        pub ids: Ids,
        /// Namespaces.
        pub ns: Namespaces,
        /// Device of the executable, kernel encoding.
        pub dev: u32,
        /// Links to the executable; zero for a memfd or a deleted file.
        pub nlink: u32,
        /// Current parent (`real_parent`), which may be a reaper.
        pub parent_tgid: u32,
        /// Thread that called execve where it was not the leader, else the tgid
        /// (`sched_process_exec`'s `old_pid`).
        pub old_pid: u32,
        /// Login user (audit), `u32::MAX` where unset.
        pub loginuid: u32,
        /// Audit session, `u32::MAX` where unset.
        pub sessionid: u32,
        /// Process group.
        pub pgid: u32,
        /// Session.
        pub sid: u32,
        /// Controlling terminal, kernel encoding; zero where there is none.
        pub tty: u32,
        /// Bytes of the executable's path.
        pub exe_len: u16,
        /// Bytes of the working directory.
        pub cwd_len: u16,
        /// Bytes of the cgroup path.
        pub cgroup_len: u16,
        /// Bytes of the name given to execve.
        pub filename_len: u16,
        /// Bytes of the interpreter's name.
        pub interp_len: u16,
        /// Bytes kept from the start of the argument area.
        pub args_head_len: u16,
        /// Bytes kept from its end.
        pub args_tail_len: u16,
        /// Mode of the executable (`inode.i_mode`).
        pub mode: u16,
        /// Unused, zero.
        pub reserved: u32,
    }

    /// Body of [`EventKind::Exit`]. No tail.
    pub struct ExitBody {
        /// As wait(2) gives it: exit status << 8 | signal (`task_struct.exit_code`).
        pub status: u32,
        /// Unused, zero.
        pub reserved: u32,
    }

    /// Body of [`EventKind::Open`]. Tail: the path of the file that was really opened.
    pub struct OpenBody {
        /// Inode of the file.
        pub inode: u64,
        /// Size when it was opened, bytes.
        pub size: u64,
        /// Users and groups of the thread.
        pub ids: Ids,
        /// Device of the file, kernel encoding.
        pub dev: u32,
        /// Mount namespace of the thread.
        pub mnt_ns: u32,
        /// `file.f_mode`, see [`fmode`].
        pub f_mode: u32,
        /// `file.f_flags`: the flags of the open, as the kernel took them.
        pub f_flags: u32,
        /// Owner of the file.
        pub uid: u32,
        /// Group of the file.
        pub gid: u32,
        /// Links to the file.
        pub nlink: u32,
        /// Mode of the file (`inode.i_mode`).
        pub mode: u16,
        /// Bytes of the path.
        pub path_len: u16,
    }

    /// Body of [`EventKind::Rename`].
    ///
    /// Tail: directory that the old name is relative to (components; empty where the name is
    /// absolute), old name (bytes), the same for the new one. The names are the caller's, read
    /// after the call.
    pub struct RenameBody {
        /// Users and groups of the thread.
        pub ids: Ids,
        /// Mount namespace of the thread.
        pub mnt_ns: u32,
        /// Flags of renameat2(2).
        pub rename_flags: u32,
        /// Bytes of the old directory.
        pub old_dir_len: u16,
        /// Bytes of the old name.
        pub old_len: u16,
        /// Bytes of the new directory.
        pub new_dir_len: u16,
        /// Bytes of the new name.
        pub new_len: u16,
    }

    /// Body of [`EventKind::Listen`]. No tail.
    pub struct ListenBody {
        /// Local address, network order; IPv4 in the first four bytes.
        pub addr: [u8; 16],
        /// Network namespace of the thread.
        pub net_ns: u32,
        /// Port, host order.
        pub port: u16,
        /// Address family.
        pub family: u16,
    }
}

/// Version of the record layout, in every header and capture file.
pub const VERSION: u8 = 1;
