//! What leaves the pipeline: self-contained documents, ready for any encoder.

use std::sync::Arc;

use tracer_common::event::{FdInfo, Ids};
use tracer_common::tag::Tag;
use uuid::Uuid;

use crate::enrich::container::Place;
use crate::enrich::content::Content;
use crate::enrich::facts::{ContainerFacts, Fact, PodFacts};
use crate::enrich::user::Users;
use crate::event::{Event, ProcessKey};
use crate::lineage::process::{Ended, Image, Origin, RanAs, Server, Via};
use crate::rule::Rule;

/// Facts about the host that every document carries. They do not change while the agent runs,
/// except the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// `host.hostname`
    pub hostname: String,
    /// `/etc/machine-id`, `host.id`
    pub machine_id: String,
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
    /// `uname -m`
    pub architecture: String,
    /// `uname -r`
    pub kernel: String,
    /// `ID`, `NAME` and `VERSION_ID` of `/etc/os-release`
    pub os_platform: String,
    /// See [`Self::os_platform`].
    pub os_name: String,
    /// See [`Self::os_platform`].
    pub os_version: String,
}

/// One process as a document shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessView {
    /// Who it is.
    pub key: ProcessKey,
    /// UUIDv5 of boot id, tgid and start: equal across restarts of the agent.
    pub entity_id: Uuid,
    /// When it started, nanoseconds since boot.
    pub start_boot_ns: u64,
    /// How it is known.
    pub origin: Origin,
    /// What the server that it descends from was inferred by, bits of [`crate::lineage::orphan::By`].
    pub inferred_by: u8,
    /// Its pid in its own pid namespace; zero where unknown.
    pub vpid: u32,
    /// The program it ran at the time of the event; `None` where none was ever seen.
    pub image: Option<Image>,
    /// Programs it ran before, oldest first.
    pub previous: Vec<Image>,
    /// Whether the program came with the fork and was not its own exec.
    pub inherited: bool,
    /// Users and groups at the time of the event, as far as told; `None` where they never were.
    pub ids: Option<Ids>,
    /// What is in its executable.
    pub content: Fact<Content>,
    /// Names of users and groups where it is.
    pub names: Fact<Users>,
    /// The server it is, by its program or by listening.
    pub server: Option<Server>,
    /// Ports it listens on.
    pub ports: Vec<u16>,
    /// The container it runs in, from its cgroup.
    pub container: Option<ContainerView>,
    /// How it ended, where that was before the event.
    pub ended: Option<Ended>,
    /// What it ran as in time order; empty where that did not change.
    pub ran_as: Vec<RanAs>,
    /// Programs it ran that were not kept.
    pub images_forgotten: u32,
}

/// Processes that the one of a document belongs to, beside its creators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kin {
    /// Its parent now: who takes its exit status.
    pub parent: Option<ProcessView>,
    /// That parent was not told: it follows from the end of the one before.
    pub parent_inferred: bool,
    /// Who began its process group.
    pub group_leader: Option<ProcessView>,
    /// Who began its session.
    pub session_leader: Option<ProcessView>,
    /// How its lineage came onto the host.
    pub entry: Option<Entry>,
}

/// How a lineage came onto the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first process of it.
    pub leader: ProcessView,
    /// `sshd`, `container`, `console` or `init`.
    pub kind: &'static str,
    /// The connection that it came by.
    pub socket: Option<FdInfo>,
}

/// The container of a process as a document shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerView {
    /// What the cgroup says of it.
    pub place: Arc<Place>,
    /// What the runtime says of it.
    pub facts: Fact<Arc<ContainerFacts>>,
    /// What the runtime, or Kubernetes, says of its pod.
    pub pod: Fact<Arc<PodFacts>>,
}

impl ContainerView {
    /// Whether something of it may still be answered.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        self.facts.is_pending() || self.pod.is_pending()
    }
}

