//! Ways around the sensor that no other module is about: what is told all the same. The table of them
//! all is `docs/evasions.md`.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use libc::{AF_INET, O_CREAT, O_RDONLY, O_RDWR, O_TMPFILE, O_WRONLY, SOCK_DGRAM, SOCK_STREAM};
use tracer::event::{Payload, is_inet};
use tracer_common::event::{EventKind, access, fd_kind, flag, trace_method};
use tracer_common::tag::{Tag, via};

use crate::child::{Child, Image, reap, until};
use crate::facts::{self, bytes};
use crate::stage::{Outcome, Skip, Stage, TAG, Test, tests};
use crate::sys::{self, process as calls};
use crate::uring_ring::{Request, Ring, needs_uring, operation};
use crate::{loss, net};

pub(crate) const TESTS: &[Test] = tests!("evasion":
    sockets_through_a_ring,
    another_memory_through_a_ring,
    programs_without_a_name,
    a_program_in_shared_memory,
    a_script_on_standard_input,
    a_preloaded_library,
    a_subreaper,
    a_thread_that_forks_and_executes,
    arguments_overwritten_later,
    maps_that_cannot_be_emptied,
);

/// Requests of a ring connect and send. One tier has a hook at both; to the other a connection over TCP
/// shows when it begins, and a datagram does not.
fn sockets_through_a_ring(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let image = stage.helper("pause");
    let mut child = stage.tagged(|talk| {
        let mut ring = Ring::new(4, 0).unwrap();
        let address = net::inet(to);
        let stream = net::socket(AF_INET, SOCK_STREAM);
        let connected = ring.perform(Request {
            operation: operation::CONNECT,
            fd: stream.as_raw_fd(),
            address: address.as_ptr() as u64,
            second: address.len() as u64,
            ..Request::default()
        });
        assert_eq!(connected, 0);
        let datagram = net::socket(AF_INET, SOCK_DGRAM);
        let sent = net::with_header(&address, |header| {
            ring.perform(Request {
                operation: operation::SENDMSG,
                fd: datagram.as_raw_fd(),
                address: header as u64,
                len: 1,
                ..Request::default()
            })
        });
        assert_eq!(sent, 1);
        talk.done();
        talk.wait();
        sys::dup2(stream.as_raw_fd(), 0);
        image.exec()
    });
    child.hear();
    let (meta, socket) = stage.watch.socket(EventKind::Connect, child.pid);
    assert_eq!(meta.tag, TAG);
    assert_ne!(meta.flags & flag::ATTEMPT, 0);
    assert_eq!(socket.socket.remote_port, to.port());
    if stage.is_lsm() {
        let (meta, socket) = stage.watch.socket(EventKind::Send, child.pid);
        assert_eq!(meta.tag, TAG);
        assert_eq!(socket.socket.remote_port, to.port());
    } else {
        let rest = stage.watch.rest(child.pid);
        let of_sockets = |event: &tracer::event::Event| matches!(event.payload, Payload::Socket(_));
        assert!(!rest.iter().any(of_sockets), "{rest:#?}");
    }
    child.go();
    let (_, redirect) = stage.watch.socket(EventKind::Redirect, child.pid);
    assert_eq!(redirect.fd, Some(0));
    assert_eq!(redirect.socket.remote_port, to.port());
    let (_, exec) = stage.watch.exec(child.pid);
    assert!(is_inet(&exec.stdio[0]));
    assert_eq!(exec.stdio[0].remote_port, to.port());
    Ok(())
}

fn another_memory_through_a_ring(stage: &mut Stage) -> Outcome {
    needs_uring()?;
    let target = Child::hold(|_| 0);
    let path = sys::c(format!("/proc/{}/mem", target.pid));
    let mut child = stage.server(|_| {
        let mut ring = Ring::new(4, 0).unwrap();
        assert!(ring.perform(Request::open(libc::AT_FDCWD, &path, O_WRONLY, 0)) >= 0);
    });
    child.hear();
    let (_, payload) = stage.watch.event(EventKind::Trace, child.pid);
    let Payload::Trace(trace) = payload else {
        panic!("{payload:?}")
    };
    assert_eq!(trace.target, Some(facts::key(target.pid)));
    assert!([trace_method::MEM, trace_method::ACCESS].contains(&trace.method));
    let reached = Tag {
        via: via::TRACE,
        ..TAG
    };
    assert_eq!(stage.watch.sensor.tag(target.pid), Some(reached));
    child.go();
    child.end_well();
    Ok(())
}

