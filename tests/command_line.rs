//! The program as a user meets it: the real binary in an empty folder.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn presil(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_presil"))
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs, expects success, reads stdout as JSON.
fn json(args: &[&str]) -> Value {
    let out = presil(folder().path(), args);
    assert_eq!(
        out.status.code(),
        Some(0),
        "{args:?}: {}",
        text(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Runs, expects exit code 2, gives stderr.
fn refused(args: &[&str]) -> String {
    let out = presil(folder().path(), args);
    assert_eq!(
        out.status.code(),
        Some(2),
        "{args:?}: {}",
        text(&out.stderr)
    );
    assert!(out.stdout.is_empty(), "{args:?} wrote to stdout");
    text(&out.stderr)
}

#[test]
fn the_main_job_prints_a_table_and_writes_a_report() {
    let folder = folder();
    let out = presil(folder.path(), &["run", "resnet50", "--chip", "edge-npu"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let table = text(&out.stdout);
    assert!(
        table.contains("resnet50") && table.contains("edge-npu"),
        "{table}"
    );
    let report = folder.path().join("out/resnet50-edge-npu");
    for file in ["report.html", "layers.csv", "layers.parquet", "run.json"] {
        assert!(
            std::fs::metadata(report.join(file)).unwrap().len() > 100,
            "{file}"
        );
    }
    let run: Value =
        serde_json::from_slice(&std::fs::read(report.join("run.json")).unwrap()).unwrap();
    assert_eq!(run["totals"]["macs"], 4_089_184_256_u64);
}

#[test]
fn json_goes_to_stdout_alone() {
    let run = json(&["run", "resnet50", "--chip", "eyeriss", "--json"]);
    for key in [
        "model",
        "chip",
        "totals",
        "layers",
        "assumptions",
        "unmodelled",
        "version",
    ] {
        assert!(run.get(key).is_some(), "no {key}");
    }
    assert!(run["totals"]["latency_s"].as_f64().unwrap() > 0.0);
    assert!(run["totals"]["energy_j"].as_f64().unwrap() > 0.0);
}

#[test]
fn language_models_have_two_phases() {
    let args = [
        "run",
        "llama3.2-1b",
        "--chip",
        "edge-npu",
        "--prompt",
        "64",
        "--generate",
        "4",
        "--precision",
        "w4a16kv8",
        "--json",
    ];
    let run = json(&args);
    assert!(run["totals"]["ttft_s"].as_f64().unwrap() > 0.0);
    assert!(run["totals"]["tpot_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn an_override_changes_the_result() {
    let args = |rate: &str| {
        let set = format!("dram.bandwidth={rate}");
        json(&[
            "run",
            "llama3.2-1b",
            "--chip",
            "edge-npu",
            "--phase",
            "decode",
            "--context",
            "64",
            "--json",
            "--set",
            &set,
        ])
    };
    let latency = |run: &Value| run["totals"]["tpot_s"].as_f64().unwrap();
    let (slow, fast) = (latency(&args("20 GB/s")), latency(&args("80 GB/s")));
    assert!(fast < 0.5 * slow, "{fast} {slow}");
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let args = ["run", "mobilenet_v2", "--chip", "edge-npu", "--json"];
    let once = presil(folder().path(), &args).stdout;
    let threads = Command::new(env!("CARGO_BIN_EXE_presil"))
        .args(args)
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .unwrap()
        .stdout;
    assert!(!once.is_empty());
    assert_eq!(once, threads);
}

#[test]
fn mistakes_are_named_with_what_would_be_right() {
    let message = refused(&["run", "resnet5O", "--chip", "edge-npu"]);
    assert!(
        message.contains("resnet5O") && message.contains("resnet50"),
        "{message}"
    );
    let message = refused(&["run", "resnet50", "--chip", "edge-mpu"]);
    assert!(message.contains("edge-npu"), "{message}");
    let message = refused(&[
        "run",
        "resnet50",
        "--chip",
        "edge-npu",
        "--precision",
        "int8x",
    ]);
    assert!(
        message.contains("int8x") && message.contains("w4a16kv8"),
        "{message}"
    );
    let message = refused(&[
        "run",
        "resnet50",
        "--chip",
        "edge-npu",
        "--set",
        "dram.bandwith=1 TB/s",
    ]);
    assert!(message.contains("bandwidth"), "{message}");
    let message = refused(&[
        "run",
        "resnet50",
        "--chip",
        "edge-npu",
        "--set",
        "dram.bandwidth=512",
    ]);
    assert!(message.contains("GB/s"), "{message}");
    let message = refused(&[
        "run",
        "resnet50",
        "--chip",
        "edge-npu",
        "--objective",
        "speed",
    ]);
    assert!(message.contains("latency"), "{message}");
    let message = refused(&["run", "resnet50", "--chip", "edge-npu", "--batch", "0"]);
    assert!(message.contains("batch"), "{message}");
}

#[test]
fn malformed_models_are_refused_by_the_program() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/onnx/");
    for name in [
        "bad_conv_groups",
        "bad_ext_path_traversal",
        "bad_truncated_half",
        "bad_dims_2e31",
        "bad_empty",
    ] {
        let message = refused(&["run", &format!("{data}{name}.onnx"), "--chip", "edge-npu"]);
        assert!(message.contains("error"), "{name}: {message}");
    }
}

#[test]
fn what_ships_can_be_listed_and_shown() {
    let chips = json(&["chips", "--json"]);
    for chip in chips["chips"].as_array().unwrap() {
        let shown = json(&["chips", "show", chip.as_str().unwrap(), "--json"]);
        assert!(!shown["constants"].as_array().unwrap().is_empty());
    }
    let shown = json(&[
        "models",
        "show",
        "llama3-8b",
        "--phase",
        "decode",
        "--context",
        "2048",
        "--json",
    ]);
    assert_eq!(shown["parameters"], 8_030_261_248_u64);
    let imported = json(&[
        "import",
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/onnx/tinyres_op17_legacy.onnx"
        ),
        "--json",
    ]);
    assert_eq!(imported["macs"], 5_423_744_u64);
}

#[test]
fn the_schema_command_prints_what_is_committed() {
    for form in ["chip", "case"] {
        let printed = json(&["schema", form]);
        let root = env!("CARGO_MANIFEST_DIR");
        let path = format!("{root}/configs/schema/{form}.schema.json");
        let committed = std::fs::read_to_string(path).unwrap();
        assert_eq!(printed, serde_json::from_str::<Value>(&committed).unwrap());
    }
}

#[test]
fn what_was_computed_reaches_the_files_or_stdout() {
    let folder = folder();
    // A folder that is a file: the table is there, the mistake is told once.
    std::fs::write(folder.path().join("taken"), "").unwrap();
    let args = ["run", "resnet18", "--chip", "edge-npu", "--out", "taken"];
    let out = presil(folder.path(), &args);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stdout).contains("resnet18 on edge-npu"));
    let told = text(&out.stderr);
    assert!(
        told.contains("--out") && told.matches("os error").count() == 1,
        "{told}"
    );
    // One report that can't be written costs none of the others.
    std::fs::create_dir_all(folder.path().join("part/report.html")).unwrap();
    let args = ["run", "resnet18", "--chip", "edge-npu", "--out", "part"];
    let out = presil(folder.path(), &args);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("report.html"));
    assert!(folder.path().join("part/run.json").is_file());
    assert!(folder.path().join("part/layers.csv").is_file());
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_stdout_costs_no_files() {
    let folder = folder();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_presil"))
        .args(["run", "resnet18", "--chip", "edge-npu", "--out", "here"])
        .current_dir(folder.path())
        .stdout(full)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(folder.path().join("here/run.json").is_file());
}

#[test]
fn mistakes_are_told_with_their_remedy() {
    let cases: [(&[&str], &[&str]); 8] = [
        (&["import", "."], &["is a folder", "config.json"]),
        (
            &[
                "import",
                "resnet18",
                "--shape",
                "image=1x3x64x64",
                "--shape",
                "image=1x3x32x32",
            ],
            &["two shapes", "`image`"],
        ),
        (
            &["import", "llama3-8b", "--shape", "x=1"],
            &["--prompt", "`x`"],
        ),
        (
            &[
                "run",
                "resnet18",
                "--chip",
                "edge-npu",
                "--precision",
                "fp8",
            ],
            &["did you mean `fp8_e"],
        ),
        (
            &[
                "run",
                "resnet18",
                "--chip",
                "edge-npu",
                "--accumulate",
                "mxfp4",
            ],
            &["--accumulate", "fp32"],
        ),
        (
            &[
                "run",
                "resnet18",
                "--chip",
                "edge-npu",
                "--batch",
                "18446744073709551615",
            ],
            &["too large"],
        ),
        (
            &["run", "gpt2", "--chip", "edge-npu", "--generate", "600"],
            &["1024", "prompt and generated tokens"],
        ),
        (
            &[
                "run",
                "resnet18",
                "--chip",
                "edge-npu",
                "--set",
                "sram.capacity=1 B",
            ],
            &["word", "larger"],
        ),
    ];
    for (args, parts) in cases {
        let told = refused(args);
        for part in parts {
            assert!(told.contains(part), "{args:?}: {told}");
        }
    }
    // A clock that is wrong is told of once, not at each of its users.
    let args = [
        "run",
        "resnet18",
        "--chip",
        "edge-npu",
        "--set",
        "core.frequency=0 GHz",
    ];
    let told = refused(&args);
    assert_eq!(told.matches("error").count(), 1, "{told}");
}
