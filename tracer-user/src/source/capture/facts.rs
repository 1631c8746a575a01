//! Facts of containers and pods as bytes.
//!
//! Each part that there is begins with a byte that is not zero; lists begin with their length.

use super::{Fields, put_text};
use crate::enrich::facts::{ContainerFacts, ImageFacts, Labels, Owner, PodFacts};
use crate::source::{ExceptionPart, Input};

pub(super) fn put_container(payload: &mut Vec<u8>, id: &str, facts: Option<&ContainerFacts>) {
    put_text(payload, id.as_bytes());
    payload.push(u8::from(facts.is_some()));
    let Some(ContainerFacts {
        runtime,
        name,
        image:
            ImageFacts {
                name: image,
                tags,
                digests,
            },
        labels,
        pod,
    }) = facts
    else {
        return;
    };
    put_texts(payload, [runtime, name, image]);
    put_list(payload, tags);
    put_list(payload, digests);
    put_labels(payload, labels);
    payload.push(u8::from(pod.is_some()));
    if let Some(pod) = pod {
        put_pod(payload, pod);
    }
}

pub(super) fn put_pod_of(payload: &mut Vec<u8>, uid: &str, facts: Option<&PodFacts>) {
    put_text(payload, uid.as_bytes());
    payload.push(u8::from(facts.is_some()));
    if let Some(pod) = facts {
        put_pod(payload, pod);
    }
}

pub(super) fn put_exceptions(payload: &mut Vec<u8>, part: &ExceptionPart) {
    if let ExceptionPart::Text { file, text } = part {
        put_text(payload, file.as_bytes());
        put_text(payload, text.as_bytes());
    }
}

fn put_pod(payload: &mut Vec<u8>, pod: &PodFacts) {
    let PodFacts {
        namespace,
        name,
        uid,
        labels,
        annotations,
        owner,
        service_account,
        node,
        cluster,
    } = pod;
    put_texts(
        payload,
        [namespace, name, uid, service_account, node, cluster],
    );
    put_labels(payload, labels);
    put_labels(payload, annotations);
    payload.push(u8::from(owner.is_some()));
    if let Some(Owner { kind, name }) = owner {
        put_text(payload, kind.as_bytes());
        put_text(payload, name.as_bytes());
    }
}

/// Texts that are never empty where they are known.
fn put_texts<const N: usize>(payload: &mut Vec<u8>, texts: [&Option<String>; N]) {
    for text in texts {
        put_text(payload, text.as_deref().unwrap_or_default().as_bytes());
    }
}

fn put_list(payload: &mut Vec<u8>, texts: &[String]) {
    let count = u8::try_from(texts.len()).unwrap_or(u8::MAX);
    payload.push(count);
    for text in texts.iter().take(count.into()) {
        put_text(payload, text.as_bytes());
    }
}

fn put_labels(payload: &mut Vec<u8>, labels: &Labels) {
    let count = u8::try_from(labels.len()).unwrap_or(u8::MAX);
    payload.push(count);
    for (name, value) in labels.iter().take(count.into()) {
        put_text(payload, name.as_bytes());
        put_text(payload, value.as_bytes());
    }
}

