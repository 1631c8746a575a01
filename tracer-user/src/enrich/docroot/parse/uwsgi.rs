//! uwsgi: where an application is (`chdir`, `wsgi-file`, `pythonpath` ...), what is served as it is
//! (`static-map`, `check-static`, `php-docroot`), CGI, plugins, and further files. The four formats are
//! read as lines with a key and a value; `exec://` and its like are neither run nor fetched.

use super::{Statements, What, is_space, lines};
use crate::enrich::docroot::{Kind, path, scope::Shape};

pub(super) fn parse(text: &[u8], out: &mut Statements) {
    for (line, text) in lines(text) {
        if let Some((key, value)) = pair(text.trim_ascii()) {
            option(line, key, &template(value), out);
        }
    }
}

/// The key and value of `key = value`, `key: value`, `"key": "value",` and `<key>value</key>`.
fn pair(line: &[u8]) -> Option<(&[u8], &[u8])> {
    if matches!(line.first()?, b'#' | b';' | b'[') {
        return None;
    }
    if let Some(tag) = line.strip_prefix(b"<") {
        let end = tag.iter().position(|&byte| byte == b'>')?;
        let (key, rest) = tag.split_at_checked(end)?;
        let rest = rest.get(1..)?;
        let end = rest.iter().position(|&byte| byte == b'<')?;
        return Some((key.trim_ascii(), rest.get(..end)?.trim_ascii()));
    }
    let line = line.strip_prefix(b"- ").unwrap_or(line);
    let at = line.iter().position(|byte| matches!(byte, b'=' | b':'))?;
    let (key, value) = line.split_at_checked(at)?;
    let value = value.get(1..)?.trim_ascii();
    let value = value.strip_suffix(b",").unwrap_or(value);
    Some((unquoted(key.trim_ascii()), unquoted(value.trim_ascii())))
}

fn unquoted(value: &[u8]) -> &[u8] {
    let inside = |quote: &[u8]| value.strip_prefix(quote)?.strip_suffix(quote);
    inside(b"\"").or_else(|| inside(b"'")).unwrap_or(value)
}

fn option(line: u32, key: &[u8], value: &[u8], out: &mut Statements) {
    if key.is_empty() || key.iter().any(|&byte| is_space(byte)) {
        return;
    }
    let dashed: Vec<u8> = key
        .iter()
        .map(|&byte| if byte == b'_' { b'-' } else { byte })
        .collect();
    // `/mount=DIRECTORY`
    let target = value.splitn(2, |&byte| byte == b'=').last();
    let target = target.unwrap_or(value);
    match dashed.as_slice() {
        b"chdir" | b"chdir2" => {
            out.directory(line, Kind::Application, Shape::Directory, value);
            if dashed == b"chdir" && !value.is_empty() {
                let path = value.to_vec();
                out.push(line, What::Base { path });
            }
        }
        b"wsgi-file" | b"file" | b"psgi" | b"rack" => {
            out.directory(line, Kind::Application, Shape::File, value);
        }
        b"pythonpath" | b"python-path" | b"pp" | b"rails" | b"perl-lib" => {
            out.directory(line, Kind::Application, Shape::Directory, value);
        }
        b"static-map"
        | b"static-map2"
        | b"check-static"
        | b"static-safe"
        | b"php-docroot"
        | b"php-allowed-docroot" => {
            out.directory(line, Kind::Served, Shape::Directory, target);
        }
        b"php-app" => out.directory(line, Kind::Served, Shape::File, value),
        b"cgi" => out.directory(line, Kind::Cgi, Shape::Directory, target),
        b"plugins-dir" | b"plugin-dir" => out.component(line, Shape::Directory, value),
        b"plugin" | b"plugins" => {
            for plugin in value.split(|&byte| byte == b',') {
                if plugin.starts_with(b"/") {
                    out.module(line, plugin);
                }
            }
        }
        b"ini" | b"xml" | b"yaml" | b"yml" | b"json" | b"include" | b"inherit" | b"import"
        | b"config" => out.include(line, file(value).unwrap_or_default(), false),
        // Each file there is an instance of its own, started below this one.
        b"emperor" if file(value).is_some() => {
            let all = path::join(value, b"*");
            let pattern = if path::is_glob(value) { value } else { &all };
            out.include(line, pattern, false);
        }
        _ => {}
    }
    out.define(line, key, value);
}

