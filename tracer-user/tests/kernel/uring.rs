//! io_uring: what a server lineage does to files without a system call that says so.
//!
//! A security hook sees it done and resolved; tracepoints see an open done, and the rest as it is
//! handed in. Both have to tell the same names.

use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use libc::{AT_FDCWD, EINVAL, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_WRONLY};
use tracer::event::{Change, FileAccess, Meta, Payload};
use tracer_common::event::{EventKind, flag};
use tracer_common::probe::Tier;

use crate::child::{Child, until};
use crate::facts::{self, bytes};
use crate::stage::{Outcome, Skip, Stage, TAG, Test, tests};
use crate::sys;
use crate::uring_ring::{
    ANY_SLOT, ASYNC, LINK, POLLED, Request, Ring, SILENT, needs_uring, operation,
};

pub(crate) const TESTS: &[Test] = tests!("uring":
    opens_of_every_mode,
    opens_with_a_structure,
    the_path_is_the_files_own,
    numbers_are_not_believed,
    numbers_shared_by_two_ways,
    opens_into_the_rings_table,
    opens_that_nobody_is_told_of,
    opens_through_a_full_ring,
    chains_and_failures,
    writing_what_was_inherited,
    every_change,
    attributes,
    only_server_lineages,
    what_a_server_wrote_changes_places,
);

/// Ends a child that did all it was to do, and nothing else is known of it.
fn nothing_else(stage: &mut Stage, mut child: Child) {
    child.hear();
    let mut rest = stage.end(child);
    // A worker that ends with the process may tell of its end, too.
    rest.retain(|event| event.payload.kind() != EventKind::Exit);
    assert_eq!(rest, []);
}

/// Takes a descriptor that a request gave.
fn taken(result: i32) -> OwnedFd {
    assert!(
        result >= 0,
        "{}",
        std::io::Error::from_raw_os_error(-result)
    );
    // SAFETY: the kernel has just given it to us alone.
    unsafe { OwnedFd::from_raw_fd(result) }
}

fn is_by_function(meta: &Meta) -> bool {
    meta.tier == Tier::Lsm
}

/// Takes the next open, which must be of this file.
fn expect(stage: &mut Stage, child: &Child, path: &Path, created: bool) -> (Meta, FileAccess) {
    let (meta, open) = stage.watch.open(child.pid);
    assert_eq!(open.path, bytes(path), "{meta:?} {open:?}");
    assert_eq!(open.file, facts::file(path));
    assert_eq!(open.created, created);
    assert_eq!(open.ids, facts::ids(child.pid));
    assert_eq!(open.mnt_ns, facts::namespace(child.pid, "mnt"));
    assert_eq!((meta.tag, meta.subject), (TAG, facts::key(child.pid)));
    if !is_by_function(&meta) {
        let created = if created { flag::CREATED } else { 0 };
        assert_eq!(meta.flags, flag::URING | created);
    }
    (meta, open)
}

/// Modes of a ring and of a request: done by the caller, by a worker, by the ring's own thread.
const MODES: [(u32, u8); 3] = [(0, 0), (0, ASYNC), (POLLED, 0)];

fn opens_of_every_mode(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    let folder = stage.folder();
    for (mode, (setup, flags)) in MODES.into_iter().enumerate() {
        let path = folder.join(format!("{mode}.php"));
        let name = sys::c(&path);
        let child = stage.server(|_| {
            let mut ring = Ring::new(4, setup).unwrap();
            for (open, mode) in [(O_WRONLY | O_CREAT | O_EXCL, 0o640), (O_RDWR, 0)] {
                let request = Request {
                    flags,
                    ..Request::open(AT_FDCWD, &name, open, mode)
                };
                drop(taken(ring.perform(request)));
            }
        });
        let (_, open) = expect(stage, &child, &path, true);
        assert_eq!(open.mode, 0o100_640 & !(sys::umask() as u16));
        expect(stage, &child, &path, false);
        nothing_else(stage, child);
    }
    Ok(())
}

fn opens_with_a_structure(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    let folder = stage.folder();
    let path = folder.join("new.php");
    let child = stage.server(|_| {
        let mut ring = Ring::new(4, 0).unwrap();
        // `struct open_how` (include/uapi/linux/openat2.h): flags, mode, resolve.
        let how = [(O_WRONLY | O_CREAT) as u64, 0o600, 0];
        let dir = File::open(&folder).unwrap();
        let request = Request {
            second: how.as_ptr() as u64,
            ..Request::one(
                operation::OPENAT2,
                (dir.as_raw_fd(), c"new.php"),
                size_of_val(&how) as u32,
                0,
            )
        };
        drop(taken(ring.perform(request)));
    });
    expect(stage, &child, &path, true);
    nothing_else(stage, child);
    Ok(())
}

