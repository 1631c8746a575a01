//! Names that another thread rewrites while the kernel reads them.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libc::{AF_INET, AT_FDCWD, O_CREAT, O_RDONLY, O_WRONLY};
use tracer::event::Payload;
use tracer_common::event::{EventKind, flag};
use tracer_common::probe::{Drop as Lost, Tier};

use crate::child::{alone, until};
use crate::facts::{self, bytes};
use crate::net;
use crate::stage::{Outcome, Skip, Stage, Test, tests};
use crate::sys;
use crate::sys::debug::{self, Registers};
use crate::sys::files::{self, Arg, LatePage};

pub(crate) const TESTS: &[Test] = tests!("race":
    a_name_rewritten_during_the_call,
    a_directory_changed_during_the_call,
    a_descriptors_name_put_there_during_the_call,
    threads_that_fight_for_a_name,
    a_call_rewritten_by_a_tracer,
    an_exec_rewritten_during_the_call,
    an_address_rewritten_during_the_call,
    descriptors_closed_at_once,
    a_thread_preempted_in_a_hook,
);

/// A path whose last eight bytes are written at once, so that it is one or another and never half of
/// each.
struct Shared {
    words: Vec<AtomicU64>,
    end: usize,
}

impl Shared {
    /// In this folder, whose name is padded with slashes until it ends where a word does.
    fn new(folder: &Path) -> Self {
        let mut text = folder.as_os_str().as_bytes().to_vec();
        while text.len() % 8 != 7 {
            text.push(b'/');
        }
        text.push(b'/');
        let end = text.len() / 8;
        text.extend_from_slice(&[0; 16]);
        let words = text
            .chunks_exact(8)
            .map(|word| AtomicU64::new(u64::from_ne_bytes(word.try_into().unwrap())));
        Self {
            words: words.collect(),
            end,
        }
    }

    /// Names another file of the folder.
    fn set(&self, name: [u8; 8]) {
        self.words[self.end].store(u64::from_ne_bytes(name), Ordering::Relaxed);
    }

    /// Where it is.
    fn address(&self) -> i64 {
        self.words.as_ptr() as i64
    }

    /// As the kernel takes it.
    fn argument(&self) -> Arg<'static> {
        Arg::Number(self.address())
    }
}

fn needs_late_pages() -> Outcome {
    match LatePage::new() {
        Ok(_) => Ok(()),
        Err(error) => Err(Skip(format!("no userfaultfd(2): {error}"))),
    }
}

fn a_name_rewritten_during_the_call(stage: &mut Stage) -> Outcome {
    if stage.watch.sensor.tier() != Tier::Tracepoint {
        return Err(Skip("this tier reads no names of the caller".into()));
    }
    needs_late_pages()?;
    let folder = stage.folder();
    let [benign, shell, new] = ["benign.x", "shell.ph", "new"].map(|name| folder.join(name));
    fs::write(&benign, "x").unwrap();
    fs::write(&shell, "x").unwrap();
    let child = stage.tagged(|talk| {
        let name = Shared::new(&folder);
        name.set(*b"benign.x");
        // The kernel waits for the new name, and the old one is another when it goes on.
        let late = LatePage::new().unwrap();
        std::thread::scope(|scope| {
            let rename = || {
                let here = Arg::Number(AT_FDCWD.into());
                let (old, new) = (name.argument(), Arg::Number(late.address()));
                files::call(libc::SYS_renameat, &[here, old, here, new])
            };
            let rename = scope.spawn(rename);
            assert!(late.wait());
            name.set(*b"shell.ph");
            late.give(&sys::c(&new)).unwrap();
            rename.join().unwrap().unwrap();
        });
        alone();
        talk.wait();
        0
    });
    let (_, rename) = stage.watch.rename(child.pid);
    assert_eq!((&rename.old, &rename.new), (&bytes(&shell), &bytes(&new)));
    assert_eq!(rename.early, Some((bytes(&benign), bytes(&new))));
    Ok(())
}

/// How often the kernel left a program out, as another thread was preempted in it on the same CPU: counted
/// by the kernel, and told.
fn missed(stage: &Stage) -> u64 {
    let misses = stage.watch.sensor.misses();
    misses.into_iter().map(|(_, count)| count).sum()
}

