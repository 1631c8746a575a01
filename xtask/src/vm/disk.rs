//! The root file system of a guest as a disk: ext4, filled by `mke2fs` from a folder.
//!
//! Needs no root and mounts nothing. Where this process is not root, files belong to its user in the
//! guest too; nobody there minds.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::initramfs::Image;
use crate::host;

/// Room for what the guest writes. The file is sparse: what is not written costs nothing.
const ROOM_MIB: usize = 256;

/// Writes the disk `disk`; `stage` is a folder that is made for it and removed again.
pub(super) fn write(image: &Image, stage: &Path, disk: &Path) -> anyhow::Result<()> {
    let Some(mke2fs) = host::program("mke2fs") else {
        bail!("there is no mke2fs: run `cargo xtask setup` (Debian package e2fsprogs)");
    };
    fs::create_dir(stage).with_context(|| format!("creating {}", stage.display()))?;
    let made = image
        .write_tree(stage)
        .and_then(|()| make(&mke2fs, image.size(), stage, disk));
    let removed =
        fs::remove_dir_all(stage).with_context(|| format!("removing {}", stage.display()));
    made.and(removed)
}

fn make(mke2fs: &Path, bytes: usize, stage: &Path, disk: &Path) -> anyhow::Result<()> {
    // A quarter more, for ext4's own blocks.
    let mib = (bytes / 1024 / 1024)
        .saturating_mul(5)
        .checked_div(4)
        .unwrap_or_default()
        .saturating_add(ROOM_MIB);
    let output = Command::new(mke2fs)
        .args(["-q", "-F", "-t", "ext4", "-d"])
        .arg(stage)
        .arg(disk)
        .arg(format!("{mib}M"))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", mke2fs.display()))?;
    if !output.status.success() {
        bail!(
            "{} for {}: {}\n{}",
            mke2fs.display(),
            disk.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_ext4_and_leaves_no_folder_behind() {
        if host::program("mke2fs").is_none() {
            eprintln!("SKIPPED a_disk_has_ext4_and_leaves_no_folder_behind: there is no mke2fs");
            return;
        }
        let folder = std::env::temp_dir().join(format!("xtask-disk-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let (stage, disk) = (folder.join("root"), folder.join("root.ext4"));
        let mut image = Image::default();
        image
            .file("/init", 0o755, b"#!/bin/busybox sh\n".to_vec())
            .unwrap();
        write(&image, &stage, &disk).unwrap();
        let bytes = fs::read(&disk).unwrap();
        // s_magic of the super block (Documentation/filesystems/ext4/super.rst of the kernel).
        assert_eq!(bytes.get(1024 + 56..1024 + 58), Some(&[0x53, 0xef][..]));
        assert!(
            bytes.windows(17).any(|part| part == b"#!/bin/busybox sh"),
            "the file is in it"
        );
        assert!(!stage.exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
