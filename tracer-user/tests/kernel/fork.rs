//! `sched_process_fork`: who created whom, and what the child's tag is.

use std::collections::BTreeSet;

use tracer::event::{Event, Fork, Meta, Payload};
use tracer_common::event::Ids;
use tracer_common::tag::Tag;

use crate::child::{Child, alone, reap, until};
use crate::stage::{Outcome, Span, Stage, TAG, Test, tests};
use crate::{facts, sys};

pub(crate) const TESTS: &[Test] = tests!("fork":
    fork,
    vfork,
    posix_spawn,
    clone_parent_names_the_true_creator,
    a_double_fork_keeps_its_lineage,
    threads_are_no_processes,
    a_child_inherits_the_tag,
    the_distance_does_not_overflow,
    a_number_used_again_has_no_tag,
    other_users_and_groups,
    new_pid_namespace,
);

/// What a fork record of a plain child of ours says, apart from times. The child must be there, at
/// least as a zombie.
fn expected(child: u32, tag: Tag, record: &Fork) -> Fork {
    Fork {
        child: facts::key(child),
        child_start_boot_ns: record.child_start_boot_ns,
        child_tag: tag,
        ids: facts::ids(child),
        parent: facts::parent(child),
        vpid: child,
        pid_ns: facts::namespace(sys::pid(), "pid"),
    }
}

fn check_child_of_ours(span: Span, child: u32, meta: &Meta, fork: &Fork) {
    span.check(meta, facts::key(sys::pid()), sys::tid(), Tag::ZERO, 0);
    assert_eq!(*fork, expected(child, Tag::ZERO, fork));
    assert_eq!(fork.parent, facts::key(sys::pid()));
    // A child is older than the news of it.
    assert!(
        fork.child_start_boot_ns <= meta.boot_ns,
        "{fork:?} {meta:?}"
    );
}

fn fork(stage: &mut Stage) -> Outcome {
    let span = Span::begin();
    let child = Child::hold(|_| 0);
    let (meta, fork) = stage.watch.fork(sys::pid(), child.pid);
    check_child_of_ours(span, child.pid, &meta, &fork);
    Ok(())
}

fn vfork(stage: &mut Stage) -> Outcome {
    let span = Span::begin();
    let child = sys::vfork_and_leave().unwrap();
    let (meta, fork) = stage.watch.fork(sys::pid(), child);
    check_child_of_ours(span, child, &meta, &fork);
    stage.watch.exit(child);
    reap(child);
    Ok(())
}

fn posix_spawn(stage: &mut Stage) -> Outcome {
    let span = Span::begin();
    let image = stage.helper("exit");
    let child = sys::spawn(&image.path, &image.argv).unwrap();
    let (meta, fork) = stage.watch.fork(sys::pid(), child);
    check_child_of_ours(span, child, &meta, &fork);
    let (exec_meta, exec) = stage.watch.exec(child);
    assert_eq!(exec_meta.subject, fork.child);
    assert_eq!(exec_meta.start_boot_ns, fork.child_start_boot_ns);
    assert_eq!(exec.parent, facts::key(sys::pid()));
    assert_eq!(exec.args, [b"helper-exit"]);
    stage.watch.exit(child);
    reap(child);
    Ok(())
}

fn clone_parent_names_the_true_creator(stage: &mut Stage) -> Outcome {
    let span = Span::begin();
    let mut creator = stage.tagged(|talk| {
        let pid = sys::clone(libc::CLONE_PARENT).unwrap();
        if pid == 0 {
            sys::leave(0);
        }
        talk.say(pid.into());
        talk.wait();
        0
    });
    let sibling = creator.hear_pid();
    let (meta, fork) = stage.watch.fork(creator.pid, sibling);
    span.check(&meta, facts::key(creator.pid), creator.pid, TAG, 0);
    assert_eq!(fork, expected(sibling, TAG.child(), &fork));
    assert_eq!(
        fork.parent,
        facts::key(sys::pid()),
        "the creator's parent took it"
    );
    reap(sibling);
    creator.go();
    creator.end_well();
    Ok(())
}

