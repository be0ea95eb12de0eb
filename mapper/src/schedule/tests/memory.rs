//! The memory plan of whole schedules.

use presil_hwmodels::{Chip, NodeId};
use presil_numerics::Bytes;
use presil_workloads::build::{Builder, Conv, Function};
use presil_workloads::{Graph, OpId, Role, TensorId};

use super::super::memory_plan::{Cause, Holds, Region, Scratchpad};
use super::super::*;
use super::{FRUGAL, OPTIONS, chip, int8, residual};

/// Regions that are live at one time share no address, unless one takes the place of the other; nothing lies
/// beyond the capacity; tensors and tiles live when they are used.
fn check(graph: &Graph, chip: &Chip, s: &Schedule) {
    let at = |op: OpId| {
        let root = match s.ops[op].execution {
            Execution::Fused { into } => into,
            _ => op,
        };
        s.order.iter().position(|o| *o == root).unwrap()
    };
    for pad in &s.memory.memories {
        let capacity = chip.nodes[pad.memory].memory().unwrap().capacity;
        assert_eq!(pad.capacity, capacity);
        assert!(pad.tensor_peak >= pad.bound && pad.peak >= pad.tensor_peak);
        assert!(pad.peak <= capacity && pad.most <= pad.peak);
        for (i, a) in pad.regions.iter().enumerate() {
            assert!(a.offset.0 + a.bytes.0 <= capacity.0, "{a:?}");
            for b in &pad.regions[i + 1..] {
                apart(graph, s, a, b);
            }
        }
        for (id, t) in graph.tensors.iter_ids() {
            let here = pad.regions.iter().filter(|r| r.holds == Holds::Tensor(id));
            let here: Vec<&Region> = here.collect();
            assert!(here.len() <= 1);
            let Some(r) = here.first() else { continue };
            assert_eq!(s.homes[id], pad.memory);
            assert_eq!(r.offset.0 % pad.alignment.0, 0);
            assert!(r.bytes.0 * 8 >= t.bits().0 && r.bytes >= r.layout.as_ref().unwrap().bytes);
            for (op, o) in graph.ops.iter_ids() {
                let own = o.inputs.iter().chain(&o.outputs).any(|x| *x == id);
                if own && !matches!(s.ops[op].execution, Execution::View) {
                    assert!(
                        r.live.iter().any(|l| l.has(at(op))),
                        "{} {}",
                        t.name,
                        o.name
                    );
                }
            }
        }
    }
}

fn apart(graph: &Graph, s: &Schedule, a: &Region, b: &Region) {
    let shared: Vec<usize> = a
        .live
        .iter()
        .flat_map(|x| {
            b.live
                .iter()
                .map(move |y| (x.from.max(y.from), x.to.min(y.to)))
        })
        .filter(|(from, to)| from <= to)
        .flat_map(|(from, to)| from..=to)
        .collect();
    let overlap = a.offset.0 < b.offset.0 + b.bytes.0 && b.offset.0 < a.offset.0 + a.bytes.0;
    if shared.is_empty() || !overlap {
        return;
    }
    // In place: one op that reads the one and writes the other.
    let (Holds::Tensor(x), Holds::Tensor(y)) = (a.holds, b.holds) else {
        panic!("{a:?} {b:?}");
    };
    assert_eq!(shared.len(), 1, "{a:?} {b:?}");
    assert_eq!((a.offset, a.bytes), (b.offset, b.bytes));
    let op = &graph.ops[s.order[shared[0]]];
    let moves =
        |from: TensorId, to: TensorId| op.inputs.contains(&from) && op.outputs.contains(&to);
    assert!(moves(x, y) || moves(y, x), "{}", op.name);
}

fn sized(chip: &mut Chip, kib: u64) {
    chip::buffer(chip).capacity = Bytes(kib << 10);
}

fn pad(s: &Schedule) -> &Scratchpad {
    &s.memory.memories[0]
}

/// Images through convolutions with long skips, like the two halves of a U-net.
fn skips(depth: usize) -> Graph {
    let mut b = Builder::new("skips");
    let mut x = b.input("x", &[1, 16, 32, 32]);
    let mut held = Vec::new();
    for i in 0..depth {
        x = b
            .conv2d(&format!("down{i}"), x, &Conv::square(16, 3, 1, 1))
            .unwrap();
        held.push(x);
    }
    for (i, s) in held.iter().rev().enumerate().skip(1) {
        x = b
            .conv2d(&format!("up{i}"), x, &Conv::square(16, 3, 1, 1))
            .unwrap();
        x = b.add(&format!("add{i}"), x, *s).unwrap();
    }
    b.output(x);
    int8(b.finish().unwrap())
}

#[test]
fn regions_never_overlap_whatever_the_size() {
    for graph in [residual(), skips(6)] {
        let mut chip = chip::chip();
        for keep_weights in [false, true] {
            chip.mapspace.keep_weights = keep_weights;
            for kib in [2, 8, 20, 33, 50, 64, 90, 128, 200, 1024] {
                sized(&mut chip, kib);
                let s = schedule(&graph, &chip, &OPTIONS).unwrap();
                check(&graph, &chip, &s);
                assert_eq!(s.memory.memories.len(), 1);
            }
        }
    }
}

