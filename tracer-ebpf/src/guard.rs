//! Who and what is watched: the lineage tags, the executables that give them, the files that tagged
//! processes wrote, the directories that matter.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::generated::bpf_probe_read_user_str;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray};
use tracer_common::event::ChangeBody;
use tracer_common::limits::{
    CALLS, DIRECTORIES, ROLE_INODES, SCRIPT_OPENS, STRING_BYTES, TAGS, WRITTEN,
};
use tracer_common::probe::Drop;
use tracer_common::tag::{InodeKey, Serves, Tag, Writer, via};

use crate::kernel::{Inode, Path};
use crate::output::{self, Caller};

/// Tags by tgid. Not an LRU map: a flood of forks must not push a tag out silently. A full map is
/// counted, and user space knows the lineage from fork records all the same.
#[map(name = "TAGS")]
static TAG_MAP: HashMap<u32, Tag> = HashMap::with_max_entries(TAGS, BPF_F_NO_PREALLOC);

/// Executables that make a process a server, by inode. Written by user space, which knows
/// names; so the second start of a server is tagged before its first instruction.
#[map(name = "ROLE_INODES")]
static ROLE_MAP: HashMap<InodeKey, Serves> =
    HashMap::with_max_entries(ROLE_INODES, BPF_F_NO_PREALLOC);

/// Files that tagged processes wrote, by identity. The least recently used goes first: whoever wants
/// a file forgotten has to write as many others, each of which is told.
#[map(name = "WRITTEN")]
static WRITTEN_MAP: LruHashMap<InodeKey, Writer> = LruHashMap::with_max_entries(WRITTEN, 0);

/// Last components of the names of those files, by hash: what a rename, link or chmod by anyone is
/// held against, where it comes with a name and no file. Two names may share a hash: user space
/// knows the paths.
#[map(name = "WRITTEN_NAMES")]
static NAME_MAP: LruHashMap<u32, u32> = LruHashMap::with_max_entries(WRITTEN, 0);

/// Calls with names that tagged threads are inside of, by thread group << 32 | thread.
#[map(name = "CALLS")]
static CALL_MAP: HashMap<u64, Begin> = HashMap::with_max_entries(CALLS, BPF_F_NO_PREALLOC);

/// Where the strings of a call are read to before they go into [`CALL_MAP`].
#[map(name = "BEGIN")]
static BEGIN_MAP: PerCpuArray<Begin> = PerCpuArray::with_max_entries(1, 0);

/// What a call began with.
#[repr(C)]
struct Begin {
    /// The names; empty where there is none or it could not be read.
    old: [u8; STRING_BYTES],
    new: [u8; STRING_BYTES],
    /// What each of them is relative to: addresses of a dentry and its mount, zero where there is none.
    places: [[u64; 2]; 2],
    /// Bits of [`Begun::unread`].
    unread: u64,
}

/// The names that a call began with, in the map.
pub struct Begun {
    /// The old one.
    pub old: *const u8,
    /// The new one, or the only one.
    pub new: *const u8,
    /// [`OLD`] and [`NEW`], where there was such a name and it could not be read.
    pub unread: u64,
}

/// See [`Begun::unread`].
pub const OLD: u64 = 1;
/// See [`Begun::unread`].
pub const NEW: u64 = 2;

/// Served and component directories. Written by user space, which resolves their names in each mount
/// namespace.
#[map(name = "DIRECTORIES")]
static DIRECTORY_MAP: HashMap<InodeKey, u32> =
    HashMap::with_max_entries(DIRECTORIES, BPF_F_NO_PREALLOC);

/// What calls of execve(2) that are under way run of files that tagged processes wrote, by thread. The
/// oldest goes first: one that failed leaves its entry.
#[map(name = "EXECS")]
static EXEC_MAP: LruHashMap<u32, Writer> = LruHashMap::with_max_entries(CALLS, 0);

