//! Watched directories: by identity, whatever name or mount leads there.
//!
//! The directories are found as the agent finds them, in the view of the child that then writes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use tracer::enrich::docroot::{DiscoverRequest, Entry, Kind, Origin, identify};
use tracer::event::FileId;
use tracer_common::event::{EventKind, flag};

use crate::child::{Child, Talk};
use crate::facts::{self, bytes};
use crate::stage::{Outcome, Skip, Stage, Test, tests};
use crate::sys;

pub(crate) const TESTS: &[Test] = tests!("directory":
    by_every_name,
    a_part_mounted_elsewhere,
    a_mount_that_was_taken_away,
    in_a_container,
    moved_and_forgotten,
    another_with_its_number,
);

/// Where these directories are, as a process sees them.
fn found(child: &Child, directories: &[PathBuf]) -> Vec<FileId> {
    located(child, directories)
        .into_iter()
        .map(|(file, _)| file)
        .collect()
}

/// The same, and their generations.
fn located(child: &Child, directories: &[PathBuf]) -> Vec<(FileId, u32)> {
    let key = facts::key(child.pid);
    let request = DiscoverRequest {
        tgid: key.tgid,
        start_ticks: key.start_ticks,
        server: "nginx",
        args: Vec::new(),
        exe: Vec::new(),
        cwd: Vec::new(),
        mnt_ns: facts::namespace(child.pid, "mnt"),
        uid: 0,
    };
    let entry = |path: &PathBuf| Entry {
        pattern: bytes(path),
        kind: Kind::Served,
        origin: Origin::Config,
        source: "test".to_owned(),
        mnt_ns: None,
    };
    let mut found = Vec::new();
    for path in directories {
        let [(file, located)] = identify(&request, &[entry(path)]).try_into().unwrap();
        found.push((file, located.generation));
    }
    found
}

/// A mount namespace of its own, whose mounts nobody else sees.
fn part() {
    sys::unshare(libc::CLONE_NEWNS).unwrap();
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .unwrap();
}

/// Creates a file.
fn write(path: &Path) {
    sys::creat(&sys::c(path), 0o600).unwrap();
}

/// Takes the next open, and says which watched directory it was in.
fn told(stage: &mut Stage, child: &Child, name: &str) -> Option<FileId> {
    let (_, open) = stage.watch.open(child.pid);
    assert!(
        open.path.ends_with(name.as_bytes()),
        "{open:?} is no {name}"
    );
    open.directory
}

/// A child that prepares, waits to be asked about, and then does `body`.
fn server(stage: &mut Stage, prepare: impl FnOnce(), body: impl FnOnce(&mut Talk)) -> Child {
    let mut child = stage.server(|talk| {
        prepare();
        talk.done();
        talk.wait();
        body(talk);
    });
    child.hear();
    child
}

/// Lets it write, and then end.
fn done(stage: &mut Stage, child: &mut Child, watched: &[FileId]) {
    for directory in watched {
        stage.watch.sensor.unwatch_directory((*directory).into());
    }
    child.go();
    child.end_well();
}

