//! What is known of containers: who was asked for, what was said, and who began each.
//!
//! A container's facts outlive it here, as long as there is room: its last events come when its runtime has
//! forgotten it. Nothing is taken out but for room.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::pods::Pods;
use super::{Command, ContainerAsked, Pipeline};
use crate::alert::{ContainerView, EnrichedEvent, ProcessView};
use crate::enrich::container::Place;
use crate::enrich::facts::{ContainerFacts, Fact};
use crate::event::ProcessKey;
use crate::source::Enrichment;

/// Containers remembered, those that ended included. Of each at most 30 KiB of facts, mostly below 2.
pub(super) const CONTAINERS: usize = 1024;

#[derive(Default)]
pub(super) struct Containers {
    /// Who answers.
    enrichment: Enrichment,
    /// What is told of pods beside what their containers' runtime says.
    pub(super) pods: Pods,
    known: HashMap<Arc<str>, Known>,
    /// Ids by when they were last used, oldest first.
    used: BTreeMap<u64, Arc<str>>,
    uses: u64,
    forgotten: u64,
}

#[derive(Default)]
struct Known {
    used: u64,
    facts: Fact<Arc<ContainerFacts>>,
    /// Asked for, or told without.
    asked: bool,
    /// The first process that came into it from outside, as far as was seen. All others that were made outside
    /// came later.
    first: Option<ProcessKey>,
}

/// How a lineage came into a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The first process of it that is inside.
    pub(super) by: ProcessKey,
    /// It is of the container's init. Where the container has the pid namespace of the host or of a pod, none
    /// is.
    pub(super) is_init: bool,
}

impl Containers {
    pub(super) const fn set(&mut self, enrichment: Enrichment) {
        self.enrichment = enrichment;
        self.pods.set(enrichment.pods);
    }

    /// Containers that had to make room for others.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// A process of this container was seen: asks for it where it is new.
    pub(super) fn see(
        &mut self,
        place: &Place,
        process: ProcessKey,
        entry: Entry,
        commands: &mut Vec<Command>,
    ) {
        if let Some(uid) = &place.pod_uid {
            self.pods.see(uid);
        }
        let answered = self.enrichment.containers;
        let known = self.touch(&place.id);
        if entry.is_init || known.first.is_none() {
            known.first = Some(entry.by);
        }
        if !known.asked && answered {
            known.asked = true;
            known.facts = Fact::Pending;
            commands.push(Command::Container(ContainerAsked {
                id: place.id.clone(),
                runtime: place.runtime,
                pod_uid: place.pod_uid.clone(),
                process,
            }));
        }
    }

    /// Whether a lineage came into the container after its first process.
    pub(super) fn is_late(&self, id: &str, entry: Entry) -> bool {
        let first = self.known.get(id).and_then(|known| known.first);
        !entry.is_init && first.is_some_and(|first| first != entry.by)
    }

    /// Somebody said what is known of a container, asked or not. That it is not known any more takes nothing
    /// away.
    pub(super) fn answer(&mut self, id: &str, facts: Option<Box<ContainerFacts>>) {
        let known = self.touch(id);
        known.asked = true;
        match facts {
            Some(facts) => known.facts = Fact::Found(Arc::from(facts)),
            None if known.facts.is_pending() => known.facts = Fact::Absent,
            None => {}
        }
    }

    /// The container of a process, as far as it is known.
    pub(super) fn view(&self, place: &Arc<Place>) -> ContainerView {
        let mut view = ContainerView {
            place: Arc::clone(place),
            facts: Fact::Absent,
            pod: Fact::Absent,
        };
        self.fill(&mut view);
        view
    }

    /// Puts into an event what has been answered since it was made.
    pub(super) fn complete(&self, event: &mut EnrichedEvent) {
        for ProcessView { container, .. } in event.processes_mut() {
            if let Some(view) = container.as_mut().filter(|view| view.is_pending()) {
                self.fill(view);
            }
        }
    }

    fn fill(&self, view: &mut ContainerView) {
        let known = self.known.get(&*view.place.id);
        view.facts = known.map_or(Fact::Absent, |known| known.facts.clone());
        let of_runtime = view.facts.found().and_then(|facts| facts.pod.as_ref());
        let uid = view
            .place
            .pod_uid
            .as_deref()
            .or_else(|| of_runtime?.uid.as_deref());
        let told = uid.map_or(Fact::Absent, |uid| self.pods.fact(uid));
        view.pod = match (told, of_runtime) {
            // Kubernetes itself knows more than its runtime was told.
            (Fact::Found(pod), _) => Fact::Found(pod),
            (Fact::Pending | Fact::Absent, Some(pod)) => Fact::Found(Arc::new(pod.clone())),
            (Fact::Pending, None) => Fact::Pending,
            (Fact::Absent, None) if view.facts.is_pending() && view.place.pod_uid.is_some() => {
                Fact::Pending
            }
            (Fact::Absent, None) => Fact::Absent,
        };
    }

    /// What is known of a container, which is now the one used last.
    fn touch(&mut self, id: &str) -> &mut Known {
        self.uses += 1;
        let key = match self.known.get_key_value(id) {
            Some((key, known)) => {
                self.used.remove(&known.used);
                Arc::clone(key)
            }
            None => {
                if self.known.len() >= CONTAINERS
                    && let Some((_, oldest)) = self.used.pop_first()
                {
                    self.known.remove(&oldest);
                    self.forgotten += 1;
                }
                Arc::from(id)
            }
        };
        self.used.insert(self.uses, Arc::clone(&key));
        let known = self.known.entry(key).or_default();
        known.used = self.uses;
        known
    }
}

impl Pipeline {
    /// Notes the container that a process is in; asks for it where it is new.
    pub(super) fn see_container(&mut self, process: ProcessKey) {
        if let Some((place, entry)) = self.entry(process) {
            self.containers
                .see(&place, process, entry, &mut self.commands);
        }
    }

    /// The container of a process, and how its lineage came into it.
    fn entry(&self, process: ProcessKey) -> Option<(Arc<Place>, Entry)> {
        let mut chain = self.store.chain(process);
        let mut top = chain.next()?;
        let inside = self.store.place(top)?;
        let mut lineage = vec![top];
        let mut outside = None;
        for process in chain {
            let around = self.store.place(process);
            if around.is_none_or(|around| around.id != inside.id) {
                outside = Some(process.pid_ns);
                break;
            }
            lineage.push(process);
            top = process;
        }
        // A runtime may put its own process into the cgroup before that changes its namespace.
        let entered = lineage
            .iter()
            .rev()
            .find(|process| Some(process.pid_ns) != outside);
        Some((
            Arc::clone(inside),
            Entry {
                by: top.key,
                is_init: entered.is_some_and(|process| process.vpid == 1),
            },
        ))
    }

    /// Whether a process, or one that it descends from, came into its container after that had begun.
    pub(super) fn is_exec_session(&self, process: ProcessKey) -> bool {
        self.entry(process)
            .is_some_and(|(place, entry)| self.containers.is_late(&place.id, entry))
    }
}
