//! The configuration: what the user typed ([`FileConfig`], flags) and what the agent runs with
//! ([`Config`]).
//!
//! Nothing is guessed and nothing is passed over: an unknown key, a wrong type or a value out of range is
//! an error that names file, line, key and remedy. `deploy/tracer.example.yaml` has every key.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use serde_saphyr::Spanned;
use tracer_common::limits::QUOTA_PER_SECOND;

use crate::agent::containers::SOCKETS;
use crate::detect::incident::AT_ONCE;
pub use crate::enrich::content::HashLimits;
use crate::enrich::docroot::discover::{canonical_on_host, jail::read_limited};
use crate::enrich::docroot::{DefaultDirectory, Entry, Kind, Origin, defaults};
use crate::memory::Budget;
use crate::sensor::TierChoice;

mod check;
mod exceptions;
mod explain;
mod file;
mod incidents;
mod kubernetes;
mod rules;

use self::check::parse;
pub use self::exceptions::{ExceptionPaths, FileExceptions};
pub use self::file::{
    FileConfig, FileControl, FileDirectories, FileEnrichment, FileHash, FileMemory, FileRings,
    FileState,
};
pub use self::incidents::FileIncidents;
pub use self::kubernetes::{Enabled, FileKubernetes, Kubernetes};
pub use self::rules::{FileRules, Rules};

/// Where the configuration is looked for when no flag names one.
pub const DEFAULT_PATH: &str = "/etc/tracer/tracer.yaml";

/// Where lineage is kept for the next agent of this boot, unless the configuration says otherwise.
pub const STATE_PATH: &str = "/run/tracer/state";
/// Where the running agent is asked when neither a flag nor the file names a place.
pub const CONTROL_SOCKET: &str = "/run/tracer/control.sock";

/// Longest configuration file.
const MAX_BYTES: usize = 1024 * 1024;
/// What is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Emit {
    /// Alerts.
    #[default]
    Alerts,
    /// Events.
    Events,
    /// Both.
    All,
}

/// How it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Pretty on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One ECS document a line.
    Json,
    /// Readable lines.
    Pretty,
}

/// What flags say; each wins over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--emit`
    pub emit: Option<Emit>,
    /// `--format`
    pub format: Option<Format>,
    /// `--output`
    pub output: Option<PathBuf>,
    /// `--btf`
    pub btf: Option<PathBuf>,
    /// `--tier`
    pub tier: Option<TierChoice>,
}

/// What the agent runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What is written.
    pub emit: Emit,
    /// How it is written.
    pub format: Format,
    /// File that documents are appended to; `None` for standard output.
    pub output: Option<PathBuf>,
    /// Kernel type information; `None` for the running kernel's own.
    pub btf: Option<PathBuf>,
    /// Family of hooks.
    pub tier: TierChoice,
    /// Ring of process life, bytes; `None` for what the machine asks for.
    pub life_ring_bytes: Option<u32>,
    /// Ring of file events, the same way.
    pub file_ring_bytes: Option<u32>,
    /// File records of one server's lineage a second; zero is no limit.
    pub file_quota_per_second: u32,
    /// What the tables may take together.
    pub budget: Budget,
    /// How long an event may wait for an earlier one.
    pub order_window: Duration,
    /// How long an alert may wait for facts that somebody has been asked for.
    pub enrichment_wait: Duration,
    /// How this node's pods are asked for.
    pub kubernetes: Kubernetes,
    /// Which files are hashed.
    pub hash: HashLimits,
    /// Where container runtimes listen.
    pub container_sockets: Vec<PathBuf>,
    /// Directories of the user, in all mount namespaces.
    pub directories: Vec<ConfiguredDirectory>,
    /// Tell what any process writes in directories that matter.
    pub any_writer: bool,
    /// Leave out the table of default directories.
    pub exclude_default_directories: bool,
    /// Which rules hold beside those that ship, and which do not.
    pub rules: Rules,
    /// Files of exceptions.
    pub exceptions: ExceptionPaths,
    /// Alerts of one kind of an incident that go out at once in a minute; zero for all.
    pub at_once: u32,
    /// Where lineage is kept for the next agent of this boot; `None` for nowhere.
    pub state_file: Option<PathBuf>,
    /// How often that is written, where something has changed.
    pub state_every: Duration,
    /// How the running agent is asked.
    pub control: Control,
}

