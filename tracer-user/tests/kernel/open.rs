//! Files that a server lineage opens for writing or creates, in whatever tier.
//!
//! Children do the opening and say what they hold then: what `fstat` and `F_GETFL` tell of the
//! descriptor is what the record must tell, and the path is the one that the file has.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use libc::{
    AT_FDCWD, O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_PATH, O_RDONLY, O_RDWR, O_TMPFILE, O_TRUNC,
    O_WRONLY,
};
use tracer::event::{FileAccess, FileId, Meta, Payload};
use tracer_common::event::{EventKind, Ids, flag};
use tracer_common::limits::PATH_STEPS;
use tracer_common::tag::Tag;

use crate::child::{Child, Talk, alone, say_file};
use crate::facts::{self, bytes};
use crate::stage::{Outcome, Span, Stage, TAG, Test, tests};
use crate::sys;

pub(crate) const TESTS: &[Test] = tests!("open":
    every_fact,
    every_call,
    every_kind_of_writing,
    reading_and_devices_are_no_events,
    failed_calls_are_no_events,
    only_server_lineages,
    the_agent_itself_is_left_out,
    threads_of_a_server,
    the_path_is_the_files_own,
    a_deleted_file,
    a_file_without_a_name,
    a_deep_folder,
    a_mount_of_its_own,
    other_users_and_groups,
    calls_of_the_32_bit_convention,
    numbers_of_the_other_convention,
    calls_of_the_x32_convention,
);

/// Says what was opened, and closes it.
fn tell(talk: &mut Talk, opened: io::Result<OwnedFd>) {
    say_file(talk, &opened.unwrap());
}

/// What the child said last, at this path.
fn told(child: &mut Child, path: impl AsRef<Path>, created: bool) -> FileAccess {
    let mut number = || child.hear();
    let file = FileId {
        dev: number().try_into().unwrap(),
        inode: number(),
    };
    FileAccess {
        kind: EventKind::Open,
        directory: None,
        writer: None,
        access: 0,
        generation: 0,
        path: bytes(path),
        file,
        created,
        size: number(),
        mode: number().try_into().unwrap(),
        uid: number().try_into().unwrap(),
        gid: number().try_into().unwrap(),
        nlink: number().try_into().unwrap(),
        f_flags: number().try_into().unwrap(),
        ids: facts::ids(child.pid),
        mnt_ns: facts::namespace(child.pid, "mnt"),
    }
}

/// Takes the next record, which must be of the file that the child told of.
fn expect(stage: &mut Stage, child: &mut Child, path: impl AsRef<Path>, created: bool) -> Meta {
    let expected = told(child, path, created);
    let (meta, open) = stage.watch.open(child.pid);
    assert_eq!(open, expected);
    assert_eq!(meta.tag, TAG);
    assert_eq!(
        meta.flags & !flag::COMPAT,
        if created { flag::CREATED } else { 0 }
    );
    meta
}

/// Ends a child that told of all that it opened to write, and nothing else of that kind is known.
fn nothing_else(stage: &mut Stage, child: Child) {
    let mut rest = stage.end(child);
    rest.retain(|event| event.payload.kind() == EventKind::Open);
    assert_eq!(rest, []);
}

/// A child of a server lineage that does `body`, and stays for questions.
fn server(stage: &mut Stage, body: impl FnOnce(&mut Talk)) -> Child {
    stage.tagged(|talk| {
        body(talk);
        talk.wait();
        0
    })
}

fn every_fact(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("upload.php");
    fs::write(&path, "<?php 12345").unwrap();
    chown(&path, Some(33), Some(44)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4640)).unwrap();
    let span = Span::begin();
    let name = sys::c(&path);
    let mut child = server(stage, |talk| {
        tell(talk, sys::openat(AT_FDCWD, &name, O_WRONLY, 0))
    });
    let (meta, open) = stage.watch.open(child.pid);
    span.check(&meta, facts::key(child.pid), child.pid, TAG, 0);
    let root = Ids {
        uid: 0,
        euid: 0,
        suid: 0,
        gid: 0,
        egid: 0,
        sgid: 0,
    };
    let expected = FileAccess {
        kind: EventKind::Open,
        directory: None,
        writer: None,
        access: 0,
        generation: 0,
        path: bytes(&path),
        file: facts::file(&path),
        created: false,
        size: 11,
        f_flags: (O_WRONLY | LARGEFILE) as u32,
        ids: root,
        uid: 33,
        gid: 44,
        mode: 0o104_640,
        nlink: 1,
        mnt_ns: facts::namespace(sys::pid(), "mnt"),
    };
    assert_eq!(open, expected);
    assert_eq!(told(&mut child, &path, false), expected);
    nothing_else(stage, child);
    Ok(())
}

