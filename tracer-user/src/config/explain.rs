//! Turns errors of the YAML reader into one line that names key and remedy.

use serde_saphyr::Error;

/// Most that two names may differ for one to be a slip of the other.
const SLIP: usize = 3;

/// The line at fault and what to say.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a foreign enum of seventy variants; those not named here show the reader's own text"
)]
pub(super) fn yaml(text: &str, error: &Error) -> (Option<u64>, String) {
    let error = error.without_snippet();
    let line = error
        .location()
        .map(|at| at.line())
        .filter(|line| *line > 0);
    let key = || {
        line.map(|line| key_at(text, line))
            .filter(|key| !key.is_empty())
    };
    let at_key = |message: String| match key() {
        Some(key) => format!("{key}: {message}"),
        None => message,
    };
    let message = match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => {
            format!(
                "unknown key {field:?}; {}",
                remedy(field, expected, "known keys")
            )
        }
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => {
            let remedy = remedy(variant, expected, "one of");
            at_key(format!("{variant:?} is not possible; {remedy}"))
        }
        Error::SerdeInvalidType {
            unexpected,
            expected,
            ..
        }
        | Error::SerdeInvalidValue {
            unexpected,
            expected,
            ..
        } => at_key(format!("expected {expected}, found {unexpected}")),
        Error::InvalidScalar { ty, .. } => at_key(format!("expected {}", plain_type(ty))),
        Error::Unexpected { expected, .. } => at_key(format!("expected {expected}")),
        Error::InvalidBooleanStrict { .. } => at_key("expected true or false".to_owned()),
        Error::DuplicateMappingKey { key, .. } => match key {
            Some(key) => format!("key {key:?} is given twice; keep one"),
            None => "a key is given twice; keep one".to_owned(),
        },
        Error::MultipleDocuments { .. } => {
            "a second document begins here; keep one, without `---`".to_owned()
        }
        other => format!("not valid YAML here: {}", first_line(&other.to_string())),
    };
    (line, message)
}

/// The nearest name where one is near, else all of them.
fn remedy(typed: &str, known: &[&str], listed_as: &str) -> String {
    let near = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(typed, name), name))
        .filter(|(distance, name)| *distance <= SLIP && *distance < name.len())
        .min();
    match near {
        Some((_, name)) => format!("did you mean {name:?}?"),
        None => format!("{listed_as}: {}", known.join(", ")),
    }
}

/// The reader names Rust's types; users know numbers.
fn plain_type(ty: &str) -> String {
    match ty {
        "u8" | "u16" | "u32" | "u64" | "usize" => {
            "a whole number that is not negative and below 4294967296".to_owned()
        }
        "bool" | "boolean" => "true or false".to_owned(),
        other => other.to_owned(),
    }
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or(message)
}

/// The key that a line belongs to, with those it is nested in: `rings.life_bytes`.
///
/// By indentation: it only has to find names for messages, in block style; in flow style
/// (`{a: 1}`) it gives the key that the line begins with.
fn key_at(text: &str, line: u64) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut names: Vec<&str> = Vec::new();
    let mut below = usize::MAX;
    let until = usize::try_from(line).unwrap_or(usize::MAX).min(lines.len());
    for text in lines.get(..until).unwrap_or_default().iter().rev() {
        let entry = text.trim_start();
        let indent = text.len() - entry.len();
        if entry.is_empty() || entry.starts_with('#') || indent >= below {
            continue;
        }
        // An entry of a list may stand right below its key, as far to the left.
        if entry.starts_with('-') {
            below = indent.saturating_add(1).min(below);
            continue;
        }
        let Some((name, _)) = entry.split_once(':') else {
            continue;
        };
        names.push(name.trim());
        below = indent;
        if indent == 0 {
            break;
        }
    }
    names.reverse();
    names.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_by_indentation() {
        let text = "emit: all\nrings:\n  # x\n  life_bytes: 1\ndirectories:\n  served:\n  - /a\n\
            \x20   \n  cgi:\n    - /b\n  component: [/c]\n";
        for (line, expected) in [
            (1, "emit"),
            (4, "rings.life_bytes"),
            (7, "directories.served"),
            (10, "directories.cgi"),
            (11, "directories.component"),
            (99, "directories.component"),
            (0, ""),
        ] {
            assert_eq!(key_at(text, line), expected, "{line}");
        }
    }
}
