//! Evaluation of nodes whose inputs are known at import: the arithmetic of shapes, axes, masks and positions.
//!
//! Integers are exact (an overflow leaves the node unevaluated), floats are computed in f64 and rounded to f32
//! where the file says f32. Nodes with operands or results of more than [`FOLDED_ELEMENTS`] elements are not
//! evaluated, and all evaluations share a [`BUDGET`]: what is left runs on the chip.

use super::node::Node;
use super::value::{DType, Data, FOLDED_ELEMENTS, Value, elements};
use super::{arithmetic, results, shapes};

/// Elements that evaluations may read and make in all, those of few elements not counted.
pub(super) const BUDGET: u64 = 1 << 24;
/// Evaluations that read and make at most so many elements are always done: they are shapes.
const FREE: u64 = 1 << 10;

/// The outputs of a node, if it can be evaluated.
pub(super) fn fold<'m>(node: &Node<'m>, budget: &mut u64) -> Option<Vec<Value<'m>>> {
    if !matches!(node.proto.domain.as_str(), "" | "ai.onnx") || !KNOWN.contains(&node.op) {
        return None;
    }
    // A parameter that only changes shape or format stays the parameter.
    let reshapes = matches!(
        node.op,
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose" | "Cast" | "CastLike"
    );
    if reshapes
        && node
            .optional(0)
            .is_some_and(|x| x.weight && x.dtype.is_float())
    {
        return None;
    }
    let known = |v: &Value<'m>| {
        !matches!(v.known, super::value::Known::Nothing) && v.elements() <= FOLDED_ELEMENTS
    };
    if node.op != "Shape" && node.op != "Size" && !node.inputs.iter().flatten().all(known) {
        return None;
    }
    let size = |n: u64, v: &Value<'m>| n.saturating_add(v.elements());
    let read = if matches!(node.op, "Shape" | "Size") {
        0
    } else {
        node.inputs.iter().flatten().fold(0, size)
    };
    if read > FREE {
        *budget = budget.checked_sub(read)?;
    }
    let outputs = evaluate(node)?;
    let made = outputs.iter().fold(0, size);
    if made > FREE {
        *budget = budget.checked_sub(made)?;
    }
    Some(outputs)
}

/// Operators that are evaluated, sorted.
const KNOWN: [&str; 57] = [
    "Abs",
    "Add",
    "And",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "Cast",
    "CastLike",
    "Ceil",
    "Concat",
    "ConstantOfShape",
    "Cos",
    "CumSum",
    "Div",
    "Equal",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "GatherND",
    "Greater",
    "GreaterOrEqual",
    "Identity",
    "Less",
    "LessOrEqual",
    "Log",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "NonZero",
    "Not",
    "Or",
    "Pow",
    "Range",
    "Reciprocal",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Reshape",
    "Round",
    "Shape",
    "Sin",
    "Size",
    "Slice",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "Where",
];

