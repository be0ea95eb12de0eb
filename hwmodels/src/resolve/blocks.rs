//! The section `[blocks]`.

use presil_numerics::{Bytes, IdVec};

use super::Context;
use super::engines::{engine_named, named};
use crate::blocks::{BankedBuffer, Blocks, OutputKind};
use crate::chip::{Engine, EngineId, EngineKind, Node, NodeId};
use crate::decode::{At, Sourced};
use crate::spec::BlocksSpec;

/// The block engine that a section states.
pub(super) fn resolve(
    cx: &mut Context<'_>,
    b: &BlocksSpec,
    nodes: &IdVec<NodeId, Node>,
    engines: &IdVec<EngineId, Engine>,
) -> Option<Blocks> {
    let array = engine_named(cx, engines, &b.array, "array", |k| {
        matches!(k, EngineKind::Array { .. })
    });
    let vector = engine_named(cx, engines, &b.vector, "vector engine", |k| {
        matches!(k, EngineKind::Vector { .. })
    });
    let arena = match &b.arena {
        Some(name) => memory(cx, nodes, name),
        None => Some(NodeId(0)),
    };
    let staging = memory(cx, nodes, &b.staging);
    let count =
        |cx: &mut Context<'_>, key: &str, c: &Sourced<u64>| cx.count(&format!("blocks.{key}"), c);
    let micro = [
        count(cx, "micro_rows", &b.micro_rows),
        count(cx, "micro_columns", &b.micro_columns),
        count(cx, "micro_channels", &b.micro_channels),
    ];
    let most = [
        count(cx, "most_rows", &b.most_rows),
        count(cx, "most_columns", &b.most_columns),
        count(cx, "most_channels", &b.most_channels),
    ];
    let input_grain = count(cx, "input_grain", &b.input_grain);
    let buffer = BankedBuffer {
        banks: count(cx, "banks", &b.banks),
        bank: cx.positive("blocks.bank", &b.bank),
        reserved: cx.constant("blocks.reserved_banks", &b.reserved_banks),
        table: cx.constant("blocks.table_banks", &b.table_banks),
        input_grain: [
            input_grain,
            input_grain,
            count(cx, "wide_input_grain", &b.wide_input_grain),
        ],
        sum_grain: [
            count(cx, "sum_grain", &b.sum_grain),
            count(cx, "wide_sum_grain", &b.wide_sum_grain),
        ],
    };
    let hazard = cx.constant("blocks.hazard_cycles", &b.hazard_cycles);
    let wide_hazard = b
        .wide_hazard_cycles
        .as_ref()
        .map_or(hazard, |c| cx.constant("blocks.wide_hazard_cycles", c));
    let cores = b.cores.as_ref().map_or(1, |c| cx.count("blocks.cores", c));
    let output_cycles = output_cycles(cx, b);
    let function_table = b
        .function_table
        .as_ref()
        .map_or(Bytes(0), |c| cx.constant("blocks.function_table", c));
    let input_passes = b
        .input_passes
        .as_ref()
        .map(|c| cx.count("blocks.input_passes", c));
    Some(Blocks {
        function_table,
        input_passes,
        cascades: b.cascades.unwrap_or(false),
        cores,
        micro,
        input_channels: count(cx, "input_channels", &b.input_channels),
        taps: count(cx, "taps", &b.taps),
        step_cycles: count(cx, "step_cycles", &b.step_cycles),
        decode_cycles: cx.positive("blocks.decode_cycles", &b.decode_cycles),
        hazard_cycles: [hazard, wide_hazard],
        window: count(cx, "window", &b.window),
        most,
        brick: count(cx, "brick", &b.brick),
        input_bytes: [
            count(cx, "block_input_bytes", &b.block_input_bytes),
            count(cx, "packed_input_bytes", &b.packed_input_bytes),
        ],
        buffer,
        scale_bytes: cx.constant("blocks.scale_bytes", &b.scale_bytes),
        scale_request: count(cx, "scale_request", &b.scale_request),
        weight_ratio: b
            .weight_ratio
            .as_ref()
            .map_or(1.0, |c| cx.positive("blocks.weight_ratio", c)),
        command_share: cx.constant("blocks.command_share", &b.command_share),
        output_cycles,
        array: array?,
        vector: vector?,
        arena: arena?,
        staging: staging?,
    })
}

/// Cycles of an output by kind: every kind is named once.
fn output_cycles(cx: &mut Context<'_>, b: &BlocksSpec) -> [f64; 9] {
    for (key, _) in &b.output_cycles.0 {
        if !OutputKind::ALL.iter().any(|k| k.name() == key.value) {
            let known: Vec<String> = OutputKind::ALL.iter().map(|k| k.name().into()).collect();
            cx.unknown("kind of output", key, &known);
        }
    }
    OutputKind::ALL.map(|kind| {
        let stated = b
            .output_cycles
            .0
            .iter()
            .find(|(k, _)| k.value == kind.name());
        match stated {
            Some((_, c)) => cx.positive(&format!("blocks.output_cycles.{}", kind.name()), c),
            None => {
                let message = format!("`output_cycles` does not say `{}`", kind.name());
                let help = format!("add `{} = 1.0`, say", kind.name());
                cx.problems.at(&b.place, message, help);
                1.0
            }
        }
    })
}

fn memory(cx: &mut Context<'_>, nodes: &IdVec<NodeId, Node>, name: &At<String>) -> Option<NodeId> {
    named(cx, nodes, name, "memory", |n| n.memory().is_some())
}
