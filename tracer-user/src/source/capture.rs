//! Capture files: the pipeline's inputs, in the order it took them.
//!
//! Layout: the magic `TRACERC` and a version byte, then frames of a type byte, a length (`u32`,
//! little endian) and that many bytes. Numbers in frames are little endian. A capture holds what
//! the records hold: paths, arguments, user names of the host it was made on.

use std::fmt;
use std::io::{self, Read, Write};

use bytes::Bytes;
use tracer_common::limits::SCRATCH_BYTES;

use self::rules::Parts;
use crate::alert::HostFacts;
use crate::enrich::content::Moment;
use crate::enrich::docroot::{Entry, Kind, Origin};
use crate::enrich::user::Whose;
use crate::event::FileId;
use crate::source::{Enrichment, Input, Loss, Names, NamesStep, Resolved, Stream, remembered};

mod content;
mod facts;
mod rules;

const MAGIC: [u8; 7] = *b"TRACERC";
const VERSION: u8 = 1;

/// Longest frame: a record is at most a scratch slot; everything else is shorter.
const FRAME_BYTES: usize = 2 * SCRATCH_BYTES;

const HOST: u8 = 1;
const CLOCK: u8 = 2;
/// One name that holds everywhere: read only, [`NAMES`] is written.
const NAME: u8 = 3;
const DIRECTORY: u8 = 4;
const RECORD: u8 = 5;
const SNAPSHOT_END: u8 = 6;
const WATERMARK: u8 = 7;
const LOSS: u8 = 8;
const DIRECTORY_AT: u8 = 9;
const DIRECTORY_LEFT: u8 = 10;
const HEAL_BEGIN: u8 = 11;
const HEAL_END: u8 = 12;
const RESOLVED: u8 = 13;
const DIRECTORY_UNNAMED: u8 = 14;
const NAMES: u8 = 20;
const CONTENT: u8 = 21;
const ENRICHMENT: u8 = 15;
const CONTAINER: u8 = 16;
const POD: u8 = 17;
/// Some of the rules that [`RULES`] ends.
const RULES_PART: u8 = 22;
const RULES: u8 = 23;
const RULES_REJECTED: u8 = 24;
const EXCEPTIONS: u8 = 25;
const FOLD: u8 = 26;
const REMEMBERED: u8 = 40;
const BLIND: u8 = 41;

/// Why a file is not a capture.
#[derive(Debug)]
pub enum CaptureError {
    /// Reading failed.
    Io(io::Error),
    /// It does not begin as one.
    Magic,
    /// Another version wrote it.
    Version(u8),
    /// It ends inside a frame.
    Cut {
        /// Byte that the frame begins at.
        at: u64,
    },
    /// A frame is not what its type says.
    Frame {
        /// Byte that the frame begins at.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Magic => write!(
                f,
                "not a tracer capture; make one with `tracer record FILE`"
            ),
            Self::Version(version) => write!(
                f,
                "capture layout {version}, this tracer reads {VERSION}; replay it with the version \
                 that recorded it"
            ),
            Self::Cut { at } => {
                write!(
                    f,
                    "cut off inside the frame at byte {at}; everything before it was replayed"
                )
            }
            Self::Frame { at, what } => {
                write!(
                    f,
                    "broken frame at byte {at}: {what}; everything before it was replayed"
                )
            }
        }
    }
}

impl std::error::Error for CaptureError {}

