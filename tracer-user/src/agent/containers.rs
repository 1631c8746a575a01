//! Asks container runtimes what their containers are.
//!
//! Each socket has a task that connects, says what is there already, and follows what is made from then on, where the
//! runtime tells that; where it does not, containers are asked for when they are first seen. What is asked for is
//! asked of every runtime that is connected, with a limit in time and number: each question has its answer, also
//! where that is that nobody knows. Only sockets at which root listens are spoken to. Nothing here is waited for by
//! the pipeline.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use self::containerd::Containerd;
use self::cri::Cri;
use self::docker::Docker;
use self::grpc::{CallError, Client};
use self::storage::Storage;
use crate::enrich::facts::ContainerFacts;
use crate::pipeline::ContainerAsked;

mod containerd;
mod cri;
mod docker;
pub mod grpc;
mod storage;

/// Where runtimes listen: containerd, k3s and RKE2, Bottlerocket, CRI-O, Docker, podman; and where podman keeps its
/// files, for when it does not listen.
pub const SOCKETS: &[&str] = &[
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/host-containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/docker.sock",
    "/run/podman/podman.sock",
    storage::ROOT,
];

/// How long a runtime has for one answer, and a question for all of them.
const ANSWER: Duration = Duration::from_secs(2);
/// Waits before a runtime is tried again: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How often it is looked whether one that tells nothing by itself is still there.
const LOOK: Duration = Duration::from_secs(5);
/// Questions that are asked at once; the others wait for their turn.
const AT_ONCE: usize = 16;
/// Questions that wait at most. Beyond it the answer is that nobody knows.
const QUESTIONS: usize = 1024;
/// Answers that wait to be taken.
const ANSWERS: usize = 64;
/// Containers that are told at the begin at most: the pipeline remembers no more.
const LISTED: usize = 1024;

/// What is known of a container.
pub(super) struct Answer {
    pub(super) id: String,
    pub(super) facts: Option<Box<ContainerFacts>>,
    /// Somebody asked.
    asked: bool,
}

/// How it stands with a socket.
#[derive(Clone, Default)]
enum State {
    /// Not tried yet.
    #[default]
    Untried,
    /// Nobody to speak to.
    Down,
    Up(Runtime),
}

/// A runtime that answers.
#[derive(Clone)]
struct Runtime {
    cri: Option<Cri>,
    containerd: Option<Containerd>,
    docker: Option<Docker>,
    storage: Option<Storage>,
    /// In words.
    about: String,
}

pub(super) struct Containers {
    states: Vec<watch::Receiver<State>>,
    answers: mpsc::Receiver<Answer>,
    answer: mpsc::Sender<Answer>,
    turns: Arc<Semaphore>,
    /// Questions without an answer yet.
    open: usize,
}

