//! Reads what a Rust test binary prints: how many tests passed, failed and were skipped.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

/// Results of a test binary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tests that checked what they are for.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// Tests that said why they could not run, and ignored ones.
    pub(crate) skipped: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self {
            passed,
            failed,
            skipped,
        } = other;
        self.passed = self.passed.saturating_add(passed);
        self.failed = self.failed.saturating_add(failed);
        self.skipped = self.skipped.saturating_add(skipped);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// The counts in the output of a test binary, or `None` if it did not come to its result line.
///
/// libtest knows no test that decides at run time not to run: ours print `SKIPPED name: reason` and
/// return, and libtest takes them for passed. They are moved from the one column to the other. A name
/// of several words is a part of a test, such as one story of many: its test passed all the same, and
/// the part is counted beside it.
pub(crate) fn counts(output: &str) -> Option<Counts> {
    let mut total = None;
    for result in output
        .lines()
        .filter_map(|line| line.strip_prefix("test result: "))
    {
        *total.get_or_insert_with(Counts::default) += result_line(result)?;
    }
    let mut total = total?;
    let skips = skips(output);
    let whole = skips.keys().filter(|name| !name.contains(' ')).count();
    let moved = u64::try_from(whole).ok()?;
    total.passed = total.passed.saturating_sub(moved);
    total.skipped = total
        .skipped
        .saturating_add(u64::try_from(skips.len()).ok()?);
    Some(total)
}

/// `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
fn result_line(line: &str) -> Option<Counts> {
    let (_verdict, parts) = line.split_once(". ")?;
    let number_of = |what: &str| {
        let mut words = parts.split("; ").filter_map(|part| part.split_once(' '));
        words.find(|(_, word)| *word == what)?.0.parse().ok()
    };
    Some(Counts {
        passed: number_of("passed")?,
        failed: number_of("failed")?,
        skipped: number_of("ignored")?,
    })
}

/// The tests and parts of tests that said why they could not run, each once, with the reason.
pub(crate) fn skips(output: &str) -> BTreeMap<&str, &str> {
    let mut skips = BTreeMap::new();
    for (name, reason) in output.lines().filter_map(skipped_test) {
        skips.entry(name).or_insert(reason);
    }
    skips
}

/// What the test binaries in the output printed of their tests that failed: the last lines of it where it is long.
pub(crate) fn failures(output: &str) -> String {
    const LINES: usize = 300;
    let mut failures = Vec::new();
    let mut inside = false;
    for line in output.lines() {
        inside = (inside || line == "failures:") && !line.starts_with("test result: ");
        if inside {
            failures.push(line);
        }
    }
    let from = failures.len().saturating_sub(LINES);
    failures.split_off(from).join("\n")
}

/// How a test that needs the agent begins the reason why it is skipped where there is none; any other
/// reason is something that the test tried and this host does not have.
pub(crate) const NO_AGENT: &str = "no agent: ";

/// Name and reason in a `SKIPPED name: reason` line. With `--nocapture` libtest has begun the line
/// (`test name ... `) when the test prints its own.
fn skipped_test(line: &str) -> Option<(&str, &str)> {
    let said = match line.strip_prefix("test ") {
        Some(begun) => begun.split_once(" ... ")?.1,
        None => line,
    };
    // A test's name may have colons (`module::test`), but none before a blank.
    let (name, reason) = said.strip_prefix("SKIPPED ")?.split_once(": ")?;
    Some((name, reason.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(output: &str, expected: Option<(u64, u64, u64)>) {
        let expected = expected.map(|(passed, failed, skipped)| Counts {
            passed,
            failed,
            skipped,
        });
        assert_eq!(counts(output), expected, "{output}");
    }

    #[test]
    fn result_lines() {
        check(
            "running 3 tests\ntest a ... ok\n\ntest result: ok. 3 passed; 0 failed; 1 ignored; \
             0 measured; 2 filtered out; finished in 0.51s\n",
            Some((3, 0, 1)),
        );
        check(
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; \
             finished in 1.00s",
            Some((1, 2, 0)),
        );
        // Two binaries in one output.
        check(
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
             test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
            Some((5, 0, 0)),
        );
    }

    #[test]
    fn skipped_tests_are_not_passed_ones() {
        // Captured and shown at the end, and shown as it happens; each test counts once.
        check(
            "test a ... SKIPPED a: no BPF here\nok\ntest b ... ok\ntest c ... ok\n\
             SKIPPED c: no LSM: not on the command line\nSKIPPED c: again\n\
             test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
            Some((1, 0, 2)),
        );
        // A part of a test that passed.
        check(
            "test a ... SKIPPED one of many: no node here\nok\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
            Some((1, 0, 1)),
        );
        // A test that talks about skipping has not skipped.
        check(
            "it was SKIPPED a: once\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
            Some((1, 0, 0)),
        );
    }

    #[test]
    fn a_skip_is_told_with_its_first_reason() {
        let skips = skips(
            "SKIPPED a: no LSM: not on the command line\ntest b ... SKIPPED b: not root\n\
             SKIPPED a: again\nSKIPPED part of c: not here\nSKIPPED\n\
             test m::d ... SKIPPED m::d: no x32\nSKIPPED m::e: no x32: here\n",
        );
        let expected = [
            ("a", "no LSM: not on the command line"),
            ("b", "not root"),
            ("m::d", "no x32"),
            ("m::e", "no x32: here"),
            ("part of c", "not here"),
        ];
        assert_eq!(skips, BTreeMap::from(expected));
    }

    #[test]
    fn failures_are_told_and_nothing_else() {
        let output = "running 2 tests\ntest a ... FAILED\n\nfailures:\n\n---- a stdout ----\nwhy\n\n\
                      failures:\n    a\n\ntest result: FAILED. 1 passed\n\nrunning 1 test\n\
                      test result: ok. 1 passed\n";
        assert_eq!(
            failures(output),
            "failures:\n\n---- a stdout ----\nwhy\n\nfailures:\n    a\n"
        );
        assert_eq!(failures("test result: ok. 1 passed\n"), "");
        let long = failures(&format!("failures:\n{}", "line\n".repeat(1000)));
        assert_eq!(long.lines().count(), 300);
    }

    #[test]
    fn a_binary_that_died_has_no_counts() {
        check("", None);
        check("running 2 tests\ntest a ... ok\ntest b ... ", None);
        check("test result: ok. many passed; 0 failed; 0 ignored", None);
    }

    #[test]
    fn counts_read_like_a_summary() {
        let counts = Counts {
            passed: 3,
            failed: 0,
            skipped: 1,
        };
        assert_eq!(counts.to_string(), "3 passed, 0 failed, 1 skipped");
    }
}
