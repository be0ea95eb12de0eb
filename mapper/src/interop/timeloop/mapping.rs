//! `mapping`: directives per level, in any order.
//!
//! ```yaml
//! mapping:
//! - {target: DRAM, type: temporal, factors: M=2 N=8 K=0, permutation: KMN}       # innermost first; 0 = the rest
//! - {target: GLB, type: spatial, factors: [M=2, K=2], permutation: MNK, split: 2} # the first 2 along X, then Y
//! - {target: GLB, type: bypass, keep: [A], bypass: [B, Z]}                       # default: what the level may
//!                                                                              # keep is kept
//! ```
//!
//! Dimensions that a permutation does not name stand outside those it names. Factors are perfect: their product
//! is the dimension.

use presil_workloads::DimId;

use super::TimeloopError;
use super::arch::Architecture;
use super::problem::Problem;
use super::tree::Cursor;
use crate::hierarchy::{Level, Mask};
use crate::looptree::{LoopTree, LoopTreeError, Node};

/// Loops of one level, over time or over space.
#[derive(Debug, Clone, Default)]
pub(super) struct Loops {
    /// Iterations of each dimension; 0 stands for the rest.
    pub factors: Vec<Option<u64>>,
    /// Dimensions, innermost first.
    pub order: Vec<usize>,
    /// How many of them lie along X.
    pub split: Option<usize>,
}

/// All directives of one target.
#[derive(Debug, Clone, Default)]
pub(super) struct Directives {
    pub temporal: Option<Loops>,
    pub spatial: Option<Loops>,
    pub bypassed: Mask,
}

pub(super) fn read(
    section: &Cursor<'_>,
    problem: &Problem,
    arch: &Architecture<'_>,
) -> Result<LoopTree, TimeloopError> {
    let all = (0..problem.operands.len()).fold(Mask::NONE, Mask::with);
    let mut levels: Vec<Directives> = arch
        .targets
        .iter()
        .map(|target| Directives {
            bypassed: all.minus(arch.keeps(target)),
            ..Directives::default()
        })
        .collect();
    for directive in section.items()? {
        read_directive(&directive, problem, arch, &mut levels)?;
    }
    build(section, problem, arch, &mut levels)
}

