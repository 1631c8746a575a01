//! What system call numbers mean, in each calling convention that a supported architecture has.
//!
//! Tables only: what a meaning leads to is the kernel side's. Refuses to give a number two meanings in
//! one convention: its test does.

use tracer_common::control::Call;
use tracer_common::limits::CALL_NUMBERS;

/// A call and its number. A comment names the call where its meaning does not.
pub type Row = (Call, u16);

/// x86_64 and x32, whose own numbers begin at 512: arch/x86/entry/syscalls/syscall_64.tbl.
pub const X86_64: &[Row] = &[
    (Call::Open, 2),         // open
    (Call::Open, 85),        // creat
    (Call::Open, 257),       // openat
    (Call::Open, 304),       // open_by_handle_at
    (Call::Open, 437),       // openat2
    (Call::Write, 1),        // write
    (Call::Write, 18),       // pwrite64
    (Call::Write, 20),       // writev
    (Call::Write, 40),       // sendfile
    (Call::Write, 285),      // fallocate
    (Call::Write, 296),      // pwritev
    (Call::Write, 328),      // pwritev2
    (Call::Write, 516),      // writev of x32
    (Call::Write, 535),      // pwritev of x32
    (Call::Write, 547),      // pwritev2 of x32
    (Call::WriteThird, 275), // splice
    (Call::WriteThird, 326), // copy_file_range
    (Call::Ioctl, 16),       // ioctl
    (Call::Ioctl, 514),      // ioctl of x32
    (Call::Mmap, 9),         // mmap
    (Call::Rename, 82),
    (Call::Renameat, 264),
    (Call::Renameat2, 316),
    (Call::Connect, 42),
    (Call::Bind, 49),
    (Call::Listen, 50),
    (Call::Accept, 43),
    (Call::Accept, 288),
    (Call::Sendto, 44),
    (Call::Sendmsg, 46),
    (Call::Sendmmsg, 307),
    (Call::Recvmsg, 47),
    (Call::Descriptor, 32),
    (Call::Descriptor, 33),
    (Call::Descriptor, 292),
    (Call::Descriptor, 41),
    (Call::Descriptor, 438), // pidfd_getfd
    (Call::Fcntl, 72),
    (Call::Link, 86),
    (Call::Linkat, 265),
    (Call::Symlink, 88),
    (Call::Symlinkat, 266),
    (Call::Unlink, 87),
    (Call::Rmdir, 84),
    (Call::Unlinkat, 263),
    (Call::Mkdir, 83),
    (Call::Mkdirat, 258),
    (Call::Mknod, 133),
    (Call::Mknodat, 259),
    (Call::Truncate, 76),
    (Call::Ftruncate, 77),
    (Call::Chmod, 90),
    (Call::Fchmod, 91),
    (Call::Fchmodat, 268),
    (Call::Fchmodat, 452), // fchmodat2
    (Call::Chown, 92),
    (Call::Chown, 94), // lchown
    (Call::Fchown, 93),
    (Call::Fchownat, 260),
    (Call::Setxattr, 188),
    (Call::Setxattr, 189), // lsetxattr
    (Call::Fsetxattr, 190),
    (Call::Setxattrat, 463),
    (Call::Mount, 165),
    (Call::MoveMount, 429),
    (Call::Execve, 59),
    (Call::Execveat, 322),
    (Call::Credentials, 105),
    (Call::Credentials, 106),
    (Call::Credentials, 113),
    (Call::Credentials, 114),
    (Call::Credentials, 117),
    (Call::Credentials, 119),
    (Call::Credentials, 126),
    (Call::Setns, 308),
    (Call::Unshare, 272),
    (Call::Chroot, 161),
    (Call::PivotRoot, 155),
    (Call::Ptrace, 101),
    (Call::VmWrite, 311),
    // Of x32 alone.
    (Call::SendmsgX32, 518),
    (Call::RecvmsgX32, 519),
    (Call::SendmmsgX32, 538),
    (Call::Execve, 520),
    (Call::Execveat, 545),
    (Call::Ptrace, 521),
    (Call::VmWrite, 540),
];