impl ProcessView {
    /// Name of a user where the process is.
    #[must_use]
    pub fn user_name(&self, uid: u32) -> Option<&str> {
        self.names.found()?.user(uid)
    }
}

/// What was lost in the time that a lineage rests on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Integrity {
    /// Losses by reason since the oldest ancestor that started while the agent ran; empty is complete.
    pub lost: Vec<(String, u64)>,
    /// The chain does not reach PID 1 of the host.
    pub lineage_broken: bool,
    /// And that because it is too long, or because an ancestor that was known is so no more.
    pub ancestry_truncated: bool,
    /// How long no agent ran since the oldest process that the server made began, nanoseconds.
    pub blind_ns: u64,
}

/// An event with all that was known when it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrichedEvent {
    /// The event.
    pub event: Event,
    /// UUIDv5 of the event: the same on replay.
    pub id: Uuid,
    /// Wall time of boot, nanoseconds since the Unix epoch: add to `*_boot_ns` for wall time.
    pub boot_wall_ns: i128,
    /// What is in the file that it is about.
    pub content: Fact<Content>,
    /// The subject.
    pub process: ProcessView,
    /// Its ancestors, nearest first, to PID 1.
    pub lineage: Vec<ProcessView>,
    /// For a fork, the child.
    pub child: Option<ProcessView>,
    /// For a process that reached into another, that other.
    pub target: Option<ProcessView>,
    /// Who of a server's lineage wrote the file that the event is about.
    pub writer: Option<Author>,
    /// Who the process came to its tag by, where that is not who created it.
    pub link: Option<(Via, Author)>,
    /// Whom the process, for a fork the child, belongs to beside its creators.
    pub kin: Kin,
    /// The process came into its container after that had begun, as `kubectl exec` and `docker exec` do, or
    /// descends from one that did.
    pub exec_session: bool,
    /// What was lost.
    pub integrity: Integrity,
    /// The host.
    pub host: Arc<HostFacts>,
}

impl EnrichedEvent {
    /// Every process that the document shows, the subject first.
    pub fn processes(&self) -> impl Iterator<Item = &ProcessView> {
        let linked = self.link.as_ref().map(|(_, author)| author);
        let authors = self.writer.iter().chain(linked);
        std::iter::once(&self.process)
            .chain(&self.lineage)
            .chain(&self.child)
            .chain(&self.target)
            .chain(
                authors.flat_map(|author| std::iter::once(&author.process).chain(&author.lineage)),
            )
    }

    /// The same, to put in what has been answered.
    pub fn processes_mut(&mut self) -> impl Iterator<Item = &mut ProcessView> {
        let linked = self.link.as_mut().map(|(_, author)| author);
        let authors = self.writer.iter_mut().chain(linked);
        std::iter::once(&mut self.process)
            .chain(&mut self.lineage)
            .chain(&mut self.child)
            .chain(&mut self.target)
            .chain(
                authors.flat_map(|author| {
                    std::iter::once(&mut author.process).chain(&mut author.lineage)
                }),
            )
    }

    /// What has been asked for and is not answered, in the words of `tracer.enrichment.pending`.
    #[must_use]
    pub fn pending(&self) -> Vec<&'static str> {
        let mut containers = self
            .processes()
            .filter_map(|process| process.container.as_ref());
        let (mut container, mut pod) = (false, false);
        for view in containers.by_ref() {
            container |= view.facts.is_pending();
            pod |= view.pod.is_pending();
        }
        let names = self.processes().any(|process| process.names.is_pending());
        let files = self.content.is_pending()
            || self.processes().any(|process| process.content.is_pending());
        let of_package = |process: &ProcessView| {
            let content = process.content.found();
            content.is_some_and(|content| content.package.is_pending())
        };
        let packages = self.processes().any(of_package);
        let words = [
            (container, "container"),
            (pod, "pod"),
            (names, "names"),
            (files, "hash"),
            (packages, "package"),
        ];
        let pending = words.into_iter().filter(|(is_pending, _)| *is_pending);
        pending.map(|(_, word)| word).collect()
    }
}

