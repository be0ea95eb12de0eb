//! An einsum as the checker sees it: operands, levels from the inside out, and what fanouts further out can still do.

use presil_numerics::ids::Id;
use presil_workloads::Einsum;

use super::obey::Rule;
use super::view::{handed, intermediate};
use crate::case::Case;
use crate::hierarchy::{Hierarchy, Level, MemoryLevel, Transfer, access_of, operand_count};
use crate::search::Objective;

/// An operand: which dimensions index it.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub indexed: Vec<bool>,
    /// Whether the dimension is a rank of its own.
    pub plain: Vec<bool>,
    /// Other ranks: dimensions and their steps.
    pub windows: Vec<Vec<(usize, f64)>>,
    /// Product of the extents of plain dimensions.
    pub plain_size: f64,
    /// Different elements.
    pub elements: f64,
    pub output: bool,
}

/// One axis of a fanout.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub level: usize,
    pub axis: usize,
    pub size: u64,
    pub accepts: Vec<bool>,
    pub shares: Vec<bool>,
    pub least: u64,
}

/// Memories without a fanout between, and the axes between them and the next ones inside.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    pub memories: Vec<usize>,
    pub axes: Vec<Axis>,
    pub given: Vec<(usize, u64)>,
    pub least: f64,
}

/// What is decided next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Loops along an axis of the fan inside a group.
    Axis(usize, usize),
    /// A storage of a group.
    Keep(usize),
}

/// The most that axes further out can do.
#[derive(Debug, Clone)]
pub(super) struct Outer {
    /// Instances that one word of each operand serves.
    pub shared: Vec<f64>,
    pub instances: f64,
    /// Instances in dimensions that do not index the output.
    pub apart: f64,
    /// Dimensions that may lie along them.
    pub dims: Vec<bool>,
}

pub(super) struct Model<'a> {
    pub einsum: &'a Einsum,
    pub hierarchy: &'a Hierarchy,
    pub objective: Objective,
    /// Picojoules and cycles of other einsums that stand beside each figure.
    pub beside: (f64, f64),
    pub perfect: bool,
    /// The input and the output that may be handed over tile by tile.
    pub handed: [Option<usize>; 2],
    /// Whether an operand lies between two einsums.
    pub between: Vec<bool>,
    pub sizes: Vec<u64>,
    pub operands: Vec<Operand>,
    /// Outermost first.
    pub groups: Vec<Group>,
    pub operations: f64,
    pub rate: f64,
    pub compute_energy: f64,
    /// Constraints of memories, and the dimensions whose loops they tell apart by where they stand.
    pub rules: Vec<Rule>,
    pub ruled: Vec<bool>,
    /// What is further out, by group and open axes of its fan.
    outers: Vec<Vec<Outer>>,
}

impl<'a> Model<'a> {
    pub fn new(
        case: &'a Case,
        i: usize,
        objective: Objective,
        beside: (f64, f64),
        perfect: bool,
    ) -> Option<Self> {
        let e = case.einsums.get(i)?;
        let between = e.operands.iter().map(|t| intermediate(case, *t));
        let (einsum, hierarchy) = (&e.einsum, &e.hierarchy);
        let sizes: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
        let compute = hierarchy.compute()?;
        let operands: Vec<Operand> = (0..operand_count(einsum))
            .map(|o| operand(einsum, &sizes, o))
            .collect();
        let mut groups = vec![Group::default()];
        for (level, l) in hierarchy.levels.iter().enumerate() {
            let at = groups.len() - 1;
            match l {
                Level::Memory(_) if groups[at].axes.is_empty() => groups[at].memories.push(level),
                Level::Memory(_) => groups.push(Group {
                    memories: vec![level],
                    ..Group::default()
                }),
                Level::Fanout(f) => {
                    let constraints = e.constraints.levels.iter().filter(|c| c.level == level);
                    let forbidden = |d: usize| constraints.clone().any(|c| c.forbidden.has(d));
                    for (axis, a) in f.axes.iter().enumerate() {
                        let shared = |d: usize| {
                            let mut all = operands.iter().enumerate();
                            all.all(|(o, x)| !a.must_share.has(o) || !x.indexed[d])
                        };
                        let accepts = |d: usize| {
                            sizes[d] > 1 && a.accepts.has(d) && !forbidden(d) && shared(d)
                        };
                        groups[at].axes.push(Axis {
                            level,
                            axis,
                            size: a.size,
                            accepts: (0..sizes.len()).map(accepts).collect(),
                            shares: (0..operands.len()).map(|o| a.shares.has(o)).collect(),
                            least: (a.min_usage * a.size as f64).ceil() as u64,
                        });
                    }
                    for c in constraints {
                        let given = c.trips.iter().filter(|(d, _)| sizes[*d] > 1);
                        groups[at].given.extend(given.copied());
                        groups[at].least = groups[at].least.max(c.min_utilization);
                    }
                }
                Level::Compute(_) => {}
            }
        }
        let rules = Rule::all(e, &sizes);
        let named = |d: usize| sizes[d] > 1 && rules.iter().any(|r| r.names(d));
        let mut model = Self {
            ruled: (0..sizes.len()).map(named).collect(),
            rules,
            einsum,
            hierarchy,
            objective,
            beside,
            perfect: perfect || e.constraints.perfect,
            handed: handed(case, i),
            between: between.collect(),
            operations: sizes.iter().map(|s| *s as f64).product(),
            sizes,
            operands,
            groups,
            rate: compute.rate,
            compute_energy: compute.energy,
            outers: Vec::new(),
        };
        let of = |(g, group): (usize, &Group)| {
            let opens = 0..=group.axes.len();
            opens.map(|open| model.all_outside(g, open)).collect()
        };
        model.outers = model.groups.iter().enumerate().map(of).collect();
        Some(model)
    }

