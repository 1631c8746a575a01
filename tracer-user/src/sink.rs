//! Where documents go: a bounded queue and a thread that writes.
//!
//! The pipeline never waits for a slow reader with events: they are left out and counted when the
//! queue is full. For an alert it waits, as long as [`ALERT_WAIT`].

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc};

use crate::alert::{Document, LossReport, RulesReport};
use crate::encode;

/// How long an alert may wait for room.
const ALERT_WAIT: Duration = Duration::from_secs(5);

/// Largest batch written at once, bytes.
const BATCH_BYTES: usize = 256 * 1024;

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One ECS document a line.
    Json,
    /// A readable block an alert, a line an event.
    Pretty {
        /// With terminal colours.
        colour: bool,
    },
}

impl Format {
    fn encode(self, document: &Document) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096);
        match self {
            Self::Json => encode::ecs::line(document, &mut out),
            Self::Pretty { colour } => encode::pretty::line(document, colour, &mut out),
        }
        out
    }

    fn encode_rules(self, report: &RulesReport) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Json => encode::ecs::rules(report, &mut out),
            Self::Pretty { colour } => encode::pretty::rules(report, colour, &mut out),
        }
        out
    }

    fn encode_loss(self, report: &LossReport) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        match self {
            Self::Json => encode::ecs::loss(report, &mut out),
            Self::Pretty { colour } => encode::pretty::loss(report, colour, &mut out),
        }
        out
    }
}

/// Where to.
#[derive(Debug)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(File, PathBuf),
}

impl Target {
    /// Opens a file for appending, creating it readable by its owner only. A link is refused: in a
    /// directory that others write to it would send root's output where they like.
    ///
    /// # Errors
    ///
    /// The file system's, and anything that is not a regular file.
    pub fn file(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(
                i32::try_from(
                    (rustix::fs::OFlags::NOFOLLOW
                        | rustix::fs::OFlags::NONBLOCK
                        | rustix::fs::OFlags::CLOEXEC)
                        .bits(),
                )
                .unwrap_or(0),
            )
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(Self::File(file, path.to_owned()))
    }

    fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".into(),
            Self::File(_, path) => path.display().to_string(),
        }
    }

    /// Writes a batch, whole lines or, for a file, nothing: a line that a full disk cut is taken
    /// back, so that the file stays one document a line.
    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(batch)?;
                out.flush()
            }
            Self::File(file, _) => {
                let before = file.metadata()?.size();
                file.write_all(batch).inspect_err(|_| {
                    // What was written of it is whole lines up to the cut; keep those.
                    let written = file.metadata().map_or(before, |now| now.size());
                    let part = usize::try_from(written.saturating_sub(before)).unwrap_or(0);
                    let whole = batch
                        .get(..part)
                        .and_then(|part| part.iter().rposition(|&byte| byte == b'\n'))
                        .map_or(0, |at| at as u64 + 1);
                    let _best_effort = file.set_len(before + whole);
                })
            }
        }
    }
}

/// A sink and its writer thread.
pub struct Sink {
    format: Format,
    queue: mpsc::UnboundedSender<Vec<u8>>,
    /// Bytes that may wait for the writer.
    queue_bytes: usize,
    room: Arc<Semaphore>,
    state: Arc<State>,
    writer: Option<JoinHandle<()>>,
    shed: u64,
}

#[derive(Default)]
struct State {
    failure: Mutex<Option<String>>,
    failed: Notify,
}

impl Sink {
    /// Starts the writer, for whom documents of so many bytes may wait.
    #[must_use]
    pub fn new(format: Format, target: Target, queue_bytes: usize) -> Self {
        let queue_bytes = queue_bytes.min(Semaphore::MAX_PERMITS);
        let (queue, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(queue_bytes));
        let state = Arc::new(State::default());
        let (writer_room, writer_state) = (Arc::clone(&room), Arc::clone(&state));
        let writer = std::thread::spawn(move || {
            write(target, receiver, queue_bytes, &writer_room, &writer_state);
        });
        Self {
            format,
            queue,
            queue_bytes,
            room,
            state,
            writer: Some(writer),
            shed: 0,
        }
    }

