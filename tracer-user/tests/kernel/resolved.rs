//! What the tier of the kernel's own functions knows of names and files: resolved, with the file's
//! identity, and whoever does it where a server's lineage wrote the file.
//!
//! Refuses to run where that tier is not in use; what both tiers tell is tested beside.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tracer::event::{Change, Event, FileId, Meta, Payload};
use tracer::sensor::machine::Sizes;
use tracer_common::event::{EventKind, flag};
use tracer_common::probe::Drop;
use tracer_common::tag::Tag;

use crate::child::Child;
use crate::facts::{self, bytes};
use crate::stage::{Outcome, Skip, Span, Stage, TAG, Test, tests};
use crate::sys;

pub(crate) const TESTS: &[Test] = tests!("resolved":
    every_fact_of_a_rename,
    every_kind,
    through_links_and_mounts,
    by_descriptor,
    failed_calls_are_no_events,
    an_overlay_is_told_once,
    a_moved_mount_point,
    threads_do_not_mix_their_names,
    nothing_is_left_of_an_open_or_an_exec,
    calls_that_fail_hide_no_other,
    whoever_changes_what_a_server_wrote,
    others_files_are_their_own,
);

/// Ends a child that did all it was to do; gives the changes that nobody asked for.
fn end(stage: &mut Stage, mut child: Child) -> Vec<Event> {
    child.hear();
    leave(stage, child)
}

/// The same, once it said that it did.
fn leave(stage: &mut Stage, child: Child) -> Vec<Event> {
    let mut rest = stage.end(child);
    rest.retain(|event| matches!(event.payload, Payload::Change(_)));
    rest
}

/// Takes the next change, which must be of this kind and have this name, and this file if it is there
/// still.
fn expect(stage: &mut Stage, child: &Child, kind: EventKind, new: &Path) -> Change {
    let (meta, change) = stage.watch.change(kind, child.pid);
    assert_eq!(text(&change.new), new.to_str().unwrap(), "{change:?}");
    assert_eq!(meta.flags, flag::RESOLVED, "{change:?}");
    assert_eq!(meta.tag, TAG);
    assert_eq!(change.mnt_ns, facts::namespace(child.pid, "mnt"));
    assert_eq!(change.ids, facts::ids(child.pid));
    change
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

fn every_fact_of_a_rename(stage: &mut Stage) -> Outcome {
    stage.needs_lsm()?;
    let folder = stage.folder();
    let (old, new) = (folder.join("upload.tmp"), folder.join("shell.php"));
    let span = Span::begin();
    let child = stage.server(|_| {
        fs::write(&old, "x").unwrap();
        chown(&old, Some(33), Some(44)).unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o4640)).unwrap();
        fs::rename(&old, &new).unwrap();
    });
    let chown = expect(stage, &child, EventKind::Chown, &old);
    assert_eq!(chown.number, 33 << 32 | 44);
    let chmod = expect(stage, &child, EventKind::Chmod, &old);
    assert_eq!(
        (chmod.mode & 0o7777, chmod.new_mode & 0o7777),
        (0o644 & !sys::umask() as u16, 0o4640)
    );
    let (meta, rename) = stage.watch.change(EventKind::Rename, child.pid);
    span.check(&meta, facts::key(child.pid), child.pid, TAG, flag::RESOLVED);
    let writer = rename.writer.unwrap();
    assert_eq!(writer.process, facts::key(child.pid));
    let expected = Change {
        kind: EventKind::Rename,
        old: bytes(&old),
        new: bytes(&new),
        detail: Vec::new(),
        early: None,
        file: Some(facts::file(&new)),
        directory: None,
        writer: Some(writer),
        number: 0,
        mode: 0o104_640,
        uid: 33,
        gid: 44,
        new_mode: 0,
        flags: 0,
        ids: facts::ids(child.pid),
        mnt_ns: facts::namespace(child.pid, "mnt"),
    };
    assert_eq!(rename, expected);
    assert_eq!(end(stage, child), []);
    Ok(())
}

