//! `sched_process_exec`: what runs now, as whom, where, and with which words.

use std::ffi::CString;
use std::fs;
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tracer::event::{Exec, FileId, Meta};
use tracer_common::event::{Ids, flag};
use tracer_common::limits::{NAME_BYTES, PATH_BYTES, PATH_STEPS, STRING_BYTES};
use tracer_common::tag::{InodeKey, Role, Serves, Tag};

use crate::child::{Child, Image};
use crate::facts::{self, bytes};
use crate::stage::{Outcome, Skip, Span, Stage, TAG, Test, tests};
use crate::sys;

pub(crate) const TESTS: &[Test] = tests!("exec":
    every_fact,
    a_script,
    a_script_of_a_script,
    a_long_name,
    a_memfd,
    another_thread_than_the_leader,
    links_and_dots,
    a_bind_mount,
    a_deep_folder,
    long_names,
    other_users_and_groups,
    the_login_user,
    other_namespaces,
    another_cgroup,
    groups_and_sessions,
    a_server_by_its_inode,
    a_role_is_added_to_a_tag,
);

/// Runs `image` and holds the record against `/proc`, where `adjust` says what `/proc` cannot.
pub(crate) fn check(
    stage: &mut Stage,
    image: &Image,
    flags: u16,
    adjust: impl FnOnce(&mut Exec),
) -> Exec {
    let span = Span::begin();
    let (child, meta, exec) = stage.exec(image);
    check_child(span, &child, image, flags, (&meta, &exec), adjust);
    exec
}

pub(crate) fn check_child(
    span: Span,
    child: &Child,
    image: &Image,
    flags: u16,
    (meta, exec): (&Meta, &Exec),
    adjust: impl FnOnce(&mut Exec),
) {
    span.check(meta, facts::key(child.pid), child.pid, Tag::ZERO, flags);
    let mut expected = facts::exec(child.pid, image);
    expected.generation = exec.generation;
    adjust(&mut expected);
    assert_eq!(*exec, expected);
}

fn every_fact(stage: &mut Stage) -> Outcome {
    let image = stage.helper("pause");
    let exec = check(stage, &image, 0, |_| ());
    // What `/proc` was asked about may be wrong the same way: some of it is known otherwise.
    assert_eq!(exec.exe, bytes(&stage.program));
    assert_eq!(exec.file, facts::file(&stage.program));
    assert_eq!(exec.mode, 0o100_755);
    assert_eq!(exec.cwd, bytes(std::env::current_dir().unwrap()));
    assert_eq!(exec.filename, bytes(&stage.program));
    assert_eq!(exec.args, [b"helper-pause"]);
    assert_eq!(exec.args_len, 13);
    assert_eq!(exec.parent, facts::key(sys::pid()));
    assert_eq!(exec.ns.mnt, facts::namespace(sys::pid(), "mnt"));
    assert_eq!(exec.cgroup, facts::cgroup(sys::pid()));
    Ok(())
}

/// Puts an executable text file somewhere.
fn script(path: &Path, text: &[u8]) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A copy of the program that runs as a helper whatever its first argument is.
fn interpreter(stage: &Stage, folder: &Path) -> PathBuf {
    let path = folder.join("helper-pause");
    fs::copy(&stage.program, &path).unwrap();
    path
}

fn a_script(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let interpreter = interpreter(stage, &folder);
    let path = folder.join("script.php");
    script(
        &path,
        format!("#!{} -one option\nrest\n", interpreter.display()).as_bytes(),
    );
    let given = Image {
        argv: vec![c"lost".into(), c"kept".into()],
        ..Image::helper(&path, "pause")
    };
    let run = Image {
        path: sys::c(&path),
        argv: vec![
            sys::c(&interpreter),
            c"-one option".into(),
            sys::c(&path),
            c"kept".into(),
        ],
        env: Vec::new(),
    };
    let span = Span::begin();
    let (child, meta, exec) = stage.exec(&given);
    check_child(span, &child, &run, 0, (&meta, &exec), |exec| {
        exec.interp = bytes(&interpreter);
    });
    assert_eq!(exec.exe, bytes(&interpreter));
    assert_eq!(exec.file, facts::file(&interpreter));
    assert_eq!(exec.filename, bytes(&path));
    Ok(())
}

