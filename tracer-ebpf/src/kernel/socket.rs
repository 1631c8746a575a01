//! Sockets and the addresses that calls name.

use core::mem::{offset_of, size_of};
use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_probe_read_user_str,
};
use tracer_common::event::{FdInfo, SocketBody, fd_kind};

use super::{File, Message, Sock, Socket, global_nr, non_null, read, user};
use crate::output;

/// `AF_UNSPEC`
const AF_UNSPEC: u16 = 0;
/// `AF_UNIX`
pub const AF_UNIX: u16 = 1;
/// `AF_INET`
const AF_INET: u16 = 2;
/// `AF_INET6`
const AF_INET6: u16 = 10;

/// Values of [`Sock::socket_type`], include/linux/net.h.
pub const SOCK_STREAM: u16 = 1;
/// See [`SOCK_STREAM`].
pub const SOCK_DGRAM: u16 = 2;
/// See [`SOCK_STREAM`].
pub const SOCK_RAW: u16 = 3;

/// Bytes of the name of a unix socket (`UNIX_PATH_MAX`, include/uapi/linux/un.h).
const SUN_PATH: usize = 108;

/// Room for a name: [`SocketBody::name`].
const NAME: usize = 112;

impl Socket {
    /// `sk`
    #[inline(always)]
    pub fn sock(self) -> Option<Sock> {
        Sock::new(member!(self.ptr(), socket_sk)?)
    }

    /// Inode number of its file; zero for a socket of the kernel's own.
    #[inline(always)]
    pub fn inode(self) -> u64 {
        File::new(member!(self.ptr(), socket_file).unwrap_or(core::ptr::null()))
            .and_then(|file| file.inode())
            .map_or(0, |inode| inode.ino())
    }
}

impl Message {
    /// `msg_name` and `msg_namelen`: the kernel's copy of the address; `None` where none was given.
    #[inline(always)]
    pub fn address(self) -> Option<Address<false>> {
        Address::new(
            member!(self.ptr(), msg_name)?,
            member!(self.ptr(), msg_namelen)?,
        )
    }

    /// `msg_flags`
    #[inline(always)]
    pub fn flags(self) -> u32 {
        member!(self.ptr(), msg_flags).unwrap_or(0)
    }
}

impl Sock {
    /// `sk_socket`; `None` for a connection that nobody has accepted.
    #[inline(always)]
    pub fn socket(self) -> Option<Socket> {
        Socket::new(member!(self.ptr(), sk_socket)?)
    }

    /// `skc_family`
    #[inline(always)]
    pub fn family(self) -> u16 {
        member!(self.ptr(), sk_family).unwrap_or(0)
    }

    /// Whether it is of one of the families that are told: IPv4, IPv6 and unix.
    #[inline(always)]
    pub fn is_told(self) -> bool {
        matches!(self.family(), AF_INET | AF_INET6 | AF_UNIX)
    }

    /// Whether it is of the internet.
    #[inline(always)]
    pub fn is_inet(self) -> bool {
        matches!(self.family(), AF_INET | AF_INET6)
    }

    /// `sk_type`
    #[inline(always)]
    pub fn socket_type(self) -> u16 {
        member!(self.ptr(), sk_type).unwrap_or(0)
    }

    /// `sk_protocol`
    #[inline(always)]
    fn protocol(self) -> u16 {
        member!(self.ptr(), sk_protocol).unwrap_or(0)
    }

