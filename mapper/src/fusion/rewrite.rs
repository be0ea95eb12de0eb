//! Rewrites of reductions that let a fused group loop over what a softmax reduces.
//!
//! # Online softmax
//!
//! `O = softmax(S) V` reduces over keys twice before a single output is known: the maximum, then the sum. With the keys
//! cut into tiles `j = 1..J`, each row keeps its running maximum `m`, sum `l` and output `O` (Milakov and Gimelshein,
//! arXiv 1805.02867; Dao et al., FlashAttention, arXiv 2205.14135):
//!
//! ```text
//! m_j = max(m_{j-1}, max_k S_jk)           a_j = exp(m_{j-1} - m_j)
//! P_jk = exp(S_jk - m_j)                   l_j = a_j l_{j-1} + sum_k P_jk
//! O_j = a_j O_{j-1} + P_j V_j              O = O_J / l_J
//! ```
//!
//! By induction `l_j = sum over keys so far of exp(S - m_j)` and `O_j = sum of exp(S - m_j) V`: multiplying the sums
//! so far by `a_j = exp(m_{j-1} - m_j)` moves them from the old maximum to the new one, since `exp(S - m_{j-1}) a_j =
//! exp(S - m_j)`. After the last tile both are relative to the maximum of the row, so their quotient is the softmax.
//! What it costs beyond the plain form, for each tile of keys: a maximum, a difference, an exponential and a multiply-add
//! a row, and a multiply-add for each element of the output with its accumulator read and written; at the end a reciprocal a row
//! and a multiplication an element, in place of the plain form's multiplication a score.
//!
//! Elementwise ops between scores and softmax (soft caps, masks, biases) see one score at a time and need no rewrite. An
//! elementwise function in place of the softmax (sigmoid attention) has no state at all: the output is a plain sum.

use presil_numerics::LanePrimitive as L;
use presil_workloads::einsum::Place;
use presil_workloads::{
    Access, Affine, DimId, Domain, Einsum, MapOperator, Op, OpKind, ReduceOperator,
};

/// A softmax as the rewrite needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Softmax {
    /// The dimension of the keys, in its first einsum.
    pub(crate) keys: DimId,
}

/// Whether an op is a softmax of one input (further ones only adjust its sum): a maximum, an exponential, a sum, a
/// reciprocal and a product.
pub(crate) fn softmax(op: &Op) -> Option<Softmax> {
    let OpKind::Cascade(list) = &op.kind else {
        return None;
    };
    let [max, exp, sum, inverse, scale] = list.as_slice() else {
        return None;
    };
    let lanes =
        |e: &Einsum, last: L| matches!(&e.map, MapOperator::Lanes(p) if p.last() == Some(&last));
    let reduces = |e: &Einsum, by: ReduceOperator| {
        e.reduce == by && matches!(&e.map, MapOperator::Lanes(p) if p.is_empty())
    };
    let mut reduced = max.dim_ids().filter(|d| max.is_reduced(*d));
    let (keys, one) = (reduced.next()?, reduced.next().is_none());
    let fits = one
        && reduces(max, ReduceOperator::Max)
        && lanes(exp, L::Exp2)
        && reduces(sum, ReduceOperator::Sum)
        && lanes(inverse, L::Reciprocal)
        && lanes(scale, L::Mul)
        && scale.output.place == Place::Output(0);
    fits.then_some(Softmax { keys })
}

/// The part of a softmax that each tile of keys runs: maximum, exponentials (which go out), sum.
pub(crate) fn partial(list: &[Einsum]) -> Vec<Einsum> {
    let mut list: Vec<Einsum> = list.iter().take(3).cloned().collect();
    let made = list.get(1).map(|e| e.output.place);
    for e in &mut list {
        for access in e.inputs.iter_mut().chain(std::iter::once(&mut e.output)) {
            if Some(access.place) == made {
                access.place = Place::Output(0);
            }
        }
    }
    // The sum reads what has just been made, which has not left the unit's memory.
    if let Some(sum) = list.get_mut(2) {
        for access in &mut sum.inputs {
            access.place = Place::Local(1);
        }
    }
    list
}

fn row(place: Place, rows: u64) -> Access {
    Access {
        place,
        ranks: vec![Affine::dim(DimId(0))],
        extents: vec![rows],
    }
}

fn lanes(sizes: &[u64], inputs: Vec<Access>, output: Access, program: &[L]) -> Einsum {
    let names = ["x", "k"];
    let dims = sizes
        .iter()
        .zip(names)
        .map(|(size, name)| presil_workloads::Dim {
            name: name.into(),
            size: *size,
        });
    Einsum {
        dims: dims.collect(),
        inputs,
        output,
        map: MapOperator::Lanes(program.to_vec()),
        reduce: ReduceOperator::Sum,
        domain: Domain::Dense,
    }
}

