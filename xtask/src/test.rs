//! `cargo xtask test`: everything that has to hold, in one command and one verdict.
//!
//! Steps run from cheap to dear and do not stop at the first failure: the table at the end tells
//! the whole state. Nothing is hidden: a step or test that cannot run is counted as skipped, with
//! its reason, and where the host could run the kernel tests a skipped one is a failure.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::ebpf::{self, Profile};
use crate::host::{self, Privilege, cargo, run};
use crate::libtest::{self, Counts};
use crate::toolchain::{self, Purpose};
use crate::{reference, runtimes, tidy, vm};

/// Installs what is missing and runs every check and test.
///
/// Kernel and end-to-end tests need root: they go through sudo where it asks for no password, else
/// they are counted as skipped. Exits with 1 when anything fails, or when kernel tests are skipped for
/// want of the agent on a kernel that takes it.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Run only these steps, and the build that they need.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STEP")]
    only: Vec<Step>,
    /// Leave the virtual machines out, and do not install what they need.
    #[arg(long)]
    no_vm: bool,
    /// Leave the tests that load the agent into this kernel out.
    #[arg(long)]
    no_kernel: bool,
    /// Install nothing.
    #[arg(long)]
    no_setup: bool,
}

/// The steps, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Formatting.
    Fmt,
    /// Invariants of the repository.
    Tidy,
    /// The eBPF object and the agent.
    Build,
    /// Lints, of the kernel side too.
    Clippy,
    /// Tests that need neither root nor a kernel.
    Unit,
    /// Generated documentation.
    Reference,
    /// Licences and sources of dependencies.
    Deny,
    /// Each hook on this kernel, as root.
    Kernel,
    /// Real servers under attack, as root.
    E2e,
    /// The agent on other kernels.
    Vm,
}

/// How a step ended.
enum Outcome {
    /// It holds.
    Passed,
    /// It ran tests; the runner's own verdict comes with the counts.
    Ran {
        counts: Counts,
        note: String,
        failed: bool,
        /// What the runner printed of the tests that failed.
        failures: String,
    },
    /// It was not asked for or cannot run here.
    Skipped(String),
    Failed(String),
}

impl Outcome {
    /// A step that runs no tests counts as one itself, and so does one that fails without any.
    fn counts(&self) -> Counts {
        let one = Counts::default();
        match self {
            Outcome::Passed => Counts { passed: 1, ..one },
            Outcome::Failed(_) => Counts { failed: 1, ..one },
            Outcome::Skipped(_) => Counts { skipped: 1, ..one },
            Outcome::Ran {
                counts,
                failed: true,
                ..
            } if counts.failed == 0 => Counts {
                failed: 1,
                ..*counts
            },
            Outcome::Ran { counts, .. } => *counts,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Passed => write!(f, "passed"),
            Outcome::Failed(why) => write!(f, "FAILED   {why}"),
            Outcome::Skipped(why) => write!(f, "skipped  {why}"),
            Outcome::Ran { note, failed, .. } => {
                let Counts {
                    passed,
                    failed: bad,
                    skipped,
                } = self.counts();
                let verdict = if *failed || bad > 0 {
                    "FAILED"
                } else {
                    "passed"
                };
                write!(
                    f,
                    "{verdict:8} {passed} passed, {bad} failed, {skipped} skipped{note}"
                )
            }
        }
    }
}

/// `cargo xtask test`.
pub(crate) fn main(arguments: &Arguments) -> Result<ExitCode> {
    let purpose = if arguments.no_vm {
        Purpose::TestWithoutVm
    } else {
        Purpose::Test
    };
    if !arguments.no_setup && arguments.only.is_empty() {
        toolchain::setup(purpose)?;
    }
    let mut rows: Vec<(Step, Outcome)> = Vec::new();
    for step in Step::value_variants() {
        let outcome = match not_asked_for(*step, arguments) {
            Some(why) => Outcome::Skipped(why),
            None if step.needs_build() && build_failed(&rows) => {
                Outcome::Skipped("the build failed".into())
            }
            None => {
                eprintln!("\n==== {}", step.name());
                step.run()
                    .unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")))
            }
        };
        if let Outcome::Failed(why) = &outcome {
            eprintln!("error: {why}");
        }
        rows.push((*step, outcome));
    }
    // Steps that were not asked for are no news when only some were.
    let only = !arguments.only.is_empty();
    rows.retain(|(step, outcome)| {
        !only || arguments.only.contains(step) || matches!(outcome, Outcome::Failed(_))
    });
    Ok(summarise(&rows))
}

