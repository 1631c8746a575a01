//! Pods, made as a kubelet makes them, by each containerd that clusters have: that of Debian 12 (1.6), 13 (1.7) and
//! the next. Runtimes of other suites than the host's are where `cargo xtask test` has put them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use super::cri::{Cri, Pod};
use super::{
    IMAGE, Site, agent, allowed, executed, first_in, has, image, no_alert_since, said,
    told_before_it_began,
};
use crate::agent::Agent;
use crate::host::{self, Daemon, Outcome, Skip, TempDir, program};

/// A containerd with folders and a socket of its own.
struct Containerd {
    // Before its folder: it is ended before that is removed.
    daemon: Daemon,
    dir: TempDir,
    /// Where its programs are.
    programs: PathBuf,
}

impl Containerd {
    /// Starts it, with the image that pods are made of. `without` is a plugin that it has not.
    fn new(programs: PathBuf, without: &str) -> Result<Self, Skip> {
        program("runc")?;
        allowed(Command::new(programs.join("containerd")).arg("--version"))?;
        let dir = TempDir::new("cri");
        let image = image(&dir)?;
        let root = dir.path().display();
        dir.file(
            "containerd.toml",
            &format!(
                "version = 2\nroot = \"{root}/root\"\nstate = \"{root}/state\"\ndisabled_plugins = [{without}]\n\
                 [grpc]\naddress = \"{root}/c.sock\"\n\
                 [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"{IMAGE}:7\"\n\
                 disable_apparmor = true\nrestrict_oom_score_adj = true\n\
                 [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n\
                 [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{root}/none\"\nconf_dir = \"{root}/none\"\n"
            ),
        );
        let mut containerd = Self {
            daemon: Self::daemon(&programs, &dir),
            dir,
            programs,
        };
        containerd.ready();
        allowed(
            containerd
                .client()
                .args(["--namespace", "k8s.io", "images", "import", "--no-unpack"])
                .arg(&image),
        )?;
        Cri::connect(&containerd.socket()).wait_for_image();
        Ok(containerd)
    }

    fn daemon(programs: &Path, dir: &TempDir) -> Daemon {
        // Its shim is looked for by name.
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display());
        Daemon::start(
            Command::new(programs.join("containerd"))
                .arg("--config")
                .arg(dir.join("containerd.toml"))
                .env("PATH", path),
            dir.join("containerd.out"),
            Signal::TERM,
        )
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("c.sock")
    }

    fn client(&self) -> Command {
        client(&self.programs, &self.socket())
    }

    fn ready(&mut self) {
        let (programs, socket) = (self.programs.clone(), self.socket());
        self.daemon.ready("answer", || {
            client(&programs, &socket)
                .arg("version")
                .output()
                .is_ok_and(|output| output.status.success())
        });
    }

    /// Ends it without a word, as a crash does. What it made runs on.
    fn kill(&mut self) {
        host::signal(self.daemon.pid(), Signal::KILL);
        self.daemon.stop();
    }

    fn start(&mut self) {
        self.daemon = Self::daemon(&self.programs, &self.dir);
        self.ready();
    }
}

fn client(programs: &Path, socket: &Path) -> Command {
    let mut command = Command::new(programs.join("ctr"));
    command.arg("--address").arg(socket);
    command
}

/// Where the programs of another suite are.
fn fetched(suite: &str) -> Result<PathBuf, Skip> {
    let runtimes = std::env::var_os("TRACER_RUNTIMES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/runtimes"),
        PathBuf::from,
    );
    let programs = runtimes.join(format!("containerd-{suite}/bin"));
    if !programs.join("containerd").is_file() {
        return Err(Skip(format!(
            "containerd of Debian {suite} was not fetched: `cargo xtask test --only e2e` does"
        )));
    }
    Ok(host::real(programs))
}

const UID: &str = "3d6e1f0a-0b1c-4d2e-8f3a-4b5c6d7e8f90";

/// What is told of every container of the pod.
const OF_POD: &[(&str, &str)] = &[
    ("/container/runtime", "containerd"),
    ("/orchestrator/type", "kubernetes"),
    ("/orchestrator/namespace", "shop"),
    ("/orchestrator/resource/name", "web-0"),
    ("/kubernetes/pod/name", "web-0"),
    ("/kubernetes/pod/uid", UID),
];

fn label_of_pod(told: &Value) -> &Value {
    &told["kubernetes"]["labels"]["app_kubernetes_io/name"]
}

const IMAGED: &[(&str, &str)] = &[
    ("/container/image/name", IMAGE),
    ("/container/image/tag/0", "7"),
];

fn run_pod(cri: &Cri) -> Result<Pod, Skip> {
    cri.run_pod(UID)
        .map_err(|why| Skip(format!("containerd refuses a pod: {why}")))
}

fn create(
    cri: &Cri,
    pod: &Pod,
    name: &str,
    command: &[String],
    site: &Path,
) -> Result<String, Skip> {
    cri.create(pod, name, command, site)
        .map_err(|why| Skip(format!("containerd refuses a container: {why}")))
}