/// Kinds of directives, by the names that versions gave them.
pub(super) fn kind(directive: &Cursor<'_>) -> Result<&'static str, TimeloopError> {
    let kind = directive.need("type")?;
    match kind.text()? {
        "temporal" => Ok("temporal"),
        "spatial" => Ok("spatial"),
        "bypass" | "bypassing" | "datatype" | "dataspace" => Ok("bypass"),
        "utilization" | "parallelism" | "max_overbooked_proportion" => Ok("utilization"),
        other => Err(kind.fail(format!(
            "`{other}` is not temporal, spatial, bypass or utilization"
        ))),
    }
}

/// The target of a directive.
pub(super) fn target(
    directive: &Cursor<'_>,
    arch: &Architecture<'_>,
    spatial: bool,
) -> Result<usize, TimeloopError> {
    let target = directive.need("target")?;
    let name = target.text()?;
    let found = if spatial {
        arch.spatial_target(name)
    } else {
        arch.target(name)
    };
    found.ok_or_else(|| {
        target.fail(format!(
            "the architecture has no level `{name}`; it has {}",
            arch.target_names()
        ))
    })
}

fn read_directive(
    directive: &Cursor<'_>,
    problem: &Problem,
    arch: &Architecture<'_>,
    levels: &mut [Directives],
) -> Result<(), TimeloopError> {
    let known = [
        "target",
        "type",
        "factors",
        "permutation",
        "split",
        "keep",
        "bypass",
    ];
    directive.only(&known, "a mapping")?;
    let kind = kind(directive)?;
    let at = target(directive, arch, kind == "spatial")?;
    let Some(level) = levels.get_mut(at) else {
        return Ok(());
    };
    let twice = || directive.fail(format!("a second {kind} directive of this level"));
    match kind {
        "temporal" => {
            let loops = read_loops(directive, problem)?;
            if level.temporal.replace(loops).is_some() {
                return Err(twice());
            }
        }
        "spatial" => {
            let loops = read_loops(directive, problem)?;
            if level.spatial.replace(loops).is_some() {
                return Err(twice());
            }
        }
        "bypass" => {
            let (keep, bypass) = read_spaces(directive, problem)?;
            if arch.targets[at].memory.is_none() && !keep.is_empty() {
                return Err(directive.fail("this level carries loops only and keeps nothing"));
            }
            level.bypassed = level.bypassed.minus(keep).or(bypass);
        }
        _ => {
            return Err(
                directive.fail("is a constraint, not a mapping; put it under `constraints`")
            );
        }
    }
    Ok(())
}

/// Data spaces that are kept and that are bypassed.
pub(super) fn read_spaces(
    directive: &Cursor<'_>,
    problem: &Problem,
) -> Result<(Mask, Mask), TimeloopError> {
    let read = |key: &str| match directive.get(key) {
        None => Ok(Mask::NONE),
        Some(list) => {
            let mut mask = Mask::NONE;
            for name in list.words()? {
                let operand = problem.operand(&name).ok_or_else(|| {
                    list.fail(format!(
                        "the problem has no data space `{name}`; it has {}",
                        problem.operands.join(", ")
                    ))
                })?;
                mask = mask.with(operand);
            }
            Ok(mask)
        }
    };
    let (keep, bypass) = (read("keep")?, read("bypass")?);
    if !keep.and(bypass).is_empty() {
        return Err(directive.fail("keeps and bypasses the same data space"));
    }
    Ok((keep, bypass))
}

fn read_loops(directive: &Cursor<'_>, problem: &Problem) -> Result<Loops, TimeloopError> {
    let mut loops = Loops {
        factors: vec![None; problem.einsum.dims.len()],
        order: match directive.get("permutation") {
            Some(permutation) => read_order(&permutation, problem)?,
            None => Vec::new(),
        },
        split: match directive.get("split") {
            Some(split) => Some(split.amount()? as usize),
            None => None,
        },
    };
    if let Some(factors) = directive.get("factors") {
        for word in factors.words()? {
            let (dim, relation, n) = read_factor(&factors, &word, problem)?;
            if relation != "=" {
                return Err(factors.fail(format!(
                    "`{word}`: a mapping gives its factors exactly, as M=2"
                )));
            }
            loops.factors[dim] = Some(n);
        }
    }
    for dim in 0..problem.einsum.dims.len() {
        if !loops.order.contains(&dim) {
            loops.order.push(dim);
        }
    }
    Ok(loops)
}

/// A factor: `M=2`, `M2`, `M<=4`.
pub(super) fn read_factor<'w>(
    at: &Cursor<'_>,
    word: &'w str,
    problem: &Problem,
) -> Result<(usize, &'w str, u64), TimeloopError> {
    let bad = || {
        at.fail(format!(
            "`{word}` is no factor; write dimension=number, as M=2 (residual factors are not told)"
        ))
    };
    let digits = || word.chars().rev().take_while(char::is_ascii_digit).count();
    let end = word
        .find(['=', '<', '>'])
        .unwrap_or_else(|| word.len() - digits());
    let (name, rest) = word.split_at(end);
    let number = rest.trim_start_matches(['=', '<', '>']);
    let relation = &rest[..rest.len() - number.len()];
    let relation = if relation.is_empty() || relation == "==" {
        "="
    } else {
        relation
    };
    let dim = problem.dim(name).ok_or_else(bad)?;
    let n: i64 = number.trim().parse().map_err(|_| bad())?;
    if !(-1..1 << 40).contains(&n) {
        return Err(bad());
    }
    // Early sets write the rest as 0, later ones also as -1.
    Ok((dim, relation, n.max(0) as u64))
}

/// Dimensions of a permutation, as given (innermost first): words, or letters of one word.
pub(super) fn read_order(
    permutation: &Cursor<'_>,
    problem: &Problem,
) -> Result<Vec<usize>, TimeloopError> {
    let position = |name: &str| problem.dim(name);
    let mut order = Vec::new();
    for word in permutation.words()? {
        let dims: Option<Vec<usize>> = match position(&word) {
            Some(dim) => Some(vec![dim]),
            None => word.chars().map(|c| position(&c.to_string())).collect(),
        };
        for dim in dims.ok_or_else(|| permutation.fail(format!("`{word}` names no dimension")))? {
            if order.contains(&dim) {
                let name = &problem.einsum.dims[dim].name;
                return Err(permutation.fail(format!("dimension `{name}` stands twice")));
            }
            order.push(dim);
        }
    }
    Ok(order)
}

