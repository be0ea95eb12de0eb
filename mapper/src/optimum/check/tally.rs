//! What a partial mapping costs: told anew from its steps, in the terms of [`super`].

use super::model::{Model, Outer};

/// A loop along an axis: dimension, its place among the group's axes, tile inside, tile outside.
type Along = (usize, usize, u64, u64);

/// Busy time of a port: level, port, time, and what first visits save of it.
type Busy = (usize, usize, f64, f64);

/// A partial mapping in figures.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// Tile of every dimension here, and where the fan being told began.
    pub tile: Vec<u64>,
    pub below: Vec<u64>,
    /// Picojoules with first visits, and what those save for one instance outside.
    pub energy: f64,
    pub saved: f64,
    /// The longest time, over that of one instance that does everything.
    pub time: f64,
    /// That of the compute alone.
    pub compute: f64,
    /// Ports inside whose first visits depend on what lies outside, and those of the group being told.
    pub late: Vec<Busy>,
    pub here: Vec<Busy>,
    /// What each operand's outermost storage asks of the next; of the output, what starts without a value.
    pub asks: Vec<f64>,
    pub first: f64,
    /// Tiles of those storages.
    pub kept: Vec<Vec<u64>>,
    /// Storages still to come, by operand; the home is the last.
    pub left: Vec<usize>,
    /// Bits used in the group being told, by level.
    pub used: Vec<f64>,
    /// Operand of the outermost storage.
    pub top: Option<usize>,
    /// The same if no loop stands outside it.
    pub touching: Option<usize>,
    /// Dimensions along which ports inside do not serve as many iterations each: tiles that do not divide them,
    /// windows, other fans.
    pub uneven: Vec<bool>,
    /// Loops of the fan being told, inner first.
    pub fan: Vec<Along>,
}

impl Tally {
    pub fn start(model: &Model, chains: &[Vec<usize>]) -> Self {
        let ones = vec![1; model.sizes.len()];
        let output = model.operands.len() - 1;
        Self {
            tile: ones.clone(),
            below: ones.clone(),
            energy: model.operations * model.compute_energy,
            saved: 0.0,
            time: 1.0,
            compute: 1.0,
            late: Vec::new(),
            here: Vec::new(),
            asks: vec![model.operations; output + 1],
            first: first(model, output, &ones),
            kept: vec![ones; output + 1],
            left: chains.iter().map(Vec::len).collect(),
            used: vec![0.0; model.hierarchy.levels.len()],
            top: None,
            touching: None,
            uneven: vec![false; model.sizes.len()],
            fan: Vec::new(),
        }
    }

    /// The beginning of a group's fan.
    pub fn enter(&mut self) {
        self.below.clone_from(&self.tile);
        self.fan.clear();
    }

    /// Lays a dimension along an axis. Each trip takes its share, at least; `whole` corrects it.
    pub fn along(&mut self, model: &Model, group: usize, axis: usize, d: usize, outer: u64) {
        let inner = std::mem::replace(&mut self.tile[d], outer);
        self.fan.push((d, axis, inner, outer));
        let n = outer.div_ceil(inner) as f64;
        self.pace(1.0 / n);
        let shares = &model.groups[group].axes[axis].shares;
        for (o, x) in model.operands.iter().enumerate() {
            if x.indexed[d] {
                continue;
            }
            if shares[o] {
                self.asks[o] /= n;
            }
            if x.output {
                self.apart(n);
                self.first *= if shares[o] { 1.0 } else { n };
            }
        }
    }

    fn pace(&mut self, factor: f64) {
        self.time *= factor;
        self.compute *= factor;
        for port in &mut self.late {
            port.2 *= factor;
            port.3 *= factor;
        }
    }

    fn apart(&mut self, factor: f64) {
        self.saved *= factor;
        self.late.iter_mut().for_each(|port| port.3 *= factor);
    }

    /// The end of a group's fan: partial tiles are counted exactly for dimensions that go no further outside.
    pub fn whole(&mut self, model: &Model, group: usize, outside: &Outer) {
        for d in 0..self.tile.len() {
            let (inner, outer, size) = (self.below[d], self.tile[d], model.sizes[d]);
            if inner == outer || (outside.dims[d] && outer < size) {
                continue;
            }
            // From the outside in.
            let cuts: Vec<Along> = self
                .fan
                .iter()
                .rev()
                .filter(|l| l.0 == d)
                .copied()
                .collect();
            let trips = |of: &dyn Fn(usize) -> bool| -> f64 {
                let cuts = cuts.iter().filter(|l| of(l.1));
                cuts.map(|l| l.3.div_ceil(l.2) as f64).product()
            };
            let (full, rest) = (size / outer, size % outer);
            // The first instance has the first piece of each full tile, and of the last one.
            let mine = full * inner + rest.min(inner);
            let exact = trips(&|_| true) * mine as f64 / size as f64;
            let ports = if self.uneven[d] { 1.0 } else { exact };
            let sums = model.operands.iter().any(|x| x.output && !x.indexed[d]);
            self.compute *= exact;
            self.time = (self.time * ports).max(self.compute);
            for port in &mut self.late {
                port.2 *= ports;
                // The first instance starts all of its own sums, however few products each has.
                port.3 *= if sums { 1.0 } else { exact };
            }
            for (o, x) in model.operands.iter().enumerate() {
                if x.indexed[d] {
                    continue;
                }
                let shared = |axis: usize| model.groups[group].axes[axis].shares[o];
                let kept = self.kept[o][d];
                let served = full as f64 * pieces(outer, kept, &cuts, &shared)
                    + pieces(rest, kept, &cuts, &shared);
                self.asks[o] *= trips(&shared) * served / size.div_ceil(kept) as f64;
                if x.output {
                    let none = |_: usize| false;
                    self.saved *= pieces_with_work(outer, &cuts, &none) / trips(&|_| true);
                    self.first *=
                        pieces_with_work(outer, &cuts, &shared) / trips(&|axis| !shared(axis));
                }
            }
        }
        if !model.groups[group].axes.is_empty() {
            self.uneven.fill(true);
        }
    }

