//! Running the program as a user does.

use std::process::{Command, Output};

use serde_json::Value;

pub fn presil(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_presil"))
        .args(args)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

/// Runs, expects success, gives stdout.
pub fn stdout(args: &[&str]) -> String {
    let out = presil(args);
    let told = String::from_utf8_lossy(&out.stderr).to_string();
    assert_eq!(out.status.code(), Some(0), "{args:?}: {told}");
    String::from_utf8(out.stdout).unwrap()
}

pub fn json(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(args)).unwrap()
}

/// Runs, expects exit code 2 and nothing on stdout, gives stderr.
pub fn refused(args: &[&str]) -> String {
    let out = presil(args);
    let told = String::from_utf8_lossy(&out.stderr).to_string();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {told}");
    assert!(out.stdout.is_empty(), "{args:?} wrote to stdout");
    told
}
