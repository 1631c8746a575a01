//! An API server of tests: pods only, by TLS, with the rules of a real one.
//!
//! Objects and errors are the types that are made from Kubernetes' own specification, so none can have a shape that
//! a real server would not send. What a list and a watch answer follows "API concepts" of its documentation: a watch
//! tells what came after its resource version, or 410 where that is forgotten; bookmarks come only to who asked.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta, Status};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// How often a thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(20);

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// How the server behaves.
#[derive(Clone)]
pub(super) struct Manner {
    /// The token that it takes.
    pub(super) token: String,
    /// Whether the agent's account may read pods.
    pub(super) allowed: bool,
    /// Ends connections before it says anything, as one that is being restarted.
    pub(super) down: bool,
    /// Never answers.
    pub(super) mute: bool,
    /// Says that a version is forgotten by HTTP's status, not by an event of the watch.
    pub(super) gone_by_status: bool,
    /// Lists answer what was known at this version, as a server does that is not up to date.
    pub(super) lists_at: Option<u64>,
}

struct State {
    manner: Manner,
    version: u64,
    /// Changes after this version are known.
    forgotten: u64,
    /// `ADDED`, `MODIFIED` or `DELETED`, and the pod, by version.
    changes: BTreeMap<u64, (&'static str, Pod)>,
    /// Bookmarks sent so far, and connections cut.
    bookmarks: u64,
    cuts: u64,
    stopped: bool,
    requests: Vec<HashMap<String, String>>,
}

/// What its threads share.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The server. It ends with this.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// The authority that its certificate is of.
    pub(super) authority: String,
    shared: Arc<Shared>,
}

impl Server {
    pub(super) fn start(token: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])
            .unwrap()
            .signed_by(&key, &authority)
            .unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                manner: Manner {
                    token: token.to_owned(),
                    allowed: true,
                    down: false,
                    mute: false,
                    gone_by_status: false,
                    lists_at: None,
                },
                version: 100,
                forgotten: 0,
                changes: BTreeMap::new(),
                bookmarks: 0,
                cuts: 0,
                stopped: false,
                requests: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (serving, tls) = (Arc::clone(&shared), Arc::new(tls));
        thread::spawn(move || {
            while !serving.lock().stopped {
                let Ok((socket, _)) = listener.accept() else {
                    thread::sleep(LOOK);
                    continue;
                };
                let (serving, tls) = (Arc::clone(&serving), Arc::clone(&tls));
                // An error is a client that went away.
                thread::spawn(move || drop(serve(socket, &tls, &serving)));
            }
        });
        Self {
            address,
            authority: authority.pem(),
            shared,
        }
    }

    /// Changes how it behaves from now on.
    pub(super) fn behave(&self, how: impl FnOnce(&mut Manner)) {
        how(&mut self.shared.lock().manner);
        self.shared.changed.notify_all();
    }

    /// Ends every connection in the middle of what it says.
    pub(super) fn cut(&self) {
        self.shared.lock().cuts += 1;
        self.shared.changed.notify_all();
    }

    /// Makes or changes a pod. Each gives a new version.
    pub(super) fn put(&self, pod: Pod) -> u64 {
        let state = self.shared.lock();
        let known = state.pods_at(u64::MAX);
        let kind = match known.contains_key(&uid(&pod)) {
            true => "MODIFIED",
            false => "ADDED",
        };
        self.change(state, kind, pod)
    }

    pub(super) fn delete(&self, pod: Pod) -> u64 {
        let state = self.shared.lock();
        self.change(state, "DELETED", pod)
    }

    fn change(&self, mut state: MutexGuard<'_, State>, kind: &'static str, mut pod: Pod) -> u64 {
        state.version += 1;
        let version = state.version;
        pod.metadata.resource_version = Some(version.to_string());
        state.changes.insert(version, (kind, pod));
        self.shared.changed.notify_all();
        version
    }

    /// Tells those who asked for bookmarks the version that they have reached.
    pub(super) fn bookmark(&self) {
        self.shared.lock().bookmarks += 1;
        self.shared.changed.notify_all();
    }

    /// Forgets the changes up to now: who asks for what came since an earlier version has to list.
    pub(super) fn forget(&self) {
        let mut state = self.shared.lock();
        state.forgotten = state.version;
    }

    /// Queries of all requests so far that got as far as being answered.
    pub(super) fn requests(&self) -> Vec<HashMap<String, String>> {
        self.shared.lock().requests.clone()
    }

    /// How many of these were lists, and how many watches.
    pub(super) fn lists_and_watches(&self) -> (usize, usize) {
        let requests = self.requests();
        let watches = requests
            .iter()
            .filter(|query| query.get("watch").is_some_and(|watch| watch == "true"))
            .count();
        (requests.len() - watches, watches)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    /// The pods there were at a version, by uid.
    fn pods_at(&self, version: u64) -> BTreeMap<String, &Pod> {
        let mut pods = BTreeMap::new();
        for (kind, pod) in self.changes.range(..=version).map(|(_, change)| change) {
            if *kind == "DELETED" {
                pods.remove(&uid(pod));
            } else {
                pods.insert(uid(pod), pod);
            }
        }
        pods
    }
}

