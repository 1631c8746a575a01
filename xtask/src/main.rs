//! The build language of this repository: everything beyond plain `cargo` is a subcommand here.
//!
//! Each subcommand lives in a module of its own; this file only declares them, and the doc comments
//! are the help text. Nothing in the repository is built or tested by a shell script.

mod apt;
mod bench;
mod children;
mod demo;
mod ebpf;
mod host;
mod libtest;
mod reference;
mod run;
mod runtimes;
mod site;
mod test;
mod tidy;
mod toolchain;
mod verifier;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, runs and tests tracer.
///
/// Start with `cargo xtask demo`: it installs what is missing, builds the agent and shows two
/// alerts. Every command says what it is about to install, and only `run`, `demo`, `test` and
/// `setup` install anything.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    Setup(toolchain::Arguments),
    Build(ebpf::Arguments),
    Run(run::Arguments),
    Demo(demo::Arguments),
    Test(test::Arguments),
    Bench(bench::Arguments),
    Tidy(tidy::Arguments),
    Reference(reference::Arguments),
    Vm(vm::VmArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Task::Setup(arguments) => toolchain::main(&arguments),
        Task::Build(arguments) => ebpf::main(&arguments),
        Task::Run(arguments) => run::main(&arguments),
        Task::Demo(arguments) => demo::main(&arguments),
        Task::Test(arguments) => test::main(&arguments),
        Task::Bench(arguments) => bench::main(&arguments),
        Task::Tidy(arguments) => tidy::main(&arguments),
        Task::Reference(arguments) => reference::main(&arguments),
        Task::Vm(arguments) => vm::run(arguments).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
