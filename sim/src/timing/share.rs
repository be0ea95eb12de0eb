//! How flows share resources: max-min fair.
//!
//! ```text
//! sum over flows f on resource r of  x_f c_fr <= 1        x_f: units per femtosecond, c_fr: femtoseconds per unit
//!                                    x_f <= 1 / least_f
//! ```
//!
//! All rates rise together from zero; where a resource is full, or a flow at its limit, the flows that it binds stay at
//! what they have, and the others rise on (progressive filling; Bertsekas and Gallager, *Data Networks*, section 6.5.2). No rate can then rise
//! without lowering one that is no higher.

use presil_numerics::ids::Id;

use super::program::{Flow, ResourceId};

/// What a flow gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Given {
    /// Units per femtosecond.
    pub rate: f64,
    /// The share of the rate that it would have alone, 0..=1.
    pub share: f64,
    /// The full resource that binds it; none where its own limit does.
    pub bound_by: Option<ResourceId>,
}

/// Room for the filling of as many resources as a program has.
pub(super) struct Filling {
    /// Of each resource: what flows at rest use, and what the rising ones use for each unit of rate.
    used: Vec<f64>,
    rising: Vec<f64>,
}

impl Filling {
    pub(super) fn new(resources: usize) -> Self {
        Self {
            used: vec![0.0; resources],
            rising: vec![0.0; resources],
        }
    }

    /// Shares resources among flows; one entry of `given` each.
    pub(super) fn fill(&mut self, flows: &[&Flow], given: &mut Vec<Given>) {
        given.clear();
        given.resize(flows.len(), UNSET);
        self.used.fill(0.0);
        for _ in 0..flows.len() {
            self.rising.fill(0.0);
            let open = flows.iter().zip(given.iter()).filter(|(_, g)| g.rate < 0.0);
            for (r, cost) in open.flat_map(|(f, _)| &f.over) {
                self.rising[r.index()] += cost;
            }
            let Some((rate, by)) = self.next(flows, given) else {
                return;
            };
            for (flow, g) in flows.iter().zip(given.iter_mut()) {
                let bound = match by {
                    By::Resource(r) => flow.over.iter().any(|(other, _)| *other == r),
                    By::Flow(least) => flow.least >= least,
                };
                if g.rate >= 0.0 || !bound {
                    continue;
                }
                let alone = flow.over.iter().fold(flow.least, |t, (_, c)| t.max(*c));
                *g = Given {
                    rate,
                    share: (rate * alone).min(1.0),
                    bound_by: match by {
                        By::Resource(r) => Some(r),
                        By::Flow(_) => None,
                    },
                };
                for (r, cost) in &flow.over {
                    self.used[r.index()] += rate * cost;
                }
            }
        }
    }

    /// The rate at which the next resource is full or the next flow at its limit, of the lowest number where several are.
    fn next(&self, flows: &[&Flow], given: &[Given]) -> Option<(f64, By)> {
        let mut first: Option<(f64, By)> = None;
        let mut see = |rate: f64, by: By| {
            if first.is_none_or(|(r, _)| rate < r) {
                first = Some((rate, by));
            }
        };
        for (r, rising) in self.rising.iter().enumerate() {
            if *rising > 0.0 {
                let rate = (1.0 - self.used[r]).max(0.0) / rising;
                see(rate, By::Resource(ResourceId::new(r)));
            }
        }
        for (flow, g) in flows.iter().zip(given) {
            if g.rate < 0.0 && flow.least > 0.0 {
                see(1.0 / flow.least, By::Flow(flow.least));
            }
        }
        first
    }
}

const UNSET: Given = Given {
    rate: -1.0,
    share: 1.0,
    bound_by: None,
};

#[derive(Clone, Copy)]
enum By {
    Resource(ResourceId),
    Flow(f64),
}
