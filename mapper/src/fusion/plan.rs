//! Ways to run a group: shared loops, their order, and what stays in the group's memory over them; what each needs.
//!
//! ```text
//! iterations            N = product of trips (under a mask: those that run something)
//! fetches of an operand that is held = product of the trips of the loops from the outermost to the innermost that
//!                       indexes it; one that is streamed is fetched by its op in every iteration
//! room while op p runs  = tiles of intermediates that are alive + operands held + accumulators <= what is left
//! accumulator           = tile of the output x trips of the loops that index it inside the outermost that sums
//! ```
//!
//! Where rows slide ([`super::windows`]), a tile of an intermediate is the rows that are there, alive throughout if some stay
//! from one iteration to the next; an operand that is held fetches its rows as an op would make them.

use presil_hwmodels::{Chip, EngineKind, NodeId, NodeKind, Operand};
use presil_numerics::Format;
use presil_workloads::{OpId, TensorId};

use super::Halo;
use super::axes::{Group, Kind};
use super::rewrite;
use super::step::{Piece, Step, pieces, reduces, step};
use super::windows::{Slides, Window};
use crate::ledger::Stored;
use crate::schedule::engines::Choice;
use crate::schedule::residency::{Residency, Scene};
use crate::vector::{self, Operands};

/// A loop that the group shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shared {
    pub(crate) axis: usize,
    pub(crate) tile: u64,
    pub(crate) trips: u64,
}

/// A tensor from outside that the group reads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outside {
    pub(crate) tensor: TensorId,
    pub(crate) axes: Vec<usize>,
    /// Ops of the group that read it, by member.
    pub(crate) readers: Vec<usize>,
    /// Elements of all of it that the group touches.
    pub(crate) elements: u64,
    /// Elements that all iterations fetch, each its tile, if no loop fetches them again.
    pub(crate) fetched: f64,
    /// Stored bits of an element.
    pub(crate) bits: f64,
    /// Bytes of its tile.
    pub(crate) bytes: u64,
}

/// How the axes of a group are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The tile of each axis.
    pub(crate) tiles: Vec<u64>,
    /// The window over whose loop, the innermost, rows are kept; those of others are made again.
    pub(crate) kept: Option<usize>,
}

/// A tiling of a group.
#[derive(Debug, Clone)]
pub(crate) struct Tiling {
    pub(crate) cut: Cut,
    /// The iterations of each window that is cut.
    pub(crate) slides: Vec<Option<Slides>>,
    /// Loops in the order of the axes.
    pub(crate) loops: Vec<Shared>,
    pub(crate) pieces: Vec<(Piece, Step)>,
    /// The largest tiles.
    pub(crate) largest: Step,
    pub(crate) outside: Vec<Outside>,
    /// Format of outputs that accumulate over some loop.
    pub(crate) sums: Option<Format>,
    pub(crate) online: bool,
    /// The axis whose loop is the innermost, if one must be.
    innermost: Option<usize>,
    /// Iterations.
    pub(crate) iterations: u64,
}

/// A way to run a group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Way {
    pub(crate) memory: NodeId,
    /// Outermost first.
    pub(crate) loops: Vec<Shared>,
    /// Held over inner loops.
    pub(crate) held: Vec<TensorId>,
}

impl Way {
    /// Fetches of an operand that is held.
    pub(crate) fn fetches(&self, axes: &[usize]) -> u64 {
        let inner = self.loops.iter().rposition(|l| axes.contains(&l.axis));
        let above = inner.map_or(0, |i| i + 1);
        self.loops[..above].iter().map(|l| l.trips).product()
    }

    /// How often the whole operand is fetched: the trips of loops above its innermost that do not index it.
    pub(crate) fn rounds(&self, axes: &[usize]) -> u64 {
        let inner = self.loops.iter().rposition(|l| axes.contains(&l.axis));
        let above = inner.map_or(0, |i| i + 1);
        let again = |l: &&Shared| !axes.contains(&l.axis);
        self.loops[..above]
            .iter()
            .filter(again)
            .map(|l| l.trips)
            .product()
    }
}

