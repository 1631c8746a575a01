//! The pipeline's part in names of users and groups: it asks for those of each mount namespace that a
//! process is seen in, once, and again when a process enters it.

use super::{ASKED, Command, Pipeline};
use crate::enrich::user::Whose;
use crate::event::{Event, Payload, ProcessKey};
use crate::lineage::process::Process;
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
        let Names { whose, step, names } = names;
        match step {
            NamesStep::Add => self.names.tell(*whose, false, names),
            NamesStep::Replace => self.names.tell(*whose, true, names),
            NamesStep::Fail => self.names.fail(*whose, self.now_boot_ns),
        }
    }

    /// Asks for the names that hold where a process is, when it is first seen there.
    pub(super) fn ask_names(&mut self, event: &Event) {
        if !matches!(event.payload, Payload::Exec(_) | Payload::Observed(_)) {
            return;
        }
        self.now_boot_ns = event.meta.boot_ns;
        let mut chain = self.store.chain(event.meta.subject);
        let Some(seen) = chain.next() else {
            return;
        };
        let here = whose(seen);
        let entered = chain.next().is_some_and(|creator| whose(creator) != here);
        let is_observed = matches!(event.payload, Payload::Observed(_));
        if !self
            .names
            .ask(here, entered && !is_observed, event.meta.boot_ns)
        {
            return;
        }
        let chain = self.store.chain(event.meta.subject);
        let there = chain.filter(|process| process.ended.is_none() && whose(process) == here);
        let processes = there.take(ASKED).map(|process| process.key).collect();
        self.commands.push(Command::Names(NamesAsked {
            whose: here,
            processes,
        }));
    }
}

/// The namespaces whose names hold for a process: those that it was in when it was executed.
pub(super) fn whose(process: &Process) -> Whose {
    let ns = process.image().map(|image| image.exec.ns);
    ns.map_or_else(Whose::default, |ns| Whose {
        mnt_ns: ns.mnt,
        user_ns: ns.user,
    })
}
