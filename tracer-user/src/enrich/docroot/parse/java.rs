//! Java's servers: Tomcat's `server.xml` and context files (`<Host appBase>`, `<Context docBase>` and the
//! resources of one), WildFly's `<deployment-scanner>`, and properties that name directories: Tomcat's
//! loaders and Jetty's directory of applications.

use super::{Cursor, Statements, is_space, lines};
use crate::enrich::docroot::{Kind, path, scope::Shape};

/// Where an application has its classes.
const CLASSES: [&[u8]; 2] = [b"WEB-INF/lib", b"WEB-INF/classes"];

pub(super) fn tomcat(text: &[u8], out: &mut Statements) {
    let mut cursor = Cursor::new(text);
    // A relative docBase is relative to the appBase of its host, whose default this is.
    let mut app_base = b"webapps".to_vec();
    while !cursor.rest.is_empty() {
        cursor.skip_while(|byte| byte != b'<');
        if cursor.eat(b"<!--") {
            cursor.skip_past(b"-->");
        } else if cursor.eat(b"<![CDATA[") {
            cursor.skip_past(b"]]>");
        } else if cursor.eat(b"<?") {
            cursor.skip_past(b"?>");
        } else if cursor.eat(b"<") {
            let line = cursor.line;
            let name = cursor.take_while(is_name);
            match name {
                b"Host" => {
                    let [base] = attributes(&mut cursor, [b"appBase"]);
                    app_base = base.unwrap_or(b"webapps".to_vec());
                    out.directory(line, Kind::Served, Shape::Directory, &app_base);
                    let each = path::join(&app_base, b"*");
                    for classes in CLASSES {
                        out.component(line, Shape::Directory, &path::join(&each, classes));
                    }
                }
                b"Context" => {
                    if let [Some(base)] = attributes(&mut cursor, [b"docBase"]) {
                        // A variable may well be absolute: it is for the scope to say.
                        let base = if base.starts_with(b"${") {
                            base
                        } else {
                            path::join(&app_base, &base)
                        };
                        out.directory(line, Kind::Served, Shape::Directory, &base);
                        for classes in CLASSES {
                            out.component(line, Shape::Directory, &path::join(&base, classes));
                        }
                    }
                }
                b"PreResources" | b"PostResources" | b"JarResources" => {
                    let [base, mount] = attributes(&mut cursor, [b"base", b"webAppMount"]);
                    let is_classes = mount.is_some_and(|mount| mount.starts_with(b"/WEB-INF/"));
                    let kind = if is_classes {
                        Kind::Component
                    } else {
                        Kind::Served
                    };
                    if let Some(base) = base {
                        out.directory(line, kind, Shape::Directory, &base);
                    }
                }
                _ => {
                    attributes(&mut cursor, []);
                }
            }
        }
    }
}

/// `standalone.xml`: a scanner's path is relative to what a property names.
pub(super) fn wildfly(text: &[u8], out: &mut Statements) {
    let mut cursor = Cursor::new(text);
    while !cursor.rest.is_empty() {
        cursor.skip_while(|byte| byte != b'<');
        if cursor.eat(b"<!--") {
            cursor.skip_past(b"-->");
        } else if cursor.eat(b"<") {
            let line = cursor.line;
            if cursor.take_while(is_name) != b"deployment-scanner" {
                continue;
            }
            let [path, base] = attributes(&mut cursor, [b"path", b"relative-to"]);
            let Some(path) = path else {
                continue;
            };
            let path = match base {
                Some(base) => path::join(&[b"${", base.as_slice(), b"}"].concat(), &path),
                None => path,
            };
            out.directory(line, Kind::Served, Shape::Directory, &path);
        }
    }
}

/// `catalina.properties` and Jetty's `*.ini`.
pub(super) fn properties(text: &[u8], out: &mut Statements) {
    for (line, text) in lines(text) {
        let text = text.trim_ascii();
        let Some(at) = text.iter().position(|&byte| byte == b'=') else {
            continue;
        };
        let (key, value) = text.split_at_checked(at).unwrap_or_default();
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        match key.trim_ascii() {
            b"common.loader" | b"server.loader" | b"shared.loader" => {
                for item in value.split(|&byte| byte == b',') {
                    let item = item.trim_ascii();
                    let item = item.strip_prefix(b"\"").unwrap_or(item);
                    let item = item.strip_suffix(b"\"").unwrap_or(item);
                    let item = item.strip_suffix(b"/*.jar").unwrap_or(item);
                    out.component(line, Shape::Directory, item);
                }
            }
            b"jetty.deploy.monitoredDir" | b"jetty.deploy.monitoredPath" => {
                out.directory(line, Kind::Served, Shape::Directory, value);
            }
            _ => {}
        }
    }
}

