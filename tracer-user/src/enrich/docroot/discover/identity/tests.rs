//! What stat(2) says of directories, under all their names.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::super::super::{Kind, Origin};
use super::*;

fn entry(pattern: &Path, origin: Origin) -> Entry {
    Entry {
        pattern: pattern.as_os_str().as_encoded_bytes().to_vec(),
        kind: Kind::Served,
        origin,
        source: "test".to_owned(),
        mnt_ns: None,
    }
}

/// Asks for the paths, and gives the patterns that were found with the inode of each, sorted.
fn found(paths: &[&Path]) -> Vec<(Vec<u8>, u64)> {
    let entries: Vec<Entry> = paths
        .iter()
        .map(|path| entry(path, Origin::Config))
        .collect();
    let mut found: Vec<_> = identify(&DiscoverRequest::own().unwrap(), &entries)
        .into_iter()
        .map(|(file, entry)| (entry.pattern, file.inode))
        .collect();
    found.sort();
    found
}

fn expected(rows: &[(&Path, &Path)]) -> Vec<(Vec<u8>, u64)> {
    let row = |(pattern, place): &(&Path, &Path)| {
        let inode = fs::metadata(place).unwrap().ino();
        (pattern.as_os_str().as_encoded_bytes().to_vec(), inode)
    };
    rows.iter().map(row).collect()
}

#[test]
fn a_directory_is_one_under_all_its_names() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    for name in ["real/html", "users/a/www", "users/b/www", "users/c"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    fs::write(at("users/file"), "").unwrap();
    fs::write(at("php.ini"), "").unwrap();
    symlink("real", at("link")).unwrap();
    symlink("/", at("everything")).unwrap();
    let link = at("link/html");
    assert_eq!(found(&[&link]), expected(&[(&link, &at("real/html"))]));
    // One directory, one answer: the first of two that are alike, and the higher origin.
    let real = at("real/html");
    assert_eq!(found(&[&real, &link]), expected(&[(&real, &real)]));
    let both = [entry(&real, Origin::Default), entry(&link, Origin::Config)];
    let [(_, one)] = identify(&DiscoverRequest::own().unwrap(), &both)
        .try_into()
        .unwrap();
    assert_eq!(one.origin, Origin::Config);
    // Any name, but only directories.
    let any = at("users/*/www");
    let [a, b] = ["users/a/www", "users/b/www"].map(|name| fs::metadata(at(name)).unwrap().ino());
    let mut inodes: Vec<u64> = found(&[&any]).into_iter().map(|(_, inode)| inode).collect();
    inodes.sort_unstable();
    let mut both = [a, b];
    both.sort_unstable();
    assert_eq!(inodes, both);
    // What is not there, is no directory, or is the whole system by another name.
    for path in ["nothing/here", "php.ini", "everything", "everything/usr"] {
        assert_eq!(found(&[&at(path)]), [], "{path}");
    }
    // Created later.
    fs::create_dir_all(at("nothing/here")).unwrap();
    assert_eq!(found(&[&at("nothing/here")]).len(), 1);
}

#[test]
fn devices_are_the_kernels_own() {
    // Those of mountinfo; a file system without a disk has no other.
    let shm = Path::new("/dev/shm");
    let entries = [entry(shm, Origin::Config)];
    let [(file, _)] = identify(&DiscoverRequest::own().unwrap(), &entries)
        .try_into()
        .unwrap();
    let meta = fs::metadata(shm).unwrap();
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    assert_eq!(file.dev, major << 20 | minor);
    assert_eq!(file.inode, meta.ino());
}

#[test]
fn another_process_is_not_believed() {
    let home = tempfile::tempdir().unwrap();
    let entries = [entry(home.path(), Origin::Config)];
    let own = DiscoverRequest::own().unwrap();
    assert_eq!(identify(&own, &entries).len(), 1);
    let earlier = DiscoverRequest {
        start_ticks: own.start_ticks + 1,
        ..own.clone()
    };
    assert_eq!(identify(&earlier, &entries), []);
    let elsewhere = DiscoverRequest { mnt_ns: 1, ..own };
    assert_eq!(identify(&elsewhere, &entries), []);
}

