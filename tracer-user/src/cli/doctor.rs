//! `tracer doctor`: what this host allows, what is lost where it does not, how to get it.
//!
//! Decides by trying: the probes are loaded and attached for a moment, as `run` does it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use tracer_common::probe::Tier;

use super::{Failure, SensorArgs};
use crate::agent::containers::{self, SOCKETS};
use crate::agent::kubernetes;
use crate::config::{Config, Flags};
use crate::encode::report::{Check, ProbeFacts, State, json};
use crate::sensor::account::Occupancy;
use crate::sensor::machine::Sizes;
use crate::sensor::{self, Cost, ProbeReport, Sensor, SensorError, SensorOptions};

#[derive(Args)]
pub(super) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Configuration file [default: /etc/tracer/tracer.yaml, where there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    sensor: SensorArgs,
}

pub(super) fn doctor(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let config = Config::merge(Config::load(args.config.as_deref())?, Flags::default());
    let mut checks = vec![
        kernel(),
        btf(args),
        lockdown(),
        capabilities(),
        pid_namespace(),
        cgroup(),
        pods(config),
    ];
    checks.extend(runtimes());
    let code = probes(args, &mut checks);
    let mut out = Vec::new();
    if args.json {
        json(&checks, &mut out);
    } else {
        table(&checks, &mut out);
    }
    std::io::stdout()
        .write_all(&out)
        .map_err(|error| Failure::runtime(format!("cannot write to standard output: {error}")))?;
    let found = checks.iter().any(|check| check.state == State::Bad);
    Ok(ExitCode::from(if code == 0 {
        u8::from(found)
    } else {
        code
    }))
}

fn check(name: impl Into<String>, state: State, found: impl Into<String>) -> Check {
    Check {
        name: name.into(),
        state,
        found: found.into(),
        ..Check::default()
    }
}

/// Container runtimes at the usual places.
fn runtimes() -> Vec<Check> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return Vec::new();
    };
    let name = |socket: &str| format!("container runtime {socket}");
    let found = SOCKETS.iter().filter_map(|socket| {
        let found = runtime.block_on(containers::probe(Path::new(socket)))?;
        Some(match found {
            Ok(about) => check(name(socket), State::Good, about),
            Err(why) => Check {
                effect: "names, images and labels of its containers are unknown; their ids are not"
                    .into(),
                remedy: "start the runtime, or name its socket in enrichment.container_sockets"
                    .into(),
                ..check(name(socket), State::Note, why)
            },
        })
    });
    let mut checks: Vec<Check> = found.collect();
    if checks.is_empty() {
        checks.push(check(
            "container runtimes",
            State::Good,
            "none at the usual places",
        ));
    }
    checks
}

fn kernel() -> Check {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut parts = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let found = format!("{release} {}", uname.machine().to_string_lossy());
    if version >= (5, 10) {
        return check("kernel", State::Good, found);
    }
    Check {
        effect: "no ring buffer or boot clock for eBPF programs: tracer cannot run".into(),
        remedy: "Linux 5.10 or later".into(),
        ..check("kernel", State::Bad, found)
    }
}

fn btf(args: &DoctorArgs) -> Check {
    let path = args.sensor.btf.as_deref();
    match sensor::read_btf(path) {
        Ok(_) => {
            let from = path.map_or_else(
                || sensor::KERNEL_BTF.to_owned(),
                |path| path.display().to_string(),
            );
            check("kernel types (BTF)", State::Good, from)
        }
        Err(error) => Check {
            effect: "offsets of kernel structures are unknown: tracer cannot run".into(),
            remedy: "a kernel with CONFIG_DEBUG_INFO_BTF=y, or --btf FILE".into(),
            ..check("kernel types (BTF)", State::Bad, error.to_string())
        },
    }
}

fn lockdown() -> Check {
    let name = "lockdown";
    match sensor::lockdown_mode() {
        Some(mode) if mode == sensor::CONFIDENTIALITY => Check {
            effect: "the kernel does not let eBPF programs read its memory: tracer cannot run"
                .into(),
            remedy: "boot with lockdown=integrity".into(),
            ..check(name, State::Bad, mode)
        },
        Some(mode) => check(name, State::Good, mode),
        None => check(name, State::Good, "not told (securityfs is not mounted)"),
    }
}

/// The capabilities that are used, with their bit (include/uapi/linux/capability.h) and use.
const CAPABILITIES: &[(u32, &str, &str)] = &[
    (39, "CAP_BPF", "load eBPF programs"),
    (
        38,
        "CAP_PERFMON",
        "attach to tracepoints, read kernel memory",
    ),
    (
        19,
        "CAP_SYS_PTRACE",
        "read other users' processes at start-up",
    ),
    (2, "CAP_DAC_READ_SEARCH", "read servers' configuration"),
];

