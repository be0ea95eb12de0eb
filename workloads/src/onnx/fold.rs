//! Evaluation of nodes whose inputs are known at import: the arithmetic of shapes, axes, masks and positions.
//!
//! Integers are exact (an overflow leaves the node unevaluated), floats are computed in f64 and rounded to f32
//! where the file says f32. Nodes with operands or results of more than [`FOLDED_ELEMENTS`] elements are not
//! evaluated, and all evaluations share a [`BUDGET`]: what is left runs on the chip.

use super::node::Node;
use super::shapes;
use super::value::{DType, Data, FOLDED_ELEMENTS, Value, elements};

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
            one(to, x.shape.clone(), cast(&*x.data()?, to)?)
        }
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
            let x = node.optional(0)?;
            let shape = reshaped(node).ok()?;
            Some(vec![Value {
                shape,
                known: super::value::Known::All(x.data()?),
                tensor: None,
                weight: false,
                dtype: x.dtype,
            }])
        }
        "Transpose" => {
            let x = node.optional(0)?;
            let perm = permutation(node, x.rank()).ok()?;
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
            let shape = tiled(&x.shape, &by).ok()?;
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
            let Slice {
                shape,
                starts,
                steps: by,
            } = sliced(node).ok()?;
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
            let (axis, parts) = split(node).ok()?;
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
        "CumSum" => cumulative(node),
        "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceMean" => reduce(node),
        "Not" | "Neg" | "Abs" | "Sqrt" | "Floor" | "Ceil" | "Round" | "Exp" | "Log" | "Sin"
        | "Cos" | "Reciprocal" | "BitwiseNot" => unary(node),
        _ => binary(node),
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
    let (axis, shape) = concatenated(node).ok()?;
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

fn cumulative<'m>(node: &Node<'m>) -> Option<Vec<Value<'m>>> {
    let x = node.optional(0)?;
    let axis = shapes::axis(node.optional(1)?.scalar()?, x.rank()).ok()?;
    if node.int("exclusive", 0) != 0 || node.int("reverse", 0) != 0 {
        return None;
    }
    let Data::Int(mut v) = (*x.data()?).clone() else {
        return None;
    };
    let step = shapes::strides(&x.shape)[axis];
    for i in 0..v.len() {
        if !(i / step).is_multiple_of(x.shape[axis] as usize) {
            v[i] = v[i].checked_add(v[i - step])?;
        }
    }
    Some(vec![Value::constant(
        x.dtype,
        x.shape.clone(),
        Data::Int(v),
    )])
}

fn reduce<'m>(node: &Node<'m>) -> Option<Vec<Value<'m>>> {
    let x = node.optional(0)?;
    let axes = reduced(node).ok()?;
    let kept: Vec<u64> = x
        .shape
        .iter()
        .enumerate()
        .map(|(i, d)| if axes.contains(&i) { 1 } else { *d })
        .collect();
    let steps = shapes::broadcast_steps(&kept, &x.shape);
    let into = shapes::places(&x.shape, &steps, 0);
    let count = elements(&kept)? as usize;
    let shape = if node.int("keepdims", 1) != 0 {
        kept
    } else {
        x.shape
            .iter()
            .enumerate()
            .filter(|(i, _)| !axes.contains(i))
            .map(|(_, d)| *d)
            .collect()
    };
    if x.elements() == 0 {
        return None;
    }
    match &*x.data()? {
        Data::Int(v) => {
            let mut out: Vec<Option<i64>> = vec![None; count];
            for (p, x) in into.iter().zip(v) {
                let slot = out.get_mut(*p)?;
                *slot = Some(match (*slot, node.op) {
                    (None, _) => *x,
                    (Some(a), "ReduceSum") => a.checked_add(*x)?,
                    (Some(a), "ReduceProd") => a.checked_mul(*x)?,
                    (Some(a), "ReduceMax") => a.max(*x),
                    (Some(a), "ReduceMin") => a.min(*x),
                    _ => return None,
                });
            }
            Some(vec![Value::constant(
                x.dtype,
                shape,
                Data::Int(out.into_iter().collect::<Option<_>>()?),
            )])
        }
        Data::Float(v) => {
            let mut out: Vec<Option<f64>> = vec![None; count];
            for (p, x) in into.iter().zip(v) {
                let slot = out.get_mut(*p)?;
                *slot = Some(match (*slot, node.op) {
                    (None, _) => *x,
                    (Some(a), "ReduceSum" | "ReduceMean") => a + x,
                    (Some(a), "ReduceProd") => a * x,
                    (Some(a), "ReduceMax") => a.max(*x),
                    (Some(a), _) => a.min(*x),
                });
            }
            let mut out: Vec<f64> = out.into_iter().collect::<Option<_>>()?;
            if node.op == "ReduceMean" {
                let n = (v.len() / count.max(1)) as f64;
                out.iter_mut().for_each(|x| *x /= n);
            }
            Some(vec![Value::constant(x.dtype, shape, rounded(out, x.dtype))])
        }
    }
}

