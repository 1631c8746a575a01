//! The document of a loss: what was lost, how many, when. It is about no process, so it has a field
//! list of its own; what it shares with other documents has the same names.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::fields::{Docs, ECS_VERSION, Entry, Type};
use super::text::visible_prose;
use super::value::{Value, number, owned, text, words};
use crate::alert::LossReport;

/// One row of the list.
pub(super) struct Field<T: 'static> {
    /// Dotted name.
    pub(super) name: &'static str,
    kind: Type,
    list: bool,
    about: &'static str,
    pub(super) get: for<'a> fn(&'a T) -> Option<Value<'a>>,
}

pub(super) const fn one<T>(
    name: &'static str,
    kind: Type,
    about: &'static str,
    get: for<'a> fn(&'a T) -> Option<Value<'a>>,
) -> Field<T> {
    Field {
        name,
        kind,
        list: false,
        about,
        get,
    }
}

use Type::{Date, Keyword, Long, Text};

/// Every field but those of a reason, in the order of output.
#[rustfmt::skip]
pub(super) static FIELDS: &[Field<LossReport>] = &[
    one("@timestamp", Date, "When the last of it was noticed.", |r| time(r, r.until_boot_ns)),
    one("message", Text, "What was lost, in one sentence.", |r| owned(sentence(r))),
    one("ecs.version", Keyword, "Version of ECS that the names are from.", |_| text(ECS_VERSION)),

    one("event.id", Keyword, "Id of the report; the same when a recording is replayed.", |r| owned(r.id.to_string())),
    one("event.kind", Keyword, "`pipeline_error`.", |_| text("pipeline_error")),
    Field { list: true, ..one("event.type", Keyword, "`error`.", |_| words(vec!["error"])) },
    one("event.action", Keyword, "`loss`, or `blind` where no agent ran in that time and nobody knows what was lost.", |r| text(if r.is_blind { "blind" } else { "loss" })),
    one("event.start", Date, "The first of it was lost after this.", |r| time(r, r.since_boot_ns)),
    one("event.end", Date, "The last of it was noticed at this time.", |r| time(r, r.until_boot_ns)),
    one("event.module", Keyword, "`tracer`.", |_| text("tracer")),
    one("event.provider", Keyword, "`tracer`.", |_| text("tracer")),
    one("event.dataset", Keyword, "`tracer.loss`.", |_| text("tracer.loss")),

    one("host.id", Keyword, "`/etc/machine-id`.", |r| text(&r.host.machine_id)),
    one("host.hostname", Keyword, "Name of the host.", |r| text(&r.host.hostname)),
    one("host.name", Keyword, "The same.", |r| text(&r.host.hostname)),
    one("host.boot.id", Keyword, "Changes with every boot.", |r| text(&r.host.boot_id)),
    one("host.architecture", Keyword, "As `uname -m` says.", |r| text(&r.host.architecture)),
    one("host.os.kernel", Keyword, "As `uname -r` says.", |r| text(&r.host.kernel)),

    one("agent.type", Keyword, "`tracer`.", |_| text("tracer")),
    one("agent.name", Keyword, "Name of the host the agent runs on.", |r| text(&r.host.hostname)),
    one("agent.version", Keyword, "Version of the agent.", |_| text(env!("CARGO_PKG_VERSION"))),
];

/// The name of the list of reasons, which comes last.
pub(super) const REASONS: &str = "tracer.loss";

/// The fields of each reason.
#[rustfmt::skip]
pub(super) static REASON: &[Field<(String, u64)>] = &[
    one("reason", Keyword, "Why, in a word.", |(reason, _)| text(reason)),
    one("count", Long, "How many.", |(_, count)| number(*count)),
];

/// The fields as the reference shows them.
#[must_use]
pub fn catalogue() -> Vec<Entry> {
    let own = FIELDS.iter().map(|f| f.entry(f.name.to_owned()));
    let each = REASON
        .iter()
        .map(|f| f.entry(format!("{REASONS}[].{}", f.name)));
    own.chain(each).collect()
}

/// The fields of documents that are about no process, in markdown.
pub(super) fn others_markdown(out: &mut String) {
    for (title, actions, entries) in [
        ("losses", "`loss`", catalogue()),
        (
            "rules",
            "`rules-loaded` or `rules-rejected`",
            super::rules::catalogue(),
        ),
    ] {
        let _infallible = write!(
            out,
            "\n## Documents of {title}\n\nA document with `event.action` {actions} is about no process and has \
             these fields and no others.\n\n| Field | Type | Meaning |\n|---|---|---|\n"
        );
        for Entry {
            name,
            kind,
            list,
            about,
            ..
        } in entries
        {
            let (kind, list) = (kind.name(), if list { "[]" } else { "" });
            let _infallible = writeln!(out, "| `{name}` | {kind}{list} | {about} |");
        }
    }
}

impl<T> Field<T> {
    /// The same, of several values.
    pub(super) const fn many(mut self) -> Self {
        self.list = true;
        self
    }

    pub(super) fn entry(&self, name: String) -> Entry {
        Entry {
            name,
            kind: self.kind,
            list: self.list,
            docs: Docs::NONE,
            about: self.about,
        }
    }
}

fn time(report: &LossReport, boot_ns: u64) -> Option<Value<'_>> {
    timestamp(report, boot_ns).map(Value::Time)
}

pub(super) fn timestamp(report: &LossReport, boot_ns: u64) -> Option<Timestamp> {
    moment(report.boot_wall_ns, boot_ns)
}

/// A kernel time by the wall clock.
pub(super) fn moment(boot_wall_ns: i128, boot_ns: u64) -> Option<Timestamp> {
    let wall = boot_wall_ns.saturating_add(i128::from(boot_ns));
    Timestamp::from_nanosecond(wall).ok()
}

/// `lost 12: life_ring_full 10, file_quota 2`
#[must_use]
pub fn sentence(report: &LossReport) -> String {
    if report.is_blind {
        let ns = report.until_boot_ns.saturating_sub(report.since_boot_ns);
        return format!("no agent ran for {}", seconds(ns));
    }
    let reasons = report.lost.iter();
    let reasons: Vec<String> = reasons
        .map(|(why, count)| format!("{why} {count}"))
        .collect();
    let mut text = format!("lost {}: ", report.total());
    visible_prose(&reasons.join(", "), &mut text);
    text
}

/// `3.210 s`
pub(super) fn seconds(ns: u64) -> String {
    format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1000)
}
