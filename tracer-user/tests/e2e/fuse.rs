//! A file system of the test's own that does not answer: what any user can have with FUSE.
//!
//! The protocol is that of include/uapi/linux/fuse.h, as far as it takes to mount, and to look up, open
//! and map the one file there is, which is never read. It ends with the value: the kernel then lets go
//! of everybody who waits for an answer.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::host::Skip;

/// What is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// Nothing but that it is mounted.
    Nothing,
    /// That there is [`Silent::file`], but not what is in it.
    AllButContent,
}

/// A mounted file system.
pub(crate) struct Silent {
    at: PathBuf,
    /// Aborts the connection when the last of its holders closes it.
    device: Option<Arc<File>>,
}

const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const INIT: u32 = 26;

const ROOT: u64 = 1;
const FILE: u64 = 2;

impl Silent {
    pub(crate) fn mount(at: &Path, answers: Answers) -> Result<Self, Skip> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = device.map_err(|error| Skip(format!("/dev/fuse: {error}")))?;
        let options = format!(
            "fd={},rootmode=40755,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).expect("no NUL");
        mount(
            "silent",
            at,
            "fuse",
            MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .map_err(|error| Skip(format!("cannot mount FUSE: {error}")))?;
        let device = Arc::new(device);
        let fuse = Self {
            at: at.to_owned(),
            device: Some(Arc::clone(&device)),
        };
        answer_one(&device);
        if answers == Answers::AllButContent {
            // Ends with the mount.
            std::thread::spawn(move || while answer_one(&device) {});
        }
        Ok(fuse)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.at.join("file")
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // As umount2(2) says of FUSE: who waits is let go, and the thread reads an error.
        unmount(&self.at, UnmountFlags::FORCE | UnmountFlags::DETACH).ok();
        self.device.take();
    }
}

/// Reads one request and answers it, unless it is one for content. False at the end.
fn answer_one(mut device: &File) -> bool {
    let mut request = vec![0_u8; 256 * 1024];
    if device.read(&mut request).is_err() {
        return false;
    }
    let number = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().expect("eight"));
    let opcode = u32::from_ne_bytes(request[4..8].try_into().expect("four"));
    let (unique, node) = (number(8), number(16));
    let (error, body) = match opcode {
        INIT => (0, init()),
        LOOKUP => (0, [words(&[FILE, 0, 0, 0, 0]), attributes(FILE)].concat()),
        GETATTR => (0, [words(&[0, 0]), attributes(node)].concat()),
        OPEN => (0, words(&[0, 0])),
        READ => return true,
        _ => (-libc::ENOSYS, Vec::new()),
    };
    let len = u32::try_from(16 + body.len()).expect("short");
    let mut answer = len.to_ne_bytes().to_vec();
    answer.extend(error.to_ne_bytes());
    answer.extend(unique.to_ne_bytes());
    answer.extend(body);
    // A request that needs no answer gets an error for it, and no harm is done.
    let _unasked = device.write(&answer);
    true
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `struct fuse_init_out` of protocol 7.31.
fn init() -> Vec<u8> {
    let mut out = Vec::new();
    for number in [7_u32, 31, 4096, 0, 16 | 16 << 16, 65_536, 1] {
        out.extend(number.to_ne_bytes());
    }
    out.resize(64, 0);
    out
}

/// `struct fuse_attr`.
fn attributes(node: u64) -> Vec<u8> {
    let mut out = words(&[node, 4096, 8, 0, 0, 0]);
    let mode = if node == ROOT {
        0o040_755_u32
    } else {
        0o100_644
    };
    for number in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        out.extend(number.to_ne_bytes());
    }
    out
}
