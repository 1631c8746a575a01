//! Files that a server lineage renames, in whatever tier.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use libc::AT_FDCWD;
use tracer::event::{Change, Meta, Payload};
use tracer_common::event::{EventKind, Ids, flag};
use tracer_common::limits::STRING_BYTES;

use crate::child::Child;
use crate::facts::{self, bytes};
use crate::stage::{Outcome, Span, Stage, TAG, Test, tests};
use crate::sys;

pub(crate) const TESTS: &[Test] = tests!("rename":
    every_fact,
    names_become_absolute,
    flags,
    failed_calls_are_no_events,
    long_names,
    other_users_and_groups,
    calls_of_the_32_bit_convention,
);

/// Takes the next record, which must have these names.
fn expect(stage: &mut Stage, child: &Child, old: &Path, new: &Path, flags: u32) -> Meta {
    let (meta, rename) = stage.watch.rename(child.pid);
    let expected = Change {
        kind: EventKind::Rename,
        old: bytes(old),
        new: bytes(new),
        detail: Vec::new(),
        early: None,
        file: None,
        directory: None,
        writer: None,
        number: 0,
        uid: 0,
        gid: 0,
        mode: 0,
        new_mode: 0,
        flags,
        ids: facts::ids(child.pid),
        mnt_ns: facts::namespace(child.pid, "mnt"),
    };
    assert_eq!(rename, expected);
    assert_eq!(meta.tag, TAG);
    meta
}

/// Ends a child that did all it was to do; of names and attributes nothing else is known of it.
fn nothing_else(stage: &mut Stage, mut child: Child) {
    child.hear();
    let mut rest = stage.end(child);
    rest.retain(|event| matches!(event.payload, Payload::Change(_)));
    assert_eq!(rest, []);
}

fn every_fact(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let (old, new) = (folder.join("upload.tmp"), folder.join("shell.php"));
    fs::write(&old, "x").unwrap();
    let span = Span::begin();
    let child = stage.server(|_| sys::rename(&sys::c(&old), &sys::c(&new)).unwrap());
    let meta = expect(stage, &child, &old, &new, 0);
    span.check(&meta, facts::key(child.pid), child.pid, TAG, 0);
    nothing_else(stage, child);
    Ok(())
}

fn names_become_absolute(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let (one, two) = (folder.join("one"), folder.join("two"));
    fs::create_dir(&one).unwrap();
    fs::create_dir(&two).unwrap();
    symlink(&two, folder.join("link")).unwrap();
    fs::write(one.join("a"), "x").unwrap();
    let child = stage.server(|_| {
        std::env::set_current_dir(&one).unwrap();
        // Names whose pages are there when the call begins.
        sys::rename(&sys::c("a"), &sys::c("./b")).unwrap();
        sys::rename(&sys::c("../one/b"), &sys::c("../two/../two//c")).unwrap();
        let (at_one, at_two) = (File::open(&one).unwrap(), File::open(&two).unwrap());
        let (at_one, at_two) = (at_one.as_raw_fd(), at_two.as_raw_fd());
        sys::renameat(at_two, &sys::c("c"), at_one, &sys::c("d")).unwrap();
        sys::renameat(AT_FDCWD, &sys::c("d"), at_two, &sys::c("e")).unwrap();
        // A directory does not matter to an absolute name.
        sys::renameat(at_two, &sys::c("e"), at_two, &sys::c(one.join("f"))).unwrap();
        sys::renameat(-1, &sys::c(one.join("f")), at_one, &sys::c("g")).unwrap();
        sys::renameat2(at_one, &sys::c("g"), at_two, &sys::c("../one/h"), 0).unwrap();
        // In the tracepoint tier links are not followed: the name is the caller's.
        sys::rename(&sys::c("h"), &sys::c(folder.join("link/i"))).unwrap();
    });
    let last = if stage.is_lsm() {
        two.join("i")
    } else {
        folder.join("link/i")
    };
    let steps = [
        (one.join("a"), one.join("b")),
        (one.join("b"), two.join("c")),
        (two.join("c"), one.join("d")),
        (one.join("d"), two.join("e")),
        (two.join("e"), one.join("f")),
        (one.join("f"), one.join("g")),
        (one.join("g"), one.join("h")),
        (one.join("h"), last),
    ];
    for (old, new) in &steps {
        let meta = expect(stage, &child, old, new, 0);
        assert_eq!(meta.flags, 0);
    }
    nothing_else(stage, child);
    Ok(())
}

