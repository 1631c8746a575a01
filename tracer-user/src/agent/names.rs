//! Where a directory leads that a caller named: asked for on threads [apart](super::apart), two at a
//! time, where a rule would hang on it. Bounded: what is asked beyond the bound is not answered, and
//! counted.

use std::collections::HashSet;
use std::time::Duration;

use super::apart::{Apart, Limits, Word};
use super::owner::Owner;
use crate::enrich::docroot::discover::resolve;
use crate::pipeline::NameAsked;
use crate::source::Resolved;

/// Questions that wait for their answer, or never got one.
const WAITING: usize = 64;

/// The kernel answers from memory, but before Linux 5.12.
const LIMITS: Limits = Limits {
    at_once: 2,
    stuck: 8,
    patience: Duration::from_secs(5),
};

pub(super) struct Names {
    apart: Apart<Option<Resolved>>,
    asked: u64,
    waiting: HashSet<u64>,
    refused: u64,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            apart: Apart::new("tracer-names", LIMITS),
            asked: 0,
            waiting: HashSet::new(),
            refused: 0,
        }
    }

    /// Begins to look where a directory leads. The answer comes by [`Self::found`]; none where it leads
    /// to itself, or nowhere.
    pub(super) fn ask(&mut self, asked: NameAsked) {
        if self.waiting.len() >= WAITING {
            self.refused += 1;
            return;
        }
        self.asked += 1;
        self.waiting.insert(self.asked);
        // Whose it is is not known, but where: that is who can make it hang.
        let owner = Owner::Root(asked.mnt_ns);
        self.apart.ask(self.asked, owner, move |_| {
            let NameAsked {
                processes,
                mnt_ns,
                directory,
            } = asked;
            let real = resolve(&processes, mnt_ns, &directory)?;
            (real != directory).then_some(Resolved {
                mnt_ns,
                directory,
                real,
            })
        });
    }

    /// Waits for the next answer. Cancel safe.
    pub(super) async fn found(&mut self) -> Resolved {
        loop {
            let (number, word) = self.apart.told().await;
            self.waiting.remove(&number);
            match word {
                Word::Done(Some(resolved)) => return resolved,
                Word::Done(None) => {}
                // Told by the count; what waits behind it is counted when it does not fit.
                Word::Stuck(_) | Word::Hopeless | Word::Refused(_) => self.refused += 1,
            }
        }
    }

    /// Questions that were not asked, or not answered.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }
}
