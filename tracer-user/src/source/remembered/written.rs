//! What server lineages left in file systems, as an agent leaves it to the next one. `/proc` shows none of it.
//! Refuses to hold what a file contains.

use super::{
    Fields, flag, key, list, option, put_count, put_key, put_option, put_server, put_text, put_u32,
    put_u64, put_wire, server, u32, u64, wire,
};
use crate::event::{FileId, Writer};
use crate::lineage::process::Server;

/// A file that a server's lineage wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastFile {
    /// It, where known by more than its name.
    pub file: Option<FileId>,
    /// `i_generation`, where known.
    pub generation: Option<u32>,
    /// It runs with more rights than who runs it.
    pub privileged: bool,
    /// Its names, the first one first.
    pub names: Vec<Vec<u8>>,
    /// Who wrote it last.
    pub author: Author,
}

/// A symbolic link that a server's lineage made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastLink {
    /// Its name.
    pub path: Vec<u8>,
    /// What it says.
    pub says: Vec<u8>,
    /// The nearest watched directory that it is in.
    pub directory: Option<FileId>,
    /// Who made it.
    pub author: Author,
}

/// Who wrote a file, and where its name means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The process.
    pub writer: Writer,
    /// The server that it descends from.
    pub server: Server,
    /// Its effective user, where known.
    pub uid: Option<u32>,
    /// Its mount namespace; zero where unknown.
    pub mnt_ns: u32,
    /// The container it was in.
    pub container: Option<String>,
}

/// What such an entry takes in a file at most, besides its texts.
const FIXED: usize = 160;

impl PastFile {
    /// What it takes in a file at most, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let names = self.names.iter().map(|name| 2 + name.len());
        self.author.bytes() + names.sum::<usize>()
    }
}

impl PastLink {
    /// What it takes in a file at most, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.author.bytes() + self.path.len() + self.says.len()
    }
}

impl Author {
    fn bytes(&self) -> usize {
        FIXED + self.server.name.len() + self.container.as_ref().map_or(0, String::len)
    }
}

pub(super) fn put_file(payload: &mut Vec<u8>, past: &PastFile) {
    let PastFile {
        file,
        generation,
        privileged,
        names,
        author,
    } = past;
    put_option(payload, file.as_ref(), put_id);
    put_option(payload, generation.as_ref(), |payload, generation| {
        put_u32(payload, *generation);
    });
    payload.push(u8::from(*privileged));
    put_count(payload, names.len());
    for name in names.iter().take(usize::from(u16::MAX)) {
        put_text(payload, name);
    }
    put_author(payload, author);
}

pub(super) fn file(rest: &mut Fields<'_>) -> Result<PastFile, &'static str> {
    Ok(PastFile {
        file: option(rest, id)?,
        generation: option(rest, u32)?,
        privileged: flag(rest)?,
        names: list(rest, |rest| rest.text().map(<[u8]>::to_vec))?,
        author: author(rest)?,
    })
}

pub(super) fn put_link(payload: &mut Vec<u8>, past: &PastLink) {
    let PastLink {
        path,
        says,
        directory,
        author,
    } = past;
    put_text(payload, path);
    put_text(payload, says);
    put_option(payload, directory.as_ref(), put_id);
    put_author(payload, author);
}

pub(super) fn link(rest: &mut Fields<'_>) -> Result<PastLink, &'static str> {
    Ok(PastLink {
        path: rest.text()?.to_vec(),
        says: rest.text()?.to_vec(),
        directory: option(rest, id)?,
        author: author(rest)?,
    })
}

fn put_author(payload: &mut Vec<u8>, author: &Author) {
    let Author {
        writer,
        server,
        uid,
        mnt_ns,
        container,
    } = author;
    put_writer(payload, writer);
    put_server(payload, server);
    put_option(payload, uid.as_ref(), |payload, uid| put_u32(payload, *uid));
    put_u32(payload, *mnt_ns);
    put_option(payload, container.as_ref(), |payload, container| {
        put_text(payload, container.as_bytes());
    });
}

fn author(rest: &mut Fields<'_>) -> Result<Author, &'static str> {
    Ok(Author {
        writer: writer(rest)?,
        server: server(rest)?,
        uid: option(rest, u32)?,
        mnt_ns: u32(rest)?,
        container: option(rest, Fields::string)?,
    })
}

pub(super) fn put_writer(payload: &mut Vec<u8>, writer: &Writer) {
    put_key(payload, writer.process);
    put_u64(payload, writer.boot_ns);
    put_wire(payload, &writer.tag);
}

pub(super) fn writer(rest: &mut Fields<'_>) -> Result<Writer, &'static str> {
    Ok(Writer {
        process: key(rest)?,
        boot_ns: u64(rest)?,
        tag: wire(rest)?,
    })
}

fn put_id(payload: &mut Vec<u8>, file: &FileId) {
    put_u32(payload, file.dev);
    put_u64(payload, file.inode);
}

fn id(rest: &mut Fields<'_>) -> Result<FileId, &'static str> {
    Ok(FileId {
        dev: u32(rest)?,
        inode: u64(rest)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Remembered, put, samples};

    #[test]
    fn nothing_takes_more_than_it_says() {
        let mut seen = 0;
        for sample in samples() {
            let most = match &sample {
                Remembered::File(past) => past.bytes(),
                Remembered::Link(past) => past.bytes(),
                Remembered::Process(_)
                | Remembered::Image(_)
                | Remembered::Blind(_)
                | Remembered::Told(_)
                | Remembered::Incident(_) => continue,
            };
            let mut bytes = Vec::new();
            put(&mut bytes, &sample);
            // With the head of its frame.
            assert!(bytes.len() + 5 <= most, "{} of {most}", bytes.len());
            seen += 1;
        }
        assert_eq!(seen, 3);
    }
}
