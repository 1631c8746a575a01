//! The watch against a server that behaves as API servers do on bad days.

mod server;

use std::fs;
use std::time::Duration;

use k8s_openapi::api::core::v1;
use tempfile::TempDir;

use self::server::{Server, pod};
use super::*;

/// Longer than the back-off of several tries.
const DEADLINE: Duration = Duration::from_secs(60);
const NODE: &str = "node-a";

/// An agent's watch, and where its credentials are.
struct Watch {
    kubernetes: Kubernetes,
    home: TempDir,
}

fn kubeconfig(home: &TempDir, server: &Server, user: &str) -> Access {
    let path = home.path().join("kubeconfig");
    let authority = home.path().join("ca.crt");
    fs::write(&authority, &server.authority).unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         clusters: [{{name: c, cluster: {{server: 'https://{}', certificate-authority: {}}}}}]\n\
         users: [{{name: u, user: {user}}}]\n\
         contexts: [{{name: here, context: {{cluster: c, user: u}}}}]\n",
        server.address,
        authority.display(),
    );
    fs::write(&path, text).unwrap();
    Access {
        kubeconfig: Some(path),
        node: NODE.to_owned(),
    }
}

fn access(home: &TempDir, server: &Server) -> Access {
    let token = home.path().join("token");
    fs::write(&token, "t1").unwrap();
    kubeconfig(home, server, &format!("{{tokenFile: {}}}", token.display()))
}

impl Watch {
    fn begin(server: &Server) -> Self {
        let home = TempDir::new().unwrap();
        let access = access(&home, server);
        Self::with(home, access)
    }

    fn with(home: TempDir, access: Access) -> Self {
        let cluster = Cluster {
            name: Some("prod".into()),
            ..Cluster::default()
        };
        let kubernetes = Kubernetes::begin(access, cluster).unwrap();
        Self { kubernetes, home }
    }

    async fn next(&mut self) -> Heard {
        tokio::time::timeout(DEADLINE, self.kubernetes.heard())
            .await
            .expect("nothing was heard")
    }

    /// The next message in short: `+name app=label`, `-uid`, `=pods`, `!`.
    async fn short(&mut self) -> String {
        match self.next().await {
            Heard::Pod {
                uid,
                facts: Some(facts),
            } => {
                let PodFacts {
                    name, labels, node, ..
                } = *facts;
                let name = name.unwrap();
                assert_eq!(uid, format!("uid-of-{name}"));
                assert_eq!(node.as_deref(), Some(NODE));
                let label = labels.first().map(|(_, value)| value.clone());
                format!("+{name} {}", label.unwrap_or_default())
            }
            Heard::Pod { uid, facts: None } => format!("-{uid}"),
            Heard::Listed(pods) => format!("={pods}"),
            Heard::Silent(_) => "!".into(),
        }
    }

    async fn expect(&mut self, messages: &[&str]) {
        for message in messages {
            assert_eq!(self.short().await, *message, "of {messages:?}");
        }
    }
}