impl Containers {
    /// Begins to follow these sockets.
    pub(super) fn new(sockets: Vec<PathBuf>) -> Self {
        let (answer, answers) = mpsc::channel(ANSWERS);
        let states = sockets.into_iter().map(|socket| {
            let (state, states) = watch::channel(State::default());
            tokio::spawn(follow(socket, state, answer.clone()));
            states
        });
        Self {
            states: states.collect(),
            answers,
            answer: answer.clone(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            open: 0,
        }
    }

    /// Begins to ask. The answer comes by [`Self::found`].
    pub(super) fn ask(&mut self, asked: ContainerAsked) {
        let id = asked.id;
        let answer = self.answer.clone();
        if self.open >= QUESTIONS {
            // Not waited for here: who takes the answers is who asks.
            tokio::spawn(async move {
                let unknown = Answer {
                    id,
                    facts: None,
                    asked: false,
                };
                answer.send(unknown).await
            });
            return;
        }
        self.open += 1;
        let states = self.states.clone();
        let turns = Arc::clone(&self.turns);
        tokio::spawn(async move {
            let _turn = turns.acquire().await;
            let facts = timeout(ANSWER, find(states, &id)).await.unwrap_or_default();
            let found = Answer {
                id,
                facts,
                asked: true,
            };
            let _nobody_listens_at_the_end = answer.send(found).await;
        });
    }

    /// Waits for the next answer, asked for or not. Cancel safe.
    pub(super) async fn found(&mut self) -> Answer {
        match self.answers.recv().await {
            Some(answer) => {
                self.open = self.open.saturating_sub(usize::from(answer.asked));
                answer
            }
            // There is always a sender: this one's own.
            None => std::future::pending().await,
        }
    }

    /// Waits until every runtime has been tried and every question has its answer, or patience is over.
    pub(super) async fn settle(&mut self, patience: Duration) -> Vec<Answer> {
        let mut found = Vec::new();
        let _patience_is_over = timeout(patience, async {
            for state in &mut self.states {
                let _gone = state
                    .wait_for(|state| !matches!(state, State::Untried))
                    .await;
            }
            while self.open > 0 {
                let answer = self.found().await;
                found.push(answer);
            }
        })
        .await;
        found
    }
}

/// Asks one runtime after another.
async fn find(states: Vec<watch::Receiver<State>>, id: &str) -> Option<Box<ContainerFacts>> {
    let mut runtimes = Vec::new();
    for mut state in states {
        let state = state
            .wait_for(|state| !matches!(state, State::Untried))
            .await;
        if let Ok(state) = state
            && let State::Up(runtime) = &*state
        {
            runtimes.push(runtime.clone());
        }
    }
    for runtime in &runtimes {
        if let Some(facts) = runtime.find(id).await {
            return Some(facts);
        }
    }
    None
}

impl Runtime {
    /// Who listens at a socket.
    async fn begin(socket: &Path) -> Result<Self, String> {
        if let Some(storage) = Storage::at(socket) {
            return Ok(Self {
                cri: None,
                containerd: None,
                docker: None,
                storage: Some(storage),
                about: "podman's own files".to_owned(),
            });
        }
        if let Some((docker, version)) = Docker::begin(socket)
            .await
            .map_err(|error| error.to_string())?
        {
            return Ok(Self {
                about: format!("{} {version}", docker.runtime),
                cri: None,
                containerd: None,
                docker: Some(docker),
                storage: None,
            });
        }
        let stream = trusted(socket).await.map_err(|error| error.to_string())?;
        let client = Client::begin(stream)
            .await
            .map_err(|error| error.to_string())?;
        let (cri, mut about) = match Cri::begin(client.clone()).await {
            Ok((cri, version)) => {
                let (name, number) = (version.runtime_name, version.runtime_version);
                (Some(cri), format!("{name} {number}"))
            }
            Err(CallError::Unimplemented) => (None, String::new()),
            Err(error) => return Err(error.to_string()),
        };
        let containerd = match Containerd::begin(client).await {
            Ok((containerd, version)) => {
                if about.is_empty() {
                    about = format!("containerd {version} without CRI");
                }
                Some(containerd)
            }
            Err(_) if cri.is_some() => None,
            Err(error) => return Err(error.to_string()),
        };
        Ok(Self {
            cri,
            containerd,
            docker: None,
            storage: None,
            about,
        })
    }

    /// What it knows of a container; what it does not answer it does not know.
    async fn find(&self, id: &str) -> Option<Box<ContainerFacts>> {
        let mut found = None;
        if let Some(cri) = &self.cri {
            found = cri.find(id).await.ok().flatten();
        }
        if let (None, Some(containerd)) = (&found, &self.containerd) {
            found = containerd.find(id).await.ok().flatten();
        }
        if let (None, Some(docker)) = (&found, &self.docker) {
            found = docker.find(id).await.ok().flatten();
        }
        if let (None, Some(storage)) = (&found, &self.storage) {
            found = storage.find(id).await;
        }
        found.map(|facts| Box::new(facts.bounded()))
    }

