//! The `tracer` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    tracer::cli::main()
}
