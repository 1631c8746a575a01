//! A child process whose lines are shown as they come, waited for, and that never outlives us.
//!
//! No sleeping: one waits for a line or for the end, with a deadline.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// A running child. Dropping it ends it: politely, then by force.
pub(crate) struct Child {
    name: &'static str,
    child: std::process::Child,
    lines: Receiver<Line>,
    quiet: bool,
}

/// How a child stopped talking.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It exited, with this code unless a signal ended it.
    Exited(Option<i32>),
    /// It runs and says nothing more of interest.
    TimedOut,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Exited(Some(code)) => write!(f, "it exited with code {code}"),
            Ended::Exited(None) => write!(f, "a signal ended it"),
            Ended::TimedOut => write!(f, "it took too long"),
        }
    }
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Ended {
        Ended::Exited(status.code())
    }
}

struct Line {
    text: String,
    /// Standard output; what else there is goes to standard error.
    output: bool,
}

impl Child {
    /// Starts a command whose lines are read and not shown.
    pub(crate) fn quiet(command: Command, name: &'static str) -> Result<Child> {
        let mut child = Child::start(command, name)?;
        child.quiet = true;
        Ok(child)
    }

    /// Starts a command whose lines are shown from now on.
    pub(crate) fn start(mut command: Command, name: &'static str) -> Result<Child> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let (sender, lines) = channel();
        if let Some(output) = child.stdout.take() {
            forward(output, true, sender.clone());
        }
        if let Some(errors) = child.stderr.take() {
            forward(errors, false, sender);
        }
        Ok(Child {
            name,
            child,
            lines,
            quiet: false,
        })
    }

    /// Its pid, for `/proc`.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Shows lines until one is what is waited for, or until the child ends or time is up.
    pub(crate) fn wait_for(
        &mut self,
        patience: Duration,
        mut found: impl FnMut(&str) -> bool,
    ) -> Result<Result<(), Ended>> {
        let deadline = Instant::now() + patience;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.show(&line);
                    if found(&line.text) {
                        return Ok(Ok(()));
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(Err(Ended::TimedOut)),
                // Both pipes are closed: it has ended, or is about to.
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait();
                    return Ok(Err(status.context("cannot wait for a child")?.into()));
                }
            }
        }
    }

    /// Asks the child to end, and shows what it says meanwhile.
    pub(crate) fn stop(&mut self, patience: Duration, mut see: impl FnMut(&str)) -> Result<Ended> {
        self.signal(Signal::TERM);
        let ended = self.wait_for(patience, |line| {
            see(line);
            false
        })?;
        Ok(ended.err().unwrap_or(Ended::TimedOut))
    }

    #[expect(
        clippy::print_stdout,
        reason = "alerts are what the demonstration is for"
    )]
    fn show(&self, line: &Line) {
        if self.quiet {
            return;
        }
        if line.output {
            println!("{}", line.text);
        } else {
            eprintln!("    {}: {}", self.name, line.text);
        }
    }

    /// Only while it is not reaped does the pid belong to it.
    fn signal(&mut self, signal: Signal) {
        let running = matches!(self.child.try_wait(), Ok(None));
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (true, Some(pid)) = (running, pid) {
            // It may end between the two calls; that is what was wanted.
            let _gone = kill_process(pid, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let patience = Duration::from_secs(5);
        if !matches!(self.stop(patience, |_| {}), Ok(Ended::Exited(_))) {
            self.signal(Signal::KILL);
            if let Err(error) = self.child.wait() {
                eprintln!("cannot wait for {}: {error}", self.name);
            }
        }
    }
}

/// Sends the lines of a pipe; bytes that are no text are replaced.
fn forward(pipe: impl Read + Send + 'static, output: bool, lines: Sender<Line>) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line).into_owned();
            if lines.send(Line { text, output }).is_err() {
                break;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Child::start(command, "test").unwrap()
    }

    #[test]
    fn a_line_is_waited_for_on_either_pipe() {
        let mut child = shell("echo one; echo two >&2; exec sleep 60");
        assert_eq!(
            child.wait_for(PATIENCE, |line| line == "one").unwrap(),
            Ok(())
        );
        let mut child = shell("echo one >&2; exec sleep 60");
        assert_eq!(
            child.wait_for(PATIENCE, |line| line == "one").unwrap(),
            Ok(())
        );
    }

    #[test]
    fn the_end_and_its_code_are_told() {
        let mut child = shell("echo one; exit 4");
        assert_eq!(
            child.wait_for(PATIENCE, |line| line == "two").unwrap(),
            Err(Ended::Exited(Some(4)))
        );
    }

    #[test]
    fn a_silent_child_meets_the_deadline_and_is_stopped() {
        let mut child = shell("exec sleep 60");
        let soon = Duration::from_millis(10);
        assert_eq!(
            child.wait_for(soon, |_| true).unwrap(),
            Err(Ended::TimedOut)
        );
        assert_eq!(child.stop(PATIENCE, |_| {}).unwrap(), Ended::Exited(None));
    }

    #[test]
    fn last_words_are_seen_when_stopping() {
        let script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done";
        let mut child = shell(script);
        assert_eq!(
            child.wait_for(PATIENCE, |line| line == "up").unwrap(),
            Ok(())
        );
        let mut words = Vec::new();
        let ended = child
            .stop(PATIENCE, |line| words.push(line.to_owned()))
            .unwrap();
        assert_eq!(
            (ended, words),
            (Ended::Exited(Some(0)), vec!["bye".to_owned()])
        );
    }
}
