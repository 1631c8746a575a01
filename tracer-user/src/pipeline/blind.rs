//! When no agent ran, between two of one boot. Bounded: of many such times the oldest become one.

use crate::source::remembered::Blind;

/// Times that are told apart.
const BLINDS: usize = 16;

/// The times, the latest last.
#[derive(Default)]
pub(super) struct Blinds(Vec<Blind>);

impl Blinds {
    pub(super) fn add(&mut self, blind: Blind) {
        if blind.until_boot_ns <= blind.since_boot_ns {
            return;
        }
        if self.0.len() >= BLINDS {
            let first = self.0.remove(0);
            if let Some(second) = self.0.first_mut() {
                second.since_boot_ns = second.since_boot_ns.min(first.since_boot_ns);
            }
        }
        self.0.push(blind);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Blind> {
        self.0.iter().copied()
    }

    /// How much of them lies between two times, nanoseconds.
    pub(super) fn between(&self, since_boot_ns: u64, until_boot_ns: u64) -> u64 {
        let overlap = |blind: &Blind| {
            let since = blind.since_boot_ns.max(since_boot_ns);
            blind.until_boot_ns.min(until_boot_ns).saturating_sub(since)
        };
        self.0.iter().map(overlap).fold(0, u64::saturating_add)
    }

    /// How long the latest was, milliseconds.
    pub(super) fn last_ms(&self) -> u64 {
        let length = |blind: &Blind| blind.until_boot_ns - blind.since_boot_ns;
        self.0.last().map_or(0, length) / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn blind(since_boot_ns: u64, until_boot_ns: u64) -> Blind {
        Blind {
            since_boot_ns,
            until_boot_ns,
        }
    }

    #[test]
    fn overlaps_are_added_and_old_ones_become_one() {
        let mut blinds = Blinds::default();
        blinds.add(blind(10, 20));
        blinds.add(blind(7, 7));
        blinds.add(blind(9, 8));
        blinds.add(blind(30, 40));
        for (since, until, expected) in [(0, 5, 0), (0, 15, 5), (15, 35, 10), (0, 99, 20)] {
            assert_eq!(blinds.between(since, until), expected);
        }
        for at in 0..BLINDS as u64 {
            blinds.add(blind(100 + 10 * at, 105 + 10 * at));
        }
        assert_eq!(blinds.all().count(), BLINDS);
        assert_eq!(blinds.all().next(), Some(blind(10, 105)));
    }
}
