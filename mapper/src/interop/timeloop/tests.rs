#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::reference::{compare, id_of, read_case};
use super::{read, write_mapping};
use presil_hwmodels::Overlap;

use crate::case::CaseEinsum;
use crate::conventions::{Convention, evaluate};
use crate::hierarchy::{Level, Mask, MemoryLevel};
use crate::looptree::Node;
use crate::search::Objective;

fn fixed_cases() -> Vec<Json> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/mapping/timeloop_fixed.json");
    let text = std::fs::read_to_string(path).unwrap();
    let json: Json = serde_json::from_str(&text).unwrap();
    json["cases"].as_array().unwrap().clone()
}

#[test]
fn every_figure_of_the_fixed_mappings_is_equal() {
    let cases = fixed_cases();
    assert_eq!(cases.len(), 31);
    for case in &cases {
        let comparison = compare(case).unwrap();
        assert_eq!(comparison.differences, [], "{}", comparison.id);
        // Three memories with three tensors each: nothing was passed over for want of its label.
        assert!(
            comparison.figures > 170,
            "{}: {}",
            comparison.id,
            comparison.figures
        );
    }
}

#[test]
fn a_changed_figure_is_told() {
    let mut case = fixed_cases().remove(0);
    let tensor = &mut case["stats"]["levels"][2]["tensors"]["A"];
    tensor["Scalar fills (per-instance)"] = json!(2049);
    tensor["Energy (total)"] = json!(26624.02);
    let figures: Vec<String> = compare(&case)
        .unwrap()
        .differences
        .into_iter()
        .map(|d| d.figure)
        .collect();
    assert_eq!(
        figures,
        [
            "GLB / A / Scalar fills (per-instance)",
            "GLB / A / Energy (total)"
        ]
    );
}

/// A reference case as the YAML set that it came from (JSON is YAML), energies as Accelergy writes them.
fn as_set(case: &Json) -> (String, String, String) {
    let tables: Vec<Json> = case["energy_reference_table_pJ"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, actions)| {
            let actions: Vec<Json> = actions
                .as_object()
                .unwrap()
                .iter()
                .map(|(action, energy)| json!({"name": action, "arguments": {}, "energy": energy}))
                .collect();
            json!({"name": name, "actions": actions})
        })
        .collect();
    let text = |v: Json| serde_json::to_string_pretty(&v).unwrap();
    (
        text(
            json!({"architecture": case["architecture"], "ERT": {"version": 0.3, "tables": tables}}),
        ),
        text(json!({"problem": case["problem"]})),
        text(json!({"mapping": case["mapping"]})),
    )
}

#[test]
fn a_set_reads_as_its_reference_case_in_any_order() {
    for case in fixed_cases() {
        let (arch, problem, mapping) = as_set(&case);
        let set = [
            ("map.yaml", &mapping[..]),
            ("arch.yaml", &arch),
            ("prob.yaml", &problem),
        ];
        let reading = read(&set).unwrap();
        assert_eq!(reading.case, read_case(&case).unwrap(), "{}", id_of(&case));
        assert_eq!(reading.notes, Vec::<String>::new());
    }
}

#[test]
fn the_printed_loop_nest_says_the_same_as_the_directives() {
    for mut case in fixed_cases() {
        let directives = read_case(&case).unwrap();
        case["mapping"] = json!([]);
        assert_eq!(read_case(&case).unwrap(), directives, "{}", id_of(&case));
    }
}

#[test]
fn a_written_mapping_reads_back() {
    for case in fixed_cases() {
        let read_in = read_case(&case).unwrap();
        let of = &read_in.einsums[0];
        let tree = of.mapping.as_ref().unwrap();
        let text =
            write_mapping(&of.einsum, &of.hierarchy, tree, &read_in.operand_names(0)).unwrap();
        let (arch, problem, _) = as_set(&case);
        let again = read(&[("a", &arch), ("p", &problem), ("m", &text)]).unwrap();
        assert_eq!(
            again.case.einsums[0].mapping.as_ref(),
            Some(tree),
            "{}\n{text}",
            id_of(&case)
        );
    }
}

