//! The state file: a head, and what is remembered as frames of a capture.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | `TRACERS` and the version of this layout |
//! | 8..16 | version of the records, zeros |
//! | 16..24 | length of the body |
//! | 24..32 | checksum of everything but this and the rest of the head |
//! | 32..40 | the agent was alive at this time, nanoseconds since boot |
//! | 40..48 | the same, inverted |
//! | 48..84 | boot id |
//!
//! Numbers are little endian. The time is written in place, once a second; all else by a new file that
//! takes the old one's name. Refuses a directory that others can write to, one that is reached through a
//! link, and a file that is not a plain one of this user's: whoever writes it decides who is a server.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags, flock, mkdirat, openat2, renameat,
    unlinkat,
};
use rustix::io::Errno;
use tracer_common::event::VERSION as RECORDS;

use crate::enrich::docroot::discover::jail::read_limited;
use crate::pipeline::WRITTEN_BYTES;
use crate::source::Input;
use crate::source::capture::{CaptureError, Reader, Writer};
use crate::source::remembered::Remembered;

/// Most bytes of lineage: beyond it what started last is left out.
const LINEAGE_BYTES: usize = 32 << 20;

/// Longest body. What servers wrote is bounded by who gives it.
const BODY_BYTES: usize = LINEAGE_BYTES + WRITTEN_BYTES;

/// Version 1 knew nothing of written files and of alerts; what it has is understood.
const MAGIC: [u8; 8] = *b"TRACERS\x03";
const OLDEST: u8 = 1;
const HEAD: usize = 84;
const ALIVE_AT: usize = 32;
const BOOT_ID_AT: usize = 48;

/// What a file holds.
#[derive(Debug)]
pub(super) struct State {
    /// The agent that wrote it was alive at this time, nanoseconds since boot.
    pub(super) alive_boot_ns: u64,
    /// What it knew.
    pub(super) remembered: Vec<Remembered>,
}

/// A directory for a state file, and the file's name in it.
#[derive(Debug)]
pub(super) struct Place {
    dir: OwnedFd,
    name: PathBuf,
    fresh: PathBuf,
    /// Locked while an agent keeps its state there. A file of its own: the directory is other things' place too,
    /// and they lock it.
    lock: PathBuf,
}

impl Place {
    /// Opens the directory, which is made where it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err("not the name of a file".to_owned());
        };
        if !path.is_absolute() {
            return Err("not an absolute path".to_owned());
        }
        let opened = open_directory(dir).or_else(|error| match error {
            Errno::NOENT => make_directory(dir),
            _ => Err(error),
        });
        let dir = opened.map_err(|error| match error {
            Errno::LOOP => {
                "its directory is reached through a link; name the directory itself".to_owned()
            }
            _ => format!("its directory: {error}"),
        })?;
        let dir = File::from(dir);
        let meta = dir
            .metadata()
            .map_err(|error| format!("its directory: {error}"))?;
        if meta.uid() != own_uid() || meta.mode() & 0o022 != 0 {
            return Err("others can write to its directory".to_owned());
        }
        let mut fresh = name.to_owned();
        fresh.push(".new");
        let mut lock = name.to_owned();
        lock.push(".lock");
        Ok(Self {
            dir: dir.into(),
            name: name.into(),
            fresh: fresh.into(),
            lock: lock.into(),
        })
    }

    /// Makes this the place of one agent only, for as long as what it gives is held. `None` where it is another's.
    pub(super) fn claim(&self) -> Result<Option<OwnedFd>, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let lock = openat2(&self.dir, &self.lock, flags, mode, RESOLVE)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(lock)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What an agent of this boot left; `None` where there is no file.
    pub(super) fn read(&self, boot_id: &str) -> Result<Option<State>, String> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = match openat2(&self.dir, &self.name, flags, Mode::empty(), RESOLVE) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err("a link, which is not followed".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        let meta = file.metadata().map_err(|error| error.to_string())?;
        if !meta.is_file() {
            return Err("not a regular file".to_owned());
        }
        if meta.uid() != own_uid() || meta.mode() & 0o077 != 0 {
            return Err("others may have written it".to_owned());
        }
        let bytes = read_limited(file, HEAD + BODY_BYTES).map_err(|error| error.to_string())?;
        parse(&bytes, boot_id)
    }

    /// Writes a new file and puts it in the place of the old one. Gives the file, to [`keep_alive`].
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<File> {
        match unlinkat(&self.dir, &self.fresh, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = File::from(openat2(&self.dir, &self.fresh, flags, mode, RESOLVE)?);
        file.write_all_at(bytes, 0)?;
        renameat(&self.dir, &self.fresh, &self.dir, &self.name)?;
        Ok(file)
    }
}

/// Writes that the agent is alive.
pub(super) fn keep_alive(file: &File, boot_ns: u64) -> io::Result<()> {
    file.write_all_at(&alive(boot_ns), ALIVE_AT as u64)
}

