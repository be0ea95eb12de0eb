//! The join of parts: sums over the first einsums of a chain, for each tile that is handed over next.
//!
//! Einsums that hand over tile by tile run in one nest: two of them share the loops outside all the homes between them.
//! While one runs, what another keeps outside the loops that both share stays in memory:
//!
//! ```text
//! room of X  =  all that X keeps  +  for each other Y of the group, what Y keeps outside the loops shared by X and Y
//! ```
//!
//! where equal copies of a tensor that several read count once. So a sum tells, for each einsum behind it, the room in use
//! while that runs and the loops that it shares with the next one; and what is still kept then. All storages outside homes
//! stand in one order of loops.

use rustc_hash::FxHashMap;

use super::Options;
use super::link::Link;
use super::search::{Part, Room, Score, Step, Tiles, no_more};
use super::space::{MEMORIES, Tile};

/// A chain of parts, one for each einsum.
pub(super) struct Joined {
    pub score: Score,
    pub energy: f64,
    pub cycles: f64,
    pub parts: Vec<Part>,
}

/// Tiles of all dimensions of the case.
type Cut = Vec<u32>;

/// A tile of a tensor that several einsums read, at a memory.
#[derive(Debug, Clone, PartialEq)]
struct Copied {
    tensor: usize,
    memory: usize,
    tile: Vec<u32>,
}

/// A storage outside a home.
#[derive(Debug, Clone, PartialEq)]
struct Kept {
    cut: Cut,
    memory: usize,
    bits: f64,
    copied: Option<Copied>,
    /// Whether it stands outside the home of what comes in, and of what goes out.
    outside: [bool; 2],
}

/// What the neighbours of a part see.
struct Seen {
    /// Where shared loops are split, outermost first.
    cuts: Vec<Cut>,
    /// Where the homes of what comes in and goes out stand.
    homes: [Option<Cut>; 2],
    kept: Vec<Kept>,
}

/// An einsum of the group that the next one may join.
#[derive(Debug, Clone, PartialEq)]
struct Run {
    /// The loops that it shares with the next one.
    cut: Cut,
    /// Bits in use while it runs.
    room: Room,
    /// Copies that are there then.
    copies: Vec<Copied>,
}

/// Sums over the first einsums.
#[derive(Clone)]
struct Sum {
    energy: f64,
    cycles: f64,
    runs: Vec<Run>,
    /// What earlier einsums keep outside the loops that they share with the next one.
    alive: Vec<Kept>,
    /// Where loops of the group are split, outermost first.
    cuts: Vec<Cut>,
    before: usize,
    part: usize,
}

impl Sum {
    fn no_worse(&self, other: &Self, sizes: &[u32]) -> bool {
        self.energy <= other.energy
            && self.cycles <= other.cycles
            && self.cuts.iter().all(|c| other.cuts.contains(c))
            && self
                .runs
                .iter()
                .all(|r| other.runs.iter().any(|o| r.no_worse(o)))
            && self.keeps_no_more(other, sizes)
    }

    /// Whether no more is kept outside any loops that may be shared later.
    fn keeps_no_more(&self, other: &Self, sizes: &[u32]) -> bool {
        let whole = sizes.to_vec();
        let copied = other.alive.iter().filter(|k| k.copied.is_some());
        let mut cuts = other.cuts.iter().chain([&whole]);
        copied.into_iter().all(|k| self.alive.contains(k))
            && cuts.all(|c| {
                let outside = |s: &Self| {
                    let kept = s.alive.iter();
                    room(kept.filter(|k| inside(c, &k.cut, sizes)), &mut Vec::new())
                };
                no_more(&outside(self), &outside(other))
            })
    }
}

impl Run {
    fn no_worse(&self, other: &Self) -> bool {
        self.cut == other.cut
            && no_more(&self.room, &other.room)
            && other.copies.iter().all(|c| self.copies.contains(c))
    }
}

