//! Where inputs come from: the rings, `/proc` at start-up, a capture file.
//!
//! Everything that the pipeline ever learns is an [`Input`], and a capture file is the inputs in
//! the order the pipeline took them. So replay is the same path, to the same bytes.

pub mod capture;
pub mod remembered;
pub mod ring;
pub mod rules;
pub mod snapshot;

use std::sync::Arc;

use bytes::Bytes;

use crate::alert::HostFacts;
use crate::detect::sigma::Chosen;
use crate::enrich::content::{Content, Moment};
use crate::enrich::docroot::Entry;
use crate::enrich::facts::{ContainerFacts, PodFacts};
use crate::enrich::user::Whose;
use crate::event::FileId;

use self::remembered::{Blind, Remembered};

/// One thing that the pipeline learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Who and where this host is. The first input.
    Host(HostFacts),
    /// Wall time of boot, nanoseconds since the Unix epoch.
    Clock(i128),
    /// Names of users and groups.
    Names(Names),
    /// What is in a file that was asked for; `None` where it could not be found out.
    Content {
        /// The file.
        moment: Moment,
        /// What is in it.
        content: Option<Content>,
    },
    /// A directory that a server serves or loads from, found in its configuration.
    Directory(Entry),
    /// No server names this directory any more.
    DirectoryUnnamed(Vec<u8>),
    /// Where such a directory is, as the kernel identifies it.
    DirectoryAt {
        /// The directory.
        file: FileId,
        /// The entry that leads there.
        entry: Entry,
    },
    /// No entry leads to this directory any more.
    DirectoryLeft(FileId),
    /// Where a directory leads that a caller named, see [`Resolved`].
    Resolved(Resolved),
    /// A record of a ring or of the snapshot.
    Record(Bytes),
    /// Every process that ran at start-up has been given.
    SnapshotEnd,
    /// Every record up to this kernel time (nanoseconds since boot) has been given.
    Watermark(u64),
    /// Something was lost. Told before the records that follow the loss are.
    Loss(Loss),
    /// `/proc` was read again from this kernel time on (nanoseconds since boot), as something had been
    /// lost. What follows is the records of that, with the tags that the kernel holds.
    HealBegin(u64),
    /// Every process that runs has been given.
    HealEnd,
    /// What an earlier agent of this boot knew. Told before the processes that run at start-up are.
    Remembered(Remembered),
    /// A time in which no agent ran. Told once the hooks are attached.
    Blind(Blind),
    /// Who answers questions, and how long an alert waits for it. Where this is not given, nobody does.
    Enrichment(Enrichment),
    /// What a runtime says of a container, asked or not; `None` where no runtime knows it.
    Container {
        /// The container.
        id: String,
        /// What was said.
        facts: Option<Box<ContainerFacts>>,
    },
    /// A part of the exceptions that hold from their end on.
    Exceptions(ExceptionPart),
    /// What Kubernetes says of a pod of this node; `None` where it is gone.
    Pod {
        /// Its uid as the node knows it, which is the one in paths of cgroups.
        uid: String,
        /// What was said.
        facts: Option<Box<PodFacts>>,
    },
    /// How many alerts of one kind of an incident go out at once in a minute; zero for all. Where this is not given, it
    /// is 8.
    Fold(u32),
    /// Which rules hold from now on. Where this is not given, it is those of the pack.
    Rules {
        /// When they were read, nanoseconds since boot.
        boot_ns: u64,
        /// The rules.
        chosen: Arc<Chosen>,
    },
    /// Rules were to be read anew, and something is wrong with them: those before hold on.
    RulesRejected(RulesRejected),
}

/// Why rules were not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesRejected {
    /// When they were read, nanoseconds since boot.
    pub boot_ns: u64,
    /// How many errors there are.
    pub wrong: u64,
    /// Rules that are not supported.
    pub unsupported: u64,
    /// The first error: file, line, and what would be right.
    pub error: String,
}

/// Exceptions come as the texts of their files, which are longer than a frame may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExceptionPart {
    /// More of a file's text; a new file where the name is another than before.
    Text {
        /// The file.
        file: String,
        /// Its text, or the next part of that: at most 32 KiB.
        text: String,
    },
    /// These are all: they take the place of those before.
    End,
}

/// What the agent can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enrichment {
    /// How long an alert waits for answers, milliseconds of kernel time.
    pub wait_ms: u32,
    /// Facts of containers.
    pub containers: bool,
    /// Facts of pods beyond those of their containers.
    pub pods: bool,
    /// Hashes and owners of files.
    pub files: bool,
}

/// Names of users and groups, or some of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Where they hold.
    pub whose: Whose,
    /// What comes of it.
    pub step: NamesStep,
    /// Whether others follow that belong to these.
    pub more: bool,
    /// Whether it is a group's, its number in the initial user namespace, the name.
    pub names: Vec<(bool, u32, String)>,
}

/// What names do to those that were known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamesStep {
    /// They come to them.
    Add,
    /// They take their place.
    Replace,
    /// There are none: no process could be looked at.
    Fail,
}

/// A directory that was named by a string, and where that led when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The mount namespace that both names are of.
    pub mnt_ns: u32,
    /// As it was named: absolute, its links not followed.
    pub directory: Vec<u8>,
    /// With every link followed; empty where that leads nowhere, or could not be looked at.
    pub real: Vec<u8>,
}

/// A loss, as told by the part that lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Why: the word of a `tracer_common::probe::Drop` or of a stage of user space.
    pub reason: String,
    /// Whose records, where it is numbered records that were lost.
    pub stream: Option<Stream>,
    /// How many more since last told.
    pub count: u64,
    /// It happened after this time, nanoseconds since boot.
    pub since_boot_ns: u64,
    /// And up to this: when it was noticed.
    pub boot_ns: u64,
}

/// Records that are numbered together: those of one program on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream {
    /// The CPU.
    pub cpu: u32,
    /// The program's slot.
    pub slot: u16,
}
