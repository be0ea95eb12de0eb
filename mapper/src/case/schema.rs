//! JSON Schema of case files, for editors.

use presil_hwmodels::decode::root_schema;
use serde_json::Value;

use super::spec::CaseSpec;

/// JSON Schema (draft 7) of case files; committed as `configs/schema/case.schema.json`.
pub fn case() -> Value {
    let mut schema = root_schema::<CaseSpec>();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), "presil case".into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../configs/schema/case.schema.json"
    );

    /// `PRESIL_WRITE_SCHEMA=1 cargo test -p presil-mapper schema` writes the file anew.
    #[test]
    fn the_committed_schema_is_this_one() {
        let now = serde_json::to_string_pretty(&case())
            .map(|t| t + "\n")
            .unwrap_or_default();
        if std::env::var_os("PRESIL_WRITE_SCHEMA").is_some() {
            assert!(std::fs::write(FILE, &now).is_ok());
        }
        let committed = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            now == committed,
            "stale: run the tests once with PRESIL_WRITE_SCHEMA=1"
        );
    }
}