fn a_double_fork_keeps_its_lineage(stage: &mut Stage) -> Outcome {
    let image = stage.helper("pause");
    let mut first = stage.tagged(|talk| {
        let second = sys::fork().unwrap();
        if second == 0 {
            sys::setsid();
            let creator = sys::pid();
            let third = sys::fork().unwrap();
            if third != 0 {
                talk.say(third.into());
                sys::leave(0);
            }
            talk.wait();
            until("the creator is gone", || sys::ppid() != creator);
            talk.say(sys::ppid().into());
            talk.wait();
            image.exec();
        }
        reap(second);
        talk.say(second.into());
        0
    });
    let (third, second) = (first.hear_pid(), first.hear_pid());
    let (second_meta, second_fork) = stage.watch.fork(first.pid, second);
    assert_eq!(second_meta.tag, TAG);
    assert_eq!(second_fork.child_tag, TAG.child());
    let (third_meta, third_fork) = stage.watch.fork(second, third);
    assert_eq!(third_meta.subject, second_fork.child);
    assert_eq!(third_meta.tag, TAG.child());
    assert_eq!(third_fork.child_tag, TAG.child().child());
    assert_eq!(third_fork.parent, second_fork.child);

    first.end_well();
    first.go();
    let reaper = first.hear_pid();
    first.go();
    let (meta, exec) = stage.watch.exec(third);
    assert_eq!(meta.subject, third_fork.child);
    assert_eq!(meta.tag, TAG.child().child());
    assert_eq!(stage.watch.sensor.tag(third), Some(TAG.child().child()));
    assert_eq!(exec.parent, facts::key(reaper));
    assert_eq!((exec.pgid, exec.sid, exec.tty), (second, second, None));
    sys::kill(third, libc::SIGKILL);
    let (meta, exit) = stage.watch.exit(third);
    assert_eq!(
        (meta.tag, exit.status),
        (TAG.child().child(), libc::SIGKILL as u32)
    );
    Ok(())
}

fn threads_are_no_processes(stage: &mut Stage) -> Outcome {
    let mut child = Child::hold(|talk| {
        for _ in 0..3 {
            let thread = std::thread::spawn(sys::tid);
            talk.say(thread.join().unwrap().into());
        }
        alone();
        talk.wait();
        0
    });
    child.go();
    let threads: BTreeSet<u32> = [child.hear_pid(), child.hear_pid(), child.hear_pid()].into();
    assert!(!threads.contains(&child.pid));
    child.go();
    child.end_well();
    let (meta, _) = stage.watch.exit(child.pid);
    assert_eq!(meta.tid, child.pid);
    let about = |event: &Event| {
        let named = match &event.payload {
            Payload::Fork(fork) => threads.contains(&fork.child.tgid),
            _ => false,
        };
        named || threads.contains(&event.meta.subject.tgid) || event.meta.subject.tgid == child.pid
    };
    let all = stage.watch.take_all();
    let others: Vec<_> = all.into_iter().filter(about).collect();
    assert_eq!(others, [], "threads end and begin without a record");
    Ok(())
}

fn a_child_inherits_the_tag(stage: &mut Stage) -> Outcome {
    stage.watch.sensor.set_tag(sys::pid(), TAG).unwrap();
    assert_eq!(stage.watch.sensor.tag(sys::pid()), Some(TAG));
    let span = Span::begin();
    let mut child = Child::hold(|talk| {
        let grandchild = Child::hold(|_| 0);
        talk.say(grandchild.pid.into());
        talk.wait();
        0
    });
    stage.watch.sensor.clear_tag(sys::pid());
    let (meta, fork) = stage.watch.fork(sys::pid(), child.pid);
    span.check(&meta, facts::key(sys::pid()), sys::tid(), TAG, 0);
    let tag = Tag {
        distance: TAG.distance + 1,
        ..TAG
    };
    assert_eq!(fork, expected(child.pid, tag, &fork));
    assert_eq!(stage.watch.sensor.tag(child.pid), Some(tag));

    child.go();
    let grandchild = child.hear_pid();
    let (meta, fork) = stage.watch.fork(child.pid, grandchild);
    span.check(&meta, facts::key(child.pid), child.pid, tag, 0);
    assert_eq!(fork, expected(grandchild, tag.child(), &fork));
    assert_eq!(stage.watch.sensor.tag(grandchild), Some(tag.child()));

    // What was tagged stays so, and what was not does not become so.
    assert_eq!(stage.watch.sensor.tag(sys::pid()), None);
    let other = Child::hold(|_| 0);
    let (_, fork) = stage.watch.fork(sys::pid(), other.pid);
    assert_eq!(fork.child_tag, Tag::ZERO);
    assert_eq!(stage.watch.sensor.tag(other.pid), None);
    child.go();
    child.end_well();
    Ok(())
}

