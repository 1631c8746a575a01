//! Caddyfile: `root`, also within `file_server` and `php_fastcgi`, `import`, and FrankenPHP's `worker`; and
//! Caddy's own JSON, whose members `root` are the same wherever a handler has them.

use super::{Cursor, MAX_WORDS, Statements, is_blank, is_space};
use crate::enrich::docroot::{Kind, path, scope::Shape};

/// Levels of JSON that are told apart.
const MAX_DEPTH: usize = 128;

pub(super) fn parse(text: &[u8], out: &mut Statements) {
    let start = text.trim_ascii_start();
    // A block of global options begins with a brace, too.
    let inside = start.strip_prefix(b"{").unwrap_or_default();
    let inside = inside.trim_ascii_start();
    if inside.starts_with(b"\"") || (inside.starts_with(b"}") && inside.len() == 1) {
        json(text, out);
    } else {
        caddyfile(text, out);
    }
}

/// Reads strings and braces only: what is wrong in between does no harm.
fn json(text: &[u8], out: &mut Statements) {
    let mut cursor = Cursor::new(text);
    // The names of the members that are open.
    let mut inside: Vec<Vec<u8>> = Vec::new();
    let mut name: Vec<u8> = Vec::new();
    loop {
        cursor.skip_while(is_space);
        let line = cursor.line;
        match cursor.next() {
            None => return,
            Some(b'{' | b'[') => {
                if inside.len() >= MAX_DEPTH {
                    return;
                }
                inside.push(name.clone());
            }
            Some(b'}' | b']') => name = inside.pop().unwrap_or_default(),
            Some(b'"') => {
                let value = cursor.string(b'"', |byte| matches!(byte, b'"' | b'\\' | b'/'));
                cursor.skip_while(is_space);
                if cursor.eat(b":") {
                    name = value;
                    continue;
                }
                // Certificates have roots, and stores of files.
                let is_other = |name: &Vec<u8>| {
                    matches!(name.as_slice(), b"storage" | b"pki" | b"tls" | b"admin")
                };
                if name == b"root" && !inside.iter().any(is_other) {
                    out.directory(line, Kind::Served, Shape::Directory, &template(&value));
                }
            }
            Some(_) => {}
        }
    }
}

fn caddyfile(text: &[u8], out: &mut Statements) {
    let mut cursor = Cursor::new(text);
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut line = 1;
    loop {
        cursor.skip_while(is_blank);
        match cursor.peek() {
            None => {
                directive(&words, line, out);
                return;
            }
            Some(b'\n') => {
                cursor.next();
                directive(&words, line, out);
                words.clear();
                line = cursor.line;
            }
            // A comment begins a word; within one, `#` is part of it.
            Some(b'#') => cursor.skip_line(),
            Some(b'\\') if cursor.eat(b"\\\n") || cursor.eat(b"\\\r\n") => {}
            Some(quote @ (b'"' | b'`')) => {
                cursor.next();
                let escapes = |byte| quote == b'"' && byte == b'"';
                push(&mut words, cursor.string(quote, escapes));
            }
            Some(_) => {
                let word = cursor.take_while(|byte| !is_blank(byte) && byte != b'\n');
                // A block in one line: `handle { root /srv }`.
                if word == b"{" || word == b"}" {
                    directive(&words, line, out);
                    words.clear();
                    line = cursor.line;
                } else {
                    push(&mut words, word.to_vec());
                }
            }
        }
    }
}

fn push(words: &mut Vec<Vec<u8>>, word: Vec<u8>) {
    if words.len() < MAX_WORDS {
        words.push(word);
    }
}

fn directive(words: &[Vec<u8>], line: u32, out: &mut Statements) {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    match words.as_slice() {
        // `root [<matcher>] <path>`
        [b"root", path] | [b"root", _, path] => {
            out.directory(line, Kind::Served, Shape::Directory, &template(path));
        }
        [b"worker" | b"file", file] | [b"worker", file, _] if file.ends_with(b".php") => {
            out.directory(line, Kind::Served, Shape::File, &template(file));
        }
        // The name of a snippet looks the same as that of a file; a missing file is no mistake.
        [b"import", pattern, ..] => out.include(line, &template(pattern), false),
        _ => {}
    }
}

