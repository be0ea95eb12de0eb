#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

use presil_numerics::{Bytes, BytesPerSecond, Format};
use proptest::prelude::*;

use super::*;
use crate::chip::{EngineKind, NodeKind, Operand};
use crate::sourced::Status;

/// The smallest chip with an array.
const TINY: &str = r#"
name = "tiny"
description = "A 4x4 array over one buffer."
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
channels = 2
capacity = "1 GiB"
[[memory]]
name = "sram"
parent = "dram"
kind = "sram"
capacity = "256 KiB"
word = "16 B"
clock = "core"
[[fanout]]
name = "pes"
parent = "sram"
[[fanout.dim]]
name = "rows"
size = 4
multicast = ["output"]
reduces = true
accepts = ["reduction"]
[[fanout.dim]]
name = "columns"
size = 4
multicast = ["input"]
accepts = ["output_channel", "p"]
[[compute]]
name = "mac"
parent = "pes"
clock = "core"
mode = [{ input = "int8", weight = "int8", accumulate = "int32", macs_per_cycle = 1 }]
[[array]]
name = "array"
compute = "mac"
"#;

fn tiny(sets: &[(&str, &str)]) -> Result<Chip, String> {
    read(TINY, sets)
}

fn read(text: &str, sets: &[(&str, &str)]) -> Result<Chip, String> {
    let sets: Vec<(String, String)> = sets
        .iter()
        .map(|(p, v)| (p.to_string(), v.to_string()))
        .collect();
    from_text("tiny.toml", text, None, &sets).map_err(|e| e.to_string())
}

fn good(result: Result<Chip, String>) -> Chip {
    result.unwrap_or_else(|e| panic!("{e}"))
}

/// The text of the errors of a chip that must not load.
fn errors(text: &str, sets: &[(&str, &str)]) -> String {
    match read(text, sets) {
        Ok(_) => panic!("loaded:\n{text}"),
        Err(e) => e,
    }
}

fn shipped(name: &str) -> Chip {
    load(name, &[]).unwrap_or_else(|e| panic!("{name}:\n{e}"))
}

#[test]
fn every_chip_that_ships_loads() {
    for name in library::names() {
        let chip = shipped(name);
        assert_eq!(chip.name, name);
        assert_eq!(chip.hash.len(), 16);
        assert!(
            chip.numerics.precision.is_some(),
            "{name} has no default precision"
        );
        for p in &chip.provenance {
            assert!(!p.source.is_empty(), "{name}: {} has no source", p.path);
            let bad = p.value.contains("NaN") || p.value.contains("inf");
            assert!(!bad, "{name}: {} is {}", p.path, p.value);
        }
        for (what, area) in chip.area() {
            assert!(
                area.0 < 858.0,
                "{name}: {what} takes {area}, more than a reticle of 26 mm x 33 mm"
            );
        }
        let arrays = chip
            .engines
            .iter()
            .filter(|e| matches!(e.kind, EngineKind::Array { .. }))
            .count();
        let hosts = chip
            .engines
            .iter()
            .filter(|e| matches!(e.kind, EngineKind::Host { .. }))
            .count();
        assert_eq!((arrays, hosts), (1, 1), "{name}");
    }
}

#[test]
fn hashes_are_of_the_meaning() {
    let a = good(tiny(&[]));
    let commented = good(read(&format!("# a remark\n{TINY}"), &[]));
    assert_eq!(a.hash, commented.hash);
    assert_ne!(a.hash, good(tiny(&[("sram.capacity", "128 KiB")])).hash);
    let mut all: Vec<String> = library::names().iter().map(|n| shipped(n).hash).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), library::names().len());
}

