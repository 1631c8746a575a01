//! One process: who it is, who made it, what it ran.

use std::borrow::Cow;
use std::sync::Arc;

use tracer_common::event::Ids;
use tracer_common::tag::{Role, Tag};

use crate::alert::Severity;
use crate::enrich::container::Place;
use crate::event::{Credentials, Exec, Meta, ProcessKey};

/// Changes of users, groups and capabilities that are kept of one process.
const RAN_AS: usize = 8;

/// How the agent knows of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its creation was seen by the fork hook: the creator is certain.
    Witnessed,
    /// It ran when the agent started and was read from `/proc`: the parent is the current one.
    Observed,
    /// Only named by a record about another process, or by its own exec.
    Inferred,
    /// Its creation was lost; it was read from `/proc` afterwards: the parent is the one of that moment, or
    /// where that is a reaper the server that it descends from.
    Healed,
    /// An earlier agent of this boot knew it, and left its lineage to this one.
    Restored,
    /// It ran when the agent started, and had lost its creator to a reaper: the server that it descends
    /// from was inferred ([`super::orphan`]), who is between is not known.
    Orphan,
}

impl Origin {
    /// The word in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Witnessed => "witnessed",
            Self::Observed => "observed",
            Self::Inferred | Self::Orphan => "inferred",
            Self::Healed => "healed",
            Self::Restored => "restored",
        }
    }
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The table's name of it (`nginx`, `php-fpm`, `tomcat`), else its executable's.
    pub name: Cow<'static, str>,
    /// What it does.
    pub role: Role,
    /// What made it known as one.
    pub why: Why,
}

/// What a process is known as a server by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its executable, or the arguments of its runtime, are in the roles table.
    Named,
    /// It listens on an internet socket.
    Listens,
    /// It takes connections from a socket that it was handed.
    Accepts,
}

impl Why {
    /// The word in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Listens => "listens",
            Self::Accepts => "accepts",
        }
    }
}

/// A program that a process ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The facts of the exec, or of `/proc` where the process is older than the agent.
    pub exec: Arc<Exec>,
    /// When it began, nanoseconds since boot; for an observed image, when it was read.
    pub boot_ns: u64,
    /// Read from `/proc`, not witnessed.
    pub observed: bool,
    /// The server this program is.
    pub server: Option<Server>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When, nanoseconds since boot.
    pub boot_ns: u64,
    /// As wait(2) gives it: exit status << 8 | signal. `None` where the end itself was not seen.
    pub status: Option<u32>,
}

/// What a process ran as from some time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RanAs {
    /// When it was told, nanoseconds since boot; the first of a process from its start.
    pub boot_ns: u64,
    /// Users and groups.
    pub ids: Ids,
    /// Effective and permitted capabilities, where they were told too.
    pub capabilities: Option<(u64, u64)>,
}

/// How a process that no server created came to a server's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// It executed a file that a server's lineage wrote.
    File,
    /// A server's lineage reached into it: ptrace(2), process_vm_writev(2), `/proc/PID/mem`.
    Trace,
}

impl Via {
    /// The word in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Trace => "trace",
        }
    }
}

/// What connects a process to a lineage that it was not born into. The first such cause stays: it is
/// the one that the tag came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Who wrote the file, or reached in.
    pub from: ProcessKey,
    /// How.
    pub via: Via,
    /// When the process was executed or reached into, nanoseconds since boot.
    pub boot_ns: u64,
}

