//! Where databases load code from: `plugin_dir` of MySQL and MariaDB, PostgreSQL's search path of
//! libraries and the libraries that it loads, modules of Redis.

use super::{Cursor, Statements, is_blank, lines};
use crate::enrich::docroot::{path, scope::Shape};

/// `my.cnf`: groups of any name, as those of versions and instances are many.
pub(super) fn mysql(text: &[u8], out: &mut Statements) {
    for (line, text) in lines(text) {
        let text = text.trim_ascii();
        if let Some(directory) = text.strip_prefix(b"!includedir") {
            let directory = directory.trim_ascii();
            if !directory.is_empty() {
                out.include(line, &path::join(directory, b"*.cnf"), false);
            }
        } else if let Some(file) = text.strip_prefix(b"!include") {
            out.include(line, file.trim_ascii(), false);
        } else if let Some(at) = text.iter().position(|&byte| byte == b'=') {
            let (key, value) = text.split_at_checked(at).unwrap_or_default();
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            mysql_option(line, key.trim_ascii(), value, out);
        }
    }
}

fn mysql_option(line: u32, key: &[u8], value: &[u8], out: &mut Statements) {
    let key = key.strip_prefix(b"loose-").unwrap_or(key);
    let inside = |quote: &[u8]| value.strip_prefix(quote)?.strip_suffix(quote);
    let plain = value.split(|&byte| byte == b'#').next().unwrap_or(value);
    let value = inside(b"\"")
        .or_else(|| inside(b"'"))
        .unwrap_or(plain.trim_ascii());
    match key {
        b"plugin-dir" | b"plugin_dir" | b"init-file" | b"init_file" => {
            out.component(line, Shape::Directory, value);
        }
        // Two builds, two names; what is not there costs nothing.
        b"basedir" if !value.is_empty() => {
            for below in [b"lib/plugin".as_slice(), b"lib/mysql/plugin"] {
                out.component(line, Shape::Directory, &path::join(value, below));
            }
        }
        _ => {}
    }
}

/// `postgresql.conf` and `postgresql.auto.conf`.
pub(super) fn postgres(text: &[u8], out: &mut Statements) {
    for (line, text) in lines(text) {
        let mut cursor = Cursor::new(text);
        cursor.skip_while(is_blank);
        let name = cursor
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
            .to_ascii_lowercase();
        cursor.skip_while(is_blank);
        cursor.eat(b"=");
        cursor.skip_while(is_blank);
        let value = if cursor.eat(b"'") {
            cursor.string(b'\'', |byte| byte == b'\'' || byte == b'\\')
        } else {
            cursor
                .take_while(|byte| !is_blank(byte) && byte != b'#')
                .to_vec()
        };
        match name.as_slice() {
            b"include" => out.include(line, &value, true),
            b"include_if_exists" => out.include(line, &value, false),
            b"include_dir" => out.include(line, &path::join(&value, b"*.conf"), false),
            _ => postgres_setting(line, &name, &value, out),
        }
    }
}

fn postgres_setting(line: u32, name: &[u8], value: &[u8], out: &mut Statements) {
    match name {
        b"dynamic_library_path" | b"extension_control_path" => {
            for path in postgres_paths(value) {
                out.component(line, Shape::Directory, path);
            }
        }
        b"shared_preload_libraries" | b"session_preload_libraries" | b"local_preload_libraries" => {
            for library in value.split(|&byte| byte == b',') {
                let library = library.trim_ascii();
                let library = library.strip_prefix(b"\"").unwrap_or(library);
                let library = library.strip_suffix(b"\"").unwrap_or(library);
                if library.starts_with(b"/") {
                    out.module(line, library);
                }
            }
        }
        _ => {}
    }
}

/// The directories of a search path; `$libdir` and `$system` are compiled in.
pub fn postgres_paths(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b':')
        .filter(|path| path.starts_with(b"/"))
}

