//! Chips, systems and technology models.
//!
//! A chip is a file. [`spec`] is exactly what the file says (serde, with spans and defaults); [`load`] reads it,
//! follows `extends`, applies `--set` overrides, checks everything and resolves it into a [`Chip`]: a validated
//! tree of memories, fanouts and compute with every rate, energy and area filled in from the file or from the
//! [`technology`] models. Later stages see only the `Chip`.
//!
//! - [`chip`]: the noun; [`sourced`]: constants with provenance;
//! - [`spec`], [`load`], [`resolve`]: from text to chip; [`library`]: the chips that ship;
//! - [`technology`]: energy, area and leakage of SRAM, MACs, lane primitives, wires and DRAM over nodes.
//!
//! This crate knows no workload and no mapping.

pub mod chip;
pub mod sourced;

pub use chip::*;
pub use sourced::{Provenance, Sourced, Status};
