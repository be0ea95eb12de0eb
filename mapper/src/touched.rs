//! How many elements of an operand an einsum touches.

use presil_workloads::{Access, Affine, Domain, Einsum};

/// Elements of an operand that the executed points touch, in bounds: the product over ranks of the distinct
/// values of the rank's expression, at most the points; of the experts of a ragged domain the expected distinct
/// ones. Exact where ranks share no dimension and the domain is dense.
pub fn touched(einsum: &Einsum, access: &Access) -> u64 {
    let ranks = access
        .ranks
        .iter()
        .zip(&access.extents)
        .map(|(r, &extent)| distinct(einsum, r, extent));
    let mut all = ranks.fold(1u64, u64::saturating_mul);
    if let Domain::Ragged {
        group,
        row,
        distinct: expected,
        ..
    } = einsum.domain
        && Einsum::names(access, group)
        && !Einsum::names(access, row)
    {
        all = (all as f64 * (expected / einsum.dim(group).size as f64).min(1.0)) as u64;
    }
    all.min(einsum.executed_points().unwrap_or(u64::MAX))
}

/// Distinct values within 0..extent of an affine expression.
fn distinct(einsum: &Einsum, rank: &Affine, extent: u64) -> u64 {
    let inside = |v: i128| (0..i128::from(extent)).contains(&v);
    match rank.terms.as_slice() {
        [] => u64::from(inside(i128::from(rank.offset))),
        [(d, c)] => {
            let (size, c, offset) = (
                i128::from(einsum.dim(*d).size),
                i128::from(*c),
                i128::from(rank.offset),
            );
            // Indices x in 0..size with 0 <= c x + offset < extent; a negative coefficient mirrors x.
            let (c, offset) = if c < 0 {
                (-c, offset + c * (size - 1))
            } else {
                (c, offset)
            };
            let first =
                (-offset).max(0).div_euclid(c) + i128::from((-offset).max(0).rem_euclid(c) != 0);
            let end = (i128::from(extent) - offset + c - 1)
                .div_euclid(c)
                .clamp(0, size);
            u64::try_from((end - first).max(0)).unwrap_or(u64::MAX)
        }
        terms => {
            let combinations = terms
                .iter()
                .fold(1u64, |n, (d, _)| n.saturating_mul(einsum.dim(*d).size));
            // Walking is cheap for windows; larger expressions are dense in practice.
            const WALK: u64 = 1 << 20;
            if combinations > WALK || extent > WALK {
                return extent.min(combinations);
            }
            let mut seen = vec![false; extent as usize];
            let mut values = vec![i128::from(rank.offset)];
            for (d, c) in terms {
                let steps = einsum.dim(*d).size;
                values = values
                    .iter()
                    .flat_map(|v| (0..steps).map(move |x| v + i128::from(*c) * i128::from(x)))
                    .collect();
                values.sort_unstable();
                values.dedup();
            }
            for v in values {
                if let Some(slot) = usize::try_from(v).ok().and_then(|v| seen.get_mut(v)) {
                    *slot = true;
                }
            }
            seen.iter().filter(|s| **s).count() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use presil_numerics::LanePrimitive;
    use presil_workloads::einsum::Place;
    use presil_workloads::{Dim, DimId, MapOperator, ReduceOperator};
    use proptest::prelude::*;

    use super::*;

    /// Elements in bounds that a walk over all points of the domain meets.
    fn walked(e: &Einsum, a: &Access) -> u64 {
        let mut seen = std::collections::BTreeSet::new();
        let points: u64 = e.dims.iter().map(|d| d.size).product();
        for p in 0..points {
            let mut rest = p;
            let at: Vec<i64> = e
                .dims
                .iter()
                .map(|d| {
                    let x = rest % d.size;
                    rest /= d.size;
                    x as i64
                })
                .collect();
            if let Domain::Causal { query, key, offset } = e.domain
                && at[key.0 as usize] > at[query.0 as usize] + offset
            {
                continue;
            }
            let index: Vec<i64> = a
                .ranks
                .iter()
                .map(|r| {
                    r.offset
                        + r.terms
                            .iter()
                            .map(|(d, c)| c * at[d.0 as usize])
                            .sum::<i64>()
                })
                .collect();
            if index
                .iter()
                .zip(&a.extents)
                .all(|(i, e)| (0..*e as i64).contains(i))
            {
                seen.insert(index);
            }
        }
        seen.len() as u64
    }

    fn einsum(sizes: &[u64], ranks: Vec<Affine>, extents: Vec<u64>) -> Einsum {
        let dims: Vec<Dim> = sizes
            .iter()
            .enumerate()
            .map(|(i, s)| Dim {
                name: format!("d{i}"),
                size: *s,
            })
            .collect();
        let access = Access {
            place: Place::Input(0),
            ranks,
            extents,
        };
        let output = Access {
            place: Place::Output(0),
            ranks: vec![Affine::dim(DimId(0))],
            extents: vec![sizes[0]],
        };
        let map = MapOperator::Lanes(vec![LanePrimitive::Add]);
        Einsum {
            dims,
            inputs: vec![access],
            output,
            map,
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
        }
    }

    proptest! {
        #[test]
        fn touched_elements_are_those_of_a_walk(
            sizes in prop::array::uniform4(1u64..7),
            window in prop::array::uniform4(-3i64..4),
            single in prop::array::uniform2(-3i64..4),
            extents in prop::array::uniform2(1u64..20),
        ) {
            let [c0, c1, offset, other] = window;
            let term = |d: u32, c: i64| (c != 0).then_some((DimId(d), c));
            let ranks = vec![
                Affine { terms: [term(0, c0), term(1, c1)].into_iter().flatten().collect(), offset },
                Affine { terms: [term(2, single[0])].into_iter().flatten().collect(), offset: single[1] + other },
            ];
            let e = einsum(&sizes, ranks, extents.to_vec());
            prop_assert_eq!(touched(&e, &e.inputs[0]), walked(&e, &e.inputs[0]));
        }
    }

    #[test]
    fn masks_limit_what_is_touched() {
        let ranks = vec![Affine::dim(DimId(0)), Affine::dim(DimId(1))];
        let mut e = einsum(&[5, 9], ranks, vec![5, 9]);
        e.domain = Domain::Causal {
            query: DimId(0),
            key: DimId(1),
            offset: 2,
        };
        assert_eq!(touched(&e, &e.inputs[0]), walked(&e, &e.inputs[0]));
        assert_eq!(touched(&e, &e.inputs[0]), e.executed_points().unwrap());
    }
}
