//! Keys: when two problems have the same solution.

use presil_hwmodels::{EngineId, NodeId, OperandSet};
use presil_numerics::Format;
use presil_workloads::{Access, DimId, Domain};

use super::{Constraint, Objective};
use crate::problem::{Lies, Problem};

/// A domain as bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum DomainKey {
    Dense,
    Causal(u32, u32, i64),
    Banded(u32, u32, i64, u64),
    Ragged(u32, u32, u64, u64),
}

/// An operand: for each rank its terms, its offset and its extent.
type AccessKey = Vec<(Vec<(u32, i64)>, i64, u64)>;

/// A canonical key of a problem on a given chip, and an objective: problems of equal keys have equal solutions.
/// Names of dimensions count only where an axis of the path selects dimensions by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    sizes: Vec<u64>,
    names: Vec<String>,
    operands: Vec<AccessKey>,
    domain: DomainKey,
    bits: [u64; 3],
    accumulate: Format,
    engine: EngineId,
    path: Vec<NodeId>,
    mode: usize,
    home: [NodeId; 3],
    capacity: Vec<u64>,
    lies: [Option<Lies>; 3],
    objective: Objective,
    asked: Vec<AskedKey>,
    kept: Vec<(NodeId, u8, u8)>,
}

/// A constraint: where, trips, what is forbidden, order, least utilization.
type AskedKey = (NodeId, Option<u8>, Vec<(u32, u64)>, Vec<u32>, Vec<u32>, u64);

impl Key {
    /// The key of a problem whose mappings have to obey constraints, and keep operands at memories or not.
    pub(crate) fn asking(
        self,
        constraints: &[Constraint],
        kept: &[(NodeId, OperandSet, OperandSet)],
    ) -> Self {
        let dims = |list: &[DimId]| list.iter().map(|d| d.0).collect();
        let asked = constraints.iter().map(|c| {
            let trips = c.trips.iter().map(|(d, n)| (d.0, *n)).collect();
            let least = c.min_utilization.to_bits();
            (
                c.level,
                c.axis,
                trips,
                dims(&c.forbidden),
                dims(&c.order),
                least,
            )
        });
        Self {
            asked: asked.collect(),
            kept: kept.iter().map(|(n, a, b)| (*n, a.0, b.0)).collect(),
            ..self
        }
    }

    /// The key of a problem. Solutions are exchangeable between problems on the same chip.
    pub fn of(problem: &Problem, objective: Objective) -> Self {
        let e = problem.einsum;
        let access = |a: &Access| {
            let ranks = a.ranks.iter().zip(&a.extents);
            ranks
                .map(|(r, extent)| {
                    let mut terms: Vec<(u32, i64)> =
                        r.terms.iter().map(|(d, c)| (d.0, *c)).collect();
                    terms.sort_unstable();
                    (terms, r.offset, *extent)
                })
                .collect()
        };
        let domain = match e.domain {
            Domain::Dense => DomainKey::Dense,
            Domain::Causal { query, key, offset } => DomainKey::Causal(query.0, key.0, offset),
            Domain::Banded {
                query,
                key,
                offset,
                window,
            } => DomainKey::Banded(query.0, key.0, offset, window),
            Domain::Ragged {
                group,
                row,
                rows,
                distinct,
            } => DomainKey::Ragged(group.0, row.0, rows, distinct.to_bits()),
        };
        let selected = super::frame::named_dims(problem);
        Self {
            sizes: e.dims.iter().map(|d| d.size).collect(),
            names: e
                .dims
                .iter()
                .map(|d| {
                    if selected.contains(&d.name.as_str()) {
                        d.name.clone()
                    } else {
                        String::new()
                    }
                })
                .collect(),
            operands: e.operands().map(access).collect(),
            domain,
            bits: problem.bits.map(f64::to_bits),
            accumulate: problem.accumulate,
            engine: problem.engine,
            path: problem.path.clone(),
            mode: problem.mode,
            home: problem.home,
            capacity: problem.capacity.iter().map(|b| b.0).collect(),
            lies: problem.lies.clone(),
            objective,
            asked: Vec::new(),
            kept: Vec::new(),
        }
    }
}
