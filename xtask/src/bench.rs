//! `cargo xtask bench`: what the agent costs, as ratios within one run.
//!
//! Each figure is taken in interleaved pairs, without and with the agent, so that a noisy machine
//! disturbs both sides alike; medians of the pairs' ratios are printed with their spread. Nothing
//! is asserted: absolute times differ from machine to machine.

use std::fs::{self, File};
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::children::{Child, Ended};
use crate::ebpf::{self, Profile};
use crate::host::{self, Privilege};

/// Measures the agent's cost on this machine.
///
/// Needs root. Prints, for fork+exec+exit, for an untagged open and close for reading, and for a
/// system call that nobody watches, the time with the agent as a ratio to the time without it; then
/// events, losses, memory and CPU time of the agent under a fork+exec loop on every core; then what 100,000
/// living processes take in the process store, how long questions about them take, how long it takes to index
/// this host's packages, and what rules cost in time and memory; `TRACER_SIGMAHQ` may name a directory of more rules.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Pairs of measurements without and with the agent.
    #[arg(long, default_value_t = 9)]
    pairs: usize,
    /// Seconds of the fork+exec loop on every core.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// How long the agent may take to load or to end.
const PATIENCE: Duration = Duration::from_secs(20);

struct Work {
    name: &'static str,
    times: u32,
    run: fn() -> Result<()>,
}

const WORK: &[Work] = &[
    Work {
        name: "fork+exec+exit",
        times: 400,
        run: execute,
    },
    Work {
        name: "open+close for reading",
        times: 100_000,
        run: open,
    },
    Work {
        name: "getppid",
        times: 400_000,
        run: call,
    },
];

/// `cargo xtask bench`.
#[expect(
    clippy::print_stdout,
    reason = "the figures are what this command is for"
)]
pub(crate) fn main(arguments: &Arguments) -> Result<ExitCode> {
    if !matches!(host::privilege(), Privilege::Root) {
        bail!("the agent needs root here; run this command as root");
    }
    let agent = ebpf::build(Profile::Release)?;
    println!(
        "| work | without | with | ratio, median (min to max of {} pairs) |",
        arguments.pairs
    );
    println!("| --- | --- | --- | --- |");
    for work in WORK {
        let mut pairs = Vec::new();
        for _ in 0..arguments.pairs {
            let without = time(work)?;
            let mut running = start(&agent)?;
            let with = time(work)?;
            stop(&mut running)?;
            pairs.push((without, with));
        }
        let mut ratios: Vec<f64> = pairs.iter().map(|(without, with)| with / without).collect();
        let mut without: Vec<f64> = pairs.iter().map(|pair| pair.0).collect();
        let mut with: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
        let (low, ratio, high) = spread(&mut ratios);
        println!(
            "| {} | {:.2} µs | {:.2} µs | {ratio:.3} ({low:.3} to {high:.3}) |",
            work.name,
            spread(&mut without).1,
            spread(&mut with).1,
        );
    }
    storm(&agent, Duration::from_secs(arguments.seconds))?;
    store()?;
    Ok(ExitCode::SUCCESS)
}

/// What 100,000 living processes take in the store, and how much slower it and the answers to questions are with
/// them; what the index of this host's packages takes; and what rules cost: the benchmarks among the agent's tests print it.
fn store() -> Result<()> {
    let mut command = host::cargo();
    command.args(["test", "--quiet", "--release", "--package", "tracer-user"]);
    command.args(["--test", "memory", "--test", "pipeline"]);
    command.args(["--", "bench_", "--ignored", "--nocapture"]);
    // One after the other: they count what is allocated.
    command.arg("--test-threads=1");
    let status = command.status().context("cannot run cargo")?;
    if status.success() {
        Ok(())
    } else {
        bail!("a benchmark among the tests failed: {status}")
    }
}

/// Microseconds that one repetition takes.
fn time(work: &Work) -> Result<f64> {
    let begin = Instant::now();
    for _ in 0..work.times {
        (work.run)()?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(work.times))
}

