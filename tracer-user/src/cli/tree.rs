//! `tracer tree`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use uuid::Uuid;

use super::{ControlArgs, Failure, replay};
use crate::config::{Config, Flags};
use crate::control::Ask;
use crate::encode::tree::{self as encoder, Format};
use crate::lineage::tree::Selector;
use crate::pipeline::Pipeline;

#[derive(Args)]
#[group(id = "of", multiple = false, args = ["process", "container", "server", "all"])]
pub(super) struct TreeArgs {
    /// The process: its number on the host, or its process.entity_id
    #[arg(value_name = "PID|ENTITY_ID", value_parser = process)]
    process: Option<Selector>,
    /// All processes of the containers whose id begins like this
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    container: Option<String>,
    /// The servers of this name, as nginx or php-fpm, or the one of this process number
    #[arg(long, value_name = "NAME|PID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    server: Option<String>,
    /// Every process that is known
    #[arg(long)]
    all: bool,
    /// Read this recording, to its end, instead of asking an agent
    #[arg(long, value_name = "FILE", conflicts_with = "control")]
    capture: Option<PathBuf>,
    /// How to draw it
    #[arg(long, value_enum, default_value_t)]
    format: FormatWord,
    #[command(flatten)]
    agent: ControlArgs,
}

/// How to draw it.
#[derive(Clone, Copy, Default, ValueEnum)]
enum FormatWord {
    /// Lines
    #[default]
    Text,
    /// One JSON object
    Json,
    /// A graph for graphviz
    Dot,
    /// A flowchart for mermaid
    Mermaid,
}

fn process(text: &str) -> Result<Selector, &'static str> {
    let number = || text.parse().ok().map(Selector::Process);
    let entity = || Uuid::try_parse(text).ok().map(Selector::Entity);
    number()
        .or_else(entity)
        .ok_or("neither a process number nor an entity id; see `tracer tree --all`")
}

pub(super) fn tree(args: TreeArgs) -> Result<ExitCode, Failure> {
    let TreeArgs {
        process,
        container,
        server,
        all,
        capture,
        format,
        agent,
    } = args;
    let by_server = |name: String| {
        let number = name.parse().map(Selector::Process);
        number.unwrap_or(Selector::Server(name))
    };
    let selector = process
        .or(container.map(Selector::Container))
        .or(server.map(by_server))
        .or(all.then_some(Selector::All))
        .unwrap_or(Selector::Servers);
    let format = match format {
        FormatWord::Text => Format::Text(super::style()),
        FormatWord::Json => Format::Json,
        FormatWord::Dot => Format::Dot,
        FormatWord::Mermaid => Format::Mermaid,
    };
    match capture {
        Some(path) => recorded(&path, &agent, &selector, format),
        None => super::show(agent.ask(&Ask::Tree(selector, format))?),
    }
}

/// Draws what a recording tells up to its end.
fn recorded(
    path: &Path,
    agent: &ControlArgs,
    selector: &Selector,
    format: Format,
) -> Result<ExitCode, Failure> {
    let file = Config::load(agent.config.as_deref())?;
    let config = Config::merge(file, Flags::default());
    let reader = replay::open(path)?;
    let mut pipeline = Pipeline::new(config.emit, config.budget);
    let played = replay::play(reader, &mut pipeline, None, |pipeline| {
        pipeline.take_documents();
        pipeline.take_reports();
        pipeline.take_rule_reports();
        Ok(())
    })?;
    let view = pipeline
        .tree(selector)
        .map_err(|why| Failure::new(1, encoder::no_tree(&why)))?;
    let mut out = Vec::new();
    encoder::tree(&view, format, &mut out);
    if format == Format::Json {
        out.push(b'\n');
    }
    super::print(&out)?;
    // What came before a recording broke off is shown all the same.
    played.map_err(|error| replay::broken(path, &error))?;
    Ok(ExitCode::SUCCESS)
}
