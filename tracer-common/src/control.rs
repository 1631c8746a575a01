//! What the agent tells the kernel side before load. A frozen global: the verifier knows the
//! values and prunes what they rule out.

use crate::limits::CALL_NUMBERS;
use crate::wire;

/// A member or system call that this kernel or architecture does not have.
pub const ABSENT: u32 = u32::MAX;

macro_rules! calls {
    ($( $(#[$doc:meta])* $name:ident = $code:literal; )+) => {
        /// A system call that the tracepoint tier looks at, by what it does and where it has its
        /// arguments. Calls that are alike in both share a code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Call { $( $(#[$doc])* $name = $code, )+ }
    };
}

calls! {
    /// Gives a descriptor of a file: open, creat, openat, openat2, open_by_handle_at.
    Open = 1;
    /// Writes to the descriptor that is its first argument: write, pwrite64, writev, pwritev,
    /// pwritev2, sendfile, fallocate.
    Write = 2;
    /// Writes to the descriptor that is its third argument: copy_file_range, splice.
    WriteThird = 3;
    /// ioctl: clones into its first argument with `FICLONE`, `FICLONERANGE`.
    Ioctl = 4;
    /// mmap, mmap2
    Mmap = 5;
    /// mmap of 32-bit x86, whose only argument points to the six.
    OldMmap = 6;
    /// truncate64(name, low, high), a size in two registers
    Truncate64 = 7;
    /// ftruncate64(descriptor, low, high)
    Ftruncate64 = 8;
    /// truncate64(name, nothing, low, high) of 32-bit ARM, where pairs begin at even registers
    Truncate64Aligned = 9;
    /// rename(old, new)
    Rename = 10;
    /// renameat(dir, old, dir, new)
    Renameat = 11;
    /// renameat2(dir, old, dir, new, flags)
    Renameat2 = 36;
    /// chown, lchown with users and groups of 16 bits
    Chown16 = 37;
    /// fchown with users and groups of 16 bits
    Fchown16 = 38;
    /// ftruncate64(descriptor, nothing, low, high) of 32-bit ARM
    Ftruncate64Aligned = 39;
    /// link(old, new)
    Link = 12;
    /// linkat(dir, old, dir, new, flags)
    Linkat = 13;
    /// symlink(target, new)
    Symlink = 14;
    /// symlinkat(target, dir, new)
    Symlinkat = 15;
    /// unlink(name)
    Unlink = 16;
    /// rmdir(name)
    Rmdir = 17;
    /// unlinkat(dir, name, flags)
    Unlinkat = 18;
    /// mkdir(name, mode)
    Mkdir = 19;
    /// mkdirat(dir, name, mode)
    Mkdirat = 20;
    /// mknod(name, mode, device)
    Mknod = 21;
    /// mknodat(dir, name, mode, device)
    Mknodat = 22;
    /// truncate(name, size), truncate64
    Truncate = 23;
    /// ftruncate(descriptor, size), ftruncate64
    Ftruncate = 24;
    /// chmod(name, mode)
    Chmod = 25;
    /// fchmod(descriptor, mode)
    Fchmod = 26;
    /// fchmodat(dir, name, mode), fchmodat2(dir, name, mode, flags)
    Fchmodat = 27;
    /// chown(name, user, group), lchown
    Chown = 28;
    /// fchown(descriptor, user, group)
    Fchown = 29;
    /// fchownat(dir, name, user, group, flags)
    Fchownat = 30;
    /// setxattr(name, attribute, value, size, flags), lsetxattr
    Setxattr = 31;
    /// fsetxattr(descriptor, attribute, value, size, flags)
    Fsetxattr = 32;
    /// setxattrat(dir, name, flags, attribute, arguments, size)
    Setxattrat = 33;
    /// mount(source, target, type, flags, data)
    Mount = 34;
    /// move_mount(dir, from, dir, to, flags)
    MoveMount = 35;
    /// connect(descriptor, address, length)
    Connect = 40;
    /// bind(descriptor, address, length)
    Bind = 41;
    /// listen(descriptor, backlog)
    Listen = 42;
    /// Gives a descriptor of a connection: accept, accept4
    Accept = 43;
    /// Sends through its first argument: sendto
    Sendto = 44;
    /// The same: sendmsg
    Sendmsg = 45;
    /// The same, of several messages: sendmmsg
    Sendmmsg = 70;
    /// Gives a descriptor that may be 0, 1 or 2: dup, dup2, dup3, socket,
    /// pidfd_getfd
    Descriptor = 46;
    /// socketcall(call, arguments) of 32-bit x86
    Socketcall = 47;
    /// send(descriptor, buffer, length, flags) of 32-bit ARM
    Send = 48;
    /// fcntl(descriptor, command, argument), fcntl64: gives a descriptor with `F_DUPFD`
    Fcntl = 49;
    /// May give descriptors that another process sent: recvmsg
    Recvmsg = 71;
    /// sendmsg of x32, whose structures are those of 32 bits
    SendmsgX32 = 72;
    /// sendmmsg, the same way
    SendmmsgX32 = 73;
    /// recvmsg, the same way
    RecvmsgX32 = 74;
    /// execve(name, arguments, environment)
    Execve = 50;
    /// execveat(dir, name, arguments, environment, flags)
    Execveat = 51;
    /// Changes users, groups or capabilities: setuid and its kin, capset
    Credentials = 52;
    /// setns(descriptor, type)
    Setns = 53;
    /// unshare(flags)
    Unshare = 54;
    /// chroot(name)
    Chroot = 55;
    /// pivot_root(new, old)
    PivotRoot = 56;
    /// ptrace(request, pid, address, data)
    Ptrace = 57;
    /// process_vm_writev(pid, …)
    VmWrite = 58;
}

impl Call {
    /// The code as [`Control::calls`] holds it; zero is no call of ours.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

macro_rules! functions {
    ($( $name:ident = $index:literal, $text:literal, $dentry:literal; )+) => {
        /// A kernel function whose arguments differ between kernels, and with them the place of its
        /// result. The discriminant is its index in [`Control::arguments`] and [`Control::dentries`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Function { $( #[doc = concat!("`", $text, "`")] $name = $index, )+ }

        impl Function {
            /// Every one, in the order of [`Control::arguments`].
            pub const ALL: &[Self] = &[ $( Self::$name, )+ ];

            /// Its name in the kernel.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }

            /// The name of the argument that is the dentry that it is about.
            #[must_use]
            pub const fn dentry(self) -> &'static str {
                match self { $( Self::$name => $dentry, )+ }
            }
        }
    };
}

functions! {
    Rename = 0, "vfs_rename", "new_dentry";
    Link = 1, "vfs_link", "new_dentry";
    Unlink = 2, "vfs_unlink", "dentry";
    Mkdir = 3, "vfs_mkdir", "dentry";
    Mknod = 4, "vfs_mknod", "dentry";
    Create = 5, "vfs_create", "dentry";
    Symlink = 6, "vfs_symlink", "dentry";
    NotifyChange = 7, "notify_change", "dentry";
}

/// How many [`Function`]s there are.
pub const FUNCTIONS: usize = Function::ALL.len();

wire! {
    /// Where one system call convention keeps its arguments.
    /// Offsets are bytes into `struct pt_regs`; [`ABSENT`] where there is none.
    pub struct SyscallAbi {
        /// Offset of each of the six arguments.
        pub arg: [u32; 6],
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
        /// File records that one server's lineage may make a second; zero is no limit.
        pub quota_per_second: u32,
        /// Not zero: what any process writes in watched directories is told, not only servers' work.
        pub any_writer: u32,
        /// How many arguments each [`Function`] takes; [`ABSENT`] where the kernel lacks it.
        pub arguments: [u32; FUNCTIONS],
        /// Which of them is the dentry that it is about, as a map of ids comes first on newer kernels;
        /// [`ABSENT`] where none is.
        pub dentries: [u32; FUNCTIONS],
        /// Which argument of the tracepoint of a submitted io_uring request is the request.
        pub uring_submit_request: u32,
        /// Which argument of `io_uring_complete` is the request; [`ABSENT`] where none is.
        pub uring_complete_request: u32,
        /// Which one is the user's number of it; [`ABSENT`] where none is.
        pub uring_complete_user_data: u32,
        /// Which one is the result; [`ABSENT`] where it is in the completion entry.
        pub uring_complete_result: u32,
        /// Which one is the completion entry; [`ABSENT`] where none is.
        pub uring_complete_entry: u32,
        /// Where each convention keeps its arguments: the kernel's own, then the 32-bit one: the
        /// compat bit is the index.
        pub abi: [SyscallAbi; 2],
        /// What each call number means in each convention: a [`Call`], or zero.
        pub calls: [[u8; CALL_NUMBERS]; 2],
    }
}
