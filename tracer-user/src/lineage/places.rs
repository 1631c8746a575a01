//! Which container each process is in. A cgroup's path is read once, when its exec is taken in; what it says is
//! held once for all that are in the container, and goes on to those whom they create. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use super::Store;
use super::process::Process;
use crate::enrich::container::{Place, place};
use crate::event::ProcessKey;
use crate::memory::{block, entry};

/// Containers that are held before it is looked whether anybody is in them.
const FEW: usize = 64;

/// The containers that processes are in, and some that nobody is in any more: at most as many again, or
/// [`FEW`].
#[derive(Default)]
pub(super) struct Places {
    known: HashSet<Arc<Place>>,
    /// How many may be known until those that nobody is in go.
    most: usize,
}

impl Places {
    /// The container of a cgroup path, the same for all that name it.
    fn of(&mut self, cgroup: &[u8]) -> Option<Arc<Place>> {
        Some(self.shared(place(cgroup)?))
    }

    fn shared(&mut self, place: Place) -> Arc<Place> {
        if let Some(known) = self.known.get(&place) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.most {
            self.known.retain(|place| Arc::strong_count(place) > 1);
            self.most = FEW.max(2 * self.known.len());
        }
        let place = Arc::new(place);
        self.known.insert(Arc::clone(&place));
        place
    }
}

/// What a container takes that is held for its processes.
pub(super) fn weight(place: &Place) -> usize {
    let Place { id, pod_uid, .. } = place;
    let texts = block(id.capacity()) + block(pod_uid.as_ref().map_or(0, String::capacity));
    // Two words of counts stand before what is shared.
    block(size_of::<Place>() + 16) + texts + entry(size_of::<Arc<Place>>())
}

impl Store {
    /// The container of a process. One whose cgroup was not told is where its creator is.
    #[must_use]
    pub fn place<'a>(&'a self, process: &'a Process) -> Option<&'a Arc<Place>> {
        let mut above = self.chain(process.key).skip(1);
        let told = if process.placed {
            process
        } else {
            above.find(|above| above.placed)?
        };
        told.place.as_ref()
    }

    /// The same, by who it is.
    #[must_use]
    pub fn place_of(&self, key: ProcessKey) -> Option<&Arc<Place>> {
        self.place(self.get(key)?)
    }

    /// A container of which only the id is known, the same for all that are told of it.
    pub fn shared_place(&mut self, id: &str) -> Arc<Place> {
        self.places.shared(Place {
            id: id.to_owned(),
            runtime: None,
            pod_uid: None,
        })
    }

    /// Notes where a process is. An empty path is one that could not be read.
    pub(super) fn moved(&mut self, key: ProcessKey, cgroup: &[u8]) {
        if cgroup.is_empty() {
            return;
        }
        let place = self.places.of(cgroup);
        if let Some(process) = self.get_mut(key) {
            (process.place, process.placed) = (place, true);
        }
    }
}
