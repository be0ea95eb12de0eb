//! Checks certificates, without the search: the space is enumerated anew, costs and bounds are told anew.
//!
//! # What is derived
//!
//! Of each tree of an einsum (`replay`):
//!
//! - All placements of the case stand at the start; each partial mapping that is open has every extension listed, as
//!   enumerated here from the rules of the certificate's space (`extend`); so the ends cover the space.
//! - A bound is no more than the one computed here (`bound`), and no less than the figure of the tree.
//! - What dominates another one stands at the same step of the same placement with the same tiles, and is no worse in
//!   everything that matters outside; no circle of partial mappings dominates itself. Neighbours of a chain see nothing of what
//!   is compared.
//! - What is called infeasible does not fit or does not obey; what is called unhelpful has a loop directly inside the
//!   homes that does not index the outermost storage.
//! - A whole mapping's figure is told anew, and compared with what convention `accelforge` counts of its loop tree.
//!
//! Of the case:
//!
//! - The mappings found are legal, fit, in chains together (`view`), and cost what is said, by convention `accelforge`.
//! - Trees of the least energy and cycles have no whole mapping below; those of parts have the least of all other einsums
//!   beside their figures ([`certificate`](mod@super::certificate) has the argument).
//! - No chain of whole mappings in the trees of parts that fits together is better than what was found (`join`); the lower
//!   bound is the least that they come to where partial tiles are told by bounds.
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
mod found;
mod join;
mod model;
mod obey;
mod replay;
mod tally;
mod view;

use self::found::found;
use self::join::{Join, Part, needed};
use self::model::Model;
use self::replay::{Checker, Whole};
use self::view::Dims;
use super::certificate::{Certificate, FORM, Looked, Tells, Tree};
use crate::case::{Case, CaseEinsum};
use crate::conventions::Convention;
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
    /// Those that may be part of something better, by what neighbours see of them.
    pub parts: u64,
    /// Chains of them that were looked at, whole or begun.
    pub joins: u64,
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
    /// A tree of an einsum does not tell what it must.
    #[error("the least figures of einsum {einsum} {reason}")]
    Least {
        /// The einsum.
        einsum: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// What was found is not the best.
    #[error("other parts come to less than what was found: {0}")]
    Better(f64),
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
    let objective = stated(case, certificate)?;
    let perfect = certificate.space.tiles == "factors";
    let looked = &certificate.einsums;
    let least: Vec<(f64, f64)> = looked.iter().map(least).collect();
    let model = |i: usize, objective, beside| {
        let model = Model::new(case, i, objective, beside, perfect);
        model.ok_or(Refusal::Beyond("paths without compute units"))
    };
    let models = (0..looked.len()).map(|i| model(i, objective, beside(&least, i)));
    let models: Vec<Model> = models.collect::<Result<_, _>>()?;
    let dims = Dims::new(case);
    found(&models, &dims, &certificate.found)?;
    let figure = certificate.found.figure;
    let mut verdict = Verdict {
        found: figure,
        ..Verdict::default()
    };
    let mut parts = Vec::new();
    for (i, one) in looked.iter().enumerate() {
        let (tree, leasts) = kinds(i, one)?;
        for (tree, objective, least) in leasts {
            let model = model(i, objective, (0.0, 0.0))?;
            for whole in replay(&model, one, tree, least, &mut verdict)? {
                if model.figure(whole.least.0, whole.least.1) < least * (1.0 - NEAR) {
                    let reason = "are higher than those of a mapping";
                    return Err(Refusal::Least { einsum: i, reason });
                }
            }
        }
        let model = &models[i];
        let wholes = replay(model, one, tree, figure, &mut verdict)?.into_iter();
        let below = |w: &Whole| model.figure(w.least.0, w.least.1) < figure * (1.0 - NEAR);
        let part = |w: Whole| Part {
            view: dims.view(model, i, &w.tree),
            least: w.least,
            exact: w.exact,
        };
        let needed = needed(wholes.filter(below).map(part).collect());
        verdict.parts += needed.values().map(|p| p.len() as u64).sum::<u64>();
        parts.push(needed);
    }
    let mut join = Join::new(&models, &dims, &parts, figure);
    join.all(&mut Vec::new())?;
    (verdict.lower_bound, verdict.joins) = (join.least, join.looked);
    let (stated, parts) = (certificate.lower_bound, verdict.lower_bound);
    if !near(stated, parts) {
        return Err(Refusal::Bound { stated, parts });
    }
    verdict.proven = near(verdict.lower_bound, verdict.found);
    Ok(verdict)
}

