//! What the pipeline asks the outside for.

use tracer_common::tag::{self, InodeKey, Serves, Tag};

use super::names::NamesAsked;
use crate::enrich::content::ContentAsked;
use crate::event::ProcessKey;
use crate::lineage::process::Image;

/// What the pipeline asks the outside for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Tag a process in the kernel.
    Tag(ProcessKey, Tag),
    /// Make an executable give roles in the kernel.
    Role(InodeKey, Serves),
    /// Have the kernel side know a file that a server's lineage wrote, unless it knows better.
    Written(WrittenFile),
    /// Read a server's configuration for the directories it serves.
    Discover(ServerSeen),
    /// Find out anew where directories are: one may have been made, moved or covered.
    Identify,
    /// Read `/proc` again: records of process life were lost.
    Heal,
    /// Look where a directory leads. There are never more than [`crate::detect::QUESTIONS`] of these without an
    /// answer, so there must be one to each ([`crate::source::Input::Resolved`]).
    Resolve(NameAsked),
    /// Find out what is in a file. Where [`crate::source::Enrichment`] said that files are answered, there must be
    /// an answer to each ([`crate::source::Input::Content`]).
    Content(ContentAsked),
    /// Read the names of users and groups of a mount namespace. There must be an answer to each
    /// ([`crate::source::Input::Names`]).
    Names(NamesAsked),
    /// Ask the runtimes for a container: seen for the first time. Where [`crate::source::Enrichment`] said that
    /// containers are answered, there must be an answer to each ([`crate::source::Input::Container`]).
    Container(ContainerAsked),
}

/// A file that a server's lineage wrote, as the kernel side knows such a one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// The file and who wrote it, where it is known by more than its names.
    pub file: Option<(InodeKey, tag::Writer)>,
    /// The last components of its names.
    pub names: Vec<Vec<u8>>,
}

/// A container that was seen for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerAsked {
    /// Its id.
    pub id: String,
    /// The runtime that made it, as far as the cgroup tells.
    pub runtime: Option<&'static str>,
    /// Uid of its pod, from the cgroup.
    pub pod_uid: Option<String>,
    /// A process of it.
    pub process: ProcessKey,
}

/// A directory that a process named, and a rule hangs on where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAsked {
    /// The process and its creators: any of them that still lives and is in the mount namespace.
    pub processes: Vec<ProcessKey>,
    /// The mount namespace.
    pub mnt_ns: u32,
    /// The directory, absolute.
    pub directory: Vec<u8>,
}

/// A server whose configuration may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSeen {
    /// The process.
    pub key: ProcessKey,
    /// Its name in the roles table.
    pub server: &'static str,
    /// What it ran.
    pub image: Image,
}
