//! Files that a server lineage writes without opening them, maps, and reads again.

use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use libc::{MAP_PRIVATE, MAP_SHARED, O_RDONLY, O_RDWR, O_WRONLY, PROT_EXEC, PROT_READ, PROT_WRITE};
use tracer_common::event::{EventKind, access, flag};
use tracer_common::probe::Tier;

use crate::child::Child;
use crate::facts::{self, bytes};
use crate::stage::{Outcome, Skip, Stage, Test, tests};
use crate::sys;
use crate::sys::files::{self, Arg};

pub(crate) const TESTS: &[Test] = tests!("use_of_files":
    inherited_descriptors,
    inherited_descriptors_by_the_32_bit_convention,
    a_received_descriptor,
    clones,
    writable_mappings,
    executable_mappings,
    a_program_that_a_loader_runs,
    read_again,
    by_handle,
    by_handle_without_a_name,
    opened_by_the_kernel_for_a_listener,
    mapped_by_others,
    kernel_file_systems,
);

/// Only the tracepoint tier looks at writes: there is no hook at a write that costs nothing.
fn needs_writes(stage: &Stage) -> Outcome {
    if stage.watch.sensor.tier() == Tier::Tracepoint {
        Ok(())
    } else {
        Err(Skip("this tier has no hook at a write".into()))
    }
}

/// Ends a child of which no use of a file is known that was not taken.
fn nothing_else(stage: &mut Stage, child: Child) {
    let mut rest = stage.end(child);
    rest.retain(|event| matches!(event.payload, tracer::event::Payload::File(_)));
    assert_eq!(rest, []);
}

/// A file that we, who are no server, opened.
fn opened(path: &Path) -> File {
    fs::write(path, "0123456789").unwrap();
    File::options().read(true).write(true).open(path).unwrap()
}

/// Takes the record of a first write.
fn expect_write(stage: &mut Stage, child: &Child, path: &Path) {
    let (meta, write) = stage.watch.file(EventKind::Write, child.pid);
    assert_eq!(write.path, bytes(path));
    assert_eq!(write.file, facts::file(path));
    assert_eq!((write.writer, write.created), (None, false));
    assert_eq!(meta.subject, facts::key(child.pid));
}

/// Ways to write, by number, and where the descriptor is among the arguments.
type Way<'a> = (libc::c_long, Vec<Arg<'a>>);

