//! The shapes of a shell or interpreter that are a server's ordinary work.
//!
//! Exact words only: whatever an attacker could add to such a call makes it another.

use super::roles;
use super::written::Written;
use crate::enrich::docroot::path;
use crate::event::Exec;
use crate::lineage::process::Image;

/// PHP's `mail()` and its like: `sh -c '/usr/sbin/sendmail -t -i'` and nothing more.
pub(super) fn is_sendmail(exec: &Exec) -> bool {
    let [_, flag, command] = exec.args.as_slice() else {
        return false;
    };
    if flag != b"-c" {
        return false;
    }
    let mut words = command
        .split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty());
    let program = words.next().unwrap_or_default();
    let known: &[&[u8]] = &[
        b"/usr/sbin/sendmail",
        b"/usr/lib/sendmail",
        b"/usr/bin/msmtp",
    ];
    let plain = |word: &[u8]| {
        let address = word.strip_prefix(b"-f").unwrap_or_default();
        [b"-t".as_slice(), b"-i", b"-oi"].contains(&word)
            || (!address.is_empty()
                && address
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"@._-+=".contains(byte)))
    };
    known.contains(&program) && words.all(plain)
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
                && !written.has_module(&exec.cwd, b"multiprocessing")
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

/// Whether what an exec runs was written by a server's lineage: the executable, what a dynamic
/// loader was given, the script or the module.
pub(super) fn is_written(written: &Written, exec: &Exec) -> bool {
    let has = |name: &[u8]| !name.is_empty() && written.has_path(&absolute(&exec.cwd, name));
    if written.holds(exec.file, &exec.exe) || has(roles::target(exec)) {
        return true;
    }
    if exec.filename != exec.interp && has(&exec.filename) {
        return true;
    }
    let Some(script) = roles::script(&exec.args).filter(|_| roles::program(exec).is_some()) else {
        return false;
    };
    let module = roles::script_at(&exec.args)
        .and_then(|at| exec.args.get(at.checked_sub(1)?))
        .is_some_and(|word| word == b"-m");
    if module {
        let first = script.split(|&byte| byte == b'.').next().unwrap_or(script);
        written.has_module(&exec.cwd, first)
    } else {
        has(script)
    }
}

/// A name made absolute by the directory it is relative to.
pub(super) fn absolute(cwd: &[u8], name: &[u8]) -> Vec<u8> {
    path::normalise(&path::join(cwd, name)).unwrap_or_default()
}