const V4: &str = r#"
# A row-stationary array in the form of version 4.
architecture:
  version: 0.4
  nodes:
  - !Container
    name: system
    attributes: &common {technology: "32nm", global_cycle_seconds: 2e-9, datawidth: 8}
  - !Component
    name: DRAM
    class: DRAM
    attributes: {<<: *common, width: 64}
    constraints: {dataspace: {keep: [Weights, Inputs, Outputs]}}
  - !Component
    name: glb
    class: smartbuffer_SRAM
    attributes: {width: 64, depth: 1024, read_bandwidth: 16, write_bandwidth: 8, shared_bandwidth: 20, multiple_buffering: 2}
    constraints:
      dataspace: {bypass: [Weights]}
      temporal: {factors: R=1 C=1, permutation: PM}
  - !Container
    name: column
    spatial: {meshX: 4}
  - !Container
    name: PE
    spatial: {meshY: 3}
    constraints: {spatial: {permutation: [C, M, R, P], split: 0, factors: [R=3]}}
  - !Component
    name: spad
    class: regfile
    attributes: {width: 16, depth: 8, datawidth: 16, cluster_size: 1}
    constraints: {dataspace: {keep: [Outputs], bypass: [Inputs, Weights]}}
  - !Component
    name: mac
    class: intmac
"#;

const PROBLEM: &str = r#"
problem:
  version: 0.4
  shape:
    name: conv1d
    dimensions: [C, M, R, P]
    coefficients: [{name: Stride, default: 1}, {name: Dilation, default: 1}]
    data_spaces:
    - {name: Weights, projection: [[[C]], [[M]], [[R]]]}
    - {name: Inputs, projection: [[[C]], [[R, Dilation], [P, Stride]]]}
    - {name: Outputs, projection: [[[M]], [[P]]], read_write: True}
  instance: {C: 4, M: 8, R: 3, P: 6, Stride: 2, densities: {Weights: 1.0}}
"#;

const ENERGIES: &str = r#"
ERT:
  version: '0.4'
  tables:
  - {name: "system.DRAM[1..1]", actions: [{name: read, energy: 512}, {name: write, energy: 480}, {name: update, energy: 500}]}
  - name: system.glb[1..1]
    actions:
    - {name: read, arguments: {data_delta: 0}, energy: 1}
    - {name: read, arguments: {data_delta: 1}, energy: 16}
    - {name: write, energy: 8}
    - {name: leak, energy: 0.5}
  - {name: "system.column[0..3].PE[0..2].spad[1..12]", actions: [{name: read, energy: 0.16}, {name: write, energy: 0.32}, {name: update, energy: 0.48}]}
  - {name: "system.mac[1..12]", actions: [{name: compute, energy: 0.75}]}
"#;

const MAPPING: &str = r#"
mapping:
- {target: DRAM, type: temporal, factors: C=0 M=1 R=1 P=1, permutation: CMRP}
- {target: glb, type: temporal, factors: [P=3, M=2], permutation: [P, M]}
- {target: glb, type: dataspace, bypass: [Weights]}
- {target: column, type: spatial, factors: M4}
- {target: inter_PE_spatial, type: spatial, factors: R=3}
- {target: spad, type: temporal, factors: P=2}
- {target: spad, type: bypass, keep: [Outputs], bypass: [Inputs, Weights]}
mapper: {optimization_metrics: [energy, delay]}
"#;

