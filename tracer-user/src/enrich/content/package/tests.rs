//! Databases made up, and of this host.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Mode, OFlags};

use super::super::Moment;
use super::*;
use crate::enrich::content::Is;
use crate::event::ProcessKey;

fn jail(root: &Path) -> Jail {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Jail::new(rustix::fs::open(root, flags, Mode::empty()).unwrap()).unwrap()
}

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn of(packages: &Packages, root: &Path, path: &str) -> Package {
    packages.of(&jail(root), 1, path.as_bytes(), &AtomicU32::new(0))
}

fn owned(kind: PackageKind, name: &str, version: Option<&str>) -> Package {
    Package::Owned(Arc::new(Owner {
        kind,
        name: name.into(),
        version: version.map(Into::into),
    }))
}

#[test]
fn lists_of_dpkg() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let packages = Packages::default();
    assert_eq!(of(&packages, root, "/usr/bin/a"), Package::Unknown);
    fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();
    assert_eq!(of(&packages, root, "/usr/bin/a"), Package::Unknown);

    write(root, "var/lib/dpkg/info/a.list", "/.\n/bin\n/bin/a\n");
    write(root, "var/lib/dpkg/info/libb:amd64.list", "/usr/lib/b/run");
    write(root, "var/lib/dpkg/info/a.md5sums", "x  /usr/bin/other\n");
    write(
        root,
        "var/lib/dpkg/status",
        "Package: ab\nVersion: 9\n\nPackage: a\nStatus: install ok installed\nDescription: x\n \
         Version: 8\nVersion: 1:2-3\n\nPackage: libb\n\nPackage: c\nVersion: 7\n",
    );
    let a = owned(PackageKind::Deb, "a", Some("1:2-3"));
    assert_eq!(of(&packages, root, "/bin/a"), a);
    // Before the directories are one, these are two files.
    assert_eq!(of(&packages, root, "/usr/bin/a"), Package::Nobody);
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
    assert_eq!(of(&packages, root, "/usr/bin/a"), a);
    let b = owned(PackageKind::Deb, "libb", None);
    assert_eq!(of(&packages, root, "/usr/lib/b/run"), b);
    for path in ["/usr/bin/other", "/usr/bin/a/", "/tmp/a", "a"] {
        assert_eq!(of(&packages, root, path), Package::Nobody, "{path}");
    }

    // Another version, another package: neither is taken from what is remembered.
    write(root, "var/lib/dpkg/status", "Package: a\nVersion: 4\n");
    let a = owned(PackageKind::Deb, "a", Some("4"));
    assert_eq!(of(&packages, root, "/usr/bin/a"), a);
    write(root, "var/lib/dpkg/info/new.list", "/tmp/a\n");
    assert_eq!(
        of(&packages, root, "/tmp/a"),
        owned(PackageKind::Deb, "new", None)
    );
    assert_eq!(lock(&packages.indexes).len(), 1);

    // What cannot be read may have it.
    std::os::unix::fs::symlink("/nothing", root.join("var/lib/dpkg/info/x.list")).unwrap();
    assert_eq!(of(&packages, root, "/tmp/b"), Package::Unknown);
}

#[test]
fn the_database_of_apk() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let database = "C:Q1x=\nP:busybox\nV:1.37.0-r12\nA:x86_64\nF:\nR:init\nF:bin\na:0:0:755\nR:busybox\n\n\
        P:bad name\nV:1\nF:opt\nR:x\n\nP:musl\nV:1.2.5-r9\nF:lib\nR:ld-musl-x86_64.so.1\nF:usr/bin\nR:ldd\n";
    write(root, "lib/apk/db/installed", database);
    let packages = Packages::default();
    let busybox = || owned(PackageKind::Apk, "busybox", Some("1.37.0-r12"));
    let musl = || owned(PackageKind::Apk, "musl", Some("1.2.5-r9"));
    for (path, expected) in [
        ("/bin/busybox", busybox()),
        ("/init", busybox()),
        ("/usr/bin/ldd", musl()),
        ("/bin/ldd", Package::Nobody),
        ("/binbusybox", Package::Nobody),
        ("/bin", Package::Nobody),
        ("/usr/bin/busybox", Package::Nobody),
        ("/opt/x", Package::Nobody),
    ] {
        assert_eq!(of(&packages, root, path), expected, "{path}");
    }
    // A directory in its place.
    fs::remove_file(root.join("lib/apk/db/installed")).unwrap();
    fs::create_dir(root.join("lib/apk/db/installed")).unwrap();
    assert_eq!(of(&packages, root, "/init"), Package::Unknown);
}

