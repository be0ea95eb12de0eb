//! Einsums of the file, made into ops.

use std::ops::Range;

use presil_numerics::{Diagnostic, LanePrimitive};
use rustc_hash::FxHashMap;

use crate::einsum::{
    Access, Affine, Dim, DimId, Domain, Einsum, MapOperator, Place, ReduceOperator,
};
use crate::expression::{self, Expression, Index, Join, Operand};
use crate::meaning::Meaning;
use crate::op::{Op, OpClass, OpKind};
use crate::tensor::{Role, TensorId};

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
            f.problems().unknown(
                "lane primitive",
                word,
                span,
                LanePrimitive::ALL.map(LanePrimitive::name),
            );
        }
        found
    });
    let read: Vec<Option<LanePrimitive>> = read.collect();
    read.into_iter().collect()
}

/// An einsum of the file whose text and operands are known.
struct Stated<'a> {
    text: Text<'a>,
    parsed: Expression<'a>,
    frame: Frame<'a>,
    program: Option<Vec<LanePrimitive>>,
    class: Option<OpClass>,
    domain: Option<Domain>,
}

/// Makes an op of the key `einsum`. `None` if there is no text; other problems are recorded.
pub(super) fn einsum<'a>(r: &mut Reader<'a>, f: &Fields<'a>) -> Option<Lowered> {
    let before = f.problems().count();
    let text = f.text("einsum");
    let name = f.text("name");
    let sizes = f.table("dims").map(|d| d.sizes()).unwrap_or_default();
    let program = if f.has("lanes") { lanes(f) } else { None };
    let class = if f.has("class") {
        f.choice("class", CLASSES, None)
    } else {
        None
    };
    let masks = (f.table("causal"), f.table("banded"));
    let text = text?;
    let wrong = |output: &str| {
        Some(Lowered {
            name: output.into(),
            result: Ok(None),
        })
    };
    let parsed = match expression::parse(text.0) {
        Ok(parsed) => parsed,
        Err((span, message)) => {
            f.problems().at(within(r.source, &text, span), message);
            return wrong(text.0.split('[').next().unwrap_or("").trim());
        }
    };
    let output = parsed.output.tensor;
    let read: Vec<Option<TensorId>> = parsed
        .inputs
        .iter()
        .map(|i| r.read((i.tensor, within(r.source, &text, i.span.clone()))))
        .collect();
    let mut frame = Frame::of(&parsed);
    for (name, size, span) in sizes {
        match frame.index.get(name) {
            Some(d) => frame.dims[*d].1 = Some(size),
            None => f
                .problems()
                .unknown("dimension", name, span, frame.dims.iter().map(|d| d.0)),
        }
    }
    let domain = domain(f, &frame, masks);
    let Some(read) = read.into_iter().collect::<Option<Vec<TensorId>>>() else {
        return if f.problems().count() == before {
            r.broken(output.into())
        } else {
            wrong(output)
        };
    };
    let mut stated = Stated {
        text,
        parsed,
        frame,
        program,
        class,
        domain,
    };
    let shape = stated.shapes(r, f, &read);
    stated.check(f);
    let Some(shape) = shape.filter(|_| f.problems().count() == before) else {
        return wrong(output);
    };
    let meaning = stated.meaning(&shape);
    let (class, kind) = stated.kind(r, &read, &shape);
    // The result takes its own name when it is checked against its declaration.
    let op = name.map_or(output, |n| n.0);
    let out = r.b.tensor(op, &shape, Role::Activation);
    r.b.push_op(Op {
        name: op.into(),
        class,
        kind,
        inputs: read,
        outputs: vec![out],
        steps: 1,
        meaning,
    });
    Some(Lowered {
        name: output.into(),
        result: Ok(Some(out)),
    })
}

