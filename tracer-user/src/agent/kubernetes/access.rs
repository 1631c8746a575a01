//! How the API server is reached, and as whom.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ApiResource;
use kube::{Api, Client, Config};

use crate::config::{Enabled, Kubernetes};
use crate::enrich::kubernetes::{Cluster, Pod};

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a look by hand waits.
const PROBE: Duration = Duration::from_secs(10);
/// Longest text of others in a message.
const WORDS: usize = 400;

/// The API server and this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// A file with server and credentials; `None` for those that Kubernetes gives to a pod.
    pub kubeconfig: Option<PathBuf>,
    /// Name of the node whose pods are asked for.
    pub node: String,
}

/// What the settings and the environment come to: how the API server is reached, where there is one to ask, and
/// what is said of the cluster.
///
/// # Errors
///
/// It is to be asked, and there is none.
pub fn settle(
    settings: Kubernetes,
    hostname: &str,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<(Option<Access>, Cluster), String> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let Kubernetes {
        enabled,
        node_name,
        cluster_name,
        kubeconfig,
        annotations,
    } = settings;
    // A host's name need not be its node's, so it is asked with and not told.
    let node = node_name.or_else(|| set("NODE_NAME"));
    let cluster = Cluster {
        name: cluster_name.or_else(|| set("CLUSTER_NAME")),
        node: node.clone(),
        annotations,
    };
    let is_there = kubeconfig.is_some() || set("KUBERNETES_SERVICE_HOST").is_some();
    let access = match enabled {
        Enabled::Never => None,
        Enabled::Auto if !is_there => None,
        Enabled::Always if !is_there => {
            return Err(
                "kubernetes.enabled is always, and there is no API server to ask: this is no pod \
                 (KUBERNETES_SERVICE_HOST is not set); name a kubeconfig (kubernetes.kubeconfig)"
                    .into(),
            );
        }
        Enabled::Auto | Enabled::Always => Some(Access {
            kubeconfig,
            node: node.unwrap_or_else(|| hostname.to_owned()),
        }),
    };
    Ok((access, cluster))
}

/// What a look came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The server's address.
    pub server: String,
    /// Pods of this node.
    pub pods: usize,
}

/// Asks once for this node's pods.
///
/// # Errors
///
/// What is wrong, and what to do about it.
pub fn probe(access: &Access) -> Result<Seen, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a runtime: {error}"))?;
    let asked = async {
        let (server, api) = access.api().await?;
        let this_node = ListParams::default().fields(&access.selector());
        let list = api.list(&this_node).await;
        let pods = list.map_err(|error| why(&server, &error))?.items.len();
        Ok(Seen { server, pods })
    };
    let seen = runtime.block_on(async { tokio::time::timeout(PROBE, asked).await });
    runtime.shutdown_background();
    seen.unwrap_or_else(|_| Err(format!("no answer within {} s", PROBE.as_secs())))
}

impl Access {
    /// The pods of this node and no others.
    pub(super) fn selector(&self) -> String {
        format!("spec.nodeName={}", self.node)
    }

    /// A client with what the files say now, and the server's address.
    pub(super) async fn api(&self) -> Result<(String, Api<Pod>), String> {
        let mut config = self.config().await?;
        let auth = &config.auth_info;
        if auth.exec.is_some() || auth.auth_provider.is_some() {
            return Err(
                "the kubeconfig has a program make its credentials, and tracer starts none; give the user of \
                 tracer a token, a tokenFile or a client certificate"
                    .into(),
            );
        }
        config.connect_timeout = Some(CONNECT);
        // Tries are the watch's business: one back-off, not two.
        config.default_retry = false;
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| why(&server, &error))?;
        let resource = ApiResource::erase::<v1::Pod>(&());
        Ok((server, Api::all_with(client, &resource)))
    }

    async fn config(&self) -> Result<Config, String> {
        let Some(path) = &self.kubeconfig else {
            return Config::incluster_env().map_err(|error| {
                format!(
                    "cannot use what Kubernetes gives to a pod: {}; mount the service account's token \
                     (automountServiceAccountToken: true), or name a kubeconfig",
                    chain(&error)
                )
            });
        };
        let wrong = |error: &dyn Error| {
            let path = path.display();
            format!("cannot use the kubeconfig {path}: {}", chain(error))
        };
        let kubeconfig = Kubeconfig::read_from(path).map_err(|error| wrong(&error))?;
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|error| wrong(&error))
    }
}

/// What an error of the client means to who reads it.
pub(super) fn why(server: &str, error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else {
        return format!("cannot ask {server}: {}", chain(error));
    };
    let said = format!("{} {}", status.code, words(&status.message));
    match status.code {
        401 => format!("{server} does not take the agent's credentials: {said}"),
        403 => format!(
            "{server} refuses: {said}; give the agent's account the verbs list and watch on pods \
             (docs/kubernetes.md)"
        ),
        _ => format!("{server} answers {said}"),
    }
}

/// An error with its causes, those that repeat what was said left out.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    words(&text)
}

/// Text of others on one line of ours.
pub(super) fn words(text: &str) -> String {
    let mut words: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if words.len() > WORDS {
        words.truncate(words.floor_char_boundary(WORDS));
        words.push('…');
    }
    words
}
