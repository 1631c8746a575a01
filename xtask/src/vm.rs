//! `cargo xtask vm`: the agent on other kernels than the one we sit on.
//!
//! Boots Debian's cloud kernels under QEMU, with busybox and our own statically linked programs,
//! runs commands in them and brings back their output and exit status. The smoke test adds this
//! host's nginx and php-fpm on a disk that is thrown away. It needs no root and no network in the
//! guest. Hosts are of x86_64 only; an emulated aarch64 runs the kernel tests. It refuses to call anything a success that did not say so: a
//! guest that panics, hangs or goes away leaves an error with the end of its console.

mod disk;
mod fetch;
mod files;
mod guest;
mod initramfs;
pub(crate) mod kernels;
mod lab;
mod qemu;
mod report;
mod smoke;
mod trial;
mod variants;

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::builder::PossibleValue;

pub(crate) use self::files::File;
pub(crate) use self::guest::Order;
use self::kernels::{Arch, Kernel, X86_64};
use self::lab::Medium;
pub(crate) use self::lab::{Lab, agent_file, quoted};
pub(crate) use self::report::VmReport;
use self::trial::{Part, Tier, Trial};
use self::variants::{STOCK, Variant};
use crate::reference;
use crate::verifier::{self, Figures};

/// How long one boot may take with everything that runs in it, in seconds. Emulation is slow: what
/// takes a second here takes ten there.
const TIME_LIMIT: u64 = 600;

/// Boots other kernels in QEMU and tests the agent there, or runs a command
///
/// Without COMMAND, builds the agent and its kernel tests statically, runs `tracer doctor` and the
/// tests on each kernel, and prints the counts. Kernels are fetched from Debian on first use and
/// kept in target/vm/kernels.
#[derive(clap::Args)]
pub(crate) struct VmArgs {
    /// Kernel to boot: 5.10, 6.1, 6.12, newest (or sid), all of these, or 6.12-arm64; may be
    /// repeated [default: 6.1; with --all: all]
    #[arg(
        long,
        value_name = "KERNEL",
        value_parser = kernel_names(),
        hide_possible_values = true
    )]
    kernel: Vec<String>,
    /// Programs of the agent to load [default: the agent's choice; with --smoke and --all: each]
    #[arg(long, value_enum, value_name = "TIER")]
    tier: Option<Tier>,
    /// Attack nginx and php-fpm in the guest and check the alerts, instead of running the tests
    ///
    /// Passes when every probe is attached, a page that starts a shell and a page that writes code
    /// each raise their alert, and the agent ends well.
    #[arg(long, conflicts_with = "command")]
    smoke: bool,
    /// Run the whole matrix: kernels, tiers, tests, smoke tests, variants
    ///
    /// Prints the table of results and writes it to target/vm/matrix.md.
    #[arg(long, conflicts_with_all = ["command", "smoke", "variant"])]
    all: bool,
    /// With --all, make the results the ones that docs/kernels.md and docs/verifier.tsv show
    ///
    /// With --kernel or --tier too, those of the others stay.
    #[arg(long, requires = "all")]
    record: bool,
    /// Variant of the kernel: one with something missing
    #[arg(long, value_name = "VARIANT", value_parser = variant_names(), default_value = STOCK.name)]
    variant: String,
    /// Seconds that one boot may take, all commands included
    #[arg(long, value_name = "SECONDS", default_value_t = TIME_LIMIT)]
    timeout: u64,
    /// Keep the files of each boot (root, console), and say where they are
    #[arg(long)]
    keep: bool,
    /// Command to run instead of the tests
    ///
    /// The program is an applet of busybox (`-- uname -a`), `tracer` (built for the guest first),
    /// `tests` (the kernel tests; `-- tests WORD` runs those with WORD in their names), or, with a
    /// slash in its name, a statically linked program or a script of this host.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// `cargo xtask vm`.