    /// Whether an operand that a chain of memories keeps is handed over tile by tile: not from the outermost memory.
    pub fn floats(&self, o: usize, chain: &[usize]) -> bool {
        self.handed.contains(&Some(o)) && chain.first().is_some_and(|home| *home > 0)
    }

    pub fn any_floats(&self, chains: &[Vec<usize>]) -> bool {
        let mut chains = chains.iter().enumerate();
        chains.any(|(o, chain)| self.floats(o, chain))
    }

    /// Of the first so many memories of an operand, those whose storages are steps: all but the home of a whole tensor.
    pub fn storages<'c>(&self, o: usize, chain: &'c [usize], left: usize) -> &'c [usize] {
        let first = usize::from(!self.floats(o, chain));
        chain.get(first..left).unwrap_or(&[])
    }

    /// Whether the trips of a whole fan are as asked.
    pub fn obeys(&self, group: usize, trips: &[u64]) -> bool {
        let group = &self.groups[group];
        let used: f64 = trips.iter().map(|n| *n as f64).product();
        let instances: f64 = group.axes.iter().map(|a| a.size as f64).product();
        group.given.iter().all(|(d, n)| trips[*d] == *n) && used >= group.least * instances
    }

    /// Order of dimensions, innermost first, that loops below storages of a memory are told in.
    pub fn turn(&self, level: usize) -> Vec<usize> {
        let rule = self.rules.iter().rev().find(|r| r.level == level);
        let order: &[usize] = rule.map_or(&[], |r| &r.order);
        let others = (0..self.sizes.len()).filter(|d| !order.contains(d));
        others.chain(order.iter().copied()).collect()
    }

    pub fn memory(&self, level: usize) -> Option<&'a MemoryLevel> {
        self.hierarchy.levels.get(level).and_then(Level::memory)
    }

    pub fn group_of(&self, level: usize) -> usize {
        let of = |g: &Group| g.memories.contains(&level);
        self.groups.iter().position(of).unwrap_or(0)
    }

    /// Picojoules of moving an element of an operand: from above, to above, to below, from below.
    pub fn energy(&self, level: usize, o: usize) -> [f64; 4] {
        let Some(m) = self.memory(level) else {
            return [0.0; 4];
        };
        let bits = m.bits.get(o).copied().unwrap_or(0.0);
        Transfer::ALL.map(|t| {
            let each = if t.reads() {
                m.read_energy
            } else {
                m.write_energy
            };
            bits * each
        })
    }

    /// Cycles of moving an element, by kind and port.
    pub fn cycles(&self, level: usize, o: usize) -> [Vec<f64>; 4] {
        let Some(m) = self.memory(level) else {
            return std::array::from_fn(|_| Vec::new());
        };
        let bits = m.bits.get(o).copied().unwrap_or(0.0);
        Transfer::ALL.map(|t| {
            let of = |p: &crate::hierarchy::Port| match p.carries.contains(&(o, t)) {
                true if t.reads() => bits / p.read_rate,
                true => bits / p.write_rate,
                false => 0.0,
            };
            m.ports.iter().map(of).collect()
        })
    }

    /// Bits for tiles.
    pub fn room(&self, level: usize) -> f64 {
        self.memory(level).map_or(0.0, |m| m.capacity / m.buffering)
    }

    /// Bits of a tile of an operand at a memory.
    pub fn bits(&self, level: usize, o: usize, tile: &[u64]) -> f64 {
        let each = self.memory(level).and_then(|m| m.bits.get(o).copied());
        let x = &self.operands[o];
        let plain = (0..tile.len()).filter(|d| x.plain[*d]);
        let plain: f64 = plain.map(|d| tile[d] as f64).product();
        let reach = |w: &Vec<(usize, f64)>| {
            1.0 + w
                .iter()
                .map(|(d, c)| c * (tile[*d] as f64 - 1.0))
                .sum::<f64>()
        };
        plain * x.windows.iter().map(reach).product::<f64>() * each.unwrap_or(0.0)
    }

    /// Elements that a storage of an operand takes in over all its tiles; `slide`: the dimension and outer tile of the
    /// loop directly above, in whose steps only new positions enter.
    pub fn fills(&self, o: usize, tile: &[u64], slide: Option<(usize, u64)>) -> f64 {
        let x = &self.operands[o];
        let again = (0..tile.len()).filter(|d| !x.indexed[*d]);
        let again: f64 = again.map(|d| self.count(d, tile[d])).product();
        let windows = x.windows.iter().map(|w| self.positions(w, tile, slide));
        x.plain_size * again * windows.product::<f64>()
    }

    /// Tiles of a dimension.
    fn count(&self, d: usize, tile: u64) -> f64 {
        self.sizes[d].div_ceil(tile) as f64
    }

    /// Positions of a window that enter over all combinations of tiles.
    fn positions(&self, w: &[(usize, f64)], tile: &[u64], slide: Option<(usize, u64)>) -> f64 {
        let count = |d: usize| self.count(d, tile[d]);
        let all: f64 = w.iter().map(|(d, _)| count(*d)).product();
        let mean = |(d, c): &(usize, f64)| c * (self.sizes[*d] as f64 / count(*d) - 1.0);
        let whole = all * (1.0 + w.iter().map(mean).sum::<f64>());
        let Some((d, outer)) = slide else {
            return whole;
        };
        let Some((_, step)) = w.iter().find(|t| t.0 == d) else {
            return whole;
        };
        let steps = count(d) - self.count(d, outer);
        let others: Vec<(usize, f64)> = w.iter().filter(|t| t.0 != d).copied().collect();
        let stays = |reach: f64| (reach + 1.0 - step).max(0.0);
        let kept = match others.as_slice() {
            [(e, c)] => {
                let (full, rest) = (self.sizes[*e] / tile[*e], self.sizes[*e] % tile[*e]);
                let last = if rest > 0 {
                    stays(c * (rest as f64 - 1.0))
                } else {
                    0.0
                };
                full as f64 * stays(c * (tile[*e] as f64 - 1.0)) + last
            }
            // All tiles as large as the full ones: no fewer positions stay.
            _ => {
                let reach = others.iter().map(|(e, c)| c * (tile[*e] as f64 - 1.0));
                let times: f64 = others.iter().map(|(e, _)| count(*e)).product();
                times * stays(reach.sum())
            }
        };
        whole - steps * kept
    }

    /// What all axes of groups outside `group` can do, and those of its own fan before axis `open`.
    pub fn outer(&self, group: usize, open: usize) -> &Outer {
        &self.outers[group][open]
    }

    fn all_outside(&self, group: usize, open: usize) -> Outer {
        let mut outer = Outer {
            shared: vec![1.0; self.operands.len()],
            instances: 1.0,
            apart: 1.0,
            dims: vec![false; self.sizes.len()],
        };
        let own = self.groups[group].axes.iter().take(open);
        let before = self.groups[..group].iter().flat_map(|g| &g.axes);
        for axis in before.chain(own) {
            let size = axis.size as f64;
            for (o, x) in self.operands.iter().enumerate() {
                let free = (0..self.sizes.len()).any(|d| axis.accepts[d] && !x.indexed[d]);
                if free && axis.shares[o] {
                    outer.shared[o] *= size;
                }
                if free && x.output {
                    outer.apart *= size;
                }
            }
            if axis.accepts.contains(&true) {
                outer.instances *= size;
            }
            for (d, accepts) in axis.accepts.iter().enumerate() {
                outer.dims[d] |= accepts;
            }
        }
        outer
    }

    /// The objective's figure with the other einsums beside.
    pub fn figure(&self, energy: f64, cycles: f64) -> f64 {
        self.alone(energy + self.beside.0, cycles + self.beside.1)
    }

    /// The objective's figure.
    pub fn alone(&self, energy: f64, cycles: f64) -> f64 {
        match self.objective {
            Objective::Latency => cycles,
            Objective::Energy => energy,
            Objective::Edp => energy * cycles,
        }
    }
}

