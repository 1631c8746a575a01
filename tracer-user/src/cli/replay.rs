//! `tracer replay`

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Failure, OutputArgs, SensorArgs};
use crate::pipeline::Pipeline;
use crate::sink::Sink;
use crate::source::Input;
use crate::source::capture::{CaptureError, Reader};

#[derive(Args)]
pub(super) struct ReplayArgs {
    /// The recording
    file: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn replay(args: ReplayArgs) -> Result<ExitCode, Failure> {
    let ReplayArgs { file: path, output } = args;
    let config = output.load(SensorArgs::default())?;
    let broken = |error: CaptureError| Failure::usage(format!("{}: {error}", path.display()));
    let file = File::open(&path).map_err(|error| broken(CaptureError::Io(error)))?;
    let reader = Reader::new(BufReader::new(file)).map_err(broken)?;
    let mut sink = super::sink(&config)?;
    let mut pipeline = Pipeline::new(config.emit, config.budget);
    let mut wrong = None;
    for input in reader {
        match input {
            Ok(input) => {
                pipeline.input(input);
                // The kernel is not there to be told.
                pipeline.take_commands();
                deliver(&mut pipeline, &mut sink)?;
            }
            Err(error) => wrong = Some(error),
        }
    }
    // A capture that was cut off has no last watermark.
    pipeline.input(Input::Watermark(u64::MAX));
    deliver(&mut pipeline, &mut sink)?;
    let totals = pipeline.totals();
    if let Some(failure) = sink.finish() {
        return Err(Failure::runtime(failure));
    }
    eprintln!(
        "tracer: {} events replayed, {} alerts",
        totals.events, totals.alerts
    );
    match wrong {
        Some(error) => Err(broken(error)),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn deliver(pipeline: &mut Pipeline, sink: &mut Sink) -> Result<(), Failure> {
    for document in &pipeline.take_documents() {
        sink.send_blocking(document).map_err(Failure::runtime)?;
    }
    for report in &pipeline.take_reports() {
        sink.send_loss_blocking(report).map_err(Failure::runtime)?;
    }
    Ok(())
}
