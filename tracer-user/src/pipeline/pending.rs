//! Alerts that wait for facts that somebody outside has been asked for.
//!
//! An alert waits for a bounded time of the kernel's clock, which watermarks tell, and then goes out and says what
//! it went out without. So what is written depends on the inputs alone. Events that are no alerts do not wait, nor
//! do alerts that lack nothing; they overtake those that do.

use std::collections::VecDeque;

use crate::alert::{Document, EnrichedEvent};

/// Alerts that wait at most: a storm of alerts does not grow the agent. Beyond it the oldest go out as they are.
pub(super) const HELD: usize = 1024;

#[derive(Default)]
pub(super) struct Pending {
    /// How long one waits, nanoseconds.
    wait_ns: u64,
    /// In the order they were raised.
    held: VecDeque<Held>,
    /// How many went out without.
    without: u64,
}

struct Held {
    document: Document,
    until_boot_ns: u64,
}

impl Pending {
    pub(super) const fn set_wait(&mut self, wait_ms: u32) {
        self.wait_ns = wait_ms as u64 * 1_000_000;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Alerts that went out without a fact that had been asked for.
    pub(super) const fn without(&self) -> u64 {
        self.without
    }

    /// Takes an alert; gives what goes out: this one where it lacks nothing or nothing may wait, else what it
    /// took the place of.
    pub(super) fn hold(&mut self, document: Document, now_boot_ns: u64) -> Option<Document> {
        if document.event.pending().is_empty() {
            return Some(document);
        }
        if self.wait_ns == 0 {
            self.without += 1;
            return Some(document);
        }
        let begin = now_boot_ns.max(document.event.event.meta.boot_ns);
        self.held.push_back(Held {
            until_boot_ns: begin.saturating_add(self.wait_ns),
            document,
        });
        if self.held.len() <= HELD {
            return None;
        }
        self.without += 1;
        self.held.pop_front().map(|held| held.document)
    }

    /// Something was answered: what lacks nothing any more, in the order it was raised.
    pub(super) fn answered(&mut self, complete: impl Fn(&mut EnrichedEvent)) -> Vec<Document> {
        self.go(0, complete)
    }

    /// Time has passed: what waited for as long as it may, in the order it was raised.
    pub(super) fn overdue(&mut self, now_boot_ns: u64) -> Vec<Document> {
        // What was answered has been put in when it was.
        self.go(now_boot_ns, |_| {})
    }

    fn go(&mut self, now_boot_ns: u64, complete: impl Fn(&mut EnrichedEvent)) -> Vec<Document> {
        let mut out = Vec::new();
        for mut held in std::mem::take(&mut self.held) {
            complete(&mut held.document.event);
            let is_whole = held.document.event.pending().is_empty();
            if is_whole || held.until_boot_ns <= now_boot_ns {
                self.without += u64::from(!is_whole);
                out.push(held.document);
            } else {
                self.held.push_back(held);
            }
        }
        out
    }
}
