//! Names of users: those of the mount namespace that a process is in, and no others.

use tracer::config::Emit;
use tracer::enrich::user::Whose;
use tracer::memory::Budget;
use tracer::pipeline::{Command, NamesAsked, Pipeline};
use tracer::source::{Enrichment, Input, Names, NamesStep};

use crate::story::{preamble, told};

/// The mount namespace of a story where it says none.
const HOST: Whose = Whose {
    mnt_ns: 4_026_531_841,
    user_ns: 0,
};

const CONTAINER: Whose = Whose {
    mnt_ns: 77,
    user_ns: 88,
};

fn names(whose: Whose, step: NamesStep, user: &str) -> Input {
    Input::Names(Names {
        whose,
        step,
        more: false,
        names: vec![(false, 33, user.to_owned())],
    })
}

/// A pipeline that knows the host's names and took a story.
fn run(story: &str) -> Pipeline {
    let mut pipeline = Pipeline::new(Emit::Events, Budget::default());
    // Host and clock; the names of before there were namespaces are left out.
    for input in preamble().into_iter().take(2) {
        pipeline.input(input);
    }
    pipeline.input(names(HOST, NamesStep::Replace, "www-data"));
    feed(&mut pipeline, told(story));
    pipeline
}

fn feed(pipeline: &mut Pipeline, inputs: Vec<Input>) {
    for input in inputs.into_iter().chain([Input::Watermark(u64::MAX)]) {
        pipeline.input(input);
    }
}

fn asked(pipeline: &mut Pipeline) -> Vec<(Whose, Vec<u32>)> {
    let commands = pipeline.take_commands().into_iter();
    commands
        .filter_map(|command| match command {
            Command::Names(NamesAsked { whose, processes }) => {
                Some((whose, processes.iter().map(|key| key.tgid).collect()))
            }
            _ => None,
        })
        .collect()
}

/// Pid and user name of each document.
fn users(pipeline: &mut Pipeline) -> Vec<(u32, Option<String>)> {
    let documents = pipeline.take_documents().into_iter();
    documents
        .map(|document| {
            let process = document.event.process;
            let name = process
                .names
                .found()
                .and_then(|names| names.user(33))
                .map(ToOwned::to_owned);
            (process.key.tgid, name)
        })
        .collect()
}

#[test]
fn a_container_has_its_own_names() {
    let mut pipeline = run("
        observed 1 /sbin/init
        observed 5 :parent=1 :mnt=77 :userns=88 /usr/sbin/httpd
        observed 6 :parent=5 :mnt=77 :userns=88 :uid=33 /usr/sbin/httpd
        end");
    // Once for the namespace; the host's are known.
    assert_eq!(asked(&mut pipeline), [(CONTAINER, vec![5])]);
    let known = Some("www-data".to_owned());
    assert_eq!(
        users(&mut pipeline),
        [(1, known.clone()), (5, None), (6, None)]
    );
    pipeline.input(names(CONTAINER, NamesStep::Replace, "xfs"));
    feed(
        &mut pipeline,
        told("observed 1 /sbin/init\nobserved 6 :mnt=77 :userns=88 :uid=33 /usr/sbin/httpd"),
    );
    assert_eq!(
        users(&mut pipeline),
        [(1, known), (6, Some("xfs".to_owned()))]
    );
}

#[test]
fn who_enters_a_namespace_has_it_read_again() {
    let story = "
        observed 1 /sbin/init
        observed 5 :parent=1 :mnt=77 :userns=88 /usr/sbin/httpd
        end
        fork 5>6
        exec 6 :mnt=77 :userns=88 /bin/ls
        fork 1>7
        exec 7 :mnt=77 :userns=88 /bin/sh
        now";
    let mut pipeline = Pipeline::new(Emit::Events, Budget::default());
    pipeline.input(names(HOST, NamesStep::Replace, "www-data"));
    let mut asked_by = Vec::new();
    for input in told(story) {
        pipeline.input(input);
        for (whose, processes) in asked(&mut pipeline) {
            asked_by.push(processes);
            pipeline.input(names(whose, NamesStep::Replace, "xfs"));
        }
    }
    // For the shell, whose creator is elsewhere, its namespace may be another of the same number.
    assert_eq!(asked_by, [vec![5], vec![7]]);
}

#[test]
fn a_namespace_that_cannot_be_read_has_no_names() {
    let mut pipeline = run("
        observed 1 /sbin/init
        end
        fork 1>5
        exec 5 :mnt=77 :userns=88 :uid=33 /usr/sbin/httpd
        now");
    assert_eq!(asked(&mut pipeline), [(CONTAINER, vec![5])]);
    pipeline.input(Input::Names(Names {
        whose: CONTAINER,
        step: NamesStep::Fail,
        more: false,
        names: Vec::new(),
    }));
    pipeline.take_documents();
    let again = "observed 5 :mnt=77 :userns=88 :uid=33 /usr/sbin/httpd";
    feed(&mut pipeline, told(again));
    assert_eq!(users(&mut pipeline), [(5, None)]);
}

#[test]
fn an_alert_waits_for_names() {
    let story = "
        observed 1 /sbin/init
        observed 5 :parent=1 :mnt=77 :userns=88 /usr/sbin/nginx nginx
        end
        fork 5>6
        exec 6 :mnt=77 :userns=88 :uid=33 /usr/bin/dash sh -c id
        now";
    let mut pipeline = Pipeline::new(Emit::Alerts, Budget::default());
    pipeline.input(Input::Enrichment(Enrichment {
        wait_ms: 250,
        ..Enrichment::default()
    }));
    pipeline.input(names(HOST, NamesStep::Replace, "www-data"));
    for input in told(story) {
        pipeline.input(input);
    }
    assert_eq!(users(&mut pipeline), [], "held");
    let Input::Names(mut first) = names(CONTAINER, NamesStep::Replace, "other") else {
        unreachable!("names")
    };
    first.more = true;
    pipeline.input(Input::Names(first));
    assert_eq!(users(&mut pipeline), [], "more are to come");
    pipeline.input(names(CONTAINER, NamesStep::Add, "xfs"));
    assert_eq!(users(&mut pipeline), [(6, Some("xfs".to_owned()))]);
}
