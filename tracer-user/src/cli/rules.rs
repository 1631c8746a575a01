//! `tracer rules`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};

use super::{Failure, replay};
use crate::config::{Config, Emit, Flags};
use crate::detect::sigma::{self, Chosen, RuleError, RuleSet, Source, samples};
use crate::encode::rules as encoder;
use crate::memory::Budget;
use crate::pipeline::Pipeline;
use crate::source::rules as files;

#[derive(Args)]
pub(super) struct RulesArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the rules that the agent would run with, and those that are turned off
    List(ListArgs),
    /// Say what is wrong with rules, and what of them this agent does not support
    ///
    /// Each rule that cannot be used is one line with file and line, then a summary. Exit code 1
    /// where anything is wrong. A rule on something that this agent does not tell is not wrong.
    Check(CheckArgs),
    /// Judge the samples of rules, and replay recordings with them
    ///
    /// Every rule has to have samples that it must match and samples that it must not, in
    /// `tracer.samples`. Exit code 1 where a rule is untested, or a sample is not as it says.
    Test(TestArgs),
    /// Show which techniques and data sources of ATT&CK the rules cover, and what tests them
    ///
    /// As a table in markdown.
    Coverage(CoverageArgs),
}

#[derive(Args)]
struct ListArgs {
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: FormatWord,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
struct CheckArgs {
    /// Files, and directories that are read with those below them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Fail on what is not supported, too
    #[arg(long)]
    strict: bool,
    /// Allow ids that rules of the pack have
    #[arg(long)]
    without_pack: bool,
}

#[derive(Args)]
struct TestArgs {
    /// Files, and directories that are read with those below them [default: the rules that ship, and
    /// the directories of the configuration]
    #[arg(value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Replay this recording, too, with the rules that are tested and no others
    #[arg(long, value_name = "FILE")]
    capture: Vec<PathBuf>,
    /// Fail where no recording makes this rule alert
    #[arg(long, value_name = "RULE", requires = "capture")]
    expect: Vec<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
struct CoverageArgs {
    /// Files, and directories that are read with those below them [default: the rules that ship, and
    /// the directories of the configuration]
    #[arg(value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
struct ConfigArgs {
    /// Configuration file [default: /etc/tracer/tracer.yaml, where there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    fn load(&self) -> Result<Config, Failure> {
        let file = Config::load(self.config.as_deref())?;
        Ok(Config::merge(file, Flags::default()))
    }
}

/// How to print them.
#[derive(Clone, Copy, Default, ValueEnum)]
enum FormatWord {
    /// Lines
    #[default]
    Text,
    /// A JSON object a line
    Json,
}

/// Errors that are shown where an agent does not start.
const SHOWN: usize = 20;

/// The rules that a configuration asks for; `None` for the pack and nothing else. Says what is not supported.
///
/// # Errors
///
/// A rule is wrong, or a file of rules cannot be read.
pub(super) fn chosen(config: &crate::config::Rules) -> Result<Option<files::Loaded>, Failure> {
    if config.is_default() {
        return Ok(None);
    }
    let loaded = files::load(&config.directories, config.disabled.clone());
    let wrong: Vec<&RuleError> = loaded.errors.iter().filter(|e| !e.unsupported).collect();
    for error in wrong.iter().take(SHOWN) {
        eprintln!("tracer: {error}");
    }
    if !wrong.is_empty() {
        return Err(Failure::usage(format!(
            "{} in the rules of rules.directories; see `tracer rules check`",
            plural(wrong.len(), "error")
        )));
    }
    warn(&loaded.chosen);
    Ok(Some(loaded))
}

fn warn(chosen: &Chosen) {
    if chosen.unsupported() > 0 {
        eprintln!(
            "tracer: {} not supported and left out; `tracer rules check` says which and why",
            plural(chosen.unsupported(), "rule")
        );
    }
    for word in chosen.idle_words() {
        eprintln!(
            "tracer: rules.disabled: no rule is called {word:?} or has that tag; see `tracer rules list`"
        );
    }
}

/// `1 rule`, `2 rules`
fn plural(count: usize, word: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {word}{end}")
}

pub(super) fn rules(args: &RulesArgs) -> Result<ExitCode, Failure> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Check(args) => check(args),
        Command::Test(args) => test(args),
        Command::Coverage(args) => coverage(args),
    }
}

fn list(args: &ListArgs) -> Result<ExitCode, Failure> {
    let config = args.config.load()?.rules;
    let loaded = files::load(&config.directories, config.disabled);
    let set = loaded.chosen.set();
    let mut rows: Vec<_> = set.rules().iter().map(|rule| (&**rule, true)).collect();
    rows.extend(set.disabled().iter().map(|rule| (&**rule, false)));
    rows.sort_by_key(|(rule, _)| rule.id.clone());
    let mut out = Vec::new();
    match args.format {
        FormatWord::Text => encoder::table(&rows, &mut out),
        FormatWord::Json => encoder::lines(&rows, &mut out),
    }
    for error in loaded.errors.iter().filter(|error| !error.unsupported) {
        eprintln!("tracer: {error}");
    }
    warn(&loaded.chosen);
    super::print(&out)
}

