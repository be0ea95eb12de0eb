//! Checks certificates, without the search: the space is enumerated anew, costs and bounds are told anew.
//!
//! # What is derived
//!
//! - All placements of the case stand at the start; each partial mapping that is open has every extension listed, as
//!   enumerated here from the rules of the certificate's space; so the ends cover the space.
//! - A bound is no more than the one computed here (`bound`), and no less than what was found.
//! - What dominates another one stands at the same step of the same placement with the same tiles, and is no worse in
//!   everything that matters outside; no circle of partial mappings dominates itself.
//! - What is called infeasible does not fit or does not obey; what is called unhelpful has a loop directly inside the
//!   homes that does not index the outermost storage.
//! - A whole mapping's figure is told anew, and compared with what convention `accelforge` counts of its loop tree.
//! - The mapping found is legal, fits, and costs what is said, by convention `accelforge`.
//! - The lower bound is the least of all of these.
//!
//! # What is not
//!
//! - The rules of the space themselves: that loops which they leave out help nowhere (the argument is in
//!   [`super`]; tests compare with every loop tree of small problems).
//! - The convention, which both use for whole mappings.
//!
//! Figures are compared to a billionth.

mod bound;
mod extend;
mod model;
mod obey;
mod tally;

use std::collections::BTreeMap;

use presil_numerics::ids::Id;
use presil_workloads::DimId;

use self::bound::{bound, no_worse};
use self::model::{Model, Stage, placements, stages};
use self::tally::Tally;
use super::certificate::{Certificate, Cut, End, FORM, Partial, tree};
use crate::case::Case;
use crate::conventions::{Convention, evaluate};
use crate::looptree::{LoopTree, Node};
use crate::search::Objective;

/// What was checked.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Verdict {
    /// The objective's figure of the mapping found.
    pub found: f64,
    /// What no mapping of the space goes below.
    pub lower_bound: f64,
    /// Whether both are the same.
    pub proven: bool,
    /// Partial mappings whose extensions are all listed.
    pub open: u64,
    /// Those cut off by a bound.
    pub bounded: u64,
    /// Those cut off by a better one.
    pub dominated: u64,
    /// Those that do not fit or do not obey.
    pub infeasible: u64,
    /// Those whose outermost loop is better further in.
    pub unhelpful: u64,
    /// Whole mappings.
    pub whole: u64,
}

/// Why a certificate is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// It is of another form, case or space.
    #[error("the certificate's {what} is not that of the case")]
    Statement {
        /// What differs.
        what: &'static str,
    },
    /// A case that cannot be checked.
    #[error("certificates of {0} cannot be checked")]
    Beyond(&'static str),
    /// The mapping found is not what it is said to be.
    #[error("the mapping found {0}")]
    Found(String),
    /// A partial mapping is not what it is said to be.
    #[error("partial mapping {at} {reason}")]
    Partial {
        /// Its number.
        at: usize,
        /// What is wrong.
        reason: String,
    },
    /// Part of the space is missing.
    #[error("the space is not covered: {0}")]
    Cover(String),
    /// The lower bound is not that of the parts.
    #[error("the lower bound is {stated}, its parts make {parts}")]
    Bound {
        /// What is stated.
        stated: f64,
        /// What the parts make.
        parts: f64,
    },
}

/// Figures are compared to this.
const NEAR: f64 = 1e-9;

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= NEAR * a.abs().max(b.abs())
}

/// Checks a certificate of a case.
///
/// # Errors
/// If anything in it is not so.
pub fn check(case: &Case, certificate: &Certificate) -> Result<Verdict, Refusal> {
    let [einsum] = case.einsums.as_slice() else {
        return Err(Refusal::Beyond("chains of einsums"));
    };
    let space = &certificate.space;
    let statement = |right: bool, what| match right {
        true => Ok(()),
        false => Err(Refusal::Statement { what }),
    };
    statement(certificate.form == FORM, "form")?;
    let objectives = [Objective::Latency, Objective::Energy, Objective::Edp];
    let objective = objectives.into_iter().find(|o| o.name() == space.objective);
    let Some(objective) = objective else {
        return Err(Refusal::Statement { what: "objective" });
    };
    let tiles = ["factors", "partial"].contains(&space.tiles.as_str());
    let perfect = space.tiles == "factors";
    statement(
        tiles && (perfect || !einsum.constraints.perfect),
        "tile rule",
    )?;
    let convention = Convention::AccelForge;
    statement(space.convention == convention.name(), "convention")?;
    let dims = einsum.einsum.dims.iter();
    statement(dims.clone().map(|d| &d.name).eq(&space.dims), "dimensions")?;
    statement(dims.map(|d| &d.size).eq(&space.sizes), "extents")?;
    let levels = einsum.hierarchy.levels.iter().map(|l| l.name());
    statement(levels.eq(space.levels.iter().map(String::as_str)), "levels")?;
    let constraints = &einsum.constraints.levels;
    let mut ordered: Vec<usize> = constraints
        .iter()
        .filter(|c| c.order.len() > 1)
        .map(|c| c.level)
        .collect();
    let orders = ordered.len();
    ordered.sort_unstable();
    ordered.dedup();
    if ordered.len() < orders {
        return Err(Refusal::Beyond("several orders of loops at one level"));
    }
    let compute = |l: usize| {
        let level = einsum.hierarchy.levels.get(l);
        level.is_none_or(|l| l.fanout().is_none() && l.memory().is_none())
    };
    if constraints.iter().any(|c| compute(c.level)) {
        return Err(Refusal::Beyond("constraints of compute units"));
    }
    let Some(model) = Model::new(einsum, objective, perfect) else {
        return Err(Refusal::Beyond("paths without compute units"));
    };
    let checker = Checker::new(&model, certificate)?;
    checker.found()?;
    checker.all()
}

