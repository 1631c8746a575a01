//! The root file system of a guest: a `newc` cpio archive, written here byte by byte.
//!
//! The kernel unpacks such an archive into a tmpfs before it starts `/init`, so a guest needs no
//! disk, no driver module and no root rights on the host. The archive is not compressed (the guest
//! would pay for it in emulation) and the same input gives the same bytes. It refuses paths that
//! are not plain (`..`, empty, absolute twice), and files of 4 GiB and more, which the format cannot
//! hold.
//!
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, bail};

/// Types of a file in the mode word (`include/uapi/linux/stat.h`).
mod kind {
    pub(super) const DIRECTORY: u32 = 0o040_000;
    pub(super) const REGULAR: u32 = 0o100_000;
    pub(super) const CHARACTER: u32 = 0o020_000;
    pub(super) const LINK: u32 = 0o120_000;
    pub(super) const MASK: u32 = 0o170_000;
}

/// Files of a guest by path, without the leading slash. A sorted map, because the kernel wants a
/// folder before what is in it.
#[derive(Default)]
pub(super) struct Image {
    entries: BTreeMap<String, Entry>,
}

struct Entry {
    mode: u32,
    device: (u32, u32),
    data: Vec<u8>,
}

impl Image {
    /// Adds a folder, and those above it.
    pub(super) fn directory(&mut self, path: &str) -> anyhow::Result<()> {
        let path = plain(path)?;
        self.parents_of(path);
        self.entries.entry(path.to_owned()).or_insert_with(folder);
        Ok(())
    }

    /// Adds a regular file with the permission bits `mode`, and the folders above it.
    pub(super) fn file(&mut self, path: &str, mode: u32, data: Vec<u8>) -> anyhow::Result<()> {
        let mode = kind::REGULAR | mode;
        self.insert(path, mode, (0, 0), data)
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) -> anyhow::Result<()> {
        self.insert(path, kind::LINK | 0o777, (0, 0), target.into())
    }

    /// Adds a character device: the kernel opens `/dev/console` for `/init` before anything could
    /// have mounted `/dev`.
    pub(super) fn character_device(
        &mut self,
        path: &str,
        major: u32,
        minor: u32,
    ) -> anyhow::Result<()> {
        self.insert(path, kind::CHARACTER | 0o600, (major, minor), Vec::new())
    }

    /// Writes the archive.
    pub(super) fn write_to(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        // An inode number of its own for each entry: equal ones would mean hard links.
        for (inode, (path, entry)) in (1_u32..).zip(&self.entries) {
            write_entry(out, inode, path, entry)
                .with_context(|| format!("putting /{path} into the initramfs"))?;
        }
        let trailer = Entry {
            mode: 0,
            device: (0, 0),
            data: Vec::new(),
        };
        write_entry(out, 0, "TRAILER!!!", &trailer).context("ending the initramfs")
    }

    /// Writes the files under a folder of this host. Devices are left out: they would need root
    /// here, and a kernel with a disk mounts a `/dev` of its own before it starts `/init`.
    pub(super) fn write_tree(&self, folder: &Path) -> anyhow::Result<()> {
        for (path, entry) in &self.entries {
            let place = folder.join(path);
            write_file(&place, entry)
                .with_context(|| format!("writing {} for the guest", place.display()))?;
        }
        Ok(())
    }

    /// Bytes of all files together.
    pub(super) fn size(&self) -> usize {
        let sizes = self.entries.values().map(|entry| entry.data.len());
        sizes.fold(0, usize::saturating_add)
    }

    fn insert(
        &mut self,
        path: &str,
        mode: u32,
        device: (u32, u32),
        data: Vec<u8>,
    ) -> anyhow::Result<()> {
        let path = plain(path)?;
        self.parents_of(path);
        let entry = Entry { mode, device, data };
        if self.entries.insert(path.to_owned(), entry).is_some() {
            bail!("/{path} is in the initramfs twice");
        }
        Ok(())
    }

