//! How bad a match is: the rule's level, made better or worse by what is known. One table, and the documentation's.

use std::fmt::Write as _;

use tracer_common::tag::Role;

use super::case::{Case, Fact, Facts};
use crate::alert::Severity;

/// What a line does to a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shift {
    AtMost(Severity),
    AtLeast(Severity),
}

/// A line of the table: where all its facts hold, and the role is the nearest server's.
struct Line {
    role: Option<Role>,
    facts: &'static [Fact],
    shift: Shift,
    why: &'static str,
}

use Severity::{Critical, High, Low, Medium};
use Shift::{AtLeast, AtMost};

/// From top to bottom; a later line prevails. They hold for what has to do with a server: of other matches the rule's
/// level stands.
#[rustfmt::skip]
const TABLE: &[Line] = &[
    Line { role: None, facts: &[Fact::Outside, Fact::Maintenance], shift: AtMost(Medium), why: "What a server wrote is run by an interpreter as the same user, outside its lineage: an application's own maintenance looks so." },
    Line { role: None, facts: &[Fact::Outside, Fact::Moved], shift: AtMost(Medium), why: "Somebody else moves what a server wrote: an administrator may well mean it." },
    Line { role: Some(Role::Service), facts: &[Fact::GivenWork], shift: AtMost(Medium), why: "What a program is for that is known by serving only nobody knows." },
    Line { role: Some(Role::Agent), facts: &[Fact::Written], shift: AtMost(Medium), why: "What manages hosts brings programs and runs them." },
    Line { role: Some(Role::Agent), facts: &[Fact::GivenWork], shift: AtMost(Low), why: "What manages hosts runs commands all day." },
    Line { role: Some(Role::Agent), facts: &[Fact::OfSystem], shift: AtMost(Low), why: "What manages hosts writes their settings." },
    Line { role: None, facts: &[Fact::NamesChanged], shift: AtLeast(High), why: "The names changed while the call went on: somebody races the observer." },
    Line { role: None, facts: &[Fact::Fileless], shift: AtLeast(Critical), why: "The program has no file." },
    Line { role: None, facts: &[Fact::RemoteStdio], shift: AtLeast(Critical), why: "Somebody at the other end of a connection types." },
    Line { role: None, facts: &[Fact::GainsRights], shift: AtLeast(Critical), why: "A server wrote it, and it runs with more rights than who runs it." },
];

/// The severity of a match.
pub(super) fn severity(level: Severity, case: &Case<'_>) -> Severity {
    case.role()
        .map_or(level, |role| shifted(level, role, case.facts))
}

/// The severity of a match that uses what an alert was raised for before: a step worse.
pub(crate) const fn of_use(severity: Severity) -> Severity {
    match severity {
        Low => Medium,
        Medium => High,
        High | Critical => Critical,
    }
}

/// What made it that: the lines of the table that hold.
pub(super) fn because(case: &Case<'_>) -> Vec<&'static str> {
    let Some(role) = case.role() else {
        return Vec::new();
    };
    let lines = TABLE.iter().filter(|line| line.holds(role, case.facts));
    lines.map(|line| line.why).collect()
}

impl Line {
    fn holds(&self, role: Role, facts: Facts) -> bool {
        self.role.is_none_or(|of| of == role) && self.facts.iter().all(|fact| facts.has(*fact))
    }
}

fn shifted(level: Severity, role: Role, facts: Facts) -> Severity {
    TABLE
        .iter()
        .filter(|line| line.holds(role, facts))
        .fold(level, |level, line| match line.shift {
            AtMost(most) => level.min(most),
            AtLeast(least) => level.max(least),
        })
}

/// The table in markdown, for the documentation.
#[must_use]
pub fn reference_markdown() -> String {
    let mut out = String::from("| where | severity | because |\n| --- | --- | --- |\n");
    for line in TABLE {
        let role = line
            .role
            .map(|role| format!("the server is of role `{}`", role.name()));
        let facts = line.facts.iter().map(|fact| fact.name().to_owned());
        let holds: Vec<String> = role.into_iter().chain(facts).collect();
        let shift = match line.shift {
            AtMost(most) => format!("at most {}", most.name()),
            AtLeast(least) => format!("at least {}", least.name()),
        };
        let _infallible = writeln!(out, "| {} | {shift} | {} |", holds.join(", "), line.why);
    }
    out.push_str(
        "| it uses what an alert was raised for before | a step worse | Dropped first, then used: `tracer.related` has \
         the alerts. |\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(role: Role, facts: &[Fact]) -> Severity {
        let mut all = Facts::default();
        for fact in facts {
            all.set(*fact, true);
        }
        shifted(High, role, all)
    }

    #[test]
    fn a_later_line_prevails() {
        assert_eq!(of(Role::Web, &[]), High);
        assert_eq!(of(Role::Web, &[Fact::GivenWork]), High);
        assert_eq!(of(Role::Service, &[Fact::GivenWork]), Medium);
        assert_eq!(of(Role::Agent, &[Fact::GivenWork]), Low);
        assert_eq!(of(Role::Agent, &[Fact::Written]), Medium);
        assert_eq!(
            of(Role::Agent, &[Fact::GivenWork, Fact::RemoteStdio]),
            Critical
        );
        assert_eq!(of(Role::App, &[Fact::Maintenance]), High);
        assert_eq!(of(Role::App, &[Fact::Outside, Fact::Maintenance]), Medium);
        assert_eq!(
            of(Role::App, &[Fact::Outside, Fact::Moved, Fact::NamesChanged]),
            High
        );
    }
}
