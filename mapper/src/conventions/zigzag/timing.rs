//! Stalls of ports, first loads and last stores.

use super::beyond;
use super::movement::{LevelMoves, Move};
use super::nest::OperandNest;
use crate::conventions::ConventionError;
use crate::hierarchy::{Hierarchy, Port, Transfer};

/// An operand with what moves at each of its levels, inner to outer.
pub(super) struct Traffic<'a> {
    pub(super) nest: &'a OperandNest,
    pub(super) levels: Vec<LevelMoves>,
    /// Whether each level may be written while it is read.
    pub(super) double: Vec<bool>,
}

impl Traffic<'_> {
    /// The level at a memory.
    pub(super) fn level_at(&self, memory: usize) -> Option<usize> {
        self.nest.memories.iter().position(|m| *m == memory)
    }

    /// Cycles of a period in which a transfer does not stop the array: the whole period if what it writes is
    /// double-buffered.
    fn allowed(&self, level: usize, transfer: Transfer) -> f64 {
        let inner = match transfer {
            Transfer::FromAbove | Transfer::ToAbove => Some(level),
            Transfer::ToBelow | Transfer::FromBelow => level.checked_sub(1),
        };
        let m = self.levels[level].at(transfer);
        if inner.is_some_and(|l| self.double[l]) {
            m.period
        } else {
            m.window
        }
    }
}

/// The port that carries a transfer.
pub(super) fn port_of(
    hierarchy: &Hierarchy,
    memory: usize,
    operand: usize,
    transfer: Transfer,
) -> Option<&Port> {
    let memory = hierarchy.levels[memory].memory()?;
    memory
        .ports
        .iter()
        .find(|p| p.carries.contains(&(operand, transfer)) && limits(p, transfer))
}

/// Whether a port has a finite rate for a transfer.
fn limits(port: &Port, transfer: Transfer) -> bool {
    let rate = rate(port, transfer);
    rate > 0.0 && rate.is_finite()
}

/// Bits a cycle of a port in one direction.
pub(super) fn rate(port: &Port, transfer: Transfer) -> f64 {
    if transfer.reads() {
        port.read_rate
    } else {
        port.write_rate
    }
}

/// Cycles of one transfer over its port.
fn cycles(m: &Move, port: &Port, transfer: Transfer) -> f64 {
    (m.elements * m.bits / rate(port, transfer)).ceil()
}

/// A transfer at a port.
#[derive(Debug, Clone, Copy)]
struct Activity {
    operand: usize,
    level: usize,
    transfer: Transfer,
    real: f64,
    allowed: f64,
    period: f64,
    count: f64,
    rate: f64,
}

/// What a port does, in its order.
fn activities(port: &Port, memory: usize, traffic: &[Traffic]) -> Vec<Activity> {
    let activity = |(operand, transfer): &(usize, Transfer)| {
        let t = traffic.get(*operand)?;
        let level = t.level_at(memory)?;
        let m = t.levels[level].at(*transfer);
        (m.count > 0.0 && limits(port, *transfer)).then(|| Activity {
            operand: *operand,
            level,
            transfer: *transfer,
            real: cycles(m, port, *transfer),
            allowed: t.allowed(level, *transfer),
            period: m.period,
            count: m.count,
            rate: m.rate,
        })
    };
    port.carries.iter().filter_map(activity).collect()
}

/// Cycles that a port stalls the array for (positive), or could have spared (negative, of a single transfer).
fn port_stall(activities: &[Activity]) -> f64 {
    let stall = |a: &Activity| (a.real - a.allowed) * (a.count - 1.0);
    match activities {
        [] => 0.0,
        [one] => stall(one),
        many => {
            let late: f64 = many.iter().map(stall).filter(|s| *s > 0.0).sum();
            let spare: f64 = many.iter().map(stall).filter(|s| *s <= 0.0).sum();
            let windows: f64 = many.iter().map(|a| a.allowed * (a.count - 1.0)).sum();
            late + (spare + windows - union(many)).max(0.0)
        }
    }
}

