//! Which dimensions lie along which axes, and with how many trips: every assignment there is.

use smallvec::SmallVec;

use super::model::{DIMS, Model, STORES, Slot};
use super::symmetry;

/// A loop in space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spread {
    pub axis: u8,
    pub dim: u8,
    pub trips: u32,
}

/// An assignment of dimensions to axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    /// In order of the axes; on one axis in order of the dimensions.
    pub spreads: SmallVec<[Spread; 8]>,
    /// Trips in space of each dimension.
    pub spread: [u32; DIMS],
}

/// All assignments whose iterations alone may take less than `cycles` points on each instance, at most `most` of
/// them; whether those are all.
pub(super) fn all(model: &Model, cycles: f64, most: usize) -> (Vec<Assignment>, bool) {
    let mut found = vec![Assignment::none()];
    let mut whole = true;
    for (a, axis) in model.frame.axes.iter().enumerate() {
        let mut dims = axis.accepts.clone();
        dims.sort_unstable();
        let mut next = Vec::new();
        for base in &mut found {
            let room: f64 = model.frame.axes[a + 1..]
                .iter()
                .map(|x| x.size as f64)
                .product();
            let fast = |x: &Assignment| x.iterations(model) / room <= cycles;
            fill(model, a as u8, &dims, axis.size, base, &fast, &mut next);
            if next.len() > most {
                whole = false;
                break;
            }
        }
        next.truncate(most);
        found = next;
    }
    symmetry::drop_images(&mut found, &model.swaps);
    (found, whole)
}

/// Operands that have to leave a memory.
///
/// In many transfers each takes a set-up, in few the first one is long, and nothing computes before it is there. With `u` seconds of
/// an operand in `V` transfers, set-ups `s`, the compute busy for `C` and the memory for `B` seconds,
///
/// ```text
/// time >= max(C + sum of u / V, B + s x sum of V)
///      >= l (C + sum of u / V) + (1 - l) (B + s x sum of V)                              any 0 <= l <= 1
///      >= l C + (1 - l) B + 2 sqrt(l (1 - l)) K,    K = sum of sqrt(s u)                   the best V
///      =  (C + B) / 2 + sqrt(((C - B) / 2)^2 + K^2)                                      the best l
/// ```
#[derive(Debug, Clone, Copy, Default)]
struct Crossing {
    root: f64,
}

impl Crossing {
    /// One more operand, whose words take so many seconds.
    fn add(&mut self, setup: f64, seconds: f64) {
        self.root += (setup * seconds).sqrt();
    }

    /// The least time.
    fn time(&self, compute: f64, busy: f64) -> f64 {
        if self.root == 0.0 {
            return 0.0;
        }
        let half = (compute - busy) / 2.0;
        (compute + busy) / 2.0 + half.hypot(self.root)
    }
}

/// Time and dynamic energy of every mapping of any assignment, at least: all instances work all the time, and touched
/// elements cross from their homes, if they have to.
pub(super) fn floor(model: &Model) -> (f64, f64) {
    let frame = model.frame;
    let (time, mut energy) = frame.floor();
    let mut ports = [[0.0f64; 2]; STORES];
    let mut crossings = [Crossing::default(); STORES];
    for operand in 0..3 {
        let mut mine = model.slots.iter().filter(|s| s.operand == operand);
        if mine.any(|s| s.required) {
            let home = frame.levels[0].memory[operand].unwrap_or(0);
            let bits = model.touched[operand] * frame.bits[operand];
            let way = usize::from(operand == 2);
            energy += bits * model.stores[home].energy[way];
            let seconds = bits * model.stores[home].time[way];
            ports[home][way] += seconds;
            crossings[home].add(model.stores[home].setup, seconds);
        }
    }
    let compute = time - frame.fixed;
    (least_time(model, &ports, &crossings, compute), energy)
}

