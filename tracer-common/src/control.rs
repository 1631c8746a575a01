//! What the agent tells the kernel side before load. A frozen global: the verifier knows the
//! values and prunes what they rule out.

use crate::wire;

/// A member or system call that this kernel or architecture does not have.
pub const ABSENT: u32 = u32::MAX;

wire! {
    /// Where one system call convention keeps its arguments, and its numbers.
    /// Offsets are bytes into `struct pt_regs`; [`ABSENT`] where there is none.
    pub struct SyscallAbi {
        /// Offset of each of the first five arguments.
        pub arg: [u32; 5],
        /// open(2)
        pub open: u32,
        /// creat(2)
        pub creat: u32,
        /// openat(2)
        pub openat: u32,
        /// openat2(2)
        pub openat2: u32,
        /// rename(2)
        pub rename: u32,
        /// renameat(2)
        pub renameat: u32,
        /// renameat2(2)
        pub renameat2: u32,
    }

    /// Settings of the kernel side, fixed at load.
    pub struct Control {
        /// The agent's own thread group: its own work is never an event.
        pub own_tgid: u32,
        /// Offset of the system call number in `struct pt_regs`.
        pub nr_offset: u32,
        /// Offset in `task_struct` of the word that says a call came by the compat convention.
        pub compat_offset: u32,
        /// The place of its bit in that word, counted from the lowest.
        pub compat_shift: u32,
        /// The bit that marks an x32 call in the number; zero where there is no x32.
        pub x32_mask: u32,
        /// Bytes waiting in a ring from which on its reader is woken for any record. A record of a
        /// server lineage always wakes it; the others wait for its next look, because waking costs
        /// the traced process more than all the rest of a hook.
        pub wake_bytes: u32,
        /// The kernel's own convention, then the 32-bit one: the bit above is the index.
        pub abi: [SyscallAbi; 2],
    }
}
