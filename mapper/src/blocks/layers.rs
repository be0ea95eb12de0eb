//! Which layers an op is on a block engine.
//!
//! - a convolution is one layer, of several groups one for each group; batches follow one another;
//! - a product with weights is a linear layer of its rows, seen as a map as square as they allow; a product of two
//!   activations runs column by column, an elementwise product and a sum of channels for each, behind a transposition
//!   of the second operand;
//! - a mean is a depthwise convolution by ones and a scaling; a pooling is one layer;
//! - a softmax over integers is a maximum, a look-up of exponentials, a rounding, a sum, 21 small steps that find the
//!   reciprocal of each sum by Newton's method, and three steps that scale and round, one of them with a constant of
//!   the result's size: the program of Vela (5.2.0);
//! - a function of one element is a look-up, or a clamping; other programs are a layer for each primitive.

use presil_hwmodels::OutputKind;
use presil_numerics::LanePrimitive as L;
use presil_workloads::einsum::Place;
use presil_workloads::{
    Access, DimId, Einsum, Graph, MapOperator, Op, OpClass, OpKind, ReduceOperator, Role,
};

use super::{Kind, Layer, volume};

/// Steps of a softmax that work on one element a row.
const RECIPROCAL_STEPS: u64 = 21;
/// Rows of a softmax that these steps see as channels of a pixel.
const ROW_CHANNELS: u64 = 16;

/// The layers of an op; `None` where a block engine cannot run it.
pub(crate) fn layers(graph: &Graph, op: &Op) -> Option<Vec<Layer>> {
    let OpKind::Cascade(einsums) = &op.kind else {
        return None;
    };
    let format = |t: Option<&presil_workloads::TensorId>| {
        t.map_or(8, |t| graph.tensors[*t].quantization.format.bits())
    };
    let bits = [format(op.inputs.first()), format(op.outputs.first())];
    let mut list = match einsums.as_slice() {
        [e] if e.is_contraction() => contraction(graph, op, e)?,
        _ if op.class == OpClass::Softmax => softmax(einsums)?,
        _ => vector(graph, op, einsums),
    };
    for layer in &mut list {
        for (own, (graph, end)) in layer.bits.iter_mut().zip(bits.into_iter().zip(layer.ends)) {
            if end {
                *own = graph;
            }
        }
    }
    Some(list)
}

fn size(e: &Einsum, name: &str) -> Option<u64> {
    e.dims.iter().find(|d| d.name == name).map(|d| d.size)
}

fn dim(e: &Einsum, name: &str) -> Option<DimId> {
    e.dim_ids().find(|d| e.dim(*d).name == name)
}

/// Coefficient of a dimension in an access, and the extent of the rank that it moves along.
fn along(access: &Access, d: DimId) -> (u64, u64) {
    let rank = access
        .ranks
        .iter()
        .zip(&access.extents)
        .find_map(|(r, extent)| {
            let term = r.terms.iter().find(|t| t.0 == d)?;
            Some((term.1.unsigned_abs(), *extent))
        });
    rank.unwrap_or((1, 1))
}

fn contraction(graph: &Graph, op: &Op, e: &Einsum) -> Option<Vec<Layer>> {
    let windowed = ["p", "q", "r", "s"].map(|n| size(e, n));
    if let [Some(p), Some(q), Some(r), Some(s)] = windowed {
        return Some(vec![convolution(op, e, [p, q], [r, s])]);
    }
    let [input, weight] = e.inputs.as_slice() else {
        return None;
    };
    let product = |of: &dyn Fn(DimId) -> bool| {
        let sizes = e.dim_ids().filter(|d| of(*d)).map(|d| e.dim(d).size);
        sizes.fold(1u64, u64::saturating_mul)
    };
    let has = |a: &Access, d: DimId| Einsum::names(a, d);
    let groups = product(&|d| has(input, d) && has(weight, d) && has(&e.output, d));
    let rows = product(&|d| has(input, d) && !has(weight, d) && has(&e.output, d));
    let columns = product(&|d| !has(input, d) && has(weight, d) && has(&e.output, d));
    let depth = product(&|d| !has(&e.output, d));
    let stored = match weight.place {
        Place::Input(i) => op
            .inputs
            .get(usize::from(i))
            .is_some_and(|t| matches!(graph.tensors[*t].role, Role::Weight | Role::Constant)),
        _ => false,
    };
    if stored {
        let [h, w] = sides(rows);
        let layer = Layer::plain(
            Kind::Linear,
            [h, w, columns],
            [h, w, depth],
            OutputKind::Sum,
        );
        return Some(vec![Layer {
            repeat: groups,
            ..layer
        }]);
    }
    // All groups at once, one column after the other; the products do not leave the engine as 32-bit values.
    let [h, w] = if groups > 1 {
        [groups, rows]
    } else {
        sides(rows)
    };
    let (full, each) = ([h, w, depth], [h, w, 1]);
    let products = Layer {
        operands: 2,
        ends: [true, false],
        repeat: columns,
        ..Layer::plain(Kind::Elementwise, full, full, OutputKind::WideMultiply)
    };
    let sums = Layer {
        ends: [false, true],
        repeat: columns,
        ..Layer::plain(Kind::Sum, each, full, OutputKind::Sum)
    };
    let turned = [groups, columns, depth];
    let turning = Layer::plain(Kind::Pool, turned, turned, OutputKind::Sum);
    Some(vec![turning, products, sums])
}