/// Files that have no name when they are executed: one that never had, and one that lost it. They were
/// written by who runs them, so that is told too.
fn programs_without_a_name(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let gone = folder.join("gone");
    let content = fs::read(&stage.program).unwrap();
    let image = stage.helper("pause");
    for has_name in [false, true] {
        let child = stage.tagged(|_| {
            let file = if has_name {
                sys::open(&sys::c(&gone), O_RDWR | O_CREAT, 0o700)
            } else {
                sys::open(&sys::c(&folder), O_TMPFILE | O_RDWR, 0o700)
            };
            let writer = File::from(file.unwrap());
            std::io::Write::write_all(&mut &writer, &content).unwrap();
            // One that is open for writing is not executed.
            let again = sys::c(format!("/proc/self/fd/{}", writer.as_raw_fd()));
            let reader = sys::open(&again, O_RDONLY, 0).unwrap();
            drop(writer);
            if has_name {
                fs::remove_file(&gone).unwrap();
            }
            let path = sys::c(format!("/proc/self/fd/{}", reader.as_raw_fd()));
            Image {
                path,
                ..image.clone()
            }
            .exec()
        });
        let (_, open) = stage.watch.open(child.pid);
        let (meta, exec) = stage.watch.exec(child.pid);
        assert_eq!((exec.nlink, exec.file), (0, open.file));
        assert_eq!(
            exec.file,
            facts::exec(child.pid, &stage.helper("pause")).file
        );
        assert_eq!(exec.writer.unwrap().process, facts::key(child.pid));
        let name = if has_name {
            bytes(&gone)
        } else {
            bytes(folder.join(format!("#{}", exec.file.inode)))
        };
        assert!(exec.exe.starts_with(&name), "{exec:?}");
        assert_eq!(meta.tag, TAG);
    }
    Ok(())
}

/// As in `/dev/shm`: a file system in memory of its own.
fn a_program_in_shared_memory(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let (from, path) = (stage.program.clone(), folder.join("crond"));
    let image = Image::helper(&path, "pause");
    let child = stage.tagged(|_| {
        sys::own_mount(c"none", &sys::c(&folder), c"tmpfs", c"").unwrap();
        fs::copy(&from, &path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        image.exec()
    });
    let (_, open) = stage.watch.open(child.pid);
    let (meta, exec) = stage.watch.exec(child.pid);
    assert_eq!((&exec.exe, exec.file), (&bytes(&path), open.file));
    assert_eq!(exec.writer.unwrap().process, facts::key(child.pid));
    assert_ne!(exec.file.dev, facts::file(&from).dev);
    assert_eq!(meta.tag, TAG);
    Ok(())
}

/// `sh < file`: no argument names the script.
fn a_script_on_standard_input(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("note.txt");
    let image = stage.helper("pause");
    let child = stage.tagged(|_| {
        fs::write(&path, "id").unwrap();
        let script = File::open(&path).unwrap();
        sys::dup2(script.as_raw_fd(), 0);
        image.exec()
    });
    let (_, read) = stage.watch.file(EventKind::Read, child.pid);
    assert_eq!(read.path, bytes(&path));
    assert_eq!(read.writer.unwrap().process, facts::key(child.pid));
    let (_, exec) = stage.watch.exec(child.pid);
    assert_eq!(exec.stdio[0].inode, facts::file(&path).inode);
    assert_eq!(exec.stdio[0].kind, fd_kind::FILE);
    Ok(())
}

/// A library that this program has loaded, other than its loader.
fn library() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let files = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let mut found = files.filter(|path| path.contains(".so"));
    found.find(|path| !path.contains("/ld-")).map(PathBuf::from)
}

/// `LD_PRELOAD`: the environment is not looked at; what comes of it is.
fn a_preloaded_library(stage: &mut Stage) -> Outcome {
    let Some(library) = library() else {
        return Err(Skip("the test program loads no library".into()));
    };
    let path = stage.folder().join("libharmless.so.6");
    let image = Image {
        env: vec![sys::c(format!("LD_PRELOAD={}", path.display()))],
        ..stage.helper("pause")
    };
    let child = stage.tagged(|_| {
        fs::copy(&library, &path).unwrap();
        image.exec()
    });
    stage.watch.exec(child.pid);
    let (meta, map) = stage.watch.file(EventKind::Map, child.pid);
    assert_eq!((&map.path, map.access), (&bytes(&path), access::EXEC));
    assert_eq!(map.file, facts::file(&path));
    assert_eq!(map.writer.unwrap().process, facts::key(child.pid));
    assert_eq!(meta.tag, TAG);
    Ok(())
}

