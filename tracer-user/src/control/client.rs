//! The side that asks.
//!
//! Refuses to believe a socket that neither root nor the caller's own user listens on: what is shown goes
//! to a terminal as it comes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{Ask, PROTOCOL, REPLY_BYTES};
use crate::encode::control::request;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Text, to be shown as it is.
    Text(String),
    /// A tree, servers or counts.
    Json(Value),
}

/// Why nothing came back that can be shown.
#[derive(Debug)]
pub enum AskError {
    /// Nobody listens.
    NoAgent(PathBuf, io::Error),
    /// Somebody does, whom this user may not ask.
    Refused(PathBuf),
    /// Somebody does, who is not believed: their user.
    Foreign(PathBuf, u32),
    /// The agent has no such process, or several.
    Unknown(String),
    /// The agent, or who answers in its place, said something else.
    Failed(PathBuf, String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAgent(path, error) => write!(
                f,
                "no agent answers at {}: {error}; start one with `tracer run`, name its socket with \
                 --control, or read a recording with `tracer tree --capture`",
                path.display()
            ),
            Self::Refused(path) => write!(
                f,
                "the agent at {} answers root and its own user only: try again with sudo",
                path.display()
            ),
            Self::Foreign(path, uid) => write!(
                f,
                "{} is a socket of user {uid}, which is neither root nor you: it is not asked",
                path.display()
            ),
            Self::Unknown(message) => f.write_str(message),
            Self::Failed(path, why) => write!(f, "the agent at {}: {why}", path.display()),
        }
    }
}

impl std::error::Error for AskError {}

/// Asks the agent whose socket this is.
///
/// # Errors
///
/// [`AskError`]
pub fn ask(path: &Path, ask: &Ask) -> Result<Reply, AskError> {
    let failed = |error: io::Error| AskError::Failed(path.to_owned(), error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let reply = runtime.block_on(async {
        let talk = tokio::time::timeout(PATIENCE, talk(path, ask));
        talk.await.unwrap_or_else(|_elapsed| {
            let why = format!("no answer within {} seconds", PATIENCE.as_secs());
            Err(AskError::Failed(path.to_owned(), why))
        })
    })?;
    understand(path, &reply)
}

async fn talk(path: &Path, ask: &Ask) -> Result<Vec<u8>, AskError> {
    let failed = |error: io::Error| AskError::Failed(path.to_owned(), error.to_string());
    let mut stream = UnixStream::connect(path).await.map_err(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            AskError::Refused(path.to_owned())
        } else {
            AskError::NoAgent(path.to_owned(), error)
        }
    })?;
    let peer = stream.peer_cred().map_err(failed)?.uid();
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        return Err(AskError::Foreign(path.to_owned(), peer));
    }
    // One who is refused is told so before they have asked: then writing fails, and reading does not.
    let asked = stream.write_all(&request(ask)).await;
    let mut reply = Vec::new();
    let limit = u64::try_from(REPLY_BYTES).unwrap_or(u64::MAX);
    let read = stream.take(limit).read_to_end(&mut reply).await;
    if reply.is_empty() {
        asked.and(read.map(|_| ())).map_err(failed)?;
    }
    Ok(reply)
}

fn understand(path: &Path, reply: &[u8]) -> Result<Reply, AskError> {
    let failed = |why: &str| AskError::Failed(path.to_owned(), why.to_owned());
    let Some(line) = reply.strip_suffix(b"\n") else {
        return Err(failed("its answer was cut off"));
    };
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(line) else {
        return Err(failed("its answer is not understood"));
    };
    if fields.get("tracer").and_then(Value::as_u64) != Some(PROTOCOL) {
        return Err(failed("it speaks another version of the protocol"));
    }
    if let Some(error) = fields.get("error") {
        let word = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let message = word("message").to_owned();
        return Err(match word("kind") {
            "unknown" | "ambiguous" => AskError::Unknown(message),
            "forbidden" => AskError::Refused(path.to_owned()),
            _ => failed(&message),
        });
    }
    if let Some(Value::String(text)) = fields.get_mut("text") {
        return Ok(Reply::Text(std::mem::take(text)));
    }
    ["tree", "servers", "status"]
        .iter()
        .find_map(|name| fields.remove(*name))
        .map(Reply::Json)
        .ok_or_else(|| failed("its answer is not understood"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_none_are_errors() {
        let path = Path::new("/x");
        for (reply, word) in [
            (&b""[..], "cut off"),
            (b"{\"tracer\":1,\"text\":\"x\"}", "cut off"),
            (b"x\n", "not understood"),
            (b"[1]\n", "not understood"),
            (b"{\"tracer\":2,\"text\":\"x\"}\n", "version"),
            (b"{\"tracer\":1}\n", "not understood"),
            (
                b"{\"tracer\":1,\"error\":{\"kind\":\"busy\",\"message\":\"later\"}}\n",
                "later",
            ),
        ] {
            let error = understand(path, reply).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let text = understand(path, b"{\"tracer\":1,\"text\":\"x\\u001b\"}\n").unwrap();
        assert_eq!(text, Reply::Text("x\x1b".into()));
    }
}
