//! What runs on vector units: activations, arithmetic, softmax, norms. Each is a cascade of einsums
//! whose map operator is a program of lane primitives.

use presil_numerics::LanePrimitive::{self as L, *};
use presil_numerics::function::Function as F;

use crate::einsum::{Access, Affine, DimId, Domain, Einsum, MapOperator, Place, ReduceOperator};
use crate::formula::{Binary, Formula, Unary};
use crate::graph::GraphError;
use crate::meaning::{Meaning, Parameters};
use crate::op::{OpClass, OpKind};
use crate::tensor::TensorId;

use super::{Builder, dims, elements, plain, single};

/// A function of one element. The lane programs evaluate exp and log in base 2 (one multiplication by log2 e
/// folded in) and sigmoid, tanh and SiLU through exp2 and a reciprocal, as vector units do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// max(x, 0).
    Relu,
    /// min(max(x, low), high).
    Clip,
    /// x where positive, a multiple of x elsewhere.
    LeakyRelu,
    /// 1 / (1 + 2^(-x log2 e)).
    Sigmoid,
    /// 2 sigmoid(2x) - 1.
    Tanh,
    /// x sigmoid(x).
    Silu,
    /// x/2 (1 + erf(x / sqrt 2)), erf by table.
    Gelu,
    /// The tanh form of GELU.
    GeluTanh,
    /// x sigmoid(1.702 x).
    QuickGelu,
    /// clip(x/6 + 1/2, 0, 1).
    HardSigmoid,
    /// x hardsigmoid(x).
    HardSwish,
    /// exp x.
    Exp,
    /// ln x.
    Log,
    /// sqrt x.
    Sqrt,
    /// 1/sqrt(x).
    Rsqrt,
    /// 1/x.
    Reciprocal,
    /// erf x.
    Erf,
    /// ln(1 + e^x).
    Softplus,
    /// x^2.
    Square,
    /// |x|, -x, sign and the like: one step each.
    Sign,
    /// x^y.
    Power,
    /// sin x or cos x.
    Trigonometric,
    /// Rounding or conversion.
    Convert,
    /// Comparison or selection.
    Compare,
}

impl Function {
    /// The class of an op that applies it to each element.
    pub fn class(self) -> OpClass {
        match self {
            Self::Convert => OpClass::Quantize,
            Self::Square
            | Self::Sign
            | Self::Power
            | Self::Compare
            | Self::Sqrt
            | Self::Rsqrt
            | Self::Reciprocal => OpClass::Elementwise,
            _ => OpClass::Activation,
        }
    }

    /// What it computes, where its name says all of it.
    pub fn formula(self) -> Option<Formula> {
        let f = match self {
            Self::Relu => Unary::Relu,
            Self::Sigmoid => Unary::Of(F::Sigmoid),
            Self::Tanh => Unary::Of(F::Tanh),
            Self::Silu => Unary::Of(F::Silu),
            Self::Gelu => Unary::Of(F::Gelu),
            Self::GeluTanh => Unary::Of(F::GeluTanh),
            Self::QuickGelu => {
                let gate = Formula::input().with(Binary::Multiply, 1.702);
                let gate = gate.then(Unary::Of(F::Sigmoid));
                return Some(gate.with_input(Binary::Multiply, 0));
            }
            Self::HardSigmoid => Unary::Of(F::HardSigmoid),
            Self::HardSwish => Unary::Of(F::HardSwish),
            Self::Exp => Unary::Of(F::Exp),
            Self::Log => Unary::Of(F::Log),
            Self::Sqrt => Unary::Of(F::Sqrt),
            Self::Rsqrt => Unary::Of(F::Rsqrt),
            Self::Reciprocal => Unary::Of(F::Reciprocal),
            Self::Erf => Unary::Of(F::Erf),
            Self::Softplus => Unary::Of(F::Softplus),
            Self::Square => Unary::Square,
            Self::Clip
            | Self::LeakyRelu
            | Self::Sign
            | Self::Power
            | Self::Trigonometric
            | Self::Convert
            | Self::Compare => return None,
        };
        Some(Formula::of(f))
    }

