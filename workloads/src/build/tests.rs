#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::count::op_macs;
use crate::einsum::{Domain, MapOperator, Place};
use crate::op::OpKind;

/// The einsums of the only op.
fn cascade(b: &Builder) -> Vec<Einsum> {
    match &b.graph.ops.iter().last().unwrap().kind {
        OpKind::Cascade(einsums) => einsums.clone(),
        other => panic!("{other:?}"),
    }
}

/// Calls `f` with every point of the box of dimensions.
fn walk(e: &Einsum, f: &mut impl FnMut(&[u64])) {
    let sizes: Vec<u64> = e.dims.iter().map(|d| d.size).collect();
    let mut point = vec![0; sizes.len()];
    loop {
        f(&point);
        let Some(axis) = (0..sizes.len()).rev().find(|a| point[*a] + 1 < sizes[*a]) else {
            return;
        };
        point[axis] += 1;
        point[axis + 1..].fill(0);
    }
}

/// Index into the flattened view, or `None` in the padding.
fn place(a: &Access, point: &[u64]) -> Option<usize> {
    let mut flat = 0;
    for (rank, extent) in a.ranks.iter().zip(&a.extents) {
        let at = rank.offset
            + rank
                .terms
                .iter()
                .map(|(d, c)| c * point[d.0 as usize] as i64)
                .sum::<i64>();
        let at = u64::try_from(at).ok().filter(|at| at < extent)?;
        flat = flat * extent + at;
    }
    Some(flat as usize)
}

/// Runs a MAC einsum over integers.
fn multiply(e: &Einsum, a: &[i64], b: &[i64]) -> Vec<i64> {
    let mut out = vec![0; e.output.extents.iter().product::<u64>() as usize];
    walk(e, &mut |p| {
        let at = |i: usize| place(&e.inputs[i], p);
        if let (Some(x), Some(y), Some(o)) = (at(0), at(1), place(&e.output, p)) {
            out[o] += a[x] * b[y];
        }
    });
    out
}

/// Distinct small numbers.
fn numbers(n: u64, seed: i64) -> Vec<i64> {
    (0..n as i64).map(|i| (i * 7 + seed) % 13 - 6).collect()
}

#[derive(Debug, Clone)]
struct ConvCase {
    n: u64,
    per_group: [u64; 2],
    size: [u64; 2],
    conv: Conv,
    extra: [u64; 2],
}

fn conv_case() -> impl Strategy<Value = ConvCase> {
    let pair = |r: std::ops::RangeInclusive<u64>| [r.clone(), r];
    let sizes = (1u64..=2, pair(1..=3), pair(1..=6), 1u64..=3);
    let form = (
        pair(1..=3),
        pair(1..=3),
        prop::array::uniform4(0u64..=2),
        pair(1..=2),
        pair(0..=1),
    );
    (sizes, form).prop_map(
        |((n, per_group, size, groups), (kernel, stride, padding, dilation, extra))| ConvCase {
            n,
            per_group,
            size,
            extra,
            conv: Conv {
                out_channels: per_group[1] * groups,
                kernel,
                stride,
                padding,
                dilation,
                groups,
                bias: false,
            },
        },
    )
}

