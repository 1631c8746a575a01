//! The pipeline's part in names of users and groups: it asks for those of each mount namespace that a
//! process is seen in, once, and again when a process enters it.

use super::{ASKED, Command, Pipeline};
use crate::alert::EnrichedEvent;
use crate::enrich::facts::Fact;
use crate::enrich::user::known::Known;
use crate::enrich::user::{Users, Whose};
use crate::event::{Event, Payload, ProcessKey};
use crate::lineage::process::Image;
use crate::source::{Names, NamesStep};

/// Names that are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamesAsked {
    /// The namespaces they hold in.
    pub whose: Whose,
    /// Processes of these, the one that was seen first.
    pub processes: Vec<ProcessKey>,
}

impl Pipeline {
    /// Takes names in.
    pub(super) fn name(&mut self, names: &Names) {
        match names.step {
            NamesStep::Add | NamesStep::Replace => self.names.tell(names),
            NamesStep::Fail => self.names.fail(names.whose, self.now_boot_ns),
        }
    }

    /// Asks for the names that hold where a process is, when it is first seen there.
    pub(super) fn ask_names(&mut self, event: &Event) {
        if !matches!(event.payload, Payload::Exec(_) | Payload::Observed(_)) {
            return;
        }
        let mut chain = self.store.chain(event.meta.subject);
        let Some(seen) = chain.next() else {
            return;
        };
        let here = whose(seen.image());
        let entered = chain
            .next()
            .is_some_and(|creator| whose(creator.image()) != here);
        let is_observed = matches!(event.payload, Payload::Observed(_));
        if !self
            .names
            .ask(here, entered && !is_observed, event.meta.boot_ns)
        {
            return;
        }
        let chain = self.store.chain(event.meta.subject);
        let there =
            chain.filter(|process| process.ended.is_none() && whose(process.image()) == here);
        let processes = there.take(ASKED).map(|process| process.key).collect();
        self.commands.push(Command::Names(NamesAsked {
            whose: here,
            processes,
        }));
    }
}

/// The namespaces whose names hold for a process: those that it was in when it was executed.
fn whose(image: Option<&Image>) -> Whose {
    let ns = image.map(|image| image.exec.ns);
    ns.map_or_else(Whose::default, |ns| Whose {
        mnt_ns: ns.mnt,
        user_ns: ns.user,
    })
}

/// The names that hold for a program.
pub(super) fn names_of(names: &Known, image: Option<&Image>) -> Fact<Users> {
    match names.users(whose(image)) {
        Fact::Found(users) => Fact::Found(users.clone()),
        Fact::Pending => Fact::Pending,
        Fact::Absent => Fact::Absent,
    }
}

/// Puts into an event the names that have been told since it was made.
pub(super) fn complete_names(names: &Known, event: &mut EnrichedEvent) {
    for process in event.processes_mut() {
        if process.names.is_pending() {
            process.names = names_of(names, process.image.as_ref());
        }
    }
}
