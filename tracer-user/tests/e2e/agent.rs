//! The agent under test, as a user runs it: a process, its lines on stdout, its words on stderr.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use crate::host::{self, DEADLINE, Skip, TempDir};

/// A line of the agent.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) document: Value,
    /// When it was read.
    pub(crate) received: SystemTime,
}

/// How the agent ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

/// `tracer run`, ended with the value.
pub(crate) struct Agent {
    child: Child,
    inbox: Arc<Inbox>,
    readers: Vec<JoinHandle<()>>,
    /// Its control socket and its state are in it.
    _folder: TempDir,
}

#[derive(Default)]
struct Inbox {
    state: Mutex<Received>,
    changed: Condvar,
}

#[derive(Default)]
struct Received {
    lines: Vec<Line>,
    /// Lines of stdout that are not JSON objects.
    broken: Vec<String>,
    stderr: Vec<String>,
    closed: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Received> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, add: impl FnOnce(&mut Received)) {
        add(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until `check` gives something, or gives up at the deadline.
    fn wait<T>(
        &self,
        deadline: Duration,
        mut check: impl FnMut(&Received) -> Option<T>,
    ) -> Option<T> {
        let start = Instant::now();
        let mut state = self.lock();
        loop {
            if let Some(value) = check(&state) {
                return Some(value);
            }
            let left = deadline.checked_sub(start.elapsed())?;
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Agent {
    /// Starts it and waits until it is ready. Skips where the kernel or the caller's rights do
    /// not allow it; anything else that ends it is a failure.
    pub(crate) fn start(args: &[&str]) -> Result<Self, Skip> {
        if !rustix::process::geteuid().is_root() {
            return Err(Skip("only root may load BPF programs".to_owned()));
        }
        // What an agent of another test left is nobody's business, nor may two ask for one socket. Both are in one
        // directory, as they are by default.
        let folder = TempDir::new("run");
        let mut command = Command::new(binary());
        command.arg("run");
        for (option, name) in [("--control", "control.sock"), ("--state", "state")] {
            if !args.contains(&option) {
                command.arg(option).arg(folder.join("run").join(name));
            }
        }
        // The stories of one server are many in a minute, and each of them is looked for.
        if !args.contains(&"--config") {
            let config = folder.join("tracer.yaml");
            std::fs::write(&config, "incidents: {at_once: 0}\n").expect("a new file");
            command.arg("--config").arg(config);
        }
        let mut child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary().display()));
        let inbox = Arc::new(Inbox::default());
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        let readers = vec![
            std::thread::spawn({
                let inbox = Arc::clone(&inbox);
                move || read_documents(stdout, &inbox)
            }),
            std::thread::spawn({
                let inbox = Arc::clone(&inbox);
                move || {
                    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                        inbox.put(|state| state.stderr.push(line));
                    }
                }
            }),
        ];
        let mut agent = Self {
            child,
            inbox,
            readers,
            _folder: folder,
        };
        agent.until_ready()?;
        Ok(agent)
    }

    fn until_ready(&mut self) -> Result<(), Skip> {
        let ready = self.inbox.wait(DEADLINE, |state| {
            let ready = state
                .stderr
                .iter()
                .any(|line| line.contains("tracer ready"));
            (ready || state.closed).then_some(ready)
        });
        if ready == Some(true) {
            let deaf = |line: &&String| line.contains("cannot ask this agent");
            assert_eq!(self.inbox.lock().stderr.iter().find(deaf), None);
            return Ok(());
        }
        if ready.is_none() {
            self.child.kill().ok();
        }
        let ended = self.ended();
        match ended.status.code() {
            Some(3 | 4) => Err(Skip(ended.stderr.trim().replace('\n', " | "))),
            _ => panic!("tracer run: {}, not ready: {}", ended.status, ended.stderr),
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many lines came until now: a place to look from.
    pub(crate) fn mark(&self) -> usize {
        self.inbox.lock().lines.len()
    }

    /// The lines since a mark.
    pub(crate) fn since(&self, mark: usize) -> Vec<Line> {
        self.inbox
            .lock()
            .lines
            .get(mark..)
            .unwrap_or_default()
            .to_vec()
    }

    /// Waits for a line after the mark that `matches`; `None` where none comes in time.
    pub(crate) fn wait_for(
        &self,
        mark: usize,
        deadline: Duration,
        matches: impl Fn(&Value) -> bool,
    ) -> Option<Line> {
        self.inbox
            .wait(deadline, |state| {
                let lines = state.lines.get(mark..).unwrap_or_default();
                let found = lines.iter().find(|line| matches(&line.document)).cloned();
                (found.is_some() || state.closed).then_some(found)
            })
            .flatten()
    }

    /// What it said on stderr until now.
    pub(crate) fn stderr(&self) -> String {
        self.inbox.lock().stderr.join("\n")
    }

    /// Ends it as an administrator would, and panics where it does not end or wrote anything but
    /// documents.
    pub(crate) fn stop(mut self) -> Ended {
        host::signal(self.child.id(), Signal::INT);
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > DEADLINE {
                self.child.kill().ok();
                panic!("no end within {DEADLINE:?} of SIGINT: {}", self.stderr());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let ended = self.ended();
        let broken = &self.inbox.lock().broken;
        assert!(broken.is_empty(), "not JSON documents: {broken:?}");
        ended
    }

    /// The same, with every line that it wrote.
    pub(crate) fn stop_with_lines(self) -> (Ended, Vec<Line>) {
        let inbox = Arc::clone(&self.inbox);
        let ended = self.stop();
        let lines = inbox.lock().lines.clone();
        (ended, lines)
    }

    /// Waits for the end of an agent that was killed.
    pub(crate) fn killed(mut self) {
        self.ended();
    }

    fn ended(&mut self) -> Ended {
        let status = self.child.wait().expect("wait for the agent");
        for reader in self.readers.drain(..) {
            reader.join().expect("reader");
        }
        Ended {
            status,
            stderr: self.stderr(),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // A story panicked: end it so that no probe stays behind.
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// The agent's binary: the one cargo built, or the one `TRACER_BIN` names.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("TRACER_BIN")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_tracer").into())
        .into()
}

fn read_documents(stdout: ChildStdout, inbox: &Inbox) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let received = SystemTime::now();
        match serde_json::from_str(&line) {
            Ok(document @ Value::Object(_)) => inbox.put(|state| {
                state.lines.push(Line { document, received });
            }),
            Ok(_) | Err(_) => inbox.put(|state| state.broken.push(line)),
        }
    }
    inbox.put(|state| state.closed = true);
}
