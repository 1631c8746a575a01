//! Rules as lists, and the document of a change of the rules: which hold from now on, or why they stay as they were.
//! Such a document is about no process, so it has a field list of its own, as one of losses has.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::fields::{ECS_VERSION, Entry, Type};
use super::json;
use super::loss::{Field, one};
use super::text::visible_prose;
use super::value::{Value, number, owned, text, words};
use crate::alert::RulesReport;
use crate::rule::Rule;

use Type::{Date, Keyword, Long, Text};

/// Every field, in the order of output.
#[rustfmt::skip]
pub(super) static FIELDS: &[Field<RulesReport>] = &[
    one("@timestamp", Date, "When the rules were changed, or were to be.", |r| super::loss::moment(r.boot_wall_ns, r.boot_ns).map(Value::Time)),
    one("message", Text, "What came of it, in one sentence.", |r| owned(sentence(r))),
    one("ecs.version", Keyword, "Version of ECS that the names are from.", |_| text(ECS_VERSION)),

    one("event.id", Keyword, "Id of the report; the same when a recording is replayed.", |r| owned(r.id.to_string())),
    one("event.kind", Keyword, "`event`, or `pipeline_error` where rules were rejected.", |r| text(if r.is_rejected { "pipeline_error" } else { "event" })),
    one("event.category", Keyword, "`configuration`.", |_: &RulesReport| words(vec!["configuration"])).many(),
    one("event.type", Keyword, "`change`, or `error`.", |r: &RulesReport| words(vec![if r.is_rejected { "error" } else { "change" }])).many(),
    one("event.action", Keyword, "`rules-loaded`, or `rules-rejected` where a rule is wrong and those before hold on.", |r| text(if r.is_rejected { "rules-rejected" } else { "rules-loaded" })),
    one("event.outcome", Keyword, "`success` or `failure`.", |r| text(if r.is_rejected { "failure" } else { "success" })),
    one("event.module", Keyword, "`tracer`.", |_| text("tracer")),
    one("event.provider", Keyword, "`tracer`.", |_| text("tracer")),
    one("event.dataset", Keyword, "`tracer.rules`.", |_| text("tracer.rules")),
    one("error.message", Text, "The first thing that is wrong: file, line, and what would be right.", |r| text(r.error.as_deref()?)),

    one("host.id", Keyword, "`/etc/machine-id`.", |r| text(&r.host.machine_id)),
    one("host.hostname", Keyword, "Name of the host.", |r| text(&r.host.hostname)),
    one("host.name", Keyword, "The same.", |r| text(&r.host.hostname)),
    one("host.boot.id", Keyword, "Changes with every boot.", |r| text(&r.host.boot_id)),
    one("host.architecture", Keyword, "As `uname -m` says.", |r| text(&r.host.architecture)),
    one("host.os.kernel", Keyword, "As `uname -r` says.", |r| text(&r.host.kernel)),

    one("agent.type", Keyword, "`tracer`.", |_| text("tracer")),
    one("agent.name", Keyword, "Name of the host the agent runs on.", |r| text(&r.host.hostname)),
    one("agent.version", Keyword, "Version of the agent.", |_| text(env!("CARGO_PKG_VERSION"))),

    one("tracer.rules.enabled", Long, "Rules that hold from now on.", |r| number(r.enabled)),
    one("tracer.rules.disabled", Long, "Rules that are turned off.", |r| number(r.disabled)),
    one("tracer.rules.unsupported", Long, "Rules that were given and are about what this agent does not tell.", |r| number(r.unsupported)),
    one("tracer.rules.wrong", Long, "Errors in what was given.", |r| number(r.wrong)),
];

/// The fields as the reference shows them.
#[must_use]
pub fn catalogue() -> Vec<Entry> {
    let own = FIELDS.iter().map(|f| f.entry(f.name.to_owned()));
    own.collect()
}

/// `rules loaded: 40 hold, 2 are turned off, 1 is not supported`
#[must_use]
pub fn sentence(report: &RulesReport) -> String {
    let RulesReport {
        enabled,
        disabled,
        unsupported,
        wrong,
        ..
    } = report;
    let mut out = String::new();
    let _infallible = if report.is_rejected {
        write!(
            out,
            "rules rejected: {wrong} wrong, {unsupported} unsupported; the {enabled} from before hold on"
        )
    } else {
        write!(
            out,
            "rules loaded: {enabled} hold, {disabled} disabled, {unsupported} unsupported"
        )
    };
    if let Some(error) = &report.error {
        out.push_str("; ");
        visible_prose(error, &mut out);
    }
    out
}

/// Rules, and whether they hold, a line each.
pub fn table(rules: &[(&Rule, bool)], out: &mut Vec<u8>) {
    let width = |of: &dyn Fn(&Rule) -> usize| rules.iter().map(|(rule, _)| of(rule)).max();
    let id = width(&|rule| rule.id.len()).unwrap_or_default();
    let techniques = width(&|rule| techniques(rule).join(",").len()).unwrap_or_default();
    for (rule, is_enabled) in rules {
        let mut line = format!(
            "{:id$}  {:8}  {:8}  {:techniques$}  {}  {}",
            rule.id,
            if *is_enabled { "enabled" } else { "disabled" },
            rule.level.name(),
            self::techniques(rule).join(","),
            rule.data_sources.join(", "),
            place(rule),
        );
        line = line.trim_end().to_owned();
        let mut shown = String::new();
        visible_prose(&line, &mut shown);
        shown.push('\n');
        out.extend_from_slice(shown.as_bytes());
    }
}

/// The same, a JSON object each.
pub fn lines(rules: &[(&Rule, bool)], out: &mut Vec<u8>) {
    for (rule, is_enabled) in rules {
        let value: Json = json!({
            "id": *rule.id,
            "uuid": rule.uuid,
            "name": rule.name,
            "enabled": is_enabled,
            "level": rule.level.name(),
            "techniques": techniques(rule),
            "data_sources": rule.data_sources,
            "version": rule.version,
            "ruleset": rule.ruleset,
            "file": rule.file,
        });
        json::write(&value, out);
        out.push(b'\n');
    }
}

fn techniques(rule: &Rule) -> Vec<&str> {
    let all = rule.techniques.iter();
    all.map(|technique| &*technique.specific().0).collect()
}

/// The file; of a rule of the pack with the pack's name.
fn place(rule: &Rule) -> String {
    if rule.file.starts_with('/') {
        rule.file.clone()
    } else {
        format!("{}: {}", rule.ruleset, rule.file)
    }
}