/// The socket by which the running agent is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Its path; `None` for no socket.
    pub path: Option<PathBuf>,
    /// The user named one of their own: then the agent does not run without it.
    pub required: bool,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            path: Some(PathBuf::from(CONTROL_SOCKET)),
            required: false,
        }
    }
}

impl Control {
    /// The socket that the user named.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self {
            path: Some(path),
            required: true,
        }
    }

    /// No socket.
    #[must_use]
    pub const fn off() -> Self {
        Self {
            path: None,
            required: false,
        }
    }

    fn of(file: Option<FileControl>) -> Self {
        match file.and_then(|control| control.socket) {
            // The default, written down, is the default: the example file has it.
            Some(Some(path)) if path.value == Path::new(CONTROL_SOCKET) => Self::default(),
            Some(Some(path)) => Self::at(path.value),
            Some(None) => Self::off(),
            None => Self::default(),
        }
    }
}

/// A directory that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredDirectory {
    /// Its path, with `*` segments.
    pub pattern: Vec<u8>,
    /// What it is to its server.
    pub kind: Kind,
    /// `file:line`
    pub source: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            emit: Emit::default(),
            format: Format::default(),
            output: None,
            btf: None,
            tier: TierChoice::default(),
            life_ring_bytes: None,
            file_ring_bytes: None,
            file_quota_per_second: QUOTA_PER_SECOND,
            budget: Budget::default(),
            order_window: Duration::from_millis(5),
            enrichment_wait: Duration::from_millis(250),
            kubernetes: Kubernetes::default(),
            hash: HashLimits::default(),
            container_sockets: SOCKETS.iter().map(PathBuf::from).collect(),
            directories: Vec::new(),
            any_writer: false,
            exclude_default_directories: false,
            rules: Rules::default(),
            exceptions: ExceptionPaths::default(),
            at_once: AT_ONCE,
            state_file: Some(STATE_PATH.into()),
            state_every: Duration::from_secs(5),
            control: Control::default(),
        }
    }
}