fn by_every_name(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let at = |name: &str| folder.join(name);
    for name in ["site/html/deep/er", "bound", "elsewhere"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    symlink("site", at("link")).unwrap();
    let through_root = PathBuf::from(format!("/proc/self/root{}", at("site/html").display()));
    let places = [
        at("site/html"),
        at("link/html"),
        at("bound/html"),
        at("elsewhere/../site/html"),
        through_root,
        at("site/html/deep/er"),
    ];
    let prepare = || {
        part();
        mount_bind(at("site"), at("bound")).unwrap();
    };
    let mut child = server(stage, prepare, |_| {
        for (number, place) in places.iter().enumerate() {
            write(&place.join(number.to_string()));
        }
        write(&at("elsewhere/last"));
    });
    // As the server names it: by a link.
    let watched = found(&child, &[at("link/html")]);
    assert_eq!(watched, [facts::file(&at("site/html"))]);
    stage
        .watch
        .sensor
        .watch_directory(watched[0].into(), 0)
        .unwrap();
    child.go();
    child.hear();
    for (number, place) in places.iter().enumerate() {
        let directory = told(stage, &child, &number.to_string());
        assert_eq!(directory, Some(watched[0]), "{}", place.display());
    }
    assert_eq!(told(stage, &child, "last"), None);
    done(stage, &mut child, &watched);
    Ok(())
}

/// A folder or a file below a watched directory, mounted where nobody watches: none of the names on the way
/// to it is the directory's.
fn a_part_mounted_elsewhere(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let at = |name: &str| folder.join(name);
    for name in ["html/uploads/2024", "bound", "bound again", "elsewhere"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for name in ["html/page", "file"] {
        fs::write(at(name), "x").unwrap();
    }
    // Deeper than a walk goes.
    let mut deep = at("html");
    for _ in 0..80 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir(at("deep")).unwrap();
    let prepare = || {
        part();
        mount_bind(at("html/uploads"), at("bound")).unwrap();
        mount_bind(at("bound/2024"), at("bound again")).unwrap();
        mount_bind(at("html/page"), at("file")).unwrap();
        mount_bind(&deep, at("deep")).unwrap();
    };
    let names = [
        "bound/shell",
        "bound/2024/shell",
        "bound again/last",
        "file",
    ];
    let mut child = server(stage, prepare, |_| {
        for name in names {
            write(&at(name));
        }
        std::env::set_current_dir(at("bound")).unwrap();
        fs::rename("shell", "moved").unwrap();
        write(&at("deep/shell"));
        write(&at("elsewhere/shell"));
    });
    let watched = found(&child, &[at("html")]);
    let watch = &mut stage.watch.sensor;
    watch.watch_directory(watched[0].into(), 0).unwrap();
    child.go();
    child.hear();
    for name in names {
        let (meta, open) = stage.watch.open(child.pid);
        assert_eq!(open.path, bytes(at(name)));
        assert_eq!(open.directory, Some(watched[0]), "{name}");
        assert_eq!(meta.flags & flag::PATH_TRUNCATED, 0, "{name}");
    }
    let (_, rename) = stage.watch.change(EventKind::Rename, child.pid);
    assert_eq!(rename.directory, Some(watched[0]));
    let (meta, open) = stage.watch.open(child.pid);
    assert_eq!((open.path, open.directory), (bytes(at("deep/shell")), None));
    assert_ne!(meta.flags & flag::PATH_TRUNCATED, 0, "it may be anywhere");
    let (meta, open) = stage.watch.open(child.pid);
    assert_eq!(open.path, bytes(at("elsewhere/shell")));
    assert_eq!(
        (open.directory, meta.flags & flag::PATH_TRUNCATED),
        (None, 0)
    );
    done(stage, &mut child, &watched);
    Ok(())
}

/// What lies on a mount that has no place any more: the path begins nowhere, which is said.
fn a_mount_that_was_taken_away(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let at = |name: &str| folder.join(name);
    for name in ["html/uploads", "bound"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    let prepare = || {
        part();
        mount_bind(at("html/uploads"), at("bound")).unwrap();
        std::env::set_current_dir(at("bound")).unwrap();
        unmount(at("bound"), UnmountFlags::DETACH).unwrap();
    };
    let mut child = server(stage, prepare, |_| write(Path::new("shell")));
    let watched = found(&child, &[at("html")]);
    let watch = &mut stage.watch.sensor;
    watch.watch_directory(watched[0].into(), 0).unwrap();
    child.go();
    child.hear();
    let (meta, open) = stage.watch.open(child.pid);
    assert_eq!(open.path, b"/shell");
    assert_ne!(meta.flags & flag::PATH_TRUNCATED, 0);
    assert_eq!(open.directory, Some(watched[0]));
    done(stage, &mut child, &watched);
    Ok(())
}

fn in_a_container(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let at = |name: &str| folder.join(name);
    for name in [
        "lower/srv/html",
        "lower/data",
        "upper",
        "work",
        "root",
        "volume/html",
    ] {
        fs::create_dir_all(at(name)).unwrap();
    }
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        at("lower").display(),
        at("upper").display(),
        at("work").display()
    );
    let layers = std::ffi::CString::new(layers).unwrap();
    let mut child = stage.server(|talk| {
        part();
        let flags = MountFlags::empty();
        let overlaid = mount("overlay", at("root"), "overlay", flags, layers.as_c_str()).is_ok();
        if !overlaid {
            mount_bind(at("lower"), at("root")).unwrap();
        }
        mount_bind(at("volume"), at("root/data")).unwrap();
        std::os::unix::fs::chroot(at("root")).unwrap();
        std::env::set_current_dir("/").unwrap();
        talk.say(overlaid.into());
        talk.wait();
        for name in ["/srv/html/own", "/data/html/shared", "/srv/outside"] {
            write(Path::new(name));
        }
    });
    let has_overlay = child.hear();
    let names = ["/srv/html", "/data/html"].map(PathBuf::from);
    let watched = found(&child, &names);
    // A directory of the container's own file system, and one of the host's that it was given.
    assert_eq!(watched[1], facts::file(&at("volume/html")));
    if has_overlay == 0 {
        eprintln!("the kernel has no overlayfs: a bind mount stands for it");
        assert_eq!(watched[0], facts::file(&at("lower/srv/html")));
    } else {
        assert_ne!(watched[0].dev, facts::file(&at("lower/srv/html")).dev);
    }
    for directory in &watched {
        stage
            .watch
            .sensor
            .watch_directory((*directory).into(), 0)
            .unwrap();
    }
    child.go();
    child.hear();
    assert_eq!(told(stage, &child, "own"), Some(watched[0]));
    assert_eq!(told(stage, &child, "shared"), Some(watched[1]));
    assert_eq!(told(stage, &child, "outside"), None);
    done(stage, &mut child, &watched);
    Ok(())
}

fn moved_and_forgotten(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let at = |name: &str| folder.join(name);
    fs::create_dir_all(at("html")).unwrap();
    let mut child = server(
        stage,
        || (),
        |talk| {
            write(&at("moved/first"));
            talk.done();
            talk.wait();
            write(&at("moved/second"));
        },
    );
    let watched = found(&child, &[at("html")]);
    stage
        .watch
        .sensor
        .watch_directory(watched[0].into(), 0)
        .unwrap();
    // It stays the same directory.
    fs::rename(at("html"), at("moved")).unwrap();
    child.go();
    child.hear();
    assert_eq!(told(stage, &child, "first"), Some(watched[0]));
    stage.watch.sensor.unwatch_directory(watched[0].into());
    child.go();
    child.hear();
    assert_eq!(told(stage, &child, "second"), None);
    done(stage, &mut child, &[]);
    Ok(())
}

/// A directory that was removed: the next with its inode number has another generation.
fn another_with_its_number(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let at = |name: &str| folder.join(name);
    fs::create_dir_all(at("html")).unwrap();
    let mut child = server(
        stage,
        || (),
        |talk| {
            write(&at("html/first"));
            talk.done();
            talk.wait();
            write(&at("html/second"));
        },
    );
    let [(directory, generation)] = located(&child, &[at("html")]).try_into().unwrap();
    if generation == 0 {
        return Err(Skip("this file system tells no generations".to_owned()));
    }
    let watch = |stage: &mut Stage, generation| {
        let key = directory.into();
        stage.watch.sensor.watch_directory(key, generation).unwrap();
    };
    watch(stage, generation);
    child.go();
    child.hear();
    assert_eq!(told(stage, &child, "first"), Some(directory));
    watch(stage, generation ^ 1);
    child.go();
    child.hear();
    assert_eq!(told(stage, &child, "second"), None);
    done(stage, &mut child, &[directory]);
    Ok(())
}
