//! Who executes what a server's lineage wrote is of that lineage from then on: a program, a script, by
//! whatever name.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tracer::event::{Payload, ProcessKey, Writer};
use tracer_common::event::EventKind;
use tracer_common::tag::{Tag, via};

use crate::child::{Child, Image, until};
use crate::facts;
use crate::stage::{Outcome, Stage, TAG, Test, tests};
use crate::sys;

pub(crate) const TESTS: &[Test] = tests!("written":
    a_program,
    a_program_under_another_name,
    by_one_with_a_tag,
    a_script,
    a_script_by_another_name,
    a_script_through_another_program,
    a_script_by_its_descriptor,
    a_script_of_somebody_else,
    a_script_that_reads_what_was_written,
);

/// What a process has that had no tag before it executed what one with [`TAG`] wrote.
const INHERITED: Tag = Tag {
    distance: TAG.distance + 1,
    via: via::FILE,
    ..TAG
};

/// A tagged process writes a file that can be executed. Gives who that was.
fn write(stage: &mut Stage, path: &Path, content: &[u8]) -> ProcessKey {
    let mut child = stage.server(|_| {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    });
    child.hear();
    facts::key(child.pid)
}

fn write_program(stage: &mut Stage, path: &Path) -> ProcessKey {
    let content = fs::read(&stage.program).unwrap();
    write(stage, path, &content)
}

fn check_writer(writer: Option<Writer>, process: ProcessKey) {
    let writer = writer.unwrap();
    assert_eq!((writer.process, writer.tag), (process, TAG));
    assert!(writer.boot_ns <= sys::boot_ns());
}

fn a_program(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("dropped");
    let writer = write_program(stage, &path);
    let (child, meta, exec) = stage.exec(&Image::helper(&path, "pause"));
    assert_eq!(meta.tag, INHERITED);
    check_writer(exec.writer, writer);
    assert_eq!(stage.watch.sensor.tag(child.pid), Some(INHERITED));
    // A copy that nobody of the lineage wrote gives nothing.
    let copy = path.with_file_name("copy");
    fs::copy(&path, &copy).unwrap();
    let (child, meta, exec) = stage.exec(&Image::helper(&copy, "pause"));
    assert_eq!((meta.tag, exec.writer), (Tag::ZERO, None));
    assert_eq!(stage.watch.sensor.tag(child.pid), None);
    Ok(())
}

fn a_program_under_another_name(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let (path, new) = (folder.join("dropped"), folder.join("crond"));
    let writer = write_program(stage, &path);
    // By whom it is renamed makes no difference.
    fs::rename(&path, &new).unwrap();
    let (_child, meta, exec) = stage.exec(&Image::helper(&new, "pause"));
    assert_eq!(meta.tag, INHERITED);
    check_writer(exec.writer, writer);
    // What it makes is of the lineage too.
    let (mut child, meta, _) = stage.exec(&Image::helper(&new, "fork"));
    assert_eq!(meta.tag, INHERITED);
    let (_, fork) = stage.watch.forked(child.pid);
    assert_eq!(fork.child_tag, INHERITED.child());
    child.end_well();
    Ok(())
}

fn by_one_with_a_tag(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("dropped");
    let writer = write_program(stage, &path);
    let image = Image::helper(&path, "pause");
    let child = stage.tagged(|_| image.exec());
    let (meta, exec) = stage.watch.exec(child.pid);
    assert_eq!(meta.tag, TAG);
    check_writer(exec.writer, writer);
    Ok(())
}

/// A copy of the program that runs as this helper whatever its first argument is.
fn interpreter(stage: &Stage, folder: &Path, action: &str) -> PathBuf {
    let path = folder.join(format!("helper-{action}"));
    fs::copy(&stage.program, &path).unwrap();
    path
}

/// A process that executed a script has its tag: with the exec, or when the interpreter opened it. Either
/// way a record says by whom it was written.
fn check_script(stage: &mut Stage, child: &Child, writer: ProcessKey) {
    let (meta, exec) = stage.watch.exec(child.pid);
    if meta.tag != Tag::ZERO {
        assert_eq!(meta.tag, INHERITED);
        check_writer(exec.writer, writer);
    } else {
        let (meta, file) = stage.watch.file(EventKind::Read, child.pid);
        assert_eq!(meta.tag, INHERITED);
        assert_eq!(meta.flags, 0);
        check_writer(file.writer, writer);
    }
    assert_eq!(stage.watch.sensor.tag(child.pid), Some(INHERITED));
}