/// Does something in a mount namespace of its own, and says how a process there sees it.
fn apart(body: impl FnOnce(&dyn Fn() -> View) + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED mounts: not root");
        return;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            #[expect(unsafe_code, reason = "a mount namespace has to be left to be tested")]
            // SAFETY: only this thread's mounts and working directory part from the others', and the
            // thread ends here.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
            let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", flags).unwrap();
            body(&|| {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let thread = rustix::fs::open("/proc/thread-self", flags, Mode::empty()).unwrap();
                View::of(&thread).unwrap()
            });
        });
    });
}

fn identity(view: &View, path: &Path) -> Option<FileId> {
    view.identity(path.as_os_str().as_encoded_bytes())
}

#[test]
fn mounts_lead_to_the_same_directory() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    for name in [
        "site/html",
        "bound",
        "over",
        "lower/html",
        "upper",
        "work",
        "root",
    ] {
        fs::create_dir_all(at(name)).unwrap();
    }
    apart(|view| {
        let site = identity(&view(), &at("site/html")).unwrap();
        mount_bind(at("site"), at("bound")).unwrap();
        assert_eq!(identity(&view(), &at("bound/html")), Some(site));
        // A whole system directory stays one, by whatever name.
        mount_bind("/", at("root")).unwrap();
        let bound = view();
        let wide: HashSet<FileId> = bound.wide().collect();
        let etc = identity(&bound, &at("root/etc")).unwrap();
        assert!(wide.contains(&etc), "{etc:?}");
        // An overlay's own device is in mountinfo; what stat(2) says may be the disk's.
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            at("lower").display(),
            at("upper").display(),
            at("work").display()
        );
        let layers = std::ffi::CString::new(layers).unwrap();
        if let Err(error) = mount(
            "overlay",
            at("over"),
            "overlay",
            MountFlags::empty(),
            layers.as_c_str(),
        ) {
            eprintln!("SKIPPED overlay: {error}");
            return;
        }
        let over = identity(&view(), &at("over/html")).unwrap();
        let info = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let place = at("over").display().to_string();
        let line = info.lines().find(|line| line.contains(&place)).unwrap();
        let (major, minor) = line.split(' ').nth(2).unwrap().split_once(':').unwrap();
        let expected = device(major.parse().unwrap(), minor.parse().unwrap());
        assert_eq!(Some(over.dev), expected);
        assert_ne!(Some(over), identity(&view(), &at("lower/html")));
        unmount(at("over"), UnmountFlags::empty()).unwrap();
    });
}

#[test]
fn mounts_are_read_as_they_are_written() {
    let text = b"21 1 8:2 / / rw - ext4 /dev/sda2 rw\n\
        22 21 0:45 /a /home rw shared:3 master:1 - autofs systemd-1 rw\n\
        23 22 0:46 / /home/bob\\040x rw - nfs4 host:/b rw\n\
        24 21 259:1 / /srv rw - autofs x rw\n\
        25 24 4095:1048575 / /srv rw - ext4 /dev/x rw\n\
        broken\n26 1 9999:1 / /no rw - ext4 x rw\n";
    let mounts = Mounts::parse(text);
    assert_eq!(mounts.devices.get(&21), Some(&(8 << 20 | 2)));
    assert_eq!(mounts.devices.get(&23), Some(&46));
    assert_eq!(mounts.devices.get(&25), Some(&u32::MAX));
    assert_eq!(mounts.devices.len(), 5);
    for (path, would) in [
        ("/", false),
        ("", false),
        ("/var/www", false),
        ("/home", true),
        ("/home/alice/www", true),
        ("/home/bob x/www", false),
        ("/homework", false),
        // What was mounted there covers it.
        ("/srv/www", false),
    ] {
        assert_eq!(mounts.would_mount(path.as_bytes()), would, "{path}");
    }
    assert!(!Mounts::parse(b"").would_mount(b"/home"));
    assert_eq!(unescaped(b"a\\134b\\9\\"), b"a\\b\\9\\");
    assert_eq!(
        number(b"pos:\t0\nmnt_id:\t23\nino:\t77\n", b"ino:"),
        Some(77)
    );
}

#[test]
fn unknown_files_are_no_directories() {
    let nowhere = PathBuf::from("/nowhere/at/all");
    assert_eq!(found(&[&nowhere]), []);
}
