//! Facts that somebody outside has to be asked for: a container runtime, Kubernetes.
//!
//! Pure values. A fact is found, asked for, or not to be had; there is no placeholder for one.

/// What is known of something that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fact<T> {
    /// The answer.
    Found(T),
    /// Asked for, and not answered yet.
    Pending,
    /// There is none, or nobody to ask.
    #[default]
    Absent,
}

impl<T> Fact<T> {
    /// The answer, where there is one.
    #[must_use]
    pub const fn found(&self) -> Option<&T> {
        match self {
            Self::Found(fact) => Some(fact),
            Self::Pending | Self::Absent => None,
        }
    }

    /// Whether it may still be answered.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        matches!(self, Self::Pending)
    }
}

/// Names and values, sorted by name.
pub type Labels = Vec<(String, String)>;

/// Labels of a container or pod at most: beyond it are none that anybody set by hand.
const LABELS: usize = 64;
/// Longest name of a label: a DNS prefix, a slash and 63 characters.
const LABEL_NAME_BYTES: usize = 317;
/// Longest value: those of Kubernetes have 63 characters, annotations and labels of images may have any.
const LABEL_VALUE_BYTES: usize = 512;
/// All labels of one list together.
const LABELS_BYTES: usize = 8 * 1024;
/// Longest of all other texts: names of images are the longest of these.
const TEXT_BYTES: usize = 512;
/// Digests and tags at most.
const NAMES: usize = 4;

/// What a runtime says of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// The runtime's own word for itself: `docker`, `containerd`, `cri-o` or `podman`.
    pub runtime: Option<String>,
    /// Its name; of Kubernetes, the name within the pod.
    pub name: Option<String>,
    /// What it was made of.
    pub image: ImageFacts,
    /// Its labels.
    pub labels: Labels,
    /// The pod that it is of.
    pub pod: Option<PodFacts>,
}

/// The image of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its name without tag and digest.
    pub name: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Digests, `sha256:…`.
    pub digests: Vec<String>,
}

/// What a runtime or Kubernetes says of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its uid.
    pub uid: Option<String>,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations, as far as they were asked for.
    pub annotations: Labels,
    /// What made it: the workload, not what stands between (a `Deployment`, not its `ReplicaSet`).
    pub owner: Option<Owner>,
    /// The account that it acts as.
    pub service_account: Option<String>,
    /// The node that it runs on.
    pub node: Option<String>,
    /// Name of the cluster.
    pub cluster: Option<String>,
}

/// What made a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// `Deployment`, `StatefulSet`, `DaemonSet`, `Job`, `CronJob` ...
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl ImageFacts {
    /// Takes a reference apart: `registry:5000/name:tag@sha256:…`. An id alone (`sha256:…`) is a digest.
    #[must_use]
    pub fn parse(reference: &str) -> Self {
        let (named, digest) = match reference.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None if reference.starts_with("sha256:") => ("", Some(reference)),
            None => (reference, None),
        };
        // A colon before the last slash is that of a port.
        let (name, tag) = match named.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            Some(_) | None => (named, None),
        };
        let owned = |text: &str| text.to_owned();
        Self {
            name: Some(name).filter(|name| !name.is_empty()).map(owned),
            tags: tag.map(owned).into_iter().collect(),
            digests: digest.map(owned).into_iter().collect(),
        }
    }
}

impl ContainerFacts {
    /// Sorted, and no larger than the pipeline keeps for each of thousands.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        shorten(&mut self.runtime);
        shorten(&mut self.name);
        shorten(&mut self.image.name);
        for names in [&mut self.image.tags, &mut self.image.digests] {
            names.truncate(NAMES);
            names.iter_mut().for_each(|name| cut(name, TEXT_BYTES));
        }
        self.labels = bounded_labels(self.labels);
        self.pod = self.pod.map(PodFacts::bounded);
        self
    }
}

impl PodFacts {
    /// The same of a pod.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for text in [
            &mut self.namespace,
            &mut self.name,
            &mut self.uid,
            &mut self.service_account,
            &mut self.node,
            &mut self.cluster,
        ] {
            shorten(text);
        }
        if let Some(owner) = &mut self.owner {
            cut(&mut owner.kind, TEXT_BYTES);
            cut(&mut owner.name, TEXT_BYTES);
        }
        self.labels = bounded_labels(self.labels);
        self.annotations = bounded_labels(self.annotations);
        self
    }
}

/// Sorted by name. Too long a value is cut; a label whose name is too long, or for which there is no room, is left
/// out.
fn bounded_labels(mut labels: Labels) -> Labels {
    labels.retain(|(name, _)| !name.is_empty() && name.len() <= LABEL_NAME_BYTES);
    labels.sort();
    labels.dedup_by(|later, earlier| later.0 == earlier.0);
    labels.truncate(LABELS);
    let mut room = LABELS_BYTES;
    for (_, value) in &mut labels {
        cut(value, LABEL_VALUE_BYTES);
    }
    labels.retain(|(name, value)| {
        let fits = room.checked_sub(name.len() + value.len());
        room = fits.unwrap_or(room);
        fits.is_some()
    });
    labels
}

fn shorten(text: &mut Option<String>) {
    if let Some(text) = text {
        cut(text, TEXT_BYTES);
    }
    text.take_if(|text| text.is_empty());
}

fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_images() {
        for (reference, name, tag, digest) in [
            ("nginx", "nginx", "", ""),
            (
                "docker.io/library/nginx:1.27",
                "docker.io/library/nginx",
                "1.27",
                "",
            ),
            ("localhost:5000/a/b", "localhost:5000/a/b", "", ""),
            ("localhost:5000/a/b:c", "localhost:5000/a/b", "c", ""),
            ("r/n:t@sha256:ab", "r/n", "t", "sha256:ab"),
            ("r/n@sha256:ab", "r/n", "", "sha256:ab"),
            ("sha256:ab", "", "", "sha256:ab"),
            ("", "", "", ""),
        ] {
            let image = ImageFacts::parse(reference);
            assert_eq!(image.name.unwrap_or_default(), name, "{reference}");
            assert_eq!(image.tags.concat(), tag, "{reference}");
            assert_eq!(image.digests.concat(), digest, "{reference}");
        }
    }

    #[test]
    fn facts_are_bounded() {
        let many = || {
            (0..100)
                .rev()
                .map(|n| (format!("l{n:02}"), "é".repeat(400)))
        };
        let facts = ContainerFacts {
            name: Some(String::new()),
            labels: many().chain([("x".repeat(400), "y".into())]).collect(),
            ..ContainerFacts::default()
        }
        .bounded();
        assert_eq!(facts.name, None);
        assert_eq!(facts.labels.len(), 8 * 1024 / (512 + 3));
        assert_eq!(facts.labels[0].0, "l00");
        assert!(facts.labels.is_sorted());
        assert_eq!(facts.labels[0].1.len(), 512);
    }
}
