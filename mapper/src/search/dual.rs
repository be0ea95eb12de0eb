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

use super::options::Options;
use super::posynomial::{COMPUTE, ENERGY, Posynomial};
use super::tree::{Figure, Goal};

/// First steps of the multipliers of room and of the limit.
const ROOM_STEP: f64 = 0.3;
const LIMIT_STEP: f64 = 1.0;

/// Options that are left of one dimension, as logarithms of their factors.
pub(super) struct Table {
    many: usize,
    /// Columns that are not the same for all of them, and their logarithms, one column after the other.
    varying: Vec<u16>,
    logs: Vec<f64>,
    /// Logarithms that are the same for all, by column; 0 for others.
    same: Vec<f64>,
}

impl Table {
    pub fn new(options: &Options, open: &[u32]) -> Self {
        let mut table = Self {
            many: open.len(),
            varying: Vec::with_capacity(options.varying.len()),
            logs: Vec::with_capacity(options.varying.len() * open.len()),
            same: options.same_logs().to_vec(),
        };
        for (place, c) in options.varying.iter().enumerate() {
            let logs = options.logs(place);
            let at = table.logs.len();
            table.logs.extend(open.iter().map(|o| logs[*o as usize]));
            let first = table.logs.get(at).copied().unwrap_or(0.0);
            if table.logs[at..].iter().all(|l| *l == first) {
                table.logs.truncate(at);
                table.same[usize::from(*c)] = first;
            } else {
                table.varying.push(*c);
            }
        }
        table
    }

    /// The weighted sum of each option's logarithms.
    pub fn weigh(&self, weights: &Weights) -> Vec<f64> {
        let mut sums = Vec::new();
        self.weigh_into(weights, &mut sums);
        sums
    }

    fn weigh_into(&self, weights: &Weights, sums: &mut Vec<f64>) {
        let same = weights.columns.iter().zip(&self.same);
        sums.clear();
        sums.resize(self.many, same.map(|(w, l)| w * l).sum());
        for (c, logs) in self
            .varying
            .iter()
            .zip(self.logs.chunks_exact(self.many.max(1)))
        {
            let weight = weights.columns.get(usize::from(*c)).copied();
            if let Some(w) = weight.filter(|w| *w != 0.0) {
                sums.iter_mut().zip(logs).for_each(|(s, l)| *s += w * l);
            }
        }
    }

