//! Ops by name.

use presil_numerics::LanePrimitive as L;
use presil_numerics::function::Function as F;

use crate::build::{Attention, Conv, Function, Mask, NormKind, PoolKind};
use crate::einsum::ReduceOperator;
use crate::formula::{Binary, Formula, Unary};
use crate::graph::GraphError;
use crate::meaning::Meaning;
use crate::op::OpClass;
use crate::tensor::TensorId;

use super::fields::Fields;
use super::{Lowered, Reader};

/// The result of an op, or what is wrong with its shapes; `None` if its text was wrong, which has been recorded.
/// A lowering asks for all of its keys before it gives up, so that all problems are found.
type Result = Option<std::result::Result<TensorId, GraphError>>;

type Lowering = for<'a> fn(&mut Reader<'a>, &Fields<'a>, &str) -> Result;

const OPS: &[(&str, Lowering)] = &[
    ("attention", attention),
    ("cache_write", cache_write),
    ("concat", concat),
    ("conv2d", conv2d),
    ("conv_transpose2d", conv_transpose2d),
    ("elementwise", elementwise),
    ("gather", gather),
    ("linear", linear),
    ("matmul", matmul),
    ("move", movement),
    ("norm", norm),
    ("pool", pool),
    ("reduce", reduce),
    ("reshape", reshape),
    ("rotary", rotary),
    ("softmax", softmax),
    ("step", step),
    ("transpose", transpose),
    ("upsample", upsample),
    ("view", view),
];

/// Lowers an op by name. `None` if it has no name or kind, which has been recorded.
pub(super) fn named<'a>(r: &mut Reader<'a>, f: &Fields<'a>) -> Option<Lowered> {
    let before = f.problems().count();
    let kind = f.choice("op", OPS, None);
    let name = f.need_text("name");
    let output = f.text("output");
    let result_name = output.or_else(|| name.clone()).map(|n| n.0.to_string());
    let (Some((name, _)), Some(result_name), Some(lowering)) = (name, result_name.clone(), kind)
    else {
        // What the keys of an unknown op mean is unknown too.
        f.ignore_rest();
        return result_name.map(|name| Lowered {
            name,
            result: Ok(None),
        });
    };
    let result = lowering(r, f, name);
    let writes_cache = f.has("cache");
    let result = match result {
        // An operand that is broken has been reported where it broke.
        None if f.problems().count() == before => return r.broken(result_name),
        None => Ok(None),
        Some(Ok(_)) if writes_cache => Ok(None),
        Some(result) => result.map(Some),
    };
    Some(Lowered {
        name: result_name,
        result,
    })
}

fn input<'a>(r: &Reader<'a>, f: &Fields<'a>, key: &'static str) -> Option<TensorId> {
    r.read(f.need_text(key)?)
}

fn inputs<'a>(r: &Reader<'a>, f: &Fields<'a>) -> Option<Vec<TensorId>> {
    let names = f.need_texts("inputs")?;
    let read: Vec<Option<TensorId>> = names.into_iter().map(|n| r.read(n)).collect();
    read.into_iter().collect()
}

/// Exactly `N` inputs.
fn some_inputs<'a, const N: usize>(
    r: &Reader<'a>,
    f: &Fields<'a>,
    what: &str,
) -> Option<[TensorId; N]> {
    let given = inputs(r, f)?;
    let taken = <[TensorId; N]>::try_from(given).ok();
    if taken.is_none() {
        f.problems().at(f.place(), format!("`inputs` are {what}"));
    }
    taken
}

/// `input` or `inputs`.
fn any_inputs<'a>(r: &Reader<'a>, f: &Fields<'a>) -> Option<Vec<TensorId>> {
    if f.has("inputs") {
        inputs(r, f)
    } else {
        Some(vec![input(r, f, "input")?])
    }
}

/// An axis of a tensor of `rank` ranks; negative ones count from the last.
fn axis<'a>(f: &Fields<'a>, key: &'static str, default: i64, rank: Option<usize>) -> Option<usize> {
    let given = f.signed(key, default);
    let rank = rank?;
    let signed_rank = i64::try_from(rank).ok()?;
    let found = usize::try_from(if given < 0 {
        given.saturating_add(signed_rank)
    } else {
        given
    })
    .ok()
    .filter(|a| *a < rank);
    if found.is_none() {
        f.problems().at(
            f.place(),
            format!("`{key}` = {given} is no axis of a tensor of {rank} ranks"),
        );
    }
    found
}

