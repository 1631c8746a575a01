//! The running agent: wires sources, pipeline and sink, and is the only place that spawns
//! long-lived tasks.
//!
//! One task owns the pipeline and reads the rings itself: while it is busy, records wait in the
//! kernel's rings, which are the bounded queue between both sides and count what they refuse.
//! Shutdown follows the data: rings are drained, the pipeline is emptied, the sink is flushed, then
//! the programs are detached.

mod apart;
pub mod containers;
mod contents;
mod control;
mod healing;
mod health;
mod host;
mod house;
pub mod kubernetes;
mod maps;
mod names;
mod obeying;
mod owner;
mod places;
mod pods;
mod rules;
mod servers;
mod state;
mod summary;
mod tags;
mod users;

use std::fs::File;
use std::future::Future;
use std::io::{self, BufWriter};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use self::apart::{Apart, Limits};
use self::containers::{Answer, Containers};
use self::contents::Contents;
use self::control::{Control, Question, View};
use self::healing::Healing;
use self::health::{Counts, Looked};
use self::house::lost_records;
use self::kubernetes::{Access, Kubernetes};
use self::names::Names;
use self::rules::Rules;
pub use self::rules::RulesOptions;
use self::servers::{Found, Servers};
pub use self::state::StateOptions;
use self::state::{Keeper, Taken};
pub use self::summary::Summary;
use self::users::NameSpaces;
use crate::alert::HostFacts;
use crate::config::{self, Emit};
use crate::control::Ask;
use crate::detect::incident::AT_ONCE;
use crate::encode;
use crate::enrich::docroot::{Entry, Located};
use crate::enrich::kubernetes::{Cluster, complete};
use crate::memory::Budget;
use crate::pipeline::Pipeline;
use crate::pipeline::query::StatusView;
use crate::sensor::account::{Occupancy, Tags};
use crate::sensor::{Sensor, SensorError, SensorOptions};
use crate::sink::Sink;
use crate::source::capture::Writer;
use crate::source::remembered::{Blind, Remembered};
use crate::source::ring::Ring;
use crate::source::{Enrichment, Input};

/// How often losses and the clock are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// How long start-up and shutdown wait for what is slow: configurations on a hung file system, rings
/// that fill as fast as they are drained.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long start-up waits for container runtimes to say what runs.
const RUNTIMES: Duration = Duration::from_secs(2);

/// How often the rings are looked at without being woken: records of server lineages wake the agent,
/// the others wait for this. It bounds how long a new server is unknown to the kernel side.
const LOOK: Duration = Duration::from_millis(20);

/// One thread counts, and whatever it takes.
const COUNTING: Limits = Limits {
    at_once: 1,
    stuck: 1,
    patience: Duration::from_secs(60),
};

/// How long records may be under way after the last program was unloaded.
const UNDER_WAY: Duration = Duration::from_millis(200);

/// How to run.
pub struct AgentOptions {
    /// How to load the kernel side.
    pub sensor: SensorOptions,
    /// Which documents are wanted.
    pub emit: Emit,
    /// What the tables may take.
    pub budget: Budget,
    /// How long records are held to be put in order.
    pub order_window: Duration,
    /// How long an alert waits for facts that somebody has been asked for.
    pub enrichment_wait: Duration,
    /// How the API server is reached that tells of this node's pods; `None` where there is none.
    pub kubernetes: Option<Access>,
    /// What the user says of the cluster.
    pub cluster: Cluster,
    /// Which files are hashed.
    pub hash: config::HashLimits,
    /// Where container runtimes listen.
    pub container_sockets: Vec<PathBuf>,
    /// Directories of the configuration and the defaults.
    pub directories: Vec<Entry>,
    /// Which rules hold.
    pub rules: RulesOptions,
    /// Exceptions.
    pub exceptions: Vec<Input>,
    /// Alerts of one kind of an incident that go out at once in a minute; zero for all.
    pub at_once: u32,
    /// Where lineage is kept for the next agent, if at all.
    pub state: Option<StateOptions>,
    /// The socket by which the agent is asked.
    pub control: config::Control,
    /// Where the pipeline's inputs are recorded, if at all.
    pub record: Option<File>,
}

