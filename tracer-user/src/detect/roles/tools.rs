//! What programs are for that an intruder runs after the shell: a data table.
//!
//! By the name of what really runs, as the kernel resolved it: of a multi-call binary the applet, of a dynamic loader
//! its target. So what Debian's alternatives lead to (`nc.openbsd`, `w.procps`) is named too. Refuses to decide: most
//! of these are harmless where people run them, and what a kind is worth below a server the rules say.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Kinds and the names of their programs.
#[rustfmt::skip]
const KINDS: &[(&str, &[&str])] = &[
    ("downloader", &[
        "curl", "wget", "wget2", "aria2c", "axel", "fetch", "ftp", "inetutils-ftp", "netkit-ftp", "tnftp", "ncftp", "ncftpget", "tftp", "atftp",
        "tftp-hpa", "inetutils-tftp", "lftp", "scp", "sftp", "rsync", "rsync-ssl", "w3m", "lynx", "links", "links2", "elinks", "GET", "lwp-request",
        "lwp-download", "http", "https", "xh", "rclone", "smbclient", "smbget",
    ]),
    ("network_tool", &[
        "nc", "nc.openbsd", "nc.traditional", "ncat", "netcat", "netcat-openbsd", "netcat-traditional", "cryptcat", "pnetcat", "sbd", "socat",
        "socat1", "telnet", "telnet.netkit", "inetutils-telnet", "nmap", "masscan", "zmap", "rustscan", "fscan", "hping3", "tcpdump", "tshark",
        "dumpcap", "ettercap", "bettercap", "responder", "arp-scan", "netdiscover", "sshpass", "hydra", "medusa", "sqlmap", "nikto", "websocat",
    ]),
    ("tunnel", &[
        "ssh", "autossh", "dbclient", "chisel", "frpc", "frps", "gost", "iodine", "iodined", "dnscat", "dnscat2", "cloudflared", "ngrok", "stunnel",
        "stunnel4", "proxychains", "proxychains4", "rathole", "bore", "wstunnel", "ligolo-ng", "revsocks", "nps", "npc", "ew", "earthworm",
        "gs-netcat", "ptunnel", "udp2raw", "tor", "torsocks", "wg-quick", "openvpn", "tailscaled", "zerotier-one", "localtunnel",
    ]),
    ("discovery", &[
        "id", "whoami", "uname", "hostname", "hostnamectl", "w", "w.procps", "who", "users", "last", "lastlog", "finger", "groups", "logname", "ps",
        "pstree", "pstree.x11", "printenv", "mount", "getent", "getcap", "ss", "netstat", "arp", "ip", "ifconfig", "route", "lsof", "lspci",
        "lsusb", "lsblk", "lsmod", "lscpu", "dmesg", "arch", "nslookup", "dig", "host", "traceroute", "traceroute.db", "tracepath", "mtr", "ping",
        "fping", "systemd-detect-virt", "virt-what", "dmidecode", "iptables", "xtables-nft-multi", "xtables-legacy-multi", "nft", "ipset", "ufw",
        "findmnt", "locate", "plocate", "mlocate", "linpeas", "pspy64", "pspy32", "lse", "lynis", "chkrootkit",
    ]),
    ("encoder", &[
        "base64", "base32", "basenc", "base64mime", "base64pem", "base64plain", "base64url", "basez", "xxd", "od", "hexdump", "uudecode", "uuencode",
        "openssl", "gpg", "gpg2", "steghide", "age", "ccrypt", "mcrypt",
    ]),
    ("builder", &[
        "gcc", "g++", "c++", "cc", "clang", "clang++", "tcc", "make", "gmake", "cmake", "ninja", "ld", "ld.bfd", "ld.gold", "ld.lld", "lld", "mold",
        "as", "go", "gofmt", "rustc", "cargo", "nasm", "yasm", "fasm", "javac", "mcs", "csc", "ghc", "fpc", "nim", "zig", "gdc", "cpp", "cc1",
        "cc1plus", "collect2", "objcopy", "patchelf", "phpize", "apxs", "apxs2",
    ]),
    ("persistence", &[
        "crontab", "at", "batch", "systemctl", "systemd-run", "loginctl", "useradd", "usermod", "adduser", "addgroup", "groupadd", "gpasswd",
        "passwd", "chpasswd", "newusers", "vipw", "ssh-keygen", "ssh-copy-id", "chattr", "setcap", "setfacl", "update-rc.d", "rc-update",
        "chkconfig", "insmod", "modprobe", "kmod", "ldconfig", "ldconfig.real", "a2enmod", "a2ensite", "a2enconf", "phpenmod",
    ]),
    ("privilege", &["sudo", "sudo-rs", "su", "doas", "pkexec", "runuser", "setpriv", "capsh", "newgrp", "sg", "gosu", "su-exec", "newuidmap", "newgidmap"]),
    ("launcher", &[
        "nohup", "setsid", "timeout", "env", "nice", "ionice", "stdbuf", "script", "xargs", "flock", "choom", "chrt", "taskset", "prlimit", "time",
        "start-stop-daemon", "daemonize", "screen", "tmux", "dtach", "abduco", "watch", "unbuffer", "rlwrap",
    ]),
    ("namespace", &["nsenter", "unshare", "chroot", "proot", "fakechroot", "pivot_root", "switch_root", "machinectl", "systemd-nspawn", "debootstrap"]),
    ("kubernetes", &[
        "kubectl", "oc", "helm", "crictl", "ctr", "nerdctl", "docker", "docker-compose", "podman", "buildah", "skopeo", "runc", "crun", "kubeadm",
        "k3s", "cdk", "amicontained", "deepce", "peirates", "kubeletctl",
    ]),
    ("editor", &["ed", "ex", "vi", "vim", "vim.basic", "vim.tiny", "vim.nox", "nvim", "nano", "emacs", "gdb", "strace", "ltrace", "less", "more", "man"]),
];

