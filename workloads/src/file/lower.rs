//! Einsums of the file, made into ops.

use std::ops::Range;

use presil_numerics::{Diagnostic, LanePrimitive};
use rustc_hash::FxHashMap;

use crate::einsum::{Access, Affine, Dim, DimId, Domain, Einsum, MapOperator, Place, ReduceOperator};
use crate::graph::GraphError;
use crate::op::{Op, OpClass, OpKind};
use crate::tensor::{Role, TensorId};

use super::einsum::{self, Index, Join, Operand};
use super::fields::{Fields, Text};
use super::{Lowered, Named, Reader};

/// Dimensions of an einsum at most, so that everything that is done for pairs of them stays cheap.
const DIMENSIONS: usize = 32;

const CLASSES: &[(&str, OpClass)] = &[
    ("conv", OpClass::Conv),
    ("conv_transpose", OpClass::ConvTranspose),
    ("linear", OpClass::Linear),
    ("attn_qk", OpClass::AttentionQk),
    ("attn_pv", OpClass::AttentionPv),
    ("matmul", OpClass::Matmul),
    ("moe_expert", OpClass::MoeExpert),
    ("recurrent", OpClass::Recurrent),
    ("softmax", OpClass::Softmax),
    ("norm", OpClass::Norm),
    ("activation", OpClass::Activation),
    ("elementwise", OpClass::Elementwise),
    ("pool", OpClass::Pool),
    ("position", OpClass::Position),
    ("quantize", OpClass::Quantize),
    ("move", OpClass::Move),
];

/// The primitives that the key `lanes` names.
pub(super) fn lanes(f: &Fields<'_>) -> Option<Vec<LanePrimitive>> {
    let read = f.texts("lanes")?.into_iter().map(|(word, span)| {
        let found = LanePrimitive::ALL.into_iter().find(|p| p.name() == word);
        if found.is_none() {
            f.problems().unknown("lane primitive", word, span, LanePrimitive::ALL.map(LanePrimitive::name));
        }
        found
    });
    let read: Vec<Option<LanePrimitive>> = read.collect();
    read.into_iter().collect()
}

