//! gunicorn's configuration is Python, which is not run: only `name = "text"` at the begin of a line
//! counts, for `chdir`, `pythonpath` and `wsgi_app`.

use super::{Cursor, Statements, What, is_blank};
use crate::enrich::docroot::{Kind, scope::Shape};

pub(super) fn parse(text: &[u8], out: &mut Statements) {
    let mut cursor = Cursor::new(text);
    while !cursor.rest.is_empty() {
        let line = cursor.line;
        let name = cursor.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        cursor.skip_while(is_blank);
        let text = if !name.is_empty() && cursor.eat(b"=") {
            literal(&mut cursor)
        } else {
            skip_text(&mut cursor);
            None
        };
        if let Some(text) = text {
            match name {
                b"chdir" => {
                    out.directory(line, Kind::Application, Shape::Directory, &text);
                    out.push(line, What::Base { path: text });
                }
                b"pythonpath" => {
                    for path in text.split(|&byte| byte == b',') {
                        out.directory(line, Kind::Application, Shape::Directory, path);
                    }
                }
                b"wsgi_app" => out.define(line, name, &text),
                _ => {}
            }
        }
        cursor.skip_line();
        cursor.next();
    }
}

/// A string that stands alone: what is computed is not known.
fn literal(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    cursor.skip_while(is_blank);
    let quote @ (b'"' | b'\'') = cursor.peek()? else {
        return None;
    };
    if cursor.eat(&[quote; 3]) {
        cursor.skip_past(&[quote; 3]);
        return None;
    }
    cursor.next();
    let text = cursor.take_while(|byte| byte != quote && byte != b'\n');
    if text.contains(&b'\\') || !cursor.eat(&[quote]) {
        return None;
    }
    cursor.skip_while(is_blank);
    matches!(cursor.peek(), None | Some(b'\n' | b'\r' | b'#')).then(|| text.to_vec())
}

/// A text over several lines says nothing.
fn skip_text(cursor: &mut Cursor<'_>) {
    for quotes in [b"\"\"\"", b"'''"] {
        if cursor.eat(quotes) {
            cursor.skip_past(quotes);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::enrich::docroot::parse::{Dialect, tests::shown};

    #[test]
    fn only_plain_text_counts() {
        for (text, expected) in [
            (
                "bind = '127.0.0.1:8000'\nchdir = \"/srv/app\"  # here\n",
                vec!["2 application /srv/app", "2 base /srv/app"],
            ),
            (
                "pythonpath='/a,/b'\nwsgi_app = \"x.wsgi:app\"\r\n",
                vec![
                    "1 application /a",
                    "1 application /b",
                    "2 wsgi_app=x.wsgi:app",
                ],
            ),
            (
                "chdir = os.path.dirname(__file__)\nchdir = '/a' + x\n",
                vec![],
            ),
            ("def f():\n    chdir = '/a'\n#chdir = '/a'\n", vec![]),
            (
                "\"\"\"\nchdir = '/a'\n\"\"\"\nchdir = '/b'",
                vec!["4 application /b", "4 base /b"],
            ),
            ("chdir = '''\nchdir = '/a'\n'''", vec![]),
            ("chdir = '/a\nchdir = '/b\\n'\nchdir =", vec![]),
        ] {
            assert_eq!(shown(Dialect::Gunicorn, text), expected, "{text}");
        }
    }
}
