//! What server lineages become: other names, users, capabilities, namespaces and roots.

use std::fs;
use std::os::fd::AsRawFd as _;

use tracer::event::{Comm, Credentials, Meta, NamespaceChange, Payload};
use tracer_common::event::{EventKind, Ids, flag, namespace_call};

use crate::child::{Child, Talk};
use crate::stage::{Outcome, Skip, Stage, TAG, Test, tests};
use crate::sys::process as calls;
use crate::{facts, sys};

pub(crate) const TESTS: &[Test] = tests!("privilege":
    a_name_by_prctl,
    a_name_by_proc,
    names_that_are_not_told,
    users_and_groups,
    users_by_every_call,
    users_by_32_bit_calls,
    capabilities,
    a_user_namespace,
    credentials_of_others,
    unshare_and_setns,
    a_32_bit_unshare,
    chroot,
    pivot_root,
);

/// Holds what a record says of its subject against who that is.
pub(crate) fn of(meta: &Meta, child: &Child, flags: u16) {
    assert_eq!(
        (meta.subject, meta.tid, meta.tag, meta.flags),
        (facts::key(child.pid), child.pid, TAG, flags)
    );
}

fn renamed(stage: &mut Stage, child: &Child) -> Comm {
    let (meta, payload) = stage.watch.event(EventKind::Comm, child.pid);
    of(&meta, child, 0);
    match payload {
        Payload::Comm(comm) => comm,
        other => panic!("{other:?}"),
    }
}

