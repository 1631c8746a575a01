//! Finds the package that owns an executable, where dpkg or apk keep a database in the root directory of the
//! process. I/O: for the same threads as [`super::read`].
//!
//! The database is the word of whoever made that root, and is read like any hostile file: within the root,
//! regular files only, on no file system that a user's program answers for, everything bounded. What was not
//! read to its end makes the answer unknown, never "nobody". Diversions are not followed, and whether the
//! content is what the package came with is not asked: the hash tells what it is. rpm's database is not read.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufRead as _, BufReader, Read};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{ContentAsked, Owner, Package, PackageKind};
use crate::enrich::docroot::discover::jail::{Jail, State};
use crate::enrich::docroot::discover::{Entered, identity};

const DPKG: &str = "/var/lib/dpkg/info";
const DPKG_STATUS: &[u8] = b"/var/lib/dpkg/status";
const APK: [&[u8]; 2] = [b"/lib/apk/db/installed", b"/usr/lib/apk/db/installed"];

/// Directories that are the same as those of the name below `/usr` where these were merged.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Roots whose lists are remembered, and bytes of each.
const INDEXES: usize = 8;
const INDEX_BYTES: usize = 4 << 20;

/// Lists of one root, names in the directory that they are in, and bytes of all.
const LISTS: usize = 20_000;
const NAMES: usize = 16 * LISTS;
const LISTS_BYTES: u64 = 64 << 20;

/// Bytes of a file that is read through for one package.
const FILE_BYTES: u64 = 64 << 20;
/// Longest line; a longer one is nobody's path.
const LINE: u64 = 8192;
/// Longest name and version.
const TEXT: usize = 128;
/// Packages that may have a path by the bits kept of its hash.
const CANDIDATES: usize = 16;
/// Packages of a root whose version is remembered.
const OWNERS: usize = 1024;

/// Indexes of databases, the one used last at the end.
#[derive(Debug, Default)]
pub struct Packages {
    indexes: Mutex<VecDeque<(Key, Arc<Index>)>>,
}

/// What tells one state of one root's database from another.
type Key = (u32, State);

/// A package, and the state of the file that has its version.
type Versioned = (Option<State>, Arc<Owner>);

/// Which package has which path: of the hash of a path the upper bits, below these the package's place.
#[derive(Debug, Default)]
struct Index {
    hash: RandomState,
    paths: Vec<u64>,
    /// Names of lists, without the ending.
    lists: Vec<Box<str>>,
    /// Everything was read.
    whole: bool,
    /// Packages that were asked for, by the state of the file with their versions.
    owners: Mutex<HashMap<usize, Versioned>>,
}

const PLACE_BITS: u32 = 24;
const PLACE: u64 = (1 << PLACE_BITS) - 1;

impl Packages {
    /// Reads the lists of a root, so that who is asked for first need not wait for them.
    pub fn prepare(&self, entered: &Entered, mnt_ns: u32, at: &AtomicU32) {
        self.index(entered.jail(), mnt_ns, at);
    }

    /// Whether the lists of any root are remembered.
    #[cfg(test)]
    pub(crate) fn is_prepared(&self) -> bool {
        !lock(&self.indexes).is_empty()
    }

    /// Whose the executable is.
    #[must_use]
    pub fn owner(&self, entered: &Entered, asked: &ContentAsked, at: &AtomicU32) -> Package {
        let jail = entered.jail();
        let leads = |path: &[u8]| {
            let place = jail.place(jail.inside(path)).ok();
            place.and_then(|place| identity::of(entered.process(), &place))
                == Some(asked.moment.file)
        };
        let is_it = leads(&asked.path);
        // The kernel marks what is deleted; the name before may have been a package's.
        let marked = asked.path.strip_suffix(b" (deleted)");
        let path = marked.filter(|_| !is_it).unwrap_or(&asked.path);
        let inside = jail.inside(path);
        if !inside.starts_with(b"/") || jail.outside(inside) != path {
            return Package::Unknown;
        }
        let package = self.of(jail, asked.mnt_ns, inside, at);
        if package.owner().is_some() && !is_it {
            // Another file has the name by now: an update, or somebody's swap.
            return Package::Unknown;
        }
        package
    }

