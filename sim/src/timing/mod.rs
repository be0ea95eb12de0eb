//! Timing by events: queues of commands on shared resources, gone through in integer femtoseconds.
//!
//! - [`program`]: what runs;
//! - [`machine`]: the event loop; `share`: how flows share resources;
//! - [`lower`]: the program of a schedule;
//! - `skip`: periods that repeat are skipped, exactly;
//! - [`record`]: what happened when;
//! - [`account`]: where the time of each queue and of each op goes.

pub mod account;
pub mod lower;
pub mod machine;
pub mod program;
pub mod record;
mod share;
mod skip;
#[cfg(test)]
mod tests;

pub use machine::{Pace, Stuck, Waiting, run};