    /// `skc_num`: host order.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        member!(self.ptr(), sk_lport).unwrap_or(0)
    }

    #[inline(always)]
    fn remote_port(self) -> u16 {
        u16::from_be(member!(self.ptr(), sk_rport).unwrap_or(0))
    }

    /// Local address; IPv4 in the first four bytes.
    #[inline(always)]
    fn local_addr(self) -> [u8; 16] {
        let v4 = member!(self.ptr(), sk_laddr4);
        let v6 = member!(self.ptr(), sk_laddr6);
        self.address(v4, v6)
    }

    #[inline(always)]
    fn remote_addr(self) -> [u8; 16] {
        let v4 = member!(self.ptr(), sk_raddr4);
        let v6 = member!(self.ptr(), sk_raddr6);
        self.address(v4, v6)
    }

    #[inline(always)]
    fn address(self, v4: Option<[u8; 4]>, v6: Option<[u8; 16]>) -> [u8; 16] {
        match self.family() {
            AF_INET => v4.map_or([0; 16], widen),
            AF_INET6 => v6.unwrap_or([0; 16]),
            _ => [0; 16],
        }
    }

    /// Writes addresses, state and who is at the other end.
    #[inline(always)]
    pub fn describe(self, info: &mut FdInfo) {
        info.family = self.family();
        info.state = member!(self.ptr(), sk_state).unwrap_or(0);
        match info.family {
            AF_INET | AF_INET6 => {
                info.local_port = self.local_port();
                info.remote_port = self.remote_port();
                info.local_addr = self.local_addr();
                info.remote_addr = self.remote_addr();
            }
            AF_UNIX => {
                let peer: Option<*const u8> = member!(self.ptr(), sk_peer_pid);
                info.peer_tgid = peer.and_then(non_null).and_then(global_nr).unwrap_or(0);
            }
            _ => {}
        }
    }

    /// Writes the socket, its type and, for a unix socket, its own name.
    #[inline(always)]
    pub fn fill(self, body: &mut SocketBody) {
        self.describe(&mut body.socket);
        body.socket.kind = fd_kind::SOCKET;
        body.socket.inode = self.socket().map_or(0, |socket| socket.inode());
        body.socket_type = self.socket_type() as u8;
        body.protocol = self.protocol() as u8;
        if body.socket.family == AF_UNIX
            && let Some(address) = self.name()
        {
            address.name(&mut body.name_len, &mut body.name);
        }
    }

    /// The name of a unix socket, which most have none of.
    #[inline(always)]
    fn name(self) -> Option<Address<false>> {
        let address = non_null(member!(self.ptr(), unix_addr)?)?;
        Address::new(
            address!(address, unix_address_name)?,
            member!(address, unix_address_len)?,
        )
    }

    /// The other end of a unix socket.
    #[inline(always)]
    fn peer(self) -> Option<Self> {
        Self::new(member!(self.ptr(), unix_peer)?)
    }
}

