//! What a kubelet asks of a runtime to run a pod: the other half of `runtime.v1`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tracer::agent::containers::grpc::{CallError, Client};

use super::IMAGE;

#[derive(Clone, PartialEq, prost::Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodName {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Namespaces {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSecurity {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodLinux {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security: Option<PodSecurity>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodName>,
    #[prost(map = "string, string", tag = "6")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<PodLinux>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RunPod {
    #[prost(message, optional, tag = "1")]
    config: Option<PodConfig>,
}

/// An answer with an id, and a request with nothing else.
#[derive(Clone, PartialEq, prost::Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageOf {
    #[prost(message, optional, tag = "1")]
    image: Option<Id>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageKnown {
    #[prost(message, optional, tag = "1")]
    image: Option<Id>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Mount {
    #[prost(string, tag = "1")]
    container_path: String,
    #[prost(string, tag = "2")]
    host_path: String,
    #[prost(bool, tag = "3")]
    readonly: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerSecurity {
    #[prost(message, optional, tag = "3")]
    namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerLinux {
    #[prost(message, optional, tag = "2")]
    security: Option<ContainerSecurity>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Name>,
    #[prost(message, optional, tag = "2")]
    image: Option<Id>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    mounts: Vec<Mount>,
    #[prost(map = "string, string", tag = "9")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "15")]
    linux: Option<ContainerLinux>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    pod: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pod_config: Option<PodConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Exec {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
    #[prost(int64, tag = "3")]
    timeout: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Executed {
    #[prost(int32, tag = "3")]
    exit_code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

/// The host's network, a pid namespace of the container's own.
const fn namespaces() -> Option<Namespaces> {
    Some(Namespaces { network: 2, pid: 1 })
}

/// What the kubelet writes into the labels of a pod and of its containers.
fn labels(uid: &str, own: [(&str, &str); 1]) -> HashMap<String, String> {
    let all = [
        ("io.kubernetes.pod.name", "web-0"),
        ("io.kubernetes.pod.namespace", "shop"),
        ("io.kubernetes.pod.uid", uid),
    ];
    all.into_iter()
        .chain(own)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A pod as it was asked for, and its id.
pub(super) struct Pod {
    config: PodConfig,
    pub(super) id: String,
}

async fn begin(socket: &Path) -> Client {
    let stream = UnixStream::connect(socket).await.expect("containerd");
    Client::begin(stream).await.expect("HTTP/2")
}

pub(super) struct Cri {
    runtime: Runtime,
    client: Client,
    /// Removed at the end: their processes outlive the runtime.
    pods: RefCell<Vec<Id>>,
}

impl Drop for Cri {
    fn drop(&mut self) {
        for pod in self.pods.take() {
            for name in ["StopPodSandbox", "RemovePodSandbox"] {
                let _best_effort = self.call::<Nothing>(name, &pod);
            }
        }
    }
}

impl Cri {
    pub(super) fn connect(socket: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let client = runtime.block_on(begin(socket));
        Self {
            runtime,
            client,
            pods: RefCell::default(),
        }
    }

    /// Goes on with a runtime that was started again, when it takes calls.
    pub(super) fn reconnect(&mut self, socket: &Path) {
        self.client = self.runtime.block_on(begin(socket));
        crate::host::wait_for("runtime.v1", || {
            self.call::<Nothing>("ListPodSandbox", &Nothing {}).ok()
        });
    }

    fn call<A: prost::Message + Default>(
        &self,
        name: &str,
        ask: &impl prost::Message,
    ) -> Result<A, CallError> {
        let path = format!("/runtime.v1.RuntimeService/{name}");
        self.runtime.block_on(self.client.call(&path, &[], ask))
    }

    /// Waits until it knows the image of pods: of what is imported it learns by and by.
    pub(super) fn wait_for_image(&self) {
        let ask = ImageOf {
            image: Some(Id {
                id: format!("{IMAGE}:7"),
            }),
        };
        let path = "/runtime.v1.ImageService/ImageStatus";
        crate::host::wait_for("the image", || {
            let known: Result<ImageKnown, _> =
                self.runtime.block_on(self.client.call(path, &[], &ask));
            known.ok()?.image
        });
    }

    pub(super) fn run_pod(&self, uid: &str) -> Result<Pod, CallError> {
        let config = PodConfig {
            metadata: Some(PodName {
                name: "web-0".into(),
                uid: uid.into(),
                namespace: "shop".into(),
            }),
            labels: labels(uid, [("app.kubernetes.io/name", "shop")]),
            linux: Some(PodLinux {
                cgroup_parent: format!("/kubepods/besteffort/pod{uid}"),
                security: Some(PodSecurity {
                    namespaces: namespaces(),
                }),
            }),
        };
        let ask = RunPod {
            config: Some(config.clone()),
        };
        let Id { id } = self.call("RunPodSandbox", &ask)?;
        self.pods.borrow_mut().push(Id { id: id.clone() });
        Ok(Pod { config, id })
    }

    /// Creates a container with the host's programs and a site. Nothing runs in it yet.
    pub(super) fn create(
        &self,
        pod: &Pod,
        name: &str,
        command: &[String],
        site: &Path,
    ) -> Result<String, CallError> {
        let mount = |host: &Path, container: &str, readonly| Mount {
            container_path: container.into(),
            host_path: host.display().to_string(),
            readonly,
        };
        let config = ContainerConfig {
            metadata: Some(Name { name: name.into() }),
            image: Some(Id {
                id: format!("{IMAGE}:7"),
            }),
            command: command.to_vec(),
            mounts: vec![
                mount(Path::new("/usr"), "/usr", true),
                mount(site, "/site", false),
            ],
            labels: labels(
                &pod.config.metadata.as_ref().expect("a name").uid,
                [("io.kubernetes.container.name", name)],
            ),
            linux: Some(ContainerLinux {
                security: Some(ContainerSecurity {
                    namespaces: namespaces(),
                }),
            }),
        };
        let ask = CreateContainer {
            pod: pod.id.clone(),
            config: Some(config),
            pod_config: Some(pod.config.clone()),
        };
        let created: Id = self.call("CreateContainer", &ask)?;
        Ok(created.id)
    }

    pub(super) fn start(&self, id: &str) -> Result<(), CallError> {
        let ask = Id { id: id.to_owned() };
        self.call::<Nothing>("StartContainer", &ask).map(drop)
    }

    pub(super) fn exec(&self, id: &str, command: &[&str]) {
        let ask = Exec {
            id: id.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: 20,
        };
        let executed: Executed = self.call("ExecSync", &ask).expect("exec");
        assert_eq!(executed.exit_code, 0);
    }
}
