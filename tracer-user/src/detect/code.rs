//! Which file names are code to the server that serves them.

/// Why a file matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// It is run when it is requested, or loaded as a program.
    Program,
    /// It says how other files are run.
    Control,
}

/// Extensions that some server runs or loads. Those of PHP also count when another follows
/// (`shell.php.jpg`), as Apache's `AddHandler` takes any of them (mod_mime, "Files with multiple
/// extensions").
const ANYWHERE: &[&str] = &[
    "php", "php3", "php4", "php5", "php7", "php8", "phps", "pht", "phtml", "phar",
];

#[rustfmt::skip]
const LAST: &[&str] = &[
    "jsp", "jspx", "jspf", "jsw", "jsv", "jhtml", "tag", "tagx", "war", "ear", "jar", "class", "groovy", "gsp",
    "asp", "aspx", "ashx", "asmx", "ascx", "cshtml", "vbhtml", "asa", "cer", "cfm", "cfml", "cfc",
    "cgi", "fcgi", "fpl", "pl", "pm", "py", "pyc", "pyo", "pth", "wsgi", "rb", "rhtml", "erb", "ru", "lua", "tcl",
    "sh", "bash", "so", "node", "mjs", "cjs", "shtml", "shtm", "stm", "inc",
];

const CONTROL: &[&str] = &[
    ".htaccess",
    ".user.ini",
    "php.ini",
    ".htpasswd",
    "web.xml",
    "web.config",
    "sitecustomize.py",
];

/// Judges a path by its last component, as servers do: without regard to case, and without the
/// dots and spaces that some of them strip.
#[must_use]
pub fn code(path: &[u8]) -> Option<Code> {
    let name = super::roles::base(path).to_ascii_lowercase();
    let name = name.trim_ascii_end();
    if CONTROL.iter().any(|control| control.as_bytes() == name) {
        return Some(Code::Control);
    }
    let is = |list: &[&str], word: &[u8]| list.iter().any(|known| known.as_bytes() == word);
    // What follows a word within its part hides nothing: "x.php~", "x.php;.jpg", "x.php%00.png".
    let word = |part| {
        <[u8]>::split(part, |byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
            .next()
            .unwrap_or(part)
    };
    let mut words: Vec<&[u8]> = name
        .split(|&byte| byte == b'.')
        .skip(1)
        .filter(|part| !part.is_empty())
        .map(word)
        .collect();
    let last = words.pop()?;
    let code = is(LAST, last) || is(ANYWHERE, last) || words.iter().any(|word| is(ANYWHERE, word));
    code.then_some(Code::Program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in [
            "shell.php",
            "SHELL.PHP",
            "a.phtml",
            "x.php.jpg",
            "x.php.",
            "x.php ",
            "a.b.jsp",
            "m.so",
            "x.php~",
            "x.php;.jpg",
            "x.php%00.png",
            "app.war",
            "x.PhP5",
        ] {
            assert_eq!(
                code(format!("/srv/{name}").as_bytes()),
                Some(Code::Program),
                "{name}"
            );
        }
        for name in [".htaccess", ".user.ini", "php.ini", "WEB-INF/web.xml"] {
            assert_eq!(
                code(format!("/srv/{name}").as_bytes()),
                Some(Code::Control),
                "{name}"
            );
        }
        for name in [
            "a.png",
            "php",
            ".php_cs",
            "notes.txt",
            "x.phpx",
            "sess_abc",
            "a.php/b.txt",
            "a.js",
            "index.html",
        ] {
            assert_eq!(code(format!("/srv/{name}").as_bytes()), None, "{name}");
        }
    }
}
