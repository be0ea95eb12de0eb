//! The walk of one nest: depth first over the dimensions, the last one in a tight loop.

use std::time::Instant;

use super::model::Use;
use super::nest::Check;
use super::table::{Last, Limit, Stage, Table};
use crate::optimum::search::Score;
use crate::optimum::space::DIMS;
use crate::search::Objective;

/// Mappings that are counted side by side.
const BLOCK: usize = 64;

/// The figures of a mapping, and its split of each dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Told {
    pub energy: f64,
    pub cycles: f64,
    pub chosen: [u32; DIMS],
}

/// When to end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct End {
    /// Mappings that may be counted.
    pub most: u64,
    pub until: Option<Instant>,
}

/// A walk of one nest.
pub(super) struct Run<'a, 'w> {
    table: &'a Table,
    checks: &'a [Check],
    objective: Objective,
    end: End,
    /// Values of tails, by dimensions chosen.
    tails: Vec<Vec<f64>>,
    chosen: [u32; DIMS],
    /// Splits of the last dimension with the same bits stand together.
    groups: Vec<(u64, std::ops::Range<usize>)>,
    /// Loops over blocks so far.
    turns: u64,
    /// Mappings counted: valid ones only.
    pub counted: u64,
    pub cut: bool,
    /// The best mapping.
    pub best: Option<(Score, Told)>,
    /// Sees each valid mapping.
    watch: Option<&'w mut dyn FnMut(&Told)>,
}

/// Figures of a block of mappings.
struct Block {
    fits: [bool; BLOCK],
    energy: [f64; BLOCK],
    cycles: [f64; BLOCK],
}

impl<'a, 'w> Run<'a, 'w> {
    pub(super) fn new(
        table: &'a Table,
        checks: &'a [Check],
        objective: Objective,
        end: End,
        watch: Option<&'w mut dyn FnMut(&Told)>,
    ) -> Self {
        let tails = table.stages.iter().map(|s| vec![0.0; s.links.len()]);
        let last = table.stages.last();
        let mut groups: Vec<(u64, std::ops::Range<usize>)> = Vec::new();
        for (i, bits) in last.iter().flat_map(|s| s.bits.iter().enumerate()) {
            match groups.last_mut().filter(|g| g.0 == *bits) {
                Some(group) => group.1.end = i + 1,
                None => groups.push((*bits, i..i + 1)),
            }
        }
        Self {
            table,
            checks,
            objective,
            end,
            tails: tails.collect(),
            chosen: [0; DIMS],
            groups,
            turns: 0,
            counted: 0,
            cut: false,
            best: None,
            watch,
        }
    }

    /// Counts every mapping of the nest.
    pub(super) fn run(&mut self) {
        if let Some(first) = self.tails.first_mut() {
            first.copy_from_slice(&self.table.start);
            self.choose(0, 0);
        }
    }

    /// Chooses the split of the `k`-th dimension; `bits` are those of the dimensions before.
    fn choose(&mut self, k: usize, bits: u64) {
        let table = self.table;
        let stage = &table.stages[k];
        if !stage.limits.iter().all(|l| within(l, &self.tails[k])) {
            return;
        }
        if k + 1 == table.stages.len() {
            self.last(stage, bits);
            return;
        }
        for split in 0..stage.splits {
            self.chosen[stage.dim] = split as u32;
            let (before, after) = self.tails.split_at_mut(k + 1);
            multiply(stage, split, &before[k], &mut after[0]);
            self.choose(k + 1, bits | stage.bits[split]);
            if self.cut {
                return;
            }
        }
    }

    /// Counts all splits of the last dimension.
    fn last(&mut self, stage: &Stage, bits: u64) {
        let late = || self.end.until.is_some_and(|t| Instant::now() >= t);
        self.turns += 1;
        if self.counted >= self.end.most || (self.turns.is_multiple_of(256) && late()) {
            self.cut = true;
            return;
        }
        let table = self.table;
        let tails = &self.tails[table.stages.len() - 1];
        let fixed = |last: &Last| last.base + last.fixed.iter().map(|t| tails[*t]).sum::<f64>();
        let mut energy = 0.0;
        let mut cycles = 0.0f64;
        for last in &table.last {
            match last.used {
                Use::Energy => energy = fixed(last),
                Use::Time if last.moving.is_empty() => cycles = cycles.max(fixed(last)),
                _ => {}
            }
        }
        for g in 0..self.groups.len() {
            let (own, range) = self.groups[g].clone();
            if !self.checks.iter().all(|c| c.holds(bits | own)) {
                continue;
            }
            for from in range.clone().step_by(BLOCK) {
                let to = range.end.min(from + BLOCK);
                self.block(stage, from..to, (energy, cycles));
            }
        }
    }

