//! Answers about a host with very many processes: bounded, and said to be.

use std::time::Instant;

use tracer::config::Emit;
use tracer::encode::control::{answer_servers, answer_status, answer_tree};
use tracer::encode::tree::{Format, Style};
use tracer::lineage::tree::{NODES, Selector};
use tracer::memory::Budget;
use tracer::pipeline::Pipeline;
use tracer::pipeline::query::SERVERS;
use tracer::source::Input;

use crate::story::told;

const PLAIN: Style = Style {
    colour: false,
    ascii: false,
};

/// A server and so many processes below it, of ten children each; who has none runs a program.
fn host(processes: u32) -> Pipeline {
    let mut story =
        String::from("observed 1 /sbin/init\nobserved 2 :parent=1 /usr/sbin/nginx nginx\nend\n");
    for pid in 3..processes + 1 {
        story.push_str(&format!("fork {}>{pid}\n", 2 + (pid - 3) / 10));
        if pid > processes / 10 {
            let args = "a-word-of-twenty-byte ".repeat(10);
            story.push_str(&format!("exec {pid} /usr/bin/worker worker {args}\n"));
        }
    }
    pipeline(&story)
}

fn pipeline(story: &str) -> Pipeline {
    let mut pipeline = Pipeline::new(Emit::Alerts, Budget::new(2 << 30));
    for input in told(story) {
        pipeline.input(input);
    }
    pipeline.input(Input::Watermark(u64::MAX));
    pipeline
}

#[test]
fn servers_that_are_not_listed_are_counted() {
    let mut story = String::from("observed 1 /sbin/init\n");
    let servers = u32::try_from(SERVERS).unwrap() + 7;
    for pid in 2..servers + 2 {
        story.push_str(&format!(
            "observed {pid} :parent=1 /srv/{pid}/nginx nginx\n"
        ));
    }
    let pipeline = pipeline(&(story + "end\nnow"));
    let view = pipeline.servers();
    assert_eq!((view.servers.len(), view.left_out), (SERVERS, 7));
    // Those that came last are.
    let first = view.servers.iter().map(|listed| listed.server.key.tgid);
    assert!(first.eq(2..servers + 2 - 7));
    let json = String::from_utf8(answer_servers(&view, None)).unwrap();
    assert!(json.contains("\"left_out\":7"));
    let text = String::from_utf8(answer_servers(&view, Some(PLAIN))).unwrap();
    assert!(text.contains("7 more servers, left out"));
    let other = Selector::Server("other".into());
    let refused = answer_tree(&pipeline.tree(&other), Format::Json);
    assert!(refused.len() < 4096);
}

#[test]
fn everybody_is_shown_or_counted() {
    let pipeline = host(20_000);
    for selector in [Selector::All, Selector::Servers, Selector::Process(2)] {
        let view = pipeline.tree(&selector).unwrap();
        assert_eq!(view.nodes.len(), NODES, "{selector:?}");
        assert_eq!(view.nodes.len() + view.left_out(), 20_000, "{selector:?}");
        let json = String::from_utf8(answer_tree(&Ok(view), Format::Json)).unwrap();
        assert!(json.contains("\"left_out\":15904"), "{selector:?}");
    }
}

/// Nanoseconds that one run takes, the least of several: others on the machine only make it more.
fn least(mut run: impl FnMut()) -> f64 {
    let times = (0..9).map(|_| {
        let begin = Instant::now();
        run();
        begin.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

/// What `cargo xtask bench` prints of questions. Times are ratios within one run: with 100,000 processes to
/// with 1,000.
#[test]
#[ignore = "a benchmark, which `cargo xtask bench` runs"]
fn bench_questions() {
    type Question<'a> = (&'a str, &'a dyn Fn(&Pipeline) -> Vec<u8>);
    let [few, many] = [1000, 100_000].map(host);
    let tree = |pipeline: &Pipeline, selector: &Selector, format| {
        answer_tree(&pipeline.tree(selector), format)
    };
    let text = Format::Text(PLAIN);
    let questions: [Question<'_>; 6] = [
        ("tree --all, JSON", &|of| {
            tree(of, &Selector::All, Format::Json)
        }),
        ("tree --all, text", &|of| tree(of, &Selector::All, text)),
        ("tree of the server, JSON", &|of| {
            tree(of, &Selector::Servers, Format::Json)
        }),
        ("tree of one process, JSON", &|of| {
            // The last, with all that made it.
            let last = u32::try_from(of.living()).unwrap();
            tree(of, &Selector::Process(last), Format::Json)
        }),
        ("servers, JSON", &|of| answer_servers(&of.servers(), None)),
        ("status", &|of| answer_status(&of.status())),
    ];
    // What the agent's own loop does of it; the rest is done beside it.
    let view = |of: &Pipeline| least(|| drop(std::hint::black_box(of.tree(&Selector::All))));
    let (of_few, of_many) = (view(&few), view(&many));
    println!(
        "| view of 100,000 processes | {:.0} times that of 1,000, {:.1} ms |",
        of_many / of_few,
        of_many * 1e3
    );
    for (what, ask) in questions {
        let time = |of: &Pipeline| least(|| drop(std::hint::black_box(ask(of))));
        println!(
            "| {what} | {} bytes | {:.1} times that of 1,000 ({} bytes), {:.1} ms |",
            ask(&many).len(),
            time(&many) / time(&few),
            ask(&few).len(),
            time(&many) * 1e3
        );
    }
}