/// A pod of a node as a kubelet's API server has it.
pub(super) fn pod(node: &str, name: &str) -> Pod {
    Pod {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("shop".to_owned()),
            uid: Some(format!("uid-of-{name}")),
            labels: Some(BTreeMap::from([("app".to_owned(), name.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            node_name: Some(node.to_owned()),
            service_account_name: Some("web".to_owned()),
            containers: vec![Container {
                name: "web".to_owned(),
                image: Some("nginx:1.27".to_owned()),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some("Running".to_owned()),
            ..PodStatus::default()
        }),
    }
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap()
}

fn serve(socket: TcpStream, tls: &Arc<ServerConfig>, shared: &Shared) -> io::Result<()> {
    if shared.lock().manner.down {
        return Ok(());
    }
    socket.set_nonblocking(false)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(LOOK))?;
    let connection = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
    let cuts = shared.lock().cuts;
    let mut stream = BufReader::new(StreamOwned::new(connection, socket));
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let state = shared.lock();
            if state.stopped || state.manner.down || state.cuts != cuts {
                return Ok(());
            }
            drop(state);
            match stream.read_line(&mut head) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        answer(&head, stream.get_mut(), shared, cuts)?;
    }
}

fn answer(head: &str, stream: &mut Stream, shared: &Shared, cuts: u64) -> io::Result<()> {
    let target = head.split(' ').nth(1).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: HashMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect();
    let asked = |name: &str| query.get(name).map(String::as_str);
    let mut state = shared.lock();
    let Manner {
        token,
        allowed,
        mute,
        gone_by_status,
        lists_at,
        ..
    } = state.manner.clone();
    while mute && !state.stopped && state.cuts == cuts {
        state = shared.changed.wait_timeout(state, LOOK).unwrap().0;
    }
    let bearer = format!("authorization: bearer {token}\r\n");
    if !head.to_lowercase().contains(&bearer) {
        return refuse(stream, 401, "Unauthorized", "Unauthorized");
    }
    if !head.starts_with("GET ") || path != "/api/v1/pods" {
        return refuse(
            stream,
            404,
            "NotFound",
            "the server could not find the requested resource",
        );
    }
    let node = asked("fieldSelector").and_then(|selector| selector.strip_prefix("spec.nodeName="));
    let Some(node) = node.filter(|node| allowed && !node.is_empty()) else {
        let message = "pods is forbidden: User \"system:serviceaccount:tracer:tracer\" cannot list resource \
            \"pods\" in API group \"\" at the cluster scope";
        return refuse(stream, 403, "Forbidden", message);
    };
    let node = node.to_owned();
    state.requests.push(query.clone());
    let since: Option<u64> = asked("resourceVersion").map(|version| version.parse().unwrap());
    if asked("watch") != Some("true") {
        if asked("resourceVersionMatch").is_some() && since.is_none() {
            return refuse(
                stream,
                422,
                "Invalid",
                "resourceVersionMatch is forbidden here",
            );
        }
        let version = lists_at.unwrap_or(state.version);
        let items: Vec<Value> = state
            .pods_at(version)
            .into_values()
            .filter(|pod| is_on(pod, &node))
            .map(untyped)
            .collect();
        let metadata = ListMeta {
            resource_version: Some(version.to_string()),
            ..ListMeta::default()
        };
        drop(state);
        let list = json!({
            "kind": "PodList", "apiVersion": "v1",
            "metadata": serde_json::to_value(metadata).unwrap(), "items": items,
        });
        return respond(stream, "200 OK", &list);
    }
    let mut since = since.unwrap();
    let forgotten = since < state.forgotten;
    if forgotten && gone_by_status {
        drop(state);
        return refuse(stream, 410, "Expired", "too old resource version");
    }
    let bookmarks = asked("allowWatchBookmarks") == Some("true");
    let mut marked = state.bookmarks;
    drop(state);
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    stream.flush()?;
    if forgotten {
        let message = format!("too old resource version: {since}");
        let error = json!({"type": "ERROR", "object": status(410, "Expired", &message)});
        chunk(stream, &error)?;
        return end(stream);
    }
    loop {
        let mut out = Vec::new();
        let mut state = shared.lock();
        if state.stopped || state.manner.down || state.cuts != cuts {
            // Without the last chunk: the client sees that it was cut off.
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        for (version, (kind, pod)) in state.changes.range(since + 1..) {
            since = *version;
            if is_on(pod, &node) {
                out.push(json!({"type": kind, "object": untyped(pod)}));
            }
        }
        if bookmarks && marked != state.bookmarks {
            marked = state.bookmarks;
            since = since.max(state.version);
            out.push(json!({"type": "BOOKMARK", "object": {
                "kind": "Pod", "apiVersion": "v1",
                "metadata": {"resourceVersion": since.to_string(), "creationTimestamp": null},
                "spec": {"containers": null}, "status": {},
            }}));
        }
        if out.is_empty() {
            state = shared.changed.wait_timeout(state, LOOK).unwrap().0;
        }
        drop(state);
        for event in out {
            chunk(stream, &event)?;
        }
    }
}

fn is_on(pod: &Pod, node: &str) -> bool {
    let spec = pod.spec.as_ref().unwrap();
    spec.node_name.as_deref() == Some(node)
}

fn untyped(pod: &Pod) -> Value {
    serde_json::to_value(pod).unwrap()
}

fn status(code: i32, reason: &str, message: &str) -> Value {
    let status = Status {
        code: Some(code),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        status: Some("Failure".to_owned()),
        ..Status::default()
    };
    serde_json::to_value(status).unwrap()
}

fn refuse(stream: &mut Stream, code: i32, reason: &str, message: &str) -> io::Result<()> {
    respond(
        stream,
        &format!("{code} {reason}"),
        &status(code, reason, message),
    )
}

fn respond(stream: &mut Stream, line: &str, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {line}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.flush()
}

/// One event in two chunks: where one ends says nothing.
fn chunk(stream: &mut Stream, event: &Value) -> io::Result<()> {
    let text = format!("{event}\n");
    let (begin, rest) = text.split_at(text.len() / 2);
    for part in [begin, rest] {
        stream.write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes())?;
        stream.flush()?;
    }
    Ok(())
}

fn end(stream: &mut Stream) -> io::Result<()> {
    stream.write_all(b"0\r\n\r\n")?;
    stream.flush()
}

/// Takes percent encoding off.
fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut hex = [0; 2];
            bytes
                .by_ref()
                .take(2)
                .zip(&mut hex)
                .for_each(|(b, h)| *h = b);
            out.push(u8::from_str_radix(str::from_utf8(&hex).unwrap(), 16).unwrap());
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).unwrap()
}
