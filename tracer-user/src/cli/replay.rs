//! `tracer replay`

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Failure, Output, OutputArgs};
use crate::config::FileConfig;
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

pub(super) fn replay(args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let config = FileConfig::load(args.output.config.as_deref())?;
    let broken = |error: CaptureError| Failure::usage(format!("{}: {error}", args.file.display()));
    let file = File::open(&args.file).map_err(|error| broken(CaptureError::Io(error)))?;
    let reader = Reader::new(BufReader::new(file)).map_err(broken)?;
    let Output { emit, format, target } = Output::resolve(&args.output, &config)?;
    let mut pipeline = Pipeline::new(emit, config.processes.max, config.directory_set());
    let mut sink = Sink::new(format, target);
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
    Ok(())
}
