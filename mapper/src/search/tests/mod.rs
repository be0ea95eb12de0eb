#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod chips;
mod constraints;
mod exhaustive;
mod floors;
mod front;
mod measure;
mod optimum;
mod realistic;

pub(super) use measure::{Watch, changed};
