//! Files that go into a guest: texts, static programs, and programs of this host with their
//! libraries.
//!
//! Libraries are found by asking the program's own loader, which runs nothing of the program, and
//! keep the paths at which the loader found them. A program that would not start in the guest is
//! refused here, where the reason can still be told.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// A file for the guest.
pub(crate) struct File {
    /// Where the guest has it.
    pub(super) path: String,
    pub(super) content: Content,
}

/// What a file is.
pub(super) enum Content {
    Program(Vec<u8>),
    Text(String),
    /// A symbolic link to another path of the guest.
    Link(String),
}

impl File {
    /// A file that everybody may read.
    pub(crate) fn text(path: &str, text: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            content: Content::Text(text.into()),
        }
    }

    /// A symbolic link.
    pub(crate) fn link(path: &str, target: &str) -> Self {
        Self {
            path: path.to_owned(),
            content: Content::Link(target.to_owned()),
        }
    }

    /// Reads a program of the host, which must be one that a guest without libraries can run.
    pub(super) fn program(host: &Path, path: String) -> anyhow::Result<Self> {
        let bytes = read(host)?;
        if interpreter(&bytes).is_some() {
            bail!(
                "{} is dynamically linked and the guest has no libraries: link it statically \
                 (RUSTFLAGS=-Ctarget-feature=+crt-static)",
                host.display()
            );
        }
        Ok(Self {
            path,
            content: Content::Program(bytes),
        })
    }

    /// Reads dynamically linked programs of the host, with the loader and the libraries that they
    /// name; all at their paths on the host. What a program opens by itself later is not in it.
    pub(crate) fn with_libraries(programs: &[PathBuf]) -> anyhow::Result<Vec<Self>> {
        let mut paths = BTreeSet::new();
        for program in programs {
            let bytes = read(program)?;
            let loader = interpreter(&bytes).with_context(|| {
                format!("{} is not a dynamically linked program", program.display())
            })?;
            let path = program
                .to_str()
                .with_context(|| format!("{} is no text", program.display()))?;
            paths.insert(path.to_owned());
            paths.extend(libraries(Path::new(OsStr::from_bytes(loader)), program)?);
        }
        paths
            .into_iter()
            .map(|path| {
                let content = Content::Program(read(Path::new(&path))?);
                Ok(Self { path, content })
            })
            .collect()
    }
}

fn read(host: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(host).with_context(|| format!("reading {}", host.display()))
}

/// Asks a program's loader what it would load, itself included.
fn libraries(loader: &Path, program: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new(loader)
        .arg("--list")
        .arg(program)
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("LD_PRELOAD")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", loader.display()))?;
    let asking = || {
        format!(
            "asking {} for the libraries of {}",
            loader.display(),
            program.display()
        )
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(anyhow::anyhow!("{}: {}", output.status, said.trim_end())).with_context(asking);
    }
    let list = String::from_utf8(output.stdout).with_context(asking)?;
    parse_list(&list).with_context(asking)
}

/// The paths in what `ld.so --list` prints: lines of `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)`
/// for the loader. The kernel's own library has a name without a path.
fn parse_list(list: &str) -> anyhow::Result<Vec<String>> {
    let mut paths = Vec::new();
    for line in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let place = line.split_once(" => ").map_or(line, |(_, place)| place);
        let path = place.rsplit_once(" (").map_or(place, |(path, _)| path);
        if path.starts_with('/') {
            paths.push(path.to_owned());
        } else if !path.starts_with("linux-vdso.") {
            bail!("`{line}` names no file");
        }
    }
    Ok(paths)
}