/// What the kernel adds to every open of a 64-bit process (include/uapi/asm-generic/fcntl.h): zero
/// to the C library of such a process.
#[cfg(target_arch = "x86_64")]
const LARGEFILE: i32 = 0o100_000;
#[cfg(not(target_arch = "x86_64"))]
const LARGEFILE: i32 = 0o400_000;

fn every_call(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let [open, creat, openat, openat2] =
        ["open", "creat", "openat", "openat2"].map(|name| folder.join(name));
    let create = O_WRONLY | O_CREAT | O_EXCL;
    let mut child = server(stage, |talk| {
        tell(talk, sys::open(&sys::c(&open), create, 0o600));
        tell(talk, sys::creat(&sys::c(&creat), 0o640));
        tell(talk, sys::openat(AT_FDCWD, &sys::c(&openat), create, 0o644));
        tell(
            talk,
            sys::openat2(AT_FDCWD, &sys::c(&openat2), create, 0o666),
        );
        let dir = File::open(&folder).unwrap();
        tell(talk, sys::openat(dir.as_raw_fd(), c"openat", O_WRONLY, 0));
        tell(talk, sys::openat2(dir.as_raw_fd(), c"openat2", O_WRONLY, 0));
        // Relative to where we are.
        std::env::set_current_dir(&folder).unwrap();
        tell(talk, sys::open(c"./creat", O_WRONLY, 0));
        tell(talk, sys::openat(AT_FDCWD, c"open", O_WRONLY, 0));
    });
    for path in [&open, &creat, &openat, &openat2] {
        expect(stage, &mut child, path, true);
    }
    for path in [&openat, &openat2, &creat, &open] {
        expect(stage, &mut child, path, false);
    }
    nothing_else(stage, child);
    Ok(())
}

fn every_kind_of_writing(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let (old, new, empty) = (folder.join("old"), folder.join("new"), folder.join("empty"));
    fs::write(&old, "0123456789").unwrap();
    let mut child = server(stage, |talk| {
        let (name, new, empty) = (sys::c(&old), sys::c(&new), sys::c(&empty));
        tell(talk, sys::open(&name, O_WRONLY, 0));
        tell(talk, sys::open(&name, O_RDWR, 0));
        tell(talk, sys::open(&name, O_WRONLY | O_APPEND, 0));
        // There already: not created.
        tell(talk, sys::open(&name, O_WRONLY | O_CREAT, 0o600));
        tell(talk, sys::open(&new, O_WRONLY | O_CREAT, 0o600));
        // Created, though not to be written to.
        tell(talk, sys::open(&empty, O_RDONLY | O_CREAT, 0o600));
        tell(talk, sys::open(&empty, O_RDWR | O_CREAT, 0o600));
        tell(talk, sys::open(&name, O_WRONLY | O_TRUNC, 0));
        tell(talk, sys::creat(&name, 0o600));
    });
    for _ in 0..4 {
        expect(stage, &mut child, &old, false);
    }
    expect(stage, &mut child, &new, true);
    expect(stage, &mut child, &empty, true);
    expect(stage, &mut child, &empty, false);
    let mut sizes = Vec::new();
    for _ in 0..2 {
        let (told, (_, open)) = (told(&mut child, &old, false), stage.watch.open(child.pid));
        assert_eq!(told.size, 0, "truncated");
        // One tier sees the file when it is permitted to open it, before it is cut.
        let size = open.size;
        assert_eq!(open, FileAccess { size, ..told });
        sizes.push(size);
    }
    assert_eq!(sizes, if stage.is_lsm() { [10, 0] } else { [0, 0] });
    nothing_else(stage, child);
    Ok(())
}

