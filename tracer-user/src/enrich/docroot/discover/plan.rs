//! Where a server keeps its configuration, by its arguments and by habit. Pure.

use super::path;
use crate::enrich::docroot::Kind;
use crate::enrich::docroot::parse::Dialect;
use crate::enrich::docroot::parse::command::{
    Options, Title, php_server, properties, property, title,
};

/// What to read, and what the arguments alone say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The language of the files; `None` where there are none to read.
    pub(super) dialect: Option<Dialect>,
    /// Where the configuration may be: the first that exists is it.
    pub(super) candidates: Vec<Candidate>,
    /// The arguments name the configuration: it has to be there.
    pub(super) told: bool,
    /// Files and globs that are read as well, where they exist.
    pub(super) also: Vec<Vec<u8>>,
    /// Variables from the arguments.
    pub(super) variables: Vec<(Vec<u8>, Vec<u8>)>,
    /// Directories that the arguments name, with the source to show.
    pub(super) directories: Vec<(Kind, Vec<u8>, &'static str)>,
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

/// Plans for a server of the roles table. `cwd` is as the process sees it.
#[must_use]
pub(super) fn plan(server: &str, args: &[&[u8]], exe: &[u8], cwd: &[u8]) -> Plan {
    let title = title(args);
    let args = match &title {
        // The master is asked; a worker is its child and says nothing of its own.
        Title::Worker => return Plan::default(),
        Title::Arguments(args) => args.as_slice(),
        Title::None | Title::Config(_) => args,
    };
    let mut plan = match family(server, exe) {
        Family::Nginx => nginx(args, exe, cwd),
        Family::Apache => apache(args, exe),
        Family::Lighttpd => lighttpd(args, cwd),
        Family::Caddy => caddy(args, cwd),
        Family::PhpFpm => php_fpm(&title, args, exe, cwd),
        Family::Java => java(args, cwd),
        Family::Other => Plan::default(),
    };
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
    Other,
}

fn family(server: &str, exe: &[u8]) -> Family {
    let by_name = |name: &[u8]| match name {
        b"nginx" | b"openresty" | b"tengine" | b"angie" => Some(Family::Nginx),
        b"apache" | b"apache2" => Some(Family::Apache),
        b"lighttpd" => Some(Family::Lighttpd),
        b"caddy" | b"frankenphp" => Some(Family::Caddy),
        b"tomcat" | b"java" | b"jetty" | b"jboss" | b"wildfly" => Some(Family::Java),
        _ if name.starts_with(b"php-fpm") => Some(Family::PhpFpm),
        _ if name.starts_with(b"httpd") => Some(Family::Apache),
        _ => None,
    };
    by_name(server.as_bytes())
        .or_else(|| by_name(path::name(exe)))
        .unwrap_or(Family::Other)
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
    let told = Options::new(args, b"fmi").short(b'f');
    usual(Dialect::Lighttpd, told, LIGHTTPD, cwd)
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
        Title::None | Title::Worker | Title::Arguments(_) => {
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

fn java(args: &[&[u8]], cwd: &[u8]) -> Plan {
    let mut plan = Plan::default();
    let base = property(args, b"catalina.base").or_else(|| property(args, b"catalina.home"));
    if let Some(base) = base {
        let base = path::join(cwd, base);
        plan.dialect = Some(Dialect::Tomcat);
        plan.told = true;
        plan.also = vec![path::join(&base, b"conf/*/*/*.xml")];
        plan.variables = properties(args)
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        plan.candidates = vec![Candidate {
            file: path::join(&base, b"conf/server.xml"),
            bases: vec![base],
        }];
    }
    for (name, below, source) in [
        ("jetty.base", "webapps", "argument -Djetty.base"),
        (
            "jboss.server.base.dir",
            "deployments",
            "argument -Djboss.server.base.dir",
        ),
        (
            "jboss.home.dir",
            "standalone/deployments",
            "argument -Djboss.home.dir",
        ),
    ] {
        if let Some(value) = property(args, name.as_bytes()) {
            let directory = path::join(&path::join(cwd, value), below.as_bytes());
            plan.directories.push((Kind::Served, directory, source));
        }
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

    fn planned(server: &str, line: &str, exe: &str) -> (Vec<String>, bool) {
        let args: Vec<&[u8]> = line.split('|').map(str::as_bytes).collect();
        let plan = plan(server, &args, exe.as_bytes(), b"/cwd");
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
            ("gunicorn", "gunicorn|-c|x"),
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
            let plan = plan(server, &args, b"/usr/bin/x", b"/cwd");
            let found: Vec<_> = plan.directories.iter().map(|d| d.1.as_slice()).collect();
            assert_eq!(found, [expected.as_bytes()], "{line}");
        }
    }
}
