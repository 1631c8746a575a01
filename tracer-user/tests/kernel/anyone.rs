//! What others do to files that a server lineage wrote, and where that was asked for what anyone writes
//! in watched directories.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use libc::AT_FDCWD;
use tracer::event::{Change, Meta, Payload};
use tracer_common::event::{EventKind, flag};
use tracer_common::probe::Tier;
use tracer_common::tag::{InodeKey, Tag};

use crate::child::Child;
use crate::facts::{self, bytes};
use crate::stage::{Outcome, Stage, Test, tests};
use crate::sys;
use crate::sys::files::{self, Arg};
use crate::watch::Watch;

pub(crate) const TESTS: &[Test] = tests!("anyone":
    by_name,
    two_that_change_places,
    by_descriptor,
    what_servers_did_not_write,
    any_writer,
);

/// Has a server lineage write a file.
fn write(stage: &mut Stage, path: &Path) -> Child {
    let mut child = stage.server(|_| {
        fs::write(path, "<?php").unwrap();
    });
    child.hear();
    let (_, open) = stage.watch.open(child.pid);
    assert_eq!(open.path, bytes(path));
    child
}

/// A child of nobody that does something, and has ended.
fn other(body: impl FnOnce()) -> u32 {
    let mut child = Child::hold(|_| {
        body();
        0
    });
    child.go();
    child.end_well();
    child.pid
}

/// Takes the next change of a process without a tag, whose names must be these.
fn expect(
    stage: &mut Stage,
    kind: EventKind,
    pid: u32,
    old: Option<&Path>,
    new: &Path,
) -> (Meta, Change) {
    let (meta, change) = stage.watch.change(kind, pid);
    assert_eq!(
        (meta.tag, meta.flags & flag::UNTAGGED),
        (Tag::ZERO, flag::UNTAGGED)
    );
    assert_eq!(change.old, old.map(bytes).unwrap_or_default());
    assert_eq!(change.new, bytes(new));
    (meta, change)
}

/// Of names, attributes and files nothing is known of a process that was not taken.
fn nothing_else(watch: &mut Watch, pid: u32) {
    watch.exit(pid);
    let mut rest = watch.rest(pid);
    rest.retain(|event| matches!(event.payload, Payload::Change(_) | Payload::File(_)));
    assert_eq!(rest, []);
}

fn by_name(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let [upload, shell, link, last] =
        ["u-p-l-o-a-d", "s-h-e-l-l", "l-i-n-k", "l-a-s-t"].map(|name| folder.join(name));
    let writer = write(stage, &upload);
    let pid = other(|| {
        std::env::set_current_dir(&folder).unwrap();
        sys::rename(&sys::c(&upload), &sys::c(&shell)).unwrap();
        // Its new name is known, too.
        let here = Arg::Number(AT_FDCWD.into());
        let mode = Arg::Number(0o755);
        files::call(libc::SYS_fchmodat, &[here, Arg::Text(c"s-h-e-l-l"), mode]).unwrap();
        fs::hard_link(&shell, &link).unwrap();
        sys::renameat2(AT_FDCWD, &sys::c(&link), AT_FDCWD, &sys::c(&last), 0).unwrap();
    });
    let (meta, rename) = expect(stage, EventKind::Rename, pid, Some(&upload), &shell);
    expect(stage, EventKind::Chmod, pid, None, &shell);
    expect(stage, EventKind::Link, pid, Some(&shell), &link);
    expect(stage, EventKind::Rename, pid, Some(&link), &last);
    if meta.tier == Tier::Lsm {
        // Here the kernel has the file in hand.
        assert_eq!(rename.writer.unwrap().process, facts::key(writer.pid));
    }
    nothing_else(&mut stage.watch, pid);
    Ok(())
}