/// A process that an event is connected with other than by birth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The process.
    pub process: ProcessView,
    /// Its ancestors, nearest first, as far as they are known.
    pub lineage: Vec<ProcessView>,
    /// When it did it, nanoseconds since boot.
    pub boot_ns: u64,
    /// Its tag then.
    pub tag: Tag,
}

/// How bad: Elastic's scale of `event.severity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// 21
    Low,
    /// 47
    Medium,
    /// 73
    High,
    /// 99
    Critical,
}

impl Severity {
    /// Every severity.
    pub const ALL: &[Self] = &[Self::Low, Self::Medium, Self::High, Self::Critical];

    /// `event.severity`
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Low => 21,
            Self::Medium => 47,
            Self::High => 73,
            Self::Critical => 99,
        }
    }

    /// The word in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// Why an event is an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// UUIDv5 of event and rule.
    pub id: Uuid,
    /// The rule that matched.
    pub rule: Arc<Rule>,
    /// How bad, by the facts of this alert.
    pub severity: Severity,
    /// One sentence: who did what.
    pub reason: String,
    /// The nearest server: its place in the lineage, zero being the subject itself. `None` where it
    /// is not the subject that descends from it, but the writer.
    pub server_depth: Option<usize>,
    /// That server; `None` where the rule asks for none and there is none.
    pub server: Option<Server>,
    /// For a file: the served or component directory it is in.
    pub directory: Option<Directory>,
    /// The incident that it is part of.
    pub incident: Incident,
}

/// An incident, as it stands with an alert of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incident {
    /// UUIDv5 of boot, server and first alert: the same on replay, and kept over a restart.
    pub id: Uuid,
    /// How bad so far.
    pub score: u64,
    /// Alerts so far, those that were folded included.
    pub alerts: u64,
    /// When the first one was, nanoseconds since boot.
    pub first_boot_ns: u64,
    /// Names of the tactics so far.
    pub tactics: Vec<Arc<str>>,
    /// Earlier alerts that this one follows from: about what it uses, then the incident's first.
    pub related: Vec<Uuid>,
    /// What was folded, where the document stands for that.
    pub rollup: Option<Rollup>,
}

/// Alerts that were counted and not told one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollup {
    /// How many.
    pub count: u64,
    /// When the first of them was, nanoseconds since boot.
    pub first_boot_ns: u64,
    /// When the last was.
    pub last_boot_ns: u64,
    /// How many by rule.
    pub rules: Vec<(String, u64)>,
    /// Some of their reasons.
    pub examples: Vec<String>,
}

/// A directory that a server serves or loads components from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Its path.
    pub path: Vec<u8>,
    /// `served` or `component`
    pub kind: &'static str,
    /// Where that is known from: `default`, or the configuration file.
    pub source: String,
}

/// What was lost in some time. Written whatever documents are wanted: nothing is lost silently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossReport {
    /// UUIDv5 of boot and time: the same on replay.
    pub id: Uuid,
    /// The first of it happened after this time, nanoseconds since boot.
    pub since_boot_ns: u64,
    /// The last was noticed at this time.
    pub until_boot_ns: u64,
    /// Wall time of boot, nanoseconds since the Unix epoch.
    pub boot_wall_ns: i128,
    /// How many, by reason, in the order they were first noticed.
    pub lost: Vec<(String, u64)>,
    /// No agent ran in that time: what was lost is not known.
    pub is_blind: bool,
    /// The host.
    pub host: Arc<HostFacts>,
}

impl LossReport {
    /// How many in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        let counts = self.lost.iter().map(|(_, count)| *count);
        counts.fold(0, u64::saturating_add)
    }
}

/// What sinks write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The event.
    pub event: EnrichedEvent,
    /// Why it is an alert; `None` for plain events.
    pub alert: Option<Alert>,
}
