//! The runtime interface of Kubernetes (`runtime.v1`), as containerd and CRI-O have it: the few messages and members
//! that say what a container is. Numbers are those of `k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`.

use std::collections::HashMap;

use super::grpc::{CallError, Client, Messages};
use crate::enrich::facts::{ContainerFacts, ImageFacts, Labels, PodFacts};

/// What a runtime says of itself.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Version {
    #[prost(string, tag = "2")]
    pub(super) runtime_name: String,
    #[prost(string, tag = "3")]
    pub(super) runtime_version: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Nothing {}

/// Selects by id; also what a pod is selected by.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Filter {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ListRequest {
    #[prost(message, optional, tag = "1")]
    filter: Option<Filter>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(string, tag = "18")]
    user_specified_image: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "4")]
    image: Option<ImageSpec>,
    #[prost(string, tag = "5")]
    image_ref: String,
    #[prost(map = "string, string", tag = "8")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Containers {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Pod {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<PodMetadata>,
    #[prost(map = "string, string", tag = "5")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Pods {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Pod>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ImageRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Image {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, repeated, tag = "2")]
    repo_tags: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    repo_digests: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ImageResponse {
    #[prost(message, optional, tag = "1")]
    image: Option<Image>,
}

/// That something happened to a container or the sandbox of a pod.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Event {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(enumeration = "What", tag = "2")]
    what: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum What {
    Created = 0,
    Started = 1,
    Stopped = 2,
    Deleted = 3,
}

/// A runtime that answers.
#[derive(Clone)]
pub(super) struct Cri {
    client: Client,
    /// `containerd` or `cri-o`
    runtime: String,
}

/// What happens to containers, as it happens.
pub(super) struct Events(Messages);

const RUNTIME: &str = "/runtime.v1.RuntimeService";

impl Cri {
    /// Asks who it is.
    pub(super) async fn begin(client: Client) -> Result<(Self, Version), CallError> {
        let version: Version = client
            .call(&format!("{RUNTIME}/Version"), &[], &Nothing {})
            .await?;
        let runtime = match version.runtime_name.as_str() {
            "cri-o" | "crio" => "cri-o",
            name => name,
        };
        let runtime = runtime.to_owned();
        Ok((Self { client, runtime }, version))
    }

    /// Begins to watch. Containers that are there already are not told. CRI-O refuses by an end at once, where
    /// `enable_pod_events` is not set.
    pub(super) async fn watch(&self) -> Result<Events, CallError> {
        let path = format!("{RUNTIME}/GetContainerEvents");
        let mut events = self.client.stream(&path, &[], &Nothing {}).await?;
        events.accepted().await?;
        Ok(Events(events))
    }

    /// Whether it still answers.
    pub(super) async fn lives(&self) -> bool {
        let path = format!("{RUNTIME}/Version");
        let answer: Result<Version, _> = self.client.call(&path, &[], &Nothing {}).await;
        answer.is_ok()
    }

    /// Ids of all that there are.
    pub(super) async fn list(&self) -> Result<Vec<String>, CallError> {
        let containers = self.containers("").await?;
        let pods = self.pods("").await?;
        let ids = containers.into_iter().map(|container| container.id);
        Ok(ids.chain(pods.into_iter().map(|pod| pod.id)).collect())
    }

    /// What is known of a container, or of what holds a pod's namespaces.
    pub(super) async fn find(&self, id: &str) -> Result<Option<ContainerFacts>, CallError> {
        let Some(container) = self.containers(id).await?.into_iter().find(|c| c.id == id) else {
            let pod = self.pods(id).await?.into_iter().find(|pod| pod.id == id);
            return Ok(pod.map(|pod| ContainerFacts {
                runtime: Some(self.runtime.clone()),
                pod: Some(pod_facts(pod)),
                ..ContainerFacts::default()
            }));
        };
        let sandbox = &container.pod_sandbox_id;
        let mut pods = self.pods(sandbox).await?.into_iter();
        let pod = pods.find(|pod| pod.id == *sandbox);
        Ok(Some(ContainerFacts {
            runtime: Some(self.runtime.clone()),
            name: container.metadata.map(|metadata| metadata.name),
            image: self
                .image(container.image.unwrap_or_default(), &container.image_ref)
                .await,
            labels: container.labels.into_iter().collect(),
            pod: pod.map(pod_facts),
        }))
    }

