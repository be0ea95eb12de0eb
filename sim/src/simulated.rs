//! The times of a schedule by events.
//!
//! Each femtosecond of the pass is told of the op that ends next, as what the first engine in this order does that does
//! anything: array, vector unit, host, control, loads, stores; else as what the first one that waits waits for. So
//! loads that a computation hides are not told, and those that it waits for are, as the memory that they come from.

use presil_hwmodels::{Chip, NodeId};
use presil_mapper::cost::Resource;
use presil_mapper::schedule::{Execution, Schedule, ScheduledOp};
use presil_numerics::ids::Id;
use presil_numerics::{Femtoseconds, Seconds};
use presil_workloads::{Graph, OpId};

use crate::analytic::{OpTime, fetched, split};
use crate::run::{Timeline, TimelineSlice, TimelineTrack};
use crate::timing::account::Times;
use crate::timing::lower::{COMPUTE, HOST, LAUNCH, VECTOR, lower};
use crate::timing::machine::watched;
use crate::timing::program::Program;
use crate::timing::record::{Record, Recorder, Slice};
use crate::timing::{Pace, Stuck};

/// The time of every op over all its repetitions. `cold`: weights that stay on chip are loaded as well.
pub(crate) fn times(
    graph: &Graph,
    chip: &Chip,
    schedule: &Schedule,
    cold: bool,
) -> Result<(Vec<OpTime>, Timeline), Stuck> {
    let program = lower(graph, chip, schedule, cold);
    let mut recorder = Recorder::new(&program);
    let times = watched(&program, Pace::SkipPeriods, &mut |seen| recorder.see(seen))?;
    let timeline = timeline(&program, recorder.finish(times.end.0));
    let mut ops: Vec<OpTime> = graph
        .ops
        .ids()
        .zip(graph.repeats())
        .map(|(id, repeat)| op_time(chip, schedule, &program, &times, id, repeat as f64))
        .collect();
    let fetched = fetched(graph, chip, schedule, cold);
    let root = &chip.nodes[chip.root()].name;
    let ports = program.resources.iter().zip(&times.served);
    let own = ports.filter(|(name, _)| *name == root || **name == format!("{root} read"));
    let busy: f64 = own.map(|(_, t)| t.seconds().0).sum();
    wait_for_fetches(chip, &fetched, busy, &mut ops);
    for set in &schedule.partition.sets {
        split(schedule, set, &mut ops);
    }
    Ok((ops, timeline))
}

/// What is fetched ahead takes the root memory's time as well: where the pass is shorter than all that its port does, the rest is waited
/// for, by the ops whose weights it is.
fn wait_for_fetches(chip: &Chip, fetched: &[f64], busy: f64, ops: &mut [OpTime]) {
    let ahead: f64 = fetched.iter().sum();
    let latency: f64 = ops.iter().map(|o| o.total).sum();
    let missing = busy + ahead - latency;
    if missing <= 0.0 || ahead <= 0.0 {
        return;
    }
    let root = chip.root();
    for (op, fetched) in ops.iter_mut().zip(fetched) {
        let wait = missing * fetched / ahead;
        op.total += wait;
        add(&mut op.memory, root, wait);
        match op.busy.iter_mut().find(|b| b.0 == Resource::Memory(root)) {
            Some(b) => b.1 += wait,
            None if wait > 0.0 => op.busy.push((Resource::Memory(root), wait)),
            None => {}
        }
    }
}

fn timeline(program: &Program, record: Record) -> Timeline {
    let seconds = |t: u64| Femtoseconds(t).seconds().0;
    let slice = |s: &Slice| TimelineSlice {
        op: s.op.map(Id::index),
        start_s: seconds(s.start),
        end_s: seconds(s.end),
        tiles: s.works,
    };
    let mut told = Timeline {
        ports: program.resources.iter().cloned().zip(record.busy).collect(),
        ..Timeline::default()
    };
    for (at, slices) in record.slices.iter().enumerate() {
        let slices: Vec<TimelineSlice> = slices.iter().map(slice).collect();
        if program.retires.is_some_and(|q| q.index() == at) {
            told.ops = slices;
        } else if !slices.is_empty() {
            told.tracks.push(TimelineTrack {
                name: program.queues[at].name.clone(),
                slices,
            });
        }
    }
    told
}

/// What is told of an op. Where a pass or a lane program takes longer than its arithmetic, that is told as the memory that is
/// busiest beside it.
fn op_time(
    chip: &Chip,
    schedule: &Schedule,
    program: &Program,
    times: &Times,
    id: OpId,
    repeat: f64,
) -> OpTime {
    let mut time = OpTime::default();
    let op = &schedule.ops[id];
    let lanes = matches!(op.execution, Execution::Vector);
    let told = times.told.get(id.index()).into_iter().flatten();
    for (cause, told) in program.causes.iter().zip(told) {
        let seconds = told.seconds().0;
        time.total += seconds;
        match cause.as_str() {
            COMPUTE | HOST => time.compute += seconds,
            VECTOR if lanes => time.compute += seconds,
            VECTOR => time.vector += seconds,
            LAUNCH => time.latency += seconds,
            memory => match chip.node(memory) {
                Some(node) => add(&mut time.memory, node, seconds),
                None => time.latency += seconds,
            },
        }
    }
    let own = match op.execution {
        Execution::Host { .. } => Resource::Host,
        Execution::Vector => Resource::Vector,
        _ => Resource::Compute,
    };
    let of = |b: &&(Resource, Seconds)| b.0 == own;
    let arithmetic = op.cost.busy.iter().find(of).map_or(0.0, |b| b.1.0) * repeat;
    let beyond = time.compute - arithmetic;
    if beyond > 0.0
        && let Some(node) = busiest(op)
    {
        time.compute = arithmetic;
        add(&mut time.memory, node, beyond);
    }
    let memories = time
        .memory
        .iter()
        .map(|(n, t)| (Resource::Memory(NodeId::new(*n)), *t));
    time.busy = memories.collect();
    time.busy.push((own, time.compute));
    time.busy.push((Resource::Vector, time.vector));
    time
}

/// The memory that an op keeps busy longest.
fn busiest(op: &ScheduledOp) -> Option<NodeId> {
    let memories = op.cost.busy.iter().filter_map(|(r, t)| match r {
        Resource::Memory(n) | Resource::Network(n) => Some((*n, t.0)),
        _ => None,
    });
    let worst = memories.reduce(|worst, m| if m.1 > worst.1 { m } else { worst });
    worst.map(|w| w.0)
}

fn add(memory: &mut Vec<(usize, f64)>, node: NodeId, seconds: f64) {
    if seconds == 0.0 {
        return;
    }
    match memory.iter_mut().find(|m| m.0 == node.index()) {
        Some(m) => m.1 += seconds,
        None => memory.push((node.index(), seconds)),
    }
}
