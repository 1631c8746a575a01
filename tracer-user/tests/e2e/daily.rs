//! More of what honest hosts do: deployments, rotations, backups, upgrades, schedulers, builds, and servers
//! that respawn, compile and keep caches. None of it is an alert.

use std::process::Command;

use rustix::process::Signal;

use crate::apps::{App, Tomcat};
use crate::databases::{Maria, Redis};
use crate::host::{self, Daemon, Outcome, TempDir, User, free_port, program, wait_for};
use crate::http;
use crate::scene::{Scene, Shared, Story};
use crate::server::{self, Postgres};
use crate::told::{self, JAVA, Page, Told};

pub(crate) fn stories() -> Vec<Story> {
    let mut stories: Vec<Story> = PAGES
        .iter()
        .map(|page| Story::new(page.name, |scene| told::ordinary(scene, &scene.site, page)))
        .collect();
    stories.extend(
        SCRIPTS
            .iter()
            .map(|script| Story::new(script.name, |scene| run(scene, script))),
    );
    stories.extend(
        [
            (
                "silent: an upload of a picture, a document and an archive",
                uploads as fn(&Scene) -> Outcome,
            ),
            ("silent: rsync as a user who deploys", rsync_as_a_user),
            (
                "silent: git push to a repository whose hook deploys",
                git_hook,
            ),
            (
                "silent: dpkg upgrades a package whose script reloads nginx",
                upgrade,
            ),
            ("silent: logrotate and its postrotate", logrotate),
            ("silent: apache: a reload", apache_reload),
            ("silent: apache: its configuration is tested", apache_test),
            ("silent: the entrypoint of a container", entrypoint),
            ("silent: a build by a user", build),
            ("silent: node: a cluster", node_cluster),
        ]
        .into_iter()
        .map(|(name, run)| Story::new(name, run)),
    );
    stories.extend(of_apps());
    stories.extend(of_databases());
    stories.extend(of_tomcat());
    stories
}

const fn page(
    name: &'static str,
    needs: &'static [&'static str],
    php: &'static str,
    file: Option<&'static str>,
) -> Page {
    Page {
        name,
        rules: &[],
        needs,
        php,
        file,
    }
}

/// What pages do for their visitors.
const PAGES: &[Page] = &[
    page(
        "silent: php: a picture by ImageMagick without a shell",
        &["/usr/bin/convert"],
        "run(['/usr/bin/convert', '-size', '8x8', 'xc:red', 'DIR/public/uploads/thumb.png']); echo 'TOKEN';",
        Some("public/uploads/thumb.png"),
    ),
    page(
        "silent: php: an archive by tar without a shell",
        &["/bin/tar"],
        "run(['/bin/tar', '-C', 'DIR/public', '-cf', 'DIR/storage/export.tar', 'uploads']); echo 'TOKEN';",
        Some("storage/export.tar"),
    ),
    page(
        "silent: php: gzip of a report",
        &["/bin/gzip"],
        "$p = proc_open(['/bin/gzip', '-c'], [['pipe', 'r'], ['file', 'DIR/public/uploads/report.gz', 'w']], $io);\n\
         fwrite($io[0], 'report'); fclose($io[0]); proc_close($p); echo 'TOKEN';",
        Some("public/uploads/report.gz"),
    ),
    page(
        "silent: php: a cache of data in the root",
        &[],
        "mkdir('cache'); file_put_contents('cache/menu.json', '{}'); file_put_contents('cache/page.html', '<p>');\n\
         rename('cache/page.html', 'cache/front.html'); echo 'TOKEN';",
        Some("public/cache/front.html"),
    ),
    page(
        "silent: php: a cache of compiled code outside the root",
        &[],
        "$f = 'DIR/storage/views/TOKEN'; file_put_contents(\"$f.tmp\", '<?php return \"TOKEN\";');\n\
         rename(\"$f.tmp\", \"$f.php\"); echo include \"$f.php\";",
        None,
    ),
    page(
        "silent: php: a session that is destroyed, and old ones collected",
        &[],
        "session_start(); $_SESSION['a'] = 1; session_gc(); session_destroy(); echo 'TOKEN';",
        None,
    ),
    page(
        "silent: php: its log grows and is rotated by itself",
        &[],
        "$l = 'DIR/storage/app.log'; file_put_contents($l, str_repeat('x', 9999), FILE_APPEND);\n\
         rename($l, \"$l.1\"); file_put_contents($l, ''); echo 'TOKEN';",
        Some("storage/app.log.1"),
    ),
    page(
        "silent: php: a sitemap and a feed",
        &[],
        "file_put_contents('sitemap.xml', '<urlset/>'); file_put_contents('feed.xml', '<rss/>'); echo 'TOKEN';",
        Some("public/sitemap.xml"),
    ),
    page(
        "silent: php: asks another server of the host",
        &[],
        "file_put_contents('robots.txt', 'x'); echo file_get_contents('http://127.0.0.1:PORT/robots.txt'), 'TOKEN';",
        None,
    ),
    page(
        "silent: php: a password hash, random bytes and a temporary file",
        &[],
        "password_hash('x', PASSWORD_DEFAULT); $t = tmpfile(); fwrite($t, random_bytes(9)); echo 'TOKEN';",
        None,
    ),
];

