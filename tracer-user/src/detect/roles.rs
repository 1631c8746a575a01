//! Which programs are servers, and which are shells and interpreters: data tables.
//!
//! Matched on the executable that the kernel resolved, never on `comm`, which any process sets as
//! it likes. A name's `#` stands for a version (`php-fpm#` is `php-fpm`, `php-fpm8.2`, `php-fpm83`).

pub mod entry;
pub mod tools;

use std::borrow::Cow;

use tracer_common::tag::Role;

use crate::event::Exec;
use crate::lineage::process::{Server, Why};

/// Bytes of an executable's name that a server is called by.
const NAME_BYTES: usize = 64;

/// A server that its own executable names.
struct Native {
    name: &'static str,
    role: Role,
    exe: &'static [&'static str],
}

#[rustfmt::skip]
const NATIVE: &[Native] = &[
    Native { name: "nginx", role: Role::Web, exe: &["nginx", "nginx-debug", "openresty", "angie", "freenginx", "tengine"] },
    Native { name: "apache", role: Role::Web, exe: &["apache2", "httpd", "httpd.worker", "httpd.event", "httpd-prefork", "httpd-worker", "httpd-event"] },
    Native { name: "lighttpd", role: Role::Web, exe: &["lighttpd"] },
    Native { name: "caddy", role: Role::Web, exe: &["caddy", "frankenphp"] },
    Native { name: "litespeed", role: Role::Web, exe: &["litespeed", "lshttpd", "openlitespeed"] },
    Native { name: "haproxy", role: Role::Web, exe: &["haproxy"] },
    Native { name: "traefik", role: Role::Web, exe: &["traefik"] },
    Native { name: "envoy", role: Role::Web, exe: &["envoy"] },
    Native { name: "varnish", role: Role::Web, exe: &["varnishd"] },
    Native { name: "squid", role: Role::Web, exe: &["squid"] },
    Native { name: "ingress-nginx", role: Role::Web, exe: &["nginx-ingress-controller"] },
    Native { name: "small-web-server", role: Role::Web, exe: &["h2o", "hiawatha", "cherokee", "cherokee-worker", "thttpd", "mini_httpd", "boa", "mongoose", "webfs", "webfsd"] },
    Native { name: "php-fpm", role: Role::App, exe: &["php-fpm#", "sw-engine-fpm"] },
    Native { name: "php-cgi", role: Role::App, exe: &["php-cgi#", "php#-cgi", "php-fcgi", "php-cgi.cagefs", "lsphp#"] },
    Native { name: "unit", role: Role::App, exe: &["unitd"] },
    Native { name: "uwsgi", role: Role::App, exe: &["uwsgi#", "uwsgi-core"] },
    Native { name: "fcgiwrap", role: Role::App, exe: &["fcgiwrap"] },
    Native { name: "passenger", role: Role::App, exe: &["PassengerAgent"] },
    Native { name: "mysql", role: Role::Database, exe: &["mysqld", "mariadbd"] },
    Native { name: "postgresql", role: Role::Database, exe: &["postgres"] },
    Native { name: "mongodb", role: Role::Database, exe: &["mongod", "mongos"] },
    Native { name: "sqlserver", role: Role::Database, exe: &["sqlservr"] },
    Native { name: "db2", role: Role::Database, exe: &["db2sysc"] },
    Native { name: "clickhouse", role: Role::Database, exe: &["clickhouse-server"] },
    Native { name: "influxdb", role: Role::Database, exe: &["influxd", "influxdb3"] },
    Native { name: "redis", role: Role::Cache, exe: &["redis-server", "valkey-server", "keydb-server", "dragonfly"] },
    Native { name: "memcached", role: Role::Cache, exe: &["memcached"] },
    Native { name: "exim", role: Role::Mail, exe: &["exim", "exim4"] },
    Native { name: "dovecot", role: Role::Mail, exe: &["dovecot", "lmtp", "imap", "pop3"] },
    Native { name: "ftp", role: Role::Ftp, exe: &["vsftpd", "proftpd", "pure-ftpd"] },
    Native { name: "zabbix", role: Role::Agent, exe: &["zabbix_agentd", "zabbix_agent2", "zabbix_server", "zabbix_proxy"] },
    Native { name: "nagios", role: Role::Agent, exe: &["nrpe", "nagios#", "naemon", "nsca"] },
    Native { name: "icinga", role: Role::Agent, exe: &["icinga2", "icinga"] },
    Native { name: "checkmk", role: Role::Agent, exe: &["cmk-agent-ctl"] },
    Native { name: "snmpd", role: Role::Agent, exe: &["snmpd"] },
    Native { name: "telegraf", role: Role::Agent, exe: &["telegraf"] },
    Native { name: "collectd", role: Role::Agent, exe: &["collectd"] },
    Native { name: "monit", role: Role::Agent, exe: &["monit"] },
    Native { name: "netdata", role: Role::Agent, exe: &["netdata"] },
    Native { name: "consul", role: Role::Agent, exe: &["consul"] },
    Native { name: "datadog", role: Role::Agent, exe: &["datadog-agent"] },
];

