//! Groups that are the same as one that was looked at before: equal ops on tensors that are equal, at home in the same
//! places, with as much room, to be better than as much. Layers of a network repeat; what was found for one holds for all.

use std::cell::RefCell;

use presil_workloads::TensorId;
use rustc_hash::FxHashMap;

use super::axes::Group;
use super::choose::{Chosen, Price};
use super::plan::{Cut, Tiling, Way};
use super::price::{Priced, Pricing};

/// What was found for groups.
#[derive(Debug, Default)]
pub(super) struct Seen {
    by_key: RefCell<FxHashMap<Vec<u64>, Vec<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    group: Group,
    /// Stored tensors that its ops touch, in order.
    touched: Vec<usize>,
    found: Vec<(Cut, Way, Priced)>,
}

/// The figures of a group that what is found depends on, and the stored tensors that it touches.
pub(super) struct Question {
    key: Vec<u64>,
    touched: Vec<usize>,
}

impl Question {
    pub(super) fn of(pricing: &Pricing, group: &Group, than: Price, repeat: f64) -> Self {
        let scene = pricing.scene;
        let mut key = vec![
            than.time.to_bits(),
            than.energy.to_bits(),
            repeat.to_bits(),
            group.ops.len() as u64,
        ];
        let mut touched: Vec<usize> = Vec::new();
        for (member, id) in group.ops.iter().enumerate() {
            let op = &scene.graph.ops[*id];
            key.extend([op.steps, op.inputs.len() as u64]);
            for t in op.inputs.iter().chain(&op.outputs) {
                let stored = scene.stored(*t);
                let known = touched.iter().position(|x| *x == stored);
                let at = known.unwrap_or(touched.len());
                if known.is_none() {
                    touched.push(stored);
                }
                let home = pricing.residency.home[stored];
                let inner = group.inner.contains(&TensorId(stored as u32));
                key.extend([at as u64, u64::from(home.0), u64::from(inner)]);
                key.extend(&scene.graph.tensors[*t].shape);
            }
            let left = |node| pricing.left(group, node, member);
            key.extend(scene.chip.nodes.ids().map(left));
        }
        Self { key, touched }
    }
}

impl Seen {
    /// What was found for an equal group, as it is for this one.
    pub(super) fn find(
        &self,
        pricing: &Pricing,
        group: &Group,
        question: &Question,
    ) -> Option<Vec<Chosen>> {
        let by_key = self.by_key.borrow();
        let entries = by_key.get(&question.key)?;
        let entry = entries.iter().find(|e| same(pricing, &e.group, group))?;
        let here = |t: &TensorId| {
            let at = entry.touched.iter().position(|x| *x == t.0 as usize)?;
            Some(TensorId(*question.touched.get(at)? as u32))
        };
        let one = |(cut, way, priced): &(Cut, Way, Priced)| {
            let accumulate = pricing.options.accumulate;
            let held: Option<Vec<TensorId>> = way.held.iter().map(here).collect();
            Some(Chosen {
                group: group.clone(),
                tiling: Tiling::new(pricing.scene, group, cut, accumulate, true)?,
                way: Way {
                    held: held?,
                    ..way.clone()
                },
                priced: priced.clone(),
            })
        };
        entry.found.iter().map(one).collect()
    }

    pub(super) fn put(&self, group: &Group, question: Question, found: &[Chosen]) {
        let one = |c: &Chosen| (c.tiling.cut.clone(), c.way.clone(), c.priced.clone());
        let entry = Entry {
            group: group.clone(),
            touched: question.touched,
            found: found.iter().map(one).collect(),
        };
        let mut by_key = self.by_key.borrow_mut();
        by_key.entry(question.key).or_default().push(entry);
    }
}

/// Whether groups of equal figures have equal ops, run by the same engines, on tensors of equal kinds.
fn same(pricing: &Pricing, a: &Group, b: &Group) -> bool {
    let scene = pricing.scene;
    let index = |g: &Group, op| g.ops.iter().position(|x| *x == op);
    a.ops.iter().zip(&b.ops).all(|(x, y)| {
        let (one, other) = (&scene.graph.ops[*x], &scene.graph.ops[*y]);
        let (at, to) = (x.0 as usize, y.0 as usize);
        let tensors = |o: &presil_workloads::Op| {
            let all = o.inputs.iter().chain(&o.outputs);
            all.map(|t| {
                let t = &scene.graph.tensors[*t];
                (t.role, t.shared, t.quantization)
            })
            .collect::<Vec<_>>()
        };
        let into = |g: &Group, op: usize| scene.tails.into[op].and_then(|r| index(g, r));
        one.kind == other.kind
            && scene.choices[at] == scene.choices[to]
            && scene.tails.folded[at] == scene.tails.folded[to]
            && into(a, at) == into(b, to)
            && tensors(one) == tensors(other)
    })
}
