//! Containers: what alerts wait for and what they do not, and who came in by `exec`.

use tracer::alert::{Alert, Document};
use tracer::config::Emit;
use tracer::memory::Budget;
use tracer::pipeline::{Command, Pipeline};
use tracer::source::Input;
use tracer::source::capture::{Reader, Writer};

use crate::story::{Teller, documents, inputs, json, preamble, run};

const A: &str = "0e1d2c3b4a5968778695a4b3c2d1e0f00e1d2c3b4a5968778695a4b3c2d1e0f0";
const B: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

/// Two servers in containers and one on the host; `{A}` and `{B}` stand for ids.
const HOST: &str = "
    observed 1 /sbin/init
    observed 5 :parent=1 /usr/sbin/php-fpm8.2 php-fpm8.2
    end
    fork 1>10
    fork 1>11 :vpid=1 :pidns=7
    exec 11 :vpid=1 :pidns=7 :cgroup=/docker/{A} /usr/sbin/php-fpm8.2 php-fpm8.2
    fork 1>12 :vpid=1 :pidns=8
    exec 12 :vpid=1 :pidns=8 :cgroup=/docker/{B} /usr/sbin/php-fpm8.2 php-fpm8.2
    listen 5 9000
    listen 11 9000
    listen 12 9000
    wait 90s
    now";

fn story(text: &str) -> String {
    text.replace("{A}", A).replace("{B}", B)
}

/// A shell of each server: of those in containers, then of the host.
fn shells() -> &'static str {
    "
    fork 11>20 :vpid=20 :pidns=7
    exec 20 :vpid=20 :pidns=7 :cgroup=/docker/{A} /usr/bin/dash sh -c id
    fork 12>21 :vpid=21 :pidns=8
    exec 21 :vpid=21 :pidns=8 :cgroup=/docker/{B} /usr/bin/dash sh -c id
    fork 5>22
    exec 22 /usr/bin/dash sh -c id
    now"
}

/// A pipeline that has been told a story, and its teller, which goes on.
struct Told {
    pipeline: Pipeline,
    teller: Teller,
    /// All that it was told.
    inputs: Vec<Input>,
}

impl Told {
    fn new(text: &str) -> Self {
        let mut told = Self {
            pipeline: Pipeline::new(Emit::Alerts, Budget::default()),
            teller: Teller::default(),
            inputs: Vec::new(),
        };
        told.give(preamble());
        told.tell(text);
        told
    }

    fn give(&mut self, inputs: Vec<Input>) {
        for input in inputs {
            self.pipeline.input(input.clone());
            self.inputs.push(input);
        }
    }

    /// What is written of these lines: pid, name of the container, what was not answered.
    fn tell(&mut self, text: &str) -> Vec<String> {
        let inputs = self.teller.tell(&story(text));
        self.give(inputs);
        self.pipeline.take_documents().iter().map(said).collect()
    }

    fn asked(&mut self) -> Vec<(String, Option<&'static str>, u32)> {
        let commands = self.pipeline.take_commands().into_iter();
        commands
            .filter_map(|command| match command {
                Command::Container(asked) => Some((asked.id, asked.runtime, asked.process.tgid)),
                _ => None,
            })
            .collect()
    }
}

fn said(document: &Document) -> String {
    let event = &document.event;
    let facts = event.process.container.as_ref();
    let name = facts.and_then(|view| view.facts.found()?.name.clone());
    let mut words = vec![event.process.key.tgid.to_string()];
    words.extend(name);
    words.extend(event.pending().iter().map(|word| format!("{word}?")));
    words.join(" ")
}

#[test]
fn an_answer_in_time_is_waited_for() {
    let mut told = Told::new(&format!("asks 250{HOST}"));
    // Each is asked for once, when it is first seen.
    assert_eq!(
        told.asked(),
        [
            (A.to_owned(), Some("docker"), 11),
            (B.to_owned(), Some("docker"), 12)
        ]
    );
    // What is not in a container does not wait.
    assert_eq!(told.tell(shells()), ["22"]);
    assert!(told.asked().is_empty());
    assert!(told.pipeline.holds_alerts());
    // The one whose facts are there goes, whatever came before it.
    assert_eq!(told.tell("container {B} shop img:1"), ["21 shop"]);
    assert_eq!(told.tell("container {A} web img:1 ns/web-0"), ["20 web"]);
    assert!(!told.pipeline.holds_alerts());
    assert_eq!(told.tell("wait 1s\nnow"), Vec::<String>::new());
    // From then on nothing waits.
    assert_eq!(
        told.tell(
            "fork 11>30 :vpid=30 :pidns=7
            exec 30 :vpid=30 :pidns=7 :cgroup=/docker/{A} /usr/bin/bash bash -i
            now"
        ),
        ["30 web"]
    );
}

