//! What a schedule rests on, in words.

use presil_hwmodels::Chip;
use presil_workloads::{Graph, MapOperator, Op, OpKind};

use super::residency::Residency;
use super::tails::Tails;
use crate::fusion::FusedGroup;

/// Facts that assumptions are made of.
pub(super) struct Facts {
    resident: Vec<String>,
    optimal: bool,
    reordered: bool,
    prefetch: bool,
    epilogues: bool,
    folded: bool,
    arrays: bool,
    cascades: Option<bool>,
}

pub(super) fn scene_facts(
    chip: &Chip,
    graph: &Graph,
    tails: &Tails,
    residency: &Residency,
    reordered: bool,
) -> Facts {
    let mut resident: Vec<String> = Vec::new();
    for home in &residency.home {
        let name = &chip.nodes[*home].name;
        if *home != chip.root() && !resident.contains(name) {
            resident.push(name.clone());
        }
    }
    let lanes = |op: &Op| matches!(&op.kind, OpKind::Cascade(e) if e.len() > 1 && e.iter().all(|e| matches!(e.map, MapOperator::Lanes(_))));
    Facts {
        resident,
        optimal: residency.optimal,
        reordered,
        prefetch: chip.mapspace.prefetch_weights,
        epilogues: tails
            .into
            .iter()
            .zip(&tails.folded)
            .any(|(into, folded)| into.is_some() && !folded),
        folded: tails.folded.contains(&true),
        arrays: graph.ops.iter().any(|op| op.contraction().is_some()),
        cascades: graph
            .ops
            .iter()
            .any(lanes)
            .then_some(chip.mapspace.fuse_cascades),
    }
}

pub(super) fn assumptions(facts: &Facts) -> Vec<String> {
    let mut list = Vec::new();
    if !facts.resident.is_empty() {
        let names = facts.resident.join(", ");
        list.push(format!(
            "tensors stay in {names} between ops where they fit: {} saves most of the cost of moving them",
            if facts.optimal { "no other choice" } else { "of the choices tried this one" }
        ));
    }
    if facts.reordered {
        list.push(
            "ops run in another order than the model's, in which less is alive at once".into(),
        );
    }
    if facts.prefetch {
        list.push(
            "weights of later ops are fetched in the idle time of the root memory, as far as the chip has room".into(),
        );
    }
    if facts.epilogues {
        list.push("elementwise ops behind a MAC op run in its epilogue: no memory pass of their own, lanes overlap with the array".into());
    }
    if facts.folded {
        list.push(
            "batch norms behind a MAC op are folded into its weights and bias, as deployment does: they take no time"
                .into(),
        );
    }
    if facts.arrays {
        list.push(
            "accumulators become stored outputs in the array's output stage, at no time of its own"
                .into(),
        );
    }
    match facts.cascades {
        Some(true) => list.push(
            "parts of softmax and norms stay in the vector unit's memory where a row fits".into(),
        ),
        Some(false) => list.push("each pass of softmax and norms goes through memory".into()),
        None => {}
    }
    list
}

/// What fused groups rest on.
pub(super) fn groups_in_words<'a>(
    chip: &Chip,
    groups: impl Iterator<Item = &'a FusedGroup>,
) -> Vec<String> {
    let groups: Vec<&FusedGroup> = groups.collect();
    if groups.is_empty() {
        return Vec::new();
    }
    let launch = match chip.mapspace.launch_groups_once {
        true => "each is launched once",
        false => "each op of each tile is launched",
    };
    let mut list = vec![format!(
        "fused groups run tile by tile, op after op, with what passes between their ops on chip; {launch}; under a \
         mask tiles are priced at their mean"
    )];
    if groups.iter().any(|g| !g.halo.is_empty()) {
        list.push(
            "rows that the windows of several tiles read are kept on chip, or made again and counted as work: whichever \
             is better"
                .into(),
        );
    }
    if groups.iter().any(|g| g.rewrite.is_some()) {
        list.push(
            "attention over tiles of keys uses the online softmax: running maximum and sum, outputs rescaled"
                .into(),
        );
    }
    list
}

/// How good mappings are known to be, from the share of each that a better one might save.
pub(super) fn proofs(mut gaps: Vec<f64>) -> Option<String> {
    gaps.sort_by(f64::total_cmp);
    let (all, proven) = (gaps.len(), gaps.iter().filter(|g| **g <= 0.0).count());
    let worst = gaps.last()?;
    let Some(median) = gaps.get(proven + (all - proven) / 2) else {
        return Some(format!(
            "all {all} mappings are proven to be the best of their space, on the analytic model"
        ));
    };
    Some(format!(
        "{proven} of {all} mappings are proven to be the best of their space, on the analytic model; of the \
         others, a better one could save at most {:.0} % (median) or {:.0} % (worst) of the objective of an op",
        100.0 * median,
        100.0 * worst
    ))
}
