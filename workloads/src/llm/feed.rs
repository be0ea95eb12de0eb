//! Feed-forward networks: dense ones and mixtures of experts.

use presil_numerics::LanePrimitive::{Add, Mul, Reciprocal};

use super::config::{Mlp, Moe, Scoring};
use super::pass::Maker;
use crate::build::{Builder, Experts, Function, dims, plain, single};
use crate::einsum::{Domain, Einsum, MapOperator, Place, ReduceOperator};
use crate::graph::GraphError;
use crate::meaning::Meaning;
use crate::op::{Op, OpClass, OpKind};
use crate::tensor::{Role, TensorId};

impl Maker<'_> {
    /// A dense feed-forward network.
    pub fn mlp(&mut self, p: &str, x: TensorId, m: &Mlp) -> Result<TensorId, GraphError> {
        let name = |part: &str| format!("{p}.{part}");
        let branches = if m.gated && m.fused {
            let both = self
                .b
                .linear(&name("gate_up_proj"), x, 2 * m.intermediate, m.bias)?;
            let shape = self.shape(&[m.intermediate]);
            let inner = m.intermediate;
            let part =
                |b: &mut Builder, part, start| b.part(&name(part), both, 2, [start, inner], &shape);
            vec![
                part(&mut self.b, "gate", 0)?,
                part(&mut self.b, "up", inner)?,
            ]
        } else if m.gated {
            let gate = self
                .b
                .linear(&name("gate_proj"), x, m.intermediate, m.bias)?;
            vec![
                gate,
                self.b.linear(&name("up_proj"), x, m.intermediate, m.bias)?,
            ]
        } else {
            vec![self.b.linear(&name("up_proj"), x, m.intermediate, m.bias)?]
        };
        let program = m.activation.program(m.gated);
        let inner = self
            .b
            .elementwise(&name("act"), OpClass::Activation, &branches, &program)?;
        if let Some(formula) = m.activation.formula(m.gated) {
            self.b.means(Meaning::Elementwise(formula));
        }
        self.b
            .linear(&name("down_proj"), inner, self.config.hidden, m.bias)
    }

    /// A mixture of experts.
    pub fn experts(&mut self, p: &str, x: TensorId, m: &Moe) -> Result<TensorId, GraphError> {
        let name = |part: &str| format!("{p}.{part}");
        let hidden = self.config.hidden;
        let (weights, indices) = self.route(p, x, m)?;
        let rows = self.batch * self.tokens * m.top_k;
        let sorted = self
            .b
            .copy(&name("experts.dispatch"), &[x, indices], &[rows, hidden]);
        let expert = Experts {
            experts: m.experts,
            rows,
            distinct: self.distinct(m)?,
            in_features: hidden,
            out_features: 2 * m.expert.intermediate,
        };
        let inner = m.expert.intermediate;
        let both = self.expert_linear(
            &name("experts.gate_up_proj"),
            sorted,
            &expert,
            m.expert.bias,
        )?;
        let gate = self.b.view(&name("experts.gate"), both, &[rows, inner]);
        let up = self.b.view(&name("experts.up"), both, &[rows, inner]);
        let program = m.expert.activation.program(true);
        let act = self.b.elementwise(
            &name("experts.act"),
            OpClass::Activation,
            &[gate, up],
            &program,
        )?;
        let expert = Experts {
            in_features: inner,
            out_features: hidden,
            ..expert
        };
        let out = self.expert_linear(&name("experts.down_proj"), act, &expert, m.expert.bias)?;
        let out = self.combine(&name("experts.combine"), out, weights, m.top_k);
        let Some(shared) = &m.shared else {
            return Ok(out);
        };
        let mut extra = self.mlp(&name("shared_experts"), x, shared)?;
        if m.shared_gate {
            let gate = self.b.linear(&name("shared_expert_gate"), x, 1, false)?;
            let gate = self
                .b
                .function(&name("shared_expert_gate_act"), gate, Function::Sigmoid)?;
            extra = self.b.mul(&name("shared_expert_scale"), extra, gate)?;
        }
        self.b.add(&name("shared_add"), out, extra)
    }

    /// Weights and indices [batch, tokens, top_k] of the experts that tokens use.
    fn route(&mut self, p: &str, x: TensorId, m: &Moe) -> Result<(TensorId, TensorId), GraphError> {
        let name = |part: &str| format!("{p}.{part}");
        let logits = self
            .b
            .linear(&name("router"), x, m.experts, m.router_bias)?;
        let scores = match m.scoring {
            Scoring::Softmax => vec![self.b.softmax(&name("router_softmax"), logits, 2)?],
            Scoring::SoftmaxChosen => vec![logits],
            Scoring::Sigmoid => {
                let scores = self
                    .b
                    .function(&name("router_sigmoid"), logits, Function::Sigmoid)?;
                let bias = self.b.tensor(
                    name("router.e_score_correction_bias"),
                    &[m.experts],
                    Role::Constant,
                );
                vec![
                    scores,
                    self.b.elementwise(
                        &name("router_correction"),
                        OpClass::Elementwise,
                        &[scores, bias],
                        &[Add],
                    )?,
                ]
            }
        };
        let tokens = self.batch * self.tokens;
        let shape = self.shape(&[m.top_k]);
        let mut weights = self
            .b
            .tensor(name("router_weights"), &shape, Role::Activation);
        let indices = self
            .b
            .tensor(name("router_indices"), &shape, Role::Activation);
        let (candidates, comparisons) = (tokens * m.experts, choice(m).saturating_mul(tokens));
        self.b.push_op(Op {
            name: name("router_top_k"),
            class: OpClass::Select,
            kind: OpKind::Select {
                candidates,
                comparisons,
            },
            inputs: scores,
            outputs: vec![weights, indices],
            steps: 1,
            meaning: Meaning::Unstated,
        });
        if m.scoring == Scoring::SoftmaxChosen {
            weights = self.b.softmax(&name("router_softmax"), weights, 2)?;
        }
        if m.renormalize {
            let sum = self.b.reduce(
                &name("router_sum"),
                weights,
                2..3,
                ReduceOperator::Sum,
                false,
                true,
            )?;
            let program = [Reciprocal, Mul];
            weights = self.b.elementwise(
                &name("router_normalize"),
                OpClass::Elementwise,
                &[weights, sum],
                &program,
            )?;
        }
        Ok((weights, indices))
    }

    fn expert_linear(
        &mut self,
        name: &str,
        x: TensorId,
        e: &Experts,
        bias: bool,
    ) -> Result<TensorId, GraphError> {
        let weight = self.b.weight(
            format!("{name}.weight"),
            &[e.experts, e.out_features, e.in_features],
        );
        let bias = bias.then(|| {
            self.b
                .weight(format!("{name}.bias"), &[e.experts, e.out_features])
        });
        let out = self.b.experts_with(name, x, weight, e)?;
        if let Some(op) = self.b.last_op() {
            op.inputs.extend(bias);
        }
        Ok(out)
    }

    /// Sums each token's rows by their weights.
    fn combine(&mut self, name: &str, rows: TensorId, weights: TensorId, top_k: u64) -> TensorId {
        let hidden = self.config.hidden;
        let dims = dims(&[("m", self.batch * self.tokens), ("e", top_k), ("n", hidden)]);
        let einsum = Einsum {
            inputs: vec![
                plain(Place::Input(0), &dims, &[0, 1, 2]),
                plain(Place::Input(1), &dims, &[0, 1]),
            ],
            output: plain(Place::Output(0), &dims, &[0, 2]),
            dims,
            map: MapOperator::Lanes(vec![Mul]),
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
        };
        let shape = self.shape(&[hidden]);
        self.b.push(
            name,
            OpClass::Elementwise,
            single(einsum),
            &[rows, weights],
            &shape,
        )
    }
}