fn evaluate<'m>(node: &Node<'m>) -> Option<Vec<Value<'m>>> {
    let one = |dtype, shape: Vec<u64>, data| Some(vec![Value::constant(dtype, shape, data)]);
    let small = |shape: &[u64]| {
        elements(shape)
            .filter(|n| *n <= FOLDED_ELEMENTS)
            .map(|n| n as usize)
    };
    match node.op {
        "Shape" => {
            let shape = &node.optional(0)?.shape;
            let rank = shape.len() as i64;
            let clamp =
                |x: i64| (if x < 0 { x.saturating_add(rank) } else { x }).clamp(0, rank) as usize;
            let (start, end) = (clamp(node.int("start", 0)), clamp(node.int("end", rank)));
            let part: Vec<i64> = shape
                .get(start..end.max(start))?
                .iter()
                .map(|d| *d as i64)
                .collect();
            one(DType::I64, vec![part.len() as u64], Data::Int(part))
        }
        "Size" => one(
            DType::I64,
            vec![],
            Data::Int(vec![node.optional(0)?.elements() as i64]),
        ),
        "ConstantOfShape" => {
            let shape: Option<Vec<u64>> = node
                .optional(0)?
                .ints()?
                .iter()
                .map(|d| u64::try_from(*d).ok())
                .collect();
            let shape = shapes::checked(shape?).ok()?;
            let count = small(&shape)?;
            match node.tensor("value") {
                None => one(DType::F32, shape, Data::Float(vec![0.0; count])),
                Some(t) => {
                    let (dtype, one_shape) = super::value::check_tensor(t).ok()?;
                    let fill = Value {
                        known: super::value::Known::Stored(t),
                        ..Value::constant(dtype, one_shape, Data::Int(vec![]))
                    };
                    let data = match &*fill.data()? {
                        Data::Int(v) => Data::Int(vec![*v.first()?; count]),
                        Data::Float(v) => Data::Float(vec![*v.first()?; count]),
                    };
                    one(dtype, shape, data)
                }
            }
        }
        "Range" => range(node),
        "Identity" => Some(vec![node.optional(0)?.clone()]),
        "Cast" | "CastLike" => {
            let x = node.optional(0)?;
            let to = if node.op == "Cast" {
                DType::of(i32::try_from(node.int("to", 0)).ok()?)?
            } else {
                node.optional(1)?.dtype
            };
            one(to, x.shape.clone(), arithmetic::cast(&*x.data()?, to)?)
        }
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
            let x = node.optional(0)?;
            let shape = results::reshaped(node).ok()?;
            Some(vec![Value {
                shape,
                known: super::value::Known::All(x.data()?),
                tensor: None,
                weight: false,
                expr: None,
                dtype: x.dtype,
            }])
        }
        "Transpose" => {
            let x = node.optional(0)?;
            let perm = results::permutation(node, x.rank()).ok()?;
            let own = shapes::strides(&x.shape);
            let shape: Vec<u64> = perm.iter().map(|p| x.shape[*p]).collect();
            let steps: Vec<i64> = perm.iter().map(|p| own[*p] as i64).collect();
            one(
                x.dtype,
                shape.clone(),
                x.data()?.pick(&shapes::places(&shape, &steps, 0))?,
            )
        }
        "Expand" | "Tile" => {
            let x = node.optional(0)?;
            let by: Vec<u64> = node
                .optional(1)?
                .ints()?
                .iter()
                .map(|d| u64::try_from(*d).ok())
                .collect::<Option<_>>()?;
            if node.op == "Expand" {
                let shape = shapes::broadcast([&x.shape[..], &by]).ok()?;
                small(&shape)?;
                let places = shapes::places(&shape, &shapes::broadcast_steps(&x.shape, &shape), 0);
                return one(x.dtype, shape, x.data()?.pick(&places)?);
            }
            // Repetition: split each extent into (repeats, extent), then merge.
            let shape = results::tiled(&x.shape, &by).ok()?;
            small(&shape)?;
            let own = shapes::strides(&x.shape);
            let split: Vec<u64> = by
                .iter()
                .zip(&x.shape)
                .flat_map(|(r, d)| [*r, *d])
                .collect();
            let steps: Vec<i64> = own.iter().flat_map(|s| [0, *s as i64]).collect();
            one(
                x.dtype,
                shape,
                x.data()?.pick(&shapes::places(&split, &steps, 0))?,
            )
        }
        "Slice" => {
            let x = node.optional(0)?;
            let results::Slice {
                shape,
                starts,
                steps: by,
            } = results::sliced(node).ok()?;
            let own = shapes::strides(&x.shape);
            let offset: i64 = starts
                .iter()
                .zip(&own)
                .map(|(s, o)| *s as i64 * *o as i64)
                .sum();
            let steps: Vec<i64> = by
                .iter()
                .zip(&own)
                .map(|(b, o)| b.saturating_mul(*o as i64))
                .collect();
            one(
                x.dtype,
                shape.clone(),
                x.data()?.pick(&shapes::places(&shape, &steps, offset))?,
            )
        }
        "Gather" => {
            let (x, index) = (node.optional(0)?, node.optional(1)?);
            let axis = shapes::axis(node.int("axis", 0), x.rank()).ok()?;
            let extent = x.shape[axis] as i64;
            let (outer, inner): (u64, u64) = (
                x.shape[..axis].iter().product(),
                x.shape[axis + 1..].iter().product(),
            );
            let shape: Vec<u64> = x.shape[..axis]
                .iter()
                .chain(&index.shape)
                .chain(&x.shape[axis + 1..])
                .copied()
                .collect();
            let count = small(&shape)?;
            let mut places = Vec::with_capacity(count);
            let indices = index.ints()?;
            for o in 0..outer {
                for i in &indices {
                    let at = u64::try_from(if *i < 0 { i.checked_add(extent)? } else { *i })
                        .ok()
                        .filter(|a| (*a as i64) < extent)?;
                    let first = (o * extent as u64 + at) * inner;
                    places.extend((first..first + inner).map(|p| p as usize));
                }
            }
            one(x.dtype, shape, x.data()?.pick(&places)?)
        }
        "GatherND" => {
            let (x, index) = (node.optional(0)?, node.optional(1)?);
            let (&width, rows) = index.shape.split_last()?;
            let width = usize::try_from(width)
                .ok()
                .filter(|w| (1..=x.rank()).contains(w))?;
            if node.int("batch_dims", 0) != 0 {
                return None;
            }
            let inner: u64 = x.shape[width..].iter().product();
            let shape: Vec<u64> = rows.iter().chain(&x.shape[width..]).copied().collect();
            let mut places = Vec::with_capacity(small(&shape)?);
            let own = shapes::strides(&x.shape);
            for row in index.ints()?.chunks_exact(width) {
                let mut first = 0;
                for ((i, d), s) in row.iter().zip(&x.shape).zip(&own) {
                    let at = if *i < 0 {
                        i.checked_add(*d as i64)?
                    } else {
                        *i
                    };
                    first += usize::try_from(at).ok().filter(|a| (*a as u64) < *d)? * s;
                }
                places.extend(first..first + inner as usize);
            }
            one(x.dtype, shape, x.data()?.pick(&places)?)
        }
        "Concat" => concat(node),
        "Split" => {
            let x = node.optional(0)?;
            let (axis, parts) = results::split(node).ok()?;
            let own = shapes::strides(&x.shape);
            let (data, steps): (_, Vec<i64>) = (x.data()?, own.iter().map(|s| *s as i64).collect());
            let mut start = 0i64;
            let mut out = Vec::new();
            for part in parts {
                let mut shape = x.shape.clone();
                shape[axis] = part;
                let places = shapes::places(&shape, &steps, start * own[axis] as i64);
                out.push(Value::constant(x.dtype, shape, data.pick(&places)?));
                start += part as i64;
            }
            Some(out)
        }
        "Where" => {
            let (c, a, b) = (node.optional(0)?, node.optional(1)?, node.optional(2)?);
            let shape = shapes::broadcast([&c.shape[..], &a.shape, &b.shape]).ok()?;
            small(&shape)?;
            let spread = |v: &Value<'m>| {
                v.data()?.pick(&shapes::places(
                    &shape,
                    &shapes::broadcast_steps(&v.shape, &shape),
                    0,
                ))
            };
            let (c, x, y) = (spread(c)?, spread(a)?, spread(b)?);
            let choose = c.ints()?;
            let data = match (x, y) {
                (Data::Int(x), Data::Int(y)) => Data::Int(
                    choose
                        .iter()
                        .zip(x.iter().zip(&y))
                        .map(|(c, (x, y))| if *c != 0 { *x } else { *y })
                        .collect(),
                ),
                (Data::Float(x), Data::Float(y)) => Data::Float(
                    choose
                        .iter()
                        .zip(x.iter().zip(&y))
                        .map(|(c, (x, y))| if *c != 0 { *x } else { *y })
                        .collect(),
                ),
                _ => return None,
            };
            one(a.dtype, shape, data)
        }
        "NonZero" => {
            let x = node.optional(0)?;
            let data = x.data()?.floats();
            let hits: Vec<usize> = data
                .iter()
                .enumerate()
                .filter(|(_, v)| **v != 0.0)
                .map(|(i, _)| i)
                .collect();
            let own = shapes::strides(&x.shape);
            let coordinate = |r: usize, i: usize| (i / own[r] % x.shape[r] as usize) as i64;
            let rows: Vec<i64> = (0..x.rank())
                .flat_map(|r| hits.iter().map(move |i| (r, *i)))
                .map(|(r, i)| coordinate(r, i))
                .collect();
            one(
                DType::I64,
                vec![x.rank() as u64, hits.len() as u64],
                Data::Int(rows),
            )
        }
        "CumSum" => arithmetic::cumulative(node),
        "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceMean" => {
            arithmetic::reduce(node)
        }
        "Not" | "Neg" | "Abs" | "Sqrt" | "Floor" | "Ceil" | "Round" | "Exp" | "Log" | "Sin"
        | "Cos" | "Reciprocal" | "BitwiseNot" => arithmetic::unary(node),
        _ => arithmetic::binary(node),
    }
}

