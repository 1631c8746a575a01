//! The kernel's numbers in the words that people and ECS use.

use std::net::IpAddr;

use crate::event::ip;

use tracer_common::event::{EventKind, access, namespace_call, trace_method};
use tracer_common::limits::{ARGS_HEAD_BYTES, ARGS_TAIL_BYTES};
use tracer_common::tag::via;

use crate::event::{Change, Exec, FileId};

/// Names of the bits of a capability mask (include/uapi/linux/capability.h).
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Names of signals 1 to 31, equal on every architecture with asm-generic/signal.h.
const SIGNALS: &[&str] = &[
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// States of a socket from 1 on (include/net/tcp_states.h).
const SOCKET_STATES: &[&str] = &[
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
    "new_syn_recv",
];

pub(super) const AF_UNIX: u16 = 1;
pub(super) const AF_INET: u16 = 2;
pub(super) const AF_INET6: u16 = 10;

/// A capability mask as names; a bit newer than this list by its number.
pub(super) fn capabilities(mask: u64) -> Vec<String> {
    (0..u64::BITS as usize)
        .filter(|bit| mask & (1 << bit) != 0)
        .map(|bit| {
            CAPABILITIES
                .get(bit)
                .map_or_else(|| format!("CAP_{bit}"), ToString::to_string)
        })
        .collect()
}

/// A wait status, taken apart.
#[derive(Clone, Copy)]
pub(super) struct Status(pub(super) u32);

impl Status {
    /// `process.exit_code`: the code given to exit(2), or 128 + signal as shells report it.
    pub(super) const fn code(self) -> u32 {
        match self.signal() {
            Some(signal) => 128 + signal,
            None => (self.0 >> 8) & 0xff,
        }
    }

    /// The signal that ended it.
    pub(super) const fn signal(self) -> Option<u32> {
        match self.0 & 0x7f {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Whether it left a core dump.
    pub(super) const fn dumped_core(self) -> bool {
        self.0 & 0x80 != 0
    }
}

/// The name of a signal; none for the real-time ones, whose names depend on the C library.
pub(super) fn signal(number: u32) -> Option<&'static str> {
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    SIGNALS.get(index).copied()
}

/// The word for a socket's state.
pub(super) fn socket_state(state: u8) -> Option<&'static str> {
    let index = usize::from(state).checked_sub(1)?;
    SOCKET_STATES.get(index).copied()
}

/// The word for an address family.
pub(super) const fn family(family: u16) -> Option<&'static str> {
    match family {
        AF_UNIX => Some("unix"),
        AF_INET => Some("ipv4"),
        AF_INET6 => Some("ipv6"),
        _ => None,
    }
}

/// `network.transport` of a protocol number (include/uapi/linux/in.h), in IANA's words as ECS asks for.
pub(super) const fn transport(protocol: u8) -> Option<&'static str> {
    match protocol {
        1 => Some("icmp"),
        6 => Some("tcp"),
        17 => Some("udp"),
        33 => Some("dccp"),
        58 => Some("ipv6-icmp"),
        132 => Some("sctp"),
        136 => Some("udplite"),
        _ => None,
    }
}

/// `SOCK_STREAM` … (include/linux/net.h) as a word.
pub(super) const fn socket_type(number: u8) -> Option<&'static str> {
    match number {
        1 => Some("stream"),
        2 => Some("datagram"),
        3 => Some("raw"),
        5 => Some("seqpacket"),
        _ => None,
    }
}

/// The name of a unix socket as people write it: an abstract one begins with `@`, as in
/// `/proc/net/unix`.
pub(super) fn socket_name(name: &[u8]) -> Vec<u8> {
    match name.split_first() {
        Some((0, rest)) => [b"@", rest].concat(),
        _ => name.to_vec(),
    }
}

/// An address as the kernel keeps it. An IPv4 address that came through an IPv6 socket is shown as
/// what it is.
pub(super) fn address(family: u16, bytes: [u8; 16]) -> Option<IpAddr> {
    ip(family, bytes)
}

/// `file.type` of an `i_mode`; ECS knows these three.
pub(super) const fn file_type(mode: u16) -> Option<&'static str> {
    match mode & 0o17_0000 {
        0o10_0000 => Some("file"),
        0o04_0000 => Some("dir"),
        0o12_0000 => Some("symlink"),
        _ => None,
    }
}