fn reading_and_devices_are_no_events(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let (file, pipe, last) = (
        folder.join("file"),
        folder.join("pipe"),
        folder.join("last"),
    );
    fs::write(&file, "x").unwrap();
    let mut child = server(stage, |talk| {
        let name = sys::c(&file);
        sys::open(&name, O_RDONLY, 0).unwrap();
        sys::open(&name, O_RDONLY | O_CREAT, 0o600).unwrap();
        sys::open(&name, O_PATH, 0).unwrap();
        sys::open(&sys::c(&folder), O_RDONLY | O_DIRECTORY, 0).unwrap();
        sys::open(c"/dev/null", O_WRONLY, 0).unwrap();
        sys::open(c"/dev/zero", O_RDWR, 0).unwrap();
        sys::fifo(&sys::c(&pipe));
        sys::open(&sys::c(&pipe), O_RDWR, 0).unwrap();
        // Descriptors that come another way.
        drop(sys::pipe());
        drop(sys::socketpair());
        let same = File::open(&file).unwrap().try_clone().unwrap();
        drop(same);
        tell(talk, sys::creat(&sys::c(&last), 0o600));
    });
    expect(stage, &mut child, &last, true);
    nothing_else(stage, child);
    Ok(())
}

fn failed_calls_are_no_events(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let (file, last) = (folder.join("file"), folder.join("last"));
    fs::write(&file, "x").unwrap();
    let mut child = server(stage, |talk| {
        let create = O_WRONLY | O_CREAT | O_EXCL;
        sys::open(&sys::c(&file), create, 0o600).unwrap_err();
        sys::open(&sys::c(&folder), O_WRONLY, 0).unwrap_err();
        sys::openat(-1, c"relative", O_WRONLY, 0).unwrap_err();
        tell(talk, sys::creat(&sys::c(&last), 0o600));
    });
    expect(stage, &mut child, &last, true);
    nothing_else(stage, child);
    Ok(())
}

fn only_server_lineages(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let (before, after) = (folder.join("before"), folder.join("after"));
    let mut child = Child::hold(|talk| {
        sys::creat(&sys::c(&before), 0o600).unwrap();
        sys::rename(&sys::c(&before), &sys::c(folder.join("renamed"))).unwrap();
        talk.done();
        talk.wait();
        tell(talk, sys::creat(&sys::c(&after), 0o600));
        talk.wait();
        sys::creat(&sys::c(folder.join("later")), 0o600).unwrap();
        0
    });
    child.go();
    child.hear();
    stage.watch.sensor.set_tag(child.pid, TAG).unwrap();
    child.go();
    expect(stage, &mut child, &after, true);
    // Neither does a tag without a role count.
    let none = Tag { roles: 0, ..TAG };
    stage.watch.sensor.set_tag(child.pid, none).unwrap();
    let pid = child.pid;
    nothing_else(stage, child);
    stage.watch.sensor.clear_tag(pid);
    Ok(())
}

fn the_agent_itself_is_left_out(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    stage.watch.sensor.set_tag(sys::pid(), TAG).unwrap();
    sys::creat(&sys::c(folder.join("own")), 0o600).unwrap();
    stage.watch.sensor.clear_tag(sys::pid());
    let theirs = folder.join("theirs");
    let mut child = server(stage, |talk| {
        tell(talk, sys::creat(&sys::c(&theirs), 0o600))
    });
    expect(stage, &mut child, &theirs, true);
    let opens = stage.watch.rest(sys::pid());
    let opens = opens
        .iter()
        .filter(|event| matches!(event.payload, Payload::File(_)));
    assert_eq!(opens.count(), 0);
    nothing_else(stage, child);
    Ok(())
}

fn threads_of_a_server(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("file");
    let span = Span::begin();
    let mut child = server(stage, |talk| {
        let thread = || {
            let file = sys::creat(&sys::c(&path), 0o600);
            (sys::tid(), file)
        };
        let (tid, file) = std::thread::scope(|scope| scope.spawn(thread).join().unwrap());
        alone();
        talk.say(tid.into());
        tell(talk, file);
    });
    let tid = child.hear_pid();
    let meta = expect(stage, &mut child, &path, true);
    span.check(&meta, facts::key(child.pid), tid, TAG, flag::CREATED);
    assert_ne!(tid, child.pid);
    nothing_else(stage, child);
    Ok(())
}

