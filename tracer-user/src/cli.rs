//! The command line. Its doc comments are the help text.

mod doctor;
mod reference;
mod replay;
mod rules;
mod run;
mod servers;
mod tree;

use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::agent::AgentError;
use crate::config::{self, Config, ConfigError, Emit, Flags};
use crate::control::Ask;
use crate::control::client::{self, AskError, Reply};
use crate::encode;
use crate::encode::tree::Style;
use crate::sensor::{SensorError, TierChoice};
use crate::sink::{Format, Sink, Target};

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
Exit codes: 0 all well (also after SIGINT or SIGTERM); 1 doctor found something missing, or \
tree knows no such process, or `rules check` or `rules test` found a fault; 2 a wrong flag, configuration, \
rule or capture file; 3 this kernel is not supported; \
4 privileges are missing; 5 a failure while running (output, /proc, memory, no agent to ask).";

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
    /// Draw processes with their ancestors and descendants
    ///
    /// What each ran, wrote and raised, since when, as whom, and how that is known. Asks the running
    /// agent, as root or as its own user, or reads a recording. Without a process, a container or a
    /// server, draws every server.
    Tree(tree::TreeArgs),
    /// List the servers that the running agent found
    ///
    /// With the reason, their ports, the directories that they serve and how much runs below them.
    Servers(servers::ServersArgs),
    /// List, check and test rules
    Rules(rules::RulesArgs),
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
    emit: Option<Emit>,
    /// How to print it [default: auto, which is pretty on a terminal and JSON otherwise]
    #[arg(long, value_enum)]
    format: Option<config::Format>,
    /// Append to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Configuration file [default: /etc/tracer/tracer.yaml, where there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How to hook into the kernel.
#[derive(Args, Clone, Default)]
struct SensorArgs {
    /// BTF of the running kernel [default: /sys/kernel/btf/vmlinux]
    #[arg(long, value_name = "FILE")]
    btf: Option<PathBuf>,
    /// Family of hooks [default: auto, the best that this kernel loads]
    #[arg(long, value_enum)]
    tier: Option<TierChoice>,
}

/// Which running agent to ask.
#[derive(Args, Clone)]
struct ControlArgs {
    /// Its control socket [default: the configuration's control.socket]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Configuration file [default: /etc/tracer/tracer.yaml, where there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ControlArgs {
    /// Asks it.
    fn ask(&self, ask: &Ask) -> Result<Reply, Failure> {
        let path = match &self.control {
            Some(path) => path.clone(),
            None => {
                let file = Config::load(self.config.as_deref())?;
                let config = Config::merge(file, Flags::default());
                config.control.path.ok_or_else(|| {
                    Failure::runtime(
                        "the configuration turns the control socket off (control.socket: null); \
                         name the agent's socket with --control",
                    )
                })?
            }
        };
        client::ask(&path, ask).map_err(|error| match error {
            AskError::Unknown(_) => Failure::new(1, error),
            AskError::Refused(_) => Failure::new(4, error),
            AskError::NoAgent(..) | AskError::Foreign(..) | AskError::Failed(..) => {
                Failure::runtime(error)
            }
        })
    }
}

/// What this terminal, or what standard output is else, can show.
fn style() -> Style {
    // The first that is set decides, as in setlocale(3).
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty())
        .map(|value| value.to_string_lossy().to_ascii_lowercase());
    let utf8 = locale.is_some_and(|locale| locale.contains("utf-8") || locale.contains("utf8"));
    Style {
        colour: std::io::stdout().is_terminal() && wants_colour(),
        ascii: !utf8,
    }
}

fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints an answer.
fn show(reply: Reply) -> Result<ExitCode, Failure> {
    match reply {
        Reply::Text(text) => print(text.as_bytes()),
        Reply::Json(value) => {
            let mut out = Vec::new();
            encode::control::value(&value, &mut out);
            out.push(b'\n');
            print(&out)
        }
    }
}

/// Why a command ended badly: its message and its exit code.
#[derive(Debug)]
struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    fn new(code: u8, message: impl fmt::Display) -> Self {
        Self {
            code,
            error: anyhow::Error::msg(message.to_string()),
        }
    }

    /// A wrong flag, configuration or capture file.
    fn usage(message: impl fmt::Display) -> Self {
        Self::new(2, message)
    }

    /// A failure while running.
    fn runtime(message: impl fmt::Display) -> Self {
        Self::new(5, message)
    }
}

impl From<SensorError> for Failure {
    fn from(error: SensorError) -> Self {
        let code = match error {
            SensorError::NoBtf { .. }
            | SensorError::Unsupported(_)
            | SensorError::Lockdown
            | SensorError::Tier { .. } => 3,
            SensorError::Refused(_) => 4,
            SensorError::Object(_) => 5,
        };
        Self {
            code,
            error: error.into(),
        }
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Sensor(error) => error.into(),
            AgentError::Control(_) | AgentError::Io(..) | AgentError::Sink(_) => {
                Self::runtime(error)
            }
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
        Command::Replay(args) => replay::replay(args),
        Command::Tree(args) => tree::tree(args),
        Command::Servers(args) => servers::servers(&args),
        Command::Rules(args) => rules::rules(&args),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Completions { shell } => {
            // Into memory: the generator panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tracer", &mut script);
            print(&script)
        }
        Command::Reference { table } => reference::reference(table),
    };
    outcome.unwrap_or_else(|Failure { code, error }| {
        // With its causes, on one line.
        eprintln!("tracer: {error:#}");
        ExitCode::from(code)
    })
}

/// Prints what a command gives at once.
fn print(text: &[u8]) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::runtime(format!("cannot write to standard output: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

impl OutputArgs {
    /// What the flags and the configuration file say together; flags win.
    fn load(self, sensor: SensorArgs) -> Result<Config, Failure> {
        let Self {
            emit,
            format,
            output,
            config,
        } = self;
        let file = Config::load(config.as_deref())?;
        Ok(Config::merge(
            file,
            Flags {
                emit,
                format,
                output,
                btf: sensor.btf,
                tier: sensor.tier,
            },
        ))
    }
}

/// Opens the sink that a configuration asks for.
fn sink(config: &Config) -> Result<Sink, Failure> {
    let target = match &config.output {
        Some(path) => Target::file(path).map_err(|error| {
            Failure::runtime(format!(
                "cannot write to {}: {error}; give a file in a directory that exists and can be \
                 written to",
                path.display()
            ))
        })?,
        None => Target::Stdout,
    };
    let terminal = config.output.is_none() && std::io::stdout().is_terminal();
    let colour = terminal && wants_colour();
    let format = match config.format {
        config::Format::Auto if terminal => Format::Pretty { colour },
        config::Format::Auto | config::Format::Json => Format::Json,
        config::Format::Pretty => Format::Pretty { colour },
    };
    Ok(Sink::new(format, target, config.budget.queue))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
