//! One tree of partial mappings of an einsum, told anew.

use presil_numerics::ids::Id;
use presil_workloads::DimId;

use super::bound::{bound, no_worse};
use super::model::{Model, Operand, Stage, placements, stages};
use super::tally::Tally;
use super::{NEAR, Refusal, Verdict, near};
use crate::conventions::{Convention, evaluate};
use crate::looptree::{LoopTree, Node};
use crate::optimum::certificate::{Cut, End, Partial};

/// A whole mapping.
pub(super) struct Whole {
    /// Picojoules and cycles that neither it nor what it dominates goes below.
    pub least: (f64, f64),
    /// Those that the convention counts.
    pub exact: (f64, f64),
    pub tree: LoopTree,
}

pub(super) struct Checker<'a> {
    pub model: &'a Model<'a>,
    pub placements: &'a [Vec<Vec<usize>>],
    pub partials: &'a [Partial],
    /// What ends by bounds goes no further below.
    figure: f64,
    /// Extensions of each partial mapping.
    pub children: Vec<Vec<usize>>,
    /// Placement and number of steps of each.
    pub place: Vec<(usize, usize)>,
    /// Stages of each placement.
    stages: Vec<Vec<Stage>>,
}

impl<'a> Checker<'a> {
    pub fn new(
        model: &'a Model<'a>,
        told: &'a [Vec<Vec<usize>>],
        partials: &'a [Partial],
        figure: f64,
    ) -> Result<Self, Refusal> {
        let mut stated: Vec<&Vec<Vec<usize>>> = told.iter().collect();
        stated.sort();
        let all = placements(model);
        if !stated.into_iter().eq(all.iter()) {
            return Err(Refusal::Cover("placements are missing or wrong".into()));
        }
        let count = partials.len();
        let mut checker = Self {
            model,
            placements: told,
            partials,
            figure,
            children: vec![Vec::new(); count],
            place: Vec::with_capacity(count),
            stages: told.iter().map(|p| stages(model, p)).collect(),
        };
        let mut starts = vec![0; told.len()];
        for (at, partial) in partials.iter().enumerate() {
            let wrong = |reason: &str| refused(at, reason);
            let place = match (partial.of, partial.placement) {
                (None, Some(p)) if p < starts.len() => {
                    starts[p] += 1;
                    (p, 0)
                }
                (Some(of), None) if of < at => {
                    checker.children[of].push(at);
                    let (placement, steps) = checker.place[of];
                    (placement, steps + 1)
                }
                _ => return Err(wrong("extends nothing")),
            };
            if place.1 > checker.stages[place.0].len() {
                return Err(wrong("has more steps than there are"));
            }
            checker.place.push(place);
        }
        if starts.iter().any(|n| *n != 1) {
            return Err(Refusal::Cover("each placement must start once".into()));
        }
        Ok(checker)
    }

    /// Checks the whole tree; adds to what was checked, and tells the whole mappings.
    pub fn all(&self, verdict: &mut Verdict) -> Result<Vec<Whole>, Refusal> {
        let mut wholes = Vec::new();
        let partials = self.partials;
        // First the steps: figures are told only of steps that are right.
        for (at, partial) in partials.iter().enumerate() {
            if partial.of.is_some_and(|of| partials[of].end != End::Open) {
                return Err(refused(at, "extends one that is closed"));
            }
            if partial.end == End::Open {
                self.open(at)?;
                verdict.open += 1;
            }
        }
        for (at, partial) in partials.iter().enumerate() {
            match partial.end {
                End::Open => {}
                End::Bound(stated) => {
                    self.bounded(at, stated)?;
                    verdict.bounded += 1;
                }
                End::Dominated(by) => {
                    self.dominated(at, by)?;
                    verdict.dominated += 1;
                }
                // Looked at with what it extends.
                End::Infeasible if partial.of.is_some() => verdict.infeasible += 1,
                End::Infeasible if !self.homes_fit(at) || !self.closes(at) => {
                    verdict.infeasible += 1;
                }
                End::Infeasible => return Err(refused(at, "decides nothing yet")),
                End::Unhelpful => {
                    self.last(at)?;
                    verdict.unhelpful += 1;
                }
                End::Whole(stated) => {
                    wholes.push(self.whole(at, stated)?);
                    verdict.whole += 1;
                }
            }
        }
        self.no_circles()?;
        Ok(wholes)
    }

