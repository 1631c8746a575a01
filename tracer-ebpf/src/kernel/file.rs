//! Files, and where they are: paths, directories, mounts, inodes.

use core::ptr::read_volatile;

use tracer_common::event::{FdInfo, fd_kind};
use tracer_common::tag::InodeKey;

use super::{ABSENT, Dentry, File, Inode, Mount, OFFSETS, Socket, non_null};

/// Where a name is: `struct path`.
#[derive(Clone, Copy)]
pub struct Path {
    /// `path.dentry`
    pub dentry: Dentry,
    /// The mount around `path.mnt`
    pub mount: Mount,
}

impl Path {
    /// From the address of a `struct path`.
    #[inline(always)]
    pub fn at(path: *const u8) -> Option<Self> {
        let dentry = Dentry::new(member!(path, path_dentry)?)?;
        let mount = Mount::around(member!(path, path_mnt)?)?;
        Some(Self { dentry, mount })
    }
}

impl Dentry {
    /// `d_parent`: itself at a root.
    #[inline(always)]
    pub fn parent(self) -> Option<Self> {
        Self::new(member!(self.ptr(), dentry_parent)?)
    }

    /// `d_inode`; `None` for a name that has no file yet.
    #[inline(always)]
    pub fn inode(self) -> Option<Inode> {
        Inode::new(member!(self.ptr(), dentry_inode)?)
    }

    /// `d_sb`
    #[inline(always)]
    pub fn file_system(self) -> u64 {
        member!(self.ptr(), dentry_sb).unwrap_or(0)
    }

    /// `s_root` of a file system.
    #[inline(always)]
    pub fn root_of(file_system: u64) -> Option<Self> {
        Self::new(member!(file_system as *const u8, sb_root)?)
    }

    /// `d_name.name`
    #[inline(always)]
    pub fn name(self) -> Option<*const u8> {
        non_null(member!(address!(self.ptr(), dentry_name)?, qstr_name)?)
    }

    /// `d_seq`: odd while the name or the parent changes, another number after that (`__d_move`,
    /// fs/dcache.c).
    #[inline(always)]
    pub fn sequence(self) -> u32 {
        member!(self.ptr(), dentry_seq).unwrap_or(0)
    }
}

impl Mount {
    /// `real_mount()`, fs/mount.h.
    #[inline(always)]
    fn around(vfsmount: *const u8) -> Option<Self> {
        // SAFETY: as in `member!`.
        let offset = unsafe { read_volatile(&raw const OFFSETS.mount_mnt) };
        if vfsmount.is_null() || offset == ABSENT {
            return None;
        }
        Self::new(vfsmount.wrapping_sub(offset as usize))
    }

    /// `mnt.mnt_root`
    #[inline(always)]
    pub fn root(self) -> Option<Dentry> {
        Dentry::new(member!(address!(self.ptr(), mount_mnt)?, vfsmount_root)?)
    }

    /// `mnt_parent`: itself at the root of a mount namespace.
    #[inline(always)]
    pub fn parent(self) -> Option<Self> {
        Self::new(member!(self.ptr(), mount_parent)?)
    }

    /// Whether it is a file system's own view of another one, as overlayfs has of its layers
    /// (`clone_private_mount`, fs/namespace.c): in no namespace, as the mounts that the kernel makes
    /// for itself, but without their flag. Nobody can name what lies there.
    #[inline(always)]
    pub fn is_private(self) -> bool {
        /// `MNT_NS_INTERNAL`, fs/mount.h: `ERR_PTR(-EINVAL)`
        const INTERNAL: i64 = -22;
        /// `MNT_INTERNAL`, include/linux/mount.h
        const KERNEL: u32 = 0x4000;
        let ns: Option<i64> = member!(self.ptr(), mount_ns);
        let flags: Option<u32> =
            address!(self.ptr(), mount_mnt).and_then(|mount| member!(mount, vfsmount_flags));
        ns == Some(INTERNAL) && flags.unwrap_or(KERNEL) & KERNEL == 0
    }

