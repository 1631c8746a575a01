//! Containerd's own interface: what happens to containers, and those that were not made through Kubernetes' interface
//! (`ctr`, nerdctl).
//!
//! It has namespaces of its own. That of Docker is left out: Docker knows more of its containers. Numbers are those of
//! `containerd/api/services`.
//!
//! Its events are followed rather than those of `runtime.v1`: every version has them, they tell of all namespaces, and
//! each who listens gets all. Of containerd 1.7 the others are one queue: who listens takes them from the kubelet.

use std::collections::HashMap;

use super::cri::pod_labels;
use super::grpc::{CallError, Client, Messages};
use crate::enrich::facts::{ContainerFacts, ImageFacts, Labels, PodFacts};

/// Namespaces that are asked at most: who makes more of them hides nothing but names.
const NAMESPACES: usize = 16;

/// The label by which nerdctl names a container.
const NERDCTL_NAME: &str = "nerdctl/name";

/// What the part of containerd that speaks `runtime.v1` writes beside the labels that it was given.
const CRI: &str = "io.cri-containerd.";

/// And what it writes of whose container it is, `container` or `sandbox`, and of which pod.
const SANDBOX: &str = "io.cri-containerd.kind";
const POD_UID: &str = "io.kubernetes.pod.uid";

/// What is followed: that a container is made, and that its first process waits for its program. By then the whole
/// of it is known.
const FILTERS: [&str; 2] = [
    r#"topic=="/containers/create",namespace!=moby"#,
    r#"topic=="/tasks/create",namespace!=moby"#,
];

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Namespace {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Namespaces {
    #[prost(message, repeated, tag = "1")]
    namespaces: Vec<Namespace>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct GetRequest {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(map = "string, string", tag = "2")]
    labels: HashMap<String, String>,
    #[prost(string, tag = "3")]
    image: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct GetResponse {
    #[prost(message, optional, tag = "1")]
    container: Option<Container>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ListRequest {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ListResponse {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct SubscribeRequest {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Envelope {
    #[prost(message, optional, tag = "4")]
    event: Option<Any>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Any {
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// The member that `ContainerCreate` and `TaskCreate` both begin with.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Of {
    #[prost(string, tag = "1")]
    container_id: String,
}

/// What `containerd.services.version.v1` says.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Version {
    #[prost(string, tag = "1")]
    version: String,
}

#[derive(Clone)]
pub(super) struct Containerd {
    client: Client,
}

/// What happens to containers, as it happens.
pub(super) struct Events(Messages);

impl Containerd {
    /// Asks for its version.
    pub(super) async fn begin(client: Client) -> Result<(Self, String), CallError> {
        let path = "/containerd.services.version.v1.Version/Version";
        let Version { version } = client.call(path, &[], &Nothing {}).await?;
        Ok((Self { client }, version))
    }

    /// Begins to watch. Containers that are there already are not told.
    pub(super) async fn watch(&self) -> Result<Events, CallError> {
        let path = "/containerd.services.events.v1.Events/Subscribe";
        let ask = SubscribeRequest {
            filters: FILTERS.map(str::to_owned).into(),
        };
        let mut events = self.client.stream(path, &[], &ask).await?;
        events.accepted().await?;
        Ok(Events(events))
    }

    /// Whether it still answers.
    pub(super) async fn lives(&self) -> bool {
        Self::begin(self.client.clone()).await.is_ok()
    }

    /// What is known of a container, in whatever namespace.
    pub(super) async fn find(&self, id: &str) -> Result<Option<ContainerFacts>, CallError> {
        let path = "/containerd.services.namespaces.v1.Namespaces/List";
        let Namespaces { namespaces } = self.client.call(path, &[], &Nothing {}).await?;
        let namespaces = namespaces
            .iter()
            .filter(|namespace| namespace.name != "moby");
        for Namespace { name } in namespaces.take(NAMESPACES) {
            let path = "/containerd.services.containers.v1.Containers/Get";
            let headers = [("containerd-namespace", name.as_str())];
            let ask = GetRequest { id: id.to_owned() };
            match self.client.call::<GetResponse>(path, &headers, &ask).await {
                Ok(answer) => {
                    if let Some(container) = answer.container {
                        let mut facts = facts(container);
                        if let Some(pod) = &mut facts.pod
                            && pod.labels.is_empty()
                        {
                            pod.labels = self.labels_of(name, pod).await?;
                        }
                        return Ok(Some(facts));
                    }
                }
                // Not of this namespace.
                Err(CallError::Status(..)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Labels of a pod: its sandbox, which is made before its containers, has them.
    async fn labels_of(&self, namespace: &str, pod: &PodFacts) -> Result<Labels, CallError> {
        // What is put into a filter ends it nowhere.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let Some(uid) = pod.uid.as_ref().filter(|uid| uid.chars().all(is_plain)) else {
            return Ok(Labels::new());
        };
        let path = "/containerd.services.containers.v1.Containers/List";
        let ask = ListRequest {
            filters: vec![format!(
                r#"labels."{SANDBOX}"==sandbox,labels."{POD_UID}"=="{uid}""#
            )],
        };
        let headers = [("containerd-namespace", namespace)];
        match self.client.call::<ListResponse>(path, &headers, &ask).await {
            Ok(ListResponse { containers }) => {
                let pods = containers.into_iter().filter_map(|it| facts(it).pod);
                Ok(pods.map(|pod| pod.labels).next().unwrap_or_default())
            }
            Err(CallError::Status(..)) => Ok(Labels::new()),
            Err(error) => Err(error),
        }
    }
}

impl Events {
    /// The id of the next container that was made or is about to begin; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<String>, CallError> {
        while let Some(Envelope { event }) = self.0.next().await? {
            let of = <Of as prost::Message>::decode(&*event.unwrap_or_default().value);
            let Of { container_id } = of.map_err(|error| CallError::Broken(error.to_string()))?;
            if !container_id.is_empty() {
                return Ok(Some(container_id));
            }
        }
        Ok(None)
    }
}

fn facts(container: Container) -> ContainerFacts {
    let Container { id, labels, image } = container;
    let (cri, labels): (Labels, Labels) = labels
        .into_iter()
        .partition(|(name, _)| name.starts_with(CRI));
    let label = |wanted: &str| {
        let mut labels = labels.iter();
        labels
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.clone())
    };
    let mut facts = ContainerFacts {
        runtime: Some("containerd".to_owned()),
        image: ImageFacts::parse(&image),
        ..ContainerFacts::default()
    };
    let Some((_, kind)) = cri.iter().find(|(name, _)| name == SANDBOX) else {
        // `ctr` has no other name for a container than its id.
        facts.name = Some(label(NERDCTL_NAME).unwrap_or(id));
        facts.labels = labels;
        return facts;
    };
    // Of a pod, and `runtime.v1` does not know it yet: the kubelet writes into labels what both are.
    let mut pod = PodFacts {
        namespace: label("io.kubernetes.pod.namespace"),
        name: label("io.kubernetes.pod.name"),
        uid: label(POD_UID),
        ..PodFacts::default()
    };
    if kind == "sandbox" {
        pod.labels = pod_labels(labels);
        facts.image = ImageFacts::default();
    } else {
        facts.name = label("io.kubernetes.container.name");
        facts.labels = labels;
    }
    facts.pod = Some(pod).filter(|pod| pod.name.is_some());
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(labels: &[(&str, &str)]) -> ContainerFacts {
        facts(Container {
            id: "abc".into(),
            labels: labels
                .iter()
                .map(|&(name, value)| (name.into(), value.into()))
                .collect(),
            image: "localhost/web:7".into(),
        })
    }

    #[test]
    fn containers_of_every_maker() {
        assert_eq!(container(&[]).name.as_deref(), Some("abc"));
        let facts = container(&[("nerdctl/name", "web"), ("a", "b")]);
        assert_eq!(facts.name.as_deref(), Some("web"));
        assert_eq!(facts.image.tags, ["7"]);
        assert!(facts.labels.contains(&("a".into(), "b".into())));
        assert_eq!(facts.pod, None);
    }

    #[test]
    fn containers_of_a_pod_by_their_labels() {
        let pod = [
            ("io.kubernetes.pod.name", "web-0"),
            ("io.kubernetes.pod.namespace", "shop"),
            ("io.kubernetes.pod.uid", "u"),
        ];
        let kind = |kind| ("io.cri-containerd.kind", kind);
        let named = ("io.kubernetes.container.name", "web");
        let facts = container(&[&pod[..], &[kind("container"), named]].concat());
        assert_eq!(facts.name.as_deref(), Some("web"));
        assert_eq!(facts.image.name.as_deref(), Some("localhost/web"));
        assert!(facts.labels.iter().all(|(name, _)| !name.starts_with(CRI)));
        let told = facts.pod.expect("a pod");
        assert_eq!(told.namespace.as_deref(), Some("shop"));
        assert_eq!(told.labels, []);
        let facts = container(&[&pod[..], &[kind("sandbox"), ("app", "x")]].concat());
        assert_eq!((facts.name, facts.image.name), (None, None));
        let told = facts.pod.expect("a pod");
        assert_eq!(told.uid.as_deref(), Some("u"));
        assert_eq!(told.labels, [("app".into(), "x".into())]);
    }
}