    /// Adds an option's logarithms to a row.
    fn add_to(&self, option: usize, row: &mut [f64]) {
        row.iter_mut().zip(&self.same).for_each(|(r, l)| *r += l);
        for (c, logs) in self
            .varying
            .iter()
            .zip(self.logs.chunks_exact(self.many.max(1)))
        {
            row[usize::from(*c)] += logs[option];
        }
    }
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

/// What is bounded.
pub(super) struct Dual<'a> {
    posynomial: &'a Posynomial,
    goal: Goal,
    power: f64,
    count: usize,
    /// Logarithms of the factors of the mix, of its monomials, and their values; the values of groups, and the room that tiles take.
    mix: Vec<f64>,
    logs: Vec<f64>,
    terms: Vec<f64>,
    values: Vec<f64>,
    used: Vec<f64>,
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
        let monomials = posynomial.monomials.len();
        let mut dual = Self {
            posynomial,
            goal,
            power,
            count,
            mix: vec![0.0; count],
            logs: vec![0.0; monomials],
            terms: vec![1.0; monomials],
            values: vec![0.0; posynomial.groups.len()],
            used: vec![0.0; rooms],
            room: vec![0.0; rooms],
            limit: 0.0,
            best: f64::NEG_INFINITY,
            weights: Weights::default(),
            least_energy: posynomial.value(ENERGY, least) + power * time,
            step: 0,
        };
        dual.measure();
        dual
    }

    /// Takes the values of the mix.
    fn measure(&mut self) {
        let p = self.posynomial;
        let each = self.logs.iter_mut().zip(&mut self.terms).zip(&p.monomials);
        for ((log, term), m) in each {
            let sum: f64 = m.columns().iter().map(|c| self.mix[usize::from(*c)]).sum();
            if sum != *log {
                (*log, *term) = (sum, sum.exp());
            }
        }
        for (value, terms) in self.values.iter_mut().zip(&p.groups) {
            let each = terms.iter().map(|t| t.coefficient * self.terms[t.monomial]);
            *value = each.sum();
        }
        self.used.fill(0.0);
        for r in &p.rooms {
            self.used[r.store] += r.share * self.mix[r.column].exp();
        }
    }

    /// Improves the bound until it reaches a target (a logarithm), for so many passes at most.
    pub fn improve(&mut self, target: f64, passes: u32, tables: &[Table]) {
        let mut chosen = vec![0.0; self.count];
        let mut sums = Vec::new();
        for _ in 0..passes {
            let weights = self.weigh();
            chosen.fill(0.0);
            let mut bound = weights.constant;
            for table in tables {
                table.weigh_into(&weights, &mut sums);
                let mut least = (f64::INFINITY, 0);
                for (i, x) in sums.iter().enumerate() {
                    if *x < least.0 {
                        least = (*x, i);
                    }
                }
                bound += least.0;
                table.add_to(least.1, &mut chosen);
            }
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
            self.measure();
            self.constrain(share);
        }
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
        let (p, values) = (self.posynomial, &self.values);
        let longest = values[COMPUTE..].iter().copied().fold(0.0, f64::max);
        // A soft maximum, the harder the further the mix has come.
        let hardness = 4.0 + 2.0 * f64::from(self.step);
        // What is too little to matter costs work.
        let most = f64::powf(1e-6, 1.0 / hardness);
        let share = |v: &f64| {
            let x = v / longest;
            if x < most { 0.0 } else { x.powf(hardness) }
        };
        let mut shares: Vec<f64> = values.iter().map(share).collect();
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
            // A term's weight within energy or time, of which its share `s` of the group is a part: `ln (c / s)` is the
            // logarithm of the group over the product of factors.
            let within = if g == ENERGY {
                (1.0 - standing).ln()
            } else {
                0.0
            };
            let whole = values[g].ln() - within;
            let scale = factor / values[g];
            for t in terms {
                let share = scale * t.coefficient * self.terms[t.monomial];
                if share <= 0.0 {
                    continue;
                }
                weights.constant += share * (whole - self.logs[t.monomial]);
                for c in p.monomials[t.monomial].columns() {
                    weights.columns[usize::from(*c)] += share;
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
            let used = self.used[s];
            for r in self.posynomial.rooms.iter().filter(|r| r.store == s) {
                let share = r.share * self.mix[r.column].exp() / used;
                if share > 0.0 {
                    weights.constant += multiplier * share * (r.share / share).ln();
                    weights.columns[r.column] += multiplier * share;
                }
            }
        }
    }

    /// Moves multipliers towards what the mix violates.
    fn constrain(&mut self, share: f64) {
        let step = share.sqrt();
        for s in 0..self.room.len() {
            let used = self.used[s];
            if used > 0.0 {
                let move_by = ROOM_STEP * step * used.ln().clamp(-1.0, 1.0);
                self.room[s] = (self.room[s] + move_by).max(0.0);
            }
        }
        if self.goal.limit.is_finite() {
            let values = &self.values;
            let time = values[COMPUTE..].iter().copied().fold(0.0, f64::max);
            let energy = values[ENERGY] - self.posynomial.off + self.power * time;
            let over = (self.goal.limited.of(time, energy) / self.goal.limit).max(1e-9);
            let move_by = LIMIT_STEP * step * over.ln().clamp(-1.0, 1.0);
            self.limit = (self.limit + move_by).max(0.0);
        }
    }

    /// Drops the options with which the bound reaches the target.
    pub fn filter(&self, tables: &[Table], open: &mut [Vec<u32>], target: f64) {
        for (table, open) in tables.iter().zip(open) {
            let sums = table.weigh(&self.weights);
            let least = sums.iter().copied().fold(f64::INFINITY, f64::min);
            let slack = target - self.best + least;
            let mut of = sums.iter();
            open.retain(|_| of.next().is_some_and(|x| *x < slack));
        }
    }
}
