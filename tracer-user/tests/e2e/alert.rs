//! What an alert must say. An expectation names every fact a story knows; what differs is listed
//! in full, with the document.

use std::path::PathBuf;

use serde_json::Value;

use crate::host::Process;

/// A rule: its id, and the technique that it is first about.
pub(crate) type Rule = (&'static str, &'static str);

/// A server's descendant executed a shell or an interpreter.
pub(crate) const SHELL: Rule = ("server-shell", "T1505.003");
/// A database server's descendant did.
pub(crate) const DATABASE_SHELL: Rule = ("database-shell", "T1505.001");
/// A server's descendant executed a shell at a network connection.
pub(crate) const REVERSE_SHELL: Rule = ("server-reverse-shell", "T1505.003");
/// A server's descendant executed what one wrote.
pub(crate) const DROPPED_EXEC: Rule = ("server-dropped-exec", "T1505.003");
/// A server's descendant wrote code where it is served.
pub(crate) const CODE_WRITE: Rule = ("server-code-write", "T1505.003");
/// A file that says how others are run.
pub(crate) const CONTROL_WRITE: Rule = ("server-control-write", "T1505.003");

/// `event.severity` of orders to a shell by a server that nobody knows.
pub(crate) const MEDIUM: u64 = 47;
/// `event.severity` of most rules.
pub(crate) const HIGH: u64 = 73;
/// `event.severity` where the facts leave no doubt.
pub(crate) const CRITICAL: u64 = 99;

/// The facts of one alert.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// `rule.id`, and the technique under `threat`.
    pub(crate) rule: Rule,
    /// `event.severity`
    pub(crate) severity: u64,
    /// `process.executable`, links resolved.
    pub(crate) executable: PathBuf,
    /// `process.args`; `None` where they are the server's own and say nothing.
    pub(crate) args: Option<Vec<String>>,
    /// Names of the ancestors up to the outermost process of the server, nearest first.
    pub(crate) via: Vec<String>,
    /// The ancestors above that, to PID 1.
    pub(crate) above: Vec<Process>,
    /// `tracer.server.name`
    pub(crate) server: &'static str,
    /// `tracer.server.depth`: steps up to the nearest process of the server.
    pub(crate) depth: usize,
    /// `process.user.name`
    pub(crate) user: String,
    /// `file.path`
    pub(crate) file: Option<PathBuf>,
}

impl Expected {
    /// Every fact in which the document differs.
    pub(crate) fn differences(&self, document: &Value) -> Vec<String> {
        let mut check = Check {
            document,
            differences: Vec::new(),
        };
        check.text("/event/kind", "alert");
        check.text("/ecs/version", "9.4.0");
        let (rule, technique) = self.rule;
        check.text("/rule/id", rule);
        let severity = document.pointer("/event/severity");
        if severity != Some(&Value::from(self.severity)) {
            check.wrong("event.severity", &severity, &self.severity);
        }
        check.text("/tracer/server/name", self.server);
        check.text("/process/user/name", &self.user);
        check.text("/process/executable", &self.executable.to_string_lossy());
        check.text("/tracer/integrity/state", "complete");
        if let Some(file) = &self.file {
            check.text("/file/path", &file.to_string_lossy());
        }
        if let Some(args) = &self.args {
            check.equal("/process/args", texts(document, "/process/args"), args);
        }
        if texts(document, "/process/args")
            .last()
            .is_none_or(String::is_empty)
        {
            let args = texts(document, "/process/args");
            check.wrong(
                "/process/args",
                &args,
                "some, without empty ones at their end",
            );
        }
        if !techniques(document).iter().any(|id| id == technique) {
            check.wrong("threat", &techniques(document), technique);
        }
        self.server(&mut check);
        self.lineage(&mut check);
        check.differences
    }

    /// The server is the process of the chain that it should be.
    fn server(&self, check: &mut Check<'_>) {
        let depth = check.document.pointer("/tracer/server/depth");
        if depth != Some(&Value::from(self.depth)) {
            check.wrong("tracer.server.depth", &depth, &self.depth);
        }
        let process = match self.depth.checked_sub(1) {
            None => check.document.pointer("/process/entity_id"),
            Some(above) => rows(check.document, "/tracer/lineage")
                .get(above)
                .and_then(|row| row.get("entity_id")),
        };
        let server = check.document.pointer("/tracer/server/entity_id");
        if server.is_none() || server != process {
            check.wrong("tracer.server.entity_id", &server, &process);
        }
    }

