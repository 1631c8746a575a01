//! `tracer run` and `tracer record`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, OutputArgs, SensorArgs};
use crate::agent::{self, AgentOptions, Begun, RulesOptions, StateOptions, Summary, kubernetes};
use crate::config::{Config, Control, Flags};
use crate::sensor::machine::Sizes;
use crate::sensor::{Sensor, SensorOptions};
use crate::sink::Sink;

#[derive(Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    sensor: SensorArgs,
    /// Keep lineage for the next agent of this boot in this file; `none` keeps none [default:
    /// /run/tracer/state]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Socket by which `tracer tree` and `tracer servers` ask this agent
    /// [default: /run/tracer/control.sock, where it can be made]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct RecordArgs {
    /// The file to write
    file: PathBuf,
    /// Stop after this many seconds [default: at SIGINT or SIGTERM]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Configuration file [default: /etc/tracer/tracer.yaml, where there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    sensor: SensorArgs,
}

pub(super) fn run(args: RunArgs) -> Result<ExitCode, Failure> {
    let mut config = args.output.load(args.sensor)?;
    if let Some(state) = args.state {
        config.state_file = Some(state).filter(|state| state.as_os_str() != "none");
    }
    if let Some(path) = args.control {
        config.control = Control::at(path);
    }
    let sink = super::sink(&config)?;
    watch(options(config, None)?, Some(sink), None)
}

pub(super) fn record(args: RecordArgs) -> Result<ExitCode, Failure> {
    let file = Config::load(args.config.as_deref())?;
    let config = Config {
        // It is the running agent that is asked, if any.
        control: Control::off(),
        ..Config::merge(
            file,
            Flags {
                btf: args.sensor.btf,
                tier: args.sensor.tier,
                ..Flags::default()
            },
        )
    };
    let file = create(&args.file).map_err(|error| {
        Failure::usage(format!(
            "cannot create {}: {error}; give a file that does not exist yet, in a directory that \
             can be written to",
            args.file.display()
        ))
    })?;
    let limit = args.seconds.map(Duration::from_secs);
    let outcome = options(config, Some(file)).and_then(|options| watch(options, None, limit));
    if outcome.is_err() && std::fs::metadata(&args.file).is_ok_and(|file| file.len() == 0) {
        // The agent never came up. What was recorded before a later failure stays: it can be replayed.
        let _best_effort = std::fs::remove_file(&args.file);
    }
    outcome
}

fn create(path: &PathBuf) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn options(config: Config, record: Option<File>) -> Result<AgentOptions, Failure> {
    let hostname = rustix::system::uname();
    let hostname = hostname.nodename().to_string_lossy();
    let environment = |name: &str| std::env::var(name).ok();
    let (kubernetes, cluster) =
        kubernetes::settle(config.kubernetes.clone(), &hostname, environment)
            .map_err(Failure::usage)?;
    let sizes = Sizes::of_this_machine();
    Ok(AgentOptions {
        state: config.state_file.clone().map(|file| StateOptions {
            file,
            every: config.state_every,
            is_written: record.is_none(),
        }),
        directories: config.directories(),
        rules: RulesOptions {
            loaded: super::rules::chosen(&config.rules)?,
            config: config.rules,
        },
        at_once: config.at_once,
        exceptions: config.exceptions.inputs().map_err(Failure::usage)?,
        sensor: SensorOptions {
            btf: config.btf,
            tier: config.tier,
            life_ring_bytes: config.life_ring_bytes.unwrap_or(sizes.life_ring_bytes),
            file_ring_bytes: config.file_ring_bytes.unwrap_or(sizes.file_ring_bytes),
            quota_per_second: config.file_quota_per_second,
            any_writer: config.any_writer,
        },
        emit: config.emit,
        budget: config.budget,
        order_window: config.order_window,
        enrichment_wait: config.enrichment_wait,
        kubernetes,
        cluster,
        hash: config.hash,
        container_sockets: config.container_sockets,
        control: config.control,
        record,
    })
}

fn watch(
    options: AgentOptions,
    sink: Option<Sink>,
    limit: Option<Duration>,
) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::runtime(format!("cannot start the runtime: {error}")))?;
    let summary = runtime.block_on(async {
        let stop = stop(limit)
            .map_err(|error| Failure::runtime(format!("cannot handle signals: {error}")))?;
        agent::run(options, sink, announce, stop)
            .await
            .map_err(Failure::from)
    });
    // Nothing is waited for that may not answer.
    runtime.shutdown_background();
    say(&summary?);
    Ok(ExitCode::SUCCESS)
}

fn announce(sensor: &Sensor, begun: Begun) {
    let attached = sensor
        .reports()
        .iter()
        .filter(|report| report.failure.is_none())
        .count();
    for report in sensor.reports() {
        if let Some(failure) = &report.failure {
            eprintln!(
                "tracer: {} is not attached: {failure}; not seen: {}",
                report.probe.name, report.probe.lost
            );
        }
    }
    let Begun {
        processes,
        restored,
        blind,
    } = begun;
    let before = blind.map(|blind| {
        format!(
            ", {restored} of them known before, no agent ran for {:.3} s",
            blind.as_secs_f64()
        )
    });
    eprintln!(
        "tracer ready: {attached} of {} probes, tier {}, {processes} processes{}",
        sensor.reports().len(),
        sensor.tier().name(),
        before.unwrap_or_default(),
    );
}

fn say(summary: &Summary) {
    eprintln!("tracer: {summary}");
}

/// Done at the first SIGINT or SIGTERM, or after `limit`. The handlers are in place when this
/// returns, so that a signal during start-up is not lost.
fn stop(limit: Option<Duration>) -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        let limit = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = limit => {}
        }
    })
}
