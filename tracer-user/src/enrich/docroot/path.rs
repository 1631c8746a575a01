//! Paths as bytes, without asking any file system.

/// Longest path that is kept: `PATH_MAX` (linux/limits.h).
pub const MAX_BYTES: usize = 4096;

/// Most segments of a path that is kept. Ordinary hosts stay below 20.
pub const MAX_SEGMENTS: usize = 64;

/// The segments of a path, without empty ones.
pub fn segments(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|s| !s.is_empty())
}

/// The path without `.`, `..` and doubled slashes; `None` where it is not absolute, too long or has
/// a NUL.
#[must_use]
pub fn normalise(path: &[u8]) -> Option<Vec<u8>> {
    if !path.starts_with(b"/") || path.len() > MAX_BYTES || path.contains(&0) {
        return None;
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for segment in segments(path) {
        match segment {
            b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(segment),
        }
    }
    if parts.len() > MAX_SEGMENTS {
        return None;
    }
    let mut out = Vec::with_capacity(path.len());
    for part in parts {
        out.push(b'/');
        out.extend_from_slice(part);
    }
    if out.is_empty() {
        out.push(b'/');
    }
    Some(out)
}

/// `path` seen from the directory `base`; an absolute path stays. Not normalised.
#[must_use]
pub fn join(base: &[u8], path: &[u8]) -> Vec<u8> {
    if path.starts_with(b"/") {
        return path.to_vec();
    }
    let mut out = base.to_vec();
    if !out.ends_with(b"/") {
        out.push(b'/');
    }
    out.extend_from_slice(path);
    out
}

/// The directory of a path; `/` for a file of the root and for a bare name.
#[must_use]
pub fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) if at > 0 => path.get(..at).unwrap_or(b"/"),
        _ => b"/",
    }
}

/// Whether a path is a directory or lies in it.
#[must_use]
pub fn is_within(path: &[u8], directory: &[u8]) -> bool {
    let rest = path.strip_prefix(directory);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || directory == b"/")
}

/// The last segment of a path.
#[must_use]
pub fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// Replaces every segment that holds `marker` with `*`.
#[must_use]
pub fn wild(path: &[u8], marker: u8) -> Vec<u8> {
    path.split(|&byte| byte == b'/')
        .map(|segment| {
            if segment.contains(&marker) {
                b"*"
            } else {
                segment
            }
        })
        .collect::<Vec<_>>()
        .join(&b'/')
}

/// Whether a name fits one segment of a glob: `*`, `?`, `[a-z]`, `[!a]` and `\` as in glob(7). A
/// leading dot has to be asked for.
#[must_use]
pub fn glob(pattern: &[u8], name: &[u8]) -> bool {
    if name.starts_with(b".") && !pattern.starts_with(b".") {
        return false;
    }
    let (mut rest, mut left) = (pattern, name);
    // Where to take up again when a later part does not fit: after the last `*`, one byte on.
    let mut again: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some(after) = rest.strip_prefix(b"*") {
            again = Some((after, left));
            rest = after;
            continue;
        }
        if let Some((&byte, tail)) = left.split_first() {
            if let Some(after) = glob_one(rest, byte) {
                (rest, left) = (after, tail);
                continue;
            }
        } else if rest.is_empty() {
            return true;
        }
        match again {
            Some((after, from)) if !from.is_empty() => {
                let from = from.get(1..).unwrap_or_default();
                again = Some((after, from));
                (rest, left) = (after, from);
            }
            _ => return false,
        }
    }
}

/// Takes one element of a pattern that fits `byte` and gives what comes after it.
fn glob_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (&first, rest) = pattern.split_first()?;
    match first {
        b'?' => Some(rest),
        b'\\' => match rest.split_first() {
            Some((&escaped, rest)) => (escaped == byte).then_some(rest),
            None => (byte == b'\\').then_some(rest),
        },
        b'[' => {
            let (negated, set) = match rest.split_first() {
                Some((b'!' | b'^', set)) => (true, set),
                _ => (false, rest),
            };
            // A bracket right at the start is a member; without a closing one, `[` is itself.
            let Some(end) = set.iter().skip(1).position(|&b| b == b']') else {
                return (byte == b'[').then_some(rest);
            };
            let (members, after) = set.split_at_checked(end + 1)?;
            let mut found = false;
            let mut left = members;
            while let Some((&low, tail)) = left.split_first() {
                if let [b'-', high, tail @ ..] = tail {
                    found |= (low..=*high).contains(&byte);
                    left = tail;
                } else {
                    found |= low == byte;
                    left = tail;
                }
            }
            (found != negated).then(|| after.get(1..).unwrap_or_default())
        }
        _ => (first == byte).then_some(rest),
    }
}

/// Whether a pattern needs a directory listing.
#[must_use]
pub fn is_glob(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| b"*?[".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalise_removes_what_says_nothing() {
        for (path, expected) in [
            ("/", Some("/")),
            ("/a//b/./c/", Some("/a/b/c")),
            ("/a/../../b", Some("/b")),
            ("/..", Some("/")),
            ("a/b", None),
            ("", None),
            ("/a\0b", None),
        ] {
            let expected = expected.map(|e| e.as_bytes().to_vec());
            assert_eq!(normalise(path.as_bytes()), expected, "{path:?}");
        }
        assert_eq!(normalise(&[b"/".as_slice(), &[b'a'; 4096]].concat()), None);
        assert_eq!(normalise(&b"/a".repeat(65)), None);
    }

    #[test]
    fn glob_is_that_of_the_shell() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("*.conf", ".a.conf", false),
            (".*", ".a", true),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[0-9][!0-9]*", "1x-site", true),
            ("[0-9][!0-9]*", "12-site", false),
            ("[]a]", "]", true),
            ("[a", "[a", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*a*b*c*", "xxaxxcxxbxx", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
        // A pattern made to be slow is not.
        let pattern = b"*a".repeat(500);
        assert!(!glob(&pattern, &[b'a'; 255]));
    }

    #[test]
    fn wild_turns_whole_segments() {
        assert_eq!(wild(b"/srv/%0/www/v%-1x", b'%'), b"/srv/*/www/*");
    }
}
