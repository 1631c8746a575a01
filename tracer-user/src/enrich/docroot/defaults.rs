//! The directories that distributions, official images and hosting panels use unless told otherwise.
//!
//! Exact ones: never a tree in which servers also keep caches, sessions or uploads in transit.

use super::{Entry, Kind, Origin};

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultDirectory {
    /// Absolute path; a segment that is exactly `*` stands for any one name.
    pub pattern: &'static str,
    /// What it is to its server.
    pub kind: Kind,
    /// Whose default it is.
    pub source: &'static str,
}

impl DefaultDirectory {
    /// The row as a directory to look for, in all mount namespaces.
    #[must_use]
    pub fn entry(&self) -> Entry {
        Entry {
            pattern: self.pattern.into(),
            kind: self.kind,
            origin: Origin::Default,
            source: "default".to_owned(),
            mnt_ns: None,
        }
    }
}

/// The table.
#[must_use]
pub const fn defaults() -> &'static [DefaultDirectory] {
    DEFAULTS
}

const fn served(pattern: &'static str, source: &'static str) -> DefaultDirectory {
    DefaultDirectory {
        pattern,
        kind: Kind::Served,
        source,
    }
}

const fn cgi(pattern: &'static str, source: &'static str) -> DefaultDirectory {
    DefaultDirectory {
        pattern,
        kind: Kind::Cgi,
        source,
    }
}

const fn component(pattern: &'static str, source: &'static str) -> DefaultDirectory {
    DefaultDirectory {
        pattern,
        kind: Kind::Component,
        source,
    }
}

