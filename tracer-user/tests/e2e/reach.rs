//! The same intrusions by other ways: other names for a file, a loader that was told nothing, and what
//! others than the server do with what it wrote.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::alert::{self, CODE_WRITE, DROPPED_EXEC, Expected, SHELL};
use crate::host::{self, Outcome, Skip, real};
use crate::scene::{Scene, Story};

/// `event.severity` where an administrator may have meant it.
const MEDIUM: u64 = 47;

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("reach: a hard link into the root", |scene| {
            let page = "file_put_contents('DIR/tmp/page', '<?php system($_GET[0]);');\n\
                        link('DIR/tmp/page', 'DIR/public/linked.php');";
            named(scene, page, "public/linked.php")
        }),
        Story::new("reach: a symbolic link into the root", |scene| {
            let page = "file_put_contents('DIR/tmp/page', '<?php system($_GET[0]);');\n\
                        symlink('DIR/tmp/page', 'DIR/public/symbolic.php');";
            named(scene, page, "public/symbolic.php")
        }),
        Story::new(
            "reach: a rename through a linked directory",
            linked_directory,
        ),
        Story::new("reach: a root that is a linked directory", linked_below),
        Story::new("reach: a shell that the loader finds behind a link", loader),
        Story::new("reach: somebody else executes what was dropped", outsider),
        Story::new(
            "reach: somebody else's shell is given what was dropped",
            outsiders_shell,
        ),
        Story::new(
            "reach: an upload is made executable and code by root",
            moved,
        ),
    ]
}

/// Lets the site run a page of PHP; `DIR` stands for the site's folder.
pub(crate) fn visit(scene: &Scene, php: &str) {
    let site = &scene.site;
    let dir = site.dir().path().display().to_string();
    let page = format!("{}.php", host::token());
    let php = php.replace("DIR", &dir);
    site.page(&page, &format!("<?php\n{php}\necho 'done';\n"));
    let response = site.get(&format!("/{page}"));
    assert_eq!(response.body, "done");
}

/// What an alert about a write of a worker must say.
fn written(scene: &Scene, file: Option<&Path>) -> Expected {
    let mut expected = scene.expected(&scene.site, CODE_WRITE, &[]);
    expected.via.remove(0);
    Expected {
        depth: 0,
        file: file.map(Path::to_owned),
        ..expected
    }
}

/// A page that gives a file a name where it is served.
fn named(scene: &Scene, php: &str, name: &str) -> Outcome {
    let file = scene.site.dir().join(name);
    scene.expect(name, &[written(scene, Some(&file))], || {
        visit(scene, php);
        assert!(file.is_file(), "{} is there", file.display());
    });
    std::fs::remove_file(file).expect("what was made");
    Ok(())
}

/// The string says another directory; which one the file is in, only the links say.
fn linked_directory(scene: &Scene) -> Outcome {
    let file = scene.site.dir().join("public/uploads/through.php");
    scene.expect("linked directory", &[written(scene, None)], || {
        visit(
            scene,
            "symlink('DIR/public/uploads', 'DIR/storage/elsewhere');\n\
             file_put_contents('DIR/tmp/page', '<?php system($_GET[0]);');\n\
             rename('DIR/tmp/page', 'DIR/storage/elsewhere/through.php');",
        );
        assert!(file.is_file(), "{} is there", file.display());
    });
    std::fs::remove_file(file).expect("what was made");
    Ok(())
}

/// What is written outside the root is served through a link in it.
fn linked_below(scene: &Scene) -> Outcome {
    let dir = scene.site.dir();
    let file = dir.join("tmp/pages/below.php");
    scene.expect("linked below", &[written(scene, Some(&file))], || {
        visit(
            scene,
            "mkdir('DIR/tmp/pages');\n\
             symlink('DIR/tmp/pages', 'DIR/public/pages');\n\
             file_put_contents('DIR/tmp/pages/below.php', '<?php echo \"served\";');",
        );
        let served = scene.site.get("/pages/below.php");
        assert_eq!(served.body, "served");
    });
    std::fs::remove_file(dir.join("public/pages")).expect("the link");
    Ok(())
}

