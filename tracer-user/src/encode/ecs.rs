//! ECS 9.4 as nested JSON: one document, one line.
//!
//! Walks the field list and writes as it goes, without a tree in between. Fields of one object
//! stand together in the list, so an object is opened once.

use super::fields::{FIELDS, Field, Get};
use super::loss;
use super::rules;
use super::scope::Scope;
use super::text::{hex, json_bytes, json_str, put};
use super::value::Value;
use crate::alert::{Document, LossReport, RulesReport};

/// Writes a document as one line, its end included.
pub fn line(document: &Document, out: &mut Vec<u8>) {
    let mut encoder = Encoder {
        out,
        path: String::new(),
        raw: Vec::new(),
    };
    encoder.object(Scope::new(document), FIELDS);
    out.push(b'\n');
}

/// Writes a report of losses as one line, its end included.
pub fn loss(of: &LossReport, out: &mut Vec<u8>) {
    report(out, |encoder, open| {
        encoder.row(of, loss::FIELDS, open);
        encoder.step(loss::REASONS);
        encoder.key(open);
        encoder.list(of.lost.iter().collect(), |encoder, reason| {
            let mut open = Open {
                base: encoder.path.len(),
                last: String::new(),
            };
            encoder.out.push(b'{');
            encoder.row(reason, loss::REASON, &mut open);
            open.close(0, encoder.out);
            encoder.out.push(b'}');
        });
    });
}

/// Writes a report on rules as one line, its end included.
pub fn rules(of: &RulesReport, out: &mut Vec<u8>) {
    report(out, |encoder, open| encoder.row(of, rules::FIELDS, open));
}

/// A report as one object on a line of its own.
fn report(out: &mut Vec<u8>, fields: impl FnOnce(&mut Encoder<'_>, &mut Open)) {
    let mut encoder = Encoder {
        out,
        path: String::new(),
        raw: Vec::new(),
    };
    let mut open = Open {
        base: 0,
        last: String::new(),
    };
    encoder.out.push(b'{');
    fields(&mut encoder, &mut open);
    open.close(0, out);
    out.extend_from_slice(b"}\n");
}

struct Encoder<'o> {
    out: &'o mut Vec<u8>,
    /// Dotted path of what is being written, places in lists included.
    path: String,
    /// Path and exact bytes of what was not UTF-8.
    raw: Vec<(String, String)>,
}

