//! The Elastic Common Schema, as testdata/ecs has it, and documents taken apart.

use serde_json::Value;
use tracer::encode::fields::{ECS_VERSION, Entry};

/// A field of a document.
pub(crate) struct Leaf<'a> {
    /// Its name as the field list has it: lists of objects are marked by `[]`.
    pub(crate) name: String,
    /// Its path, with places in lists.
    pub(crate) path: String,
    pub(crate) value: &'a Value,
}

/// Every field of a document. Objects whose keys are data are one field.
pub(crate) fn leaves(document: &Value) -> Vec<Leaf<'_>> {
    let mut out = Vec::new();
    walk(document, String::new(), String::new(), &mut out);
    out
}

fn walk<'a>(value: &'a Value, name: String, path: String, out: &mut Vec<Leaf<'a>>) {
    let data = [
        "tracer.raw",
        "tracer.integrity.lost",
        "container.labels",
        "kubernetes.labels",
        "kubernetes.annotations",
    ]
    .contains(&name.as_str());
    match value {
        Value::Object(object) if !data => {
            assert!(!object.is_empty(), "{path} is an empty object");
            let dot = if name.is_empty() { "" } else { "." };
            for (key, value) in object {
                walk(
                    value,
                    format!("{name}{dot}{key}"),
                    format!("{path}{dot}{key}"),
                    out,
                );
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, format!("{name}[]"), format!("{path}.{index}"), out);
            }
        }
        Value::Object(_)
        | Value::Array(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_) => out.push(Leaf { name, path, value }),
    }
}

pub(crate) struct Ecs(Value);

impl Ecs {
    pub(crate) fn load() -> Self {
        let ecs: Value =
            serde_json::from_str(include_str!("../../testdata/ecs/fields.json")).unwrap();
        assert_eq!(ecs["version"], ECS_VERSION);
        Self(ecs)
    }

    /// A name outside our own prefixes is one of ECS, with its type. As every value is held
    /// against the declaration, this holds for values too.
    pub(crate) fn check_declaration(&self, entry: &Entry) {
        let own = entry.name.starts_with("tracer.")
            || entry.name.starts_with("kubernetes.")
            || entry.name.starts_with("process.Ext.")
            || entry.name.starts_with("file.Ext.");
        if own {
            return;
        }
        // ECS reuses `process` at `process.previous` as a list of objects (schemas/process.yml,
        // reusable.expected); the flat list shows only its members.
        let name = entry
            .name
            .replace("process.previous[].", "process.previous.");
        assert!(
            !name.contains("[]"),
            "{name}: a list of objects that ECS does not have"
        );
        let expected = self.0["fields"][&name]
            .as_str()
            .unwrap_or_else(|| panic!("{name} is not in ECS {ECS_VERSION}"));
        let list = if entry.list { "[]" } else { "" };
        assert_eq!(format!("{}{list}", entry.kind.name()), expected, "{name}");
    }

    pub(crate) fn check_classification(&self, sample: &str, document: &Value) {
        let event = &document["event"];
        for field in ["kind", "outcome"] {
            let value = &event[field];
            assert!(
                (value.is_null() && field == "outcome") || self.allowed(field).contains(value),
                "{sample}: event.{field} {value}"
            );
        }
        let categories = event["category"].as_array().unwrap();
        for kind in event["type"].as_array().unwrap() {
            assert!(
                self.allowed("type").contains(kind),
                "{sample}: event.type {kind}"
            );
            let pairs = categories.iter().any(|category| {
                self.types(category)
                    .unwrap_or_else(|| panic!("{sample}: event.category {category}"))
                    .contains(kind)
            });
            assert!(pairs, "{sample}: event.type {kind} in {categories:?}");
        }
        for category in categories {
            let types = self.types(category).unwrap();
            let pairs = event["type"]
                .as_array()
                .unwrap()
                .iter()
                .any(|kind| types.contains(kind));
            assert!(
                pairs,
                "{sample}: event.category {category} has none of its types"
            );
        }
    }

    /// Whether `event.FIELD` may have this value.
    pub(crate) fn allows(&self, field: &str, value: &Value) -> bool {
        self.allowed(field).contains(value)
    }

    fn allowed(&self, field: &str) -> &Vec<Value> {
        self.0[format!("event.{field}")].as_array().unwrap()
    }

    fn types(&self, category: &Value) -> Option<&Vec<Value>> {
        self.0["event.category"][category.as_str()?].as_array()
    }
}
