//! Techniques by pages of PHP behind nginx and php-fpm: ways to run a program, and ways to leave code.

use crate::host::Outcome;
use crate::scene::{Scene, Story};
use crate::server;
use crate::told::{self, CODE, DROPPED, Page, RUN};

pub(crate) fn stories() -> Vec<Story> {
    let mut stories: Vec<Story> = RUNS
        .iter()
        .chain(WRITES)
        .map(|page| Story::new(page.name, |scene| told::attack(scene, &scene.site, page)))
        .collect();
    stories.extend([
        Story::new(LIBRARY.name, library),
        Story::new("apache: mod_php, bash without -c", |scene| {
            told::attack(scene, &server::apache()?, &BASH)
        }),
        Story::new("apache: mod_php writes .htaccess", |scene| {
            told::attack(scene, &server::apache()?, &HTACCESS)
        }),
        Story::new(
            "apache: mod_php drops a page and runs a shell",
            drop_and_shell,
        ),
        Story::new("lighttpd: php-cgi popen", |scene| {
            told::attack(scene, &server::lighttpd_php_cgi()?, &POPEN)
        }),
        Story::new("lighttpd: php-cgi writes a page", |scene| {
            told::attack(scene, &server::lighttpd_php_cgi()?, &DROP)
        }),
    ]);
    stories
}

