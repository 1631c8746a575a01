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
use crate::enrich::docroot::{
    DefaultDirectory, Entry, Kind, Origin, defaults, directories::too_wide, path,
};
use crate::memory::Budget;
use crate::sensor::TierChoice;

mod exceptions;
mod explain;
mod incidents;
mod kubernetes;
mod rules;

pub use self::exceptions::{ExceptionPaths, FileExceptions};
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
/// Largest ring: beyond it a full ring is not a burst but an agent that does not keep up.
const MAX_RING_BYTES: u32 = 1 << 30;
/// Largest quota of file records a second: more than any host makes, so more is a slip for "no limit".
const MAX_QUOTA: u32 = 1_000_000;
/// Smallest memory budget: the processes of a small host and their recent past.
const MIN_BUDGET: u64 = 16 << 20;
/// Largest: pids that a kernel can have (`PID_MAX_LIMIT`, linux/threads.h), with a long argument list each.
const MAX_BUDGET: u64 = 64 << 30;
/// Longest wait of an event: an alert that is later than this helps nobody.
const MAX_ORDER_WINDOW_MS: u32 = 5000;
/// Longest time between two states that are written, seconds: what is older is of little use.
const MAX_STATE_SECONDS: u32 = 3600;
/// Longest wait of an alert for facts.
const MAX_ENRICHMENT_WAIT_MS: u32 = 10_000;
/// Longest file that is hashed: seconds of a CPU.
const MAX_HASHED: u32 = 1 << 30;
/// Sockets of container runtimes at most.
const MAX_SOCKETS: usize = 16;
/// Directories at most in each list.
const MAX_DIRECTORIES: usize = 4096;

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

/// The file as the user typed it. What [`Config::load`] gives has been checked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// The file; `None` where there is none.
    #[serde(skip)]
    pub path: Option<PathBuf>,
    /// What is written: `alerts` (default), `events`, `all`.
    pub emit: Option<Emit>,
    /// How it is written: `auto` (default), `json`, `pretty`.
    pub format: Option<Format>,
    /// File that documents are appended to; standard output by default.
    pub output: Option<Spanned<PathBuf>>,
    /// Kernel type information instead of `/sys/kernel/btf/vmlinux`.
    pub btf: Option<Spanned<PathBuf>>,
    /// Family of hooks: `auto` (default), `lsm`, `tracepoint`.
    pub tier: Option<TierChoice>,
    /// Buffers between the kernel and the agent.
    pub rings: Option<FileRings>,
    /// File records that the lineage of one server may make a second outside watched directories: 20000
    /// by default, at most 1000000; 0 for no limit.
    pub file_quota_per_second: Option<Spanned<u32>>,
    /// What the agent may take.
    pub memory: Option<FileMemory>,
    /// How long an event may wait for an earlier one of another CPU, milliseconds: 5 by default, at most
    /// 5000.
    pub order_window_ms: Option<Spanned<u32>>,
    /// Facts that others are asked for.
    pub enrichment: Option<FileEnrichment>,
    /// How this node's pods are asked for.
    pub kubernetes: Option<FileKubernetes>,
    /// Hashes of files.
    pub hash: Option<FileHash>,
    /// Directories that matter beside the defaults and the discovered ones.
    pub directories: Option<FileDirectories>,
    /// Leaves out the table of default directories: `false` by default.
    pub exclude_default_directories: Option<bool>,
    /// Which rules hold.
    pub rules: Option<FileRules>,
    /// What rules match and is no alert.
    pub exceptions: Option<FileExceptions>,
    /// How alerts of one server are told.
    pub incidents: Option<FileIncidents>,
    /// What is left to the next agent of this boot.
    pub state: Option<FileState>,
    /// How the running agent is asked.
    pub control: Option<FileControl>,
}

/// `state`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileState {
    /// The file: `/run/tracer/state` by default, `null` for none.
    #[serde(deserialize_with = "said")]
    pub file: Option<Option<Spanned<PathBuf>>>,
    /// How often it is written where something has changed, seconds: 5 by default, 1 to 3600.
    pub seconds: Option<Spanned<u32>>,
}

/// `rings`: powers of two, at least one page, at most 1 GiB. By default as large as the machine asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileRings {
    /// Process life, bytes: 8388608 on machines with up to 8 possible CPUs, at most 8 times as much.
    pub life_bytes: Option<Spanned<u32>>,
    /// File events, bytes: half as much.
    pub file_bytes: Option<Spanned<u32>>,
}

