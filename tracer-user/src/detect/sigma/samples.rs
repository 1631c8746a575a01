//! A rule against its own samples: events that it has to match, and events that it has to pass over.
//!
//! Each sample is a flat map of fields, and is judged by the rule alone, through the same [`RuleSet`] as events are.
//! Refuses to call a rule tested that has not at least one sample of each kind: what never had to match says nothing by
//! not matching, and the other way round. A field that no such event has is an error, as it would be in the rule.

use std::sync::Arc;

use rsigma_eval::JsonEvent;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::load::{self, Loaded};
use super::{RuleError, RuleSet, Source};
use crate::detect::case::fields;
use crate::rule::Rule;

/// The samples of a rule, under `tracer.samples`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Samples {
    /// Events that it matches.
    #[serde(rename = "match")]
    matching: Vec<Map<String, Value>>,
    /// Events that it does not.
    #[serde(rename = "pass")]
    passing: Vec<Map<String, Value>>,
}

impl Samples {
    /// How many must match, and how many must not.
    pub(super) const fn counts(&self) -> (usize, usize) {
        (self.matching.len(), self.passing.len())
    }
}

/// What came of a rule's samples.
#[derive(Clone, Debug)]
pub struct Tested {
    /// The rule.
    pub rule: Arc<Rule>,
    /// Samples that have to match.
    pub matching: usize,
    /// Samples that must not.
    pub passing: usize,
    /// Tests that show it against real events, as the rule names them: `e2e::main::...`, or `pipeline::...`.
    pub tests: Vec<String>,
    /// What is wrong; empty where all is as the samples say.
    pub failures: Vec<RuleError>,
}

/// Judges the samples of every rule of these files. Rules that cannot be loaded are told as they are by
/// [`RuleSet::load`].
#[must_use]
pub fn test(sources: &[Source]) -> (Vec<Tested>, Vec<RuleError>) {
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for source in sources {
        for loaded in load::load(source, &mut errors) {
            match tested(source, loaded) {
                Ok(tested) => all.push(tested),
                Err(error) => errors.push(error),
            }
        }
    }
    (all, errors)
}

fn tested(source: &Source, loaded: Loaded) -> Result<Tested, RuleError> {
    let (line, category) = (loaded.line, loaded.category);
    let (samples, tests) = (loaded.samples.clone(), loaded.tests.clone());
    let mut alone = RuleSet::empty();
    let Some(rule) = alone.add(source, loaded)? else {
        return Err(source.error(line, "the rule is about no kind of event"));
    };
    let (matching, passing) = samples.counts();
    let mut failures = Vec::new();
    for (count, word, remedy) in [
        (matching, "match", "an event that it has to match"),
        (passing, "pass", "an event that it must not match"),
    ] {
        if count == 0 {
            let message = format!("untested: add tracer.samples.{word} with {remedy}");
            failures.push(source.error(line, message));
        }
    }
    let kinds = [
        ("match", samples.matching, true),
        ("pass", samples.passing, false),
    ];
    for (word, list, expected) in kinds {
        for (index, fields) in list.into_iter().enumerate() {
            let at = item(source, line, word, index);
            let unknown = fields
                .keys()
                .find_map(|name| fields::check(name, category).err());
            let message = if let Some(message) = unknown {
                Some(message)
            } else {
                let event = Value::Object(fields);
                let matched = alone.matching(category, &JsonEvent::borrow(&event));
                let wrong = matched.is_empty() == expected;
                wrong.then(|| {
                    if expected {
                        "the rule does not match it".to_owned()
                    } else {
                        "the rule matches it".to_owned()
                    }
                })
            };
            if let Some(message) = message {
                let message = format!("samples.{word}, number {}: {message}", index + 1);
                failures.push(source.error(at, message));
            }
        }
    }
    Ok(Tested {
        rule,
        matching,
        passing,
        tests,
        failures,
    })
}

/// The line of a sample: of the item of the list below `word`. Where the text is laid out otherwise, that of the list.
fn item(source: &Source, first: usize, word: &str, index: usize) -> usize {
    let samples = source.line(first, "samples");
    let list = source.line(samples, word);
    let indent = |line: &str| line.len() - line.trim_start().len();
    let is_item = |line: &str| line.trim_start().starts_with("- ");
    let mut below = source.text.lines().enumerate().skip(list);
    let Some((at, head)) = below.find(|(_, line)| !line.trim().is_empty()) else {
        return list;
    };
    if !is_item(head) {
        return list;
    }
    let items = source.text.lines().enumerate().skip(at);
    let mut items = items.filter(|(_, line)| is_item(line) && indent(line) == indent(head));
    items.nth(index).map_or(list, |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::sigma::pack_sources;

    #[test]
    fn every_rule_of_the_pack_keeps_its_samples() {
        let (tested, errors) = test(&pack_sources());
        assert_eq!(errors, []);
        let failures = tested.iter().flat_map(|tested| &tested.failures);
        let failures: Vec<String> = failures.map(ToString::to_string).collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        let rules = RuleSet::pack().rules().len();
        assert_eq!(tested.len(), rules);
    }

    fn failures(samples: &str) -> Vec<String> {
        let text = format!(
            "title: A rule\nid: 1\nlogsource: {{product: linux, category: process_creation}}\ndetection:\n  s:\n    \
             Image|endswith: /sh\n  condition: s\n{samples}"
        );
        let (tested, errors) = test(&[Source::new("x", "x.yml", &text)]);
        assert_eq!(errors, []);
        let failures = tested.iter().flat_map(|tested| &tested.failures);
        failures.map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_wrong_with_samples_is_said_with_its_place() {
        let untested = [
            "x.yml:1: untested: add tracer.samples.match with an event that it has to match",
            "x.yml:1: untested: add tracer.samples.pass with an event that it must not match",
        ];
        assert_eq!(failures(""), untested);
        assert_eq!(
            failures("tracer:\n  samples:\n    match:\n      - {Image: /bin/sh}\n"),
            untested[1..]
        );
        let wrong = "tracer:\n  samples:\n    match:\n      - {Image: /bin/sh}\n      - {Image: /bin/ls}\n      - \
                     CommandLine: a\n        Imag: b\n    pass:\n      - {Image: /usr/bin/sh}\n";
        assert_eq!(
            failures(wrong),
            [
                "x.yml:12: samples.match, number 2: the rule does not match it",
                "x.yml:13: samples.match, number 3: unknown field Imag; the nearest that events of process_creation \
                 have is Image",
                "x.yml:16: samples.pass, number 1: the rule matches it",
            ]
        );
        assert_eq!(
            failures(
                "tracer: {samples: {match: [{Image: /bin/sh}], pass: [{Ancestor.Image: [/bin/sh, /a]}, {Image: /sh}]}}\n"
            ),
            ["x.yml:8: samples.pass, number 2: the rule matches it"]
        );
    }
}
