//! The processes that ran before the agent, read from `/proc` as records like the kernel's own.
//!
//! Taken after the hooks are attached, so that a process is seen by one of the two at least; the
//! pipeline merges them by identity. Every record carries the time of attachment, which sorts it
//! before anything the hooks saw. A process that ends while it is read is left out.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use tracer_common::event::{
    EventHeader, EventKind, ExecBody, FdInfo, SocketBody, VERSION, fd_kind, flag,
};
use tracer_common::limits::{
    ARGS_HEAD_BYTES, ARGS_TAIL_BYTES, CGROUP_BYTES, PATH_BYTES, STRING_BYTES,
};
use tracer_common::probe::Tier;
use tracer_common::tag::Tag;
use tracer_common::wire::as_bytes;

use crate::event::{TICK_NS, components};

/// `TCP_LISTEN` (include/net/tcp_states.h) and `SOCK_STREAM` (include/linux/net.h).
const TCP_LISTEN: u8 = 10;
const SOCK_STREAM: u8 = 1;
/// `IPPROTO_TCP`, include/uapi/linux/in.h
const IPPROTO_TCP: u8 = 6;

/// Most bytes read of any one file: a command line may have megabytes.
const FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Reads every process, as [`Reading::take`] does; no tags are known.
///
/// # Errors
///
/// `proc` cannot be listed.
pub fn take(proc: &Path, boot_ns: u64, give: impl FnMut(Bytes)) -> io::Result<usize> {
    Reading {
        proc,
        boot_ns,
        tag: &|_| Tag::ZERO,
        at: &AtomicU32::new(0),
        aside: &Aside::default(),
    }
    .take(give)
}

/// When the process that holds a number started, as field 22 of `/proc/PID/stat` has it. `None` where
/// nobody holds it, or who did has ended and nobody has asked for its status.
#[must_use]
pub fn started(proc: &Path, pid: u32) -> Option<u64> {
    /// `PF_EXITING`, include/linux/sched.h
    const EXITING: u32 = 4;
    let dir = proc.join(pid.to_string());
    let stat = Stat::parse(&read(&dir.join("stat"))?)?;
    // The others of a process live on where its first thread has ended.
    let ends = stat.flags & EXITING != 0 || matches!(stat.state, b'X' | b'Z');
    (!ends || has_threads(&dir)).then_some(stat.start_ticks)
}

/// How to read the processes.
pub struct Reading<'a> {
    /// `/proc`
    pub proc: &'a Path,
    /// The time that the records carry, nanoseconds since boot.
    pub boot_ns: u64,
    /// The tag that the kernel holds for a process.
    pub tag: &'a dyn Fn(u32) -> Tag,
    /// The process that is being read: its memory may be such that who reads it never comes back.
    pub at: &'a AtomicU32,
    /// Processes whose memory is not read.
    pub aside: &'a Aside,
}

/// Processes whose memory is not read, because of some of them who did read it never came back.
#[derive(Clone, Debug, Default)]
pub struct Aside {
    /// Number, start time and user.
    processes: Vec<(u32, u64, u32)>,
    users: Vec<u32>,
    all_users: bool,
}

impl Aside {
    /// Sets a process aside. Gives its user where that is none the less, and every other process of the
    /// user is set aside as well.
    pub fn add(&mut self, proc: &Path, pid: u32) -> Option<u32> {
        let dir = proc.join(pid.to_string());
        let started = started(proc, pid).unwrap_or(0);
        let mut body = ExecBody::ZERO;
        status(&read(&dir.join("status")).unwrap_or_default(), &mut body);
        let uid = user(&body);
        let before = self.processes.iter().filter(|(_, _, user)| *user == uid);
        let repeated = uid != 0 && before.count() > 0 && !self.users.contains(&uid);
        self.processes.push((pid, started, uid));
        repeated.then(|| self.users.push(uid)).map(|()| uid)
    }

    /// Sets every process aside whose user is not root.
    pub const fn add_all_users(&mut self) {
        self.all_users = true;
    }

    /// Whether those are.
    #[must_use]
    pub const fn has_all_users(&self) -> bool {
        self.all_users
    }

    /// How many were added one by one.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.processes.len()
    }

    /// Whether none was.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    fn holds(&self, pid: u32, started: u64, uid: u32) -> bool {
        let is = |(number, start, _): &(u32, u64, u32)| (*number, *start) == (pid, started);
        self.users.contains(&uid) || (self.all_users && uid != 0) || self.processes.iter().any(is)
    }
}

