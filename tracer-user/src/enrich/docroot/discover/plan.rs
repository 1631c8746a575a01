//! Where a server keeps its configuration, by its arguments and by habit. Pure.

use super::path;
use crate::enrich::docroot::Kind;
use crate::enrich::docroot::parse::Dialect;
use crate::enrich::docroot::parse::command::{Options, Title, php_server, title};

mod app;
mod database;
mod java;

/// What is known of a server without reading anything of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// Its name in the table of servers.
    pub(super) server: &'a str,
    pub(super) args: &'a [&'a [u8]],
    pub(super) exe: &'a [u8],
    pub(super) cwd: &'a [u8],
    pub(super) environment: &'a [(&'a [u8], &'a [u8])],
}

impl<'a> Asked<'a> {
    /// A variable of its environment, where it has a value.
    fn variable(&self, name: &[u8]) -> Option<&'a [u8]> {
        let found = self.environment.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, value)| *value)
            .filter(|value| !value.is_empty())
    }
}

/// What to read, and what the arguments alone say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The language of the files; `None` where there are none to read.
    pub(super) dialect: Option<Dialect>,
    /// Where the configuration may be: the first that exists is it.
    pub(super) candidates: Vec<Candidate>,
    /// The arguments name the configuration: it has to be there.
    pub(super) told: bool,
    /// Many run without one: that there is none is no problem.
    pub(super) optional: bool,
    /// What relative paths are relative to where no candidate says so.
    pub(super) base: Option<Vec<u8>>,
    /// Files and globs that are read as well, where they exist.
    pub(super) also: Vec<(Dialect, Vec<u8>)>,
    /// Arguments in the language of a configuration file.
    pub(super) arguments: Option<(Dialect, Vec<u8>)>,
    /// Words that may name a module of Python, to be looked for.
    pub(super) modules: Vec<Vec<u8>>,
    /// Directories that are an application's if something is there.
    pub(super) probes: Vec<Probe>,
    /// Variables from the arguments.
    pub(super) variables: Vec<(Vec<u8>, Vec<u8>)>,
    /// Directories that the arguments name, with the source to show.
    pub(super) directories: Vec<(Kind, Vec<u8>, &'static str)>,
}

/// A directory that is an application's if one of these is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) any: Vec<Vec<u8>>,
    pub(super) directory: Vec<u8>,
    pub(super) source: &'static str,
}

/// A place for a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The file, absolute.
    pub(super) file: Vec<u8>,
    /// What relative paths in it are relative to. Where there are several, which one was compiled
    /// in is not known: those under which the directory exists count.
    pub(super) bases: Vec<Vec<u8>>,
}

/// nginx: prefix and configuration of builds that are about.
const NGINX: &[(&str, &str)] = &[
    ("/usr/share/nginx", "/etc/nginx/nginx.conf"), // Debian, RHEL
    ("/etc/nginx", "/etc/nginx/nginx.conf"),       // nginx's own packages and images, Arch
    ("/var/lib/nginx", "/etc/nginx/nginx.conf"),   // Alpine
    ("/srv/www", "/etc/nginx/nginx.conf"),         // SUSE
    ("/usr/local/nginx", "/usr/local/nginx/conf/nginx.conf"),
    (
        "/usr/local/openresty/nginx",
        "/usr/local/openresty/nginx/conf/nginx.conf",
    ),
    ("/opt/bitnami/nginx", "/opt/bitnami/nginx/conf/nginx.conf"),
];

/// Apache: `ServerRoot` and configuration.
const APACHE: &[(&str, &str)] = &[
    ("/etc/apache2", "/etc/apache2/apache2.conf"), // Debian
    ("/etc/httpd", "/etc/httpd/conf/httpd.conf"),  // RHEL, Arch
    ("/usr/local/apache2", "/usr/local/apache2/conf/httpd.conf"), // image
    ("/etc/apache2", "/etc/apache2/httpd.conf"),   // SUSE, Alpine
    ("/opt/bitnami/apache", "/opt/bitnami/apache/conf/httpd.conf"),
    (
        "/opt/bitnami/apache2",
        "/opt/bitnami/apache2/conf/httpd.conf",
    ),
    (
        "/opt/rh/httpd24/root/etc/httpd",
        "/opt/rh/httpd24/root/etc/httpd/conf/httpd.conf",
    ),
    ("/usr/local/apache", "/usr/local/apache/conf/httpd.conf"),
    ("/opt/lampp", "/opt/lampp/etc/httpd.conf"),
];

