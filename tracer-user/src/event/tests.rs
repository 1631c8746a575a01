//! Samples for tests of the modules that judge events.

use super::*;

/// An exec of `exe` with these arguments and nothing else of note.
pub(crate) fn exec(exe: &str, args: &[&str]) -> Exec {
    Exec {
        exe: exe.into(),
        file: FileId {
            dev: 1,
            inode: exe.bytes().map(u64::from).sum(),
        },
        nlink: 1,
        generation: 0,
        mode: 0o100_755,
        cwd: b"/".to_vec(),
        cgroup: b"/".to_vec(),
        cgroup_id: 1,
        filename: exe.into(),
        interp: exe.into(),
        args: args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        args_len: 0,
        ids: Ids::ZERO,
        cap_effective: 0,
        cap_permitted: 0,
        loginuid: None,
        sessionid: None,
        ns: Namespaces::ZERO,
        pgid: 1,
        sid: 1,
        tty: None,
        stdio: [FdInfo::ZERO; 3],
        parent: ProcessKey {
            tgid: 1,
            start_ticks: 0,
        },
        old_tid: 1,
        writer: None,
    }
}
