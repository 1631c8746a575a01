//! Puts records into kernel-time order, within bounds.
//!
//! Two rings and many CPUs hand records over out of order by microseconds. They are held until a
//! watermark says that everything up to a time has been handed over, or until the buffer is full:
//! the window shrinks, memory does not grow. A record that comes after its turn is passed on and
//! counted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::event::Event;
use crate::memory;

/// Events held back at most. Fork and exec at the highest rate two cores can produce is below
/// 20 a millisecond, so this is seconds of the worst case.
pub const CAPACITY: usize = 65_536;

/// Events waiting for their turn.
pub struct Order {
    waiting: BinaryHeap<Reverse<Held>>,
    /// What these take, and may take, bytes.
    bytes: usize,
    max_bytes: usize,
    arrived: u64,
    released_boot_ns: u64,
    late: u64,
}

struct Held {
    boot_ns: u64,
    arrived: u64,
    event: Event,
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        (self.boot_ns, self.arrived) == (other.boot_ns, other.arrived)
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.boot_ns, self.arrived).cmp(&(other.boot_ns, other.arrived))
    }
}

impl Order {
    /// An empty one, of events that take at most so many bytes.
    #[must_use]
    pub const fn new(max_bytes: usize) -> Self {
        Self {
            waiting: BinaryHeap::new(),
            bytes: 0,
            max_bytes,
            arrived: 0,
            released_boot_ns: 0,
            late: 0,
        }
    }

    /// Takes an event; gives one back where the buffer is full.
    pub fn push(&mut self, event: Event) -> Option<Event> {
        let boot_ns = event.meta.boot_ns;
        self.bytes += size(&event);
        if boot_ns < self.released_boot_ns {
            self.late += 1;
        }
        self.waiting.push(Reverse(Held {
            boot_ns,
            arrived: self.arrived,
            event,
        }));
        self.arrived += 1;
        if self.waiting.len() > CAPACITY || self.bytes > self.max_bytes {
            self.pop()
        } else {
            None
        }
    }

    /// Gives the next event whose turn has come: up to `boot_ns`, nanoseconds since boot.
    pub fn release(&mut self, boot_ns: u64) -> Option<Event> {
        if self.waiting.peek()?.0.boot_ns > boot_ns {
            return None;
        }
        self.pop()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Events that came after a later one had been passed on.
    #[must_use]
    pub const fn late(&self) -> u64 {
        self.late
    }

    fn pop(&mut self) -> Option<Event> {
        let Reverse(held) = self.waiting.pop()?;
        self.released_boot_ns = self.released_boot_ns.max(held.boot_ns);
        self.bytes = self.bytes.saturating_sub(size(&held.event));
        Some(held.event)
    }
}

/// What an event takes here: up to half of the heap's places are empty.
fn size(event: &Event) -> usize {
    2 * size_of::<Held>() + memory::event(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Exit, Meta, Payload, ProcessKey};
    use tracer_common::probe::Tier;
    use tracer_common::tag::Tag;

    fn at(boot_ns: u64, tid: u32) -> Event {
        Event {
            meta: Meta {
                boot_ns,
                subject: ProcessKey {
                    tgid: 1,
                    start_ticks: 0,
                },
                start_boot_ns: 0,
                tid,
                tag: Tag::ZERO,
                tier: Tier::Tracepoint,
                flags: 0,
                cpu: 0,
                slot: 0,
                seq: 0,
            },
            payload: Payload::Exit(Exit { status: 0 }),
        }
    }

    fn released(order: &mut Order, boot_ns: u64) -> Vec<(u64, u32)> {
        std::iter::from_fn(|| order.release(boot_ns))
            .map(|event| (event.meta.boot_ns, event.meta.tid))
            .collect()
    }

    #[test]
    fn time_decides_then_arrival() {
        let mut order = Order::new(usize::MAX);
        for event in [at(5, 0), at(3, 1), at(5, 2), at(4, 3), at(9, 4)] {
            assert!(order.push(event).is_none());
        }
        assert_eq!(released(&mut order, 5), [(3, 1), (4, 3), (5, 0), (5, 2)]);
        assert_eq!(order.late(), 0);
        assert!(order.push(at(4, 5)).is_none());
        assert_eq!(order.late(), 1);
        assert_eq!(released(&mut order, u64::MAX), [(4, 5), (9, 4)]);
        assert!(order.is_empty());
    }

    #[test]
    fn a_full_buffer_shrinks_the_window() {
        let mut order = Order::new(usize::MAX);
        for n in 0..CAPACITY as u64 {
            assert!(order.push(at(CAPACITY as u64 - n, 0)).is_none());
        }
        assert_eq!(order.push(at(u64::MAX, 0)).unwrap().meta.boot_ns, 1);
    }
}
