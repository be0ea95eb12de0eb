#![expect(clippy::unwrap_used, reason = "tests")]

use presil_workloads::DimId;

use super::*;

/// 4 rows of 2 x 2 products on two instances, as derived by hand beside the convention's tests: DRAM with one port
/// of 16 bits, and a register of 16 bits in each instance.
const RECORD: &str = r#"{
  "accelerator": "two registers", "workload": "by hand", "objective": "energy",
  "hardware_spec": {
    "memories": {
      "reg": {
        "size": 16, "r_cost": 1, "w_cost": 2, "operands": ["O"], "served_dimensions": [],
        "ports": [
          { "name": "in", "bandwidth_min": 16, "bandwidth_max": 16, "allocation": ["O, fh", "O, fl"] },
          { "name": "out", "bandwidth_min": 16, "bandwidth_max": 16, "allocation": ["O, th"] },
          { "name": "sums", "bandwidth_min": 16, "bandwidth_max": 16, "allocation": ["O, tl"] }
        ]
      },
      "dram": {
        "size": 1000, "r_cost": 10, "w_cost": 20, "operands": ["I1", "I2", "O"], "served_dimensions": ["D1"],
        "ports": [
          { "name": "rw", "bandwidth_min": 8, "bandwidth_max": 16,
            "allocation": ["I1, tl", "I2, tl", "O, fl", "O, tl"] }
        ]
      }
    },
    "operational_array": {
      "unit_energy": 0.5, "dimensions": ["D1"], "sizes": [2], "systolic_dimensions": ["D1"]
    }
  },
  "layers": [ {
    "name": "product", "equation": "O[b][k] = I[b][c] * W[c][k]", "loop_sizes": { "B": 4, "K": 2, "C": 2 },
    "precision_bits": { "O": 16, "I": 8, "W": 8 }, "precision_final_output_bits": 8,
    "operand_to_memory_operand": { "O": "O", "I": "I1", "W": "I2" },
    "memory_levels_inner_to_outer": { "O": ["reg", "dram"], "I": ["dram"], "W": ["dram"] },
    "spatial_mapping": { "D1": { "K": 2 } },
    "temporal_mapping_inner_to_outer": {
      "O": { "reg": [["C", 2]], "dram": [["B", 4]] },
      "I": { "dram": [["C", 2], ["B", 4]] },
      "W": { "dram": [["C", 2], ["B", 4]] }
    },
    "energy": { "total": 264, "mac": 8, "memory": 256,
                "per_operand_per_level": { "O": [56, 80], "I": [40], "W": [80] } },
    "memory_word_accesses": {
      "O": [ { "rd_out_to_low": 16, "wr_in_by_low": 16, "rd_out_to_high": 8, "wr_in_by_high": 0 },
             { "rd_out_to_low": 0, "wr_in_by_low": 4, "rd_out_to_high": 0, "wr_in_by_high": 0 } ],
      "I": [ { "rd_out_to_low": 4, "wr_in_by_low": 0, "rd_out_to_high": 0, "wr_in_by_high": 0 } ],
      "W": [ { "rd_out_to_low": 8, "wr_in_by_low": 0, "rd_out_to_high": 0, "wr_in_by_high": 0 } ]
    },
    "latency": { "total": 19, "ideal": 8, "ideal_temporal": 8, "stall_slack_comb": 9, "onloading": 0,
                 "offloading": 1, "systolic_drain": 1, "compute_with_stall": 17, "with_onload": 17 },
    "utilization": { "spatial": 1.0, "u0": 0.47058823529411764, "u1": 0.47058823529411764,
                     "u2": 0.42105263157894735 },
    "memory_utilization": { "O": [0.5, 0.064], "I": [0.064], "W": [0.032] },
    "stall_slack_per_port": { "reg": { "in": 0, "out": -3, "sums": 0 }, "dram": { "rw": 9 } },
    "operand_elems": { "O": 8, "I": 8, "W": 4 }, "total_macs": 16
  } ]
}"#;

fn said(from: &str, to: &str) -> String {
    assert!(RECORD.contains(from), "{from}");
    let text = RECORD.replace(from, to);
    match read(&text) {
        Ok(recorded) => compare(&recorded, 1e-12).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_record_is_counted_as_it_says() {
    let recorded = read(RECORD).unwrap();
    assert_eq!(recorded[0].case.convention, Convention::ZigZag);
    assert_eq!(recorded[0].case.objective, Objective::Energy);
    assert_eq!(recorded[0].figures.len(), 48);
    assert_eq!(compare(&recorded, 1e-12).unwrap(), []);
}

#[test]
fn the_mapping_is_the_recorded_one() {
    let recorded = read(RECORD).unwrap();
    let e = &recorded[0].case.einsums[0];
    let names = recorded[0].case.operand_names(0);
    let text = e
        .mapping
        .as_ref()
        .unwrap()
        .describe(&e.einsum, &e.hierarchy, &names);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "dram keeps I 8 (4 x 2)",
            "dram keeps W 4 (2 x 2)",
            "dram keeps O 8 (4 x 2)",
            "for B in 4 (tile 1)",
            "reg keeps O 2 (1 x 2)",
            "for C in 2 (tile 1)",
            "for K in 2 (tile 1)  across array.D1",
        ]
    );
}