/// Rows of a matrix as the rows and columns of a map that is as square as they allow.
fn sides(rows: u64) -> [u64; 2] {
    let height = (1..=rows.isqrt()).rev().find(|h| rows.is_multiple_of(*h));
    let height = height.unwrap_or(1);
    [height, rows / height]
}

fn convolution(op: &Op, e: &Einsum, [p, q]: [u64; 2], [r, s]: [u64; 2]) -> Layer {
    let get = |name: &str| size(e, name).unwrap_or(1);
    let (n, g, k, c) = (get("n"), get("g"), get("k"), get("c"));
    let transposed = op.class == OpClass::ConvTranspose;
    let window = if transposed { &e.output } else { &e.inputs[0] };
    let axis = |out: &str, tap: &str| {
        let (stride, extent) = dim(e, out).map_or((1, 1), |d| along(window, d));
        let (dilation, _) = dim(e, tap).map_or((1, 1), |d| along(window, d));
        (stride, extent, dilation)
    };
    let (row, column) = (axis("p", "r"), axis("q", "s"));
    let span = |taps: u64, dilation: u64| (taps - 1).saturating_mul(dilation).saturating_add(1);
    let depthwise = g > 1 && c == 1 && !transposed;
    let (kind, channels, filters, groups) = if depthwise {
        (Kind::Depthwise, g, g.saturating_mul(k), 1)
    } else {
        (Kind::Convolution, c, k, g)
    };
    let (out, input, stride) = if transposed {
        ([row.1, column.1], [p, q], [1, 1])
    } else {
        ([p, q], [row.1, column.1], [row.0, column.0])
    };
    Layer {
        taps: [r, s],
        span: [span(r, row.2), span(s, column.2)],
        stride,
        repeat: n.saturating_mul(groups),
        ..Layer::plain(
            kind,
            [out[0], out[1], filters],
            [input[0], input[1], channels],
            OutputKind::Sum,
        )
    }
}

/// A softmax over `k` of the einsum that reads the input.
fn softmax(einsums: &[Einsum]) -> Option<Vec<Layer>> {
    let first = einsums.first()?;
    let k = size(first, "k")?;
    let all = first.points()?;
    let rows = all / k.max(1);
    let wide = |kind: Kind, out: [u64; 3], input: [u64; 3], output: OutputKind| Layer {
        bits: [32; 2],
        ends: [false; 2],
        ..Layer::plain(kind, out, input, output)
    };
    let [h, w] = sides(rows);
    let (full, each) = ([h, w, k], [h, w, 1]);
    // Steps on one element a row see rows as channels.
    let line = [1, rows.div_ceil(ROW_CHANNELS), rows.min(ROW_CHANNELS)];
    let maximum = Layer {
        taps: [1, k],
        span: [1, k],
        ends: [true, false],
        ..Layer::plain(Kind::Pool, [rows, 1, 1], [rows, k, 1], OutputKind::Maximum)
    };
    let exponentials = Layer {
        scalar: true,
        operands: 1,
        bits: [8, 32],
        ends: [true, false],
        ..Layer::plain(Kind::Elementwise, full, full, OutputKind::Lookup)
    };
    let scaled = |end: bool| Layer {
        scalar: true,
        ends: [false, end],
        ..wide(Kind::Elementwise, full, full, OutputKind::WideUnary)
    };
    let reciprocal = Layer {
        repeat: RECIPROCAL_STEPS,
        ..wide(Kind::Elementwise, line, line, OutputKind::WideUnary)
    };
    Some(vec![
        maximum,
        exponentials,
        scaled(false),
        wide(Kind::Sum, each, full, OutputKind::Sum),
        reciprocal,
        scaled(false),
        Layer {
            constant: true,
            ..wide(Kind::Elementwise, full, full, OutputKind::WideBinary)
        },
        scaled(true),
    ])
}