/// Time of all mappings whose compute and ports are busy for so long at least, and of which operands have to leave memories.
fn least_time(
    model: &Model,
    ports: &[[f64; 2]; STORES],
    crossings: &[Crossing; STORES],
    compute: f64,
) -> f64 {
    // First set-ups overlap with nothing else.
    let mut time = model.setups + compute;
    for ((port, store), crossing) in ports.iter().zip(&model.stores).zip(crossings) {
        let busy = store.busy(port);
        time = time.max(busy + model.setups);
        time = time.max(crossing.time(model.setups + compute, busy));
    }
    model.frame.fixed + model.answers + time
}

/// Lays any of some dimensions along an axis that has room for so many more iterations.
fn fill(
    model: &Model,
    axis: u8,
    dims: &[usize],
    room: u64,
    base: &mut Assignment,
    fast: &impl Fn(&Assignment) -> bool,
    found: &mut Vec<Assignment>,
) {
    let Some((&dim, rest)) = dims.split_first() else {
        if fast(base) {
            found.push(base.clone());
        }
        return;
    };
    let before = base.spread[dim];
    let left = u64::from(model.sizes[dim].div_ceil(before));
    for &trips in model.chains[dim].trips(room.min(left)) {
        base.spreads.push(Spread {
            axis,
            dim: dim as u8,
            trips,
        });
        base.spread[dim] = before * trips;
        let room = room / u64::from(trips);
        fill(model, axis, rest, room, base, fast, found);
        base.spreads.pop();
    }
    base.spread[dim] = before;
    fill(model, axis, rest, room, base, fast, found);
}

impl Assignment {
    /// Nothing in space.
    pub fn none() -> Self {
        Self {
            spreads: SmallVec::new(),
            spread: [1; DIMS],
        }
    }

    /// Axes and trips of a dimension.
    pub fn along(&self, dim: usize) -> Vec<(u8, u32)> {
        let mine = self.spreads.iter().filter(|s| usize::from(s.dim) == dim);
        mine.map(|s| (s.axis, s.trips)).collect()
    }

    /// Points of the box that the busiest instance runs, at least.
    pub fn iterations(&self, model: &Model) -> f64 {
        let each = model.sizes.iter().zip(&self.spread);
        let points: f64 = each.map(|(n, s)| f64::from(n.div_ceil(*s))).product();
        points * model.density
    }

    /// Time and dynamic energy of every mapping of this assignment, at least: each operand's touched elements
    /// cross from its home and into the storage that must be there, and its words go from its last
    /// storage to the compute, one for all instances that share it.
    pub fn bound(&self, model: &Model) -> (f64, f64) {
        let frame = model.frame;
        let mut energy = frame.mac_energy;
        let mut ports = [[0.0f64; 2]; STORES];
        let mut crossings = [Crossing::default(); STORES];
        for operand in 0..3 {
            let width = frame.bits[operand];
            let home = frame.levels[0].memory[operand].unwrap_or(0);
            let mine: SmallVec<[&Slot; 8]> = model
                .slots
                .iter()
                .filter(|s| s.operand == operand)
                .collect();
            let required = mine.iter().rposition(|s| s.required);
            // The way to the compute, from each storage that may be the last.
            let last = |store: usize, from: usize| {
                let words = model.points[operand] / self.shared(model, operand, from, usize::MAX);
                let e = model.stores[store].energy;
                if operand == 2 {
                    let fresh = model.touched[2] * self.shared(model, 2, 0, from);
                    let drains = if from == 0 { 0.0 } else { fresh * width * e[0] };
                    let finals = model.touched[2].min(words);
                    let wide = frame.partial;
                    (words - fresh).max(0.0) * wide * e[0]
                        + (finals * width + (words - finals) * wide.min(width)) * e[1]
                        + drains.min(fresh * wide * e[0])
                } else {
                    words * width * e[0]
                }
            };
            let open = mine
                .iter()
                .enumerate()
                .filter(|(i, _)| required.is_none_or(|r| *i >= r));
            let inner = open.map(|(_, s)| last(s.store, s.section));
            let mut least = inner.fold(f64::INFINITY, f64::min);
            if required.is_none() {
                least = least.min(last(home, 0));
            } else {
                // From home, and into what must be there.
                let e = model.stores[home].energy;
                let t = model.stores[home].time;
                let bits = model.touched[operand] * width;
                let way = usize::from(operand == 2);
                energy += bits * e[way];
                ports[home][way] += bits * t[way];
                crossings[home].add(model.stores[home].setup, bits * t[way]);
            }
            energy += least;
            for s in mine.iter().filter(|s| s.required) {
                let instances = self.instances(model, s.section);
                let repeated = self.repeated(model, operand, s.section);
                let bits = model.touched[operand] * width * repeated;
                let way = usize::from(operand != 2);
                let store = &model.stores[s.store];
                if operand != 2 {
                    energy += bits * store.energy[1];
                }
                ports[s.store][way] += bits * store.time[way] / instances;
            }
            if let Some(s) = mine.last().filter(|s| s.required) {
                let words =
                    model.points[operand] / self.shared(model, operand, s.section, usize::MAX);
                let way = usize::from(operand == 2);
                let bits = words * width.min(frame.partial) / self.instances(model, s.section);
                ports[s.store][way] += bits * model.stores[s.store].time[way];
            }
        }
        let compute = self.iterations(model) * frame.point_time;
        (least_time(model, &ports, &crossings, compute), energy)
    }