impl Fields<'_> {
    pub(super) fn container(&mut self) -> Result<Input, &'static str> {
        let id = self.string()?;
        if !self.flag()? {
            return Ok(Input::Container { id, facts: None });
        }
        let facts = ContainerFacts {
            runtime: self.known()?,
            name: self.known()?,
            image: ImageFacts {
                name: self.known()?,
                tags: self.list()?,
                digests: self.list()?,
            },
            labels: self.labels()?,
            pod: if self.flag()? {
                Some(self.pod()?)
            } else {
                None
            },
        };
        Ok(Input::Container {
            id,
            facts: Some(Box::new(facts)),
        })
    }

    pub(super) fn pod_of(&mut self) -> Result<Input, &'static str> {
        let uid = self.string()?;
        let facts = if self.flag()? {
            Some(Box::new(self.pod()?))
        } else {
            None
        };
        Ok(Input::Pod { uid, facts })
    }

    pub(super) fn exceptions(&mut self) -> Result<Input, &'static str> {
        if self.0.is_empty() {
            return Ok(Input::Exceptions(ExceptionPart::End));
        }
        Ok(Input::Exceptions(ExceptionPart::Text {
            file: self.string()?,
            text: self.string()?,
        }))
    }

    fn pod(&mut self) -> Result<PodFacts, &'static str> {
        let (namespace, name, uid) = (self.known()?, self.known()?, self.known()?);
        let (service_account, node, cluster) = (self.known()?, self.known()?, self.known()?);
        Ok(PodFacts {
            namespace,
            name,
            uid,
            service_account,
            node,
            cluster,
            labels: self.labels()?,
            annotations: self.labels()?,
            owner: if self.flag()? {
                Some(Owner {
                    kind: self.string()?,
                    name: self.string()?,
                })
            } else {
                None
            },
        })
    }

    fn known(&mut self) -> Result<Option<String>, &'static str> {
        Ok(Some(self.string()?).filter(|text| !text.is_empty()))
    }

    fn list(&mut self) -> Result<Vec<String>, &'static str> {
        let [count] = self.array()?;
        (0..count).map(|_| self.string()).collect()
    }

    fn labels(&mut self) -> Result<Labels, &'static str> {
        let [count] = self.array()?;
        (0..count)
            .map(|_| Ok((self.string()?, self.string()?)))
            .collect()
    }
}

/// Facts with every part.
#[cfg(test)]
pub(super) fn sample() -> ContainerFacts {
    let some = |text: &str| Some(text.to_owned());
    let labels = |name: &str| vec![(name.to_owned(), "v".to_owned()), ("é".into(), "".into())];
    ContainerFacts {
        runtime: some("containerd"),
        name: some("web"),
        image: ImageFacts {
            name: some("docker.io/library/nginx"),
            tags: vec!["1.27".into()],
            digests: vec!["sha256:ab".into()],
        },
        labels: labels("a"),
        pod: Some(PodFacts {
            namespace: some("shop"),
            name: some("web-0"),
            uid: some("3d6e1f0a-0b1c-4d2e-8f3a-4b5c6d7e8f90"),
            labels: labels("b"),
            annotations: labels("c"),
            owner: Some(Owner {
                kind: "StatefulSet".into(),
                name: "web".into(),
            }),
            service_account: some("default"),
            node: some("n1"),
            cluster: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::capture::{FRAME_BYTES, Writer};

    #[test]
    fn exceptions_come_back() {
        let inputs = [
            Input::Exceptions(ExceptionPart::Text {
                file: "a.yml".into(),
                text: "é\n".repeat(16 * 1024 / 3),
            }),
            Input::Exceptions(ExceptionPart::End),
        ];
        let mut writer = Writer::new(Vec::new()).unwrap();
        for input in &inputs {
            writer.write(input).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let read = crate::source::capture::Reader::new(bytes.as_slice()).unwrap();
        let read: Result<Vec<Input>, _> = read.collect();
        assert_eq!(read.unwrap(), inputs);
    }

    /// The largest facts that the bounds let through go into a frame.
    #[test]
    fn bounded_facts_fit() {
        let text = || Some("x".repeat(10_000));
        let labels = || -> Labels {
            (0..200)
                .map(|n| (format!("{n:03}{}", "n".repeat(300)), "v".repeat(600)))
                .collect()
        };
        let names = || vec!["t".repeat(10_000); 10];
        let facts = ContainerFacts {
            runtime: text(),
            name: text(),
            image: ImageFacts {
                name: text(),
                tags: names(),
                digests: names(),
            },
            labels: labels(),
            pod: Some(PodFacts {
                namespace: text(),
                name: text(),
                uid: text(),
                labels: labels(),
                annotations: labels(),
                owner: Some(Owner {
                    kind: "k".repeat(10_000),
                    name: "n".repeat(10_000),
                }),
                service_account: text(),
                node: text(),
                cluster: text(),
            }),
        };
        let input = Input::Container {
            id: "i".repeat(1024),
            facts: Some(Box::new(facts.bounded())),
        };
        let mut writer = Writer::new(Vec::new()).unwrap();
        writer.write(&input).unwrap();
        assert!(writer.finish().unwrap().len() < FRAME_BYTES);
    }
}
