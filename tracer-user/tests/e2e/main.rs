//! The agent from end to end: real servers attacked over HTTP, and hosts at their ordinary work.
//!
//! One agent watches all stories, which run one after the other. Needs root and a kernel that
//! takes the probes; where they are missing, and where a story's server is not installed, says
//! `SKIPPED` and why. Everything listens on loopback and lives in folders of its own.
//!
//! `TRACER_E2E=word|another` runs the stories whose name holds one of the words, `TRACER_E2E_KEEP=1` leaves the
//! folders, `TRACER_BENCH=1` measures, `TRACER_BIN=path` tests another build.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests: a panic is how they fail"
)]

mod agent;
mod alert;
mod apps;
mod asked;
mod attacks;
mod benign;
mod containers;
mod content;
mod daily;
mod databases;
mod dropped;
mod fuse;
mod healing;
mod host;
mod hostile;
mod http;
mod latency;
mod lineage;
mod network;
mod pages;
mod reach;
mod restart;
mod roles;
mod scene;
mod served;
mod server;
mod storm;
mod table;
mod told;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use crate::host::{Outcome, Skip};
use crate::scene::{Scene, Story};

/// Stories count alerts of the whole host: no two tests may run at once.
static SERIAL: Mutex<()> = Mutex::new(());

/// Every story, but for what only measures.
fn stories() -> Vec<Story> {
    attacks::stories()
        .into_iter()
        .chain(pages::stories())
        .chain(apps::stories())
        .chain(databases::stories())
        .chain(network::stories())
        .chain(reach::stories())
        .chain(roles::stories())
        .chain(content::stories())
        .chain(served::stories())
        .chain(benign::stories())
        .chain(daily::stories())
        .collect()
}

#[test]
fn every_story_is_in_the_table() {
    table::check(&stories());
}

#[test]
fn attacks_alert_and_ordinary_work_does_not() {
    let _guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    let scene = match Scene::set() {
        Ok(scene) => scene,
        Err(Skip(reason)) => return host::say(&format!("SKIPPED e2e: {reason}")),
    };
    let only = std::env::var("TRACER_E2E").unwrap_or_default();
    let failed: Vec<String> = stories()
        .into_iter()
        .chain(latency::story())
        .filter(|story| only.split('|').any(|word| story.name.contains(word)))
        .filter(|story| !passes(&scene, story))
        .map(|story| story.name)
        .collect();
    scene.say_foreign();
    let Scene { agent, site, .. } = scene;
    drop(site);
    let ended = agent.stop();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    assert_nothing_lost(&ended.stderr);
    assert!(
        failed.is_empty(),
        "{} stories failed: {failed:#?}",
        failed.len()
    );
}

#[test]
#[ignore = "no test: the server that a story starts"]
fn a_server_that_stories_start() {
    if let Some(port) = std::env::var(roles::PORT)
        .ok()
        .and_then(|port| port.parse().ok())
    {
        roles::serve(port);
    }
}

#[test]
fn every_short_process_is_told_with_its_creator() {
    let _guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(Skip(reason)) = lineage::every_process_is_told() {
        host::say(&format!("SKIPPED lineage: {reason}"));
    }
}

#[test]
fn process_life_that_was_lost_is_found_again() {
    let _guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(Skip(reason)) = healing::a_lost_worker_is_found() {
        host::say(&format!("SKIPPED healing: {reason}"));
    }
}

#[test]
fn lineage_is_known_after_a_restart() {
    let _guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(Skip(reason)) = restart::lineage_survives_a_restart() {
        host::say(&format!("SKIPPED restart: {reason}"));
    }
}

#[test]
fn what_servers_wrote_is_known_after_a_restart() {
    let _guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(Skip(reason)) = dropped::what_servers_wrote_survives_a_restart() {
        host::say(&format!("SKIPPED dropped: {reason}"));
    }
}

#[test]
fn an_orphan_older_than_the_agent_is_known() {
    let _guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(Skip(reason)) = restart::an_orphan_older_than_the_agent_is_known() {
        host::say(&format!("SKIPPED orphan: {reason}"));
    }
}

#[test]
fn who_begins_while_the_agent_does_is_known() {
    let _guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(Skip(reason)) = restart::nobody_is_missed_at_the_start() {
        host::say(&format!("SKIPPED start: {reason}"));
    }
}

#[test]
fn users_cannot_harm_the_agent() {
    let _guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    for run in [
        hostile::short_servers_leave_no_tags,
        hostile::arguments_without_an_answer,
        hostile::directories_without_an_answer,
        content::names_of_a_mount_namespace,
        content::files_without_an_answer,
        content::packages_that_take_long,
    ] {
        if let Err(Skip(reason)) = run() {
            host::say(&format!("SKIPPED hostile: {reason}"));
        }
    }
}

#[test]
fn a_storm_of_processes_keeps_to_the_budget() {
    let _guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(Skip(reason)) = storm::memory_is_bounded() {
        host::say(&format!("SKIPPED storm: {reason}"));
    }
}

#[test]
fn a_running_agent_is_asked() {
    let _guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    for run in [asked::an_attack_is_drawn, asked::clients_cannot_harm] {
        if let Err(Skip(reason)) = run() {
            host::say(&format!("SKIPPED asked: {reason}"));
        }
    }
}

#[test]
fn containers_are_known() {
    let _guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    let only = std::env::var("TRACER_E2E").unwrap_or_default();
    let all = [
        ("podman", containers::podman as fn() -> Outcome),
        ("podman without its service", containers::podman_alone),
        ("docker", containers::docker::docker),
        ("pod", containers::pods::debian_12),
        ("pod of containerd 1.7", containers::pods::debian_13),
        ("pod of the newest containerd", containers::pods::debian_sid),
        ("pod by events of runtime.v1", containers::pods::by_cri),
        ("short containers", containers::short),
    ];
    for (name, run) in all {
        if !name.contains(&only) {
            continue;
        }
        match run() {
            Ok(()) => host::say(&format!("ok containers, {name}")),
            Err(Skip(reason)) => host::say(&format!("SKIPPED containers, {name}: {reason}")),
        }
    }
}

/// Runs a story and says how it went. The panic message is on stderr by then.
fn passes(scene: &Scene, story: &Story) -> bool {
    let run: Result<Outcome, _> = catch_unwind(AssertUnwindSafe(|| (story.run)(scene)));
    match &run {
        Ok(Ok(())) => host::say(&format!("ok {}", story.name)),
        // The first colon ends the name for who counts skips.
        Ok(Err(Skip(reason))) => {
            let name = story.name.replace(": ", ", ");
            host::say(&format!("SKIPPED {name}: {reason}"));
        }
        Err(_) => host::say(&format!("FAILED {}", story.name)),
    }
    run.is_ok()
}

/// The summary on stderr says that nothing was lost.
fn assert_nothing_lost(stderr: &str) {
    let words: Vec<&str> = stderr
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let lost: Vec<&str> = words
        .windows(2)
        .filter(|pair| pair[1] == "lost")
        .map(|pair| pair[0])
        .collect();
    assert_eq!(lost, ["0"], "lost, by the summary: {stderr}");
}