/// A server that runs in an interpreter or virtual machine: its arguments name it.
struct Hosted {
    name: &'static str,
    role: Role,
    /// The runtime's executable.
    exe: &'static [&'static str],
    /// File names of scripts, names of modules or classes, beginnings of a process title.
    program: &'static [&'static str],
}

const PYTHON: &[&str] = &["python#", "pypy#"];
const RUBY: &[&str] = &["ruby#"];
const PERL: &[&str] = &["perl#"];
const JAVA: &[&str] = &["java", "jsvc"];

#[rustfmt::skip]
const HOSTED: &[Hosted] = &[
    Hosted { name: "gunicorn", role: Role::App, exe: PYTHON, program: &["gunicorn", "gunicorn3"] },
    Hosted { name: "uvicorn", role: Role::App, exe: PYTHON, program: &["uvicorn", "hypercorn", "daphne", "granian"] },
    Hosted { name: "waitress", role: Role::App, exe: PYTHON, program: &["waitress-serve", "waitress"] },
    Hosted { name: "puma", role: Role::App, exe: RUBY, program: &["puma", "unicorn", "unicorn_rails", "thin", "rackup", "falcon", "mongrel_rails", "passenger"] },
    Hosted { name: "munin", role: Role::Agent, exe: PERL, program: &["munin-node"] },
    Hosted { name: "salt", role: Role::Agent, exe: PYTHON, program: &["salt-master", "salt-api", "salt-minion"] },
    Hosted { name: "plack", role: Role::App, exe: PERL, program: &["starman", "plackup", "hypnotoad", "twiggy"] },
    Hosted { name: "tomcat", role: Role::App, exe: JAVA, program: &["org.apache.catalina.startup.Bootstrap", "org.apache.catalina.startup.Tomcat"] },
    Hosted { name: "jetty", role: Role::App, exe: JAVA, program: &["org.eclipse.jetty.start.Main", "org.eclipse.jetty.xml.XmlConfiguration"] },
    Hosted { name: "wildfly", role: Role::App, exe: JAVA, program: &["org.jboss.modules.Main", "org.jboss.Main", "jboss-modules.jar"] },
    Hosted { name: "weblogic", role: Role::App, exe: JAVA, program: &["weblogic.Server"] },
    Hosted { name: "websphere", role: Role::App, exe: JAVA, program: &["com.ibm.ws.runtime.WsServer", "com.ibm.wsspi.bootstrap.WSPreLauncher", "ws-server.jar"] },
    Hosted { name: "glassfish", role: Role::App, exe: JAVA, program: &["com.sun.enterprise.glassfish.bootstrap.ASMain", "glassfish.jar", "payara-micro.jar"] },
    Hosted { name: "spring", role: Role::App, exe: JAVA, program: &["org.springframework.boot.loader.JarLauncher", "org.springframework.boot.loader.launch.JarLauncher", "org.springframework.boot.loader.WarLauncher"] },
    Hosted { name: "jenkins", role: Role::Ci, exe: JAVA, program: &["jenkins.war", "executable.Main", "hudson.WebAppMain"] },
    Hosted { name: "elasticsearch", role: Role::Database, exe: JAVA, program: &["org.elasticsearch.bootstrap.Elasticsearch", "org.elasticsearch.server.cli.ServerCli", "org.opensearch.bootstrap.OpenSearch"] },
    Hosted { name: "confluence", role: Role::App, exe: JAVA, program: &["com.atlassian.jira.startup.Launcher", "com.atlassian.bitbucket.internal.launcher.BitbucketServerLauncher"] },
    Hosted { name: "solr", role: Role::App, exe: JAVA, program: &["solr.jar", "start.jar"] },
    Hosted { name: "activemq", role: Role::App, exe: JAVA, program: &["activemq.jar"] },
    Hosted { name: "keycloak", role: Role::App, exe: JAVA, program: &["io.quarkus.bootstrap.runner.QuarkusEntryPoint", "quarkus-run.jar"] },
];

