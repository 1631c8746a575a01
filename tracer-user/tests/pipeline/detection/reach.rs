//! The same writes and programs by other ways into the kernel, and what others do with what a server
//! wrote.

use super::Row;
use super::hosts::{APACHE, FPM, POSTGRES, TOMCAT};

/// nginx and php-fpm, cron, and an administrator's shell (20). 11 is a php-fpm worker.
const HOST: &str = "
    served /srv/www
    cgi /usr/lib/cgi-bin
    component /etc/php
    placed 5 served /srv/www
    placed 6 component /etc/php
    observed 1 /sbin/init
    observed 8 :parent=1 /usr/sbin/cron /usr/sbin/cron -f
    observed 10 :parent=1 /usr/sbin/php-fpm8.2 'php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)'
    observed 11 :parent=10 :uid=33 /usr/sbin/php-fpm8.2 'php-fpm: pool www'
    observed 20 :parent=1 /usr/bin/bash -bash
    end";

#[rustfmt::skip]
pub(super) const MUST: &[Row] = &[
    // Writes without an open of this lineage, and opens by other ways.
    ("through a descriptor that it was given", FPM, "wrote 11 /srv/www/x.php", &["server-code-write high 11"]),
    ("through a shared mapping", FPM, "map 11 write /srv/www/x.php", &["server-code-write high 11"]),
    ("through io_uring", FPM, "open 11 :uring created /srv/www/x.php", &["server-code-write high 11"]),
    ("an open that was only permitted", FPM, "open 11 :attempt write /srv/www/x.php", &["server-code-write high 11"]),
    ("a rename through io_uring", FPM, "rename 11 :uring :attempt /tmp/x /srv/www/x.php", &["server-code-write high 11"]),
    ("a hard link", FPM, "open 11 created /tmp/x;;link 11 /tmp/x /srv/www/x.php", &["server-code-write high 11"]),
    ("a file without a name that is given one", FPM, "open 11 :ino=7 created '/srv/www/#7';;link 11 :ino=7 :resolved /proc/self/fd/3 /srv/www/x.php", &["server-code-write high 11"]),
    ("a hard link to what others wrote", FPM, "link 11 /var/lib/app/x.txt /srv/www/x.php", &["server-code-write high 11"]),
    ("a hard link to a setting", FPM, "link 11 /tmp/x /etc/php/99-x.ini", &["server-component-write high 11"]),
    ("a symbolic link with a name that is run", FPM, "symlink 11 /tmp/x.txt /srv/www/x.php", &["server-code-write high 11"]),
    ("a symbolic link to what is run", FPM, "symlink 11 /tmp/x.php /srv/www/x", &["server-code-write high 11"]),
    ("a symbolic link to a directory of code", FPM, "open 11 created /tmp/d/x.php;;symlink 11 /tmp/d /srv/www/d", &["server-code-write high 11"]),
    ("code in a directory that was linked before", FPM, "symlink 11 ../../tmp/d /srv/www/d;;open 11 created /tmp/d/x.php", &["server-code-write high 11"]),
    ("a FIFO with a name that is run", FPM, "mknod 11 /srv/www/x.php", &["server-code-write high 11"]),
    ("a mount over a served directory", FPM, "mount 11 /tmp/www /srv/www", &["server-code-write high 11"]),
    ("a mount in it", FPM, "mount 11 /tmp/www /srv/www/up", &["server-code-write high 11"]),
    ("a mount above it", FPM, "mount 11 tmpfs /srv", &["server-code-write high 11"]),
    ("a mount over settings", FPM, "mount 11 /tmp/php /etc/php", &["server-component-write high 11"]),
    ("a program run on request", APACHE, "chmod 11 755 /usr/lib/cgi-bin/x", &["server-code-write high 11"]),
    ("capabilities for it", APACHE, "setxattr 11 security.capability /usr/lib/cgi-bin/x", &["server-code-write high 11"]),
    // By identity: whatever the way that a directory was come to.
    ("a directory by another way", HOST, "open 11 :directory=5 created /mnt/b/x.php", &["server-code-write high 11"]),
    ("a rename into it", HOST, "rename 11 :resolved :directory=5 /tmp/x /proc/1/root/srv/www/x.php", &["server-code-write high 11"]),
    ("a setting by another way", HOST, "open 11 :directory=6 created /srv/www/b/x", &["server-component-write high 11"]),
    // By name only: where the directory leads is asked for.
    ("a rename through a linked directory", FPM, "rename 11 /tmp/x /tmp/l/x.php;;now;;leads /tmp/l /srv/www/up", &["server-code-write high 11"]),
    ("a hard link through one", FPM, "link 11 :dir=/tmp x l/x.php;;now;;leads /tmp/l /srv/www/up", &["server-code-write high 11"]),
    ("names exchanged through one", FPM, "rename 11 :exchange /tmp/l/x.php /tmp/x;;now;;leads /tmp/l /srv/www", &["server-code-write high 11"]),
    ("a name that was another", FPM, "rename 11 :early-new=/tmp/l/x.php /tmp/x /tmp/y;;now;;leads /tmp/l /srv/www", &["server-code-write high 11"]),
    ("an answer that takes its time", FPM, "rename 11 /tmp/x /tmp/l/x.php;;wait 11s;;open 11 created /tmp/y.php;;now;;leads /tmp/l /srv/www", &["server-code-write high 11"]),
    ("the second answer", FPM, "rename 11 /tmp/x /tmp/l/x.php;;now;;rename 11 /tmp/y /tmp/l/y.php;;now;;leads /tmp/l /tmp/l;;leads /tmp/l /srv/www", &["server-code-write high 11"]),
    ("a directory that becomes known while a name is looked up", FPM, "rename 11 /tmp/x /opt/l/x.php;;now;;served /opt/l;;leads /opt/l /opt/l", &["server-code-write high 11"]),
    // Two names at once.
    ("a name that was harmless when the call began", FPM, "rename 11 :early-new=/tmp/a /tmp/x /srv/www/x.php", &["server-code-write high 11"]),
    ("a name that was harmless when it ended", FPM, "rename 11 :early-new=/srv/www/x.php /tmp/x /tmp/a", &["server-code-write high 11"]),
    ("the same of a link", FPM, "symlink 11 :early-new=/srv/www/x.php /tmp/x /tmp/a", &["server-code-write high 11"]),
    // A name that the kernel took from a directory that is not known, or that may have been another.
    ("a directory that was another when the call began", FPM, "rename 11 :moved :dir=/tmp /tmp/x x.php", &["server-code-write high 11"]),
    ("a name that nobody saw when the call began", FPM, "rename 11 :unread /tmp/x /srv/www/x.txt", &["server-code-write high 11"]),
    ("one in a directory that leads to a served one", FPM, "rename 11 :unread /tmp/x /tmp/l/x;;now;;leads /tmp/l /srv/www", &["server-code-write high 11"]),
    // What the kernel loads, whatever the loader was told.
    ("the loader through a link", FPM, "fork 11>30;;exec 30 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 ld.so /tmp/report;;map 30 exec /usr/bin/dash", &["server-shell high 30"]),
    ("the loader told what it runs", FPM, "fork 11>30;;exec 30 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 ld.so /bin/sh;;map 30 exec /usr/bin/dash", &["server-shell high 30"]),
    ("the loader with what was dropped", FPM, "open 11 created /tmp/x;;fork 11>30;;exec 30 /lib/ld-musl-x86_64.so.1 ld /tmp/l;;map 30 exec /tmp/x", &["server-dropped-exec high 30"]),
    ("a database's loader", POSTGRES, "fork 11>30;;exec 30 /lib64/ld-linux-x86-64.so.2 ld /tmp/l;;map 30 exec /usr/bin/bash", &["database-shell high 30"]),
    // What a program is made to load before itself, even one that is let through.
    ("a library preloaded into mail()", FPM, "open 11 created /tmp/x.so;;fork 11>20;;exec 20 /usr/bin/dash sh -c '/usr/sbin/sendmail -t -i';;map 20 :writer=11 exec /tmp/x.so", &["server-dropped-exec high 20"]),
    ("one into a program that is no shell", FPM, "open 11 created /tmp/x.so;;fork 11>20;;exec 20 /usr/bin/convert convert a b;;map 20 exec /tmp/x.so", &["server-dropped-exec high 20"]),
    // A shell by its file, whatever it is called.
    ("a shell mounted over a harmless name", FPM, "fork 1>40;;exec 40 :ino=77 /usr/bin/dash sh;;fork 11>30;;exec 30 :ino=77 :mnt=4026532999 /usr/bin/id id -c id", &["server-shell high 30"]),
    ("an interpreter mounted over a server", FPM, "fork 1>40;;exec 40 :ino=77 /usr/bin/perl perl;;fork 11>30;;exec 30 :ino=77 :mnt=4026532999 /usr/sbin/nginx nginx -e 1", &["server-shell high 30"]),
    ("the same in the server's own namespace", FPM, "fork 1>40;;exec 40 :ino=77 /usr/bin/perl perl;;fork 11>30;;exec 30 :ino=77 /usr/sbin/nginx nginx -e 1", &["server-shell high 30"]),
    ("a shell that ran when the agent began", FPM, "observed 40 :ino=77 :parent=1 /usr/bin/bash -bash;;now;;fork 11>30;;exec 30 :ino=77 /usr/bin/id id -c id", &["server-shell high 30"]),
    ("busybox under another name", FPM, "fork 1>40;;exec 40 :ino=77 /bin/busybox ls;;fork 11>30;;exec 30 :ino=77 :mnt=4026532999 /usr/bin/id sh -c id", &["server-shell high 30"]),
    ("a loader that maps one", FPM, "fork 1>40;;exec 40 :ino=77 /usr/bin/dash sh;;fork 11>30;;exec 30 /lib64/ld-linux-x86-64.so.2 ld /usr/bin/id;;map 30 :ino=77 exec /usr/bin/id", &["server-discovery low 30", "server-shell high 30"]),
    ("a database's", POSTGRES, "fork 1>40;;exec 40 :ino=77 /usr/bin/dash sh;;fork 11>30;;exec 30 :ino=77 /usr/bin/id id", &["database-shell high 30"]),
    // Dropped files, by the kernel's memory of who wrote them.
    ("a dropped program by a hard link", FPM, "open 11 created /tmp/x;;link 11 /tmp/x /tmp/y;;fork 11>30;;exec 30 /tmp/y", &["server-dropped-exec high 30"]),
    ("a dropped program by a name that was not told", FPM, "fork 11>30;;exec 30 :writer=11 /tmp/z", &["server-dropped-exec high 30"]),
    ("a dropped program that runs as its owner", FPM, "open 11 created /tmp/x;;fork 11>30;;exec 30 :mode=104755 /tmp/x", &["server-dropped-exec critical 30"]),
    ("a dropped program with capabilities", FPM, "open 11 created /tmp/x;;setxattr 11 security.capability /tmp/x;;fork 11>30;;exec 30 /tmp/x", &["server-dropped-exec critical 30"]),
    // Executed by who descends from no server.
    ("cron runs what was dropped", HOST, "open 11 created /tmp/x;;fork 8>30;;exec 30 :writer=11 :tag=app/0/file /tmp/x", &["server-dropped-exec high 30"]),
    ("cron runs a dropped script", HOST, "open 11 created /opt/x.sh;;fork 8>30;;exec 30 :script=/opt/x.sh /usr/bin/dash /bin/sh /opt/x.sh", &["server-dropped-exec high 30"]),
    ("cron's shell is given a dropped script", HOST, "open 11 created /opt/x.sh;;fork 8>30;;exec 30 /usr/bin/dash sh /opt/x.sh", &["server-dropped-exec high 30"]),
    ("a crontab of the server's own user", HOST, "open 11 created /opt/x.php;;fork 8>30;;exec 30 :uid=33 /usr/bin/php8.2 php /opt/x.php", &["server-dropped-exec medium 30"]),
    ("the same, told twice", HOST, "open 11 created /opt/x.php;;fork 8>30;;exec 30 :uid=33 /usr/bin/php8.2 php /opt/x.php;;read 30 :writer=11 :tag=app/0/file /opt/x.php", &["server-dropped-exec medium 30"]),
    ("a crontab of that user, told by the kernel", HOST, "open 11 created /tmp/q;;fork 8>30;;exec 30 :uid=33 /usr/bin/php8.2 php;;read 30 :writer=11 :tag=app/0/file /tmp/q", &["server-dropped-exec medium 30"]),
    ("cron's shell reads a dropped script, told by the kernel", HOST, "wrote 11 /tmp/q;;fork 8>30;;exec 30 /usr/bin/dash sh;;read 30 :writer=11 :tag=app/0/file /tmp/q", &["server-dropped-exec high 30"]),
    ("cron runs a program that runs as its owner", HOST, "open 11 created /tmp/x;;fork 8>30;;exec 30 :writer=11 :mode=104755 /tmp/x", &["server-dropped-exec critical 30"]),
    ("its shell", HOST, "fork 8>30;;exec 30 :writer=11 :tag=app/0/file /tmp/x;;fork 30>31;;exec 31 :tag=app/1/file /usr/bin/dash sh", &["server-dropped-exec high 30", "server-shell high 31"]),
    ("what it writes", HOST, "fork 8>30;;exec 30 :writer=11 :tag=app/0/file /tmp/x;;open 30 :tag=app/0/file created /srv/www/x.php", &["server-dropped-exec high 30", "server-code-write high 30"]),
    ("hours later, when the writer is long gone", HOST, "open 11 created /tmp/x;;exit 11 0;;exit 10 0;;wait 36000s;;fork 8>30;;exec 30 :writer=11 :writer-tag=app/0 /tmp/x", &["server-dropped-exec high 30"]),
    // Reached into.
    ("the shell of a process that a server reached into", HOST, "trace 11 :tag=app/0 :target-tag=app/0/trace ptrace 8;;fork 8>30;;exec 30 :tag=app/1/trace /usr/bin/dash sh", &["server-process-access high 11", "server-shell high 30"]),
    ("what that process writes", HOST, "trace 11 mem 8;;open 8 :tag=app/0/trace created /srv/www/x.php", &["server-process-access high 11", "server-code-write high 8"]),
    // Moved by somebody else.
    ("an administrator makes an upload code", HOST, "open 11 created /srv/www/up/x.txt;;fork 20>30;;exec 30 /usr/bin/mv mv;;rename 30 :untagged :writer=11 /srv/www/up/x.txt /srv/www/x.php", &["server-code-write medium 30"]),
    ("and links it", HOST, "open 11 created /srv/www/up/x.txt;;link 20 :untagged :writer=11 /srv/www/up/x.txt /srv/www/x.php", &["server-code-write medium 20"]),
    ("what only the kernel knows to be written", HOST, "rename 20 :untagged :writer=11 /srv/www/up/x.txt /srv/www/x.php", &["server-code-write medium 20"]),
    ("an upload becomes a setting", HOST, "open 11 created /tmp/x;;rename 20 :untagged :writer=11 /tmp/x /etc/php/x.ini", &["server-component-write medium 20"]),
    ("made executable, moved and run by root", HOST, "open 11 created /srv/www/up/x.txt;;chmod 20 :untagged :writer=11 755 /srv/www/up/x.txt;;rename 20 :untagged :writer=11 /srv/www/up/x.txt /usr/local/bin/x;;fork 20>30;;exec 30 /usr/local/bin/x", &["server-dropped-exec high 30"]),
];

