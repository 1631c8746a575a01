//! Exceptions as they are given, and those that hang on what somebody outside says.

use std::sync::Arc;

use super::Pipeline;
use crate::alert::{ContainerView, EnrichedEvent};
use crate::detect::Found;
use crate::detect::exception::{ExceptionSet, Known};
use crate::detect::sigma::{PACK_NAME, Source};
use crate::event::Event;
use crate::source::ExceptionPart;

/// Bytes of texts that are taken together.
const TEXTS: usize = 8 << 20;

/// Texts that were given, up to the part that ends them.
#[derive(Default)]
pub(super) struct Given {
    sources: Vec<Source>,
    bytes: usize,
}

impl Pipeline {
    /// Takes a part of the exceptions. Whole, they take the place of those before; of those with errors, which who
    /// gives them has told, none is taken.
    pub(super) fn except(&mut self, part: ExceptionPart) {
        match part {
            ExceptionPart::Text { file, text } => {
                self.given.bytes = self.given.bytes.saturating_add(text.len());
                if self.given.bytes > TEXTS {
                    return;
                }
                match self.given.sources.last_mut() {
                    Some(source) if source.file == file => source.text.push_str(&text),
                    Some(_) | None => self.given.sources.push(Source::new(PACK_NAME, file, &text)),
                }
            }
            ExceptionPart::End => {
                let Given { sources, .. } = std::mem::take(&mut self.given);
                let (set, _told) = ExceptionSet::load(&sources);
                self.detector.set_exceptions(Arc::new(set));
            }
        }
    }

    /// Whether what is known of a process by now makes a match none, by one of the exceptions that say so.
    pub(super) fn is_excused(&mut self, event: &Event, found: &Found) -> bool {
        if found.perhaps.is_empty() {
            return false;
        }
        self.see_container(event.meta.subject);
        self.ask_contents(event, found.server_depth);
        let view = self.enrich(event, found.writer);
        let mut perhaps = found.perhaps.iter();
        let Some(exception) = perhaps.find(|exception| is_known(&exception.shape.known, &view))
        else {
            return false;
        };
        let exceptions = self.detector.exceptions_mut();
        exceptions.count(&exception.id, exception.verb);
        true
    }
}

/// Whether all that is wanted is known of the subject.
fn is_known(known: &Known, event: &EnrichedEvent) -> bool {
    let process = &event.process;
    let content = process.content.found();
    let sha256 = |wanted: &String| {
        content.is_some_and(|content| {
            let digits: String = content
                .sha256
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            digits == *wanted
        })
    };
    let package = |wanted: &String| {
        let owner = content.and_then(|content| content.package.owner());
        owner.is_some_and(|owner| owner.name == *wanted)
    };
    let container = process.container.as_ref();
    known
        .image
        .as_ref()
        .is_none_or(|wanted| container.is_some_and(|container| is_image(wanted, container)))
        && known.sha256.as_ref().is_none_or(sha256)
        && known.package.as_ref().is_none_or(package)
}

/// Whether a container is of an image: by `name@digest` or `name:tag`.
fn is_image(wanted: &str, container: &ContainerView) -> bool {
    let Some(image) = container.facts.found().map(|facts| &facts.image) else {
        return false;
    };
    let Some(rest) = image
        .name
        .as_deref()
        .and_then(|name| wanted.strip_prefix(name))
    else {
        return false;
    };
    match (rest.strip_prefix('@'), rest.strip_prefix(':')) {
        (Some(digest), _) => image.digests.iter().any(|known| known == digest),
        (None, Some(tag)) => image.tags.iter().any(|known| known == tag),
        (None, None) => false,
    }
}
