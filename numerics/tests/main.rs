//! Bit-exactness: the published cases of other implementations, and exact arithmetic where there are none.
//!
//! Every reference file is passed case by case; a case that its own reference contradicts is listed with the reason.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod fast;
mod functions;
mod functions_reference;
mod functions_rows;
mod functions_rsqrt;
mod fused;
mod matmul;
mod oracle;
mod others;
mod quantized;
mod quantized_run;
mod quantized_sums;
mod references;
mod rsqrt_rows;
mod silicon;
mod summation;

/// The text of a reference file.
fn reference(name: &str) -> String {
    let path = format!(
        "{}/../tests/data/numerics/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read_to_string(path).unwrap()
}

/// f32 from its bits in hexadecimal.
fn f32_of(hex: &str) -> f32 {
    f32::from_bits(u32::from_str_radix(hex, 16).unwrap())
}

/// Bytes from hexadecimal.
fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap())
        .collect()
}
