//! The build language of this repository.

mod vm;

use clap::{Parser, Subcommand};

/// The build language of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Vm(vm::VmArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Vm(args) => vm::run(args),
    }
}