fn start(image: &Image) -> Child {
    let mut child = Child::hold(|_| image.exec());
    child.go();
    child
}

fn a_script(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let program = interpreter(stage, &folder, "open");
    let path = folder.join("backup.sh");
    let writer = write(
        stage,
        &path,
        format!("#!{}\n", program.display()).as_bytes(),
    );
    let child = start(&Image::helper(&path, "any"));
    check_script(stage, &child, writer);
    // Through a link to its folder.
    let link = folder.join("link");
    symlink(&folder, &link).unwrap();
    let child = start(&Image::helper(&link.join("backup.sh"), "any"));
    check_script(stage, &child, writer);
    Ok(())
}

fn a_script_by_another_name(stage: &mut Stage) -> Outcome {
    // As a link in a folder whose programs root runs has it.
    let folder = stage.folder();
    let program = interpreter(stage, &folder, "open");
    let (path, link) = (folder.join("e.sh"), folder.join("nightly"));
    let text = format!("#!{}\n", program.display());
    let writer = write(stage, &path, text.as_bytes());
    symlink(&path, &link).unwrap();
    let child = start(&Image::helper(&link, "any"));
    check_script(stage, &child, writer);
    Ok(())
}

fn a_script_through_another_program(stage: &mut Stage) -> Outcome {
    // As `#!/usr/bin/env python3` has it.
    let folder = stage.folder();
    let (env, program) = (
        interpreter(stage, &folder, "become"),
        interpreter(stage, &folder, "open"),
    );
    let path = folder.join("job");
    let text = format!("#!{} {}\n", env.display(), program.display());
    let writer = write(stage, &path, text.as_bytes());
    let child = start(&Image::helper(&path, "any"));
    check_script(stage, &child, writer);
    Ok(())
}

fn a_script_by_its_descriptor(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let program = interpreter(stage, &folder, "open");
    let path = folder.join("job");
    let writer = write(
        stage,
        &path,
        format!("#!{}\n", program.display()).as_bytes(),
    );
    let image = stage.helper("any");
    let mut child = Child::hold(|_| {
        let script = fs::File::open(&path).unwrap();
        // One that is closed at the exec could not be opened by the interpreter.
        sys::dup2(script.as_raw_fd(), 9);
        image.exec_file(9)
    });
    child.go();
    check_script(stage, &child, writer);
    Ok(())
}

fn a_script_of_somebody_else(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let program = interpreter(stage, &folder, "open");
    let path = folder.join("own");
    fs::write(&path, format!("#!{}\n", program.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let child = start(&Image::helper(&path, "any"));
    let (meta, exec) = stage.watch.exec(child.pid);
    assert_eq!((meta.tag, exec.writer), (Tag::ZERO, None));
    let fds = format!("/proc/{}/task/{}/syscall", child.pid, child.pid);
    until("it runs", || fs::read_to_string(&fds).is_ok());
    assert_eq!(
        stage.watch.sensor.tag(child.pid).map_or(0, |tag| tag.roles),
        0
    );
    Ok(())
}

fn a_script_that_reads_what_was_written(stage: &mut Stage) -> Outcome {
    // A script of root's that only reads what a server left, a program of it too, is root's still.
    let folder = stage.folder();
    let program = interpreter(stage, &folder, "open");
    let (path, left) = (folder.join("nightly"), folder.join("left"));
    write(stage, &left, b"what a server left");
    fs::write(&path, format!("#!{}\n", program.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let child = start(&Image::helper(&path, "any").arg(facts::bytes(&left)));
    let (meta, _) = stage.watch.exec(child.pid);
    assert_eq!(meta.tag, Tag::ZERO);
    // The exec of another program ends when it has read what it was given.
    until("it has opened the file and waits", || {
        fs::read_to_string(format!("/proc/{}/stat", child.pid))
            .unwrap()
            .contains(") S ")
    });
    let told = stage.watch.rest(child.pid);
    assert!(
        told.iter()
            .all(|event| !matches!(event.payload, Payload::File(_))),
        "{told:#?}"
    );
    assert_eq!(
        stage.watch.sensor.tag(child.pid).map_or(0, |tag| tag.roles),
        0
    );
    Ok(())
}
