//! Trees and servers of stories: who is in them, who is left out, and how they are written whatever the
//! processes are called.

use std::process::{Command, Stdio};

use serde_json::Value;
use tracer::config::Emit;
use tracer::encode::tree::{Format, Style, no_tree, servers, tree};
use tracer::lineage::tree::{DEPTH, NODES, NoTree, Selector, TreeView};
use tracer::pipeline::Pipeline;

use crate::replay::{STORY, golden};
use crate::story::{inputs, run};

const PLAIN: Style = Style {
    colour: false,
    ascii: false,
};
const TEXT: Format = Format::Text(PLAIN);

fn pipeline(story: &str) -> Pipeline {
    run(Emit::Alerts, &inputs(story))
}

fn view(story: &str, selector: &Selector) -> TreeView {
    pipeline(story).tree(selector).unwrap()
}

fn drawn(view: &TreeView, format: Format) -> String {
    let mut out = Vec::new();
    tree(view, format, &mut out);
    String::from_utf8(out).unwrap()
}

fn pids(view: &TreeView) -> Vec<(usize, u32)> {
    let nodes = view.nodes.iter();
    nodes
        .map(|node| (node.depth, node.process.key.tgid))
        .collect()
}

/// Programs with names that end labels, draw arrows, begin lines and steer terminals.
const HOSTILE: &str = "
    served /srv/www
    observed 1 /sbin/init
    observed 5 :parent=1 /usr/sbin/nginx nginx
    end
    fork 5>20
    exec 20 '/tmp/\"];n0-->n1;[\"' 'a\"b' '\\n  n9[\"x\"]' '-->' '</script><b>&quot;&#39;' '\\\\' 'x\\\\'
    open 20 created '/srv/www/\x1b]0;x\x07\u{9b}31m\u{202e}\"--> .php'
    fork 20>21
    exec 21 '/tmp/`a`**b**#quot;#59;%%{init}%%' ';' 'end' '}' '\u{e9}\u{4e2d}'
    now";

#[test]
fn the_story_is_drawn() {
    let hostile = pipeline(HOSTILE).tree(&Selector::Servers).unwrap();
    for (story, view) in [
        ("story", view(STORY, &Selector::Servers)),
        ("hostile", hostile),
    ] {
        for (name, format) in [
            ("txt", TEXT),
            ("json", Format::Json),
            ("dot", Format::Dot),
            ("mmd", Format::Mermaid),
        ] {
            golden(
                &format!("expected/tree/{story}.{name}"),
                drawn(&view, format).as_bytes(),
            );
        }
    }
}

#[test]
fn a_tree_has_ancestors_and_descendants_and_nobody_else() {
    for (selector, expected) in [
        // Who wrote, what it started, and not the other server.
        (
            Selector::Process(11),
            &[(0, 1), (1, 10), (2, 11), (3, 20), (4, 21), (3, 30), (4, 31)][..],
        ),
        (
            Selector::Process(21),
            &[(0, 1), (1, 10), (2, 11), (3, 20), (4, 21)],
        ),
        (Selector::Server("nginx".into()), &[(0, 1), (1, 5), (2, 6)]),
        (
            Selector::Process(1),
            &[
                (0, 1),
                (1, 5),
                (2, 6),
                (1, 7),
                (2, 40),
                (3, 41),
                (1, 10),
                (2, 11),
                (3, 20),
                (4, 21),
                (3, 30),
                (4, 31),
            ],
        ),
    ] {
        let view = view(STORY, &selector);
        assert_eq!(pids(&view), expected, "{selector:?}");
        assert_eq!(view.left_out(), 0);
        let chosen = view.nodes.iter().filter(|node| node.chosen).count();
        assert!(chosen >= 1, "{selector:?}");
    }
    let all = view(STORY, &Selector::All);
    assert_eq!(pids(&all), pids(&view(STORY, &Selector::Process(1))));
    assert!(all.nodes.iter().all(|node| !node.chosen));
    let id = all.nodes[3].process.entity_id;
    let one = view(STORY, &Selector::Entity(id));
    assert_eq!(one.nodes[1].process.entity_id, id);
    assert_eq!(one.nodes[2].creator, Some(id));
}