#[test]
fn a_v4_set_is_read_whole() {
    let set = [
        ("map", MAPPING),
        ("arch", V4),
        ("prob", PROBLEM),
        ("ert", ENERGIES),
    ];
    let reading = read(&set).unwrap();
    let of = &reading.case.einsums[0];
    let names: Vec<&str> = of.hierarchy.levels.iter().map(Level::name).collect();
    assert_eq!(
        names,
        [
            "DRAM",
            "glb",
            "inter_column_spatial",
            "inter_PE_spatial",
            "spad",
            "mac"
        ]
    );
    assert_eq!(of.hierarchy.name, "system");
    assert!((reading.case.clock_hz.unwrap() - 5e8).abs() < 1.0);
    assert_eq!(reading.case.objective, Objective::Energy);
    assert_eq!(reading.case.tensors[1].extents, [4, 13]);

    let dram = of.hierarchy.levels[0].memory().unwrap();
    assert_eq!(
        (dram.capacity, dram.block, dram.bits[0]),
        (f64::INFINITY, 8, 8.0)
    );
    assert_eq!(
        (dram.read_energy, dram.write_energy, dram.update_energy),
        (8.0, 7.5, 500.0 / 64.0)
    );
    assert_eq!(dram.must_keep, Mask(0b111));
    let glb = of.hierarchy.levels[1].memory().unwrap();
    // 1024 accesses of 8 words of 8 bits; the largest energy over the arguments counts.
    assert_eq!((glb.capacity, glb.buffering, glb.block), (65536.0, 2.0, 8));
    assert_eq!(
        (
            glb.read_energy,
            glb.write_energy,
            glb.update_energy,
            glb.leakage
        ),
        (0.25, 0.125, 0.125, 0.5)
    );
    let rates: Vec<(f64, f64)> = glb
        .ports
        .iter()
        .map(|p| (p.read_rate, p.write_rate))
        .collect();
    assert_eq!(
        rates,
        [
            (128.0, f64::INFINITY),
            (f64::INFINITY, 64.0),
            (160.0, 160.0)
        ]
    );
    assert_eq!(glb.keeps, Mask(0b110));
    let spad = of.hierarchy.levels[4].memory().unwrap();
    assert_eq!((spad.bits[0], spad.block, spad.capacity), (16.0, 1, 128.0));
    assert_eq!(of.hierarchy.compute().unwrap().energy, 0.75);

    let pe = of.hierarchy.levels[3].fanout().unwrap();
    assert_eq!(
        (pe.axes.len(), &pe.axes[0].name[..], pe.axes[0].size),
        (1, "Y", 3)
    );
    assert_eq!(pe.axes[0].accepts, Mask(0b1111));
    let limits = &of.constraints.levels;
    let at = |level: usize| limits.iter().find(|l| l.level == level).unwrap();
    assert_eq!(at(1).forbidden, Mask(0b0101));
    assert_eq!(at(1).order, [3, 1]);
    assert_eq!(at(3).trips, [(2, 3)]);

    let tree = of.mapping.as_ref().unwrap();
    let loops: Vec<u64> = tree
        .nodes
        .iter()
        .filter_map(Node::cut)
        .map(|(_, tile)| tile)
        .collect();
    assert_eq!(loops, [1, 4, 2, 1, 1, 1]);
    let result = evaluate(Convention::Timeloop, &of.einsum, &of.hierarchy, tree).unwrap();
    assert_eq!(result.operations, 4.0 * 8.0 * 3.0 * 6.0);
    assert_eq!(result.cycles, 4.0 * 6.0 * 2.0);
    // By hand: outputs are updated in the spads at every operation, added over the three rows on the way up.
    let outputs = result.at(4, 2).unwrap();
    assert_eq!((outputs.instances, outputs.updates), (12.0, 576.0));
    assert_eq!(result.at(1, 2).unwrap().updates, 4.0 * 48.0);
}

#[test]
fn the_written_v4_mapping_reads_back() {
    let set = [("m", MAPPING), ("a", V4), ("p", PROBLEM), ("e", ENERGIES)];
    let case = read(&set).unwrap().case;
    let of = &case.einsums[0];
    let tree = of.mapping.as_ref().unwrap();
    let text = write_mapping(&of.einsum, &of.hierarchy, tree, &case.operand_names(0)).unwrap();
    let again = read(&[("m", &text), ("a", V4), ("p", PROBLEM), ("e", ENERGIES)]).unwrap();
    assert_eq!(again.case.einsums[0].mapping.as_ref(), Some(tree), "{text}");
}

