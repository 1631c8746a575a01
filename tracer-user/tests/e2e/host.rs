//! What the tests need of the host: programs, folders, ports, processes, and waiting with a
//! deadline. Starts nothing that it does not end, and ends nothing by name.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use rustix::process::{Pid, Signal};
use tracer::detect::roles::entry;

/// How long anything may take: generous, because machines that run tests are busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Why a test cannot run here. It passes, and says so.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

/// What a test gives where it does not panic.
pub(crate) type Outcome = Result<(), Skip>;

/// Writes a line past the test runner's capture: what was skipped or measured is seen without
/// `--nocapture`.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stderr().lock();
    writeln!(out, "{line}").expect("stderr");
}

/// The program of that name where the distribution puts it. `PATH` is not asked: version managers
/// put shell scripts there, and these tests count shells.
pub(crate) fn program(name: &str) -> Result<PathBuf, Skip> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Skip(format!("{name} is not installed")))
}

/// The newest program whose name is `prefix` and a version: Debian has `php-fpm8.2`.
pub(crate) fn versioned(prefix: &str) -> Result<PathBuf, Skip> {
    let mut found: Vec<PathBuf> = ["/usr/sbin", "/usr/bin"]
        .iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_prefix(prefix))
                .is_some_and(|rest| {
                    rest.bytes()
                        .all(|byte| byte.is_ascii_digit() || byte == b'.')
                })
        })
        .collect();
    found.sort();
    found
        .pop()
        .ok_or_else(|| Skip(format!("{prefix} is not installed")))
}

/// The last part of a path, as text.
pub(crate) fn base_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The executable behind a path, links resolved: what the kernel runs.
pub(crate) fn real(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    fs::canonicalize(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A loopback port that nobody listens on now. To find it nobody listens either: these tests would be a server
/// of which everything here descends.
pub(crate) fn free_port() -> u16 {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    let address = getsockname(&socket).expect("its address");
    SocketAddrV4::try_from(address)
        .expect("an IPv4 address")
        .port()
}

/// Waits until `check` gives something, or panics naming what was waited for.
pub(crate) fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A word that occurs nowhere else, safe in shells, URLs and file names.
pub(crate) fn token() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("tok{}x{next}", std::process::id())
}

/// A folder of its own, removed at the end.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    /// Makes one that every user may enter: servers give up root before they read it.
    pub(crate) fn new(what: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tracer-e2e-{what}-{}", token()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        open_to_all(&path);
        Self(real(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a folder in it that `user` owns.
    pub(crate) fn dir(&self, name: &str, user: Option<&User>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        open_to_all(&path);
        if let Some(user) = user {
            std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid)).expect("chown");
        }
        path
    }

    /// Writes a file in it.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.join(name);
        write(&path, content);
        path
    }

    /// Writes a file in it that may be executed.
    pub(crate) fn script(&self, name: &str, content: &str) -> PathBuf {
        let path = self.file(name, content);
        open_to_all(&path);
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::env::var_os("TRACER_E2E_KEEP").is_none() {
            fs::remove_dir_all(&self.0).ok();
        }
    }
}

/// Writes a file, as this process.
pub(crate) fn write(path: &Path, content: &str) {
    fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// A user of `/etc/passwd`.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    pub(crate) fn named(name: &str) -> Result<Self, Skip> {
        let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
        passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&name))
            .and_then(|fields| {
                Some(Self {
                    name: name.to_owned(),
                    uid: fields.get(2)?.parse().ok()?,
                    gid: fields.get(3)?.parse().ok()?,
                })
            })
            .ok_or_else(|| Skip(format!("there is no user {name}")))
    }
}

/// One process of `/proc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) executable: PathBuf,
}

/// The process with that number, where there is one.
pub(crate) fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold any byte; what follows the last one is numbers.
    let (_, rest) = stat.rsplit_once(')')?;
    Some(Process {
        pid,
        parent: rest.split_whitespace().nth(1)?.parse().ok()?,
        executable: fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default(),
    })
}

/// This process and its ancestors, nearest first, to PID 1.
pub(crate) fn own_lineage() -> Vec<Process> {
    let mut chain = Vec::new();
    let mut next = std::process::id();
    while next != 0 {
        let found = process(next).unwrap_or_else(|| panic!("/proc/{next} of an ancestor"));
        next = found.parent;
        chain.push(found);
    }
    chain
}

/// Skips where these tests were started from a login session: what only listens, and is no server by its name,
/// is a development server there, which raises no alert by design.
pub(crate) fn outside_sessions() -> Outcome {
    for process in own_lineage().iter().filter(|process| process.pid != 1) {
        let name = base_name(&process.executable);
        match entry::named(name.as_bytes()) {
            Some(way) if way.is_session() => {
                return Err(Skip(format!(
                    "started from a session of {name}, where a server in development raises no alert; run the tests \
                     as a service, as `systemd-run --pipe` does"
                )));
            }
            Some(_) => break,
            None => {}
        }
    }
    Ok(())
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&candidate| process(candidate).is_some_and(|found| found.parent == pid))
        .collect()
}

/// Sends a signal to a process that these tests started.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a pid");
    rustix::process::kill_process(pid, signal).ok();
}

/// A program in the foreground that serves until it is told to stop.
pub(crate) struct Daemon {
    child: Child,
    name: String,
    stop: Signal,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with its output in `log`; `stop` is its signal for a clean end.
    pub(crate) fn start(command: &mut Command, log: PathBuf, stop: Signal) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let out = File::create(&log).expect("log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("log file"))
            .stderr(out)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        Self {
            child,
            name,
            stop,
            log,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it answers, and panics with its log where it ends or never does.
    pub(crate) fn ready(&mut self, what: &str, mut check: impl FnMut() -> bool) {
        let start = Instant::now();
        while !check() {
            if let Some(status) = self.child.try_wait().expect("wait") {
                panic!("{}: ended with {status}: {}", self.name, self.log());
            }
            assert!(
                start.elapsed() < DEADLINE,
                "{}: no {what}: {}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it the way its administrator would.
    pub(crate) fn stop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let start = Instant::now();
        signal(self.pid(), self.stop);
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > DEADLINE {
                // Children first: a killed master leaves its workers with the port.
                for child in children(self.pid()) {
                    signal(child, Signal::KILL);
                }
                self.child.kill().ok();
                self.child.wait().ok();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a command to its end and panics with its output where it fails.
pub(crate) fn run(command: &mut Command) -> Output {
    let name = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(
        output.status.success(),
        "{name}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// What an administrator's shell looks through: dpkg refuses to work without the `sbin` directories.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a shell script, as an administrator would.
pub(crate) fn shell(dir: &Path, script: &str) -> String {
    let output = run(Command::new("/bin/sh")
        .arg("-ec")
        .arg(script)
        .env("PATH", PATH)
        .current_dir(dir));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