/// Published dense peaks in tera-operations per second. Derived from instances, rate and clock.
#[test]
fn derived_peaks_are_the_published_ones() {
    let fp8 = Format::FP8_E4M3FN;
    let int16 = Format::Int {
        bits: 16,
        signed: true,
    };
    let cases = [
        ("tpu-v1", Format::INT8, 92.0),
        ("tpu-v4i", Format::BF16, 138.0),
        ("tpu-v4i", Format::INT8, 138.0),
        ("a100-sxm-80", Format::BF16, 312.0),
        ("a100-sxm-80", Format::INT8, 624.0),
        ("h100-sxm", Format::BF16, 989.0),
        ("h100-sxm", fp8, 1979.0),
        ("h100-sxm", Format::INT8, 1979.0),
        ("edge-npu", Format::INT8, 16.4),
        ("edge-npu", Format::BF16, 4.1),
        ("ara2-like", Format::INT8, 40.0),
        ("ane-like", Format::FP16, 15.8),
        ("ethos-u55-256", Format::INT8, 0.256),
        ("ethos-u65-512", Format::INT8, 1.024),
        ("nvdla-large", Format::INT8, 4.096),
        ("nvdla-small", Format::INT8, 0.128),
        ("simba", Format::INT8, 128.0),
        ("eyeriss", int16, 0.0672),
    ];
    for (name, format, tera) in cases {
        let peak = shipped(name).peak_ops(format, format) * 1e-12;
        assert!(
            (peak / tera - 1.0).abs() < 5e-3,
            "{name} {format}: {peak} against {tera}"
        );
    }
    assert_eq!(shipped("eyeriss").peak_ops(Format::FP32, Format::FP32), 0.0);
}

#[test]
fn bandwidths_of_memory_are_the_published_ones() {
    let cases = [
        ("edge-npu", 51.2),
        ("tpu-v1", 34.0),
        ("tpu-v4i", 614.0),
        ("a100-sxm-80", 2039.0),
        ("h100-sxm", 3350.0),
        ("ethos-u65-512", 3.75),
    ];
    for (name, gb_s) in cases {
        let chip = shipped(name);
        let rate = chip.nodes[chip.root()]
            .memory()
            .map_or(0.0, |m| m.read_rate.0);
        assert!((rate / (gb_s * 1e9) - 1.0).abs() < 1e-9, "{name}: {rate}");
    }
}

/// A stationary weight tile must load in as many cycles as the array has rows.
#[test]
fn weight_tiles_of_systolic_arrays_load_a_row_per_cycle() {
    for (name, rows, bytes) in [
        ("tpu-v1", 256.0, 1.0),
        ("tpu-v4i", 128.0, 2.0),
        ("edge-npu", 32.0, 1.0),
    ] {
        let chip = shipped(name);
        let register = chip.node("weight_register").map(|id| &chip.nodes[id]);
        let memory = register
            .and_then(|n| n.memory())
            .unwrap_or_else(|| panic!("{name}"));
        let cycles =
            bytes / memory.write_rate.0 * chip.clocks[crate::ClockId(0)].domain.frequency.0;
        assert!(
            (cycles / rows - 1.0).abs() < 1e-9,
            "{name}: {cycles} cycles for {rows} rows"
        );
        assert!(memory.must_keep.has(Operand::Weight) && memory.buffering == 2);
    }
}

#[test]
fn the_tiny_chip_is_what_it_says() {
    let chip = good(tiny(&[]));
    let names: Vec<&str> = chip.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["dram", "sram", "pes", "mac"]);
    let instances: Vec<u64> = chip.nodes.iter().map(|n| n.instances).collect();
    assert_eq!(instances, [1, 1, 1, 16]);
    let dram = chip.nodes[chip.root()]
        .memory()
        .unwrap_or_else(|| panic!("no memory"));
    assert!((dram.read_rate.0 / 17.06e9 - 1.0).abs() < 1e-12);
    assert!(dram.resident && dram.shared_port);
    let sram = chip
        .node("sram")
        .and_then(|id| chip.nodes[id].memory())
        .unwrap_or_else(|| panic!("no sram"));
    assert_eq!(
        (sram.read_rate, sram.word),
        (BytesPerSecond(8e9), Bytes(16))
    );
    assert!(!sram.shared_port && sram.area.0 > 0.0 && sram.read_energy.0 > 0.0);
    assert_eq!(chip.peak_ops(Format::INT8, Format::INT8), 16e9);
    let status = |path: &str| {
        chip.provenance
            .iter()
            .find(|p| p.path == path)
            .map(|p| p.status)
    };
    assert_eq!(status("sram.capacity"), Some(Status::Vendor));
    assert_eq!(status("sram.bandwidth"), Some(Status::Derived));
    assert_eq!(status("sram.read_energy"), Some(Status::Scaled));
    assert_eq!(status("dram.read_energy"), Some(Status::Assumed));
}