proptest! {
    /// Against a direct convolution that pads its input.
    #[test]
    fn convolutions_compute_convolutions(case in conv_case()) {
        let ConvCase { n, per_group: [cg, kg], size: [h, w], conv, .. } = &case;
        let (g, [r, s], [sh, sw], [dh, dw]) = (conv.groups, conv.kernel, conv.stride, conv.dilation);
        let [top, left, bottom, right] = conv.padding;
        let mut b = Builder::new("t");
        let x = b.input("x", &[*n, g * cg, *h, *w]);
        let built = b.conv2d("y", x, conv);
        let fits = h + top + bottom > dh * (r - 1) && w + left + right > dw * (s - 1);
        prop_assert_eq!(built.is_ok(), fits);
        let Ok(y) = built else { return Ok(()) };
        let shape = b.shape(y).to_vec();
        prop_assert_eq!(&shape[2..], &[(h + top + bottom - dh * (r - 1) - 1) / sh + 1, (w + left + right - dw * (s - 1) - 1) / sw + 1]);
        let e = &cascade(&b)[0];
        let (input, filter) = (numbers(n * g * cg * h * w, 1), numbers(g * kg * cg * r * s, 5));
        let out = multiply(e, &input, &filter);
        let mut expected = Vec::new();
        for ni in 0..*n {
            for k in 0..g * kg {
                for p in 0..shape[2] {
                    for q in 0..shape[3] {
                        let mut sum = 0;
                        for c in 0..*cg {
                            for ri in 0..r {
                                for si in 0..s {
                                    let (y, x) = (p * sh + ri * dh, q * sw + si * dw);
                                    if y < top || x < left || y - top >= *h || x - left >= *w { continue }
                                    let channel = k / kg * cg + c;
                                    let at = ((ni * g * cg + channel) * h + y - top) * w + x - left;
                                    sum += input[at as usize] * filter[(((k * cg + c) * r + ri) * s + si) as usize];
                                }
                            }
                        }
                        expected.push(sum);
                    }
                }
            }
        }
        prop_assert_eq!(out, expected);
        let g = b.finish();
        // A filter that lies in the padding at every place is refused; all else is well formed.
        if let Ok(g) = g {
            let macs = n * shape[1] * shape[2] * shape[3] * cg * r * s;
            prop_assert_eq!(op_macs(&g, OpId(0)).0, u128::from(macs));
        }
    }

    /// A transposed convolution is the adjoint of the convolution with the same filter:
    /// <conv(x), y> = <x, transposed(y)>.
    #[test]
    fn transposed_convolutions_are_adjoint(case in conv_case()) {
        let ConvCase { n, per_group: [cg, kg], size: [h, w], conv, extra } = &case;
        let (g, [r, s]) = (conv.groups, conv.kernel);
        let mut b = Builder::new("t");
        // The transposed one maps [n, g kg, h, w] to [n, g cg, ..]: the roles of k and c change.
        let y = b.input("y", &[*n, g * kg, *h, *w]);
        let weight = b.weight("w", &[g * kg, *cg, r, s]);
        let transposed = Conv { out_channels: g * cg, ..conv.clone() };
        let Ok(x) = b.conv_transpose2d_with("x", y, weight, None, &transposed, *extra) else { return Ok(()) };
        let shape = b.shape(x).to_vec();
        let scatter = cascade(&b)[0].clone();
        let mut forward = Builder::new("t");
        let input = forward.input("x", &shape);
        prop_assume!(forward.conv2d("y", input, conv).is_ok());
        let gather = cascade(&forward)[0].clone();
        // Output padding may leave room for one more step of the convolution.
        prop_assume!(gather.output.extents == [*n, g, *kg, *h, *w]);
        let (a, c, f) = (
            numbers(shape.iter().product(), 2),
            numbers(n * g * kg * h * w, 3),
            numbers(g * kg * cg * r * s, 4),
        );
        let dot = |a: &[i64], b: &[i64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<i64>();
        prop_assert_eq!(dot(&multiply(&gather, &a, &f), &c), dot(&a, &multiply(&scatter, &c, &f)));
    }

    /// Grouped-query attention reads, for query head u of group g, the keys of head g.
    #[test]
    fn attention_scores_follow_their_heads(
        (batch, kv_heads, per, queries, keys, width) in (1u64..=2, 1u64..=3, 1u64..=2, 1u64..=3, 1u64..=4, 1u64..=3),
    ) {
        let heads = kv_heads * per;
        let a = Attention {
            batch, heads, kv_heads, query_length: queries, key_length: keys,
            key_width: width, value_width: width, mask: Mask::Causal { past: keys.saturating_sub(queries) },
        };
        let mut b = Builder::new("t");
        let q = b.input("q", &[batch, queries, heads * width]);
        let k = b.input("k", &[batch, keys, kv_heads * width]);
        b.attention("a", [q, k, k], &a).unwrap();
        let ops: Vec<_> = b.graph.ops.iter().cloned().collect();
        let (qs, ks) = (numbers(batch * queries * heads * width, 1), numbers(batch * keys * kv_heads * width, 2));
        let scores = multiply(ops[0].contraction().unwrap(), &qs, &ks);
        let values = multiply(ops[2].contraction().unwrap(), &scores, &ks);
        let (mut expected, mut mixed) = (Vec::new(), vec![0; (batch * queries * heads * width) as usize]);
        for n in 0..batch {
            for h in 0..heads {
                for i in 0..queries {
                    for j in 0..keys {
                        let mut sum = 0;
                        let key = |d: u64| ks[(((n * keys + j) * kv_heads + h / per) * width + d) as usize];
                        for d in 0..width {
                            sum += qs[(((n * queries + i) * heads + h) * width + d) as usize] * key(d);
                        }
                        for d in 0..width {
                            mixed[(((n * queries + i) * heads + h) * width + d) as usize] += sum * key(d);
                        }
                        expected.push(sum);
                    }
                }
            }
        }
        prop_assert_eq!(scores, expected);
        prop_assert_eq!(values, mixed);
        // All three ops execute the same pairs: scores and values a width for each, the softmax one.
        let pairs = |e: &Einsum| e.executed_points().unwrap();
        let OpKind::Cascade(softmax) = &ops[1].kind else { panic!("a softmax is a cascade") };
        let of_scores = pairs(ops[0].contraction().unwrap());
        prop_assert_eq!(of_scores, pairs(ops[2].contraction().unwrap()));
        prop_assert_eq!(pairs(&softmax[0]) * width, of_scores);
        prop_assert_eq!(pairs(&softmax[3]), batch * heads * queries);
        prop_assert!(b.finish().is_ok());
    }

    /// Each window of a pooling touches exactly the elements that a walk over it finds, and the windows are those
    /// of torch: with `ceil` the last may hang over, but must start within the input or the near padding.
    #[test]
    fn poolings_have_the_windows_of_frameworks(
        (size, kernel, stride, padding, ceil) in (1u64..=9, 1u64..=4, 1u64..=4, 0u64..=2, any::<bool>()),
    ) {
        prop_assume!(padding * 2 <= kernel && size + 2 * padding >= kernel);
        let mut b = Builder::new("t");
        let x = b.input("x", &[1, 2, size, 5]);
        let y = b.pool2d("y", x, PoolKind::Average, [kernel, 1], [stride, 1], [padding, 0, padding, 0], ceil).unwrap();
        let mut windows = 0;
        loop {
            let (start, room) = (windows * stride, size + 2 * padding);
            let fits = if ceil { start < size + padding && (start + kernel <= room || start + kernel < room + stride) } else { start + kernel <= room };
            if !fits { break }
            windows += 1;
        }
        prop_assert_eq!(b.shape(y), &[1, 2, windows, 5]);
        prop_assert!(b.finish().is_ok());
    }

    /// Broadcasting reads each input where frameworks do.
    #[test]
    fn elementwise_broadcasts(shape in prop::collection::vec(1u64..=3, 1..=4), keep in prop::collection::vec(any::<bool>(), 4), drop in 0usize..=3) {
        let mut b = Builder::new("t");
        let small: Vec<u64> = shape.iter().zip(&keep).map(|(d, k)| if *k { *d } else { 1 }).skip(drop.min(shape.len() - 1)).collect();
        let x = b.input("x", &shape);
        let y = b.input("y", &small);
        for (first, second) in [(x, y), (y, x)] {
            let out = b.add(&format!("o{}", first.0), first, second).unwrap();
            prop_assert_eq!(b.shape(out), shape.as_slice());
        }
        let e = &cascade(&b)[0];
        walk(e, &mut |p| {
            let mut flat = 0;
            for (d, at) in small.iter().zip(&p[shape.len() - small.len()..]) {
                flat = flat * d + if *d == 1 { 0 } else { *at };
            }
            assert_eq!(place(&e.inputs[0], p), Some(flat as usize));
        });
        prop_assert!(b.finish().is_ok());
    }

    /// Adaptive pooling covers the input to its last element, and is exact where the output divides it.
    #[test]
    fn adaptive_pooling_covers_its_input(size in 1u64..40, out in 1u64..12) {
        let mut b = Builder::new("t");
        let x = b.input("x", &[1, 1, size, size]);
        let built = b.adaptive_average_pool2d("y", x, [out, out]);
        prop_assert_eq!(built.is_ok(), size >= out);
        let Ok(y) = built else { return Ok(()) };
        prop_assert_eq!(b.shape(y), &[1, 1, out, out]);
        let e = &cascade(&b)[0];
        let mut touched = vec![0; (size * size) as usize];
        walk(e, &mut |p| if let Some(at) = place(&e.inputs[0], p) { touched[at] += 1 });
        prop_assert!(touched.iter().all(|t| *t > 0));
        if size % out == 0 {
            prop_assert!(touched.iter().all(|t| *t == 1));
        }
    }
}

#[test]
fn a_linear_is_x_times_its_weights_transposed() {
    let mut b = Builder::new("t");
    let x = b.input("x", &[2, 3, 4]);
    let y = b.linear("y", x, 5, true).unwrap();
    assert_eq!(b.shape(y), [2, 3, 5]);
    let (a, w) = (numbers(24, 1), numbers(20, 2));
    let out = multiply(&cascade(&b)[0], &a, &w);
    for row in 0..6 {
        for n in 0..5 {
            let sum: i64 = (0..4).map(|k| a[row * 4 + k] * w[n * 4 + k]).sum();
            assert_eq!(out[row * 5 + n], sum);
        }
    }
}

#[test]
fn a_batched_matmul_may_share_its_second_operand() {
    for (batch, transposed) in [(3, true), (3, false), (1, true), (1, false)] {
        let mut b = Builder::new("t");
        let x = b.input("x", &[3, 2, 4]);
        let y = b.input(
            "y",
            &if transposed {
                [batch, 5, 4]
            } else {
                [batch, 4, 5]
            },
        );
        b.matmul("o", OpClass::Matmul, x, y, transposed).unwrap();
        let (xs, ys) = (numbers(24, 1), numbers(batch * 20, 2));
        let out = multiply(&cascade(&b)[0], &xs, &ys);
        for (i, value) in out.iter().enumerate() {
            let (n, m, p) = (i % 5, i / 5 % 2, i / 10);
            let offset = if batch == 1 { 0 } else { p * 20 };
            let at = |k: usize| offset + if transposed { n * 4 + k } else { k * 5 + n };
            assert_eq!(
                *value,
                (0..4)
                    .map(|k| xs[(p * 2 + m) * 4 + k] * ys[at(k)])
                    .sum::<i64>()
            );
        }
        b.finish().unwrap();
    }
}

#[test]
fn experts_execute_their_rows_only() {
    for (rows, distinct) in [(7, 2.6), (8, 4.0), (1, 1.0), (100, 3.2)] {
        let mut b = Builder::new("t");
        let x = b.input("x", &[rows, 4]);
        let w = b.weight("w", &[4, 5, 4]);
        let experts = Experts {
            experts: 4,
            rows,
            distinct,
            in_features: 4,
            out_features: 5,
        };
        b.experts_with("y", x, w, &experts).unwrap();
        let g = b.finish().unwrap();
        assert_eq!(
            op_macs(&g, OpId(0)),
            (u128::from(rows) * 20, u128::from(rows) * 20),
            "{rows} {distinct}"
        );
    }
}

#[test]
fn norms_and_softmax_pass_over_each_element_a_known_number_of_times() {
    let passes = |b: &Builder| {
        cascade(b)
            .iter()
            .map(|e| e.points().unwrap())
            .collect::<Vec<_>>()
    };
    let mut b = Builder::new("t");
    let x = b.input("x", &[2, 3, 4]);
    b.softmax("s", x, 1).unwrap();
    assert_eq!(passes(&b), [24, 24, 24, 8, 24]);
    b.norm("l", x, NormKind::Layer, true, true).unwrap();
    assert_eq!(passes(&b), [24, 6, 24, 6, 24]);
    b.norm("r", x, NormKind::Rms, true, false).unwrap();
    assert_eq!(passes(&b), [24, 6, 24]);
    // Rows of a group norm: batch x groups.
    let image = b.input("i", &[2, 6, 2, 2]);
    let y = b.group_norm("g", image, 3).unwrap();
    assert_eq!(passes(&b), [48, 6, 48, 6, 48]);
    assert_eq!(
        (b.shape(y), b.shape(image)),
        (&[2, 6, 2, 2][..], &[2, 6, 2, 2][..])
    );
    b.batch_norm("b", image).unwrap();
    let flat = b.input("f", &[2, 6]);
    let y = b.batch_norm("bf", flat).unwrap();
    assert_eq!(b.shape(y), [2, 6]);
    b.finish().unwrap();
}

#[test]
fn moves_have_the_shapes_of_frameworks() {
    let mut b = Builder::new("t");
    let x = b.input("x", &[2, 3, 4, 5]);
    let y = b.input("y", &[2, 1, 4, 5]);
    let shape = |b: &Builder, t: Result<TensorId, GraphError>| b.shape(t.unwrap()).to_vec();
    let t = b.concat("cat", &[x, y, x], 1);
    assert_eq!(shape(&b, t), [2, 7, 4, 5]);
    let t = b.transpose("t", x, &[0, 2, 3, 1]);
    assert_eq!(shape(&b, t), [2, 4, 5, 3]);
    let t = b.upsample_nearest("u", x, [2, 3]);
    assert_eq!(shape(&b, t), [2, 3, 8, 15]);
    let t = b.reshape("r", x, &[6, 20]);
    assert_eq!(shape(&b, t), [6, 20]);
    assert!(
        b.concat("c1", &[x, y], 2).is_err()
            && b.concat("c2", &[], 0).is_err()
            && b.concat("c3", &[x], 4).is_err()
    );
    assert!(b.transpose("t1", x, &[0, 0, 1, 2]).is_err() && b.transpose("t2", x, &[0, 1]).is_err());
    assert!(b.transpose("t3", x, &[0, 1, 2, 9]).is_err() && b.reshape("r1", x, &[121]).is_err());
    b.finish().unwrap();
}

/// A well-formed op to break in one place at a time.
fn broken(change: impl FnOnce(&mut Einsum)) -> Result<Graph, GraphError> {
    let mut b = Builder::new("t");
    let x = b.input("x", &[4, 3]);
    b.linear("y", x, 2, false).unwrap();
    let op = b.last_op().unwrap();
    let OpKind::Cascade(einsums) = &mut op.kind else {
        panic!("a linear is a cascade")
    };
    change(&mut einsums[0]);
    b.finish()
}

#[test]
fn broken_cascades_are_refused() {
    assert!(broken(|_| {}).is_ok());
    type Change = fn(&mut Einsum);
    let refused: [(&str, Change); 12] = [
        ("size 0", |e| e.dims[0].size = 0),
        ("needs two inputs", |e| e.inputs.truncate(1)),
        ("dimension that does not exist", |e| {
            e.inputs[0].ranks[0] = Affine::dim(DimId(9))
        }),
        ("operand that the op does not have", |e| {
            e.inputs[0].place = Place::Input(7)
        }),
        ("before it is made", |e| e.inputs[0].place = Place::Local(0)),
        ("makes the output", |e| e.output.place = Place::Local(0)),
        ("larger than tensor", |e| e.inputs[0].extents[0] = 5),
        ("one extent for each rank", |e| {
            e.inputs[0].extents = vec![12]
        }),
        ("outside its rank", |e| e.inputs[0].ranks[0].offset = 4),
        ("twice", |e| e.inputs[0].ranks[0].terms.push((DimId(0), 1))),
        ("one dimension twice", |e| {
            e.domain = Domain::Causal {
                query: DimId(0),
                key: DimId(0),
                offset: 0,
            }
        }),
        ("do not fit", |e| {
            e.domain = Domain::Ragged {
                group: DimId(0),
                row: DimId(1),
                rows: 9,
                distinct: 1.0,
            }
        }),
    ];
    for (expected, change) in refused {
        let message = broken(change).unwrap_err().to_string();
        assert!(message.contains(expected), "{expected}: {message}");
    }
    let lanes = |e: &mut Einsum| {
        e.map = MapOperator::Lanes(Vec::new());
        e.dims.iter_mut().for_each(|d| d.size = 1 << 40);
    };
    assert!(matches!(broken(lanes), Err(GraphError::Overflow(_))));
}
