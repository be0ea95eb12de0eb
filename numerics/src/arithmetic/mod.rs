//! Arithmetic units: how products are added up.
//!
//! - [`fused`]: the fused dot units of matrix instructions, and [`presets`]: those that are known;

pub mod fused;
pub mod presets;