/// A process of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Who it is.
    pub key: ProcessKey,
    /// When it started, nanoseconds since boot.
    pub start_boot_ns: u64,
    /// How it is known.
    pub origin: Origin,
    /// Who created it: the true creator where witnessed, else the parent that `/proc` gave.
    pub creator: Option<ProcessKey>,
    /// The kernel's parent when last told, which may be a reaper.
    pub parent: Option<ProcessKey>,
    /// Its pid in its own pid namespace; zero where unknown.
    pub vpid: u32,
    /// That namespace, inode number; zero where unknown.
    pub pid_ns: u32,
    /// Programs it ran, in time order. A process that never called execve runs its creator's:
    /// the first is then inherited.
    pub images: Vec<Image>,
    /// How many of the images (from the front) were inherited from the creator.
    pub inherited: usize,
    /// Users and groups as last told: a worker that began as root has changed them since.
    pub ids: Option<Ids>,
    /// Users, groups and capabilities as last told in full, which tells a change from a repetition.
    pub credentials: Option<Credentials>,
    /// What it ran as in time order; empty where that never changed. The first and the latest
    /// [`RAN_AS`].
    pub ran_as: Vec<RanAs>,
    /// Programs that it ran and that were left out, as there were too many.
    pub images_forgotten: u32,
    /// The kernel gave it the children of another that ended: it is a reaper (`PR_SET_CHILD_SUBREAPER`).
    pub reaper: bool,
    /// The container that it is in, shared by all that are in it; `None` on the host, and where nothing told.
    /// [`super::Store::place`] knows what follows from the creator.
    pub place: Option<Arc<Place>>,
    /// Whether its cgroup was told, by itself or by who created it.
    pub placed: bool,
    /// Descent from a server.
    pub tag: Tag,
    /// What else than its birth the tag came by.
    pub link: Option<Link>,
    /// Whether it is kept beyond its end, as one of the latest that wrote files: who executes one of
    /// these hours later leads back to it.
    pub kept: bool,
    /// What the server that it descends from was inferred by, bits of [`super::orphan::By`]; zero where it
    /// was not.
    pub inferred_by: u8,
    /// Ports it listens on or takes connections at, in the order they were first told.
    pub ports: Vec<u16>,
    /// It serves for the one who is logged in there: the process of the session that it is no server for as
    /// long as that lives.
    pub session: Option<ProcessKey>,
    /// How it ended; `None` while it lives.
    pub ended: Option<Ended>,
    /// Rules that were raised for what it and its descendants ran, with the worst severity of each.
    pub alerted: Vec<(&'static str, Severity)>,
    /// Whether it is in the store's count of what processes take.
    pub counted: bool,
}

impl Process {
    /// A process of which nothing but this is known.
    #[must_use]
    pub const fn new(key: ProcessKey, start_boot_ns: u64, origin: Origin, tag: Tag) -> Self {
        Self {
            key,
            start_boot_ns,
            origin,
            creator: None,
            parent: None,
            vpid: 0,
            pid_ns: 0,
            images: Vec::new(),
            inherited: 0,
            ids: None,
            credentials: None,
            ran_as: Vec::new(),
            images_forgotten: 0,
            reaper: false,
            place: None,
            placed: false,
            tag,
            link: None,
            kept: false,
            inferred_by: 0,
            ports: Vec::new(),
            session: None,
            ended: None,
            alerted: Vec::new(),
            counted: false,
        }
    }

    /// The same, found running what `/proc` says.
    #[must_use]
    pub fn running(meta: &Meta, origin: Origin, tag: Tag, exec: &Exec, image: Image) -> Self {
        let mut process = Self::new(meta.subject, meta.start_boot_ns, origin, tag);
        process.images.push(image);
        process.became(exec);
        process
    }

    /// Notes what it runs as, before [`Self::ids`] and [`Self::credentials`] are set to that.
    pub(super) fn runs_as(&mut self, now: RanAs) {
        let known = self.credentials.map(|credentials| {
            let Credentials {
                cap_effective,
                cap_permitted,
                ..
            } = credentials;
            (cap_effective, cap_permitted)
        });
        let Some(before) = self.ids else {
            return;
        };
        let same = now.capabilities.is_none() || known.is_none() || now.capabilities == known;
        if before == now.ids && same {
            return;
        }
        if self.ran_as.is_empty() {
            self.ran_as.push(RanAs {
                boot_ns: self.start_boot_ns,
                ids: before,
                capabilities: known,
            });
        }
        if self.ran_as.len() >= RAN_AS {
            self.ran_as.remove(1);
        }
        self.ran_as.push(now);
    }

    /// Takes what an exec says of the process itself.
    pub fn became(&mut self, exec: &Exec) {
        self.vpid = exec.ns.vpid;
        self.pid_ns = exec.ns.pid;
        self.ids = Some(exec.ids);
        self.credentials = Some(exec.credentials());
    }

    /// The program it runs now.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        self.images.last()
    }
}
