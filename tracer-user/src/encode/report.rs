//! What `tracer doctor` found, as JSON.

use serde_json::json as value;

/// How a check came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    #[default]
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
#[derive(Clone, Debug, Default)]
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
    /// Where it is about a probe.
    pub probe: Option<ProbeFacts>,
}

/// What is known of a probe beside its state.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProbeFacts {
    /// Its tier, or `every`.
    pub tier: &'static str,
    /// What it is attached to.
    pub hook: Option<&'static str>,
    /// Instructions that the verifier went through.
    pub verified_insns: Option<u32>,
    /// How often it ran and how many nanoseconds that took, where the kernel counts.
    pub cost: Option<(u64, u64)>,
}

/// Writes the checks as one JSON document. What is not known of a probe is left out.
pub fn json(checks: &[Check], out: &mut Vec<u8>) {
    let checks: Vec<serde_json::Value> = checks
        .iter()
        .map(|check| {
            let Check {
                name,
                state,
                found,
                effect,
                remedy,
                probe,
            } = check;
            let mut document = value!({
                "check": name, "state": state.name(), "found": found, "effect": effect, "remedy": remedy,
            });
            let Some(probe) = probe else { return document };
            let mut add = |key: &str, value: serde_json::Value| {
                if let (Some(map), false) = (document.as_object_mut(), value.is_null()) {
                    map.insert(key.to_owned(), value);
                }
            };
            add("tier", probe.tier.into());
            add("hook", probe.hook.into());
            add("verified_insns", probe.verified_insns.into());
            add("run_count", probe.cost.map(|(runs, _)| runs).into());
            add("run_time_ns", probe.cost.map(|(_, time)| time).into());
            document
        })
        .collect();
    let document = value!({ "tracer": env!("CARGO_PKG_VERSION"), "checks": checks });
    out.extend_from_slice(document.to_string().as_bytes());
    out.push(b'\n');
}
