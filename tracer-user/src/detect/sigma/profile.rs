//! What each rule costs: it is judged alone against every case of a run, and its time and matches are counted.
//!
//! A rule alone costs more than as one of many, as those that cannot match are not looked at together: the figures
//! compare rules with each other. Fields that are made once for all rules are made before. The clock is the caller's:
//! this module has none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rsigma_eval::Event;

use super::{Category, RuleError, RuleSet, Source, load};
use crate::rule::Rule;

/// Readings of the clock that tell what reading it costs.
const READINGS: u32 = 1000;

/// Rules that are measured while a pipeline runs.
pub struct Profile {
    /// Nanoseconds, from any beginning.
    clock: fn() -> u64,
    /// What reading the clock costs.
    overhead: u64,
    all: Vec<Alone>,
}

struct Alone {
    rule: Arc<Rule>,
    category: Category,
    set: RuleSet,
    events: AtomicU64,
    matches: AtomicU64,
    nanoseconds: AtomicU64,
}

/// What a rule cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The kind of events that it is about.
    pub category: Category,
    /// Events of that kind.
    pub events: u64,
    /// Those of them that it matched.
    pub matches: u64,
    /// Time that it took for all of them.
    pub nanoseconds: u64,
}

impl Cost {
    /// Nanoseconds for one event.
    #[must_use]
    pub const fn each(&self) -> u64 {
        match self.nanoseconds.checked_div(self.events) {
            Some(each) => each,
            None => 0,
        }
    }
}

impl Profile {
    /// Every rule of these files. What is wrong with them is told as by [`RuleSet::load`].
    #[must_use]
    pub fn new(sources: &[Source], clock: fn() -> u64) -> (Self, Vec<RuleError>) {
        let (mut all, mut errors) = (Vec::new(), Vec::new());
        for source in sources {
            for loaded in load::load(source, &mut errors) {
                let category = loaded.category;
                let mut set = RuleSet::empty();
                match set.add(source, loaded) {
                    Ok(Some(rule)) => {
                        set.index();
                        all.push(Alone {
                            rule,
                            category,
                            set,
                            events: AtomicU64::new(0),
                            matches: AtomicU64::new(0),
                            nanoseconds: AtomicU64::new(0),
                        });
                    }
                    Ok(None) => {}
                    Err(error) => errors.push(error),
                }
            }
        }
        let pairs = (0..READINGS).map(|_| {
            let before = clock();
            clock().saturating_sub(before)
        });
        let profile = Self {
            clock,
            overhead: pairs.min().unwrap_or_default(),
            all,
        };
        (profile, errors)
    }

    /// Judges an event by each rule that is about its kind.
    pub(in crate::detect) fn judge<E: Event>(&self, category: Category, event: &E) {
        for alone in self.all.iter().filter(|alone| alone.category == category) {
            let before = (self.clock)();
            let matched = alone.set.matching(category, event);
            let took = (self.clock)().saturating_sub(before);
            let took = took.saturating_sub(self.overhead);
            alone.nanoseconds.fetch_add(took, Ordering::Relaxed);
            alone.events.fetch_add(1, Ordering::Relaxed);
            let matched = u64::from(!matched.is_empty());
            alone.matches.fetch_add(matched, Ordering::Relaxed);
        }
    }

    /// What each rule cost so far, the dearest first.
    #[must_use]
    pub fn costs(&self) -> Vec<Cost> {
        let costs = self.all.iter().map(|alone| Cost {
            rule: Arc::clone(&alone.rule),
            category: alone.category,
            events: alone.events.load(Ordering::Relaxed),
            matches: alone.matches.load(Ordering::Relaxed),
            nanoseconds: alone.nanoseconds.load(Ordering::Relaxed),
        });
        let mut costs: Vec<Cost> = costs.collect();
        costs.sort_by(|one, other| {
            let key = |cost: &Cost| (cost.each(), cost.matches);
            let order = key(other).cmp(&key(one));
            order.then_with(|| one.rule.id.cmp(&other.rule.id))
        });
        costs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Every reading is a microsecond after the one before.
    fn clock() -> u64 {
        static NOW: AtomicU64 = AtomicU64::new(0);
        NOW.fetch_add(1000, Ordering::Relaxed)
    }

    #[test]
    fn every_event_of_its_kind_and_each_match_is_counted() {
        let text = "title: Shell\nlogsource: {category: process_creation}\n\
                    detection: {s: {Image|endswith: /sh}, condition: s}\n---\n\
                    title: Served\nlogsource: {category: file_event}\n\
                    detection: {s: {File.IsServed: true}, condition: s}\n";
        let (profile, errors) = Profile::new(&[Source::new("x", "x.yml", text)], clock);
        assert_eq!(errors, []);
        for image in ["/bin/sh", "/bin/ls", "/bin/sh"] {
            let event = json!({"Image": image});
            profile.judge(
                Category::ProcessCreation,
                &rsigma_eval::JsonEvent::borrow(&event),
            );
        }
        let costs = profile.costs();
        let told = costs
            .iter()
            .map(|cost| (&*cost.rule.id, cost.events, cost.matches));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [("shell", 3, 2), ("served", 0, 0)]
        );
        // A reading between the two is another test's: never less than what was subtracted.
        assert_eq!(profile.overhead, 1000);
        assert_eq!(costs[1].each(), 0);
    }
}
