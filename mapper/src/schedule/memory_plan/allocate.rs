//! Places in a scratchpad for blocks that live at known times: dynamic storage allocation.
//!
//! ```text
//! given   blocks b with size s(b) and a set of times live(b), an alignment A
//! find    offsets o(b), multiples of A, such that two blocks live at one time do not overlap
//! least   peak = max over b of o(b) + s(b)
//! bound   = max over t of the sum of s(b) over b live at t   <=   peak
//! ```
//!
//! The problem is NP-hard (Garey and Johnson, SR2), and an optimum may lie above the bound. Sizes are rounded up
//! to A first, so that offsets are.
//!
//! 1. Blocks that live at every time go to the bottom. No optimum is lost: each cuts the memory in two over its
//!    whole life, and taking it out, moving what is above it down by its size and putting it below everything
//!    leaves the peak.
//! 2. Greedy: blocks in some order, each into the lowest gap, or into the tightest one, between the blocks that
//!    it meets. Orders are by size, life, their product, and start. The best is kept.
//! 3. Improvement, while the peak is above the bound: the block at the top and blocks that it meets go to the
//!    front of the order, by a fixed pseudo-random sequence (as the allocator "hill climb" of Arm's Vela does).
//! 4. Exact, for few blocks: branch and bound over blocks in ascending order of (offset, index). Every solution
//!    can be pushed down until each block lies at 0 or on a block that it meets, so in that order a block's
//!    offset is the highest end of what it meets below it: the skyline over its times. A node is cut where
//!    skyline + what is still to come at some time reaches the best peak.
//!
//! Steps stop at the first peak that equals the bound.

/// Blocks that the exact search tries at most, and its nodes.
const EXACT_BLOCKS: usize = 24;
const EXACT_NODES: u64 = 200_000;
/// Placements of single blocks that improvement may spend.
const IMPROVE_STEPS: usize = 20_000;

/// Times from `from` to `to`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First time.
    pub from: usize,
    /// Last time.
    pub to: usize,
}

impl Span {
    /// Whether a time lies in it.
    pub fn has(self, time: usize) -> bool {
        self.from <= time && time <= self.to
    }

    /// Whether two spans share a time.
    pub fn meets(self, other: Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }
}

/// Something to place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its bytes.
    pub bytes: u64,
    /// When it is live. A block without a span meets none that has one.
    pub live: Vec<Span>,
}

/// Where blocks are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allocation {
    /// First byte of each block.
    pub offsets: Vec<u64>,
    /// Highest end of a block.
    pub peak: u64,
    /// Most bytes live at one time: no allocation has a lower peak.
    pub bound: u64,
    /// Whether no other allocation has a lower peak: it equals the bound, or every other was ruled out.
    pub optimal: bool,
}

/// Places blocks. `alignment` of 0 is taken for 1.
pub fn allocate(blocks: &[Block], alignment: u64) -> Allocation {
    let scene = Scene::new(blocks, alignment.max(1));
    let mut best = Best {
        peak: u64::MAX,
        offsets: Vec::new(),
        order: Vec::new(),
    };
    for order in scene.orders() {
        for tightest in [false, true] {
            best.take(&scene, order.clone(), tightest);
            if best.peak == scene.bound {
                return scene.allocation(best, true);
            }
        }
    }
    if scene.loose.len() <= EXACT_BLOCKS {
        let done = exact(&scene, &mut best);
        if done || best.peak == scene.bound {
            return scene.allocation(best, true);
        }
    }
    improve(&scene, &mut best);
    let optimal = best.peak == scene.bound;
    scene.allocation(best, optimal)
}

/// Blocks in units of the alignment's size, and who meets whom.
struct Scene {
    size: Vec<u64>,
    live: Vec<Vec<Span>>,
    /// Those that live at every time, bottom up.
    always: Vec<usize>,
    /// The others.
    loose: Vec<usize>,
    /// Top of what always lives.
    floor: u64,
    bound: u64,
    meets: Vec<Vec<usize>>,
    /// For each loose block, its times among the distinct ones.
    times: Vec<Vec<usize>>,
    distinct: usize,
}

