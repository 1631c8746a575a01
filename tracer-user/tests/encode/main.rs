//! What the encoders write, for documents of every kind: held against the field list, against ECS,
//! and against goldens (`UPDATE_GOLDEN=1` rewrites those).
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test helpers: a panic is the report"
)]

mod samples;
mod schema;

use std::collections::BTreeSet;
use std::path::Path;

use samples::Sample;
use schema::{Leaf, leaves};
use serde_json::Value;
use tracer::encode::fields::{Entry, Type, catalogue};
use tracer::encode::{ecs, pretty};

fn json(sample: &Sample) -> (String, Value) {
    let mut out = Vec::new();
    ecs::line(&sample.document, &mut out);
    let line = String::from_utf8(out).unwrap();
    let value = serde_json::from_str(&line)
        .unwrap_or_else(|error| panic!("{}: {error}\n{line}", sample.name));
    (line, value)
}

fn text(sample: &Sample, colour: bool) -> String {
    let mut out = Vec::new();
    pretty::line(&sample.document, colour, &mut out);
    String::from_utf8(out).unwrap()
}

fn compare(path: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} differs; UPDATE_GOLDEN=1 rewrites it. Now:\n{actual}",
        path.display()
    );
}

#[test]
fn goldens() {
    for sample in samples::all() {
        let name = sample.name;
        compare(
            &format!("testdata/expected/encode/{name}.json"),
            &json(&sample).0,
        );
        compare(
            &format!("testdata/expected/encode/{name}.txt"),
            &text(&sample, false),
        );
    }
}

#[test]
fn field_list_and_output_agree() {
    let entries = catalogue();
    let mut seen = BTreeSet::new();
    for sample in samples::all() {
        for leaf in leaves(&json(&sample).1) {
            let entry = entries
                .iter()
                .find(|entry| entry.name == leaf.name)
                .unwrap_or_else(|| panic!("{}: {} is not in the list", sample.name, leaf.name));
            check_leaf(sample.name, entry, &leaf);
            assert!(
                entry.docs.cover(&sample.document),
                "{}: {}",
                sample.name,
                leaf.name
            );
            seen.insert(leaf.name);
        }
    }
    let all: BTreeSet<String> = entries.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!(all.len(), entries.len(), "a name is declared twice");
    let unseen: Vec<_> = all.difference(&seen).collect();
    assert!(unseen.is_empty(), "no sample has {unseen:?}");
}

fn check_leaf(sample: &str, entry: &Entry, leaf: &Leaf<'_>) {
    let name = &leaf.name;
    let items = match (leaf.value, entry.list) {
        (Value::Array(items), true) => {
            assert!(!items.is_empty(), "{sample}: {name} is an empty list");
            items.iter().collect()
        }
        (Value::Array(_), false) => panic!("{sample}: {name} is a list"),
        (_, true) => panic!("{sample}: {name} is no list"),
        (value, false) => vec![value],
    };
    for item in items {
        let right = match entry.kind {
            // An empty argument is a fact; any other empty string is a placeholder.
            Type::Keyword | Type::Text | Type::Wildcard => item
                .as_str()
                .is_some_and(|text| !text.is_empty() || name.ends_with("args")),
            Type::Long => item.is_i64(),
            Type::Boolean => item.is_boolean(),
            Type::Date => item.as_str().is_some_and(|text| {
                text.parse::<jiff::Timestamp>().is_ok() && text.ends_with('Z') && text.len() == 30
            }),
            Type::Ip => item
                .as_str()
                .is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok()),
            Type::Flattened => item.as_object().is_some_and(|object| !object.is_empty()),
            Type::Object => item.as_object().is_some_and(|object| {
                !object.is_empty() && object.keys().all(|key| !key.contains('.'))
            }),
        };
        assert!(right, "{sample}: {name} is {item}, not {:?}", entry.kind);
    }
}

/// The encoder opens an object once; a second time would make the key twice.
#[test]
fn fields_of_one_object_stand_together() {
    let mut closed: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<String> = Vec::new();
    for entry in catalogue() {
        let mut parents: Vec<String> = entry
            .name
            .match_indices('.')
            .map(|(at, _)| entry.name[..at].to_owned())
            .collect();
        for parent in open.drain(..) {
            if !parents.contains(&parent) {
                closed.insert(parent);
            }
        }
        for parent in &parents {
            assert!(
                !closed.contains(parent),
                "{parent} is opened again at {}",
                entry.name
            );
        }
        open.append(&mut parents);
    }
}

#[test]
fn output_is_valid_ecs() {
    let ecs = schema::Ecs::load();
    for entry in catalogue() {
        ecs.check_declaration(&entry);
    }
    for sample in samples::all() {
        ecs.check_classification(sample.name, &json(&sample).1);
    }
}