const RESOLVE: ResolveFlags = ResolveFlags::NO_SYMLINKS.union(ResolveFlags::NO_MAGICLINKS);

fn open_directory(dir: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(CWD, dir, flags, Mode::empty(), RESOLVE)
}

/// Makes the last directory of a path: what is above it is not for us to make.
fn make_directory(dir: &Path) -> Result<OwnedFd, Errno> {
    let (Some(above), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(Errno::NOENT);
    };
    match mkdirat(open_directory(above)?.as_fd(), name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => open_directory(dir),
        Err(error) => Err(error),
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The bytes of a file. How many entries did not fit comes with them.
pub(super) fn encode(
    boot_id: &str,
    alive_boot_ns: u64,
    remembered: Vec<Remembered>,
) -> io::Result<(Vec<u8>, usize)> {
    let mut body = Writer::new(Vec::new())?;
    let mut left_out = 0;
    for one in remembered {
        let most = match one {
            Remembered::File(_) | Remembered::Link(_) => BODY_BYTES,
            Remembered::Process(_)
            | Remembered::Image(_)
            | Remembered::Blind(_)
            | Remembered::Told(_)
            | Remembered::Incident(_) => LINEAGE_BYTES,
        };
        if body.out().len() >= most - LARGEST {
            left_out += 1;
        } else {
            body.write(&Input::Remembered(one))?;
        }
    }
    let body = body.finish()?;
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&u64::from(RECORDS).to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    let mut id = boot_id.as_bytes().to_vec();
    id.resize(HEAD - BOOT_ID_AT, 0);
    bytes.extend_from_slice(&checksum(&[&bytes, &id, &body]).to_le_bytes());
    bytes.extend_from_slice(&alive(alive_boot_ns));
    bytes.extend_from_slice(&id);
    bytes.extend_from_slice(&body);
    Ok((bytes, left_out))
}

/// A frame is at most so long (`capture`), with room to spare.
const LARGEST: usize = 64 << 10;

fn alive(boot_ns: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (time, inverted) = bytes.split_at_mut(8);
    time.copy_from_slice(&boot_ns.to_le_bytes());
    inverted.copy_from_slice(&(!boot_ns).to_le_bytes());
    bytes
}

/// What such bytes say; `None` where they are of another boot.
fn parse(bytes: &[u8], boot_id: &str) -> Result<Option<State>, String> {
    let mut rest = bytes;
    let magic: [u8; 8] = chunk(&mut rest)?;
    let [name @ .., version] = magic;
    let [known @ .., ours] = MAGIC;
    if name != known {
        return Err("not a state file of tracer".to_owned());
    }
    let records = u64::from_le_bytes(chunk(&mut rest)?);
    if !(OLDEST..=ours).contains(&version) || records != u64::from(RECORDS) {
        return Err("another version of tracer wrote it".to_owned());
    }
    let length = u64::from_le_bytes(chunk(&mut rest)?);
    let sum = u64::from_le_bytes(chunk(&mut rest)?);
    let alive = u64::from_le_bytes(chunk(&mut rest)?);
    let inverted = u64::from_le_bytes(chunk(&mut rest)?);
    let id: [u8; HEAD - BOOT_ID_AT] = chunk(&mut rest)?;
    if length != rest.len() as u64 {
        return Err("cut off".to_owned());
    }
    let head = bytes.get(..24).unwrap_or_default();
    if sum != checksum(&[head, &id, rest]) || alive != !inverted {
        return Err("its checksum is wrong".to_owned());
    }
    if boot_id.is_empty() || id != boot_id.as_bytes() {
        return Ok(None);
    }
    let reader = Reader::new(rest).map_err(|error| why(&error))?;
    let mut remembered = Vec::new();
    for input in reader {
        let Input::Remembered(one) = input.map_err(|error| why(&error))? else {
            return Err("it holds more than a state".to_owned());
        };
        remembered.push(one);
    }
    Ok(Some(State {
        alive_boot_ns: alive,
        remembered,
    }))
}

fn why(error: &CaptureError) -> String {
    match error {
        CaptureError::Frame { at, what } => {
            format!("broken frame at byte {at} of its body: {what}")
        }
        CaptureError::Cut { .. } => "cut off".to_owned(),
        CaptureError::Magic | CaptureError::Version(_) | CaptureError::Io(_) => {
            "its body is no list of what was known".to_owned()
        }
    }
}

fn chunk<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], String> {
    let (head, after) = rest.split_first_chunk().ok_or("cut off")?;
    *rest = after;
    Ok(*head)
}

/// FNV-1a: a file that was cut or overwritten is found out. Who writes one on purpose is kept out by its
/// mode.
fn checksum(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().copied().flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::source::remembered::Blind;

    const BOOT: &str = "3c4d2d3f-7c3f-4b62-8a3a-6f4a7a1d3c11";

    fn remembered() -> Vec<Remembered> {
        (1..4)
            .map(|since_boot_ns| {
                Remembered::Blind(Blind {
                    since_boot_ns,
                    until_boot_ns: 9,
                })
            })
            .collect()
    }

    fn bytes() -> Vec<u8> {
        encode(BOOT, 77, remembered()).unwrap().0
    }

    fn place(dir: &tempfile::TempDir) -> Place {
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Place::open(&dir.path().join("tracer/state")).unwrap()
    }

    #[test]
    fn what_is_written_is_read_by_who_has_the_boot_id() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(&dir);
        assert!(place.read(BOOT).unwrap().is_none());
        let file = place.write(&bytes()).unwrap();
        let state = place.read(BOOT).unwrap().unwrap();
        assert_eq!((state.alive_boot_ns, state.remembered), (77, remembered()));
        keep_alive(&file, 99).unwrap();
        assert_eq!(place.read(BOOT).unwrap().unwrap().alive_boot_ns, 99);
        assert!(
            place
                .read("3c4d2d3f-7c3f-4b62-8a3a-6f4a7a1d3c12")
                .unwrap()
                .is_none()
        );
        assert!(place.read("").unwrap().is_none());
        let mode = std::fs::metadata(dir.path().join("tracer/state"))
            .unwrap()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        // Again, over the one that is there.
        place.write(&bytes()).unwrap();
        assert_eq!(place.read(BOOT).unwrap().unwrap().alive_boot_ns, 77);
        assert_eq!(
            std::fs::read_dir(dir.path().join("tracer"))
                .unwrap()
                .count(),
            1
        );
    }

    #[test]
    fn one_agent_has_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (place(&dir), place(&dir));
        let held = first.claim().unwrap();
        assert!(held.is_some() && second.claim().unwrap().is_none());
        // The directory is not locked by that: the control socket's place does it.
        let directory = File::open(dir.path().join("tracer")).unwrap();
        flock(&directory, FlockOperation::NonBlockingLockExclusive).unwrap();
        drop(held);
        assert!(second.claim().unwrap().is_some());
    }

    #[test]
    fn any_other_bytes_are_an_error_and_no_panic() {
        let whole = bytes();
        for len in 0..whole.len() {
            assert!(parse(&whole[..len], BOOT).is_err(), "{len}");
        }
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 0x42;
            assert!(parse(&broken, BOOT).is_err(), "{at}");
        }
        // With a checksum that is right: what the frames say is judged.
        for at in HEAD..whole.len() {
            for value in [0, 1, 15, 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                let sum = checksum(&[&broken[..24], &broken[BOOT_ID_AT..]]);
                broken[24..32].copy_from_slice(&sum.to_le_bytes());
                let _any = parse(&broken, BOOT);
            }
        }
        assert!(parse(b"", BOOT).is_err());
    }

    #[test]
    fn an_older_layout_is_taken_up_and_a_newer_one_is_not() {
        let with_version = |version| {
            let mut other = bytes();
            other[7] = version;
            let sum = checksum(&[&other[..24], &other[BOOT_ID_AT..]]);
            other[24..32].copy_from_slice(&sum.to_le_bytes());
            parse(&other, BOOT)
        };
        for version in [1, 2] {
            let state = with_version(version).unwrap().unwrap();
            assert_eq!(state.remembered, remembered());
        }
        for version in [0, 4] {
            let why = with_version(version).unwrap_err();
            assert!(why.contains("another version"), "{why}");
        }
    }

    #[test]
    fn links_and_what_others_write_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(&dir);
        let own = dir.path().join("tracer");
        std::fs::write(own.join("target"), bytes()).unwrap();
        std::os::unix::fs::symlink("target", own.join("state")).unwrap();
        assert!(place.read(BOOT).unwrap_err().contains("link"));
        // A link in the way of the new file is not followed either.
        std::os::unix::fs::symlink("target", own.join("state.new")).unwrap();
        let before = std::fs::read(own.join("target")).unwrap();
        place.write(b"x").unwrap();
        assert_eq!(std::fs::read(own.join("target")).unwrap(), before);
        assert!(
            !std::fs::symlink_metadata(own.join("state"))
                .unwrap()
                .is_symlink()
        );

        std::fs::set_permissions(own.join("state"), std::fs::Permissions::from_mode(0o644))
            .unwrap();
        assert!(place.read(BOOT).unwrap_err().contains("others"));
        std::fs::remove_file(own.join("state")).unwrap();
        rustix::fs::mknodat(
            CWD,
            own.join("state"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR | Mode::WUSR,
            0,
        )
        .unwrap();
        assert!(place.read(BOOT).unwrap_err().contains("regular"));

        std::os::unix::fs::symlink(&own, dir.path().join("link")).unwrap();
        let linked = Place::open(&dir.path().join("link/state")).unwrap_err();
        assert!(linked.contains("link"), "{linked}");
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o777)).unwrap();
        let open = Place::open(&own.join("state")).unwrap_err();
        assert!(open.contains("others"), "{open}");
        assert!(Place::open(Path::new("state")).is_err());
    }
}
