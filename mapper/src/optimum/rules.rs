//! Constraints of a case, compiled.

use presil_numerics::ids::Id;

use super::space::{Space, SpaceError};
use crate::case::Constraints;
use crate::hierarchy::{Hierarchy, Mask};

/// What loops in time that stand directly below a memory's storages must obey.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rule {
    pub segment: usize,
    pub memory: usize,
    /// Trips of dimensions that are given.
    pub given: Vec<(usize, u32)>,
    pub forbidden: Mask,
    /// Order of loops, innermost first, as far as it is given.
    pub order: Vec<usize>,
    /// Fewest bits of tiles.
    pub least: f64,
}

impl Space {
    /// Takes constraints in.
    ///
    /// # Errors
    /// If one is of loops where there are none.
    pub(super) fn constrain(
        &mut self,
        hierarchy: &Hierarchy,
        constraints: &Constraints,
    ) -> Result<(), SpaceError> {
        for c in &constraints.levels {
            let Some(level) = hierarchy.levels.get(c.level) else {
                continue;
            };
            let local = |dim: usize| self.dims.iter().position(|d| d.index() == dim);
            if c.trips.iter().any(|(d, n)| local(*d).is_none() && *n > 1) {
                return Err(SpaceError::Constraint {
                    constraint: "given trips of a dimension of one iteration",
                    level: level.name().to_owned(),
                    remedy: "leave them out",
                });
            }
            let order: Vec<usize> = c.order.iter().filter_map(|d| local(*d)).collect();
            let given: Vec<(usize, u32)> = c
                .trips
                .iter()
                .filter_map(|(d, n)| Some((local(*d)?, u32::try_from(*n).unwrap_or(u32::MAX))))
                .collect();
            let forbidden = (0..32).filter(|d| c.forbidden.has(*d));
            let forbidden = forbidden.filter_map(local).fold(Mask::NONE, Mask::with);
            let turn = turn(&order, self.dims.len());
            if level.fanout().is_none() {
                if level.memory().is_none() {
                    return Err(SpaceError::Constraint {
                        constraint: "loops",
                        level: level.name().to_owned(),
                        remedy: "give those of the memory or fanout around it",
                    });
                }
                let rule = Rule {
                    segment: 0,
                    memory: 0,
                    given,
                    forbidden,
                    order,
                    least: c.min_utilization,
                };
                self.rule(c.level, rule, turn);
                continue;
            }
            for segment in &mut self.segments {
                let here = segment.axes.iter_mut().filter(|a| a.level == c.level);
                let mut found = false;
                for axis in here {
                    axis.accepts = axis.accepts.minus(forbidden);
                    axis.turn.clone_from(&turn);
                    found = true;
                }
                if found {
                    segment.given.extend(given.iter().copied());
                    segment.least = segment.least.max(c.min_utilization);
                }
            }
        }
        Ok(())
    }

    /// Takes a constraint of a memory; `least` of it is a share of the room.
    fn rule(&mut self, level: usize, rule: Rule, turn: Vec<usize>) {
        let says = !rule.given.is_empty() || !rule.forbidden.is_empty();
        if !says && rule.order.len() < 2 && rule.least <= 0.0 {
            return;
        }
        for (segment, s) in self.segments.iter_mut().enumerate() {
            let found = s.memories.iter_mut().enumerate();
            for (memory, m) in found.filter(|(_, m)| m.level == level) {
                m.turn.clone_from(&turn);
                let dims = rule.given.iter().map(|(d, _)| *d);
                let dims = dims.chain(rule.order.iter().copied());
                self.ruled = dims.fold(self.ruled.or(rule.forbidden), Mask::with);
                // Where loops stand changes tiles.
                if rule.least > 0.0 {
                    self.ruled = Mask::ALL;
                }
                self.rules.push(Rule {
                    segment,
                    memory,
                    // No share of what is unlimited is no limit.
                    least: match rule.least > 0.0 {
                        true => rule.least * m.capacity,
                        false => 0.0,
                    },
                    ..rule.clone()
                });
            }
        }
    }
}

/// All dimensions: those of an order as they stand there, behind the others.
fn turn(order: &[usize], dims: usize) -> Vec<usize> {
    let others = (0..dims).filter(|d| !order.contains(d));
    others.chain(order.iter().copied()).collect()
}
