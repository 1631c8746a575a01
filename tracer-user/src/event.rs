//! Typed events, and the way to them from bytes. No I/O, no clock, no panic on any input.

mod decode;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tracer_common::event::{EventKind, FdInfo, Ids, Namespaces, fd_kind, flag};
use tracer_common::probe::Tier;
use tracer_common::tag::{InodeKey, Tag};

pub use self::decode::{DecodeError, components, decode, text};

/// Kernel ticks that `/proc/PID/stat` counts start times in, nanoseconds each: `USER_HZ` is 100 on
/// every architecture with BPF (include/asm-generic/param.h).
pub const TICK_NS: u64 = 10_000_000;

/// A process for all time: its number and when it started.
///
/// A pid is used again, so a pid alone names nobody. The start is in clock ticks because both BPF's
/// `start_boottime` and field 22 of `/proc/PID/stat` give that number: a process found at
/// start-up and one seen forking compare equal. With the boot id it becomes `process.entity_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// Start since boot, ticks of 10 ms.
    pub start_ticks: u64,
}

impl ProcessKey {
    /// The key of a process that started `start_boot_ns` nanoseconds after boot.
    #[must_use]
    pub const fn new(tgid: u32, start_boot_ns: u64) -> Self {
        Self {
            tgid,
            start_ticks: start_boot_ns / TICK_NS,
        }
    }
}

/// What every event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Kernel time, nanoseconds since boot.
    pub boot_ns: u64,
    /// The process it happened to or that did it.
    pub subject: ProcessKey,
    /// Start of that process, nanoseconds since boot.
    pub start_boot_ns: u64,
    /// The thread that did it.
    pub tid: u32,
    /// The lineage tag the kernel held at that moment.
    pub tag: Tag,
    /// Where the record came from.
    pub tier: Tier,
    /// Bits of [`flag`].
    pub flags: u16,
    /// CPU it happened on.
    pub cpu: u32,
    /// Slot of the program that told it.
    pub slot: u16,
    /// How many records that program had made on that CPU; zero where no program made it.
    pub seq: u64,
}

/// A typed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What every event has.
    pub meta: Meta,
    /// What this kind has.
    pub payload: Payload,
}

/// The facts of an event, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The subject created a process.
    Fork(Fork),
    /// The subject replaced its image.
    Exec(Box<Exec>),
    /// The subject ended.
    Exit(Exit),
    /// The subject opened a file for writing or created it, or used it in another way.
    File(Box<FileAccess>),
    /// The subject changed names or attributes of files.
    Change(Box<Change>),
    /// The subject listens, connects, or uses a socket in another way.
    Socket(Box<Socket>),
    /// The subject ran already when the agent started.
    Observed(Box<Exec>),
    /// The subject could not execute something.
    ExecFailed(Box<ExecFailed>),
    /// The subject changed its users, groups or capabilities.
    Credentials(Credentials),
    /// The subject changed its namespaces or its root directory.
    Namespace(Box<NamespaceChange>),
    /// The subject reached into another process.
    Trace(Trace),
    /// The subject gave itself another name.
    Comm(Comm),
}

