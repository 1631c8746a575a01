//! What is known of pods, told by whoever watches them.
//!
//! Nobody is asked for a pod: all of the node's are told, and one that is not known yet will be, a moment after its
//! first process may have begun. So a pod is pending for a while after it was first seen, and then there is none.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::enrich::facts::{Fact, PodFacts};

/// Pods that there are, several times what a node can have. Of each at most 19 KiB of facts, mostly below 1.
const PODS: usize = 1024;
/// Pods remembered that are gone: their last events come late.
const GONE: usize = 1024;
/// Pods that are waited for.
const AWAITED: usize = 1024;
/// How long after it was first seen a pod may still be told, nanoseconds. Later it is of nobody's who watches: a
/// static one of a node that mirrors none.
const AWAITED_NS: u64 = 30_000_000_000;

#[derive(Default)]
pub(super) struct Pods {
    /// Somebody tells of pods.
    told: bool,
    now_boot_ns: u64,
    known: HashMap<String, Known>,
    /// Uids in the order in which they went, with the number of their going.
    gone: VecDeque<(u64, String)>,
    goings: u64,
    /// When those were first seen that nobody has told of.
    awaited: BTreeMap<String, u64>,
    refused: u64,
}

struct Known {
    facts: Arc<PodFacts>,
    /// It is gone, the how manieth to go.
    gone: Option<u64>,
}

impl Pods {
    pub(super) const fn set(&mut self, told: bool) {
        self.told = told;
    }

    pub(super) fn pass(&mut self, now_boot_ns: u64) {
        if self.now_boot_ns == 0 {
            // What was found at the start was seen before there was a time.
            self.awaited
                .values_mut()
                .for_each(|since| *since = now_boot_ns);
        }
        self.now_boot_ns = now_boot_ns;
    }

    /// Pods known, those that are gone included.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Pods that there was no room for.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    /// A process of this pod was seen.
    pub(super) fn see(&mut self, uid: &str) {
        if self.known.contains_key(uid) || self.awaited.contains_key(uid) {
            return;
        }
        if self.awaited.len() >= AWAITED {
            let now = self.now_boot_ns;
            self.awaited
                .retain(|_, since| now.saturating_sub(*since) < AWAITED_NS);
        }
        if self.awaited.len() < AWAITED {
            self.awaited.insert(uid.to_owned(), self.now_boot_ns);
        }
    }

    /// Somebody tells of a pod as it is now; that it is gone takes nothing away.
    pub(super) fn tell(&mut self, uid: String, facts: Option<Box<PodFacts>>) {
        match facts {
            Some(facts) => {
                let living = self.known.len() - self.gone.len();
                if living >= PODS && !self.known.contains_key(&uid) {
                    self.refused += 1;
                    return;
                }
                self.awaited.remove(&uid);
                let facts = Arc::from(facts);
                let known = Known { facts, gone: None };
                if self
                    .known
                    .insert(uid, known)
                    .and_then(|old| old.gone)
                    .is_some()
                {
                    // A server that lagged behind; it is there again until it goes again.
                    self.gone.retain(|(number, uid)| {
                        self.known.get(uid).and_then(|known| known.gone) == Some(*number)
                    });
                }
            }
            None => {
                let Some(known) = self
                    .known
                    .get_mut(&uid)
                    .filter(|known| known.gone.is_none())
                else {
                    return;
                };
                self.goings += 1;
                known.gone = Some(self.goings);
                self.gone.push_back((self.goings, uid));
                if self.gone.len() > GONE
                    && let Some((_, oldest)) = self.gone.pop_front()
                {
                    self.known.remove(&oldest);
                }
            }
        }
    }

    /// What is known of a pod.
    pub(super) fn fact(&self, uid: &str) -> Fact<Arc<PodFacts>> {
        if let Some(known) = self.known.get(uid) {
            return Fact::Found(Arc::clone(&known.facts));
        }
        let is_new = |since: &u64| self.now_boot_ns.saturating_sub(*since) < AWAITED_NS;
        if self.told && self.awaited.get(uid).is_some_and(is_new) {
            Fact::Pending
        } else {
            Fact::Absent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(name: &str) -> Option<Box<PodFacts>> {
        Some(Box::new(PodFacts {
            name: Some(name.to_owned()),
            ..PodFacts::default()
        }))
    }

    fn name(pods: &Pods, uid: &str) -> Option<String> {
        pods.fact(uid).found()?.name.clone()
    }

    #[test]
    fn a_pod_is_pending_until_it_is_told_or_too_late() {
        let mut pods = Pods::default();
        pods.see("a");
        assert_eq!(pods.fact("a"), Fact::Absent);
        pods.set(true);
        assert_eq!(pods.fact("a"), Fact::Pending);
        assert_eq!(pods.fact("never seen"), Fact::Absent);
        pods.pass(1);
        pods.pass(AWAITED_NS);
        pods.see("a");
        assert_eq!(pods.fact("a"), Fact::Pending);
        pods.pass(AWAITED_NS + 1);
        assert_eq!(pods.fact("a"), Fact::Absent);
        pods.tell("a".into(), facts("late"));
        assert_eq!(name(&pods, "a").as_deref(), Some("late"));
        pods.set(false);
        assert_eq!(name(&pods, "a").as_deref(), Some("late"));
    }

    #[test]
    fn those_that_are_gone_are_remembered_up_to_a_bound() {
        let mut pods = Pods::default();
        pods.tell("kept".into(), facts("kept"));
        pods.tell("back".into(), facts("back"));
        pods.tell("back".into(), None);
        pods.tell("back".into(), facts("back again"));
        for number in 0..3 * GONE {
            pods.tell(number.to_string(), facts("x"));
            pods.tell(number.to_string(), None);
            pods.tell(number.to_string(), None);
        }
        assert_eq!(pods.len(), GONE + 2);
        assert_eq!(pods.refused(), 0);
        assert_eq!(name(&pods, "kept").as_deref(), Some("kept"));
        assert_eq!(name(&pods, "back").as_deref(), Some("back again"));
        assert_eq!(name(&pods, "0"), None);
        assert!(name(&pods, &(3 * GONE - 1).to_string()).is_some());
    }

    #[test]
    fn neither_the_living_nor_the_awaited_grow_without_bound() {
        let mut pods = Pods::default();
        pods.set(true);
        for number in 0..PODS + 5 {
            pods.tell(number.to_string(), facts("x"));
        }
        assert_eq!((pods.len(), pods.refused()), (PODS, 5));
        pods.pass(1);
        for number in 0..AWAITED + 5 {
            pods.see(&format!("a{number}"));
        }
        assert_eq!(pods.awaited.len(), AWAITED);
        pods.pass(2 * AWAITED_NS);
        pods.see("new");
        assert_eq!(pods.awaited.len(), 1);
    }
}