    fn of(&self, jail: &Jail, mnt_ns: u32, path: &[u8], at: &AtomicU32) -> Package {
        let forms = forms(jail, path);
        let dpkg = self.dpkg(jail, mnt_ns, &forms, at);
        if let Some(Package::Owned(_)) = dpkg {
            return dpkg.unwrap_or_default();
        }
        let apk = apk(jail, &forms, at);
        match (dpkg, apk) {
            (Some(Package::Unknown), Some(Package::Nobody)) | (None, None) => Package::Unknown,
            (Some(package), None) | (_, Some(package)) => package,
        }
    }

    /// `None` where there is no database.
    fn dpkg(&self, jail: &Jail, mnt_ns: u32, forms: &[Vec<u8>], at: &AtomicU32) -> Option<Package> {
        let index = self.index(jail, mnt_ns, at)?;
        if index.lists.is_empty() {
            return (!index.whole).then_some(Package::Unknown);
        }
        let mut is_sure = index.whole;
        for form in forms {
            let (places, more) = index.places(form);
            is_sure &= !more;
            for place in places {
                match index.has(jail, place, form, at) {
                    Ok(true) => return Some(index.owner(jail, place, at)),
                    Ok(false) => {}
                    Err(_) => is_sure = false,
                }
            }
        }
        Some(if is_sure {
            Package::Nobody
        } else {
            Package::Unknown
        })
    }

    fn index(&self, jail: &Jail, mnt_ns: u32, at: &AtomicU32) -> Option<Arc<Index>> {
        let key = (mnt_ns, jail.state(DPKG.as_bytes())?);
        Some(self.recall(&key).unwrap_or_else(|| {
            let index = Arc::new(Index::build(jail, at));
            self.remember(key, Arc::clone(&index));
            index
        }))
    }

    fn recall(&self, key: &Key) -> Option<Arc<Index>> {
        let mut indexes = lock(&self.indexes);
        let at = indexes.iter().position(|(known, _)| known == key)?;
        let found = indexes.remove(at)?;
        let index = Arc::clone(&found.1);
        indexes.push_back(found);
        Some(index)
    }

    fn remember(&self, key: Key, index: Arc<Index>) {
        let mut indexes = lock(&self.indexes);
        // Of one directory only the latest state is of use.
        indexes.retain(|((mnt_ns, state), _)| (*mnt_ns, state.file) != (key.0, key.1.file));
        if indexes.len() >= INDEXES {
            indexes.pop_front();
        }
        indexes.push_back((key, index));
    }
}

impl Index {
    fn build(jail: &Jail, at: &AtomicU32) -> Self {
        let mut index = Self::default();
        // A directory may have a million names: only those of lists are kept, and no more than are read.
        let (mut names, mut is_all) = (Vec::new(), true);
        let more = jail.each(DPKG.as_bytes(), NAMES, |name| {
            if let Some(name) = name.strip_suffix(b".list") {
                let name = text(name).filter(|_| names.len() < LISTS);
                is_all &= name.is_some();
                names.extend(name);
            }
        });
        let Ok(more) = more else {
            return index;
        };
        names.sort_unstable();
        index.whole = is_all && !more;
        let mut left = LISTS_BYTES;
        let mut bytes = 0;
        for name in names {
            let read = (bytes < INDEX_BYTES)
                .then(|| index.add(jail, name, &mut left, &mut bytes, at))
                .flatten();
            index.whole &= read.is_some();
        }
        index.paths.sort_unstable();
        index.paths.shrink_to_fit();
        index
    }