fn check(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let files::Files {
        sources,
        mut errors,
        ..
    } = files::read(&args.paths);
    let own = RuleSet::load(&sources).0.rules().len();
    let (loaded, found) = if args.without_pack {
        (own, RuleSet::load(&sources).1)
    } else {
        let (chosen, found) = Chosen::new(sources, Vec::new());
        let all = chosen.set().rules().len();
        (all.saturating_sub(RuleSet::pack().rules().len()), found)
    };
    errors.extend(found);
    errors.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    let mut out = String::new();
    for error in &errors {
        let kind = if error.unsupported {
            "unsupported: "
        } else {
            ""
        };
        out += &format!("{kind}{error}\n");
    }
    let reasons = sigma::reasons(&errors);
    let unsupported: usize = reasons.values().sum();
    let wrong = errors.len() - unsupported;
    out += &format!("loaded {loaded}, unsupported {unsupported}, wrong {wrong}\n");
    out += &list_of(&reasons);
    super::print(out.as_bytes())?;
    let fails = wrong > 0 || (args.strict && unsupported > 0);
    Ok(ExitCode::from(u8::from(fails)))
}

/// What is not supported, the most frequent first.
fn list_of(reasons: &BTreeMap<String, usize>) -> String {
    let mut rows: Vec<_> = reasons.iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let rows = rows
        .iter()
        .map(|(what, count)| format!("  unsupported {count}: {what}\n"));
    rows.collect()
}

/// The rules of these paths; without any those that ship and those of the configuration.
fn sources(
    paths: &[PathBuf],
    config: &ConfigArgs,
) -> Result<(Vec<Source>, Vec<RuleError>), Failure> {
    if !paths.is_empty() {
        let files = files::read(paths);
        return Ok((files.sources, files.errors));
    }
    let files = files::read(&config.load()?.rules.directories);
    let mut sources = sigma::pack_sources();
    sources.extend(files.sources);
    Ok((sources, files.errors))
}

fn coverage(args: &CoverageArgs) -> Result<ExitCode, Failure> {
    let (sources, mut errors) = sources(&args.paths, &args.config)?;
    let (text, found) = sigma::coverage::markdown(&sources);
    errors.extend(found);
    super::print(text.as_bytes())?;
    let mut wrong = 0;
    for error in errors.iter().filter(|error| !error.unsupported) {
        eprintln!("tracer: {error}");
        wrong += 1;
    }
    Ok(ExitCode::from(u8::from(wrong > 0)))
}

fn test(args: &TestArgs) -> Result<ExitCode, Failure> {
    let (sources, mut errors) = sources(&args.paths, &args.config)?;
    let (tested, found) = samples::test(&sources);
    errors.extend(found);
    let (mut out, mut failed) = (String::new(), 0);
    for one in &tested {
        let is_good = one.failures.is_empty();
        failed += usize::from(!is_good);
        let word = if is_good { "ok    " } else { "FAILED" };
        out += &format!(
            "{word} {}: {} to match, {} to pass\n",
            one.rule.id, one.matching, one.passing
        );
        for failure in &one.failures {
            out += &format!("       {failure}\n");
        }
    }
    for error in &errors {
        let kind = if error.unsupported {
            "unsupported: "
        } else {
            ""
        };
        out += &format!("{kind}{error}\n");
    }
    let wrong = errors.iter().filter(|error| !error.unsupported).count();
    out += &format!(
        "{} tested, {failed} failed, {} unsupported, {wrong} wrong\n",
        plural(tested.len(), "rule"),
        errors.len() - wrong
    );
    let missing = captures(args, &sources, &mut out)?;
    super::print(out.as_bytes())?;
    let fails = failed + wrong + missing > 0;
    Ok(ExitCode::from(u8::from(fails)))
}

/// Replays recordings, and says which rules alerted; how many did not that were expected to.
fn captures(args: &TestArgs, sources: &[Source], out: &mut String) -> Result<usize, Failure> {
    if args.capture.is_empty() {
        return Ok(0);
    }
    let set = Arc::new(RuleSet::load(sources).0);
    for id in &args.expect {
        if set.get(id).is_none() {
            return Err(Failure::usage(format!(
                "--expect {id}: no rule that is tested is called so"
            )));
        }
    }
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    for path in &args.capture {
        let reader = replay::open(path)?;
        let mut pipeline = Pipeline::new(Emit::Alerts, Budget::default());
        let mut alerts: BTreeMap<String, usize> = BTreeMap::new();
        let rules = Some(Arc::clone(&set));
        let played = replay::play(reader, &mut pipeline, rules, |pipeline| {
            for document in pipeline.take_documents() {
                if let Some(alert) = document.alert {
                    *alerts.entry(alert.rule.id.to_string()).or_default() += 1;
                }
            }
            pipeline.take_reports();
            pipeline.take_rule_reports();
            Ok(())
        })?;
        played.map_err(|error| replay::broken(path, &error))?;
        let words = alerts.iter().map(|(id, count)| format!("{id} {count}"));
        let words: Vec<String> = words.collect();
        let words = match &words[..] {
            [] => "no alert".to_owned(),
            words => words.join(", "),
        };
        let events = pipeline.totals().events;
        *out += &format!("{}: {events} events: {words}\n", path.display());
        for (id, count) in alerts {
            *all.entry(id).or_default() += count;
        }
    }
    let missing = args.expect.iter().filter(|id| !all.contains_key(*id));
    let missing: Vec<&String> = missing.collect();
    for id in &missing {
        *out += &format!("FAILED {id}: no recording makes it alert\n");
    }
    Ok(missing.len())
}
