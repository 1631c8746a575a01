//! What the test program does when a test executes it.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::ExitCode;

use crate::child::reap;
use crate::sys;

/// What to do, from the name that the program was started by: `helper-ACTION`. Started without a
/// name it is a helper too, or a test of just that would run all tests.
pub(crate) fn action() -> Option<Vec<u8>> {
    let Some(name) = std::env::args_os().next().filter(|name| !name.is_empty()) else {
        return Some(b"exit".to_vec());
    };
    let name = Path::new(&name)
        .file_name()
        .map(OsStr::to_owned)?
        .into_vec();
    name.strip_prefix(b"helper-").map(<[u8]>::to_vec)
}

/// Does it.
pub(crate) fn run(action: &[u8]) -> ExitCode {
    match action {
        b"exit" => ExitCode::SUCCESS,
        // Until somebody looked at us and sends a signal.
        b"pause" => loop {
            std::thread::park();
        },
        // A child that ends at once.
        b"fork" => {
            let pid = sys::fork().unwrap();
            if pid != 0 {
                reap(pid);
            }
            ExitCode::SUCCESS
        }
        other => {
            eprintln!("no such helper: {}", OsStr::from_bytes(other).display());
            ExitCode::from(2)
        }
    }
}