/// The example in the documentation of the file form is a chip.
#[test]
fn the_documented_example_loads() {
    let lines = include_str!("../spec.rs").lines();
    let block = lines
        .skip_while(|l| *l != "//! ```toml")
        .skip(1)
        .take_while(|l| *l != "//! ```");
    let text: Vec<&str> = block
        .map(|l| l.trim_start_matches("//!").trim_start())
        .collect();
    let chip = good(read(&text.join("\n"), &[]));
    assert_eq!((chip.name.as_str(), chip.nodes.len()), ("tiny", 4));
}

#[test]
fn overrides_reach_every_field() {
    let chip = good(tiny(&[
        ("dram.bandwidth", "1.2 TB/s"),
        ("pes.rows.size", "8"),
        ("core.frequency", "1 GHz"),
        ("technology.node", "7 nm"),
        ("mapspace.keep_weights", "false"),
        ("sram.keeps", "[\"input\"]"),
        (
            "sram.read_energy",
            "{ value = \"1 pJ/bit\", range = [\"0.5 pJ/bit\", \"2 pJ/bit\"] }",
        ),
    ]));
    let dram = chip.nodes[chip.root()].memory().map(|m| m.read_rate);
    assert_eq!(dram, Some(BytesPerSecond(1.2e12)));
    assert_eq!(chip.node_nm, 7.0);
    assert!(!chip.mapspace.keep_weights && chip.mapspace.keep_activations);
    assert_eq!(chip.peak_ops(Format::INT8, Format::INT8), 64e9);
    let source = chip
        .provenance
        .iter()
        .find(|p| p.path == "dram.bandwidth")
        .map(|p| p.source.clone());
    assert_eq!(source.as_deref(), Some("--set"));
    // A rate given for both ways replaces rates given for one.
    let one_way = TINY.replace(
        "clock = \"core\"\n[[fanout]]",
        "read_bandwidth = \"1 GB/s\"\nwrite_bandwidth = \"2 GB/s\"\n[[fanout]]",
    );
    assert_ne!(one_way, TINY);
    let chip = good(read(&one_way, &[("sram.bandwidth", "3 GB/s")]));
    let sram = chip
        .node("sram")
        .and_then(|id| chip.nodes[id].memory())
        .map(|m| (m.read_rate.0, m.write_rate.0));
    assert_eq!(sram, Some((3e9, 3e9)));
}

#[test]
fn wrong_overrides_say_what_is_there() {
    let e = errors(TINY, &[("dramm.bandwidth", "1 GB/s")]);
    assert!(
        e.contains("--set:1:1") && e.contains("`dramm` is no node") && e.contains("`dram`"),
        "{e}"
    );
    let e = errors(TINY, &[("dram.bandwith", "1 GB/s")]);
    assert!(e.contains("did you mean `bandwidth`"), "{e}");
    let e = errors(
        TINY,
        &[("dram.bandwidth", "1000"), ("sram.capacity", "1 MB/s")],
    );
    assert!(
        e.contains("`1000` has no unit") && e.contains("is not a unit of size"),
        "{e}"
    );
    for path in [
        "",
        ".",
        "dram",
        "dram.",
        "name.x.y",
        "pes.rows",
        "pes.diagonal.size",
        "sram.capacity.value.x",
    ] {
        assert!(read(TINY, &[(path, "1 GB/s")]).is_err(), "{path}");
    }
}