/// 32-bit x86: arch/x86/entry/syscalls/syscall_32.tbl.
pub const I386: &[Row] = &[
    (Call::Open, 5),         // open
    (Call::Open, 8),         // creat
    (Call::Open, 295),       // openat
    (Call::Open, 342),       // open_by_handle_at
    (Call::Open, 437),       // openat2
    (Call::Write, 4),        // write
    (Call::Write, 146),      // writev
    (Call::Write, 181),      // pwrite64
    (Call::Write, 187),      // sendfile
    (Call::Write, 239),      // sendfile64
    (Call::Write, 324),      // fallocate
    (Call::Write, 334),      // pwritev
    (Call::Write, 379),      // pwritev2
    (Call::WriteThird, 313), // splice
    (Call::WriteThird, 377), // copy_file_range
    (Call::Ioctl, 54),       // ioctl
    (Call::Mmap, 192),       // mmap2
    (Call::OldMmap, 90),
    (Call::Rename, 38),
    (Call::Renameat, 302),
    (Call::Renameat2, 353),
    (Call::Socketcall, 102),
    (Call::Connect, 362),
    (Call::Bind, 361),
    (Call::Listen, 363),
    (Call::Accept, 364),
    (Call::Sendto, 369),
    (Call::Sendmsg, 370),
    (Call::Sendmmsg, 345),
    (Call::Recvmsg, 372),
    (Call::Descriptor, 41),
    (Call::Descriptor, 63),
    (Call::Descriptor, 330),
    (Call::Descriptor, 359),
    (Call::Descriptor, 438), // pidfd_getfd
    (Call::Fcntl, 55),
    (Call::Fcntl, 221),
    (Call::Link, 9),
    (Call::Linkat, 303),
    (Call::Symlink, 83),
    (Call::Symlinkat, 304),
    (Call::Unlink, 10),
    (Call::Rmdir, 40),
    (Call::Unlinkat, 301),
    (Call::Mkdir, 39),
    (Call::Mkdirat, 296),
    (Call::Mknod, 14),
    (Call::Mknodat, 297),
    (Call::Truncate, 92),
    (Call::Truncate64, 193),
    (Call::Ftruncate, 93),
    (Call::Ftruncate64, 194),
    (Call::Chmod, 15),
    (Call::Fchmod, 94),
    (Call::Fchmodat, 306),
    (Call::Fchmodat, 452), // fchmodat2
    (Call::Chown16, 16),   // lchown
    (Call::Chown16, 182),  // chown
    (Call::Chown, 198),    // lchown32
    (Call::Chown, 212),    // chown32
    (Call::Fchown16, 95),
    (Call::Fchown, 207), // fchown32
    (Call::Fchownat, 298),
    (Call::Setxattr, 226),
    (Call::Setxattr, 227), // lsetxattr
    (Call::Fsetxattr, 228),
    (Call::Setxattrat, 463),
    (Call::Mount, 21),
    (Call::MoveMount, 429),
    (Call::Execve, 11),
    (Call::Execveat, 358),
    (Call::Credentials, 23),
    (Call::Credentials, 46),
    (Call::Credentials, 70),
    (Call::Credentials, 71),
    (Call::Credentials, 164),
    (Call::Credentials, 170),
    (Call::Credentials, 185),
    (Call::Credentials, 203),
    (Call::Credentials, 204),
    (Call::Credentials, 208),
    (Call::Credentials, 210),
    (Call::Credentials, 213),
    (Call::Credentials, 214),
    (Call::Setns, 346),
    (Call::Unshare, 310),
    (Call::Chroot, 61),
    (Call::PivotRoot, 217),
    (Call::Ptrace, 26),
    (Call::VmWrite, 348),
];

/// 64-bit ARM: include/uapi/asm-generic/unistd.h.
pub const AARCH64: &[Row] = &[
    (Call::Open, 56),        // openat
    (Call::Open, 265),       // open_by_handle_at
    (Call::Open, 437),       // openat2
    (Call::Write, 47),       // fallocate
    (Call::Write, 64),       // write
    (Call::Write, 66),       // writev
    (Call::Write, 68),       // pwrite64
    (Call::Write, 70),       // pwritev
    (Call::Write, 71),       // sendfile
    (Call::Write, 287),      // pwritev2
    (Call::WriteThird, 76),  // splice
    (Call::WriteThird, 285), // copy_file_range
    (Call::Ioctl, 29),
    (Call::Mmap, 222),
    (Call::Renameat, 38),
    (Call::Renameat2, 276),
    (Call::Connect, 203),
    (Call::Bind, 200),
    (Call::Listen, 201),
    (Call::Accept, 202),
    (Call::Accept, 242),
    (Call::Sendto, 206),
    (Call::Sendmsg, 211),
    (Call::Sendmmsg, 269),
    (Call::Recvmsg, 212),
    (Call::Descriptor, 23),
    (Call::Descriptor, 24),
    (Call::Descriptor, 198),
    (Call::Descriptor, 438), // pidfd_getfd
    (Call::Fcntl, 25),
    (Call::Linkat, 37),
    (Call::Symlinkat, 36),
    (Call::Unlinkat, 35),
    (Call::Mkdirat, 34),
    (Call::Mknodat, 33),
    (Call::Truncate, 45),
    (Call::Ftruncate, 46),
    (Call::Fchmod, 52),
    (Call::Fchmodat, 53),
    (Call::Fchmodat, 452), // fchmodat2
    (Call::Fchown, 55),
    (Call::Fchownat, 54),
    (Call::Setxattr, 5),
    (Call::Setxattr, 6), // lsetxattr
    (Call::Fsetxattr, 7),
    (Call::Setxattrat, 463),
    (Call::Mount, 40),
    (Call::MoveMount, 429),
    (Call::Execve, 221),
    (Call::Execveat, 281),
    (Call::Credentials, 91),
    (Call::Credentials, 143),
    (Call::Credentials, 144),
    (Call::Credentials, 145),
    (Call::Credentials, 146),
    (Call::Credentials, 147),
    (Call::Credentials, 149),
    (Call::Setns, 268),
    (Call::Unshare, 97),
    (Call::Chroot, 51),
    (Call::PivotRoot, 41),
    (Call::Ptrace, 117),
    (Call::VmWrite, 271),
];