impl<'a> Stated<'a> {
    /// Sizes of all dimensions, from tensors that have one as an index by itself where the file gives none; then
    /// the shape of the result.
    fn shapes(&mut self, r: &Reader<'a>, f: &Fields<'a>, read: &[TensorId]) -> Option<Vec<u64>> {
        let declared = match r.names.get(self.parsed.output.tensor) {
            Some(Named::Declared(i)) => r.declared.get(*i).map(|d| d.shape.as_slice()),
            _ => None,
        };
        let shapes = std::iter::once(declared).chain(read.iter().map(|t| Some(r.b.shape(*t))));
        for (operand, shape) in self.parsed.operands().zip(shapes) {
            let Some(shape) = shape else { continue };
            if shape.len() != operand.ranks.len() {
                let message = format!(
                    "`{}` has the shape {shape:?}, but {} indices",
                    operand.tensor,
                    operand.ranks.len()
                );
                f.problems()
                    .at(within(r.source, &self.text, operand.span.clone()), message);
            }
            for (index, extent) in operand.indices().zip(shape) {
                self.frame.infer(index, *extent);
            }
        }
        let mut known = true;
        for (name, _) in self.frame.dims.iter().filter(|(_, size)| size.is_none()) {
            let d = Diagnostic::at(
                self.text.1.clone(),
                format!("dimension `{name}` has no size"),
            );
            f.problems()
                .add(d.help(format!("add `dims = {{ {name} = 8 }}`")));
            known = false;
        }
        if let Some(declared) = declared {
            return Some(declared.to_vec());
        }
        let output = &self.parsed.output;
        let spanned: Option<Vec<u64>> = output.indices().map(|i| self.frame.extent(i)).collect();
        if spanned.is_none() && known {
            let span = within(r.source, &self.text, output.span.clone());
            let d = Diagnostic::at(
                span,
                "the indices of the result start below 0, or do not fit 64 bits",
            );
            f.problems().add(d.help(format!(
                "declare its shape: `[[tensor]]` with name = \"{}\"",
                output.tensor
            )));
        }
        spanned
    }

    /// Rules that need no sizes.
    fn check(&self, f: &Fields<'a>) {
        let Self {
            parsed,
            frame,
            text,
            ..
        } = self;
        let wrong = |message: String, help: &str| {
            let d = Diagnostic::at(text.1.clone(), message);
            f.problems()
                .add(if help.is_empty() { d } else { d.help(help) });
        };
        if frame.dims.len() > DIMENSIONS || parsed.inputs.len() > usize::from(u8::MAX) {
            wrong(
                format!(
                    "an einsum has at most {DIMENSIONS} dimensions and {} inputs",
                    u8::MAX
                ),
                "",
            );
        }
        let kept = |name: &str| {
            let mut indices = parsed.output.indices();
            indices.any(|i| i.terms.iter().any(|(t, _)| *t == name))
        };
        let reduced: Vec<&str> = frame
            .dims
            .iter()
            .take(DIMENSIONS)
            .map(|d| d.0)
            .filter(|n| !kept(n))
            .collect();
        if parsed.assign.0.is_none() && !reduced.is_empty() {
            let message = format!(
                "the result does not name {}, over which nothing reduces",
                reduced.join(", ")
            );
            wrong(message, "write `+=`, `max=`, `min=` or `*=` instead of `=`");
        }
        if parsed.joins.iter().any(|(j, _)| *j == Join::Comma) && !f.has("lanes") {
            wrong(
                "inputs that are joined by `,` need a program".into(),
                "add `lanes = [\"fma\"]`, say",
            );
        }
        if parsed.assign.0.is_none() && self.program.as_ref().is_some_and(Vec::is_empty) {
            wrong(
                "nothing is free: `lanes` names at least one primitive where nothing is reduced"
                    .into(),
                "",
            );
        }
    }

    /// What the text alone says: sums of products. Lane programs and movements leave it open.
    fn meaning(&self, shape: &[u64]) -> Meaning {
        if self.is_contraction() {
            Meaning::Contraction {
                bias_rank: shape.len(),
            }
        } else {
            Meaning::Unstated
        }
    }

    /// A MAC at each point.
    fn is_contraction(&self) -> bool {
        self.program.is_none()
            && self.parsed.assign.0 == Some(ReduceOperator::Sum)
            && matches!(self.parsed.joins.as_slice(), [(Join::Times, _)])
    }

    /// One input, moved.
    fn is_move(&self) -> bool {
        self.program.is_none() && self.parsed.assign.0.is_none() && self.parsed.inputs.len() == 1
    }

