#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod chips;
mod exhaustive;
mod floors;
mod measure;
mod optimum;
mod realistic;

pub(super) use measure::{Watch, changed};
