//! Where each call that changes names or attributes has its arguments.
//!
//! A table and not code: what is read from it is any number to the verifier, so that it sees the one
//! body that all these calls share once, and not once for each of them.

use core::ptr::read_volatile;

use tracer_common::control::Call;
use tracer_common::event::EventKind;

/// Instead of an argument: zero.
pub const NONE: u8 = 6;

/// Instead of an argument: `AT_FDCWD`.
pub const HERE: u8 = 7;

/// `AT_REMOVEDIR`, include/uapi/linux/fcntl.h
const AT_REMOVEDIR: u16 = 0x200;

/// Which argument is what. A side without a name is what its descriptor is of.
#[derive(Clone, Copy)]
#[repr(C)]
struct Row {
    /// Flags that the call stands for.
    pub implied: u16,
    /// [`EventKind`]; zero for no call of these.
    pub kind: u8,
    /// Not zero where there is an old side.
    pub has_old: u8,
    /// Directory of the old side.
    pub old_dir: u8,
    /// Name of the old side.
    pub old_name: u8,
    /// Directory of the new side.
    pub new_dir: u8,
    /// Name of the new side.
    pub new_name: u8,
    /// A string that is no name of a file to change.
    pub detail: u8,
    /// Upper half of the number.
    pub high: u8,
    /// The number, or the lower half of it.
    pub low: u8,
    /// Bits of the register of the number that do not count.
    pub unused: u8,
    /// Mode that is asked for.
    pub mode: u8,
    /// Flags.
    pub flags: u8,
    /// Not zero where it may happen to a file that a server's lineage wrote, and is told of anyone
    /// then.
    pub anyone: u8,
    /// Unused.
    pub reserved: u8,
}

impl Row {
    const EMPTY: Self = Self {
        implied: 0,
        kind: 0,
        has_old: 0,
        old_dir: NONE,
        old_name: NONE,
        new_dir: NONE,
        new_name: NONE,
        detail: NONE,
        high: NONE,
        low: NONE,
        unused: 0,
        mode: NONE,
        flags: NONE,
        anyone: 0,
        reserved: 0,
    };

    /// One name, or a descriptor in its place.
    const fn one(kind: EventKind, new_dir: u8, new_name: u8) -> Self {
        Self {
            kind: kind.raw() as u8,
            new_dir,
            new_name,
            ..Self::EMPTY
        }
    }

    /// An old name and a new one.
    const fn two(kind: EventKind, old_dir: u8, old_name: u8, new_dir: u8, new_name: u8) -> Self {
        Self {
            has_old: 1,
            old_dir,
            old_name,
            ..Self::one(kind, new_dir, new_name)
        }
    }

    const fn flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    const fn mode(self, mode: u8) -> Self {
        Self { mode, ..self }
    }

    const fn detail(self, detail: u8) -> Self {
        Self { detail, ..self }
    }

    const fn number(self, low: u8) -> Self {
        Self { low, ..self }
    }

    /// Two arguments of 32 bits that are one number.
    const fn halves(self, high: u8, low: u8) -> Self {
        Self {
            high,
            low,
            unused: 32,
            ..self
        }
    }

    const fn anyone(self) -> Self {
        Self { anyone: 1, ..self }
    }
}

/// By [`Call::code`].
static SHAPES: [Row; 64] = {
    let mut table = [Row::EMPTY; 64];
    let mut rest = ROWS;
    while let [(call, shape), more @ ..] = rest {
        table[call.code() as usize] = *shape;
        rest = more;
    }
    table
};

/// The row of a call, each of whose fields is read when it is asked for: there are more of them than
/// registers.
#[derive(Clone, Copy)]
pub struct Shape(*const Row);

macro_rules! fields {
    ($( $field:ident: $type:ty; )+) => {
        impl Shape {
            /// The shape of a call.
            #[inline(always)]
            pub fn of(code: u8) -> Self {
                let table = (&raw const SHAPES).cast::<Row>();
                // SAFETY: a live local; the index is below the table's length. Volatile, so that the
                // compiler does not leave out the bound because it knows the codes, which the verifier
                // does not.
                unsafe {
                    let at = read_volatile(&raw const code) & 63;
                    Self(table.add(at.into()))
                }
            }

            $(
                #[inline(always)]
                pub fn $field(self) -> $type {
                    // SAFETY: points to a row. Volatile, so that the compiler does not make code of the
                    // table.
                    unsafe { read_volatile(&raw const (*self.0).$field) }
                }
            )+
        }
    };
}

