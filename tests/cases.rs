//! `presil eval` and `presil map` as a user meets them.

use std::path::Path;

use super::program::{json, presil, refused, stdout};

fn case(name: &str) -> String {
    format!("{}/configs/cases/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_given_mapping_is_told_level_by_level() {
    let told = stdout(&["eval", &case("gemm.toml")]);
    for part in [
        "gemm: einsum G",
        "dram keeps A 65536 (256 x 256)",
        "convention accelforge",
        "446,824,448",
        "16,777,216 cycles",
    ] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    let told = stdout(&["eval", &case("gemm.toml"), "--convention", "all"]);
    for part in ["physical", "timeloop", "accelforge", "zigzag", "scalesim:"] {
        assert!(told.contains(part), "no {part} in {told}");
    }
}

#[test]
fn the_json_of_an_evaluation_carries_its_units() {
    let told = json(&["eval", &case("gemm.toml"), "--json"]);
    assert_eq!(told["totals"][0]["energy_pj"], 446_824_448.0);
    assert_eq!(told["totals"][0]["cycles"], 16_777_216.0);
    let accesses = &told["einsums"][0]["conventions"][0]["accesses"];
    let glb_a = accesses.as_array().unwrap().iter();
    let mut glb_a = glb_a.filter(|a| a["level"] == "glb" && a["tensor"] == "A");
    let glb_a = glb_a.next().unwrap();
    assert_eq!(
        (glb_a["fills"].as_f64(), glb_a["reads"].as_f64()),
        (Some(65_536.0), Some(16_777_216.0))
    );
    assert_eq!(told["einsums"][0]["mapping"][1], "for m in 2");
    let two = json(&["eval", &case("gemm.toml"), &case("gemm.toml"), "--json"]);
    assert_eq!(two["cases"].as_array().unwrap().len(), 2);
}

#[test]
fn mistakes_in_cases_are_told_with_their_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| {
        let path = folder.path().join("bad.toml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let gemm = std::fs::read_to_string(case("gemm.toml")).unwrap();
    let bad = write(
        &gemm
            .replace("glb: keep A", "glbb: keep A")
            .replace("[k, n]", "[k, z]"),
    );
    let told = refused(&["eval", &bad]);
    assert!(
        told.contains("rank `z` has no size") && told.contains("bad.toml:"),
        "{told}"
    );
    for (args, parts) in [
        (
            vec!["eval", "nowhere.toml"],
            &["cannot read `nowhere.toml`"][..],
        ),
        (vec!["eval", "x.txt"], &["no known form", ".toml"]),
        (vec!["eval"], &["<CASES>"]),
        (vec!["map"], &["<PROBLEM>"]),
    ] {
        let told = refused(&args);
        for part in parts {
            assert!(told.contains(part), "{args:?}: {told}");
        }
    }
    let told = refused(&["eval", &case("gemm.toml"), "--convention", "timelop"]);
    assert!(told.contains("did you mean `timeloop`?"), "{told}");
    let told = refused(&["eval", &case("attention.json")]);
    assert!(
        told.contains("has no mapping") && told.contains("presil map"),
        "{told}"
    );
    let told = refused(&["map", &case("gemm.toml"), "--chip", "edge-npu"]);
    assert!(told.contains("told twice"), "{told}");
    let told = refused(&["map", &case("gemm.toml"), "--format", "case", "--json"]);
    assert!(told.contains("cannot be used with"), "{told}");
    let without = gemm.split_once("[[level]]").unwrap().0;
    let told = refused(&["map", &write(without)]);
    assert!(
        told.contains("says no machine") && told.contains("--chip"),
        "{told}"
    );
}

#[test]
fn the_best_mapping_is_found_printed_and_read_again() {
    let found = json(&["map", &case("gemm.toml"), "--json"]);
    assert_eq!(found["totals"][0]["energy_pj"], 446_824_448.0);
    assert_eq!(found["proof"]["proven"], true);
    let text = stdout(&["map", &case("gemm.toml"), "--format", "case"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("found.toml");
    std::fs::write(&path, text).unwrap();
    let again = json(&["eval", &path.display().to_string(), "--json"]);
    assert_eq!(again["totals"], found["totals"]);
    assert_eq!(
        again["einsums"][0]["mapping"],
        found["einsums"][0]["mapping"]
    );
    let text = stdout(&["map", &case("gemm.toml")]);
    assert!(
        text.contains("proven: no mapping of the space is better"),
        "{text}"
    );
}

#[test]
fn cases_are_mapped_at_once_and_one_that_cannot_be_costs_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(case("gemm.toml")).unwrap();
    let write = |name: &str, capacity: &str| {
        let file = folder.path().join(format!("{name}.toml"));
        let renamed = text.replace("name = \"gemm\"", &format!("name = \"{name}\""));
        std::fs::write(&file, renamed.replace("\"64 KiB\"", capacity)).unwrap();
        file.display().to_string()
    };
    let first = case("gemm.toml");
    let (larger, tiny) = (write("larger", "\"128 KiB\""), write("tiny", "\"1 B\""));
    // Each point has the cost that it has alone.
    let both = json(&["map", &first, &larger, "--json"]);
    for (i, file) in [&first, &larger].into_iter().enumerate() {
        let alone = json(&["map", file, "--json"]);
        let cost = |v: &serde_json::Value| v["totals"][0]["energy_pj"].as_f64().unwrap();
        let together = cost(&both["mappings"][i]);
        assert!(
            (together - cost(&alone)).abs() <= 1e-12 * together,
            "{file}"
        );
    }
    // The one that fits nowhere is named, the other is still there.
    let out = presil(&["map", &first, &tiny]);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stdout).contains("proven"));
    let told = String::from_utf8_lossy(&out.stderr).to_string();
    assert!(told.contains("case `tiny`: no mapping fits"), "{told}");
}

#[test]
fn prices_tell_what_one_more_would_give() {
    let found = json(&["map", &case("gemm.toml"), "--explain", "--json"]);
    let prices = found["prices"].as_array().unwrap();
    let of = |resource: &str| {
        let found = prices.iter().find(|p| p["resource"] == resource);
        found.unwrap()["relative_change"].as_f64().unwrap()
    };
    // More room lets W stay: one tensor less is read twice. Bandwidth takes no energy.
    assert!(of("1 KiB of glb") < 0.0, "{prices:?}");
    assert_eq!(of("8 bits/cycle of dram (port)"), 0.0);
}

#[test]
fn a_case_without_levels_runs_on_a_chip() {
    let gemm = std::fs::read_to_string(case("gemm.toml")).unwrap();
    let (head, _) = gemm.split_once("[[level]]").unwrap();
    let (before, _) = head.rsplit_once("mapping = ").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("problem.toml");
    std::fs::write(&path, before).unwrap();
    let told = refused(&["map", &path.display().to_string(), "--chip", "edge-npu"]);
    assert!(told.contains("does not obey"), "{told}");
    std::fs::write(&path, before.replace("perfect = true", "")).unwrap();
    let found = json(&[
        "map",
        &path.display().to_string(),
        "--chip",
        "edge-npu",
        "--json",
    ]);
    assert_eq!(found["convention"], "physical");
    assert_eq!(found["macs"], 256 * 256 * 256);
    let found = json(&[
        "map",
        &path.display().to_string(),
        "--chip",
        "edge-npu",
        "--convention",
        "accelforge",
        "--json",
    ]);
    assert!(found["totals"][0]["latency_s"].as_f64().unwrap() > 0.0);
    assert!(found["notes"][0].as_str().unwrap().contains("edge-npu"));
}

#[test]
fn every_case_that_ships_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/cases");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let loaded = presil::eval::load(std::slice::from_ref(&path), None);
        assert!(
            loaded.is_ok(),
            "{}: {}",
            path.display(),
            loaded.unwrap_err()
        );
        read += 1;
    }
    assert!(read >= 4, "{read}");
}
