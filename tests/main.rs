//! Tests of the whole: the program as a user meets it, and what must hold for every model on every chip.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod architecture;
mod cases;
mod casts;
mod command_line;
mod documentation;
mod execution;
mod map_chip;
mod program;
mod sanity;
mod validation;
