//! What runs on vector units: arithmetic, functions, reductions, softmax, norms, resizing.

use presil_numerics::LanePrimitive as L;

use crate::build::{Function as F, NormKind, dims, lanes, plain};
use crate::einsum::{Place, ReduceOperator};
use crate::op::{OpClass, OpKind};

use super::error::Fault;
use super::file::Operator;
use super::import::Importer;
use super::lower::Lowered;

/// An axis, counted from the end where it is negative.
pub(super) fn axis(value: i64, ranks: usize) -> Result<usize, Fault> {
    let from_end = if value < 0 {
        value.saturating_add(ranks as i64)
    } else {
        value
    };
    match usize::try_from(from_end) {
        Ok(axis) if axis < ranks => Ok(axis),
        _ => Err(format!("axis {value} of {ranks} ranks does not exist").into()),
    }
}

impl<'a> Importer<'_, 'a> {
    /// A function of each element of its first input.
    pub(super) fn function(&mut self, op: &Operator<'a>, f: F) -> Lowered {
        let x = self.input(op, 0)?;
        let name = self.result(op, 0)?.name.clone();
        Ok(vec![self.builder.function(&name, x, f)?])
    }

    /// A program over each element of its inputs, which may broadcast; then the activation that a field names.
    pub(super) fn each(
        &mut self,
        op: &Operator<'a>,
        inputs: usize,
        program: &[L],
        activation: Option<usize>,
    ) -> Lowered {
        let ids = (0..inputs)
            .map(|i| self.input(op, i))
            .collect::<Result<Vec<_>, _>>()?;
        let name = self.result(op, 0)?.name.clone();
        let class = OpClass::Elementwise;
        let out = self.builder.elementwise(&name, class, &ids, program)?;
        match activation {
            Some(field) => self.activated(op, op.byte(field)?, out),
            None => Ok(vec![out]),
        }
    }

    /// ADD_N.
    pub(super) fn add_all(&mut self, op: &Operator<'a>) -> Lowered {
        let program = vec![L::Add; op.inputs.len().saturating_sub(1).max(1)];
        self.each(op, op.inputs.len(), &program, None)
    }

    /// QUANTIZE, DEQUANTIZE, CAST.
    pub(super) fn convert(&mut self, op: &Operator<'a>) -> Lowered {
        let x = self.input(op, 0)?;
        let name = self.result(op, 0)?.name.clone();
        let class = OpClass::Quantize;
        Ok(vec![self.builder.elementwise(
            &name,
            class,
            &[x],
            &[L::Convert],
        )?])
    }

    /// SOFTMAX and LOG_SOFTMAX over the last axis.
    pub(super) fn softmax(&mut self, op: &Operator<'a>) -> Lowered {
        let x = self.input(op, 0)?;
        let ranks = self.builder.shape(x).len();
        let last = ranks.checked_sub(1).ok_or("a softmax needs an axis")?;
        let name = self.result(op, 0)?.name.clone();
        let out = self.builder.softmax(&name, x, last)?;
        if op.name == "SOFTMAX" {
            return Ok(vec![out]);
        }
        self.builder.graph.tensors[out].name.push_str("/softmax");
        let log = self.builder.function(&format!("{name}/log"), out, F::Log)?;
        Ok(vec![log])
    }

    /// L2_NORMALIZATION over the last axis.
    pub(super) fn l2_norm(&mut self, op: &Operator<'a>) -> Lowered {
        let x = self.input(op, 0)?;
        let ranks = self.builder.shape(x).len();
        let name = self.result(op, 0)?.name.clone();
        let over = ranks.saturating_sub(1)..ranks;
        let kind = NormKind::Rms;
        Ok(vec![self.builder.norm_with(&name, &[x], kind, over)?])
    }

    /// MEAN, SUM, REDUCE_MAX and the like over constant axes.
    pub(super) fn reduce(
        &mut self,
        op: &Operator<'a>,
        operator: ReduceOperator,
        mean: bool,
    ) -> Lowered {
        let shape = self.operand(op, 0)?.shape.clone();
        let mut over = vec![false; shape.len()];
        for value in self.known(op, 1)? {
            over[axis(value, shape.len())?] = true;
        }
        let keep = op.byte(0)? != 0;
        let named: Vec<String> = (0..shape.len()).map(|r| format!("x{r}")).collect();
        let pairs = |kept: bool| {
            let all = named.iter().zip(&shape).zip(&over);
            all.filter(move |(_, o)| !kept || !**o)
                .map(|((n, d), _)| (n.as_str(), *d))
                .collect::<Vec<_>>()
        };
        let (all, rows) = (dims(&pairs(false)), dims(&pairs(true)));
        let every: Vec<u32> = (0..shape.len() as u32).collect();
        let kept: Vec<u32> = every
            .iter()
            .copied()
            .filter(|r| !over[*r as usize])
            .collect();
        let each: Vec<u32> = (0..rows.len() as u32).collect();
        let input = plain(Place::Input(0), &all, &every);
        let cascade = if mean {
            let sums = plain(Place::Local(0), &all, &kept);
            let of = |place| plain(place, &rows, &each);
            vec![
                lanes(vec![input], sums, &all, &[], operator),
                lanes(
                    vec![of(Place::Local(0))],
                    of(Place::Output(0)),
                    &rows,
                    &[L::Mul],
                    ReduceOperator::Sum,
                ),
            ]
        } else {
            let made = plain(Place::Output(0), &all, &kept);
            vec![lanes(vec![input], made, &all, &[], operator)]
        };
        let out: Vec<u64> = shape
            .iter()
            .zip(&over)
            .filter_map(|(d, o)| match (o, keep) {
                (false, _) => Some(*d),
                (true, true) => Some(1),
                (true, false) => None,
            })
            .collect();
        let x = self.input(op, 0)?;
        let name = self.result(op, 0)?.name.clone();
        let kind = OpKind::Cascade(cascade);
        Ok(vec![self.builder.push(
            &name,
            OpClass::Pool,
            kind,
            &[x],
            &out,
        )])
    }

    /// RESIZE_BILINEAR: three interpolations for each element of the result.
    pub(super) fn bilinear(&mut self, op: &Operator<'a>) -> Lowered {
        let out = self.result(op, 0)?.shape.clone();
        let from = self.operand(op, 0)?.shape.clone();
        let (&[n, _, _, c], &[on, _, _, oc]) = (from.as_slice(), out.as_slice()) else {
            return Err("resizing needs four ranks".into());
        };
        if (n, c) != (on, oc) {
            return Err("resizing keeps batch and channels".into());
        }
        // The input is read as a whole; which of its elements an output needs is fixed by the ratio.
        let x = self.input(op, 0)?;
        let name = self.result(op, 0)?.name.clone();
        let all = dims(&[("n", n), ("p", out[1]), ("q", out[2]), ("c", c)]);
        let every = [0, 1, 2, 3];
        let mut input = plain(Place::Input(0), &all, &every);
        let larger = |to: u64, from: u64| to > from;
        for (rank, (to, from)) in out.iter().zip(&from).enumerate() {
            if larger(*to, *from) {
                // Neighbouring outputs share an input: on average one element is read for each of the input's.
                input.ranks[rank] = crate::einsum::Affine::zero();
            }
            input.extents[rank] = *from;
        }
        let made = plain(Place::Output(0), &all, &every);
        let program = [L::Fma, L::Fma, L::Fma];
        let einsum = lanes(vec![input], made, &all, &program, ReduceOperator::Sum);
        let kind = OpKind::Cascade(vec![einsum]);
        let class = OpClass::Elementwise;
        Ok(vec![self.builder.push(&name, class, kind, &[x], &out)])
    }
}
