//! Functions and the designs that evaluate them.

pub mod reference;

pub use reference::Function;
