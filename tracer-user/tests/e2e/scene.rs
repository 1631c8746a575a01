//! What every story stands on: one agent, one site that was there before it, and a way to prove
//! silence without waiting for it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::{Agent, Line};
use crate::alert::{self, Expected, Rule, mentions};
use crate::host::{self, DEADLINE, Outcome, Process, Skip};
use crate::server::{self, Site};

/// A named test that shares the scene with the others.
pub(crate) struct Story {
    pub(crate) name: String,
    pub(crate) run: Box<dyn Fn(&Scene) -> Outcome + Send>,
}

impl Story {
    pub(crate) fn new(name: &str, run: impl Fn(&Scene) -> Outcome + Send + 'static) -> Self {
        Self {
            name: name.to_owned(),
            run: Box::new(run),
        }
    }
}

/// A server that several stories share: started by the first of them, ended with the last.
pub(crate) struct Shared<T> {
    start: fn() -> Result<T, Skip>,
    started: Arc<OnceLock<Result<T, String>>>,
}

impl<T> Shared<T> {
    pub(crate) fn new(start: fn() -> Result<T, Skip>) -> Self {
        Self {
            start,
            started: Arc::default(),
        }
    }

    pub(crate) fn get(&self) -> Result<&T, Skip> {
        let start = || (self.start)().map_err(|Skip(reason)| reason);
        let started = self.started.get_or_init(start);
        started.as_ref().map_err(|reason| Skip(reason.clone()))
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self {
            start: self.start,
            started: Arc::clone(&self.started),
        }
    }
}

/// The agent and the site it found running.
pub(crate) struct Scene {
    pub(crate) agent: Agent,
    pub(crate) site: Site,
    /// This process and what started it: above every server here.
    above: Vec<Process>,
}

/// An alert that comes after all others may take this much longer than its sentinel before it
/// counts as missing: the order of alerts is not part of the contract, only of the expectation.
const LATE: Duration = Duration::from_secs(2);

impl Scene {
    /// Starts the site, then the agent, and proves that the agent sees it.
    pub(crate) fn set() -> Result<Self, Skip> {
        let site = server::nginx_php_fpm()?;
        site.page(
            "sentinel.php",
            "<?php\n$token = preg_replace('/[^a-z0-9]/', '', $_GET['t']);\n\
             file_put_contents(__DIR__ . \"/uploads/$token.php\", '<?php');\n\
             system(\"echo $token\");\n",
        );
        let agent = Agent::start(&["--emit", "alerts", "--format", "json"])?;
        let scene = Self {
            agent,
            site,
            above: host::own_lineage(),
        };
        scene.sentinel();
        Ok(scene)
    }

    /// What a shell or write that the site's pages caused must look like, but for what the story
    /// knows: `via` are the names between it and the site's processes.
    pub(crate) fn expected(&self, site: &Site, rule: Rule, via: &[&str]) -> Expected {
        Expected {
            rule,
            severity: alert::HIGH,
            executable: site.executable.clone(),
            args: None,
            via: via
                .iter()
                .map(|&name| name.to_owned())
                .chain(site.processes.clone())
                .collect(),
            above: self.above.clone(),
            server: site.server,
            depth: via.len() + 1,
            user: site.user.name.clone(),
            file: None,
        }
    }

    /// This process and its ancestors.
    pub(crate) fn above(&self) -> &[Process] {
        &self.above
    }

    /// Does something and gives the alerts that came of it: those before an alert that was
    /// provoked afterwards. Waits, if need be, for as many as are expected.
    pub(crate) fn alerts_of(&self, expected: usize, act: impl FnOnce()) -> Vec<Value> {
        // A server that has just begun is known by then: its first request may come at once.
        self.sentinel();
        let mark = self.agent.mark();
        act();
        self.sentinel();
        let late = Instant::now();
        loop {
            let alerts = self.others_since(mark);
            if alerts.len() >= expected || late.elapsed() > LATE {
                return alerts;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Does something and asserts that exactly these alerts came of it.
    pub(crate) fn expect(&self, story: &str, expected: &[Expected], act: impl FnOnce()) {
        let alerts = self.alerts_of(expected.len(), act);
        alert::expect_exactly(story, &alerts, expected);
    }

    /// Does something and asserts that no alert came of it.
    pub(crate) fn expect_silence(&self, story: &str, act: impl FnOnce()) {
        self.expect(story, &[], act);
    }

    /// Runs a shell and writes a page through the site, and waits until both are told: all that
    /// happened before has been through the pipeline then. Both, because state and file records
    /// travel in rings of their own.
    fn sentinel(&self) {
        let mark = self.agent.mark();
        let token = host::token();
        let response = self.site.get(&format!("/sentinel.php?t={SENTINEL}{token}"));
        assert!(
            response.body.contains(&token),
            "the sentinel page answered {response:?}"
        );
        for (rule, _) in [alert::SHELL, alert::CODE_WRITE] {
            let seen = self.agent.wait_for(mark, DEADLINE, |document| {
                alert::text(document, "/rule/id") == rule && mentions(document, &token)
            });
            assert!(
                seen.is_some(),
                "no {rule} alert of the sentinel within {DEADLINE:?}; came: {:#?}\n{}",
                self.agent
                    .since(mark)
                    .iter()
                    .map(|line| alert::brief(&line.document))
                    .collect::<Vec<_>>(),
                self.agent.stderr()
            );
        }
    }

    fn others_since(&self, mark: usize) -> Vec<Value> {
        self.agent
            .since(mark)
            .into_iter()
            .map(|Line { document, .. }| document)
            .filter(|document| !mentions(document, SENTINEL) && !is_foreign(document))
            .collect()
    }

    /// Says what alerts came of somebody else's servers while the stories ran.
    pub(crate) fn say_foreign(&self) {
        for line in self.agent.since(0) {
            if is_foreign(&line.document) {
                host::say(&format!(
                    "not of these tests: {}",
                    alert::brief(&line.document)
                ));
            }
        }
    }
}

/// Whether the alert is about processes that these tests have nothing to do with: its chain is
/// whole and does not come through this process. Hosts of developers may be under attack too, by
/// another run of these tests.
fn is_foreign(document: &Value) -> bool {
    let pids = alert::lineage_pids(document);
    pids.last() == Some(&1) && !pids.contains(&u64::from(std::process::id()))
}

/// In every sentinel's arguments and file name, and in nothing else.
const SENTINEL: &str = "sentinel7f3a";
