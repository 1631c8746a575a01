//! Who reaches into whom: ptrace(2), process_vm_writev(2), `/proc/PID/mem`.

use std::fs::{self, OpenOptions};
use std::sync::atomic::AtomicU8;

use tracer::event::{Meta, Payload, Trace};
use tracer_common::event::{EventKind, trace_method};
use tracer_common::tag::{Role, Tag, via};

use crate::child::{Child, Talk, until};
use crate::privilege::of;
use crate::stage::{Outcome, Stage, TAG, Test, tests};
use crate::sys::process as calls;
use crate::{facts, sys};

pub(crate) const TESTS: &[Test] = tests!("trace":
    attach,
    seize,
    a_32_bit_attach,
    a_thread_of_the_target,
    a_number_of_another_namespace,
    memory_by_call,
    memory_by_file,
    a_write_is_told_once,
    what_the_target_makes,
    a_server_keeps_what_it_is,
    what_is_not_told,
);

/// What a target has that had no tag.
const REACHED: Tag = Tag {
    via: via::TRACE,
    ..TAG
};

/// A byte that every copy of this process has at the same place, and can write.
static BYTE: AtomicU8 = AtomicU8::new(7);

/// A process that waits to be reached into.
fn target() -> Child {
    Child::hold(|talk| {
        talk.wait();
        0
    })
}

fn told(stage: &mut Stage, child: &Child) -> (Meta, Trace) {
    let (meta, payload) = stage.watch.event(EventKind::Trace, child.pid);
    match payload {
        Payload::Trace(trace) => (meta, trace),
        other => panic!("{other:?}"),
    }
}

/// A tagged process does something to `target`; gives it back still alive, with what was told.
fn reach(
    stage: &mut Stage,
    target: u32,
    method: u32,
    flags: u16,
    step: impl FnOnce(),
) -> (Child, Trace) {
    let mut child = stage.server(|_| {
        step();
    });
    child.hear();
    let (meta, trace) = told(stage, &child);
    of(&meta, &child, flags);
    assert_eq!(trace.target, Some(facts::key(target)));
    assert_eq!(trace.target_tag, REACHED);
    assert_eq!(trace.ids, facts::ids(child.pid));
    assert_eq!(trace.pid_ns, facts::namespace(child.pid, "pid"));
    assert!(
        trace.method == method || trace.method == trace_method::ACCESS,
        "{trace:?}"
    );
    assert_eq!(stage.watch.sensor.tag(target), Some(REACHED));
    (child, trace)
}

fn attach(stage: &mut Stage) -> Outcome {
    let target = target();
    let pid = target.pid;
    reach(stage, pid, trace_method::PTRACE, 0, || {
        calls::ptrace(libc::PTRACE_ATTACH, pid).unwrap();
    });
    Ok(())
}

