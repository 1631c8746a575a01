//! Which directories of the kernel's the named ones are, as one process sees them.
//!
//! Names are many: links, bind mounts, other mount namespaces, `/proc/PID/root`. The kernel's walk from
//! a file upwards meets each directory by device and inode, and so are they given here. I/O as
//! [`super::discover`] does, with the same limits; refuses to mount anything by looking at it, and to
//! take a whole system directory for a served one, by whatever name it comes.

use std::collections::{HashMap, HashSet};
use std::ffi::c_long;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Instant;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use super::super::directories::{Entry, MAX_PER_NAMESPACE, TOO_WIDE};
use super::super::path;
use super::jail::{Jail, read_limited};
use super::{DiscoverRequest, NAMES, TIME, check, open_process, read_proc};
use crate::event::FileId;

/// Longest list of mounts that is read: some ten thousand of them.
const MOUNTS_BYTES: usize = 4 * 1024 * 1024;

/// Where an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The entry.
    pub entry: Entry,
    /// Generation of the directory's inode: when it is removed, its number is given to another, with
    /// another generation. Zero where the file system does not tell, most of which do not use a number
    /// again.
    pub generation: u32,
}

/// Where entries are, as a process sees them: those that there are, each directory once. Where two
/// entries are one directory, the one of the higher origin has it.
///
/// Nothing for a process that has ended, or whose root cannot be entered.
#[must_use]
pub fn identify(request: &DiscoverRequest, entries: &[Entry]) -> Vec<(FileId, Located)> {
    let found = look(request, entries).unwrap_or_default();
    found.into_iter().collect()
}

fn look(request: &DiscoverRequest, entries: &[Entry]) -> Option<HashMap<FileId, Located>> {
    let process = open_process(request.tgid).ok()?;
    check(&process, request).ok()?;
    let view = View::of(&process).ok()?;
    let mut wide: HashSet<FileId> = view.wide().collect();
    // The host's, too: a container may have been given them by another name.
    if let Some(host) = open_process(1).ok().and_then(|init| View::of(&init).ok()) {
        wide.extend(host.wide());
    }
    let deadline = Instant::now() + TIME;
    let mut names_left = NAMES;
    let mut found: HashMap<FileId, Located> = HashMap::new();
    for entry in entries {
        let inside = view.jail.inside(&entry.pattern);
        for place in view.expand(inside, &mut names_left, deadline) {
            let Some((file, generation)) = view
                .located(&place)
                .filter(|(file, _)| !wide.contains(file))
            else {
                continue;
            };
            // Of two names, that to which no link leads says what it lies in.
            let outside = view.jail.outside(&place);
            let is_real = || {
                view.jail
                    .canonical(&place)
                    .is_some_and(|real| real == outside)
            };
            let is_better = match found.get(&file) {
                Some(known) if known.entry.origin == entry.origin => {
                    known.entry.pattern != entry.pattern && is_real()
                }
                Some(known) => known.entry.origin < entry.origin,
                None => found.len() < MAX_PER_NAMESPACE,
            };
            if is_better {
                let entry = entry.clone();
                found.insert(file, Located { entry, generation });
            }
        }
        if Instant::now() > deadline {
            break;
        }
    }
    check(&process, request).ok()?;
    Some(found)
}

/// What a process sees: its root directory and its mounts.
struct View {
    jail: Jail,
    mounts: Mounts,
}

impl View {
    fn of(process: &OwnedFd) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(process, "root", flags, Mode::empty())?;
        Ok(Self {
            jail: Jail::new(root)?,
            mounts: Mounts::parse(&read_proc(process, "mountinfo", MOUNTS_BYTES)?),
        })
    }

    /// The directories that no server can mean, its root among them.
    fn wide(&self) -> impl Iterator<Item = FileId> {
        TOO_WIDE.iter().filter_map(|path| self.identity(path))
    }

    fn identity(&self, inside: &[u8]) -> Option<FileId> {
        self.located(inside).map(|(file, _)| file)
    }

    /// A directory's identity and generation.
    fn located(&self, inside: &[u8]) -> Option<(FileId, u32)> {
        if self.mounts.would_mount(inside) {
            return None;
        }
        let directory = self.jail.directory(inside).ok()?;
        let file = located(&self.mounts, &directory)?;
        Some((file, generation(&directory).unwrap_or(0)))
    }

    /// The paths that a pattern stands for.
    fn expand(&self, pattern: &[u8], names_left: &mut usize, deadline: Instant) -> Vec<Vec<u8>> {
        let mut found = vec![Vec::new()];
        for segment in path::segments(pattern) {
            if segment != b"*" {
                for path in &mut found {
                    path.push(b'/');
                    path.extend_from_slice(segment);
                }
                continue;
            }
            let mut next = Vec::new();
            for directory in &found {
                if Instant::now() > deadline || *names_left == 0 {
                    break;
                }
                if self.mounts.would_mount(directory) {
                    continue;
                }
                let Ok((names, _)) = self.jail.list(directory, *names_left) else {
                    continue;
                };
                *names_left = names_left.saturating_sub(names.len());
                let below = |name: Vec<u8>| [directory.as_slice(), b"/", &name].concat();
                next.extend(names.into_iter().map(below));
            }
            found = next;
        }
        found
    }
}

