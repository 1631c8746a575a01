//! The recording that `cargo xtask demo` shows where the kernel refuses the agent: it replays to the
//! two alerts of the scene with all their facts, and it knows of no host but the guest that it was
//! made on. `UPDATE_GOLDEN=1` rewrites the golden, after a new recording or a change of the output.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test helpers: a panic is the report"
)]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tracer::alert::Document;
use tracer::config::Emit;
use tracer::encode::ecs;
use tracer::memory::Budget;
use tracer::pipeline::{Pipeline, Totals};
use tracer::source::Input;
use tracer::source::capture::Reader;

/// More than the guest ever had.
const BUDGET: Budget = Budget::new(16 << 20);

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(path)
}

fn recording() -> Vec<u8> {
    std::fs::read(testdata("captures/demo.tracer")).unwrap()
}

fn inputs() -> Vec<Input> {
    Reader::new(recording().as_slice())
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn replay() -> (Vec<Document>, Totals) {
    let mut pipeline = Pipeline::new(Emit::Alerts, BUDGET);
    for input in inputs() {
        pipeline.input(input);
    }
    (pipeline.take_documents(), pipeline.totals())
}

fn lines() -> String {
    let mut out = Vec::new();
    for document in &replay().0 {
        ecs::line(document, &mut out);
    }
    String::from_utf8(out).unwrap()
}

/// The two alerts: the shell and the written code, in the order of the requests.
fn alerts() -> [Value; 2] {
    let alerts: Vec<Value> = lines()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    alerts
        .try_into()
        .unwrap_or_else(|alerts: Vec<_>| panic!("{} alerts: {alerts:#?}", alerts.len()))
}

#[track_caller]
fn assert_facts(alert: &Value, facts: &[(&str, Value)]) {
    for (pointer, expected) in facts {
        assert_eq!(alert.pointer(pointer), Some(expected), "{pointer}");
    }
}

/// Executables from the parent up, and the pid at the end.
fn chain(alert: &Value) -> (Vec<&str>, Option<u64>) {
    let lineage = alert
        .pointer("/tracer/lineage")
        .unwrap()
        .as_array()
        .unwrap();
    let executables = lineage
        .iter()
        .map(|process| process.pointer("/executable").unwrap().as_str().unwrap())
        .collect();
    let last = lineage.last().unwrap().pointer("/pid").unwrap();
    (executables, last.as_u64())
}

#[test]
fn the_shell_is_told_with_its_server() {
    let [shell, _] = alerts();
    assert_facts(
        &shell,
        &[
            ("/rule/id", json!("server-shell")),
            ("/process/args", json!(["sh", "-c", "id"])),
            ("/process/executable", json!("/usr/bin/dash")),
            ("/process/working_directory", json!("/opt/demo/www")),
            ("/process/user", json!({"id": "33", "name": "www-data"})),
            ("/process/parent/name", json!("php-fpm8.2")),
            ("/threat/technique/subtechnique/id/0", json!("T1505.003")),
            ("/tracer/integrity/state", json!("complete")),
        ],
    );
    let (executables, first) = chain(&shell);
    let fpm = "/usr/sbin/php-fpm8.2";
    assert_eq!(executables, [fpm, fpm, "/usr/bin/dash", "/bin/busybox"]);
    assert_eq!(first, Some(1));
}

#[test]
fn the_code_is_told_with_the_directory_that_was_discovered() {
    let [_, code] = alerts();
    assert_facts(
        &code,
        &[
            ("/rule/id", json!("server-code-write")),
            ("/file/path", json!("/opt/demo/www/shell.php")),
            ("/file/uid", json!("33")),
            ("/event/type/0", json!("creation")),
            ("/process/executable", json!("/usr/sbin/php-fpm8.2")),
            ("/process/user", json!({"id": "33", "name": "www-data"})),
            ("/tracer/integrity/state", json!("complete")),
        ],
    );
    let (executables, first) = chain(&code);
    let fpm = "/usr/sbin/php-fpm8.2";
    assert_eq!(executables, [fpm, "/usr/bin/dash", "/bin/busybox"]);
    assert_eq!(first, Some(1));

    let (documents, _) = replay();
    let alert = documents.last().and_then(|last| last.alert.as_ref());
    let directory = alert.unwrap().directory.as_ref().unwrap();
    assert_eq!(directory.path, b"/opt/demo/www");
    // A default or a configured directory would name another source.
    assert!(directory.source.starts_with("/opt/demo/nginx.conf:"));
}

#[test]
fn nothing_was_lost_and_all_is_understood() {
    let (_, totals) = replay();
    assert_eq!((totals.alerts, totals.lost, totals.undecodable), (2, 0, 0));
    assert!(totals.events > 50, "{totals:?}");
}

/// A recording of another machine than a guest would hold its name, its processes, its users.
#[test]
fn the_recording_knows_the_guest_alone() {
    let mut hosts = inputs();
    hosts.retain(|input| matches!(input, Input::Host(_)));
    let [Input::Host(host)] = hosts.as_slice() else {
        panic!("{hosts:?}");
    };
    assert_eq!((&*host.hostname, &*host.machine_id), ("guest", ""));

    let mut pipeline = Pipeline::new(Emit::Events, BUDGET);
    for input in inputs() {
        pipeline.input(input);
    }
    let scene = [
        "/bin/busybox",
        "/bin/cat",
        "/bin/chown",
        "/bin/tracer",
        "/bin/wget",
        "/usr/bin/dash",
        "/usr/bin/id",
        "/usr/sbin/nginx",
        "/usr/sbin/php-fpm8.2",
    ];
    for document in pipeline.take_documents() {
        let mut line = Vec::new();
        ecs::line(&document, &mut line);
        let event: Value = serde_json::from_slice(&line).unwrap();
        // Kernel threads have none.
        if let Some(executable) = event.pointer("/process/executable") {
            assert!(scene.contains(&executable.as_str().unwrap()), "{event:#}");
        }
    }
}

#[test]
fn the_alerts_are_the_golden_ones() {
    let path = testdata("expected/demo.json");
    let actual = lines();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} differs; UPDATE_GOLDEN=1 rewrites it. Now:\n{actual}",
        path.display()
    );
}