fn the_path_is_the_files_own(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    let folder = stage.folder();
    let real = folder.join("real.php");
    fs::write(&real, "x").unwrap();
    symlink("real.php", folder.join("innocent.txt")).unwrap();
    let child = stage.server(|_| {
        let mut ring = Ring::new(4, 0).unwrap();
        let link = sys::c(folder.join("innocent.txt"));
        drop(taken(
            ring.perform(Request::open(AT_FDCWD, &link, O_WRONLY, 0)),
        ));
        // For reading: none of ours wrote it before this, and then one did.
        drop(taken(
            ring.perform(Request::open(AT_FDCWD, &link, O_RDONLY, 0)),
        ));
    });
    expect(stage, &child, &real, false);
    let (_, read) = stage.watch.file(EventKind::Read, child.pid);
    assert_eq!(read.path, bytes(&real));
    nothing_else(stage, child);
    Ok(())
}

/// The number of a request is the caller's: many may have the same.
fn numbers_are_not_believed(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    let folder = stage.folder();
    let paths = ["a", "b", "c"].map(|name| folder.join(name));
    let names = paths.each_ref().map(sys::c);
    let child = stage.server(|_| {
        let mut ring = Ring::new(8, 0).unwrap();
        let mut requests = vec![Request {
            operation: operation::NOP,
            ..Request::default()
        }];
        requests.extend(
            names
                .iter()
                .map(|name| Request::open(AT_FDCWD, name, O_WRONLY | O_CREAT, 0o600)),
        );
        requests.push(requests[0]);
        ring.submit(&requests);
        for _ in &requests {
            assert!(ring.wait().1 >= 0);
        }
    });
    let mut told: Vec<_> = paths
        .iter()
        .map(|_| stage.watch.open(child.pid).1.path)
        .collect();
    told.sort();
    assert_eq!(told, paths.each_ref().map(bytes));
    nothing_else(stage, child);
    Ok(())
}

/// Where only numbers tell requests apart, files that come in two ways are told by name, too.
fn numbers_shared_by_two_ways(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    let folder = stage.folder();
    let paths = ["fixed", "plain"].map(|name| folder.join(name));
    for slot in [[1, 0], [0, 1]] {
        let names = paths.each_ref().map(sys::c);
        let mut child = stage.server(|_| {
            let mut ring = Ring::new(4, 0).unwrap();
            ring.register_files(1);
            for (name, slot) in names.iter().zip(slot) {
                let open = Request::open(AT_FDCWD, name, O_WRONLY | O_CREAT, 0o600);
                assert!(ring.perform(Request { slot, ..open }) >= 0);
            }
        });
        child.hear();
        child.go();
        child.end_well();
        stage.watch.exit(child.pid);
        let mut told = Vec::new();
        for event in stage.watch.rest(child.pid) {
            if let Payload::File(open) = event.payload {
                assert_eq!(open.kind, EventKind::Open);
                told.push(open.path);
            }
        }
        told.sort();
        told.dedup();
        assert_eq!(told, paths.each_ref().map(bytes));
    }
    Ok(())
}

fn opens_into_the_rings_table(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    let folder = stage.folder();
    let paths = ["fixed.php", "any.php"].map(|name| folder.join(name));
    let names = paths.each_ref().map(sys::c);
    let mut child = stage.server(|talk| {
        let mut ring = Ring::new(4, 0).unwrap();
        ring.register_files(4);
        for (name, slot) in names.iter().zip([3, ANY_SLOT]) {
            let request = Request {
                slot,
                user_data: slot.into(),
                ..Request::open(AT_FDCWD, name, O_WRONLY | O_CREAT, 0o600)
            };
            talk.say(ring.perform(request) as u64);
        }
    });
    for path in &paths {
        let result = child.hear() as i32;
        if result < 0 {
            // Slots of the kernel's choice came with 5.19; in the older kernel they lie outside.
            assert_eq!((path, -result), (&paths[1], libc::EINVAL), "{result}");
            // That one makes the file before it looks for a place: the function's hook sees it made.
            if !stage.is_lsm() || !path.exists() {
                continue;
            }
        }
        expect(stage, &child, path, true);
    }
    nothing_else(stage, child);
    Ok(())
}