/// Puts the rest of each dimension where a factor says 0, and checks the products.
fn complete(
    at: &Cursor<'_>,
    problem: &Problem,
    levels: &mut [Directives],
) -> Result<(), TimeloopError> {
    for (dim, d) in problem.einsum.dims.iter().enumerate() {
        let mut product = Some(1u64);
        let mut rests = 0;
        let all = levels
            .iter_mut()
            .flat_map(|l| l.temporal.iter_mut().chain(l.spatial.iter_mut()));
        for factor in all.map(|l| &mut l.factors[dim]) {
            match *factor {
                Some(0) => rests += 1,
                Some(n) => product = product.and_then(|p| p.checked_mul(n)),
                None => {}
            }
        }
        let rest = product.filter(|p| d.size % p == 0).map(|p| d.size / p);
        let rest = match (rest, rests) {
            (Some(rest), 1) => rest,
            (Some(1), 0) => 1,
            (_, 0 | 1) => {
                return Err(at.fail(format!(
                    "the factors of `{}` make {}, the dimension is {} (imperfect factors are not told)",
                    d.name,
                    product.map_or("too much".into(), |p| p.to_string()),
                    d.size
                )));
            }
            _ => {
                return Err(at.fail(format!("`{}` takes the rest (0) at several levels", d.name)));
            }
        };
        let all = levels
            .iter_mut()
            .flat_map(|l| l.temporal.iter_mut().chain(l.spatial.iter_mut()));
        for factor in all.map(|l| &mut l.factors[dim]) {
            if *factor == Some(0) {
                *factor = Some(rest);
            }
        }
    }
    Ok(())
}

/// The loop tree of complete directives.
pub(super) fn build(
    at: &Cursor<'_>,
    problem: &Problem,
    arch: &Architecture<'_>,
    levels: &mut [Directives],
) -> Result<LoopTree, TimeloopError> {
    complete(at, problem, levels)?;
    let mut tree = TreeBuilder {
        tiles: problem.einsum.dims.iter().map(|d| d.size).collect(),
        nodes: Vec::new(),
    };
    for (target, level) in arch.targets.iter().zip(levels.iter()) {
        if let Some(memory) = target.memory {
            let operands = (0..problem.operands.len()).filter(|o| !level.bypassed.has(*o));
            let keep = operands.map(|operand| Node::Keep {
                level: memory,
                operand,
            });
            tree.nodes.extend(keep);
        }
        if let Some(loops) = &level.temporal {
            for dim in loops.order.iter().rev() {
                tree.cut(*dim, loops, |dim, tile| Node::Temporal { dim, tile });
            }
        }
        if let Some(loops) = &level.spatial {
            build_spatial(target.fanout, loops, arch, &mut tree)
                .map_err(|reason| at.fail(format!("`{}`: {reason}", target.name)))?;
        }
    }
    let tree = LoopTree { nodes: tree.nodes };
    tree.check(&problem.einsum, &arch.hierarchy)
        .map_err(|e: LoopTreeError| at.fail(e.to_string()))?;
    Ok(tree)
}

fn build_spatial(
    fanout: Option<usize>,
    loops: &Loops,
    arch: &Architecture<'_>,
    tree: &mut TreeBuilder,
) -> Result<(), String> {
    if loops.factors.iter().all(|f| f.is_none_or(|n| n == 1)) {
        return Ok(());
    }
    let Some(level) = fanout else {
        return Err("has one instance below it and takes no spatial loops".into());
    };
    let axes = match arch.hierarchy.levels.get(level).and_then(Level::fanout) {
        Some(fanout) => &fanout.axes[..],
        None => &[],
    };
    let named = |name: &str| axes.iter().position(|a| a.name == name);
    let (x, y) = (named("X"), named("Y"));
    let split = match (loops.split, x, y) {
        (Some(split), _, _) => split,
        (None, Some(_), None) => usize::MAX,
        (None, None, Some(_)) => 0,
        _ => {
            return Err(
                "give a `split`: how many dimensions of the permutation lie along X".into(),
            );
        }
    };
    for (place, dim) in loops.order.iter().enumerate().rev() {
        if loops.factors[*dim].is_none_or(|n| n == 1) {
            continue;
        }
        let (axis, name) = if place < split { (x, "X") } else { (y, "Y") };
        let Some(axis) = axis else {
            return Err(format!(
                "has one instance along {name}; move the loop by `split`"
            ));
        };
        tree.cut(*dim, loops, |dim, tile| Node::Spatial {
            level,
            axis,
            dim,
            tile,
        });
    }
    Ok(())
}

struct TreeBuilder {
    tiles: Vec<u64>,
    nodes: Vec<Node>,
}

impl TreeBuilder {
    fn cut(&mut self, dim: usize, loops: &Loops, node: impl Fn(DimId, u64) -> Node) {
        let trips = loops.factors[dim].unwrap_or(1).max(1);
        if trips == 1 {
            return;
        }
        // `complete` has made the factors of each dimension multiply to its size.
        self.tiles[dim] /= trips;
        self.nodes.push(node(DimId(dim as u32), self.tiles[dim]));
    }
}
