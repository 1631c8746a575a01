//! What honest hosts do all day, and what must cause no alert: servers at work, their
//! administrators, package managers, schedulers, logins, and programs that only look like servers.

use std::process::Command;

use rustix::process::Signal;

use crate::host::{self, Daemon, Outcome, Skip, TempDir, User, program, versioned, wait_for};
use crate::http;
use crate::scene::{Scene, Story};
use crate::server::{self, Cluster};

/// Every story of silence.
pub(crate) fn stories() -> Vec<Story> {
    [
        (
            "static files under load",
            static_files as fn(&Scene) -> Outcome,
        ),
        ("pages, sessions, templates and logs", pages),
        ("an image into uploads", image_upload),
        ("mail()", mail),
        ("nginx: test, reload, reopened logs", nginx_reload),
        ("php-fpm: reload", php_fpm_reload),
        ("every server: start, one page, stop", starts_and_stops),
        ("apache: configured CGI scripts", cgi_scripts),
        ("postgresql: initdb, start, queries, stop", postgresql),
        ("mariadb: install, start, queries, stop", mariadb),
        ("administrator: deploy with sh, cp and tar", deploy),
        ("administrator: deploy with git", deploy_git),
        ("dpkg: a package with pages and a postinst", package),
        ("cron: run-parts", cron),
        ("login: a session with a terminal", login),
        ("php on the command line", php_command_line),
        ("node that does not listen", node_script),
        ("python that does not listen", python_script),
        ("java that does not listen", java_program),
        ("5,000 short processes", short_processes),
    ]
    .into_iter()
    .map(|(name, run)| Story::new(&format!("silent: {name}"), run))
    .collect()
}

fn static_files(scene: &Scene) -> Outcome {
    const THREADS: usize = 4;
    const REQUESTS: usize = 100;
    let site = &scene.site;
    site.page("static.html", "<p>static</p>");
    scene.expect_silence("static files", || {
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..REQUESTS {
                        assert_eq!(site.get("/static.html").body, "<p>static</p>");
                    }
                });
            }
        });
    });
    Ok(())
}

/// What a framework does for a page: session, compiled template outside of the root, log.
fn pages(scene: &Scene) -> Outcome {
    let site = &scene.site;
    site.page(
        "page.php",
        "<?php\nsession_start();\n$_SESSION['seen'] = true;\n\
         $storage = dirname(__DIR__) . '/storage';\n\
         $view = \"$storage/views/\" . sha1('page') . '.php';\n\
         file_put_contents($view, '<?php echo \"rendered\";');\n\
         file_put_contents(\"$storage/app.log\", \"a page\\n\", FILE_APPEND);\n\
         error_log('a notice');\ninclude $view;\n",
    );
    scene.expect_silence("pages", || {
        for _ in 0..20 {
            assert_eq!(site.get("/page.php").body, "rendered");
        }
    });
    let storage = site.dir().join("storage");
    assert_ne!(
        std::fs::read_dir(storage.join("sessions"))
            .expect("sessions")
            .count(),
        0
    );
    assert_ne!(
        std::fs::read_dir(storage.join("views"))
            .expect("views")
            .count(),
        0
    );
    Ok(())
}

fn image_upload(scene: &Scene) -> Outcome {
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0";
    let site = &scene.site;
    site.page(
        "avatar.php",
        "<?php\necho move_uploaded_file($_FILES['f']['tmp_name'], \
         __DIR__ . '/uploads/photo.png') ? 'moved' : 'failed';\n",
    );
    scene.expect_silence("image", || {
        assert_eq!(
            http::upload(site.port, "/avatar.php", "photo.png", PNG).body,
            "moved"
        );
        assert_eq!(http::get(site.port, "/uploads/photo.png").status, 200);
    });
    Ok(())
}

/// PHP hands a letter to sendmail through a shell, in exactly one form. Where there is a real
/// sendmail it would deliver; where there is none, the shell is the same and finds nothing.
fn mail(scene: &Scene) -> Outcome {
    if program("sendmail").is_ok() {
        return Err(Skip(
            "the host's own sendmail would deliver the letter".to_owned(),
        ));
    }
    let site = &scene.site;
    site.page(
        "mail.php",
        "<?php\necho ini_get('sendmail_path'), \
         mail('a@example.org', 'hello', 'text') ? ' sent' : ' failed';\n",
    );
    scene.expect_silence("mail", || {
        assert_eq!(
            site.get("/mail.php").body,
            "/usr/sbin/sendmail -t -i failed"
        );
    });
    Ok(())
}

