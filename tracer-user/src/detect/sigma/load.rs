//! From the text of a file to its rules.

use std::fmt;

use rsigma_eval::RuleFieldSet;
use rsigma_parser::{Detection, Level, Modifier, SigmaCollection, SigmaRule, parse_sigma_yaml};
use serde::Deserialize;

use super::Category;
use super::samples::Samples;
use crate::alert::Severity;
use crate::detect::case::fields;
use crate::rule::{Rule, attack};

/// Largest file of rules that is read, bytes.
pub(super) const MAX_BYTES: usize = 1024 * 1024;

/// What may follow a field's name.
const MODIFIERS: &[&str] = &[
    "all",
    "base64",
    "base64offset",
    "cased",
    "cidr",
    "contains",
    "day",
    "endswith",
    "exists",
    "fieldref",
    "gt",
    "gte",
    "hour",
    "i",
    "lt",
    "lte",
    "m",
    "minute",
    "month",
    "neq",
    "re",
    "s",
    "startswith",
    "utf16",
    "utf16be",
    "utf16le",
    "week",
    "wide",
    "windash",
    "year",
];

/// The text of a file of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The set that it belongs to: `tracer`, or the directory that was named.
    pub ruleset: String,
    /// The file.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// Why a rule is not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// The file.
    pub file: String,
    /// The line, from one; zero where it is about the whole file.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub message: String,
    /// Nothing is wrong with the rule: it is about something that this agent does not tell.
    pub unsupported: bool,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for RuleError {}

impl Source {
    /// A file's text.
    #[must_use]
    pub fn new(ruleset: &str, file: impl Into<String>, text: &str) -> Self {
        // The notation of the documentation: a modifier to other readers of Sigma, a field here.
        let text = text.replace("Ancestor|any.", "Ancestor.");
        Self {
            ruleset: ruleset.to_owned(),
            file: file.into(),
            text,
        }
    }

    pub(crate) fn error(&self, line: usize, message: impl Into<String>) -> RuleError {
        RuleError {
            file: self.file.clone(),
            line,
            message: message.into(),
            unsupported: false,
        }
    }

    /// The line that has these words, from one; where there is none the first line of the document.
    fn line_with(&self, first: usize, words: &str) -> usize {
        let mut lines = self.text.lines().enumerate().skip(first - 1);
        let found = lines.find(|(_, line)| line.contains(words));
        found.map_or(first, |(at, _)| at + 1)
    }

    /// The line of a document's key or of what begins with these words, from one; where there is none the first line
    /// of the document.
    pub(super) fn line(&self, first: usize, word: &str) -> usize {
        let is_it = |line: &str| {
            let line = line
                .trim_start()
                .trim_start_matches("- ")
                .trim_start_matches(['{', '"', '\'']);
            line.strip_prefix(word)
                .is_some_and(|rest| rest.starts_with(['|', ':', '"', '\'', '[']))
        };
        let anywhere = |line: &str| line.contains(word);
        let find = |is: &dyn Fn(&str) -> bool| {
            let mut lines = self.text.lines().enumerate().skip(first - 1);
            lines.find(|(_, line)| is(line)).map(|(at, _)| at + 1)
        };
        find(&is_it).or_else(|| find(&anywhere)).unwrap_or(first)
    }
}

/// A rule that can be compiled.
pub(super) struct Loaded {
    pub(super) rule: Rule,
    pub(super) sigma: SigmaRule,
    pub(super) category: Category,
    /// Its tags as they are written.
    pub(super) tags: Vec<String>,
    pub(super) samples: Samples,
    /// Tests that show it against real events.
    pub(super) tests: Vec<String>,
    /// Where it begins.
    pub(super) line: usize,
}

/// What our rules say beyond Sigma's schema, under `tracer`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Extension {
    action: Option<String>,
    version: Option<String>,
    data_sources: Vec<String>,
    samples: Samples,
    tests: Vec<String>,
}

/// Reads the rules of a file; what is wrong is added to `errors`.
pub(super) fn load(source: &Source, errors: &mut Vec<RuleError>) -> Vec<Loaded> {
    if source.text.len() > MAX_BYTES {
        errors.push(source.error(0, format!("it is larger than {MAX_BYTES} bytes; split it")));
        return Vec::new();
    }
    let mut all = Vec::new();
    for (line, text) in documents(&source.text) {
        match parse_sigma_yaml(&text) {
            Ok(collection) => {
                for message in &collection.errors {
                    errors.push(parsed(source, line, message));
                }
                for sigma in collection.rules {
                    match loaded(source, line, sigma) {
                        Ok(loaded) => all.push(loaded),
                        Err(error) => errors.push(error),
                    }
                }
            }
            Err(error) => {
                errors.push(parsed(source, line, &error.to_string()));
            }
        }
    }
    all
}

/// The documents of a file, each with its first line. Sigma's `action: global` needs them together.
fn documents(text: &str) -> Vec<(usize, String)> {
    if text.lines().any(|line| line.starts_with("action:")) {
        return vec![(1, text.to_owned())];
    }
    let mut all = vec![(1, String::new())];
    for (at, line) in text.lines().enumerate() {
        if line.trim_end() == "---" {
            all.push((at + 2, String::new()));
        } else if let Some((_, document)) = all.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let has_words = |text: &str| {
        text.lines().any(|line| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with('#')
        })
    };
    all.retain(|(_, document)| has_words(document));
    all
}

