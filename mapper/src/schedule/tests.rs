#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod asked;
pub(crate) mod chip;
mod lanes;
mod memory;
mod tables;

use presil_hwmodels::{Chip, EngineKind, NodeId, Operand};
use presil_numerics::{Bytes, Format, Quantization};
use presil_workloads::build::{Builder, Conv, Function, NormKind};
use presil_workloads::{Graph, OpId};

use super::*;
use crate::cost::Resource;
use crate::ledger::bits;

const OPTIONS: ScheduleOptions = ScheduleOptions {
    objective: Objective::Latency,
    accumulate: None,
};
/// DRAM costs most: mappings for energy move only what they must.
const FRUGAL: ScheduleOptions = ScheduleOptions {
    objective: Objective::Energy,
    accumulate: None,
};

fn int8(mut graph: Graph) -> Graph {
    let q = Quantization::from(Format::INT8);
    graph.set_precision(q, q, q);
    graph
}

fn op<'a>(graph: &Graph, schedule: &'a Schedule, name: &str) -> &'a ScheduledOp {
    let found = graph.ops.iter_ids().find(|(_, o)| o.name == name);
    &schedule.ops[found.unwrap_or_else(|| panic!("no op {name}")).0]
}

fn busy(op: &ScheduledOp, resource: Resource) -> f64 {
    op.cost
        .busy
        .iter()
        .filter(|b| b.0 == resource)
        .map(|b| b.1.0)
        .sum()
}

fn dram_bytes(op: &ScheduledOp) -> f64 {
    let (r, w) = bits(&op.cost.counts, NodeId(0));
    (r + w) / 8.0
}

/// conv -> norm -> relu, conv -> norm, add, relu: a residual block whose tensors are 16 KiB.
fn residual() -> Graph {
    let mut b = Builder::new("residual");
    let x = b.input("x", &[1, 16, 32, 32]);
    let c1 = b.conv2d("c1", x, &Conv::square(16, 3, 1, 1)).unwrap();
    let n1 = b.batch_norm("n1", c1).unwrap();
    let r1 = b.function("r1", n1, Function::Relu).unwrap();
    let c2 = b.conv2d("c2", r1, &Conv::square(16, 3, 1, 1)).unwrap();
    let n2 = b.batch_norm("n2", c2).unwrap();
    let a = b.add("a", n2, r1).unwrap();
    let r2 = b.function("r2", a, Function::Relu).unwrap();
    let c3 = b.conv2d("c3", r2, &Conv::square(16, 1, 1, 0)).unwrap();
    b.output(c3);
    int8(b.finish().unwrap())
}

#[test]
fn elementwise_tails_cost_no_pass_of_their_own() {
    let graph = residual();
    let chip = chip::chip();
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    for (name, into) in [("n1", 0), ("r1", 0), ("n2", 3), ("a", 3), ("r2", 3)] {
        let fused = op(&graph, &s, name);
        assert_eq!(
            fused.execution,
            Execution::Fused { into: OpId(into) },
            "{name}"
        );
        assert_eq!(fused.cost.time.0, 0.0);
    }
    // Elementwise ops of one primitive each on 16 Ki elements: 16384 / 32 lanes / 1 GHz. Norms are folded.
    let elements = 16.0 * 32.0 * 32.0;
    assert!((busy(op(&graph, &s, "c1"), Resource::Vector) - elements / 32e9).abs() < 1e-15);
    assert!((busy(op(&graph, &s, "c2"), Resource::Vector) - 2.0 * elements / 32e9).abs() < 1e-15);

    // Without an inline unit they run by themselves.
    let mut apart = chip::chip();
    for e in apart.engines.iter_mut() {
        if let EngineKind::Vector { inline, .. } = &mut e.kind {
            *inline = false;
        }
    }
    let t = schedule(&graph, &apart, &OPTIONS).unwrap();
    for name in ["r1", "a", "r2"] {
        assert_eq!(op(&graph, &t, name).execution, Execution::Vector, "{name}");
        assert!(op(&graph, &t, name).cost.time.0 > 0.0);
    }
}