/// `CAP_SYS_ADMIN` stands for CAP_BPF and CAP_PERFMON.
const SYS_ADMIN: u32 = 21;

fn capabilities() -> Check {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective & (1 << bit) != 0;
    let missing: Vec<(&str, &str)> = CAPABILITIES
        .iter()
        .filter(|(bit, ..)| !(has(*bit) || matches!(bit, 38 | 39) && has(SYS_ADMIN)))
        .map(|(_, name, purpose)| (*name, *purpose))
        .collect();
    if missing.is_empty() {
        return check("capabilities", State::Good, "all that are needed");
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    let purposes: Vec<&str> = missing.iter().map(|(_, purpose)| *purpose).collect();
    Check {
        effect: format!("cannot: {}", purposes.join("; ")),
        remedy: "run as root (sudo tracer ...), or give the capabilities".into(),
        ..check(
            "capabilities",
            State::Bad,
            format!("missing {}", names.join(", ")),
        )
    }
}

/// Inode number of the initial pid namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INIT_PID_NS: &str = "pid:[4026531836]";

fn pid_namespace() -> Check {
    let name = "pid namespace";
    match fs::read_link("/proc/self/ns/pid") {
        Ok(link) if link.as_os_str() == INIT_PID_NS => check(name, State::Good, "the host's"),
        Ok(_) => Check {
            effect: "processes that ran before the agent are not known by the numbers that the \
                kernel tells; their lineage is broken"
                .into(),
            remedy: "run in the host's pid namespace (hostPID: true, --pid=host)".into(),
            ..check(name, State::Bad, "a container's")
        },
        Err(error) => check(name, State::Bad, error.to_string()),
    }
}

fn cgroup() -> Check {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let kinds: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().nth(2))
        .collect();
    let found = match (kinds.contains(&"cgroup"), kinds.contains(&"cgroup2")) {
        (true, true) => "v1 and v2 (hybrid)",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "not mounted here",
    };
    check("cgroups", State::Good, found)
}

/// Asks the API server once, as `run` would.
fn pods(config: Config) -> Check {
    let name = "kubernetes";
    let hostname = rustix::system::uname();
    let hostname = hostname.nodename().to_string_lossy();
    let environment = |name: &str| std::env::var(name).ok();
    let bad = |why: String, remedy: &str| Check {
        effect:
            "pods are known as the container runtime tells them: no owner but a Deployment, no \
            account, no annotations"
                .into(),
        remedy: remedy.into(),
        ..check(name, State::Bad, why)
    };
    match kubernetes::settle(config.kubernetes, &hostname, environment) {
        Err(why) => bad(why, "kubernetes.enabled: auto, or kubernetes.kubeconfig"),
        Ok((None, _)) => check(name, State::Good, "not asked: no pod, and no kubeconfig"),
        Ok((Some(access), _)) => match kubernetes::probe(&access) {
            Ok(seen) if seen.pods > 0 => {
                let found = format!("{} has {} pods of {}", seen.server, seen.pods, access.node);
                check(name, State::Good, found)
            }
            // Any node has pods: the agent itself is one.
            Ok(seen) => bad(
                format!("{} has no pods of a node {}", seen.server, access.node),
                "name the node: kubernetes.node_name, or NODE_NAME in the environment",
            ),
            Err(why) => bad(why, "see the reason, and docs/kubernetes.md"),
        },
    }
}

