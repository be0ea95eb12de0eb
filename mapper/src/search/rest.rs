//! Lower bounds on the cost of what is not placed yet, one operand at a time.
//!
//! Whatever is still to come, an operand's words reach the compute over some of the storage that is left. Over
//! each of those chains every storage takes at least the operand's touched elements, once for each repetition that
//! the loops placed so far force, and the compute its words; the cheapest chain bounds the energy. (Only loops in time
//! outside the innermost one that indexes the operand force repetitions: those inside may turn out to
//! repeat the same tile.)
//!
//! Output. A storage `p` that gets `D` drains, `G` of them merged above, starts `fresh <= D` entries without a
//! value, each of which saves a read of a wide partial sum below. Its drains, and those savings, sum to at least
//! `-M touched (wide - width)` for one repetition (`M = D / G`, full trips), and to at least 0 for more than one: then a
//! reduction stands above, and drains are wide.

use super::assign::Assignment;
use super::chain::combinations;
use super::model::{DIMS, Figures, Loops, Model, STORES};

/// What an assignment fixes for every mapping under it.
#[derive(Debug, Clone)]
pub(super) struct Floor {
    /// By section: joules of everything inside its outer border, at least.
    pub energy: Vec<f64>,
    /// By section: seconds of the ports (read, write) that transfers inside its border take, at least.
    pub ports: Vec<[[f64; 2]; STORES]>,
}

