//! Reads which directories a running server serves from the server's own configuration. I/O: it may take
//! seconds, and longer where a file system hangs, so it runs on a thread of its own, never in the
//! pipeline.
//!
//! The configuration is read inside the server's root directory ([`jail`]), so that a container's is
//! read and the host's is not mistaken for it. It belongs to somebody else and may be made to do harm:
//! files, bytes, depth, names and time are all bounded, nothing is executed, and what could not be read
//! is told as a problem beside what could.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};

use super::directories::{Entry, Origin, too_wide};
use super::parse::{Dialect, Statement, What, apache};
use super::path;
use super::scope::{Scope, Shape};
use super::{Kind, parse};
use crate::event::ProcessKey;

pub mod identity;
pub mod jail;
mod plan;

use jail::Jail;
use plan::{Candidate, Plan, plan};

/// Longest configuration file that is read.
const FILE_BYTES: usize = 1024 * 1024;
/// Files at most that are read for one server: shared hosting has one per virtual host.
const FILES: usize = 256;
/// Bytes at most of all of them.
const TOTAL_BYTES: usize = 16 * 1024 * 1024;
/// Levels of includes.
const LEVELS: usize = 8;
/// Names at most that are listed to fill globs.
const NAMES: usize = 16_384;
/// Statements at most that are followed: files that include each other multiply.
const STATEMENTS: usize = 262_144;
/// Directories at most that one server gives.
const DIRECTORIES: usize = 2048;
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

/// One server's configuration, read from its first file on.
struct Walk<'a> {
    jail: &'a Jail,
    discovery: &'a mut Discovery,
    scope: Scope,
    bases: Vec<Vec<u8>>,
    config_dir: Vec<u8>,
    /// Files by path: one that is included a hundred times (`fastcgi_params`) is read once.
    parsed: HashMap<Vec<u8>, Rc<Vec<Statement>>>,
    /// Directories named so far.
    named: HashSet<(Vec<u8>, Kind)>,
    bytes_left: usize,
    names_left: usize,
    statements_left: usize,
    deadline: Instant,
    /// A bound was hit and told: read no more.
    stopped: bool,
    /// The server is root's: nobody else says what its configuration means.
    of_root: bool,
}

impl<'a> Walk<'a> {
    fn new(jail: &'a Jail, discovery: &'a mut Discovery) -> Self {
        Self {
            jail,
            discovery,
            scope: Scope::default(),
            bases: Vec::new(),
            config_dir: Vec::new(),
            parsed: HashMap::new(),
            named: HashSet::new(),
            bytes_left: TOTAL_BYTES,
            names_left: NAMES,
            statements_left: STATEMENTS,
            deadline: Instant::now() + TIME,
            stopped: false,
            of_root: false,
        }
    }

    fn server(&mut self, request: &DiscoverRequest, environ: &[u8]) {
        self.of_root = request.uid == 0;
        let args: Vec<&[u8]> = request.args.iter().map(Vec::as_slice).collect();
        let cwd = self.jail.inside(&request.cwd);
        let plan = plan(request.server, &args, self.jail.inside(&request.exe), cwd);
        let variables = environment(environ);
        for (name, value) in &variables {
            if *name == b"DOCUMENT_ROOT" && value.starts_with(b"/") {
                self.found(Kind::Served, value, "environment DOCUMENT_ROOT");
            }
        }
        for (kind, path, source) in &plan.directories {
            self.found(*kind, path, source);
        }
        let Some(dialect) = plan.dialect else {
            return;
        };
        self.scope = Scope::new(dialect == Dialect::Nginx);
        if let Some(candidate) = self.choose(request, &plan) {
            // nginx and php-fpm do not fill in the environment; nor does Tomcat, without a property.
            if matches!(dialect, Dialect::Apache | Dialect::Caddy) {
                for (name, value) in &variables {
                    self.scope.define_literal(name, value);
                }
            }
            if dialect == Dialect::Apache {
                self.envvars(&candidate, &variables);
            }
            for (name, value) in &plan.variables {
                self.scope.define_literal(name, value);
            }
            self.config_dir = path::parent(&candidate.file).to_vec();
            self.bases = candidate.bases;
            self.file(dialect, &candidate.file, 0, None);
        }
        for pattern in &plan.also {
            self.include(dialect, pattern, 1, None);
        }
    }

    fn choose(&mut self, request: &DiscoverRequest, plan: &Plan) -> Option<Candidate> {
        let exists = |candidate: &&Candidate| self.jail.canonical(&candidate.file).is_some();
        let chosen = plan.candidates.iter().find(exists).cloned();
        if chosen.is_none() && !plan.candidates.is_empty() {
            let files: Vec<_> = plan
                .candidates
                .iter()
                .take(3)
                .map(|c| shown(&c.file))
                .collect();
            let why = if plan.told {
                "which its arguments name, is not there"
            } else {
                "or where else it is usual: no configuration found"
            };
            let DiscoverRequest { server, tgid, .. } = request;
            self.problem(format!(
                "{server} (process {tgid}): {}, {why}; name its directories in `directories` of \
                 tracer's configuration",
                files.join(", ")
            ));
        }
        chosen
    }

