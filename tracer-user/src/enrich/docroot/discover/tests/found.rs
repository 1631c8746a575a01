//! What is found beside served directories, and when it is looked for again.

use super::*;

#[test]
fn what_a_configuration_consists_of_is_a_component() {
    let (_keep, root) = tree(&[
        (
            "conf/nginx.conf",
            "include sites/*;\ninclude ../all/*.conf;\n",
        ),
        ("conf/sites/a", "root {R}/all/site;\n"),
        (
            "all/x.conf",
            "load_module {R}/lib/modules/m.so;\nload_module {R}/all/n.so;\n",
        ),
    ]);
    let args = format!("nginx|-p|{0}|-c|{0}/conf/nginx.conf", root.display());
    let mut found = everything(&discover(&request("nginx", &args, &root)), &root);
    found.sort();
    assert_eq!(
        found,
        [
            "component {R}/all/n.so {R}/conf/../all/x.conf:2",
            "component {R}/all/x.conf a file of its configuration",
            "component {R}/conf/nginx.conf a file of its configuration",
            "component {R}/conf/sites files of its configuration are taken from there",
            "component {R}/conf/sites/a a file of its configuration",
            "component {R}/lib/modules {R}/conf/../all/x.conf:1",
            "served {R}/all/site {R}/conf/sites/a:1",
        ],
        "what lies beside a site makes no directory of components of what holds both"
    );
}

#[test]
fn what_changed_is_read_again() {
    let (_keep, root) = tree(&[
        ("n.conf", "include sites/*;\nroot {R}/current/www;\n"),
        ("sites/a", "root {R}/a;\n"),
        ("one/www/x", ""),
        ("two/www/x", ""),
    ]);
    symlink("one", root.join("current")).unwrap();
    let args = format!("nginx|-c|{}/n.conf", root.display());
    let request = request("nginx", &args, &root);
    let write = |name: &str, text: &str| std::fs::write(root.join(name), text).unwrap();
    let changes: [(&str, &dyn Fn()); 4] = [
        ("a file of it", &|| write("sites/a", "root /srv/other;\n")),
        ("another file of it", &|| write("sites/b", "root /srv/b;\n")),
        ("a file that is gone", &|| {
            std::fs::remove_file(root.join("sites/b")).unwrap();
        }),
        ("where a name leads", &|| {
            symlink("two", root.join("next")).unwrap();
            std::fs::rename(root.join("next"), root.join("current")).unwrap();
        }),
    ];
    for (what, change) in changes {
        let before = discover(&request);
        assert!(!is_changed(&request, &before.seen), "before {what}");
        // What is served may change all day.
        write("one/www/y", what);
        assert!(!is_changed(&request, &before.seen), "before {what}");
        change();
        assert!(is_changed(&request, &before.seen), "{what}");
        assert_ne!(before.directories, discover(&request).directories, "{what}");
    }
    let ended = DiscoverRequest {
        start_ticks: 1,
        ..request.clone()
    };
    assert!(!is_changed(&ended, &discover(&request).seen));
}

