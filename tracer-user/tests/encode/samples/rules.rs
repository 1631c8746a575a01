//! Rules of alerts.

use std::sync::Arc;

use tracer::alert::Severity;
use tracer::rule::{Rule, Technique, attack};

/// A rule on what servers run.
pub(super) fn shell_rule() -> Arc<Rule> {
    Arc::new(Rule {
        id: "server-spawned-shell".into(),
        uuid: Some("3b0e6d5c-8a41-4f0b-9a0e-5f3a2f1c7d10".to_owned()),
        name: "Server executed a shell".to_owned(),
        description: "A process that descends from a server executed a shell.".to_owned(),
        action: "server-spawned-shell".to_owned(),
        version: "1".to_owned(),
        level: Severity::High,
        techniques: techniques(&[
            "attack.persistence",
            "attack.t1505.003",
            "attack.execution",
            "attack.t1059.004",
        ]),
        data_sources: vec!["Process Creation".to_owned()],
        references: Vec::new(),
        false_positives: vec!["A web application that runs a maintenance script.".to_owned()],
        ruleset: "tracer".to_owned(),
        file: "persistence/shell.yml".to_owned(),
    })
}

/// A rule on what they write.
pub(super) fn write_rule() -> Arc<Rule> {
    Arc::new(Rule {
        id: "server-wrote-served-file".into(),
        uuid: None,
        name: "Server wrote a served file".to_owned(),
        description: "A process that descends from a server wrote a file that a server serves."
            .to_owned(),
        action: "server-wrote-served-file".to_owned(),
        version: "2".to_owned(),
        level: Severity::High,
        techniques: techniques(&["attack.persistence", "attack.t1505.003"]),
        data_sources: vec!["File Creation".to_owned()],
        references: Vec::new(),
        false_positives: Vec::new(),
        ruleset: "tracer".to_owned(),
        file: "persistence/write.yml".to_owned(),
    })
}

fn techniques(tags: &[&str]) -> Vec<Technique> {
    let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
    attack::techniques(&tags)
}
