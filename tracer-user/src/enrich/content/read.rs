//! Hashes a file as a process sees it. I/O: it may take long, and for ever on a file system that does not
//! answer, so it is for a thread that can be left behind.
//!
//! The file has to be the very one that the kernel told of, by device and inode, whatever its name leads to by
//! now; a regular one, on no file system that a user's program answers for. Where it was changed while it
//! was read there is no hash.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};

use super::{Content, ContentAsked, HashLimits, Is, Package};
use crate::enrich::docroot::discover::jail::{read_limited, readable};
use crate::enrich::docroot::discover::{Entered, identity};

/// How long is waited for who wrote a file to close it, and how often is looked.
const CLOSES: Duration = Duration::from_millis(150);
const LOOK: Duration = Duration::from_millis(5);

/// Descriptors of a process that are looked at.
const DESCRIPTORS: usize = 4096;

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// What was found in a file.
#[derive(Debug)]
pub struct Hashed {
    /// What is in it; whose an executable is is [to be looked up](super::package).
    pub content: Content,
    /// What tells whether it has changed since.
    pub stamp: Stamp,
    /// The process by which it was reached.
    pub entered: Entered,
}

/// What is in the file; `None` where that cannot be known. `known` may have it from before. That it goes on is
/// shown to who waits for progress.
#[must_use]
pub fn content(
    asked: &ContentAsked,
    limits: HashLimits,
    known: &dyn Fn(&Stamp) -> Option<[u8; 32]>,
    at: &AtomicU32,
) -> Option<Hashed> {
    let limit = match asked.is {
        Is::Executable => limits.executable,
        Is::Written => limits.written,
    };
    if limit == 0 {
        return None;
    }
    let open = match (asked.is, asked.processes.first()) {
        (Is::Written, Some(writer)) => Entered::new(*writer, asked.mnt_ns)
            .is_ok_and(|writer| !closes(writer.process(), asked.moment.file.inode, at)),
        (Is::Written, None) | (Is::Executable, _) => false,
    };
    let (mut file, entered) = asked
        .processes
        .iter()
        .enumerate()
        .find_map(|(index, key)| {
            let entered = Entered::new(*key, asked.mnt_ns).ok()?;
            let own = index == 0 && asked.is == Is::Executable;
            Some((opened(&entered, asked, own)?, entered))
        })?;
    let before = Stamp::of(&file.metadata().ok()?);
    if before.size > limit.into() {
        return None;
    }
    let sha256 = match known(&before) {
        Some(sha256) => sha256,
        None => hash(&mut file, before.size, at).ok()?,
    };
    let after = Stamp::of(&file.metadata().ok()?);
    // Of a file that was only made so far, nothing is known.
    if before != after || (open && before.size == 0) {
        return None;
    }
    let package = match asked.is {
        Is::Executable => Package::Pending,
        Is::Written => Package::Unknown,
    };
    let content = Content {
        sha256,
        size: before.size,
        open,
        package,
    };
    Some(Hashed {
        content,
        stamp: before,
        entered,
    })
}

/// The file, if it is the one that is asked for, open for reading.
fn opened(entered: &Entered, asked: &ContentAsked, own: bool) -> Option<File> {
    let is_it = |place: &OwnedFd| identity::of(entered.process(), place) == Some(asked.moment.file);
    // The kernel's own link, which leads to deleted files and those in memory, too.
    let link = || {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat(entered.process(), "exe", flags, Mode::empty()).ok()
    };
    let place = own.then(link).flatten().filter(&is_it).or_else(|| {
        let jail = entered.jail();
        jail.place(jail.inside(&asked.path)).ok().filter(&is_it)
    })?;
    readable(&place).ok()
}

fn hash(file: &mut File, size: u64, at: &AtomicU32) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut left = size;
    while left > 0 {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        left = left
            .checked_sub(read as u64)
            .ok_or(io::ErrorKind::InvalidData)?;
        hash.update(bytes);
        at.fetch_add(1, Ordering::Release);
    }
    Ok(hash.finalize().into())
}

/// Waits for a process to close a file that it writes. False where it does not in time.
fn closes(process: &OwnedFd, inode: u64, at: &AtomicU32) -> bool {
    let deadline = Instant::now() + CLOSES;
    while writes(process, inode).unwrap_or(false) {
        if Instant::now() >= deadline {
            return false;
        }
        at.fetch_add(1, Ordering::Release);
        std::thread::sleep(LOOK);
    }
    true
}

