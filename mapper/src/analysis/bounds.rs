//! What no mapping can avoid: elements that an operand touches.

use presil_hwmodels::Operand;
use presil_workloads::Einsum;

use super::counts::ragged_scale;
use super::flow::{Flow, Retain};
use super::nest::access;
use super::pattern::Pattern;
use super::region::Region;
use crate::problem::Problem;

/// Distinct elements of an operand that the points of the domain touch, in bounds. Expected (and rounded) for the
/// weights of ragged groups.
pub fn touched_elements(einsum: &Einsum, operand: Operand) -> u128 {
    let pattern = Pattern::of(einsum, access(einsum, operand), Region::of(einsum));
    touched_by(einsum, operand, &pattern)
}

/// The same, of a known pattern.
pub(crate) fn touched_by(einsum: &Einsum, operand: Operand, pattern: &Pattern) -> u128 {
    let Some(access) = access(einsum, operand) else {
        return 0;
    };
    let sizes: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    let whole = Flow::new(pattern, &sizes, sizes.clone(), &[], Retain::Keep).entering_all();
    ragged_scale(einsum, access).apply(whole)
}

/// Elements of input, weight and output that any execution touches at least once.
pub fn compulsory(problem: &Problem) -> [u128; 3] {
    Operand::ALL.map(|o| touched_elements(problem.einsum, o))
}
