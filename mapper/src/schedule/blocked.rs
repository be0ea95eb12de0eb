//! The cost of ops on a block engine ([`crate::blocks`]), with the epilogues that join them.
//!
//! An op is a sequence of layers; each takes as long as the busiest of the engine and the memories that it moves
//! data in. Weights are staged while the op before runs, as far as that leaves the root memory time
//! ([`super::WeightStream`]); those of a linear layer, which are read once, are read in place if less than half of them
//! would be there in time. Scales are read at home for every block. A layer that looks up a function waits for its
//! table, as far as that was not loaded in time. An input that many passes would read from the arena may be copied to
//! the staging memory first.

use presil_hwmodels::{Blocks, EngineKind, NodeId, NodeKind, Operand, OutputKind};
use presil_numerics::{LanePrimitive, Seconds};
use presil_workloads::{Einsum, MapOperator, OpId, OpKind, Role, TensorId};

use super::engines::Choice;
use super::pricer::Pricer;
use super::{Execution, ScheduledOp, engines};
use crate::blocks::{self, Around, Block, Kind, Layer, Lying, Port, volume};
use crate::cost::{Cost, Resource};
use crate::ledger::{self, Ledger, add_energy};

/// What an op's layers read and write.
struct Ends {
    /// Where each input that is no weight lies, and how.
    inputs: Vec<(NodeId, Lying)>,
    /// Where the output lies, and how.
    output: (NodeId, Lying),
    /// Where weights lie, and their bits.
    weights: Option<(NodeId, f64)>,
}

/// How a layer runs.
struct On<'a> {
    blocks: &'a Blocks,
    block: Block,
    /// What the epilogue makes the output unit do.
    tail: Option<OutputKind>,
    /// Whether weights are staged.
    staged: bool,
    /// Seconds in which the op before left the root memory alone.
    slack: f64,
    hertz: f64,
}

/// Cycles that memories are busy for a layer.
#[derive(Default)]
struct Ports {
    busy: Vec<(NodeId, f64)>,
    counts: Ledger,
}

impl Ports {
    /// Books bytes in runs of a length. `way`: 0 reads, 1 writes.
    fn book(&mut self, port: &Port, way: usize, operand: Operand, bytes: f64, run: u64) {
        let elements = bytes.round() as u128;
        if way == 0 {
            self.counts.read(port.memory, operand, elements, 8.0);
        } else {
            self.counts.write(port.memory, operand, elements, 8.0);
        }
        let cycles = bytes * port.stretch(run) / port.rate[way];
        match self.busy.iter_mut().find(|b| b.0 == port.memory) {
            Some(b) => b.1 += cycles,
            None => self.busy.push((port.memory, cycles)),
        }
    }
}

/// Bytes of a map of elements of a width.
fn bytes_of(extents: [u64; 3], width: u64) -> f64 {
    volume(extents) as f64 * width as f64
}

