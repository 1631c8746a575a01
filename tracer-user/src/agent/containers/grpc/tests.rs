//! Against a server that answers as runtimes do, and as they should not.

use std::time::Duration;

use h2::server::SendResponse;
use http::Response;
use tokio::time::timeout;

use super::*;

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

fn text(text: &str) -> Text {
    Text { text: text.into() }
}

fn trailers(status: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    trailers.insert("grpc-message", "why".parse().unwrap());
    trailers
}

/// Answers each call by the last part of its path.
async fn answer(name: &str, mut respond: SendResponse<Bytes>) {
    let head = || Response::builder().header("content-type", "application/grpc");
    let refused = |status| head().header("grpc-status", status).body(()).unwrap();
    if name == "unknown" {
        respond.send_response(refused("12"), true).unwrap();
        return;
    }
    if name == "ended" {
        respond.send_response(refused("0"), true).unwrap();
        return;
    }
    if name == "never" {
        std::future::pending::<()>().await;
    }
    if name == "late" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut send = respond
        .send_response(head().body(()).unwrap(), false)
        .unwrap();
    match name {
        "good" => {
            // A frame may end anywhere in a message.
            let bytes = framed(&text(&"x".repeat(1000)));
            for part in bytes.chunks(300) {
                send.send_data(Bytes::copy_from_slice(part), false).unwrap();
            }
            send.send_trailers(trailers("0")).unwrap();
        }
        "late" => {
            let two = [framed(&text("a")), framed(&text("b"))].concat();
            send.send_data(two.into(), false).unwrap();
            send.send_trailers(trailers("0")).unwrap();
        }
        "failed" => send.send_trailers(trailers("5")).unwrap(),
        "cut" => send.send_data(framed(&text("a")), true).unwrap(),
        "large" => {
            let head = [&[0][..], &u32::MAX.to_be_bytes()].concat();
            send.send_data(head.into(), false).unwrap();
        }
        "compressed" => {
            send.send_data(Bytes::from_static(&[1, 0, 0, 0, 0]), false)
                .unwrap();
        }
        other => panic!("{other}"),
    }
}

async fn client() -> Client {
    let (near, far) = UnixStream::pair().unwrap();
    tokio::spawn(async move {
        let mut server = h2::server::handshake(far).await.unwrap();
        while let Some(Ok((request, respond))) = server.accept().await {
            tokio::spawn(async move {
                let path = request.uri().path().to_owned();
                answer(path.trim_start_matches('/'), respond).await;
            });
        }
    });
    Client::begin(near).await.unwrap()
}

#[tokio::test]
async fn answers_and_refusals() {
    let client = client().await;
    let call = async |name: &str| client.call::<Text>(name, &[("a", "b")], &text("q")).await;
    assert_eq!(call("/good").await, Ok(text(&"x".repeat(1000))));
    assert_eq!(call("/unknown").await, Err(CallError::Unimplemented));
    let failed = CallError::Status(5, "why".into());
    assert_eq!(call("/failed").await, Err(failed));
    for name in ["/cut", "/large", "/compressed"] {
        assert!(
            matches!(call(name).await, Err(CallError::Broken(_))),
            "{name}"
        );
    }
    // One call that went wrong ends no other.
    assert_eq!(call("/good").await.map(|text| text.text.len()), Ok(1000));
}

#[tokio::test]
async fn a_call_that_tells_what_happens() {
    let client = client().await;
    let mut messages = client.stream("/late", &[], &text("")).await.unwrap();
    // Not refused, and nothing has happened yet: who stops waiting may wait again.
    let wait = Duration::from_millis(1);
    assert!(timeout(wait, messages.head()).await.is_err());
    assert_eq!(messages.next().await, Ok(Some(text("a"))));
    assert_eq!(messages.next().await, Ok(Some(text("b"))));
    assert_eq!(messages.next::<Text>().await, Ok(None));
    let mut refused = client.stream("/unknown", &[], &text("")).await.unwrap();
    assert_eq!(refused.head().await, Err(CallError::Unimplemented));
    let accepted = async |name: &str| {
        let mut events = client.stream(name, &[], &text("")).await.unwrap();
        events.accepted().await
    };
    // CRI-O's way to say that it was not told to tell.
    assert_eq!(accepted("/ended").await, Err(CallError::Unimplemented));
    assert_eq!(accepted("/unknown").await, Err(CallError::Unimplemented));
    assert_eq!(accepted("/late").await, Ok(()));
    assert_eq!(accepted("/never").await, Ok(()));
    let mut silent = client.stream("/never", &[], &text("")).await.unwrap();
    assert!(timeout(wait, silent.next::<Text>()).await.is_err());
}
