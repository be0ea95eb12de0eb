//! An einsum of a chain, compiled: its space, and every way to hand over its intermediates.

use presil_workloads::Einsum;

use super::Options;
use super::placement::{Start, placements};
use super::search::Placement;
use super::space::{Space, SpaceError};
use crate::case::{Case, CaseEinsum};
use crate::hierarchy::Hierarchy;

/// An einsum of the chain, compiled.
pub(super) struct Link {
    pub einsum: Einsum,
    /// By point.
    pub hierarchies: Vec<Hierarchy>,
    pub space: Space,
    /// Of each dimension of the space, its number in the case.
    pub dims: Vec<usize>,
    /// The same with perfect factors only.
    pub factors: Space,
    /// All placements of all ways to hand over.
    pub placements: Vec<Placement>,
    /// Least energy and cycles.
    pub least: (f64, f64),
}

impl Link {
    /// The same with the prices and sizes of several points.
    pub(super) fn with(self, space: Space, hierarchies: Vec<Hierarchy>) -> Self {
        Self {
            factors: Space {
                perfect: true,
                ..space.clone()
            },
            space,
            hierarchies,
            ..self
        }
    }
}

/// Compiles an einsum, with every way to hand over its intermediates.
pub(super) fn link(case: &Case, i: usize, options: &Options) -> Result<Link, SpaceError> {
    let e = &case.einsums[i];
    let perfect = options.perfect || e.constraints.perfect;
    let mut space = Space::new(&e.einsum, &e.hierarchy, perfect)?;
    space.constrain(&e.hierarchy, &e.constraints)?;
    let mine = |o: usize| (0..case.einsums.len()).any(|j| j != i && alike(case, (i, o), j));
    for o in 0..space.operands.len() - 1 {
        space.common[o] = mine(o).then_some(e.operands[o]);
    }
    let ways = |o: usize| -> Vec<Start> {
        let tensor = e.operands[o];
        let (mut producers, mut readers) = (Vec::new(), Vec::new());
        // One that reads a tensor twice counts twice.
        for (j, x) in case.einsums.iter().enumerate() {
            for (place, _) in x.operands.iter().enumerate().filter(|x| *x.1 == tensor) {
                if place + 1 == x.operands.len() {
                    producers.push(j);
                } else {
                    readers.push(j);
                }
            }
        }
        match (producers.as_slice(), readers.as_slice()) {
            ([], _) | (_, []) => vec![Start::Anywhere],
            ([p], [r]) if p + 1 == *r && plain(case, *p, *r, tensor) => {
                vec![Start::Outermost, Start::Floating]
            }
            _ => vec![Start::Outermost],
        }
    };
    let mut all = Vec::new();
    let mut starts = vec![Vec::new()];
    for o in 0..space.operands.len() {
        let ways = ways(o);
        let with = |s: &Vec<Start>| {
            let s = s.clone();
            let one = |w: &Start| s.iter().copied().chain([*w]).collect::<Vec<Start>>();
            ways.iter().map(one).collect::<Vec<_>>()
        };
        starts = starts.iter().flat_map(with).collect();
    }
    let inputs = space.operands.len() - 1;
    let mut refused = None;
    for starts in starts {
        let floating = starts[..inputs]
            .iter()
            .filter(|s| **s == Start::Floating)
            .count();
        if floating > 1 {
            continue;
        }
        match placements(&space, &starts) {
            Ok(some) => all.extend(some),
            Err(error) => refused = Some(error),
        }
    }
    match (all.is_empty(), refused) {
        (true, Some(error)) => Err(error),
        (true, None) => Err(SpaceError::Nothing),
        _ => Ok(Link {
            dims: numbers(case, e, &space),
            einsum: e.einsum.clone(),
            hierarchies: vec![e.hierarchy.clone()],
            factors: Space {
                perfect: true,
                ..space.clone()
            },
            space,
            placements: all,
            least: (0.0, 0.0),
        }),
    }
}

/// Numbers of a space's dimensions in the case: dimensions of the same name are the same.
fn numbers(case: &Case, e: &CaseEinsum, space: &Space) -> Vec<usize> {
    let all = case.einsums.iter().flat_map(|x| &x.einsum.dims);
    let names: Vec<&str> = all.map(|d| d.name.as_str()).collect();
    let number = |d: &presil_workloads::DimId| {
        let name = e.einsum.dim(*d).name.as_str();
        names.iter().position(|n| *n == name).unwrap_or(names.len())
    };
    space.dims.iter().map(number).collect()
}

/// Whether tiles of a tensor are told the same way by the einsum that makes it and the one that reads it: every rank
/// is one dimension of the same name and extent.
fn plain(case: &Case, producer: usize, reader: usize, tensor: usize) -> bool {
    let output = case.einsums[producer].operands.len() - 1;
    let read = case.einsums[reader].operands.iter();
    let input = read.take_while(|t| **t != tensor).count();
    let made = ranks(case, producer, output);
    made.is_some() && made == ranks(case, reader, input)
}

/// Whether another einsum reads the tensor of an operand, and its ranks are the same dimensions there.
fn alike(case: &Case, (i, o): (usize, usize), other: usize) -> bool {
    let tensor = case.einsums[i].operands[o];
    let mine = ranks(case, i, o);
    let inputs = case.einsums[other].operands.split_last();
    let mut inputs = inputs.into_iter().flat_map(|x| x.1.iter().enumerate());
    mine.is_some() && inputs.any(|(p, t)| *t == tensor && ranks(case, other, p) == mine)
}

/// Names and extents of the dimensions that are an operand's ranks, if each is one.
fn ranks(case: &Case, i: usize, o: usize) -> Option<Vec<(String, u64)>> {
    let einsum = &case.einsums[i].einsum;
    let name = |r: &presil_workloads::Affine| match r.terms.as_slice() {
        [] => Some((String::new(), 1)),
        [(d, 1)] => Some((einsum.dim(*d).name.clone(), einsum.dim(*d).size)),
        _ => None,
    };
    let access = crate::hierarchy::access_of(einsum, o);
    access.ranks.iter().map(name).collect()
}
