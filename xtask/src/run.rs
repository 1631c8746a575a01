//! `cargo xtask run`: the agent on this host, from nothing.
//!
//! Builds as the user who typed the command; only the agent itself runs as root.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;

use crate::ebpf::{self, Profile};
use crate::host::{self, Privilege};
use crate::toolchain::{self, Purpose};

/// Installs what is missing, builds the agent and runs it as root.
///
/// Goes through sudo where this is not root. Alerts go to standard output, all else to standard
/// error; Ctrl-C ends it.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Arguments of `tracer run`, such as `-- --emit all --format pretty`.
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// `cargo xtask run`.
pub(crate) fn main(arguments: &Arguments) -> Result<ExitCode> {
    toolchain::setup(Purpose::Run)?;
    let agent = ebpf::build(Profile::Release)?;
    let mut command = match host::privilege() {
        // Without a way to root the agent itself says which capabilities it lacks.
        Privilege::Plain => Command::new(&agent),
        Privilege::Root | Privilege::Sudo | Privilege::SudoAsks => host::as_root(&agent)?,
    };
    command.arg("run").args(&arguments.arguments);
    eprintln!("+ {}", host::shown(&command));
    // exec: signals reach the agent itself, and its exit code is the answer.
    Err(command.exec()).with_context(|| format!("cannot start {}", agent.display()))
}
