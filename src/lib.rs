//! presil: how fast is this model on this chip, what does it cost in energy and area, and what limits it?
//!
//! One straight line of plain values:
//!
//! ```text
//! model --workloads--> Graph --.
//!                               >--mapper--> Schedule --sim--> Run --reports--> tables, plots, HTML
//! chip file --hwmodels--> Chip -'
//! ```
//!
//! The five nouns are [`Graph`], [`Chip`], [`Mapping`], [`Schedule`] and [`Run`];
//! everything else is a function between them. Each command of the `presil` program is a function here first:
//! [`run::run`], [`eval::evaluate`], [`map::map`], [`inspect::inspect`], [`validate::validate()`], [`cast::cast`],
//! [`execute::execute`], [`vectors::write`].

pub mod arrays;
pub mod cast;
pub mod eval;
pub mod execute;
pub mod inspect;
pub mod map;
pub mod run;
pub mod silicon;
pub mod validate;
pub mod vectors;

pub use presil_execution as execution;
pub use presil_hwmodels as hwmodels;
pub use presil_mapper as mapper;
pub use presil_numerics as numerics;
pub use presil_reports as reports;
pub use presil_sim as sim;
pub use presil_workloads as workloads;

pub use presil_hwmodels::Chip;
pub use presil_mapper::Mapping;
pub use presil_mapper::schedule::Schedule;
pub use presil_sim::Run;
pub use presil_workloads::Graph;

/// Version of the tool, as written in every result.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
