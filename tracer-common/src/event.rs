//! The records: a header, one fixed body per kind, then a tail of variable sections.
//!
//! An event is born here. A new kind is a row in [`EventKind`], a body below, a probe that fills it
//! and a decoder; the compiler asks for the rest.
//!
//! Text in the tail is bytes. A *path* is its components, leaf first, each ended by NUL, as the
//! kernel walk meets them; user space turns them round.

use crate::limits::{NAME_BYTES, STDIO};
use crate::tag::{InodeKey, Tag, Writer};
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
    /// A process of a server lineage opened a file for writing, or created it. Body of [`FileBody`].
    Open = 4, "open";
    /// A process of a server lineage renamed a file. Body of [`ChangeBody`].
    Rename = 5, "rename";
    /// A process began to listen on a socket. Body of [`SocketBody`].
    Listen = 6, "listen";
    /// A process that ran already when the agent started, read from `/proc`. Body of [`ExecBody`].
    Observed = 7, "already_running";
    /// A process of a server lineage wrote through a descriptor that no such process opened: one that
    /// it was given. Body of [`FileBody`].
    Write = 8, "write";
    /// A process of a server lineage mapped a file to write to it, or to execute it though its name
    /// is not a library's. Body of [`FileBody`].
    Map = 9, "map";
    /// A process of a server lineage opened for reading what such a process wrote. Body of
    /// [`FileBody`].
    Read = 10, "read";
    /// A second name for a file. Body of [`ChangeBody`], as all to [`EventKind::Mount`].
    Link = 11, "link";
    /// A symbolic link.
    Symlink = 12, "symlink";
    /// A name was removed, of a file or a directory.
    Unlink = 13, "unlink";
    /// A new directory.
    Mkdir = 14, "mkdir";
    /// A new special file, or a regular one made without opening it.
    Mknod = 15, "mknod";
    /// A file was cut or extended.
    Truncate = 16, "truncate";
    /// The mode of a file.
    Chmod = 17, "chmod";
    /// The owner of a file.
    Chown = 18, "chown";
    /// An extended attribute, which a capability of a file is too.
    Setxattr = 19, "setxattr";
    /// Something was mounted, a bind mount or a moved one too.
    Mount = 20, "mount";
    /// A process of a server lineage began a connection. Body of [`SocketBody`], as all to
    /// [`EventKind::Redirect`].
    Connect = 21, "connect";
    /// It gave a socket an address.
    Bind = 22, "bind";
    /// It took a connection.
    Accept = 23, "accept";
    /// It sent a datagram to a peer that it had not sent to yet.
    Send = 24, "send";
    /// It made a socket its standard input, output or error.
    Redirect = 25, "redirect";
    /// An execve(2) of a server lineage that failed. Body of [`ExecFailedBody`].
    ExecFailed = 26, "exec_failed";
    /// A process of a server lineage changed its users, groups or capabilities, other than by an
    /// exec. Body of [`CredentialBody`].
    Credentials = 27, "credentials";
    /// It changed its namespaces or its root directory. Body of [`NamespaceBody`].
    Namespace = 28, "namespace";
    /// It reached into another process. Body of [`TraceBody`].
    Trace = 29, "trace";
    /// It gave itself another name. Body of [`CommBody`].
    Comm = 30, "comm";
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
    /// Told when it was permitted or handed in, before it was done: whether it succeeded is unknown.
    pub const ATTEMPT: u16 = 1 << 7;
    /// It came through io_uring.
    pub const URING: u16 = 1 << 8;
    /// Names are the kernel's own, resolved, and not strings of the caller.
    pub const RESOLVED: u16 = 1 << 9;
    /// The subject has no tag: told because of what the file is or where it lies.
    pub const UNTAGGED: u16 = 1 << 10;
    /// What a name is relative to, or the file that a descriptor stood for, was another when the call
    /// began: which of them the kernel took is not known.
    pub const BASE_CHANGED: u16 = 1 << 11;
    /// A name could not be read when the call began: that another thread did not rewrite it is not known.
    pub const UNVERIFIED: u16 = 1 << 12;
}

/// Bits of `file.f_mode` (include/linux/fs.h).
pub mod fmode {
    /// `FMODE_READ`
    pub const READ: u32 = 0x1;
    /// `FMODE_WRITE`
    pub const WRITE: u32 = 0x2;
    /// `FMODE_CREATED`
    pub const CREATED: u32 = 0x10_0000;
}

