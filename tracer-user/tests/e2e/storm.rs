//! A storm of processes below a server: the agent's memory keeps to its budget, and what comes after the storm is
//! told with its whole lineage.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::Agent;
use crate::alert::{CODE_WRITE, text};
use crate::host::{self, Outcome, Skip, TempDir};
use crate::hostile::count;

/// What the agent is given.
const BUDGET: u64 = 64 << 20;

/// Children that only fork, and live through all of it.
const LIVING: u32 = 8000;

/// Programs that end at once, one after the other. Each has 6,000 bytes of arguments of its own, so that together
/// they are more than the half of the budget that is for processes.
const CHURN: u32 = 8000;

/// What the living take of the host, bytes, with much to spare.
const HOST_BYTES: u64 = 3 << 30;

/// How long the storm may make no progress.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server. Everything waits at FIFOs, so that nobody is there who sleeps.
const CODE: &str = "i=0
while [ $i -lt $LIVING ]; do (read x < \"$1/gate\") & i=$((i + 1)); done
long=$(printf %6000s x)
i=0
while [ $i -lt $CHURN ]; do
    /bin/true \"$i$long\"
    i=$((i + 1))
    case $i in *00) echo $i > \"$1/progress\" ;; esac
done
read x < \"$1/attack\"
(: > \"$1/www/attack.php\")
wait
";

/// A server with its children. They end with it: nobody is left to init.
struct Storm {
    server: Child,
    folder: PathBuf,
}

impl Storm {
    /// Opens a FIFO for who waits at it; they find its end.
    fn open(&self, name: &str) {
        let fifo = self.folder.join(name);
        drop(OpenOptions::new().read(true).write(true).open(fifo));
    }

    /// What it has done of the churn.
    fn progress(&self) -> u32 {
        let said = fs::read_to_string(self.folder.join("progress"));
        said.ok()
            .and_then(|said| said.trim().parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        let begin = Instant::now();
        while matches!(self.server.try_wait(), Ok(None)) {
            if begin.elapsed() > PATIENCE {
                self.server.kill().ok();
            }
            // Who came to a FIFO since then waits there.
            self.open("attack");
            self.open("gate");
            sleep(Duration::from_millis(20));
        }
    }
}

/// A number of `/proc/PID/status` or `/proc/meminfo`, which are in kB, as bytes.
fn bytes(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).expect("the agent runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    let kilobytes: u64 = number.and_then(|number| number.parse().ok()).expect(name);
    kilobytes * 1024
}

/// What the agent takes when idle is its own: code, rings, tables of the host. All that grows with what happens is
/// the budget's, so the most that it ever takes is less than both together.
pub(crate) fn memory_is_bounded() -> Outcome {
    if bytes("/proc/meminfo", "MemAvailable:") < HOST_BYTES {
        return Err(Skip(format!(
            "{LIVING} processes take more memory than there is"
        )));
    }
    let folder = TempDir::new("storm");
    let nginx = folder.join("nginx");
    fs::copy(host::real(host::program("dash")?), &nginx).expect("copy of dash");
    let code = folder.file("code.sh", CODE);
    for fifo in ["gate", "attack"] {
        let made = Command::new(host::program("mkfifo")?)
            .arg(folder.join(fifo))
            .status();
        assert!(made.expect("mkfifo").success());
    }
    let served = folder.dir("www", None);
    let config = folder.file(
        "tracer.yaml",
        &format!("memory:\n  budget_bytes: {BUDGET}\n"),
    );
    let config = config.to_string_lossy();
    let agent = Agent::start(&["--config", &config, "--emit", "alerts", "--format", "json"])?;
    let status = format!("/proc/{}/status", agent.pid());
    let idle = bytes(&status, "VmRSS:");
    let server = Command::new(&nginx)
        .arg(&code)
        .arg(folder.path())
        .env("DOCUMENT_ROOT", &served)
        .env("LIVING", LIVING.to_string())
        .env("CHURN", CHURN.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("a copy of dash");
    let mut storm = Storm {
        server,
        folder: folder.path().to_owned(),
    };
    let (mut done, mut since) = (0, Instant::now());
    while done < CHURN {
        assert!(
            since.elapsed() < PATIENCE,
            "{done} of {CHURN}: {}",
            agent.stderr()
        );
        let ended = storm.server.try_wait().expect("wait");
        assert!(ended.is_none(), "the storm ended after {done}: {ended:?}");
        let now = storm.progress();
        if now != done {
            (done, since) = (now, Instant::now());
        }
        sleep(Duration::from_millis(20));
    }
    let living = host::children(storm.server.id()).len();
    assert!(living >= LIVING as usize, "{living} live");

    let mark = agent.mark();
    let attacked = served.join("attack.php");
    let begin = Instant::now();
    while !attacked.exists() {
        assert!(begin.elapsed() < PATIENCE, "no attack");
        storm.open("attack");
        sleep(Duration::from_millis(20));
    }
    let is_attack = |document: &Value| {
        text(document, "/rule/id") == CODE_WRITE.0
            && text(document, "/file/path") == attacked.to_string_lossy()
    };
    let alert = agent.wait_for(mark, host::DEADLINE, is_attack);
    let alert = alert
        .unwrap_or_else(|| panic!("{}", agent.stderr()))
        .document;
    // By the numbers of who made it: the server, this test, and so on.
    let chain = alert.pointer("/tracer/lineage").and_then(Value::as_array);
    let chain = chain.into_iter().flatten();
    let told: Vec<_> = chain
        .map(|above| above.pointer("/pid").and_then(Value::as_u64))
        .collect();
    let own = host::own_lineage().into_iter().map(|process| process.pid);
    let made = [storm.server.id()].into_iter().chain(own);
    let made: Vec<_> = made.map(|pid| Some(u64::from(pid))).collect();
    assert_eq!(told, made, "{alert:#}");
    assert!(alert.pointer("/tracer/integrity/lineage_broken").is_none());
    assert_eq!(
        text(&alert, "/process/parent/executable"),
        nginx.to_string_lossy()
    );

    drop(storm);
    let most = bytes(&status, "VmHWM:");
    let ended = agent.stop();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.stderr);
    // Beside what the tables take: what the allocator keeps between their pieces, and a batch of records on its way.
    assert!(
        most < idle + BUDGET + BUDGET / 4,
        "{most} bytes at most, {idle} when idle: {}",
        ended.stderr
    );
    // It was more than there was room for, and that is said.
    let evicted = count(&ended.stderr, "processes_evicted");
    assert!(evicted > 0, "{}", ended.stderr);
    host::say(&format!(
        "storm: {LIVING} living, {CHURN} short processes; {} MiB when idle, {} MiB at most, {evicted} evicted",
        idle >> 20,
        most >> 20
    ));
    Ok(())
}
