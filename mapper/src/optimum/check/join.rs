//! All chains of parts that may be better than what was found, one part for each einsum.
//!
//! Whatever is no part is in no chain below what was found (the trees of parts say so). Of parts that are the same to their
//! neighbours, those that another is no worse than in energy and cycles are left out. With `h` the least energy, and the
//! least cycles, of all that can stand behind, fit or not,
//!
//! ```text
//! h(i, tile)  =  least of  part + h(i + 1, tile that it hands over)   over the parts of einsum i that take the tile
//! ```
//!
//! a chain of the first einsums goes on only if what it comes to with `h` is below what is known, and if it fits.

use std::collections::BTreeMap;

use super::model::Model;
use super::view::{Dims, Handed, View};
use super::{NEAR, Refusal};

/// Most chains that are looked at, whole or begun.
const MOST: u64 = 50_000_000;

/// A mapping of an einsum that may be part of a better chain.
pub(super) struct Part {
    pub view: View,
    /// Picojoules and cycles, at least.
    pub least: (f64, f64),
    /// Those that the convention counts.
    pub exact: (f64, f64),
}

/// Parts by what they take in.
type Taking = BTreeMap<Handed, Vec<Part>>;

/// Those parts that are no worse than all others which are the same to neighbours, by what they take in.
pub(super) fn needed(parts: Vec<Part>) -> Taking {
    let mut alike: BTreeMap<([Handed; 2], Vec<u64>), Vec<Part>> = BTreeMap::new();
    for part in parts {
        let key = (part.view.handed.clone(), part.view.key.clone());
        let same = alike.entry(key).or_default();
        let no_worse = |a: &Part, b: &Part| {
            let pairs = [
                (a.least.0, b.least.0),
                (a.least.1, b.least.1),
                (a.exact.0, b.exact.0),
                (a.exact.1, b.exact.1),
            ];
            pairs.iter().all(|(a, b)| a <= b)
        };
        if same.iter().any(|p| no_worse(p, &part)) {
            continue;
        }
        same.retain(|p| !no_worse(&part, p));
        same.push(part);
    }
    let mut taking = Taking::new();
    for (([input, _], _), parts) in alike {
        taking.entry(input).or_default().extend(parts);
    }
    taking
}

pub(super) struct Join<'a> {
    models: &'a [Model<'a>],
    dims: &'a Dims<'a>,
    parts: &'a [Taking],
    /// Least energy and cycles of what stands behind, by einsum and tile that it takes in.
    behind: Vec<BTreeMap<Handed, (f64, f64)>>,
    /// Figure of what was found.
    found: f64,
    /// The least figure so far.
    pub least: f64,
    /// Chains looked at, whole or begun.
    pub looked: u64,
}

impl<'a> Join<'a> {
    pub fn new(
        models: &'a [Model<'a>],
        dims: &'a Dims<'a>,
        parts: &'a [Taking],
        found: f64,
    ) -> Self {
        let mut behind = vec![BTreeMap::from([(None, (0.0, 0.0))])];
        for taking in parts.iter().rev() {
            let next = &behind[behind.len() - 1];
            let mut least: BTreeMap<Handed, (f64, f64)> = BTreeMap::new();
            for (input, part) in taking
                .iter()
                .flat_map(|(i, p)| p.iter().map(move |p| (i, p)))
            {
                let Some(rest) = next.get(&part.view.handed[1]) else {
                    continue;
                };
                let known = least.entry(input.clone());
                let known = known.or_insert((f64::INFINITY, f64::INFINITY));
                known.0 = known.0.min(part.least.0 + rest.0);
                known.1 = known.1.min(part.least.1 + rest.1);
            }
            behind.push(least);
        }
        behind.reverse();
        Self {
            models,
            dims,
            parts,
            behind,
            found,
            least: found,
            looked: 0,
        }
    }

    /// Looks at all chains that begin with some parts.
    pub fn all(&mut self, chosen: &mut Vec<&'a Part>) -> Result<(), Refusal> {
        self.looked += 1;
        if self.looked > MOST {
            return Err(Refusal::Beyond("chains with so many parts that join"));
        }
        let sum = |of: fn(&Part) -> f64| chosen.iter().map(|p| of(p)).sum::<f64>();
        let least = (sum(|p| p.least.0), sum(|p| p.least.1));
        let figure = |energy, cycles| self.models.first().map_or(0.0, |m| m.alone(energy, cycles));
        let i = chosen.len();
        let Some(taking) = self.parts.get(i) else {
            let exact = figure(sum(|p| p.exact.0), sum(|p| p.exact.1));
            if exact < self.found * (1.0 - NEAR) {
                return Err(Refusal::Better(exact));
            }
            self.least = self.least.min(figure(least.0, least.1));
            return Ok(());
        };
        let input = chosen.last().map_or(&None, |p| &p.view.handed[1]);
        for part in taking.get(input).into_iter().flatten() {
            let Some(rest) = self.behind[i + 1].get(&part.view.handed[1]) else {
                continue;
            };
            let energy = least.0 + part.least.0 + rest.0;
            let cycles = least.1 + part.least.1 + rest.1;
            let figure = self.models[0].alone(energy, cycles);
            if figure >= self.least * (1.0 - NEAR) {
                continue;
            }
            chosen.push(part);
            if self.fits(chosen) {
                self.all(chosen)?;
            }
            chosen.pop();
        }
        Ok(())
    }

    /// Whether the last group of a chain of parts, as far as it is known, fits.
    fn fits(&self, chosen: &[&Part]) -> bool {
        let views: Vec<&View> = chosen.iter().map(|p| &p.view).collect();
        let first = views.iter().rposition(|v| v.handed[0].is_none());
        let group = &views[first.unwrap_or(0)..];
        group.len() < 2 || self.dims.fit(&self.models[first.unwrap_or(0)..], group)
    }
}
