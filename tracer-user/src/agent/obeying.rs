//! What the agent does because the pipeline asks for it.

use std::path::Path;

use tracer_common::tag::Tag;

use super::{Agent, tags};
use crate::event::ProcessKey;
use crate::pipeline::Command;
use crate::source::snapshot;

impl Agent {
    /// Does what the pipeline asks for.
    pub(super) fn obey(&mut self) {
        for command in self.pipeline.take_commands() {
            match command {
                Command::Tag(key, tag) => self.tag(key, tag),
                Command::Role(exe, serves) => {
                    if let Err(error) = self.sensor.set_role(exe, serves) {
                        eprintln!("tracer: cannot mark a server's executable: {error}");
                    }
                }
                Command::Written(file) => self.know_written(&file),
                Command::Heal => self.healing.want(),
                Command::Identify => self.servers.moved(),
                Command::Resolve(asked) => self.names.ask(asked),
                Command::Container(asked) => self.containers.ask(asked),
                Command::Names(asked) => self.users.ask(asked),
                Command::Content(asked) => self.contents.ask(asked),
                Command::Discover(seen) => {
                    self.servers.seen(seen);
                    self.servers.refresh();
                }
            }
        }
    }

    fn tag(&mut self, key: ProcessKey, tag: Tag) {
        let sees_host = self.sees_host;
        let lives = |key: ProcessKey| {
            let started = || snapshot::started(Path::new("/proc"), key.tgid);
            !sees_host || started() == Some(key.start_ticks)
        };
        if let Err(error) = tags::set(&mut self.tags, lives, key, tag) {
            // Said once, and counted: where one does not fit, thousands may not.
            if self.tags_refused == 0 {
                let ProcessKey { tgid, .. } = key;
                eprintln!("tracer: cannot tag process {tgid} in the kernel: {error}");
            }
            self.tags_refused += 1;
        }
    }
}
