//! What other tools read and write, as values: text in, [`crate::case::Case`] out, and back. No file is touched.

pub mod accelforge;
pub mod scalesim;
pub mod timeloop;
pub mod zigzag;