/// Loads and attaches; what `run` would end with where that fails.
fn probes(args: &DoctorArgs, checks: &mut Vec<Check>) -> u8 {
    let sizes = Sizes::of_this_machine();
    let options = SensorOptions {
        btf: args.sensor.btf.clone(),
        tier: args.sensor.tier.unwrap_or_default(),
        life_ring_bytes: sizes.life_ring_bytes,
        file_ring_bytes: sizes.file_ring_bytes,
        quota_per_second: tracer_common::limits::QUOTA_PER_SECOND,
        any_writer: false,
    };
    match Sensor::load(&options) {
        Ok(sensor) => {
            checks.push(tier(&sensor));
            let costs = sensor.costs();
            for report in sensor.reports() {
                let cost = costs
                    .iter()
                    .find(|(probe, _)| probe.name == report.probe.name)
                    .map(|(_, cost)| *cost);
                checks.push(probe(report, cost));
            }
            checks.push(rings(&options));
            checks.extend(sensor.occupancy().into_iter().map(map));
            let missing = sensor.missing_members();
            checks.push(if missing.is_empty() {
                check("kernel members", State::Good, "all known")
            } else {
                Check {
                    effect: "the facts read from them are absent from events".into(),
                    remedy: "none needed".into(),
                    ..check(
                        "kernel members",
                        State::Note,
                        format!("missing {}", missing.join(", ")),
                    )
                }
            });
            0
        }
        Err(error) => {
            let (code, remedy) = match &error {
                SensorError::NoBtf { .. } | SensorError::Unsupported(_) => {
                    (3, "Linux 5.10 or later with BTF")
                }
                SensorError::Tier { .. } => (3, "--tier auto"),
                SensorError::Lockdown => (3, "boot with lockdown=integrity"),
                SensorError::Refused(_) => (
                    4,
                    "run as root on the host; in a container, privileged and with a seccomp \
                         profile that allows bpf(2)",
                ),
                SensorError::Object(_) => (5, "build again: cargo xtask build"),
            };
            checks.push(Check {
                effect: "tracer cannot run".into(),
                remedy: remedy.into(),
                ..check("eBPF programs", State::Bad, error.to_string())
            });
            code
        }
    }
}

fn tier(sensor: &Sensor) -> Check {
    let (name, tier) = ("tier", sensor.tier().name());
    match (sensor.tier(), sensor.refusal()) {
        (Tier::Lsm | Tier::Snapshot, _) => check(name, State::Good, tier),
        (Tier::Tracepoint, why) => Check {
            effect: "names of renamed, linked and removed files are the caller's strings, read \
                before and after the call; every system call of the host runs a first test"
                .into(),
            remedy: if why.is_some() {
                "a kernel that lets BPF programs attach to its functions (CONFIG_BPF_JIT, \
                 CONFIG_FUNCTION_TRACER, CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS); else none"
            } else {
                "--tier auto"
            }
            .into(),
            ..check(
                name,
                State::Note,
                match why {
                    Some(why) => format!("{tier}, as lsm does not load: {why}"),
                    None => format!("{tier}, as asked for"),
                },
            )
        },
    }
}

fn probe(report: &ProbeReport, cost: Option<Cost>) -> Check {
    let name = format!("probe {}", report.probe.name);
    let facts = ProbeFacts {
        tier: report.probe.tier_name(),
        hook: report.hook,
        verified_insns: report.verified_insns,
        cost: cost.map(|cost| (cost.runs, cost.nanoseconds)),
    };
    let found = match (&report.failure, report.hook) {
        (Some(failure), _) => {
            return Check {
                effect: format!("not seen: {}", report.probe.lost),
                remedy: "see the reason; the rest works without it".into(),
                probe: Some(facts),
                ..check(name, State::Bad, failure.clone())
            };
        }
        (None, hook) => {
            let mut found = format!("{}: {}", facts.tier, hook.unwrap_or_default());
            if let Some(insns) = facts.verified_insns {
                found.push_str(&format!(", {insns} instructions verified"));
            }
            if let Some(Cost { runs, nanoseconds }) = cost {
                let mean = nanoseconds.checked_div(runs).unwrap_or(0);
                found.push_str(&format!(", {runs} runs of {mean} ns"));
            }
            found
        }
    };
    Check {
        probe: Some(facts),
        ..check(name, State::Good, found)
    }
}

/// Sizes of the rings, by default.
fn rings(options: &SensorOptions) -> Check {
    let mib = |bytes: u32| bytes / (1024 * 1024);
    let found = format!(
        "process life {} MiB, files {} MiB",
        mib(options.life_ring_bytes),
        mib(options.file_ring_bytes)
    );
    check("rings", State::Good, found)
}

fn map(map: Occupancy) -> Check {
    let name = format!("map {}", map.name);
    let found = format!("{} of {} in use", map.used, map.size);
    if map.is_nearly_full() {
        return Check {
            effect: "what does not fit is counted and told as a loss".into(),
            remedy: "fewer servers on this host".into(),
            ..check(name, State::Note, found)
        };
    }
    check(name, State::Good, found)
}

fn table(checks: &[Check], out: &mut Vec<u8>) {
    let width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    for check in checks {
        let _infallible = writeln!(
            out,
            "{:5} {:width$}  {}",
            check.state.name(),
            check.name,
            check.found
        );
        for (label, text) in [("lost", &check.effect), ("fix", &check.remedy)] {
            if !text.is_empty() {
                let _infallible = writeln!(out, "      {:width$}  {label}: {text}", "");
            }
        }
    }
}