fn the_path_is_the_files_own(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let real = folder.join("real");
    fs::create_dir_all(real.join("below")).unwrap();
    symlink(&real, folder.join("link")).unwrap();
    symlink("real/file", folder.join("innocent.txt")).unwrap();
    let file = real.join("file");
    fs::write(&file, "x").unwrap();
    // Not opened by the child, which would be told: it reads what it wrote.
    let read = File::open(&file).unwrap();
    let mut child = server(stage, |talk| {
        let open = |path: &Path| sys::open(&sys::c(path), O_WRONLY, 0);
        tell(talk, open(&folder.join("link/file")));
        tell(talk, open(&folder.join("innocent.txt")));
        tell(talk, open(&folder.join("link/below/../../link/./file")));
        tell(
            talk,
            open(Path::new(&format!("/proc/self/root{}", file.display()))),
        );
        // A descriptor for reading becomes one for writing.
        tell(
            talk,
            open(Path::new(&format!("/proc/self/fd/{}", read.as_raw_fd()))),
        );
        std::env::set_current_dir(real.join("below")).unwrap();
        tell(talk, open(Path::new("../file")));
        // And a new one behind a link.
        tell(
            talk,
            sys::creat(&sys::c(folder.join("link/below/new")), 0o600),
        );
    });
    for _ in 0..6 {
        expect(stage, &mut child, &file, false);
    }
    expect(stage, &mut child, real.join("below/new"), true);
    nothing_else(stage, child);
    Ok(())
}

fn a_deleted_file(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("gone");
    fs::write(&path, "x").unwrap();
    let mut child = server(stage, |talk| {
        let read = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let again = sys::c(format!("/proc/self/fd/{}", read.as_raw_fd()));
        tell(talk, sys::open(&again, O_RDWR, 0));
    });
    let expected = told(&mut child, &path, false);
    let (_, open) = stage.watch.open(child.pid);
    assert_eq!(open, expected);
    assert_eq!(open.nlink, 0);
    nothing_else(stage, child);
    Ok(())
}

fn a_file_without_a_name(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let mut child = server(stage, |talk| {
        tell(talk, sys::open(&sys::c(&folder), O_TMPFILE | O_RDWR, 0o600));
        let memory = sys::memfd(c"x").unwrap();
        let again = sys::c(format!("/proc/self/fd/{}", memory.as_raw_fd()));
        tell(talk, sys::open(&again, O_RDWR, 0));
    });
    let (meta, open) = stage.watch.open(child.pid);
    // d_tmpfile (fs/dcache.c) names it by its inode. Whether that counts as creating it is the
    // kernel's choice.
    let path = folder.join(format!("#{}", open.file.inode));
    assert_eq!(open, told(&mut child, path, open.created));
    assert_eq!(meta.flags, if open.created { flag::CREATED } else { 0 });
    assert_eq!(open.nlink, 0);

    expect(stage, &mut child, "/memfd:x", false);
    nothing_else(stage, child);
    Ok(())
}

fn a_deep_folder(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let names: Vec<String> = (0..PATH_STEPS + 6)
        .map(|depth| format!("d{depth}"))
        .collect();
    let deep = folder.join(names.join("/"));
    fs::create_dir_all(&deep).unwrap();
    let mut child = server(stage, |talk| {
        tell(talk, sys::creat(&sys::c(deep.join("shell.php")), 0o600))
    });
    let kept = names[names.len() - (PATH_STEPS - 1)..].join("/");
    let expected = told(&mut child, format!("/{kept}/shell.php"), true);
    let (meta, open) = stage.watch.open(child.pid);
    assert_eq!(open, expected);
    assert_eq!(meta.flags, flag::PATH_TRUNCATED | flag::CREATED);
    nothing_else(stage, child);
    Ok(())
}

fn a_mount_of_its_own(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let (real, bound) = (folder.join("real"), folder.join("bound"));
    fs::create_dir(&real).unwrap();
    fs::create_dir(&bound).unwrap();
    let mut child = server(stage, |talk| {
        sys::bind_mount(&sys::c(&real), &sys::c(&bound)).unwrap();
        tell(talk, sys::creat(&sys::c(bound.join("file")), 0o600));
    });
    let expected = told(&mut child, bound.join("file"), true);
    let (_, open) = stage.watch.open(child.pid);
    assert_eq!(open, expected);
    assert_ne!(open.mnt_ns, facts::namespace(sys::pid(), "mnt"));
    assert_eq!(open.file, facts::file(&real.join("file")));
    nothing_else(stage, child);
    Ok(())
}

