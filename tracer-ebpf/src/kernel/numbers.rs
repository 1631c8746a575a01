//! From a process's number, or its files in `/proc`, to the process.

use core::mem::size_of;
use core::ptr::read_volatile;

use super::{ABSENT, File, OFFSETS, Pid, Task, non_null, read};

/// `PROC_SUPER_MAGIC`, include/uapi/linux/magic.h
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// Slots of a node of the tree of numbers: `XA_CHUNK_SIZE`, include/linux/xarray.h.
const SLOTS: u32 = 64;

/// Levels of that tree: numbers end at `PID_MAX_LIMIT`, 2^22, and each level has six bits of them.
const LEVELS: usize = 4;

/// An entry that is no pointer but says something of the tree: `xa_is_internal`, include/linux/xarray.h.
/// A node's is its address with this bit.
const INTERNAL: usize = 2;

impl Task {
    /// The task that a number means to this one (`find_task_by_vpid`, kernel/pid.c): of its own pid
    /// namespace, a thread's number too. Reads without a lock what is freed by RCU: a task that is just
    /// ending may be missed, another never taken for it.
    #[inline(always)]
    pub fn by_number(self, number: u32) -> Option<Self> {
        let ns: *const u8 = member!(self.upid()?, upid_ns)?;
        let mut entry: usize = member!(ns, pid_ns_numbers)?;
        for level in 0..LEVELS {
            // Below a page are marks of the tree that stand for no node (`XA_RETRY_ENTRY` and its kin).
            if entry & 3 != INTERNAL || entry < 4096 {
                return None;
            }
            let node = (entry - INTERNAL) as *const u8;
            let shift: u8 = member!(node, xa_node_shift)?;
            // The tree is only as high as its numbers need it.
            if level == 0 && number >> (shift & 31) >= SLOTS {
                return None;
            }
            let slot = (number >> (shift & 31)) & (SLOTS - 1);
            let slots = address!(node, xa_node_slots)?;
            entry = read(slots.wrapping_add(slot as usize * size_of::<usize>()))?;
            if shift == 0 {
                break;
            }
        }
        if entry & 3 != 0 {
            return None;
        }
        Pid::new(entry as *const u8)?.task()
    }
}

impl Pid {
    /// The thread that has this number (`pid_task(pid, PIDTYPE_PID)`, kernel/pid.c).
    #[inline(always)]
    fn task(self) -> Option<Task> {
        // SAFETY: as in `member!`.
        let links = unsafe { read_volatile(&raw const OFFSETS.task_pid_links) };
        if links == ABSENT {
            return None;
        }
        // `tasks[PIDTYPE_PID].first`, which is `pid_links[PIDTYPE_PID]` of the task: the first of both.
        let first: *const u8 = member!(self.ptr(), pid_tasks)?;
        Task::new(non_null(first)?.wrapping_sub(links as usize))
    }
}

impl File {
    /// The task whose memory a file of `/proc` is: `mem` of a process or a thread.
    #[inline(always)]
    pub fn memory_of(self) -> Option<Task> {
        let inode = self.inode()?;
        let sb: *const u8 = member!(inode.ptr(), inode_sb)?;
        let magic: u64 = member!(sb, sb_magic)?;
        let name: [u8; 4] = read(self.path()?.dentry.name()?)?;
        if magic != PROC_SUPER_MAGIC || name != *b"mem\0" {
            return None;
        }
        // SAFETY: as in `member!`.
        let inner = unsafe { read_volatile(&raw const OFFSETS.proc_inode_inode) };
        if inner == ABSENT {
            return None;
        }
        let proc_inode = inode.ptr().wrapping_sub(inner as usize);
        Pid::new(member!(proc_inode, proc_inode_pid)?)?.task()
    }
}