/// The user that a process belongs to: root only where it is all root's.
const fn user(body: &ExecBody) -> u32 {
    match (body.ids.uid, body.ids.euid) {
        (0, other) => other,
        (uid, _) => uid,
    }
}

impl Reading<'_> {
    /// Reads every process.
    ///
    /// `give` takes each record; listening sockets come after all processes.
    ///
    /// # Errors
    ///
    /// `proc` cannot be listed.
    pub fn take(&self, mut give: impl FnMut(Bytes)) -> io::Result<usize> {
        let mut found: HashMap<u32, Seen> = HashMap::new();
        for entry in fs::read_dir(self.proc)? {
            let Ok(entry) = entry else { continue };
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            self.at.store(pid, Ordering::Release);
            if let Some(seen) = Seen::read(&entry.path(), pid, self.aside) {
                found.insert(pid, seen);
            }
        }
        let mut pids: Vec<u32> = found.keys().copied().collect();
        // Who made a process comes before it, also where numbers have begun anew since.
        pids.sort_unstable_by_key(|pid| (found.get(pid).map(|seen| seen.start_ticks), *pid));
        for pid in &pids {
            let Some(seen) = found.get(pid) else { continue };
            let parent_start = found.get(&seen.ppid).map_or(0, |parent| parent.start_ticks);
            let mut tag = (self.tag)(*pid);
            if tag != Tag::ZERO {
                // Of this process, and not of a later one with its number?
                let stat = read(&self.proc.join(pid.to_string()).join("stat"));
                let stat = stat.and_then(|stat| Stat::parse(&stat));
                if stat.is_none_or(|stat| stat.start_ticks != seen.start_ticks) {
                    tag = Tag::ZERO;
                }
            }
            give(seen.record(*pid, parent_start, self.boot_ns, tag));
        }
        let mut tables: HashMap<u32, HashMap<u64, SocketBody>> = HashMap::new();
        for pid in &pids {
            let Some(seen) = found.get(pid) else { continue };
            let dir = self.proc.join(pid.to_string());
            let table = tables
                .entry(seen.body.ns.net)
                .or_insert_with(|| listeners(&dir));
            // A kernel thread has no descriptors; and where nobody listens nobody's are looked through.
            if seen.exe.is_empty() || table.is_empty() {
                continue;
            }
            for body in listening(&dir, table) {
                let header = seen.header(EventKind::Listen, *pid, self.boot_ns, 0);
                let mut record = as_bytes(&header).to_vec();
                record.extend_from_slice(as_bytes(&SocketBody {
                    net_ns: seen.body.ns.net,
                    ..body
                }));
                give(record.into());
            }
        }
        Ok(pids.len())
    }
}

/// One process of `/proc`.
struct Seen {
    ppid: u32,
    start_ticks: u64,
    flags: u16,
    body: ExecBody,
    exe: Vec<u8>,
    cwd: Vec<u8>,
    cgroup: Vec<u8>,
    comm: Vec<u8>,
    args: Vec<u8>,
}

