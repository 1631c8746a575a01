//! What was lost, as the agent keeps account of it, and how it stands in one line.

use std::collections::BTreeMap;
use std::fmt;

use crate::sensor::Sensor;
use crate::sensor::account::Occupancy;
use crate::source::{Loss, Stream};

/// What a source counts for one reason.
pub(super) struct Looked {
    pub(super) reason: &'static str,
    /// Whether an event was lost each time.
    pub(super) loses_event: bool,
    /// How often since it began; apart for each stream where it is numbered records.
    pub(super) counts: Vec<(Option<Stream>, u64)>,
}

impl Looked {
    pub(super) fn one(reason: &'static str, count: u64, loses_event: bool) -> Self {
        Self {
            reason,
            loses_event,
            counts: vec![(None, count)],
        }
    }
}

/// How often a source lost something for one reason.
struct Count {
    reason: &'static str,
    counts: BTreeMap<Option<Stream>, u64>,
    /// When it was last looked at, nanoseconds since boot.
    looked_boot_ns: u64,
}

/// All counts, in the order in which their reasons were first looked at.
pub(super) struct Counts {
    counts: Vec<Count>,
    begin_boot_ns: u64,
}

impl Counts {
    /// Nothing was lost before this time.
    pub(super) const fn new(begin_boot_ns: u64) -> Self {
        Self {
            counts: Vec::new(),
            begin_boot_ns,
        }
    }

    /// Takes what a source counts by now, read after `before_boot_ns`; gives what is more than before and
    /// lost an event each time. Nothing is ever counted less: what is told to be is not believed.
    pub(super) fn look(
        &mut self,
        now: impl IntoIterator<Item = Looked>,
        before_boot_ns: u64,
        boot_ns: u64,
    ) -> Vec<Loss> {
        let mut losses = Vec::new();
        for looked in now {
            let Looked { reason, .. } = looked;
            let at = self.counts.iter().position(|known| known.reason == reason);
            let at = at.unwrap_or_else(|| {
                self.counts.push(Count {
                    reason,
                    counts: BTreeMap::new(),
                    looked_boot_ns: self.begin_boot_ns,
                });
                self.counts.len() - 1
            });
            let Some(known) = self.counts.get_mut(at) else {
                continue;
            };
            let mut believed = true;
            for (stream, count) in looked.counts {
                let before = known.counts.entry(stream).or_default();
                believed &= count >= *before;
                let more = count.saturating_sub(*before);
                *before += more;
                if more > 0 && looked.loses_event {
                    losses.push(Loss {
                        reason: reason.to_owned(),
                        stream,
                        count: more,
                        since_boot_ns: known.looked_boot_ns,
                        boot_ns,
                    });
                }
            }
            if believed {
                known.looked_boot_ns = before_boot_ns;
            }
        }
        losses
    }

    /// Reasons and counts.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let sum = |count: &Count| (count.reason, count.counts.values().sum());
        self.counts.iter().map(sum)
    }
}

/// How the agent stands, shown as one line.
pub(super) struct Health {
    /// Records that the kernel side made.
    pub(super) made: u64,
    /// Records taken from the ring of process life.
    pub(super) life: u64,
    /// Records taken from the ring of files.
    pub(super) files: u64,
    /// Records lost, by reason.
    pub(super) lost: Vec<(&'static str, u64)>,
    /// How full the maps were when they were last looked at.
    pub(super) maps: Vec<Occupancy>,
}

impl Health {
    /// What the ledger says; asked for often, so nothing is counted for it.
    pub(super) fn of(sensor: &Sensor, life: u64, files: u64, maps: Vec<Occupancy>) -> Self {
        let lost = sensor.lost_records();
        Self {
            made: sensor.made(),
            life,
            files,
            lost: lost
                .iter()
                .map(|(why, count)| (why.name(), *count))
                .collect(),
            maps,
        }
    }