fn range<'m>(node: &Node<'m>) -> Option<Vec<Value<'m>>> {
    let part = |i: usize| node.optional(i).filter(|v| v.elements() == 1)?.data();
    let dtype = node.optional(0)?.dtype;
    let (start, limit, delta) = (part(0)?, part(1)?, part(2)?);
    match (&*start, &*limit, &*delta) {
        (Data::Int(s), Data::Int(l), Data::Int(d)) => {
            let (s, l, d) = (
                i128::from(*s.first()?),
                i128::from(*l.first()?),
                i128::from(*d.first()?),
            );
            let (span, step) = if d > 0 { (l - s, d) } else { (s - l, -d) };
            let count = if step == 0 {
                return None;
            } else if span <= 0 {
                0
            } else {
                (span - 1) / step + 1
            };
            let count = u64::try_from(count)
                .ok()
                .filter(|c| *c <= FOLDED_ELEMENTS)?;
            let data: Option<Vec<i64>> = (0..i128::from(count))
                .map(|i| i64::try_from(s + i * d).ok())
                .collect();
            Some(vec![Value::constant(dtype, vec![count], Data::Int(data?))])
        }
        (Data::Float(s), Data::Float(l), Data::Float(d)) => {
            let (s, l, d) = (*s.first()?, *l.first()?, *d.first()?);
            let count = ((l - s) / d).ceil().max(0.0);
            // Not a number (a step of 0) is refused, too.
            let count = Some(count).filter(|c| *c <= FOLDED_ELEMENTS as f64)?;
            let data = (0..count as u64).map(|i| s + i as f64 * d).collect();
            Some(vec![Value::constant(
                dtype,
                vec![count as u64],
                Data::Float(data),
            )])
        }
        _ => None,
    }
}

