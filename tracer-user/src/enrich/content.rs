//! What is in a file: its SHA-256, never a byte of it; and of which package it is. Pure; [`read`] and [`package`]
//! do the reading.

use std::sync::Arc;

use crate::event::{FileId, ProcessKey};

pub mod package;
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// How many bytes that is of.
    pub size: u64,
    /// Who wrote it had it open still.
    pub open: bool,
    /// Of an executable: whose it is.
    pub package: Package,
}

/// Whose a file is, as the package database of the process's root directory has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Package {
    /// There is no database that is understood, or it could not be read to its end.
    #[default]
    Unknown,
    /// It is being looked up.
    Pending,
    /// There is one, and no package has the path.
    Nobody,
    /// A package's.
    Owned(Arc<Owner>),
}

impl Package {
    /// The package, where it is one's.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        match self {
            Self::Owned(owner) => Some(owner),
            Self::Unknown | Self::Pending | Self::Nobody => None,
        }
    }

    /// Whether it may still be answered.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        matches!(self, Self::Pending)
    }

    /// Whether it is a package's, where that is known.
    #[must_use]
    pub const fn is_owned(&self) -> Option<bool> {
        match self {
            Self::Owned(_) => Some(true),
            Self::Nobody => Some(false),
            Self::Unknown | Self::Pending => None,
        }
    }
}

/// A package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Whose database it is in.
    pub kind: PackageKind,
    /// Its name, without an architecture.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
}

/// A kind of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageKind {
    /// Those of dpkg.
    Deb,
    /// Those of apk.
    Apk,
}

impl PackageKind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Apk => "apk",
        }
    }
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