/// What the parser says of a rule, at the line that it is about.
fn parsed(source: &Source, first: usize, message: &str) -> RuleError {
    let quoted = |before: &str| message.split_once(before)?.1.split('\'').next();
    if let Some(word) = quoted("Unknown modifier '") {
        let distance = |known: &&&str| {
            let begins = known.starts_with(word) || word.starts_with(**known);
            (!begins, strsim::damerau_levenshtein(known, word))
        };
        let near = MODIFIERS.iter().min_by_key(distance);
        let near = near.copied().unwrap_or_default();
        let line = source.line_with(first, &format!("|{word}"));
        return source.error(
            line,
            format!("unknown modifier {word}; the nearest is {near}"),
        );
    }
    if message.starts_with("Condition parse error") {
        return source.error(source.line(first, "condition"), message);
    }
    source.error(line_of(first, message), message)
}

/// The line of the file that a parser's message names by the line of the document.
fn line_of(first: usize, message: &str) -> usize {
    let after = message.split("line ").nth(1).unwrap_or_default();
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits
        .parse()
        .map_or(first, |line: usize| first + line.saturating_sub(1))
}

fn loaded(source: &Source, line: usize, mut sigma: SigmaRule) -> Result<Loaded, RuleError> {
    let unsupported = |word: &str, message: String| RuleError {
        unsupported: true,
        ..source.error(source.line(line, word), message)
    };
    let category = category(&sigma).map_err(|message| unsupported("logsource", message))?;
    let collection = SigmaCollection {
        rules: vec![sigma.clone()],
        ..SigmaCollection::new()
    };
    for (name, origin) in RuleFieldSet::collect(&collection, &[], false).iter() {
        // Metadata lists fields for analysts; nothing is compared with them.
        if origin.sources.iter().all(|of| of.as_str() == "metadata") {
            continue;
        }
        fields::check(name, category).map_err(|message| unsupported(name, message))?;
    }
    if sigma.detection.named.values().any(expands) {
        let at = source.line_with(line, "|expand");
        return Err(RuleError {
            unsupported: true,
            ..source.error(
                at,
                "the modifier expand is not supported: write the values themselves",
            )
        });
    }
    let extension = match sigma.custom_attributes.get("tracer") {
        None => Extension::default(),
        Some(value) => Extension::deserialize(value.clone()).map_err(|error| {
            source.error(source.line(line, "tracer"), format!("tracer: {error}"))
        })?,
    };
    let level = match sigma.level {
        Some(Level::Critical) => Severity::Critical,
        Some(Level::High) => Severity::High,
        Some(Level::Medium) | None => Severity::Medium,
        Some(Level::Low | Level::Informational) => Severity::Low,
    };
    let id = sigma
        .name
        .clone()
        .or_else(|| sigma.id.clone())
        .unwrap_or_else(|| slug(&sigma.title));
    let changed = sigma.modified.clone().or_else(|| sigma.date.clone());
    let rule = Rule {
        id: id.as_str().into(),
        uuid: sigma.id.clone(),
        name: sigma.title.clone(),
        description: sigma.description.clone().unwrap_or_default(),
        action: extension.action.unwrap_or_else(|| slug(&sigma.title)),
        version: extension
            .version
            .or(changed)
            .unwrap_or_else(|| "1".to_owned()),
        level,
        techniques: attack::techniques(&sigma.tags),
        data_sources: extension.data_sources,
        references: sigma.references.clone(),
        false_positives: sigma.falsepositives.clone(),
        ruleset: source.ruleset.clone(),
        file: source.file.clone(),
    };
    // By this a match is led back to the rule.
    sigma.id = Some(id);
    sigma.custom_attributes.clear();
    Ok(Loaded {
        rule,
        tags: sigma.tags.clone(),
        samples: extension.samples,
        tests: extension.tests,
        sigma,
        category,
        line,
    })
}

/// Whether anything in it has placeholders, which nobody here knows the meaning of.
fn expands(detection: &Detection) -> bool {
    match detection {
        Detection::AllOf(items) => items
            .iter()
            .any(|item| item.field.has_modifier(Modifier::Expand)),
        Detection::AnyOf(all) | Detection::And(all) => all.iter().any(expands),
        Detection::ArrayMatch { body, .. } => expands(body),
        Detection::Conditional { named, .. } => named.values().any(expands),
        Detection::Keywords(_) => false,
    }
}

/// The kind of events that a rule is about.
fn category(sigma: &SigmaRule) -> Result<Category, String> {
    let source = &sigma.logsource;
    if let Some(product) = &source.product
        && product != "linux"
    {
        return Err(format!(
            "logsource.product is {product}, and this is a Linux host"
        ));
    }
    if let Some(service) = &source.service {
        return Err(format!(
            "logsource.service is {service}: rules on the lines of a log are not for this agent"
        ));
    }
    let names = || {
        let names: Vec<&str> = Category::ALL
            .iter()
            .map(|category| category.name())
            .collect();
        names.join(", ")
    };
    let Some(word) = &source.category else {
        return Err(format!(
            "logsource.category is missing; it is one of {}",
            names()
        ));
    };
    let known = Category::ALL
        .iter()
        .find(|category| category.name() == word);
    known.copied().ok_or_else(|| {
        format!(
            "logsource.category {word} is not told by this agent; it tells {}",
            names()
        )
    })
}

/// A title as an id.
fn slug(title: &str) -> String {
    let word = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let dashed: String = title.chars().map(word).collect();
    let parts = dashed.split('-').filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-")
}
