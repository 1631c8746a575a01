//! Runs the tests one after the other, with libtest's options and output.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use crate::stage::{Outcome, Skip, Stage, Test};

/// What was asked for.
#[derive(Default)]
struct Options {
    filters: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    list: bool,
}

/// Options of libtest that take a value and mean nothing here.
const WITH_VALUE: &[&str] = &["--test-threads", "--color", "--format", "--logfile", "-Z"];

fn options(mut words: impl Iterator<Item = String>) -> Options {
    let mut options = Options::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--exact" => options.exact = true,
            "--list" => options.list = true,
            "--skip" => options.skip.extend(words.next()),
            other if WITH_VALUE.contains(&other) => {
                words.next();
            }
            // Tests are always serial and never captured.
            other if other.starts_with('-') => {}
            _ => options.filters.push(word),
        }
    }
    options
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        let named = |filter: &String| {
            if self.exact {
                name == filter
            } else {
                name.contains(filter)
            }
        };
        (self.filters.is_empty() || self.filters.iter().any(named)) && !self.skip.iter().any(named)
    }
}

/// Runs the tests that the arguments name.
pub(crate) fn run<'a>(tests: impl Iterator<Item = &'a Test>) -> ExitCode {
    let options = options(std::env::args().skip(1));
    let (wanted, others): (Vec<_>, Vec<_>) = tests.partition(|test| options.wants(test.name));
    if options.list {
        for test in wanted {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }
    let began = Instant::now();
    println!("\nrunning {} tests", wanted.len());
    // Where a sensor that should load does not, every test fails.
    let mut stage = catch_unwind(Stage::set).map_err(drop);
    let mut failed = Vec::new();
    for test in &wanted {
        print!("test {} ... ", test.name);
        std::io::stdout().flush().unwrap();
        let began = Instant::now();
        match perform(test, &mut stage) {
            Ok(Ok(())) => println!("ok <{:.2}s>", began.elapsed().as_secs_f32()),
            Ok(Err(Skip(reason))) => println!("SKIPPED {}: {reason}", test.name),
            Err(()) => {
                println!("FAILED");
                failed.push(test.name);
            }
        }
    }
    // A panic in here is a failure of the tests, too.
    drop(stage);
    if !failed.is_empty() {
        println!("\nfailures:\n    {}", failed.join("\n    "));
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; \
         finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        wanted.len() - failed.len(),
        failed.len(),
        others.len(),
        began.elapsed().as_secs_f32()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(101)
    }
}

/// An error where the test panicked, or what it stands on.
fn perform(test: &Test, stage: &mut Result<Result<Stage, Skip>, ()>) -> Result<Outcome, ()> {
    match stage {
        Ok(Ok(stage)) => catch_unwind(AssertUnwindSafe(|| {
            stage.watch.forget();
            (test.run)(stage)
        }))
        .map_err(drop),
        Ok(Err(Skip(reason))) => Ok(Err(Skip(reason.clone()))),
        Err(()) => Err(()),
    }
}
