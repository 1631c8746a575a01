//! What the pipeline takes up of an agent before this one, what it leaves to the next, and when no agent
//! ran in between. Those times are bounded: of many the oldest become one.

use std::sync::Arc;

use tracer_common::event::EventKind;
use tracer_common::tag;
use uuid::Uuid;

use super::{Command, NAMESPACE, Pipeline, WrittenFile};
use crate::alert::LossReport;
use crate::detect::Kept;
use crate::enrich::docroot::path;
use crate::event::{Event, Payload, TICK_NS};
use crate::lineage::process::Process;
use crate::source::remembered::{Blind, PastFile, Remembered};

/// What is left of what servers wrote takes no more than that, bytes: of more, the newest. 16,384 files with
/// names of two hundred bytes fit.
pub(crate) const WRITTEN_BYTES: usize = 8 << 20;

/// What an agent leaves to the next one of this boot.
pub struct Left {
    /// As inputs, in the order in which they are to be taken.
    pub remembered: Vec<Remembered>,
    /// Files and links of servers for which there was no room.
    pub left_out: usize,
}

/// What is known of the time before this agent, and of what the next one needs.
#[derive(Default)]
pub(super) struct Restart {
    blinds: Blinds,
    /// When the snapshot was taken.
    snapshot_boot_ns: u64,
    restored: usize,
    changes: u64,
}

impl Restart {
    /// What is left to the next agent has changed.
    pub(super) const fn changed(&mut self) {
        self.changes += 1;
    }

    /// How long the latest time without an agent was, milliseconds.
    pub(super) fn blind_ms(&self) -> u64 {
        self.blinds.last_ms()
    }
}

impl Pipeline {
    /// Takes up what an earlier agent of this boot knew.
    pub(super) fn recall(&mut self, remembered: Remembered) {
        let mut retag = Vec::new();
        match remembered {
            Remembered::Process(past) => self.store.recall(&past, &mut retag),
            Remembered::Image(image) => self.store.recall_image(&image),
            Remembered::Blind(blind) => self.restart.blinds.add(blind),
            Remembered::Told(past) => self.store.recall_told(&past),
            Remembered::File(past) => {
                self.detector.recall_file(&mut self.store, &past);
                self.commands.push(Command::Written(known(&past)));
            }
            Remembered::Link(past) => self.detector.recall_link(&mut self.store, &past),
            Remembered::Incident(past) => self.incidents.recall(*past),
        }
        self.retag(retag);
    }

    /// No agent ran in a time.
    pub(super) fn was_blind(&mut self, blind: Blind) {
        self.restart.blinds.add(blind);
        let (since, until) = (blind.since_boot_ns, blind.until_boot_ns);
        let text = format!("blind|{}|{since}|{until}", self.host.boot_id);
        self.reports.push(LossReport {
            id: Uuid::new_v5(&NAMESPACE, text.as_bytes()),
            since_boot_ns: since,
            until_boot_ns: until,
            boot_wall_ns: self.boot_wall_ns,
            lost: Vec::new(),
            is_blind: true,
            host: Arc::clone(&self.host),
        });
    }

    /// What the next agent of this boot has to be told.
    #[must_use]
    pub fn remember(&self) -> Left {
        let blinds = self.restart.blinds.all().map(Remembered::Blind);
        let Kept {
            remembered,
            left_out,
        } = self.detector.remember(WRITTEN_BYTES);
        let lineage = self.store.remember();
        let incidents = self.incidents.remember();
        let incidents = incidents.map(|past| Remembered::Incident(Box::new(past)));
        let before = blinds.chain(incidents).chain(lineage);
        Left {
            remembered: before.chain(remembered).collect(),
            left_out,
        }
    }

    /// Changes with what that gives.
    #[must_use]
    pub const fn lineage_changes(&self) -> u64 {
        self.restart.changes
    }

    /// How many processes that run were known from an earlier agent.
    #[must_use]
    pub const fn restored(&self) -> usize {
        self.restart.restored
    }