    /// Counts some splits of the last dimension; energy and cycles are those that all have.
    fn block(&mut self, stage: &Stage, range: std::ops::Range<usize>, common: (f64, f64)) {
        let table = self.table;
        let tails = &self.tails[table.stages.len() - 1];
        let count = range.len();
        let mut block = Block {
            fits: [true; BLOCK],
            energy: [common.0; BLOCK],
            cycles: [common.1; BLOCK],
        };
        let mut sum = [0.0; BLOCK];
        let total = |last: &Last, sum: &mut [f64; BLOCK]| {
            for (tail, column) in &last.moving {
                let column = &stage.column(*column)[range.clone()];
                let tail = tails[*tail];
                sum.iter_mut().zip(column).for_each(|(s, c)| *s += tail * c);
            }
        };
        for last in table.last.iter().filter(|l| !l.moving.is_empty()) {
            let fixed = || last.base + last.fixed.iter().map(|t| tails[*t]).sum::<f64>();
            match last.used {
                Use::Energy => total(last, &mut block.energy),
                Use::Time => {
                    sum[..count].fill(fixed());
                    total(last, &mut sum);
                    let cycles = block.cycles[..count].iter_mut().zip(&sum);
                    cycles.for_each(|(t, s)| *t = if *s > *t { *s } else { *t });
                }
                Use::Within { least, most } => {
                    sum[..count].fill(fixed());
                    total(last, &mut sum);
                    let fits = block.fits[..count].iter_mut().zip(&sum);
                    fits.for_each(|(f, s)| *f &= *s <= most && *s >= least);
                }
            }
        }
        self.compare(&block, range);
    }

    /// Takes the best of a block.
    fn compare(&mut self, block: &Block, range: std::ops::Range<usize>) {
        let count = range.len();
        let fits = &block.fits[..count];
        self.counted += fits.iter().filter(|f| **f).count() as u64;
        let figures = block.energy[..count].iter().zip(&block.cycles[..count]);
        let figure = |(e, t): (&f64, &f64)| match self.objective {
            Objective::Latency => *t,
            Objective::Energy => *e,
            Objective::Edp => e * t,
        };
        let fitting = figures.map(figure).zip(fits);
        let least = fitting.map(|(x, f)| if *f { x } else { f64::INFINITY });
        let least = least.fold(f64::INFINITY, |a, b| if b < a { b } else { a });
        let known = self.best.map_or(f64::INFINITY, |b| b.0.0);
        let hopeless = least > known * (1.0 + 1e-11) && self.watch.is_none();
        if hopeless {
            return;
        }
        let dim = self.table.stages.last().map_or(0, |s| s.dim);
        for i in (0..count).filter(|i| fits[*i]) {
            let mut told = Told {
                energy: block.energy[i],
                cycles: block.cycles[i],
                chosen: self.chosen,
            };
            told.chosen[dim] = (range.start + i) as u32;
            if let Some(watch) = &mut self.watch {
                watch(&told);
            }
            let score = Score::new(self.objective, told.energy, told.cycles);
            if self.best.is_none_or(|b| score.beats(b.0)) {
                self.best = Some((score, told));
            }
        }
    }
}

/// Multiplies the tails with the factors of a split.
fn multiply(stage: &Stage, split: usize, before: &[f64], after: &mut [f64]) {
    let row = stage.row(split);
    after.fill(0.0);
    for (tail, link) in before.iter().zip(&stage.links) {
        let factor = link.column.map_or(1.0, |c| row[c as usize]);
        after[link.to as usize] += tail * factor;
    }
}

/// Whether a limit may hold still: its factors are not negative.
fn within(limit: &Limit, tails: &[f64]) -> bool {
    let sum = |f: fn(&super::table::Reach) -> f64| {
        let all = limit.tails.iter().map(|r| tails[r.tail] * f(r));
        limit.base + all.sum::<f64>()
    };
    sum(|r| r.least) <= limit.most && (limit.least <= 0.0 || sum(|r| r.most) >= limit.least)
}
