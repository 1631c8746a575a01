//! What a run came to, as it is said at its end.

use crate::pipeline::Totals;

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The pipeline's totals.
    pub totals: Totals,
    /// Losses and counts by name, those above zero.
    pub counts: Vec<(String, u64)>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Totals {
            events,
            undecodable,
            alerts,
            lost,
        } = self.totals;
        write!(f, "{events} events seen, {lost} lost, {alerts} alerts")?;
        if undecodable > 0 {
            write!(f, ", {undecodable} records not understood")?;
        }
        for (name, count) in &self.counts {
            write!(f, ", {name} {count}")?;
        }
        Ok(())
    }
}