/// The common parameters of convolutions, with the given weights if any.
fn convolution<'a>(r: &Reader<'a>, f: &Fields<'a>) -> Option<(TensorId, Option<TensorId>, Conv)> {
    let x = input(r, f, "input");
    let out_channels = f.need_number("out_channels", 1);
    if !f.has("kernel") {
        f.problems().add(
            presil_numerics::Diagnostic::at(f.place(), "`kernel` is missing")
                .help("add `kernel = 3` or `kernel = [3, 1]`"),
        );
    }
    let kernel = f.pair("kernel", 1);
    let stride = f.pair("stride", 1).unwrap_or([1; 2]);
    let padding = f.padding("padding");
    let dilation = f.pair("dilation", 1).unwrap_or([1; 2]);
    let groups = f.number("groups", 1).unwrap_or(1);
    let bias = f.flag("bias", false);
    let weight = match f.text("weight") {
        Some(name) => Some(r.read(name)?),
        None => None,
    };
    let conv = Conv {
        out_channels: out_channels?,
        kernel: kernel?,
        stride,
        padding,
        dilation,
        groups,
        bias,
    };
    Some((x?, weight, conv))
}

fn conv2d<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let (x, weight, conv) = convolution(r, f)?;
    Some(match weight {
        None => r.b.conv2d(name, x, &conv),
        Some(weight) => {
            let bias = conv
                .bias
                .then(|| r.b.weight(format!("{name}.bias"), &[conv.out_channels]));
            r.b.conv2d_with(name, x, weight, bias, &conv)
        }
    })
}

fn conv_transpose2d<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let output_padding = f.pair("output_padding", 0).unwrap_or([0; 2]);
    let (x, weight, conv) = convolution(r, f)?;
    let channels = r.b.shape(x).get(1).copied().unwrap_or(0);
    let shape = [
        channels,
        conv.out_channels / conv.groups,
        conv.kernel[0],
        conv.kernel[1],
    ];
    let weight = weight.unwrap_or_else(|| r.b.weight(format!("{name}.weight"), &shape));
    let bias = conv
        .bias
        .then(|| r.b.weight(format!("{name}.bias"), &[conv.out_channels]));
    Some(r.b.conv_transpose2d_with(name, x, weight, bias, &conv, output_padding))
}

fn linear<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let x = input(r, f, "input");
    let weight = f.text("weight").map(|name| r.read(name));
    let features = if weight.is_some() {
        f.number("features", 1)
    } else {
        f.need_number("features", 1)
    };
    let bias = f.flag("bias", false);
    let x = x?;
    Some(match weight {
        None => r.b.linear(name, x, features?, bias),
        Some(weight) => {
            let weight = weight?;
            let out = r.b.shape(weight).first().copied().unwrap_or(0);
            let bias = bias.then(|| r.b.weight(format!("{name}.bias"), &[out]));
            r.b.linear_with(name, x, weight, bias)
        }
    })
}

fn matmul<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let operands = some_inputs::<2>(r, f, "the two operands");
    let transposed = f.flag("transposed", false);
    let [a, b] = operands?;
    Some(r.b.matmul(name, OpClass::Matmul, a, b, transposed))
}

fn attention<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let operands = some_inputs::<3>(r, f, "queries, keys and values");
    let heads = f.need_number("heads", 1);
    let kv_heads = f.number("kv_heads", 1).or(heads);
    let past = f.number("past", 0).unwrap_or(0);
    let window = f.number("window", 1);
    let kinds = [("full", 0), ("causal", 1), ("sliding", 2)];
    let mask = match (f.choice("mask", &kinds, Some(0)), window) {
        (Some(0), _) => Some(Mask::Full),
        (Some(1), _) => Some(Mask::Causal { past }),
        (Some(_), Some(window)) => Some(Mask::Sliding { past, window }),
        (Some(_), None) => {
            f.problems().at(
                f.place(),
                "a sliding mask has a `window`: the keys that a query sees at most",
            );
            None
        }
        (None, _) => None,
    };
    let ([q, k, v], heads, kv_heads, mask) = (operands?, heads?, kv_heads?, mask?);
    let fail = |reason: String| {
        Some(Err(GraphError::Shape {
            op: name.into(),
            reason,
        }))
    };
    let (&[batch, query_length, qw], &[kb, key_length, kw], &[vb, value_length, vw]) =
        (r.b.shape(q), r.b.shape(k), r.b.shape(v))
    else {
        return fail(
            "queries, keys and values have three ranks: batch, length, heads x width".into(),
        );
    };
    let fits = kb == batch
        && vb == batch
        && value_length == key_length
        && qw % heads == 0
        && kw % kv_heads == 0
        && vw % kv_heads == 0;
    if !fits || qw / heads != kw / kv_heads {
        let shapes = [q, k, v].map(|t| r.b.shape(t).to_vec());
        return fail(format!(
            "{shapes:?} are no queries of {heads} heads and keys and values of {kv_heads}"
        ));
    }
    let a = Attention {
        batch,
        heads,
        kv_heads,
        query_length,
        key_length,
        key_width: qw / heads,
        value_width: vw / kv_heads,
        mask,
    };
    let scores = r.b.attention_scores(&format!("{name}.scores"), q, k, &a);
    let p = scores.and_then(|s| r.b.attention_softmax(&format!("{name}.softmax"), s, &a));
    Some(p.and_then(|p| r.b.attention_values(name, p, v, &a)))
}