fn name(text: &str) -> [u8; 16] {
    let mut name = [0; 16];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

fn a_name_by_prctl(stage: &mut Stage) -> Outcome {
    let child = stage.tagged(|talk| {
        calls::set_name(c"first");
        calls::set_name(c"kworker/0:1");
        // The kernel keeps fifteen bytes.
        calls::set_name(c"a name that is too long");
        talk.wait();
        0
    });
    renamed(stage, &child);
    let next = renamed(stage, &child);
    assert_eq!((next.old, next.new), (name("first"), name("kworker/0:1")));
    let last = renamed(stage, &child);
    assert_eq!(
        (last.old, last.new),
        (name("kworker/0:1"), name("a name that is "))
    );
    Ok(())
}

fn a_name_by_proc(stage: &mut Stage) -> Outcome {
    let child = stage.tagged(|talk| {
        calls::set_name(c"before");
        fs::write("/proc/self/comm", "after").unwrap();
        talk.wait();
        0
    });
    assert_eq!(renamed(stage, &child).new, name("before"));
    let comm = renamed(stage, &child);
    assert_eq!((comm.old, comm.new), (name("before"), name("after")));
    Ok(())
}

fn names_that_are_not_told(stage: &mut Stage) -> Outcome {
    let image = stage.helper("pause");
    let rename = |_: &mut Talk| -> i32 {
        let thread = || calls::set_name(c"a thread");
        std::thread::scope(|scope| scope.spawn(thread).join().unwrap());
        image.exec()
    };
    // Neither a thread's, nor the one that an exec gives.
    let child = stage.tagged(rename);
    stage.watch.exec(child.pid);
    // Nor that of a process without a tag.
    let mut other = Child::hold(|_| {
        calls::set_name(c"a process");
        0
    });
    other.go();
    other.end_well();
    stage.watch.exit(other.pid);
    for pid in [child.pid, other.pid] {
        let told = stage.watch.rest(pid);
        let comms = told
            .iter()
            .filter(|event| event.payload.kind() == EventKind::Comm);
        assert_eq!(comms.count(), 0, "{told:#?}");
    }
    Ok(())
}

fn credentials(stage: &mut Stage, child: &Child, flags: u16) -> Credentials {
    let (meta, payload) = stage.watch.event(EventKind::Credentials, child.pid);
    of(&meta, child, flags);
    match payload {
        Payload::Credentials(credentials) => credentials,
        other => panic!("{other:?}"),
    }
}

/// A tagged child that does something and waits, with what is told of it, held against `/proc`.
fn become_by(stage: &mut Stage, flags: u16, step: impl FnOnce()) -> Credentials {
    let mut child = stage.server(|_| {
        step();
    });
    child.hear();
    let told = credentials(stage, &child, flags);
    let expected = Credentials {
        ids: facts::ids(child.pid),
        cap_effective: facts::capabilities(child.pid, "CapEff"),
        cap_permitted: facts::capabilities(child.pid, "CapPrm"),
        user_ns: facts::namespace(child.pid, "user"),
    };
    assert_eq!(told, expected);
    told
}

fn users_and_groups(stage: &mut Stage) -> Outcome {
    let told = become_by(stage, 0, || {
        calls::set_one(libc::SYS_setresuid, [1001, 1002, 0]).unwrap();
    });
    let own = facts::ids(sys::pid());
    let expected = Ids {
        uid: 1001,
        euid: 1002,
        suid: 0,
        ..own
    };
    assert_eq!(told.ids, expected);
    assert_eq!(told.cap_effective, 0);
    assert_ne!(told.cap_permitted, 0);

    let told = become_by(stage, 0, || {
        calls::set_one(libc::SYS_setresgid, [2001, 2002, 2003]).unwrap();
    });
    assert_eq!(
        (told.ids.gid, told.ids.egid, told.ids.sgid),
        (2001, 2002, 2003)
    );
    Ok(())
}

fn users_by_every_call(stage: &mut Stage) -> Outcome {
    for (call, ids) in [
        (libc::SYS_setuid, [1000, 0, 0]),
        (libc::SYS_setgid, [1000, 0, 0]),
        (libc::SYS_setreuid, [1000, 1001, 0]),
        (libc::SYS_setregid, [1000, 1001, 0]),
    ] {
        let told = become_by(stage, 0, || calls::set_one(call, ids).unwrap());
        let new = if call == libc::SYS_setuid || call == libc::SYS_setreuid {
            told.ids.uid
        } else {
            told.ids.gid
        };
        assert_eq!(new, 1000, "call {call}");
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn users_by_32_bit_calls(stage: &mut Stage) -> Outcome {
    use sys::process::compat;
    crate::stage::needs_compat()?;
    for (call, ids, users) in [
        (compat::SETUID16, [1000, 0, 0, 0, 0], true),
        (compat::SETGID16, [1000, 0, 0, 0, 0], false),
        (compat::SETUID, [1000, 0, 0, 0, 0], true),
        (compat::SETGID, [1000, 0, 0, 0, 0], false),
        (compat::SETRESUID16, [1000, 1001, 1002, 0, 0], true),
        (compat::SETRESUID, [1000, 100_001, 1002, 0, 0], true),
    ] {
        let told = become_by(stage, flag::COMPAT, || {
            sys::compat::call(call, ids).unwrap();
        });
        let new = if users { told.ids.uid } else { told.ids.gid };
        assert_eq!(new, 1000, "call {call}");
    }
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn users_by_32_bit_calls(_: &mut Stage) -> Outcome {
    Err(Skip(
        "only x86_64 makes 32-bit calls from a 64-bit process".into(),
    ))
}

fn capabilities(stage: &mut Stage) -> Outcome {
    // CAP_CHOWN, CAP_KILL and CAP_SETUID, the last of them not in effect.
    let told = become_by(stage, 0, || {
        calls::set_capabilities(0b10_0001, 0b1010_0001).unwrap();
    });
    assert_eq!(
        (told.cap_effective, told.cap_permitted),
        (0b10_0001, 0b1010_0001)
    );
    Ok(())
}

fn a_user_namespace(stage: &mut Stage) -> Outcome {
    if facts::namespace(sys::pid(), "user") == 0 {
        return Err(Skip("the kernel has no user namespaces".into()));
    }
    let told = become_by(stage, 0, || sys::unshare(libc::CLONE_NEWUSER).unwrap());
    assert_ne!(told.user_ns, facts::namespace(sys::pid(), "user"));
    Ok(())
}

fn credentials_of_others(stage: &mut Stage) -> Outcome {
    // Calls that fail tell nothing, nor do execs, nor processes without a tag.
    let image = stage.helper("pause");
    let child = stage.tagged(|_| {
        assert!(calls::set_one(libc::SYS_setuid, [u32::MAX, 0, 0]).is_err());
        image.exec()
    });
    stage.watch.exec(child.pid);
    let mut other = Child::hold(|_| {
        calls::set_one(libc::SYS_setuid, [1000, 0, 0]).unwrap();
        0
    });
    other.go();
    other.end_well();
    stage.watch.exit(other.pid);
    for pid in [child.pid, other.pid] {
        let told = stage.watch.rest(pid);
        let changes = told
            .iter()
            .filter(|event| event.payload.kind() == EventKind::Credentials);
        assert_eq!(changes.count(), 0, "{told:#?}");
    }
    Ok(())
}

/// The next change of namespaces or root by one of these calls.
fn changed(stage: &mut Stage, child: &Child, calls: &[u32]) -> (Meta, NamespaceChange) {
    loop {
        let (meta, payload) = stage.watch.event(EventKind::Namespace, child.pid);
        match payload {
            Payload::Namespace(change) if calls.contains(&change.call) => {
                assert_eq!(change.ids, facts::ids(child.pid));
                return (meta, *change);
            }
            Payload::Namespace(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn unshare_and_setns(stage: &mut Stage) -> Outcome {
    let kinds = [
        (libc::CLONE_NEWUTS, "uts"),
        (libc::CLONE_NEWIPC, "ipc"),
        (libc::CLONE_NEWNET, "net"),
        (libc::CLONE_NEWNS, "mnt"),
        (libc::CLONE_NEWCGROUP, "cgroup"),
    ];
    for (flag, kind) in kinds {
        if facts::namespace(sys::pid(), kind) == 0 {
            println!("no {kind} namespaces");
            continue;
        }
        let mut child = stage.tagged(|talk| {
            let old = fs::File::open(format!("/proc/self/ns/{kind}")).unwrap();
            sys::unshare(flag).unwrap();
            talk.done();
            talk.wait();
            calls::setns(old.as_raw_fd(), flag).unwrap();
            talk.done();
            talk.wait();
            0
        });
        child.hear();
        let switch = namespace_call::SWITCH;
        let (meta, change) = changed(stage, &child, &[namespace_call::UNSHARE, switch]);
        of(&meta, &child, 0);
        assert_eq!(change.ns, facts::namespaces(child.pid), "{kind}");
        assert_ne!(change.ns, facts::namespaces(sys::pid()), "{kind}");
        assert_eq!(change.root, b"/");
        child.go();
        child.hear();
        let (meta, change) = changed(stage, &child, &[namespace_call::SETNS, switch]);
        of(&meta, &child, 0);
        assert_eq!(change.ns, facts::namespaces(child.pid), "{kind}");
        let ours = facts::namespaces(sys::pid());
        assert_eq!((change.ns.uts, change.ns.mnt), (ours.uts, ours.mnt));
        let rest = stage.watch.rest(child.pid);
        let more = rest
            .iter()
            .filter(|event| event.payload.kind() == EventKind::Namespace);
        assert_eq!(more.count(), 0, "{kind}: told once each: {rest:#?}");
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn a_32_bit_unshare(stage: &mut Stage) -> Outcome {
    crate::stage::needs_compat()?;
    if facts::namespace(sys::pid(), "uts") == 0 {
        return Err(Skip("the kernel has no uts namespaces".into()));
    }
    let mut child = stage.server(|_| {
        let flags = [libc::CLONE_NEWUTS as u32, 0, 0, 0, 0];
        sys::compat::call(sys::process::compat::UNSHARE, flags).unwrap();
    });
    child.hear();
    let calls = [namespace_call::UNSHARE, namespace_call::SWITCH];
    let (meta, change) = changed(stage, &child, &calls);
    of(&meta, &child, flag::COMPAT);
    assert_eq!(change.ns, facts::namespaces(child.pid));
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn a_32_bit_unshare(_: &mut Stage) -> Outcome {
    Err(Skip(
        "only x86_64 makes 32-bit calls from a 64-bit process".into(),
    ))
}

fn chroot(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let (real, link) = (folder.join("jail"), folder.join("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink("jail", &link).unwrap();
    let mut child = stage.server(|_| {
        calls::chroot(&sys::c(&link)).unwrap();
    });
    child.hear();
    let (meta, change) = changed(stage, &child, &[namespace_call::CHROOT]);
    of(&meta, &child, 0);
    assert_eq!(change.root, facts::bytes(&real));
    assert_eq!(change.ns, facts::namespaces(child.pid));
    Ok(())
}

fn pivot_root(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    fs::create_dir(folder.join("old")).unwrap();
    let root = sys::c(&folder);
    let mut child = stage.tagged(|talk| {
        sys::bind_mount(&root, &root).unwrap();
        std::env::set_current_dir(&folder).unwrap();
        let done = calls::pivot_root(c".", c"old");
        talk.say(done.is_ok().into());
        talk.wait();
        0
    });
    if child.hear() == 0 {
        return Err(Skip(
            "the root of this host cannot be replaced (an initramfs)".into(),
        ));
    }
    let (meta, change) = changed(stage, &child, &[namespace_call::PIVOT_ROOT]);
    // Either after the call, or before it and then where the new root was.
    if meta.flags & flag::ATTEMPT == 0 {
        assert_eq!(change.root, b"/");
    } else {
        assert_eq!(change.root, facts::bytes(&folder));
    }
    of(&meta, &child, meta.flags & flag::ATTEMPT);
    assert_eq!(change.ns, facts::namespaces(child.pid));
    Ok(())
}
