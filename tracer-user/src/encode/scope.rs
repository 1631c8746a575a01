//! What a field is about: a document, and within it one process, program or descriptor.

use tracer_common::event::{FdInfo, Ids};
use tracer_common::tag::Tag;

use super::words::program;
use crate::alert::{Author, Document, Entry, ProcessView};
use crate::event::{Exec, Payload};
use crate::lineage::process::{Image, RanAs, Server};

/// The depth of a process that is not in the lineage.
pub(super) const BESIDE: usize = usize::MAX;

/// What a field is about.
///
/// Depth zero is the process that the document is about. For a fork that is the *child*, as
/// collectors of ECS expect of `event.type: start`; its creator is then the parent.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) document: &'a Document,
    pub(super) process: &'a ProcessView,
    /// Steps from the process that the document is about, or [`BESIDE`].
    pub(super) depth: usize,
    /// A program of the process that is not its current one.
    image: Option<&'a Image>,
    /// A descriptor of the process.
    fd: Option<&'a FdInfo>,
    /// What the process ran as for some time.
    ran_as: Option<&'a RanAs>,
    /// What else is known of a process that is not in the lineage.
    author: Option<&'a Author>,
    /// A rule whose alerts the document stands for.
    folded: Option<&'a (String, u64)>,
}

impl<'a> Scope<'a> {
    /// The document and the process it is about.
    pub(super) fn new(document: &'a Document) -> Self {
        Self {
            document,
            process: born(document).unwrap_or(&document.event.process),
            depth: 0,
            image: None,
            fd: None,
            ran_as: None,
            author: None,
            folded: None,
        }
    }

    /// The rules whose alerts the document stands for.
    pub(super) fn folded(self) -> impl Iterator<Item = Self> {
        let alert = self.document.alert.as_ref();
        let rollup = alert.and_then(|alert| alert.incident.rollup.as_ref());
        let rules = rollup.into_iter().flat_map(|rollup| &rollup.rules);
        rules.map(move |rule| Self {
            folded: Some(rule),
            ..self
        })
    }

