//! The agent from end to end: real servers attacked over HTTP, and hosts at their ordinary work.
//!
//! One agent watches all stories, which run one after the other. Needs root and a kernel that
//! takes the probes; where they are missing, and where a story's server is not installed, says
//! `SKIPPED` and why. Everything listens on loopback and lives in folders of its own.
//!
//! Each story is a test with libtest's options and output. `TRACER_E2E='word|another'` runs those whose name holds one
//! of the words, `TRACER_E2E_KEEP=1` leaves the folders, `TRACER_BENCH=1` measures, `TRACER_BIN=path` tests another build.

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

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::host::{Outcome, Skip};
use crate::scene::{Scene, Story};

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

/// A name, and what gives a reason where it cannot run here.
type Test = (&'static str, fn() -> Outcome);

/// Tests with agents of their own.
const ALONE: &[Test] = &[
    (
        "every_short_process_is_told_with_its_creator",
        lineage::every_process_is_told,
    ),
    (
        "process_life_that_was_lost_is_found_again",
        healing::a_lost_worker_is_found,
    ),
    (
        "restart::lineage_is_known",
        restart::lineage_survives_a_restart,
    ),
    (
        "restart::what_servers_wrote_is_known",
        dropped::what_servers_wrote_survives_a_restart,
    ),
    (
        "restart::an_orphan_older_than_the_agent_is_known",
        restart::an_orphan_older_than_the_agent_is_known,
    ),
    (
        "restart::who_begins_while_the_agent_does_is_known",
        restart::nobody_is_missed_at_the_start,
    ),
    (
        "hostile::short_servers_leave_no_tags",
        hostile::short_servers_leave_no_tags,
    ),
    (
        "hostile::arguments_without_an_answer",
        hostile::arguments_without_an_answer,
    ),
    (
        "hostile::directories_without_an_answer",
        hostile::directories_without_an_answer,
    ),
    (
        "hostile::names_of_a_mount_namespace",
        content::names_of_a_mount_namespace,
    ),
    (
        "hostile::files_without_an_answer",
        content::files_without_an_answer,
    ),
    (
        "hostile::packages_that_take_long",
        content::packages_that_take_long,
    ),
    (
        "a_storm_of_processes_keeps_to_the_budget",
        storm::memory_is_bounded,
    ),
    ("asked::an_attack_is_drawn", asked::an_attack_is_drawn),
    ("asked::clients_cannot_harm", asked::clients_cannot_harm),
    ("containers::podman", containers::podman),
    (
        "containers::podman_without_its_service",
        containers::podman_alone,
    ),
    ("containers::docker", containers::docker::docker),
    ("containers::pod", containers::pods::debian_12),
    (
        "containers::pod_of_containerd_1_7",
        containers::pods::debian_13,
    ),
    (
        "containers::pod_of_the_newest_containerd",
        containers::pods::debian_sid,
    ),
    (
        "containers::pod_by_events_of_runtime_v1",
        containers::pods::by_cri,
    ),
    ("containers::short", containers::short),
];

fn main() -> ExitCode {
    // A story's server may be a copy of this program.
    if let Some(port) = roles::port() {
        roles::serve(port);
        return ExitCode::SUCCESS;
    }
    // Servers that run as other users read what is made here, whatever the caller's shell says.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut arguments = Arguments::from_args();
    // Stories count alerts of the whole host: no two tests may run at once.
    arguments.test_threads = Some(1);
    let only = std::env::var("TRACER_E2E").unwrap_or_default();
    let wanted = |trial: &Trial| only.split('|').any(|word| trial.name().contains(word));

    let stage = Arc::<Stage>::default();
    let told = stories().into_iter().chain(latency::story());
    let mut trials: Vec<Trial> = told.map(|story| stage.trial(story)).collect();
    trials.push(stage.last_trial());
    trials.extend(ALONE.iter().map(|&(name, run)| trial(name, run)));
    trials.retain(wanted);
    if only.is_empty() {
        trials.push(trial("every_story_is_in_the_table", || {
            table::check(&stories());
            Ok(())
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, run: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    let said = name.to_owned();
    Trial::ignorable_test(name, move || -> Result<Completion, Failed> {
        Ok(match run() {
            Ok(()) => Completion::Completed,
            Err(Skip(reason)) => {
                host::say(&format!("SKIPPED {said}: {reason}"));
                Completion::ignored_with(reason)
            }
        })
    })
}

/// The scene that the stories share: set for the first of them.
#[derive(Default)]
struct Stage(Mutex<Option<Result<Scene, String>>>);

impl Stage {
    fn trial(self: &Arc<Self>, story: Story) -> Trial {
        let Story { name, run } = story;
        let stage = Arc::clone(self);
        trial(&slug(&name), move || {
            // A story that panicked leaves the scene as it was: each looks only at what comes after its own mark.
            let mut scene = stage.0.lock().unwrap_or_else(PoisonError::into_inner);
            if scene.is_none() {
                // What stands where setting it panics: one failure is enough.
                *scene = Some(Err("there is no scene, see the first failure".to_owned()));
                *scene = Some(Scene::set().map_err(|Skip(reason)| reason));
            }
            match scene.as_ref() {
                Some(Ok(scene)) => run(scene),
                Some(Err(reason)) => Err(Skip(reason.clone())),
                None => unreachable!("set above"),
            }
        })
    }

    /// What is asserted of the agent when all stories have been played.
    fn last_trial(self: &Arc<Self>) -> Trial {
        let stage = Arc::clone(self);
        trial("stories::nothing_was_lost", move || {
            let scene = stage
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let Some(Ok(scene)) = scene else {
                return Err(Skip("no story was played".to_owned()));
            };
            scene.say_foreign();
            let Scene { agent, site, .. } = scene;
            drop(site);
            let ended = agent.stop();
            assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
            assert_nothing_lost(&ended.stderr);
            Ok(())
        })
    }
}

/// A story's name as one word, as names of tests are.
fn slug(name: &str) -> String {
    let mut slug = "stories::".to_owned();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with(['_', ':']) {
            slug.push('_');
        }
    }
    slug.truncate(slug.trim_end_matches('_').len());
    slug
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