/// Runtimes that are a server when they listen, and not before: by name alone a build tool and an
/// application server are the same program. The second name is what output calls such a server.
#[rustfmt::skip]
const RUNTIMES: &[(&str, &[&str])] = &[
    ("java", &["java", "jsvc"]),
    ("node", &["node", "nodejs"]),
    ("bun", &["bun"]),
    ("deno", &["deno"]),
    ("python", &["python#", "pypy#"]),
    ("ruby", &["ruby#", "jruby"]),
    ("perl", &["perl#"]),
    ("php", &["php#"]),
    ("dotnet", &["dotnet", "mono", "mono-sgen"]),
    ("erlang", &["beam.smp", "beam"]),
    ("lua", &["lua#", "luajit#"]),
];

#[rustfmt::skip]
const SHELLS: &[&str] = &[
    "sh", "bash", "bash-static", "sash", "dash", "ash", "zsh#", "ksh#", "ksh93", "mksh", "mksh-static", "lksh", "oksh", "loksh", "pdksh",
    "csh", "bsd-csh", "tcsh", "fish", "hush", "rbash", "rzsh", "yash", "posh", "xonsh", "nu", "elvish", "pwsh", "es", "rc", "scsh",
];

#[rustfmt::skip]
const INTERPRETERS: &[&str] = &[
    "python#", "pypy#", "perl#", "ruby#", "php#", "php#-cli", "lua#", "luajit#", "tclsh#", "expect", "node", "nodejs",
    "bun", "deno", "Rscript", "R", "groovy", "jshell", "guile#", "gawk", "mawk", "awk", "original-awk",
];

/// Programs that are many programs: the applet is the name they are called by.
const MULTI_CALL: &[&str] = &["busybox", "toybox", "coreutils"];

/// What kind of program an exec runs, for the shell rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A command interpreter.
    Shell,
    /// A language interpreter.
    Interpreter,
}

impl Program {
    /// The word in reasons.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Interpreter => "interpreter",
        }
    }
}

/// The server that an exec starts: by executable, or by the arguments of its runtime.
#[must_use]
pub fn by_exec(exec: &Exec) -> Option<Server> {
    let name = effective_name(exec);
    by_name(name).or_else(|| by_arguments(name, &exec.args))
}

/// Whether [`by_exec`] needed nothing but the executable, so that its inode alone says the role.
#[must_use]
pub fn by_file_alone(exec: &Exec) -> bool {
    exec.file.inode != 0 && exec.nlink != 0 && by_name(base(&exec.exe)).is_some()
}

/// The server that a runtime is once it serves.
#[must_use]
pub fn runtime(exec: &Exec, why: Why) -> Option<Server> {
    let exe = effective_name(exec);
    let (name, _) = RUNTIMES.iter().find(|(_, names)| any(names, exe))?;
    Some(Server {
        name: Cow::Borrowed(name),
        role: Role::App,
        why,
    })
}

/// The server that any program is once it serves: a runtime, else one named by its executable.
#[must_use]
pub fn by_serving(exec: &Exec, why: Why) -> Server {
    runtime(exec, why).unwrap_or_else(|| {
        let name = effective_name(exec);
        let name = name.get(..NAME_BYTES).unwrap_or(name);
        Server {
            name: String::from_utf8_lossy(name).into_owned().into(),
            role: Role::Service,
            why,
        }
    })
}