fn concat<'m>(node: &Node<'m>) -> Option<Vec<Value<'m>>> {
    let parts: Vec<&Value<'m>> = node.inputs.iter().flatten().collect();
    let first = *parts.first()?;
    let (axis, shape) = results::concatenated(node).ok()?;
    let outer: u64 = shape[..axis].iter().product();
    elements(&shape).filter(|n| *n <= FOLDED_ELEMENTS)?;
    let data: Vec<_> = parts.iter().map(|p| p.data()).collect::<Option<_>>()?;
    let run = |p: &Value<'m>| p.shape[axis..].iter().product::<u64>() as usize;
    let mut ints = Vec::new();
    let mut floats = Vec::new();
    for o in 0..outer as usize {
        for (p, d) in parts.iter().zip(&data) {
            let at = o * run(p)..(o + 1) * run(p);
            match &**d {
                Data::Int(v) => ints.extend_from_slice(v.get(at)?),
                Data::Float(v) => floats.extend_from_slice(v.get(at)?),
            }
        }
    }
    let data = match (ints.is_empty(), floats.is_empty()) {
        (false, false) => return None,
        (_, true) if !first.dtype.is_float() => Data::Int(ints),
        (true, _) => Data::Float(floats),
        _ => return None,
    };
    Some(vec![Value::constant(first.dtype, shape, data)])
}
