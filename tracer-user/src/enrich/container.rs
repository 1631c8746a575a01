//! Which container a process is in, from its cgroup path alone.
//!
//! Works for containers that ended long ago and without asking any runtime. It tells no names, images
//! or labels: those are for whoever asks the runtime.

/// What a cgroup path says of the container that it is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The container's id.
    pub id: String,
    /// The word of the runtime that made it: `docker`, `containerd`, `cri-o` or `podman`; `None` where the path
    /// does not tell, as with Kubernetes' cgroupfs driver.
    pub runtime: Option<&'static str>,
    /// Uid of the Kubernetes pod that it belongs to.
    pub pod_uid: Option<String>,
}

/// The innermost container of a cgroup path; `None` for the host.
///
/// Known layouts: Docker, containerd and CRI-O under Kubernetes, podman, nerdctl (each with the
/// cgroupfs and the systemd driver) and ECS. A monitor that the runtime puts beside a container
/// (conmon) is not in it, though its scope bears the container's id.
#[must_use]
pub fn place(cgroup_path: &[u8]) -> Option<Place> {
    let segments: Vec<&[u8]> = cgroup_path
        .split(|&byte| byte == b'/')
        .filter(|segment| !segment.is_empty())
        .collect();
    // Innermost first: a Kubernetes node may itself be a container.
    for (at, segment) in segments.iter().enumerate().rev() {
        let outer = segments.get(..at).unwrap_or_default();
        let Some((prefix, id)) = split(segment).or_else(|| Some((b"", ecs(segment, outer)?)))
        else {
            continue;
        };
        let parent = outer.last().copied().unwrap_or_default();
        let pod = pod_uid(prefix).or_else(|| pod_uid(parent));
        return Some(Place {
            id: String::from_utf8(id.to_vec()).ok()?,
            runtime: runtime(prefix, parent),
            pod_uid: pod,
        });
    }
    None
}

/// `<id>`, `<runtime>-<id>`, `<runtime>-<id>.scope`, and `<slice>:<runtime>:<id>`, which runc makes where
/// its driver and the given path do not agree: what comes before the id, and the id.
fn split(segment: &[u8]) -> Option<(&[u8], &[u8])> {
    let name = segment.strip_suffix(b".scope").unwrap_or(segment);
    let (prefix, id) = name.split_at_checked(name.len().checked_sub(64)?)?;
    if !is_hex(id) {
        return None;
    }
    match prefix.split_last() {
        None => Some((prefix, id)),
        Some((b'-' | b':', runtime)) => {
            let monitor = runtime
                .split(|byte| matches!(byte, b'-' | b':'))
                .any(|word| word == b"conmon");
            (!monitor && !runtime.is_empty()).then_some((runtime, id))
        }
        Some(_) => None,
    }
}

/// The runtime, from what is before the id or, where nothing is, from the cgroup around.
fn runtime(prefix: &[u8], parent: &[u8]) -> Option<&'static str> {
    let word = prefix
        .rsplit(|byte| *byte == b':')
        .next()
        .unwrap_or_default();
    match word {
        b"docker" => Some("docker"),
        b"cri-containerd" | b"containerd" | b"nerdctl" => Some("containerd"),
        b"crio" => Some("cri-o"),
        b"libpod" | b"libpod-payload" => Some("podman"),
        b"" if parent == b"docker" => Some("docker"),
        _ => None,
    }
}

/// The uid in `pod<uid>` and `kubepods-<class>-pod<uid>.slice`, the second with underscores as a slice's dashes
/// are steps. That of a static pod is a hash.
fn pod_uid(segment: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(segment).ok()?;
    // What runc makes of a slice that it was not to have: `<slice>:<runtime>`.
    let slice = text.split(':').next()?;
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    let (before, uid) = name.rsplit_once("pod")?;
    if !before.is_empty() && !before.ends_with('-') {
        return None;
    }
    let uid = uid.replace('_', "-");
    let groups: Vec<&str> = uid.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let is_uid = matches!(lengths.as_slice(), [8, 4, 4, 4, 12] | [32]);
    (is_uid && groups.iter().all(|group| is_hex(group.as_bytes()))).then_some(uid)
}

