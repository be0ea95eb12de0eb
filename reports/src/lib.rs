//! Tables, plots, HTML and validation reports of presil Runs.
//!
//! Everything here reads one value, the [`Run`], and writes text:
//!
//! - [`figures`]: what reports derive from a Run (where time and energy go, what binds, throughput, roofline);
//! - [`text`]: numbers as text;
//! - [`terminal`]: the table on the terminal;
//! - [`json`]: the JSON document;
//! - [`tables`]: one row per op as a data frame, CSV and Parquet (feature `tables`);
//! - [`svg`], [`palette`], [`plots`]: figures as SVG, drawn with plotters;
//! - [`trace`]: a phase over time, for Perfetto;
//! - [`html`]: the page, self-contained;
//! - [`files`]: all of them in a folder.
//!
//! This crate knows no model file, no chip file and no cost model.

mod cores;
pub mod figures;
pub mod files;
mod groups;
pub mod html;
pub mod json;
mod memory;
pub mod palette;
pub mod plots;
mod power;
pub mod svg;
#[cfg(feature = "tables")]
pub mod tables;
pub mod terminal;
pub mod text;
pub mod trace;

#[cfg(test)]
mod sample;

pub use files::{ReportError, write_all};
pub use json::run_json;
pub use presil_sim::Run;
pub use terminal::table;