impl Payload {
    /// What it tells.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Fork(_) => EventKind::Fork,
            Self::Exec(_) => EventKind::Exec,
            Self::Exit(_) => EventKind::Exit,
            Self::Observed(_) => EventKind::Observed,
            Self::File(file) => file.kind,
            Self::Change(change) => change.kind,
            Self::Socket(socket) => socket.kind,
            Self::ExecFailed(_) => EventKind::ExecFailed,
            Self::Credentials(_) => EventKind::Credentials,
            Self::Namespace(_) => EventKind::Namespace,
            Self::Trace(_) => EventKind::Trace,
            Self::Comm(_) => EventKind::Comm,
        }
    }

    /// Users and groups of the subject, where the event tells them.
    #[must_use]
    pub fn ids(&self) -> Option<Ids> {
        match self {
            Self::Fork(fork) => Some(fork.ids),
            Self::Exec(exec) | Self::Observed(exec) => Some(exec.ids),
            Self::File(file) => Some(file.ids),
            Self::Change(change) => Some(change.ids),
            Self::Socket(socket) => socket.ids,
            Self::ExecFailed(failed) => Some(failed.ids),
            Self::Credentials(credentials) => Some(credentials.ids),
            Self::Namespace(namespace) => Some(namespace.ids),
            Self::Trace(trace) => Some(trace.ids),
            Self::Exit(_) | Self::Comm(_) => None,
        }
    }

    /// Who of a server's lineage wrote the file that the event is about, as the kernel knows.
    #[must_use]
    pub fn writer(&self) -> Option<Writer> {
        match self {
            Self::Exec(exec) => exec.writer,
            Self::File(file) => file.writer,
            Self::Change(change) => change.writer,
            Self::Fork(_)
            | Self::Exit(_)
            | Self::Observed(_)
            | Self::Socket(_)
            | Self::ExecFailed(_)
            | Self::Credentials(_)
            | Self::Namespace(_)
            | Self::Trace(_)
            | Self::Comm(_) => None,
        }
    }
}

/// Who of a server's lineage wrote a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The process.
    pub process: ProcessKey,
    /// When, nanoseconds since boot.
    pub boot_ns: u64,
    /// Its tag then.
    pub tag: Tag,
}

/// A new process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The child.
    pub child: ProcessKey,
    /// Start of the child, nanoseconds since boot.
    pub child_start_boot_ns: u64,
    /// Tag the child began with.
    pub child_tag: Tag,
    /// Users and groups of the creator, and so of the child.
    pub ids: Ids,
    /// The child's parent as the kernel has it, which `CLONE_PARENT` makes another than the creator.
    pub parent: ProcessKey,
    /// The child's pid in its own namespace.
    pub vpid: u32,
    /// PID namespace of the child, inode number.
    pub pid_ns: u32,
}

/// A new image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// Path of the executable in the process's mount namespace, absolute. Empty where unknown.
    pub exe: Vec<u8>,
    /// The executable as a file.
    pub file: FileId,
    /// Links to it; zero for a memfd or a deleted file.
    pub nlink: u32,
    /// Its `i_generation`; zero where unknown.
    pub generation: u32,
    /// Its mode (`i_mode`).
    pub mode: u16,
    /// Working directory, absolute.
    pub cwd: Vec<u8>,
    /// Cgroup path, absolute.
    pub cgroup: Vec<u8>,
    /// Id of the cgroup v2.
    pub cgroup_id: u64,
    /// The name given to execve: a script where an interpreter runs it.
    pub filename: Vec<u8>,
    /// The last interpreter of a script; equal to `filename` where there is none.
    pub interp: Vec<u8>,
    /// Arguments, argv[0] included.
    pub args: Vec<Vec<u8>>,
    /// Length of the whole argument area, bytes.
    pub args_len: u64,
    /// Users and groups.
    pub ids: Ids,
    /// Effective capabilities, bit mask.
    pub cap_effective: u64,
    /// Permitted capabilities, bit mask.
    pub cap_permitted: u64,
    /// Login user; `None` where unset.
    pub loginuid: Option<u32>,
    /// Audit session; `None` where unset.
    pub sessionid: Option<u32>,
    /// Namespaces.
    pub ns: Namespaces,
    /// Process group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// Controlling terminal, (major, minor).
    pub tty: Option<(u32, u32)>,
    /// Standard input, output, error.
    pub stdio: [FdInfo; 3],
    /// Current parent.
    pub parent: ProcessKey,
    /// The thread that called execve.
    pub old_tid: u32,
    /// Who of a server's lineage wrote the executable.
    pub writer: Option<Writer>,
}

impl Exec {
    /// What it runs as.
    #[must_use]
    pub const fn credentials(&self) -> Credentials {
        Credentials {
            ids: self.ids,
            cap_effective: self.cap_effective,
            cap_permitted: self.cap_permitted,
            user_ns: self.ns.user,
        }
    }
}

/// A file on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct FileId {
    /// Device, kernel encoding.
    pub dev: u32,
    /// Inode number.
    pub inode: u64,
}