fn nginx_reload(scene: &Scene) -> Outcome {
    let nginx = program("nginx")?;
    let site = &scene.site;
    let control = |args: &[&str]| {
        host::run(
            Command::new(&nginx)
                .arg("-p")
                .arg(site.dir().path())
                .arg("-c")
                .arg(site.dir().join("nginx.conf"))
                .args(args),
        );
    };
    site.page("reload.html", "reloaded");
    let before = host::children(site.pid(0));
    scene.expect_silence("nginx", || {
        control(&["-t"]);
        control(&["-s", "reload"]);
        wait_for("new nginx workers", || {
            let now = host::children(site.pid(0));
            (!now.is_empty() && now.iter().all(|pid| !before.contains(pid))).then_some(())
        });
        control(&["-s", "reopen"]);
        assert_eq!(site.get("/reload.html").body, "reloaded");
    });
    Ok(())
}

/// The master replaces itself by a new image and keeps its pid.
fn php_fpm_reload(scene: &Scene) -> Outcome {
    let site = &scene.site;
    site.page("ping.php", "<?php\necho 'pong';\n");
    let before = host::children(site.pid(1));
    scene.expect_silence("php-fpm", || {
        host::signal(site.pid(1), Signal::USR2);
        wait_for("new php-fpm workers", || {
            let now = host::children(site.pid(1));
            (!now.is_empty() && now.iter().all(|pid| !before.contains(pid))).then_some(())
        });
        wait_for("php-fpm to answer again", || {
            (site.get("/ping.php").body == "pong").then_some(())
        });
    });
    Ok(())
}

fn starts_and_stops(scene: &Scene) -> Outcome {
    let servers = [
        server::nginx_php_fpm,
        server::apache,
        server::lighttpd_php_cgi,
        server::php_builtin,
        server::node,
        server::python,
        server::java,
    ];
    let mut skipped = Vec::new();
    for start in servers {
        scene.expect_silence("start and stop", || match start() {
            Ok(site) => {
                site.page("hello.php", "<?php\necho 'ok';\n");
                assert_eq!(site.get("/hello.php").body, "ok", "{}", site.server);
            }
            Err(Skip(reason)) => skipped.push(reason),
        });
    }
    if skipped.is_empty() {
        Ok(())
    } else {
        Err(Skip(skipped.join(", ")))
    }
}

fn cgi_scripts(scene: &Scene) -> Outcome {
    let site = server::apache()?;
    site.dir().script(
        "cgi-bin/status",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nuname -s\n",
    );
    site.dir().script(
        "cgi-bin/count.pl",
        "#!/usr/bin/perl\nprint \"Content-Type: text/plain\\n\\n\", 6 * 7, \"\\n\";\n",
    );
    scene.expect_silence("CGI", || {
        assert_eq!(site.get("/cgi-bin/status").body.trim(), "Linux");
        assert_eq!(site.get("/cgi-bin/count.pl").body.trim(), "42");
    });
    Ok(())
}

fn postgresql(scene: &Scene) -> Outcome {
    let mut made = None;
    scene.expect_silence("initdb", || made = Some(Cluster::new()));
    let cluster = made.expect("the closure ran")?;
    let control = |args: &[&str]| {
        host::run(
            cluster
                .tool("pg_ctl")
                .arg("-D")
                .arg(cluster.data())
                .arg("-w")
                .args(args)
                .arg("-l")
                .arg(cluster.log()),
        );
    };
    scene.expect_silence("postgresql", || {
        control(&["start", "-o", &cluster.options()]);
        cluster.query("CREATE TABLE t (x int); INSERT INTO t SELECT generate_series(1, 1000)");
        assert_eq!(cluster.query("SELECT sum(x) FROM t").trim(), "500500");
        cluster.query("VACUUM ANALYZE t");
        control(&["stop", "-m", "fast"]);
    });
    Ok(())
}