    /// Its lane program for one element.
    pub fn program(self) -> &'static [L] {
        match self {
            Self::Relu | Self::Sign => &[Max],
            Self::Clip => &[Max, Max],
            Self::LeakyRelu => &[Mul, Max],
            Self::Sigmoid => &[Mul, Exp2, Add, Reciprocal],
            Self::Tanh => &[Mul, Exp2, Add, Reciprocal, Fma],
            Self::Silu | Self::QuickGelu => &[Mul, Exp2, Add, Reciprocal, Mul],
            Self::Gelu => &[Mul, Lookup, Fma, Mul],
            Self::GeluTanh => &[Mul, Fma, Mul, Exp2, Add, Reciprocal, Mul],
            Self::HardSigmoid => &[Fma, Max, Max],
            Self::HardSwish => &[Fma, Max, Max, Mul],
            Self::Exp => &[Mul, Exp2],
            Self::Log => &[Log2, Mul],
            Self::Sqrt => &[Rsqrt, Mul],
            Self::Rsqrt => &[Rsqrt],
            Self::Reciprocal => &[Reciprocal],
            Self::Erf | Self::Trigonometric => &[Lookup],
            Self::Softplus => &[Mul, Exp2, Add, Log2, Mul],
            Self::Square => &[Mul],
            Self::Power => &[Log2, Mul, Exp2],
            Self::Convert => &[Convert],
            Self::Compare => &[Compare],
        }
    }
}

/// A norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Mean and variance over the normalized ranks.
    Layer,
    /// Mean square over the normalized ranks.
    Rms,
}

/// What norms add to the variance unless told otherwise.
const EPSILON: f64 = 1e-5;

/// An einsum of lane primitives.
pub(crate) fn lanes(
    inputs: Vec<Access>,
    output: Access,
    all: &[crate::Dim],
    program: &[L],
    reduce: ReduceOperator,
) -> Einsum {
    let map = MapOperator::Lanes(program.to_vec());
    Einsum {
        dims: all.to_vec(),
        inputs,
        output,
        map,
        reduce,
        domain: Domain::Dense,
    }
}

impl Builder {
    /// A function of each element of `x`.
    pub fn function(
        &mut self,
        name: &str,
        x: TensorId,
        f: Function,
    ) -> Result<TensorId, GraphError> {
        let out = self.elementwise(name, f.class(), &[x], f.program())?;
        if let Some(formula) = f.formula() {
            self.means(Meaning::Elementwise(formula));
        }
        Ok(out)
    }

    /// A lane program over each element of the inputs, which may broadcast (each rank equal to the output's or
    /// 1, missing outer ranks are 1). The output has the broadcast shape.
    pub fn elementwise(
        &mut self,
        name: &str,
        class: OpClass,
        inputs: &[TensorId],
        program: &[L],
    ) -> Result<TensorId, GraphError> {
        if inputs.len() > usize::from(u8::MAX) {
            return Err(Self::shape_error(
                name,
                format!("{} inputs are more than an op can have", inputs.len()),
            ));
        }
        let rank = inputs
            .iter()
            .map(|t| self.shape(*t).len())
            .max()
            .unwrap_or(0);
        let mut shape = vec![1u64; rank];
        for t in inputs {
            let own = self.shape(*t);
            for (out, &d) in shape[rank - own.len()..].iter_mut().zip(own) {
                if *out != d && d != 1 && *out != 1 {
                    let shapes: Vec<_> = inputs.iter().map(|t| self.shape(*t).to_vec()).collect();
                    return Err(Self::shape_error(
                        name,
                        format!("shapes {shapes:?} do not broadcast"),
                    ));
                }
                // 1 against 0 broadcasts to 0, as everywhere.
                *out = if *out == 1 { d } else { *out };
            }
        }
        let sizes: Vec<(String, u64)> = shape
            .iter()
            .enumerate()
            .map(|(i, d)| (format!("x{i}"), *d))
            .collect();
        let named: Vec<(&str, u64)> = sizes.iter().map(|(n, d)| (n.as_str(), *d)).collect();
        let all = dims(&named);
        let accesses = inputs.iter().enumerate().map(|(i, t)| {
            let own = self.shape(*t);
            let ranks = own
                .iter()
                .enumerate()
                .map(|(r, d)| match (*d, rank - own.len() + r) {
                    (1, _) => Affine::zero(),
                    (_, dim) => Affine::dim(DimId(dim as u32)),
                });
            Access {
                place: Place::Input(i as u8),
                ranks: ranks.collect(),
                extents: own.to_vec(),
            }
        });
        let accesses: Vec<Access> = accesses.collect();
        let every: Vec<u32> = (0..rank as u32).collect();
        let einsum = lanes(
            accesses,
            plain(Place::Output(0), &all, &every),
            &all,
            program,
            ReduceOperator::Sum,
        );
        Ok(self.push(name, class, single(einsum), inputs, &shape))
    }