fields! {
    implied: u16;
    kind: u8;
    has_old: u8;
    old_dir: u8;
    old_name: u8;
    new_dir: u8;
    new_name: u8;
    detail: u8;
    high: u8;
    low: u8;
    unused: u8;
    mode: u8;
    flags: u8;
    anyone: u8;
}

use EventKind::{
    Chmod, Chown, Link, Mkdir, Mknod, Mount, Rename, Setxattr, Symlink, Truncate, Unlink,
};

/// As the comments of [`Call`] have the arguments.
const ROWS: &[(Call, Row)] = &[
    (Call::Rename, Row::two(Rename, HERE, 0, HERE, 1).anyone()),
    (Call::Renameat, Row::two(Rename, 0, 1, 2, 3).anyone()),
    (
        Call::Renameat2,
        Row::two(Rename, 0, 1, 2, 3).flags(4).anyone(),
    ),
    (Call::Link, Row::two(Link, HERE, 0, HERE, 1).anyone()),
    (Call::Linkat, Row::two(Link, 0, 1, 2, 3).flags(4).anyone()),
    (Call::Symlink, Row::one(Symlink, HERE, 1).detail(0)),
    (Call::Symlinkat, Row::one(Symlink, 1, 2).detail(0)),
    (Call::Unlink, Row::one(Unlink, HERE, 0)),
    (
        Call::Rmdir,
        Row {
            implied: AT_REMOVEDIR,
            ..Row::one(Unlink, HERE, 0)
        },
    ),
    (Call::Unlinkat, Row::one(Unlink, 0, 1).flags(2)),
    (Call::Mkdir, Row::one(Mkdir, HERE, 0).mode(1)),
    (Call::Mkdirat, Row::one(Mkdir, 0, 1).mode(2)),
    (Call::Mknod, Row::one(Mknod, HERE, 0).mode(1).number(2)),
    (Call::Mknodat, Row::one(Mknod, 0, 1).mode(2).number(3)),
    (Call::Truncate, Row::one(Truncate, HERE, 0).number(1)),
    (Call::Truncate64, Row::one(Truncate, HERE, 0).halves(2, 1)),
    (
        Call::Truncate64Aligned,
        Row::one(Truncate, HERE, 0).halves(3, 2),
    ),
    (Call::Ftruncate, Row::one(Truncate, 0, NONE).number(1)),
    (Call::Ftruncate64, Row::one(Truncate, 0, NONE).halves(2, 1)),
    (
        Call::Ftruncate64Aligned,
        Row::one(Truncate, 0, NONE).halves(3, 2),
    ),
    (Call::Chmod, Row::one(Chmod, HERE, 0).mode(1).anyone()),
    (Call::Fchmod, Row::one(Chmod, 0, NONE).mode(1).anyone()),
    (Call::Fchmodat, Row::one(Chmod, 0, 1).mode(2).anyone()),
    (Call::Chown, Row::one(Chown, HERE, 0).halves(1, 2).anyone()),
    (
        Call::Chown16,
        Row::one(Chown, HERE, 0).halves(1, 2).anyone(),
    ),
    (Call::Fchown, Row::one(Chown, 0, NONE).halves(1, 2).anyone()),
    (
        Call::Fchown16,
        Row::one(Chown, 0, NONE).halves(1, 2).anyone(),
    ),
    (
        Call::Fchownat,
        Row::one(Chown, 0, 1).halves(2, 3).flags(4).anyone(),
    ),
    (
        Call::Setxattr,
        Row::one(Setxattr, HERE, 0)
            .detail(1)
            .number(3)
            .flags(4)
            .anyone(),
    ),
    (
        Call::Fsetxattr,
        Row::one(Setxattr, 0, NONE)
            .detail(1)
            .number(3)
            .flags(4)
            .anyone(),
    ),
    // The length of its value is in a structure of the caller.
    (
        Call::Setxattrat,
        Row::one(Setxattr, 0, 1).detail(3).flags(2).anyone(),
    ),
    (Call::Mount, Row::one(Mount, HERE, 1).detail(0).number(3)),
    (Call::MoveMount, Row::two(Mount, 0, 1, 2, 3).flags(4)),
];
