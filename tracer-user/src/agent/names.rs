//! Where a directory leads that a caller named: asked for on threads of their own, two at a time,
//! where a rule would hang on it. Bounded by the pipeline, which asks no more at once. Each question has
//! its answer, also where that is that nobody knows.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use crate::detect::QUESTIONS;
use crate::enrich::docroot::discover::resolve;
use crate::pipeline::NameAsked;
use crate::source::Resolved;

pub(super) struct Names {
    found: mpsc::Receiver<Resolved>,
    give: mpsc::Sender<Resolved>,
    slots: Arc<Semaphore>,
}

impl Names {
    pub(super) fn new() -> Self {
        let (give, found) = mpsc::channel(QUESTIONS);
        Self {
            found,
            give,
            slots: Arc::new(Semaphore::new(2)),
        }
    }

    /// Begins to look where a directory leads. The answer comes by [`Self::found`].
    pub(super) fn ask(&self, asked: NameAsked) {
        let (give, slots) = (self.give.clone(), Arc::clone(&self.slots));
        tokio::spawn(async move {
            let Ok(_slot) = slots.acquire().await else {
                return;
            };
            let NameAsked {
                processes,
                mnt_ns,
                directory,
            } = asked;
            let named = directory.clone();
            let real =
                tokio::task::spawn_blocking(move || resolve(&processes, mnt_ns, &named)).await;
            let answer = Resolved {
                mnt_ns,
                directory,
                real: real.ok().flatten().unwrap_or_default(),
            };
            // A closed channel means that the agent has ended.
            let _ended = give.send(answer).await;
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
}