pub(crate) fn run(args: VmArgs) -> anyhow::Result<()> {
    let lab = Lab::open(Duration::from_secs(args.timeout), args.keep)?;
    if !args.command.is_empty() {
        return command(&lab, args);
    }
    let otherwise: &[_] = if args.all {
        &kernels::ALL
    } else {
        &[kernels::DEFAULT]
    };
    let kernels = select(&args.kernel, otherwise);
    let arch = arch_of(&kernels)?;
    if arch != X86_64 && (args.all || args.smoke) {
        bail!("a smoke test takes this host's servers: it is for kernels of x86_64 only");
    }
    let trials = |chooses_tier| plan(&args, &kernels, chooses_tier);
    let parts: &[Part] = match (args.all, args.smoke) {
        (true, _) => &[Part::Tests, Part::Smoke],
        (false, true) => &[Part::Smoke],
        (false, false) => &[Part::Tests],
    };
    let report = carry_out(&lab, arch, parts, trials)?;
    eprintln!("\n{report}");
    let tracked = Figures::tracked()?;
    let figures = report.figures();
    for rise in tracked.rises(&figures) {
        eprintln!("warning: {rise}");
    }
    for probe in report.nowhere() {
        eprintln!("warning: no kernel has a hook for the probe {probe}: has it another name?");
    }
    if args.all {
        publish(&lab, &report, args.record.then(|| tracked.updated(figures)))?;
    }
    report.verdict()
}

