//! The command line, above all what it does with bad input: one error that names cause and remedy,
//! and the documented exit code. Needs no root; what does says `SKIPPED` without.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "these are tests: a panic is how they fail"
)]

#[path = "cli/rules.rs"]
mod rules;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tracer::source::Input;
use tracer::source::capture::{Reader, Writer};

const TRACER: &str = env!("CARGO_BIN_EXE_tracer");

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name)
}

fn story() -> PathBuf {
    testdata("captures/story.tracer")
}

fn tracer<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Command::new(TRACER)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Asserts an exit code and gives the error, which is one line.
#[track_caller]
fn failed(output: &Output, code: i32) -> String {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("tracer: ") && !line.contains("events replayed"))
        .collect();
    assert_eq!(errors.len(), 1, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    errors[0].to_owned()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
}

fn write(dir: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn wrong_usage_ends_with_2_and_names_the_word() {
    for (args, word) in [
        (&["run", "--emitt", "all"][..], "--emit"),
        (&["replay"], "<FILE>"),
        (&["replay", "x", "--emit", "everything"], "everything"),
        (&["rum"], "run"),
        (&["completions", "cmd.exe"], "cmd.exe"),
        (&[], "Usage"),
    ] {
        let output = tracer(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            stderr(&output).contains(word),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "");
    }
    let help = tracer(["--help"]);
    assert!(help.status.success());
    let help = stdout(&help);
    for word in [
        "run",
        "record",
        "replay",
        "doctor",
        "completions",
        "Exit codes",
        "4 privileges",
    ] {
        assert!(help.contains(word), "{word}");
    }
    assert!(stdout(&tracer(["--version"])).starts_with("tracer "));
}

#[test]
fn a_wrong_configuration_ends_with_2_and_names_file_line_and_key() {
    let dir = TempDir::new().unwrap();
    let replay = |config: &Path| {
        let story = story();
        tracer([
            "replay".as_ref(),
            story.as_os_str(),
            "--config".as_ref(),
            config.as_os_str(),
        ])
    };
    for (name, text, line, words) in [
        (
            "key.yaml",
            "emit: all\nmemor:\n  budget_bytes: 50000000\n",
            ":2: ",
            &["memor", "memory"][..],
        ),
        (
            "nested.yaml",
            "memory:\n  budget_byte: 50000000\n",
            ":2: ",
            &["budget_byte", "budget_bytes"],
        ),
        (
            "value.yaml",
            "format: json\nemit: alarms\n",
            ":2: ",
            &["alarms", "alerts"],
        ),
        (
            "range.yaml",
            "memory:\n  budget_bytes: 1\n",
            ":2: ",
            &["memory.budget_bytes", "1"],
        ),
        (
            "relative.yaml",
            "directories:\n  served:\n    - srv/www\n",
            ":3: ",
            &["srv/www"],
        ),
        ("yaml.yaml", "emit: [all\n", ":", &[]),
    ] {
        let path = write(&dir, name, text);
        let error = failed(&replay(&path), 2);
        let at = format!("tracer: {}{line}", path.display());
        assert!(error.starts_with(&at), "{error}");
        for word in words {
            assert!(error.contains(word), "{error}");
        }
    }
    let missing = dir.path().join("none.yaml");
    for path in [&missing, dir.path()] {
        let error = failed(&replay(path), 2);
        assert!(
            error.contains(&format!("{}: cannot read", path.display())),
            "{error}"
        );
    }
    if is_root() {
        return skip(
            "a configuration without permission",
            "root may read everything",
        );
    }
    let closed = write(&dir, "closed.yaml", "emit: all\n");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    assert!(failed(&replay(&closed), 2).contains("ermission denied"));
}

#[test]
fn a_right_configuration_is_obeyed() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("out.json");
    let text = format!("emit: events\nformat: json\noutput: {}\n", out.display());
    let config = write(&dir, "tracer.yaml", text);
    let run = |more: &[&str]| {
        let story = story();
        let mut args = vec![
            "replay",
            story.to_str().unwrap(),
            "--config",
            config.to_str().unwrap(),
        ];
        args.extend(more);
        assert!(tracer(args).status.success());
        fs::read_to_string(&out).unwrap()
    };
    let events = run(&[]);
    assert!(!events.contains("\"kind\":\"alert\"") && events.contains("\"kind\":\"event\""));
    // A flag wins over the file, and output is added to.
    let both = run(&["--emit", "alerts"]);
    assert!(both.starts_with(&events));
    assert!(!both[events.len()..].contains("\"kind\":\"event\""));
    // Readable by its owner only: it holds arguments of every process.
    assert_eq!(
        fs::metadata(&out).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn replay_gives_the_documents_of_the_run() {
    let output = tracer([
        "replay".as_ref(),
        story().as_os_str(),
        "--emit".as_ref(),
        "all".as_ref(),
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(output.stdout == fs::read(testdata("expected/story.json")).unwrap());
    assert!(stderr(&output).contains("5 alerts"), "{}", stderr(&output));
}

#[test]
fn replay_for_people() {
    let output = tracer([
        "replay".as_ref(),
        story().as_os_str(),
        "--format".as_ref(),
        "pretty".as_ref(),
    ]);
    assert!(output.status.success());
    let text = stdout(&output);
    for part in [
        "php-fpm (app server) executed a shell: /usr/bin/dash",
        "created /srv/www/uploads/x.php",
        "id; uname -a",
        "executed a program that it wrote: /tmp/.x",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    // Not a terminal: no colours.
    assert!(!text.contains('\x1b'));
}

#[test]
fn a_broken_capture_ends_with_2_after_what_came_before() {
    let dir = TempDir::new().unwrap();
    let whole = fs::read(story()).unwrap();
    let all = fs::read_to_string(testdata("expected/story.json")).unwrap();
    let replay = |path: &Path| {
        tracer([
            "replay".as_ref(),
            path.as_os_str(),
            "--emit".as_ref(),
            "all".as_ref(),
        ])
    };

    let cut = write(&dir, "cut.tracer", &whole[..whole.len() - 40]);
    let output = replay(&cut);
    let error = failed(&output, 2);
    assert!(
        error.contains("cut.tracer: cut off inside the frame at byte "),
        "{error}"
    );
    let before = stdout(&output);
    assert!(!before.is_empty() && all.starts_with(&before));

    let mut broken = whole.clone();
    let last = whole.len() - 13; // the last frame: a watermark of eight bytes
    assert_eq!(broken[last], 7);
    broken[last] = 99;
    let output = replay(&write(&dir, "broken.tracer", broken));
    let error = failed(&output, 2);
    assert!(
        error.contains(&format!("broken frame at byte {last}: unknown frame type")),
        "{error}"
    );
    assert_eq!(stdout(&output), all);

    let mut other = whole;
    other[7] = 200;
    let error = failed(&replay(&write(&dir, "new.tracer", other)), 2);
    assert!(
        error.contains("capture layout 200, this tracer reads 1"),
        "{error}"
    );

    for (name, content) in [
        ("empty", ""),
        ("text", "not a capture at all\n"),
        ("short", "TRAC"),
    ] {
        let error = failed(&replay(&write(&dir, name, content)), 2);
        assert!(
            error.contains(&format!("{name}: not a tracer capture")),
            "{error}"
        );
        assert!(error.contains("tracer record FILE"), "{error}");
    }
    let error = failed(&replay(&dir.path().join("none")), 2);
    assert!(error.contains("none: No such file"), "{error}");
    let error = failed(&replay(dir.path()), 2);
    assert!(error.contains(&dir.path().display().to_string()), "{error}");
}

#[test]
fn an_output_that_cannot_be_written_ends_with_5() {
    let dir = TempDir::new().unwrap();
    let target = write(&dir, "target", "kept\n");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    for path in [
        dir.path().join("missing/out.json"),
        dir.path().to_owned(),
        link,
        PathBuf::from("/dev/full"),
    ] {
        let output = tracer([
            "replay".as_ref(),
            story().as_os_str(),
            "--output".as_ref(),
            path.as_os_str(),
        ]);
        let error = failed(&output, 5);
        let named = format!("cannot write to {}: ", path.display());
        assert!(
            error.contains(&named) && error.contains("directory that exists"),
            "{error}"
        );
    }
    assert_eq!(fs::read_to_string(target).unwrap(), "kept\n");
}

/// The story's records `times` over, later each time.
fn long_capture(dir: &TempDir, times: usize) -> PathBuf {
    let inputs: Vec<Input> = Reader::new(File::open(story()).unwrap())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut writer = Writer::new(Vec::new()).unwrap();
    for _ in 0..times {
        for input in &inputs {
            writer.write(input).unwrap();
        }
    }
    write(dir, "long.tracer", writer.finish().unwrap())
}

#[test]
fn a_full_disk_ends_with_5_and_leaves_whole_lines() {
    if !is_root() {
        return skip("full disk", "needs root to mount a small file system");
    }
    let dir = TempDir::new().unwrap();
    let disk = dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let long = long_capture(&dir, 20);
    let copy = dir.path().join("copy");
    // In a mount namespace of its own, which takes the file system with it.
    let script = "mount -t tmpfs -o size=64k none \"$1\" || exit 77
        \"$2\" replay \"$3\" --emit all --output \"$1/out\"; code=$?
        cp \"$1/out\" \"$4\"; exit $code";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .args([
            disk.as_os_str(),
            TRACER.as_ref(),
            long.as_os_str(),
            copy.as_os_str(),
        ])
        .output();
    let output = match output {
        Ok(output) if output.status.code() != Some(77) && copy.exists() => output,
        other => return skip("full disk", &format!("no mount namespace here: {other:?}")),
    };
    let error = failed(&output, 5);
    assert!(error.contains("No space left on device"), "{error}");
    assert!(error.contains("make room on that file system"), "{error}");
    let written = fs::read_to_string(&copy).unwrap();
    assert!(written.len() > 32 * 1024, "{}", written.len());
    assert!(written.ends_with('\n'));
    for line in written.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}

#[test]
fn a_closed_standard_output_ends_with_5_and_one_error() {
    let dir = TempDir::new().unwrap();
    let long = long_capture(&dir, 50);
    let closed = |args: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Command::new(TRACER)
            .args(args)
            .stdin(Stdio::null())
            .stdout(writer)
            .output()
            .unwrap()
    };
    let error = failed(
        &closed(&["replay", long.to_str().unwrap(), "--emit", "all"]),
        5,
    );
    assert!(
        error.contains("cannot write to standard output: Broken pipe"),
        "{error}"
    );
    assert!(error.contains("start the reader again"), "{error}");
    for args in [
        &["completions", "bash"][..],
        &["reference", "fields"],
        &["reference", "rules"],
    ] {
        let error = failed(&closed(args), 5);
        assert!(
            error.contains("cannot write to standard output: Broken pipe"),
            "{error}"
        );
    }
    let full = Command::new(TRACER)
        .args(["replay", long.to_str().unwrap(), "--emit", "all"])
        .stdout(File::options().write(true).open("/dev/full").unwrap())
        .output()
        .unwrap();
    let error = failed(&full, 5);
    assert!(error.contains("standard output: No space left"), "{error}");
}

#[test]
fn completions_are_a_script() {
    let script = stdout(&tracer(["completions", "bash"]));
    for word in ["_tracer", "replay", "doctor", "--emit", "--config"] {
        assert!(script.contains(word), "{word}");
    }
    let checked = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn();
    let Ok(mut bash) = checked else {
        return skip("syntax of the completions", "no bash");
    };
    bash.stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(bash.wait().unwrap().success());
}

#[test]
fn reference_tables_name_everything() {
    let rules = stdout(&tracer(["reference", "rules"]));
    for rule in tracer::detect::sigma::RuleSet::pack().rules() {
        assert!(rules.contains(&format!("| `{}` |", rule.id)), "{}", rule.id);
    }
    let probes = stdout(&tracer(["reference", "probes"]));
    for probe in tracer_common::probe::PROBES {
        assert!(
            probes.contains(&format!("| `{}` |", probe.name)),
            "{}",
            probe.name
        );
    }
    for reason in tracer_common::probe::Drop::ALL {
        assert!(probes.contains(reason.name()), "{}", reason.name());
    }
    let fields = stdout(&tracer(["reference", "fields"]));
    for entry in tracer::encode::fields::catalogue() {
        assert!(
            fields.contains(&format!("`{}`", entry.name)),
            "{}",
            entry.name
        );
    }
}

#[test]
fn doctor_writes_json() {
    let output = tracer(["doctor", "--json"]);
    let code = output.status.code().unwrap();
    assert!([0, 1, 3, 4].contains(&code), "{code}: {}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let state = |name: &str| {
        let check = checks.iter().find(|check| check["check"] == name);
        check.unwrap_or_else(|| panic!("no {name}: {report}"))["state"].clone()
    };
    for name in [
        "kernel",
        "kernel types (BTF)",
        "lockdown",
        "capabilities",
        "pid namespace",
    ] {
        assert!(["ok", "note", "FAIL"].contains(&state(name).as_str().unwrap()));
    }
    // What is wrong says what is lost and what to do.
    for check in checks.iter().filter(|check| check["state"] == "FAIL") {
        assert_ne!(check["effect"], "", "{check}");
        assert_ne!(check["remedy"], "", "{check}");
    }
    assert_eq!(
        code == 0,
        checks.iter().all(|check| check["state"] != "FAIL")
    );
    // BTF that is none.
    let error = tracer(["doctor", "--json", "--btf", "/dev/null"]);
    assert_eq!(error.status.code(), Some(3));
}

/// The command as a user without any privilege, with the program where that user can read it.
fn unprivileged(dir: &TempDir, args: &[&str]) -> Option<Output> {
    if !is_root() {
        return Some(tracer(args));
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("tracer");
    fs::copy(TRACER, &program).unwrap();
    Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--",
        ])
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .ok()
}

#[test]
fn without_privileges_run_ends_with_4_and_the_remedy() {
    let dir = TempDir::new().unwrap();
    let Some(output) = unprivileged(&dir, &["run"]) else {
        return skip("run without privileges", "no setpriv");
    };
    if output.status.code() == Some(3) {
        return skip("run without privileges", &stderr(&output));
    }
    let error = failed(&output, 4);
    assert!(
        error.contains("root") && error.contains("CAP_BPF"),
        "{error}"
    );
    assert_eq!(stdout(&output), "");
    // And where nothing was recorded, nothing is left.
    let file = dir.path().join("new.tracer");
    if !is_root() {
        failed(&tracer(["record".as_ref(), file.as_os_str()]), 4);
    } else {
        let output = unprivileged(&dir, &["record", file.to_str().unwrap()]).unwrap();
        let error = failed(&output, 2);
        assert!(
            error.contains("cannot create") && error.contains("new.tracer"),
            "{error}"
        );
    }
    assert!(!file.exists());
}

#[test]
fn record_keeps_what_is_there() {
    let dir = TempDir::new().unwrap();
    let file = write(&dir, "old.tracer", "precious");
    let error = failed(&tracer(["record".as_ref(), file.as_os_str()]), 2);
    assert!(
        error.contains("File exists") && error.contains("does not exist yet"),
        "{error}"
    );
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

/// `tree` of the story, with more arguments.
fn tree(more: &[&str]) -> Output {
    let story = story();
    let mut args = vec!["tree", "--capture", story.to_str().unwrap()];
    args.extend(more);
    Command::new(TRACER)
        .args(args)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_recording_is_drawn_as_the_pipeline_knows_it() {
    for (format, name) in [
        ("text", "txt"),
        ("json", "json"),
        ("dot", "dot"),
        ("mermaid", "mmd"),
    ] {
        let output = tree(&["--format", format]);
        assert!(output.status.success(), "{}", stderr(&output));
        let end = if format == "json" { "\n" } else { "" };
        let expected =
            fs::read_to_string(testdata(&format!("expected/tree/story.{name}"))).unwrap();
        assert_eq!(stdout(&output), expected + end);
        assert_eq!(stderr(&output), "");
    }
    let one = stdout(&tree(&["--server", "20"]));
    assert!(
        one.contains("* dash(20)") && !one.contains("nginx"),
        "{one}"
    );
    let plain = tracer(["tree", "--capture", story().to_str().unwrap()]);
    assert!(plain.status.success());
}

#[test]
fn a_tree_of_nobody_ends_with_1_and_a_wrong_word_with_2() {
    for (args, word) in [
        (&["99"][..], "no process 99 is known"),
        (&["cc292daf-810f-59a9-99e2-2b510c1aad86"], "cc292daf"),
        (&["--container", "4f0e"], "4f0e"),
        (&["--server", "apache"], "nginx, php-fpm"),
    ] {
        assert!(failed(&tree(args), 1).contains(word), "{args:?}");
    }
    for (args, word) in [
        (&["nginx"][..], "neither a process number nor an entity id"),
        (&["-1"], "-1"),
        (&["1", "--all"], "--all"),
        (&["--container", ""], "--container"),
        (&["--format", "svg"], "mermaid"),
        (&["--control", "/x"], "--control"),
    ] {
        let output = tree(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
    let dir = TempDir::new().unwrap();
    let cut = write(&dir, "cut.tracer", &fs::read(story()).unwrap()[..2000]);
    let cut = tracer(["tree".as_ref(), "--capture".as_ref(), cut.as_os_str()]);
    assert!(failed(&cut, 2).contains("cut.tracer"));
    assert!(
        stdout(&cut).contains("init(1)"),
        "what came before is drawn"
    );
    let none = tracer(["tree", "--capture", "/nonexistent/x"]);
    failed(&none, 2);
}

#[test]
fn without_an_agent_there_is_a_remedy() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("control.sock");
    let socket = socket.to_str().unwrap();
    let ask = |command: &str| tracer([command, "--control", socket]);
    for command in ["tree", "servers"] {
        let error = failed(&ask(command), 5);
        for word in [socket, "no agent answers", "tracer run", "--capture"] {
            assert!(error.contains(word), "{error}");
        }
    }
    // A file that is no socket, and a dead agent's.
    fs::write(socket, "").unwrap();
    failed(&ask("servers"), 5);
    fs::remove_file(socket).unwrap();
    drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
    assert!(failed(&ask("servers"), 5).contains("refused"));
    // Turned off.
    let config = write(&dir, "off.yaml", "control: {socket: null}\n");
    let off = tracer(["servers", "--config", config.to_str().unwrap()]);
    assert!(failed(&off, 5).contains("control.socket: null"));
    // One who answers something else.
    fs::remove_file(socket).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let liar = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
    });
    assert!(failed(&ask("servers"), 5).contains("not understood"));
    liar.join().unwrap();
}
