//! The control socket: who may ask the running agent what it knows.
//!
//! It has a thread with a runtime of its own, where connections are taken, requests read, and answers
//! encoded and written. The agent's loop only makes a view of its state between two looks at the rings;
//! what a client does with the answer, and how slowly, never reaches it.
//!
//! Refuses everybody but root and the agent's own user, requests that are too long or not understood, and
//! more than [`CONNECTIONS`] at once: who comes later waits. Every step has a deadline. It answers, and
//! changes nothing.

mod place;

use std::io;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::place::Place;
use crate::control::{Ask, REQUEST_BYTES};
use crate::encode::control as words;
use crate::encode::tree::{Format, Style};
use crate::lineage::tree::{NoTree, TreeView};
use crate::pipeline::query::{ServersView, StatusView};

/// Connections at once.
const CONNECTIONS: usize = 16;

/// How long a client may take to ask, the agent to answer, and a client to read.
const TO_ASK: Duration = Duration::from_secs(5);
const TO_ANSWER: Duration = Duration::from_secs(15);
const TO_READ: Duration = Duration::from_secs(20);

/// How long a failing accept(2) is left alone: it fails where there are no descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// A question that waits for its view.
pub(super) struct Question {
    /// What is asked.
    pub(super) ask: Ask,
    /// Where the view goes. Who asked may be gone.
    pub(super) answer: oneshot::Sender<View>,
}

/// What answers a question, before it is words.
pub(super) enum View {
    /// A tree, and how to write it.
    Tree(Result<TreeView, NoTree>, Format),
    /// The servers.
    Servers(ServersView, Option<Style>),
    /// Counts.
    Status(StatusView),
}

/// The socket, as long as it is there.
pub(super) struct Control {
    questions: mpsc::Receiver<Question>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Removes the socket's file at the end.
    _place: Place,
}

impl Control {
    /// Listens at a path.
    ///
    /// # Errors
    ///
    /// What is wrong with the place, with the remedy.
    pub(super) async fn listen(path: &Path) -> Result<Self, String> {
        let (listener, place) = place::listen(path).await?;
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        // One waits while one is answered.
        let (give, questions) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("tracer-control".to_owned())
            .spawn(move || runtime.block_on(serve(listener, give, stopped)))
            .map_err(failed)?;
        Ok(Self {
            questions,
            stop: Some(stop),
            thread: Some(thread),
            _place: place,
        })
    }

    /// Waits for the next question; for ever where there is no socket. Cancel safe.
    pub(super) async fn asked(control: &mut Option<Self>) -> Question {
        if let Some(control) = control
            && let Some(question) = control.questions.recv().await
        {
            return question;
        }
        std::future::pending().await
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Gone where the thread ended by itself.
            let _ended = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("tracer: the thread of the control socket panicked");
        }
    }
}

async fn serve(
    listener: std::os::unix::net::UnixListener,
    give: mpsc::Sender<Question>,
    mut stopped: oneshot::Receiver<()>,
) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return eprintln!("tracer: cannot wait at the control socket: {error}"),
    };
    let mut talks = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept(), if talks.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    talks.spawn(talk(stream, give.clone()));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            Some(_) = talks.join_next(), if !talks.is_empty() => {}
        }
    }
}

/// One question and its answer. A client that goes away in the middle is nobody's trouble.
async fn talk(mut stream: UnixStream, give: mpsc::Sender<Question>) {
    let reply = reply(&mut stream, give).await;
    let write = async {
        stream.write_all(&reply).await?;
        stream.shutdown().await
    };
    let _gone = timeout(TO_READ, write).await;
}

async fn reply(stream: &mut UnixStream, give: mpsc::Sender<Question>) -> Vec<u8> {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == own => {}
        Ok(_) | Err(_) => {
            return words::refusal("forbidden", "root and the agent's own user may ask");
        }
    }
    let asked = match timeout(TO_ASK, request(stream)).await {
        Ok(Ok(line)) => Ask::parse(&line),
        Ok(Err(why)) => Err(why),
        Err(_elapsed) => Err(format!("no request within {} seconds", TO_ASK.as_secs())),
    };
    let ask = match asked {
        Ok(ask) => ask,
        Err(why) => return words::refusal("bad_request", &why),
    };
    match timeout(TO_ANSWER, view(ask, give)).await {
        Ok(Some(View::Tree(answer, format))) => words::answer_tree(&answer, format),
        Ok(Some(View::Servers(view, style))) => words::answer_servers(&view, style),
        Ok(Some(View::Status(view))) => words::answer_status(&view),
        Ok(None) => words::refusal("busy", "the agent is ending"),
        Err(_elapsed) => words::refusal("busy", "the agent is starting or has too much to do"),
    }
}

/// A line, without its end. The end of what is sent ends it too.
async fn request(stream: &mut UnixStream) -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    let mut part = [0; 512];
    while line.len() <= REQUEST_BYTES {
        let read = stream.read(&mut part).await;
        let read = read.map_err(|error| format!("cannot read the request: {error}"))?;
        let part = part.get(..read).unwrap_or_default();
        if let Some(end) = part.iter().position(|&byte| byte == b'\n') {
            line.extend_from_slice(part.get(..end).unwrap_or_default());
            return Ok(line);
        }
        line.extend_from_slice(part);
        if read == 0 {
            return Ok(line);
        }
    }
    Err(format!(
        "a request is one line of at most {REQUEST_BYTES} bytes"
    ))
}

async fn view(ask: Ask, give: mpsc::Sender<Question>) -> Option<View> {
    let (answer, view) = oneshot::channel();
    give.send(Question { ask, answer }).await.ok()?;
    view.await.ok()
}
