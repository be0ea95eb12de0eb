//! The chips that ship, compiled into the program.

macro_rules! chips {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/chips/", $name, ".toml")))),+]
    };
}

/// Name and text of each chip. Adding one is a file and a line here.
const CHIPS: &[(&str, &str)] = chips![
    "edge-npu",
    "ara2-like",
    "ane-like",
    "ethos-u55-256",
    "ethos-u65-512",
    "nvdla-small",
    "nvdla-large",
    "eyeriss",
    "simba",
    "tpu-v1",
    "tpu-v4i",
    "a100-sxm-80",
    "h100-sxm",
];

/// Names of all chips, in the order of the list.
pub fn names() -> Vec<&'static str> {
    CHIPS.iter().map(|(name, _)| *name).collect()
}

/// The text of a chip that ships.
pub fn text(name: &str) -> Option<&'static str> {
    CHIPS
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, text)| *text)
}
