//! What was lost, and when: what the sources tell, and what the numbers of the records show.
//!
//! Every record has a number of its program and CPU. The kernel side counts what it loses, and that is
//! told before the records that follow are: a gap in the numbers that no such count explains is a loss
//! of its own, [`MISSING`]. Refuses to guess: a loss that is counted and seen as a gap is one loss.

use std::collections::{HashMap, VecDeque};

use tracer_common::ledger::LOSSES;

use crate::event::Meta;
use crate::source::Loss;

/// The reason of a gap that nothing explains.
pub(super) const MISSING: &str = "records_missing";

/// The reason of documents that the output could not take. They were made: no lineage lacks them.
pub const SHED: &str = "documents_shed";

/// Losses remembered for `tracer.integrity`.
const REMEMBERED: usize = 1024;

/// Reasons told apart in one report.
const REASONS: usize = 64;

/// Programs and CPUs whose numbers are followed: more than any machine has of both.
const STREAMS: usize = 65_536;

/// How long after a report the next one comes at the earliest, nanoseconds.
const REPORT_NS: u64 = 10_000_000_000;

/// Losses within this time are told together, nanoseconds.
const ONE_LOSS_NS: u64 = 1_000_000_000;

/// Losses of some time, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) since_boot_ns: u64,
    pub(super) until_boot_ns: u64,
    pub(super) lost: Vec<(String, u64)>,
}

impl Sum {
    fn add(&mut self, loss: &Loss) {
        if self.lost.is_empty() {
            self.since_boot_ns = loss.since_boot_ns;
        }
        self.since_boot_ns = self.since_boot_ns.min(loss.since_boot_ns);
        self.until_boot_ns = self.until_boot_ns.max(loss.boot_ns);
        if let Some((_, count)) = self.lost.iter_mut().find(|(why, _)| *why == loss.reason) {
            *count = count.saturating_add(loss.count);
        } else if self.lost.len() < REASONS {
            self.lost.push((loss.reason.clone(), loss.count));
        }
    }
}

/// The latest record of a program on a CPU.
#[derive(Clone, Copy, Default)]
struct Latest {
    seq: u64,
    boot_ns: u64,
}

#[derive(Default)]
pub(super) struct Losses {
    streams: HashMap<(u32, u16), Latest>,
    /// Records that were counted as lost and whose gap has not been seen yet.
    explained: u64,
    remembered: VecDeque<Loss>,
    untold: Sum,
    /// When a report was last made.
    told_boot_ns: Option<u64>,
}

impl Losses {
    /// Follows the numbers: gives what is missing before this record and was not counted.
    pub(super) fn follow(&mut self, meta: &Meta) -> Option<Loss> {
        // Only programs of the kernel side number their records.
        let key = (meta.cpu, meta.slot);
        if meta.seq == 0 || (self.streams.len() >= STREAMS && !self.streams.contains_key(&key)) {
            return None;
        }
        let latest = self.streams.entry(key).or_default();
        let Some(gap) = meta.seq.checked_sub(latest.seq + 1) else {
            // After its turn: it was taken for missing.
            self.explained = self.explained.saturating_add(1);
            return None;
        };
        let since_boot_ns = latest.boot_ns;
        *latest = Latest {
            seq: meta.seq.min(u64::MAX - 1),
            boot_ns: meta.boot_ns,
        };
        let explained = gap.min(self.explained);
        self.explained -= explained;
        (gap > explained).then(|| Loss {
            reason: MISSING.to_owned(),
            count: gap - explained,
            since_boot_ns,
            boot_ns: meta.boot_ns,
        })
    }

    /// Takes a loss in.
    pub(super) fn add(&mut self, loss: Loss) {
        if LOSSES.iter().any(|reason| reason.name() == loss.reason) {
            self.explained = self.explained.saturating_add(loss.count);
        }
        self.untold.add(&loss);
        if loss.reason == SHED {
            return;
        }
        if self.remembered.len() >= REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back(loss);
    }

    /// Losses by reason that may have to do with what happened from one time to another.
    pub(super) fn between(&self, since_boot_ns: u64, until_boot_ns: u64) -> Vec<(String, u64)> {
        let mut sum = Sum::default();
        self.remembered
            .iter()
            .filter(|loss| loss.boot_ns >= since_boot_ns && loss.since_boot_ns <= until_boot_ns)
            .for_each(|loss| sum.add(loss));
        sum.lost
    }

    /// Whether there is something to report.
    pub(super) fn is_due(&self, now_boot_ns: u64) -> bool {
        let next = self.told_boot_ns.map(|told| told.saturating_add(REPORT_NS));
        !self.untold.lost.is_empty() && next.is_none_or(|next| now_boot_ns >= next)
    }

    /// The losses since the last report, where one is due: at most one in [`REPORT_NS`].
    pub(super) fn report(&mut self, now_boot_ns: u64) -> Option<Sum> {
        if !self.is_due(now_boot_ns) {
            return None;
        }
        self.told_boot_ns = Some(now_boot_ns);
        Some(std::mem::take(&mut self.untold))
    }

