//! Children of the tests: each does one thing, when it is told to, and says what it saw.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::sys;
use crate::watch::DEADLINE;

/// A child, killed and reaped when it goes out of scope.
pub(crate) struct Child {
    /// Its number.
    pub(crate) pid: u32,
    go: File,
    said: File,
    status: Option<i32>,
}

/// What a child has to do with its creator.
pub(crate) struct Talk {
    go: File,
    said: File,
}

impl Child {
    /// Makes a child that does `body` once it is told to [`Child::go`], and ends with what it
    /// returns.
    pub(crate) fn hold(body: impl FnOnce(&mut Talk) -> i32) -> Self {
        Self::hold_by(sys::fork, body)
    }

    /// The same, with another way to make a copy of this process.
    pub(crate) fn hold_by(
        copy: impl FnOnce() -> std::io::Result<u32>,
        body: impl FnOnce(&mut Talk) -> i32,
    ) -> Self {
        std::io::stdout().flush().unwrap();
        let (their_go, go) = sys::pipe();
        let (said, their_said) = sys::pipe();
        let pid = copy().unwrap();
        if pid == 0 {
            drop((go, said));
            sys::die_with_parent();
            let mut talk = Talk {
                go: their_go,
                said: their_said,
            };
            let done = catch_unwind(AssertUnwindSafe(|| {
                talk.wait();
                body(&mut talk)
            }));
            sys::leave(done.unwrap_or(101));
        }
        Self {
            pid,
            go,
            said,
            status: None,
        }
    }

    /// Lets it go on, one step.
    pub(crate) fn go(&mut self) {
        self.go.write_all(&[0]).unwrap();
    }

    /// The next number it says.
    pub(crate) fn hear(&mut self) -> u64 {
        let speaks = sys::wait_readable(&[self.said.as_raw_fd()], DEADLINE);
        assert!(speaks, "child {} is silent", self.pid);
        let mut number = [0; 8];
        // Written at once, so read at once.
        if let Err(error) = self.said.read_exact(&mut number) {
            let status = self.end();
            panic!(
                "child {} ended with {status:#x} before it spoke: {error}",
                self.pid
            );
        }
        u64::from_le_bytes(number)
    }

    /// The next process number it says.
    pub(crate) fn hear_pid(&mut self) -> u32 {
        u32::try_from(self.hear()).unwrap()
    }

    /// Waits for its end; gives its status as wait(2) does.
    pub(crate) fn end(&mut self) -> i32 {
        match self.status {
            Some(status) => status,
            None => *self.status.insert(reap(self.pid)),
        }
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn end_well(&mut self) {
        assert_eq!(self.end(), 0, "child {}", self.pid);
    }

    /// Kills it and waits for its end.
    pub(crate) fn kill(&mut self) {
        if self.status.is_none() {
            sys::kill(self.pid, libc::SIGKILL);
            self.end();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for the end of a child; gives its status.
pub(crate) fn reap(pid: u32) -> i32 {
    let mut status = None;
    until("a child ends", || {
        status = sys::reap(pid).unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// In a child: waits until its other threads are gone for the kernel too. A thread that was joined
/// may still be on its way out, and would take the end of the process for its own.
pub(crate) fn alone() {
    until("only one thread is left", || {
        std::fs::read_dir("/proc/self/task").unwrap().count() == 1
    });
}

impl Talk {
    /// Waits to be told to go on.
    pub(crate) fn wait(&mut self) {
        let mut byte = [0];
        self.go.read_exact(&mut byte).unwrap();
    }

    /// Says a number.
    pub(crate) fn say(&mut self, number: u64) {
        self.said.write_all(&number.to_le_bytes()).unwrap();
    }

    /// The same for another thread: one that listens, one that speaks.
    pub(crate) fn copy(&self) -> (Self, Self) {
        let copy = || Self {
            go: self.go.try_clone().unwrap(),
            said: self.said.try_clone().unwrap(),
        };
        (copy(), copy())
    }

    /// Says that it is as far as this.
    pub(crate) fn done(&mut self) {
        self.say(0);
    }
}

/// A program to run.
#[derive(Clone)]
pub(crate) struct Image {
    /// The name to give to execve.
    pub(crate) path: CString,
    /// Its arguments.
    pub(crate) argv: Vec<CString>,
    /// Its environment.
    pub(crate) env: Vec<CString>,
}

impl Image {
    /// This test program, or a copy of it, as a helper (see [`crate::helper`]).
    pub(crate) fn helper(path: &Path, action: &str) -> Self {
        Self {
            path: sys::c(path),
            argv: vec![sys::c(format!("helper-{action}"))],
            env: vec![c"LANG=C".into()],
        }
    }

    /// With one more argument.
    pub(crate) fn arg(mut self, argument: impl Into<Vec<u8>>) -> Self {
        self.argv.push(CString::new(argument).unwrap());
        self
    }

    /// Becomes it.
    pub(crate) fn exec(&self) -> ! {
        panic!(
            "{:?}: {}",
            self.path,
            sys::execve(&self.path, &self.argv, &self.env)
        )
    }

    /// Becomes it, in an open file.
    pub(crate) fn exec_file(&self, file: RawFd) -> ! {
        panic!(
            "{:?}: {}",
            self.path,
            sys::fexecve(file, &self.argv, &self.env)
        )
    }

    /// The argument area that the kernel makes for it.
    pub(crate) fn area(&self) -> Vec<u8> {
        let words = self.argv.iter().map(|word| word.as_bytes_with_nul());
        words.flatten().copied().collect()
    }
}

/// The numbers that a child says of a file it opened, in this order.
pub(crate) fn say_file(talk: &mut Talk, file: &impl std::os::fd::AsFd) {
    let file = File::from(file.as_fd().try_clone_to_owned().unwrap());
    let meta = file.metadata().unwrap();
    talk.say(sys::kernel_dev(meta.dev()).into());
    talk.say(meta.ino());
    talk.say(meta.size());
    talk.say(meta.mode().into());
    talk.say(meta.uid().into());
    talk.say(meta.gid().into());
    talk.say(meta.nlink());
    talk.say(sys::open_flags(file.as_raw_fd()).into());
}
