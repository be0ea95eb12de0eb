//! JSON Schema of the file forms, for editors.

use serde_json::Value;

use crate::decode::root_schema;
use crate::spec::ChipSpec;

/// JSON Schema (draft 7) of chip files; committed as `configs/schema/chip.schema.json`.
pub fn chip() -> Value {
    let mut schema = root_schema::<ChipSpec>();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".into(), "presil chip".into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../configs/schema/chip.schema.json"
    );

    /// `PRESIL_WRITE_SCHEMA=1 cargo test -p presil-hwmodels` writes the file anew.
    #[test]
    fn the_committed_schema_is_this_one() {
        let now = serde_json::to_string_pretty(&chip())
            .map(|t| t + "\n")
            .unwrap_or_default();
        if std::env::var_os("PRESIL_WRITE_SCHEMA").is_some() {
            assert!(std::fs::write(FILE, &now).is_ok());
        }
        let committed = std::fs::read_to_string(FILE).unwrap_or_default();
        assert_eq!(
            now, committed,
            "stale: run the tests once with PRESIL_WRITE_SCHEMA=1"
        );
    }
}