    /// Whether it is in any namespace, or in the kernel's own: not after it was taken away while something
    /// held it (`umount_tree`, fs/namespace.c).
    #[inline(always)]
    pub fn is_in_namespace(self) -> bool {
        let ns: Option<u64> = member!(self.ptr(), mount_ns);
        ns != Some(0)
    }

    /// The namespace it is in.
    #[inline(always)]
    pub fn namespace(self) -> u64 {
        member!(self.ptr(), mount_ns).unwrap_or(0)
    }

    /// `mnt.mnt_sb`
    #[inline(always)]
    fn file_system(self) -> u64 {
        address!(self.ptr(), mount_mnt)
            .and_then(|mount| member!(mount, vfsmount_sb))
            .unwrap_or(0)
    }

    /// The first mount of a file system.
    #[inline(always)]
    pub fn first_of(file_system: u64) -> Option<Self> {
        Self::listed(member!(file_system as *const u8, sb_mounts)?, file_system)
    }

    /// The next mount of its file system.
    #[inline(always)]
    pub fn next_of(self, file_system: u64) -> Option<Self> {
        Self::listed(member!(self.ptr(), mount_next_of_sb)?, file_system)
    }

    /// What a file system or a mount has of the next mount: its address, or on older kernels that of the
    /// link in it, which at the end is none's. So whatever is not of the file system is none.
    #[inline(always)]
    fn listed(link: u64, file_system: u64) -> Option<Self> {
        // SAFETY: as in `member!`.
        let offset = unsafe { read_volatile(&raw const OFFSETS.mount_next_of_sb) };
        let link = link as *const u8;
        let of = |mount: &Self| mount.file_system() == file_system;
        Self::new(link)
            .filter(of)
            .or_else(|| Self::new(link.wrapping_sub(offset as usize)).filter(of))
    }

    /// `mnt_ns`: the mount namespace that it is in.
    #[inline(always)]
    pub fn ns(self) -> Option<*const u8> {
        non_null(member!(self.ptr(), mount_ns)?)
    }

    /// `mnt_mountpoint`
    #[inline(always)]
    pub fn mountpoint(self) -> Option<Dentry> {
        Dentry::new(member!(self.ptr(), mount_mountpoint)?)
    }
}

impl Inode {
    /// `i_ino` and the device of its super block.
    #[inline(always)]
    pub fn key(self) -> Option<InodeKey> {
        let sb: *const u8 = member!(self.ptr(), inode_sb)?;
        Some(InodeKey {
            inode: member!(self.ptr(), inode_ino)?,
            dev: member!(sb, sb_dev)?,
            reserved: 0,
        })
    }

    /// `i_ino`
    #[inline(always)]
    pub fn ino(self) -> u64 {
        member!(self.ptr(), inode_ino).unwrap_or(0)
    }

    /// `i_mode`
    #[inline(always)]
    pub fn mode(self) -> u16 {
        member!(self.ptr(), inode_mode).unwrap_or(0)
    }

    /// `i_nlink`; 1 where it cannot be read, as zero has a meaning.
    #[inline(always)]
    pub fn nlink(self) -> u32 {
        member!(self.ptr(), inode_nlink).unwrap_or(1)
    }

    /// `i_generation`
    #[inline(always)]
    pub fn generation(self) -> u32 {
        member!(self.ptr(), inode_generation).unwrap_or(0)
    }

    /// `i_uid`
    #[inline(always)]
    pub fn uid(self) -> u32 {
        member!(self.ptr(), inode_uid).unwrap_or(u32::MAX)
    }

    /// `i_gid`
    #[inline(always)]
    pub fn gid(self) -> u32 {
        member!(self.ptr(), inode_gid).unwrap_or(u32::MAX)
    }

    /// `i_size`
    #[inline(always)]
    pub fn size(self) -> u64 {
        member!(self.ptr(), inode_size).unwrap_or(0)
    }

