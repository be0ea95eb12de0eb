//! A problem compiled for the search: dimensions of size 1 dropped, memories grouped into levels, rates and
//! energies as plain numbers.
//!
//! A *level* is a set of memories, at most one for each operand, with no fanout in between: `dram` alone, or the
//! three spads of a processing element together. Level 0 holds the homes. Below the storage of a level come
//! its temporal loops, then the fanouts that lie above the next level.

use std::ops::Range;
use std::time::Instant;

use presil_hwmodels::{
    DimSelector, EngineKind, Fanout, Memory, MemoryKind, NodeId, NodeKind, Operand, OperandSet,
    Overlap,
};
use presil_workloads::{Access, Affine, DimId, Domain, Einsum};

use super::Objective;
use super::estimate::Score;
use super::rules::Rules;
use crate::analysis::runs::{self, Layout, Stretch};
use crate::mapping::{Step, selects};
use crate::problem::Problem;
use crate::{Mapping, MappingError};

/// A dimension with more than one iteration.
#[derive(Debug, Clone)]
pub(super) struct FrameDim {
    pub id: DimId,
    pub size: u64,
    /// Bit `o` is set if operand `o` is indexed by it.
    pub operands: u8,
    /// Whether points that differ in it may update the same output element.
    pub scatters: bool,
}

/// A rank of an operand: coefficients of dimensions, and the extent.
#[derive(Debug, Clone)]
pub(super) struct Rank {
    pub terms: Vec<(usize, f64)>,
    /// Greatest common divisor of the coefficients.
    pub step: f64,
    pub extent: f64,
}

/// A memory of the path.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub node: NodeId,
    /// Bits that tiles may take in one instance.
    pub capacity: f64,
    /// Joules for a bit read and written.
    pub energy: [f64; 2],
    /// Seconds for a bit read and written by one instance.
    pub time: [f64; 2],
    pub shared_port: bool,
    /// Without a second buffer: nothing computes while a tile enters.
    pub single: bool,
    pub keep_overlap: bool,
    /// Seconds for each transfer into a child.
    pub setup: f64,
}

/// One dimension of a fanout.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub fanout: NodeId,
    pub axis: u8,
    pub size: u64,
    /// Operands delivered to all that need the same by one read; for the output: summed on the way up.
    pub shared: u8,
    /// Dimensions (indices into [`Frame::dims`]) that may be laid along it, preferred first.
    pub accepts: Vec<usize>,
}

/// A fanout.
#[derive(Debug, Clone)]
pub(super) struct Fan {
    /// Its axes (indices into [`Frame::axes`]).
    pub axes: Range<usize>,
    /// Joules for a bit delivered to one instance.
    pub hop: f64,
}

/// A level.
#[derive(Debug, Clone, Default)]
pub(super) struct Level {
    /// Index into [`Frame::stores`] by operand.
    pub memory: [Option<usize>; 3],
    /// Operands that it must keep.
    pub required: u8,
    /// Fanouts between this level and the next.
    pub fans: Vec<Fan>,
}

impl Level {
    /// Axes of its fanouts.
    pub fn axes(&self) -> Range<usize> {
        match (self.fans.first(), self.fans.last()) {
            (Some(first), Some(last)) => first.axes.start..last.axes.end,
            _ => 0..0,
        }
    }

    /// Operands that it may keep.
    pub fn allowed(&self) -> u8 {
        (0..3).fold(0, |s, o| {
            if self.memory[o].is_some() {
                s | 1 << o
            } else {
                s
            }
        })
    }
}

/// An operand's home off chip, of which tiles fetch runs.
#[derive(Debug)]
pub(super) struct OffChip {
    pub layout: Layout,
    pub memory: Memory,
}

impl OffChip {
    /// What runs of a tile (extents by frame dimension) take against a long stream, when read and when written.
    pub fn stretch(&self, tile: &[u64]) -> [Stretch; 2] {
        let runs = self.layout.runs(tile);
        runs::stretches(&self.memory, runs)
    }
}

