//! php-fpm: `chdir`, `chroot`, `prefix`, `env[DOCUMENT_ROOT]`, PHP's own settings and `include`; and
//! `php.ini`: where extensions are loaded from, and what is run before and after every page.

use super::{Statements, lines};
use crate::enrich::docroot::{Kind, path, scope::Shape};

pub(super) fn parse(text: &[u8], out: &mut Statements) {
    let mut pool = Pool::default();
    for (line, text) in lines(text) {
        let text = text.trim_ascii();
        if text.is_empty() || text.starts_with(b";") || text.starts_with(b"#") {
            continue;
        }
        if let Some(section) = text.strip_prefix(b"[") {
            pool.end(out);
            let end = section.iter().position(|&byte| byte == b']');
            let name = end.and_then(|end| section.get(..end)).unwrap_or(section);
            pool.name = name.to_vec();
            continue;
        }
        let Some(at) = text.iter().position(|&byte| byte == b'=') else {
            continue;
        };
        let (key, value) = text.split_at_checked(at).unwrap_or_default();
        let value = clean(value.get(1..).unwrap_or_default());
        match key.trim_ascii() {
            b"include" => out.include(line, &value, !path::is_glob(&value)),
            b"chroot" => pool.chroot = value,
            b"prefix" => pool.prefix = value,
            b"chdir"
            | b"env[DOCUMENT_ROOT]"
            | b"php_value[doc_root]"
            | b"php_admin_value[doc_root]"
                if pool.directories.len() < 16 =>
            {
                pool.directories.push((line, value));
            }
            key => {
                let name = [b"php_value[".as_slice(), b"php_admin_value["]
                    .iter()
                    .find_map(|prefix| key.strip_prefix(*prefix)?.strip_suffix(b"]"));
                if let Some(name) = name {
                    setting(line, name, &value, out);
                }
            }
        }
    }
    pool.end(out);
}

/// `php.ini` and the files beside it.
pub(super) fn parse_ini(text: &[u8], out: &mut Statements) {
    for (line, text) in lines(text) {
        let text = text.trim_ascii();
        if text.starts_with(b";") || text.starts_with(b"#") {
            continue;
        }
        if let Some(at) = text.iter().position(|&byte| byte == b'=') {
            let (key, value) = text.split_at_checked(at).unwrap_or_default();
            setting(
                line,
                key.trim_ascii(),
                &clean(value.get(1..).unwrap_or_default()),
                out,
            );
        }
    }
}

/// A setting of PHP. A path that is not absolute is relative to what no file tells.
pub(super) fn setting(line: u32, key: &[u8], value: &[u8], out: &mut Statements) {
    if !value.starts_with(b"/") {
        return;
    }
    match key {
        b"doc_root" => out.directory(line, Kind::Served, Shape::Directory, value),
        b"extension_dir" | b"auto_prepend_file" | b"auto_append_file" | b"extension"
        | b"zend_extension" | b"opcache.preload" => out.component(line, Shape::Directory, value),
        _ => {}
    }
}

/// What a pool said so far. Its chroot may stand after the paths that it changes.
#[derive(Default)]
struct Pool {
    name: Vec<u8>,
    chroot: Vec<u8>,
    prefix: Vec<u8>,
    directories: Vec<(u32, Vec<u8>)>,
}

impl Pool {
    fn end(&mut self, out: &mut Statements) {
        let Self {
            name,
            chroot,
            prefix,
            directories,
        } = std::mem::take(self);
        for (line, directory) in directories {
            // `chdir = /` is what the shipped pools suggest, and means nothing.
            if directory == b"/" && chroot.is_empty() {
                continue;
            }
            // Without a prefix of its own a pool has that of the server.
            let inside = [chroot.as_slice(), &directory].concat();
            let directory = path::join(&prefix, &inside);
            let directory = if prefix.is_empty() { inside } else { directory };
            let directory = with_pool(&directory, &name);
            out.directory(line, Kind::Served, Shape::Directory, &directory);
        }
    }
}

