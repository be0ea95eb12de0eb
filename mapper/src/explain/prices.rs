//! Shadow prices: what one more of each resource would give, by finite difference.
//!
//! The problem is solved again on chips that differ in one thing ([`Change`]), for each of the three objectives:
//!
//! ```text
//! price(change, objective) = optimum(chip + change) - optimum(chip)        <= 0
//! ```
//!
//! Energies per access, static power and everything else stay as they are: it is the price of the resource alone,
//! not of the larger chip that has it. Only the clock takes along what the chip file ties to it: rates of ports in
//! words per cycle.
//!
//! *Monotone.* Every mapping that is legal on the chip is legal on each changed one, and costs no more there. A
//! search that its budget ends may still find a worse one on the larger chip, or a better one that the smaller chip
//! had as well. So all mappings found are pooled, and each chip takes the best of the pool that is legal on it:
//! what is left of a gain then is no luck of the search, and more is never worse. A price is exact where both
//! optima are proven; else [`Gain::at_most`] says what it could be.
//!
//! *Constraints.* Where mappings have to obey some, those of every changed chip do. A least utilization asks for as many bits and
//! instances as without the change, or more would be legal before. What each constraint costs is a price as well
//! ([`Change::Lift`]), and so is what a memory is told to keep or not to keep, by the chip or the user.

use presil_hwmodels::{Chip, NodeId, NodeKind, Operand, OperandSet};
use presil_numerics::{Bytes, BytesPerSecond};
use rayon::prelude::*;

use super::{figures, objective};
use crate::analysis::{Analyzer, compute};
use crate::mapping::Mapping;
use crate::problem::Problem;
use crate::search::{self, Constraint, Objective, Options, SearchError};

/// Bytes of the step in capacity.
const KIBIBYTE: u64 = 1024;
/// The relative step.
const TENTH: f64 = 0.1;
/// Figures closer than this share are equal.
const EQUAL: f64 = 1e-9;

/// Which port of a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The one that reads and writes share.
    Shared,
    /// Reads.
    Read,
    /// Writes.
    Write,
}

/// One thing that is different.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// So many bytes more for the tiles in each instance of a memory.
    Capacity(NodeId, u64),
    /// So many bytes per second more at a port of each instance of a memory.
    Bandwidth(NodeId, Port, f64),
    /// One more instance along an axis of a fanout.
    Instance(NodeId, u8),
    /// An operand that a memory must keep may pass it by.
    Bypass(NodeId, Operand),
    /// An operand that always passes a memory by may be kept there.
    Keep(NodeId, Operand),
    /// Every clock a tenth faster, and with it the ports that work in cycles.
    Clock,
    /// One constraint, by its place in the list, need not be obeyed.
    Lift(usize),
}

/// What a change gives for one objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gain {
    /// The least figure with the change: seconds, joules, or joule-seconds.
    pub value: f64,
    /// Its change relative to the least without: never positive.
    pub relative: f64,
    /// The relative change cannot be below this: equal to `relative` where both are proven.
    pub at_most: f64,
    /// Whether both optima are proven.
    pub proven: bool,
}

/// What a change gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Price {
    /// The change.
    pub change: Change,
    /// In words: "1 KiB more of sram".
    pub name: String,
    /// By objective: latency, energy, EDP.
    pub gains: [Gain; 3],
}

/// Shadow prices of a problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Prices {
    /// The least figures without a change, by objective: seconds, joules, joule-seconds.
    pub base: [f64; 3],
    /// Whether they are proven.
    pub proven: [bool; 3],
    /// The prices, the largest gain of the objective asked for first.
    pub prices: Vec<Price>,
}

const OBJECTIVES: [Objective; 3] = [Objective::Latency, Objective::Energy, Objective::Edp];