/// What root does on a host, as a shell script.
struct Script {
    name: &'static str,
    needs: &'static [&'static str],
    /// `WEB` is a document root, `DIR` the site's folder, `TMP` one of the script's own.
    script: &'static str,
}

const SCRIPTS: &[Script] = &[
    Script {
        name: "silent: rsync of a release into the root",
        needs: &["/usr/bin/rsync"],
        script: "mkdir -p r/inc; echo '<?php' > r/synced.php; echo '<?php' > r/inc/a.php\n\
                 rsync -a --delete-after r/inc WEB/; rsync -a r/synced.php WEB/",
    },
    Script {
        name: "silent: git checkout of another version in the root",
        needs: &["/usr/bin/git"],
        script: "export HOME=TMP GIT_CONFIG_NOSYSTEM=1; mkdir -p WEB/shop; cd WEB/shop\n\
                 git -c init.defaultBranch=main init -q .; g='git -c user.name=a -c user.email=a@example.org'\n\
                 echo '<?php echo 1;' > v.php; git add .; $g commit -q -m 1; git tag v1\n\
                 echo '<?php echo 2;' > v.php; git add .; $g commit -q -m 2; git checkout -q v1; grep -q 1 v.php",
    },
    Script {
        name: "silent: a release by a link that is exchanged",
        needs: &[],
        script: "mkdir -p DIR/releases/1 DIR/releases/2; echo '<?php' > DIR/releases/2/index.php\n\
                 ln -sfn DIR/releases/1 WEB/current; ln -s DIR/releases/2 WEB/current.new; mv -T WEB/current.new WEB/current",
    },
    Script {
        name: "silent: an archive of a release is unpacked",
        needs: &["/usr/bin/zip", "/usr/bin/unzip"],
        script: "echo '<?php' > plugin.php; zip -q plugin.zip plugin.php; unzip -q -o plugin.zip -d WEB/plugin",
    },
    Script {
        name: "silent: owners and modes of the root are set",
        needs: &[],
        script: "echo '<?php' > WEB/owned.php; chown -R www-data WEB/uploads; find WEB -type f -exec chmod 644 {} +",
    },
    Script {
        name: "silent: a backup of the root by tar",
        needs: &[],
        script: "tar -C WEB -czf backup.tar.gz .",
    },
    Script {
        name: "silent: a backup of the root by rsync",
        needs: &["/usr/bin/rsync"],
        script: "rsync -a WEB/ copy/; rsync -a --link-dest=TMP/copy WEB/ copy.2/",
    },
    Script {
        name: "silent: cron tidies uploads and sessions",
        needs: &[],
        script: "touch -d '9 days ago' WEB/uploads/old.tmp\n\
                 setsid -w sh -c 'find WEB/uploads -name \"*.tmp\" -mtime +7 -delete; find DIR/storage/sessions -mmin +99 -delete'",
    },
    Script {
        name: "silent: cron runs the application's own jobs",
        needs: &["/usr/bin/php"],
        script: "echo '<?php echo shell_exec(\"echo job\");' > WEB/cron.php; setsid -w sh -c 'php WEB/cron.php' | grep -q job",
    },
    Script {
        name: "silent: a challenge of certbot in the root",
        needs: &[],
        script: "mkdir -p WEB/.well-known/acme-challenge; echo token.key > WEB/.well-known/acme-challenge/token\n\
                 curl -sf http://127.0.0.1:PORT/.well-known/acme-challenge/token | grep -q key; rm -r WEB/.well-known",
    },
    Script {
        name: "silent: a monitor asks for the server's health",
        needs: &["/usr/bin/curl"],
        script: "echo ok > WEB/health.txt; for i in 1 2 3; do sh -c 'curl -sf http://127.0.0.1:PORT/health.txt | grep -q ok'; done\n\
                 ps aux | grep -c nginx > out; cat /proc/loadavg >> out",
    },
    Script {
        name: "silent: an administrator edits a page",
        needs: &["/usr/bin/vim"],
        script: "echo '<?php' > WEB/edited.php; vim -es -u NONE -c 's/php/php echo 1;/' -c 'wq' WEB/edited.php; sed -i s/1/2/ WEB/edited.php",
    },
    Script {
        name: "silent: an administrator compiles an application's modules",
        needs: &["/usr/bin/python3"],
        script: "mkdir app; echo 'x = 1' > app/m.py; python3 -m compileall -q app; test -d app/__pycache__",
    },
    Script {
        name: "silent: an administrator edits and tests a server's configuration",
        needs: &[],
        script: "cp DIR/nginx.conf new.conf; echo '# changed' >> new.conf; nginx -t -q -p DIR -c TMP/new.conf",
    },
    Script {
        name: "silent: a log is followed and counted",
        needs: &["/usr/bin/awk"],
        script: "awk '{ n[$1]++ } END { for (i in n) print n[i], i }' DIR/access.log | sort -rn | head -3 > out; gzip -c DIR/access.log > old.gz",
    },
];