#[test]
fn batch_norms_fold_into_the_weights_before_them() {
    let mut b = Builder::new("norms");
    let x = b.input("x", &[1, 16, 32, 32]);
    let c1 = b.conv2d("c1", x, &Conv::square(32, 3, 1, 1)).unwrap();
    let n1 = b.batch_norm("n1", c1).unwrap();
    let n2 = b.batch_norm("n2", n1).unwrap();
    let r = b.function("r", n2, Function::Relu).unwrap();
    // Neither behind a relu, nor where the plain sum is read as well.
    let n3 = b.batch_norm("n3", r).unwrap();
    let c2 = b.conv2d("c2", n3, &Conv::square(32, 1, 1, 0)).unwrap();
    let n4 = b.batch_norm("n4", c2).unwrap();
    let y = b.add("a", n4, c2).unwrap();
    b.output(y);
    let graph = int8(b.finish().unwrap());
    let with = chip::chip();
    // A chip without a vector unit has nothing to do for them either.
    let mut without = chip::chip();
    without.engines = with
        .engines
        .iter()
        .filter(|e| e.name != "vector")
        .cloned()
        .collect();
    for chip in [&with, &without] {
        let s = schedule(&graph, chip, &OPTIONS).unwrap();
        for name in ["n1", "n2"] {
            let o = op(&graph, &s, name);
            assert_eq!(o.execution, Execution::Fused { into: OpId(0) }, "{name}");
            assert_eq!(o.cost, crate::cost::Cost::default());
        }
        for name in ["n3", "n4"] {
            assert!(
                op(&graph, &s, name)
                    .notes
                    .iter()
                    .all(|n| !n.contains("folded")),
                "{name}"
            );
        }
        assert!(s.assumptions.iter().any(|a| a.contains("folded")));
    }
    // The weights are those of the convolution, and 32 constants for each of the four parameters.
    let s = schedule(&graph, &without, &FRUGAL).unwrap();
    let own = |m: &&crate::cost::MemoryCount| m.memory == NodeId(0) && m.operand == Operand::Weight;
    let bytes: f64 = op(&graph, &s, "c1")
        .cost
        .counts
        .iter()
        .filter(own)
        .map(|c| c.read_bits / 8.0)
        .sum();
    assert_eq!(bytes, 32.0 * 16.0 * 9.0 + 4.0 * 32.0);
}

#[test]
fn the_tail_of_an_op_without_a_mapping_runs_by_itself() {
    let mut b = Builder::new("tail");
    let x = b.input("x", &[1, 16, 32, 32]);
    let c = b.conv2d("c", x, &Conv::square(32, 3, 1, 1)).unwrap();
    let r = b.function("r", c, Function::Relu).unwrap();
    b.output(r);
    let graph = int8(b.finish().unwrap());
    let mut chip = chip::chip();
    for node in chip.nodes.iter_mut().skip(1) {
        if let presil_hwmodels::NodeKind::Memory(m) = &mut node.kind {
            m.capacity = presil_numerics::Bytes(0);
            m.must_keep = m.keeps;
        }
    }
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    assert!(!op(&graph, &s, "c").execution.is_mapped());
    let tail = op(&graph, &s, "r");
    assert!(
        !matches!(tail.execution, Execution::Fused { .. }),
        "{tail:?}"
    );
    assert!(tail.cost.time.0 > 0.0, "{tail:?}");
}

#[test]
fn what_stays_on_chip_takes_no_dram_traffic() {
    let graph = residual();
    let mut chip = chip::chip();
    let s = schedule(&graph, &chip, &FRUGAL).unwrap();
    let weights = |name: &str, bytes: f64, io: f64| {
        // Weights, norm scale and shift of 16 channels, graph inputs or outputs: nothing else leaves the chip.
        assert_eq!(dram_bytes(op(&graph, &s, name)), bytes + io, "{name}");
    };
    weights("c1", 16.0 * 16.0 * 9.0 + 32.0, 16384.0);
    weights("c2", 16.0 * 16.0 * 9.0 + 32.0, 0.0);
    weights("c3", 16.0 * 16.0, 16384.0);
    // Nothing stays where the compiler keeps nothing, or where it does not fit.
    chip.mapspace.keep_activations = false;
    let away = schedule(&graph, &chip, &FRUGAL).unwrap();
    let all = |s: &Schedule| s.ops.iter().map(dram_bytes).sum::<f64>();
    assert!(all(&away) >= all(&s) + 5.0 * 16384.0);
    chip.mapspace.keep_activations = true;
    chip::buffer(&mut chip).capacity = Bytes(12 * 1024);
    let small = schedule(&graph, &chip, &FRUGAL).unwrap();
    assert!(small.homes.iter().all(|h| *h == chip.root()));
    assert!(
        small
            .ops
            .iter()
            .all(|o| !matches!(o.execution, Execution::Unsupported { .. }))
    );
}

