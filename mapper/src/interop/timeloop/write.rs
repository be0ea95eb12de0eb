//! Writes a loop tree as Timeloop's mapping.
//!
//! Every level gets its directives: temporal, spatial where there is a fanout (loops along X first, `split` of
//! them), and what it keeps. Targets have the names that Timeloop itself writes into its mappings:
//! `inter_PE_spatial` for the fanout in front of a v4 node `PE`, the memory above for a fanout of v3.

use std::fmt::Write;

use presil_numerics::ids::Id;
use presil_workloads::Einsum;
use thiserror::Error;

use crate::hierarchy::{Hierarchy, Level, operand_count};
use crate::looptree::{LoopTree, LoopTreeError, Node};

/// Why a loop tree is no mapping of Timeloop's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WriteError {
    /// It is no mapping at all.
    #[error(transparent)]
    Mapping(#[from] LoopTreeError),
    /// Something that Timeloop cannot say.
    #[error("Timeloop cannot say this mapping: {0}")]
    Beyond(String),
}

/// Loops and kept operands of one target.
struct Block {
    target: String,
    /// The memory, if it is one.
    memory: Option<usize>,
    /// Whether it takes spatial loops.
    fanout: bool,
    keeps: Vec<usize>,
    /// Dimension and iterations, outermost first.
    temporal: Vec<(usize, u64)>,
    /// Axis X (false) or Y (true), dimension, iterations.
    spatial: Vec<(bool, usize, u64)>,
}

/// A mapping as Timeloop YAML (`mapping:` and its directives, v3 and v4), with the given names of operands.
///
/// # Errors
/// If the tree is no mapping, or keeps operands of one memory at different places of the nest, has a dimension
/// twice among the loops of a level, or imperfect factors.
pub fn write_mapping(
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    tree: &LoopTree,
    operands: &[String],
) -> Result<String, WriteError> {
    tree.check(einsum, hierarchy)?;
    let mut blocks = empty_blocks(hierarchy);
    let mut tiles: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    // The block that takes the next loop; it only moves inwards.
    let mut at = 0;
    for node in &tree.nodes {
        let mut trips = 0;
        if let Some((dim, tile)) = node.cut() {
            let outer = std::mem::replace(&mut tiles[dim.index()], tile);
            if outer % tile != 0 {
                let name = &einsum.dim(dim).name;
                return Err(WriteError::Beyond(format!(
                    "{tile} does not divide {outer} of `{name}`"
                )));
            }
            trips = outer / tile;
            if trips == 1 {
                continue;
            }
        }
        match *node {
            Node::Keep { level, operand } => {
                let block = blocks
                    .iter()
                    .position(|b| b.memory == Some(level))
                    .unwrap_or(at);
                let block_has_loops = blocks[block..=at.max(block)]
                    .iter()
                    .any(|b| !b.temporal.is_empty() || !b.spatial.is_empty());
                if block <= at && block_has_loops {
                    return Err(WriteError::Beyond(format!(
                        "`{}` keeps operands at different places of the nest",
                        blocks[block].target
                    )));
                }
                at = at.max(block);
                blocks[block].keeps.push(operand);
            }
            Node::Temporal { dim, .. } => {
                if !blocks[at].spatial.is_empty() {
                    at += 1;
                }
                let Some(block) = blocks.get_mut(at) else {
                    return Err(WriteError::Beyond(
                        "no memory takes the loops below the last fanout".into(),
                    ));
                };
                block.temporal.push((dim.index(), trips));
            }
            Node::Spatial {
                level, axis, dim, ..
            } => {
                let target = fanout_target(hierarchy, level);
                let Some(block) = blocks.iter().position(|b| b.target == target) else {
                    return Err(WriteError::Beyond(format!("there is no target `{target}`")));
                };
                at = at.max(block);
                let axes = hierarchy.levels[level].fanout().map(|f| &f.axes[..]);
                let rows = axes
                    .and_then(|a| a.get(axis))
                    .is_some_and(|a| a.name == "Y");
                blocks[block].spatial.push((rows, dim.index(), trips));
            }
        }
    }
    print(einsum, operands, &blocks)
}

