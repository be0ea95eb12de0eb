//! Bit-exactness: the published cases of other implementations, and exact arithmetic where there are none.
//!
//! Every reference file is passed case by case; a case that its own reference contradicts is listed with the reason.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod fast;
mod fused;
mod matmul;
mod oracle;
mod others;
mod references;
mod summation;
