//! Whether the mappings found are of the space, and cost what is said.

use std::collections::BTreeMap;

use presil_numerics::ids::Id;

use super::model::{Axis, Model};
use super::obey::obeyed;
use super::view::{Dims, View, astray};
use super::{Refusal, near};
use crate::conventions::{Convention, evaluate};
use crate::looptree::{LoopTree, Node};
use crate::optimum::certificate::{Found, tree};

/// Whether the mappings found are legal, run as a chain and cost what is said.
pub(super) fn found(models: &[Model], dims: &Dims, found: &Found) -> Result<(), Refusal> {
    let wrong = |reason: String| Err(Refusal::Found(reason));
    if models.len() != found.mappings.len() {
        return wrong("is not one for each einsum".into());
    }
    let (mut energy, mut cycles) = (0.0, 0.0);
    let mut views = Vec::new();
    for (i, (model, lines)) in models.iter().zip(&found.mappings).enumerate() {
        let tree = tree(lines);
        if let Err(error) = tree.check(model.einsum, model.hierarchy) {
            return wrong(format!("is illegal: {error}"));
        }
        if let Some(reason) = breaks(model, &tree) {
            return wrong(reason);
        }
        match evaluate(Convention::AccelForge, model.einsum, model.hierarchy, &tree) {
            Ok(told) => {
                energy += told.energy_total();
                cycles += told.cycles;
            }
            Err(error) => return wrong(format!("cannot be told: {error}")),
        }
        views.push(dims.view(model, i, &tree));
    }
    if let Some(reason) = apart(models, dims, &views) {
        return wrong(reason.into());
    }
    let figure = models.first().map_or(0.0, |m| m.alone(energy, cycles));
    let right = near(energy, found.energy_pj) && near(cycles, found.cycles);
    if !right || !near(figure, found.figure) {
        return wrong(format!("takes {energy} pJ and {cycles} cycles"));
    }
    Ok(())
}

/// Why mappings of a chain do not run together.
fn apart(models: &[Model], dims: &Dims, views: &[View]) -> Option<&'static str> {
    let handed = |v: &[View]| v[0].handed[1] == v[1].handed[0];
    if !views.windows(2).all(handed) {
        return Some("hands over tiles that the next einsum does not take");
    }
    let mut first = 0;
    for end in 1..=views.len() {
        if views.get(end).is_some_and(|v| v.handed[0].is_some()) {
            continue;
        }
        let group: Vec<&View> = views[first..end].iter().collect();
        if !dims.fit(&models[first..], &group) && group.len() > 1 {
            return Some("does not fit together");
        }
        first = end;
    }
    None
}

/// What a legal tree breaks of the space.
fn breaks(model: &Model, tree: &LoopTree) -> Option<String> {
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
                let has = |a: &Axis| (a.level, a.axis) == (level, axis);
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
    let obeys = |(g, trips): (usize, &Vec<u64>)| model.obeys(g, trips);
    let least = model.groups.iter().flat_map(|g| &g.axes);
    let mut used = least.map(|a| axes.get(&(a.level, a.axis)).copied().unwrap_or(1) >= a.least);
    if !fans.iter().enumerate().all(obeys) || used.any(|u| !u) || !obeyed(model, tree) {
        return Some("does not obey the constraints".into());
    }
    astray(model, tree).map(String::from)
}