#[test]
fn without_energies_the_reading_says_so() {
    let reading = read(&[("m", MAPPING), ("a", V4), ("p", PROBLEM)]).unwrap();
    assert_eq!(
        reading.notes,
        ["no ERT is given: energies of memories and compute units are 0"]
    );
    assert_eq!(
        reading.case.einsums[0].hierarchy.levels[0]
            .memory()
            .unwrap()
            .read_energy,
        0.0
    );
}

const V3_MESH: &str = r#"
architecture:
  version: 0.3
  subtree:
  - name: system
    attributes: {technology: 45nm}
    local:
    - {name: DRAM, class: DRAM, attributes: {width: 64, block-size: 4, word-bits: 16}}
    subtree:
    - name: chip
      local:
      - {name: buffer, class: SRAM, attributes: {sizeKB: 8, word-bits: 16, block-size: 2, width: 64}}
      subtree:
      - name: PE[0..11]
        local:
        - {name: "rf[0..1]", class: regfile, attributes: {entries: 32, meshX: 6}}
        - {name: "mac[0..1]", class: intmac, attributes: {meshX: 6}}
"#;

#[test]
fn ranges_and_meshes_of_v3_make_fanouts() {
    let case = read(&[("a", V3_MESH), ("p", PROBLEM)]).unwrap().case;
    let levels = &case.einsums[0].hierarchy.levels;
    let names: Vec<&str> = levels.iter().map(Level::name).collect();
    assert_eq!(names, ["DRAM", "buffer", "buffer.fanout", "rf", "mac"]);
    let axes: Vec<(&str, u64)> = levels[2]
        .fanout()
        .unwrap()
        .axes
        .iter()
        .map(|a| (&a.name[..], a.size))
        .collect();
    assert_eq!(axes, [("X", 6), ("Y", 4)]);
    let buffer = levels[1].memory().unwrap();
    assert_eq!(
        (buffer.block, buffer.cluster, buffer.capacity),
        (2, 2, 65536.0)
    );
    assert_eq!(case.einsums[0].mapping, None);
}

#[test]
fn levels_may_be_numbered_from_the_innermost() {
    let mapping = "mapping:\n- {target: 2, type: temporal, factors: C=4 P=6 M=2}\n- {target: 1, type: spatial, factors: M=4}\n- {target: 0, type: temporal, factors: R=3}";
    let case = read(&[("a", V3_MESH), ("p", PROBLEM), ("m", mapping)]).unwrap_err();
    // Level 1 is the buffer, whose instances lie along X and Y.
    assert!(case.reason.contains("`buffer`: give a `split`"), "{case}");
    let none = mapping.replace("target: 2", "target: 3");
    let error = read(&[("a", V3_MESH), ("p", PROBLEM), ("m", &none)]).unwrap_err();
    assert!(error.reason.contains("no level `3`"), "{error}");
}

/// A convolution with channels, filters and rows in space.
fn shared_case() -> CaseEinsum {
    let case = &fixed_cases()[4];
    assert_eq!(id_of(case), "tl07");
    read_case(case).unwrap().einsums.remove(0)
}

fn timeloop_error(of: &CaseEinsum) -> String {
    let tree = of.mapping.as_ref().unwrap();
    evaluate(Convention::Timeloop, &of.einsum, &of.hierarchy, tree)
        .unwrap_err()
        .to_string()
}

#[test]
fn without_sharing_each_instance_is_served_by_a_read_of_its_own() {
    let mut of = shared_case();
    let tree = of.mapping.clone().unwrap();
    let run =
        |of: &CaseEinsum| evaluate(Convention::Timeloop, &of.einsum, &of.hierarchy, &tree).unwrap();
    let (glb, rf, weights) = (1, 3, 0);
    let shared = run(&of);
    let Level::Fanout(fanout) = &mut of.hierarchy.levels[2] else {
        panic!("no fanout")
    };
    fanout.axes[0].shares = Mask::NONE;
    let alone = run(&of);
    // C=2, M=4 and P=2 lie in space: two PEs, along P, need the same weights.
    assert_eq!(
        alone.at(glb, weights).unwrap().reads,
        2.0 * shared.at(glb, weights).unwrap().reads
    );
    assert_eq!(
        alone.at(rf, weights).unwrap().fills,
        shared.at(rf, weights).unwrap().fills
    );
}

