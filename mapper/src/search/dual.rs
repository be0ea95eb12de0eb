//! Lower bounds on all mappings of a case at once, by duality.
//!
//! A mapping chooses an option `o_d` for each dimension; costs are sums of terms `c_t x_t` with `x_t` a product over
//! dimensions of `x_t(o_d)` ([`super::posynomial`]), and tiles have to fit: `sum of b_m T_m <= 1` for each memory. To
//! take the best option of each dimension on its own forgets that what is good for one term is bad for another, or
//! does not fit. The inequality of weighted means keeps both: for weights `w` that sum to 1
//!
//! ```text
//! sum of c_t x_t  >=  product of (c_t x_t / w_t)^w_t
//! max over resources A_i  >=  product of A_i^mu_i                             mu sums to 1
//! 1  >=  product of (b_m T_m / v_m)^(l v_m)  of tiles that fit                v sums to 1, l >= 0
//! (time / limit)^n  <=  1  of mappings within a limit on time                 n >= 0
//! ```
//!
//! The logarithm of the product of all these is a sum over dimensions, so its least value is the sum of the
//! least of each dimension: one pass over the options. Any weights give a bound; good ones are the shares of the terms at
//! the optimum of the relaxed problem (options mixed), where the bound is the optimum of the mix itself. They are found by
//! conditional gradients: a mix of the best options so far gives the shares, these the next best options.
//!
//! *Options that no optimum has.* If the bound with one option fixed reaches the incumbent, it can go; the rest is bounded
//! anew, and better.

use super::posynomial::{COMPUTE, ENERGY, Monomial, Posynomial};
use super::tree::{Figure, Goal};

/// First steps of the multipliers of room and of the limit.
const ROOM_STEP: f64 = 0.3;
const LIMIT_STEP: f64 = 1.0;

/// Options of one dimension as logarithms of their factors.
pub(super) struct Table<'a> {
    /// Of one option after the other.
    pub logs: &'a [f64],
    /// Options that are left.
    pub open: &'a mut Vec<u32>,
}

/// Weights of a bound, as exponents of factors.
#[derive(Debug, Clone)]
pub(super) struct Weights {
    pub columns: Vec<f64>,
    /// Logarithm of the bound without the factors.
    pub constant: f64,
}

impl Default for Weights {
    /// Weights that bound nothing.
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            constant: f64::NEG_INFINITY,
        }
    }
}

impl Weights {
    /// Logarithm of an option's part.
    pub fn of(&self, logs: &[f64]) -> f64 {
        self.columns.iter().zip(logs).map(|(w, l)| w * l).sum()
    }
}

/// What is bounded.
pub(super) struct Dual<'a> {
    posynomial: &'a Posynomial,
    goal: Goal,
    power: f64,
    count: usize,
    /// Logarithms of the factors of the mix.
    mix: Vec<f64>,
    /// Multipliers of the room of memories, and of the limit.
    room: Vec<f64>,
    limit: f64,
    /// The best bound (a logarithm) and its weights.
    pub best: f64,
    pub weights: Weights,
    /// Joules of energy, at least.
    least_energy: f64,
    step: u32,
}

impl<'a> Dual<'a> {
    pub fn new(
        posynomial: &'a Posynomial,
        goal: Goal,
        power: f64,
        count: usize,
        least: &[f64],
    ) -> Self {
        let time = (COMPUTE..posynomial.groups.len())
            .map(|g| posynomial.value(g, least))
            .fold(0.0, f64::max);
        let rooms = posynomial
            .rooms
            .iter()
            .map(|r| r.store + 1)
            .max()
            .unwrap_or(0);
        Self {
            posynomial,
            goal,
            power,
            count,
            mix: vec![0.0; count],
            room: vec![0.0; rooms],
            limit: 0.0,
            best: f64::NEG_INFINITY,
            weights: Weights::default(),
            least_energy: posynomial.value(ENERGY, least) + power * time,
            step: 0,
        }
    }