/// The loader's argument is the name of a link, and says nothing.
fn loader(scene: &Scene) -> Outcome {
    let program = "/lib64/ld-linux-x86-64.so.2";
    if !Path::new(program).exists() {
        return Err(Skip(format!("{program} is not installed")));
    }
    let link = scene.site.dir().join("tmp/report");
    let args = [program, &link.display().to_string(), "-c", "echo done"];
    let expected = Expected {
        executable: real(program),
        args: Some(args.map(ToOwned::to_owned).to_vec()),
        ..scene.expected(&scene.site, SHELL, &[])
    };
    scene.expect("loader", &[expected], || {
        let page = format!("{}.php", host::token());
        let php = format!(
            "<?php\nsymlink('/bin/sh', '{link}');\n\
             $p = proc_open(['{program}', '{link}', '-c', 'echo done'], [1 => ['pipe', 'w']], $io);\n\
             echo stream_get_contents($io[1]); proc_close($p);\n",
            link = link.display(),
        );
        scene.site.page(&page, &php);
        let response = scene.site.get(&format!("/{page}"));
        assert_eq!(response.body.trim(), "done");
    });
    Ok(())
}

/// The one alert of something done by a process of no server's lineage with what php-fpm wrote.
fn expect_outsider(story: &str, alerts: &[Value], rule: &str, severity: u64, words: &[&str]) {
    let [alert] = alerts else {
        let brief: Vec<String> = alerts.iter().map(alert::brief).collect();
        panic!("{story}: one alert, not {brief:#?}");
    };
    let show = || format!("{story}: {alert:#}");
    assert_eq!(alert::text(alert, "/rule/id"), rule, "{}", show());
    assert_eq!(
        alert.pointer("/event/severity"),
        Some(&Value::from(severity)),
        "{}",
        show()
    );
    assert_eq!(alert::text(alert, "/tracer/server/name"), "php-fpm");
    assert_eq!(alert.pointer("/tracer/server/depth"), None, "{}", show());
    assert!(
        alert::text(alert, "/tracer/writer/name").starts_with("php-fpm"),
        "{}",
        show()
    );
    assert_eq!(alert::text(alert, "/process/user/id"), "0", "{}", show());
    let reason = alert::text(alert, "/event/reason");
    for word in words {
        assert!(reason.contains(word), "{word:?} in {reason:?}");
    }
    // The lineage is its own, to PID 1.
    let own = u64::from(std::process::id());
    let pids = alert::lineage_pids(alert);
    assert!(pids.contains(&own) && pids.last() == Some(&1), "{pids:?}");
}

/// As root's cron would.
fn outsider(scene: &Scene) -> Outcome {
    let job = scene.site.dir().join("tmp/job");
    let alerts = scene.alerts_of(1, || {
        visit(
            scene,
            "copy('/bin/true', 'DIR/tmp/job'); chmod('DIR/tmp/job', 0755);",
        );
        host::run(&mut Command::new(&job));
    });
    let path = job.display().to_string();
    let words = ["a process outside its lineage executed", &path];
    expect_outsider("outsider", &alerts, DROPPED_EXEC.0, alert::HIGH, &words);
    assert_eq!(alert::text(&alerts[0], "/process/executable"), path);
    Ok(())
}

fn outsiders_shell(scene: &Scene) -> Outcome {
    let job = scene.site.dir().join("tmp/job.sh");
    let alerts = scene.alerts_of(1, || {
        visit(scene, "file_put_contents('DIR/tmp/job.sh', \"exit 0\\n\");");
        host::run(Command::new("/bin/sh").arg(&job));
    });
    let path = job.display().to_string();
    expect_outsider("shell", &alerts, DROPPED_EXEC.0, alert::HIGH, &[&path]);
    Ok(())
}

fn moved(scene: &Scene) -> Outcome {
    let dir = scene.site.dir();
    let (upload, page) = (dir.join("public/uploads/x.txt"), dir.join("public/x.php"));
    let alerts = scene.alerts_of(1, || {
        visit(
            scene,
            "file_put_contents('uploads/x.txt', '<?php echo \"served\";');",
        );
        host::run(Command::new("chmod").arg("755").arg(&upload));
        host::run(Command::new("mv").args([&upload, &page]));
        assert_eq!(scene.site.get("/x.php").body, "served");
    });
    let (upload, page) = (upload.display().to_string(), page.display().to_string());
    let words = ["mv (user 0) renamed", &upload, "which php-fpm", &page];
    expect_outsider("moved", &alerts, CODE_WRITE.0, MEDIUM, &words);
    assert_eq!(alert::text(&alerts[0], "/file/path"), page);
    std::fs::remove_file(page).expect("what was moved");
    Ok(())
}