impl Seen {
    /// Reads a process; its own memory only where it is not set aside.
    fn read(dir: &Path, pid: u32, aside: &Aside) -> Option<Self> {
        let stat = Stat::parse(&read(&dir.join("stat"))?)?;
        if stat.state == b'X' || (stat.state == b'Z' && !has_threads(dir)) {
            return None;
        }
        let mut body = ExecBody::ZERO;
        body.old_pid = pid;
        body.parent_tgid = stat.ppid;
        body.pgid = stat.pgid;
        body.sid = stat.sid;
        body.tty = tty(stat.tty);
        body.nlink = 1;
        status(&read(&dir.join("status"))?, &mut body);
        body.loginuid = number(&dir.join("loginuid"));
        body.sessionid = number(&dir.join("sessionid"));
        let ns = |name: &str| namespace(&dir.join("ns").join(name));
        body.ns.mnt = ns("mnt");
        body.ns.pid = ns("pid");
        body.ns.net = ns("net");
        body.ns.user = ns("user");
        body.ns.uts = ns("uts");
        body.ns.ipc = ns("ipc");
        body.ns.cgroup = ns("cgroup");
        for (fd, info) in body.stdio.iter_mut().enumerate() {
            *info = descriptor(&dir.join("fd").join(fd.to_string()));
        }
        let mut exe = link(&dir.join("exe"));
        // A link of /proc: this asks the running file itself and opens nothing. Without synchronisation,
        // as a file system that a user's program answers for may not answer.
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        if let Ok(file) = statx(CWD, dir.join("exe"), flags, StatxFlags::BASIC_STATS) {
            body.inode = file.stx_ino;
            body.dev = file.stx_dev_major << 20 | file.stx_dev_minor;
            body.nlink = file.stx_nlink;
            body.mode = file.stx_mode;
        }
        if body.nlink == 0 {
            // The kernel's own path has no such mark; the link count says it.
            exe = exe.strip_suffix(b" (deleted)").unwrap_or(&exe).to_vec();
        }
        let mut args = if aside.holds(pid, stat.start_ticks, user(&body)) {
            Vec::new()
        } else {
            read(&dir.join("cmdline")).unwrap_or_default()
        };
        // A server that writes its title over its arguments fills the rest of the area with NULs
        // (`php-fpm: pool www`), which are no arguments.
        let end = args
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        args.truncate(args.len().min(end + 1));
        body.args_len = args.len() as u64;
        let cgroup = cgroup(&read(&dir.join("cgroup")).unwrap_or_default());
        Some(Self {
            ppid: stat.ppid,
            start_ticks: stat.start_ticks,
            flags: 0,
            body,
            exe,
            cwd: link(&dir.join("cwd")),
            cgroup,
            comm: stat.comm,
            args,
        })
    }

    fn header(&self, kind: EventKind, pid: u32, boot_ns: u64, tail_len: u32) -> EventHeader {
        EventHeader {
            boot_ns,
            start_boot_ns: self.start_ticks.saturating_mul(TICK_NS),
            tag: Tag::ZERO,
            tgid: pid,
            tid: pid,
            tail_len,
            cpu: 0,
            kind: kind.raw(),
            flags: self.flags,
            tier: Tier::Snapshot as u8,
            version: VERSION,
            slot: 0,
            seq: 0,
        }
    }

    fn record(&self, pid: u32, parent_start: u64, boot_ns: u64, tag: Tag) -> Bytes {
        let mut body = self.body;
        body.parent_start_boot_ns = parent_start.saturating_mul(TICK_NS);
        let mut tail = Vec::with_capacity(512);
        let mut section = |bytes: &[u8], max: usize| -> u16 {
            let kept = bytes.get(..bytes.len().min(max)).unwrap_or_default();
            tail.extend_from_slice(kept);
            u16::try_from(kept.len()).unwrap_or(0)
        };
        body.exe_len = section(&components(&self.exe), PATH_BYTES);
        body.cwd_len = section(&components(&self.cwd), PATH_BYTES);
        body.cgroup_len = section(&components(&self.cgroup), CGROUP_BYTES);
        body.filename_len = section(&self.comm, STRING_BYTES);
        body.interp_len = section(&self.comm, STRING_BYTES);
        body.args_head_len = section(&self.args, ARGS_HEAD_BYTES);
        let rest = self.args.get(ARGS_HEAD_BYTES..).unwrap_or_default();
        let end = rest
            .get(rest.len().saturating_sub(ARGS_TAIL_BYTES)..)
            .unwrap_or_default();
        body.args_tail_len = section(end, ARGS_TAIL_BYTES);
        let mut header = self.header(
            EventKind::Observed,
            pid,
            boot_ns,
            u32::try_from(tail.len()).unwrap_or(0),
        );
        header.tag = tag;
        if end.len() < rest.len() {
            header.flags |= flag::ARGS_TRUNCATED;
        }
        let mut record = as_bytes(&header).to_vec();
        record.extend_from_slice(as_bytes(&body));
        record.extend_from_slice(&tail);
        record.into()
    }
}

/// Whether a process whose first thread has ended has others.
fn has_threads(dir: &Path) -> bool {
    fs::read_dir(dir.join("task")).is_ok_and(|tasks| tasks.count() > 1)
}

/// What `/proc/PID/stat` says (proc_pid_stat(5)).
struct Stat {
    comm: Vec<u8>,
    state: u8,
    ppid: u32,
    pgid: u32,
    sid: u32,
    tty: u32,
    /// `task_struct.flags`
    flags: u32,
    start_ticks: u64,
}

