//! Lists and watches, and goes on doing so.
//!
//! `kube`'s watcher keeps the place (resource versions, bookmarks) and lists again where the server has forgotten
//! it. Here is what it leaves open: who is gone since the last list, what is told only once, and when to begin
//! anew. A client made anew reads its credentials anew, so a token that was replaced is taken up at once.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};

use super::Heard;
use super::access::{Access, why, words};
use crate::enrich::facts::PodFacts;
use crate::enrich::kubernetes::{Cluster, Pod, told};

/// Pods of one node that are told of: several times what a node can have (`maxPods`, 110 by default).
pub(super) const PODS: usize = 1024;
/// How long the next answer of a list may take.
const LISTING: Duration = Duration::from_secs(30);
/// The pause where the back-off has no more to say.
const PAUSE: Duration = Duration::from_secs(30);

/// Watches until nobody listens any more.
pub(super) async fn watch(access: &Access, cluster: Cluster, tell: Sender<Heard>) {
    let mut pods = Pods {
        cluster,
        tell,
        known: HashMap::new(),
        refused: false,
        silent: None,
    };
    // From 0.8 to 30 seconds and as much again by chance, so that the agents of a cluster do not come at once.
    let mut backoff = DefaultBackoff::default();
    loop {
        let why = match access.api().await {
            Ok((server, api)) => pods.follow(access, &server, api, &mut backoff).await,
            Err(why) => why,
        };
        pods.fall_silent(why).await;
        sleep(backoff.next().unwrap_or(PAUSE)).await;
    }
}

struct Pods {
    cluster: Cluster,
    tell: Sender<Heard>,
    /// What was told of each, as a fingerprint: most changes of a pod are of its status.
    known: HashMap<String, u64>,
    /// Said that there are more pods than are told of.
    refused: bool,
    /// Why nobody tells of pods, where that is so and was said.
    silent: Option<String>,
}

impl Pods {
    /// Tells what the server does, until it has to be begun anew: why.
    async fn follow(
        &mut self,
        access: &Access,
        server: &str,
        api: Api<Pod>,
        backoff: &mut DefaultBackoff,
    ) -> String {
        // Whatever state the server has at hand, not the newest that its store can find: a list of every node
        // from the store is what brings a large cluster down. What is newer comes by the watch. Such a list has no
        // pages; it is of one node.
        let config = watcher::Config {
            page_size: None,
            ..watcher::Config::default()
                .fields(&access.selector())
                .any_semantic()
        };
        let mut events = pin!(watcher(api, config));
        // Those of the list that is being read.
        let mut list: Option<HashSet<String>> = None;
        // A connection that the server closed while it was idle fails when it is used next.
        let mut failed = false;
        loop {
            let event = match &list {
                None => events.next().await,
                Some(_) => match timeout(LISTING, events.next()).await {
                    Ok(event) => event,
                    Err(_) => {
                        let seconds = LISTING.as_secs();
                        return format!("{server} did not answer within {seconds} s");
                    }
                },
            };
            failed = match &event {
                Some(Err(watcher::Error::WatchStartFailed(error))) => {
                    if failed || matches!(error, kube::Error::Api(_)) {
                        return why(server, error);
                    }
                    true
                }
                _ => false,
            };
            match event {
                Some(Ok(Event::Init)) => list = Some(HashSet::new()),
                Some(Ok(Event::InitApply(pod))) => {
                    let uid = self.seen(pod).await;
                    if let Some(list) = &mut list {
                        list.extend(uid);
                    }
                }
                Some(Ok(Event::InitDone)) => self.listed(list.take().unwrap_or_default()).await,
                Some(Ok(Event::Apply(pod))) => {
                    self.seen(pod).await;
                }
                Some(Ok(Event::Delete(pod))) => {
                    if let Some((uid, _)) = told(pod, &self.cluster) {
                        self.gone(uid).await;
                    }
                }
                // The place is kept, or the watcher lists again by itself (410).
                Some(Err(
                    watcher::Error::WatchFailed(_)
                    | watcher::Error::WatchError(_)
                    | watcher::Error::WatchStartFailed(_),
                )) => {
                    list = None;
                    sleep(backoff.next().unwrap_or(PAUSE)).await;
                }
                Some(Err(watcher::Error::InitialListFailed(error))) => return why(server, &error),
                Some(Err(error @ watcher::Error::NoResourceVersion)) => {
                    return format!("{server}: {}", words(&error.to_string()));
                }
                None => return format!("{server}: the watch has ended"),
            }
        }
    }

    /// Tells of a pod what was not told before; its uid.
    async fn seen(&mut self, pod: Pod) -> Option<String> {
        let name = pod.name_any();
        let (uid, facts) = told(pod, &self.cluster)?;
        let print = fingerprint(&facts);
        if self.known.get(&uid) == Some(&print) {
            return Some(uid);
        }
        if self.known.len() >= PODS && !self.known.contains_key(&uid) {
            if !self.refused {
                self.refused = true;
                eprintln!(
                    "tracer: kubernetes: more than {PODS} pods on this node; {} and others are left out",
                    words(&name)
                );
            }
            return None;
        }
        self.known.insert(uid.clone(), print);
        self.say(Heard::Pod {
            uid: uid.clone(),
            facts: Some(Box::new(facts)),
        })
        .await;
        Some(uid)
    }

    async fn gone(&mut self, uid: String) {
        if self.known.remove(&uid).is_some() {
            self.say(Heard::Pod { uid, facts: None }).await;
        }
    }

    /// A list is complete: what is not in it is gone.
    async fn listed(&mut self, list: HashSet<String>) {
        let mut gone: Vec<String> = self
            .known
            .keys()
            .filter(|uid| !list.contains(*uid))
            .cloned()
            .collect();
        gone.sort();
        for uid in gone {
            self.gone(uid).await;
        }
        self.silent = None;
        self.say(Heard::Listed(self.known.len())).await;
    }

    /// Says that nobody tells of pods; of the same reason once.
    async fn fall_silent(&mut self, why: String) {
        if self.silent.as_ref() != Some(&why) {
            self.silent = Some(why.clone());
            self.say(Heard::Silent(why)).await;
        }
    }

    async fn say(&self, heard: Heard) {
        // Where nobody listens any more, the watch is ended from outside.
        let _nobody_listens = self.tell.send(heard).await;
    }
}

fn fingerprint(facts: &PodFacts) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{facts:?}").hash(&mut hasher);
    hasher.finish()
}