#[test]
fn what_is_not_known_is_said() {
    let pipeline = pipeline(
        "observed 1 /sbin/init\nobserved 5 :parent=1 /usr/sbin/nginx nginx\nend\n\
         fork 5>20\nexec 20 /bin/a a\nexit 20 0\nwait 1s\nfork 5>20\nexec 20 /bin/b b\nnow",
    );
    let said = |selector: &Selector| no_tree(&pipeline.tree(selector).unwrap_err());
    assert!(said(&Selector::Process(99)).contains("no process 99 is known"));
    let nobody = uuid::Uuid::from_u128(1);
    assert!(said(&Selector::Entity(nobody)).contains(&nobody.to_string()));
    assert!(said(&Selector::Container("4f0e".into())).contains("4f0e"));
    let error = said(&Selector::Server("apa\x1bche".into()));
    assert!(
        error.contains("apa\\x1bche") && error.contains("nginx"),
        "{error}"
    );
    // A number that was used twice: both, the latest first, and each by its id.
    let NoTree::Ambiguous(20, candidates) = pipeline.tree(&Selector::Process(20)).unwrap_err()
    else {
        panic!("one of two");
    };
    assert_eq!(candidates.len(), 2);
    assert!(candidates[0].started > candidates[1].started);
    assert!(candidates[0].ended.is_none() && candidates[1].ended.is_some());
    let error = said(&Selector::Process(20));
    for (candidate, name) in candidates.iter().zip(["b", "a, ended"]) {
        assert!(
            error.contains(&format!("{}  started 2026-", candidate.entity_id)),
            "{error}"
        );
        assert!(error.contains(&format!("Z  {name}")), "{error}");
        let view = pipeline
            .tree(&Selector::Entity(candidate.entity_id))
            .unwrap();
        assert_eq!(pids(&view), [(0, 1), (1, 5), (2, 20)]);
    }
}

#[test]
fn creators_are_drawn_and_reapers_named() {
    let story = "
        observed 1 /sbin/init
        observed 5 :parent=1 /usr/sbin/nginx nginx
        end
        fork 5>20
        fork 20>21
        exit 20 0
        exec 21 :parent=1 /usr/bin/dash sh
        exec 21 :parent=1 /usr/bin/id id
        wait 200s
        now";
    let view = view(story, &Selector::Process(21));
    assert_eq!(pids(&view), [(0, 1), (1, 5), (2, 20), (3, 21)]);
    let last = view.nodes.last().unwrap();
    assert_eq!(last.parent.map(|parent| parent.tgid), Some(1));
    // A chain of programs in one process, in time order; what it was born with is not among them.
    let ran: Vec<_> = last.ran.iter().map(|image| &*image.exec.exe).collect();
    assert_eq!(ran, [b"/usr/bin/dash".as_slice(), b"/usr/bin/id"]);
    assert!(view.nodes[2].ran.is_empty());
    let text = drawn(&view, TEXT);
    assert!(text.contains("its parent now is process 1"), "{text}");
}

#[test]
fn what_does_not_fit_is_counted_and_evidence_stays() {
    let mut story = String::from(
        "served /srv/www\nobserved 1 /sbin/init\nobserved 5 :parent=1 /usr/sbin/nginx nginx\nend\n",
    );
    let children = u32::try_from(NODES + 500).unwrap();
    for child in 0..children {
        story.push_str(&format!("fork 5>{}\n", 1000 + child));
    }
    let last = 1000 + children - 1;
    story.push_str(&format!("open {last} created /srv/www/x.php\nnow"));
    let view = view(&story, &Selector::Servers);
    assert_eq!(view.nodes.len(), NODES);
    assert_eq!(
        view.left_out(),
        usize::try_from(children).unwrap() + 2 - NODES
    );
    assert_eq!(view.nodes[1].left_out, view.left_out());
    let writer = view.nodes.iter().find(|node| node.process.key.tgid == last);
    let writer = writer.expect("who raised an alert is left out last");
    assert_eq!(writer.wrote[0].path, b"/srv/www/x.php");
    assert_eq!(writer.alerts.len(), 1);
    let text = drawn(&view, TEXT);
    assert!(text.contains(&format!("{} more below it, left out", view.left_out())));

    // A chain that is deeper than is drawn.
    let mut story = String::from("observed 1 /sbin/init\nend\n");
    let depth = u32::try_from(DEPTH).unwrap() + 50;
    for process in 1..depth {
        story.push_str(&format!("fork {process}>{}\n", process + 1));
    }
    let view = view_of(&story, 1);
    assert_eq!(view.nodes.len(), DEPTH + 1);
    // All of them, and not only the next.
    assert_eq!(view.left_out(), depth as usize - DEPTH - 1);
    drawn(&view, TEXT);
    // From below, the chain does not reach the first: it says so.
    let view = view_of(&story, depth);
    assert!(view.nodes[0].is_broken);
    assert!(drawn(&view, TEXT).starts_with("… "));
}

fn view_of(story: &str, process: u32) -> TreeView {
    view(story, &Selector::Process(process))
}

