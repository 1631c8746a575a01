//! The memory budget: how one number is shared out among what grows with what happens on the host, and how
//! what is held is counted. Pure.
//!
//! A count is of bytes as an allocator gives them, from lengths that are known: it is an estimate, held against
//! a counting allocator in `tests/memory.rs`. What is small and has a bound of its own is left out.

use crate::event::{Event, Exec, Payload};

/// What the agent's tables may take, bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Processes: half of it, as lineage is what everything else rests on.
    pub store: usize,
    /// Files that servers wrote: a quarter.
    pub written: usize,
    /// Events that wait for their turn: a twelfth, as each of the others.
    pub order: usize,
    /// A reading of `/proc` after a loss.
    pub reading: usize,
    /// Documents that wait for the writer.
    pub queue: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(128 << 20)
    }
}

impl Budget {
    /// Shares of so many bytes in all.
    #[must_use]
    pub const fn new(bytes: usize) -> Self {
        let twelfth = bytes / 12;
        Self {
            store: 6 * twelfth,
            written: 3 * twelfth,
            order: twelfth,
            reading: twelfth,
            queue: twelfth,
        }
    }
}

/// What a block of this size takes: a word before it, in steps of 16, at least 32 (glibc's malloc; others
/// take about the same).
#[must_use]
pub const fn block(bytes: usize) -> usize {
    if bytes == 0 {
        return 0;
    }
    let taken = (bytes + 8).next_multiple_of(16);
    if taken < 32 { 32 } else { taken }
}

/// What an entry of a hash map takes: maps double, so that up to half of the places are empty, and have a byte
/// of their own for each.
#[must_use]
pub const fn entry(bytes: usize) -> usize {
    2 * (bytes + 1)
}

/// What the facts of an exec take, behind a pointer.
#[must_use]
pub fn exec(exec: &Exec) -> usize {
    let Exec {
        exe,
        cwd,
        cgroup,
        filename,
        interp,
        args,
        ..
    } = exec;
    let texts = [exe, cwd, cgroup, filename, interp].into_iter().chain(args);
    let texts: usize = texts.map(|text| block(text.capacity())).sum();
    // Two words of counts stand before what is shared.
    block(size_of::<Exec>() + 16) + block(args.capacity() * size_of::<Vec<u8>>()) + texts
}

/// What an event takes besides itself.
#[must_use]
pub fn event(event: &Event) -> usize {
    match &event.payload {
        Payload::Exec(facts) | Payload::Observed(facts) => exec(facts),
        Payload::File(file) => block(size_of_val(&**file)) + block(file.path.capacity()),
        Payload::Change(change) => {
            let early = change.early.as_ref();
            let texts = [&change.old, &change.new, &change.detail];
            let early = early.map_or(0, |(old, new)| {
                block(old.capacity()) + block(new.capacity())
            });
            let texts: usize = texts.iter().map(|text| block(text.capacity())).sum();
            block(size_of_val(&**change)) + texts + early
        }
        Payload::Socket(socket) => block(size_of_val(&**socket)) + block(socket.name.capacity()),
        Payload::ExecFailed(failed) => {
            block(size_of_val(&**failed)) + block(failed.filename.capacity())
        }
        Payload::Namespace(namespace) => {
            block(size_of_val(&**namespace)) + block(namespace.root.capacity())
        }
        Payload::Fork(_)
        | Payload::Exit(_)
        | Payload::Credentials(_)
        | Payload::Trace(_)
        | Payload::Comm(_) => 0,
    }
}
