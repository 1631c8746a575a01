//! What is read of each server, and what is learned from it: the table of the documentation. A test holds
//! it against the parsers.

/// A server, or servers that are read in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its names in the table of servers.
    pub servers: &'static str,
    /// Where it is looked for.
    pub reads: &'static str,
    /// What names directories whose files are served, run on request, or an application's.
    pub served: &'static str,
    /// What names directories and files that become part of it, beside the files of its configuration.
    pub components: &'static str,
}

const fn source(
    servers: &'static str,
    reads: &'static str,
    served: &'static str,
    components: &'static str,
) -> Source {
    Source {
        servers,
        reads,
        served,
        components,
    }
}

/// The table.
pub const SOURCES: &[Source] = &[
    source(
        "nginx, openresty, tengine, angie",
        "`-c`, `-p`, title of the master, usual places; `include`, `set`",
        "`root`, `alias`; `DOCUMENT_ROOT`, `SCRIPT_FILENAME` of FastCGI, uwsgi and SCGI; application: \
         `passenger_app_root`",
        "`load_module`, `lua_package_path`, `lua_package_cpath`, `*_by_lua_file`, `js_path`, `perl_modules`",
    ),
    source(
        "apache",
        "`-f`, `-d`, usual places, `envvars`, environment; `Include`, `IncludeOptional`, `Define`, `ServerRoot`",
        "`DocumentRoot`, `Alias`, `AliasMatch`, `VirtualDocumentRoot`, `UserDir`, `<Directory>` with `ExecCGI` or a \
         handler, `ProxyPassMatch fcgi:`; cgi: `ScriptAlias`, `ScriptAliasMatch`, `VirtualScriptAlias`; \
         application: `WSGIScriptAlias`, `WSGIDaemonProcess`, `WSGIPythonPath`, `PassengerAppRoot`",
        "`LoadModule`, `LoadFile`, `PHPIniDir`, `php_value`, `php_admin_value`; `php.ini`",
    ),
    source(
        "lighttpd",
        "`-f`, usual places; `include`, `var.*`; `include_shell` is not run",
        "`server.document-root`, `alias.url`, `evhost.path-pattern`, `simple-vhost.*`; cgi: `alias.url` of `/cgi-bin`",
        "`-m`",
    ),
    source(
        "caddy, frankenphp",
        "`--config`, `Caddyfile` of the working directory, usual places; `import`, `{$NAME}`; JSON",
        "`root`, `worker`; `file-server --root`",
        "`php.ini` of frankenphp",
    ),
    source(
        "php-fpm",
        "`-y`, `-p`, title of the master, usual places; `include`, `$pool`",
        "`chdir`, `chroot`, `prefix`, `env[DOCUMENT_ROOT]`, `doc_root`",
        "of pools and of `php.ini` (`-c`, `PHPRC`, `PHP_INI_SCAN_DIR`, usual places): `extension_dir`, `extension`, \
         `zend_extension`, `auto_prepend_file`, `auto_append_file`, `opcache.preload`",
    ),
    source(
        "php-cgi, php",
        "arguments, `php.ini`",
        "`-S` with `-t`, `doc_root`",
        "as php-fpm",
    ),
    source(
        "tomcat, confluence and others in it",
        "`-Dcatalina.base`, `-Dcatalina.home`: `conf/server.xml`, `conf/*/*/*.xml`, `conf/catalina.properties`",
        "`appBase`, `docBase`, resources of a context",
        "`lib`, `bin`, `conf`; `WEB-INF/lib` and `WEB-INF/classes` of each application; `common.loader`, `server.loader`, \
         `shared.loader`",
    ),
    source(
        "jetty, solr",
        "`jetty.base`, `jetty.home`, `solr.solr.home` as property, word or variable: `start.ini`, `start.d/*.ini`",
        "`webapps`, `jetty.deploy.monitoredDir`",
        "`lib`, `modules`, `resources`, `start.d`, `etc`",
    ),
    source(
        "wildfly",
        "`-Djboss.server.base.dir`, `-Djboss.home.dir`: `configuration/standalone*.xml`",
        "`deployments`, `<deployment-scanner>`",
        "`modules`, `-mp`",
    ),
    source(
        "glassfish, weblogic, jenkins, elasticsearch, spring and other Java",
        "properties and environment",
        "`autodeploy`",
        "`plugins`, `modules`, `lib`, `init.groovy.d`; the archive of `-jar`, `-javaagent`",
    ),
    source(
        "uwsgi",
        "arguments, INI, XML, YAML, JSON; `ini`, `include`, `inherit`, `import`, `emperor`; `%d`, `%(name)`, `$(NAME)`",
        "`static-map`, `check-static`, `php-docroot`, `php-app`; cgi: `cgi`; application: `chdir`, `wsgi-file`, `file`, \
         `psgi`, `rack`, `pythonpath`, the directory that has the `module`",
        "`plugins-dir`, `plugin` with a path",
    ),
    source(
        "gunicorn, uvicorn, waitress",
        "arguments, `GUNICORN_CMD_ARGS`, title of the master, `gunicorn.conf.py`, of which only plain strings count",
        "application: `--chdir`, `--app-dir`, `--pythonpath`, `chdir`, `pythonpath`, the directory that has the module",
        "",
    ),
    source(
        "node, bun, deno, python, ruby, perl, php, dotnet, lua, puma, plack",
        "arguments, working directory, `pm_exec_path`",
        "application: directory of the script, above `node_modules`; working directory where a project begins \
         (`package.json`, `manage.py`, `config.ru` ...); served: `http.server`",
        "",
    ),
    source(
        "mysql",
        "`--defaults-file`, `--defaults-extra-file`, usual places; `!include`, `!includedir`",
        "",
        "`plugin_dir`, `basedir`, `init_file`",
    ),
    source(
        "postgresql",
        "`-D`, `PGDATA`, `-c`, `config_file`: `postgresql.conf`, `postgresql.auto.conf`; `include`, `include_if_exists`, \
         `include_dir`",
        "",
        "`dynamic_library_path`, `extension_control_path`, preloaded libraries with a path; `postgresql.auto.conf`, \
         `pg_hba.conf`",
    ),
    source(
        "redis",
        "first argument, usual places; `include`; not of a sentinel",
        "",
        "`loadmodule`",
    ),
    source("any other", "environment", "`DOCUMENT_ROOT`", ""),
];