fn flags(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let [a, b, c] = ["a", "b", "c"].map(|name| folder.join(name));
    fs::write(&a, "a").unwrap();
    fs::write(&b, "b").unwrap();
    let child = stage.server(|_| {
        let (a, b, c) = (sys::c(&a), sys::c(&b), sys::c(&c));
        sys::renameat2(AT_FDCWD, &a, AT_FDCWD, &b, libc::RENAME_EXCHANGE).unwrap();
        sys::renameat2(AT_FDCWD, &b, AT_FDCWD, &c, libc::RENAME_NOREPLACE).unwrap();
        sys::renameat2(AT_FDCWD, &c, AT_FDCWD, &b, 0).unwrap();
    });
    expect(stage, &child, &a, &b, libc::RENAME_EXCHANGE);
    expect(stage, &child, &b, &c, libc::RENAME_NOREPLACE);
    expect(stage, &child, &c, &b, 0);
    nothing_else(stage, child);
    Ok(())
}

fn failed_calls_are_no_events(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let (old, new) = (folder.join("old"), folder.join("new"));
    fs::write(&old, "x").unwrap();
    let child = stage.server(|_| {
        let (old, new) = (sys::c(&old), sys::c(&new));
        sys::rename(&new, &old).unwrap_err();
        sys::renameat(-1, c"old", -1, c"new").unwrap_err();
        sys::renameat2(AT_FDCWD, &old, AT_FDCWD, &old, libc::RENAME_NOREPLACE).unwrap_err();
        sys::rename(&old, &new).unwrap();
    });
    expect(stage, &child, &old, &new, 0);
    nothing_else(stage, child);
    Ok(())
}

fn long_names(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let old = folder.join("old");
    fs::write(&old, "x").unwrap();
    let detour = format!("{}/{}new", folder.display(), "./".repeat(STRING_BYTES));
    let child = stage.server(|_| sys::rename(&sys::c(&old), &sys::c(&detour)).unwrap());
    if stage.is_lsm() {
        let meta = expect(stage, &child, &old, &folder.join("new"), 0);
        assert_eq!(meta.flags, 0);
        nothing_else(stage, child);
        return Ok(());
    }
    // Cut off before the name itself came, and says so: the new name is a part of a path.
    let meta = expect(stage, &child, &old, &folder, 0);
    assert_eq!(meta.flags, flag::STRING_TRUNCATED | flag::PATH_TRUNCATED);
    nothing_else(stage, child);
    Ok(())
}

fn other_users_and_groups(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let (old, new) = (folder.join("old"), folder.join("new"));
    fs::write(&old, "x").unwrap();
    let child = stage.server(|_| {
        // The right to rename stays with the saved user.
        sys::set_ids([1001, 0, 1003], [2001, 2002, 2003]);
        sys::rename(&sys::c(&old), &sys::c(&new)).unwrap();
    });
    let (_, rename) = stage.watch.rename(child.pid);
    let expected = Ids {
        uid: 1001,
        euid: 0,
        suid: 1003,
        gid: 2001,
        egid: 2002,
        sgid: 2003,
    };
    assert_eq!(rename.ids, expected);
    nothing_else(stage, child);
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn calls_of_the_32_bit_convention(stage: &mut Stage) -> Outcome {
    use sys::compat::{self, call, low_string};

    crate::stage::needs_compat()?;
    let folder = stage.folder();
    let [a, b, c] = ["a", "b", "c"].map(|name| folder.join(name));
    fs::write(&a, "a").unwrap();
    fs::write(&b, "b").unwrap();
    let child = stage.server(|_| {
        let at = |path: &Path| low_string(&sys::c(path));
        call(compat::RENAME, [at(&a), at(&c), 0, 0, 0]).unwrap();
        let here = AT_FDCWD as u32;
        let exchange = libc::RENAME_EXCHANGE;
        call(compat::RENAMEAT2, [here, at(&c), here, at(&b), exchange]).unwrap();
    });
    let meta = expect(stage, &child, &a, &c, 0);
    assert_eq!(meta.flags, flag::COMPAT);
    let meta = expect(stage, &child, &c, &b, libc::RENAME_EXCHANGE);
    assert_eq!(meta.flags, flag::COMPAT);
    nothing_else(stage, child);
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn calls_of_the_32_bit_convention(_: &mut Stage) -> Outcome {
    Err(crate::stage::Skip(
        "a 64-bit process makes no 32-bit calls on this architecture".into(),
    ))
}
