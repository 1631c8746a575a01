//! What the kernel's verifier has to look at to accept each program, kernel by kernel.
//!
//! The verifier walks every path of a program and gives up at a million instructions, and it walks
//! another number of them on each kernel. So the figures are tracked in `docs/verifier.tsv`: a change
//! that makes a program much dearer is told when it is made, and not by a kernel that refuses it.
//! Nothing is measured here; a kernel that does not tell (before 5.16) has no figures.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::host;

/// The tracked figures, relative to the top folder.
pub(crate) const FILE: &str = "docs/verifier.tsv";

/// What the file begins with.
const HEAD: &str = "program\ttier\tkernel\tinstructions";

/// A rise of more than this part, in percent, is told.
const TOLERANCE: u64 = 10;

/// What a figure is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) program: String,
    pub(crate) tier: String,
    pub(crate) kernel: String,
}

/// Instructions by program, tier and kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures(BTreeMap<Key, u64>);

/// A program that became dearer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rise {
    key: Key,
    from: u64,
    to: u64,
}

impl fmt::Display for Rise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rise {
            key:
                Key {
                    program,
                    tier,
                    kernel,
                },
            from,
            to,
        } = self;
        write!(
            f,
            "the verifier of kernel {kernel} looks at {to} instructions of {program} (tier {tier}), \
             {from} before: more than {TOLERANCE} % up"
        )
    }
}

impl Figures {
    /// The tracked figures; none where the file is not there.
    pub(crate) fn tracked() -> Result<Self> {
        let path = path();
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Makes these the tracked figures.
    pub(crate) fn track(&self) -> Result<()> {
        let path = path();
        fs::write(&path, self.to_string())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Adds a figure.
    pub(crate) fn insert(&mut self, key: Key, count: u64) {
        self.0.insert(key, count);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn parse(text: &str) -> Result<Self> {
        let mut figures = Self::default();
        let mut lines = (1..).zip(text.lines());
        if lines.next().map(|(_, head)| head) != Some(HEAD) {
            bail!("{FILE}:1: the first line is not `{HEAD}`");
        }
        for (number, line) in lines {
            let wrong = || {
                format!(
                    "{FILE}:{number}: `{line}` is not program, tier, kernel and a number with tabs \
                     between: record it anew with `cargo xtask vm --all --record`"
                )
            };
            let cells: Vec<_> = line.split('\t').collect();
            let [program, tier, kernel, count] = cells.as_slice() else {
                bail!(wrong());
            };
            let count = count.parse().with_context(wrong)?;
            let key = Key {
                program: (*program).to_owned(),
                tier: (*tier).to_owned(),
                kernel: (*kernel).to_owned(),
            };
            if figures.0.insert(key, count).is_some() {
                bail!("{}: it is there twice", wrong());
            }
        }
        Ok(figures)
    }

    /// These figures with newer ones. A kernel and tier that were measured anew lose the programs
    /// that are no more.
    pub(crate) fn updated(mut self, new: Self) -> Self {
        let measured: BTreeSet<_> = new
            .0
            .keys()
            .map(|key| (key.tier.clone(), key.kernel.clone()))
            .collect();
        self.0
            .retain(|key, _| !measured.contains(&(key.tier.clone(), key.kernel.clone())));
        self.0.extend(new.0);
        self
    }

    /// What is dearer in `new` than here.
    pub(crate) fn rises(&self, new: &Self) -> Vec<Rise> {
        let mut rises = Vec::new();
        for (key, &to) in &new.0 {
            let Some(&from) = self.0.get(key) else {
                continue;
            };
            let allowed = u128::from(from) * u128::from(100 + TOLERANCE);
            if u128::from(to) * 100 > allowed {
                rises.push(Rise {
                    key: key.clone(),
                    from,
                    to,
                });
            }
        }
        rises
    }

    /// The table, in Markdown: a line for each program and tier, a column for each of `kernels`.
    pub(crate) fn table(&self, kernels: &[&str]) -> String {
        if self.is_empty() {
            return "No figures are recorded.".to_owned();
        }
        let mut table = format!("| program | tier | {} |\n", kernels.join(" | "));
        table.push_str(&format!(
            "| --- | --- |{}\n",
            " ---: |".repeat(kernels.len())
        ));
        let programs: BTreeSet<_> = self.0.keys().map(|key| (&key.program, &key.tier)).collect();
        for (program, tier) in programs {
            table.push_str(&format!("| `{program}` | {tier} |"));
            for kernel in kernels {
                let key = Key {
                    program: program.clone(),
                    tier: tier.clone(),
                    kernel: (*kernel).to_owned(),
                };
                let count = self.0.get(&key);
                table.push_str(
                    &count.map_or_else(|| " |".to_owned(), |count| format!(" {count} |")),
                );
            }
            table.push('\n');
        }
        table
    }
}

/// As the file has them.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}")?;
        for (
            Key {
                program,
                tier,
                kernel,
            },
            count,
        ) in &self.0
        {
            writeln!(f, "{program}\t{tier}\t{kernel}\t{count}")?;
        }
        Ok(())
    }
}

fn path() -> PathBuf {
    host::repository().join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rows: &[(&str, &str, &str, u64)]) -> Figures {
        let mut figures = Figures::default();
        for (program, tier, kernel, count) in rows {
            let key = Key {
                program: (*program).to_owned(),
                tier: (*tier).to_owned(),
                kernel: (*kernel).to_owned(),
            };
            figures.insert(key, *count);
        }
        figures
    }

