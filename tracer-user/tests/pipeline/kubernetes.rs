//! Pods: told by Kubernetes, by the runtime, by both, late, or by nobody.

use std::collections::BTreeSet;

use tracer::alert::Document;
use tracer::config::Emit;
use tracer::enrich::facts::{ContainerFacts, Owner, PodFacts};
use tracer::memory::Budget;
use tracer::pipeline::Pipeline;
use tracer::source::capture::{Reader, Writer};
use tracer::source::{Enrichment, Input};

use crate::story::{Teller, json, preamble};

const ID: &str = "0e1d2c3b4a5968778695a4b3c2d1e0f00e1d2c3b4a5968778695a4b3c2d1e0f0";
const UID: &str = "2f3c1a6e-5d5b-4c59-9f0e-6b7f0a1f2b3c";

/// A server in a pod, by the driver that writes a uid with `_`.
const SERVER: &str = "
    observed 1 /sbin/init
    end
    fork 1>11 :vpid=1 :pidns=7
    exec 11 :vpid=1 :pidns=7 :cgroup={C} /usr/sbin/php-fpm8.2 php-fpm8.2
    listen 11 9000
    wait 1s
    now";
/// Its shell.
const SHELL: &str = "
    fork 11>20 :vpid=20 :pidns=7
    exec 20 :vpid=20 :pidns=7 :cgroup={C} /usr/bin/dash sh -c id
    now";

struct Told {
    pipeline: Pipeline,
    teller: Teller,
    inputs: Vec<Input>,
    documents: Vec<Document>,
}

impl Told {
    /// A server in a pod, where these answer.
    fn begin(containers: bool, pods: bool) -> Self {
        let mut told = Self {
            pipeline: Pipeline::new(Emit::Alerts, Budget::default()),
            teller: Teller::default(),
            inputs: Vec::new(),
            documents: Vec::new(),
        };
        told.give(preamble());
        told.answers(containers, pods);
        told.tell(SERVER);
        told
    }

    fn give(&mut self, inputs: Vec<Input>) -> Vec<String> {
        for input in inputs {
            self.pipeline.input(input.clone());
            self.inputs.push(input);
        }
        let documents = self.pipeline.take_documents();
        let said = documents.iter().map(said).collect();
        self.documents.extend(documents);
        said
    }

    fn answers(&mut self, containers: bool, pods: bool) -> Vec<String> {
        self.give(vec![Input::Enrichment(Enrichment {
            wait_ms: 250,
            containers,
            pods,
            files: false,
        })])
    }

    fn tell(&mut self, text: &str) -> Vec<String> {
        let cgroup = format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{ID}.scope",
            UID.replace('-', "_")
        );
        let inputs = self.teller.tell(&text.replace("{C}", &cgroup));
        self.give(inputs)
    }

    fn pod(&mut self, facts: Option<PodFacts>) -> Vec<String> {
        self.give(vec![Input::Pod {
            uid: UID.into(),
            facts: facts.map(Box::new),
        }])
    }

    fn container(&mut self, pod: Option<PodFacts>) -> Vec<String> {
        self.give(vec![Input::Container {
            id: ID.into(),
            facts: Some(Box::new(ContainerFacts {
                name: Some("web".into()),
                pod,
                ..ContainerFacts::default()
            })),
        }])
    }
}

/// What is written: pid, the pod, what made it, what was not answered.
fn said(document: &Document) -> String {
    let event = &document.event;
    let mut words = vec![event.process.key.tgid.to_string()];
    let pod = event.process.container.as_ref().unwrap().pod.found();
    if let Some(pod) = pod {
        words.extend(pod.name.clone());
        words.extend(pod.owner.as_ref().map(|owner| owner.name.clone()));
    }
    words.extend(event.pending().iter().map(|word| format!("{word}?")));
    words.join(" ")
}

fn parsed(document: &Document) -> serde_json::Value {
    serde_json::from_str(&json(std::slice::from_ref(document))).unwrap()
}

fn of_api(name: &str) -> PodFacts {
    PodFacts {
        namespace: Some("shop".into()),
        name: Some(name.into()),
        uid: Some(UID.into()),
        labels: vec![("app".into(), "web".into())],
        owner: Some(Owner {
            kind: "Deployment".into(),
            name: "web".into(),
        }),
        service_account: Some("till".into()),
        node: Some("node-a".into()),
        cluster: Some("prod".into()),
        ..PodFacts::default()
    }
}

fn of_runtime(name: &str) -> PodFacts {
    PodFacts {
        owner: None,
        service_account: None,
        ..of_api(name)
    }
}

