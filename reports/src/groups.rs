//! Fused groups, for JSON and for readers.

use presil_sim::run::{GroupRun, Phase};
use serde_json::{Value, json};

use crate::text;

/// The groups of a phase.
pub(crate) fn groups_json(phase: &Phase) -> Value {
    phase.groups.iter().map(group_json).collect()
}

fn group_json(g: &GroupRun) -> Value {
    let tensors = |list: &[(String, u64)]| -> Value {
        list.iter()
            .map(|(name, bytes)| json!({"tensor": name, "tile_bytes": bytes}))
            .collect()
    };
    let loops = g
        .loops
        .iter()
        .map(|(dim, trips, tile)| json!({"dim": dim, "trips": trips, "tile": tile}));
    let halo = g
        .halo
        .iter()
        .map(|(dim, rows, kept)| json!({"dim": dim, "rows": rows, "kept": kept}));
    json!({
        "ops": g.ops,
        "repeat": g.repeat,
        "memory": g.memory,
        "loops": loops.collect::<Value>(),
        "iterations": g.iterations,
        "held": tensors(&g.held),
        "tiles": tensors(&g.tiles),
        "halo": halo.collect::<Value>(),
        "rewrite": g.rewrite,
        "saved_latency_s": g.saved_s,
        "saved_energy_j": g.saved_j,
        "saved_dram_bytes": g.saved_root_bytes,
    })
}

/// One line a group: its ops, its loops, what it saves.
pub(crate) fn lines(phase: &Phase) -> Vec<String> {
    phase.groups.iter().map(line).collect()
}

/// Ops of a group that are all named.
const SHOWN: usize = 4;

/// The end of an op's name that tells what it is: its last part, with the one before where that is a number.
fn short(name: &str) -> String {
    let plain = text::plain(name);
    let mut dots = plain.rmatch_indices('.').map(|d| d.0 + 1);
    let is_number = |from: usize| plain[from..].bytes().all(|b| b.is_ascii_digit());
    match dots.next() {
        Some(at) if is_number(at) => plain[dots.next().unwrap_or(0)..].to_string(),
        at => plain[at.unwrap_or(0)..].to_string(),
    }
}

fn line(g: &GroupRun) -> String {
    let ops = match g.ops.as_slice() {
        [first, .., last] if g.ops.len() > SHOWN => {
            format!("{} .. {} ({} ops)", short(first), short(last), g.ops.len())
        }
        all => all.iter().map(|o| short(o)).collect::<Vec<_>>().join(" + "),
    };
    let loops: Vec<String> = g
        .loops
        .iter()
        .map(|(dim, trips, tile)| format!("{dim} {trips} x {tile}"))
        .collect();
    let halo = |(dim, rows, kept): &(String, u64, bool)| {
        let how = if *kept { "kept" } else { "made again" };
        format!(", {rows} {dim} of overlap {how}")
    };
    let halo: String = g.halo.iter().map(halo).collect();
    let rewrite = g
        .rewrite
        .as_ref()
        .map_or(String::new(), |r| format!(", {r}"));
    let saved = |x: f64, shown: String| match x < 0.0 {
        true => format!("-{shown}"),
        false => shown,
    };
    format!(
        "{} over {} in {}{halo}{rewrite}: saves {}, {}, {} of traffic",
        ops,
        loops.join(", "),
        text::plain(&g.memory),
        saved(g.saved_s, text::seconds(g.saved_s.abs())),
        saved(g.saved_j, text::joules(g.saved_j.abs())),
        saved(g.saved_root_bytes, text::bytes(g.saved_root_bytes.abs())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_groups_are_told_by_their_ends() {
        let ops = ["features.0", "features.2", "pool", "features.5", "l.1.relu"];
        let group = GroupRun {
            ops: ops.map(String::from).to_vec(),
            repeat: 1,
            memory: "sram".into(),
            loops: vec![("p".into(), 8, 28)],
            iterations: 8,
            held: Vec::new(),
            tiles: Vec::new(),
            halo: Vec::new(),
            rewrite: None,
            saved_s: 1e-3,
            saved_j: 1e-3,
            saved_root_bytes: 1024.0,
        };
        let told = line(&group);
        assert!(
            told.starts_with("features.0 .. relu (5 ops) over p 8 x 28 in sram: "),
            "{told}"
        );
    }

    #[test]
    fn a_group_is_told_with_what_it_saves() {
        let group = GroupRun {
            ops: vec!["l.0.scores".into(), "l.0.softmax".into()],
            repeat: 2,
            memory: "sram".into(),
            loops: vec![("g".into(), 8, 1), ("m".into(), 12, 171)],
            iterations: 96,
            held: vec![("v".into(), 4096)],
            tiles: vec![("l.0.scores".into(), 1024)],
            halo: vec![("m".into(), 2, true), ("p".into(), 4, false)],
            rewrite: Some("online softmax".into()),
            saved_s: 2e-3,
            saved_j: -3e-3,
            saved_root_bytes: 2048.0,
        };
        let phase = Phase {
            groups: vec![group],
            ..Phase::default()
        };
        assert_eq!(
            lines(&phase),
            [
                "scores + softmax over g 8 x 1, m 12 x 171 in sram, 2 m of overlap kept, 4 p of overlap made again, online softmax: saves 2 ms, -3 mJ, 2 KiB of traffic"
            ]
        );
        let json = groups_json(&phase);
        assert_eq!(json[0]["loops"][1]["tile"], 171);
        assert_eq!(json[0]["held"][0]["tile_bytes"], 4096);
        assert_eq!(
            json[0]["halo"][0],
            json!({"dim": "m", "rows": 2, "kept": true})
        );
        assert_eq!(json[0]["saved_dram_bytes"], 2048.0);
    }
}