fn softmax<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let x = input(r, f, "input");
    let axis = axis(f, "axis", -1, x.map(|x| r.b.shape(x).len()));
    let scale = f.real("scale", 1.0, "a number", f64::is_finite);
    let axis = axis?;
    let out = r.b.softmax(name, x?, axis);
    r.b.means(Meaning::Softmax {
        axis,
        scale,
        log: false,
    });
    Some(out)
}

fn norm<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let x = input(r, f, "input");
    let kind = f.choice(
        "kind",
        &[("layer", 0), ("rms", 1), ("batch", 2), ("group", 3)],
        Some(0),
    );
    let groups = if kind == Some(3) {
        f.need_number("groups", 1)
    } else {
        Some(1)
    };
    let affine = f.flag("affine", true);
    let epsilon = f.real("epsilon", 1e-5, "a number of at least 0", |e| e >= 0.0);
    let (x, kind) = (x?, kind?);
    let made = match kind {
        0 => r.b.norm(name, x, NormKind::Layer, affine, affine),
        1 => r.b.norm(name, x, NormKind::Rms, affine, false),
        2 => r.b.batch_norm(name, x),
        _ => r.b.group_norm(name, x, groups?),
    };
    if made.is_ok() {
        r.b.with_epsilon(epsilon);
    }
    Some(made)
}

/// Lane programs of functions of one and of several elements.
const FUNCTIONS: &[(&str, Operation)] = &[
    ("add", Operation::Several(Binary::Add, &[L::Add])),
    ("sub", Operation::Several(Binary::Subtract, &[L::Add])),
    ("mul", Operation::Several(Binary::Multiply, &[L::Mul])),
    (
        "div",
        Operation::Several(Binary::Divide, &[L::Reciprocal, L::Mul]),
    ),
    ("max", Operation::Several(Binary::Maximum, &[L::Max])),
    ("min", Operation::Several(Binary::Minimum, &[L::Max])),
    ("relu", Operation::One(Function::Relu)),
    ("clip", Operation::One(Function::Clip)),
    ("leaky_relu", Operation::One(Function::LeakyRelu)),
    ("sigmoid", Operation::One(Function::Sigmoid)),
    ("tanh", Operation::One(Function::Tanh)),
    ("silu", Operation::One(Function::Silu)),
    ("gelu", Operation::One(Function::Gelu)),
    ("gelu_tanh", Operation::One(Function::GeluTanh)),
    ("quick_gelu", Operation::One(Function::QuickGelu)),
    ("hard_sigmoid", Operation::One(Function::HardSigmoid)),
    ("hard_swish", Operation::One(Function::HardSwish)),
    ("exp", Operation::One(Function::Exp)),
    ("log", Operation::One(Function::Log)),
    ("sqrt", Operation::One(Function::Sqrt)),
    ("rsqrt", Operation::One(Function::Rsqrt)),
    ("reciprocal", Operation::One(Function::Reciprocal)),
    ("erf", Operation::One(Function::Erf)),
    ("softplus", Operation::One(Function::Softplus)),
    ("square", Operation::One(Function::Square)),
    ("abs", Operation::Exactly(Function::Sign, Unary::Abs)),
    ("power", Operation::One(Function::Power)),
    (
        "sin",
        Operation::Exactly(Function::Trigonometric, Unary::Of(F::Sin)),
    ),
    (
        "cos",
        Operation::Exactly(Function::Trigonometric, Unary::Of(F::Cos)),
    ),
    ("convert", Operation::One(Function::Convert)),
    ("compare", Operation::One(Function::Compare)),
];

