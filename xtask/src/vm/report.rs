//! What trials brought: as lines for people, as a table for documents, as figures to compare.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::bail;

use super::smoke::Smoke;
use super::trial::{Part, Tier, Trial};
use super::variants::STOCK;
use crate::libtest::Counts;
use crate::verifier::{Figures, Key};

/// Results by trial.
#[derive(Debug)]
pub(crate) struct VmReport {
    /// In the order in which they ran.
    pub(super) rows: Vec<Row>,
}

/// What one trial brought.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) trial: Trial,
    /// What `uname -r` said; `None` if the boot did not go through.
    pub(super) release: Option<String>,
    /// The boot, for people.
    pub(super) boot: Option<String>,
    pub(super) took: Option<Duration>,
    pub(super) verdict: Verdict,
}

/// How a trial is judged.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Tests, or one for a smoke test.
    pub(super) counts: Counts,
    /// What there is to say where it passed.
    pub(super) note: String,
    /// Why it did not pass; set whenever a test failed.
    pub(super) failure: Option<String>,
    /// Instructions that the verifier looked at, by program.
    pub(super) verified: BTreeMap<String, u64>,
    /// Probes that are attached, and those whose hook the kernel does not have.
    pub(super) attached: Vec<String>,
    pub(super) absent: Vec<String>,
}

impl Verdict {
    /// A smoke test that passed.
    pub(super) fn of_smoke(smoke: Smoke) -> Self {
        let Smoke {
            refused,
            alerts,
            left_out,
            attached,
            absent,
            verified,
        } = smoke;
        let mut parts = Vec::new();
        if let Some(said) = refused {
            // The reason; what to do about it follows.
            let reason = said.split("; ").next().unwrap_or_default();
            parts.push(format!("refused: {reason}"));
        }
        if !alerts.is_empty() {
            parts.push(format!("{} probes", attached.len()));
            if !absent.is_empty() {
                parts.push(format!("no hook for {}", absent.join(", ")));
            }
            parts.push(format!("alerts {}", alerts.join(", ")));
            if !left_out.is_empty() {
                let told = left_out
                    .iter()
                    .map(|(word, count)| format!("{word} {count}"));
                let told: Vec<_> = told.collect();
                parts.push(format!("left out by the kernel: {}", told.join(", ")));
            }
        }
        Self {
            counts: Counts {
                passed: 1,
                ..Counts::default()
            },
            note: parts.join("; "),
            failure: None,
            verified,
            attached,
            absent,
        }
    }
}

impl VmReport {
    /// Results of all trials together.
    pub(crate) fn counts(&self) -> Counts {
        let mut total = Counts::default();
        for row in &self.rows {
            total += row.verdict.counts;
        }
        total
    }

    /// An error that names the trials that did not pass.
    pub(crate) fn verdict(&self) -> anyhow::Result<()> {
        let failed: Vec<_> = self
            .rows
            .iter()
            .filter(|row| row.verdict.failure.is_some())
            .map(Row::name)
            .collect();
        if !failed.is_empty() {
            bail!("kernels that did not pass: {}", failed.join("; "));
        }
        Ok(())
    }

    /// What the verifier counted, of trials that passed on the plain kernel.
    pub(super) fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        for Row { trial, verdict, .. } in &self.rows {
            if trial.variant != STOCK || verdict.failure.is_some() {
                continue;
            }
            for (program, count) in &verdict.verified {
                let key = Key {
                    program: program.clone(),
                    tier: trial.tier.unwrap_or(Tier::Auto).name().to_owned(),
                    kernel: trial.kernel.name.to_owned(),
                };
                figures.insert(key, *count);
            }
        }
        figures
    }

    /// Probes that were attached on no kernel, though several were asked: their hooks may be misnamed.
    pub(super) fn nowhere(&self) -> BTreeSet<&str> {
        let smokes = || {
            self.rows
                .iter()
                .filter(|row| !row.verdict.attached.is_empty())
        };
        let kernels: BTreeSet<_> = smokes().map(|row| row.trial.kernel.name).collect();
        if kernels.len() < 2 {
            return BTreeSet::new();
        }
        let attached: BTreeSet<_> = smokes().flat_map(|row| &row.verdict.attached).collect();
        smokes()
            .flat_map(|row| &row.verdict.absent)
            .filter(|probe| !attached.contains(probe))
            .map(String::as_str)
            .collect()
    }

    /// The table, in Markdown.
    pub(super) fn table(&self) -> String {
        let mut table = "| kernel | release | variant | tier | what | result | seconds |\n\
                         | --- | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
        for row in &self.rows {
            let Row {
                trial,
                release,
                took,
                verdict,
                ..
            } = row;
            let result = match &verdict.failure {
                Some(failure) => format!("**failed**: {failure}"),
                None => format!("passed: {}", verdict.note),
            };
            let took = took.map_or_else(String::new, |took| format!("{:.0}", took.as_secs_f32()));
            let cells = [
                trial.kernel.name,
                release.as_deref().unwrap_or_default(),
                trial.variant.name,
                trial.tier.map_or("", Tier::name),
                part(trial.part),
                &result,
                &took,
            ];
            for cell in cells {
                table.push_str(&format!("| {} ", in_cell(cell)));
            }
            table.push_str("|\n");
        }
        table
    }
}

/// A table with the rows of another in the place of those of the same trials; what is new comes last.
pub(super) fn renewed(old: &str, new: &str) -> String {
    // Of which kernel, variant and tier, and what was done.
    let trial = |row: &str| -> Vec<String> {
        let cells: Vec<_> = row.split(" | ").collect();
        let named =
            [0, 2, 3, 4].map(|at| cells.get(at).copied().unwrap_or_default().trim().to_owned());
        named.into()
    };
    const HEAD: usize = 2;
    let mut fresh: Vec<_> = new.lines().skip(HEAD).collect();
    let mut table: Vec<_> = new.lines().take(HEAD).collect();
    for row in old.lines().skip(HEAD) {
        let same = fresh.iter().position(|new| trial(new) == trial(row));
        table.push(same.map_or(row, |at| fresh.remove(at)));
    }
    table.extend(fresh);
    table.join("\n")
}

/// A text on one line, without what ends a cell.
fn in_cell(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.replace('|', "\\|")
}

fn part(part: Part) -> &'static str {
    match part {
        Part::Tests => "kernel tests",
        Part::Smoke => "smoke",
    }
}

impl Row {
    fn name(&self) -> String {
        let Trial {
            kernel,
            variant,
            tier,
            part: asked,
        } = &self.trial;
        let tier = tier.map_or_else(String::new, |tier| format!(", tier {}", tier.name()));
        format!(
            "kernel {}{}{tier}, {}",
            kernel.name,
            variant.label().trim_end_matches(','),
            part(*asked)
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { note, failure, .. } = &self.verdict;
        write!(f, "{}: ", self.name())?;
        f.write_str(match failure {
            Some(_) => "FAILED",
            None => "passed",
        })?;
        if !note.is_empty() {
            write!(f, ", {note}")?;
        }
        if let Some(boot) = &self.boot {
            write!(f, " ({boot})")?;
        }
        if let Some(failure) = failure {
            write!(f, "\n  FAILED: {failure}")?;
        }
        Ok(())
    }
}

impl fmt::Display for VmReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        write!(f, "{}", self.counts())
    }
}
