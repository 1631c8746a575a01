//! Typed pointers into kernel structures: every kernel read is a method here.
//!
//! Offsets come from user space ([`KernelOffsets`]), resolved from the running kernel's BTF. A
//! member that this kernel lacks reads as `None`, and the verifier prunes the read.

use core::mem::size_of;
use core::ptr::NonNull;

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user,
};
use tracer_common::control::{ABSENT, Control};
use tracer_common::offsets::KernelOffsets;

/// Set by user space before load, frozen then.
#[unsafe(no_mangle)]
static OFFSETS: KernelOffsets = KernelOffsets::ABSENT;

/// Set by user space before load, frozen then.
#[unsafe(no_mangle)]
pub static CONTROL: Control = Control::ZERO;

/// A setting of [`Control`], as the verifier will know it.
macro_rules! control {
    ($($field:tt)+) => {{
        // SAFETY: reads a field of a live static; volatile, because user space sets it after
        // compilation.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::CONTROL.$($field)+) }
    }};
}
pub(crate) use control;

/// The agent's own thread group.
#[inline(always)]
pub fn own_tgid() -> u32 {
    control!(own_tgid)
}

/// Reads the member that lies at an offset of the table.
macro_rules! member {
    ($base:expr, $offset:ident) => {{
        let offset =
            // SAFETY: reads a field of a live static; volatile, because user space sets it after
            // compilation.
            unsafe { core::ptr::read_volatile(&raw const $crate::kernel::OFFSETS.$offset) };
        $crate::kernel::read_at($base, offset)
    }};
}

/// The address of a member, for members that are embedded structures.
macro_rules! address {
    ($base:expr, $offset:ident) => {{
        let offset =
            // SAFETY: as in `member!`.
            unsafe { core::ptr::read_volatile(&raw const $crate::kernel::OFFSETS.$offset) };
        if offset == $crate::kernel::ABSENT || $base.is_null() {
            None
        } else {
            Some($base.wrapping_add(offset as usize))
        }
    }};
}

// After the macros, which they use.
mod file;
mod numbers;
mod socket;
mod task;
mod uring;

pub use file::Path;
pub use socket::{AF_UNIX, Address, Endpoint, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM};

#[inline(always)]
fn read_at<T: Copy>(base: *const u8, offset: u32) -> Option<T> {
    if offset == ABSENT {
        None
    } else {
        read(base.wrapping_add(offset as usize))
    }
}

/// Reads a kernel value; `None` where the address is not mapped.
#[inline(always)]
fn read<T: Copy>(at: *const u8) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the destination is `size_of::<T>()` bytes of our stack; the helper checks the source
    // and fills all of the destination or fails.
    let failed = unsafe {
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, at.cast())
    };
    if failed == 0 {
        // SAFETY: the helper filled it; `T` is an integer, an array of them or a pointer here.
        Some(unsafe { value.assume_init() })
    } else {
        None
    }
}

/// Reads a value of the current process; `None` where its page is not there.
#[inline(always)]
pub fn user<T: Copy>(at: *const u8) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: as in `read`.
    let failed =
        unsafe { bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, at.cast()) };
    if failed == 0 {
        // SAFETY: as in `read`.
        Some(unsafe { value.assume_init() })
    } else {
        None
    }
}

/// Reads a byte of the kernel's; `None` where it is not mapped.
#[inline(always)]
pub fn byte(at: *const u8) -> Option<u8> {
    read(at)
}

/// The first bytes of a string of the kernel's, and what follows it where it is shorter; zeroes where
/// they cannot be read.
#[inline(always)]
pub fn head(string: *const u8) -> [u8; 16] {
    read(string).unwrap_or([0; 16])
}

/// Reads a byte of the current process; `None` where its page is not there.
#[inline(always)]
pub fn user_byte(at: *const u8) -> Option<u8> {
    let mut byte = 0_u8;
    // SAFETY: the destination is one byte of our stack; the helper checks the source.
    let failed = unsafe { bpf_probe_read_user((&raw mut byte).cast(), 1, at.cast()) };
    if failed == 0 { Some(byte) } else { None }
}

/// Reads four bytes of the current process; zero where their page is not there.
#[inline(always)]
pub fn user_word(at: u64) -> u32 {
    let mut word = 0_u32;
    // SAFETY: the destination is four bytes of our stack; the helper checks the source, and fills what it
    // cannot read with zeroes.
    unsafe { bpf_probe_read_user((&raw mut word).cast(), 4, at as *const _) };
    word
}

/// Reads a short name of the kernel's; what it does not fill stays as it is.
#[inline(always)]
pub fn kernel_name(name: *const u8, to: &mut [u8; 16]) {
    // SAFETY: the destination is that many bytes; the helper checks the source and ends what it writes
    // with NUL. Where it fails the name is not told.
    unsafe { bpf_probe_read_kernel_str(to.as_mut_ptr().cast(), 16, name.cast()) };
}

#[inline(always)]
fn non_null(pointer: *const u8) -> Option<*const u8> {
    if pointer.is_null() {
        None
    } else {
        Some(pointer)
    }
}

