//! Programs that a server's lineage must not run unseen.

use super::Row;
use super::hosts::{APACHE, FPM, GUNICORN, MAIL, NODE, POSTGRES, TOMCAT};

#[rustfmt::skip]
pub(super) const MUST: &[Row] = &[
    // Shells and interpreters, whatever they are called.
    ("system()", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c id", &["server-shell high 20"]),
    ("a shell without -c", FPM, "fork 11>20;;exec 20 /usr/bin/bash bash -i", &["server-shell high 20"]),
    ("python", FPM, "fork 11>20;;exec 20 /usr/bin/python3.11 python3 -c 'import pty'", &["server-shell high 20"]),
    ("perl", FPM, "fork 11>20;;exec 20 /usr/bin/perl perl -e 1", &["server-shell high 20"]),
    ("php CLI", FPM, "fork 11>20;;exec 20 /usr/bin/php8.2 php x.php", &["server-shell high 20"]),
    ("argv[0] says something else", FPM, "fork 11>20;;exec 20 /usr/bin/dash '[kworker/0:1]'", &["server-shell high 20"]),
    ("a script", FPM, "fork 11>20;;exec 20 :script=/opt/run.sh /usr/bin/bash /bin/bash /opt/run.sh", &["server-shell high 20"]),
    ("the dynamic loader", FPM, "fork 11>20;;exec 20 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 ld.so /bin/sh -c id", &["server-shell high 20"]),
    ("the loader with options", FPM, "fork 11>20;;exec 20 /lib/ld-musl-x86_64.so.1 ld --argv0 busybox --library-path /x -- /bin/busybox sh", &["server-shell high 20"]),
    ("busybox by applet", FPM, "fork 11>20;;exec 20 /bin/busybox sh -c id", &["server-shell high 20"]),
    ("busybox with its name", FPM, "fork 11>20;;exec 20 /bin/busybox busybox ash", &["server-shell high 20"]),
    ("busybox hush", FPM, "fork 11>20;;exec 20 /bin/busybox hush", &["server-shell high 20"]),
    // By whatever way down.
    ("a grandchild", FPM, "fork 11>20;;exec 20 /usr/bin/env env x;;fork 20>21;;exec 21 /usr/bin/dash sh", &["server-shell high 21"]),
    ("a double fork", FPM, "fork 11>20;;fork 20>21;;exit 20 0;;wait 90s;;exec 21 /usr/bin/dash sh", &["server-shell high 21"]),
    ("CLONE_PARENT", FPM, "fork 11>20 :parent=10;;exec 20 /usr/bin/dash sh", &["server-shell high 20"]),
    ("a child given to init", FPM, "fork 11>20 :parent=1;;exec 20 :parent=1 /usr/bin/dash sh", &["server-shell high 20"]),
    ("pcntl_exec: the worker itself", FPM, "exec 11 /usr/bin/dash sh", &["server-shell high 11"]),
    ("pcntl_exec, seen from its fork on", FPM, "fork 10>12;;exec 12 /usr/bin/dash sh -c id", &["server-shell high 12"]),
    ("three programs in one pid", FPM, "fork 11>20;;exec 20 /usr/bin/env env;;exec 20 /usr/bin/nice nice;;exec 20 /usr/bin/dash sh", &["server-shell high 20"]),
    ("many programs in the worker's pid", FPM, "exec 11 /usr/bin/env;;exec 11 /usr/bin/env;;exec 11 /usr/bin/env;;exec 11 /usr/bin/env;;exec 11 /usr/bin/env;;exec 11 /usr/bin/env;;exec 11 /usr/bin/env;;exec 11 /usr/bin/env;;exec 11 /usr/bin/env;;exec 11 /usr/bin/env;;exec 11 /usr/bin/dash sh", &["server-shell high 11"]),
    // Servers of every kind.
    ("java through jspawnhelper", TOMCAT, "fork 10>20;;exec 20 /usr/lib/jvm/java-17/lib/jspawnhelper jspawnhelper 25:27:29;;exec 20 /usr/bin/bash bash -c id", &["server-shell high 20"]),
    ("node that listens", NODE, "fork 10>20;;exec 20 /usr/bin/dash /bin/sh -c id", &["server-shell high 20"]),
    ("gunicorn's worker", GUNICORN, "fork 11>20;;exec 20 /usr/bin/dash sh -c id", &["server-shell high 20"]),
    ("COPY ... PROGRAM", POSTGRES, "fork 11>20;;exec 20 /usr/bin/dash sh -c id", &["database-shell high 20"]),
    ("a container's server", "observed 1 /sbin/init\nend", "fork 1>10;;exec 10 /usr/sbin/nginx nginx;;listen 10 80;;fork 10>11;;wait 61s;;fork 11>20;;exec 20 /usr/bin/dash sh", &["server-shell high 20"]),
    // What only the kernel knows.
    ("a server the store never saw", "observed 1 /sbin/init\nend", "exec 20 :tag=app/2 /usr/bin/dash sh -c id", &["server-shell high 20"]),
    ("a database the store never saw", "observed 1 /sbin/init\nend", "exec 20 :tag=database/1 /usr/bin/dash sh", &["database-shell high 20"]),
    // What makes it worse.
    ("a connection for standard input", FPM, "fork 11>20;;exec 20 :stdin=connected /usr/bin/dash sh -i", &["server-shell critical 20"]),
    ("the listening socket of FastCGI is no connection", FPM, "fork 11>20;;exec 20 :stdin=listening /usr/bin/dash sh -c id", &["server-shell high 20"]),
    ("a unix socket is no network", NODE, "fork 10>20;;exec 20 :stdin=unix /usr/bin/dash sh", &["server-shell high 20"]),
    ("a shell in memory", FPM, "fork 11>20;;exec 20 :nlink=0 '/memfd:bash' x", &["server-dropped-exec critical 20"]),
    ("a deleted shell", FPM, "fork 11>20;;exec 20 :nlink=0 /tmp/bash bash", &["server-shell critical 20"]),
    ("a program in memory under a server's name", FPM, "fork 11>20;;exec 20 :nlink=0 '/memfd:x/nginx' nginx", &["server-dropped-exec critical 20"]),
    // One attack, one alert, but what is worse or other is told again.
    ("shells of an alerted shell", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c 'bash; bash';;fork 20>21;;exec 21 /usr/bin/bash bash;;fork 20>22;;exec 22 /usr/bin/bash bash", &["server-shell high 20"]),
    ("a reverse shell inside", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh;;fork 20>21;;exec 21 :stdin=connected /usr/bin/bash bash -i;;fork 21>22;;exec 22 :stdin=connected /usr/bin/python3 python3", &["server-shell high 20", "server-shell critical 21"]),
    ("the next request", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c id;;exit 20 0;;fork 11>21;;exec 21 /usr/bin/dash sh -c id", &["server-shell high 20", "server-shell high 21"]),
    ("a dropped program inside a shell", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c x;;fork 20>21;;exec 21 /usr/bin/curl curl;;open 21 created /tmp/x;;fork 20>22;;exec 22 /tmp/x;;fork 20>23;;exec 23 /tmp/x", &["server-shell high 20", "server-dropped-exec high 22"]),
    ("a server that an alerted shell became", NODE, "fork 10>20;;exec 20 /usr/bin/dash sh -c 'exec nginx';;exec 20 /usr/sbin/nginx nginx;;listen 20 80;;wait 61s;;fork 20>21;;exec 21 /usr/bin/dash sh", &["server-shell high 20", "server-shell high 21"]),
    // What it wrote.
    ("a dropped file", FPM, "open 11 created /tmp/x;;fork 11>20;;exec 20 /tmp/x", &["server-dropped-exec high 20"]),
    ("a dropped file that moved", FPM, "open 11 created /tmp/x;;rename 11 /tmp/x /tmp/y;;fork 11>20;;exec 20 /tmp/y", &["server-dropped-exec high 20"]),
    ("a dropped file that changed places", FPM, "open 11 created /tmp/x;;rename 11 :exchange /tmp/x /tmp/y;;fork 11>20;;exec 20 /tmp/y", &["server-dropped-exec high 20"]),
    ("a dropped file whose directory moved", FPM, "open 11 created /tmp/a/x;;rename 11 /tmp/a /tmp/b;;fork 11>20;;exec 20 /tmp/b/x", &["server-dropped-exec high 20"]),
    ("a dropped file named as a server", FPM, "open 11 created /tmp/nginx;;fork 11>20;;exec 20 /tmp/nginx", &["server-dropped-exec high 20"]),
    ("a dropped file through the loader", FPM, "open 11 created /tmp/nginx;;fork 11>20;;exec 20 :cwd=/tmp /lib64/ld-linux-x86-64.so.2 ld.so ./nginx", &["server-dropped-exec high 20"]),
    ("a dropped script named as a server", FPM, "open 11 created /tmp/gunicorn;;fork 11>20;;exec 20 :cwd=/tmp /usr/bin/python3 python3 ./gunicorn", &["server-dropped-exec high 20"]),
    // A server's name opens no door.
    ("an interpreter is judged as one", FPM, "fork 11>20;;exec 20 /usr/bin/python3 python3 /usr/bin/gunicorn app:app", &["server-shell high 20"]),
    ("a title in argv[0]", NODE, "fork 10>20;;exec 20 /usr/bin/python3 'gunicorn: master [x]' -c 'import os'", &["server-shell high 20"]),
    ("code attached to -c before a server's script", FPM, "fork 11>20;;exec 20 /usr/bin/python3 python3 '-cimport os' /usr/bin/gunicorn", &["server-shell high 20"]),
    ("perl's code before a server's script", FPM, "fork 11>20;;exec 20 /usr/bin/perl perl '-esystem 1' /usr/bin/starman", &["server-shell high 20"]),
    ("a module from a directory it wrote", FPM, "open 11 created /tmp/e/gunicorn.py;;fork 11>20;;exec 20 :cwd=/tmp/e /usr/bin/python3 python3 -m gunicorn", &["server-dropped-exec high 20"]),
    ("a shell renamed to a server, through the loader", FPM, "fork 11>20;;exec 20 /lib64/ld-linux-x86-64.so.2 ld.so --argv0 nginx /bin/sh", &["server-shell high 20"]),
    // The start of a server is quiet, but not for long, not for workers, not inside another.
    ("after listening", "observed 1 /sbin/init\nend", "fork 1>10;;exec 10 /usr/sbin/lighttpd lighttpd;;listen 10 80;;fork 10>20;;exec 20 /usr/bin/dash sh -c x", &["server-shell high 20"]),
    ("after a minute", "observed 1 /sbin/init\nend", "fork 1>10;;exec 10 /usr/sbin/lighttpd lighttpd;;wait 61s;;fork 10>20;;exec 20 /usr/bin/dash sh -c x", &["server-shell high 20"]),
    ("a worker of a server on a unix socket", "observed 1 /sbin/init\nend", "fork 1>10;;exec 10 /usr/sbin/php-fpm8.2 php-fpm;;fork 10>11;;wait 5s;;fork 11>20;;exec 20 /usr/bin/dash sh -c x", &["server-shell high 20"]),
    ("a FastCGI server with its socket", "observed 1 /sbin/init\nend", "fork 1>10;;exec 10 :stdin=unix-listening /usr/bin/php-cgi8.2 php-cgi;;fork 10>20;;exec 20 /usr/bin/dash sh", &["server-shell high 20"]),
    ("php-cgi run for each request", APACHE, "fork 11>12;;exec 12 :stdin=pipe /usr/bin/php-cgi8.2 php-cgi;;fork 12>20;;exec 20 /usr/bin/dash sh -c id", &["server-shell high 20"]),
    ("a fresh server with a configuration of the attacker", FPM, "fork 11>12;;exec 12 /usr/sbin/lighttpd lighttpd -f /tmp/x;;fork 12>20;;exec 20 /usr/bin/dash sh -c id", &["server-shell high 20"]),
    ("the same in the worker itself", FPM, "exec 11 /usr/sbin/lighttpd lighttpd -f /tmp/x;;fork 11>20;;exec 20 /usr/bin/dash sh -c id", &["server-shell high 20"]),
    // mail() and what only looks like it.
    ("sendmail and more", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c '/usr/sbin/sendmail -t -i; id'", &["server-shell high 20"]),
    ("sendmail and more, without spaces", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c '/usr/sbin/sendmail -t -i;id'", &["server-shell high 20"]),
    ("sendmail with an option that names a file", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c '/usr/sbin/sendmail -t -i -OQueueDirectory=/tmp -X/srv/www/x.php'", &["server-shell high 20"]),
    ("sendmail, newline, command", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c '/usr/sbin/sendmail -t -i\\nid'", &["server-shell high 20"]),
    ("sendmail, tab, command", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c '/usr/sbin/sendmail -t -i -fa@b\tid'", &["server-shell high 20"]),
    ("sendmail with a substitution", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c '/usr/sbin/sendmail -t -i -f$(id)'", &["server-shell high 20"]),
    ("another sendmail", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c '/tmp/sendmail -t -i'", &["server-shell high 20"]),
    ("sendmail with an argument for $0", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c '/usr/sbin/sendmail -t' x", &["server-shell high 20"]),
    ("python given sendmail", FPM, "fork 11>20;;exec 20 /usr/bin/python3 python3 -c '/usr/sbin/sendmail -t -i'", &["server-shell high 20"]),
    ("a dropped shell given sendmail", FPM, "open 11 created /tmp/sh;;fork 11>20;;exec 20 /tmp/sh sh -c '/usr/sbin/sendmail -t -i'", &["server-dropped-exec high 20"]),
    ("exim's ${run}", FPM, "fork 11>20;;exec 20 /usr/sbin/exim4 exim -be '${run{/bin/sh}}';;fork 20>21;;exec 21 /usr/bin/dash sh", &["server-shell high 21"]),
    // CGI.
    ("a CGI script that a server wrote", APACHE, "open 11 created /usr/lib/cgi-bin/x.sh;;fork 11>20;;exec 20 :script=/usr/lib/cgi-bin/x.sh /usr/bin/dash /bin/sh /usr/lib/cgi-bin/x.sh", &["server-code-write high 11", "server-dropped-exec critical 20"]),
    ("a script beside the CGI directory", APACHE, "fork 11>20;;exec 20 :script=/usr/lib/cgi-bin/../x.sh /usr/bin/dash /bin/sh x.sh", &["server-shell high 20"]),
    ("a shell of a CGI script", APACHE, "fork 11>20;;exec 20 :script=/usr/lib/cgi-bin/x.sh /usr/bin/bash bash x.sh;;fork 20>21;;exec 21 /usr/bin/bash bash -c id", &["server-shell high 21"]),
    ("a CGI name that is cut", APACHE, "fork 11>20;;exec 20 :name-cut :script=/usr/lib/cgi-bin/x /usr/bin/dash sh x", &["server-shell high 20"]),
    // A runtime that runs its own program again.
    ("the runtime with -e", NODE, "fork 10>20;;exec 20 :cwd=/srv/app /usr/bin/node node -e 1", &["server-shell high 20"]),
    ("another script", NODE, "fork 10>20;;exec 20 :cwd=/srv/app /usr/bin/node node other.js", &["server-shell high 20"]),
    ("the same name elsewhere", NODE, "fork 10>20;;exec 20 :cwd=/tmp /usr/bin/node node server.js", &["server-shell high 20"]),
    ("the same script after another", NODE, "fork 10>20;;exec 20 :cwd=/srv/app /usr/bin/node node --require=/tmp/x.js server.js", &["server-shell high 20"]),
    ("the same script, rewritten", NODE, "open 10 write /srv/app/server.js;;fork 10>20;;exec 20 :cwd=/srv/app /usr/bin/node node server.js", &["server-dropped-exec high 20"]),
    ("another runtime of that name", NODE, "fork 10>20;;exec 20 :cwd=/srv/app /opt/node/bin/node node server.js", &["server-shell high 20"]),
    ("multiprocessing and more", GUNICORN, "fork 11>20;;exec 20 :cwd=/srv/app /usr/bin/python3.11 python3 -c 'from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7); import os' --multiprocessing-fork", &["server-shell high 20"]),
    ("multiprocessing with a call inside", GUNICORN, "fork 11>20;;exec 20 :cwd=/srv/app /usr/bin/python3.11 python3 -c 'from multiprocessing.spawn import spawn_main; spawn_main(exec(input()))' --multiprocessing-fork", &["server-shell high 20"]),
    ("multiprocessing after other code", GUNICORN, "fork 11>20;;exec 20 :cwd=/srv/app /usr/bin/python3.11 python3 '-cimport os' -c 'from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)'", &["server-shell high 20"]),
    ("multiprocessing with an option of its own", GUNICORN, "fork 11>20;;exec 20 :cwd=/srv/app /usr/bin/python3.11 python3 -X pycache_prefix=/tmp -c 'from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)'", &["server-shell high 20"]),
    ("multiprocessing beside a module it wrote", GUNICORN, "open 11 created /tmp/e/multiprocessing/__init__.py;;fork 11>20;;exec 20 :cwd=/tmp/e /usr/bin/python3.11 python3 -c 'from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)' --multiprocessing-fork", &["server-shell high 20"]),
    ("multiprocessing of another python", GUNICORN, "fork 11>20;;exec 20 :cwd=/srv/app /tmp/python3.11 python3 -c 'from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)' --multiprocessing-fork", &["server-shell high 20"]),
    // Mail servers deliver by commands, but not for a web server.
    ("a web server below a mail server", MAIL, "fork 10>11;;exec 11 /usr/sbin/php-fpm8.2 php-fpm;;wait 61s;;fork 11>20;;exec 20 /usr/bin/dash sh", &["server-shell high 20"]),
];