struct Checker<'a> {
    model: &'a Model<'a>,
    certificate: &'a Certificate,
    figure: f64,
    /// Extensions of each partial mapping.
    children: Vec<Vec<usize>>,
    /// Placement and number of steps of each.
    place: Vec<(usize, usize)>,
    /// Stages of each placement.
    stages: Vec<Vec<Stage>>,
}

impl<'a> Checker<'a> {
    fn new(model: &'a Model<'a>, certificate: &'a Certificate) -> Result<Self, Refusal> {
        let told = &certificate.space.placements;
        let mut stated: Vec<&Vec<Vec<usize>>> = told.iter().collect();
        stated.sort();
        let all = placements(model);
        if !stated.into_iter().eq(all.iter()) {
            return Err(Refusal::Cover("placements are missing or wrong".into()));
        }
        let count = certificate.partials.len();
        let mut checker = Self {
            model,
            certificate,
            figure: certificate.found.figure,
            children: vec![Vec::new(); count],
            place: Vec::with_capacity(count),
            stages: told.iter().map(|p| stages(model, p)).collect(),
        };
        let mut starts = vec![0; told.len()];
        for (at, partial) in certificate.partials.iter().enumerate() {
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

    /// Whether the mapping found is legal and costs what is said.
    fn found(&self) -> Result<(), Refusal> {
        let found = &self.certificate.found;
        let wrong = |reason: String| Err(Refusal::Found(reason));
        let model = self.model;
        let tree = tree(&found.mapping);
        if let Err(error) = tree.check(model.einsum, model.hierarchy) {
            return wrong(format!("is illegal: {error}"));
        }
        if let Some(reason) = self.breaks(&tree) {
            return wrong(reason);
        }
        let told = evaluate(Convention::AccelForge, model.einsum, model.hierarchy, &tree);
        let (energy, cycles) = match told {
            Ok(told) => (told.energy_total(), told.cycles),
            Err(error) => return wrong(format!("cannot be told: {error}")),
        };
        let figure = model.figure(energy, cycles);
        let right = near(energy, found.energy_pj) && near(cycles, found.cycles);
        if !right || !near(figure, found.figure) {
            return wrong(format!("takes {energy} pJ and {cycles} cycles"));
        }
        Ok(())
    }

    /// What a legal tree breaks of the space.
    fn breaks(&self, tree: &LoopTree) -> Option<String> {
        let model = self.model;
        let mut used = vec![0.0; model.hierarchy.levels.len()];
        let mut fans = vec![vec![1; model.sizes.len()]; model.groups.len()];
        let mut axes: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        for (i, node) in tree.nodes.iter().enumerate() {
            let tiles = tree.tiles(model.einsum, i);
            if let Some((dim, tile)) = node.cut()
                && model.perfect
                && !tiles[dim.index()].is_multiple_of(tile)
            {
                return Some("has tiles that are no factors".into());
            }
            match *node {
                Node::Keep { level, operand } => used[level] += model.bits(level, operand, &tiles),
                Node::Spatial {
                    level,
                    axis,
                    dim,
                    tile,
                } => {
                    let d = dim.index();
                    let has = |a: &model::Axis| (a.level, a.axis) == (level, axis);
                    let group = model.groups.iter().position(|g| g.axes.iter().any(has))?;
                    let accepts = model.groups[group].axes.iter().find(|a| has(a))?.accepts[d];
                    if !accepts && tiles[d] > tile {
                        return Some("lies along an axis that does not accept it".into());
                    }
                    let trips = tiles[d].div_ceil(tile);
                    fans[group][d] *= trips;
                    *axes.entry((level, axis)).or_insert(1) *= trips;
                }
                Node::Temporal { .. } => {}
            }
        }
        if (0..used.len()).any(|l| used[l] > model.room(l)) {
            return Some("does not fit".into());
        }
        let obeys = |(g, trips): (usize, &Vec<u64>)| self.obeys(g, trips);
        let least = model.groups.iter().flat_map(|g| &g.axes);
        let mut used = least.map(|a| axes.get(&(a.level, a.axis)).copied().unwrap_or(1) >= a.least);
        if !fans.iter().enumerate().all(obeys) || used.any(|u| !u) || !obey::obeyed(model, tree) {
            return Some("does not obey the constraints".into());
        }
        None
    }

    /// Whether the trips of a whole fan are as asked.
    fn obeys(&self, group: usize, trips: &[u64]) -> bool {
        let group = &self.model.groups[group];
        let used: f64 = trips.iter().map(|n| *n as f64).product();
        let instances: f64 = group.axes.iter().map(|a| a.size as f64).product();
        group.given.iter().all(|(d, n)| trips[*d] == *n) && used >= group.least * instances
    }

    fn all(&self) -> Result<Verdict, Refusal> {
        let mut verdict = Verdict {
            found: self.figure,
            lower_bound: self.figure,
            ..Verdict::default()
        };
        let partials = &self.certificate.partials;
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
                End::Infeasible if !self.closes(at) => verdict.infeasible += 1,
                End::Infeasible => return Err(refused(at, "decides nothing yet")),
                End::Unhelpful => {
                    self.last(at)?;
                    verdict.unhelpful += 1;
                }
                End::Whole(stated) => {
                    let figure = self.whole(at, stated)?;
                    verdict.lower_bound = verdict.lower_bound.min(figure);
                    verdict.whole += 1;
                }
            }
        }
        self.no_circles()?;
        let (stated, parts) = (self.certificate.lower_bound, verdict.lower_bound);
        if !near(stated, parts) {
            return Err(Refusal::Bound { stated, parts });
        }
        verdict.proven = near(verdict.lower_bound, verdict.found);
        Ok(verdict)
    }