fn mariadb(scene: &Scene) -> Outcome {
    let server = program("mariadbd")?;
    let install = program("mariadb-install-db")?;
    let client = program("mariadb")?;
    let user = User::named("mysql").or_else(|_| User::named("www-data"))?;
    let dir = TempDir::new("mariadb");
    let data = dir.dir("data", Some(&user));
    let run = dir.dir("run", Some(&user));
    let socket = run.join("sock");
    scene.expect_silence("mariadb", || {
        host::run(
            Command::new(&install)
                .args(["--no-defaults", "--auth-root-authentication-method=normal"])
                .arg(format!("--user={}", user.name))
                .arg(format!("--datadir={}", data.display())),
        );
        let mut daemon = Daemon::start(
            Command::new(&server)
                .args(["--no-defaults", "--skip-networking"])
                .arg(format!("--user={}", user.name))
                .arg(format!("--datadir={}", data.display()))
                .arg(format!("--socket={}", socket.display()))
                .arg(format!("--pid-file={}", run.join("pid").display())),
            dir.join("mariadb.out"),
            Signal::TERM,
        );
        let query = || {
            Command::new(&client)
                .args(["--no-defaults", "-N", "-u", "root", "-e", "SELECT 6*7"])
                .arg(format!("--socket={}", socket.display()))
                .output()
                .is_ok_and(|output| output.stdout == b"42\n")
        };
        daemon.ready("answer to a query", query);
    });
    Ok(())
}

/// Code goes into the served folder, and not by the server.
fn deploy(scene: &Scene) -> Outcome {
    let site = &scene.site;
    let release = TempDir::new("release");
    release.file("app.php", "<?php\necho 'deployed';\n");
    let script = format!(
        "for name in one two three; do sh -c \"echo '<?php' > {root}/$name.php\"; done\n\
         cp {release}/app.php {root}/copied-by-admin.php\n\
         tar -C {release} -cf {release}/app.tar app.php\n\
         tar -C {root} -xf {release}/app.tar\n\
         mv {root}/two.php {root}/four.php\n\
         sed -i s/deployed/patched/ {root}/app.php\n",
        root = site.docroot().display(),
        release = release.path().display(),
    );
    scene.expect_silence("deploy", || {
        host::shell(release.path(), &script);
        assert_eq!(site.get("/app.php").body, "patched");
    });
    Ok(())
}

fn deploy_git(scene: &Scene) -> Outcome {
    program("git")?;
    let site = &scene.site;
    let source = TempDir::new("git");
    source.file("page-of-git.php", "<?php\necho 'cloned';\n");
    let script = format!(
        "export HOME={source} GIT_CONFIG_NOSYSTEM=1\n\
         git -c init.defaultBranch=main init -q .\ngit add page-of-git.php\n\
         git -c user.name=a -c user.email=a@example.org commit -q -m page\n\
         git clone -q {source} {root}/cloned\n",
        source = source.path().display(),
        root = site.docroot().display(),
    );
    scene.expect_silence("git", || {
        host::shell(source.path(), &script);
        assert_eq!(site.get("/cloned/page-of-git.php").body, "cloned");
    });
    Ok(())
}

/// dpkg itself, into a folder: unpacks pages into the root and runs the package's script.
fn package(scene: &Scene) -> Outcome {
    program("dpkg")?;
    let site = &scene.site;
    let dir = TempDir::new("dpkg");
    for name in [
        "package",
        "package/DEBIAN",
        "admin",
        "admin/info",
        "admin/updates",
    ] {
        dir.dir(name, None);
    }
    dir.file("admin/status", "");
    dir.file(
        "package/DEBIAN/control",
        "Package: tracer-e2e-page\nVersion: 1\nArchitecture: all\n\
         Maintainer: nobody <nobody@example.org>\nDescription: a page\n",
    );
    dir.script(
        "package/DEBIAN/postinst",
        "#!/bin/sh\nset -e\nsh -c 'uname -s' > /dev/null\n\
         echo '<?php echo \"configured\";' > \"$DPKG_ROOT/configured.php\"\n",
    );
    dir.file("package/packaged.php", "<?php\necho 'packaged';\n");
    let script = format!(
        "dpkg-deb --root-owner-group --build package page.deb > out\n\
         dpkg --admindir={admin} --instdir={root} --force-script-chrootless \
         --force-not-root -i page.deb >> out 2>&1\n",
        admin = dir.join("admin").display(),
        root = site.docroot().display(),
    );
    scene.expect_silence("dpkg", || {
        host::shell(dir.path(), &script);
        assert_eq!(site.get("/packaged.php").body, "packaged");
        assert_eq!(site.get("/configured.php").body, "configured");
    });
    Ok(())
}