/// Tile sizes of an axis that are looked at: those of 1, 2, 3, 4, 6, 8, 12 .. tiles, and all factors of small ones.
pub(crate) fn tile_sizes(size: u64) -> Vec<u64> {
    let mut trips: Vec<u64> = vec![1, 3];
    let mut step = 2u64;
    while step <= size {
        trips.push(step);
        if step >= 4 && step.saturating_mul(3) / 2 <= size {
            trips.push(step / 2 * 3);
        }
        step = step.saturating_mul(2);
    }
    if size <= 64 {
        trips.extend((1..=size).filter(|t| size.is_multiple_of(*t)));
    }
    let mut tiles: Vec<u64> = trips
        .iter()
        .filter(|t| **t <= size)
        .map(|t| size.div_ceil(*t))
        .collect();
    tiles.sort_unstable_by(|a, b| b.cmp(a));
    tiles.dedup();
    tiles
}

/// The format of partial sums of the group's MAC ops.
fn accumulator(chip: &Chip, scene: &Scene, group: &Group, given: Option<Format>) -> Option<Format> {
    let format = |id: &OpId| match &scene.choices[id.0 as usize] {
        Choice::Array(engines) => {
            let (engine, mode) = engines.first()?;
            let EngineKind::Array { compute, .. } = chip.engines[*engine].kind else {
                return None;
            };
            match &chip.nodes[compute].kind {
                NodeKind::Compute(c) => c.modes.get(*mode).map(|m| m.accumulate),
                _ => None,
            }
        }
        _ => None,
    };
    given.or_else(|| group.ops.iter().rev().find_map(format))
}

/// The format in which the vector unit of a group's softmax keeps its state and the outputs so far: that of the
/// first of fp32, bf16 and fp16 in which it can; array outputs come in it from the array's output stage.
fn state_format(scene: &Scene, group: &Group) -> Option<Format> {
    let softmax = group.ops[group.softmax?];
    let Choice::Vector(unit) = scene.choices[softmax.0 as usize] else {
        return None;
    };
    let able = |format: &Format| {
        let bits = format.bits() as f64;
        let one = Stored {
            home: scene.chip.root(),
            format: *format,
            elements: 1,
            bits,
            payload: bits,
            role: Operand::Output,
        };
        let operands = Operands {
            inputs: &[one; 3],
            outputs: &[one; 2],
        };
        let run = |list: &[presil_workloads::Einsum]| {
            vector::lane_work(scene.chip, &scene.chip.engines[unit], list, operands).is_ok()
        };
        run(&rewrite::state(1)) && run(&rewrite::rescale(1, 1))
    };
    [Format::FP32, Format::BF16, Format::FP16]
        .into_iter()
        .find(able)
}

impl Tiling {
    /// The tiling of a group by tile sizes; `None` if iterations differ too much or a tile cannot be stored.
    pub(crate) fn new(
        scene: &Scene,
        group: &Group,
        cut: &Cut,
        accumulate: Option<Format>,
        rough: bool,
    ) -> Option<Self> {
        let sizes: Vec<u64> = group.axes.iter().map(|a| a.size).collect();
        let whole = step(scene, group, &Piece::of(group, &sizes), None, false)?;
        Self::within(scene, group, cut, accumulate, rough, &whole)
    }

    /// The same; `whole`: the step of whole axes, of which only the sizes of tensors are looked at.
    pub(crate) fn within(
        scene: &Scene,
        group: &Group,
        cut: &Cut,
        accumulate: Option<Format>,
        rough: bool,
        whole: &Step,
    ) -> Option<Self> {
        let slides = slides(group, cut)?;
        Self::sliding(scene, group, cut, slides, accumulate, rough, whole)
    }

    /// The same with the iterations of each window that is cut.
    pub(crate) fn sliding(
        scene: &Scene,
        group: &Group,
        cut: &Cut,
        slides: Vec<Option<Slides>>,
        accumulate: Option<Format>,
        rough: bool,
        whole: &Step,
    ) -> Option<Self> {
        let tiles = &cut.tiles;
        let loops: Vec<Shared> = tiles
            .iter()
            .enumerate()
            .map(|(axis, tile)| Shared {
                axis,
                tile: *tile,
                trips: group.axes[axis].size.div_ceil(*tile),
            })
            .filter(|l| l.trips > 1)
            .collect();
        let of = |kind: Kind| loops.iter().any(|l| group.axes[l.axis].kind == kind);
        let online = of(Kind::Online);
        let sums = match (online, of(Kind::Sum)) {
            (true, _) => Some(state_format(scene, group)?),
            (false, true) => Some(accumulator(scene.chip, scene, group, accumulate)?),
            (false, false) => None,
        };
        let made: Option<Vec<(Piece, Step)>> = pieces(group, tiles, &slides, rough)?
            .into_iter()
            .map(|p| step(scene, group, &p, sums, online).map(|s| (p, s)))
            .collect();
        let made = made?;
        let most = |s: &Option<Slides>| s.as_ref().map(|s| s.most.clone());
        let full = Piece {
            offset: group.mask.map(|_| i64::MAX / 4),
            slides: slides.iter().map(most).collect(),
            ..Piece::of(group, tiles)
        };
        let largest = step(scene, group, &full, sums, online)?;
        let outside = outside(scene, group, &largest, whole, &slides);
        Some(Self {
            cut: cut.clone(),
            slides,
            iterations: made.iter().map(|(p, _)| p.weight).sum(),
            loops,
            pieces: made,
            largest,
            outside,
            sums,
            online,
            innermost: cut.kept.map(|w| group.windows[w].axis),
        })
    }

