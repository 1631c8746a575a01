//! What a server's lineage does with sockets.

use super::*;

/// A reverse shell's connection, a backdoor, what is sent, and sockets that become standard ones.
pub(super) fn all() -> Vec<Sample> {
    let told = |name, flags, socket: Socket| {
        let payload = Payload::Socket(Box::new(socket));
        let mut document = document(payload, worker(), vec![master(), systemd()]);
        document.event.event.meta.flags = flags;
        sample(name, document)
    };
    let (own, far) = ([10, 0, 0, 5], [203, 0, 113, 9]);
    let stream = |kind, info| Socket {
        kind,
        socket: info,
        ..listening(2, four([0; 4]), 0)
    };
    let connected = || stream(EventKind::Connect, socket(2, &own, 41_234, &far, 4444));
    let unix = |kind, name: &[u8]| Socket {
        name: name.to_vec(),
        protocol: 0,
        ..stream(
            kind,
            FdInfo {
                peer_tgid: 412,
                ..socket(1, &[], 0, &[], 0)
            },
        )
    };
    let as_user = |socket| Socket {
        ids: Some(www()),
        ..socket
    };
    let six = |last| {
        let mut address = [0; 16];
        address[..2].copy_from_slice(&[0x20, 0x01]);
        address[2..4].copy_from_slice(&[0x0d, 0xb8]);
        address[15] = last;
        address
    };
    let datagram = |kind, info, protocol| Socket {
        socket_type: if protocol == 1 { 3 } else { 2 },
        protocol,
        ..stream(kind, FdInfo { state: 7, ..info })
    };
    let began = flag::ATTEMPT | flag::RESOLVED;
    let records = [
        ("connect", flag::RESOLVED, connected()),
        // The kernel was asked: neither address nor port of its own.
        (
            "connect_attempt",
            began,
            stream(
                EventKind::Connect,
                FdInfo {
                    state: 7,
                    ..socket(2, &[], 0, &far, 443)
                },
            ),
        ),
        (
            "connect_background",
            began,
            Socket {
                socket: FdInfo {
                    state: 2,
                    ..socket(10, &six(1), 41_236, &six(2), 443)
                },
                result: -115,
                ..connected()
            },
        ),
        // IPv4 by an IPv6 socket.
        (
            "connect_mapped",
            flag::RESOLVED,
            stream(EventKind::Connect, mapped(far)),
        ),
        (
            "connect_unix",
            flag::RESOLVED,
            unix(EventKind::Connect, b"/run/docker\x1b.sock"),
        ),
        (
            "bind",
            flag::RESOLVED,
            datagram(EventKind::Bind, socket(2, &own, 5353, &[], 0), 17),
        ),
        (
            "accept",
            flag::RESOLVED,
            stream(EventKind::Accept, socket(2, &own, 8080, &far, 50_000)),
        ),
        (
            "accept_unix",
            flag::RESOLVED,
            unix(EventKind::Accept, b"\0hidden\xff"),
        ),
        (
            "listen_unix",
            flag::RESOLVED,
            unix(EventKind::Listen, b"/tmp/.s"),
        ),
        (
            "send",
            0,
            datagram(EventKind::Send, socket(2, &[], 40_000, &far, 53), 17),
        ),
        (
            "send_raw",
            0,
            datagram(EventKind::Send, socket(2, &[], 1, &far, 0), 1),
        ),
        (
            "redirect",
            flag::RESOLVED,
            Socket {
                kind: EventKind::Redirect,
                fd: Some(0),
                ..connected()
            },
        ),
        (
            "redirect_unix",
            flag::RESOLVED,
            Socket {
                fd: Some(2),
                ..unix(EventKind::Redirect, b"")
            },
        ),
    ];
    records
        .into_iter()
        .map(|(name, flags, socket)| told(name, flags, as_user(socket)))
        .collect()
}
