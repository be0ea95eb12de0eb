//! `presil numerics run` and `vectors`: a trained model in chips' arithmetic.

use serde_json::Value;

use crate::program::presil;

const MODEL: &str = "tests/data/models/digits-cnn/graph.toml";
const TASK: &str = "tests/data/models/digits-cnn/task.toml";

fn report(args: &str) -> Value {
    let common = ["numerics", "run", MODEL, "--data", TASK, "--json"];
    let args: Vec<&str> = common.into_iter().chain(args.split_whitespace()).collect();
    let out = presil(&args);
    let errors = String::from_utf8_lossy(&out.stderr).to_string();
    assert_eq!(out.status.code(), Some(0), "{args:?}: {errors}");
    serde_json::from_slice(&out.stdout).unwrap()
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_model_is_told_with_its_errors_its_metric_and_its_cost() {
    let told = report("--chip edge-npu");
    let metric = &told["metric"];
    // The framework's own: 468 of 478 and 0.1395127.
    assert!((number(&metric["reference_loss"]) - 0.1395127).abs() < 1e-5);
    assert_eq!(number(&metric["reference_accuracy"]), 468.0 / 478.0);
    assert!((number(&metric["accuracy"]) - 468.0 / 478.0).abs() < 0.005);
    let ops = told["ops"].as_array().unwrap();
    assert_eq!(ops.len(), 12);
    for op in ops {
        assert!(number(&op["sqnr_db"]) > 25.0, "{op}");
        assert_eq!(op["overflows"], 0, "{op}");
    }
    let bits: Vec<f64> = ops
        .iter()
        .filter_map(|o| o["safe_accumulator_bits"].as_f64())
        .collect();
    assert_eq!(bits.len(), 6, "one for each convolution and linear");
    // 288 products of 8-bit numbers fit 15 + 9 bits, whatever the data.
    assert!(bits.iter().all(|b| (12.0..=24.0).contains(b)), "{bits:?}");
    for (figure, least, most) in [
        ("latency_s", 1e-7, 1e-3),
        ("energy_j", 1e-9, 1e-3),
        ("area_mm2", 1.0, 100.0),
    ] {
        assert!(
            (least..most).contains(&number(&told["cost"][figure])),
            "{figure}: {}",
            told["cost"]
        );
    }
    assert_eq!(told["first_divergence"], Value::Null);
}

/// The bits of sums that never saturate do not depend on the mapping; those of sums that do, do.
#[test]
fn narrow_accumulators_depend_on_the_mapping() {
    let losses = |accumulate: &str| {
        ["pes.rows.size=32", "pes.rows.size=8"].map(|set| {
            let told = report(&format!(
                "--chip edge-npu --samples 40 --accumulate {accumulate} --set {set}"
            ));
            let overflows = |o: &Value| o["overflows"].as_u64().unwrap();
            let sum: u64 = told["ops"].as_array().unwrap().iter().map(overflows).sum();
            (number(&told["metric"]["loss"]), sum)
        })
    };
    let [wide, other] = losses("int32");
    assert_eq!((wide.0, wide.1), (other.0, 0));
    let [narrow, other] = losses("int16");
    assert!(
        narrow.0 != other.0 && narrow.1 > 0 && other.1 > 0,
        "{narrow:?} {other:?}"
    );
    assert!(narrow.0 > wide.0 + 0.05, "{narrow:?} {wide:?}");
}

#[test]
fn ops_are_ranked_by_what_they_cost_alone() {
    let told = report("--chip edge-npu --samples 60 --accumulate int14 --sensitivity");
    let ranked = told["sensitivity"].as_array().unwrap();
    assert_eq!(ranked.len(), 6);
    let gains: Vec<f64> = ranked.iter().map(|s| number(&s["loss_gain"])).collect();
    assert!(gains.is_sorted_by(|a, b| a >= b), "{gains:?}");
    assert!(gains[0] > 0.5, "{gains:?}");
}

#[test]
fn vectors_hold_every_step_of_a_sum() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let args = format!(
        "numerics vectors --weights int8 --activations int8 --accumulate int16 --length 40 --count 7 --out {out}"
    );
    let made = presil(&args.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        made.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let lines = |name: &str, bits: u32| -> Vec<i64> {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        let code = |line: &str| {
            let code = i64::from_str_radix(line, 16).unwrap();
            if code >> (bits - 1) == 1 {
                code - (1 << bits)
            } else {
                code
            }
        };
        text.lines().map(code).collect()
    };
    let (a, b) = (lines("a.mem", 8), lines("b.mem", 8));
    let (trace, sum) = (lines("trace.mem", 16), lines("sum.mem", 16));
    assert_eq!(
        [a.len(), b.len(), trace.len(), sum.len()],
        [280, 280, 280, 7]
    );
    let mut saturated = 0;
    for (v, sum) in sum.iter().enumerate() {
        let mut register = 0i64;
        for i in v * 40..(v + 1) * 40 {
            let next = register + a[i] * b[i];
            register = next.clamp(-32768, 32767);
            saturated += u32::from(register != next);
            assert_eq!(trace[i], register);
        }
        assert_eq!(*sum, register);
    }
    assert!(saturated > 0, "the vectors show no saturation");
}

#[test]
fn what_can_not_be_executed_is_told() {
    let cases = [
        (
            vec!["resnet50", "--chip", "edge-npu", "--data", TASK],
            "has no weights",
        ),
        (
            vec![
                MODEL,
                "--chip",
                "edge-npu",
                "--data",
                TASK,
                "--accumulate",
                "hopper_f8",
            ],
            "takes fp8_e4m3fn, fp8_e5m2, not int8",
        ),
        (
            vec![
                MODEL,
                "--chip",
                "edge-npu",
                "--data",
                TASK,
                "--accumulate",
                "int99",
            ],
            "no unit and no register",
        ),
        (
            vec![
                MODEL,
                "--chip",
                "edge-npu",
                "--data",
                TASK,
                "--set",
                "numerics.units=[\"int32_wraping\"]",
            ],
            "numerics.units has `int32_wraping`",
        ),
        (
            vec![
                MODEL,
                "--chip",
                "edge-npu",
                "--data",
                TASK,
                "--weights",
                "int7x",
            ],
            "int7x",
        ),
        (
            vec![
                MODEL, "--chip", "edge-npu", "--data", TASK, "--metric", "best",
            ],
            "no metric",
        ),
        (
            vec![
                MODEL,
                "--chip",
                "edge-npu",
                "--data",
                TASK,
                "--metric",
                "mse:nothing=label",
            ],
            "no output `nothing`; it has logits",
        ),
        (
            vec![
                MODEL,
                "--chip",
                "edge-npu",
                "--data",
                "tests/data/models/digits-cnn/meta.json",
            ],
            "no .npy, .npz or .safetensors",
        ),
        (
            vec![
                MODEL,
                "--chip",
                "edge-npu",
                "--data",
                TASK,
                "--input",
                "input=pixels",
            ],
            "has no array `pixels`",
        ),
    ];
    for (args, expected) in cases {
        let all: Vec<&str> = ["numerics", "run"]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        let out = presil(&all);
        let errors = String::from_utf8_lossy(&out.stderr).to_string();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {errors}");
        assert!(errors.contains(expected), "{args:?}: {errors}");
    }
}

#[test]
fn onnx_files_are_executed_with_their_own_weights() {
    let file = |name: &str| format!("tests/data/onnx/{name}");
    let (model, data) = (
        file("vit_tiny2_op20_dynamo.onnx"),
        file("io/vit_tiny2_op20_dynamo.safetensors"),
    );
    let args = [
        "numerics",
        "run",
        &model,
        "--chip",
        "h100-sxm",
        "--data",
        &data,
        "--input",
        "x=in:x",
        "--metric",
        "mse:linear_8=out:linear_8",
        "--json",
    ];
    let out = presil(&args);
    assert_eq!(
        out.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    // Against a runtime's output: the reference is it, bf16 is near it.
    let metric = &told["metric"];
    assert!(number(&metric["reference_loss"]) < 1e-10, "{metric}");
    assert!((1e-9..1e-2).contains(&number(&metric["loss"])), "{metric}");
}
