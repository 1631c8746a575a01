//! Many short processes, made in every way there is, and each of them told with its true creator.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::agent::Agent;
use crate::alert::text;
use crate::host::{self, Outcome, TempDir};

/// How many processes there are at least.
const PROCESSES: usize = 5_000;
/// Threads that make them, so that both ends of a fork run on more than one CPU.
const THREADS: usize = 2;

/// A process that these tests made.
#[derive(Clone, Copy, Debug)]
struct Made {
    pid: u32,
    creator: u32,
    executes: bool,
}

/// What the agent told of a pid.
#[derive(Default)]
struct Told {
    /// Entity ids of the process and its creator, and the creator's pid.
    forks: Vec<(String, String, u64)>,
    /// Entity id and executable.
    execs: Vec<(String, String)>,
    ends: Vec<String>,
}

/// Makes the processes under an agent that writes every event, and compares.
pub(crate) fn every_process_is_told() -> Outcome {
    let dir = TempDir::new("lineage");
    let output = dir.join("events.json");
    let agent = Agent::start(&[
        "--emit",
        "all",
        "--format",
        "json",
        "--output",
        &output.display().to_string(),
    ])?;
    adopt_orphans(true);
    let made: Vec<Made> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| make(PROCESSES / THREADS)))
            .collect();
        makers
            .into_iter()
            .flat_map(|maker| maker.join().expect("maker"))
            .collect()
    });
    adopt_orphans(false);
    let ended = agent.stop();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    crate::assert_nothing_lost(&ended.stderr);
    assert!(made.len() >= PROCESSES);

    let told = read(&output);
    let problems: Vec<String> = made
        .iter()
        .filter_map(|process| compare(*process, &told).err())
        .collect();
    assert!(
        problems.is_empty(),
        "{} of {} processes are told wrong, such as: {:#?}",
        problems.len(),
        made.len(),
        problems.iter().take(10).collect::<Vec<_>>()
    );
    host::say(&format!("lineage: {} processes, none lost", made.len()));
    Ok(())
}

/// Checks one process against what was told of its pid.
fn compare(made: Made, told: &HashMap<u64, Told>) -> Result<(), String> {
    let nothing = Told::default();
    let about = told.get(&made.pid.into()).unwrap_or(&nothing);
    // A pid may be used again by somebody else's process: the creator tells them apart.
    let forks: Vec<_> = about
        .forks
        .iter()
        .filter(|(_, _, creator)| *creator == u64::from(made.creator))
        .collect();
    let [(entity, creator, _)] = forks.as_slice() else {
        return Err(format!("{made:?}: forks {:?}", about.forks));
    };
    // The creator was made here as well, or is this process: it has one identity.
    let known = told.get(&made.creator.into()).unwrap_or(&nothing);
    if made.creator != std::process::id() && !known.forks.iter().any(|(id, _, _)| id == creator) {
        return Err(format!(
            "{made:?}: creator {creator} is none of {:?}",
            known.forks
        ));
    }
    if !about.ends.contains(entity) {
        return Err(format!("{made:?}: no end of {entity}"));
    }
    let executed: Vec<_> = about.execs.iter().filter(|(id, _)| id == entity).collect();
    let expected = host::real("/bin/true");
    match executed.as_slice() {
        [] if !made.executes => Ok(()),
        [(_, path)] if made.executes && *path == expected.to_string_lossy() => Ok(()),
        _ => Err(format!("{made:?}: execs {executed:?}")),
    }
}

fn read(path: &std::path::Path) -> HashMap<u64, Told> {
    let mut told: HashMap<u64, Told> = HashMap::new();
    for line in BufReader::new(File::open(path).expect("the agent's output")).lines() {
        let line = line.expect("the agent's output");
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let number = |pointer: &str| event.pointer(pointer).and_then(Value::as_u64);
        let entity = text(&event, "/process/entity_id").to_owned();
        let Some(pid) = number("/process/pid") else {
            continue;
        };
        let about = told.entry(pid).or_default();
        match text(&event, "/event/action") {
            "fork" => about.forks.push((
                entity,
                text(&event, "/process/parent/entity_id").to_owned(),
                number("/process/parent/pid").unwrap_or(0),
            )),
            "exec" => about
                .execs
                .push((entity, text(&event, "/process/executable").to_owned())),
            "end" => about.ends.push(entity),
            _ => {}
        }
    }
    told
}

/// Makes at least `count` processes, one after the other.
fn make(count: usize) -> Vec<Made> {
    let mut made = Vec::with_capacity(count + 1);
    let makers: [fn(&mut Vec<Made>); 6] = [
        fork_and_exec,
        fork_alone,
        spawn,
        grandchild,
        orphan,
        sibling_by_clone_parent,
    ];
    for maker in makers.iter().cycle() {
        maker(&mut made);
        if made.len() >= count {
            break;
        }
    }
    made
}

