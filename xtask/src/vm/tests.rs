//! The parts of a guest that need no emulator: selection, programs, reports.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use clap::Parser as _;

use super::guest::Outcome;
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
    let rows: [(&[&str], &[&str]); 4] = [
        (&[], &["6.1"]),
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
        let names: Vec<_> = select(&args.kernel).iter().map(|k| k.name).collect();
        assert_eq!(names, expected, "{words:?}");
        assert_eq!(args.timeout, 180);
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
        let report = judge(kernels::DEFAULT, &boot);
        assert_eq!(report.failure.as_deref(), failure);
    }
}

#[test]
fn a_report_counts_a_kernel_that_never_got_to_its_tests() {
    let good = judge(
        kernels::DEFAULT,
        &boot(
            0,
            0,
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n",
        ),
    );
    let dead = KernelReport {
        kernel: "newest",
        boot: String::new(),
        counts: Counts::default(),
        failure: Some("no end within 180 s".to_owned()),
    };
    let report = VmReport {
        kernels: vec![good, dead],
    };
    assert_eq!(
        report.to_string(),
        "kernel 6.1: 2 passed, 0 failed, 1 skipped (Linux 6.1.0-test under KVM, up in 2.5 s, done \
         in 9.0 s)\n\
         kernel newest: 0 passed, 0 failed, 0 skipped\n  FAILED: no end within 180 s\n\
         2 passed, 1 failed, 1 skipped"
    );
    let error = report.verdict().unwrap_err().to_string();
    assert_eq!(error, "kernels that did not pass: newest");
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
