//! What every test has: the sensor, a folder, programs to run, and the ways to use them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tracer::event::{Exec, Meta, ProcessKey};
use tracer::sensor::{KERNEL_BTF, SensorError};
use tracer_common::probe::{PROBES, Probe, Tier};
use tracer_common::tag::{Role, Tag};

use crate::child::{Child, Image, Talk};
use crate::watch::Watch;
use crate::{facts, sys};

/// One test.
pub(crate) struct Test {
    /// `module::name`
    pub(crate) name: &'static str,
    /// The test.
    pub(crate) run: fn(&mut Stage) -> Outcome,
}

/// The tests of a module, by their functions' names.
macro_rules! tests {
    ($module:literal: $($name:ident),+ $(,)?) => {
        &[ $( $crate::stage::Test {
            name: concat!($module, "::", stringify!($name)),
            run: $name,
        }, )+ ]
    };
}
pub(crate) use tests;

/// Why a test cannot run here.
#[derive(Debug)]
pub(crate) struct Skip(pub String);

/// A test either passes, or panics, or says why it cannot run.
pub(crate) type Outcome = Result<(), Skip>;

/// A tag that no executable gives.
pub(crate) const TAG: Tag = Tag {
    roles: Role::Mail.bit() | Role::Ftp.bit(),
    server: 0,
    distance: 3,
    via: 0,
    quota: 0,
};

/// See the module.
pub(crate) struct Stage {
    /// The sensor and its records.
    pub(crate) watch: Watch,
    /// A copy of this program, for everybody to execute.
    pub(crate) program: PathBuf,
    small: Option<Watch>,
    home: TempDir,
    folders: usize,
}