#[test]
fn rows_lie_across_columns_in_whichever_order_their_loops_stand() {
    let problem = PROBLEM.replace("Stride: 2", "Stride: 1");
    let mapping = "mapping:\n- {target: DRAM, type: temporal, factors: C=4 R=3 P=3, permutation: RCP}\n- {target: buffer, type: spatial, factors: M=4 P=2, permutation: PM, split: 1}\n- {target: rf, type: temporal, factors: M=2}";
    let case = read(&[("a", V3_MESH), ("p", &problem), ("m", mapping)])
        .unwrap()
        .case;
    let of = &case.einsums[0];
    let tree = of.mapping.clone().unwrap();
    let mut turned = tree.clone();
    let spatial = |n: &Node| matches!(n, Node::Spatial { .. });
    let first = turned.nodes.iter().position(spatial).unwrap();
    turned.nodes.swap(first, first + 1);
    assert_ne!(tree, turned);
    let run = |tree| evaluate(Convention::Timeloop, &of.einsum, &of.hierarchy, tree).unwrap();
    let result = run(&tree);
    // The window slides towards the next column, which had the inputs a step ago and hands them on.
    assert!(result.at(3, 1).unwrap().reads > result.operations);
    assert_eq!(result, run(&turned));
}

#[test]
fn what_timeloop_cannot_hold_or_say_is_told() {
    let memory = |of: &mut CaseEinsum, change: &dyn Fn(&mut MemoryLevel)| {
        if let Level::Memory(m) = &mut of.hierarchy.levels[1] {
            change(m);
        }
    };
    let mut of = shared_case();
    memory(&mut of, &|m| m.buffering = 1e4);
    assert!(
        timeloop_error(&of).contains("memory `GLB` needs"),
        "{}",
        timeloop_error(&of)
    );
    let mut of = shared_case();
    memory(&mut of, &|m| m.overlap = Overlap::Refetch);
    assert!(timeloop_error(&of).contains("`GLB` refetches"));
    let mut of = shared_case();
    let nodes = &mut of.mapping.as_mut().unwrap().nodes;
    let last = Node::Keep {
        level: 1,
        operand: 2,
    };
    let at = nodes.iter().position(|n| *n == last).unwrap();
    nodes.swap(at, at + 1);
    assert!(
        timeloop_error(&of).contains("different places"),
        "{}",
        timeloop_error(&of)
    );
    let mut of = shared_case();
    of.einsum.dims[0].size += 1;
    assert!(
        timeloop_error(&of).contains("perfect factors"),
        "{}",
        timeloop_error(&of)
    );
}

/// The form that the exercises of Timeloop's tutorial use: scratchpads side by side.
const SIDE_BY_SIDE: &str = r#"
architecture:
  version: 0.4
  nodes:
  - !Component {name: DRAM, class: DRAM, attributes: {width: 64, datawidth: 8}}
  - !Container
    name: PE
    spatial: {meshX: 4}
    constraints: {spatial: {permutation: [P, M, C, R], split: 2, factors: [P=1]}}
  - !Parallel
    nodes:
    - !Component
      name: ifmap_spad
      class: smartbuffer_RF
      attributes: {depth: 12, width: 16, datawidth: 8}
      constraints:
        dataspace: {keep: [Inputs]}
        temporal: {permutation: [P, M, C, R], factors: [P=1, M=1, C=1, R=1]}
    - !Component
      name: psum_spad
      class: smartbuffer_RF
      attributes: {depth: 16, width: 16, datawidth: 16}
      constraints:
        dataspace: {keep: [Outputs, Weights]}
        temporal: {factors: [R=0]}
  - !Component {name: mac, class: intmac}
mapspace: {version: 0.4, template: ruby}
dumped_by_timeloop_front_end: true
"#;

