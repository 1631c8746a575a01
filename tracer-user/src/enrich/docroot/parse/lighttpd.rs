//! lighttpd: `server.document-root`, `alias.url`, virtual hosts by pattern, `include`, `var.*`.
//! `include_shell` is never run.

use super::{Cursor, Statements, is_blank, is_space};
use crate::enrich::docroot::{Kind, path, scope::Shape};

/// Strings at most that are kept of one list.
const MAX_STRINGS: usize = 4096;

pub(super) fn parse(text: &[u8], out: &mut Statements) {
    let mut cursor = Cursor::new(text);
    let mut vhost_root: Option<(u32, Vec<u8>)> = None;
    let mut vhost_docs: Vec<u8> = Vec::new();
    loop {
        cursor.skip_while(|byte| is_space(byte) || matches!(byte, b'{' | b'}' | b',' | b')'));
        let line = cursor.line;
        match cursor.peek() {
            None => break,
            Some(b'#') => {
                cursor.skip_line();
                continue;
            }
            Some(_) => {}
        }
        let name = cursor.take_while(is_name);
        if name.is_empty() {
            skip_one(&mut cursor);
            continue;
        }
        cursor.skip_while(is_blank);
        if name == b"include" {
            let values = value(&mut cursor);
            for pattern in &values {
                out.include(line, pattern, !path::is_glob(pattern));
            }
            continue;
        }
        // `a = b`, `a += b`, `a := b`; `==`, `=~`, `!=` and `=^` compare, in conditions.
        cursor.eat(b"+");
        cursor.eat(b":");
        if !cursor.eat(b"=") || cursor.peek().is_some_and(|byte| b"=~^$".contains(&byte)) {
            continue;
        }
        match name {
            b"server.document-root" => {
                if let [path, ..] = value(&mut cursor).as_slice() {
                    out.directory(line, Kind::Served, Shape::Directory, path);
                }
            }
            b"evhost.path-pattern" => {
                if let [path, ..] = value(&mut cursor).as_slice() {
                    out.directory(
                        line,
                        Kind::Served,
                        Shape::Directory,
                        &path::wild(path, b'%'),
                    );
                }
            }
            b"simple-vhost.server-root" => {
                vhost_root = value(&mut cursor)
                    .into_iter()
                    .next()
                    .map(|root| (line, root));
            }
            b"simple-vhost.document-root" => {
                vhost_docs = value(&mut cursor).into_iter().next().unwrap_or_default();
            }
            b"alias.url" => {
                let values = value(&mut cursor);
                for pair in values.chunks_exact(2) {
                    if let [url, path] = pair {
                        let kind = if url.starts_with(b"/cgi-bin") {
                            Kind::Cgi
                        } else {
                            Kind::Served
                        };
                        out.directory(line, kind, Shape::Directory, path);
                    }
                }
            }
            _ if name.starts_with(b"var.") => {
                if let [value, ..] = value(&mut cursor).as_slice() {
                    out.define(line, name, value);
                }
            }
            _ => {}
        }
    }
    if let Some((line, root)) = vhost_root {
        let docs = path::join(&path::join(&root, b"*"), without_slash(&vhost_docs));
        out.directory(line, Kind::Served, Shape::Directory, &docs);
    }
}

/// `simple-vhost.document-root` is below each host, with or without a slash before it.
fn without_slash(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|&byte| byte != b'/');
    start
        .and_then(|start| path.get(start..))
        .unwrap_or_default()
}