    /// Improves the bound until it reaches a target (a logarithm), for so many passes at most. `least` finds the least
    /// weighted sum of logarithms of factors, and adds those to a row of zeros.
    pub fn improve(
        &mut self,
        target: f64,
        passes: u32,
        mut least: impl FnMut(&Weights, &mut [f64]) -> f64,
    ) {
        let mut chosen = vec![0.0; self.count];
        for _ in 0..passes {
            let weights = self.weigh();
            chosen.fill(0.0);
            let bound = weights.constant + least(&weights, &mut chosen);
            if bound > self.best {
                self.best = bound;
                self.weights = weights;
            }
            if self.best >= target {
                return;
            }
            self.step += 1;
            let share = if self.step == 1 {
                1.0
            } else {
                2.0 / (f64::from(self.step) + 2.0)
            };
            for (m, c) in self.mix.iter_mut().zip(&chosen) {
                *m += share * (c - *m);
            }
            self.constrain(share);
        }
    }

    /// Logarithm of a product of factors of the mix.
    fn log(&self, m: &Monomial) -> f64 {
        m.columns().iter().map(|c| self.mix[usize::from(*c)]).sum()
    }

    /// Exponents of energy and of time in the figure, and those of the limited figure.
    fn exponents(&self) -> ([f64; 2], [f64; 2]) {
        let of = |f: Figure| match f {
            Figure::Time => [0.0, 1.0],
            Figure::Energy => [1.0, 0.0],
            Figure::Product => [1.0, 1.0],
        };
        (of(self.goal.figure), of(self.goal.limited))
    }

    /// The weights of the mix.
    fn weigh(&self) -> Weights {
        let p = self.posynomial;
        let value = |g: usize| -> f64 {
            let terms = p.groups[g].iter();
            terms
                .map(|t| t.coefficient * self.log(&t.monomial).exp())
                .sum()
        };
        let values: Vec<f64> = (0..p.groups.len()).map(value).collect();
        let longest = values[COMPUTE..].iter().copied().fold(0.0, f64::max);
        // A soft maximum, the harder the further the mix has come.
        let hardness = 4.0 + 2.0 * f64::from(self.step);
        let mut shares: Vec<f64> = values
            .iter()
            .map(|v| (v / longest).powf(hardness))
            .collect();
        // What is too little to matter costs work.
        shares
            .iter_mut()
            .filter(|s| **s < 1e-6)
            .for_each(|s| *s = 0.0);
        let sum: f64 = shares[COMPUTE..].iter().sum();
        shares.iter_mut().for_each(|s| *s /= sum);
        let (of, limited) = self.exponents();
        let energy = of[0] + self.limit * limited[0];
        let time = of[1] + self.limit * limited[1];
        let power = self.power * longest;
        let standing = power / (values[ENERGY] + power);
        let time = time + energy * standing;
        let mut weights = Weights {
            columns: vec![0.0; self.count],
            constant: 0.0,
        };
        if standing > 0.0 {
            weights.constant += energy * standing * (self.power / standing).ln();
        }
        if self.limit > 0.0 {
            weights.constant -= self.limit * self.goal.limit.ln();
        }
        for (g, terms) in p.groups.iter().enumerate() {
            let factor = if g == ENERGY {
                energy * (1.0 - standing)
            } else {
                time * shares[g]
            };
            if factor <= 0.0 {
                continue;
            }
            for t in terms {
                let share = t.coefficient * self.log(&t.monomial).exp() / values[g];
                if share <= 0.0 {
                    continue;
                }
                // The term's weight within energy or time.
                let within = if g == ENERGY {
                    share * (1.0 - standing)
                } else {
                    share
                };
                weights.constant += factor * share * (t.coefficient / within).ln();
                for c in t.monomial.columns() {
                    weights.columns[usize::from(*c)] += factor * share;
                }
            }
        }
        self.add_room(&mut weights);
        if !self.alone() && p.off > 0.0 && energy > 0.0 {
            let left = (1.0 - p.off / self.least_energy).max(f64::MIN_POSITIVE);
            weights.constant += energy * left.ln();
        }
        weights
    }

