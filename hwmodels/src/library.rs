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
    "ethos-u55-32",
    "ethos-u55-64",
    "ethos-u55-128",
    "ethos-u55-256",
    "ethos-u65-256",
    "ethos-u65-256-embedded",
    "ethos-u65-512",
    "ethos-u85-128",
    "ethos-u85-256",
    "ethos-u85-512",
    "ethos-u85-1024",
    "ethos-u85-2048",
    "nvdla-small",
    "nvdla-large",
    "eyeriss",
    "simba",
    "tpu-v1",
    "tpu-v4i",
    "a100-sxm-80",
    "a100-pcie-80",
    "a100-pcie-40",
    "h100-sxm",
    "h200-sxm",
    "b200-sxm",
    "b300-sxm",
    "gb200",
    "l40s",
    "l4",
    "rtx4090",
    "a40",
    "t4",
    "v100-pcie",
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
