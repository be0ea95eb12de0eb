//! Options of a dimension, less those that others dominate.

use super::assign::Assignment;
use super::build::Builder;
use super::chain::Link;
use super::layout::{Edge, KINDS, Layout};
use super::posynomial::HOME;

/// The bit that marks an option with such a block: costs in closed form are bounds then.
pub(super) const RAGGED: u32 = 1 << 31;

/// The options of one dimension.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    /// Loops of one option after the other, and where each one's end.
    links: Vec<Link>,
    ends: Vec<u32>,
    /// Factors of one option after the other.
    pub factors: Vec<f64>,
    /// The factors that are not the same for all options, as columns.
    pub varying: Vec<u16>,
    /// Their logarithms: of each column, of all options.
    logs: Vec<f64>,
    /// Logarithms of the first option's factors.
    first_logs: Vec<f64>,
    /// Tile at each mark, of one option after the other.
    pub tiles: Vec<u32>,
    /// Marks of the output that hold partial sums by a loop of this option, as bits, and [`HOME`].
    pub partial: Vec<u32>,
    /// Marks whose tiles a loop in time of this option changes, as bits.
    moving: Vec<u32>,
    /// The least of each.
    pub least: Vec<f64>,
    pub least_tiles: Vec<u32>,
}

impl Options {
    /// No options yet, of so many factors and marks.
    pub fn none(count: usize, marks: usize) -> Self {
        Self {
            least: vec![f64::INFINITY; count],
            least_tiles: vec![u32::MAX; marks],
            ..Self::default()
        }
    }

    /// Ends an option, of which factors and tiles (one for each mark) are there: its links, and the marks that hold partial
    /// sums and those that it moves.
    pub fn end(&mut self, links: &[Link], (partial, moving): (u32, u32)) {
        let factors = self.factors.len() - self.least.len();
        for (l, f) in self.least.iter_mut().zip(&self.factors[factors..]) {
            *l = l.min(*f);
        }
        let tiles = self.tiles.len() - self.least_tiles.len();
        for (l, t) in self.least_tiles.iter_mut().zip(&self.tiles[tiles..]) {
            *l = (*l).min(*t);
        }
        self.partial.push(partial);
        self.moving.push(moving);
        self.links.extend_from_slice(links);
        self.ends.push(self.links.len() as u32);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Loops of an option, from the outside in.
    pub fn chain(&self, option: usize) -> &[Link] {
        let from = option.checked_sub(1).map_or(0, |o| self.ends[o]);
        &self.links[from as usize..self.ends[option] as usize]
    }

    /// Logarithms of a varying factor, by its place among those, of all options.
    pub fn logs(&self, place: usize) -> &[f64] {
        let n = self.len();
        &self.logs[place * n..(place + 1) * n]
    }

    /// Logarithms of the factors that are the same for all options; 0 for others.
    pub fn same_logs(&self) -> &[f64] {
        &self.first_logs
    }

    /// Fills in the logarithms.
    fn take_logs(&mut self, count: usize) {
        let n = self.len();
        let log = |f: f64| if f == 1.0 { 0.0 } else { f.ln() };
        let column = |c: usize| self.factors.iter().skip(c).step_by(count);
        self.first_logs = vec![0.0; count];
        for c in 0..count {
            let Some(&first) = column(c).next() else {
                return;
            };
            if column(c).all(|f| *f == first) {
                self.first_logs[c] = log(first);
            } else {
                self.varying.push(c as u16);
            }
        }
        self.logs.reserve(n * self.varying.len());
        for c in &self.varying {
            let mut last = (1.0, 0.0);
            let all = self.factors.iter().skip(usize::from(*c)).step_by(count);
            self.logs.extend(all.map(|f| {
                if *f != last.0 {
                    last = (*f, log(*f));
                }
                last.1
            }));
        }
    }
}

/// Options that another one is compared with at most, the best first: large primes have a hundred thousand options.
const RIVALS: usize = 512;

impl Layout<'_, '_> {
    /// All options of a dimension, less dominated ones; and how many there were. None if there are more than `most`.
    pub fn options(
        &self,
        dim: usize,
        assignment: &Assignment,
        most: u64,
    ) -> Option<(Options, u64)> {
        let mut builder = Builder::new(self, dim, assignment, most);
        if !builder.extend(0, 0) {
            return None;
        }
        let mut options = builder.options;
        let built = options.len() as u64;
        // Options of a part are looked at a few times only.
        if self.model.exact && self.compute.is_none() {
            self.drop_dominated(dim, &mut options);
        }
        options.take_logs(self.count);
        Some((options, built))
    }

