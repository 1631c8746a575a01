//! An event with what the lineage makes of it: what rules look at. Pure.

pub mod fields;

use std::borrow::Cow;
use std::cell::OnceCell;

use rsigma_eval::{Event as Fields, EventValue};
use tracer_common::tag::Role;

use super::nearest::Nearest;
use super::roles::{self, Program, tools};
use super::sigma::Category;
use crate::alert::{Directory, Severity};
use crate::event::{Event, Exec, Payload};
use crate::lineage::Store;
use crate::lineage::process::{Image, Process, Server, Via};

/// A circumstance that makes a match better or worse, or that a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// What runs was written by a server's lineage.
    Written,
    /// What runs has no name: a memfd, or a file that was removed.
    Fileless,
    /// Standard input, output or error is a connected internet socket.
    RemoteStdio,
    /// A server's lineage wrote what runs with more rights than who runs it.
    GainsRights,
    /// The subject is not of the server's lineage.
    Outside,
    /// What a server wrote is run by an interpreter, as the user that wrote it.
    Maintenance,
    /// The subject gives a name to what a server's lineage wrote.
    Moved,
    /// A shell or interpreter was given a command or a script.
    GivenWork,
    /// The names of the call, or what they are relative to, changed while it went on.
    NamesChanged,
    /// The file is in no directory of a server.
    OfSystem,
}

impl Fact {
    /// It in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Written => "a server's lineage wrote what runs",
            Self::Fileless => "what runs has no name",
            Self::RemoteStdio => "its input or output is a network connection",
            Self::GainsRights => {
                "what a server's lineage wrote runs with more rights than who runs it"
            }
            Self::Outside => "the process is not of the server's lineage",
            Self::Maintenance => "an interpreter runs it as the user that wrote it",
            Self::Moved => "it gives a name to what the server's lineage wrote",
            Self::GivenWork => "a shell or interpreter was given a command or a script",
            Self::NamesChanged => "names changed while the call went on",
            Self::OfSystem => "the file is in no directory of a server",
        }
    }
}

/// Facts that hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts(u32);

impl Facts {
    /// Adds one where it holds.
    pub fn set(&mut self, fact: Fact, holds: bool) {
        if holds {
            self.0 |= 1 << fact as u32;
        }
    }

    /// Whether it holds.
    #[must_use]
    pub const fn has(self, fact: Fact) -> bool {
        self.0 & 1 << fact as u32 != 0
    }
}

/// How surely a name is code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The path is not known whole: it may be anywhere.
    Path,
    /// The name is not known, or may have been another.
    Name,
}

/// What was done to a file, as far as it was judged.
#[derive(Clone, Debug, Default)]
pub(super) struct FileCase {
    /// The name that decides.
    pub(super) path: Vec<u8>,
    /// `created`, `opened`, `renamed` …
    pub(super) action: &'static str,
    /// The directory of a server that it is in.
    pub(super) directory: Option<Directory>,
    /// `program` or `control`: what the file is to a server.
    pub(super) code: Option<&'static str>,
    pub(super) doubt: Option<Doubt>,
}

/// See the module.
pub(super) struct Case<'a> {
    pub(super) category: Category,
    pub(super) store: &'a Store,
    pub(super) event: &'a Event,
    pub(super) process: Option<&'a Process>,
    /// What the subject runs, of an exec what it runs now.
    pub(super) exec: Option<&'a Exec>,
    /// The file that it really runs, where that is not what was executed.
    pub(super) image: Option<&'a [u8]>,
    pub(super) nearest: Option<&'a Nearest<'a>>,
    /// The nearest server, or the one of who wrote the file.
    pub(super) server: Option<&'a Server>,
    pub(super) facts: Facts,
    /// The server is still starting.
    pub(super) is_starting: bool,
    pub(super) program: Option<Program>,
    /// The shape by which an exec is a server's ordinary work.
    pub(super) ordinary: Option<&'static str>,
    pub(super) file: Option<FileCase>,
    /// What many rules ask for is made once.
    asked: Asked<'a>,
}

