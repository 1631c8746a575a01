//! What really runs, where that is not what execve was given: interpreters, loaders, programs of many
//! names.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tracer::detect::roles;
use tracer_common::tag::Tag;

use crate::child::{Child, Image, reap};
use crate::facts::{self, bytes};
use crate::stage::{Outcome, Skip, Span, Stage, Test, tests};
use crate::sys;
use crate::sys::process as calls;

pub(crate) const TESTS: &[Test] = tests!("image":
    a_chain_of_three_scripts,
    a_file_that_a_handler_runs,
    a_program_that_a_loader_runs,
    a_program_of_many_names,
    a_name_in_an_open_folder,
    a_child_on_its_creators_memory,
);

fn text(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A copy of the program that runs as this helper whatever its first argument is.
fn interpreter(stage: &Stage, folder: &Path, action: &str) -> PathBuf {
    let path = folder.join(format!("helper-{action}"));
    fs::copy(&stage.program, &path).unwrap();
    path
}

fn a_chain_of_three_scripts(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let program = interpreter(stage, &folder, "pause");
    let [first, second, third] = ["first", "second", "third"].map(|name| folder.join(name));
    text(&third, &format!("#!{}\n", program.display()));
    text(&second, &format!("#!{} two\n", third.display()));
    text(&first, &format!("#!{} one\n", second.display()));
    let image = Image::helper(&first, "pause").arg("end");
    let (_child, meta, exec) = stage.exec(&image);
    assert_eq!(meta.flags, 0);
    assert_eq!(
        (exec.exe, exec.file),
        (bytes(&program), facts::file(&program))
    );
    assert_eq!(
        (exec.filename, exec.interp),
        (bytes(&first), bytes(&program))
    );
    let (one, two, end) = (b"one".to_vec(), b"two".to_vec(), b"end".to_vec());
    assert_eq!(
        exec.args,
        [
            bytes(&program),
            bytes(&third),
            two,
            bytes(&second),
            one,
            bytes(&first),
            end
        ]
    );
    Ok(())
}

fn a_file_that_a_handler_runs(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let program = interpreter(stage, &folder, "pause");
    let (mounted, file) = (folder.join("mounted"), folder.join("file.tracerkerneltest"));
    fs::create_dir(&mounted).unwrap();
    text(&file, "anything");
    let rule = format!(
        ":tracer{}:E::tracerkerneltest::{}:",
        sys::pid(),
        program.display()
    );
    // In a mount namespace of its own: what is registered is gone with the mount.
    let mut host = Child::hold(|talk| {
        let done = sys::unshare(libc::CLONE_NEWNS)
            .and_then(|()| calls::mount(c"none", c"/", c"none", libc::MS_REC | libc::MS_PRIVATE))
            .and_then(|()| calls::mount(c"none", &sys::c(&mounted), c"binfmt_misc", 0))
            .and_then(|()| fs::write(mounted.join("register"), &rule));
        talk.say(
            done.err()
                .map_or(0, |error| error.raw_os_error().unwrap_or(1)) as u64,
        );
        talk.wait();
        let _gone = fs::write(mounted.join(format!("tracer{}", sys::ppid())), "-1");
        0
    });
    host.go();
    let error = host.hear() as i32;
    if error != 0 {
        let error = std::io::Error::from_raw_os_error(error);
        return Err(Skip(format!("binfmt_misc cannot be used: {error}")));
    }
    let (_child, meta, exec) = stage.exec(&Image::helper(&file, "pause").arg("end"));
    assert_eq!(meta.flags, 0);
    assert_eq!(
        (exec.exe, exec.file),
        (bytes(&program), facts::file(&program))
    );
    assert_eq!(
        (exec.filename, exec.interp),
        (bytes(&file), bytes(&program))
    );
    assert_eq!(exec.args, [bytes(&program), bytes(&file), b"end".to_vec()]);
    host.go();
    host.end_well();
    Ok(())
}

/// The loader that this program names (`PT_INTERP`), where it names one.
fn loader() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let files = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let found = files.map(Path::new).find(|path| {
        path.file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"ld-"))
    });
    found.map(Path::to_owned)
}

fn a_program_that_a_loader_runs(stage: &mut Stage) -> Outcome {
    let Some(loader) = loader() else {
        return Err(Skip("the test program has no loader".into()));
    };
    let program = interpreter(stage, stage.program.parent().unwrap(), "pause");
    let image = Image {
        argv: vec![
            c"innocent".into(),
            c"--inhibit-rpath".into(),
            c"/nowhere".into(),
            sys::c(&program),
            c"word".into(),
        ],
        ..Image::helper(&loader, "pause")
    };
    let (child, meta, exec) = stage.exec(&image);
    assert_eq!(meta.flags, 0);
    assert_eq!(
        (&exec.exe, exec.file),
        (&bytes(&loader), facts::file(&loader))
    );
    assert_eq!(roles::target(&exec), bytes(&program));
    assert_eq!(roles::effective_name(&exec), b"helper-pause");
    // The kernel never says it, but it runs: its file is mapped.
    let maps = format!("/proc/{}/maps", child.pid);
    crate::child::until("the program is loaded", || {
        fs::read_to_string(&maps)
            .unwrap()
            .contains(program.to_str().unwrap())
    });
    Ok(())
}

fn a_program_of_many_names(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let program = folder.join("busybox");
    fs::copy(&stage.program, &program).unwrap();
    let applet = folder.join("any");
    std::os::unix::fs::symlink("busybox", &applet).unwrap();
    for path in [&program, &applet] {
        let (_child, _, exec) = stage.exec(&Image::helper(path, "pause"));
        assert_eq!(exec.exe, bytes(&program));
        assert_eq!(roles::effective_name(&exec), b"helper-pause");
    }
    Ok(())
}

fn a_name_in_an_open_folder(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let program = interpreter(stage, &folder, "pause");
    let open = fs::File::open(&folder).unwrap();
    let (fd, name) = (open.as_raw_fd(), c"helper-pause");
    let (_child, meta, exec) =
        stage.exec_by(|_| panic!("{}", calls::execveat(fd, name, &[name.into()])));
    assert_eq!(meta.flags, 0);
    assert_eq!(
        (exec.exe, exec.file),
        (bytes(&program), facts::file(&program))
    );
    let given = format!("/dev/fd/{fd}/helper-pause").into_bytes();
    assert_eq!((exec.filename, exec.interp), (given.clone(), given));
    Ok(())
}

fn a_child_on_its_creators_memory(stage: &mut Stage) -> Outcome {
    let image = stage.helper("exit");
    let span = Span::begin();
    let mut child = Child::hold(|talk| {
        let pid = calls::vfork_and_exec(&image.path, &image.argv).unwrap();
        talk.say(pid.into());
        talk.wait();
        reap(pid)
    });
    child.go();
    let pid = child.hear_pid();
    let (meta, exec) = stage.watch.exec(pid);
    span.check(&meta, meta.subject, pid, Tag::ZERO, 0);
    let (_, fork) = stage.watch.fork(child.pid, pid);
    assert_eq!(fork.child, meta.subject);
    assert_eq!((exec.parent, exec.old_tid), (facts::key(child.pid), pid));
    assert_eq!(exec.exe, bytes(&stage.program));
    child.go();
    child.end_well();
    Ok(())
}