/// Bits of [`FileBody::access`] of a [`EventKind::Map`] (`PROT_*`, include/uapi/asm-generic/mman-common.h).
pub mod access {
    /// The mapping can be written, and what is written reaches the file.
    pub const WRITE: u32 = 0x2;
    /// The mapping can be executed.
    pub const EXEC: u32 = 0x4;
}

/// Values of [`NamespaceBody::call`].
pub mod namespace_call {
    /// setns(2)
    pub const SETNS: u32 = 1;
    /// unshare(2)
    pub const UNSHARE: u32 = 2;
    /// chroot(2)
    pub const CHROOT: u32 = 3;
    /// pivot_root(2)
    pub const PIVOT_ROOT: u32 = 4;
    /// setns(2) or unshare(2): the hook does not know which.
    pub const SWITCH: u32 = 5;
}

/// Values of [`TraceBody::method`].
pub mod trace_method {
    /// ptrace(2): attached to it.
    pub const PTRACE: u32 = 1;
    /// process_vm_writev(2)
    pub const VM_WRITE: u32 = 2;
    /// Opened its `/proc/PID/mem` for writing.
    pub const MEM: u32 = 3;
    /// The right to do one of these was asked for and given (`PTRACE_MODE_ATTACH`); the hook does not
    /// know which.
    pub const ACCESS: u32 = 4;
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
        /// How many records this program has made on this CPU, this one included. A gap is a loss.
        /// Zero for records that user space makes.
        pub seq: u64,
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
        /// Slot of the program that made the record ([`Probe::slot`](crate::probe::Probe)).
        pub slot: u16,
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
        /// Who of a server's lineage wrote the executable.
        pub writer: Writer,
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
        /// `inode.i_generation` of the executable; zero where unknown.
        pub generation: u32,
    }

    /// Body of [`EventKind::Exit`]. No tail.
    pub struct ExitBody {
        /// As wait(2) gives it: exit status << 8 | signal (`task_struct.exit_code`).
        pub status: u32,
        /// Unused, zero.
        pub reserved: u32,
    }

    /// Body of [`EventKind::Open`], [`EventKind::Write`], [`EventKind::Map`], [`EventKind::Read`].
    ///
    /// Tail: the path of the file itself, as components. Of an open that is told before it is done
    /// ([`flag::ATTEMPT`]) the path is that of the directory that the caller's name is relative to
    /// (empty where the name is absolute), and the name (bytes) comes after it.
    pub struct FileBody {
        /// Size at that moment, bytes.
        pub size: u64,
        /// The file.
        pub file: InodeKey,
        /// The nearest watched directory that it is in, by identity; zero where it is in none.
        pub directory: InodeKey,
        /// Who of a server's lineage wrote it before.
        pub writer: Writer,
        /// Users and groups of the thread.
        pub ids: Ids,
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
        /// `inode.i_generation`
        pub generation: u32,
        /// Bits of [`access`], for a mapping.
        pub access: u32,
        /// Mode of the file (`inode.i_mode`).
        pub mode: u16,
        /// Bytes of the path.
        pub path_len: u16,
        /// Bytes of the name.
        pub name_len: u16,
        /// Unused, zero.
        pub reserved: u16,
    }

    /// Body of what changes names and attributes: [`EventKind::Rename`] and [`EventKind::Link`] to
    /// [`EventKind::Mount`].
    ///
    /// Tail: directory that the old name is relative to (components; empty where the name is
    /// absolute), old name (bytes), the same for the new one, a detail (bytes), and the old and new
    /// name as they were when the call began (bytes; empty where not read). What has one name has it
    /// as the new one. With [`flag::RESOLVED`] the directories are those that the kernel found and
    /// the names are single components, or empty where the directory's section is the whole path;
    /// without, the names are the caller's, read after the call. An empty name whose reading did not
    /// fail stands for the descriptor that the call had instead: the whole path is in the directory.
    pub struct ChangeBody {
        /// By kind: size (truncate), device (mknod), uid << 32 | gid with `u32::MAX` for unchanged
        /// (chown), flags (mount), length of the value (setxattr).
        pub number: u64,
        /// The file that it happened to; zero where unknown.
        pub file: InodeKey,
        /// The nearest watched directory that the new name is in; zero where none or unknown.
        pub directory: InodeKey,
        /// Who of a server's lineage wrote the file.
        pub writer: Writer,
        /// Users and groups of the thread.
        pub ids: Ids,
        /// Mount namespace of the thread.
        pub mnt_ns: u32,
        /// Flags of the call (renameat2, linkat, unlinkat; `AT_REMOVEDIR` for rmdir).
        pub call_flags: u32,
        /// `inode.i_generation` of the file.
        pub generation: u32,
        /// Owner of the file before.
        pub uid: u32,
        /// Group of the file before.
        pub gid: u32,
        /// Mode of the file before (`inode.i_mode`); zero where unknown.
        pub mode: u16,
        /// Mode that was asked for (chmod, mkdir, mknod).
        pub new_mode: u16,
        /// Bytes of the old directory.
        pub old_dir_len: u16,
        /// Bytes of the old name.
        pub old_len: u16,
        /// Bytes of the new directory.
        pub new_dir_len: u16,
        /// Bytes of the new name.
        pub new_len: u16,
        /// Bytes of the detail: target of a symbolic link, name of an attribute, source of a mount.
        pub detail_len: u16,
        /// Bytes of the old name at the begin of the call.
        pub early_old_len: u16,
        /// Bytes of the new name at the begin of the call.
        pub early_new_len: u16,
        /// Unused, zero.
        pub reserved: u16,
    }

    /// Body of the network kinds. No tail.
    pub struct SocketBody {
        /// The socket with both addresses.
        pub socket: FdInfo,
        /// Users and groups of the thread.
        pub ids: Ids,
        /// Network namespace of the thread.
        pub net_ns: u32,
        /// `SOCK_STREAM` 1, `SOCK_DGRAM` 2, … (include/linux/net.h); zero where unknown.
        pub socket_type: u8,
        /// `IPPROTO_TCP` 6, `IPPROTO_UDP` 17, … (include/uapi/linux/in.h); zero where unknown. Of
        /// `IPPROTO_MPTCP`, 262, the lower byte, which is TCP, as what it sends is.
        pub protocol: u8,
        /// Bytes of the name.
        pub name_len: u16,
        /// Name of a unix socket, of the peer for connect and send, else its own; an abstract one
        /// begins with NUL (`sockaddr_un.sun_path`, include/uapi/linux/un.h, and room for its end).
        pub name: [u8; 112],
        /// Descriptor: the one that the socket became, for a redirect; else `u32::MAX`.
        pub fd: u32,
        /// Result of the call as the kernel gives it: zero, or a negative error such as
        /// `-EINPROGRESS`.
        pub result: u32,
    }

    /// Body of [`EventKind::ExecFailed`]. No tail.
    pub struct ExecFailedBody {
        /// Users and groups of the thread.
        pub ids: Ids,
        /// The error: a positive errno.
        pub error: u32,
        /// Bytes of the name, its NUL not counted.
        pub name_len: u32,
        /// The name that execve was given, read after the call.
        pub name: [u8; NAME_BYTES],
    }

    /// Body of [`EventKind::Credentials`]. No tail.
    pub struct CredentialBody {
        /// Effective capabilities now.
        pub cap_effective: u64,
        /// Permitted capabilities now.
        pub cap_permitted: u64,
        /// Users and groups now.
        pub ids: Ids,
        /// User namespace now.
        pub user_ns: u32,
        /// Unused, zero.
        pub reserved: u32,
    }

    /// Body of [`EventKind::Namespace`]. Tail: the root directory now, as components.
    pub struct NamespaceBody {
        /// Users and groups of the thread.
        pub ids: Ids,
        /// Namespaces now.
        pub ns: Namespaces,
        /// [`namespace_call`]
        pub call: u32,
        /// Bytes of the root directory.
        pub root_len: u16,
        /// Unused, zero.
        pub reserved: u16,
    }

    /// Body of [`EventKind::Trace`]. No tail.
    pub struct TraceBody {
        /// Start of the target, nanoseconds since boot; zero where unknown.
        pub target_start_boot_ns: u64,
        /// Tag that the target has now.
        pub target_tag: Tag,
        /// Users and groups of the thread.
        pub ids: Ids,
        /// The target; zero where only its number in the caller's namespace is known.
        pub target_tgid: u32,
        /// Its number in the caller's pid namespace, where the caller gave one.
        pub target_vpid: u32,
        /// PID namespace of the caller.
        pub pid_ns: u32,
        /// [`trace_method`]
        pub method: u32,
    }

    /// Body of [`EventKind::Comm`]. No tail.
    pub struct CommBody {
        /// `task_struct.comm` before, NUL-ended.
        pub old: [u8; 16],
        /// And now.
        pub new: [u8; 16],
    }
}

/// Version of the record layout, in every header and capture file.
pub const VERSION: u8 = 1;
