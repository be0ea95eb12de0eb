//! Certificates: what the search looked at, so that somebody else can see that nothing better exists.
//!
//! A certificate tells the space, the mapping found and its cost, and for each einsum of the case trees of partial mappings. A
//! partial mapping is told from the inside out; each extends another one by one step:
//!
//! ```text
//! placement   the start: which memories keep which operands, nothing decided yet
//! along       the loops along one axis of a fanout
//! keep        a storage: loops in time below it, and perhaps one that slides a window directly above it
//! ```
//!
//! and each ends in one way:
//!
//! ```text
//! open        all its extensions are listed
//! bound       no mapping that extends it is below this figure of the objective
//! dominated   another partial mapping, of the same placement, step and tiles, is at least as good in everything that
//!             matters outside
//! infeasible  it does not fit or a constraint forbids it; what does not fit stands for all larger tiles of its last loop
//!             in time
//! unhelpful   it is whole but for a loop directly above a storage that does not index it: the same loop inside is better
//! whole       a mapping, whose figure is no less than this
//! ```
//!
//! # Chains
//!
//! With `e_i` and `c_i` the energy and cycles of einsum `i`'s mapping, whatever its neighbours are, and `F` the figure of the
//! chain found:
//!
//! ```text
//! energy, cycles  trees of einsum i by itself: no mapping has e_i below E_i, none has c_i below C_i
//! parts           the tree of einsum i where the least of all others stands beside each figure, as in
//!                     figure(e_i + sum of E_j, c_i + sum of C_j)    over all j but i:
//!                 what ends by a bound of at least F is part of no chain below F
//! ```
//!
//! What is whole and below `F` in the trees of parts is all that a better chain can be made of: of a mapping that is not
//! listed, another is, that is no worse for it and for its neighbours. So dominance must keep what neighbours see. They see the
//! tiles that are handed over, the storages of the outermost group outside shared loops, and the order of loops between those;
//! all of it lies in the outermost group. Hence partial mappings with an operand that is handed over tile by tile are
//! compared only as long as no storage of that group is placed; what lies further inside comes to energy, time and traffic,
//! which are compared. Handed over whole, neighbours see nothing.
//!
//! Joins of parts are not listed: who checks joins all parts again, with the least that can come behind as the bound, and finds no
//! chain that fits below `F`. The trees of one einsum's least energy and cycles are left out for a case of one.
//!
//! [`check`](mod@super::check) reads it and believes none of that. Certificates of more than [`ENTRIES`] partial mappings are not
//! written.

use serde::{Deserialize, Serialize};

use super::chain::{Asked, beside, least, links, roots};
use super::join::join;
use super::link::Link;
use super::search::{Goal, Part, Parts, Placement, Record, Score, Search, Work};
use super::{Mapped, Options, SpaceError};
use crate::case::{Case, CaseEinsum};
use crate::conventions::Convention;
use crate::hierarchy::Level;
use crate::looptree::{LoopTree, Node};
use crate::search::Objective;
use presil_numerics::ids::Id;
use presil_workloads::DimId;

/// The form of certificates that is written and read.
pub const FORM: &str = "presil certificate 2";

/// Most partial mappings of a certificate.
pub const ENTRIES: usize = 2_000_000;

/// What the search looked at, and what it found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// [`FORM`].
    pub form: String,
    /// What was searched.
    pub space: Statement,
    /// What was found.
    pub found: Found,
    /// The objective's figure that no mapping of the space goes below.
    pub lower_bound: f64,
    /// What was looked at, by einsum.
    pub einsums: Vec<Looked>,
}

/// What was searched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// The case as a case file, with its constraints; empty if it has none.
    pub case: String,
    /// Name of the convention that costs are counted in.
    pub convention: String,
    /// What is made small: "latency" (cycles), "energy" (picojoules) or "edp" (their product).
    pub objective: String,
    /// Tile sizes: "factors" of the tile around, or "partial" last tiles.
    pub tiles: String,
    /// What is taken for granted of the space, in words.
    pub rules: Vec<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Picojoules.
    pub energy_pj: f64,
    /// Cycles.
    pub cycles: f64,
    /// The objective's figure.
    pub figure: f64,
    /// The mapping of each einsum, from the outside in.
    pub mappings: Vec<Vec<Line>>,
}