/// A compiled problem.
#[derive(Debug)]
pub(super) struct Frame {
    /// Dimensions of more than one iteration.
    pub dims: Vec<FrameDim>,
    /// Ranks of each operand that have such a dimension.
    pub ranks: [Vec<Rank>; 3],
    /// Homes off chip of operands that lie in rows there.
    pub off_chip: [Option<OffChip>; 3],
    /// Bits of an element of input, weight and final output.
    pub bits: [f64; 3],
    /// Bits of a partial sum.
    pub partial: f64,
    pub stores: Vec<Store>,
    pub levels: Vec<Level>,
    pub axes: Vec<Axis>,
    /// MACs inside the domain.
    pub macs: f64,
    /// `macs` over the points of the box.
    pub density: f64,
    /// Elements of the output.
    pub outputs: f64,
    /// Seconds of launch, fill and drain.
    pub fixed: f64,
    /// Seconds of a compute instance for one point of the box.
    pub point_time: f64,
    /// Joules of all MACs.
    pub mac_energy: f64,
    /// Watts that the whole chip takes whenever it is on.
    pub static_power: f64,
    /// What mappings must obey beside what the chip asks.
    pub rules: Option<Rules>,
    /// When the search has to end.
    pub until: Option<Instant>,
}

/// Which operands an einsum's dimension indexes, as bits.
pub(super) fn operands_of(einsum: &Einsum, dim: DimId) -> u8 {
    let [input, weight] = [einsum.inputs.first(), einsum.inputs.get(1)];
    [input, weight, Some(&einsum.output)]
        .into_iter()
        .enumerate()
        .filter(|(_, a)| a.is_some_and(|a| Einsum::names(a, dim)))
        .fold(0, |s, (o, _)| s | 1 << o)
}

const OUTPUT: u8 = 1 << 2;

/// Whether points that differ in a dimension may update the same output element: it is reduced, or shares a rank.
fn scatters(einsum: &Einsum, dim: DimId) -> bool {
    let rows =
        matches!(einsum.domain, Domain::Ragged { group, row, .. } if group == dim || row == dim);
    let many = |r: &Affine| r.terms.iter().filter(|t| einsum.dim(t.0).size > 1).count() > 1;
    let shares = |r: &Affine| r.terms.iter().any(|t| t.0 == dim) && many(r);
    einsum.is_reduced(dim) || (!rows && einsum.output.ranks.iter().any(shares))
}

fn bits_of(set: OperandSet) -> u8 {
    set.0 & 0b111
}

impl Frame {
    /// The score of a time and a dynamic energy.
    pub fn score(&self, objective: Objective, time: f64, dynamic: f64) -> Score {
        Score::new(objective, time, dynamic + self.static_power * time)
    }

    /// Compiles a problem.
    pub fn new(problem: &Problem) -> Self {
        let einsum = problem.einsum;
        let dims: Vec<FrameDim> = einsum
            .dim_ids()
            .filter(|d| einsum.dim(*d).size > 1)
            .map(|id| FrameDim {
                id,
                size: einsum.dim(id).size,
                operands: operands_of(einsum, id),
                scatters: scatters(einsum, id),
            })
            .collect();
        let ranks = [
            einsum.inputs.first(),
            einsum.inputs.get(1),
            Some(&einsum.output),
        ]
        .map(|a| a.map(|a| ranks(a, &dims)).unwrap_or_default());
        let (stores, levels, axes) = levels(problem, &dims);
        let points: f64 = dims.iter().map(|d| d.size as f64).product();
        let macs = einsum.executed_points().map_or(points, |p| p as f64);
        let (point_time, mac_energy) = compute(problem);
        let outputs = ranks[2].iter().map(|r: &Rank| r.extent).product();
        Self {
            outputs,
            fixed: fixed(problem),
            off_chip: [0, 1, 2].map(|o| off_chip(problem, o, &dims)),
            dims,
            ranks,
            bits: problem.bits,
            partial: problem.accumulate.bits() as f64,
            stores,
            levels,
            axes,
            macs,
            density: macs / points,
            point_time,
            mac_energy: mac_energy * macs,
            static_power: problem.chip.static_power().iter().map(|p| p.1.0).sum(),
            rules: None,
            until: None,
        }
    }

    /// The mapping of some steps, if it is legal; none if it does not obey the rules.
    pub fn mapping(
        &self,
        problem: &Problem,
        steps: Vec<Step>,
    ) -> Result<Option<Mapping>, MappingError> {
        let Some(rules) = &self.rules else {
            return Mapping::new(problem, steps).map(Some);
        };
        let mapping = Mapping::new(problem, rules.written(self, steps))?;
        let obeys = rules.broken(problem, self, &mapping) == 0.0;
        Ok(obeys.then_some(mapping))
    }