#[inline(always)]
fn widen([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// A `struct sockaddr` with its length, in the caller's memory or in the kernel's.
#[derive(Clone, Copy)]
pub struct Address<const USER: bool> {
    at: *const u8,
    len: u32,
}

impl<const USER: bool> Address<USER> {
    /// `None` where none was given.
    #[inline(always)]
    pub fn new(at: *const u8, len: u32) -> Option<Self> {
        if at.is_null() || len < size_of::<u16>() as u32 {
            None
        } else {
            Some(Self { at, len })
        }
    }

    #[inline(always)]
    fn member<T: Copy>(self, offset: usize) -> Option<T> {
        let at = self.at.wrapping_add(offset);
        if USER { user(at) } else { read(at) }
    }

    /// `sun_path`: a path up to its NUL, an abstract name, which begins with one, to its end. The length
    /// goes through memory, so that the verifier finds its bound where it is used: on the way there
    /// the compiler may compare one copy and use another.
    #[inline(always)]
    fn name(self, len: &mut u16, name: &mut [u8; NAME]) {
        let first = self.member::<u8>(size_of::<u16>());
        // SAFETY: a live reference. At least two, as `new` says.
        let size = unsafe {
            write_volatile(len, self.len.wrapping_sub(size_of::<u16>() as u32) as u16);
            read_volatile(len)
        };
        *len = 0;
        let size = u32::from(size);
        if size == 0 || size > SUN_PATH as u32 {
            return;
        }
        let at = self.at.wrapping_add(size_of::<u16>()).cast();
        let to = name.as_mut_ptr().cast();
        let written = match (first == Some(0), USER) {
            // SAFETY: the destination has more than `size` bytes; the helper checks the source.
            (true, true) => unsafe { bpf_probe_read_user(to, size, at) + i64::from(size) },
            // SAFETY: as above.
            (true, false) => unsafe { bpf_probe_read_kernel(to, size, at) + i64::from(size) },
            // SAFETY: as above, with room for a NUL.
            (false, true) => unsafe { bpf_probe_read_user_str(to, size + 1, at) - 1 },
            // SAFETY: as above, with room for a NUL.
            (false, false) => unsafe { bpf_probe_read_kernel_str(to, size + 1, at) - 1 },
        };
        if written > 0 && written <= SUN_PATH as i64 {
            *len = written as u16;
        }
    }
}

/// One end: an internet address and port, or the name of a unix socket.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Endpoint {
    family: u16,
    /// Host order; of a unix socket the length of its name.
    port: u16,
    reserved: u32,
    /// IPv4 in the first four bytes, IPv6 in the first sixteen, or a name.
    address: [u8; NAME],
}

impl Endpoint {
    /// What an address says that a call of this socket was given; whether it says anything. A socket
    /// of the newer internet family takes addresses of the older too; a datagram socket of the older
    /// does not look at the family (`udp_sendmsg`, net/ipv4/udp.c), of the newer takes none for its
    /// peer (`udpv6_sendmsg`, net/ipv6/udp.c), and connect(2) takes none for an end.
    #[inline(always)]
    pub fn set_address<const USER: bool>(
        &mut self,
        sock: Sock,
        address: Address<USER>,
        unspecified_is_ipv4: bool,
    ) -> bool {
        let Some(family) = address.member::<u16>(0) else {
            return false;
        };
        let own = sock.family();
        let family = if family == AF_UNSPEC && own == AF_INET && unspecified_is_ipv4 {
            AF_INET
        } else {
            family
        };
        match family {
            AF_INET if own != AF_UNIX => {
                self.port = u16::from_be(address.member(2).unwrap_or(0));
                self.set_inet(widen(address.member(4).unwrap_or([0; 4])));
            }
            AF_INET6 if own == AF_INET6 => {
                self.port = u16::from_be(address.member(2).unwrap_or(0));
                self.set_inet(address.member(8).unwrap_or([0; 16]));
            }
            AF_UNIX if own == AF_UNIX => {
                address.name(&mut self.port, &mut self.address);
                if self.port == 0 {
                    return false;
                }
            }
            _ => return false,
        }
        self.family = family;
        true
    }

    /// Whom the socket is connected to; whether to anybody.
    #[inline(always)]
    pub fn set_remote(&mut self, sock: Sock) -> bool {
        let family = sock.family();
        match family {
            AF_INET | AF_INET6 => {
                let address = sock.remote_addr();
                self.port = sock.remote_port();
                if self.port == 0 && address == [0; 16] {
                    return false;
                }
                self.set_inet(address);
            }
            AF_UNIX => {
                let Some(address) = sock.peer().and_then(Sock::name) else {
                    return false;
                };
                address.name(&mut self.port, &mut self.address);
                if self.port == 0 {
                    return false;
                }
            }
            _ => return false,
        }
        self.family = family;
        true
    }

    #[inline(always)]
    fn set_inet(&mut self, address: [u8; 16]) {
        // SAFETY: sixteen bytes at the begin of a larger array, of any alignment.
        unsafe {
            self.address
                .as_mut_ptr()
                .cast::<[u8; 16]>()
                .write_unaligned(address);
        }
    }

    #[inline(always)]
    fn inet(&self) -> [u8; 16] {
        // SAFETY: as in `set_inet`.
        unsafe { self.address.as_ptr().cast::<[u8; 16]>().read_unaligned() }
    }

    #[inline(always)]
    fn name(&self, body: &mut SocketBody) {
        body.name_len = self.port;
        // SAFETY: both are of the same length and lie at multiples of eight, as what they are in does
        // (asserted below).
        unsafe { output::copy(&raw const self.address, &raw mut body.name) };
    }

    /// Writes it as the other end.
    #[inline(always)]
    pub fn remote(&self, body: &mut SocketBody) {
        if self.family == AF_UNIX {
            self.name(body);
            return;
        }
        if body.socket.family != self.family {
            // Of the other internet family: what it has as its own is not of this one.
            body.socket.local_addr = [0; 16];
            body.socket.family = self.family;
        }
        body.socket.remote_port = self.port;
        body.socket.remote_addr = self.inet();
    }

    /// Writes it as this end.
    #[inline(always)]
    pub fn local(&self, body: &mut SocketBody) {
        if body.socket.family == AF_UNIX {
            self.name(body);
            return;
        }
        body.socket.local_port = self.port;
        body.socket.local_addr = self.inet();
    }
}

const _: () = assert!(
    offset_of!(Endpoint, address).is_multiple_of(8)
        && offset_of!(SocketBody, name).is_multiple_of(8)
);
