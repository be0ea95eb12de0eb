//! Clock domains and integer time.
//!
//! The event engine counts integer femtoseconds: `u64` holds five hours of them. A clock domain's period
//! is rounded once, to the nearest femtosecond (half to even), and all its later times are exact
//! multiples of that period.

use std::ops::{Add, AddAssign};

use crate::units::{Hertz, Seconds};

/// A point in time or a duration, in femtoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Femtoseconds(pub u64);

impl Femtoseconds {
    /// The duration in seconds.
    pub fn seconds(self) -> Seconds {
        Seconds(self.0 as f64 * 1e-15)
    }
    /// The sum, or `None` after five hours.
    pub fn checked_add(self, o: Self) -> Option<Self> {
        self.0.checked_add(o.0).map(Self)
    }
}

impl Add for Femtoseconds {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self(self.0 + o.0)
    }
}

/// Cycles of some clock domain. Which one is said by the field that holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cycles(pub u64);

impl Add for Cycles {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self(self.0 + o.0)
    }
}

impl AddAssign for Cycles {
    fn add_assign(&mut self, o: Self) {
        self.0 += o.0;
    }
}

/// A clock: a frequency and the period that the event engine counts with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClockDomain {
    /// Nominal frequency.
    pub frequency: Hertz,
    /// Period, rounded once to the nearest femtosecond (half to even).
    pub period: Femtoseconds,
}

impl ClockDomain {
    /// The domain of a frequency, or `None` where the period is not between 1 fs and 1 s.
    pub fn new(frequency: Hertz) -> Option<Self> {
        let period = 1e15 / frequency.0;
        (period.is_finite() && (1.0..=1e15).contains(&period)).then(|| Self {
            frequency,
            period: Femtoseconds(period.round_ties_even() as u64),
        })
    }
    /// The exact time of a number of cycles, or `None` after five hours.
    pub fn time(&self, cycles: Cycles) -> Option<Femtoseconds> {
        self.period.0.checked_mul(cycles.0).map(Femtoseconds)
    }
    /// The duration of a possibly fractional number of cycles at the nominal frequency.
    pub fn seconds(&self, cycles: f64) -> Seconds {
        Seconds(cycles / self.frequency.0)
    }
}
