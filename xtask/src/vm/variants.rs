//! Variants of a kernel: the same image, started or prepared so that something is missing.
//!
//! Each row says what the agent has to do there, and proves first that the variant is what its name
//! says: a parameter that a kernel ignores must not pass for a test.

/// A variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it stands for.
    pub(crate) about: &'static str,
    /// Words on the kernel's command line.
    pub(super) parameters: &'static [&'static str],
    /// The list of security modules, where it is not the kernel's own.
    pub(super) lsm: Option<&'static str>,
    /// Shell commands that make the variant in the guest, and fail where it is not one.
    pub(super) prepare: &'static str,
    /// The agent started plainly has to refuse.
    pub(super) refusal: Option<Refusal>,
    /// The agent started with these flags has to work.
    pub(super) works_with: Option<&'static [&'static str]>,
}

/// How the agent has to refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The exit code, of `run` and of `doctor`.
    pub(super) status: u8,
    /// What the one line on standard error has to say.
    pub(super) words: &'static [&'static str],
}

/// The kernel as Debian starts it.
pub(crate) const STOCK: &Variant = &Variant {
    name: "stock",
    about: "as Debian starts it",
    parameters: &[],
    lsm: None,
    prepare: "",
    refusal: None,
    works_with: Some(&[]),
};

/// The exit code of the agent where the kernel lacks what it needs.
const UNSUPPORTED: u8 = 3;

/// All variants.
pub(crate) const ALL: [&Variant; 5] = [
    STOCK,
    &Variant {
        name: "lockdown-integrity",
        about: "started with `lockdown=integrity`, as with secure boot: the agent works",
        parameters: &["lockdown=integrity"],
        prepare: r"grep '\[integrity\]' /sys/kernel/security/lockdown",
        ..*STOCK
    },
    &Variant {
        name: "lockdown-confidentiality",
        about: "started with `lockdown=confidentiality`: the agent refuses and names the reason",
        parameters: &["lockdown=confidentiality"],
        prepare: r"grep '\[confidentiality\]' /sys/kernel/security/lockdown",
        refusal: Some(Refusal {
            status: UNSUPPORTED,
            words: &["lockdown"],
        }),
        works_with: None,
        ..*STOCK
    },
    &Variant {
        name: "no-btf",
        about: "`/sys/kernel/btf` is empty: the agent refuses, and works with `--btf FILE`",
        prepare: "cp /sys/kernel/btf/vmlinux /root/kernel.btf && \
                  mount -t tmpfs tmpfs /sys/kernel/btf && ! test -e /sys/kernel/btf/vmlinux",
        refusal: Some(Refusal {
            status: UNSUPPORTED,
            words: &["/sys/kernel/btf/vmlinux", "--btf"],
        }),
        works_with: Some(&["--btf", "/root/kernel.btf"]),
        ..*STOCK
    },
    &Variant {
        name: "no-bpf-lsm",
        about: "started with a list `lsm=` without `bpf`: the agent works",
        lsm: Some("landlock,lockdown,yama,integrity,apparmor"),
        prepare: "cat /sys/kernel/security/lsm && ! grep -w bpf /sys/kernel/security/lsm",
        ..*STOCK
    },
];

impl Variant {
    /// Its name behind a kernel's, for people; nothing for the plain kernel.
    pub(super) fn label(&self) -> String {
        if self == STOCK {
            String::new()
        } else {
            format!(", {},", self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_expects_something_and_proves_itself() {
        for variant in ALL {
            assert!(
                variant.refusal.is_some() || variant.works_with.is_some(),
                "{variant:?}"
            );
            assert_eq!(variant == STOCK, variant.prepare.is_empty(), "{variant:?}");
            if let Some(Refusal { status, words }) = &variant.refusal {
                assert!(*status > 2 && !words.is_empty(), "{variant:?}");
            }
        }
        let mut names = ALL.map(|variant| variant.name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
