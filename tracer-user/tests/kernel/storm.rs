//! Thousands of processes that live for a moment: each is seen beginning, running and ending, once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tracer::event::{Event, Exec, Payload, ProcessKey};
use tracer_common::probe::Drop as Lost;
use tracer_common::tag::Tag;

use crate::child::{Image, reap};
use crate::helper::shortest_program;
use crate::stage::{Outcome, Stage, Test, tests};
use crate::{facts, sys};

pub(crate) const TESTS: &[Test] = tests!("storm": short_lived_processes);

const PROCESSES: usize = 5000;
/// How many live at the same time.
const WAVE: usize = 50;

/// What is known of one process.
#[derive(Debug, Default)]
struct Life {
    forks: usize,
    execs: usize,
    exits: usize,
    /// When it was made, ran, ended.
    times: Vec<u64>,
}

fn short_lived_processes(stage: &mut Stage) -> Outcome {
    let program = stage.folder().join("program");
    fs::write(&program, shortest_program()).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let image = Image::helper(&program, "exit");
    let lost_before = lost(stage);
    let missed_before = missed(stage, &BTreeMap::new());
    let mut made: BTreeSet<u32> = BTreeSet::new();
    let mut lives: BTreeMap<ProcessKey, Life> = BTreeMap::new();
    let mut account = Account {
        driver: facts::key(sys::pid()),
        program: facts::file(&program),
        args: vec![b"helper-exit".to_vec()],
    };
    while made.len() < PROCESSES {
        let wave: Vec<u32> = (0..WAVE).map(|number| make(&image, number)).collect();
        for &pid in &wave {
            assert_eq!(reap(pid), 0);
        }
        made.extend(wave);
        // All of them have ended: all there is of them is there.
        for event in stage.watch.take_all() {
            account.add(&event, &mut lives);
        }
    }
    for life in lives.values() {
        assert!(
            life.forks == 1 && life.execs <= 1 && life.exits <= 1,
            "{life:?}"
        );
        assert!(life.times.is_sorted(), "{life:?}");
    }
    assert!(lives.keys().all(|key| made.contains(&key.tgid)));
    assert_eq!(lost(stage), lost_before);

    // All of them, then; or, where the kernel says that it left programs out, as many fewer.
    let missed = missed(stage, &missed_before);
    let seen = |count: fn(&Life) -> usize| lives.values().map(count).sum::<usize>() as u64;
    let forks_missed = missed.get("fork_missed").copied().unwrap_or(0);
    for (probe, seen) in [
        ("fork_missed", lives.len() as u64),
        ("exec_missed", seen(|life| life.execs)),
        ("exit_missed", seen(|life| life.exits)),
    ] {
        let missed = missed.get(probe).copied().unwrap_or(0);
        if missed > 0 {
            print!("({probe} {missed}) ");
        }
        // What is known of a process begins with its fork.
        let least = PROCESSES as u64 - missed - forks_missed;
        assert!(
            (least..=PROCESSES as u64).contains(&seen),
            "{probe}: {seen} seen"
        );
    }
    Ok(())
}

/// A process that runs the image: one made as shells make them, the next as most libraries do.
fn make(image: &Image, number: usize) -> u32 {
    if number % 2 == 1 {
        return sys::spawn(&image.path, &image.argv).unwrap();
    }
    let pid = sys::fork().unwrap();
    if pid == 0 {
        image.exec();
    }
    pid
}

/// What was lost so far, by reason.
fn lost(stage: &Stage) -> Vec<(&'static str, u64)> {
    let reasons = Lost::ALL.iter().filter(|reason| reason.loses_event());
    reasons
        .map(|&reason| (reason.name(), stage.watch.drops(reason)))
        .collect()
}

/// How often the kernel left a program out since then, by probe.
fn missed(stage: &Stage, since: &BTreeMap<&str, u64>) -> BTreeMap<&'static str, u64> {
    let misses = stage.watch.sensor.misses().into_iter();
    let before = |probe| since.get(probe).copied().unwrap_or(0);
    misses
        .map(|(probe, count)| (probe, count - before(probe)))
        .collect()
}

/// What every record of the storm must say.
struct Account {
    driver: ProcessKey,
    program: tracer::event::FileId,
    args: Vec<Vec<u8>>,
}

impl Account {
    fn add(&mut self, event: &Event, lives: &mut BTreeMap<ProcessKey, Life>) {
        let Event { meta, payload } = event;
        match payload {
            Payload::Fork(fork) if meta.subject == self.driver => {
                assert_eq!((fork.parent, fork.child_tag), (self.driver, Tag::ZERO));
                let life = lives.entry(fork.child).or_default();
                life.forks += 1;
                life.times.push(fork.child_start_boot_ns);
                life.times.push(meta.boot_ns);
            }
            Payload::Exec(exec) => {
                if let Some(life) = lives.get_mut(&meta.subject) {
                    self.check(exec);
                    life.execs += 1;
                    life.times.push(meta.boot_ns);
                }
            }
            Payload::Exit(exit) => {
                if let Some(life) = lives.get_mut(&meta.subject) {
                    assert_eq!(exit.status, 0);
                    life.exits += 1;
                    life.times.push(meta.boot_ns);
                }
            }
            _ => {}
        }
    }

    fn check(&self, exec: &Exec) {
        assert_eq!(exec.parent, self.driver);
        assert_eq!(exec.file, self.program);
        assert_eq!(exec.args, self.args);
    }
}