/// A process that takes orphans is their parent, and never their creator.
fn a_subreaper(stage: &mut Stage) -> Outcome {
    let image = stage.helper("pause");
    // It has no tag: a service manager, say.
    let mut reaper = Child::hold(|talk| {
        calls::adopt_orphans();
        let server = sys::fork().unwrap();
        if server == 0 {
            talk.wait();
            let creator = sys::pid();
            let orphan = sys::fork().unwrap();
            if orphan != 0 {
                talk.say(orphan.into());
                sys::leave(0);
            }
            until("the creator is gone", || sys::ppid() != creator);
            image.exec();
        }
        talk.say(server.into());
        reap(server);
        loop {
            std::thread::park();
        }
    });
    reaper.go();
    let server = reaper.hear_pid();
    stage.watch.sensor.set_tag(server, TAG).unwrap();
    reaper.go();
    let orphan = reaper.hear_pid();
    let (_, fork) = stage.watch.fork(server, orphan);
    assert_eq!(fork.child_tag, TAG.child());
    let (meta, exec) = stage.watch.exec(orphan);
    assert_eq!((meta.subject, meta.tag), (fork.child, TAG.child()));
    assert_eq!(exec.parent, facts::key(reaper.pid));
    sys::kill(orphan, libc::SIGKILL);
    Ok(())
}

/// What a thread does its process did, and an exec by it takes the process's number.
fn a_thread_that_forks_and_executes(stage: &mut Stage) -> Outcome {
    let image = stage.helper("pause");
    let mut child = stage.tagged(|talk| {
        let thread = || -> i32 {
            let made = sys::fork().unwrap();
            if made == 0 {
                sys::leave(0);
            }
            reap(made);
            talk.say(sys::tid().into());
            talk.say(made.into());
            talk.wait();
            image.exec()
        };
        std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
    });
    let (thread, made) = (child.hear_pid(), child.hear_pid());
    let key = facts::key(child.pid);
    let (meta, fork) = stage.watch.fork(child.pid, made);
    assert_eq!((meta.subject, meta.tid, meta.tag), (key, thread, TAG));
    assert_eq!((fork.parent, fork.child_tag), (key, TAG.child()));
    child.go();
    let (meta, exec) = stage.watch.exec(child.pid);
    assert_eq!((meta.subject, meta.tid, meta.tag), (key, child.pid, TAG));
    assert_eq!(exec.old_tid, thread);
    assert_eq!(stage.watch.sensor.tag(child.pid), Some(TAG));
    assert_eq!(stage.watch.sensor.tag(thread), None);
    Ok(())
}

fn arguments_overwritten_later(stage: &mut Stage) -> Outcome {
    let image = stage.helper("overwrite").arg("--secret");
    let (child, _, exec) = stage.exec(&image);
    assert_eq!(exec.args, [&b"helper-overwrite"[..], b"--secret"]);
    let path = format!("/proc/{}/cmdline", child.pid);
    until("it overwrote its arguments", || {
        fs::read(&path).unwrap().starts_with(b"xxxxxxxx")
    });
    Ok(())
}

/// Nothing that the programs hang on can be emptied from outside to silence them: they call no other
/// program by a map of programs, and their settings are frozen, for root too.
fn maps_that_cannot_be_emptied(_: &mut Stage) -> Outcome {
    // include/uapi/linux/bpf.h, `enum bpf_map_type`
    const ARRAY: u64 = 2;
    const PROG_ARRAY: u64 = 3;
    let maps: Vec<_> = loss::held_maps();
    assert!(!maps.is_empty());
    assert!(maps.iter().all(|map| map.kind != PROG_ARRAY), "{maps:?}");
    let frozen: Vec<_> = maps.iter().filter(|map| map.frozen).collect();
    assert!(!frozen.is_empty(), "{maps:?}");
    for map in frozen {
        assert_eq!(map.kind, ARRAY);
        let error = calls::change_map(map.fd, map.value_size).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{map:?}");
    }
    Ok(())
}
