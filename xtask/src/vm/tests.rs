//! The parts of a guest that need no emulator: selection, programs, reports.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use clap::Parser as _;

use super::files::Content;
use super::guest::{Outcome, Transcript};
use super::lab::{Boot, executable, never_up, problem, root};
use super::qemu::{Accelerator, Ended};
use super::report::{Row, Verdict};
use super::smoke::Smoke;
use super::trial::judge_tests;
use super::*;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: VmArgs,
}

fn parse(words: &[&str]) -> Result<VmArgs, clap::Error> {
    Cli::try_parse_from([&["vm"], words].concat()).map(|cli| cli.args)
}

#[test]
fn kernels_are_chosen_by_name() {
    let rows: [(&[&str], &[&str]); 6] = [
        (&[], &["6.1"]),
        (&["--kernel", "sid"], &["newest"]),
        (&["--kernel", "sid", "--kernel", "newest"], &["newest"]),
        (&["--kernel", "all"], &["5.10", "6.1", "6.12", "newest"]),
        (
            &["--kernel", "newest", "--kernel", "5.10"],
            &["5.10", "newest"],
        ),
        (
            &["--kernel=6.12", "--kernel=all"],
            &["5.10", "6.1", "6.12", "newest"],
        ),
    ];
    for (words, expected) in rows {
        let args = parse(words).unwrap();
        let names: Vec<_> = select(&args.kernel, &[kernels::DEFAULT])
            .iter()
            .map(|k| k.name)
            .collect();
        assert_eq!(names, expected, "{words:?}");
        assert_eq!(args.timeout, 600);
    }
    assert!(parse(&["--kernel", "5.15"]).is_err());
}

#[test]
fn everything_behind_the_dashes_is_the_command() {
    let args = parse(&["--keep", "--", "ls", "--kernel", "-l"]).unwrap();
    assert!(args.keep);
    assert_eq!(args.command, ["ls", "--kernel", "-l"]);
}

fn boot(doctor: u8, tests: u8, output: &str) -> Boot {
    let outcome = |status, output: &str| Outcome {
        status,
        output: output.to_owned(),
    };
    Boot {
        accelerator: Accelerator::Kvm,
        transcript: Transcript {
            release: Some("6.1.0-test".to_owned()),
            boot: Some(Duration::from_millis(2500)),
            commands: vec![outcome(doctor, ""), outcome(tests, output)],
            complete: true,
        },
        took: Duration::from_secs(9),
    }
}

#[test]
fn only_what_said_so_is_a_success() {
    let ok = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
    let bad = "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
    let none = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out\n";
    let skipped = "test a ... SKIPPED a: no BPF\nok\n\
                   test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
    let rows = [
        (boot(0, 0, ok), None),
        (boot(1, 0, ok), None),
        (boot(5, 0, ok), Some("`tracer doctor` ended with status 5")),
        (boot(0, 101, bad), Some("1 tests failed")),
        (boot(0, 134, ok), Some("the tests ended with status 134")),
        (
            boot(0, 137, "running 2 tests\n"),
            Some("the tests broke off without a result (status 137)"),
        ),
        (boot(0, 0, none), Some("no test ran")),
        (boot(0, 0, skipped), Some("no test ran")),
    ];
    for (boot, failure) in rows {
        let verdict = judge_tests(&boot);
        assert_eq!(verdict.failure.as_deref(), failure);
        assert_eq!(verdict.failure.is_some(), verdict.counts.failed > 0);
    }
}

fn row(part: Part, tier: Option<Tier>, variant: &'static Variant, verdict: Verdict) -> Row {
    Row {
        trial: Trial {
            kernel: kernels::DEFAULT,
            variant,
            tier,
            part,
        },
        release: Some("6.1.0-test".to_owned()),
        boot: Some("Linux 6.1.0-test under KVM".to_owned()),
        took: Some(Duration::from_millis(9400)),
        verdict,
    }
}

