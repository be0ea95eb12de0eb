//! Case files: what they mean, that writing gives them back, and how their mistakes are told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::case::write::{WriteError, write};
use crate::hierarchy::{Mask, Transfer};
use crate::looptree::Node;

const GEMM: &str = include_str!("../../../../configs/cases/gemm.toml");
const CONV: &str = include_str!("../../../../configs/cases/conv-eyeriss-like.toml");
const MLP: &str = include_str!("../../../../configs/cases/mlp-fused.toml");
const ATTENTION: &str = include_str!("../../../../configs/cases/attention.json");

fn case(text: &str) -> Case {
    read("case.toml", text, None).unwrap_or_else(|e| unreachable!("{e}"))
}

/// The problems of a text, told.
fn told(text: &str) -> String {
    read("case.toml", text, None).unwrap_err().to_string()
}

#[test]
fn a_file_means_what_it_says() {
    let case = case(GEMM);
    let e = &case.einsums[0];
    let names: Vec<&str> = case.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["A", "W", "O"]);
    assert_eq!(case.tensors[1].extents, [256, 256]);
    let glb = e.hierarchy.levels[1].memory().unwrap();
    assert_eq!((glb.capacity, glb.read_energy), (524_288.0, 0.75));
    assert_eq!((glb.must_keep, glb.ports.len()), (Mask(7), 2));
    assert!(glb.ports[0].carries.iter().all(|(_, t)| t.reads()));
    assert_eq!(
        e.hierarchy.levels[0].memory().unwrap().ports[0]
            .carries
            .len(),
        12
    );
    let tree = e.mapping.as_ref().unwrap();
    let cuts: Vec<u64> = tree
        .nodes
        .iter()
        .filter_map(Node::cut)
        .map(|c| c.1)
        .collect();
    assert_eq!(cuts, [128, 1, 1, 1]);
    assert_eq!(
        tree.nodes[4],
        Node::Keep {
            level: 1,
            operand: 0
        }
    );
}

#[test]
fn sets_are_resolved_for_each_einsum() {
    let case = case(MLP);
    let memory = |e: usize, l: usize| case.einsums[e].hierarchy.levels[l].memory().unwrap();
    // T1 is the output of the first and the input of the second.
    assert_eq!(memory(0, 0).must_keep, Mask(0b011));
    assert_eq!(memory(1, 0).must_keep, Mask(0b110));
    assert_eq!(memory(0, 1).must_keep_unless_above, Mask(0b111));
    assert_eq!(memory(0, 1).must_keep, Mask::NONE);
    assert_eq!(memory(1, 3).must_keep, Mask(0b010));
    assert_eq!(
        (memory(1, 3).keeps, memory(1, 3).capacity),
        (Mask(0b010), 8.0)
    );
    let array = case.einsums[1].hierarchy.levels[2].fanout().unwrap();
    assert_eq!(
        (array.axes[1].must_share, array.axes[1].shares),
        (Mask(0b100), Mask(0b100))
    );
}

#[test]
fn windows_have_their_extents() {
    let case = case(CONV);
    let e = &case.einsums[0];
    assert_eq!(case.tensors[0].extents, [1, 16, 30, 30]);
    assert_eq!((case.tensors[0].bits, case.tensors[2].bits), (16.0, 32.0));
    let inputs = e.hierarchy.levels[3].memory().unwrap();
    assert_eq!((inputs.capacity, inputs.keeps), (192.0, Mask(1)));
    assert_eq!(e.constraints.levels[0].forbidden.0.count_ones(), 2);
    let padded = CONV
        .replace("p + r", "2 * p + r - 1")
        .replace("[[einsum]]", "[shapes]\nI = [1, 16, 55, 30]\n\n[[einsum]]");
    let padded = read("case.toml", &padded, None).unwrap();
    assert_eq!(padded.einsums[0].einsum.inputs[0].extents, [1, 16, 55, 30]);
    assert_eq!(padded.einsums[0].einsum.inputs[0].ranks[2].offset, -1);
}

#[test]
fn toml_and_json_are_one_form() {
    let value: toml::Table = toml::from_str(MLP).unwrap();
    let json = serde_json::to_string(&value).unwrap();
    assert_eq!(read("case.json", &json, None).unwrap(), case(MLP));
}