impl Scene {
    fn new(blocks: &[Block], alignment: u64) -> Self {
        let up = |b: u64| b.checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
        let size: Vec<u64> = blocks.iter().map(|b| up(b.bytes)).collect();
        let live: Vec<Vec<Span>> = blocks.iter().map(|b| b.live.clone()).collect();
        // Between two starts nothing is added: what is live at a start is the most until the next.
        let mut starts: Vec<usize> = live.iter().flatten().map(|s| s.from).collect();
        starts.sort_unstable();
        starts.dedup();
        let times: Vec<Vec<usize>> = live
            .iter()
            .map(|spans| {
                let at = |t: &usize| spans.iter().any(|s| s.has(*t));
                (0..starts.len()).filter(|i| at(&starts[*i])).collect()
            })
            .collect();
        let (always, loose): (Vec<usize>, Vec<usize>) =
            (0..blocks.len()).partition(|b| !starts.is_empty() && times[*b].len() == starts.len());
        let mut load = vec![0u64; starts.len()];
        for (b, times) in times.iter().enumerate() {
            for t in times {
                load[*t] = load[*t].saturating_add(size[b]);
            }
        }
        let mut meets = vec![Vec::new(); blocks.len()];
        for (i, &a) in loose.iter().enumerate() {
            for &b in &loose[..i] {
                let met = live[a].iter().any(|s| live[b].iter().any(|t| s.meets(*t)));
                if met {
                    meets[a].push(b);
                    meets[b].push(a);
                }
            }
        }
        let floor = always.iter().fold(0u64, |s, b| s.saturating_add(size[*b]));
        Self {
            bound: load.into_iter().max().unwrap_or(0),
            distinct: starts.len(),
            size,
            live,
            always,
            loose,
            floor,
            meets,
            times,
        }
    }

    fn span(&self, b: usize) -> usize {
        self.live[b].iter().map(|s| s.to - s.from + 1).sum()
    }

    /// Orders to start from.
    fn orders(&self) -> [Vec<usize>; 4] {
        let by = |key: &dyn Fn(usize) -> (u128, u128)| {
            let mut order = self.loose.clone();
            order.sort_by_key(|b| (std::cmp::Reverse(key(*b)), *b));
            order
        };
        let (size, span) = (
            |b: usize| u128::from(self.size[b]),
            |b: usize| self.span(b) as u128,
        );
        let start = |b: usize| self.live[b].first().map_or(0, |s| s.from as u128);
        [
            by(&|b| (size(b), span(b))),
            by(&|b| (size(b) * span(b), size(b))),
            by(&|b| (span(b), size(b))),
            by(&|b| (u128::MAX - start(b), size(b))),
        ]
    }

    /// Offsets of blocks placed in order: lowest gap, or the tightest one.
    fn place(&self, order: &[usize], tightest: bool) -> (u64, Vec<u64>) {
        let mut offsets = vec![u64::MAX; self.size.len()];
        let mut peak = self.floor;
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for &b in order {
            taken.clear();
            let placed = self.meets[b].iter().filter(|o| offsets[**o] != u64::MAX);
            taken.extend(placed.map(|o| (offsets[*o], offsets[*o].saturating_add(self.size[*o]))));
            taken.sort_unstable();
            let at = gap(&taken, self.floor, self.size[b], tightest);
            offsets[b] = at;
            peak = peak.max(at.saturating_add(self.size[b]));
        }
        (peak, offsets)
    }

    fn allocation(&self, best: Best, optimal: bool) -> Allocation {
        let mut offsets = best.offsets;
        let mut at = 0u64;
        for &b in &self.always {
            offsets[b] = at;
            at = at.saturating_add(self.size[b]);
        }
        Allocation {
            offsets,
            peak: best.peak,
            bound: self.bound,
            optimal,
        }
    }
}

/// The offset of a gap of at least `size` between taken ranges sorted by offset.
fn gap(taken: &[(u64, u64)], floor: u64, size: u64, tightest: bool) -> u64 {
    let (mut end, mut best) = (floor, None::<(u64, u64)>);
    for &(from, to) in taken {
        if from > end && from - end >= size {
            let room = from - end;
            if !tightest {
                return end;
            }
            if best.is_none_or(|b| room < b.0) {
                best = Some((room, end));
            }
        }
        end = end.max(to);
    }
    best.map_or(end, |b| b.1)
}

/// The best allocation so far and the order that made it.
struct Best {
    peak: u64,
    offsets: Vec<u64>,
    order: Vec<usize>,
}

