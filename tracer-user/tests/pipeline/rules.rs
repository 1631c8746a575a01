//! Rules that change while the pipeline runs: taken whole, memory kept, told, and the same on replay.

use std::sync::Arc;

use tracer::alert::RulesReport;
use tracer::config::Emit;
use tracer::detect::sigma::{Chosen, Source};
use tracer::source::capture::{Reader, Writer};
use tracer::source::{Input, RulesRejected};

use crate::story::{alerts, documents, inputs, run, written};

/// A server writes a program, and makes a process that does not run it yet.
const BEFORE: &str = "
    observed 5 :parent=1 /usr/sbin/nginx 'nginx: master process /usr/sbin/nginx'
    end
    fork 1>10
    exec 10 /usr/sbin/php-fpm8.2 php-fpm8.2 --nodaemonize
    listen 10 9000
    fork 10>11
    now
    wait 90s
    open 11 created /tmp/.x
    fork 11>20
    now
";

/// It runs it, and a shell.
const AFTER: &str = "
    exec 20 /tmp/.x ./x -d
    fork 11>21
    exec 21 /usr/bin/id id
    now
    fork 11>22
    exec 22 /usr/bin/dash sh -c id
    now
";

const MINE: &str = "
title: A server runs id
name: mine
logsource: {product: linux, category: process_creation}
detection:
  s:
    Server.Role|exists: true
    Image|endswith: /id
  condition: s
level: low
";

fn rules(texts: &[&str], disabled: &[&str]) -> Input {
    let texts = texts.iter().enumerate();
    let sources = texts.map(|(at, text)| Source::new("/rules", format!("/rules/{at}.yml"), text));
    let disabled = disabled.iter().map(|word| (*word).to_owned());
    let (chosen, errors) = Chosen::new(sources.collect(), disabled.collect());
    assert_eq!(errors, []);
    Input::Rules {
        boot_ns: 77,
        chosen: Arc::new(chosen),
    }
}

/// The story with an input in its middle.
fn with(middle: Input) -> Vec<Input> {
    let mut all = inputs(&[BEFORE, AFTER].concat());
    all.insert(inputs(BEFORE).len(), middle);
    all
}

fn raised(middle: Input) -> Vec<String> {
    alerts(&documents(Emit::Alerts, &with(middle)))
}

fn report(middle: Input) -> RulesReport {
    let mut reports = run(Emit::Alerts, &with(middle)).take_rule_reports();
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

#[test]
fn what_was_learnt_before_holds_with_other_rules() {
    let plain = alerts(&documents(Emit::Alerts, &inputs(&[BEFORE, AFTER].concat())));
    assert!(
        plain.contains(&"server-dropped-exec high 20".to_owned()),
        "{plain:?}"
    );
    assert!(
        plain.contains(&"server-shell high 22".to_owned()),
        "{plain:?}"
    );
    let all = raised(rules(&[MINE], &["server-shell"]));
    assert!(
        all.contains(&"server-dropped-exec high 20".to_owned()),
        "{all:?}"
    );
    assert!(all.contains(&"mine low 21".to_owned()), "{all:?}");
    assert!(
        !all.iter().any(|line| line.starts_with("server-shell ")),
        "{all:?}"
    );
    // By tag, and only what has the very tag.
    let all = raised(rules(&[], &["attack.t1105", "attack.t1505"]));
    assert!(
        !all.iter()
            .any(|line| line.starts_with("server-dropped-exec")),
        "{all:?}"
    );
    assert!(all.contains(&"server-shell high 22".to_owned()), "{all:?}");
}

#[test]
fn a_change_is_told_with_its_counts() {
    let loaded = report(rules(&[MINE], &["server-shell"]));
    let RulesReport {
        boot_ns,
        is_rejected,
        disabled,
        error,
        ..
    } = loaded;
    assert_eq!(
        (boot_ns, is_rejected, disabled, error),
        (77, false, 1, None)
    );
    let rejected = Input::RulesRejected(RulesRejected {
        boot_ns: 78,
        wrong: 2,
        unsupported: 1,
        error: "a.yml:3: no".to_owned(),
    });
    let plain = alerts(&documents(Emit::Alerts, &inputs(&[BEFORE, AFTER].concat())));
    assert_eq!(raised(rejected.clone()), plain);
    let rejected = report(rejected);
    assert!(rejected.is_rejected && rejected.enabled >= 5);
    assert_eq!((rejected.wrong, rejected.unsupported), (2, 1));
    assert_eq!(rejected.error.as_deref(), Some("a.yml:3: no"));
}

#[test]
fn a_capture_has_the_rules_in_it() {
    let direct = with(rules(&[MINE], &["server-shell", "attack.t1105"]));
    let mut writer = Writer::new(Vec::new()).unwrap();
    for input in &direct {
        writer.write(input).unwrap();
    }
    let bytes = writer.finish().unwrap();
    let replayed: Vec<Input> = Reader::new(bytes.as_slice())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(replayed, direct);
    let text = written(Emit::All, &direct);
    assert!(text.contains("\"rules-loaded\"") && text.contains("\"mine\""));
    assert_eq!(written(Emit::All, &replayed), text);
}
