//! The site in a guest: which files of this host it takes, and the parts of the script that plays it
//! there.
//!
//! Nothing in the script waits by starting processes: a recording would be full of them, and an
//! emulated processor has better things to do. What never comes true is ended by the guest's time
//! limit.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{ATTACKS, Site, USER, find};
use crate::vm::{self, File};

/// Where the guest has the site: no folder that the agent takes for served without being told.
pub(crate) const FOLDER: &str = "/opt/demo";
const PORT: u16 = 8080;

/// The site with this host's nginx, php-fpm, shell and `id`.
pub(crate) struct GuestSite {
    site: Site,
    nginx: PathBuf,
    php: PathBuf,
    shell: PathBuf,
    id: PathBuf,
}

impl GuestSite {
    /// Finds the programs on this host.
    pub(crate) fn find() -> Result<Self> {
        Self::of(&find("nginx")?, &find("php-fpm*")?)
    }

    fn of(nginx: &Path, php: &Path) -> Result<Self> {
        // Programs are put where they really are: the guest has no link of folders such as
        // /bin -> /usr/bin.
        let real = |path: &Path| {
            fs::canonicalize(path).with_context(|| format!("looking for {}", path.display()))
        };
        Ok(Self {
            site: Site::new(Path::new(FOLDER), PORT),
            nginx: real(nginx)?,
            php: real(php)?,
            shell: real(Path::new("/bin/sh"))?,
            id: real(Path::new("/usr/bin/id"))?,
        })
    }

    /// Everything that the guest needs to play the site.
    pub(crate) fn files(&self) -> Result<Vec<File>> {
        let programs = [&self.nginx, &self.php, &self.shell, &self.id].map(PathBuf::clone);
        let mut files = File::with_libraries(&programs)?;
        for (path, text) in self.site.files() {
            files.push(File::text(text_of(&path)?, text));
        }
        files.push(File::link("/bin/sh", text_of(&self.shell)?));
        // Alerts name the distribution that the servers are from.
        let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
        files.push(File::text("/etc/os-release", release));
        Ok(files)
    }

    /// Starts the agent, which `$agent` names from then on, and goes on when it says that it is
    /// ready. What it says on standard error is read from descriptor 3; where it ends instead, the
    /// script ends with its status.
    pub(crate) fn start_agent(command: &str) -> String {
        format!(
            r#"rm -f /tmp/agent
mkfifo /tmp/agent
{command} 2>/tmp/agent &
agent=$!
exec 3</tmp/agent
ready=no
while [ $ready = no ] && read -r line <&3; do
    echo "$line"
    case $line in 'tracer ready'*) ready=yes ;; esac
done
[ $ready = yes ] || {{ wait $agent; exit 1; }}
"#
        )
    }

    /// Starts the servers, which `$php` and `$nginx` name from then on, and goes on when both
    /// listen.
    pub(crate) fn start_servers(&self) -> String {
        let words = |program: &Path, arguments: Vec<OsString>| {
            let mut words = vec![program.into()];
            words.extend(arguments);
            vm::quoted(&words)
        };
        format!(
            r#"chown {USER}:{USER} {root}
{php} &
php=$!
until [ -S {socket} ]; do :; done
{nginx} &
nginx=$!
until [ -s {nginx_pid} ]; do :; done
"#,
            root = self.site.root().display(),
            php = words(&self.php, self.site.php_arguments()),
            socket = self.site.socket().display(),
            nginx = words(&self.nginx, self.site.nginx_arguments()),
            nginx_pid = self.site.nginx_pid().display(),
        )
    }

    /// Makes the requests of the attacks, one after the other.
    pub(crate) fn attack() -> String {
        let mut requests = String::new();
        for (page, attack) in ATTACKS {
            requests.push_str(&format!(
                "echo 'GET {page}: {}'\nwget -q -O - http://127.0.0.1:{PORT}{page}\necho\n",
                attack.replace('\'', ""),
            ));
        }
        requests
    }

    /// Ends the agent, shows its last words, and ends the script where it did not end well.
    pub(crate) fn stop_agent() -> &'static str {
        "kill -TERM $agent\ncat <&3\nwait $agent\n"
    }
}

fn text_of(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is no text", path.display()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What a shell makes of a script whose agent is this command.
    fn played(agent: &str) -> (Option<i32>, String) {
        let folder = std::env::temp_dir().join(format!(
            "xtask-guest-{}-{}",
            std::process::id(),
            agent.len()
        ));
        fs::create_dir_all(&folder).unwrap();
        let script = format!(
            "set -e\n{}echo go on\n{}",
            GuestSite::start_agent(agent),
            GuestSite::stop_agent()
        );
        let script = script.replace("/tmp/agent", folder.join("agent").to_str().unwrap());
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    }

    #[test]
    fn the_script_goes_on_when_the_agent_is_ready() {
        let agent = "sh -c 'trap \"echo bye >&2; exit 0\" TERM; echo hello >&2; \
                     echo tracer ready: >&2; while :; do sleep 0.05; done'";
        let (code, said) = played(agent);
        assert_eq!(said, "hello\ntracer ready:\ngo on\nbye\n");
        assert_eq!(code, Some(0));
    }

    #[test]
    fn an_agent_that_refuses_ends_the_script_with_its_status() {
        let (code, said) = played("sh -c 'echo tracer: no BTF >&2; exit 3'");
        assert_eq!(said, "tracer: no BTF\n");
        assert_eq!(code, Some(3));
    }
}
