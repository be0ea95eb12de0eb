#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod chips;
mod exhaustive;
mod realistic;
mod measure;

use crate::Mapping;
pub(super) use measure::Watch;

/// Bounds never lie above what they bound.
pub(super) fn admissible(bound: f64, exact: f64, mapping: &Mapping) {
    assert!(bound <= exact * (1.0 + 1e-9), "bound {bound} above {exact} of {mapping}");
}