    #[test]
    fn what_is_written_can_be_read() {
        let some = figures(&[
            ("exec", "lsm", "6.1", 9000),
            ("exec", "tracepoint", "5.10", 1),
        ]);
        assert_eq!(Figures::parse(&some.to_string()).unwrap(), some);
        assert_eq!(
            Figures::parse(&Figures::default().to_string()).unwrap(),
            Figures::default()
        );
    }

    #[test]
    fn a_file_that_is_damaged_is_an_error_with_its_line() {
        let rows = [
            ("", ":1:"),
            ("program\ttier\n", ":1:"),
            ("exec\tlsm\t6.1\n", ":2:"),
            ("exec\tlsm\t6.1\tmany\n", ":2:"),
            ("exec\tlsm\t6.1\t1\nexec\tlsm\t6.1\t2\n", ":3:"),
        ];
        for (text, expected) in rows {
            let text = if text.starts_with("exec") {
                format!("{HEAD}\n{text}")
            } else {
                text.into()
            };
            let error = format!("{:#}", Figures::parse(&text).unwrap_err());
            assert!(
                error.contains(FILE) && error.contains(expected),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn only_a_rise_of_more_than_a_tenth_is_told() {
        let old = figures(&[("a", "lsm", "6.1", 1000), ("b", "lsm", "6.1", 1000)]);
        let new = figures(&[
            ("a", "lsm", "6.1", 1100),
            ("b", "lsm", "6.1", 1101),
            ("new", "lsm", "6.1", 900_000),
            ("a", "lsm", "6.12", 5000),
        ]);
        let rises = old.rises(&new);
        let told: Vec<_> = rises
            .iter()
            .map(|rise| (rise.key.program.as_str(), rise.to))
            .collect();
        assert_eq!(told, [("b", 1101)]);
        assert!(rises[0].to_string().contains("1101 instructions of b"));
        assert_eq!(old.rises(&old), []);
        assert_eq!(new.rises(&Figures::default()), []);
    }

    #[test]
    fn a_kernel_measured_anew_replaces_its_figures_and_no_others() {
        let old = figures(&[
            ("a", "lsm", "6.1", 1),
            ("gone", "lsm", "6.1", 2),
            ("a", "tracepoint", "6.1", 3),
            ("a", "lsm", "6.12", 4),
        ]);
        let new = figures(&[("a", "lsm", "6.1", 10)]);
        let expected = figures(&[
            ("a", "lsm", "6.1", 10),
            ("a", "tracepoint", "6.1", 3),
            ("a", "lsm", "6.12", 4),
        ]);
        assert_eq!(old.clone().updated(new), expected);
        assert_eq!(
            old.clone().updated(Figures::default()),
            old,
            "nothing told, nothing lost"
        );
    }

    #[test]
    fn the_table_has_a_column_for_every_kernel() {
        let some = figures(&[
            ("exec", "lsm", "6.1", 9000),
            ("exec", "lsm", "newest", 9500),
        ]);
        assert_eq!(
            some.table(&["5.10", "6.1", "newest"]),
            "| program | tier | 5.10 | 6.1 | newest |\n\
             | --- | --- | ---: | ---: | ---: |\n\
             | `exec` | lsm | | 9000 | 9500 |\n"
        );
        assert_eq!(
            Figures::default().table(&["6.1"]),
            "No figures are recorded."
        );
    }
}
