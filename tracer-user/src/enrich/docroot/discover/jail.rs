//! Reading files as another process sees them, without ever leaving its root directory.
//!
//! Whoever controls that root controls names, links and files in it. So: paths are resolved by the
//! kernel within the root (`RESOLVE_IN_ROOT`), files are opened for reading only once it is known that
//! they are regular and on a file system that answers by itself, and every read has a limit.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::path;

/// File systems whose reads a user's program answers, or has side effects (linux/magic.h).
const REFUSED: &[(u32, &str)] = &[
    (0x6573_5546, "FUSE"),
    (0x0000_9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x6367_7270, "cgroup2"),
    (0x0000_0187, "autofs"),
];

/// A file or directory at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Device and inode.
    pub file: (u64, u64),
    /// Size, and the times of the last change of its content and of anything of it. Who may write a file
    /// can set the first time; nobody sets the second.
    pub content: (i64, (i64, u64), (i64, u64)),
}

/// A root directory.
#[derive(Debug)]
pub struct Jail {
    root: OwnedFd,
    /// The root as seen from the root of its mount namespace; empty where they are one.
    prefix: Vec<u8>,
}

impl Jail {
    /// The jail below an open directory.
    ///
    /// # Errors
    ///
    /// Where `/proc` does not tell the directory's path.
    pub fn new(root: OwnedFd) -> io::Result<Self> {
        let prefix = path_of(&root)?;
        let prefix = if prefix == b"/" { Vec::new() } else { prefix };
        Ok(Self { root, prefix })
    }

    /// A path of the jail as its mount namespace knows it, which is how the kernel's events name it.
    #[must_use]
    pub fn outside(&self, inside: &[u8]) -> Vec<u8> {
        [self.prefix.as_slice(), inside].concat()
    }