    pub fn chains(&self, at: usize) -> &'a [Vec<usize>] {
        &self.placements[self.place[at].0]
    }

    /// Whether whole tensors fit at home.
    fn homes_fit(&self, at: usize) -> bool {
        let model = self.model;
        let mut used = vec![0.0; model.hierarchy.levels.len()];
        for (o, chain) in self.chains(at).iter().enumerate() {
            if !model.floats(o, chain) {
                used[chain[0]] += model.bits(chain[0], o, &model.sizes);
            }
        }
        (0..used.len()).all(|l| used[l] <= model.room(l))
    }

    /// Whether neighbours see more of a partial mapping than what dominance compares: a storage of the outermost group is
    /// placed, and an operand is handed over tile by tile.
    fn seen(&self, at: usize) -> bool {
        let (placement, steps) = self.place[at];
        let last = steps.checked_sub(1).and_then(|s| self.stage(placement, s));
        last == Some(Stage::Keep(0)) && self.model.any_floats(self.chains(at))
    }

    pub fn stage(&self, placement: usize, step: usize) -> Option<Stage> {
        self.stages[placement].get(step).copied()
    }

    /// The group that a partial mapping ends in, and the axes of its fan that are still open.
    pub fn ends_in(&self, at: usize) -> (usize, usize) {
        let (placement, steps) = self.place[at];
        let stage = steps.checked_sub(1).and_then(|s| self.stage(placement, s));
        match stage {
            Some(Stage::Axis(group, axis)) => (group, axis),
            Some(Stage::Keep(group)) => (group, 0),
            None => {
                let last = self.model.groups.len() - 1;
                (last, self.model.groups[last].axes.len())
            }
        }
    }

    /// Whether nothing of the group that a partial mapping ends in is still to come.
    pub fn group_done(&self, at: usize) -> bool {
        let (placement, steps) = self.place[at];
        let (group, axes) = self.ends_in(at);
        let of = |stage: Stage| match stage {
            Stage::Axis(g, _) | Stage::Keep(g) => g,
        };
        axes == 0 && self.stage(placement, steps).is_none_or(|s| of(s) != group)
    }

    /// The figures of a partial mapping; groups inside the one that it ends in are closed, and that one too if nothing
    /// of it is still to come and it is not the outermost.
    pub fn tally(&self, at: usize) -> Tally {
        let partial = &self.partials[at];
        let mut t = match partial.of {
            None => Tally::start(self.model, self.chains(at)),
            Some(of) => self.tally(of),
        };
        self.apply(at, partial, &mut t);
        let (group, _) = self.ends_in(at);
        if group > 0 && self.group_done(at) {
            t.close(self.model, self.model.outer(group, 0));
        }
        t
    }

    fn apply(&self, at: usize, partial: &Partial, t: &mut Tally) {
        if partial.of.is_none() {
            return;
        }
        let model = self.model;
        let (group, axis) = self.ends_in(at);
        if let Some((operand, level)) = partial.keep {
            for Cut(d, _, outer) in &partial.loops {
                t.grow(*d, u64::from(*outer));
            }
            let slide = partial.slide.map(|Cut(d, _, outer)| (d, u64::from(outer)));
            match t.left[operand] == 1 && model.floats(operand, &self.chains(at)[operand]) {
                true => t.float(model, operand, level),
                false => t.keep(model, operand, level, slide),
            }
            return;
        }
        if axis + 1 == model.groups[group].axes.len() {
            t.enter();
        }
        for Cut(d, _, outer) in &partial.loops {
            t.along(model, group, axis, *d, u64::from(*outer));
        }
        if axis == 0 && !model.perfect {
            t.whole(model, group, model.outer(group, 0));
        }
    }

    fn bounded(&self, at: usize, stated: f64) -> Result<(), Refusal> {
        let (group, open) = self.ends_in(at);
        let outer = self.model.outer(group, open);
        let own = bound(self.model, self.chains(at), &self.tally(at), outer);
        if stated > own * (1.0 + NEAR) {
            return Err(refused(at, format!("is bounded by {own}, not {stated}")));
        }
        if stated < self.figure * (1.0 - NEAR) {
            let reason = format!("may go below what was found: its bound is {stated}");
            return Err(refused(at, reason));
        }
        Ok(())
    }

    fn dominated(&self, at: usize, by: usize) -> Result<(), Refusal> {
        let same = by != at && self.place.get(by) == Some(&self.place[at]);
        // What is infeasible by constraints alone may stand for what is infeasible like it.
        if !same || (self.partials[by].end == End::Infeasible && self.closes(at)) {
            return Err(refused(at, format!("stands elsewhere than {by}")));
        }
        if self.seen(at) {
            return Err(refused(at, "is seen by neighbours, and compared"));
        }
        let (group, open) = self.ends_in(at);
        let (model, chains) = (self.model, self.chains(at));
        let (a, b) = (self.tally(by), self.tally(at));
        let inside = 0 < open && open < self.model.groups[group].axes.len();
        let mut memories = Vec::new();
        if open == 0 && !self.group_done(at) {
            for (o, chain) in chains.iter().enumerate() {
                memories.extend(model.storages(o, chain, b.left[o]));
            }
            memories.retain(|m| self.model.groups[group].memories.contains(m));
        }
        let outer = self.model.outer(group, open);
        if !self.obeys_alike(by, at) {
            return Err(refused(at, format!("may obey where {by} does not")));
        }
        let compared = no_worse(self.model, (&a, &b), outer, inside, &memories);
        compared.map_err(|reason| refused(at, format!("is not dominated by {by}, which {reason}")))
    }

    /// No partial mapping is dominated by itself through others.
    fn no_circles(&self) -> Result<(), Refusal> {
        let partials = self.partials;
        // 0: not seen; else the walk that saw it first.
        let mut seen = vec![0; partials.len()];
        for start in 0..partials.len() {
            let mut at = start;
            while seen[at] == 0 {
                seen[at] = start + 1;
                let End::Dominated(by) = partials[at].end else {
                    break;
                };
                if seen[by] == start + 1 {
                    return Err(refused(start, "is dominated in a circle"));
                }
                at = by;
            }
        }
        Ok(())
    }

    /// The last step; whether a loop that does not index the outermost storage is still to come.
    fn ending(&self, at: usize) -> Result<(Tally, bool), Refusal> {
        let (placement, steps) = self.place[at];
        if self.stage(placement, steps).is_some() {
            return Err(refused(at, "is not whole"));
        }
        let t = self.tally(at);
        let open = |d: usize| t.tile[d] < self.model.sizes[d];
        let top = t.top.map(|o| &self.model.operands[o]);
        let helps = |x: &Operand, d: usize| x.indexed[d] || self.model.ruled[d];
        // Loops outside a home are shared.
        let shared = self.model.any_floats(self.chains(at));
        let unhelpful =
            !shared && top.is_some_and(|x| (0..t.tile.len()).any(|d| open(d) && !helps(x, d)));
        Ok((t, unhelpful))
    }

    fn last(&self, at: usize) -> Result<(), Refusal> {
        match self.ending(at)? {
            (_, true) => Ok(()),
            (_, false) => Err(refused(at, "is a mapping, but its figure is not told")),
        }
    }

    fn whole(&self, at: usize, stated: f64) -> Result<Whole, Refusal> {
        let (mut t, unhelpful) = self.ending(at)?;
        if unhelpful {
            return Err(refused(at, "is not helpful"));
        }
        let model = self.model;
        t.homes(model, self.chains(at));
        t.close(model, model.outer(0, 0));
        let (energy, cycles) = t.figures(model);
        let figure = model.figure(energy, cycles);
        if !near(figure, stated) {
            return Err(refused(at, format!("takes {figure}, not {stated}")));
        }
        let tree = self.tree(at, &t);
        let told = evaluate(Convention::AccelForge, model.einsum, model.hierarchy, &tree);
        let told = told.map_err(|e| refused(at, format!("is no mapping: {e}")))?;
        let exact = (told.energy_total(), told.cycles);
        // A loop that happens to slide costs less than is told of it; beside that, figures are exact or bounds.
        let slides = model.operands.iter().any(|x| !x.windows.is_empty());
        let counted = model.figure(exact.0, exact.1);
        if !slides && counted < figure * (1.0 - NEAR) {
            return Err(refused(
                at,
                format!("takes {counted}, not at least {figure}"),
            ));
        }
        Ok(Whole {
            least: (energy.min(exact.0), cycles.min(exact.1)),
            exact,
            tree,
        })
    }

    /// The loop tree of a whole mapping.
    fn tree(&self, at: usize, t: &Tally) -> LoopTree {
        let chains = self.chains(at).iter().enumerate();
        let homes = chains.filter(|(o, chain)| !self.model.floats(*o, chain));
        let mut nodes: Vec<Node> = homes.map(home).collect();
        for (d, tile) in t.tile.iter().enumerate() {
            if *tile < self.model.sizes[d] {
                nodes.push(temporal(d, *tile));
            }
        }
        let mut next = Some(at);
        while let Some(i) = next {
            let partial = &self.partials[i];
            nodes.extend(partial.slide.iter().map(|c| temporal(c.0, u64::from(c.1))));
            if let Some((operand, level)) = partial.keep {
                nodes.push(Node::Keep { level, operand });
            }
            for Cut(d, inner, _) in partial.loops.iter().rev() {
                nodes.push(match partial.along {
                    None => temporal(*d, u64::from(*inner)),
                    Some((level, axis)) => Node::Spatial {
                        level,
                        axis,
                        dim: DimId::new(*d),
                        tile: u64::from(*inner),
                    },
                });
            }
            next = partial.of;
        }
        LoopTree { nodes }
    }
}

fn temporal(d: usize, tile: u64) -> Node {
    Node::Temporal {
        dim: DimId::new(d),
        tile,
    }
}

fn home((operand, chain): (usize, &Vec<usize>)) -> Node {
    Node::Keep {
        level: chain[0],
        operand,
    }
}

pub(super) fn refused(at: usize, reason: impl Into<String>) -> Refusal {
    Refusal::Partial {
        at,
        reason: reason.into(),
    }
}
