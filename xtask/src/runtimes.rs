//! Container runtimes of other suites for the end-to-end tests: Debian 12's containerd is not the one that clusters run.
//!
//! What was fetched is kept; delete `target/runtimes` to fetch newer ones.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::apt::{Apt, SID, Suite, TRIXIE};
use crate::host;

/// Suites whose containerd is tested: 1.7, and the newest.
const CONTAINERD: [Suite; 2] = [TRIXIE, SID];

/// Fetches what is not there yet, into `target/runtimes/containerd-SUITE/bin`.
pub(crate) fn fetch() -> Result<()> {
    for suite in CONTAINERD {
        let home = home(suite);
        if home.join("bin").is_dir() {
            continue;
        }
        eprintln!("fetching containerd of Debian {}", suite.name);
        let arch = if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            "arm64"
        };
        Apt::open(&host::target_directory().join("runtimes/apt"), suite, arch)?
            .unpack("containerd", &home, "bin", |root| Ok(root.join("usr/bin")))
            .with_context(|| format!("fetching containerd of Debian {}", suite.name))?;
    }
    Ok(())
}

fn home(suite: Suite) -> PathBuf {
    let name = format!("containerd-{}", suite.name);
    host::target_directory().join("runtimes").join(name)
}
