//! Caddyfile: `root`, also within `file_server` and `php_fastcgi`, and `import`.

use super::{Cursor, MAX_WORDS, Statements, is_blank};
use crate::enrich::docroot::{Kind, path, scope::Shape};

pub(super) fn parse(text: &[u8], out: &mut Statements) {
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
            ("root * /srv/f#g # note", vec!["1 served /srv/f#g"]),
        ] {
            assert_eq!(shown(Dialect::Caddy, text), expected, "{text}");
        }
    }
}
