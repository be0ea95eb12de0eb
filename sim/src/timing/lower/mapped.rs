//! A mapped op as works of its array and of everybody who feeds it.
//!
//! ```text
//! input, weight   for each tile that a memory takes:  room in it, the tile above -> load -> there
//! array           for each pass: tiles there -> pass;  a tile that is used up gives its room back
//! output          room -> passes -> [vector unit, if complete] -> store -> room;
//!                 partial sums of an earlier visit come back once they have been stored
//! ```
//!
//! A transfer occupies the ports and links that it crosses at once; the setting up of a descriptor takes `setup` of the memory above, its
//! first word comes after that memory's `latency` and that of the hops of networks. Weights that stream from the root memory are loaded as early as there
//! is room, if the chip prefetches; everything else waits for the op to be launched.

use presil_hwmodels::{EngineId, NodeId, Operand};
use presil_mapper::analysis::tiles::{Port, TileEdge, Tiles, Transfers};

use super::parts::{Lane, Parts, Steps, Tokens, Who, femto};
use super::walk::{Apart, At, Edge, Walk, volume};
use crate::timing::program::{PoolId, Step, Work};

/// What runs beside the passes: the epilogue on the vector unit, and traffic that is not the mapping's.
#[derive(Debug, Clone, Default)]
pub(super) struct Beside {
    /// The vector unit of the epilogue, and its seconds.
    pub(super) vector: Option<(EngineId, f64)>,
    /// Port seconds of operands of the epilogue.
    pub(super) ports: Vec<(NodeId, Port, f64)>,
    /// Port seconds of weights that are no operand of the array: biases, scales.
    pub(super) weights: Vec<(NodeId, Port, f64)>,
}

/// One run of a mapped op.
pub(super) struct Mapped<'a> {
    pub(super) lane: Lane,
    pub(super) engine: EngineId,
    pub(super) tiles: &'a Tiles,
    /// What is done of the work of `tiles`, on average.
    pub(super) share: f64,
    pub(super) beside: Beside,
    /// Whether its weights may come before it is launched.
    pub(super) prefetch: bool,
    /// The part of these weights that was fetched before its first tile is wanted.
    pub(super) ahead: f64,
}