/// A descriptor that becomes another's, or another working directory, while the call waits for a name:
/// which of them the kernel took is not known, and neither is a name that came later.
fn a_directory_changed_during_the_call(stage: &mut Stage) -> Outcome {
    if stage.watch.sensor.tier() != Tier::Tracepoint {
        return Err(Skip("this tier reads no names of the caller".into()));
    }
    needs_late_pages()?;
    const DIRECTORY: i32 = 40;
    const FILE: i32 = 41;
    let folder = stage.folder();
    let folders = ["one", "two"].map(|name| folder.join(name));
    for folder in &folders {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), "x").unwrap();
    }
    let mut child = stage.tagged(|talk| {
        let [one, other] = folders.each_ref().map(|name| fs::File::open(name).unwrap());
        let files = folders.each_ref().map(|folder| {
            let file = fs::OpenOptions::new().write(true).open(folder.join("file"));
            file.unwrap()
        });
        sys::dup2(one.as_raw_fd(), DIRECTORY);
        sys::dup2(files[0].as_raw_fd(), FILE);
        talk.done();
        talk.wait();
        let number = |fd: i32| Arg::Number(fd.into());
        let during =
            |call: &(dyn Fn(Arg<'static>) + Sync), text: &std::ffi::CStr, change: &dyn Fn()| {
                let late = LatePage::new().unwrap();
                std::thread::scope(|scope| {
                    let call = scope.spawn(|| call(Arg::Number(late.address())));
                    assert!(late.wait());
                    change();
                    late.give(text).unwrap();
                    call.join().unwrap();
                });
            };
        // By a directory's descriptor,
        let mkdir = |late| {
            files::call(libc::SYS_mkdirat, &[number(DIRECTORY), late, number(0o755)]).unwrap();
        };
        during(&mkdir, c"made", &|| sys::dup2(other.as_raw_fd(), DIRECTORY));
        // by the working directory,
        sys::chdir(&one);
        let mkdir = |late| {
            files::call(libc::SYS_mkdirat, &[number(AT_FDCWD), late, number(0o755)]).unwrap();
        };
        during(&mkdir, c"also", &|| sys::chdir(&other));
        // by a file's descriptor,
        let set = |late| {
            let (value, len) = (Arg::Bytes(b"x"), Arg::Number(1));
            let set = [number(FILE), late, value, len, number(0)];
            files::call(libc::SYS_fsetxattr, &set).unwrap();
        };
        during(&set, c"trusted.tracer", &|| {
            sys::dup2(files[1].as_raw_fd(), FILE)
        });
        // and where nobody changes anything.
        let name = sys::c("last");
        let last = [number(DIRECTORY), Arg::Text(&name), number(0o755)];
        files::call(libc::SYS_mkdirat, &last).unwrap();
        alone();
        0
    });
    child.hear();
    child.go();
    child.end_well();
    let both = flag::BASE_CHANGED | flag::UNVERIFIED;
    let moved = both | flag::PATH_TRUNCATED | flag::RESOLVED;
    for name in ["made", "also"] {
        let (meta, mkdir) = stage.watch.change(EventKind::Mkdir, child.pid);
        assert_eq!(mkdir.new, bytes(folders[1].join(name)));
        assert_eq!(meta.flags & moved, both | flag::PATH_TRUNCATED);
    }
    let (meta, set) = stage.watch.change(EventKind::Setxattr, child.pid);
    assert_eq!(set.new, bytes(folders[1].join("file")));
    assert_eq!(
        meta.flags & moved,
        flag::BASE_CHANGED | flag::PATH_TRUNCATED
    );
    let (meta, last) = stage.watch.change(EventKind::Mkdir, child.pid);
    assert_eq!(last.new, bytes(folders[1].join("last")));
    assert_eq!(meta.flags & moved, 0);
    Ok(())
}