    /// Records that neither arrived nor were counted as lost: under way, as long as hooks are attached.
    pub(super) fn unaccounted(&self) -> u64 {
        let lost: u64 = self.lost.iter().map(|(_, count)| count).sum();
        self.made.abs_diff(self.life + self.files + lost)
    }
}

impl super::Agent {
    /// Counts of all parts by name.
    pub(super) fn all_counts(&self) -> Vec<(String, u64)> {
        let health = self.health();
        self.pipeline
            .counts()
            .into_iter()
            .chain([
                ("records_made", health.made),
                ("records_of_life", health.life),
                ("records_of_files", health.files),
                ("records_unaccounted", health.unaccounted()),
            ])
            .chain(health.maps.iter().map(|map| (map.name, map.used.into())))
            .chain(self.counts.all())
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name.to_owned(), count))
            .chain(self.pipeline.exceptions_needed())
            .collect()
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            made,
            life,
            files,
            lost,
            maps,
        } = self;
        write!(
            f,
            "{made} records made, {life} taken of process life and {files} of files"
        )?;
        for (reason, count) in lost.iter().filter(|(_, count)| *count > 0) {
            write!(f, ", {reason} {count}")?;
        }
        for Occupancy { name, used, size } in maps {
            write!(f, ", {name} {used} of {size}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(reason: &str, count: u64, since_boot_ns: u64, boot_ns: u64) -> Loss {
        Loss {
            reason: reason.into(),
            stream: None,
            count,
            since_boot_ns,
            boot_ns,
        }
    }

    fn looked<const N: usize>(all: [(&'static str, u64, bool); N]) -> [Looked; N] {
        all.map(|(reason, count, loses_event)| Looked::one(reason, count, loses_event))
    }

    #[test]
    fn what_is_more_is_told_with_its_time() {
        let mut counts = Counts::new(5);
        let first = looked([("a", 2, true), ("b", 1, false), ("c", 0, true)]);
        assert_eq!(counts.look(first, 10, 11), [loss("a", 2, 5, 11)]);
        // Not every source is looked at each time.
        assert_eq!(counts.look(looked([("a", 2, true)]), 20, 21), []);
        let third = looked([
            ("c", 4, true),
            ("b", 7, false),
            ("a", 3, true),
            ("new", 1, true),
        ]);
        assert_eq!(
            counts.look(third, 30, 31),
            [
                loss("c", 4, 10, 31),
                loss("a", 1, 20, 31),
                loss("new", 1, 5, 31)
            ]
        );
        let all: Vec<_> = counts.all().collect();
        assert_eq!(all, [("a", 3), ("b", 7), ("c", 4), ("new", 1)]);
    }

    #[test]
    fn a_count_that_could_not_be_read_tells_nothing_twice() {
        let mut counts = Counts::new(5);
        let first = counts.look(looked([("a", 7, true)]), 10, 11);
        assert_eq!(first, [loss("a", 7, 5, 11)]);
        assert_eq!(counts.look(looked([("a", 0, true)]), 20, 21), []);
        // What was lost meanwhile is known from the look before that.
        let third = counts.look(looked([("a", 8, true)]), 30, 31);
        assert_eq!(third, [loss("a", 1, 10, 31)]);
        assert_eq!(counts.all().collect::<Vec<_>>(), [("a", 8)]);
    }

    #[test]
    fn each_stream_has_its_own_count() {
        let of = |cpu, count| (Some(Stream { cpu, slot: 3 }), count);
        let look = |counts: &mut Counts, streams: Vec<_>| {
            let looked = Looked {
                reason: "a",
                loses_event: true,
                counts: streams,
            };
            let losses = counts.look([looked], 10, 11).into_iter();
            losses
                .map(|loss| (loss.stream, loss.count))
                .collect::<Vec<_>>()
        };
        let mut counts = Counts::new(5);
        assert_eq!(look(&mut counts, vec![of(0, 2)]), [of(0, 2)]);
        let more = vec![of(0, 2), of(1, 5)];
        assert_eq!(look(&mut counts, more), [of(1, 5)]);
        assert_eq!(counts.all().collect::<Vec<_>>(), [("a", 7)]);
    }

    #[test]
    fn the_line_tells_all_but_zeros() {
        let mut health = Health {
            made: 10,
            life: 4,
            files: 3,
            lost: vec![("life_ring_full", 0), ("file_quota", 3)],
            maps: vec![Occupancy {
                name: "tags",
                used: 5,
                size: 65_536,
            }],
        };
        assert_eq!(
            health.to_string(),
            "10 records made, 4 taken of process life and 3 of files, file_quota 3, tags 5 of 65536"
        );
        assert_eq!(health.unaccounted(), 0);
        health.made = 12;
        assert_eq!(health.unaccounted(), 2);
        health.made = 9;
        assert_eq!(health.unaccounted(), 1);
    }
}
