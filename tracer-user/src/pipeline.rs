//! All state between bytes and documents, owned by one task. Pure: no I/O, no clock.
//!
//! Inputs go in one at a time; documents and commands come out. The same inputs give the same
//! documents, byte for byte, which is what replay rests on.

mod command;
mod containers;
mod contents;
mod counts;
mod excused;
mod healing;
mod incident;
mod kin;
mod losses;
mod names;
mod pending;
mod pods;
pub mod query;
mod raised;
mod restart;
mod rules;
mod view;

use std::borrow::Cow;
use std::sync::Arc;

use tracer_common::event::EventKind;
use tracer_common::tag::InodeKey;
use uuid::Uuid;

pub use self::command::{Command, ContainerAsked, NameAsked, ServerSeen, WrittenFile};
use self::containers::Containers;
use self::contents::{Contents, complete_contents};
use self::healing::{Healing, Reading};
use self::losses::Losses;
pub use self::losses::SHED;
pub use self::names::NamesAsked;
use self::names::complete_names;
use self::pending::Pending;
use self::raised::{Latest, alert_id, raised};
pub use self::restart::Left;
use self::restart::Restart;
pub(crate) use self::restart::WRITTEN_BYTES;
use self::view::NAMESPACE;
use crate::alert::{Alert, Document, EnrichedEvent, HostFacts, Incident, LossReport, RulesReport};
use crate::config::Emit;
use crate::detect::incident::{Incidents, Verdict};
use crate::detect::sigma::RuleSet;
use crate::detect::sigma::profile::Profile;
use crate::detect::{Asked, Detector, Dropped, Found, roles};
use crate::enrich::user::known::Known;
use crate::event::{Event, Payload, ProcessKey, decode};
use crate::lineage::process::{Image, Process, Server, Why};
use crate::lineage::{Retag, Store};
use crate::memory::Budget;
use crate::order::Order;
use crate::source::{Input, Loss};

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records decoded.
    pub events: u64,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Alerts raised.
    pub alerts: u64,
    /// Lost events, whatever the reason.
    pub lost: u64,
}

/// Losses after which the store may be wrong. Neither what the store refused nor tags that do not fit into
/// the kernel's map are among them: reading `/proc` makes no room, and would be refused the same again.
const LIFE_LOSSES: &[&str] = &[
    "life_ring_full",
    "tag_map_full",
    "fork_missed",
    "exec_missed",
    "exit_missed",
    losses::MISSING,
];

/// The reason of processes that the store did not take in.
const REFUSED: &str = "processes_refused";

/// The reasons of events that could not be judged again: no room to wait for a directory to become known, or
/// to have it looked at where a name leads.
const UNDECIDED: &str = "writes_undecided";
const UNASKED: &str = "names_unasked";

/// Processes that a name is looked up through: the one that used it, and some of those that made it.
const ASKED: usize = 8;

/// The pipeline.
pub struct Pipeline {
    emit: Emit,
    budget: Budget,
    order: Order,
    store: Store,
    detector: Detector,
    host: Arc<HostFacts>,
    boot_wall_ns: i128,
    names: Known,
    contents: Contents,
    containers: Containers,
    pending: Pending,
    incidents: Incidents,
    /// The latest watermark.
    now_boot_ns: u64,
    losses: Losses,
    restart: Restart,
    reading: Option<Reading>,
    healed: Healing,
    raised: Latest,
    given: excused::Given,
    totals: Totals,
    documents: Vec<Document>,
    reports: Vec<LossReport>,
    rule_reports: Vec<RulesReport>,
    commands: Vec<Command>,
}