#[rustfmt::skip]
pub(super) const MUST_NOT: &[Row] = &[
    ("a served page is read", FPM, "open 11 created /srv/www/cat.png;;read 11 :writer=11 /srv/www/cat.png", &[]),
    ("a picture through a mapping", FPM, "map 11 write /srv/www/cat.png", &[]),
    ("a hard link to a picture", FPM, "open 11 created /tmp/x;;link 11 /tmp/x /srv/www/cat.png", &[]),
    ("storage linked for pictures", FPM, "symlink 11 ../storage /srv/www/storage;;open 11 created /srv/storage/cat.png", &[]),
    ("the mode of an upload", FPM, "chmod 11 644 /srv/www/x.php;;chmod 11 755 /srv/www/up/cat.png", &[]),
    ("its owner, its size, its end", FPM, "chown 11 33:33 /srv/www/x.php;;truncate 11 0 /srv/www/x.php;;unlink 11 /srv/www/x.php;;mkdir 11 /srv/www/d", &[]),
    ("an attribute", FPM, "setxattr 11 user.comment /srv/www/x.php", &[]),
    ("a mount elsewhere", FPM, "mount 11 tmpfs /var/cache/app", &[]),
    ("a mount made private, a sandbox's root", FPM, "mount 11 :number=278528 none /srv/www;;mount 11 tmpfs /", &[]),
    ("a rename through a directory that leads elsewhere", FPM, "rename 11 /tmp/x /tmp/l/x.php;;now;;leads /tmp/l /var/cache", &[]),
    ("where another directory leads", FPM, "rename 11 /tmp/x /tmp/l/x.php;;now;;leads /tmp/m /srv/www", &[]),
    ("what the kernel resolved itself", FPM, "rename 11 :resolved /tmp/x /tmp/l/x.php;;now;;leads /tmp/l /srv/www", &[]),
    ("an applet beside a shell of the same file", FPM, "fork 1>40;;exec 40 :ino=77 :nlink=300 /bin/sh sh;;fork 11>30;;exec 30 :ino=77 :nlink=300 /bin/ls ls", &[]),
    ("a program with the number that a shell had", FPM, "fork 1>40;;exec 40 :ino=77 /usr/bin/bash bash;;exec 40 :ino=78 /usr/bin/bash bash;;fork 11>30;;exec 30 :ino=77 /usr/bin/convert convert", &[]),
    ("harmless in whatever directory", FPM, "rename 11 :moved :dir=/tmp /tmp/x x.txt", &[]),
    ("a name unseen that was removed", FPM, "unlink 11 :unread /srv/www/x.txt", &[]),
    ("a server loads a library that it unpacked", TOMCAT, "open 10 created /tmp/libnetty_tcnative.so;;map 10 :writer=10 exec /tmp/libnetty_tcnative.so", &[]),
    ("a program maps another", FPM, "fork 11>30;;exec 30 /usr/bin/convert convert;;map 30 exec /usr/bin/dash", &[]),
    ("credentials, namespaces, names", FPM, "credentials 11 33;;namespace 11 chroot /srv;;comm 11 php-fpm8.2 pool;;exec_failed 11 2 /bin/x", &[]),
    ("a debugger of the same server", FPM, "trace 10 ptrace 11", &[]),
    // Others.
    ("an administrator moves a picture", HOST, "open 11 created /srv/www/up/x.png;;rename 20 :untagged :writer=11 /srv/www/up/x.png /srv/www/x.png", &[]),
    ("an administrator takes code out", HOST, "open 11 created /tmp/x.php;;rename 20 :untagged :writer=11 /tmp/x.php /root/quarantine/x.php", &[]),
    ("a deployment, told because of where it is", HOST, "open 20 :untagged :directory=5 created /srv/www/index.php;;rename 20 :untagged :directory=5 /srv/www/.a /srv/www/b.php", &[]),
    ("a backup reads what was written", HOST, "open 11 created /srv/www/x.txt;;fork 8>30;;exec 30 /usr/bin/tar tar;;read 30 :untagged :writer=11 /srv/www/x.txt", &[]),
    ("a script of that name in a container", HOST, "open 11 created /opt/x.sh;;fork 8>30;;exec 30 :mnt=7 :cgroup=/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef /usr/bin/dash sh /opt/x.sh", &[]),
    ("a script of that name in another /tmp", HOST, "open 11 created /tmp/x.sh;;fork 8>30;;exec 30 :mnt=7 /usr/bin/dash sh /tmp/x.sh", &[]),
];