    /// Trips of spatial loops between two sections that share an operand's words.
    fn shared(&self, model: &Model, operand: usize, from: usize, to: usize) -> f64 {
        self.trips(model, |s, section| {
            section >= from
                && section < to
                && !model.has(operand, usize::from(s.dim))
                && model.shares(s.axis, operand)
        })
    }

    /// Instances of the storage of a section.
    fn instances(&self, model: &Model, section: usize) -> f64 {
        self.trips(model, |_, s| s < section)
    }

    /// How often an operand's words are repeated over those instances.
    fn repeated(&self, model: &Model, operand: usize, section: usize) -> f64 {
        self.trips(model, |s, at| {
            let d = usize::from(s.dim);
            at < section && !model.has(operand, d) && !model.masked[d]
        })
    }

    fn trips(&self, model: &Model, of: impl Fn(&Spread, usize) -> bool) -> f64 {
        let mine = self
            .spreads
            .iter()
            .filter(|s| of(s, model.axis_section[usize::from(s.axis)]));
        mine.map(|s| f64::from(s.trips)).product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_transfers_is_faster_than_the_bound_and_the_best_is_close() {
        for (compute, busy, setup, seconds) in [
            (6.0, 5.0, 0.05, [5.0, 0.0]),
            (1.0, 4.0, 0.2, [2.0, 2.0]),
            (3.0, 3.0, 0.01, [1.0, 2.0]),
            (9.0, 2.0, 0.5, [2.0, 0.0]),
        ] {
            let mut crossing = Crossing::default();
            for s in seconds {
                crossing.add(setup, s);
            }
            let bound = crossing.time(compute, busy);
            let mut least = f64::INFINITY;
            let numbers = || (1..2_000).map(|i| f64::from(i) * 0.05);
            for one in numbers() {
                for other in numbers().take(if seconds[1] > 0.0 { 2_000 } else { 1 }) {
                    let mut times = (compute, busy);
                    for (s, v) in seconds.iter().zip([one, other]).filter(|x| *x.0 > 0.0) {
                        times.0 += s / v;
                        times.1 += setup * v;
                    }
                    least = least.min(times.0.max(times.1));
                }
            }
            assert!(bound <= least * (1.0 + 1e-12), "{bound} of {least}");
            assert!(bound > least * 0.99, "{bound} of {least}");
        }
    }
}