/// `file.mode`: permission bits as chmod(1) takes them.
pub(super) fn mode(mode: u16) -> String {
    format!("{:04o}", mode & 0o7777)
}

/// `file.device`: major:minor, as `/proc/self/mountinfo` has it.
pub(super) fn device(file: FileId) -> String {
    format!("{}:{}", file.major(), file.minor())
}

/// What the caller of open(2) asked for, besides writing (asm-generic/fcntl.h).
pub(super) fn open_flags(flags: u32) -> Vec<&'static str> {
    set_bits(
        flags,
        &[
            (0o100, "create"),
            (0o200, "exclusive"),
            (0o1000, "truncate"),
            (0o2000, "append"),
        ],
    )
}

/// Flags of renameat2(2) (include/uapi/linux/fs.h).
const RENAME_FLAGS: &[(u32, &str)] = &[(1, "no_replace"), (2, "exchange"), (4, "whiteout")];

/// Flags of linkat(2) and unlinkat(2) (include/uapi/linux/fcntl.h).
const LINK_FLAGS: &[(u32, &str)] = &[(0x400, "follow"), (0x1000, "empty_path")];
const UNLINK_FLAGS: &[(u32, &str)] = &[(0x200, "directory")];

/// Flags of mount(2) that change where files come from or what they may do
/// (include/uapi/linux/mount.h).
const MOUNT_FLAGS: &[(u32, &str)] = &[
    (1, "read_only"),
    (2, "no_set_id"),
    (4, "no_devices"),
    (8, "no_exec"),
    (32, "remount"),
    (4096, "bind"),
    (8192, "move"),
    (16384, "recursive"),
    (1 << 17, "unbindable"),
    (1 << 18, "private"),
    (1 << 19, "slave"),
    (1 << 20, "shared"),
];

/// What the caller of a call that changes names asked for besides.
pub(super) fn change_flags(change: &Change) -> Vec<&'static str> {
    let mount = u32::try_from(change.number & u64::from(u32::MAX)).unwrap_or_default();
    let tables = [
        (EventKind::Rename, change.flags, RENAME_FLAGS),
        (EventKind::Link, change.flags, LINK_FLAGS),
        (EventKind::Unlink, change.flags, UNLINK_FLAGS),
        (EventKind::Mount, mount, MOUNT_FLAGS),
    ];
    let table = tables.into_iter().find(|(kind, ..)| *kind == change.kind);
    table.map_or_else(Vec::new, |(_, flags, names)| set_bits(flags, names))
}

/// What a mapping allows.
pub(super) fn mapping(bits: u32) -> Vec<&'static str> {
    set_bits(bits, &[(access::WRITE, "write"), (access::EXEC, "execute")])
}

/// How else than by birth a tag came.
pub(super) fn ways(bits: u16) -> Vec<&'static str> {
    set_bits(
        bits.into(),
        &[(via::FILE.into(), "file"), (via::TRACE.into(), "trace")],
    )
}

/// The call that changed namespaces or the root directory.
pub(super) const fn namespace_call(call: u32) -> Option<&'static str> {
    match call {
        namespace_call::SETNS => Some("setns"),
        namespace_call::UNSHARE => Some("unshare"),
        namespace_call::CHROOT => Some("chroot"),
        namespace_call::PIVOT_ROOT => Some("pivot_root"),
        namespace_call::SWITCH => Some("setns_or_unshare"),
        _ => None,
    }
}

/// How a process reached into another.
pub(super) const fn trace_method(method: u32) -> Option<&'static str> {
    match method {
        trace_method::PTRACE => Some("ptrace"),
        trace_method::VM_WRITE => Some("process_vm_writev"),
        trace_method::MEM => Some("mem"),
        trace_method::ACCESS => Some("access"),
        _ => None,
    }
}

