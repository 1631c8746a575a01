//! How long it takes from a shell's exec to its alert. Measured where `TRACER_BENCH` is set;
//! printed and not asserted, because machines differ.

use std::time::{Duration, SystemTime};

use crate::alert::{SHELL, mentions, text};
use crate::host::{self, DEADLINE, Outcome};
use crate::scene::{Scene, Story};

const REQUESTS: usize = 500;

/// The probe, where it is asked for, as a story that asserts only that every alert came.
pub(crate) fn story() -> Option<Story> {
    std::env::var_os("TRACER_BENCH").map(|_| Story::new("latency from exec to alert", measure))
}

fn measure(scene: &Scene) -> Outcome {
    let site = &scene.site;
    site.page(
        "latency.php",
        "<?php\nsystem('echo ' . preg_replace('/[^a-z0-9]/', '', $_GET['t']));\n",
    );
    let mut times: Vec<Duration> = (0..REQUESTS)
        .map(|_| {
            let mark = scene.agent.mark();
            let token = host::token();
            let response = site.get(&format!("/latency.php?t={token}"));
            assert_eq!(response.body.trim(), token);
            let line = scene
                .agent
                .wait_for(mark, DEADLINE, |document| {
                    text(document, "/rule/id") == SHELL.0 && mentions(document, &token)
                })
                .unwrap_or_else(|| panic!("no alert for {token}"));
            let at: jiff::Timestamp = text(&line.document, "/@timestamp")
                .parse()
                .expect("@timestamp");
            line.received
                .duration_since(SystemTime::from(at))
                .unwrap_or_default()
        })
        .collect();
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    host::say(&format!(
        "latency from exec to alert over {REQUESTS}: median {:?}, p99 {:?}, worst {:?}",
        at(50),
        at(99),
        at(100)
    ));
    Ok(())
}
