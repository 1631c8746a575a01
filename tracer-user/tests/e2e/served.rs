//! Directories that only a running server's own configuration names: what it serves, the application
//! that it runs, what it loads. And that a reload changes which they are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::alert;
use crate::databases::Maria;
use crate::host::{self, DEADLINE, Daemon, Outcome, Skip, TempDir, User, free_port, program};
use crate::http;
use crate::scene::{Scene, Story};
use crate::server::{self, Cluster, Postgres};

const CODE: &str = "server-code-write";
const CONTROL: &str = "server-control-write";
const COMPONENT: &str = "server-component-write";
const LIBRARY: &str = "database-library-write";

/// Every story of directories.
pub(crate) fn stories() -> Vec<Story> {
    [
        (
            "nginx: another root after a reload",
            reload as fn(&Scene) -> Outcome,
        ),
        ("apache: an alias and files of its configuration", apache),
        ("lighttpd: an alias", lighttpd),
        ("gunicorn: the application", gunicorn),
        ("gunicorn: in a mount namespace of its own", mount_namespace),
        ("uwsgi: the application and static files", uwsgi),
        ("node: the directory of the script", node),
        ("tomcat: applications elsewhere", tomcat),
        ("mariadb: plugin_dir", mariadb),
        (
            "postgresql: ALTER SYSTEM and dynamic_library_path",
            postgresql,
        ),
    ]
    .into_iter()
    .map(|(name, run)| Story::new(&format!("directories: {name}"), run))
    .collect()
}

/// What an alert says of a file that was written.
struct Written<'a> {
    rule: &'static str,
    kind: &'static str,
    directory: &'a Path,
    server: &'static str,
}

/// Lets a server write files whose names the story makes of a number until one is an alert, as its
/// configuration may not have been read yet; and asserts what that alert says.
fn told(scene: &Scene, story: &str, written: &Written<'_>, write: impl Fn(usize) -> PathBuf) {
    let start = Instant::now();
    let mark = scene.agent.mark();
    let mut files = Vec::new();
    for number in 0.. {
        // An alert may come after the next file was written.
        files.push(write(number).display().to_string());
        let about = |document: &Value| {
            let file = alert::text(document, "/file/path");
            files.iter().any(|written| written == file)
        };
        if let Some(line) = scene.agent.wait_for(mark, Duration::from_secs(1), about) {
            let text = |pointer| alert::text(&line.document, pointer);
            assert_eq!(
                text("/rule/id"),
                written.rule,
                "{story}: {:#?}",
                line.document
            );
            assert_eq!(text("/tracer/directory/kind"), written.kind, "{story}");
            let directory = written.directory.display().to_string();
            assert_eq!(text("/tracer/directory/path"), directory, "{story}");
            assert_eq!(text("/tracer/server/name"), written.server, "{story}");
            // What was written before the directory was known is told later, too.
            scene.alerts_of(0, || {});
            return;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "{story}: no alert of {}; came: {:#?}\n{}",
            files.join(", "),
            scene
                .agent
                .since(mark)
                .iter()
                .map(|line| alert::brief(&line.document))
                .collect::<Vec<_>>(),
            scene.agent.stderr()
        );
    }
}

/// A page of PHP that writes the file that it is asked to.
const WRITER: &str = "<?php file_put_contents($_GET['w'], '<?php');\necho 'done';\n";

/// Asks a page or application to write a file of that name.
fn write_by(port: u16, page: &str, file: PathBuf) -> PathBuf {
    let answer = http::get(port, &format!("{page}?w={}", file.display()));
    assert_eq!(answer.body.trim(), "done", "{answer:?}");
    file
}

/// Writes until a write is told no more: what a configuration does not name any more is forgotten a moment later.
fn falls_silent(scene: &Scene, story: &str, write: impl Fn(usize) -> PathBuf) {
    let start = Instant::now();
    for number in 0.. {
        let alerts = scene.alerts_of(0, || {
            write(number);
        });
        if alerts.is_empty() {
            return;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "{story}: told still: {:?}",
            alerts.iter().map(alert::brief).collect::<Vec<_>>()
        );
    }
}

