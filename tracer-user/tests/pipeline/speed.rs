//! How many events a second the whole pipeline takes, with rules and without.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tracer::config::Emit;
use tracer::detect::sigma::profile::Profile;
use tracer::detect::sigma::{RuleSet, Source, pack_sources};
use tracer::memory::Budget;
use tracer::pipeline::Pipeline;
use tracer::source::Input;

use crate::story::told;

mod synthetic;

/// Processes that are made, run a program and end.
const PROCESSES: u32 = 40_000;

/// What they run: a build, scripts, cron, checks by an agent. Arguments of 5 to 400 bytes.
const WORK: &[&str] = &[
    "/usr/bin/true true",
    "/usr/bin/dash sh -c 'test -e /run/lock/x && exec /usr/bin/logger -t cron done'",
    "/usr/bin/grep grep -q ^processor /proc/cpuinfo",
    "/usr/bin/x86_64-linux-gnu-gcc-12 gcc -O2 -Wall -Wextra -fstack-protector-strong -c src/a.c -o build/a.o",
    "/usr/lib/gcc/x86_64-linux-gnu/12/cc1 /usr/lib/gcc/x86_64-linux-gnu/12/cc1 -quiet -imultiarch \
     x86_64-linux-gnu -I include -I third-party/include -D NDEBUG -D VERSION=1.2.3 src/a.c -quiet -dumpbase a.c \
     -dumpbase-ext .c -mtune=generic -march=x86-64 -O2 -Wall -Wextra -fstack-protector-strong -o /tmp/ccXyZ123.s",
    "/usr/bin/as as --64 -o build/a.o /tmp/ccXyZ123.s",
    "/usr/bin/git git -C /srv/build/project log --format=%H -n 1 -- src/a.c",
    "/usr/bin/python3.11 python3 -m http.client --timeout 5 example.test",
    "/usr/bin/bash bash -c 'set -eu; for f in *.o; do echo $f; done | sort > list'",
    "/usr/bin/sed sed -n s/^version=//p /etc/os-release",
    "/usr/sbin/ip ip -o -4 addr show dev eth0",
    "/usr/bin/date date -u +%s",
];

/// What a server's lineage runs and no rule is about.
const SERVED: &[&str] = &[
    "/usr/bin/convert convert /srv/data/in.png -resize 200x200 /srv/data/out.png",
    "/usr/bin/ffprobe ffprobe -v quiet -print_format json -show_streams /srv/data/in.mp4",
    "/usr/bin/pdftotext pdftotext -layout /srv/data/in.pdf -",
];

/// A host at work: lineages of twelve processes, and one in twenty of a web server.
fn host() -> Vec<Input> {
    let mut story = String::from(
        "observed 1 /usr/lib/systemd/systemd\n\
         observed 2 :parent=1 /usr/sbin/nginx 'nginx: master process /usr/sbin/nginx'\n\
         observed 3 :parent=2 :uid=33 /usr/sbin/nginx 'nginx: worker process'\n",
    );
    let chain = [
        "cron",
        "dash",
        "run-parts",
        "bash",
        "make",
        "ninja",
        "env",
        "python3.11",
        "bash",
        "make",
    ];
    for (at, name) in (10..).zip(chain) {
        let parent = if at == 10 { 1 } else { at - 1 };
        story.push_str(&format!(
            "observed {at} :parent={parent} /usr/bin/{name} {name} --keep-going all --directory=/srv/build\n"
        ));
    }
    story.push_str("end\nlisten 2 80\nwait 90s\n");
    for number in 0..PROCESSES {
        let pid = 100 + number;
        let at = usize::try_from(number).unwrap();
        let (parent, program) = match number % 20 {
            0 => (3, SERVED[at / 20 % SERVED.len()]),
            _ => (19, WORK[at % WORK.len()]),
        };
        story.push_str(&format!(
            "fork {parent}>{pid}\nexec {pid} {program}\nexit {pid} 0\n"
        ));
        if number % 16 == 0 {
            story.push_str("now\n");
        }
    }
    told(&story)
}