const LIGHTTPD: &[&str] = &[
    "/etc/lighttpd/lighttpd.conf",
    "/usr/local/etc/lighttpd/lighttpd.conf",
];

const CADDY: &[&str] = &["/etc/caddy/Caddyfile", "/etc/frankenphp/Caddyfile"];

const PHP_FPM: &[&str] = &[
    "/usr/local/etc/php-fpm.conf", // image
    "/etc/php-fpm.conf",           // RHEL
    "/etc/php/php-fpm.conf",       // Arch
    "/etc/php8/fpm/php-fpm.conf",  // SUSE
    "/opt/bitnami/php/etc/php-fpm.conf",
];

/// `php.ini` and the directory beside it, with `#` for a version as `8.2` or as `82`.
const PHP_INI: &[&str] = &[
    "/etc/php/#/fpm/php.ini",
    "/etc/php/#/fpm/conf.d/*.ini",
    "/etc/php/#/cgi/php.ini",
    "/etc/php/#/cgi/conf.d/*.ini",
    "/etc/php/#/apache2/php.ini",
    "/etc/php/#/apache2/conf.d/*.ini",
    "/etc/php#/php.ini",
    "/etc/php#/conf.d/*.ini",
];

/// The same where the path has no version: RHEL, and the images.
const PHP_INI_ALWAYS: &[&str] = &[
    "/etc/php.ini",
    "/etc/php.d/*.ini",
    "/usr/local/etc/php/php.ini",
    "/usr/local/etc/php/conf.d/*.ini",
];

/// Plans for a server of the roles table. Its working directory is as the process sees it.
#[must_use]
pub(super) fn plan(asked: &Asked<'_>) -> Plan {
    let title = title(asked.args);
    let args = match &title {
        // The master is asked; a worker is its child and says nothing of its own.
        Title::Worker => return Plan::default(),
        Title::Arguments(args) => args.as_slice(),
        Title::None | Title::Config(_) | Title::Module(_) => asked.args,
    };
    let asked = &Asked { args, ..*asked };
    let Asked {
        server, exe, cwd, ..
    } = *asked;
    let mut plan = match family(server, exe) {
        Family::Nginx => nginx(args, exe, cwd),
        Family::Apache => apache(args, exe),
        Family::Lighttpd => lighttpd(args, cwd),
        Family::Caddy => caddy(args, cwd),
        Family::PhpFpm => php_fpm(&title, args, exe, cwd),
        Family::Java => java::java(asked),
        Family::Uwsgi => app::uwsgi(asked),
        Family::Python => app::python(asked, &title),
        Family::Runtime => app::runtime(asked),
        Family::Mysql => database::mysql(asked),
        Family::Postgres => database::postgres(asked),
        Family::Redis => database::redis(asked),
        Family::Other => Plan::default(),
    };
    if has_php(server, exe) {
        php_ini(asked, &mut plan);
    }
    if let Some(directory) = php_server(args) {
        let directory = path::join(cwd, directory);
        plan.directories
            .push((Kind::Served, directory, "arguments of php -S"));
    }
    plan
}

enum Family {
    Nginx,
    Apache,
    Lighttpd,
    Caddy,
    PhpFpm,
    Java,
    Uwsgi,
    Python,
    Runtime,
    Mysql,
    Postgres,
    Redis,
    Other,
}

/// Servers in Java that the table knows by name.
const JAVA: &[&str] = &[
    "tomcat",
    "java",
    "jetty",
    "jboss",
    "wildfly",
    "glassfish",
    "weblogic",
    "websphere",
    "spring",
    "jenkins",
    "solr",
    "elasticsearch",
    "confluence",
    "activemq",
    "keycloak",
];

