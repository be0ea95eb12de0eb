//! From a schedule to a Run.
//!
//! [`phase`] times one graph on one chip, by closed forms or by events (`crate::analytic`, `crate::simulated`): energy by component
//! and action with static power over the whole time, traffic by memory, the bound that nothing beats
//! (`bound`), fused groups by name (`groups`). [`decode_contexts`] and [`mean_phase`] make one mean decode step of many; [`assemble`] makes the
//! Run.
//!
//! Accounting closes by construction: the parts of an op's time sum to its total, ops sum to the phase, and the
//! phase's energy is the sum of its entries.

mod bound;
mod capacity;
mod cores;
mod decode;
mod groups;
mod memory;
mod stalls;
mod text;

use presil_hwmodels::{Chip, EngineId, NodeId};
use presil_mapper::cost::Resource;
use presil_mapper::schedule::{Execution, Schedule, ScheduledOp, array_rate, peak_macs_per_second};
use presil_mapper::search::Objective;
use presil_workloads::count::{count, op_macs};
use presil_workloads::{Graph, OpId};

use crate::analytic::{self, OpTime};
use crate::run::{Energy, Fidelity, OpRun, PassRun, Phase, PowerUse, Run, TimeParts, Traffic};
use crate::simulated;
use crate::timing::Stuck;

pub use decode::{decode_contexts, mean_phase};

/// One pass of a graph by its schedule. `steps`: how often the pass counts in the run's totals. Where fused groups
/// turn out no better than none, by what the schedule makes small, it is the pass without them.
///
/// # Errors
/// If a simulation does not end.
pub fn phase(
    name: &str,
    steps: u64,
    graph: &Graph,
    chip: &Chip,
    schedule: &Schedule,
    fidelity: Fidelity,
) -> Result<Phase, Stuck> {
    let mut fused = pass(name, steps, graph, chip, schedule, fidelity)?;
    let Some(plain) = &schedule.unfused else {
        return Ok(fused);
    };
    let plain = pass(name, steps, graph, chip, plain, fidelity)?;
    let figure = |p: &Phase| match schedule.objective {
        Objective::Latency => p.latency_s,
        Objective::Energy => p.energy_j,
        Objective::Edp => p.latency_s * p.energy_j,
    };
    if figure(&plain) <= figure(&fused) {
        return Ok(plain);
    }
    fused.groups = groups::groups(graph, chip, schedule, &fused, &plain);
    Ok(fused)
}