fn opens_that_nobody_is_told_of(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    let folder = stage.folder();
    fs::create_dir(folder.join("sub")).unwrap();
    let path = folder.join("silent.php");
    let mut child = stage.server(|talk| {
        let mut ring = Ring::new(4, 0).unwrap();
        let dir = File::open(folder.join("sub")).unwrap();
        let request = Request {
            flags: SILENT,
            ..Request::open(dir.as_raw_fd(), c"../silent.php", O_WRONLY | O_CREAT, 0o600)
        };
        let after = Request {
            operation: operation::NOP,
            user_data: 7,
            ..Request::default()
        };
        // One by one: a kernel that knows no silent requests takes nothing after one.
        ring.submit(&[request]);
        ring.submit(&[after]);
        let (number, result) = ring.wait();
        if number == 7 {
            // What has not begun goes with the ring.
            until("the file is made", || path.exists());
        }
        talk.say(if number == 7 { 0 } else { result as u64 });
    });
    let result = child.hear() as i32;
    if result == -EINVAL {
        return Err(Skip(
            "the kernel has no silent requests (before 5.17)".into(),
        ));
    }
    assert_eq!(result, 0);
    let (meta, open) = stage.watch.open(child.pid);
    assert_eq!(open.path, bytes(&path));
    if !is_by_function(&meta) {
        assert_eq!(meta.flags, flag::URING | flag::ATTEMPT);
        assert_eq!(
            open.f_flags,
            (O_WRONLY | O_CREAT) as u32 | open.f_flags & LARGEFILE
        );
    }
    nothing_else(stage, child);
    Ok(())
}

/// What the kernel may add to the flags of an open (include/uapi/asm-generic/fcntl.h, and ARM's).
const LARGEFILE: u32 = if cfg!(target_arch = "x86_64") {
    0o100_000
} else {
    0o400_000
};

fn opens_through_a_full_ring(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    let path = stage.folder().join("hidden.php");
    let name = sys::c(&path);
    let child = stage.server(|_| {
        let mut ring = Ring::new(1, 0).unwrap();
        let nop = Request {
            operation: operation::NOP,
            ..Request::default()
        };
        for _ in 0..ring.room() {
            ring.submit(&[nop]);
        }
        ring.submit(&[Request {
            user_data: 7,
            ..Request::open(AT_FDCWD, &name, O_WRONLY | O_CREAT, 0o600)
        }]);
        for _ in 0..ring.room() {
            assert_eq!(ring.wait(), (0, 0));
        }
        let (number, result) = ring.wait();
        assert_eq!(number, 7);
        drop(taken(result));
    });
    expect(stage, &child, &path, true);
    nothing_else(stage, child);
    Ok(())
}

fn chains_and_failures(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    let folder = stage.folder();
    let [there, last] = ["there", "last"].map(|name| folder.join(name));
    fs::write(&there, "x").unwrap();
    let [there, name] = [&there, &last].map(sys::c);
    let child = stage.server(|_| {
        let mut ring = Ring::new(4, 0).unwrap();
        let exclusive = O_WRONLY | O_CREAT | O_EXCL;
        let fails = Request::open(AT_FDCWD, &there, exclusive, 0o600);
        assert_eq!(ring.perform(fails), -libc::EEXIST);
        let nop = Request {
            operation: operation::NOP,
            flags: LINK,
            ..Request::default()
        };
        ring.submit(&[nop, Request::open(AT_FDCWD, &name, exclusive, 0o600)]);
        assert_eq!(ring.wait().1, 0);
        drop(taken(ring.wait().1));
    });
    expect(stage, &child, &last, true);
    nothing_else(stage, child);
    Ok(())
}

fn writing_what_was_inherited(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    if stage.watch.sensor.tier() == Tier::Lsm {
        return Err(Skip(
            "this tier tells of descriptors when they are received".into(),
        ));
    }
    let path = stage.folder().join("log");
    fs::write(&path, "").unwrap();
    let file = sys::open(&sys::c(&path), O_WRONLY, 0).unwrap();
    let child = stage.server(|_| {
        let mut ring = Ring::new(4, 0).unwrap();
        let write = |fd: RawFd, flags: u8| Request {
            operation: operation::WRITE,
            flags,
            fd,
            address: b"text".as_ptr() as u64,
            len: 4,
            ..Request::default()
        };
        for _ in 0..2 {
            assert_eq!(ring.perform(write(file.as_raw_fd(), 0)), 4);
        }
    });
    let (meta, write) = stage.watch.file(EventKind::Write, child.pid);
    assert_eq!((write.path, write.file), (bytes(&path), facts::file(&path)));
    assert_eq!(meta.flags, flag::URING);
    nothing_else(stage, child);
    Ok(())
}

