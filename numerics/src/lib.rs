//! Units, number formats, quantization and lane primitives of presil.
//!
//! This crate holds the values that every other crate speaks in. It knows no graph and no chip:
//!
//! - [`units`]: newtypes for every physical quantity, with checked parsing ("512 KiB") and printing;
//! - [`time`]: clock domains and integer femtoseconds;
//! - [`mod@format`]: one element's encoding ([`Format`]);
//! - [`codec`]: the codes of one element of any format, both ways, by [`rounding`] and [`conversion`] rules;
//!   [`float`], [`integer`], [`logarithmic`], [`codebook`] hold the formats' definitions, [`exact`] what all decode to;
//! - [`block`]: elements that share scales: MX, NVFP4, NF4, groups, block floating point, GGUF;
//! - [`arithmetic`]: how units add products up, and matrix products in their arithmetic;
//! - [`fidelity`]: how near numbers are to what they should be;
//! - [`sparse`]: N:M and unstructured encodings;
//! - [`quantization`]: how a tensor is stored ([`Quantization`]) and exactly how many bits that takes;
//! - [`coding`]: codes that leave zeros out, and how many bits they take ([`Coding`]);
//! - [`mod@reference`]: cases of other implementations, compared one by one;
//! - [`precision`]: what a user asks for ("w4a16kv8");
//! - [`lanes`]: the primitives that vector units are made of ([`LanePrimitive`]);
//! - [`diagnostic`]: the one form of every message about a user's input;
//! - [`ids`]: dense typed ids and the vectors that they index.

pub mod arithmetic;
pub mod block;
pub mod cast;
pub mod codebook;
pub mod codec;
pub mod coding;
pub mod conversion;
pub mod diagnostic;
pub mod exact;
pub mod fidelity;
pub mod float;
pub mod format;
pub mod function;
pub mod ids;
pub mod integer;
pub mod lanes;
pub mod logarithmic;
pub mod precision;
pub mod quantization;
pub mod random;
pub mod reference;
pub mod rounding;
pub mod sparse;
pub mod time;
pub mod units;

pub use codec::Codec;
pub use coding::Coding;
pub use conversion::{Conversion, Overflow};
pub use diagnostic::{Diagnostic, Diagnostics};
pub use exact::Exact;
pub use fidelity::Fidelity;
pub use format::Format;
pub use ids::IdVec;
pub use lanes::LanePrimitive;
pub use precision::Precision;
pub use quantization::{Quantization, Storage};
pub use rounding::Rounding;
pub use time::{ClockDomain, Cycles, Femtoseconds};
pub use units::{
    Bits, Bytes, BytesPerSecond, Hertz, Joules, JoulesPerBit, Nanometres, Seconds, SquareMm, Volts,
    Watts,
};

#[cfg(test)]
mod properties;