fn other_users_and_groups(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let path = folder.join("file");
    let mut child = server(stage, |talk| {
        sys::set_ids([1001, 1002, 1003], [2001, 2002, 2003]);
        tell(talk, sys::creat(&sys::c(&path), 0o604));
    });
    let expected = told(&mut child, &path, true);
    let (_, open) = stage.watch.open(child.pid);
    assert_eq!(open, expected);
    let ids = Ids {
        uid: 1001,
        euid: 1002,
        suid: 1003,
        gid: 2001,
        egid: 2002,
        sgid: 2003,
    };
    assert_eq!((open.ids, open.uid, open.gid), (ids, 1002, 2002));
    assert_eq!(open.mode, 0o100_604 & !sys::umask() as u16);
    nothing_else(stage, child);
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn calls_of_the_32_bit_convention(stage: &mut Stage) -> Outcome {
    use sys::compat::{self, call, low, low_string};

    crate::stage::needs_compat()?;
    let folder = stage.folder();
    let [open, creat, openat, openat2] =
        ["open", "creat", "openat", "openat2"].map(|name| folder.join(name));
    let create = (O_WRONLY | O_CREAT | O_EXCL) as u32;
    let here = AT_FDCWD as u32;
    let mut child = server(stage, |talk| {
        let at = |path: &Path| low_string(&sys::c(path));
        let mut tell = |fd: io::Result<u32>| {
            // SAFETY: the kernel has just given this descriptor to us alone.
            let fd =
                unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd.unwrap() as i32) };
            say_file(talk, &fd);
        };
        tell(call(compat::OPEN, [at(&open), create, 0o600, 0, 0]));
        tell(call(compat::CREAT, [at(&creat), 0o600, 0, 0, 0]));
        tell(call(compat::OPENAT, [here, at(&openat), create, 0o600, 0]));
        let how = [u64::from(create), 0o600, 0].map(u64::to_ne_bytes).concat();
        tell(call(
            compat::OPENAT2,
            [here, at(&openat2), low(&how), 24, 0],
        ));
        tell(call(compat::OPEN, [at(&open), O_WRONLY as u32, 0, 0, 0]));
    });
    for path in [&open, &creat, &openat, &openat2] {
        let meta = expect(stage, &mut child, path, true);
        assert_eq!(meta.flags, flag::COMPAT | flag::CREATED);
    }
    let meta = expect(stage, &mut child, &open, false);
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

fn numbers_of_the_other_convention(stage: &mut Stage) -> Outcome {
    // 8 is creat(2) to a 32-bit caller and lseek(2) to others, who choose what it returns: the
    // number of a descriptor of a file for writing.
    let path = stage.folder().join("file");
    let lost = stage.watch.drops(tracer_common::probe::Drop::FileFault);
    let mut child = server(stage, |talk| {
        let file = sys::creat(&sys::c(&path), 0o600).unwrap();
        say_file(talk, &file);
        let fd = file.as_raw_fd();
        assert_eq!(sys::seek(fd, fd.into()).unwrap(), fd as u32);
        sys::seek(fd, 12_345).unwrap();
        tell(talk, sys::open(&sys::c(&path), O_WRONLY, 0));
    });
    expect(stage, &mut child, &path, true);
    expect(stage, &mut child, &path, false);
    nothing_else(stage, child);
    assert_eq!(
        stage.watch.drops(tracer_common::probe::Drop::FileFault),
        lost
    );
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn calls_of_the_x32_convention(stage: &mut Stage) -> Outcome {
    // Most kernels refuse it; then there is nothing to see.
    let path = stage.folder().join("file");
    let mut child = server(stage, |talk| {
        match sys::compat::x32_open(&sys::c(&path), O_WRONLY | O_CREAT) {
            Ok(file) => {
                talk.say(1);
                say_file(talk, &file);
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOSYS));
                talk.say(0);
            }
        }
    });
    if child.hear() == 1 {
        expect(stage, &mut child, &path, true);
    }
    nothing_else(stage, child);
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn calls_of_the_x32_convention(_: &mut Stage) -> Outcome {
    Err(crate::stage::Skip(
        "there is no x32 on this architecture".into(),
    ))
}
