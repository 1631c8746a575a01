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
];

/// 64-bit ARM: include/uapi/asm-generic/unistd.h.
pub const AARCH64: &[Row] = &[
    (Call::Open, 56),
    (Call::Open, 437),
    (Call::Renameat, 38),
    (Call::Renameat2, 276),
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