/// The name of a descriptor takes the place of another name: the file is not believed to be the
/// descriptor's.
fn a_descriptors_name_put_there_during_the_call(stage: &mut Stage) -> Outcome {
    if stage.watch.sensor.tier() != Tier::Tracepoint {
        return Err(Skip("this tier reads no names of the caller".into()));
    }
    needs_late_pages()?;
    const FILE: i32 = 40;
    let folder = stage.folder();
    let [evil, harmless, new, second] =
        ["evil", "harmless", "new", "second"].map(|name| folder.join(name));
    for file in [&evil, &harmless] {
        fs::write(file, "x").unwrap();
    }
    let child = stage.tagged(|talk| {
        let file = fs::File::open(&harmless).unwrap();
        sys::dup2(file.as_raw_fd(), FILE);
        let link = |name: &Words, new: &Path, change: &dyn Fn()| {
            let late = LatePage::new().unwrap();
            std::thread::scope(|scope| {
                let link = || {
                    let here = Arg::Number(AT_FDCWD.into());
                    let (old, new) = (name.argument(), Arg::Number(late.address()));
                    let follow = Arg::Number(libc::AT_SYMLINK_FOLLOW.into());
                    files::call(libc::SYS_linkat, &[here, old, here, new, follow])
                };
                let link = scope.spawn(link);
                assert!(late.wait());
                change();
                late.give(&sys::c(new)).unwrap();
                link.join().unwrap().unwrap();
            });
        };
        let name = Words::new(evil.as_os_str().as_bytes());
        link(&name, &new, &|| name.set(b"/proc/self/fd/40"));
        link(&name, &second, &|| ());
        alone();
        talk.wait();
        0
    });
    let (meta, link) = stage.watch.change(EventKind::Link, child.pid);
    assert_eq!((&link.old, &link.new), (&bytes(&harmless), &bytes(&new)));
    assert_eq!(link.early, Some((bytes(&evil), bytes(&new))));
    assert_ne!(meta.flags & flag::BASE_CHANGED, 0);
    let (meta, link) = stage.watch.change(EventKind::Link, child.pid);
    assert_eq!((&link.old, &link.new), (&bytes(&harmless), &bytes(&second)));
    assert_eq!((link.early, meta.flags & flag::BASE_CHANGED), (None, 0));
    Ok(())
}

/// A text of any length that is rewritten while the kernel waits.
struct Words(Vec<AtomicU64>);

impl Words {
    fn new(text: &[u8]) -> Self {
        let words = Self((0..64).map(|_| AtomicU64::new(0)).collect());
        words.set(text);
        words
    }

    fn set(&self, text: &[u8]) {
        let mut bytes = text.to_vec();
        bytes.resize(self.0.len() * 8, 0);
        for (word, bytes) in self.0.iter().zip(bytes.chunks_exact(8)) {
            word.store(
                u64::from_ne_bytes(bytes.try_into().unwrap()),
                Ordering::Relaxed,
            );
        }
    }

    fn argument(&self) -> Arg<'static> {
        Arg::Number(self.0.as_ptr() as i64)
    }
}

/// Threads that rename and create, threads that rewrite the name; and how often each does.
const THREADS: usize = 24;
const REWRITERS: usize = 6;
const ROUNDS: usize = 40;

