//! What a running agent can be asked, and in which words: one line of JSON there, one line back.
//!
//! The words of the answers are in [`crate::encode::control`]; `docs/tree.md` describes both. Anything that is
//! not understood is refused, so that a newer request is never half answered.

pub mod client;

use serde::Deserialize;
use uuid::Uuid;

use crate::encode::tree::{Format, Style};
use crate::lineage::tree::Selector;

/// Version of the protocol. Another one is refused.
pub const PROTOCOL: u64 = 1;

/// Longest request, bytes, its line's end included.
pub const REQUEST_BYTES: usize = 4096;

/// Longest answer, bytes: several times what the largest tree takes.
pub const REPLY_BYTES: usize = 128 << 20;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A tree.
    Tree(Selector, Format),
    /// The servers: as JSON, or as text in this style.
    Servers(Option<Style>),
    /// Counts.
    Status,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Tree,
    Servers,
    Status,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FormatWord {
    Text,
    #[default]
    Json,
    Dot,
    Mermaid,
}

/// A request as it comes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    tracer: u64,
    ask: Word,
    pid: Option<u32>,
    entity_id: Option<String>,
    container: Option<String>,
    server: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    format: FormatWord,
    #[serde(default)]
    colour: bool,
    #[serde(default)]
    ascii: bool,
}

impl Ask {
    /// Understands a request, without its line's end.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in one line.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| format!("not a request of version {PROTOCOL}: {error}"))?;
        if line.tracer != PROTOCOL {
            return Err(format!(
                "a request of version {}, and this agent speaks version {PROTOCOL}: use the `tracer` \
                 that it was started with",
                line.tracer
            ));
        }
        let style = Style {
            colour: line.colour,
            ascii: line.ascii,
        };
        let entity = line.entity_id.map(|id| {
            Uuid::try_parse(&id).map_err(|_| "entity_id is not the id of a process".to_owned())
        });
        let selectors = [
            line.all.then_some(Selector::All),
            line.pid.map(Selector::Process),
            entity.transpose()?.map(Selector::Entity),
            line.container.map(Selector::Container),
            line.server.map(Selector::Server),
        ];
        let mut selectors = selectors.into_iter().flatten();
        let selector = selectors.next();
        if selectors.next().is_some() || (selector.is_some() && !matches!(line.ask, Word::Tree)) {
            return Err("one of pid, entity_id, container, server and all, for a tree only".into());
        }
        let format = match line.format {
            FormatWord::Text => Format::Text(style),
            FormatWord::Json => Format::Json,
            FormatWord::Dot => Format::Dot,
            FormatWord::Mermaid => Format::Mermaid,
        };
        match (line.ask, format) {
            (Word::Tree, format) => Ok(Self::Tree(selector.unwrap_or(Selector::Servers), format)),
            (Word::Servers, Format::Json) => Ok(Self::Servers(None)),
            (Word::Servers, Format::Text(style)) => Ok(Self::Servers(Some(style))),
            (Word::Status, Format::Json) => Ok(Self::Status),
            (Word::Servers | Word::Status, _) => Err("no such format of that".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::control;

    #[test]
    fn what_is_asked_is_understood() {
        let id = Uuid::from_u128(7);
        let style = Style {
            colour: true,
            ascii: true,
        };
        for ask in [
            Ask::Tree(Selector::Servers, Format::Json),
            Ask::Tree(Selector::All, Format::Dot),
            Ask::Tree(Selector::Process(7), Format::Text(style)),
            Ask::Tree(Selector::Entity(id), Format::Mermaid),
            Ask::Tree(Selector::Container("4\"f\n".into()), Format::Json),
            Ask::Tree(Selector::Server("nginx".into()), Format::Json),
            Ask::Servers(None),
            Ask::Servers(Some(style)),
            Ask::Status,
        ] {
            let line = control::request(&ask);
            let line = line.strip_suffix(b"\n").unwrap();
            assert!(!line.contains(&b'\n'));
            assert_eq!(Ask::parse(line), Ok(ask));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (line, word) in [
            ("", "EOF"),
            ("GET / HTTP/1.1", "expected value"),
            ("[]", "invalid"),
            (r#"{"tracer":1}"#, "ask"),
            (r#"{"tracer":1,"ask":"kill"}"#, "kill"),
            (r#"{"tracer":2,"ask":"tree"}"#, "version 2"),
            (r#"{"tracer":1,"ask":"tree","pid":1,"all":true}"#, "one of"),
            (r#"{"tracer":1,"ask":"status","pid":1}"#, "for a tree"),
            (r#"{"tracer":1,"ask":"tree","pid":-1}"#, "-1"),
            (r#"{"tracer":1,"ask":"tree","depth":1}"#, "depth"),
            (r#"{"tracer":1,"ask":"servers","format":"dot"}"#, "format"),
            (r#"{"tracer":1,"ask":"tree","entity_id":"x"}"#, "entity_id"),
            (r#"{"tracer":1,"ask":"tree"} {}"#, "trailing"),
        ] {
            let error = Ask::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        Ask::parse(b"\xff\xfe").unwrap_err();
        Ask::parse("[".repeat(4000).as_bytes()).unwrap_err();
    }
}