fn reload(scene: &Scene) -> Outcome {
    let site = server::nginx_php_fpm()?;
    let old = site.docroot().to_owned();
    let new = site.dir().dir("next", Some(&site.user));
    site.page("w.php", WRITER);
    host::write(&new.join("w.php"), WRITER);
    let served = |directory| Written {
        rule: CODE,
        kind: "served",
        directory,
        server: "php-fpm",
    };
    let write = |directory: &Path, number: usize| {
        write_by(site.port, "/w.php", directory.join(format!("{number}.php")))
    };
    told(scene, "before", &served(&old), |number| write(&old, number));
    scene.expect_silence("a directory that is not served yet", || {
        write(&new, 1_000);
    });
    let config = site.dir().join("nginx.conf");
    let text = std::fs::read_to_string(&config).expect("its configuration");
    let root = |directory: &Path| format!("root {};", directory.display());
    host::write(&config, &text.replace(&root(&old), &root(&new)));
    host::signal(site.pid(0), Signal::HUP);
    told(scene, "after", &served(&new), |number| write(&new, number));
    falls_silent(scene, "what was served", |number| {
        write(&old, 2_000 + number)
    });
    Ok(())
}

fn apache(scene: &Scene) -> Outcome {
    let site = server::apache()?;
    let shared = site.dir().join("shared");
    let sites = site.dir().join("sites");
    site.page("w.php", WRITER);
    let write = |file: PathBuf| write_by(site.port, "/w.php", file);
    for (name, rule, kind, directory) in [
        ("x.php", CODE, "served", &shared),
        (".htaccess", CONTROL, "served", &shared),
        (".user.ini", CONTROL, "served", &shared),
        ("web.config", CONTROL, "served", &shared),
        ("zz.conf", COMPONENT, "component", &sites),
    ] {
        let written = Written {
            rule,
            kind,
            directory,
            server: "apache",
        };
        // Where it is, and not how often: the same file within a second is told once.
        told(scene, name, &written, |number| {
            if number > 0 {
                std::thread::sleep(Duration::from_millis(200));
            }
            write(directory.join(name))
        });
        std::fs::remove_file(directory.join(name)).expect("what was written");
    }
    scene.expect_silence("beside them", || {
        write(site.dir().join("storage/x.php"));
    });
    Ok(())
}

fn lighttpd(scene: &Scene) -> Outcome {
    let site = server::lighttpd_php_cgi()?;
    let shared = site.dir().join("shared");
    site.page("w.php", WRITER);
    let written = Written {
        rule: CODE,
        kind: "served",
        directory: &shared,
        server: "php-cgi",
    };
    told(scene, "alias.url", &written, |number| {
        write_by(site.port, "/w.php", shared.join(format!("{number}.php")))
    });
    Ok(())
}

/// An application that writes what it is asked to, and imports a module when it is asked to.
const PYTHON: &str = "import importlib, urllib.parse\n\
    def app(environ, start):\n\
    \x20   asked = urllib.parse.parse_qs(environ['QUERY_STRING'])\n\
    \x20   if 'w' in asked: open(asked['w'][0], 'w').write('x')\n\
    \x20   if 'm' in asked: importlib.import_module(asked['m'][0])\n\
    \x20   start('200 OK', [('Content-Type', 'text/plain')])\n\
    \x20   return [b'done']\n\
    application = app\n";

/// A server of one program, run as a user in a folder.
pub(crate) fn start(command: &mut Command, dir: &TempDir, user: &User, port: u16) -> Daemon {
    use std::os::unix::process::CommandExt as _;
    let mut daemon = Daemon::start(
        command
            .uid(user.uid)
            .gid(user.gid)
            .current_dir(dir.path())
            .env_remove("PYTHONDONTWRITEBYTECODE")
            .env("HOME", dir.join("home")),
        dir.join("server.out"),
        Signal::TERM,
    );
    daemon.ready("port", || http::accepts(port));
    daemon
}