/// Seconds that this thread has run: what others do on the machine is not in it.
fn worked() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds: u64 = text.split(' ').next().unwrap().parse().unwrap();
    std::time::Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// Seconds that a run takes.
fn run(inputs: &[Input], rules: &Arc<RuleSet>) -> f64 {
    let inputs = inputs.to_vec();
    let mut pipeline = Pipeline::new(Emit::Alerts, Budget::default());
    pipeline.set_rules(Arc::clone(rules));
    let begin = worked();
    let mut documents = 0;
    for input in inputs {
        let ends = matches!(input, Input::Watermark(_));
        pipeline.input(input);
        if ends {
            documents += pipeline.take_documents().len();
            pipeline.take_commands();
        }
    }
    assert_eq!(documents, 0, "nothing in it is an attack");
    worked() - begin
}

#[test]
fn a_run_tells_what_each_rule_costs() {
    let (profile, errors) = Profile::new(&pack_sources(), || 0);
    assert_eq!(errors, []);
    let profile = Arc::new(profile);
    let mut pipeline = Pipeline::new(Emit::Alerts, Budget::default());
    pipeline.set_profile(Arc::clone(&profile));
    let story = "observed 1 /sbin/init\nobserved 2 :parent=1 /usr/sbin/nginx nginx\nend\nlisten 2 80\nwait 90s\n\
                 fork 2>20\nexec 20 /usr/bin/dash sh -c 'id; ls'\nfork 20>21\nexec 21 /usr/bin/id\nnow";
    for input in told(story) {
        pipeline.input(input);
    }
    let costs = profile.costs();
    let shell = costs.iter().find(|cost| &*cost.rule.id == "server-shell");
    let shell = shell.map(|cost| (cost.events, cost.matches));
    assert_eq!(shell, Some((2, 1)));
}

/// What `cargo xtask bench` prints of rules: with none, with the pack, and with many more. `TRACER_SIGMAHQ` may
/// name a directory of further rules, as a checkout of SigmaHQ's `rules/linux`.
#[test]
#[ignore = "a benchmark, which `cargo xtask bench` runs"]
fn bench_rules() {
    let with = |further: Vec<Source>| {
        let sources: Vec<Source> = pack_sources().into_iter().chain(further).collect();
        Arc::new(RuleSet::load(&sources).0)
    };
    let many = with(vec![synthetic::rules()]);
    assert_eq!(
        many.rules().len(),
        RuleSet::pack().rules().len() + synthetic::COUNT
    );
    let mut sets = vec![
        ("none", Arc::new(RuleSet::load(&[]).0)),
        ("the pack", RuleSet::pack()),
        ("the pack and made-up ones", many),
    ];
    if let Ok(path) = std::env::var("TRACER_SIGMAHQ") {
        sets.push((
            "the pack and the directory",
            with(synthetic::directory(Path::new(&path))),
        ));
        let mut all = synthetic::directory(Path::new(&path));
        all.push(synthetic::rules());
        sets.push(("all of them", with(all)));
    }
    let inputs = host();
    let mut least = vec![f64::INFINITY; sets.len()];
    for _ in 0..7 {
        for (least, (_, rules)) in least.iter_mut().zip(&sets) {
            *least = least.min(run(&inputs, rules));
        }
    }
    let events = f64::from(PROCESSES) * 3.0;
    println!("| rules | how many | process events a second on one core | time, of that without |");
    println!("| --- | --- | --- | --- |");
    for (seconds, (name, rules)) in least.iter().zip(&sets) {
        println!(
            "| {name} | {} | {:.0} | {:.2} |",
            rules.rules().len(),
            events / seconds,
            seconds / least[0]
        );
    }
}

/// What of the rules of the directory that `TRACER_SIGMAHQ` names is not loaded, and why.
#[test]
#[ignore = "a report on rules that are not here"]
fn report_directory() {
    let path = std::env::var("TRACER_SIGMAHQ").expect("TRACER_SIGMAHQ names no directory");
    let sources = synthetic::directory(Path::new(&path));
    let (rules, errors) = RuleSet::load(&sources);
    println!("{} files, {} rules", sources.len(), rules.rules().len());
    for error in errors {
        println!("{error}");
    }
}
