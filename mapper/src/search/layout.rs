//! Transfers of a shape and an assignment, and which factors their counts are products of.
//!
//! With everything in a fixed order, each count is a product of one factor a dimension ([`Factors`]); a mapping is one
//! *option* (a chain of loops) for each dimension. For each transfer into a mark, or to the compute:
//!
//! ```text
//! D  words that enter all instances          = touched(X) x product over d not in X of combinations of the loops above
//! G  words that the parent gives             = the same, shared spatial loops between parent and child left out
//! P  share of the busiest parent in G        C  share of the busiest child in D
//! B  the lesser of P and of C of the transfer into the parent: partial tiles may share words and drains unlike
//! F  first tile over what the busiest child takes
//! V  tiles that one instance takes           T  elements of a tile
//! ```
//!
//! For plain operands all are exact. Sliding windows count as if overlap were
//! never fetched twice, `P` and `C` as averages, `F` as `1 / V`, and `T` without the narrower dimensions of a window: lower bounds.
//! Under a mask, `n` tiles of a coupled dimension count as
//! `max(1, density x (n - 1))`, a lower bound on the average of tiles that meet the domain.

use super::assign::Assignment;
use super::model::Model;
use super::shape::Shape;

/// Factors of a transfer.
#[derive(Debug, Clone, Copy)]
#[repr(usize)]
pub(super) enum Factors {
    Entering,
    Served,
    ParentShare,
    ChildShare,
    LesserShare,
    First,
    Visits,
    Tile,
}

/// Factors of a transfer: so many.
pub(super) const KINDS: usize = 8;

/// A transfer: from a parent to the next storage of its operand, or to the compute.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    pub operand: usize,
    /// Mark of the parent; none: the home.
    pub parent: Option<usize>,
    /// None: the compute.
    pub child: Option<usize>,
    pub parent_store: usize,
    pub child_store: usize,
    /// Whether instances below update the same outputs separately: between parent and child, and at all.
    pub apart: bool,
    pub ever: bool,
    /// Children that one word serves, at most.
    pub merged: f64,
    /// The edge of the same operand into the parent.
    pub above: Option<usize>,
    /// Joules for a bit and the factor of words of each fanout in between.
    pub hops: Vec<(f64, usize)>,
    /// Whether spatial loops make the child (if an output storage) hold partial sums in any case.
    pub wide: bool,
}

/// What the factors of a shape and an assignment mean.
pub(super) struct Layout<'a, 'm> {
    pub model: &'a Model<'m>,
    pub shape: &'a Shape,
    pub edges: Vec<Edge>,
    /// Number of factors; the last one is iterations.
    pub count: usize,
    pub fixed: f64,
    /// Seconds of the compute, where the layout is that of a part whose iterations are not those of its loops.
    pub compute: Option<f64>,
}

impl<'a, 'm> Layout<'a, 'm> {
    pub fn new(model: &'a Model<'m>, shape: &'a Shape, assignment: &Assignment) -> Self {
        let mut edges = Vec::with_capacity(shape.marks.len() + 3);
        let mut count = 0;
        let mut last: [(Option<usize>, Option<usize>); 3] = [(None, None); 3];
        let mut answered = 0u32;
        let mut fixed = model.frame.fixed;
        let children = (0..shape.marks.len()).map(Some).map(|m| (m, None));
        let compute = (0..3).map(|o| (None, Some(o)));
        for (child, operand) in children.chain(compute) {
            let slot = child.map(|m| model.slots[shape.marks[m].slot]);
            let operand = operand.or(slot.map(|s| s.operand)).unwrap_or(0);
            let (parent, above) = last[operand];
            let home = model.frame.levels[0].memory[operand].unwrap_or(0);
            let parent_slot = parent.map(|m| model.slots[shape.marks[m].slot]);
            let parent_store = parent_slot.map_or(home, |s| s.store);
            let from = parent_slot.map_or(0, |s| s.section);
            let to = slot.map_or(usize::MAX, |s| s.section);
            if operand < 2 && answered & (1 << parent_store) == 0 {
                answered |= 1 << parent_store;
                fixed += model.stores[parent_store].latency;
            }
            let (mut apart, mut ever, mut merged) = (false, false, 1.0);
            for s in &assignment.spreads {
                let section = model.axis_section[usize::from(s.axis)];
                let d = usize::from(s.dim);
                let between = section >= from && section < to;
                if between && !model.has(operand, d) && model.shares(s.axis, operand) {
                    merged *= f64::from(s.trips);
                }
                if section < to && model.frame.dims[d].scatters {
                    let inside = section >= from;
                    let merged = inside && !model.has(2, d) && model.shares(s.axis, 2);
                    apart |= inside && !merged;
                    ever |= !merged;
                }
            }
            let mut edge = Edge {
                operand,
                parent,
                child,
                parent_store,
                child_store: slot.map_or(usize::MAX, |s| s.store),
                apart,
                ever,
                merged,
                above,
                hops: Vec::new(),
                wide: false,
            };
            count += KINDS;
            for (i, fan) in model.fans.iter().enumerate() {
                let section = model
                    .sections
                    .iter()
                    .position(|s| s.fans.contains(&i))
                    .unwrap_or(0);
                if fan.1 > 0.0 && section >= from && section < to {
                    edge.hops.push((fan.1, 0));
                }
            }
            last[operand] = (child, Some(edges.len()));
            edges.push(edge);
        }
        for e in &mut edges {
            for hop in &mut e.hops {
                hop.1 = count;
                count += 1;
            }
        }
        let mut layout = Self {
            model,
            shape,
            edges,
            count: count + 1,
            fixed,
            compute: None,
        };
        for e in 0..layout.edges.len() {
            layout.edges[e].wide = layout.spread_partial(e, assignment);
        }
        layout
    }

    /// Transfers into the marks of a part of a mapping, of which the whole computes for so many seconds at least.
    pub fn part(model: &'a Model<'m>, shape: &'a Shape, compute: f64) -> Self {
        let mut layout = Self::new(model, shape, &Assignment::none());
        layout.edges.retain(|e| e.child.is_some());
        layout.compute = Some(compute);
        layout
    }

    /// The edge out of a mark.
    pub fn out_of(&self, edge: usize) -> Option<&Edge> {
        self.edges.iter().find(|e| e.above == Some(edge))
    }

    /// Whether spatial loops alone make the child of an edge hold partial sums.
    fn spread_partial(&self, edge: usize, assignment: &Assignment) -> bool {
        let model = self.model;
        let e = &self.edges[edge];
        let (Some(child), 2) = (e.child, e.operand) else {
            return false;
        };
        let from = model.slots[self.shape.marks[child].slot].section;
        let next = self.out_of(edge).and_then(|n| n.child);
        let to = next.map_or(usize::MAX, |m| {
            model.slots[self.shape.marks[m].slot].section
        });
        assignment.spreads.iter().any(|s| {
            let (section, d) = (model.axis_section[usize::from(s.axis)], usize::from(s.dim));
            let summed = section >= from && !model.has(2, d) && model.shares(s.axis, 2);
            section < to && model.frame.dims[d].scatters && !summed
        })
    }
}
