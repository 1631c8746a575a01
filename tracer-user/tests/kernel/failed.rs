//! Execs of server lineages that failed: what was looked for, and why there was nothing.

use std::ffi::CStr;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;

use tracer::event::Payload;
use tracer_common::event::{EventKind, flag};
use tracer_common::limits::NAME_BYTES;

use crate::child::Child;
use crate::privilege::of;
use crate::stage::{Outcome, Stage, Test, tests};
use crate::sys::process as calls;
use crate::{facts, sys};

pub(crate) const TESTS: &[Test] = tests!("failed":
    no_such_file,
    no_right,
    no_program,
    by_execveat,
    a_long_name,
    a_32_bit_exec,
    a_thread,
    of_others,
);

/// A tagged child does something that cannot succeed; what is told of it.
fn told(
    stage: &mut Stage,
    name: &[u8],
    error: i32,
    flags: u16,
    step: impl FnOnce() -> std::io::Error,
) {
    let mut child = stage.tagged(|talk| {
        let error = step().raw_os_error().unwrap();
        talk.say(error as u64);
        talk.wait();
        0
    });
    assert_eq!(child.hear() as i32, error);
    let (meta, payload) = stage.watch.event(EventKind::ExecFailed, child.pid);
    of(&meta, &child, flags);
    let Payload::ExecFailed(failed) = payload else {
        panic!("{payload:?}")
    };
    assert_eq!(
        (failed.filename.as_slice(), failed.error as i32),
        (name, error)
    );
    assert_eq!(failed.ids, facts::ids(child.pid));
}

fn execve(path: &CStr) -> std::io::Error {
    sys::execve(path, &[c"word".into()], &[])
}

fn no_such_file(stage: &mut Stage) -> Outcome {
    let name = c"/no/such/program";
    told(stage, name.to_bytes(), libc::ENOENT, 0, || execve(name));
    Ok(())
}

fn no_right(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("data");
    fs::write(&path, "no program").unwrap();
    let name = sys::c(&path);
    told(stage, name.to_bytes(), libc::EACCES, 0, || execve(&name));
    Ok(())
}

fn no_program(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("text");
    fs::write(&path, "neither a program nor a script").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let name = sys::c(&path);
    told(stage, name.to_bytes(), libc::ENOEXEC, 0, || execve(&name));
    Ok(())
}

fn by_execveat(stage: &mut Stage) -> Outcome {
    let folder = fs::File::open(stage.folder()).unwrap();
    let name = c"below";
    told(stage, name.to_bytes(), libc::ENOENT, 0, || {
        calls::execveat(folder.as_raw_fd(), name, &[c"word".into()])
    });
    Ok(())
}

fn a_long_name(stage: &mut Stage) -> Outcome {
    let name = sys::c(format!("/{}", "a/".repeat(NAME_BYTES)));
    let kept = &name.to_bytes()[..NAME_BYTES - 1];
    let flags = flag::STRING_TRUNCATED;
    told(stage, kept, libc::ENOENT, flags, || execve(&name));
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn a_32_bit_exec(stage: &mut Stage) -> Outcome {
    use sys::process::compat;
    crate::stage::needs_compat()?;
    let name = c"/no/such/program";
    let empty = [0; 4];
    told(stage, name.to_bytes(), libc::ENOENT, flag::COMPAT, || {
        let (path, list) = (sys::compat::low_string(name), sys::compat::low(&empty));
        let arguments = [path, list, list, 0, 0];
        sys::compat::call(compat::EXECVE, arguments).unwrap_err()
    });
    told(stage, name.to_bytes(), libc::ENOENT, flag::COMPAT, || {
        let (path, list) = (sys::compat::low_string(name), sys::compat::low(&empty));
        let arguments = [libc::AT_FDCWD as u32, path, list, list, 0];
        sys::compat::call(compat::EXECVEAT, arguments).unwrap_err()
    });
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn a_32_bit_exec(_: &mut Stage) -> Outcome {
    Err(crate::stage::Skip(
        "only x86_64 makes 32-bit calls from a 64-bit process".into(),
    ))
}

fn a_thread(stage: &mut Stage) -> Outcome {
    let mut child = stage.tagged(|talk| {
        let thread = || {
            let error = execve(c"/no/such/thread");
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
            sys::tid()
        };
        let tid = std::thread::scope(|scope| scope.spawn(thread).join().unwrap());
        talk.say(tid.into());
        talk.wait();
        0
    });
    let thread = child.hear_pid();
    let (meta, _) = stage.watch.event(EventKind::ExecFailed, child.pid);
    assert_eq!((meta.subject, meta.tid), (facts::key(child.pid), thread));
    Ok(())
}

fn of_others(stage: &mut Stage) -> Outcome {
    let mut child = Child::hold(|_| {
        execve(c"/no/such/program");
        0
    });
    child.go();
    child.end_well();
    stage.watch.exit(child.pid);
    assert_eq!(stage.watch.rest(child.pid), []);
    // What succeeds is an exec and no failure.
    let image = stage.helper("pause");
    let child = stage.tagged(|_| image.exec());
    stage.watch.exec(child.pid);
    assert_eq!(stage.watch.rest(child.pid), []);
    Ok(())
}