impl From<InodeKey> for FileId {
    fn from(key: InodeKey) -> Self {
        Self {
            dev: key.dev,
            inode: key.inode,
        }
    }
}

impl From<FileId> for InodeKey {
    fn from(file: FileId) -> Self {
        Self {
            inode: file.inode,
            dev: file.dev,
            reserved: 0,
        }
    }
}

impl FileId {
    /// Device number, major part.
    #[must_use]
    pub const fn major(self) -> u32 {
        self.dev >> 20
    }

    /// Device number, minor part.
    #[must_use]
    pub const fn minor(self) -> u32 {
        self.dev & 0xf_ffff
    }
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// As wait(2) gives it: exit status << 8 | signal.
    pub status: u32,
}

/// A file opened for writing, or used in another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAccess {
    /// [`EventKind::Open`], [`EventKind::Write`], [`EventKind::Map`] or [`EventKind::Read`].
    pub kind: EventKind,
    /// Path in the process's mount namespace, absolute.
    pub path: Vec<u8>,
    /// The file.
    pub file: FileId,
    /// The nearest watched directory that it is in, by identity.
    pub directory: Option<FileId>,
    /// Who of a server's lineage wrote it before.
    pub writer: Option<Writer>,
    /// Whether this call created it.
    pub created: bool,
    /// Size at that moment, bytes.
    pub size: u64,
    /// Flags of the open.
    pub f_flags: u32,
    /// Of a mapping: bits of [`tracer_common::event::access`].
    pub access: u32,
    /// Users and groups of the thread.
    pub ids: Ids,
    /// Owner of the file.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
    /// Mode of the file (`i_mode`).
    pub mode: u16,
    /// Links to it.
    pub nlink: u32,
    /// `i_generation`
    pub generation: u32,
    /// Mount namespace, inode number.
    pub mnt_ns: u32,
}

/// A change of names or attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// [`EventKind::Rename`], or [`EventKind::Link`] to [`EventKind::Mount`].
    pub kind: EventKind,
    /// Old name where the kind has two (rename, link), absolute, without `.` and `..`. Links are
    /// resolved only where [`flag::RESOLVED`] is set.
    pub old: Vec<u8>,
    /// New name, or the only one, the same way.
    pub new: Vec<u8>,
    /// Target of a symbolic link, name of an attribute, source of a mount.
    pub detail: Vec<u8>,
    /// The names as they were when the call began, where they were others then.
    pub early: Option<(Vec<u8>, Vec<u8>)>,
    /// The file, where known.
    pub file: Option<FileId>,
    /// The nearest watched directory that the new name is in, by identity.
    pub directory: Option<FileId>,
    /// Who of a server's lineage wrote the file.
    pub writer: Option<Writer>,
    /// By kind, see [`tracer_common::event::ChangeBody::number`].
    pub number: u64,
    /// Flags of the call.
    pub flags: u32,
    /// Mode of the file before (`i_mode`); zero where unknown.
    pub mode: u16,
    /// Owner of the file before; unknown where the mode is.
    pub uid: u32,
    /// Its group before.
    pub gid: u32,
    /// Mode that was asked for.
    pub new_mode: u16,
    /// Users and groups of the thread.
    pub ids: Ids,
    /// Mount namespace, inode number.
    pub mnt_ns: u32,
}

/// The use of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// [`EventKind::Listen`], or [`EventKind::Connect`] to [`EventKind::Redirect`].
    pub kind: EventKind,
    /// The socket with both addresses.
    pub socket: FdInfo,
    /// Name of a unix socket: of the peer for connect and send, else its own.
    pub name: Vec<u8>,
    /// `SOCK_STREAM` 1, `SOCK_DGRAM` 2, …; zero where unknown.
    pub socket_type: u8,
    /// `IPPROTO_TCP` 6, `IPPROTO_UDP` 17, …; zero where unknown, as it is for unix sockets.
    pub protocol: u8,
    /// For a redirect the descriptor that the socket became.
    pub fd: Option<u32>,
    /// Result of the call: zero or a negative error.
    pub result: i32,
    /// Users and groups of the thread; `None` where it was not asked.
    pub ids: Option<Ids>,
    /// Network namespace, inode number.
    pub net_ns: u32,
}

