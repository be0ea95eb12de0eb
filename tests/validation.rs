//! The trust table holds what it should.

use presil::validate::validate;

#[test]
fn exact_counts_are_exact_and_silicon_is_reported() {
    let validation = validate(None).unwrap();
    let class = |name: &str| validation.classes.iter().find(|c| c.class == name).unwrap();
    let counts = class("exact counts");
    assert!(counts.cases > 100, "{}", counts.cases);
    let wrong: Vec<_> = validation
        .cases
        .iter()
        .filter(|c| c.class == "exact counts" && !c.passed)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let silicon = class("silicon");
    assert!(silicon.cases > 10);
    let failed: Vec<_> = validation
        .cases
        .iter()
        .filter(|c| c.predicted.is_none() && !c.class.starts_with("peer"))
        // One network is too large for the repository.
        .filter(|c| !(c.class == "estimate: vela" && c.note.contains("is not beside it")))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let vela = class("estimate: vela");
    assert!(vela.judged >= 48, "{}", vela.judged);
    assert_eq!(vela.passed, vela.judged, "{:?}", vela.worst);
    let mut errors: Vec<f64> = validation
        .cases
        .iter()
        .filter(|c| c.class == "estimate: vela" && c.tolerance.is_some())
        .filter_map(|c| c.error.map(f64::abs))
        .collect();
    errors.sort_by(f64::total_cmp);
    assert!(errors[errors.len() / 2] < 0.10, "{errors:?}");
    // Given mappings cost what the peers say, figure by figure.
    for (name, least) in [
        ("peer: timeloop", 31),
        ("peer: scalesim", 131),
        ("peer: dramsim3", 60),
    ] {
        let peer = class(name);
        assert!(peer.cases >= least, "{name}: {}", peer.cases);
        assert_eq!(peer.passed, peer.judged, "{name}: {:?}", peer.worst);
    }
}

#[test]
fn a_users_folder_is_read_and_its_mistakes_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = validate(Some(folder.path())).unwrap_err().to_string();
    assert!(empty.contains("counts.csv"), "{empty}");
    let head = "model,phase,batch,tokens,macs,parameters,source\n";
    std::fs::write(
        folder.path().join("counts.csv"),
        format!("{head}resnet50,forward,1,,4089184256,25557032,torchvision\n"),
    )
    .unwrap();
    let validation = validate(Some(folder.path())).unwrap();
    assert_eq!(
        (validation.classes[0].cases, validation.classes[0].passed),
        (2, 2)
    );
    std::fs::write(
        folder.path().join("counts.csv"),
        format!("{head}resnet50,forward,one,,1,1,x\n"),
    )
    .unwrap();
    let wrong = validate(Some(folder.path())).unwrap_err().to_string();
    assert!(
        wrong.contains("counts.csv") && wrong.contains("line: 2"),
        "{wrong}"
    );
}

/// Kernels that this project measured itself: the mean error of each class is no larger than it was.
#[test]
fn measured_kernels_stay_within_their_errors() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/measured");
    let validation = validate(Some(&folder)).unwrap();
    for (class, most) in [
        ("gemm bf16 h200-sxm >=100us", 0.06),
        ("gemm fp16 h200-sxm >=100us", 0.08),
        ("gemm fp8 h200-sxm >=100us", 0.06),
        ("vector elementwise h200-sxm", 0.08),
        ("vector norm h200-sxm", 0.25),
        ("vector softmax h200-sxm", 0.27),
    ] {
        let name = format!("silicon: gpu {class}");
        let found = validation.classes.iter().find(|c| c.class == name);
        let found = found.unwrap_or_else(|| panic!("no {name}"));
        let error = found.mean_error.unwrap();
        assert!(error < most, "{name}: {error}");
    }
}