/// The strings of a value: one expression, or those of a list in order. Variables stay as `${NAME}`.
fn value(cursor: &mut Cursor<'_>) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    let mut depth = 0_u32;
    // Whether the next operand belongs to the string before it.
    let mut append = false;
    loop {
        cursor.skip_while(|byte| is_blank(byte) || (depth > 0 && byte == b'\n'));
        let operand = match cursor.peek() {
            None => break,
            Some(b'#') if depth > 0 => {
                cursor.skip_line();
                continue;
            }
            Some(b'"') => {
                cursor.next();
                cursor.string(b'"', |byte| matches!(byte, b'"' | b'\\'))
            }
            Some(b'+') => {
                cursor.next();
                // An expression may go on in the next line after its operator.
                cursor.skip_while(is_space);
                append = true;
                continue;
            }
            Some(b'(') => {
                cursor.next();
                depth = depth.saturating_add(1);
                continue;
            }
            Some(b')') if depth > 0 => {
                cursor.next();
                depth -= 1;
                if depth == 0 {
                    break;
                }
                continue;
            }
            Some(b',') if depth > 0 => {
                cursor.next();
                continue;
            }
            Some(b'=') if depth > 0 && cursor.eat(b"=>") => continue,
            Some(byte) if is_name(byte) => {
                let name = cursor.take_while(is_name);
                [b"${", name, b"}"].concat()
            }
            Some(_) => break,
        };
        let full = out.len() >= MAX_STRINGS;
        match out.last_mut() {
            Some(last) if append => last.extend_from_slice(&operand),
            _ if full => {}
            _ => out.push(operand),
        }
        append = false;
        if depth == 0 {
            cursor.skip_while(is_blank);
            if cursor.peek() != Some(b'+') {
                break;
            }
        }
    }
    out
}

/// Steps over something that is no name: a string, or a byte.
fn skip_one(cursor: &mut Cursor<'_>) {
    if cursor.next() == Some(b'"') {
        cursor.string(b'"', |byte| matches!(byte, b'"' | b'\\'));
    }
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use crate::enrich::docroot::parse::{Dialect, tests::shown};

    #[test]
    fn the_configuration_that_debian_ships() {
        let text = r#"server.modules = (
	"mod_indexfile",
	"mod_alias",
)

server.document-root        = "/var/www/html"
server.upload-dirs          = ( "/var/cache/lighttpd/uploads" )
server.http-parseopts = (
  "header-strict"           => "enable",# default
 #"url-path-2f-reject"      => "enable",
)
include_shell "/usr/share/lighttpd/create-mime.conf.pl"
include "/etc/lighttpd/conf-enabled/*.conf"

$HTTP["url"] =~ "^/cgi-bin/" {
	cgi.assign = ( "" => "" )
	alias.url += ( "/cgi-bin/" => "/usr/lib/cgi-bin/" )
}
"#;
        assert_eq!(
            shown(Dialect::Lighttpd, text),
            [
                "6 served /var/www/html",
                "13 optional /etc/lighttpd/conf-enabled/*.conf",
                "17 cgi /usr/lib/cgi-bin/",
            ]
        );
    }

    #[test]
    fn expressions_lists_and_virtual_hosts() {
        for (text, expected) in [
            (
                "var.base = \"/srv\"\nserver.document-root = var.base + \"/htdocs\"",
                vec!["1 var.base=/srv", "2 served ${var.base}/htdocs"],
            ),
            (
                "$HTTP[\"host\"] == \"a\" { server.document-root = \"/srv/a\" }",
                vec!["1 served /srv/a"],
            ),
            (
                "alias.url = ( \"/a/\" => \"/srv/a/\",\n \"/doc\" => basedir + \"/doc\" )",
                vec!["1 served /srv/a/", "1 served ${basedir}/doc"],
            ),
            (
                "evhost.path-pattern = \"/srv/vhosts/%0/htdocs/\"",
                vec!["1 served /srv/vhosts/*/htdocs/"],
            ),
            (
                "simple-vhost.server-root = \"/srv/vhosts/\"\nsimple-vhost.document-root = \"/htdocs\"",
                vec!["1 served /srv/vhosts/*/htdocs"],
            ),
            ("include \"a.conf\"", vec!["1 include a.conf"]),
            (
                "# server.document-root = \"/no\"\nserver.document-root=\"/y\"",
                vec!["2 served /y"],
            ),
            ("server.document-root = ", vec![]),
            ("server.document-root = \"/open", vec!["1 served /open"]),
        ] {
            assert_eq!(shown(Dialect::Lighttpd, text), expected, "{text}");
        }
    }
}
