//! What the descriptors 0 to 2 of a new image are, and who is at the other end of their sockets.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};

use tracer::event::{Exec, Meta, is_inet};
use tracer_common::event::{FdInfo, fd_kind};

use crate::child::{Child, Image};
use crate::stage::{Outcome, Skip, Stage, Test, tests};
use crate::{facts, sys};

pub(crate) const TESTS: &[Test] = tests!("stdio":
    files_and_pipes,
    devices,
    nothing,
    a_terminal,
    tcp_over_ipv4,
    tcp_over_ipv6,
    ipv4_within_ipv6,
    a_listener_and_a_fresh_socket,
    unix_sockets,
);

/// Runs a helper with these three descriptors.
fn exec_with(stage: &mut Stage, fds: [&dyn AsFd; 3]) -> (Child, Meta, Exec, Image) {
    let image = stage.helper("pause");
    let fds = fds.map(|fd| fd.as_fd().as_raw_fd());
    let (child, meta, exec) = stage.exec_after(&image, |_| redirect(fds));
    (child, meta, exec, image)
}

/// None of them is a standard one already: the test program has its own.
fn redirect(fds: [RawFd; 3]) {
    for (to, from) in fds.into_iter().enumerate() {
        assert!(from > 2);
        sys::dup2(from, to as RawFd);
    }
}

/// The record, apart from sockets' addresses, is what `/proc` says.
fn check(child: &Child, exec: &Exec, image: &Image) {
    let mut expected = facts::exec(child.pid, image);
    expected.generation = exec.generation;
    for (fd, seen) in expected.stdio.iter_mut().zip(exec.stdio) {
        if fd.kind == fd_kind::SOCKET {
            *fd = FdInfo {
                inode: fd.inode,
                kind: fd.kind,
                ..seen
            };
        }
    }
    assert_eq!(*exec, expected);
}

fn files_and_pipes(stage: &mut Stage) -> Outcome {
    let folder = stage.folder();
    let file = File::create(folder.join("out")).unwrap();
    let (read, _write) = sys::pipe();
    let open_folder = File::open(&folder).unwrap();
    let (child, _, exec, image) = exec_with(stage, [&read, &file, &open_folder]);
    check(&child, &exec, &image);
    let kinds = exec.stdio.map(|fd| fd.kind);
    assert_eq!(kinds, [fd_kind::PIPE, fd_kind::FILE, fd_kind::OTHER]);
    assert_eq!(exec.stdio[1].inode, facts::file(&folder.join("out")).inode);
    Ok(())
}

fn devices(stage: &mut Stage) -> Outcome {
    let open = |path| File::options().read(true).write(true).open(path).unwrap();
    let (null, zero, again) = (open("/dev/null"), open("/dev/zero"), open("/dev/null"));
    let (child, _, exec, image) = exec_with(stage, [&null, &zero, &again]);
    check(&child, &exec, &image);
    let seen = exec
        .stdio
        .map(|fd| (fd.kind, fd.rdev >> 20, fd.rdev & 0xf_ffff));
    let null = (fd_kind::NULL, 1, 3);
    assert_eq!(seen, [null, (fd_kind::OTHER, 1, 5), null]);
    Ok(())
}

fn nothing(stage: &mut Stage) -> Outcome {
    let image = stage.helper("pause");
    let (_child, _, exec) = stage.exec_after(&image, |_| (0..3).for_each(sys::close));
    assert_eq!(exec.stdio, [FdInfo::ZERO; 3]);
    Ok(())
}

fn a_terminal(stage: &mut Stage) -> Outcome {
    let (_master, slave) = match sys::terminal() {
        Ok(terminal) => terminal,
        Err(error) => return Err(Skip(format!("no pseudo-terminals: {error}"))),
    };
    let number: u32 = slave
        .to_str()
        .unwrap()
        .strip_prefix("/dev/pts/")
        .unwrap()
        .parse()
        .unwrap();
    let image = stage.helper("pause");
    let (child, _, exec) = stage.exec_after(&image, |_| {
        sys::setsid();
        let terminal = sys::open(&slave, libc::O_RDWR, 0).unwrap();
        sys::take_terminal(terminal.as_raw_fd()).unwrap();
        redirect([terminal.as_raw_fd(); 3]);
    });
    check(&child, &exec, &image);
    // Documentation/admin-guide/devices.txt: 136 and up, 256 each.
    let device = (136 + number / 256, number % 256);
    assert_eq!(exec.tty, Some(device));
    for fd in exec.stdio {
        assert_eq!(
            (fd.kind, fd.rdev),
            (fd_kind::TTY, device.0 << 20 | device.1)
        );
    }
    Ok(())
}

