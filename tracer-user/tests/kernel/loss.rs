//! What is lost is counted exactly, and what is unloaded is gone.

use std::collections::BTreeSet;
use std::fs;

use aya::maps::loaded_maps;
use aya::programs::{loaded_links, loaded_programs};
use tracer::event::{Event, Payload};
use tracer::sensor::machine::Sizes;
use tracer_common::probe::{Attach, Drop as Lost, PROBES, Probe};
use tracer_common::tag::Tag;

use crate::child::{reap, until};
use crate::stage::{Outcome, Stage, TAG, Test, tests};
use crate::sys;
use crate::watch::Watch;

pub(crate) const TESTS: &[Test] = tests!("loss":
    every_probe_is_attached,
    a_full_life_ring,
    a_full_file_ring,
    a_full_map_of_tags,
    nothing_stays_in_the_kernel,
);

/// Probes that are left out where the kernel lacks their hook, as others then see the same or there is
/// nothing to see: cut by descriptor before 6.2, full rings before 5.17, and calls that not every
/// processor or kernel has.
const MAY_BE_ABSENT: &[&str] = &[
    "file_truncate",
    "io_uring_overflow",
    "dup2",
    "compat_dup2",
    "compat_execve",
    "compat_execveat",
];

fn every_probe_is_attached(stage: &mut Stage) -> Outcome {
    let sensor = &stage.watch.sensor;
    let reports = sensor.reports();
    let names: Vec<_> = reports.iter().map(|report| report.probe.name).collect();
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap();
    let symbols: BTreeSet<_> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .collect();
    let is_there = |probe: &Probe| {
        probe.hooks.iter().any(|hook| match probe.attach {
            Attach::RawTracepoint => symbols.contains(format!("__traceiter_{hook}").as_str()),
            Attach::Fentry | Attach::Fexit => symbols.contains(hook),
        })
    };
    let in_use = |probe: &&Probe| probe.tier.is_none_or(|tier| tier == sensor.tier());
    let may_be_absent = |probe: &Probe| MAY_BE_ABSENT.contains(&probe.name);
    let expected = PROBES.iter().filter(in_use);
    let expected = expected.filter(|probe| is_there(probe) || !may_be_absent(probe));
    let expected: Vec<_> = expected.map(|probe| probe.name).collect();
    assert_eq!(names, expected);
    for report in reports {
        let name = report.probe.name;
        match (&report.failure, report.hook) {
            (None, Some(hook)) => assert!(report.probe.hooks.contains(&hook), "{name}: {hook}"),
            // Not with every kernel's tracepoints of io_uring.
            (Some(why), None) if why.contains("that tells its request") => {
                assert!(name.starts_with("io_uring"), "{name}: {why}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    // 5.16 and later tell; whoever tells it of one tells it of all.
    let told = reports.iter().filter(|report| report.hook.is_some());
    let told: BTreeSet<bool> = told
        .map(|report| report.verified_insns.is_some_and(|count| count > 0))
        .collect();
    assert_eq!(told.len(), 1);
    Ok(())
}

/// A child that ends at once, reaped.
fn one() -> u32 {
    let pid = sys::fork().unwrap();
    if pid == 0 {
        sys::leave(0);
    }
    reap(pid);
    pid
}

/// The records strictly between the end of one process and the creation of another.
fn between(events: &[Event], first: u32, last: u32) -> &[Event] {
    let begin = events.iter().position(|event| {
        event.meta.subject.tgid == first && matches!(event.payload, Payload::Exit(_))
    });
    let end = events
        .iter()
        .position(|event| matches!(event.payload, Payload::Fork(fork) if fork.child.tgid == last));
    &events[begin.unwrap() + 1..end.unwrap()]
}

/// Reads until a process is known to have ended.
fn read_until_end_of(watch: &mut Watch, into: &mut Vec<Event>, tgid: u32) {
    until("a process's end is told", || {
        into.extend(watch.take_all());
        into.iter().any(|event| {
            event.meta.subject.tgid == tgid && matches!(event.payload, Payload::Exit(_))
        })
    });
}

fn a_full_life_ring(stage: &mut Stage) -> Outcome {
    const CHILDREN: usize = 300;
    const ATTEMPTS: usize = 10;
    let mut small = stage.take_small();
    // The host's own processes are lost and counted like ours, so what was produced is what the
    // other sensor, with its large ring, received in the same time. A process of the host that
    // begins or ends at the very moment of ours may fall on this side of the line for the one
    // sensor and on that side for the other: then, and only then, once more.
    for attempt in 1.. {
        let (mut all, mut some) = (Vec::new(), Vec::new());
        stage.watch.forget();
        small.forget();
        let lost_large = stage.watch.drops(Lost::LifeRingFull);
        let first = one();
        read_until_end_of(&mut small, &mut some, first);
        // The small ring is empty: until it is full nothing is lost.
        let before = small.drops(Lost::LifeRingFull);
        let ours: BTreeSet<u32> = (0..CHILDREN).map(|_| one()).collect();
        some.extend(small.take_all());
        // It is empty again.
        let last = one();
        read_until_end_of(&mut small, &mut some, last);
        let lost = small.drops(Lost::LifeRingFull) - before;
        read_until_end_of(&mut stage.watch, &mut all, last);
        assert_eq!(
            stage.watch.drops(Lost::LifeRingFull),
            lost_large,
            "the large ring is large"
        );

        let (produced, received) = (between(&all, first, last), between(&some, first, last));
        let made = |event: &&Event| match &event.payload {
            Payload::Fork(fork) => ours.contains(&fork.child.tgid),
            Payload::Exit(_) => ours.contains(&event.meta.subject.tgid),
            _ => false,
        };
        assert_eq!(produced.iter().filter(made).count(), 2 * CHILDREN);
        assert!(
            lost > 0 && !received.is_empty(),
            "{lost} lost, {} received",
            received.len()
        );
        let foreign = produced.len() - 2 * CHILDREN;
        if received.len() as u64 + lost == produced.len() as u64 {
            break;
        }
        assert!(
            foreign > 0 && attempt < ATTEMPTS,
            "{} received and {lost} lost of {}, {foreign} of them not ours",
            received.len(),
            produced.len()
        );
    }
    stage.keep_small(small);
    Ok(())
}

fn a_full_file_ring(stage: &mut Stage) -> Outcome {
    const OPENS: u64 = 300;
    let mut small = stage.take_small();
    small.forget();
    let before = small.drops(Lost::FileRingFull);
    let path = sys::c(stage.folder().join("file"));
    let mut child = stage.tagged(|talk| {
        talk.wait();
        for _ in 0..OPENS {
            sys::creat(&path, 0o600).unwrap();
        }
        0
    });
    small.sensor.set_tag(child.pid, TAG).unwrap();
    child.go();
    child.end_well();
    let opens = |watch: &mut Watch| {
        let rest = watch.rest(child.pid);
        let opens = rest
            .iter()
            .filter(|event| matches!(event.payload, Payload::File(_)));
        opens.count() as u64
    };
    let (received, lost) = (opens(&mut small), small.drops(Lost::FileRingFull) - before);
    assert_eq!(received + lost, OPENS);
    assert!(lost > 0 && received > 0, "{lost} lost");
    assert_eq!(opens(&mut stage.watch), OPENS);
    assert_eq!(stage.watch.drops(Lost::FileRingFull), 0);
    stage.keep_small(small);
    Ok(())
}

fn a_full_map_of_tags(stage: &mut Stage) -> Outcome {
    let watch = &mut stage.watch;
    watch.sensor.set_tag(sys::pid(), TAG).unwrap();
    // Above the highest number there can be (PID_MAX_LIMIT, include/linux/threads.h).
    let nobody = 1 << 22;
    let filled = (nobody..)
        .find(|&next| watch.sensor.set_tag(next, TAG).is_err())
        .unwrap();
    let before = watch.drops(Lost::TagMapFull);
    let refused = one();
    let lost = watch.drops(Lost::TagMapFull) - before;
    watch.sensor.clear_tag(nobody);
    let taken = one();
    let lost_then = watch.drops(Lost::TagMapFull) - before;
    for tgid in nobody..filled {
        watch.sensor.clear_tag(tgid);
    }
    watch.sensor.clear_tag(sys::pid());

    // Ours is the one that was there; what the tests before left is nothing.
    assert_eq!(filled - nobody, Sizes::of_this_machine().tags - 1);
    assert_eq!((lost, lost_then), (1, 1));
    let (_, fork) = watch.fork(sys::pid(), refused);
    assert_eq!(
        fork.child_tag,
        Tag::ZERO,
        "the record says that the kernel does not know"
    );
    assert_eq!(watch.exit(refused).0.tag, Tag::ZERO);
    let (_, fork) = watch.fork(sys::pid(), taken);
    assert_eq!(fork.child_tag, TAG.child());
    assert_eq!(watch.exit(taken).0.tag, TAG.child());
    Ok(())
}

/// What this process holds of BPF: kind and id, as its descriptors tell.
fn held() -> BTreeSet<(String, u32)> {
    let mut held = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap() {
        // The folder's own descriptor is gone by now.
        let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(":\t")) {
            if matches!(key, "prog_id" | "map_id" | "link_id") {
                held.insert((key.to_owned(), value.trim().parse().unwrap()));
            }
        }
    }
    held
}

/// A map that this process holds, as its descriptor tells.
#[derive(Debug)]
pub(crate) struct HeldMap {
    pub(crate) fd: i32,
    /// `map_type`
    pub(crate) kind: u64,
    /// Bytes of a value.
    pub(crate) value_size: u64,
    /// Whether user space cannot write to it any more.
    pub(crate) frozen: bool,
}

/// All of them.
pub(crate) fn held_maps() -> Vec<HeldMap> {
    let entries = fs::read_dir("/proc/self/fdinfo").unwrap();
    let map = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        // The folder's own descriptor is gone by now.
        let text = fs::read_to_string(&path).unwrap_or_default();
        let number = |key: &str| -> Option<u64> {
            let mut pairs = text.lines().filter_map(|line| line.split_once(":\t"));
            let (_, value) = pairs.find(|(name, _)| *name == key)?;
            value.trim().parse().ok()
        };
        Some(HeldMap {
            fd: path.file_name()?.to_str()?.parse().ok()?,
            kind: number("map_type")?,
            value_size: number("value_size")?,
            frozen: number("frozen")? != 0,
        })
    };
    entries.filter_map(map).collect()
}

/// What there is of BPF in the kernel.
fn loaded() -> BTreeSet<(String, u32)> {
    // What another process unloads in between cannot be looked at any more.
    let programs = loaded_programs()
        .flatten()
        .map(|program| ("prog_id", program.id()));
    let maps = loaded_maps().flatten().map(|map| ("map_id", map.id()));
    let links = loaded_links().flatten().map(|link| ("link_id", link.id()));
    let all = programs.chain(maps).chain(links);
    all.map(|(kind, id)| (kind.to_owned(), id)).collect()
}

fn nothing_stays_in_the_kernel(stage: &mut Stage) -> Outcome {
    let small = stage.take_small();
    let reports = small.sensor.reports().iter();
    let attached = reports.filter(|report| report.hook.is_some()).count();
    let (before, there) = (held(), loaded());
    drop(small);
    let ours: BTreeSet<_> = before.difference(&held()).cloned().collect();
    let count = |kind: &str| ours.iter().filter(|(of, _)| of == kind).count();
    // Nothing of the other tier either.
    assert_eq!(count("prog_id"), attached, "{ours:?}");
    assert_eq!(count("link_id"), attached, "{ours:?}");
    // LIFE, FILES, TAGS, ROLE_INODES, DROPS and SCRATCH, and the constants.
    assert!(count("map_id") >= 6, "{ours:?}");
    assert!(ours.is_subset(&there), "{ours:?} are not all in {there:?}");
    let mut left = BTreeSet::new();
    // Programs and maps are freed a moment after the last descriptor is closed.
    until("the kernel lets go of everything", || {
        left = loaded().intersection(&ours).cloned().collect();
        left.is_empty()
    });
    Ok(())
}
