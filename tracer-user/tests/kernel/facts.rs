//! The same facts from the kernel's other mouths: `stat`, `/proc`, namespace links.
//!
//! Nothing here reads what the sensor reads: the numbers are held against each other.

use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tracer::event::{Exec, FileId, ProcessKey};
use tracer_common::event::{FdInfo, Ids, Namespaces, fd_kind};

use crate::child::Image;
use crate::sys;

/// `/proc/PID/name`
fn proc(pid: u32, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{name}"))
}

fn text(pid: u32, name: &str) -> String {
    let path = proc(pid, name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn link(pid: u32, name: &str) -> Vec<u8> {
    let path = proc(pid, name);
    let target = fs::read_link(&path);
    target
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into_os_string()
        .into_vec()
}

/// Field of `/proc/PID/stat`, counted as in proc(5), from the third on.
fn stat(pid: u32, field: usize) -> i64 {
    let stat = text(pid, "stat");
    let (_, after_name) = stat.rsplit_once(") ").unwrap();
    after_name
        .split_whitespace()
        .nth(field - 3)
        .unwrap()
        .parse()
        .unwrap()
}

/// The words after a key of `/proc/PID/status`.
fn status(pid: u32, key: &str) -> Vec<String> {
    let status = text(pid, "status");
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let (_, words) = lines.find(|(name, _)| *name == key).unwrap();
    words.split_whitespace().map(str::to_owned).collect()
}

/// Who a process is: also of one that has ended and was not reaped.
pub(crate) fn key(pid: u32) -> ProcessKey {
    ProcessKey {
        tgid: pid,
        start_ticks: stat(pid, 22).try_into().unwrap(),
    }
}

/// Its parent now.
pub(crate) fn parent(pid: u32) -> ProcessKey {
    key(stat(pid, 4).try_into().unwrap())
}

/// Inode number of a namespace; zero where the kernel is built without its kind.
pub(crate) fn namespace(pid: u32, kind: &str) -> u32 {
    let path = proc(pid, "ns").join(kind);
    fs::metadata(path).map_or(0, |meta| meta.ino().try_into().unwrap())
}

/// All of them.
pub(crate) fn namespaces(pid: u32) -> Namespaces {
    Namespaces {
        mnt: namespace(pid, "mnt"),
        pid: namespace(pid, "pid"),
        net: namespace(pid, "net"),
        user: namespace(pid, "user"),
        uts: namespace(pid, "uts"),
        ipc: namespace(pid, "ipc"),
        cgroup: namespace(pid, "cgroup"),
        vpid: status(pid, "NSpid").last().unwrap().parse().unwrap(),
    }
}

/// Users and groups.
pub(crate) fn ids(pid: u32) -> Ids {
    let numbers = |key| -> [u32; 4] {
        let words: Vec<u32> = status(pid, key)
            .iter()
            .map(|word| word.parse().unwrap())
            .collect();
        words.try_into().unwrap()
    };
    let [uid, euid, suid, _] = numbers("Uid");
    let [gid, egid, sgid, _] = numbers("Gid");
    Ids {
        uid,
        euid,
        suid,
        gid,
        egid,
        sgid,
    }
}

/// One of its sets of capabilities.
pub(crate) fn capabilities(pid: u32, key: &str) -> u64 {
    u64::from_str_radix(&status(pid, key)[0], 16).unwrap()
}

/// A number of the audit system; `None` where it is unset or not built in.
fn audit(pid: u32, name: &str) -> Option<u32> {
    let number = fs::read_to_string(proc(pid, name))
        .ok()?
        .trim()
        .parse()
        .unwrap();
    (number != u32::MAX).then_some(number)
}

/// The cgroup whose path names the container: that of the v1 memory controller (of pids, in a
/// kernel without the former) where it has a hierarchy of its own and is not in its root, else v2's.
pub(crate) fn cgroup(pid: u32) -> Vec<u8> {
    let memory = fs::read_to_string("/proc/cgroups").is_ok_and(|known| known.contains("memory"));
    let controller = if memory { "memory" } else { "pids" };
    let groups = text(pid, "cgroup");
    let path_of = |wanted: &str| {
        groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers
                .split(',')
                .any(|one| one == wanted)
                .then(|| path.to_owned())
        })
    };
    let v1 = path_of(controller).filter(|path| path != "/");
    v1.or_else(|| path_of("")).unwrap_or_default().into_bytes()
}

