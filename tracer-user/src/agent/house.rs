//! What the agent does once a second: losses, the clock, what is due.

use std::io;

use super::health::{Health, Looked};
use super::{Agent, SYSCALLS_MISSED, TAGS_REFUSED, host};
use crate::pipeline::SHED;
use crate::sensor::Sensor;
use crate::source::Input;

/// How often, in seconds, it is looked at how full the kernel side's maps are: counting them asks the
/// kernel for each key.
const OCCUPANCY_SECONDS: u64 = 10;

/// How often, in seconds, a line on standard error says how the agent stands.
const HEALTH_SECONDS: u64 = 3600;

/// Change of the wall clock against the boot clock that is told, nanoseconds.
const CLOCK_STEP_NS: u128 = 1_000_000;

impl Agent {
    /// Once a second: tells the pipeline what was lost and what the clock says, and begins what is due.
    pub(super) fn keep_house(&mut self) -> io::Result<()> {
        self.tell_losses()?;
        let wall = host::boot_wall_ns();
        if wall.abs_diff(self.boot_wall_ns) > CLOCK_STEP_NS {
            self.boot_wall_ns = wall;
            self.give(Input::Clock(wall))?;
        }
        if self.seconds.is_multiple_of(OCCUPANCY_SECONDS) {
            self.count_maps();
        }
        self.seconds += 1;
        if self.seconds.is_multiple_of(HEALTH_SECONDS) {
            eprintln!("tracer: {}", self.health());
        }
        self.sensor.diagnose();
        self.servers.refresh();
        self.rules.refresh();
        if let Some(keeper) = &mut self.keeper {
            let pipeline = &self.pipeline;
            keeper.step(pipeline.lineage_changes(), || pipeline.remember());
        }
        self.give_names()
    }

    /// Tells the pipeline what was lost, whatever the reason.
    pub(super) fn tell_losses(&mut self) -> io::Result<()> {
        let before = host::boot_ns();
        let mut now: Vec<Looked> = lost_records(&self.sensor).collect();
        for (reason, count) in self.sensor.other_drops() {
            now.push(Looked::one(reason.name(), count, reason.loses_event()));
        }
        for (reason, count) in self.sensor.misses() {
            // Of the system calls that were left out, any may have been a server's. Where there is none,
            // it is counted, and no reason to doubt what such a host tells.
            let is_lossy = reason != SYSCALLS_MISSED || self.pipeline.knows_servers();
            now.push(Looked::one(reason, count, is_lossy));
        }
        now.push(Looked::one(TAGS_REFUSED, self.tags_refused, true));
        now.push(Looked::one(SHED, self.shed, true));
        now.push(Looked::one(
            "directories_unwatched",
            self.servers.refused(),
            false,
        ));
        now.push(Looked::one(
            "servers_unknown",
            self.servers.unknown(),
            false,
        ));
        self.tell(now, before)
    }

    pub(super) fn tell(
        &mut self,
        now: impl IntoIterator<Item = Looked>,
        before: u64,
    ) -> io::Result<()> {
        for loss in self.counts.look(now, before, host::boot_ns()) {
            self.give(Input::Loss(loss))?;
        }
        Ok(())
    }

    pub(super) fn health(&self) -> Health {
        let (life, files) = (self.life.taken(), self.files.taken());
        Health::of(&self.sensor, life, files, self.maps.clone())
    }
}

/// Records that the kernel side has lost since load.
pub(super) fn lost_records(sensor: &Sensor) -> impl Iterator<Item = Looked> {
    let lost = sensor.lost_by_stream().into_iter();
    lost.map(|(reason, streams)| Looked {
        reason: reason.name(),
        loses_event: true,
        counts: streams
            .into_iter()
            .map(|(stream, count)| (Some(stream), count))
            .collect(),
    })
}