/// The state of `rows` rows moved to a new maximum: inputs 0 and 1 are `m` and `l`, outputs the same.
pub(crate) fn state(rows: u64) -> Vec<Einsum> {
    let r = |p| row(p, rows);
    vec![
        lanes(
            &[rows],
            vec![r(Place::Input(0)), r(Place::Local(0))],
            r(Place::Output(0)),
            &[L::Max],
        ),
        lanes(
            &[rows],
            vec![r(Place::Input(0)), r(Place::Local(0))],
            r(Place::Local(1)),
            &[L::Add, L::Exp2],
        ),
        lanes(
            &[rows],
            vec![r(Place::Input(1)), r(Place::Local(1)), r(Place::Local(2))],
            r(Place::Output(1)),
            &[L::Fma],
        ),
    ]
}

fn full(place: Place, rows: u64, width: u64) -> Access {
    Access {
        place,
        ranks: vec![Affine::dim(DimId(0)), Affine::dim(DimId(1))],
        extents: vec![rows, width],
    }
}

/// `O = a O + N` over rows of `width`: inputs 0 `O`, 1 `N`, 2 `a`.
pub(crate) fn rescale(rows: u64, width: u64) -> Vec<Einsum> {
    let f = |p| full(p, rows, width);
    let inputs = vec![
        f(Place::Input(0)),
        f(Place::Input(1)),
        row(Place::Input(2), rows),
    ];
    vec![lanes(
        &[rows, width],
        inputs,
        f(Place::Output(0)),
        &[L::Fma],
    )]
}

/// `O / l`: inputs 0 `O`, 1 `l`.
pub(crate) fn finish(rows: u64, width: u64) -> Vec<Einsum> {
    let f = |p| full(p, rows, width);
    vec![
        lanes(
            &[rows],
            vec![row(Place::Input(1), rows)],
            row(Place::Local(0), rows),
            &[L::Reciprocal],
        ),
        lanes(
            &[rows, width],
            vec![f(Place::Input(0)), row(Place::Local(0), rows)],
            f(Place::Output(0)),
            &[L::Mul],
        ),
    ]
}

#[cfg(test)]
mod tests {
    /// A fixed sequence of numbers in -1..1.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> f64 {
            self.0 = self
                .0
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        }
    }

    type Row = Vec<f64>;

    fn plain(scores: &[f64], values: &[Row], cap: Option<f64>) -> Row {
        let s: Row = scores
            .iter()
            .map(|x| cap.map_or(*x, |c| c * (x / c).tanh()))
            .collect();
        let m = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let p: Row = s.iter().map(|x| (x - m).exp()).collect();
        let l: f64 = p.iter().sum();
        let width = values[0].len();
        (0..width)
            .map(|d| p.iter().zip(values).map(|(p, v)| p * v[d]).sum::<f64>() / l)
            .collect()
    }

    /// The equations of the module, tile by tile.
    fn online(scores: &[f64], values: &[Row], cap: Option<f64>, tile: usize) -> Row {
        let width = values[0].len();
        let (mut m, mut l, mut out) = (f64::NEG_INFINITY, 0.0, vec![0.0; width]);
        for (s, v) in scores.chunks(tile).zip(values.chunks(tile)) {
            let s: Row = s
                .iter()
                .map(|x| cap.map_or(*x, |c| c * (x / c).tanh()))
                .collect();
            let new = s.iter().copied().fold(m, f64::max);
            let a = (m - new).exp();
            let p: Row = s.iter().map(|x| (x - new).exp()).collect();
            l = a * l + p.iter().sum::<f64>();
            for (d, o) in out.iter_mut().enumerate() {
                *o = a * *o + p.iter().zip(v).map(|(p, v)| p * v[d]).sum::<f64>();
            }
            m = new;
        }
        out.iter().map(|o| o / l).collect()
    }

    #[test]
    fn tile_by_tile_is_the_softmax() {
        let mut numbers = Numbers(7);
        for keys in [1, 5, 64, 129] {
            // Large scores: without the running maximum the exponentials overflow.
            let scores: Row = (0..keys).map(|_| 800.0 * numbers.next()).collect();
            let values: Vec<Row> = (0..keys)
                .map(|_| (0..3).map(|_| numbers.next()).collect())
                .collect();
            for cap in [None, Some(30.0)] {
                let expected = plain(&scores, &values, cap);
                for tile in [1, 2, 7, 64, 200] {
                    let got = online(&scores, &values, cap, tile);
                    for (e, g) in expected.iter().zip(&got) {
                        assert!(
                            (e - g).abs() <= 1e-12,
                            "{keys} keys in tiles of {tile}: {g} against {e}"
                        );
                    }
                }
            }
        }
    }
}