    /// How many of them live.
    #[must_use]
    pub fn living(&self) -> usize {
        self.store.living().count()
    }

    /// Notes when an event changes what is left to the next agent.
    pub(super) fn note_change(&mut self, event: &Event) {
        let meta = &event.meta;
        let is_life = match &event.payload {
            Payload::Observed(_) => {
                self.restart.snapshot_boot_ns = meta.boot_ns;
                return;
            }
            Payload::Fork(_) | Payload::Exec(_) | Payload::Exit(_) | Payload::Trace(_) => true,
            Payload::File(_) => meta.tag.is_server_lineage(),
            Payload::Socket(socket) => socket.kind == EventKind::Listen,
            // Whoever does it: what is told of is what a server's lineage did, wrote or linked.
            Payload::Change(_) => {
                self.restart.changed();
                return;
            }
            Payload::ExecFailed(_)
            | Payload::Credentials(_)
            | Payload::Namespace(_)
            | Payload::Comm(_) => false,
        };
        let is_ours = || {
            let process = self.store.get(meta.subject);
            process.is_some_and(|process| process.tag.is_server_lineage() || process.kept)
        };
        if is_life && is_ours() {
            self.restart.changed();
        }
    }

    /// The snapshot is complete: who was known before and is not in it has ended.
    pub(super) fn recalled(&mut self) {
        self.restart.restored = self.store.recalled(self.restart.snapshot_boot_ns);
        self.restart.changed();
    }

    /// How long no agent ran while those lived whom a server made and whom a process descends from.
    pub(super) fn blind_ns(&self, process: Option<&Process>, until_boot_ns: u64) -> u64 {
        // A server's own life is long, and nothing that comes of one hangs on all of it: what may have been
        // missed is what those did whom it made.
        let made = process.map(|process| self.store.chain(process.key));
        let is_server = |process: &&Process| process.image().is_some_and(|i| i.server.is_some());
        let made = made.into_iter().flatten();
        let oldest_made = made
            .take_while(|process| !is_server(process))
            .filter(|process| process.tag.is_server_lineage())
            .last();
        oldest_made.map_or(0, |process| {
            self.restart
                .blinds
                .between(process.start_boot_ns, until_boot_ns)
        })
    }
}

/// What the kernel side is to know of such a file. By its identity only where that is whole: another file may
/// have the number by now.
fn known(past: &PastFile) -> WrittenFile {
    let writer = past.author.writer;
    let identity = past.file.zip(past.generation);
    let identity = identity.filter(|_| writer.tag.is_server_lineage());
    WrittenFile {
        file: identity.map(|(file, generation)| {
            let writer = tag::Writer {
                start_boot_ns: writer.process.start_ticks.saturating_mul(TICK_NS),
                boot_ns: writer.boot_ns,
                tag: writer.tag,
                tgid: writer.process.tgid,
                generation,
            };
            (file.into(), writer)
        }),
        names: past
            .names
            .iter()
            .map(|name| path::name(name).to_vec())
            .collect(),
    }
}

/// Times that are told apart.
const BLINDS: usize = 16;

/// The times, the latest last.
#[derive(Default)]
struct Blinds(Vec<Blind>);

impl Blinds {
    fn add(&mut self, blind: Blind) {
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

    fn all(&self) -> impl Iterator<Item = Blind> {
        self.0.iter().copied()
    }

    /// How much of them lies between two times, nanoseconds.
    fn between(&self, since_boot_ns: u64, until_boot_ns: u64) -> u64 {
        let overlap = |blind: &Blind| {
            let since = blind.since_boot_ns.max(since_boot_ns);
            blind.until_boot_ns.min(until_boot_ns).saturating_sub(since)
        };
        self.0.iter().map(overlap).fold(0, u64::saturating_add)
    }

    /// How long the latest was, milliseconds.
    fn last_ms(&self) -> u64 {
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
