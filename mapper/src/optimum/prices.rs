//! Design points that are searched at once: they differ in the prices of moving bits and in the sizes of memories.
//!
//! A partial mapping moves the same elements at every point, so what it costs is told in *columns*: sums of moved
//! elements that have the same price, up to a factor that is the same at all points. The energy at a point is
//! the product of the columns with its prices. With one point there is one column, and its price is 1.

use super::space::{Price, Space};

/// Most columns.
pub(super) const COLUMNS: usize = 8;

/// Most points that are searched at once.
pub(super) const POINTS: usize = 128;

/// Sums of moved elements by column.
pub(super) type Bill = [f64; COLUMNS];

/// A set of points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Points(u128);

impl Points {
    pub(super) const NONE: Self = Self(0);

    /// The first so many.
    pub(super) fn first(count: usize) -> Self {
        match u32::try_from(count) {
            Ok(count @ 1..=127) => Self((1 << count) - 1),
            Ok(0) => Self::NONE,
            _ => Self(u128::MAX),
        }
    }

    pub(super) fn one(point: usize) -> Self {
        Self(1 << (point % POINTS))
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Its points, in order.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let next = (left != 0).then(|| left.trailing_zeros() as usize);
            left &= left.wrapping_sub(1);
            next
        })
    }
}

/// Prices of columns at each point.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Prices {
    pub columns: usize,
    /// By point.
    pub of: Vec<Bill>,
    /// Picojoules of all operations, by point.
    pub compute: Vec<f64>,
}

impl Prices {
    /// Those of one point: all in picojoules already.
    pub(super) fn alone(compute: f64) -> Self {
        let mut bill = [0.0; COLUMNS];
        bill[0] = 1.0;
        Self {
            columns: 1,
            of: vec![bill],
            compute: vec![compute],
        }
    }

    pub(super) fn points(&self) -> usize {
        self.of.len()
    }

    /// Picojoules of moved elements at a point.
    pub(super) fn energy(&self, point: usize, bill: &Bill) -> f64 {
        let prices = &self.of[point];
        match self.columns {
            1 => bill[0] * prices[0],
            n => (0..n).map(|c| bill[c] * prices[c]).sum(),
        }
    }
}

impl Price {
    /// Adds moved elements to their column.
    pub(super) fn count(&self, elements: f64, bill: &mut Bill) {
        bill[usize::from(self.column)] += elements * self.each;
    }
}

/// One space for several points of the same [shape](Space::shape), [`POINTS`] at most: none if they have more than
/// [`COLUMNS`] different prices.
pub(super) fn merge(spaces: &[&Space]) -> Option<Space> {
    let first = spaces.first()?;
    let mut columns: Vec<Vec<f64>> = Vec::new();
    let mut merged = (*first).clone();
    for (s, segment) in merged.segments.iter_mut().enumerate() {
        for (m, memory) in segment.memories.iter_mut().enumerate() {
            let those: Vec<_> = spaces.iter().map(|x| &x.segments[s].memories[m]).collect();
            memory.sizes(&those.iter().map(|t| t.capacity).collect::<Vec<f64>>());
            for (o, rates) in memory.rates.iter_mut().enumerate() {
                for (kind, price) in rates.energy.iter_mut().enumerate() {
                    let each = those.iter().map(|t| t.rates[o].energy[kind].each);
                    *price = column(each.collect(), &mut columns)?;
                }
            }
        }
    }
    let of = |p: usize| {
        let mut bill = [0.0; COLUMNS];
        bill.iter_mut().zip(&columns).for_each(|(b, c)| *b = c[p]);
        bill
    };
    merged.prices = Prices {
        columns: columns.len().max(1),
        of: (0..spaces.len()).map(of).collect(),
        compute: spaces.iter().map(|s| s.prices.compute[0]).collect(),
    };
    Some(merged)
}

/// The column of a price that is told by point.
fn column(each: Vec<f64>, columns: &mut Vec<Vec<f64>>) -> Option<Price> {
    let Some(p) = each.iter().position(|e| *e != 0.0) else {
        return Some(Price::default());
    };
    let same = |column: &Vec<f64>| {
        let factor = each[p] / column[p];
        let near = |(e, c): (&f64, &f64)| (e - c * factor).abs() <= 4.0 * f64::EPSILON * e.abs();
        (factor.is_finite() && each.iter().zip(column).all(near)).then_some(factor)
    };
    let known = columns.iter().enumerate();
    let found = known.into_iter().find_map(|(i, c)| Some((i, same(c)?)));
    let (column, each) = match found {
        Some(found) => found,
        None if columns.len() < COLUMNS => {
            columns.push(each);
            (columns.len() - 1, 1.0)
        }
        None => return None,
    };
    Some(Price {
        column: column as u8,
        each,
    })
}
