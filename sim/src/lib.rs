//! What a model on a chip takes: the [`Run`].
//!
//! - [`run`]: the noun, the only value that reports read;
//! - [`phase`]: from a schedule to a Run; `analytic`, `simulated`: when its ops run, by closed forms and by events;
//! - [`power`]: what it draws where it runs again and again, and at operating points;
//! - [`timing`]: the event engine, and the program of a schedule.

mod analytic;
pub mod phase;
pub mod power;
pub mod run;
mod simulated;
pub mod timing;

pub use run::Run;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
#[path = "../../mapper/src/schedule/tests/chip.rs"]
mod small_chip;