#[test]
fn hostile_names_stay_within_their_labels() {
    let view = view(HOSTILE, &Selector::Servers);
    assert_eq!(pids(&view), [(0, 1), (1, 5), (2, 20), (3, 21)]);
    let steers = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{9b}".contains(c);
    for format in [TEXT, Format::Json, Format::Dot, Format::Mermaid] {
        let text = drawn(&view, format);
        assert!(!text.chars().any(steers), "{text}");
    }
    // A line more for none of them.
    let text = drawn(&view, TEXT);
    let lines = text.lines().filter(|line| line.contains("n9")).count();
    assert_eq!(lines, 1, "{text}");
    let ascii = drawn(
        &view,
        Format::Text(Style {
            colour: false,
            ascii: true,
        }),
    );
    assert!(
        ascii.is_ascii() && ascii.contains("`- ") && ascii.contains("\\u{4e2d}"),
        "{ascii}"
    );
    let colour = drawn(
        &view,
        Format::Text(Style {
            colour: true,
            ascii: false,
        }),
    );
    let own = [
        "\x1b[0m",
        "\x1b[1m",
        "\x1b[2m",
        "\x1b[1;31m",
        "\x1b[33m",
        "\x1b[36m",
    ];
    let rest = own
        .iter()
        .fold(colour, |text, escape| text.replace(escape, ""));
    assert!(!rest.contains('\x1b'));
    assert_eq!(rest, text);
    // JSON gives back what was there.
    let json: Value = serde_json::from_str(&drawn(&view, Format::Json)).unwrap();
    let process = &json["processes"][2];
    assert_eq!(process["ran"][0]["args"][1], "\n  n9[\"x\"]");
    assert_eq!(process["executable"], "/tmp/\"];n0-->n1;[\"");

    for line in drawn(&view, Format::Mermaid).lines().skip(1) {
        let line = line.trim_start();
        let is_safe = |label: &str| {
            let label = label.replace("<br/>", "");
            let plain = |c: char| c.is_alphanumeric() || " /.,:-_()=+…#;".contains(c);
            label.chars().all(plain)
        };
        let node = line
            .split_once("[\"")
            .and_then(|(_, rest)| rest.rsplit_once("\"]"));
        let edge = |line: &str| line.split(" --> ").all(|end| end.starts_with('n'));
        match node {
            Some((label, class)) => {
                assert!(is_safe(label), "{label}");
                assert!(class.is_empty() || class.starts_with(":::"), "{class}");
            }
            None => assert!(edge(line) || line.starts_with("classDef "), "{line}"),
        }
    }
    for line in drawn(&view, Format::Dot).lines() {
        if let Some((_, label)) = line.split_once("[label=\"") {
            // What ends the label is the first quote that no backslash is in front of.
            let mut rest = label.chars();
            loop {
                match rest.next() {
                    Some('\\') => assert!("\\\"l".contains(rest.next().unwrap()), "{line}"),
                    Some('"') => break,
                    Some(_) => {}
                    None => panic!("no end: {line}"),
                }
            }
            let rest: String = rest.collect();
            assert!(rest == "];" || rest.starts_with(", fillcolor="), "{rest}");
        }
    }
}

/// graphviz itself reads what is meant for it: as many boxes and arrows as there are processes and births.
#[test]
fn graphviz_draws_what_is_meant() {
    for story in [STORY, HOSTILE] {
        let view = view(story, &Selector::Servers);
        let mut dot = match Command::new("dot")
            .arg("-Tsvg")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
        {
            Ok(dot) => dot,
            Err(error) => return eprintln!("SKIPPED graphviz: cannot run dot: {error}"),
        };
        let source = drawn(&view, Format::Dot);
        let mut input = dot.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, source.as_bytes()).unwrap();
        drop(input);
        let output = dot.wait_with_output().unwrap();
        let (svg, said) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success() && said.is_empty(), "{said}");
        let count = |class: &str| svg.matches(&format!("class=\"{class}\"")).count();
        assert_eq!(count("node"), view.nodes.len());
        assert_eq!(count("edge"), view.nodes.len() - 1);
    }
}

#[test]
fn servers_are_listed_once_with_their_workers_ports() {
    let story = "
        observed 1 /sbin/init
        observed 5 :parent=1 /usr/sbin/nginx 'nginx: master process /usr/sbin/nginx'
        observed 6 :parent=5 :uid=33 /usr/sbin/nginx 'nginx: worker process'
        listen 5 :at=0 80
        listen 6 :at=0 443
        end
        fork 1>10
        exec 10 /srv/app/api-server api-server
        listen 10 8080
        fork 10>11
        exec 11 /usr/bin/id id
        fork 1>12
        exec 12 /usr/sbin/php-fpm8.2 php-fpm8.2
        exit 12 0
        now";
    let listed = pipeline(story).servers();
    let found: Vec<_> = listed
        .servers
        .iter()
        .map(|one| {
            let server = &one.server;
            (
                server.key.tgid,
                server.name.as_str(),
                server.why.name(),
                server.ports.as_slice(),
                (server.descendants, server.programs),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (5, "nginx", "named", &[80, 443][..], (1, 0)),
            (10, "api-server", "listens", &[8080], (1, 1)),
        ]
    );
    let mut out = Vec::new();
    servers::text(&listed, PLAIN, &mut out);
    golden("expected/tree/servers.txt", &out);
    out.clear();
    servers::json(&listed, &mut out);
    golden("expected/tree/servers.json", &out);
}

#[test]
fn nothing_at_all_is_drawn_too() {
    let pipeline = Pipeline::new(Emit::Alerts, tracer::memory::Budget::default());
    let view = pipeline.tree(&Selector::Servers).unwrap();
    assert!(view.nodes.is_empty());
    assert_eq!(drawn(&view, TEXT), "no server runs here\n");
    for format in [Format::Json, Format::Dot, Format::Mermaid] {
        assert!(!drawn(&view, format).is_empty());
    }
    assert!(pipeline.servers().servers.is_empty());
}
