//! `kubernetes`: how this node's pods are asked for, and what the user says of the cluster.

use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::check::{Fault, line};

/// Annotations that may be kept.
const MAX_ANNOTATIONS: usize = 64;
/// Longest name of a node: that of a DNS subdomain.
const MAX_NAME: usize = 253;

/// Whether the API server is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enabled {
    /// Where there is one to ask: in a pod, or where a kubeconfig is named.
    #[default]
    Auto,
    /// Yes; where there is none, the agent does not start.
    Always,
    /// No: pods are known as the container runtime tells them.
    Never,
}

/// `kubernetes`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileKubernetes {
    /// `auto` (default), `always`, `never`.
    pub enabled: Option<Enabled>,
    /// Name of this node; else that of the environment (`NODE_NAME`), else the host's name.
    pub node_name: Option<Spanned<String>>,
    /// Name of the cluster, for documents; else that of the environment (`CLUSTER_NAME`).
    pub cluster_name: Option<Spanned<String>>,
    /// A file with server and credentials, where the agent is not in a pod.
    pub kubeconfig: Option<Spanned<PathBuf>>,
    /// Names of annotations that are kept; none by default.
    pub annotations: Option<Vec<Spanned<String>>>,
}

/// The same, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubernetes {
    /// Whether the API server is asked.
    pub enabled: Enabled,
    /// Name of this node.
    pub node_name: Option<String>,
    /// Name of the cluster.
    pub cluster_name: Option<String>,
    /// A file with server and credentials.
    pub kubeconfig: Option<PathBuf>,
    /// Names of annotations that are kept.
    pub annotations: Vec<String>,
}

impl FileKubernetes {
    pub(super) fn settings(self) -> Kubernetes {
        let text = |text: Option<Spanned<String>>| text.map(|text| text.value);
        Kubernetes {
            enabled: self.enabled.unwrap_or_default(),
            node_name: text(self.node_name),
            cluster_name: text(self.cluster_name),
            kubeconfig: self.kubeconfig.map(|path| path.value),
            annotations: self
                .annotations
                .into_iter()
                .flatten()
                .map(|name| name.value)
                .collect(),
        }
    }
}

pub(super) fn check(config: &FileKubernetes) -> Result<(), Fault> {
    let names = [
        ("node_name", &config.node_name),
        ("cluster_name", &config.cluster_name),
    ];
    for (key, name) in names {
        if let Some(name) = name
            && let Some(fault) = fault(&name.value)
        {
            return Err((line(name), format!("kubernetes.{key}: {fault}")));
        }
    }
    if let Some(path) = &config.kubeconfig
        && path.value.as_os_str().is_empty()
    {
        let message = "kubernetes.kubeconfig: an empty path; name a file, or leave the key out";
        return Err((line(path), message.to_owned()));
    }
    for (index, name) in config.annotations.iter().flatten().enumerate() {
        let fault = if index >= MAX_ANNOTATIONS {
            Some(format!("more than {MAX_ANNOTATIONS} of them"))
        } else {
            fault(&name.value)
        };
        if let Some(fault) = fault {
            return Err((line(name), format!("kubernetes.annotations: {fault}")));
        }
    }
    Ok(())
}

/// Neither a node nor an annotation has a name like that: a comma would begin another condition of what is asked.
fn fault(name: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
    if name.is_empty() {
        Some("an empty name; leave it out".to_owned())
    } else if name.len() > MAX_NAME {
        Some(format!("longer than {MAX_NAME} characters"))
    } else if !name.chars().all(is_part) {
        Some(format!(
            "{name:?} has other characters than letters, digits and -._/"
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["node-a", "ip-10-0-0-1.eu.internal", "a/b_c"] {
            assert_eq!(fault(name), None, "{name}");
        }
        for name in [
            "",
            "a,spec.nodeName!=b",
            "a=b",
            "a b",
            "a\n",
            &"x".repeat(254),
        ] {
            assert!(fault(name).is_some(), "{name:?}");
        }
    }
}