impl Best {
    fn take(&mut self, scene: &Scene, order: Vec<usize>, tightest: bool) {
        let (peak, offsets) = scene.place(&order, tightest);
        if peak < self.peak || self.offsets.is_empty() {
            *self = Self {
                peak,
                offsets,
                order,
            };
        }
    }
}

/// Moves what stands at the top, and some of what it meets, to the front of the order.
fn improve(scene: &Scene, best: &mut Best) {
    let n = scene.loose.len();
    let rounds = IMPROVE_STEPS / n.max(1);
    let mut seed = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = |below: usize| {
        // Marsaglia's xorshift.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below.max(1) as u64) as usize
    };
    let (mut order, mut offsets) = (best.order.clone(), best.offsets.clone());
    for round in 0..rounds {
        if best.peak == scene.bound {
            return;
        }
        let top = order
            .iter()
            .copied()
            .max_by_key(|b| (offsets[*b].saturating_add(scene.size[*b]), *b));
        let Some(top) = top else { return };
        for mover in [
            Some(top),
            scene.meets[top].get(next(scene.meets[top].len())).copied(),
        ]
        .into_iter()
        .flatten()
        {
            let from = order.iter().position(|b| *b == mover).unwrap_or(0);
            let to = next(from + 1);
            order[to..=from].rotate_right(1);
        }
        let (peak, placed) = scene.place(&order, round % 2 == 1);
        offsets = placed;
        if peak < best.peak {
            *best = Best {
                peak,
                offsets: offsets.clone(),
                order: order.clone(),
            };
        } else if round % 16 == 15 {
            (order, offsets) = (best.order.clone(), best.offsets.clone());
        }
    }
}

/// Branch and bound over skylines. Returns whether it ran to the end: then the best is an optimum.
fn exact(scene: &Scene, best: &mut Best) -> bool {
    let mut rest = vec![0u64; scene.distinct];
    for &b in &scene.loose {
        for t in &scene.times[b] {
            rest[*t] = rest[*t].saturating_add(scene.size[b]);
        }
    }
    let mut search = Exact {
        scene,
        best,
        sky: vec![scene.floor; scene.distinct],
        rest,
        placed: vec![u64::MAX; scene.size.len()],
        left: scene.loose.len(),
        nodes: EXACT_NODES,
    };
    search.visit((0, 0));
    search.nodes > 0
}

struct Exact<'a> {
    scene: &'a Scene,
    best: &'a mut Best,
    sky: Vec<u64>,
    /// Bytes at each time of blocks not placed yet.
    rest: Vec<u64>,
    placed: Vec<u64>,
    left: usize,
    nodes: u64,
}

impl Exact<'_> {
    fn visit(&mut self, last: (u64, usize)) {
        if self.left == 0 {
            let peak = self.sky.iter().copied().max().unwrap_or(self.scene.floor);
            if peak < self.best.peak {
                self.best.peak = peak;
                self.best.offsets.clone_from(&self.placed);
            }
            return;
        }
        // Lowest first: it is the skyline that grows least.
        let mut open: Vec<(u64, usize)> = Vec::with_capacity(self.left);
        for &b in &self.scene.loose {
            if self.placed[b] == u64::MAX {
                let at = self.scene.times[b].iter().map(|t| self.sky[*t]).max();
                open.push((at.unwrap_or(self.scene.floor), b));
            }
        }
        open.sort_unstable();
        for (at, b) in open {
            if (at, b) < last {
                continue;
            }
            if self.nodes == 0 || self.best.peak == self.scene.bound {
                return;
            }
            self.nodes -= 1;
            let size = self.scene.size[b];
            let times = &self.scene.times[b];
            let before: Vec<u64> = times.iter().map(|t| self.sky[*t]).collect();
            for t in times {
                self.sky[*t] = at.saturating_add(size);
                self.rest[*t] -= size;
            }
            let reach = self
                .sky
                .iter()
                .zip(&self.rest)
                .map(|(s, r)| s.saturating_add(*r));
            if reach.max().unwrap_or(0) < self.best.peak {
                self.placed[b] = at;
                self.left -= 1;
                self.visit((at, b));
                self.left += 1;
                self.placed[b] = u64::MAX;
            }
            for (t, sky) in times.iter().zip(before) {
                self.sky[*t] = sky;
                self.rest[*t] += size;
            }
        }
    }
}

#[cfg(test)]
mod tests;
