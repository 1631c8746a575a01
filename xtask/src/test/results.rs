//! Counting tests from what the test runner prints.
//!
//! Rust's runner prints one result line per test program. It knows no test that finds out while
//! running that it cannot run: such a test prints `SKIPPED <test>: <reason>` and returns, and is
//! counted here as skipped, not as passed.

use std::ops::AddAssign;

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that ran and held.
    pub(crate) passed: u64,
    /// Tests that ran and did not.
    pub(crate) failed: u64,
    /// Tests that could not run, or were not asked to.
    pub(crate) skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        let Tally {
            passed,
            failed,
            skipped,
        } = other;
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
    }
}

/// What the lines read so far tell.
#[derive(Debug, Default)]
pub(super) struct Results {
    counted: Tally,
    /// `<test>: <reason>` of each test that skipped itself.
    skips: Vec<String>,
}

impl Results {
    /// Reads one line of the runner's output.
    pub(super) fn line(&mut self, line: &str) {
        if let Some(tally) = parse_result(line) {
            self.counted += tally;
        } else if let Some(skip) = parse_skip(line) {
            // A captured line is shown once by the runner, and once more by a test that fails.
            if !self.skips.iter().any(|known| known == skip) {
                self.skips.push(skip.to_owned());
            }
        }
    }

    /// Takes in what another run told.
    pub(super) fn add(&mut self, other: Results) {
        let Results { counted, skips } = other;
        self.counted += counted;
        self.skips.extend(skips);
    }

    /// The sums: a test that skipped itself was counted as passed by the runner.
    pub(super) fn tally(&self) -> Tally {
        let itself = u64::try_from(self.skips.len()).unwrap_or(u64::MAX);
        Tally {
            passed: self.counted.passed.saturating_sub(itself),
            failed: self.counted.failed,
            skipped: self.counted.skipped.saturating_add(itself),
        }
    }

    /// The tests that skipped themselves, with their reasons.
    pub(super) fn skips(&self) -> &[String] {
        &self.skips
    }
}

/// `test result: ok. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.1s`
fn parse_result(line: &str) -> Option<Tally> {
    let (_, counts) = line
        .trim()
        .strip_prefix("test result: ")?
        .split_once(". ")?;
    let count = |label: &str| {
        let part = counts
            .split(';')
            .map(str::trim)
            .find_map(|part| part.strip_suffix(label))?;
        part.trim().parse().ok()
    };
    Some(Tally {
        passed: count("passed")?,
        failed: count("failed")?,
        skipped: count("ignored")?,
    })
}

/// `SKIPPED <test>: <reason>`, also behind `test <name> ... ` where output is not captured.
fn parse_skip(line: &str) -> Option<&str> {
    let line = line.trim();
    let skip = match line.split_once(" ... SKIPPED ") {
        Some((test, skip)) if test.starts_with("test ") => skip,
        _ => line.strip_prefix("SKIPPED ")?,
    };
    let (test, reason) = skip.split_once(": ")?;
    (!test.contains(' ') && !reason.is_empty()).then_some(skip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(output: &str) -> Results {
        let mut results = Results::default();
        output.lines().for_each(|line| results.line(line));
        results
    }

    #[test]
    fn result_lines_of_several_programs_add_up() {
        let results = read(
            "running 3 tests\n\
             test a ... ok\n\
             test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             \n\
             test result: FAILED. 4 passed; 2 failed; 1 ignored; 0 measured; 7 filtered out; finished in 1.20s\n",
        );
        assert_eq!(
            results.tally(),
            Tally {
                passed: 7,
                failed: 2,
                skipped: 1
            }
        );
    }

    #[test]
    fn a_test_that_skips_itself_is_not_a_pass() {
        let results = read(
            "---- fork stdout ----\n\
             SKIPPED fork: not root\n\
             SKIPPED fork: not root\n\
             test exec ... SKIPPED exec: no BTF: pass --btf\n\
             test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
        );
        assert_eq!(
            results.tally(),
            Tally {
                passed: 1,
                failed: 0,
                skipped: 2
            }
        );
        assert_eq!(
            results.skips(),
            ["fork: not root", "exec: no BTF: pass --btf"]
        );
    }

    #[test]
    fn other_lines_count_nothing() {
        let results = read(
            "test result\n\
             test result: ok\n\
             test result: ok. some passed; 0 failed; 0 ignored\n\
             SKIPPED\n\
             SKIPPED because of rain: wet\n\
             we SKIPPED it: x\n",
        );
        assert_eq!(results.tally(), Tally::default());
        assert!(results.skips().is_empty());
    }
}
