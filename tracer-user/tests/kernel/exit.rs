//! `sched_process_exit`: one record a process, with the status that wait(2) gives.

use tracer_common::tag::Tag;

use crate::child::{Child, alone, until};
use crate::stage::{Outcome, Span, Stage, TAG, Test, tests};
use crate::{facts, sys};

pub(crate) const TESTS: &[Test] = tests!("exit":
    the_exit_code,
    a_signal,
    a_killed_group_of_threads,
    the_last_thread_ends_the_process,
    the_leader_may_go_first,
    the_status_is_the_one_that_the_parent_gets,
    the_tag_goes_with_the_process,
);

fn the_exit_code(stage: &mut Stage) -> Outcome {
    for code in [0, 7, 255] {
        let span = Span::begin();
        let mut child = Child::hold(|_| code);
        let subject = facts::key(child.pid);
        child.go();
        assert_eq!(child.end(), code << 8);
        let (meta, exit) = stage.watch.exit(child.pid);
        span.check(&meta, subject, child.pid, Tag::ZERO, 0);
        assert_eq!(exit.status, (code as u32) << 8);
        assert_eq!(stage.watch.rest(child.pid), []);
    }
    Ok(())
}

fn a_signal(stage: &mut Stage) -> Outcome {
    for signal in [libc::SIGKILL, libc::SIGTERM, libc::SIGPIPE] {
        let mut child = Child::hold(|talk| {
            sys::default_action(signal);
            talk.done();
            talk.wait();
            0
        });
        child.go();
        child.hear();
        sys::kill(child.pid, signal);
        assert_eq!(child.end(), signal);
        let (meta, exit) = stage.watch.exit(child.pid);
        assert_eq!((meta.tid, exit.status), (child.pid, signal as u32));
        assert_eq!(stage.watch.rest(child.pid), []);
    }
    Ok(())
}

fn a_killed_group_of_threads(stage: &mut Stage) -> Outcome {
    let mut child = Child::hold(|talk| {
        for _ in 0..4 {
            std::thread::spawn(std::thread::park);
        }
        talk.done();
        talk.wait();
        3
    });
    child.go();
    child.hear();
    // All its threads end at once: two may both find that nobody is left, and both say so. Then
    // both say the same.
    child.go();
    assert_eq!(child.end(), 3 << 8);
    let (_, exit) = stage.watch.exit(child.pid);
    assert_eq!(exit.status, 3 << 8);
    for again in stage.watch.rest(child.pid) {
        assert_eq!(again.payload, tracer::event::Payload::Exit(exit));
    }
    Ok(())
}

fn the_last_thread_ends_the_process(stage: &mut Stage) -> Outcome {
    let mut child = Child::hold(|talk| {
        for _ in 0..3 {
            std::thread::spawn(|| ()).join().unwrap();
        }
        alone();
        talk.done();
        talk.wait();
        0
    });
    child.go();
    child.hear();
    assert_eq!(stage.watch.rest(child.pid), [], "it has not ended");
    child.go();
    child.end_well();
    stage.watch.exit(child.pid);
    assert_eq!(stage.watch.rest(child.pid), []);
    Ok(())
}

/// A child whose leader ends first with one code, and whose other thread ends later with another.
/// Gives the thread.
fn leaderless(leader: i32, last: i32) -> (Child, u32) {
    let mut child = Child::hold(|talk| {
        let (mut go, mut said) = talk.copy();
        std::thread::spawn(move || {
            said.say(sys::tid().into());
            go.wait();
            sys::leave_thread(last);
        });
        sys::leave_thread(leader)
    });
    child.go();
    let thread = child.hear_pid();
    let status = format!("/proc/{}/status", child.pid);
    until("the leader is gone", || {
        std::fs::read_to_string(&status)
            .unwrap()
            .contains("State:\tZ")
    });
    (child, thread)
}

fn the_leader_may_go_first(stage: &mut Stage) -> Outcome {
    let span = Span::begin();
    let (mut child, thread) = leaderless(0, 0);
    assert_eq!(stage.watch.rest(child.pid), [], "a thread is left");
    let subject = facts::key(child.pid);
    child.go();
    child.end_well();
    let (meta, exit) = stage.watch.exit(child.pid);
    span.check(&meta, subject, thread, Tag::ZERO, 0);
    assert_eq!(exit.status, 0);
    assert_eq!(stage.watch.rest(child.pid), []);
    Ok(())
}

fn the_status_is_the_one_that_the_parent_gets(stage: &mut Stage) -> Outcome {
    // Kernels differ in whose code counts where threads end one by one: the leader's on 5.10, that
    // of the last thread on newer ones.
    for (leader, last) in [(5, 9), (0, 9), (5, 0)] {
        let (mut child, _) = leaderless(leader, last);
        child.go();
        let status = child.end();
        let (_, exit) = stage.watch.exit(child.pid);
        assert_eq!(exit.status, status as u32, "leader {leader}, last {last}");
    }
    Ok(())
}

fn the_tag_goes_with_the_process(stage: &mut Stage) -> Outcome {
    let span = Span::begin();
    let mut child = Child::hold(|_| 0);
    stage.watch.sensor.set_tag(child.pid, TAG).unwrap();
    let subject = facts::key(child.pid);
    child.go();
    child.end_well();
    let (meta, _) = stage.watch.exit(child.pid);
    span.check(&meta, subject, child.pid, TAG, 0);
    assert_eq!(stage.watch.sensor.tag(child.pid), None);

    // While a thread is left, so is the tag.
    let (mut child, _) = leaderless(0, 0);
    stage.watch.sensor.set_tag(child.pid, TAG).unwrap();
    assert_eq!(stage.watch.sensor.tag(child.pid), Some(TAG));
    child.go();
    child.end_well();
    assert_eq!(stage.watch.exit(child.pid).0.tag, TAG);
    assert_eq!(stage.watch.sensor.tag(child.pid), None);
    Ok(())
}