fn threads_that_fight_for_a_name(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let names: [[u8; 8]; 3] = [*b"aaaaaaaa", *b"bbbbbbbb", *b"cccccccc"];
    let paths: Vec<PathBuf> = names
        .iter()
        .map(|name| folder.join(str::from_utf8(name).unwrap()))
        .collect();
    let targets: Vec<PathBuf> = (0..THREADS)
        .map(|thread| folder.join(format!("t{thread}")))
        .collect();
    let missed_before = missed(stage);
    let mut child = stage.tagged(|talk| {
        let name = Shared::new(&folder);
        name.set(names[0]);
        let over = AtomicBool::new(false);
        let renamed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let rewriters: Vec<_> = (0..REWRITERS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut at = 0;
                        while !over.load(Ordering::Relaxed) {
                            name.set(names[at % names.len()]);
                            at += 1;
                        }
                    })
                })
                .collect();
            let workers: Vec<_> = targets[REWRITERS..]
                .iter()
                .map(|target| {
                    let (name, renamed) = (&name, &renamed);
                    scope.spawn(move || {
                        let here = Arg::Number(AT_FDCWD.into());
                        let target = sys::c(target);
                        for _ in 0..ROUNDS {
                            let how = Arg::Number((O_WRONLY | O_CREAT).into());
                            let mode = Arg::Number(0o600);
                            let arguments = [here, name.argument(), how, mode];
                            let fd = files::call(libc::SYS_openat, &arguments).unwrap();
                            sys::close(fd as i32);
                            let arguments = [here, name.argument(), here, Arg::Text(&target)];
                            // Another thread may have taken it away.
                            if files::call(libc::SYS_renameat, &arguments).is_ok() {
                                renamed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    })
                })
                .collect();
            for worker in workers {
                worker.join().unwrap();
            }
            over.store(true, Ordering::Relaxed);
            for rewriter in rewriters {
                rewriter.join().unwrap();
            }
        });
        alone();
        talk.say(renamed.load(Ordering::Relaxed));
        talk.wait();
        0
    });
    let renamed = child.hear();
    let pid = child.pid;
    let missed = missed(stage) - missed_before;
    let faults = stage.watch.drops(Lost::FileFault);
    child.go();
    child.end_well();
    stage.watch.exit(pid);
    let (mut opens, mut renames, mut flagged, mut cut_short) = (0_u64, 0_u64, 0, 0);
    let is_true = |path: &Vec<u8>| paths.iter().any(|one| bytes(one) == *path);
    let is_target = |path: &Vec<u8>| targets.iter().any(|one| bytes(one) == *path);
    for event in stage.watch.rest(pid) {
        match event.payload {
            // The path of a file that is open is the file's: it may be at its target by now, or be renamed
            // as often as the kernel side looks.
            Payload::File(file) if file.kind == EventKind::Open => {
                let cut = event.meta.flags & flag::PATH_TRUNCATED != 0;
                assert!(
                    cut || is_true(&file.path) || is_target(&file.path),
                    "{file:?}"
                );
                cut_short += u64::from(cut);
                opens += 1;
            }
            Payload::Change(change) if change.kind == EventKind::Rename => {
                assert!(is_true(&change.old) && is_target(&change.new), "{change:?}");
                flagged += u64::from(change.early.is_some());
                renames += 1;
            }
            _ => {}
        }
    }
    print!("({renames} renames, {flagged} flagged, {cut_short} cut, {missed} left out) ");
    // Being read and being renamed have to meet time and again for a name to be cut.
    assert!(cut_short <= opens / 100, "{cut_short} of {opens}");
    // A descriptor that another thread has closed is counted instead. None here is closed but by its own
    // thread.
    let lost = stage.watch.drops(Lost::FileFault) - faults;
    assert_eq!(lost, 0);
    // Where programs are preempted, the kernel leaves one out while it waits on that CPU. It says how often,
    // so nothing is missing that was not told of; elsewhere nothing is missing.
    let opened = ((THREADS - REWRITERS) * ROUNDS) as u64;
    assert!(renames <= renamed && opens <= opened, "{opens} {renames}");
    let missing = (renamed - renames) + (opened - opens);
    assert!(missing <= missed, "{missing} > {missed}");
    if stage.watch.sensor.tier() != Tier::Tracepoint {
        assert_eq!(flagged, 0, "this tier reads no names of the caller");
    }
    Ok(())
}