/// Takes the next change of a kind, which must have these names.
fn changed(stage: &mut Stage, child: &Child, kind: EventKind, old: &str, new: &Path) -> Change {
    let (meta, change) = stage.watch.change(kind, child.pid);
    assert_eq!(change.new, bytes(new), "{kind:?}");
    assert_eq!(String::from_utf8_lossy(&change.old), old, "{kind:?}");
    assert_eq!(change.ids, facts::ids(child.pid));
    assert_eq!(change.early, None);
    assert_eq!(meta.tag, TAG);
    if !is_by_function(&meta) {
        assert_eq!(meta.flags & !flag::RESOLVED, flag::URING | flag::ATTEMPT);
    }
    change
}

fn every_change(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    for (setup, flags) in MODES {
        let folder = stage.folder();
        let path = |name: &str| folder.join(name);
        fs::create_dir(path("sub")).unwrap();
        fs::write(path("upload.tmp"), "x").unwrap();
        let absolute = sys::c(path("sub/shell.php"));
        let mut child = stage.server(|talk| {
            let mut ring = Ring::new(4, setup).unwrap();
            std::env::set_current_dir(&folder).unwrap();
            let sub = File::open("sub").unwrap();
            let (here, sub) = (AT_FDCWD, sub.as_raw_fd());
            let requests = [
                Request::two(operation::RENAMEAT, (here, c"upload.tmp"), (sub, c"a"), 0),
                // A directory does not matter to an absolute name.
                Request::two(operation::RENAMEAT, (sub, c"a"), (-1, &absolute), 0),
                Request::two(operation::LINKAT, (here, c"sub/shell.php"), (sub, c"l"), 0),
                // The target of a symbolic link is a text; its directory is the other one.
                Request::two(operation::SYMLINKAT, (sub, c"/etc/passwd"), (0, c"../s"), 0),
                Request::one(operation::MKDIRAT, (sub, c"d"), 0o751, 0),
                Request::one(operation::UNLINKAT, (sub, c"shell.php"), 0, 0),
                Request::one(
                    operation::UNLINKAT,
                    (sub, c"d"),
                    0,
                    libc::AT_REMOVEDIR as u32,
                ),
            ];
            for request in requests {
                let request = Request { flags, ..request };
                talk.say(ring.perform(request) as u64);
            }
        });
        let mut is_done = |number: u32| {
            let result = child.hear() as i32;
            // Before 5.15 the kernel has the first two alone, and what these would have made is not
            // there for those.
            assert!(
                result == 0 || (number > 36 && result == -EINVAL),
                "operation {number}: {}",
                std::io::Error::from_raw_os_error(-result)
            );
            result == 0
        };
        let done = [35, 35, 39, 38, 37, 36].map(&mut is_done);
        let removed = child.hear() as i32;
        assert_eq!(removed == 0, done[4], "{removed}");
        let shown = |path: &Path| path.to_str().unwrap().to_owned();
        let (upload, shell) = (path("upload.tmp"), path("sub/shell.php"));
        let a = path("sub/a");
        changed(stage, &child, EventKind::Rename, &shown(&upload), &a);
        changed(stage, &child, EventKind::Rename, &shown(&a), &shell);
        if done[2] {
            let link = path("sub/l");
            changed(stage, &child, EventKind::Link, &shown(&shell), &link);
        }
        if done[3] {
            let link = changed(stage, &child, EventKind::Symlink, "", &path("s"));
            assert_eq!(link.detail, b"/etc/passwd");
        }
        if done[4] {
            let mkdir = changed(stage, &child, EventKind::Mkdir, "", &path("sub/d"));
            assert_eq!(mkdir.new_mode & 0o777 & !0o22, 0o751 & !0o22);
        }
        let unlink = changed(stage, &child, EventKind::Unlink, "", &shell);
        assert_eq!(unlink.flags, 0);
        // What failed was an attempt; the function's hook sees what was done.
        if removed == 0 || !stage.is_lsm() {
            let (_, unlink) = stage.watch.change(EventKind::Unlink, child.pid);
            assert_eq!(unlink.new, bytes(path("sub/d")));
            assert_eq!(unlink.flags, libc::AT_REMOVEDIR as u32);
        }
        nothing_else(stage, child);
    }
    Ok(())
}

