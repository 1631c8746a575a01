//! The rules that hold, as bytes: parts of their texts in as many frames as it takes, and one that ends them.
//!
//! Refuses more than an agent takes: a capture is no way to have memory filled.

use std::sync::Arc;

use super::{Fields, put_text};
use crate::detect::sigma::{Chosen, MAX_DISABLED, MAX_FILES, MAX_TOTAL, Source};
use crate::source::{Input, RulesRejected};

/// Bytes of a text in one frame.
const PIECE: usize = 32 * 1024;

/// What a part is.
const FILE: u8 = 0;
const TEXT: u8 = 1;
const DISABLED: u8 = 2;

/// Parts that were read, up to the frame that ends them.
#[derive(Default)]
pub(super) struct Parts {
    files: Vec<(String, String, Vec<u8>)>,
    disabled: Vec<String>,
    bytes: usize,
}

impl Parts {
    /// Takes a part.
    pub(super) fn take(&mut self, rest: &mut Fields<'_>) -> Result<(), &'static str> {
        match rest.array()? {
            [FILE] => {
                self.files
                    .push((rest.string()?, rest.string()?, Vec::new()));
            }
            [TEXT] => {
                let (_, _, text) = self.files.last_mut().ok_or("a text of no file")?;
                let piece = std::mem::take(&mut rest.0);
                text.extend_from_slice(piece);
                self.bytes += piece.len();
            }
            [DISABLED] => self.disabled.push(rest.string()?),
            _ => return Err("unknown part of rules"),
        }
        let is_too_much = self.files.len() > MAX_FILES
            || self.disabled.len() > MAX_DISABLED
            || self.bytes > MAX_TOTAL;
        if is_too_much {
            return Err("more rules than an agent takes");
        }
        Ok(())
    }

    /// The rules whose parts these are.
    pub(super) fn end(&mut self, rest: &mut Fields<'_>) -> Result<Input, &'static str> {
        let boot_ns = u64::from_le_bytes(rest.array()?);
        let Self {
            files, disabled, ..
        } = std::mem::take(self);
        let mut sources = Vec::new();
        for (ruleset, file, text) in files {
            let text = String::from_utf8(text).map_err(|_| "text is not UTF-8")?;
            sources.push(Source {
                ruleset,
                file,
                text,
            });
        }
        // What another version finds wrong is counted in the report.
        let (chosen, _) = Chosen::new(sources, disabled);
        Ok(Input::Rules {
            boot_ns,
            chosen: Arc::new(chosen),
        })
    }
}

/// The payloads of the parts, in their order.
pub(super) fn parts(chosen: &Chosen) -> impl Iterator<Item = Vec<u8>> {
    let files = chosen.sources().iter().flat_map(|source| {
        let mut head = vec![FILE];
        put_text(&mut head, source.ruleset.as_bytes());
        put_text(&mut head, source.file.as_bytes());
        let pieces = source.text.as_bytes().chunks(PIECE);
        let pieces = pieces.map(|piece| [&[TEXT], piece].concat());
        std::iter::once(head).chain(pieces)
    });
    let words = chosen.words().iter().map(|word| {
        let mut part = vec![DISABLED];
        put_text(&mut part, word.as_bytes());
        part
    });
    files.chain(words)
}

pub(super) fn put_rejected(payload: &mut Vec<u8>, rejected: &RulesRejected) {
    let RulesRejected {
        boot_ns,
        wrong,
        unsupported,
        error,
    } = rejected;
    payload.extend_from_slice(&boot_ns.to_le_bytes());
    payload.extend_from_slice(&wrong.to_le_bytes());
    payload.extend_from_slice(&unsupported.to_le_bytes());
    put_text(payload, error.as_bytes());
}

pub(super) fn rejected(rest: &mut Fields<'_>) -> Result<Input, &'static str> {
    Ok(Input::RulesRejected(RulesRejected {
        boot_ns: u64::from_le_bytes(rest.array()?),
        wrong: u64::from_le_bytes(rest.array()?),
        unsupported: u64::from_le_bytes(rest.array()?),
        error: rest.string()?,
    }))
}

/// Rules whose text is longer than a frame, and such as were rejected.
#[cfg(test)]
pub(super) fn samples() -> Vec<Input> {
    let text = format!("# {}\n", "é".repeat(PIECE));
    let sources = vec![
        Source::new("/etc/rules", "/etc/rules/a.yml", &text),
        Source::new("/etc/rules", "/etc/rules/empty.yml", ""),
    ];
    let chosen = Chosen::new(sources, vec!["attack.t1059".to_owned()]).0;
    vec![
        Input::Rules {
            boot_ns: 5,
            chosen: Arc::new(chosen),
        },
        Input::RulesRejected(RulesRejected {
            boot_ns: 6,
            wrong: 2,
            unsupported: 1,
            error: "a.yml:3: no".to_owned(),
        }),
    ]
}