    /// A path of the mount namespace as the jail knows it.
    #[must_use]
    pub fn inside<'a>(&self, outside: &'a [u8]) -> &'a [u8] {
        match outside.strip_prefix(self.prefix.as_slice()) {
            Some(rest) if rest.starts_with(b"/") => rest,
            _ => outside,
        }
    }

    /// The content of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// Where there is no such file, or it is none that is read here.
    pub fn read(&self, inside: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        read_limited(self.file(inside)?, limit)
    }

    /// A regular file, open for reading.
    ///
    /// # Errors
    ///
    /// As [`Self::read`].
    pub fn file(&self, inside: &[u8]) -> io::Result<File> {
        // O_PATH first: to open a FIFO or a device is already to do something to it.
        readable(&self.open(inside, OFlags::PATH)?)
    }

    /// A file, to ask the kernel about, whose name is no symbolic link; nothing of it can be read.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn place(&self, inside: &[u8]) -> io::Result<OwnedFd> {
        self.open(inside, OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// Whether the root is that of its mount namespace.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.prefix.is_empty()
    }

    /// Whether only root can change a file, or what it is the name of: it and the directories of its name
    /// and of where that leads are root's, and nobody else's to write.
    #[must_use]
    pub fn is_roots_alone(&self, inside: &[u8]) -> bool {
        let only_root = |place: &OwnedFd| {
            rustix::fs::fstat(place).is_ok_and(|stat| stat.st_uid == 0 && stat.st_mode & 0o022 == 0)
        };
        let Some((place, real)) = self
            .open(inside, OFlags::PATH)
            .ok()
            .and_then(|place| Some((named(&place)?, place)))
            .map(|(real, place)| (place, real))
        else {
            return false;
        };
        only_root(&place)
            && [inside, self.inside(&real)].iter().all(|file| {
                let directory = self.directory(path::parent(file));
                directory.is_ok_and(|directory| only_root(&directory))
            })
    }

    /// The names in a directory, sorted, at most `limit`; and whether there were more.
    ///
    /// # Errors
    ///
    /// Where there is no such directory, or it is none that is read here.
    pub fn list(&self, inside: &[u8], limit: usize) -> io::Result<(Vec<Vec<u8>>, bool)> {
        let mut names = Vec::new();
        let more = self.each(inside, limit, |name| names.push(name.to_vec()))?;
        names.sort_unstable();
        Ok((names, more))
    }

    /// Hands over the names in a directory as they come, at most `limit`. True where there were more.
    ///
    /// # Errors
    ///
    /// Where there is no such directory, or it is none that is read here.
    pub fn each(
        &self,
        inside: &[u8],
        limit: usize,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<bool> {
        // As above: to open it for reading is to ask the file system.
        let place = self.directory(inside)?;
        answers_by_itself(&place)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(own_link(&place), flags, Mode::empty())?;
        let mut left = limit;
        for entry in rustix::fs::Dir::new(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let Some(rest) = left.checked_sub(1) else {
                return Ok(true);
            };
            left = rest;
            take(name);
        }
        Ok(false)
    }

    /// Whether there is such a directory.
    #[must_use]
    pub fn is_dir(&self, inside: &[u8]) -> bool {
        self.directory(inside).is_ok()
    }

    /// A directory, to ask the kernel about; nothing of it can be read.
    ///
    /// # Errors
    ///
    /// Where there is no such directory.
    pub fn directory(&self, inside: &[u8]) -> io::Result<OwnedFd> {
        self.open(inside, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Where a path leads once every link is followed, as the mount namespace knows it; `None` where
    /// there is nothing.
    #[must_use]
    pub fn canonical(&self, inside: &[u8]) -> Option<Vec<u8>> {
        named(&self.open(inside, OFlags::PATH).ok()?)
    }

    /// What tells whether a file or directory is still the one, and unchanged; `None` where there is
    /// nothing.
    #[must_use]
    pub fn state(&self, inside: &[u8]) -> Option<State> {
        let stat = rustix::fs::fstat(self.open(inside, OFlags::PATH).ok()?).ok()?;
        Some(State {
            file: (stat.st_dev, stat.st_ino),
            content: (
                stat.st_size,
                (stat.st_mtime, stat.st_mtime_nsec),
                (stat.st_ctime, stat.st_ctime_nsec),
            ),
        })
    }

    fn open(&self, inside: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        // The kernel asks to try again where a rename raced with a `..` (openat2(2)).
        let mut tries = 4;
        loop {
            match rustix::fs::openat2(&self.root, inside, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) if tries > 0 => tries -= 1,
                result => return result.map_err(Into::into),
            }
        }
    }
}

/// The path of what a path led to.
fn named(place: &OwnedFd) -> Option<Vec<u8>> {
    let path = path_of(place).ok()?;
    // The kernel marks what was removed meanwhile; such a path names nothing.
    path::normalise(&path).filter(|path| !path.ends_with(b" (deleted)"))
}

/// Opens for reading what is known by an `O_PATH` descriptor, if it is a regular file on a file system
/// that answers by itself.
///
/// # Errors
///
/// Where it is none that is read here.
pub fn readable(place: &OwnedFd) -> io::Result<File> {
    let stat = rustix::fs::fstat(place)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    answers_by_itself(place)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::open(own_link(place), flags, Mode::empty())?;
    Ok(File::from(file))
}

/// The content of a file of at most `limit` bytes.
///
/// # Errors
///
/// Where reading fails, or the file is longer.
pub fn read_limited(file: File, limit: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let ask = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(ask).read_to_end(&mut content)?;
    if content.len() > limit {
        return Err(io::Error::other(format!("longer than {limit} bytes")));
    }
    Ok(content)
}

fn answers_by_itself(fd: impl AsFd) -> io::Result<()> {
    let magic = rustix::fs::fstatfs(fd)?.f_type;
    let refused = REFUSED
        .iter()
        .find(|(number, _)| i128::from(magic) == i128::from(*number));
    match refused {
        Some((_, name)) => Err(io::Error::other(format!("on {name}, which is not read"))),
        None => Ok(()),
    }
}

/// The path of an open file from the root of its mount namespace.
fn path_of(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let path = rustix::fs::readlinkat(CWD, own_link(fd), Vec::new())?;
    Ok(path.into_bytes())
}

fn own_link(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn jail(root: &Path) -> Jail {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Jail::new(rustix::fs::open(root, flags, Mode::empty()).unwrap()).unwrap()
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(outer.path().join("secret"), "out").unwrap();
        std::fs::write(root.join("secret"), "in").unwrap();
        symlink("../../../secret", root.join("etc/up")).unwrap();
        symlink("/secret", root.join("etc/absolute")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.join("etc/magic")).unwrap();
        let jail = jail(&root);
        for path in ["/secret", "/../secret", "/etc/up", "/etc/absolute"] {
            assert_eq!(jail.read(path.as_bytes(), 10).unwrap(), b"in", "{path}");
        }
        assert!(jail.read(b"/etc/magic", 10).is_err());
        let secret = root.canonicalize().unwrap().join("secret");
        let secret = secret.as_os_str().as_encoded_bytes();
        assert_eq!(jail.canonical(b"/etc/up").as_deref(), Some(secret));
        assert_eq!(jail.outside(b"/secret"), secret);
        assert_eq!(jail.inside(secret), b"/secret");
        assert_eq!(jail.canonical(b"/nothing"), None);
    }

    #[test]
    fn what_is_no_plain_file_is_not_opened() {
        let root = tempfile::tempdir().unwrap();
        let fifo = root.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        std::fs::write(root.path().join("large"), [b'x'; 11]).unwrap();
        let inside = jail(root.path());
        // Were it opened for reading without O_NONBLOCK, this would wait forever.
        for (path, expected) in [
            ("/fifo", "not a regular file"),
            ("/", "not a regular file"),
            ("/large", "longer than 10 bytes"),
        ] {
            let error = inside.read(path.as_bytes(), 10).unwrap_err().to_string();
            assert_eq!(error, expected, "{path}");
        }
        let host = jail(Path::new("/"));
        let error = host.read(b"/proc/kmsg", 10).unwrap_err().to_string();
        assert_eq!(error, "on proc, which is not read");
        assert_eq!(
            host.read(b"/dev/zero", 10).unwrap_err().to_string(),
            "not a regular file"
        );
    }

    #[test]
    fn listings_are_sorted_and_bounded() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b", "a", ".c"] {
            std::fs::write(root.path().join(name), "").unwrap();
        }
        let jail = jail(root.path());
        let names = [".c", "a", "b"].map(|n| n.as_bytes().to_vec()).to_vec();
        assert_eq!(jail.list(b"/", 3).unwrap(), (names, false));
        let (names, more) = jail.list(b"/", 2).unwrap();
        assert_eq!((names.len(), more), (2, true));
        assert!(jail.list(b"/a", 2).is_err());
    }
}