/// Connected ends on loopback: the client's and the server's.
fn connected(listen: SocketAddr, connect: IpAddr) -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(listen)?;
    let port = listener.local_addr()?.port();
    let client = TcpStream::connect((connect, port))?;
    Ok((client, listener.accept()?.0))
}

/// `TCP_ESTABLISHED`, `TCP_CLOSE` and `TCP_LISTEN`, include/net/tcp_states.h
const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;

/// What a connected socket must be described as.
fn described(stream: &TcpStream, seen: &FdInfo, family: u16) -> FdInfo {
    let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    FdInfo {
        inode: seen.inode,
        local_addr: octets(local.ip()),
        remote_addr: octets(remote.ip()),
        local_port: local.port(),
        remote_port: remote.port(),
        family,
        kind: fd_kind::SOCKET,
        state: ESTABLISHED,
        ..FdInfo::ZERO
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&address.octets());
            octets
        }
        IpAddr::V6(address) => address.octets(),
    }
}

fn tcp(stage: &mut Stage, listen: IpAddr, connect: IpAddr) -> Result<[FdInfo; 3], Skip> {
    let ends = connected(SocketAddr::new(listen, 0), connect);
    let (client, server) = ends.map_err(|error| Skip(format!("no TCP on {listen}: {error}")))?;
    let (child, _, exec, image) = exec_with(stage, [&client, &server, &client]);
    check(&child, &exec, &image);
    let family = |address: IpAddr| if address.is_ipv4() { 2 } else { 10 };
    let expected = [
        described(&client, &exec.stdio[0], family(connect)),
        described(&server, &exec.stdio[1], family(listen)),
        described(&client, &exec.stdio[0], family(connect)),
    ];
    assert_eq!(exec.stdio, expected);
    assert!(exec.stdio.iter().all(is_inet));
    assert_eq!(exec.stdio[0].local_port, exec.stdio[1].remote_port);
    Ok(exec.stdio)
}

fn tcp_over_ipv4(stage: &mut Stage) -> Outcome {
    let seen = tcp(
        stage,
        Ipv4Addr::LOCALHOST.into(),
        Ipv4Addr::LOCALHOST.into(),
    )?;
    assert_eq!(
        seen[0].remote_addr,
        [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    Ok(())
}

fn tcp_over_ipv6(stage: &mut Stage) -> Outcome {
    let seen = tcp(
        stage,
        Ipv6Addr::LOCALHOST.into(),
        Ipv6Addr::LOCALHOST.into(),
    )?;
    assert_eq!(
        seen[0].remote_addr,
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    );
    Ok(())
}

fn ipv4_within_ipv6(stage: &mut Stage) -> Outcome {
    // As servers listen that serve both: node, java, nginx.
    let seen = tcp(
        stage,
        Ipv6Addr::UNSPECIFIED.into(),
        Ipv4Addr::LOCALHOST.into(),
    )?;
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1];
    assert_eq!((seen[1].local_addr, seen[1].remote_addr), (mapped, mapped));
    Ok(())
}

fn a_listener_and_a_fresh_socket(stage: &mut Stage) -> Outcome {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let fresh = sys::tcp_socket();
    let (_child, _, exec, _) = exec_with(stage, [&listener, &fresh, &listener]);
    let [listening, fresh, _] = exec.stdio;
    let port = listener.local_addr().unwrap().port();
    assert_eq!(
        (listening.state, listening.local_port, listening.remote_port),
        (LISTEN, port, 0)
    );
    assert_eq!((fresh.state, fresh.family, fresh.local_port), (CLOSE, 2, 0));
    Ok(())
}

fn unix_sockets(stage: &mut Stage) -> Outcome {
    let (one, other): (OwnedFd, OwnedFd) = sys::socketpair();
    let (child, _, exec, image) = exec_with(stage, [&one, &other, &one]);
    check(&child, &exec, &image);
    for fd in &exec.stdio {
        let expected = FdInfo {
            inode: fd.inode,
            peer_tgid: sys::pid(),
            family: 1,
            kind: fd_kind::SOCKET,
            state: ESTABLISHED,
            ..FdInfo::ZERO
        };
        assert_eq!(*fd, expected);
        assert!(
            !is_inet(fd),
            "a pair of sockets between processes is no reverse shell"
        );
    }
    Ok(())
}