    /// Whether the time is up.
    pub fn late(&self) -> bool {
        self.until.is_some_and(|t| Instant::now() >= t)
    }

    /// Time and dynamic energy of every mapping, at least: all instances work all the time.
    pub fn floor(&self) -> (f64, f64) {
        let instances: f64 = self.axes.iter().map(|a| a.size as f64).product();
        let time = self.fixed + self.macs * self.point_time / instances;
        (time, self.mac_energy)
    }

    /// Distinct elements of an operand that a tile touches, at most.
    pub fn elements(&self, operand: usize, tile: &[u64]) -> f64 {
        self.ranks[operand]
            .iter()
            .map(|r| r.touched(tile))
            .product()
    }
}

impl Rank {
    /// Distinct indices that a tile touches, at most.
    pub fn touched(&self, tile: &[u64]) -> f64 {
        if let [(d, _)] = self.terms[..] {
            return (tile[d] as f64).min(self.extent);
        }
        let (mut points, mut span, mut active) = (1.0, 1.0, 0);
        for &(d, c) in &self.terms {
            if tile[d] > 1 {
                points *= tile[d] as f64;
                span += (tile[d] - 1) as f64 * c / self.step;
                active += 1;
            }
        }
        let touched = if active > 1 {
            f64::min(points, span)
        } else {
            points
        };
        touched.min(self.extent)
    }
}

fn off_chip(problem: &Problem, operand: usize, dims: &[FrameDim]) -> Option<OffChip> {
    let lies = problem.lies[operand].as_ref()?;
    let memory = problem.chip.nodes[problem.home[operand]].memory()?;
    let einsum = problem.einsum;
    let access = if operand == 2 {
        &einsum.output
    } else {
        einsum.inputs.get(operand)?
    };
    let place = |d: DimId| dims.iter().position(|x| x.id == d);
    matches!(memory.kind, MemoryKind::Dram).then(|| OffChip {
        layout: Layout::new(access, lies, problem.bits[operand], place),
        memory: memory.clone(),
    })
}

