//! Names and attributes that a server lineage changes: every call, by every convention.
//!
//! The tiers agree in what happened to which file. What only the call itself says (flags, the mode that
//! was asked for) is held against it where the call is what is looked at.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use libc::{AT_FDCWD, AT_REMOVEDIR, O_RDWR, O_TMPFILE, c_long};
use tracer::event::{Change, Meta};
use tracer_common::event::{EventKind, flag};
use tracer_common::probe::Tier;

use crate::child::Child;
use crate::facts::{self, bytes};
use crate::stage::{Outcome, Skip, Stage, Test, tests};
use crate::sys;
use crate::sys::files::{self, Arg};

pub(crate) const TESTS: &[Test] = tests!("change":
    every_call,
    every_call_of_the_32_bit_convention,
    a_file_without_a_name_gets_one,
    mounts,
    an_empty_name_is_the_descriptor,
    registers_wider_than_the_convention,
);

/// One call and what is to be told of it.
struct Case<'a> {
    /// Its number, by the kernel's own convention and by the 32-bit one.
    numbers: [Option<c_long>; 2],
    arguments: Vec<Arg<'a>>,
    kind: EventKind,
    old: Option<PathBuf>,
    new: PathBuf,
    detail: &'static str,
    number: u64,
    flags: u32,
    new_mode: u16,
    /// The call came with a descriptor of the file.
    by_file: bool,
}

impl<'a> Case<'a> {
    fn new(
        numbers: [Option<c_long>; 2],
        arguments: impl Into<Vec<Arg<'a>>>,
        kind: EventKind,
        new: PathBuf,
    ) -> Self {
        Self {
            numbers,
            arguments: arguments.into(),
            kind,
            old: None,
            new,
            detail: "",
            number: 0,
            flags: 0,
            new_mode: 0,
            by_file: false,
        }
    }

    fn old(self, old: PathBuf) -> Self {
        Self {
            old: Some(old),
            ..self
        }
    }

    fn detail(self, detail: &'static str) -> Self {
        Self { detail, ..self }
    }

    fn number(self, number: u64) -> Self {
        Self { number, ..self }
    }

    fn flags(self, flags: i32) -> Self {
        Self {
            flags: flags as u32,
            ..self
        }
    }

    fn mode(self, new_mode: u16) -> Self {
        Self { new_mode, ..self }
    }

    fn by_file(self) -> Self {
        Self {
            by_file: true,
            ..self
        }
    }

    /// Holds a record against it.
    fn check(&self, meta: &Meta, change: &Change, file: Option<tracer::event::FileId>) {
        assert_eq!(change.kind, self.kind);
        assert_eq!(change.new, bytes(&self.new), "{:?}", self.arguments);
        assert_eq!(
            change.old,
            self.old.as_ref().map(bytes).unwrap_or_default(),
            "{:?}",
            self.arguments
        );
        assert_eq!(change.early, None);
        if meta.tier == Tier::Tracepoint {
            assert_eq!(change.detail, self.detail.as_bytes());
            assert_eq!(
                (change.number, change.flags, change.new_mode),
                (self.number, self.flags, self.new_mode),
                "{:?} {:?}",
                self.kind,
                self.arguments
            );
            assert_eq!(meta.flags & flag::RESOLVED != 0, self.by_file);
        }
        if self.by_file {
            assert_eq!(change.file, file, "{:?}", self.kind);
        }
    }
}

/// `minor | major << 8`, as a system call has it.
const NULL: i64 = 1 << 8 | 3;
/// And as the kernel keeps it.
const KERNEL_NULL: u64 = 1 << 20 | 3;

/// `AT_*` and numbers that the C library of the build may not know.
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;

