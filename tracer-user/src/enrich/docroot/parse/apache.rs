//! Apache's httpd: `DocumentRoot`, `Alias`, `ScriptAlias`, virtual hosts by name, `UserDir`, `Include`,
//! `Define`, `ServerRoot`, what mod_wsgi, mod_passenger and mod_php add, and what is loaded. Sections are
//! read through: which of them apply is the server's to know. A `<Directory>` alone only says who may
//! see it; one whose files are run is served.

use super::{Cursor, MAX_WORDS, Statements, What, is_blank, lines};
use crate::enrich::docroot::{Kind, path, scope::Shape};

pub(super) fn parse(text: &[u8], out: &mut Statements) {
    let mut joined: Vec<u8> = Vec::new();
    let mut start = 0;
    let mut section = Section::default();
    for (number, line) in lines(text) {
        if joined.is_empty() {
            start = number;
        }
        // A backslash right before the line end continues the directive.
        if let Some(part) = line.strip_suffix(b"\\") {
            joined.extend_from_slice(part);
            joined.push(b' ');
            continue;
        }
        if joined.is_empty() {
            directive(line, number, &mut section, out);
        } else {
            joined.extend_from_slice(line);
            directive(&joined, start, &mut section, out);
            joined.clear();
        }
    }
    directive(&joined, start.max(1), &mut section, out);
}

/// The `<Directory>` that the text is in, until it is told as served.
type Section = Option<Vec<u8>>;

fn directive(text: &[u8], line: u32, section: &mut Section, out: &mut Statements) {
    let mut cursor = Cursor::new(text);
    cursor.skip_while(is_blank);
    if matches!(cursor.peek(), None | Some(b'#')) {
        return;
    }
    if cursor.eat(b"<") {
        let name = cursor
            .take_while(|byte| !is_blank(byte) && byte != b'>')
            .to_ascii_lowercase();
        match name.as_slice() {
            b"directory" => {
                let path = word(&mut cursor).unwrap_or_default();
                let path = path.strip_suffix(b">").unwrap_or(&path);
                // A glob is told where it is one segment; `~` begins a regular expression.
                let is_plain = |segment: &[u8]| segment == b"*" || !path::is_glob(segment);
                let is_path = path.starts_with(b"/") || path.starts_with(b"$");
                *section = (is_path && path::segments(path).all(is_plain)).then(|| path.to_vec());
            }
            b"/directory" => *section = None,
            _ => {}
        }
        return;
    }
    let name = cursor
        .take_while(|byte| !is_blank(byte))
        .to_ascii_lowercase();
    // Only for directives that matter: every other line of a large configuration stops here.
    let mut arguments = || {
        let mut words: [Option<Vec<u8>>; 3] = [None, None, None];
        for slot in &mut words {
            *slot = word(&mut cursor);
        }
        words
    };
    match name.as_slice() {
        b"documentroot" => {
            if let [Some(path), ..] = arguments() {
                out.directory(line, Kind::Served, Shape::Directory, &path);
            }
        }
        b"alias" | b"scriptalias" | b"aliasmatch" | b"scriptaliasmatch" => {
            let kind = if name.starts_with(b"script") {
                Kind::Cgi
            } else {
                Kind::Served
            };
            // Within <Location> the URL is that of the section, and the path stands alone.
            let target = match arguments() {
                [Some(_), Some(path), _] | [Some(path), None, _] => path,
                _ => return,
            };
            if name.ends_with(b"match") {
                out.directory(line, kind, Shape::Directory, &before_group(&target));
            } else {
                out.directory(line, kind, Shape::Directory, &target);
            }
        }
        b"virtualdocumentroot" | b"virtualscriptalias" => {
            let kind = if name == b"virtualscriptalias" {
                Kind::Cgi
            } else {
                Kind::Served
            };
            if let [Some(path), ..] = arguments() {
                out.directory(line, kind, Shape::Directory, &path::wild(&path, b'%'));
            }
        }
        b"include" | b"includeoptional" => {
            if let [Some(pattern), ..] = arguments() {
                out.include(line, &pattern, name == b"include");
            }
        }
        b"define" => {
            if let [Some(name), value, _] = arguments() {
                out.define(line, &name, &value.unwrap_or_default());
            }
        }
        b"serverroot" => {
            if let [Some(path), ..] = arguments() {
                out.push(line, What::Base { path });
            }
        }
        b"userdir" => {
            let names = arguments();
            for name in names.iter().flatten() {
                let directory = match name.to_ascii_lowercase().as_slice() {
                    b"enabled" | b"disabled" => break,
                    _ if name.starts_with(b"http") => continue,
                    _ if name.starts_with(b"/") && name.contains(&b'*') => path::wild(name, b'*'),
                    _ if name.starts_with(b"/") => path::join(name, b"*"),
                    _ => path::join(b"/home/*", name),
                };
                out.directory(line, Kind::Served, Shape::Directory, &directory);
            }
        }
        // In such a section the files are run by a program or a module.
        b"options" | b"sethandler" | b"addhandler" | b"fcgidwrapper" => {
            let mut options = std::iter::from_fn(|| word(&mut cursor)).take(MAX_WORDS);
            let is_run = name != b"options"
                || options.any(|option| {
                    let option = option.to_ascii_lowercase();
                    option == b"execcgi" || option == b"+execcgi"
                });
            if is_run && let Some(path) = section.take() {
                out.directory(line, Kind::Served, Shape::Directory, &path);
            }
        }
        b"wsgiscriptalias" | b"wsgiscriptaliasmatch" => {
            if let [Some(_), Some(file), _] = arguments() {
                out.directory(line, Kind::Application, Shape::File, &file);
            }
        }
        b"wsgidaemonprocess" => {
            while let Some(word) = word(&mut cursor) {
                let value = |key: &[u8]| word.strip_prefix(key).unwrap_or_default();
                let list = [value(b"home="), value(b"python-path=")];
                for path in list
                    .into_iter()
                    .flat_map(|list| list.split(|&byte| byte == b':'))
                {
                    out.directory(line, Kind::Application, Shape::Directory, path);
                }
            }
        }
        b"passengerapproot" | b"wsgipythonpath" => {
            if let [Some(list), ..] = arguments() {
                for path in list.split(|&byte| byte == b':') {
                    out.directory(line, Kind::Application, Shape::Directory, path);
                }
            }
        }
        // `ProxyPassMatch ^/(.*\.php)$ fcgi://127.0.0.1:9000/srv/app/$1`
        b"proxypassmatch" | b"proxypass" => {
            let target = arguments().into_iter().flatten().find_map(|word| {
                let rest = word.strip_prefix(b"fcgi://")?;
                let at = rest.iter().position(|&byte| byte == b'/')?;
                Some(before_group(rest.get(at..)?))
            });
            if let Some(target) = target.filter(|target| target != b"/") {
                out.directory(line, Kind::Served, Shape::Directory, &target);
            }
        }
        b"loadmodule" => {
            if let [Some(_), Some(file), _] = arguments() {
                out.module(line, &file);
            }
        }
        b"loadfile" | b"phpinidir" => {
            if let [Some(path), ..] = arguments() {
                out.component(line, Shape::Directory, &path);
            }
        }
        b"php_value" | b"php_admin_value" => {
            if let [Some(key), Some(value), _] = arguments() {
                super::php::setting(line, &key, &value, out);
            }
        }
        _ => {}
    }
}