impl Pricer<'_> {
    /// The block engine and the mode of its array, if it runs an op.
    pub(super) fn block_engine(&self, id: OpId) -> Option<(&Blocks, usize)> {
        let blocks = self.scene.chip.blocks.as_ref()?;
        match &self.scene.choices[id.0 as usize] {
            Choice::Array(able) => {
                let own = able.iter().find(|(e, _)| *e == blocks.array)?;
                Some((blocks, own.1))
            }
            Choice::Vector(engine) if *engine == blocks.vector => Some((blocks, 0)),
            _ => None,
        }
    }

    /// An op on the chip's block engine; `None` where another engine runs it.
    pub(super) fn blocked(&self, id: OpId) -> Option<ScheduledOp> {
        self.run_blocked(id, self.slack(id))
    }

    /// Time that the op before leaves the root memory, as far as an op asks for it; that op in turn is taken to have
    /// found none.
    fn slack(&self, id: OpId) -> f64 {
        let chip = self.scene.chip;
        let before = self.before.get(id.0 as usize).copied().flatten();
        let Some(before) = before.filter(|_| self.asks_for_slack(id)) else {
            return 0.0;
        };
        self.run_blocked(before, 0.0).map_or(0.0, |op| {
            let (read, written) = ledger::bits(&op.cost.counts, chip.root());
            op.cost.time.0 - ledger::port_time(chip, chip.root(), read, written).0
        })
    }

    /// Whether an op's layers read weights once, or look up functions.
    fn asks_for_slack(&self, id: OpId) -> bool {
        let graph = self.scene.graph;
        let lookup = Some(OutputKind::Lookup);
        let asks = |l: &Layer| l.kind == Kind::Linear || Some(l.output) == lookup;
        self.block_engine(id).is_some()
            && (self.tail_output(id) == lookup
                || blocks::layers(graph, &graph.ops[id]).is_some_and(|l| l.iter().any(asks)))
    }

    /// Whether a layer's weights are staged: those that are read once only if half of them are there in time.
    fn stages(&self, layer: &Layer, ends: &Ends, slack: f64) -> bool {
        let chip = self.scene.chip;
        let Some((_, bits)) = ends.weights.filter(|_| layer.kind == Kind::Linear) else {
            return true;
        };
        let latency = chip.nodes[chip.root()]
            .memory()
            .map_or(0.0, |m| m.latency.0);
        let load = latency + ledger::port_time(chip, chip.root(), bits, 0.0).0;
        slack >= load / 2.0
    }

    /// An op that finds so many seconds of slack.
    fn run_blocked(&self, id: OpId, slack: f64) -> Option<ScheduledOp> {
        let (blocks, mode) = self.block_engine(id)?;
        let (chip, graph) = (self.scene.chip, self.scene.graph);
        let op = &graph.ops[id];
        let layers = blocks::layers(graph, op)?;
        let EngineKind::Array { compute, .. } = chip.engines[blocks.array].kind else {
            return None;
        };
        let NodeKind::Compute(node) = &chip.nodes[compute].kind else {
            return None;
        };
        let hertz = chip.clocks[node.clock].domain.frequency.0;
        let ends = self.ends(id, blocks);
        let tail = self.tail_output(id);
        let mut cost = Cost::default();
        let mut notes = Vec::new();
        let last = layers.len().saturating_sub(1);
        let mut staged = true;
        for (i, layer) in layers.iter().enumerate() {
            let stripe = self.cascades.part.get(id.0 as usize).copied().flatten();
            let block = match stripe {
                Some(part) => blocks::choose(blocks, &layer.stripe(part, blocks.micro[0])),
                None => blocks::choose(blocks, layer),
            };
            staged = self.stages(layer, &ends, slack);
            let on = On {
                blocks,
                block,
                tail: tail.filter(|_| i == last),
                staged,
                slack,
                hertz,
            };
            let one = self.layer(layer, &on, &ends)?;
            ledger::add(&mut cost, &ledger::repeat(one, layer.repeat));
            let [rows, columns, channels] = block.out;
            if layers.len() == 1 {
                notes.push(format!("block of {rows} x {columns} x {channels}"));
            }
        }
        if layers.len() > 1 {
            notes.push(format!(
                "{} layers",
                layers.iter().map(|l| l.repeat).sum::<u64>()
            ));
        }
        cost.time += chip.engines[blocks.array].launch;
        cost.latency = cost.time - ledger::longest(&cost.busy);
        ledger::add_traffic(chip, &mut cost, self.beside(id));
        let executed = op
            .contraction()
            .and_then(Einsum::executed_points)
            .unwrap_or(0);
        cost.executed_macs = u128::from(executed);
        cost.instances_used = chip.nodes[compute].instances;
        if let Some(mode) = node.modes.get(mode).filter(|_| executed > 0) {
            let joules = executed as f64 * mode.energy.0;
            add_energy(&mut cost.energy, &chip.nodes[compute].name, "mac", joules);
        }
        let mut cost = ledger::repeat(cost, op.steps);
        cost.executed_macs = u128::from(executed) * u128::from(op.steps);
        let (engine, execution) = match &self.scene.choices[id.0 as usize] {
            Choice::Vector(engine) => (*engine, Execution::Vector),
            _ => (blocks.array, Execution::Blocked { mode }),
        };
        let tails: Vec<&str> = self.scene.tails.tail[id.0 as usize]
            .iter()
            .map(|o| graph.ops[*o].name.as_str())
            .collect();
        if !tails.is_empty() {
            notes.push(format!("epilogue: {}", tails.join(", ")));
        }
        if let Some(pair) = op.contraction().and_then(|e| engines::pair(graph, op, e)) {
            notes.extend(engines::conversion_note(node, mode, pair));
        }
        let mut scheduled = self.bare(id, execution, Some(engine), cost);
        scheduled.notes = notes;
        if let Some((home, bits)) = ends.weights
            && home == chip.root()
            && staged
        {
            scheduled.weights.streamed = bits;
        }
        Some(scheduled)
    }

    /// What an op without sums of products reads beside tensors of its output's size: scales, shifts, slopes.
    fn beside(&self, id: OpId) -> Ledger {
        let graph = self.scene.graph;
        let op = &graph.ops[id];
        let mut extra = Ledger::default();
        if op.contraction().is_some() {
            return extra;
        }
        let elements = |t: &TensorId| graph.tensors[*t].elements();
        let whole = op.outputs.iter().map(elements).max().unwrap_or(0);
        for t in op.inputs.iter().filter(|t| elements(t) < whole) {
            let stored = self.stored(*t, false);
            extra.read(
                stored.home,
                stored.role,
                u128::from(stored.elements),
                stored.bits,
            );
        }
        extra
    }

    fn ends(&self, id: OpId, blocks: &Blocks) -> Ends {
        let graph = self.scene.graph;
        let op = &graph.ops[id];
        let place = |t: TensorId| {
            let lying = if self.pixels[self.scene.stored(t)] {
                Lying::Pixels
            } else {
                Lying::Bricks
            };
            (self.home(t), lying)
        };
        let learned =
            |t: &TensorId| matches!(graph.tensors[*t].role, Role::Weight | Role::Constant);
        let inputs = op.inputs.iter().filter(|t| !learned(t));
        let weights = op
            .inputs
            .get(1)
            .filter(|t| learned(t) && op.contraction().is_some());
        let output = match self.scene.output_of(id) {
            Some(t) => place(t),
            None => (blocks.arena, Lying::Bricks),
        };
        Ends {
            inputs: inputs.map(|t| place(*t)).collect(),
            output,
            weights: weights.map(|t| {
                let bits = graph.tensors[*t].bits().0 as f64 * blocks.weight_ratio;
                (self.home(*t), bits)
            }),
        }
    }

    /// What the epilogue of an op makes its output unit do.
    fn tail_output(&self, id: OpId) -> Option<OutputKind> {
        let graph = self.scene.graph;
        let kinds = self.scene.tails.tail[id.0 as usize].iter().map(|o| {
            let clamps = match &graph.ops[*o].kind {
                OpKind::Cascade(einsums) => einsums.iter().all(|e| match &e.map {
                    MapOperator::Lanes(program) => program.iter().all(|p| *p == LanePrimitive::Max),
                    MapOperator::MultiplyAccumulate => false,
                }),
                _ => true,
            };
            if clamps {
                OutputKind::Clamp
            } else {
                OutputKind::Lookup
            }
        });
        kinds.reduce(|a, b| if a == OutputKind::Lookup { a } else { b })
    }

    /// The cost of one run of a layer.
    fn layer(&self, layer: &Layer, on: &On, ends: &Ends) -> Option<Cost> {
        let (chip, blocks, block) = (self.scene.chip, on.blocks, &on.block);
        // One channel fills no brick.
        let within = |channels: u64| match channels {
            1 => (blocks.staging, Lying::Pixels),
            _ => (blocks.staging, Lying::Bricks),
        };
        let first = |i: usize| match ends.inputs.get(i) {
            Some(input) if layer.ends[0] => *input,
            _ => within(layer.input[2]),
        };
        let port = |memory: NodeId| Port::of(chip, memory, on.hertz);
        let mut ports = Ports::default();
        let mut from = first(0);
        let to = if layer.ends[1] {
            ends.output
        } else {
            within(layer.out[2])
        };
        let staging = port(blocks.staging)?;
        let mut waits = 0.0;
        let passes = blocks::moved(blocks, layer, block, [from.1, to.1]).input_passes;
        let width = layer.bits.map(|b| b.div_ceil(8));
        let both = bytes_of(layer.input, width[0]) + bytes_of(layer.out, width[1]);
        let fits = chip.nodes[blocks.staging]
            .memory()
            .is_some_and(|m| both <= m.capacity.0 as f64);
        let many = blocks.input_passes.is_some_and(|n| passes >= n);
        if from.0 != blocks.staging && many && fits {
            // Copied once, in whole bursts, before the layer starts.
            let bytes = bytes_of(layer.input, width[0]);
            let far = port(from.0)?;
            waits += far.latency + bytes / far.rate[0];
            ports
                .counts
                .read(from.0, Operand::Input, bytes as u128, 8.0);
            ports
                .counts
                .write(blocks.staging, Operand::Input, bytes as u128, 8.0);
            from.0 = blocks.staging;
        }
        let looks_up = |o: OutputKind| o == OutputKind::Lookup;
        if looks_up(layer.output) || on.tail.is_some_and(looks_up) {
            let root = port(chip.root())?;
            let bytes = blocks.function_table.0;
            let load = root.latency + bytes as f64 / root.rate[0];
            waits += (load - on.slack * on.hertz).max(0.0);
            ports
                .counts
                .read(chip.root(), Operand::Weight, u128::from(bytes), 8.0);
        }
        let (reads, writes) = (port(from.0)?, port(to.0)?);
        let moved = blocks::moved(blocks, layer, block, [from.1, to.1]);
        ports.book(&reads, 0, Operand::Input, moved.read, moved.runs[0]);
        for i in 1..layer.operands {
            let other = first(usize::try_from(i).unwrap_or(usize::MAX));
            let own = blocks::moved(blocks, layer, block, [other.1, to.1]);
            ports.book(&port(other.0)?, 0, Operand::Input, own.read, own.runs[0]);
        }
        ports.book(&writes, 1, Operand::Output, moved.written, moved.runs[1]);
        if layer.constant {
            let bytes = bytes_of(layer.out, width[0]);
            let root = port(chip.root())?;
            ports.book(&root, 0, Operand::Weight, bytes, block.out[2] * width[0]);
        }
        let mut scale_latency = 0.0;
        if let Some((home, bits)) = ends.weights.filter(|_| layer.kind.has_weights()) {
            let at_home = port(home)?;
            let filled = layer.filling(blocks.input_channels, block.packed);
            let bytes = bits / 8.0 * filled / layer.repeat as f64;
            let again = moved.weight_reads as f64;
            let stream = at_home.burst;
            scale_latency = at_home.latency;
            if on.staged && home != blocks.staging {
                ports.book(&at_home, 0, Operand::Weight, bytes, stream);
                ports.book(&staging, 1, Operand::Weight, bytes, staging.burst);
                ports.book(&staging, 0, Operand::Weight, bytes * again, staging.burst);
                scale_latency = staging.latency;
            } else {
                ports.book(&at_home, 0, Operand::Weight, bytes * again, stream);
            }
            let scales = (blocks.scale_bytes * layer.out[2]) as f64 * again;
            ports.book(&at_home, 0, Operand::Weight, scales, stream);
        }
        let around = Around {
            ports: [&reads, &writes],
            runs: moved.runs,
            outputs: moved.written / layer.bits[1].div_ceil(8) as f64,
            scales: scale_latency,
        };
        let cycles = blocks::engine_cycles(blocks, layer, block, on.tail, around);
        let mut cost = ports.counts.close(chip, &[], Seconds::ZERO, Vec::new());
        cost.compute_cycles = cycles;
        let seconds = |cycles: f64| Seconds(cycles / on.hertz);
        cost.busy = vec![(Resource::Compute, seconds(cycles))];
        let memories = ports.busy.iter();
        cost.busy
            .extend(memories.map(|(m, c)| (Resource::Memory(*m), seconds(*c))));
        cost.latency = seconds(waits);
        cost.time = ledger::longest(&cost.busy) + cost.latency;
        Some(cost)
    }
}