/// Reads the attributes of a tag to its end and gives the values of some.
fn attributes<const N: usize>(cursor: &mut Cursor<'_>, wanted: [&[u8]; N]) -> [Option<Vec<u8>>; N] {
    let mut found = [const { None }; N];
    loop {
        cursor.skip_while(|byte| is_space(byte) || byte == b'/');
        match cursor.peek() {
            None | Some(b'<') => return found,
            Some(b'>') => {
                cursor.next();
                return found;
            }
            Some(_) => {}
        }
        let name = cursor.take_while(is_name);
        cursor.skip_while(is_space);
        if !cursor.eat(b"=") {
            if name.is_empty() {
                cursor.next();
            }
            continue;
        }
        cursor.skip_while(is_space);
        if let Some(quote @ (b'"' | b'\'')) = cursor.peek() {
            cursor.next();
            let value = cursor.take_while(|byte| byte != quote);
            cursor.next();
            let mut slots = wanted.iter().zip(&mut found);
            if let Some((_, slot @ None)) = slots.find(|(known, _)| **known == name) {
                *slot = Some(unescape(value));
            }
        }
    }
}

/// Replaces the five entities that XML itself has.
fn unescape(value: &[u8]) -> Vec<u8> {
    const ENTITIES: &[(&[u8], u8)] = &[
        (b"&amp;", b'&'),
        (b"&lt;", b'<'),
        (b"&gt;", b'>'),
        (b"&quot;", b'"'),
        (b"&apos;", b'\''),
    ];
    let mut out = Vec::with_capacity(value.len());
    let mut cursor = Cursor::new(value);
    loop {
        let entity = ENTITIES.iter().find(|(name, _)| cursor.eat(name));
        let Some(byte) = entity.map(|&(_, byte)| byte).or_else(|| cursor.next()) else {
            return out;
        };
        out.push(byte);
    }
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests {
    use crate::enrich::docroot::parse::{Dialect, tests::shown};

    #[test]
    fn hosts_and_contexts() {
        // The shape of Tomcat 10's own file, with a context added.
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- <Host name="no" appBase="commented"> -->
<Server port="-1" shutdown="SHUTDOWN">
  <Service name="Catalina">
    <Engine name="Catalina" defaultHost="localhost">
      <Host name="localhost"  appBase="webapps"
            unpackWARs="true" autoDeploy="true">
        <Context path="/shop" docBase="/srv/shop"/>
        <Context path='/rel' docBase='rel &amp; more' />
        <Context docBase="${catalina.home}/extra"/>
        <Resources><PreResources base="/srv/jars" webAppMount="/WEB-INF/lib"/></Resources>
        <Valve className="a.B" pattern="%h &quot;%r&quot;" />
      </Host>
      <Host name="b" appBase="/srv/b"></Host>
      <Host name="c"><Context path="x"/></Host>
    </Engine>
  </Service>
</Server>
"#;
        let (classes, found): (Vec<String>, Vec<String>) = shown(Dialect::Tomcat, text)
            .into_iter()
            .partition(|line| line.contains("/WEB-INF/"));
        assert_eq!(classes.len(), 12, "{classes:?}");
        assert!(classes.contains(&"6 component webapps/*/WEB-INF/lib".to_owned()));
        assert!(classes.contains(&"8 component /srv/shop/WEB-INF/classes".to_owned()));
        assert_eq!(
            found,
            [
                "6 served webapps",
                "8 served /srv/shop",
                "9 served webapps/rel & more",
                "10 served ${catalina.home}/extra",
                "11 component /srv/jars",
                "14 served /srv/b",
                "15 served webapps",
            ]
        );
    }

    #[test]
    fn broken_markup_is_left_out() {
        for (text, expected) in [
            ("<Host appBase=", vec!["1 served webapps"]),
            ("<Host appBase='/x", vec!["1 served /x"]),
            ("<Host = = appBase='/x'>", vec!["1 served /x"]),
            (
                "<Host appBase='a'<Host appBase='b'>",
                vec!["1 served a", "1 served b"],
            ),
            ("<!-- <Host appBase='a'>", vec![]),
            ("<<>><", vec![]),
        ] {
            let mut found = shown(Dialect::Tomcat, text);
            found.retain(|line| !line.contains("/WEB-INF/"));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn scanners_and_properties() {
        let text = r#"<server><!-- <deployment-scanner path="no"/> -->
<subsystem xmlns="urn:jboss:domain:deployment-scanner:2.0">
<deployment-scanner path="deployments" relative-to="jboss.server.base.dir" scan-interval="5000"/>
<deployment-scanner name="b" path="/srv/d"/><deployment-scanner scan-enabled="false"/>
"#;
        assert_eq!(
            shown(Dialect::Wildfly, text),
            [
                "3 served ${jboss.server.base.dir}/deployments",
                "4 served /srv/d"
            ]
        );
        // The shape of Tomcat's own file, with a loader added.
        let text = "# common.loader=/no\n\
            common.loader=\"${catalina.base}/lib\",\"${catalina.base}/lib/*.jar\"\n\
            server.loader=\nshared.loader=/srv/shared/*.jar, /srv/classes\nx.y=/no\n\
            jetty.deploy.monitoredDir=/srv/apps\n";
        assert_eq!(
            shown(Dialect::Properties, text),
            [
                "2 component ${catalina.base}/lib",
                "2 component ${catalina.base}/lib",
                "4 component /srv/shared",
                "4 component /srv/classes",
                "6 served /srv/apps",
            ]
        );
    }
}
