//! Packages of Debian's suites, this host's or another: fetched with apt itself (signatures, mirrors, proxies are its
//! business), but with lists, cache and package status of our own. Nothing on the host is installed, and its lists are
//! not touched.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// A suite of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    pub(crate) archive: Archive,
}

/// Debian's two archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Archive {
    Main,
    Security,
}

/// Debian 12.
pub(crate) const BOOKWORM: Suite = Suite {
    name: "bookworm",
    archive: Archive::Main,
};

/// Debian 13.
pub(crate) const TRIXIE: Suite = Suite {
    name: "trixie",
    archive: Archive::Main,
};

/// Debian's development suite: what the next release will bring.
pub(crate) const SID: Suite = Suite {
    name: "sid",
    archive: Archive::Main,
};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt, turned away from the host's state.
pub(crate) struct Apt {
    dir: PathBuf,
    config: PathBuf,
}

impl Apt {
    /// An apt that knows one suite for one architecture (as Debian calls it), with fresh lists. What it keeps
    /// is below `home`.
    pub(crate) fn open(home: &Path, suite: Suite, arch: &'static str) -> anyhow::Result<Self> {
        if !Path::new(KEYRING).is_file() {
            bail!("{KEYRING} is missing: install the package debian-archive-keyring");
        }
        let dir = home.join(format!("{}-{arch}", suite.name));
        for part in ["lists/partial", "archives/partial"] {
            let part = dir.join(part);
            fs::create_dir_all(&part).with_context(|| format!("creating {}", part.display()))?;
        }
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        write("status", "")?;
        write(
            "sources.list",
            &sources(suite, arch, &mirror(suite.archive)?),
        )?;
        write("apt.conf", &configuration(&dir, arch)?)?;
        let apt = Self {
            config: dir.join("apt.conf"),
            dir,
        };
        run(apt.command("apt-get").args(["--quiet", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // On the command line and not in APT_CONFIG, which the host's own configuration is read
        // after and so would override.
        command.arg("--config-file").arg(&self.config);
        command
    }

    /// What a package depends on, alternatives included.
    pub(crate) fn dependencies(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let shown = run(self
            .command("apt-cache")
            .args(["show", "--no-all-versions", package]))?;
        Ok(dependencies(&shown))
    }

    /// Downloads a package and moves one file or folder of it to `home`, as `name`. It is there whole or not at
    /// all, and nothing else stays.
    pub(crate) fn unpack(
        &self,
        package: &str,
        home: &Path,
        name: &str,
        find: impl FnOnce(&Path) -> anyhow::Result<PathBuf>,
    ) -> anyhow::Result<()> {
        let work = self.dir.join(format!("unpack-{}", std::process::id()));
        let moved = self.unpack_in(&work, package).and_then(|root| {
            let file = find(&root)?;
            fs::create_dir_all(home).with_context(|| format!("creating {}", home.display()))?;
            fs::write(home.join("package"), format!("{package}\n"))
                .with_context(|| format!("writing into {}", home.display()))?;
            fs::rename(&file, home.join(name))
                .with_context(|| format!("moving {} to {}", file.display(), home.display()))
        });
        let removed =
            fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()));
        moved.and(removed)
    }

    fn unpack_in(&self, work: &Path, package: &str) -> anyhow::Result<PathBuf> {
        let root = work.join("root");
        fs::create_dir_all(&root).with_context(|| format!("creating {}", root.display()))?;
        run(self
            .command("apt-get")
            .args(["--quiet", "download", package])
            .current_dir(work))?;
        let archive = files(work)?
            .into_iter()
            .find(|path| path.extension() == Some(OsStr::new("deb")))
            .with_context(|| format!("apt-get downloaded no {package}"))?;
        run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&root))?;
        Ok(root)
    }
}

/// What is in a folder, sorted.
pub(crate) fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let reading = || format!("reading {}", dir.display());
    let mut paths = fs::read_dir(dir)
        .with_context(reading)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(reading)?;
    paths.sort();
    Ok(paths)
}

/// `sources.list` with one suite.
fn sources(suite: Suite, arch: &str, mirror: &str) -> String {
    format!(
        "deb [arch={arch} target=Packages lang=none signed-by={KEYRING}] {mirror} {} main\n",
        suite.name
    )
}

