//! Names that another thread rewrites while the kernel reads them.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libc::{AT_FDCWD, O_CREAT, O_WRONLY};
use tracer::event::Payload;
use tracer_common::event::EventKind;
use tracer_common::probe::Tier;

use crate::child::alone;
use crate::facts::bytes;
use crate::stage::{Outcome, Skip, Stage, Test, tests};
use crate::sys;
use crate::sys::files::{self, Arg};

pub(crate) const TESTS: &[Test] = tests!("race":
    a_name_rewritten_during_the_call,
    threads_that_fight_for_a_name,
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

    /// As the kernel takes it.
    fn argument(&self) -> Arg<'static> {
        Arg::Number(self.words.as_ptr() as i64)
    }
}

fn a_name_rewritten_during_the_call(stage: &mut Stage) -> Outcome {
    if stage.watch.sensor.tier() != Tier::Tracepoint {
        return Err(Skip("this tier reads no names of the caller".into()));
    }
    if let Err(error) = files::LatePage::new() {
        return Err(Skip(format!("no userfaultfd(2): {error}")));
    }
    let folder = stage.folder();
    let [benign, shell, new] = ["benign.x", "shell.ph", "new"].map(|name| folder.join(name));
    fs::write(&benign, "x").unwrap();
    fs::write(&shell, "x").unwrap();
    let child = stage.tagged(|talk| {
        let name = Shared::new(&folder);
        name.set(*b"benign.x");
        // The kernel waits for the new name, and the old one is another when it goes on.
        let late = files::LatePage::new().unwrap();
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

/// Threads that rename and create, threads that rewrite the name; and how often each does.
const THREADS: usize = 24;
const REWRITERS: usize = 6;
const ROUNDS: usize = 40;

/// How often the kernel left a program out.
fn left_out(stage: &Stage) -> u64 {
    let misses = stage.watch.sensor.misses();
    misses.into_iter().map(|(_, count)| count).sum()
}

fn threads_that_fight_for_a_name(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let left_out_before = left_out(stage);
    let names: [[u8; 8]; 3] = [*b"aaaaaaaa", *b"bbbbbbbb", *b"cccccccc"];
    let paths: Vec<PathBuf> = names
        .iter()
        .map(|name| folder.join(str::from_utf8(name).unwrap()))
        .collect();
    let targets: Vec<PathBuf> = (0..THREADS)
        .map(|thread| folder.join(format!("t{thread}")))
        .collect();
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
    let faults = stage.watch.drops(tracer_common::probe::Drop::FileFault);
    child.go();
    child.end_well();
    stage.watch.exit(pid);
    let (mut opens, mut renames, mut flagged) = (0_u64, 0_u64, 0);
    let is_true = |path: &Vec<u8>| paths.iter().any(|one| bytes(one) == *path);
    let is_target = |path: &Vec<u8>| targets.iter().any(|one| bytes(one) == *path);
    for event in stage.watch.rest(pid) {
        match event.payload {
            // The path of a file that is open is the file's: it may be at its target by now.
            Payload::File(file) if file.kind == EventKind::Open => {
                assert!(is_true(&file.path) || is_target(&file.path), "{file:?}");
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
    print!("({renames} renames, {flagged} flagged) ");
    // A descriptor that another thread has closed is counted instead. None here is closed but by its own
    // thread.
    let lost = stage.watch.drops(tracer_common::probe::Drop::FileFault) - faults;
    assert_eq!(lost, 0);
    // Where programs are preempted, the kernel leaves one out while it waits on that CPU. It says how often,
    // so nothing is missing that was not told of; elsewhere nothing is missing.
    let left_out = left_out(stage) - left_out_before;
    let opened = ((THREADS - REWRITERS) * ROUNDS) as u64;
    assert!(renames <= renamed && opens <= opened, "{opens} {renames}");
    let missing = (renamed - renames) + (opened - opens);
    assert!(missing <= left_out, "{missing} > {left_out}");
    if stage.watch.sensor.tier() != Tier::Tracepoint {
        assert_eq!(flagged, 0, "this tier reads no names of the caller");
    }
    Ok(())
}