/// Fargate's `/ecs/<task>/<task>-<number>`, and an id of 32 digits below a task.
fn ecs<'a>(segment: &'a [u8], outer: &[&[u8]]) -> Option<&'a [u8]> {
    if outer.first() != Some(&b"ecs".as_slice()) || outer.len() < 2 {
        return None;
    }
    let (id, number) = segment.split_at_checked(32)?;
    if !is_hex(id) {
        return None;
    }
    let in_task = outer
        .last()
        .is_some_and(|task| task.len() == 32 && is_hex(task));
    match number.split_first() {
        None if in_task => Some(segment),
        Some((b'-', digits)) if !digits.is_empty() && digits.len() <= 20 => {
            digits.iter().all(u8::is_ascii_digit).then_some(segment)
        }
        _ => None,
    }
}

fn is_hex(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0e1d2c3b4a5968778695a4b3c2d1e0f00e1d2c3b4a5968778695a4b3c2d1e0f0";
    const B: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";
    fn container_id(path: &[u8]) -> Option<String> {
        place(path).map(|place| place.id)
    }

    const TASK: &str = "0e1d2c3b4a5968778695a4b3c2d1e0f0";

    #[test]
    fn every_layout() {
        // {A}, {B} and {T} stand for ids; the id expected is on the right.
        for (path, expected) in [
            // Docker
            ("/docker/{A}", "{A}"),
            ("/system.slice/docker-{A}.scope", "{A}"),
            ("/system.slice/docker-{A}.scope/init.scope", "{A}"),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/docker-{A}.scope",
                "{A}",
            ),
            ("/actions_job/{A}", "{A}"),
            // Kubernetes: containerd and CRI-O
            ("/kubepods/burstable/pod3d6e/{A}", "{A}"),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice/cri-containerd-{A}.scope",
                "{A}",
            ),
            ("/kubepods.slice/kubepods-pod1.slice/crio-{A}.scope", "{A}"),
            (
                "/kubepods.slice/kubepods-pod1.slice/crio-{A}.scope/container",
                "{A}",
            ),
            (
                "/kubepods.slice/kubepods-pod1.slice/docker-{A}.scope",
                "{A}",
            ),
            ("/kubepods/pod1/crio-{A}", "{A}"),
            (
                "/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{A}",
                "{A}",
            ),
            ("/../cri-containerd-{A}.scope", "{A}"),
            // Nested: the innermost one
            (
                "/docker/{B}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1.slice/cri-containerd-{A}.scope",
                "{A}",
            ),
            (
                "/system.slice/docker-{B}.scope/kubelet/kubepods/pod1/{A}",
                "{A}",
            ),
            ("/docker/{A}/docker/{B}", "{B}"),
            ("/docker/{A}/kubelet.slice/kubelet.service", "{A}"),
            // podman, nerdctl
            ("/machine.slice/libpod-{A}.scope", "{A}"),
            ("/machine.slice/libpod-{A}.scope/container", "{A}"),
            ("/libpod_parent/libpod-{A}", "{A}"),
            (
                "/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope",
                "{A}",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope",
                "{A}",
            ),
            ("/system.slice/web.service/libpod-payload-{A}", "{A}"),
            ("/default/{A}", "{A}"),
            ("/system.slice/nerdctl-{A}.scope", "{A}"),
            // ECS
            ("/ecs/{T}/{A}", "{A}"),
            ("/ecs/cluster/{T}/{A}", "{A}"),
            ("/ecs/{T}/{T}-2531612879", "{T}-2531612879"),
            ("/ecs/{T}/{T}", "{T}"),
            ("/ecstasks.slice/ecstasks-{T}.slice/docker-{A}.scope", "{A}"),
            // Beside a container, not in it
            (
                "/kubepods.slice/kubepods-pod1.slice/crio-conmon-{A}.scope",
                "",
            ),
            ("/machine.slice/libpod-conmon-{A}.scope", ""),
            ("/libpod_parent/conmon", ""),
            ("/docker/{B}/machine.slice/libpod-conmon-{A}.scope", "{B}"),
            // The host
            ("/", ""),
            ("", ""),
            ("/init.scope", ""),
            ("/system.slice/nginx.service", ""),
            ("/user.slice/user-1000.slice/session-3.scope", ""),
            ("/kubepods.slice/kubepods-pod0e1d2c3b_4a59.slice", ""),
            ("/ecs/{T}", ""),
            ("/x/{T}/{T}", ""),
            ("/ecs/{T}/{T}-", ""),
            ("/machine.slice/machine-libpod_pod_{B}.slice", ""),
            // Not an id
            ("/docker/{A}0", ""),
            ("/docker/x{A}", ""),
            ("/docker/-{A}", ""),
            (
                "/docker/0E1D2C3B4A5968778695A4B3C2D1E0F00E1D2C3B4A5968778695A4B3C2D1E0F0",
                "",
            ),
            ("/system.slice/docker-{A}.service", ""),
        ] {
            let fill = |text: &str| {
                text.replace("{A}", A)
                    .replace("{B}", B)
                    .replace("{T}", TASK)
            };
            let expected = Some(fill(expected)).filter(|id| !id.is_empty());
            assert_eq!(container_id(fill(path).as_bytes()), expected, "{path}");
        }
        assert_eq!(container_id(&[0xff; 100]), None);
    }

    #[test]
    fn runtime_and_pod() {
        const UID: &str = "3d6e1f0a-0b1c-4d2e-8f3a-4b5c6d7e8f90";
        let under = UID.replace('-', "_");
        for (path, runtime, pod) in [
            ("/docker/{A}", "docker", ""),
            ("/system.slice/docker-{A}.scope", "docker", ""),
            ("/actions_job/{A}", "", ""),
            ("/kubepods/burstable/pod{U}/{A}", "", UID),
            ("/kubepods/pod{T}/{A}", "", TASK),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{_}.slice/cri-containerd-{A}.scope",
                "containerd",
                UID,
            ),
            (
                "/kubepods.slice/kubepods-pod{_}.slice/crio-{A}.scope",
                "cri-o",
                UID,
            ),
            (
                "/kubepods.slice/kubepods-pod{_}.slice/crio-{A}.scope/container",
                "cri-o",
                UID,
            ),
            (
                "/docker/{B}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{_}.slice/cri-containerd-{A}.scope",
                "containerd",
                UID,
            ),
            (
                "/system.slice/containerd.service/kubepods-pod{_}.slice:cri-containerd:{A}",
                "containerd",
                UID,
            ),
            ("/machine.slice/libpod-{A}.scope/container", "podman", ""),
            ("/libpod_parent/libpod-{A}", "podman", ""),
            ("/system.slice/nerdctl-{A}.scope", "containerd", ""),
            // Neither a pod's cgroup nor a uid
            ("/kubepods/podinfo/{A}", "", ""),
            (
                "/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope",
                "podman",
                "",
            ),
            ("/x/tripod{U}/{A}", "", ""),
        ] {
            let path = path
                .replace("{A}", A)
                .replace("{B}", B)
                .replace("{T}", TASK)
                .replace("{U}", UID)
                .replace("{_}", &under);
            let found = place(path.as_bytes()).unwrap();
            assert_eq!(found.id, A, "{path}");
            assert_eq!(found.runtime.unwrap_or_default(), runtime, "{path}");
            assert_eq!(found.pod_uid.unwrap_or_default(), pod, "{path}");
        }
    }
}
