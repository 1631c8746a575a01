//! The alerts raised lately, for who looks at a tree. Bounded: the latest [`ALERTS`], of one process the
//! first [`OF_ONE`], with the beginning of their reasons.

use std::collections::VecDeque;
use std::sync::Arc;

use uuid::Uuid;

use super::view::NAMESPACE;
use crate::detect::Found;
use crate::event::{Event, ProcessKey};
use crate::lineage::tree::Raised;
use crate::rule::Rule;

/// Alerts remembered.
const ALERTS: usize = 1024;

/// Alerts remembered of one process.
const OF_ONE: usize = 16;

/// Bytes of a reason.
const REASON: usize = 512;

/// They, in the order in which they were raised.
#[derive(Default)]
pub(super) struct Latest(VecDeque<Raised>);

impl Latest {
    /// Remembers one.
    pub(super) fn note(&mut self, mut raised: Raised) {
        if self.of(raised.process).count() >= OF_ONE {
            return;
        }
        let end = raised.reason.floor_char_boundary(REASON);
        raised.reason.truncate(end);
        raised.reason.shrink_to_fit();
        if self.0.len() >= ALERTS {
            self.0.pop_front();
        }
        self.0.push_back(raised);
    }

    /// Those of a process.
    pub(super) fn of(&self, process: ProcessKey) -> impl Iterator<Item = &Raised> {
        let is_its = move |raised: &&Raised| raised.process == process;
        self.0.iter().filter(is_its)
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Raised> {
        self.0.iter()
    }
}

/// The id of an alert: of event and rule.
pub(super) fn alert_id(event: Uuid, rule: &Rule) -> Uuid {
    let text = format!("alert|{event}|{}", rule.id);
    Uuid::new_v5(&NAMESPACE, text.as_bytes())
}

/// What a rule found, to remember.
pub(super) fn raised(event: &Event, id: Uuid, found: &Found) -> Raised {
    Raised {
        process: event.meta.subject,
        boot_ns: event.meta.boot_ns,
        id: alert_id(id, &found.rule),
        rule: Arc::clone(&found.rule),
        severity: found.severity,
        reason: found.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Severity;
    use crate::detect::sigma::RuleSet;

    #[test]
    fn a_flood_of_one_process_pushes_nobody_out() {
        let mut latest = Latest::default();
        let key = |tgid| ProcessKey {
            tgid,
            start_ticks: 1,
        };
        let raised = |tgid, reason: &str| Raised {
            process: key(tgid),
            boot_ns: 1,
            id: Uuid::nil(),
            rule: Arc::clone(&RuleSet::pack().rules()[0]),
            severity: Severity::High,
            reason: reason.to_owned(),
        };
        latest.note(raised(1, &"ü".repeat(REASON)));
        for _ in 0..2 * ALERTS {
            latest.note(raised(2, "x"));
        }
        assert_eq!(latest.of(key(2)).count(), OF_ONE);
        let reasons: Vec<usize> = latest.of(key(1)).map(|one| one.reason.len()).collect();
        assert_eq!(reasons, [REASON]);
        for tgid in 3..=u32::try_from(ALERTS).unwrap() {
            latest.note(raised(tgid, "x"));
        }
        assert_eq!(latest.all().count(), ALERTS);
        assert_eq!(latest.of(key(1)).count(), 0, "the oldest goes");
    }
}