/// Makes an op of the key `einsum`. `None` if its text is wrong, which has been recorded.
pub(super) fn einsum<'a>(r: &mut Reader<'a>, f: &Fields<'a>) -> Option<Lowered> {
    let before = f.problems().count();
    let text = f.text("einsum");
    let name = f.text("name");
    let sizes: Vec<_> = f.table("dims").map(|d| d.sizes()).unwrap_or_default();
    let program = if f.has("lanes") { lanes(f) } else { None };
    let class = if f.has("class") { f.choice("class", CLASSES, None) } else { None };
    let masks = (f.table("causal"), f.table("banded"));
    let text = text?;
    let parsed = match einsum::parse(text.0) {
        Ok(parsed) => parsed,
        Err((span, message)) => {
            f.problems().at(within(r.source, &text, span), message);
            let output = text.0.split('[').next().unwrap_or("").trim();
            return Some(Lowered { name: output.into(), result: Ok(None) });
        }
    };
    let op = name.map_or(parsed.output.tensor, |n| n.0);
    let place = |span: &Range<usize>| within(r.source, &text, span.clone());

    let read: Vec<Option<TensorId>> = parsed.inputs.iter().map(|i| r.read((i.tensor, place(&i.span)))).collect();
    let read: Option<Vec<TensorId>> = read.into_iter().collect();
    let mut frame = Frame { dims: Vec::new(), index: FxHashMap::default() };
    for operand in std::iter::once(&parsed.output).chain(&parsed.inputs) {
        for (name, _) in operand.ranks.iter().flat_map(|i| &i.terms) {
            frame.add(name);
        }
    }
    for (name, size, span) in sizes {
        match frame.index.get(name) {
            Some(d) => frame.dims[*d].1 = Some(size),
            None => f.problems().unknown("dimension", name, span, frame.dims.iter().map(|d| d.0)),
        }
    }
    let domain = domain(f, &frame, masks);
    let Some(read) = read else {
        return match f.problems().count() == before {
            true => r.broken(parsed.output.tensor.into()),
            false => Some(Lowered { name: parsed.output.tensor.into(), result: Ok(None) }),
        };
    };

    // Sizes from tensors with a plain dimension as an index.
    let shape = |t: &TensorId| r.b.shape(*t).to_vec();
    let mut shapes: Vec<Option<Vec<u64>>> = vec![match r.names.get(parsed.output.tensor) {
        Some(Named::Declared(i)) => r.declared.get(*i).map(|d| d.shape.clone()),
        _ => None,
    }];
    shapes.extend(read.iter().map(|t| Some(shape(t))));
    let operands: Vec<&Operand<'_>> = std::iter::once(&parsed.output).chain(&parsed.inputs).collect();
    for (operand, shape) in operands.iter().zip(&shapes) {
        let Some(shape) = shape else { continue };
        if shape.len() != operand.ranks.len() {
            let message = format!("`{}` has the shape {shape:?}, but {} indices", operand.tensor, operand.ranks.len());
            f.problems().at(place(&operand.span), message);
        }
        for (index, extent) in operand.ranks.iter().zip(shape) {
            frame.infer(index, *extent);
        }
    }
    for (name, size) in &frame.dims {
        if size.is_none() {
            let d = Diagnostic::at(text.1.clone(), format!("dimension `{name}` has no size"));
            f.problems().add(d.help(format!("add `dims = {{ {name} = 8 }}`")));
        }
    }
    if frame.dims.len() > DIMENSIONS || parsed.inputs.len() > usize::from(u8::MAX) {
        f.problems().at(text.1.clone(), format!("an einsum has at most {DIMENSIONS} dimensions and {} inputs", u8::MAX));
    }
    if f.problems().count() != before {
        return Some(Lowered { name: parsed.output.tensor.into(), result: Ok(None) });
    }

    let dims: Vec<Dim> = frame.dims.iter().map(|(n, s)| Dim { name: (*n).into(), size: s.unwrap_or(1) }).collect();
    let out_shape = match shapes.into_iter().next().flatten() {
        Some(shape) => shape,
        None => match parsed.output.ranks.iter().map(|i| span_of(&frame, i)).collect::<Option<Vec<u64>>>() {
            Some(shape) => shape,
            None => {
                let d = Diagnostic::at(place(&parsed.output.span), "the indices of the result start below 0, or do not fit 64 bits");
                f.problems().add(d.help(format!("declare its shape: `[[tensor]]` with name = \"{}\"", parsed.output.tensor)));
                return Some(Lowered { name: parsed.output.tensor.into(), result: Ok(None) });
            }
        },
    };
    let reduced: Vec<&str> = dims.iter().map(|d| d.name.as_str()).filter(|n| !parsed.output.ranks.iter().any(|i| i.terms.iter().any(|(t, _)| t == n))).collect();
    if parsed.assign.is_none() && !reduced.is_empty() {
        let d = Diagnostic::at(text.1.clone(), format!("the result does not name {}, which is reduced", reduced.join(", ")));
        f.problems().add(d.help("write `+=`, `max=`, `min=` or `*=` instead of `=`"));
    }
    if program.as_ref().is_some_and(Vec::is_empty) && parsed.assign.is_none() {
        f.problems().at(f.place(), "nothing is free: `lanes` names at least one primitive where nothing is reduced");
    }
    let contraction = parsed.assign == Some(ReduceOperator::Sum) && parsed.joins == [Join::Times] && !f.has("lanes");
    let moves = parsed.assign.is_none() && parsed.inputs.len() == 1 && !f.has("lanes");
    let map = match program {
        _ if contraction => MapOperator::MultiplyAccumulate,
        Some(program) => MapOperator::Lanes(program),
        None => {
            if parsed.joins.contains(&Join::Comma) {
                let d = Diagnostic::at(text.1.clone(), "inputs that are joined by `,` need a program");
                f.problems().add(d.help("add `lanes = [\"fma\"]`, say"));
            }
            let step = |j: &Join| if *j == Join::Times { LanePrimitive::Mul } else { LanePrimitive::Add };
            MapOperator::Lanes(parsed.joins.iter().map(step).collect())
        }
    };
    let access = |place: Place, operand: &Operand<'_>, extents: Vec<u64>| Access {
        place,
        ranks: operand.ranks.iter().map(|i| frame.affine(i)).collect(),
        extents,
    };
    let inputs = parsed.inputs.iter().zip(&read).enumerate();
    let class = class.unwrap_or_else(|| {
        let sums = |o: &Operand<'_>| o.ranks.iter().any(|i| i.terms.len() > 1);
        let weight = read.get(1).is_some_and(|t| r.b.graph.tensors[*t].role == Role::Weight);
        match () {
            () if contraction && sums(&parsed.output) => OpClass::ConvTranspose,
            () if contraction && parsed.inputs.iter().any(sums) => OpClass::Conv,
            () if contraction && weight => OpClass::Linear,
            () if contraction => OpClass::Matmul,
            () if moves => OpClass::Move,
            () if parsed.assign.is_some() => OpClass::Pool,
            () => OpClass::Elementwise,
        }
    });
    let kind = if moves {
        OpKind::Move { elements: crate::build::elements(&out_shape) }
    } else {
        OpKind::Cascade(vec![Einsum {
            inputs: inputs.map(|(i, (o, t))| access(Place::Input(i as u8), o, shape(t))).collect(),
            output: access(Place::Output(0), &parsed.output, out_shape.clone()),
            domain: domain.unwrap_or_default(),
            dims,
            map,
            reduce: parsed.assign.unwrap_or(ReduceOperator::Sum),
        }])
    };
    // The result takes its name when it is checked against its declaration.
    let out = r.b.tensor(op, &out_shape, Role::Activation);
    r.b.push_op(Op { name: op.into(), class, kind, inputs: read, outputs: vec![out], steps: 1 });
    Some(Lowered { name: parsed.output.tensor.into(), result: Ok::<_, GraphError>(Some(out)) })
}