/// Does one of everything to names in `folder`, which may be a way to it that is not its own.
fn one_of_each(folder: &Path) {
    let at = |name: &str| folder.join(name);
    let c = |name: &str| sys::c(folder.join(name));
    fs::create_dir(at("dir")).unwrap();
    sys::mknod(&c("file"), libc::S_IFREG | 0o640, 0).unwrap();
    sys::mknod(&c("plain"), 0o600, 0).unwrap();
    sys::mknod(&c("pipe"), libc::S_IFIFO | 0o600, 0).unwrap();
    sys::mknod(&c("null"), libc::S_IFCHR | 0o600, libc::makedev(1, 3)).unwrap();
    symlink("../some/where", at("symlink")).unwrap();
    fs::hard_link(at("file"), at("second")).unwrap();
    sys::truncate(&c("file"), 12).unwrap();
    fs::set_permissions(at("file"), Permissions::from_mode(0o4755)).unwrap();
    chown(at("file"), Some(12), None).unwrap();
    lchown(at("symlink"), None, Some(13)).unwrap();
    sys::setxattr(&c("file"), c"security.capability", &CAPABILITY).unwrap();
    fs::rename(at("file"), at("dir/moved")).unwrap();
    fs::remove_file(at("dir/moved")).unwrap();
    fs::remove_file(at("symlink")).unwrap();
    fs::remove_dir(at("dir")).unwrap();
}

/// `struct vfs_cap_data` of revision 2 (include/uapi/linux/capability.h): cap_setuid, effective.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// And what is told of it, where `folder` is the directory's own path.
fn each_is_told(stage: &mut Stage, child: &mut Child, folder: &Path) {
    use EventKind::{
        Chmod, Chown, Link, Mkdir, Mknod, Rename, Setxattr, Symlink, Truncate, Unlink,
    };

    // The files that are left can be asked.
    child.hear();
    let at = |name: &str| folder.join(name);
    let mut next = |kind, name: &str| expect(stage, child, kind, &at(name));
    let umask = sys::umask() as u16;

    let mkdir = next(Mkdir, "dir");
    assert_eq!(mkdir.new_mode & 0o777 & !umask, 0o777 & !umask);
    assert!(mkdir.file.is_some_and(|file| file.inode != 0));
    let file = next(Mknod, "file");
    assert_eq!(file.new_mode & !umask, (0o100_640) & !umask);
    assert_eq!(file.file, Some(facts::file(&at("second"))));
    let id = file.file;
    assert_eq!(next(Mknod, "plain").new_mode & 0o170_000, 0o100_000);
    assert_eq!(next(Mknod, "pipe").new_mode & 0o170_000, 0o010_000);
    let null = next(Mknod, "null");
    assert_eq!(
        (null.new_mode & 0o170_000, null.number),
        (0o020_000, 1 << 20 | 3)
    );
    assert_eq!(null.file, Some(facts::file(&at("null"))));
    assert_eq!(text(&next(Symlink, "symlink").detail), "../some/where");
    let link = next(Link, "second");
    assert_eq!(text(&link.old), at("file").to_str().unwrap());
    assert_eq!(link.file, id);
    let truncate = next(Truncate, "file");
    assert_eq!((truncate.number, truncate.file), (12, id));
    let chmod = next(Chmod, "file");
    assert_eq!((chmod.new_mode & 0o7777, chmod.file), (0o4755, id));
    let chown = next(Chown, "file");
    assert_eq!(
        (chown.number, chown.file),
        (12 << 32 | u64::from(u32::MAX), id)
    );
    assert_eq!(
        next(Chown, "symlink").number,
        u64::from(u32::MAX) << 32 | 13
    );
    let setxattr = next(Setxattr, "file");
    assert_eq!(text(&setxattr.detail), "security.capability");
    assert_eq!((setxattr.file, setxattr.number), (id, 20));
    let rename = next(Rename, "dir/moved");
    assert_eq!(text(&rename.old), at("file").to_str().unwrap());
    let unlink = next(Unlink, "dir/moved");
    assert_eq!((unlink.file, unlink.flags), (id, 0));
    // It is the maker's, who wrote it, to the end.
    let writer = unlink.writer.unwrap();
    assert_eq!(writer.process, facts::key(child.pid));
    next(Unlink, "symlink");
    let rmdir = next(Unlink, "dir");
    assert_eq!(
        (rmdir.flags, rmdir.file),
        (libc::AT_REMOVEDIR as u32, mkdir.file)
    );
}