#[test]
fn a_report_tells_every_trial_and_counts_those_that_never_got_to_their_tests() {
    let result = "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n";
    let good = judge_tests(&boot(0, 0, result));
    let smoke = |count| {
        Verdict::of_smoke(Smoke {
            refused: None,
            alerts: vec!["a".to_owned(), "b".to_owned()],
            left_out: [("file_open_missed".to_owned(), 3)].into(),
            attached: vec!["exec".to_owned(), "exit".to_owned()],
            absent: vec!["old".to_owned()],
            verified: [("exec".to_owned(), count)].into(),
        })
    };
    let dead = Row {
        release: None,
        boot: None,
        took: None,
        ..row(
            Part::Tests,
            Some(Tier::Lsm),
            STOCK,
            Verdict {
                counts: crate::libtest::Counts {
                    failed: 1,
                    ..Default::default()
                },
                failure: Some("no end | within 180 s\n  console: x".to_owned()),
                ..Verdict::default()
            },
        )
    };
    let no_btf = variant("no-btf");
    let report = VmReport {
        rows: vec![
            row(Part::Tests, None, STOCK, good),
            row(Part::Smoke, Some(Tier::Lsm), STOCK, smoke(7)),
            row(Part::Smoke, Some(Tier::Lsm), no_btf, smoke(9)),
            dead,
        ],
    };
    assert_eq!(
        report.to_string(),
        "kernel 6.1, kernel tests: passed, 2 passed, 0 failed, 1 skipped \
         (Linux 6.1.0-test under KVM)\n\
         kernel 6.1, tier lsm, smoke: passed, 2 probes; no hook for old; alerts a, b; \
         left out by the kernel: file_open_missed 3 (Linux 6.1.0-test under KVM)\n\
         kernel 6.1, no-btf, tier lsm, smoke: passed, 2 probes; no hook for old; alerts a, b; \
         left out by the kernel: file_open_missed 3 (Linux 6.1.0-test under KVM)\n\
         kernel 6.1, tier lsm, kernel tests: FAILED\n  FAILED: no end | within 180 s\n  console: x\n\
         4 passed, 1 failed, 1 skipped"
    );
    let error = report.verdict().unwrap_err().to_string();
    assert_eq!(
        error,
        "kernels that did not pass: kernel 6.1, tier lsm, kernel tests"
    );
    assert_eq!(
        report.table(),
        "| kernel | release | variant | tier | what | result | seconds |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n\
         | 6.1 | 6.1.0-test | stock |  | kernel tests | passed: 2 passed, 0 failed, 1 skipped | 9 |\n\
         | 6.1 | 6.1.0-test | stock | lsm | smoke | passed: 2 probes; no hook for old; alerts a, b; \
         left out by the kernel: file_open_missed 3 | 9 |\n\
         | 6.1 | 6.1.0-test | no-btf | lsm | smoke | passed: 2 probes; no hook for old; alerts a, b; \
         left out by the kernel: file_open_missed 3 | 9 |\n\
         | 6.1 |  | stock | lsm | kernel tests | **failed**: no end \\| within 180 s |  |\n"
    );
    assert_eq!(
        report.figures().to_string(),
        "program\ttier\tkernel\tinstructions\nexec\tlsm\t6.1\t7\n",
        "figures are of the plain kernel"
    );
    assert!(report.nowhere().is_empty(), "one kernel is no proof");
}

#[test]
fn a_table_is_renewed_row_by_row() {
    let old = "| kernel | release | variant | tier | what | result | seconds |\n| --- |\n\
               | 5.10 | a | stock | lsm | smoke | **failed**: x | 1 |\n\
               | 6.1 | b | stock | lsm | smoke | passed: y | 2 |";
    let new = "| kernel | release | variant | tier | what | result | seconds |\n| --- |\n\
               | 5.10 | c | stock | lsm | smoke | passed: z | 3 |\n\
               | 5.10 | c | stock | tracepoint | smoke | passed: z | 4 |\n";
    assert_eq!(
        report::renewed(old, new),
        "| kernel | release | variant | tier | what | result | seconds |\n| --- |\n\
         | 5.10 | c | stock | lsm | smoke | passed: z | 3 |\n\
         | 6.1 | b | stock | lsm | smoke | passed: y | 2 |\n\
         | 5.10 | c | stock | tracepoint | smoke | passed: z | 4 |"
    );
}

#[test]
fn a_probe_that_no_kernel_has_is_told() {
    let smoke = |kernel, attached: &[&str], absent: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let verdict = Verdict {
            attached: owned(attached),
            absent: owned(absent),
            ..Verdict::default()
        };
        let mut row = row(Part::Smoke, None, STOCK, verdict);
        row.trial.kernel = kernel;
        row
    };
    let report = VmReport {
        rows: vec![
            smoke(kernels::DEFAULT, &["exec"], &["new", "misnamed"]),
            smoke(kernels::NEWEST, &["exec", "new"], &["misnamed"]),
        ],
    };
    assert_eq!(
        report.nowhere().into_iter().collect::<Vec<_>>(),
        ["misnamed"]
    );
}

fn planned(args: &VmArgs, chooses_tier: bool) -> anyhow::Result<Vec<Trial>> {
    let kernels = if args.all {
        select(&args.kernel, &kernels::ALL)
    } else {
        select(&args.kernel, &[kernels::DEFAULT])
    };
    plan(args, &kernels, chooses_tier)
}

#[test]
fn one_run_is_for_one_processor() {
    let of = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        arch_of(&select(&names, &[]))
    };
    assert_eq!(of(&["all"]).unwrap().name, "x86_64");
    assert_eq!(of(&["6.12-arm64"]).unwrap().name, "aarch64");
    let error = of(&["6.1", "6.12-arm64"]).unwrap_err().to_string();
    assert!(error.contains("6.12-arm64"), "{error}");
}

