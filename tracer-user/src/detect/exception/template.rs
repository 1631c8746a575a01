//! Words with typed placeholders: `-f<email>`, `/srv/app/cache/<hex>.php`.
//!
//! A placeholder stands for one or more characters of its own alphabet, and none of the alphabets has a blank, a quote
//! or any other character that means something to a shell. There is no placeholder for whatever comes.

use std::fmt;

/// Longest word that a placeholder stands for, bytes.
const LONGEST: usize = 1024;

/// What may stand in the place of a placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `<number>`: digits, at most 20.
    Number,
    /// `<hex>`: hexadecimal digits, at most 128.
    Hex,
    /// `<name>`: letters, digits, `.`, `_` and `-`, the first a letter or digit, no `..`; at most 128.
    Name,
    /// `<email>`: letters, digits and `@._-+=`, the first not `-`: an address, or a user's name; at most 254.
    Email,
    /// `<path-below:/dir>`: an absolute path below that, of letters, digits and `._@+=,:-/`, without `..`.
    PathBelow(Vec<u8>),
}

impl Kind {
    fn parse(word: &str) -> Result<Self, String> {
        match word {
            "number" => Ok(Self::Number),
            "hex" => Ok(Self::Hex),
            "name" => Ok(Self::Name),
            "email" => Ok(Self::Email),
            other => match other.strip_prefix("path-below:") {
                Some(dir) if is_plain_path(dir.as_bytes()) => {
                    Ok(Self::PathBelow(dir.as_bytes().to_vec()))
                }
                Some(dir) => Err(format!(
                    "<path-below:{dir}> wants an absolute directory without `..` and without a slash at its end"
                )),
                None => Err(format!(
                    "<{other}> is no placeholder; there are <number>, <hex>, <name>, <email> and <path-below:/dir>"
                )),
            },
        }
    }

    /// Whether the whole of a text may stand for it.
    fn takes(&self, text: &[u8]) -> bool {
        let all = |most: usize, others: &[u8]| {
            !text.is_empty()
                && text.len() <= most
                && text
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || others.contains(byte))
        };
        let first = |is: fn(&u8) -> bool| text.first().is_some_and(is);
        match self {
            Self::Number => all(20, b"") && text.iter().all(u8::is_ascii_digit),
            Self::Hex => all(128, b"") && text.iter().all(u8::is_ascii_hexdigit),
            Self::Name => {
                all(128, b"._-")
                    && first(u8::is_ascii_alphanumeric)
                    && !text.windows(2).any(|pair| pair == b"..")
            }
            Self::Email => all(254, b"@._-+=") && !text.starts_with(b"-"),
            Self::PathBelow(dir) => {
                all(LONGEST, b"._@+=,:-/")
                    && text
                        .strip_prefix(dir.as_slice())
                        .and_then(|rest| rest.strip_prefix(b"/"))
                        .is_some_and(|rest| rest.split(|&byte| byte == b'/').all(is_plain_part))
            }
        }
    }
}

fn is_plain_part(part: &[u8]) -> bool {
    !part.is_empty() && part != b"." && part != b".."
}