fn unary<'m>(node: &Node<'m>) -> Option<Vec<Value<'m>>> {
    let x = node.optional(0)?;
    let data = match &*x.data()? {
        Data::Int(v) => {
            let f = |a: i64| match node.op {
                "Not" => Some(i64::from(a == 0)),
                "Neg" => a.checked_neg(),
                "Abs" => a.checked_abs(),
                "BitwiseNot" if matches!(x.dtype, DType::Int { signed: true, .. }) => Some(!a),
                _ => None,
            };
            Data::Int(v.iter().map(|a| f(*a)).collect::<Option<_>>()?)
        }
        Data::Float(v) => {
            let f = |a: f64| match node.op {
                "Neg" => Some(-a),
                "Abs" => Some(a.abs()),
                "Sqrt" => Some(a.sqrt()),
                "Floor" => Some(a.floor()),
                "Ceil" => Some(a.ceil()),
                "Round" => Some(a.round_ties_even()),
                "Exp" => Some(a.exp()),
                "Log" => Some(a.ln()),
                "Sin" => Some(a.sin()),
                "Cos" => Some(a.cos()),
                "Reciprocal" => Some(1.0 / a),
                _ => None,
            };
            rounded(v.iter().map(|a| f(*a)).collect::<Option<_>>()?, x.dtype)
        }
    };
    Some(vec![Value::constant(x.dtype, x.shape.clone(), data)])
}

/// Two or, for Max and Min, more inputs.
fn binary<'m>(node: &Node<'m>) -> Option<Vec<Value<'m>>> {
    let first = node.optional(0)?;
    let shape = shapes::broadcast(node.inputs.iter().flatten().map(|v| &v.shape[..])).ok()?;
    elements(&shape).filter(|n| *n <= FOLDED_ELEMENTS)?;
    let spread = |v: &Value<'m>| {
        v.data()?.pick(&shapes::places(
            &shape,
            &shapes::broadcast_steps(&v.shape, &shape),
            0,
        ))
    };
    let mut all = node.inputs.iter().flatten().map(spread);
    let mut left = all.next()??;
    let mut dtype = first.dtype;
    for right in all {
        (left, dtype) = match (left, right?) {
            (Data::Int(a), Data::Int(b)) => int_binary(node, first.dtype, &a, &b)?,
            (Data::Float(a), Data::Float(b)) => float_binary(node.op, first.dtype, &a, &b)?,
            (a, b) if node.op == "Pow" => {
                float_binary("Pow", first.dtype, &a.floats(), &b.floats())
                    .and_then(|(d, t)| Some((cast(&d, t)?, t)))?
            }
            _ => return None,
        };
    }
    Some(vec![Value::constant(dtype, shape, left)])
}

