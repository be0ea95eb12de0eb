//! Views, moves and look-ups.

use crate::op::{Op, OpClass, OpKind};
use crate::tensor::{Role, TensorId};

use super::file::Operator;
use super::import::Importer;
use super::lower::Lowered;
use super::vector::axis;

impl<'a> Importer<'_, 'a> {
    /// RESHAPE, SQUEEZE, EXPAND_DIMS: the file states the result's shape.
    pub(super) fn view(&mut self, op: &Operator<'a>) -> Lowered {
        let stored = self.result(op, 0)?;
        let x = self.input(op, 0)?;
        Ok(vec![self.builder.reshape(
            &stored.name,
            x,
            &stored.shape,
        )?])
    }

    /// One input, moved into a result whose shape the file states; of as many elements where it is a permutation.
    pub(super) fn moved(&mut self, op: &Operator<'a>, data: usize, permutes: bool) -> Lowered {
        let stored = self.result(op, 0)?;
        let from = self.operand(op, data)?;
        if permutes && from.elements() != stored.elements() {
            return Err(format!(
                "{:?} has not as many elements as {:?}",
                from.shape, stored.shape
            )
            .into());
        }
        let x = self.input(op, data)?;
        Ok(vec![self.builder.copy(&stored.name, &[x], &stored.shape)])
    }

    /// CONCATENATION.
    pub(super) fn concat(&mut self, op: &Operator<'a>) -> Lowered {
        let stored = self.result(op, 0)?;
        let inputs = (0..op.inputs.len())
            .map(|i| self.input(op, i))
            .collect::<Result<Vec<TensorId>, _>>()?;
        let along = axis(i64::from(op.word(0, 0)?), stored.shape.len())?;
        let out = self.builder.concat(&stored.name, &inputs, along)?;
        self.activated(op, op.byte(1)?, out)
    }

    /// PACK: the inputs one after the other along a new axis.
    pub(super) fn pack(&mut self, op: &Operator<'a>) -> Lowered {
        let stored = self.result(op, 0)?;
        let inputs = (0..op.inputs.len())
            .map(|i| self.input(op, i))
            .collect::<Result<Vec<TensorId>, _>>()?;
        let elements: u64 = inputs
            .iter()
            .map(|t| self.builder.shape(*t).iter().product::<u64>())
            .fold(0, u64::saturating_add);
        if elements != stored.elements() {
            return Err(format!("its inputs have {elements} elements in all").into());
        }
        Ok(vec![self.builder.copy(
            &stored.name,
            &inputs,
            &stored.shape,
        )])
    }

    /// SPLIT, SPLIT_V, UNPACK: each result is a part of the data input.
    pub(super) fn parts(&mut self, op: &Operator<'a>, data: usize) -> Lowered {
        let x = self.input(op, data)?;
        let mut made = Vec::new();
        let mut elements = 0u64;
        for i in 0..op.outputs.len() {
            let stored = self.result(op, i)?;
            elements = elements.saturating_add(stored.elements());
            made.push(self.builder.copy(&stored.name, &[x], &stored.shape));
        }
        let whole: u64 = self.builder.shape(x).iter().product();
        if elements != whole {
            return Err(format!("its results have {elements} elements of {whole}").into());
        }
        Ok(made)
    }

    /// GATHER and EMBEDDING_LOOKUP: rows of a table at places that the data give.
    pub(super) fn gather(&mut self, op: &Operator<'a>, table: usize, places: usize) -> Lowered {
        let stored = self.result(op, 0)?;
        let along = if op.name == "GATHER" {
            axis(
                i64::from(op.word(0, 0)?),
                self.operand(op, table)?.shape.len(),
            )?
        } else {
            0
        };
        let row: u64 = self.operand(op, table)?.shape[along + 1..].iter().product();
        let inputs = [self.input(op, table)?, self.input(op, places)?];
        let rows = stored.elements().checked_div(row).unwrap_or(0);
        let kind = OpKind::Gather {
            rows,
            row_elements: row,
        };
        let class = OpClass::Gather;
        Ok(vec![self.builder.push(
            &stored.name,
            class,
            kind,
            &inputs,
            &stored.shape,
        )])
    }

    /// ARG_MAX, ARG_MIN, TOPK_V2: every element is compared once.
    pub(super) fn select(&mut self, op: &Operator<'a>) -> Lowered {
        let x = self.input(op, 0)?;
        let candidates = self.operand(op, 0)?.elements();
        let mut outputs = Vec::new();
        for i in 0..op.outputs.len() {
            let stored = self.result(op, i)?;
            let out = self
                .builder
                .tensor(stored.name.clone(), &stored.shape, Role::Activation);
            outputs.push(out);
        }
        let name = self.result(op, 0)?.name.clone();
        self.builder.push_op(Op {
            name,
            class: OpClass::Select,
            kind: OpKind::Select {
                candidates,
                comparisons: candidates,
            },
            inputs: vec![x],
            outputs: outputs.clone(),
            steps: 1,
            meaning: crate::Meaning::Unstated,
        });
        Ok(outputs)
    }

    /// SHAPE and FILL: results that no data input decides.
    pub(super) fn fill(&mut self, op: &Operator<'a>) -> Lowered {
        let stored = self.result(op, 0)?;
        Ok(vec![self.builder.copy(&stored.name, &[], &stored.shape)])
    }
}
