//! Reads `passwd` and `group`: the host's, and those of other mount namespaces as their processes see
//! them. I/O: not for the pipeline.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::{INITIAL_USER_NS, IdMap, MAX_FOREIGN_NAMES, MAX_NAMES, Users, Whose};
use crate::enrich::docroot::discover::Entered;
use crate::enrich::docroot::discover::jail::read_limited;
use crate::event::ProcessKey;

/// Longest database that is read: four times what [`super::MAX_NAMES`] lines usually need.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Longest database of another mount namespace that is read, and longest map of numbers.
const MAX_FOREIGN_BYTES: usize = 256 * 1024;
const MAX_MAP_BYTES: usize = 64 * 1024;

/// The host's two files, and what was last read from them.
#[derive(Debug)]
pub struct UserFiles {
    passwd: PathBuf,
    group: PathBuf,
    seen: Option<(Stamp, Stamp)>,
    users: Users,
}

/// Tells one state of a file from another: replaced, grown or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    owner: u32,
}

/// States of the files that names are from: `passwd`, `group`. `None` for one that is not there.
pub type Stamps = [Option<Stamp>; 2];

/// What a look at the files of a namespace gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// They are as they were the last time.
    Same,
    /// What they say.
    Names(Users, Stamps),
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
        self.users = Users::parse(&passwd, &group, MAX_NAMES);
        self.seen = Some(stamps);
        Ok(true)
    }
}

/// Reads the names that the files of a mount namespace give, by numbers of the initial user namespace,
/// through one of its processes that still lives: one that sees the namespace's own root if there is
/// any, as a process may have locked itself up in a directory. May wait for a file system that a user's
/// program answers for, so it is for a thread that can be left behind.
///
/// `None` where none of the processes is left, or none of them is still in both namespaces.
#[must_use]
pub fn look(whose: Whose, processes: &[ProcessKey], known: Option<Stamps>) -> Option<Look> {
    let Whose { mnt_ns, user_ns } = whose;
    let mut locked_up = None;
    for key in processes {
        let Ok(entered) = Entered::new(*key, mnt_ns) else {
            continue;
        };
        if !entered.is_in("user", user_ns) {
            continue;
        }
        if entered.jail().is_whole() {
            return read_names(&entered, user_ns, known);
        }
        locked_up = locked_up.or(Some(entered));
    }
    read_names(&locked_up?, user_ns, known)
}

fn read_names(entered: &Entered, user_ns: u32, known: Option<Stamps>) -> Option<Look> {
    let jail = entered.jail();
    let files = [b"/etc/passwd".as_slice(), b"/etc/group"].map(|path| jail.file(path).ok());
    let stamps = files
        .each_ref()
        .map(|file| Some(Stamp::of(&file.as_ref()?.metadata().ok()?)));
    if known == Some(stamps) {
        return Some(Look::Same);
    }
    let maps = ["uid_map", "gid_map"].map(|name| {
        if user_ns == INITIAL_USER_NS {
            return None;
        }
        let text = entered.read(name, MAX_MAP_BYTES).unwrap_or_default();
        Some(IdMap::parse(&text))
    });
    let [users, _] = &maps;
    // Whose numbers a file has depends on whose it is: the host's own files, seen from a user namespace
    // that anybody may make, do not make its root of him.
    let is_theirs = stamps.map(|stamp| {
        let owner = stamp.map(|stamp| stamp.owner);
        owner
            .zip(users.as_ref())
            .is_some_and(|(owner, map)| map.has(owner))
    });
    let [passwd, group] = files.map(|file| {
        let text = file.and_then(|file| read_limited(file, MAX_FOREIGN_BYTES).ok());
        text.unwrap_or_default()
    });
    if !entered.is_still() {
        return None;
    }
    let [users, groups] = maps;
    let [users_are_theirs, groups_are_theirs] = is_theirs;
    let names = Users::parse(&passwd, &group, MAX_FOREIGN_NAMES).mapped(
        users.as_ref().filter(|_| users_are_theirs),
        groups.as_ref().filter(|_| groups_are_theirs),
    );
    Some(Look::Names(names, stamps))
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            owner: metadata.uid(),
        }
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
        Ok((file, Stamp::of(&metadata)))
    };
    open().map_err(|cause| LoadError {
        path: path.to_owned(),
        cause,
    })
}

fn read(path: &Path, file: File) -> Result<Vec<u8>, LoadError> {
    read_limited(file, MAX_BYTES).map_err(|cause| LoadError {
        path: path.to_owned(),
        cause,
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
        assert_eq!(files.users().user(1000), Some("alice"));
        assert_eq!(files.users().group(50), Some("staff"));

        // As useradd does it: a new file in the place of the old.
        std::fs::write(root.path().join("etc/passwd+"), "bobby:x:1000:1000::/:\n").unwrap();
        std::fs::rename(
            root.path().join("etc/passwd+"),
            root.path().join("etc/passwd"),
        )
        .unwrap();
        assert!(files.refresh().unwrap());
        assert_eq!(files.users().user(1000), Some("bobby"));

        std::fs::remove_file(root.path().join("etc/group")).unwrap();
        assert!(files.refresh().is_err());
        assert_eq!(files.users().user(1000), Some("bobby"), "kept");
    }
}
