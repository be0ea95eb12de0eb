//! Arithmetic units: how products are added up.
//!
//! - [`fused`]: the fused dot units of matrix instructions, and [`presets`]: those that are known;
//! - [`summation`]: adders of stated formats in a stated order, with trees, lanes and spills; [`operations`]: exact
//!   sums and products beneath;
//! - [`mod@unit`]: any of them by name;
//! - [`width`]: the narrowest integer accumulator that is safe;
//! - [`matmul`]: matrix products in f32 and of 8-bit integers; [`fused_matmul`] and [`summation_lanes`]: in the units'
//!   arithmetic.
//!
//! Each unit is defined by one scalar routine; the matrix products give the same bits, for any number of threads.

pub mod fused;
pub mod fused_matmul;
pub mod matmul;
pub mod operations;
pub mod presets;
pub mod summation;
pub mod summation_lanes;
pub mod unit;
pub mod width;
