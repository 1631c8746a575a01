//! Real containers: an nginx with PHP in one that podman made, one of Docker, and a pod that containerd made by
//! Kubernetes' own interface; shells from them, sessions by `exec`, runtimes that end and come back, and containers that
//! are gone within a second.
//!
//! Nothing comes from a registry: the image has a static busybox, and the servers are the host's, mounted. Runtimes
//! run on roots, states and sockets of their own.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::agent::Agent;
use crate::alert::text;
use crate::host::{self, DEADLINE, Daemon, Outcome, Skip, TempDir, free_port, program, versioned};
use crate::http;

mod cri;
pub(crate) mod docker;
pub(crate) mod pods;

/// The name of the image that everything here is made of.
const IMAGE: &str = "localhost/web";

/// Podman with all that it needs where neither systemd nor overlayfs may be had.
struct Podman {
    dir: TempDir,
    program: PathBuf,
}

impl Podman {
    fn new() -> Result<Self, Skip> {
        Ok(Self {
            program: program("podman")?,
            dir: TempDir::new("podman"),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (flag, name) in [
            ("--root", "root"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
        ] {
            command.arg(flag).arg(self.dir.join(name));
        }
        command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs"]);
        command.args(["--storage-driver", "vfs", "--events-backend", "file"]);
        command.stdin(Stdio::null());
        command
    }

    /// What a run needs beside; the host's network, as there is no other.
    fn run(&self) -> Command {
        let mut command = self.command();
        command.args(["run", "--network", "host"]);
        for limit in ["nofile=1024:1024", "nproc=1000:1000"] {
            command.args(["--ulimit", limit]);
        }
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let mut command = self.command();
        command.args(["rm", "--force", "--all", "--time", "1"]);
        let _nothing_more_to_do = command.output();
    }
}

/// Runs a command that the machine may refuse: what it says then is why the story is skipped.
fn allowed(command: &mut Command) -> Result<String, Skip> {
    let name = format!("{:?}", command.get_program());
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Skip(format!("{name} says: {}", said.replace('\n', " | "))))
}

/// A root file system: busybox, and room for the host's programs.
fn root(dir: &TempDir) -> Result<PathBuf, Skip> {
    let busybox = program("busybox")?;
    let root = dir.dir("rootfs", None);
    for name in [
        "bin",
        "usr",
        "etc",
        "tmp",
        "proc",
        "sys",
        "dev",
        "site",
        "var/log/nginx",
    ] {
        dir.dir(&format!("rootfs/{name}"), None);
    }
    let inside = root.join("bin/busybox");
    std::fs::copy(&busybox, &inside).expect("busybox is copied");
    // One that is not static does not run without the host's libraries.
    let alone = Command::new("chroot")
        .arg(&root)
        .args(["/bin/busybox", "true"])
        .stderr(Stdio::null())
        .status();
    if !alone.is_ok_and(|status| status.success()) {
        return Err(Skip(
            "busybox is not static: install busybox-static".to_owned(),
        ));
    }
    for name in ["sh", "sleep", "id", "true"] {
        symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    for name in ["lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name)).expect("a link");
    }
    let user = "www-data:x:33:33::/:/bin/false\nroot:x:0:0::/:/bin/sh\n";
    dir.file("rootfs/etc/passwd", user);
    dir.file("rootfs/etc/group", "www-data:x:33:\nroot:x:0:\n");
    Ok(root)
}

/// An image as `docker save` writes it.
fn image(dir: &TempDir) -> Result<PathBuf, Skip> {
    let root = root(dir)?;
    let layer = dir.join("layer.tar");
    host::run(
        Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&layer)
            .arg("."),
    );
    let sum = host::run(Command::new("sha256sum").arg(&layer));
    let sum = String::from_utf8_lossy(&sum.stdout)
        .split(' ')
        .next()
        .expect("a sum")
        .to_owned();
    dir.file(
        "config.json",
        &serde_json::json!({
            "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
            "os": "linux",
            "config": {"Cmd": ["/bin/sleep", "600"], "Labels": {"org.example.team": "red"}},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]},
        })
        .to_string(),
    );
    dir.file(
        "manifest.json",
        &serde_json::json!([{
            "Config": "config.json",
            "RepoTags": [format!("{IMAGE}:7")],
            "Layers": ["layer.tar"],
        }])
        .to_string(),
    );
    let image = dir.join("image.tar");
    host::run(
        Command::new("tar")
            .arg("-C")
            .arg(dir.path())
            .arg("-cf")
            .arg(&image)
            .args(["manifest.json", "config.json", "layer.tar"]),
    );
    Ok(image)
}

