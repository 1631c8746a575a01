//! What system call numbers mean, in each calling convention that a supported architecture has.

use tracer_common::control::Call;
use tracer_common::limits::CALL_NUMBERS;

/// A call and its number.
pub type Row = (Call, u16);

/// x86_64 and x32: arch/x86/entry/syscalls/syscall_64.tbl.
pub const X86_64: &[Row] = &[
    (Call::Open, 2),
    (Call::Open, 85),
    (Call::Open, 257),
    (Call::Open, 437),
    (Call::Write, 1),
    (Call::Mmap, 9),
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
    (Call::Fcntl, 72),
];

/// 32-bit x86: arch/x86/entry/syscalls/syscall_32.tbl.
pub const I386: &[Row] = &[
    (Call::Open, 5),
    (Call::Open, 8),
    (Call::Open, 295),
    (Call::Open, 437),
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
    (Call::Fcntl, 55),
    (Call::Fcntl, 221),
];

/// 64-bit ARM: include/uapi/asm-generic/unistd.h.
pub const AARCH64: &[Row] = &[
    (Call::Open, 56),
    (Call::Open, 437),
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
    (Call::Fcntl, 25),
];

/// 32-bit ARM: arch/arm64/tools/syscall_32.tbl (include/asm/unistd32.h on older kernels).
pub const ARM: &[Row] = &[
    (Call::Open, 5),
    (Call::Open, 8),
    (Call::Open, 322),
    (Call::Open, 437),
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
    (Call::Fcntl, 55),
    (Call::Fcntl, 221),
];

/// The rows as the kernel side reads them: by number, zero where none of ours.
#[must_use]
pub const fn table(rows: &[Row]) -> [u8; CALL_NUMBERS] {
    let mut table = [0; CALL_NUMBERS];
    let mut rest = rows;
    while let [(call, number), more @ ..] = rest {
        table[*number as usize] = call.code();
        rest = more;
    }
    table
}