fn start(cri: &Cri, id: &str) -> Result<(), Skip> {
    cri.start(id)
        .map_err(|why| Skip(format!("containerd does not start a container: {why}")))
}

/// nginx in a pod, attacked, and a session in it.
pub(crate) fn debian_12() -> Outcome {
    let programs = program("containerd")?
        .parent()
        .expect("a folder")
        .to_owned();
    program("ctr")?;
    let site = Site::new()?;
    let mut containerd = Containerd::new(programs, "")?;
    let agent = agent(&containerd.dir, &containerd.socket())?;
    let cri = Cri::connect(&containerd.socket());
    let pod = run_pod(&cri)?;
    let id = create(&cri, &pod, "web", &site.command, site.dir.path())?;
    start(&cri, &id)?;
    let told = site.shell(&agent);
    has(&told, OF_POD);
    has(&told, IMAGED);
    has(&told, &[("/container/id", &id), ("/container/name", "web")]);
    assert_eq!(label_of_pod(&told), "shop");
    assert_eq!(told.pointer("/tracer/container/exec_session"), None);
    let first = first_in(&agent, &id);
    has(&first, &[("/kubernetes/pod/uid", UID)]);

    let sleep = ["/bin/sleep".to_owned(), "600".to_owned()];
    let first = told_before_it_began(
        &agent,
        "late",
        |name| create(&cri, &pod, name, &sleep, site.dir.path()),
        |id| start(&cri, id),
    )?;
    has(&first, OF_POD);
    assert_eq!(label_of_pod(&first), "shop");
    has(&first, IMAGED);

    let (mark, token) = (agent.mark(), host::token());
    cri.exec(&id, &["/bin/sh", "-c", &format!("true {token}")]);
    let session = executed(&agent, mark, &token);
    has(&session, OF_POD);
    assert_eq!(
        session["tracer"]["container"]["exec_session"], true,
        "{session:#}"
    );
    no_alert_since(&agent, mark, &token);
    drop(cri);
    containerd.daemon.stop();
    agent.stop();
    Ok(())
}

pub(crate) fn debian_13() -> Outcome {
    events(fetched("trixie")?, "")
}

pub(crate) fn debian_sid() -> Outcome {
    events(fetched("sid")?, "")
}

/// The newest without events of its own interface: then it is asked for those of `runtime.v1`.
pub(crate) fn by_cri() -> Outcome {
    events(fetched("sid")?, "\"io.containerd.grpc.v1.events\"")
}

/// A pod that ran before the agent, one that is made later, and a containerd that is killed and comes back.
fn events(programs: PathBuf, without: &str) -> Outcome {
    let mut containerd = Containerd::new(programs, without)?;
    let socket = containerd.socket();
    let mut cri = Cri::connect(&socket);
    let pod = run_pod(&cri)?;
    let here = TempDir::new("pod");
    let make = |cri: &Cri, name: &str| {
        let sleep = ["/bin/sleep".to_owned(), "600".to_owned()];
        create(cri, &pod, name, &sleep, here.path())
    };
    let early = make(&cri, "early")?;
    start(&cri, &early)?;
    let agent = agent(&containerd.dir, &socket)?;
    let told = "containers are told when they are made";
    said(&agent, told, 1);
    session_in(&cri, &agent, &early, "early");

    let begin = |cri: &Cri, name: &str| {
        told_before_it_began(&agent, name, |name| make(cri, name), |id| start(cri, id))
    };
    let first = begin(&cri, "late")?;
    has(&first, OF_POD);
    assert_eq!(label_of_pod(&first), "shop");
    has(&first, IMAGED);

    containerd.kill();
    said(&agent, "is gone", 1);
    containerd.start();
    cri.reconnect(&socket);
    let began = Instant::now();
    // Made when nobody may listen yet: it is in the list that the agent asks for.
    let unheard = make(&cri, "unheard")?;
    said(&agent, told, 2);
    host::say(&format!(
        "   containerd was spoken to again {:?} after it was back",
        began.elapsed()
    ));
    // Events are told after the list.
    begin(&cri, "again")?;
    start(&cri, &unheard)?;
    has(
        &first_in(&agent, &unheard),
        &[("/container/name", "unheard")],
    );
    // What ran all the time is known as before.
    session_in(&cri, &agent, &early, "early");
    drop(cri);
    containerd.daemon.stop();
    let ended = agent.stop();
    assert!(ended.status.success(), "{}", ended.stderr);
    Ok(())
}

fn executed_in(cri: &Cri, agent: &Agent, id: &str) -> Value {
    let (mark, token) = (agent.mark(), host::token());
    cri.exec(id, &["/bin/sh", "-c", &format!("true {token}")]);
    executed(agent, mark, &token)
}

fn session_in(cri: &Cri, agent: &Agent, id: &str, name: &str) {
    let session = executed_in(cri, agent, id);
    has(&session, OF_POD);
    has(
        &session,
        &[("/container/id", id), ("/container/name", name)],
    );
    assert_eq!(
        session["tracer"]["container"]["exec_session"], true,
        "{session:#}"
    );
}
