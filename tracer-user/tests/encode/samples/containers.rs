//! Documents of processes in containers and pods.

use std::sync::Arc;

use tracer::alert::{ContainerView, Document, Severity};
use tracer::enrich::container::Place;
use tracer::enrich::facts::{ContainerFacts, Fact, ImageFacts, Labels, Owner, PodFacts};
use tracer::event::{Payload, ProcessKey, Trace};
use tracer::lineage::process::Via;
use tracer_common::event::EventKind;
use tracer_common::tag::Tag;

use super::parts::*;
use super::rules::shell_rule;
use super::{Sample, author};

const UID: &str = "3d6e1f0a-0b1c-4d2e-8f3a-4b5c6d7e8f90";
const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

pub(super) fn all() -> Vec<Sample> {
    vec![pod(), reached()]
}

fn labels(list: &[(&str, &str)]) -> Labels {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    list.iter().map(owned).collect()
}

/// Everything that a runtime and Kubernetes say.
fn in_pod(id: &str, container: &str, pod: &str) -> ContainerView {
    let some = |text: &str| Some(text.to_owned());
    let pod = PodFacts {
        namespace: some("shop"),
        name: some(pod),
        uid: some(UID),
        labels: labels(&[("app", "web"), ("app.kubernetes.io/name", "shop\u{1b}")]),
        annotations: labels(&[("example.org/team", "red")]),
        owner: Some(Owner {
            kind: "Deployment".to_owned(),
            name: "web".to_owned(),
        }),
        service_account: some("web"),
        node: some("node-1"),
        cluster: some("prod"),
    };
    let facts = ContainerFacts {
        runtime: some("containerd"),
        name: some(container),
        image: ImageFacts {
            name: some("docker.io/library/nginx"),
            tags: vec!["1.27".to_owned(), "stable".to_owned()],
            digests: vec![format!("sha256:{OTHER}")],
        },
        labels: labels(&[("a", "1"), ("a.b", "2"), ("a_b", "3")]),
        pod: Some(pod.clone()),
    };
    ContainerView {
        place: Arc::new(Place {
            id: id.to_owned(),
            runtime: None,
            pod_uid: some(UID),
        }),
        facts: Fact::Found(Arc::new(facts)),
        pod: Fact::Found(Arc::new(pod)),
    }
}

/// A shell of `kubectl exec`; who wrote it and who linked it were in another container.
fn pod() -> Sample {
    let sh = exec("/usr/bin/dash", &["sh", "-c", "id"]);
    let mut process = view(901, 62 * SECOND, Some(image(&sh, 62 * SECOND)));
    process.container = Some(in_pod(CONTAINER, "web", "web-5d-x"));
    process.vpid = 44;
    let mut runtime = master();
    runtime.container = Some(in_pod(OTHER, "dind", "builder"));
    let mut other = author();
    other.process.container = runtime.container.clone();
    let mut document = document(
        Payload::Exec(Box::new(sh)),
        process,
        vec![runtime, systemd()],
    );
    document.event.exec_session = true;
    document.event.writer = Some(other.clone());
    document.event.link = Some((Via::File, other));
    document.alert = Some(alert(
        shell_rule(),
        Severity::High,
        1,
        "php-fpm8.2 (815) executed dash: sh -c id",
    ));
    sample("pod", document)
}

/// A process of the host reaches into a container; of its own container nothing was answered in time.
fn reached() -> Sample {
    let mut target = view(2000, 90 * SECOND, None);
    target.container = Some(in_pod(CONTAINER, "web", "web-5d-x"));
    let mut process = worker();
    process.container = Some(ContainerView {
        place: Arc::new(Place {
            id: OTHER.to_owned(),
            runtime: Some("cri-o"),
            pod_uid: Some(UID.to_owned()),
        }),
        facts: Fact::Pending,
        pod: Fact::Pending,
    });
    let trace = Trace {
        target: Some(ProcessKey::new(2000, 90 * SECOND)),
        target_start_boot_ns: 90 * SECOND,
        target_tag: Tag::ZERO,
        target_vpid: 7,
        pid_ns: 4_026_531_836,
        method: 1,
        ids: www(),
    };
    let payload = Payload::Trace(trace);
    assert_eq!(payload.kind(), EventKind::Trace);
    let mut document: Document = document(payload, process, vec![systemd()]);
    document.event.target = Some(target);
    document.alert = Some(alert(
        shell_rule(),
        Severity::Low,
        0,
        "php-fpm8.2 (815) reached in",
    ));
    sample("pod_pending", document)
}