/// Every op's resident bytes fit beside each other; checked by adding up lives anew.
#[test]
fn residents_fit_at_every_op() {
    let mut b = Builder::new("chain");
    let mut x = b.input("x", &[1, 16, 32, 32]);
    let mut skips = Vec::new();
    for i in 0..12 {
        x = b
            .conv2d(&format!("c{i}"), x, &Conv::square(16, 3, 1, 1))
            .unwrap();
        skips.push(x);
    }
    for (i, s) in skips.iter().rev().enumerate().skip(1) {
        x = b.add(&format!("a{i}"), x, *s).unwrap();
    }
    b.output(x);
    let graph = int8(b.finish().unwrap());
    let mut chip = chip::chip();
    chip::buffer(&mut chip).capacity = Bytes(80 * 1024);
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    let (made, read) = graph.uses();
    let mut kept = 0;
    let mut used = vec![0u64; graph.ops.len()];
    for (t, tensor) in graph.tensors.iter_ids() {
        if s.homes[t] != NodeId(1) {
            continue;
        }
        kept += 1;
        let position = |o: OpId| match op_into(&s, o) {
            Some(into) => into.0 as usize,
            None => o.0 as usize,
        };
        let from = position(made[t.0 as usize].unwrap());
        let to = read[t.0 as usize]
            .iter()
            .map(|o| position(*o))
            .max()
            .unwrap();
        for u in &mut used[from..=to] {
            *u += tensor.bits().bytes_ceil().0;
        }
    }
    assert!(kept > 0 && kept < 12, "{kept}");
    assert!(used.iter().all(|u| *u <= 80 * 1024), "{used:?}");
}

fn op_into(s: &Schedule, o: OpId) -> Option<OpId> {
    match s.ops[o].execution {
        Execution::Fused { into } => Some(into),
        _ => None,
    }
}

#[test]
fn softmax_is_counted_by_hand() {
    let mut b = Builder::new("softmax");
    let x = b.input("x", &[64, 128]);
    let y = b.softmax("s", x, 1).unwrap();
    b.output(y);
    let graph = b.finish().unwrap();
    let mut chip = chip::chip();
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    let o = op(&graph, &s, "s");
    let (n, rows) = (64.0 * 128.0, 64.0);
    // max: 1, exp: 2, sum: 1, reciprocal: 1 a row, scale: 1. bf16 throughout, so nothing is converted.
    let operations = n * 5.0 + rows;
    assert!((busy(o, Resource::Vector) - operations / 32e9).abs() < 1e-15);
    let lane = o
        .cost
        .energy
        .iter()
        .find(|e| e.action == "lane")
        .unwrap()
        .energy
        .0;
    assert!((lane / (operations * 2e-13) - 1.0).abs() < 1e-12);
    // Fused: in and out once.
    assert_eq!(dram_bytes(o), 2.0 * n * 2.0);
    // Not fused: x read twice, e written and read twice, the row values go out and come back.
    chip.mapspace.fuse_cascades = false;
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    let passes = 2.0 * (2.0 * n + 3.0 * n + n) + 2.0 * (2.0 * rows + 2.0 * rows + 2.0 * rows);
    assert_eq!(dram_bytes(op(&graph, &s, "s")), passes);
    assert!(op(&graph, &s, "s").cost.time.0 > o.cost.time.0);
}

#[test]
fn integer_softmax_is_converted() {
    let mut b = Builder::new("softmax");
    let x = b.input("x", &[64, 128]);
    let y = b.softmax("s", x, 1).unwrap();
    b.output(y);
    let graph = int8(b.finish().unwrap());
    let s = schedule(&graph, &chip::chip(), &OPTIONS).unwrap();
    // The input is converted in two einsums, the output once.
    let operations = 64.0 * 128.0 * (5.0 + 3.0) + 64.0;
    assert!((busy(op(&graph, &s, "s"), Resource::Vector) - operations / 32e9).abs() < 1e-15);
}

#[test]
fn what_no_engine_runs_is_named() {
    let mut b = Builder::new("fp32");
    let x = b.input("x", &[8, 64]);
    let y = b.linear("l", x, 64, false).unwrap();
    b.output(y);
    let mut graph = b.finish().unwrap();
    let q = Quantization::from(Format::FP32);
    graph.set_precision(q, q, q);
    let mut chip = chip::chip();
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    let o = op(&graph, &s, "l");
    assert!(matches!(&o.execution, Execution::Host { reason } if reason.contains("fp32")));
    // 2 x 8 x 64 x 64 operations at 1 GHz take 65.5 us, the bytes (8.2 KB at 1 GB/s twice over) less.
    let operations = 2.0 * 8.0 * 64.0 * 64.0;
    assert!((busy(o, Resource::Host) - operations / 1e9).abs() < 1e-12);
    assert!((o.cost.latency.0 - 10.1e-6).abs() < 1e-12);
    assert!(s.unmodelled.is_empty());
    // Without a host it costs nothing and says so.
    let engines: Vec<_> = chip
        .engines
        .iter()
        .filter(|e| e.name != "host")
        .cloned()
        .collect();
    chip.engines = engines.into_iter().collect();
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    assert!(matches!(
        op(&graph, &s, "l").execution,
        Execution::Unsupported { .. }
    ));
    assert!(
        s.unmodelled.len() == 1 && s.unmodelled[0].contains("fp32"),
        "{:?}",
        s.unmodelled
    );
}