    /// Drops options that one of the best is at least as good as in every factor. Where drains of the output merge, options are only
    /// compared if as many do; where tiles are fetched in runs, only if those have the same tile. Factors of an option with a
    /// ragged last block are bounds: it beats none.
    fn drop_dominated(&self, dim: usize, options: &mut Options) {
        let (count, marks) = (self.count, self.shape.marks.len());
        let all = options.len();
        let row = |i: usize| &options.factors[i * count..(i + 1) * count];
        let varies = |c: &usize| (1..all).any(|i| row(i)[*c] != row(0)[*c]);
        let columns: Vec<usize> = (0..count).filter(varies).collect();
        let merging: Vec<usize> = (0..self.edges.len())
            .filter(|e| self.may_merge(&self.edges[*e]))
            .map(|e| e * KINDS)
            .collect();
        let lying: Vec<usize> = self
            .edges
            .iter()
            .filter(|e| {
                let o = e.operand;
                e.parent.is_none() && self.model.lies[o] && self.model.has(o, dim)
            })
            .filter_map(|e| e.child)
            .collect();
        let tile = |i: usize, m: usize| options.tiles[i * marks + m];
        let sum = |i: usize| -> f64 {
            columns
                .iter()
                .map(|c| row(i)[*c] / options.least[*c].max(f64::MIN_POSITIVE))
                .sum()
        };
        let mut order: Vec<(f64, usize)> = (0..all).map(|i| (sum(i), i)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut kept: Vec<usize> = Vec::new();
        for (_, i) in order {
            let beaten = kept.iter().take(RIVALS).any(|k| {
                options.partial[*k] & !options.partial[i] & !HOME == 0
                    && options.partial[*k] & RAGGED == 0
                    && options.moving[*k] & !options.moving[i] == 0
                    && columns.iter().all(|c| row(*k)[*c] <= row(i)[*c])
                    && merging.iter().all(|c| row(*k)[*c] == row(i)[*c])
                    && lying.iter().all(|m| tile(*k, *m) == tile(i, *m))
            });
            if !beaten {
                kept.push(i);
            }
        }
        kept.sort_unstable();
        if kept.len() == all {
            return;
        }
        let factors = kept.iter().flat_map(|i| row(*i).iter().copied()).collect();
        let tiles = kept
            .iter()
            .flat_map(|i| &options.tiles[i * marks..(i + 1) * marks])
            .copied()
            .collect();
        let partial = kept.iter().map(|i| options.partial[*i]).collect();
        let moving = kept.iter().map(|i| options.moving[*i]).collect();
        let (mut links, mut ends) = (Vec::new(), Vec::new());
        for i in &kept {
            links.extend_from_slice(options.chain(*i));
            ends.push(links.len() as u32);
        }
        (options.factors, options.tiles) = (factors, tiles);
        (options.partial, options.moving) = (partial, moving);
        (options.links, options.ends) = (links, ends);
    }

    /// Whether drains into an edge's child may merge on their way up, in any assignment.
    fn may_merge(&self, e: &Edge) -> bool {
        let model = self.model;
        let Some(child) = e.child.filter(|_| e.operand == 2) else {
            return false;
        };
        let section = |m: usize| model.slots[self.shape.marks[m].slot].section;
        let between = e.parent.map_or(0, section)..section(child);
        let mut axes = model.axis_section.iter().enumerate();
        axes.any(|(a, s)| between.contains(s) && model.shares(a as u8, 2))
    }

    /// A dimension's factor of the elements of a tile: of a window only its widest dimension counts.
    pub fn breadth(&self, operand: usize, dim: usize, tile: u32) -> f64 {
        let model = self.model;
        let tile = f64::from(tile);
        let mut ranks = model.frame.ranks[operand].iter();
        let Some(rank) = ranks.find(|r| r.terms.iter().any(|t| t.0 == dim)) else {
            return tile;
        };
        let widest = rank
            .terms
            .iter()
            .map(|t| t.0)
            .max_by_key(|d| model.sizes[*d]);
        if widest == Some(dim) {
            tile.min(rank.extent)
        } else {
            1.0
        }
    }
}