fn int_binary(node: &Node, dtype: DType, a: &[i64], b: &[i64]) -> Option<(Data, DType)> {
    let bool_result = matches!(
        node.op,
        "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or"
    );
    let f = |x: i64, y: i64| match node.op {
        "Add" => x.checked_add(y),
        "Sub" => x.checked_sub(y),
        "Mul" => x.checked_mul(y),
        "Div" => x.checked_div(y),
        "Mod" if node.int("fmod", 0) == 0 => x.checked_rem(y).map(|r| {
            if r != 0 && (r < 0) != (y < 0) {
                r + y
            } else {
                r
            }
        }),
        "Mod" => x.checked_rem(y),
        "Pow" => x.checked_pow(u32::try_from(y).ok()?),
        "Max" => Some(x.max(y)),
        "Min" => Some(x.min(y)),
        "Equal" => Some(i64::from(x == y)),
        "Less" => Some(i64::from(x < y)),
        "LessOrEqual" => Some(i64::from(x <= y)),
        "Greater" => Some(i64::from(x > y)),
        "GreaterOrEqual" => Some(i64::from(x >= y)),
        "And" => Some(i64::from(x != 0 && y != 0)),
        "Or" => Some(i64::from(x != 0 || y != 0)),
        "BitwiseAnd" => Some(x & y),
        "BitwiseOr" => Some(x | y),
        _ => None,
    };
    let data = a
        .iter()
        .zip(b)
        .map(|(x, y)| f(*x, *y))
        .collect::<Option<_>>()?;
    Some((
        Data::Int(data),
        if bool_result { DType::Bool } else { dtype },
    ))
}

fn float_binary(op: &str, dtype: DType, a: &[f64], b: &[f64]) -> Option<(Data, DType)> {
    let compare = |f: fn(&f64, &f64) -> bool| {
        Some((
            Data::Int(a.iter().zip(b).map(|(x, y)| i64::from(f(x, y))).collect()),
            DType::Bool,
        ))
    };
    let f: fn(f64, f64) -> f64 = match op {
        "Add" => |x, y| x + y,
        "Sub" => |x, y| x - y,
        "Mul" => |x, y| x * y,
        "Div" => |x, y| x / y,
        "Pow" => f64::powf,
        "Max" => f64::max,
        "Min" => f64::min,
        "Mod" => |x, y| x % y,
        "Equal" => return compare(|x, y| x == y),
        "Less" => return compare(|x, y| x < y),
        "LessOrEqual" => return compare(|x, y| x <= y),
        "Greater" => return compare(|x, y| x > y),
        "GreaterOrEqual" => return compare(|x, y| x >= y),
        _ => return None,
    };
    Some((
        rounded(a.iter().zip(b).map(|(x, y)| f(*x, *y)).collect(), dtype),
        dtype,
    ))
}

fn rounded(mut v: Vec<f64>, dtype: DType) -> Data {
    if dtype == DType::F32 {
        v.iter_mut().for_each(|x| *x = f64::from(*x as f32));
    }
    Data::Float(v)
}

fn cast(data: &Data, to: DType) -> Option<Data> {
    Some(match (data, to) {
        (Data::Int(v), DType::Bool) => Data::Int(v.iter().map(|x| i64::from(*x != 0)).collect()),
        (Data::Float(v), DType::Bool) => {
            Data::Int(v.iter().map(|x| i64::from(*x != 0.0)).collect())
        }
        (Data::Int(v), DType::Int { bits, signed }) => {
            let fits = |x: &i64| match (bits, signed) {
                (64, _) => true,
                (b, true) => *x >> (b - 1) == 0 || *x >> (b - 1) == -1,
                (b, false) => *x >> b == 0,
            };
            v.iter().all(fits).then(|| Data::Int(v.clone()))?
        }
        (Data::Float(v), DType::Int { .. }) => {
            let exact = |x: &f64| (x.abs() < 9e15).then_some(x.trunc() as i64);
            Data::Int(v.iter().map(exact).collect::<Option<_>>()?)
        }
        (_, DType::Float(_)) => rounded(data.floats(), to),
        (_, DType::Text | DType::Complex(_)) => return None,
    })
}

