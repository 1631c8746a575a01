//! As much of HTTP/1.1 as asking a server on loopback takes: one request a connection, with
//! timeouts. Knows nothing of TLS, redirects or keep-alive.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::host::DEADLINE;

/// What came back.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Whether something accepts connections there.
pub(crate) fn accepts(port: u16) -> bool {
    TcpStream::connect_timeout(&address(port), DEADLINE).is_ok()
}

/// `GET path`; panics where no answer comes.
pub(crate) fn get(port: u16, path: &str) -> Response {
    send(port, &head("GET", path, &[]), &[])
}

/// `GET path` where no answer may be what is wanted.
pub(crate) fn try_get(port: u16, path: &str) -> std::io::Result<Response> {
    exchange(port, head("GET", path, &[]).as_bytes(), &[])
}

/// One file as a browser's form uploads it, in the field `f`.
pub(crate) fn upload(port: u16, path: &str, file_name: &str, content: &[u8]) -> Response {
    const BOUNDARY: &str = "tracer-e2e-boundary";
    let mut body = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"f\"; \
         filename=\"{file_name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let head = head(
        "POST",
        path,
        &[
            format!("Content-Type: multipart/form-data; boundary={BOUNDARY}"),
            format!("Content-Length: {}", body.len()),
        ],
    );
    send(port, &head, &body)
}

/// A text as a value of a query.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn head(method: &str, path: &str, headers: &[String]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head
}

fn send(port: u16, head: &str, body: &[u8]) -> Response {
    let line = head.lines().next().unwrap_or_default().to_owned();
    exchange(port, head.as_bytes(), body).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn exchange(port: u16, head: &[u8], body: &[u8]) -> std::io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address(port), DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(head)?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| {
        let text = String::from_utf8_lossy(&answer).into_owned();
        std::io::Error::other(format!("not an HTTP answer: {text:?}"))
    })
}

fn parse(answer: &[u8]) -> Option<Response> {
    let split = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..split)?).ok()?;
    let body = answer.get(split + 4..)?;
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    let body = if chunked {
        dechunk(body)?
    } else {
        body.to_vec()
    };
    Some(Response {
        status: head.split(' ').nth(1)?.parse().ok()?,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..end)?).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let from = end + 2;
        body.extend_from_slice(rest.get(from..from + size)?);
        rest = rest.get(from + size + 2..)?;
    }
}