fn every_kind(stage: &mut Stage) -> Outcome {
    stage.needs_lsm()?;
    let folder = stage.folder();
    let mut child = stage.server(|_| one_of_each(&folder));
    each_is_told(stage, &mut child, &folder);
    assert_eq!(leave(stage, child), []);
    Ok(())
}

fn through_links_and_mounts(stage: &mut Stage) -> Outcome {
    stage.needs_lsm()?;
    let folder = stage.folder();
    let (real, link) = (folder.join("real"), folder.join("link"));
    fs::create_dir(&real).unwrap();
    symlink("real", &link).unwrap();
    let mut child = stage.server(|_| one_of_each(&link.join("../link/.")));
    each_is_told(stage, &mut child, &real);
    assert_eq!(leave(stage, child), []);
    fs::remove_dir_all(&real).unwrap();
    fs::create_dir(&real).unwrap();

    // By the root that a process has of itself, and relative to where it is.
    let own = PathBuf::from(format!("/proc/self/root{}", link.display()));
    let mut child = stage.server(|_| {
        std::env::set_current_dir(&own).unwrap();
        one_of_each(Path::new("."));
    });
    each_is_told(stage, &mut child, &real);
    assert_eq!(leave(stage, child), []);
    fs::remove_dir_all(&real).unwrap();
    fs::create_dir(&real).unwrap();

    // A mount is a place of its own; the file is the same.
    let bound = folder.join("bound");
    fs::create_dir(&bound).unwrap();
    let mut child = stage.server(|_| {
        sys::bind_mount(&sys::c(&real), &sys::c(&bound)).unwrap();
        one_of_each(&bound);
    });
    child.hear();
    let (_, all) = stage.watch.change(EventKind::Mount, child.pid);
    assert_eq!(text(&all.new), "/");
    let mount = expect(stage, &child, EventKind::Mount, &bound);
    assert_eq!(text(&mount.detail), real.to_str().unwrap());
    assert_eq!(mount.number & libc::MS_BIND, libc::MS_BIND);
    // The files are asked for by a path of ours: the mount is the child's alone.
    let told = stage.watch.change(EventKind::Mkdir, child.pid).1;
    assert_eq!(text(&told.new), bound.join("dir").to_str().unwrap());
    let file = stage.watch.change(EventKind::Mknod, child.pid).1;
    assert_eq!(text(&file.new), bound.join("file").to_str().unwrap());
    assert_eq!(file.file, Some(facts::file(&real.join("second"))));
    let rename = stage.watch.change(EventKind::Rename, child.pid).1;
    assert_eq!(text(&rename.old), bound.join("file").to_str().unwrap());
    assert_eq!(text(&rename.new), bound.join("dir/moved").to_str().unwrap());
    // The hook of attributes does not know the mount: the path is by one of the whole file system.
    let setxattr = stage.watch.change(EventKind::Setxattr, child.pid).1;
    assert_eq!(text(&setxattr.new), real.join("file").to_str().unwrap());
    leave(stage, child);
    Ok(())
}