/// Runs the kernel tests on these kernels. An error means that nothing could be tested; a kernel
/// that fails is in the report, and the others are tested all the same. The last of all is a smoke
/// test of one kernel, for each tier.
pub(crate) fn test(
    kernels: &[&'static Kernel],
    smoke: &'static Kernel,
) -> anyhow::Result<VmReport> {
    let lab = Lab::open(Duration::from_secs(TIME_LIMIT), false)?;
    carry_out(&lab, X86_64, &[Part::Tests, Part::Smoke], |chooses_tier| {
        let tested = kernels.iter().map(|kernel| Trial {
            kernel,
            variant: STOCK,
            tier: None,
            part: Part::Tests,
        });
        let smoked = tiers(None, chooses_tier)?.into_iter().map(|tier| Trial {
            kernel: smoke,
            variant: STOCK,
            tier,
            part: Part::Smoke,
        });
        Ok(tested.chain(smoked).collect())
    })
}

/// Builds, plans, and runs one trial after the other.
fn carry_out(
    lab: &Lab,
    arch: &Arch,
    parts: &[Part],
    plan: impl FnOnce(bool) -> anyhow::Result<Vec<Trial>>,
) -> anyhow::Result<VmReport> {
    let programs = lab.programs(arch, parts)?;
    let mut rows = Vec::new();
    for trial in plan(programs.chooses_tier)? {
        let row = trial.run(lab, &programs);
        eprintln!("vm: {row}");
        rows.push(row);
    }
    Ok(VmReport { rows })
}

/// The trials that were asked for.
fn plan(
    args: &VmArgs,
    kernels: &[&'static Kernel],
    chooses_tier: bool,
) -> anyhow::Result<Vec<Trial>> {
    if args.all {
        let tiers = tiers(args.tier, chooses_tier)?;
        return Ok(trial::matrix(kernels, &variants::ALL, &tiers));
    }
    let variant = variant(&args.variant);
    let (part, tiers) = if args.smoke {
        (Part::Smoke, tiers(args.tier, chooses_tier)?)
    } else {
        // Without a word on it the tests load what the agent would.
        let auto = tiers(args.tier, chooses_tier)?;
        let tier = args.tier.and_then(|_| auto.first().copied().flatten());
        (Part::Tests, vec![tier])
    };
    let mut trials = Vec::new();
    for kernel in kernels {
        for &tier in &tiers {
            trials.push(Trial {
                kernel,
                variant,
                tier,
                part,
            });
        }
    }
    Ok(trials)
}

/// What the agent is told: the tier asked for, else each in turn, or nothing where it cannot be told.
fn tiers(asked: Option<Tier>, chooses_tier: bool) -> anyhow::Result<Vec<Option<Tier>>> {
    match (asked, chooses_tier) {
        (Some(_), false) => bail!("this agent has no option --tier: leave it out here too"),
        (Some(tier), true) => Ok(vec![Some(tier)]),
        (None, true) => Ok(Tier::EACH.map(Some).into()),
        (None, false) => Ok(vec![None]),
    }
}

/// Writes the results of a matrix.
#[expect(clippy::print_stdout, reason = "the table is what this command is for")]
fn publish(lab: &Lab, report: &VmReport, record: Option<Figures>) -> anyhow::Result<()> {
    let table = report.table();
    println!("{table}");
    let path = lab.path("matrix.md");
    fs::write(&path, &table).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    if let Some(figures) = record {
        reference::record(MATRIX_PAGE, |old| report::renewed(old, &table))?;
        figures.track()?;
        eprintln!(
            "wrote {MATRIX_PAGE} and {}: now run `cargo xtask reference`",
            verifier::FILE
        );
    }
    Ok(())
}

/// The page that shows the results of a matrix.
const MATRIX_PAGE: &str = "docs/kernels.md";

/// Runs a command of the user on each kernel.
fn command(lab: &Lab, args: VmArgs) -> anyhow::Result<()> {
    let variant = variant(&args.variant);
    let kernels = select(&args.kernel, &[kernels::DEFAULT]);
    let (programs, command) = lab.prepare(arch_of(&kernels)?, args.command, args.tier)?;
    let mut orders = Vec::new();
    if !variant.prepare.is_empty() {
        orders.push(Order::script(variant.prepare));
    }
    orders.push(Order::Run(command));
    let mut failed = Vec::new();
    for kernel in kernels {
        let status = match lab.boot_variant(kernel, variant, Medium::Initramfs, &programs, &orders)
        {
            Ok(boot) => {
                eprintln!("vm: {boot}");
                boot.outcomes()
                    .iter()
                    .map(|one| one.status)
                    .find(|status| *status != 0)
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                failed.push(format!("{} did not finish", kernel.name));
                continue;
            }
        };
        if let Some(status) = status {
            failed.push(format!("{} ended with status {status}", kernel.name));
        }
    }
    if !failed.is_empty() {
        bail!("the command on kernel {}", failed.join(", on kernel "));
    }
    Ok(())
}

/// Another name of the newest kernel: the suite that it is from.
const SID: &str = "sid";

fn kernel_names() -> clap::builder::PossibleValuesParser {
    let names = kernels::ALL.iter().map(|kernel| kernel.name);
    clap::builder::PossibleValuesParser::new(names.chain([SID, kernels::ARM64.name, "all"]))
}

fn variant_names() -> clap::builder::PossibleValuesParser {
    let values = variants::ALL.map(|variant| PossibleValue::new(variant.name).help(variant.about));
    clap::builder::PossibleValuesParser::new(values)
}

/// The kernels that were named, oldest first, each once; those of `otherwise` where none was.
fn select(names: &[String], otherwise: &[&'static Kernel]) -> Vec<&'static Kernel> {
    if names.is_empty() {
        return otherwise.to_vec();
    }
    let named = |kernel: &&Kernel| {
        names.iter().any(|name| {
            name == "all" || name == kernel.name || name == SID && **kernel == *kernels::NEWEST
        })
    };
    let mut kernels: Vec<_> = kernels::ALL.into_iter().filter(named).collect();
    if names.iter().any(|name| name == kernels::ARM64.name) {
        kernels.push(kernels::ARM64);
    }
    kernels
}

/// The processor of these kernels: programs are built for one.
fn arch_of(kernels: &[&'static Kernel]) -> anyhow::Result<&'static Arch> {
    let arch = kernels.first().map_or(X86_64, |kernel| kernel.arch);
    match kernels.iter().find(|kernel| kernel.arch != arch) {
        Some(other) => bail!("boot {} in a run of its own", other.name),
        None => Ok(arch),
    }
}

/// The variant of this name; clap let no other pass.
fn variant(name: &str) -> &'static Variant {
    let mut all = variants::ALL.into_iter();
    all.find(|variant| variant.name == name).unwrap_or(STOCK)
}

#[cfg(test)]
mod tests;