impl Stat {
    fn parse(text: &[u8]) -> Option<Self> {
        // The name is in parentheses and may itself hold any of them: the last one ends it.
        let open = text.iter().position(|&byte| byte == b'(')?;
        let close = text.iter().rposition(|&byte| byte == b')')?;
        let comm = text.get(open + 1..close)?.to_vec();
        let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let ppid = fields.next()?.parse().ok()?;
        let pgid = fields.next()?.parse().unwrap_or(0);
        let sid = fields.next()?.parse().unwrap_or(0);
        let tty = fields.next()?.parse().unwrap_or(0);
        // Fields 9 and 22 of the line.
        let flags = fields.nth(1)?.parse().ok()?;
        let start_ticks = fields.nth(12)?.parse().ok()?;
        Some(Self {
            comm,
            state,
            ppid,
            pgid,
            sid,
            tty,
            flags,
            start_ticks,
        })
    }
}

/// Takes users, groups, capabilities and the number in the own pid namespace.
fn status(text: &[u8], body: &mut ExecBody) {
    for line in text.split(|&byte| byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let mut numbers = value
            .split_ascii_whitespace()
            .map(|word| word.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        match name {
            "Uid" => (body.ids.uid, body.ids.euid, body.ids.suid) = (next(), next(), next()),
            "Gid" => (body.ids.gid, body.ids.egid, body.ids.sgid) = (next(), next(), next()),
            "NSpid" => body.ns.vpid = numbers.next_back().unwrap_or(0),
            "CapEff" => body.cap_effective = u64::from_str_radix(value.trim(), 16).unwrap_or(0),
            "CapPrm" => body.cap_permitted = u64::from_str_radix(value.trim(), 16).unwrap_or(0),
            _ => {}
        }
    }
}

/// The cgroup path that names the container, as the kernel side chooses it: a v1 memory or pids
/// hierarchy's where there is one and it is not its root, else the v2 one.
fn cgroup(text: &[u8]) -> Vec<u8> {
    let (mut v1, mut v2): (Option<&[u8]>, Option<&[u8]>) = (None, None);
    for line in text.split(|&byte| byte == b'\n') {
        let mut parts = line.splitn(3, |&byte| byte == b':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if controllers.is_empty() {
            v2 = Some(path);
        } else if controllers
            .split(|&byte| byte == b',')
            .any(|name| name == b"memory")
        {
            v1 = Some(path);
        }
    }
    v1.filter(|path| *path != b"/")
        .or(v2)
        .unwrap_or_default()
        .to_vec()
}

fn descriptor(path: &Path) -> FdInfo {
    let mut info = FdInfo::ZERO;
    let target = link(path);
    let starts = |prefix: &[u8]| target.starts_with(prefix);
    info.kind = if target.is_empty() {
        fd_kind::NONE
    } else if starts(b"socket:[") {
        fd_kind::SOCKET
    } else if starts(b"pipe:[") {
        fd_kind::PIPE
    } else if target == b"/dev/null" {
        fd_kind::NULL
    } else if starts(b"/dev/pts/") || starts(b"/dev/tty") || starts(b"/dev/console") {
        fd_kind::TTY
    } else if starts(b"/dev/") || !starts(b"/") {
        fd_kind::OTHER
    } else {
        fd_kind::FILE
    };
    if matches!(info.kind, fd_kind::SOCKET | fd_kind::PIPE) {
        let digits = target
            .split(|&byte| byte == b'[')
            .nth(1)
            .unwrap_or_default();
        let digits = digits.strip_suffix(b"]").unwrap_or_default();
        let number = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse().ok());
        info.inode = number.unwrap_or(0);
    }
    info
}

/// The listening sockets of the process's network namespace, by socket inode.
fn listeners(dir: &Path) -> HashMap<u64, SocketBody> {
    let mut found = HashMap::new();
    for (name, family) in [("tcp", 2u16), ("tcp6", 10)] {
        let text = read(&dir.join("net").join(name)).unwrap_or_default();
        for line in text.split(|&byte| byte == b'\n').skip(1) {
            if let Some((inode, body)) = std::str::from_utf8(line)
                .ok()
                .and_then(|line| listener(line, family))
            {
                found.insert(inode, body);
            }
        }
    }
    found
}

