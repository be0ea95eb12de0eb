//! Every reference file of the repository: as many cases as there are, all equal but those listed with a reason.

use presil_numerics::block::gguf::GgufType;
use presil_numerics::reference::{Group, ReferenceError, Source};

/// The text of a reference file.
fn text(name: &str) -> String {
    let path = format!(
        "{}/../tests/data/numerics/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read_to_string(path).unwrap()
}

fn compare(name: &str, text: &str) -> Result<Vec<Group>, ReferenceError> {
    Source::of_file(name).unwrap().groups(text)
}

/// Groups whose names begin so, none of which may fail: how many, passed, and what is listed.
fn counts(groups: &[Group], start: &str) -> (usize, usize, Vec<String>) {
    let (mut number, mut passed, mut listed) = (0, 0, Vec::new());
    for group in groups.iter().filter(|g| g.name.starts_with(start)) {
        assert!(
            group.failed.is_empty(),
            "{}: {:?}",
            group.name,
            group.failed
        );
        assert_eq!(group.cases, group.passed + group.listed.len());
        number += 1;
        passed += group.passed;
        let names = group.listed.iter();
        listed.extend(names.map(|l| format!("{} {}", group.name, l.name)));
    }
    (number, passed, listed)
}

/// The same of a whole file in which nothing is listed.
fn all_equal(name: &str) -> (usize, usize) {
    let groups = compare(name, &text(name)).unwrap();
    let (number, passed, listed) = counts(&groups, "");
    assert!(listed.is_empty(), "{listed:?}");
    (number, passed)
}

#[test]
fn codes_and_casts_equal_ml_dtypes() {
    assert_eq!(all_equal("formats.json"), (15, 2232));
    let name = "rounding_cases.csv";
    let groups = compare(name, &text(name)).unwrap();
    let (number, passed, listed) = counts(&groups, "ml_dtypes casts: ");
    assert_eq!((number, passed), (13, 10_743));
    assert_eq!(listed.len(), 1);
    assert!(listed[0].contains("e8m0") && listed[0].ends_with("005fffff"));
}

#[test]
fn mx_equals_torchao_and_microxcaling() {
    let groups = compare("mx.json", &text("mx.json")).unwrap();
    let torchao = counts(&groups, "torchao MX: ");
    assert_eq!(torchao, (5, 600, Vec::new()));
    let (number, passed, listed) = counts(&groups, "microxcaling MX: ");
    assert_eq!((number, passed, listed.len()), (6, 533, 7));
    let below = |name: &String| name.ends_with("max_just_below_pow2 Floor");
    assert!(listed.iter().all(below), "{listed:?}");
}

#[test]
fn nvfp4_equals_torchao() {
    assert_eq!(all_equal("nvfp4.json"), (2, 20));
}

#[test]
fn code_books_and_double_quantization_equal_bitsandbytes() {
    let groups = compare("nf4.json", &text("nf4.json")).unwrap();
    let blocks = |name| counts(&groups, name).1;
    assert_eq!(
        blocks("bitsandbytes: NF4") + blocks("bitsandbytes: FP4"),
        28
    );
    assert_eq!(blocks("bitsandbytes: tensors of these scales"), 2);
    let (_, passed, listed) = counts(&groups, "bitsandbytes: scales quantized twice");
    assert_eq!((passed, listed.len()), (767, 1));
}

#[test]
fn blocks_equal_gguf() {
    let groups = compare("gguf.json", &text("gguf.json")).unwrap();
    assert_eq!(counts(&groups, "GGUF read: "), (18, 180, Vec::new()));
    assert_eq!(counts(&groups, "GGUF written: "), (10, 100, Vec::new()));
    assert_eq!(GgufType::all().count(), 18);
    assert!(
        GgufType::all()
            .all(|t| GgufType::from_id(t.id()) == Some(t) && t.to_string().parse() == Ok(t))
    );
    assert!(GgufType::Q8_0.dequantize(&[0; 35]).is_err());
}

#[test]
fn requantization_equals_the_formulas() {
    assert_eq!(all_equal("mbqm.csv"), (1, 2754));
}

#[test]
fn fused_dots_equal_mma_sim_and_mmaemu() {
    assert_eq!(all_equal("mma.json"), (7, 48));
    assert_eq!(all_equal("fp8_gemm.json"), (4, 36));
}

/// A wrong expectation fails, and only its own case.
#[test]
fn one_changed_figure_fails_one_case() {
    let changed = [
        ("formats.json", "\"0.001953125\"", "\"0.0019\""),
        ("rounding_cases.csv", ",3b000000,01,", ",3b000000,02,"),
        (
            "mx.json",
            "\"43000000\", \"c3300000\"",
            "\"42000000\", \"c3300000\"",
        ),
        (
            "nvfp4.json",
            "\"per_tensor_scale\": \"3b9c15de\"",
            "\"per_tensor_scale\": \"3b9c15df\"",
        ),
        (
            "nf4.json",
            "\"absmax\": [\"4014f877\"]",
            "\"absmax\": [\"4014f878\"]",
        ),
        ("gguf.json", "\"0bb5ab47", "\"0bb5ab46"),
        ("mbqm.csv", ",53621,53621", ",53621,53622"),
    ];
    for (name, from, to) in changed {
        let right = text(name);
        let wrong = right.replacen(from, to, 1);
        assert_ne!(right, wrong, "{name}");
        let groups = compare(name, &wrong).unwrap();
        let failed: usize = groups.iter().map(|g| g.failed.len()).sum();
        // The bytes of a GGUF block are read and written.
        let expected = if name == "gguf.json" { 2 } else { 1 };
        assert_eq!(failed, expected, "{name}");
    }
    let right = text("mma.json");
    let start = right.find("\"d_hex\": \"").unwrap() + 10;
    let digit = if &right[start..=start] == "0" {
        "1"
    } else {
        "0"
    };
    let wrong = format!("{}{digit}{}", &right[..start], &right[start + 1..]);
    let groups = compare("mma.json", &wrong).unwrap();
    assert_eq!(groups.iter().map(|g| g.failed.len()).sum::<usize>(), 1);
}

/// Texts that are wrong are refused with what is wrong.
#[test]
fn malformed_files_are_refused() {
    let refused = |name: &str, text: &str, why: &str| {
        let error = compare(name, text).unwrap_err().to_string();
        assert!(error.contains(why), "{name}: {error}");
    };
    refused("mx.json", "{", "EOF");
    refused("gguf.json", r#"{"cases": []}"#, "no cases");
    refused("rounding_cases.csv", "", "no cases");
    let cast = "format,kind,f32_bits_hex,code_hex\n";
    refused(
        "rounding_cases.csv",
        &format!("{cast}float9,tie,3a800000,00\n"),
        "no format of the name `float9`",
    );
    refused(
        "rounding_cases.csv",
        &format!("{cast}float8_e5m2,tie,3a800000,100\n"),
        "code 100",
    );
    refused(
        "rounding_cases.csv",
        &format!("{cast}float8_e5m2,tie,xyz,00\n"),
        "`xyz` is no f32",
    );
    refused(
        "mbqm.csv",
        "acc_i32,multiplier_q31,shift,real_multiplier,double_rounding,single_rounding\n1,1,-2147483648,0.5,0,0\n",
        "shift -2147483648",
    );
    let block = r#"{"cases": [{"format": "mxfp9", "kind": "k", "input": ["00000000"], "microxcaling": {}}]}"#;
    refused("mx.json", block, "1 numbers, not 32");
    refused(
        "mx.json",
        &text("mx.json").replacen("\"floor\"", "\"flor\"", 1),
        "flor",
    );
    refused(
        "mx.json",
        &text("mx.json").replace("mxfp4_e2m1", "mxfp9"),
        "mxfp9",
    );
    refused(
        "nvfp4.json",
        &text("nvfp4.json").replacen("[\"bdec627f\", ", "[", 1),
        "255",
    );
    refused(
        "nf4.json",
        &text("nf4.json").replacen("packed_hex\": \"", "packed_hex\": \"é", 1),
        "no bytes",
    );
    refused(
        "gguf.json",
        &text("gguf.json").replacen("Q4_0", "Q4_9", 1),
        "Q4_9",
    );
    refused(
        "mma.json",
        &text("mma.json").replacen("\"rows\": 8", "\"rows\": 9", 1),
        "elements of A",
    );
    refused(
        "mma.json",
        &text("mma.json").replacen("Volta", "Vega", 1),
        "Vega",
    );
    refused(
        "mma.json",
        &text("mma.json").replacen("float16", "float17", 1),
        "float17",
    );
    refused(
        "fp8_gemm.json",
        &text("fp8_gemm.json").replacen("\"N\": 16", "\"N\": 0", 1),
        "elements of B",
    );
    refused(
        "formats.json",
        &text("formats.json").replacen("\"bits\": 8", "\"bits\": 9", 1),
        "bits",
    );
}