/// All of them, in an order in which they succeed: `file` is there, and `dir`, and `fd` is of the former
/// for writing, `at` of the latter.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn cases<'a>(folder: &Path, at: i32, fd: i32, paths: &'a Paths) -> Vec<Case<'a>> {
    use Arg::{Number, Text};
    use EventKind::{
        Chmod, Chown, Link, Mkdir, Mknod, Rename, Setxattr, Symlink, Truncate, Unlink,
    };

    let (at, fd) = (Number(at.into()), Number(fd.into()));
    let here = Number(AT_FDCWD.into());
    let zero = Number(0);
    let below = folder.join("dir");
    let file = folder.join("file");
    let one = folder.join("one");
    let p = paths;
    let x = |number: c_long| cfg!(target_arch = "x86_64").then_some(number);
    // Where rename(2) has left the file, which not every processor has.
    let moved = if cfg!(target_arch = "x86_64") {
        (&p.one, &one)
    } else {
        (&p.file, &file)
    };
    let attribute = Arg::Bytes(b"value");
    // `struct xattr_args`: address, size, flags. The address is filled in by nobody: a length of zero.
    let mut cases = vec![
        Case::new(
            [x(82), Some(38)],
            [Text(&p.file), Text(&p.one)],
            Rename,
            one.clone(),
        )
        .old(file.clone()),
        Case::new(
            [Some(libc::SYS_renameat), Some(302)],
            [here, Text(moved.0), at, Text(c"two")],
            Rename,
            below.join("two"),
        )
        .old(moved.1.clone()),
        Case::new(
            [Some(libc::SYS_renameat2), Some(353)],
            [
                at,
                Text(c"two"),
                here,
                Text(&p.file),
                Number(libc::RENAME_NOREPLACE.into()),
            ],
            Rename,
            file.clone(),
        )
        .old(below.join("two"))
        .flags(libc::RENAME_NOREPLACE as i32),
        Case::new(
            [x(86), Some(9)],
            [Text(&p.file), Text(&p.one)],
            Link,
            one.clone(),
        )
        .old(file.clone()),
        Case::new(
            [Some(libc::SYS_linkat), Some(303)],
            [here, Text(&p.file), at, Text(c"link"), zero],
            Link,
            below.join("link"),
        )
        .old(file.clone()),
        Case::new([x(87), Some(10)], [Text(&p.one)], Unlink, one.clone()),
        Case::new(
            [Some(libc::SYS_unlinkat), Some(301)],
            [at, Text(c"link"), zero],
            Unlink,
            below.join("link"),
        ),
        Case::new(
            [x(88), Some(83)],
            [Text(c"to"), Text(&p.one)],
            Symlink,
            one.clone(),
        )
        .detail("to"),
        Case::new(
            [Some(libc::SYS_symlinkat), Some(304)],
            [Text(c"../to"), at, Text(c"sym")],
            Symlink,
            below.join("sym"),
        )
        .detail("../to"),
        Case::new(
            [x(83), Some(39)],
            [Text(&p.new), Number(0o750)],
            Mkdir,
            folder.join("new"),
        )
        .mode(0o750),
        Case::new(
            [Some(libc::SYS_mkdirat), Some(296)],
            [at, Text(c"new"), Number(0o700)],
            Mkdir,
            below.join("new"),
        )
        .mode(0o700),
        Case::new(
            [x(84), Some(40)],
            [Text(&p.new)],
            Unlink,
            folder.join("new"),
        )
        .flags(AT_REMOVEDIR),
        Case::new(
            [Some(libc::SYS_unlinkat), Some(301)],
            [at, Text(c"new"), Number(AT_REMOVEDIR.into())],
            Unlink,
            below.join("new"),
        )
        .flags(AT_REMOVEDIR),
        Case::new(
            [x(133), Some(14)],
            [Text(&p.new), Number(0o010_600), zero],
            Mknod,
            folder.join("new"),
        )
        .mode(0o010_600),
        Case::new(
            [Some(libc::SYS_mknodat), Some(297)],
            [at, Text(c"null"), Number(0o020_600), Number(NULL)],
            Mknod,
            below.join("null"),
        )
        .mode(0o020_600)
        .number(KERNEL_NULL),
        Case::new(
            [Some(libc::SYS_truncate), Some(92)],
            [Text(&p.file), Number(5)],
            Truncate,
            file.clone(),
        )
        .number(5),
        Case::new(
            [None, Some(193)],
            [Text(&p.file), Number(6), Number(1)],
            Truncate,
            file.clone(),
        )
        .number(1 << 32 | 6),
        Case::new(
            [Some(libc::SYS_ftruncate), Some(93)],
            [fd, Number(7)],
            Truncate,
            file.clone(),
        )
        .number(7)
        .by_file(),
        Case::new(
            [None, Some(194)],
            [fd, Number(8), zero],
            Truncate,
            file.clone(),
        )
        .number(8)
        .by_file(),
        Case::new(
            [x(90), Some(15)],
            [Text(&p.file), Number(0o640)],
            Chmod,
            file.clone(),
        )
        .mode(0o640),
        Case::new(
            [Some(libc::SYS_fchmod), Some(94)],
            [fd, Number(0o4755)],
            Chmod,
            file.clone(),
        )
        .mode(0o4755)
        .by_file(),
        Case::new(
            [Some(libc::SYS_fchmodat), Some(306)],
            [at, Text(c"../file"), Number(0o600)],
            Chmod,
            file.clone(),
        )
        .mode(0o600),
        Case::new(
            [Some(FCHMODAT2), Some(FCHMODAT2)],
            [here, Text(&p.file), Number(0o644), zero],
            Chmod,
            file.clone(),
        )
        .mode(0o644),
        Case::new(
            [x(92), Some(212)],
            [Text(&p.file), Number(70_000), Number(2)],
            Chown,
            file.clone(),
        )
        .number(70_000 << 32 | 2),
        Case::new(
            [x(94), Some(198)],
            [Text(&p.file), Number(-1), Number(3)],
            Chown,
            file.clone(),
        )
        .number(u64::from(u32::MAX) << 32 | 3),
        Case::new(
            [None, Some(182)],
            [Text(&p.file), Number(4), Number(-1)],
            Chown,
            file.clone(),
        )
        .number(4 << 32 | u64::from(u32::MAX)),
        Case::new(
            [None, Some(16)],
            [Text(&p.file), Number(5), Number(6)],
            Chown,
            file.clone(),
        )
        .number(5 << 32 | 6),
        Case::new(
            [Some(libc::SYS_fchown), Some(207)],
            [fd, Number(0), Number(-1)],
            Chown,
            file.clone(),
        )
        .number(u32::MAX.into())
        .by_file(),
        Case::new(
            [None, Some(95)],
            [fd, Number(-1), Number(9)],
            Chown,
            file.clone(),
        )
        .number(u64::from(u32::MAX) << 32 | 9)
        .by_file(),
        Case::new(
            [Some(libc::SYS_fchownat), Some(298)],
            [at, Text(c"../file"), Number(10), Number(11), zero],
            Chown,
            file.clone(),
        )
        .number(10 << 32 | 11),
        Case::new(
            [Some(libc::SYS_setxattr), Some(226)],
            [
                Text(&p.file),
                Text(c"trusted.a"),
                attribute,
                Number(5),
                zero,
            ],
            Setxattr,
            file.clone(),
        )
        .detail("trusted.a")
        .number(5),
        Case::new(
            [Some(libc::SYS_lsetxattr), Some(227)],
            [
                Text(&p.file),
                Text(c"trusted.b"),
                attribute,
                Number(4),
                zero,
            ],
            Setxattr,
            file.clone(),
        )
        .detail("trusted.b")
        .number(4),
        Case::new(
            [Some(libc::SYS_fsetxattr), Some(228)],
            [fd, Text(c"trusted.c"), attribute, Number(3), zero],
            Setxattr,
            file.clone(),
        )
        .detail("trusted.c")
        .number(3)
        .by_file(),
    ];
    // The address of the value is a word of the structure: its bytes begin with that of nothing.
    cases.push(
        Case::new(
            [Some(SETXATTRAT), None],
            [
                here,
                Text(&p.file),
                zero,
                Text(c"trusted.d"),
                Arg::Bytes(&[0; 16]),
                Number(16),
            ],
            Setxattr,
            file,
        )
        .detail("trusted.d"),
    );
    cases
}