/// What was looked at of an einsum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Looked {
    /// Names of the dimensions, whose numbers partial mappings use.
    pub dims: Vec<String>,
    /// Iterations of the dimensions.
    pub sizes: Vec<u64>,
    /// Names of the levels, whose numbers partial mappings use.
    pub levels: Vec<String>,
    /// For each placement and operand, the memories that keep it, outermost first.
    pub placements: Vec<Vec<Vec<usize>>>,
    /// Picojoules that no mapping of it goes below; 0 if no tree tells.
    pub least_energy_pj: f64,
    /// Cycles that no mapping of it goes below; 0 if no tree tells.
    pub least_cycles: f64,
    /// Trees of partial mappings, at most one of a kind, the last one of parts.
    pub trees: Vec<Tree>,
}

/// A tree of partial mappings for each placement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// What it tells.
    pub tells: Tells,
    /// Partial mappings; each stands behind the one that it extends.
    pub partials: Vec<Partial>,
}

/// What a tree tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tells {
    /// The einsum's least energy: its figures are picojoules.
    Energy,
    /// The einsum's least cycles: its figures are cycles.
    Cycles,
    /// All that may be part of something better than what was found: its figures are the objective's, with the least
    /// energy and cycles of the other einsums beside.
    Parts,
}

/// A node of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// An operand kept at a level.
    Keep(usize, usize),
    /// A loop in time: dimension and the tile inside.
    For(usize, u64),
    /// A loop along an axis: level, axis, dimension and the tile inside.
    Across(usize, usize, usize, u64),
}

/// A loop: dimension, the tile inside and the tile outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cut(pub usize, pub u32, pub u32);

/// A partial mapping: one step behind the one that it extends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    /// The one that it extends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<usize>,
    /// The start of a placement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<usize>,
    /// Level and axis that the loops lie along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub along: Option<(usize, usize)>,
    /// The storage: operand and level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<(usize, usize)>,
    /// Loops along the axis, or in time below the storage, by dimension.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loops: Vec<Cut>,
    /// The loop that slides a window directly above the storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slide: Option<Cut>,
    /// What became of it.
    pub end: End,
}

impl Partial {
    pub(super) fn new(end: End) -> Self {
        Self {
            of: None,
            placement: None,
            along: None,
            keep: None,
            loops: Vec::new(),
            slide: None,
            end,
        }
    }

    /// The same behind so many others.
    pub(super) fn behind(mut self, others: usize) -> Self {
        self.of = self.of.map(|n| n + others);
        if let End::Dominated(by) = &mut self.end {
            *by += others;
        }
        self
    }
}

/// What became of a partial mapping.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// All its extensions are listed.
    Open,
    /// No mapping that extends it is below this figure.
    Bound(f64),
    /// This other one is at least as good.
    Dominated(usize),
    /// It does not fit, nor do larger tiles of its last loop in time; or a constraint forbids it.
    Infeasible,
    /// Its outermost loop is better further in.
    Unhelpful,
    /// A mapping, of at least this figure.
    Whole(f64),
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CertifyError {
    /// The search was cut off.
    #[error("the search ended before it had looked at everything: give it more work or time")]
    Unfinished,
    /// The certificate would be too large.
    #[error(
        "the certificate would have more than {ENTRIES} partial mappings; certify a smaller case, or one of perfect factors"
    )]
    TooLarge,
    /// The search had not looked at everything before.
    #[error("there is a better mapping: the search that found this one ended too early")]
    Better,
    /// As many mappings as einsums.
    #[error("the case has {einsums} einsums, but {mappings} mappings were given")]
    Mappings {
        /// Einsums of the case.
        einsums: usize,
        /// Mappings given.
        mappings: usize,
    },
    /// No search at all.
    #[error(transparent)]
    Space(#[from] SpaceError),
}