/// Runtimes that are servers when they listen, and frameworks whose program is a script.
const RUNTIMES: &[&str] = &[
    "node", "bun", "deno", "python", "ruby", "perl", "php", "dotnet", "lua", "puma", "plack",
];

fn family(server: &str, exe: &[u8]) -> Family {
    if JAVA.contains(&server) {
        return Family::Java;
    }
    if RUNTIMES.contains(&server) {
        return Family::Runtime;
    }
    let by_name = |name: &[u8]| match name {
        b"nginx" | b"openresty" | b"tengine" | b"angie" => Some(Family::Nginx),
        b"apache" | b"apache2" => Some(Family::Apache),
        b"lighttpd" => Some(Family::Lighttpd),
        b"caddy" | b"frankenphp" => Some(Family::Caddy),
        b"gunicorn" | b"uvicorn" | b"waitress" => Some(Family::Python),
        b"mysql" => Some(Family::Mysql),
        b"postgresql" => Some(Family::Postgres),
        b"redis" => Some(Family::Redis),
        b"java" => Some(Family::Java),
        _ if name.starts_with(b"uwsgi") => Some(Family::Uwsgi),
        _ if name.starts_with(b"php-fpm") => Some(Family::PhpFpm),
        _ if name.starts_with(b"httpd") => Some(Family::Apache),
        _ => None,
    };
    by_name(server.as_bytes())
        .or_else(|| by_name(path::name(exe)))
        .unwrap_or(Family::Other)
}

/// Whether PHP may run in the process.
fn has_php(server: &str, exe: &[u8]) -> bool {
    matches!(
        server,
        "php-fpm" | "php-cgi" | "php" | "apache" | "litespeed"
    ) || path::name(exe) == b"frankenphp"
}

/// Where PHP's settings are, by what the server was started with and by habit.
fn php_ini(asked: &Asked<'_>, plan: &mut Plan) {
    let told = Options::new(asked.args, b"cdypgtSz").short(b'c');
    let is_apache = asked.server == "apache";
    let told = told
        .filter(|_| !is_apache)
        .or_else(|| asked.variable(b"PHPRC"));
    if let Some(told) = told {
        let place = path::join(asked.cwd, told);
        let below = path::join(&place, b"php.ini");
        plan.also
            .extend([place, below].map(|file| (Dialect::PhpIni, file)));
    }
    let scanned = asked.variable(b"PHP_INI_SCAN_DIR").unwrap_or_default();
    for directory in scanned.split(|&byte| byte == b':') {
        if directory.starts_with(b"/") {
            let all = path::join(directory, b"*.ini");
            plan.also.push((Dialect::PhpIni, all));
        }
    }
    let version: Vec<u8> = path::name(asked.exe)
        .iter()
        .copied()
        .filter(|byte| byte.is_ascii_digit() || *byte == b'.')
        .collect();
    // Which version of PHP is in Apache its modules know; there are seldom two.
    let version = if is_apache { b"*".to_vec() } else { version };
    let versioned = PHP_INI.iter().filter(|_| !version.is_empty());
    let files = versioned
        .map(|file| file.replace('#', &String::from_utf8_lossy(&version)))
        .chain(PHP_INI_ALWAYS.iter().map(|file| (*file).to_owned()));
    plan.also
        .extend(files.map(|file| (Dialect::PhpIni, file.into_bytes())));
}

/// The prefix of a program that is not a distribution's: `/opt/x` for `/opt/x/sbin/nginx`.
fn own_prefix(exe: &[u8]) -> Option<&[u8]> {
    let directory = path::parent(exe);
    let in_bin = matches!(path::name(directory), b"bin" | b"sbin");
    let prefix = path::parent(directory);
    (in_bin && exe.starts_with(b"/") && !matches!(prefix, b"/" | b"/usr" | b"/usr/local"))
        .then_some(prefix)
}