/// A server as the tables know it, where they know one by its name: only of such a one a configuration is
/// read.
#[must_use]
pub fn tabled(server: &Server) -> Server {
    let native = NATIVE.iter().map(|known| known.name);
    let hosted = HOSTED.iter().map(|known| known.name);
    let mut runtimes = RUNTIMES.iter().map(|(name, _)| *name);
    let is_it = |known: &&'static str| **known == *server.name;
    let known = match server.why {
        Why::Named => native.chain(hosted).find(is_it),
        Why::Listens | Why::Accepts => runtimes.find(is_it),
    };
    Server {
        name: known.map_or_else(|| server.name.clone(), Cow::Borrowed),
        ..server.clone()
    }
}

/// What kind of program an exec runs, if one of interest.
#[must_use]
pub fn program(exec: &Exec) -> Option<Program> {
    program_named(effective_name(exec))
}

/// What kind of program has this name, if one of interest.
#[must_use]
pub fn program_named(name: &[u8]) -> Option<Program> {
    if any(SHELLS, name) {
        Some(Program::Shell)
    } else if any(INTERPRETERS, name) {
        Some(Program::Interpreter)
    } else {
        None
    }
}

/// The name of the program that really runs: the applet of a multi-call binary, the target of a
/// dynamic loader that was called as a program, else the executable's own.
#[must_use]
pub fn effective_name(exec: &Exec) -> &[u8] {
    let (path, args) = invoked(exec);
    called(base(path), args)
}

/// The applet that a multi-call binary runs, whatever its file is called.
#[must_use]
pub fn applet(args: &[Vec<u8>]) -> &[u8] {
    called(b"busybox", args.iter().map(Vec::as_slice))
}

/// What a program of this name runs as, called by these words.
fn called<'a>(mut name: &'a [u8], words: impl Iterator<Item = &'a [u8]>) -> &'a [u8] {
    for word in words.take(NESTED) {
        if !is_multi_call(name) {
            break;
        }
        let applet = word.strip_prefix(b"--coreutils-prog=").unwrap_or(word);
        let applet = base(applet);
        name = applet.strip_prefix(b"-").unwrap_or(applet);
    }
    name
}

/// Programs that run programs by their arguments, in each other: more than that is nobody's.
const NESTED: usize = 4;

/// Whether a program is many by its name. Builds for other machines and from elsewhere have words after it:
/// `busybox-x86_64`.
#[must_use]
pub fn is_multi_call(name: &[u8]) -> bool {
    MULTI_CALL
        .iter()
        .any(|known| name.starts_with(known.as_bytes()))
}

/// The file that runs as a program: what a dynamic loader was given, else the executable.
#[must_use]
pub fn target(exec: &Exec) -> &[u8] {
    invoked(exec).0
}

/// The program that really runs and its arguments, `argv[0]` first.
fn invoked(exec: &Exec) -> (&[u8], impl Iterator<Item = &[u8]>) {
    let mut path = exec.exe.as_slice();
    let mut name = None;
    let mut from = 0;
    for _ in 0..NESTED {
        let words = exec.args.get(from..).unwrap_or_default();
        let Some(loaded) = is_loader(base(path)).then(|| loaded(words)).flatten() else {
            break;
        };
        path = words.get(loaded.at).map(Vec::as_slice).unwrap_or_default();
        name = Some(loaded.name.unwrap_or(path));
        from += loaded.at;
    }
    let rest = exec.args.iter().skip(from + usize::from(name.is_some()));
    (path, name.into_iter().chain(rest.map(Vec::as_slice)))
}

fn by_name(name: &[u8]) -> Option<Server> {
    NATIVE
        .iter()
        .find(|server| any(server.exe, name))
        .map(|server| named(server.name, server.role))
}

const fn named(name: &'static str, role: Role) -> Server {
    Server {
        name: Cow::Borrowed(name),
        role,
        why: Why::Named,
    }
}

