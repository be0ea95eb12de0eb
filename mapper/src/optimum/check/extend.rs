//! All extensions of a partial mapping, by the rules of the space.

use std::collections::BTreeMap;

use super::Refusal;
use super::model::Stage;
use super::replay::{Checker, refused};
use super::tally::Tally;
use crate::optimum::certificate::{Cut, End};

impl Checker<'_> {
    /// Whether all extensions of a partial mapping are listed, and no others.
    pub(super) fn open(&self, at: usize) -> Result<(), Refusal> {
        let (placement, steps) = self.place[at];
        let Some(stage) = self.stage(placement, steps) else {
            return Err(refused(at, "is whole"));
        };
        let mut listed = BTreeMap::new();
        for child in &self.children[at] {
            let partial = &self.partials[*child];
            let key = Key(
                partial.along,
                partial.keep,
                partial.loops.clone(),
                partial.slide,
            );
            let infeasible = partial.end == End::Infeasible;
            if listed.insert(key, (*child, infeasible)).is_some() {
                return Err(refused(*child, "is listed twice"));
            }
        }
        let mut extensions = Extensions {
            checker: self,
            at,
            tally: self.tally(at),
            listed,
        };
        match stage {
            Stage::Axis(group, axis) => extensions.along(group, axis)?,
            Stage::Keep(group) => extensions.keep(group)?,
        }
        match extensions.listed.values().next() {
            Some((child, _)) => Err(refused(*child, "is no extension")),
            None => Ok(()),
        }
    }
}

/// What tells an extension from others of the same partial mapping.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key(
    Option<(usize, usize)>,
    Option<(usize, usize)>,
    Vec<Cut>,
    Option<Cut>,
);

/// Enumerates all extensions of a partial mapping, and strikes them from those listed.
struct Extensions<'a> {
    checker: &'a Checker<'a>,
    at: usize,
    tally: Tally,
    listed: BTreeMap<Key, (usize, bool)>,
}