/// The tag of a process; all zero where it has none.
#[inline(always)]
pub fn tag(tgid: u32) -> Tag {
    let entry = entry(tgid);
    if entry.is_server_lineage() {
        entry
    } else {
        Tag::ZERO
    }
}

/// The same, or without roles the note of [`await_script`].
#[inline(always)]
pub fn entry(tgid: u32) -> Tag {
    // SAFETY: the reference lives for this expression only; a concurrent update by user
    // space can at worst give a mix of two tags of the same process.
    unsafe { TAG_MAP.get(tgid) }.copied().unwrap_or(Tag::ZERO)
}

/// Gives a new process its creator's tag, and takes away what an earlier process with the same
/// number may have left. Returns the child's tag.
#[inline(always)]
pub fn inherit(creator: Tag, child: u32) -> Tag {
    if creator.is_server_lineage() {
        set(child, creator.child())
    } else {
        if entry(child) != Tag::ZERO {
            clear(child);
        }
        Tag::ZERO
    }
}

/// Adds the role that an executable gives. Nothing here ever takes a role away. The number of a removed
/// executable is used again, mostly with another generation: that is another file.
#[inline(always)]
pub fn execute(tgid: u32, tag: Tag, exe: &InodeKey, generation: u32) -> Tag {
    // SAFETY: as for `tag`: an eight-byte value, read once.
    let Some(Serves {
        roles,
        generation: of,
    }) = unsafe { ROLE_MAP.get(exe) }.copied()
    else {
        return tag;
    };
    if of != 0 && of != generation {
        return tag;
    }
    set(tgid, tag.serving(roles, tgid))
}

/// Gives who executes a file the tag of who wrote it. Returns it.
#[inline(always)]
pub fn by_file(tgid: u32, writer: &Writer) -> Tag {
    let tag = writer.tag.child();
    set(
        tgid,
        Tag {
            via: tag.via | via::FILE,
            ..tag
        },
    )
}

/// Gives a process the tag of who reached into it. One that it has by birth stays what it was, and the
/// other's roles are added. Puts the tag that it has now to `now`, and returns whether it had another. A
/// function of its own, for the sake of the stack.
#[inline(never)]
pub fn by_trace(from: &Tag, tgid: u32, now: &mut Tag) -> bool {
    let before = tag(tgid);
    let near = if before.is_server_lineage() {
        &before
    } else {
        from
    };
    *now = Tag {
        roles: before.roles | from.roles,
        server: near.server,
        distance: near.distance,
        via: before.via | via::TRACE,
        quota: near.quota,
    };
    if *now == before {
        return false;
    }
    *now = set(tgid, *now);
    true
}

/// Notes that a process without a tag executes a script. Whose script it is shows when the interpreter
/// opens it: in the tracepoint tier the exec itself gives the interpreter only.
#[inline(always)]
pub fn await_script(tgid: u32) {
    set(
        tgid,
        Tag {
            distance: SCRIPT_OPENS,
            via: via::SCRIPT,
            ..Tag::ZERO
        },
    );
}

/// Counts a file that such a process opened and that is not its script. An interpreter reads its own
/// files first, but not for ever.
#[inline(always)]
pub fn still_await(tgid: u32, entry: Tag) {
    if entry.distance == 0 {
        clear(tgid);
    } else {
        set(
            tgid,
            Tag {
                distance: entry.distance - 1,
                ..entry
            },
        );
    }
}

/// Notes who wrote what a thread is about to execute. `first` where it is what execve was given, which
/// begins anew; of what follows, its interpreters, the first that was written counts.
#[inline(always)]
pub fn executes(tid: u32, first: bool, writer: &Writer) {
    // An LRU map makes room for itself; where it cannot, a script is not connected to its writer.
    if (first || writer.tgid != 0) && EXEC_MAP.insert(tid, writer, 0).is_err() {
        output::dropped(Drop::CallMapFull);
    }
}

