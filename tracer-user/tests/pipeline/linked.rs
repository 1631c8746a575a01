//! Links between lineages: what the store keeps of them, and for how long.

use std::fmt::Write as _;

use tracer::config::Emit;
use tracer::event::{Event, Payload, ProcessKey, decode};
use tracer::lineage::process::{Link, Process, Via};
use tracer::lineage::{Retag, Store};
use tracer::memory::Budget;
use tracer_common::tag::{Role, via};

use crate::story::{documents, inputs, records};

const HOST: &str = "fork 1>10\nexec 10 /usr/sbin/php-fpm8.2\nfork 10>11\nfork 11>20\n\
    exec 20 :tag=app/1 /usr/bin/dash sh\nfork 1>30\n";

struct Told {
    store: Store,
    retags: Vec<Retag>,
    events: Vec<Event>,
}

fn tell(story: &str) -> Told {
    let mut told = Told {
        store: Store::new(Budget::default().store),
        retags: Vec::new(),
        events: Vec::new(),
    };
    for record in records(story) {
        let event = decode(&record).unwrap();
        told.store.apply(&event, &mut told.retags);
        told.events.push(event);
    }
    told
}

impl Told {
    /// The process that has or had a number last.
    fn key(&self, tgid: u32) -> ProcessKey {
        let subjects = self.events.iter().rev().flat_map(|event| {
            let child = match &event.payload {
                Payload::Fork(fork) => Some(fork.child),
                _ => None,
            };
            [Some(event.meta.subject), child]
        });
        let mut keys = subjects.flatten();
        keys.find(|key| key.tgid == tgid).unwrap()
    }

    fn process(&self, tgid: u32) -> &Process {
        self.store.get(self.key(tgid)).unwrap()
    }

    fn linked(&self, tgid: u32) -> Vec<u32> {
        let linked = self.store.linked(self.key(tgid));
        linked.map(|process| process.key.tgid).collect()
    }
}

#[test]
fn who_executes_what_a_server_wrote_is_linked_to_it() {
    let told = tell(&format!(
        "{HOST}open 20 :tag=app/1 created /tmp/x\n\
         exec 30 :writer=20 :writer-tag=app/1 :tag=app/2/file /tmp/x\nfork 30>31"
    ));
    let link = told.process(30).link.unwrap();
    assert_eq!((link.from, link.via), (told.key(20), Via::File));
    assert_eq!(told.linked(30), [20, 11, 10, 1]);
    // Its children by their creator.
    assert_eq!(told.process(31).link, None);
    assert_eq!(told.store.link(told.key(31)), Some(link));
    assert_eq!(told.linked(31), [20, 11, 10, 1]);
    // Those of the server's own lineage by nobody.
    assert_eq!(told.linked(20), [0; 0]);
}

#[test]
fn a_tag_that_the_kernel_could_not_give() {
    let told = tell(&format!(
        "{HOST}exec 30 :writer=20 :writer-tag=app/1 /tmp/x"
    ));
    let tag = told.process(30).tag;
    assert_eq!(
        (tag.roles, tag.distance, tag.via),
        (Role::App.bit(), 2, via::FILE)
    );
    assert!(
        told.retags.contains(&Retag::Set(told.process(30).key, tag)),
        "{:?}",
        told.retags
    );
}

#[test]
fn a_servers_own_work_is_no_link() {
    let told = tell(&format!(
        "{HOST}fork 20>21\nexec 21 :writer=20 :writer-tag=app/1 :tag=app/2 /tmp/x"
    ));
    assert_eq!(told.process(21).link, None);
}

#[test]
fn the_script_of_an_interpreter() {
    let told = tell(&format!(
        "{HOST}exec 30 /usr/bin/dash sh /tmp/x\n\
         read 30 :writer=20 :writer-tag=app/1 :tag=app/2/file /tmp/x"
    ));
    let process = told.process(30);
    assert_eq!(process.link.map(|link| link.via), Some(Via::File));
    assert_eq!(process.tag.via, via::FILE);
    assert_eq!(told.linked(30), [20, 11, 10, 1]);
}

