//! Reads which directories a running server serves from the server's own configuration. I/O: it may take
//! seconds, and longer where a file system hangs, so it runs on a thread of its own, never in the
//! pipeline.
//!
//! The configuration is read inside the server's root directory ([`jail`]), so that a container's is
//! read and the host's is not mistaken for it. It belongs to somebody else and may be made to do harm:
//! files, bytes, depth, names and time are all bounded, nothing is executed, and what could not be read
//! is told as a problem beside what could.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};

use super::directories::{Entry, Origin, too_wide};
use super::{Kind, path};
use crate::event::ProcessKey;

pub mod identity;
pub mod jail;
mod plan;
mod walk;

use jail::Jail;
use walk::Walk;

/// Longest configuration file that is read.
const FILE_BYTES: usize = 1024 * 1024;
/// Files at most that are read for one server: shared hosting has one per virtual host.
const FILES: usize = 256;
/// Names at most that are listed to fill globs.
const NAMES: usize = 16_384;
/// Problems at most that are told.
const PROBLEMS: usize = 32;
/// Longest environment that is read.
const ENVIRON_BYTES: usize = 256 * 1024;
/// After this nothing more is begun.
const TIME: Duration = Duration::from_secs(2);

/// A running server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoverRequest {
    /// Its process.
    pub tgid: u32,
    /// When that started, as field 22 of `/proc/PID/stat` has it: a pid that is used again is
    /// another process, whose configuration is not this server's.
    pub start_ticks: u64,
    /// Its name in the table of servers: `nginx`, `apache`, `php-fpm`.
    pub server: &'static str,
    /// Its arguments, or the title it wrote over them.
    pub args: Vec<Vec<u8>>,
    /// Its executable.
    pub exe: Vec<u8>,
    /// Its working directory.
    pub cwd: Vec<u8>,
    /// Its mount namespace; zero where that is not known and not checked.
    pub mnt_ns: u32,
    /// The user that it runs as, in the initial user namespace: zero only where it is all root's.
    pub uid: u32,
}

impl DiscoverRequest {
    /// The agent itself, to see what it sees.
    ///
    /// # Errors
    ///
    /// Where `/proc` does not tell when it started.
    pub fn own() -> io::Result<Self> {
        let tgid = std::process::id();
        let stat = read_proc(&open_process(tgid)?, "stat", 4096)?;
        let start_ticks = start_ticks(&stat)
            .ok_or_else(|| io::Error::other("/proc/self/stat is not understood"))?;
        Ok(Self {
            tgid,
            start_ticks,
            server: "",
            args: Vec::new(),
            exe: Vec::new(),
            cwd: Vec::new(),
            mnt_ns: 0,
            uid: 0,
        })
    }
}

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The directories, as the server's mount namespace knows them.
    pub directories: Vec<Found>,
    /// What could not be read, for the log; each is one line.
    pub problems: Vec<String>,
    /// Configuration files that were read.
    pub files: usize,
    /// What this hangs on: where one of them [`is_changed`], it has to be found out again.
    pub seen: Vec<Seen>,
}

/// Something as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its path within the server's root.
    path: Vec<u8>,
    state: Option<jail::State>,
    /// Whether its content counts: that of a served directory does not, but which one it is.
    by_content: bool,
}

/// A directory that a server names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its path: as named, or with every link followed, which is another entry. A segment that is
    /// exactly `*` stands for any one name.
    pub path: Vec<u8>,
    /// What it is to the server.
    pub kind: Kind,
    /// `file:line` that names it.
    pub source: String,
}

impl Found {
    /// The entry for the set that events are looked up in.
    #[must_use]
    pub fn into_entry(self, mnt_ns: u32) -> Entry {
        let Self { path, kind, source } = self;
        Entry {
            pattern: path,
            kind,
            origin: Origin::Discovered,
            source,
            mnt_ns: Some(mnt_ns),
        }
    }
}

/// Reads the configuration of a running server.
#[must_use]
pub fn discover(request: &DiscoverRequest) -> Discovery {
    let mut discovery = Discovery::default();
    if let Err(problem) = discover_in(request, &mut discovery) {
        // Another process's directories are worse than none.
        discovery.directories.clear();
        let DiscoverRequest { server, tgid, .. } = request;
        discovery
            .problems
            .push(format!("{server} (process {tgid}): {problem}"));
    }
    discovery
}

/// The path that a directory of this host has once its links are followed, where it is another: for
/// directories of the agent's own configuration. Segments from the first `*` on stay.
#[must_use]
pub fn canonical_on_host(pattern: &[u8]) -> Option<Vec<u8>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).ok()?;
    let canonical = canonical(&Jail::new(root).ok()?, pattern)?;
    (canonical != path::normalise(pattern)? && !too_wide(&canonical)).then_some(canonical)
}

/// Where a directory leads that a process named, with every link followed as that process would, in
/// whichever of these processes still lives and is in the mount namespace. May wait for a file system
/// that a user's program answers for, so it is for a thread that can be left behind.
#[must_use]
pub fn resolve(processes: &[ProcessKey], mnt_ns: u32, directory: &[u8]) -> Option<Vec<u8>> {
    let open = |key: &ProcessKey| Entered::new(*key, mnt_ns).ok();
    let entered = processes.iter().find_map(open)?;
    let jail = entered.jail();
    jail.canonical(jail.inside(directory))
}