/// Takes that note; `None` in the tier that makes none.
#[inline(always)]
pub fn executed(tid: u32) -> Option<Writer> {
    // SAFETY: the reference lives for this expression only, and only the thread itself writes its entry.
    let writer = unsafe { EXEC_MAP.get(tid) }.copied();
    if writer.is_some() {
        let _absent = EXEC_MAP.remove(tid);
    }
    writer
}

/// Forgets a process that has ended.
#[inline(always)]
pub fn clear(tgid: u32) {
    // Absent is what most processes are: not an error.
    let _absent = TAG_MAP.remove(tgid);
}

/// Returns the tag that the process has now: none where the map is full, so that its record says so
/// and user space sees that the kernel does not know.
#[inline(always)]
fn set(tgid: u32, tag: Tag) -> Tag {
    if TAG_MAP.insert(tgid, tag, 0).is_err() {
        output::dropped(Drop::TagMapFull);
        return Tag::ZERO;
    }
    tag
}

/// Notes that a tagged process wrote a file, and gives who did before.
#[inline(always)]
pub fn wrote(caller: &Caller, file: &InodeKey, inode: Inode) -> Writer {
    let before = writer(file, inode);
    let now = Writer {
        start_boot_ns: caller.task.start_boot_ns(),
        boot_ns: output::now(),
        tag: caller.tag,
        tgid: caller.tgid,
        generation: inode.generation(),
    };
    // An LRU map makes room for itself; where it cannot, the file is not connected to its writer, which
    // user space still does by name.
    if WRITTEN_MAP.insert(file, now, 0).is_err() {
        output::dropped(Drop::WrittenMapFull);
    }
    before
}

/// Who of a tagged lineage wrote a file; all zero where none did. The number of a removed file is
/// used again: another generation is another file.
#[inline(always)]
pub fn writer(file: &InodeKey, inode: Inode) -> Writer {
    // SAFETY: the reference lives for this expression only; the entry may be written at the same time
    // by another writer of the same file, and then is a mix of two that are both true in parts.
    match unsafe { WRITTEN_MAP.get(file) }.copied() {
        Some(writer) if writer.generation == inode.generation() => writer,
        _ => Writer::ZERO,
    }
}

/// Writes what is known of a file that a change is about, and who wrote it. Gives its identity.
#[inline(always)]
pub fn fill(body: &mut ChangeBody, inode: Inode) -> Option<InodeKey> {
    let key = inode.key()?;
    body.file = key;
    body.generation = inode.generation();
    body.uid = inode.uid();
    body.gid = inode.gid();
    body.mode = inode.mode();
    body.writer = writer(&key, inode);
    Some(key)
}

/// Whether a tagged lineage wrote a file.
#[inline(always)]
pub fn is_written(inode: Inode) -> bool {
    inode.key().is_some_and(|key| writer(&key, inode).tgid != 0)
}

/// Notes the name of a file that a tagged process wrote, by the hash of its last component.
#[inline(always)]
pub fn named(hash: u32) {
    if !is_written_name(hash) && NAME_MAP.insert(hash, 1, 0).is_err() {
        output::dropped(Drop::WrittenMapFull);
    }
}

/// Whether a file that a tagged process wrote may have a name with this hash.
#[inline(always)]
pub fn is_written_name(hash: u32) -> bool {
    // SAFETY: the reference does not outlive the expression.
    unsafe { NAME_MAP.get(hash) }.is_some()
}

/// What a call begins with, before it is kept: what is found goes to the map at once, for the verifier's
/// sake, as what is not found must not be carried along.
pub struct Beginning(*mut Begin);

impl Beginning {
    /// Nothing yet.
    #[inline(always)]
    pub fn new() -> Option<Self> {
        let begin = BEGIN_MAP.get_ptr_mut(0)?;
        // SAFETY: this CPU's own, valid for the program's run.
        unsafe { (&raw mut (*begin).places).write_volatile([[0; 2]; 2]) };
        Some(Self(begin))
    }

