//! Files of rules, from directories that the user names.
//!
//! A directory is read with those below it: regular files called `*.yml` or `*.yaml`. Names that begin with a dot are
//! passed over. Links are followed by the kernel, and only to what lies in the directory too (`RESOLVE_BENEATH`): so a
//! mounted ConfigMap, whose files are links through `..data`, is read, and no link adds what somebody else may write.
//! Bounded in files, bytes and depth. Refuses to pass over anything that may be meant as a rule: what cannot be read is
//! an error.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::detect::sigma::{Chosen, MAX_BYTES, MAX_FILES, MAX_TOTAL, RuleError, Source};
use crate::enrich::docroot::discover::jail::{read_limited, readable};

/// Directories below each other.
const MAX_DEPTH: usize = 16;
/// Names that are looked at, whatever they are.
const MAX_NAMES: usize = 50_000;

/// What files say.
#[derive(Debug, Default)]
pub struct Files {
    /// Their texts, in the order of their names.
    pub sources: Vec<Source>,
    /// What could not be read.
    pub errors: Vec<RuleError>,
    /// Another number where any file is another, has changed, or is there no more.
    pub print: u64,
}

/// Reads files, and directories of files.
#[must_use]
pub fn read(paths: &[PathBuf]) -> Files {
    look(paths, true)
}

/// The number that [`read`] would give, without reading.
#[must_use]
pub fn print(paths: &[PathBuf]) -> u64 {
    look(paths, false).print
}

/// The rules that a configuration asks for, and what is wrong with any of them.
pub struct Loaded {
    /// Those that can be used.
    pub chosen: Chosen,
    /// What is wrong, and what is not supported.
    pub errors: Vec<RuleError>,
    /// As in [`Files`].
    pub print: u64,
}

/// Reads the rules of directories, beside the pack, but for those that were turned off.
#[must_use]
pub fn load(directories: &[PathBuf], disabled: Vec<String>) -> Loaded {
    let Files {
        sources,
        mut errors,
        print,
    } = read(directories);
    let (chosen, wrong) = Chosen::new(sources, disabled);
    errors.extend(wrong);
    Loaded {
        chosen,
        errors,
        print,
    }
}

fn look(paths: &[PathBuf], reads: bool) -> Files {
    let mut walk = Walk {
        reads,
        files: Files::default(),
        hasher: DefaultHasher::new(),
        seen: HashSet::new(),
        names: 0,
        count: 0,
        bytes: 0,
    };
    for path in paths {
        if let Err(why) = walk.top(path) {
            walk.fail(path, &why.to_string());
        }
    }
    let Walk {
        mut files, hasher, ..
    } = walk;
    files.print = hasher.finish();
    files
}

struct Walk {
    reads: bool,
    files: Files,
    hasher: DefaultHasher,
    /// Directories, by device and inode: two links may lead to the same.
    seen: HashSet<(u64, u64)>,
    names: usize,
    count: usize,
    bytes: usize,
}

impl Walk {
    fn fail(&mut self, path: &Path, why: &str) {
        path.hash(&mut self.hasher);
        why.hash(&mut self.hasher);
        self.files.errors.push(RuleError {
            file: path.display().to_string(),
            line: 0,
            message: why.to_owned(),
            unsupported: false,
            lacks: String::new(),
        });
    }