fn ranks(access: &Access, dims: &[FrameDim]) -> Vec<Rank> {
    let one = |(rank, extent): (&Affine, &u64)| {
        let index = |d: DimId| dims.iter().position(|x| x.id == d);
        let terms: Vec<(usize, u64)> = rank
            .terms
            .iter()
            .filter_map(|(d, c)| Some((index(*d)?, c.unsigned_abs().max(1))))
            .collect();
        let step = terms.iter().fold(0, |g, (_, c)| gcd(g, *c)).max(1);
        let terms = terms.into_iter().map(|(d, c)| (d, c as f64)).collect();
        Rank {
            terms,
            step: step as f64,
            extent: *extent as f64,
        }
    };
    let ranks = access.ranks.iter().zip(&access.extents).map(one);
    ranks.filter(|r| !r.terms.is_empty()).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Seconds of launch, and of fill and drain of the array.
fn fixed(problem: &Problem) -> f64 {
    let Some(engine) = problem.chip.engines.get(problem.engine) else {
        return 0.0;
    };
    let leaf = problem.path.last().map(|n| &problem.chip.nodes[*n].kind);
    let cycles = match (&engine.kind, leaf) {
        (
            EngineKind::Array {
                fill_cycles,
                drain_cycles,
                ..
            },
            Some(NodeKind::Compute(c)),
        ) => (fill_cycles + drain_cycles) as f64 / problem.chip.clocks[c.clock].domain.frequency.0,
        _ => 0.0,
    };
    engine.launch.0 + cycles
}

/// Seconds of one point on one instance, and joules of one MAC.
fn compute(problem: &Problem) -> (f64, f64) {
    let leaf = problem.path.last().map(|n| &problem.chip.nodes[*n].kind);
    match leaf {
        Some(NodeKind::Compute(c)) => match c.modes.get(problem.mode) {
            Some(mode) => {
                let hertz = problem.chip.clocks[c.clock].domain.frequency.0;
                (1.0 / (mode.macs_per_cycle * hertz), mode.energy.0)
            }
            None => (0.0, 0.0),
        },
        _ => (0.0, 0.0),
    }
}

fn store(problem: &Problem, position: usize) -> Option<Store> {
    let node = problem.path[position];
    let m = problem.chip.nodes[node].memory()?;
    let capacity = problem.capacity.get(position).map_or(0, |b| b.0);
    Some(Store {
        node,
        capacity: (capacity / u64::from(m.buffering.max(1))) as f64 * 8.0,
        energy: [m.read_energy.0, m.write_energy.0],
        time: m.streams().map(|rate| 1.0 / (rate.0 * 8.0)),
        shared_port: m.shared_port,
        single: m.buffering == 1,
        keep_overlap: m.overlap == Overlap::Keep,
        setup: m.setup.0,
    })
}

fn axes_of(problem: &Problem, node: NodeId, fanout: &Fanout, dims: &[FrameDim]) -> Vec<Axis> {
    let axis = |(i, d): (usize, &presil_hwmodels::FanoutDim)| {
        let mut accepts = Vec::new();
        for selector in &d.accepts {
            for (index, dim) in dims.iter().enumerate() {
                if selects(problem.einsum, selector, dim.id) && !accepts.contains(&index) {
                    accepts.push(index);
                }
            }
        }
        let inputs = bits_of(d.multicast) & !OUTPUT;
        Axis {
            fanout: node,
            axis: i as u8,
            size: d.size,
            shared: inputs | if d.reduces { OUTPUT } else { 0 },
            accepts,
        }
    };
    fanout.dims.iter().enumerate().map(axis).collect()
}

fn levels(problem: &Problem, dims: &[FrameDim]) -> (Vec<Store>, Vec<Level>, Vec<Axis>) {
    let position = |n: NodeId| problem.path.iter().position(|p| *p == n).unwrap_or(0);
    let home = problem.home.map(position);
    let (mut stores, mut axes): (Vec<Store>, Vec<Axis>) = (Vec::new(), Vec::new());
    let mut levels = vec![Level::default()];
    // Homes first: loops start below all of them that stand above the first fanout.
    let mut index_of = vec![None; problem.path.len()];
    for (p, index) in index_of.iter_mut().enumerate() {
        if let Some(s) = store(problem, p) {
            *index = Some(stores.len());
            stores.push(s);
        }
    }
    for (o, h) in home.iter().enumerate() {
        levels[0].memory[o] = index_of.get(*h).copied().flatten();
    }
    let top = home.iter().copied().min().unwrap_or(0);
    let mut fresh = true;
    for (p, node) in problem.path.iter().enumerate().skip(top) {
        match &problem.chip.nodes[*node].kind {
            NodeKind::Memory(m) => {
                let mine = |o: &Operand| p > home[o.index()] && m.keeps.has(*o);
                let kept = Operand::ALL
                    .iter()
                    .filter(|o| mine(o))
                    .fold(0u8, |s, o| s | 1 << o.index());
                if kept == 0 {
                    continue;
                }
                let last = levels.len() - 1;
                if fresh || last == 0 || levels[last].allowed() & kept != 0 {
                    levels.push(Level::default());
                    fresh = false;
                }
                if let Some(level) = levels.last_mut() {
                    level.required |= bits_of(m.must_keep) & kept;
                    for o in (0..3).filter(|o| kept & (1 << o) != 0) {
                        level.memory[o] = index_of[p];
                    }
                }
            }
            // Homes stand before all loops, so nothing is spread above one.
            NodeKind::Fanout(f) if home.iter().all(|h| *h < p) => {
                let start = axes.len();
                axes.extend(axes_of(problem, *node, f, dims));
                if let Some(level) = levels.last_mut() {
                    level.fans.push(Fan {
                        axes: start..axes.len(),
                        hop: f.hop_energy.0,
                    });
                }
                fresh = true;
            }
            NodeKind::Fanout(_) | NodeKind::Compute(_) => {}
        }
    }
    (stores, levels, axes)
}

/// Names that axes of a problem's path select dimensions by.
pub(super) fn named_dims<'a>(problem: &Problem<'a>) -> Vec<&'a str> {
    let kinds = problem.path.iter().map(|n| &problem.chip.nodes[*n].kind);
    let fanouts = kinds.filter_map(|k| {
        if let NodeKind::Fanout(f) = k {
            Some(f)
        } else {
            None
        }
    });
    let selectors = fanouts.flat_map(|f| f.dims.iter().flat_map(|d| &d.accepts));
    selectors
        .filter_map(|s| {
            if let DimSelector::Named(n) = s {
                Some(n.as_str())
            } else {
                None
            }
        })
        .collect()
}