/// The server that a process calls itself, where it was found running: gunicorn and puma write
/// `gunicorn: master [app]` over their arguments. Never used for an exec that was seen, whose
/// arguments are what the server was started with.
#[must_use]
pub fn by_title(exec: &Exec) -> Option<Server> {
    let title = exec.args.first()?.split(|&byte| byte == b':').next()?;
    hosted(effective_name(exec), |server| names(server, title))
}

fn by_arguments(exe: &[u8], args: &[Vec<u8>]) -> Option<Server> {
    hosted(exe, |server| {
        if server.exe == JAVA {
            // Options before and after the class or archive are many; a name is enough.
            return args.iter().skip(1).any(|word| names(server, word));
        }
        script(args).is_some_and(|script| names(server, script))
    })
}

fn hosted(exe: &[u8], is: impl Fn(&Hosted) -> bool) -> Option<Server> {
    HOSTED
        .iter()
        .find(|server| any(server.exe, exe) && is(server))
        .map(|server| named(server.name, server.role))
}

fn names(server: &Hosted, word: &[u8]) -> bool {
    server
        .program
        .iter()
        .any(|name| name.as_bytes() == base(word))
}

/// The script or module that an interpreter's arguments name: the first word that is no option, or
/// the one after `-m`.
#[must_use]
pub fn script(args: &[Vec<u8>]) -> Option<&[u8]> {
    args.get(script_at(args)?).map(Vec::as_slice)
}

/// Which of the arguments [`script`] is.
#[must_use]
pub fn script_at(args: &[Vec<u8>]) -> Option<usize> {
    let mut words = args.iter().enumerate().skip(1);
    while let Some((at, word)) = words.next() {
        match word.as_slice() {
            b"-m" => return words.next().map(|(at, _)| at),
            b"-c" | b"-e" | b"-" | b"--eval" | b"-p" | b"--print" | b"-r" => return None,
            // Python's options with a value of their own word; the others' values are attached.
            b"-W" | b"-X" => {
                words.next();
            }
            word if word.starts_with(b"-") => {}
            _ => return Some(at),
        }
    }
    None
}

/// Whether a program's name is that of a dynamic loader: glibc's, or musl's, which is its C library too and
/// on some systems has that name only. glibc's library has a number and runs nothing.
#[must_use]
pub fn is_loader(name: &[u8]) -> bool {
    let starts = |prefix: &[u8]| name.starts_with(prefix);
    name == b"libc.so"
        || (starts(b"ld-") || starts(b"ld.so") || starts(b"ld64.so") || starts(b"libc.musl-"))
            && name.windows(3).any(|part| part == b".so")
}

/// What a dynamic loader runs.
struct Loaded<'a> {
    /// Which of its arguments names the program.
    at: usize,
    /// The `argv[0]` that the program is given instead of that.
    name: Option<&'a [u8]>,
}

/// What `ld.so [options] program` runs: ld.so(8), and ldso/dynlink.c of musl, whose values may be
/// attached and whose options end with `--`. Nothing where it is asked about the program only, as
/// ldd(1) does.
fn loaded(args: &[Vec<u8>]) -> Option<Loaded<'_>> {
    const WITH_VALUE: &[&[u8]] = &[
        b"--library-path",
        b"--inhibit-rpath",
        b"--audit",
        b"--preload",
        b"--argv0",
        b"--glibc-hwcaps-prepend",
        b"--glibc-hwcaps-mask",
    ];
    const ASKING: &[&[u8]] = &[
        b"--list",
        b"--verify",
        b"--list-tunables",
        b"--list-diagnostics",
        b"--help",
        b"--version",
    ];
    let mut name = None;
    let mut words = args.iter().enumerate().skip(1);
    while let Some((at, word)) = words.next() {
        let word = word.as_slice();
        if ASKING.contains(&word) {
            return None;
        } else if word == b"--" {
            return words.next().map(|(at, _)| Loaded { at, name });
        } else if WITH_VALUE.contains(&word) {
            let value = words.next().map(|(_, value)| value.as_slice());
            if word == b"--argv0" {
                name = value;
            }
        } else if let Some(value) = word.strip_prefix(b"--argv0=") {
            name = Some(value);
        } else if !word.starts_with(b"--") {
            return Some(Loaded { at, name });
        }
    }
    None
}

