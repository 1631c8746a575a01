//! What was lost, and when: what the sources tell, and what the numbers of the records show.
//!
//! Every record has a number of its program and CPU. The kernel side counts what it loses, for each of
//! these streams, and that is told before the records that follow are: a gap in a stream's numbers that
//! its count does not explain is a loss of its own, [`MISSING`]. Refuses to guess: a loss that is counted
//! and seen as a gap is one loss, and one of another stream explains nothing.

use std::collections::{HashMap, VecDeque};

use tracer_common::ledger::LOSSES;

use crate::event::Meta;
use crate::source::{Loss, Stream};

/// The reason of a gap that nothing explains.
pub(super) const MISSING: &str = "records_missing";

/// The reason of documents that the output could not take. They were made: no lineage lacks them.
pub const SHED: &str = "documents_shed";

/// Losses remembered for `tracer.integrity`, of one reason. Of more than that the oldest become one: its
/// time is less exact then, but a flood of one reason hides no other, and nothing is forgotten.
const REMEMBERED: usize = 128;

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

/// What is known of the numbers of a stream.
#[derive(Clone, Copy, Default)]
struct Known {
    /// The number and time of its latest record.
    seq: u64,
    boot_ns: u64,
    /// Its records that were counted as lost and whose gap has not been seen yet.
    explained: u64,
}

#[derive(Default)]
pub(super) struct Losses {
    streams: HashMap<Stream, Known>,
    /// By reason, in the order in which these came, each in the order of its losses.
    remembered: Vec<VecDeque<Loss>>,
    untold: Sum,
    /// When a report was last made.
    told_boot_ns: Option<u64>,
}

impl Losses {
    /// Follows the numbers: gives what is missing before this record and was not counted.
    pub(super) fn follow(&mut self, meta: &Meta) -> Option<Loss> {
        // Only programs of the kernel side number their records.
        if meta.seq == 0 {
            return None;
        }
        let stream = Stream {
            cpu: meta.cpu,
            slot: meta.slot,
        };
        let known = self.stream(stream)?;
        let Some(gap) = meta.seq.checked_sub(known.seq + 1) else {
            // After its turn: it was taken for missing.
            known.explained = known.explained.saturating_add(1);
            return None;
        };
        let since_boot_ns = known.boot_ns;
        let explained = gap.min(known.explained);
        *known = Known {
            seq: meta.seq.min(u64::MAX - 1),
            boot_ns: meta.boot_ns,
            explained: known.explained - explained,
        };
        (gap > explained).then(|| Loss {
            reason: MISSING.to_owned(),
            stream: Some(stream),
            count: gap - explained,
            since_boot_ns,
            boot_ns: meta.boot_ns,
        })
    }

    /// `None` where there is no room for it.
    fn stream(&mut self, stream: Stream) -> Option<&mut Known> {
        if self.streams.len() >= STREAMS && !self.streams.contains_key(&stream) {
            return None;
        }
        Some(self.streams.entry(stream).or_default())
    }

    /// Takes a loss in.
    pub(super) fn add(&mut self, loss: Loss) {
        if let Some(stream) = loss.stream
            && LOSSES.iter().any(|reason| reason.name() == loss.reason)
            && let Some(known) = self.stream(stream)
        {
            known.explained = known.explained.saturating_add(loss.count);
        }
        self.untold.add(&loss);
        if loss.reason != SHED {
            self.remember(loss);
        }
    }

    fn remember(&mut self, loss: Loss) {
        let mut reasons = self.remembered.iter();
        let known = reasons.position(|of| of.front().is_some_and(|of| of.reason == loss.reason));
        let Some(of) = known.and_then(|at| self.remembered.get_mut(at)) else {
            if self.remembered.len() < REASONS {
                self.remembered.push(VecDeque::from([loss]));
            }
            return;
        };
        if let Some(last) = of.back_mut()
            && span(last, &loss) <= ONE_LOSS_NS
        {
            join(last, &loss);
            return;
        }
        of.push_back(loss);
        if of.len() > REMEMBERED
            && let Some(oldest) = of.pop_front()
            && let Some(next) = of.front_mut()
        {
            join(next, &oldest);
        }
    }