fn attributes(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    let folder = stage.folder();
    let path = folder.join("program");
    fs::write(&path, "x").unwrap();
    let name = sys::c(&path);
    let mut child = stage.server(|talk| {
        let mut ring = Ring::new(4, 0).unwrap();
        let file = File::open(&path).unwrap();
        let set = Request {
            operation: operation::SETXATTR,
            address: c"trusted.one".as_ptr() as u64,
            second: b"value".as_ptr() as u64,
            len: 5,
            third: name.as_ptr() as u64,
            ..Request::default()
        };
        talk.say(ring.perform(set) as u64);
        let set = Request {
            operation: operation::FSETXATTR,
            fd: file.as_raw_fd(),
            address: c"trusted.two".as_ptr() as u64,
            third: 0,
            ..set
        };
        talk.say(ring.perform(set) as u64);
    });
    let results = [child.hear(), child.hear()].map(|result| result as i32);
    match results.map(|result| -result) {
        [0, 0] => {}
        [EINVAL, EINVAL] => {
            return Err(Skip("the kernel has no such requests (before 5.19)".into()));
        }
        [libc::EOPNOTSUPP, _] => return Err(Skip("the file system has no attributes".into())),
        other => panic!("{other:?}"),
    }
    for attribute in ["trusted.one", "trusted.two"] {
        let set = changed(stage, &child, EventKind::Setxattr, "", &path);
        assert_eq!(set.detail, attribute.as_bytes());
        assert_eq!(set.number, 5);
    }
    nothing_else(stage, child);
    Ok(())
}

fn only_server_lineages(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    let folder = stage.folder();
    let (path, other) = (folder.join("nobody-wrote"), folder.join("this"));
    let (name, renamed) = (sys::c(&path), sys::c(&other));
    let mut child = Child::hold(|talk| {
        let mut ring = Ring::new(4, 0).unwrap();
        drop(taken(ring.perform(Request::open(
            AT_FDCWD,
            &name,
            O_WRONLY | O_CREAT,
            0o600,
        ))));
        let here = AT_FDCWD;
        let rename = Request::two(operation::RENAMEAT, (here, &name), (here, &renamed), 0);
        assert_eq!(ring.perform(rename), 0);
        talk.done();
        talk.wait();
        drop(taken(
            ring.perform(Request::open(AT_FDCWD, &renamed, O_WRONLY, 0)),
        ));
        talk.done();
        talk.wait();
        0
    });
    child.go();
    child.hear();
    stage.watch.sensor.set_tag(child.pid, TAG).unwrap();
    child.go();
    expect(stage, &child, &other, false);
    let pid = child.pid;
    nothing_else(stage, child);
    stage.watch.sensor.clear_tag(pid);
    Ok(())
}

/// By somebody of no server's lineage, and the written file is the second.
fn what_a_server_wrote_changes_places(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    let folder = stage.folder();
    let [dropped, own] = ["w-r-i-t-t-e-n", "n-o-t"].map(|name| folder.join(name));
    fs::write(&own, "x").unwrap();
    let mut writer = stage.server(|_| {
        fs::write(&dropped, "x").unwrap();
    });
    writer.hear();
    let (first, second) = (sys::c(&own), sys::c(&dropped));
    let mut other = Child::hold(|talk| {
        let mut ring = Ring::new(4, 0).unwrap();
        let request = Request {
            call_flags: libc::RENAME_EXCHANGE,
            ..Request::two(
                operation::RENAMEAT,
                (AT_FDCWD, &first),
                (AT_FDCWD, &second),
                0,
            )
        };
        talk.say(ring.perform(request) as u64);
        talk.done();
        talk.wait();
        0
    });
    other.go();
    match other.hear() as i32 {
        0 => {}
        error if -error == libc::EINVAL => {
            return Err(Skip("this kernel's io_uring renames nothing".to_owned()));
        }
        error => panic!("{}", std::io::Error::from_raw_os_error(-error)),
    }
    let (meta, change) = stage.watch.change(EventKind::Rename, other.pid);
    // The kernel's own functions tell it from the written file's side.
    let (from, to) = if stage.is_lsm() {
        (&dropped, &own)
    } else {
        (&own, &dropped)
    };
    assert_eq!((change.old, change.new), (bytes(from), bytes(to)));
    assert_eq!(change.flags, libc::RENAME_EXCHANGE);
    assert_ne!(meta.flags & flag::UNTAGGED, 0);
    nothing_else(stage, other);
    Ok(())
}
