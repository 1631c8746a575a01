//! Whom a process belongs to beside its creators, and what it was before.

use tracer::alert::EnrichedEvent;
use tracer::config::Emit;

use crate::story::{documents, inputs};

/// The last event of a story.
fn last(story: &str) -> EnrichedEvent {
    documents(Emit::Events, &inputs(story)).pop().unwrap().event
}

/// The parent now: its pid, and whether it was inferred.
fn parent(story: &str) -> Option<(u32, bool)> {
    let kin = last(story).kin;
    Some((kin.parent?.key.tgid, kin.parent_inferred))
}

/// `sshd 30`, with the address.
fn entry(story: &str) -> String {
    let Some(entry) = last(story).kin.entry else {
        return "none".to_owned();
    };
    let address = entry.socket.map_or(String::new(), |socket| {
        format!(" from {:?}", &socket.remote_addr[..4])
    });
    format!("{} {}{address}", entry.kind, entry.leader.key.tgid)
}

const INIT: &str =
    "observed 1 /sbin/init\nend\nfork 1>10\nexec 10 /usr/bin/a\nfork 10>11\nfork 11>12";

#[test]
fn the_creator_stays_and_the_parent_changes() {
    let told = |more: &str| parent(&format!("{INIT}\n{more}"));
    assert_eq!(told("exec 12 :parent=11 /usr/bin/id"), Some((11, false)));
    // Nobody told who took it, and there is nobody but init.
    assert_eq!(told("exit 11 0\nopen 12 write /tmp/x"), Some((1, true)));
    assert_eq!(
        told("exit 11 0\nexec 12 :parent=1 /usr/bin/id"),
        Some((1, false))
    );
    // Both at once, in every event: the creator is the first of the lineage.
    let event = last(&format!("{INIT}\nexit 11 0\nopen 12 write /tmp/x"));
    assert_eq!(event.lineage[0].key.tgid, 11);
    // A reaper is known by what it took before, and takes what its own descendants leave.
    let reaper = "exit 11 0\nexec 12 :parent=10 /usr/bin/id\nfork 10>20\nfork 20>21\nexit 20 0";
    assert_eq!(
        told(&format!("{reaper}\nopen 21 write /tmp/x")),
        Some((10, true))
    );
    // And when it has ended itself, init does.
    assert_eq!(
        told(&format!("{reaper}\nexit 10 0\nopen 21 write /tmp/x")),
        Some((1, true))
    );
    // CLONE_PARENT: the kernel's parent is the creator's own.
    assert_eq!(
        told("fork 12>13 :parent=11\nopen 13 write /tmp/x"),
        Some((11, false))
    );
    // In another pid namespace it is the first process there, whoever is above.
    let container = "fork 12>20 :pidns=77 :vpid=1\nfork 20>21 :pidns=77 :vpid=2\nfork 21>22 :pidns=77 :vpid=3\nexit 21 0";
    assert_eq!(
        told(&format!("{container}\nopen 22 write /tmp/x")),
        Some((20, true))
    );
    // Where that one has ended, nobody outside takes them: they are killed.
    assert_eq!(
        told(&format!("{container}\nexit 20 0\nopen 22 write /tmp/x")),
        None
    );
}

#[test]
fn leaders_are_who_began_the_group_and_the_session() {
    let story = format!(
        "{INIT}\nexec 11 :sid=11 :pgid=11 /usr/bin/bash\nexec 12 :sid=11 :pgid=12 /usr/bin/id\nfork 12>13\nopen 13 write /tmp/x"
    );
    let kin = last(&story).kin;
    assert_eq!(kin.session_leader.unwrap().key.tgid, 11);
    assert_eq!(kin.group_leader.unwrap().key.tgid, 12);
    // A number that another has by now, or nobody who is known, is nobody.
    let gone =
        format!("{INIT}\nexec 12 :sid=50 :pgid=60 /usr/bin/id\nfork 10>50\nopen 12 write /tmp/x");
    let kin = last(&gone).kin;
    assert_eq!((kin.session_leader, kin.group_leader), (None, None));
}