macro_rules! pointers {
    ($( $(#[$doc:meta])* $name:ident; )+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[repr(transparent)]
        pub struct $name(NonNull<u8>);

        impl $name {
            /// From an address that the kernel gave; `None` for null.
            #[inline(always)]
            pub fn new(address: *const u8) -> Option<Self> {
                NonNull::new(address.cast_mut()).map(Self)
            }

            /// As a number, for a function that takes no pointers.
            #[inline(always)]
            #[allow(dead_code, reason = "not every kind of pointer is passed on as a number")]
            pub fn number(self) -> u64 {
                self.ptr() as u64
            }

            #[inline(always)]
            fn ptr(self) -> *const u8 {
                self.0.as_ptr()
            }
        }
    )+};
}

pointers! {
    /// `struct task_struct`
    Task;
    /// `struct linux_binprm`
    Bprm;
    /// `struct file`
    File;
    /// `struct inode`
    Inode;
    /// `struct dentry`
    Dentry;
    /// `struct mount`, around the `struct vfsmount` that paths point to
    Mount;
    /// `struct cgroup`
    Cgroup;
    /// `struct kernfs_node`
    Kernfs;
    /// `struct socket`: what a descriptor holds
    Socket;
    /// `struct sock`: what the protocol holds
    Sock;
    /// `struct msghdr`, the kernel's own
    Message;
    /// `struct iattr`
    Iattr;
    /// `struct renamedata`
    Renamedata;
    /// `struct io_kiocb`
    Request;
    /// `struct io_ring_ctx`
    UringContext;
    /// `struct cred`
    Cred;
    /// `struct pid`
    Pid;
}

impl Iattr {
    /// `ia_valid`
    #[inline(always)]
    pub fn valid(self) -> u32 {
        member!(self.ptr(), iattr_valid).unwrap_or(0)
    }

    /// `ia_mode`
    #[inline(always)]
    pub fn mode(self) -> u16 {
        member!(self.ptr(), iattr_mode).unwrap_or(0)
    }

    /// `ia_uid`
    #[inline(always)]
    pub fn uid(self) -> u32 {
        member!(self.ptr(), iattr_uid).unwrap_or(u32::MAX)
    }

    /// `ia_gid`
    #[inline(always)]
    pub fn gid(self) -> u32 {
        member!(self.ptr(), iattr_gid).unwrap_or(u32::MAX)
    }

    /// `ia_size`
    #[inline(always)]
    pub fn size(self) -> u64 {
        member!(self.ptr(), iattr_size).unwrap_or(0)
    }
}

impl Renamedata {
    /// `old_dentry`
    #[inline(always)]
    pub fn old(self) -> u64 {
        member!(self.ptr(), rename_old_dentry).unwrap_or(0)
    }

    /// `new_dentry`
    #[inline(always)]
    pub fn new_name(self) -> u64 {
        member!(self.ptr(), rename_new_dentry).unwrap_or(0)
    }
}

/// `pid_nr()`: the number of a `struct pid` in the initial namespace.
#[inline(always)]
fn global_nr(pid: *const u8) -> Option<u32> {
    member!(address!(pid, pid_numbers)?, upid_nr)
}

impl Bprm {
    /// `filename`: what execve was given, in kernel memory. The script, where there is one.
    #[inline(always)]
    pub fn filename(self) -> *const u8 {
        member!(self.ptr(), bprm_filename).unwrap_or(core::ptr::null())
    }

    /// `file`: what is looked at now, the script before its interpreter.
    #[inline(always)]
    pub fn file(self) -> Option<File> {
        File::new(member!(self.ptr(), bprm_file)?)
    }

    /// Whether it is not what execve was given that runs: an interpreter's name has taken its place.
    #[inline(always)]
    pub fn is_interpreted(self) -> bool {
        self.filename() != self.interp()
    }

    /// `interp`: what runs it.
    #[inline(always)]
    pub fn interp(self) -> *const u8 {
        member!(self.ptr(), bprm_interp).unwrap_or(core::ptr::null())
    }
}

/// The registers a system call came with: `struct pt_regs`.
#[derive(Clone, Copy)]
pub struct Registers(*const u8);

/// The registers that a system call's own function has for its argument. Read as memory, where the context
/// of the program keeps arguments: on kernels whose BTF names the type and does not have it
/// (`__x64_sys_execveat` of 5.10) the verifier refuses to hand it out.
#[inline(always)]
pub fn first_argument(context: *const u8) -> Registers {
    Registers::new(read(context).unwrap_or(core::ptr::null()))
}

impl Registers {
    /// From the address the tracepoint gave.
    #[inline(always)]
    pub fn new(address: *const u8) -> Self {
        Self(address)
    }

    /// The number of the call, without the x32 bit; `None` where it was none.
    #[inline(always)]
    pub fn number(self) -> Option<u32> {
        let number: u32 = read_at(self.0, control!(nr_offset))?;
        let number = number & !control!(x32_mask);
        if number > i32::MAX as u32 {
            None
        } else {
            Some(number)
        }
    }

    /// The register at an offset of the convention table.
    #[inline(always)]
    pub fn at(self, offset: u32) -> u64 {
        read_at(self.0, offset).unwrap_or(0)
    }
}