#[test]
fn parallel_components_keep_what_they_say() {
    let mapping = "mapping:\n- {target: DRAM, type: temporal, factors: C=4 P=6 M=2}\n- {target: PE, type: spatial, factors: M=4, permutation: M}\n- {target: psum_spad, type: temporal, factors: R=3}";
    let case = read(&[("a", SIDE_BY_SIDE), ("p", PROBLEM), ("m", mapping)])
        .unwrap()
        .case;
    let of = &case.einsums[0];
    let keeps: Vec<Mask> = of
        .hierarchy
        .levels
        .iter()
        .filter_map(Level::memory)
        .map(|m| m.keeps)
        .collect();
    assert_eq!(keeps, [Mask::ALL, Mask(0b010), Mask(0b101)]);
    let kept = of
        .mapping
        .as_ref()
        .unwrap()
        .nodes
        .iter()
        .filter_map(|n| match n {
            Node::Keep { level, operand } => Some((*level, *operand)),
            _ => None,
        });
    assert_eq!(
        kept.collect::<Vec<_>>(),
        [(0, 0), (0, 1), (0, 2), (2, 1), (3, 0), (3, 2)]
    );
    let at = |level| {
        of.constraints
            .levels
            .iter()
            .find(|l| l.level == level)
            .unwrap()
    };
    assert_eq!(at(2).forbidden, Mask(0b1111));
    assert_eq!(at(3).trips, [(2, 3)]);
    let pe = of.hierarchy.levels[1].fanout().unwrap();
    assert_eq!(pe.axes[0].accepts, Mask(0b1010));
}

#[test]
fn an_early_cnn_layer_is_known_by_name() {
    let problem = "problem: {shape: cnn-layer, R: 3, S: 3, P: 4, Q: 5, C: 2, K: 6, N: 1, Wstride: 2, Hdilation: 3}";
    let case = read(&[("a", V3_MESH), ("p", problem)]).unwrap().case;
    let tensors: Vec<(&str, &[u64])> = case
        .tensors
        .iter()
        .map(|t| (&t.name[..], &t.extents[..]))
        .collect();
    assert_eq!(tensors[1], ("Inputs", &[1, 2, 9, 11][..]));
    assert_eq!(tensors[2], ("Outputs", &[1, 6, 5, 4][..]));
}

/// Text, replacement, where the mistake is found and what is said.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    (
        "factors: R=3}",
        "factors: R=2}",
        "map:3: mapping",
        "the factors of `R` make 2",
    ),
    (
        "target: spad, type: temporal",
        "target: spud, type: temporal",
        "map:8: mapping[5].target",
        "no level `spud`",
    ),
    (
        "P=3, M=2]",
        "P=3, M=2,1]",
        "map:4: mapping[1].factors",
        "`1` is no factor",
    ),
    (
        "dataspace, bypass: [Weights]}",
        "dataspace, bypass: [Wieghts]}",
        "map:5: mapping[2].bypass",
        "no data space `Wieghts`",
    ),
    (
        "permutation: CMRP}",
        "permutation: CMRP, tile: 2}",
        "map:3: mapping[0].tile",
        "cannot say `tile`",
    ),
    (
        "factors: M4}",
        "factors: M4, split: 0}",
        "map:3: mapping",
        "one instance along Y",
    ),
    (
        "meshX: 4",
        "meshX: four",
        "arch:23: architecture.nodes[3].spatial.meshX",
        "`four` is no number",
    ),
    (
        "factors: R=1 C=1",
        "factors: R=1 C<=2",
        "arch:20: architecture.nodes[2].constraints.temporal.factors",
        "give factors exactly",
    ),
    (
        "permutation: PM}",
        "permutation: PM, no_reuse: [Inputs]}",
        "arch:20: architecture.nodes[2].constraints.temporal.no_reuse",
        "cannot say `no_reuse`",
    ),
    (
        "!Container\n    name: column",
        "!Pipelined\n    name: column",
        "arch:21: architecture.nodes[3]",
        "not a path of memories",
    ),
    (
        "read_bandwidth: 16",
        "read_bandwidth: 0",
        "arch:17: architecture.nodes[2].attributes.read_bandwidth",
        "leave it out",
    ),
    (
        "width: 64, depth: 1024",
        "width: 60, depth: 1024",
        "arch:14: architecture.nodes[2]",
        "no multiple of 8",
    ),
    (
        "read_write: True",
        "read_write: False",
        "prob:5: problem.shape",
        "mark the output",
    ),
    (
        "C: 4, M: 8",
        "C: 4.5, M: 8",
        "prob:12: problem.instance.C",
        "whole number",
    ),
    (
        "Weights: 1.0",
        "Weights: 0.5",
        "prob:12: problem.instance.densities.Weights",
        "sparse",
    ),
    (
        "[[[C]], [[M]], [[R]]]",
        "[[[C]], [[M]], [[R, C]]]",
        "prob:9: problem.shape.data_spaces[0].projection[2][0]",
        "multiplies two dimensions",
    ),
    (
        "mapper: {optim",
        "sparse_optimizations: {targets: [x]}\nmapper: {optim",
        "map:10: sparse_optimizations",
        "sparse designs",
    ),
    (
        "mapper: {optim",
        "mopper: {optim",
        "map:10: mopper",
        "no key of a Timeloop set",
    ),
    (
        "mapper: {optim",
        "architecture: {optim",
        "arch:4: architecture",
        "stands twice",
    ),
    (
        "name: mac",
        "name: {{mac}}",
        "arch:34: template",
        "rendered",
    ),
    (
        "name: glb",
        "name: DRAM",
        "arch:14: architecture.nodes[2]",
        "`DRAM` stands twice",
    ),
    (
        "system.mac[1..12]",
        "system.mul[1..12]",
        "arch:33: architecture.nodes[6]",
        "no energies of `mac`",
    ),
];