fn gunicorn(scene: &Scene) -> Outcome {
    let (python, gunicorn) = (program("python3")?, program("gunicorn")?);
    let user = User::named("www-data")?;
    let dir = TempDir::new("gunicorn");
    let app = dir.dir("app", Some(&user));
    dir.dir("tmp", Some(&user));
    dir.file("app/shop.py", PYTHON);
    dir.file("app/late.py", "x = 1\n");
    dir.file("settings.py", &format!("chdir = \"{}\"\n", app.display()));
    let port = free_port();
    let _daemon = start(
        Command::new(python)
            .arg(gunicorn)
            .args(["-c", "settings.py", "-b"])
            .arg(format!("127.0.0.1:{port}"))
            .arg("shop:app"),
        &dir,
        &user,
        port,
    );
    let written = Written {
        rule: CODE,
        kind: "application",
        directory: &app,
        server: "gunicorn",
    };
    told(scene, "gunicorn", &written, |number| {
        write_by(port, "/", app.join(format!("m{number}.py")))
    });
    scene.expect_silence("what Python compiles, and what is not its own", || {
        assert_eq!(http::get(port, "/?m=late").body.trim(), "done");
        write_by(port, "/", dir.join("tmp/x.py"));
        write_by(port, "/", app.join("data.json"));
    });
    let cache = std::fs::read_dir(app.join("__pycache__")).expect("what Python compiled");
    assert_ne!(cache.count(), 0);
    Ok(())
}

/// The configuration is in a file system that only the server has.
fn mount_namespace(scene: &Scene) -> Outcome {
    let (python, gunicorn) = (program("python3")?, program("gunicorn")?);
    let unshare = program("unshare")?;
    let setpriv = program("setpriv")?;
    let user = User::named("www-data")?;
    let dir = TempDir::new("namespace");
    let app = dir.dir("app", Some(&user));
    let decoy = dir.dir("decoy", Some(&user));
    let private = dir.dir("private", None);
    dir.file("app/shop.py", PYTHON);
    // What the same name is on the host.
    dir.file("private/c.py", &format!("chdir = '{}'\n", decoy.display()));
    let port = free_port();
    let script = format!(
        "mount -t tmpfs none {private} && echo \"chdir = '{app}'\" > {private}/c.py && cd {private} && \
         exec {} --reuid {} --regid {} --clear-groups {} {} -c {private}/c.py -b 127.0.0.1:{port} shop:app",
        setpriv.display(),
        user.uid,
        user.gid,
        python.display(),
        gunicorn.display(),
        private = private.display(),
        app = app.display(),
    );
    let mut daemon = Daemon::start(
        Command::new(unshare)
            .args(["--mount", "/bin/sh", "-ec"])
            .arg(script)
            .env("HOME", dir.join("home")),
        dir.join("server.out"),
        Signal::TERM,
    );
    daemon.ready("port", || http::accepts(port));
    let written = Written {
        rule: CODE,
        kind: "application",
        directory: &app,
        server: "gunicorn",
    };
    told(scene, "mount namespace", &written, |number| {
        write_by(port, "/", app.join(format!("m{number}.py")))
    });
    scene.expect_silence("what the host's file of that name says", || {
        write_by(port, "/", decoy.join("x.py"));
    });
    Ok(())
}