/// Writes a capture.
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Begins a capture.
    ///
    /// # Errors
    ///
    /// The writer's.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        out.write_all(&[VERSION])?;
        Ok(Self { out })
    }

    /// Writes one input.
    ///
    /// # Errors
    ///
    /// The writer's.
    pub fn write(&mut self, input: &Input) -> io::Result<()> {
        let mut payload = Vec::new();
        let kind = match input {
            Input::Host(HostFacts {
                hostname,
                machine_id,
                boot_id,
                architecture,
                kernel,
                os_platform,
                os_name,
                os_version,
            }) => {
                for text in [
                    hostname,
                    machine_id,
                    boot_id,
                    architecture,
                    kernel,
                    os_platform,
                    os_name,
                    os_version,
                ] {
                    put_text(&mut payload, text.as_bytes());
                }
                HOST
            }
            Input::Clock(wall) => {
                payload.extend_from_slice(&wall.to_le_bytes());
                CLOCK
            }
            Input::Names(Names {
                whose,
                step,
                more,
                names,
            }) => {
                payload.extend_from_slice(&whose.mnt_ns.to_le_bytes());
                payload.extend_from_slice(&whose.user_ns.to_le_bytes());
                payload.push(match step {
                    NamesStep::Add => 0,
                    NamesStep::Replace => 1,
                    NamesStep::Fail => 2,
                });
                payload.push(u8::from(*more));
                for (group, id, name) in names {
                    payload.push(u8::from(*group));
                    payload.extend_from_slice(&id.to_le_bytes());
                    put_text(&mut payload, name.as_bytes());
                }
                NAMES
            }
            Input::Content { moment, content } => {
                put_file(&mut payload, moment.file);
                payload.extend_from_slice(&moment.boot_ns.to_le_bytes());
                if let Some(content) = content {
                    content::put(&mut payload, content);
                }
                CONTENT
            }
            Input::Directory(entry) => {
                put_entry(&mut payload, entry);
                DIRECTORY
            }
            Input::DirectoryUnnamed(name) => {
                put_text(&mut payload, name);
                DIRECTORY_UNNAMED
            }
            Input::DirectoryAt { file, entry } => {
                put_file(&mut payload, *file);
                put_entry(&mut payload, entry);
                DIRECTORY_AT
            }
            Input::Resolved(Resolved {
                mnt_ns,
                directory,
                real,
            }) => {
                payload.extend_from_slice(&mnt_ns.to_le_bytes());
                put_text(&mut payload, directory);
                put_text(&mut payload, real);
                RESOLVED
            }
            Input::DirectoryLeft(file) => {
                put_file(&mut payload, *file);
                DIRECTORY_LEFT
            }
            Input::Record(record) => return self.frame(RECORD, record),
            Input::SnapshotEnd => SNAPSHOT_END,
            Input::Watermark(boot_ns) => {
                payload.extend_from_slice(&boot_ns.to_le_bytes());
                WATERMARK
            }
            Input::Loss(Loss {
                reason,
                stream,
                count,
                since_boot_ns,
                boot_ns,
            }) => {
                payload.extend_from_slice(&count.to_le_bytes());
                payload.extend_from_slice(&since_boot_ns.to_le_bytes());
                payload.extend_from_slice(&boot_ns.to_le_bytes());
                put_text(&mut payload, reason.as_bytes());
                // Only where there is one: so what was recorded before there were any can be read.
                if let Some(Stream { cpu, slot }) = stream {
                    payload.extend_from_slice(&cpu.to_le_bytes());
                    payload.extend_from_slice(&slot.to_le_bytes());
                }
                LOSS
            }
            Input::HealBegin(boot_ns) => {
                payload.extend_from_slice(&boot_ns.to_le_bytes());
                HEAL_BEGIN
            }
            Input::HealEnd => HEAL_END,
            Input::Remembered(remembered) => {
                remembered::put(&mut payload, remembered);
                REMEMBERED
            }
            Input::Blind(blind) => {
                remembered::put_blind(&mut payload, *blind);
                BLIND
            }
            Input::Enrichment(Enrichment {
                wait_ms,
                containers,
                pods,
                files,
            }) => {
                payload.extend_from_slice(&wait_ms.to_le_bytes());
                payload.extend([containers, pods, files].map(|answered| u8::from(*answered)));
                ENRICHMENT
            }
            Input::Fold(at_once) => {
                payload.extend_from_slice(&at_once.to_le_bytes());
                FOLD
            }
            Input::Exceptions(part) => {
                facts::put_exceptions(&mut payload, part);
                EXCEPTIONS
            }
            Input::Container { id, facts } => {
                facts::put_container(&mut payload, id, facts.as_deref());
                CONTAINER
            }
            Input::Pod { uid, facts } => {
                facts::put_pod_of(&mut payload, uid, facts.as_deref());
                POD
            }
            Input::Rules { boot_ns, chosen } => {
                for part in rules::parts(chosen) {
                    self.frame(RULES_PART, &part)?;
                }
                payload.extend_from_slice(&boot_ns.to_le_bytes());
                RULES
            }
            Input::RulesRejected(rejected) => {
                rules::put_rejected(&mut payload, rejected);
                RULES_REJECTED
            }
        };
        self.frame(kind, &payload)
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len())
            .ok()
            .filter(|_| payload.len() <= FRAME_BYTES)
            .ok_or_else(|| io::Error::other("a frame is longer than captures allow"))?;
        self.out.write_all(&[kind])?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(payload)
    }

    /// What is written to.
    pub const fn out(&self) -> &W {
        &self.out
    }

    /// Flushes and gives the writer back.
    ///
    /// # Errors
    ///
    /// The writer's.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