    fn parents_of(&mut self, path: &str) {
        for (slash, _) in path.match_indices('/') {
            let parent = path.get(..slash).unwrap_or_default().to_owned();
            self.entries.entry(parent).or_insert_with(folder);
        }
    }
}

fn folder() -> Entry {
    Entry {
        mode: kind::DIRECTORY | 0o755,
        device: (0, 0),
        data: Vec::new(),
    }
}

/// The path as the archive holds it: relative to the root, nothing to resolve.
fn plain(path: &str) -> anyhow::Result<&str> {
    let relative = path.strip_prefix('/').unwrap_or(path);
    if relative
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..")
        || relative.contains('\0')
    {
        bail!("{path:?} is no plain path for a file of the guest");
    }
    Ok(relative)
}

fn write_file(place: &Path, entry: &Entry) -> io::Result<()> {
    match entry.mode & kind::MASK {
        kind::DIRECTORY => return fs::create_dir_all(place),
        kind::CHARACTER => return Ok(()),
        kind::LINK => return symlink(OsStr::from_bytes(&entry.data), place),
        _ => fs::write(place, &entry.data)?,
    }
    fs::set_permissions(place, fs::Permissions::from_mode(entry.mode & !kind::MASK))
}

/// One entry: magic, thirteen numbers of eight hex digits, the name, the bytes; the last two each
/// padded to four bytes.
fn write_entry(out: &mut dyn Write, inode: u32, path: &str, entry: &Entry) -> io::Result<()> {
    let too_large = |_| io::Error::other("larger than a cpio archive can hold (4 GiB)");
    let size = u32::try_from(entry.data.len()).map_err(too_large)?;
    let name_size = u32::try_from(path.len().saturating_add(1)).map_err(too_large)?;
    let links = if entry.mode & kind::DIRECTORY == 0 {
        1
    } else {
        2
    };
    let fields = [
        inode,
        entry.mode,
        0, // uid
        0, // gid
        links,
        0, // mtime
        size,
        0, // major of the file system it came from
        0, // its minor
        entry.device.0,
        entry.device.1,
        name_size,
        0, // check sum, of other cpio formats
    ];
    let mut header = b"070701".to_vec();
    for field in fields {
        write!(header, "{field:08x}")?;
    }
    header.extend_from_slice(path.as_bytes());
    header.push(0);
    pad(&mut header);
    out.write_all(&header)?;
    out.write_all(&entry.data)?;
    out.write_all(padding(entry.data.len()))
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(padding(bytes.len()));
}

