//! A container of dockerd, which starts a containerd of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::{
    IMAGE, Site, agent, allowed, executed, first_in, has, image, no_alert_since, said,
    told_before_it_began,
};
use crate::agent::Agent;
use crate::host::{self, Daemon, Outcome, Skip, TempDir, program};

/// dockerd with folders and a socket of its own, and neither network nor firewall.
struct Docker {
    // Before its folder: it is ended before that is removed.
    daemon: Daemon,
    dir: TempDir,
    program: PathBuf,
}

impl Docker {
    fn new() -> Result<Self, Skip> {
        let (program, dockerd) = (program("docker")?, program("dockerd")?);
        let dir = TempDir::new("docker");
        let mut docker = Self {
            daemon: Self::daemon(&dockerd, &dir),
            dir,
            program,
        };
        docker.ready();
        Ok(docker)
    }

    fn daemon(dockerd: &PathBuf, dir: &TempDir) -> Daemon {
        let mut command = Command::new(dockerd);
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        // Containers outlive it.
        command.args(["--storage-driver=vfs", "--live-restore"]);
        for (flag, name) in [
            ("--data-root", "root"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
        ] {
            command.arg(flag).arg(dir.join(name));
        }
        command
            .arg("--host")
            .arg(format!("unix://{}", dir.join("d.sock").display()));
        // It looks for a containerd, and for what makes containers, by name.
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Daemon::start(&mut command, dir.join("dockerd.out"), Signal::TERM)
    }

    fn command(&self) -> Command {
        client(&self.program, &self.dir)
    }

    fn ready(&mut self) {
        let (program, dir) = (&self.program, &self.dir);
        self.daemon.ready("answer", || {
            client(program, dir)
                .arg("version")
                .output()
                .is_ok_and(|output| output.status.success())
        });
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let ids = self.command().args(["ps", "--all", "--quiet"]).output();
        let ids = ids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for id in ids.unwrap_or_default().lines() {
            let _best_effort = self.command().args(["rm", "--force", id]).output();
        }
        self.daemon.stop();
        // It leaves these to its next start, and a folder with a mount in it cannot be removed.
        for name in ["exec/netns/default", "root"] {
            let path = self.dir.join(name);
            let _nothing_there = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

fn client(program: &PathBuf, dir: &TempDir) -> Command {
    let mut command = Command::new(program);
    command
        .arg("--host")
        .arg(format!("unix://{}", dir.join("d.sock").display()));
    command
        .env("DOCKER_CONFIG", dir.path())
        .stdin(Stdio::null());
    command
}

/// nginx in a container, attacked; a session in it; and dockerd started again.
pub(crate) fn docker() -> Outcome {
    let site = Site::new()?;
    let mut docker = Docker::new()?;
    let image = image(&docker.dir)?;
    allowed(
        docker
            .command()
            .args(["load", "--quiet", "--input"])
            .arg(&image),
    )?;
    let socket = docker.dir.join("d.sock");
    let agent = agent(&docker.dir, &socket)?;
    said(&agent, "containers are told when they are made", 1);
    let id = allowed(
        docker
            .command()
            .args(["run", "--detach", "--network", "host"])
            .args(["--name", "shop-web", "--label", "app.tier=front"])
            .args(["--volume", "/usr:/usr:ro", "--volume"])
            .arg(format!("{}:/site", site.dir.path().display()))
            .arg(format!("{IMAGE}:7"))
            .args(&site.command),
    )?;
    let web = [
        ("/container/id", id.as_str()),
        ("/container/runtime", "docker"),
        ("/container/name", "shop-web"),
        ("/container/image/name", IMAGE),
        ("/container/image/tag/0", "7"),
        ("/container/labels/app_tier", "front"),
        ("/container/labels/org_example_team", "red"),
    ];
    let told = site.shell(&agent);
    has(&told, &web);
    assert_eq!(told.pointer("/tracer/container/exec_session"), None);
    assert_eq!(told.pointer("/tracer/enrichment/pending"), None);
    let first = first_in(&agent, &id);
    has(&first, &[("/container/runtime", "docker")]);
    session_in(&docker, &agent, &web);

    docker.daemon.stop();
    said(&agent, "is gone", 1);
    docker.daemon = Docker::daemon(&program("dockerd")?, &docker.dir);
    docker.ready();
    said(&agent, "containers are told when they are made", 2);
    let first = told_before_it_began(
        &agent,
        "shop-job",
        |name| {
            let image = format!("{IMAGE}:7");
            let mut command = docker.command();
            allowed(command.args(["create", "--network", "host", "--name", name, &image]))
        },
        |id| allowed(docker.command().args(["start", id])).map(drop),
    )?;
    has(&first, &[("/container/image/name", IMAGE)]);
    session_in(&docker, &agent, &web);
    let ended = agent.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    Ok(())
}

fn session_in(docker: &Docker, agent: &Agent, expected: &[(&str, &str)]) {
    let (mark, token) = (agent.mark(), host::token());
    host::run(
        docker
            .command()
            .args(["exec", "shop-web", "/bin/sh", "-c"])
            .arg(format!("true {token}")),
    );
    let session = executed(agent, mark, &token);
    has(&session, expected);
    assert_eq!(
        session["tracer"]["container"]["exec_session"], true,
        "{session:#}"
    );
    no_alert_since(agent, mark, &token);
}
