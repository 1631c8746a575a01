//! From the text of a server's configuration to the few statements that matter here.
//!
//! Each parser takes any bytes, gives at most [`MAX_STATEMENTS`] in the order of the text, and never
//! fails: what it does not understand it leaves out. None opens a file; an include is a
//! statement like another. Values may hold `${NAME}` for [`super::scope`] to fill in. Conditions
//! (`<IfModule>`, `$HTTP["host"]`) are taken for true: a directory too many is better than one
//! too few.

use super::scope::Shape;
use super::{Kind, path};

pub mod apache;
pub mod caddy;
pub mod command;
pub mod database;
pub mod gunicorn;
pub mod java;
pub mod lighttpd;
pub mod nginx;
pub mod php;
pub mod uwsgi;

/// Statements at most that one file gives.
pub const MAX_STATEMENTS: usize = 16_384;

/// Words at most that are kept of one directive; those that matter here have three.
const MAX_WORDS: usize = 16;

/// A statement and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Line, counted from one.
    pub line: u32,
    /// What it says.
    pub what: What,
}

/// What a statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A directory is served, or its programs are run.
    Directory {
        /// What it is to the server.
        kind: Kind,
        /// The value, possibly relative.
        path: Vec<u8>,
        /// How it names the directory.
        shape: Shape,
    },
    /// Other files are part of the configuration.
    Include {
        /// A path or glob, possibly relative.
        pattern: Vec<u8>,
        /// Whether there has to be one.
        required: bool,
    },
    /// A variable has a value from here on.
    Define {
        /// Its name.
        name: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// Relative paths are relative to this from here on.
    Base {
        /// The directory.
        path: Vec<u8>,
    },
}

/// The languages that configurations are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// nginx, openresty, tengine.
    Nginx,
    /// Apache's httpd.
    Apache,
    /// lighttpd.
    Lighttpd,
    /// Tomcat's XML.
    Tomcat,
    /// WildFly's XML.
    Wildfly,
    /// Java's properties, of Tomcat and Jetty.
    Properties,
    /// Caddyfile, or Caddy's JSON.
    Caddy,
    /// php-fpm's INI.
    PhpFpm,
    /// `php.ini`.
    PhpIni,
    /// uwsgi's INI, YAML, XML or JSON.
    Uwsgi,
    /// gunicorn's Python.
    Gunicorn,
    /// MySQL's and MariaDB's INI.
    Mysql,
    /// `postgresql.conf`.
    Postgres,
    /// `redis.conf`.
    Redis,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: &[Self] = &[
        Self::Nginx,
        Self::Apache,
        Self::Lighttpd,
        Self::Tomcat,
        Self::Wildfly,
        Self::Properties,
        Self::Caddy,
        Self::PhpFpm,
        Self::PhpIni,
        Self::Uwsgi,
        Self::Gunicorn,
        Self::Mysql,
        Self::Postgres,
        Self::Redis,
    ];

    /// Reads a text.
    #[must_use]
    pub fn parse(self, text: &[u8]) -> Vec<Statement> {
        let mut out = Statements::default();
        match self {
            Self::Nginx => nginx::parse(text, &mut out),
            Self::Apache => apache::parse(text, &mut out),
            Self::Lighttpd => lighttpd::parse(text, &mut out),
            Self::Tomcat => java::tomcat(text, &mut out),
            Self::Wildfly => java::wildfly(text, &mut out),
            Self::Properties => java::properties(text, &mut out),
            Self::Caddy => caddy::parse(text, &mut out),
            Self::PhpFpm => php::parse(text, &mut out),
            Self::PhpIni => php::parse_ini(text, &mut out),
            Self::Uwsgi => uwsgi::parse(text, &mut out),
            Self::Gunicorn => gunicorn::parse(text, &mut out),
            Self::Mysql => database::mysql(text, &mut out),
            Self::Postgres => database::postgres(text, &mut out),
            Self::Redis => database::redis(text, &mut out),
        }
        out.0
    }
}

/// The statements of one file, bounded.
#[derive(Debug, Default)]
pub struct Statements(Vec<Statement>);

impl Statements {
    fn push(&mut self, line: u32, what: What) {
        if self.0.len() < MAX_STATEMENTS {
            self.0.push(Statement { line, what });
        }
    }

    fn directory(&mut self, line: u32, kind: Kind, shape: Shape, path: &[u8]) {
        if !path.is_empty() {
            let path = path.to_vec();
            self.push(line, What::Directory { kind, path, shape });
        }
    }

    fn component(&mut self, line: u32, shape: Shape, path: &[u8]) {
        self.directory(line, Kind::Component, shape, path);
    }

    /// A file that is loaded into the server. Where modules are kept others can be put; elsewhere only the
    /// file itself is known to be one.
    fn module(&mut self, line: u32, file: &[u8]) {
        let directory = path::parent(file);
        let keeps_modules = [b"modules".as_slice(), b"plugins"]
            .iter()
            .any(|word| path::name(directory).ends_with(word));
        let place = if keeps_modules { directory } else { file };
        self.component(line, Shape::Directory, place);
    }

    fn include(&mut self, line: u32, pattern: &[u8], required: bool) {
        if !pattern.is_empty() {
            let pattern = pattern.to_vec();
            self.push(line, What::Include { pattern, required });
        }
    }

    fn define(&mut self, line: u32, name: &[u8], value: &[u8]) {
        let (name, value) = (name.to_vec(), value.to_vec());
        self.push(line, What::Define { name, value });
    }
}

/// The lines of a text with their numbers, without line ends.
fn lines(text: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    (1..).zip(
        text.split(|&byte| byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line)),
    )
}

/// A place in a text that knows its line.
struct Cursor<'a> {
    rest: &'a [u8],
    line: u32,
}