fn uwsgi(scene: &Scene) -> Outcome {
    let uwsgi = program("uwsgi")?;
    if !Path::new("/usr/lib/uwsgi/plugins/python3_plugin.so").exists() {
        return Err(Skip("uwsgi-plugin-python3 is not installed".to_owned()));
    }
    let user = User::named("www-data")?;
    let dir = TempDir::new("uwsgi");
    let app = dir.dir("app", Some(&user));
    let files = dir.dir("files", Some(&user));
    dir.file("app/wsgi.py", PYTHON);
    let port = free_port();
    let ini = dir.file(
        "u.ini",
        &format!(
            "[uwsgi]\nplugins = http,python3\nhttp-socket = 127.0.0.1:{port}\nmaster = true\n\
             die-on-term = true\nbase = %d\nchdir = %(base)app\nwsgi-file = wsgi.py\n\
             static-map = /files=%dfiles\n"
        ),
    );
    let _daemon = start(Command::new(uwsgi).arg("--ini").arg(ini), &dir, &user, port);
    for (kind, directory, extension) in [("application", &app, "py"), ("served", &files, "php")] {
        let written = Written {
            rule: CODE,
            kind,
            directory,
            server: "uwsgi",
        };
        told(scene, kind, &written, |number| {
            write_by(port, "/", directory.join(format!("m{number}.{extension}")))
        });
    }
    Ok(())
}

fn node(scene: &Scene) -> Outcome {
    host::outside_sessions()?;
    let node = program("node")?;
    let user = User::named("www-data")?;
    let dir = TempDir::new("node");
    let app = dir.dir("app", Some(&user));
    dir.dir("data", Some(&user));
    let script = dir.file(
        "app/server.js",
        "const fs = require('fs');\n\
         require('http').createServer((request, response) => {\n\
           const file = new URL(request.url, 'http://localhost').searchParams.get('w');\n\
           if (file) fs.writeFileSync(file, 'x');\n\
           response.end('done');\n\
         }).listen(Number(process.argv[2]), '127.0.0.1');\n",
    );
    let port = free_port();
    let _daemon = start(
        Command::new(node).arg(script).arg(port.to_string()),
        &dir,
        &user,
        port,
    );
    let written = Written {
        rule: CODE,
        kind: "application",
        directory: &app,
        server: "node",
    };
    told(scene, "node", &written, |number| {
        write_by(port, "/", app.join(format!("m{number}.js")))
    });
    scene.expect_silence("data of an application", || {
        write_by(port, "/", app.join("state.json"));
        write_by(port, "/", dir.join("data/x.js"));
    });
    Ok(())
}

/// Tomcat with a folder of applications, `apps`, and one elsewhere, `extra`.
pub(crate) fn tomcat_server(deploys: bool) -> Result<(Daemon, TempDir, u16), Skip> {
    let java = program("java")?;
    let home = Path::new("/usr/share/tomcat10");
    if !home.join("bin/bootstrap.jar").exists() {
        return Err(Skip("tomcat10-common is not installed".to_owned()));
    }
    let user = User::named("www-data")?;
    let dir = TempDir::new("tomcat");
    for name in [
        "apps",
        "apps/ROOT",
        "apps/ROOT/WEB-INF",
        "apps/ROOT/WEB-INF/lib",
        "logs",
        "temp",
        "work",
        "conf",
        "extra",
    ] {
        dir.dir(name, Some(&user));
    }
    let port = free_port();
    dir.file(
        "conf/server.xml",
        &format!(
            "<Server port='-1'><Service name='Catalina'>\n\
             <Connector port='{port}' address='127.0.0.1' relaxedQueryChars='/'/>\n\
             <Engine name='Catalina' defaultHost='localhost' backgroundProcessorDelay='1'>\n\
             <Host name='localhost' appBase='apps' autoDeploy='{deploys}'>\n\
             <Context path='/extra' docBase='{}'/>\n</Host></Engine></Service></Server>\n",
            dir.join("extra").display()
        ),
    );
    // Of a whole installation this is the part that compiles pages.
    dir.file(
        "conf/web.xml",
        "<web-app xmlns='https://jakarta.ee/xml/ns/jakartaee' version='6.0'>\n\
         <servlet><servlet-name>jsp</servlet-name>\n\
         <servlet-class>org.apache.jasper.servlet.JspServlet</servlet-class></servlet>\n\
         <servlet-mapping><servlet-name>jsp</servlet-name><url-pattern>*.jsp</url-pattern>\n\
         </servlet-mapping></web-app>\n",
    );
    dir.file(
        "apps/ROOT/w.jsp",
        "<% try (java.io.FileWriter f = new java.io.FileWriter(request.getParameter(\"w\")))\
         { f.write(\"x\"); } %>done\n",
    );
    let property = |name: &str, path: &Path| format!("-D{name}={}", path.display());
    let classes = format!(
        "{0}/bin/bootstrap.jar:{0}/bin/tomcat-juli.jar",
        home.display()
    );
    let daemon = start(
        Command::new(java)
            .arg("-XX:-UsePerfData")
            .args(["-cp", &classes])
            .arg(property("catalina.home", home))
            .arg(property("catalina.base", dir.path()))
            .arg(property("java.io.tmpdir", &dir.join("temp")))
            .args(["org.apache.catalina.startup.Bootstrap", "start"]),
        &dir,
        &user,
        port,
    );
    host::wait_for("the page", || {
        let file = dir.join("temp/first");
        let answer = http::try_get(port, &format!("/w.jsp?w={}", file.display())).ok()?;
        answer.body.contains("done").then_some(())
    });
    Ok((daemon, dir, port))
}