fn a_script_of_a_script(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let interpreter = interpreter(stage, &folder);
    let (inner, outer) = (folder.join("inner"), folder.join("outer"));
    script(&inner, format!("#!{}\n", interpreter.display()).as_bytes());
    script(&outer, format!("#!{}\n", inner.display()).as_bytes());
    let (_child, meta, exec) = stage.exec(&Image::helper(&outer, "pause"));
    assert_eq!(meta.flags, 0);
    assert_eq!(exec.exe, bytes(&interpreter));
    assert_eq!(
        (exec.filename, exec.interp),
        (bytes(&outer), bytes(&interpreter))
    );
    assert_eq!(
        exec.args,
        [bytes(&interpreter), bytes(&inner), bytes(&outer)]
    );
    Ok(())
}

fn a_long_name(stage: &mut Stage) -> Outcome {
    // Longer than what is kept of a name that somebody gave; the path is the file's own.
    let detour = "./".repeat(STRING_BYTES);
    let path = format!(
        "{}/{detour}program",
        stage.program.parent().unwrap().display()
    );
    let image = Image {
        path: CString::new(path.clone()).unwrap(),
        ..stage.helper("pause")
    };
    let kept = &path.as_bytes()[..STRING_BYTES - 1];
    let exec = check(stage, &image, flag::STRING_TRUNCATED, |exec| {
        exec.filename = kept.to_vec();
        exec.interp = kept.to_vec();
    });
    assert_eq!(exec.exe, bytes(&stage.program));
    Ok(())
}

fn a_memfd(stage: &mut Stage) -> Outcome {
    let mut memory = sys::memfd(c"a name").unwrap();
    std::io::copy(&mut fs::File::open(&stage.program).unwrap(), &mut memory).unwrap();
    memory.flush().unwrap();
    memory.rewind().unwrap();
    let image = stage.helper("pause");
    let fd = memory.as_raw_fd();
    let span = Span::begin();
    let (child, meta, exec) = stage.exec_by(|_| image.exec_file(fd));
    check_child(span, &child, &image, 0, (&meta, &exec), |exec| {
        assert_eq!(exec.exe, b"/memfd:a name (deleted)");
        exec.exe = b"/memfd:a name".to_vec();
        exec.filename = format!("/dev/fd/{fd}").into_bytes();
        exec.interp.clone_from(&exec.filename);
    });
    assert_eq!((exec.nlink, exec.mode), (0, 0o100_777));
    Ok(())
}

fn another_thread_than_the_leader(stage: &mut Stage) -> Outcome {
    let image = stage.helper("pause");
    let span = Span::begin();
    let mut child = Child::hold(|talk| {
        let thread = || -> i32 {
            talk.say(sys::tid().into());
            talk.wait();
            image.exec()
        };
        std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
    });
    let subject = facts::key(child.pid);
    child.go();
    let thread = child.hear_pid();
    assert_ne!(thread, child.pid);
    child.go();
    let (meta, exec) = stage.watch.exec(child.pid);
    span.check(&meta, subject, child.pid, Tag::ZERO, 0);
    let expected = Exec {
        old_tid: thread,
        generation: exec.generation,
        ..facts::exec(child.pid, &image)
    };
    assert_eq!(exec, expected);
    child.kill();
    let (meta, exit) = stage.watch.exit(child.pid);
    assert_eq!((meta.subject, exit.status), (subject, libc::SIGKILL as u32));
    assert_eq!(
        stage.watch.rest(child.pid),
        [],
        "the leader made way without a record"
    );
    Ok(())
}

fn links_and_dots(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let real = folder.join("real");
    fs::create_dir_all(real.join("below")).unwrap();
    symlink(&real, folder.join("link")).unwrap();
    fs::copy(&stage.program, real.join("p")).unwrap();
    symlink("p", real.join("last")).unwrap();
    let given = folder.join("link/./below/../../link/last");
    let image = Image::helper(&given, "pause");
    let exec = check(stage, &image, 0, |_| ());
    assert_eq!(exec.exe, bytes(real.join("p")));
    assert_eq!(exec.file, facts::file(&real.join("p")));
    assert_eq!(exec.filename, bytes(&given));
    Ok(())
}

