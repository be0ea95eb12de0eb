//! What became of each partial mapping, for a certificate.

use super::front::Needless;
use super::{Goal, NONE, Place, Score, Search, Site, State, Step};
use crate::optimum::certificate::{Cut, End, Partial};
use presil_numerics::ids::Id;

/// Partial mappings, each behind the one that it extends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub partials: Vec<Partial>,
    /// Last step of each in the arena.
    steps: Vec<u32>,
    /// How many there may be.
    most: usize,
}

impl Record {
    /// An empty record of so many partial mappings at most.
    pub(crate) fn of(most: usize) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// Whether there are more than there may be.
    pub(crate) fn full(&self) -> bool {
        self.partials.len() > self.most
    }
}

impl Search<'_> {
    /// Numbers the start of the placement.
    pub(super) fn root_noted(&mut self, s: &mut State) {
        let placement = self.index;
        let partial = |end| Partial {
            placement: Some(placement),
            ..Partial::new(end)
        };
        self.note(s, partial(End::Open));
    }

    /// Numbers a partial mapping that has been laid along an axis.
    pub(super) fn along_noted(&mut self, (segment, index): Place, s: &mut State) {
        if self.record.is_none() {
            return;
        }
        let axis = &self.space.segments[segment].axes[index];
        let (mut loops, _) = self.since(s);
        loops.sort();
        let partial = Partial {
            of: Some(s.node as usize),
            along: Some((axis.level, axis.axis)),
            loops,
            ..Partial::new(End::Open)
        };
        self.note(s, partial);
    }

    /// Numbers a partial mapping with a storage more.
    pub(super) fn keep_noted(&mut self, site: &Site, s: &mut State) {
        if self.record.is_none() {
            return;
        }
        let (loops, kept) = self.since(s);
        let Some((operand, memory, slide)) = kept else {
            return;
        };
        let memories = &self.space.segments[site.segment].memories;
        let partial = Partial {
            of: Some(s.node as usize),
            keep: Some((operand, memories[memory].level)),
            loops,
            slide,
            ..Partial::new(End::Open)
        };
        self.note(s, partial);
    }

    /// Records tiles that do not fit, and with them all larger ones; or a storage whose loops do not obey.
    pub(super) fn too_large(&mut self, site: &Site, node: usize, s: &State) {
        if self.record.is_none() {
            return;
        }
        let (o, m) = site.nodes[node];
        let (loops, kept) = self.since(s);
        let partial = Partial {
            of: Some(s.node as usize),
            keep: Some((o, self.space.segments[site.segment].memories[m].level)),
            loops,
            slide: kept.and_then(|k| k.2),
            ..Partial::new(End::Infeasible)
        };
        self.note(&mut s.clone(), partial);
    }

    fn note(&mut self, s: &mut State, partial: Partial) {
        let Some(record) = &mut self.record else {
            return;
        };
        s.node = record.partials.len() as u32;
        record.partials.push(partial);
        record.steps.push(s.steps);
    }

    /// Loops since the partial mapping that one extends, from the inside out: those below the storage, the storage
    /// (operand and memory), and the loop that slides directly above it.
    #[allow(clippy::type_complexity)]
    fn since(&self, s: &State) -> (Vec<Cut>, Option<(usize, usize, Option<Cut>)>) {
        let start = self.record.as_ref().map_or(NONE, |r| {
            r.steps.get(s.node as usize).copied().unwrap_or(NONE)
        });
        let mut tile = s.tile;
        let mut loops = Vec::new();
        let mut kept = None;
        let mut at = s.steps;
        while at != start && at != NONE {
            let (before, step) = self.arena[at as usize];
            match step {
                Step::Grow { dim, tile: inner }
                | Step::Spread {
                    dim, tile: inner, ..
                } => {
                    let d = usize::from(dim);
                    let outer = std::mem::replace(&mut tile[d], inner);
                    loops.push(Cut(self.space.dims[d].index(), inner, outer));
                }
                Step::Keep { operand, memory } => {
                    let slide = loops.pop();
                    kept = Some((usize::from(operand), usize::from(memory), slide));
                }
                Step::Fan => {}
            }
            at = before;
        }
        loops.reverse();
        (loops, kept)
    }

    fn end(&mut self, node: u32, end: End) {
        let record = self.record.as_mut();
        if let Some(partial) = record.and_then(|r| r.partials.get_mut(node as usize)) {
            partial.end = end;
        }
    }

    pub(super) fn bounded(&mut self, place: Place, s: &State, goal: &Goal) {
        if self.record.is_some() {
            let bound = self.bound(place, s, goal).0;
            self.end(s.node, End::Bound(bound));
        }
    }

    pub(super) fn infeasible(&mut self, node: u32) {
        self.end(node, End::Infeasible);
    }

    pub(super) fn unhelpful(&mut self, node: u32) {
        self.end(node, End::Unhelpful);
    }

    pub(super) fn whole(&mut self, node: u32, score: Score) {
        self.end(node, End::Whole(score.0));
    }

    pub(super) fn needless(&mut self, needless: Needless) {
        if let Some((node, by)) = needless {
            self.end(node, End::Dominated(by as usize));
        }
    }
}
