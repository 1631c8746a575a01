//! Rules as analysts read them. What each matches is in `detect`.

pub mod attack;

use std::sync::Arc;

use crate::alert::Severity;

/// What a rule is about and where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable id: the rule's `name`, else its Sigma `id`, else its title in lower case with dashes.
    pub id: Arc<str>,
    /// The Sigma `id`, a UUID.
    pub uuid: Option<String>,
    /// One line, as an analyst reads it.
    pub name: String,
    /// What it means and why.
    pub description: String,
    /// `event.action` of its alerts.
    pub action: String,
    /// Raised when what it matches changes: `tracer.version`, else the date of the last change.
    pub version: String,
    /// How bad a match is where no fact makes it better or worse.
    pub level: Severity,
    /// What it maps to, most specific first.
    pub techniques: Vec<Technique>,
    /// ATT&CK data sources that it is fed by.
    pub data_sources: Vec<String>,
    /// Where more is said.
    pub references: Vec<String>,
    /// Known benign causes.
    pub false_positives: Vec<String>,
    /// The set it came with: `tracer`, or the directory it was read from.
    pub ruleset: String,
    /// The file it was read from, below that.
    pub file: String,
}

/// An ATT&CK technique with the tactic it serves here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Technique {
    /// Tactic id and name; `None` where the rule names none.
    pub tactic: Option<Entry>,
    /// Technique id and name.
    pub technique: Entry,
    /// Sub-technique id and name.
    pub subtechnique: Option<Entry>,
}

/// An entry of ATT&CK: id and name. Where the name is not known it is the id.
pub type Entry = (Arc<str>, Arc<str>);

impl Technique {
    /// The most specific of its entries.
    #[must_use]
    pub fn specific(&self) -> &Entry {
        self.subtechnique.as_ref().unwrap_or(&self.technique)
    }
}