/// A site for a container: nginx and php-fpm of the host, configured at `/site`.
struct Site {
    dir: TempDir,
    port: u16,
    /// What the container runs.
    command: Vec<String>,
}

impl Site {
    fn new() -> Result<Self, Skip> {
        let (nginx, fpm) = (program("nginx")?, host::real(versioned("php-fpm")?));
        let port = free_port();
        let dir = TempDir::new("site");
        dir.dir("public", None);
        dir.dir("run", None);
        dir.file(
            "php-fpm.conf",
            "[global]\nerror_log = /site/run/php-fpm.log\n[www]\nuser = www-data\ngroup = www-data\n\
             listen = /site/run/php.sock\nlisten.owner = www-data\nlisten.group = www-data\n\
             pm = static\npm.max_children = 2\n",
        );
        dir.file(
            "nginx.conf",
            &format!(
                "user www-data;\nworker_processes 1;\ndaemon off;\npid /site/run/nginx.pid;\n\
                 error_log /site/run/nginx.log;\nevents {{ worker_connections 64; }}\n\
                 http {{\n access_log off;\n client_body_temp_path /site/run/body;\n\
                 fastcgi_temp_path /site/run/fastcgi;\n proxy_temp_path /site/run/proxy;\n\
                 scgi_temp_path /site/run/scgi;\n uwsgi_temp_path /site/run/uwsgi;\n\
                 server {{\n listen 127.0.0.1:{port};\n root /site/public;\n location ~ \\.php$ {{\n\
                 fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;\n\
                 fastcgi_param REQUEST_METHOD $request_method;\n\
                 fastcgi_param QUERY_STRING $query_string;\n\
                 fastcgi_pass unix:/site/run/php.sock;\n }}\n }}\n}}\n"
            ),
        );
        dir.file(
            "public/shell.php",
            "<?php\nsystem(\"echo $_GET[t]; id\");\n",
        );
        let (nginx, fpm) = (nginx.display(), fpm.display());
        let both = format!(
            "{fpm} --nodaemonize --fpm-config /site/php-fpm.conf & exec {nginx} -c /site/nginx.conf"
        );
        Ok(Self {
            dir,
            port,
            command: vec!["/bin/sh".into(), "-c".into(), both],
        })
    }

    /// Waits until it answers, then has a page run a shell; gives the shell's alert.
    fn shell(&self, agent: &Agent) -> Value {
        let token = host::token();
        let mark = agent.mark();
        host::wait_for("the site in the container", || {
            let answered = http::accepts(self.port)
                && http::get(self.port, &format!("/shell.php?t={token}"))
                    .body
                    .contains(&token);
            answered.then_some(())
        });
        let alert = agent.wait_for(mark, DEADLINE, |document| {
            text(document, "/rule/id") == "server-shell" && document.to_string().contains(&token)
        });
        alert
            .unwrap_or_else(|| panic!("no alert of the shell: {}", agent.stderr()))
            .document
    }
}

/// An agent that asks at this socket, and tells everything.
fn agent(dir: &TempDir, socket: &Path) -> Result<Agent, Skip> {
    let config = dir.file(
        "tracer.yaml",
        &format!(
            "enrichment:\n  wait_ms: 5000\n  container_sockets: [{}]\n",
            socket.display()
        ),
    );
    let config = config.display().to_string();
    Agent::start(&["--emit", "all", "--format", "json", "--config", &config])
}

