//! Requests of io_uring, once the kernel has taken them over from the caller's memory.

use core::mem::size_of;
use core::ptr::read_volatile;

use super::{ABSENT, File, OFFSETS, Request, Task, UringContext, non_null, read};

/// Bit of `io_kiocb.flags` (`REQ_F_FIXED_FILE`, include/linux/io_uring_types.h): the descriptor is a
/// place in the table of the ring.
const FIXED_FILE: u32 = 1 << 0;

/// `REQ_F_CQE_SKIP`: where it succeeds, nobody is told.
const CQE_SKIP: u32 = 1 << 6;

/// `IORING_FILE_INDEX_ALLOC` (include/uapi/linux/io_uring.h): the kernel chooses the place.
const ALLOCATE: u32 = u32::MAX;

/// Bits of `file_ptr` that are not of the address (`FFS_MASK`, io_uring/filetable.h).
const POINTER_BITS: usize = 7;

impl Request {
    /// `opcode`
    #[inline(always)]
    pub fn opcode(self) -> u8 {
        member!(self.ptr(), kiocb_opcode).unwrap_or(0)
    }

    /// `ctx`
    #[inline(always)]
    pub fn ring(self) -> Option<UringContext> {
        UringContext::new(member!(self.ptr(), kiocb_ctx)?)
    }

    /// `user_data`: the caller's number of it, which need not be of this one only.
    #[inline(always)]
    pub fn user_data(self) -> u64 {
        member!(self.ptr(), kiocb_user_data).unwrap_or(0)
    }

    /// `cqe.res`: its result once it is done. The completion entry itself is the caller's to write.
    #[inline(always)]
    pub fn result(self) -> Option<i32> {
        member!(self.ptr(), kiocb_result)
    }

    #[inline(always)]
    fn flags(self) -> u32 {
        // The lower half, where there are 64 bits: the flags of the caller.
        member!(self.ptr(), kiocb_flags).unwrap_or(0)
    }

    /// Whether nothing is told of it where it succeeds.
    #[inline(always)]
    pub fn is_silent(self) -> bool {
        self.flags() & CQE_SKIP != 0
    }

    /// What the kind of request has of its own: `struct io_open` and its like, which all begin with
    /// the file.
    #[inline(always)]
    fn command(self) -> *const u8 {
        address!(self.ptr(), kiocb_file).unwrap_or(core::ptr::null())
    }

    /// The file that it works on, before it begins. Older kernels look it up when the request is
    /// handed in, newer ones when it is done.
    #[inline(always)]
    pub fn file(self, task: Task) -> Option<File> {
        let file: *const u8 = member!(self.ptr(), kiocb_file)?;
        if let Some(file) = File::new(file) {
            return Some(file);
        }
        let fd: u32 = member!(self.ptr(), kiocb_fd)?;
        if self.flags() & FIXED_FILE != 0 {
            self.ring()?.file(fd)
        } else {
            task.file(fd)
        }
    }

    /// The file that an open which succeeded gave, by its result: a descriptor, or a place in the table
    /// of the ring.
    #[inline(always)]
    pub fn opened(ring: Option<UringContext>, task: Task, slot: u32, result: u32) -> Option<File> {
        match slot {
            0 => task.file(result),
            ALLOCATE => ring?.file(result),
            slot => ring?.file(slot - 1),
        }
    }

    /// `io_open.file_slot`: zero for a descriptor, else a place in the table of the ring, and one.
    #[inline(always)]
    pub fn open_slot(self) -> u32 {
        member!(self.command(), uring_open_slot).unwrap_or(0)
    }

    /// `io_open.dfd`
    #[inline(always)]
    pub fn open_dir(self) -> i32 {
        member!(self.command(), uring_open_dir).unwrap_or(-1)
    }

    /// `io_open.filename`
    #[inline(always)]
    pub fn open_name(self) -> *const u8 {
        name(address!(self.command(), uring_open_name))
    }

