//! What the documentation shows is true.

use std::path::Path;

use presil::eval::{Asked, evaluate, load as load_cases};
use presil::hwmodels::load;
use presil::run::{Options, run};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The first block of a language in a Markdown file.
fn block(markdown: &str, language: &str) -> String {
    let (_, rest) = markdown.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_string()
}

#[test]
fn the_chip_of_the_documentation_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.toml");
    std::fs::write(&path, block(&read("docs/chip-files.md"), "toml")).unwrap();
    let path = path.display().to_string();
    let chip = load(&path, &[]).unwrap();
    assert_eq!(chip.name, "tiny");
    let result = run(&Options::new("squeezenet1_0", path)).unwrap();
    assert!(result.phases[0].latency_s > 0.0);
}

#[test]
fn the_case_of_the_documentation_costs_what_it_says() {
    let page = read("docs/case-files.md");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gemm.toml");
    std::fs::write(&path, block(&page, "toml")).unwrap();
    let loaded = load_cases(&[path], None).unwrap().remove(0);
    let report = evaluate(loaded.clone(), Asked::Own).unwrap();
    let (energy, cycles) = report.totals(0).unwrap();
    assert_eq!((energy, cycles), (446_824_448.0, 16_777_216.0));
    assert!(page.contains("446,824,448 pJ") && page.contains("16,777,216 cycles"));
    // The constraints that the page shows fit the convolution that ships.
    let (_, constraint) = page.split_once("[[constraint]]").unwrap();
    let constraint = constraint
        .split_once("```")
        .unwrap()
        .0
        .replace("k = 4", "m = 4");
    let conv = read("configs/cases/conv-eyeriss-like.toml");
    let conv = format!("{conv}\n[[constraint]]{constraint}");
    let case = presil::mapper::case::read::read("conv", &conv, None).unwrap();
    let levels = &case.einsums[0].constraints.levels;
    assert_eq!(
        (levels.len(), levels[1].trips.len(), levels[1].order.len()),
        (2, 1, 2)
    );
}

#[test]
fn the_readme_extends_a_chip_as_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.toml");
    let readme = read("README.md");
    let (_, chip) = readme.split_once("## A chip is a file").unwrap();
    std::fs::write(&path, block(chip, "")).unwrap();
    let chip = load(&path.display().to_string(), &[]).unwrap();
    assert_eq!(chip.name, "edge-npu-wide");
    assert_eq!(chip.nodes[chip.root()].memory().unwrap().read_rate.0, 68e9);
}

#[test]
fn every_chip_and_command_that_the_readme_names_exists() {
    let readme = read("README.md");
    for chip in ["edge-npu", "eyeriss", "tpu-v4i"] {
        assert!(readme.contains(chip) && load(chip, &[]).is_ok());
    }
    let (_, more) = readme.split_once("## More").unwrap();
    let more = block(more, "");
    let commands = more.lines().filter_map(|l| l.strip_prefix("presil "));
    for command in commands.filter_map(|c| c.split_whitespace().next()) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/cli/{command}.rs"));
        assert!(file.is_file(), "{command}");
    }
}
