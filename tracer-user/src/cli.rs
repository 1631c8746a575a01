//! The command line. Its doc comments are the help text.

mod doctor;
mod reference;
mod replay;
mod run;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::agent::AgentError;
use crate::config::{ConfigError, FileConfig};
use crate::pipeline::Emit;
use crate::sensor::SensorError;
use crate::sink::{Format, Target};

/// Watches what servers start and write, and alerts when one of them spawns a shell or writes code
/// where it is served.
///
/// Facts are taken in the kernel by eBPF programs; every alert is one JSON document that holds the
/// whole lineage, down to PID 1.
#[derive(Parser)]
#[command(name = "tracer", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 all well (also after SIGINT or SIGTERM); 1 doctor found something missing; \
2 a wrong flag, configuration or capture file; 3 this kernel is not supported; \
4 privileges are missing; 5 a failure while running (output, /proc, memory).";

#[derive(Subcommand)]
enum Command {
    /// Watch this host and print alerts
    ///
    /// Needs root, or CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH. Says "tracer
    /// ready" on standard error when the hooks are attached and the running processes are known;
    /// SIGINT or SIGTERM end it with a summary.
    Run(run::RunArgs),
    /// Watch this host and write what the kernel told to a file, for `replay`
    ///
    /// The file holds paths, arguments and user names of this host. It is created, readable by its
    /// owner only; an existing file is refused.
    Record(run::RecordArgs),
    /// Run a recording through the same pipeline
    ///
    /// Gives the same documents, byte for byte, that `run` gave or would have given.
    Replay(replay::ReplayArgs),
    /// Say what this host allows and what is lost where it does not
    Doctor(doctor::DoctorArgs),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a generated table of the documentation
    #[command(hide = true)]
    Reference {
        /// Which
        table: reference::Table,
    },
}

/// What to print and where.
#[derive(Args, Clone)]
struct OutputArgs {
    /// What to print [default: alerts]
    #[arg(long, value_enum)]
    emit: Option<EmitArg>,
    /// How to print it [default: auto, which is pretty on a terminal and JSON otherwise]
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Append to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Configuration file [default: /etc/tracer/tracer.yaml, where there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum EmitArg {
    /// Alerts only
    Alerts,
    /// Every event, without alerts
    Events,
    /// Both
    All,
}

impl From<EmitArg> for Emit {
    fn from(arg: EmitArg) -> Self {
        match arg {
            EmitArg::Alerts => Self::Alerts,
            EmitArg::Events => Self::Events,
            EmitArg::All => Self::All,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatArg {
    /// Pretty on a terminal, JSON otherwise
    Auto,
    /// One ECS 9.4 document a line
    Json,
    /// For people
    Pretty,
}

/// Why a command ended badly: its message and its exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// A wrong flag, configuration or capture file.
    fn usage(message: impl fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// A failure while running.
    fn runtime(message: impl fmt::Display) -> Self {
        Self { code: 5, message: message.to_string() }
    }
}

impl From<SensorError> for Failure {
    fn from(error: SensorError) -> Self {
        let code = match error {
            SensorError::NoBtf { .. } | SensorError::Unsupported(_) => 3,
            SensorError::Refused(_) => 4,
            SensorError::Object(_) => 5,
        };
        Self { code, message: error.to_string() }
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Sensor(error) => error.into(),
            AgentError::Io(..) | AgentError::Sink(_) => Self::runtime(error),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

/// Parses the command line and runs it.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Record(args) => run::record(args),
        Command::Replay(args) => replay::replay(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "tracer", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Reference { table } => reference::reference(table),
    };
    outcome.unwrap_or_else(|Failure { code, message }| {
        eprintln!("tracer: {message}");
        ExitCode::from(code)
    })
}

/// What flags and configuration file say together about output; flags win.
struct Output {
    emit: Emit,
    format: Format,
    target: Target,
}

impl Output {
    fn resolve(args: &OutputArgs, config: &FileConfig) -> Result<Self, Failure> {
        let emit = args.emit.map_or(config.emit, Emit::from);
        let path = args.output.as_ref().or(config.output.as_ref());
        let target = match path {
            Some(path) => Target::file(path).map_err(|error| {
                Failure::runtime(format!(
                    "cannot write to {}: {error}; give --output a file in a directory that exists \
                     and can be written to",
                    path.display()
                ))
            })?,
            None => Target::Stdout,
        };
        let terminal = path.is_none() && std::io::IsTerminal::is_terminal(&std::io::stdout());
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let format = args.format.map_or(config.format, Into::into);
        let format = match format {
            crate::config::Format::Auto if terminal => Format::Pretty { colour },
            crate::config::Format::Auto | crate::config::Format::Json => Format::Json,
            crate::config::Format::Pretty => Format::Pretty { colour },
        };
        Ok(Self { emit, format, target })
    }
}

impl From<FormatArg> for crate::config::Format {
    fn from(arg: FormatArg) -> Self {
        match arg {
            FormatArg::Auto => Self::Auto,
            FormatArg::Json => Self::Json,
            FormatArg::Pretty => Self::Pretty,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