/// A debugger gives a call another number and other arguments when it has begun: what is told is what was
/// done.
fn a_call_rewritten_by_a_tracer(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let [benign, shell] = ["benign.x", "shell.php"].map(|name| folder.join(name));
    fs::write(&benign, "x").unwrap();
    let (read, written) = (sys::c(&benign), sys::c(&shell));
    // Both have them at the same addresses.
    let here = AT_FDCWD as u64;
    let open = [
        here,
        written.as_ptr() as u64,
        (O_WRONLY | O_CREAT) as u64,
        0o600,
    ];
    let mut child = stage.tagged(|talk| {
        let pid = sys::fork().unwrap();
        if pid == 0 {
            debug::traced();
            // Neither is of any interest.
            sys::ppid();
            drop(sys::openat(AT_FDCWD, &read, O_RDONLY, 0));
            sys::leave(0);
        }
        talk.say(pid.into());
        assert_eq!(debug::stopped(pid), Some(libc::SIGSTOP));
        debug::tell_calls(pid);
        let (mut begins, mut replaced) = (false, 0);
        debug::to_next_call(pid);
        while let Some(signal) = debug::stopped(pid) {
            assert_eq!(signal, libc::SIGTRAP | 0x80);
            begins = !begins;
            let registers = Registers::of(pid);
            if begins && [libc::SYS_getppid, libc::SYS_openat].contains(&registers.call()) {
                registers.replace(pid, libc::SYS_openat, open);
                replaced += 1;
            }
            debug::to_next_call(pid);
        }
        talk.say(replaced);
        0
    });
    let traced = child.hear_pid();
    assert_eq!(child.hear(), 2);
    child.end_well();
    for created in [true, false] {
        let (_, open) = stage.watch.open(traced);
        assert_eq!((open.path, open.created), (bytes(&shell), created));
        assert_eq!(open.file, facts::file(&shell));
    }
    Ok(())
}

fn an_exec_rewritten_during_the_call(stage: &mut Stage) -> Outcome {
    needs_late_pages()?;
    let folder = stage.folder();
    let [benign, shell] = ["benign.x", "shell.ph"].map(|name| folder.join(name));
    for path in [&benign, &shell] {
        fs::copy(&stage.program, path).unwrap();
    }
    let child = stage.tagged(|_| {
        let (name, word) = (Shared::new(&folder), Shared::new(Path::new("a word")));
        name.set(*b"benign.x");
        word.set(*b"harmless");
        // The kernel has the name when it takes the last argument, and it takes that one first.
        let late = LatePage::new().unwrap();
        let list = [
            c"helper-pause".as_ptr() as i64,
            word.address(),
            late.address(),
            0,
        ];
        let list = list.map(i64::to_ne_bytes).concat();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(late.wait());
                name.set(*b"shell.ph");
                word.set(*b"harmful!");
                late.give(c"end").unwrap();
            });
            let arguments = [name.argument(), Arg::Bytes(&list), Arg::Number(0)];
            files::call(libc::SYS_execve, &arguments).unwrap();
        });
        1
    });
    let (meta, exec) = stage.watch.exec(child.pid);
    assert_eq!(meta.flags, 0);
    assert_eq!(
        (&exec.exe, exec.file),
        (&bytes(&benign), facts::file(&benign))
    );
    assert!(exec.filename.ends_with(b"/benign.x"), "{exec:?}");
    // What the program was given.
    assert!(exec.args[1].ends_with(b"harmful!"), "{exec:?}");
    let words = fs::read(format!("/proc/{}/cmdline", child.pid)).unwrap();
    assert_eq!(words, [exec.args.join(&0), vec![0]].concat());
    Ok(())
}