/// Shadow prices of everything on a problem's path, sorted by the gain of `first`.
///
/// Mappings obey `constraints`. `room` is what each node of the path could give to tiles where the problem's capacity is what its operands need
/// ([`crate::schedule::OpProblem::room`]); `faster` is the chip with every clock a tenth faster, if that is wanted.
///
/// # Errors
/// If the problem itself has no mapping.
pub fn prices(
    problem: &Problem,
    constraints: &[Constraint],
    room: &[Bytes],
    faster: Option<&Chip>,
    first: Objective,
    options: &Options,
) -> Result<Prices, SearchError> {
    let mut variants = vec![Variant::unchanged(problem, constraints)];
    let mut named = changes(problem);
    let names: Vec<String> = constraints
        .iter()
        .map(|c| search::level_name(problem, c))
        .collect();
    let lifted = names.iter().enumerate().map(|(i, name)| {
        let before = names[..i].iter().filter(|n| *n == name).count();
        let which = match before {
            0 => String::new(),
            n => format!(" {}", n + 1),
        };
        (
            Change::Lift(i),
            format!("{name}: without its constraint{which}"),
        )
    });
    named.extend(lifted);
    if faster.is_some() {
        named.push((Change::Clock, "every clock 10 % faster".into()));
    }
    let changed = named
        .iter()
        .map(|(change, _)| Variant::new(problem, constraints, room, faster, *change));
    variants.extend(changed);
    let found = optima(problem, &variants, options)?;
    let pooled = pool(problem, &variants, &found);
    let base = pooled[0];
    let proven = found[0]
        .each_ref()
        .map(|f| f.as_ref().is_some_and(|f| f.proven));
    let gain = |v: usize, o: usize| {
        let (was, now) = (base[o], pooled[v][o]);
        let relative = |x: f64| if was > 0.0 { (x - was) / was } else { 0.0 };
        let change = relative(now);
        let change = if change.abs() < EQUAL { 0.0 } else { change };
        let of = found[v][o].as_ref();
        let both = proven[o] && of.is_some_and(|f| f.proven);
        let bound = of.map_or(0.0, |f| f.lower_bound).min(now);
        Gain {
            value: now,
            relative: change,
            at_most: if both {
                change
            } else {
                relative(bound).min(change)
            },
            proven: both,
        }
    };
    let price = |(i, (change, name)): (usize, (Change, String))| Price {
        change,
        name,
        gains: [0, 1, 2].map(|o| gain(i + 1, o)),
    };
    let mut prices: Vec<Price> = named.into_iter().enumerate().map(price).collect();
    let by = OBJECTIVES.iter().position(|o| *o == first).unwrap_or(0);
    let key = |p: &Price| [by, 0, 1, 2].map(|o| p.gains[o].relative);
    prices.sort_by(|a, b| {
        let pairs = key(a).into_iter().zip(key(b));
        pairs.fold(std::cmp::Ordering::Equal, |o, (x, y)| {
            o.then(x.total_cmp(&y))
        })
    });
    Ok(Prices {
        base,
        proven,
        prices,
    })
}

/// A problem's machine with one thing changed.
struct Variant {
    chip: Chip,
    capacity: Vec<Bytes>,
    constraints: Vec<Constraint>,
}

impl Variant {
    fn unchanged(problem: &Problem, constraints: &[Constraint]) -> Self {
        Self {
            chip: problem.chip.clone(),
            capacity: problem.capacity.clone(),
            constraints: constraints.to_vec(),
        }
    }

    fn new(
        problem: &Problem,
        constraints: &[Constraint],
        room: &[Bytes],
        faster: Option<&Chip>,
        change: Change,
    ) -> Self {
        let mut variant = Self::unchanged(problem, constraints);
        match change {
            Change::Capacity(node, bytes) => {
                variant.memory(node, |m| m.capacity.0 = m.capacity.0.saturating_add(bytes));
                for (n, capacity) in problem.path.iter().zip(&mut variant.capacity) {
                    if *n == node {
                        capacity.0 = capacity.0.saturating_add(bytes);
                    }
                }
            }
            Change::Bandwidth(node, port, rate) => variant.memory(node, |m| {
                if port != Port::Write {
                    m.read_rate += BytesPerSecond(rate);
                }
                if port != Port::Read {
                    m.write_rate += BytesPerSecond(rate);
                }
            }),
            Change::Instance(node, axis) => {
                if let NodeKind::Fanout(f) = &mut variant.chip.nodes[node].kind
                    && let Some(axis) = f.dims.get_mut(usize::from(axis))
                {
                    // The copies of what lies below stay, and with them the static power.
                    axis.size += 1;
                }
            }
            Change::Bypass(node, operand) => variant.memory(node, |m| {
                m.must_keep = OperandSet(m.must_keep.0 & !OperandSet::of(&[operand]).0);
            }),
            Change::Keep(node, operand) => {
                variant.memory(node, |m| {
                    m.keeps = OperandSet(m.keeps.0 | OperandSet::of(&[operand]).0);
                });
                let places = problem.path.iter().zip(&mut variant.capacity).zip(room);
                for ((n, capacity), room) in places {
                    if *n == node {
                        *capacity = (*capacity).max(*room);
                    }
                }
            }
            Change::Clock => {
                if let Some(faster) = faster {
                    variant.clock(faster);
                }
            }
            Change::Lift(i) => {
                variant.constraints.remove(i);
            }
        }
        variant.rescale(problem);
        variant
    }

