//! Small GEMMs on systolic arrays against the closed rules of arrays with registers for the next operands:
//!
//! ```text
//! F tiles, s: words streamed through the array for one, R rows, C columns
//!
//! stationary input or weight, two registers   T = R + (F-1) max(s, R) + s + (R + C - 2)      a switch hides behind a tile, the first does not
//! the same, one register                      T = F (R + s) + (R + C - 2)
//! stationary output, two registers            T = s + (F-1) max(s, R) + R + (R + C - 2)      all drains but the last hide
//! the same, one register                      T = F (s + R) + (R + C - 2)
//! ```
//!
//! Weight stationary: `s = M`, `F = ceil(K/R) ceil(N/C)`; input stationary: `s = N`, `F = ceil(K/R) ceil(M/C)`; output stationary: `s = K`,
//! `F = ceil(M/R) ceil(N/C)`. A tile's latency of `R + C - 2` and starts `max(s, R)` apart are those of ONNXim's weight-stationary core (Ham et al., 2024), which
//! follows Gemmini; its least of 4 cycles between starts is not among these rules.

use presil_hwmodels::load::from_text;
use presil_workloads::DimId;

use super::*;

const ROWS: u64 = 4;
const COLUMNS: u64 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stationary {
    Input,
    Weight,
    Output,
}

impl Stationary {
    fn operand(self) -> Operand {
        match self {
            Self::Input => Operand::Input,
            Self::Weight => Operand::Weight,
            Self::Output => Operand::Output,
        }
    }
}

/// An array at 1 GHz; each operand has a buffer that keeps the array busy: a row of the stationary one in a cycle.
fn array(stationary: Stationary, registers: u64) -> Chip {
    let (rows, columns) = match stationary {
        Stationary::Weight => ("reduction", "output_channel"),
        Stationary::Input => ("reduction", "pixel"),
        Stationary::Output => ("pixel", "output_channel"),
    };
    let reduces = stationary != Stationary::Output;
    let buffer = |operand: Operand, parent: &str| {
        // Outputs leave a stationary array as they are; sums that stream through it have 4 bytes and come back.
        let row = match operand == stationary.operand() {
            true => COLUMNS,
            false => 64,
        };
        let (read, write) = match operand {
            Operand::Output => (1_000_000, row),
            _ => (row, 1_000_000),
        };
        format!(
            r#"
[[memory]]
name = "{0}s"
parent = "{parent}"
kind = "sram"
capacity = "16 MiB"
word = "1 B"
latency = "0 ns"
read_bandwidth = "{read} GB/s"
write_bandwidth = "{write} GB/s"
keeps = ["{0}"]
must_keep = ["{0}"]
"#,
            operand.name(),
        )
    };
    let text = format!(
        r#"
name = "systolic"
description = "An array with a buffer for each operand."
status = "assumed"
source = "test"
[technology]
node = "22 nm"
[[clock]]
name = "core"
frequency = "1 GHz"
[[memory]]
name = "dram"
kind = "sram"
capacity = "1 GiB"
word = "1 B"
ports = "1r1w"
latency = "0 ns"
bandwidth = "1000000 GB/s"
{inputs}{weights}{outputs}
[[fanout]]
name = "pes"
parent = "outputs"
[[fanout.dim]]
name = "rows"
size = {ROWS}
multicast = ["input", "weight"]
reduces = {reduces}
accepts = ["{rows}"]
[[fanout.dim]]
name = "columns"
size = {COLUMNS}
multicast = ["input", "weight"]
accepts = ["{columns}"]
[[memory]]
name = "register"
parent = "pes"
kind = "register"
capacity = "{bytes} B"
word = "1 B"
latency = "0 ns"
bandwidth = "1000 GB/s"
keeps = ["{kept}"]
must_keep = ["{kept}"]
buffering = {registers}
[[compute]]
name = "mac"
parent = "register"
clock = "core"
mode = [{{ input = "int8", weight = "int8", accumulate = "int32", macs_per_cycle = 1 }}]
[[array]]
name = "array"
compute = "mac"
fill_cycles = {fill}
[host]
cores = 1
frequency = "1 GHz"
operations_per_cycle = 1
efficiency = 1
bandwidth = "1 GB/s"
handover = "1 us"
[mapspace]
prefetch_weights = false
"#,
        inputs = buffer(Operand::Input, "dram"),
        weights = buffer(Operand::Weight, "inputs"),
        outputs = buffer(Operand::Output, "weights"),
        kept = stationary.operand().name(),
        bytes = 4 * registers,
        fill = ROWS + COLUMNS - 2,
    );
    from_text("systolic.toml", &text, None, &[]).unwrap()
}

