//! The pods of this node, told by the API server.
//!
//! A list and then a watch, never a poll, on a thread with a runtime of its own: TLS, JSON and a server that does
//! not answer hold up nothing. What is asked for is the pods of one node and nothing else, so that an agent costs
//! a large cluster no more than its own node. It writes nothing, and starts no program for credentials.
//!
//! Where the server is not to be had, the agent works on: pods are then known as far as the container runtime
//! tells, and what goes out does not wait for more.

mod access;
mod watch;

use std::io;

use tokio::sync::mpsc;

pub use self::access::{Access, Seen, probe, settle};
use crate::enrich::facts::PodFacts;
use crate::enrich::kubernetes::Cluster;

/// Messages under way: beyond it the watch waits, and with it the server.
const UNDER_WAY: usize = 64;

/// What is heard of this node's pods.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A pod as it is now; `None` where it is gone.
    Pod {
        /// Its uid as the node knows it.
        uid: String,
        /// What is known of it.
        facts: Option<Box<PodFacts>>,
    },
    /// Every pod that there is has been told, and changes will be.
    Listed(usize),
    /// Nobody tells of pods from now on, and why.
    Silent(String),
}

/// The watch. It ends when this is dropped.
pub(super) struct Kubernetes {
    heard: mpsc::Receiver<Heard>,
    ended: bool,
}

impl Kubernetes {
    /// Begins to watch.
    ///
    /// # Errors
    ///
    /// There is no thread for it.
    pub(super) fn begin(access: Access, cluster: Cluster) -> io::Result<Self> {
        let (tell, heard) = mpsc::channel(UNDER_WAY);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let watch = async move {
            let asked = tell.clone();
            tokio::select! {
                () = watch::watch(&access, cluster, tell) => {}
                () = asked.closed() => {}
            }
        };
        std::thread::Builder::new()
            .name("tracer-pods".into())
            .spawn(move || {
                runtime.block_on(watch);
                // Nothing is waited for that may not answer: the name of a server may be looked up.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            heard,
            ended: false,
        })
    }

    /// Waits for what is heard next. Cancel safe.
    pub(super) async fn heard(&mut self) -> Heard {
        if !self.ended {
            if let Some(heard) = self.heard.recv().await {
                return heard;
            }
            self.ended = true;
            return Heard::Silent("the thread that watches them has ended".into());
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