/// The certificate of the mappings of a case's einsums that a search found: the space is looked at again, for something
/// better. The text of the case is left to the caller.
///
/// # Errors
/// If something better is found, the options' work and time do not suffice, or the certificate gets too large.
pub fn certify(
    case: &Case,
    options: &Options,
    found: &[Mapped],
) -> Result<Certificate, CertifyError> {
    let (einsums, mappings) = (case.einsums.len(), found.len());
    if einsums != mappings {
        return Err(CertifyError::Mappings { einsums, mappings });
    }
    let energy_pj = found.iter().map(|m| m.energy).sum();
    let cycles = found.iter().map(|m| m.cycles).sum();
    let figure = Score::new(options.objective, energy_pj, cycles).0;
    let asked = Asked::new(options);
    let mut links = links(case, options)?;
    if let [_, _, ..] = links.as_slice() {
        for link in &mut links {
            link.least = least(link, &asked, &mut Work::default())?;
        }
    }
    let perfect = links.iter().all(|l| l.space.perfect);
    let (mut looked, mut parts) = (Vec::new(), Vec::new());
    let mut entries = 0;
    for (i, e) in case.einsums.iter().enumerate() {
        let mut one = looked_at(e, &links[i]);
        if links.len() > 1 {
            for (tells, least) in [
                (Tells::Energy, links[i].least.0),
                (Tells::Cycles, links[i].least.1),
            ] {
                if least > 0.0 {
                    let mut goal = Goal::below(Some(Score(least, f64::NEG_INFINITY)));
                    let tree = tree_of(&links[i], tells, &mut goal, &asked, &mut entries)?;
                    one.trees.push(tree);
                }
            }
        }
        let mut goal = Goal {
            beside: beside(&links, i),
            parts: Some(Parts::default()),
            ..Goal::below(Some(Score(figure, f64::NEG_INFINITY)))
        };
        let tree = tree_of(&links[i], Tells::Parts, &mut goal, &asked, &mut entries)?;
        one.trees.push(tree);
        looked.push(one);
        parts.push(goal.parts.map_or(Vec::new(), |p| p.parts));
    }
    Ok(Certificate {
        form: FORM.to_string(),
        space: Statement {
            case: String::new(),
            convention: Convention::AccelForge.name().to_string(),
            objective: options.objective.name().to_string(),
            tiles: if perfect { "factors" } else { "partial" }.to_string(),
            rules: RULES.map(String::from).to_vec(),
        },
        found: Found {
            energy_pj,
            cycles,
            figure,
            mappings: found.iter().map(|m| lines(&m.tree)).collect(),
        },
        lower_bound: lower_bound(case, &links, &parts, options, figure)?,
        einsums: looked,
    })
}

/// The least figure of all chains of parts, whose figures are bounds where partial tiles are.
fn lower_bound(
    case: &Case,
    links: &[Link],
    parts: &[Vec<Part>],
    options: &Options,
    figure: f64,
) -> Result<f64, CertifyError> {
    let limit = Score(figure, f64::NEG_INFINITY);
    let chains = join(links, parts, options, Some(limit));
    let Some(best) = chains.first() else {
        return Ok(figure);
    };
    let solution = super::chain::solution(case, links, best, options, Work::default());
    let exact = Score::new(options.objective, solution.energy, solution.cycles).0;
    if exact < figure * (1.0 - 1e-12) {
        return Err(CertifyError::Better);
    }
    Ok(figure.min(best.score.0))
}

