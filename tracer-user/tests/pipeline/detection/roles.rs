//! Servers by what they do, and programs that are none whatever they do.

use super::Row;
use super::hosts::{BARE, FPM};

const NEW: &str = "observed 1 /sbin/init\nend";

/// A program of its own that listens, PID 10.
const CUSTOM: &str = "
    served /srv/www
    observed 1 /sbin/init
    fork 1>10
    exec 10 :uid=1000 :cwd=/srv/app /srv/app/api-server /srv/app/api-server
    listen 10 8080
    wait 61s
    end";

/// sshd and a session of it: 21 is who is logged in, 22 the shell.
const SESSION: &str = "
    served /srv/www
    observed 1 /sbin/init
    observed 7 :parent=1 /usr/sbin/sshd 'sshd: /usr/sbin/sshd -D'
    listen 7 :at=0 22
    end
    fork 7>20
    exec 20 /usr/sbin/sshd /usr/sbin/sshd -D -R
    fork 20>21
    fork 21>22
    exec 22 :uid=1000 /usr/bin/bash -bash";

#[rustfmt::skip]
pub(super) const MUST: &[Row] = &[
    // Any program that serves.
    ("a program of its own", CUSTOM, "fork 10>20;;exec 20 :uid=1000 /usr/bin/dash sh -c 'ping -c1 x; id'", &["server-shell medium 20"]),
    ("found listening", "observed 1 /sbin/init\nobserved 10 :parent=1 /srv/app/api-server api\nlisten 10 :at=0 8080\nend", "fork 10>20;;exec 20 /usr/bin/dash sh -c id", &["server-shell medium 20"]),
    ("its child", CUSTOM, "fork 10>11;;fork 11>20;;exec 20 /usr/bin/env env;;exec 20 /usr/bin/python3.11 python3 -c x", &["server-shell medium 20"]),
    ("a shell that waits for words", CUSTOM, "fork 10>20;;exec 20 /usr/bin/bash bash -i", &["server-shell high 20"]),
    ("an interpreter that waits", CUSTOM, "fork 10>20;;exec 20 /usr/bin/python3.11 python3", &["server-shell high 20"]),
    ("a shell at a terminal", CUSTOM, "fork 10>20;;exec 20 :stdin=tty /usr/bin/dash sh -c x", &["server-shell high 20"]),
    ("a shell on the connection", CUSTOM, "fork 10>20;;exec 20 :stdin=connected /usr/bin/dash sh -c x", &["server-reverse-shell critical 20"]),
    ("what it wrote", CUSTOM, "open 10 created /tmp/x;;fork 10>20;;exec 20 /tmp/x x", &["server-dropped-exec high 20"]),
    ("code in a served directory", CUSTOM, "open 10 created /srv/www/x.php", &["server-code-write high 10"]),
    // On a socket that it was handed.
    ("socket activation", NEW, "listen 1 8080;;fork 1>10;;exec 10 /srv/app/api-server api;;accept 10 192.0.2.7:4000;;fork 10>20;;exec 20 /usr/bin/dash sh -c id", &["server-shell medium 20"]),
    ("a runtime on such a socket", NEW, "listen 1 8080;;fork 1>10;;exec 10 /usr/bin/node node x.js;;accept 10 192.0.2.7:4000;;fork 10>20;;exec 20 /usr/bin/dash sh -c id", &["server-shell high 20"]),
    // Agents of management.
    ("a monitoring agent's command", NEW, "fork 1>10;;exec 10 :uid=110 /usr/sbin/zabbix_agentd zabbix_agentd -f;;listen 10 10050;;fork 10>11;;wait 61s;;fork 11>20;;exec 20 :uid=110 /usr/bin/dash sh -c 'df /'", &["server-shell low 20"]),
    ("a shell of a monitoring agent", NEW, "fork 1>10;;exec 10 /usr/sbin/zabbix_agentd zabbix_agentd -f;;listen 10 10050;;fork 10>20;;exec 20 /usr/bin/dash sh", &["server-shell high 20"]),
    // Ways to the host are none below a server.
    ("sshd of a server", FPM, "open 11 created /tmp/sshd;;fork 11>20;;exec 20 /tmp/sshd sshd;;fork 20>21;;exec 21 /usr/bin/bash bash", &["server-dropped-exec high 20", "server-shell high 21"]),
    ("the host's own sshd, of a server", FPM, "fork 11>20;;exec 20 /usr/sbin/sshd sshd -p 2222;;listen 20 2222;;fork 20>21;;exec 21 /usr/bin/bash -bash", &["server-shell high 21"]),
    ("a listener of a server is that server's", FPM, "fork 11>20;;exec 20 /usr/bin/ncat ncat -l 4444;;listen 20 4444;;fork 20>21;;exec 21 /usr/bin/bash bash -c id", &["server-network-tool high 20", "server-bind-shell critical 20"]),
    ("tmux of a server", FPM, "fork 11>20;;exec 20 /usr/bin/tmux tmux;;fork 20>21;;exec 21 /usr/bin/node node x;;listen 21 3000;;fork 21>22;;exec 22 /usr/bin/dash sh -c id", &["server-shell high 21", "server-shell high 22"]),
    ("sshd where anybody writes", NEW, "fork 1>10;;exec 10 /tmp/sshd sshd;;listen 10 2222;;fork 10>20;;exec 20 /usr/bin/bash -bash", &["server-shell high 20"]),
    ("sshd that has no file", NEW, "fork 1>10;;exec 10 :nlink=0 /usr/sbin/sshd sshd;;listen 10 2222;;fork 10>20;;exec 20 /usr/bin/bash -bash", &["server-shell high 20"]),
    // A server is one whoever starts it.
    ("nginx, from a session", SESSION, "fork 22>30;;exec 30 /usr/sbin/nginx nginx;;listen 30 80;;wait 61s;;fork 30>31;;fork 31>40;;exec 40 /usr/bin/dash sh", &["server-shell high 40"]),
    ("the same program, of a service", NEW, "fork 1>10;;exec 10 /usr/bin/node node /srv/app/node_modules/.bin/vite;;listen 10 5173;;fork 10>20;;exec 20 /usr/bin/dash sh -c x", &["server-shell high 20"]),
    ("the same program, in a container", NEW, "fork 1>5;;exec 5 /usr/bin/containerd-shim-runc-v2 x;;fork 5>10;;exec 10 /usr/bin/node node vite;;listen 10 5173;;fork 10>20;;exec 20 /usr/bin/dash sh -c x", &["server-shell high 20"]),
    ("a container that was started from a session", SESSION, "fork 22>30;;exec 30 /usr/bin/podman podman run;;fork 30>31;;exec 31 /usr/bin/conmon conmon;;fork 31>32;;exec 32 /usr/bin/node node x;;listen 32 80;;fork 32>40;;exec 40 /usr/bin/dash sh -c x", &["server-shell high 40"]),
    ("a job of cron that stays", BARE, "fork 8>20;;exec 20 /srv/app/api-server api;;listen 20 8080;;fork 20>21;;exec 21 /usr/bin/dash sh -c x", &["server-shell medium 21"]),
    ("what outlives the session", SESSION, "fork 22>30;;exec 30 /usr/bin/node node server.js;;listen 30 3000;;fork 30>31;;exec 31 /usr/bin/dash sh -c x;;exit 22 0;;exit 21 0;;fork 30>40;;exec 40 /usr/bin/dash sh -c x", &["server-shell high 40"]),
    ("systemd holds its socket too", NEW, "listen 1 8080;;listen 1 22;;fork 1>10;;exec 10 /usr/sbin/nginx nginx;;fork 10>11;;wait 61s;;fork 11>20;;exec 20 /usr/bin/dash sh", &["server-shell high 20"]),
];