#[derive(Debug, Clone, Copy)]
enum Operation {
    One(Function),
    /// One that the lane program alone does not name.
    Exactly(Function, Unary),
    /// An operation, and its program for each input behind the first.
    Several(Binary, &'static [L]),
}

fn elementwise<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let operands = any_inputs(r, f);
    if f.has("lanes") {
        let program = super::lower::lanes(f);
        return Some(r.b.elementwise(name, OpClass::Elementwise, &operands?, &program?));
    }
    if f.has("formula") {
        return formula(r, f, name, &operands?);
    }
    let function = f.choice("function", FUNCTIONS, None);
    let operands = operands?;
    match (function?, operands.as_slice()) {
        (Operation::One(function), &[x]) => Some(r.b.function(name, x, function)),
        (Operation::Exactly(function, meaning), &[x]) => {
            let made = r.b.function(name, x, function);
            r.b.means(Meaning::Elementwise(Formula::of(meaning)));
            Some(made)
        }
        (Operation::Several(operation, program), [_, _, ..]) => {
            let program = program.repeat(operands.len() - 1);
            let made =
                r.b.elementwise(name, OpClass::Elementwise, &operands, &program);
            r.b.means(Meaning::Elementwise(Formula::of_all(
                operation,
                operands.len(),
            )));
            Some(made)
        }
        (operation, _) => {
            let expected = match operation {
                Operation::Several(..) => "two inputs or more",
                _ => "one input",
            };
            f.problems().at(
                f.place(),
                format!("this function has {expected}, not {}", operands.len()),
            );
            None
        }
    }
}

/// An elementwise op of a formula, which tells cost and result.
fn formula<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str, operands: &[TensorId]) -> Result {
    let (text, span) = f.need_text("formula")?;
    let formula = match Formula::parse(text) {
        Ok(formula) => formula,
        Err((at, message)) => {
            let place = super::lower::within(r.source, &(text, span), at);
            f.problems().at(place, message);
            return None;
        }
    };
    if formula.inputs() != operands.len() {
        let message = format!(
            "the formula reads {} inputs, and {} are given",
            formula.inputs(),
            operands.len()
        );
        f.problems().at(span, message);
        return None;
    }
    let program = formula.program();
    if program.is_empty() {
        f.problems().at(span, "this formula computes nothing");
        return None;
    }
    let made =
        r.b.elementwise(name, OpClass::Elementwise, operands, &program);
    r.b.means(Meaning::Elementwise(formula));
    Some(made)
}

fn rotary<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let x = input(r, f, "input");
    let heads = f.need_number("heads", 1);
    let base = f.real("base", 1e4, "a number above 0", |b| {
        b > 0.0 && b.is_finite()
    });
    let first = f.number("first", 0).unwrap_or(0);
    let neighbours = f.flag("neighbours", false);
    let (x, heads) = (x?, heads?);
    let &[batch, tokens, all] = r.b.shape(x) else {
        let reason = format!(
            "its input has the ranks batch, tokens and heads x width, not {:?}",
            r.b.shape(x)
        );
        return Some(Err(GraphError::Shape {
            op: name.into(),
            reason,
        }));
    };
    let width = all / heads;
    let shape = [tokens, width];
    let table =
        r.b.tensor(format!("{name}.table"), &shape, crate::Role::Constant);
    let made = r.b.rotary(name, x, table, &[batch, tokens, heads, width]);
    Some(made.inspect(|out| {
        r.b.graph.tensors[*out].shape = vec![batch, tokens, all];
        r.b.means(Meaning::Rotary {
            base,
            first,
            neighbours,
        });
    }))
}

fn step<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let x = input(r, f, "input");
    let axis = axis(f, "axis", 1, x.map(|x| r.b.shape(x).len()));
    let (x, axis) = (x?, axis?);
    let mut shape = r.b.shape(x).to_vec();
    shape.remove(axis);
    let out = r.b.view(name, x, &shape);
    r.b.means(Meaning::Step { axis });
    Some(Ok(out))
}

fn pool<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let x = input(r, f, "input");
    if f.has("size") {
        let size = f.pair("size", 1);
        f.choice("kind", &[("average", ())], Some(()));
        return Some(r.b.adaptive_average_pool2d(name, x?, size?));
    }
    let kind = f.choice(
        "kind",
        &[("max", PoolKind::Max), ("average", PoolKind::Average)],
        None,
    );
    if !f.has("kernel") {
        f.problems().add(
            presil_numerics::Diagnostic::at(f.place(), "`kernel` is missing")
                .help("add `kernel = 2`, or `size = 1` for the average of each channel"),
        );
    }
    let kernel = f.pair("kernel", 1);
    let stride = f.pair("stride", 1).or(kernel);
    let padding = f.padding("padding");
    let ceil = f.flag("ceil", false);
    Some(r.b.pool2d(name, x?, kind?, kernel?, stride?, padding, ceil))
}

