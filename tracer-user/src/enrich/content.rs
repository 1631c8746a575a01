//! What is in a file: its SHA-256, never a byte of it. Pure; [`read`] does the reading.

use crate::event::{FileId, ProcessKey};

pub mod read;

/// How long files may be that are hashed, bytes; zero for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashLimits {
    /// An executable.
    pub executable: u32,
    /// A file that a server wrote.
    pub written: u32,
}

impl Default for HashLimits {
    fn default() -> Self {
        Self {
            executable: 64 << 20,
            written: 16 << 20,
        }
    }
}

impl HashLimits {
    /// Whether anything is hashed.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.executable > 0 || self.written > 0
    }
}

/// A file at one moment: what an inode holds may be another later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Moment {
    /// The file.
    pub file: FileId,
    /// When it was executed or written, nanoseconds since boot.
    pub boot_ns: u64,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// How many bytes that is of.
    pub size: u64,
    /// Who wrote it had it open still.
    pub open: bool,
}

/// A file that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentAsked {
    /// Which.
    pub moment: Moment,
    /// What it is to the first of the processes.
    pub is: Is,
    /// Its path in the mount namespace.
    pub path: Vec<u8>,
    /// The mount namespace.
    pub mnt_ns: u32,
    /// The process that executed or wrote it, then others of the mount namespace.
    pub processes: Vec<ProcessKey>,
}

/// What a file is to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    /// What it executes.
    Executable,
    /// What it wrote.
    Written,
}