    async fn list(&self) -> Vec<String> {
        let mut ids = match (&self.cri, &self.docker) {
            (Some(cri), _) => cri.list().await.unwrap_or_default(),
            (None, Some(docker)) => docker.list().await.unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        ids.truncate(LISTED);
        ids
    }

    /// Begins to follow what is made; `None` where it does not tell.
    async fn watch(&self) -> Option<Events> {
        let began = timeout(ANSWER, async {
            if let Some(docker) = &self.docker {
                return docker.watch().await.ok().map(Events::Docker);
            }
            if let Some(containerd) = &self.containerd
                && let Ok(events) = containerd.watch().await
            {
                return Some(Events::Containerd(events));
            }
            self.cri.as_ref()?.watch().await.ok().map(Events::Cri)
        });
        began.await.unwrap_or_default()
    }

    /// Whether it still answers.
    async fn lives(&self) -> bool {
        match (&self.cri, &self.containerd) {
            (Some(cri), _) => cri.lives().await,
            (None, Some(containerd)) => containerd.lives().await,
            (None, None) => self.storage.as_ref().is_none_or(Storage::lives),
        }
    }
}

/// Who listens at a socket, in words, or why nobody who can be asked does; `None` where there is no socket.
pub async fn probe(socket: &Path) -> Option<Result<String, String>> {
    if !socket.exists() {
        return None;
    }
    Some(match timeout(ANSWER, Runtime::begin(socket)).await {
        Ok(Ok(runtime)) => {
            let how = how(runtime.watch().await.as_ref());
            Ok(format!("{}; {how}", runtime.about))
        }
        Ok(Err(why)) => Err(why),
        Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
    })
}

/// How it is known what is made.
const fn how(events: Option<&Events>) -> &'static str {
    match events {
        Some(_) => "containers are told when they are made",
        None => "containers are asked for when they are first seen",
    }
}

enum Events {
    Containerd(containerd::Events),
    Cri(cri::Events),
    Docker(docker::Events),
}

impl Events {
    async fn next(&mut self) -> Option<String> {
        match self {
            Self::Containerd(events) => events.next().await.ok().flatten(),
            Self::Cri(events) => events.next().await.ok().flatten(),
            Self::Docker(events) => events.next().await.ok().flatten(),
        }
    }
}

/// Follows one socket for as long as the agent runs.
async fn follow(socket: PathBuf, state: watch::Sender<State>, answer: mpsc::Sender<Answer>) {
    let (first, longest) = RETRY;
    let mut pause = first;
    let mut said = String::new();
    loop {
        match timeout(ANSWER, Runtime::begin(&socket)).await {
            Ok(Ok(runtime)) => {
                let began = Instant::now();
                state.send_replace(State::Up(runtime.clone()));
                let events = runtime.watch().await;
                let how = how(events.as_ref());
                let about = format!("{}: {}; {how}", socket.display(), runtime.about);
                eprintln!("tracer: container runtime at {about}");
                if tell(&runtime, events, &answer).await.is_err() {
                    return; // the agent is at its end
                }
                said = format!("{} is gone", socket.display());
                eprintln!("tracer: the container runtime at {said}; it is tried again");
                // One that breaks off again and again is not asked for all of its containers each time at once.
                if began.elapsed() >= longest {
                    pause = first;
                }
            }
            Ok(Err(why)) if socket.exists() => {
                let about = format!("{}: {why}", socket.display());
                if about != said {
                    eprintln!("tracer: no answer from the container runtime at {about}");
                    said = about;
                }
            }
            Ok(Err(_)) | Err(_) => {}
        }
        state.send_replace(State::Down);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// Nobody takes answers any more.
struct Ended;

/// Tells of what is there, then of what comes, until the runtime breaks off.
async fn tell(
    runtime: &Runtime,
    events: Option<Events>,
    answer: &mpsc::Sender<Answer>,
) -> Result<(), Ended> {
    let listed = timeout(ANSWER, runtime.list()).await;
    for id in listed.unwrap_or_default() {
        say(runtime, id, answer).await?;
    }
    let Some(mut events) = events else {
        // Whether it is there is all that there is to follow.
        while matches!(timeout(ANSWER, runtime.lives()).await, Ok(true)) {
            tokio::time::sleep(LOOK).await;
            if answer.is_closed() {
                return Err(Ended);
            }
        }
        return Ok(());
    };
    while let Some(id) = events.next().await {
        say(runtime, id, answer).await?;
    }
    Ok(())
}

async fn say(runtime: &Runtime, id: String, answer: &mpsc::Sender<Answer>) -> Result<(), Ended> {
    match timeout(ANSWER, runtime.find(&id)).await {
        Ok(Some(facts)) => {
            let found = Answer {
                id,
                facts: Some(facts),
                asked: false,
            };
            answer.send(found).await.map_err(|_| Ended)
        }
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Connects to a socket at which root listens.
async fn trusted(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket).await?;
    let uid = stream.peer_cred()?.uid();
    if uid != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("user {uid} listens there, not root"),
        ));
    }
    Ok(stream)
}