fn a_bind_mount(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let (real, bound) = (folder.join("real"), folder.join("bound"));
    fs::create_dir_all(real.join("below")).unwrap();
    fs::create_dir(&bound).unwrap();
    fs::copy(&stage.program, real.join("below/p")).unwrap();
    let image = Image::helper(&bound.join("below/p"), "pause");
    let span = Span::begin();
    let (child, meta, exec) = stage.exec_after(&image, |_| {
        sys::bind_mount(&sys::c(&real), &sys::c(&bound)).unwrap();
        std::env::set_current_dir(bound.join("below")).unwrap();
    });
    check_child(span, &child, &image, 0, (&meta, &exec), |exec| {
        // To us, who do not have the mount, /proc tells other paths.
        exec.exe = bytes(bound.join("below/p"));
        exec.cwd = bytes(bound.join("below"));
    });
    assert_eq!(exec.file, facts::file(&real.join("below/p")));
    assert_ne!(exec.ns.mnt, facts::namespace(sys::pid(), "mnt"));
    Ok(())
}

/// Makes folders one in the other and goes there, step by step: the path may be too long to name.
fn descend(names: impl IntoIterator<Item = String>) {
    for name in names {
        fs::create_dir(&name).unwrap();
        std::env::set_current_dir(&name).unwrap();
    }
}

fn a_deep_folder(stage: &mut Stage) -> Outcome {
    let (folder, program) = (stage.folder(), stage.program.clone());
    let names: Vec<String> = (0..PATH_STEPS + 6)
        .map(|depth| format!("d{depth}"))
        .collect();
    let image = Image {
        path: c"./p".into(),
        ..stage.helper("pause")
    };
    let span = Span::begin();
    let (child, meta, exec) = stage.exec_after(&image, |_| {
        std::env::set_current_dir(&folder).unwrap();
        descend(names.clone());
        fs::hard_link(&program, "p").unwrap();
    });
    let flags = flag::PATH_TRUNCATED | flag::CWD_TRUNCATED;
    let last = |count: usize| format!("/{}", names[names.len() - count..].join("/"));
    check_child(span, &child, &image, flags, (&meta, &exec), |exec| {
        exec.exe = format!("{}/p", last(PATH_STEPS - 1)).into_bytes();
        exec.cwd = last(PATH_STEPS).into_bytes();
    });
    Ok(())
}

fn long_names(stage: &mut Stage) -> Outcome {
    let (folder, program) = (stage.folder(), stage.program.clone());
    let names: Vec<String> = (0..20).map(|depth| format!("{depth:0>255}")).collect();
    let image = Image {
        path: c"./p".into(),
        ..stage.helper("pause")
    };
    let span = Span::begin();
    let (child, meta, exec) = stage.exec_after(&image, |_| {
        std::env::set_current_dir(&folder).unwrap();
        descend(names.clone());
        fs::hard_link(&program, "p").unwrap();
    });
    // Names are kept from the leaf on, until the longest one might not fit.
    let kept = |leaf: &str| {
        let mut path = String::from(leaf);
        let mut len = if leaf.is_empty() { 0 } else { leaf.len() };
        for name in names.iter().rev() {
            if len > PATH_BYTES - NAME_BYTES {
                break;
            }
            path = format!("/{name}{path}");
            len += name.len() + 1;
        }
        path.into_bytes()
    };
    let flags = flag::PATH_TRUNCATED | flag::CWD_TRUNCATED;
    let facts = |exec: &mut Exec| {
        exec.exe = kept("/p");
        exec.cwd = kept("");
    };
    span.check(&meta, facts::key(child.pid), child.pid, Tag::ZERO, flags);
    let mut expected = exec.clone();
    facts(&mut expected);
    // `/proc` cannot name them at all.
    assert_eq!(exec, expected);
    assert_eq!(exec.exe.len(), 15 * 256 + 2);
    assert_eq!(exec.cwd.len(), 16 * 256);
    Ok(())
}