impl Encoder<'_> {
    fn object(&mut self, scope: Scope<'_>, table: &'static [Field]) {
        let base = self.path.len();
        let mut open = Open {
            base,
            last: String::new(),
        };
        self.out.push(b'{');
        self.fields(scope, table, &mut open);
        open.close(0, self.out);
        self.out.push(b'}');
    }

    fn fields(&mut self, scope: Scope<'_>, table: &'static [Field], open: &mut Open) {
        for field in table {
            if !field.docs.cover(scope.document) {
                continue;
            }
            let length = self.path.len();
            self.step(field.name);
            match field.get {
                Get::Value(get) => {
                    if let Some(value) = get(scope) {
                        self.key(open);
                        self.value(value);
                    }
                }
                Get::Group(fields, get) => {
                    if let Some(inner) = get(scope) {
                        self.fields(inner, fields, open);
                    }
                }
                Get::Rows(fields, get) => {
                    let rows = get(scope);
                    if !rows.is_empty() {
                        self.key(open);
                        self.list(rows, |encoder, row| encoder.object(row, fields));
                    }
                }
                Get::Raw => {
                    if !self.raw.is_empty() {
                        self.key(open);
                        let raw = std::mem::take(&mut self.raw);
                        self.map(raw.iter(), |out, (path, bytes)| {
                            json_str(path, out);
                            out.push(b':');
                            json_str(bytes, out);
                        });
                    }
                }
            }
            self.path.truncate(length);
        }
    }

    /// Writes the fields of one object that is not about a process.
    fn row<T>(&mut self, of: &T, table: &'static [loss::Field<T>], open: &mut Open) {
        for field in table {
            if let Some(value) = (field.get)(of) {
                let length = self.path.len();
                self.step(field.name);
                self.key(open);
                self.value(value);
                self.path.truncate(length);
            }
        }
    }

    fn key(&mut self, open: &mut Open) {
        open.enter(self.path.get(open.base..).unwrap_or_default(), self.out);
    }

    fn value(&mut self, value: Value<'_>) {
        match value {
            Value::Bool(true) => self.out.extend_from_slice(b"true"),
            Value::Bool(false) => self.out.extend_from_slice(b"false"),
            Value::Number(number) => put(self.out, format_args!("{number}")),
            Value::Time(time) => put(self.out, format_args!("\"{time:.9}\"")),
            Value::Text(text) => json_str(&text, self.out),
            Value::Bytes(bytes) => {
                if json_bytes(&bytes, self.out) {
                    let path = self.path.strip_prefix('.').unwrap_or(&self.path);
                    self.raw.push((path.to_owned(), hex(&bytes)));
                }
            }
            Value::List(items) => self.list(items, Self::value),
            Value::Counts(counts) => {
                self.map(counts.iter(), |out, (name, count)| {
                    json_str(name, out);
                    put(out, format_args!(":{count}"));
                });
            }
            Value::Labels(labels) => {
                // A dot would be a step into an object, and one name another's parent; as Elastic's own
                // collectors have it.
                let mut names: Vec<_> = labels
                    .iter()
                    .map(|(name, value)| (name.replace('.', "_"), value))
                    .collect();
                names.sort();
                names.dedup_by(|later, earlier| later.0 == earlier.0);
                self.map(names.iter(), |out, (name, value)| {
                    json_str(name, out);
                    out.push(b':');
                    json_str(value, out);
                });
            }
        }
    }

    fn list<T>(&mut self, items: Vec<T>, mut write: impl FnMut(&mut Self, T)) {
        self.out.push(b'[');
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            let length = self.path.len();
            self.step(&index.to_string());
            write(self, item);
            self.path.truncate(length);
        }
        self.out.push(b']');
    }

    fn map<T>(&mut self, items: impl Iterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
        self.out.push(b'{');
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            write(self.out, item);
        }
        self.out.push(b'}');
    }

    /// Goes one step down; every step begins with a dot.
    fn step(&mut self, name: &str) {
        self.path.push('.');
        self.path.push_str(name);
    }
}

/// The objects that are open within one object.
struct Open {
    /// Length of the path of the object itself.
    base: usize,
    /// Path of the field that was written last, with a leading dot; its parents are open.
    last: String,
}

impl Open {
    /// Closes and opens objects until a field with this path can be written, and writes its key.
    fn enter(&mut self, path: &str, out: &mut Vec<u8>) {
        let (parents, key) = path.rsplit_once('.').unwrap_or(("", path));
        let common = names(self.parents())
            .zip(names(parents))
            .take_while(|(old, new)| old == new)
            .count();
        self.close(common, out);
        for name in names(parents).skip(common) {
            comma(out);
            json_str(name, out);
            out.extend_from_slice(b":{");
        }
        comma(out);
        json_str(key, out);
        out.push(b':');
        path.clone_into(&mut self.last);
    }

    /// Closes all open objects but the outermost `keep`.
    fn close(&self, keep: usize, out: &mut Vec<u8>) {
        for _ in names(self.parents()).skip(keep) {
            out.push(b'}');
        }
    }

    fn parents(&self) -> &str {
        self.last
            .rsplit_once('.')
            .map_or("", |(parents, _)| parents)
    }
}

/// The names in a path with a leading dot.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('.').filter(|name| !name.is_empty())
}

/// Separates from what was written before in the same object. No value ends in `{`.
fn comma(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}