/// `memory`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileMemory {
    /// What the tables may take together, bytes: 134217728 by default, 16777216 to 68719476736.
    pub budget_bytes: Option<Spanned<u64>>,
}

/// `enrichment`: facts that others are asked for, as container runtimes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileEnrichment {
    /// How long an alert waits for an answer, milliseconds: 250 by default, at most 10000; 0 for not at all.
    pub wait_ms: Option<Spanned<u32>>,
    /// Sockets of container runtimes: those of containerd, CRI-O, Docker and podman by default.
    pub container_sockets: Option<Vec<Spanned<PathBuf>>>,
}

/// `hash`: SHA-256 of files that alerts are about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileHash {
    /// Longest executable, bytes: 67108864 by default, at most 1073741824; 0 for none.
    pub max_bytes: Option<Spanned<u32>>,
    /// Longest file that a server wrote, the same way: 16777216 by default.
    pub max_written_bytes: Option<Spanned<u32>>,
}

/// `directories`: absolute paths; a segment that is exactly `*` stands for any one name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileDirectories {
    /// Files are answers to requests.
    pub served: Option<Vec<Spanned<String>>>,
    /// Files are the program that a server runs.
    pub application: Option<Vec<Spanned<String>>>,
    /// Files become part of a server.
    pub component: Option<Vec<Spanned<String>>>,
    /// Files are run as programs for requests.
    pub cgi: Option<Vec<Spanned<String>>>,
    /// Tells what any process writes in these and the other directories that matter, not only what
    /// servers do: `false` by default.
    pub any_writer: Option<bool>,
}

/// `control`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileControl {
    /// The socket by which `tracer tree` and `tracer servers` ask the agent, an absolute path:
    /// [`CONTROL_SOCKET`] by default; `null` for none.
    #[serde(deserialize_with = "said")]
    pub socket: Option<Option<Spanned<PathBuf>>>,
}

/// Tells a key that is null from one that is not there.
fn said<'de, D, T>(value: D) -> Result<Option<Option<T>>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(value).map(Some)
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

/// Reads and checks a text.
fn parse(file: &Path, text: &[u8]) -> Result<FileConfig, ConfigError> {
    let error = |(line, message)| ConfigError {
        file: file.to_owned(),
        line,
        message,
    };
    let text = str::from_utf8(text).map_err(|invalid| {
        let before = text.get(..invalid.valid_up_to()).unwrap_or_default();
        let line = before
            .iter()
            .map(|byte| u64::from(*byte == b'\n'))
            .sum::<u64>()
            + 1;
        error((
            Some(line),
            "not UTF-8 text; save the file as UTF-8".to_owned(),
        ))
    })?;
    // A file with all its lines commented out is a valid choice of every default.
    let said = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let mut config = if text.lines().any(said) {
        serde_saphyr::from_str(text).map_err(|e| error(explain::yaml(text, &e)))?
    } else {
        FileConfig::default()
    };
    check(&config).map_err(error)?;
    config.path = Some(file.to_owned());
    Ok(config)
}

type Fault = (Option<u64>, String);