fn operand(einsum: &Einsum, sizes: &[u64], o: usize) -> Operand {
    let mut x = Operand {
        indexed: vec![false; sizes.len()],
        plain: vec![false; sizes.len()],
        windows: Vec::new(),
        plain_size: 1.0,
        elements: 1.0,
        output: o + 1 == operand_count(einsum),
    };
    for rank in &access_of(einsum, o).ranks {
        let terms = rank
            .terms
            .iter()
            .map(|(d, c)| (d.index(), c.unsigned_abs()));
        let terms: Vec<(usize, u64)> = terms.filter(|(d, _)| sizes[*d] > 1).collect();
        terms.iter().for_each(|(d, _)| x.indexed[*d] = true);
        match terms.as_slice() {
            [] => {}
            [(d, 1)] => {
                x.plain[*d] = true;
                x.plain_size *= sizes[*d] as f64;
            }
            _ => {
                x.elements *= different(&terms, sizes);
                x.windows
                    .push(terms.iter().map(|(d, c)| (*d, *c as f64)).collect());
            }
        }
    }
    x.elements *= x.plain_size;
    x
}

/// Positions that are counted one by one; of longer ranks, the longest dimension's are taken, which are no more.
const COUNTED: u64 = 1_000_000;

/// Different positions of a rank.
fn different(terms: &[(usize, u64)], sizes: &[u64]) -> f64 {
    let most = terms.iter().map(|(d, _)| sizes[*d]).max().unwrap_or(1);
    let points = terms
        .iter()
        .try_fold(1u64, |n, (d, _)| n.checked_mul(sizes[*d]));
    let reach = terms.iter().try_fold(1u64, |n, (d, c)| {
        n.checked_add(c.checked_mul(sizes[*d] - 1)?)
    });
    if points.is_none_or(|n| n > COUNTED) || reach.is_none_or(|n| n > COUNTED) {
        return most as f64;
    }
    let mut seen = std::collections::BTreeSet::from([0u64]);
    for (d, c) in terms {
        let shifted = seen
            .iter()
            .flat_map(|s| (0..sizes[*d]).map(move |i| s + i * c));
        seen = shifted.collect();
    }
    seen.len() as f64
}

