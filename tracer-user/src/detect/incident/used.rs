//! What alerts are about, so that one that uses it finds them: dropped first, then used. Bounded: the oldest goes.

use std::collections::{BTreeMap, VecDeque};

use uuid::Uuid;

use crate::event::{FileId, ProcessKey, Writer};

/// What an alert is about: a file, or one write. A name of it that holds after a restart and on replay.
pub(crate) type Use = Uuid;

/// Uses that are remembered.
const USES: usize = 4096;

/// Alerts about one of them.
const ALERTS: usize = 4;

/// A file by its identity; `None` where its generation is not known: by its number alone it may be another since.
pub(crate) fn of_file(file: FileId, generation: u32) -> Option<Use> {
    let known = file != FileId::default() && generation != 0;
    let text = format!("file|{}|{}|{generation}", file.dev, file.inode);
    known.then(|| Uuid::new_v5(&Uuid::nil(), text.as_bytes()))
}

/// A write by who did it and when.
pub(crate) fn of_writer(writer: Writer) -> Use {
    let Writer {
        process, boot_ns, ..
    } = writer;
    let text = format!("write|{}|{}|{boot_ns}", process.tgid, process.start_ticks);
    Uuid::new_v5(&Uuid::nil(), text.as_bytes())
}

#[derive(Default)]
pub(super) struct Used {
    alerts: BTreeMap<Use, (ProcessKey, Vec<Uuid>)>,
    order: VecDeque<Use>,
}

impl Used {
    /// Alerts about any of these, without repetition.
    pub(super) fn about(&self, uses: &[Use]) -> Vec<Uuid> {
        let mut all = Vec::new();
        for alert in uses
            .iter()
            .filter_map(|one| self.alerts.get(one))
            .flat_map(|(_, all)| all)
        {
            if !all.contains(alert) {
                all.push(*alert);
            }
        }
        all
    }

    /// Notes what an alert of a server is about.
    pub(super) fn note(&mut self, uses: &[Use], alert: Uuid, server: ProcessKey) {
        for one in uses {
            let known = self.alerts.entry(*one).or_insert_with(|| {
                self.order.push_back(*one);
                (server, Vec::new())
            });
            if known.1.len() < ALERTS && !known.1.contains(&alert) {
                known.1.push(alert);
            }
        }
        while self.order.len() > USES {
            if let Some(oldest) = self.order.pop_front() {
                self.alerts.remove(&oldest);
            }
        }
    }

    /// Those of a server, the latest of each.
    pub(super) fn of(&self, server: ProcessKey) -> Vec<(Use, Uuid)> {
        let its = self.order.iter().rev().filter_map(|one| {
            let (of, alerts) = self.alerts.get(one)?;
            (*of == server).then_some((*one, *alerts.last()?))
        });
        let mut its: Vec<_> = its.take(KEPT).collect();
        its.reverse();
        its
    }
}

/// Uses of one server that the next agent is told of.
const KEPT: usize = 64;
