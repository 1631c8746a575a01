//! What was lost, as the agent keeps account of it, and how it stands in one line.

use std::fmt;

use crate::sensor::Sensor;
use crate::sensor::account::Occupancy;
use crate::source::Loss;

/// How often a source lost something for one reason.
struct Count {
    reason: &'static str,
    count: u64,
    /// Whether an event was lost each time.
    loses_event: bool,
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
    /// lost an event each time.
    pub(super) fn look(
        &mut self,
        now: impl IntoIterator<Item = (&'static str, u64, bool)>,
        before_boot_ns: u64,
        boot_ns: u64,
    ) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (reason, count, loses_event) in now {
            let at = self.counts.iter().position(|known| known.reason == reason);
            let at = at.unwrap_or_else(|| {
                self.counts.push(Count {
                    reason,
                    count: 0,
                    loses_event,
                    looked_boot_ns: self.begin_boot_ns,
                });
                self.counts.len() - 1
            });
            let Some(known) = self.counts.get_mut(at) else {
                continue;
            };
            known.loses_event = loses_event;
            let more = count.saturating_sub(known.count);
            if more > 0 && known.loses_event {
                losses.push(Loss {
                    reason: reason.to_owned(),
                    count: more,
                    since_boot_ns: known.looked_boot_ns,
                    boot_ns,
                });
            }
            known.count = count;
            known.looked_boot_ns = before_boot_ns;
        }
        losses
    }

    /// Reasons and counts.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|count| (count.reason, count.count))
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
    /// How full the maps are.
    pub(super) maps: Vec<Occupancy>,
}

impl Health {
    pub(super) fn of(sensor: &Sensor, life: u64, files: u64) -> Self {
        let lost = sensor.lost_records();
        Self {
            made: sensor.made(),
            life,
            files,
            lost: lost
                .iter()
                .map(|(why, count)| (why.name(), *count))
                .collect(),
            maps: sensor.occupancy(),
        }
    }

    /// Records that neither arrived nor were counted as lost: under way, as long as hooks are attached.
    pub(super) fn unaccounted(&self) -> u64 {
        let lost: u64 = self.lost.iter().map(|(_, count)| count).sum();
        self.made.abs_diff(self.life + self.files + lost)
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

    #[test]
    fn what_is_more_is_told_with_its_time() {
        let mut counts = Counts::new(5);
        let loss = |reason: &str, count, since_boot_ns, boot_ns| Loss {
            reason: reason.into(),
            count,
            since_boot_ns,
            boot_ns,
        };
        let first = [("a", 2, true), ("b", 1, false), ("c", 0, true)];
        assert_eq!(counts.look(first, 10, 11), [loss("a", 2, 5, 11)]);
        // Not every source is looked at each time.
        assert_eq!(counts.look([("a", 2, true)], 20, 21), []);
        let third = [
            ("c", 4, true),
            ("b", 7, false),
            ("a", 3, true),
            ("new", 1, true),
        ];
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
