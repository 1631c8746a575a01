//! `incidents`: how the alerts of one server are told.

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::check::{Fault, range};

/// Largest number: each of them is remembered for a minute.
const MAX_AT_ONCE: u32 = 4096;

/// `incidents`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileIncidents {
    /// Alerts of one rule and one program or directory that go out at once in a minute, 8 by default, at most 4096;
    /// the others are told together when it is over. 0 for all at once.
    pub at_once: Option<Spanned<u32>>,
}

pub(super) fn check(config: &FileIncidents) -> Result<(), Fault> {
    range("incidents.at_once", config.at_once.as_ref(), 0, MAX_AT_ONCE)
}