    /// Least utilizations of what has grown ask for as much as before.
    fn rescale(&mut self, problem: &Problem) {
        for c in &mut self.constraints {
            let axes = |chip: &Chip| match &chip.nodes[c.level].kind {
                NodeKind::Fanout(f) => {
                    let axes = f.dims.iter().zip(0u8..);
                    let asked = axes.filter(|(_, a)| c.axis.is_none_or(|x| x == *a));
                    asked.map(|(d, _)| d.size as f64).product()
                }
                _ => 1.0,
            };
            let places = problem
                .path
                .iter()
                .zip(&problem.capacity)
                .zip(&self.capacity);
            let mut own = places.filter(|((n, _), _)| **n == c.level);
            let grown = own
                .next()
                .map_or(1.0, |((_, was), now)| now.0 as f64 / was.0.max(1) as f64);
            let spread = axes(&self.chip) / axes(problem.chip);
            c.min_utilization /= grown.max(1.0) * spread.max(1.0);
        }
    }

    fn memory(&mut self, node: NodeId, change: impl FnOnce(&mut presil_hwmodels::Memory)) {
        if let NodeKind::Memory(m) = &mut self.chip.nodes[node].kind {
            change(m);
        }
    }

    /// Takes clocks and rates, and nothing else, from a faster chip.
    fn clock(&mut self, faster: &Chip) {
        self.chip.clocks = faster.clocks.clone();
        for (mine, theirs) in self.chip.nodes.iter_mut().zip(faster.nodes.iter()) {
            if let (NodeKind::Memory(m), NodeKind::Memory(f)) = (&mut mine.kind, &theirs.kind) {
                let larger = |a: &mut BytesPerSecond, b: BytesPerSecond| a.0 = a.0.max(b.0);
                larger(&mut m.read_rate, f.read_rate);
                larger(&mut m.write_rate, f.write_rate);
            }
        }
    }

    fn problem<'a>(&'a self, problem: &Problem<'a>) -> Problem<'a> {
        Problem {
            chip: &self.chip,
            capacity: self.capacity.clone(),
            ..problem.clone()
        }
    }
}

/// A search's result.
#[derive(Clone)]
struct Found {
    mapping: Mapping,
    lower_bound: f64,
    proven: bool,
}

/// The optima of all variants by objective; those of the first must exist.
fn optima(
    problem: &Problem,
    variants: &[Variant],
    options: &Options,
) -> Result<Vec<[Option<Found>; 3]>, SearchError> {
    let options = Options {
        give: 0.0,
        near: 0,
        log: false,
        ..*options
    };
    let tasks: Vec<(usize, Objective)> = (0..variants.len())
        .flat_map(|v| OBJECTIVES.map(|o| (v, o)))
        .collect();
    let solved: Vec<Result<Found, SearchError>> = tasks
        .par_iter()
        .map(|(v, objective)| {
            let variant = &variants[*v];
            let on = variant.problem(problem);
            let solution = search::solve_within(&on, &variant.constraints, *objective, &options)?;
            Ok(Found {
                mapping: solution.mapping,
                lower_bound: solution.lower_bound,
                proven: solution.certificate.objective.proven,
            })
        })
        .collect();
    let mut solved = solved.into_iter();
    let mut all = Vec::with_capacity(variants.len());
    for v in 0..variants.len() {
        let mut three = [None, None, None];
        for slot in &mut three {
            *slot = match solved.next() {
                Some(Err(error)) if v == 0 => return Err(error),
                Some(found) => found.ok(),
                None => None,
            };
        }
        all.push(three);
    }
    Ok(all)
}