/// Why the agent ended other than by being told to.
#[derive(Debug)]
pub enum AgentError {
    /// The kernel side could not be loaded.
    Sensor(SensorError),
    /// The control socket that was asked for could not be made: why.
    Control(String),
    /// Reading `/proc` or a ring failed.
    Io(&'static str, io::Error),
    /// The sink failed: what it said.
    Sink(String),
}

impl std::fmt::Display for AgentError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sensor(error) => error.fmt(f),
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::Control(why) => write!(f, "cannot listen for questions: {why}"),
            Self::Sink(failure) => f.write_str(failure),
        }
    }
}

impl std::error::Error for AgentError {}

impl From<SensorError> for AgentError {
    fn from(error: SensorError) -> Self {
        Self::Sensor(error)
    }
}

/// How a run began.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// Processes that run.
    pub processes: usize,
    /// How many of them, with their lineage, were known from an earlier agent of this boot.
    pub restored: usize,
    /// How long no agent ran before this one; `None` where none is known to have run.
    pub blind: Option<Duration>,
}

/// Runs until `stop` is done.
///
/// `ready` is called once, when the hooks are attached and the running processes are known.
///
/// # Errors
///
/// [`AgentError`]; the kernel side is detached in every case.
pub async fn run(
    options: AgentOptions,
    mut sink: Option<Sink>,
    ready: impl FnOnce(&Sensor, Begun),
    stop: impl Future<Output = ()>,
) -> Result<Summary, AgentError> {
    let facts = host::facts();
    let attached_boot_ns = host::boot_ns();
    let mut sensor = Sensor::load(&options.sensor)?;
    let Taken {
        left,
        blind,
        keeper,
    } = state::open(options.state.as_ref(), &facts.boot_id, host::boot_ns());
    let (life, files) = sensor.take_rings()?;
    let control = listen(&options.control).await?;
    let record = options
        .record
        .map(|file| Writer::new(BufWriter::new(file)))
        .transpose()
        .map_err(|error| AgentError::Io("cannot write the capture", error))?;
    let (rules, first_rules) = Rules::new(options.rules);
    let mut agent = Agent {
        rules,
        tags: sensor.share_tags()?,
        sees_host: host::sees_all_processes(),
        life: Ring::new(life).map_err(|error| AgentError::Io("cannot watch a ring", error))?,
        files: Ring::new(files).map_err(|error| AgentError::Io("cannot watch a ring", error))?,
        pipeline: Pipeline::new(options.emit, options.budget),
        control,
        servers: Servers::new(options.directories.clone()),
        unwatched: false,
        names: Names::new(),
        users: NameSpaces::new(),
        contents: Contents::new(options.hash),
        record,
        keeper,
        is_begun: false,
        enrichment: Enrichment {
            wait_ms: u32::try_from(options.enrichment_wait.as_millis()).unwrap_or(u32::MAX),
            // Until it is known that nobody does.
            pods: options.kubernetes.is_some(),
            files: options.hash.any(),
            containers: !options.container_sockets.is_empty(),
        },
        kubernetes: options
            .kubernetes
            .map(|access| Kubernetes::begin(access, options.cluster.clone()))
            .transpose()
            .map_err(|error| AgentError::Io("cannot begin to watch pods", error))?,
        pods_listed: false,
        cluster: options.cluster,
        containers: Containers::new(options.container_sockets),
        window_ns: u64::try_from(options.order_window.as_nanos()).unwrap_or(u64::MAX),
        counts: Counts::new(attached_boot_ns),
        healing: Healing::new(),
        tags_refused: 0,
        tags_full: false,
        counting: Apart::new("tracer-maps", COUNTING),
        is_counting: false,
        maps: Vec::new(),
        warned: Vec::new(),
        seconds: 0,
        boot_wall_ns: host::boot_wall_ns(),
        shed: 0,
        sensor,
    };
    tokio::pin!(stop);
    let fold = (options.at_once != AT_ONCE).then_some(Input::Fold(options.at_once));
    let given = first_rules.into_iter().chain(fold);
    let given = given.chain(options.exceptions).collect();
    let begun = tokio::select! {
        begun = agent.begin(attached_boot_ns, facts, left, blind, (options.directories, given)) => {
            begun.map(|()| true)
        }
        // A start may take long where `/proc` or a configuration does not answer.
        () = &mut stop => Ok(false),
    };
    let outcome = match begun {
        Ok(true) => {
            agent.deliver(sink.as_mut()).await;
            let begun = Begun {
                processes: agent.pipeline.living(),
                restored: agent.pipeline.restored(),
                blind: blind
                    .map(|blind| Duration::from_nanos(blind.until_boot_ns - blind.since_boot_ns)),
            };
            agent.is_begun = true;
            ready(&agent.sensor, begun);
            agent.serve(&mut sink, stop).await
        }
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    // Whatever ended it, what was seen is passed on.
    let drained = agent
        .drain(&mut sink)
        .await
        .map_err(|error| AgentError::Io("cannot write the capture", error));
    agent.deliver(sink.as_mut()).await;
    let summary = agent.summary();
    // Not where it never came to know who runs: what the agent before left is worth more then.
    if let Some(keeper) = agent.keeper.take().filter(|_| agent.is_begun) {
        keeper.finish(agent.pipeline.remember()).await;
    }
    let Agent { record, sensor, .. } = agent;
    let recorded = record.map_or(Ok(()), |record| record.finish().map(std::mem::drop));
    let failure = sink.and_then(Sink::finish);
    std::mem::drop(sensor);
    outcome?;
    drained?;
    recorded.map_err(|error| AgentError::Io("cannot write the capture", error))?;
    match failure {
        Some(failure) => Err(AgentError::Sink(failure)),
        None => Ok(summary),
    }
}

/// Opens the control socket. Where nobody asked for it, the agent runs without.
async fn listen(socket: &config::Control) -> Result<Option<Control>, AgentError> {
    let Some(path) = &socket.path else {
        return Ok(None);
    };
    match Control::listen(path).await {
        Ok(control) => Ok(Some(control)),
        Err(why) if socket.required => Err(AgentError::Control(why)),
        Err(why) => {
            eprintln!(
                "tracer: `tracer tree` and `tracer servers` cannot ask this agent: {why}; \
                 control.socket: null in the configuration does without"
            );
            Ok(None)
        }
    }
}

/// The reason of tags that this side could not set. Another than the kernel's for those that it could not:
/// the store has these, so that reading `/proc` again would give nothing.
const TAGS_REFUSED: &str = "tags_refused";

/// The map of tags, among those whose occupancy is looked at.
const TAGS: &str = "tags";

/// The word of `sys_exit` for being left out.
const SYSCALLS_MISSED: &str = "sys_exit_missed";

struct Agent {
    sensor: Sensor,
    tags: Tags,
    /// Whether `/proc` has the processes of the host by the numbers that the kernel side knows.
    sees_host: bool,
    life: Ring,
    files: Ring,
    pipeline: Pipeline,
    control: Option<Control>,
    servers: Servers,
    /// Said that a directory cannot be watched by identity.
    unwatched: bool,
    names: Names,
    users: NameSpaces,
    contents: Contents,
    rules: Rules,
    record: Option<Writer<BufWriter<File>>>,
    keeper: Option<Keeper>,
    /// Who runs is known.
    is_begun: bool,
    enrichment: Enrichment,
    kubernetes: Option<Kubernetes>,
    /// It was said that pods are told.
    pods_listed: bool,
    cluster: Cluster,
    containers: Containers,
    window_ns: u64,
    counts: Counts,
    healing: Healing,
    /// Tags that could not be set.
    tags_refused: u64,
    /// The map of tags was nearly full when last looked at.
    tags_full: bool,
    /// Counts how full the kernel side's maps are.
    counting: Apart<Vec<Occupancy>>,
    is_counting: bool,
    /// How full they were when they were counted last.
    maps: Vec<Occupancy>,
    /// Maps that were said to be nearly full.
    warned: Vec<&'static str>,
    /// How often house was kept.
    seconds: u64,
    boot_wall_ns: i128,
    shed: u64,
}

impl Agent {
    /// Tells the pipeline of the host and of every process that runs already.
    async fn begin(
        &mut self,
        attached_boot_ns: u64,
        facts: HostFacts,
        left: Vec<Remembered>,
        blind: Option<Blind>,
        (directories, exceptions): (Vec<Entry>, Vec<Input>),
    ) -> Result<(), AgentError> {
        self.contents.prepare();
        let record = |error| AgentError::Io("cannot write the capture", error);
        self.give(Input::Host(facts)).map_err(record)?;
        self.give(Input::Clock(self.boot_wall_ns)).map_err(record)?;
        for remembered in left {
            self.give(Input::Remembered(remembered)).map_err(record)?;
        }
        if let Some(blind) = blind {
            self.give(Input::Blind(blind)).map_err(record)?;
        }
        // Who lives has its tag back in the kernel before `/proc` is read, which takes longer.
        self.obey();
        self.give(Input::Enrichment(self.enrichment))
            .map_err(record)?;
        self.give_names().map_err(record)?;
        for input in exceptions
            .into_iter()
            .chain(directories.into_iter().map(Input::Directory))
        {
            self.give(input).map_err(record)?;
        }
        let records = self.healing.first(attached_boot_ns).await;
        let records =
            records.map_err(|why| AgentError::Io("cannot read /proc", io::Error::other(why)))?;
        for bytes in records {
            self.give(Input::Record(bytes)).map_err(record)?;
        }
        self.give(Input::SnapshotEnd).map_err(record)?;
        self.obey();
        for found in self.containers.settle(RUNTIMES).await {
            self.contain(found).map_err(record)?;
        }
        // Directories of the servers found are known before the first event is judged.
        for found in self.servers.settle(PATIENCE).await {
            self.learn(found).map_err(record)?;
        }
        // So are the pods, by a server that answers.
        self.first_pods().await.map_err(record)?;
        Ok(())
    }

    async fn serve(
        &mut self,
        sink: &mut Option<Sink>,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), AgentError> {
        let ring = |error| AgentError::Io("cannot wait for a ring", error);
        let record = |error| AgentError::Io("cannot write the capture", error);
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        loop {
            let more = self.pump().map_err(record)?;
            self.deliver(sink.as_mut()).await;
            let pause = if more {
                Duration::ZERO
            } else if self.pipeline.is_waiting() {
                Duration::from_millis(1)
            } else {
                LOOK
            };
            let failed = async {
                match sink.as_ref() {
                    Some(sink) => sink.failed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut stop => return Ok(()),
                failure = failed => return Err(AgentError::Sink(failure)),
                ready = self.life.ready() => ready.map_err(ring)?,
                ready = self.files.ready() => ready.map_err(ring)?,
                found = self.servers.found() => self.learn(found).map_err(record)?,
                found = self.containers.found() => self.contain(found).map_err(record)?,
                found = self.names.found() => self.give(Input::Resolved(found)).map_err(record)?,
                content = self.contents.found() => self.give(content).map_err(record)?,
                names = self.users.found() => self.give(Input::Names(names)).map_err(record)?,
                found = self.healing.found() => self.heal(found, sink).await.map_err(record)?,
                rules = self.rules.found() => self.give(rules).map_err(record)?,
                heard = pods::heard(&mut self.kubernetes) => self.hear(heard).map_err(record)?,
                (_, counted) = self.counting.told() => self.counted(counted),
                () = Keeper::kept(&mut self.keeper) => {}
                question = Control::asked(&mut self.control) => self.answer(question),
                _ = housekeeping.tick() => self.keep_house().map_err(record)?,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Takes what the rings hold; true where there may be more.
    fn pump(&mut self) -> io::Result<bool> {
        // Everything stamped before now is in a ring when both have been drained, but for programs
        // that are between taking the time and handing the record over: the window covers those.
        let before = host::boot_ns();
        let mut records = Vec::new();
        let mut more = self.life.drain(|bytes| records.push(bytes));
        more |= self.files.drain(|bytes| records.push(bytes));
        if !records.is_empty() {
            // What was lost before a record was handed over has been counted by now: told first, it is
            // known when the record's turn comes.
            let looked = host::boot_ns();
            let now: Vec<Looked> = lost_records(&self.sensor).collect();
            self.tell(now, looked)?;
        }
        for bytes in records {
            self.give(Input::Record(bytes))?;
        }
        let watermark = before.saturating_sub(self.window_ns);
        let wanted = self.pipeline.is_waiting()
            || self.pipeline.holds_alerts()
            || self.pipeline.owes_report(watermark);
        if !more && wanted {
            self.give(Input::Watermark(watermark))?;
        }
        self.obey();
        self.healing.step(&self.sensor);
        Ok(more)
    }

    /// Takes what the rings hold until there is no more, or patience is over. What comes of it is passed
    /// on as it comes: who floods the rings does not fill memory.
    async fn catch_up(&mut self, sink: &mut Option<Sink>) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let more = self.pump()?;
            self.deliver(sink.as_mut()).await;
            if !more || Instant::now() >= deadline {
                return Ok(());
            }
        }
    }

    /// Takes all that is left: unloads the programs, so that it has an end.
    async fn drain(&mut self, sink: &mut Option<Sink>) -> io::Result<()> {
        self.tell_losses()?;
        self.sensor.detach();
        self.catch_up(sink).await?;
        // A program that was running on another CPU when it was unloaded still ends.
        let deadline = Instant::now() + UNDER_WAY;
        while self.health().unaccounted() > 0 && Instant::now() < deadline {
            self.pump()?;
            self.deliver(sink.as_mut()).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.tell_losses()?;
        self.maps = self.sensor.occupancy();
        self.give(Input::Watermark(u64::MAX))
    }

    /// Tells the pipeline the host's names of users and groups, where they are new or have changed.
    fn give_names(&mut self) -> io::Result<()> {
        for names in self.users.refresh() {
            self.give(Input::Names(names))?;
        }
        Ok(())
    }

    /// Takes what was found out of directories: the kernel side watches them, and the pipeline knows
    /// them.
    fn learn(&mut self, found: Found) -> io::Result<()> {
        match found {
            Found::Directory(entry) => self.give(Input::Directory(entry)),
            Found::Unnamed(name) => self.give(Input::DirectoryUnnamed(name)),
            Found::At(file, Located { entry, generation }) => {
                // Known before it is watched: the other way round, a write may be told that means nothing.
                self.give(Input::DirectoryAt { file, entry })?;
                if let Err(error) = self.sensor.watch_directory(file.into(), generation)
                    && !self.unwatched
                {
                    self.unwatched = true;
                    eprintln!("tracer: cannot watch a directory by identity: {error}");
                }
                Ok(())
            }
            Found::Left(file) => {
                self.sensor.unwatch_directory(file.into());
                self.give(Input::DirectoryLeft(file))
            }
        }
    }

    /// Takes what a runtime said of a container.
    fn contain(&mut self, found: Answer) -> io::Result<()> {
        let Answer { id, facts, .. } = found;
        self.give(Input::Container { id, facts })
    }

    fn give(&mut self, mut input: Input) -> io::Result<()> {
        if let Input::Container {
            facts: Some(facts), ..
        } = &mut input
            && let Some(pod) = &mut facts.pod
        {
            // Before it is recorded: what the user says of the cluster is not.
            complete(pod, &self.cluster);
        }
        if let Some(record) = &mut self.record {
            record.write(&input)?;
        }
        self.pipeline.input(input);
        Ok(())
    }

    async fn deliver(&mut self, sink: Option<&mut Sink>) {
        let documents = self.pipeline.take_documents();
        let reports = self.pipeline.take_reports();
        for report in &reports {
            // However it is configured: at most every ten seconds.
            eprintln!(
                "tracer: {}; {}",
                encode::loss::sentence(report),
                self.health()
            );
        }
        let of_rules = self.pipeline.take_rule_reports();
        for report in &of_rules {
            eprintln!("tracer: {}", encode::rules::sentence(report));
        }
        let Some(sink) = sink else { return };
        for report in &of_rules {
            sink.send_rules(report).await;
        }
        for document in &documents {
            sink.send(document).await;
        }
        for report in &reports {
            sink.send_loss(report).await;
        }
        self.shed = sink.shed();
    }

    /// Hands what `/proc` shows by now to the pipeline.
    async fn heal(&mut self, found: healing::Found, sink: &mut Option<Sink>) -> io::Result<()> {
        // Everything up to the reading's begin goes first.
        self.catch_up(sink).await?;
        self.give(Input::HealBegin(found.boot_ns))?;
        for record in found.records {
            self.give(Input::Record(record))?;
        }
        self.give(Input::HealEnd)?;
        self.obey();
        Ok(())
    }

    /// Makes the view that somebody asked for. What becomes of it is no business of this loop.
    fn answer(&self, question: Question) {
        let view = match question.ask {
            Ask::Tree(selector, format) => View::Tree(self.pipeline.tree(&selector), format),
            Ask::Servers(style) => {
                let mut view = self.pipeline.servers();
                for server in &mut view.servers {
                    server.directories = self.servers.named(&server.process);
                }
                View::Servers(view, style)
            }
            Ask::Status => View::Status(StatusView {
                counts: self.all_counts(),
                ..self.pipeline.status()
            }),
        };
        // Who asked may have gone.
        let _unheard = question.answer.send(view);
    }

    fn summary(&self) -> Summary {
        Summary {
            totals: self.pipeline.totals(),
            counts: self.all_counts(),
        }
    }
}
