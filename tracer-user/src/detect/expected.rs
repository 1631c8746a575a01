//! The shapes of a shell or interpreter that are a server's ordinary work.
//!
//! Exact words only: whatever an attacker could add to such a call makes it another.

use tracer_common::event::fd_kind;

use super::roles::{self, Program};
use super::written::{By, Written};
use crate::enrich::docroot::path;
use crate::event::Exec;
use crate::lineage::process::Image;

/// Whether a shell or interpreter has nothing to run but what it will be told: it was given neither a command
/// nor a script, or it is at a terminal.
pub(super) fn is_conversation(program: Program, exec: &Exec) -> bool {
    let codes: &[u8] = match program {
        Program::Shell => b"c",
        Program::Interpreter => b"cempr",
    };
    let first = exec
        .args
        .first()
        .is_some_and(|name| roles::is_multi_call(roles::base(name)));
    let mut words = exec.args.iter().skip(1 + usize::from(first));
    let is_bare = |word: &Vec<u8>| {
        let letters = word.strip_prefix(b"-").or_else(|| word.strip_prefix(b"+"));
        letters.is_some_and(|letters| {
            letters.starts_with(b"-") || !letters.iter().any(|letter| codes.contains(letter))
        })
    };
    exec.stdio.iter().any(|fd| fd.kind == fd_kind::TTY) || words.all(is_bare)
}

/// A server that is an interpreter and runs its own program once more: a cluster's workers, a
/// reloader, Python's multiprocessing. The same executable with the same words up to the same
/// script, or the exact words of that library.
pub(super) fn is_own_program(server: &Image, exec: &Exec, written: &Written) -> bool {
    let own = &server.exec;
    if own.file != exec.file || exec.file.inode == 0 || exec.nlink == 0 || own.exe != exec.exe {
        return false;
    }
    match roles::script_at(&exec.args) {
        Some(at) => {
            let absolute = exec.args.get(at).is_some_and(|word| word.starts_with(b"/"));
            exec.args.get(1..=at) == own.args.get(1..=at) && (absolute || exec.cwd == own.cwd)
        }
        None => {
            let Some(at) = exec.args.iter().position(|word| word == b"-c") else {
                return false;
            };
            let options = exec.args.get(1..at).unwrap_or_default();
            let (code, rest) = match exec.args.get(at + 1..) {
                Some([code, rest @ ..]) => (code, rest),
                Some([]) | None => return false,
            };
            // `-c` looks for modules in the working directory first.
            let here = exec.cwd == own.cwd
                || exec.cwd == b"/"
                || own.args.iter().any(|word| word.ends_with(&exec.cwd));
            options
                .iter()
                .all(|word| is_harmless(exec, word) || own.args.contains(word))
                && is_multiprocessing(code)
                && rest.iter().all(|word| word == b"--multiprocessing-fork")
                && here
                && written.module(&exec.cwd, b"multiprocessing").is_none()
        }
    }
}

/// An option that cannot bring code: of Python those without a value, of the others none that a
/// server is started with.
fn is_harmless(exec: &Exec, word: &[u8]) -> bool {
    let python = roles::base(&exec.exe).starts_with(b"py");
    word.strip_prefix(b"-").is_some_and(|letters| {
        python
            && !letters.is_empty()
            && letters
                .iter()
                .all(|letter| b"bBdEIOPqsSuv".contains(letter))
    })
}

/// `from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)`
/// (Lib/multiprocessing/spawn.py, `get_command_line`; the others alike).
fn is_multiprocessing(code: &[u8]) -> bool {
    let forms: &[&[u8]] = &[
        b"from multiprocessing.spawn import spawn_main; spawn_main(",
        b"from multiprocessing.resource_tracker import main;main(",
        b"from multiprocessing.semaphore_tracker import main;main(",
        b"from multiprocessing.forkserver import main; main(",
    ];
    forms.iter().any(|form| {
        code.strip_prefix(*form)
            .and_then(|rest| rest.strip_suffix(b")"))
            .is_some_and(|arguments| {
                arguments
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_=, ".contains(byte))
            })
    })
}

/// What an exec runs, written by a server's lineage.
pub(super) struct Dropped {
    /// Its name.
    pub(super) path: Vec<u8>,
    /// Who wrote it.
    pub(super) by: By,
    /// The kernel was given it to execute; else an interpreter was given it as an argument.
    pub(super) direct: bool,
    /// It is the executable itself, known by its identity; else a name stands for it.
    pub(super) identity: bool,
}

/// What of an exec was written by a server's lineage: the executable, what a dynamic loader was given,
/// the script or the module.
pub(super) fn dropped(written: &Written, exec: &Exec) -> Option<Dropped> {
    let of = |path: &[u8], by: &By, direct, identity| Dropped {
        path: path.to_vec(),
        by: by.clone(),
        direct,
        identity,
    };
    let named = |name: &[u8], direct| {
        let path = absolute(&exec.cwd, name);
        let by = written.by_path(&path).filter(|_| !name.is_empty())?;
        Some(of(&path, by, direct, false))
    };
    if let Some(by) = written.holds(exec.file, exec.generation, &exec.exe) {
        return Some(of(&exec.exe, by, true, true));
    }
    if let Some(found) = named(roles::target(exec), true) {
        return Some(found);
    }
    if exec.filename != exec.interp
        && let Some(found) = named(&exec.filename, true)
    {
        return Some(found);
    }
    let script = roles::script(&exec.args).filter(|_| roles::program(exec).is_some())?;
    let module = roles::script_at(&exec.args)
        .and_then(|at| exec.args.get(at.checked_sub(1)?))
        .is_some_and(|word| word == b"-m");
    if module {
        let first = script.split(|&byte| byte == b'.').next().unwrap_or(script);
        let (path, by) = written.module(&exec.cwd, first)?;
        Some(of(&path, by, false, false))
    } else {
        named(script, false)
    }
}

/// A name made absolute by the directory it is relative to.
pub(super) fn absolute(cwd: &[u8], name: &[u8]) -> Vec<u8> {
    path::normalise(&path::join(cwd, name)).unwrap_or_default()
}