impl Stage {
    /// Loads the sensor. Panics where a kernel should take it and does not.
    pub(crate) fn set() -> Result<Self, Skip> {
        // The words by which `cargo xtask test` knows that nothing could be tested.
        let skip = |reason: &str| Err(Skip(format!("no agent: {reason}")));
        if facts::ids(sys::pid()).euid != 0 {
            return skip("not root");
        }
        // include/linux/proc_ns.h, PROC_PID_INIT_INO: records hold numbers of this namespace.
        if facts::namespace(sys::pid(), "pid") != 0xeffffffc {
            return skip("not in the initial pid namespace");
        }
        if !Path::new(KERNEL_BTF).exists() {
            return skip("the kernel has no BTF");
        }
        let watch = match Watch::load() {
            Ok(watch) => watch,
            Err(SensorError::Refused(why)) => return skip(&why),
            Err(error) => panic!("{error}"),
        };
        let home = tempfile::tempdir().unwrap();
        // Where users without rights execute, too.
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = home.path().canonicalize().unwrap().join("program");
        fs::copy("/proc/self/exe", &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Ok(Self {
            watch,
            program,
            small: None,
            home,
            folders: 0,
        })
    }

    /// Whether the kernel's own functions tell, not the calls' tracepoints.
    pub(crate) fn is_lsm(&self) -> bool {
        self.watch.sensor.tier() == Tier::Lsm
    }

    /// For tests of what that tier alone can do.
    pub(crate) fn needs_lsm(&self) -> Outcome {
        if self.is_lsm() {
            return Ok(());
        }
        let why = self.watch.sensor.refusal().unwrap_or("not asked for");
        Err(Skip(format!("the tier lsm is not in use: {why}")))
    }

    /// A new empty folder, by its true path.
    pub(crate) fn folder(&mut self) -> PathBuf {
        self.folders += 1;
        let folder = self
            .home
            .path()
            .canonicalize()
            .unwrap()
            .join(self.folders.to_string());
        fs::create_dir(&folder).unwrap();
        folder
    }

    /// A second sensor, with rings of the smallest size. Loaded once: emulated kernels take their
    /// time. A test that does not give it back has it unloaded.
    pub(crate) fn take_small(&mut self) -> Watch {
        let page = sys::page_size();
        let small = self.small.take();
        small.unwrap_or_else(|| Watch::with_rings(page, page).unwrap())
    }

    /// Gives it back.
    pub(crate) fn keep_small(&mut self, small: Watch) {
        self.small = Some(small);
    }

    /// The program, as a helper.
    pub(crate) fn helper(&self, action: &str) -> Image {
        Image::helper(&self.program, action)
    }

    /// A child that becomes `image`, with the record of it.
    pub(crate) fn exec(&mut self, image: &Image) -> (Child, Meta, Exec) {
        self.exec_after(image, |_| ())
    }

    /// The same, after it did something else.
    pub(crate) fn exec_after(
        &mut self,
        image: &Image,
        prepare: impl FnOnce(&mut Talk),
    ) -> (Child, Meta, Exec) {
        self.exec_by(|talk| {
            prepare(talk);
            image.exec()
        })
    }

    /// A child that executes something, with the record of it.
    pub(crate) fn exec_by(&mut self, body: impl FnOnce(&mut Talk) -> i32) -> (Child, Meta, Exec) {
        let mut child = Child::hold(body);
        child.go();
        let (meta, exec) = self.watch.exec(child.pid);
        (child, meta, exec)
    }

    /// A child of a server lineage, already on its way.
    pub(crate) fn tagged(&mut self, body: impl FnOnce(&mut Talk) -> i32) -> Child {
        let mut child = Child::hold(body);
        self.watch.sensor.set_tag(child.pid, TAG).unwrap();
        child.go();
        child
    }

    /// The same, which says when it has done `body`, and stays for questions.
    pub(crate) fn server(&mut self, body: impl FnOnce(&mut Talk)) -> Child {
        self.tagged(|talk| {
            body(talk);
            talk.done();
            talk.wait();
            0
        })
    }

    /// Lets a child end well; gives its records that nobody asked for.
    pub(crate) fn end(&mut self, mut child: Child) -> Vec<tracer::event::Event> {
        child.go();
        child.end_well();
        self.watch.exit(child.pid);
        self.watch.rest(child.pid)
    }
}

/// Whether a 64-bit process may call by the 32-bit convention here.
#[cfg(target_arch = "x86_64")]
pub(crate) fn needs_compat() -> Outcome {
    let mut child = Child::hold(|_| {
        let pid = sys::compat::call(sys::compat::GETPID, [0; 5]).unwrap();
        i32::from(pid != sys::pid())
    });
    child.go();
    match child.end() {
        0 => Ok(()),
        status => Err(Skip(format!(
            "the kernel has no 32-bit system calls (int 0x80 ended with status {status:#x})"
        ))),
    }
}

/// The moments between which something happened.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    since: u64,
}

impl Span {
    /// From now on.
    pub(crate) fn begin() -> Self {
        Self {
            since: sys::boot_ns(),
        }
    }

    /// Holds what every record has against what it must be. The event lies between the begin and
    /// now.
    pub(crate) fn check(self, meta: &Meta, subject: ProcessKey, tid: u32, tag: Tag, flags: u16) {
        let expected = Meta {
            boot_ns: meta.boot_ns,
            subject,
            start_boot_ns: meta.start_boot_ns,
            tid,
            tag,
            tier: meta.tier,
            flags,
            cpu: meta.cpu,
            slot: meta.slot,
            seq: meta.seq,
        };
        assert_eq!(*meta, expected);
        // The programs of every tier are raw tracepoints.
        let made_it = |probe: &Probe| {
            u16::try_from(probe.slot) == Ok(meta.slot)
                && probe.tier.unwrap_or(Tier::Tracepoint) == meta.tier
        };
        assert!(PROBES.iter().any(made_it), "{meta:?}");
        assert_eq!(ProcessKey::new(subject.tgid, meta.start_boot_ns), subject);
        let now = sys::boot_ns();
        assert!(
            (self.since..=now).contains(&meta.boot_ns),
            "{meta:?}: not in {}..{now}",
            self.since
        );
        let cpus = fs::read_dir("/sys/bus/cpu/devices").unwrap().count();
        assert!((meta.cpu as usize) < cpus, "{meta:?}");
    }
}