/// A linear whose op runs as its stationary operand has it: one tile after the other, the streamed dimension inside.
fn simulated(stationary: Stationary, registers: u64, [m, n, k]: [u64; 3]) -> f64 {
    let chip = array(stationary, registers);
    let graph = linear(m, k, n);
    let node = |name: &str| chip.node(name).unwrap();
    let keep = |memory: &str, operand: Operand| Cut::Store {
        memory: node(memory),
        operand,
    };
    let dim = DimId::new;
    let (rows, columns, stream) = match stationary {
        Stationary::Weight => ((2, k), (1, n), 0),
        Stationary::Input => ((2, k), (0, m), 1),
        Stationary::Output => ((0, m), (1, n), 2),
    };
    let time = |d: usize, tile: u64| Cut::Temporal { dim: dim(d), tile };
    let space = |axis: u8, d: usize| Cut::Spatial {
        fanout: node("pes"),
        axis,
        dim: dim(d),
        tile: 1,
    };
    let steps = vec![
        keep("dram", Operand::Input),
        keep("dram", Operand::Weight),
        keep("dram", Operand::Output),
        keep("inputs", Operand::Input),
        keep("weights", Operand::Weight),
        keep("outputs", Operand::Output),
        time(columns.0, COLUMNS.min(columns.1)),
        time(rows.0, ROWS.min(rows.1)),
        space(0, rows.0),
        space(1, columns.0),
        keep("register", stationary.operand()),
        time(stream, 1),
    ];
    let s = by_hand(&graph, &chip, steps);
    let program = lower(&graph, &chip, &s, false);
    let times = run(&program, Pace::SkipPeriods).unwrap();
    times.end.seconds().0 * 1e9
}

/// The rules above. Transfers from the root memory take a thousandth of a cycle each.
fn rule(stationary: Stationary, registers: u64, [m, n, k]: [u64; 3]) -> f64 {
    let (s, tiles) = match stationary {
        Stationary::Weight => (m, (k / ROWS) * (n / COLUMNS)),
        Stationary::Input => (n, (k / ROWS) * (m / COLUMNS)),
        Stationary::Output => (k, (m / ROWS) * (n / COLUMNS)),
    };
    let skew = ROWS + COLUMNS - 2;
    let time = match registers {
        1 => tiles * (ROWS + s) + skew,
        _ => ROWS + (tiles - 1) * s.max(ROWS) + s + skew,
    };
    time as f64
}

#[test]
fn small_gemms_take_the_cycles_of_systolic_arrays() {
    let mut checked = 0;
    for stationary in [Stationary::Weight, Stationary::Input, Stationary::Output] {
        for registers in [1, 2] {
            for streamed in [1, 3, 4, 24] {
                for (a, b) in [(1, 1), (1, 3), (3, 2)] {
                    let (r, c) = (a * ROWS, b * COLUMNS);
                    let gemm = match stationary {
                        Stationary::Weight => [streamed, c, r],
                        Stationary::Input => [c, streamed, r],
                        Stationary::Output => [r, c, streamed],
                    };
                    let own = simulated(stationary, registers, gemm);
                    let rule = rule(stationary, registers, gemm);
                    let told =
                        format!("{stationary:?} stationary, {registers} registers, {gemm:?}");
                    assert!(
                        (own - rule).abs() < 0.01,
                        "{told}: {own} cycles, by the rule {rule}"
                    );
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, 72);
}
