//! The join of parts: sums over the first einsums of a chain, for each tile that is handed over next.

use rustc_hash::FxHashMap;

use super::Options;
use super::link::Link;
use super::search::{Common, Part, Room, Score, Tiles, no_more};
use super::space::MEMORIES;

/// A chain of parts, one for each einsum.
pub(super) struct Joined {
    pub score: Score,
    pub energy: f64,
    pub cycles: f64,
    pub parts: Vec<Part>,
}

/// Sums over the first einsums.
#[derive(Clone)]
struct Sum {
    energy: f64,
    cycles: f64,
    /// Most bits in use while any einsum of the group runs.
    peak: Room,
    /// Bits that earlier einsums of the group keep outside the loops shared next.
    alive: Room,
    /// Of those, tiles of tensors that several einsums read.
    common: Vec<Common>,
    /// Tiles of the dimensions of the case where loops of the group are split, outermost first.
    cuts: Vec<Vec<u32>>,
    before: usize,
    part: usize,
}

impl Sum {
    fn no_worse(&self, other: &Self) -> bool {
        self.energy <= other.energy
            && self.cycles <= other.cycles
            && no_more(&self.peak, &other.peak)
            && no_more(&self.alive, &other.alive)
            && other.common.iter().all(|c| self.common.contains(c))
            && self.cuts.iter().all(|c| other.cuts.contains(c))
    }
}

/// All chains of parts of which none is at least as good as another in energy, time and room, the best first.
pub(super) fn join(links: &[Link], parts: &[Vec<Part>], options: &Options) -> Vec<Joined> {
    let start = Sum {
        energy: 0.0,
        cycles: 0.0,
        peak: [0.0; MEMORIES],
        alive: [0.0; MEMORIES],
        common: Vec::new(),
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
            let Some(fitting) = open.get(&part.tiles[0]) else {
                continue;
            };
            let cuts = cuts(&links[i], part, &sizes);
            for &before in fitting {
                let Some(cuts) = sums[before].nest(part, &cuts, &sizes) else {
                    continue;
                };
                let Some(sum) = sums[before].with(part, &links[i], cuts, (before, p)) else {
                    continue;
                };
                let same = by_tiles.entry(part.tiles[1].clone()).or_default();
                if same.iter().any(|s| next[*s].no_worse(&sum)) {
                    continue;
                }
                same.retain(|s| !sum.no_worse(&next[*s]));
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

/// The tiles where a part splits shared loops, in the dimensions of all einsums.
fn cuts(link: &Link, part: &Part, sizes: &[u32]) -> Vec<Vec<u32>> {
    let mut cuts: Vec<Vec<u32>> = Vec::new();
    for tile in &part.cuts {
        let mut cut = sizes.to_vec();
        for (local, dim) in link.dims.iter().enumerate() {
            // What is whole may have another extent in another einsum: no shared loop has it.
            if tile[local] < link.space.sizes[local] {
                cut[*dim] = tile[local];
            }
        }
        if cut != sizes {
            cuts.push(cut);
        }
    }
    cuts
}

/// Whether loops can lead from an outer tile to an inner one.
fn inside(inner: &[u32], outer: &[u32], sizes: &[u32]) -> bool {
    let all = inner.iter().zip(outer).zip(sizes);
    all.into_iter()
        .all(|((i, o), size)| o % i == 0 || (o == size && i < o))
}

impl Sum {
    /// Where the shared loops of the group are split with a part behind it; none if there is no one nest of loops
    /// for all.
    fn nest(&self, part: &Part, cuts: &[Vec<u32>], sizes: &[u32]) -> Option<Vec<Vec<u32>>> {
        let mut all = Vec::new();
        if part.tiles[0].is_some() {
            all.clone_from(&self.cuts);
        }
        for cut in cuts {
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

    /// Bits by memory of what is kept already in the same way.
    fn already(&self, common: &[Common]) -> Room {
        let mut room = [0.0; MEMORIES];
        for c in common.iter().filter(|c| self.common.contains(c)) {
            room[c.memory] += c.bits;
        }
        room
    }

    /// With a part behind it, if both fit.
    fn with(
        &self,
        part: &Part,
        link: &Link,
        cuts: Vec<Vec<u32>>,
        (before, index): (usize, usize),
    ) -> Option<Self> {
        let (mut peak, mut alive) = (part.used, part.outside[1]);
        let mut common = part.common[1].clone();
        if part.tiles[0].is_some() {
            let [inward, onward] = part.common.each_ref().map(|c| self.already(c));
            for m in 0..MEMORIES {
                let outside = part.outside[0][m] - inward[m];
                let used = part.used[m] - inward[m];
                peak[m] = (self.peak[m] + outside).max(used + self.alive[m]);
                alive[m] += self.alive[m] - onward[m];
            }
            common.retain(|c| !self.common.contains(c));
            common.extend(self.common.iter().cloned());
        }
        let memories = &link.space.segments[0].memories;
        let fits = memories.iter().zip(&peak).all(|(m, p)| *p <= m.capacity);
        let goes_on = part.tiles[1].is_some();
        fits.then_some(Self {
            energy: self.energy + part.energy,
            cycles: self.cycles + part.cycles,
            peak: if goes_on { peak } else { [0.0; MEMORIES] },
            alive: if goes_on { alive } else { [0.0; MEMORIES] },
            common: if goes_on { common } else { Vec::new() },
            cuts: if goes_on { cuts } else { Vec::new() },
            before,
            part: index,
        })
    }
}
