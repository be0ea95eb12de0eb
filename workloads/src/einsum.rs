//! Extended einsums: the form of nearly every op.
//!
//! An einsum has named dimensions with sizes, operands whose ranks are indexed by affine expressions of the
//! dimensions, a map operator that combines the inputs at each point, a reduce operator over every dimension
//! that the output does not have, and a domain: which points of the box of dimensions are executed.
//!
//! ```text
//! conv2d    O[n,g,k,p,q]   = sum_{c,r,s}  I[n,g,c, 2p+r-1, 2q+s-1] * W[g,k,c,r,s]
//! attention S[b,h,i,j]     = sum_{d}      Q[b,h,i,d] * K[b,h,j,d]        over j <= i + offset  (causal)
//! softmax   M[x]           = max_{k} X[x,k];  E[x,k] = exp2(X - M);  Z[x] = sum_k E;  Y = E * (1/Z)
//! ```
//!
//! An index outside its rank's extent is padding: it reads zero and touches no element.

use presil_numerics::{LanePrimitive, define_ids};

define_ids! {
    /// A dimension of an einsum.
    DimId,
}

/// A dimension of an einsum.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dim {
    /// Name. Convolutions use n, g, k, c, p, q, r, s (batch, group, output and input channel, output row and
    /// column, filter row and column; depth: o and t); matmuls b, g, m, n, k (batch, group, row, column,
    /// reduction).
    pub name: String,
    /// Extent, at least 1.
    pub size: u64,
}

/// An affine expression of dimensions: `sum(coefficient x dim) + offset`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Affine {
    /// Terms; each dimension at most once, coefficients not zero.
    pub terms: Vec<(DimId, i64)>,
    /// Constant.
    pub offset: i64,
}

impl Affine {
    /// The expression that is one dimension.
    pub fn dim(d: DimId) -> Self {
        Self {
            terms: vec![(d, 1)],
            offset: 0,
        }
    }
    /// The constant zero.
    pub fn zero() -> Self {
        Self::default()
    }
}

/// Where an operand lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Input `i` of the op.
    Input(u8),
    /// Output `i` of the op.
    Output(u8),
    /// Made by einsum `i` of the same cascade and used by a later one; never leaves the op.
    Local(u8),
}

/// An operand: where it lives and how its ranks are indexed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Access {
    /// The tensor or local.
    pub place: Place,
    /// One expression for each rank. The ranks are a view: their extents are `extents`, which may split or
    /// merge the tensor's own (a [tokens, heads x width] tensor seen as [tokens, heads, width]).
    pub ranks: Vec<Affine>,
    /// Extents of the ranks; indices outside are padding.
    pub extents: Vec<u64>,
}

/// How the inputs combine at each point.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MapOperator {
    /// Product of two inputs, summed: one MAC at each point. Runs on MAC arrays.
    MultiplyAccumulate,
    /// Lane primitives at each point, in order (a reduction adds one [`LanePrimitive::Reduce`] at each point
    /// by itself). Runs on vector units.
    Lanes(Vec<LanePrimitive>),
}

/// How points reduce into an output element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReduceOperator {
    /// Sum.
    Sum,
    /// Maximum.
    Max,
    /// Minimum.
    Min,
    /// Product.
    Product,
}

/// The executed points.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Domain {
    /// All of them.
    #[default]
    Dense,
    /// `key <= query + offset`: causal attention. A prefill of S tokens has offset 0, a decode step has one
    /// query and offset L - 1 (all keys), which is dense.
    Causal {
        /// Query position.
        query: DimId,
        /// Key position.
        key: DimId,
        /// Tokens already in the cache.
        offset: i64,
    },
    /// `query + offset - window < key <= query + offset`: sliding-window attention.
    Banded {
        /// Query position.
        query: DimId,
        /// Key position.
        key: DimId,
        /// Tokens already in the cache.
        offset: i64,
        /// Keys that a query sees at most, itself included.
        window: u64,
    },
    /// Rows spread over groups by data (tokens over experts): `group` x `row` is an upper box, `rows` of its
    /// points are executed, spread as evenly as possible. Operands with `group` but not `row` are the experts'
    /// weights: `distinct` of them are expected to be touched.
    Ragged {
        /// The group (expert).
        group: DimId,
        /// The row within a group.
        row: DimId,
        /// Executed rows over all groups.
        rows: u64,
        /// Expected number of distinct groups touched, at most the extent of `group`.
        distinct: f64,
    },
}

/// An extended einsum.
#[derive(Debug, Clone, PartialEq)]
pub struct Einsum {
    /// Dimensions.
    pub dims: Vec<Dim>,
    /// Inputs, in the order of the map operator. For a convolution or linear: activations, then weights.
    pub inputs: Vec<Access>,
    /// The output. Its terms may also be sums (transposed convolution scatters).
    pub output: Access,
    /// The map operator.
    pub map: MapOperator,
    /// The reduce operator, over every dimension that the output's ranks do not name.
    pub reduce: ReduceOperator,
    /// Executed points.
    pub domain: Domain,
}