/// Fields that cost something, as they were made for the first rule that asked.
#[derive(Default)]
struct Asked<'a> {
    line: OnceCell<Option<Cow<'a, str>>>,
    parent: OnceCell<Option<&'a Image>>,
    parent_line: OnceCell<Option<Cow<'a, str>>>,
}

impl<'a> Case<'a> {
    /// A case of which nothing but the event is known.
    pub(super) fn new(category: Category, store: &'a Store, event: &'a Event) -> Self {
        let process = store.get(event.meta.subject);
        let exec = if let Payload::Exec(exec) | Payload::Observed(exec) = &event.payload {
            Some(&**exec)
        } else {
            process.and_then(Process::image).map(|image| &*image.exec)
        };
        Self {
            category,
            store,
            event,
            process,
            exec,
            image: None,
            nearest: None,
            server: None,
            facts: Facts::default(),
            is_starting: false,
            program: None,
            ordinary: None,
            file: None,
            asked: Asked::default(),
        }
    }

    /// What the nearest server is for.
    pub(super) fn role(&self) -> Option<Role> {
        Some(self.server?.role)
    }

    /// Who created the subject, and so on.
    fn ancestors(&self) -> impl Iterator<Item = &'a Process> {
        self.store.chain(self.event.meta.subject).skip(1)
    }

    /// What its creator runs.
    pub(super) fn parent(&self) -> Option<&'a Image> {
        let parent = self
            .asked
            .parent
            .get_or_init(|| self.ancestors().next()?.image());
        *parent
    }

    /// The arguments in one line.
    fn line(&self) -> Option<&str> {
        let line = self
            .asked
            .line
            .get_or_init(|| Some(fields::words(&self.exec?.args)));
        line.as_deref()
    }

    /// Those of its creator.
    fn parent_line(&self) -> Option<&str> {
        let line = self
            .asked
            .parent_line
            .get_or_init(|| Some(fields::line(self.parent()?)));
        line.as_deref()
    }

    /// What the program of the subject is: a shell or interpreter, else what it is for.
    fn kind(&self) -> Option<&'static str> {
        let of_name = || match self.image {
            Some(image) => tools::kind(roles::base(image)),
            None => tools::kind(roles::effective_name(self.exec?)),
        };
        self.program.map(Program::name).or_else(of_name)
    }

    /// The worst alert that was raised for what the server's child, by which the subject came to be, and its
    /// descendants ran.
    fn alerted(&self) -> Option<Severity> {
        let nearest = self.nearest?;
        // The server itself goes on after an attack, and with it the next request begins.
        let steps = match nearest.beside {
            None => nearest.depth.max(1),
            Some(_) => nearest.depth + 1,
        };
        let chain = self.store.chain(self.event.meta.subject).take(steps);
        let told = chain.flat_map(|process| &process.alerted);
        told.map(|(_, severity)| *severity).max()
    }

    /// How it is connected with the server, where it does not descend from it.
    fn beside(&self) -> Option<Via> {
        self.nearest?.beside
    }
}

impl Fields for Case<'_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        (fields::get(path)?.get)(self)
    }

    fn any_string_value(&self, is: &dyn Fn(&str) -> bool) -> bool {
        self.all_string_values().iter().any(|value| is(value))
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        let values = fields::ALL.iter().filter_map(|field| (field.get)(self));
        values
            .filter_map(|value| {
                if let EventValue::Str(text) = value {
                    Some(text)
                } else {
                    None
                }
            })
            .collect()
    }

    fn to_json(&self) -> serde_json::Value {
        let fields = fields::ALL.iter();
        let known =
            fields.filter_map(|field| Some((field.name.to_owned(), (field.get)(self)?.to_json())));
        serde_json::Value::Object(known.collect())
    }
}
