//! The join of parts: sums over the first einsums of a chain, for each tile that is handed over next.

use rustc_hash::FxHashMap;

use super::Options;
use super::chain::Link;
use super::search::{Part, Score, Tiles};

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
    peak: f64,
    /// Bits that earlier einsums of the group keep outside the loops shared next.
    alive: f64,
    before: usize,
    part: usize,
}

impl Sum {
    fn no_worse(&self, other: &Self) -> bool {
        self.energy <= other.energy
            && self.cycles <= other.cycles
            && self.peak <= other.peak
            && self.alive <= other.alive
    }
}

/// All chains of parts of which none is at least as good as another in energy, time and room, the best first.
pub(super) fn join(links: &[Link], parts: &[Vec<Part>], options: &Options) -> Vec<Joined> {
    let start = Sum {
        energy: 0.0,
        cycles: 0.0,
        peak: 0.0,
        alive: 0.0,
        before: 0,
        part: 0,
    };
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
            for &before in fitting {
                let Some(sum) = sums[before].with(part, capacity(&links[i], part), before, p)
                else {
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

/// Bits of the memory that a part's floating operands share.
fn capacity(link: &Link, part: &Part) -> f64 {
    let placement = &link.placements[part.placement];
    let floating = placement.floating.iter().flatten().next();
    floating.map_or(f64::INFINITY, |o| {
        let (s, m) = placement.chains[*o][0];
        link.space.segments[s].memories[m].capacity
    })
}

impl Sum {
    /// With a part behind it, if both fit.
    fn with(&self, part: &Part, capacity: f64, before: usize, index: usize) -> Option<Self> {
        let (peak, alive) = if part.tiles[0].is_some() {
            let peak = (self.peak + part.outside[0]).max(part.used + self.alive);
            (peak, self.alive + part.outside[1])
        } else {
            (part.used, part.outside[1])
        };
        (peak <= capacity).then_some(Self {
            energy: self.energy + part.energy,
            cycles: self.cycles + part.cycles,
            peak,
            alive: if part.tiles[1].is_some() { alive } else { 0.0 },
            before,
            part: index,
        })
    }
}