    async fn containers(&self, id: &str) -> Result<Vec<Container>, CallError> {
        let path = format!("{RUNTIME}/ListContainers");
        let answer: Containers = self.client.call(&path, &[], &by_id(id)).await?;
        Ok(answer.containers)
    }

    async fn pods(&self, id: &str) -> Result<Vec<Pod>, CallError> {
        let path = format!("{RUNTIME}/ListPodSandbox");
        let answer: Pods = self.client.call(&path, &[], &by_id(id)).await?;
        Ok(answer.items)
    }

    /// The kubelet mostly names an image by its id or digest: the runtime knows the other names.
    async fn image(&self, spec: ImageSpec, reference: &str) -> ImageFacts {
        let named = [&spec.user_specified_image, &spec.image]
            .into_iter()
            .find(|name| !name.is_empty())
            .map(|name| ImageFacts::parse(name))
            .unwrap_or_default();
        let ask = ImageRequest {
            image: Some(ImageSpec {
                image: reference.to_owned(),
                user_specified_image: String::new(),
            }),
        };
        let path = "/runtime.v1.ImageService/ImageStatus";
        let answer: Result<ImageResponse, _> = self.client.call(path, &[], &ask).await;
        // One that was removed meanwhile has the name only that the container was made by.
        let image = answer.ok().and_then(|answer| answer.image);
        merge(named, reference, image.unwrap_or_default())
    }
}

impl Events {
    /// The id of the next container that was made or begun; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<String>, CallError> {
        while let Some(event) = self.0.next::<Event>().await? {
            if matches!(event.what(), What::Created | What::Started) {
                return Ok(Some(event.container_id));
            }
        }
        Ok(None)
    }
}

fn by_id(id: &str) -> ListRequest {
    ListRequest {
        filter: (!id.is_empty()).then(|| Filter { id: id.to_owned() }),
    }
}

fn pod_facts(pod: Pod) -> PodFacts {
    let metadata = pod.metadata.unwrap_or_default();
    PodFacts {
        namespace: Some(metadata.namespace),
        name: Some(metadata.name),
        uid: Some(metadata.uid),
        labels: pod_labels(pod.labels),
        ..PodFacts::default()
    }
}

/// Labels of the pod itself: the kubelet puts its own beside them.
pub(super) fn pod_labels(labels: impl IntoIterator<Item = (String, String)>) -> Labels {
    let own = |(name, _): &(String, String)| !name.starts_with("io.kubernetes.pod.");
    labels.into_iter().filter(own).collect()
}

/// Name and tags by which the container was made, else those that the runtime knows; all digests.
fn merge(mut named: ImageFacts, reference: &str, image: Image) -> ImageFacts {
    let known = image.repo_tags.iter().map(|tag| ImageFacts::parse(tag));
    for known in known {
        named.name = named.name.or_else(|| known.name.clone());
        if named.name == known.name {
            named.tags.extend(known.tags);
        }
    }
    let digests = image
        .repo_digests
        .iter()
        .map(|name| ImageFacts::parse(name));
    for known in digests {
        named.name = named.name.or(known.name);
        named.digests.extend(known.digests);
    }
    named.digests.extend(ImageFacts::parse(reference).digests);
    if image.id.starts_with("sha256:") {
        named.digests.push(image.id);
    }
    for names in [&mut named.tags, &mut named.digests] {
        names.sort();
        names.dedup();
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_by_every_name() {
        let image = || Image {
            id: "sha256:id".into(),
            repo_tags: vec!["docker.io/library/nginx:1.27".into(), "other/name:x".into()],
            repo_digests: vec!["docker.io/library/nginx@sha256:dd".into()],
        };
        // As the kubelet names it: by its id.
        let merged = merge(ImageFacts::parse("sha256:id"), "sha256:id", image());
        assert_eq!(merged.name.as_deref(), Some("docker.io/library/nginx"));
        assert_eq!(merged.tags, ["1.27"]);
        assert_eq!(merged.digests, ["sha256:dd", "sha256:id"]);
        // Removed meanwhile.
        let merged = merge(ImageFacts::parse("n:t"), "sha256:id", Image::default());
        assert_eq!(merged.name.as_deref(), Some("n"));
        assert_eq!(merged.tags, ["t"]);
        assert_eq!(merged.digests, ["sha256:id"]);
    }
}