    /// What the user named: links to it are the user's.
    fn top(&mut self, path: &Path) -> io::Result<()> {
        let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let stat = rustix::fs::fstat(&place)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            self.seen.insert(id(&stat));
            self.directory(&place, path, Path::new(""), 0);
            return Ok(());
        }
        let set = path.parent().unwrap_or(path);
        self.file(&place, &stat, path, set)
    }

    /// A directory `below` the one that the user named, which is `root` and called `top`.
    fn directory(&mut self, root: &OwnedFd, top: &Path, below: &Path, depth: usize) {
        let here = top.join(below);
        if depth > MAX_DEPTH {
            let why = format!("more than {MAX_DEPTH} directories below each other; move it up");
            return self.fail(&here, &why);
        }
        let mut names = match list(root, below, MAX_NAMES.saturating_sub(self.names)) {
            Ok(names) => names,
            Err(error) => return self.fail(&here, &format!("cannot be listed: {error}")),
        };
        self.names += names.len();
        // The order of names, whatever the file system's.
        names.sort();
        for name in names {
            let below = below.join(std::ffi::OsStr::from_bytes(&name));
            if let Err(why) = self.entry(root, top, &below, depth) {
                self.fail(&top.join(&below), &why.to_string());
            }
        }
    }

    fn entry(&mut self, root: &OwnedFd, top: &Path, below: &Path, depth: usize) -> io::Result<()> {
        let place = beneath(root, below, OFlags::PATH).map_err(|errno| match errno {
            Errno::XDEV | Errno::LOOP => {
                io::Error::other("a link that leads out of the directory; name its target instead")
            }
            other => other.into(),
        })?;
        let stat = rustix::fs::fstat(&place)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if self.seen.insert(id(&stat)) {
                self.directory(root, top, below, depth + 1);
            }
            return Ok(());
        }
        let is_rule = below
            .extension()
            .is_some_and(|end| end == "yml" || end == "yaml");
        if is_rule {
            self.file(&place, &stat, &top.join(below), top)?;
        }
        Ok(())
    }

    fn file(&mut self, place: &OwnedFd, stat: &Stat, path: &Path, set: &Path) -> io::Result<()> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("not a regular file"));
        }
        let times = (
            stat.st_mtime,
            stat.st_mtime_nsec,
            stat.st_ctime,
            stat.st_ctime_nsec,
        );
        (path, id(stat), stat.st_size, times).hash(&mut self.hasher);
        self.count += 1;
        if self.count > MAX_FILES {
            let why = format!("more than {MAX_FILES} files of rules; put several rules into one");
            return Err(io::Error::other(why));
        }
        if !self.reads {
            return Ok(());
        }
        let file: File = readable(place)?;
        let bytes = read_limited(file, MAX_BYTES)?;
        self.bytes += bytes.len();
        if self.bytes > MAX_TOTAL {
            let why = format!("the files of rules are longer than {MAX_TOTAL} bytes together");
            return Err(io::Error::other(why));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| io::Error::other("not UTF-8 text; save it as UTF-8"))?;
        let (set, path) = (set.display().to_string(), path.display().to_string());
        self.files.sources.push(Source::new(&set, path, &text));
        Ok(())
    }
}

#[expect(
    clippy::useless_conversion,
    reason = "their types differ by architecture"
)]
fn id(stat: &Stat) -> (u64, u64) {
    (stat.st_dev.into(), stat.st_ino.into())
}

