//! What server lineages do with sockets: connect, bind, listen, accept, send, and make one their
//! standard input, in whatever tier.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{self as unix, UnixDatagram, UnixListener, UnixStream};

use libc::{AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_STREAM};
use tracer::event::{Meta, Payload, Socket};
use tracer_common::event::{EventKind, FdInfo, fd_kind, flag};
use tracer_common::probe::Tier;

use crate::child::Talk;
use crate::stage::{Outcome, Skip, Span, Stage, TAG, Test, tests};
use crate::{facts, net, sys};

pub(crate) const TESTS: &[Test] = tests!("network":
    connect_ipv4,
    connect_ipv6,
    connect_in_the_background,
    connect_by_sending,
    connect_unix,
    a_refused_connection,
    a_connection_given_up,
    bind,
    listen_unix,
    listen_without_a_port,
    accept,
    accept_unix,
    send_once_a_peer,
    send_to_whom_it_is_connected,
    send_several,
    send_more_than_are_told,
    send_unix,
    another_network_namespace,
    redirect,
    redirect_to_the_lowest,
    redirect_received,
    no_redirect,
    nothing_of_others,
    other_conventions,
);

/// What a child had told of its sockets.
struct Told {
    pid: u32,
    /// What it said.
    said: Vec<u64>,
    sockets: Vec<(Meta, Socket)>,
    span: Span,
}

/// Runs a child of a server lineage to its end. It says so many numbers.
fn told(stage: &mut Stage, says: usize, body: impl FnOnce(&mut Talk)) -> Told {
    let span = Span::begin();
    let mut child = stage.server(|talk| {
        body(talk);
        // Its record is compared with what `/proc` says.
    });
    let said = (0..says).map(|_| child.hear()).collect();
    child.hear();
    let key = facts::key(child.pid);
    child.go();
    child.end_well();
    stage.watch.exit(child.pid);
    let sockets = stage.watch.rest(child.pid).into_iter();
    let sockets: Vec<_> = sockets
        .filter_map(|event| match event.payload {
            Payload::Socket(socket) => Some((event.meta, *socket)),
            _ => None,
        })
        .collect();
    for (meta, socket) in &sockets {
        span.check(meta, key, child.pid, TAG, meta.flags);
        assert_eq!(socket.ids, Some(facts::ids(sys::pid())));
    }
    Told {
        pid: child.pid,
        said,
        sockets,
        span,
    }
}

impl Told {
    /// Those of one kind.
    fn of(&self, kind: EventKind) -> Vec<&(Meta, Socket)> {
        let of = self.sockets.iter();
        of.filter(|(_, socket)| socket.kind == kind).collect()
    }

    /// The only one of a kind.
    fn one(&self, kind: EventKind) -> &(Meta, Socket) {
        let of = self.of(kind);
        let &[one] = of.as_slice() else {
            panic!("not one {}: {:#?}", kind.name(), self.sockets);
        };
        one
    }

    /// The other ends of all of one kind, in order.
    fn peers(&self, kind: EventKind) -> Vec<SocketAddr> {
        let of = self.of(kind).into_iter();
        of.map(|(_, socket)| remote(&socket.socket)).collect()
    }

    /// Names of all of one kind, in order.
    fn names(&self, kind: EventKind) -> Vec<&[u8]> {
        let of = self.of(kind).into_iter();
        of.map(|(_, socket)| socket.name.as_slice()).collect()
    }

    /// The descriptors that sockets became.
    fn redirects(&self) -> Vec<u32> {
        let of = self.of(EventKind::Redirect).into_iter();
        of.map(|(_, socket)| socket.fd.unwrap()).collect()
    }
}

/// `TCP_ESTABLISHED`, `TCP_SYN_SENT`, `TCP_CLOSE` and `TCP_LISTEN`, include/net/tcp_states.h
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

fn octets(address: SocketAddr) -> [u8; 16] {
    match address {
        SocketAddr::V4(v4) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&v4.ip().octets());
            octets
        }
        SocketAddr::V6(v6) => v6.ip().octets(),
    }
}

fn remote(info: &FdInfo) -> SocketAddr {
    let [a, b, c, d, ..] = info.remote_addr;
    match i32::from(info.family) {
        AF_INET => (Ipv4Addr::new(a, b, c, d), info.remote_port).into(),
        AF_INET6 => (Ipv6Addr::from(info.remote_addr), info.remote_port).into(),
        family => panic!("family {family}"),
    }
}