#[test]
fn an_answer_too_late_is_not() {
    let mut told = Told::new(&format!("asks 250{HOST}"));
    assert_eq!(told.tell(shells()), ["22"]);
    assert_eq!(told.tell("wait 200ms\nnow"), Vec::<String>::new());
    assert_eq!(told.tell("container {B} shop img:1"), ["21 shop"]);
    assert_eq!(told.tell("wait 60ms\nnow"), ["20 container?"]);
    assert_eq!(told.tell("container {A} web img:1"), Vec::<String>::new());
    assert_eq!(
        told.pipeline
            .counts()
            .iter()
            .find(|(name, _)| *name == "alerts_not_enriched"),
        Some(&("alerts_not_enriched", 1))
    );
}

#[test]
fn nobody_knows_it() {
    let mut told = Told::new(&format!("asks 250{HOST}"));
    told.tell(shells());
    // That is an answer too: nothing is pending.
    assert_eq!(told.tell("container {A}"), ["20"]);
    // What is known is not forgotten because the runtime has forgotten it.
    assert_eq!(
        told.tell("container {B} shop img:1\ncontainer {B}"),
        ["21 shop"]
    );
    assert_eq!(
        told.tell(
            "fork 12>31 :vpid=31 :pidns=8
            exec 31 :vpid=31 :pidns=8 :cgroup=/docker/{B} /usr/bin/bash bash -i
            now"
        ),
        ["31 shop"]
    );
}

#[test]
fn at_the_end_everything_goes_out() {
    let mut told = Told::new(&format!("asks 10000{HOST}"));
    told.tell(shells());
    told.give(vec![Input::Watermark(u64::MAX)]);
    let rest: Vec<String> = told.pipeline.take_documents().iter().map(said).collect();
    assert_eq!(rest, ["20 container?", "21 container?"]);
}

#[test]
fn without_waiting_or_anybody_to_ask() {
    let mut told = Told::new(&format!("asks 0{HOST}"));
    assert_eq!(
        told.tell(shells()),
        ["20 container?", "21 container?", "22"]
    );
    let mut told = Told::new(HOST);
    assert_eq!(told.tell(shells()), ["20", "21", "22"]);
    assert!(told.asked().is_empty());
}

/// The longest wait is bounded, and so is how many wait: the oldest go.
#[test]
fn no_more_wait_than_may() {
    // Of as many servers, as those of one are folded.
    let masters: String = (1000..2100)
        .map(|pid| {
            format!(
                "observed {} :parent=1 /usr/sbin/php-fpm8.2 php-fpm\n",
                pid + 2000
            )
        })
        .collect();
    let host = HOST.replace("\n    end", &format!("\n{masters}end"));
    let mut told = Told::new(&format!("asks 10000{host}"));
    let mut text = String::new();
    for pid in 1000..2100 {
        let server = pid + 2000;
        text.push_str(&format!(
            "fork {server}>{pid} :vpid={pid} :pidns=7
            exec {pid} :vpid={pid} :pidns=7 :cgroup=/docker/{{A}} /usr/bin/dash sh -c 'id {pid}'\n"
        ));
    }
    text.push_str("now");
    let out = told.tell(&text);
    assert_eq!(out.len(), 1100 - 1024);
    assert_eq!(out[0], "1000 container?");
    let rest = told.tell("container {A} web img:1");
    assert_eq!(rest.len(), 1024);
    assert_eq!(rest[0], "1076 web");
    assert_eq!(rest[1023], "2099 web");
}