/// Cycles in which at least one of the windows is open; all periods divide the next larger one.
fn union(activities: &[Activity]) -> f64 {
    if let Some(always) = activities.iter().find(|a| a.period == a.allowed) {
        return always.period * always.count;
    }
    let mut windows: Vec<(u64, u64)> = activities
        .iter()
        .map(|a| (a.period as u64, a.allowed as u64))
        .collect();
    windows.sort_unstable();
    let longest = activities
        .iter()
        .fold(None, |best: Option<&Activity>, a| match best {
            Some(b) if b.period >= a.period => Some(b),
            _ => Some(a),
        });
    longest.map_or(0.0, |l| open(&windows, l.period as u64) as f64 * l.count)
}

/// Of the first `cycles` cycles, those in which one of the windows `(period, open)` is open, each at the start of
/// its period; sorted by period.
pub(super) fn open(windows: &[(u64, u64)], cycles: u64) -> u64 {
    let Some((&(period, width), shorter)) = windows.split_last() else {
        return 0;
    };
    let within = |c: u64| {
        let head = c.min(width);
        head + open(shorter, c) - open(shorter, head)
    };
    match cycles / period.max(1) {
        0 => within(cycles),
        whole => whole * within(period) + within(cycles % period.max(1)),
    }
}

/// Time beside the array's own.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stalls {
    /// Stall or slack by memory and port.
    pub(super) ports: Vec<(usize, usize, f64)>,
    /// The largest stall.
    pub(super) stall: f64,
    /// First loads of inputs.
    pub(super) onloading: f64,
    /// Last stores of the output.
    pub(super) offloading: f64,
}

/// Cycles of a first load or last store over one port.
#[derive(Debug, Clone, Copy)]
struct Edge {
    operand: usize,
    level: usize,
    transfer: Transfer,
    cycles: f64,
    /// Whether the port carries several inputs.
    shared: bool,
}

/// Stalls and edges of a nest of `cycles` cycles. The last operand is the output.
///
/// # Errors
/// If a transfer has no port, or there are more than two inputs.
pub(super) fn stalls(
    hierarchy: &Hierarchy,
    traffic: &[Traffic],
    cycles: f64,
) -> Result<Stalls, ConventionError> {
    let ports = || {
        hierarchy.levels.iter().enumerate().flat_map(|(l, level)| {
            let ports = level.memory().map_or(&[][..], |m| &m.ports);
            ports.iter().enumerate().map(move |(p, port)| (l, p, port))
        })
    };
    let per_port: Vec<(usize, usize, f64)> = ports()
        .map(|(l, p, port)| (l, p, port_stall(&activities(port, l, traffic))))
        .collect();
    let stall = per_port.iter().map(|p| p.2).fold(0.0, f64::max);
    let mut edges = Vec::new();
    for (l, _, port) in ports() {
        edges.extend(port_edges(port, l, traffic, cycles + stall)?);
    }
    Ok(Stalls {
        ports: per_port,
        stall,
        onloading: onloading(traffic, &edges)?,
        offloading: offloading(traffic, &edges)?,
    })
}

/// First loads and last stores of a port. Those that happen once may borrow what the port has to spare while the
/// array computes, the longest first, down to what the innermost level needs to start.
fn port_edges(
    port: &Port,
    memory: usize,
    traffic: &[Traffic],
    computing: f64,
) -> Result<Vec<Edge>, ConventionError> {
    let output = traffic.len() - 1;
    // Partial sums that come back are no part of the edges.
    let comes_back = |a: &Activity| {
        a.operand == output && matches!(a.transfer, Transfer::ToBelow | Transfer::FromAbove)
    };
    let mut all = activities(port, memory, traffic);
    all.retain(|a| !comes_back(a));
    let mut inputs: Vec<usize> = port.carries.iter().map(|c| c.0).collect();
    inputs.retain(|o| *o != output);
    inputs.sort_unstable();
    inputs.dedup();
    let shared = inputs.len() > 1;

    let once: Vec<&Activity> = all.iter().filter(|a| a.count == 1.0).collect();
    let busy: f64 = all
        .iter()
        .filter(|a| a.count > 1.0)
        .map(|a| a.rate.ceil())
        .sum();
    let mut remaining: Vec<f64> = once.iter().map(|a| a.real).collect();
    if let Some(a) = once.first() {
        let width = rate(port, a.transfer);
        if once.iter().any(|a| rate(port, a.transfer) != width) {
            return Err(beyond(format!(
                "has one rate a port: port `{}` reads and writes at different ones",
                port.name
            )));
        }
        let least: Vec<f64> = once
            .iter()
            .map(|a| (traffic[a.operand].levels[0].bits / width).ceil())
            .collect();
        borrow(&mut remaining, &least, (width - busy) / width * computing);
    }
    let edge = |a: &Activity, cycles: f64| Edge {
        operand: a.operand,
        level: a.level,
        transfer: a.transfer,
        cycles,
        shared,
    };
    let often = all.iter().filter(|a| a.count > 1.0);
    Ok(once
        .iter()
        .zip(&remaining)
        .map(|(a, c)| edge(a, *c))
        .chain(often.map(|a| edge(a, a.real)))
        .collect())
}