/// Whether a process has a file open for writing. Before Linux 5.14 descriptors do not tell the inode, and it is
/// taken for closed.
fn writes(process: &OwnedFd, inode: u64) -> Option<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(process, "fdinfo", flags, Mode::empty()).ok()?;
    let entries = rustix::fs::Dir::read_from(&directory).ok()?;
    let is_writer = entries.take(DESCRIPTORS).flatten().any(|entry| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let info = rustix::fs::openat(&directory, entry.file_name(), flags, Mode::empty());
        let info = info.map(|info| read_limited(File::from(info), 4096));
        let Ok(Ok(info)) = info else {
            return false;
        };
        let value = |key: &[u8], radix| {
            let mut lines = info.split(|&byte| byte == b'\n');
            let word = lines.find_map(|line| line.strip_prefix(key))?;
            u64::from_str_radix(str::from_utf8(word.trim_ascii()).ok()?, radix).ok()
        };
        value(b"ino:", 10) == Some(inode) && value(b"flags:", 8).is_some_and(|flags| flags & 3 != 0)
    });
    Some(is_writer)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use super::super::Moment;
    use super::*;
    use crate::event::{FileId, ProcessKey};

    fn own() -> (ProcessKey, u32) {
        let tgid = std::process::id();
        let started = crate::source::snapshot::started(Path::new("/proc"), tgid);
        let link = std::fs::read_link("/proc/self/ns/mnt").unwrap();
        let number = link.to_str().unwrap().trim_start_matches("mnt:[");
        let key = ProcessKey {
            tgid,
            start_ticks: started.unwrap(),
        };
        (key, number.trim_end_matches(']').parse().unwrap())
    }

    fn asked(path: &Path, is: Is) -> ContentAsked {
        let (key, mnt_ns) = own();
        let entered = Entered::new(key, mnt_ns).unwrap();
        let path = path.as_os_str().as_encoded_bytes().to_vec();
        let place = entered.jail().place(&path).unwrap();
        let file = identity::of(entered.process(), &place).unwrap();
        ContentAsked {
            moment: Moment { file, boot_ns: 1 },
            is,
            path,
            mnt_ns,
            processes: vec![key],
        }
    }

    fn read(asked: &ContentAsked) -> Option<Content> {
        let limits = HashLimits {
            executable: 1 << 30,
            written: 100,
        };
        let at = AtomicU32::new(0);
        content(asked, limits, &|_| None, &at).map(|hashed| hashed.content)
    }

    #[test]
    fn the_very_file_is_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let path = folder.join("x.php");
        std::fs::write(&path, "abc").unwrap();
        let abc: [u8; 32] = Sha256::digest("abc").into();
        let file = asked(&path, Is::Written);
        let found = read(&file).unwrap();
        assert_eq!((found.sha256, found.size, found.open), (abc, 3, false));

        // Another file by the same name, a link, a FIFO: none of these is what was told. The file itself
        // stays, or its number would be given to another.
        std::fs::hard_link(&path, folder.join("old")).unwrap();
        let swap = |make: &dyn Fn(&Path)| {
            std::fs::remove_file(&path).unwrap();
            make(&path);
            assert_eq!(read(&file), None);
        };
        swap(&|path| std::fs::write(path, "abc").unwrap());
        swap(&|path| std::os::unix::fs::symlink("old", path).unwrap());
        swap(&|path| {
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, Mode::RUSR, 0).unwrap();
        });

        let long = folder.join("long");
        std::fs::write(&long, [0; 101]).unwrap();
        assert_eq!(read(&asked(&long, Is::Written)), None);
    }

    #[test]
    fn who_writes_still_is_waited_for_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("x");
        let mut file = File::create(&path).unwrap();
        assert_eq!(read(&asked(&path, Is::Written)), None, "empty yet");
        file.write_all(b"abc").unwrap();
        assert!(read(&asked(&path, Is::Written)).unwrap().open);
        drop(file);
        assert!(!read(&asked(&path, Is::Written)).unwrap().open);
    }

    #[test]
    fn a_running_program_is_hashed_though_its_path_is_not_known() {
        let exe = std::env::current_exe().unwrap();
        let mut own = asked(&exe, Is::Executable);
        let expected: [u8; 32] = Sha256::digest(std::fs::read(&exe).unwrap()).into();
        own.path = b"/no/such/file (deleted)".to_vec();
        assert_eq!(read(&own).unwrap().sha256, expected);
        own.moment.file = FileId {
            inode: own.moment.file.inode + 1,
            ..own.moment.file
        };
        assert_eq!(read(&own), None);
    }
}