/// The last component of a path.
#[must_use]
pub fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn any(patterns: &[&str], name: &[u8]) -> bool {
    patterns
        .iter()
        .any(|pattern| matches(pattern.as_bytes(), name))
}

/// Whether a name is a table's word; `#` in the word takes digits, dots and dashes between digits.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let Some(at) = pattern.iter().position(|&byte| byte == b'#') else {
        return pattern == name;
    };
    let (prefix, suffix) = (pattern.get(..at), pattern.get(at + 1..));
    let (Some(prefix), Some(suffix)) = (prefix, suffix) else {
        return false;
    };
    name.strip_prefix(prefix)
        .and_then(|rest| rest.strip_suffix(suffix))
        .is_some_and(|version| {
            let version = version.strip_prefix(b"-").unwrap_or(version);
            version
                .iter()
                .all(|byte| byte.is_ascii_digit() || *byte == b'.')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::exec;

    fn server(exe: &str, args: &[&str]) -> Option<(Cow<'static, str>, Role)> {
        by_exec(&exec(exe, args)).map(|server| (server.name, server.role))
    }

    #[test]
    fn servers_by_executable() {
        for (exe, name) in [
            ("/usr/sbin/nginx", "nginx"),
            ("/usr/sbin/php-fpm8.2", "php-fpm"),
            ("/usr/sbin/php-fpm83", "php-fpm"),
            ("/usr/local/sbin/php-fpm", "php-fpm"),
            ("/usr/bin/php-cgi8.2", "php-cgi"),
            ("/usr/bin/php8.2-cgi", "php-cgi"),
            ("/usr/sbin/mariadbd", "mysql"),
            ("/usr/sbin/httpd-prefork", "apache"),
        ] {
            assert_eq!(
                server(exe, &[name]).map(|found| found.0).as_deref(),
                Some(name),
                "{exe}"
            );
        }
        for exe in [
            "/usr/bin/php8.2",
            "/usr/bin/nginx-manager",
            "/usr/sbin/sshd",
            "",
            "/usr/bin/python3.11",
        ] {
            assert_eq!(server(exe, &["x"]), None, "{exe}");
        }
    }

    #[test]
    fn servers_by_arguments() {
        let tomcat = [
            "java",
            "-Dx=y",
            "-classpath",
            "/a.jar",
            "org.apache.catalina.startup.Bootstrap",
            "start",
        ];
        assert_eq!(
            server("/usr/lib/jvm/bin/java", &tomcat),
            Some(("tomcat".into(), Role::App))
        );
        assert_eq!(
            server("/usr/bin/java", &["java", "-jar", "/opt/jenkins.war"])
                .unwrap()
                .0,
            "jenkins"
        );
        assert_eq!(
            server("/usr/bin/java", &["java", "org.apache.maven.Main"]),
            None
        );
        let gunicorn = [
            "/usr/bin/python3",
            "/usr/bin/gunicorn",
            "-w",
            "2",
            "app:app",
        ];
        assert_eq!(
            server("/usr/bin/python3.11", &gunicorn).unwrap().0,
            "gunicorn"
        );
        assert_eq!(
            server("/usr/bin/python3", &["python3", "-m", "uvicorn", "a:b"])
                .unwrap()
                .0,
            "uvicorn"
        );
        let title = exec("/usr/bin/python3", &["gunicorn: master [app]"]);
        assert_eq!(by_exec(&title), None);
        assert_eq!(by_title(&title).unwrap().name, "gunicorn");
        assert_eq!(
            server("/usr/bin/python3", &["python3", "-c", "gunicorn"]),
            None
        );
        assert_eq!(
            server("/usr/bin/python3", &["python3", "x.py", "gunicorn"]),
            None
        );
    }

    #[test]
    fn others_need_to_serve() {
        let node = exec("/usr/bin/node", &["node", "/app/server.js"]);
        assert_eq!(by_exec(&node), None);
        let served = by_serving(&node, Why::Listens);
        assert_eq!((&*served.name, served.role), ("node", Role::App));
        let api = exec("/srv/api/api-server", &["api"]);
        assert_eq!(by_exec(&api), None);
        assert_eq!(runtime(&api, Why::Listens), None);
        let served = by_serving(&api, Why::Accepts);
        assert_eq!((&*served.name, served.role), ("api-server", Role::Service));
        let long = exec(&format!("/srv/{}", "x".repeat(300)), &[]);
        assert_eq!(by_serving(&long, Why::Listens).name.len(), NAME_BYTES);
    }

    #[test]
    fn programs_behind_other_names() {
        let kind = |exe: &str, args: &[&str]| program(&exec(exe, args));
        assert_eq!(
            kind("/usr/bin/dash", &["totally-not-a-shell"]),
            Some(Program::Shell)
        );
        assert_eq!(
            kind("/bin/busybox", &["sh", "-c", "id"]),
            Some(Program::Shell)
        );
        assert_eq!(
            kind("/bin/busybox", &["busybox", "ash"]),
            Some(Program::Shell)
        );
        assert_eq!(kind("/bin/busybox", &["-sh"]), Some(Program::Shell));
        assert_eq!(kind("/bin/busybox", &["cat"]), None);
        let loader = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
        assert_eq!(
            kind(loader, &["ld", "/bin/sh", "-c", "id"]),
            Some(Program::Shell)
        );
        assert_eq!(
            kind(
                loader,
                &[
                    "ld",
                    "--argv0",
                    "x",
                    "--inhibit-cache",
                    "/usr/bin/python3.11"
                ]
            ),
            Some(Program::Interpreter)
        );
        // musl's, by each of its names, with values of either kind.
        for (exe, args) in [
            ("/lib/ld-musl-x86_64.so.1", &["x", "/bin/sh"][..]),
            (
                "/lib/ld-musl-x86_64.so.1",
                &["x", "--preload=/a.so", "--argv0", "y", "--", "/bin/sh"],
            ),
            ("/usr/lib/x86_64-linux-musl/libc.so", &["x", "/bin/sh"]),
            (loader, &["ld", loader, "--inhibit-rpath", "y", "/bin/sh"]),
            (
                loader,
                &["ld", "--audit", "/tmp/a.so", "/bin/busybox", "sh"],
            ),
        ] {
            assert_eq!(kind(exe, args), Some(Program::Shell), "{args:?}");
        }
        // Asked about a program, it runs none; nor does glibc's library.
        for args in [&["ld", "--verify", "/bin/sh"], &["ld", "--list", "/bin/sh"]] {
            assert_eq!(kind(loader, args), None, "{args:?}");
        }
        assert_eq!(
            kind("/lib/x86_64-linux-gnu/libc.so.6", &["x", "/bin/sh"]),
            None
        );
        for (exe, args) in [
            ("/tmp/busybox-x86_64", &["busybox", "busybox", "sh"][..]),
            ("/bin/toybox", &["toybox", "sh"]),
            ("/bin/bash-static", &["x"]),
        ] {
            assert_eq!(kind(exe, args), Some(Program::Shell), "{args:?}");
        }
        let coreutils = exec("/usr/bin/coreutils", &["x", "--coreutils-prog=env"]);
        assert_eq!(effective_name(&coreutils), b"x");
        assert_eq!(
            effective_name(&exec(
                "/usr/bin/coreutils",
                &["coreutils", "--coreutils-prog=env"]
            )),
            b"env"
        );
        assert_eq!(
            effective_name(&exec("/bin/busybox", &["busybox"])),
            b"busybox"
        );
        assert_eq!(effective_name(&exec("/bin/busybox", &[])), b"busybox");
        assert_eq!(kind("/usr/bin/ld", &["ld", "/bin/sh"]), None);
        assert_eq!(
            kind("/usr/bin/perl5.36.0", &["perl"]),
            Some(Program::Interpreter)
        );
        assert_eq!(kind("/usr/bin/id", &["sh"]), None);
    }
}