fn fork_and_exec(made: &mut Vec<Made>) {
    let path = CString::new("/bin/true").expect("no NUL");
    let argv = [path.as_ptr(), std::ptr::null()];
    let pid = fork(|| {
        // SAFETY: both pointers are to memory that outlives the call, and argv ends with NULL.
        unsafe { libc::execv(path.as_ptr(), argv.as_ptr()) };
    });
    reap(pid);
    made.push(Made {
        pid,
        creator: std::process::id(),
        executes: true,
    });
}

fn fork_alone(made: &mut Vec<Made>) {
    let pid = fork(|| {});
    reap(pid);
    made.push(Made {
        pid,
        creator: std::process::id(),
        executes: false,
    });
}

/// As the standard library does it: `posix_spawn`, which shares memory until the exec.
fn spawn(made: &mut Vec<Made>) {
    let mut child = Command::new("/bin/true")
        .stdin(Stdio::null())
        .spawn()
        .expect("/bin/true");
    let pid = child.id();
    child.wait().expect("wait");
    made.push(Made {
        pid,
        creator: std::process::id(),
        executes: true,
    });
}

/// A child that makes a child and waits for it.
fn grandchild(made: &mut Vec<Made>) {
    nested(made, |pipe| {
        let pid = fork(|| {});
        tell(pipe, pid);
        reap(pid);
    });
}

/// A child that makes a child and does not wait: the grandchild gets another parent, this process.
fn orphan(made: &mut Vec<Made>) {
    let pid = nested(made, |pipe| {
        let pid = fork(|| {});
        tell(pipe, pid);
    });
    reap(pid);
}

/// A child that makes a process which the kernel calls its sibling.
fn sibling_by_clone_parent(made: &mut Vec<Made>) {
    let sibling = nested(made, |pipe| {
        let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
        // SAFETY: no stack and no CLONE_VM, so this is fork(2) with another parent; the new
        // process calls nothing but _exit(2).
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        if pid == 0 {
            // SAFETY: ends the process without running anything of the copied one.
            unsafe { libc::_exit(0) };
        }
        tell(pipe, u32::try_from(pid).unwrap_or(0));
    });
    reap(sibling);
}

/// Forks a child that runs `act`, which makes one process and tells its pid; gives that pid.
fn nested(made: &mut Vec<Made>, act: impl FnOnce(libc::c_int)) -> u32 {
    let mut ends = [0; 2];
    // SAFETY: pipe2 writes two descriptors into the array it is given.
    let result = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    assert_eq!(result, 0, "pipe: {}", std::io::Error::last_os_error());
    // SAFETY: pipe2 succeeded, so both are open descriptors that nobody else owns.
    let (mut reader, writer) = unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
    let pipe = writer.as_raw_fd();
    let child = fork(|| act(pipe));
    drop(writer);
    let mut told = [0; 4];
    reader.read_exact(&mut told).expect("the child tells a pid");
    reap(child);
    let pid = u32::from_ne_bytes(told);
    made.push(Made {
        pid: child,
        creator: std::process::id(),
        executes: false,
    });
    made.push(Made {
        pid,
        creator: child,
        executes: false,
    });
    pid
}

/// Forks a child that runs `act` and ends. `act` runs in a copy of a process that has threads: it
/// may make system calls and nothing that takes a lock or memory.
fn fork(act: impl FnOnce()) -> u32 {
    // SAFETY: the child runs only `act`, held to the rule above by this file, and _exit(2).
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        act();
        // SAFETY: ends the child without running anything of the copied process.
        unsafe { libc::_exit(0) };
    }
    u32::try_from(pid).expect("fork")
}

/// Writes a pid into the pipe.
fn tell(pipe: libc::c_int, pid: u32) {
    let bytes = pid.to_ne_bytes();
    // SAFETY: the bytes are on the stack for the whole call. A short write shows as a short read.
    unsafe { libc::write(pipe, bytes.as_ptr().cast(), bytes.len()) };
}

/// Makes this process, and not init, the one that orphans below it fall to: init of a container
/// may never reap them.
fn adopt_orphans(adopt: bool) {
    let adopt = libc::c_ulong::from(adopt);
    // SAFETY: sets a flag of this process.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, adopt) };
    assert_eq!(result, 0, "prctl: {}", std::io::Error::last_os_error());
}

/// Waits for a child of this process.
fn reap(pid: u32) {
    let Ok(pid) = libc::pid_t::try_from(pid) else {
        return;
    };
    let mut status = 0;
    // SAFETY: waitpid writes one int.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
}