fn by_descriptor(stage: &mut Stage) -> Outcome {
    stage.needs_lsm()?;
    let file = stage.folder().join("file");
    fs::write(&file, "0123456789").unwrap();
    let child = stage.server(|_| {
        let open = OpenOptions::new().write(true).open(&file).unwrap();
        open.set_len(3).unwrap();
        open.set_permissions(Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::fchown(&open, Some(5), Some(6)).unwrap();
        // An open that cuts is an open.
        File::create(&file).unwrap();
    });
    assert_eq!(expect(stage, &child, EventKind::Truncate, &file).number, 3);
    assert_eq!(
        expect(stage, &child, EventKind::Chmod, &file).new_mode & 0o7777,
        0o600
    );
    assert_eq!(
        expect(stage, &child, EventKind::Chown, &file).number,
        5 << 32 | 6
    );
    assert_eq!(end(stage, child), []);
    Ok(())
}

fn failed_calls_are_no_events(stage: &mut Stage) -> Outcome {
    stage.needs_lsm()?;
    let folder = stage.folder();
    let at = |name: &str| folder.join(name);
    fs::create_dir_all(at("full/of")).unwrap();
    fs::write(at("file"), "x").unwrap();
    let last = at("last");
    let child = stage.server(|_| {
        // By the kernel, before anything is looked at; by the file system, at the very end.
        fs::create_dir(at("file")).unwrap_err();
        fs::remove_dir(at("full")).unwrap_err();
        fs::remove_dir(at("file")).unwrap_err();
        fs::remove_file(at("full")).unwrap_err();
        fs::remove_file(at("absent")).unwrap_err();
        fs::hard_link(at("file"), at("full")).unwrap_err();
        fs::hard_link(at("full"), at("another")).unwrap_err();
        symlink("x", at("file")).unwrap_err();
        fs::rename(at("full"), at("full/of/it")).unwrap_err();
        fs::rename(at("file"), at("full")).unwrap_err();
        fs::create_dir(at("empty")).unwrap();
        fs::rename(at("empty"), at("full")).unwrap_err();
        sys::mknod(&sys::c(at("file")), libc::S_IFREG, 0).unwrap_err();
        sys::truncate(&sys::c(at("full")), 0).unwrap_err();
        sys::truncate(&sys::c(at("file")), -1).unwrap_err();
        sys::set_ids([1001; 3], [1001; 3]);
        fs::set_permissions(at("file"), Permissions::from_mode(0o777)).unwrap_err();
        chown(at("file"), Some(1001), None).unwrap_err();
        fs::remove_file(at("file")).unwrap_err();
        fs::create_dir(&last).unwrap_err();
    });
    let (_, made) = stage.watch.change(EventKind::Mkdir, child.pid);
    assert_eq!(text(&made.new), at("empty").to_str().unwrap());
    assert_eq!(end(stage, child), []);
    Ok(())
}

fn an_overlay_is_told_once(stage: &mut Stage) -> Outcome {
    stage.needs_lsm()?;
    let folder = stage.folder();
    let [lower, upper, work, merged] =
        ["lower", "upper", "work", "merged"].map(|name| folder.join(name));
    // On a file system of its own, as the guest's root cannot be an upper layer.
    let options = sys::c(format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    ));
    let mut child = stage.tagged(|talk| {
        if sys::own_mount(c"tmpfs", &sys::c(&folder), c"tmpfs", c"").is_err() {
            talk.say(0);
            return 0;
        }
        for directory in [&lower, &upper, &work, &merged] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(lower.join("old"), "from below").unwrap();
        fs::write(lower.join("gone"), "from below").unwrap();
        let mounted = sys::own_mount(c"overlay", &sys::c(&merged), c"overlay", &options);
        talk.say(mounted.is_ok().into());
        if mounted.is_err() {
            return 0;
        }
        talk.wait();
        // Copied up, then written, renamed, made anew and removed.
        let mut old = OpenOptions::new()
            .append(true)
            .open(merged.join("old"))
            .unwrap();
        old.write_all(b"and more").unwrap();
        fs::rename(merged.join("old"), merged.join("new")).unwrap();
        fs::write(merged.join("shell.php"), "<?php").unwrap();
        fs::set_permissions(merged.join("gone"), Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(merged.join("gone")).unwrap();
        fs::create_dir(merged.join("directory")).unwrap();
        fs::hard_link(merged.join("new"), merged.join("second")).unwrap();
        talk.done();
        talk.wait();
        0
    });
    if child.hear() == 0 {
        return Err(Skip("the kernel has no overlayfs on tmpfs".into()));
    }
    stage.watch.rest(child.pid);
    child.go();
    child.hear();
    child.go();
    child.end_well();
    stage.watch.exit(child.pid);
    let at = |name: &str| bytes(merged.join(name));
    let told: Vec<_> = stage
        .watch
        .rest(child.pid)
        .iter()
        .filter_map(|event| match &event.payload {
            Payload::File(file) if file.kind == EventKind::Open => {
                Some((file.kind, file.path.clone()))
            }
            Payload::Change(change) => Some((change.kind, change.new.clone())),
            _ => None,
        })
        .collect();
    let expected = [
        (EventKind::Open, at("old")),
        (EventKind::Rename, at("new")),
        (EventKind::Open, at("shell.php")),
        (EventKind::Chmod, at("gone")),
        (EventKind::Unlink, at("gone")),
        (EventKind::Mkdir, at("directory")),
        (EventKind::Link, at("second")),
    ];
    assert_eq!(told, expected);
    Ok(())
}

fn a_moved_mount_point(stage: &mut Stage) -> Outcome {
    stage.needs_lsm()?;
    let folder = stage.folder();
    let (from, to) = (folder.join("from"), folder.join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    let child = stage.server(|_| {
        sys::own_mount(c"a source", &sys::c(&from), c"tmpfs", c"").unwrap();
        sys::move_mount(&sys::c(&from), &sys::c(&to)).unwrap();
        fs::write(to.join("file"), "x").unwrap();
        fs::rename(to.join("file"), to.join("renamed")).unwrap();
    });
    let (_, private) = stage.watch.change(EventKind::Mount, child.pid);
    assert_eq!(text(&private.new), "/");
    let mount = expect(stage, &child, EventKind::Mount, &from);
    assert_eq!(text(&mount.detail), "a source");
    let (meta, moved) = stage.watch.change(EventKind::Mount, child.pid);
    // The hook is before the deed.
    assert_eq!(meta.flags, flag::RESOLVED | flag::ATTEMPT);
    assert_eq!(
        (text(&moved.old), text(&moved.new)),
        (from.to_str().unwrap(), to.to_str().unwrap())
    );
    let rename = expect(stage, &child, EventKind::Rename, &to.join("renamed"));
    assert_eq!(text(&rename.old), to.join("file").to_str().unwrap());
    assert_eq!(end(stage, child), []);
    Ok(())
}

fn threads_do_not_mix_their_names(stage: &mut Stage) -> Outcome {
    const THREADS: usize = 8;
    const ROUNDS: usize = 50;
    stage.needs_lsm()?;
    let folder = stage.folder();
    let child = stage.server(|_| {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let own = folder.join(thread.to_string());
                scope.spawn(move || {
                    fs::create_dir(&own).unwrap();
                    for round in 0..ROUNDS {
                        let name = |what: &str| own.join(format!("{what}-{thread}-{round}"));
                        fs::write(name("a"), "x").unwrap();
                        fs::rename(name("a"), name("b")).unwrap();
                        // Stops halfway, with its note left.
                        fs::remove_dir(name("b")).unwrap_err();
                        fs::hard_link(name("b"), name("c")).unwrap();
                        fs::remove_file(name("b")).unwrap();
                    }
                });
            }
        });
        crate::child::alone();
    });
    let rest = end(stage, child);
    let mut counts = [[0; 3]; THREADS];
    for event in &rest {
        let Payload::Change(change) = &event.payload else {
            continue;
        };
        let parts = |path: &[u8]| {
            let path = Path::new(text(path)).to_owned();
            let directory = path.parent().unwrap().to_owned();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let mut words = name
                .split('-')
                .map(str::to_owned)
                .collect::<Vec<_>>()
                .into_iter();
            (directory, words.next(), words.next(), words.next())
        };
        let (directory, word, thread, round) = parts(&change.new);
        let (at, from) = match change.kind {
            EventKind::Mkdir => continue,
            EventKind::Rename => (0, Some("a")),
            EventKind::Link => (1, Some("b")),
            EventKind::Unlink => (2, None),
            other => panic!("{other:?}: {change:?}"),
        };
        let thread: usize = thread.unwrap().parse().unwrap();
        assert_eq!(directory, folder.join(thread.to_string()), "{change:?}");
        assert_eq!(word.as_deref(), Some(["b", "c", "b"][at]), "{change:?}");
        if let Some(from) = from {
            let old = folder.join(format!("{thread}/{from}-{thread}-{}", round.unwrap()));
            assert_eq!(text(&change.old), old.to_str().unwrap(), "{change:?}");
        }
        counts[thread][at] += 1;
    }
    // What the kernel left out it says.
    let missed: u64 = stage
        .watch
        .sensor
        .misses()
        .iter()
        .filter(|(name, _)| ["vfs_", "path_"].iter().any(|of| name.starts_with(of)))
        .map(|(_, count)| *count)
        .sum();
    let told: usize = counts.iter().flatten().sum();
    let due = THREADS * ROUNDS * 3;
    assert!(
        told <= due && told as u64 + missed >= due as u64,
        "{told} of {due}, {missed} missed"
    );
    Ok(())
}

