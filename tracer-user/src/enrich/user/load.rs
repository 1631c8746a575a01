//! Reads the host's `passwd` and `group`, again when they change. I/O: not for the pipeline.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::Users;

/// Longest database that is read: four times what [`super::MAX_NAMES`] lines usually need.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The two files, and what was last read from them.
#[derive(Debug)]
pub struct UserFiles {
    passwd: PathBuf,
    group: PathBuf,
    seen: Option<(Stamp, Stamp)>,
    users: Users,
}

/// Tells one state of a file from another: replaced, grown or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// A database that could not be read.
#[derive(Debug)]
pub struct LoadError {
    path: PathBuf,
    cause: io::Error,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, cause } = self;
        write!(f, "{}: cannot read names: {cause}", path.display())
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

impl UserFiles {
    /// The host's, below the root directory `root`: `/`, or where a container has the host's files.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            passwd: root.join("etc/passwd"),
            group: root.join("etc/group"),
            seen: None,
            users: Users::default(),
        }
    }

    /// What was last read.
    #[must_use]
    pub const fn users(&self) -> &Users {
        &self.users
    }

    /// Reads the files where they changed since the last time, and says whether they did.
    ///
    /// # Errors
    ///
    /// [`LoadError`] where one cannot be read; the names read before stay.
    pub fn refresh(&mut self) -> Result<bool, LoadError> {
        let (passwd, passwd_stamp) = open(&self.passwd)?;
        let (group, group_stamp) = open(&self.group)?;
        let stamps = (passwd_stamp, group_stamp);
        if self.seen == Some(stamps) {
            return Ok(false);
        }
        let passwd = read(&self.passwd, passwd)?;
        let group = read(&self.group, group)?;
        self.users = Users::parse(&passwd, &group);
        self.seen = Some(stamps);
        Ok(true)
    }
}

fn open(path: &Path) -> Result<(File, Stamp), LoadError> {
    let open = || -> io::Result<(File, Stamp)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let stamp = Stamp {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        };
        Ok((file, stamp))
    };
    open().map_err(|cause| LoadError {
        path: path.to_owned(),
        cause,
    })
}

fn read(path: &Path, file: File) -> Result<Vec<u8>, LoadError> {
    crate::enrich::docroot::discover::jail::read_limited(file, MAX_BYTES).map_err(|cause| {
        LoadError {
            path: path.to_owned(),
            cause,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_files() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let mut files = UserFiles::new(root.path());
        let error = files.refresh().unwrap_err().to_string();
        assert!(error.contains("etc/passwd: cannot read names: "), "{error}");

        std::fs::write(root.path().join("etc/passwd"), "alice:x:1000:1000::/:\n").unwrap();
        std::fs::write(root.path().join("etc/group"), "staff:x:50:\n").unwrap();
        assert!(files.refresh().unwrap());
        assert!(!files.refresh().unwrap());
        assert_eq!(files.users().user(1000).as_deref(), Some("alice"));
        assert_eq!(files.users().group(50).as_deref(), Some("staff"));

        // As useradd does it: a new file in the place of the old.
        std::fs::write(root.path().join("etc/passwd+"), "bobby:x:1000:1000::/:\n").unwrap();
        std::fs::rename(
            root.path().join("etc/passwd+"),
            root.path().join("etc/passwd"),
        )
        .unwrap();
        assert!(files.refresh().unwrap());
        assert_eq!(files.users().user(1000).as_deref(), Some("bobby"));

        std::fs::remove_file(root.path().join("etc/group")).unwrap();
        assert!(files.refresh().is_err());
        assert_eq!(files.users().user(1000).as_deref(), Some("bobby"), "kept");
    }
}
