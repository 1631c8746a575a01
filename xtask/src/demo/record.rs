//! `cargo xtask demo --record FILE`: the scene in a virtual machine, for the recording that ships.
//!
//! A recording begins with every process of the machine it was made on, command lines included, so
//! it is made on one that has nothing to hide: a guest with this host's nginx, php-fpm, shell and
//! `id`, the demonstration's site, the agent, and nothing else. A recording that does not replay to
//! exactly the two alerts is refused, and FILE left as it was.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::servers::find;
use super::site::{ATTACKS, Site, USER};
use crate::host;
use crate::vm::kernels::{DEFAULT, Kernel};
use crate::vm::{self, File, Lab, Order};

/// The kernel that plays along.
const KERNEL: &Kernel = DEFAULT;

/// How long the guest may take: emulated, it needs half a minute.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// Where the guest has the site: no folder that the agent takes for served without being told.
const FOLDER: &str = "/opt/demo";
const PORT: u16 = 8080;

/// Where the guest has the recording.
const RECORDING: &str = "/out/demo.tracer";

/// The largest recording that is fit for a repository.
const BYTES: usize = 200 * 1024;

/// Records the scene into `file`.
pub(super) fn main(file: &Path) -> Result<()> {
    let lab = Lab::open(TIME_LIMIT, false)?;
    let agent = lab.agent()?;
    let scene = Scene::new(&find("nginx")?, &find("php-fpm*")?)?;
    let mut files = scene.files()?;
    files.push(vm::agent_file(&agent)?);
    let orders = [Order::run("/bin/sh /root/scene"), Order::Fetch(RECORDING)];
    let boot = lab.boot(KERNEL, &files, &orders)?;
    eprintln!("vm: {boot}");
    let [played, fetched] = boot.outcomes() else {
        bail!("the guest did something else than it was told");
    };
    if played.status != 0 {
        bail!("the scene ended with status {}", played.status);
    }
    let recording = fetched.file()?;
    let draft = lab.path("demo.tracer");
    fs::write(&draft, &recording).with_context(|| format!("writing {}", draft.display()))?;
    check(&agent, &draft, recording.len())
        .with_context(|| format!("the recording is refused; it is in {}", draft.display()))?;
    fs::write(file, &recording).with_context(|| format!("writing {}", file.display()))?;
    super::say(&format!(
        "{}: {} bytes, and exactly the two alerts",
        file.display(),
        recording.len()
    ));
    Ok(())
}

/// What is played in the guest.
struct Scene {
    site: Site,
    nginx: PathBuf,
    php: PathBuf,
    shell: PathBuf,
    id: PathBuf,
}

impl Scene {
    fn new(nginx: &Path, php: &Path) -> Result<Self> {
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

    /// Everything but the agent.
    fn files(&self) -> Result<Vec<File>> {
        let programs = [&self.nginx, &self.php, &self.shell, &self.id].map(PathBuf::clone);
        let mut files = File::with_libraries(&programs)?;
        for (path, text) in self.site.files() {
            files.push(File::text(text_of(&path)?, text));
        }
        files.push(File::link("/bin/sh", text_of(&self.shell)?));
        // The recording names the distribution that the servers are from.
        let release = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
        files.push(File::text("/etc/os-release", release));
        files.push(File::text("/root/scene", self.script()));
        Ok(files)
    }

    /// The scene, as `demo` plays it on this host.
    fn script(&self) -> String {
        let words = |program: &Path, arguments: Vec<OsString>| {
            let mut words = vec![program.into()];
            words.extend(arguments);
            vm::quoted(&words)
        };
        let url = |page: &str| format!("http://127.0.0.1:{PORT}{page}");
        let mut requests = String::new();
        for (page, attack) in ATTACKS {
            requests.push_str(&format!(
                "echo 'GET {page}: {}'\nwget -q -O - {}\necho\n",
                attack.replace('\'', ""),
                url(page)
            ));
        }
        format!(
            r#"set -e
mkdir /out
chown {USER}:{USER} {root}
# Nothing here waits by starting processes: they would fill the recording. What never comes true
# is ended by the machine's time limit.
mkfifo /tmp/agent
tracer record {RECORDING} 2>/tmp/agent &
agent=$!
exec 3</tmp/agent
ready=no
while [ $ready = no ] && read -r line <&3; do
    echo "$line"
    case $line in 'tracer ready'*) ready=yes ;; esac
done
[ $ready = yes ]
{php} &
until [ -S {socket} ]; do :; done
{nginx} &
until [ -s {nginx_pid} ]; do :; done
{requests}kill -TERM $agent
cat <&3
wait $agent
"#,
            root = self.site.root().display(),
            socket = self.site.socket().display(),
            php = words(&self.php, self.site.php_arguments()),
            nginx = words(&self.nginx, self.site.nginx_arguments()),
            nginx_pid = self.site.nginx_pid().display(),
        )
    }
}

fn text_of(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is no text", path.display()))
}

/// Whether a recording tells what it has to, and is fit to ship.
fn check(agent: &Path, recording: &Path, bytes: usize) -> Result<()> {
    let mut replay = Command::new(agent);
    replay
        .arg("replay")
        .arg(recording)
        .args(["--format", "json"]);
    let alerts =
        host::output(&mut replay).with_context(|| format!("`{}` failed", host::shown(&replay)))?;
    judge(&alerts)?;
    if bytes > BYTES {
        bail!("it has {bytes} bytes, more than {BYTES}: what does it hold?");
    }
    Ok(())
}

/// Whether these are the two alerts of the scene, each with what makes it one.
fn judge(alerts: &str) -> Result<()> {
    let alerts = alerts
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<Value>, _>>()
        .context("an alert is no JSON")?;
    let mut told: Vec<_> = alerts
        .iter()
        .map(|alert| {
            let fact = |pointer| alert.pointer(pointer).unwrap_or(&Value::Null);
            let rule = fact("/rule/id").as_str().unwrap_or_default();
            let what = match rule {
                "server-shell" => fact("/process/args").to_string(),
                _ => fact("/file/path").as_str().unwrap_or_default().to_owned(),
            };
            let integrity = fact("/tracer/integrity/state").as_str().unwrap_or_default();
            format!("{rule}: {what}, {integrity}")
        })
        .collect();
    told.sort();
    let expected = [
        format!("server-code-write: {FOLDER}/www/shell.php, complete"),
        r#"server-shell: ["sh","-c","id"], complete"#.to_owned(),
    ];
    if told != expected {
        bail!("it tells {told:#?} instead of {expected:#?}");
    }
    Ok(())
}