/// Waits for the next change by a process that has no tag.
fn foreign(stage: &mut Stage, child: &Child, kind: EventKind) -> (Meta, Change) {
    let (meta, change) = stage.watch.change(kind, child.pid);
    assert_eq!(meta.flags, flag::RESOLVED | flag::UNTAGGED, "{change:?}");
    assert_eq!(meta.tag, Tag::ZERO);
    (meta, change)
}

/// Entries of the map of what threads are about to do.
fn notes(stage: &Stage) -> u32 {
    let maps = stage.watch.sensor.occupancy();
    maps.iter().find(|map| map.name == "notes").unwrap().used
}

fn nothing_is_left_of_an_open_or_an_exec(stage: &mut Stage) -> Outcome {
    stage.needs_lsm()?;
    let folder = stage.folder();
    fs::create_dir(folder.join("inner")).unwrap();
    let before = notes(stage);
    let mut child = stage.server(|_| fs::write(folder.join("made"), "x").unwrap());
    child.hear();
    assert_eq!(notes(stage), before, "the open took it");
    leave(stage, child);

    let image = stage.helper("pause");
    let mut child = stage.tagged(|talk| {
        let thread = || -> i32 {
            // Stops halfway.
            fs::remove_dir(&folder).unwrap_err();
            talk.done();
            talk.wait();
            image.exec()
        };
        std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
    });
    child.hear();
    assert_eq!(notes(stage), before + 1, "it is that of the thread");
    child.go();
    stage.watch.exec(child.pid);
    assert_eq!(notes(stage), before, "its number is another now");
    Ok(())
}