/// Bits by memory of storages; copies that are there are none, and become so.
fn room<'a>(kept: impl Iterator<Item = &'a Kept>, copies: &mut Vec<Copied>) -> Room {
    let mut room = [0.0; MEMORIES];
    for k in kept {
        if let Some(copied) = &k.copied {
            if copies.contains(copied) {
                continue;
            }
            copies.push(copied.clone());
        }
        room[k.memory] += k.bits;
    }
    room
}

fn plus(a: &Room, b: &Room) -> Room {
    std::array::from_fn(|m| a[m] + b[m])
}

/// Least energy and cycles of the parts of the last einsums, by the tile that they take in.
type Behind = FxHashMap<Tiles, (f64, f64)>;

/// What stands at least behind the parts of each einsum, whether it fits or not.
fn behind(parts: &[Vec<Part>]) -> Vec<Behind> {
    let mut all = vec![Behind::from_iter([(None, (0.0, 0.0))])];
    for parts in parts.iter().rev() {
        let next = &all[all.len() - 1];
        let mut least = Behind::default();
        for part in parts {
            let Some((energy, cycles)) = next.get(&part.tiles[1]) else {
                continue;
            };
            let (energy, cycles) = (part.energy + energy, part.cycles + cycles);
            let known = least.entry(part.tiles[0].clone());
            let known = known.or_insert((energy, cycles));
            *known = (known.0.min(energy), known.1.min(cycles));
        }
        all.push(least);
    }
    all.reverse();
    all
}

/// All chains of parts of which none is at least as good as another in energy, time and room, the best first; of those
/// that beat a limit, if there is one. A sum goes no further that does not beat it with the least that stands behind.
pub(super) fn join(
    links: &[Link],
    parts: &[Vec<Part>],
    options: &Options,
    limit: Option<Score>,
) -> Vec<Joined> {
    let behind = behind(parts);
    let start = Sum {
        energy: 0.0,
        cycles: 0.0,
        runs: Vec::new(),
        alive: Vec::new(),
        cuts: Vec::new(),
        before: 0,
        part: 0,
    };
    let sizes = sizes(links);
    let mut layers: Vec<Vec<Sum>> = vec![vec![start]];
    let mut open: FxHashMap<Tiles, Vec<usize>> = FxHashMap::default();
    open.insert(None, vec![0]);
    for (i, parts) in parts.iter().enumerate() {
        let sums = &layers[i];
        let mut next: Vec<Sum> = Vec::new();
        let mut by_tiles: FxHashMap<Tiles, Vec<usize>> = FxHashMap::default();
        for (p, part) in parts.iter().enumerate() {
            let (Some(fitting), Some(rest)) =
                (open.get(&part.tiles[0]), behind[i + 1].get(&part.tiles[1]))
            else {
                continue;
            };
            let hopeful = |sum: &Sum| {
                let energy = sum.energy + part.energy + rest.0;
                let cycles = sum.cycles + part.cycles + rest.1;
                let score = Score::new(options.objective, energy, cycles);
                limit.is_none_or(|limit| score.beats(limit))
            };
            let mut fitting = fitting.iter().filter(|s| hopeful(&sums[**s])).peekable();
            if fitting.peek().is_none() {
                continue;
            }
            let seen = Seen::new(&links[i], part, &sizes);
            for &before in fitting {
                let sum = sums[before].with(part, &seen, &links[i], &sizes);
                let Some(sum) = sum.map(|s| Sum {
                    before,
                    part: p,
                    ..s
                }) else {
                    continue;
                };
                let same = by_tiles.entry(part.tiles[1].clone()).or_default();
                if same.iter().any(|s| next[*s].no_worse(&sum, &sizes)) {
                    continue;
                }
                same.retain(|s| !sum.no_worse(&next[*s], &sizes));
                same.push(next.len());
                next.push(sum);
            }
        }
        layers.push(next);
        open = by_tiles;
    }
    let ends = open.remove(&None).unwrap_or_default();
    let mut chains: Vec<Joined> = ends
        .into_iter()
        .map(|end| chain(&layers, parts, end, options))
        .collect();
    chains.sort_by(|a, b| {
        a.score
            .0
            .total_cmp(&b.score.0)
            .then(a.score.1.total_cmp(&b.score.1))
    });
    chains
}

