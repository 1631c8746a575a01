//! The kernel side's memory of files that server lineages wrote, as far as an earlier agent knew them: what
//! the kernel side learned since it was loaded stays as it is. Both maps make room by themselves.

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use tracer_common::tag::{InodeKey, Writer};

use super::account::is_other_than_thought;
use super::{Plain, SensorError, map_error, take};

/// Bytes of a name that the kernel side looks at, from its end (`LOOK`, tracer-ebpf/src/output/walk.rs).
const LOOK: usize = 64;

/// `BPF_NOEXIST`, include/uapi/linux/bpf.h
const BPF_NOEXIST: u64 = 1;

/// Both maps.
pub(super) struct Written {
    files: HashMap<MapData, Plain<InodeKey>, Plain<Writer>>,
    names: HashMap<MapData, u32, u32>,
}

impl Written {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, SensorError> {
        Ok(Self {
            files: take(ebpf, "WRITTEN")?
                .try_into()
                .map_err(|error| map_error(&error))?,
            names: take(ebpf, "WRITTEN_NAMES")?
                .try_into()
                .map_err(|error| map_error(&error))?,
        })
    }

    pub(super) fn set(&mut self, file: InodeKey, writer: Writer) -> Result<(), SensorError> {
        match self.files.insert(Plain(file), Plain(writer), BPF_NOEXIST) {
            Err(error) if !is_other_than_thought(&error) => Err(map_error(&error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn name(&mut self, name: &[u8]) -> Result<(), SensorError> {
        self.names
            .insert(hash(name), 1, 0)
            .map_err(|error| map_error(&error))
    }
}

/// FNV-1a over the bytes from the last to the first, as the kernel side walks a name.
fn hash(name: &[u8]) -> u32 {
    let bytes = name.iter().rev().take(LOOK);
    bytes.fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_known_by_its_end() {
        assert_eq!(hash(b""), 0x811c_9dc5);
        // FNV-1a of `foobar`, as published with the algorithm.
        assert_eq!(hash(b"raboof"), 0xbf9c_f968);
        let end = [b'x'; LOOK];
        assert_eq!(hash(&end), hash(&[b"beginning".as_slice(), &end].concat()));
        assert_ne!(hash(&end), hash(&end[1..]));
    }
}