    /// Hands a document over. False where it was left out because the queue is full, or because
    /// the writer has failed.
    pub async fn send(&mut self, document: &Document) -> bool {
        let line = self.format.encode(document);
        self.offer(line, document.alert.is_some()).await
    }

    /// Hands a report of losses over, as patiently as an alert.
    pub async fn send_loss(&mut self, report: &LossReport) -> bool {
        self.offer(self.format.encode_loss(report), true).await
    }

    /// The same of a report on rules.
    pub async fn send_rules(&mut self, report: &RulesReport) -> bool {
        self.offer(self.format.encode_rules(report), true).await
    }

    /// Queues a line; one that matters waits for room.
    async fn offer(&mut self, line: Vec<u8>, matters: bool) -> bool {
        let size = u32::try_from(line.len().min(self.queue_bytes)).unwrap_or(u32::MAX);
        let permit = if matters {
            match tokio::time::timeout(ALERT_WAIT, self.room.acquire_many(size)).await {
                Ok(Ok(permit)) => Some(permit),
                Ok(Err(_)) | Err(_) => None,
            }
        } else {
            self.room.try_acquire_many(size).ok()
        };
        let sent = permit.is_some_and(|permit| {
            permit.forget();
            self.queue.send(line).is_ok()
        });
        if !sent {
            self.shed += 1;
        }
        sent
    }

    /// Hands a document over and waits for room as long as it takes: for replay, which can wait.
    ///
    /// # Errors
    ///
    /// What the writer failed with.
    pub fn send_blocking(&mut self, document: &Document) -> Result<(), String> {
        self.offer_blocking(self.format.encode(document))
    }

    /// The same for a report of losses.
    ///
    /// # Errors
    ///
    /// What the writer failed with.
    pub fn send_loss_blocking(&mut self, report: &LossReport) -> Result<(), String> {
        self.offer_blocking(self.format.encode_loss(report))
    }

    /// The same for a report on rules.
    ///
    /// # Errors
    ///
    /// What the writer failed with.
    pub fn send_rules_blocking(&mut self, report: &RulesReport) -> Result<(), String> {
        self.offer_blocking(self.format.encode_rules(report))
    }

    fn offer_blocking(&mut self, line: Vec<u8>) -> Result<(), String> {
        let size = u32::try_from(line.len().min(self.queue_bytes)).unwrap_or(u32::MAX);
        loop {
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            if let Ok(permit) = self.room.try_acquire_many(size) {
                permit.forget();
                return self
                    .queue
                    .send(line)
                    .map_err(|_| "the writer has ended".to_owned());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Documents left out so far.
    #[must_use]
    pub const fn shed(&self) -> u64 {
        self.shed
    }

    /// Waits until the writer fails; forever if it does not.
    pub async fn failed(&self) -> String {
        loop {
            let failed = self.state.failed.notified();
            if let Some(failure) = self.failure() {
                return failure;
            }
            failed.await;
        }
    }

    /// Why the writer stopped, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.state
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes what waits and stops; what the writer failed with, if it did.
    pub fn finish(mut self) -> Option<String> {
        drop(self.queue);
        if let Some(writer) = self.writer.take() {
            let _panicked = writer.join();
        }
        self.state
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

fn write(
    mut target: Target,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    queue_bytes: usize,
    room: &Semaphore,
    state: &State,
) {
    while let Some(mut batch) = queue.blocking_recv() {
        let mut permits = batch.len().min(queue_bytes);
        while batch.len() < BATCH_BYTES
            && let Ok(line) = queue.try_recv()
        {
            permits += line.len().min(queue_bytes);
            batch.extend_from_slice(&line);
        }
        let written = target.write(&batch);
        room.add_permits(permits);
        if let Err(error) = written {
            let remedy = if error.kind() == io::ErrorKind::BrokenPipe {
                "the reader has closed it; start the reader again"
            } else if [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded]
                .contains(&error.kind())
            {
                "make room on that file system"
            } else {
                "see that it can be written to"
            };
            let failure = format!("cannot write to {}: {error}; {remedy}", target.name());
            *state.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
            state.failed.notify_waiters();
            return;
        }
    }
}