#[test]
fn offsets_are_aligned_as_asked() {
    let graph = skips(4);
    let mut chip = chip::chip();
    sized(&mut chip, 100);
    let plan = PlanOptions {
        alignment: Bytes(4096),
        ..PlanOptions::default()
    };
    let s = schedule_planned(&graph, &chip, &OPTIONS, &plan, &Memo::default()).unwrap();
    check(&graph, &chip, &s);
    assert_eq!(pad(&s).alignment, Bytes(4096));
    assert!(
        pad(&s)
            .regions
            .iter()
            .any(|r| matches!(r.holds, Holds::Tensor(_)))
    );
}

/// Three elementwise ops in a row on 8 KiB: one place for all, where each needs two without.
#[test]
fn elementwise_ops_work_in_place() {
    let mut b = Builder::new("chain");
    let x = b.input("x", &[8, 1024]);
    let mut y = b
        .norm("n", x, presil_workloads::build::NormKind::Rms, false, false)
        .unwrap();
    for i in 0..3 {
        y = b.function(&format!("f{i}"), y, Function::Relu).unwrap();
    }
    let z = b
        .norm("m", y, presil_workloads::build::NormKind::Rms, false, false)
        .unwrap();
    b.output(z);
    let graph = int8(b.finish().unwrap());
    let chip = chip::chip();
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    check(&graph, &chip, &s);
    let tensors: Vec<&Region> = pad(&s)
        .regions
        .iter()
        .filter(|r| r.layout.is_some())
        .collect();
    assert_eq!(tensors.len(), 4);
    assert!(tensors.iter().all(|r| r.offset == tensors[0].offset));
    assert_eq!(
        (pad(&s).bound, pad(&s).tensor_peak),
        (Bytes(8192), Bytes(8192))
    );
    // A second reader after the op keeps it from taking the place.
    let mut b = Builder::new("read later");
    let x = b.input("x", &[8, 1024]);
    let y = b
        .norm("n", x, presil_workloads::build::NormKind::Rms, false, false)
        .unwrap();
    let r = b.function("r", y, Function::Relu).unwrap();
    let a = b.add("a", r, y).unwrap();
    let z = b
        .norm("m", a, presil_workloads::build::NormKind::Rms, false, false)
        .unwrap();
    b.output(z);
    let graph = int8(b.finish().unwrap());
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    check(&graph, &chip, &s);
    assert_eq!(pad(&s).bound, Bytes(16384));
}

/// Planned traffic of the root memory by activations, and what it costs.
fn planned(s: &Schedule) -> f64 {
    s.memory.root_bytes.0 + s.memory.root_bytes.1
}

/// On a chip that reads and writes the root memory at one rate, a larger buffer never plans more traffic.
#[test]
fn a_larger_memory_never_plans_more_traffic() {
    for graph in [residual(), skips(7)] {
        let mut chip = chip::chip();
        let mut before = f64::INFINITY;
        let (mut first, mut last) = (None, 0.0);
        for kib in (1..40).map(|i| 6 * i) {
            sized(&mut chip, kib);
            let s = schedule(&graph, &chip, &OPTIONS).unwrap();
            assert!(s.memory.optimal, "{kib} KiB");
            assert!(
                planned(&s) <= before,
                "{kib} KiB: {} after {before}",
                planned(&s)
            );
            before = planned(&s);
            first.get_or_insert(before);
            last = before;
        }
        assert!(last < 0.5 * first.unwrap(), "{last} {first:?}");
    }
}

#[test]
fn spills_are_named_with_their_bytes() {
    let graph = skips(6);
    let mut chip = chip::chip();
    sized(&mut chip, 72);
    let s = schedule(&graph, &chip, &FRUGAL).unwrap();
    let made = |t: &TensorId| graph.tensors[*t].role == Role::Activation;
    assert!(!s.memory.spills.is_empty());
    for spill in &s.memory.spills {
        assert!(made(&spill.tensor) && s.homes[spill.tensor] == NodeId(0));
        assert_eq!(spill.cause, Cause::Room);
        // 16 KiB written once; read by one op or by two.
        let reads = spill.read_bytes / 16384.0;
        assert!(
            spill.written_bytes == 16384.0 && (reads == 1.0 || reads == 2.0),
            "{spill:?}"
        );
    }
    // They, the input and the output are what crosses: the plan's count and the ops' agree.
    let spilled: f64 = s
        .memory
        .spills
        .iter()
        .map(|x| x.written_bytes + x.read_bytes)
        .sum();
    assert_eq!(planned(&s), spilled + 2.0 * 16384.0);
    let weights: f64 = 11.0 * 16.0 * 16.0 * 9.0;
    let counted: f64 = s.ops.iter().map(super::dram_bytes).sum();
    assert_eq!(counted, planned(&s) + weights);
    // What the host touches cannot stay.
    let mut b = Builder::new("host");
    let x = b.input("x", &[8, 64]);
    let l = b.linear("l", x, 64, false).unwrap();
    let m = b.linear("m", l, 64, false).unwrap();
    b.output(m);
    let mut graph = b.finish().unwrap();
    let fp32 = presil_numerics::Quantization::from(presil_numerics::Format::FP32);
    graph.set_precision(fp32, fp32, fp32);
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    let causes: Vec<Cause> = s.memory.spills.iter().map(|x| x.cause).collect();
    assert_eq!(causes, [Cause::Host]);
}

