//! Sockets.

use tracer_common::event::FdInfo;

use super::{Sock, global_nr, non_null};

/// `AF_UNIX`
const AF_UNIX: u16 = 1;
/// `AF_INET`
const AF_INET: u16 = 2;
/// `AF_INET6`
const AF_INET6: u16 = 10;

impl Sock {
    /// `skc_family`
    #[inline(always)]
    pub fn family(self) -> u16 {
        member!(self.ptr(), sk_family).unwrap_or(0)
    }

    /// `sk_type`
    #[inline(always)]
    pub fn socket_type(self) -> u16 {
        member!(self.ptr(), sk_type).unwrap_or(0)
    }

    /// `skc_num`: host order.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        member!(self.ptr(), sk_lport).unwrap_or(0)
    }

    /// Local address; IPv4 in the first four bytes.
    #[inline(always)]
    pub fn local_addr(self) -> [u8; 16] {
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
        let mut address = [0; 16];
        match self.family() {
            AF_INET => {
                if let Some([a, b, c, d]) = v4 {
                    address = [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                }
            }
            AF_INET6 => {
                if let Some(v6) = v6 {
                    address = v6;
                }
            }
            _ => {}
        }
        address
    }

    #[inline(always)]
    pub fn describe(self, info: &mut FdInfo) {
        info.family = self.family();
        info.state = member!(self.ptr(), sk_state).unwrap_or(0);
        match info.family {
            AF_INET | AF_INET6 => {
                info.local_port = self.local_port();
                info.remote_port = u16::from_be(member!(self.ptr(), sk_rport).unwrap_or(0));
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
}
