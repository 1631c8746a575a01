//! `cargo xtask demo --record FILE`: the scene in a virtual machine, for the recording that ships.
//!
//! A recording begins with every process of the machine it was made on, command lines included, so
//! it is made on one that has nothing to hide: a guest with this host's nginx, php-fpm, shell and
//! `id`, the demonstration's site, the agent, and nothing else. A recording that does not replay to
//! exactly the two alerts is refused, and FILE left as it was.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::host;
use crate::site::guest::{FOLDER, GuestSite};
use crate::vm::kernels::{DEFAULT, Kernel};
use crate::vm::{self, File, Lab, Order};

/// The kernel that plays along.
const KERNEL: &Kernel = DEFAULT;

/// How long the guest may take: emulated, it needs half a minute.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// Where the guest has the recording.
const RECORDING: &str = "/out/demo.tracer";

/// The largest recording that is fit for a repository.
const BYTES: usize = 200 * 1024;

/// Records the scene into `file`.
pub(super) fn main(file: &Path) -> Result<()> {
    let lab = Lab::open(TIME_LIMIT, false)?;
    let agent = lab.agent()?;
    let site = GuestSite::find()?;
    let mut files = site.files()?;
    files.push(File::text("/root/scene", script(&site)));
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

/// The scene, as `demo` plays it on this host.
fn script(site: &GuestSite) -> String {
    [
        "set -e\nmkdir /out\n",
        &GuestSite::start_agent(&format!("tracer record {RECORDING}")),
        &site.start_servers(),
        &GuestSite::attack(),
        GuestSite::stop_agent(),
    ]
    .concat()
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