impl Mapped<'_> {
    /// Its steps; `go`: who has to be told that it starts. When all is done it gives [`Tokens::Done`].
    pub(super) fn lower(&self, parts: &mut Parts, go: &mut Vec<Who>) -> Steps {
        let mut steps = Steps::default();
        for edge in &self.tiles.edges {
            if edge.operand != Operand::Output {
                if let Some(t) = &edge.down {
                    let own = self.load(parts, edge, t);
                    steps.extend(Who::Load(self.lane, edge.child, edge.operand), own);
                }
                continue;
            }
            if let Some(t) = &edge.down {
                let own = self.restore(parts, edge, t);
                steps.extend(Who::Restore(self.lane, edge.child), own);
            }
            if let Some(t) = &edge.up {
                let own = self.store(parts, edge, t);
                steps.extend(Who::Store(self.lane, edge.child), own);
            }
        }
        let array = Who::Array(self.lane, self.engine);
        let passes = self.passes(parts);
        steps.extend(array, passes);
        self.epilogue(parts, &mut steps);
        let (last, tail) = self.ends(array);
        let done = parts.give(&[Tokens::Done], tail);
        steps.push(last, done);
        self.gate(parts, steps, go)
    }

    /// Has all queues wait for the launch, but for those that may fetch weights before.
    fn gate(&self, parts: &mut Parts, steps: Steps, go: &mut Vec<Who>) -> Steps {
        let mut gated = Steps::default();
        let weights = self.edges(Operand::Weight).next();
        let early = weights.is_some_and(|e| self.early(parts, e));
        for (who, own) in steps.0 {
            if !(early && matches!(who, Who::Load(_, _, Operand::Weight))) {
                go.push(who);
                gated.push(who, parts.take(Tokens::Go(who)));
            }
            gated.extend(who, own);
        }
        gated
    }

    /// Weights that nothing before the op makes.
    fn early(&self, parts: &Parts, edge: &TileEdge) -> bool {
        self.prefetch && edge.operand == Operand::Weight && edge.parent == parts.chip.root()
    }

    fn edges(&self, operand: Operand) -> impl DoubleEndedIterator<Item = &TileEdge> {
        let moves = |e: &&TileEdge| e.down.is_some() || e.up.is_some();
        self.tiles
            .edges
            .iter()
            .filter(move |e| e.operand == operand)
            .filter(moves)
    }

    /// The storage that the array takes an operand from, or gives outputs to.
    fn innermost(&self, operand: Operand) -> Option<&TileEdge> {
        self.edges(operand).next_back()
    }

    /// Tiles that came over an edge, for the next edge inside or the array.
    fn there(&self, edge: &TileEdge) -> Tokens {
        let inside = self.edges(edge.operand).find(|e| e.parent == edge.child);
        let to = inside.map(|e| e.child);
        Tokens::There(self.lane, edge.child, edge.operand, edge.parent, to)
    }

    /// The edge into the parent of an edge, if that takes tiles itself.
    fn above(&self, edge: &TileEdge) -> Option<&TileEdge> {
        self.edges(edge.operand).find(|e| e.child == edge.parent)
    }

    /// A transfer of an edge of which `part` of all is moved.
    fn transfer(&self, parts: &mut Parts, edge: &TileEdge, t: &Transfers, part: f64) -> Work {
        let part = part * self.share;
        // What was fetched ahead is not fetched from the root memory again.
        let left = |n: NodeId| match self.early(parts, edge) && n == edge.parent {
            true => 1.0 - self.ahead,
            false => 1.0,
        };
        let ports = t.ports.iter();
        let ports: Vec<_> = ports
            .map(|(n, p, s)| (*n, *p, s * part * left(*n)))
            .collect();
        let told_as = Some(parts.memory_cause(edge.parent));
        let memory = parts.chip.nodes[edge.parent].memory();
        let reads = t
            .ports
            .iter()
            .any(|p| p.0 == edge.parent && p.1 == Port::Read);
        Work {
            setup: femto(memory.map_or(0.0, |m| m.setup.0)),
            tail: femto(memory.filter(|_| reads).map_or(0.0, |m| m.latency.0) + t.latency.0),
            flow: parts.flow(self.lane, &ports, 0.0),
            told_as,
            ..Work::default()
        }
    }

    /// Tiles of an input on their way down.
    fn load(&self, parts: &mut Parts, edge: &TileEdge, t: &Transfers) -> Vec<Step> {
        let walk = Walk::new(self.tiles, Apart::default());
        let sum = walk.sum(edge.inner, &|at| volume(at, &edge.dims));
        let above = self.above(edge);
        let (lane, operand) = (self.lane, edge.operand);
        walk.steps(edge.inner, &mut |at, side| {
            let mut steps = Vec::new();
            let around = above.filter(|_| at.depth == edge.outer);
            if let (Some(above), Edge::Before) = (around, side) {
                steps.push(parts.take(self.there(above)));
            }
            if at.depth == edge.inner && side == Edge::Before {
                steps.push(parts.take_room(Tokens::Room(lane, edge.child, operand), edge.slots));
                let mut work = self.transfer(parts, edge, t, volume(at, &edge.dims) / sum);
                work.signals = vec![(parts.pool(self.there(edge)), 1)];
                steps.push(parts.work(work));
            }
            if let (Some(above), Edge::After) = (around, side) {
                steps.push(parts.free(Tokens::Room(lane, edge.parent, operand), above.slots));
            }
            steps
        })
    }

    /// Partial sums that an earlier visit of their tile left above; all tiles get their room here, in order.
    fn restore(&self, parts: &mut Parts, edge: &TileEdge, t: &Transfers) -> Vec<Step> {
        let walk = Walk::new(self.tiles, SUMS);
        let again = |at: &At| match at.fresh {
            true => 0.0,
            false => volume(at, &edge.dims),
        };
        let sum = walk.sum(edge.inner, &again);
        let lane = self.lane;
        walk.steps(edge.inner, &mut |at, side| {
            let mut steps = Vec::new();
            if at.depth != edge.inner || side == Edge::After {
                return steps;
            }
            let room = Tokens::Room(lane, edge.child, Operand::Output);
            steps.push(parts.take_room(room, edge.slots));
            let mut work = Work::default();
            if !at.fresh {
                steps.push(parts.take(Tokens::Stored(lane, edge.child)));
                work = self.transfer(parts, edge, t, again(at) / sum);
            }
            work.signals = vec![(parts.pool(Tokens::Back(lane, edge.child)), 1)];
            steps.push(parts.work(work));
            steps
        })
    }

    /// What has to be there before outputs are put into the child of an edge.
    fn room(&self, parts: &mut Parts, edge: &TileEdge) -> Step {
        match edge.down {
            Some(_) => parts.take(Tokens::Back(self.lane, edge.child)),
            None => {
                let room = Tokens::Room(self.lane, edge.child, Operand::Output);
                parts.take_room(room, edge.slots)
            }
        }
    }

    /// Outputs on their way up.
    fn store(&self, parts: &mut Parts, edge: &TileEdge, t: &Transfers) -> Vec<Step> {
        let walk = Walk::new(self.tiles, SUMS);
        let sum = walk.sum(edge.inner, &|at| volume(at, &edge.dims));
        let above = self
            .edges(Operand::Output)
            .find(|e| e.child == edge.parent && e.up.is_some());
        let innermost = self
            .innermost(Operand::Output)
            .is_some_and(|e| e.child == edge.child);
        let lane = self.lane;
        walk.steps(edge.inner, &mut |at, side| {
            let mut steps = Vec::new();
            let above = above.filter(|_| at.depth == edge.outer);
            if let (Some(above), Edge::Before) = (above, side) {
                steps.push(self.room(parts, above));
            }
            if at.depth == edge.inner && side == Edge::Before {
                steps.push(parts.take(match (innermost, at.last) {
                    (true, true) => self.complete(edge.child),
                    (true, false) => Tokens::Partial(lane, edge.child),
                    (false, _) => self.there(edge),
                }));
                let mut work = self.transfer(parts, edge, t, volume(at, &edge.dims) / sum);
                let room = Tokens::Room(lane, edge.child, Operand::Output);
                work.frees = vec![parts.room(room, edge.slots)];
                if edge.down.is_some() && !at.last {
                    work.signals = vec![(parts.pool(Tokens::Stored(lane, edge.child)), 1)];
                }
                steps.push(parts.work(work));
            }
            if let (Some(above), Edge::After) = (above, side) {
                steps.push(parts.give(&[self.there(above)], 0.0));
            }
            steps
        })
    }

    fn has_epilogue(&self) -> bool {
        self.beside.vector.is_some() || !self.beside.ports.is_empty()
    }

    /// What a store waits for: a complete tile, which went through the vector unit if there is something to do.
    fn complete(&self, child: NodeId) -> Tokens {
        match self.has_epilogue() {
            true => Tokens::Finished(self.lane, child),
            false => Tokens::Complete(self.lane),
        }
    }

    /// The array.
    fn passes(&self, parts: &mut Parts) -> Vec<Step> {
        let passes = &self.tiles.passes;
        let preload = passes.preload.0 * self.share;
        let apart = Apart {
            sums: true,
            first: preload > 0.0,
        };
        let walk = Walk::new(self.tiles, apart);
        let all: Vec<usize> = (0..self.tiles.sizes.len()).collect();
        let sum = walk.sum(passes.depth, &|at| volume(at, &all));
        let inputs: Vec<&TileEdge> = [Operand::Input, Operand::Weight]
            .into_iter()
            .filter_map(|o| self.innermost(o))
            .collect();
        let output = self.innermost(Operand::Output).filter(|e| e.up.is_some());
        let (lane, tail) = (self.lane, passes.tail.0);
        let from_passes = output.is_none() && self.has_epilogue();
        walk.steps(passes.depth, &mut |at, side| {
            let mut steps = Vec::new();
            let out = output.filter(|e| e.inner == at.depth);
            let mut frees = Vec::new();
            for e in inputs.iter().filter(|e| e.inner == at.depth) {
                match side {
                    Edge::Before => {
                        steps.push(parts.take(self.there(e)));
                    }
                    Edge::After => {
                        let room = Tokens::Room(lane, e.child, e.operand);
                        frees.push(parts.room(room, e.slots));
                    }
                }
            }
            if let (Some(e), Edge::Before) = (out, side) {
                steps.push(self.room(parts, e));
            }
            if at.depth == passes.depth && side == Edge::Before {
                let part = volume(at, &all) / sum * self.share;
                if at.first && preload > 0.0 {
                    steps.push(self.preload(parts));
                }
                steps.push(self.pass(parts, part));
            }
            if side == Edge::After {
                let done = match out {
                    Some(_) if at.last => Some(Tokens::Complete(lane)),
                    Some(e) => Some(Tokens::Partial(lane, e.child)),
                    None if from_passes && at.depth == passes.depth && at.last => {
                        Some(Tokens::Complete(lane))
                    }
                    None => None,
                };
                if done.is_some() || !frees.is_empty() {
                    steps.push(give_back(parts, frees, done, tail));
                }
            }
            steps
        })
    }

    /// First tiles into the array and last ones out of it.
    fn preload(&self, parts: &mut Parts) -> Step {
        let passes = &self.tiles.passes;
        let ports: Vec<_> = passes
            .preload_ports
            .iter()
            .map(|(n, p, s)| (*n, *p, s * self.share))
            .collect();
        let cycles = passes.preload.0 * self.share;
        let flow = parts.flow(self.lane, &ports, cycles);
        parts.work(Work {
            cycles: femto(cycles),
            flow,
            ..Work::default()
        })
    }

    /// One pass.
    fn pass(&self, parts: &mut Parts, part: f64) -> Step {
        let passes = &self.tiles.passes;
        let busy = passes.busy.0 * part;
        let ports: Vec<_> = passes
            .ports
            .iter()
            .map(|(n, p, s)| (*n, *p, s * part))
            .collect();
        let flow = parts.flow(self.lane, &ports, busy);
        parts.work(Work {
            cycles: femto(busy),
            flow,
            ..Work::default()
        })
    }

    /// What the vector unit does with outputs that are complete, and what lies beside.
    fn epilogue(&self, parts: &mut Parts, steps: &mut Steps) {
        if !self.beside.weights.is_empty() {
            let who = Who::Beside(self.lane);
            let flow = parts.flow(self.lane, &self.beside.weights, 0.0);
            // If nobody waits for them, the op may end before they have come.
            let there = self
                .has_epilogue()
                .then(|| parts.pool(Tokens::Beside(self.lane)));
            let work = parts.work(Work {
                flow,
                signals: there.map(|p| (p, 1)).into_iter().collect(),
                ..Work::default()
            });
            steps.push(who, work);
        }
        if !self.has_epilogue() {
            return;
        }
        let mut own = Vec::new();
        if !self.beside.weights.is_empty() {
            own.push(parts.take(Tokens::Beside(self.lane)));
        }
        let output = self.innermost(Operand::Output).filter(|e| e.up.is_some());
        let bottom = output.map_or(self.tiles.passes.depth, |e| e.inner);
        let all: Vec<usize> = (0..self.tiles.sizes.len()).collect();
        let dims = output.map_or(&all, |e| &e.dims);
        let walk = Walk::new(self.tiles, SUMS);
        let figure = |at: &At| match at.last {
            true => volume(at, dims),
            false => 0.0,
        };
        let sum = walk.sum(bottom, &figure);
        let cycles = self.beside.vector.map_or(0.0, |v| v.1);
        let lane = self.lane;
        own.extend(walk.steps(bottom, &mut |at, side| {
            if at.depth != bottom || !at.last || side == Edge::After {
                return Vec::new();
            }
            let part = figure(at) / sum;
            let ports = self.beside.ports.iter();
            let ports: Vec<_> = ports.map(|(n, p, s)| (*n, *p, s * part)).collect();
            let flow = parts.flow(lane, &ports, 0.0);
            let signals = output.map(|e| (parts.pool(Tokens::Finished(lane, e.child)), 1));
            let take = parts.take(Tokens::Complete(lane));
            let work = parts.work(Work {
                cycles: femto(cycles * part),
                flow,
                signals: signals.into_iter().collect(),
                ..Work::default()
            });
            vec![take, work]
        }));
        steps.extend(self.finisher(), own);
    }

    /// Who finishes outputs: the vector unit; the array's own output stage where there is only traffic.
    fn finisher(&self) -> Who {
        match self.beside.vector {
            Some((unit, _)) => Who::Vector(unit),
            None => Who::Drain(self.engine),
        }
    }

    /// The queue that is done last, and what is to be added to its last work.
    fn ends(&self, array: Who) -> (Who, f64) {
        let stored = self.edges(Operand::Output).find(|e| e.up.is_some());
        if let Some(e) = stored {
            return (Who::Store(self.lane, e.child), 0.0);
        }
        match self.has_epilogue() {
            true => (self.finisher(), 0.0),
            false => (array, self.tiles.passes.tail.0),
        }
    }
}

/// Gives back room of tiles that are used up, and tells that outputs are made, once they have left the array.
fn give_back(
    parts: &mut Parts,
    frees: Vec<(PoolId, u64)>,
    done: Option<Tokens>,
    tail: f64,
) -> Step {
    let signals: Vec<_> = done.iter().map(|t| (parts.pool(*t), 1)).collect();
    let tail = if signals.is_empty() { 0.0 } else { tail };
    parts.work(Work {
        frees,
        signals,
        tail: femto(tail),
        ..Work::default()
    })
}

const SUMS: Apart = Apart {
    sums: true,
    first: false,
};
