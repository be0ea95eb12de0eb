//! The crates depend on each other one way only.

use std::path::Path;

/// For each crate, the crates of this project that it may depend on.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("numerics", &[]),
    ("workloads", &["numerics"]),
    ("execution", &["numerics", "workloads"]),
    ("hwmodels", &["numerics"]),
    ("mapper", &["numerics", "workloads", "hwmodels"]),
    ("sim", &["numerics", "workloads", "hwmodels", "mapper"]),
    (
        "reports",
        &["numerics", "workloads", "hwmodels", "mapper", "sim"],
    ),
];

fn manifest(folder: &str) -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(folder)
        .join("Cargo.toml");
    std::fs::read_to_string(&path).unwrap().parse().unwrap()
}

fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let listed = tables
        .iter()
        .filter_map(|t| manifest.get(*t))
        .filter_map(|t| t.as_table());
    listed.flat_map(|t| t.keys().cloned()).collect()
}

#[test]
fn crates_depend_one_way() {
    for (name, allowed) in ALLOWED {
        for dependency in dependencies(&manifest(name)) {
            if let Some(own) = dependency.strip_prefix("presil-") {
                assert!(allowed.contains(&own), "{name} must not depend on {own}");
            }
        }
    }
}

#[test]
fn every_member_is_listed() {
    let root = manifest(".");
    let members = root["workspace"]["members"].as_array().unwrap();
    let members: Vec<&str> = members.iter().map(|m| m.as_str().unwrap()).collect();
    assert_eq!(members, ALLOWED.map(|(name, _)| name));
}

#[test]
fn only_reports_depends_on_tables_and_plots() {
    for (name, _) in ALLOWED.iter().filter(|(n, _)| *n != "reports") {
        let heavy = dependencies(&manifest(name))
            .into_iter()
            .find(|d| d.starts_with("polars") || d == "plotters");
        assert_eq!(heavy, None, "{name}");
    }
}
