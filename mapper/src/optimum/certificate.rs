//! Certificates: what the search looked at, so that somebody else can see that nothing better exists.
//!
//! A certificate tells the space, the mapping found and its cost, and a tree of partial mappings. A partial mapping is told
//! from the inside out; each extends another one by one step:
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
//! [`check`](mod@super::check) reads it and believes none of that.

use serde::{Deserialize, Serialize};

use super::chain::{Asked, roots};
use super::link::link;
use super::search::{Goal, Placement, Record, Score, Search, Work};
use super::{Mapped, Options, SpaceError};
use crate::case::Case;
use crate::conventions::Convention;
use crate::hierarchy::Level;
use crate::looptree::{LoopTree, Node};
use presil_numerics::ids::Id;
use presil_workloads::DimId;

/// The form of certificates that is written and read.
pub const FORM: &str = "presil certificate 1";

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
    /// Partial mappings; each stands behind the one that it extends.
    pub partials: Vec<Partial>,
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
    /// Names of the dimensions, whose numbers partial mappings use.
    pub dims: Vec<String>,
    /// Iterations of the dimensions.
    pub sizes: Vec<u64>,
    /// Names of the levels, whose numbers partial mappings use.
    pub levels: Vec<String>,
    /// For each placement and operand, the memories that keep it, outermost first.
    pub placements: Vec<Vec<Vec<usize>>>,
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
    /// The mapping, from the outside in.
    pub mapping: Vec<Line>,
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
    /// More than one einsum.
    #[error(
        "certificates are of cases of one einsum, this one has {0}; certify each einsum in a case of its own"
    )]
    Chain(usize),
    /// The search was cut off.
    #[error("the search ended before it had looked at everything: give it more work or time")]
    Unfinished,
    /// The search had not looked at everything before.
    #[error("there is a better mapping: the search that found this one ended too early")]
    Better,
    /// No search at all.
    #[error(transparent)]
    Space(#[from] SpaceError),
}

/// The certificate of a mapping that a search of the case found: the space is looked at again, for something better. The
/// text of the case is left to the caller.
///
/// # Errors
/// If the case has more than one einsum, something better is found, or the options' work and time do not suffice.
pub fn certify(
    case: &Case,
    options: &Options,
    found: &Mapped,
) -> Result<Certificate, CertifyError> {
    let [einsum] = case.einsums.as_slice() else {
        return Err(CertifyError::Chain(case.einsums.len()));
    };
    let figure = Score::new(options.objective, found.energy, found.cycles).0;
    let looked = looked_at(case, options, figure)?;
    if looked.cut {
        return Err(CertifyError::Unfinished);
    }
    if looked.better {
        return Err(CertifyError::Better);
    }
    let whole = looked.partials.iter().map(|p| match p.end {
        End::Whole(figure) => figure,
        _ => f64::INFINITY,
    });
    let lower_bound = whole.fold(figure, f64::min);
    let levels = &einsum.hierarchy.levels;
    Ok(Certificate {
        form: FORM.to_string(),
        space: Statement {
            case: String::new(),
            convention: Convention::AccelForge.name().to_string(),
            objective: options.objective.name().to_string(),
            tiles: if looked.perfect { "factors" } else { "partial" }.to_string(),
            dims: einsum.einsum.dims.iter().map(|d| d.name.clone()).collect(),
            sizes: einsum.einsum.dims.iter().map(|d| d.size).collect(),
            levels: levels.iter().map(|l| Level::name(l).to_string()).collect(),
            placements: looked.placements,
            rules: RULES.map(String::from).to_vec(),
        },
        found: Found {
            energy_pj: found.energy,
            cycles: found.cycles,
            figure,
            mapping: lines(&found.tree),
        },
        lower_bound,
        partials: looked.partials,
    })
}

/// All partial mappings of an einsum that are looked at where a mapping of a figure is known.
struct Looked {
    partials: Vec<Partial>,
    /// Levels that keep each operand, by placement.
    placements: Vec<Vec<Vec<usize>>>,
    perfect: bool,
    cut: bool,
    /// Whether a better mapping was found.
    better: bool,
}

/// Looks at the whole space of a case of one einsum again, and records it.
fn looked_at(case: &Case, options: &Options, figure: f64) -> Result<Looked, SpaceError> {
    let asked = Asked::new(options);
    let link = link(case, 0, options)?;
    let perfect = link.space.perfect;
    let mut goal = Goal::below(Some(Score(figure, f64::NEG_INFINITY)));
    let exact = Some((&link.einsum, link.hierarchies.as_slice()));
    let (mut work, mut partials) = (Work::default(), Vec::new());
    for (_, i) in roots(&link, perfect, options.objective) {
        let fuse = asked.fuse(&work);
        let placement = &link.placements[i];
        let mut search = Search::new(&link.space, exact, options.objective, placement, i, fuse);
        search.record = Some(Record::default());
        search.run(&mut goal, None);
        work.add(search.work);
        let record = search.record.take().unwrap_or_default();
        let first = partials.len();
        partials.extend(record.partials.into_iter().map(|p| p.behind(first)));
    }
    let level = |(s, m): &(usize, usize)| link.space.segments[*s].memories[*m].level;
    let levels = |chain: &Vec<(usize, usize)>| chain.iter().map(level).collect();
    let of = |p: &Placement| p.chains.iter().map(levels).collect();
    Ok(Looked {
        partials,
        placements: link.placements.iter().map(of).collect(),
        perfect,
        cut: work.cut,
        better: goal.targets.iter().any(|t| t.best.is_some()),
    })
}

/// What is taken for granted of the space.
const RULES: [&str; 7] = [
    "an operand's outermost storage stands above the first fanout and before any loop",
    "between two storages stand only loops that index the inner one and do not plainly index the outer one: others are no worse elsewhere",
    "loops between two storages, and loops along an axis, have one order; only the one that slides a window directly above a storage is told apart",
    "two storages without a loop between are told in one order, the operand of the higher number outside, unless the outer one has windows",
    "constraints of memories: loops over the dimensions that they name stand anywhere, and storages are told in any order",
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
