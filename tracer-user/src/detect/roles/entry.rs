//! Programs that are no servers though they listen or start shells all day: the ways by which people and
//! jobs come to a host.
//!
//! A name alone is nothing here: the executable lies where only the administrator writes, it has a name, and
//! no server wrote it. Who asks has made sure that no server is in the lineage: below one nothing has such
//! a role, so an `sshd` that a web server starts is what that web server does.

use super::{any, base, effective_name, script};
use crate::event::{Exec, ProcessKey};
use crate::lineage::process::Process;

/// The first process, in the initial pid namespace.
const INIT: u32 = 1;

/// A way to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// People and their programs come by it from other hosts: sshd.
    Login,
    /// People sit at it: login, tmux, the terminals of a desktop.
    Terminal,
    /// Runs the jobs of a build server.
    Runner,
    /// Starts what is due: cron.
    Scheduler,
    /// Starts services, and may hold their sockets: systemd.
    Manager,
    /// Starts containers.
    Runtime,
}

impl Entry {
    /// The word in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Terminal => "terminal",
            Self::Runner => "runner",
            Self::Scheduler => "scheduler",
            Self::Manager => "manager",
            Self::Runtime => "runtime",
        }
    }

    /// Whether what is started there is of a person, or of a job, that lasts no longer than the process
    /// itself. What listens there listens for them: a development server, a test.
    #[must_use]
    pub const fn is_session(self) -> bool {
        match self {
            Self::Login | Self::Terminal | Self::Runner => true,
            Self::Scheduler | Self::Manager | Self::Runtime => false,
        }
    }
}

#[rustfmt::skip]
const NATIVE: &[(Entry, &[&str])] = &[
    (Entry::Login, &[
        "sshd", "sshd-session", "sshd-auth", "dropbear", "tinysshd", "in.telnetd", "telnetd", "in.rlogind", "in.rshd",
        "mosh-server", "et", "etserver", "etterminal", "teleport", "tailscaled", "cockpit-ws", "cockpit-tls", "cockpit-session", "cockpit-bridge",
        "xrdp", "xrdp-sesman", "xrdp-sesexec", "Xvnc", "Xtigervnc", "x11vnc", "vncserver", "vncsession", "amazon-ssm-agent", "ssm-agent-worker", "ssm-session-worker",
    ]),
    (Entry::Terminal, &[
        "login", "agetty", "getty", "mingetty", "tmux", "screen", "dtach", "abduco", "zellij", "script",
        "gnome-terminal-server", "gnome-terminal-", "ptyxis-agent", "kgx", "konsole", "yakuake", "xfce4-terminal", "mate-terminal", "lxterminal", "terminator",
        "tilix", "alacritty", "kitty", "foot", "footclient", "wezterm-gui", "wezterm-mux-server", "ghostty", "xterm", "uxterm", "urxvt", "urxvtd", "st", "rxvt",
        "gdm", "gdm3", "gdm-session-worker", "lightdm", "sddm", "sddm-helper", "greetd", "gnome-shell", "plasmashell", "Xorg", "X", "Xwayland",
    ]),
    (Entry::Runner, &[
        "Runner.Listener", "Runner.Worker", "gitlab-runner", "buildkite-agent", "drone-runner-docker", "drone-runner-exec", "drone-agent", "woodpecker-agent",
        "act_runner", "forgejo-runner", "circleci-agent", "circleci-runner", "Agent.Listener", "Agent.Worker",
    ]),
    (Entry::Scheduler, &["cron", "crond", "atd", "anacron", "fcron", "dcron", "supercronic"]),
    (Entry::Manager, &[
        "systemd", "systemd-executor", "init", "openrc", "openrc-init", "openrc-run", "supervise-daemon", "start-stop-daemon", "runit", "runit-init", "runsvdir",
        "runsv", "s6-svscan", "s6-supervise", "s6-ipcserverd", "svscan", "supervise", "dinit", "finit", "launchd", "upstart", "circusd",
        "inetd", "xinetd", "tini", "tini-static", "dumb-init", "catatonit", "docker-init", "pause",
    ]),
    (Entry::Runtime, &[
        "dockerd", "docker-proxy", "containerd", "containerd-shim", "containerd-shim-runc-v1", "containerd-shim-runc-v2", "conmon", "conmonrs", "crio", "podman",
        "runc", "crun", "youki", "runsc", "kata-runtime", "containerd-shim-kata-v2", "kubelet", "k3s", "k3s-server", "k3s-agent", "rke2", "k0s", "lxc-start",
        "lxcfs", "lxd", "incusd", "buildkitd", "systemd-nspawn", "nerdctl", "rootlesskit", "slirp4netns", "pasta", "pasta.avx2", "cri-dockerd",
    ]),
];

/// Those that are written in Python: scripts and modules.
const SCRIPTS: &[(Entry, &[&str])] = &[
    (Entry::Manager, &["supervisord", "circusd"]),
    (Entry::Terminal, &["terminator"]),
];

/// The agents of Jenkins: the archive alone could be anybody's, the options make it one.
const JENKINS: &[&str] = &["agent.jar", "slave.jar", "remoting.jar", "swarm-client.jar"];
const JENKINS_OPTIONS: &[&str] = &["-workDir", "-jnlpUrl", "-url", "-jar-cache", "-master"];