/// A report of losses: every field is declared, all are there, and those of ECS are right.
#[test]
fn losses_are_valid_ecs() {
    let report = samples::loss();
    let (mut line, mut text) = (Vec::new(), Vec::new());
    ecs::loss(&report, &mut line);
    pretty::loss(&report, false, &mut text);
    check_report("loss", line, text, &tracer::encode::loss::catalogue());
}

/// The same of a report on rules.
#[test]
fn reports_on_rules_are_valid_ecs() {
    let report = samples::rejected();
    let (mut line, mut text) = (Vec::new(), Vec::new());
    ecs::rules(&report, &mut line);
    pretty::rules(&report, false, &mut text);
    check_report("rules", line, text, &tracer::encode::rules::catalogue());
}

fn check_report(name: &str, line: Vec<u8>, text: Vec<u8>, entries: &[Entry]) {
    let (line, text) = (
        String::from_utf8(line).unwrap(),
        String::from_utf8(text).unwrap(),
    );
    compare(&format!("testdata/expected/encode/{name}.json"), &line);
    compare(&format!("testdata/expected/encode/{name}.txt"), &text);
    let value: Value = serde_json::from_str(&line).unwrap();
    let ecs = schema::Ecs::load();
    let mut seen = BTreeSet::new();
    for leaf in leaves(&value) {
        let entry = entries.iter().find(|entry| entry.name == leaf.name);
        let entry = entry.unwrap_or_else(|| panic!("{} is not in the list", leaf.name));
        check_leaf(name, entry, &leaf);
        seen.insert(leaf.name);
    }
    for entry in entries {
        assert!(seen.contains(&entry.name), "{} is not there", entry.name);
        ecs.check_declaration(entry);
    }
    assert!(ecs.allows("kind", &value["event"]["kind"]));
    assert!(ecs.allows("type", &value["event"]["type"][0]));
}

/// One document is one line, whatever a process is called; and nothing is lost.
#[test]
fn hostile_text_stays_in_its_line_and_survives() {
    for sample in samples::all() {
        let (line, value) = json(&sample);
        assert!(line.ends_with("}\n"));
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(!line.trim_end().contains(hostile), "{line}");
        let raw = value["tracer"]["raw"].as_object();
        for leaf in leaves(&value) {
            let items = leaf
                .value
                .as_array()
                .map_or_else(|| vec![leaf.value], |items| items.iter().collect());
            for (index, item) in items.iter().enumerate() {
                let Some(text) = item.as_str().filter(|text| text.contains('\u{fffd}')) else {
                    continue;
                };
                let path = if leaf.value.is_array() {
                    format!("{}.{index}", leaf.path)
                } else {
                    leaf.path.clone()
                };
                let bytes = unhex(raw.unwrap()[&path].as_str().unwrap());
                assert!(std::str::from_utf8(&bytes).is_err(), "{path}");
                assert_eq!(String::from_utf8_lossy(&bytes), text, "{path}");
            }
        }
    }
    let hostile = samples::all()
        .into_iter()
        .find(|s| s.name == "hostile_alert")
        .unwrap();
    let value = json(&hostile).1;
    let raw = value["tracer"]["raw"].as_object().unwrap();
    assert_eq!(
        unhex(raw["process.args.1"].as_str().unwrap()),
        b"\xff\xfe\"quoted\" \\ \x00"
    );
    assert_eq!(value["process"]["args"][3], "\u{1b}]0;title\u{7}\u{1b}[2J");
    assert_eq!(value["process"]["args"][6], "");
    for path in [
        "process.command_line",
        "process.previous",
        "tracer.lineage.0.previous.0.args.1",
    ] {
        assert_eq!(raw.contains_key(path), path != "process.previous", "{path}");
    }
}

#[test]
fn pretty_text_passes_no_escape_but_our_colours() {
    for sample in samples::all() {
        let plain = text(&sample, false);
        assert!(plain.ends_with('\n'));
        assert!(!plain.replace('\n', "").contains(hostile), "{plain:?}");
        let lines = plain.lines().count();
        if sample.document.alert.is_some() {
            assert!(lines > 2, "{plain}");
            assert!(
                plain.lines().skip(1).all(|line| line.starts_with("  ")),
                "{plain}"
            );
        } else {
            assert_eq!(lines, 1, "{plain}");
        }
        let mut stripped = text(&sample, true);
        for code in ["0", "1", "2", "1;31", "33", "36"] {
            stripped = stripped.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_eq!(stripped, plain);
    }
}

/// What no output may hold as it is: control, bidirectional and line-ending characters.
fn hostile(c: char) -> bool {
    c.is_control()
        || ('\u{2028}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}
