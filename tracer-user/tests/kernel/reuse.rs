//! Numbers that are used again: 100,000 processes (`TRACER_FORKS`) of a pid namespace that has a few hundred numbers, and no two
//! of them are taken for one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};

use tracer::event::{Event, Payload, ProcessKey};
use tracer::lineage::Store;
use tracer::memory::Budget;

use crate::child::reap;
use crate::stage::{Outcome, Skip, Stage, Test, tests};
use crate::{facts, sys};

pub(crate) const TESTS: &[Test] = tests!("reuse": numbers_are_used_again);

/// Processes that are made, unless `TRACER_FORKS` says another number.
const FORKS: usize = 100_000;
/// Children of a wave; each makes another process.
const WAVE: usize = 200;

/// The last number that the writer's pid namespace gave away.
const LAST: &str = "/proc/sys/kernel/ns_last_pid";

fn numbers_are_used_again(stage: &mut Stage) -> Outcome {
    if !fs::exists(LAST).unwrap() {
        return Err(Skip(format!(
            "{LAST} is missing: the kernel has no CONFIG_CHECKPOINT_RESTORE"
        )));
    }
    let made = std::env::var("TRACER_FORKS").map_or(FORKS, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("TRACER_FORKS={text}: a number of processes"))
    });
    let waves = made / (2 * WAVE);
    let (mut told, mut tell) = sys::pipe();
    let (mut heard, mut hear) = sys::pipe();
    stage.watch.take_all();
    let driver = sys::clone(libc::CLONE_NEWPID).unwrap();
    if driver == 0 {
        drop((tell, heard));
        sys::die_with_parent();
        let mut byte = [0];
        for _ in 0..waves {
            // From the first number again: no other namespace is touched.
            if told.read_exact(&mut byte).is_err() || fs::write(LAST, "1").is_err() {
                sys::leave(1);
            }
            for _ in 0..WAVE {
                let child = sys::fork().unwrap_or_else(|_| sys::leave(2));
                if child == 0 {
                    let grandchild = sys::fork().unwrap_or_else(|_| sys::leave(3));
                    if grandchild == 0 {
                        sys::leave(0);
                    }
                    sys::wait(grandchild);
                    sys::leave(0);
                }
                sys::wait(child);
            }
            if hear.write_all(&byte).is_err() {
                sys::leave(4);
            }
        }
        sys::leave(0);
    }
    drop((told, hear));
    let mut seen = Seen {
        driver: facts::key(driver),
        store: Store::new(Budget::default().store),
        children: BTreeMap::new(),
        keys: BTreeSet::new(),
        numbers: BTreeMap::new(),
    };
    let misses = stage.watch.sensor.misses();
    for _ in 0..waves {
        tell.write_all(&[1]).unwrap();
        if heard.read_exact(&mut [0]).is_err() {
            panic!("the driver ended early, with {}", reap(driver));
        }
        for event in stage.watch.take_all() {
            seen.add(&event);
        }
    }
    assert_eq!(reap(driver), 0);
    // A record that was being written when the others were read.
    for event in stage.watch.take_all() {
        seen.add(&event);
    }
    let missed = stage.watch.sensor.misses() != misses;
    // All of them, unless the kernel says that it left programs out.
    assert!(
        seen.keys.len() == 2 * waves * WAVE || missed,
        "{} of {made}",
        seen.keys.len()
    );
    assert!(seen.children.values().all(|made| *made == 1) || missed);
    // The namespace gave each of its numbers away time and again.
    assert!(
        seen.numbers.len() <= 4 * WAVE,
        "{} numbers",
        seen.numbers.len()
    );
    assert!(seen.numbers.values().any(|times| *times >= waves / 2));
    Ok(())
}

struct Seen {
    driver: ProcessKey,
    store: Store,
    /// Children of the driver, with how many each made.
    children: BTreeMap<ProcessKey, usize>,
    /// All that were made.
    keys: BTreeSet<ProcessKey>,
    /// How often each number of the namespace was given.
    numbers: BTreeMap<u32, usize>,
}

impl Seen {
    fn add(&mut self, event: &Event) {
        let creator = event.meta.subject;
        if let Payload::Fork(fork) = &event.payload
            && (creator == self.driver || self.children.contains_key(&creator))
        {
            assert!(
                self.keys.insert(fork.child),
                "{:?} is two processes",
                fork.child
            );
            assert_eq!(fork.parent, creator);
            *self.numbers.entry(fork.vpid).or_default() += 1;
            if creator == self.driver {
                self.children.insert(fork.child, 0);
            } else {
                *self.children.entry(creator).or_default() += 1;
            }
        }
        self.store.apply(event, &mut Vec::new());
        // Who is known has the creator that it had, whatever its number was before.
        if let Payload::Fork(fork) = &event.payload
            && self.keys.contains(&fork.child)
        {
            let process = self.store.get(fork.child).unwrap();
            assert_eq!(process.creator, Some(creator));
            assert_eq!((process.vpid, process.ended), (fork.vpid, None));
            let chain: Vec<ProcessKey> = self.store.chain(fork.child).map(|p| p.key).collect();
            assert!(chain.contains(&self.driver), "{chain:?}");
        }
    }
}