/// Paths as the kernel takes them.
struct Paths {
    file: std::ffi::CString,
    one: std::ffi::CString,
    new: std::ffi::CString,
}

/// Has a child of a server lineage make the calls of one convention, and takes the records.
fn make(stage: &mut Stage, convention: usize) {
    let folder = stage.folder();
    let below = folder.join("dir");
    fs::create_dir(&below).unwrap();
    let file = File::create(folder.join("file")).unwrap();
    let at = File::open(&below).unwrap();
    let paths = Paths {
        file: sys::c(folder.join("file")),
        one: sys::c(folder.join("one")),
        new: sys::c(folder.join("new")),
    };
    let cases: Vec<Case<'_>> = cases(&folder, at.as_raw_fd(), file.as_raw_fd(), &paths)
        .into_iter()
        .filter(|case| case.numbers[convention].is_some())
        .collect();
    let id = facts::file(&folder.join("file"));
    let mut child = stage.tagged(|talk| {
        for case in &cases {
            let number = case.numbers[convention].unwrap();
            let made = if convention == 0 {
                files::call(number, &case.arguments)
            } else {
                compat_call(number, &case.arguments)
            };
            talk.say(made.map_or_else(|error| error.raw_os_error().unwrap() as u64, |_| 0));
        }
        talk.wait();
        0
    });
    for case in &cases {
        match child.hear() as i32 {
            0 => {
                let (meta, change) = stage.watch.change(case.kind, child.pid);
                case.check(&meta, &change, Some(id));
                assert_eq!(meta.flags & flag::COMPAT != 0, convention == 1);
            }
            // A kernel or a file system that does not have it.
            libc::ENOSYS | libc::EOPNOTSUPP => {}
            error => panic!(
                "{:?} {:?}: {}",
                case.kind,
                case.arguments,
                std::io::Error::from_raw_os_error(error)
            ),
        }
    }
    nothing_else(stage, child);
}

