//! What of a pod is kept, and what made it: from the pod alone.
//!
//! ReplicaSets and Jobs are not asked for, so that the agent needs no right but to read pods. Where a pod's own
//! names do not prove what stands behind its controller, the controller itself is its owner.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::Object;
use serde::Deserialize;

use super::facts::{Labels, Owner, PodFacts};

/// A pod as the API server tells it, less what is not used.
pub type Pod = Object<Spec, Unread>;

/// What is read of a pod's specification.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// The node that it is bound to.
    pub node_name: Option<String>,
    /// The account that it acts as.
    pub service_account_name: Option<String>,
}

/// A part that is passed over.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Unread {}

/// What the user says of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: Option<String>,
    /// The node that this is.
    pub node: Option<String>,
    /// Annotations that are kept: any may hold a secret, so none is by default.
    pub annotations: Vec<String>,
}

/// The label that a Deployment's controller gives its ReplicaSets and their pods.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Of a static pod, which the node itself keeps: its uid on the node, in paths of cgroups and at the runtime. The
/// API server's pod only mirrors it, with another uid.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// How long after a CronJob's time its pods are made at most, seconds, for it to be told as the owner: later is an
/// accident of numbers as likely as a late start.
const CRON_SECONDS: i64 = 3600;

/// The uid by which a node knows a pod, and what is kept of it. `None` for a pod without uid, which is none.
#[must_use]
pub fn told(pod: Pod, cluster: &Cluster) -> Option<(String, PodFacts)> {
    let Pod { metadata, spec, .. } = pod;
    let uid = metadata.uid.clone().filter(|uid| !uid.is_empty())?;
    let annotations = metadata.annotations.clone().unwrap_or_default();
    let on_node = annotations.get(MIRROR).cloned();
    let owner = owner(&metadata);
    let facts = PodFacts {
        namespace: metadata.namespace,
        name: metadata.name,
        uid: Some(uid.clone()),
        labels: metadata.labels.unwrap_or_default().into_iter().collect(),
        annotations: annotations
            .into_iter()
            .filter(|(name, _)| cluster.annotations.contains(name))
            .collect(),
        owner,
        service_account: spec.service_account_name,
        node: spec.node_name,
        cluster: cluster.name.clone(),
    };
    Some((on_node.unwrap_or(uid), facts.bounded()))
}

/// Adds to what a container runtime says of a pod what follows from it, and what the user says of the cluster.
pub fn complete(facts: &mut PodFacts, cluster: &Cluster) {
    if facts.owner.is_none() {
        facts.owner = facts.name.as_deref().and_then(|name| {
            let set = name.rsplit_once('-')?.0;
            deployment(set, template_hash(&facts.labels)?)
        });
    }
    if facts.node.is_none() {
        facts.node.clone_from(&cluster.node);
    }
    if facts.cluster.is_none() {
        facts.cluster.clone_from(&cluster.name);
    }
}

/// What made a pod; `None` for one that somebody made by hand.
fn owner(pod: &ObjectMeta) -> Option<Owner> {
    let owners = pod.owner_references.iter().flatten();
    let OwnerReference {
        api_version,
        kind,
        name,
        ..
    } = owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))?;
    let behind = match (api_version.as_str(), kind.as_str()) {
        ("apps/v1", "ReplicaSet") => pod
            .labels
            .as_ref()
            .and_then(|labels| deployment(name, labels.get(TEMPLATE_HASH)?)),
        ("batch/v1", "Job") => pod
            .creation_timestamp
            .as_ref()
            .and_then(|made| cron_job(name, made.0.as_second())),
        _ => None,
    };
    Some(behind.unwrap_or_else(|| Owner {
        kind: kind.clone(),
        name: name.clone(),
    }))
}

/// A Deployment's ReplicaSet is named after it and the hash of its template, and nobody else sets that label.
fn deployment(replica_set: &str, template_hash: &str) -> Option<Owner> {
    let name = replica_set
        .strip_suffix(template_hash)?
        .strip_suffix('-')
        .filter(|name| !name.is_empty() && !template_hash.is_empty())?;
    Some(Owner {
        kind: "Deployment".into(),
        name: name.into(),
    })
}

