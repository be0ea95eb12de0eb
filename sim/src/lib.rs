//! What a model on a chip takes: the [`Run`].
//!
//! - [`run`]: the noun, the only value that reports read;
//! - [`analytic`]: from a schedule to a Run by the analytic model;
//! - [`timing`]: the event engine.

pub mod analytic;
pub mod run;
mod simulated;
pub mod timing;

pub use run::Run;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
#[path = "../../mapper/src/schedule/tests/chip.rs"]
mod small_chip;
