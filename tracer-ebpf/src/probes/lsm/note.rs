//! What a thread is about to do to a name, from the function that has its mount to the one that has the
//! result.
//!
//! `security_path_*` has the mount and what is there before; the function behind it has the result, but
//! neither. So the first leaves a note by thread, and the second takes it if it is about the very same
//! names: what the kernel does for itself (overlayfs to its layers, nfsd) has no note.
//!
//! Notes that nobody takes are made at will: a call that fails in between leaves one, until the thread's
//! next or its end. So the map is one that makes room: what stays longest without being looked at goes
//! first, and notes of calls that are under way are the newest. A second half that should have a note and
//! finds none is counted ([`missing`]).

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use core::ptr::{read_volatile, write_volatile};
use tracer_common::event::{ChangeBody, EventKind, flag};
use tracer_common::limits::{NAME_BYTES, NOTE_BYTES, NOTES, STRING_BYTES};
use tracer_common::probe::Drop;
use tracer_common::tag::InodeKey;

use super::Who;
use crate::guard;
use crate::kernel::{Dentry, Inode, Mount, Path, Task, control};
use crate::output::{self, Record, Ring};

/// What will have been done. The names are taken early: a rename changes them.
#[repr(C)]
pub struct Note {
    /// [`EventKind`]
    kind: u64,
    /// Dentries of the old and of the new name; the only one is the new.
    old: u64,
    new: u64,
    /// What each is relative to, or is itself.
    old_at: At,
    new_at: At,
    /// A string of the kernel's.
    detail: u64,
    /// See [`Note::plain`].
    plain: u64,
    /// What is known before.
    pub body: ChangeBody,
    old_name: [u8; NAME_BYTES],
    new_name: [u8; NAME_BYTES],
}

/// A [`Path`] as numbers.
#[repr(C)]
struct At {
    dentry: u64,
    mount: u64,
}

#[map(name = "NOTES")]
static NOTE_MAP: LruHashMap<u64, Note> = LruHashMap::with_max_entries(NOTES, 0);

// User space counts the entries, and has to name their size.
const _: () = assert!(core::mem::size_of::<Note>() == NOTE_BYTES);

/// What a note begins as: too large for the stack.
static BLANK: Note = {
    // SAFETY: integers and arrays of them only.
    unsafe { core::mem::zeroed() }
};

/// Forgets what a thread was about to do: it ends, or has another number from now on.
#[inline(always)]
pub fn forget(tgid: u32, tid: u32) {
    let thread = u64::from(tgid) << 32 | u64::from(tid);
    if NOTE_MAP.get_ptr(thread).is_some() {
        let _gone = NOTE_MAP.remove(thread);
    }
}

/// An open made a file: the note of its begin ([`path_mknod`](super::name::path_mknod)) is done with.
#[inline(always)]
pub fn made_by_open(ctx: &impl EbpfContext, file: Dentry) {
    if let Some(note) = Note::any(ctx)
        && note.is(EventKind::Mknod)
        && note.is_new(file.number())
    {
        Note::end(ctx);
    }
}

/// Counts a change of which only the second half was seen. What the kernel does for itself, which has no
/// first, it does with other credentials; but for overlayfs that is being mounted, whose few are counted.
#[inline(always)]
pub fn missing(ctx: &impl EbpfContext) {
    if Who::tagged(ctx).is_some()
        && let Some(task) = Task::current()
        && !task.acts_for_another()
    {
        output::dropped(Drop::NoteLost);
    }
}

