//! The rules that hold: taken whole, or left as they were. What the detector remembers stays.

use std::sync::Arc;

use uuid::Uuid;

use super::Pipeline;
use super::view::NAMESPACE;
use crate::alert::RulesReport;
use crate::detect::sigma::Chosen;
use crate::source::RulesRejected;

impl Pipeline {
    /// The reports of changes of the rules since last asked.
    pub fn take_rule_reports(&mut self) -> Vec<RulesReport> {
        std::mem::take(&mut self.rule_reports)
    }

    pub(super) fn choose(&mut self, boot_ns: u64, chosen: &Chosen) {
        self.detector.set_rules(Arc::clone(chosen.set()));
        let report = RulesReport {
            unsupported: chosen.unsupported() as u64,
            wrong: chosen.wrong().len() as u64,
            error: chosen.wrong().first().map(ToString::to_string),
            ..self.rules_report(boot_ns, "loaded")
        };
        self.rule_reports.push(report);
    }

    pub(super) fn reject(&mut self, rejected: RulesRejected) {
        let RulesRejected {
            boot_ns,
            wrong,
            unsupported,
            error,
        } = rejected;
        let report = RulesReport {
            is_rejected: true,
            unsupported,
            wrong,
            error: Some(error),
            ..self.rules_report(boot_ns, "rejected")
        };
        self.rule_reports.push(report);
    }

    fn rules_report(&self, boot_ns: u64, what: &str) -> RulesReport {
        let text = format!("rules|{what}|{}|{boot_ns}", self.host.boot_id);
        let rules = self.detector.rules();
        RulesReport {
            id: Uuid::new_v5(&NAMESPACE, text.as_bytes()),
            boot_ns,
            boot_wall_ns: self.boot_wall_ns,
            is_rejected: false,
            enabled: rules.rules().len() as u64,
            disabled: rules.disabled().len() as u64,
            unsupported: 0,
            wrong: 0,
            error: None,
            host: Arc::clone(&self.host),
        }
    }
}