#[test]
fn narrow_weights_run_in_the_narrowest_mode_that_holds_them() {
    let mut b = Builder::new("w4");
    let x = b.input("x", &[8, 256]);
    let y = b.linear("l", x, 256, false).unwrap();
    b.output(y);
    let graph = b.finish().unwrap();
    let with = |w: &str, a: &str| {
        let mut g = graph.clone();
        g.set_precision(w.parse().unwrap(), a.parse().unwrap(), a.parse().unwrap());
        let s = schedule(&g, &chip::chip(), &OPTIONS).unwrap();
        let o = op(&g, &s, "l").clone();
        let Execution::Mapped { mode, .. } = o.execution else {
            panic!("{:?}", o.execution)
        };
        (mode, o.notes, dram_bytes(&op(&g, &s, "l").clone()))
    };
    assert_eq!(with("int8", "int8").0, 0);
    assert!(with("int8", "int8").1.is_empty());
    let (mode, notes, bytes) = with("int4_g128", "int8");
    assert_eq!((mode, notes.len()), (0, 1));
    // Weights move in four bits and their scales: 256 x 256 x 4.125 / 8.
    assert_eq!(bytes, 8.0 * 256.0 * 2.0 + 256.0 * 256.0 * 4.125 / 8.0);
    assert_eq!(with("int4_g128", "bf16").0, 1);
}

#[test]
fn moves_and_look_ups_are_their_bytes() {
    let mut b = Builder::new("moves");
    let table = b.weight("table", &[1000, 64]);
    let indices = b.input("indices", &[7]);
    let rows = b.gather("look-up", table, indices).unwrap();
    let out = b.copy("transpose", &[rows], &[64, 7]);
    b.output(out);
    let graph = int8(b.finish().unwrap());
    let mut chip = chip::chip();
    chip.mapspace.keep_activations = false;
    let rate = chip::dram(&mut chip).read_rate.0 * 0.8;
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    for (name, bytes) in [
        ("look-up", 7.0 * 64.0 + 7.0 + 7.0 * 64.0),
        ("transpose", 2.0 * 7.0 * 64.0),
    ] {
        let o = op(&graph, &s, name);
        assert_eq!(o.execution, Execution::Movement);
        assert_eq!(dram_bytes(o), bytes, "{name}");
        assert!(
            (o.cost.time.0 - (100e-9 + bytes / rate)).abs() < 1e-15,
            "{name}"
        );
        assert!(
            (o.cost.energy_total().0 / (bytes * 8.0 * 4e-12) - 1.0).abs() < 1e-12,
            "{name}"
        );
    }
}

/// The ends of a repeated block's loop live together, and what it reads from outside lives as long as it runs.
#[test]
fn loops_over_blocks_keep_both_ends_or_neither() {
    let build = || {
        let mut b = Builder::new("loop");
        let x = b.input("x", &[16, 256]);
        let inside = b.linear("in", x, 256, false).unwrap();
        let context = b.linear("context", x, 64, false).unwrap();
        b.end_block("in", 1);
        let h = b.linear("h", inside, 256, false).unwrap();
        let c = b.linear("c", context, 256, false).unwrap();
        let y = b.add("y", h, c).unwrap();
        let z = b.norm("z", y, NormKind::Rms, false, false).unwrap();
        b.end_block("layers", 4);
        let out = b.linear("out", z, 256, false).unwrap();
        b.output(out);
        (int8(b.finish().unwrap()), inside, context, z)
    };
    let (graph, inside, context, z) = build();
    let mut chip = chip::chip();
    let s = schedule(&graph, &chip, &OPTIONS).unwrap();
    assert_eq!(
        [s.homes[inside], s.homes[context], s.homes[z]],
        [NodeId(1); 3]
    );
    for capacity in [4, 8, 12, 16, 24, 32, 48, 64] {
        chip::buffer(&mut chip).capacity = Bytes(capacity << 10);
        let s = schedule(&graph, &chip, &OPTIONS).unwrap();
        assert_eq!(s.homes[inside], s.homes[z], "{capacity} KiB");
    }
}