impl Note {
    /// Begins a note on what happens to `inode`, if that is of interest: the thread is of a server's
    /// lineage, or such a lineage wrote the file, or everybody's writing is asked for.
    #[inline(always)]
    pub fn begin(
        ctx: &impl EbpfContext,
        kind: EventKind,
        inode: Option<Inode>,
    ) -> Option<&'static mut Self> {
        let who = Who::anyone(ctx)?;
        if !who.is_tagged() && control!(any_writer) == 0 && !guard::is_written(inode?) {
            return None;
        }
        let thread = who.thread();
        if NOTE_MAP.insert(thread, &BLANK, 0).is_err() {
            output::dropped(Drop::NoteLost);
            return None;
        }
        let note = NOTE_MAP.get_ptr_mut(thread)?;
        // SAFETY: the value is this thread's own, and a thread is in one program at a time; removed
        // by itself, or when it is the oldest of all; then the kernel may give it to another thread, whose
        // words are mixed with these. It is never outside the map.
        let note = unsafe { &mut *note };
        note.kind = u64::from(kind.raw());
        if let Some(inode) = inode {
            let _key = guard::fill(&mut note.body, inode);
        }
        Some(note)
    }

    /// The old name: `dentry` in the directory `at`.
    #[inline(always)]
    pub fn old(&mut self, dentry: Dentry, at: Path) {
        self.old = dentry.number();
        self.old_at.set(at);
        copy(&mut self.old_name, dentry);
    }

    /// The old name, by the file that has it.
    #[inline(always)]
    pub fn old_file(&mut self, file: Path) {
        self.old = file.dentry.number();
        self.old_at.set(file);
    }

    /// The new name, or the only one: `dentry` in the directory `at`.
    #[inline(always)]
    pub fn named(&mut self, dentry: Dentry, at: Path) {
        self.new = dentry.number();
        self.new_at.set(at);
        copy(&mut self.new_name, dentry);
    }

    /// The only name, by the file that has it.
    #[inline(always)]
    pub fn file(&mut self, file: Path) {
        self.new = file.dentry.number();
        self.new_at.set(file);
    }

    /// The thread's note, whatever it is of.
    #[inline(always)]
    pub fn any(ctx: &impl EbpfContext) -> Option<&'static mut Self> {
        let thread = u64::from(ctx.tgid()) << 32 | u64::from(ctx.pid());
        // SAFETY: as in `begin`.
        NOTE_MAP
            .get_ptr_mut(thread)
            .map(|note| unsafe { &mut *note })
    }

    /// Whether it is of this kind.
    #[inline(always)]
    pub fn is(&self, kind: EventKind) -> bool {
        self.kind == u64::from(kind.raw())
    }

    /// Whether the only name, or the new one, is this.
    #[inline(always)]
    pub fn is_new(&self, dentry: u64) -> bool {
        self.new == dentry
    }

    /// Whether the old name is this.
    #[inline(always)]
    pub fn is_old(&self, dentry: u64) -> bool {
        self.old == dentry
    }

    /// The dentry of the only name, or the new one.
    #[inline(always)]
    pub fn new_dentry(&self) -> Option<Dentry> {
        Dentry::new(self.new as *const u8)
    }

    /// A string of the kernel's that belongs to it and lives as long as the call.
    #[inline(always)]
    pub fn detail(&mut self, string: *const u8) {
        self.detail = string as u64;
    }

    /// A number of the kernel's without what the verifier knows of it: the result of a function may be
    /// a pointer to it, which it does not let be taken apart. By way of the map, as that makes it any
    /// number.
    #[inline(always)]
    fn plain(&mut self, value: u64) -> u64 {
        // SAFETY: a live field.
        unsafe {
            write_volatile(&raw mut self.plain, value);
            read_volatile(&raw const self.plain)
        }
    }

    /// Whether a function succeeded, by what it returned: an int, or a pointer that may be an error
    /// (`IS_ERR`, include/linux/err.h). The upper half of an int is undefined: zero or its sign, as
    /// compilers make it.
    #[inline(always)]
    pub fn succeeded(&mut self, result: Option<u64>) -> bool {
        let Some(result) = result else { return false };
        let result = self.plain(result);
        let error = (result as u32) >= 0xffff_f001;
        !(error && matches!(result >> 32, 0 | 0xffff_ffff))
    }

    /// Tells what the note says.
    #[inline(always)]
    pub fn tell(&mut self, ctx: &impl EbpfContext, slot: u32) -> Option<()> {
        let who = Who::anyone(ctx)?;
        let caller = who.caller(slot)?;
        let (record, body) = Record::start_raw::<ChangeBody>(self.kind as u16, &caller)?;
        // SAFETY: points into this program's own scratch slot, which is written by nobody else during
        // this run (see `output::SCRATCH_MAP`); the record writes behind it only.
        let body = unsafe { &mut *body };
        *body = self.body;
        caller.task.ids(&mut body.ids);
        body.mnt_ns = caller.task.mnt_ns();
        record.flag_if(true, flag::RESOLVED);
        place(record, &self.old_at, &mut body.old_dir_len);
        body.old_len = name(record, &self.old_name);
        record.watch(true);
        if *first(&self.new_name) != 0
            && let Some(at) = self.new_at.get()
        {
            record.meet(at.dentry);
        }
        place(record, &self.new_at, &mut body.new_dir_len);
        body.directory = record.directory();
        body.new_len = name(record, &self.new_name);
        let detail = record.kernel_string::<STRING_BYTES>(self.detail as *const u8);
        body.detail_len = detail.len;
        record.flag_if(detail.truncated, flag::STRING_TRUNCATED);
        if !who.is_tagged() && body.writer.tgid == 0 && body.directory == InodeKey::ZERO {
            return Some(());
        }
        record.finish::<ChangeBody>(Ring::Files);
        Some(())
    }

    /// It is done with.
    #[inline(always)]
    pub fn end(ctx: &impl EbpfContext) {
        let thread = u64::from(ctx.tgid()) << 32 | u64::from(ctx.pid());
        let _gone = NOTE_MAP.remove(thread);
    }
}

/// Appends the path of a place, if there is one. A function of its own, so that the verifier comes out of
/// it with one state, whatever there was.
#[inline(never)]
fn place(record: Record, at: &At, len: &mut u16) {
    if let Some(at) = at.get() {
        let path = record.path(Some(at));
        *len = path.len;
        record.flag_if(path.truncated, flag::PATH_TRUNCATED);
    }
}

impl At {
    #[inline(always)]
    fn set(&mut self, path: Path) {
        self.dentry = path.dentry.number();
        self.mount = path.mount.number();
    }

    #[inline(always)]
    fn get(&self) -> Option<Path> {
        Some(Path {
            dentry: Dentry::new(self.dentry as *const u8)?,
            mount: Mount::new(self.mount as *const u8)?,
        })
    }
}

#[inline(always)]
fn first(name: &[u8; NAME_BYTES]) -> &u8 {
    let [first, ..] = name;
    first
}

/// Keeps a name. One that cannot be read stays empty, and the directory then is all that is told.
#[inline(always)]
fn copy(to: &mut [u8; NAME_BYTES], dentry: Dentry) {
    if let Some(name) = dentry.name() {
        // SAFETY: the destination is that long; the helper checks the source and ends it with NUL.
        let _len = unsafe {
            bpf_probe_read_kernel_str(to.as_mut_ptr().cast(), NAME_BYTES as u32, name.cast())
        };
    }
}

/// Appends a kept name; none where it is empty.
#[inline(always)]
fn name(record: Record, kept: &[u8; NAME_BYTES]) -> u16 {
    if *first(kept) == 0 {
        return 0;
    }
    record.name(kept.as_ptr()).unwrap_or(0)
}