    /// Losses by reason that may have to do with what happened from one time to another.
    pub(super) fn between(&self, since_boot_ns: u64, until_boot_ns: u64) -> Vec<(String, u64)> {
        let mut sum = Sum::default();
        self.remembered
            .iter()
            .flatten()
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

/// Makes two losses for one reason one of both their times.
fn join(one: &mut Loss, other: &Loss) {
    one.count = one.count.saturating_add(other.count);
    one.since_boot_ns = one.since_boot_ns.min(other.since_boot_ns);
    one.boot_ns = one.boot_ns.max(other.boot_ns);
    one.stream = None;
}

/// How long a time that would be.
fn span(one: &Loss, other: &Loss) -> u64 {
    let since_boot_ns = one.since_boot_ns.min(other.since_boot_ns);
    one.boot_ns.max(other.boot_ns).saturating_sub(since_boot_ns)
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
            stream: None,
            count,
            since_boot_ns: boot_ns - 1,
            boot_ns,
        }
    }

    /// The same of a stream's records.
    fn of(cpu: u32, slot: u16, loss: Loss) -> Loss {
        let stream = Some(Stream { cpu, slot });
        Loss { stream, ..loss }
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
            ..of(0, 1, loss(MISSING, 3, 20))
        };
        assert_eq!(losses.follow(&meta(0, 1, 6, 20)), Some(expected));
        // Five are lost and counted: two before this record, and three before that of another program.
        losses.add(of(0, 2, loss("life_ring_full", 3, 30)));
        losses.add(of(0, 1, loss("file_quota", 2, 30)));
        assert_eq!(losses.follow(&meta(0, 1, 9, 30)), None);
        assert_eq!(losses.follow(&meta(0, 2, 5, 31)), None);
        let expected = Loss {
            since_boot_ns: 31,
            ..of(0, 2, loss(MISSING, 1, 40))
        };
        assert_eq!(losses.follow(&meta(0, 2, 7, 40)), Some(expected));
        // The first record of a program is not its first.
        let expected = Loss {
            since_boot_ns: 0,
            ..of(2, 1, loss(MISSING, 2, 50))
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
        losses.add(of(0, 0, loss("file_ring_full", 1, 1)));
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
    fn a_loss_of_one_stream_explains_no_gap_of_another() {
        let mut losses = Losses::default();
        // Of a program that never speaks again.
        losses.add(of(0, 7, loss("life_ring_full", 100, 1)));
        assert_eq!(losses.follow(&meta(0, 1, 4, 9)).unwrap().count, 3);
        assert_eq!(losses.follow(&meta(1, 7, 4, 9)).unwrap().count, 3);
        assert_eq!(losses.follow(&meta(0, 7, 101, 9)), None);
    }

    #[test]
    fn integrity_is_about_a_time_and_not_about_the_output() {
        const SECOND: u64 = 1_000_000_000;
        let mut losses = Losses::default();
        losses.add(loss("life_ring_full", 1, 10 * SECOND));
        losses.add(loss("life_ring_full", 2, 20 * SECOND));
        losses.add(loss(SHED, 7, 20 * SECOND));
        losses.add(loss("file_fault", 4, 30 * SECOND));
        let of = |since, until| losses.between(since * SECOND, until * SECOND);
        assert_eq!(of(0, 5), []);
        assert_eq!(of(10, 15), [("life_ring_full".to_owned(), 1)]);
        assert_eq!(of(11, 25), [("life_ring_full".to_owned(), 2)]);
        assert_eq!(of(31, 40), []);
        assert_eq!(of(0, 40).len(), 2);
    }

    #[test]
    fn a_flood_for_one_reason_hides_no_other() {
        const SECOND: u64 = 1_000_000_000;
        let mut losses = Losses::default();
        losses.add(loss("life_ring_full", 1, SECOND));
        // Twenty minutes, fifty times a second.
        for place in 0..60_000 {
            losses.add(loss("file_quota", 2, 2 * SECOND + place * SECOND / 50));
        }
        let held: usize = losses.remembered.iter().map(VecDeque::len).sum();
        assert!(held <= REMEMBERED + 1, "{held}");
        let life = ("life_ring_full".to_owned(), 1);
        let all = losses.between(0, u64::MAX);
        assert_eq!(all, [life.clone(), ("file_quota".to_owned(), 120_000)]);
        assert_eq!(losses.between(0, SECOND), [life]);
        // Of the latest the time is known to the second.
        let last = losses.between(1201 * SECOND, u64::MAX);
        assert!(
            matches!(&*last, [(why, 50..=200)] if why == "file_quota"),
            "{last:?}"
        );
    }
}