#[cfg(target_arch = "x86_64")]
fn compat_call(number: c_long, arguments: &[Arg<'_>]) -> std::io::Result<u32> {
    files::compat_call(number as u32, arguments)
}

#[cfg(not(target_arch = "x86_64"))]
fn compat_call(_: c_long, _: &[Arg<'_>]) -> std::io::Result<u32> {
    unreachable!("a 64-bit process makes no 32-bit calls on this architecture")
}

/// Ends a child that did all it was to do; of names and attributes nothing else is known of it.
fn nothing_else(stage: &mut Stage, child: Child) {
    let mut rest = stage.end(child);
    rest.retain(|event| matches!(event.payload, tracer::event::Payload::Change(_)));
    assert_eq!(rest, []);
}

fn every_call(stage: &mut Stage) -> Outcome {
    make(stage, 0);
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn every_call_of_the_32_bit_convention(stage: &mut Stage) -> Outcome {
    crate::stage::needs_compat()?;
    make(stage, 1);
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn every_call_of_the_32_bit_convention(_: &mut Stage) -> Outcome {
    Err(Skip(
        "a 64-bit process makes no 32-bit calls on this architecture".into(),
    ))
}

fn a_file_without_a_name_gets_one(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    if let Err(error) = sys::open(&sys::c(&folder), O_TMPFILE | O_RDWR, 0o600) {
        return Err(Skip(format!("the file system has no O_TMPFILE: {error}")));
    }
    let names = ["empty", "self", "thread", "device"].map(|name| folder.join(name));
    let mut child = stage.tagged(|talk| {
        for (way, new) in names.iter().enumerate() {
            let file = sys::open(&sys::c(&folder), O_TMPFILE | O_RDWR, 0o600).unwrap();
            let fd = file.as_raw_fd();
            let old = match way {
                0 => sys::c(""),
                1 => sys::c(format!("/proc/self/fd/{fd}")),
                2 => sys::c(format!("/proc/thread-self/fd/{fd}")),
                _ => sys::c(format!("/dev/fd/{fd}")),
            };
            let how = if way == 0 {
                libc::AT_EMPTY_PATH
            } else {
                libc::AT_SYMLINK_FOLLOW
            };
            let made = files::call(
                libc::SYS_linkat,
                &[
                    Arg::Number(fd.into()),
                    Arg::Text(&old),
                    Arg::Number(AT_FDCWD.into()),
                    Arg::Text(&sys::c(new)),
                    Arg::Number(how.into()),
                ],
            );
            talk.say(made.map_or_else(|error| error.raw_os_error().unwrap() as u64, |_| 0));
        }
        talk.wait();
        0
    });
    for new in &names {
        let (_, open) = stage.watch.open(child.pid);
        let error = child.hear() as i32;
        if error == libc::ENOENT && new.ends_with("device") {
            // There is no /dev/fd in a small guest.
            continue;
        }
        assert_eq!(error, 0, "{new:?}");
        let (_, link) = stage.watch.change(EventKind::Link, child.pid);
        assert_eq!((&link.new, &link.old), (&bytes(new), &open.path));
        assert_eq!(link.file, Some(open.file));
        assert_eq!(link.file, Some(facts::file(new)));
        assert_eq!(link.writer.unwrap().process, facts::key(child.pid));
        assert_eq!(link.early, None);
    }
    nothing_else(stage, child);
    Ok(())
}

fn mounts(stage: &mut Stage) -> Outcome {
    const OPEN_TREE_CLONE: i64 = 1;
    const MOVE_MOUNT_F_EMPTY_PATH: i64 = 4;

    let folder = stage.folder();
    let [real, bound, moved] = ["real", "bound", "moved"].map(|name| {
        let path = folder.join(name);
        fs::create_dir(&path).unwrap();
        path
    });
    let mut child = stage.server(|_| {
        files::part();
        files::bind(&real, &bound).unwrap();
        let here = Arg::Number(AT_FDCWD.into());
        let tree = files::call(
            libc::SYS_open_tree,
            &[
                here,
                Arg::Text(&sys::c(&real)),
                Arg::Number(OPEN_TREE_CLONE),
            ],
        )
        .unwrap();
        files::call(
            libc::SYS_move_mount,
            &[
                Arg::Number(tree.into()),
                Arg::Text(c""),
                here,
                Arg::Text(&sys::c(&moved)),
                Arg::Number(MOVE_MOUNT_F_EMPTY_PATH),
            ],
        )
        .unwrap();
    });
    child.hear();
    let (_, private) = stage.watch.change(EventKind::Mount, child.pid);
    assert_eq!(private.new, b"/");
    let (meta, bind) = stage.watch.change(EventKind::Mount, child.pid);
    assert_eq!(bind.new, bytes(&bound));
    assert_eq!(bind.detail, bytes(&real));
    assert_eq!(bind.number & libc::MS_BIND, libc::MS_BIND);
    assert_ne!(bind.mnt_ns, facts::namespace(sys::pid(), "mnt"));
    let (_, move_) = stage.watch.change(EventKind::Mount, child.pid);
    assert_eq!(move_.new, bytes(&moved));
    if meta.tier == Tier::Tracepoint {
        assert_eq!(move_.flags, MOVE_MOUNT_F_EMPTY_PATH as u32);
        // The descriptor is of the directory that is there now.
        assert_eq!(move_.file, Some(facts::file(&real)));
    }
    nothing_else(stage, child);
    Ok(())
}

fn an_empty_name_is_the_descriptor(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let path = folder.join("file");
    let file = File::create(&path).unwrap();
    let mut child = stage.server(|_| {
        files::call(
            libc::SYS_fchownat,
            &[
                Arg::Number(file.as_raw_fd().into()),
                Arg::Text(c""),
                Arg::Number(12),
                Arg::Number(13),
                Arg::Number(libc::AT_EMPTY_PATH.into()),
            ],
        )
        .unwrap();
        // The working directory can be meant, too.
        std::env::set_current_dir(&folder).unwrap();
        files::call(
            libc::SYS_fchownat,
            &[
                Arg::Number(AT_FDCWD.into()),
                Arg::Text(c""),
                Arg::Number(14),
                Arg::Number(15),
                Arg::Number(libc::AT_EMPTY_PATH.into()),
            ],
        )
        .unwrap();
    });
    child.hear();
    for (path, number) in [(&path, 12 << 32 | 13), (&folder, 14 << 32 | 15)] {
        let (meta, chown) = stage.watch.change(EventKind::Chown, child.pid);
        assert_eq!(
            (chown.new, chown.file),
            (bytes(path), Some(facts::file(path)))
        );
        assert_eq!(chown.number, number);
        assert_ne!(meta.flags & flag::RESOLVED, 0);
    }
    nothing_else(stage, child);
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn registers_wider_than_the_convention(stage: &mut Stage) -> Outcome {
    // The upper half of a register means nothing to the kernel in a 32-bit call, and may hold anything
    // where a 64-bit process makes it.
    crate::stage::needs_compat()?;
    let path = stage.folder().join("file");
    fs::write(&path, "x").unwrap();
    let mut child = stage.server(|_| {
        let at = sys::compat::low_string(&sys::c(&path));
        sys::compat::call_wide(15, u64::from(at) | 0x5a5a_5a5a << 32, [0o604, 0, 0, 0]).unwrap();
    });
    child.hear();
    let (_, chmod) = stage.watch.change(EventKind::Chmod, child.pid);
    assert_eq!(chmod.new, bytes(&path));
    nothing_else(stage, child);
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn registers_wider_than_the_convention(_: &mut Stage) -> Outcome {
    Err(Skip(
        "a 64-bit process makes no 32-bit calls on this architecture".into(),
    ))
}
