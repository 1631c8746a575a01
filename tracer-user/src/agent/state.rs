//! What this agent leaves to the next one, in a file that it writes now and then and when it ends.
//!
//! Read before anything else at start; written on a thread [apart](super::apart), as the file system may
//! be slow, but for the last time. Once a second the file says that the agent is alive, so that the next
//! one knows since when nobody was. Refuses to keep a state for two agents at once.

mod file;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::file::{Place, encode, keep_alive};
use super::apart::{Apart, Limits, Word};
use super::host;
use super::owner::Owner;
use crate::pipeline::Left;
use crate::source::remembered::{Blind, Remembered};

/// One write at a time.
const LIMITS: Limits = Limits {
    at_once: 1,
    stuck: 1,
    patience: Duration::from_secs(60),
};

/// Where the state is kept.
#[derive(Clone, Debug)]
pub struct StateOptions {
    /// The file.
    pub file: PathBuf,
    /// How often it is written, where something has changed.
    pub every: Duration,
    /// Whether it is written at all: a recording only takes it up.
    pub is_written: bool,
}

/// The file that is written to, and how.
pub(super) struct Keeper {
    /// Dropped, the place is another agent's to take.
    _claim: OwnedFd,
    path: PathBuf,
    place: Arc<Place>,
    boot_id: String,
    every: Duration,
    /// What was written last, by [`crate::pipeline::Pipeline::lineage_changes`].
    written: Option<u64>,
    due: Instant,
    /// The file as it is now, for the time in it.
    file: Option<Arc<std::fs::File>>,
    apart: Apart<Result<Written, String>>,
    is_writing: bool,
    /// Said that it cannot be written.
    failed: bool,
    /// Said that not everything fits.
    is_full: bool,
}

struct Written {
    file: std::fs::File,
    /// Entries of lineage, and files and links of servers, for which there was no room.
    left_out: [usize; 2],
}

/// What the state gives to an agent that begins.
#[derive(Default)]
pub(super) struct Taken {
    /// What an agent before this one knew.
    pub(super) left: Vec<Remembered>,
    /// When there was none.
    pub(super) blind: Option<Blind>,
    /// Who writes the state from now on.
    pub(super) keeper: Option<Keeper>,
}

/// Opens the place of the state, and reads what is there; the hooks are attached by now. What cannot be used
/// is told in one line.
pub(super) fn open(options: Option<&StateOptions>, boot_id: &str, attached_boot_ns: u64) -> Taken {
    let Some(options) = options else {
        return Taken::default();
    };
    let path = &options.file;
    let place = match Place::open(path) {
        Ok(place) => place,
        Err(why) => {
            say(path, &why, "no state is kept");
            return Taken::default();
        }
    };
    let claim = if options.is_written {
        let claim = place.claim().map_err(|error| format!("its lock: {error}"));
        match claim
            .and_then(|held| held.ok_or_else(|| "another agent keeps its state there".into()))
        {
            Ok(held) => Some(held),
            Err(why) => {
                say(path, &why, "this one keeps none");
                return Taken::default();
            }
        }
    } else {
        None
    };
    let state = place.read(boot_id).unwrap_or_else(|why| {
        say(path, &why, "it is not used");
        None
    });
    let keeper = claim.map(|claim| Keeper {
        _claim: claim,
        path: path.clone(),
        place: Arc::new(place),
        boot_id: boot_id.to_owned(),
        every: options.every,
        written: None,
        due: Instant::now(),
        file: None,
        apart: Apart::new("tracer-state", LIMITS),
        is_writing: false,
        failed: false,
        is_full: false,
    });
    // Who only takes up what another agent knows is beside that one, not after it.
    let before = state.as_ref().filter(|_| options.is_written);
    let blind = before.map(|state| Blind {
        since_boot_ns: state.alive_boot_ns,
        until_boot_ns: attached_boot_ns,
    });
    Taken {
        left: state.map(|state| state.remembered).unwrap_or_default(),
        blind: blind.filter(|blind| blind.since_boot_ns < blind.until_boot_ns),
        keeper,
    }
}

fn say(path: &Path, why: &str, so: &str) {
    eprintln!("tracer: state file {}: {why}; {so}", path.display());
}

impl Keeper {
    /// Once a second: has the file written where something has changed, else only the time in it.
    pub(super) fn step(&mut self, changes: u64, remember: impl FnOnce() -> Left) {
        if self.is_writing || self.failed {
            return;
        }
        let now = Instant::now();
        let boot_ns = host::boot_ns();
        if now >= self.due && self.written != Some(changes) {
            self.due = now + self.every;
            self.written = Some(changes);
            self.is_writing = true;
            let (place, boot_id) = (Arc::clone(&self.place), self.boot_id.clone());
            let left = remember();
            self.apart.ask(0, Owner::Host, move |_| {
                write(&place, &boot_id, boot_ns, left)
            });
        } else if let Some(file) = self.file.clone() {
            self.is_writing = true;
            self.apart.ask(0, Owner::Host, move |_| {
                let told = keep_alive(&file, boot_ns).map_err(|error| error.to_string());
                let file = file.try_clone().map_err(|error| error.to_string());
                told.and(file).map(|file| Written {
                    file,
                    left_out: [0; 2],
                })
            });
        }
    }

    /// Waits for the end of what is being written. Cancel safe.
    pub(super) async fn done(&mut self) {
        match self.apart.told().await.1 {
            Word::Done(Ok(written)) => {
                self.is_writing = false;
                self.keep(written);
            }
            Word::Done(Err(why)) => self.fail(&why),
            Word::Stuck(_) => self.fail("the file system does not answer"),
            Word::Hopeless => {}
            Word::Refused(error) => self.fail(&error.to_string()),
        }
    }

    /// The same, where there is one; else for ever.
    pub(super) async fn kept(keeper: &mut Option<Self>) {
        match keeper {
            Some(keeper) => keeper.done().await,
            None => std::future::pending().await,
        }
    }

    /// Writes the file for the last time, at the end of the agent: by then nobody waits for it.
    pub(super) async fn finish(mut self, left: Left) {
        if self.is_writing {
            let _late = tokio::time::timeout(self.every, self.done()).await;
        }
        if self.failed || self.is_writing {
            return; // what is being written would take the place of this
        }
        match write(&self.place, &self.boot_id, host::boot_ns(), left) {
            Ok(written) => self.keep(written),
            Err(why) => self.fail(&why),
        }
    }

    fn keep(&mut self, Written { file, left_out }: Written) {
        self.file = Some(Arc::new(file));
        let [lineage, written] = left_out;
        if lineage + written > 0 && !self.is_full {
            self.is_full = true;
            let why = format!(
                "{lineage} entries of lineage and {written} files and links of servers do not fit"
            );
            say(&self.path, &why, "they are left out");
        }
    }

    fn fail(&mut self, why: &str) {
        if !self.failed {
            self.failed = true;
            let why = format!("cannot be written: {why}");
            say(&self.path, &why, "it is left as it is");
        }
    }
}

fn write(place: &Place, boot_id: &str, boot_ns: u64, left: Left) -> Result<Written, String> {
    let (bytes, left_out) =
        encode(boot_id, boot_ns, left.remembered).map_err(|error| error.to_string())?;
    let file = place.write(&bytes).map_err(|error| error.to_string())?;
    let left_out = [left_out, left.left_out];
    Ok(Written { file, left_out })
}
