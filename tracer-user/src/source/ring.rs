//! The rings: from kernel memory to shared byte slices.

use std::io;

use aya::maps::{MapData, RingBuf};
use bytes::{Bytes, BytesMut};
use tokio::io::unix::AsyncFd;

/// Bytes read into one shared buffer before the next is begun: large enough that the allocation
/// is rare, small enough that one long-lived record does not hold much.
const CHUNK: usize = 64 * 1024;

/// Records taken at once, so that the other ring and the clock get their turn.
const BATCH: usize = 4096;

/// One ring.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
    chunk: BytesMut,
    taken: u64,
}

impl Ring {
    /// Registers a ring with the running tokio reactor.
    ///
    /// # Errors
    ///
    /// The reactor's.
    pub fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        #[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
        // SAFETY: `RingBuf` owns its map's descriptor for as long as it lives and always gives the
        // same one; it moves into the `AsyncFd`, which lets go of the registration before it.
        let ring = unsafe { AsyncFd::register(ring) }?;
        Ok(Self {
            ring,
            chunk: BytesMut::new(),
            taken: 0,
        })
    }

    /// Waits until the kernel says that there are records. Cancel safe.
    ///
    /// # Errors
    ///
    /// The reactor's.
    pub async fn ready(&self) -> io::Result<()> {
        // The readiness is cleared before the ring is drained, so that a record that comes while
        // draining wakes us again.
        self.ring.readable().await?.clear_ready();
        Ok(())
    }

    /// Takes what is there, at most a batch; true where there may be more.
    pub fn drain(&mut self, mut take: impl FnMut(Bytes)) -> bool {
        let ring = self.ring.get_mut();
        for _ in 0..BATCH {
            let Some(item) = ring.next() else {
                return false;
            };
            if self.chunk.capacity() < item.len() {
                self.chunk = BytesMut::with_capacity(CHUNK.max(item.len()));
            }
            self.chunk.extend_from_slice(&item);
            self.taken += 1;
            take(self.chunk.split().freeze());
        }
        true
    }

    /// Records taken so far.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }
}