/// Whether a path is absolute and the shortest way to say it.
pub(super) fn is_plain_path(path: &[u8]) -> bool {
    path.strip_prefix(b"/")
        .is_some_and(|rest| rest.split(|&byte| byte == b'/').all(is_plain_part))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Exact(Vec<u8>),
    Any(Kind),
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    text: String,
    pub(super) parts: Vec<Part>,
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Template {
    /// Reads one. `<<` stands for `<` itself.
    ///
    /// # Errors
    ///
    /// It has a placeholder that is none, or two without a character between them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut exact = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('<') {
            exact.extend_from_slice(before.as_bytes());
            if let Some(after) = after.strip_prefix('<') {
                exact.push(b'<');
                rest = after;
                continue;
            }
            let Some((word, after)) = after.split_once('>') else {
                return Err(format!(
                    "`{text}` has a `<` without a `>`; write `<<` for the character itself"
                ));
            };
            let kind = Kind::parse(word)?;
            if !exact.is_empty() {
                parts.push(Part::Exact(std::mem::take(&mut exact)));
            } else if matches!(parts.last(), Some(Part::Any(_))) {
                return Err(format!(
                    "`{text}` has two placeholders without a character between them"
                ));
            }
            parts.push(Part::Any(kind));
            rest = after;
        }
        exact.extend_from_slice(rest.as_bytes());
        if !exact.is_empty() || parts.is_empty() {
            parts.push(Part::Exact(exact));
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }

    /// The text itself, whatever it holds.
    #[must_use]
    pub fn exactly(text: &[u8]) -> Self {
        Self {
            text: String::from_utf8_lossy(text).replace('<', "<<"),
            parts: vec![Part::Exact(text.to_vec())],
        }
    }

    /// The text, where there is no placeholder.
    #[must_use]
    pub fn exact(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [Part::Exact(text)] => Some(text),
            _ => None,
        }
    }

    /// What it begins with, up to the first placeholder.
    #[must_use]
    pub fn beginning(&self) -> &[u8] {
        match self.parts.first() {
            Some(Part::Exact(text)) => text,
            Some(Part::Any(Kind::PathBelow(dir))) => dir,
            Some(Part::Any(_)) | None => b"",
        }
    }

    /// Its placeholders.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.parts.iter().filter_map(|part| match part {
            Part::Any(kind) => Some(kind),
            Part::Exact(_) => None,
        })
    }

    /// Whether a word is one of those that it stands for.
    #[must_use]
    pub fn matches(&self, word: &[u8]) -> bool {
        if let Some(text) = self.exact() {
            return text == word;
        }
        // The places up to which the parts so far may reach.
        let mut ends = vec![0];
        for part in &self.parts {
            let mut next = Vec::new();
            for from in ends {
                let rest = word.get(from..).unwrap_or_default();
                match part {
                    Part::Exact(text) if rest.starts_with(text) => next.push(from + text.len()),
                    Part::Exact(_) => {}
                    Part::Any(kind) => {
                        let most = rest.len().min(LONGEST);
                        let fits =
                            |len: &usize| rest.get(..*len).is_some_and(|text| kind.takes(text));
                        next.extend((1..=most).filter(fits).map(|len| from + len));
                    }
                }
            }
            next.sort_unstable();
            next.dedup();
            ends = next;
        }
        ends.contains(&word.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_template_stands_for() {
        for (template, yes, no) in [
            ("-t", &["-t"][..], &["-tt", "", "-"][..]),
            (
                "-f<email>",
                &["-fa@b.example", "-fwww-data"],
                &["-f", "-fa b", "-f$(id)", "-fa;b", "-f--x"],
            ),
            ("<number>", &["0", "4711"], &["", "-1", "0x", "1 ", "1\n"]),
            (
                "<hex>_<number>.php",
                &["ab0_12.php"],
                &["ag_1.php", "_1.php", "ab_1.php5"],
            ),
            (
                "x<name>",
                &["xa", "xa.b-c"],
                &["x", "x-a", "x..", "xa..b", "xa/b"],
            ),
            (
                "<path-below:/srv/a>",
                &["/srv/a/b", "/srv/a/b/c.png"],
                &[
                    "/srv/a",
                    "/srv/a/",
                    "/srv/ab",
                    "/srv/a/../b",
                    "/srv/a/b c",
                    "/srv/a//b",
                ],
            ),
            ("a<<b", &["a<b"], &["a<<b"]),
        ] {
            let template = Template::parse(template).unwrap();
            for word in yes {
                assert!(template.matches(word.as_bytes()), "{template}: {word}");
            }
            for word in no {
                assert!(!template.matches(word.as_bytes()), "{template}: {word}");
            }
        }
    }

    #[test]
    fn what_is_none() {
        for (text, word) in [
            ("<any>", "<any> is no placeholder"),
            ("<name", "without a `>`"),
            ("<name><hex>", "two placeholders"),
            ("<path-below:../x>", "absolute directory"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