impl Pipeline {
    /// An empty pipeline whose tables share this budget. Even the directories to look for come as inputs,
    /// so that a recording holds them.
    #[must_use]
    pub fn new(emit: Emit, budget: Budget) -> Self {
        Self {
            emit,
            budget,
            order: Order::new(budget.order),
            store: Store::new(budget.store),
            detector: Detector::new(budget.written),
            host: Arc::new(HostFacts::default()),
            boot_wall_ns: 0,
            names: Known::default(),
            contents: Contents::default(),
            containers: Containers::default(),
            pending: Pending::default(),
            incidents: Incidents::default(),
            now_boot_ns: 0,
            losses: Losses::default(),
            restart: Restart::default(),
            reading: None,
            healed: Healing::default(),
            raised: Latest::default(),
            given: excused::Given::default(),
            totals: Totals::default(),
            documents: Vec::new(),
            reports: Vec::new(),
            rule_reports: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// Judges by these rules from now on.
    pub fn set_rules(&mut self, rules: Arc<RuleSet>) {
        self.detector.set_rules(rules);
    }

    /// Counts what each rule costs from now on.
    pub fn set_profile(&mut self, profile: Arc<Profile>) {
        self.detector.set_profile(profile);
    }

    /// Takes one input.
    pub fn input(&mut self, input: Input) {
        match input {
            Input::Host(host) => self.host = Arc::new(host),
            Input::Clock(boot_wall_ns) => {
                self.boot_wall_ns = boot_wall_ns;
                self.detector.exceptions_mut().set_clock(boot_wall_ns);
            }
            Input::Content { moment, content } => {
                self.contents.answer(moment, content);
                self.complete();
            }
            Input::Names(names) => {
                self.name(&names);
                self.complete();
            }
            Input::Directory(entry) => {
                for (event, found) in self.detector.add_directory(&self.store, entry) {
                    self.raise(&event, found);
                }
            }
            Input::DirectoryUnnamed(name) => self.detector.forget_directory(&name),
            Input::DirectoryAt { file, entry } => {
                for (event, found) in self.detector.place_directory(&self.store, file, entry) {
                    self.raise(&event, found);
                }
            }
            Input::Resolved(resolved) => {
                for (event, found) in self.detector.resolved(&self.store, resolved) {
                    self.raise(&event, found);
                }
                self.ask();
            }
            Input::DirectoryLeft(file) => self.detector.displace_directory(file),
            Input::Record(bytes) => match decode(&bytes) {
                Ok(event) => self.record(event),
                Err(_) => self.totals.undecodable += 1,
            },
            Input::SnapshotEnd => {
                while let Some(event) = self.order.release(u64::MAX) {
                    self.event(&event);
                }
                let mut retag = Vec::new();
                self.recalled();
                self.store.tag_descendants(&mut retag);
                self.retag(retag);
            }
            Input::Watermark(boot_ns) => {
                while let Some(event) = self.order.release(boot_ns) {
                    self.event(&event);
                }
                self.now_boot_ns = self.now_boot_ns.max(boot_ns);
                self.containers.pods.pass(self.now_boot_ns);
                self.pass_incidents(boot_ns);
                let overdue = self.pending.overdue(boot_ns);
                self.documents.extend(overdue);
                self.report(boot_ns);
            }
            Input::Loss(loss) => {
                // Where records never cease, no watermark comes.
                if self.losses.is_overdue(loss.boot_ns) {
                    self.report(loss.boot_ns);
                }
                self.lose(loss);
            }
            Input::HealBegin(begin_boot_ns) => {
                self.reading = Some(Reading {
                    begin_boot_ns,
                    events: Vec::new(),
                    bytes: 0,
                    others: Vec::new(),
                });
            }
            Input::HealEnd => self.heal(),
            Input::Remembered(remembered) => self.recall(remembered),
            Input::Blind(blind) => self.was_blind(blind),
            Input::Enrichment(enrichment) => {
                self.containers.set(enrichment);
                self.contents.answered = enrichment.files;
                self.pending.set_wait(enrichment.wait_ms);
                // What nobody tells of any more is not waited for.
                self.complete();
            }
            Input::Pod { uid, facts } => {
                self.containers.pods.tell(uid, facts);
                self.complete();
            }
            Input::Exceptions(part) => self.except(part),
            Input::Fold(at_once) => self.incidents.set_at_once(at_once),
            Input::Container { id, facts } => {
                self.containers.answer(&id, facts);
                self.complete();
            }
            Input::Rules { boot_ns, chosen } => self.choose(boot_ns, &chosen),
            Input::RulesRejected(rejected) => self.reject(rejected),
        }
    }

    /// Lets alerts go that waited for what has been answered.
    fn complete(&mut self) {
        let (containers, names) = (&self.containers, &self.names);
        let contents = &self.contents;
        let whole = self.pending.answered(|event| {
            containers.complete(event);
            complete_names(names, event);
            complete_contents(contents, event);
        });
        self.documents.extend(whole);
    }

    /// The documents since last asked.
    pub fn take_documents(&mut self) -> Vec<Document> {
        std::mem::take(&mut self.documents)
    }

    /// The reports of losses since last asked.
    pub fn take_reports(&mut self) -> Vec<LossReport> {
        std::mem::take(&mut self.reports)
    }

    /// Whether a watermark of this time would give such a report.
    #[must_use]
    pub fn owes_report(&self, boot_ns: u64) -> bool {
        self.losses.is_due(boot_ns)
    }

    /// The commands since last asked.
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// Whether events wait for a watermark.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.order.is_empty()
    }

    /// Whether alerts wait for facts, or for the end of a time in which they are folded: watermarks tell when that is.
    #[must_use]
    pub fn holds_alerts(&self) -> bool {
        !self.pending.is_empty() || self.incidents.is_folding()
    }

    /// What the process store takes, bytes, as far as it counts.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.store.held()
    }