#[test]
fn lines_are_bounded() {
    let long = "y".repeat(usize::try_from(LINE).unwrap());
    let input = format!("a\n{long}{long}tail\n\nb\nc");
    let of = |left: &mut u64| {
        let mut told = Vec::new();
        let read = lines(input.as_bytes(), left, &AtomicU32::new(0), |line| {
            told.push(line.to_vec());
            ControlFlow::<()>::Continue(())
        });
        (told, read.is_ok())
    };
    let whole = [&b"a"[..], b"", b"b", b"c"].map(<[u8]>::to_vec).to_vec();
    assert_eq!(of(&mut { u64::MAX }), (whole, true));
    assert_eq!(of(&mut { 3 }), (vec![b"a".to_vec()], false));
}

#[test]
fn an_index_is_bounded() {
    let root = tempfile::tempdir().unwrap();
    let path = "/x\n".repeat(INDEX_BYTES / size_of::<u64>() + 1);
    write(root.path(), "var/lib/dpkg/info/a.list", &path);
    let index = Index::build(&jail(root.path()), &AtomicU32::new(0));
    assert!(!index.whole);
    assert!(index.paths.len() * size_of::<u64>() <= INDEX_BYTES);
    let packages = Packages::default();
    let none = of(&packages, root.path(), "/y");
    assert_eq!(none, Package::Unknown, "not all was read");
    let state = jail(root.path()).state(b"/var").unwrap();
    for mnt_ns in 0..20 {
        packages.remember((mnt_ns, state), Arc::default());
    }
    assert_eq!(lock(&packages.indexes).len(), INDEXES);
}

/// This host's own database, where it has dpkg.
#[test]
fn what_dpkg_says_is_said() {
    let query = |args: &[&str]| {
        let output = Command::new("dpkg-query").args(args).output().ok()?;
        let output = output.status.success().then_some(output.stdout)?;
        String::from_utf8(output).ok()
    };
    let Some(version) = query(&["-W", "-f", "${Version}", "dash"]) else {
        println!("not tested: there is no dpkg that has dash here");
        return;
    };
    let tgid = std::process::id();
    let started = crate::source::snapshot::started(Path::new("/proc"), tgid);
    let link = fs::read_link("/proc/self/ns/mnt").unwrap();
    let number = link.to_str().unwrap().trim_start_matches("mnt:[");
    let mnt_ns = number.trim_end_matches(']').parse().unwrap();
    let key = ProcessKey {
        tgid,
        start_ticks: started.unwrap(),
    };
    let entered = Entered::new(key, mnt_ns).unwrap();
    let packages = Packages::default();
    let asked = |path: &Path| {
        let path = path.as_os_str().as_encoded_bytes().to_vec();
        let place = entered.jail().place(&path).unwrap();
        let file = identity::of(entered.process(), &place).unwrap();
        ContentAsked {
            moment: Moment { file, boot_ns: 1 },
            is: Is::Executable,
            path,
            mnt_ns,
            processes: vec![key],
        }
    };
    let owner = |asked: &ContentAsked| packages.owner(&entered, asked, &AtomicU32::new(0));
    let dash = fs::canonicalize("/bin/dash").unwrap();
    let mut asked_dash = asked(&dash);
    let expected = owned(PackageKind::Deb, "dash", Some(&version));
    assert_eq!(owner(&asked_dash), expected);
    assert_eq!(owner(&asked_dash), expected, "remembered");
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().canonicalize().unwrap().join("dash");
    fs::copy(&dash, &copy).unwrap();
    assert_eq!(owner(&asked(&copy)), Package::Nobody);
    // A file that is not at its path any more, and one of that name that is.
    asked_dash.moment.file.inode += 1;
    assert_eq!(owner(&asked_dash), Package::Unknown);
    asked_dash.path.extend_from_slice(b" (deleted)");
    assert_eq!(owner(&asked_dash), Package::Unknown);
    asked_dash.path = b"/memfd:dash (deleted)".to_vec();
    assert_eq!(owner(&asked_dash), Package::Nobody);
}