    /// The chain: the server's processes by name, what is above them by pid, and the parent and
    /// the ids of Elastic's ancestry in agreement with it.
    fn lineage(&self, check: &mut Check<'_>) {
        let lineage = rows(check.document, "/tracer/lineage");
        let names: Vec<String> = column(lineage, "name");
        let near = &lineage[..self.via.len().min(lineage.len())];
        check.equal("lineage names", column(near, "name"), &self.via);
        let pids = lineage_pids(check.document).split_off(near.len());
        let expected: Vec<u64> = self.above.iter().map(|row| row.pid.into()).collect();
        if pids != expected {
            let expected: Vec<String> = self
                .above
                .iter()
                .map(|row| format!("{} {}", row.pid, row.executable.display()))
                .collect();
            check.wrong("lineage above the server", &(pids, names), &expected);
        }
        check.equal(
            "process.Ext.ancestry",
            texts(check.document, "/process/Ext/ancestry"),
            &column(lineage, "entity_id"),
        );
        if let Some(parent) = lineage.first() {
            let parent_id = check.document.pointer("/process/parent/entity_id");
            if parent_id != parent.get("entity_id") {
                check.wrong(
                    "process.parent.entity_id",
                    &parent_id,
                    &parent.get("entity_id"),
                );
            }
        }
    }
}

/// Panics unless the documents are exactly the expected alerts, in any order.
pub(crate) fn expect_exactly(story: &str, documents: &[Value], expected: &[Expected]) {
    let mut rest: Vec<&Value> = documents.iter().collect();
    let mut problems = Vec::new();
    for one in expected {
        // The nearest is taken, so that the report shows one fact and not a whole other alert.
        let nearest = rest
            .iter()
            .enumerate()
            .map(|(index, document)| (one.differences(document), index))
            .min_by_key(|(differences, _)| differences.len());
        match nearest {
            Some((differences, index)) => {
                let document = rest.remove(index);
                if !differences.is_empty() {
                    problems.push(format!("{}\n  in {document}", differences.join("\n")));
                }
            }
            None => problems.push(format!("no alert for {one:?}")),
        }
    }
    problems.extend(
        rest.iter()
            .map(|document| format!("one too many: {}", brief(document))),
    );
    assert!(problems.is_empty(), "{story}:\n{}", problems.join("\n"));
}

/// An alert in one line, for reports.
pub(crate) fn brief(document: &Value) -> String {
    format!(
        "{} {:?} args {:?} file {} server {} lineage {:?}",
        document.pointer("/rule/id").unwrap_or(&Value::Null),
        text(document, "/process/executable"),
        texts(document, "/process/args"),
        document.pointer("/file/path").unwrap_or(&Value::Null),
        document
            .pointer("/tracer/server/name")
            .unwrap_or(&Value::Null),
        column(rows(document, "/tracer/lineage"), "name"),
    )
}

/// Pids of the ancestors, nearest first.
pub(crate) fn lineage_pids(document: &Value) -> Vec<u64> {
    rows(document, "/tracer/lineage")
        .iter()
        .map(|row| row["pid"].as_u64().unwrap_or(0))
        .collect()
}

/// Whether any text in the document holds `part`.
pub(crate) fn mentions(document: &Value, part: &str) -> bool {
    match document {
        Value::String(text) => text.contains(part),
        Value::Array(items) => items.iter().any(|item| mentions(item, part)),
        Value::Object(fields) => fields.values().any(|field| mentions(field, part)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The text at a pointer; empty where there is none.
pub(crate) fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The texts of the list at a pointer.
pub(crate) fn texts(document: &Value, pointer: &str) -> Vec<String> {
    rows(document, pointer)
        .iter()
        .map(|item| item.as_str().unwrap_or_default().to_owned())
        .collect()
}

fn rows<'a>(document: &'a Value, pointer: &str) -> &'a [Value] {
    document
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn column(rows: &[Value], name: &str) -> Vec<String> {
    rows.iter()
        .map(|row| row[name].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn techniques(document: &Value) -> Vec<String> {
    let mut ids = texts(document, "/threat/technique/id");
    ids.extend(texts(document, "/threat/technique/subtechnique/id"));
    ids
}

struct Check<'a> {
    document: &'a Value,
    differences: Vec<String>,
}

impl Check<'_> {
    fn text(&mut self, pointer: &str, expected: &str) {
        let found = text(self.document, pointer);
        if found != expected {
            self.wrong(pointer, &found, expected);
        }
    }

    fn equal(&mut self, what: &str, found: Vec<String>, expected: &[String]) {
        if found != expected {
            self.wrong(what, &found, expected);
        }
    }

    fn wrong(
        &mut self,
        what: &str,
        found: &dyn std::fmt::Debug,
        expected: &(impl std::fmt::Debug + ?Sized),
    ) {
        self.differences
            .push(format!("  {what}: {found:?}, expected {expected:?}"));
    }
}