fn inherited_descriptors(stage: &mut Stage) -> Outcome {
    needs_writes(stage)?;
    let folder = stage.folder();
    let source = folder.join("source");
    let source = opened(&source);
    let (pipe, mut fill) = sys::pipe();
    let names: Vec<_> = (0..9).map(|name| folder.join(name.to_string())).collect();
    let held: Vec<File> = names.iter().map(|name| opened(name)).collect();
    let number = |file: &File| Arg::Number(file.as_raw_fd().into());
    let (zero, one) = (Arg::Number(0), Arg::Number(1));
    let byte = b"x";
    // `struct iovec`: address and length.
    let part = [byte.as_ptr() as u64, 1].map(u64::to_ne_bytes).concat();
    let data = Arg::Bytes(byte);
    let ways: Vec<Way<'_>> = vec![
        (libc::SYS_write, vec![number(&held[0]), data, one]),
        (libc::SYS_pwrite64, vec![number(&held[1]), data, one, zero]),
        (
            libc::SYS_writev,
            vec![number(&held[2]), Arg::Bytes(&part), one],
        ),
        (
            libc::SYS_pwritev,
            vec![number(&held[3]), Arg::Bytes(&part), one, zero, zero],
        ),
        (
            libc::SYS_pwritev2,
            vec![number(&held[4]), Arg::Bytes(&part), one, zero, zero, zero],
        ),
        (
            libc::SYS_sendfile,
            vec![number(&held[5]), number(&source), zero, one],
        ),
        (
            libc::SYS_splice,
            vec![number(&pipe), zero, number(&held[6]), zero, one, zero],
        ),
        (
            libc::SYS_copy_file_range,
            vec![number(&source), zero, number(&held[7]), zero, one, zero],
        ),
        (
            libc::SYS_fallocate,
            vec![number(&held[8]), zero, zero, Arg::Number(100)],
        ),
    ];
    std::io::Write::write_all(&mut fill, b"xx").unwrap();
    let mut child = stage.tagged(|talk| {
        for (call, arguments) in &ways {
            // What is written once is known.
            for _ in 0..2 {
                let made = files::call(*call, arguments);
                talk.say(made.map_or_else(|error| error.raw_os_error().unwrap() as u64, |_| 0));
            }
        }
        // Neither is a pipe a file, nor what is written to oneself.
        files::call(libc::SYS_write, &[number(&fill), data, one]).unwrap();
        talk.wait();
        0
    });
    for ((call, _), name) in ways.iter().zip(&names) {
        match [child.hear() as i32, child.hear() as i32] {
            [0, 0] => expect_write(stage, &child, name),
            // A file system that does not have it.
            [libc::EOPNOTSUPP | libc::EINVAL | libc::EXDEV, _] => {}
            errors => panic!("call {call}: {errors:?}"),
        }
    }
    nothing_else(stage, child);
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn inherited_descriptors_by_the_32_bit_convention(stage: &mut Stage) -> Outcome {
    needs_writes(stage)?;
    crate::stage::needs_compat()?;
    let folder = stage.folder();
    let source = opened(&folder.join("source"));
    let names: Vec<_> = (0..4).map(|name| folder.join(name.to_string())).collect();
    let held: Vec<File> = names.iter().map(|name| opened(name)).collect();
    let number = |file: &File| Arg::Number(file.as_raw_fd().into());
    let (zero, one) = (Arg::Number(0), Arg::Number(1));
    let mut child = stage.server(|_| {
        let data = Arg::Bytes(b"x");
        // write, pwrite64, sendfile and mmap of syscall_32.tbl; the last has its arguments in memory.
        files::compat_call(4, &[number(&held[0]), data, one]).unwrap();
        files::compat_call(181, &[number(&held[1]), data, one, zero, zero]).unwrap();
        files::compat_call(187, &[number(&held[2]), number(&source), zero, one]).unwrap();
        let words = [
            0,
            4096,
            PROT_READ as u32,
            MAP_SHARED as u32,
            held[3].as_raw_fd() as u32,
            0,
        ];
        let words = words.map(u32::to_ne_bytes).concat();
        files::compat_call(90, &[Arg::Bytes(&words)]).unwrap_or_default();
    });
    child.hear();
    for name in &names[..3] {
        expect_write(stage, &child, name);
    }
    let (_, map) = stage.watch.file(EventKind::Map, child.pid);
    assert_eq!((map.path, map.access), (bytes(&names[3]), access::WRITE));
    nothing_else(stage, child);
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn inherited_descriptors_by_the_32_bit_convention(_: &mut Stage) -> Outcome {
    Err(Skip(
        "a 64-bit process makes no 32-bit calls on this architecture".into(),
    ))
}

fn a_received_descriptor(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("file");
    let file = opened(&path);
    let (ours, theirs) = sys::socketpair();
    let mut child = stage.server(|_| {
        let file: OwnedFd = files::receive_descriptor(&theirs).unwrap();
        std::io::Write::write_all(&mut File::from(file), b"x").unwrap();
    });
    files::send_descriptor(&ours, file.as_raw_fd()).unwrap();
    child.hear();
    expect_write(stage, &child, &path);
    nothing_else(stage, child);
    Ok(())
}

fn clones(stage: &mut Stage) -> Outcome {
    const FICLONE: i64 = 0x4004_9409;

    needs_writes(stage)?;
    let folder = stage.folder();
    let source = opened(&folder.join("source"));
    let path = folder.join("clone");
    let file = opened(&path);
    let arguments = [
        Arg::Number(file.as_raw_fd().into()),
        Arg::Number(FICLONE),
        Arg::Number(source.as_raw_fd().into()),
    ];
    if let Err(error) = files::call(libc::SYS_ioctl, &arguments) {
        return Err(Skip(format!("the file system has no FICLONE: {error}")));
    }
    let mut child = stage.server(|_| {
        files::call(libc::SYS_ioctl, &arguments).unwrap();
    });
    child.hear();
    expect_write(stage, &child, &path);
    nothing_else(stage, child);
    Ok(())
}

fn writable_mappings(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let [shared, private, own] = ["shared", "private", "own"].map(|name| folder.join(name));
    let (one, two) = (opened(&shared), opened(&private));
    let mut child = stage.server(|_| {
        let protection = PROT_READ | PROT_WRITE;
        files::map(two.as_raw_fd(), 10, protection, MAP_PRIVATE).unwrap();
        files::map(one.as_raw_fd(), 10, protection, MAP_SHARED).unwrap();
        // Once is enough, and what it opened itself was told.
        files::map(one.as_raw_fd(), 10, protection, MAP_SHARED).unwrap();
        fs::write(&own, "x").unwrap();
        let own = File::options().read(true).write(true).open(&own).unwrap();
        files::map(own.as_raw_fd(), 1, protection, MAP_SHARED).unwrap();
    });
    child.hear();
    let (_, map) = stage.watch.file(EventKind::Map, child.pid);
    assert_eq!((map.path, map.access), (bytes(&shared), access::WRITE));
    assert_eq!(map.file, facts::file(&shared));
    for _ in 0..2 {
        let (_, open) = stage.watch.open(child.pid);
        assert_eq!(open.path, bytes(&own));
    }
    nothing_else(stage, child);
    Ok(())
}

fn executable_mappings(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let [library, program, written] =
        ["libx.so.1", "program", "dropped.so"].map(|name| folder.join(name));
    fs::write(&library, "x").unwrap();
    fs::write(&program, "x").unwrap();
    let mut child = stage.server(|talk| {
        let map = |path: &Path| {
            let file = sys::open(&sys::c(path), O_RDONLY, 0).unwrap();
            files::map(file.as_raw_fd(), 1, PROT_READ | PROT_EXEC, MAP_PRIVATE)
        };
        let own = std::env::current_exe().unwrap();
        let mapped = map(&library)
            .and_then(|()| map(&own))
            .and_then(|()| map(&program));
        talk.say(mapped.map_or_else(|error| error.raw_os_error().unwrap() as u64, |()| 0));
        // A library by its name, but one that it has just made.
        drop(sys::open(&sys::c(&written), O_WRONLY | libc::O_CREAT, 0o600).unwrap());
        let _mapped = map(&written);
    });
    match child.hear() as i32 {
        0 => {}
        libc::EPERM => return Err(Skip("the file system takes no programs".into())),
        error => panic!("{}", std::io::Error::from_raw_os_error(error)),
    }
    child.hear();
    let (_, map) = stage.watch.file(EventKind::Map, child.pid);
    assert_eq!((map.path, map.access), (bytes(&program), access::EXEC));
    stage.watch.open(child.pid);
    let (_, read) = stage.watch.file(EventKind::Read, child.pid);
    assert_eq!(read.path, bytes(&written));
    let (_, map) = stage.watch.file(EventKind::Map, child.pid);
    assert_eq!((map.path, map.access), (bytes(&written), access::EXEC));
    assert_eq!(map.writer.unwrap().process, facts::key(child.pid));
    nothing_else(stage, child);
    Ok(())
}

fn a_program_that_a_loader_runs(stage: &mut Stage) -> Outcome {
    let Some(loader) = loader() else {
        return Err(Skip("there is no dynamic loader here".into()));
    };
    let folder = stage.folder();
    let (program, link) = (folder.join("payload"), folder.join("innocent.so"));
    fs::copy("/bin/true", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    symlink(&program, &link).unwrap();
    let mut child = stage.tagged(|_| {
        let argv = [sys::c(loader), sys::c(&link)];
        panic!("{}", sys::execve(&sys::c(loader), &argv, &[]))
    });
    let (_, exec) = stage.watch.exec(child.pid);
    assert_eq!(exec.exe, bytes(fs::canonicalize(loader).unwrap()));
    // The link's name is a library's; the file's is not.
    let (_, map) = stage.watch.file(EventKind::Map, child.pid);
    assert_eq!((map.path, map.access), (bytes(&program), access::EXEC));
    assert_eq!(child.end(), 0);
    Ok(())
}

/// The host's dynamic loader, where there is one and a program that needs it.
fn loader() -> Option<&'static Path> {
    let program = fs::read("/bin/true").ok()?;
    ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"]
        .into_iter()
        .find(|loader| {
            let name = loader.as_bytes();
            Path::new(loader).exists() && program.windows(name.len()).any(|part| part == name)
        })
        .map(Path::new)
}

fn read_again(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let (written, other) = (folder.join("written"), folder.join("other"));
    fs::write(&other, "x").unwrap();
    let mut writer = stage.server(|_| {
        fs::write(&written, "x").unwrap();
    });
    writer.hear();
    stage.watch.open(writer.pid);
    let mut reader = stage.server(|_| {
        drop(sys::open(&sys::c(&other), O_RDONLY, 0).unwrap());
        drop(sys::open(&sys::c(&written), O_RDONLY, 0).unwrap());
        drop(sys::open(&sys::c(&written), libc::O_PATH, 0).unwrap());
    });
    reader.hear();
    let (_, read) = stage.watch.file(EventKind::Read, reader.pid);
    assert_eq!(read.path, bytes(&written));
    assert_eq!(read.file, facts::file(&written));
    assert_eq!(read.writer.unwrap().process, facts::key(writer.pid));
    nothing_else(stage, reader);
    nothing_else(stage, writer);
    Ok(())
}

fn by_handle(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let path = folder.join("file");
    fs::write(&path, "x").unwrap();
    let handle = match files::handle(&sys::c(&path)) {
        Ok(handle) => handle,
        Err(error) => return Err(Skip(format!("the file system has no handles: {error}"))),
    };
    let on = File::open(&folder).unwrap();
    let mut child = stage.server(|_| {
        drop(files::open_handle(on.as_raw_fd(), &handle, O_RDWR).unwrap());
    });
    child.hear();
    let (_, open) = stage.watch.open(child.pid);
    assert_eq!(open.file, facts::file(&path));
    assert_eq!(open.path, bytes(&path));
    nothing_else(stage, child);
    Ok(())
}

/// A file that the kernel has forgotten the name of: it knows the inode, and not where it is.
fn by_handle_without_a_name(stage: &mut Stage) -> Outcome {
    const ATTEMPTS: u32 = 50;
    let folder = stage.folder();
    let path = folder.join("file");
    fs::write(&path, "x").unwrap();
    let file = facts::file(&path);
    let handle = match files::handle(&sys::c(&path)) {
        Ok(handle) => handle,
        Err(error) => return Err(Skip(format!("the file system has no handles: {error}"))),
    };
    let on = File::open(&folder).unwrap();
    let mut child = stage.tagged(|talk| {
        for _ in 0..ATTEMPTS {
            talk.wait();
            let file = files::open_handle(on.as_raw_fd(), &handle, O_RDWR).unwrap();
            let link = format!("/proc/self/fd/{}", file.as_raw_fd());
            let is_forgotten = fs::read_link(link).unwrap() == Path::new("/");
            talk.say(is_forgotten.into());
            if is_forgotten {
                break;
            }
        }
        talk.wait();
        0
    });
    let is_forgotten = (0..ATTEMPTS).any(|_| {
        // Names that nobody uses (proc_sys_vm(5)).
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        child.go();
        if child.hear() == 1 {
            return true;
        }
        assert_eq!(stage.watch.open(child.pid).1.path, bytes(&path));
        false
    });
    if !is_forgotten {
        return Err(Skip("this file system keeps every name in memory".into()));
    }
    let (meta, open) = stage.watch.open(child.pid);
    assert_eq!((open.path.as_slice(), open.file), (&[][..], file));
    let unknown = flag::PATH_TRUNCATED | flag::STRING_TRUNCATED;
    assert_eq!(meta.flags & unknown, unknown);
    nothing_else(stage, child);
    Ok(())
}

/// The descriptors that fanotify(7) gives with its events are open as their reader wishes.
fn opened_by_the_kernel_for_a_listener(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("file");
    fs::write(&path, "x").unwrap();
    let mut child = stage.tagged(|talk| {
        let listener = match files::listen_for_opens(&sys::c(&path), O_RDWR) {
            Ok(listener) => listener,
            Err(error) => {
                talk.say(error.raw_os_error().unwrap() as u64);
                return 0;
            }
        };
        talk.say(0);
        drop(File::open(&path).unwrap());
        let given = files::next_opened(listener);
        std::io::Write::write_all(&mut File::from(given), b"y").unwrap();
        talk.done();
        talk.wait();
        0
    });
    match child.hear() as i32 {
        0 => child.hear(),
        libc::ENOSYS | libc::EINVAL => return Err(Skip("the kernel has no fanotify".into())),
        error => panic!("{}", std::io::Error::from_raw_os_error(error)),
    };
    let kind = if stage.is_lsm() {
        EventKind::Open
    } else {
        // No call opened it.
        EventKind::Write
    };
    let (_, open) = stage.watch.file(kind, child.pid);
    assert_eq!((open.path, open.file), (bytes(&path), facts::file(&path)));
    nothing_else(stage, child);
    Ok(())
}

/// A library that a server's lineage wrote, in a process that has nothing to do with it.
fn mapped_by_others(stage: &mut Stage) -> Outcome {
    stage.needs_lsm()?;
    let folder = stage.folder();
    let [dropped, own] = ["dropped.so", "own.so"].map(|name| folder.join(name));
    fs::write(&own, "x").unwrap();
    let mut writer = stage.server(|_| {
        fs::write(&dropped, "x").unwrap();
    });
    writer.hear();
    let mut other = Child::hold(|talk| {
        let map = |path: &Path, protection| {
            let file = sys::open(&sys::c(path), O_RDONLY, 0).unwrap();
            files::map(file.as_raw_fd(), 1, protection, MAP_PRIVATE)
        };
        let mapped = map(&own, PROT_READ | PROT_EXEC)
            .and_then(|()| map(&dropped, PROT_READ))
            .and_then(|()| map(&dropped, PROT_READ | PROT_EXEC));
        talk.say(mapped.map_or_else(|error| error.raw_os_error().unwrap() as u64, |()| 0));
        talk.wait();
        0
    });
    other.go();
    match other.hear() as i32 {
        0 => {}
        libc::EPERM => return Err(Skip("the file system takes no programs".into())),
        error => panic!("{}", std::io::Error::from_raw_os_error(error)),
    }
    let (meta, map) = stage.watch.file(EventKind::Map, other.pid);
    assert_eq!((map.path, map.access), (bytes(&dropped), access::EXEC));
    assert_eq!(map.writer.unwrap().process, facts::key(writer.pid));
    assert_ne!(meta.flags & flag::UNTAGGED, 0);
    nothing_else(stage, other);
    writer.go();
    writer.end_well();
    Ok(())
}

fn kernel_file_systems(stage: &mut Stage) -> Outcome {
    needs_writes(stage)?;
    // What is written there is told when it is opened, and is no file that somebody wrote.
    let name = "/proc/self/oom_score_adj";
    let held = File::options().read(true).write(true).open(name).unwrap();
    let mut child = stage.server(|_| {
        let zero = Arg::Bytes(b"0");
        let fd = Arg::Number(held.as_raw_fd().into());
        files::call(libc::SYS_write, &[fd, zero, Arg::Number(1)]).unwrap();
        fs::write(name, "0").unwrap();
        fs::read(name).unwrap();
    });
    child.hear();
    let (_, open) = stage.watch.open(child.pid);
    assert_eq!(
        open.path,
        bytes(format!("/proc/{}/oom_score_adj", child.pid))
    );
    nothing_else(stage, child);
    Ok(())
}