impl Einsum {
    /// The dimension of an id.
    pub fn dim(&self, id: DimId) -> &Dim {
        &self.dims[id.0 as usize]
    }

    /// All dimension ids.
    pub fn dim_ids(&self) -> impl Iterator<Item = DimId> + use<> {
        (0..self.dims.len() as u32).map(DimId)
    }

    /// All operands: inputs, then the output.
    pub fn operands(&self) -> impl Iterator<Item = &Access> {
        self.inputs.iter().chain(std::iter::once(&self.output))
    }

    /// Whether an operand's ranks name a dimension.
    pub fn names(access: &Access, dim: DimId) -> bool {
        access
            .ranks
            .iter()
            .any(|r| r.terms.iter().any(|(d, _)| *d == dim))
    }

    /// Whether a dimension is reduced.
    pub fn is_reduced(&self, dim: DimId) -> bool {
        !Self::names(&self.output, dim)
    }

    /// Whether each point is a MAC.
    pub fn is_contraction(&self) -> bool {
        matches!(self.map, MapOperator::MultiplyAccumulate)
    }

    /// Points of the box of dimensions. For a ragged domain: of the rows that are executed. `None` on overflow.
    pub fn points(&self) -> Option<u64> {
        match self.domain {
            Domain::Ragged {
                group, row, rows, ..
            } => self.others(group, row)?.checked_mul(rows),
            _ => self
                .dims
                .iter()
                .try_fold(1u64, |n, d| n.checked_mul(d.size)),
        }
    }

    /// Points of the domain. `None` on overflow.
    pub fn executed_points(&self) -> Option<u64> {
        match self.domain {
            Domain::Dense | Domain::Ragged { .. } => self.points(),
            Domain::Causal { query, key, offset } => self
                .others(query, key)?
                .checked_mul(self.pairs(query, key, offset, u64::MAX)?),
            Domain::Banded {
                query,
                key,
                offset,
                window,
            } => self
                .others(query, key)?
                .checked_mul(self.pairs(query, key, offset, window)?),
        }
    }

    fn others(&self, a: DimId, b: DimId) -> Option<u64> {
        self.dim_ids()
            .filter(|d| *d != a && *d != b)
            .try_fold(1u64, |n, d| n.checked_mul(self.dim(d).size))
    }

    /// Pairs (query, key) with query + offset - window < key <= query + offset.
    fn pairs(&self, query: DimId, key: DimId, offset: i64, window: u64) -> Option<u64> {
        let (queries, keys) = (
            i128::from(self.dim(query).size),
            i128::from(self.dim(key).size),
        );
        let offset = i128::from(offset);
        // Pairs with key <= query + bound: sum over query of clamp(query + bound + 1, 0, keys).
        let below = |bound: i128| -> i128 {
            let first = bound + 1;
            let ramp_start = (-first).clamp(0, queries);
            let ramp_end = (keys - first).clamp(0, queries);
            let ramp = (ramp_end - ramp_start).max(0);
            let ramp_sum = ramp * (first + ramp_start) + ramp * (ramp - 1) / 2;
            ramp_sum + (queries - ramp_end.max(ramp_start)) * keys
        };
        let all = below(offset);
        let cut = if window == u64::MAX {
            0
        } else {
            below(offset - i128::from(window))
        };
        u64::try_from(all - cut).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attention(queries: u64, keys: u64, domain: Domain) -> Einsum {
        let dims = [("i", queries), ("j", keys), ("d", 3)]
            .map(|(name, size)| Dim {
                name: name.into(),
                size,
            })
            .to_vec();
        let access = |place, a: u32, b: u32, x, y| Access {
            place,
            ranks: vec![Affine::dim(DimId(a)), Affine::dim(DimId(b))],
            extents: vec![x, y],
        };
        Einsum {
            inputs: vec![
                access(Place::Input(0), 0, 2, queries, 3),
                access(Place::Input(1), 1, 2, keys, 3),
            ],
            output: access(Place::Output(0), 0, 1, queries, keys),
            dims,
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
            domain,
        }
    }

    #[test]
    fn executed_points_equal_a_walk_over_the_domain() {
        for (queries, keys, offset) in [
            (1, 9, 8),
            (5, 5, 0),
            (4, 9, 5),
            (7, 3, 0),
            (3, 8, 2),
            (6, 4, -3),
        ] {
            let (query, key) = (DimId(0), DimId(1));
            let count = |window: i64| {
                let pairs = (0..queries as i64).flat_map(|i| (0..keys as i64).map(move |j| (i, j)));
                pairs
                    .filter(|(i, j)| *j <= i + offset && *j > i + offset - window)
                    .count() as u64
                    * 3
            };
            let causal = attention(queries, keys, Domain::Causal { query, key, offset });
            assert_eq!(causal.executed_points(), Some(count(1 << 40)));
            for window in [1, 2, 5, 100] {
                let banded = attention(
                    queries,
                    keys,
                    Domain::Banded {
                        query,
                        key,
                        offset,
                        window,
                    },
                );
                assert_eq!(
                    banded.executed_points(),
                    Some(count(window as i64)),
                    "{queries} {keys} {offset} {window}"
                );
            }
        }
    }
}
