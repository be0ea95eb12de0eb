//! Measures of a nest compiled for a walk from dimension to dimension.
//!
//! With dimensions in an order, what is left of a product once the splits of the first `k` are chosen is a *tail*: its
//! measure and its factors of the others. Products of equal tails are added up as soon as they are, so a walk carries one
//! number for each different tail; the last dimension has few.

use rustc_hash::FxHashMap;

use super::model::{Factor, Measure, Use};
use super::split::Splits;

/// Values of a factor for all splits of a dimension.
#[derive(Debug, Clone, PartialEq)]
struct Column {
    values: Vec<f64>,
    least: f64,
    most: f64,
}

/// What becomes of a tail when a dimension is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Link {
    /// The column it is multiplied with; none is 1.
    pub column: Option<u32>,
    /// The tail that it is added to.
    pub to: u32,
}

/// A tail of a limited measure: the least and the most that it is multiplied with still.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reach {
    pub tail: usize,
    pub least: f64,
    pub most: f64,
}

/// A limit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Limit {
    pub base: f64,
    pub least: f64,
    pub most: f64,
    pub tails: Vec<Reach>,
}

/// A measure as the last dimension sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Last {
    pub used: Use,
    pub base: f64,
    /// Tails that do not change any more.
    pub fixed: Vec<usize>,
    /// Tails with their columns.
    pub moving: Vec<(usize, usize)>,
}

/// One dimension of a walk.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stage {
    /// The dimension.
    pub dim: usize,
    pub splits: usize,
    /// Of each split.
    pub bits: Vec<u64>,
    /// One after the other.
    columns: Vec<Column>,
    /// By tail before it.
    pub links: Vec<Link>,
    /// What limits tails before it.
    pub limits: Vec<Limit>,
    /// Values of all columns, one split after the other.
    rows: Vec<f64>,
}

impl Stage {
    /// Values of a column.
    pub(super) fn column(&self, column: usize) -> &[f64] {
        &self.columns[column].values
    }

    /// Values of all columns at a split.
    pub(super) fn row(&self, split: usize) -> &[f64] {
        let width = self.columns.len();
        &self.rows[split * width..][..width]
    }
}

/// A compiled nest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub stages: Vec<Stage>,
    /// Values of tails at the start.
    pub start: Vec<f64>,
    pub last: Vec<Last>,
}

/// Factors of a dimension that are told already, with their columns and what they are multiplied with.
#[derive(Default)]
struct Known {
    factors: Vec<(Factor, Option<u32>, f64)>,
    columns: Vec<Column>,
}

impl Known {
    /// The column of a factor, and the constant beside it.
    fn column(&mut self, factor: &Factor, splits: &Splits) -> (Option<u32>, f64) {
        if let Some(known) = self.factors.iter().find(|f| f.0 == *factor) {
            return (known.1, known.2);
        }
        let all = 0..splits.len();
        let values: Vec<f64> = all.map(|i| factor.value(splits.tiles(i))).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        let (column, constant) = if least == most {
            (None, least)
        } else {
            let same = |c: &Column| c.values == values;
            let at = self.columns.iter().position(same).unwrap_or_else(|| {
                self.columns.push(Column {
                    values,
                    least,
                    most,
                });
                self.columns.len() - 1
            });
            (Some(at as u32), 1.0)
        };
        self.factors.push((*factor, column, constant));
        (column, constant)
    }
}

impl Table {
    /// Compiles measures; `order`: the dimensions from the first to the last chosen.
    pub(super) fn new(measures: &[Measure], splits: &[Splits], order: &[usize]) -> Self {
        let mut known: Vec<Known> = order.iter().map(|_| Known::default()).collect();
        let mut links: Vec<Vec<Link>> = vec![Vec::new(); order.len()];
        let mut places: Vec<FxHashMap<Link, u32>> = vec![FxHashMap::default(); order.len()];
        let mut start: Vec<f64> = Vec::new();
        for (m, measure) in measures.iter().enumerate() {
            for product in &measure.products {
                let mut weight = product.weight;
                let mut columns = vec![None; order.len()];
                for (k, d) in order.iter().enumerate() {
                    let Some(factor) = &product.factors[*d] else {
                        continue;
                    };
                    let (column, constant) = known[k].column(factor, &splits[*d]);
                    columns[k] = column;
                    weight *= constant;
                }
                if weight == 0.0 {
                    continue;
                }
                let mut to = m as u32;
                for k in (0..order.len()).rev() {
                    let link = Link {
                        column: columns[k],
                        to,
                    };
                    to = *places[k].entry(link).or_insert_with(|| {
                        links[k].push(link);
                        (links[k].len() - 1) as u32
                    });
                }
                start.resize(links[0].len(), 0.0);
                start[to as usize] += weight;
            }
        }
        Self::stages(measures, splits, order, known, links, start)
    }

    fn stages(
        measures: &[Measure],
        splits: &[Splits],
        order: &[usize],
        known: Vec<Known>,
        links: Vec<Vec<Link>>,
        start: Vec<f64>,
    ) -> Self {
        // Of each tail: its measure, and the least and the most of what is still to come.
        let mut after: Vec<(usize, f64, f64)> =
            (0..measures.len()).map(|m| (m, 1.0, 1.0)).collect();
        let mut last = Vec::new();
        let mut stages = Vec::new();
        for (k, (known, links)) in known.into_iter().zip(links).enumerate().rev() {
            let tail = |l: &Link| {
                let (measure, least, most) = after[l.to as usize];
                match l.column.map(|c| &known.columns[c as usize]) {
                    Some(c) => (measure, least * c.least, most * c.most),
                    None => (measure, least, most),
                }
            };
            let tails: Vec<(usize, f64, f64)> = links.iter().map(tail).collect();
            if k + 1 == order.len() {
                last = measures
                    .iter()
                    .enumerate()
                    .map(|(m, x)| ends(m, x, &links))
                    .collect();
            }
            let dim = order[k];
            let count = splits[dim].len();
            let row = |i: usize| known.columns.iter().map(move |c| c.values[i]);
            stages.push(Stage {
                dim,
                splits: count,
                bits: splits[dim].bits.clone(),
                rows: (0..count).flat_map(row).collect(),
                limits: limits(measures, &tails),
                columns: known.columns,
                links,
            });
            after = tails;
        }
        stages.reverse();
        Self {
            stages,
            start,
            last,
        }
    }
}

fn ends(m: usize, measure: &Measure, links: &[Link]) -> Last {
    let mine = || links.iter().enumerate().filter(|l| l.1.to as usize == m);
    Last {
        used: measure.used,
        base: measure.base,
        fixed: mine()
            .filter(|l| l.1.column.is_none())
            .map(|l| l.0)
            .collect(),
        moving: mine()
            .filter_map(|(tail, l)| Some((tail, l.column? as usize)))
            .collect(),
    }
}

fn limits(measures: &[Measure], tails: &[(usize, f64, f64)]) -> Vec<Limit> {
    let limit = |(m, measure): (usize, &Measure)| {
        let Use::Within { least, most } = measure.used else {
            return None;
        };
        let mine = tails.iter().enumerate().filter(|t| t.1.0 == m);
        Some(Limit {
            base: measure.base,
            least,
            most,
            tails: mine
                .map(|(tail, (_, least, most))| Reach {
                    tail,
                    least: *least,
                    most: *most,
                })
                .collect(),
        })
    };
    measures.iter().enumerate().filter_map(limit).collect()
}