/// An einsum of which nothing is told yet.
fn looked_at(e: &CaseEinsum, link: &Link) -> Looked {
    let level = |(s, m): &(usize, usize)| link.space.segments[*s].memories[*m].level;
    let levels = |chain: &Vec<(usize, usize)>| chain.iter().map(level).collect();
    let of = |p: &Placement| p.chains.iter().map(levels).collect();
    let names = e.hierarchy.levels.iter();
    Looked {
        dims: e.einsum.dims.iter().map(|d| d.name.clone()).collect(),
        sizes: e.einsum.dims.iter().map(|d| d.size).collect(),
        levels: names.map(|l| Level::name(l).to_string()).collect(),
        placements: link.placements.iter().map(of).collect(),
        least_energy_pj: link.least.0,
        least_cycles: link.least.1,
        trees: Vec::new(),
    }
}

/// Looks at the whole space of an einsum, and records it; what costs bounds of partial tiles tell is not counted exactly.
fn tree_of(
    link: &Link,
    tells: Tells,
    goal: &mut Goal,
    asked: &Asked,
    entries: &mut usize,
) -> Result<Tree, CertifyError> {
    let objective = match tells {
        Tells::Energy => Objective::Energy,
        Tells::Cycles => Objective::Latency,
        Tells::Parts => asked.objective(),
    };
    let (mut work, mut partials) = (Work::default(), Vec::new());
    for (_, i) in roots(link, link.space.perfect, objective) {
        let fuse = asked.fuse(&work);
        let placement = &link.placements[i];
        let mut search = Search::new(&link.space, None, objective, placement, i, fuse);
        search.record = Some(Record::of(ENTRIES - *entries - partials.len()));
        search.run(goal, None);
        work.add(search.work);
        let record = search.record.take().unwrap_or_default();
        if record.full() {
            return Err(CertifyError::TooLarge);
        }
        let first = partials.len();
        partials.extend(record.partials.into_iter().map(|p| p.behind(first)));
    }
    *entries += partials.len();
    let better = goal.targets.iter().any(|t| t.best.is_some());
    match (work.cut, better) {
        (true, _) => Err(CertifyError::Unfinished),
        (false, true) => Err(CertifyError::Better),
        (false, false) => Ok(Tree { tells, partials }),
    }
}

/// What is taken for granted of the space.
const RULES: [&str; 9] = [
    "an operand's outermost storage stands above the first fanout and before any loop",
    "between two storages stand only loops that index the inner one and do not plainly index the outer one: others are no worse elsewhere",
    "loops between two storages, and loops along an axis, have one order; only the one that slides a window directly above a storage is told apart",
    "two storages without a loop between are told in one order, the operand of the higher number outside, unless the outer one has windows",
    "constraints of memories: loops over the dimensions that they name stand anywhere, and storages are told in any order",
    "an intermediate that one einsum hands to the next stands whole at the outermost memory, or below loops in time that index it, which both share; loops outside its home, and those over dimensions that index it inside, stand anywhere",
    "einsums that share loops run in one nest; while one runs, the others keep what stands outside the loops that they share with it; equal tiles of one tensor at one memory are one copy",
    "factors: every tile divides the one around it and the extent",
    "partial: of all multiples of a tile with as many tiles in the extent, the smallest; along axes, all",
];

fn lines(tree: &LoopTree) -> Vec<Line> {
    let line = |node: &Node| match *node {
        Node::Keep { level, operand } => Line::Keep(operand, level),
        Node::Temporal { dim, tile } => Line::For(dim.index(), tile),
        Node::Spatial {
            level,
            axis,
            dim,
            tile,
        } => Line::Across(level, axis, dim.index(), tile),
    };
    tree.nodes.iter().map(line).collect()
}

/// The loop tree of a certificate's mapping.
pub(super) fn tree(lines: &[Line]) -> LoopTree {
    let node = |line: &Line| match *line {
        Line::Keep(operand, level) => Node::Keep { level, operand },
        Line::For(dim, tile) => Node::Temporal {
            dim: DimId::new(dim),
            tile,
        },
        Line::Across(level, axis, dim, tile) => Node::Spatial {
            level,
            axis,
            dim: DimId::new(dim),
            tile,
        },
    };
    LoopTree {
        nodes: lines.iter().map(node).collect(),
    }
}