/// All placements, sorted: memories that keep each operand, from one above the first fanout inwards.
pub(super) fn placements(model: &Model) -> Vec<Vec<Vec<usize>>> {
    let mut all = vec![Vec::new()];
    let memories: Vec<usize> = model
        .groups
        .iter()
        .flat_map(|g| g.memories.clone())
        .collect();
    for o in 0..model.operands.len() {
        let mut chains: Vec<Vec<usize>> = Vec::new();
        for set in 0u64..1 << memories.len() {
            let kept = |i: &usize| set & (1 << i) != 0;
            let chain = (0..memories.len()).filter(kept).map(|i| memories[i]);
            let chain: Vec<usize> = chain.collect();
            if keeps(model, o, &chain) {
                chains.push(chain);
            }
        }
        let with = |p: &Vec<Vec<usize>>| {
            let p = p.clone();
            let one = |c: &Vec<usize>| p.iter().cloned().chain([c.clone()]).collect::<Vec<_>>();
            chains.iter().map(one).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(with).collect();
    }
    all.sort();
    all
}

/// Whether a chain of memories may keep an operand.
fn keeps(model: &Model, o: usize, chain: &[usize]) -> bool {
    let Some(home) = chain.first() else {
        return false;
    };
    let mut above = false;
    let allowed = model.groups.iter().flat_map(|g| &g.memories).all(|level| {
        let here = chain.contains(level);
        let Some(m) = model.memory(*level) else {
            return false;
        };
        let must = m.must_keep.has(o) || (m.must_keep_unless_above.has(o) && !above);
        above |= here;
        (here || !must) && (!here || must || m.keeps.has(o))
    });
    // Between two einsums: whole at the outermost memory, or tile by tile.
    let starts = !model.between[o] || *home == 0 || model.handed.contains(&Some(o));
    allowed && starts && model.group_of(*home) == 0
}

/// The steps of a placement, from the inside out.
pub(super) fn stages(model: &Model, chains: &[Vec<usize>]) -> Vec<Stage> {
    let mut stages = Vec::new();
    for (g, group) in model.groups.iter().enumerate().rev() {
        stages.extend((0..group.axes.len()).rev().map(|a| Stage::Axis(g, a)));
        let chains = chains.iter().enumerate();
        let storages = chains.flat_map(|(o, c)| model.storages(o, c, c.len()));
        let here = storages.filter(|m| group.memories.contains(m)).count();
        stages.extend(std::iter::repeat_n(Stage::Keep(g), here));
    }
    stages
}