    /// Adds the paths of a list, as far as there is room; `None` where that is not all.
    fn add(
        &mut self,
        jail: &Jail,
        name: String,
        left: &mut u64,
        bytes: &mut usize,
        at: &AtomicU32,
    ) -> Option<()> {
        let file = jail.file(list(&name).as_bytes()).ok()?;
        let place = u64::try_from(self.lists.len()).ok()?;
        *bytes += name.len() + size_of::<Box<str>>();
        self.lists.push(name.into());
        let full = lines(file, left, at, |line| {
            if *bytes >= INDEX_BYTES {
                return ControlFlow::Break(());
            }
            *bytes += size_of::<u64>();
            self.paths.push(self.hash.hash_one(line) & !PLACE | place);
            ControlFlow::Continue(())
        });
        matches!(full, Ok(None)).then_some(())
    }

    /// Packages that may have the path; and whether there are more.
    fn places(&self, path: &[u8]) -> (Vec<usize>, bool) {
        let hash = self.hash.hash_one(path) & !PLACE;
        let from = self.paths.partition_point(|entry| *entry < hash);
        let alike = self.paths.iter().skip(from);
        let mut alike = alike.take_while(|entry| *entry & !PLACE == hash);
        let place = |entry: &u64| usize::try_from(entry & PLACE).ok();
        let places = alike.by_ref().take(CANDIDATES).filter_map(place).collect();
        (places, alike.next().is_some())
    }

