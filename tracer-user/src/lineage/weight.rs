//! What the processes of the store take, and what goes when that is more than they may.
//!
//! Facts of an exec are shared by all processes that inherited the program, a container by all that are in it;
//! they count once. Whoever changes
//! a process takes it out of the count ([`Store::get_mut`]); before the bound is looked at it is counted again.
//!
//! Ended processes go first, those that ended first before others. When all that is left lives or has a
//! descendant that does, the newest without a descendant of its own goes, one of no server's lineage if there
//! is one near: so the bound is hard, and nobody who is known loses an ancestor.

use std::sync::Arc;

use super::process::{Image, Process, RanAs};
use super::{REFUSED, Store, places};
use crate::alert::Severity;
use crate::event::ProcessKey;
use crate::memory::{block, entry, exec};

/// Newest processes among which one of no server's lineage is looked for.
const NEAR: usize = 64;

/// What a process takes in the store's tables: its own place, that of its children, that of its number, and
/// twice one in the order of ends or of beginnings.
const PLACES: usize = entry(size_of::<(ProcessKey, Box<Process>)>())
    + entry(size_of::<(ProcessKey, usize)>())
    + entry(size_of::<(u32, ProcessKey)>())
    + 4 * size_of::<(u64, ProcessKey)>();

/// What shared facts take in the table of these.
const SHARED: usize = entry(size_of::<(usize, usize)>());

/// What a process takes, without the facts of its programs.
fn own(process: &Process) -> usize {
    PLACES
        + block(size_of::<Process>())
        + block(process.images.capacity() * size_of::<Image>())
        + block(process.ran_as.capacity() * size_of::<RanAs>())
        + block(process.ports.capacity() * size_of::<u16>())
        + block(process.alerted.capacity() * size_of::<(&str, Severity)>())
}

/// Where shared facts are in memory: equal for those who share them.
fn address<T>(facts: &Arc<T>) -> usize {
    Arc::as_ptr(facts).addr()
}

impl Store {
    /// What all processes take, bytes, as far as they are counted.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Counts a process that was put in or changed.
    fn count(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get_mut(&key) else {
            return;
        };
        if std::mem::replace(&mut process.counted, true) {
            return;
        }
        self.held += own(process);
        let shared = &mut self.shared;
        let mut count = |address, weight: usize| {
            let uses = shared.entry(address).or_default();
            *uses += 1;
            if *uses == 1 {
                self.held += SHARED + weight;
            }
        };
        for image in &process.images {
            count(address(&image.exec), exec(&image.exec));
        }
        if let Some(place) = &process.place {
            count(address(place), places::weight(place));
        }
    }

    /// Takes a process out of the count, to be changed or removed. Whether it was in it.
    pub(super) fn uncount(&mut self, key: ProcessKey) -> bool {
        let Some(process) = self.processes.get_mut(&key) else {
            return false;
        };
        if !std::mem::replace(&mut process.counted, false) {
            return false;
        }
        self.held = self.held.saturating_sub(own(process));
        let shared = &mut self.shared;
        let mut uncount = |address, weight: usize| {
            let Some(uses) = shared.get_mut(&address) else {
                return;
            };
            *uses = uses.saturating_sub(1);
            if *uses == 0 {
                shared.remove(&address);
                self.held = self.held.saturating_sub(SHARED + weight);
            }
        };
        for image in &process.images {
            uncount(address(&image.exec), exec(&image.exec));
        }
        if let Some(place) = &process.place {
            uncount(address(place), places::weight(place));
        }
        true
    }

    /// Counts what was changed, and makes everything fit.
    pub(super) fn fit(&mut self) {
        while let Some(key) = self.touched.pop() {
            self.count(key);
        }
        while self.held > self.max {
            if !self.evict() && !self.let_newest_go() {
                break;
            }
        }
        if self.newest.len() > 2 * self.processes.len() + NEAR {
            let processes = &self.processes;
            self.newest.retain(|key| processes.contains_key(key));
        }
    }

    /// Removes the newest process without a descendant, whether or not it lives. False where there is none.
    fn let_newest_go(&mut self) -> bool {
        while let Some(last) = self.newest.last()
            && !self.processes.contains_key(last)
        {
            self.newest.pop();
        }
        let (mut plain, mut tagged) = (None, None);
        for (looked, (at, key)) in self.newest.iter().enumerate().rev().enumerate() {
            if looked >= NEAR && tagged.is_some() {
                break;
            }
            let Some(process) = self.processes.get(key) else {
                continue;
            };
            if self.children.contains_key(key) {
                continue;
            }
            if !process.tag.is_server_lineage() {
                plain = Some(at);
                break;
            }
            tagged = tagged.or(Some(at));
        }
        let Some(at) = plain.or(tagged) else {
            return false;
        };
        let key = self.newest.remove(at);
        if let Some(creator) = self.remove(key) {
            self.reconsider(creator);
        }
        self.refuse(key);
        true
    }

    fn refuse(&mut self, key: ProcessKey) {
        self.owes = true;
        if !self.refused.insert(key) {
            return;
        }
        self.stats.refused += 1;
        self.refusals.push_back(key);
        if self.refusals.len() > REFUSED
            && let Some(oldest) = self.refusals.pop_front()
        {
            self.refused.remove(&oldest);
        }
    }
}
