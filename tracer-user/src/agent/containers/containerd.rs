//! Containerd's own interface: containers that were not made through Kubernetes' interface (`ctr`, nerdctl).
//!
//! It has namespaces of its own. That of Docker is left out: Docker knows more of its containers. Numbers are those of
//! `containerd/api/services`.

use std::collections::HashMap;

use super::grpc::{CallError, Client};
use crate::enrich::facts::{ContainerFacts, ImageFacts};

/// Namespaces that are asked at most: who makes more of them hides nothing but names.
const NAMESPACES: usize = 16;

/// The label by which nerdctl names a container.
const NERDCTL_NAME: &str = "nerdctl/name";

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

impl Containerd {
    /// Asks for its version.
    pub(super) async fn begin(client: Client) -> Result<(Self, String), CallError> {
        let path = "/containerd.services.version.v1.Version/Version";
        let Version { version } = client.call(path, &[], &Nothing {}).await?;
        Ok((Self { client }, version))
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
                        return Ok(Some(facts(container)));
                    }
                }
                // Not of this namespace.
                Err(CallError::Status(..)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

fn facts(container: Container) -> ContainerFacts {
    let Container { id, labels, image } = container;
    ContainerFacts {
        runtime: Some("containerd".to_owned()),
        // `ctr` has no other name for a container than its id.
        name: Some(labels.get(NERDCTL_NAME).cloned().unwrap_or(id)),
        image: ImageFacts::parse(&image),
        labels: labels.into_iter().collect(),
        pod: None,
    }
}
