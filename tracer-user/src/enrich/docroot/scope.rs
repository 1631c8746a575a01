//! Variables of a configuration, and what its relative paths are relative to.

use std::collections::HashMap;

use super::path;

/// Variables at most.
const MAX_VARIABLES: usize = 1024;

/// Stands for a part of a path that only a request decides.
const UNKNOWN: u8 = 0;

/// How far a directive's value names a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The directory itself.
    Directory,
    /// A directory, unless the last segment depends on the request: then that is a file in it.
    Target,
    /// A file in the directory.
    File,
}

/// The variables known at a point of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    variables: HashMap<Vec<u8>, Vec<u8>>,
    /// Unknown variables are parts of the request (nginx), not mistakes.
    lenient: bool,
}

impl Scope {
    /// An empty scope. A `lenient` one takes unknown variables for parts of the request.
    #[must_use]
    pub fn new(lenient: bool) -> Self {
        Self {
            variables: HashMap::new(),
            lenient,
        }
    }

    /// Sets a variable to a value that may itself name variables.
    pub fn define(&mut self, name: &[u8], value: &[u8]) {
        let Ok(value) = self.expand(value) else {
            return;
        };
        let full = self.variables.len() >= MAX_VARIABLES && !self.variables.contains_key(name);
        if !full && name.len() <= 256 && value.len() <= path::MAX_BYTES {
            self.variables.insert(name.to_vec(), value);
        }
    }

    /// Sets a variable to a value as it stands.
    pub fn define_literal(&mut self, name: &[u8], value: &[u8]) {
        if self.variables.len() < MAX_VARIABLES && value.len() <= path::MAX_BYTES {
            self.variables.insert(name.to_vec(), value.to_vec());
        }
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.variables.get(name).map(Vec::as_slice)
    }

    /// Replaces `${NAME}` and `${NAME:default}`.
    ///
    /// # Errors
    ///
    /// The name of the first variable that is not known, unless the scope is lenient.
    pub fn expand(&self, template: &[u8]) -> Result<Vec<u8>, Vec<u8>> {
        let mut out = Vec::with_capacity(template.len());
        let mut rest = template;
        while let Some((&byte, tail)) = rest.split_first() {
            let reference = tail.strip_prefix(b"{").filter(|_| byte == b'$');
            let end = reference.and_then(|r| r.iter().position(|&b| b == b'}'));
            let Some((inside, after)) = reference
                .zip(end)
                .and_then(|(reference, end)| reference.split_at_checked(end))
            else {
                out.push(byte);
                rest = tail;
                continue;
            };
            let mut parts = inside.splitn(2, |&b| b == b':');
            let name = parts.next().unwrap_or(inside);
            let default = parts.next().map(|d| d.strip_prefix(b"-").unwrap_or(d));
            match (self.variables.get(name).map(Vec::as_slice), default) {
                (Some(value), _) | (None, Some(value)) => out.extend_from_slice(value),
                (None, None) if self.lenient => out.push(UNKNOWN),
                (None, None) => return Err(name.to_vec()),
            }
            rest = after.strip_prefix(b"}").unwrap_or(after);
            if out.len() > path::MAX_BYTES {
                return Ok(Vec::new());
            }
        }
        Ok(out)
    }

    /// The directory that a value names, possibly relative; `None` where only a request decides.
    ///
    /// # Errors
    ///
    /// As [`Self::expand`].
    pub fn directory(&self, template: &[u8], shape: Shape) -> Result<Option<Vec<u8>>, Vec<u8>> {
        // A NUL in the text would pass for an unknown variable; no path has one.
        if template.contains(&UNKNOWN) {
            return Ok(None);
        }
        let expanded = self.expand(template)?;
        let mut value = expanded.as_slice();
        while value.len() > 1 && value.ends_with(b"/") && shape != Shape::File {
            value = value.get(..value.len() - 1).unwrap_or_default();
        }
        let in_request = path::name(value).contains(&UNKNOWN);
        if shape == Shape::File || (shape == Shape::Target && in_request) {
            let Some(at) = value.iter().rposition(|&byte| byte == b'/') else {
                return Ok(None);
            };
            value = value.get(..at).unwrap_or_default();
        }
        let first = path::segments(value).next();
        if first.is_none_or(|first| first.contains(&UNKNOWN)) {
            return Ok((value == b"/").then(|| value.to_vec()));
        }
        Ok(Some(path::wild(value, UNKNOWN)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_request_become_any_segment() {
        let mut scope = Scope::new(true);
        scope.define(b"app", b"/srv/app");
        scope.define(b"sub", b"${app}/sub");
        for (template, shape, expected) in [
            ("/srv/www", Shape::Directory, Some("/srv/www")),
            ("/srv/www/", Shape::Directory, Some("/srv/www")),
            ("${app}/public", Shape::Directory, Some("/srv/app/public")),
            ("${sub}/x", Shape::Directory, Some("/srv/app/sub/x")),
            (
                "/srv/${host}/public",
                Shape::Directory,
                Some("/srv/*/public"),
            ),
            ("/srv/v-${host}", Shape::Directory, Some("/srv/*")),
            ("${document_root}", Shape::Directory, None),
            ("${document_root}/x", Shape::Directory, None),
            ("/srv/files/${1}", Shape::Target, Some("/srv/files")),
            ("/srv/${1}/files", Shape::Target, Some("/srv/*/files")),
            (
                "/srv/app/${fastcgi_script_name}",
                Shape::File,
                Some("/srv/app"),
            ),
            ("/srv/app/index.php", Shape::File, Some("/srv/app")),
            ("${document_root}/${fastcgi_script_name}", Shape::File, None),
            ("/${1}", Shape::Target, None),
            ("html", Shape::Directory, Some("html")),
            ("${x:/dflt}/a", Shape::Directory, Some("/dflt/a")),
            ("/a\0b", Shape::Directory, None),
            ("/", Shape::Directory, Some("/")),
            ("", Shape::Directory, None),
            ("/a${", Shape::Directory, Some("/a${")),
        ] {
            let found = scope.directory(template.as_bytes(), shape);
            let expected = expected.map(|e| e.as_bytes().to_vec());
            assert_eq!(found, Ok(expected), "{template} {shape:?}");
        }
    }

    #[test]
    fn a_strict_scope_names_what_it_does_not_know() {
        let scope = Scope::new(false);
        assert_eq!(
            scope.directory(b"${ROOT}/x", Shape::Directory),
            Err(b"ROOT".to_vec())
        );
        assert_eq!(scope.expand(b"a${B:c}d"), Ok(b"acd".to_vec()));
    }

    #[test]
    fn growth_is_bounded() {
        let mut scope = Scope::new(false);
        scope.define(b"x", &[b'a'; 4000]);
        scope.define(b"y", b"${x}${x}${x}");
        assert_eq!(scope.expand(b"${y}"), Ok(Vec::new()));
        for i in 0..2000_u32 {
            scope.define(&i.to_le_bytes(), b"v");
        }
        assert!(scope.variables.len() <= MAX_VARIABLES);
    }
}
