#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use presil_numerics::{Format, Quantization};
use presil_workloads::Graph;
use presil_workloads::build::{Builder, Function};
use proptest::prelude::*;

fn alone(graph: &Graph) -> Tails {
    let n = graph.ops.len();
    Tails {
        into: vec![None; n],
        tail: vec![Vec::new(); n],
        position: (0..n).collect(),
        folded: vec![false; n],
    }
}

/// The peak of an order, from lives: a tensor lives from its maker to its last reader.
fn peak(graph: &Graph, order: &[OpId]) -> u64 {
    let mut at = vec![0; graph.ops.len()];
    for (p, op) in order.iter().enumerate() {
        at[op.0 as usize] = p;
    }
    let (made, read) = graph.uses();
    let alive = |p: usize| {
        let live = graph.tensors.iter_ids().filter(|(id, t)| {
            let i = id.0 as usize;
            let from = made[i].map(|o| at[o.0 as usize]);
            let to = read[i].iter().map(|o| at[o.0 as usize]).max();
            t.role == Role::Activation && from.is_some_and(|f| f <= p && p <= to.unwrap_or(f))
        });
        live.map(|(_, t)| t.bits().bytes_ceil().0).sum::<u64>()
    };
    (0..order.len()).map(alive).max().unwrap_or(0)
}

fn legal(graph: &Graph, order: &[OpId]) -> bool {
    let (made, _) = graph.uses();
    let mut done = vec![false; graph.ops.len()];
    let all = order.iter().all(|op| {
        let ready = graph.ops[*op]
            .inputs
            .iter()
            .all(|t| made[t.0 as usize].is_none_or(|m| done[m.0 as usize]));
        done[op.0 as usize] = true;
        ready
    });
    all && done.iter().all(|d| *d)
}

/// The least peak over all legal orders.
fn brute(graph: &Graph) -> u64 {
    fn visit(graph: &Graph, order: &mut Vec<OpId>, best: &mut u64) {
        if order.len() == graph.ops.len() {
            *best = (*best).min(peak(graph, order));
        }
        let (made, _) = graph.uses();
        for op in graph.ops.ids() {
            let ready = |t: &TensorId| made[t.0 as usize].is_none_or(|m| order.contains(&m));
            if !order.contains(&op) && graph.ops[op].inputs.iter().all(ready) {
                order.push(op);
                visit(graph, order, best);
                order.pop();
            }
        }
    }
    let mut best = u64::MAX;
    visit(graph, &mut Vec::new(), &mut best);
    best
}

fn int8(mut graph: Graph) -> Graph {
    let q = Quantization::from(Format::INT8);
    graph.set_precision(q, q, q);
    graph
}

/// Ops of one or two earlier tensors each, of random width.
fn random(ops: &[(u8, u8, u64)]) -> Graph {
    let mut b = Builder::new("random");
    let x = b.input("x", &[1, 8]);
    let mut made = vec![x];
    for (i, (a, c, width)) in ops.iter().enumerate() {
        let (first, second) = (
            made[*a as usize % made.len()],
            made[*c as usize % made.len()],
        );
        let l = b.linear(&format!("l{i}"), first, 8 * width, false).unwrap();
        made.push(l);
        if c % 3 == 0 {
            let r = b
                .linear(&format!("m{i}"), second, 8 * width, false)
                .unwrap();
            let s = b.add(&format!("s{i}"), l, r).unwrap();
            made.push(s);
        }
    }
    int8(b.finish().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn small_graphs_get_their_best_order(ops in prop::collection::vec((any::<u8>(), any::<u8>(), 1..20u64), 1..4)) {
        let graph = random(&ops);
        let base: Vec<TensorId> = graph.tensors.ids().collect();
        let given: Vec<OpId> = graph.ops.ids().collect();
        let least = brute(&graph);
        match lower_peak(&graph, &base, &alone(&graph), 0) {
            Some(order) => {
                prop_assert!(legal(&graph, &order));
                prop_assert_eq!(peak(&graph, &order), least);
                prop_assert!(least < peak(&graph, &given));
            }
            None => prop_assert_eq!(peak(&graph, &given), least),
        }
    }
}

/// Two branches that are wide in the middle and narrow at the end: one after the other beats side by side.
fn branches() -> Graph {
    let mut b = Builder::new("branches");
    let x = b.input("x", &[1, 8]);
    let wide: Vec<_> = (0..4)
        .map(|i| b.linear(&format!("wide{i}"), x, 1000, false).unwrap())
        .collect();
    let mut narrow = wide
        .iter()
        .enumerate()
        .map(|(i, w)| b.linear(&format!("narrow{i}"), *w, 10, false).unwrap())
        .collect::<Vec<_>>();
    let mut sum = narrow.remove(0);
    for (i, n) in narrow.into_iter().enumerate() {
        sum = b.add(&format!("sum{i}"), sum, n).unwrap();
    }
    let out = b.function("out", sum, Function::Relu).unwrap();
    b.output(out);
    int8(b.finish().unwrap())
}

#[test]
fn branches_run_one_after_the_other() {
    let graph = branches();
    let base: Vec<TensorId> = graph.tensors.ids().collect();
    let tails = alone(&graph);
    let given: Vec<OpId> = graph.ops.ids().collect();
    assert_eq!(peak(&graph, &given), 4 * 1000 + 10);
    let order = lower_peak(&graph, &base, &tails, 0).unwrap();
    assert!(legal(&graph, &order));
    assert_eq!(peak(&graph, &order), 1000 + 2 * 10);
    // What fits stays as it is, and an order that is good enough is taken early.
    assert_eq!(lower_peak(&graph, &base, &tails, 4010), None);
    let loose = lower_peak(&graph, &base, &tails, 2500).unwrap();
    assert!(legal(&graph, &loose) && peak(&graph, &loose) <= 2500);
}

/// Repeated blocks keep their ops, and what is written twice keeps its order.
#[test]
fn blocks_stay_whole() {
    let mut b = Builder::new("blocks");
    let mut x = b.input("x", &[1, 8]);
    for (name, repeat) in [("first", 1), ("layers", 5)] {
        let wide: Vec<_> = (0..3)
            .map(|i| b.linear(&format!("{name}.w{i}"), x, 500, false).unwrap())
            .collect();
        let thin: Vec<_> = wide
            .iter()
            .enumerate()
            .map(|(i, w)| b.linear(&format!("{name}.n{i}"), *w, 8, false).unwrap())
            .collect();
        let y = b.add(&format!("{name}.a"), thin[0], thin[1]).unwrap();
        x = b.add(&format!("{name}.b"), y, thin[2]).unwrap();
        b.end_block(name, repeat);
    }
    b.output(x);
    let graph = int8(b.finish().unwrap());
    let base: Vec<TensorId> = graph.tensors.ids().collect();
    let order = lower_peak(&graph, &base, &alone(&graph), 0).unwrap();
    assert!(legal(&graph, &order));
    for block in &graph.blocks {
        let part = &order[block.ops.start as usize..block.ops.end as usize];
        assert!(part.iter().all(|o| block.ops.contains(&o.0)));
    }
    assert!(peak(&graph, &order) < peak(&graph, &graph.ops.ids().collect::<Vec<_>>()));
}