/// Device and inode of an open file, as the kernel side tells them, if a process has the mount that it is on.
#[must_use]
pub fn of(process: &OwnedFd, file: &OwnedFd) -> Option<FileId> {
    let mounts = read_proc(process, "mountinfo", MOUNTS_BYTES).ok()?;
    located(&Mounts::parse(&mounts), file)
}

fn located(mounts: &Mounts, file: &OwnedFd) -> Option<FileId> {
    // In a buffer of the kernel's making, not in a file of anybody's: it cannot hang or lie.
    let info = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let info = rustix::fs::openat(CWD, info, flags, Mode::empty()).ok()?;
    let info = read_limited(File::from(info), 4096).ok()?;
    let stat = rustix::fs::fstat(file.as_fd()).ok()?;
    // Btrfs and overlayfs give stat(2) another device than their super block has.
    let mount = number(&info, b"mnt_id:");
    let dev = match mount.and_then(|mount| mounts.devices.get(&mount)) {
        Some(dev) => *dev,
        None => device(
            rustix::fs::major(stat.st_dev).into(),
            rustix::fs::minor(stat.st_dev).into(),
        )?,
    };
    Some(FileId {
        dev,
        // Linux 5.14 and later tell it; before, it is that of stat(2) on all but odd set-ups of overlayfs.
        inode: number(&info, b"ino:").unwrap_or(stat.st_ino),
    })
}

/// File systems that use inode numbers again and tell generations: ext4, XFS, F2FS (linux/magic.h;
/// `XFS_SUPER_MAGIC`, fs/xfs/libxfs/xfs_format.h). They are on local disks: to open a directory of
/// theirs asks nobody.
const WITH_GENERATIONS: &[i128] = &[0xef53, 0x5846_5342, 0xf2f5_2010];

/// `i_generation` of a directory.
fn generation(directory: &OwnedFd) -> Option<u32> {
    let magic = i128::from(rustix::fs::fstatfs(directory).ok()?.f_type);
    if !WITH_GENERATIONS.contains(&magic) {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let directory = rustix::fs::openat(CWD, link, flags, Mode::empty()).ok()?;
    // An integer, though its number says `long` (`FS_IOC_GETVERSION`, include/uapi/linux/fs.h).
    const GET_VERSION: Opcode = opcode::read::<c_long>(b'v', 1);
    let mut version = [0_u32; 2];
    #[expect(unsafe_code, reason = "an ioctl is told where to write")]
    // SAFETY: the opcode is that of `FS_IOC_GETVERSION`, which writes at most a `long`.
    unsafe {
        ioctl(&directory, Updater::<GET_VERSION, _>::new(&mut version)).ok()?;
    }
    let [version, _] = version;
    Some(version)
}

/// The mounts of a process, by `/proc/PID/mountinfo` (proc(5)).
#[derive(Debug, Default)]
struct Mounts {
    /// Device of the super block, by number of the mount.
    devices: HashMap<u64, u32>,
    /// Whether what is mounted at a path, at last, mounts more when it is looked at.
    automatic: HashMap<Vec<u8>, bool>,
}

impl Mounts {
    fn parse(text: &[u8]) -> Self {
        let mut mounts = Self::default();
        for line in text.split(|&byte| byte == b'\n') {
            let mut words = line.split(|&byte| byte == b' ');
            let mount = words.next().and_then(decimal);
            let numbers = words.nth(1).and_then(|word| {
                let mut numbers = word.split(|&byte| byte == b':').map(decimal);
                device(numbers.next()??, numbers.next()??)
            });
            let place = words.nth(1).map(unescaped);
            let kind = words.skip_while(|word| *word != b"-").nth(1);
            let (Some(mount), Some(dev), Some(place), Some(kind)) = (mount, numbers, place, kind)
            else {
                continue;
            };
            mounts.devices.insert(mount, dev);
            mounts.automatic.insert(place, kind == b"autofs");
        }
        // Only paths that hold one have to be asked for.
        if !mounts.automatic.values().any(|automatic| *automatic) {
            mounts.automatic.clear();
        }
        mounts
    }

    /// Whether to look at a path would have something mounted: the innermost mount on the way there does
    /// so. One that a link leads to is not known.
    fn would_mount(&self, path: &[u8]) -> bool {
        let mut at = path;
        loop {
            let place = if at.is_empty() { b"/".as_slice() } else { at };
            if let Some(automatic) = self.automatic.get(place) {
                return *automatic;
            }
            match at.iter().rposition(|&byte| byte == b'/') {
                Some(end) => at = at.get(..end).unwrap_or_default(),
                None => return false,
            }
        }
    }
}

/// A device as the kernel keeps it: major << 20 | minor (include/linux/kdev_t.h).
fn device(major: u64, minor: u64) -> Option<u32> {
    let (major, minor) = (u32::try_from(major).ok()?, u32::try_from(minor).ok()?);
    (major < 1 << 12 && minor < 1 << 20).then_some(major << 20 | minor)
}

/// The number of a line `key: number`.
fn number(text: &[u8], key: &[u8]) -> Option<u64> {
    text.split(|&byte| byte == b'\n')
        .find_map(|line| decimal(line.strip_prefix(key)?.trim_ascii()))
}

fn decimal(word: &[u8]) -> Option<u64> {
    str::from_utf8(word).ok()?.parse().ok()
}

/// A path in which the kernel wrote some bytes as `\` and three octal digits (`mangle_path`,
/// fs/seq_file.c).
fn unescaped(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.first_chunk::<3>().filter(|_| byte == b'\\');
        let code =
            digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(code) => {
                out.push(code);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