    /// How many processes are known.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.store.len()
    }

    /// What happened so far.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether any process that is known is of a server's lineage.
    #[must_use]
    pub fn knows_servers(&self) -> bool {
        self.store.knows_servers()
    }

    /// A loss: for integrity, for the next report, and where process life was lost, for healing.
    fn lose(&mut self, loss: Loss) {
        self.totals.lost = self.totals.lost.saturating_add(loss.count);
        if LIFE_LOSSES.contains(&&*loss.reason) {
            self.want_healing();
        }
        self.losses.add(loss);
    }

    fn want_healing(&mut self) {
        if !self.commands.contains(&Command::Heal) {
            self.commands.push(Command::Heal);
        }
    }

    /// Something that a bound of this stage refused just now.
    fn refuse(&mut self, reason: &str, count: u64, boot_ns: u64) {
        if count > 0 {
            self.lose(Loss {
                reason: reason.to_owned(),
                stream: None,
                count,
                since_boot_ns: boot_ns,
                boot_ns,
            });
        }
    }

    fn report(&mut self, now_boot_ns: u64) {
        let Some(sum) = self.losses.report(now_boot_ns) else {
            return;
        };
        let (since, until) = (sum.since_boot_ns, sum.until_boot_ns);
        let text = format!("loss|{}|{since}|{until}", self.host.boot_id);
        self.reports.push(LossReport {
            id: Uuid::new_v5(&NAMESPACE, text.as_bytes()),
            since_boot_ns: since,
            until_boot_ns: until,
            boot_wall_ns: self.boot_wall_ns,
            lost: sum.lost,
            is_blind: false,
            host: Arc::clone(&self.host),
        });
    }

    fn event(&mut self, event: &Event) {
        self.totals.events += 1;
        if let Some(missing) = self.losses.follow(&event.meta) {
            self.lose(missing);
        }
        if self.is_repeated_end(event) || self.is_no_change(event) {
            return;
        }
        let mut retag = Vec::new();
        let refused = self.store.stats().refused;
        self.store.apply(event, &mut retag);
        self.refuse(
            REFUSED,
            self.store.stats().refused - refused,
            event.meta.boot_ns,
        );
        if self.store.has_room_again() {
            self.want_healing();
        }
        self.note_change(event);
        self.retag(retag);
        if let Payload::Exec(_) | Payload::Observed(_) = event.payload {
            self.see_container(event.meta.subject);
        }
        self.discover(event);
        self.identify(event);
        self.ask_names(event);
        self.ask_program(event);
        let found = self.detector.event(&mut self.store, event);
        self.tell(event, found);
        self.ask();
        let Dropped { kept, unasked } = self.detector.take_dropped();
        self.refuse(UNDECIDED, kept, event.meta.boot_ns);
        self.refuse(UNASKED, unasked, event.meta.boot_ns);
    }

    /// A name that leads to directories may lead elsewhere from now on.
    fn identify(&mut self, event: &Event) {
        let Payload::Change(change) = &event.payload else {
            return;
        };
        let leads = matches!(
            change.kind,
            EventKind::Rename
                | EventKind::Symlink
                | EventKind::Unlink
                | EventKind::Mkdir
                | EventKind::Mount
        );
        let directories = self.detector.directories();
        let leads = leads && (directories.touched(&change.new) || directories.touched(&change.old));
        if leads && self.commands.last() != Some(&Command::Identify) {
            self.commands.push(Command::Identify);
        }
    }

    /// What comes of an event that the store has taken in and the rules have judged.
    fn tell(&mut self, event: &Event, found: Vec<Found>) {
        for found in found {
            self.raise(event, found);
        }
        if self.emit != Emit::Alerts && !self.detector.ignores() {
            let event = self.enrich(event, event.payload.writer());
            self.documents.push(Document { event, alert: None });
        }
    }

    /// Threads that end together may each be the last to the kernel side, which then tells the end of
    /// their process twice.
    fn is_repeated_end(&self, event: &Event) -> bool {
        matches!(event.payload, Payload::Exit(_))
            && self
                .store
                .get(event.meta.subject)
                .and_then(|process| process.ended)
                .is_some_and(|ended| ended.status.is_some())
    }

    /// A call that sets users or capabilities to what they are, as each thread of a process does after
    /// the first.
    fn is_no_change(&self, event: &Event) -> bool {
        matches!(&event.payload, Payload::Credentials(credentials)
            if self
                .store
                .get(event.meta.subject)
                .is_some_and(|process| process.credentials.as_ref() == Some(credentials)))
    }

    fn raise(&mut self, event: &Event, mut found: Found) {
        if self.is_excused(event, &found) {
            return;
        }
        self.totals.alerts += 1;
        let (server, verdict) = self.incident(event, &mut found);
        self.raised
            .note(raised(event, self.event_id(event), &found));
        let (incident, is_folded) = match verdict {
            Verdict::AtOnce(incident) => (incident, false),
            Verdict::Folded(Some(incident)) => (incident, true),
            Verdict::Folded(None) => return,
        };
        if self.emit != Emit::Events {
            // What it is about may be known by now, or has to be asked for again.
            self.see_container(event.meta.subject);
            self.ask_contents(event, found.server_depth);
            let event = self.enrich(event, found.writer);
            let alert = Some(alert(&event, found, incident));
            let document = Document { event, alert };
            if is_folded {
                self.incidents.show(server, document);
                return;
            }
            let out = self.pending.hold(document, self.now_boot_ns);
            self.documents.extend(out);
        }
    }

    fn retag(&mut self, retag: Vec<Retag>) {
        self.commands
            .extend(retag.into_iter().map(|retag| match retag {
                Retag::Set(key, tag) => Command::Tag(key, tag),
                Retag::Executable(file, serves) => Command::Role(
                    InodeKey {
                        inode: file.inode,
                        dev: file.dev,
                        reserved: 0,
                    },
                    serves,
                ),
            }));
    }

    /// Asks where directories lead that the detector could not judge by their names.
    fn ask(&mut self) {
        for Asked {
            mnt_ns,
            directory,
            subjects,
        } in self.detector.take_questions()
        {
            let mut processes: Vec<ProcessKey> = Vec::new();
            let chains = subjects.iter().take(ASKED);
            for process in chains.flat_map(|subject| self.store.chain(*subject)) {
                if processes.len() < ASKED
                    && process.ended.is_none()
                    && !processes.contains(&process.key)
                {
                    processes.push(process.key);
                }
            }
            self.commands.push(Command::Resolve(NameAsked {
                processes,
                mnt_ns,
                directory,
            }));
        }
    }

    /// A process that has just become a server may serve directories nobody told us of.
    fn discover(&mut self, event: &Event) {
        let may_be_new = match &event.payload {
            Payload::Exec(_) | Payload::Observed(_) => true,
            // Every other use of a socket is a server's daily work.
            Payload::Socket(socket) => {
                let is_first = !event.meta.tag.is_server_lineage();
                socket.kind == EventKind::Listen || (socket.kind == EventKind::Accept && is_first)
            }
            Payload::Fork(_)
            | Payload::Exit(_)
            | Payload::File(_)
            | Payload::Change(_)
            | Payload::ExecFailed(_)
            | Payload::Credentials(_)
            | Payload::Namespace(_)
            | Payload::Trace(_)
            | Payload::Comm(_) => false,
        };
        if !may_be_new {
            return;
        }
        let key = event.meta.subject;
        let mut chain = self.store.chain(key);
        let Some(image) = chain.next().and_then(Process::image) else {
            return;
        };
        // What runs below a server may be the attacker's: its configuration is not believed. A program of
        // no table that listens may as well be what manages services, and starts them.
        let is_known = |image: &Image| {
            let server = image.server.as_ref();
            server.is_some_and(|server| {
                server.why == Why::Named || roles::runtime(&image.exec, server.why).is_some()
            })
        };
        let below = chain.any(|process| process.images.iter().any(is_known));
        if below {
            return;
        }
        // Of those that the table does not know by name nothing is known to read.
        let by_accepting =
            matches!(&event.payload, Payload::Socket(socket) if socket.kind == EventKind::Accept);
        if let Some(Server {
            name: Cow::Borrowed(name),
            why,
            ..
        }) = image.server
            && (!by_accepting || why == Why::Accepts)
        {
            let seen = ServerSeen {
                key,
                server: name,
                image: image.clone(),
            };
            self.commands.push(Command::Discover(seen));
        }
    }
}

fn alert(event: &EnrichedEvent, found: Found, incident: Incident) -> Alert {
    let Found {
        rule,
        severity,
        reason,
        server_depth,
        server,
        directory,
        writer: _,
        perhaps: _,
        told: _,
    } = found;
    Alert {
        id: alert_id(event.id, &rule),
        rule,
        severity,
        reason,
        server_depth,
        server,
        directory,
        incident,
    }
}