    /// `io_open.how.flags`
    #[inline(always)]
    pub fn open_flags(self) -> u32 {
        let flags: Option<u64> = member!(self.command(), uring_open_flags);
        flags.unwrap_or(0) as u32
    }

    /// `struct io_rename`: directories, names, flags.
    #[inline(always)]
    pub fn rename(self) -> Option<([i32; 2], [*const u8; 2], u32)> {
        let command = self.command();
        Some((
            [
                member!(command, uring_rename_old_dir)?,
                member!(command, uring_rename_new_dir)?,
            ],
            [
                name(address!(command, uring_rename_old)),
                name(address!(command, uring_rename_new)),
            ],
            member!(command, uring_rename_flags)?,
        ))
    }

    /// `struct io_link`, which symbolic links have too: directories, names, flags.
    #[inline(always)]
    pub fn link(self) -> Option<([i32; 2], [*const u8; 2], u32)> {
        let command = self.command();
        Some((
            [
                member!(command, uring_link_old_dir)?,
                member!(command, uring_link_new_dir)?,
            ],
            [
                name(address!(command, uring_link_old)),
                name(address!(command, uring_link_new)),
            ],
            member!(command, uring_link_flags)?,
        ))
    }

    /// `struct io_unlink`: directory, name, flags.
    #[inline(always)]
    pub fn unlink(self) -> Option<(i32, *const u8, u32)> {
        let command = self.command();
        Some((
            member!(command, uring_unlink_dir)?,
            name(address!(command, uring_unlink_name)),
            member!(command, uring_unlink_flags)?,
        ))
    }

    /// `struct io_mkdir`: directory, name, mode.
    #[inline(always)]
    pub fn mkdir(self) -> Option<(i32, *const u8, u16)> {
        let command = self.command();
        Some((
            member!(command, uring_mkdir_dir)?,
            name(address!(command, uring_mkdir_name)),
            member!(command, uring_mkdir_mode)?,
        ))
    }

    /// `struct io_xattr`: name of the file, where it goes by name, and of the attribute.
    #[inline(always)]
    pub fn attribute(self) -> Option<(*const u8, *const u8, u64)> {
        let command = self.command();
        let attribute: *const u8 = member!(command, uring_xattr_attribute)?;
        Some((
            name(address!(command, uring_xattr_name)),
            attribute,
            member!(command, uring_xattr_size)?,
        ))
    }
}

/// The kernel's own copy of a name, from a pointer to `struct filename`. Newer kernels have it in
/// `struct delayed_filename`, whose pointer may carry a mark in its lowest bit.
#[inline(always)]
fn name(at: Option<*const u8>) -> *const u8 {
    let filename: Option<usize> = at.and_then(read);
    let filename = filename.unwrap_or(0) & !1;
    member!(filename as *const u8, filename_name).unwrap_or(core::ptr::null())
}

impl UringContext {
    /// Its address, which tells it from others.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.ptr() as u64
    }

    /// Whether [`UringContext::file`] works on this kernel.
    #[inline(always)]
    pub fn tells_files() -> bool {
        // SAFETY: as in `member!`.
        (unsafe { read_volatile(&raw const OFFSETS.uring_files) }) != ABSENT
    }

    /// The file at a place of the ring's own table. Newer kernels have a node between
    /// (`io_slot_file`, io_uring/filetable.h; `io_fixed_file_slot` before 6.13).
    #[inline(always)]
    fn file(self, place: u32) -> Option<File> {
        let count: u32 = member!(self.ptr(), uring_file_count)?;
        if place >= count {
            return None;
        }
        let table = non_null(member!(self.ptr(), uring_files)?)?;
        let entry: usize = read(table.wrapping_add(place as usize * size_of::<usize>()))?;
        // SAFETY: as in `member!`.
        let node = unsafe { read_volatile(&raw const OFFSETS.uring_node_file) };
        let pointer: usize = if node == ABSENT {
            entry
        } else {
            member!(non_null(entry as *const u8)?, uring_node_file)?
        };
        File::new((pointer & !POINTER_BITS) as *const u8)
    }
}
