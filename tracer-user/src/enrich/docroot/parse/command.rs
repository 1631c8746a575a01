//! What the arguments of a running server say about its configuration and its directories.

use crate::enrich::docroot::path;

/// Arguments with options as getopt(3) knows them.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    args: Vec<&'a [u8]>,
    /// Letters of the options that take a value.
    valued: &'static [u8],
}

impl<'a> Options<'a> {
    /// Arguments after the program's name, and the letters of those options that take a value.
    #[must_use]
    pub fn new(args: &[&'a [u8]], valued: &'static [u8]) -> Self {
        Self {
            args: args
                .iter()
                .skip(1)
                .copied()
                .filter(|a| !a.is_empty())
                .collect(),
            valued,
        }
    }

    /// The value of `-letter`; the last one, as getopt's users have it.
    #[must_use]
    pub fn short(&self, letter: u8) -> Option<&'a [u8]> {
        let mut found = None;
        let mut args = self.args.iter().copied();
        while let Some(arg) = args.next() {
            let Some(mut cluster) = arg.strip_prefix(b"-").filter(|c| !c.starts_with(b"-")) else {
                continue;
            };
            // `-tc FILE`, `-cFILE` and `-c FILE`.
            while let Some((&option, rest)) = cluster.split_first() {
                if self.valued.contains(&option) {
                    let value = if rest.is_empty() {
                        args.next()
                    } else {
                        Some(rest)
                    };
                    if option == letter {
                        found = value;
                    }
                    break;
                }
                cluster = rest;
            }
        }
        found
    }

    /// The value of `--name VALUE` or `--name=VALUE`.
    #[must_use]
    pub fn long(&self, name: &[u8]) -> Option<&'a [u8]> {
        let mut args = self.args.iter().copied();
        while let Some(arg) = args.next() {
            if let Some(rest) = arg.strip_prefix(b"--").and_then(|a| a.strip_prefix(name)) {
                match rest.split_first() {
                    None => return args.next(),
                    Some((b'=', value)) => return Some(value),
                    Some(_) => {}
                }
            }
        }
        None
    }
}

/// What a title that a server wrote over its arguments says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Title<'a> {
    /// The arguments are as they were given.
    None,
    /// A worker, which does not say what its master was started with.
    Worker,
    /// nginx's master: the arguments it was started with, joined by spaces.
    Arguments(Vec<&'a [u8]>),
    /// php-fpm's master: its configuration file.
    Config(&'a [u8]),
    /// gunicorn's master: the module that it runs.
    Module(&'a [u8]),
}

/// Reads the title of nginx, php-fpm and gunicorn. They write one string where the arguments were.
#[must_use]
pub fn title<'a>(args: &[&'a [u8]]) -> Title<'a> {
    let Some(first) = args.first() else {
        return Title::None;
    };
    if let Some(title) = first.strip_prefix(b"nginx: ") {
        return match title.strip_prefix(b"master process ") {
            Some(command) => Title::Arguments(
                command
                    .split(|&byte| byte == b' ')
                    .filter(|word| !word.is_empty())
                    .collect(),
            ),
            None => Title::Worker,
        };
    }
    if let Some(title) = first.strip_prefix(b"php-fpm: ") {
        let config = title
            .trim_ascii_end()
            .strip_prefix(b"master process (")
            .and_then(|rest| rest.strip_suffix(b")"));
        return config.map_or(Title::Worker, Title::Config);
    }
    if let Some(title) = first.strip_prefix(b"gunicorn: ") {
        let module = title
            .trim_ascii_end()
            .strip_prefix(b"master [")
            .and_then(|rest| rest.strip_suffix(b"]"));
        return module.map_or(Title::Worker, Title::Module);
    }
    Title::None
}

/// The value of a Java system property, `-Dname=value`; the last one, as java has it.
#[must_use]
pub fn property<'a>(args: &[&'a [u8]], name: &[u8]) -> Option<&'a [u8]> {
    properties(args)
        .filter(|(key, _)| *key == name)
        .last()
        .map(|(_, value)| value)
}

/// All Java system properties.
pub fn properties<'a>(args: &[&'a [u8]]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    args.iter().filter_map(|arg| {
        let property = arg.strip_prefix(b"-D")?;
        let at = property.iter().position(|&byte| byte == b'=')?;
        let (key, value) = property.split_at_checked(at)?;
        Some((key, value.get(1..)?))
    })
}