    /// The sum of two tensors.
    pub fn add(&mut self, name: &str, a: TensorId, b: TensorId) -> Result<TensorId, GraphError> {
        let out = self.elementwise(name, OpClass::Elementwise, &[a, b], &[L::Add])?;
        self.means(Meaning::Elementwise(Formula::of_two(Binary::Add)));
        Ok(out)
    }

    /// The product of two tensors.
    pub fn mul(&mut self, name: &str, a: TensorId, b: TensorId) -> Result<TensorId, GraphError> {
        let out = self.elementwise(name, OpClass::Elementwise, &[a, b], &[L::Mul])?;
        self.means(Meaning::Elementwise(Formula::of_two(Binary::Multiply)));
        Ok(out)
    }

    /// Batch norm of `x` [n, c, ..] at inference: one multiply-add for each element, with scale and shift made as
    /// weights (the running statistics are folded into them and are no parameters).
    pub fn batch_norm(&mut self, name: &str, x: TensorId) -> Result<TensorId, GraphError> {
        let channels = self.shape(x).get(1).copied().unwrap_or(1);
        let mut shape = vec![1; self.shape(x).len().saturating_sub(1).max(1)];
        shape[0] = channels;
        let scale = self.weight(format!("{name}.weight"), &shape);
        let shift = self.weight(format!("{name}.bias"), &shape);
        let out = self.elementwise(name, OpClass::Norm, &[x, scale, shift], &[L::Fma])?;
        let folded = Formula::of_two(Binary::Multiply).with_input(Binary::Add, 2);
        self.means(Meaning::Elementwise(folded));
        Ok(out)
    }

    /// Softmax over an axis.
    pub fn softmax(
        &mut self,
        name: &str,
        x: TensorId,
        axis: usize,
    ) -> Result<TensorId, GraphError> {
        let shape = self.shape(x).to_vec();
        let [outer, k, inner] = self.around(name, &shape, axis, axis + 1)?;
        let all = dims(&[("x", outer), ("k", k), ("y", inner)]);
        let row = |place| plain(place, &all, &[0, 2]);
        let full = |place| plain(place, &all, &[0, 1, 2]);
        let rows = dims(&[("x", outer), ("y", inner)]);
        let each = |place| plain(place, &rows, &[0, 1]);
        let cascade = vec![
            lanes(
                vec![full(Place::Input(0))],
                row(Place::Local(0)),
                &all,
                &[],
                ReduceOperator::Max,
            ),
            lanes(
                vec![full(Place::Input(0)), row(Place::Local(0))],
                full(Place::Local(1)),
                &all,
                &[L::Fma, L::Exp2],
                ReduceOperator::Sum,
            ),
            lanes(
                vec![full(Place::Local(1))],
                row(Place::Local(2)),
                &all,
                &[],
                ReduceOperator::Sum,
            ),
            lanes(
                vec![each(Place::Local(2))],
                each(Place::Local(3)),
                &rows,
                &[L::Reciprocal],
                ReduceOperator::Sum,
            ),
            lanes(
                vec![full(Place::Local(1)), row(Place::Local(3))],
                full(Place::Output(0)),
                &all,
                &[L::Mul],
                ReduceOperator::Sum,
            ),
        ];
        let out = self.push(
            name,
            OpClass::Softmax,
            OpKind::Cascade(cascade),
            &[x],
            &shape,
        );
        self.means(Meaning::Softmax {
            axis,
            scale: 1.0,
            log: false,
        });
        Ok(out)
    }

