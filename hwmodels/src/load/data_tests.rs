#![expect(clippy::panic, reason = "tests")]

//! Codes, gates, structured sparsity and passes in chip files.

use presil_numerics::Coding;

use super::*;
use crate::chip::{Gating, NodeKind, Operand, OperandSet, PassParameters};

/// A chip with all of them; `with` replaces text.
fn read(with: &[(&str, &str)]) -> Result<Chip, String> {
    let mut text = String::from(
        r#"
name = "sparse"
description = "A 3x4 array that leaves zeros out."
status = "vendor"
source = "example"
[technology]
node = "22 nm"
[[clock]]
name = "core"
frequency = "500 MHz"
[[memory]]
name = "dram"
kind = "dram"
part = "LPDDR4-4266"
capacity = "1 GiB"
compression = { code = "run-length", operands = ["input", "output"], run_bits = 5, value_bits = 16, pairs_per_word = 3, word_bits = 64 }
[[memory]]
name = "sram"
parent = "dram"
kind = "sram"
capacity = "256 KiB"
clock = "core"
compression = { code = "bitmask", operands = ["weight"] }
[[fanout]]
name = "pes"
parent = "sram"
[[fanout.dim]]
name = "rows"
size = 3
reduces = true
accepts = ["reduction"]
[[fanout.dim]]
name = "columns"
size = 4
accepts = ["p"]
[[memory]]
name = "spad"
parent = "pes"
kind = "register"
capacity = "64 B"
clock = "core"
gating = { by = ["input"], rest = 0.1 }
[[compute]]
name = "mac"
parent = "spad"
clock = "core"
mode = [{ input = "int8", weight = "int8", accumulate = "int32", macs_per_cycle = 1, structured = [2, 4] }]
gating = { by = ["input", "weight"] }
[[array]]
name = "array"
compute = "mac"
[mapspace.row_stationary]
buffer = "sram"
input_words = 1
weight_words = 4
output_words = 4
[[mapspace.row_stationary.layer]]
filter_rows = 3
output_rows = 13
m = 64
n = 4
e = 13
p = 16
q = 4
r = 1
t = 2
"#,
    );
    for (from, to) in with {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    from_text("sparse.toml", &text, None, &[]).map_err(|e| e.to_string())
}

fn good() -> Chip {
    read(&[]).unwrap_or_else(|e| panic!("{e}"))
}

fn memory<'a>(chip: &'a Chip, name: &str) -> &'a crate::chip::Memory {
    let node = chip.node(name).and_then(|n| chip.nodes[n].memory());
    node.unwrap_or_else(|| panic!("no memory {name}"))
}

#[test]
fn codes_gates_and_structure_are_read() {
    let chip = good();
    let code = memory(&chip, "dram").compression;
    let run_length = Coding::RunLength {
        run_bits: 5,
        value_bits: 16,
        tokens_per_word: 3,
        word_bits: 64,
    };
    assert_eq!(code.map(|c| c.coding), Some(run_length));
    let both = OperandSet::of(&[Operand::Input, Operand::Output]);
    assert_eq!(code.map(|c| c.operands), Some(both));
    let code = memory(&chip, "sram").compression;
    assert_eq!(code.map(|c| c.coding), Some(Coding::Bitmask));
    let gate = Gating {
        by: OperandSet::of(&[Operand::Input]),
        rest: 0.1,
    };
    assert_eq!(memory(&chip, "spad").gating, Some(gate));
    let mac = chip.node("mac").map(|n| &chip.nodes[n].kind);
    let Some(NodeKind::Compute(mac)) = mac else {
        panic!("no compute")
    };
    assert_eq!(mac.modes[0].structured, Some((2, 4)));
    let share = mac.gating.map(|g| g.share([0.5, 0.5, 1.0]));
    assert_eq!(share, Some(0.25));
}

#[test]
fn passes_are_read() {
    let chip = good();
    let Some(dataflow) = &chip.mapspace.row_stationary else {
        panic!("no dataflow")
    };
    assert_eq!(Some(dataflow.buffer), chip.node("sram"));
    assert_eq!(dataflow.words_per_cycle, [1.0, 4.0, 4.0]);
    let [layer] = dataflow.layers.as_slice() else {
        panic!("{:?}", dataflow.layers)
    };
    let parameters = PassParameters {
        m: 64,
        n: 4,
        e: 13,
        f: u64::MAX,
        p: 16,
        q: 4,
        r: 1,
        t: 2,
    };
    assert_eq!((layer.filter_rows, layer.parameters), (3, parameters));
}

#[test]
fn mistakes_are_told() {
    for (from, to, told) in [
        ("run_bits = 5, ", "", "needs the sizes of its fields"),
        ("word_bits = 64", "word_bits = 60", "longer than the word"),
        ("value_bits = 16", "value_bits = 0", "zero"),
        ("rest = 0.1", "rest = 1.1", "between 0 and 1"),
        ("[2, 4]", "[4, 4]", "two numbers"),
        (
            "buffer = \"sram\"",
            "buffer = \"srma\"",
            "there is `sram`, `spad`",
        ),
        (
            "buffer = \"sram\"",
            "buffer = \"dram\"",
            "no memory on the chip",
        ),
        ("m = 64", "m = 40", "whole sets of filters"),
        ("output_words = 4", "output_words = 0", "zero"),
        ("\"bitmask\"", "\"huffman\"", "code"),
    ] {
        match read(&[(from, to)]) {
            Err(e) => assert!(e.contains(told), "{to}: {e}"),
            Ok(_) => panic!("{to} passed"),
        }
    }
}