#[test]
fn a_figure_that_differs_is_named() {
    let text = RECORD.replace("\"wr_in_by_low\": 4", "\"wr_in_by_low\": 5");
    let text = text.replace("\"ideal\": 8", "\"ideal\": 8, \"unheard_of\": 1");
    let differences = compare(&read(&text).unwrap(), 1e-12).unwrap();
    let named: Vec<&str> = differences.iter().map(|d| d.figure.as_str()).collect();
    assert_eq!(named, ["latency.unheard_of", "words.O.dram.wr_in_by_low"]);
    assert!(differences[0].got.is_nan());
    assert_eq!((differences[1].expected, differences[1].got), (5.0, 4.0));
    assert_eq!(differences[1].layer, "product");
}

#[test]
fn a_convolution_has_sliding_ranks() {
    let text = RECORD
        .replace("O[b][k] = I[b][c] * W[c][k]", "O[b][k] = I[b][ic] * W[c][k]")
        .replace(
            "\"precision_bits\"",
            "\"pr_dims\": { \"IC\": 9 }, \"dimension_relations\": [\"IC=2*B+1*C\"], \"precision_bits\"",
        )
        .replace("\"I\": 8, \"W\": 4", "\"I\": 1, \"W\": 4");
    let recorded = read(&text).unwrap();
    let access = &recorded[0].case.einsums[0].einsum.inputs[0];
    assert_eq!(access.ranks[1].terms, [(DimId(0), 2), (DimId(2), 1)]);
    assert_eq!(access.extents, [4, 9]);
    // B indexes two ranks.
    let error = compare(&recorded, 1e-12).unwrap_err().to_string();
    assert!(
        error.contains("dimension `B`, which indexes several ranks"),
        "{error}"
    );
}

#[test]
fn a_dimension_wider_than_its_loops_is_not_bent() {
    let error = said("\"D1\": { \"K\": 2 }", "\"D1\": { \"K\": 4 }");
    assert!(error.contains("`K` of 2 lies 4 wide"), "{error}");
}

#[test]
fn what_does_not_fit_together_is_told_by_layer() {
    for (from, to, says) in [
        (
            "\"O\": { \"reg\": [[\"C\", 2]]",
            "\"O\": { \"reg\": [[\"B\", 2]]",
            "not those of the others",
        ),
        (
            "\"reg\": [[\"C\", 2]]",
            "\"rag\": [[\"C\", 2]]",
            "no memory `rag`",
        ),
        ("[\"I1, tl\"", "[\"I1, up\"", "`I1, up` is no transfer"),
        (
            "\"sizes\": [2]",
            "\"sizes\": []",
            "a size for each dimension",
        ),
        ("\"B\": 4, \"K\"", "\"B\": 0, \"K\"", "`B` has size 0"),
        ("I[b][c] *", "I[b][d] *", "no loop and no size `D`"),
        ("O[b][k] =", "O[b][k]", "is no equation"),
        ("\"I\": 8, \"W\": 8 }", "\"I\": 8 }", "`W` has no precision"),
        ("\"I\": [40]", "\"I\": []", "`I` needs an energy"),
        ("\"I1, tl\", ", "", "`dram` needs one"),
        ("\"layers\"", "\"strata\"", "not a ZigZag record"),
    ] {
        let error = said(from, to);
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn no_damaged_record_panics() {
    for cut in (0..RECORD.len()).step_by(37) {
        let _ = read(&RECORD[..cut]);
    }
    for (from, to) in [
        ("\"C\", 2", "\"C\", 0"),
        ("\"B\", 4", "\"B\", 18446744073709551615"),
        ("\"K\": 2 }", "\"K\": 0 }"),
        ("\"sizes\": [2]", "\"sizes\": [0]"),
        ("\"bandwidth_max\": 16", "\"bandwidth_max\": 0"),
        ("\"size\": 16", "\"size\": 0"),
        (
            "O[b][k] = I[b][c] * W[c][k]\",",
            "O[b][k] = I[ic] * W[c][k]\", \"pr_dims\": { \"IC\": 0 }, \
             \"dimension_relations\": [\"IC=1*B+9223372036854775807*C\"],",
        ),
    ] {
        if let Ok(recorded) = read(&RECORD.replace(from, to)) {
            let _ = compare(&recorded, 1e-12);
        }
    }
}
