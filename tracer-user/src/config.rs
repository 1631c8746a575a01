//! STUB
use std::path::{Path, PathBuf};
use crate::pipeline::Emit;
#[derive(Debug)]
pub struct ConfigError; impl std::fmt::Display for ConfigError { fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { Ok(()) } }
#[derive(Clone, Copy)]
pub enum Format { Auto, Json, Pretty }
pub struct Rings { pub life_bytes: u32, pub file_bytes: u32 }
pub struct Processes { pub max: usize }
pub struct FileConfig { pub emit: Emit, pub format: Format, pub output: Option<PathBuf>, pub btf: Option<PathBuf>, pub rings: Rings, pub processes: Processes, pub order_window_ms: u64 }
impl FileConfig { pub fn load(_: Option<&Path>) -> Result<Self, ConfigError> { Ok(Self { emit: Emit::Alerts, format: Format::Auto, output: None, btf: None, rings: Rings { life_bytes: 8<<20, file_bytes: 4<<20 }, processes: Processes { max: 65536 }, order_window_ms: 5 }) }
 pub fn directory_set(&self) -> crate::enrich::docroot::Directories { let mut d = crate::enrich::docroot::Directories::default(); d.add_defaults(); d } }