/// The chain that ends in a sum.
fn chain(layers: &[Vec<Sum>], parts: &[Vec<Part>], end: usize, options: &Options) -> Joined {
    let sum = &layers[parts.len()][end];
    let (energy, cycles) = (sum.energy, sum.cycles);
    let mut at = end;
    let mut chosen = Vec::new();
    for i in (0..parts.len()).rev() {
        let sum = &layers[i + 1][at];
        chosen.push(parts[i][sum.part].clone());
        at = sum.before;
    }
    chosen.reverse();
    Joined {
        score: Score::new(options.objective, energy, cycles),
        energy,
        cycles,
        parts: chosen,
    }
}

/// Extents of the dimensions of all einsums: those of one name are one.
fn sizes(links: &[Link]) -> Vec<u32> {
    let mut sizes = Vec::new();
    for link in links {
        for (local, dim) in link.dims.iter().enumerate() {
            if sizes.len() <= *dim {
                sizes.resize(dim + 1, 1);
            }
            sizes[*dim] = link.space.sizes[local];
        }
    }
    sizes
}

impl Seen {
    fn new(link: &Link, part: &Part, sizes: &[u32]) -> Self {
        let placement = &link.placements[part.placement];
        let floating = placement.floating;
        let mut seen = Self {
            cuts: Vec::new(),
            homes: [None, None],
            kept: Vec::new(),
        };
        let cut = |tile: &Tile| cut(link, tile, sizes);
        seen.cuts.extend(part.cuts.iter().map(&cut));
        seen.cuts.retain(|c| c != sizes);
        let mut outside = floating.map(|f| f.is_some());
        let mut tile = link.space.sizes;
        let whole = placement.chains.iter().enumerate();
        for (o, chain) in whole.filter(|(o, _)| !floating.contains(&Some(*o))) {
            seen.keep(link, (o, chain[0].1), &tile, cut(&tile), outside);
        }
        for step in part.steps.iter().rev() {
            if outside == [false; 2] {
                break;
            }
            match *step {
                Step::Grow { dim, tile: t } | Step::Spread { dim, tile: t, .. } => {
                    tile[usize::from(dim)] = t;
                }
                Step::Keep { operand, memory } => {
                    let (o, m) = (usize::from(operand), usize::from(memory));
                    let side = floating.iter().position(|f| *f == Some(o));
                    if let Some(side) = side.filter(|s| outside[*s]) {
                        seen.homes[side] = Some(cut(&tile));
                        outside[side] = false;
                    }
                    seen.keep(link, (o, m), &tile, cut(&tile), outside);
                }
                Step::Fan => {}
            }
        }
        seen
    }

    fn keep(
        &mut self,
        link: &Link,
        (o, memory): (usize, usize),
        tile: &Tile,
        cut: Cut,
        outside: [bool; 2],
    ) {
        let m = &link.space.segments[0].memories[memory];
        if outside == [false; 2] || m.capacity.is_infinite() {
            return;
        }
        let ranks = link.space.operands[o].ranks.iter();
        let ranks = ranks.map(|d| d.map_or(1, |d| tile[d]));
        let copied = |tensor| Copied {
            tensor,
            memory,
            tile: ranks.collect(),
        };
        self.kept.push(Kept {
            cut,
            memory,
            bits: link.space.words(o, tile) * m.bits[o],
            copied: link.space.common[o].map(copied),
            outside,
        });
    }
}

/// A tile of one einsum, in the dimensions of all.
fn cut(link: &Link, tile: &Tile, sizes: &[u32]) -> Cut {
    let mut cut = sizes.to_vec();
    for (local, dim) in link.dims.iter().enumerate() {
        // What is whole may have another extent in another einsum: no shared loop has it.
        if tile[local] < link.space.sizes[local] {
            cut[*dim] = tile[local];
        }
    }
    cut
}