impl Extensions<'_> {
    /// Strikes an extension.
    fn strike(&mut self, key: Key, feasible: bool) -> Result<(), Refusal> {
        let Some((child, infeasible)) = self.listed.remove(&key) else {
            let reason = format!("partial mapping {} lacks {key:?}", self.at);
            return Err(Refusal::Cover(reason));
        };
        match (feasible, infeasible) {
            (true, true) if self.checker.closes(child) => Err(refused(child, "is feasible")),
            (false, false) => Err(refused(child, "is not feasible")),
            _ => Ok(()),
        }
    }

    /// All ways to lay dimensions along an axis.
    fn along(&mut self, group: usize, axis: usize) -> Result<(), Refusal> {
        let model = self.checker.model;
        let a = &model.groups[group].axes[axis];
        let mut all: Vec<(u64, Vec<Cut>)> = vec![(1, Vec::new())];
        for d in (0..model.sizes.len()).filter(|d| a.accepts[*d]) {
            let (tile, size) = (self.tally.tile[d], model.sizes[d]);
            let mut more = Vec::new();
            for (used, loops) in &all {
                for n in 2..=(a.size / used).min(size.div_ceil(tile)) {
                    let whole = size.div_ceil(tile).is_multiple_of(n);
                    if model.perfect && !whole {
                        continue;
                    }
                    let outer = (tile * n).min(size);
                    let mut loops = loops.clone();
                    loops.push(cut(d, tile, outer));
                    more.push((used * outer.div_ceil(tile), loops));
                }
            }
            all.extend(more);
        }
        let first = axis + 1 == model.groups[group].axes.len();
        let below = if first {
            &self.tally.tile
        } else {
            &self.tally.below
        };
        let below = below.clone();
        for (used, loops) in all {
            let mut tile = self.tally.tile.clone();
            loops.iter().for_each(|c| tile[c.0] = u64::from(c.2));
            let trips = (0..tile.len()).map(|d| tile[d].div_ceil(below[d]));
            let trips: Vec<u64> = trips.collect();
            let feasible = used >= a.least && (axis > 0 || model.obeys(group, &trips));
            self.strike(Key(Some((a.level, a.axis)), None, loops, None), feasible)?;
        }
        Ok(())
    }

    /// All ways to place a storage of a group next.
    fn keep(&mut self, group: usize) -> Result<(), Refusal> {
        let model = self.checker.model;
        let chains = self.checker.chains(self.at);
        let home = |(o, c): (usize, &Vec<usize>)| model.floats(o, c) && self.tally.left[o] == 0;
        let shared = chains.iter().enumerate().any(home);
        for (o, chain) in chains.iter().enumerate() {
            let Some(&level) = model.storages(o, chain, self.tally.left[o]).last() else {
                continue;
            };
            if !model.groups[group].memories.contains(&level) {
                continue;
            }
            let inner = self.tally.top.map(|t| &model.operands[t]);
            let x = &model.operands[o];
            let floats = model.floats(o, chain);
            // Loops that constraints tell apart by where they stand, and loops that neighbours share, are nowhere better;
            // further out, those inside a home would be shared.
            let helps = |d: &usize| {
                let better = inner.is_none_or(|i| i.indexed[*d]) && (floats || !x.plain[*d]);
                model.sizes[*d] > 1 && (better || shared || model.ruled[*d])
            };
            let dims: Vec<usize> = model.turn(level).into_iter().filter(helps).collect();
            let tally = self.tally.clone();
            self.loops(group, (o, level), &dims, tally, Vec::new())?;
        }
        Ok(())
    }

    /// All loops over some dimensions below a storage, and all ways to place it behind them.
    fn loops(
        &mut self,
        group: usize,
        (o, level): (usize, usize),
        dims: &[usize],
        t: Tally,
        loops: Vec<Cut>,
    ) -> Result<(), Refusal> {
        let Some((d, rest)) = dims.split_first() else {
            return self.place(group, (o, level), &t, loops);
        };
        self.loops(group, (o, level), rest, t.clone(), loops.clone())?;
        for outer in self.tiles(*d, t.tile[*d]) {
            let mut grown = t.clone();
            grown.grow(*d, outer);
            let mut with = loops.clone();
            with.push(cut(*d, t.tile[*d], outer));
            if !self.fits(group, &grown) {
                self.strike(Key(None, Some((o, level)), with, None), false)?;
                break;
            }
            self.loops(group, (o, level), rest, grown, with)?;
        }
        Ok(())
    }

    fn place(
        &mut self,
        group: usize,
        (o, level): (usize, usize),
        t: &Tally,
        loops: Vec<Cut>,
    ) -> Result<(), Refusal> {
        let model = self.checker.model;
        let x = &model.operands[o];
        let home = t.left[o] == 1 && model.floats(o, &self.checker.chains(self.at)[o]);
        let free = model.rules.is_empty() && x.windows.is_empty() && !home;
        let told = free && t.touching.is_some_and(|inner| inner > o);
        // Loops outside a home index what it keeps.
        let shared = |d: usize| x.indexed[d] || t.tile[d] == model.sizes[d];
        if told || (home && !(0..t.tile.len()).all(shared)) {
            return Ok(());
        }
        let key = |slide| Key(None, Some((o, level)), loops.clone(), slide);
        let mut left = t.left.clone();
        left[o] -= 1;
        let cuts = loops.iter();
        let cuts: Vec<(usize, u64, u64)> = cuts.map(|c| (c.0, c.1.into(), c.2.into())).collect();
        let fits = self.fits(group, t);
        let permits = fits && self.checker.permits(self.at, (group, level), &cuts, &left);
        self.strike(key(None), permits)?;
        if !permits || home {
            return Ok(());
        }
        let mut placed = t.clone();
        placed.keep(model, o, level, None);
        for d in (0..model.sizes.len()).filter(|d| x.indexed[*d] && !x.plain[*d]) {
            for outer in self.tiles(d, t.tile[d]) {
                let mut slid = placed.clone();
                slid.grow(d, outer);
                let fits = self.fits(group, &slid);
                self.strike(key(Some(cut(d, t.tile[d], outer))), fits)?;
                if !fits {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether a group's storages fit, those still to come with tiles as they are here.
    fn fits(&self, group: usize, t: &Tally) -> bool {
        let model = self.checker.model;
        let memories = &model.groups[group].memories;
        let mut used = t.used.clone();
        for (o, chain) in self.checker.chains(self.at).iter().enumerate() {
            if group == 0 && !model.floats(o, chain) {
                used[chain[0]] += model.bits(chain[0], o, &model.sizes);
            }
            for level in model.storages(o, chain, t.left[o]) {
                if memories.contains(level) {
                    used[*level] += model.bits(*level, o, &t.tile);
                }
            }
        }
        memories.iter().all(|m| used[*m] <= model.room(*m))
    }

    /// Tiles outside a loop over a dimension, smallest first.
    fn tiles(&self, d: usize, tile: u64) -> Vec<u64> {
        let model = self.checker.model;
        let size = model.sizes[d];
        let count = size.div_ceil(tile);
        let mut tiles: Vec<u64> = Vec::new();
        let mut before = count;
        for n in 2..=count {
            let trips = count.div_ceil(n);
            // Of all multiples with as many tiles the first one, where no constraint tells them apart.
            let first = trips < before || model.ruled[d];
            before = trips;
            if (model.perfect && count.is_multiple_of(n)) || (!model.perfect && first) {
                tiles.push((tile * n).min(size));
            }
        }
        tiles
    }
}

fn cut(d: usize, inner: u64, outer: u64) -> Cut {
    let narrow = |tile: u64| u32::try_from(tile).unwrap_or(u32::MAX);
    Cut(d, narrow(inner), narrow(outer))
}
