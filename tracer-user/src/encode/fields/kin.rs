//! Fields of processes that the one of a document belongs to, and of what it was before.

use super::Type::{Boolean, Date, Keyword};
use super::{ALL, Field, list, one};
use crate::encode::facts::{arguments, container_id, other_container, other_pod};
use crate::encode::value::{bytes, decimal, only, owned, strings, text, time};
use crate::encode::words::capabilities;

/// `process.group_leader`, `process.session_leader`, `process.entry_leader` and `tracer.parent`, besides
/// the pid.
#[rustfmt::skip]
pub(super) static LEADER: &[Field] = &[
    one("entity_id", Keyword, ALL, "Names that process for all time.", |s| owned(s.process.entity_id.to_string())),
    one("name", Keyword, ALL, "Last component of its executable.", |s| bytes(s.name())),
    one("executable", Keyword, ALL, "Its executable.", |s| bytes(&s.exec()?.exe)),
    list("args", Keyword, ALL, "Its arguments.", |s| arguments(s.exec()?)),
    one("start", Date, ALL, "When it was created.", |s| time(s, s.process.start_boot_ns)),
    one("user.id", Keyword, ALL, "Its effective user.", |s| decimal(s.ids()?.euid)),
    one("user.name", Keyword, ALL, "Name of that user.", |s| text(s.user_name(s.ids()?.euid)?)),
];

/// `tracer.executable.package` and `tracer.lineage[].package`.
#[rustfmt::skip]
pub(super) static PACKAGE: &[Field] = &[
    one("name", Keyword, ALL, "The package that owns the executable.", |s| text(&s.process.content.found()?.package.owner()?.name)),
    one("version", Keyword, ALL, "Its version.", |s| text(s.process.content.found()?.package.owner()?.version.as_deref()?)),
    one("type", Keyword, ALL, "Whose database it is in: `deb` or `apk`.", |s| text(s.process.content.found()?.package.owner()?.kind.name())),
];

/// `tracer.images`: what the process ran, in time order.
#[rustfmt::skip]
pub(super) static IMAGES: &[Field] = &[
    one("executable", Keyword, ALL, "Programs that the process ran in time order, the current one last, where there is more than one: the executable.", |s| bytes(&s.program()?.exec.exe)),
    list("args", Keyword, ALL, "Its arguments.", |s| arguments(&s.program()?.exec)),
    one("time", Date, ALL, "When it was executed; of an observed one, when it was read.", |s| time(s, s.program()?.boot_ns)),
    one("inherited", Boolean, ALL, "It is what the creator ran when it created the process.", |s| only(s.program()?.boot_ns < s.process.start_boot_ns)),
    one("observed", Boolean, ALL, "It was read from /proc.", |s| only(s.program()?.observed)),
    one("server", Keyword, ALL, "The server it is.", |s| text(&s.program()?.server.as_ref()?.name)),
];

/// `tracer.credentials`: what the process ran as, in time order.
#[rustfmt::skip]
pub(super) static CREDENTIALS: &[Field] = &[
    one("time", Date, ALL, "What the process ran as in time order, where that changed: since when, as far as it was told.", |s| time(s, s.ran_as()?.boot_ns)),
    one("user.id", Keyword, ALL, "Effective user.", |s| decimal(s.ran_as()?.ids.euid)),
    one("real_user.id", Keyword, ALL, "Real user.", |s| decimal(s.ran_as()?.ids.uid)),
    one("saved_user.id", Keyword, ALL, "Saved user.", |s| decimal(s.ran_as()?.ids.suid)),
    one("group.id", Keyword, ALL, "Effective group.", |s| decimal(s.ran_as()?.ids.egid)),
    one("real_group.id", Keyword, ALL, "Real group.", |s| decimal(s.ran_as()?.ids.gid)),
    list("capabilities.effective", Keyword, ALL, "Effective capabilities, where they were told.", |s| strings(capabilities(s.ran_as()?.capabilities?.0))),
    list("capabilities.permitted", Keyword, ALL, "Permitted capabilities.", |s| strings(capabilities(s.ran_as()?.capabilities?.1))),
];

/// `tracer.target`: the process that another reached into.
#[rustfmt::skip]
pub(super) static TARGET: &[Field] = &[
    one("entity_id", Keyword, ALL, "Names it for all time.", |s| owned(s.process.entity_id.to_string())),
    one("name", Keyword, ALL, "Last component of its executable.", |s| bytes(s.name())),
    one("executable", Keyword, ALL, "Its executable.", |s| bytes(&s.exec()?.exe)),
    list("args", Keyword, ALL, "Its arguments.", |s| arguments(s.exec()?)),
    one("user.id", Keyword, ALL, "Its effective user.", |s| decimal(s.ids()?.euid)),
    one("user.name", Keyword, ALL, "Name of that user.", |s| text(s.user_name(s.ids()?.euid)?)),
    one("container.id", Keyword, ALL, "Its container.", |s| text(container_id(s)?)),
    one("container.name", Keyword, ALL, "Name of that, where it is another than the process's.", |s| text(other_container(s)?.name.as_deref()?)),
    one("container.image.name", Keyword, ALL, "Image of that, the same way.", |s| text(other_container(s)?.image.name.as_deref()?)),
    one("pod.namespace", Keyword, ALL, "Namespace of its pod, the same way.", |s| text(other_pod(s)?.namespace.as_deref()?)),
    one("pod.name", Keyword, ALL, "Name of its pod, the same way.", |s| text(other_pod(s)?.name.as_deref()?)),
];