fn run(scene: &Scene, script: &Script) -> Outcome {
    told::need(script.needs)?;
    let tmp = TempDir::new("script");
    let site = &scene.site;
    let text = script
        .script
        .replace("WEB", &site.docroot().display().to_string())
        .replace("DIR", &site.dir().path().display().to_string())
        .replace("TMP", &tmp.path().display().to_string())
        .replace("PORT", &site.port.to_string());
    scene.expect_silence(script.name, || {
        host::shell(tmp.path(), &text);
    });
    Ok(())
}

fn uploads(scene: &Scene) -> Outcome {
    let site = &scene.site;
    site.page(
        "take.php",
        "<?php\nmove_uploaded_file($_FILES['f']['tmp_name'], __DIR__ . '/uploads/' . $_FILES['f']['name']);\n\
         echo 'done';\n",
    );
    let files: [(&str, &[u8]); 3] = [
        ("a.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0"),
        ("b.pdf", b"%PDF-1.4\n"),
        ("c.zip", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    ];
    scene.expect_silence("uploads", || {
        for (name, content) in files {
            assert_eq!(
                http::upload(site.port, "/take.php", name, content).body,
                "done"
            );
            assert_eq!(
                http::get(site.port, &format!("/uploads/{name}")).status,
                200
            );
        }
    });
    Ok(())
}

/// Who deploys is neither root nor a server's user.
fn rsync_as_a_user(scene: &Scene) -> Outcome {
    use std::os::unix::process::CommandExt as _;
    let rsync = program("rsync")?;
    let user = User::named("games")?;
    let target = scene.site.dir().dir("public/team", Some(&user));
    let source = TempDir::new("team");
    source.file("team.php", "<?php echo 'team';\n");
    scene.expect_silence("rsync", || {
        host::run(
            Command::new(&rsync)
                .args(["-r", "--chmod=F644", "team.php"])
                .arg(&target)
                .current_dir(source.path())
                .uid(user.uid)
                .gid(user.gid),
        );
        assert_eq!(scene.site.get("/team/team.php").body.trim(), "team");
    });
    Ok(())
}

fn git_hook(scene: &Scene) -> Outcome {
    program("git")?;
    let tmp = TempDir::new("hook");
    let script = format!(
        "export HOME={tmp} GIT_CONFIG_NOSYSTEM=1; git init -q --bare site.git; mkdir {web}/pushed\n\
         printf '#!/bin/sh\\nGIT_WORK_TREE={web}/pushed git checkout -q -f main\\n' > site.git/hooks/post-receive\n\
         chmod 755 site.git/hooks/post-receive; git -c init.defaultBranch=main init -q work; cd work\n\
         echo '<?php echo \"pushed\";' > p.php; git add .\n\
         git -c user.name=a -c user.email=a@example.org commit -q -m p; git push -q {tmp}/site.git main",
        tmp = tmp.path().display(),
        web = scene.site.docroot().display(),
    );
    scene.expect_silence("hook", || {
        host::shell(tmp.path(), &script);
        assert_eq!(scene.site.get("/pushed/p.php").body.trim(), "pushed");
    });
    Ok(())
}

/// Two versions of one package, one after the other; the second has new pages and a reload.
fn upgrade(scene: &Scene) -> Outcome {
    program("dpkg")?;
    let site = &scene.site;
    let dir = TempDir::new("upgrade");
    for name in ["p", "p/DEBIAN", "admin", "admin/info", "admin/updates"] {
        dir.dir(name, None);
    }
    dir.file("admin/status", "");
    dir.script(
        "p/DEBIAN/postinst",
        &format!(
            "#!/bin/sh\nset -e\nif [ \"$2\" ]; then kill -HUP {}; fi\nmkdir -p \"$DPKG_ROOT/state\"\n",
            site.pid(0)
        ),
    );
    dir.script(
        "p/DEBIAN/prerm",
        "#!/bin/sh\nset -e\nrm -rf \"$DPKG_ROOT/state\"\n",
    );
    let before = host::children(site.pid(0));
    scene.expect_silence("dpkg", || {
        for version in 1..=2 {
            dir.file(
                "p/DEBIAN/control",
                &format!(
                    "Package: tracer-e2e-shop\nVersion: {version}\nArchitecture: all\n\
                     Maintainer: nobody <nobody@example.org>\nDescription: a shop\n"
                ),
            );
            dir.file("p/upgraded.php", &format!("<?php\necho {version};\n"));
            let script = format!(
                "dpkg-deb --root-owner-group --build p p.deb > out\n\
                 dpkg --admindir={} --instdir={} --force-script-chrootless --force-not-root -i p.deb >> out 2>&1",
                dir.join("admin").display(),
                site.docroot().display()
            );
            host::shell(dir.path(), &script);
        }
        wait_for("new nginx workers", || {
            let now = host::children(site.pid(0));
            (!now.is_empty() && now.iter().all(|pid| !before.contains(pid))).then_some(())
        });
        wait_for("the new page", || (site.get("/upgraded.php").body == "2").then_some(()));
    });
    Ok(())
}

fn logrotate(scene: &Scene) -> Outcome {
    let logrotate = program("logrotate")?;
    let site = &scene.site;
    let dir = TempDir::new("logrotate");
    let config = dir.file(
        "conf",
        &format!(
            "{root}/access.log {{\n  rotate 2\n  compress\n  missingok\n  su root root\n  postrotate\n    kill -USR1 {pid}\n  endscript\n}}\n",
            root = site.dir().path().display(),
            pid = site.pid(0),
        ),
    );
    site.page("rotate.html", "rotated");
    scene.expect_silence("logrotate", || {
        host::run(
            Command::new(&logrotate)
                .args(["-f", "-s"])
                .arg(dir.join("state"))
                .arg(&config),
        );
        wait_for("a new log", || {
            site.get("/rotate.html");
            let log = std::fs::metadata(site.dir().join("access.log")).ok()?;
            (log.len() > 0).then_some(())
        });
    });
    assert!(site.dir().join("access.log.1.gz").is_file());
    Ok(())
}

fn apache_reload(scene: &Scene) -> Outcome {
    let site = server::apache()?;
    site.page("r.php", "<?php echo 'ok';\n");
    // It listens before it has workers, and before a signal is anything but its end.
    let before = wait_for("workers", || {
        Some(host::children(site.pid(0))).filter(|workers| workers.len() >= 2)
    });
    assert_eq!(site.get("/r.php").body, "ok");
    scene.expect_silence("apache", || {
        host::signal(site.pid(0), Signal::HUP);
        wait_for("new apache workers", || {
            let now = host::children(site.pid(0));
            (!now.is_empty() && now.iter().all(|pid| !before.contains(pid))).then_some(())
        });
        wait_for("a page", || {
            let answer = http::try_get(site.port, "/r.php").ok()?;
            (answer.body == "ok").then_some(())
        });
    });
    Ok(())
}

fn apache_test(scene: &Scene) -> Outcome {
    let site = server::apache()?;
    scene.expect_silence("apache -t", || {
        let config = site.dir().join("apache.conf");
        for flag in ["-t", "-S", "-M"] {
            host::run(
                Command::new("/usr/sbin/apache2")
                    .arg(flag)
                    .arg("-f")
                    .arg(&config),
            );
        }
    });
    Ok(())
}

/// A script that makes a configuration of a template and becomes the server, as images have it.
fn entrypoint(scene: &Scene) -> Outcome {
    let nginx = program("nginx")?;
    let dir = TempDir::new("entrypoint");
    dir.dir("web", None);
    dir.file("web/index.html", "from a container");
    let port = free_port();
    dir.file(
        "nginx.template",
        "daemon off; pid ROOT/pid; error_log ROOT/log; events {}\n\
         http { access_log off; server { listen 127.0.0.1:NUMBER; root ROOT/web; } }\n",
    );
    dir.dir("entrypoint.d", None);
    dir.script(
        "entrypoint.d/10-listen.sh",
        "#!/bin/sh\nsed \"s|ROOT|$ROOT|g; s|NUMBER|$NUMBER|\" nginx.template > nginx.conf\n",
    );
    dir.script(
        "entrypoint.d/20-wait.sh",
        "#!/bin/sh\nfor i in 1 2; do uname -a > /dev/null; done\n",
    );
    let start = dir.script(
        "entrypoint.sh",
        "#!/bin/sh\nset -e\nfor f in entrypoint.d/*.sh; do \"./$f\"; done\nexec \"$@\"\n",
    );
    scene.expect_silence("entrypoint", || {
        let mut daemon = Daemon::start(
            Command::new(start)
                .arg(nginx)
                .arg("-c")
                .arg(dir.join("nginx.conf"))
                .current_dir(dir.path())
                .env("ROOT", dir.path())
                .env("NUMBER", port.to_string()),
            dir.join("out"),
            Signal::QUIT,
        );
        daemon.ready("port", || http::accepts(port));
        assert_eq!(http::get(port, "/").body, "from a container");
    });
    Ok(())
}

/// As a runner of jobs does it that is no server: a shell of a user, a compiler, tests.
fn build(scene: &Scene) -> Outcome {
    use std::os::unix::process::CommandExt as _;
    told::need(&["/usr/bin/gcc", "/usr/bin/python3"])?;
    let user = User::named("games")?;
    let dir = TempDir::new("build");
    let work = dir.dir("work", Some(&user));
    let script = "set -e; echo 'int main() { return 0; }' > t.c; gcc -o t t.c; ./t\n\
                  printf '#!/bin/sh\\npython3 -c \"print(1)\" | grep -q 1\\n' > test.sh; chmod +x test.sh; ./test.sh\n\
                  (sleep 0; echo done) > log & wait; tar -cf t.tar t";
    scene.expect_silence("build", || {
        host::run(
            Command::new("/bin/sh")
                .args(["-c", script])
                .current_dir(&work)
                .env("TMPDIR", &work)
                .uid(user.uid)
                .gid(user.gid),
        );
    });
    Ok(())
}

fn node_cluster(scene: &Scene) -> Outcome {
    host::outside_sessions()?;
    let node = program("node")?;
    let dir = TempDir::new("cluster");
    let port = free_port();
    let script = dir.file(
        "cluster.js",
        "const cluster = require('cluster');\n\
         if (cluster.isPrimary) { cluster.fork(); cluster.fork(); cluster.on('exit', () => cluster.fork()); }\n\
         else require('http').createServer((request, response) => {\n\
           response.end('ok'); if (request.url === '/die') setImmediate(() => process.exit(1));\n\
         }).listen(Number(process.argv[2]), '127.0.0.1');\n",
    );
    scene.expect_silence("cluster", || {
        let mut daemon = Daemon::start(
            Command::new(node).arg(script).arg(port.to_string()),
            dir.join("out"),
            Signal::TERM,
        );
        daemon.ready("port", || http::accepts(port));
        let before = host::children(daemon.pid());
        http::try_get(port, "/die").ok();
        wait_for("another worker", || {
            let now = host::children(daemon.pid());
            (now.len() >= 2 && now.iter().any(|pid| !before.contains(pid))).then_some(())
        });
        wait_for("an answer", || {
            let answer = http::try_get(port, "/").ok()?;
            (answer.body == "ok").then_some(())
        });
    });
    Ok(())
}

fn of_apps() -> Vec<Story> {
    let gunicorn = Shared::new(App::gunicorn);
    let uwsgi = Shared::new(App::uwsgi);
    let story = |name: &str, app: &Shared<App>, run: fn(&Scene, &App) -> Outcome| {
        let app = app.clone();
        Story::new(name, move |scene| run(scene, app.get()?))
    };
    vec![
        story(
            "silent: gunicorn: a worker dies and is replaced",
            &gunicorn,
            respawn,
        ),
        story("silent: gunicorn: a reload", &gunicorn, reload),
        story(
            "silent: gunicorn: a log that rotates itself",
            &gunicorn,
            |scene, app| {
                let code = "import logging.handlers as h, logging as l\n\
                        r = h.RotatingFileHandler('DIR/tmp/app.log', maxBytes=50, backupCount=2)\n\
                        [r.emit(l.makeLogRecord({'msg': 'x' * 30})) for _ in range(9)]; say('ok')";
                let code = code.replace("DIR", &app.dir.path().display().to_string());
                scene.expect_silence("rotating", || assert_eq!(app.run(&code), "ok"));
                assert!(app.dir.join("tmp/app.log.1").is_file());
                Ok(())
            },
        ),
        story(
            "silent: gunicorn: a document by a tool without a shell",
            &gunicorn,
            |scene, app| {
                told::need(&["/bin/gzip"])?;
                let code = "import subprocess\n\
                        say(str(len(subprocess.run(['/bin/gzip', '-c'], input=b'x', capture_output=True).stdout) > 0))";
                scene.expect_silence("gzip", || assert_eq!(app.run(code), "True"));
                Ok(())
            },
        ),
        story(
            "silent: uwsgi: a worker dies and is replaced",
            &uwsgi,
            respawn,
        ),
        story("silent: uwsgi: a reload", &uwsgi, reload),
    ]
}

fn respawn(scene: &Scene, app: &App) -> Outcome {
    let master = app.daemon.pid();
    // A master listens before it has workers.
    let before = wait_for("workers", || {
        Some(host::children(master)).filter(|workers| !workers.is_empty())
    });
    scene.expect_silence("respawn", || {
        host::signal(*before.first().expect("a worker"), Signal::KILL);
        wait_for("another worker", || {
            host::children(master)
                .iter()
                .any(|pid| !before.contains(pid))
                .then_some(())
        });
        wait_for("an answer", || {
            let answer = http::try_get(app.port, "/").ok()?;
            (answer.body == "ok").then_some(())
        });
    });
    Ok(())
}

fn reload(scene: &Scene, app: &App) -> Outcome {
    let master = app.daemon.pid();
    let before = wait_for("workers", || {
        Some(host::children(master)).filter(|workers| !workers.is_empty())
    });
    scene.expect_silence("reload", || {
        host::signal(master, Signal::HUP);
        wait_for("new workers", || {
            let now = host::children(master);
            (!now.is_empty() && now.iter().all(|pid| !before.contains(pid))).then_some(())
        });
        wait_for("an answer", || {
            let answer = http::try_get(app.port, "/").ok()?;
            (answer.body == "ok").then_some(())
        });
    });
    Ok(())
}

fn of_databases() -> Vec<Story> {
    let postgres = Shared::new(Postgres::start);
    let maria = Shared::new(Maria::start);
    let redis = Shared::new(Redis::start);
    let dump = {
        let postgres = postgres.clone();
        move |scene: &Scene| -> Outcome {
            let cluster = &postgres.get()?.cluster;
            cluster.query("CREATE TABLE d AS SELECT generate_series(1, 99) AS x");
            scene.expect_silence("pg_dump", || {
                let port = cluster.port.to_string();
                let args = ["-h", "127.0.0.1", "-p", &port, "postgres"];
                let output = host::run(cluster.tool("pg_dump").args(args));
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(said.contains("database dump complete"), "{said}");
            });
            Ok(())
        }
    };
    let work = move |scene: &Scene| -> Outcome {
        let cluster = &postgres.get()?.cluster;
        scene.expect_silence("postgres", || {
            cluster.query("CREATE TABLE w AS SELECT generate_series(1, 9999) AS x");
            cluster.query("VACUUM ANALYZE w");
            cluster.query("CREATE INDEX ON w (x)");
            cluster.query("CHECKPOINT");
            let file = cluster.data().join("w.csv");
            cluster.query(&format!("COPY w TO '{}' CSV", file.display()));
            cluster.query("CREATE EXTENSION IF NOT EXISTS pgcrypto");
            cluster.query("SELECT pg_reload_conf()");
        });
        Ok(())
    };
    let dump_maria = {
        let maria = maria.clone();
        move |scene: &Scene| -> Outcome {
            let maria = maria.get()?;
            program("mariadb-dump")?;
            scene.expect_silence("mariadb-dump", || {
                let output = host::run(maria.client("mariadb-dump").arg("--all-databases"));
                assert!(!output.stdout.is_empty());
            });
            Ok(())
        }
    };
    let work_maria = move |scene: &Scene| -> Outcome {
        let maria = maria.get()?;
        scene.expect_silence("mariadb", || {
            let file = maria.dir.join("data/report.csv");
            let sql = format!(
                "CREATE DATABASE shop; CREATE TABLE shop.t (x INT) ENGINE=InnoDB; \
                 INSERT INTO shop.t VALUES (1), (2); OPTIMIZE TABLE shop.t; FLUSH LOGS; \
                 SELECT x FROM shop.t INTO OUTFILE '{}'",
                file.display()
            );
            maria.query(&sql).expect("a query");
        });
        Ok(())
    };
    let save = move |scene: &Scene| -> Outcome {
        let redis = redis.get()?;
        scene.expect_silence("redis", || {
            redis.ask(&["SET", "a", "1"]);
            redis.ask(&["BGSAVE"]);
            wait_for("a dump", || {
                redis.dir.join("data/dump.rdb").is_file().then_some(())
            });
            wait_for("the end of the dump", || {
                redis
                    .ask(&["INFO", "persistence"])
                    .contains("rdb_bgsave_in_progress:0")
                    .then_some(())
            });
            redis.ask(&["BGREWRITEAOF"]);
        });
        Ok(())
    };
    vec![
        Story::new("silent: postgresql: a dump", dump),
        Story::new(
            "silent: postgresql: vacuum, index, an extension, a file of data",
            work,
        ),
        Story::new("silent: mariadb: a dump", dump_maria),
        Story::new("silent: mariadb: tables, logs, a file of data", work_maria),
        Story::new("silent: redis: it saves in the background", save),
    ]
}

fn of_tomcat() -> Vec<Story> {
    let shared = Shared::new(Tomcat::start);
    let compile = {
        let shared = shared.clone();
        move |scene: &Scene| -> Outcome {
            let tomcat = shared.get()?;
            scene.expect_silence("JSP", || {
                assert_eq!(tomcat.visit("<%= 6 * 7 %>").trim(), "42");
                assert_eq!(
                    tomcat
                        .visit("<%@ page session=\"true\" %><%= session.isNew() %>")
                        .trim(),
                    "true"
                );
            });
            Ok(())
        }
    };
    let deploy = move |scene: &Scene| -> Outcome {
        let tomcat = shared.get()?;
        let archive = tomcat.archive("shop", "deployed")?;
        // Which is no attack, and is told as one: that an administrator brought what Tomcat unpacks is not known.
        told::expect_at_most(scene, "WAR", &Told::of(JAVA, "tomcat"), || {
            host::run(
                Command::new("/bin/cp")
                    .arg(&archive)
                    .arg(tomcat.dir.join("apps/shop.war")),
            );
            wait_for("the application", || {
                let answer = http::try_get(tomcat.port, "/shop/index.jsp").ok()?;
                answer.body.contains("deployed").then_some(())
            });
        });
        Ok(())
    };
    vec![
        Story::new("silent: tomcat: pages are compiled", compile),
        Story::new(
            "noisy: tomcat: an administrator's archive is deployed",
            deploy,
        ),
    ]
}
