//! Tells the compiler where the eBPF object is that the agent carries inside.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-env-changed=TRACER_EBPF_OBJECT");
    let object = env::var_os("TRACER_EBPF_OBJECT").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/tracer-ebpf"),
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", object.display());
    let Ok(object) = object.canonicalize() else {
        println!(
            "cargo::error=no eBPF object at {}: run `cargo xtask build`",
            object.display()
        );
        return;
    };
    println!("cargo::rustc-env=TRACER_EBPF_OBJECT={}", object.display());
}