#[test]
fn the_entry_is_the_login_the_container_or_the_service() {
    let begin = "observed 1 /sbin/init\nend\n";
    let service = "fork 1>10\nexec 10 /usr/sbin/cron\nfork 10>11\nexec 11 /usr/bin/dash sh";
    assert_eq!(entry(&format!("{begin}{service}")), "init 10");
    let ssh = "fork 1>30\nexec 30 /usr/sbin/sshd\nfork 30>31\n\
        exec 31 :stdin=connected :sid=31 /usr/lib/openssh/sshd-session\nfork 31>32\nfork 32>33\n\
        exec 33 :tty=34816 :sid=33 /usr/bin/bash";
    assert_eq!(
        entry(&format!(
            "{begin}{ssh}\nfork 33>34\nexec 34 :sid=33 /usr/bin/id"
        )),
        "sshd 33 from [203, 0, 113, 5]"
    );
    // What runs before the login's own program is the service's.
    assert_eq!(
        entry(&format!(
            "{begin}fork 1>30\nexec 30 /usr/sbin/sshd\nfork 30>31\nopen 31 write /tmp/x"
        )),
        "init 30"
    );
    // The socket of another program says nothing.
    let local = "fork 1>30\nexec 30 :stdin=connected /usr/bin/inetd\nfork 30>31\nexec 31 /usr/sbin/sshd\nfork 31>32\n\
        exec 32 /usr/bin/bash";
    assert_eq!(entry(&format!("{begin}{local}")), "sshd 32");
    let console = "fork 1>40\nexec 40 :tty=1025 /sbin/agetty\nexec 40 :tty=1025 /usr/bin/login\nfork 40>41\nexec 41 :tty=1025 /usr/bin/bash";
    assert_eq!(entry(&format!("{begin}{console}")), "console 40");
    let id = "0123456789abcdef".repeat(4);
    let container = format!(
        "fork 1>50\nexec 50 /usr/bin/containerd-shim\nfork 50>51\n\
         exec 51 :cgroup=/system.slice/docker-{id}.scope /usr/sbin/nginx\nfork 51>52\n\
         exec 52 :cgroup=/system.slice/docker-{id}.scope /usr/bin/dash sh"
    );
    assert_eq!(entry(&format!("{begin}{container}")), "container 51");
    assert_eq!(
        entry("observed 1 /sbin/init\nend\nopen 1 write /tmp/x"),
        "none"
    );
}

#[test]
fn programs_and_credentials_are_in_time_order() {
    // jspawnhelper and what it becomes: one process, and java runs behind it.
    let java = "observed 1 /sbin/init\nend\nfork 1>10\nexec 10 /usr/bin/java java Main\nlisten 10 8080\nfork 10>20\n\
        exec 20 /usr/lib/jvm/lib/jspawnhelper\nexec 20 /usr/bin/dash sh -c 'exec id'\nfork 20>21\nexec 20 /usr/bin/id\nopen 21 write /tmp/x";
    let event = last(java);
    let ran = |view: &tracer::alert::ProcessView| -> Vec<String> {
        let images = view.previous.iter().chain(&view.image);
        let names = images.map(|image| image.exec.exe.rsplit(|byte| *byte == b'/').next().unwrap());
        names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    };
    // The child keeps what its creator ran when it was created, though that runs another now.
    assert_eq!(ran(&event.process), ["dash"]);
    assert!(event.process.inherited);
    assert_eq!(
        ran(&event.lineage[0]),
        ["java", "jspawnhelper", "dash", "id"]
    );
    let times: Vec<u64> = event.lineage[0]
        .previous
        .iter()
        .map(|image| image.boot_ns)
        .collect();
    assert!(times.is_sorted());

    // Users: told by an exec and by what a process does, the first and the latest kept.
    let mut story = format!("{INIT}\nexec 12 :uid=0 /usr/bin/sudo");
    for uid in [33, 33, 34, 0, 35, 36, 37, 38, 39, 40, 41] {
        story.push_str(&format!("\nexec 12 :uid={uid} /usr/bin/id"));
    }
    let process = last(&story).process;
    let uids: Vec<u32> = process.ran_as.iter().map(|ran_as| ran_as.ids.uid).collect();
    assert_eq!(uids, [0, 35, 36, 37, 38, 39, 40, 41]);
    assert_eq!(process.ran_as[0].boot_ns, process.start_boot_ns);
    assert!(
        process
            .ran_as
            .iter()
            .map(|ran_as| ran_as.boot_ns)
            .is_sorted()
    );
    // 14 programs: one of them inherited.
    assert_eq!(process.images_forgotten, 5);
}

#[test]
fn a_chain_that_goes_on_says_so() {
    let integrity = |story: &str| {
        let integrity = last(story).integrity;
        (integrity.lineage_broken, integrity.ancestry_truncated)
    };
    assert_eq!(
        integrity(&format!("{INIT}\nopen 12 write /tmp/x")),
        (false, false)
    );
    // Nothing is known of who made it; somebody is, who is not known.
    assert_eq!(integrity("end\nopen 20 write /tmp/x"), (true, false));
    assert_eq!(
        integrity("observed 20 :parent=77 /usr/bin/id\nend\nopen 20 write /tmp/x"),
        (true, true)
    );
    // Longer than what is followed.
    let mut long = "observed 1 /sbin/init\nend".to_owned();
    for pid in 2..200 {
        long.push_str(&format!("\nfork {}>{pid}", pid - 1));
    }
    let event = last(&format!("{long}\nopen 199 write /tmp/x"));
    assert!(event.integrity.ancestry_truncated && event.lineage.len() == 127);
}