/// Branches that are wide at first and narrow at the end: in the order given their wide tensors are all alive.
fn branches() -> Graph {
    let mut b = Builder::new("branches");
    let x = b.input("x", &[16, 64]);
    let wide: Vec<_> = (0..4)
        .map(|i| b.linear(&format!("wide{i}"), x, 1024, false).unwrap())
        .collect();
    let thin: Vec<_> = wide
        .iter()
        .enumerate()
        .map(|(i, w)| b.linear(&format!("thin{i}"), *w, 64, false).unwrap())
        .collect();
    let mut sum = thin[0];
    for (i, t) in thin.iter().enumerate().skip(1) {
        sum = b.add(&format!("sum{i}"), sum, *t).unwrap();
    }
    b.output(sum);
    int8(b.finish().unwrap())
}

#[test]
fn another_order_is_taken_where_it_saves_spills() {
    let graph = branches();
    let mut chip = chip::chip();
    let with = |chip: &Chip, order: Order| {
        let plan = PlanOptions {
            order,
            ..PlanOptions::default()
        };
        let s = schedule_planned(&graph, chip, &OPTIONS, &plan, &Memo::default()).unwrap();
        check(&graph, chip, &s);
        s
    };
    // All fits: as given, unless asked.
    let s = with(&chip, Order::default());
    assert!(!s.memory.reordered && s.order == graph.ops.ids().collect::<Vec<_>>());
    let asked = with(&chip, Order::LowestPeak);
    assert!(asked.memory.reordered && pad(&asked).bound < pad(&s).bound);
    // 4 x 16 KiB do not fit into 48 KiB beside tiles.
    sized(&mut chip, 48);
    let given = with(&chip, Order::Given);
    let s = with(&chip, Order::default());
    assert!(!given.memory.spills.is_empty() && !given.memory.reordered);
    assert!(s.memory.reordered && s.memory.spills.len() < given.memory.spills.len());
    assert!(planned(&s) < planned(&given));
    // Ops that read what another makes come after it.
    let (made, _) = graph.uses();
    for (p, op) in s.order.iter().enumerate() {
        for t in &graph.ops[*op].inputs {
            let maker = made[t.0 as usize].and_then(|m| s.order.iter().position(|o| *o == m));
            assert!(maker.is_none_or(|m| m < p));
        }
    }
}

/// Two ends of a loop that live at different times have one place.
#[test]
fn ends_of_a_loop_have_one_place() {
    let mut b = Builder::new("loop");
    let x = b.input("x", &[16, 256]);
    let inside = b.linear("in", x, 256, false).unwrap();
    b.end_block("in", 1);
    let h = b.linear("h", inside, 512, false).unwrap();
    let g = b.linear("g", h, 512, false).unwrap();
    let z = b.linear("z", g, 256, false).unwrap();
    b.end_block("layers", 4);
    let out = b.linear("out", z, 256, false).unwrap();
    b.output(out);
    let graph = int8(b.finish().unwrap());
    let chip = chip::chip();
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    check(&graph, &chip, &s);
    let offset = |t: TensorId| {
        let found = pad(&s).regions.iter().find(|r| r.holds == Holds::Tensor(t));
        found.unwrap().offset
    };
    assert_eq!(offset(inside), offset(z));
    assert_ne!(offset(inside), offset(h));
}

/// Tiles of ops whose operands are elsewhere lie beside the tensors, as many as are buffered.
#[test]
fn tiles_are_listed_beside_tensors() {
    let graph = residual();
    let chip = chip::chip();
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    let first = graph.ops.ids().next().unwrap();
    let weights = pad(&s)
        .regions
        .iter()
        .filter(|r| r.holds == Holds::Tile(first, Operand::Weight));
    let weights: Vec<&Region> = weights.collect();
    // Double buffered tiles of 2304 bytes of weights at most.
    assert_eq!(weights.len(), 2);
    assert!(weights.iter().all(|r| r.bytes.0 > 0 && r.bytes.0 <= 2304));
    let alive = pad(&s).alive(pad(&s).most_at);
    let sum: u64 = alive.iter().map(|i| pad(&s).regions[*i].bytes.0).sum();
    assert!(
        sum <= pad(&s).most.0 && sum + 64 >= pad(&s).most.0,
        "{sum} {}",
        pad(&s).most
    );
    // What is left is for weights of later ops.
    let ahead = |r: &&Region| r.holds == Holds::Ahead(first);
    let free: u64 = pad(&s)
        .regions
        .iter()
        .filter(ahead)
        .map(|r| r.bytes.0)
        .sum();
    assert!(free > 0 && free <= pad(&s).capacity.0 - weights[0].bytes.0);
}

use presil_hwmodels::Operand;
