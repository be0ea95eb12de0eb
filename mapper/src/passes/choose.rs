//! The machine, the parameters that fit it, and the passes that they make.

use presil_hwmodels::{NodeId, NodeKind, Operand, PassParameters, RowStationary};

use super::conv::Conv;
use super::{PassKind, PassTime};
use crate::problem::Problem;

/// What of a row-stationary array the parameters must fit.
#[derive(Debug, Clone)]
pub(super) struct Machine<'a> {
    dataflow: &'a RowStationary,
    /// Fanout of the PEs, and which of its axes are rows and columns.
    pub(super) fanout: NodeId,
    pub(super) axes: [usize; 2],
    /// PEs along rows and columns.
    pes: [u64; 2],
    /// Bits of the buffer, and of what weights pass on their way to the PEs.
    buffer_bits: f64,
    prefetch_bits: f64,
    /// Elements that a PE holds of each operand.
    words: [u64; 3],
    /// Memory in a PE of each operand.
    pub(super) spads: [NodeId; 3],
    /// Bits of an input, a weight and a partial sum.
    bits: [f64; 3],
}

impl<'a> Machine<'a> {
    /// The machine of a problem; `None` if its chip is none.
    pub(super) fn of(problem: &Problem<'a>) -> Option<Self> {
        let chip = problem.chip;
        let dataflow = chip.mapspace.row_stationary.as_ref()?;
        let place = |n: NodeId| problem.path.iter().position(|x| *x == n);
        let buffer = place(dataflow.buffer)?;
        if problem
            .home
            .iter()
            .any(|h| place(*h).is_none_or(|p| p >= buffer))
        {
            return None;
        }
        let below = problem.path.iter().enumerate().skip(buffer + 1);
        let (at, fanout, dims) = below
            .clone()
            .find_map(|(at, n)| match &chip.nodes[*n].kind {
                NodeKind::Fanout(f) => Some((at, *n, &f.dims)),
                _ => None,
            })?;
        let [first, second] = dims.as_slice() else {
            return None;
        };
        let axes = if first.reduces { [0, 1] } else { [1, 0] };
        let pes = if first.reduces {
            [first.size, second.size]
        } else {
            [second.size, first.size]
        };
        let bits = [
            problem.bits[0],
            problem.bits[1],
            problem.accumulate.bits() as f64,
        ];
        let spad = |o: Operand| {
            let mut inside = problem.path.iter().enumerate().skip(at + 1);
            let (place, node) =
                inside.rfind(|(_, n)| chip.nodes[**n].memory().is_some_and(|m| m.keeps.has(o)))?;
            let room = problem.capacity.get(place)?.0 as f64 * 8.0;
            Some((*node, (room / bits[o.index()]) as u64))
        };
        let capacity = |n: &NodeId| problem.capacity.get(place(*n)?).map(|c| c.0 as f64 * 8.0);
        let on_the_way = problem.levels_below_home(Operand::Weight).into_iter();
        let prefetch = on_the_way
            .filter(|n| place(*n).is_some_and(|p| p < at))
            .filter_map(|n| capacity(&n))
            .fold(f64::INFINITY, f64::min);
        let spads = [
            spad(Operand::Input)?,
            spad(Operand::Weight)?,
            spad(Operand::Output)?,
        ];
        Some(Self {
            dataflow,
            fanout,
            axes,
            pes,
            buffer_bits: capacity(&dataflow.buffer)?,
            prefetch_bits: prefetch,
            words: spads.map(|s| s.1),
            spads: spads.map(|s| s.0),
            bits,
        })
    }

    /// The buffer.
    pub(super) fn buffer(&self) -> NodeId {
        self.dataflow.buffer
    }

    /// Segments that a set of so many columns is folded into.
    pub(super) fn segments(&self, e: u64) -> u64 {
        e.div_ceil(self.pes[1].max(1)).max(1)
    }

    /// Sets that stand below each other and beside each other.
    fn slots(&self, conv: &Conv, e: u64) -> [u64; 2] {
        let segments = self.segments(e);
        let down = self.pes[0] / conv.filter[0].saturating_mul(segments).max(1);
        let width = if segments == 1 { e } else { self.pes[1] };
        [down, self.pes[1] / width.max(1)]
    }