    /// The member's output that accumulates over some loop.
    pub(crate) fn accumulates(&self, scene: &Scene, group: &Group, member: usize) -> bool {
        self.sums.is_some() && reduces(scene, group, member)
    }

    /// What is alive in the group's memory: tensor, bytes, first and last member.
    pub(crate) fn live(
        &self,
        scene: &Scene,
        group: &Group,
        way: &Way,
    ) -> Vec<(TensorId, u64, usize, usize)> {
        let last = group.ops.len() - 1;
        let root = |member: usize| self.largest.tails.position[member];
        let bytes = |t: TensorId| {
            self.largest
                .tile(t)
                .map_or(0, |id| self.largest.graph.tensors[id].bits().bytes_ceil().0)
        };
        let mut list = Vec::new();
        for t in &group.inner {
            let uses = |m: &usize| {
                let op = &scene.graph.ops[group.ops[*m]];
                op.inputs
                    .iter()
                    .chain(&op.outputs)
                    .any(|x| scene.stored(*x) == t.0 as usize)
            };
            let members: Vec<usize> = (0..group.ops.len()).filter(uses).map(root).collect();
            if let (Some(from), Some(to)) = (members.iter().min(), members.iter().max()) {
                let whole = self.keeps(scene, group, *t);
                let (from, to) = if whole { (0, last) } else { (*from, *to) };
                list.push((*t, bytes(*t), from, to));
            }
        }
        list.extend(way.held.iter().map(|t| (*t, bytes(*t), 0, last)));
        for member in (0..group.ops.len()).filter(|m| self.accumulates(scene, group, *m)) {
            let op = &scene.graph.ops[group.ops[member]];
            for t in &op.outputs {
                let stored = TensorId(scene.stored(*t) as u32);
                let site = group.sites.iter().position(|s| s.member == member);
                let axes = site.map_or(Vec::new(), |s| {
                    group.indexed(s, &group.einsum(scene, s).output)
                });
                let sums = |l: &Shared| matches!(group.axes[l.axis].kind, Kind::Sum | Kind::Online);
                let outermost = way.loops.iter().position(sums).unwrap_or(way.loops.len());
                let inside = way.loops[outermost..]
                    .iter()
                    .filter(|l| axes.contains(&l.axis));
                let copies: u64 = inside.map(|l| l.trips).product();
                // The partial outputs of a tile of keys lie beside what they are added to.
                let extra = u64::from(self.online);
                list.push((
                    stored,
                    bytes(stored).saturating_mul(copies.saturating_add(extra)),
                    0,
                    last,
                ));
            }
        }
        list
    }

    /// Where a tensor of a step is.
    pub(crate) fn home(
        &self,
        group: &Group,
        way: &Way,
        residency: &Residency,
        whole: TensorId,
        sums: bool,
    ) -> NodeId {
        if sums || group.inner.contains(&whole) || way.held.contains(&whole) {
            return way.memory;
        }
        residency.home[whole.0 as usize]
    }

    /// Whether rows of a tensor made in the group stay from one iteration to the next.
    fn keeps(&self, scene: &Scene, group: &Group, t: TensorId) -> bool {
        let maker = group.maker(scene, t);
        let kept = |s: &Slides| maker.is_some_and(|m| s.kept[m]);
        self.slides.iter().flatten().any(kept)
    }

    /// Rows made in the group that iterations share, along each loop over rows where there are some.
    pub(crate) fn halo(&self, group: &Group) -> Vec<Halo> {
        let windows = group.windows.iter().zip(&self.slides);
        let of = |(w, slides): (&Window, &Option<Slides>)| {
            let slides = slides.as_ref()?;
            let made = slides.overlap.iter().take(w.of_site.len());
            let rows = made.copied().max().filter(|rows| *rows > 0)?;
            Some(Halo {
                dim: group.axes[w.axis].name.clone(),
                rows,
                kept: slides.kept.contains(&true),
            })
        };
        windows.filter_map(of).collect()
    }