/// Whether a certificate is of a case, and of which objective.
fn stated(case: &Case, certificate: &Certificate) -> Result<Objective, Refusal> {
    let space = &certificate.space;
    let statement = |right: bool, what| match right {
        true => Ok(()),
        false => Err(Refusal::Statement { what }),
    };
    statement(certificate.form == FORM, "form")?;
    let objectives = [Objective::Latency, Objective::Energy, Objective::Edp];
    let objective = objectives.into_iter().find(|o| o.name() == space.objective);
    let tiles = ["factors", "partial"].contains(&space.tiles.as_str());
    statement(tiles, "tile rule")?;
    let convention = Convention::AccelForge;
    statement(space.convention == convention.name(), "convention")?;
    let looked = &certificate.einsums;
    statement(case.einsums.len() == looked.len(), "number of einsums")?;
    for (e, looked) in case.einsums.iter().zip(looked) {
        let dims = e.einsum.dims.iter();
        statement(dims.clone().map(|d| &d.name).eq(&looked.dims), "dimensions")?;
        statement(dims.map(|d| &d.size).eq(&looked.sizes), "extents")?;
        let levels = e.hierarchy.levels.iter().map(|l| l.name());
        let told = looked.levels.iter().map(String::as_str);
        statement(levels.eq(told), "levels")?;
        constraints(e)?;
    }
    objective.ok_or(Refusal::Statement { what: "objective" })
}

/// Whether constraints can be checked.
fn constraints(e: &CaseEinsum) -> Result<(), Refusal> {
    let constraints = &e.constraints.levels;
    let ordered = constraints.iter().filter(|c| c.order.len() > 1);
    let mut ordered: Vec<usize> = ordered.map(|c| c.level).collect();
    let orders = ordered.len();
    ordered.sort_unstable();
    ordered.dedup();
    if ordered.len() < orders {
        return Err(Refusal::Beyond("several orders of loops at one level"));
    }
    let compute = |l: usize| {
        let level = e.hierarchy.levels.get(l);
        level.is_none_or(|l| l.fanout().is_none() && l.memory().is_none())
    };
    match constraints.iter().any(|c| compute(c.level)) {
        true => Err(Refusal::Beyond("constraints of compute units")),
        false => Ok(()),
    }
}

/// Least energy and cycles of an einsum, as they are stated.
fn least(looked: &Looked) -> (f64, f64) {
    (looked.least_energy_pj, looked.least_cycles)
}

/// Least energy and cycles of all einsums but one.
fn beside(least: &[(f64, f64)], i: usize) -> (f64, f64) {
    let others = least.iter().enumerate().filter(|(j, _)| *j != i);
    others.fold((0.0, 0.0), |(e, t), (_, l)| (e + l.0, t + l.1))
}

/// The tree of parts, and those of least figures with their objectives and those figures. A least figure that no tree
/// tells must be 0.
#[allow(clippy::type_complexity)]
fn kinds(i: usize, looked: &Looked) -> Result<(&Tree, Vec<(&Tree, Objective, f64)>), Refusal> {
    let lacks = |reason| Refusal::Least { einsum: i, reason };
    let of = |kind: Tells| looked.trees.iter().filter(move |t| t.tells == kind);
    let mut leasts = Vec::new();
    for (kind, objective, least) in [
        (Tells::Energy, Objective::Energy, looked.least_energy_pj),
        (Tells::Cycles, Objective::Latency, looked.least_cycles),
    ] {
        leasts.extend(of(kind).map(|t| (t, objective, least)));
        let told = of(kind).next().is_some() || least == 0.0;
        let figure = least.is_finite() && least >= 0.0;
        if !told || !figure {
            return Err(lacks("are told by no tree"));
        }
    }
    let parts = of(Tells::Parts)
        .next()
        .ok_or(lacks("have no tree of parts"))?;
    match of(Tells::Parts).count() {
        1 => Ok((parts, leasts)),
        _ => Err(lacks("have more than one tree of parts")),
    }
}

/// The whole mappings of a tree that goes no further below a figure.
fn replay(
    model: &Model,
    looked: &Looked,
    tree: &Tree,
    figure: f64,
    verdict: &mut Verdict,
) -> Result<Vec<Whole>, Refusal> {
    let checker = Checker::new(model, &looked.placements, &tree.partials, figure)?;
    checker.all(verdict)
}