#[test]
fn what_waits_replays_to_the_same_bytes() {
    let mut told = Told::new(&format!("asks 250{HOST}"));
    told.tell(shells());
    told.tell("container {B} shop img:1\nwait 300ms\nnow\ncontainer {A} web img:1");
    for emit in [Emit::Alerts, Emit::Events, Emit::All] {
        let direct = documents(emit, &told.inputs);
        let mut writer = Writer::new(Vec::new()).unwrap();
        for input in &told.inputs {
            writer.write(input).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let replayed: Vec<Input> = Reader::new(&*bytes).unwrap().map(Result::unwrap).collect();
        assert_eq!(replayed, told.inputs);
        assert!(json(&documents(emit, &replayed)) == json(&direct));
        // An event is told at once, its alert when it is whole.
        let order: Vec<(u32, bool)> = direct
            .iter()
            .filter(|document| {
                let Document { event, .. } = document;
                (20..23).contains(&event.process.key.tgid)
                    && event.event.payload.kind().name() == "exec"
            })
            .map(|Document { event, alert }: &Document| {
                let alert: &Option<Alert> = alert;
                (event.process.key.tgid, alert.is_some())
            })
            .collect();
        let alerts = [(22, true), (21, true), (20, true)];
        let events = [(20, false), (21, false), (22, false)];
        match emit {
            Emit::Alerts => assert_eq!(order, alerts),
            Emit::Events => assert_eq!(order, events),
            Emit::All => assert_eq!(
                order,
                [
                    (20, false),
                    (21, false),
                    (22, true),
                    (22, false),
                    (21, true),
                    (20, true)
                ]
            ),
        }
    }
}

/// Whether each of these processes is told to be of an exec session, by pid.
fn sessions(text: &str) -> Vec<u32> {
    let inputs = inputs(&story(text));
    let documents = documents(Emit::Events, &inputs);
    documents
        .iter()
        .filter(|document| {
            document.event.exec_session && document.event.event.payload.kind().name() == "exec"
        })
        .map(|document| document.event.process.key.tgid)
        .collect()
}

const RUNTIME: &str = "
    observed 1 /sbin/init
    observed 5 :parent=1 /usr/bin/containerd-shim-runc-v2 shim
    end
    fork 5>9
    exec 9 /usr/sbin/runc runc create
    fork 9>10 :vpid=1 :pidns=7
    exec 10 :vpid=1 :pidns=7 :cgroup=/kubepods/pod1/{A} /usr/sbin/nginx nginx
    fork 10>11 :vpid=6 :pidns=7
    exec 11 :vpid=6 :pidns=7 :cgroup=/kubepods/pod1/{A} /usr/bin/id id
    exit 9 0
    ";

#[test]
fn a_session_by_exec() {
    // `kubectl exec`: the shim has runc make a process that is not init's.
    let exec = "
        fork 5>19
        exec 19 /usr/sbin/runc runc exec
        fork 19>20 :vpid=30 :pidns=7
        exec 20 :vpid=30 :pidns=7 :cgroup=/kubepods/pod1/{A} /usr/bin/dash sh
        fork 20>21 :vpid=31 :pidns=7
        exec 21 :vpid=31 :pidns=7 :cgroup=/kubepods/pod1/{A} /usr/bin/id id
        # Its own init in a pid namespace of its own is not the container's.
        fork 21>22 :vpid=1 :pidns=70
        exec 22 :vpid=1 :pidns=70 :cgroup=/kubepods/pod1/{A} /usr/bin/id id";
    assert_eq!(sessions(&format!("{RUNTIME}{exec}")), [20, 21, 22]);
    // A runtime that puts its own process into the cgroup at once.
    let early = "
        fork 5>19
        exec 19 :cgroup=/kubepods/pod1/{A} /usr/sbin/runc runc init
        fork 19>20 :vpid=30 :pidns=7
        exec 20 :vpid=30 :pidns=7 :cgroup=/kubepods/pod1/{A} /usr/bin/dash sh";
    assert_eq!(sessions(&format!("{RUNTIME}{early}")), [19, 20]);
}

#[test]
fn no_session() {
    // The container that begins so.
    let early = "
        observed 1 /sbin/init
        end
        fork 1>9
        exec 9 :cgroup=/docker/{A} /usr/sbin/runc runc init
        fork 9>10 :vpid=1 :pidns=7
        exec 10 :vpid=1 :pidns=7 :cgroup=/docker/{A} /usr/sbin/nginx nginx";
    assert_eq!(sessions(early), Vec::<u32>::new());
    // With the pid namespace of the pod or the host none is init: the first one is the container's own.
    let shared = "
        observed 1 /sbin/init
        end
        fork 1>10
        exec 10 :cgroup=/kubepods/pod1/{A} /usr/sbin/nginx nginx
        fork 10>11
        exec 11 :cgroup=/kubepods/pod1/{A} /usr/bin/id id
        fork 1>20
        exec 20 :cgroup=/kubepods/pod1/{A} /usr/bin/dash sh";
    assert_eq!(sessions(shared), [20]);
    // One container after another, and a process of the host between.
    let two = "
        observed 1 /sbin/init
        end
        fork 1>10 :vpid=1 :pidns=7
        exec 10 :vpid=1 :pidns=7 :cgroup=/docker/{A} /usr/sbin/nginx nginx
        fork 1>12
        exec 12 /usr/bin/id id
        fork 1>11 :vpid=1 :pidns=8
        exec 11 :vpid=1 :pidns=8 :cgroup=/docker/{B} /usr/sbin/nginx nginx";
    assert_eq!(sessions(two), Vec::<u32>::new());
}

/// A cgroup that could not be read is the creator's.
#[test]
fn inherited_where_it_is_unreadable() {
    let text = "
        observed 1 /sbin/init
        end
        fork 1>10 :vpid=1 :pidns=7
        exec 10 :vpid=1 :pidns=7 :cgroup=/docker/{A} /usr/sbin/nginx nginx
        fork 10>11 :vpid=2 :pidns=7
        exec 11 :vpid=2 :pidns=7 :cgroup= /usr/bin/id id";
    let documents = documents(Emit::Events, &inputs(&story(text)));
    let last = documents.last().unwrap();
    assert_eq!(last.event.process.key.tgid, 11);
    assert_eq!(last.event.process.container.as_ref().unwrap().place.id, A);
}

/// One that the store has no room for is where its own record says.
#[test]
fn told_of_who_was_refused() {
    let none = Budget {
        store: 0,
        ..Budget::default()
    };
    let mut pipeline = Pipeline::new(Emit::Events, none);
    let text = "observed 1 /sbin/init\nend\nexec 10 :vpid=1 :pidns=7 :cgroup=/docker/{A} /usr/bin/id id\nwait 1s\nnow";
    for input in preamble().into_iter().chain(inputs(&story(text))) {
        pipeline.input(input);
    }
    assert_eq!(pipeline.processes(), 0);
    let documents = pipeline.take_documents();
    let container = documents.last().unwrap().event.process.container.as_ref();
    assert_eq!(container.unwrap().place.id, A);
}

/// What an exec within a container costs at the end of a chain of twelve, as a ratio to one of the host:
/// with no document, and with one each.
#[test]
#[ignore = "a benchmark: cargo test --release --test pipeline bench -- --ignored --nocapture"]
fn bench_exec_in_a_container() {
    const TIMES: u32 = 2000;
    let pod = format!("/kubepods/burstable/pod3d6e1f0a-0b1c-4d2e-8f3a-4b5c6d7e8f90/{A}");
    for emit in [Emit::Alerts, Emit::All] {
        let each = |cgroup: &str| {
            let mut text = String::from("observed 1 /sbin/init\nend\n");
            for pid in 10..22 {
                let creator = if pid == 10 { 1 } else { pid - 1 };
                text.push_str(&format!(
                    "fork {creator}>{pid}\nexec {pid} :cgroup={cgroup} /usr/bin/env env\n"
                ));
            }
            let mut teller = Teller::default();
            let begin = [preamble(), teller.tell(&text)].concat();
            let more = teller
                .tell(&format!("exec 21 :cgroup={cgroup} /usr/bin/id id\n").repeat(TIMES as usize));
            let mut least = f64::INFINITY;
            for _ in 0..9 {
                let mut pipeline = Pipeline::new(emit, Budget::default());
                begin.iter().for_each(|input| pipeline.input(input.clone()));
                let start = std::time::Instant::now();
                for input in &more {
                    pipeline.input(input.clone());
                    pipeline.take_documents();
                }
                pipeline.input(Input::Watermark(u64::MAX));
                pipeline.take_documents();
                least = least.min(start.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES));
            }
            least
        };
        let (inside, host) = (each(&pod), each("/system.slice/some.service"));
        println!(
            "{emit:?}: {inside:.2} us in a container, {:.2} times that of the host",
            inside / host
        );
    }
}

/// A flood of containers makes no memory grow; what is forgotten is asked for again.
#[test]
fn containers_are_bounded() {
    let mut text = String::from("asks 250\nobserved 1 /sbin/init\nend\n");
    for number in 0..1100 {
        let pid = 100 + number;
        text.push_str(&format!(
            "fork 1>{pid} :vpid=1 :pidns=7
            exec {pid} :vpid=1 :pidns=7 :cgroup=/docker/{number:064x} /usr/bin/id id\n"
        ));
    }
    let pipeline = run(Emit::Alerts, &inputs(&text));
    let counts = pipeline.counts();
    let count = |name| counts.iter().find(|(known, _)| *known == name).unwrap().1;
    assert_eq!(count("containers"), 1024);
    assert_eq!(count("containers_forgotten"), 1100 - 1024);
}