#[test]
fn all_mistakes_are_shown_at_once() {
    let text = TINY
        .replace("kind = \"sram\"", "kind = \"sran\"")
        .replace("capacity = \"1 GiB\"", "capacity = 512")
        .replace("frequency = \"500 MHz\"", "frequncy = \"500 MHz\"")
        .replace("multicast = [\"input\"]", "multicast = [\"activation\"]");
    let e = errors(&text, &[]);
    for part in [
        "`sran` is no kind of memory",
        "did you mean `sram`",
        "`512` has no unit",
        "`frequncy` is no key",
        "did you mean `frequency`",
        "`activation` is no operand",
    ] {
        assert!(e.contains(part), "{part} is not in\n{e}");
    }
    assert!(e.contains("tiny.toml:"), "{e}");
    // Mistakes of meaning, too, come together.
    let text = TINY
        .replace("parent = \"pes\"", "parent = \"pess\"")
        .replace("LPDDR4-4266", "LPDDR4-4267")
        .replace("compute = \"mac\"", "compute = \"macs\"")
        .replace(
            "size = 4\nmulticast = [\"input\"]",
            "size = 0\nmulticast = [\"input\"]",
        );
    let e = errors(&text, &[]);
    for part in [
        "no node `pess`",
        "did you mean `pes`",
        "no DRAM part `LPDDR4-4267`",
        "is zero",
    ] {
        assert!(e.contains(part), "{part} is not in\n{e}");
    }
}

#[test]
fn trees_must_be_trees() {
    let cases = [
        (
            TINY.replace("name = \"sram\"\nparent = \"dram\"", "name = \"sram\""),
            "has no parent",
        ),
        (
            TINY.replace(
                "name = \"sram\"\nparent = \"dram\"",
                "name = \"sram\"\nparent = \"pes\"",
            ),
            "own ancestor",
        ),
        (
            TINY.replace("name = \"dram\"\n", "name = \"dram\"\nparent = \"mac\"\n"),
            "no root",
        ),
        (
            TINY.replace("name = \"columns\"", "name = \"rows\""),
            "there twice",
        ),
        (
            TINY.replace(
                "name = \"pes\"\nparent = \"sram\"",
                "name = \"sram\"\nparent = \"sram\"",
            ),
            "is taken",
        ),
        (TINY.replace("[[array]]", "[[vector]]"), "is missing"),
        (
            TINY.replace("node = \"22 nm\"", "node = \"0.5 nm\""),
            "from 2 nm to 130 nm",
        ),
        (
            TINY.replace("node = \"22 nm\"", "node = \"22 nm\"\nvoltage = \"12 V\""),
            "between 0.3 V and 2 V",
        ),
        (
            TINY.replace(
                "name = \"mac\"\nparent = \"pes\"",
                "name = \"mac\"\nparent = \"sram\"",
            ),
            "nothing stands below",
        ),
        (TINY.replace("size = 4", "size = 4000000000"), "would exist"),
        (
            TINY.replace("word = \"16 B\"", "word = \"512 KiB\""),
            "does not fit",
        ),
        (
            TINY.replace(
                "word = \"16 B\"",
                "word = \"16 B\"\nmust_keep = [\"weight\"]\nkeeps = [\"input\"]",
            ),
            "does not keep",
        ),
        (
            TINY.replace("word = \"16 B\"", "word = \"16 B\"\nbuffering = 0"),
            "1 to 64",
        ),
        (
            TINY.replace(
                "word = \"16 B\"",
                "word = { value = \"16 B\", range = [\"32 B\", \"64 B\"] }",
            ),
            "two ends around",
        ),
        (
            TINY.replace("input = \"int8\"", "input = \"nf4\""),
            "has no arithmetic",
        ),
        (
            TINY.replace("accumulate = \"int32\"", "accumulate = \"int33x\""),
            "not a number format",
        ),
        (
            TINY.replace("macs_per_cycle = 1", "macs_per_cycle = 0"),
            "is zero",
        ),
        (
            TINY.replace("clock = \"core\"\n[[fanout]]", "[[fanout]]"),
            "has no rate",
        ),
        (
            TINY.replace(
                "part = \"LPDDR4-4266\"\nchannels = 2",
                "bandwidth = \"1 GB/s\"",
            ),
            "no energy per bit",
        ),
        ("".into(), "is missing"),
        ("name = ".into(), "not TOML"),
        ("name = 1\nname = 2".into(), "not TOML"),
        (
            TINY.replace("name = \"tiny\"", "name = \"tiny\"\nextends = \"edge-mpu\""),
            "did you mean `edge-npu`",
        ),
    ];
    for (text, part) in cases {
        let e = errors(&text, &[]);
        assert!(e.contains(part), "{part:?} is not in\n{e}");
    }
}