/// The name that takes a fanout's loops: of the memory above it, if the fanout is called after that.
fn fanout_target(hierarchy: &Hierarchy, level: usize) -> String {
    let name = hierarchy.levels[level].name();
    let above = level.checked_sub(1).map(|l| hierarchy.levels[l].name());
    match (name.strip_suffix(".fanout"), above) {
        (Some(memory), Some(above)) if memory == above => memory.into(),
        _ => name.into(),
    }
}

fn empty_blocks(hierarchy: &Hierarchy) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (level, l) in hierarchy.levels.iter().enumerate() {
        let target = match l {
            Level::Memory(m) => m.name.clone(),
            Level::Fanout(_) => fanout_target(hierarchy, level),
            Level::Compute(_) => continue,
        };
        let fanout = l.fanout().is_some();
        if let Some(memory) = blocks.last_mut().filter(|b| b.target == target) {
            memory.fanout = fanout;
            continue;
        }
        blocks.push(Block {
            target,
            memory: l.memory().map(|_| level),
            fanout,
            keeps: Vec::new(),
            temporal: Vec::new(),
            spatial: Vec::new(),
        });
    }
    blocks
}

fn print(einsum: &Einsum, operands: &[String], blocks: &[Block]) -> Result<String, WriteError> {
    let mut text = String::from("mapping:\n");
    for block in blocks {
        let inner_first: Vec<(usize, u64)> = block.temporal.iter().rev().copied().collect();
        directive(&mut text, einsum, block, "temporal", &inner_first)?;
        text.push('\n');
        if block.fanout {
            let along = |rows: bool| {
                let loops = block.spatial.iter().rev().filter(move |(r, ..)| *r == rows);
                loops.map(|(_, d, n)| (*d, *n))
            };
            let mut loops: Vec<(usize, u64)> = along(false).collect();
            let split = loops.len();
            loops.extend(along(true));
            directive(&mut text, einsum, block, "spatial", &loops)?;
            let _ = writeln!(text, "  split: {split}");
        }
        let names = |kept: bool| -> String {
            let of = (0..operand_count(einsum)).filter(|o| block.keeps.contains(o) == kept);
            let names = of.map(|o| quoted(operands.get(o).map_or("?", String::as_str)));
            names.collect::<Vec<_>>().join(", ")
        };
        let _ = writeln!(
            text,
            "- target: {}\n  type: bypass\n  keep: [{}]\n  bypass: [{}]",
            quoted(&block.target),
            names(true),
            names(false)
        );
    }
    Ok(text)
}

/// A directive whose loops stand innermost first; dimensions without a loop follow.
fn directive(
    text: &mut String,
    einsum: &Einsum,
    block: &Block,
    kind: &str,
    loops: &[(usize, u64)],
) -> Result<(), WriteError> {
    let mut order: Vec<usize> = Vec::new();
    for (dim, _) in loops {
        if order.contains(dim) {
            return Err(WriteError::Beyond(format!(
                "`{}` has two {kind} loops of `{}`",
                block.target, einsum.dims[*dim].name
            )));
        }
        order.push(*dim);
    }
    order.extend((0..einsum.dims.len()).filter(|d| !loops.iter().any(|(l, _)| l == d)));
    let trips = |dim: usize| loops.iter().find(|(d, _)| *d == dim).map_or(1, |(_, n)| *n);
    let factors = einsum
        .dims
        .iter()
        .enumerate()
        .map(|(i, d)| format!("{}={}", d.name, trips(i)));
    let names: Vec<&str> = order
        .iter()
        .map(|d| einsum.dims[*d].name.as_str())
        .collect();
    let letters = names.iter().all(|n| n.chars().count() == 1);
    let permutation = if letters {
        // Quoted: a lone `N` or `Y` is a truth value to some readers.
        format!("\"{}\"", names.concat())
    } else {
        format!("[{}]", names.join(", "))
    };
    let _ = write!(
        text,
        "- target: {}\n  type: {kind}\n  factors: {}\n  permutation: {permutation}{}",
        quoted(&block.target),
        factors.collect::<Vec<_>>().join(" "),
        if kind == "spatial" { "\n" } else { "" }
    );
    Ok(())
}

/// A name as YAML takes it.
fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
        && !matches!(
            name.to_ascii_lowercase().as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
        );
    if plain {
        name.into()
    } else {
        format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
    }
}