fn relabelled(name: &str, label: &str) -> v1::Pod {
    let mut pod = pod(NODE, name);
    pod.metadata.labels = Some([("app".to_owned(), label.to_owned())].into());
    pod
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < DEADLINE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_list_and_then_what_changes() {
    let server = Server::start("t1");
    server.put(pod(NODE, "a"));
    server.put(pod(NODE, "b"));
    server.put(pod("node-b", "elsewhere"));
    let mut watch = Watch::begin(&server);
    watch.expect(&["+a a", "+b b", "=2"]).await;
    server.put(pod(NODE, "c"));
    server.put(pod("node-b", "elsewhere-too"));
    // Another status is nothing new; another label is.
    let mut waiting = pod(NODE, "a");
    waiting.status.as_mut().unwrap().phase = Some("Failed".into());
    server.put(waiting);
    server.put(relabelled("b", "other"));
    server.delete(pod(NODE, "a"));
    watch.expect(&["+c c", "+b other", "-uid-of-a"]).await;
    // Never more than this node's pods were asked for.
    for query in server.requests() {
        assert_eq!(query["fieldSelector"], format!("spec.nodeName={NODE}"));
    }
    let list = &server.requests()[0];
    assert_eq!(list["resourceVersion"], "0");
    assert_eq!(server.lists_and_watches(), (1, 1));
}

#[tokio::test]
async fn what_is_told_of_a_pod() {
    let server = Server::start("t1");
    server.put(pod(NODE, "a"));
    let mut watch = Watch::begin(&server);
    let Heard::Pod { uid, facts } = watch.next().await else {
        panic!("no pod");
    };
    let facts = *facts.unwrap();
    assert_eq!(uid, "uid-of-a");
    assert_eq!(facts.namespace.as_deref(), Some("shop"));
    assert_eq!(facts.service_account.as_deref(), Some("web"));
    assert_eq!(facts.cluster.as_deref(), Some("prod"));
    assert_eq!(facts.owner, None);
}

#[tokio::test]
async fn a_cut_connection_goes_on_where_it_was() {
    let server = Server::start("t1");
    server.put(pod(NODE, "a"));
    let mut watch = Watch::begin(&server);
    watch.expect(&["+a a", "=1"]).await;
    until("no watch", || server.lists_and_watches().1 == 1);
    // Others' changes pass by; the bookmark says how far they have come, and what was before is forgotten.
    for _ in 0..5 {
        server.put(pod("node-b", "elsewhere"));
    }
    server.bookmark();
    server.forget();
    server.put(pod(NODE, "b"));
    watch.expect(&["+b b"]).await;
    server.cut();
    server.put(pod(NODE, "c"));
    server.delete(pod(NODE, "a"));
    watch.expect(&["+c c", "-uid-of-a"]).await;
    let (lists, watches) = server.lists_and_watches();
    assert_eq!(lists, 1);
    assert!(watches >= 2);
}

/// The place is forgotten while the connection is down: listed again, nothing is told twice and nothing lost.
async fn forgotten(by_status: bool) {
    let server = Server::start("t1");
    for name in ["a", "b", "c"] {
        server.put(pod(NODE, name));
    }
    let mut watch = Watch::begin(&server);
    watch.expect(&["+a a", "+b b", "+c c", "=3"]).await;
    until("no watch", || server.lists_and_watches().1 == 1);
    server.behave(|manner| {
        manner.gone_by_status = by_status;
        manner.down = true;
    });
    server.cut();
    server.delete(pod(NODE, "b"));
    server.put(relabelled("c", "other"));
    server.put(pod(NODE, "d"));
    server.forget();
    server.behave(|manner| manner.down = false);
    let mut heard = Vec::new();
    loop {
        match watch.short().await.as_str() {
            "=3" => break,
            // That the server could not be reached meanwhile may have been noticed or not.
            "!" => {}
            message => heard.push(message.to_owned()),
        }
    }
    assert_eq!(heard, ["+c other", "+d d", "-uid-of-b"]);
    assert!(server.lists_and_watches().0 >= 2);
    server.put(pod(NODE, "e"));
    watch.expect(&["+e e"]).await;
}

#[tokio::test]
async fn a_forgotten_place_told_by_an_event() {
    forgotten(false).await;
}

#[tokio::test]
async fn a_forgotten_place_told_by_the_status() {
    forgotten(true).await;
}

#[tokio::test]
async fn a_server_that_comes_back_with_an_older_state() {
    let server = Server::start("t1");
    let older = server.put(pod(NODE, "a"));
    server.put(pod(NODE, "b"));
    server.delete(pod(NODE, "a"));
    let mut watch = Watch::begin(&server);
    watch.expect(&["+b b", "=1"]).await;
    until("no watch", || server.lists_and_watches().1 == 1);
    // Its own notes of changes are gone, so the place is forgotten, but its lists lag behind.
    server.behave(|manner| {
        manner.down = true;
        manner.lists_at = Some(older);
    });
    server.cut();
    server.put(pod(NODE, "c"));
    server.forget();
    server.behave(|manner| manner.down = false);
    // It catches up only after the list.
    until("no second list", || server.lists_and_watches().0 >= 2);
    server.behave(|manner| manner.lists_at = None);
    let mut pods = std::collections::BTreeSet::from(["b".to_owned()]);
    while pods != ["b".to_owned(), "c".to_owned()].into() {
        match watch.next().await {
            Heard::Pod {
                facts: Some(facts), ..
            } => drop(pods.insert(facts.name.unwrap())),
            Heard::Pod { uid, facts: None } => {
                pods.remove(uid.strip_prefix("uid-of-").unwrap());
            }
            Heard::Listed(_) | Heard::Silent(_) => {}
        }
    }
}

#[tokio::test]
async fn a_token_that_is_replaced_is_taken_up() {
    let server = Server::start("t1");
    server.put(pod(NODE, "a"));
    let mut watch = Watch::begin(&server);
    watch.expect(&["+a a", "=1"]).await;
    server.behave(|manner| manner.token = "t2".into());
    server.cut();
    loop {
        match watch.next().await {
            Heard::Silent(why) if why.contains("does not take the agent's credentials: 401") => {
                break;
            }
            // It may find the connection closed first.
            Heard::Silent(why) => assert!(why.contains("cannot ask"), "{why}"),
            other @ (Heard::Pod { .. } | Heard::Listed(_)) => {
                panic!("the old token was taken: {other:?}")
            }
        }
    }
    server.put(pod(NODE, "b"));
    fs::write(watch.home.path().join("token"), "t2").unwrap();
    watch.expect(&["+b b", "=2"]).await;
}

#[tokio::test]
async fn without_the_right_to_read_pods_it_is_said_once() {
    let server = Server::start("t1");
    server.put(pod(NODE, "a"));
    server.behave(|manner| manner.allowed = false);
    let mut watch = Watch::begin(&server);
    let Heard::Silent(why) = watch.next().await else {
        panic!("pods were told");
    };
    assert!(why.contains("refuses: 403 pods is forbidden"), "{why}");
    assert!(why.contains("the verbs list and watch on pods"), "{why}");
    assert!(!why.contains('\n'), "{why}");
    // Tried again and again, and told once; then the right is given.
    tokio::time::sleep(Duration::from_secs(3)).await;
    server.behave(|manner| manner.allowed = true);
    watch.expect(&["+a a", "=1"]).await;
}

#[tokio::test]
async fn nobody_there() {
    let server = Server::start("t1");
    server.put(pod(NODE, "a"));
    server.behave(|manner| manner.down = true);
    let mut watch = Watch::begin(&server);
    let Heard::Silent(why) = watch.next().await else {
        panic!("pods were told");
    };
    assert!(
        why.contains(&format!("cannot ask https://{}", server.address)),
        "{why}"
    );
    server.behave(|manner| manner.down = false);
    watch.expect(&["+a a", "=1"]).await;
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_believed() {
    let (server, other) = (Server::start("t1"), Server::start("t1"));
    let home = TempDir::new().unwrap();
    let access = access(&home, &server);
    fs::write(home.path().join("ca.crt"), &other.authority).unwrap();
    let mut watch = Watch::with(home, access);
    let Heard::Silent(why) = watch.next().await else {
        panic!("pods were told");
    };
    assert!(why.contains("certificate"), "{why}");
    assert_eq!(server.requests(), []);
}

#[tokio::test]
async fn no_program_is_started_for_credentials() {
    let server = Server::start("t1");
    let home = TempDir::new().unwrap();
    let ran = home.path().join("ran");
    let user = format!(
        "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: touch, args: [{}]}}}}",
        ran.display()
    );
    let access = kubeconfig(&home, &server, &user);
    let mut watch = Watch::with(home, access);
    let Heard::Silent(why) = watch.next().await else {
        panic!("pods were told");
    };
    assert!(why.contains("has a program make its credentials"), "{why}");
    assert!(!ran.exists());
}

#[tokio::test]
async fn the_watch_ends_with_who_listens() {
    let server = Server::start("t1");
    let mut watch = Watch::begin(&server);
    watch.expect(&["=0"]).await;
    until("no watch", || server.lists_and_watches().1 == 1);
    drop(watch);
    server.cut();
    // Whoever still asked would ask within the longest first pause.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(server.lists_and_watches(), (1, 1));
}

#[test]
fn a_look_by_hand() {
    let server = Server::start("t1");
    server.put(pod(NODE, "a"));
    server.put(pod("node-b", "b"));
    let home = TempDir::new().unwrap();
    let access = access(&home, &server);
    let seen = probe(&access).unwrap();
    assert_eq!(seen.pods, 1);
    assert_eq!(seen.server, format!("https://{}/", server.address));
    fs::write(home.path().join("token"), "wrong").unwrap();
    let why = probe(&access).unwrap_err();
    assert!(why.contains("401"), "{why}");
    let nowhere = Access {
        kubeconfig: Some(home.path().join("absent")),
        ..access
    };
    let why = probe(&nowhere).unwrap_err();
    assert!(why.contains("cannot use the kubeconfig"), "{why}");
}

#[test]
fn settings_and_environment() {
    use crate::config::{Enabled, Kubernetes as Settings};
    let of = |settings: &Settings, environment: &[(&str, &str)]| {
        settle(settings.clone(), "host", |name| {
            let (_, value) = environment.iter().find(|(known, _)| *known == name)?;
            Some((*value).to_owned())
        })
    };
    let settings = Settings::default();
    assert_eq!(of(&settings, &[]).unwrap(), (None, Cluster::default()));
    let pod = [("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
    let (access, cluster) = of(&settings, &pod).unwrap();
    assert_eq!(access.unwrap().node, "host");
    // What is only likely is not told.
    assert_eq!(cluster.node, None);
    let named = [pod[0], ("NODE_NAME", "node-a"), ("CLUSTER_NAME", "")];
    let (access, cluster) = of(&settings, &named).unwrap();
    assert_eq!(access.unwrap().node, NODE);
    assert_eq!(cluster.node.as_deref(), Some(NODE));
    assert_eq!(cluster.name, None);
    let said = Settings {
        node_name: Some("said".into()),
        cluster_name: Some("prod".into()),
        enabled: Enabled::Never,
        ..Settings::default()
    };
    let (access, cluster) = of(&said, &named).unwrap();
    assert_eq!(access, None);
    assert_eq!(cluster.node.as_deref(), Some("said"));
    assert_eq!(cluster.name.as_deref(), Some("prod"));
    let always = Settings {
        enabled: Enabled::Always,
        ..Settings::default()
    };
    let why = of(&always, &[]).unwrap_err();
    assert!(why.contains("kubernetes.kubeconfig"), "{why}");
    let with_file = Settings {
        kubeconfig: Some("/k".into()),
        ..always
    };
    assert!(of(&with_file, &[]).unwrap().0.is_some());
}