/// Every part of the form in one case.
const EVERYTHING: &str = r#"
name = "everything"
objective = "edp"
convention = "timeloop"
clock = "1.5 GHz"
bits = { All = 8, weight = 4, "Outputs - Intermediates" = 24 }
[ranks]
m = 10
k = 6
n = 7
[shapes]
X = [12, 6]
[[einsum]]
expression = "Y[m, n] = X[m + k - 1, k] * W[k, n]"
mapping = """
dram: keep X, W    # everything
for m in 3 (tile 4)
buf: keep Y, X
for k in 6
buf: keep W
for n tile 1 across pes.x
for m in 2 across pes.y
for m in 2
"""
[[einsum]]
name = "copy"
expression = "Z[m, n] = Y[m, n]"
renames = { input = "Nothing", state = "Y" }
[[level]]
memory = "dram"
must_keep = "~Intermediates"
read_energy = 1e-7
port = [
  { name = "r", read_bandwidth = 64, granule = 32, read_access_energy = 5, carries = { All = "reads" } },
  { name = "w", bandwidth = "16 B/cycle", carries = { weight = ["from_above"], "Outputs | state" = "writes" } },
]
[[level]]
memory = "buf"
capacity = "1 kbit"
buffering = 2
block = 4
cluster = 2
final_bits = 8
bits = { Y = 32, "copy.Z" = 16 }
read_energy = 0.1
write_energy = 0.2
update_energy = 0.3
leakage = 0.01
bandwidth = "inf"
write_bandwidth = 128
must_keep_unless_above = "All"
overlap = "refetch"
serves = ["x"]
[[level]]
fanout = "pes"
hop_energy = 0.02
axis = [
  { name = "x", size = 8, accepts = ["n"], min_usage = 0.5, systolic = true, may_reuse_overlap = "X" },
  { name = "y", size = 2, must_reuse = "weight", may_reuse = "Inputs" },
]
[[level]]
compute = "mac"
rate = 2
energy = 0.5
leakage = 0.001
[[constraint]]
level = "buf"
einsum = "Y"
trips = { k = 6 }
forbidden = ["n"]
order = ["m", "k"]
min_utilization = 0.25
"#;

#[test]
fn what_is_written_reads_back_as_itself() {
    for text in [GEMM, CONV, MLP, ATTENTION, EVERYTHING] {
        let case = case(text);
        let written = write(&case, &[]).unwrap();
        let again = read("written.toml", &written, None);
        assert_eq!(again.as_ref(), Ok(&case), "{written}");
    }
}

#[test]
fn everything_means_what_it_says() {
    let case = case(EVERYTHING);
    assert_eq!((case.clock_hz, case.tensors[1].bits), (Some(1.5e9), 4.0));
    // Y is made by the first einsum and read by the second.
    let bits: Vec<f64> = case.tensors.iter().map(|t| t.bits).collect();
    assert_eq!(bits, [8.0, 4.0, 8.0, 24.0]);
    let memory = |e: usize, l: usize| case.einsums[e].hierarchy.levels[l].memory().unwrap();
    assert_eq!(memory(0, 1).bits, [8.0, 4.0, 32.0]);
    assert_eq!(memory(1, 1).bits, [32.0, 16.0]);
    let carried = |e: usize| memory(e, 0).ports[1].carries.clone();
    let (above, below) = (Transfer::FromAbove, Transfer::FromBelow);
    assert_eq!(carried(0), [(1, above), (2, above), (2, below)]);
    assert_eq!(carried(1), [(0, above), (0, below), (1, above), (1, below)]);
    assert_eq!(memory(0, 1).ports[0].read_rate, f64::INFINITY);
    let constraint = &case.einsums[0].constraints.levels[0];
    assert_eq!(
        (constraint.level, constraint.trips.as_slice()),
        (1, &[(2, 6)][..])
    );
    assert!(case.einsums[1].constraints.levels.is_empty());
    // Ten in tiles of four: three trips, the last one of two.
    let tree = case.einsums[0].mapping.as_ref().unwrap();
    assert!(tree.nodes.contains(&Node::Temporal {
        dim: presil_workloads::DimId(0),
        tile: 4
    }));
}

#[test]
fn a_given_mapping_is_written_into_the_case() {
    let without = GEMM.split_once("\nmapping = ").unwrap().0;
    let rest = GEMM.split_once("256\n\"\"\"").unwrap().1;
    let bare = case(&format!("{without}{rest}"));
    assert_eq!(bare.einsums[0].mapping, None);
    let tree = case(GEMM).einsums[0].mapping.clone();
    let written = write(&bare, &[tree]).unwrap();
    assert_eq!(read("x", &written, None).unwrap(), case(GEMM));
}