#[rustfmt::skip]
pub(super) const MUST_NOT: &[Row] = &[
    ("a session", SESSION, "fork 22>30;;exec 30 /usr/bin/dash sh -c x;;fork 22>31;;exec 31 /usr/bin/python3.11 python3", &[]),
    ("sshd that begins to listen", NEW, "fork 1>7;;exec 7 /usr/sbin/sshd sshd -D;;listen 7 22;;accept 7 192.0.2.7:4000;;fork 7>20;;exec 20 /usr/lib/openssh/sshd-session sshd-session;;fork 20>21;;exec 21 /usr/bin/bash -bash", &[]),
    ("sshd by socket activation", NEW, "listen 1 22;;accept 1 192.0.2.7:4000;;fork 1>20;;exec 20 :stdin=connected /usr/sbin/sshd sshd -i;;fork 20>21;;exec 21 /usr/bin/bash -bash", &[]),
    ("cron and its jobs", BARE, "fork 8>20;;exec 20 /usr/bin/dash sh -c /etc/cron.daily/x;;fork 20>21;;exec 21 /usr/bin/python3.11 python3 x", &[]),
    ("services of systemd", NEW, "listen 1 8080;;fork 1>10;;exec 10 /usr/bin/dash sh /usr/lib/x/start;;fork 10>11;;exec 11 /usr/bin/python3.11 python3 x", &[]),
    ("containers", NEW, "fork 1>5;;exec 5 /usr/bin/containerd containerd;;listen 5 41234;;fork 5>6;;exec 6 /usr/bin/containerd-shim-runc-v2 x;;fork 6>10;;exec 10 /usr/bin/dash sh /entrypoint.sh", &[]),
    ("kubelet", NEW, "fork 1>5;;exec 5 /usr/bin/kubelet kubelet;;listen 5 10250;;fork 5>6;;exec 6 /usr/bin/dash sh -c 'iptables -L'", &[]),
    ("a build's jobs and their servers", NEW, "fork 1>5;;exec 5 /home/ci/actions-runner/bin/Runner.Listener Runner.Listener run;;fork 5>6;;exec 6 /home/ci/actions-runner/bin/Runner.Worker x;;fork 6>7;;exec 7 /usr/bin/bash bash -e x.sh;;fork 7>8;;exec 8 /usr/bin/node node server.js;;listen 8 3000;;fork 8>9;;exec 9 /usr/bin/dash sh -c x", &[]),
    ("vite in a session", SESSION, "fork 22>30;;exec 30 :cwd=/home/me/x /usr/bin/node node vite;;listen 30 5173;;fork 30>31;;exec 31 /usr/bin/dash sh -c x", &[]),
    ("a program of its own in a session", SESSION, "fork 22>30;;exec 30 /home/me/x/target/debug/api api;;listen 30 8080;;accept 30 127.0.0.1:4000;;fork 30>31;;exec 31 /usr/bin/dash sh -c x", &[]),
    ("in a terminal of a desktop", NEW, "fork 1>5;;exec 5 /usr/lib/systemd/systemd systemd --user;;fork 5>6;;exec 6 /usr/libexec/gnome-terminal-server x;;fork 6>7;;exec 7 /usr/bin/bash bash;;fork 7>8;;exec 8 /usr/bin/python3.11 python3 manage.py runserver;;listen 8 8000;;fork 8>9;;exec 9 /usr/bin/dash sh -c x", &[]),
    ("in tmux, when the connection is gone", SESSION, "fork 22>30;;exec 30 /usr/bin/tmux tmux;;fork 30>31;;exec 31 /usr/bin/tmux tmux;;fork 31>32;;exec 32 /usr/bin/bash -bash;;fork 32>33;;exec 33 /usr/bin/node node vite;;listen 33 5173;;exit 22 0;;exit 21 0;;fork 33>34;;exec 34 /usr/bin/dash sh -c x", &[]),
    ("an editor's server of a session", SESSION, "fork 21>30;;exec 30 /usr/bin/dash sh server.sh;;fork 30>31;;exec 31 /home/me/.vscode-server/node node server-main.js;;listen 31 40000;;fork 31>32;;exec 32 /usr/bin/bash bash -i", &[]),
    ("supervisord", NEW, "fork 1>10;;exec 10 /usr/bin/python3.11 /usr/bin/python3 /usr/bin/supervisord -n;;listen 10 9001;;fork 10>20;;exec 20 /usr/bin/bash bash -c x", &[]),
    ("a package's script, of a person", SESSION, "fork 22>30;;exec 30 /usr/bin/dpkg dpkg -i x;;fork 30>31;;exec 31 /usr/bin/dash sh /var/lib/dpkg/info/nginx.postinst configure", &[]),
    ("a unix socket serves nobody from afar", NEW, "fork 1>10;;exec 10 /srv/app/api-server api;;listen 10 /run/x.sock;;fork 10>20;;exec 20 /usr/bin/dash sh -c x", &[]),
    ("a program of its own as it starts", NEW, "fork 1>10;;exec 10 /srv/app/api-server api;;fork 10>20;;exec 20 /usr/bin/dash sh -c x;;exit 20 0;;listen 10 8080", &[]),
];