/// For each variant the least figures of all mappings found that are legal on it and obey.
fn pool(problem: &Problem, variants: &[Variant], found: &[[Option<Found>; 3]]) -> Vec<[f64; 3]> {
    let mut mappings: Vec<&Mapping> = Vec::new();
    for f in found.iter().flatten().flatten() {
        if !mappings.contains(&&f.mapping) {
            mappings.push(&f.mapping);
        }
    }
    let least = |variant: &Variant| {
        let problem = variant.problem(problem);
        let mut least = [f64::INFINITY; 3];
        let obeys = search::obedience(&problem, &variant.constraints);
        let (Ok(analyzer), Ok(obeys)) = (Analyzer::new(&problem), obeys) else {
            return least;
        };
        for mapping in &mappings {
            let legal = Mapping::new(&problem, mapping.steps().to_vec());
            let legal = legal.ok().filter(&obeys);
            let Some(cost) = legal.and_then(|m| analyzer.evaluate(&m).ok()) else {
                continue;
            };
            let told = figures(&problem, &cost);
            for (least, o) in least.iter_mut().zip(OBJECTIVES) {
                *least = least.min(objective(o, told));
            }
        }
        least
    };
    variants.par_iter().map(least).collect()
}

/// What there may be one more of, outermost first, in words.
fn changes(problem: &Problem) -> Vec<(Change, String)> {
    let mut all = Vec::new();
    let chip = problem.chip;
    let hertz = compute(problem).map_or(0.0, |(c, _)| chip.clocks[c.clock].domain.frequency.0);
    for (place, node) in problem.path.iter().enumerate() {
        let name = &chip.nodes[*node].name;
        match &chip.nodes[*node].kind {
            NodeKind::Memory(m) => {
                let inside = Operand::ALL.into_iter().filter(|o| {
                    let home = problem.home[o.index()];
                    problem.path.iter().position(|n| *n == home) < Some(place)
                });
                let inside: Vec<Operand> = inside.collect();
                if inside.iter().any(|o| m.keeps.has(*o)) {
                    let tenth = problem.capacity.get(place).copied().unwrap_or(m.capacity).0 / 10;
                    let kib = Change::Capacity(*node, KIBIBYTE);
                    all.push((kib, format!("{name}: 1 KiB more")));
                    if tenth > 0 {
                        let more = Change::Capacity(*node, tenth);
                        all.push((more, format!("{name}: 10 % more capacity")));
                    }
                }
                bandwidths(&mut all, *node, name, m, hertz);
                for operand in inside {
                    let what = operand.name();
                    if m.must_keep.has(operand) {
                        let change = Change::Bypass(*node, operand);
                        all.push((change, format!("{name}: {what} may pass by")));
                    } else if !m.keeps.has(operand) {
                        let change = Change::Keep(*node, operand);
                        all.push((change, format!("{name}: {what} may be kept")));
                    }
                }
            }
            NodeKind::Fanout(f) => {
                for (a, axis) in (0u8..).zip(&f.dims) {
                    let label = match axis.name == *name {
                        true => name.clone(),
                        false => format!("{name}.{}", axis.name),
                    };
                    let text = format!("{label}: {} instead of {}", axis.size + 1, axis.size);
                    all.push((Change::Instance(*node, a), text));
                }
            }
            NodeKind::Compute(_) => {}
        }
    }
    all
}

fn bandwidths(
    all: &mut Vec<(Change, String)>,
    node: NodeId,
    name: &str,
    m: &presil_hwmodels::Memory,
    hertz: f64,
) {
    let ports: &[(Port, &str)] = match m.shared_port {
        true => &[(Port::Shared, "")],
        false => &[(Port::Read, " read"), (Port::Write, " write")],
    };
    for (port, what) in ports {
        let rate = if *port == Port::Write {
            m.write_rate.0
        } else {
            m.read_rate.0
        };
        let word = m.word.0.max(1);
        let more = |r: f64| Change::Bandwidth(node, *port, r);
        all.push((
            more(word as f64 * hertz),
            format!("{name}: {} more per cycle{what}", Bytes(word)),
        ));
        all.push((
            more(TENTH * rate),
            format!("{name}: 10 % more{what} bandwidth"),
        ));
    }
}