/// The directory that PHP's built-in server serves, possibly relative: `php -S ADDRESS -t DIR`, and the
/// working directory (here `.`) where it is not told. `None` where PHP is no server.
#[must_use]
pub fn php_server<'a>(args: &[&'a [u8]]) -> Option<&'a [u8]> {
    let program = path::name(args.first()?);
    // With a script first, the options after it are the script's.
    if !program.starts_with(b"php") || !args.get(1)?.starts_with(b"-") {
        return None;
    }
    let options = Options::new(args, b"cdSteErRfzBF");
    options.short(b'S').or_else(|| options.long(b"server"))?;
    let directory = options.short(b't').or_else(|| options.long(b"docroot"));
    Some(directory.unwrap_or(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<&[u8]> {
        line.split('|').map(str::as_bytes).collect()
    }

    #[test]
    fn options_as_getopt_reads_them() {
        for (line, expected) in [
            ("nginx|-c|/x/n.conf", Some("/x/n.conf")),
            ("nginx|-c/x/n.conf", Some("/x/n.conf")),
            ("nginx|-tc|/x/n.conf", Some("/x/n.conf")),
            ("nginx|-g|-c|-c|/y", Some("/y")),
            ("nginx|-c|/a|-c|/b", Some("/b")),
            ("nginx|-p|c|-q", None),
            ("nginx|-c", None),
            ("nginx|--c|x", None),
            ("nginx", None),
        ] {
            let args = split(line);
            let found = Options::new(&args, b"cpgse").short(b'c');
            assert_eq!(found, expected.map(str::as_bytes), "{line}");
        }
        for (line, expected) in [
            ("caddy|run|--config|/x", Some("/x")),
            ("caddy|run|--config=/x", Some("/x")),
            ("caddy|run|--configx|/x", None),
            ("caddy|run|--config", None),
        ] {
            let args = split(line);
            let found = Options::new(&args, b"c").long(b"config");
            assert_eq!(found, expected.map(str::as_bytes), "{line}");
        }
    }

    #[test]
    fn titles() {
        let args = split("nginx: master process /usr/sbin/nginx -c /x/nginx.conf -p /x/");
        let Title::Arguments(args) = title(&args) else {
            panic!("no arguments");
        };
        let options = Options::new(&args, b"cpgse");
        assert_eq!(options.short(b'c'), Some(b"/x/nginx.conf".as_slice()));
        assert_eq!(options.short(b'p'), Some(b"/x/".as_slice()));
        assert_eq!(title(&split("nginx: worker process")), Title::Worker);
        assert_eq!(title(&split("nginx: cache manager process")), Title::Worker);
        assert_eq!(
            title(&split(
                "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)"
            )),
            Title::Config(b"/etc/php/8.2/fpm/php-fpm.conf")
        );
        assert_eq!(title(&split("php-fpm: pool www")), Title::Worker);
        assert_eq!(
            title(&split("gunicorn: master [app:app]")),
            Title::Module(b"app:app")
        );
        assert_eq!(title(&split("gunicorn: worker [app:app]")), Title::Worker);
        assert_eq!(title(&split("/usr/sbin/nginx|-c|x")), Title::None);
        assert_eq!(title(&[]), Title::None);
    }

    #[test]
    fn php_serves_where_it_is_told() {
        for (line, expected) in [
            ("php|-S|127.0.0.1:8000|-t|/srv/www", Some("/srv/www")),
            (
                "/usr/bin/php8.2|-S|127.0.0.1:8000|-t|public|router.php",
                Some("public"),
            ),
            ("php|-S127.0.0.1:8000|-tpub", Some("pub")),
            ("php|-S|[::]:80", Some(".")),
            ("php|--server|[::]:80|--docroot=/d", Some("/d")),
            ("php|-t|/srv|x.php", None),
            ("php|artisan.php|-S|x", None),
            ("php", None),
            ("python3|-S|x", None),
        ] {
            let args = split(line);
            assert_eq!(php_server(&args), expected.map(str::as_bytes), "{line}");
        }
    }

    #[test]
    fn java_properties() {
        let args = split("java|-Dcatalina.base=/a|-Dx|-Dcatalina.base=/b=c|Bootstrap");
        assert_eq!(property(&args, b"catalina.base"), Some(b"/b=c".as_slice()));
        assert_eq!(property(&args, b"x"), None);
    }
}
