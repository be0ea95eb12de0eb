//! `presil numerics cast`: what is written is what was asked for, and what is told is what happened.

use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Output};

use ndarray::{Array1, ArrayD, arr2};
use ndarray_npy::{NpzReader, ReadNpyExt, ReadableElement, WriteNpyExt};
use serde_json::Value;

fn cast(folder: &Path, args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_presil"))
        .args(["numerics", "cast"])
        .args(args.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn report(folder: &Path, args: &str) -> Value {
    let out = cast(folder, &format!("{args} --json"));
    let errors = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(0), "{args}: {errors}");
    serde_json::from_slice(&out.stdout).unwrap()
}

fn read<T: ReadableElement>(folder: &Path, name: &str) -> ArrayD<T> {
    let bytes = std::fs::read(folder.join(name)).unwrap();
    ArrayD::read_npy(Cursor::new(bytes)).unwrap()
}

/// A folder with an array of 2 x 3 in `x.npy`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let x = arr2(&[[1.0f32, -1.0625, 464.1], [f32::NAN, 1e-9, 0.0]]);
    let mut file = std::fs::File::create(folder.path().join("x.npy")).unwrap();
    x.write_npy(&mut file).unwrap();
    folder
}

#[test]
fn elements_are_written_as_codes_and_read_back() {
    let folder = folder();
    let folder = folder.path();
    let told = report(
        folder,
        "x.npy codes.npy --to fp8_e4m3fn --overflow nonfinite",
    );
    let count = |name: &str| told[name].as_u64().unwrap();
    let counts = ["exact", "rounded", "flushed", "overflowed", "nan"].map(count);
    assert_eq!(counts, [2, 1, 1, 1, 1]);
    assert_eq!(told["shape"], serde_json::json!([2, 3]));
    let codes = read::<u8>(folder, "codes.npy");
    assert_eq!(codes.shape(), [2, 3]);
    // 1 is 0 0111 000; -1.0625 is a tie and goes to even; 464.1 has no infinity to become.
    assert_eq!(
        codes.iter().copied().collect::<Vec<_>>(),
        [0x38, 0xb8, 0x7f, 0x7f, 0, 0]
    );
    report(folder, "codes.npy values.npy --from fp8_e4m3fn --to f32");
    let values: Vec<f32> = read(folder, "values.npy").into_iter().collect();
    assert_eq!((values[0], values[1], values[4]), (1.0, -1.0, 0.0));
    assert!(values[2].is_nan() && values[3].is_nan());
    report(folder, "x.npy up.npy --to int8 --round rtp --decode");
    let up: Vec<f32> = read(folder, "up.npy").into_iter().collect();
    assert_eq!(up, [1.0, -1.0, 127.0, 0.0, 1.0, 0.0]);
    report(
        folder,
        "x.npy int.npy --to int8 --round rtn --overflow wrap",
    );
    let int: Vec<i8> = read(folder, "int.npy").into_iter().collect();
    assert_eq!(int, [1, -2, -48, 0, 0, 0]);
    report(folder, "int.npy wide.npy --to fp64");
    let wide: Vec<f64> = read(folder, "wide.npy").into_iter().collect();
    assert_eq!(wide[2], -48.0);
}