    /// A layer or RMS norm over the last rank, with scale (and shift for `bias`) made as weights if `affine`.
    pub fn norm(
        &mut self,
        name: &str,
        x: TensorId,
        kind: NormKind,
        affine: bool,
        bias: bool,
    ) -> Result<TensorId, GraphError> {
        let rank = self.shape(x).len();
        let width = self.shape(x).last().copied().unwrap_or(1);
        let mut inputs = vec![x];
        if affine {
            inputs.push(self.weight(format!("{name}.weight"), &[width]));
        }
        if bias {
            inputs.push(self.weight(format!("{name}.bias"), &[width]));
        }
        self.norm_with(name, &inputs, kind, rank.saturating_sub(1)..rank)
    }

    /// A norm of `inputs[0]` over a range of ranks, with scale and shift as further inputs (whole or broadcast
    /// along the normalized ranks; their reads are counted, their arithmetic is in the program).
    pub fn norm_with(
        &mut self,
        name: &str,
        inputs: &[TensorId],
        kind: NormKind,
        over: std::ops::Range<usize>,
    ) -> Result<TensorId, GraphError> {
        let Some(shape) = inputs.first().map(|x| self.shape(*x).to_vec()) else {
            return Err(Self::shape_error(name, "a norm needs an input"));
        };
        let [outer, k, inner] = self.around(name, &shape, over.start, over.end)?;
        let all = dims(&[("x", outer), ("k", k), ("y", inner)]);
        let rows = dims(&[("x", outer), ("y", inner)]);
        let row = |place| plain(place, &all, &[0, 2]);
        let full = |place| plain(place, &all, &[0, 1, 2]);
        let each = |place| plain(place, &rows, &[0, 1]);
        let sum = ReduceOperator::Sum;
        // Scale and shift: one multiplication and one addition where they exist, fused into the last step.
        let apply: &[L] = match (kind, inputs.len()) {
            (NormKind::Rms, 1) => &[L::Mul],
            (NormKind::Rms, _) => &[L::Mul, L::Mul],
            (NormKind::Layer, 1) => &[L::Add, L::Mul],
            (NormKind::Layer, 2) => &[L::Add, L::Mul, L::Mul],
            (NormKind::Layer, _) => &[L::Add, L::Mul, L::Fma],
        };
        let cascade = match kind {
            NormKind::Rms => vec![
                lanes(
                    vec![full(Place::Input(0))],
                    row(Place::Local(0)),
                    &all,
                    &[L::Mul],
                    sum,
                ),
                lanes(
                    vec![each(Place::Local(0))],
                    each(Place::Local(1)),
                    &rows,
                    &[L::Fma, L::Rsqrt],
                    sum,
                ),
                lanes(
                    vec![full(Place::Input(0)), row(Place::Local(1))],
                    full(Place::Output(0)),
                    &all,
                    apply,
                    sum,
                ),
            ],
            NormKind::Layer => vec![
                lanes(
                    vec![full(Place::Input(0))],
                    row(Place::Local(0)),
                    &all,
                    &[],
                    sum,
                ),
                lanes(
                    vec![each(Place::Local(0))],
                    each(Place::Local(1)),
                    &rows,
                    &[L::Mul],
                    sum,
                ),
                lanes(
                    vec![full(Place::Input(0)), row(Place::Local(1))],
                    row(Place::Local(2)),
                    &all,
                    &[L::Add, L::Mul],
                    sum,
                ),
                lanes(
                    vec![each(Place::Local(2))],
                    each(Place::Local(3)),
                    &rows,
                    &[L::Fma, L::Rsqrt],
                    sum,
                ),
                lanes(
                    vec![
                        full(Place::Input(0)),
                        row(Place::Local(1)),
                        row(Place::Local(3)),
                    ],
                    full(Place::Output(0)),
                    &all,
                    apply,
                    sum,
                ),
            ],
        };
        let out = self.push(
            name,
            OpClass::Norm,
            OpKind::Cascade(cascade),
            inputs,
            &shape,
        );
        self.means(Meaning::Norm {
            kind,
            epsilon: EPSILON,
            parameters: Parameters::Row,
        });
        Ok(out)
    }