/// Takes `spare` cycles off, from the longest first, none below its least.
pub(super) fn borrow(cycles: &mut [f64], least: &[f64], mut spare: f64) {
    let mut order: Vec<usize> = (0..cycles.len()).collect();
    order.sort_by(|a, b| cycles[*b].total_cmp(&cycles[*a]));
    for i in order {
        if spare <= 0.0 {
            return;
        }
        let taken = (cycles[i] - least[i]).max(0.0).min(spare);
        cycles[i] -= taken;
        spare -= taken;
    }
}

fn edge(
    edges: &[Edge],
    operand: usize,
    level: usize,
    transfer: Transfer,
) -> Result<&Edge, ConventionError> {
    let found = edges
        .iter()
        .find(|e| (e.operand, e.level, e.transfer) == (operand, level, transfer));
    found.ok_or_else(|| {
        beyond(format!(
            "wants a port of finite rate for each transfer: operand {operand} has none for {transfer:?} at level {level} from the inside"
        ))
    })
}

/// How long an input's first loads take, by how their links are shared with the other input.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    /// Links whose two ports carry this input alone.
    alone: f64,
    /// The outermost of the links that share one of their two ports.
    half: f64,
    /// Links that share both.
    shared: f64,
}

fn load(t: &Traffic, edges: &[Edge]) -> Result<Load, ConventionError> {
    let mut load = Load::default();
    for level in 1..t.levels.len() {
        let write = edge(edges, t.nest.operand, level - 1, Transfer::FromAbove)?;
        let read = edge(edges, t.nest.operand, level, Transfer::ToBelow)?;
        let cycles = write.cycles.max(read.cycles);
        match (write.shared, read.shared) {
            (true, true) => load.shared += cycles,
            (false, false) => load.alone += cycles,
            _ => load.half = cycles,
        }
    }
    Ok(load)
}

/// The two inputs load side by side, but take turns on links that they share: the better of the two orders.
fn onloading(traffic: &[Traffic], edges: &[Edge]) -> Result<f64, ConventionError> {
    let loads = traffic[..traffic.len() - 1]
        .iter()
        .map(|t| load(t, edges))
        .collect::<Result<Vec<_>, _>>()?;
    let first = |a: &Load, b: &Load| a.shared + (b.shared + b.half + b.alone).max(a.half + a.alone);
    match &loads[..] {
        [one] => Ok(one.alone),
        [a, b] => Ok(first(a, b).min(first(b, a))),
        _ => Err(beyond("loads one or two inputs")),
    }
}

/// The output's levels store one after another.
fn offloading(traffic: &[Traffic], edges: &[Edge]) -> Result<f64, ConventionError> {
    let output = traffic.len() - 1;
    let mut cycles = 0.0;
    for level in 1..traffic[output].levels.len() {
        let read = edge(edges, output, level - 1, Transfer::ToAbove)?;
        let write = edge(edges, output, level, Transfer::FromBelow)?;
        cycles += read.cycles.max(write.cycles);
    }
    Ok(cycles)
}
