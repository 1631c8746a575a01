//! Fields of the incident that an alert is part of.

use super::Type::{Date, Keyword, Long};
use super::{ALL, Field, list, one, rows};
use crate::alert::{Incident, Rollup};
use crate::encode::facts::alert;
use crate::encode::scope::Scope;
use crate::encode::value::{number, owned, strings, text, time};

fn incident(scope: Scope<'_>) -> Option<&Incident> {
    let incident = &alert(scope)?.incident;
    (!incident.id.is_nil()).then_some(incident)
}

fn rollup(scope: Scope<'_>) -> Option<&Rollup> {
    incident(scope)?.rollup.as_ref()
}

/// `tracer`: of alerts.
#[rustfmt::skip]
pub(super) static INCIDENT: &[Field] = &[
    one("incident.id", Keyword, ALL, "The incident that the alert is part of: those of one server and what descends from it. The same on replay, and kept over a restart of the agent.", |s| owned(incident(s)?.id.to_string())),
    one("incident.score", Long, ALL, "How bad the incident is with this alert: see docs/incidents.md.", |s| number(incident(s)?.score)),
    one("incident.alerts", Long, ALL, "Its alerts so far, those that were folded included.", |s| number(incident(s)?.alerts)),
    one("incident.first", Date, ALL, "When its first alert was.", |s| time(s, incident(s)?.first_boot_ns)),
    list("incident.tactics", Keyword, ALL, "Tactics of its alerts so far, in the order in which they were seen.", |s| strings(incident(s)?.tactics.iter().map(ToString::to_string))),
    one("incident.rollup.count", Long, ALL, "The document stands for so many alerts that were folded; it shows the first or the worst of them.", |s| number(rollup(s)?.count)),
    one("incident.rollup.first", Date, ALL, "When the first of these was.", |s| time(s, rollup(s)?.first_boot_ns)),
    one("incident.rollup.last", Date, ALL, "When the last was.", |s| time(s, rollup(s)?.last_boot_ns)),
    rows("incident.rollup.rules", ALL, RULES, |s| s.folded().collect()),
    list("incident.rollup.examples", Keyword, ALL, "Reasons of some of them, at most 8.", |s| strings(rollup(s)?.examples.clone())),
    list("related", Keyword, ALL, "Ids of earlier alerts that this one follows from: those about the file that is used now, then the first of the incident.", |s| strings(incident(s)?.related.iter().map(ToString::to_string))),
];

/// `tracer.incident.rollup.rules`
#[rustfmt::skip]
static RULES: &[Field] = &[
    one("id", Keyword, ALL, "Id of a rule whose alerts were folded.", |s| text(&s.folded_rule()?.0)),
    one("count", Long, ALL, "How many.", |s| number(s.folded_rule()?.1)),
];
