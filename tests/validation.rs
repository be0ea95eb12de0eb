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
    // Groups of number formats: all but what their references contradict, which is told.
    let groups: Vec<_> = validation
        .cases
        .iter()
        .filter(|c| c.class == "numerics")
        .collect();
    let wrong: Vec<_> = groups.iter().filter(|c| !c.passed).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let cases: f64 = groups.iter().map(|c| c.reference).sum();
    let equal: f64 = groups.iter().filter_map(|c| c.predicted).sum();
    assert_eq!((cases, cases - equal), (18_052.0, 9.0));
    let untold = |c: &&&presil::validate::Case| c.error != Some(0.0) && c.note.is_empty();
    assert!(!groups.iter().any(|c| untold(&c)));
    let sums = "18052 in all, 18043 equal, 9 listed";
    assert!(validation.markdown().contains(sums));
}

/// Files of numbers in a folder: a code that is wrong fails its group, a text that is wrong its file.
#[test]
fn a_users_numbers_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let head = "format,kind,f32_bits_hex,code_hex,value";
    let right = "float8_e4m3fn,tie,3a800000,00,0.0";
    let listed = "float8_e8m0fnu,subnormal,005fffff,01,1e-38";
    let wrong = "float8_e5m2,exact,3f800000,3d,1.25";
    write(
        "rounding_cases.csv",
        &format!("{head}\n{right}\n{listed}\n{wrong}\n"),
    );
    write("mx.json", "{}");
    let validation = validate(Some(folder.path())).unwrap();
    let told: Vec<_> = validation.cases.iter().collect();
    assert_eq!(told.len(), 4, "{told:#?}");
    let case = |part: &str| *told.iter().find(|c| c.name.contains(part)).unwrap();
    assert!(case("e4m3fn").passed && case("e8m0").passed);
    let note = &case("e8m0").note;
    assert!(
        note.starts_with("1 listed (subnormal 005fffff): ml_dtypes rounds"),
        "{note}"
    );
    assert!(!case("e5m2").passed && case("e5m2").note == "1 differ (exact 3f800000)");
    assert!(!case("mx.json").passed && case("mx.json").note.contains("cases"));
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
