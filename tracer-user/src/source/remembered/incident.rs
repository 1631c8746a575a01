//! An incident, as an agent leaves it to the next one. Refuses to hold alerts: those went out.

use uuid::Uuid;

use super::{Fields, key, list, put_count, put_key, put_text, put_u64, u64};
use crate::event::ProcessKey;

/// An incident that was open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastIncident {
    /// The process that the server began with.
    pub server: ProcessKey,
    /// Its id.
    pub id: Uuid,
    /// Id of its first alert.
    pub first_alert: Uuid,
    /// When that was, nanoseconds since boot.
    pub first_boot_ns: u64,
    /// When its latest was.
    pub last_boot_ns: u64,
    /// Its score.
    pub score: u64,
    /// Its alerts, those that were folded included.
    pub alerts: u64,
    /// Names of the tactics seen.
    pub tactics: Vec<std::sync::Arc<str>>,
    /// Names of what its alerts are about, each with the latest of these.
    pub used: Vec<(Uuid, Uuid)>,
}

pub(super) fn put_incident(payload: &mut Vec<u8>, past: &PastIncident) {
    let PastIncident {
        server,
        id,
        first_alert,
        first_boot_ns,
        last_boot_ns,
        score,
        alerts,
        tactics,
        used,
    } = past;
    put_key(payload, *server);
    payload.extend_from_slice(id.as_bytes());
    payload.extend_from_slice(first_alert.as_bytes());
    for number in [*first_boot_ns, *last_boot_ns, *score, *alerts] {
        put_u64(payload, number);
    }
    put_count(payload, tactics.len());
    for tactic in tactics {
        put_text(payload, tactic.as_bytes());
    }
    put_count(payload, used.len());
    for (about, alert) in used {
        payload.extend_from_slice(about.as_bytes());
        payload.extend_from_slice(alert.as_bytes());
    }
}

pub(super) fn incident(rest: &mut Fields<'_>) -> Result<PastIncident, &'static str> {
    Ok(PastIncident {
        server: key(rest)?,
        id: uuid(rest)?,
        first_alert: uuid(rest)?,
        first_boot_ns: u64(rest)?,
        last_boot_ns: u64(rest)?,
        score: u64(rest)?,
        alerts: u64(rest)?,
        tactics: list(rest, |rest| rest.string().map(Into::into))?,
        used: list(rest, |rest| Ok((uuid(rest)?, uuid(rest)?)))?,
    })
}

fn uuid(rest: &mut Fields<'_>) -> Result<Uuid, &'static str> {
    rest.array().map(Uuid::from_bytes)
}