/// Whichever of the two names is the first, the file that a server wrote is the one that is told of.
fn two_that_change_places(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let [dropped, own] = ["d-r-o-p-p-e-d", "o-w-n"].map(|name| folder.join(name));
    fs::write(&own, "x").unwrap();
    let writer = write(stage, &dropped);
    let file = facts::file(&dropped);
    let (first, second) = (sys::c(&own), sys::c(&dropped));
    let exchange = |one, other| {
        sys::renameat2(AT_FDCWD, one, AT_FDCWD, other, libc::RENAME_EXCHANGE).unwrap();
    };
    let pid = other(|| {
        exchange(&first, &second);
        // Under its new name, which was the old one of the call.
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
        exchange(&first, &second);
    });
    let is_lsm = stage.is_lsm();
    for (old, new) in [(&dropped, &own), (&own, &dropped)] {
        let (meta, change) = if is_lsm {
            expect(stage, EventKind::Rename, pid, Some(old), new)
        } else {
            // As the call has them.
            expect(stage, EventKind::Rename, pid, Some(&own), &dropped)
        };
        assert_eq!(change.flags, libc::RENAME_EXCHANGE);
        if is_lsm {
            assert_eq!(change.file, Some(file));
            assert_eq!(change.writer.unwrap().process, facts::key(writer.pid));
            assert_ne!(meta.flags & flag::RESOLVED, 0);
        }
        if new == &own {
            expect(stage, EventKind::Chmod, pid, None, &own);
        }
    }
    nothing_else(&mut stage.watch, pid);
    Ok(())
}

fn by_descriptor(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("file");
    let writer = write(stage, &path);
    let file = File::open(&path).unwrap();
    let fd = file.as_raw_fd();
    let pid = other(|| {
        let (fd, number) = (Arg::Number(fd.into()), Arg::Number);
        files::call(libc::SYS_fchmod, &[fd, number(0o700)]).unwrap();
        files::call(libc::SYS_fchown, &[fd, number(1), number(-1)]).unwrap();
    });
    for (kind, number) in [
        (EventKind::Chmod, 0),
        (EventKind::Chown, 1 << 32 | u64::from(u32::MAX)),
    ] {
        let (meta, change) = expect(stage, kind, pid, None, &path);
        assert_eq!(change.writer.unwrap().process, facts::key(writer.pid));
        assert_eq!(change.file, Some(facts::file(&path)));
        assert_ne!(meta.flags & flag::RESOLVED, 0);
        assert_eq!(change.number, number);
    }
    nothing_else(&mut stage.watch, pid);
    Ok(())
}

fn what_servers_did_not_write(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let [own, moved] = ["never-seen-before", "never-seen-after"].map(|name| folder.join(name));
    let pid = other(|| {
        fs::write(&own, "x").unwrap();
        sys::rename(&sys::c(&own), &sys::c(&moved)).unwrap();
        let file = File::open(&moved).unwrap();
        let fd = Arg::Number(file.as_raw_fd().into());
        files::call(libc::SYS_fchmod, &[fd, Arg::Number(0o700)]).unwrap();
        fs::remove_file(&moved).unwrap();
    });
    nothing_else(&mut stage.watch, pid);
    Ok(())
}

fn any_writer(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let [served, elsewhere, link] = ["served", "elsewhere", "link"].map(|name| folder.join(name));
    fs::create_dir_all(served.join("below")).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    symlink(&served, &link).unwrap();
    let mut watch = Watch::of_any_writer().unwrap();
    let id = facts::file(&served);
    let key = InodeKey {
        inode: id.inode,
        dev: id.dev,
        reserved: 0,
    };
    watch.sensor.watch_directory(key, 0).unwrap();
    let pid = other(|| {
        fs::write(elsewhere.join("a"), "x").unwrap();
        fs::write(link.join("b"), "x").unwrap();
        fs::write(served.join("below/c"), "x").unwrap();
        drop(File::open(served.join("below/c")).unwrap());
        std::env::set_current_dir(&link).unwrap();
        sys::rename(c"b", c"d").unwrap();
        std::env::set_current_dir(&elsewhere).unwrap();
        sys::rename(c"a", c"e").unwrap();
    });
    for path in [served.join("b"), served.join("below/c")] {
        let (meta, open) = watch.open(pid);
        assert_eq!((open.path, open.directory), (bytes(path), Some(id)));
        assert_eq!(meta.flags, flag::UNTAGGED | flag::CREATED);
        assert_eq!(open.writer, None);
    }
    let (meta, rename) = watch.change(EventKind::Rename, pid);
    assert_eq!(rename.new, bytes(served.join("d")));
    assert_eq!(rename.directory, Some(id));
    assert_ne!(meta.flags & flag::UNTAGGED, 0);
    nothing_else(&mut watch, pid);
    Ok(())
}
