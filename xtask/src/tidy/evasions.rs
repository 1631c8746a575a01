//! `docs/evasions.md` and the generated part of `docs/coverage.md` name tests: each of them exists. Of the first no row
//! goes without.

use super::{File, Violation};

const TABLE: &str = "docs/evasions.md";

/// What the rules of the pack name under `tracer.tests` comes to stand here.
const COVERAGE: &str = "docs/coverage.md";

/// Folders of `tracer-user/tests` whose tests a row may name.
const TARGETS: &[&str] = &["kernel", "pipeline", "e2e"];

/// What the last cell of a row says where there is nothing to test.
const NONE: &str = "nothing to test";

/// Checks that each test in code font (`target::module::test`) and each story in double quotes is in
/// the tests' source, and that each row has a test or says that there is none.
pub(super) fn check(files: &[File]) -> Vec<Violation> {
    let mut violations = rows(files, TABLE, true, |_| true);
    // Above and below what is generated, others may write what they like.
    let mut is_generated = false;
    violations.extend(rows(files, COVERAGE, false, |line| {
        if line.starts_with("<!-- ") {
            is_generated = line.starts_with("<!-- generated ");
        }
        is_generated
    }));
    violations
}

/// Checks the rows of a table, those that are `meant`.
fn rows(
    files: &[File],
    path: &str,
    needs_test: bool,
    mut meant: impl FnMut(&str) -> bool,
) -> Vec<Violation> {
    let table = files.iter().find(|file| file.path == path);
    let text = table.and_then(|file| file.text.as_deref());
    let mut violations = Vec::new();
    let lines = text.unwrap_or_default().lines().enumerate();
    for (index, line) in lines.filter(|(_, line)| meant(line)) {
        let row = line.strip_prefix('|').filter(|row| !is_head(row));
        let Some(row) = row else { continue };
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').collect();
        let shown = cells.last().copied().unwrap_or_default();
        let mut report = |what: String, remedy: &str| {
            violations.push(Violation {
                file: path.to_owned(),
                line: index + 1,
                what,
                remedy: remedy.to_owned(),
            });
        };
        let tests: Vec<&str> = between(shown, '`').collect();
        if needs_test && tests.is_empty() && !shown.contains(NONE) {
            report(
                "a row without a test".to_owned(),
                "name one in code font, or say `nothing to test`",
            );
        }
        for test in tests.iter().filter(|test| !exists(files, test)) {
            report(
                format!("no test `{test}`"),
                "name it as target::module::test, as it is in tracer-user/tests",
            );
        }
        for story in between(shown, '"').filter(|story| !is_told(files, story)) {
            report(
                format!("no story \"{story}\""),
                "name it as the tests' table does",
            );
        }
    }
    violations
}

/// A table's first two lines.
fn is_head(row: &str) -> bool {
    row.contains("shown by") || row.chars().all(|c| "-| :".contains(c))
}

/// What stands between pairs of a mark.
fn between(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.split(mark).skip(1).step_by(2)
}

/// Whether `kernel::race::a_test` is a function of `tracer-user/tests/kernel/race.rs`.
fn exists(files: &[File], test: &str) -> bool {
    let parts: Vec<&str> = test.split("::").collect();
    let [target, module, function] = parts.as_slice() else {
        return false;
    };
    let path = format!("tracer-user/tests/{target}/{module}.rs");
    let declared = format!("fn {function}(");
    TARGETS.contains(target)
        && files.iter().any(|file| {
            let text = file.text.as_deref().unwrap_or_default();
            file.path == path && text.contains(&declared)
        })
}

/// Whether a test has a story of that name.
fn is_told(files: &[File], story: &str) -> bool {
    let literal = format!("\"{story}\"");
    files.iter().any(|file| {
        let text = file.text.as_deref().unwrap_or_default();
        file.path.starts_with("tracer-user/tests/") && text.contains(&literal)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_row_names_is_there() {
        let file = |path: &str, text: &str| File {
            path: path.into(),
            text: Some(text.into()),
        };
        #[rustfmt::skip]
        let rows: &[(&str, &[&str])] = &[
            ("| a | `kernel::race::there` |", &[]),
            ("| a | `kernel::race::there`, \"a story\" |", &[]),
            ("| a | nothing to test |", &[]),
            ("| attack | shown by |\n|---|---|", &[]),
            ("no row: `kernel::race::missing`", &[]),
            ("| a | `kernel::race::missing` |", &["no test `kernel::race::missing`"]),
            ("| a | `kernel::race::ther` |", &["no test `kernel::race::ther`"]),
            ("| a | `pipeline::race::there` |", &["no test `pipeline::race::there`"]),
            ("| a | `race::there` |", &["no test `race::there`"]),
            ("| a | `kernel::race::there`, \"another\" |", &["no story \"another\""]),
            ("| a | seen |", &["a row without a test"]),
        ];
        for (row, expected) in rows {
            let files = [
                file(TABLE, row),
                file("tracer-user/tests/kernel/race.rs", "fn there(stage) {}"),
                file("tracer-user/tests/e2e/x.rs", "name: \"a story\","),
            ];
            let found: Vec<String> = check(&files).into_iter().map(|found| found.what).collect();
            assert_eq!(found, *expected, "{row}");
        }
    }

    #[test]
    fn what_rules_name_is_there() {
        let text = "| a | `kernel::race::before` |\n<!-- generated by x -->\n| a | samples alone |\n\
                    | a | `kernel::race::missing` |\n<!-- end of the generated part -->\n| a | `no_test` |\n";
        let files = [File {
            path: COVERAGE.into(),
            text: Some(text.into()),
        }];
        let found: Vec<(usize, String)> = check(&files)
            .into_iter()
            .map(|found| (found.line, found.what))
            .collect();
        assert_eq!(found, [(4, "no test `kernel::race::missing`".to_owned())]);
    }
}