#[test]
fn files_are_found_and_extended() {
    let folder = std::env::temp_dir().join(format!("presil-hwmodels-{}", std::process::id()));
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap_or_else(|e| panic!("{e}"))
    };
    std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{e}"));
    write("base.toml", TINY);
    write(
        "wide.toml",
        "name = \"wide\"\ndescription = \"wider\"\nextends = \"base.toml\"\n[[fanout]]\nname = \"pes\"\n[[fanout.dim]]\nname = \"columns\"\nsize = 16\n",
    );
    write(
        "loop.toml",
        "name = \"loop\"\ndescription = \"-\"\nextends = \"loop.toml\"\n",
    );
    write(
        "far.toml",
        "name = \"far\"\ndescription = \"-\"\nextends = \"nowhere.toml\"\n",
    );
    let path = |name: &str| folder.join(name).display().to_string();
    let wide = load(&path("wide.toml"), &[]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        (
            wide.name.as_str(),
            wide.peak_ops(Format::INT8, Format::INT8)
        ),
        ("wide", 64e9)
    );
    let NodeKind::Fanout(pes) = &wide.nodes[crate::NodeId(2)].kind else {
        panic!("no fanout")
    };
    assert_eq!(
        pes.dims
            .iter()
            .map(|d| (d.size, d.reduces))
            .collect::<Vec<_>>(),
        [(4, true), (16, false)]
    );
    // What the base says rests on the base's source; what this file says, on its own.
    let source = |p: &str| {
        wide.provenance
            .iter()
            .find(|x| x.path == p)
            .map(|x| x.source.clone())
    };
    assert_eq!(source("sram.capacity").as_deref(), Some("example"));
    assert_eq!(source("pes.columns.size"), Some(path("wide.toml")));
    let message = |name: &str| load(&path(name), &[]).map_or_else(|e| e.to_string(), |c| c.name);
    assert!(message("loop.toml").contains("extends itself"));
    assert!(message("far.toml").contains("nowhere.toml"));
    assert!(message("none.toml").contains("none.toml"));
    assert!(
        matches!(load("edge-nqu", &[]), Err(ChipError::Unknown { nearest, .. }) if nearest == ["edge-npu"])
    );
    assert!(matches!(
        load(&folder.display().to_string(), &[]),
        Err(ChipError::Read { .. })
    ));
    std::fs::remove_dir_all(&folder).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn axes_of_cores_say_how_many_instances_a_stream_drives() {
    let per_stream = |sets: &[(String, String)]| {
        let chip = load("edge-npu", sets).unwrap_or_else(|e| panic!("{e}"));
        let cores = chip.node("cores").unwrap_or_else(|| panic!("no cores"));
        match &chip.nodes[cores].kind {
            NodeKind::Fanout(f) => (f.dims[0].size, f.dims[0].per_stream),
            _ => panic!("no fanout"),
        }
    };
    let set = |path: &str, value: &str| (path.to_string(), value.to_string());
    assert_eq!(per_stream(&[]), (4, 1));
    assert_eq!(per_stream(&[set("cores.cores.size", "6")]), (6, 1));
    let key = "cores.cores.instances_per_stream";
    assert_eq!(per_stream(&[set(key, "2")]), (4, 2));
    for (count, what) in [
        ("0", "is zero"),
        ("3", "4 instances are no whole number of groups of 3"),
        ("9", "write a divisor of 4"),
    ] {
        let error = load("edge-npu", &[set(key, count)]).map(|c| c.name);
        let error = error.err().map_or_else(String::new, |e| e.to_string());
        assert!(error.contains(what), "{count}: {error}");
    }
    // Without a statement all instances run one op.
    let tiny = from_text("tiny", TINY, None, &[]).unwrap_or_else(|e| panic!("{e}"));
    for node in tiny.nodes.iter() {
        if let NodeKind::Fanout(f) = &node.kind {
            assert!(f.dims.iter().all(|d| d.per_stream == d.size));
        }
    }
}