/// What most of these programs are run for.
const fn run(name: &'static str, needs: &'static [&'static str], php: &'static str) -> Page {
    Page {
        name,
        rules: RUN,
        needs,
        php,
        file: None,
    }
}

/// A program that was dropped.
const fn dropped(name: &'static str, needs: &'static [&'static str], php: &'static str) -> Page {
    Page {
        name,
        rules: DROPPED,
        needs,
        php,
        file: None,
    }
}

/// A file that was written.
const fn write(
    name: &'static str,
    needs: &'static [&'static str],
    php: &'static str,
    file: &'static str,
) -> Page {
    Page {
        name,
        rules: CODE,
        needs,
        php,
        file: Some(file),
    }
}

const BASH: Page = run(
    "bash without -c",
    &["/bin/bash"],
    "run(['/bin/bash'], \"echo TOKEN\\n\");",
);
const POPEN: Page = run(
    "popen",
    &[],
    "$p = popen('echo TOKEN', 'r'); fpassthru($p); pclose($p);",
);
const HTACCESS: Page = write(
    ".htaccess",
    &[],
    "file_put_contents('.htaccess', 'AddHandler x .png'); echo 'TOKEN';",
    "public/.htaccess",
);
const DROP: Page = write(
    "a page",
    &[],
    "file_put_contents('dropped.php', '<?php system($_GET[0]);'); echo 'TOKEN';",
    "public/dropped.php",
);

/// Code that becomes part of the server, which executes nothing.
const LIBRARY: Page = dropped(
    "missed: fpm: a library that the server loads by FFI",
    &["/usr/lib/php/20220829/ffi.so"],
    "copy('/lib/x86_64-linux-gnu/libz.so.1', 'DIR/tmp/ffi.so');\n\
         $z = FFI::cdef('const char *zlibVersion(void);', 'DIR/tmp/ffi.so');\n\
         if ($z->zlibVersion()) echo 'TOKEN';",
);

const RUNS: &[Page] = &[
    run(
        "fpm: a shell behind timeout",
        &["/usr/bin/timeout"],
        "run(['/usr/bin/timeout', '9', '/bin/sh', '-c', 'echo TOKEN']);",
    ),
    run(
        "fpm: a shell behind nohup",
        &["/usr/bin/nohup"],
        "run(['/usr/bin/nohup', '/bin/sh', '-c', 'echo TOKEN']);",
    ),
    run(
        "fpm: a shell behind nice and stdbuf",
        &["/usr/bin/nice", "/usr/bin/stdbuf"],
        "run(['/usr/bin/nice', '/usr/bin/stdbuf', '-o0', '/bin/sh', '-c', 'echo TOKEN']);",
    ),
    run(
        "fpm: a shell by xargs",
        &["/usr/bin/xargs"],
        "run(['/usr/bin/xargs', '-I', '{}', '/bin/sh', '-c', '{}'], 'echo TOKEN');",
    ),
    run(
        "fpm: a shell by find -exec",
        &["/usr/bin/find"],
        "run(['/usr/bin/find', '/etc/passwd', '-exec', '/bin/sh', '-c', 'echo TOKEN', ';']);",
    ),
    run(
        "fpm: a shell by awk",
        &["/usr/bin/awk"],
        "run(['/usr/bin/awk', 'BEGIN { system(\"echo TOKEN\") }']);",
    ),
    run(
        "fpm: a shell by tar's checkpoint",
        &["/bin/tar"],
        "run(['/bin/tar', '-cf', '/dev/null', '/etc/passwd', '--checkpoint=1', \
         '--checkpoint-action=exec=echo TOKEN']);",
    ),
    run(
        "fpm: a shell by an alias of git",
        &["/usr/bin/git"],
        "run(['/usr/bin/git', '-c', 'alias.x=!echo TOKEN', 'x']);",
    ),
    run(
        "fpm: a shell by script",
        &["/usr/bin/script"],
        "run(['/usr/bin/script', '-q', '-c', 'echo TOKEN', '/dev/null']);",
    ),
    run(
        "fpm: a shell by sed's e",
        &["/bin/sed"],
        "run(['/bin/sed', '1e echo TOKEN'], \"x\\n\");",
    ),
    run(
        "fpm: a shell behind a harmless link",
        &["/bin/bash"],
        "symlink('/bin/bash', 'DIR/tmp/TOKEN'); run(['DIR/tmp/TOKEN', '-c', 'echo TOKEN']);",
    ),
    run(
        "fpm: busybox behind a link named ash",
        &["/usr/bin/busybox"],
        "mkdir('DIR/tmp/TOKEN'); symlink('/usr/bin/busybox', 'DIR/tmp/TOKEN/ash');\n\
         run(['DIR/tmp/TOKEN/ash', '-c', 'echo TOKEN']);",
    ),
    run(
        "fpm: bash given a text",
        &["/bin/bash"],
        "file_put_contents('DIR/tmp/TOKEN.txt', 'echo TOKEN'); run(['/bin/bash', 'DIR/tmp/TOKEN.txt']);",
    ),
    run(
        "fpm: bash -s with a file as standard input",
        &["/bin/bash"],
        "file_put_contents('DIR/tmp/TOKEN.in', 'echo TOKEN');\n\
         $p = proc_open(['/bin/bash', '-s'], [['file', 'DIR/tmp/TOKEN.in', 'r'], ['pipe', 'w']], $io);\n\
         echo stream_get_contents($io[1]); proc_close($p);",
    ),
    run(
        "fpm: base64 -d | bash",
        &["/usr/bin/base64"],
        "system('echo ' . base64_encode('echo TOKEN') . ' | base64 -d | bash');",
    ),
    run(
        "fpm: curl | sh",
        &["/usr/bin/curl"],
        "file_put_contents('DIR/public/TOKEN.txt', 'echo TOKEN');\n\
         system('curl -s http://127.0.0.1:PORT/TOKEN.txt | sh');",
    ),
    run(
        "fpm: a command in the environment",
        &[],
        "run(['/bin/sh', '-c', 'eval \"$X\"'], '', ['X' => 'echo TOKEN']);",
    ),
    run(
        "fpm: a shell in the background",
        &["/usr/bin/nohup"],
        "system(\"nohup sh -c 'echo TOKEN > DIR/tmp/TOKEN.out' > /dev/null 2>&1 &\");\n\
         for ($i = 0; $i < 999 && !is_file('DIR/tmp/TOKEN.out'); $i++) usleep(10000);\n\
         usleep(100000); readfile('DIR/tmp/TOKEN.out');",
    ),
    run(
        "fpm: node -e",
        &["/usr/bin/node"],
        "run(['/usr/bin/node', '-e', 'console.log(\"TOKEN\")']);",
    ),
    run(
        "fpm: php -r",
        &["/usr/bin/php"],
        "run(['/usr/bin/php', '-r', 'echo \"TOKEN\";']);",
    ),
    run(
        "fpm: python given its program as standard input",
        &["/usr/bin/python3"],
        "run(['/usr/bin/python3'], 'print(\"TOKEN\")');",
    ),
    run(
        "fpm: python that makes a terminal for a shell",
        &["/usr/bin/python3"],
        "run(['/usr/bin/python3', '-c', 'import pty; pty.spawn([\"/bin/sh\", \"-c\", \"echo TOKEN\"])']);",
    ),
    run(
        "fpm: perl that forks twice for a shell",
        &["/usr/bin/perl"],
        "run(['/usr/bin/perl', '-MPOSIX', '-e', \
         'exit if fork; setsid; exit if fork; exec \"/bin/sh\", \"-c\", \"echo TOKEN\"']);",
    ),
    run(
        "fpm: mail() with more words",
        &[],
        "mail('a@example.org', 's', 't', '', '-OQueueDirectory=/nowhere -X/nowhere'); echo 'TOKEN';",
    ),
    run(
        "fpm: the loader with another argv[0]",
        &["/lib64/ld-linux-x86-64.so.2"],
        "run(['/lib64/ld-linux-x86-64.so.2', '--argv0', 'nginx', '/bin/sh', '-c', 'echo TOKEN']);",
    ),
    dropped(
        "fpm: a shell that is named as the server",
        &[],
        "copy('/bin/dash', 'DIR/tmp/php-fpm8.2'); chmod('DIR/tmp/php-fpm8.2', 0755);\n\
         run(['DIR/tmp/php-fpm8.2', '-c', 'echo TOKEN']);",
    ),
    dropped(
        "fpm: curl brings a program",
        &["/usr/bin/curl"],
        "run(['/usr/bin/curl', '-s', '-o', 'DIR/tmp/got', 'file:///bin/echo']);\n\
         chmod('DIR/tmp/got', 0755); run(['DIR/tmp/got', 'TOKEN']);",
    ),
    dropped(
        "fpm: wget brings a program from the web",
        &["/usr/bin/wget"],
        "copy('/bin/echo', 'DIR/public/echo.bin');\n\
         run(['/usr/bin/wget', '-q', '-O', 'DIR/tmp/fetched', 'http://127.0.0.1:PORT/echo.bin']);\n\
         chmod('DIR/tmp/fetched', 0755); run(['DIR/tmp/fetched', 'TOKEN']);",
    ),
    dropped(
        "fpm: a program in shared memory",
        &["/dev/shm"],
        "copy('/bin/echo', '/dev/shm/TOKEN'); chmod('/dev/shm/TOKEN', 0755);\n\
         run(['/dev/shm/TOKEN', 'TOKEN']); unlink('/dev/shm/TOKEN');",
    ),
    dropped(
        "fpm: a program that was compiled",
        &["/usr/bin/gcc"],
        "file_put_contents('DIR/tmp/c.c', '#include <stdio.h>' . \"\\n\" . 'int main() { puts(\"TOKEN\"); }');\n\
         run(['/usr/bin/gcc', '-o', 'DIR/tmp/compiled', 'DIR/tmp/c.c'], '', ['PATH' => '/usr/bin']); run(['DIR/tmp/compiled']);",
    ),
    dropped(
        "fpm: a dropped program behind timeout",
        &["/usr/bin/timeout"],
        "copy('/bin/echo', 'DIR/tmp/timed'); chmod('DIR/tmp/timed', 0755);\n\
         run(['/usr/bin/timeout', '9', 'DIR/tmp/timed', 'TOKEN']);",
    ),
    dropped(
        "fpm: a program unpacked by tar",
        &["/bin/tar"],
        "mkdir('DIR/tmp/pack'); copy('/bin/echo', 'DIR/tmp/pack/tool'); chmod('DIR/tmp/pack/tool', 0755);\n\
         run(['/bin/tar', '-C', 'DIR/tmp/pack', '-cf', 'DIR/tmp/pack.tar', 'tool']); mkdir('DIR/tmp/un');\n\
         run(['/bin/tar', '-C', 'DIR/tmp/un', '-xf', 'DIR/tmp/pack.tar']); run(['DIR/tmp/un/tool', 'TOKEN']);",
    ),
    dropped(
        "fpm: a perl script with an interpreter line",
        &["/usr/bin/perl"],
        "file_put_contents('DIR/tmp/p', \"#!/usr/bin/perl\\nprint 'TOKEN';\"); chmod('DIR/tmp/p', 0755);\n\
         run(['DIR/tmp/p']);",
    ),
    dropped(
        "fpm: a library preloaded into mail()",
        &["/lib/x86_64-linux-gnu/libz.so.1"],
        "copy('/lib/x86_64-linux-gnu/libz.so.1', 'DIR/tmp/pre.so'); putenv('LD_PRELOAD=DIR/tmp/pre.so');\n\
         mail('a@example.org', 's', 't'); putenv('LD_PRELOAD'); echo 'TOKEN';",
    ),
    dropped(
        "fpm: a library preloaded into a tool",
        &["/lib/x86_64-linux-gnu/libz.so.1"],
        "copy('/lib/x86_64-linux-gnu/libz.so.1', 'DIR/tmp/pre2.so');\n\
         run(['/bin/echo', 'TOKEN'], '', ['LD_PRELOAD' => 'DIR/tmp/pre2.so']);",
    ),
    dropped(
        "fpm: a memfd by FFI",
        &["/usr/lib/php/20220829/ffi.so"],
        "$c = FFI::cdef('int memfd_create(const char *, unsigned); int fork(void);\n\
         int execv(const char *, char *const *); int waitpid(int, void *, int); void _exit(int);\n\
         long write(int, const void *, unsigned long); int open(const char *, int, int);');\n\
         $fd = $c->memfd_create('x', 0); $code = file_get_contents('/bin/touch');\n\
         $c->write($fd, $code, strlen($code));\n\
         $argv = $c->new('char *[3]'); $keep = [];\n\
         foreach (['touch', 'DIR/tmp/TOKEN.ffi'] as $i => $word) {\n\
           $keep[$i] = $c->new('char[' . (strlen($word) + 1) . ']');\n\
           FFI::memcpy($keep[$i], $word, strlen($word)); $argv[$i] = FFI::addr($keep[$i][0]);\n\
         }\n\
         $pid = $c->fork(); if ($pid === 0) { $c->execv(\"/proc/self/fd/$fd\", $argv); $c->_exit(1); }\n\
         $c->waitpid($pid, null, 0); if (is_file('DIR/tmp/TOKEN.ffi')) echo 'TOKEN';",
    ),
];

const WRITES: &[Page] = &[
    write(
        "fpm: a page by exclusive creation",
        &[],
        "$f = fopen('uploads/excl.phtml', 'x'); fwrite($f, '<?php'); fclose($f); echo 'TOKEN';",
        "public/uploads/excl.phtml",
    ),
    write(
        "fpm: a page by SplFileObject",
        &[],
        "(new SplFileObject('spl.php', 'w'))->fwrite('<?php'); echo 'TOKEN';",
        "public/spl.php",
    ),
    write(
        "fpm: a page by the error log",
        &[],
        "ini_set('error_log', 'DIR/public/log.php'); error_log('<?php system($_GET[0]);', 3, 'DIR/public/log.php');\n\
         echo 'TOKEN';",
        "public/log.php",
    ),
    write(
        "fpm: a page that tar unpacks",
        &["/bin/tar"],
        "mkdir('DIR/tmp/t'); file_put_contents('DIR/tmp/t/tarred.php', '<?php');\n\
         run(['/bin/tar', '-C', 'DIR/tmp/t', '-cf', 'DIR/tmp/t.tar', 'tarred.php']);\n\
         run(['/bin/tar', '-C', 'DIR/public', '-xf', 'DIR/tmp/t.tar']); echo 'TOKEN';",
        "public/tarred.php",
    ),
    write(
        "fpm: a page that unzip unpacks",
        &["/usr/bin/unzip", "/usr/bin/zip"],
        "mkdir('DIR/tmp/z'); file_put_contents('DIR/tmp/z/zipped.php', '<?php');\n\
         run(['/usr/bin/zip', '-q', '-j', 'DIR/tmp/z.zip', 'DIR/tmp/z/zipped.php']);\n\
         run(['/usr/bin/unzip', '-q', 'DIR/tmp/z.zip', '-d', 'DIR/public']); echo 'TOKEN';",
        "public/zipped.php",
    ),
    write(
        "fpm: a page that Phar unpacks",
        &[],
        "$a = new PharData('DIR/tmp/a.tar'); $a->addFromString('phar.php', '<?php');\n\
         $a->extractTo('DIR/public'); echo 'TOKEN';",
        "public/phar.php",
    ),
    write(
        "fpm: a page that cp copies",
        &["/bin/cp"],
        "file_put_contents('DIR/tmp/cp', '<?php'); run(['/bin/cp', 'DIR/tmp/cp', 'DIR/public/cp.php']);\n\
         echo 'TOKEN';",
        "public/cp.php",
    ),
    write(
        "fpm: a page that mv brings",
        &["/bin/mv"],
        "file_put_contents('DIR/tmp/mv', '<?php'); run(['/bin/mv', 'DIR/tmp/mv', 'DIR/public/mv.php']);\n\
         echo 'TOKEN';",
        "public/mv.php",
    ),
    write(
        "fpm: a page that ln links",
        &["/bin/ln"],
        "file_put_contents('DIR/tmp/ln', '<?php'); run(['/bin/ln', 'DIR/tmp/ln', 'DIR/public/ln.php']);\n\
         echo 'TOKEN';",
        "public/ln.php",
    ),
    write(
        "fpm: a page that dd writes",
        &["/bin/dd"],
        "run(['/bin/dd', 'of=DIR/public/dd.php', 'status=none'], '<?php'); echo 'TOKEN';",
        "public/dd.php",
    ),
    write(
        "fpm: a page that tee writes",
        &["/usr/bin/tee"],
        "run(['/usr/bin/tee', 'DIR/public/tee.php'], '<?php'); echo 'TOKEN';",
        "public/tee.php",
    ),
    write(
        "fpm: a page that curl brings",
        &["/usr/bin/curl"],
        "file_put_contents('DIR/tmp/curled', '<?php');\n\
         run(['/usr/bin/curl', '-s', '-o', 'DIR/public/curled.php', 'file://DIR/tmp/curled']); echo 'TOKEN';",
        "public/curled.php",
    ),
    write(
        "fpm: a page that rsync brings",
        &["/usr/bin/rsync"],
        "file_put_contents('DIR/tmp/synced.php', '<?php');\n\
         run(['/usr/bin/rsync', 'DIR/tmp/synced.php', 'DIR/public/']); echo 'TOKEN';",
        "public/synced.php",
    ),
    write(
        "fpm: a page that install copies",
        &["/usr/bin/install"],
        "file_put_contents('DIR/tmp/inst', '<?php');\n\
         run(['/usr/bin/install', 'DIR/tmp/inst', 'DIR/public/installed.php']); echo 'TOKEN';",
        "public/installed.php",
    ),
    write(
        "fpm: a page by O_TMPFILE and a link, by FFI",
        &["/usr/lib/php/20220829/ffi.so"],
        "$c = FFI::cdef('int open(const char *, int, int); long write(int, const void *, unsigned long);\n\
         int linkat(int, const char *, int, const char *, int); int close(int);');\n\
         $fd = $c->open('DIR/public', 0x410002, 0644); $c->write($fd, '<?php', 5);\n\
         $c->linkat(-100, \"/proc/self/fd/$fd\", -100, 'DIR/public/tmpfile.php', 0x400); $c->close($fd);\n\
         echo 'TOKEN';",
        "public/tmpfile.php",
    ),
    write(
        "fpm: a page that an image becomes",
        &[],
        "file_put_contents('uploads/image.png', \"\\x89PNG<?php system(1);\");\n\
         rename('uploads/image.png', 'uploads/image.php'); echo 'TOKEN';",
        "public/uploads/image.php",
    ),
];

/// Both of what an intruder does first, in one request.
fn drop_and_shell(scene: &Scene) -> Outcome {
    let site = server::apache()?;
    let (path, token) = told::put(
        &site,
        "file_put_contents('uploads/c.php', '<?php system($_GET[0]);'); system('echo TOKEN');",
    );
    let told = [
        told::Told::of(RUN, site.server),
        told::Told::of(CODE, site.server).file(site.docroot().join("uploads/c.php")),
    ];
    told::expect(scene, "apache", &told, || {
        assert!(site.get(&path).body.contains(&token));
    });
    Ok(())
}

fn library(scene: &Scene) -> Outcome {
    told::need(LIBRARY.needs)?;
    let (path, token) = told::put(&scene.site, LIBRARY.php);
    let told = told::Told::of(LIBRARY.rules, scene.site.server);
    told::expect_at_most(scene, LIBRARY.name, &told, || {
        assert!(scene.site.get(&path).body.contains(&token));
    });
    Ok(())
}
