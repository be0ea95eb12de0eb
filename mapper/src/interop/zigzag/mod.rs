//! Recorded ZigZag runs: an accelerator, layers with the mappings that were chosen, and what ZigZag said of each.
//!
//! A record is one JSON document:
//!
//! ```text
//! { "objective": "latency" | "energy" | "EDP",
//!   "hardware_spec": { "memories": { name: { "size", "r_cost", "w_cost", "operands": ["I1", ..],
//!       "ports": [ { "name", "bandwidth_min", "bandwidth_max", "allocation": ["I1, fh", ..] } ],
//!       "served_dimensions": ["D1", ..] }, .. inner to outer .. },
//!     "operational_array": { "unit_energy", "dimensions", "sizes", "systolic_dimensions"? } },
//!   "layers": [ { "name", "equation": "O[b][k] = I[b][c] * W[c][k]", "loop_sizes", "pr_dims",
//!       "dimension_relations": ["IX=2*OX+1*FX"], "precision_bits", "precision_final_output_bits",
//!       "operand_to_memory_operand", "memory_levels_inner_to_outer", "spatial_mapping": { "D1": { "K": 32 } },
//!       "temporal_mapping_inner_to_outer": { operand: { memory: [["FX", 7], ..] } },
//!       figures: "energy", "memory_word_accesses", "latency", "utilization", "memory_utilization",
//!       "stall_slack_per_port", "operand_elems", "total_macs" } ] }
//! ```
//!
//! Sizes are bits, bandwidths bits a cycle, costs picojoules an access of the port's full (max) width. `fh`, `th`,
//! `fl`, `tl` are transfers from and to the level above and below. Memories that serve no dimension stand inside the
//! array, all others outside it with the dimensions that an instance serves.
//!
//! Spatial loops are put last into the loop tree: the convention takes what lies inside the array from the
//! hierarchy.

mod equation;
mod figures;
mod machine;
mod mapping;
mod record;
#[cfg(test)]
mod tests;

use thiserror::Error;

use self::equation::Equation;
pub use self::figures::counted_figures;
use self::record::{Layer, Run};
use crate::case::{Case, CaseEinsum, CaseTensor, Constraints};
use crate::conventions::{Convention, ConventionError};
use crate::hierarchy::access_of;
use crate::search::Objective;

/// A figure of a layer: `latency.total`, `energy.W.dram`, `words.O.rf.rd_out_to_low` ...
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its name.
    pub name: String,
    /// Its value: picojoules, cycles, words or shares.
    pub value: f64,
}

/// A layer of a recorded run.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedLayer {
    /// One einsum with its mapping.
    pub case: Case,
    /// What ZigZag said of it.
    pub figures: Vec<Figure>,
}

/// A figure that is not what ZigZag said.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The layer.
    pub layer: String,
    /// The figure.
    pub figure: String,
    /// What ZigZag said.
    pub expected: f64,
    /// What was counted; not a number if there is no such figure.
    pub got: f64,
}

/// Why a record cannot be read or counted.
#[derive(Debug, Error)]
pub enum ZigZagError {
    /// No JSON of the documented form.
    #[error("not a ZigZag record: {0}")]
    Form(#[from] serde_json::Error),
    /// A layer that does not fit together.
    #[error("layer `{layer}`: {reason}")]
    Layer {
        /// The layer.
        layer: String,
        /// What is wrong.
        reason: String,
    },
    /// A layer that the convention cannot count.
    #[error("layer `{layer}`: {error}")]
    Count {
        /// The layer.
        layer: String,
        /// Why.
        error: ConventionError,
    },
}

/// Reads the layers of a record.
///
/// # Errors
/// If it is not of the documented form, or a layer's parts do not fit together.
pub fn read(text: &str) -> Result<Vec<RecordedLayer>, ZigZagError> {
    let run: Run = serde_json::from_str(text)?;
    let layers = run.layers.iter().map(|layer| {
        read_layer(layer, &run).map_err(|reason| ZigZagError::Layer {
            layer: layer.name.clone(),
            reason,
        })
    });
    layers.collect()
}

/// The figures of all layers that are not as recorded, to `tolerance` (relative).
///
/// # Errors
/// The first layer that cannot be counted.
pub fn compare(layers: &[RecordedLayer], tolerance: f64) -> Result<Vec<Difference>, ZigZagError> {
    let mut differences = Vec::new();
    for layer in layers {
        let own = layer.compare(tolerance);
        differences.extend(own.map_err(|error| ZigZagError::Count {
            layer: layer.case.name.clone(),
            error,
        })?);
    }
    Ok(differences)
}

impl RecordedLayer {
    /// The figures that are not as recorded, to `tolerance` (relative).
    ///
    /// # Errors
    /// If the layer cannot be counted.
    pub fn compare(&self, tolerance: f64) -> Result<Vec<Difference>, ConventionError> {
        let counted = counted_figures(&self.case)?;
        let difference = |figure: &Figure| {
            let got = counted.iter().find(|f| f.name == figure.name);
            let got = got.map_or(f64::NAN, |f| f.value);
            let scale = figure.value.abs().max(got.abs());
            let equal = (got - figure.value).abs() <= tolerance * scale;
            (!equal).then(|| Difference {
                layer: self.case.name.clone(),
                figure: figure.name.clone(),
                expected: figure.value,
                got,
            })
        };
        Ok(self.figures.iter().filter_map(difference).collect())
    }
}

fn read_layer(layer: &Layer, run: &Run) -> Result<RecordedLayer, String> {
    let equation = Equation::parse(layer)?;
    let operands = &equation.operands;
    let einsum = equation.einsum(layer)?;
    let hierarchy = machine::hierarchy(&run.hardware_spec, layer, operands)?;
    let mapping = mapping::mapping(layer, &run.hardware_spec, &einsum, &hierarchy, operands)?;
    let tensor = |(i, operand): (usize, &String)| {
        let output = i == einsum.inputs.len();
        Ok(CaseTensor {
            name: operand.clone(),
            bits: match output {
                true => layer.precision_final_output_bits,
                false => bits(layer, operand)?,
            },
            extents: access_of(&einsum, i).extents.clone(),
        })
    };
    let tensors = operands.iter().enumerate().map(tensor);
    let case = Case {
        name: layer.name.clone(),
        tensors: tensors.collect::<Result<_, String>>()?,
        einsums: vec![CaseEinsum {
            name: layer.name.clone(),
            operands: (0..operands.len()).collect(),
            einsum: einsum.clone(),
            hierarchy,
            mapping: Some(mapping),
            constraints: Constraints::default(),
        }],
        convention: Convention::ZigZag,
        objective: match run.objective.to_ascii_lowercase().as_str() {
            "energy" => Objective::Energy,
            "edp" => Objective::Edp,
            _ => Objective::Latency,
        },
        clock_hz: None,
    };
    Ok(RecordedLayer {
        case,
        figures: figures::recorded_figures(layer)?,
    })
}

fn bits(layer: &Layer, operand: &str) -> Result<f64, String> {
    let bits = layer.precision_bits.get(operand).copied();
    bits.filter(|b| *b > 0.0 && b.is_finite())
        .ok_or_else(|| format!("operand `{operand}` has no precision in bits"))
}
