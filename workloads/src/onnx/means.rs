//! What nodes compute: values as steps from tensors, and the meanings of ops that follow.
//!
//! Lowering says what a node costs; beside it each function says what the node's outputs are, as an [`Expr`] of its
//! inputs. What can't be said leaves the op unstated, and execution names it.

use crate::expr::{self, Expr};
use crate::formula::Binary;
use crate::meaning::Meaning;
use crate::tensor::TensorId;

use super::import::Importer;
use super::node::Node;
use super::value::{FOLDED_ELEMENTS, Known, Value};

impl<'m> Importer<'m> {
    /// What an input is; nothing that can be said where it is left out.
    pub fn expr(&self, node: &Node<'m>, i: usize) -> Expr {
        let Some(value) = node.optional(i) else {
            return Expr::unknown(&[]);
        };
        // A constant may have become a tensor since the node's inputs were looked up.
        let name = node.proto.input.get(i).map_or("", String::as_str);
        match (&value.expr, value.tensor) {
            (None, None) => match self.find(name).and_then(|v| v.tensor) {
                Some(t) => self.seen(t, &value.shape),
                None => self.what(value),
            },
            _ => self.what(value),
        }
    }

    /// What an input is, where it is given.
    pub fn given(&self, node: &Node<'m>, i: usize) -> Option<Expr> {
        node.optional(i).map(|_| self.expr(node, i))
    }

    /// What a value is.
    pub fn what(&self, value: &Value<'m>) -> Expr {
        match (&value.expr, value.tensor) {
            (Some(expr), _) => expr.clone(),
            (None, Some(t)) => self.seen(t, &value.shape),
            (None, None) => match value.data() {
                Some(data) => Expr::constant(&value.shape, data.floats()),
                None => Expr::unknown(&value.shape),
            },
        }
    }

    fn seen(&self, tensor: TensorId, shape: &[u64]) -> Expr {
        Expr::tensor(tensor, &self.builder.graph.tensors[tensor].shape).reshape(shape)
    }

    /// Says what the last op makes of a value's tensor.
    pub fn says(&mut self, value: &Value<'m>, expr: Expr) {
        if let Some(t) = value.tensor {
            self.says_all(vec![(t, expr)]);
        }
    }

    /// Says what the last op makes of tensors.
    pub fn says_all(&mut self, gives: Vec<(TensorId, Expr)>) {
        if let Some(op) = self.builder.last_op() {
            op.meaning = expr::meaning(&op.inputs, &gives);
        }
    }

    /// Says that another op gives what the last one's outputs hold.
    pub fn elsewhere(&mut self) {
        self.builder.means(Meaning::Elsewhere);
    }

    /// Says what the only output of a lowered node is.
    pub fn meaning_of(&mut self, out: &[Value<'m>], expr: Expr) {
        if let [one, ..] = out {
            self.says(one, expr);
        }
    }

    /// Notes the elements of a tensor that a value is.
    pub fn states(&mut self, tensor: TensorId, value: &Value<'m>) {
        match &value.known {
            Known::All(data) if data.len() as u64 <= FOLDED_ELEMENTS => {
                self.builder.graph.constants.insert(tensor, data.floats());
            }
            Known::Stored(proto) => self.stored.push((tensor, proto)),
            _ => {}
        }
    }

    /// The product of the op's contraction, of what its operands and its bias are.
    pub fn contracted(
        &mut self,
        value: &Value<'m>,
        operands: [Expr; 2],
        bias: Option<Expr>,
        bias_rank: usize,
    ) -> Expr {
        let mut all: Vec<&Expr> = operands.iter().collect();
        all.extend(&bias);
        let meaning = Meaning::Contraction { bias_rank };
        Expr::step(meaning, &all, value.shape.clone())
    }

    /// The exact sums of the op's contraction of integers less their zero points.
    pub fn integer_sums(&self, value: &Value<'m>, operands: [(Expr, Option<Expr>); 2]) -> Expr {
        let [a, b] = operands.map(|(x, zero)| match zero {
            Some(z) => x.binary(Binary::Subtract, &z),
            None => x,
        });
        Expr::step(Meaning::IntegerContraction, &[&a, &b], value.shape.clone())
    }
}