fn seize(stage: &mut Stage) -> Outcome {
    let target = target();
    let pid = target.pid;
    reach(stage, pid, trace_method::PTRACE, 0, || {
        calls::ptrace(libc::PTRACE_SEIZE, pid).unwrap();
    });
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn a_32_bit_attach(stage: &mut Stage) -> Outcome {
    crate::stage::needs_compat()?;
    let target = target();
    let pid = target.pid;
    let flags = tracer_common::event::flag::COMPAT;
    reach(stage, pid, trace_method::PTRACE, flags, || {
        let arguments = [libc::PTRACE_ATTACH, pid, 0, 0, 0];
        sys::compat::call(sys::process::compat::PTRACE, arguments).unwrap();
    });
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn a_32_bit_attach(_: &mut Stage) -> Outcome {
    Err(crate::stage::Skip(
        "only x86_64 makes 32-bit calls from a 64-bit process".into(),
    ))
}

/// A process with a second thread, and that thread's number.
fn threaded() -> (Child, u32) {
    let mut target = Child::hold(|talk| {
        let (mut go, mut said) = talk.copy();
        std::thread::spawn(move || {
            said.say(sys::tid().into());
            go.wait();
        });
        std::thread::park();
        0
    });
    target.go();
    let thread = target.hear_pid();
    (target, thread)
}

fn a_thread_of_the_target(stage: &mut Stage) -> Outcome {
    let (target, thread) = threaded();
    reach(stage, target.pid, trace_method::PTRACE, 0, || {
        calls::ptrace(libc::PTRACE_ATTACH, thread).unwrap();
    });
    let (target, thread) = threaded();
    reach(stage, target.pid, trace_method::VM_WRITE, 0, || {
        calls::write_memory(thread, &BYTE).unwrap();
    });
    Ok(())
}

fn a_number_of_another_namespace(stage: &mut Stage) -> Outcome {
    // The first process of a new pid namespace makes one there before it has a tag, and then reaches
    // into it by the number that it has for them both.
    let mut child = Child::hold_by(
        || sys::clone(libc::CLONE_NEWPID),
        |talk| {
            let pid = sys::fork().unwrap();
            if pid == 0 {
                sys::die_with_parent();
                loop {
                    std::thread::park();
                }
            }
            talk.say(pid.into());
            talk.wait();
            calls::write_memory(pid, &BYTE).unwrap();
            talk.done();
            talk.wait();
            0
        },
    );
    child.go();
    let number = child.hear_pid();
    assert_ne!(number, child.pid);
    let (_, fork) = stage.watch.forked(child.pid);
    stage.watch.sensor.set_tag(child.pid, TAG).unwrap();
    child.go();
    child.hear();
    let (_, trace) = told(stage, &child);
    assert_eq!(trace.target, Some(fork.child));
    assert_eq!(fork.vpid, number);
    assert_eq!(trace.pid_ns, fork.pid_ns);
    assert_eq!(stage.watch.sensor.tag(fork.child.tgid), Some(REACHED));
    Ok(())
}

fn memory_by_call(stage: &mut Stage) -> Outcome {
    let target = target();
    let pid = target.pid;
    reach(stage, pid, trace_method::VM_WRITE, 0, || {
        assert_eq!(calls::write_memory(pid, &BYTE).unwrap(), 1);
    });
    Ok(())
}

fn open_memory(path: &str) {
    drop(OpenOptions::new().write(true).open(path).unwrap());
}

fn memory_by_file(stage: &mut Stage) -> Outcome {
    let target = target();
    let pid = target.pid;
    reach(stage, pid, trace_method::MEM, 0, || {
        open_memory(&format!("/proc/{pid}/mem"));
    });
    let (target, thread) = threaded();
    let pid = target.pid;
    reach(stage, pid, trace_method::MEM, 0, || {
        open_memory(&format!("/proc/{pid}/task/{thread}/mem"));
    });
    // Whatever the name that leads there.
    let link = stage.folder().join("harmless");
    let target = self::target();
    let pid = target.pid;
    std::os::unix::fs::symlink(format!("/proc/{pid}/mem"), &link).unwrap();
    reach(stage, pid, trace_method::MEM, 0, || {
        open_memory(link.to_str().unwrap());
    });
    Ok(())
}

fn a_write_is_told_once(stage: &mut Stage) -> Outcome {
    let target = target();
    let pid = target.pid;
    let mut child = stage.tagged(|_| {
        for _ in 0..10 {
            calls::write_memory(pid, &BYTE).unwrap();
        }
        0
    });
    child.end_well();
    told(stage, &child);
    stage.watch.exit(child.pid);
    let rest = stage.watch.rest(child.pid);
    assert!(
        rest.iter()
            .all(|event| event.payload.kind() != EventKind::Trace),
        "{rest:#?}"
    );
    Ok(())
}

fn what_the_target_makes(stage: &mut Stage) -> Outcome {
    let mut target = Child::hold(|talk| {
        talk.wait();
        let mut made = Child::hold(|_| 0);
        made.go();
        made.end_well();
        0
    });
    target.go();
    let pid = target.pid;
    reach(stage, pid, trace_method::VM_WRITE, 0, || {
        calls::write_memory(pid, &BYTE).unwrap();
    });
    target.go();
    target.end_well();
    let (meta, fork) = stage.watch.forked(pid);
    assert_eq!((meta.tag, fork.child_tag), (REACHED, REACHED.child()));
    Ok(())
}

fn a_server_keeps_what_it_is(stage: &mut Stage) -> Outcome {
    let target = target();
    let pid = target.pid;
    let own = Tag {
        roles: Role::Database.bit(),
        server: pid,
        ..Tag::ZERO
    };
    stage.watch.sensor.set_tag(pid, own).unwrap();
    let mut child = stage.tagged(|_| {
        calls::write_memory(pid, &BYTE).unwrap();
        0
    });
    child.end_well();
    let (_, trace) = told(stage, &child);
    let now = Tag {
        roles: own.roles | TAG.roles,
        via: via::TRACE,
        ..own
    };
    assert_eq!(trace.target_tag, now);
    assert_eq!(stage.watch.sensor.tag(pid), Some(now));
    Ok(())
}

fn what_is_not_told(stage: &mut Stage) -> Outcome {
    let step = |_: &mut Talk| -> i32 {
        // Its own memory, another's to read what it is, and what does not work.
        open_memory("/proc/self/mem");
        calls::write_memory(sys::pid(), &BYTE).unwrap();
        fs::read("/proc/1/status").unwrap();
        assert!(calls::ptrace(libc::PTRACE_ATTACH, sys::pid()).is_err());
        0
    };
    let mut child = stage.tagged(step);
    child.end_well();
    // And one without a tag may do as it likes.
    let target = target();
    let pid = target.pid;
    let mut other = Child::hold(|_| {
        calls::write_memory(pid, &BYTE).unwrap();
        0
    });
    other.go();
    other.end_well();
    for pid in [child.pid, other.pid] {
        stage.watch.exit(pid);
        let rest = stage.watch.rest(pid);
        assert!(
            rest.iter()
                .all(|event| event.payload.kind() != EventKind::Trace),
            "{rest:#?}"
        );
    }
    until("the target has no tag", || {
        stage.watch.sensor.tag(pid).is_none()
    });
    Ok(())
}
