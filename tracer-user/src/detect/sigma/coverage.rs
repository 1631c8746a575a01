//! What the rules of the pack cover: techniques and data sources of ATT&CK, and what shows it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::samples::{self, Tested};
use super::{RuleError, Source};

/// The rules of these files by technique and by data source, in markdown; and what is wrong with any.
#[must_use]
pub fn markdown(sources: &[Source]) -> (String, Vec<RuleError>) {
    let (tested, errors) = samples::test(sources);
    let mut by_technique: BTreeMap<String, Vec<&Tested>> = BTreeMap::new();
    let mut by_source: BTreeMap<String, Vec<&Tested>> = BTreeMap::new();
    for one in &tested {
        for technique in &one.rule.techniques {
            let (id, name) = technique.specific();
            let rules = by_technique.entry(format!("{id} {name}")).or_default();
            rules.push(one);
        }
        for source in &one.rule.data_sources {
            by_source.entry(source.clone()).or_default().push(one);
        }
    }
    let mut out = String::from("## Techniques\n\n");
    table("technique", &by_technique, &mut out);
    out.push_str("\n## Data sources\n\n");
    table("data source", &by_source, &mut out);
    (out, errors)
}

fn table(of: &str, rows: &BTreeMap<String, Vec<&Tested>>, out: &mut String) {
    let _infallible = writeln!(
        out,
        "| {of} | rules | samples that match | samples that pass | shown by |\n| --- | --- | --- | --- | --- |"
    );
    for (name, rules) in rows {
        let ids: Vec<String> = rules
            .iter()
            .map(|one| format!("`{}`", one.rule.id))
            .collect();
        let sum = |of: fn(&Tested) -> usize| rules.iter().map(|one| of(one)).sum::<usize>();
        let mut tests: Vec<String> = Vec::new();
        for test in rules.iter().flat_map(|one| &one.tests) {
            let shown = shown(test);
            if !tests.contains(&shown) {
                tests.push(shown);
            }
        }
        let tests = match &tests[..] {
            [] => "samples alone".to_owned(),
            tests => tests.join(", "),
        };
        let _infallible = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            name.replace('|', "\\|"),
            ids.join(", "),
            sum(|one| one.matching),
            sum(|one| one.passing),
            tests
        );
    }
}

/// A test is named as a function, and a story of such a test by its words.
fn shown(test: &str) -> String {
    if test.contains("::") && !test.contains(' ') {
        format!("`{test}`")
    } else {
        format!("\"{test}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_in_the_row_of_each_of_its_techniques_and_sources() {
        let rule = |name: &str, tests: &str| {
            let text = format!(
                "title: {name}\nname: {name}\nlogsource: {{product: linux, category: process_creation}}\ndetection:\n  \
                 s: {{Image: /a}}\n  condition: s\ntags: [attack.t1033, attack.t1105]\ntracer:\n  data_sources: \
                 [Process Creation]\n  tests: [{tests}]\n  samples:\n    match: [{{Image: /a}}]\n    pass: [{{Image: \
                 /b}}, {{Image: /c}}]\n"
            );
            Source::new("x", format!("{name}.yml"), &text)
        };
        let (text, errors) = markdown(&[
            rule("one", "a story, kernel::fork::vfork"),
            rule("two", "a story"),
        ]);
        assert_eq!(errors, []);
        let rest = "`one`, `two` | 2 | 4 | \"a story\", `kernel::fork::vfork` |";
        for row in [
            "T1033 System Owner/User Discovery",
            "T1105 Ingress Tool Transfer",
            "Process Creation",
        ] {
            assert!(text.contains(&format!("\n| {row} | {rest}\n")), "{text}");
        }
    }
}
