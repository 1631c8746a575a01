//! Requests to a running agent and its answers: one JSON object a line (`docs/tree.md`).

use serde_json::{Value, json};

use super::json::write;
use super::text::{json_str, put};
use super::tree::{Format, Style, json::candidates, no_tree, servers, tree};
use crate::control::{Ask, PROTOCOL, REPLY_BYTES};
use crate::lineage::tree::{NoTree, Selector, TreeView};
use crate::pipeline::query::{ServersView, StatusView};

/// A request, its line's end included.
#[must_use]
pub fn request(ask: &Ask) -> Vec<u8> {
    let mut fields = serde_json::Map::new();
    let mut add = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    add("tracer", PROTOCOL.into());
    let (word, format) = match ask {
        Ask::Tree(_, format) => ("tree", *format),
        Ask::Servers(style) => ("servers", style.map_or(Format::Json, Format::Text)),
        Ask::Status => ("status", Format::Json),
    };
    add("ask", word.into());
    if let Ask::Tree(selector, _) = ask {
        match selector {
            Selector::Servers => None,
            Selector::All => add("all", true.into()),
            Selector::Process(tgid) => add("pid", (*tgid).into()),
            Selector::Entity(id) => add("entity_id", id.to_string().into()),
            Selector::Container(prefix) => add("container", prefix.as_str().into()),
            Selector::Server(name) => add("server", name.as_str().into()),
        };
    }
    match format {
        Format::Json => add("format", "json".into()),
        Format::Dot => add("format", "dot".into()),
        Format::Mermaid => add("format", "mermaid".into()),
        Format::Text(Style { colour, ascii }) => {
            add("colour", colour.into());
            add("ascii", ascii.into());
            add("format", "text".into())
        }
    };
    line(&Value::Object(fields))
}

/// The answer to a question for a tree.
#[must_use]
pub fn answer_tree(answer: &Result<TreeView, NoTree>, format: Format) -> Vec<u8> {
    match answer {
        Ok(view) if format == Format::Json => {
            bounded(object("tree", |out| tree(view, format, out)))
        }
        Ok(view) => bounded(text(|out| tree(view, format, out))),
        Err(why) => {
            let (kind, named) = match why {
                NoTree::Ambiguous(_, several) => ("ambiguous", candidates(several)),
                NoTree::Process(_)
                | NoTree::Entity(_)
                | NoTree::Container(_)
                | NoTree::Server(..) => ("unknown", Value::Null),
            };
            let mut error = json!({ "kind": kind, "message": no_tree(why) });
            if let (Value::Object(fields), false) = (&mut error, named.is_null()) {
                fields.insert("candidates".to_owned(), named);
            }
            line(&json!({ "tracer": PROTOCOL, "error": error }))
        }
    }
}

/// The answer to a question for servers.
#[must_use]
pub fn answer_servers(view: &ServersView, style: Option<Style>) -> Vec<u8> {
    bounded(match style {
        None => object("servers", |out| servers::json(view, out)),
        Some(style) => text(|out| servers::text(view, style, out)),
    })
}

/// What a client would cut off is not sent. A view is bounded in what can be counted before, so this is for
/// what nobody thought of.
fn bounded(answer: Vec<u8>) -> Vec<u8> {
    if answer.len() <= REPLY_BYTES {
        return answer;
    }
    let bytes = answer.len();
    let why = format!(
        "the answer has {bytes} bytes, and {REPLY_BYTES} are sent at most; ask for one process"
    );
    refusal("too_long", &why)
}

/// The answer to a question for counts.
#[must_use]
pub fn answer_status(view: &StatusView) -> Vec<u8> {
    let totals = &view.totals;
    let counts: serde_json::Map<String, Value> = view
        .counts
        .iter()
        .map(|(name, count)| (name.clone(), (*count).into()))
        .collect();
    line(&json!({
        "tracer": PROTOCOL,
        "status": {
            "version": env!("CARGO_PKG_VERSION"),
            "events": totals.events,
            "events_lost": totals.lost,
            "alerts": totals.alerts,
            "records_not_understood": totals.undecodable,
            "counts": counts,
        },
    }))
}

/// That there is no answer, and why.
#[must_use]
pub fn refusal(kind: &str, message: &str) -> Vec<u8> {
    line(&json!({
        "tracer": PROTOCOL, "error": { "kind": kind, "message": message },
    }))
}

/// Writes a value that came as an answer: harmless on a terminal again.
pub fn value(value: &Value, out: &mut Vec<u8>) {
    write(value, out);
}

fn line(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out.push(b'\n');
    out
}

fn object(name: &str, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put(
        &mut out,
        format_args!("{{\"tracer\":{PROTOCOL},\"{name}\":"),
    );
    body(&mut out);
    out.extend_from_slice(b"}\n");
    out
}

fn text(body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut text = Vec::new();
    body(&mut text);
    let mut out = Vec::new();
    put(&mut out, format_args!("{{\"tracer\":{PROTOCOL},\"text\":"));
    json_str(&String::from_utf8_lossy(&text), &mut out);
    out.extend_from_slice(b"}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_said_to_be() {
        let short = vec![b'x'; 1000];
        assert_eq!(bounded(short.clone()), short);
        let refused = bounded(vec![b'x'; REPLY_BYTES + 1]);
        let refused = String::from_utf8(refused).unwrap();
        assert!(refused.contains("too_long") && refused.contains("134217729 bytes"));
    }
}
