//! Each hook on the kernel that this runs on: do something, wait for the record, hold every field
//! against what the kernel says elsewhere.
//!
//! Needs root and a kernel that takes the probes; where they are missing each test says `SKIPPED`
//! and why. Refuses to guess: a probe that a kernel should take and does not is a failure.
//!
//! Not a libtest binary: the tests fork, and a program that forks should have one thread. The
//! options and the output are libtest's, so that whoever runs tests need not know. The program is
//! also its own helper: with an `argv[0]` of `helper-ACTION` it is what the tests execute, so that
//! they need no program of the host.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "these are tests: a panic is how they fail"
)]

mod anyone;
mod arguments;
mod change;
mod child;
mod directory;
mod evasion;
mod exec;
mod exit;
mod facts;
mod failed;
mod fork;
mod helper;
mod image;
mod ledger;
mod listen;
mod loss;
mod net;
mod network;
mod open;
mod privilege;
mod race;
mod rename;
mod resolved;
mod reuse;
mod runner;
mod stage;
mod stdio;
mod storm;
mod sys;
mod trace;
mod uring;
mod uring_ring;
mod use_of_files;
mod watch;
mod written;

use std::process::ExitCode;

use crate::stage::Test;

fn main() -> ExitCode {
    if let Some(action) = helper::action() {
        return helper::run(&action);
    }
    let tests: [&[Test]; 25] = [
        fork::TESTS,
        exec::TESTS,
        arguments::TESTS,
        stdio::TESTS,
        exit::TESTS,
        open::TESTS,
        rename::TESTS,
        resolved::TESTS,
        reuse::TESTS,
        change::TESTS,
        use_of_files::TESTS,
        anyone::TESTS,
        race::TESTS,
        directory::TESTS,
        uring::TESTS,
        listen::TESTS,
        network::TESTS,
        loss::TESTS,
        ledger::TESTS,
        failed::TESTS,
        image::TESTS,
        privilege::TESTS,
        trace::TESTS,
        written::TESTS,
        evasion::TESTS,
    ];
    runner::run(tests.into_iter().flatten().chain(storm::TESTS))
}
