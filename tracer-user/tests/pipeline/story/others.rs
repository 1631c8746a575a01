//! Records about sockets, users, namespaces, and what one process does to another.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use tracer::event::components;
use tracer_common::event::{
    CommBody, CredentialBody, EventKind, ExecFailedBody, FdInfo, NamespaceBody, SocketBody,
    TraceBody, fd_kind, namespace_call, trace_method,
};

use super::line::{Line, tag};
use super::{Teller, ids, record};

impl Teller {
    /// What is neither process life nor files.
    pub(super) fn other(&mut self, line: &Line, kind: EventKind) -> Bytes {
        match kind {
            EventKind::ExecFailed => self.exec_failed(line),
            EventKind::Credentials => self.credentials(line),
            EventKind::Namespace => self.namespace(line),
            EventKind::Trace => self.trace(line),
            EventKind::Comm => self.comm(line),
            _ => self.socket(line, kind),
        }
    }

    fn socket(&mut self, line: &Line, kind: EventKind) -> Bytes {
        let pid = line.pid();
        let header = self.header(line, kind, pid);
        let mut body = SocketBody {
            net_ns: 4_026_531_840,
            socket_type: 1,
            protocol: 6,
            fd: u32::MAX,
            ..SocketBody::ZERO
        };
        body.ids = ids(self.process(pid).uid);
        let word = match kind {
            EventKind::Redirect => {
                body.fd = u32::try_from(line.number(2)).unwrap();
                line.word(3)
            }
            _ => line.word(2),
        };
        body.socket = FdInfo {
            kind: fd_kind::SOCKET,
            family: 2,
            inode: 77,
            ..FdInfo::ZERO
        };
        let here = matches!(kind, EventKind::Listen | EventKind::Bind);
        if kind == EventKind::Listen && !word.starts_with('/') {
            body.socket.local_port = u16::try_from(line.number(2)).unwrap();
        } else if word.starts_with('/') {
            body.socket.family = 1;
            body.name_len = u16::try_from(word.len()).unwrap();
            body.name[..word.len()].copy_from_slice(word.as_bytes());
        } else {
            let address: SocketAddr = word.parse().unwrap();
            let IpAddr::V4(four) = address.ip() else {
                panic!("an IPv4 address, not {word}")
            };
            let (addr, port) = if here {
                (&mut body.socket.local_addr, &mut body.socket.local_port)
            } else {
                (&mut body.socket.remote_addr, &mut body.socket.remote_port)
            };
            addr[..4].copy_from_slice(&four.octets());
            *port = address.port();
        }
        record(header, &body, &[])
    }

    fn exec_failed(&mut self, line: &Line) -> Bytes {
        let pid = line.pid();
        let header = self.header(line, EventKind::ExecFailed, pid);
        let name = line.word(3).as_bytes();
        let mut body = ExecFailedBody {
            error: u32::try_from(line.number(2)).unwrap(),
            name_len: u32::try_from(name.len()).unwrap(),
            ..ExecFailedBody::ZERO
        };
        body.ids = ids(self.process(pid).uid);
        body.name[..name.len()].copy_from_slice(name);
        record(header, &body, &[])
    }

    fn credentials(&mut self, line: &Line) -> Bytes {
        let pid = line.pid();
        let header = self.header(line, EventKind::Credentials, pid);
        let uid = u32::try_from(line.number(2)).unwrap();
        let mut running = self.process(pid);
        running.uid = uid;
        self.processes.insert(pid, running);
        let mut body = CredentialBody {
            cap_effective: if uid == 0 { (1 << 41) - 1 } else { 0 },
            user_ns: 4_026_531_837,
            ..CredentialBody::ZERO
        };
        body.ids = ids(uid);
        record(header, &body, &[])
    }

    fn namespace(&mut self, line: &Line) -> Bytes {
        let pid = line.pid();
        let header = self.header(line, EventKind::Namespace, pid);
        let tail = components(line.word(3).as_bytes());
        let mut body = NamespaceBody {
            call: match line.word(2) {
                "setns" => namespace_call::SETNS,
                "unshare" => namespace_call::UNSHARE,
                "chroot" => namespace_call::CHROOT,
                "pivot_root" => namespace_call::PIVOT_ROOT,
                "switch" => namespace_call::SWITCH,
                other => panic!("no call {other:?}"),
            },
            root_len: u16::try_from(tail.len()).unwrap(),
            ..NamespaceBody::ZERO
        };
        body.ids = ids(self.process(pid).uid);
        body.ns.mnt = 4_026_532_001;
        record(header, &body, &tail)
    }

    fn trace(&mut self, line: &Line) -> Bytes {
        let pid = line.pid();
        let header = self.header(line, EventKind::Trace, pid);
        let target = u32::try_from(line.number(3)).unwrap();
        let mut body = TraceBody {
            target_start_boot_ns: self.process(target).start,
            target_tag: line.option("target-tag").map_or(header.tag, tag),
            target_tgid: target,
            target_vpid: target,
            pid_ns: 4_026_531_836,
            method: match line.word(2) {
                "ptrace" => trace_method::PTRACE,
                "process_vm_writev" => trace_method::VM_WRITE,
                "mem" => trace_method::MEM,
                "access" => trace_method::ACCESS,
                other => panic!("no method {other:?}"),
            },
            ..TraceBody::ZERO
        };
        body.ids = ids(self.process(pid).uid);
        record(header, &body, &[])
    }

    fn comm(&mut self, line: &Line) -> Bytes {
        let header = self.header(line, EventKind::Comm, line.pid());
        let name = |word: &str| {
            let mut name = [0; 16];
            name[..word.len()].copy_from_slice(word.as_bytes());
            name
        };
        let body = CommBody {
            old: name(line.word(2)),
            new: name(line.word(3)),
        };
        record(header, &body, &[])
    }
}
