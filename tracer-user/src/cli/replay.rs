//! `tracer replay`

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::{Failure, OutputArgs, SensorArgs};
use crate::config;
use crate::detect::sigma::RuleSet;
use crate::pipeline::Pipeline;
use crate::sink::Sink;
use crate::source::Input;
use crate::source::capture::{CaptureError, Reader};

#[derive(Args)]
pub(super) struct ReplayArgs {
    /// The recording
    file: PathBuf,
    /// Take the rules of this directory, beside those that ship, instead of the recording's
    #[arg(long, value_name = "DIR")]
    rules: Vec<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn replay(args: ReplayArgs) -> Result<ExitCode, Failure> {
    let ReplayArgs {
        file: path,
        rules,
        output,
    } = args;
    let config = output.load(SensorArgs::default())?;
    let rules = config::Rules {
        directories: rules,
        disabled: Vec::new(),
    };
    let rules = super::rules::chosen(&rules)?;
    let rules = rules.map(|loaded| Arc::clone(loaded.chosen.set()));
    let reader = open(&path)?;
    let mut sink = super::sink(&config)?;
    let mut pipeline = Pipeline::new(config.emit, config.budget);
    let played = play(reader, &mut pipeline, rules, |pipeline| {
        deliver(pipeline, &mut sink)
    })?;
    let totals = pipeline.totals();
    if let Some(failure) = sink.finish() {
        return Err(Failure::runtime(failure));
    }
    eprintln!(
        "tracer: {} events replayed, {} alerts",
        totals.events, totals.alerts
    );
    played.map_err(|error| broken(&path, &error))?;
    Ok(ExitCode::SUCCESS)
}

/// Opens a recording.
pub(super) fn open(path: &Path) -> Result<Reader<BufReader<File>>, Failure> {
    let file = File::open(path).map_err(|error| broken(path, &CaptureError::Io(error)))?;
    Reader::new(BufReader::new(file)).map_err(|error| broken(path, &error))
}

pub(super) fn broken(path: &Path, error: &CaptureError) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()))
}

/// Runs a recording through a pipeline, up to its end or to where it is broken, which is the value
/// then. Where there are `rules`, it is these that hold, whatever the recording says. `deliver` is called whenever there may be documents.
pub(super) fn play(
    reader: Reader<BufReader<File>>,
    pipeline: &mut Pipeline,
    rules: Option<Arc<RuleSet>>,
    mut deliver: impl FnMut(&mut Pipeline) -> Result<(), Failure>,
) -> Result<Result<(), CaptureError>, Failure> {
    let mut played = Ok(());
    let is_given = rules.is_some();
    if let Some(rules) = rules {
        pipeline.set_rules(rules);
    }
    for input in reader {
        match input {
            Ok(Input::Rules { .. } | Input::RulesRejected(_)) if is_given => {}
            Ok(input) => {
                pipeline.input(input);
                // The kernel is not there to be told.
                pipeline.take_commands();
                deliver(pipeline)?;
            }
            Err(error) => played = Err(error),
        }
    }
    // A capture that was cut off has no last watermark.
    pipeline.input(Input::Watermark(u64::MAX));
    deliver(pipeline)?;
    Ok(played)
}

fn deliver(pipeline: &mut Pipeline, sink: &mut Sink) -> Result<(), Failure> {
    for document in &pipeline.take_documents() {
        sink.send_blocking(document).map_err(Failure::runtime)?;
    }
    for report in &pipeline.take_reports() {
        sink.send_loss_blocking(report).map_err(Failure::runtime)?;
    }
    for report in &pipeline.take_rule_reports() {
        sink.send_rules_blocking(report).map_err(Failure::runtime)?;
    }
    Ok(())
}
