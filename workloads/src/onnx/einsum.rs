//! Einsum: a product of two operands, or sums and an order of one.

use crate::build::single;
use crate::einsum::{Access, Affine, Dim, DimId, Place};
use crate::expr::Expr;
use crate::op::OpClass;

use super::conv::contraction;
use super::import::Importer;
use super::lower::Lowered;
use super::node::Node;
use super::value::Value;

impl<'m> Importer<'m> {
    /// Einsum of one or two operands.
    pub fn einsum(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let operands: Vec<Value<'m>> = node.inputs.iter().flatten().cloned().collect();
        let shapes: Vec<&[u64]> = operands.iter().map(|v| &v.shape[..]).collect();
        let e = Equation::parse(node.text("equation"), &shapes)?;
        let dims: Vec<Dim> = e
            .sizes
            .iter()
            .map(|(name, size)| Dim {
                name: name.clone(),
                size: *size,
            })
            .collect();
        let access = |place, ranks: &[usize], own: Option<&[u64]>| Access {
            place,
            ranks: ranks
                .iter()
                .enumerate()
                .map(|(r, d)| match own {
                    // A broadcast rank of extent 1.
                    Some(own) if own[r] == 1 && e.sizes[*d].1 != 1 => Affine::zero(),
                    _ => Affine::dim(DimId(*d as u32)),
                })
                .collect(),
            extents: ranks
                .iter()
                .enumerate()
                .map(|(r, d)| own.map_or(e.sizes[*d].1, |o| o[r]))
                .collect(),
        };
        let shape: Vec<u64> = e.output.iter().map(|d| e.sizes[*d].1).collect();
        let dtype = node.input(0)?.dtype;
        let mut inputs: Vec<usize> = (0..operands.len()).collect();
        let fixed = operands.iter().map(Value::is_fixed).collect::<Vec<_>>();
        if fixed.first() == Some(&true) && fixed.get(1) == Some(&false) {
            inputs.reverse();
        }
        let mut tensors = Vec::new();
        let mut accesses = Vec::new();
        for (place, &i) in inputs.iter().enumerate() {
            tensors.push(self.operand(node, i)?);
            accesses.push(access(
                Place::Input(place as u8),
                &e.inputs[i],
                Some(shapes[i]),
            ));
        }
        let output = access(Place::Output(0), &e.output, None);
        match accesses.len() {
            2 => {
                let class = if fixed.contains(&true) { OpClass::Linear } else { OpClass::Matmul };
                let second = accesses.pop().ok_or("it has no operands")?;
                let first = accesses.pop().ok_or("it has no operands")?;
                let out = self.emit(node, "", class, single(contraction(dims, first, second, output)), tensors, &shape, dtype)?;
                let operands = [0, 1].map(|i| self.expr(node, inputs[i]));
                let value = self.contracted(&out, operands, None, 0);
                self.says(&out, value);
                Ok(vec![out])
            }
            1 => {
                let reduces = (0..dims.len()).any(|d| !e.output.contains(&d));
                let elements = shape.iter().product();
                let kind = if reduces {
                    single(super::lower::lanes(accesses, output, &dims, &[], crate::einsum::ReduceOperator::Sum))
                } else {
                    crate::op::OpKind::Move { elements }
                };
                let out = self.emit(node, "", if reduces { OpClass::Pool } else { OpClass::Move }, kind, tensors, &shape, dtype)?;
                let value = alone(&self.expr(node, 0), &e);
                self.says(&out, value.unwrap_or_else(|| Expr::unknown(&shape)));
                Ok(vec![out])
            }
            n => Err(format!("an Einsum of {n} operands; one or two are supported, so split it into products of two").into()),
        }
    }
}

/// The einsum of one operand: sums over the ranks that the result lacks, then the result's order. A diagonal has no
/// such form.
fn alone(x: &Expr, e: &Equation) -> Option<Expr> {
    let ranks = e.inputs.first()?;
    let at = |d: &usize| ranks.iter().position(|r| r == d);
    let distinct = ranks.iter().enumerate().all(|(i, d)| at(d) == Some(i));
    let axes: Vec<usize> = (0..ranks.len())
        .filter(|i| !e.output.contains(&ranks[*i]))
        .collect();
    let order: Option<Vec<usize>> = e.output.iter().map(at).collect();
    let order: Vec<usize> = order
        .filter(|_| distinct)?
        .into_iter()
        .chain(axes.iter().copied())
        .collect();
    let sums = if axes.is_empty() {
        x.clone()
    } else {
        x.reduce(crate::einsum::ReduceOperator::Sum, false, &axes)
    };
    let shape: Vec<u64> = e.output.iter().map(|d| e.sizes[*d].1).collect();
    Some(sums.transpose(&order).reshape(&shape))
}

/// A parsed einsum equation: dimensions by name, and which of them each operand has.
#[derive(Debug, PartialEq)]
struct Equation {
    sizes: Vec<(String, u64)>,
    inputs: Vec<Vec<usize>>,
    output: Vec<usize>,
}