    /// Debian's start script sets variables from this file; the environment, where it could be
    /// read, knows better.
    fn envvars(&mut self, candidate: &Candidate, environment: &[(&[u8], &[u8])]) {
        for base in &candidate.bases {
            let file = path::join(base, b"envvars");
            let Ok(text) = self.jail.read(&file, FILE_BYTES) else {
                continue;
            };
            for (name, value) in apache::envvars(&text) {
                if !environment.iter().any(|(known, _)| *known == name) {
                    self.scope.define_literal(&name, &value);
                }
            }
        }
    }

    fn file(&mut self, dialect: Dialect, file: &[u8], level: usize, by: Option<&str>) {
        if self.stopped {
            return;
        }
        if level > LEVELS {
            let by = by.unwrap_or_default();
            self.problem(format!("{by}: includes are nested more than {LEVELS} deep"));
            return;
        }
        let statements = match self.statements(dialect, file) {
            Ok(statements) => statements,
            Err(error) => {
                let file = shown(&self.jail.outside(file));
                let by = by.map(|by| format!("{by}: ")).unwrap_or_default();
                self.problem(format!("{by}{file}: {error}"));
                return;
            }
        };
        let shown = shown(&self.jail.outside(file));
        let of_root = self.of_root || self.jail.is_roots_alone(file);
        for Statement { line, what } in statements.iter() {
            if self.statements_left == 0 {
                self.stop("its files include each other too often");
            }
            if self.stopped {
                return;
            }
            self.statements_left -= 1;
            let source = || format!("{shown}:{line}");
            match what {
                What::Define { name, value } => self.scope.define(name, value),
                What::Base { path } => match self.scope.directory(path, Shape::Directory) {
                    Ok(Some(base)) => self.bases = vec![base],
                    Ok(None) => {}
                    Err(name) => self.unknown(&source(), &name),
                },
                What::Directory { kind, path, shape } => match self.scope.directory(path, *shape) {
                    Ok(Some(real)) => {
                        // What a relative path and a variable mean is up to who started the server.
                        let certain = path.starts_with(b"/") && !path.contains(&b'$');
                        let of_root = of_root && (self.of_root || certain);
                        let kind = self.believed(*kind, of_root, &real, source);
                        self.directory(kind, &real, &source());
                    }
                    Ok(None) => {}
                    Err(name) => self.unknown(&source(), &name),
                },
                What::Include { pattern, required } => {
                    let pattern = match self.scope.expand(pattern) {
                        Ok(pattern) => pattern,
                        Err(name) => {
                            self.unknown(&source(), &name);
                            continue;
                        }
                    };
                    let base = match dialect {
                        Dialect::Caddy => path::parent(file),
                        Dialect::Apache | Dialect::PhpFpm => {
                            self.bases.first().map_or(b"/".as_slice(), Vec::as_slice)
                        }
                        Dialect::Nginx | Dialect::Lighttpd | Dialect::Tomcat => &self.config_dir,
                    };
                    let pattern = path::join(base, &pattern);
                    let by = required.then(source);
                    self.include(dialect, &pattern, level + 1, by.as_deref());
                }
            }
        }
    }

    fn include(&mut self, dialect: Dialect, pattern: &[u8], level: usize, by: Option<&str>) {
        for file in self.expand(pattern) {
            // Apache reads every file of a directory, at any depth.
            if dialect == Dialect::Apache && level <= LEVELS && self.jail.is_dir(&file) {
                self.include(dialect, &path::join(&file, b"*"), level + 1, None);
                continue;
            }
            // An optional include of nothing is no problem; of something unreadable it is.
            if by.is_none() && self.jail.canonical(&file).is_none() {
                continue;
            }
            self.file(dialect, &file, level, by);
        }
    }