    /// That of this scope, and how many alerts.
    pub(super) const fn folded_rule(self) -> Option<&'a (String, u64)> {
        self.folded
    }

    /// The same document, about the ancestor `depth` steps up.
    pub(super) fn ancestor(self, depth: usize) -> Option<Self> {
        let event = &self.document.event;
        let process = match (born(self.document), depth) {
            (child, 0) => child.unwrap_or(&event.process),
            (Some(_), 1) => &event.process,
            (Some(_), _) => event.lineage.get(depth - 2)?,
            (None, _) => event.lineage.get(depth - 1)?,
        };
        Some(Self {
            process,
            depth,
            image: None,
            fd: None,
            ..self
        })
    }

    /// All ancestors, nearest first.
    pub(super) fn ancestors(self) -> impl Iterator<Item = Self> {
        (1..).map_while(move |depth| self.ancestor(depth))
    }

    /// The process, then its ancestors.
    pub(super) fn chain(self) -> impl Iterator<Item = Self> {
        (0..).map_while(move |depth| self.ancestor(depth))
    }

    /// The programs this process ran before, oldest first.
    pub(super) fn previous(self) -> impl Iterator<Item = Self> {
        self.process.previous.iter().map(move |image| Self {
            image: Some(image),
            ..self
        })
    }

    /// All programs that this process ran, the current one last; none where it ran no other.
    pub(super) fn programs(self) -> impl Iterator<Item = Self> {
        let current = self.process.image.iter();
        let current = current.filter(|_| !self.process.previous.is_empty());
        let programs = self.process.previous.iter().chain(current);
        programs.map(move |image| Self {
            image: Some(image),
            ..self
        })
    }

    /// The program that this scope is about.
    pub(super) const fn program(self) -> Option<&'a Image> {
        self.image
    }

    /// What this process ran as, in time order.
    pub(super) fn history(self) -> impl Iterator<Item = Self> {
        self.process.ran_as.iter().map(move |ran_as| Self {
            ran_as: Some(ran_as),
            ..self
        })
    }

    /// What it ran as when this scope is about.
    pub(super) const fn ran_as(self) -> Option<&'a RanAs> {
        self.ran_as
    }

    /// Its parent now.
    pub(super) fn current_parent(self) -> Option<Self> {
        Some(self.beside(self.document.event.kin.parent.as_ref()?))
    }

    /// Who began its process group.
    pub(super) fn group_leader(self) -> Option<Self> {
        Some(self.beside(self.document.event.kin.group_leader.as_ref()?))
    }

    /// Who began its session.
    pub(super) fn session_leader(self) -> Option<Self> {
        Some(self.beside(self.document.event.kin.session_leader.as_ref()?))
    }

    /// The first process of its lineage on the host.
    pub(super) fn entry_leader(self) -> Option<Self> {
        Some(self.beside(&self.entry()?.leader))
    }

    /// How its lineage came onto the host.
    pub(super) fn entry(self) -> Option<&'a Entry> {
        self.document.event.kin.entry.as_ref()
    }

    /// Who wrote the file that the event is about.
    pub(super) fn writer(self) -> Option<Self> {
        let author = self.document.event.writer.as_ref()?;
        Some(self.by(author))
    }

    /// Who the process came to its tag by.
    pub(super) fn link(self) -> Option<Self> {
        let (_, author) = self.document.event.link.as_ref()?;
        Some(self.by(author))
    }

    /// What else is known of a process that the event is connected with.
    pub(super) const fn author(self) -> Option<&'a Author> {
        self.author
    }

    const fn by(self, author: &'a Author) -> Self {
        Self {
            author: Some(author),
            ..self.beside(&author.process)
        }
    }

    /// The process that this one reached into.
    pub(super) fn target(self) -> Option<Self> {
        Some(self.beside(self.document.event.target.as_ref()?))
    }

    /// The server of this name that the writer, or who the process is linked to, descends from or is.
    fn server_beside(self, name: &str) -> Option<Self> {
        let event = &self.document.event;
        let linked = event.link.as_ref().map(|(_, author)| author);
        let authors = event.writer.iter().chain(linked);
        let mut processes =
            authors.flat_map(|author| std::iter::once(&author.process).chain(&author.lineage));
        let process = processes.find(|process| {
            let server = process.server.as_ref();
            server.is_some_and(|server| server.name == name)
        })?;
        Some(self.beside(process))
    }

    /// A process that is not in the lineage.
    const fn beside(self, process: &'a ProcessView) -> Self {
        Self {
            process,
            depth: BESIDE,
            image: None,
            fd: None,
            ..self
        }
    }

    /// One of the standard descriptors.
    pub(super) fn stdio(self, number: usize) -> Option<Self> {
        let fd = self.exec()?.stdio.get(number)?;
        crate::event::fd_type(fd)?;
        Some(Self {
            fd: Some(fd),
            ..self
        })
    }

    /// The socket of the event itself.
    pub(super) fn event_socket(self) -> Option<Self> {
        let Payload::Socket(socket) = self.payload() else {
            return None;
        };
        Some(Self {
            fd: Some(&socket.socket),
            ..self
        })
    }

    /// The descriptor this scope is about.
    pub(super) const fn fd(self) -> Option<&'a FdInfo> {
        self.fd
    }

    pub(super) const fn payload(self) -> &'a Payload {
        &self.document.event.event.payload
    }

    /// Whether the event's own facts are about this process.
    const fn is_subject(self) -> bool {
        self.depth == if born(self.document).is_some() { 1 } else { 0 }
    }

    /// The program: of the event itself where it is an exec of this process, else the one the
    /// process ran at the time.
    pub(super) fn exec(self) -> Option<&'a Exec> {
        if let Some(image) = self.image {
            return Some(&image.exec);
        }
        if let Payload::Exec(exec) | Payload::Observed(exec) = self.payload()
            && self.is_subject()
        {
            return Some(exec);
        }
        self.process.image.as_ref().map(|image| &*image.exec)
    }

    /// Users and groups, as last told.
    pub(super) fn ids(self) -> Option<&'a Ids> {
        self.process.ids.as_ref()
    }

    /// Name of a user, where the process is.
    pub(super) fn user_name(self, uid: u32) -> Option<&'a str> {
        self.process.user_name(uid)
    }

    /// Name of a group, the same way.
    pub(super) fn group_name(self, gid: u32) -> Option<&'a str> {
        self.process.names.found()?.group(gid)
    }

    /// Name of the program: of the executable, or where that is unknown of the file execve named.
    pub(super) fn name(self) -> &'a [u8] {
        self.exec().map_or(b"", program)
    }

    /// The thread that did it.
    pub(super) fn tid(self) -> Option<u32> {
        self.is_subject()
            .then_some(self.document.event.event.meta.tid)
    }

    /// The kernel's tag of the process that the document is about.
    pub(super) fn tag(self) -> Tag {
        if let Payload::Fork(fork) = self.payload()
            && born(self.document).is_some()
        {
            return fork.child_tag;
        }
        self.document.event.event.meta.tag
    }

    /// When and how it ended, up to this event; how is not known where the end was not seen.
    pub(super) fn ended(self) -> Option<(u64, Option<u32>)> {
        if let Payload::Exit(exit) = self.payload()
            && self.is_subject()
        {
            return Some((self.document.event.event.meta.boot_ns, Some(exit.status)));
        }
        let ended = self.process.ended?;
        Some((ended.boot_ns, ended.status))
    }

    /// The nearest server: the one that the alert is about, else the nearest known.
    pub(super) fn server(self) -> Option<(Self, &'a Server)> {
        if let Some(alert) = &self.document.alert {
            let Some(depth) = alert.server_depth else {
                let server = alert.server.as_ref()?;
                let scope = self.server_beside(&server.name);
                let scope = scope.or_else(|| self.writer()).or_else(|| self.link());
                return scope.map(|scope| (scope, server));
            };
            // The alert counts from the event's subject.
            let depth = depth + usize::from(born(self.document).is_some());
            let server = alert.server.as_ref()?;
            return self.ancestor(depth).map(|scope| (scope, server));
        }
        self.chain()
            .find_map(|scope| Some((scope, scope.process.server.as_ref()?)))
    }

    /// Wall time of a moment, nanoseconds since the Unix epoch.
    pub(super) fn wall(self, boot_ns: u64) -> i128 {
        self.document
            .event
            .boot_wall_ns
            .saturating_add(i128::from(boot_ns))
    }

    /// The name by which a program was called, where that is another than its file's: a link, as
    /// `/bin/sh` mostly is.
    pub(super) fn called_as(self) -> Option<&'a [u8]> {
        let exec = self.exec()?;
        (exec.filename == exec.interp && exec.filename != exec.exe).then_some(&*exec.filename)
    }

    /// The script that an interpreter runs.
    pub(super) fn script(self) -> Option<&'a Exec> {
        self.exec()
            .filter(|exec| !exec.filename.is_empty() && exec.filename != exec.interp)
    }

    /// The file of a file event.
    pub(super) fn path(self) -> Option<&'a [u8]> {
        match self.payload() {
            Payload::File(open) => Some(&open.path),
            Payload::Change(rename) => Some(&rename.new),
            Payload::Fork(_)
            | Payload::Exec(_)
            | Payload::Observed(_)
            | Payload::Exit(_)
            | Payload::Socket(_)
            | Payload::ExecFailed(_)
            | Payload::Credentials(_)
            | Payload::Namespace(_)
            | Payload::Trace(_)
            | Payload::Comm(_) => None,
        }
    }
}

/// The child of a fork.
const fn born(document: &Document) -> Option<&ProcessView> {
    if let Payload::Fork(_) = document.event.event.payload {
        document.event.child.as_ref()
    } else {
        None
    }
}