/// Smallest, median and largest.
fn spread(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (
        at(0),
        at(values.len() / 2),
        at(values.len().saturating_sub(1)),
    )
}

fn execute() -> Result<()> {
    let status = Command::new("/bin/true").stdin(Stdio::null()).status();
    if status.context("cannot run /bin/true")?.success() {
        Ok(())
    } else {
        bail!("true is false")
    }
}

fn open() -> Result<()> {
    black_box(File::open("/etc/hostname").context("cannot open /etc/hostname")?);
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of a work")]
fn call() -> Result<()> {
    black_box(std::os::unix::process::parent_id());
    Ok(())
}

fn start(agent: &Path) -> Result<Child> {
    let mut command = Command::new(agent);
    command.args([
        "run", "--format", "json", "--emit", "alerts", "--state", "none",
    ]);
    let mut child = Child::quiet(command, "tracer")?;
    match child.wait_for(PATIENCE, |line| line.starts_with("tracer ready"))? {
        Ok(()) => Ok(child),
        Err(ended) => bail!("the agent did not become ready: {ended}"),
    }
}

/// Ends the agent and gives its summary line.
fn stop(agent: &mut Child) -> Result<String> {
    let mut summary = String::new();
    match agent.stop(PATIENCE, |line| summary = line.to_owned())? {
        Ended::Exited(Some(0)) => Ok(summary),
        ended @ (Ended::Exited(_) | Ended::TimedOut) => {
            bail!("the agent did not end well: {ended}")
        }
    }
}

/// A fork+exec loop on every core.
#[expect(
    clippy::print_stdout,
    reason = "the figures are what this command is for"
)]
fn storm(agent: &Path, duration: Duration) -> Result<()> {
    let cores = thread::available_parallelism()
        .context("cannot count cores")?
        .get();
    let mut running = start(agent)?;
    let before = cpu_ticks(running.pid())?;
    let begin = Instant::now();
    let loops: Vec<_> = (0..cores)
        .map(|_| {
            thread::spawn(move || {
                let mut lives = 0u64;
                while begin.elapsed() < duration {
                    execute()?;
                    lives += 1;
                }
                anyhow::Ok(lives)
            })
        })
        .collect();
    let mut lives = 0;
    for each in loops {
        lives += each
            .join()
            .map_err(|_| anyhow::anyhow!("a loop panicked"))??;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let ticks = cpu_ticks(running.pid())? - before;
    let memory = status(running.pid(), "VmHWM:")?;
    let summary = stop(&mut running)?;
    println!(
        "\nfork+exec loop on {cores} cores for {seconds:.1} s: {lives} processes; the agent used \
         {:.1} µs of CPU for each, {memory} kB of memory at most; {summary}",
        // USER_HZ is 100: a tick is 10,000 µs.
        f64::from(ticks) * 10_000.0 / f64::from(u32::try_from(lives.max(1))?),
    );
    Ok(())
}

/// User and system time of a process, ticks of 10 ms: fields 14 and 15 of proc_pid_stat(5).
fn cpu_ticks(pid: u32) -> Result<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the agent is gone")?;
    let after_name = stat
        .rsplit_once(')')
        .context("a stat line without a name")?
        .1;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut next = || -> Result<u32> { Ok(fields.next().context("a short stat line")?.parse()?) };
    Ok(next()? + next()?)
}

/// A number of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the agent is gone")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .context("no such line")?;
    Ok(line
        .split_ascii_whitespace()
        .next()
        .context("no number")?
        .parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_its_spread() {
        assert_eq!(spread(&mut [3.0, 1.0, 2.0]), (1.0, 2.0, 3.0));
    }

    #[test]
    fn figures_of_this_process_can_be_read() {
        let pid = std::process::id();
        assert!(cpu_ticks(pid).is_ok());
        assert!(status(pid, "VmHWM:").unwrap() > 0);
    }
}