/// `{$NAME:default}` is the environment, which a scope knows as `${NAME:default}`; any other
/// placeholder is decided by the request.
fn template(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut cursor = Cursor::new(value);
    while let Some(byte) = cursor.next() {
        if byte == b'{' && cursor.eat(b"$") {
            out.extend_from_slice(b"${");
            out.extend_from_slice(cursor.take_while(|byte| byte != b'}'));
            cursor.next();
            out.push(b'}');
        } else if byte == b'{' {
            cursor.skip_past(b"}");
            out.push(PLACEHOLDER);
        } else {
            out.push(byte);
        }
    }
    path::wild(&out, PLACEHOLDER)
}

/// A control character that no path in a configuration has.
const PLACEHOLDER: u8 = 1;

#[cfg(test)]
mod tests {
    use crate::enrich::docroot::parse::{Dialect, tests::shown};

    #[test]
    fn the_configuration_that_debian_ships() {
        let text = "# The Caddyfile is an easy way to configure your Caddy web server.\n\
            :80 {\n\t# Set this path to your site's directory.\n\troot * /usr/share/caddy\n\n\
            \t# Enable the static file server.\n\tfile_server\n\n\
            \t# reverse_proxy localhost:8080\n}\n";
        assert_eq!(shown(Dialect::Caddy, text), ["4 served /usr/share/caddy"]);
    }

    #[test]
    fn matchers_blocks_environment_and_imports() {
        for (text, expected) in [
            ("root /srv/a", vec!["1 served /srv/a"]),
            ("root @php \"/srv/my app\"", vec!["1 served /srv/my app"]),
            ("root * `/srv/b`", vec!["1 served /srv/b"]),
            (
                "root * {$SITE:/srv/dflt}/public",
                vec!["1 served ${SITE:/srv/dflt}/public"],
            ),
            ("root * /srv/{host}/www", vec!["1 served /srv/*/www"]),
            ("file_server {\n root /srv/c\n}", vec!["2 served /srv/c"]),
            ("handle { root * /srv/d }", vec!["1 served /srv/d"]),
            (
                "import sites/*.caddy\nimport common arg",
                vec!["1 optional sites/*.caddy", "2 optional common"],
            ),
            ("root * \\\n /srv/e", vec!["1 served /srv/e"]),
            ("try_files root /no\nrootx /no\nroot\nroot a b c", vec![]),
            (
                "{\n frankenphp {\n worker /srv/p/index.php 4\n }\n}",
                vec!["3 served! /srv/p/index.php"],
            ),
            ("root * /srv/f#g # note", vec!["1 served /srv/f#g"]),
        ] {
            assert_eq!(shown(Dialect::Caddy, text), expected, "{text}");
        }
    }

    #[test]
    fn json_as_caddy_adapts_it() {
        let text = r#"{
 "admin": {"listen": "localhost:2019", "root": "/no"},
 "storage": {"module": "file_system", "root": "/no"},
 "apps": {"http": {"servers": {"srv0": {"listen": [":80"], "routes": [
  {"handle": [{"handler": "vars", "root": "\/srv\/a"},
   {"handler": "subroute", "routes": [{"handle": [{"handler": "file_server", "root": "/srv/{http.request.host}/b",
    "hide": ["./Caddyfile", "root"]}]}]},
   {"handler": "reverse_proxy", "transport": {"protocol": "fastcgi", "root": "{env.X}/c", "split_path": [".php"]}}]}]}}},
  "pki": {"certificate_authorities": {"local": {"root": {"certificate": "/no"}}}}}}"#;
        assert_eq!(
            shown(Dialect::Caddy, text),
            ["5 served /srv/a", "6 served /srv/*/b", "8 served */c"]
        );
        for text in [
            "{\"root\"",
            "{\"root\":",
            "{\"root\": \"",
            "{\"a\": {}}}]\"root\":1",
        ] {
            assert_eq!(shown(Dialect::Caddy, text), [""; 0], "{text}");
        }
        let cut = shown(Dialect::Caddy, "{\"root\": \"/cut");
        assert_eq!(cut, ["1 served /cut"]);
    }
}