    /// What a name ([`OLD`] or [`NEW`]) is relative to.
    #[inline(always)]
    pub fn place(&self, side: u64, place: Option<Path>) {
        if let Some(path) = place {
            let numbers = [path.dentry.number(), path.mount.number()];
            // SAFETY: as in `new`; there are two places.
            unsafe {
                let places = (&raw mut (*self.0).places).cast::<[u64; 2]>();
                places.add((side == NEW).into()).write_volatile(numbers);
            }
        }
    }

    /// Keeps it, with the names at these addresses of the current process, the old one first.
    #[inline(always)]
    pub fn keep(self, caller: &Caller, [old, new]: [u64; 2]) {
        let begin = self.0;
        // SAFETY: as in `new`; the helpers write no more than is said, check the source, and leave an
        // empty string where they fail.
        let begin = unsafe {
            let (to_old, to_new) = (&raw mut (*begin).old, &raw mut (*begin).new);
            to_old.cast::<u8>().write(0);
            to_new.cast::<u8>().write(0);
            let of_old =
                bpf_probe_read_user_str(to_old.cast(), STRING_BYTES as u32, old as *const c_void);
            let of_new =
                bpf_probe_read_user_str(to_new.cast(), STRING_BYTES as u32, new as *const c_void);
            let unread = (u64::from((old != 0) & (of_old <= 0)) * OLD)
                | (u64::from((new != 0) & (of_new <= 0)) * NEW);
            (&raw mut (*begin).unread).write_volatile(unread);
            &*begin
        };
        if CALL_MAP.insert(thread(caller), begin, 0).is_err() {
            output::dropped(Drop::CallMapFull);
        }
    }
}

/// The names that the call of a thread began with.
#[inline(always)]
pub fn begun(caller: &Caller) -> Option<Begun> {
    let begin = CALL_MAP.get_ptr(thread(caller))?;
    // SAFETY: points into the map; the entry is the thread's own, which is here and not in another call.
    unsafe {
        Some(Begun {
            old: (&raw const (*begin).old).cast(),
            new: (&raw const (*begin).new).cast(),
            unread: (&raw const (*begin).unread).read_volatile(),
        })
    }
}

/// Whether a name of the call of a thread ([`OLD`] or [`NEW`]) was relative to something else when the
/// call began than to this dentry of this mount. The kernel holds what it looked up from there, so that
/// while the call lasts nothing else comes to lie at its address.
#[inline(always)]
pub fn was_elsewhere(caller: &Caller, side: u64, dentry: u64, mount: u64) -> bool {
    let Some(begin) = CALL_MAP.get_ptr(thread(caller)) else {
        return false;
    };
    // SAFETY: as in `begun`.
    let [before, mount_before] = unsafe {
        let places = (&raw const (*begin).places).cast::<[u64; 2]>();
        if side == OLD {
            places.read_volatile()
        } else {
            places.add(1).read_volatile()
        }
    };
    (before ^ dentry) | (mount_before ^ mount) != 0
}

/// Forgets them: the call is done, or the thread.
#[inline(always)]
pub fn end(caller: &Caller) {
    // Absent where the call began before the tag came: not an error.
    let _absent = CALL_MAP.remove(thread(caller));
}

#[inline(always)]
fn thread(caller: &Caller) -> u64 {
    u64::from(caller.tgid) << 32 | u64::from(caller.tid)
}

/// Whether a directory is a served or component directory. The number of a removed one is used again,
/// with another generation where the file system keeps those.
#[inline(always)]
pub fn is_watched(directory: &InodeKey, inode: Inode) -> bool {
    // SAFETY: the reference does not outlive the expression.
    match unsafe { DIRECTORY_MAP.get(directory) }.copied() {
        Some(generation) => generation == 0 || generation == inode.generation(),
        None => false,
    }
}
