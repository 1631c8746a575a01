//! Calls by gRPC over a unix socket: as much of it as asking a container runtime takes.
//!
//! One message goes out, one or many come back, none compressed. No call waits longer than its caller lets it, and no
//! message is larger than [`MESSAGE_BYTES`].

use std::fmt;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Largest message taken: a list of some ten thousand containers.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// How long the refusal of a call that tells what happens may take.
const REFUSAL: Duration = Duration::from_millis(500);

/// The status of a call that the other side does not know (`UNIMPLEMENTED`).
const UNIMPLEMENTED: u32 = 12;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The other side does not know such a call.
    Unimplemented,
    /// It answered so: status and message.
    Status(u32, String),
    /// It did not answer as gRPC has it, or the connection broke.
    Broken(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unimplemented => f.write_str("it does not know this call"),
            Self::Status(status, message) => write!(f, "status {status}: {message}"),
            Self::Broken(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for CallError {}

impl From<h2::Error> for CallError {
    fn from(error: h2::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// A connection.
#[derive(Clone)]
pub struct Client {
    send: SendRequest<Bytes>,
}

/// Messages of one call, as they come.
pub struct Messages {
    from: Part,
    buffer: BytesMut,
}

/// How far an answer has come.
enum Part {
    /// Its head has not come: of a call that tells what happens, it comes with the first that does.
    Head(ResponseFuture),
    Body(h2::RecvStream),
    Ended,
}

impl Client {
    /// Begins on a socket that is connected.
    ///
    /// # Errors
    ///
    /// [`CallError::Broken`] where the other side does not speak HTTP/2.
    pub async fn begin(stream: UnixStream) -> Result<Self, CallError> {
        let (send, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(async move {
            // What goes wrong is told to the calls that are under way.
            let _told_to_the_calls = connection.await;
        });
        Ok(Self { send })
    }

    /// Asks, for one answer. `headers` are names in lower case, and values.
    ///
    /// # Errors
    ///
    /// [`CallError`]
    pub async fn call<A: Message + Default>(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        ask: &impl Message,
    ) -> Result<A, CallError> {
        let mut messages = self.stream(path, headers, ask).await?;
        let answer = messages.next().await?;
        // The status comes after the answer.
        while let Some(_more) = messages.next::<A>().await? {}
        answer.ok_or_else(|| CallError::Broken("no answer in the answer".to_owned()))
    }

    /// Asks, for any number of answers.
    ///
    /// # Errors
    ///
    /// [`CallError`]
    pub async fn stream(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        ask: &impl Message,
    ) -> Result<Messages, CallError> {
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(())
            .map_err(|error| CallError::Broken(error.to_string()))?;
        let mut send = self.send.clone().ready().await?;
        let (response, mut body) = send.send_request(request, false)?;
        body.send_data(framed(ask), true)?;
        Ok(Messages {
            from: Part::Head(response),
            buffer: BytesMut::new(),
        })
    }
}

impl Messages {
    /// Waits for the head of the answer, which may be a refusal. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`CallError`]
    pub async fn head(&mut self) -> Result<(), CallError> {
        let Part::Head(response) = &mut self.from else {
            return Ok(());
        };
        let response = response.await?;
        if response.status() != StatusCode::OK {
            return Err(CallError::Broken(format!("HTTP {}", response.status())));
        }
        // An answer without a message has the status here.
        self.from = match status(response.headers())? {
            Some(()) => Part::Ended,
            None => Part::Body(response.into_body()),
        };
        Ok(())
    }

    /// Of a call that tells what happens: waits for a refusal, where there is one. An end at once is one too.
    ///
    /// # Errors
    ///
    /// [`CallError`]
    pub async fn accepted(&mut self) -> Result<(), CallError> {
        // Who refuses does so at once; who does not may have nothing to say for hours.
        match timeout(REFUSAL, self.head()).await {
            Ok(head) => head?,
            Err(_) => return Ok(()),
        }
        match self.from {
            Part::Ended => Err(CallError::Unimplemented),
            Part::Head(_) | Part::Body(_) => Ok(()),
        }
    }

    /// The next message; `None` at a good end. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`CallError`]
    pub async fn next<A: Message + Default>(&mut self) -> Result<Option<A>, CallError> {
        self.head().await?;
        loop {
            if let Some(message) = unframed(&mut self.buffer)? {
                let message = A::decode(message);
                return message
                    .map(Some)
                    .map_err(|error| CallError::Broken(error.to_string()));
            }
            let Part::Body(body) = &mut self.from else {
                return Ok(None);
            };
            match body.data().await {
                Some(data) => {
                    let data = data?;
                    body.flow_control().release_capacity(data.len())?;
                    self.buffer.extend_from_slice(&data);
                }
                None => {
                    let trailers = body.trailers().await?.unwrap_or_default();
                    if status(&trailers)?.is_none() {
                        return Err(CallError::Broken("it ended without a status".to_owned()));
                    }
                    self.from = Part::Ended;
                }
            }
        }
    }
}

/// A message with its head: not compressed, and its length.
fn framed(message: &impl Message) -> Bytes {
    let bytes = message.encode_to_vec();
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut frame = BytesMut::with_capacity(bytes.len() + 5);
    frame.extend_from_slice(&[0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&bytes);
    frame.freeze()
}

/// The first message of a buffer, where it is whole.
fn unframed(buffer: &mut BytesMut) -> Result<Option<Bytes>, CallError> {
    let Some(([compressed, length @ ..], _)) = buffer.split_first_chunk::<5>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if *compressed != 0 || length > MESSAGE_BYTES {
        return Err(CallError::Broken(
            "a message that is compressed, or too long".to_owned(),
        ));
    }
    if buffer.len() - 5 < length {
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Whether the head or the trailers have a status, and whether that is good.
fn status(headers: &HeaderMap) -> Result<Option<()>, CallError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(status) = text("grpc-status") else {
        return Ok(None);
    };
    match status.parse() {
        Ok(0) => Ok(Some(())),
        Ok(UNIMPLEMENTED) => Err(CallError::Unimplemented),
        Ok(status) => {
            let message = text("grpc-message").unwrap_or_default();
            Err(CallError::Status(
                status,
                message.chars().take(300).collect(),
            ))
        }
        Err(_) => Err(CallError::Broken("a status that is no number".to_owned())),
    }
}

#[cfg(test)]
mod tests;