impl Equation {
    fn parse(text: &str, shapes: &[&[u64]]) -> Result<Self, String> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match text.split_once("->") {
            Some((l, r)) => (l, Some(r)),
            None => (text.as_str(), None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != shapes.len() {
            return Err(format!(
                "equation `{text}` has {} operands, the node {}",
                terms.len(),
                shapes.len()
            ));
        }
        let mut sizes: Vec<(String, u64)> = Vec::new();
        let mut inputs = Vec::new();
        let mut counts: Vec<u32> = Vec::new();
        for (term, shape) in terms.iter().zip(shapes) {
            let labels = labels(term, Some(shape.len()))
                .ok_or_else(|| format!("`{term}` does not describe shape {shape:?}"))?;
            let mut ranks = Vec::new();
            for (label, &size) in labels.into_iter().zip(*shape) {
                let at = match sizes.iter().position(|(n, _)| *n == label) {
                    Some(at) => at,
                    None => {
                        sizes.push((label.clone(), size));
                        counts.push(0);
                        sizes.len() - 1
                    }
                };
                let known = &mut sizes[at].1;
                if *known != size && *known != 1 && size != 1 {
                    return Err(format!(
                        "`{label}` of `{text}` would be {known} and {size} at once"
                    ));
                }
                *known = (*known).max(size);
                counts[at] += 1;
                ranks.push(at);
            }
            inputs.push(ranks);
        }
        // `..` ranks count from the last one; the widest operand's go to the output.
        let spread = sizes.iter().filter(|(n, _)| n.starts_with('.')).count();
        let output = match right {
            Some(right) => {
                let named = right.replace("...", "").chars().count();
                let rank = named + if right.contains("...") { spread } else { 0 };
                let labels = labels(right, Some(rank))
                    .ok_or_else(|| format!("the result `{right}` is not understood"))?;
                let find = |l: &String| {
                    sizes
                        .iter()
                        .position(|(n, _)| n == l)
                        .ok_or_else(|| format!("`{l}` stands only in the result of `{text}`"))
                };
                labels.iter().map(find).collect::<Result<Vec<_>, _>>()?
            }
            None => {
                let mut once: Vec<usize> = (0..sizes.len())
                    .filter(|i| counts[*i] == 1 || sizes[*i].0.starts_with('.'))
                    .collect();
                once.sort_by(|a, b| {
                    let key = |i: usize| (!sizes[i].0.starts_with('.'), sizes[i].0.clone());
                    key(*a).cmp(&key(*b))
                });
                once
            }
        };
        let mut seen = output.clone();
        seen.sort_unstable();
        if seen.windows(2).any(|w| w[0] == w[1]) {
            return Err(format!("the result of `{text}` names a dimension twice"));
        }
        Ok(Self {
            sizes,
            inputs,
            output,
        })
    }
}

/// The labels of a term of some rank: letters, and `.k` for the k-th rank from the last that `...` stands for
/// (numbered so that they sort outermost first).
fn labels(term: &str, rank: Option<usize>) -> Option<Vec<String>> {
    let letter = |c: char| c.is_ascii_alphabetic().then(|| c.to_string());
    let Some((before, after)) = term.split_once("...") else {
        let all: Option<Vec<String>> = term.chars().map(letter).collect();
        return all.filter(|l| rank.is_none_or(|r| r == l.len()));
    };
    let (before, after): (Vec<char>, Vec<char>) =
        (before.chars().collect(), after.chars().collect());
    let spread = rank?.checked_sub(before.len() + after.len())?;
    let dots = (0..spread).map(|i| Some(format!(".{:02}", 99usize.checked_sub(spread - 1 - i)?)));
    before
        .iter()
        .map(|c| letter(*c))
        .chain(dots)
        .chain(after.iter().map(|c| letter(*c)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_read_with_and_without_a_result() {
        let e = Equation::parse("bhqd,bhkd->bhqk", &[&[2, 3, 4, 5], &[2, 3, 6, 5]]);
        let e = e.unwrap_or_else(|m| unreachable!("{m}"));
        let out: Vec<u64> = e.output.iter().map(|d| e.sizes[*d].1).collect();
        assert_eq!(out, [2, 3, 4, 6]);
        let e =
            Equation::parse("ij,jk", &[&[2, 3], &[3, 4]]).unwrap_or_else(|m| unreachable!("{m}"));
        assert_eq!(
            e.output.iter().map(|d| e.sizes[*d].1).collect::<Vec<_>>(),
            [2, 4]
        );
        let e = Equation::parse("...ij,...jk->...ik", &[&[7, 5, 2, 3], &[5, 3, 4]])
            .unwrap_or_else(|m| unreachable!("{m}"));
        assert_eq!(
            e.output.iter().map(|d| e.sizes[*d].1).collect::<Vec<_>>(),
            [7, 5, 2, 4]
        );
        for (bad, shapes) in [
            ("ij,jk->iz", vec![&[2u64, 3][..], &[3, 4]]),
            ("ij", vec![&[2, 3, 4]]),
            ("ij,jk->ik", vec![&[2, 3], &[4, 5]]),
            ("i?->i", vec![&[2, 3]]),
            ("ij,jk->ii", vec![&[2, 3], &[3, 4]]),
        ] {
            assert!(Equation::parse(bad, &shapes).is_err(), "{bad}");
        }
    }
}