fn nginx(args: &[&[u8]], exe: &[u8], cwd: &[u8]) -> Plan {
    let options = Options::new(args, b"pcgse");
    let prefix = options.short(b'p').map(|prefix| path::join(cwd, prefix));
    let own = own_prefix(exe).map(<[u8]>::to_vec);
    let known = NGINX.iter().map(|(prefix, _)| prefix.as_bytes().to_vec());
    let bases: Vec<Vec<u8>> = match (&prefix, &own) {
        (Some(prefix), _) | (None, Some(prefix)) => vec![prefix.clone()],
        (None, None) => known.collect(),
    };
    let told = options.short(b'c');
    let files: Vec<Vec<u8>> = match told {
        // A relative name is relative to the prefix.
        Some(file) => bases.iter().map(|base| path::join(base, file)).collect(),
        None => {
            let usual = NGINX.iter().map(|(_, file)| file.as_bytes().to_vec());
            let of_prefix = [&own, &prefix]
                .into_iter()
                .flatten()
                .map(|prefix| path::join(prefix, b"conf/nginx.conf"));
            // A distribution's build has an absolute path compiled in, which a prefix leaves alone.
            if own.is_some() {
                of_prefix.chain(usual).collect()
            } else {
                usual.chain(of_prefix).collect()
            }
        }
    };
    let candidate = |file| Candidate {
        file,
        bases: bases.clone(),
    };
    Plan {
        dialect: Some(Dialect::Nginx),
        candidates: unique(files).into_iter().map(candidate).collect(),
        told: told.is_some(),
        ..Plan::default()
    }
}

fn apache(args: &[&[u8]], exe: &[u8]) -> Plan {
    let options = Options::new(args, b"CcdDEefk");
    let own = own_prefix(exe);
    let compiled: &[u8] = match (own, path::name(exe)) {
        (Some(prefix), _) => prefix,
        (None, b"apache2") => b"/etc/apache2",
        (None, _) => b"/etc/httpd",
    };
    let told = options.short(b'f');
    let root = options.short(b'd');
    let candidate = |root: &[u8], file: &[u8]| Candidate {
        file: path::join(root, file),
        bases: vec![root.to_vec()],
    };
    let mut candidates = Vec::new();
    if let Some(file) = told {
        candidates.push(candidate(root.unwrap_or(compiled), file));
    } else {
        for prefix in [root, own].into_iter().flatten() {
            for file in ["conf/httpd.conf", "apache2.conf", "httpd.conf"] {
                candidates.push(candidate(prefix, file.as_bytes()));
            }
        }
        for (known, file) in APACHE {
            candidates.push(candidate(root.unwrap_or(known.as_bytes()), file.as_bytes()));
        }
    }
    Plan {
        dialect: Some(Dialect::Apache),
        candidates,
        told: told.is_some(),
        ..Plan::default()
    }
}

fn lighttpd(args: &[&[u8]], cwd: &[u8]) -> Plan {
    let options = Options::new(args, b"fmi");
    let mut plan = usual(Dialect::Lighttpd, options.short(b'f'), LIGHTTPD, cwd);
    if let Some(modules) = options.short(b'm') {
        let directory = path::join(cwd, modules);
        plan.directories
            .push((Kind::Component, directory, "argument -m of lighttpd"));
    }
    plan
}

fn caddy(args: &[&[u8]], cwd: &[u8]) -> Plan {
    let options = Options::new(args, b"cralt");
    // `caddy file-server` and `frankenphp php-server` have no configuration.
    if matches!(args.get(1), Some(&(b"file-server" | b"php-server"))) {
        let root = options.long(b"root").or_else(|| options.short(b'r'));
        let root = path::join(cwd, root.unwrap_or(b"."));
        return Plan {
            directories: vec![(Kind::Served, root, "arguments of the server")],
            ..Plan::default()
        };
    }
    let told = options.long(b"config").or_else(|| options.short(b'c'));
    let mut plan = usual(Dialect::Caddy, told, CADDY, cwd);
    if told.is_none() {
        let here = Candidate {
            file: path::join(cwd, b"Caddyfile"),
            bases: vec![cwd.to_vec()],
        };
        plan.candidates.insert(0, here);
    }
    plan
}

