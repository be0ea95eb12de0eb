//! Kernels of chips that run ops as grids of blocks.

use presil_numerics::{Bytes, IdVec};

use super::Context;
use super::engines::{engine_named, named};
use crate::chip::{
    Engine, EngineId, EngineKind, KernelParameters, KernelTile, Kernels, Node, NodeId, NodeKind,
};
use crate::decode::Sourced;
use crate::spec::{KernelTileSpec, KernelsSpec};

/// Exponent of dynamic power in the clock: 1 by the clock itself, the rest by the voltage that falls with it.
const POWER_EXPONENT: f64 = 2.5;

/// Resolves the section; `None` where there is none, or where it is wrong (the problems say so).
pub(super) fn resolve(
    cx: &mut Context<'_>,
    nodes: &IdVec<NodeId, Node>,
    engines: &IdVec<EngineId, Engine>,
) -> Option<Kernels> {
    let spec = cx.spec;
    let k = spec.kernels.as_ref()?;
    let array = engine_named(cx, engines, &k.array, "array", |e| {
        matches!(e, EngineKind::Array { .. })
    });
    let vector = engine_named(cx, engines, &k.vector, "vector engine", |e| {
        matches!(e, EngineKind::Vector { .. })
    });
    let multiprocessors = named(cx, nodes, &k.multiprocessors, "fanout", |n| {
        matches!(n.kind, NodeKind::Fanout(_))
    });
    let memory = |n: &Node| n.memory().is_some();
    let shared = named(cx, nodes, &k.shared, "memory", memory);
    let cache = named(cx, nodes, &k.cache, "memory", memory);
    let parameters = parameters(cx, k);
    let cache_copies = k
        .cache_copies
        .as_ref()
        .map_or(1, |c| cx.count("kernels.cache_copies", c).max(1));
    let accumulators = cx.positive("kernels.accumulators", &k.accumulators);
    let threads = cx.count("kernels.threads", &k.threads);
    let power_limit = k
        .power_limit
        .as_ref()
        .map(|p| cx.positive("kernels.power_limit", p));
    let power_exponent = match &k.power_exponent {
        Some(e) => at_least_one(cx, "kernels.power_exponent", e),
        None => POWER_EXPONENT,
    };
    if k.tile.is_empty() {
        cx.problems.at(
            &k.place,
            "the library has no matmul kernel",
            "add a [[kernels.tile]] with m, n, k and stages",
        );
    }
    let tiles = k.tile.iter().map(|t| tile(cx, t)).collect();
    Some(Kernels {
        array: array?,
        vector: vector?,
        multiprocessors: multiprocessors?,
        shared: shared?,
        cache: cache?,
        cache_copies,
        persistent: k.persistent.unwrap_or(false),
        accumulators,
        threads,
        parameters,
        power_limit,
        power_exponent,
        tiles,
    })
}

fn parameters(cx: &mut Context<'_>, k: &KernelsSpec) -> KernelParameters {
    KernelParameters {
        launch: cx.constant("kernels.launch", &k.launch),
        round_trip: cx.constant("kernels.round_trip", &k.round_trip),
        cache_efficiency: fraction(cx, "kernels.cache_efficiency", &k.cache_efficiency),
        issue_efficiency: fraction(cx, "kernels.issue_efficiency", &k.issue_efficiency),
        step_cycles: cx.constant("kernels.step_cycles", &k.step_cycles),
        score_operations: cx.constant("kernels.score_operations", &k.score_operations),
        block_round_trips: cx.constant("kernels.block_round_trips", &k.block_round_trips),
        mac_energy: cx.constant("kernels.mac_energy", &k.mac_energy),
    }
}

fn tile(cx: &mut Context<'_>, t: &KernelTileSpec) -> KernelTile {
    let k = cx.positive("kernels.tile.k", &t.k);
    if t.stages.value < 2 {
        cx.problems.at(
            &t.stages.place,
            "a kernel has at least two stages: one in use, one on its way",
            "write 2 or more",
        );
    }
    KernelTile {
        m: cx.count("kernels.tile.m", &t.m),
        n: cx.count("kernels.tile.n", &t.n),
        k: Bytes(k.0.max(1)),
        stages: cx.count("kernels.tile.stages", &t.stages).max(2),
        cluster: t
            .cluster
            .as_ref()
            .map_or(1, |c| cx.count("kernels.tile.cluster", c)),
    }
}

fn fraction(cx: &mut Context<'_>, path: &str, c: &Sourced<f64>) -> f64 {
    let value = cx.positive(path, c);
    if value > 1.0 {
        cx.problems
            .at(&c.place, "an efficiency is at most 1", "write 0.8 for 80 %");
    }
    value
}

fn at_least_one(cx: &mut Context<'_>, path: &str, c: &Sourced<f64>) -> f64 {
    let value = cx.constant(path, c);
    if value < 1.0 {
        let help = "write 1 where the voltage stays, up to 3 where it falls as the clock does";
        cx.problems
            .at(&c.place, format!("`{path}` is at least 1"), help);
    }
    value
}