fn check(config: &FileConfig) -> Result<(), Fault> {
    for (key, path) in [("output", &config.output), ("btf", &config.btf)] {
        if let Some(path) = path
            .as_ref()
            .filter(|path| path.value.as_os_str().is_empty())
        {
            let message = format!("{key}: an empty path; name a file, or leave the key out");
            return Err((line(path), message));
        }
    }
    let control = config.control.clone().unwrap_or_default().socket.flatten();
    if let Some(path) = control.filter(|path| !path.value.is_absolute()) {
        let message = format!(
            "control.socket: {:?} is not an absolute path; begin it with /, or write null for no socket",
            path.value
        );
        return Err((line(&path), message));
    }
    let rings = config.rings.clone().unwrap_or_default();
    ring("rings.life_bytes", rings.life_bytes.as_ref())?;
    ring("rings.file_bytes", rings.file_bytes.as_ref())?;
    let quota = config.file_quota_per_second.as_ref();
    range("file_quota_per_second", quota, 0, MAX_QUOTA)?;
    let budget = config.memory.clone().unwrap_or_default().budget_bytes;
    range(
        "memory.budget_bytes",
        budget.as_ref(),
        MIN_BUDGET,
        MAX_BUDGET,
    )?;
    exceptions::check(&config.exceptions.clone().unwrap_or_default())?;
    let state = config.state.clone().unwrap_or_default();
    range(
        "state.seconds",
        state.seconds.as_ref(),
        1,
        MAX_STATE_SECONDS,
    )?;
    if let Some(file) = state.file.flatten()
        && (!file.value.is_absolute() || file.value.file_name().is_none())
    {
        let message = "state.file: not an absolute path of a file; name one, or null for none";
        return Err((line(&file), message.to_owned()));
    }
    let window = config.order_window_ms.as_ref();
    range("order_window_ms", window, 0, MAX_ORDER_WINDOW_MS)?;
    let enrichment = config.enrichment.clone().unwrap_or_default();
    sockets(&enrichment.container_sockets.unwrap_or_default())?;
    let wait = enrichment.wait_ms;
    range(
        "enrichment.wait_ms",
        wait.as_ref(),
        0,
        MAX_ENRICHMENT_WAIT_MS,
    )?;
    incidents::check(&config.incidents.clone().unwrap_or_default())?;
    kubernetes::check(&config.kubernetes.clone().unwrap_or_default())?;
    rules::check(&config.rules.clone().unwrap_or_default())?;
    let hash = config.hash.clone().unwrap_or_default();
    range("hash.max_bytes", hash.max_bytes.as_ref(), 0, MAX_HASHED)?;
    let written = hash.max_written_bytes.as_ref();
    range("hash.max_written_bytes", written, 0, MAX_HASHED)?;
    for (kind, list) in config.directories.clone().unwrap_or_default().lists() {
        let key = kind.name();
        for (index, pattern) in list.iter().enumerate() {
            let fault = if index >= MAX_DIRECTORIES {
                Some(format!("more than {MAX_DIRECTORIES} of them"))
            } else {
                directory_fault(&pattern.value)
            };
            if let Some(fault) = fault {
                return Err((line(pattern), format!("directories.{key}: {fault}")));
            }
        }
    }
    Ok(())
}

fn line<T>(value: &Spanned<T>) -> Option<u64> {
    Some(value.referenced.line()).filter(|line| *line > 0)
}

fn ring(key: &str, value: Option<&Spanned<u32>>) -> Result<(), Fault> {
    let Some(spanned) = value else {
        return Ok(());
    };
    let bytes = spanned.value;
    let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
    if bytes.is_power_of_two() && (page..=MAX_RING_BYTES).contains(&bytes) {
        return Ok(());
    }
    let nearest = bytes
        .clamp(page, MAX_RING_BYTES)
        .checked_next_power_of_two()
        .unwrap_or(MAX_RING_BYTES);
    Err((
        line(spanned),
        format!(
            "{key}: {bytes} is not a power of two from {page} (one page) to {MAX_RING_BYTES}; \
             {nearest} is"
        ),
    ))
}

fn sockets(sockets: &[Spanned<PathBuf>]) -> Result<(), Fault> {
    for (index, socket) in sockets.iter().enumerate() {
        let key = "enrichment.container_sockets";
        let path = &socket.value;
        if !path.is_absolute() {
            let message = format!("{key}: {path:?} is not an absolute path; begin it with /");
            return Err((line(socket), message));
        }
        if index >= MAX_SOCKETS {
            return Err((
                line(socket),
                format!("{key}: more than {MAX_SOCKETS} of them"),
            ));
        }
    }
    Ok(())
}

fn range<T: Copy + PartialOrd + fmt::Display>(
    key: &str,
    value: Option<&Spanned<T>>,
    min: T,
    max: T,
) -> Result<(), Fault> {
    match value {
        Some(spanned) if !(min..=max).contains(&spanned.value) => Err((
            line(spanned),
            format!("{key}: {} is not from {min} to {max}", spanned.value),
        )),
        _ => Ok(()),
    }
}

/// What is wrong with a directory pattern.
fn directory_fault(pattern: &str) -> Option<String> {
    let bytes = pattern.as_bytes();
    if !pattern.starts_with('/') {
        return Some(format!(
            "{pattern:?} is not an absolute path; begin it with /"
        ));
    }
    for segment in path::segments(bytes) {
        if segment == b".." || segment == b"." {
            return Some(format!(
                "{pattern:?} has a . or .. in it; write the path without"
            ));
        }
        if segment.contains(&b'*') && segment != b"*" {
            return Some(format!(
                "in {pattern:?}, * has to be a whole segment, as in /home/*/www"
            ));
        }
    }
    if path::segments(bytes).next() == Some(b"*") {
        return Some(format!(
            "{pattern:?} begins with *; name its first directory"
        ));
    }
    match path::normalise(bytes) {
        None => Some(format!("{pattern:?} is too long or has a NUL in it")),
        Some(path) if too_wide(&path) => Some(format!(
            "{pattern:?} is a whole system directory; name the directory in it that is meant"
        )),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
