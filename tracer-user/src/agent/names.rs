//! Where a directory leads that a caller named: asked for on threads of their own, two at a time,
//! where a rule would hang on it. Bounded: what is asked beyond the bound is not answered, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, mpsc};

use crate::enrich::docroot::discover::resolve;
use crate::pipeline::NameAsked;
use crate::source::Resolved;

/// Questions that wait for their turn or for the pipeline.
const WAITING: usize = 64;

pub(super) struct Names {
    found: mpsc::Receiver<Resolved>,
    give: mpsc::Sender<Resolved>,
    slots: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    refused: u64,
}

impl Names {
    pub(super) fn new() -> Self {
        let (give, found) = mpsc::channel(WAITING);
        Self {
            found,
            give,
            slots: Arc::new(Semaphore::new(2)),
            waiting: Arc::new(AtomicUsize::new(0)),
            refused: 0,
        }
    }

    /// Begins to look where a directory leads. The answer comes by [`Self::found`]; none where it leads
    /// to itself, or nowhere.
    pub(super) fn ask(&mut self, asked: NameAsked) {
        if self.waiting.load(Ordering::Acquire) >= WAITING {
            self.refused += 1;
            return;
        }
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let (give, slots) = (self.give.clone(), Arc::clone(&self.slots));
        let waiting = Arc::clone(&self.waiting);
        tokio::spawn(async move {
            let Ok(_slot) = slots.acquire().await else {
                return;
            };
            let answer = tokio::task::spawn_blocking(move || {
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
            if let Ok(Some(resolved)) = answer.await {
                // A closed channel means that the agent has ended.
                let _ended = give.send(resolved).await;
            }
            waiting.fetch_sub(1, Ordering::AcqRel);
        });
    }

    /// Waits for the next answer.
    pub(super) async fn found(&mut self) -> Resolved {
        match self.found.recv().await {
            Some(resolved) => resolved,
            // The agent holds a sender, so this does not happen while it runs.
            None => std::future::pending().await,
        }
    }

    /// Questions that were not asked.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }
}
