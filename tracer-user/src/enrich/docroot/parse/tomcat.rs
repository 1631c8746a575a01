//! Tomcat's `server.xml` and context files: `<Host appBase>` and `<Context docBase>`.

use super::{Cursor, Statements, is_space};
use crate::enrich::docroot::{Kind, path, scope::Shape};

pub(super) fn parse(text: &[u8], out: &mut Statements) {
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
                    app_base = attribute(&mut cursor, b"appBase").unwrap_or(b"webapps".to_vec());
                    out.directory(line, Kind::Served, Shape::Directory, &app_base);
                }
                b"Context" => {
                    if let Some(base) = attribute(&mut cursor, b"docBase") {
                        // A variable may well be absolute: it is for the scope to say.
                        let base = if base.starts_with(b"${") {
                            base
                        } else {
                            path::join(&app_base, &base)
                        };
                        out.directory(line, Kind::Served, Shape::Directory, &base);
                    }
                }
                _ => {
                    attribute(&mut cursor, b"");
                }
            }
        }
    }
}

/// Reads the attributes of a tag to its end and gives the value of one.
fn attribute(cursor: &mut Cursor<'_>, wanted: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
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
            if name == wanted && found.is_none() {
                found = Some(unescape(value));
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
        <Valve className="a.B" pattern="%h &quot;%r&quot;" />
      </Host>
      <Host name="b" appBase="/srv/b"></Host>
      <Host name="c"><Context path="x"/></Host>
    </Engine>
  </Service>
</Server>
"#;
        assert_eq!(
            shown(Dialect::Tomcat, text),
            [
                "6 served webapps",
                "8 served /srv/shop",
                "9 served webapps/rel & more",
                "10 served ${catalina.home}/extra",
                "13 served /srv/b",
                "14 served webapps",
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
            assert_eq!(shown(Dialect::Tomcat, text), expected, "{text}");
        }
    }
}