/// 32-bit ARM: arch/arm64/tools/syscall_32.tbl (include/asm/unistd32.h on older kernels).
pub const ARM: &[Row] = &[
    (Call::Open, 5),         // open
    (Call::Open, 8),         // creat
    (Call::Open, 322),       // openat
    (Call::Open, 371),       // open_by_handle_at
    (Call::Open, 437),       // openat2
    (Call::Write, 4),        // write
    (Call::Write, 146),      // writev
    (Call::Write, 181),      // pwrite64
    (Call::Write, 187),      // sendfile
    (Call::Write, 239),      // sendfile64
    (Call::Write, 352),      // fallocate
    (Call::Write, 362),      // pwritev
    (Call::Write, 393),      // pwritev2
    (Call::WriteThird, 340), // splice
    (Call::WriteThird, 391), // copy_file_range
    (Call::Ioctl, 54),       // ioctl
    (Call::Mmap, 192),       // mmap2
    (Call::Rename, 38),
    (Call::Renameat, 329),
    (Call::Renameat2, 382),
    (Call::Connect, 283),
    (Call::Bind, 282),
    (Call::Listen, 284),
    (Call::Accept, 285),
    (Call::Accept, 366),
    (Call::Send, 289),
    (Call::Sendto, 290),
    (Call::Sendmsg, 296),
    (Call::Sendmmsg, 374),
    (Call::Recvmsg, 297),
    (Call::Descriptor, 41),
    (Call::Descriptor, 63),
    (Call::Descriptor, 358),
    (Call::Descriptor, 281),
    (Call::Descriptor, 438), // pidfd_getfd
    (Call::Fcntl, 55),
    (Call::Fcntl, 221),
    (Call::Link, 9),
    (Call::Linkat, 330),
    (Call::Symlink, 83),
    (Call::Symlinkat, 331),
    (Call::Unlink, 10),
    (Call::Rmdir, 40),
    (Call::Unlinkat, 328),
    (Call::Mkdir, 39),
    (Call::Mkdirat, 323),
    (Call::Mknod, 14),
    (Call::Mknodat, 324),
    (Call::Truncate, 92),
    (Call::Truncate64Aligned, 193),
    (Call::Ftruncate, 93),
    (Call::Ftruncate64Aligned, 194),
    (Call::Chmod, 15),
    (Call::Fchmod, 94),
    (Call::Fchmodat, 333),
    (Call::Fchmodat, 452), // fchmodat2
    (Call::Chown16, 16),   // lchown
    (Call::Chown16, 182),  // chown
    (Call::Chown, 198),    // lchown32
    (Call::Chown, 212),    // chown32
    (Call::Fchown16, 95),
    (Call::Fchown, 207), // fchown32
    (Call::Fchownat, 325),
    (Call::Setxattr, 226),
    (Call::Setxattr, 227), // lsetxattr
    (Call::Fsetxattr, 228),
    (Call::Setxattrat, 463),
    (Call::Mount, 21),
    (Call::MoveMount, 429),
    (Call::Execve, 11),
    (Call::Execveat, 387),
    (Call::Credentials, 23),
    (Call::Credentials, 46),
    (Call::Credentials, 70),
    (Call::Credentials, 71),
    (Call::Credentials, 164),
    (Call::Credentials, 170),
    (Call::Credentials, 185),
    (Call::Credentials, 203),
    (Call::Credentials, 204),
    (Call::Credentials, 208),
    (Call::Credentials, 210),
    (Call::Credentials, 213),
    (Call::Credentials, 214),
    (Call::Setns, 375),
    (Call::Unshare, 337),
    (Call::Chroot, 61),
    (Call::PivotRoot, 218),
    (Call::Ptrace, 26),
    (Call::VmWrite, 377),
];

