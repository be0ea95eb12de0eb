#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod chips;
mod exhaustive;
mod realistic;
pub(super) mod measure;