    fn has(&self, jail: &Jail, place: usize, path: &[u8], at: &AtomicU32) -> io::Result<bool> {
        let name = self.lists.get(place).ok_or(io::ErrorKind::NotFound)?;
        let file = jail.file(list(name).as_bytes())?;
        let found = lines(file, &mut { FILE_BYTES }, at, |line| {
            if line == path {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        Ok(found?.is_some())
    }

    fn owner(&self, jail: &Jail, place: usize, at: &AtomicU32) -> Package {
        let state = jail.state(DPKG_STATUS);
        let known = lock(&self.owners).get(&place).cloned();
        if let Some((_, owner)) = known.filter(|(known, _)| *known == state) {
            return Package::Owned(owner);
        }
        let Some(list) = self.lists.get(place) else {
            return Package::Unknown;
        };
        let name = list.split_once(':').map_or(&**list, |(name, _)| name);
        let version = jail.file(DPKG_STATUS).ok().and_then(|file| {
            let mut stanza = Stanza::default();
            let each = |line: &[u8]| stanza.line(line, name);
            lines(file, &mut { FILE_BYTES }, at, each).ok()?
        });
        let owner = Arc::new(Owner {
            kind: PackageKind::Deb,
            name: name.to_owned(),
            version,
        });
        let mut owners = lock(&self.owners);
        if owners.len() >= OWNERS {
            owners.clear();
        }
        owners.insert(place, (state, Arc::clone(&owner)));
        Package::Owned(owner)
    }
}

/// A part of dpkg's status: the lines of one package.
#[derive(Debug, Default)]
struct Stanza {
    is_it: bool,
}

impl Stanza {
    /// Takes a line; breaks with the version of the package where that is it.
    fn line(&mut self, line: &[u8], package: &str) -> ControlFlow<String> {
        if line.is_empty() {
            self.is_it = false;
        } else if let Some(name) = line.strip_prefix(b"Package:") {
            self.is_it = name.trim_ascii() == package.as_bytes();
        } else if self.is_it
            && let Some(version) = line.strip_prefix(b"Version:")
            && let Some(version) = text(version.trim_ascii())
        {
            return ControlFlow::Break(version);
        }
        ControlFlow::Continue(())
    }
}

/// Apk keeps all in one file, which is read through. `None` where there is none.
fn apk(jail: &Jail, forms: &[Vec<u8>], at: &AtomicU32) -> Option<Package> {
    let path = APK.into_iter().find(|path| jail.state(path).is_some())?;
    let Ok(file) = jail.file(path) else {
        return Some(Package::Unknown);
    };
    let mut scan = Installed::default();
    let found = lines(file, &mut { FILE_BYTES }, at, |line| scan.line(line, forms));
    Some(match found {
        Ok(Some(owner)) => Package::Owned(Arc::new(owner)),
        Ok(None) => Package::Nobody,
        Err(_) => Package::Unknown,
    })
}

/// Apk's database up to a line.
#[derive(Debug, Default)]
struct Installed {
    name: Option<String>,
    version: Option<String>,
    folder: Vec<u8>,
}

impl Installed {
    /// Takes a line; breaks with the package where that is the file.
    fn line(&mut self, line: &[u8], forms: &[Vec<u8>]) -> ControlFlow<Owner> {
        let Some((key, value)) = line.split_at_checked(2) else {
            *self = Self::default();
            return ControlFlow::Continue(());
        };
        match key {
            b"P:" => self.name = text(value),
            b"V:" => self.version = text(value),
            b"F:" => self.folder = value.to_vec(),
            b"R:" => {
                let is_it = |form: &Vec<u8>| {
                    let name = form
                        .strip_prefix(b"/")
                        .and_then(|form| form.strip_prefix(self.folder.as_slice()));
                    let name = match self.folder.as_slice() {
                        [] => name,
                        _ => name.and_then(|name| name.strip_prefix(b"/")),
                    };
                    name == Some(value)
                };
                if forms.iter().any(is_it)
                    && let Some(name) = self.name.clone()
                {
                    return ControlFlow::Break(Owner {
                        kind: PackageKind::Apk,
                        name,
                        version: self.version.clone(),
                    });
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// A path as a database may have it: where `/bin` is `/usr/bin`, by either name.
fn forms(jail: &Jail, path: &[u8]) -> Vec<Vec<u8>> {
    let other = other_form(path).filter(|(folder, _)| {
        let of = |prefix: &str| jail.canonical(format!("{prefix}/{folder}").as_bytes());
        of("").is_some_and(|real| of("/usr") == Some(real))
    });
    let other = other.map(|(_, other)| other);
    [path.to_vec()].into_iter().chain(other).collect()
}

/// The directory that would have to be merged, and the path's other name then.
fn other_form(path: &[u8]) -> Option<(&'static str, Vec<u8>)> {
    let below = path.strip_prefix(b"/usr");
    let rest = below.unwrap_or(path).strip_prefix(b"/")?;
    let folder = rest.split(|&byte| byte == b'/').next()?;
    let folder = MERGED.into_iter().find(|name| name.as_bytes() == folder)?;
    let start: &[u8] = if below.is_some() { b"/" } else { b"/usr/" };
    Some((folder, [start, rest].concat()))
}

fn list(name: &str) -> String {
    format!("{DPKG}/{name}.list")
}

/// A name or version as databases have them.
fn text(bytes: &[u8]) -> Option<String> {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'/';
    let is_text = (1..=TEXT).contains(&bytes.len()) && bytes.iter().all(is_plain);
    let text = is_text.then(|| str::from_utf8(bytes).ok()).flatten()?;
    Some(text.to_owned())
}

/// Hands over the lines until one of them breaks. An error where there is more than is `left`, which what was
/// read is taken from.
fn lines<T>(
    from: impl Read,
    left: &mut u64,
    at: &AtomicU32,
    mut each: impl FnMut(&[u8]) -> ControlFlow<T>,
) -> io::Result<Option<T>> {
    at.fetch_add(1, Ordering::Release);
    let mut from = BufReader::with_capacity(64 * 1024, from);
    let mut line = Vec::new();
    let mut is_rest = false;
    loop {
        line.clear();
        let read = u64::try_from(from.by_ref().take(LINE).read_until(b'\n', &mut line)?)
            .map_err(|_| io::ErrorKind::InvalidData)?;
        if read == 0 {
            return Ok(None);
        }
        *left = left.checked_sub(read).ok_or(io::ErrorKind::FileTooLarge)?;
        let ended = line.strip_suffix(b"\n");
        let is_cut = ended.is_none() && read == LINE;
        if !is_rest
            && !is_cut
            && let ControlFlow::Break(found) = each(ended.unwrap_or(&line))
        {
            return Ok(Some(found));
        }
        is_rest = is_cut;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