/// The rows as the kernel side reads them: by number, zero where none of ours.
#[must_use]
#[expect(
    clippy::indexing_slicing,
    reason = "no row is beyond the table: a test goes through all of them"
)]
pub const fn table(rows: &[Row]) -> [u8; CALL_NUMBERS] {
    let mut table = [0; CALL_NUMBERS];
    let mut rest = rows;
    while let [(call, number), more @ ..] = rest {
        table[*number as usize] = call.code();
        rest = more;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONVENTIONS: [(&str, &[Row]); 4] = [
        ("x86_64", X86_64),
        ("i386", I386),
        ("aarch64", AARCH64),
        ("arm", ARM),
    ];

    #[test]
    fn a_number_has_one_meaning() {
        for (name, rows) in CONVENTIONS {
            for (at, (call, number)) in rows.iter().enumerate() {
                assert!(usize::from(*number) < CALL_NUMBERS, "{name}: {call:?}");
                let again = rows[at + 1..].iter().find(|(_, other)| other == number);
                assert_eq!(again, None, "{name}: {number} is {call:?} already");
            }
        }
    }

    #[test]
    fn numbers_are_those_of_this_architecture() {
        let rows = match std::env::consts::ARCH {
            "x86_64" => X86_64,
            "aarch64" => AARCH64,
            other => panic!("no table of {other}"),
        };
        let expected = [
            (Call::Open, libc::SYS_openat),
            (Call::Open, libc::SYS_openat2),
            (Call::Open, libc::SYS_open_by_handle_at),
            (Call::Write, libc::SYS_write),
            (Call::Write, libc::SYS_pwrite64),
            (Call::Write, libc::SYS_writev),
            (Call::Write, libc::SYS_pwritev),
            (Call::Write, libc::SYS_pwritev2),
            (Call::Write, libc::SYS_sendfile),
            (Call::Write, libc::SYS_fallocate),
            (Call::WriteThird, libc::SYS_splice),
            (Call::WriteThird, libc::SYS_copy_file_range),
            (Call::Ioctl, libc::SYS_ioctl),
            (Call::Mmap, libc::SYS_mmap),
            (Call::Renameat, libc::SYS_renameat),
            (Call::Renameat2, libc::SYS_renameat2),
            (Call::Linkat, libc::SYS_linkat),
            (Call::Symlinkat, libc::SYS_symlinkat),
            (Call::Unlinkat, libc::SYS_unlinkat),
            (Call::Mkdirat, libc::SYS_mkdirat),
            (Call::Mknodat, libc::SYS_mknodat),
            (Call::Truncate, libc::SYS_truncate),
            (Call::Ftruncate, libc::SYS_ftruncate),
            (Call::Fchmod, libc::SYS_fchmod),
            (Call::Fchmodat, libc::SYS_fchmodat),
            (Call::Fchmodat, libc::SYS_fchmodat2),
            (Call::Fchown, libc::SYS_fchown),
            (Call::Fchownat, libc::SYS_fchownat),
            (Call::Setxattr, libc::SYS_setxattr),
            (Call::Setxattr, libc::SYS_lsetxattr),
            (Call::Fsetxattr, libc::SYS_fsetxattr),
            (Call::Mount, libc::SYS_mount),
            (Call::Descriptor, libc::SYS_pidfd_getfd),
            (Call::MoveMount, libc::SYS_move_mount),
        ];
        for (call, number) in expected {
            let found = rows.iter().find(|(_, of)| i64::from(*of) == number);
            assert_eq!(found.map(|(call, _)| *call), Some(call), "{number}");
        }
    }

    #[test]
    fn numbers_of_the_32_bit_conventions() {
        for (rows, number, call) in [
            (I386, 5, Call::Open),
            (I386, 90, Call::OldMmap),
            (I386, 192, Call::Mmap),
            (I386, 193, Call::Truncate64),
            (I386, 182, Call::Chown16),
            (I386, 212, Call::Chown),
            (I386, 353, Call::Renameat2),
            (ARM, 322, Call::Open),
            (ARM, 193, Call::Truncate64Aligned),
            (ARM, 330, Call::Linkat),
            (ARM, 382, Call::Renameat2),
            // Since 403 the numbers of all architectures are the same.
            (ARM, 463, Call::Setxattrat),
            (I386, 429, Call::MoveMount),
        ] {
            assert_eq!(table(rows)[number], call.code(), "{call:?}");
        }
    }
}