/// Makes a container and starts it a while later, until one is known by the first program in it. A container that
/// nobody told of is asked for only then, so its first event never has its name. Gives that event.
fn told_before_it_began(
    agent: &Agent,
    name: &str,
    create: impl Fn(&str) -> Result<String, Skip>,
    start: impl Fn(&str) -> Outcome,
) -> Result<Value, Skip> {
    // The agent has longer each time: machines that run tests are busy.
    for (turn, pause) in [20, 200, 1_000, 5_000].into_iter().enumerate() {
        let name = format!("{name}-{turn}");
        let id = create(&name)?;
        std::thread::sleep(Duration::from_millis(pause));
        start(&id)?;
        let first = first_in(agent, &id);
        if text(&first, "/container/name") == name {
            return Ok(first);
        }
    }
    panic!("no {name} was told before it began: {}", agent.stderr());
}

/// The event of a program that was executed with this among its arguments.
fn executed(agent: &Agent, mark: usize, word: &str) -> Value {
    let line = agent.wait_for(mark, DEADLINE, |document| {
        text(document, "/event/action") == "exec"
            && document["process"]["args"].to_string().contains(word)
            && document["process"]["name"] == "busybox"
    });
    line.unwrap_or_else(|| panic!("no exec of {word}: {}", agent.stderr()))
        .document
}

/// The first program that was seen in a container. It does not wait for an answer: what it says was known before.
fn first_in(agent: &Agent, id: &str) -> Value {
    let line = agent.wait_for(0, DEADLINE, |document| {
        text(document, "/container/id") == id && text(document, "/event/action") == "exec"
    });
    line.unwrap_or_else(|| panic!("no program in {id}: {}", agent.stderr()))
        .document
}

/// Waits until the agent has said this on standard error so many times.
fn said(agent: &Agent, words: &str, times: usize) {
    host::wait_for(words, || {
        (agent.stderr().matches(words).count() >= times).then_some(())
    });
}

fn has(document: &Value, expected: &[(&str, &str)]) {
    for (field, expected) in expected {
        assert_eq!(text(document, field), *expected, "{field} of {document:#}");
    }
}

fn no_alert_since(agent: &Agent, mark: usize, word: &str) {
    let lines = agent.since(mark);
    let alerts: Vec<_> = lines
        .iter()
        .map(|line| &line.document)
        .filter(|document| text(document, "/event/kind") == "alert")
        .filter(|document| document.to_string().contains(word))
        .collect();
    assert!(alerts.is_empty(), "a session is no server's: {alerts:#?}");
}

/// nginx in a container of podman, whose socket speaks as Docker's does.
pub(crate) fn podman() -> Outcome {
    let podman = Podman::new()?;
    let site = Site::new()?;
    let image = image(&podman.dir)?;
    allowed(podman.command().args(["load", "-q", "-i"]).arg(&image))?;
    let socket = podman.dir.join("api.sock");
    let mut service = Daemon::start(
        podman
            .command()
            .args(["system", "service", "--time", "0"])
            .arg(format!("unix://{}", socket.display())),
        podman.dir.join("service.out"),
        Signal::TERM,
    );
    service.ready("socket", || socket.exists());
    let agent = agent(&podman.dir, &socket)?;
    let id = allowed(
        podman
            .run()
            .args([
                "--detach",
                "--name",
                "shop-web",
                "--label",
                "app.tier=front",
            ])
            .args(["-v", "/usr:/usr:ro"])
            .arg("-v")
            .arg(format!("{}:/site", site.dir.path().display()))
            .arg(format!("{IMAGE}:7"))
            .args(&site.command),
    )?;
    let told = site.shell(&agent);
    has(
        &told,
        &[
            ("/container/id", id.as_str()),
            ("/container/runtime", "podman"),
            ("/container/name", "shop-web"),
            ("/container/image/name", IMAGE),
            ("/container/image/tag/0", "7"),
            ("/container/labels/app_tier", "front"),
        ],
    );
    assert_eq!(told.pointer("/tracer/container/exec_session"), None);
    assert_eq!(told.pointer("/tracer/enrichment/pending"), None);

    let (mark, token) = (agent.mark(), host::token());
    host::run(
        podman
            .command()
            .args(["exec", "shop-web", "/bin/sh", "-c"])
            .arg(format!("true {token}")),
    );
    let session = executed(&agent, mark, &token);
    assert_eq!(text(&session, "/container/id"), id);
    assert_eq!(
        session["tracer"]["container"]["exec_session"], true,
        "{session:#}"
    );
    host::run(
        podman
            .command()
            .args(["rm", "--force", "--time", "2", "shop-web"]),
    );
    no_alert_since(&agent, mark, &token);
    agent.stop();
    Ok(())
}

