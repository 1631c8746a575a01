//! The agent ends in the middle of an attack, and another begins: who was made by a server before is known
//! as that afterwards, and the time between is told. And while an agent begins, nobody is missed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::Value;

use crate::agent::{Agent, Line};
use crate::alert::{self, mentions, text};
use crate::attacks::Cgroup;
use crate::host::{self, DEADLINE, Outcome, TempDir};
use crate::server;

/// Told to stop, and killed.
pub(crate) fn lineage_survives_a_restart() -> Outcome {
    restart(false)?;
    restart(true)
}

/// A request starts a process in the background that belongs to nobody: its parents end at once. No shell is
/// part of that, as then all that comes of it would be one attack, told before. Without an agent, time passes.
/// Under the next agent it starts a shell.
fn restart(is_killed: bool) -> Outcome {
    let setsid = host::program("setsid")?;
    let xargs = host::program("xargs")?;
    let site = server::nginx_php_fpm()?;
    let folder = TempDir::new("restart");
    let (fifo, state) = (folder.join("words"), folder.join("kept/state"));
    host::run(Command::new("mkfifo").arg("-m").arg("666").arg(&fifo));
    site.page(
        "daemon.php",
        &format!(
            "<?php\n$none = ['file', '/dev/null', 'w'];\n\
             proc_close(proc_open(['{}', '-f', '{}', '-a', '{}', 'sh', '-c', ':'], \
             [['file', '/dev/null', 'r'], $none, $none], $io));\necho 'begun';\n",
            setsid.display(),
            xargs.display(),
            fifo.display()
        ),
    );
    let state_file = state.to_string_lossy();
    let arguments = ["--emit", "all", "--format", "json", "--state", &state_file];
    let first = Agent::start(&arguments)?;
    let mark = first.mark();
    assert!(site.get("/daemon.php").body.contains("begun"));
    let name = host::base_name(&xargs);
    let before = first.wait_for(mark, DEADLINE, |document| {
        text(document, "/event/action") == "exec"
            && text(document, "/process/name") == name
            && mentions(document, "words")
    });
    let before = before.expect("the process in the background").document;
    if is_killed {
        // What was written last is all that the next agent has.
        host::wait_for("a state that knows the process", || {
            let kept = std::fs::read(&state).ok()?;
            let mut words = kept.windows(name.len());
            words.any(|word| word == name.as_bytes()).then_some(())
        });
        host::signal(first.pid(), Signal::KILL);
        first.killed();
    } else {
        let ended = first.stop();
        assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    }

    let second = Agent::start(&arguments)?;
    let told = second.stderr();
    assert!(told.contains("known before, no agent ran for"), "{told}");
    let blind = second.wait_for(0, DEADLINE, |document| {
        text(document, "/event/action") == "blind"
    });
    let blind = blind.expect("the time without an agent").document;
    assert_eq!(text(&blind, "/event/kind"), "pipeline_error", "{blind}");
    assert!(
        text(&blind, "/event/start") < text(&blind, "/event/end"),
        "{blind}"
    );

    let token = host::token();
    say(&fifo, &token);
    let shell = second.wait_for(0, DEADLINE, |document| {
        text(document, "/rule/id") == alert::SHELL.0 && mentions(document, &token)
    });
    let shell = shell
        .unwrap_or_else(|| panic!("no alert of the shell: {}", second.stderr()))
        .document;
    assert_eq!(text(&shell, "/tracer/server/name"), "php-fpm", "{shell}");
    assert_eq!(text(&shell, "/tracer/lineage/0/name"), name);
    assert_eq!(text(&shell, "/tracer/lineage/0/origin"), "restored");
    let number = |pointer: &str| shell.pointer(pointer).and_then(Value::as_u64);
    assert!(number("/tracer/integrity/blind_ms") > Some(0), "{shell}");
    // The same processes, by the same ids, with those that have ended.
    let ids = |document: &Value| -> Vec<String> {
        let ancestry = document.pointer("/process/Ext/ancestry");
        let all = ancestry.and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut expected = ids(&before);
    expected.insert(0, text(&before, "/process/entity_id").to_owned());
    assert_eq!(ids(&shell), expected, "{shell}");
    let pids = alert::lineage_pids(&shell);
    assert!(pids.contains(&site.pid(1).into()), "{pids:?}");
    assert_eq!(pids.last(), Some(&1), "{pids:?}");
    let ended = second.stop();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    assert!(ended.stderr.contains("blind_ms"), "{}", ended.stderr);
    host::say(&format!(
        "restart: {} ancestors are the same{}",
        expected.len(),
        if is_killed { " after a kill" } else { "" }
    ));
    Ok(())
}

/// A request starts a process in the background before there is an agent, and so does an administrator. Both
/// have lost who made them; under the agent both start a shell.
pub(crate) fn an_orphan_older_than_the_agent_is_known() -> Outcome {
    let (setsid, xargs) = (host::program("setsid")?, host::program("xargs")?);
    let site = server::nginx_php_fpm()?;
    // As systemd would have started it.
    let unit = Cgroup::new(&format!("{}.service", host::token()))?;
    let master = site.pid(1);
    for pid in host::children(master).into_iter().chain([master]) {
        unit.take(pid)?;
    }
    let folder = TempDir::new("orphan");
    let [served, own] = ["served", "own"].map(|name| {
        let fifo = folder.join(name);
        host::run(Command::new("mkfifo").arg("-m").arg("666").arg(&fifo));
        fifo
    });
    let words = |fifo: &Path| format!("-f {} -a {} sh -c :", xargs.display(), fifo.display());
    let page = format!(
        "<?php\nsystem('{} {} >/dev/null 2>&1');\necho 'begun';\n",
        setsid.display(),
        words(&served)
    );
    site.page("daemon.php", &page);
    assert!(site.get("/daemon.php").body.contains("begun"));
    let mut administrator = Command::new(&setsid);
    administrator
        .args(words(&own).split(' '))
        .stdin(Stdio::null());
    administrator.stdout(Stdio::null()).stderr(Stdio::null());
    let mut started = administrator.spawn().expect("setsid");
    started.wait().expect("wait");

    let agent = Agent::start(&["--emit", "alerts", "--format", "json"])?;
    let (benign, token) = (host::token(), host::token());
    say(&own, &benign);
    say(&served, &token);
    let shell = agent.wait_for(0, DEADLINE, |document| {
        text(document, "/rule/id") == alert::SHELL.0 && mentions(document, &token)
    });
    let shell = shell
        .unwrap_or_else(|| panic!("no alert of the shell: {}", agent.stderr()))
        .document;
    assert_eq!(text(&shell, "/tracer/server/name"), "php-fpm", "{shell}");
    let orphan = &shell["tracer"]["lineage"][0];
    assert_eq!(orphan["name"], host::base_name(&xargs).as_str(), "{shell}");
    assert_eq!(orphan["origin"], "inferred", "{shell}");
    assert_eq!(
        orphan["inferred_by"],
        serde_json::json!(["cgroup"]),
        "{shell}"
    );
    assert_eq!(
        shell["tracer"]["lineage"][1]["pid"],
        u64::from(site.pid(1)),
        "{shell}"
    );
    let ended = agent.stop_with_lines();
    assert!(ended.0.status.success(), "{}", ended.0.stderr);
    let foreign = ended
        .1
        .iter()
        .find(|line| mentions(&line.document, &benign));
    assert!(foreign.is_none(), "{foreign:?}");
    host::say("orphan: one of php-fpm by its cgroup, one of nobody");
    Ok(())
}

/// Writes a word for who reads there by now.
fn say(fifo: &Path, word: &str) {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(libc::O_NONBLOCK);
    let mut file = options.open(fifo).expect("somebody reads");
    writeln!(file, "{word}").expect("a word");
}

/// Processes that are made while the agent begins, and live until it is ready, at most.
const STORM: usize = 150;

/// Whoever begins while the agent does is told once: found in `/proc`, or seen by its fork.
pub(crate) fn nobody_is_missed_at_the_start() -> Outcome {
    let (ready, made) = (AtomicBool::new(false), Vec::new());
    let (agent, mut children) = std::thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let mut made: Vec<Child> = made;
            while !ready.load(Ordering::Acquire) && made.len() < STORM {
                let sleep = Command::new("/bin/sleep")
                    .arg("600")
                    .stdin(Stdio::null())
                    .spawn();
                made.push(sleep.expect("/bin/sleep"));
                // Some end at once.
                let brief = Command::new("/bin/true").stdin(Stdio::null()).spawn();
                brief.expect("/bin/true").wait().expect("wait");
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            made
        });
        let agent = Agent::start(&["--emit", "all", "--format", "json"]);
        ready.store(true, Ordering::Release);
        (agent, storm.join().expect("storm"))
    });
    for child in &mut children {
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    let agent = agent?;
    let last = children.last().map_or(0, |child| u64::from(child.id()));
    let number = |document: &Value, pointer: &str| document.pointer(pointer)?.as_u64();
    let is_last = |line: &Line| {
        text(&line.document, "/event/action") == "end"
            && number(&line.document, "/process/pid") == Some(last)
    };
    let mut lines: Vec<Line> = Vec::new();
    host::wait_for("the end of the last of them", || {
        let more = agent.since(lines.len());
        let ended = more.iter().any(is_last);
        lines.extend(more);
        ended.then_some(())
    });
    // What is told of each number: its ids, by what, and its ends.
    let mut told: BTreeMap<u64, (BTreeSet<String>, Vec<String>)> = BTreeMap::new();
    let (mut found, mut forked) = (0, 0);
    let own = u64::from(std::process::id());
    for Line { document, .. } in lines {
        if number(&document, "/process/parent/pid") != Some(own) {
            continue;
        }
        let action = text(&document, "/event/action").to_owned();
        let Some(pid) = number(&document, "/process/pid") else {
            continue;
        };
        found += usize::from(action == "already_running");
        forked += usize::from(action == "exec");
        let (ids, actions) = told.entry(pid).or_default();
        ids.insert(text(&document, "/process/entity_id").to_owned());
        actions.push(action);
    }
    let count = children.len();
    for child in children {
        let about = told.get(&child.id().into());
        let (ids, actions) = about.unwrap_or_else(|| panic!("{} was missed", child.id()));
        let times = |action: &str| actions.iter().filter(|known| *known == action).count();
        assert_eq!(ids.len(), 1, "{}: {actions:?}", child.id());
        assert!(times("already_running") <= 1, "{}: {actions:?}", child.id());
        assert!(times("exec") <= 1, "{}: {actions:?}", child.id());
        assert!(times("already_running") + times("exec") >= 1, "{actions:?}");
        assert_eq!(times("end"), 1, "{}: {actions:?}", child.id());
    }
    let ended = agent.stop();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    host::say(&format!(
        "start: {count} processes that began meanwhile, {found} found running, {forked} seen executing"
    ));
    Ok(())
}