/// Where cgroup v2 is mounted.
pub(crate) fn cgroup2() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[2] == "cgroup2").then(|| PathBuf::from(words[1]))
    })
}

/// Id of a process's cgroup v2: the inode number of its directory.
pub(crate) fn cgroup_id(pid: u32) -> Option<u64> {
    let groups = text(pid, "cgroup");
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(fs::metadata(cgroup2()?.join(path)).unwrap().ino())
}

/// A file.
pub(crate) fn file(path: &Path) -> FileId {
    let meta = fs::metadata(path).unwrap();
    FileId {
        dev: sys::kernel_dev(meta.dev()),
        inode: meta.ino(),
    }
}

/// What a descriptor is, without a socket's addresses.
pub(crate) fn fd(pid: u32, number: u32) -> FdInfo {
    let Ok(meta) = fs::metadata(proc(pid, "fd").join(number.to_string())) else {
        return FdInfo::ZERO;
    };
    let kind = meta.file_type();
    let rdev = sys::kernel_dev(meta.rdev());
    FdInfo {
        inode: meta.ino(),
        rdev,
        kind: if kind.is_file() {
            fd_kind::FILE
        } else if kind.is_fifo() {
            fd_kind::PIPE
        } else if kind.is_socket() {
            fd_kind::SOCKET
        } else if kind.is_char_device() && rdev == 1 << 20 | 3 {
            fd_kind::NULL
        } else if kind.is_char_device() && matches!(rdev >> 20, 4 | 5 | 136..=143) {
            fd_kind::TTY
        } else {
            fd_kind::OTHER
        },
        ..FdInfo::ZERO
    }
}

/// The image of a process that has done nothing since its exec of `image` but wait.
pub(crate) fn exec(pid: u32, image: &Image) -> Exec {
    let exe = proc(pid, "exe");
    let meta = fs::metadata(&exe).unwrap();
    let tty = u64::try_from(stat(pid, 7)).unwrap();
    let name = image.path.as_bytes().to_vec();
    let args: Vec<Vec<u8>> = image
        .argv
        .iter()
        .map(|word| word.as_bytes().to_vec())
        .collect();
    assert_eq!(fs::read(proc(pid, "cmdline")).unwrap(), image.area());
    Exec {
        exe: link(pid, "exe"),
        file: file(&exe),
        nlink: meta.nlink().try_into().unwrap(),
        // Not every file system tells it: whoever compares knows better.
        generation: 0,
        // i_mode has sixteen bits.
        mode: meta.mode().try_into().unwrap(),
        cwd: link(pid, "cwd"),
        cgroup: cgroup(pid),
        cgroup_id: cgroup_id(pid).unwrap_or(1),
        filename: name.clone(),
        interp: name,
        args,
        args_len: image.area().len() as u64,
        ids: ids(pid),
        cap_effective: capabilities(pid, "CapEff"),
        cap_permitted: capabilities(pid, "CapPrm"),
        loginuid: audit(pid, "loginuid"),
        sessionid: audit(pid, "sessionid"),
        ns: namespaces(pid),
        pgid: stat(pid, 5).try_into().unwrap(),
        sid: stat(pid, 6).try_into().unwrap(),
        tty: (tty != 0).then(|| (libc::major(tty), libc::minor(tty))),
        stdio: [0, 1, 2].map(|number| fd(pid, number)),
        parent: parent(pid),
        old_tid: pid,
        writer: None,
    }
}

/// A path as bytes.
pub(crate) fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
    path.as_ref().as_os_str().as_bytes().to_vec()
}
