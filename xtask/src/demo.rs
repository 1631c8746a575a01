//! `cargo xtask demo`: two attacks on a real server, and the two alerts they raise.
//!
//! Everything lives in one temporary folder and on loopback, and is stopped and removed at the
//! end. Nothing of the host's own servers is used or changed. Where the kernel does not take the
//! agent a recording of the same scene is replayed, and said to be one.

mod record;
mod servers;

use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use self::servers::Servers;
use crate::children::{Child, Ended};
use crate::ebpf::{self, Profile};
use crate::host::{self, Privilege};
use crate::site::ATTACKS;
use crate::toolchain::{self, Purpose};

/// Shows tracer at work: a web page spawns a shell, another writes code into the document root.
///
/// Installs what is missing, builds the agent, starts it with an nginx and a php-fpm of its own on
/// loopback, makes the two requests, shows the two alerts, stops and removes everything. Exits
/// with 0 only when both alerts came.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Record the scene, played in a virtual machine, into FILE instead of playing it here.
    ///
    /// The machine boots Debian's kernel under QEMU with this host's nginx and php-fpm, and knows
    /// nothing else of this host; needs no root. FILE is written only when the recording replays
    /// to exactly the two alerts.
    #[arg(long, value_name = "FILE", conflicts_with = "no_build")]
    record: Option<PathBuf>,
    /// Install and build nothing: take the agent that target/release holds.
    #[arg(long)]
    no_build: bool,
}

/// The recording that ships with the repository, relative to its top folder.
const RECORDING: &str = "tracer-user/testdata/captures/demo.tracer";

/// How long the agent may take to load, and an alert to come: far more than either needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// The agent's exit codes where this kernel, or this user, cannot load it.
const CANNOT_LOAD: [i32; 2] = [3, 4];

/// `cargo xtask demo`.
pub(crate) fn main(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(file) = &arguments.record {
        toolchain::setup(Purpose::Record)?;
        ebpf::object(false)?;
        record::main(file)?;
        return Ok(ExitCode::SUCCESS);
    }
    let agent = if arguments.no_build {
        host::target_directory().join("release/tracer")
    } else {
        toolchain::setup(Purpose::Demo)?;
        ebpf::build(Profile::Release)?
    };
    match host::privilege() {
        Privilege::Root => play(&agent),
        Privilege::Sudo | Privilege::SudoAsks => again_as_root(),
        Privilege::Plain => replay(&agent, "this is not root, and there is no sudo"),
    }
}

/// Only the build ran as the user: the scene needs root throughout.
fn again_as_root() -> Result<ExitCode> {
    let itself = env::current_exe().context("cannot find this program's own file")?;
    let mut command = host::as_root(itself)?;
    command.args(["demo", "--no-build"]);
    Err(command.exec()).with_context(|| format!("cannot start `{}`", host::shown(&command)))
}

/// Plays the scene on this kernel.
fn play(agent: &Path) -> Result<ExitCode> {
    let mut command = Command::new(agent);
    command.args([
        "run", "--format", "pretty", "--emit", "alerts", "--state", "none",
    ]);
    say("starting the agent");
    let mut agent_child = Child::start(command, "tracer")?;
    match agent_child.wait_for(PATIENCE, |line| line.contains("tracer ready"))? {
        Ok(()) => {}
        Err(Ended::Exited(Some(code))) if CANNOT_LOAD.contains(&code) => {
            return replay(
                agent,
                "the agent cannot load on this host, as it says above",
            );
        }
        Err(ended) => bail!("the agent did not get ready: {ended}"),
    }

    say("starting nginx and php-fpm on loopback");
    let servers = Servers::start(PATIENCE)?;
    let mut witnesses = Witnesses::default();
    for (page, attack) in ATTACKS {
        say(&format!("GET {page}: {attack}"));
        let answer = servers.get(page)?;
        eprintln!("    the server answers: {}", answer.trim());
    }
    // What is not seen by the deadline is told by the verdict.
    let _ = agent_child.wait_for(PATIENCE, |line| {
        witnesses.see(line);
        witnesses.all()
    })?;
    say("stopping everything");
    agent_child.stop(PATIENCE, |line| witnesses.see(line))?;
    drop(servers);
    Ok(witnesses.verdict())
}

/// Shows the recording that ships with the repository, and says so.
fn replay(agent: &Path, why: &str) -> Result<ExitCode> {
    say(&format!("{why}."));
    say("This is a RECORDING of the scene, made on another machine; nothing runs here:");
    show_recording(agent, &host::repository().join(RECORDING))
}

fn show_recording(agent: &Path, file: &Path) -> Result<ExitCode> {
    let mut command = Command::new(agent);
    command
        .arg("replay")
        .arg(file)
        .args(["--format", "pretty", "--emit", "alerts"]);
    let mut child = Child::start(command, "tracer")?;
    let mut witnesses = Witnesses::default();
    let ended = child.wait_for(PATIENCE, |line| {
        witnesses.see(line);
        false
    })?;
    match ended {
        Err(Ended::Exited(Some(0))) => Ok(witnesses.verdict()),
        Err(ended) => bail!("cannot replay {}: {ended}", file.display()),
        Ok(()) => bail!("replaying {} found no end", file.display()),
    }
}

/// Which of the two attacks the alerts told of.
#[derive(Debug, Default)]
struct Witnesses {
    shell: bool,
    upload: bool,
}

impl Witnesses {
    /// Reads a line that the agent printed on its standard output.
    fn see(&mut self, line: &str) {
        self.shell |= line.contains("-c id") || line.contains("-c -- id");
        self.upload |= line.contains("shell.php");
    }

    fn all(&self) -> bool {
        let Witnesses { shell, upload } = self;
        *shell && *upload
    }

    fn verdict(&self) -> ExitCode {
        for (seen, what) in [
            (self.shell, "the shell"),
            (self.upload, "the uploaded code"),
        ] {
            say(&format!(
                "{} alert of {what}",
                if seen { "seen:   " } else { "MISSING:" }
            ));
        }
        if self.all() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

fn say(what: &str) {
    eprintln!("==> {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alerts_have_to_be_seen() {
        let mut witnesses = Witnesses::default();
        witnesses.see("nginx > php-fpm8.2 > sh -c id");
        assert!(!witnesses.all());
        witnesses.see("wrote /tmp/www/shell.php");
        assert!(witnesses.all());
    }

    #[test]
    fn another_command_is_no_witness() {
        let mut witnesses = Witnesses::default();
        witnesses.see("sh -c uptime");
        witnesses.see("/var/www/index.php");
        assert!(!witnesses.shell && !witnesses.upload);
    }
}