    /// Sets with different filters that stand beside each other: as few as leave room for the others below. Sets with
    /// different channels stand below each other, since partial sums go up. 0: there is no room.
    pub(super) fn beside(&self, conv: &Conv, x: &PassParameters) -> u64 {
        let [down, across] = self.slots(conv, x.e);
        let fits = |b: &u64| x.t.is_multiple_of(*b) && x.r * (x.t / b) <= down;
        (1..=across.min(x.t)).find(fits).unwrap_or(0)
    }

    /// Whether parameters fit the array, the PEs and the buffer.
    fn fits(&self, conv: &Conv, x: &PassParameters) -> bool {
        let [inputs, weights, sums] = self.words;
        let s = conv.filter[1];
        let pass_inputs =
            (x.n * x.q * x.r) as f64 * conv.reach(0, x.e) as f64 * conv.reach(1, x.f) as f64;
        let held = (x.n * x.m) as f64 * (x.e * x.f) as f64;
        let pass_weights = (x.p * x.t * x.q * x.r) as f64 * (conv.filter[0] * s) as f64;
        let folds = self.segments(x.e);
        // A folded strip is cut evenly, or it is all of the rows.
        let even = folds == 1 || x.e == conv.out[0] || x.e.is_multiple_of(folds);
        even && self.beside(conv, x) > 0
            && x.q * s <= inputs
            && x.p * x.q * s <= weights
            && x.p <= sums
            && held * self.bits[2] + pass_inputs * self.bits[0] <= self.buffer_bits
            && pass_weights * self.bits[1] <= self.prefetch_bits
    }

    /// The parameters of a convolution, and whether the chip file states them.
    pub(super) fn parameters(
        &self,
        problem: &Problem,
        conv: &Conv,
    ) -> Option<(PassParameters, bool)> {
        let listed = self
            .dataflow
            .layers
            .iter()
            .find(|l| l.filter_rows == conv.filter[0] && l.output_rows == conv.out[0])
            .map(|l| cut(conv, &l.parameters))
            .filter(|x| self.fits(conv, x));
        if let Some(x) = listed {
            return Some((x, true));
        }
        let rate = crate::analysis::compute(problem)?.1.macs_per_cycle;
        self.best(conv, rate).map(|x| (x, false))
    }

    /// The parameters with the least processing time, then the fewest words to and from homes; the first of equals.
    fn best(&self, conv: &Conv, rate: f64) -> Option<PassParameters> {
        let mut best: Option<([f64; 2], PassParameters)> = None;
        for n in divisors(conv.n) {
            for (e, f) in tiles(conv) {
                let [down, across] = self.slots(conv, e);
                self.sets(conv, down * across, |mut x| {
                    (x.n, x.e, x.f) = (n, e, f);
                    let set = x.p * x.t;
                    let room = |m: u64| self.fits(conv, &PassParameters { m, ..x });
                    let Some(m) = most(conv.k.div_ceil(set), |sets| room(sets * set)) else {
                        return;
                    };
                    x.m = m * set;
                    let kinds = self.kinds(conv, &x, rate);
                    let cycles: f64 = kinds.iter().map(|k| k.count as f64 * k.time.total()).sum();
                    let figures = [cycles, super::moves::words(conv, &x)];
                    if best.as_ref().is_none_or(|b| figures < b.0) {
                        best = Some((figures, x));
                    }
                });
            }
        }
        best.map(|b| b.1)
    }

    /// All ways to lay at most so many sets that the PEs can hold.
    fn sets(&self, conv: &Conv, slots: u64, mut each: impl FnMut(PassParameters)) {
        let [inputs, weights, sums] = self.words;
        let s = conv.filter[1].max(1);
        for q in 1..=(inputs / s).min(conv.c) {
            let most = sums.min(weights / (q * s)).min(conv.k);
            if most == 0 {
                continue;
            }
            for r in 1..=slots.min(conv.c.div_ceil(q)) {
                for t in 1..=(slots / r).min(conv.k) {
                    // As few rounds over the filters as can be, of equal size.
                    let p = conv.k.div_ceil(conv.k.div_ceil(most * t) * t);
                    each(PassParameters {
                        m: 0,
                        n: 0,
                        e: 0,
                        f: 0,
                        p,
                        q,
                        r,
                        t,
                    });
                }
            }
        }
    }

