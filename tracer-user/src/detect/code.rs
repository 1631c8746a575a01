//! Which file names are code to the server that serves them.

/// Why a file matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// It is run when it is requested, or loaded as a program.
    Program,
    /// It says how other files are run.
    Control,
}

impl Code {
    /// The word in rules.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Control => "control",
        }
    }
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

/// Extensions that are code in an application's own directory only: elsewhere they are sent to
/// browsers as they are.
#[rustfmt::skip]
const APPLICATION: &[&str] = &[
    "js", "jsx", "ts", "tsx", "mts", "cts", "vue", "svelte", "ejs", "pug", "hbs", "wasm", "psgi", "dll", "beam",
    "rake", "haml", "slim", "j2", "jinja", "jinja2", "pyd", "pyw", "pyx", "pyz",
];

const CONTROL: &[&str] = &[
    ".htaccess",
    ".user.ini",
    "php.ini",
    ".htpasswd",
    "web.xml",
    "web.config",
    "sitecustomize.py",
    "usercustomize.py",
    "context.xml",
    "jboss-web.xml",
    "jetty-web.xml",
    "jetty-env.xml",
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

/// Judges a path in the directory of an application that a server runs.
#[must_use]
pub fn application(path: &[u8]) -> Option<Code> {
    code(path).or_else(|| {
        let name = super::roles::base(path).to_ascii_lowercase();
        let extension = name.trim_ascii_end().rsplit(|&byte| byte == b'.').next()?;
        let is_code = APPLICATION
            .iter()
            .any(|known| known.as_bytes() == extension && name.len() > extension.len());
        is_code.then_some(Code::Program)
    })
}

/// Whether a rename is how Python keeps a module that it compiled: beside its like, from the same name
/// with a number (`_write_atomic`, Lib/importlib/_bootstrap_external.py).
#[must_use]
pub fn is_bytecode(old: &[u8], new: &[u8]) -> bool {
    let number = old
        .strip_prefix(new)
        .and_then(|rest| rest.strip_prefix(b"."));
    let mut parts = new.rsplit(|&byte| byte == b'/');
    let is_cache = parts.next().is_some_and(|name| name.ends_with(b".pyc"))
        && parts.next() == Some(b"__pycache__");
    is_cache && number.is_some_and(|n| !n.is_empty() && n.iter().all(u8::is_ascii_digit))
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

    #[test]
    fn code_of_an_application() {
        for name in ["server.js", "x.TS", "a.php", "views/a.ejs", "app.psgi"] {
            let path = format!("/srv/{name}");
            assert_eq!(application(path.as_bytes()), Some(Code::Program), "{name}");
        }
        assert_eq!(application(b"/srv/web.config"), Some(Code::Control));
        for name in ["js", "a.json", "data.db", "x.js.map", "log", "a.js/b"] {
            assert_eq!(
                application(format!("/srv/{name}").as_bytes()),
                None,
                "{name}"
            );
        }
    }

    #[test]
    fn what_python_compiled() {
        let new = "/srv/__pycache__/app.cpython-311.pyc";
        for (old, new, expected) in [
            (format!("{new}.139872013"), new, true),
            (format!("{new}."), new, false),
            (format!("{new}.tmp"), new, false),
            (new.to_owned(), new, false),
            (
                "/tmp/__pycache__/app.cpython-311.pyc.1".to_owned(),
                new,
                false,
            ),
            ("/srv/app.pyc.1".to_owned(), "/srv/app.pyc", false),
            (
                "/srv/__pycache__/a.py.1".to_owned(),
                "/srv/__pycache__/a.py",
                false,
            ),
        ] {
            assert_eq!(
                is_bytecode(old.as_bytes(), new.as_bytes()),
                expected,
                "{old}"
            );
        }
    }
}