/// Expected comparisons of a token's choice. Of `n` candidates in random order, each is compared with the least
/// of the best `k` so far, and the ones that enter, `k + k (H_n - H_k)` expected, with `log2 k` others. With
/// groups: the two best of each group, then the groups, then the chosen groups' experts.
fn choice(m: &Moe) -> u64 {
    let top = |n: u64, k: u64| n as f64 + entering(n, k) * (k as f64).log2().ceil();
    let comparisons = match m.groups {
        None => top(m.experts, m.top_k),
        Some((groups, chosen)) => {
            let (groups, size) = (groups.max(1), m.experts / groups.max(1));
            groups as f64 * top(size, size.min(2))
                + top(groups, chosen.min(groups))
                + top(chosen.saturating_mul(size), m.top_k)
        }
    };
    comparisons.round() as u64
}

/// Of `n` candidates in random order, how many are expected to be among the best `k` so far when they come.
fn entering(n: u64, k: u64) -> f64 {
    (1..=n).map(|i| (k as f64 / i as f64).min(1.0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permutations(items: Vec<u64>) -> Vec<Vec<u64>> {
        if items.is_empty() {
            return vec![items];
        }
        let one = |i: usize| {
            let mut rest = items.clone();
            let first = rest.remove(i);
            permutations(rest)
                .into_iter()
                .map(move |p| [vec![first], p].concat())
                .collect::<Vec<_>>()
        };
        (0..items.len()).flat_map(one).collect()
    }

    #[test]
    fn entering_candidates_equal_an_enumeration() {
        for k in 1..=4 {
            let all = permutations((0..6).collect());
            let enters = |p: &[u64]| {
                let among = |i: &usize| p[..*i].iter().filter(|other| **other > p[*i]).count() < k;
                (0..p.len()).filter(among).count() as f64
            };
            let mean = all.iter().map(|p| enters(p)).sum::<f64>() / all.len() as f64;
            assert!((entering(6, k as u64) - mean).abs() < 1e-12, "{k}");
        }
    }
}