/// Dimensions in order of appearance, with their sizes as far as known.
struct Frame<'t> {
    dims: Vec<(&'t str, Option<u64>)>,
    index: FxHashMap<&'t str, usize>,
}

impl<'t> Frame<'t> {
    fn add(&mut self, name: &'t str) {
        let next = self.dims.len();
        if *self.index.entry(name).or_insert(next) == next {
            self.dims.push((name, None));
        }
    }

    /// Gives a dimension that is an index by itself the extent of its rank, if it has no size.
    fn infer(&mut self, index: &Index<'t>, extent: u64) {
        if let ([(name, 1)], 0) = (index.terms.as_slice(), index.offset)
            && let Some(d) = self.index.get(name)
        {
            self.dims[*d].1.get_or_insert(extent);
        }
    }

    fn id(&self, name: &str) -> Option<DimId> {
        self.index.get(name).and_then(|d| u32::try_from(*d).ok()).map(DimId)
    }

    fn affine(&self, index: &Index<'t>) -> Affine {
        let terms = index.terms.iter().filter_map(|(name, c)| Some((self.id(name)?, *c)));
        Affine { terms: terms.collect(), offset: index.offset }
    }
}

/// Extent of a rank that holds all values of an index; `None` if some are negative.
fn span_of(frame: &Frame<'_>, index: &Index<'_>) -> Option<u64> {
    let (mut low, mut high) = (i128::from(index.offset), i128::from(index.offset));
    for (name, c) in &index.terms {
        let size = frame.index.get(name).and_then(|d| frame.dims.get(*d)?.1)?;
        let reach = i128::from(*c) * i128::from(size.checked_sub(1)?);
        low = low.saturating_add(reach.min(0));
        high = high.saturating_add(reach.max(0));
    }
    if low < 0 { None } else { u64::try_from(high.checked_add(1)?).ok() }
}

/// The domain that the keys `causal` and `banded` give.
fn domain<'a>(f: &Fields<'a>, frame: &Frame<'_>, masks: (Option<Fields<'a>>, Option<Fields<'a>>)) -> Option<Domain> {
    let (mask, banded) = match masks {
        (Some(_), Some(_)) => {
            f.problems().at(f.place(), "a domain is `causal` or `banded`, not both");
            return None;
        }
        (Some(mask), None) => (mask, false),
        (None, Some(mask)) => (mask, true),
        (None, None) => return None,
    };
    let dim = |key| {
        let (name, span): Text<'_> = mask.need_text(key)?;
        let id = frame.id(name);
        if id.is_none() {
            f.problems().unknown("dimension", name, span, frame.dims.iter().map(|d| d.0));
        }
        id
    };
    let (query, key, offset) = (dim("query"), dim("key"), mask.signed("offset", 0));
    let window = if banded { mask.need_number("window", 1) } else { None };
    mask.finish();
    let (query, key) = (query?, key?);
    if banded { Some(Domain::Banded { query, key, offset, window: window? }) } else { Some(Domain::Causal { query, key, offset }) }
}

/// Bytes of the source that a part of a string takes: exact if the string is written without escapes, else all
/// of the string.
fn within(source: &str, (text, span): &Text<'_>, part: Range<usize>) -> Range<usize> {
    let literal = source.get(span.clone()).unwrap_or("");
    let plain = literal.get(1..literal.len().saturating_sub(1)) == Some(*text);
    if !plain {
        return span.clone();
    }
    let start = span.start + 1;
    // An empty part is the end of the text: show the closing quote.
    start + part.start..start + part.end.max(part.start + 1)
}
