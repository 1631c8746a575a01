//! Hashes of files and whose they are, on threads [apart](super::apart), two at a time. What was hashed before and has not changed
//! since is not read again. Bounded: where too many wait, the newest is answered by nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::apart::{Apart, Limits, Word};
use super::owner::Owner;
use crate::enrich::content::package::Packages;
use crate::enrich::content::read::{Stamp, content};
use crate::enrich::content::{Content, ContentAsked, HashLimits, Moment};
use crate::source::Input;

/// Hashes kept.
const KNOWN: usize = 8192;

/// Files that wait for their turn.
const WAITING: usize = 1024;

const LIMITS: Limits = Limits {
    at_once: 2,
    stuck: 8,
    patience: Duration::from_secs(5),
};

pub(super) struct Contents {
    limits: HashLimits,
    apart: Apart<Option<Content>>,
    asked: u64,
    waiting: HashMap<u64, Moment>,
    refused: VecDeque<Moment>,
    known: Arc<Mutex<HashMap<Stamp, [u8; 32]>>>,
    packages: Arc<Packages>,
}

impl Contents {
    pub(super) fn new(limits: HashLimits) -> Self {
        Self {
            limits,
            apart: Apart::new("tracer-hash", LIMITS),
            asked: 0,
            waiting: HashMap::new(),
            refused: VecDeque::new(),
            known: Arc::default(),
            packages: Arc::default(),
        }
    }

    /// Begins to find out what is in a file. The answer comes by [`Self::found`].
    pub(super) fn ask(&mut self, asked: ContentAsked) {
        if self.waiting.len() >= WAITING {
            self.refused.push_back(asked.moment);
            return;
        }
        self.asked += 1;
        self.waiting.insert(self.asked, asked.moment);
        let (limits, known) = (self.limits, Arc::clone(&self.known));
        let packages = Arc::clone(&self.packages);
        // Whose it is is not known, but where: that is who can make it hang.
        let owner = Owner::Root(asked.mnt_ns);
        self.apart.ask(self.asked, owner, move |at| {
            let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
            let recall = |stamp: &Stamp| lock().get(stamp).copied();
            let (content, stamp) = content(&asked, limits, &recall, &packages, at)?;
            let mut known = lock();
            if known.len() >= KNOWN {
                known.clear();
            }
            known.insert(stamp, content.sha256);
            Some(content)
        });
    }

    /// Waits for the next answer. Cancel safe.
    pub(super) async fn found(&mut self) -> Input {
        if let Some(moment) = self.refused.pop_front() {
            return Input::Content {
                moment,
                content: None,
            };
        }
        loop {
            let (number, word) = self.apart.told().await;
            let content = match word {
                Word::Done(content) => content,
                Word::Stuck(_) | Word::Hopeless | Word::Refused(_) => None,
            };
            // One that was given up has its answer already.
            if let Some(moment) = self.waiting.remove(&number) {
                return Input::Content { moment, content };
            }
        }
    }
}