    /// The passes of a convolution, whole ones first.
    pub(super) fn kinds(&self, conv: &Conv, x: &PassParameters, rate: f64) -> Vec<PassKind> {
        let mut kinds = Vec::new();
        for images in parts(conv.n, x.n) {
            for rows in parts(conv.out[0], x.e) {
                for columns in parts(conv.out[1], x.f) {
                    for filters in parts(conv.k, x.p * x.t) {
                        for channels in parts(conv.c, x.q * x.r) {
                            let mut kind = PassKind {
                                count: conv.g
                                    * [images, rows, columns, filters, channels]
                                        .map(|p| p.1)
                                        .iter()
                                        .product::<u64>(),
                                images: images.0,
                                rows: rows.0,
                                columns: columns.0,
                                filters: filters.0,
                                channels: channels.0,
                                time: PassTime::default(),
                            };
                            kind.time = self.time(conv, x, &kind, rate);
                            kinds.push(kind);
                        }
                    }
                }
            }
        }
        kinds
    }

    fn time(&self, conv: &Conv, x: &PassParameters, k: &PassKind, rate: f64) -> PassTime {
        let [w_input, w_weight, w_output] = self.dataflow.words_per_cycle;
        let [taps, width] = conv.filter.map(|f| f as f64);
        let (p, q) = (k.filters.div_ceil(x.t), k.channels.div_ceil(x.r));
        let (filters, channels) = (k.filters as f64, k.channels as f64);
        let rows = conv.reach(0, k.rows) as f64 * channels;
        let images = k.images as f64;
        let outputs = (k.rows * k.columns) as f64;
        let compute = images * (p * q) as f64 * width * k.columns as f64 / rate;
        let inputs = images * rows * conv.reach(1, k.columns) as f64 / w_input;
        let sums = images * filters * outputs / w_output;
        PassTime {
            filters: filters * channels * taps * width / w_weight,
            window: rows * width / w_input,
            steady: compute.max(inputs).max(sums),
            drain: k.rows as f64 * filters / w_output,
        }
    }
}

/// Parameters cut to a convolution's sizes.
fn cut(conv: &Conv, x: &PassParameters) -> PassParameters {
    let p = x.p.min(conv.k);
    let q = x.q.min(conv.c);
    let t = x.t.min(conv.k.div_ceil(p));
    let set = p * t;
    PassParameters {
        m: (x.m / set).min(conv.k.div_ceil(set)).max(1) * set,
        n: x.n.min(conv.n),
        e: x.e.min(conv.out[0]),
        f: x.f.min(conv.out[1]),
        p,
        q,
        r: x.r.min(conv.c.div_ceil(q)),
        t,
    }
}

/// Strips and tiles of columns that are tried: the lowest strip of each number of strips; columns halved as often as that helps.
fn tiles(conv: &Conv) -> impl Iterator<Item = (u64, u64)> + use<'_> {
    let halves = (0..6).map(|k| conv.out[1].div_ceil(1 << k));
    let mut columns: Vec<u64> = halves.collect();
    columns.dedup();
    let mut heights: Vec<u64> = (1..=conv.out[0]).map(|n| conv.out[0].div_ceil(n)).collect();
    heights.dedup();
    columns
        .into_iter()
        .flat_map(move |f| heights.clone().into_iter().map(move |e| (e, f)))
}

/// Divisors of a number up to 16.
fn divisors(of: u64) -> impl Iterator<Item = u64> {
    (1..=of.min(16)).filter(move |d| of.is_multiple_of(*d))
}

/// The largest number up to `limit` that is good, all smaller ones being good too.
fn most(limit: u64, good: impl Fn(u64) -> bool) -> Option<u64> {
    let (mut low, mut high) = (0, limit);
    while low < high {
        let middle = high - (high - low) / 2;
        if good(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    (low > 0).then_some(low)
}

/// Parts of a size and how many there are: whole ones, then the rest.
fn parts(size: u64, part: u64) -> impl Iterator<Item = (u64, u64)> + Clone {
    let part = part.clamp(1, size.max(1));
    [(part, size / part), (size % part, 1)]
        .into_iter()
        .filter(|(size, count)| *size > 0 && *count > 0)
}
