//! Puts right what lost records left wrong, from `/proc` as it was read afterwards.
//!
//! What was witnessed stays, and nothing that came after the reading began is overruled: `/proc` is
//! believed for what the store does not know, and for programs that changed while records were lost.
//! A process that it does not show has ended; how is not known.

use std::collections::HashSet;
use std::sync::Arc;

use tracer_common::tag::Tag;

use super::process::{Ended, Image, Origin, Process};
use super::{Retag, Store, push_image};
use crate::detect::roles;
use crate::event::{Event, Exec, Meta, Payload, ProcessKey, TICK_NS};

/// What healing did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healed {
    /// Places, among the events, of the processes that were not known or run another program.
    pub news: Vec<usize>,
    /// Processes that have ended unseen.
    pub ended: u64,
}

impl Store {
    /// Merges a reading of `/proc` that began at `begin_boot_ns`: every process that runs, each with the
    /// tag that the kernel holds for it, and sockets that runtimes listen on. The records up to that time
    /// have been applied. `others` run too, but there was no room for what they are.
    pub fn heal(
        &mut self,
        begin_boot_ns: u64,
        events: &[Event],
        others: &[ProcessKey],
        retag: &mut Vec<Retag>,
    ) -> Healed {
        let mut healed = Healed::default();
        let mut alive: HashSet<ProcessKey> = others.iter().copied().collect();
        for (place, Event { meta, payload }) in events.iter().enumerate() {
            if let Payload::Observed(exec) = payload {
                alive.insert(meta.subject);
                if is_settled(meta.subject, begin_boot_ns) && self.found(begin_boot_ns, meta, exec)
                {
                    healed.news.push(place);
                }
            } else if let Payload::Socket(socket) = payload {
                self.socket(meta, socket, retag);
            }
        }
        healed.ended = self.end_all_but(&alive, begin_boot_ns, retag);
        // When all are there: a lineage may go through several that were not known.
        for Event { meta, payload } in events {
            if matches!(payload, Payload::Observed(_)) {
                self.tag_found(meta, retag);
            }
        }
        self.fit();
        healed
    }

    /// A process that runs. Whether that is news.
    fn found(&mut self, begin_boot_ns: u64, meta: &Meta, exec: &Exec) -> bool {
        let image = Image {
            exec: Arc::new(exec.clone()),
            boot_ns: begin_boot_ns,
            observed: true,
            server: roles::by_exec(exec).or_else(|| roles::by_title(exec)),
        };
        let key = meta.subject;
        let number = self.current.get(&key.tgid);
        if number.is_some_and(|current| current.start_ticks > key.start_ticks) {
            // Its number is another's by now, whose records came while `/proc` was read.
            return false;
        }
        if self
            .get(key)
            .is_none_or(|process| process.origin == Origin::Inferred)
        {
            self.found_unknown(meta, exec, image);
            // Refused where the store is full.
            return self.get(key).is_some();
        }
        let Some(process) = self.get_mut(key) else {
            return false;
        };
        if let Some(Ended { status: None, .. }) = process.ended {
            // It was thought to have ended, as it could not be read.
            process.ended = None;
        }
        process.tag.via |= meta.tag.via;
        let changed = process
            .image()
            .is_none_or(|known| known.boot_ns < begin_boot_ns && is_other(&known.exec, exec));
        if changed && process.ended.is_none() {
            process.ids = Some(exec.ids);
            process.credentials = Some(exec.credentials());
            process.parent = Some(exec.parent).filter(|parent| parent.tgid != 0);
            push_image(process, image);
            self.moved(key, &exec.cgroup);
        }
        changed
    }

    fn found_unknown(&mut self, meta: &Meta, exec: &Exec, image: Image) {
        let key = meta.subject;
        let parent = Some(exec.parent).filter(|parent| parent.tgid != 0);
        // Who made it is not known. Where its parent is no descendant of its server, it lost its creator
        // to a reaper: then what is certain is the server.
        let has =
            |of: ProcessKey, other: ProcessKey| self.chain(of).any(|process| process.key == other);
        let server = self.current.get(&meta.tag.server).copied();
        let creator = server
            .filter(|server| meta.tag.distance > 0 && !has(*server, key))
            .filter(|server| self.get(*server).is_some_and(|s| s.tag.is_server_lineage()))
            .filter(|server| !parent.is_some_and(|parent| has(parent, *server)))
            .or(parent);
        if let Some(process) = self.get_mut(key) {
            // Only named by a record about another, or by one of its own.
            process.origin = Origin::Healed;
            process.parent = parent;
            process.tag.roles |= meta.tag.roles;
            process.ids = process.ids.or(Some(exec.ids));
            if process.images.is_empty() {
                process.images.push(image);
            }
            let placed = process.placed;
            if process.creator.is_none() {
                self.set_creator(key, creator);
            }
            if !placed {
                self.moved(key, &exec.cgroup);
            }
            return;
        }
        self.insert(Process {
            creator,
            parent,
            ..Process::running(meta, Origin::Healed, meta.tag, exec, image)
        });
        self.moved(key, &exec.cgroup);
    }

    /// Ends the processes that began before the reading and were not found. How many.
    fn end_all_but(
        &mut self,
        alive: &HashSet<ProcessKey>,
        begin_boot_ns: u64,
        retag: &mut Vec<Retag>,
    ) -> u64 {
        let mut gone: Vec<ProcessKey> = self
            .processes
            .values()
            .filter(|process| process.ended.is_none() && !alive.contains(&process.key))
            .map(|process| process.key)
            .filter(|key| is_settled(*key, begin_boot_ns))
            .collect();
        // So that they leave in the same order on replay.
        gone.sort_unstable();
        for key in &gone {
            if let Some(process) = self.get_mut(*key) {
                process.ended = Some(Ended {
                    boot_ns: begin_boot_ns,
                    status: None,
                });
                self.ended.push_back((begin_boot_ns, *key));
            }
            self.leaves(*key, retag);
        }
        gone.len() as u64
    }

    /// Gives a process the tag of its lineage, and the kernel where that knows less.
    fn tag_found(&mut self, meta: &Meta, retag: &mut Vec<Retag>) {
        let key = meta.subject;
        let own = match self.get(key) {
            Some(process) if process.ended.is_none() => process.tag,
            _ => return,
        };
        let by_lineage = self.lineage_tag(key);
        let tag = if own.is_server_lineage() {
            Tag {
                roles: own.roles | by_lineage.roles,
                ..own
            }
        } else {
            by_lineage
        };
        if let Some(process) = self.get_mut(key) {
            process.tag = tag;
        }
        if tag.roles & !meta.tag.roles != 0 {
            retag.push(Retag::Set(key, tag));
        }
    }
}

/// Whether a process began before the reading: the records of a later one are on their way. Starts are
/// known to a tick.
const fn is_settled(key: ProcessKey, begin_boot_ns: u64) -> bool {
    key.start_ticks.saturating_add(1).saturating_mul(TICK_NS) <= begin_boot_ns
}

/// Whether a process runs another program than it is known to. A file has another device number for
/// `/proc` than for the kernel side on some file systems (overlayfs, btrfs), and may have another path
/// in its mount namespace: another program differs in both.
pub(super) fn is_other(known: &Exec, found: &Exec) -> bool {
    !found.exe.is_empty() && known.exe != found.exe && known.file != found.file
}
