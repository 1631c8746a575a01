//! Alerts of one server are one incident: what goes out at once, what is folded, what is told of it later.

use tracer::alert::{Alert, Document, Incident};
use tracer::config::Emit;
use tracer::source::Input;

use crate::story::{Teller, alerts, documents, inputs, preamble, run, written};

const HOST: &str = "
    served /srv/www
    observed 1 /sbin/init
    observed 5 :parent=1 /usr/sbin/nginx 'nginx: master process /usr/sbin/nginx'
    observed 6 :parent=5 :uid=33 /usr/sbin/nginx 'nginx: worker process'
    observed 8 :parent=1 /usr/sbin/cron /usr/sbin/cron -f
    observed 10 :parent=1 /usr/sbin/php-fpm8.2 'php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)'
    observed 11 :parent=10 :uid=33 /usr/sbin/php-fpm8.2 'php-fpm: pool www'
    observed 12 :parent=10 :uid=33 /usr/sbin/php-fpm8.2 'php-fpm: pool www'
    end";

fn told(story: &str) -> Vec<Document> {
    let story = format!("{HOST}\n{}", story.replace(";;", "\n"));
    documents(Emit::Alerts, &inputs(&story))
}

fn alert(document: &Document) -> &Alert {
    document.alert.as_ref().unwrap()
}

fn incident(document: &Document) -> &Incident {
    &alert(document).incident
}

/// Shells that a worker starts, from this pid on.
fn shells(worker: u32, first: u32, count: u32) -> String {
    (first..first + count)
        .map(|pid| format!("fork {worker}>{pid};;exec {pid} :uid=33 /usr/bin/dash sh -c id;;"))
        .collect()
}

#[test]
fn workers_of_one_server_are_one_incident_and_servers_are_told_apart() {
    let all = told(
        "fork 11>20;;exec 20 :uid=33 /usr/bin/dash sh -c id;;
         fork 12>21;;exec 21 :uid=33 /usr/bin/dash sh -c ls;;
         open 12 created /srv/www/x.php;;
         fork 6>22;;exec 22 :uid=33 /usr/bin/dash sh -c id",
    );
    assert_eq!(
        alerts(&all),
        [
            "server-shell high 20",
            "server-shell high 21",
            "server-code-write high 12",
            "server-shell high 22"
        ]
    );
    let ids: Vec<_> = all.iter().map(|document| incident(document).id).collect();
    assert_eq!((ids[0], ids[1]), (ids[1], ids[2]));
    assert_ne!(ids[0], ids[3]);
    let numbers: Vec<_> = all
        .iter()
        .map(|document| (incident(document).alerts, incident(document).score))
        .collect();
    assert_eq!(numbers, [(1, 73), (2, 146), (3, 219), (1, 73)]);
    assert!(incident(&all[0]).related.is_empty());
    assert_eq!(incident(&all[2]).related, [alert(&all[0]).id]);
    let first = all[0].event.event.meta.boot_ns;
    assert_eq!(incident(&all[2]).first_boot_ns, first);
    assert!(
        incident(&all[2])
            .tactics
            .iter()
            .any(|tactic| &**tactic == "Persistence")
    );
}

#[test]
fn a_flood_is_folded_and_told_when_its_time_is_over() {
    let story = format!(
        "{};;open 11 created /srv/www/x.php;;wait 61s;;now;;fork 11>500;;exec 500 /usr/bin/dash sh -c id",
        shells(11, 20, 40)
    );
    let all = told(&story);
    assert_eq!(
        alerts(&all),
        [
            "server-shell high 20",
            "server-code-write high 11",
            "server-shell high 21",
            "server-shell high 500"
        ]
    );
    let (first, rolled, last) = (&all[0], &all[2], &all[3]);
    let rollup = incident(rolled).rollup.as_ref().unwrap();
    assert_eq!((rollup.count, rollup.examples.len()), (39, 1));
    assert_eq!(rollup.rules, [("server-shell".to_owned(), 39)]);
    assert!(rollup.first_boot_ns < rollup.last_boot_ns);
    assert!(
        alert(rolled).reason.starts_with("39 more alerts"),
        "{}",
        alert(rolled).reason
    );
    assert_eq!(incident(rolled).id, incident(first).id);
    assert_eq!(
        (incident(rolled).alerts, incident(rolled).score),
        (41, 73 + 39 + 73)
    );
    assert_eq!(
        (incident(last).alerts, incident(last).id),
        (42, incident(first).id)
    );
    let ids: std::collections::HashSet<_> = all.iter().map(|one| alert(one).id).collect();
    assert_eq!(ids.len(), all.len());
}

#[test]
fn what_is_folded_is_told_at_the_end_too_and_the_same_on_replay() {
    let inputs = inputs(&format!(
        "{HOST}\n{}",
        shells(11, 20, 30).replace(";;", "\n")
    ));
    let mut pipeline = run(Emit::Alerts, &inputs);
    assert_eq!(
        alerts(&pipeline.take_documents()),
        ["server-shell high 20", "server-shell high 21"]
    );
    let counts = pipeline.counts();
    let count = |name| counts.iter().find(|(known, _)| *known == name).unwrap().1;
    assert_eq!((count("alerts_folded"), count("rollups")), (29, 1));
    assert_eq!(pipeline.totals().alerts, 30);
    assert_eq!(
        written(Emit::Alerts, &inputs),
        written(Emit::Alerts, &inputs)
    );
}

#[test]
fn an_incident_without_alerts_for_an_hour_is_over() {
    let all = told(&format!(
        "{}wait 3601s;;{}",
        shells(11, 20, 1),
        shells(11, 30, 1)
    ));
    assert_ne!(incident(&all[0]).id, incident(&all[1]).id);
    assert_eq!(incident(&all[1]).alerts, 1);
}

/// What was dropped where an alert was raised, and is then used, is worse, and names the alert.
#[test]
fn use_of_what_an_alert_is_about_is_worse() {
    let all = told(
        "open 11 created /srv/www/x.php;;
         fork 6>30;;exec 30 :uid=33 /srv/www/x.php x;;
         fork 8>40;;exec 40 /srv/www/x.php x",
    );
    assert_eq!(alerts(&all)[0], "server-code-write high 11");
    assert!(all.len() >= 2, "{:?}", alerts(&all));
    for later in &all[1..] {
        assert_eq!(alert(later).severity.name(), "critical");
        assert_eq!(incident(later).related[0], alert(&all[0]).id);
    }
}

#[test]
fn an_incident_outlives_the_agent() {
    let mut teller = Teller::default();
    let before = format!(
        "{HOST}\nopen 11 created /srv/www/x.php\n{}",
        shells(11, 20, 1).replace(";;", "\n")
    );
    let mut first = run(Emit::Alerts, &[preamble(), teller.tell(&before)].concat());
    let (remembered, raised) = (first.remember().remembered, first.take_documents());
    let mut again = preamble();
    again.extend(remembered.into_iter().map(Input::Remembered));
    let snapshot = HOST.replace(" :parent", " :at=60000 :parent");
    again.extend(teller.tell(&snapshot.replace("observed 1 ", "observed 1 :at=60000 ")));
    again.extend(teller.tell("wait 60s\nfork 12>50\nexec 50 :uid=33 /srv/www/x.php x"));
    let later = run(Emit::Alerts, &again).take_documents();
    let (old, new) = (incident(&raised[1]), incident(&later[0]));
    assert_eq!((new.id, new.alerts), (old.id, old.alerts + 1));
    assert!(new.score > old.score);
    assert_eq!(new.related, [alert(&raised[0]).id]);
}
