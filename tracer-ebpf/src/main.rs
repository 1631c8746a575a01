//! tracer's kernel side, and nothing else: hooks that take facts where the kernel has resolved
//! them and hand them over as records.
//!
//! `kernel` reads kernel structures, `guard` holds the lineage tags, `output` is the only way out,
//! `ledger` the books of what went through it, `quota` what one server may send; `probes` has one entry
//! point per hook.
#![no_std]
#![no_main]

mod guard;
mod kernel;
mod ledger;
mod output;
mod probes;
mod quota;

/// The tracing helpers are for GPL-compatible programs only (`license_is_gpl_compatible`,
/// include/linux/license.h, accepts this string).
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: nothing in this crate panics: no indexing, no overflow checks, no unwrap. The
    // verifier refuses a program in which this could be reached.
    unsafe { core::hint::unreachable_unchecked() }
}