fn php_fpm(title: &Title<'_>, args: &[&[u8]], exe: &[u8], cwd: &[u8]) -> Plan {
    let options = Options::new(args, b"cdypg");
    let told = match title {
        Title::Config(file) => Some(*file),
        Title::None | Title::Worker | Title::Arguments(_) | Title::Module(_) => {
            options.long(b"fpm-config").or_else(|| options.short(b'y'))
        }
    };
    let prefix = options.long(b"prefix").or_else(|| options.short(b'p'));
    let version = path::name(exe).strip_prefix(b"php-fpm").unwrap_or_default();
    let mut plan = usual(Dialect::PhpFpm, told, PHP_FPM, cwd);
    if told.is_none() && !version.is_empty() {
        // Debian's php-fpm8.2, Alpine's php-fpm82.
        let files = [
            [b"/etc/php/", version, b"/fpm/php-fpm.conf"].concat(),
            [b"/etc/php", version, b"/php-fpm.conf"].concat(),
        ];
        let versions = files.map(|file| Candidate {
            file,
            bases: Vec::new(),
        });
        plan.candidates.splice(0..0, versions);
    }
    for candidate in &mut plan.candidates {
        let directory = path::parent(&candidate.file);
        // The image's file says `include=etc/php-fpm.d/*.conf`, which is relative to the prefix.
        let base = match prefix {
            Some(prefix) => path::join(cwd, prefix),
            None if path::name(directory) == b"etc" => path::parent(directory).to_vec(),
            None => b"/usr".to_vec(),
        };
        candidate.bases = vec![base];
    }
    plan
}

/// The file that the arguments name, else the usual ones; relative paths belong to the working
/// directory.
fn usual(dialect: Dialect, told: Option<&[u8]>, files: &[&str], cwd: &[u8]) -> Plan {
    let candidate = |file: &[u8]| Candidate {
        file: path::join(cwd, file),
        bases: vec![cwd.to_vec()],
    };
    Plan {
        dialect: Some(dialect),
        candidates: match told {
            Some(file) => vec![candidate(file)],
            None => files
                .iter()
                .map(|file| candidate(file.as_bytes()))
                .collect(),
        },
        told: told.is_some(),
        ..Plan::default()
    }
}