fn pass(
    name: &str,
    steps: u64,
    graph: &Graph,
    chip: &Chip,
    schedule: &Schedule,
    fidelity: Fidelity,
) -> Result<Phase, Stuck> {
    let by = |cold| match fidelity {
        Fidelity::Analytic => Ok((analytic::times(graph, chip, schedule, cold), None)),
        Fidelity::Simulated => {
            simulated::times(graph, chip, schedule, cold).map(|(times, line)| (times, Some(line)))
        }
    };
    let (times, timeline) = by(false)?;
    // Where nothing stays on chip between passes the first one is as any other.
    let cold = match schedule.ops.iter().any(|o| o.weights.loaded > 0.0) {
        true => by(true)?.0,
        false => times.clone(),
    };
    let latency: f64 = times.iter().map(|t| t.total).sum();
    let repeats = graph.repeats();
    let ops: Vec<OpRun> = graph
        .ops
        .ids()
        .zip(&times)
        .zip(&repeats)
        .map(|((id, time), repeat)| OpRun {
            group: schedule.groups.iter().position(|g| g.ops.contains(&id)),
            ..op_run(graph, chip, id, schedule, time, *repeat)
        })
        .collect();

    let mut energy: Vec<Energy> = Vec::new();
    let mut traffic: Vec<Traffic> = Vec::new();
    // Readers take the first memory for the root, whatever the first op reads.
    add_traffic(&mut traffic, &chip.nodes[chip.root()].name, 0.0, 0.0);
    for op in &ops {
        for e in &op.energy {
            add_energy(&mut energy, &e.component, &e.action, e.energy_j);
        }
        for t in &op.traffic {
            add_traffic(&mut traffic, &t.memory, t.read_bytes, t.write_bytes);
        }
    }
    let powers = chip.static_power();
    let static_power: f64 = powers.iter().map(|p| p.1.0).sum();
    for (component, power) in powers {
        add_energy(&mut energy, &component, "static", power.0 * latency);
    }
    let joules: f64 = energy.iter().map(|e| e.energy_j).sum();
    let cold_latency = cold.iter().map(|t| t.total).sum::<f64>().max(latency);
    let counts = count(graph);
    let peak = peak_macs_per_second(graph, chip);
    let mapped = |id: &OpId| schedule.ops[*id].execution.array_mode().is_some();
    let on_arrays = graph
        .ops
        .ids()
        .filter(mapped)
        .map(|id| op_macs(graph, id).1 * u128::from(repeats[id.0 as usize]))
        .sum::<u128>() as f64;
    let (lower_bound_s, lower_bound_by) = bound::lower(graph, chip, schedule);
    let small = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
    Ok(Phase {
        name: name.into(),
        steps,
        latency_s: latency,
        interval_s: latency,
        cold_latency_s: cold_latency,
        lower_bound_s,
        lower_bound_by,
        energy_j: joules,
        cold_energy_j: joules
            + static_power * (cold_latency - latency)
            + load_energy(graph, chip, schedule, &repeats),
        macs: counts.macs,
        executed_macs: counts.executed_macs,
        utilization: ratio(on_arrays, peak * latency),
        traffic,
        root_traffic: capacity::root_traffic(graph, chip, schedule, &repeats),
        energy,
        weight_bytes: small(counts.weight_bytes),
        cache_bytes: small(counts.cache_bytes),
        peak_activation_bytes: schedule.peak_activation.0,
        memory_plan: memory::plan(graph, chip, schedule),
        partition: cores::of_phase(graph, chip, schedule, &times),
        ops,
        groups: Vec::new(),
        timeline,
        assumptions: std::iter::once(overlap(fidelity).to_string())
            .chain(schedule.assumptions.iter().cloned())
            .collect(),
        unmodelled: schedule.unmodelled.clone(),
    })
}

/// Energy of loading the weights that stay on chip: read from the root memory, written to their home.
fn load_energy(graph: &Graph, chip: &Chip, schedule: &Schedule, repeats: &[u64]) -> f64 {
    let root = chip.root();
    let per_bit = |write: NodeId| {
        let read = chip.nodes[root].memory().map_or(0.0, |m| m.read_energy.0);
        let written = chip.nodes[write].memory().map_or(0.0, |m| m.write_energy.0);
        read + written
    };
    let of_op = |id: OpId| {
        let mut inputs = graph.ops[id].inputs.iter().map(|t| schedule.homes[*t]);
        let home = inputs.find(|h| *h != root).unwrap_or(root);
        schedule.ops[id].weights.loaded * repeats[id.0 as usize] as f64 * per_bit(home)
    };
    graph.ops.ids().map(of_op).sum()
}

/// What is taken to overlap.
fn overlap(fidelity: Fidelity) -> &'static str {
    match fidelity {
        Fidelity::Analytic => {
            "ops run in order, one at a time; within an op compute and memories overlap and the busiest decides"
        }
        Fidelity::Simulated => {
            "ops start in order, one at a time; tiles are loaded, computed, finished and stored as room and shared ports \
             allow, and weights come ahead as far as there is room and the root memory is idle"
        }
    }
}

/// The best of some phases of one graph, by what was made small; the first one of equals.
pub fn best(phases: impl IntoIterator<Item = Phase>, objective: Objective) -> Option<Phase> {
    let value = |p: &Phase| match objective {
        Objective::Latency => p.latency_s,
        Objective::Energy => p.energy_j,
        Objective::Edp => p.latency_s * p.energy_j,
    };
    phases
        .into_iter()
        .reduce(|best, p| if value(&p) < value(&best) { p } else { best })
}