/// Where programs lie that only the administrator, or what he installed, writes. Runners are unpacked
/// wherever their user lives, and have no such place.
const SYSTEM: &[&[u8]] = &[
    b"/usr/",
    b"/bin/",
    b"/sbin/",
    b"/lib/",
    b"/lib64/",
    b"/opt/",
    b"/snap/",
    b"/nix/store/",
    b"/gnu/store/",
    b"/var/lib/rancher/",
    b"/var/lib/k0s/",
];

/// The way that a process is, by what it runs now.
#[must_use]
pub fn entry(process: &Process) -> Option<Entry> {
    of(process.key, &process.image()?.exec)
}

/// The way that a program is.
#[must_use]
pub fn of(key: ProcessKey, exec: &Exec) -> Option<Entry> {
    if key.tgid == INIT {
        // Whatever it is called, it is nobody's child, and what all others are started by.
        return Some(Entry::Manager);
    }
    let found = by_name(exec).or_else(|| by_arguments(exec))?;
    let is_installed = SYSTEM.iter().any(|place| exec.exe.starts_with(place));
    let is_own = exec.nlink != 0 && exec.writer.is_none();
    (is_own && (is_installed || found == Entry::Runner)).then_some(found)
}

fn by_name(exec: &Exec) -> Option<Entry> {
    let name = base(&exec.exe);
    let name = if super::is_multi_call(name) {
        effective_name(exec)
    } else {
        name
    };
    named(name)
}

/// The way that a program of this name is, wherever it lies and whatever it is asked to do.
#[must_use]
pub fn named(name: &[u8]) -> Option<Entry> {
    let found = NATIVE.iter().find(|(_, names)| any(names, name));
    found.map(|(entry, _)| *entry)
}

fn by_arguments(exec: &Exec) -> Option<Entry> {
    let name = base(&exec.exe);
    if any(&["python#"], name) {
        let script = base(script(&exec.args)?);
        let is = |(_, scripts): &&(Entry, &[&str])| any(scripts, script);
        return SCRIPTS.iter().find(is).map(|(entry, _)| *entry);
    }
    if name != b"java" {
        return None;
    }
    let mut words = exec.args.iter().skip(1).map(Vec::as_slice);
    words.find(|word| *word == b"-jar")?;
    let is_agent = any(JENKINS, base(words.next()?));
    let is_asked = words.any(|word| {
        JENKINS_OPTIONS
            .iter()
            .any(|option| option.as_bytes() == word)
    });
    (is_agent && is_asked).then_some(Entry::Runner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::exec;

    fn entry(exe: &str, args: &[&str]) -> Option<Entry> {
        let key = ProcessKey {
            tgid: 7,
            start_ticks: 7,
        };
        of(key, &exec(exe, args))
    }

    #[test]
    fn ways_to_a_host() {
        for (exe, args, expected) in [
            ("/usr/sbin/sshd", &["sshd"][..], Some(Entry::Login)),
            ("/usr/lib/openssh/sshd-session", &["x"], Some(Entry::Login)),
            ("/usr/sbin/cron", &["cron"], Some(Entry::Scheduler)),
            ("/bin/busybox", &["crond", "-f"], Some(Entry::Scheduler)),
            ("/bin/busybox", &["sh"], None),
            (
                "/usr/lib/systemd/systemd",
                &["x", "--user"],
                Some(Entry::Manager),
            ),
            ("/usr/bin/containerd", &["containerd"], Some(Entry::Runtime)),
            (
                "/usr/bin/python3.11",
                &["python3", "/usr/bin/supervisord", "-n"],
                Some(Entry::Manager),
            ),
            (
                "/usr/bin/python3.11",
                &["python3", "app.py", "supervisord"],
                None,
            ),
            (
                "/usr/bin/java",
                &["java", "-jar", "/home/ci/agent.jar", "-workDir", "/x"],
                Some(Entry::Runner),
            ),
            (
                "/usr/bin/java",
                &[
                    "java",
                    "-javaagent:/opt/agent.jar",
                    "-jar",
                    "/srv/app.jar",
                    "-url",
                    "x",
                ],
                None,
            ),
            (
                "/home/ci/actions-runner/bin/Runner.Listener",
                &["x"],
                Some(Entry::Runner),
            ),
            // Where anybody may write.
            ("/tmp/sshd", &["sshd"], None),
            ("/home/ci/sshd", &["sshd"], None),
            ("/var/www/html/sshd", &["sshd"], None),
            ("/usr/bin/api", &["/usr/sbin/sshd"], None),
        ] {
            assert_eq!(entry(exe, args), expected, "{exe} {args:?}");
        }
    }

    #[test]
    fn what_has_no_name_is_nobody() {
        let key = ProcessKey {
            tgid: 7,
            start_ticks: 7,
        };
        let mut deleted = exec("/usr/sbin/sshd", &["sshd"]);
        deleted.nlink = 0;
        assert_eq!(of(key, &deleted), None);
        let init = ProcessKey { tgid: 1, ..key };
        assert_eq!(of(init, &deleted), Some(Entry::Manager));
    }
}