/// The peer that is told is the one that was reached. A datagram's is kept by nobody: a tier that has it
/// from the caller says so.
fn an_address_rewritten_during_the_call(stage: &mut Stage) -> Outcome {
    needs_late_pages()?;
    let local = (Ipv4Addr::LOCALHOST, 0);
    let listeners = [(); 2].map(|()| TcpListener::bind(local).unwrap());
    let receivers = [(); 2].map(|()| UdpSocket::bind(local).unwrap());
    let word = |address: SocketAddr| {
        let bytes = net::inet(address);
        u64::from_ne_bytes(bytes[..8].try_into().unwrap())
    };
    let [one, other] = [0, 1].map(|at| word(listeners[at].local_addr().unwrap()));
    let [this, that] = [0, 1].map(|at| word(receivers[at].local_addr().unwrap()));
    let calls = [
        (libc::SOCK_STREAM, libc::SYS_connect, one, other),
        (libc::SOCK_DGRAM, libc::SYS_sendto, this, that),
    ];
    let mut child = stage.tagged(|talk| {
        for (kind, call, before, after) in calls {
            let socket = net::socket(AF_INET, kind);
            // Family, port and address are there, the rest of the structure is waited for.
            let late = LatePage::new().unwrap();
            late.before().store(before, Ordering::Relaxed);
            let (fd, zero) = (Arg::Number(socket.as_raw_fd().into()), Arg::Number(0));
            let (at, len) = (Arg::Number(late.address() - 8), Arg::Number(16));
            let arguments = match call {
                libc::SYS_connect => vec![fd, at, len],
                _ => vec![fd, Arg::Bytes(b"x"), Arg::Number(1), zero, at, len],
            };
            std::thread::scope(|scope| {
                let made = scope.spawn(move || files::call(call, &arguments));
                assert!(late.wait());
                late.before().store(after, Ordering::Relaxed);
                late.give(c"").unwrap();
                made.join().unwrap().unwrap();
            });
            talk.done();
            talk.wait();
        }
        alone();
        0
    });
    let port = |info: &tracer_common::event::FdInfo| info.remote_port;
    child.hear();
    for listener in &listeners {
        listener.set_nonblocking(true).unwrap();
    }
    let reached = listeners.iter().find(|one| one.accept().is_ok()).unwrap();
    let (meta, connect) = stage.watch.socket(EventKind::Connect, child.pid);
    assert_eq!(port(&connect.socket), reached.local_addr().unwrap().port());
    assert_ne!(meta.flags & flag::RESOLVED, 0);

    child.go();
    child.hear();
    for receiver in &receivers {
        receiver.set_nonblocking(true).unwrap();
    }
    let received = |one: &&UdpSocket| one.recv(&mut [0]).is_ok();
    let mut reached = None;
    until("a datagram comes", || {
        reached = receivers.iter().find(received);
        reached.is_some()
    });
    let (meta, send) = stage.watch.socket(EventKind::Send, child.pid);
    if meta.tier == Tier::Lsm {
        assert_eq!(
            port(&send.socket),
            reached.unwrap().local_addr().unwrap().port()
        );
        assert_ne!(meta.flags & flag::RESOLVED, 0);
    } else {
        assert_eq!(meta.flags & flag::RESOLVED, 0, "the caller's word");
    }
    child.go();
    child.end_well();
    Ok(())
}

