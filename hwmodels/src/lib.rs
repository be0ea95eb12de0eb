//! Chips, systems and technology models.
//!
//! A chip is a file. [`spec`] is exactly what the file says; [`load()`] reads it, follows `extends`, applies `--set`
//! overrides, checks everything and resolves it into a [`Chip`]: a validated tree of memories, fanouts and compute
//! with every rate, energy and area filled in from the file or from the [`technology`] models. Later stages see
//! only the `Chip`.
//!
//! ```text
//! text --document--> merged items with places --decode--> ChipSpec --resolve--> Chip
//!                                                              technology models --^
//! ```
//!
//! - [`chip`]: the noun; [`network`]: how data moves in it; [`blocks`]: engines that work block by block;
//!   [`power`]: operating points, idling and sleep; [`sourced`]: constants with provenance;
//! - [`document`], [`overrides`], [`decode`], [`spec`], [`resolve`], [`load`](mod@load): from text to chip, all mistakes at once;
//! - [`dram`]: what a DRAM channel reaches of its peak; [`banks`]: conflicts in banked memories;
//! - [`json`]: JSON texts as the same trees of items, for file forms that are written by programs too;
//! - [`library`]: the chips that ship; [`schema`]: JSON Schema of the file form;
//! - [`technology`]: energy, area and leakage of SRAM, MACs, lane primitives, wires and DRAM over nodes.
//!
//! This crate knows no workload and no mapping.

pub mod banks;
pub mod blocks;
pub mod chip;
pub mod decode;
pub mod document;
pub mod dram;
pub mod json;
pub mod library;
pub mod load;
pub mod network;
pub mod overrides;
pub mod power;
pub mod resolve;
pub mod schema;
pub mod sourced;
pub mod spec;
pub mod technology;

pub use banks::Banks;
pub use blocks::{BankedBuffer, Blocks, OutputKind};
pub use chip::*;
pub use decode::Sourced;
pub use load::{ChipError, load};
pub use network::{Movement, Network, Topology};
pub use power::{OperatingPoint, PowerStates, Sleep};
pub use sourced::{Provenance, Status};