    fn chains(&self, at: usize) -> &'a [Vec<usize>] {
        &self.certificate.space.placements[self.place[at].0]
    }

    fn stage(&self, placement: usize, step: usize) -> Option<Stage> {
        self.stages[placement].get(step).copied()
    }

    /// The group that a partial mapping ends in, and the axes of its fan that are still open.
    fn ends_in(&self, at: usize) -> (usize, usize) {
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
    fn group_done(&self, at: usize) -> bool {
        let (placement, steps) = self.place[at];
        let (group, axes) = self.ends_in(at);
        let of = |stage: Stage| match stage {
            Stage::Axis(g, _) | Stage::Keep(g) => g,
        };
        axes == 0 && self.stage(placement, steps).is_none_or(|s| of(s) != group)
    }

    /// The figures of a partial mapping; groups inside the one that it ends in are closed, and that one too if nothing
    /// of it is still to come and it is not the outermost.
    fn tally(&self, at: usize) -> Tally {
        let partial = &self.certificate.partials[at];
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
            t.keep(model, operand, level, slide);
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
        if !same || (self.certificate.partials[by].end == End::Infeasible && self.closes(at)) {
            return Err(refused(at, format!("stands elsewhere than {by}")));
        }
        let (group, open) = self.ends_in(at);
        let chains = self.chains(at);
        let (a, b) = (self.tally(by), self.tally(at));
        let inside = 0 < open && open < self.model.groups[group].axes.len();
        let mut memories = Vec::new();
        if open == 0 && !self.group_done(at) {
            for (o, chain) in chains.iter().enumerate() {
                memories.extend(chain[..b.left[o]].iter().skip(1));
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
        let partials = &self.certificate.partials;
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
        let helps = |x: &model::Operand, d: usize| x.indexed[d] || self.model.ruled[d];
        let unhelpful = top.is_some_and(|x| (0..t.tile.len()).any(|d| open(d) && !helps(x, d)));
        Ok((t, unhelpful))
    }

    fn last(&self, at: usize) -> Result<(), Refusal> {
        match self.ending(at)? {
            (_, true) => Ok(()),
            (_, false) => Err(refused(at, "is a mapping, but its figure is not told")),
        }
    }

    fn whole(&self, at: usize, stated: f64) -> Result<f64, Refusal> {
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
        let exact = model.figure(told.energy_total(), told.cycles);
        if exact < self.figure * (1.0 - NEAR) {
            return Err(refused(
                at,
                format!("is better than what was found: {exact}"),
            ));
        }
        // A loop that happens to slide costs less than is told of it; beside that, figures are exact or bounds.
        let slides = model.operands.iter().any(|x| !x.windows.is_empty());
        if !slides && exact < figure * (1.0 - NEAR) {
            return Err(refused(at, format!("takes {exact}, not at least {figure}")));
        }
        Ok(figure)
    }

    /// The loop tree of a whole mapping.
    fn tree(&self, at: usize, t: &Tally) -> LoopTree {
        let mut nodes: Vec<Node> = self.chains(at).iter().enumerate().map(home).collect();
        for (d, tile) in t.tile.iter().enumerate() {
            if *tile < self.model.sizes[d] {
                nodes.push(temporal(d, *tile));
            }
        }
        let mut next = Some(at);
        while let Some(i) = next {
            let partial = &self.certificate.partials[i];
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

fn refused(at: usize, reason: impl Into<String>) -> Refusal {
    Refusal::Partial {
        at,
        reason: reason.into(),
    }
}
