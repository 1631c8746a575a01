//! How full the kernel side's maps are: looked at now and then, on a thread of its own, as counting them asks the
//! kernel for each key.

use super::apart::Word;
use super::owner::Owner;
use super::{Agent, TAGS};
use crate::pipeline::WrittenFile;
use crate::sensor::account::Occupancy;

/// What is said once of the map of written files.
const WRITTEN: &str = "written before";

impl Agent {
    /// Tells the kernel side of a file that an earlier agent knew.
    pub(super) fn know_written(&mut self, WrittenFile { file, names }: &WrittenFile) {
        let file = file.map(|(file, writer)| self.sensor.set_written(file, writer));
        let names = names.iter().map(|name| self.sensor.set_written_name(name));
        let mut all = file.into_iter().chain(names);
        if let Some(Err(error)) = all.find(Result::is_err)
            && !self.warned.contains(&WRITTEN)
        {
            eprintln!("tracer: the kernel side does not know what servers wrote before: {error}");
            self.warned.push(WRITTEN);
        }
    }

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