/// A CronJob's Job is named after it and its time in minutes since the epoch. A number that is not a time shortly
/// before the pod was made is somebody else's.
fn cron_job(job: &str, made_seconds: i64) -> Option<Owner> {
    let (name, minutes) = job.rsplit_once('-')?;
    let is_number = !minutes.starts_with('0') && minutes.bytes().all(|byte| byte.is_ascii_digit());
    let due = minutes.parse::<i64>().ok()?.checked_mul(60)?;
    let is_due = (due..=due.saturating_add(CRON_SECONDS)).contains(&made_seconds);
    (is_number && is_due && !name.is_empty()).then(|| Owner {
        kind: "CronJob".into(),
        name: name.into(),
    })
}

fn template_hash(labels: &Labels) -> Option<&str> {
    let (_, hash) = labels.iter().find(|(name, _)| name == TEMPLATE_HASH)?;
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod as an API server sends it, with the controller, the labels and the annotations given.
    fn pod(owner: &str, labels: &str, annotations: &str) -> Pod {
        let text = format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{
                "name": "web-7d4b9c6f5d-x2x4z", "generateName": "web-7d4b9c6f5d-", "namespace": "shop",
                "uid": "2f3c1a6e-5d5b-4c59-9f0e-6b7f0a1f2b3c", "resourceVersion": "812",
                "creationTimestamp": "2026-03-01T10:15:02Z",
                "labels": {{{labels}}}, "annotations": {{{annotations}}},
                "ownerReferences": [{owner}],
                "managedFields": [{{"manager": "kubelet", "operation": "Update", "apiVersion": "v1",
                    "fieldsType": "FieldsV1", "fieldsV1": {{"f:status": {{}}}}, "subresource": "status"}}]}},
              "spec": {{"nodeName": "node-a", "serviceAccountName": "web", "serviceAccount": "web",
                "containers": [{{"name": "web", "image": "nginx", "resources": {{}}}}]}},
              "status": {{"phase": "Running", "podIP": "10.0.0.7"}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn controller(api: &str, kind: &str, name: &str) -> String {
        format!(
            r#"{{"apiVersion": "{api}", "kind": "{kind}", "name": "{name}", "uid": "u",
                "controller": true, "blockOwnerDeletion": true}}"#
        )
    }

    #[test]
    fn what_is_kept_of_a_pod() {
        let cluster = Cluster {
            name: Some("prod".into()),
            node: None,
            annotations: vec!["team".into(), "absent".into()],
        };
        let owner = controller("apps/v1", "ReplicaSet", "web-7d4b9c6f5d");
        let labels = r#""pod-template-hash": "7d4b9c6f5d", "app": "web""#;
        let annotations = r#""team": "shop", "token": "hunter2""#;
        let (uid, facts) = told(pod(&owner, labels, annotations), &cluster).unwrap();
        assert_eq!(uid, "2f3c1a6e-5d5b-4c59-9f0e-6b7f0a1f2b3c");
        let text = |text: &str| text.to_owned();
        assert_eq!(
            facts,
            PodFacts {
                namespace: Some(text("shop")),
                name: Some(text("web-7d4b9c6f5d-x2x4z")),
                uid: Some(uid),
                labels: vec![
                    (text("app"), text("web")),
                    (text("pod-template-hash"), text("7d4b9c6f5d")),
                ],
                annotations: vec![(text("team"), text("shop"))],
                owner: Some(Owner {
                    kind: text("Deployment"),
                    name: text("web"),
                }),
                service_account: Some(text("web")),
                node: Some(text("node-a")),
                cluster: Some(text("prod")),
            }
        );
    }

    #[test]
    fn owners() {
        // 29539335 minutes after the epoch are 2026-03-01T10:15:00Z.
        let hash = r#""pod-template-hash": "7d4b9c6f5d""#;
        for (api, kind, name, labels, expected) in [
            (
                "apps/v1",
                "ReplicaSet",
                "web-7d4b9c6f5d",
                hash,
                "Deployment web",
            ),
            (
                "apps/v1",
                "ReplicaSet",
                "a-b-7d4b9c6f5d",
                hash,
                "Deployment a-b",
            ),
            // Made by hand, of another template, and nothing but a hash
            (
                "apps/v1",
                "ReplicaSet",
                "web-7d4b9c6f5d",
                "",
                "ReplicaSet web-7d4b9c6f5d",
            ),
            ("apps/v1", "ReplicaSet", "web-55", hash, "ReplicaSet web-55"),
            (
                "apps/v1",
                "ReplicaSet",
                "-7d4b9c6f5d",
                hash,
                "ReplicaSet -7d4b9c6f5d",
            ),
            // Somebody else's, named alike
            (
                "argoproj.io/v1",
                "ReplicaSet",
                "web-7d4b9c6f5d",
                hash,
                "ReplicaSet web-7d4b9c6f5d",
            ),
            ("apps/v1", "StatefulSet", "db", "", "StatefulSet db"),
            ("apps/v1", "DaemonSet", "agent", hash, "DaemonSet agent"),
            ("batch/v1", "Job", "backup-29539335", "", "CronJob backup"),
            ("batch/v1", "Job", "backup-29539300", "", "CronJob backup"),
            // Of a time to come, of long ago, and no time
            (
                "batch/v1",
                "Job",
                "backup-29539336",
                "",
                "Job backup-29539336",
            ),
            (
                "batch/v1",
                "Job",
                "backup-29539200",
                "",
                "Job backup-29539200",
            ),
            (
                "batch/v1",
                "Job",
                "backup-+29539335",
                "",
                "Job backup-+29539335",
            ),
            (
                "batch/v1",
                "Job",
                "backup-99999999999999999999",
                "",
                "Job backup-99999999999999999999",
            ),
            ("batch/v1", "Job", "migrate", "", "Job migrate"),
            ("v1", "Node", "node-a", "", "Node node-a"),
        ] {
            let pod = pod(&controller(api, kind, name), labels, "");
            let Owner { kind, name } = owner(&pod.metadata).unwrap();
            assert_eq!(format!("{kind} {name}"), expected);
        }
        assert_eq!(owner(&pod("", "", "").metadata), None);
        let not_controlled = r#"{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u"}"#;
        assert_eq!(owner(&pod(not_controlled, "", "").metadata), None);
    }

    #[test]
    fn a_static_pod_is_known_by_the_uid_of_its_node() {
        let pod = pod("", "", r#""kubernetes.io/config.mirror": "c0ffee""#);
        let (uid, facts) = told(pod, &Cluster::default()).unwrap();
        assert_eq!(uid, "c0ffee");
        assert_eq!(
            facts.uid.as_deref(),
            Some("2f3c1a6e-5d5b-4c59-9f0e-6b7f0a1f2b3c")
        );
        assert_eq!(facts.annotations, []);
    }

    #[test]
    fn what_a_runtime_says_is_completed() {
        let cluster = Cluster {
            name: Some("prod".into()),
            node: Some("node-a".into()),
            annotations: Vec::new(),
        };
        let mut facts = PodFacts {
            name: Some("web-7d4b9c6f5d-x2x4z".into()),
            labels: vec![(TEMPLATE_HASH.into(), "7d4b9c6f5d".into())],
            ..PodFacts::default()
        };
        complete(&mut facts, &cluster);
        assert_eq!(facts.node.as_deref(), Some("node-a"));
        assert_eq!(facts.cluster.as_deref(), Some("prod"));
        let web = Owner {
            kind: "Deployment".into(),
            name: "web".into(),
        };
        assert_eq!(facts.owner, Some(web));
        // A name that does not follow from the label proves nothing.
        let mut facts = PodFacts {
            name: Some("web-0".into()),
            ..facts
        };
        facts.owner = None;
        complete(&mut facts, &cluster);
        assert_eq!(facts.owner, None);
    }
}