/// Threads take away what others open before their calls are done, and write to it. Then the tracepoint
/// tier finds nothing at the open, which it counts, or what has the number now; but a write tells of each
/// file that there is something in. The other tier does not look at numbers.
fn descriptors_closed_at_once(stage: &mut Stage) -> Outcome {
    const OPENERS: usize = 2;
    const FILES: usize = 150;
    const FIRST: i32 = 200;
    const COPIES: i32 = 500;
    let folder = stage.folder();
    let faults = stage.watch.drops(Lost::FileFault);
    let missed_before = missed(stage);
    let mut child = stage.server(|_| {
        // Numbers from here on are nobody's but the openers'.
        while sys::openat(AT_FDCWD, c"/dev/null", O_RDONLY, 0)
            .is_ok_and(|file| std::os::fd::IntoRawFd::into_raw_fd(file) < FIRST)
        {}
        sys::close(FIRST);
        let all = FIRST..FIRST + 1 + OPENERS as i32;
        let number = |fd: i32| Arg::Number(fd.into());
        let over = AtomicBool::new(false);
        let close = || {
            while !over.load(Ordering::Relaxed) {
                for fd in all.clone() {
                    let _not_open = files::call(libc::SYS_close, &[number(fd)]);
                }
                std::thread::yield_now();
            }
        };
        let write = || {
            while !over.load(Ordering::Relaxed) {
                for fd in all.clone() {
                    let copy = [number(fd), number(libc::F_DUPFD), number(COPIES)];
                    let Ok(copy) = files::call(libc::SYS_fcntl, &copy) else {
                        continue;
                    };
                    let copy = Arg::Number(copy.into());
                    let write = [copy, Arg::Bytes(b"x"), number(1)];
                    files::call(libc::SYS_write, &write).unwrap();
                    files::call(libc::SYS_close, &[copy]).unwrap();
                }
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            let others = [scope.spawn(close), scope.spawn(write)];
            let openers: Vec<_> = (0..OPENERS)
                .map(|opener| {
                    let folder = &folder;
                    scope.spawn(move || {
                        for file in 0..FILES {
                            let name = sys::c(folder.join(format!("{opener}-{file}")));
                            let how = Arg::Number((O_WRONLY | O_CREAT).into());
                            let here = Arg::Number(AT_FDCWD.into());
                            let arguments = [here, Arg::Text(&name), how, Arg::Number(0o600)];
                            let fd = files::call(libc::SYS_openat, &arguments).unwrap();
                            // Closed: then each opener has one open at most.
                            let fd = Arg::Number(fd.into());
                            let flags = [fd, Arg::Number(libc::F_GETFD.into())];
                            while files::call(libc::SYS_fcntl, &flags).is_ok() {
                                std::thread::yield_now();
                            }
                        }
                    })
                })
                .collect();
            for opener in openers {
                opener.join().unwrap();
            }
            over.store(true, Ordering::Relaxed);
            for other in others {
                other.join().unwrap();
            }
        });
        alone();
    });
    child.hear();
    child.go();
    child.end_well();
    stage.watch.exit(child.pid);
    let rest = stage.watch.rest(child.pid);
    let of_kind = |kind| -> Vec<&[u8]> {
        let paths = rest.iter().filter_map(|event| match &event.payload {
            Payload::File(file) if file.kind == kind => Some(file.path.as_slice()),
            _ => None,
        });
        paths.collect()
    };
    let (opened, written) = (of_kind(EventKind::Open), of_kind(EventKind::Write));
    let lost = stage.watch.drops(Lost::FileFault) - faults;
    let missed = missed(stage) - missed_before;
    print!(
        "({} opens told, {lost} not, {} writes told, {missed} left out) ",
        opened.len(),
        written.len()
    );
    let (seen, due) = (opened.len() as u64 + lost, (OPENERS * FILES) as u64);
    assert!(seen <= due && seen + missed >= due);
    let told: BTreeSet<_> = opened.iter().chain(&written).copied().collect();
    let mut unseen = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let path = bytes(entry.path());
        let is_empty = entry.metadata().unwrap().len() == 0;
        unseen += u64::from(!is_empty && !told.contains(path.as_slice()));
    }
    assert!(unseen <= missed, "{unseen} written files");
    if stage.is_lsm() {
        assert_eq!((lost, written.len()), (0, 0));
    }
    Ok(())
}

/// A thread of the lowest priority is in the hook most of the time, and another preempts it there to open
/// files on the same CPU. Where programs can be preempted the kernel leaves out the second; what it left
/// out it counts.
fn a_thread_preempted_in_a_hook(stage: &mut Stage) -> Outcome {
    const FILES: u64 = 200;
    let folder = stage.folder();
    let noise = sys::c(folder.join("noise"));
    let missed_before = missed(stage);
    let mut child = stage.server(|_| {
        sys::stay_on(sys::cpus()[0]);
        let over = AtomicBool::new(false);
        let open = |name: &std::ffi::CStr| {
            drop(sys::openat(AT_FDCWD, name, O_WRONLY | O_CREAT, 0o600).unwrap());
        };
        std::thread::scope(|scope| {
            let lowest = scope.spawn(|| {
                sys::process::yield_to_all();
                while !over.load(Ordering::Relaxed) {
                    open(&noise);
                }
            });
            for file in 0..FILES {
                // The other one runs until this ends, at whatever place it is in then.
                std::thread::sleep(std::time::Duration::from_micros(300 + file));
                open(&sys::c(folder.join(format!("quiet-{file}"))));
            }
            over.store(true, Ordering::Relaxed);
            lowest.join().unwrap();
        });
        alone();
    });
    child.hear();
    child.go();
    child.end_well();
    stage.watch.exit(child.pid);
    let rest = stage.watch.rest(child.pid);
    let is_quiet = |event: &&tracer::event::Event| match &event.payload {
        Payload::File(file) => file.path.starts_with(&bytes(folder.join("quiet-"))),
        _ => false,
    };
    let (told, missed) = (
        rest.iter().filter(is_quiet).count() as u64,
        missed(stage) - missed_before,
    );
    print!("({told} of {FILES} told, {missed} left out) ");
    assert!(told <= FILES && told + missed >= FILES);
    Ok(())
}
