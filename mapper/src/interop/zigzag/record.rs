//! The JSON of a record, as it is written.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// A JSON object in the order it is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ordered<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Ordered<T> {
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Ordered<T>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(Entries(std::marker::PhantomData))
    }
}

#[derive(Deserialize)]
pub(super) struct Run {
    pub(super) objective: String,
    pub(super) hardware_spec: Hardware,
    pub(super) layers: Vec<Layer>,
}

#[derive(Deserialize)]
pub(super) struct Hardware {
    pub(super) memories: Ordered<Memory>,
    pub(super) operational_array: Array,
}

#[derive(Deserialize)]
pub(super) struct Array {
    pub(super) unit_energy: f64,
    pub(super) dimensions: Vec<String>,
    pub(super) sizes: Vec<u64>,
    #[serde(default)]
    pub(super) systolic_dimensions: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Memory {
    pub(super) size: f64,
    pub(super) r_cost: f64,
    pub(super) w_cost: f64,
    pub(super) operands: Vec<String>,
    pub(super) ports: Vec<MemoryPort>,
    pub(super) served_dimensions: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct MemoryPort {
    pub(super) name: String,
    pub(super) bandwidth_min: f64,
    pub(super) bandwidth_max: f64,
    pub(super) allocation: Vec<String>,
}

/// Loops of each memory of an operand, inner to outer.
pub(super) type Temporal = Ordered<Vec<(String, u64)>>;

#[derive(Deserialize)]
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) equation: String,
    pub(super) loop_sizes: Ordered<u64>,
    #[serde(default)]
    pub(super) pr_dims: Ordered<u64>,
    #[serde(default)]
    pub(super) dimension_relations: Vec<String>,
    pub(super) precision_bits: Ordered<f64>,
    pub(super) precision_final_output_bits: f64,
    pub(super) operand_to_memory_operand: Ordered<String>,
    pub(super) memory_levels_inner_to_outer: Ordered<Vec<String>>,
    pub(super) spatial_mapping: Ordered<Ordered<u64>>,
    pub(super) temporal_mapping_inner_to_outer: Ordered<Temporal>,
    pub(super) energy: Energy,
    pub(super) memory_word_accesses: Ordered<Vec<Ordered<f64>>>,
    pub(super) latency: Ordered<f64>,
    pub(super) utilization: Ordered<f64>,
    pub(super) memory_utilization: Ordered<Vec<f64>>,
    pub(super) stall_slack_per_port: Ordered<Ordered<f64>>,
    pub(super) operand_elems: Ordered<f64>,
    pub(super) total_macs: f64,
}

#[derive(Deserialize)]
pub(super) struct Energy {
    pub(super) total: f64,
    pub(super) mac: f64,
    pub(super) memory: f64,
    pub(super) per_operand_per_level: Ordered<Vec<f64>>,
}