    fn statements(&mut self, dialect: Dialect, file: &[u8]) -> io::Result<Rc<Vec<Statement>>> {
        if let Some(statements) = self.parsed.get(file) {
            return Ok(Rc::clone(statements));
        }
        if self.parsed.len() >= FILES {
            self.stop(&format!("has more than {FILES} files"));
        } else if Instant::now() > self.deadline {
            self.stop(&format!("took longer than {} s to read", TIME.as_secs()));
        } else if self.bytes_left == 0 {
            self.stop(&format!("has more than {TOTAL_BYTES} bytes"));
        }
        if self.stopped {
            return Err(io::Error::other("not read"));
        }
        let text = self.jail.read(file, FILE_BYTES.min(self.bytes_left))?;
        self.bytes_left = self.bytes_left.saturating_sub(text.len());
        self.discovery.files += 1;
        if dialect == Dialect::Caddy && text.trim_ascii_start().starts_with(b"{\"") {
            return Err(io::Error::other("JSON is not read, only Caddyfiles"));
        }
        let statements = Rc::new(dialect.parse(&text));
        if statements.len() >= parse::MAX_STATEMENTS {
            self.problem(format!("{}: cut, it is too long", shown(file)));
        }
        self.parsed.insert(file.to_vec(), Rc::clone(&statements));
        Ok(statements)
    }

    /// The files that a glob names, sorted.
    fn expand(&mut self, pattern: &[u8]) -> Vec<Vec<u8>> {
        let mut found = vec![Vec::new()];
        if !path::is_glob(pattern) {
            return path::normalise(pattern)
                .is_some()
                .then(|| pattern.to_vec())
                .into_iter()
                .collect();
        }
        for segment in path::segments(pattern) {
            if !path::is_glob(segment) {
                for prefix in &mut found {
                    prefix.push(b'/');
                    prefix.extend_from_slice(segment);
                }
                continue;
            }
            let mut next = Vec::new();
            for prefix in found {
                if Instant::now() > self.deadline || next.len() >= FILES {
                    break;
                }
                let directory = if prefix.is_empty() {
                    b"/"
                } else {
                    prefix.as_slice()
                };
                let Ok((names, more)) = self.jail.list(directory, self.names_left) else {
                    continue;
                };
                self.names_left -= names.len();
                if more {
                    self.problem(format!("{}: too many names to look for", shown(pattern)));
                }
                let fit = names.iter().filter(|name| path::glob(segment, name));
                next.extend(fit.map(|name| [prefix.as_slice(), b"/", name.as_slice()].concat()));
            }
            found = next;
        }
        found
    }

    /// Programs of a `cgi` directory are let pass, so that counts only where root says so.
    fn believed(
        &mut self,
        kind: Kind,
        of_root: bool,
        path: &[u8],
        source: impl Fn() -> String,
    ) -> Kind {
        if kind != Kind::Cgi || of_root {
            return kind;
        }
        self.problem(format!(
            "{}: {} is taken for served, not for cgi: neither the server nor this file is root's alone",
            source(),
            shown(path)
        ));
        Kind::Served
    }

    /// A directory of a configuration, which may be relative.
    fn directory(&mut self, kind: Kind, path: &[u8], source: &str) {
        if path.starts_with(b"/") {
            self.found(kind, path, source);
            return;
        }
        let several = self.bases.len() > 1;
        for base in self.bases.clone() {
            let path = path::join(&base, path);
            if !several || self.jail.is_dir(&path) {
                self.found(kind, &path, source);
            }
        }
    }

    fn found(&mut self, kind: Kind, inside: &[u8], source: &str) {
        let named = path::normalise(inside).map(|path| self.jail.outside(&path));
        let led_to = canonical(self.jail, inside).filter(|path| Some(path) != named.as_ref());
        for path in [named, led_to].into_iter().flatten() {
            if too_wide(&path) {
                self.problem(format!(
                    "{source}: {} is too wide to watch, left out",
                    shown(&path)
                ));
                continue;
            }
            if self.named.len() >= DIRECTORIES {
                self.stop(&format!("names more than {DIRECTORIES} directories"));
                return;
            }
            if self.named.insert((path.clone(), kind)) {
                self.discovery.directories.push(Found {
                    path,
                    kind,
                    source: source.to_owned(),
                });
            }
        }
    }

    fn unknown(&mut self, source: &str, name: &[u8]) {
        self.problem(format!(
            "{source}: the value of ${{{}}} is not known",
            shown(name)
        ));
    }

    fn problem(&mut self, problem: String) {
        match self.discovery.problems.len() {
            0..PROBLEMS => self.discovery.problems.push(problem),
            PROBLEMS => self
                .discovery
                .problems
                .push("and further problems".to_owned()),
            _ => {}
        }
    }

    fn stop(&mut self, why: &str) {
        if !self.stopped {
            self.stopped = true;
            self.problem(format!("its configuration {why}: the rest is left out"));
        }
    }
}

/// `NAME=value` strings of an environment.
fn environment(environ: &[u8]) -> Vec<(&[u8], &[u8])> {
    environ
        .split(|&byte| byte == 0)
        .filter_map(|variable| {
            let at = variable.iter().position(|&byte| byte == b'=')?;
            let (name, value) = variable.split_at_checked(at)?;
            Some((name, value.get(1..)?))
        })
        .take(1024)
        .collect()
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
