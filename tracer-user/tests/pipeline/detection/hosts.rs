//! What runs on the hosts of the table when the agent starts.

/// nginx and php-fpm; 11 is a php-fpm worker.
pub(super) const FPM: &str = "
    served /srv/www
    cgi /usr/lib/cgi-bin
    component /usr/lib/php/20220829
    component /etc/php
    observed 1 /sbin/init
    observed 5 :parent=1 /usr/sbin/nginx 'nginx: master process /usr/sbin/nginx'
    observed 6 :parent=5 :uid=33 /usr/sbin/nginx 'nginx: worker process'
    observed 10 :parent=1 /usr/sbin/php-fpm8.2 'php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)'
    observed 11 :parent=10 :uid=33 /usr/sbin/php-fpm8.2 'php-fpm: pool www'
    end";

/// Apache; 11 is a worker.
pub(super) const APACHE: &str = "
    served /srv/www
    cgi /usr/lib/cgi-bin
    observed 1 /sbin/init
    observed 10 :parent=1 /usr/sbin/apache2 /usr/sbin/apache2 -k start
    observed 11 :parent=10 :uid=33 /usr/sbin/apache2 /usr/sbin/apache2 -k start
    end";

/// Tomcat under PID 10.
pub(super) const TOMCAT: &str = "
    served /var/lib/tomcat10/webapps
    observed 1 /sbin/init
    observed 10 :parent=1 :uid=53 /usr/lib/jvm/java-17/bin/java java -Djava.io.tmpdir=/tmp org.apache.catalina.startup.Bootstrap start
    end";

/// gunicorn; 11 is a worker.
pub(super) const GUNICORN: &str = "
    served /srv/www
    observed 1 /sbin/init
    fork 1>10
    exec 10 :uid=33 :cwd=/srv/app /usr/bin/python3.11 /usr/bin/python3 /usr/bin/gunicorn app:app
    listen 10 8000
    fork 10>11
    wait 61s
    end";

/// node that listens, PID 10.
pub(super) const NODE: &str = "
    served /srv/www
    observed 1 /sbin/init
    fork 1>10
    exec 10 :uid=1000 :cwd=/srv/app /usr/bin/node node server.js
    listen 10 3000
    wait 61s
    end";

/// PostgreSQL; 11 is a backend.
pub(super) const POSTGRES: &str = "
    component /usr/lib/postgresql/15/lib
    observed 1 /sbin/init
    observed 10 :parent=1 :uid=106 /usr/lib/postgresql/15/bin/postgres postgres -D /var/lib/postgresql/15/main
    observed 11 :parent=10 :uid=106 /usr/lib/postgresql/15/bin/postgres 'postgres: app app [local] SELECT'
    end";

/// Mail delivery and nothing else.
pub(super) const MAIL: &str = "
    observed 1 /sbin/init
    observed 10 :parent=1 :uid=104 /usr/sbin/exim4 /usr/sbin/exim4 -bd -q30m
    end";

/// No server at all.
pub(super) const BARE: &str = "
    served /srv/www
    observed 1 /sbin/init
    observed 7 :parent=1 /usr/sbin/sshd 'sshd: /usr/sbin/sshd -D'
    observed 8 :parent=1 /usr/sbin/cron /usr/sbin/cron -f
    end";
