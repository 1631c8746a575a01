//! Servers that no table names, and ways to the host whose shells are nobody's attack: real ones.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::alert::{Expected, MEDIUM, SHELL};
use crate::host::{self, Daemon, Outcome, TempDir, free_port, program, real};
use crate::http;
use crate::scene::{Scene, Story};
use crate::server;

/// Tells the test program that it is the server, and where.
pub(crate) const PORT: &str = "TRACER_E2E_SERVES";

/// Every story of roles.
pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("a compiled server that no table names: sh -c", own_server),
        Story::new(
            "silent: sshd: a session, its shells and its server",
            session,
        ),
    ]
}

/// The port of this program where it is started as that server.
pub(crate) fn port() -> Option<u16> {
    std::env::var(PORT).ok()?.parse().ok()
}

/// The server itself: answers each request with what the words of its query print.
pub(crate) fn serve(port: u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port");
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        let mut line = String::new();
        let mut reader = BufReader::new(stream.try_clone().expect("the connection"));
        reader.read_line(&mut line).expect("a request");
        // All of it: a connection that is closed before is reset.
        let mut rest = String::new();
        while reader.read_line(&mut rest).is_ok_and(|read| read > 2) {}
        // Who only looks whether somebody listens asks for nothing.
        let Some(query) = line.split(['=', ' ']).nth(2) else {
            continue;
        };
        let command = query.replace("%20", " ");
        let output = Command::new("/bin/sh").args(["-c", &command]).output();
        let body = output.map(|output| output.stdout).unwrap_or_default();
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        stream
            .write_all(&[head, body.as_slice()].concat())
            .expect("an answer");
    }
}

fn own_server(scene: &Scene) -> Outcome {
    let site = server::own()?;
    let token = host::token();
    let expected = Expected {
        severity: MEDIUM,
        executable: real("/bin/sh"),
        args: Some(
            ["/bin/sh", "-c", &format!("echo {token}")]
                .map(str::to_owned)
                .into(),
        ),
        ..scene.expected(&site, SHELL, &[])
    };
    let alerts = scene.alerts_of(1, || {
        let response = http::get(site.port, &format!("/?c=echo%20{token}"));
        assert_eq!(response.body.trim(), token);
    });
    crate::alert::expect_exactly("a server of its own", &alerts, &[expected]);
    let server = |field: &str| alerts[0].pointer(&format!("/tracer/server/{field}"));
    assert_eq!(server("role"), Some(&"service".into()));
    assert_eq!(server("why"), Some(&"listens".into()));
    assert_eq!(server("ports"), Some(&serde_json::json!([site.port])));
    Ok(())
}

/// A real sshd on loopback with keys of its own.
struct Sshd {
    daemon: Daemon,
    dir: TempDir,
    port: u16,
    /// Where it may take off its rights; made where the host never ran one.
    privilege: Option<PathBuf>,
}

impl Sshd {
    fn start() -> Result<Self, host::Skip> {
        let sshd = program("sshd")?;
        let (keygen, _client) = (program("ssh-keygen")?, program("ssh")?);
        let privilege = PathBuf::from("/run/sshd");
        let privilege = std::fs::create_dir(&privilege).is_ok().then_some(privilege);
        let dir = TempDir::new("sshd");
        for key in ["host", "user"] {
            let file = dir.join(key);
            host::run(
                Command::new(&keygen)
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(file),
            );
        }
        let root = dir.path().display();
        let port = free_port();
        let config = dir.file(
            "sshd_config",
            &format!(
                "ListenAddress 127.0.0.1:{port}\nHostKey {root}/host\nPidFile {root}/pid\n\
                 AuthorizedKeysFile {root}/user.pub\nStrictModes no\nUsePAM no\n\
                 PermitRootLogin prohibit-password\n"
            ),
        );
        let mut command = Command::new(sshd);
        command.arg("-D").arg("-e").arg("-f").arg(config);
        let mut daemon = Daemon::start(&mut command, dir.join("log"), Signal::TERM);
        daemon.ready("port", || http::accepts(port));
        Ok(Self {
            daemon,
            dir,
            port,
            privilege,
        })
    }

    /// Runs a command in a session.
    fn run(&self, command: &str) -> String {
        let key = self.dir.join("user");
        let output = host::run(
            Command::new("/usr/bin/ssh")
                .args([
                    "-F",
                    "/dev/null",
                    "-o",
                    "BatchMode=yes",
                    "-o",
                    "StrictHostKeyChecking=no",
                ])
                .args([
                    "-o",
                    "UserKnownHostsFile=/dev/null",
                    "-o",
                    "LogLevel=ERROR",
                    "-tt",
                ])
                .arg("-i")
                .arg(key)
                .args(["-p", &self.port.to_string(), "root@127.0.0.1", command]),
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.daemon.stop();
        if let Some(path) = &self.privilege {
            std::fs::remove_dir(path).ok();
        }
    }
}

/// What is served in a session by a program that would be a server elsewhere: it listens, and runs a shell.
const DEVELOPMENT: &str = "import os, socket\n\
     listener = socket.create_server(('127.0.0.1', 0))\n\
     client = socket.create_connection(listener.getsockname())\n\
     listener.accept()\n\
     os.system('echo built')\n";

fn session(scene: &Scene) -> Outcome {
    let python = program("python3")?;
    program("sshd")?;
    scene.expect_silence("sshd", || {
        let sshd = Sshd::start().expect("sshd");
        let said = sshd.run("sh -c 'echo hello; bash -c \"id -u\"'");
        assert_eq!(said.replace('\r', ""), "hello\n0\n");
        let script = sshd.dir.file("serve.py", DEVELOPMENT);
        let said = sshd.run(&format!("{} {}", python.display(), script.display()));
        assert_eq!(said.trim(), "built");
    });
    Ok(())
}