fn unique(files: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    for file in files {
        if !out.contains(&file) {
            out.push(file);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned_of(server: &str, args: &[&[u8]], exe: &str) -> Plan {
        plan(&Asked {
            server,
            args,
            exe: exe.as_bytes(),
            cwd: b"/cwd",
            environment: &[],
        })
    }

    fn planned(server: &str, line: &str, exe: &str) -> (Vec<String>, bool) {
        let args: Vec<&[u8]> = line.split('|').map(str::as_bytes).collect();
        let plan = planned_of(server, &args, exe);
        let shown = plan.candidates.iter().map(|candidate| {
            let bases: Vec<_> = candidate
                .bases
                .iter()
                .map(|b| String::from_utf8_lossy(b))
                .collect();
            format!(
                "{} {}",
                String::from_utf8_lossy(&candidate.file),
                bases.join(",")
            )
        });
        (shown.collect(), plan.told)
    }

    #[test]
    fn where_servers_keep_their_configuration() {
        for (server, line, exe, first, told) in [
            (
                "nginx",
                "nginx: master process /usr/sbin/nginx -c /x/nginx.conf -p /x/",
                "/usr/sbin/nginx",
                "/x/nginx.conf /x/",
                true,
            ),
            (
                "nginx",
                "nginx|-p|rel|-c|n.conf",
                "/usr/sbin/nginx",
                "/cwd/rel/n.conf /cwd/rel",
                true,
            ),
            (
                "nginx",
                "nginx|-g|daemon off;",
                "/usr/sbin/nginx",
                "/etc/nginx/nginx.conf /usr/share/nginx,/etc/nginx,/var/lib/nginx,/srv/www,\
                 /usr/local/nginx,/usr/local/openresty/nginx,/opt/bitnami/nginx",
                false,
            ),
            (
                "nginx",
                "nginx",
                "/opt/n/sbin/nginx",
                "/opt/n/conf/nginx.conf /opt/n",
                false,
            ),
            (
                "openresty",
                "nginx|-p|/app",
                "/usr/local/openresty/nginx/sbin/nginx",
                "/usr/local/openresty/nginx/conf/nginx.conf /app",
                false,
            ),
            (
                "apache",
                "/usr/sbin/apache2|-k|start",
                "/usr/sbin/apache2",
                "/etc/apache2/apache2.conf /etc/apache2",
                false,
            ),
            (
                "apache",
                "httpd|-DFOREGROUND",
                "/usr/local/apache2/bin/httpd",
                "/usr/local/apache2/conf/httpd.conf /usr/local/apache2",
                false,
            ),
            (
                "apache",
                "httpd|-d|/r|-f|c/h.conf",
                "/usr/sbin/httpd",
                "/r/c/h.conf /r",
                true,
            ),
            (
                "apache",
                "httpd|-f|conf/h.conf",
                "/usr/sbin/httpd",
                "/etc/httpd/conf/h.conf /etc/httpd",
                true,
            ),
            (
                "lighttpd",
                "lighttpd|-Df|l.conf",
                "/usr/sbin/lighttpd",
                "/cwd/l.conf /cwd",
                true,
            ),
            (
                "caddy",
                "caddy|run|--environ|--config|/etc/caddy/Caddyfile",
                "/usr/bin/caddy",
                "/etc/caddy/Caddyfile /cwd",
                true,
            ),
            (
                "caddy",
                "caddy|run",
                "/usr/bin/caddy",
                "/cwd/Caddyfile /cwd",
                false,
            ),
            (
                "php-fpm",
                "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)",
                "/usr/sbin/php-fpm8.2",
                "/etc/php/8.2/fpm/php-fpm.conf /usr",
                true,
            ),
            (
                "php-fpm",
                "php-fpm8.2|-F",
                "/usr/sbin/php-fpm8.2",
                "/etc/php/8.2/fpm/php-fpm.conf /usr",
                false,
            ),
            (
                "php-fpm",
                "php-fpm|-y|/x/f.conf|-p|/x",
                "/usr/sbin/php-fpm",
                "/x/f.conf /x",
                true,
            ),
            (
                "php-fpm",
                "php-fpm|--fpm-config=/x/f.conf",
                "/usr/sbin/php-fpm",
                "/x/f.conf /usr",
                true,
            ),
            (
                "php-fpm",
                "php-fpm",
                "/usr/local/sbin/php-fpm",
                "/usr/local/etc/php-fpm.conf /usr/local",
                false,
            ),
            (
                "tomcat",
                "java|-Dcatalina.base=/var/lib/tomcat10|org.apache.catalina.startup.Bootstrap|start",
                "/usr/lib/jvm/java-17/bin/java",
                "/var/lib/tomcat10/conf/server.xml /var/lib/tomcat10",
                true,
            ),
        ] {
            let (candidates, is_told) = planned(server, line, exe);
            let found = candidates.first().map(String::as_str);
            assert_eq!((found, is_told), (Some(first), told), "{server} {line}");
        }
        for (server, line) in [
            ("nginx", "nginx: worker process"),
            ("php-fpm", "php-fpm: pool www"),
            ("java", "java|-jar|x.jar"),
            ("haproxy", "haproxy|-f|x"),
        ] {
            assert_eq!(planned(server, line, "/usr/bin/x").0, [""; 0], "{line}");
        }
    }

    #[test]
    fn directories_in_arguments() {
        for (server, line, expected) in [
            ("php", "php|-S|127.0.0.1:80|-t|pub", "/cwd/pub"),
            ("php", "php|-S|127.0.0.1:80", "/cwd/."),
            ("caddy", "caddy|file-server|--root|/srv/x", "/srv/x"),
            (
                "jetty",
                "java|-Djetty.base=/var/lib/jetty|-jar|s.jar",
                "/var/lib/jetty/webapps",
            ),
            (
                "jboss",
                "java|-Djboss.home.dir=/opt/w|-jar|s.jar",
                "/opt/w/standalone/deployments",
            ),
        ] {
            let args: Vec<&[u8]> = line.split('|').map(str::as_bytes).collect();
            let plan = planned_of(server, &args, "/usr/bin/x");
            let found: Vec<_> = plan.directories.iter().map(|d| d.1.as_slice()).collect();
            assert!(found.contains(&expected.as_bytes()), "{line}: {found:?}");
        }
    }
}
