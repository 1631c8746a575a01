//! What the test program does when a test executes it.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::ExitCode;

use crate::child::reap;
use crate::sys;

/// A program that does nothing but end well: a thousand of them start in the time that this one needs
/// to get ready on an emulated processor.
pub(crate) fn shortest_program() -> Vec<u8> {
    // exit(0), in the machine's words, and the machine's number (include/uapi/linux/elf-em.h).
    #[cfg(target_arch = "x86_64")]
    let (machine, code) = (
        62_u16,
        [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, 0x90, 0x90, 0x90],
    );
    #[cfg(target_arch = "aarch64")]
    let (machine, code) = (
        183_u16,
        [0xa8, 0x0b, 0x80, 0xd2, 0, 0, 0x80, 0xd2, 0x01, 0, 0, 0xd4],
    );
    const BASE: u64 = 0x40_0000;
    const HEADERS: u16 = 64 + 56;
    let size = u64::from(HEADERS) + code.len() as u64;
    // Elf64_Ehdr, then one Elf64_Phdr (include/uapi/linux/elf.h).
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let mut put = |bytes: &[u8]| elf.extend_from_slice(bytes);
    put(&2_u16.to_le_bytes()); // e_type: ET_EXEC
    put(&machine.to_le_bytes());
    put(&1_u32.to_le_bytes()); // e_version
    put(&(BASE + u64::from(HEADERS)).to_le_bytes()); // e_entry
    put(&64_u64.to_le_bytes()); // e_phoff
    put(&[0; 12]); // e_shoff, e_flags
    for field in [64_u16, 56, 1, 64, 0, 0] {
        put(&field.to_le_bytes()); // e_ehsize to e_shstrndx
    }
    put(&1_u32.to_le_bytes()); // p_type: PT_LOAD
    put(&5_u32.to_le_bytes()); // p_flags: PF_R, PF_X
    for field in [0, BASE, BASE, size, size, 0x1_0000] {
        put(&field.to_le_bytes()); // p_offset to p_align
    }
    put(&code);
    elf
}

/// What to do, from the name that the program was started by: `helper-ACTION`. Started without a
/// name it is a helper too, or a test of just that would run all tests.
pub(crate) fn action() -> Option<Vec<u8>> {
    let Some(name) = std::env::args_os().next().filter(|name| !name.is_empty()) else {
        return Some(b"exit".to_vec());
    };
    let name = Path::new(&name)
        .file_name()
        .map(OsStr::to_owned)?
        .into_vec();
    name.strip_prefix(b"helper-").map(<[u8]>::to_vec)
}

/// Does it.
pub(crate) fn run(action: &[u8]) -> ExitCode {
    match action {
        b"exit" => ExitCode::SUCCESS,
        // Until somebody looked at us and sends a signal.
        b"pause" => loop {
            std::thread::park();
        },
        // A service that was handed its socket: takes one connection there.
        b"accept" => {
            let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
            let listener = std::net::TcpListener::from(socket);
            drop(listener.accept().unwrap());
            ExitCode::SUCCESS
        }
        // What an interpreter does: opens its script, the first argument, then others, and runs on.
        b"open" => {
            for file in std::env::args_os().skip(1) {
                drop(std::fs::File::open(file).unwrap());
            }
            loop {
                std::thread::park();
            }
        }
        // What daemons do to show a title.
        b"overwrite" => {
            sys::process::overwrite_arguments(b'x');
            loop {
                std::thread::park();
            }
        }
        // What env(1) does: becomes what it was told, with the arguments after that.
        b"become" => {
            let argv: Vec<_> = std::env::args_os().skip(1).map(sys::c).collect();
            panic!("{argv:?}: {}", sys::execve(&argv[0], &argv, &[]))
        }
        // A child that ends at once.
        b"fork" => {
            let pid = sys::fork().unwrap();
            if pid != 0 {
                reap(pid);
            }
            ExitCode::SUCCESS
        }
        other => {
            eprintln!("no such helper: {}", OsStr::from_bytes(other).display());
            ExitCode::from(2)
        }
    }
}