/// One argument: quoted, or up to a blank.
fn word(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    cursor.skip_while(is_blank);
    match cursor.peek()? {
        quote @ (b'"' | b'\'') => {
            cursor.next();
            Some(cursor.string(quote, |byte| byte == quote || byte == b'\\'))
        }
        _ => Some(cursor.take_while(|byte| !is_blank(byte)).to_vec()),
    }
}

/// The directory of a path before the first group of a pattern (`/srv/files/$1`).
fn before_group(target: &[u8]) -> Vec<u8> {
    let group = target
        .windows(2)
        .position(|pair| matches!(pair, [b'$', digit] if digit.is_ascii_digit()));
    match group {
        Some(at) => path::parent(target.get(..at).unwrap_or_default()).to_vec(),
        None => target.to_vec(),
    }
}

/// The variables that Debian's `envvars` exports, as far as they are plain values.
#[must_use]
pub fn envvars(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    lines(text)
        .filter_map(|(_, line)| {
            let assignment = line.trim_ascii().strip_prefix(b"export ")?.trim_ascii();
            let at = assignment.iter().position(|&byte| byte == b'=')?;
            let (name, value) = assignment.split_at_checked(at)?;
            let value = value.get(1..)?;
            let value = [b'"', b'\'']
                .into_iter()
                .find_map(|quote| value.strip_prefix(&[quote])?.strip_suffix(&[quote]))
                .unwrap_or(value);
            let plain = !value.iter().any(|byte| b"$`\"'\\; ".contains(byte));
            plain.then(|| (name.to_vec(), value.to_vec()))
        })
        .take(256)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::envvars;
    use crate::enrich::docroot::parse::{Dialect, tests::shown};

    #[test]
    fn the_configuration_that_debian_ships() {
        let text = r#"# This is the main Apache server configuration file.
#ServerRoot "/etc/apache2"
DefaultRuntimeDir ${APACHE_RUN_DIR}
IncludeOptional mods-enabled/*.load
Include ports.conf
<Directory /var/www/>
	Options Indexes FollowSymLinks
</Directory>
IncludeOptional sites-enabled/*.conf
<VirtualHost *:80>
	# ServerName www.example.com
	DocumentRoot /var/www/html
	ErrorLog ${APACHE_LOG_DIR}/error.log
</VirtualHost>
<IfModule mod_alias.c>
	<IfModule mod_cgi.c>
		Define ENABLE_USR_LIB_CGI_BIN
	</IfModule>
	<IfDefine ENABLE_USR_LIB_CGI_BIN>
		ScriptAlias /cgi-bin/ /usr/lib/cgi-bin/
	</IfDefine>
	Alias /icons/ "/usr/share/apache2/icons/"
</IfModule>
"#;
        assert_eq!(
            shown(Dialect::Apache, text),
            [
                "4 optional mods-enabled/*.load",
                "5 include ports.conf",
                "9 optional sites-enabled/*.conf",
                "12 served /var/www/html",
                "17 ENABLE_USR_LIB_CGI_BIN=",
                "20 cgi /usr/lib/cgi-bin/",
                "22 served /usr/share/apache2/icons/",
            ]
        );
    }

    #[test]
    fn the_configuration_of_the_httpd_image_and_odd_forms() {
        for (text, expected) in [
            (
                "ServerRoot \"/usr/local/apache2\"",
                vec!["1 base /usr/local/apache2"],
            ),
            (
                "DocumentRoot \"/usr/local/apache2/htdocs\"",
                vec!["1 served /usr/local/apache2/htdocs"],
            ),
            ("  documentROOT 'my docs'", vec!["1 served my docs"]),
            (
                "Define root /srv\r\nDocumentRoot ${root}/x\r\n",
                vec!["1 root=/srv", "2 served ${root}/x"],
            ),
            (
                "DocumentRoot \\\n  \"/srv/a\"\nDocumentRoot /b",
                vec!["1 served /srv/a", "3 served /b"],
            ),
            (
                "ScriptAlias \"/cgi-bin/\" \"/srv/c b/\"",
                vec!["1 cgi /srv/c b/"],
            ),
            (
                "<Location /x>\nAlias /srv/x\n</Location>",
                vec!["2 served /srv/x"],
            ),
            (
                "AliasMatch ^/~(\\w+)(.*) /home/$1/www$2",
                vec!["1 served /home"],
            ),
            (
                "ScriptAliasMatch ^/cgi/(.*)$ /srv/cgi/$1",
                vec!["1 cgi /srv/cgi"],
            ),
            (
                "VirtualDocumentRoot /srv/vhosts/%0/docs",
                vec!["1 served /srv/vhosts/*/docs"],
            ),
            (
                "AliasPreservePath On\nDocumentRootX /a\nDocumentRoot",
                vec![],
            ),
            ("DocumentRoot /end\\", vec!["1 served /end"]),
            (
                "LoadModule x modules/mod_x.so\nLoadFile /usr/lib/libx.so\nLoadModule y /srv/y.so",
                vec![
                    "1 component modules",
                    "2 component /usr/lib/libx.so",
                    "3 component /srv/y.so",
                ],
            ),
            (
                "<Directory \"/srv/run\">\nOptions Indexes +ExecCGI\nSetHandler x\n</Directory>\n\
                 <Directory /srv/seen>\nRequire all granted\n</Directory>\nOptions ExecCGI",
                vec!["2 served /srv/run"],
            ),
            (
                "<Directory /home/*/run>\nSetHandler x\n</Directory>\n<Directory ~ \"^/srv/.*\">\n\
                 SetHandler x\n</Directory>\n<DirectoryMatch ^/x>\nSetHandler x\n</DirectoryMatch>",
                vec!["2 served /home/*/run"],
            ),
            (
                "UserDir public_html\nUserDir /srv/*/web\nUserDir disabled root\nUserDir http://x",
                vec!["1 served /home/*/public_html", "2 served /srv/*/web"],
            ),
            (
                "WSGIScriptAlias / /srv/app/app.wsgi\nWSGIDaemonProcess x home=/srv/w python-path=/a:/b",
                vec![
                    "1 application! /srv/app/app.wsgi",
                    "2 application /srv/w",
                    "2 application /a",
                    "2 application /b",
                ],
            ),
            (
                "ProxyPassMatch ^/(.*\\.php)$ fcgi://127.0.0.1:9000/srv/app/$1\nProxyPass / http://x/",
                vec!["1 served /srv/app"],
            ),
            (
                "php_admin_value auto_prepend_file /srv/p.php\nphp_value doc_root \"/srv/d\"",
                vec!["1 component /srv/p.php", "2 served /srv/d"],
            ),
        ] {
            assert_eq!(shown(Dialect::Apache, text), expected, "{text}");
        }
    }

    #[test]
    fn envvars_gives_plain_values_only() {
        let text = b"unset HOME\nif [ x ] ; then\n\tSUFFIX=\nfi\nexport APACHE_RUN_USER=www-data\n\
            export APACHE_RUN_DIR=/var/run/apache2$SUFFIX\nexport LANG=C\nexport LANG\n\
            export APACHE_LOG_DIR=\"/var/log/apache2\"\n#export X=1\nexport Y=`id`\n";
        let expected: Vec<(Vec<u8>, Vec<u8>)> = [
            ("APACHE_RUN_USER", "www-data"),
            ("LANG", "C"),
            ("APACHE_LOG_DIR", "/var/log/apache2"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec();
        assert_eq!(envvars(text), expected);
    }
}
