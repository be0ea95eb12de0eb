//! Convolutions and poolings over [n, h, w, c].

use presil_numerics::LanePrimitive as L;

use crate::build::{dims, lanes, plain, signed, single};
use crate::einsum::{
    Access, Affine, Dim, DimId, Domain, Einsum, MapOperator, Place, ReduceOperator,
};
use crate::op::{OpClass, OpKind};
use crate::tensor::TensorId;

use super::error::Fault;
use super::file::Operator;
use super::import::Importer;
use super::lower::Lowered;

/// How a window moves along one axis.
#[derive(Debug, Clone, Copy)]
struct Window {
    /// Positions.
    out: u64,
    /// Taps.
    taps: u64,
    stride: u64,
    dilation: u64,
    /// Padding in front.
    before: u64,
}

impl Window {
    /// A window over so many elements. With padding SAME there are ceil(size / stride) positions and the smaller half
    /// of the padding is in front.
    fn over(size: u64, taps: u64, stride: i32, dilation: i32, same: bool) -> Result<Self, Fault> {
        let positive = |what: &str, n: i32| match u64::try_from(n) {
            Ok(n) if n > 0 => Ok(n),
            _ => Err(Fault::from(format!(
                "its {what} is {n}; it must be at least 1"
            ))),
        };
        let (stride, dilation) = (positive("stride", stride)?, positive("dilation", dilation)?);
        let span = taps
            .checked_sub(1)
            .and_then(|t| t.checked_mul(dilation)?.checked_add(1))
            .ok_or("its filter has no taps, or too many")?;
        let (out, padding) = if same {
            let out = size.div_ceil(stride);
            let reach = out.saturating_sub(1).saturating_mul(stride);
            (out, reach.saturating_add(span).saturating_sub(size))
        } else {
            let room = size
                .checked_sub(span)
                .ok_or_else(|| format!("its filter spans {span} elements of an input of {size}"))?;
            (room / stride + 1, 0)
        };
        Ok(Self {
            out,
            taps,
            stride,
            dilation,
            before: padding / 2,
        })
    }

    /// The index `stride x position + dilation x tap - padding`.
    fn index(&self, position: u32, tap: u32) -> Affine {
        Affine {
            terms: vec![
                (DimId(position), signed(self.stride)),
                (DimId(tap), signed(self.dilation)),
            ],
            offset: -signed(self.before),
        }
    }
}

/// The padding of an operator's options: SAME (0) or VALID (1).
fn same(op: &Operator<'_>) -> Result<bool, Fault> {
    match op.byte(0)? {
        0 => Ok(true),
        1 => Ok(false),
        other => Err(format!("its padding scheme {other} is neither SAME nor VALID").into()),
    }
}

fn access(place: Place, ranks: Vec<Affine>, extents: &[u64]) -> Access {
    Access {
        place,
        ranks,
        extents: extents.to_vec(),
    }
}

fn dim(index: u32) -> Affine {
    Affine::dim(DimId(index))
}

fn multiply(dims: Vec<Dim>, inputs: Vec<Access>, output: Access) -> OpKind {
    single(Einsum {
        dims,
        inputs,
        output,
        map: MapOperator::MultiplyAccumulate,
        reduce: ReduceOperator::Sum,
        domain: Domain::Dense,
    })
}

