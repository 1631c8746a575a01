//! nginx: `root`, `alias`, `include`, `set`, the two FastCGI parameters that name PHP's directories where
//! PHP sees other paths than nginx, and the modules and scripts that it loads.

use super::{Cursor, MAX_WORDS, Statements, is_space};
use crate::enrich::docroot::{Kind, scope::Shape};

pub(super) fn parse(text: &[u8], out: &mut Statements) {
    let mut cursor = Cursor::new(text);
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut line = 1;
    loop {
        cursor.skip_while(is_space);
        let start = cursor.line;
        match cursor.peek() {
            None => return,
            Some(b'#') => cursor.skip_line(),
            Some(b';') => {
                cursor.next();
                directive(&words, line, out);
                words.clear();
            }
            Some(b'{') => {
                cursor.next();
                // Lua has quotes, braces and comments of its own.
                if words
                    .first()
                    .is_some_and(|name| name.ends_with(b"_by_lua_block"))
                {
                    skip_lua(&mut cursor);
                }
                words.clear();
            }
            Some(b'}') => {
                cursor.next();
                words.clear();
            }
            Some(_) => {
                let word = word(&mut cursor);
                if words.is_empty() {
                    line = start;
                }
                if words.len() < MAX_WORDS {
                    words.push(word);
                }
            }
        }
    }
}

fn directive(words: &[Vec<u8>], line: u32, out: &mut Statements) {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    match words.as_slice() {
        [b"root", path] => {
            out.directory(line, Kind::Served, Shape::Directory, &template(path));
        }
        [b"alias", path] => out.directory(line, Kind::Served, Shape::Target, &template(path)),
        [b"include", pattern] => {
            // As nginx does: a pattern may match nothing, a plain name has to be there.
            out.include(
                line,
                pattern,
                !crate::enrich::docroot::path::is_glob(pattern),
            );
        }
        [b"set", name, value] => {
            if let Some(name) = name.strip_prefix(b"$") {
                out.define(line, name, &template(value));
            }
        }
        [
            b"fastcgi_param" | b"uwsgi_param" | b"scgi_param",
            b"DOCUMENT_ROOT",
            value,
            ..,
        ] => {
            out.directory(line, Kind::Served, Shape::Directory, &template(value));
        }
        [
            b"fastcgi_param" | b"uwsgi_param" | b"scgi_param",
            b"SCRIPT_FILENAME",
            value,
            ..,
        ] => {
            out.directory(line, Kind::Served, Shape::File, &template(value));
        }
        [b"load_module", path] => out.module(line, path),
        // Search paths of Lua: `/srv/lua/?.lua;/srv/lua/?/init.lua;;`.
        [b"lua_package_path" | b"lua_package_cpath", list] => {
            for path in list.split(|&byte| byte == b';') {
                let place = path.iter().position(|&byte| byte == b'?');
                let place = place.and_then(|at| path.get(..at)).unwrap_or_default();
                out.component(line, Shape::File, place);
            }
        }
        [b"js_path" | b"perl_modules" | b"passenger_root", path] => {
            out.component(line, Shape::Directory, path);
        }
        [b"passenger_app_root", path] => {
            out.directory(line, Kind::Application, Shape::Directory, &template(path));
        }
        [name, path] if name.ends_with(b"_by_lua_file") => {
            out.component(line, Shape::Directory, &template(path));
        }
        _ => {}
    }
}

/// One word: quoted, or up to what ends it.
fn word(cursor: &mut Cursor<'_>) -> Vec<u8> {
    if let Some(quote @ (b'"' | b'\'')) = cursor.peek() {
        cursor.next();
        return cursor.string(quote, |byte| matches!(byte, b'"' | b'\'' | b'\\'));
    }
    let mut out = Vec::new();
    while let Some(byte) = cursor.peek() {
        match byte {
            b';' => break,
            // `${name}` is part of a word; any other brace opens a block.
            b'{' if out.last() == Some(&b'$') => {
                while let Some(byte) = cursor.next() {
                    out.push(byte);
                    if byte == b'}' || is_space(byte) {
                        break;
                    }
                }
                continue;
            }
            b'{' => break,
            _ if is_space(byte) => break,
            _ => {}
        }
        cursor.next();
        if byte == b'\\' {
            if let Some(escaped) = cursor.next() {
                if !matches!(escaped, b'"' | b'\'' | b'\\' | b';' | b' ') {
                    out.push(byte);
                }
                out.push(escaped);
            }
            continue;
        }
        out.push(byte);
    }
    if out.is_empty() {
        // A lone brace that ends nothing: take it, so that reading goes on.
        out.extend(cursor.next());
    }
    out
}