fn reduce<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    use ReduceOperator::{Max, Min, Product, Sum};
    let x = input(r, f, "input");
    let kinds = [
        ("sum", (Sum, false)),
        ("mean", (Sum, true)),
        ("max", (Max, false)),
        ("min", (Min, false)),
        ("product", (Product, false)),
    ];
    let kind = f.choice("kind", &kinds, None);
    let axes = f.need_numbers("axes", 0);
    let keep = f.flag("keep", true);
    let (x, (operator, mean), axes) = (x?, kind?, axes?);
    let axis = |i: u64| usize::try_from(i).ok().filter(|a| *a < r.b.shape(x).len());
    let range = match *axes {
        [one] => axis(one).map(|a| a..a + 1),
        [first, last] if first <= last => axis(first).zip(axis(last)).map(|(a, b)| a..b + 1),
        _ => None,
    };
    let Some(range) = range else {
        f.problems().at(
            f.place(),
            format!(
                "`axes` are the first and the last axis that are reduced, of {} axes",
                r.b.shape(x).len()
            ),
        );
        return None;
    };
    Some(r.b.reduce(name, x, range, operator, mean, keep))
}

fn gather<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let (table, indices) = (input(r, f, "table"), input(r, f, "indices"));
    Some(r.b.gather(name, table?, indices?))
}

fn reshape<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let (x, shape) = (input(r, f, "input"), f.need_numbers("shape", 1));
    Some(r.b.reshape(name, x?, &shape?))
}

fn view<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let (x, shape) = (input(r, f, "input"), f.need_numbers("shape", 1));
    let placed = f.has("axis") || f.has("start");
    let axis = axis(f, "axis", -1, x.map(|x| r.b.shape(x).len()));
    let start = f.number("start", 0).unwrap_or(0);
    let (x, shape) = (x?, shape?);
    if placed {
        let axis = axis?;
        let others = r.b.shape(x).iter().enumerate().filter(|(i, _)| *i != axis);
        let others = others.fold(1u64, |n, (_, d)| n.saturating_mul(*d));
        let length = crate::build::elements(&shape) / others.max(1);
        return Some(r.b.part(name, x, axis, [start, length], &shape));
    }
    let count = |shape: &[u64]| shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    if count(&shape).is_none_or(|n| count(r.b.shape(x)).is_some_and(|all| n > all)) {
        let reason = format!("{shape:?} is no part of {:?}", r.b.shape(x));
        return Some(Err(GraphError::Shape {
            op: name.into(),
            reason,
        }));
    }
    Some(Ok(r.b.view(name, x, &shape)))
}

fn concat<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let operands = inputs(r, f);
    let rank = operands
        .as_ref()
        .and_then(|o| o.first())
        .map(|x| r.b.shape(*x).len());
    let axis = axis(f, "axis", 0, rank.or(Some(1)));
    Some(r.b.concat(name, &operands?, axis?))
}

fn transpose<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let (x, order) = (input(r, f, "input"), f.need_numbers("order", 0));
    let order: Vec<usize> = order?
        .into_iter()
        .map(|a| usize::try_from(a).unwrap_or(usize::MAX))
        .collect();
    Some(r.b.transpose(name, x?, &order))
}

fn upsample<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let (x, factor) = (input(r, f, "input"), f.pair("factor", 1).unwrap_or([2; 2]));
    Some(r.b.upsample_nearest(name, x?, factor))
}

fn movement<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let (operands, shape) = (any_inputs(r, f), f.need_numbers("shape", 1));
    Some(Ok(r.b.copy(name, &operands?, &shape?)))
}

fn cache_write<'a>(r: &mut Reader<'a>, f: &Fields<'a>, name: &str) -> Result {
    let (x, cache) = (input(r, f, "input"), input(r, f, "cache"));
    let (x, cache) = (x?, cache?);
    if r.b.graph.tensors[cache].role != crate::Role::Cache {
        f.problems()
            .at(f.place(), "`cache` is a tensor with role = \"cache\"");
        return None;
    }
    r.b.cache_write(name, x, cache);
    Some(Ok(cache))
}
