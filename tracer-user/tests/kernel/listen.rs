//! `inet_sock_set_state`: who begins to listen; and who takes connections from a socket that it was handed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};

use tracer::event::{Event, Payload, Socket};
use tracer_common::event::{EventKind, flag};
use tracer_common::tag::Tag;

use crate::child::{Child, Image};
use crate::stage::{Outcome, Skip, Span, Stage, TAG, Test, tests};
use crate::{facts, sys};

pub(crate) const TESTS: &[Test] = tests!("listen":
    ipv4,
    ipv6,
    connections_are_no_events,
    the_first_connection_of_a_program,
    a_unix_connection_of_nobody,
    another_network_namespace,
    a_server_lineage,
    without_a_port,
);

/// Listens, and holds the record against the socket's own address.
/// What a listener is known by.
#[derive(Debug, PartialEq, Eq)]
struct Listening {
    port: u16,
    family: u16,
    addr: [u8; 16],
    net_ns: u32,
}

impl Listening {
    fn of(listen: &Socket) -> Self {
        Self {
            port: listen.socket.local_port,
            family: listen.socket.family,
            addr: listen.socket.local_addr,
            net_ns: listen.net_ns,
        }
    }
}

fn check(stage: &mut Stage, address: IpAddr, family: u16, octets: [u8; 16]) -> Outcome {
    let span = Span::begin();
    let listener = match TcpListener::bind((address, 0)) {
        Ok(listener) => listener,
        Err(error) => return Err(Skip(format!("no TCP on {address}: {error}"))),
    };
    let (meta, listen) = stage.watch.listen(sys::pid());
    span.check(
        &meta,
        facts::key(sys::pid()),
        sys::tid(),
        Tag::ZERO,
        flag::RESOLVED,
    );
    let expected = Listening {
        port: listener.local_addr().unwrap().port(),
        family,
        addr: octets,
        net_ns: facts::namespace(sys::pid(), "net"),
    };
    assert_eq!(Listening::of(&listen), expected);
    Ok(())
}

fn ipv4(stage: &mut Stage) -> Outcome {
    let loopback = [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    check(stage, Ipv4Addr::LOCALHOST.into(), 2, loopback)?;
    check(stage, Ipv4Addr::UNSPECIFIED.into(), 2, [0; 16])
}

fn ipv6(stage: &mut Stage) -> Outcome {
    let loopback = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    check(stage, Ipv6Addr::LOCALHOST.into(), 10, loopback)?;
    check(stage, Ipv6Addr::UNSPECIFIED.into(), 10, [0; 16])
}

fn connections_are_no_events(stage: &mut Stage) -> Outcome {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(first.local_addr().unwrap()).unwrap();
    let server = first.accept().unwrap();
    // To listen again is no news.
    sys::listen(first.as_raw_fd()).unwrap();
    drop((client, server, sys::tcp_socket()));
    let last = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for listener in [&first, &last] {
        let (_, listen) = stage.watch.listen(sys::pid());
        assert_eq!(
            listen.socket.local_port,
            listener.local_addr().unwrap().port()
        );
    }
    let mut rest = stage.watch.rest(sys::pid());
    // The first of this process, where no test before took one.
    rest.retain(|event| event.payload.kind() != EventKind::Accept);
    assert_eq!(rest, []);
    Ok(())
}

fn the_first_connection_of_a_program(stage: &mut Stage) -> Outcome {
    const CONNECTIONS: usize = 3;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let path = std::env::current_exe().unwrap();
    let span = Span::begin();
    let mut child = Child::hold(|talk| {
        for _ in 0..CONNECTIONS {
            drop(listener.accept().unwrap());
        }
        talk.done();
        talk.wait();
        sys::dup2(listener.as_raw_fd(), 0);
        Image::helper(&path, "accept").exec()
    });
    child.go();
    for _ in 0..CONNECTIONS {
        drop(TcpStream::connect(address).unwrap());
    }
    child.hear();
    let (meta, accept) = stage.watch.socket(EventKind::Accept, child.pid);
    span.check(
        &meta,
        facts::key(child.pid),
        child.pid,
        Tag::ZERO,
        flag::RESOLVED,
    );
    assert_eq!(accept.socket.local_port, address.port());
    let is_accept = |event: &Event| event.payload.kind() == EventKind::Accept;
    assert!(!stage.watch.rest(child.pid).iter().any(is_accept));

    // Another program of the same process is another server.
    child.go();
    drop(TcpStream::connect(address).unwrap());
    let (_, accept) = stage.watch.socket(EventKind::Accept, child.pid);
    assert_eq!(accept.socket.local_port, address.port());
    child.end_well();
    Ok(())
}

fn a_unix_connection_of_nobody(stage: &mut Stage) -> Outcome {
    let mut child = Child::hold(|_| {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("s");
        let listener = UnixListener::bind(&name).unwrap();
        drop((
            UnixStream::connect(&name).unwrap(),
            listener.accept().unwrap(),
        ));
        0
    });
    child.go();
    child.end_well();
    let exit = stage.watch.event(EventKind::Exit, child.pid);
    assert_eq!(exit.0.subject.tgid, child.pid);
    let rest = stage.watch.rest(child.pid);
    let told = |event: &Event| matches!(event.payload, Payload::Socket(_));
    assert!(!rest.iter().any(told), "{rest:?}");
    Ok(())
}

fn another_network_namespace(stage: &mut Stage) -> Outcome {
    let mut child = Child::hold(|talk| {
        sys::unshare(libc::CLONE_NEWNET).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).unwrap();
        talk.done();
        talk.wait();
        drop(listener);
        0
    });
    child.go();
    child.hear();
    let (_, listen) = stage.watch.listen(child.pid);
    let expected = Listening {
        port: 8080,
        family: 2,
        addr: [0; 16],
        net_ns: facts::namespace(child.pid, "net"),
    };
    assert_eq!(Listening::of(&listen), expected);
    assert_ne!(listen.net_ns, facts::namespace(sys::pid(), "net"));
    child.go();
    child.end_well();
    Ok(())
}

fn a_server_lineage(stage: &mut Stage) -> Outcome {
    let span = Span::begin();
    let mut child = stage.tagged(|talk| {
        let thread = || {
            let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            sys::tid()
        };
        let tid = std::thread::scope(|scope| scope.spawn(thread).join().unwrap());
        talk.say(tid.into());
        talk.wait();
        0
    });
    let tid = child.hear_pid();
    let (meta, _) = stage.watch.listen(child.pid);
    span.check(&meta, facts::key(child.pid), tid, TAG, flag::RESOLVED);
    child.go();
    child.end_well();
    Ok(())
}

fn without_a_port(stage: &mut Stage) -> Outcome {
    // The kernel chooses a port after it has announced the state (inet_csk_listen_start,
    // net/ipv4/inet_connection_sock.c): the listener is seen, its port is not known yet.
    let socket = sys::tcp_socket();
    sys::listen(socket.as_raw_fd()).unwrap();
    let (_, listen) = stage.watch.listen(sys::pid());
    assert_eq!(
        (
            listen.socket.local_port,
            listen.socket.family,
            listen.socket.local_addr
        ),
        (0, 2, [0; 16])
    );
    Ok(())
}
