//! One boot with one question: do the kernel tests pass there, or does the agent catch an attack?
//!
//! A trial is planned as data, so that a matrix is a list of them, and each has a guest of its own: a
//! kernel that one trial broke does not fail the next.

use super::guest::Order;
use super::kernels::Kernel;
use super::lab::{Boot, Lab, Medium, Programs};
use super::report::{Row, Verdict};
use super::smoke;
use super::variants::{STOCK, Variant};
use crate::libtest::{self, Counts};

/// The programs of the agent that are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tier {
    /// Those that this kernel takes, as the agent does without a word on it.
    Auto,
    /// LSM and fentry hooks.
    Lsm,
    /// Tracepoints only.
    Tracepoint,
}

impl Tier {
    /// The tiers that a kernel is tested with.
    pub(crate) const EACH: [Self; 2] = [Self::Lsm, Self::Tracepoint];

    /// As the agent calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Lsm => "lsm",
            Self::Tracepoint => "tracepoint",
        }
    }
}

/// What is asked of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The kernel tests.
    Tests,
    /// The smoke test.
    Smoke,
}

/// A boot that is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    pub(super) kernel: &'static Kernel,
    pub(super) variant: &'static Variant,
    /// The tier that the agent is told to load; `None`: it is told nothing.
    pub(super) tier: Option<Tier>,
    pub(super) part: Part,
}

/// Every trial of these kernels and variants. The kernel tests are for the plain kernel: a variant
/// changes whether the agent works, not what its hooks see.
pub(super) fn matrix(
    kernels: &[&'static Kernel],
    variants: &[&'static Variant],
    tiers: &[Option<Tier>],
) -> Vec<Trial> {
    let mut trials = Vec::new();
    for kernel in kernels {
        for variant in variants {
            // A refusal is the same whatever is asked for.
            let tiers = match variant.works_with {
                Some(_) => tiers,
                None => &[None],
            };
            for part in [Part::Smoke, Part::Tests] {
                if part == Part::Tests && *variant != STOCK {
                    continue;
                }
                for tier in tiers {
                    trials.push(Trial {
                        kernel,
                        variant,
                        tier: *tier,
                        part,
                    });
                }
            }
        }
    }
    trials
}

impl Trial {
    /// Boots and judges. Whatever goes wrong is in the row.
    pub(super) fn run(&self, lab: &Lab, programs: &Programs) -> Row {
        let outcome = match self.part {
            Part::Tests => self.tests(lab, programs),
            Part::Smoke => self.smoke(lab, programs),
        };
        let (boot, verdict) = outcome.unwrap_or_else(|error| {
            let failed = Verdict {
                counts: Counts {
                    failed: 1,
                    ..Counts::default()
                },
                failure: Some(format!("{error:#}")),
                ..Verdict::default()
            };
            (None, failed)
        });
        Row {
            trial: *self,
            release: boot.as_ref().map(|boot| boot.release().to_owned()),
            boot: boot.as_ref().map(Boot::to_string),
            took: boot.map(|boot| boot.took),
            verdict,
        }
    }

    fn tests(&self, lab: &Lab, programs: &Programs) -> anyhow::Result<(Option<Boot>, Verdict)> {
        let files = [&programs.agent].into_iter().chain(&programs.tests);
        let boot = lab.boot_variant(
            self.kernel,
            self.variant,
            Medium::Initramfs,
            files,
            &test_orders(self.tier),
        )?;
        let verdict = judge_tests(&boot);
        Ok((Some(boot), verdict))
    }

    fn smoke(&self, lab: &Lab, programs: &Programs) -> anyhow::Result<(Option<Boot>, Verdict)> {
        let mut files = Vec::new();
        if let Some(site) = &programs.site {
            files = smoke::files(site, self.variant, self.tier)?;
        }
        let boot = lab.boot_variant(
            self.kernel,
            self.variant,
            Medium::Disk,
            files.iter().chain([&programs.agent]),
            &smoke::orders(self.variant, self.tier),
        )?;
        let verdict = match smoke::judge(self.variant, self.tier, boot.outcomes()) {
            Ok(smoke) => Verdict::of_smoke(smoke),
            Err(error) => Verdict {
                counts: Counts {
                    failed: 1,
                    ..Counts::default()
                },
                failure: Some(format!("{error:#}")),
                ..Verdict::default()
            },
        };
        Ok((Some(boot), verdict))
    }
}

/// Processes that the test of numbers used again makes in a guest: emulated, each takes some ten milliseconds.
pub(super) const FORKS: &str = "TRACER_FORKS=4000";

fn test_orders(tier: Option<Tier>) -> [Order; 2] {
    let (flag, variable) = match tier {
        Some(tier) => (
            format!(" --tier {}", tier.name()),
            format!(" TRACER_TIER={}", tier.name()),
        ),
        None => Default::default(),
    };
    [
        Order::run(&format!("tracer doctor{flag}")),
        // Uncaptured, so that a hang shows where it is, and one by one, because each test watches
        // the whole system.
        Order::run(&format!(
            "env {FORKS}{variable} kernel-tests --test-threads=1 --nocapture"
        )),
    ]
}

/// Whether a test boot passed: the doctor may have findings (that is its job on an old kernel), the
/// tests may not fail.
pub(super) fn judge_tests(boot: &Boot) -> Verdict {
    let mut commands = boot.outcomes().iter();
    let doctor = commands.next().map(|outcome| outcome.status);
    let tests = commands.next();
    let counts = tests.and_then(|outcome| libtest::counts(&outcome.output));
    let status = tests.map_or(0, |outcome| outcome.status);
    let failure = match counts {
        None => Some(format!(
            "the tests broke off without a result (status {status})"
        )),
        Some(counts) if counts.failed > 0 => Some(format!("{} tests failed", counts.failed)),
        Some(_) if status != 0 => Some(format!("the tests ended with status {status}")),
        Some(counts) if counts.passed == 0 => Some("no test ran".to_owned()),
        Some(_) if !matches!(doctor, Some(0 | 1)) => Some(format!(
            "`tracer doctor` ended with status {}",
            doctor.unwrap_or_default()
        )),
        Some(_) => None,
    };
    let mut counts = counts.unwrap_or_default();
    if failure.is_some() {
        // One that did not get as far as a failed test is one.
        counts.failed = counts.failed.max(1);
    }
    Verdict {
        note: counts.to_string(),
        counts,
        failure,
        ..Verdict::default()
    }
}
