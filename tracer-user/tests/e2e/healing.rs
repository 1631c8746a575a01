//! Process life that was lost is found again in `/proc`, and what follows alerts as ever.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::agent::Agent;
use crate::alert::{self, text};
use crate::host::{self, DEADLINE, Outcome, TempDir};
use crate::server;

/// Short processes: each gives two records of more than a hundred bytes, so these overflow the ring.
const NOISE: usize = 1000;
const RING_BYTES: usize = 64 * 1024;

/// A worker of php-fpm is made while the agent cannot look and its ring is full. The agent does not hear
/// of it, says that it lost something, finds the worker, and tells of a shell that this one starts.
pub(crate) fn a_lost_worker_is_found() -> Outcome {
    let site = server::nginx_php_fpm()?;
    // Only the worker that was lost answers with a shell.
    site.page(
        "shell.php",
        "<?php\nif (getmypid() === intval($_GET['pid'])) { system('echo ran by shell'); }\n",
    );
    let folder = TempDir::new("healing");
    let config = folder.file(
        "tracer.yaml",
        &format!("rings:\n  life_bytes: {RING_BYTES}\n  file_bytes: {RING_BYTES}\n"),
    );
    let config = config.to_string_lossy();
    let agent = Agent::start(&["--emit", "all", "--format", "json", "--config", &config])?;
    let mark = agent.mark();
    let master = site.pid(1);
    let before = host::children(master);

    host::signal(agent.pid(), Signal::STOP);
    for _ in 0..NOISE {
        let child = Command::new("/bin/true").stdin(Stdio::null()).spawn();
        child.expect("/bin/true").wait().expect("wait");
    }
    // php-fpm makes another in its place.
    host::signal(before[0], Signal::KILL);
    let worker = host::wait_for("a new worker", || {
        let now = host::children(master);
        now.into_iter().find(|pid| !before.contains(pid))
    });
    host::signal(agent.pid(), Signal::CONT);

    let number = |document: &Value, pointer: &str| document.pointer(pointer)?.as_u64();
    let loss = agent.wait_for(mark, DEADLINE, |document| {
        text(document, "/event/action") == "loss"
    });
    let loss = loss.expect("a report of the loss").document;
    assert_eq!(text(&loss, "/event/kind"), "pipeline_error");
    assert_eq!(
        text(&loss, "/tracer/loss/0/reason"),
        "life_ring_full",
        "{loss}"
    );
    assert!(loss.get("process").is_none(), "{loss}");
    let found = agent.wait_for(mark, DEADLINE, |document| {
        text(document, "/event/action") == "already_running"
            && number(document, "/process/pid") == Some(worker.into())
    });
    let found = found.expect("the worker is found").document;
    assert_eq!(text(&found, "/tracer/origin"), "healed", "{found}");
    assert_eq!(text(&found, "/tracer/tier"), "snapshot");

    // Two workers take turns, and other noise of a busy host may fill the small ring once more.
    let alert = host::wait_for("an alert of the shell of the worker that was lost", || {
        site.get(&format!("/shell.php?pid={worker}"));
        let lines = agent.since(mark).into_iter().map(|line| line.document);
        lines
            .filter(|document| text(document, "/rule/id") == alert::SHELL.0)
            .find(|alert| number(alert, "/process/parent/pid") == Some(worker.into()))
    });
    assert_eq!(
        text(&alert, "/tracer/lineage/0/origin"),
        "healed",
        "{alert}"
    );
    assert_eq!(text(&alert, "/tracer/server/name"), "php-fpm");
    assert_eq!(
        text(&alert, "/tracer/integrity/state"),
        "incomplete",
        "{alert}"
    );
    let ended = agent.stop();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    assert!(ended.stderr.contains("life_ring_full"), "{}", ended.stderr);
    assert!(
        !ended.stderr.contains("records_unaccounted"),
        "{}",
        ended.stderr
    );
    host::say(&format!("healing: worker {worker} was lost and found"));
    Ok(())
}