pub(super) fn put_text(payload: &mut Vec<u8>, text: &[u8]) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    payload.extend_from_slice(&len.to_le_bytes());
    payload.extend(text.iter().take(len.into()));
}

fn put_file(payload: &mut Vec<u8>, file: FileId) {
    payload.extend_from_slice(&file.dev.to_le_bytes());
    payload.extend_from_slice(&file.inode.to_le_bytes());
}

fn put_entry(payload: &mut Vec<u8>, entry: &Entry) {
    let Entry {
        pattern,
        kind,
        origin,
        source,
        mnt_ns,
    } = entry;
    payload.push(match kind {
        Kind::Served => 0,
        Kind::Component => 1,
        Kind::Cgi => 2,
        Kind::Application => 3,
    });
    payload.push(match origin {
        Origin::Default => 0,
        Origin::Discovered => 1,
        Origin::Config => 2,
    });
    payload.extend_from_slice(&mnt_ns.unwrap_or(0).to_le_bytes());
    put_text(payload, pattern);
    put_text(payload, source.as_bytes());
}

/// Reads a capture. An iterator of inputs that ends at the first error.
pub struct Reader<R> {
    from: R,
    at: u64,
    ended: bool,
    /// Rules that are not ended yet.
    rules: Parts,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
    ///
    /// # Errors
    ///
    /// [`CaptureError`] where it does not begin as a capture.
    pub fn new(mut from: R) -> Result<Self, CaptureError> {
        let mut head = [0; 8];
        let read = fill(&mut from, &mut head).map_err(CaptureError::Io)?;
        let [magic @ .., version] = head;
        if read < head.len() || magic != MAGIC {
            return Err(CaptureError::Magic);
        }
        if version != VERSION {
            return Err(CaptureError::Version(version));
        }
        Ok(Self {
            from,
            at: 8,
            ended: false,
            rules: Parts::default(),
        })
    }

    /// The next input; where a frame is a part of one, more frames are read.
    fn input(&mut self) -> Result<Option<Input>, CaptureError> {
        loop {
            match self.frame()? {
                Some(None) => {}
                Some(input) => return Ok(input),
                None => return Ok(None),
            }
        }
    }

    fn frame(&mut self) -> Result<Option<Option<Input>>, CaptureError> {
        let at = self.at;
        let mut head = [0; 5];
        match fill(&mut self.from, &mut head).map_err(CaptureError::Io)? {
            0 => return Ok(None),
            5 => {}
            _ => return Err(CaptureError::Cut { at }),
        }
        let [kind, len @ ..] = head;
        let len = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
        if len > FRAME_BYTES {
            return Err(CaptureError::Frame {
                at,
                what: "longer than frames may be",
            });
        }
        let mut payload = vec![0; len];
        if fill(&mut self.from, &mut payload).map_err(CaptureError::Io)? < len {
            return Err(CaptureError::Cut { at });
        }
        self.at += 5 + len as u64;
        parse(kind, payload, &mut self.rules)
            .map_err(|what| CaptureError::Frame { at, what })
            .map(Some)
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Input, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.input().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Reads until `bytes` is full or the source ends; how much was read.
fn fill(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn parse(kind: u8, payload: Vec<u8>, rules: &mut Parts) -> Result<Option<Input>, &'static str> {
    if kind == RECORD {
        // What is in it, the decoder judges.
        return Ok(Some(Input::Record(Bytes::from(payload))));
    }
    let mut rest = Fields(&payload);
    if kind == RULES_PART {
        return rules.take(&mut rest).map(|()| None);
    }
    let input = match kind {
        HOST => Input::Host(HostFacts {
            hostname: rest.string()?,
            machine_id: rest.string()?,
            boot_id: rest.string()?,
            architecture: rest.string()?,
            kernel: rest.string()?,
            os_platform: rest.string()?,
            os_name: rest.string()?,
            os_version: rest.string()?,
        }),
        CLOCK => Input::Clock(i128::from_le_bytes(rest.array()?)),
        NAME => Input::Names(Names {
            whose: Whose::default(),
            step: NamesStep::Add,
            more: false,
            names: vec![rest.name()?],
        }),
        NAMES => Input::Names(rest.names()?),
        CONTENT => Input::Content {
            moment: Moment {
                file: rest.file()?,
                boot_ns: u64::from_le_bytes(rest.array()?),
            },
            content: rest.content()?,
        },
        DIRECTORY => Input::Directory(rest.entry()?),
        DIRECTORY_UNNAMED => Input::DirectoryUnnamed(rest.text()?.to_vec()),
        DIRECTORY_AT => Input::DirectoryAt {
            file: rest.file()?,
            entry: rest.entry()?,
        },
        DIRECTORY_LEFT => Input::DirectoryLeft(rest.file()?),
        RESOLVED => Input::Resolved(Resolved {
            mnt_ns: u32::from_le_bytes(rest.array()?),
            directory: rest.text()?.to_vec(),
            real: rest.text()?.to_vec(),
        }),
        SNAPSHOT_END => Input::SnapshotEnd,
        WATERMARK => Input::Watermark(u64::from_le_bytes(rest.array()?)),
        LOSS => Input::Loss(Loss {
            count: u64::from_le_bytes(rest.array()?),
            since_boot_ns: u64::from_le_bytes(rest.array()?),
            boot_ns: u64::from_le_bytes(rest.array()?),
            reason: rest.string()?,
            stream: rest.stream()?,
        }),
        HEAL_BEGIN => Input::HealBegin(u64::from_le_bytes(rest.array()?)),
        HEAL_END => Input::HealEnd,
        EXCEPTIONS => rest.exceptions()?,
        FOLD => Input::Fold(u32::from_le_bytes(rest.array()?)),
        REMEMBERED => Input::Remembered(remembered::take(&mut rest)?),
        BLIND => Input::Blind(remembered::blind(&mut rest)?),
        ENRICHMENT => Input::Enrichment(Enrichment {
            wait_ms: u32::from_le_bytes(rest.array()?),
            containers: rest.flag()?,
            pods: rest.flag()?,
            files: rest.flag()?,
        }),
        CONTAINER => rest.container()?,
        POD => rest.pod_of()?,
        RULES => rules.end(&mut rest)?,
        RULES_REJECTED => rules::rejected(&mut rest)?,
        _ => return Err("unknown frame type"),
    };
    if rest.0.is_empty() {
        Ok(Some(input))
    } else {
        Err("bytes left over")
    }
}

pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, rest) = self.0.split_first_chunk().ok_or("too short")?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn text(&mut self) -> Result<&'a [u8], &'static str> {
        let len = u16::from_le_bytes(self.array()?);
        let (head, rest) = self.0.split_at_checked(len.into()).ok_or("too short")?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn string(&mut self) -> Result<String, &'static str> {
        String::from_utf8(self.text()?.to_vec()).map_err(|_| "text is not UTF-8")
    }

