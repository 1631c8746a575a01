//! Where a directory leads that a caller named: asked for on threads [apart](super::apart), two at a
//! time, where a rule would hang on it. Bounded by the pipeline, which asks no more at once. Each question
//! has its answer, also where that is that nobody knows.

use std::collections::HashMap;
use std::time::Duration;

use super::apart::{Apart, Limits, Word};
use super::owner::Owner;
use crate::enrich::docroot::discover::resolve;
use crate::pipeline::NameAsked;
use crate::source::Resolved;

const LIMITS: Limits = Limits {
    at_once: 2,
    stuck: 8,
    patience: Duration::from_secs(5),
};

pub(super) struct Names {
    apart: Apart<Option<Vec<u8>>>,
    asked: u64,
    waiting: HashMap<u64, (u32, Vec<u8>)>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            apart: Apart::new("tracer-names", LIMITS),
            asked: 0,
            waiting: HashMap::new(),
        }
    }

    /// Begins to look where a directory leads. The answer comes by [`Self::found`].
    pub(super) fn ask(&mut self, asked: NameAsked) {
        let NameAsked {
            processes,
            mnt_ns,
            directory,
        } = asked;
        self.asked += 1;
        self.waiting.insert(self.asked, (mnt_ns, directory.clone()));
        // Whose it is is not known, but where: that is who can make it hang.
        let owner = Owner::Root(mnt_ns);
        let find = move |_: &_| resolve(&processes, mnt_ns, &directory);
        self.apart.ask(self.asked, owner, find);
    }

    /// Waits for the next answer. Cancel safe.
    pub(super) async fn found(&mut self) -> Resolved {
        loop {
            let (number, word) = self.apart.told().await;
            let real = match word {
                Word::Done(real) => real,
                Word::Stuck(_) | Word::Hopeless | Word::Refused(_) => None,
            };
            // One that was given up has its answer already.
            if let Some((mnt_ns, directory)) = self.waiting.remove(&number) {
                return Resolved {
                    mnt_ns,
                    directory,
                    real: real.unwrap_or_default(),
                };
            }
        }
    }
}