/// Prints the table and the closing line, which alone on its line tells the sums.
#[expect(
    clippy::print_stdout,
    reason = "the verdict is what this command is for"
)]
fn summarise(rows: &[(Step, Outcome)]) -> ExitCode {
    let mut sum = Counts::default();
    // Once more where it is seen first: a step prints thousands of lines.
    for (step, outcome) in rows {
        if let Outcome::Ran { failures, .. } = outcome
            && !failures.is_empty()
        {
            println!("\n==== failures of {}\n{failures}", step.name());
        }
    }
    println!();
    for (step, outcome) in rows {
        // An error may span lines; the table has one line a step.
        let line = outcome.to_string();
        println!(
            "{:10} {}",
            step.name(),
            line.lines().next().unwrap_or_default()
        );
        sum += outcome.counts();
    }
    println!();
    println!(
        "{} passed, {} failed, {} skipped",
        sum.passed, sum.failed, sum.skipped
    );
    if sum.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn not_asked_for(step: Step, arguments: &Arguments) -> Option<String> {
    let Arguments {
        only,
        no_vm,
        no_kernel,
        no_setup: _,
    } = arguments;
    // What the other steps stand on is built in any case.
    let foundation = step == Step::Build && only.iter().any(|step| step.needs_build());
    if !only.is_empty() && !only.contains(&step) && !foundation {
        return Some("left out by --only".into());
    }
    if *no_vm && step == Step::Vm {
        return Some("left out by --no-vm".into());
    }
    let loads = matches!(step, Step::Kernel | Step::E2e);
    (*no_kernel && loads).then(|| "left out by --no-kernel".into())
}

fn build_failed(rows: &[(Step, Outcome)]) -> bool {
    rows.iter()
        .any(|(step, outcome)| *step == Step::Build && matches!(outcome, Outcome::Failed(_)))
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// tracer-user embeds the eBPF object, so that nothing of it compiles without.
    fn needs_build(self) -> bool {
        match self {
            Step::Fmt | Step::Tidy | Step::Build | Step::Deny => false,
            Step::Clippy | Step::Unit | Step::Reference | Step::Kernel | Step::E2e | Step::Vm => {
                true
            }
        }
    }

    fn run(self) -> Result<Outcome> {
        match self {
            Step::Fmt => fmt(),
            Step::Tidy => tidy(),
            Step::Build => ebpf::build(Profile::Debug).map(|_| Outcome::Passed),
            Step::Clippy => clippy(),
            Step::Unit => unit(),
            Step::Reference => reference(),
            Step::Deny => deny(),
            Step::Kernel => kernel(),
            Step::E2e => e2e(),
            Step::Vm => vm(),
        }
    }
}

fn fmt() -> Result<Outcome> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    let mut kernel_side = cargo();
    kernel_side.current_dir(host::repository().join("tracer-ebpf"));
    run(kernel_side.args(["fmt", "--check"]))?;
    Ok(Outcome::Passed)
}

fn tidy() -> Result<Outcome> {
    let violations = tidy::check()?;
    for violation in &violations {
        eprintln!("{violation}");
    }
    Ok(match violations.len() {
        0 => Outcome::Passed,
        count => Outcome::Failed(format!("{count} broken invariants, named above")),
    })
}

fn clippy() -> Result<Outcome> {
    let workspace = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    run(cargo().args(workspace))?;
    Ok(match ebpf::clippy()? {
        Some(()) => Outcome::Passed,
        None => Outcome::Skipped(
            "of tracer-ebpf only: the distribution's compiler has no clippy of its version".into(),
        ),
    })
}

/// Tests that need a kernel; everything else in `tracer-user/tests/` is a unit test.
const KERNEL_TESTS: &[&str] = &["kernel", "e2e"];

fn unit() -> Result<Outcome> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins"]);
    for name in integration_tests(&host::repository().join("tracer-user/tests"))? {
        command.args(["--test", &name]);
    }
    let mut tests = watch(command.args(["--", "--show-output"]))?;
    let mut examples = cargo();
    examples.args(["test", "--workspace", "--no-fail-fast", "--doc"]);
    let examples = watch(&mut examples)?;
    tests.output.push_str(&examples.output);
    tests.succeeded &= examples.succeeded;
    Ok(tests.outcome())
}

/// The names of the integration tests that need no kernel.
fn integration_tests(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    if !folder.is_dir() {
        return Ok(names);
    }
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        let is_test = path.extension().is_some_and(|extension| extension == "rs")
            || path.join("main.rs").is_file();
        if is_test && !KERNEL_TESTS.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn reference() -> Result<Outcome> {
    let stale = reference::update(&ebpf::agent(Profile::Debug)?, true)?;
    Ok(if stale.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(format!(
            "{} out of date: run `cargo xtask reference`",
            stale.join(", ")
        ))
    })
}