#[test]
fn views_alias_and_cost_nothing() {
    let mut b = Builder::new("views");
    let x = b.input("x", &[8, 64]);
    let l = b.linear("l", x, 64, false).unwrap();
    let v = b.reshape("v", l, &[8, 8, 8]).unwrap();
    let r = b.function("r", v, Function::Relu).unwrap();
    let n = b.norm("n", r, NormKind::Rms, true, false).unwrap();
    b.output(n);
    let graph = int8(b.finish().unwrap());
    let s = schedule(&graph, &chip::chip(), &OPTIONS).unwrap();
    assert_eq!(op(&graph, &s, "v").execution, Execution::View);
    assert_eq!(op(&graph, &s, "v").cost.time.0, 0.0);
    assert_eq!(
        op(&graph, &s, "r").execution,
        Execution::Fused { into: OpId(0) }
    );
    assert_eq!(s.homes[l], s.homes[v]);
    // The norm's scale is fetched, and its output written.
    assert_eq!(op(&graph, &s, "n").weights.streamed, 8.0 * 8.0);
    assert_eq!(dram_bytes(op(&graph, &s, "n")), 8.0 + 512.0);
}

#[test]
fn recurrent_steps_fetch_their_weights_once() {
    let mut b = Builder::new("steps");
    let x = b.input("x", &[1, 256]);
    let l = b.linear("l", x, 256, false).unwrap();
    b.last_op().unwrap().steps = 10;
    b.output(l);
    let graph = int8(b.finish().unwrap());
    let mut chip = chip::chip();
    let weights = |chip: &Chip| {
        let s = schedule(&graph, chip, &OPTIONS).unwrap();
        let o = op(&graph, &s, "l").clone();
        let own = o
            .cost
            .counts
            .iter()
            .filter(|c| c.memory == NodeId(0) && c.operand == Operand::Weight);
        own.map(|c| c.read_bits / 8.0).sum::<f64>()
    };
    assert_eq!(weights(&chip), 65536.0);
    chip::buffer(&mut chip).capacity = Bytes(64 * 1024);
    assert_eq!(weights(&chip), 655_360.0);
}

#[test]
fn weights_stay_where_the_chip_keeps_them() {
    let mut b = Builder::new("kept");
    let x = b.input("x", &[4, 256]);
    let l = b.linear("l", x, 256, false).unwrap();
    let m = b.linear("m", l, 4096, false).unwrap();
    b.output(m);
    let graph = int8(b.finish().unwrap());
    let mut chip = chip::chip();
    chip.mapspace.keep_weights = true;
    let s = schedule(&graph, &chip, &FRUGAL).unwrap();
    let l = op(&graph, &s, "l");
    assert_eq!((l.weights.streamed, l.weights.loaded), (0.0, 65536.0 * 8.0));
    assert_eq!(dram_bytes(l), 4.0 * 256.0);
    // 1 MiB of weights do not fit beside anything.
    let m = op(&graph, &s, "m");
    assert_eq!(
        (m.weights.streamed, m.weights.loaded),
        (4096.0 * 256.0 * 8.0, 0.0)
    );
}

#[test]
fn schedules_do_not_depend_on_the_number_of_threads() {
    let graph = residual();
    let chip = chip::chip();
    let one = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    let many = rayon::ThreadPoolBuilder::new()
        .num_threads(7)
        .build()
        .unwrap();
    let a = one.install(|| schedule(&graph, &chip, &OPTIONS)).unwrap();
    let b = many.install(|| schedule(&graph, &chip, &OPTIONS)).unwrap();
    assert_eq!(a, b);
}

#[test]
fn empty_graphs_and_rootless_chips_are_refused() {
    let chip = chip::chip();
    assert!(matches!(
        schedule(&Graph::default(), &chip, &OPTIONS),
        Err(ScheduleError::Empty(_))
    ));
    let loose = Graph {
        blocks: Vec::new(),
        ..residual()
    };
    assert!(matches!(
        schedule(&loose, &chip, &OPTIONS),
        Err(ScheduleError::Blocks(_))
    ));
    let bare = Chip {
        nodes: Default::default(),
        ..chip
    };
    assert!(matches!(
        schedule(&residual(), &bare, &OPTIONS),
        Err(ScheduleError::Root(_))
    ));
}