#[rustfmt::skip]
const DEFAULTS: &[DefaultDirectory] = &[
    // Document roots of distributions.
    served("/var/www/html", "Debian, RHEL: apache, nginx, lighttpd; images php, wordpress"),
    served("/usr/share/nginx/html", "RHEL, Arch, image nginx"),
    served("/opt/rh/httpd24/root/var/www/html", "RHEL 7 software collection"),
    served("/srv/www/htdocs", "SUSE"),
    served("/srv/www/vhosts/*/httpdocs", "SUSE with Plesk"),
    served("/srv/http", "Arch"),
    served("/var/www/localhost/htdocs", "Alpine, Gentoo"),
    served("/var/lib/nginx/html", "Alpine"),
    served("/usr/share/caddy", "Debian, RHEL: caddy"),
    // Document roots of images and source installations.
    served("/usr/local/apache2/htdocs", "image httpd"),
    served("/usr/local/nginx/html", "nginx from source"),
    served("/usr/local/openresty/nginx/html", "openresty"),
    served("/usr/local/lsws/DEFAULT/html", "OpenLiteSpeed"),
    served("/opt/bitnami/apache/htdocs", "Bitnami"),
    served("/opt/bitnami/apache2/htdocs", "Bitnami"),
    served("/opt/bitnami/nginx/html", "Bitnami"),
    served("/opt/bitnami/wordpress", "Bitnami"),
    served("/bitnami/wordpress", "Bitnami"),
    served("/opt/lampp/htdocs", "XAMPP"),
    // Hosting panels.
    served("/home/*/public_html", "cPanel, CyberPanel; mod_userdir"),
    served("/home/*/domains/*/public_html", "DirectAdmin"),
    served("/home/*/web/*/public_html", "HestiaCP, VestaCP"),
    served("/home/*/htdocs/*", "CloudPanel"),
    served("/var/www/vhosts/*/httpdocs", "Plesk"),
    served("/var/www/vhosts/*/subdomains/*/httpdocs", "Plesk"),
    served("/var/www/clients/*/*/web", "ISPConfig"),
    served("/usr/local/cpanel/base", "cPanel"),
    served("/usr/local/psa/admin/htdocs", "Plesk"),
    served("/www/wwwroot", "aaPanel"),
    // Java.
    served("/usr/local/tomcat/webapps", "image tomcat"),
    served("/var/lib/tomcat/webapps", "RHEL"),
    served("/var/lib/tomcat8/webapps", "Debian"),
    served("/var/lib/tomcat9/webapps", "Debian"),
    served("/var/lib/tomcat10/webapps", "Debian"),
    served("/var/lib/tomcat11/webapps", "Debian"),
    served("/usr/share/tomcat/webapps", "RHEL"),
    served("/srv/tomcat/webapps", "SUSE"),
    served("/opt/tomcat/webapps", "tomcat from its archive"),
    served("/opt/bitnami/tomcat/webapps", "Bitnami"),
    served("/var/lib/jetty/webapps", "image jetty"),
    served("/var/lib/jetty9/webapps", "Debian"),
    served("/opt/jetty/webapps", "jetty from its archive"),
    served("/opt/jboss/wildfly/standalone/deployments", "image wildfly"),
    served("/opt/wildfly/standalone/deployments", "wildfly from its archive"),
    served("/opt/payara/appserver/glassfish/domains/*/autodeploy", "image payara"),
    served("/opt/glassfish/glassfish/domains/*/autodeploy", "glassfish from its archive"),
    served("/opt/zimbra/jetty/webapps", "Zimbra"),
    served("/opt/zimbra/mailboxd/webapps", "Zimbra"),
    served("/usr/sap/*/*/j2ee/cluster/apps/sap.com/irj/servlet_jsp/irj/root", "SAP NetWeaver"),
    // Programs run for requests.
    cgi("/usr/lib/cgi-bin", "Debian"),
    cgi("/var/www/cgi-bin", "RHEL"),
    cgi("/srv/www/cgi-bin", "SUSE"),
    cgi("/var/www/localhost/cgi-bin", "Alpine, Gentoo"),
    cgi("/usr/local/apache2/cgi-bin", "image httpd"),
    cgi("/home/*/public_html/cgi-bin", "cPanel; mod_userdir"),
    cgi("/var/www/vhosts/*/cgi-bin", "Plesk"),
    // apache.
    component("/usr/lib/apache2/modules", "Debian"),
    component("/usr/lib64/httpd/modules", "RHEL"),
    component("/usr/lib/httpd/modules", "Arch"),
    component("/usr/lib64/apache2", "SUSE"),
    component("/usr/lib64/apache2-prefork", "SUSE"),
    component("/usr/lib/apache2", "Alpine"),
    component("/usr/local/apache2/modules", "image httpd"),
    component("/usr/local/apache2/conf", "image httpd"),
    component("/etc/apache2", "Debian, SUSE, Alpine"),
    component("/etc/httpd", "RHEL, Arch"),
    component("/opt/bitnami/apache/conf", "Bitnami"),
    component("/opt/bitnami/apache/modules", "Bitnami"),
    // nginx.
    component("/usr/lib/nginx/modules", "Debian, Alpine, image nginx"),
    component("/usr/lib64/nginx/modules", "RHEL"),
    component("/usr/share/nginx/modules", "RHEL"),
    component("/etc/nginx", "all"),
    component("/usr/local/nginx/conf", "nginx from source"),
    component("/usr/local/nginx/modules", "nginx from source"),
    component("/usr/local/openresty/nginx/conf", "openresty"),
    component("/usr/local/openresty/lualib", "openresty"),
    component("/usr/local/openresty/site/lualib", "openresty"),
    component("/usr/local/share/lua/5.1", "Kong, APISIX"),
    component("/opt/bitnami/nginx/conf", "Bitnami"),
    // Other web servers and proxies.
    component("/etc/lighttpd", "all"),
    component("/usr/lib/lighttpd", "Debian, Alpine"),
    component("/usr/lib64/lighttpd", "RHEL"),
    component("/etc/caddy", "all"),
    component("/etc/haproxy", "all"),
    component("/usr/local/etc/haproxy", "image haproxy"),
    component("/etc/envoy", "image envoy"),
    component("/etc/traefik", "image traefik"),
    component("/etc/varnish", "all"),
    component("/usr/lib/varnish/vmods", "Debian"),
    component("/usr/lib64/varnish/vmods", "RHEL"),
    component("/usr/local/lsws/conf", "OpenLiteSpeed"),
    component("/usr/local/lsws/modules", "OpenLiteSpeed"),
    // PHP: extensions and settings (auto_prepend_file).
    component("/usr/lib/php/*", "Debian, by API version"),
    component("/usr/lib64/php/modules", "RHEL"),
    component("/usr/lib64/php-zts/modules", "RHEL"),
    component("/usr/lib64/php8/extensions", "SUSE"),
    component("/usr/lib/php7/modules", "Alpine"),
    component("/usr/lib/php8/modules", "Alpine"),
    component("/usr/lib/php81/modules", "Alpine"),
    component("/usr/lib/php82/modules", "Alpine"),
    component("/usr/lib/php83/modules", "Alpine"),
    component("/usr/lib/php84/modules", "Alpine"),
    component("/usr/lib/php85/modules", "Alpine"),
    component("/usr/local/lib/php/extensions", "image php"),
    component("/etc/php", "Debian, Arch"),
    component("/etc/php.d", "RHEL"),
    component("/etc/php.ini", "RHEL"),
    component("/etc/php-fpm.d", "RHEL"),
    component("/etc/php-fpm.conf", "RHEL"),
    component("/etc/php7", "Alpine, SUSE"),
    component("/etc/php8", "Alpine, SUSE"),
    component("/etc/php81", "Alpine"),
    component("/etc/php82", "Alpine"),
    component("/etc/php83", "Alpine"),
    component("/etc/php84", "Alpine"),
    component("/etc/php85", "Alpine"),
    component("/usr/local/etc/php", "image php"),
    component("/usr/local/etc/php-fpm.d", "image php"),
    component("/usr/local/etc/php-fpm.conf", "image php"),
    // Java.
    component("/usr/local/tomcat/lib", "image tomcat"),
    component("/usr/local/tomcat/bin", "image tomcat"),
    component("/usr/local/tomcat/conf", "image tomcat"),
    component("/opt/tomcat/lib", "tomcat from its archive"),
    component("/opt/tomcat/conf", "tomcat from its archive"),
    component("/usr/share/tomcat/lib", "RHEL"),
    component("/usr/share/tomcat9/lib", "Debian"),
    component("/usr/share/tomcat10/lib", "Debian"),
    component("/usr/share/tomcat11/lib", "Debian"),
    component("/etc/tomcat", "RHEL"),
    component("/etc/tomcat9", "Debian"),
    component("/etc/tomcat10", "Debian"),
    component("/etc/tomcat11", "Debian"),
    component("/var/lib/jenkins/plugins", "Jenkins"),
    component("/var/lib/jenkins/init.groovy.d", "Jenkins"),
    component("/var/jenkins_home/plugins", "image jenkins"),
    component("/var/jenkins_home/init.groovy.d", "image jenkins"),
    component("/usr/share/elasticsearch/plugins", "Elasticsearch"),
    component("/usr/share/elasticsearch/modules", "Elasticsearch"),
    component("/usr/share/opensearch/plugins", "OpenSearch"),
    // Databases: where SQL can load a library from.
    component("/usr/lib/mysql/plugin", "Debian; image mariadb"),
    component("/usr/lib64/mysql/plugin", "RHEL; image mysql"),
    component("/usr/lib64/mariadb/plugin", "RHEL"),
    component("/usr/lib/mariadb/plugin", "Alpine, Arch"),
    component("/etc/mysql", "Debian; images mysql, mariadb"),
    component("/etc/my.cnf", "RHEL"),
    component("/etc/my.cnf.d", "RHEL, Alpine"),
    component("/usr/lib/postgresql/*/lib", "Debian; image postgres"),
    component("/usr/lib64/pgsql", "RHEL"),
    component("/usr/pgsql-12/lib", "PostgreSQL's own packages for RHEL"),
    component("/usr/pgsql-13/lib", "PostgreSQL's own packages for RHEL"),
    component("/usr/pgsql-14/lib", "PostgreSQL's own packages for RHEL"),
    component("/usr/pgsql-15/lib", "PostgreSQL's own packages for RHEL"),
    component("/usr/pgsql-16/lib", "PostgreSQL's own packages for RHEL"),
    component("/usr/pgsql-17/lib", "PostgreSQL's own packages for RHEL"),
    component("/usr/pgsql-18/lib", "PostgreSQL's own packages for RHEL"),
    component("/usr/local/lib/postgresql", "image postgres:alpine"),
    component("/usr/share/postgresql/*/extension", "Debian; image postgres"),
    component("/usr/local/share/postgresql/extension", "image postgres:alpine"),
    component("/usr/share/pgsql/extension", "RHEL"),
    component("/etc/postgresql", "Debian"),
    component("/usr/lib/redis/modules", "Debian; image redis"),
    component("/usr/local/lib/redis/modules", "image redis"),
    component("/etc/redis", "Debian, RHEL"),
    // Mail.
    component("/usr/lib/dovecot/modules", "Debian"),
    component("/usr/lib64/dovecot", "RHEL"),
    component("/etc/dovecot", "all"),
    component("/etc/exim4", "Debian"),
    component("/etc/postfix", "all"),
];
