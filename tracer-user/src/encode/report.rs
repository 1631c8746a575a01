//! What `tracer doctor` found, as JSON.

use serde_json::json as value;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Good,
    /// Worth knowing; nothing to do.
    Note,
    /// Something is lost.
    Bad,
}

impl State {
    /// The word in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Bad => "FAIL",
        }
    }
}

/// One check.
#[derive(Clone, Debug)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What is lost by it.
    pub effect: String,
    /// What to do.
    pub remedy: String,
}

/// Writes the checks as one JSON document.
pub fn json(checks: &[Check], out: &mut Vec<u8>) {
    let checks: Vec<serde_json::Value> = checks
        .iter()
        .map(|Check { name, state, found, effect, remedy }| {
            value!({ "check": name, "state": state.name(), "found": found, "effect": effect, "remedy": remedy })
        })
        .collect();
    let document = value!({ "tracer": env!("CARGO_PKG_VERSION"), "checks": checks });
    out.extend_from_slice(document.to_string().as_bytes());
    out.push(b'\n');
}
