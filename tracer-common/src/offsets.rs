//! Every kernel structure member that the kernel side reads, as a table of dotted names.
//!
//! Rust emits no CO-RE relocations, so user space resolves the table from the running kernel's BTF
//! and hands it over as a frozen global before load. A member that this kernel lacks is
//! [`ABSENT`]; the verifier then prunes the code that reads it, so one object serves all kernels.
//! Older and newer names stand side by side: the first that resolves is taken.

pub use crate::control::ABSENT;
use crate::wire::Wire;

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Field of [`KernelOffsets`].
    pub field: &'static str,
    /// `struct.member.member`, newest name first. Members of anonymous structs and unions are
    /// found without naming them. `enum tag.value` is the value of an enumerator, `bit struct.member`
    /// the number of a bit field's first bit.
    pub names: &'static [&'static str],
    /// Without it the agent cannot do its main job on this kernel.
    pub required: bool,
}

macro_rules! kernel_offsets {
    ($( $need:ident $field:ident : $($name:literal)|+ ; )+) => {
        /// Byte offset of each member on the running kernel, or [`ABSENT`].
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct KernelOffsets { $(
            #[doc = concat!("Offset of ", $( "`", $name, "` ", )+)]
            pub $field: u32,
        )+ }

        // SAFETY: `repr(C)` and nothing but `u32`: no padding, every bit pattern valid.
        unsafe impl Wire for KernelOffsets {}

        impl KernelOffsets {
            /// The table, in field order.
            pub const MEMBERS: &[Member] = &[ $( Member {
                field: stringify!($field),
                names: &[ $( $name ),+ ],
                required: kernel_offsets!(@$need),
            }, )+ ];

            /// No member resolved.
            pub const ABSENT: Self = Self { $( $field: ABSENT, )+ };

            /// Builds the table by asking `resolve` for each row.
            pub fn resolve(mut resolve: impl FnMut(&'static Member) -> u32) -> Self {
                let mut rows = Self::MEMBERS.iter();
                Self { $( $field: rows.next().map_or(ABSENT, &mut resolve), )+ }
            }
        }
    };
    (@required) => { true };
    (@optional) => { false };
}

kernel_offsets! {
    required task_tgid: "task_struct.tgid";
    required task_pid: "task_struct.pid";
    required task_real_parent: "task_struct.real_parent";
    required task_group_leader: "task_struct.group_leader";
    // real_start_time until 5.4 (cf25e24db61c), start_boottime since 5.5.
    required task_start_boottime: "task_struct.start_boottime" | "task_struct.real_start_time";
    required task_mm: "task_struct.mm";
    required task_files: "task_struct.files";
    required task_fs: "task_struct.fs";
    required task_cred: "task_struct.cred";
    optional task_real_cred: "task_struct.real_cred";
    required task_nsproxy: "task_struct.nsproxy";
    required task_signal: "task_struct.signal";
    required task_exit_code: "task_struct.exit_code";
    // A bit field: the number of its bit, counted from the begin of the structure.
    optional task_in_execve: "bit task_struct.in_execve";
    optional task_comm: "task_struct.comm";
    optional task_pid_links: "task_struct.pid_links";
    optional task_loginuid: "task_struct.loginuid";
    optional task_sessionid: "task_struct.sessionid";
    optional task_thread_pid: "task_struct.thread_pid";
    optional task_cgroups: "task_struct.cgroups";

    required mm_arg_start: "mm_struct.arg_start";
    required mm_arg_end: "mm_struct.arg_end";
    required mm_exe_file: "mm_struct.exe_file";

    optional bprm_filename: "linux_binprm.filename";
    optional bprm_interp: "linux_binprm.interp";
    optional bprm_file: "linux_binprm.file";

    required file_path: "file.f_path";
    required file_inode: "file.f_inode";
    required file_mode: "file.f_mode";
    required file_flags: "file.f_flags";
    required file_private_data: "file.private_data";
    required path_dentry: "path.dentry";
    required path_mnt: "path.mnt";
    required dentry_parent: "dentry.d_parent";
    // 6.12 has d_name alone; 6.18 has an anonymous union of __d_name and a const view d_name.
    required dentry_name: "dentry.d_name" | "dentry.__d_name";
    optional dentry_inode: "dentry.d_inode";
    // A seqcount_spinlock_t, which begins with the count.
    optional dentry_seq: "dentry.d_seq";
    required qstr_name: "qstr.name";
    optional dentry_sb: "dentry.d_sb";
    optional vfsmount_sb: "vfsmount.mnt_sb";
    required vfsmount_root: "vfsmount.mnt_root";
    required mount_mnt: "mount.mnt";
    required mount_parent: "mount.mnt_parent";
    required mount_mountpoint: "mount.mnt_mountpoint";
    optional mount_ns: "mount.mnt_ns";
    // A link of the list, or the mount itself.
    optional mount_next_of_sb: "mount.mnt_next_for_sb" | "mount.mnt_instance";
    optional vfsmount_flags: "vfsmount.mnt_flags";
    optional rename_old_dentry: "renamedata.old_dentry";
    optional rename_new_dentry: "renamedata.new_dentry";

    required inode_ino: "inode.i_ino";
    required inode_mode: "inode.i_mode";
    required inode_sb: "inode.i_sb";
    optional inode_nlink: "inode.i_nlink" | "inode.__i_nlink";
    optional inode_generation: "inode.i_generation";
    optional inode_rdev: "inode.i_rdev";
    optional inode_uid: "inode.i_uid";
    optional inode_gid: "inode.i_gid";
    optional inode_size: "inode.i_size";
    required sb_dev: "super_block.s_dev";
    optional sb_magic: "super_block.s_magic";
    optional sb_root: "super_block.s_root";
    // The head of a list of mounts; from 6.18 on the first of them.
    optional sb_mounts: "super_block.s_mounts";
    optional proc_inode_pid: "proc_inode.pid";
    optional proc_inode_inode: "proc_inode.vfs_inode";
    optional iattr_valid: "iattr.ia_valid";
    optional iattr_mode: "iattr.ia_mode";
    optional iattr_uid: "iattr.ia_uid";
    optional iattr_gid: "iattr.ia_gid";
    optional iattr_size: "iattr.ia_size";

    required files_fdt: "files_struct.fdt";
    required fdt_fd: "fdtable.fd";
    required fdt_max_fds: "fdtable.max_fds";
    required fs_pwd: "fs_struct.pwd";
    optional fs_root: "fs_struct.root";

    required cred_uid: "cred.uid";
    required cred_gid: "cred.gid";
    required cred_euid: "cred.euid";
    required cred_egid: "cred.egid";
    optional cred_suid: "cred.suid";
    optional cred_sgid: "cred.sgid";
    optional cred_cap_effective: "cred.cap_effective";
    optional cred_cap_permitted: "cred.cap_permitted";
    optional cred_user_ns: "cred.user_ns";

    optional signal_live: "signal_struct.live";
    optional signal_flags: "signal_struct.flags";
    optional signal_group_exit_code: "signal_struct.group_exit_code";
    optional signal_pids: "signal_struct.pids";
    optional signal_tty: "signal_struct.tty";
    optional tty_driver: "tty_struct.driver";
    optional tty_index: "tty_struct.index";
    optional tty_driver_major: "tty_driver.major";
    optional tty_driver_minor_start: "tty_driver.minor_start";

    optional pid_level: "pid.level";
    optional pid_tasks: "pid.tasks";
    optional pid_numbers: "pid.numbers";
    optional upid_nr: "upid.nr";
    optional upid_ns: "upid.ns";
    optional upid_size: "sizeof upid";

    optional nsproxy_uts: "nsproxy.uts_ns";
    optional nsproxy_ipc: "nsproxy.ipc_ns";
    required nsproxy_mnt: "nsproxy.mnt_ns";
    optional nsproxy_net: "nsproxy.net_ns";
    optional nsproxy_cgroup: "nsproxy.cgroup_ns";
    // mnt_namespace.ns.inum: every namespace embeds ns_common as `ns`; its place differs.
    required mnt_ns_inum: "mnt_namespace.ns.inum";
    optional pid_ns_inum: "pid_namespace.ns.inum";
    // The tree of its numbers: struct idr around struct xarray (include/linux/idr.h).
    optional pid_ns_numbers: "pid_namespace.idr.idr_rt.xa_head";
    optional xa_node_shift: "xa_node.shift";
    optional xa_node_slots: "xa_node.slots";
    optional net_ns_inum: "net.ns.inum";
    optional user_ns_inum: "user_namespace.ns.inum";
    optional uts_ns_inum: "uts_namespace.ns.inum";
    optional ipc_ns_inum: "ipc_namespace.ns.inum";
    optional cgroup_ns_inum: "cgroup_namespace.ns.inum";

    optional css_set_dfl_cgrp: "css_set.dfl_cgrp";
    optional css_set_subsys: "css_set.subsys";
    optional css_cgroup: "cgroup_subsys_state.cgroup";
    optional cgroup_kn: "cgroup.kn";
    optional cgroup_root: "cgroup.root";
    optional kernfs_name: "kernfs_node.name";
    // kernfs_node.parent became the RCU pointer __parent in 6.15 (633488947ef6).
    optional kernfs_parent: "kernfs_node.__parent" | "kernfs_node.parent";
    optional memory_cgrp_id: "enum cgroup_subsys_id.memory_cgrp_id";
    optional pids_cgrp_id: "enum cgroup_subsys_id.pids_cgrp_id";

    optional socket_sk: "socket.sk";
    optional socket_state: "socket.state";
    optional socket_file: "socket.file";
    optional sk_family: "sock_common.skc_family";
    optional sk_state: "sock_common.skc_state";
    optional sk_rport: "sock_common.skc_dport";
    optional sk_lport: "sock_common.skc_num";
    optional sk_raddr4: "sock_common.skc_daddr";
    optional sk_laddr4: "sock_common.skc_rcv_saddr";
    optional sk_raddr6: "sock_common.skc_v6_daddr";
    optional sk_laddr6: "sock_common.skc_v6_rcv_saddr";
    optional sk_peer_pid: "sock.sk_peer_pid";
    optional sk_type: "sock.sk_type";
    optional sk_protocol: "sock.sk_protocol";
    optional sk_socket: "sock.sk_socket";
    optional unix_addr: "unix_sock.addr";
    optional unix_peer: "unix_sock.peer";
    optional unix_address_len: "unix_address.len";
    optional unix_address_name: "unix_address.name";
    optional msg_name: "msghdr.msg_name";
    optional msg_namelen: "msghdr.msg_namelen";
    optional msg_flags: "msghdr.msg_flags";

    optional kiocb_file: "io_kiocb.file";
    optional kiocb_opcode: "io_kiocb.opcode";
    optional kiocb_flags: "io_kiocb.flags";
    optional kiocb_ctx: "io_kiocb.ctx";
    // In an embedded `struct io_cqe` since 5.19 (cef216fc32d7).
    optional kiocb_user_data: "io_kiocb.cqe.user_data" | "io_kiocb.user_data";
    optional kiocb_result: "io_kiocb.cqe.res";
    optional kiocb_fd: "io_kiocb.cqe.fd";
    // Nodes since 6.13, before that the files themselves.
    optional uring_files: "io_ring_ctx.file_table.data.nodes" | "io_ring_ctx.file_table.files";
    optional uring_file_count: "io_ring_ctx.file_table.data.nr" | "io_ring_ctx.nr_user_files";
    optional uring_node_file: "io_rsrc_node.file_ptr";
    optional uring_cqe_result: "io_uring_cqe.res";
    optional uring_open_dir: "io_open.dfd";
    optional uring_open_slot: "io_open.file_slot";
    optional uring_open_name: "io_open.filename";
    optional uring_open_flags: "io_open.how.flags";
    optional uring_rename_old_dir: "io_rename.old_dfd";
    optional uring_rename_new_dir: "io_rename.new_dfd";
    optional uring_rename_old: "io_rename.oldpath";
    optional uring_rename_new: "io_rename.newpath";
    optional uring_rename_flags: "io_rename.flags";
    optional uring_link_old_dir: "io_link.old_dfd" | "io_hardlink.old_dfd";
    optional uring_link_new_dir: "io_link.new_dfd" | "io_hardlink.new_dfd";
    optional uring_link_old: "io_link.oldpath" | "io_hardlink.oldpath";
    optional uring_link_new: "io_link.newpath" | "io_hardlink.newpath";
    optional uring_link_flags: "io_link.flags" | "io_hardlink.flags";
    optional uring_unlink_dir: "io_unlink.dfd";
    optional uring_unlink_name: "io_unlink.filename";
    optional uring_unlink_flags: "io_unlink.flags";
    optional uring_mkdir_dir: "io_mkdir.dfd";
    optional uring_mkdir_name: "io_mkdir.filename";
    optional uring_mkdir_mode: "io_mkdir.mode";
    optional uring_xattr_name: "io_xattr.filename";
    optional uring_xattr_attribute: "io_xattr.ctx.kname";
    optional uring_xattr_size: "io_xattr.ctx.size";
    optional filename_name: "filename.name";
}

const _: () = {
    assert!(size_of::<KernelOffsets>() == 4 * KernelOffsets::MEMBERS.len());
};