/// The result of Reshape, Flatten, Squeeze or Unsqueeze.
pub(super) fn reshaped(node: &Node) -> Result<Vec<u64>, super::error::Fault> {
    let x = node.input(0)?;
    Ok(match node.op {
        "Reshape" => match node.ints("shape") {
            Some(wanted) if node.opset < 5 => shapes::reshape(&x.shape, wanted, false)?,
            _ => shapes::reshape(
                &x.shape,
                &node.known(1, "the extents of its result")?,
                node.int("allowzero", 0) != 0,
            )?,
        },
        "Flatten" => {
            let rank = x.rank() as i64;
            let axis = node.int("axis", 1);
            let at = if axis < 0 {
                axis.saturating_add(rank)
            } else {
                axis
            };
            let at = usize::try_from(at)
                .ok()
                .filter(|a| *a <= x.rank())
                .ok_or_else(|| format!("axis {axis} does not exist in {rank} ranks"))?;
            vec![
                x.shape[..at].iter().product(),
                x.shape[at..].iter().product(),
            ]
        }
        "Squeeze" => {
            let axes = match node.axes(1)? {
                Some(axes) => shapes::axes(&axes, x.rank())?,
                None => (0..x.rank()).filter(|i| x.shape[*i] == 1).collect(),
            };
            if let Some(a) = axes.iter().find(|a| x.shape[**a] != 1) {
                return Err(
                    format!("axis {a} of {:?} is not 1 and cannot be squeezed", x.shape).into(),
                );
            }
            x.shape
                .iter()
                .enumerate()
                .filter(|(i, _)| axes.binary_search(i).is_err())
                .map(|(_, d)| *d)
                .collect()
        }
        _ => {
            let axes = node.axes(1)?.ok_or("it needs axes")?;
            let rank = x.rank() + axes.len();
            let axes = shapes::axes(&axes, rank)?;
            let mut own = x.shape.iter();
            let extents = (0..rank).map(|i| {
                if axes.binary_search(&i).is_ok() {
                    1
                } else {
                    own.next().copied().unwrap_or(1)
                }
            });
            shapes::checked(extents.collect())?
        }
    })
}

/// The permutation of a Transpose.
pub(super) fn permutation(node: &Node, rank: usize) -> Result<Vec<usize>, String> {
    let Some(perm) = node.ints("perm").filter(|p| !p.is_empty() || rank == 0) else {
        return Ok((0..rank).rev().collect());
    };
    let mut seen = vec![false; rank];
    let places: Vec<usize> = perm
        .iter()
        .map(|p| usize::try_from(*p).unwrap_or(rank))
        .collect();
    for p in &places {
        match seen.get_mut(*p) {
            Some(s) if !*s => *s = true,
            _ => return Err(format!("{perm:?} is no permutation of {rank} ranks")),
        }
    }
    if places.len() != rank {
        return Err(format!("{perm:?} is no permutation of {rank} ranks"));
    }
    Ok(places)
}

/// The result of tiling.
pub(super) fn tiled(shape: &[u64], by: &[u64]) -> Result<Vec<u64>, String> {
    if shape.len() != by.len() {
        return Err(format!("{} repeats for {} ranks", by.len(), shape.len()));
    }
    let out: Option<Vec<u64>> = shape
        .iter()
        .zip(by)
        .map(|(d, r)| d.checked_mul(*r))
        .collect();
    shapes::checked(
        out.ok_or_else(|| format!("shape {shape:?} repeated {by:?} times is too large"))?,
    )
}

