//! The rules as analysts read them. What each matches is in [`super`].

use crate::alert::{Rule, Technique};

const PERSISTENCE: (&str, &str) = ("TA0003", "Persistence");
const EXECUTION: (&str, &str) = ("TA0002", "Execution");
const COMPONENT: (&str, &str) = ("T1505", "Server Software Component");

const WEB_SHELL: Technique = Technique {
    tactic: PERSISTENCE,
    technique: COMPONENT,
    subtechnique: Some(("T1505.003", "Web Shell")),
};
const STORED_PROCEDURE: Technique = Technique {
    tactic: PERSISTENCE,
    technique: COMPONENT,
    subtechnique: Some(("T1505.001", "SQL Stored Procedures")),
};
const SERVER_COMPONENT: Technique = Technique {
    tactic: PERSISTENCE,
    technique: COMPONENT,
    subtechnique: None,
};
const UNIX_SHELL: Technique = Technique {
    tactic: EXECUTION,
    technique: ("T1059", "Command and Scripting Interpreter"),
    subtechnique: Some(("T1059.004", "Unix Shell")),
};
const TOOL_TRANSFER: Technique = Technique {
    tactic: ("TA0011", "Command and Control"),
    technique: ("T1105", "Ingress Tool Transfer"),
    subtechnique: None,
};

/// Every rule.
pub const ALL: &[&Rule] = &[
    &SHELL,
    &DATABASE_SHELL,
    &DROPPED_EXEC,
    &CODE_WRITE,
    &COMPONENT_WRITE,
];

/// A web or application server's lineage runs a shell or interpreter.
pub static SHELL: Rule = Rule {
    id: "server-shell",
    name: "Server lineage executed a shell or interpreter",
    description: "A process that descends from a web, application, cache or file server replaced \
        its image with a command shell or a language interpreter, or loaded one into a dynamic \
        loader; or one did that runs what such a process wrote, or that it reached into. Serving \
        requests seldom needs that; a web shell, an exploited application or a command injection \
        always does.",
    action: "server-spawned-shell",
    version: "3",
    techniques: &[WEB_SHELL, UNIX_SHELL],
    false_positives: &[
        "An application that runs command line tools through a shell for ordinary requests \
         (image conversion, archive tools).",
        "A program in a runtime that listens beside its work and runs shells by design: certbot \
         --standalone and its hooks, supervisord with inet_http_server.",
    ],
};

/// A database server's lineage runs a shell or interpreter.
pub static DATABASE_SHELL: Rule = Rule {
    id: "database-shell",
    name: "Database server lineage executed a shell or interpreter",
    description: "A process that descends from a database server replaced its image with a command \
        shell or a language interpreter, as COPY ... PROGRAM, user defined functions and stored \
        procedures make it do.",
    action: "database-spawned-shell",
    version: "3",
    techniques: &[STORED_PROCEDURE, UNIX_SHELL],
    false_positives: &[
        "PostgreSQL's archive_command, restore_command and ssl_passphrase_command, which the server \
         runs through a shell.",
    ],
};

/// A program that a server's lineage wrote is run, by whomever.
pub static DROPPED_EXEC: Rule = Rule {
    id: "server-dropped-exec",
    name: "Program that a server lineage wrote was executed",
    description: "A process executed a file, or gave it to an interpreter, that a server's lineage \
        had opened for writing or created before, under whatever name: a process of that lineage, \
        or any other, such as root's cron.",
    action: "server-executed-dropped-file",
    version: "2",
    techniques: &[WEB_SHELL, TOOL_TRANSFER],
    false_positives: &[
        "A build or test system that compiles programs and runs them.",
        "An application that updates itself, and whose maintenance cron runs.",
    ],
};

/// A server's lineage writes code where it is served, or somebody moves there what it wrote.
pub static CODE_WRITE: Rule = Rule {
    id: "server-code-write",
    name: "Server lineage wrote code into a served directory",
    description: "A process that descends from a server gave a directory, whose files are run on \
        request, a file that the server runs, or that says how others are run: created, opened or \
        mapped for writing, renamed, linked or mounted. Or another process renamed or linked a \
        file into it that such a process wrote.",
    action: "server-wrote-served-code",
    version: "3",
    techniques: &[WEB_SHELL],
    false_positives: &[
        "An administrator who installs or updates plugins through the application's own pages.",
        "An application that compiles templates to code inside its document root.",
    ],
};

/// A server's lineage writes where components are loaded from.
pub static COMPONENT_WRITE: Rule = Rule {
    id: "server-component-write",
    name: "Server lineage wrote into a component directory",
    description: "A process that descends from a server gave a directory, from which servers load \
        modules, extensions, plugins or configuration, a file: created, opened or mapped for \
        writing, renamed, linked or mounted. Or another process renamed or linked a file into it \
        that such a process wrote.",
    action: "server-wrote-component",
    version: "3",
    techniques: &[SERVER_COMPONENT],
    false_positives: &["A management panel that runs inside the server it configures."],
};

/// The table of rules in markdown, for the documentation.
#[must_use]
pub fn reference_markdown() -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "| rule | name | ATT&CK | `event.action` | known benign causes |\n| --- | --- | --- | --- | --- |\n",
    );
    for rule in ALL {
        let techniques: Vec<&str> = rule
            .techniques
            .iter()
            .map(|technique| technique.subtechnique.unwrap_or(technique.technique).0)
            .collect();
        let _infallible = writeln!(
            out,
            "| `{}` | {} | {} | `{}` | {} |",
            rule.id,
            rule.name,
            techniques.join(", "),
            rule.action,
            rule.false_positives.join(" ")
        );
    }
    out
}