/// The table in markdown, for the documentation.
#[must_use]
pub fn reference_markdown() -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "| server | what is read | served, run, or an application's | loaded |\n| --- | --- | --- | --- |\n",
    );
    for Source {
        servers,
        reads,
        served,
        components,
    } in SOURCES
    {
        let _infallible = writeln!(out, "| {servers} | {reads} | {served} | {components} |");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_table_are_words_of_the_code() {
        // Every word in code marks that is a plain directive, key or option stands in a parser or plan.
        let code = [
            include_str!("parse/apache.rs"),
            include_str!("parse/caddy.rs"),
            include_str!("parse/database.rs"),
            include_str!("parse/gunicorn.rs"),
            include_str!("parse/java.rs"),
            include_str!("parse/lighttpd.rs"),
            include_str!("parse/nginx.rs"),
            include_str!("parse/php.rs"),
            include_str!("parse/uwsgi.rs"),
            include_str!("discover/plan.rs"),
            include_str!("discover/plan/app.rs"),
            include_str!("discover/plan/database.rs"),
            include_str!("discover/plan/java.rs"),
            include_str!("discover/walk.rs"),
        ]
        .concat()
        .to_ascii_lowercase();
        let mut checked = 0;
        for row in SOURCES {
            for text in [row.reads, row.served, row.components] {
                for word in text.split('`').skip(1).step_by(2) {
                    let is_plain =
                        |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
                    let word = word.strip_prefix("-D").unwrap_or(word);
                    let word = word.trim_start_matches('-').to_ascii_lowercase();
                    if word.len() > 2 && word.bytes().all(is_plain) {
                        checked += 1;
                        assert!(code.contains(&word), "{word} of {}", row.servers);
                    }
                }
            }
        }
        assert!(checked > 80, "{checked}");
    }
}