#[test]
fn who_is_reached_into() {
    let told = tell(&format!(
        "{HOST}trace 20 :tag=app/1 :target-tag=app/1/trace ptrace 30"
    ));
    let process = told.process(30);
    let link = process.link.unwrap();
    assert_eq!((link.from, link.via), (told.key(20), Via::Trace));
    assert_eq!(
        (process.tag.roles, process.tag.via),
        (Role::App.bit(), via::TRACE)
    );
    assert_eq!(told.linked(30), [20, 11, 10, 1]);
    // A process of the same server is none of another lineage.
    let told = tell(&format!(
        "{HOST}fork 20>21\ntrace 20 :tag=app/1 :target-tag=app/2/trace ptrace 21"
    ));
    assert_eq!(told.process(21).link, None);
}

#[test]
fn links_lead_on_and_come_to_an_end() {
    let told = tell(&format!(
        "{HOST}fork 1>31\n\
         trace 20 :tag=app/1 :target-tag=app/1/trace ptrace 30\n\
         trace 30 :tag=app/1/trace :target-tag=app/1/trace ptrace 31"
    ));
    assert_eq!(told.linked(31), [30, 20, 11, 10, 1]);
    // Two of different servers reach into each other.
    let told = tell(&format!(
        "{HOST}fork 1>40\nexec 40 /usr/sbin/mariadbd\n\
         trace 20 :tag=app/1 :target-tag=database/0/trace ptrace 40\n\
         trace 40 :tag=database/0/trace :target-tag=database/1/trace ptrace 20"
    ));
    let from = |tgid| told.process(tgid).link.map(|Link { from, .. }| from.tgid);
    assert_eq!((from(40), from(20)), (Some(20), Some(40)));
    assert_eq!(told.linked(40), [20, 11, 10, 1]);
    assert_eq!(told.linked(20), [40, 20, 11, 10, 1]);
}

#[test]
fn who_wrote_is_known_hours_later() {
    let wrote = format!("{HOST}open 20 :tag=app/1 created /tmp/x\nexit 20 0\nexit 30 0\n");
    let later =
        "wait 36000s\nfork 1>50\nexec 50 :writer=20 :writer-tag=app/1 :tag=app/2/file /tmp/x";
    let told = tell(&format!("{wrote}{later}"));
    assert!(
        told.store.get(told.key(30)).is_none(),
        "it left nothing behind"
    );
    assert_eq!(told.linked(50), [20, 11, 10, 1]);

    // Not for ever: others that wrote later push it out.
    let mut story = wrote;
    for pid in 1000..2100 {
        writeln!(
            story,
            "fork 11>{pid}\nopen {pid} :tag=app/1 created /tmp/{pid}\nexit {pid} 0"
        )
        .unwrap();
    }
    story.push_str("wait 60s\nfork 1>60\n");
    let told = tell(&story);
    assert!(told.store.get(told.key(20)).is_none());
    assert!(told.store.get(told.key(2099)).is_some());
    assert!(told.store.len() < 1100, "{}", told.store.len());
}

#[test]
fn credentials_are_told_where_they_change() {
    let story = format!(
        "{HOST}now\ncredentials 20 :tag=app/1 33\ncredentials 20 :tag=app/1 33\n\
         credentials 20 :tag=app/1 0\nfork 20>21\ncredentials 21 :tag=app/2 0"
    );
    let told: Vec<u32> = documents(Emit::Events, &inputs(&story))
        .iter()
        .filter_map(|document| match &document.event.event.payload {
            Payload::Credentials(credentials) => Some(credentials.ids.uid),
            _ => None,
        })
        .collect();
    assert_eq!(told, [33, 0]);
}