/// A process whose root directory was entered.
#[derive(Debug)]
pub struct Entered {
    key: ProcessKey,
    mnt_ns: u32,
    process: OwnedFd,
    jail: Jail,
}

impl Entered {
    /// Enters a process that still runs and is in this mount namespace.
    ///
    /// # Errors
    ///
    /// Where it does not or is not.
    pub fn new(key: ProcessKey, mnt_ns: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let process = open_process(key.tgid)?;
        let root = rustix::fs::openat(&process, "root", flags, Mode::empty())?;
        let entered = Self {
            key,
            mnt_ns,
            process,
            jail: Jail::new(root)?,
        };
        is(&entered.process, key.start_ticks, mnt_ns).map_err(io::Error::other)?;
        Ok(entered)
    }

    /// Its root directory.
    #[must_use]
    pub const fn jail(&self) -> &Jail {
        &self.jail
    }

    /// Whether it runs still, and where it was.
    #[must_use]
    pub fn is_still(&self) -> bool {
        is(&self.process, self.key.start_ticks, self.mnt_ns).is_ok()
    }

    /// Whether it is in the namespace of this kind and number.
    #[must_use]
    pub fn is_in(&self, kind: &str, number: u32) -> bool {
        let link = rustix::fs::readlinkat(&self.process, format!("ns/{kind}"), Vec::new());
        link.is_ok_and(|link| link.as_bytes() == format!("{kind}:[{number}]").as_bytes())
    }

    /// A file of `/proc/PID`, of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// Where it cannot be read or is longer.
    pub fn read(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        read_proc(&self.process, name, limit)
    }

    /// The directory of the process in `/proc`.
    #[must_use]
    pub const fn process(&self) -> &OwnedFd {
        &self.process
    }
}

/// Whether anything is not as it was when a configuration was read, which is then read again. A server
/// that has ended has not changed.
#[must_use]
pub fn is_changed(request: &DiscoverRequest, seen: &[Seen]) -> bool {
    let key = ProcessKey {
        tgid: request.tgid,
        start_ticks: request.start_ticks,
    };
    let Ok(entered) = Entered::new(key, request.mnt_ns) else {
        return false;
    };
    seen.iter().any(|seen| {
        let now = entered.jail().state(&seen.path);
        if seen.by_content {
            now != seen.state
        } else {
            now.map(|state| state.file) != seen.state.map(|state| state.file)
        }
    })
}

fn discover_in(request: &DiscoverRequest, discovery: &mut Discovery) -> Result<(), String> {
    let ended = |_| "ended before its configuration was read".to_owned();
    let process = open_process(request.tgid).map_err(ended)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    check(&process, request)?;
    let root = rustix::fs::openat(&process, "root", flags, Mode::empty())
        .map_err(|error| format!("cannot open its root directory: {error}"))?;
    let jail = Jail::new(root).map_err(|error| format!("cannot name its root: {error}"))?;
    let environ = read_proc(&process, "environ", ENVIRON_BYTES).unwrap_or_default();
    let mut walk = Walk::new(&jail, discovery);
    walk.server(request, &environ);
    check(&process, request)
}

/// The directory of a process. Held open, it is of that process alone: once it ended, look-ups in it
/// fail.
fn open_process(tgid: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let process = rustix::fs::openat(CWD, format!("/proc/{tgid}"), flags, Mode::empty())?;
    Ok(process)
}

/// Whether the process is still the one asked for, where it was.
fn check(process: &OwnedFd, request: &DiscoverRequest) -> Result<(), String> {
    is(process, request.start_ticks, request.mnt_ns)
}

fn is(process: &OwnedFd, started_ticks: u64, mnt_ns: u32) -> Result<(), String> {
    let stat = read_proc(process, "stat", 4096);
    let started = stat.ok().and_then(|stat| start_ticks(&stat));
    if started != Some(started_ticks) {
        return Err("ended before its configuration was read".to_owned());
    }
    if mnt_ns != 0 {
        let link = rustix::fs::readlinkat(process, "ns/mnt", Vec::new());
        let link = link.map_err(|error| format!("cannot read its mount namespace: {error}"))?;
        if link.as_bytes() != format!("mnt:[{mnt_ns}]").as_bytes() {
            return Err("changed its mount namespace".to_owned());
        }
    }
    Ok(())
}

/// Field 22 of `/proc/PID/stat`. The second field is a name that may hold anything; its end is the last
/// parenthesis.
fn start_ticks(stat: &[u8]) -> Option<u64> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = stat.get(end + 1..)?.trim_ascii_start();
    let field = fields.split(|&byte| byte == b' ').nth(22 - 3)?;
    str::from_utf8(field).ok()?.parse().ok()
}

fn read_proc(process: &OwnedFd, name: &str, limit: usize) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(process, name, flags, Mode::empty())?;
    jail::read_limited(File::from(file), limit)
}

fn canonical(jail: &Jail, pattern: &[u8]) -> Option<Vec<u8>> {
    let star = pattern
        .windows(2)
        .position(|pair| pair == b"/*")
        .filter(|&at| matches!(pattern.get(at + 2), None | Some(b'/')));
    let (literal, rest) = pattern.split_at_checked(star.unwrap_or(pattern.len()))?;
    path::normalise(&[jail.canonical(literal)?.as_slice(), rest].concat())
}

/// A path for people: what would forge or break a line of the log is escaped.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path)
        .chars()
        .flat_map(|char| {
            let escaped = char.is_control().then(|| char.escape_default());
            let plain = (!char.is_control()).then_some(char);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests;