    fn name(&mut self) -> Result<(bool, u32, String), &'static str> {
        Ok((
            self.flag()?,
            u32::from_le_bytes(self.array()?),
            self.string()?,
        ))
    }

    fn names(&mut self) -> Result<Names, &'static str> {
        let whose = Whose {
            mnt_ns: u32::from_le_bytes(self.array()?),
            user_ns: u32::from_le_bytes(self.array()?),
        };
        let step = match self.array()? {
            [0] => NamesStep::Add,
            [1] => NamesStep::Replace,
            [2] => NamesStep::Fail,
            _ => return Err("unknown step of names"),
        };
        let more = self.flag()?;
        let mut names = Vec::new();
        while !self.0.is_empty() {
            names.push(self.name()?);
        }
        Ok(Names {
            whose,
            step,
            more,
            names,
        })
    }

    fn flag(&mut self) -> Result<bool, &'static str> {
        Ok(self.array::<1>()? != [0])
    }

    /// What a frame may end with.
    fn stream(&mut self) -> Result<Option<Stream>, &'static str> {
        if self.0.is_empty() {
            return Ok(None);
        }
        Ok(Some(Stream {
            cpu: u32::from_le_bytes(self.array()?),
            slot: u16::from_le_bytes(self.array()?),
        }))
    }

    fn file(&mut self) -> Result<FileId, &'static str> {
        Ok(FileId {
            dev: u32::from_le_bytes(self.array()?),
            inode: u64::from_le_bytes(self.array()?),
        })
    }

    fn entry(&mut self) -> Result<Entry, &'static str> {
        let [kind, origin] = self.array()?;
        let mnt_ns = u32::from_le_bytes(self.array()?);
        Ok(Entry {
            kind: match kind {
                0 => Kind::Served,
                1 => Kind::Component,
                2 => Kind::Cgi,
                3 => Kind::Application,
                _ => return Err("unknown directory kind"),
            },
            origin: match origin {
                0 => Origin::Default,
                1 => Origin::Discovered,
                2 => Origin::Config,
                _ => return Err("unknown directory origin"),
            },
            // No namespace has inode number zero.
            mnt_ns: (mnt_ns != 0).then_some(mnt_ns),
            pattern: self.text()?.to_vec(),
            source: self.string()?,
        })
    }
}

#[cfg(test)]
mod tests;