impl<'a> Importer<'_, 'a> {
    /// CONV_2D: filters [k, r, s, c/g].
    pub(super) fn conv(&mut self, op: &Operator<'a>) -> Lowered {
        let (x, filter) = (self.operand(op, 0)?, self.operand(op, 1)?);
        let (&[n, h, w, channels], &[filters, r, s, c]) =
            (x.shape.as_slice(), filter.shape.as_slice())
        else {
            return Err("a convolution needs an input and filters of four ranks".into());
        };
        if c == 0 || filters == 0 || channels % c != 0 || filters % (channels / c).max(1) != 0 {
            return Err(format!(
                "{filters} filters of {c} channels do not fit an input of {channels} channels"
            )
            .into());
        }
        let groups = (channels / c).max(1);
        let same = same(op)?;
        let rows = Window::over(h, r, op.word(2, 0)?, op.word(5, 1)?, same)?;
        let columns = Window::over(w, s, op.word(1, 0)?, op.word(4, 1)?, same)?;
        let k = filters / groups;
        let all = frame(n, groups, k, c, &rows, &columns);
        let input = access(
            Place::Input(0),
            vec![
                dim(0),
                rows.index(4, 6),
                columns.index(5, 7),
                dim(1),
                dim(3),
            ],
            &[n, h, w, groups, c],
        );
        let weights = plain(Place::Input(1), &all, &[1, 2, 6, 7, 3]);
        let output = plain(Place::Output(0), &all, &[0, 4, 5, 1, 2]);
        let kind = multiply(all, vec![input, weights], output);
        self.convolved(op, kind, &[n, rows.out, columns.out, filters], 3)
    }

    /// DEPTHWISE_CONV_2D: filters [1, r, s, c x multiplier].
    pub(super) fn depthwise(&mut self, op: &Operator<'a>) -> Lowered {
        let (x, filter) = (self.operand(op, 0)?, self.operand(op, 1)?);
        let (&[n, h, w, c], &[1, r, s, filters]) = (x.shape.as_slice(), filter.shape.as_slice())
        else {
            return Err(
                "a depthwise convolution needs an input of four ranks and filters [1, r, s, k]"
                    .into(),
            );
        };
        if c == 0 || filters == 0 || filters % c != 0 {
            return Err(format!(
                "{filters} filters are no multiple of the {c} channels of its input"
            )
            .into());
        }
        let same = same(op)?;
        let rows = Window::over(h, r, op.word(2, 0)?, op.word(6, 1)?, same)?;
        let columns = Window::over(w, s, op.word(1, 0)?, op.word(5, 1)?, same)?;
        let all = frame(n, c, filters / c, 1, &rows, &columns);
        let input = access(
            Place::Input(0),
            vec![
                dim(0),
                rows.index(4, 6),
                columns.index(5, 7),
                dim(1),
                dim(3),
            ],
            &[n, h, w, c, 1],
        );
        let weights = plain(Place::Input(1), &all, &[6, 7, 1, 2]);
        let output = plain(Place::Output(0), &all, &[0, 4, 5, 1, 2]);
        let kind = multiply(all, vec![input, weights], output);
        self.convolved(op, kind, &[n, rows.out, columns.out, filters], 4)
    }

    fn convolved(
        &mut self,
        op: &Operator<'a>,
        kind: OpKind,
        shape: &[u64],
        activation: usize,
    ) -> Lowered {
        let mut inputs = vec![self.input(op, 0)?, self.input(op, 1)?];
        inputs.extend(self.optional(op, 2)?);
        let name = self.result(op, 0)?.name.clone();
        let out = self
            .builder
            .push(&name, OpClass::Conv, kind, &inputs, shape);
        self.activated(op, op.byte(activation)?, out)
    }

    /// TRANSPOSE_CONV: inputs are the output's shape, filters [k, r, s, c], the input and perhaps a bias. Each input
    /// scatters a filter into the output.
    pub(super) fn transpose_conv(&mut self, op: &Operator<'a>) -> Lowered {
        let (filter, x) = (self.operand(op, 1)?, self.operand(op, 2)?);
        let shape = self.result(op, 0)?.shape.clone();
        let (&[k, r, s, c], &[n, h, w, channels], &[_, p, q, _]) = (
            filter.shape.as_slice(),
            x.shape.as_slice(),
            shape.as_slice(),
        ) else {
            return Err("a transposed convolution needs operands of four ranks".into());
        };
        if c != channels {
            return Err(format!("filters of {c} channels do not fit {channels} channels").into());
        }
        // The transposed convolution of a convolution from [p, q] to [h, w].
        let same = same(op)?;
        let rows = Window::over(p, r, op.word(2, 0)?, 1, same)?;
        let columns = Window::over(q, s, op.word(1, 0)?, 1, same)?;
        if (rows.out, columns.out) != (h, w) {
            return Err(format!(
                "an output of {p} x {q} belongs to an input of {} x {}, not {h} x {w}",
                rows.out, columns.out
            )
            .into());
        }
        let all = frame(n, 1, k, c, &rows, &columns);
        let input = plain(Place::Input(0), &all, &[0, 4, 5, 3]);
        let weights = plain(Place::Input(1), &all, &[2, 6, 7, 3]);
        let output = access(
            Place::Output(0),
            vec![dim(0), rows.index(4, 6), columns.index(5, 7), dim(2)],
            &[n, p, q, k],
        );
        let kind = multiply(all, vec![input, weights], output);
        let mut inputs = vec![self.input(op, 2)?, self.input(op, 1)?];
        inputs.extend(self.optional(op, 3)?);
        let name = self.result(op, 0)?.name.clone();
        let class = OpClass::ConvTranspose;
        let out = self
            .builder
            .push(&name, class, kind, &inputs, &[n, p, q, k]);
        self.activated(op, op.byte(3)?, out)
    }

    /// AVERAGE_POOL_2D, MAX_POOL_2D, L2_POOL_2D.
    pub(super) fn pool(&mut self, op: &Operator<'a>) -> Lowered {
        let &[n, h, w, c] = self.operand(op, 0)?.shape.as_slice() else {
            return Err("a pooling needs an input of four ranks".into());
        };
        let taps = |n: i32| u64::try_from(n).map_err(|_| Fault::from("its window is negative"));
        let same = same(op)?;
        let rows = Window::over(h, taps(op.word(4, 0)?)?, op.word(2, 0)?, 1, same)?;
        let columns = Window::over(w, taps(op.word(3, 0)?)?, op.word(1, 0)?, 1, same)?;
        let all = dims(&[
            ("n", n),
            ("c", c),
            ("p", rows.out),
            ("q", columns.out),
            ("r", rows.taps),
            ("s", columns.taps),
        ]);
        let input = access(
            Place::Input(0),
            vec![dim(0), rows.index(2, 4), columns.index(3, 5), dim(1)],
            &[n, h, w, c],
        );
        let made = |place| plain(place, &all, &[0, 2, 3, 1]);
        let cascade = if op.name == "MAX_POOL_2D" {
            let reduce = ReduceOperator::Max;
            vec![lanes(
                vec![input],
                made(Place::Output(0)),
                &all,
                &[],
                reduce,
            )]
        } else {
            let (square, last): (&[L], &[L]) = match op.name.as_str() {
                "L2_POOL_2D" => (&[L::Mul], &[L::Mul, L::Rsqrt, L::Mul]),
                _ => (&[], &[L::Mul]),
            };
            let each = dims(&[("n", n), ("p", rows.out), ("q", columns.out), ("c", c)]);
            let of = |place| plain(place, &each, &[0, 1, 2, 3]);
            let sum = ReduceOperator::Sum;
            vec![
                lanes(vec![input], made(Place::Local(0)), &all, square, sum),
                lanes(
                    vec![of(Place::Local(0))],
                    of(Place::Output(0)),
                    &each,
                    last,
                    sum,
                ),
            ]
        };
        let x = self.input(op, 0)?;
        let name = self.result(op, 0)?.name.clone();
        let shape = [n, rows.out, columns.out, c];
        let kind = OpKind::Cascade(cascade);
        let out = self.builder.push(&name, OpClass::Pool, kind, &[x], &shape);
        self.activated(op, op.byte(5)?, out)
    }

    /// An output, with the activation that an operator's options name behind it.
    pub(super) fn activated(&mut self, op: &Operator<'a>, code: u8, out: TensorId) -> Lowered {
        use crate::build::Function as F;
        let f = match code {
            0 => return Ok(vec![out]),
            1 => F::Relu,
            2 | 3 => F::Clip,
            4 => F::Tanh,
            5 => F::Sign,
            _ => {
                return Err(
                    format!("it fuses an activation {code} that presil does not know").into(),
                );
            }
        };
        // What passes between the two has the format of the result.
        let quantization = self.result(op, 0)?.quantization();
        let tensor = &mut self.builder.graph.tensors[out];
        tensor.quantization = quantization;
        tensor.name.push_str("/sum");
        let name = format!("{}/activation", self.result(op, 0)?.name);
        let activated = self.builder.function(&name, out, f)?;
        self.builder.graph.tensors[activated].name = self.result(op, 0)?.name.clone();
        Ok(vec![activated])
    }
}

/// Dimensions of a convolution: n, g, k, c, p, q, r, s.
fn frame(n: u64, g: u64, k: u64, c: u64, rows: &Window, columns: &Window) -> Vec<Dim> {
    dims(&[
        ("n", n),
        ("g", g),
        ("k", k),
        ("c", c),
        ("p", rows.out),
        ("q", columns.out),
        ("r", rows.taps),
        ("s", columns.taps),
    ])
}
