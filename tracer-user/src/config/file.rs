//! The configuration file as the user typed it.

use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::exceptions::FileExceptions;
use super::incidents::FileIncidents;
use super::kubernetes::FileKubernetes;
use super::rules::FileRules;
use super::{Emit, Format};
use crate::sensor::TierChoice;

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
