//! What zeros save, and the row-stationary dataflow.

use presil_numerics::{Coding, IdVec};

use super::{Context, node_named};
use crate::chip::{
    Compression, Gating, Node, NodeId, OperandSet, PassParameters, RowStationary,
    RowStationaryLayer,
};
use crate::decode::{At, Sourced};
use crate::document::Place;
use crate::spec::{
    CodeName, CompressionSpec, GatingSpec, RowStationaryLayerSpec, RowStationarySpec,
};

/// Most bits of a field of a code's word.
const MAX_BITS: u64 = 1024;

/// The code of a memory.
pub(super) fn compression(
    cx: &mut Context<'_>,
    name: &str,
    c: &CompressionSpec,
) -> Option<Compression> {
    let operands = OperandSet::of(&c.operands);
    let coding = match c.code.value {
        CodeName::Bitmask => Coding::Bitmask,
        CodeName::RunLength => {
            let mut bits = |key: &str, given: Option<&Sourced<u64>>| {
                let Some(given) = given else {
                    let help = format!("add `{key}`");
                    let message = "a run-length code needs the sizes of its fields";
                    cx.problems.at(&c.code.place, message, help);
                    return None;
                };
                let value = cx.count(&format!("{name}.compression.{key}"), given);
                if value > MAX_BITS {
                    let message = format!("`{key}` is at most {MAX_BITS}");
                    cx.problems.at(&given.place, message, "write fewer");
                }
                u32::try_from(value).ok()
            };
            let run_bits = bits("run_bits", c.run_bits.as_ref());
            let value_bits = bits("value_bits", c.value_bits.as_ref());
            let pairs = bits("pairs_per_word", c.pairs_per_word.as_ref());
            let word_bits = bits("word_bits", c.word_bits.as_ref());
            let coding = Coding::RunLength {
                run_bits: run_bits?,
                value_bits: value_bits?,
                tokens_per_word: pairs?,
                word_bits: word_bits?,
            };
            if u64::from(pairs?) * (u64::from(run_bits?) + u64::from(value_bits?))
                > u64::from(word_bits?)
            {
                let message = "the pairs of run and element are longer than the word";
                cx.problems
                    .at(&c.code.place, message, "make `word_bits` larger");
            }
            coding
        }
    };
    Some(Compression { coding, operands })
}

/// A gate.
pub(super) fn gating(cx: &mut Context<'_>, name: &str, g: &GatingSpec) -> Gating {
    let rest = g.rest.as_ref().map_or(0.0, |r| {
        if !(0.0..=1.0).contains(&r.value) {
            let help = "write 0.2 if a fifth of the energy is left";
            cx.problems
                .at(&r.place, "a share lies between 0 and 1", help);
        }
        cx.constant(&format!("{name}.gating.rest"), r)
    });
    Gating {
        by: OperandSet::of(&g.by),
        rest,
    }
}

/// Kept weights of a group.
pub(super) fn structured(cx: &mut Context<'_>, s: &At<Vec<u64>>) -> Option<(u64, u64)> {
    match s.value[..] {
        [kept, group] if 0 < kept && kept < group => Some((kept, group)),
        _ => {
            let help = "write [2, 4] where two of four weights are kept";
            cx.problems
                .at(&s.place, "structured sparsity is two numbers", help);
            None
        }
    }
}

/// The row-stationary dataflow.
pub(super) fn row_stationary(
    cx: &mut Context<'_>,
    nodes: &IdVec<NodeId, Node>,
    d: &RowStationarySpec,
) -> Option<RowStationary> {
    let path = |key: &str| format!("mapspace.row_stationary.{key}");
    let words_per_cycle = [
        ("input_words", &d.input_words),
        ("weight_words", &d.weight_words),
        ("output_words", &d.output_words),
    ]
    .map(|(key, words)| cx.positive(&path(key), words));
    let layers = d.layer.iter().map(|l| layer(cx, l)).collect();
    let buffer =
        node_named(nodes, &d.buffer.value).filter(|n| nodes[*n].memory().is_some_and(|_| n.0 > 0));
    let Some(buffer) = buffer else {
        let known: Vec<String> = cx
            .spec
            .memory
            .iter()
            .filter(|m| m.parent.is_some())
            .map(|m| m.name.value.clone())
            .collect();
        cx.unknown("memory on the chip", &d.buffer, &known);
        return None;
    };
    Some(RowStationary {
        buffer,
        words_per_cycle,
        layers,
    })
}

fn layer(cx: &mut Context<'_>, l: &RowStationaryLayerSpec) -> RowStationaryLayer {
    let name = format!(
        "mapspace.row_stationary.{}x{}",
        l.filter_rows.value, l.output_rows.value
    );
    let mut count = |key: &str, c: &Sourced<u64>| cx.count(&format!("{name}.{key}"), c);
    let parameters = PassParameters {
        m: count("m", &l.m),
        n: count("n", &l.n),
        e: count("e", &l.e),
        f: l.f.as_ref().map_or(u64::MAX, |f| count("f", f)),
        p: count("p", &l.p),
        q: count("q", &l.q),
        r: count("r", &l.r),
        t: count("t", &l.t),
    };
    let layer = RowStationaryLayer {
        filter_rows: count("filter_rows", &l.filter_rows),
        output_rows: count("output_rows", &l.output_rows),
        parameters,
    };
    if !whole_sets(&parameters) {
        let message = "the buffer holds whole sets of filters: `m` is a multiple of `p` x `t`";
        at(cx, &l.m.place, message);
    }
    layer
}

fn whole_sets(p: &PassParameters) -> bool {
    p.p.checked_mul(p.t)
        .is_some_and(|pt| pt > 0 && p.m.is_multiple_of(pt))
}

fn at(cx: &mut Context<'_>, place: &Place, message: &str) {
    cx.problems
        .at(place, message, "change one of the parameters");
}
