//! Files that a server's lineage must not write unseen.

use super::Row;
use super::hosts::{APACHE, FPM, GUNICORN, POSTGRES, TOMCAT};

#[rustfmt::skip]
pub(super) const MUST: &[Row] = &[
    ("file_put_contents", FPM, "open 11 created /srv/www/x.php", &["server-code-write high 11"]),
    ("append to a page", FPM, "open 11 append /srv/www/index.php", &["server-code-write high 11"]),
    ("an existing page", FPM, "open 11 write /srv/www/index.php", &["server-code-write high 11"]),
    ("deep below", FPM, "open 11 created /srv/www/a/b/c/d/e/x.phtml", &["server-code-write high 11"]),
    ("a double extension", FPM, "open 11 created /srv/www/x.php.jpg", &["server-code-write high 11"]),
    ("capitals and dots", FPM, "open 11 created /srv/www/X.PhP.", &["server-code-write high 11"]),
    (".htaccess", FPM, "open 11 created /srv/www/up/.htaccess", &["server-control-write high 11"]),
    (".user.ini", FPM, "open 11 created /srv/www/.user.ini", &["server-control-write high 11"]),
    ("twice at once is once", FPM, "open 11 created /srv/www/x.php;;open 11 write /srv/www/x.php", &["server-code-write high 11"]),
    ("twice, seconds apart", FPM, "open 11 created /srv/www/x.php;;wait 2s;;open 11 write /srv/www/x.php", &["server-code-write high 11", "server-code-write high 11"]),
    ("by two workers", FPM, "fork 10>12;;open 11 created /srv/www/x.php;;open 12 write /srv/www/x.php", &["server-code-write high 11", "server-code-write high 12"]),
    ("by a program of the server", FPM, "fork 11>20;;exec 20 /usr/bin/cp cp;;open 20 created /srv/www/x.php", &["server-code-write high 20"]),
    ("a deployed archive", TOMCAT, "open 10 created /var/lib/tomcat10/webapps/x.war", &["server-archive-write high 10"]),
    ("a JSP", TOMCAT, "open 10 created /var/lib/tomcat10/webapps/ROOT/x.jsp", &["server-code-write high 10"]),
    ("python where it is served", GUNICORN, "open 11 created /srv/www/x.py", &["server-code-write high 11"]),
    // Renames.
    ("a harmless name that becomes code", FPM, "open 11 created /srv/www/x.txt;;rename 11 /srv/www/x.txt /srv/www/x.php", &["server-code-write high 11"]),
    ("code moved in", FPM, "open 11 created /tmp/x;;rename 11 /tmp/x /srv/www/x.php", &["server-code-write high 11"]),
    ("by relative names", FPM, "rename 11 :dir=/srv/www/up a.tmp ../x.php", &["server-code-write high 11"]),
    ("a directory of code moved in", FPM, "open 11 created /tmp/d/e/x.php;;rename 11 /tmp/d /srv/www/d", &["server-code-write high 11"]),
    ("names exchanged, code in", FPM, "open 11 created /tmp/x;;rename 11 :exchange /tmp/x /srv/www/x.php", &["server-code-write high 11"]),
    ("names exchanged the other way", FPM, "open 11 created /tmp/x;;rename 11 :exchange /srv/www/x.php /tmp/x", &["server-code-write high 11"]),
    ("a name too long to be kept", FPM, "rename 11 /tmp/x /srv/www/./././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././././x.php", &["server-code-write high 11"]),
    ("from a directory that is not known", FPM, "rename 11 tmp x.php", &["server-code-write high 11"]),
    // Paths cut short.
    ("code under a path too long to follow", FPM, "open 11 :path-cut created /a/b/c/x.php", &["server-code-write high 11"]),
    // Components: any file.
    ("a PHP extension", FPM, "open 11 created /usr/lib/php/20220829/x.so", &["server-module-write high 11"]),
    ("a setting", FPM, "open 11 created /etc/php/8.2/fpm/conf.d/99-x", &["server-component-write high 11"]),
    ("a database library", POSTGRES, "open 11 created /usr/lib/postgresql/15/lib/x", &["server-component-write high 11"]),
    ("a CGI program", APACHE, "open 11 created /usr/lib/cgi-bin/anything", &["server-code-write high 11"]),
    // A server's name and what only the kernel knows.
    ("a server the store never saw", "served /srv/www\nobserved 1 /sbin/init\nend", "open 20 :tag=web/1 created /srv/www/x.php", &["server-code-write high 20"]),
    ("php-cgi run for each request", APACHE, "fork 11>12;;exec 12 :stdin=pipe /usr/bin/php-cgi8.2 php-cgi;;open 12 created /srv/www/x.php", &["server-code-write high 12"]),
    ("before its directory was known", "observed 1 /sbin/init\nend", "fork 1>10;;exec 10 /usr/sbin/nginx nginx;;listen 10 80;;fork 10>11;;open 11 created /opt/site/x.php;;now;;served /opt/site", &["server-code-write high 11"]),
];
