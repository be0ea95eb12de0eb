//! What is looked for, and what was found.

use rustc_hash::FxHashMap;

use super::{Score, Step};
use crate::optimum::prices::{Bill, Points};
use crate::optimum::space::{MEMORIES, Tile};

/// What is looked for at one point.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    /// Nothing is kept that does not beat it.
    pub limit: Option<Score>,
    /// The best mapping so far.
    pub best: Option<Part>,
    /// Least bound of whole mappings whose exact cost is above it.
    pub least: Option<f64>,
}

impl Target {
    /// Whether something of a figure is no better than what is known.
    pub(super) fn refuses(&self, score: Score) -> bool {
        self.limit.is_some_and(|limit| !score.beats(limit))
    }
}

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Goal {
    /// Energy and cycles of other einsums that the figures are added to.
    pub beside: (f64, f64),
    /// By point of the space.
    pub targets: Vec<Target>,
    /// The only point that is looked at; all if `None`.
    pub only: Option<usize>,
    /// All that may be part of the best chain, where chains are asked for.
    pub parts: Option<Parts>,
    /// Tiles of the floating operands that are asked for; `None` takes any.
    pub asked: [Option<Tiles>; 2],
    /// So many of the best mappings, where more than one is asked for: nothing is left out because another mapping is
    /// as good.
    pub near: Option<(usize, Vec<(Score, Part)>)>,
}

/// Steps with the fans inside each spatial one: a loop in time above a fan with none is the same below it.
fn nest(steps: &[Step]) -> Vec<(usize, Step)> {
    let mut fans = 0;
    let mut nest = Vec::new();
    for step in steps {
        match step {
            Step::Fan => fans += 1,
            Step::Spread { .. } => nest.push((fans, *step)),
            Step::Grow { .. } | Step::Keep { .. } => nest.push((0, *step)),
        }
    }
    nest
}

impl Goal {
    /// So many points, of which nothing is known.
    pub(crate) fn of(points: usize) -> Self {
        Self {
            targets: vec![Target::default(); points],
            ..Self::default()
        }
    }

    /// One point at which nothing is kept that does not beat a limit.
    pub(crate) fn below(limit: Option<Score>) -> Self {
        let mut goal = Self::of(1);
        goal.targets[0].limit = limit;
        goal
    }

    /// Those of some points that are looked at.
    pub(super) fn points(&self, all: Points) -> Points {
        self.only.map_or(all, |p| all.and(Points::one(p)))
    }

    /// Takes a mapping into the near set.
    pub(super) fn nearly(&mut self, score: Score, part: Part) {
        let Some((most, near)) = &mut self.near else {
            return;
        };
        // A loop directly above a storage may be told as one that slides or as one that does not.
        let told = nest(&part.steps);
        let same = |n: &(Score, Part)| n.1.placement == part.placement && nest(&n.1.steps) == told;
        if let Some(i) = near.iter().position(same) {
            if !score.beats(near[i].0) {
                return;
            }
            near.remove(i);
        }
        let at = near.partition_point(|n| !score.beats(n.0));
        near.insert(at, (score, part));
        near.truncate(*most);
        if near.len() == *most
            && let Some((worst, _)) = near.last()
        {
            let worst = *worst;
            self.targets[0].limit = Some(worst);
        }
    }

    /// Whether mappings are left out because another is as good.
    pub(super) fn compares(&self) -> bool {
        self.near.is_none()
    }
}

/// The memory (of segment 0) that keeps a floating operand, and its tile there, rank by rank; none where it is handed
/// over whole.
pub(crate) type Tiles = Option<(usize, Vec<u32>)>;

/// Bits of each memory of segment 0; none of those that never limit.
pub(crate) type Room = [f64; MEMORIES];

/// A tile of a tensor that other einsums read too: one copy serves all that keep it like this.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Common {
    pub tensor: usize,
    pub memory: usize,
    /// Extent by rank.
    pub tile: Vec<u32>,
    pub bits: f64,
}

/// A mapping of one einsum of a chain, as far as its neighbours see it. Floating operands (intermediates that live
/// on chip below loops shared with a neighbour) are told by the tile that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Kept tile of the floating input and of the floating output.
    pub tiles: [Tiles; 2],
    /// What is moved, as far as it is known before the exact count of partial tiles.
    pub moved: Bill,
    pub energy: f64,
    pub cycles: f64,
    /// Bits used, where an operand floats.
    pub used: Room,
    /// Of those, bits of what lives outside the shared loops of the floating input and output.
    pub outside: [Room; 2],
    /// Of what lives there, that of tensors which other einsums read too.
    pub common: [Vec<Common>; 2],
    /// Tiles at storages outside the homes of floating operands, and at these, outermost first: where the shared
    /// loops cannot change places.
    pub cuts: Vec<Tile>,
    pub steps: Vec<Step>,
    pub placement: usize,
}

/// Parts of which none is at least as good as another of the same tiles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    pub parts: Vec<Part>,
    by_tiles: FxHashMap<[Tiles; 2], Vec<u32>>,
}

impl Parts {
    pub(super) fn add(&mut self, part: Part) {
        let same = self.by_tiles.entry(part.tiles.clone()).or_default();
        let no_worse = |a: &Part, b: &Part| {
            a.energy <= b.energy
                && a.cycles <= b.cycles
                && no_more(&a.used, &b.used)
                && no_more(&a.outside[0], &b.outside[0])
                && no_more(&a.outside[1], &b.outside[1])
                && a.cuts.iter().all(|c| b.cuts.contains(c))
                && a.common == b.common
        };
        if same
            .iter()
            .any(|i| no_worse(&self.parts[*i as usize], &part))
        {
            return;
        }
        if let Some(i) = same
            .iter()
            .find(|i| no_worse(&part, &self.parts[**i as usize]))
        {
            self.parts[*i as usize] = part;
            return;
        }
        same.push(self.parts.len() as u32);
        self.parts.push(part);
    }
}

/// Whether one room is at most another in every memory.
pub(crate) fn no_more(a: &Room, b: &Room) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b)
}
