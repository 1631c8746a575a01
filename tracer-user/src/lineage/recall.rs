//! What of the store is left to the next agent, and how that takes it up. Refuses to believe that anybody
//! lives: who does not come with the snapshot has ended, and stays as an ancestor only.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracer_common::tag::Tag;

use super::heal::is_other;
use super::process::{Ended, Image, Origin, Process};
use super::{Retag, Store, push_image};
use crate::detect::roles;
use crate::event::{Exec, Meta, ProcessKey};
use crate::source::remembered::{Past, PastAlert, PastImage, Remembered};

/// Processes that are left to the next agent: of more, those that started first. As many as the kernel
/// side has tags for on most machines, with what is above them.
const PASTS: usize = 65_536;

impl Store {
    /// Everything of servers' lineages that `/proc` does not show to the next agent: who descends from a
    /// server and lives, all that is above it, and who it is linked with. Older processes come first.
    #[must_use]
    pub fn remember(&self) -> Vec<Remembered> {
        let mut wanted: Vec<ProcessKey> = self
            .processes
            .values()
            .filter(|process| {
                let lives = process.ended.is_none() && process.tag.is_server_lineage();
                lives || process.kept
            })
            .map(|process| process.key)
            .collect();
        let mut keys = BTreeSet::new();
        while let Some(key) = wanted.pop() {
            for process in self.chain(key) {
                if !keys.insert((process.start_boot_ns, process.key)) {
                    break; // and so is who is above it
                }
                wanted.extend(process.link.map(|link| link.from));
            }
        }
        let mut remembered = Vec::new();
        let processes = keys.iter().take(PASTS);
        for process in processes.filter_map(|(_, key)| self.get(*key)) {
            remembered.push(Remembered::Process(Box::new(past(process))));
            remembered.extend(process.images.iter().map(|image| {
                Remembered::Image(Box::new(PastImage {
                    key: process.key,
                    boot_ns: image.boot_ns,
                    observed: image.observed,
                    server: image.server.clone(),
                    exec: Arc::clone(&image.exec),
                }))
            }));
            remembered.extend(process.alerted.iter().map(|(rule, severity)| {
                Remembered::Told(PastAlert {
                    key: process.key,
                    rule: rule.to_string(),
                    severity: *severity,
                })
            }));
        }
        remembered
    }

    /// Takes up a process that an earlier agent knew. Where it lived, the kernel is to know its tag, which
    /// it only takes for one that lives.
    pub fn recall(&mut self, past: &Past, retag: &mut Vec<Retag>) {
        if self.get(past.key).is_some() {
            return;
        }
        // Nobody is made by himself, nor by who is younger.
        let older = |creator: &ProcessKey| {
            *creator != past.key && creator.start_ticks <= past.key.start_ticks
        };
        let process = Process {
            creator: past.creator.filter(older),
            parent: past.parent,
            vpid: past.vpid,
            pid_ns: past.pid_ns,
            inherited: past.inherited.into(),
            ids: past.ids,
            link: past.link,
            inferred_by: past.inferred_by,
            ports: past.ports.clone(),
            ended: past.ended,
            ..Process::new(past.key, past.start_boot_ns, Origin::Restored, past.tag)
        };
        self.insert(process);
        if self.get(past.key).is_none() {
            return; // the store is full
        }
        if past.kept {
            self.keep(past.key);
        }
        match past.ended {
            Some(ended) => self.ended.push_back((ended.boot_ns, past.key)),
            None => {
                self.awaited.insert(past.key);
                if past.tag.is_server_lineage() {
                    retag.push(Retag::Set(past.key, past.tag));
                }
            }
        }
    }

    /// Takes up a program of such a process.
    pub fn recall_image(&mut self, past: &PastImage) {
        let exec = &past.exec;
        let creator = self.get(past.key).and_then(|process| process.creator);
        let creator = creator.and_then(|creator| self.get(creator));
        // A program that was inherited is held once.
        let known = creator.and_then(|creator| {
            let mut images = creator.images.iter();
            images.find(|image| image.exec == *exec)
        });
        let image = Image {
            server: past.server.as_ref().map(roles::tabled),
            exec: Arc::clone(known.map_or(exec, |known| &known.exec)),
            boot_ns: past.boot_ns,
            observed: past.observed,
        };
        if let Some(process) = self.get_mut(past.key)
            && process.origin == Origin::Restored
        {
            process.credentials = Some(exec.credentials());
            push_image(process, image);
            process.inherited = process.inherited.min(process.images.len());
            self.moved(past.key, &exec.cgroup);
        }
        self.fit();
    }

    /// Takes up an alert that was raised where such a process began an attack. One of a rule that is no more
    /// folds nothing.
    pub fn recall_told(&mut self, past: &PastAlert) {
        if let Some(process) = self.get_mut(past.key)
            && process.origin == Origin::Restored
        {
            process.alerted.retain(|(known, _)| **known != *past.rule);
            process
                .alerted
                .push((Arc::from(past.rule.as_str()), past.severity));
        }
    }

    /// Who was not found by the snapshot of this time has ended while no agent ran. How many were found.
    pub fn recalled(&mut self, boot_ns: u64) -> usize {
        let mut gone: Vec<ProcessKey> = self.awaited.drain().collect();
        // So that they leave in the same order on replay.
        gone.sort_unstable();
        for key in gone {
            if let Some(process) = self.get_mut(key)
                && process.ended.is_none()
            {
                process.ended = Some(Ended {
                    boot_ns,
                    status: None,
                });
                self.ended.push_back((boot_ns, key));
            }
        }
        self.fit();
        let all = self.processes.values();
        all.filter(|process| process.origin == Origin::Restored && process.ended.is_none())
            .count()
    }

    /// A process that an earlier agent knew lives.
    pub(super) fn seen_again(&mut self, meta: &Meta, exec: &Exec, image: Image) {
        let Some(process) = self.get_mut(meta.subject) else {
            return;
        };
        process.became(exec);
        process.parent = Some(exec.parent).filter(|parent| parent.tgid != 0);
        let changed = process
            .image()
            .is_none_or(|known| is_other(&known.exec, exec));
        if changed {
            // It executed this while no agent ran.
            if let Some(server) = &image.server {
                process.tag = process.tag.serving(server.role.bit(), meta.subject.tgid);
            }
            push_image(process, image);
        }
        self.moved(meta.subject, &exec.cgroup);
    }
}

/// The tag of a process whose lineage gives this one: an earlier agent's is known from the kernel, and
/// more exact.
pub(super) fn tag(process: &Process, by_lineage: Tag) -> Tag {
    if process.origin == Origin::Restored && process.tag.is_server_lineage() {
        Tag {
            roles: process.tag.roles | by_lineage.roles,
            ..process.tag
        }
    } else {
        by_lineage
    }
}

fn past(process: &Process) -> Past {
    Past {
        key: process.key,
        start_boot_ns: process.start_boot_ns,
        creator: process.creator,
        parent: process.parent,
        vpid: process.vpid,
        pid_ns: process.pid_ns,
        ids: process.ids,
        tag: process.tag,
        link: process.link,
        kept: process.kept,
        inferred_by: process.inferred_by,
        inherited: u16::try_from(process.inherited).unwrap_or(0),
        ports: process.ports.clone(),
        ended: process.ended,
    }
}
