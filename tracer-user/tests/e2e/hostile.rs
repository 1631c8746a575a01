//! What any local user can do to the agent: flood its tables, and have it wait for an answer.

use std::fs;
use std::process::{Command, Stdio};

use crate::agent::Agent;
use crate::host::{self, Outcome, TempDir};

/// Short processes that look like a server by their arguments: the agent tags them, not the kernel.
const SHORT: usize = 300;

/// Who ends before its tag is set leaves none: a loop of such programs does not fill the map.
pub(crate) fn short_servers_leave_no_tags() -> Outcome {
    let folder = TempDir::new("tags");
    let java = folder.join("java");
    fs::copy(host::real(host::program("true")?), &java).expect("copy of true");
    let agent = Agent::start(&["--emit", "all", "--format", "json"])?;
    for _ in 0..SHORT {
        let mut child = Command::new(&java)
            .args(["-jar", "jenkins.war"])
            .stdin(Stdio::null())
            .spawn()
            .expect("a copy of true");
        child.wait().expect("wait");
    }
    let ended = agent.stop();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    let tags = count(&ended.stderr, "tags");
    // Those of other servers of the host.
    assert!(tags < SHORT as u64 / 3, "{tags} tags: {}", ended.stderr);
    host::say(&format!("hostile: {tags} tags after {SHORT} short servers"));
    Ok(())
}

/// A count of the summary; zero where it has none.
fn count(stderr: &str, name: &str) -> u64 {
    let summary = stderr
        .lines()
        .rev()
        .find(|line| line.contains("events seen"));
    let summary = summary.expect("a summary");
    let count = summary
        .split(", ")
        .find_map(|part| part.strip_prefix(name)?.strip_prefix(' '));
    count.map_or(0, |count| count.parse().expect("a number"))
}