#[test]
fn a_pod_that_is_known_is_in_the_first_alert() {
    let mut told = Told::begin(false, true);
    told.pod(Some(of_api("web-0")));
    assert_eq!(told.tell(SHELL), ["20 web-0 web"]);
    let document = parsed(&told.documents[0]);
    for (path, value) in [
        ("/orchestrator/type", "kubernetes"),
        ("/orchestrator/namespace", "shop"),
        ("/orchestrator/resource/name", "web-0"),
        ("/orchestrator/resource/parent/type", "Deployment"),
        ("/orchestrator/cluster/name", "prod"),
        ("/kubernetes/pod/uid", UID),
        ("/kubernetes/deployment/name", "web"),
        ("/kubernetes/owner/kind", "Deployment"),
        ("/kubernetes/service_account/name", "till"),
        ("/kubernetes/node/name", "node-a"),
        ("/kubernetes/labels/app", "web"),
    ] {
        let found = document.pointer(path).and_then(|value| value.as_str());
        assert_eq!(found, Some(value), "{path}");
    }
}

#[test]
fn a_server_that_is_slow_is_waited_for_and_not_for_ever() {
    // In time.
    let mut told = Told::begin(false, true);
    assert_eq!(told.tell(SHELL), [""; 0]);
    assert_eq!(told.tell("wait 200ms\nnow"), [""; 0]);
    assert_eq!(told.pod(Some(of_api("web-0"))), ["20 web-0 web"]);
    // Too late: it goes out with the uid of the cgroup, and says what it went out without.
    let mut told = Told::begin(false, true);
    assert_eq!(told.tell(SHELL), [""; 0]);
    assert_eq!(told.tell("wait 260ms\nnow"), ["20 pod?"]);
    let document = parsed(&told.documents[0]);
    let text = |path| document.pointer(path).and_then(|value| value.as_str());
    assert_eq!(text("/kubernetes/pod/uid"), Some(UID));
    assert_eq!(text("/kubernetes/pod/name"), None);
    assert_eq!(text("/tracer/enrichment/pending/0"), Some("pod"));
}

#[test]
fn a_server_that_is_not_to_be_had_is_not_waited_for() {
    // Nobody at all: what the cgroup says.
    let mut told = Told::begin(false, false);
    assert_eq!(told.tell(SHELL), ["20"]);
    // It turns out while an alert waits.
    let mut told = Told::begin(false, true);
    assert_eq!(told.tell(SHELL), [""; 0]);
    assert_eq!(told.answers(false, false), ["20"]);
    // What it told before is still known.
    let mut told = Told::begin(false, true);
    told.pod(Some(of_api("web-0")));
    told.answers(false, false);
    assert_eq!(told.tell(SHELL), ["20 web-0 web"]);
}

#[test]
fn the_runtime_alone_will_do() {
    for pods in [false, true] {
        let mut told = Told::begin(true, pods);
        assert_eq!(told.tell(SHELL), [""; 0]);
        assert_eq!(told.container(Some(of_runtime("web-0"))), ["20 web-0"]);
    }
}

#[test]
fn of_both_kubernetes_itself_is_believed() {
    let mut told = Told::begin(true, true);
    told.pod(Some(of_api("web-0")));
    // The container's own facts are waited for, not the pod's.
    assert_eq!(told.tell(SHELL), [""; 0]);
    assert_eq!(told.container(Some(of_runtime("older"))), ["20 web-0 web"]);
}

#[test]
fn a_pod_that_is_gone_is_remembered() {
    let mut told = Told::begin(false, true);
    told.pod(Some(of_api("web-0")));
    told.pod(None);
    assert_eq!(told.tell(SHELL), ["20 web-0 web"]);
}

#[test]
fn a_pod_that_nobody_tells_of_holds_nothing_up_for_ever() {
    let mut told = Told::begin(false, true);
    told.tell("wait 40s\nnow");
    assert_eq!(told.tell(SHELL), ["20"]);
}

#[test]
fn a_recording_tells_the_same() {
    let mut told = Told::begin(true, true);
    told.tell(SHELL);
    told.tell("wait 100ms\nnow");
    told.container(None);
    told.pod(Some(of_api("web-0")));
    told.pod(None);
    let mut writer = Writer::new(Vec::new()).unwrap();
    for input in &told.inputs {
        writer.write(input).unwrap();
    }
    let recording = writer.finish().unwrap();
    let mut again = Told {
        pipeline: Pipeline::new(Emit::Alerts, Budget::default()),
        teller: Teller::default(),
        inputs: Vec::new(),
        documents: Vec::new(),
    };
    let inputs = Reader::new(recording.as_slice()).unwrap();
    again.give(inputs.map(Result::unwrap).collect());
    let text = |told: &Told| -> BTreeSet<String> {
        told.documents
            .iter()
            .map(|document| json(std::slice::from_ref(document)))
            .collect()
    };
    assert_eq!(text(&again), text(&told));
    assert_eq!(told.documents.len(), 1);
}