static BY_NAME: LazyLock<HashMap<&'static [u8], &'static str>> = LazyLock::new(|| {
    let names = KINDS
        .iter()
        .flat_map(|(kind, names)| names.iter().map(|name| (name.as_bytes(), *kind)));
    names.collect()
});

/// What a program of this name is for, if one of interest.
#[must_use]
pub fn kind(name: &[u8]) -> Option<&'static str> {
    let known = |name: &[u8]| BY_NAME.get(name).copied();
    known(name).or_else(|| known(plain(name)?))
}

/// A compiler's name without the machine it is for and its version: of `x86_64-linux-gnu-gcc-12` it is `gcc`.
fn plain(name: &[u8]) -> Option<&[u8]> {
    let machine = [b"-gnu-".as_slice(), b"-musl-", b"-gnueabihf-"]
        .iter()
        .find_map(|part| {
            let at = name.windows(part.len()).position(|found| found == *part)?;
            name.get(at + part.len()..)
        });
    let name = machine.unwrap_or(name);
    let at = name.iter().rposition(|&byte| byte == b'-');
    let version = at.and_then(|at| name.get(at + 1..)).unwrap_or_default();
    let is_version = !version.is_empty()
        && version
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'.');
    match at {
        Some(at) if is_version => name.get(..at),
        _ => machine,
    }
}

/// Words in reasons: `a downloader`.
#[must_use]
pub fn words(kind: &str) -> &'static str {
    match kind {
        "downloader" => "executed a downloader",
        "network_tool" => "executed a network tool",
        "tunnel" => "executed a program that makes tunnels",
        "discovery" => "executed a program that tells about the host",
        "encoder" => "executed an encoder",
        "builder" => "executed a compiler or build tool",
        "persistence" => "executed a program that changes what the host starts or whom it lets in",
        "privilege" => "executed a program that gives other rights",
        "namespace" => "executed a program that enters namespaces",
        "kubernetes" => "executed a client of containers",
        _ => "executed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, expected) in [
            ("curl", Some("downloader")),
            ("nc.openbsd", Some("network_tool")),
            ("w.procps", Some("discovery")),
            ("x86_64-linux-gnu-gcc-12", Some("builder")),
            ("aarch64-linux-gnu-ld.bfd", Some("builder")),
            ("clang-15", Some("builder")),
            ("gcc-12.2", Some("builder")),
            ("id-3", Some("discovery")),
            ("id3", None),
            ("convert", None),
            ("x86_64-linux-gnu-convert-6", None),
            ("-12", None),
            ("", None),
        ] {
            assert_eq!(kind(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn a_name_has_one_kind() {
        let all: usize = KINDS.iter().map(|(_, names)| names.len()).sum();
        assert_eq!(BY_NAME.len(), all);
        for (kind, names) in KINDS {
            for name in *names {
                assert_eq!(
                    super::super::program_named(name.as_bytes()),
                    None,
                    "{kind} {name}"
                );
            }
        }
    }
}