/// An exec that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecFailed {
    /// The name that execve was given.
    pub filename: Vec<u8>,
    /// The error, a positive errno.
    pub error: u32,
    /// Users and groups of the thread.
    pub ids: Ids,
}

/// A change of users, groups or capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Users and groups now.
    pub ids: Ids,
    /// Effective capabilities now, bit mask.
    pub cap_effective: u64,
    /// Permitted capabilities now, bit mask.
    pub cap_permitted: u64,
    /// User namespace now, inode number.
    pub user_ns: u32,
}

/// A change of namespaces or of the root directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceChange {
    /// [`tracer_common::event::namespace_call`]
    pub call: u32,
    /// Namespaces now.
    pub ns: Namespaces,
    /// Root directory now.
    pub root: Vec<u8>,
    /// Users and groups of the thread.
    pub ids: Ids,
}

/// A process reached into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The target, where the kernel told it.
    pub target: Option<ProcessKey>,
    /// Start of the target, nanoseconds since boot.
    pub target_start_boot_ns: u64,
    /// Tag that the target has now.
    pub target_tag: Tag,
    /// The target's number in the caller's pid namespace, where the caller gave one.
    pub target_vpid: u32,
    /// PID namespace of the caller, inode number.
    pub pid_ns: u32,
    /// [`tracer_common::event::trace_method`]
    pub method: u32,
    /// Users and groups of the thread.
    pub ids: Ids,
}

/// A process gave itself another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comm {
    /// Before, NUL-ended.
    pub old: [u8; 16],
    /// Now.
    pub new: [u8; 16],
}

/// The word of a descriptor's kind, as `tracer.stdin.type` and its like give it.
#[must_use]
pub const fn fd_type(fd: &FdInfo) -> Option<&'static str> {
    match fd.kind {
        fd_kind::FILE => Some("file"),
        fd_kind::PIPE => Some("pipe"),
        fd_kind::TTY => Some("tty"),
        fd_kind::NULL => Some("null"),
        fd_kind::SOCKET => Some("socket"),
        fd_kind::OTHER => Some("other"),
        _ => None,
    }
}

/// An internet address; `None` for other families.
#[must_use]
pub fn ip(family: u16, bytes: [u8; 16]) -> Option<IpAddr> {
    match family {
        2 => bytes
            .first_chunk::<4>()
            .map(|four| IpAddr::V4(Ipv4Addr::from(*four))),
        10 => Some(Ipv6Addr::from(bytes).to_canonical()),
        _ => None,
    }
}

/// State of a listening socket of any family (include/net/tcp_states.h, net/unix/af_unix.c).
const TCP_LISTEN: u8 = 10;

/// Whether a descriptor is a connected internet socket: what a reverse shell's are. A unix socket
/// pair, as node gives its children, is not, and the socket that a FastCGI server listens on is its
/// children's standard input too.
#[must_use]
pub const fn is_inet(fd: &FdInfo) -> bool {
    fd.kind == fd_kind::SOCKET && (fd.family == 2 || fd.family == 10) && fd.state != TCP_LISTEN
}

/// Whether a descriptor is a socket that listens, which may be a unix socket and so no port.
#[must_use]
pub const fn is_listening(fd: &FdInfo) -> bool {
    fd.kind == fd_kind::SOCKET && fd.state == TCP_LISTEN
}

/// Words for the bits of [`Meta::flags`] that say something is missing.
#[must_use]
pub fn missing(flags: u16) -> Vec<&'static str> {
    [
        (flag::PATH_TRUNCATED, "path_truncated"),
        (flag::CWD_TRUNCATED, "working_directory_truncated"),
        (flag::ARGS_TRUNCATED, "args_truncated"),
        (flag::ARGS_UNREADABLE, "args_unreadable"),
        (flag::STRING_TRUNCATED, "name_truncated"),
    ]
    .into_iter()
    .filter(|(bit, _)| flags & bit != 0)
    .map(|(_, word)| word)
    .collect()
}

#[cfg(test)]
pub(crate) mod tests;