/// `redis.conf`.
pub(super) fn redis(text: &[u8], out: &mut Statements) {
    for (line, text) in lines(text) {
        let mut cursor = Cursor::new(text);
        cursor.skip_while(is_blank);
        let name = cursor
            .take_while(|byte| !is_blank(byte))
            .to_ascii_lowercase();
        cursor.skip_while(is_blank);
        let value = match cursor.peek() {
            Some(quote @ (b'"' | b'\'')) => {
                cursor.next();
                cursor.string(quote, |byte| byte == quote || byte == b'\\')
            }
            _ => cursor.take_while(|byte| !is_blank(byte)).to_vec(),
        };
        match name.as_slice() {
            b"loadmodule" => out.module(line, &value),
            b"include" => out.include(line, &value, !path::is_glob(&value)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::enrich::docroot::parse::{Dialect, tests::shown};

    #[test]
    fn mysql_and_mariadb() {
        for (text, expected) in [
            (
                // The shape of Debian's mariadb.cnf and 50-server.cnf.
                "[client-server]\n# socket = /no\n!includedir /etc/mysql/conf.d/\n\
                 !includedir /etc/mysql/mariadb.conf.d\n[mysqld]\nbasedir                 = /usr\n\
                 #plugin_dir = /no\nbind-address = 127.0.0.1\n",
                vec![
                    "3 optional /etc/mysql/conf.d/*.cnf",
                    "4 optional /etc/mysql/mariadb.conf.d/*.cnf",
                    "6 component /usr/lib/plugin",
                    "6 component /usr/lib/mysql/plugin",
                ],
            ),
            (
                "[mysqld]\nplugin-dir = \"/srv/my plugins\"\nloose-plugin_dir=/b # x\n",
                vec!["2 component /srv/my plugins", "3 component /b"],
            ),
            ("!include /etc/x.cnf", vec!["1 optional /etc/x.cnf"]),
            ("init_file=/srv/i.sql", vec!["1 component /srv/i.sql"]),
            (
                "plugin_dir\nplugin_dir=\n!include\n!includedir\n=\nbasedir=",
                vec![],
            ),
        ] {
            assert_eq!(shown(Dialect::Mysql, text), expected, "{text}");
        }
    }

    #[test]
    fn postgresql() {
        for (text, expected) in [
            (
                // Lines of the shape of the sample file.
                "data_directory = '/var/lib/postgresql/15/main'\t# use data in another directory\n\
                 #dynamic_library_path = '$libdir'\ninclude_dir = 'conf.d'\t# x\n#include = '...'\n",
                vec!["3 optional conf.d/*.conf"],
            ),
            (
                "dynamic_library_path = '$libdir:/srv/lib:/srv/l'",
                vec!["1 component /srv/lib", "1 component /srv/l"],
            ),
            (
                "Shared_Preload_Libraries 'pg_stat_statements, \"/srv/x.so\", /srv/plugins/y'",
                vec!["1 component /srv/x.so", "1 component /srv/plugins"],
            ),
            (
                "include 'a.conf'\ninclude_if_exists = b.conf",
                vec!["1 include a.conf", "2 optional b.conf"],
            ),
            (
                "dynamic_library_path\n= '/x'\ndynamic_library_path = ''",
                vec![],
            ),
        ] {
            assert_eq!(shown(Dialect::Postgres, text), expected, "{text}");
        }
    }

    #[test]
    fn modules_of_redis() {
        let text = "# loadmodule /no.so\nbind 127.0.0.1 -::1\nLoadModule /srv/m.so a b\n\
            loadmodule \"/usr/lib/redis/modules/x.so\"\ninclude /etc/redis/local.conf\n\
            include /etc/redis/d/*.conf\nloadmodule\ndir /var/lib/redis\n";
        assert_eq!(
            shown(Dialect::Redis, text),
            [
                "3 component /srv/m.so",
                "4 component /usr/lib/redis/modules",
                "5 include /etc/redis/local.conf",
                "6 optional /etc/redis/d/*.conf",
            ]
        );
    }
}