    /// A loop in time.
    pub fn grow(&mut self, d: usize, outer: u64) {
        self.tile[d] = outer;
        self.touching = None;
    }

    /// Serves what is inside from a memory.
    fn serve(&mut self, model: &Model, o: usize, level: usize) {
        let (energy, cycles) = (model.energy(level, o), model.cycles(level, o));
        let asks = self.asks[o];
        self.energy += asks * energy[2];
        self.busy(level, &cycles[2], asks, 0.0);
        if model.operands[o].output {
            self.energy += asks * energy[3];
            self.saved += self.first * energy[2];
            self.busy(level, &cycles[3], asks, 0.0);
            self.busy(level, &cycles[2], 0.0, self.first);
        }
    }

    fn busy(&mut self, level: usize, cycles: &[f64], words: f64, saved: f64) {
        for (p, each) in cycles.iter().enumerate() {
            let known = self.here.iter().position(|b| (b.0, b.1) == (level, p));
            let at = known.unwrap_or_else(|| {
                self.here.push((level, p, 0.0, 0.0));
                self.here.len() - 1
            });
            self.here[at].2 += words * each;
            self.here[at].3 += saved * each;
        }
    }

    /// Places a storage; `slide`: the loop directly above that slides a window.
    pub fn keep(&mut self, model: &Model, o: usize, level: usize, slide: Option<(usize, u64)>) {
        self.serve(model, o, level);
        self.used[level] += model.bits(level, o, &self.tile);
        self.left[o] -= 1;
        self.top = Some(o);
        self.touching = Some(o);
        let (energy, cycles) = (model.energy(level, o), model.cycles(level, o));
        let fills = model.fills(o, &self.tile, slide);
        self.asks[o] = fills;
        self.kept[o].clone_from(&self.tile);
        let x = &model.operands[o];
        for (d, uneven) in self.uneven.iter_mut().enumerate() {
            let divides = model.sizes[d].is_multiple_of(self.tile[d]);
            *uneven |= !x.plain[d] && (x.indexed[d] || !divides);
        }
        self.energy += fills * energy[0];
        self.busy(level, &cycles[0], fills, 0.0);
        if model.operands[o].output {
            self.first = first(model, o, &self.tile);
            self.energy += fills * energy[1];
            self.saved += self.first * energy[0];
            self.busy(level, &cycles[1], fills, 0.0);
            self.busy(level, &cycles[0], 0.0, self.first);
        }
        if let Some((d, outer)) = slide {
            self.grow(d, outer);
        }
    }

    /// Homes of all operands, in the outermost group.
    pub fn homes(&mut self, model: &Model, chains: &[Vec<usize>]) {
        for (o, chain) in chains.iter().enumerate() {
            self.serve(model, o, chain[0]);
        }
    }

    /// The end of a group: its ports' times become part of the time.
    pub fn close(&mut self, model: &Model, outside: &Outer) {
        let scale = model.rate / model.operations;
        for (level, port, time, saved) in std::mem::take(&mut self.here) {
            let least = (time - saved * outside.apart.max(1.0)) * scale;
            self.time = self.time.max(least);
            if saved > 0.0 && outside.apart > 1.0 {
                self.late.push((level, port, time * scale, saved * scale));
            }
        }
        self.late.sort_by_key(|b| (b.0, b.1));
        self.used.fill(0.0);
        self.touching = None;
    }

    /// Energy and cycles of a whole mapping.
    pub fn figures(&self, model: &Model) -> (f64, f64) {
        let late = self.late.iter().map(|b| b.2 - b.3);
        let time = late.fold(self.time, f64::max);
        let cycles = time * model.operations / model.rate;
        (self.energy - self.saved, cycles)
    }
}

/// Fills of the output that start without a value, of one instance.
fn first(model: &Model, o: usize, tile: &[u64]) -> f64 {
    let x = &model.operands[o];
    let indexed = |d: usize| {
        if x.indexed[d] {
            tile[d]
        } else {
            model.sizes[d]
        }
    };
    let tile: Vec<u64> = (0..tile.len()).map(indexed).collect();
    model.fills(o, &tile, None)
}

/// Tiles `kept` of an extent, where of shared loops only the first iteration is seen.
fn pieces(extent: u64, kept: u64, cuts: &[Along], shared: &dyn Fn(usize) -> bool) -> f64 {
    let Some(((_, axis, inner, _), rest)) = cuts.split_first() else {
        return extent.div_ceil(kept) as f64;
    };
    let mut sum = 0.0;
    let mut at = 0;
    while at < extent {
        sum += pieces((extent - at).min(*inner), kept, rest, shared);
        if shared(*axis) {
            break;
        }
        at += inner;
    }
    sum
}

/// Iterations of the loops that are not shared that have work.
fn pieces_with_work(extent: u64, cuts: &[Along], shared: &dyn Fn(usize) -> bool) -> f64 {
    match extent {
        0 => 0.0,
        _ => pieces(extent, extent.max(1), cuts, shared),
    }
}