impl<'a> Cursor<'a> {
    const fn new(text: &'a [u8]) -> Self {
        Self {
            rest: text,
            line: 1,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.line = self.line.saturating_add(u32::from(byte == b'\n'));
        Some(byte)
    }

    fn eat(&mut self, prefix: &[u8]) -> bool {
        let eaten = self.rest.starts_with(prefix);
        if eaten {
            self.skip(prefix.len());
        }
        eaten
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.next();
        }
    }

    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| !wanted(byte));
        let (taken, _) = self
            .rest
            .split_at_checked(end.unwrap_or(self.rest.len()))
            .unwrap_or_default();
        self.skip(taken.len());
        taken
    }

    fn skip_line(&mut self) {
        self.skip_while(|byte| byte != b'\n');
    }

    /// Skips to after `end`, or to the end of the text.
    fn skip_past(&mut self, end: &[u8]) {
        while !self.rest.is_empty() && !self.eat(end) {
            self.next();
        }
    }

    /// What stands before the quote that ends a string, with `\` taking away the meaning of the
    /// byte after it where `escapes` says so.
    fn string(&mut self, quote: u8, escapes: impl Fn(u8) -> bool) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(byte) = self.next() {
            if byte == quote {
                break;
            }
            let escaped = self.peek().filter(|&b| byte == b'\\' && escapes(b));
            out.push(escaped.unwrap_or(byte));
            if escaped.is_some() {
                self.next();
            }
        }
        out
    }
}

/// Whether a byte separates words within a line.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c)
}

/// Whether a byte separates words.
const fn is_space(byte: u8) -> bool {
    is_blank(byte) || byte == b'\n'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statements as lines of text: the form that the tests of each dialect compare.
    pub(super) fn shown(dialect: Dialect, text: &str) -> Vec<String> {
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        dialect
            .parse(text.as_bytes())
            .into_iter()
            .map(|statement| {
                let line = statement.line;
                match statement.what {
                    What::Directory { kind, path, shape } => {
                        let shape = match shape {
                            Shape::Directory => "",
                            Shape::Target => "?",
                            Shape::File => "!",
                        };
                        format!("{line} {}{shape} {}", kind.name(), shown(&path))
                    }
                    What::Include { pattern, required } => {
                        let word = if required { "include" } else { "optional" };
                        format!("{line} {word} {}", shown(&pattern))
                    }
                    What::Define { name, value } => {
                        format!("{line} {}={}", shown(&name), shown(&value))
                    }
                    What::Base { path } => format!("{line} base {}", shown(&path)),
                }
            })
            .collect()
    }

    /// xorshift64: enough to make noise, and the same noise each time.
    fn noise(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn noise_never_panics_and_stays_bounded() {
        const SEEDS: &[&[u8]] = &[
            b"http { server { root \"/srv/a\"; include x/*.conf; location / { alias '/b'; } } }\n",
            b"Define A /srv\nDocumentRoot \"${A}/x\"\nScriptAlias /c \\\n /d\n<VirtualHost>\n",
            b"server.document-root = var.a + \"/x\"\nalias.url += ( \"/a\" => \"/b\" )\n",
            b"<Server><!-- x --><Host appBase='w&amp;'><Context docBase=\"/a\"/></Host></Server>",
            b":80 {\n root * {$R:/srv}\n import a/*.caddy\n handle `x` {\n root /y\n}}\n",
            b"[www]\nchdir = /srv\nenv[DOCUMENT_ROOT] = \"/x\"\ninclude=/etc/*.conf\nchroot=/j\n",
            b"[uwsgi]\nbase = /srv\nchdir = %(base)/x\nstatic-map = /s=/srv/s\n<chdir>/y</chdir>\n",
            b"chdir = '/srv/a'  # x\nwsgi_app = \"a:b\"\npythonpath = '/x,/y'\n",
            b"[mysqld]\nplugin-dir=/srv/p\n!includedir /etc/x.d/\ndynamic_library_path = '/a:/b'\n",
            b"loadmodule /srv/m.so x\ninclude /etc/r.conf\nshared.loader=\"${catalina.base}/x\",/y\n",
            b"{\"apps\": {\"http\": {\"root\": \"/srv/a\", \"x\": [1, {\"root\": \"b\"}]}}}\n",
            b"content_by_lua_block { local a = \"}\" -- it's\n } root /z;\n",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for round in 0..3000 {
            let seed = SEEDS[round % SEEDS.len()];
            let mut text = seed.to_vec();
            for _ in 0..=noise(&mut state) % 6 {
                let at = usize::try_from(noise(&mut state)).unwrap() % text.len();
                match noise(&mut state) % 3 {
                    0 => {
                        const SIGNS: &[u8] = b"\"'{}()[]<>\\#;$=\n\0&\xff*";
                        let sign = usize::try_from(noise(&mut state)).unwrap() % SIGNS.len();
                        text[at] = SIGNS[sign];
                    }
                    1 => text.truncate(at + 1),
                    _ => text.extend_from_within(at..),
                }
            }
            for dialect in Dialect::ALL {
                let statements = dialect.parse(&text);
                assert!(statements.len() <= MAX_STATEMENTS);
                let end = lines(&text).count();
                assert!(
                    statements
                        .iter()
                        .all(|s| s.line as usize <= end && s.line > 0)
                );
            }
        }
        let many = b"root /a;\nDocumentRoot /a\n".repeat(MAX_STATEMENTS);
        for dialect in Dialect::ALL {
            assert!(dialect.parse(&many).len() <= MAX_STATEMENTS);
            assert_eq!(dialect.parse(&b"{".repeat(100_000)), []);
            assert_eq!(dialect.parse(&b"<a ".repeat(100_000)), []);
        }
    }
}