/// A phase of which many passes run: one starts an interval of the pipeline after the other, if that is shorter than
/// one pass after the other.
pub fn streamed(mut phase: Phase) -> Phase {
    if let Some(p) = &phase.partition.pipeline
        && p.interval_s < phase.interval_s
    {
        phase.interval_s = p.interval_s;
        let stages = p.stages.len();
        phase.assumptions.push(format!(
            "the throughput is that of a pipeline of {stages} stages, full and never waiting for inputs: weights were \
             loaded before, shared memories serve the stages in turn without conflicts; the latency is that of one pass op by op"
        ));
    }
    phase
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn add_energy(list: &mut Vec<Energy>, component: &str, action: &str, energy_j: f64) {
    match list
        .iter_mut()
        .find(|e| e.component == component && e.action == action)
    {
        Some(e) => e.energy_j += energy_j,
        None => list.push(Energy {
            component: component.into(),
            action: action.into(),
            energy_j,
        }),
    }
}

fn add_traffic(list: &mut Vec<Traffic>, memory: &str, read_bytes: f64, write_bytes: f64) {
    match list.iter_mut().find(|t| t.memory == memory) {
        Some(t) => {
            t.read_bytes += read_bytes;
            t.write_bytes += write_bytes;
        }
        None => list.push(Traffic {
            memory: memory.into(),
            read_bytes,
            write_bytes,
        }),
    }
}

fn op_run(
    graph: &Graph,
    chip: &Chip,
    id: OpId,
    schedule: &Schedule,
    time: &OpTime,
    repeat: u64,
) -> OpRun {
    let op = &graph.ops[id];
    let scheduled = &schedule.ops[id];
    let n = repeat as f64;
    let (macs, executed) = op_macs(graph, id);
    let (macs, executed) = (macs * u128::from(repeat), executed * u128::from(repeat));
    let mut traffic = Vec::new();
    for c in &scheduled.cost.counts {
        let name = &chip.nodes[c.memory].name;
        add_traffic(
            &mut traffic,
            name,
            c.read_bits / 8.0 * n,
            c.write_bits / 8.0 * n,
        );
    }
    let energy = scheduled.cost.energy.iter().map(|e| Energy {
        component: e.component.clone(),
        action: e.action.into(),
        energy_j: e.energy.0 * n,
    });
    let root = &chip.nodes[chip.root()].name;
    let root_bytes: f64 = traffic
        .iter()
        .filter(|t| t.memory == *root)
        .map(|t| t.read_bytes + t.write_bytes)
        .sum();
    let mapping = match (
        &scheduled.execution,
        scheduled.tile.as_ref().or(op.contraction()),
    ) {
        (Execution::Mapped { mapping, .. }, Some(einsum)) if scheduled.kernel.is_none() => {
            text::loop_nest(chip, einsum, mapping)
        }
        _ => Vec::new(),
    };
    OpRun {
        name: op.name.clone(),
        class: op.class.name().into(),
        shape: text::shape(graph, op),
        repeat,
        engine: engine_name(chip, scheduled),
        macs,
        executed_macs: executed,
        bottleneck: bottleneck(chip, time),
        utilization: utilization(chip, scheduled, executed as f64, time),
        cores: cores::of_op(graph, id, schedule),
        intensity: (root_bytes > 0.0 && executed > 0).then(|| executed as f64 / root_bytes),
        time: TimeParts {
            total_s: time.total,
            compute_s: time.compute,
            memory_s: stalls::by_class(chip, scheduled, &time.memory),
            vector_s: time.vector,
            latency_s: time.latency,
        },
        energy: energy.collect(),
        traffic,
        mapping,
        memories: text::memories(chip, scheduled),
        axes: text::axes(chip, scheduled),
        group: None,
        passes: scheduled.passes.as_ref().map(|p| PassRun {
            count: p.count() * op.steps * repeat,
            processing_s: p.cycle.0 * p.cycles() * op.steps as f64 * n,
            free_s: p.free.map(|t| t.0 * op.steps as f64 * n),
            active: p.active,
            buffer: chip.nodes[p.buffer].name.clone(),
            buffer_bytes: p.array_bits / 8.0 * op.steps as f64 * n,
        }),
        notes: [
            scheduled.notes.clone(),
            stalls::conflict_notes(graph, chip, id, scheduled),
        ]
        .concat(),
    }
}

fn engine_name(chip: &Chip, op: &ScheduledOp) -> String {
    match (&op.execution, op.engine) {
        (_, Some(EngineId(e))) => chip.engines[EngineId(e)].name.clone(),
        (Execution::Movement, None) => "memory".into(),
        (Execution::Unsupported { .. }, None) => "unsupported".into(),
        _ => "none".into(),
    }
}

/// What is busy longest; what overlaps with nothing if that is longer.
fn bottleneck(chip: &Chip, time: &OpTime) -> String {
    let busiest = time
        .busy
        .iter()
        .fold(None::<&(Resource, f64)>, |best, b| match best {
            Some(x) if x.1 >= b.1 => Some(x),
            _ if b.1 > 0.0 => Some(b),
            _ => best,
        });
    match busiest {
        Some((resource, t)) if *t >= time.latency => match resource {
            Resource::Compute => "compute".into(),
            Resource::Memory(n) | Resource::Network(n) => chip.nodes[*n].name.clone(),
            Resource::Vector => "vector".into(),
            Resource::Host => "host".into(),
            Resource::Latency => "latency".into(),
        },
        _ if time.latency > 0.0 => "latency".into(),
        _ => "none".into(),
    }
}

/// Executed MACs over what the array's mode could do in the op's time; for others the busy share of their lanes.
fn utilization(chip: &Chip, op: &ScheduledOp, executed: f64, time: &OpTime) -> f64 {
    match (op.execution.array_mode(), op.engine) {
        (Some(mode), Some(engine)) => ratio(
            executed,
            array_rate(chip, engine, mode).unwrap_or(0.0) * time.total,
        ),
        _ => ratio(time.compute, time.total),
    }
}

/// What a Run says of itself beside its phases.
#[derive(Debug, Clone, PartialEq)]
pub struct RunContext {
    /// Model name.
    pub model: String,
    /// Precision in the one-line form.
    pub precision: String,
    /// What mappings minimize.
    pub objective: Objective,
    /// How times were made.
    pub fidelity: Fidelity,
    /// Sequences or images of one pass.
    pub batch: u64,
    /// Tokens of the prompt, for LLMs.
    pub prompt: Option<u64>,
    /// Tokens generated, for LLMs.
    pub generate: Option<u64>,
}

/// The Run of some phases; `graphs` are those that the phases were made of, in any number and order.
pub fn assemble(context: RunContext, chip: &Chip, graphs: &[Graph], phases: Vec<Phase>) -> Run {
    let mut assumptions: Vec<String> = stalls::assumptions(chip);
    let mut unmodelled: Vec<String> = Vec::new();
    let stated = graphs
        .iter()
        .flat_map(|g| &g.assumptions)
        .chain(phases.iter().flat_map(|p| &p.assumptions));
    for a in stated {
        push_new(&mut assumptions, a);
    }
    unmodelled.extend(capacity::overflow(chip, &phases));
    unmodelled.extend(capacity::spill(chip, &phases));
    for u in phases.iter().flat_map(|p| &p.unmodelled) {
        push_new(&mut unmodelled, u);
    }
    let root = chip.nodes[chip.root()].memory();
    let peak = root.map_or(0.0, |m| m.read_rate.0);
    Run {
        model: context.model,
        chip: chip.name.clone(),
        chip_hash: chip.hash.clone(),
        precision: context.precision,
        objective: context.objective.name().into(),
        fidelity: context.fidelity,
        batch: context.batch,
        prompt: context.prompt,
        generate: context.generate,
        parameters: graphs
            .iter()
            .map(|g| count(g).parameters)
            .max()
            .unwrap_or(0),
        peak_macs_per_s: graphs
            .iter()
            .map(|g| peak_macs_per_second(g, chip))
            .fold(0.0, f64::max),
        dram_peak_bytes_per_s: peak,
        dram_streaming_bytes_per_s: peak * root.map_or(1.0, |m| m.streaming_efficiency),
        power: PowerUse::default(),
        area: chip
            .area()
            .into_iter()
            .map(|(name, a)| (name, a.0))
            .collect(),
        static_power: chip
            .static_power()
            .into_iter()
            .map(|(name, p)| (name, p.0))
            .collect(),
        assumptions,
        unmodelled,
        provenance: chip.provenance.clone(),
        phases,
    }
}

fn push_new(list: &mut Vec<String>, text: &str) {
    if !list.iter().any(|x| x == text) {
        list.push(text.into());
    }
}

#[cfg(test)]
mod tests;
