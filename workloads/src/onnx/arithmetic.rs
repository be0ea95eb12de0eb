//! Arithmetic on known values: functions, comparisons, reductions, conversions.
//!
//! Integers are exact: an overflow gives no result. Floats are computed in f64 and rounded to f32 where the file
//! says f32.

use super::node::Node;
use super::value::{DType, Data, FOLDED_ELEMENTS, Value, elements};
use super::{results, shapes};

pub(super) fn cumulative<'m>(node: &Node<'m>) -> Option<Vec<Value<'m>>> {
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

pub(super) fn reduce<'m>(node: &Node<'m>) -> Option<Vec<Value<'m>>> {
    let x = node.optional(0)?;
    let axes = results::reduced(node).ok()?;
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

pub(super) fn unary<'m>(node: &Node<'m>) -> Option<Vec<Value<'m>>> {
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
pub(super) fn binary<'m>(node: &Node<'m>) -> Option<Vec<Value<'m>>> {
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

pub(super) fn cast(data: &Data, to: DType) -> Option<Data> {
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
