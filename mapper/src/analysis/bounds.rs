//! What no mapping can avoid: elements that an operand touches.

use presil_hwmodels::Operand;
use presil_workloads::{Access, Einsum};

use super::counts::ragged_scale;
use super::flow::{Flow, Retain};
use super::nest::access;
use super::pattern::Pattern;
use super::region::Region;
use crate::problem::Problem;

/// Distinct elements of an operand that the points of the domain touch, in bounds. Expected (and rounded) for the
/// weights of ragged groups.
pub fn touched_elements(einsum: &Einsum, operand: Operand) -> u128 {
    access(einsum, operand).map_or(0, |a| touched_of(einsum, a))
}

/// The same, of any access of the einsum.
pub fn touched_of(einsum: &Einsum, access: &Access) -> u128 {
    let pattern = Pattern::of(einsum, Some(access), Region::of(einsum));
    touched_by(einsum, access, &pattern)
}

/// The same, of an access of a known pattern.
pub(crate) fn touched_by(einsum: &Einsum, access: &Access, pattern: &Pattern) -> u128 {
    let sizes: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    let whole = Flow::new(pattern, &sizes, sizes.clone(), &[], Retain::Keep).entering_all();
    ragged_scale(einsum, access).apply(whole)
}

/// Elements of input, weight and output that any execution touches at least once.
pub fn compulsory(problem: &Problem) -> [u128; 3] {
    Operand::ALL.map(|o| touched_elements(problem.einsum, o))
}