fn beneath(root: &OwnedFd, below: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if below.as_os_str().is_empty() {
        Path::new(".")
    } else {
        below
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// The names of a directory that do not begin with a dot.
fn list(root: &OwnedFd, below: &Path, limit: usize) -> io::Result<Vec<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
    let mut names = Vec::new();
    for entry in Dir::new(beneath(root, below, flags)?)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name.starts_with(b".") {
            continue;
        }
        if names.len() >= limit {
            let why =
                format!("more than {MAX_NAMES} names; keep rules in a directory of their own");
            return Err(io::Error::other(why));
        }
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::CWD;
    use tempfile::TempDir;

    use super::*;

    fn names(files: &Files, home: &TempDir) -> Vec<String> {
        let home = format!("{}/", home.path().display());
        let of = |source: &Source| source.file.replace(&home, "");
        files.sources.iter().map(of).collect()
    }

    fn errors(files: &Files, home: &TempDir) -> Vec<String> {
        let home = format!("{}/", home.path().display());
        let texts = files.errors.iter().map(ToString::to_string);
        texts.map(|text| text.replace(&home, "")).collect()
    }

    /// The layout of a mounted ConfigMap, and a change of it as kubelet makes it.
    #[test]
    fn a_config_map_is_read_through_its_links() {
        let home = TempDir::new().unwrap();
        let dir = home.path().join("rules");
        for (version, text) in [("..1", "a: 1\n"), ("..2", "a: 2\n")] {
            fs::create_dir_all(dir.join(version).join("sub")).unwrap();
            fs::write(dir.join(version).join("a.yml"), text).unwrap();
            fs::write(dir.join(version).join("sub/b.yaml"), text).unwrap();
        }
        symlink("..1", dir.join("..data")).unwrap();
        symlink("..data/a.yml", dir.join("a.yml")).unwrap();
        symlink("..data/sub", dir.join("sub")).unwrap();
        let paths = [dir.clone()];
        let first = read(&paths);
        assert_eq!(names(&first, &home), ["rules/a.yml", "rules/sub/b.yaml"]);
        assert_eq!(errors(&first, &home), [""; 0]);
        assert_eq!(first.sources[0].text, "a: 1\n");
        assert_eq!(first.sources[1].ruleset, dir.display().to_string());
        assert_eq!(print(&paths), first.print);

        symlink("..2", dir.join("..next")).unwrap();
        fs::rename(dir.join("..next"), dir.join("..data")).unwrap();
        assert_ne!(print(&paths), first.print);
        assert_eq!(read(&paths).sources[0].text, "a: 2\n");
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_the_rest_is_read() {
        let home = TempDir::new().unwrap();
        let dir = home.path().join("rules");
        fs::create_dir_all(dir.join("deep")).unwrap();
        fs::write(home.path().join("outside.yml"), "x: 1\n").unwrap();
        symlink("../outside.yml", dir.join("out.yml")).unwrap();
        symlink(home.path().join("outside.yml"), dir.join("absolute.yml")).unwrap();
        symlink("nowhere.yml", dir.join("dangling.yml")).unwrap();
        symlink("..", dir.join("deep/up")).unwrap();
        symlink("loop", dir.join("loop")).unwrap();
        fs::write(dir.join("deep/good.yml"), "a: 1\n").unwrap();
        fs::write(dir.join("README.md"), "no rule\n").unwrap();
        fs::write(dir.join("latin.yml"), b"a: \xe9\n").unwrap();
        fs::write(dir.join("large.yml"), vec![b'#'; MAX_BYTES + 1]).unwrap();
        rustix::fs::mknodat(CWD, dir.join("fifo.yml"), FileType::Fifo, 0o600.into(), 0).unwrap();
        let files = read(&[dir, home.path().join("absent")]);
        assert_eq!(names(&files, &home), ["rules/deep/good.yml"]);
        let out = "a link that leads out of the directory; name its target instead";
        assert_eq!(
            errors(&files, &home),
            [
                format!("rules/absolute.yml: {out}"),
                "rules/dangling.yml: No such file or directory (os error 2)".to_owned(),
                "rules/fifo.yml: not a regular file".to_owned(),
                format!("rules/large.yml: longer than {MAX_BYTES} bytes"),
                "rules/latin.yml: not UTF-8 text; save it as UTF-8".to_owned(),
                format!("rules/loop: {out}"),
                format!("rules/out.yml: {out}"),
                "absent: No such file or directory (os error 2)".to_owned(),
            ]
        );
    }

    #[test]
    fn every_change_of_a_file_is_another_number() {
        let home = TempDir::new().unwrap();
        let paths = [home.path().to_owned()];
        let mut seen = HashSet::from([print(&paths)]);
        let file = home.path().join("a.yml");
        fs::write(&file, "a: 1\n").unwrap();
        assert!(seen.insert(print(&paths)));
        fs::write(&file, "a: 10\n").unwrap();
        assert!(seen.insert(print(&paths)));
        assert!(!seen.insert(print(&paths)));
        fs::rename(&file, home.path().join("b.yml")).unwrap();
        assert!(seen.insert(print(&paths)));
        fs::write(home.path().join("notes.txt"), "no rule").unwrap();
        assert!(!seen.insert(print(&paths)));
    }
}