    /// A group norm of `x` [n, c, ..] in `groups`, with scale and shift made as weights. Groups normalize
    /// contiguous runs, so the cascade is a layer norm over [n x groups, c/groups x rest].
    pub fn group_norm(
        &mut self,
        name: &str,
        x: TensorId,
        groups: u64,
    ) -> Result<TensorId, GraphError> {
        let shape = self.shape(x).to_vec();
        let (Some(&n), Some(&c)) = (shape.first(), shape.get(1)) else {
            return Err(Self::shape_error(
                name,
                format!("a group norm needs two ranks or more, not {shape:?}"),
            ));
        };
        if groups == 0 || c % groups != 0 {
            return Err(Self::shape_error(
                name,
                format!("{c} channels must be divisible by {groups} groups"),
            ));
        }
        let scale = self.weight(format!("{name}.weight"), &[c]);
        let shift = self.weight(format!("{name}.bias"), &[c]);
        let rows = n.saturating_mul(groups);
        let view = [rows, elements(&shape) / rows.max(1)];
        // Build over the view, then give the output its real shape.
        let seen = self.graph.tensors[x].shape.clone();
        self.graph.tensors[x].shape = view.to_vec();
        let out = self.norm_with(name, &[x, scale, shift], NormKind::Layer, 1..2);
        self.graph.tensors[x].shape = seen;
        let out = out?;
        self.graph.tensors[out].shape = shape;
        self.means(Meaning::Norm {
            kind: NormKind::Layer,
            epsilon: EPSILON,
            parameters: Parameters::Channels,
        });
        Ok(out)
    }

    /// The epsilon of the norm that was pushed last.
    pub fn with_epsilon(&mut self, value: f64) {
        if let Some(Meaning::Norm { epsilon, .. }) = self.last_op().map(|op| &mut op.meaning) {
            *epsilon = value;
        }
    }

    /// Products of the extents before, within and after a range of ranks.
    pub(super) fn around(
        &self,
        name: &str,
        shape: &[u64],
        start: usize,
        end: usize,
    ) -> Result<[u64; 3], GraphError> {
        if start > end || end > shape.len() {
            return Err(Self::shape_error(
                name,
                format!("axis out of range for shape {shape:?}"),
            ));
        }
        let product = |part: &[u64]| {
            part.iter()
                .try_fold(1u64, |n, &d| n.checked_mul(d))
                .filter(|n| *n > 0)
        };
        match (
            product(&shape[..start]),
            product(&shape[start..end]),
            product(&shape[end..]),
        ) {
            (Some(a), Some(b), Some(c)) => Ok([a, b, c]),
            _ => Err(Self::shape_error(
                name,
                format!("shape {shape:?} is empty or too large"),
            )),
        }
    }
}

/// Splits dimension 0 ("x", rows x queries) of a row-wise cascade into rows and queries, so that a mask over
/// (query, key) applies: dims become x, m (query), k (key), y.
pub(super) fn split_rows(einsums: &mut [Einsum], rows: u64, queries: u64, domain: Domain) {
    for e in einsums {
        let with_keys = e.dims.iter().any(|d| d.name == "k");
        let shift = |d: DimId| if d.0 == 0 { d } else { DimId(d.0 + 1) };
        for a in e.inputs.iter_mut().chain(std::iter::once(&mut e.output)) {
            for r in &mut a.ranks {
                for (d, _) in &mut r.terms {
                    *d = shift(*d);
                }
            }
            a.ranks.insert(1, Affine::dim(DimId(1)));
            a.extents[0] = rows;
            a.extents.insert(1, queries);
        }
        e.dims[0].size = rows;
        e.dims.insert(
            1,
            crate::Dim {
                name: "m".into(),
                size: queries,
            },
        );
        if with_keys {
            e.domain = domain.clone();
        }
    }
}