/// Replaces `$pool`, the only variable that php-fpm has.
fn with_pool(value: &[u8], pool: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"$pool") {
            out.extend_from_slice(pool);
            rest = after;
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
}

/// The value without quotes and without a comment after it.
fn clean(value: &[u8]) -> Vec<u8> {
    let value = value.trim_ascii();
    for quote in *b"\"'" {
        if let Some(inside) = value.strip_prefix(&[quote]) {
            let end = inside.iter().position(|&byte| byte == quote);
            return inside
                .get(..end.unwrap_or(inside.len()))
                .unwrap_or_default()
                .to_vec();
        }
    }
    let end = value.iter().position(|&byte| byte == b';');
    value
        .get(..end.unwrap_or(value.len()))
        .unwrap_or_default()
        .trim_ascii()
        .to_vec()
}

#[cfg(test)]
mod tests {
    use crate::enrich::docroot::parse::{Dialect, tests::shown};

    #[test]
    fn pools() {
        for (text, expected) in [
            (
                // Debian 12's php-fpm.conf and www.conf, shortened.
                "[global]\npid = /run/php/php8.2-fpm.pid\n;daemonize = yes\n\
                 include=/etc/php/8.2/fpm/pool.d/*.conf\n[www]\nuser = www-data\n\
                 listen = /run/php/php8.2-fpm.sock\n;chdir = /var/www\n\
                 ;env[HOSTNAME] = $HOSTNAME\n",
                vec!["4 optional /etc/php/8.2/fpm/pool.d/*.conf"],
            ),
            (
                "[a]\nchdir = /srv/app ; the app\n",
                vec!["2 served /srv/app"],
            ),
            (
                "[a]\nchdir = \"/srv/my app\"\n",
                vec!["2 served /srv/my app"],
            ),
            ("[a]\nchdir = /home/$pool/www", vec!["2 served /home/a/www"]),
            ("[a]\nchdir = /\n[b]\nchdir=/srv/b", vec!["4 served /srv/b"]),
            (
                "[a]\nchdir = /www\nchroot = /srv/jails/$pool\n[b]\nchdir = /b",
                vec!["2 served /srv/jails/a/www", "5 served /b"],
            ),
            (
                "[a]\nenv[DOCUMENT_ROOT] = /srv/d\nphp_admin_value[doc_root] = /srv/e",
                vec!["2 served /srv/d", "3 served /srv/e"],
            ),
            (
                "include=etc/php-fpm.d/*.conf",
                vec!["1 optional etc/php-fpm.d/*.conf"],
            ),
            ("[a\nchdir\n= /x\nchdir =\n", vec![]),
            (
                "[a]\nprefix = /srv/$pool\nchdir = www\n[b]\nchdir = www",
                vec!["3 served /srv/a/www", "5 served www"],
            ),
            (
                "[a]\nphp_admin_value[auto_prepend_file] = /srv/p.php\nphp_value[error_log] = /x",
                vec!["2 component /srv/p.php"],
            ),
        ] {
            assert_eq!(shown(Dialect::PhpFpm, text), expected, "{text}");
        }
    }

    #[test]
    fn settings_of_php() {
        // Lines of the shape of Debian's php.ini-production.
        let text = "[PHP]\n; extension_dir = \"./\"\nextension_dir = \"/srv/ext\"\n;extension=bz2\n\
            extension=curl\nzend_extension=/srv/z.so ; last\nauto_prepend_file =\n\
            auto_append_file=/srv/a.php\ndoc_root =\ndoc_root=\"/srv/w\"\nupload_tmp_dir=/tmp/x\n";
        assert_eq!(
            shown(Dialect::PhpIni, text),
            [
                "3 component /srv/ext",
                "6 component /srv/z.so",
                "8 component /srv/a.php",
                "10 served /srv/w"
            ]
        );
    }
}