/// An internet socket with both ends.
fn inet(local: SocketAddr, remote: SocketAddr, state: u8) -> FdInfo {
    FdInfo {
        local_addr: octets(local),
        remote_addr: octets(remote),
        local_port: local.port(),
        remote_port: remote.port(),
        family: if local.is_ipv4() { AF_INET } else { AF_INET6 } as u16,
        kind: fd_kind::SOCKET,
        state,
        ..FdInfo::ZERO
    }
}

/// A unix socket.
fn unix_socket(peer_tgid: u32, state: u8) -> FdInfo {
    FdInfo {
        peer_tgid,
        family: AF_UNIX as u16,
        kind: fd_kind::SOCKET,
        state,
        ..FdInfo::ZERO
    }
}

/// The unspecified address of the same family.
fn any(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// A record as it must be, with an inode number that the child said.
fn socket(kind: EventKind, info: FdInfo, inode: u64, socket_type: i32) -> Socket {
    Socket {
        kind,
        socket: FdInfo { inode, ..info },
        name: Vec::new(),
        socket_type: socket_type as u8,
        protocol: match (i32::from(info.family), socket_type) {
            (AF_UNIX, _) => 0,
            (_, SOCK_STREAM) => libc::IPPROTO_TCP as u8,
            _ => libc::IPPROTO_UDP as u8,
        },
        fd: None,
        result: 0,
        ids: Some(facts::ids(sys::pid())),
        net_ns: facts::namespace(sys::pid(), "net"),
    }
}

/// Flags of what one tier tells early and the other when it is done.
fn early(meta: &Meta) -> u16 {
    match meta.tier {
        Tier::Lsm => flag::RESOLVED | flag::ATTEMPT,
        _ => flag::RESOLVED,
    }
}

/// The inode number of a socket.
fn inode(fd: RawFd) -> u64 {
    std::fs::metadata(format!("/proc/self/fd/{fd}"))
        .unwrap()
        .ino()
}

const LOCALHOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const LOCALHOST6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

fn with_port(address: SocketAddr, port: u64) -> SocketAddr {
    SocketAddr::new(address.ip(), port.try_into().unwrap())
}

fn connect_to(stage: &mut Stage, localhost: SocketAddr) -> Outcome {
    let listener = TcpListener::bind(localhost)
        .map_err(|error| Skip(format!("no TCP on {localhost}: {error}")))?;
    let to = listener.local_addr().unwrap();
    let told = told(stage, 2, |talk| {
        let stream = TcpStream::connect(to).unwrap();
        talk.say(stream.local_addr().unwrap().port().into());
        talk.say(inode(stream.as_raw_fd()));
    });
    let (meta, seen) = told.one(EventKind::Connect);
    // Before it is tried, a connection has neither an own end nor a state.
    let info = match meta.tier {
        Tier::Lsm => inet(any(to), to, CLOSE),
        _ => inet(with_port(localhost, told.said[0]), to, ESTABLISHED),
    };
    let expected = socket(EventKind::Connect, info, told.said[1], SOCK_STREAM);
    assert_eq!(*seen, expected);
    told.span
        .check(meta, meta.subject, told.pid, TAG, early(meta));
    assert_eq!(told.sockets.len(), 1);
    Ok(())
}

fn connect_ipv4(stage: &mut Stage) -> Outcome {
    connect_to(stage, LOCALHOST)
}

fn connect_ipv6(stage: &mut Stage) -> Outcome {
    connect_to(stage, LOCALHOST6)
}

fn connect_in_the_background(stage: &mut Stage) -> Outcome {
    let listener = TcpListener::bind(LOCALHOST).unwrap();
    let to = listener.local_addr().unwrap();
    let told = told(stage, 0, |_| {
        let socket = net::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
        let error = net::connect(&socket, &net::inet(to)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
    });
    let (meta, seen) = told.one(EventKind::Connect);
    assert_eq!(remote(&seen.socket), to);
    assert_eq!(meta.flags, flag::RESOLVED | flag::ATTEMPT);
    if meta.tier == Tier::Tracepoint {
        assert_eq!(seen.result, -libc::EINPROGRESS);
        assert_ne!(seen.socket.local_port, 0);
        // The answer may be there already.
        assert!([SYN_SENT, ESTABLISHED].contains(&seen.socket.state));
    }
    Ok(())
}

fn connect_by_sending(stage: &mut Stage) -> Outcome {
    let listener = TcpListener::bind(LOCALHOST).unwrap();
    let to = listener.local_addr().unwrap();
    let told = told(stage, 0, |_| {
        for _ in 0..2 {
            let socket = net::socket(AF_INET, SOCK_STREAM);
            net::sendto(&socket, &net::inet(to), libc::MSG_FASTOPEN).unwrap();
            // What follows is no connection.
            net::sendto(&socket, &Vec::new(), 0).unwrap();
        }
    });
    assert_eq!(told.peers(EventKind::Connect), [to, to]);
    assert_eq!(told.sockets.len(), 2);
    Ok(())
}

fn abstract_name() -> (unix::SocketAddr, Vec<u8>) {
    let name = format!("tracer-test-{}", sys::boot_ns());
    let address = unix::SocketAddr::from_abstract_name(&name).unwrap();
    (address, [b"\0", name.as_bytes()].concat())
}

fn connect_unix(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("socket");
    let (address, name) = abstract_name();
    let by_path = UnixListener::bind(&path).unwrap();
    let by_name = UnixListener::bind_addr(&address).unwrap();
    for (to, name) in [
        (by_path.local_addr().unwrap(), facts::bytes(&path)),
        (by_name.local_addr().unwrap(), name),
    ] {
        let told = told(stage, 1, |talk| {
            let stream = UnixStream::connect_addr(&to).unwrap();
            talk.say(inode(stream.as_raw_fd()));
        });
        let (meta, seen) = told.one(EventKind::Connect);
        let info = match meta.tier {
            Tier::Lsm => unix_socket(0, CLOSE),
            _ => unix_socket(sys::pid(), ESTABLISHED),
        };
        let expected = Socket {
            name,
            ..socket(EventKind::Connect, info, told.said[0], SOCK_STREAM)
        };
        assert_eq!(*seen, expected);
        assert_eq!(meta.flags, early(meta));
    }
    Ok(())
}

fn a_refused_connection(stage: &mut Stage) -> Outcome {
    let listener = TcpListener::bind(LOCALHOST).unwrap();
    let to = listener.local_addr().unwrap();
    drop(listener);
    let missing = stage.folder().join("missing");
    let told = told(stage, 0, |_| {
        let error = TcpStream::connect(to).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        UnixStream::connect(&missing).unwrap_err();
    });
    // One tier tells what was permitted, the other what was done.
    let tries = if stage.is_lsm() { 2 } else { 0 };
    assert_eq!(told.of(EventKind::Connect).len(), tries);
    assert_eq!(told.sockets.len(), tries);
    Ok(())
}

fn a_connection_given_up(stage: &mut Stage) -> Outcome {
    let peer = UdpSocket::bind(LOCALHOST).unwrap();
    let to = peer.local_addr().unwrap();
    let told = told(stage, 0, |_| {
        let socket = net::socket(AF_INET, SOCK_DGRAM);
        net::connect(&socket, &net::inet(to)).unwrap();
        net::connect(&socket, &net::nobody()).unwrap();
    });
    assert_eq!(told.peers(EventKind::Connect), [to]);
    assert_eq!(told.sockets.len(), 1);
    Ok(())
}

fn bind(stage: &mut Stage) -> Outcome {
    // Taken and given back, so that it is free.
    let free = UdpSocket::bind(LOCALHOST).unwrap().local_addr().unwrap();
    let path = stage.folder().join("socket");
    let (_, name) = abstract_name();
    let names = [facts::bytes(&path), name];
    let told = told(stage, 1, |talk| {
        let socket = UdpSocket::bind(free).unwrap();
        talk.say(inode(socket.as_raw_fd()));
        for name in &names {
            let socket = net::socket(AF_UNIX, SOCK_DGRAM);
            net::bind(&socket, &net::unix(name)).unwrap();
        }
    });
    let all = told.of(EventKind::Bind);
    assert_eq!(all.len(), 3, "{:#?}", told.sockets);
    let (meta, seen) = all[0];
    let info = inet(free, any(free), CLOSE);
    let expected = socket(EventKind::Bind, info, told.said[0], SOCK_DGRAM);
    assert_eq!(*seen, expected);
    assert_eq!(meta.flags, early(meta));
    assert_eq!(told.names(EventKind::Bind)[1..], names);
    assert_eq!(told.sockets.len(), 3);
    Ok(())
}

fn listen_unix(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("socket");
    let told = told(stage, 1, |talk| {
        let listener = UnixListener::bind(&path).unwrap();
        talk.say(inode(listener.as_raw_fd()));
    });
    let (meta, seen) = told.one(EventKind::Listen);
    let info = match meta.tier {
        Tier::Lsm => unix_socket(0, CLOSE),
        // A listener is its own peer: who connects asks it who it is.
        _ => unix_socket(told.pid, LISTEN),
    };
    let expected = Socket {
        name: facts::bytes(&path),
        ..socket(EventKind::Listen, info, told.said[0], SOCK_STREAM)
    };
    assert_eq!(*seen, expected);
    assert_eq!(meta.flags, early(meta));
    Ok(())
}

fn listen_without_a_port(stage: &mut Stage) -> Outcome {
    let told = told(stage, 1, |talk| {
        let socket = sys::tcp_socket();
        sys::listen(socket.as_raw_fd()).unwrap();
        let listener = TcpListener::from(socket);
        talk.say(listener.local_addr().unwrap().port().into());
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        drop((listener.accept().unwrap(), client));
    });
    let ports = |kind| -> Vec<u64> {
        let of = told.of(kind).into_iter();
        of.map(|(_, socket)| socket.socket.local_port.into())
            .collect()
    };
    let port = told.said[0];
    // Known when the call is done, or else when a connection is taken.
    let listens = if stage.is_lsm() { &[0][..] } else { &[0, port] };
    assert_eq!(ports(EventKind::Listen), listens);
    assert_eq!(ports(EventKind::Accept), [port]);
    Ok(())
}

fn accept(stage: &mut Stage) -> Outcome {
    for (localhost, accept) in [
        (LOCALHOST, net::accept as fn(&OwnedFd) -> _),
        (LOCALHOST, net::accept4),
        (LOCALHOST6, net::accept4),
    ] {
        let Ok(listener) = TcpListener::bind(localhost) else {
            return Err(Skip(format!("no TCP on {localhost}")));
        };
        let local = listener.local_addr().unwrap();
        let listener = OwnedFd::from(listener);
        let client = TcpStream::connect(local).unwrap();
        let told = told(stage, 1, |talk| {
            let server: OwnedFd = accept(&listener).unwrap();
            talk.say(inode(server.as_raw_fd()));
        });
        let (meta, seen) = told.one(EventKind::Accept);
        let info = inet(local, client.local_addr().unwrap(), ESTABLISHED);
        let expected = socket(EventKind::Accept, info, told.said[0], SOCK_STREAM);
        assert_eq!(*seen, expected);
        assert_eq!(meta.flags, flag::RESOLVED);
        assert_eq!(told.sockets.len(), 1);
    }
    Ok(())
}

fn accept_unix(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let told = told(stage, 1, |talk| {
        let (server, _) = listener.accept().unwrap();
        talk.say(inode(server.as_raw_fd()));
    });
    drop(client);
    let (meta, seen) = told.one(EventKind::Accept);
    let info = unix_socket(sys::pid(), ESTABLISHED);
    let expected = Socket {
        name: facts::bytes(&path),
        ..socket(EventKind::Accept, info, told.said[0], SOCK_STREAM)
    };
    assert_eq!(*seen, expected);
    assert_eq!(meta.flags, flag::RESOLVED);
    Ok(())
}

/// Sockets that take datagrams, and their addresses.
fn receivers(
    localhost: SocketAddr,
    count: usize,
) -> Result<(Vec<UdpSocket>, Vec<SocketAddr>), Skip> {
    let sockets: Result<Vec<_>, _> = (0..count).map(|_| UdpSocket::bind(localhost)).collect();
    let sockets = sockets.map_err(|error| Skip(format!("no UDP on {localhost}: {error}")))?;
    let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap());
    let addresses = addresses.collect();
    Ok((sockets, addresses))
}

fn send_once_a_peer(stage: &mut Stage) -> Outcome {
    for localhost in [LOCALHOST, LOCALHOST6] {
        let (_sockets, to) = receivers(localhost, 3)?;
        let addresses: Vec<_> = to.iter().copied().map(net::inet).collect();
        let family = if localhost.is_ipv4() {
            AF_INET
        } else {
            AF_INET6
        };
        let told = told(stage, 1, |talk| {
            let socket = net::socket(family, SOCK_DGRAM);
            talk.say(inode(socket.as_raw_fd()));
            for _ in 0..2 {
                net::sendto(&socket, &addresses[0], 0).unwrap();
                net::sendmsg(&socket, &addresses[1]).unwrap();
            }
            // By whatever call and socket, a peer is one.
            net::sendmsg(&socket, &addresses[0]).unwrap();
            let other = net::socket(family, SOCK_DGRAM);
            net::sendto(&other, &addresses[1], 0).unwrap();
            net::sendto(&other, &addresses[2], 0).unwrap();
        });
        assert_eq!(told.peers(EventKind::Send), to);
        assert_eq!(told.sockets.len(), to.len());
        let (meta, seen) = &told.sockets[0];
        let info = FdInfo {
            local_port: seen.socket.local_port,
            ..inet(any(localhost), to[0], CLOSE)
        };
        let expected = socket(EventKind::Send, info, told.said[0], SOCK_DGRAM);
        assert_eq!(*seen, expected);
        // One tier has the kernel's copy before it is sent, the other the caller's after.
        let flags = if meta.tier == Tier::Lsm {
            early(meta)
        } else {
            0
        };
        assert_eq!(meta.flags, flags);
    }
    Ok(())
}

fn send_to_whom_it_is_connected(stage: &mut Stage) -> Outcome {
    let (_sockets, to) = receivers(LOCALHOST, 2)?;
    let told = told(stage, 0, |_| {
        let socket = net::socket(AF_INET, SOCK_DGRAM);
        net::connect(&socket, &net::inet(to[0])).unwrap();
        for _ in 0..2 {
            net::sendto(&socket, &Vec::new(), 0).unwrap();
            net::sendmsg(&socket, &Vec::new()).unwrap();
            net::write(&socket).unwrap();
        }
        // Of any family, as the kernel does not look at it.
        let mut unspecified = net::inet(to[1]);
        unspecified[..2].fill(0);
        net::sendto(&socket, &unspecified, 0).unwrap();
    });
    assert_eq!(told.peers(EventKind::Connect), to[..1]);
    assert_eq!(told.peers(EventKind::Send), to);
    let (meta, _) = told.of(EventKind::Send)[0];
    assert_eq!(meta.flags, early(meta));
    assert_eq!(told.sockets.len(), 3);
    Ok(())
}

fn send_several(stage: &mut Stage) -> Outcome {
    let (_sockets, to) = receivers(LOCALHOST, 3)?;
    let addresses: Vec<_> = to.iter().copied().map(net::inet).collect();
    let told = told(stage, 0, |_| {
        let socket = net::socket(AF_INET, SOCK_DGRAM);
        let order = [0, 0, 1, 0, 2, 1].map(|index: usize| addresses[index].clone());
        assert_eq!(net::sendmmsg(&socket, &order).unwrap(), 6);
        assert_eq!(net::sendmmsg(&socket, &order).unwrap(), 6);
    });
    assert_eq!(told.peers(EventKind::Send), to);
    assert_eq!(told.sockets.len(), to.len());
    Ok(())
}

fn send_more_than_are_told(stage: &mut Stage) -> Outcome {
    let (_sockets, to) = receivers(LOCALHOST, 6)?;
    let addresses: Vec<_> = to.iter().copied().map(net::inet).collect();
    let before = stage.watch.drops(tracer_common::probe::Drop::SocketFault);
    let told = told(stage, 0, |_| {
        let socket = net::socket(AF_INET, SOCK_DGRAM);
        assert_eq!(net::sendmmsg(&socket, &addresses).unwrap(), 6);
    });
    let lost = stage.watch.drops(tracer_common::probe::Drop::SocketFault) - before;
    // What is not told is counted.
    assert_eq!(told.sockets.len() as u64 + lost, 6);
    assert_eq!(told.peers(EventKind::Send), to[..told.sockets.len()]);
    if stage.is_lsm() {
        assert_eq!(lost, 0);
    }
    Ok(())
}

fn send_unix(stage: &mut Stage) -> Outcome {
    let path = stage.folder().join("socket");
    let (address, name) = abstract_name();
    let _by_path = UnixDatagram::bind(&path).unwrap();
    let _by_name = UnixDatagram::bind_addr(&address).unwrap();
    let names = [facts::bytes(&path), name];
    let told = told(stage, 0, |_| {
        let socket = net::socket(AF_UNIX, SOCK_DGRAM);
        for name in names.iter().chain(&names) {
            net::sendto(&socket, &net::unix(name), 0).unwrap();
        }
        net::connect(&socket, &net::unix(&names[0])).unwrap();
        net::sendto(&socket, &Vec::new(), 0).unwrap();
    });
    assert_eq!(told.names(EventKind::Send), names);
    assert_eq!(told.names(EventKind::Connect), names[..1]);
    assert_eq!(told.sockets.len(), 3);
    Ok(())
}

fn another_network_namespace(stage: &mut Stage) -> Outcome {
    let told = told(stage, 1, |talk| {
        sys::unshare(libc::CLONE_NEWNET).unwrap();
        net::loopback_up();
        let socket = net::socket(AF_INET, SOCK_DGRAM);
        net::sendto(&socket, &net::inet(with_port(LOCALHOST, 53)), 0).unwrap();
        talk.say(facts::namespace(sys::pid(), "net").into());
    });
    let (_, seen) = told.one(EventKind::Send);
    assert_eq!(u64::from(seen.net_ns), told.said[0]);
    assert_ne!(seen.net_ns, facts::namespace(sys::pid(), "net"));
    assert_eq!(remote(&seen.socket), with_port(LOCALHOST, 53));
    Ok(())
}

fn redirect(stage: &mut Stage) -> Outcome {
    let listener = TcpListener::bind(LOCALHOST).unwrap();
    let to = listener.local_addr().unwrap();
    let stream = TcpStream::connect(to).unwrap();
    let fd = stream.as_raw_fd();
    let told = told(stage, 0, |_| {
        sys::dup2(fd, 0);
        net::dup3(fd, 1);
        sys::close(2);
        assert_eq!(net::dup(fd), 2);
        sys::close(0);
        assert_eq!(net::fcntl(fd, libc::F_DUPFD, 0), 0);
        sys::close(1);
        assert_eq!(net::fcntl(fd, libc::F_DUPFD_CLOEXEC, 1), 1);
    });
    assert_eq!(told.redirects(), [0, 1, 2, 0, 1]);
    let info = inet(stream.local_addr().unwrap(), to, ESTABLISHED);
    for (meta, seen) in &told.sockets {
        let expected = Socket {
            fd: seen.fd,
            ..socket(EventKind::Redirect, info, inode(fd), SOCK_STREAM)
        };
        assert_eq!(*seen, expected);
        assert_eq!(meta.flags, flag::RESOLVED);
    }
    Ok(())
}

fn redirect_to_the_lowest(stage: &mut Stage) -> Outcome {
    let listener = TcpListener::bind(LOCALHOST).unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let listener = OwnedFd::from(listener);
    let told = told(stage, 0, |_| {
        sys::close(0);
        let fresh = net::socket(AF_INET, SOCK_STREAM);
        assert_eq!(fresh.as_raw_fd(), 0);
        sys::close(1);
        let server = net::accept(&listener).unwrap();
        assert_eq!(server.as_raw_fd(), 1);
    });
    assert_eq!(told.redirects(), [0, 1]);
    assert_eq!(told.of(EventKind::Accept).len(), 1);
    assert_eq!(told.sockets.len(), 3);
    Ok(())
}

fn redirect_received(stage: &mut Stage) -> Outcome {
    let stream = TcpListener::bind(LOCALHOST).unwrap();
    for credentials in [false, true] {
        let (ours, theirs) = sys::socketpair();
        if credentials {
            // Another control message before the one that holds the descriptor.
            net::pass_credentials(&theirs);
        }
        net::send_fd(&ours, stream.as_raw_fd());
        let told = told(stage, 0, |_| {
            sys::close(2);
            assert_eq!(net::receive_fd(&theirs), 2);
        });
        assert_eq!(told.redirects(), [2]);
        assert_eq!(told.sockets[0].1.socket.inode, inode(stream.as_raw_fd()));
        assert_eq!(told.sockets.len(), 1);
    }
    Ok(())
}

fn no_redirect(stage: &mut Stage) -> Outcome {
    let file = File::open("/dev/null").unwrap();
    let path = stage.folder().join("socket");
    let told = told(stage, 0, |_| {
        // No socket.
        sys::dup2(file.as_raw_fd(), 0);
        let stream = sys::tcp_socket();
        // No standard descriptor.
        assert!(net::dup(stream.as_raw_fd()) > 2);
        sys::dup2(stream.as_raw_fd(), 0);
        // Results that are no descriptors.
        assert_eq!(net::fcntl(0, libc::F_SETFD, 0), 0);
        assert_eq!(net::fcntl(0, libc::F_GETFD, 0), 0);
        // The name of a socket is none.
        let _listener = UnixListener::bind(&path).unwrap();
        let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
        let name = sys::openat(libc::AT_FDCWD, &name, libc::O_PATH, 0).unwrap();
        sys::dup2(name.as_raw_fd(), 1);
    });
    assert_eq!(told.redirects(), [0]);
    Ok(())
}

fn nothing_of_others(stage: &mut Stage) -> Outcome {
    let listener = TcpListener::bind(LOCALHOST).unwrap();
    let (_, listen) = stage.watch.listen(sys::pid());
    let to = listener.local_addr().unwrap();
    assert_eq!(listen.socket.local_port, to.port());
    let client = TcpStream::connect(to).unwrap();
    let server = listener.accept().unwrap();
    let datagrams = UdpSocket::bind(LOCALHOST).unwrap();
    datagrams
        .send_to(b"x", datagrams.local_addr().unwrap())
        .unwrap();
    let path = stage.folder().join("socket");
    let _unix = UnixListener::bind(&path).unwrap();
    drop((client, server));
    // What comes after is the end of what came before.
    let last = TcpListener::bind(LOCALHOST).unwrap();
    let (_, listen) = stage.watch.listen(sys::pid());
    assert_eq!(listen.socket.local_port, last.local_addr().unwrap().port());
    let rest = stage.watch.rest(sys::pid());
    assert!(
        !rest
            .iter()
            .any(|event| matches!(event.payload, Payload::Socket(_))),
        "{rest:#?}"
    );
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn other_conventions(stage: &mut Stage) -> Outcome {
    use crate::stage::needs_compat;
    use crate::sys::compat::{call, low};

    needs_compat()?;
    /// arch/x86/entry/syscalls/syscall_32.tbl
    const SOCKETCALL: u32 = 102;
    const DUP2: u32 = 63;
    const SENDMMSG: u32 = 345;
    const SOCKET: u32 = 359;
    const CONNECT: u32 = 362;

    let listener = TcpListener::bind(LOCALHOST).unwrap();
    let to = listener.local_addr().unwrap();
    let (_sockets, peers) = receivers(LOCALHOST, 4)?;
    let told = told(stage, 0, |_| {
        let words = |words: &[u32]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            low(&bytes)
        };
        let multiplexed = |number, arguments: &[u32]| {
            call(SOCKETCALL, [number, words(arguments), 0, 0, 0]).unwrap()
        };
        let address = |address| low(&net::inet(address));
        let (family, stream, datagram) = (AF_INET as u32, SOCK_STREAM as u32, SOCK_DGRAM as u32);
        let socket = multiplexed(1, &[family, stream, 0]);
        multiplexed(3, &[socket, address(to), 16]);
        let socket = call(SOCKET, [family, stream, 0, 0, 0]).unwrap();
        call(CONNECT, [socket, address(to), 16, 0, 0]).unwrap();
        call(DUP2, [socket, 0, 0, 0, 0]).unwrap();

        let socket = multiplexed(1, &[family, datagram, 0]);
        let byte = low(b"x");
        multiplexed(11, &[socket, byte, 1, 0, address(peers[0]), 16]);
        let part = words(&[byte, 1]);
        // `struct compat_msghdr`, and behind it how much was sent.
        let message = |to| [address(to), 16, part, 1, 0, 0, 0, 0];
        multiplexed(16, &[socket, words(&message(peers[1])), 0]);
        let several = words(&[message(peers[2]), message(peers[3])].concat());
        assert_eq!(call(SENDMMSG, [socket, several, 2, 0, 0]).unwrap(), 2);
    });
    assert_eq!(told.peers(EventKind::Connect), [to, to]);
    assert_eq!(told.redirects(), [0]);
    assert_eq!(told.peers(EventKind::Send), peers);
    for (meta, _) in &told.sockets {
        assert_ne!(meta.flags & flag::COMPAT, 0, "{meta:?}");
    }
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn other_conventions(_: &mut Stage) -> Outcome {
    Err(Skip("only x86 has one that a test can use".to_owned()))
}
