//! What the pipeline tells of its own state in numbers.

use super::Pipeline;

impl Pipeline {
    /// Counts of the stages that have a bound or leave something out, by name.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let store = self.store.stats();
        let mut counts = vec![
            ("processes", self.store.len() as u64),
            ("processes_evicted", store.evicted),
            ("processes_refused", store.refused),
            ("processes_restored", self.restored() as u64),
            ("blind_ms", self.restart.blind_ms()),
            ("processes_healed", self.healed.found),
            ("processes_ended_unseen", self.healed.ended),
            ("processes_unread", self.healed.unread),
            ("records_late", self.order.late()),
            ("alerts_suppressed", self.detector.suppressed()),
            ("alerts_folded", self.incidents.folded()),
            ("rollups", self.incidents.rollups()),
            ("incidents", self.incidents.len() as u64),
            ("incidents_closed_early", self.incidents.closed_early()),
            ("alerts_not_enriched", self.pending.without()),
            ("containers", self.containers.len() as u64),
            ("containers_forgotten", self.containers.forgotten()),
            ("pods", self.containers.pods.len() as u64),
            ("pods_refused", self.containers.pods.refused()),
            ("written_forgotten", self.detector.written_forgotten()),
            ("links_forgotten", self.detector.links_forgotten()),
            ("directories", self.detector.directories().len() as u64),
            (
                "directories_by_identity",
                self.detector.directories().placed() as u64,
            ),
            ("directories_refused", self.detector.directories().refused()),
        ];
        counts.extend(self.detector.exceptions().counts());
        counts
    }
}