fn tomcat(scene: &Scene) -> Outcome {
    let (_daemon, dir, port) = tomcat_server(false)?;
    for (rule, kind, below, pattern, extension) in [
        (CODE, "served", "apps/ROOT", "apps", "jsp"),
        (CODE, "served", "extra", "extra", "jsp"),
        (
            COMPONENT,
            "component",
            "apps/ROOT/WEB-INF/lib",
            "apps/*/WEB-INF/lib",
            "properties",
        ),
    ] {
        let directory = dir.join(pattern);
        let written = Written {
            rule,
            kind,
            directory: &directory,
            server: "tomcat",
        };
        told(scene, below, &written, |number| {
            let file = dir.join(below).join(format!("m{number}.{extension}"));
            let answer = http::get(port, &format!("/w.jsp?w={}", file.display()));
            assert_eq!(answer.body.trim(), "done", "{answer:?}");
            file
        });
    }
    Ok(())
}

fn mariadb(scene: &Scene) -> Outcome {
    let maria = Maria::start()?;
    let plugins = maria.dir.join("plugins");
    let written = Written {
        rule: LIBRARY,
        kind: "component",
        directory: &plugins,
        server: "mysql",
    };
    told(scene, "plugin_dir", &written, |number| {
        let file = plugins.join(format!("udf{number}.so"));
        let sql = format!("SELECT 'x' INTO DUMPFILE '{}'", file.display());
        maria.query(&sql).expect("a file");
        file
    });
    Ok(())
}

fn postgresql(scene: &Scene) -> Outcome {
    let server = Postgres::start()?;
    let cluster: &Cluster = &server.cluster;
    let data = cluster.data();
    let user = &cluster.user;
    let lib = data.join("lib");
    std::fs::create_dir(&lib).expect("a directory");
    std::os::unix::fs::chown(&lib, Some(user.uid), Some(user.gid)).expect("chown");
    let auto = data.join("postgresql.auto.conf");
    let written = |rule, directory| Written {
        rule,
        kind: "component",
        directory,
        server: "postgresql",
    };
    told(scene, "ALTER SYSTEM", &written(COMPONENT, &auto), |_| {
        let sql = format!(
            "ALTER SYSTEM SET dynamic_library_path = '$libdir:{}'",
            lib.display()
        );
        cluster.query(&sql);
        auto.clone()
    });
    cluster.query("SELECT pg_reload_conf()");
    told(
        scene,
        "dynamic_library_path",
        &written(LIBRARY, &lib),
        |number| {
            let file = lib.join(format!("x{number}.so"));
            cluster.query(&format!("COPY (SELECT 1) TO '{}'", file.display()));
            file
        },
    );
    Ok(())
}