/// Layers of lane einsums.
fn vector(graph: &Graph, op: &Op, einsums: &[Einsum]) -> Vec<Layer> {
    let mut list = Vec::new();
    for (at, e) in einsums.iter().enumerate() {
        let reads = |a: &&Access| matches!(a.place, Place::Input(_));
        let ends = [
            e.inputs.iter().any(|a| reads(&a)),
            matches!(e.output.place, Place::Output(_)),
        ];
        let MapOperator::Lanes(program) = &e.map else {
            continue;
        };
        let windowed = ["p", "q", "r", "s"].map(|n| size(e, n));
        if let [Some(p), Some(q), Some(r), Some(s)] = windowed {
            list.push(Layer {
                ends: [true; 2],
                ..pool(e, [p, q], [r, s])
            });
            // The scaling of an average is the output unit's.
            break;
        }
        let points = e.points().unwrap_or(u64::MAX);
        let kept: u64 = e
            .dim_ids()
            .filter(|d| !e.is_reduced(*d))
            .map(|d| e.dim(d).size)
            .fold(1, u64::saturating_mul);
        if kept < points {
            list.push(Layer {
                ends: [ends[0], ends[1]],
                ..reduction(e, kept, points / kept)
            });
            continue;
        }
        let shape = shape_of(graph, op, e, points);
        let operands = e
            .inputs
            .iter()
            .filter(|a| a.extents.iter().product::<u64>() >= points)
            .count() as u64;
        let outputs = outputs_of(op, program, at + 1 == einsums.len());
        let last = outputs.len() - 1;
        for (i, output) in outputs.into_iter().enumerate() {
            // Look-ups and copies pass as poolings of one pixel.
            let single = operands < 2 && matches!(output, OutputKind::Lookup | OutputKind::Sum);
            let kind = if single {
                Kind::Pool
            } else {
                Kind::Elementwise
            };
            list.push(Layer {
                operands: operands.max(1),
                scalar: operands < 2,
                ends: [ends[0] && i == 0, ends[1] && i == last],
                ..Layer::plain(kind, shape, shape, output)
            });
        }
    }
    list
}

/// Rows, columns and channels of an elementwise op: those of its tensor, the last rank being channels.
fn shape_of(graph: &Graph, op: &Op, e: &Einsum, points: u64) -> [u64; 3] {
    let shape = op
        .outputs
        .first()
        .map(|t| graph.tensors[*t].shape.as_slice())
        .filter(|s| s.iter().product::<u64>() == points);
    let extents: Vec<u64> = match shape {
        Some(shape) => shape.to_vec(),
        None => e.dims.iter().map(|d| d.size).collect(),
    };
    match extents.as_slice() {
        [] => [1, 1, 1],
        [c] => [1, 1, *c],
        [w, c] => [1, *w, *c],
        [outer @ .., w, c] => [outer.iter().product(), *w, *c],
    }
}

/// What passes the output unit for each layer of a program.
fn outputs_of(op: &Op, program: &[L], last: bool) -> Vec<OutputKind> {
    let clamps = program.iter().all(|p| *p == L::Max);
    if op.class == OpClass::Quantize || program.is_empty() {
        return vec![OutputKind::Sum];
    }
    if clamps {
        return vec![OutputKind::Clamp];
    }
    // A function of one element is a table.
    if op.class == OpClass::Activation && op.inputs.len() == 1 && last {
        return vec![OutputKind::Lookup];
    }
    let each = program.iter().map(|p| match p {
        L::Add | L::Fma => OutputKind::Add,
        L::Mul => OutputKind::Multiply,
        L::Max | L::Compare => OutputKind::Sum,
        _ => OutputKind::Lookup,
    });
    each.collect()
}

fn pool(e: &Einsum, [p, q]: [u64; 2], [r, s]: [u64; 2]) -> Layer {
    let input = e.inputs.first();
    let axis = |name: &str| {
        let both = dim(e, name).zip(input);
        both.map_or((1, 1), |(d, a)| along(a, d))
    };
    let (row, column) = (axis("p"), axis("q"));
    let (n, c) = (size(e, "n").unwrap_or(1), size(e, "c").unwrap_or(1));
    let output = if e.reduce == ReduceOperator::Max {
        OutputKind::Maximum
    } else {
        OutputKind::Sum
    };
    Layer {
        taps: [r, s],
        span: [r, s],
        stride: [row.0, column.0],
        repeat: n,
        ..Layer::plain(Kind::Pool, [p, q, c], [row.1, column.1, c], output)
    }
}

/// A reduction of so many elements to each of those kept.
fn reduction(e: &Einsum, kept: u64, reduced: u64) -> Layer {
    let out = [1, 1, kept];
    let input = [1, reduced, kept];
    let maximum = matches!(e.reduce, ReduceOperator::Max | ReduceOperator::Min);
    let (kind, output) = if maximum {
        (Kind::Pool, OutputKind::Maximum)
    } else {
        (Kind::Depthwise, OutputKind::Sum)
    };
    debug_assert!(volume(out) <= volume(input));
    Layer {
        taps: [1, reduced],
        span: [1, reduced],
        ..Layer::plain(kind, out, input, output)
    }
}