    /// Whether its file system holds no data of its own: what is written there goes to the kernel,
    /// and the numbers of its files are used again at once. Not one that the kernel does not tell.
    #[inline(always)]
    pub fn is_pseudo(self) -> bool {
        let sb: Option<*const u8> = member!(self.ptr(), inode_sb);
        let magic: Option<u64> = sb.and_then(|sb| member!(sb, sb_magic));
        // include/uapi/linux/magic.h
        matches!(
            magic,
            Some(
                0x9fa0              // PROC_SUPER_MAGIC
                | 0x6265_6572       // SYSFS_MAGIC
                | 0x0027_e0eb       // CGROUP_SUPER_MAGIC
                | 0x6367_7270       // CGROUP2_SUPER_MAGIC
                | 0x6462_6720       // DEBUGFS_MAGIC
                | 0x7472_6163       // TRACEFS_MAGIC
                | 0x7363_6673       // SECURITYFS_MAGIC
                | 0xf97c_ff8c       // SELINUX_MAGIC
                | 0x1980_0202       // MQUEUE_MAGIC, ipc/mqueue.c
                | 0x6265_6570 // CONFIGFS_MAGIC, fs/configfs/mount.c
            )
        )
    }

    #[inline(always)]
    fn rdev(self) -> u32 {
        member!(self.ptr(), inode_rdev).unwrap_or(0)
    }
}

/// `S_IFMT` and the types of `i_mode` (include/uapi/linux/stat.h).
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const S_IFREG: u16 = 0o100_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFIFO: u16 = 0o010_000;

impl File {
    /// Its address, to be kept in a map.
    #[inline(always)]
    pub fn address(self) -> *const u8 {
        self.ptr()
    }

    /// `f_path`
    #[inline(always)]
    pub fn path(self) -> Option<Path> {
        Path::at(address!(self.ptr(), file_path)?)
    }

    /// `f_inode`
    #[inline(always)]
    pub fn inode(self) -> Option<Inode> {
        Inode::new(member!(self.ptr(), file_inode)?)
    }

    /// `f_mode`
    #[inline(always)]
    pub fn mode(self) -> u32 {
        member!(self.ptr(), file_mode).unwrap_or(0)
    }

    /// `f_flags`, without those of the open alone: `do_dentry_open` (fs/open.c) takes them away at its
    /// end, which one tier sees and the other does not.
    #[inline(always)]
    pub fn flags(self) -> u32 {
        /// `O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC`, include/uapi/asm-generic/fcntl.h
        const OF_THE_OPEN: u32 = 0o1700;
        let flags: u32 = member!(self.ptr(), file_flags).unwrap_or(0);
        flags & !OF_THE_OPEN
    }

    /// Whether it is a regular file.
    #[inline(always)]
    pub fn is_regular(self) -> bool {
        match self.inode() {
            Some(inode) => inode.mode() & S_IFMT == S_IFREG,
            None => false,
        }
    }

    /// The socket that it is, if it is one. A file of type socket may have none: the name of a unix
    /// socket, opened with `O_PATH`.
    #[inline(always)]
    pub fn socket(self) -> Option<Socket> {
        if self.inode()?.mode() & S_IFMT != S_IFSOCK {
            return None;
        }
        Socket::new(member!(self.ptr(), file_private_data)?)
    }

    /// Writes what the descriptor is into `info`, which must be zero.
    #[inline(always)]
    pub(super) fn describe(self, info: &mut FdInfo) {
        let Some(inode) = self.inode() else { return };
        info.inode = inode.ino();
        match inode.mode() & S_IFMT {
            S_IFREG => info.kind = fd_kind::FILE,
            S_IFIFO => info.kind = fd_kind::PIPE,
            S_IFCHR => {
                info.rdev = inode.rdev();
                info.kind = match (info.rdev >> 20, info.rdev & 0xf_ffff) {
                    (1, 3) => fd_kind::NULL,
                    // Documentation/admin-guide/devices.txt: 4 tty and ttyS, 5 tty and console,
                    // 136 to 143 pts.
                    (4 | 5 | 136..=143, _) => fd_kind::TTY,
                    _ => fd_kind::OTHER,
                };
            }
            S_IFSOCK => {
                info.kind = fd_kind::SOCKET;
                let socket = Socket::new(
                    member!(self.ptr(), file_private_data).unwrap_or(core::ptr::null()),
                );
                if let Some(sock) = socket.and_then(|socket| socket.sock()) {
                    sock.describe(info);
                }
            }
            _ => info.kind = fd_kind::OTHER,
        }
    }
}