/// Whether loops can lead from an outer tile to an inner one, or they are the same.
fn inside(inner: &[u32], outer: &[u32], sizes: &[u32]) -> bool {
    let all = inner.iter().zip(outer).zip(sizes);
    all.into_iter()
        .all(|((i, o), size)| o % i == 0 || (o == size && i < o))
}

impl Sum {
    /// Where the shared loops of the group are split with a part behind it; none if there is no one nest of loops
    /// for all.
    fn nest(&self, seen: &Seen, sizes: &[u32]) -> Option<Vec<Cut>> {
        let mut all = Vec::new();
        if seen.homes[0].is_some() {
            all.clone_from(&self.cuts);
        }
        for cut in &seen.cuts {
            if all.contains(cut) {
                continue;
            }
            let at = all.iter().take_while(|c| inside(cut, c, sizes)).count();
            if !all[at..].iter().all(|c| inside(c, cut, sizes)) {
                return None;
            }
            all.insert(at, cut.clone());
        }
        Some(all)
    }

    /// With a part behind it, if both fit.
    fn with(&self, part: &Part, seen: &Seen, link: &Link, sizes: &[u32]) -> Option<Self> {
        let cuts = self.nest(seen, sizes)?;
        let out = |k: &Kept, cut: &Cut| k.cut != *cut && inside(cut, &k.cut, sizes);
        let mut own = Vec::new();
        let mut runs = Vec::new();
        let mut used = part.used;
        if let Some(home) = &seen.homes[0] {
            let kept = seen.kept.iter().filter(|k| k.outside[0]);
            room(kept.clone(), &mut own);
            used = plus(&used, &room(self.alive.iter(), &mut own));
            for run in &self.runs {
                let mut run = run.clone();
                let beside = |k: &&Kept| run.cut == *home || out(k, &run.cut);
                let more = room(kept.clone().filter(beside), &mut run.copies);
                run.room = plus(&run.room, &more);
                runs.push(run);
            }
        }
        let memories = &link.space.segments[0].memories;
        let fits = |room: &Room| memories.iter().zip(room).all(|(m, r)| *r <= m.capacity);
        if !fits(&used) || !runs.iter().all(|r| fits(&r.room)) {
            return None;
        }
        let mut sum = Self {
            energy: self.energy + part.energy,
            cycles: self.cycles + part.cycles,
            runs: Vec::new(),
            alive: Vec::new(),
            cuts: Vec::new(),
            before: 0,
            part: 0,
        };
        let Some(next) = &seen.homes[1] else {
            return Some(sum);
        };
        // The loops outside the next home, of those that one shares with this einsum.
        let shared = |cut: Cut| {
            if inside(next, &cut, sizes) {
                cut
            } else {
                next.clone()
            }
        };
        if let Some(home) = &seen.homes[0] {
            let all = inside(next, home, sizes);
            let alive = self.alive.iter().filter(|k| all || out(k, next));
            sum.alive.extend(alive.cloned());
        }
        let onward = seen.kept.iter().filter(|k| k.outside[1]);
        room(onward.clone(), &mut own);
        sum.alive.extend(onward.cloned());
        runs.push(Run {
            cut: next.clone(),
            room: used,
            copies: own,
        });
        for run in runs {
            let run = Run {
                cut: shared(run.cut),
                ..run
            };
            let alike = |r: &&mut Run| r.cut == run.cut && r.copies == run.copies;
            match sum.runs.iter_mut().find(alike) {
                Some(known) => known.room = std::array::from_fn(|m| known.room[m].max(run.room[m])),
                None => sum.runs.push(run),
            }
        }
        sum.cuts = cuts
            .into_iter()
            .filter(|c| inside(next, c, sizes))
            .collect();
        Some(sum)
    }
}