fn the_distance_does_not_overflow(stage: &mut Stage) -> Outcome {
    let far = Tag {
        distance: u16::MAX,
        ..TAG
    };
    stage.watch.sensor.set_tag(sys::pid(), far).unwrap();
    let child = Child::hold(|_| 0);
    stage.watch.sensor.clear_tag(sys::pid());
    let (_, fork) = stage.watch.fork(sys::pid(), child.pid);
    assert_eq!(fork.child_tag, far);
    assert_eq!(stage.watch.sensor.tag(child.pid), Some(far));
    Ok(())
}

fn a_number_used_again_has_no_tag(stage: &mut Stage) -> Outcome {
    // A number that was free a moment ago; where somebody takes it first, the next.
    for _ in 0..16 {
        let mut before = Child::hold(|_| 0);
        let number = before.pid;
        before.kill();
        stage.watch.fork(sys::pid(), number);
        stage.watch.exit(number);
        stage.watch.sensor.set_tag(number, TAG).unwrap();
        let mut taken = false;
        let copy = || {
            sys::clone_with_number(number).or_else(|error| {
                assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "clone3: {error}");
                taken = true;
                sys::fork()
            })
        };
        let child = Child::hold_by(copy, |_| 0);
        if taken {
            stage.watch.sensor.clear_tag(number);
            continue;
        }
        assert_eq!(child.pid, number);
        let (_, fork) = stage.watch.fork(sys::pid(), child.pid);
        assert_eq!(fork, expected(number, Tag::ZERO, &fork));
        assert_eq!(stage.watch.sensor.tag(number), None);
        return Ok(());
    }
    panic!("no number stayed free for as long as it takes to use it");
}

fn other_users_and_groups(stage: &mut Stage) -> Outcome {
    let mut creator = Child::hold(|talk| {
        sys::set_ids([1001, 1002, 1003], [2001, 2002, 2003]);
        let child = Child::hold(|_| 0);
        talk.say(child.pid.into());
        talk.wait();
        0
    });
    creator.go();
    let child = creator.hear_pid();
    let (_, fork) = stage.watch.fork(creator.pid, child);
    assert_eq!(fork, expected(child, Tag::ZERO, &fork));
    let ids = Ids {
        uid: 1001,
        euid: 1002,
        suid: 1003,
        gid: 2001,
        egid: 2002,
        sgid: 2003,
    };
    assert_eq!(fork.ids, ids);
    creator.go();
    creator.end_well();
    Ok(())
}

fn new_pid_namespace(stage: &mut Stage) -> Outcome {
    let image = stage.helper("pause");
    let mut outer = Child::hold(|talk| {
        sys::unshare(libc::CLONE_NEWPID).unwrap();
        let inner = sys::fork().unwrap();
        if inner == 0 {
            sys::die_with_parent();
            talk.wait();
            image.exec();
        }
        talk.say(inner.into());
        reap(inner) & 0xff
    });
    outer.go();
    let inner = outer.hear_pid();
    let (_, fork) = stage.watch.fork(outer.pid, inner);
    let namespace = facts::namespace(inner, "pid");
    assert_ne!(namespace, facts::namespace(sys::pid(), "pid"));
    let wanted = Fork {
        vpid: 1,
        pid_ns: namespace,
        ..expected(inner, Tag::ZERO, &fork)
    };
    assert_eq!(fork, wanted);

    outer.go();
    let (meta, exec) = stage.watch.exec(inner);
    assert_eq!(meta.subject, fork.child);
    assert_eq!((exec.ns.vpid, exec.ns.pid), (1, namespace));
    assert_eq!(exec.ns, facts::namespaces(inner));
    assert_eq!((exec.parent.tgid, exec.old_tid), (outer.pid, inner));
    // Groups and sessions are numbers of the initial namespace too.
    assert_eq!((exec.pgid, exec.sid), {
        let facts = facts::exec(inner, &stage.helper("pause"));
        (facts.pgid, facts.sid)
    });
    sys::kill(inner, libc::SIGKILL);
    let (meta, exit) = stage.watch.exit(inner);
    assert_eq!(
        (meta.subject, exit.status),
        (fork.child, libc::SIGKILL as u32)
    );
    assert_eq!(outer.end(), libc::SIGKILL << 8);
    Ok(())
}