    /// Whether energy stands alone: then what is taken off can be taken off the bound itself.
    fn alone(&self) -> bool {
        let ([e, t], [limited, _]) = self.exponents();
        (e, t) == (1.0, 0.0) && (limited == 0.0 || self.goal.limit.is_infinite())
    }

    /// What is taken off the exponential of the bound.
    pub fn off(&self) -> f64 {
        if self.alone() {
            self.posynomial.off
        } else {
            0.0
        }
    }

    /// The logarithm that the bound has to reach for the figure to be at least `best`.
    pub fn target(&self, best: f64) -> f64 {
        (best + self.off()).ln()
    }

    /// The bound on the figure.
    pub fn bound(&self) -> f64 {
        (self.best.exp() - self.off()).max(0.0)
    }

    fn add_room(&self, weights: &mut Weights) {
        for (s, multiplier) in self.room.iter().enumerate() {
            if *multiplier <= 0.0 {
                continue;
            }
            let used = self.used(s);
            for r in self.posynomial.rooms.iter().filter(|r| r.store == s) {
                let share = r.share * self.mix[r.column].exp() / used;
                if share > 0.0 {
                    weights.constant += multiplier * share * (r.share / share).ln();
                    weights.columns[r.column] += multiplier * share;
                }
            }
        }
    }

    /// Share of a memory that the mix takes.
    fn used(&self, store: usize) -> f64 {
        let rooms = self.posynomial.rooms.iter().filter(|r| r.store == store);
        rooms.map(|r| r.share * self.mix[r.column].exp()).sum()
    }

    /// Moves multipliers towards what the mix violates.
    fn constrain(&mut self, share: f64) {
        let step = share.sqrt();
        for s in 0..self.room.len() {
            let used = self.used(s);
            if used > 0.0 {
                let move_by = ROOM_STEP * step * used.ln().clamp(-1.0, 1.0);
                self.room[s] = (self.room[s] + move_by).max(0.0);
            }
        }
        if self.goal.limit.is_finite() {
            let p = self.posynomial;
            let value = |g: usize| -> f64 {
                let terms = p.groups[g].iter();
                terms
                    .map(|t| t.coefficient * self.log(&t.monomial).exp())
                    .sum()
            };
            let time = (COMPUTE..p.groups.len()).map(value).fold(0.0, f64::max);
            let energy = value(ENERGY) - p.off + self.power * time;
            let over = (self.goal.limited.of(time, energy) / self.goal.limit).max(1e-9);
            let move_by = LIMIT_STEP * step * over.ln().clamp(-1.0, 1.0);
            self.limit = (self.limit + move_by).max(0.0);
        }
    }

    /// The least weighted sum of the options that are left.
    pub fn least_of(tables: &[Table], weights: &Weights, chosen: &mut [f64]) -> f64 {
        let count = chosen.len();
        let mut sum = 0.0;
        for table in tables {
            let mut least = (f64::INFINITY, 0);
            for &o in table.open.iter() {
                let at = o as usize * count;
                let x = weights.of(&table.logs[at..at + count]);
                if x < least.0 {
                    least = (x, at);
                }
            }
            sum += least.0;
            let row = &table.logs[least.1..least.1 + count];
            chosen.iter_mut().zip(row).for_each(|(c, r)| *c += r);
        }
        sum
    }

    /// Drops the options with which the bound reaches the target; whether any was dropped.
    pub fn filter(&self, tables: &mut [Table], target: f64) -> bool {
        let mut dropped = false;
        for table in tables {
            let of = |o: u32| {
                let at = o as usize * self.count;
                self.weights.of(&table.logs[at..at + self.count])
            };
            let least = table
                .open
                .iter()
                .map(|o| of(*o))
                .fold(f64::INFINITY, f64::min);
            let slack = target - self.best + least;
            let before = table.open.len();
            table.open.retain(|o| of(*o) < slack);
            dropped |= table.open.len() < before;
        }
        dropped
    }
}
