//! Ids: the same for the same thing, different for different ones.

use std::collections::BTreeSet;

use serde_json::Value;
use tracer::config::Emit;
use tracer::event::TICK_NS;
use tracer::source::Input;

use crate::replay::STORY;
use crate::story::{MS, documents, inputs, json};

fn ids(inputs: &[Input]) -> Vec<String> {
    json(&documents(Emit::All, inputs))
        .lines()
        .map(|line| {
            let document: Value = serde_json::from_str(line).unwrap();
            document["event"]["id"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn every_document_has_an_id_of_its_own() {
    let story = format!(
        "observed 50 /usr/bin/node node x\nlisten 50 :at=0 80\nlisten 50 :at=0 443\n{STORY}\n\
         exec 900 :at=9000 :tid=900 /usr/bin/id\nexec 900 :at=9000 :tid=901 /usr/bin/id"
    );
    let inputs = inputs(&story);
    let all = ids(&inputs);
    let distinct: BTreeSet<&String> = all.iter().collect();
    assert!(all.len() > 30);
    assert_eq!(distinct.len(), all.len());
    assert_eq!(all, ids(&inputs));
}

#[test]
fn another_boot_gives_other_ids() {
    let mut inputs = inputs(STORY);
    let here = ids(&inputs);
    let Input::Host(host) = &mut inputs[0] else {
        panic!("the host is first")
    };
    host.boot_id.push('x');
    let there = ids(&inputs);
    assert!(here.iter().all(|id| !there.contains(id)));
}

/// An agent that saw a process begin and one that found it running name it alike.
#[test]
fn entity_ids_do_not_depend_on_who_saw_the_process_begin() {
    let seen = documents(
        Emit::Events,
        &inputs("observed 1 /sbin/init\nend\nfork 1>20\nexec 20 /usr/sbin/nginx"),
    );
    let seen = &seen.last().unwrap().event.process;
    // /proc gives whole ticks; the hook gave nanoseconds.
    let start_ms = seen.key.start_ticks * TICK_NS / MS;
    assert_ne!(seen.start_boot_ns, start_ms * MS);
    let found = documents(
        Emit::Events,
        &inputs(&format!(
            "observed 1 /sbin/init\nobserved 20 :start={start_ms} /usr/sbin/nginx\nend\nexit 20 0"
        )),
    );
    let found = &found.last().unwrap().event.process;
    assert_eq!(found.entity_id, seen.entity_id);
    // The next process of that number is another.
    let next = documents(
        Emit::Events,
        &inputs("observed 1 /sbin/init\nend\nwait 5s\nfork 1>20\nexec 20 /usr/sbin/nginx"),
    );
    assert_ne!(next.last().unwrap().event.process.entity_id, seen.entity_id);
}

/// A number that is used again is another process, whether or not the end of the first was seen; and what
/// the first left stays its own.
#[test]
fn a_number_used_again_is_another_process() {
    for end in ["exit 20 0\n", ""] {
        let story = format!(
            "observed 1 /sbin/init\nend\nfork 1>10\nexec 10 /usr/sbin/nginx\nfork 10>20\nexec 20 /usr/bin/convert\n\
             fork 20>21\n{end}wait 1s\nfork 1>20\nexec 20 /usr/bin/id\nopen 20 write /tmp/a\nopen 21 write /tmp/b"
        );
        let events = documents(Emit::Events, &inputs(&story));
        let [.., second, orphan] = &*events else {
            panic!("two events at least")
        };
        let (second, orphan) = (&second.event, &orphan.event);
        assert_eq!(
            (second.process.key.tgid, second.lineage[0].key.tgid),
            (20, 1)
        );
        // The child of the first goes on to descend from that.
        assert_eq!(orphan.lineage[0].key.tgid, 20);
        assert_ne!(orphan.lineage[0].entity_id, second.process.entity_id);
        assert_eq!(orphan.lineage[1].key.tgid, 10);
        assert!(orphan.lineage[0].ended.is_some());
    }
}