/// nginx writes `$name` and `${name}`; a scope wants the latter. `$fastcgi_script_name` begins with
/// a slash, which is where the directory before it ends.
fn template(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 8);
    let mut cursor = Cursor::new(value);
    while let Some(byte) = cursor.next() {
        if byte != b'$' {
            out.push(byte);
            continue;
        }
        let braced = cursor.eat(b"{");
        let name = cursor.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if braced {
            cursor.eat(b"}");
        }
        if name == b"fastcgi_script_name" {
            out.push(b'/');
        }
        out.extend_from_slice(b"${");
        out.extend_from_slice(name);
        out.push(b'}');
    }
    out
}

/// Skips to the brace that closes a block of Lua.
fn skip_lua(cursor: &mut Cursor<'_>) {
    let mut depth = 1_u32;
    while depth > 0 {
        if cursor.eat(b"--[[") {
            cursor.skip_past(b"]]");
        } else if cursor.eat(b"--") {
            cursor.skip_line();
        }
        match cursor.next() {
            None => return,
            Some(b'{') => depth = depth.saturating_add(1),
            Some(b'}') => depth -= 1,
            Some(quote @ (b'"' | b'\'')) => {
                cursor.string(quote, |_| true);
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::enrich::docroot::parse::{Dialect, tests::shown};

    /// Debian 12's `nginx.conf` and `sites-available/default`, joined and shortened.
    const DEBIAN: &str = r#"user www-data;
error_log /var/log/nginx/error.log;
include /etc/nginx/modules-enabled/*.conf;

events {
	worker_connections 768;
	# multi_accept on;
}

http {
	include /etc/nginx/mime.types;
	# gzip_types text/plain text/css application/json;
	include /etc/nginx/conf.d/*.conf;
server {
	listen [::]:80 default_server;

	root /var/www/html;

	# Add index.php to the list if you are using PHP
	index index.html index.htm index.nginx-debian.html;
	location / {
		try_files $uri $uri/ =404;
	}
	#location ~ \.php$ {
	#	root /not/this;
	#}
}
}
"#;

    #[test]
    fn the_configuration_that_debian_ships() {
        assert_eq!(
            shown(Dialect::Nginx, DEBIAN),
            [
                "3 optional /etc/nginx/modules-enabled/*.conf",
                "11 include /etc/nginx/mime.types",
                "13 optional /etc/nginx/conf.d/*.conf",
                "17 served /var/www/html",
            ]
        );
    }

    #[test]
    fn words_quotes_and_variables() {
        for (text, expected) in [
            ("root \"/srv/my app\";", vec!["1 served /srv/my app"]),
            ("root '/srv/it\\'s';", vec!["1 served /srv/it's"]),
            ("root /srv/my\\ app;", vec!["1 served /srv/my app"]),
            ("root\n  /srv/a\n;", vec!["1 served /srv/a"]),
            ("root /srv/a#b;", vec!["1 served /srv/a#b"]),
            ("root html;", vec!["1 served html"]),
            ("root /srv/$host/x;", vec!["1 served /srv/${host}/x"]),
            ("root /srv/${host}/x;", vec!["1 served /srv/${host}/x"]),
            ("root /srv/a", vec![]),
            (
                "load_module modules/a.so; load_module /srv/b.so;",
                vec!["1 component modules", "1 component /srv/b.so"],
            ),
            (
                "lua_package_path '/srv/lua/?.lua;/srv/lua/?/init.lua;;'; js_path njs;",
                vec![
                    "1 component! /srv/lua/",
                    "1 component! /srv/lua/",
                    "1 component njs",
                ],
            ),
            (
                "location / { content_by_lua_file /srv/x.lua; passenger_app_root /srv/p; }",
                vec!["1 component /srv/x.lua", "1 application /srv/p"],
            ),
            ("root;", vec![]),
            ("root /a /b;", vec![]),
            (
                "location ~ \\.php$ { root /srv/a; }",
                vec!["1 served /srv/a"],
            ),
            (
                "location /i/ { alias /data/w3/images/; }",
                vec!["1 served? /data/w3/images/"],
            ),
            (
                "set $app /srv/app; root $app/public;",
                vec!["1 app=/srv/app", "1 served ${app}/public"],
            ),
            (
                "fastcgi_param DOCUMENT_ROOT /srv/app;",
                vec!["1 served /srv/app"],
            ),
            (
                "fastcgi_param SCRIPT_FILENAME /srv/app$fastcgi_script_name;",
                vec!["1 served! /srv/app/${fastcgi_script_name}"],
            ),
            (
                "fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;",
                vec!["1 served! ${document_root}/${fastcgi_script_name}"],
            ),
            (
                "uwsgi_param DOCUMENT_ROOT /srv/u if_not_empty;",
                vec!["1 served /srv/u"],
            ),
            (
                "proxy_set_header root /srv/no; error_page 404 /root;",
                vec![],
            ),
            (
                "content_by_lua_block {\n local t = { \"}\" } -- it's } a {\n --[[ ' ]] \n}\nroot /srv/z;",
                vec!["5 served /srv/z"],
            ),
        ] {
            assert_eq!(shown(Dialect::Nginx, text), expected, "{text}");
        }
    }
}