fn padding(length: usize) -> &'static [u8] {
    match length % 4 {
        0 => &[],
        1 => &[0; 3],
        2 => &[0; 2],
        _ => &[0; 1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would make of one entry.
    #[derive(Debug, PartialEq, Eq)]
    struct Read {
        inode: u32,
        path: String,
        mode: u32,
        device: (u32, u32),
        data: Vec<u8>,
    }

    /// A reader made from the format's description and not from the writer above.
    fn read(archive: &[u8]) -> Vec<Read> {
        let mut entries = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(at % 4, 0, "headers are aligned");
            assert_eq!(&archive[at..at + 6], b"070701");
            let header = at;
            let field = |index: usize| {
                let from = header + 6 + index * 8;
                let digits = std::str::from_utf8(&archive[from..from + 8]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let name_size = field(11) as usize;
            let name = &archive[at + 110..at + 110 + name_size];
            assert_eq!(name.last(), Some(&0));
            let path = String::from_utf8(name[..name_size - 1].to_vec()).unwrap();
            let data_at = (at + 110 + name_size).next_multiple_of(4);
            let size = field(6) as usize;
            at = (data_at + size).next_multiple_of(4);
            if path == "TRAILER!!!" {
                assert_eq!(at, archive.len(), "nothing follows the trailer");
                return entries;
            }
            entries.push(Read {
                inode: field(0),
                path,
                mode: field(1),
                device: (field(9), field(10)),
                data: archive[data_at..data_at + size].to_vec(),
            });
        }
    }

    fn archive(image: &Image) -> Vec<u8> {
        let mut bytes = Vec::new();
        image.write_to(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut image = Image::default();
        // Added child first: the archive must hold the folder first all the same.
        image
            .file("/usr/lib/os-release", 0o644, b"ID=guest\n".to_vec())
            .unwrap();
        image.directory("/usr").unwrap();
        image.character_device("/dev/console", 5, 1).unwrap();
        image.file("/init", 0o755, b"#!".to_vec()).unwrap();
        image.link("/bin/sh", "/usr/bin/dash").unwrap();
        let got: Vec<_> = read(&archive(&image))
            .into_iter()
            .map(|entry| (entry.path, entry.mode, entry.device, entry.data))
            .collect();
        let row =
            |path: &str, mode, device, data: &[u8]| (path.to_owned(), mode, device, data.to_vec());
        assert_eq!(
            got,
            [
                row("bin", 0o040_755, (0, 0), b""),
                row("bin/sh", 0o120_777, (0, 0), b"/usr/bin/dash"),
                row("dev", 0o040_755, (0, 0), b""),
                row("dev/console", 0o020_600, (5, 1), b""),
                row("init", 0o100_755, (0, 0), b"#!"),
                row("usr", 0o040_755, (0, 0), b""),
                row("usr/lib", 0o040_755, (0, 0), b""),
                row("usr/lib/os-release", 0o100_644, (0, 0), b"ID=guest\n"),
            ]
        );
    }

    #[test]
    fn the_tree_is_the_same_without_devices() {
        let mut image = Image::default();
        image
            .file("/usr/bin/p", 0o755, b"program".to_vec())
            .unwrap();
        image.link("/bin/sh", "/usr/bin/dash").unwrap();
        image.character_device("/dev/console", 5, 1).unwrap();
        image.directory("/empty").unwrap();
        assert_eq!(image.size(), "program".len() + "/usr/bin/dash".len());
        let folder = std::env::temp_dir().join(format!("xtask-tree-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        image.write_tree(&folder).unwrap();
        let program = folder.join("usr/bin/p");
        assert_eq!(fs::read(&program).unwrap(), b"program");
        let mode = fs::metadata(&program).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        let target = fs::read_link(folder.join("bin/sh")).unwrap();
        assert_eq!(target, Path::new("/usr/bin/dash"));
        assert!(folder.join("empty").is_dir() && !folder.join("dev/console").exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn every_length_of_name_and_data_stays_aligned() {
        let mut image = Image::default();
        for length in 0..9 {
            let path = "n".repeat(length + 1);
            image.file(&path, 0o644, vec![b'd'; length]).unwrap();
        }
        let entries = read(&archive(&image));
        assert_eq!(entries.len(), 9);
        for (length, entry) in entries.iter().enumerate() {
            assert_eq!(entry.data, vec![b'd'; length]);
        }
    }

    #[test]
    fn no_two_entries_share_an_inode() {
        let mut image = Image::default();
        for path in ["/a", "/b/c", "/b/d"] {
            image.file(path, 0o644, Vec::new()).unwrap();
        }
        let mut inodes: Vec<_> = read(&archive(&image)).iter().map(|e| e.inode).collect();
        inodes.dedup();
        assert_eq!(inodes, [1, 2, 3, 4]);
    }

    #[test]
    fn paths_that_need_resolving_are_refused() {
        for path in ["", "/", "a//b", "../a", "a/..", "./a", "a\0b", "//a"] {
            let mut image = Image::default();
            assert!(image.file(path, 0o644, Vec::new()).is_err(), "{path:?}");
        }
        let mut image = Image::default();
        image.file("/a", 0o644, Vec::new()).unwrap();
        assert!(image.file("a", 0o644, Vec::new()).is_err(), "twice");
    }
}