/// More threads than there is room for, each with a call that failed halfway: the next call is told.
fn calls_that_fail_hide_no_other(stage: &mut Stage) -> Outcome {
    stage.needs_lsm()?;
    const AT_ONCE: u32 = 256;
    let rounds = Sizes::of_this_machine().notes / AT_ONCE + 1;
    let folder = stage.folder();
    let (old, new) = (folder.join("old"), folder.join("new"));
    fs::create_dir(folder.join("inner")).unwrap();
    let lost = stage.watch.drops(Drop::NoteLost);
    let mut child = stage.tagged(|talk| {
        fs::write(&old, "x").unwrap();
        let started = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for round in 1..=rounds {
                for _ in 0..AT_ONCE {
                    let thread = std::thread::Builder::new().stack_size(16 * 1024);
                    let left_undone = || {
                        fs::remove_dir(&folder).unwrap_err();
                        started.fetch_add(1, Ordering::SeqCst);
                        loop {
                            std::thread::park();
                        }
                    };
                    if thread.spawn_scoped(scope, left_undone).is_err() {
                        // The others would wait for ever.
                        sys::leave(3);
                    }
                }
                while started.load(Ordering::SeqCst) < round * AT_ONCE {
                    std::thread::yield_now();
                }
                talk.done();
            }
            fs::rename(&old, &new).unwrap();
            talk.done();
            talk.wait();
        });
        0
    });
    for _ in 0..=rounds {
        child.hear();
    }
    let (_, rename) = stage.watch.change(EventKind::Rename, child.pid);
    assert_eq!(
        (text(&rename.old), text(&rename.new)),
        (old.to_str().unwrap(), new.to_str().unwrap())
    );
    assert_eq!(stage.watch.drops(Drop::NoteLost), lost);
    child.kill();
    Ok(())
}

