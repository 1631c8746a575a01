//! `tracer servers`

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::{ControlArgs, Failure};
use crate::control::Ask;

#[derive(Args)]
pub(super) struct ServersArgs {
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: FormatWord,
    #[command(flatten)]
    agent: ControlArgs,
}

/// How to print them.
#[derive(Clone, Copy, Default, ValueEnum)]
enum FormatWord {
    /// Lines
    #[default]
    Text,
    /// One JSON object
    Json,
}

pub(super) fn servers(args: &ServersArgs) -> Result<ExitCode, Failure> {
    let style = match args.format {
        FormatWord::Text => Some(super::style()),
        FormatWord::Json => None,
    };
    super::show(args.agent.ask(&Ask::Servers(style))?)
}
