//! A tree as one JSON object: `docs/tree.md` describes it. What is not known is left out.

use serde_json::{Value, json};

use super::super::json::{known, lossy, write};
use super::super::words::{Status, signal};
use super::{exact, roles};
use crate::alert::{ContainerView, HostFacts, ProcessView};
use crate::lineage::process::{Ended, Image};
use crate::lineage::tree::{Candidate, TreeNode, TreeView};

/// Writes a tree, without a line's end.
pub fn tree(view: &TreeView, out: &mut Vec<u8>) {
    let clock = Clock(view.boot_wall_ns);
    let nodes: Vec<Value> = view.nodes.iter().map(|one| node(one, clock)).collect();
    write(
        &json!({
            "tracer": env!("CARGO_PKG_VERSION"),
            "host": host(&view.host),
            "events_lost": view.lost,
            "left_out": view.left_out(),
            "processes": nodes,
        }),
        out,
    );
}

/// From kernel time to wall time.
#[derive(Clone, Copy)]
pub(super) struct Clock(pub(super) i128);

impl Clock {
    pub(super) fn at(self, boot_ns: u64) -> Option<String> {
        exact(self.0 + i128::from(boot_ns))
    }
}

pub(super) fn host(host: &HostFacts) -> Value {
    known(json!({
        "name": host.hostname, "id": host.machine_id, "boot_id": host.boot_id,
    }))
}

/// Candidates for a number that several processes had.
pub(in crate::encode) fn candidates(candidates: &[Candidate]) -> Value {
    let one = |candidate: &Candidate| {
        let exe = candidate.image.as_ref().map(|image| lossy(&image.exec.exe));
        known(json!({
            "entity_id": candidate.entity_id.to_string(),
            "start": exact(candidate.started),
            "executable": exe,
            "has_ended": candidate.ended.is_some(),
        }))
    };
    candidates.iter().map(one).collect()
}

fn node(node: &TreeNode, clock: Clock) -> Value {
    let mut object = process(&node.process, clock);
    let more = known(json!({
        "depth": node.depth,
        "creator": node.creator.map(|id| id.to_string()),
        "parent_pid": node.parent.map(|parent| parent.tgid),
        "asked_for": node.chosen.then_some(true),
        "creator_unknown": node.is_broken.then_some(true),
        "roles": roles(node),
        "linked": node.link.map(|link| json!({
            "via": link.via.name(), "pid": link.from.tgid, "time": clock.at(link.boot_ns),
        })),
        "ran": node.ran.iter().map(|image| ran(image, clock)).collect::<Value>(),
        "wrote": node.wrote.iter().map(|file| json!({
            "path": lossy(&file.path), "time": clock.at(file.boot_ns),
        })).collect::<Value>(),
        "wrote_more": (node.wrote_more > 0).then_some(node.wrote_more),
        "alerts": node.alerts.iter().map(|alert| json!({
            "id": alert.id.to_string(), "time": clock.at(alert.boot_ns), "rule": alert.rule.id,
            "severity": alert.severity.name(), "reason": alert.reason,
        })).collect::<Value>(),
        "left_out": (node.left_out > 0).then_some(node.left_out),
    }));
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

/// What is said of a process wherever it is.
pub(super) fn process(view: &ProcessView, clock: Clock) -> Value {
    let exe = view.image.as_ref().map(|image| lossy(&image.exec.exe));
    let server = view.server.as_ref();
    known(json!({
        "entity_id": view.entity_id.to_string(),
        "pid": view.key.tgid,
        "vpid": (view.vpid != 0 && view.vpid != view.key.tgid).then_some(view.vpid),
        "executable": exe,
        "start": clock.at(view.start_boot_ns),
        "known": view.origin.name(),
        "user": view.ids.map(|ids| known(json!({
            "id": ids.uid, "name": view.user_name(ids.uid),
            "effective_id": (ids.euid != ids.uid).then_some(ids.euid),
        }))),
        "container": view.container.as_ref().map(container),
        "server": server.map(|server| json!({ "name": server.name, "role": server.role.name() })),
        "ports": view.ports,
        "end": view.ended.map(|ended| end(ended, clock)),
    }))
}

fn container(view: &ContainerView) -> Value {
    let facts = view.facts.found();
    let pod = view.pod.found();
    let runtime = facts.and_then(|facts| facts.runtime.as_deref());
    known(json!({
        "id": view.place.id,
        "runtime": runtime.or(view.place.runtime),
        "name": facts.and_then(|facts| facts.name.as_deref()),
        "image": facts.map(|facts| known(json!({
            "name": facts.image.name, "tags": facts.image.tags,
        }))),
        "pod": known(json!({
            "namespace": pod.and_then(|pod| pod.namespace.as_deref()),
            "name": pod.and_then(|pod| pod.name.as_deref()),
            "uid": pod.and_then(|pod| pod.uid.as_deref()).or(view.place.pod_uid.as_deref()),
        })),
    }))
}

fn end(ended: Ended, clock: Clock) -> Value {
    let status = ended.status.map(Status);
    let number = status.and_then(Status::signal);
    known(json!({
        "time": clock.at(ended.boot_ns),
        "exit_code": status.filter(|_| number.is_none()).map(Status::code),
        "signal": number.map(|number| signal(number).map_or_else(|| number.to_string(), str::to_owned)),
    }))
}

fn ran(image: &Image, clock: Clock) -> Value {
    let exec = &image.exec;
    let args: Vec<Value> = exec.args.iter().map(|argument| lossy(argument)).collect();
    known(json!({
        "time": clock.at(image.boot_ns).filter(|_| !image.observed),
        "executable": lossy(&exec.exe),
        "args": args,
        "args_bytes": super::super::words::args_truncated(exec).then_some(exec.args_len),
        "working_directory": lossy(&exec.cwd),
    }))
}
