//! Who and what is watched: the lineage tags, the executables that give them, the files that tagged
//! processes wrote, the directories that matter.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, LruHashMap};
use tracer_common::limits::{DIRECTORIES, ROLE_INODES, TAGS, WRITTEN};
use tracer_common::probe::Drop;
use tracer_common::tag::{InodeKey, Tag, Writer};

use crate::kernel::Inode;
use crate::output::{self, Caller};

/// Tags by tgid. Not an LRU map: a flood of forks must not push a tag out silently. A full map is
/// counted, and user space knows the lineage from fork records all the same.
#[map(name = "TAGS")]
static TAG_MAP: HashMap<u32, Tag> = HashMap::with_max_entries(TAGS, BPF_F_NO_PREALLOC);

/// Executables that make a process a server: inode to role bits. Written by user space, which knows
/// names; so the second start of a server is tagged before its first instruction.
#[map(name = "ROLE_INODES")]
static ROLE_MAP: HashMap<InodeKey, u32> = HashMap::with_max_entries(ROLE_INODES, BPF_F_NO_PREALLOC);

/// Files that tagged processes wrote, by identity. The least recently used goes first: whoever wants
/// a file forgotten has to write as many others, each of which is told.
#[map(name = "WRITTEN")]
static WRITTEN_MAP: LruHashMap<InodeKey, Writer> = LruHashMap::with_max_entries(WRITTEN, 0);

/// Last components of the names of those files, by hash: what a rename, link or chmod by anyone is
/// held against, where it comes with a name and no file. Two names may share a hash: user space
/// knows the paths.
#[map(name = "WRITTEN_NAMES")]
static NAME_MAP: LruHashMap<u32, u32> = LruHashMap::with_max_entries(WRITTEN, 0);

/// Served and component directories. Written by user space, which resolves their names in each mount
/// namespace.
#[map(name = "DIRECTORIES")]
static DIRECTORY_MAP: HashMap<InodeKey, u32> =
    HashMap::with_max_entries(DIRECTORIES, BPF_F_NO_PREALLOC);

/// The tag of a process; all zero where it has none.
#[inline(always)]
pub fn tag(tgid: u32) -> Tag {
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
        if tag(child).is_server_lineage() {
            clear(child);
        }
        Tag::ZERO
    }
}

/// Adds the role that an executable gives. Nothing here ever takes a role away.
#[inline(always)]
pub fn execute(tgid: u32, tag: Tag, exe: &InodeKey) -> Tag {
    // SAFETY: as for `tag`: a four-byte value, read once.
    let Some(roles) = unsafe { ROLE_MAP.get(exe) }.copied() else {
        return tag;
    };
    let tag = Tag {
        roles: tag.roles | roles,
        server: tgid,
        distance: 0,
        ..tag
    };
    set(tgid, tag)
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

/// Whether a directory is a served or component directory.
#[inline(always)]
pub fn is_watched(directory: &InodeKey) -> bool {
    // SAFETY: the reference does not outlive the expression.
    unsafe { DIRECTORY_MAP.get(directory) }.is_some()
}