/// Errors that execve(2) gives, and a connect(2) that goes on, by name (asm-generic/errno-base.h,
/// asm-generic/errno.h: equal on every architecture with BPF; linux/errno.h for what the kernel keeps
/// to itself).
const ERRORS: &[(u32, &str)] = &[
    (1, "EPERM"),
    (2, "ENOENT"),
    (4, "EINTR"),
    (5, "EIO"),
    (6, "ENXIO"),
    (7, "E2BIG"),
    (8, "ENOEXEC"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (14, "EFAULT"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (19, "ENODEV"),
    (20, "ENOTDIR"),
    (21, "EISDIR"),
    (22, "EINVAL"),
    (23, "ENFILE"),
    (24, "EMFILE"),
    (26, "ETXTBSY"),
    (36, "ENAMETOOLONG"),
    (40, "ELOOP"),
    (80, "ELIBBAD"),
    (115, "EINPROGRESS"),
    (116, "ESTALE"),
    (512, "ERESTARTSYS"),
];

/// The name of an error, or its number.
pub(super) fn error(number: u32) -> String {
    ERRORS
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

fn set_bits(flags: u32, names: &[(u32, &'static str)]) -> Vec<&'static str> {
    names
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, name)| *name)
        .collect()
}

/// Whether a path without links is one of memfd_create(2).
pub(super) fn is_memfd(nlink: u32, path: &[u8]) -> bool {
    nlink == 0 && path.starts_with(b"/memfd:")
}

/// Whether the middle of the arguments is missing.
pub(super) const fn args_truncated(exec: &Exec) -> bool {
    exec.args_len > (ARGS_HEAD_BYTES + ARGS_TAIL_BYTES) as u64
}

/// The last component of a path; empty where there is none.
pub(super) fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// Name of a program: of the executable, or where that is unknown of the file execve named.
pub(super) fn program(exec: &Exec) -> &[u8] {
    if is_memfd(exec.nlink, &exec.exe) {
        // The name of a memfd may hold a slash.
        return exec.exe.strip_prefix(b"/").unwrap_or_default();
    }
    if exec.exe.is_empty() {
        base_name(&exec.filename)
    } else {
        base_name(&exec.exe)
    }
}

/// A path without its last component; empty where the path has no `/`.
pub(super) fn directory(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => b"/",
        Some(at) => path.get(..at).unwrap_or_default(),
        None => b"",
    }
}

/// What follows the last dot of a name; empty for none, and for a name like `.htaccess`.
pub(super) fn extension(name: &[u8]) -> &[u8] {
    match name.iter().rposition(|&byte| byte == b'.') {
        None | Some(0) => b"",
        Some(at) => name.get(at + 1..).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses() {
        for (status, code, signal, core) in [
            (0, 0, None, false),
            (1 << 8, 1, None, false),
            (0xff00, 255, None, false),
            (9, 137, Some(9), false),
            (11 | 0x80, 139, Some(11), true),
        ] {
            let status = Status(status);
            assert_eq!(status.code(), code);
            assert_eq!(status.signal(), signal);
            assert_eq!(status.dumped_core(), core);
        }
        assert_eq!(signal(9), Some("SIGKILL"));
        assert_eq!(signal(31), Some("SIGSYS"));
        assert_eq!(signal(34), None);
        assert_eq!(signal(0), None);
    }

    #[test]
    fn capability_masks() {
        assert_eq!(CAPABILITIES.len(), 41);
        assert_eq!(
            capabilities((1 << 21) | (1 << 39) | (1 << 63)),
            ["CAP_SYS_ADMIN", "CAP_BPF", "CAP_63"]
        );
        assert!(capabilities(0).is_empty());
    }

    #[test]
    fn paths() {
        for (path, dir, name, ext) in [
            ("/var/www/a.php", "/var/www", "a.php", "php"),
            ("/a", "/", "a", ""),
            ("/x/.htaccess", "/x", ".htaccess", ""),
            ("/x/a.tar.gz", "/x", "a.tar.gz", "gz"),
            ("/x/a.", "/x", "a.", ""),
            ("a", "", "a", ""),
            ("/", "/", "", ""),
        ] {
            let path = path.as_bytes();
            assert_eq!(directory(path), dir.as_bytes());
            assert_eq!(base_name(path), name.as_bytes());
            assert_eq!(extension(base_name(path)), ext.as_bytes());
        }
    }

    #[test]
    fn addresses() {
        let mut mapped = [0; 16];
        mapped[10..].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 7]);
        assert_eq!(address(AF_INET6, mapped).unwrap().to_string(), "192.0.2.7");
        let mut four = [0; 16];
        four[..4].copy_from_slice(&[198, 51, 100, 9]);
        assert_eq!(address(AF_INET, four).unwrap().to_string(), "198.51.100.9");
        assert_eq!(address(AF_UNIX, four), None);
    }
}