impl Model<'_> {
    /// Joules of what is not placed yet, at least. `left` are the slots that may still be used, as bits.
    pub fn rest(&self, loops: &Loops, f: &Figures, assignment: &Assignment, left: u32) -> f64 {
        (0..3)
            .map(|o| self.chain(loops, f, assignment, left, o))
            .sum()
    }

    fn chain(&self, loops: &Loops, f: &Figures, assignment: &Assignment, left: u32, operand: usize) -> f64 {
        let held = f.held[operand];
        let seen = f.seen[operand];
        let (width, wide) = (self.frame.bits[operand], self.frame.partial);
        let touched = self.touched[operand];
        // Repetitions so far: for all instances, and for words that the parent gives.
        let (mut all, mut once) = ([1.0; DIMS], [1.0; DIMS]);
        for d in 0..self.sizes.len() {
            if !self.has(operand, d) && !loops.links[d].is_empty() {
                let links = &loops.links[d];
                let timed = |l: &super::chain::Link| l.axis.is_some() || l.place < seen;
                all[d] = combinations(links, timed);
                once[d] = combinations(links, |l| {
                    timed(l)
                        && !(l.place >= held.place && l.axis.is_some_and(|a| self.shares(a, operand)))
                });
                if self.masked[d] {
                    all[d] = (self.density * (all[d] - 1.0)).max(1.0);
                    once[d] = (self.density * (once[d] - 1.0)).max(1.0);
                }
            }
        }
        let passed = loops.instances_axes(self);
        // From the inside out: the cheapest way inwards from each slot.
        let slots: [Option<usize>; 8] = {
            let mut list = [None; 8];
            let mine = (0..self.slots.len()).filter(|s| left & (1 << s) != 0 && self.slots[*s].operand == operand);
            for (to, from) in list.iter_mut().zip(mine) {
                *to = Some(from);
            }
            list
        };
        let count = slots.iter().flatten().count();
        let mut best = [f64::INFINITY; 8];
        for i in (0..=count).rev() {
            // The parent: a slot, or what is held now.
            let parent = if i == 0 { None } else { slots[i - 1] };
            let store = parent.map_or(held.store, |s| self.slots[s].store);
            let base = if parent.is_none() { &once } else { &all };
            let axes_from = match parent {
                None => passed,
                Some(s) => self.first_axis(self.slots[s].section).max(passed),
            };
            let energy = self.stores[store].energy;
            let mut least = f64::INFINITY;
            for j in i..=count {
                let child = if j < count { slots[j] } else { None };
                let axes_to = child.map_or(self.frame.axes.len(), |s| self.first_axis(self.slots[s].section));
                let cost = if let Some(s) = child {
                    let own = self.stores[self.slots[s].store].energy;
                    let entering = touched * self.repeated(assignment, &all, operand, passed, axes_to, |_| true);
                    let served = touched
                        * self.repeated(assignment, base, operand, passed, axes_to, |a| {
                            usize::from(a) < axes_from || !self.shares(a, operand)
                        });
                    let merged = self.merged(assignment, operand, axes_from, axes_to, held.place, loops, parent.is_none());
                    best[j]
                        + if operand == 2 {
                            let finals = touched.min(served);
                            let more = served > touched * (1.0 + 1e-9);
                            let drains = if more { 0.0 } else { touched * merged * (width - wide).min(0.0) };
                            finals * width * energy[1]
                                + (served - finals) * wide * energy[1]
                                + served * wide * energy[0]
                                + drains * own[0]
                        } else {
                            entering * width * own[1] + served * width * energy[0]
                        }
                } else {
                    let shared = self.merged(assignment, operand, axes_from, axes_to, held.place, loops, parent.is_none());
                    let served = self.points[operand] / shared;
                    if operand == 2 {
                        let finals = touched.min(served);
                        (finals * width + (served - finals) * wide) * energy[1] + served * wide * energy[0]
                    } else {
                        served * width * energy[0]
                    }
                };
                least = least.min(cost);
                if child.is_some_and(|s| self.slots[s].required) {
                    break;
                }
            }
            if i == 0 {
                // What the held storage's fresh entries save.
                let saved = if operand == 2 {
                    held.fresh * wide * energy[0]
                } else {
                    0.0
                };
                return (least - saved).max(0.0);
            }
            best[i - 1] = least;
        }
        0.0
    }

    /// First axis of the fanouts below a section.
    fn first_axis(&self, section: usize) -> usize {
        let fans = &self.sections[section].fans;
        self.fans
            .get(fans.start)
            .map_or(self.frame.axes.len(), |f| f.0.start)
    }

    /// Repetitions with the spatial loops of further axes, of those kept.
    fn repeated(
        &self,
        assignment: &Assignment,
        base: &[f64; DIMS],
        operand: usize,
        from: usize,
        to: usize,
        keep: impl Fn(u8) -> bool,
    ) -> f64 {
        let mut counts = *base;
        for s in &assignment.spreads {
            let (axis, d) = (usize::from(s.axis), usize::from(s.dim));
            if axis >= from && axis < to && !self.has(operand, d) && keep(s.axis) && !self.masked[d] {
                let (c, m) = (counts[d], f64::from(s.trips));
                counts[d] = if c == 1.0 { m } else { (c - 1.0) * m + 1.0 };
            }
        }
        counts[..self.sizes.len()].iter().product()
    }

    /// Instances that one word serves between two places, at most.
    #[expect(clippy::too_many_arguments, reason = "the state of one walk")]
    fn merged(
        &self,
        assignment: &Assignment,
        operand: usize,
        from: usize,
        to: usize,
        place: u16,
        loops: &Loops,
        held: bool,
    ) -> f64 {
        let mut product = 1.0;
        for s in &assignment.spreads {
            let (axis, d) = (usize::from(s.axis), usize::from(s.dim));
            if axis >= from && axis < to && !self.has(operand, d) && self.shares(s.axis, operand) {
                product *= f64::from(s.trips);
            }
        }
        if held {
            for (d, links) in loops.links[..self.sizes.len()].iter().enumerate() {
                for l in links.iter().filter(|l| l.place >= place) {
                    if l.axis.is_some_and(|a| self.shares(a, operand)) && !self.has(operand, d) {
                        product *= f64::from(l.trips);
                    }
                }
            }
        }
        product
    }

    /// Seconds of ports that every mapping under an assignment takes inside each section's outer border: of the
    /// way from each operand's last storage to the compute, and into required storage.
    pub fn port_floors(&self, assignment: &Assignment) -> Vec<[[f64; 2]; STORES]> {
        let mut floors = vec![[[0.0; 2]; STORES]; self.sections.len() + 1];
        for operand in 0..3 {
            let mine: Vec<usize> = (0..self.slots.len()).filter(|s| self.slots[*s].operand == operand).collect();
            let Some(last) = mine.last().map(|s| self.slots[*s]).filter(|s| s.required) else {
                continue;
            };
            let width = self.frame.bits[operand];
            let from = self.first_axis(last.section);
            let instances: f64 = assignment
                .spreads
                .iter()
                .filter(|s| usize::from(s.axis) < from)
                .map(|s| f64::from(s.trips))
                .product();
            let shared: f64 = assignment
                .spreads
                .iter()
                .filter(|s| usize::from(s.axis) >= from && !self.has(operand, usize::from(s.dim)) && self.shares(s.axis, operand))
                .map(|s| f64::from(s.trips))
                .product();
            let words = self.points[operand] / shared / instances;
            let time = self.stores[last.store].time;
            for floor in &mut floors {
                let port = &mut floor[last.store];
                if operand == 2 {
                    port[1] += words * width.min(self.frame.partial) * time[1];
                } else {
                    port[0] += words * width * time[0];
                }
            }
            for s in mine.iter().map(|s| self.slots[*s]).filter(|s| s.required) {
                let axes = self.first_axis(s.section);
                let mut relevant = 1.0;
                for x in assignment.spreads.iter().filter(|x| usize::from(x.axis) < axes) {
                    if self.has(operand, usize::from(x.dim)) || self.masked[usize::from(x.dim)] {
                        relevant *= f64::from(x.trips);
                    }
                }
                let words = self.touched[operand] / relevant;
                let time = self.stores[s.store].time;
                for floor in &mut floors[..=s.section] {
                    let port = &mut floor[s.store];
                    if operand == 2 {
                        port[0] += words * width * time[0];
                    } else {
                        port[1] += words * width * time[1];
                    }
                }
            }
        }
        floors
    }
}

impl Loops {
    /// Axes whose spatial loops are placed: those before the returned one.
    fn instances_axes(&self, model: &Model) -> usize {
        self.axes_passed.min(model.frame.axes.len())
    }
}