fn deny() -> Result<Outcome> {
    let Some(program) = host::program("cargo-deny") else {
        bail!("there is no cargo-deny: run `cargo xtask setup`");
    };
    // `advisories` is left out: it fetches a database over the network at each run, and a verdict
    // that depends on the day and the network is no test. deny.toml says how to run it by hand.
    // deny.toml is found in the current folder, for both workspaces.
    for manifest in ["Cargo.toml", "tracer-ebpf/Cargo.toml"] {
        let mut command = Command::new(&program);
        command.current_dir(host::repository());
        command.args(["--manifest-path", manifest, "--locked", "check"]);
        command.args(["bans", "licenses", "sources"]);
        run(&mut command)?;
    }
    Ok(Outcome::Passed)
}

fn kernel() -> Result<Outcome> {
    // Where the preferred tier loads, the other one does too, and has tests of its own.
    let tiers: &[_] = if kernel_takes("lsm")? {
        &["lsm", "tracepoint"]
    } else {
        &["auto"]
    };
    let mut tests = Watched {
        output: String::new(),
        succeeded: true,
    };
    for tier in tiers {
        match as_root("kernel", &[("TRACER_TIER", tier)])? {
            Ok(more) => tests.add(&more),
            Err(why) => return Ok(Outcome::Skipped(why)),
        }
    }
    let mut outcome = tests.outcome();
    let skips = libtest::skips(&tests.output);
    if let Outcome::Ran { note, failed, .. } = &mut outcome
        && skips.values().any(|why| why.starts_with(libtest::NO_AGENT))
        && kernel_takes("auto")?
    {
        note.push_str("; and this kernel could have run what was skipped");
        *failed = true;
    }
    Ok(outcome)
}

fn e2e() -> Result<Outcome> {
    if let Err(error) = runtimes::fetch() {
        // The tests of these say themselves that they were skipped.
        eprintln!("warning: {error:#}");
    }
    let runtimes = host::target_directory().join("runtimes");
    let runtimes = runtimes.to_string_lossy();
    Ok(match as_root("e2e", &[("TRACER_RUNTIMES", &runtimes)])? {
        Ok(tests) => tests.outcome(),
        Err(why) => Outcome::Skipped(why),
    })
}

/// Whether this kernel can run the kernel tests with a tier: it has BTF, and the agent finds the tier's
/// probes loadable.
fn kernel_takes(tier: &str) -> Result<bool> {
    let needs_a_word = matches!(host::privilege(), Privilege::SudoAsks | Privilege::Plain);
    if needs_a_word || !Path::new("/sys/kernel/btf/vmlinux").is_file() {
        return Ok(false);
    }
    let agent = ebpf::agent(Profile::Debug)?;
    let mut command = host::as_root(&agent)?;
    let status = command
        .args(["doctor", "--tier", tier])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot start `{}`", host::shown(&command)))?;
    // 0: no finding, 1: findings, and the agent runs. 3 and 4: it does not.
    Ok(matches!(status.code(), Some(0 | 1)))
}

/// Runs one of the tests that need root, with these variables, or says why it cannot.
fn as_root(test: &str, variables: &[(&str, &str)]) -> Result<Result<Watched, String>> {
    let mut command = cargo();
    command.envs(variables.iter().copied());
    match host::privilege() {
        Privilege::Root => {}
        Privilege::Sudo => {
            // cargo and rustc stay the user's: only the test program runs as root.
            let mut sudo = "sudo -n".to_owned();
            for (name, _) in variables {
                sudo.push_str(&format!(" --preserve-env={name}"));
            }
            sudo.push_str(" --");
            command.env(runner_variable(&toolchain::host_triple()?), sudo);
        }
        Privilege::SudoAsks | Privilege::Plain => {
            return Ok(Err(
                "needs root: run as root, or let sudo work without a password".into(),
            ));
        }
    }
    command.args(["test", "--package", "tracer-user", "--test", test]);
    // One by one: each test watches the whole system.
    command.args(["--", "--show-output", "--test-threads=1"]);
    watch(&mut command).map(Ok)
}

/// The variable that tells cargo through what to start programs of a target.
fn runner_variable(target: &str) -> String {
    format!(
        "CARGO_TARGET_{}_RUNNER",
        target.to_uppercase().replace('-', "_")
    )
}