/// Podman as most run it, without its service: its own files tell the name and the image.
pub(crate) fn podman_alone() -> Outcome {
    let podman = Podman::new()?;
    let image = image(&podman.dir)?;
    allowed(podman.command().args(["load", "-q", "-i"]).arg(&image))?;
    let agent = agent(&podman.dir, &podman.dir.join("root"))?;
    let id = allowed(
        podman
            .run()
            .args(["--detach", "--name", "shop-job"])
            .arg(format!("{IMAGE}:7")),
    )?;
    // It is asked for when its first program is seen: some event after that has the answer.
    let told = host::wait_for("the name of the container", || {
        let (mark, token) = (agent.mark(), host::token());
        host::run(
            podman
                .command()
                .args(["exec", "shop-job", "/bin/sh", "-c"])
                .arg(format!("true {token}")),
        );
        let session = executed(&agent, mark, &token);
        (text(&session, "/container/name") == "shop-job").then_some(session)
    });
    has(
        &told,
        &[
            ("/container/id", id.as_str()),
            ("/container/runtime", "podman"),
            ("/container/image/name", IMAGE),
            ("/container/image/tag/0", "7"),
        ],
    );
    agent.stop();
    Ok(())
}

/// Containers at once that are gone within a second.
const SHORT: usize = 24;

/// Every process of a short container is told with its id, though no runtime could be asked in time.
pub(crate) fn short() -> Outcome {
    let runc = program("runc")?;
    let dir = TempDir::new("runc");
    let root = root(&dir)?;
    host::run(Command::new(&runc).arg("spec").current_dir(dir.path()));
    let spec = std::fs::read_to_string(dir.join("config.json")).expect("runc's spec");
    let mut spec: Value = serde_json::from_str(&spec).expect("JSON");
    spec["process"]["terminal"] = false.into();
    spec["process"]["rlimits"] = Value::Null;
    spec["root"]["path"] = root.display().to_string().into();
    let ids: Vec<String> = (0..SHORT)
        .map(|n| format!("{n:02x}{}", "ab".repeat(31)))
        .collect();
    for id in &ids {
        spec["process"]["args"] = serde_json::json!(["/bin/true", id]);
        dir.dir(id, None);
        dir.file(&format!("{id}/config.json"), &spec.to_string());
    }
    let state = dir.join("state");
    let run = |id: &String| {
        let mut command = Command::new(&runc);
        command
            .arg("--root")
            .arg(&state)
            .args(["run", "--bundle"])
            .arg(dir.join(id))
            .arg(id);
        command.stdin(Stdio::null());
        command
    };
    // What refuses one refuses all.
    let probe = "ff".repeat(32);
    dir.dir(&probe, None);
    dir.file(&format!("{probe}/config.json"), &spec.to_string());
    allowed(&mut run(&probe))?;
    let agent = agent(&dir, &dir.join("nobody.sock"))?;
    let children: Vec<_> = ids
        .iter()
        .map(|id| run(id).spawn().expect("runc"))
        .collect();
    for mut child in children {
        assert!(child.wait().expect("runc").success());
    }
    for id in &ids {
        let line = agent.wait_for(0, DEADLINE, |document| {
            text(document, "/event/action") == "exec"
                && document["process"]["args"] == serde_json::json!(["/bin/true", id])
        });
        let told = line
            .unwrap_or_else(|| panic!("{id} was not told: {}", agent.stderr()))
            .document;
        assert_eq!(text(&told, "/container/id"), id, "{told:#}");
        assert_eq!(told.pointer("/tracer/container/exec_session"), None);
    }
    let ended = agent.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    Ok(())
}