/// apt's configuration: state and cache of its own, none of the host's sources and pins, and none of
/// the host's hooks. Proxies and the like stay as the host has them.
fn configuration(dir: &Path, arch: &str) -> anyhow::Result<String> {
    let Some(dir) = dir.to_str().filter(|dir| !dir.contains(['"', '\n'])) else {
        bail!("apt cannot work in {}: rename the folder", dir.display());
    };
    Ok(format!(
        r#"#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Architecture "{arch}";
#clear APT::Architectures;
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "";
Dir::State "{dir}";
Dir::State::lists "{dir}/lists";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}";
Dir::Cache::archives "{dir}/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "-";
Dir::Etc::preferences "-";
Dir::Etc::preferencesparts "-";
"#
    ))
}

/// The mirror that the host's own apt uses for this archive. A host that has never fetched its lists
/// is asked to, once.
fn mirror(archive: Archive) -> anyhow::Result<String> {
    let label = match archive {
        Archive::Main => "Debian",
        Archive::Security => "Debian-Security",
    };
    let known = || -> anyhow::Result<Option<String>> {
        let format = ["--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"];
        let targets = run(Command::new("apt-get").arg("indextargets").args(format))?;
        Ok(labelled(&targets, label).map(str::to_owned))
    };
    if let Some(mirror) = known()? {
        return Ok(mirror);
    }
    run(Command::new("apt-get").arg("update"))?;
    known()?.with_context(|| {
        format!(
            "apt has no HTTP source of {label} here: add one to its sources, or leave the kernels \
             out with --no-vm"
        )
    })
}

/// The first mirror reached over HTTP among `LABEL URI` lines.
fn labelled<'a>(targets: &'a str, label: &str) -> Option<&'a str> {
    targets
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(of, uri)| *of == label && uri.starts_with("http"))
        .map(|(_, uri)| uri)
}

/// Names in the `Depends` fields of what `apt-cache show` prints.
fn dependencies(shown: &str) -> Vec<String> {
    shown
        .lines()
        .filter_map(|line| line.strip_prefix("Depends: "))
        .flat_map(|depends| depends.split([',', '|']))
        .filter_map(|one| one.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// Runs a command; gives its standard output, or an error with what it said.
fn run(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .env("LC_ALL", "C.UTF-8")
        .output()
        .with_context(|| {
            format!("starting {program}: packages are fetched on Debian and Ubuntu")
        })?;
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        bail!(
            "{program} {}: {}\n{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_a_package() {
        let shown = "Package: linux-image-7.2.13+deb14-cloud-amd64\n\
             Depends: dracut | initramfs-tools (>= 0.120+deb8u2), linux-base-7.2.13 (= 7.2.13-1), \
             linux-binary-7.2.13+deb14-cloud-amd64 (= 7.2.13-1)\nRecommends: apparmor\n";
        assert_eq!(
            dependencies(shown),
            [
                "dracut",
                "initramfs-tools",
                "linux-base-7.2.13",
                "linux-binary-7.2.13+deb14-cloud-amd64"
            ]
        );
        assert_eq!(dependencies("Package: x\n"), Vec::<String>::new());
    }

    #[test]
    fn the_hosts_mirror_is_taken_by_its_label() {
        let targets = "Docker https://mirror.example/docker/\n\
             Debian cdrom://disc/\n\
             Debian http://mirror.example/debian/\n\
             Debian-Security https://mirror.example/security/\n";
        assert_eq!(
            labelled(targets, "Debian"),
            Some("http://mirror.example/debian/")
        );
        assert_eq!(
            labelled(targets, "Debian-Security"),
            Some("https://mirror.example/security/")
        );
        assert_eq!(labelled("", "Debian"), None);
        assert_eq!(labelled(" http://no.label/", "Debian"), None);
    }

    #[test]
    fn apt_is_told_about_one_suite_and_no_file_of_the_host() {
        assert_eq!(
            sources(BOOKWORM, "amd64", "http://mirror.example/debian"),
            "deb [arch=amd64 target=Packages lang=none \
             signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
             http://mirror.example/debian bookworm main\n"
        );
        let text = configuration(Path::new("/t"), "arm64").unwrap();
        assert!(
            text.contains("APT::Architectures { \"arm64\"; };"),
            "{text}"
        );
        for line in text.lines().filter(|line| line.starts_with("Dir::")) {
            let value = line.split('"').nth(1).unwrap();
            assert!(
                value.is_empty() || value == "-" || value.starts_with("/t"),
                "{line}"
            );
        }
        assert!(configuration(Path::new("/a\"b"), "amd64").is_err());
    }
}
