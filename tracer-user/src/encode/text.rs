//! Text of traced processes, made safe to show. Nothing here loses a byte silently: what JSON
//! cannot hold is reported to the caller, and what a terminal must not see is spelled out.

use std::io::Write;

/// Whether a character ends a line, steers a terminal, reorders text or hides it: control
/// characters (C0, DEL, C1), line and paragraph separators, bidirectional controls (UAX #9),
/// zero-width and tag characters.
pub(super) const fn is_hostile(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f'
        | '\x7f'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// Writes a JSON string. Returns whether bytes that are not UTF-8 became U+FFFD.
pub(super) fn json_bytes(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let mut lossy = false;
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        json_text(chunk.valid(), out);
        if !chunk.invalid().is_empty() {
            lossy = true;
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
    lossy
}

/// Writes a JSON string.
pub(super) fn json_str(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    json_text(text, out);
    out.push(b'"');
}

/// Writes the inside of a JSON string. Escapes more than JSON asks for, so that a line that is
/// shown on a terminal or split by a reader with its own idea of a line end stays harmless.
fn json_text(text: &str, out: &mut Vec<u8>) {
    let mut written = 0;
    for (at, c) in text.char_indices() {
        if c != '"' && c != '\\' && !is_hostile(c) {
            continue;
        }
        out.extend_from_slice(text.as_bytes().get(written..at).unwrap_or_default());
        written = at + c.len_utf8();
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    put(out, format_args!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.extend_from_slice(text.as_bytes().get(written..).unwrap_or_default());
}

/// Writes bytes for a person: unambiguous, on one line, without effect on a terminal. A backslash
/// is doubled, so that what looks like an escape is one.
pub(super) fn visible(bytes: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                out.push_str("\\\\");
            } else {
                visible_char(c, out);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
}

/// Writes our own prose, which may quote a process: as [`visible`], but a backslash stays one.
pub(super) fn visible_prose(text: &str, out: &mut String) {
    for c in text.chars() {
        visible_char(c, out);
    }
}

fn visible_char(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\x1f' | '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
        c if is_hostile(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
        c => out.push(c),
    }
}

/// Writes one argument of a command line, quoted where a reader could not tell where it ends.
pub(super) fn quoted(argument: &[u8], out: &mut String) {
    let plain = !argument.is_empty()
        && argument.iter().all(|byte| {
            byte.is_ascii_alphanumeric() || b"-_./:=@%+,~".contains(byte) || *byte >= 0x80
        });
    if plain {
        visible(argument, out);
        return;
    }
    out.push('\'');
    for (index, part) in argument.split(|&byte| byte == b'\'').enumerate() {
        if index > 0 {
            out.push_str("'\\''");
        }
        visible(part, out);
    }
    out.push('\'');
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push_str(&format!("{byte:02x}"));
    }
    out
}

/// Formats into a buffer in memory, which cannot fail.
pub(super) fn put(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(arguments);
    debug_assert!(written.is_ok(), "a Vec takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &[u8] =
        b"a\"\\\n\r\t\0\x1b[31m\x7f \xc2\x9b \xe2\x80\xae \xe2\x80\xa8 \xf3\xa0\x80\x81 \xff\xfe z";

    #[test]
    fn json_holds_hostile_text_and_says_what_it_lost() {
        let mut out = Vec::new();
        assert!(json_bytes(HOSTILE, &mut out));
        let text = String::from_utf8(out).unwrap();
        assert!(!text.chars().any(is_hostile), "{text}");
        let back: String = serde_json::from_str(&text).unwrap();
        assert_eq!(back, String::from_utf8_lossy(HOSTILE));
        assert!(!json_bytes(
            "päth \u{fffd} \u{202e}".as_bytes(),
            &mut Vec::new()
        ));
    }

    #[test]
    fn text_for_people_is_one_harmless_line() {
        for (bytes, expected) in [
            (&b"/var/www"[..], "/var/www"),
            (b"a\nb", "a\\nb"),
            (b"a\\nb", "a\\\\nb"),
            (b"\x1b]0;x\x07", "\\x1b]0;x\\x07"),
            (b"\xff", "\\xff"),
            ("\u{202e}gnp.php".as_bytes(), "\\u{202e}gnp.php"),
            ("ü→".as_bytes(), "ü→"),
        ] {
            let mut out = String::new();
            visible(bytes, &mut out);
            assert_eq!(out, expected);
        }
        let mut out = String::new();
        visible(HOSTILE, &mut out);
        assert!(!out.chars().any(is_hostile), "{out}");
    }

    #[test]
    fn arguments_are_quoted_where_needed() {
        for (bytes, expected) in [
            (&b"-c"[..], "-c"),
            (b"", "''"),
            (b"id; ls", "'id; ls'"),
            (b"it's", "'it'\\''s'"),
            (b"a\nb", "'a\\nb'"),
        ] {
            let mut out = String::new();
            quoted(bytes, &mut out);
            assert_eq!(out, expected);
        }
    }
}