    /// Elements of an operand that fetching it for each iteration of a way's loops moves, where it is held.
    pub(crate) fn fetched(&self, way: &Way, o: &Outside) -> f64 {
        way.rounds(&o.axes) as f64 * o.fetched
    }

    /// Orders of the loops that differ in what they fetch.
    pub(crate) fn orders(&self) -> Vec<Vec<Shared>> {
        let mut list = vec![Vec::new()];
        for l in &self.loops {
            let before = std::mem::take(&mut list);
            for order in before {
                for at in 0..=order.len() {
                    let mut next: Vec<Shared> = order.clone();
                    next.insert(at, *l);
                    list.push(next);
                }
            }
        }
        if let Some(axis) = self.innermost {
            list.retain(|order: &Vec<Shared>| order.last().is_some_and(|l| l.axis == axis));
        }
        list
    }
}

/// The iterations of each window that is cut; `None` if there are too many.
pub(crate) fn slides(group: &Group, cut: &Cut) -> Option<Vec<Option<Slides>>> {
    let of = |(w, window): (usize, &Window)| {
        let (tile, size) = (cut.tiles[window.axis], group.axes[window.axis].size);
        match tile < size {
            true => window.slides(tile, cut.kept == Some(w)).map(Some),
            false => Some(None),
        }
    };
    group.windows.iter().enumerate().map(of).collect()
}

fn outside(
    scene: &Scene,
    group: &Group,
    largest: &Step,
    whole: &Step,
    slides: &[Option<Slides>],
) -> Vec<Outside> {
    let mut list = Vec::new();
    for (id, t) in largest.graph.tensors.iter_ids() {
        let stored = largest.whole[id.0 as usize];
        let made = largest.graph.ops.iter().any(|o| o.outputs.contains(&id));
        if made {
            continue;
        }
        let mut axes = Vec::new();
        let mut readers = Vec::new();
        for (member, op) in largest.graph.ops.iter().enumerate() {
            let Some(_) = op.inputs.iter().find(|x| **x == id) else {
                continue;
            };
            readers.push(largest.tails.position[member]);
            for s in (0..group.sites.len()).filter(|s| group.sites[*s].member == member) {
                for access in &group.einsum(scene, s).inputs {
                    let own = matches!(access.place, presil_workloads::einsum::Place::Input(i) if op.inputs.get(i as usize) == Some(&id));
                    if own {
                        axes.extend(group.indexed(s, access));
                    }
                }
            }
        }
        axes.sort_unstable();
        axes.dedup();
        readers.dedup();
        let elements = whole
            .tile(stored)
            .map_or(0, |w| whole.graph.tensors[w].elements());
        let rows = group.windows.iter().zip(slides).filter_map(|(w, s)| {
            let at = w.outside.iter().position(|t| *t == stored)?;
            let node = w.of_site.len() + at;
            let fetched = s.as_ref()?.made[node];
            Some(fetched as f64 / w.sizes[node] as f64)
        });
        list.push(Outside {
            fetched: elements as f64 * rows.product::<f64>(),
            tensor: stored,
            axes,
            readers,
            elements,
            bits: t.bits().0 as f64 / t.elements().max(1) as f64,
            bytes: t.bits().bytes_ceil().0,
        });
    }
    list
}

/// Memories in which a group's tiles may be: those at which all its arrays may keep what passes between its ops.
pub(crate) fn memories(scene: &Scene, group: &Group) -> Vec<NodeId> {
    let chip = scene.chip;
    let able = |m: &NodeId| {
        let node = &chip.nodes[*m];
        let Some(memory) = node.memory() else {
            return false;
        };
        *m != chip.root()
            && node.instances == 1
            && memory.resident
            && group.ops.iter().all(|id| {
                let Choice::Array(engines) = &scene.choices[id.0 as usize] else {
                    return true;
                };
                let on_path = engines.iter().all(|(e, _)| match chip.engines[*e].kind {
                    EngineKind::Array { compute, .. } => chip.path(compute).contains(m),
                    _ => false,
                });
                on_path && Operand::ALL.iter().all(|o| memory.keeps.has(*o))
            })
    };
    chip.nodes.ids().filter(able).collect()
}