#[test]
fn schemes_are_written_with_their_scales() {
    let folder = folder();
    let folder = folder.path();
    let numbers: Array1<f32> = (0..256).map(|i| (i as f32 * 0.7).sin() * 3.6).collect();
    let mut file = std::fs::File::create(folder.join("w.npy")).unwrap();
    numbers.write_npy(&mut file).unwrap();
    for (scheme, least_db, scales) in [
        ("mxfp4", 12.0, 8),
        ("nvfp4", 18.0, 16),
        ("nf4", 18.0, 4),
        ("int4_g32", 17.0, 8),
        ("nf4_dq", 15.0, 4),
    ] {
        let told = report(folder, &format!("w.npy w.npz --to {scheme}"));
        assert!(
            told["sqnr_db"].as_f64().unwrap() > least_db,
            "{scheme} {told}"
        );
        let mut npz = NpzReader::new(std::fs::File::open(folder.join("w.npz")).unwrap()).unwrap();
        let codes: Array1<u8> = npz.by_name("codes").unwrap();
        let packed: Array1<u8> = npz.by_name("packed").unwrap();
        let bits: Array1<u32> = npz.by_name("code_bits").unwrap();
        assert_eq!((codes.len(), packed.len(), bits[0]), (256, 128, 4));
        assert!(codes.iter().all(|c| *c < 16) && packed[0] == codes[0] | codes[1] << 4);
        let stored = npz
            .by_name::<ndarray::OwnedRepr<u8>, ndarray::Ix1>("scales")
            .map(|s| s.len());
        let stored = stored.or_else(|_| {
            npz.by_name::<ndarray::OwnedRepr<f32>, ndarray::Ix1>("scales")
                .map(|s| s.len())
        });
        assert_eq!(stored.unwrap(), scales, "{scheme}");
    }
    let saturated = |rule: &str| {
        let told = report(folder, &format!("w.npy w.npz --to mxfp4 --mx-scale {rule}"));
        told["overflowed"].as_u64().unwrap()
    };
    // Up to 3.6, by floor under 6 x 2^-1 = 3.
    assert!(saturated("floor") > 10);
    assert_eq!(saturated("rceil"), 0);
    report(folder, "w.npy w8.npy --to q8_0");
    assert_eq!(read::<u8>(folder, "w8.npy").len(), 8 * 34);
}

#[test]
fn stochastic_casts_repeat() {
    let folder = folder();
    let folder = folder.path();
    let numbers = Array1::from_elem(1000, 1.03f32);
    let mut file = std::fs::File::create(folder.join("w.npy")).unwrap();
    numbers.write_npy(&mut file).unwrap();
    let codes = |name: &str, seed: u64| -> Vec<u8> {
        report(
            folder,
            &format!("w.npy {name} --to fp8_e4m3fn --round stochastic8 --seed {seed}"),
        );
        read(folder, name).into_iter().collect()
    };
    assert_eq!(codes("a.npy", 1), codes("b.npy", 1));
    assert_ne!(codes("a.npy", 1), codes("b.npy", 2));
    // 1.03 lies 0.24 of the way from 1 to 1.125.
    let up = codes("a.npy", 3).iter().filter(|c| **c == 0x39).count();
    assert!((180..300).contains(&up), "{up}");
}

#[test]
fn what_cannot_be_cast_is_refused() {
    let folder = folder();
    let folder = folder.path();
    report(folder, "x.npy codes.npy --to fp8_e4m3fn");
    // A header of more numbers than the file has bytes.
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }";
    let mut liar = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    liar.extend(format!("{header:117}\n").bytes());
    std::fs::write(folder.join("liar.npy"), liar).unwrap();
    for (args, why) in [
        ("liar.npy o.npy --to bf16", "1000000000000 elements"),
        ("x.npy o.npy --to fp8_e4m", "did you mean `fp8_e"),
        ("x.npy o.npy --to bf16 --overflow wrap", "only integers"),
        ("x.npy o.npy --from fp16 --to bf16", "holds f32"),
        ("codes.npy o.npy --to bf16", "--from"),
        ("none.npy o.npy --to bf16", "none.npy"),
        ("x.npy o.npy --to q4_k", "multiple"),
        ("x.npy o.npy --to int8 --round up", "rounding"),
        ("x.npy o.npz --to nf4 --round rtz", "one rounding"),
        ("x.npy o.npz --to int8_2:4", "no quantizer"),
    ] {
        let out = cast(folder, args);
        let message = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{args}");
        assert!(message.contains(why), "{args}: {message}");
    }
}