#[test]
fn applications_and_databases() {
    let (_keep, root) = tree(&[
        ("node/package.json", "{}"),
        ("node/src/server.js", ""),
        ("py/app/wsgi.py", ""),
        (
            "py/gunicorn.conf.py",
            "chdir = '{R}/chdir'\nwsgi_app = 'shop:app'\n",
        ),
        ("chdir/shop.py", ""),
        (
            "u/u.ini",
            "[uwsgi]\nbase = %d..\nchdir = %(base)/chdir\nmodule = shop\nini = {R}/u/more.ini\n\
             static-map = /s=%(base)/static\nhome = %d%n\n",
        ),
        (
            "u/more.ini",
            "plugins-dir = %dplugins\nini = {R}/u/more.ini\n",
        ),
        ("v/one.ini", "[uwsgi]\nwsgi-file = {R}/py/app/wsgi.py\n"),
        (
            "my.cnf",
            "[mysqld]\nplugin_dir={R}/plugins\n!includedir {R}/my.d\n",
        ),
        ("my.d/a.cnf", "[mariadb]\nplugin-dir = {R}/more\n"),
        (
            "data/postgresql.conf",
            "dynamic_library_path = '$libdir:{R}/lib'\ninclude_dir = 'conf.d'\n",
        ),
        (
            "data/conf.d/a.conf",
            "shared_preload_libraries = '{R}/x.so'\n",
        ),
        (
            "data/postgresql.auto.conf",
            "local_preload_libraries = '{R}/y.so'\n",
        ),
        ("redis.conf", "loadmodule {R}/r.so\n"),
        ("php.ini", "extension_dir = {R}/ext\n"),
    ]);
    let root_str = root.to_str().unwrap();
    for (server, cwd, args, expected) in [
        (
            "node",
            "node",
            "node|src/server.js",
            vec![
                "application {R}/node/src directory of the script",
                "application {R}/node working directory of the application",
            ],
        ),
        ("node", "chdir", "node|-e|x", vec![]),
        (
            "gunicorn",
            "py",
            "/usr/bin/python3|/usr/bin/gunicorn|-k|gevent|app.wsgi:app",
            vec![
                "application {R}/chdir {R}/py/gunicorn.conf.py:1",
                "application {R}/py directory of the module",
            ],
        ),
        (
            "gunicorn",
            "node",
            "python3|gunicorn|--chdir={R}/chdir|-b|:80|nowhere:app",
            vec!["application {R}/chdir argument --chdir"],
        ),
        (
            "gunicorn",
            "py",
            "gunicorn: master [app.wsgi:app]",
            vec![
                "application {R}/chdir {R}/py/gunicorn.conf.py:1",
                "application {R}/py directory of the module",
            ],
        ),
        (
            "uvicorn",
            "chdir",
            "python3|/usr/bin/uvicorn|shop:app|--port|80",
            vec!["application {R}/chdir directory of the module"],
        ),
        (
            "uwsgi",
            "node",
            "uwsgi|--ini|{R}/u/u.ini|--master",
            vec![
                "application {R}/chdir {R}/u/u.ini:3",
                "component {R}/u/plugins {R}/u/more.ini:1",
                "served {R}/static {R}/u/u.ini:6",
            ],
        ),
        (
            "uwsgi",
            "node",
            "uwsgi|--emperor|{R}/v|--static-map=/x={R}/s",
            vec![
                "application {R}/py/app {R}/v/one.ini:2",
                "served {R}/s arguments of the server:2",
            ],
        ),
        (
            "mysql",
            "node",
            "mariadbd|--defaults-file={R}/my.cnf|--plugin-dir={R}/told",
            vec![
                "component {R}/told argument --plugin-dir",
                "component {R}/plugins {R}/my.cnf:2",
                "component {R}/more {R}/my.d/a.cnf:2",
            ],
        ),
        (
            "postgresql",
            "node",
            "postgres|-D|{R}/data|-c|dynamic_library_path=$libdir:{R}/told",
            vec![
                "component {R}/told argument dynamic_library_path",
                "component {R}/data/postgresql.auto.conf settings that ALTER SYSTEM keeps",
                "component {R}/data/pg_hba.conf who may log in",
                "component {R}/lib {R}/data/postgresql.conf:1",
                "component {R}/x.so {R}/data/conf.d/a.conf:1",
                "component {R}/y.so {R}/data/postgresql.auto.conf:1",
            ],
        ),
        (
            "redis",
            "node",
            "redis-server|{R}/redis.conf",
            vec!["component {R}/r.so {R}/redis.conf:1"],
        ),
        (
            "php",
            "node",
            "php|-c|{R}/php.ini|-S|127.0.0.1:1|-t|{R}/s",
            vec![
                "served {R}/s arguments of php -S",
                "component {R}/ext {R}/php.ini:1",
            ],
        ),
        (
            "jetty",
            "node",
            "java|-jar|start.jar|jetty.base={R}/j|-javaagent:/srv/a.jar=x",
            vec![
                "served {R}/j/webapps jetty.base",
                "component {R}/j/lib jetty.base",
                "component {R}/j/resources jetty.base",
                "component {R}/j/modules jetty.base",
                "component {R}/j/start.d jetty.base",
                "component {R}/j/etc jetty.base",
                "component {R}/node/start.jar argument -jar",
                "component /srv/a.jar argument -javaagent",
            ],
        ),
    ] {
        let args = args.replace("{R}", root_str);
        let discovery = discover(&request(server, &args, &root.join(cwd)));
        assert_eq!(listed(&discovery, &root), expected, "{server} {args}");
        // One file includes itself.
        let deep = |problem: &String| problem.contains("nested more than 8 deep");
        assert!(
            discovery.problems.iter().all(deep),
            "{:?}",
            discovery.problems
        );
    }
}

#[test]
fn a_home_is_no_application() {
    let (_keep, root) = tree(&[("package.json", "{}"), ("app.js", "")]);
    let home = root.to_str().unwrap();
    let asked = |cwd: &str, line: &str, home: &str| {
        let args: Vec<&[u8]> = line.split('|').map(str::as_bytes).collect();
        let environment = [(b"HOME".as_slice(), home.as_bytes())];
        let plan = plan::plan(&plan::Asked {
            server: "node",
            args: &args,
            exe: b"/usr/bin/node",
            cwd: cwd.as_bytes(),
            environment: &environment,
        });
        plan.directories.len() + plan.probes.len()
    };
    assert_eq!(asked(home, "node|app.js", "/x"), 2);
    assert_eq!(asked(home, "node|app.js", home), 0);
    for (cwd, script) in [
        ("/", "/app.js"),
        ("/home/bob", "app.js"),
        ("/usr/lib/node_modules/npm", "cli.js"),
        ("/tmp", "x.js"),
        ("/root", "x.js"),
    ] {
        assert_eq!(asked(cwd, &format!("node|{script}"), "/x"), 0, "{cwd}");
    }
}
