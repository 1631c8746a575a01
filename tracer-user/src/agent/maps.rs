//! How full the kernel side's maps are: looked at now and then, on a thread of its own, as counting them asks the
//! kernel for each key.

use super::apart::Word;
use super::owner::Owner;
use super::{Agent, TAGS};
use crate::sensor::account::Occupancy;

impl Agent {
    /// Has it counted how full the maps are.
    pub(super) fn count_maps(&mut self) {
        if !self.is_counting {
            self.is_counting = true;
            let counters = self.sensor.share_counters();
            self.counting
                .ask(0, Owner::Host, move |_| counters.occupancy());
        }
    }

    /// Says once of each map that hardly any room is left in it.
    pub(super) fn counted(&mut self, counted: Word<Vec<Occupancy>>) {
        let Word::Done(maps) = counted else {
            return; // it is still counted, or is not from now on
        };
        self.is_counting = false;
        for &map in &maps {
            if map.name == TAGS {
                // Nearly full, what ended unseen is swept out; with room again, those that found none are set.
                let was_full = std::mem::replace(&mut self.tags_full, map.is_nearly_full());
                if was_full != self.tags_full {
                    self.healing.want();
                }
            }
            if map.is_nearly_full() && !self.warned.contains(&map.name) {
                let Occupancy { name, used, size } = map;
                eprintln!(
                    "tracer: {name}: {used} of {size} in use; what does not fit will be counted and \
                     told as a loss"
                );
                self.warned.push(name);
            }
        }
        self.maps = maps;
    }
}
