//! `presil map PROBLEM --chip CHIP` as a user meets it.

use std::process::Command;

use serde_json::Value;

use super::program::{json, refused, stdout};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

#[test]
fn a_short_form_is_mapped_and_its_accounts_close() {
    let told = json(&[
        "map",
        "matmul",
        "256x128x192",
        "--chip",
        "edge-npu",
        "--json",
    ]);
    assert_eq!(told["macs"], 256 * 128 * 192);
    assert_eq!(told["homes"]["weight"], "dram");
    let latency = number(&told["latency_s"]);
    let parts = told["time"].as_array().unwrap();
    let busiest = parts.iter().filter(|p| p["name"] != "latency");
    let busiest = busiest.map(|p| number(&p["busy_s"])).fold(0.0, f64::max);
    let alone = parts.iter().find(|p| p["name"] == "latency").unwrap();
    assert!((busiest + number(&alone["busy_s"]) - latency).abs() < 1e-9 * latency);
    let entries = told["energy"].as_array().unwrap().iter();
    let joules: f64 = entries.map(|e| number(&e["energy_j"])).sum();
    assert!((joules - number(&told["energy_j"])).abs() < 1e-9 * joules);
    for memory in told["memories"].as_array().unwrap() {
        assert!(number(&memory["capacity_share"]) <= 1.0, "{memory}");
        assert!(number(&memory["port_utilization"]) <= 1.0, "{memory}");
    }
    let proof = &told["proof"]["objective"];
    assert!(number(&proof["lower_bound"]) <= number(&proof["found"]));
}