fn other_users_and_groups(stage: &mut Stage) -> Outcome {
    let image = stage.helper("pause");
    let span = Span::begin();
    let (child, meta, exec) = stage.exec_after(&image, |_| {
        sys::set_ids([1001, 1002, 1003], [2001, 2002, 2003])
    });
    check_child(span, &child, &image, 0, (&meta, &exec), |_| ());
    // execve makes the saved ones of the effective ones.
    let expected = Ids {
        uid: 1001,
        euid: 1002,
        suid: 1002,
        gid: 2001,
        egid: 2002,
        sgid: 2002,
    };
    assert_eq!(exec.ids, expected);
    assert_eq!((exec.cap_effective, exec.cap_permitted), (0, 0));

    // Root that calls itself nobody keeps the right to become root, but has none.
    let (child, meta, exec) =
        stage.exec_after(&image, |_| sys::set_ids([0, 65534, 0], [0, 65534, 0]));
    check_child(span, &child, &image, 0, (&meta, &exec), |_| ());
    assert_eq!(
        (exec.ids.uid, exec.ids.euid, exec.ids.suid),
        (0, 65534, 65534)
    );
    assert_eq!(exec.cap_effective, 0);
    assert_ne!(exec.cap_permitted, 0);
    Ok(())
}

fn the_login_user(stage: &mut Stage) -> Outcome {
    const LOGIN: &str = "/proc/self/loginuid";
    if !Path::new(LOGIN).exists() {
        return Err(Skip("the kernel is built without audit".into()));
    }
    let image = stage.helper("pause");
    let span = Span::begin();
    let (child, meta, exec) = stage.exec_after(&image, |_| fs::write(LOGIN, "4242").unwrap());
    check_child(span, &child, &image, 0, (&meta, &exec), |_| ());
    assert_eq!(exec.loginuid, Some(4242));
    Ok(())
}

fn other_namespaces(stage: &mut Stage) -> Outcome {
    let kinds = [
        (libc::CLONE_NEWUTS, "uts"),
        (libc::CLONE_NEWIPC, "ipc"),
        (libc::CLONE_NEWNET, "net"),
        (libc::CLONE_NEWNS, "mnt"),
        (libc::CLONE_NEWCGROUP, "cgroup"),
        (libc::CLONE_NEWUSER, "user"),
    ];
    let image = stage.helper("pause");
    for (flag, kind) in kinds {
        // A kernel built without a kind has one namespace of it, and no number.
        if facts::namespace(sys::pid(), kind) == 0 {
            println!("no {kind} namespaces");
            continue;
        }
        let span = Span::begin();
        let (child, meta, exec) = stage.exec_after(&image, |_| sys::unshare(flag).unwrap());
        check_child(span, &child, &image, 0, (&meta, &exec), |_| ());
        let ours = facts::namespaces(sys::pid());
        let of = |ns: tracer_common::event::Namespaces| match kind {
            "uts" => ns.uts,
            "ipc" => ns.ipc,
            "net" => ns.net,
            "mnt" => ns.mnt,
            "cgroup" => ns.cgroup,
            _ => ns.user,
        };
        assert_ne!(of(exec.ns), of(ours), "{kind}");
        assert_eq!(exec.ns.vpid, child.pid);
    }
    Ok(())
}

fn another_cgroup(stage: &mut Stage) -> Outcome {
    let Some(root) = facts::cgroup2() else {
        return Err(Skip("cgroup v2 is not mounted".into()));
    };
    let name = format!("tracer-kernel-test-{}", sys::pid());
    let group = root.join(&name).join("inner");
    fs::create_dir_all(&group).unwrap();
    let image = stage.helper("pause");
    let span = Span::begin();
    let (mut child, meta, exec) = stage.exec_after(&image, |_| {
        fs::write(group.join("cgroup.procs"), "0").unwrap()
    });
    check_child(span, &child, &image, 0, (&meta, &exec), |_| ());
    assert_eq!(
        exec.cgroup_id,
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(&group).unwrap())
    );
    // Where the memory controller has a hierarchy of its own, the container is named there.
    if facts::cgroup(sys::pid()) == b"/" {
        assert_eq!(exec.cgroup, format!("/{name}/inner").into_bytes());
    }
    child.kill();
    for folder in [&group, &root.join(&name)] {
        crate::child::until("a cgroup is empty", || fs::remove_dir(folder).is_ok());
    }
    Ok(())
}

