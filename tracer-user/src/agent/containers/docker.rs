//! Docker's interface, which podman has too: HTTP over a unix socket, JSON.
//!
//! Requests are of HTTP/1.0, so that an answer ends with its connection and comes in one piece.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;

use super::trusted;
use crate::enrich::facts::{ContainerFacts, ImageFacts};

/// Largest answer taken: a container with very many mounts and labels.
const ANSWER_BYTES: u64 = 4 * 1024 * 1024;
/// Longest head of an answer, and longest line of an event.
const LINE_BYTES: u64 = 256 * 1024;

/// A daemon that answers.
#[derive(Clone)]
pub(super) struct Docker {
    socket: PathBuf,
    /// `docker` or `podman`
    pub(super) runtime: &'static str,
}

/// Ids of containers that begin, as they do.
pub(super) struct Events(Lines<BufReader<tokio::io::Take<UnixStream>>>);

impl Docker {
    /// Asks who it is: the daemon, and its version. `None` where something else listens there.
    pub(super) async fn begin(socket: &Path) -> io::Result<Option<(Self, String)>> {
        let mut docker = Self {
            socket: socket.to_owned(),
            runtime: "docker",
        };
        let Ok(Some(version)) = docker.get("/version").await else {
            return Ok(None);
        };
        let Some(number) = version.get("Version").and_then(Value::as_str) else {
            return Ok(None);
        };
        let components = version.get("Components").and_then(Value::as_array);
        let names = components
            .into_iter()
            .flatten()
            .filter_map(|component| component.get("Name")?.as_str());
        if names.into_iter().any(|name| name.starts_with("Podman")) {
            docker.runtime = "podman";
        }
        let number = number.to_owned();
        Ok(Some((docker, number)))
    }

    /// What is known of a container.
    pub(super) async fn find(&self, id: &str) -> io::Result<Option<ContainerFacts>> {
        // It is asked for by what came from a path: nothing of a request's own may be in it.
        if !id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            return Ok(None);
        }
        let answer = self.get(&format!("/containers/{id}/json")).await?;
        Ok(answer.map(|answer| facts(self.runtime, &answer)))
    }

    /// Ids of all that run.
    pub(super) async fn list(&self) -> io::Result<Vec<String>> {
        let answer = self.get("/containers/json").await?.unwrap_or_default();
        let containers = answer.as_array().into_iter().flatten();
        Ok(containers
            .filter_map(|container| Some(container.get("Id")?.as_str()?.to_owned()))
            .collect())
    }

    /// Begins to watch.
    pub(super) async fn watch(&self) -> io::Result<Events> {
        // {"type":["container"],"event":["create","start"]}
        let filters = "%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22create%22%2C%22start%22%5D%7D";
        let (status, body) = self.request(&format!("/events?filters={filters}")).await?;
        if status != 200 {
            return Err(io::Error::other(format!("HTTP status {status}")));
        }
        Ok(Events(body.lines()))
    }

    async fn get(&self, path: &str) -> io::Result<Option<Value>> {
        let (status, mut body) = self.request(path).await?;
        match status {
            404 => return Ok(None),
            200 => {}
            _ => return Err(io::Error::other(format!("HTTP status {status}"))),
        }
        body.get_mut().set_limit(ANSWER_BYTES);
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).await?;
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(io::Error::other)
    }

    /// Sends a request; gives the status and what comes after the head.
    async fn request(
        &self,
        path: &str,
    ) -> io::Result<(u16, BufReader<tokio::io::Take<UnixStream>>)> {
        let mut stream = trusted(&self.socket).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut reader = BufReader::new(stream.take(LINE_BYTES));
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        let status = line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5)?.parse().ok())
            .ok_or_else(|| io::Error::other("not HTTP"))?;
        loop {
            line.clear();
            if reader.read_line(&mut line).await? == 0 {
                return Err(io::Error::other("an answer without an end of its head"));
            }
            if line.to_ascii_lowercase().starts_with("transfer-encoding:") {
                return Err(io::Error::other("an answer in pieces to HTTP/1.0"));
            }
            if line.trim().is_empty() {
                return Ok((status, reader));
            }
        }
    }
}

impl Events {
    /// The next container; `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            self.0.get_mut().get_mut().set_limit(LINE_BYTES);
            let Some(line) = self.0.next_line().await? else {
                return Ok(None);
            };
            let event: Value = serde_json::from_str(&line).map_err(io::Error::other)?;
            let id = event.pointer("/Actor/ID").and_then(Value::as_str);
            if let Some(id) = id {
                return Ok(Some(id.to_owned()));
            }
        }
    }
}

fn facts(runtime: &str, answer: &Value) -> ContainerFacts {
    let text = |pointer: &str| {
        let text = answer.pointer(pointer).and_then(Value::as_str);
        text.map(str::to_owned)
    };
    let mut image = text("/Config/Image")
        .map(|image| ImageFacts::parse(&image))
        .unwrap_or_default();
    // The id of the image; podman leaves the word for the hash out.
    if let Some(id) = text("/Image") {
        let id = if id.contains(':') {
            id
        } else {
            format!("sha256:{id}")
        };
        if !image.digests.contains(&id) {
            image.digests.push(id);
        }
    }
    let labels = answer.pointer("/Config/Labels").and_then(Value::as_object);
    ContainerFacts {
        runtime: Some(runtime.to_owned()),
        name: text("/Name").map(|name| name.trim_start_matches('/').to_owned()),
        image,
        labels: labels
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
        pod: None,
    }
}
