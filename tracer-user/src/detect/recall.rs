//! What of the rules' memory is left to the next agent, and how that takes it up. Refuses to grow beyond a
//! share of bytes: links first, as they are few, then files, and of both the newest.

use std::sync::Arc;

use super::Detector;
use crate::enrich::container::Place;
use crate::lineage::Store;
use crate::source::remembered::{Author, PastFile, PastLink, Remembered};

/// What is left to the next agent, and how many files and links there was no room for.
pub(crate) struct Kept {
    /// The links, then the files; of each the oldest first.
    pub(crate) remembered: Vec<Remembered>,
    /// Of the oldest.
    pub(crate) left_out: usize,
}

impl Detector {
    /// What server lineages wrote, in at most so many bytes of a file.
    pub(crate) fn remember(&self, max_bytes: usize) -> Kept {
        let mut left = max_bytes;
        let mut fits = |bytes: usize| {
            let rest = left.checked_sub(bytes);
            left = rest.unwrap_or(0); // nothing older than what does not fit
            rest.is_some()
        };
        let links = self.aliases.remember();
        let mut links: Vec<PastLink> = links.take_while(|link| fits(link.bytes())).collect();
        let files = self.written.remember();
        let mut files: Vec<PastFile> = files.take_while(|file| fits(file.bytes())).collect();
        let known = self.written.len() + self.aliases.len();
        let left_out = known.saturating_sub(links.len() + files.len());
        links.reverse();
        files.reverse();
        let links = links
            .into_iter()
            .map(|link| Remembered::Link(Box::new(link)));
        let files = files
            .into_iter()
            .map(|file| Remembered::File(Box::new(file)));
        Kept {
            remembered: links.chain(files).collect(),
            left_out,
        }
    }

    /// Takes up a file that an earlier agent knew.
    pub(crate) fn recall_file(&mut self, store: &mut Store, past: &PastFile) {
        let container = container(store, &past.author);
        self.written.recall(past, container);
    }

    /// The same of a link.
    pub(crate) fn recall_link(&mut self, store: &mut Store, past: &PastLink) {
        let container = container(store, &past.author);
        self.aliases.recall(past, container);
    }
}

fn container(store: &mut Store, author: &Author) -> Option<Arc<Place>> {
    let id = author.container.as_ref()?;
    Some(store.shared_place(id))
}