impl Config {
    /// Reads and checks the file that a flag named, else [`DEFAULT_PATH`] where it exists.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with the line at fault.
    pub fn load(path: Option<&Path>) -> Result<FileConfig, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match read(file) {
            Ok(text) => text,
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(FileConfig::default());
            }
            Err(error) => {
                return Err(ConfigError {
                    file: file.to_owned(),
                    line: None,
                    message: format!("cannot read the configuration: {error}"),
                });
            }
        };
        parse(file, &text)
    }

    /// Fills what the flags leave open from the file, and what both do from the defaults.
    #[must_use]
    pub fn merge(file: FileConfig, flags: Flags) -> Self {
        // Taken apart, so that a new key is a compile error here.
        let FileConfig {
            path,
            emit,
            format,
            output,
            btf,
            tier,
            rings,
            file_quota_per_second,
            memory,
            order_window_ms,
            enrichment,
            kubernetes,
            hash,
            directories,
            exclude_default_directories,
            rules,
            exceptions,
            incidents,
            state,
            control,
        } = file;
        let FileState { file, seconds } = state.unwrap_or_default();
        let FileRings {
            life_bytes,
            file_bytes,
        } = rings.unwrap_or_default();
        let FileMemory { budget_bytes } = memory.unwrap_or_default();
        let FileHash {
            max_bytes,
            max_written_bytes,
        } = hash.unwrap_or_default();
        let FileEnrichment {
            wait_ms,
            container_sockets,
        } = enrichment.unwrap_or_default();
        let default = Self::default();
        let number = |value: Option<Spanned<u32>>, default| value.map_or(default, |v| v.value);
        Self {
            emit: flags.emit.or(emit).unwrap_or(default.emit),
            format: flags.format.or(format).unwrap_or(default.format),
            output: flags.output.or(output.map(|output| output.value)),
            btf: flags.btf.or(btf.map(|btf| btf.value)),
            tier: flags.tier.or(tier).unwrap_or(default.tier),
            life_ring_bytes: life_bytes.map(|bytes| bytes.value),
            file_ring_bytes: file_bytes.map(|bytes| bytes.value),
            file_quota_per_second: number(file_quota_per_second, default.file_quota_per_second),
            budget: budget_bytes
                .and_then(|bytes| usize::try_from(bytes.value).ok())
                .map_or(default.budget, Budget::new),
            order_window: order_window_ms.map_or(default.order_window, |window| {
                Duration::from_millis(window.value.into())
            }),
            enrichment_wait: wait_ms.map_or(default.enrichment_wait, |wait| {
                Duration::from_millis(wait.value.into())
            }),
            kubernetes: kubernetes.unwrap_or_default().settings(),
            hash: HashLimits {
                executable: number(max_bytes, default.hash.executable),
                written: number(max_written_bytes, default.hash.written),
            },
            container_sockets: container_sockets.map_or(default.container_sockets, |sockets| {
                sockets.into_iter().map(|socket| socket.value).collect()
            }),
            any_writer: directories
                .as_ref()
                .and_then(|directories| directories.any_writer)
                .unwrap_or(default.any_writer),
            directories: directories
                .map(|directories| directories.configured(path.as_deref()))
                .unwrap_or_default(),
            exclude_default_directories: exclude_default_directories
                .unwrap_or(default.exclude_default_directories),
            rules: rules.unwrap_or_default().settings(),
            exceptions: exceptions.unwrap_or_default().settings(),
            at_once: number(incidents.unwrap_or_default().at_once, AT_ONCE),
            state_file: file.map_or(default.state_file, |file| file.map(|file| file.value)),
            state_every: seconds.map_or(default.state_every, |seconds| {
                Duration::from_secs(seconds.value.into())
            }),
            control: Control::of(control),
        }
    }

    /// The directories to begin with: those of the file, then the defaults. One that is reached
    /// through a link is looked for under its own path as well, which is the one that events name.
    #[must_use]
    pub fn directories(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for ConfiguredDirectory {
            pattern,
            kind,
            source,
        } in &self.directories
        {
            for pattern in [Some(pattern.clone()), canonical_on_host(pattern)]
                .into_iter()
                .flatten()
            {
                entries.push(Entry {
                    pattern,
                    kind: *kind,
                    origin: Origin::Config,
                    source: source.clone(),
                    mnt_ns: None,
                });
            }
        }
        if !self.exclude_default_directories {
            entries.extend(defaults().iter().map(DefaultDirectory::entry));
        }
        entries
    }
}

impl FileDirectories {
    fn lists(self) -> [(Kind, Vec<Spanned<String>>); 4] {
        let Self {
            served,
            application,
            component,
            cgi,
            any_writer: _,
        } = self;
        [
            (Kind::Served, served),
            (Kind::Application, application),
            (Kind::Component, component),
            (Kind::Cgi, cgi),
        ]
        .map(|(kind, list)| (kind, list.unwrap_or_default()))
    }

    fn configured(self, file: Option<&Path>) -> Vec<ConfiguredDirectory> {
        let file = file.map_or_else(String::new, |file| file.display().to_string());
        let mut out = Vec::new();
        for (kind, list) in self.lists() {
            for directory in list {
                out.push(ConfiguredDirectory {
                    source: format!("{file}:{}", directory.referenced.line()),
                    pattern: directory.value.into_bytes(),
                    kind,
                });
            }
        }
        out
    }
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line at fault, counted from one; `None` where it is the file as a whole.
    pub line: Option<u64>,
    /// What is wrong, and what to do about it. One line.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    read_limited(file, MAX_BYTES)
}

#[cfg(test)]
mod tests;