    fn kind(self, r: &Reader<'a>, read: &[TensorId], shape: &[u64]) -> (OpClass, OpKind) {
        let class = self.class.unwrap_or_else(|| self.usual_class(r, read));
        if self.is_move() {
            return (
                class,
                OpKind::Move {
                    elements: crate::build::elements(shape),
                },
            );
        }
        let step = |(j, _): &(Join, Range<usize>)| {
            if *j == Join::Times {
                LanePrimitive::Mul
            } else {
                LanePrimitive::Add
            }
        };
        let map = match &self.program {
            _ if self.is_contraction() => MapOperator::MultiplyAccumulate,
            Some(program) => MapOperator::Lanes(program.clone()),
            None => MapOperator::Lanes(self.parsed.joins.iter().map(step).collect()),
        };
        let access = |place: Place, operand: &Operand<'_>, extents: &[u64]| Access {
            place,
            ranks: operand.indices().map(|i| self.frame.affine(i)).collect(),
            extents: extents.to_vec(),
        };
        // At most 255 inputs: checked.
        let inputs = (0u8..=u8::MAX).zip(self.parsed.inputs.iter().zip(read));
        let einsum = Einsum {
            inputs: inputs
                .map(|(i, (o, t))| access(Place::Input(i), o, r.b.shape(*t)))
                .collect(),
            output: access(Place::Output(0), &self.parsed.output, shape),
            dims: self
                .frame
                .dims
                .iter()
                .map(|(n, s)| Dim {
                    name: (*n).into(),
                    size: s.unwrap_or(1),
                })
                .collect(),
            map,
            reduce: self.parsed.assign.0.unwrap_or(ReduceOperator::Sum),
            domain: self.domain.unwrap_or_default(),
        };
        (class, OpKind::Cascade(vec![einsum]))
    }

    /// The class in reports, from the form: sums in an index make a convolution.
    fn usual_class(&self, r: &Reader<'a>, read: &[TensorId]) -> OpClass {
        let sums = |o: &Operand<'_>| o.indices().any(|i| i.terms.len() > 1);
        if self.is_contraction() {
            let weight = read
                .get(1)
                .is_some_and(|t| r.b.graph.tensors[*t].role == Role::Weight);
            return match (
                sums(&self.parsed.output),
                self.parsed.inputs.iter().any(sums),
                weight,
            ) {
                (true, _, _) => OpClass::ConvTranspose,
                (_, true, _) => OpClass::Conv,
                (_, _, true) => OpClass::Linear,
                _ => OpClass::Matmul,
            };
        }
        match self.parsed.assign.0 {
            Some(_) => OpClass::Pool,
            None if self.is_move() => OpClass::Move,
            None => OpClass::Elementwise,
        }
    }
}

/// Dimensions in order of appearance, with their sizes as far as known.
struct Frame<'t> {
    dims: Vec<(&'t str, Option<u64>)>,
    index: FxHashMap<&'t str, usize>,
}

impl<'t> Frame<'t> {
    fn of(text: &Expression<'t>) -> Self {
        let mut frame = Self {
            dims: Vec::new(),
            index: FxHashMap::default(),
        };
        for (name, _) in text
            .operands()
            .flat_map(Operand::indices)
            .flat_map(|i| &i.terms)
        {
            let next = frame.dims.len();
            if *frame.index.entry(name).or_insert(next) == next {
                frame.dims.push((name, None));
            }
        }
        frame
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
        self.index
            .get(name)
            .and_then(|d| u32::try_from(*d).ok())
            .map(DimId)
    }

    fn affine(&self, index: &Index<'t>) -> Affine {
        let terms = index
            .terms
            .iter()
            .filter_map(|(name, c)| Some((self.id(name)?, *c)));
        Affine {
            terms: terms.collect(),
            offset: index.offset,
        }
    }

    /// Extent of a rank that holds all values of an index; `None` if some are negative or a size is unknown.
    fn extent(&self, index: &Index<'t>) -> Option<u64> {
        let (mut low, mut high) = (i128::from(index.offset), i128::from(index.offset));
        for (name, c) in &index.terms {
            let size = self.index.get(name).and_then(|d| self.dims.get(*d)?.1)?;
            let reach = i128::from(*c) * i128::from(size.checked_sub(1)?);
            low = low.saturating_add(reach.min(0));
            high = high.saturating_add(reach.max(0));
        }
        if low < 0 {
            None
        } else {
            u64::try_from(high.checked_add(1)?).ok()
        }
    }
}

/// The domain that the keys `causal` and `banded` give.
fn domain<'a>(
    f: &Fields<'a>,
    frame: &Frame<'_>,
    masks: (Option<Fields<'a>>, Option<Fields<'a>>),
) -> Option<Domain> {
    let (mask, banded) = match masks {
        (Some(_), Some(_)) => {
            f.problems()
                .at(f.place(), "a domain is `causal` or `banded`, not both");
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
            f.problems()
                .unknown("dimension", name, span, frame.dims.iter().map(|d| d.0));
        }
        id
    };
    let (query, key, offset) = (dim("query"), dim("key"), mask.signed("offset", 0));
    let window = if banded {
        mask.need_number("window", 1)
    } else {
        None
    };
    mask.finish();
    let (query, key) = (query?, key?);
    if banded {
        Some(Domain::Banded {
            query,
            key,
            offset,
            window: window?,
        })
    } else {
        Some(Domain::Causal { query, key, offset })
    }
}

/// Bytes of the source that a part of a string takes: exact if the string is written without escapes, else all
/// of the string.
pub(super) fn within(source: &str, (text, span): &Text<'_>, part: Range<usize>) -> Range<usize> {
    let literal = source.get(span.clone()).unwrap_or("");
    let plain = literal.get(1..literal.len().saturating_sub(1)) == Some(*text);
    if !plain {
        return span.clone();
    }
    let start = span.start + 1;
    // An empty part is the end of the text: show the closing quote.
    start + part.start..start + part.end.max(part.start + 1)
}
