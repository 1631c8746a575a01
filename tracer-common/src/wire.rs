//! Reading and writing records as bytes. The only `unsafe` of this crate.

use core::mem::size_of;

/// A plain record that may cross the boundary between kernel and user space.
///
/// # Safety
///
/// The type must be `repr(C)`, hold integers and byte arrays only, have no padding, and be valid
/// for every bit pattern. [`wire!`](crate::wire!) declares a type so and has the compiler refuse
/// one with padding.
pub unsafe trait Wire: Copy + 'static {}

/// Splits a `T` off the front of `bytes`; `None` where there are too few.
///
/// Bytes from the kernel are an allegation: this is the one place where they become a typed value,
/// and the type admits every bit pattern, so nothing is believed here. Meaning (kinds, lengths,
/// text) is checked by the decoder of the user side.
#[must_use]
pub fn split<T: Wire>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (head, tail) = bytes.split_at_checked(size_of::<T>())?;
    // SAFETY: `head` is exactly `size_of::<T>()` readable bytes; `read_unaligned` asks for no
    // alignment; `T: Wire` is valid for every bit pattern.
    Some((unsafe { head.as_ptr().cast::<T>().read_unaligned() }, tail))
}

/// The bytes of a record, as they travel.
#[must_use]
pub fn as_bytes<T: Wire>(record: &T) -> &[u8] {
    // SAFETY: `record` is a live reference to `size_of::<T>()` bytes, and `T: Wire` has no padding,
    // so each of them is initialised. The slice borrows `record`.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(record).cast(), size_of::<T>()) }
}

/// Declares wire structs: `repr(C)`, `Copy`, [`Wire`], and a compile error where there is padding.
#[macro_export]
macro_rules! wire {
    ($( $(#[$doc:meta])* pub struct $name:ident { $( $(#[$fdoc:meta])* pub $field:ident : $ty:ty ),+ $(,)? } )+) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name { $( $(#[$fdoc])* pub $field: $ty, )+ }

        const _: () = assert!(
            core::mem::size_of::<$name>() == 0 $( + core::mem::size_of::<$ty>() )+,
            concat!(stringify!($name), " has padding"),
        );

        // SAFETY: `repr(C)`; the assertion above leaves no room for padding; every field is an
        // integer, an array of integers or a struct declared by this macro.
        unsafe impl $crate::wire::Wire for $name {}

        impl $name {
            /// The record with every byte zero.
            pub const ZERO: Self = {
                // SAFETY: `Wire` types are valid for every bit pattern, zero included.
                unsafe { core::mem::zeroed() }
            };
        }
    )+};
}
