//! What goes out at once, what is folded, and what bounds it.

use super::*;
use crate::detect::sigma::RuleSet;

const SECOND: u64 = 1_000_000_000;

fn key(tgid: u32) -> ProcessKey {
    ProcessKey {
        tgid,
        start_ticks: 1,
    }
}

/// Takes an alert; whether it goes out at once, and the incident as it stands.
fn take(
    incidents: &mut Incidents,
    server: u32,
    at: u64,
    severity: Severity,
    (place, shape): (&str, &str),
) -> Option<Incident> {
    let rules = RuleSet::pack();
    let number = u128::from(at) << 64 | incidents.folded() as u128;
    let sighting = Sighting {
        server: key(server),
        boot_ns: at,
        rule: &rules.rules()[0],
        severity,
        alert: Uuid::from_u128(number),
        reason: "it did",
        place: place.as_bytes(),
        shape: shape.as_bytes(),
        about: Vec::new(),
        used: Vec::new(),
    };
    let mut due = Vec::new();
    match incidents.take(sighting, || Uuid::from_u128(number + 1), &mut due) {
        Verdict::AtOnce(incident) => Some(incident),
        Verdict::Folded(_) => None,
    }
}

#[test]
fn what_repeats_itself_is_folded_for_a_time() {
    let mut all = Incidents::default();
    let high = Severity::High;
    let first = take(&mut all, 1, SECOND, high, ("/bin/sh", "id")).unwrap();
    assert_eq!((first.alerts, first.score), (1, 73));
    assert!(take(&mut all, 1, 2 * SECOND, high, ("/bin/sh", "id")).is_none());
    assert!(all.is_folding());
    // Another story, another program, another server, and what is worse.
    let other = take(&mut all, 1, 2 * SECOND, high, ("/bin/sh", "ls")).unwrap();
    assert_eq!((other.id, other.alerts, other.score), (first.id, 3, 147));
    assert!(take(&mut all, 1, 2 * SECOND, high, ("/bin/bash", "id")).is_some());
    assert!(take(&mut all, 2, 2 * SECOND, high, ("/bin/sh", "id")).is_some());
    assert!(
        take(
            &mut all,
            1,
            3 * SECOND,
            Severity::Critical,
            ("/bin/sh", "id")
        )
        .is_some()
    );
    assert!(
        take(
            &mut all,
            1,
            3 * SECOND,
            Severity::Critical,
            ("/bin/sh", "id")
        )
        .is_none()
    );
    // A minute later it is told again.
    assert!(take(&mut all, 1, SECOND + WINDOW_NS, high, ("/bin/sh", "id")).is_some());
    assert!(!all.is_folding());
    assert_eq!((all.len(), all.folded()), (2, 2));
}

#[test]
fn of_many_different_ones_the_first_go_out() {
    let mut all = Incidents::default();
    let at_once = (0..100)
        .filter(|number| {
            let shape = format!("/srv/www/{number}.php");
            take(&mut all, 1, SECOND, Severity::High, ("/srv/www", &shape)).is_some()
        })
        .count();
    assert_eq!(at_once, AT_ONCE as usize);
    assert_eq!(all.folded(), 100 - u64::from(AT_ONCE));
    // And of many directories.
    let at_once = (0..100)
        .filter(|number| {
            let place = format!("/srv/{number}");
            take(&mut all, 2, SECOND, Severity::High, (&place, "x.php")).is_some()
        })
        .count();
    assert_eq!(at_once, GROUPS);
}

#[test]
fn incidents_are_bounded_and_end() {
    let mut all = Incidents::default();
    for server in 0..2 * u32::try_from(OPEN).unwrap() {
        let at = SECOND + u64::from(server);
        for _ in 0..2 {
            take(&mut all, server, at, Severity::High, ("/bin/sh", "id"));
        }
        assert!(all.len() <= OPEN && all.waiting <= WAITING);
    }
    assert_eq!(all.closed_early(), OPEN as u64);
    let kept: Vec<PastIncident> = all.remember().collect();
    assert_eq!(kept.len(), OPEN);
    let mut next = Incidents::default();
    for past in kept.clone() {
        next.recall(past);
    }
    assert_eq!(next.remember().collect::<Vec<_>>(), kept);
    let again = take(
        &mut next,
        2047,
        10 * SECOND,
        Severity::High,
        ("/bin/sh", "id"),
    )
    .unwrap();
    assert_eq!(
        (again.id, again.alerts, again.score),
        (kept[OPEN - 1].id, 3, 147)
    );
    all.pass(2 * SECOND + IDLE_NS, &mut Vec::new());
    assert_eq!((all.len(), all.is_folding()), (0, false));
}

#[test]
fn of_what_is_used_the_oldest_is_forgotten() {
    let mut used = used::Used::default();
    let number = |number: u128| Uuid::from_u128(number);
    for one in 0..5_000 {
        used.note(&[number(one)], number(one), key(1));
    }
    assert_eq!(used.about(&[number(1), number(4_999)]), [number(4_999)]);
    used.note(&[number(4_999)], number(7), key(1));
    assert_eq!(
        used.about(&[number(4_999), number(4_999)]),
        [number(4_999), number(7)]
    );
    let last = used.of(key(1));
    assert_eq!((last.len(), last[63]), (64, (number(4_999), number(7))));
    assert_eq!(used.of(key(2)), []);
}