/// A slice: the shape of its result, and where and in which steps it reads each axis.
pub(super) struct Slice {
    pub shape: Vec<u64>,
    pub starts: Vec<u64>,
    pub steps: Vec<i64>,
}

/// What a Slice reads.
pub(super) fn sliced(node: &Node) -> Result<Slice, super::error::Fault> {
    let x = node.input(0)?;
    let list = |name: &str, i: usize| match node.ints(name) {
        Some(v) if node.opset < 10 => Ok(Some(v.to_vec())),
        _ if node.optional(i).is_some() => node.known(i, "the bounds of the slice").map(Some),
        _ => Ok(None),
    };
    let starts = list("starts", 1)?.ok_or("it needs starts")?;
    let ends = list("ends", 2)?.ok_or("it needs ends")?;
    let axes = list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err("its starts, ends, axes and steps must be equally many".into());
    }
    shapes::axes(&axes, x.rank())?;
    let (mut shape, mut first, mut by) = (x.shape.clone(), vec![0; x.rank()], vec![1; x.rank()]);
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = shapes::axis(*axis, x.rank())?;
        (first[axis], by[axis], shape[axis]) = shapes::slice(x.shape[axis], *start, *end, *step)?;
    }
    Ok(Slice {
        shape,
        starts: first,
        steps: by,
    })
}

/// Axis and result of a Concat.
pub(super) fn concatenated(node: &Node) -> Result<(usize, Vec<u64>), super::error::Fault> {
    let first = node.input(0)?;
    let axis = shapes::axis(node.int("axis", 0), first.rank())?;
    let mut shape = first.shape.clone();
    for part in node.inputs.iter().skip(1).flatten() {
        let fits = part.rank() == shape.len()
            && (0..shape.len()).all(|i| i == axis || part.shape[i] == shape[i]);
        if !fits {
            return Err(format!(
                "{:?} does not concatenate with {:?} along axis {axis}",
                part.shape, first.shape
            )
            .into());
        }
        shape[axis] = shape[axis]
            .checked_add(part.shape[axis])
            .ok_or("its result is too large")?;
    }
    Ok((axis, shapes::checked(shape)?))
}

/// Axis and extents of the parts of a Split.
pub(super) fn split(node: &Node) -> Result<(usize, Vec<u64>), super::error::Fault> {
    let x = node.input(0)?;
    let axis = shapes::axis(node.int("axis", 0), x.rank())?;
    let extent = x.shape[axis];
    let outputs = node.proto.output.len().max(1) as u64;
    let given = match node.ints("split") {
        Some(parts) => Some(parts.to_vec()),
        None if node.optional(1).is_some() => Some(node.known(1, "the extents of its parts")?),
        None => None,
    };
    let parts: Vec<u64> = match given {
        Some(parts) => parts
            .iter()
            .map(|p| u64::try_from(*p).map_err(|_| format!("a part of extent {p}")))
            .collect::<Result<_, _>>()?,
        None => {
            let each = extent.div_ceil(outputs);
            (0..outputs)
                .map(|i| each.min(extent.saturating_sub(i.saturating_mul(each))))
                .collect()
        }
    };
    if parts.len() as u64 != outputs
        || parts.iter().try_fold(0u64, |n, p| n.checked_add(*p)) != Some(extent)
    {
        return Err(format!(
            "parts {parts:?} for {outputs} outputs do not make up axis {axis} of {:?}",
            x.shape
        )
        .into());
    }
    Ok((axis, parts))
}

/// The axes of a reduction.
pub(super) fn reduced(node: &Node) -> Result<Vec<usize>, super::error::Fault> {
    let rank = node.input(0)?.rank();
    match node.axes(1)?.filter(|a| !a.is_empty()) {
        Some(axes) => Ok(shapes::axes(&axes, rank)?),
        None if node.int("noop_with_empty_axes", 0) != 0 => Ok(vec![]),
        None => Ok((0..rank).collect()),
    }
}
