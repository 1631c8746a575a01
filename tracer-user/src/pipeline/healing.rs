//! What `/proc` shows when it is read again because records of process life were lost.

use tracer_common::probe::Tier;

use super::{Pipeline, REFUSED};
use crate::event::{Event, ProcessKey};
use crate::memory;

/// `/proc` as it was read again, up to where it has been given.
pub(super) struct Reading {
    pub(super) begin_boot_ns: u64,
    pub(super) events: Vec<Event>,
    /// What they take.
    pub(super) bytes: usize,
    /// Processes that it shows, and for whose facts there was no room.
    pub(super) others: Vec<ProcessKey>,
}

/// Processes of one such reading: as many as a kernel has at most (`PID_MAX_LIMIT`,
/// include/linux/threads.h).
const READING: usize = 4 * 1024 * 1024;

/// What healing did so far.
#[derive(Default)]
pub(super) struct Healing {
    pub(super) found: u64,
    pub(super) ended: u64,
    /// Processes of readings for which there was no room.
    pub(super) unread: u64,
}

impl Pipeline {
    /// A record that was read again belongs to that reading; any other waits for its turn.
    pub(super) fn record(&mut self, event: Event) {
        if let Some(reading) = &mut self.reading
            && event.meta.tier == Tier::Snapshot
        {
            let bytes = size_of::<Event>() + memory::event(&event);
            if reading.bytes + bytes <= self.budget.reading {
                reading.bytes += bytes;
                reading.events.push(event);
            } else if reading.others.len() < READING {
                reading.others.push(event.meta.subject);
            }
        } else if let Some(event) = self.order.push(event) {
            self.event(&event);
        }
    }

    /// Puts right what lost records left wrong. What is found that way is told and judged as if it had
    /// just been seen: who floods a ring to hide a shell is found with it.
    pub(super) fn heal(&mut self) {
        let Some(Reading {
            begin_boot_ns,
            events,
            others,
            ..
        }) = self.reading.take()
        else {
            return;
        };
        while let Some(event) = self.order.release(begin_boot_ns) {
            self.event(&event);
        }
        let mut retag = Vec::new();
        let refused = self.store.stats().refused;
        let healed = self.store.heal(begin_boot_ns, &events, &others, &mut retag);
        self.refuse(REFUSED, self.store.stats().refused - refused, begin_boot_ns);
        self.retag(retag);
        self.restart.changed();
        self.healed.found += healed.news.len() as u64;
        self.healed.unread += others.len() as u64;
        self.healed.ended += healed.ended;
        for event in healed.news.iter().filter_map(|place| events.get(*place)) {
            self.totals.events += 1;
            self.see_container(event.meta.subject);
            self.discover(event);
            self.ask_names(event);
            self.ask_program(event);
            let found = self.detector.found(&mut self.store, event);
            self.tell(event, found);
        }
    }
}
