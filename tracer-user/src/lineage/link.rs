//! What connects processes other than birth: files that one wrote and another executed, and memory
//! that one reached into. Refuses to guess: a link rests on an inode or on a target that the kernel
//! named.
//!
//! A process that wrote or reached in is kept beyond its end, as one of the latest [`KEPT`]: the file
//! that it left may be executed hours later.

use tracer_common::event::{EventKind, access};
use tracer_common::tag::{Tag, via};

use super::process::{Link, Origin, Process, Via};
use super::{CHAIN, Retag, Store};
use crate::event::{Exec, FileAccess, Meta, ProcessKey, Trace, Writer};

/// Ended processes that are kept because they wrote files or reached into others.
const KEPT: usize = 1024;

/// Inode number of the initial pid namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
pub(super) const INITIAL_PID_NS: u32 = 0xeffffffc;

impl Store {
    /// The nearest link of a process or its creators.
    #[must_use]
    pub fn link(&self, key: ProcessKey) -> Option<Link> {
        self.chain(key).find_map(|process| process.link)
    }

    /// The lineage through the nearest link: who it leads to, then that process's own lineage, which
    /// goes on through earlier links where it has any. Nothing where there is no link, or where it
    /// leads to a process that is not known any more. At most [`CHAIN`].
    pub fn linked(&self, key: ProcessKey) -> impl Iterator<Item = &Process> {
        // Each link must be older than the one before: two processes may reach into each other.
        let mut before = u64::MAX;
        let mut next = self.link(key).and_then(|link| {
            before = link.boot_ns;
            self.get(link.from)
        });
        std::iter::from_fn(move || {
            let process = next?;
            let link = process.link.filter(|link| link.boot_ns < before);
            if let Some(link) = link {
                before = link.boot_ns;
            }
            let onward = link.map(|link| link.from).or(process.creator);
            next = onward.and_then(|key| self.get(key));
            Some(process)
        })
        .take(CHAIN)
    }

    /// A process executes what a server's lineage wrote.
    pub(super) fn executes(&mut self, meta: &Meta, exec: &Exec, retag: &mut Vec<Retag>) {
        if let Some(writer) = &exec.writer {
            self.by_file(meta, writer, retag);
        }
    }

    /// A server's lineage used a file; or the interpreter of a script that one wrote opened it, which
    /// is where the process comes to its tag.
    pub(super) fn file(&mut self, meta: &Meta, file: &FileAccess, retag: &mut Vec<Retag>) {
        let mapped = file.kind == EventKind::Map && file.access & access::WRITE != 0;
        let wrote = mapped || matches!(file.kind, EventKind::Open | EventKind::Write);
        if wrote {
            self.keep(meta.subject);
        } else if file.kind == EventKind::Read
            && meta.tag.via & via::FILE != 0
            && let Some(writer) = &file.writer
        {
            self.by_file(meta, writer, retag);
        }
    }

    /// Gives the tag of who wrote a file to who executes it, unless that one has a tag by birth.
    fn by_file(&mut self, meta: &Meta, writer: &Writer, retag: &mut Vec<Retag>) {
        let Some(process) = self.get(meta.subject) else {
            return;
        };
        let born = process.tag.is_server_lineage() && meta.tag.via & via::FILE == 0;
        if born || self.link(meta.subject).is_some() {
            return;
        }
        let Some(process) = self.get_mut(meta.subject) else {
            return;
        };
        if !process.tag.is_server_lineage() {
            process.tag = if meta.tag.is_server_lineage() {
                meta.tag
            } else {
                writer.tag.child()
            };
        }
        process.tag.via |= via::FILE;
        if process.tag.roles & !meta.tag.roles != 0 {
            retag.push(Retag::Set(meta.subject, process.tag));
        }
        self.set_link(meta.subject, writer.process, Via::File, meta.boot_ns);
    }

    /// A process of a server's lineage reached into another.
    pub(super) fn trace(&mut self, meta: &Meta, trace: &Trace, retag: &mut Vec<Retag>) {
        self.keep(meta.subject);
        let Some(target) = trace.target.or_else(|| self.by_number(trace)) else {
            return;
        };
        let from = self
            .get(meta.subject)
            .map_or(meta.tag, |process| process.tag);
        if !from.is_server_lineage() {
            return;
        }
        if self.get(target).is_none() {
            // Not witnessed yet: its record is on the way, or was lost.
            let start = trace.target_start_boot_ns;
            self.insert(Process::new(target, start, Origin::Inferred, Tag::ZERO));
        }
        let Some(process) = self.get_mut(target) else {
            return;
        };
        let own = process.tag;
        let (server, distance, quota) = if own.is_server_lineage() {
            (own.server, own.distance, own.quota)
        } else {
            (from.server, from.distance, from.quota)
        };
        process.tag = Tag {
            roles: own.roles | from.roles,
            server,
            distance,
            via: own.via | via::TRACE,
            quota,
        };
        if process.tag.roles & !trace.target_tag.roles != 0 {
            retag.push(Retag::Set(target, process.tag));
        }
        let of_its_own = own.is_server_lineage() && own.server == from.server;
        if !of_its_own {
            self.set_link(target, meta.subject, Via::Trace, meta.boot_ns);
        }
    }

    /// The process that a number means where the kernel side could not say: that of the initial pid
    /// namespace is known, any other may be a process's own.
    fn by_number(&self, trace: &Trace) -> Option<ProcessKey> {
        let (number, ns) = (trace.target_vpid, trace.pid_ns);
        if number == 0 {
            return None;
        }
        if ns == INITIAL_PID_NS {
            return self.current.get(&number).copied();
        }
        let living = self.processes.values().filter(|process| {
            process.vpid == number && process.pid_ns == ns && process.ended.is_none()
        });
        // The latest, so that the order of a hash map makes no difference.
        living
            .map(|process| process.key)
            .max_by_key(|key| key.start_ticks)
    }

    fn set_link(&mut self, key: ProcessKey, from: ProcessKey, via: Via, boot_ns: u64) {
        if from == key {
            return;
        }
        let Some(process) = self.get_mut(key) else {
            return;
        };
        if process.link.is_none() {
            process.link = Some(Link { from, via, boot_ns });
        }
        self.keep(from);
    }

    /// Keeps a process beyond its end.
    pub(super) fn keep(&mut self, key: ProcessKey) {
        let Some(process) = self.get_mut(key) else {
            return;
        };
        if std::mem::replace(&mut process.kept, true) {
            return;
        }
        *self.children.entry(key).or_default() += 1;
        self.kept.push_back(key);
        if self.kept.len() > KEPT {
            self.let_go();
        }
    }

    /// Lets the process go that has been kept the longest. False where none is.
    pub(super) fn let_go(&mut self) -> bool {
        let Some(key) = self.kept.pop_front() else {
            return false;
        };
        if let Some(process) = self.get_mut(key) {
            process.kept = false;
        }
        self.forget_child(key);
        self.reconsider(key);
        true
    }
}
