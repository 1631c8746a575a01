//! Rust source without its comments and literals, so that a check sees code and nothing else.
//!
//! A lexer of exactly what can hide code: comments, strings, raw strings and characters. It
//! understands no syntax beyond that.

/// The code of a Rust source, line by line: comments and the insides of literals are blanked.
pub(super) fn code_lines(source: &str) -> Vec<String> {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let hidden = hidden_length(rest, code.chars().next_back());
        if hidden == 0 {
            code.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        } else {
            let (blank, after) = rest.split_at_checked(hidden).unwrap_or((rest, ""));
            code.extend(blank.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = after;
        }
    }
    code.lines().map(str::to_owned).collect()
}

/// How many bytes from here belong to a comment or literal; 0 where code goes on.
fn hidden_length(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if in_word {
        return 0;
    }
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix("cr"));
    raw.or_else(|| rest.strip_prefix('r'))
        .map_or(0, |raw| match raw_string(raw) {
            0 => 0,
            length => rest.len() - raw.len() + length,
        })
}

/// Rust's block comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..).filter(|tail| !tail.is_empty()) {
        if tail.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if tail.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// A literal up to its closing quote, stepping over escapes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// A character literal; 0 for the quote of a lifetime, which stays code.
fn character(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(rest, '\''),
        _ => 0,
    }
}

/// `#*"…"#*` after the `r`; 0 where there is no raw string.
fn raw_string(raw: &str) -> usize {
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let Some(body) = raw.get(hashes..).and_then(|tail| tail.strip_prefix('"')) else {
        return 0;
    };
    let end = format!("\"{}", "#".repeat(hashes));
    match body.find(&end) {
        Some(at) => hashes + 1 + at + end.len(),
        None => raw.len(),
    }
}

/// Whether a line of code holds a path such as `std::fs` or an identifier, as whole words.
pub(super) fn names(code: &str, path: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(path).any(|(at, _)| {
        let before = code.get(..at).and_then(|text| text.chars().next_back());
        let after = code
            .get(at + path.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(word) && !after.is_some_and(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str) -> String {
        let lines = code_lines(source);
        assert_eq!(
            lines.len(),
            source.lines().count(),
            "lines keep their numbers: {source}"
        );
        lines
            .join("\n")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn comments_and_literals_are_blanked_and_code_stays() {
        for (source, expected) in [
            ("a(); // std::fs\nb();", "a(); b();"),
            ("//! aya\nuse x;", "use x;"),
            ("a(/* one /* two */ still */ b)", "a( b)"),
            ("f(\"std::fs // no\", g)", "f( , g)"),
            ("f(\"a \\\" b\", g)", "f( , g)"),
            ("f(\"one\ntwo\", g)", "f( , g)"),
            ("f(r#\"aya \" aya\"#, g)", "f( , g)"),
            ("f(br\"\\\", g)", "f( , g)"),
            ("f(r##\"x\"# y\"##, g)", "f( , g)"),
            ("x == '\"' || y == '\\'' || z", "x == || y == || z"),
            (
                "fn f<'a>(x: &'a str) -> &'static T",
                "fn f<'a>(x: &'a str) -> &'static T",
            ),
            (
                "'outer: loop { break 'outer; }",
                "'outer: loop { break 'outer; }",
            ),
            ("for r in her { bar(\"x\") }", "for r in her { bar( ) }"),
            ("r#type", "r#type"),
            ("\"never closed", ""),
            ("é(\"ü\") // ö", "é( )"),
        ] {
            assert_eq!(code(source), expected, "{source}");
        }
    }

    #[test]
    fn names_are_whole_words() {
        assert!(names("use aya::maps;", "aya"));
        assert!(names("fn f(x: std::fs::File)", "std::fs"));
        assert!(!names("let himalaya = 1;", "aya"));
        assert!(!names("aya_log::init()", "aya"));
        assert!(!names("InstantNoodle", "Instant"));
    }
}