fn vm() -> Result<Outcome> {
    if !cfg!(target_arch = "x86_64") {
        return Ok(Outcome::Skipped(
            "the kernels to boot are for x86_64 only".into(),
        ));
    }
    let report = vm::test(&vm::kernels::ALL, vm::kernels::DEFAULT)?;
    eprintln!("{report}");
    let (note, failed) = match report.verdict() {
        Ok(()) => (String::new(), false),
        Err(error) => (format!("; {error:#}"), true),
    };
    Ok(Outcome::Ran {
        counts: report.counts(),
        note,
        failed,
        // Its report has a line for each boot.
        failures: String::new(),
    })
}

/// A test command that came to its end.
struct Watched {
    output: String,
    succeeded: bool,
}

impl Watched {
    /// Counts another command's tests too.
    fn add(&mut self, more: &Self) {
        self.output.push_str(&more.output);
        self.succeeded &= more.succeeded;
    }

    fn outcome(&self) -> Outcome {
        let skips = libtest::skips(&self.output);
        let note = match skips.first_key_value() {
            Some((test, why)) if skips.len() == 1 => format!("; skipped {test}: {why}"),
            Some((test, why)) => format!("; skipped {test}: {why}, and {} more", skips.len() - 1),
            None => String::new(),
        };
        match libtest::counts(&self.output) {
            Some(counts) => Outcome::Ran {
                counts,
                note,
                failed: !self.succeeded,
                failures: libtest::failures(&self.output),
            },
            None => Outcome::Failed("no test came to a result".into()),
        }
    }
}

/// Runs a test command and shows its output as it comes, but of tests that passed only what they skipped.
fn watch(command: &mut Command) -> Result<Watched> {
    eprintln!("+ {}", host::shown(command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", host::shown(command)))?;
    let mut output = String::new();
    let mut of_passed = false;
    if let Some(pipe) = child.stdout.take() {
        // Tests may print any bytes.
        for line in BufReader::new(pipe).split(b'\n') {
            let line = line.context("cannot read the output of the tests")?;
            let line = String::from_utf8_lossy(&line);
            match &*line {
                "successes:" => of_passed = true,
                "failures:" => of_passed = false,
                result if result.starts_with("test result: ") => of_passed = false,
                _ => {}
            }
            if !of_passed || line.starts_with("SKIPPED ") {
                eprintln!("{line}");
            }
            output.push_str(&line);
            output.push('\n');
        }
    }
    let status = child.wait().context("cannot wait for the tests")?;
    Ok(Watched {
        output,
        succeeded: status.success(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> Arguments {
        Arguments {
            only: Vec::new(),
            no_vm: false,
            no_kernel: false,
            no_setup: true,
        }
    }

    fn steps(arguments: &Arguments) -> Vec<Step> {
        let all = Step::value_variants().iter().copied();
        all.filter(|step| not_asked_for(*step, arguments).is_none())
            .collect()
    }

    #[test]
    fn flags_choose_the_steps() {
        assert_eq!(steps(&arguments()), Step::value_variants());
        let some = steps(&Arguments {
            no_vm: true,
            no_kernel: true,
            ..arguments()
        });
        assert!(
            !some.contains(&Step::Vm) && !some.contains(&Step::E2e),
            "{some:?}"
        );
        assert_eq!(
            steps(&Arguments {
                only: vec![Step::Fmt],
                ..arguments()
            }),
            [Step::Fmt]
        );
    }

    #[test]
    fn a_chosen_step_brings_the_build_it_stands_on() {
        let chosen = steps(&Arguments {
            only: vec![Step::Unit],
            ..arguments()
        });
        assert_eq!(chosen, [Step::Build, Step::Unit]);
    }

    #[test]
    fn a_failure_is_never_counted_as_none() {
        let crashed = Outcome::Ran {
            counts: Counts {
                passed: 3,
                ..Counts::default()
            },
            note: String::new(),
            failed: true,
            failures: String::new(),
        };
        assert_eq!(
            crashed.counts(),
            Counts {
                passed: 3,
                failed: 1,
                skipped: 0
            }
        );
        assert_eq!(
            crashed.to_string(),
            "FAILED   3 passed, 1 failed, 0 skipped"
        );
        assert_eq!(Outcome::Failed("x".into()).counts().failed, 1);
        assert_eq!(Outcome::Skipped("x".into()).counts().skipped, 1);
    }

    #[test]
    fn a_step_whose_build_failed_is_not_run() {
        let rows = [(Step::Build, Outcome::Failed("x".into()))];
        assert!(build_failed(&rows) && Step::Kernel.needs_build() && !Step::Deny.needs_build());
    }

    #[test]
    fn cargo_starts_test_programs_through_the_runner_of_the_host() {
        assert_eq!(
            runner_variable("x86_64-unknown-linux-gnu"),
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER"
        );
    }
}