/// The file of `file.ini:section`; nothing of a URL, an executable or a descriptor.
pub fn file(value: &[u8]) -> Option<&[u8]> {
    if value.windows(3).any(|part| part == b"://") || value == b"-" {
        return None;
    }
    let file = value.split(|&byte| byte == b':').next()?;
    (!file.is_empty()).then_some(file)
}

/// `%(option)`, `%d` and its like, and `$(NAME)` of the environment as a scope knows them.
fn template(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, tail)) = rest.split_first() {
        let named = tail.strip_prefix(b"(").and_then(|inside| {
            let end = inside.iter().position(|&byte| byte == b')')?;
            Some((inside.get(..end)?, inside.get(end + 1..)?))
        });
        match (byte, named, tail.split_first()) {
            (b'%' | b'$', Some((name, after)), _) => {
                out.extend_from_slice(b"${");
                out.extend_from_slice(name);
                out.push(b'}');
                rest = after;
            }
            (b'%', None, Some((b'%', after))) => {
                out.push(b'%');
                rest = after;
            }
            (b'%', None, Some((&letter, after))) if letter.is_ascii_alphanumeric() => {
                out.extend_from_slice(&[b'$', b'{', b'%', letter, b'}']);
                rest = after;
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::enrich::docroot::parse::{Dialect, tests::shown};

    /// Without the variables that every option is, too.
    fn told(text: &str) -> Vec<String> {
        let mut found = shown(Dialect::Uwsgi, text);
        found.retain(|line| line.split(' ').count() > 2);
        found
    }

    #[test]
    fn four_formats() {
        // The shape of Debian's default.ini, with an application.
        let ini = "[uwsgi]\nautoload = true\n; chdir = /no\n\
            pidfile = /run/uwsgi/%(deb-confnamespace)/pid\n\
            base = /srv\nchdir = %(base)/app\nmodule = app:app\nplugins = python3\n";
        assert_eq!(
            told(ini),
            ["6 application ${base}/app", "6 base ${base}/app"]
        );
        for text in [
            "uwsgi:\n  chdir: /srv/a\n  static-map: /s=/srv/s\n",
            "<uwsgi>\n  <chdir>/srv/a</chdir>\n  <static-map>/s=/srv/s</static-map>\n</uwsgi>",
            "{\"uwsgi\": {\n  \"chdir\": \"/srv/a\",\n  \"static-map\": \"/s=/srv/s\"\n}}",
        ] {
            let expected = ["2 application /srv/a", "2 base /srv/a", "3 served /srv/s"];
            assert_eq!(told(text), expected, "{text}");
        }
    }

    #[test]
    fn options() {
        for (text, expected) in [
            (
                "wsgi-file = /srv/a/w.py",
                vec!["1 application! /srv/a/w.py"],
            ),
            ("wsgi_file=w.py", vec!["1 application! w.py"]),
            ("pythonpath = %d../lib", vec!["1 application ${%d}../lib"]),
            ("chdir2 = $(APP)/x%%", vec!["1 application ${APP}/x%"]),
            ("check-static=/srv/s", vec!["1 served /srv/s"]),
            ("cgi = /cgi-bin=/srv/cgi", vec!["1 cgi /srv/cgi"]),
            ("php-docroot = /srv/p", vec!["1 served /srv/p"]),
            (
                "plugins-dir = /srv/plugins",
                vec!["1 component /srv/plugins"],
            ),
            ("plugin = /srv/x.so,python3", vec!["1 component /srv/x.so"]),
            ("ini = /etc/b.ini:prod", vec!["1 optional /etc/b.ini"]),
            ("emperor = /etc/vassals", vec!["1 optional /etc/vassals/*"]),
            ("emperor = /etc/v/*.ini", vec!["1 optional /etc/v/*.ini"]),
            ("emperor = pg://host=x", vec![]),
            ("include = exec:///bin/id\ninclude = http://x/y", vec![]),
            (
                "# chdir = /a\n[chdir = /a]\nchdir\n= /a\n<chdir>/a\n<chdir\nchdir =",
                vec![],
            ),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }
}
