//! Invariants of `Cargo.toml`: who may depend on whom.

use super::Violation;

/// Checks one manifest.
pub(super) fn check(path: &str, text: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut section = "";
    for (index, line) in text.lines().enumerate() {
        let code = line.split('#').next().unwrap_or_default().trim();
        if let Some(header) = code.strip_prefix('[') {
            section = header.trim_matches(['[', ']']);
        }
        if let Some((what, remedy)) = broken(path, section, code) {
            let (file, what) = (path.to_owned(), what.to_owned());
            violations.push(Violation {
                file,
                line: index + 1,
                what,
                remedy: remedy.to_owned(),
            });
        }
    }
    violations
}

/// What a line of a manifest breaks, and the remedy.
fn broken(path: &str, section: &str, code: &str) -> Option<(&'static str, &'static str)> {
    let dependencies = section.ends_with("dependencies") || section.contains("dependencies.");
    // `[dependencies.name]` says it in the header itself.
    let entry = !code.is_empty() && (!code.starts_with('[') || section.contains("dependencies."));
    if path == "tracer-common/Cargo.toml" && entry {
        if dependencies {
            return Some((
                "tracer-common has a dependency",
                "remove it: both sides compile exactly this code, in the kernel too",
            ));
        }
        if section == "features" {
            return Some((
                "tracer-common has a feature",
                "remove it: the contract has one form",
            ));
        }
    }
    let names = |crate_name: &str| dependencies && entry && code.contains(crate_name);
    let sides_meet = (path == "tracer-ebpf/Cargo.toml" && names("tracer-user"))
        || (path == "tracer-user/Cargo.toml" && names("tracer-ebpf"));
    sides_meet.then_some((
        "tracer-ebpf and tracer-user see each other",
        "remove the dependency: what both need belongs into tracer-common",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_depends_on_nothing_and_the_sides_never_meet() {
        let (common, user, ebpf) = (
            "tracer-common/Cargo.toml",
            "tracer-user/Cargo.toml",
            "tracer-ebpf/Cargo.toml",
        );
        #[rustfmt::skip]
        let rows: &[(&str, &str, &[usize])] = &[
            (common, "[package]\nname = \"tracer-common\"\n# None.\n[dependencies]\n\n[lints]\nworkspace = true\n", &[]),
            (common, "[dependencies]\nserde = \"1\"", &[2]),
            (common, "[dependencies.serde]\nversion = \"1\"", &[1, 2]),
            (common, "[target.'cfg(unix)'.dependencies]\nlibc = \"1\"", &[2]),
            (common, "[dev-dependencies]\nlibc = \"1\"", &[2]),
            (common, "[features]\nstd = []", &[2]),
            (user, "[dependencies]\ntracer-common = { path = \"../tracer-common\" }", &[]),
            (user, "[build-dependencies]\nx = { path = \"../tracer-ebpf\" }", &[2]),
            (user, "# built from tracer-ebpf\n[package]\ndescription = \"beside tracer-ebpf\"", &[]),
            (ebpf, "[dependencies]\ntracer-user = { path = \"../tracer-user\" }", &[2]),
            (ebpf, "[dependencies.tracer-user]", &[1]),
            ("xtask/Cargo.toml", "[dependencies]\ntracer-user = { path = \"../tracer-user\" }", &[]),
        ];
        for (path, text, lines) in rows {
            let found: Vec<usize> = check(path, text).iter().map(|found| found.line).collect();
            assert_eq!(found, *lines, "{path}: {text}");
        }
    }
}
