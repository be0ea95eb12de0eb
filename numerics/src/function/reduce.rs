//! Sums of a row in registers: what softmax and norms add up.
//!
//! ```text
//! lane_j <- round(lane_j + x_i)                      i = j mod lanes, from 0, in order
//! lane_j <- round(lane_j + round(x_i x_i))           of squares; one rounding with `fma`
//! sum    <- lanes one after the other, or pairwise level by level, each sum rounded
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DesignError;
use super::register::{Register, Rounder};

/// The order and the register of a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    /// What each sum is rounded to.
    pub register: Register,
    /// Interleaved partial sums.
    #[serde(default = "one")]
    pub lanes: u32,
    /// Whether they are added up pairwise and not one after the other.
    #[serde(default)]
    pub pairwise: bool,
}

fn one() -> u32 {
    1
}

const MOST_LANES: u32 = 4096;

impl Sum {
    /// One partial sum.
    pub fn sequential(register: Register) -> Self {
        Self {
            register,
            lanes: 1,
            pairwise: false,
        }
    }

    /// Made ready for terms of some registers.
    pub(crate) fn ready(&self, narrow: bool) -> Result<SumState, DesignError> {
        if !(1..=MOST_LANES).contains(&self.lanes) {
            return Err(DesignError::field("lanes", "are 1 to 4096"));
        }
        Ok(SumState {
            lanes: self.lanes as usize,
            pairwise: self.pairwise,
            register: self.register.rounder(narrow && self.register.is_narrow())?,
        })
    }
}

/// A sum's adders, made ready.
#[derive(Debug, Clone)]
pub(crate) struct SumState {
    lanes: usize,
    pairwise: bool,
    pub(crate) register: Rounder,
}

impl SumState {
    /// Partial sums of nothing.
    pub(crate) fn start(&self) -> Vec<f64> {
        vec![0.0; self.lanes]
    }

    /// Adds terms; the first one belongs to lane `index mod lanes`.
    pub(crate) fn add(&self, partial: &mut [f64], terms: &[f64], index: usize) {
        self.each(partial, terms, index, |sums, terms, out| {
            self.register.add(sums, terms, out);
        });
    }

    /// Adds squares.
    pub(crate) fn add_squares(&self, partial: &mut [f64], terms: &[f64], index: usize, fma: bool) {
        self.each(partial, terms, index, |sums, terms, out| {
            self.register.mul_add(fma, terms, terms, sums, out);
        });
    }

    fn each(
        &self,
        partial: &mut [f64],
        terms: &[f64],
        index: usize,
        add: impl Fn(&[f64], &[f64], &mut [f64]),
    ) {
        let mut rest = terms;
        let mut lane = index % self.lanes;
        let mut out = [0.0; super::lanes::BLOCK];
        while !rest.is_empty() {
            let length = rest.len().min(self.lanes - lane).min(out.len());
            let (now, later) = rest.split_at(length);
            let sums = &mut partial[lane..lane + length];
            add(sums, now, &mut out[..length]);
            sums.copy_from_slice(&out[..length]);
            rest = later;
            lane = (lane + length) % self.lanes;
        }
    }

    /// Multiplies the partial sums by a number.
    pub(crate) fn scale(&self, partial: &mut [f64], factor: f64) {
        for sum in partial {
            let before = *sum;
            let mut out = [0.0];
            self.register.mul(&[before], &[factor], &mut out);
            *sum = out[0];
        }
    }

    /// The partial sums added up.
    pub(crate) fn finish(&self, partial: &[f64]) -> f64 {
        let add = |a: f64, b: f64| {
            let mut out = [0.0];
            self.register.add(&[a], &[b], &mut out);
            out[0]
        };
        if !self.pairwise {
            return partial.iter().copied().reduce(add).unwrap_or(0.0);
        }
        let mut level = partial.to_vec();
        while level.len() > 1 {
            let sums = level.chunks(2).map(|pair| match pair {
                [a, b] => add(*a, *b),
                _ => pair[0],
            });
            level = sums.collect();
        }
        level.first().copied().unwrap_or(0.0)
    }
}