#[test]
fn what_the_form_cannot_say_is_refused() {
    let mut odd = case(GEMM);
    odd.tensors[0].name = "A b".into();
    assert_eq!(write(&odd, &[]), Err(WriteError::Name("A b".into())));
    let mut odd = case(MLP);
    odd.einsums[1].hierarchy.levels[4] = odd.einsums[1].hierarchy.levels[2].clone();
    assert!(matches!(write(&odd, &[]), Err(WriteError::Machines { .. })));
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let text = GEMM
        .replace("objective = \"energy\"", "objectiv = \"energy\"")
        .replace("latency = \"max\"", "latency = \"both\"")
        .replace("\"0.75 pJ/bit\"", "\"0.75 pJ/bite\"")
        .replace("\"64 KiB\"", "\"64 Kib\"")
        .replace("bandwidth = 64 ", "bandwidth = -1");
    let told = told(&text);
    for part in [
        "did you mean `objective`?",
        "case.toml:4:1",
        "`both` is no latency rule",
        "pJ/bite",
        "64 KiB",
        "more than 0",
    ] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    assert_eq!(told.matches("error").count(), 6, "{told}");
}

#[test]
fn names_that_mean_nothing_are_told_with_the_nearest() {
    for (from, to, parts) in [
        (
            "A[m, k]",
            "A[m, kk]",
            &["rank `kk` has no size", "did you mean `k`?"][..],
        ),
        (
            "must_keep = \"All\"",
            "must_keep = \"Al\"",
            &["`Al` is no tensor", "`All`"],
        ),
        (
            "output = \"O\" }",
            "output = \"P\" }",
            &["`P` is no tensor"],
        ),
        (
            "glb: keep A\n",
            "glbb: keep A\n",
            &["`glbb` is no memory", "did you mean `glb`?"],
        ),
        (
            "for n in 256",
            "for x in 256",
            &["`x` is no rank of this einsum"],
        ),
        (
            "for n in 256",
            "for n in 25",
            &["25 trips over `n`", "`for n in 256`"],
        ),
        (
            "for n in 256",
            "for n tile 7",
            &["its tile can't be 7", "cover 1"],
        ),
        (
            "for n in 256",
            "for n in 256 across pes",
            &["axis of a fanout"],
        ),
        (
            "for k in 256\n",
            "\n",
            &["no loop iterates over `k`", "add `for k in 256`"],
        ),
        ("glb: keep W, O", "glb: keep W, A", &["this is no mapping"]),
        ("glb: keep W, O", "glb keep W O", &["`O` is too much"]),
        ("= A[m, k] *", "= A[m, k] +", &["expected `*`"]),
        ("[ranks]", "[ranks]\nz = 3", &["no einsum has a rank `z`"]),
        (
            "[[level]]\ncompute = \"mac\"\nenergy = 1 ",
            "",
            &["the last level computes"],
        ),
        (
            "memory = \"glb\"",
            "memory = \"dram\"",
            &["two levels `dram`"],
        ),
        ("bits = 8", "", &["how wide elements are"]),
        ("k = 256", "k = 0", &["from 1 to 2^48"]),
        ("n]", "n - 1]", &["goes down to -1", "[shapes]"]),
        ("k = 256", "k = 281474976710656", &["2^62"]),
    ] {
        let text = GEMM.replacen(from, to, 1);
        assert_ne!(text, GEMM, "{from}");
        let told = told(&text);
        for part in parts {
            assert!(told.contains(part), "{from} -> {to}: no {part} in {told}");
        }
    }
}

#[test]
fn conditions_on_other_memories_are_checked() {
    let keep = |set: &str| MLP.replacen("keeps = \"weight\"\nmust_keep = \"weight\"", set, 1);
    let two = told(&keep("must_keep = \"~dram.tensors\""));
    assert!(
        two.contains("`glb` may keep these tensors as well"),
        "{two}"
    );
    let wrong = told(&keep("must_keep = \"glb.tensors\""));
    assert!(wrong.contains("cannot have to keep"), "{wrong}");
    let wrong = told(&keep("keeps = \"~glb\""));
    assert!(wrong.contains("cannot decide this"), "{wrong}");
    assert!(read("x", &keep("must_keep_unless_above = \"weight\""), None).is_ok());
}

#[test]
fn an_order_of_einsums_is_checked() {
    let swap = MLP
        .replace("\"Up\"", "\"x\"")
        .replace("T1[m, n1] = T0", "T3[m, n1] = T0")
        .replace("output = \"T1\"", "output = \"T3\"");
    assert!(read("x", &swap, None).is_ok());
    let late = MLP
        .replace("T1[m, n1] = T0[m, n0]", "T1[m, n1] = T2[m, n2]")
        .replace("W0[n0, n1]", "W0[n2, n1]")
        .replace("input = \"T0\"", "input = \"T2\"")
        .replace("n0 = 128\n", "");
    let told = told(&late);
    assert!(told.contains("`T2` is read before it is made"), "{told}");
}