/// The loader that an ELF program names: one that needs libraries. Anything else (a static program,
/// a script) has none.
fn interpreter(bytes: &[u8]) -> Option<&[u8]> {
    /// Type of the program header that names the loader.
    const PT_INTERP: u32 = 3;
    // The layout of 64-bit little-endian ELF, see elf(5).
    let word = |at: usize| -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let half = |at: usize| -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(2)?)?;
        Some(usize::from(u16::from_le_bytes(bytes.try_into().ok()?)))
    };
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    // Offsets have 64 bits; files whose headers lie beyond 4 GiB are none of ours.
    let headers = word(32)?;
    let (size, count) = (half(54)?, half(56)?);
    let header = (0..count)
        .filter_map(|index| headers.checked_add(size.checked_mul(index)?))
        .find(|&at| word(at) == usize::try_from(PT_INTERP).ok())?;
    let from = word(header.checked_add(8)?)?;
    let length = word(header.checked_add(32)?)?;
    let name = bytes.get(from..from.checked_add(length)?)?;
    Some(name.strip_suffix(b"\0").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file of a header and program headers of these types, each of which names the whole of
    /// the file's last bytes, `name`.
    fn elf(kinds: &[u32], name: &str) -> Vec<u8> {
        let end = 64 + 56 * kinds.len();
        let mut bytes = vec![0; end];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = u8::try_from(kinds.len()).unwrap();
        for (index, kind) in kinds.iter().enumerate() {
            let at = 64 + 56 * index;
            let (from, length) = (end.to_le_bytes(), (name.len() + 1).to_le_bytes());
            bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
            bytes[at + 8..at + 16].copy_from_slice(&from);
            bytes[at + 32..at + 40].copy_from_slice(&length);
        }
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes
    }

    #[test]
    fn programs_that_need_a_loader_are_told_apart() {
        assert_eq!(interpreter(&elf(&[6, 3, 1], "/l.so")), Some(&b"/l.so"[..]));
        assert_eq!(interpreter(&elf(&[6, 1, 2], "/l.so")), None);
        assert_eq!(interpreter(b"#!/bin/sh\n"), None);
        assert_eq!(interpreter(b""), None);
        let whole = elf(&[1, 3], "/l.so");
        for length in 0..whole.len() {
            // No bytes, however cut off, are more than an answer.
            interpreter(&whole[..length]);
        }
        let mut wild = elf(&[3], "/l.so");
        wild[32..40].fill(0xff);
        assert_eq!(interpreter(&wild), None);
    }

    #[test]
    fn a_program_that_cannot_run_in_a_guest_is_refused() {
        let host = std::env::temp_dir().join(format!("xtask-program-{}", std::process::id()));
        fs::write(&host, "#!/bin/sh\n").unwrap();
        let script = File::program(&host, "/root/p".to_owned()).unwrap();
        assert!(matches!(script.content, Content::Program(bytes) if bytes == b"#!/bin/sh\n"));
        let error = File::with_libraries(std::slice::from_ref(&host))
            .err()
            .unwrap();
        assert!(error.to_string().contains("not a dynamically"), "{error}");
        fs::write(&host, elf(&[3], "/lib/ld.so")).unwrap();
        let error = File::program(&host, "/root/p".to_owned()).err().unwrap();
        assert!(error.to_string().contains("dynamically linked"), "{error}");
        fs::remove_file(&host).unwrap();
        let error = File::program(&host, "/root/p".to_owned()).err().unwrap();
        assert!(error.to_string().contains("reading"), "{error}");
    }

    #[test]
    fn every_line_of_the_loaders_list_is_a_file_or_an_error() {
        let list = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f7d)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f7e)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(parse_list(list).unwrap(), expected);
        let error = parse_list("\tlibx.so.1 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libx.so.1"), "{error}");
    }

    #[test]
    fn a_real_programs_libraries_come_along() {
        let shell = fs::canonicalize("/bin/sh").unwrap();
        let files = File::with_libraries(std::slice::from_ref(&shell)).unwrap();
        let has = |part: &str| files.iter().any(|file| file.path.contains(part));
        assert!(has(shell.to_str().unwrap()) && has("libc.so"));
    }
}
