//! What is heard of this node's pods, for the pipeline and on standard error.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Agent;
use super::kubernetes::{Heard, Kubernetes};
use crate::source::Input;

/// How long the start waits for the pods that there are.
const FIRST: Duration = Duration::from_secs(2);

/// What is heard next; nothing where nobody is listened to. Cancel safe.
pub(super) async fn heard(kubernetes: &mut Option<Kubernetes>) -> Heard {
    match kubernetes {
        Some(kubernetes) => kubernetes.heard().await,
        None => std::future::pending().await,
    }
}

impl Agent {
    /// The pods that there are when the agent starts, by a server that answers soon.
    pub(super) async fn first_pods(&mut self) -> io::Result<()> {
        if self.kubernetes.is_none() {
            return Ok(());
        }
        let deadline = Instant::now() + FIRST;
        while let Ok(heard) = timeout_at(deadline, heard(&mut self.kubernetes)).await {
            let is_all = !matches!(heard, Heard::Pod { .. });
            self.hear(heard)?;
            if is_all {
                break;
            }
        }
        Ok(())
    }

    /// What is told of this node's pods.
    pub(super) fn hear(&mut self, heard: Heard) -> io::Result<()> {
        let pods = match heard {
            Heard::Pod { uid, facts } => return self.give(Input::Pod { uid, facts }),
            Heard::Listed(pods) => {
                if !self.pods_listed {
                    eprintln!(
                        "tracer: kubernetes: {pods} pods on this node, and what changes is told"
                    );
                }
                self.pods_listed = true;
                true
            }
            Heard::Silent(why) => {
                self.pods_listed = false;
                eprintln!(
                    "tracer: kubernetes: {why}; until then pods are known as the container runtime tells them"
                );
                false
            }
        };
        if self.enrichment.pods == pods {
            return Ok(());
        }
        self.enrichment.pods = pods;
        self.give(Input::Enrichment(self.enrichment))
    }
}