fn whoever_changes_what_a_server_wrote(stage: &mut Stage) -> Outcome {
    stage.needs_lsm()?;
    let folder = stage.folder();
    let [dropped, moved, second] = ["dropped", "moved", "second"].map(|name| folder.join(name));
    let implant = stage.server(|_| fs::write(&dropped, "#!/bin/sh").unwrap());
    let key = facts::key(implant.pid);
    let (_, open) = stage.watch.file(EventKind::Open, implant.pid);
    assert_eq!(open.writer, None, "nobody before");
    end(stage, implant);
    let id: FileId = facts::file(&dropped);

    let mut cron = Child::hold(|talk| {
        fs::rename(&dropped, &moved).unwrap();
        fs::set_permissions(&moved, Permissions::from_mode(0o4755)).unwrap();
        chown(&moved, Some(0), Some(0)).unwrap();
        fs::hard_link(&moved, &second).unwrap();
        sys::setxattr(&sys::c(&moved), c"security.capability", &CAPABILITY).unwrap();
        sys::truncate(&sys::c(&moved), 4).unwrap();
        fs::remove_file(&second).unwrap();
        talk.done();
        talk.wait();
        0
    });
    cron.go();
    use EventKind::{Chmod, Chown, Link, Rename, Setxattr, Truncate, Unlink};
    for (kind, new) in [
        (Rename, &moved),
        (Chmod, &moved),
        (Chown, &moved),
        (Link, &second),
        (Setxattr, &moved),
        (Truncate, &moved),
        (Unlink, &second),
    ] {
        let (_, change) = foreign(stage, &cron, kind);
        assert_eq!(text(&change.new), new.to_str().unwrap());
        assert_eq!(change.file, Some(id));
        assert_eq!(change.writer.unwrap().process, key, "{kind:?}");
    }
    assert_eq!(end(stage, cron), []);
    Ok(())
}

fn others_files_are_their_own(stage: &mut Stage) -> Outcome {
    stage.needs_lsm()?;
    let folder = stage.folder();
    let mut child = Child::hold(|talk| {
        one_of_each(&folder);
        fs::write(folder.join("written"), "x").unwrap();
        fs::write(folder.join("written"), "y").unwrap();
        talk.done();
        talk.wait();
        0
    });
    child.go();
    child.hear();
    child.go();
    child.end_well();
    stage.watch.exit(child.pid);
    let rest = stage.watch.rest(child.pid);
    let known = |event: &&Event| matches!(event.payload, Payload::Change(_) | Payload::File(_));
    assert_eq!(
        rest.iter().filter(known).collect::<Vec<_>>(),
        Vec::<&Event>::new()
    );
    // The folder is there and has what it did.
    assert_eq!(fs::metadata(folder.join("written")).unwrap().size(), 1);
    Ok(())
}