fn lines_of(name: &str) -> Vec<String> {
    library::text(name)
        .unwrap_or_default()
        .lines()
        .map(str::to_string)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// No text makes the loader panic.
    #[test]
    fn any_text_gives_a_chip_or_errors(text in "[\\[\\]a-z\"= .{}#\\n0-9-]{0,200}") {
        let _ = from_text("x", &text, None, &[]);
    }

    /// Nor does a file with a value, a line or a byte changed.
    #[test]
    fn a_damaged_file_gives_a_chip_or_errors(
        which in 0usize..13, line in 0usize..400, with in 0usize..12, cut in 0usize..4000, how in 0u8..4,
    ) {
        let values = ["0", "-1", "1e400", "nan", "\"\"", "\"0 B\"", "[]", "{}", "99999999999999999999", "\"1e300 GB/s\"", "9223372036854775807", "[[[1]]]"];
        let names = library::names();
        let mut lines = lines_of(names.get(which % names.len()).copied().unwrap_or_default());
        let at = line % lines.len().max(1);
        let text = match how {
            0 => {
                if let Some(l) = lines.get_mut(at)
                    && let Some((key, _)) = l.clone().split_once('=')
                {
                    *l = format!("{key} = {}", values.get(with).copied().unwrap_or_default());
                }
                lines.join("\n")
            }
            1 => {
                lines.remove(at);
                lines.join("\n")
            }
            2 => {
                let again = lines.get(at).cloned().unwrap_or_default();
                lines.insert(at, again);
                lines.join("\n")
            }
            _ => lines.join("\n").chars().take(cut).collect(),
        };
        let result = from_text("x", &text, None, &[]);
        if let Err(error) = result {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    /// No override does, either.
    #[test]
    fn any_override_gives_a_chip_or_errors(path in "[a-z_.]{0,30}", value in ".{0,20}", known in 0usize..6) {
        let paths = ["dram.bandwidth", "sram.capacity", "pes.rows.size", "technology.node", "core.frequency", "mapspace"];
        let _ = from_text("x", TINY, None, &[(path, value.clone())]);
        let path = paths.get(known).copied().unwrap_or_default();
        let _ = from_text("x", TINY, None, &[(path.to_string(), value)]);
    }
}

/// The section of a block engine for the tiny chip.
const BLOCKS: &str = r#"
[[vector]]
name = "vector"
memory = "sram"
lanes = 4
clock = "core"
[[vector.mode]]
formats = ["int8"]
rate = 1
[blocks]
array = "array"
vector = "vector"
staging = "sram"
micro_rows = 2
micro_columns = 2
micro_channels = 8
input_channels = 8
taps = 4
step_cycles = 4
decode_cycles = 4
hazard_cycles = 2
window = 8
most_rows = 32
most_columns = 64
most_channels = 128
brick = 16
block_input_bytes = 32
packed_input_bytes = 16
banks = 48
bank = "1 KiB"
reserved_banks = 4
table_banks = 0
input_grain = 8
wide_input_grain = 16
sum_grain = 16
wide_sum_grain = 20
scale_bytes = 10
scale_request = 256
command_share = 0.25
output_cycles = { sum = 0.25, maximum = 0.125, add = 0.75, multiply = 0.375, wide_multiply = 0.5, wide_binary = 0.625, wide_unary = 1.125, lookup = 1.0, clamp = 0.25 }
"#;

#[test]
fn block_engines_are_resolved_and_their_mistakes_named() {
    let text = format!("{TINY}{BLOCKS}");
    let blocks = good(read(&text, &[]))
        .blocks
        .unwrap_or_else(|| panic!("no blocks"));
    assert_eq!((blocks.micro, blocks.most), ([2, 2, 8], [32, 64, 128]));
    assert_eq!(
        blocks.hazard_cycles,
        [2, 2],
        "the wide hazard is the same by default"
    );
    assert_eq!(
        (blocks.cores, blocks.input_passes, blocks.cascades),
        (1, None, false)
    );
    assert_eq!(
        blocks.arena,
        crate::NodeId(0),
        "feature maps live in the root by default"
    );
    assert_eq!(blocks.output(crate::OutputKind::WideUnary), 1.125);
    let wrong = |from: &str, to: &str| errors(&text.replace(from, to), &[]);
    let cases = [
        ("array = \"array\"", "array = \"aray\"", "no array `aray`"),
        (
            "vector = \"vector\"",
            "vector = \"array\"",
            "no vector engine `array`",
        ),
        ("staging = \"sram\"", "staging = \"pes\"", "no memory `pes`"),
        (
            "micro_rows = 2",
            "micro_rows = 0",
            "`blocks.micro_rows` is zero",
        ),
        (", clamp = 0.25", "", "does not say `clamp`"),
        (
            "clamp = 0.25",
            "clamp = 0.25, clip = 1",
            "no kind of output `clip`",
        ),
    ];
    for (from, to, message) in cases {
        let told = wrong(from, to);
        assert!(told.contains(message), "{told}");
    }
}

#[test]
fn ethos_u_engines_multiply_as_much_as_their_names_say() {
    for name in library::names()
        .into_iter()
        .filter(|n| n.starts_with("ethos-u"))
    {
        let chip = shipped(name);
        let blocks = chip.blocks.as_ref().unwrap_or_else(|| panic!("{name}"));
        let lanes = blocks.micro.iter().product::<u64>() * blocks.input_channels * blocks.cores;
        let macs = name.split('-').nth(2).and_then(|n| n.parse::<u64>().ok());
        assert_eq!(macs, Some(lanes), "{name}");
        let hertz = chip.clocks[crate::ClockId(0)].domain.frequency.0;
        let peak = chip.peak_ops(Format::INT8, Format::INT8);
        assert!(
            (peak / (2.0 * lanes as f64 * hertz) - 1.0).abs() < 1e-12,
            "{name}"
        );
    }
}

/// What the file says of requests in flight and of the order of addresses bounds and slows the streams of a DRAM.
#[test]
fn streams_of_a_dram() {
    let memory = |overrides: &[(&str, &str)]| {
        let overrides: Vec<_> = overrides
            .iter()
            .map(|(k, v)| ((*k).to_string(), (*v).to_string()))
            .collect();
        let chip = load("edge-npu", &overrides).unwrap();
        chip.nodes[chip.root()].memory().unwrap().clone()
    };
    let plain = memory(&[]);
    let [read, write] = plain.streams();
    assert_eq!(read.0, plain.read_rate.0 * plain.streaming_efficiency);
    let turns = plain.turns.unwrap();
    // Four channels of 2 KiB.
    assert_eq!(turns.group, 8192.0);
    let seconds = 1.0 / read.0 + turns.time.0 / turns.group;
    assert!((write.0 * seconds - 1.0).abs() < 1e-12);
    assert!(write.0 < 0.9 * read.0);
    // Eight requests of 256 bytes over the latency.
    let few = memory(&[("dram.outstanding", "8"), ("dram.request", "256 B")]);
    let bound = 8.0 * 256.0 / few.latency.0;
    assert!(bound < read.0);
    assert_eq!(few.in_flight.asked.unwrap().0, bound);
    assert_eq!(few.streams()[0].0, bound.min(read.0));
    // Neighbours in one bank group.
    let order = ("dram.address_order", "row-rank-group-bank-column");
    assert!(memory(&[order]).streams()[0].0 < 0.8 * read.0);
    // An efficiency that is written holds the turns.
    let own = memory(&[("dram.streaming_efficiency", "0.8")]);
    assert_eq!((own.turns, own.streams()[0]), (None, own.streams()[1]));
}