#[test]
fn the_text_fits_a_terminal_and_says_everything() {
    let text = stdout(&[
        "map",
        "conv k32 c16 p14 q14 r3 s3 pad1",
        "--chip",
        "edge-npu",
        "--explain",
    ]);
    for part in [
        "conv k32 c16 p14 q14 r3 s3 pad1 on edge-npu",
        "int8 x int8 into int32",
        "input from dram, weight from dram, output to dram",
        "weight_register keeps weight",
        "memory ",
        "axis ",
        "binds",
        "static",
        "least latency",
        "What one more would give, by latency",
        "Nothing: ",
        "Why no more of each axis",
        "not accepted: the axis takes reduction",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let widest = text.lines().map(|l| l.chars().count()).max();
    assert!(widest <= Some(80), "{widest:?} columns:\n{text}");
}

#[test]
fn a_layer_has_the_mapping_that_its_run_has() {
    let run = json(&["run", "resnet18", "--chip", "edge-npu", "--json"]);
    let layers = run["layers"].as_array().unwrap();
    let mapped =
        |l: &&Value| l["mapping"].as_array().is_some_and(|m| !m.is_empty()) && l["repeat"] == 1;
    let layer = layers.iter().filter(mapped).nth(3).unwrap();
    let name = layer["name"].as_str().unwrap();
    let told = json(&[
        "map",
        &format!("resnet18/{name}"),
        "--chip",
        "edge-npu",
        "--work",
        "2000",
        "--json",
    ]);
    assert_eq!(told["macs"], layer["executed_macs"]);
    assert_eq!(told["shape"], layer["shape"]);
    assert_eq!(
        told["axes"].as_array().map(Vec::len),
        layer["axes"].as_array().map(Vec::len)
    );
    for (a, b) in told["memories"]
        .as_array()
        .unwrap()
        .iter()
        .zip(layer["memories"].as_array().unwrap())
    {
        assert_eq!(a["memory"], b["memory"]);
        assert_eq!(a["capacity_share"], b["capacity_share"], "{name}");
    }
    let same = json(&[
        "map", "resnet18", "--layer", name, "--chip", "edge-npu", "--work", "2000", "--json",
    ]);
    assert_eq!(told, same);
}

#[test]
fn one_more_is_never_worse_and_repeats_to_the_byte() {
    let args = [
        "map",
        "matmul 100x60x36",
        "--chip",
        "eyeriss",
        "--objective",
        "edp",
        "--explain",
        "--json",
    ];
    let text = stdout(&args);
    let out = Command::new(env!("CARGO_BIN_EXE_presil"))
        .args(args)
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .unwrap();
    assert_eq!(text.as_bytes(), out.stdout);
    let told: Value = serde_json::from_str(&text).unwrap();
    let prices = told["prices"]["one_more"].as_array().unwrap();
    assert!(prices.len() > 10);
    let mut last = f64::NEG_INFINITY;
    for price in prices {
        for objective in ["latency", "energy", "edp"] {
            assert!(
                number(&price["change"][objective]["relative_change"]) <= 0.0,
                "{price}"
            );
        }
        let edp = number(&price["change"]["edp"]["relative_change"]);
        assert!(edp >= last, "sorted");
        last = edp;
    }
    assert!(
        prices
            .iter()
            .any(|p| p["resource"] == "every clock 10 % faster")
    );
    assert!(number(&prices[0]["change"]["edp"]["relative_change"]) < 0.0);
    assert!(told["why"].as_array().is_some_and(|w| !w.is_empty()));
}

#[test]
fn a_mapping_is_written_as_a_case_and_told_again() {
    let text = stdout(&[
        "map",
        "matmul 64x48x32",
        "--chip",
        "edge-npu",
        "--format",
        "case",
    ]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("found.toml");
    std::fs::write(&path, text).unwrap();
    let again = json(&["eval", &path.display().to_string(), "--json"]);
    let told = json(&["map", "matmul 64x48x32", "--chip", "edge-npu", "--json"]);
    let entries = told["energy"].as_array().unwrap().iter();
    let dynamic = entries.filter(|e| e["action"] != "static" && e["action"] != "hop");
    let picojoules: f64 = dynamic.map(|e| number(&e["energy_j"]) * 1e12).sum();
    // Wires apart: a hierarchy has one width for an operand on its way, and partial sums are wider.
    let entries = again["einsums"][0]["conventions"][0]["energy"]
        .as_array()
        .unwrap()
        .iter();
    let dynamic = entries.filter(|e| e["action"] != "hop");
    let counted: f64 = dynamic.map(|e| number(&e["energy_pj"])).sum();
    assert!(
        (counted - picojoules).abs() < 1e-6 * picojoules,
        "{counted} {picojoules}"
    );
}

#[test]
fn several_mappings_are_told_best_first() {
    let args = |more: &[&'static str]| {
        let base = ["map", "matmul 64x48x32", "--chip", "edge-npu", "--json"];
        json(&[&base[..], more].concat())
    };
    let best = args(&["--best", "3"]);
    let mappings = best["mappings"].as_array().unwrap();
    assert!((1..=3).contains(&mappings.len()));
    assert!(number(&mappings[0]["latency_s"]) <= number(&best["latency_s"]));
    for pair in mappings.windows(2) {
        assert!(number(&pair[0]["latency_s"]) <= number(&pair[1]["latency_s"]));
    }
    let front = args(&["--pareto"]);
    for pair in front["mappings"].as_array().unwrap().windows(2) {
        assert!(number(&pair[0]["latency_s"]) < number(&pair[1]["latency_s"]));
        assert!(number(&pair[0]["energy_j"]) > number(&pair[1]["energy_j"]));
    }
    // What is not proven has gaps, and the bounds of points say where.
    let of_front = &front["front"];
    let gap = number(&of_front["latency_gap"]);
    let points = front["mappings"].as_array().unwrap().iter();
    let open = points.map(|m| 1.0 - number(&m["least_latency_s"]) / number(&m["latency_s"]));
    let widest = open.fold(0.0, f64::max);
    assert!((widest - gap).abs() < 1e-8, "{widest} {gap}");
    let proven = gap == 0.0 && number(&of_front["energy_gap"]) == 0.0;
    assert_eq!(of_front["proven"], proven);
    let least = number(&best["latency_s"]).min(number(&mappings[0]["latency_s"]));
    assert!(number(&front["mappings"][0]["latency_s"]) <= least * (1.0 + 1e-9));
}

#[test]
fn mistakes_are_told_with_their_remedy() {
    for (args, parts) in [
        (
            vec!["map", "resnet50", "--chip", "edge-npu"],
            &["sums of products", "resnet50/NAME"][..],
        ),
        (
            vec!["map", "resnet50/conv9", "--chip", "edge-npu"],
            &["has no op `conv9`"],
        ),
        (
            vec!["map", "resnet51/conv1", "--chip", "edge-npu"],
            &["did you mean"],
        ),
        (
            vec!["map", "matmul 5x6", "--chip", "edge-npu"],
            &["2 sizes", "m x n x k"],
        ),
        (
            vec!["map", "matmul 5x6x7", "--chip", "edgy-npu"],
            &["there is no chip", "edge-npu"],
        ),
        (
            vec![
                "map",
                "matmul 5x6x7",
                "--chip",
                "eyeriss",
                "--precision",
                "fp32",
            ],
            &["no array of chip `eyeriss` multiplies", "--precision"],
        ),
        (
            vec!["map", "matmul 5x6x7", "--chip", "eyeriss", "--perfect"],
            &["--perfect", "accelforge"],
        ),
        (
            vec!["map", "bert-base/layers.softmax", "--chip", "edge-npu"],
            &["has no op `layers.softmax`"],
        ),
        (
            vec![
                "map",
                "matmul 5x6x7",
                "--chip",
                "edge-npu",
                "--set",
                "weight_register.capacity=0.5 B",
            ],
            &["weight_register"],
        ),
        (vec!["map", "matmul 5x6x7"], &["of no known form"]),
    ] {
        let told = refused(&args);
        for part in parts {
            assert!(told.contains(part), "{args:?}: {told}");
        }
    }
}

/// Writes constraints to a file of the test's own.
fn constraints(name: &str, text: &str) -> String {
    let file = std::env::temp_dir().join(format!("presil-{}-{name}.toml", std::process::id()));
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// The loops of a nest, outermost first: dimension, trips, and the axis that they lie along.
fn loops(told: &Value) -> Vec<(String, u64, Option<String>)> {
    let lines = told["mapping"].as_array().unwrap().iter();
    let words = lines.map(|l| l.as_str().unwrap().split_whitespace().collect::<Vec<_>>());
    let loops = words.filter(|w| w[0] == "for");
    loops
        .map(|w| {
            let axis = w
                .iter()
                .position(|x| *x == "across")
                .map(|i| w[i + 1].to_owned());
            (w[1].to_owned(), w[3].parse().unwrap(), axis)
        })
        .collect()
}

const CONV: [&str; 4] = ["map", "conv k64 c32 p14 q14 r3 s3", "--chip", "edge-npu"];

#[test]
fn constraints_hold_and_cost_something() {
    let free = json(&[&CONV[..], &["--json"]].concat());
    let file = constraints(
        "dataflow",
        r#"
        [[constraint]]
        level = "weight_register"
        forbidden = ["k", "c", "r", "s"]

        [[constraint]]
        level = "pes.columns"
        trips = { k = 8 }

        [[constraint]]
        level = "dram"
        trips = { p = 7 }

        [[constraint]]
        level = "sram"
        bypass = ["output"]
        "#,
    );
    let told = json(&[&CONV[..], &["--constraints", &file, "--json"]].concat());
    let all = loops(&told);
    let across = |axis: &str, dim: &str| -> u64 {
        let here = all
            .iter()
            .filter(|l| l.2.as_deref() == Some(axis) && l.0 == dim);
        here.map(|l| l.1).product()
    };
    assert_eq!(across("pes.columns", "k"), 8, "{all:?}");
    let lines: Vec<&str> = told["mapping"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| l.as_str().unwrap().trim())
        .collect();
    let last = lines
        .iter()
        .rposition(|l| l.starts_with("weight_register keeps"))
        .unwrap();
    let inside = &lines[last + 1..];
    assert!(
        inside.iter().all(|l| ["p", "q"]
            .iter()
            .any(|d| l.starts_with(&format!("for {d} ")))),
        "{lines:?}"
    );
    let first = lines
        .iter()
        .skip(3)
        .position(|l| l.contains(" keeps "))
        .unwrap()
        + 3;
    let outer: u64 = lines[3..first]
        .iter()
        .filter(|l| l.starts_with("for p "))
        .map(|l| l.split(' ').nth(3).unwrap().parse::<u64>().unwrap())
        .product();
    assert_eq!(outer, 7, "{lines:?}");
    assert!(
        !lines.iter().any(|l| l.starts_with("sram keeps output")),
        "{lines:?}"
    );
    assert!(number(&told["latency_s"]) >= number(&free["latency_s"]));
    let proof = &told["proof"]["objective"];
    assert!(number(&proof["lower_bound"]) <= number(&proof["found"]));
}

#[test]
fn constraints_that_name_nothing_or_ask_too_much_are_refused() {
    for (name, text, parts) in [
        (
            "level",
            "[[constraint]]\nlevel = \"glb\"\nforbidden = [\"k\"]\n",
            &[
                "`glb` is no memory or fanout",
                "weight_register",
                "pes.rows",
            ][..],
        ),
        (
            "rank",
            "[[constraint]]\nlevel = \"sram\"\nforbidden = [\"m\"]\n",
            &["`m` is no dimension", "n, k, "],
        ),
        (
            "keep",
            "[[constraint]]\nlevel = \"acc\"\nkeep = [\"weight\"]\n",
            &["`acc`: weight cannot be kept there"],
        ),
        (
            "trips",
            "[[constraint]]\nlevel = \"pes.columns\"\ntrips = { k = 65 }\n",
            &[
                "the constraint of `pes.columns` cannot be met",
                "65 trips of `k`",
            ],
        ),
        (
            "axis",
            "[[constraint]]\nlevel = \"pes.rows\"\ntrips = { k = 2 }\n",
            &[
                "the constraint of `pes.rows` cannot be met",
                "does not take `k`",
            ],
        ),
    ] {
        let file = constraints(name, text);
        let told = refused(&[&CONV[..], &["--constraints", &file]].concat());
        for part in parts {
            assert!(told.contains(part), "{name}: {told}");
        }
    }
}

#[test]
fn seconds_end_a_search_with_its_gap() {
    let start = std::time::Instant::now();
    let told = json(&[
        "map",
        "conv k512 c512 p28 q28 r3 s3",
        "--chip",
        "simba",
        "--objective",
        "energy",
        "--budget",
        "1",
        "--json",
    ]);
    assert!(start.elapsed().as_secs_f64() < 30.0);
    let proof = &told["proof"]["objective"];
    let (found, bound) = (number(&proof["found"]), number(&proof["lower_bound"]));
    assert!(bound > 0.0 && bound <= found, "{proof}");
    assert!(
        (number(&proof["gap"]) - (1.0 - bound / found)).abs() < 1e-12,
        "{proof}"
    );
}

#[test]
fn constraints_have_prices() {
    let file = constraints(
        "priced",
        "[[constraint]]\nlevel = \"pes.columns\"\ntrips = { k = 8 }\n",
    );
    let args = [
        "--constraints",
        &file,
        "--explain",
        "--work",
        "500",
        "--json",
    ];
    let told = json(&[&CONV[..], &args].concat());
    let more = told["prices"]["one_more"].as_array().unwrap();
    let lifted = more
        .iter()
        .find(|p| p["resource"] == "pes.columns: without its constraint")
        .unwrap();
    assert!(number(&lifted["change"]["latency"]["relative_change"]) < -0.1);
}

#[test]
fn a_run_obeys_constraints_of_its_ops() {
    let run = ["run", "mobilenet_v2", "--chip", "edge-npu", "--no-fusion"];
    let with = |name: &str, text: &str| constraints(name, text);
    let one = with(
        "run",
        "[[constraint]]\nop = [\"*.conv.3\", \"*.conv.2\"]\nlevel = \"pes.columns\"\ntrips = { k = 8 }\n",
    );
    let told = json(&[&run[..], &["--constraints", &one, "--json"]].concat());
    let free = json(&[&run[..], &["--json"]].concat());
    let layers = |v: &Value| v["layers"].as_array().unwrap().clone();
    let mut slower = 0;
    for (a, b) in layers(&told).iter().zip(layers(&free)) {
        let (with, without) = (number(&a["latency_s"]), number(&b["latency_s"]));
        slower += usize::from(with > without * 1.01);
    }
    assert!(slower > 0, "no layer is slower");
    for (name, text, parts) in [
        (
            "idle",
            "[[constraint]]\nop = [\"nothing\"]\nlevel = \"sram\"\nkeep = [\"weight\"]\n",
            &["constraint 1", "no op"][..],
        ),
        (
            "unmet",
            "[[constraint]]\nop = [\"*\"]\nlevel = \"pes.columns\"\ntrips = { k = 1000000 }\n",
            &["1000000 trips of `k`"],
        ),
        (
            "form",
            "[[constraints]]\nlevel = \"sram\"\n",
            &["constraint"],
        ),
    ] {
        let file = with(name, text);
        let told = refused(&[&run[..], &["--constraints", &file]].concat());
        for part in parts {
            assert!(told.contains(part), "{told}");
        }
    }
}
