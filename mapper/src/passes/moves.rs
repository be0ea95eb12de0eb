//! What the passes move, and what that costs.

use presil_hwmodels::{NodeId, NodeKind, Operand, PassParameters};
use presil_numerics::Joules;

use super::choose::Machine;
use super::conv::Conv;
use super::{PassKind, Passes, fixed, processing};
use crate::analysis::compute;
use crate::cost::{Cost, MemoryCount, Resource};
use crate::ledger::{add_busy, add_energy, longest, port_time};
use crate::problem::Problem;

/// Elements between homes and the array.
#[derive(Debug, Clone, Copy, Default)]
struct Root {
    inputs: u128,
    weights: u128,
    outputs: u128,
}

impl Root {
    fn of(conv: &Conv, x: &PassParameters) -> Self {
        let wide = |n: u64| u128::from(n);
        let tiles = conv.out[0].div_ceil(x.e) * conv.out[1].div_ceil(x.f);
        let image_groups = conv.n.div_ceil(x.n);
        let filters = wide(conv.g) * wide(conv.k);
        Self {
            inputs: wide(conv.n * conv.g)
                * wide(conv.c)
                * wide(conv.fetched(0, x.e) * conv.fetched(1, x.f))
                * wide(conv.k.div_ceil(x.m)),
            weights: filters
                * wide(conv.c)
                * wide(conv.filter[0] * conv.filter[1])
                * wide(tiles * image_groups),
            outputs: filters * wide(conv.n) * wide(conv.out[0] * conv.out[1]),
        }
    }
}

/// Words to and from homes.
pub(super) fn words(conv: &Conv, x: &PassParameters) -> f64 {
    let root = Root::of(conv, x);
    (root.inputs + root.weights + root.outputs) as f64
}

/// Elements inside the array, over all passes.
#[derive(Debug, Clone, Copy, Default)]
struct Array {
    /// Read from the buffer, or written to it as often.
    inputs: u128,
    sums: u128,
    macs: u128,
    /// Delivered to PEs.
    spread_inputs: u128,
    spread_weights: u128,
    /// Partial sums that go from one PE to the next.
    climbs: u128,
    /// PEs at work, at most.
    active: u64,
}

impl Array {
    fn add(&mut self, conv: &Conv, x: &PassParameters, k: &PassKind) {
        let wide = |n: u64| u128::from(n);
        let [taps, width] = conv.filter;
        let times = wide(k.count);
        let (q, p) = (k.channels.div_ceil(x.r), k.filters.div_ceil(x.t));
        let (r, t) = (k.channels.div_ceil(q), k.filters.div_ceil(p));
        let sums = times * wide(k.images * k.filters) * wide(k.rows * k.columns);
        let channel_rows = times * wide(k.images * k.channels) * wide(conv.reach(1, k.columns));
        self.inputs += channel_rows * wide(conv.reach(0, k.rows));
        self.sums += sums;
        self.macs += sums * wide(k.channels * taps * width);
        self.spread_inputs += channel_rows * wide(taps * k.rows * t);
        self.spread_weights +=
            times * wide(k.filters * k.channels) * wide(taps * width) * wide(k.rows);
        self.climbs += sums * wide(taps * r - 1);
        self.active = self.active.max(taps * k.rows * r * t);
    }
}

/// The cost of passes.
pub(super) fn cost(
    problem: &Problem,
    machine: &Machine,
    conv: &Conv,
    passes: &mut Passes,
) -> Option<Cost> {
    let x = passes.parameters;
    let root = Root::of(conv, &x);
    let mut array = Array::default();
    for kind in &passes.kinds {
        array.add(conv, &x, kind);
    }
    passes.active = array.active;
    passes.array_bits = array.inputs as f64 * problem.bits[0]
        + 2.0 * array.sums as f64 * problem.accumulate.bits() as f64;
    let (_, mode) = compute(problem)?;
    let mut cost = Cost {
        executed_macs: u128::from(problem.einsum.executed_points()?),
        instances_used: array.active,
        compute_cycles: passes.cycles(),
        counts: counts(problem, machine, &root, &array),
        busy: vec![processing(passes)],
        latency: fixed(problem, passes.cycle),
        ..Cost::default()
    };
    for node in &problem.path {
        let component = &problem.chip.nodes[*node].name;
        let (read, written) = crate::ledger::bits(&cost.counts, *node);
        match &problem.chip.nodes[*node].kind {
            NodeKind::Memory(m) => {
                add_energy(&mut cost.energy, component, "read", read * m.read_energy.0);
                add_energy(
                    &mut cost.energy,
                    component,
                    "write",
                    written * m.write_energy.0,
                );
                let time = port_time(problem.chip, *node, read, written);
                add_busy(&mut cost.busy, Resource::Memory(*node), time);
            }
            NodeKind::Fanout(f) if *node == machine.fanout => {
                let sums =
                    (array.climbs + 2 * array.sums) as f64 * problem.accumulate.bits() as f64;
                let bits = array.spread_inputs as f64 * problem.bits[0]
                    + array.spread_weights as f64 * problem.bits[1]
                    + sums;
                add_energy(&mut cost.energy, component, "hop", bits * f.hop_energy.0);
            }
            NodeKind::Fanout(_) => {}
            NodeKind::Compute(_) => {
                let joules = Joules(cost.executed_macs as f64 * mode.energy.0);
                add_energy(&mut cost.energy, component, "mac", joules.0);
            }
        }
    }
    cost.time = cost.latency + longest(&cost.busy);
    Some(cost)
}

fn counts(problem: &Problem, machine: &Machine, root: &Root, array: &Array) -> Vec<MemoryCount> {
    let [input, weight, result] = problem.bits;
    let sum = problem.accumulate.bits() as f64;
    let mut list: Vec<MemoryCount> = Vec::new();
    let mut add = |memory: NodeId, operand, reads: u128, writes: u128, bits: [f64; 2]| {
        list.push(MemoryCount {
            memory,
            operand,
            reads,
            writes,
            read_bits: reads as f64 * bits[0],
            write_bits: writes as f64 * bits[1],
        });
    };
    let [home_i, home_w, home_o] = problem.home;
    let [spad_i, spad_w, spad_o] = machine.spads;
    let buffer = machine.buffer();
    let macs = array.macs;
    add(home_i, Operand::Input, root.inputs, 0, [input; 2]);
    add(
        buffer,
        Operand::Input,
        array.inputs,
        root.inputs,
        [input; 2],
    );
    add(
        spad_i,
        Operand::Input,
        macs,
        array.spread_inputs,
        [input; 2],
    );
    add(home_w, Operand::Weight, root.weights, 0, [weight; 2]);
    for node in problem.levels_below_home(Operand::Weight) {
        if node == spad_w {
            add(
                node,
                Operand::Weight,
                macs,
                array.spread_weights,
                [weight; 2],
            );
        } else {
            add(
                node,
                Operand::Weight,
                root.weights,
                root.weights,
                [weight; 2],
            );
        }
    }
    add(home_o, Operand::Output, 0, root.outputs, [sum, result]);
    add(
        buffer,
        Operand::Output,
        array.sums + root.outputs,
        array.sums,
        [sum; 2],
    );
    add(
        spad_o,
        Operand::Output,
        macs + array.sums,
        macs + array.sums,
        [sum; 2],
    );
    list
}