    /// Whether something waits so long to be reported that it cannot be part of what is being lost now.
    pub(super) fn is_overdue(&self, now_boot_ns: u64) -> bool {
        let since = self.untold.since_boot_ns;
        self.is_due(now_boot_ns) && now_boot_ns >= since.saturating_add(ONE_LOSS_NS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ProcessKey;
    use tracer_common::probe::Tier;
    use tracer_common::tag::Tag;

    fn meta(cpu: u32, slot: u16, seq: u64, boot_ns: u64) -> Meta {
        Meta {
            boot_ns,
            subject: ProcessKey {
                tgid: 1,
                start_ticks: 0,
            },
            start_boot_ns: 0,
            tid: 1,
            tag: Tag::ZERO,
            tier: Tier::Tracepoint,
            flags: 0,
            cpu,
            slot,
            seq,
        }
    }

    fn loss(reason: &str, count: u64, boot_ns: u64) -> Loss {
        Loss {
            reason: reason.into(),
            count,
            since_boot_ns: boot_ns - 1,
            boot_ns,
        }
    }

    #[test]
    fn a_gap_is_a_loss_unless_it_was_counted() {
        let mut losses = Losses::default();
        assert_eq!(losses.follow(&meta(0, 1, 1, 10)), None);
        // Another program and another CPU have numbers of their own.
        assert_eq!(losses.follow(&meta(0, 2, 1, 11)), None);
        assert_eq!(losses.follow(&meta(1, 1, 1, 12)), None);
        // Records of user space have none.
        assert_eq!(losses.follow(&meta(0, 1, 0, 13)), None);
        assert_eq!(losses.follow(&meta(0, 1, 2, 14)), None);
        let expected = Loss {
            since_boot_ns: 14,
            ..loss(MISSING, 3, 20)
        };
        assert_eq!(losses.follow(&meta(0, 1, 6, 20)), Some(expected));
        // Five are lost and counted: two before this record, and three after the last.
        losses.add(loss("life_ring_full", 3, 30));
        losses.add(loss("file_quota", 2, 30));
        assert_eq!(losses.follow(&meta(0, 1, 9, 30)), None);
        assert_eq!(losses.follow(&meta(0, 2, 5, 31)), None);
        let expected = Loss {
            since_boot_ns: 31,
            ..loss(MISSING, 1, 40)
        };
        assert_eq!(losses.follow(&meta(0, 2, 7, 40)), Some(expected));
        // The first record of a program is not its first.
        let expected = Loss {
            since_boot_ns: 0,
            ..loss(MISSING, 2, 50)
        };
        assert_eq!(losses.follow(&meta(2, 1, 3, 50)), Some(expected));
    }

    #[test]
    fn counts_of_other_things_explain_no_gap() {
        let mut losses = Losses::default();
        losses.add(loss("tag_map_full", 5, 1));
        assert_eq!(losses.follow(&meta(0, 0, 2, 9)).unwrap().count, 1);
    }

    #[test]
    fn a_record_after_its_turn_is_not_missing_any_more() {
        let mut losses = Losses::default();
        losses.add(loss("file_ring_full", 1, 1));
        assert_eq!(losses.follow(&meta(0, 0, 3, 9)).unwrap().count, 1);
        assert_eq!(losses.follow(&meta(0, 0, 2, 8)), None);
        // What it had been taken for is another.
        assert_eq!(losses.follow(&meta(0, 0, 5, 10)), None);
        assert_eq!(
            losses.follow(&meta(0, 0, u64::MAX, 11)).unwrap().count,
            u64::MAX - 6
        );
        assert_eq!(losses.follow(&meta(0, 0, u64::MAX, 12)), None);
    }

    #[test]
    fn a_report_is_all_since_the_last_and_not_too_soon() {
        const SECOND: u64 = 1_000_000_000;
        let mut losses = Losses::default();
        assert_eq!(losses.report(u64::MAX), None);
        losses.add(loss("life_ring_full", 1, SECOND));
        losses.add(loss("file_fault", 1, SECOND));
        let first = losses.report(SECOND).unwrap();
        assert_eq!(
            first.lost,
            [
                ("life_ring_full".to_owned(), 1),
                ("file_fault".to_owned(), 1)
            ]
        );
        assert_eq!(
            (first.since_boot_ns, first.until_boot_ns),
            (SECOND - 1, SECOND)
        );
        losses.add(loss("life_ring_full", 2, 2 * SECOND));
        losses.add(loss("life_ring_full", 3, 9 * SECOND));
        assert_eq!(losses.report(10 * SECOND), None);
        let second = losses.report(11 * SECOND).unwrap();
        assert_eq!(second.lost, [("life_ring_full".to_owned(), 5)]);
        assert_eq!(
            (second.since_boot_ns, second.until_boot_ns),
            (2 * SECOND - 1, 9 * SECOND)
        );
        assert_eq!(losses.report(u64::MAX), None, "there is nothing to tell");
    }

    #[test]
    fn integrity_is_about_a_time_and_not_about_the_output() {
        let mut losses = Losses::default();
        losses.add(loss("life_ring_full", 1, 10));
        losses.add(loss("life_ring_full", 2, 20));
        losses.add(loss(SHED, 7, 20));
        losses.add(loss("file_fault", 4, 30));
        let of = |since, until| losses.between(since, until);
        assert_eq!(of(0, 5), []);
        assert_eq!(of(10, 15), [("life_ring_full".to_owned(), 1)]);
        assert_eq!(of(11, 25), [("life_ring_full".to_owned(), 2)]);
        assert_eq!(of(31, 40), []);
        assert_eq!(of(0, 40).len(), 2);
    }
}