fn groups_and_sessions(stage: &mut Stage) -> Outcome {
    let image = stage.helper("pause");
    let span = Span::begin();
    let (child, meta, exec) = stage.exec_after(&image, |_| sys::lead_group());
    check_child(span, &child, &image, 0, (&meta, &exec), |_| ());
    assert_eq!(exec.pgid, child.pid);
    assert_ne!(exec.sid, child.pid);
    let (child, meta, exec) = stage.exec_after(&image, |_| sys::setsid());
    check_child(span, &child, &image, 0, (&meta, &exec), |_| ());
    assert_eq!(
        (exec.pgid, exec.sid, exec.tty),
        (child.pid, child.pid, None)
    );
    Ok(())
}

fn a_server_by_its_inode(stage: &mut Stage) -> Outcome {
    let server = stage.folder().join("server");
    fs::copy(&stage.program, &server).unwrap();
    let FileId { dev, inode } = facts::file(&server);
    let key = InodeKey {
        inode,
        dev,
        reserved: 0,
    };
    let roles = Role::Web.bit() | Role::App.bit();
    let of = |generation| Serves { roles, generation };
    stage.watch.sensor.set_role(key, of(0)).unwrap();

    let tag = |server| Tag {
        roles,
        server,
        ..Tag::ZERO
    };
    let span = Span::begin();
    let (mut child, meta, exec) = stage.exec(&Image::helper(&server, "fork"));
    let own = tag(child.pid);
    span.check(&meta, meta.subject, child.pid, own, 0);
    assert_eq!((exec.file, exec.nlink), (FileId { dev, inode }, 1));
    child.end_well();
    let rest = stage.watch.rest(child.pid);
    let [fork, exit] = rest.as_slice() else {
        panic!("{rest:#?}")
    };
    let tracer::event::Payload::Fork(made) = &fork.payload else {
        panic!("{fork:#?}")
    };
    assert_eq!((fork.meta.tag, made.child_tag), (own, own.child()));
    assert_eq!(exit.meta.tag, own);

    // The same bytes under another inode give nothing, and another path to it does.
    let (_child, meta, _) = stage.exec(&stage.helper("pause"));
    assert_eq!(meta.tag, Tag::ZERO);
    let other = server.with_file_name("nobody");
    fs::hard_link(&server, &other).unwrap();
    let (child, meta, exec) = stage.exec(&Image::helper(&other, "pause"));
    let own = tag(child.pid);
    assert_eq!((meta.tag, exec.nlink), (own, 2));
    assert_eq!(stage.watch.sensor.tag(child.pid), Some(own));

    // A file of another generation with its number is another file.
    for (more, tagged) in [(1, false), (0, true)] {
        let generation = exec.generation.wrapping_add(more).max(1);
        if more == 0 && exec.generation == 0 {
            break; // this file system does not tell
        }
        stage.watch.sensor.set_role(key, of(generation)).unwrap();
        let (_child, meta, _) = stage.exec(&Image::helper(&server, "pause"));
        assert_eq!(meta.tag.is_server_lineage(), tagged, "{generation}");
    }
    Ok(())
}

fn a_role_is_added_to_a_tag(stage: &mut Stage) -> Outcome {
    let server = stage.folder().join("server");
    fs::copy(&stage.program, &server).unwrap();
    let FileId { dev, inode } = facts::file(&server);
    let key = InodeKey {
        inode,
        dev,
        reserved: 0,
    };
    let serves = Serves {
        roles: Role::Database.bit(),
        generation: 0,
    };
    stage.watch.sensor.set_role(key, serves).unwrap();
    let (image, other) = (Image::helper(&server, "pause"), stage.helper("pause"));
    let child = stage.tagged(|_| image.exec());
    let (meta, _) = stage.watch.exec(child.pid);
    let tag = Tag {
        roles: TAG.roles | Role::Database.bit(),
        server: child.pid,
        distance: 0,
        ..TAG
    };
    assert_eq!(meta.tag, tag);
    assert_eq!(stage.watch.sensor.tag(child.pid), Some(tag));

    // An exec of anything else leaves a tag as it was.
    let child = stage.tagged(|_| other.exec());
    let (meta, _) = stage.watch.exec(child.pid);
    assert_eq!(meta.tag, TAG);
    assert_eq!(stage.watch.sensor.tag(child.pid), Some(TAG));
    Ok(())
}
