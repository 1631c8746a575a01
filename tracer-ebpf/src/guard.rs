//! Who is watched: the lineage tags and the executables that give them.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use tracer_common::limits::{ROLE_INODES, TAGS};
use tracer_common::probe::Drop;
use tracer_common::tag::{InodeKey, Tag};

use crate::output;

/// Tags by tgid. Not an LRU map: a flood of forks must not push a tag out silently. A full map is
/// counted, and user space knows the lineage from fork records all the same.
#[map(name = "TAGS")]
static TAG_MAP: HashMap<u32, Tag> = HashMap::with_max_entries(TAGS, BPF_F_NO_PREALLOC);

/// Executables that make a process a server: inode to role bits. Written by user space, which knows
/// names; so the second start of a server is tagged before its first instruction.
#[map(name = "ROLE_INODES")]
static ROLE_MAP: HashMap<InodeKey, u32> = HashMap::with_max_entries(ROLE_INODES, BPF_F_NO_PREALLOC);

/// The tag of a process; all zero where it has none.
#[inline(always)]
pub fn tag(tgid: u32) -> Tag {
    // SAFETY: the reference lives for this expression only; a concurrent update of the eight bytes
    // by user space can at worst give a mix of two tags of the same process.
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
        distance: 0,
        reserved: 0,
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
