//! A server drops files, the agent ends, another begins, and then somebody else uses them: who wrote them is
//! known, by this side and by the kernel's.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::agent::Agent;
use crate::alert::{self, text};
use crate::host::{self, DEADLINE, Outcome, TempDir};
use crate::server::{self, Site};

/// Told to stop, and killed.
pub(crate) fn what_servers_wrote_survives_a_restart() -> Outcome {
    restart(false)?;
    restart(true)
}

/// php-fpm drops a program, a script and a page that is none yet, and begins an attack that is told.
fn restart(is_killed: bool) -> Outcome {
    let site = server::nginx_php_fpm()?;
    let folder = TempDir::new("dropped");
    let state = folder.join("kept/state");
    let state_file = state.to_string_lossy();
    let arguments = [
        "--emit",
        "alerts",
        "--format",
        "json",
        "--state",
        &state_file,
    ];
    let first = Agent::start(&arguments)?;
    let names = ["job", "job.sh", "page.txt"];
    let [job, script, upload] = names.map(|name| site.dir().join("storage").join(name));
    let show = |path: &Path| path.display().to_string();
    let php = format!(
        "<?php\ncopy('/bin/true', '{}'); chmod('{0}', 0755);\n\
         file_put_contents('{}', \"exit 0\\n\");\n\
         file_put_contents('{}', '<?php echo \"served\";');\necho 'done';\n",
        show(&job),
        show(&script),
        show(&upload),
    );
    site.page("drop.php", &php);
    assert_eq!(site.get("/drop.php").body, "done");
    if is_killed {
        // What was written last is all that the next agent has.
        host::wait_for("a state that knows the last of the files", || {
            let kept = std::fs::read(&state).ok()?;
            let path = show(&upload).into_bytes();
            let mut parts = kept.windows(path.len());
            parts.any(|part| part == path.as_slice()).then_some(())
        });
        host::signal(first.pid(), Signal::KILL);
        first.killed();
    } else {
        let ended = first.stop();
        assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    }

    let second = Agent::start(&arguments)?;
    let page = site.docroot().join("page.php");
    host::run(&mut Command::new(&job));
    let executed = of_php_fpm(&second, &site, alert::DROPPED_EXEC, &job);
    assert_eq!(text(&executed, "/process/executable"), show(&job));
    host::run(Command::new("/bin/sh").arg(&script));
    of_php_fpm(&second, &site, alert::DROPPED_EXEC, &script);
    // No process of a server's lineage has to do with it, so the kernel side tells it for the file only.
    host::run(Command::new("mv").args([&upload, &page]));
    let moved = of_php_fpm(&second, &site, alert::CODE_WRITE, &page);
    assert_eq!(text(&moved, "/file/path"), show(&page));
    assert_eq!(site.get("/page.php").body, "served");
    let (ended, lines) = second.stop_with_lines();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    let alerts = lines
        .iter()
        .filter(|line| text(&line.document, "/event/kind") == "alert")
        .filter(|line| text(&line.document, "/tracer/server/name") == "php-fpm")
        .filter(|line| text(&line.document, "/event/reason").contains(&show(site.dir().path())));
    let brief: Vec<String> = alerts.map(|line| alert::brief(&line.document)).collect();
    assert_eq!(brief.len(), 3, "{brief:#?}");
    host::say(&format!(
        "dropped: three files of the time before{}",
        if is_killed { ", after a kill" } else { "" }
    ));
    Ok(())
}

/// The alert about a file that php-fpm wrote and somebody else used.
fn of_php_fpm(agent: &Agent, site: &Site, rule: alert::Rule, path: &Path) -> Value {
    let path = path.display().to_string();
    let found = agent.wait_for(0, DEADLINE, |document| {
        text(document, "/rule/id") == rule.0 && text(document, "/event/reason").contains(&path)
    });
    let found = found
        .unwrap_or_else(|| panic!("no {} of {path}: {}", rule.0, agent.stderr()))
        .document;
    assert_eq!(text(&found, "/tracer/server/name"), "php-fpm", "{found:#}");
    assert_eq!(found.pointer("/tracer/server/depth"), None, "{found:#}");
    assert_eq!(text(&found, "/process/user/id"), "0", "{found:#}");
    let writer = found.pointer("/tracer/writer/pid").and_then(Value::as_u64);
    let workers = host::children(site.pid(1));
    let is_worker = |pid: u64| workers.iter().any(|worker| u64::from(*worker) == pid);
    assert!(writer.is_some_and(is_worker), "{workers:?}: {found:#}");
    found
}