#[test]
fn each_mistake_is_told_with_its_place_and_a_remedy() {
    let mut missed = Vec::new();
    for (text, wrong, place, reason) in MISTAKES {
        let change = |t: &str| t.replacen(text, wrong, 1);
        let (m, a, p, e) = (
            change(MAPPING),
            change(V4),
            change(PROBLEM),
            change(ENERGIES),
        );
        assert!(
            [&m, &a, &p, &e].iter().any(|t| t.contains(wrong)),
            "{wrong}"
        );
        let set = [("map", &m[..]), ("arch", &a), ("prob", &p), ("ert", &e)];
        let error = match read(&set) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("`{wrong}` was read"),
        };
        if !error.starts_with(place) || !error.contains(reason) {
            missed.push(format!("`{wrong}`: {error}"));
        }
    }
    assert_eq!(missed, Vec::<String>::new());
}

#[test]
fn a_missing_part_is_named() {
    let error = read(&[("arch", V4)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "arch:0: problem: the set has no `problem`; add the file that holds it"
    );
    assert!(read(&[]).is_err());
}

#[test]
fn aliases_cannot_blow_up_a_text() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let last = format!("*a{}", i - 1);
        let row = [last.as_str(); 10].join(", ");
        text += &format!("a{i}: &a{i} [{row}]\n");
    }
    let error = read(&[("bomb", &text)]).unwrap_err();
    assert!(error.reason.contains("larger than"), "{error}");
    let deep = format!("a: {}", "[".repeat(5000));
    let error = read(&[("deep", &deep)]).unwrap_err();
    assert!(
        error.reason.contains("deeper") || error.reason.contains("recursion"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_it_panic(cut in any::<prop::sample::Index>(), length in 0usize..12, with in "[-\\[\\]{}:,=<>*&!0-9A-Za-z\n ]{0,6}") {
        let all = [MAPPING, V4, PROBLEM, ENERGIES].concat();
        let start = cut.index(all.len());
        let end = (start + length).min(all.len());
        let text = format!("{}{with}{}", &all[..start], &all[end..]);
        if let Ok(reading) = read(&[("all", &text)]) {
            let of = &reading.case.einsums[0];
            if let Some(tree) = &of.mapping {
                let _ = evaluate(Convention::Timeloop, &of.einsum, &of.hierarchy, tree);
                let _ = write_mapping(&of.einsum, &of.hierarchy, tree, &reading.case.operand_names(0));
            }
        }
    }
}