#[test]
fn a_matrix_asks_everything_of_a_plain_kernel_and_of_a_variant_what_it_is_for() {
    let args = parse(&["--all", "--kernel", "5.10", "--kernel", "sid"]).unwrap();
    let trials = planned(&args, true).unwrap();
    let of = |name: &str, kernel: &str| {
        let mine = trials
            .iter()
            .filter(|trial| trial.variant.name == name && trial.kernel.name == kernel);
        mine.map(|trial| (trial.part, trial.tier))
            .collect::<Vec<_>>()
    };
    let (lsm, tracepoint) = (Some(Tier::Lsm), Some(Tier::Tracepoint));
    for kernel in ["5.10", "newest"] {
        assert_eq!(
            of("stock", kernel),
            [
                (Part::Smoke, lsm),
                (Part::Smoke, tracepoint),
                (Part::Tests, lsm),
                (Part::Tests, tracepoint)
            ]
        );
        assert_eq!(
            of("no-btf", kernel),
            [(Part::Smoke, lsm), (Part::Smoke, tracepoint)]
        );
        assert_eq!(
            of("lockdown-confidentiality", kernel),
            [(Part::Smoke, None)]
        );
    }
    assert_eq!(of("stock", "6.1"), []);
    let whole = planned(&parse(&["--all"]).unwrap(), true).unwrap();
    assert_eq!(whole.len(), 4 * (4 + 3 * 2 + 1));
    let untold = planned(&parse(&["--all"]).unwrap(), false).unwrap();
    assert!(untold.iter().all(|trial| trial.tier.is_none()));
}

#[test]
fn a_tier_is_passed_on_only_where_there_is_such_an_option() {
    let tiers_of = |words: &[&str], chooses| {
        let trials = planned(&parse(words).unwrap(), chooses)?;
        anyhow::Ok(trials.iter().map(|trial| trial.tier).collect::<Vec<_>>())
    };
    let (lsm, tracepoint) = (Some(Tier::Lsm), Some(Tier::Tracepoint));
    assert_eq!(tiers_of(&[], true).unwrap(), [None]);
    assert_eq!(tiers_of(&["--tier", "lsm"], true).unwrap(), [lsm]);
    assert_eq!(tiers_of(&["--smoke"], true).unwrap(), [lsm, tracepoint]);
    assert_eq!(tiers_of(&["--smoke"], false).unwrap(), [None]);
    assert_eq!(
        tiers_of(&["--smoke", "--tier=auto"], true).unwrap(),
        [Some(Tier::Auto)]
    );
    let error = tiers_of(&["--tier", "lsm"], false).unwrap_err().to_string();
    assert!(error.contains("has no option --tier"), "{error}");
    for words in [
        &["--all", "--smoke"][..],
        &["--record"],
        &["--smoke", "--", "ls"],
    ] {
        assert!(parse(words).is_err(), "{words:?}");
    }
}

#[test]
fn problems_name_the_stage() {
    let limit = Duration::from_secs(180);
    let up = Transcript {
        release: Some("6.1".to_owned()),
        ..Transcript::default()
    };
    let exited = |code: i32| Ended::Exited(ExitStatus::from_raw(code << 8));
    let rows = [
        (
            problem(&Ended::TimedOut, &Transcript::default(), limit),
            "no end within 180 s, before its userland was up",
        ),
        (
            problem(&exited(0), &up, limit),
            "the guest went down after 0 finished commands: a panic, or a command that powered it \
             off",
        ),
        (
            problem(&exited(1), &Transcript::default(), limit),
            "QEMU failed before its userland was up: exit status: 1",
        ),
    ];
    for (got, expected) in rows {
        assert_eq!(got, expected);
    }
    // Only what cannot be the fault of anything that we run is tried again.
    let down = Transcript::default();
    assert!(never_up(&exited(0), &down));
    assert!(!never_up(&exited(0), &up) && !never_up(&exited(1), &down));
    assert!(!never_up(&Ended::TimedOut, &down));
}

#[test]
fn executables_are_found_in_cargos_messages() {
    let messages = r#"
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"tracer"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"tracer"},"executable":"/t/tracer"}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"kernel"},"executable":"/t/kernel-1"}
{"reason":"build-finished","success":true}
"#;
    let found = |kind, name| executable(messages, kind, name).ok();
    assert_eq!(found("bin", "tracer"), Some("/t/tracer".into()));
    assert_eq!(found("test", "kernel"), Some("/t/kernel-1".into()));
    assert_eq!(found("test", "e2e"), None);
}

#[test]
fn the_guests_root_holds_its_programs() {
    let file = |path: &str, content| File {
        path: path.to_owned(),
        content,
    };
    let files = [
        file("/bin/busybox", Content::Program(b"box".to_vec())),
        File::text("/root/p", "pro"),
        File::link("/bin/sh", "/usr/bin/dash"),
    ];
    let image = root(b"#!", &files).unwrap();
    let mut archive = Vec::new();
    image.write_to(&mut archive).unwrap();
    for part in [
        "init\0",
        "bin/busybox\0",
        "root/p\0",
        "dev/console\0",
        "pro",
        "box",
        "bin/sh\0",
        "/usr/bin/dash",
    ] {
        assert!(
            archive.windows(part.len()).any(|w| w == part.as_bytes()),
            "{part:?}"
        );
    }
    let twice = [File::text("/root/p", ""), File::text("/root/p", "")];
    assert!(root(b"#!", &twice).is_err());
}
