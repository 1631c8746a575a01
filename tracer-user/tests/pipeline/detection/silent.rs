//! What servers, administrators and packages do all day.

use super::Row;
use super::hosts::{APACHE, BARE, FPM, GUNICORN, MAIL, NODE, TOMCAT};

const NEW: &str = "observed 1 /sbin/init\nend";

#[rustfmt::skip]
pub(super) const MUST_NOT: &[Row] = &[
    // Servers that start servers.
    ("php-fpm reloads", FPM, "exec 10 /usr/sbin/php-fpm8.2 /usr/sbin/php-fpm8.2 --nodaemonize;;fork 10>12", &[]),
    ("nginx upgrades its binary", FPM, "fork 5>9;;exec 9 /usr/sbin/nginx nginx", &[]),
    ("apache runs php-cgi", APACHE, "fork 11>12;;exec 12 :stdin=pipe /usr/bin/php-cgi8.2 php-cgi", &[]),
    ("a worker is recycled", FPM, "exit 11 0;;fork 10>12", &[]),
    // mail()
    ("mail()", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c '/usr/sbin/sendmail -t -i ';;exec 20 /usr/sbin/exim4 /usr/sbin/sendmail -t -i", &[]),
    ("mail() with a sender", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c '/usr/sbin/sendmail -t -i -fwww-data@web-1.example'", &[]),
    ("mail() by a newer C library", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c -- '/usr/sbin/sendmail -t -i'", &[]),
    ("msmtp", FPM, "fork 11>20;;exec 20 /usr/bin/dash sh -c '/usr/bin/msmtp -t'", &[]),
    ("mail delivery runs commands", MAIL, "fork 10>20;;exec 20 /usr/sbin/exim4 exim4 -Mc 1;;fork 20>21;;exec 21 /usr/bin/dash sh -c 'procmail -a x'", &[]),
    // CGI
    ("a CGI script", APACHE, "fork 11>20;;exec 20 :script=/usr/lib/cgi-bin/status.sh /usr/bin/dash /bin/sh /usr/lib/cgi-bin/status.sh", &[]),
    ("a CGI script by its relative name", APACHE, "fork 11>20;;exec 20 :cwd=/usr/lib/cgi-bin :script=./x.pl /usr/bin/perl perl ./x.pl", &[]),
    // Start
    ("include_shell", NEW, "fork 1>10;;exec 10 /usr/sbin/lighttpd lighttpd;;fork 10>20;;exec 20 /usr/bin/dash sh -c /usr/share/lighttpd/create-mime.conf.pl;;fork 20>21;;exec 21 /usr/bin/perl perl x;;exit 21 0;;exit 20 0;;listen 10 80", &[]),
    ("lighttpd-angel", NEW, "fork 1>9;;exec 9 /usr/sbin/lighttpd-angel lighttpd-angel;;fork 9>10;;exec 10 /usr/sbin/lighttpd lighttpd;;fork 10>20;;exec 20 /usr/bin/dash sh -c x", &[]),
    ("an init script", NEW, "fork 1>10;;exec 10 /usr/bin/dash sh /etc/init.d/apache2;;fork 10>11;;exec 11 /usr/bin/dash sh /usr/sbin/apache2ctl start;;exec 11 /usr/sbin/apache2 apache2 -k start", &[]),
    ("a container's entry point", NEW, "fork 1>10;;exec 10 /usr/bin/dash sh /docker-entrypoint.sh nginx;;fork 10>11;;exec 11 /usr/bin/dash sh /docker-entrypoint.d/10.sh;;exit 11 0;;exec 10 /usr/sbin/nginx nginx", &[]),
    ("tomcat unpacks while it starts", "served /var/lib/tomcat10/webapps\nobserved 1 /sbin/init\nend", "fork 1>10;;exec 10 /usr/bin/java java org.apache.catalina.startup.Bootstrap start;;open 10 created /var/lib/tomcat10/webapps/app/index.jsp", &[]),
    // A runtime's own
    ("multiprocessing", GUNICORN, "fork 11>20;;exec 20 :cwd=/srv/app /usr/bin/python3.11 /usr/bin/python3 -c 'from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)' --multiprocessing-fork", &[]),
    ("multiprocessing with interpreter flags", GUNICORN, "fork 11>20;;exec 20 :cwd=/srv/app /usr/bin/python3.11 /usr/bin/python3 -s -OO -c 'from multiprocessing.resource_tracker import main;main(9)'", &[]),
    ("gunicorn upgrades itself", GUNICORN, "fork 10>20;;exec 20 :cwd=/srv/app /usr/bin/python3.11 /usr/bin/python3 /usr/bin/gunicorn app:app", &[]),
    ("node's cluster", NODE, "fork 10>20;;exec 20 :cwd=/srv/app /usr/bin/node /usr/bin/node server.js", &[]),
    ("a runtime that does not listen", NEW, "fork 1>10;;exec 10 /usr/bin/node npm run build;;fork 10>20;;exec 20 /usr/bin/dash sh -c tsc;;fork 20>21;;exec 21 /usr/bin/node node tsc", &[]),
    // Programs that are neither
    ("convert", FPM, "fork 11>20;;exec 20 /usr/bin/convert convert a b", &[]),
    ("java starts a program", TOMCAT, "fork 10>20;;exec 20 /usr/lib/jvm/java-17/lib/jspawnhelper jspawnhelper;;exec 20 /usr/bin/convert convert", &[]),
    // People and machines
    ("a login", BARE, "fork 7>20;;exec 20 /usr/bin/bash -bash;;fork 20>21;;exec 21 /usr/bin/python3 python3", &[]),
    ("cron", BARE, "fork 8>20;;exec 20 /usr/bin/dash sh -c /etc/cron.daily/x;;fork 20>21;;exec 21 /usr/bin/perl perl x", &[]),
    ("a package's script", BARE, "fork 7>20;;exec 20 /usr/bin/bash bash;;fork 20>21;;exec 21 /usr/bin/dpkg dpkg;;fork 21>22;;exec 22 /usr/bin/dash sh /var/lib/dpkg/info/phpmyadmin.postinst;;open 22 created /srv/www/pma/index.php", &[]),
    ("an editor", BARE, "fork 7>20;;exec 20 /usr/bin/bash -bash;;fork 20>21;;exec 21 /usr/bin/vim vim x.php;;open 21 created /srv/www/x.php;;rename 21 /srv/www/x.php~ /srv/www/x.php", &[]),
    ("an admin tests a configuration", BARE, "fork 7>20;;exec 20 /usr/bin/bash -bash;;fork 20>21;;exec 21 /usr/sbin/nginx nginx -t", &[]),
    ("an admin restarts a server", FPM, "fork 1>20;;exec 20 /usr/bin/bash -bash;;fork 20>21;;exec 21 /usr/bin/systemctl systemctl restart nginx;;fork 1>22;;exec 22 /usr/sbin/nginx nginx;;listen 22 80", &[]),
    ("the shell a server was started from", FPM, "fork 1>20;;exec 20 /usr/bin/bash -bash;;fork 20>21;;exec 21 /usr/sbin/nginx nginx;;listen 21 80;;fork 20>22;;exec 22 /usr/bin/dash sh x", &[]),
    // Files
    ("a picture", FPM, "open 11 created /srv/www/uploads/cat.png", &[]),
    ("a style sheet", FPM, "open 11 created /srv/www/cache/a.css", &[]),
    ("a session", FPM, "open 11 created /var/lib/php/sessions/sess_0123", &[]),
    ("a log", FPM, "open 11 append /var/log/app.log;;open 6 append /var/log/nginx/access.log", &[]),
    ("templates compiled elsewhere", FPM, "open 11 created /var/cache/app/twig/ab/cd.php;;rename 11 /var/cache/app/twig/x.tmp /var/cache/app/twig/x.php", &[]),
    ("an upload in transit", FPM, "open 11 created /tmp/phpAbC123;;rename 11 /tmp/phpAbC123 /srv/www/uploads/cat.png", &[]),
    ("a directory of pictures moved in", FPM, "open 11 created /tmp/d/cat.png;;rename 11 /tmp/d /srv/www/d", &[]),
    ("a name that only begins as the directory", FPM, "open 11 created /srv/www2/x.php", &[]),
    ("a file that was code and goes out", FPM, "rename 11 /srv/www/x.php /var/trash/x.txt", &[]),
    ("a pid that a server's child had", FPM, "fork 11>20;;exit 20 0;;wait 1s;;fork 1>20;;exec 20 /usr/bin/dash sh -c x", &[]),
];