/// A line of `/proc/net/tcp`: local address, state `0A`, inode (proc_net_tcp, Documentation/
/// networking/proc_net_tcp.rst).
fn listener(line: &str, family: u16) -> Option<(u64, SocketBody)> {
    let mut fields = line.split_ascii_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    if fields.nth(1)? != "0A" {
        return None;
    }
    let inode = fields.nth(5)?.parse().ok()?;
    let mut body = SocketBody {
        socket: FdInfo {
            inode,
            local_port: u16::from_str_radix(port, 16).ok()?,
            family,
            kind: fd_kind::SOCKET,
            state: TCP_LISTEN,
            ..FdInfo::ZERO
        },
        socket_type: SOCK_STREAM,
        protocol: IPPROTO_TCP,
        fd: u32::MAX,
        ..SocketBody::ZERO
    };
    // Words of 32 bits, each printed as the host reads it.
    for (word, bytes) in address
        .as_bytes()
        .chunks(8)
        .zip(body.socket.local_addr.chunks_mut(4))
    {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    Some((inode, body))
}

fn listening(dir: &Path, table: &HashMap<u64, SocketBody>) -> Vec<SocketBody> {
    let mut inodes = HashSet::new();
    for entry in fs::read_dir(dir.join("fd")).into_iter().flatten().flatten() {
        let target = link(&entry.path());
        if let Some(inode) = target
            .strip_prefix(b"socket:[")
            .and_then(|rest| rest.strip_suffix(b"]"))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<u64>().ok())
        {
            inodes.insert(inode);
        }
    }
    let mut bodies: Vec<SocketBody> = inodes
        .iter()
        .filter_map(|inode| table.get(inode))
        .copied()
        .collect();
    bodies.sort_unstable_by_key(|body| (body.socket.local_port, body.socket.family));
    bodies
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .ok()?
        .take(FILE_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

fn link(path: &Path) -> Vec<u8> {
    fs::read_link(path)
        .map(PathBuf::into_os_string)
        .map_or_else(|_| Vec::new(), |target| target.as_bytes().to_vec())
}

fn number(path: &Path) -> u32 {
    read(path)
        .and_then(|text| String::from_utf8(text).ok())
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(u32::MAX)
}

/// `mnt:[4026531841]`
fn namespace(path: &Path) -> u32 {
    let target = link(path);
    let digits = target
        .split(|&byte| byte == b'[')
        .nth(1)
        .and_then(|rest| rest.strip_suffix(b"]"));
    digits
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

/// From user space's encoding of a device number to the kernel's (`new_decode_dev`, `MKDEV`,
/// include/linux/kdev_t.h).
fn kernel_dev(dev: u64) -> u32 {
    rustix::fs::major(dev) << 20 | rustix::fs::minor(dev)
}

/// The `tty_nr` of stat: `new_encode_dev`, minor bits 0-7 and 20-31, major bits 8-19.
fn tty(number: u32) -> u32 {
    if number == 0 {
        0
    } else {
        kernel_dev(number.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Payload, decode};

    #[test]
    fn stat_with_a_hostile_name() {
        let line = b"42 (a) S 1 (b) R 7 8 9 34817 0 4194304 1 2 3 4 5 6 7 8 20 0 1 0 5555 9 9";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat.comm, b"a) S 1 (b");
        assert_eq!(
            (stat.state, stat.ppid, stat.pgid, stat.sid),
            (b'R', 7, 8, 9)
        );
        assert_eq!((stat.flags, stat.start_ticks), (4_194_304, 5555));
        assert_eq!(tty(stat.tty), 136 << 20 | 1);
    }

    #[test]
    fn a_listening_line() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     \
                    0        0 31337 1 0000000000000000 100 0 0 10 0";
        let (inode, body) = listener(line, 2).unwrap();
        assert_eq!((inode, body.socket.local_port), (31337, 8080));
        assert_eq!(body.socket.local_addr[..4], [127, 0, 0, 1]);
        assert!(listener(&line.replace(" 0A ", " 01 "), 2).is_none());
    }

    #[test]
    fn the_container_hierarchy_is_chosen() {
        let hybrid = b"5:memory:/docker/abc\n1:name=systemd:/x\n0::/system.slice/docker.service\n";
        assert_eq!(cgroup(hybrid), b"/docker/abc");
        assert_eq!(cgroup(b"5:memory:/\n0::/user.slice\n"), b"/user.slice");
        assert_eq!(cgroup(b"0::/\n"), b"/");
    }

    #[test]
    fn who_does_not_answer_is_set_aside() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, start, uids) in [
            (7, 70, "0 0"),
            (8, 80, "5 5"),
            (9, 90, "0 5"),
            (10, 100, "6 0"),
        ] {
            let dir = proc.path().join(pid.to_string());
            fs::create_dir_all(dir.join("task")).unwrap();
            let stat = format!("{pid} (x) S 1 1 1 0 0 0 1 2 3 4 5 6 7 8 20 0 1 0 {start} 9");
            fs::write(dir.join("stat"), stat).unwrap();
            fs::write(dir.join("status"), format!("Uid: {uids} 0 0\n")).unwrap();
        }
        let mut aside = Aside::default();
        assert_eq!(aside.add(proc.path(), 7), None);
        assert_eq!(aside.add(proc.path(), 8), None);
        assert!(aside.holds(7, 70, 0) && aside.holds(8, 80, 5));
        // Another with the number, another of root, another of the user.
        assert!(!aside.holds(7, 71, 0) && !aside.holds(6, 70, 0) && !aside.holds(6, 60, 5));
        assert_eq!(aside.add(proc.path(), 9), Some(5));
        assert!(aside.holds(6, 60, 5) && !aside.holds(6, 60, 6));
        assert_eq!(aside.add(proc.path(), 10), None);
        aside.add_all_users();
        assert!(aside.holds(1, 1, 77) && !aside.holds(1, 1, 0));
        assert_eq!(aside.len(), 4);
    }

    #[test]
    fn a_maker_comes_before_whom_it_made() {
        let proc = tempfile::tempdir().unwrap();
        // The numbers have begun anew after the first.
        for (pid, parent, start) in [(900, 1, 50), (30, 900, 60), (40, 30, 61), (1, 0, 1)] {
            let dir = proc.path().join(pid.to_string());
            fs::create_dir_all(dir.join("task")).unwrap();
            let stat = format!("{pid} (x) S {parent} 1 1 0 0 0 1 2 3 4 5 6 7 8 20 0 1 0 {start} 9");
            fs::write(dir.join("stat"), stat).unwrap();
            fs::write(dir.join("status"), "").unwrap();
        }
        let mut order = Vec::new();
        take(proc.path(), 7, |record| {
            order.push(decode(&record).unwrap().meta.subject.tgid);
        })
        .unwrap();
        assert_eq!(order, [1, 900, 30, 40]);
    }

    #[test]
    fn who_has_ended_holds_no_number() {
        let proc = Path::new("/proc");
        let mut child = std::process::Command::new("/bin/cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id();
        assert!(started(proc, pid) >= started(proc, std::process::id()));
        // A zombie: it has ended, and its entry is there until it is waited for.
        drop(child.stdin.take());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while started(proc, pid).is_some() {
            assert!(std::time::Instant::now() < deadline, "it does not end");
            std::thread::yield_now();
        }
        assert!(proc.join(pid.to_string()).exists());
        child.wait().unwrap();
        assert_eq!(started(proc, pid), None);
    }

    #[test]
    fn this_process_is_found_as_itself() {
        let mut mine = None;
        let count = take(Path::new("/proc"), 7, |record| {
            let event = decode(&record).unwrap();
            if event.meta.subject.tgid == std::process::id()
                && let Payload::Observed(exec) = event.payload
            {
                mine = Some((event.meta, exec));
            }
        })
        .unwrap();
        let (meta, exec) = mine.unwrap();
        assert!(count > 1);
        assert_eq!(meta.boot_ns, 7);
        assert_eq!(
            exec.exe,
            std::env::current_exe().unwrap().as_os_str().as_bytes()
        );
        let args: Vec<Vec<u8>> = std::env::args_os()
            .map(|arg| arg.as_bytes().to_vec())
            .collect();
        assert_eq!(exec.args, args);
        assert_eq!(
            exec.cwd,
            std::env::current_dir().unwrap().as_os_str().as_bytes()
        );
        assert_eq!(exec.parent.tgid, std::os::unix::process::parent_id());
        assert_eq!(exec.ids.uid, rustix::process::getuid().as_raw());
    }
}