fn cron(scene: &Scene) -> Outcome {
    program("run-parts")?;
    let dir = TempDir::new("cron");
    dir.dir("hourly", None);
    dir.script(
        "hourly/rotate",
        "#!/bin/sh\nbash -c 'echo rotated' >> \"$PWD/out\"\n",
    );
    dir.script("hourly/report", "#!/usr/bin/perl\nprint `echo reported`;\n");
    scene.expect_silence("cron", || {
        // As cron does: a session of its own, the line through sh.
        host::run(
            Command::new("/usr/bin/setsid")
                .args(["--wait", "/bin/sh", "-c", "run-parts hourly"])
                .current_dir(dir.path()),
        );
    });
    assert_eq!(
        std::fs::read_to_string(dir.join("out")).expect("out"),
        "rotated\n"
    );
    Ok(())
}

fn login(scene: &Scene) -> Outcome {
    program("script")?;
    let dir = TempDir::new("login");
    let commands = "bash -l -c 'id; sh -c \"echo logged in\"; python3 -c pass || true'";
    scene.expect_silence("login", || {
        let output = host::run(
            Command::new("/usr/bin/script")
                .args(["-q", "-e", "-c", commands, "/dev/null"])
                .env("HOME", dir.path()),
        );
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("logged in"), "{said}");
    });
    Ok(())
}

fn php_command_line(scene: &Scene) -> Outcome {
    let php = versioned("php")?;
    let file = scene.site.docroot().join("installed.php");
    let code = format!(
        "echo shell_exec('echo migrated'); file_put_contents('{}', '<?php');",
        file.display()
    );
    scene.expect_silence("php", || {
        let output = host::run(Command::new(php).arg("-r").arg(code));
        assert_eq!(output.stdout, b"migrated\n");
    });
    Ok(())
}

fn node_script(scene: &Scene) -> Outcome {
    let node = program("node")?;
    scene.expect_silence("node", || {
        let output = host::run(Command::new(node).arg("-e").arg(
            "require('child_process').exec('echo built', (e, out) => process.stdout.write(out))",
        ));
        assert_eq!(output.stdout, b"built\n");
    });
    Ok(())
}

fn python_script(scene: &Scene) -> Outcome {
    let python = program("python3")?;
    scene.expect_silence("python", || {
        let output = host::run(Command::new(python).arg("-c").arg(
            "import subprocess\n\
             print(subprocess.check_output('echo ran', shell=True, text=True), end='')",
        ));
        assert_eq!(output.stdout, b"ran\n");
    });
    Ok(())
}

fn java_program(scene: &Scene) -> Outcome {
    let java = program("java")?;
    program("javac")?;
    let dir = TempDir::new("java-program");
    let source = dir.file(
        "Build.java",
        "public class Build {\n\
           public static void main(String[] args) throws Exception {\n\
             var process = Runtime.getRuntime().exec(new String[] {\"sh\", \"-c\", \"echo done\"});\n\
             System.out.write(process.getInputStream().readAllBytes());\n\
             System.out.flush();\n\
           }\n\
         }\n",
    );
    scene.expect_silence("java", || {
        host::run(Command::new(&java).arg("-version"));
        let output = host::run(Command::new(&java).arg("-XX:-UsePerfData").arg(source));
        assert_eq!(output.stdout, b"done\n");
    });
    Ok(())
}

fn short_processes(scene: &Scene) -> Outcome {
    let dir = TempDir::new("short");
    scene.expect_silence("short processes", || {
        let script = "i=0; while [ $i -lt 5000 ]; do /bin/true; i=$((i + 1)); done; echo $i";
        assert_eq!(host::shell(dir.path(), script).trim(), "5000");
    });
    Ok(())
}
