//! Fused groups by names, with what they save.

use presil_hwmodels::Chip;
use presil_mapper::schedule::Schedule;
use presil_workloads::{Graph, TensorId};

use crate::run::{GroupRun, OpRun, Phase};

/// The groups of a schedule; `fused` and `plain`: the pass with and without them.
pub(super) fn groups(
    graph: &Graph,
    chip: &Chip,
    schedule: &Schedule,
    fused: &Phase,
    plain: &Phase,
) -> Vec<GroupRun> {
    let root = &chip.nodes[chip.root()].name;
    let tensor = |t: TensorId| graph.tensors[t].name.clone();
    let list = schedule.groups.iter().map(|g| {
        let saved = |figure: &dyn Fn(&OpRun) -> f64| -> f64 {
            let sum = |p: &Phase| {
                let ops = g.ops.iter().filter_map(|o| p.ops.get(o.0 as usize));
                ops.map(figure).sum::<f64>()
            };
            sum(plain) - sum(fused)
        };
        let named = |list: &[(TensorId, presil_numerics::Bytes)]| {
            list.iter().map(|(t, b)| (tensor(*t), b.0)).collect()
        };
        let root_bytes = |o: &OpRun| -> f64 {
            let own = o.traffic.iter().filter(|t| t.memory == *root);
            own.map(|t| t.read_bytes + t.write_bytes).sum()
        };
        GroupRun {
            ops: g.ops.iter().map(|o| graph.ops[*o].name.clone()).collect(),
            repeat: g.ops.first().map_or(1, |o| graph.repeat_of(*o)),
            memory: chip.nodes[g.memory].name.clone(),
            loops: g
                .loops
                .iter()
                .map(|l| (l.dim.clone(), l.trips, l.tile))
                .collect(),
            iterations: g.iterations,
            held: named(&g.held),
            tiles: named(&g.tiles),
            halo: g
                .halo
                .iter()
                .map(|h| (h.dim.clone(), h.rows, h.kept))
                .collect(),
            rewrite: g.rewrite.map(str::to_string),
            saved_s: saved(&|o| o.time.total_s),
            saved_j: saved(&|o| o.energy.iter().map(|e| e.energy_j).sum()),
            saved_root_bytes: saved(&root_bytes),
        }
    });
    list.collect()
}
