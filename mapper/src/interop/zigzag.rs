//! Recorded ZigZag runs: an accelerator, layers with the mappings that were chosen, and what ZigZag said of each.
//!
//! A record is one JSON document:
//!
//! ```text
//! { "accelerator": name, "workload": name, "objective": "latency" | "energy" | "EDP",
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

use std::fmt;

use presil_numerics::ids::Id;
use presil_workloads::einsum::Place;
use presil_workloads::{Access, Affine, Dim, DimId, Domain, Einsum, MapOperator, ReduceOperator};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use thiserror::Error;

use crate::case::{Case, CaseEinsum, CaseTensor, Constraints};
use crate::conventions::zigzag::{LevelReport, Report, report};
use crate::conventions::{Convention, ConventionError};
use crate::hierarchy::{
    Axis, ComputeLevel, FanoutLevel, Hierarchy, Level, Mask, MemoryLevel, Port, Transfer,
};
use crate::looptree::{LoopTree, Node};
use crate::search::Objective;

/// A JSON object in the order it is written.
#[derive(Debug, Clone, PartialEq)]
struct Ordered<T>(Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Ordered<T> {
    fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
    fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
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
struct Run {
    accelerator: String,
    workload: String,
    objective: String,
    hardware_spec: Hardware,
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Hardware {
    memories: Ordered<Memory>,
    operational_array: Array,
}

#[derive(Deserialize)]
struct Array {
    unit_energy: f64,
    dimensions: Vec<String>,
    sizes: Vec<u64>,
    #[serde(default)]
    systolic_dimensions: Vec<String>,
}

#[derive(Deserialize)]
struct Memory {
    size: f64,
    r_cost: f64,
    w_cost: f64,
    operands: Vec<String>,
    ports: Vec<MemoryPort>,
    served_dimensions: Vec<String>,
}

#[derive(Deserialize)]
struct MemoryPort {
    name: String,
    bandwidth_min: f64,
    bandwidth_max: f64,
    allocation: Vec<String>,
}

/// Loops of each memory of an operand, inner to outer.
type Temporal = Ordered<Vec<(String, u64)>>;

#[derive(Deserialize)]
struct Layer {
    name: String,
    equation: String,
    loop_sizes: Ordered<u64>,
    #[serde(default)]
    pr_dims: Ordered<u64>,
    #[serde(default)]
    dimension_relations: Vec<String>,
    precision_bits: Ordered<f64>,
    precision_final_output_bits: f64,
    operand_to_memory_operand: Ordered<String>,
    memory_levels_inner_to_outer: Ordered<Vec<String>>,
    spatial_mapping: Ordered<Ordered<u64>>,
    temporal_mapping_inner_to_outer: Ordered<Temporal>,
    energy: Energy,
    memory_word_accesses: Ordered<Vec<Ordered<f64>>>,
    latency: Ordered<f64>,
    utilization: Ordered<f64>,
    memory_utilization: Ordered<Vec<f64>>,
    stall_slack_per_port: Ordered<Ordered<f64>>,
    operand_elems: Ordered<f64>,
    total_macs: f64,
}

#[derive(Deserialize)]
struct Energy {
    total: f64,
    mac: f64,
    memory: f64,
    per_operand_per_level: Ordered<Vec<f64>>,
}

/// A figure of a layer: `latency.total`, `energy.W.dram`, `words.O.rf.rd_out_to_low` ...
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its name.
    pub name: String,
    /// Its value: picojoules, cycles, words or shares.
    pub value: f64,
}

/// A recorded run.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Its layers as einsums with their mappings.
    pub case: Case,
    /// What ZigZag said of each layer.
    pub figures: Vec<Vec<Figure>>,
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

/// Names of the four transfers in records, in the order of [`Transfer::ALL`].
const WORDS: [&str; 4] = [
    "wr_in_by_high",
    "rd_out_to_high",
    "rd_out_to_low",
    "wr_in_by_low",
];
/// Names of the four transfers in port allocations, in the order of [`Transfer::ALL`].
const PORTS: [&str; 4] = ["fh", "th", "tl", "fl"];

/// Reads a record.
///
/// # Errors
/// If it is not of the documented form, or a layer's parts do not fit together.
pub fn read(text: &str) -> Result<Recorded, ZigZagError> {
    let run: Run = serde_json::from_str(text)?;
    let (mut tensors, mut einsums, mut figures) = (Vec::new(), Vec::new(), Vec::new());
    for layer in &run.layers {
        let fail = |reason| ZigZagError::Layer {
            layer: layer.name.clone(),
            reason,
        };
        let einsum = read_layer(layer, &run.hardware_spec, &mut tensors).map_err(fail)?;
        figures.push(recorded_figures(layer).map_err(fail)?);
        einsums.push(einsum);
    }
    let objective = match run.objective.to_ascii_lowercase().as_str() {
        "energy" => Objective::Energy,
        "edp" => Objective::Edp,
        _ => Objective::Latency,
    };
    let case = Case {
        name: format!("{} on {}", run.workload, run.accelerator),
        tensors,
        einsums,
        convention: Convention::ZigZag,
        objective,
        clock_hz: None,
    };
    Ok(Recorded { case, figures })
}

/// The figures that are not as recorded, to `tolerance` (relative).
///
/// # Errors
/// The first layer that cannot be counted.
pub fn compare(recorded: &Recorded, tolerance: f64) -> Result<Vec<Difference>, ZigZagError> {
    let mut differences = Vec::new();
    for (i, expected) in recorded.figures.iter().enumerate() {
        let layer = recorded.case.einsums[i].name.clone();
        let counted = counted_figures(&recorded.case, i).map_err(|error| ZigZagError::Count {
            layer: layer.clone(),
            error,
        })?;
        for figure in expected {
            let got = counted.iter().find(|f| f.name == figure.name);
            let got = got.map_or(f64::NAN, |f| f.value);
            let apart = (got - figure.value).abs();
            if !(apart <= tolerance * figure.value.abs().max(got.abs())) {
                differences.push(Difference {
                    layer: layer.clone(),
                    figure: figure.name.clone(),
                    expected: figure.value,
                    got,
                });
            }
        }
    }
    Ok(differences)
}

/// Names of an einsum's operands in a record: the last part of their tensors' names.
fn operand_name(case: &Case, einsum: usize, operand: usize) -> &str {
    let tensor = &case.tensors[case.einsums[einsum].operands[operand]].name;
    tensor.rsplit('.').next().unwrap_or(tensor)
}

/// All figures of a layer as the convention counts them.
///
/// # Errors
/// If the layer has no mapping, or one that the convention cannot count.
pub fn counted_figures(case: &Case, einsum: usize) -> Result<Vec<Figure>, ConventionError> {
    let e = &case.einsums[einsum];
    let tree = e.mapping.clone().unwrap_or_default();
    let r = report(&e.einsum, &e.hierarchy, &tree)?;
    let mut figures = time_figures(&r);
    let mut add = |name: String, value| figures.push(Figure { name, value });
    let memory = r.memory_energy();
    add("energy.total".into(), memory + r.operation_energy);
    add("energy.mac".into(), r.operation_energy);
    add("energy.memory".into(), memory);
    add("operations".into(), r.operations);
    for l in &r.levels {
        let operand = operand_name(case, einsum, l.operand);
        let at = format!("{operand}.{}", e.hierarchy.levels[l.level].name());
        add(format!("energy.{at}"), level_energy(l));
        add(format!("memory utilization.{at}"), l.utilization);
        for (name, words) in WORDS.iter().zip(l.words) {
            add(format!("words.{at}.{name}"), words);
        }
        if is_outermost(&r, l) {
            add(format!("elements.{operand}"), l.tile);
        }
    }
    for p in &r.ports {
        let level = &e.hierarchy.levels[p.level];
        let port = level.memory().and_then(|m| m.ports.get(p.port));
        let port = port.map_or("?", |p| p.name.as_str());
        add(format!("stall.{}.{port}", level.name()), p.stall);
    }
    Ok(figures)
}

fn is_outermost(r: &Report, level: &LevelReport) -> bool {
    let of = r.levels.iter().filter(|l| l.operand == level.operand);
    of.map(|l| l.level).min() == Some(level.level)
}

fn level_energy(l: &LevelReport) -> f64 {
    let [fill, drain, read, update] = l.energy;
    (drain + read) + (fill + update)
}

fn time_figures(r: &Report) -> Vec<Figure> {
    let with_stall = r.computation + r.stall;
    let with_onload = with_stall + r.onloading;
    let figures = [
        ("latency.total", r.cycles()),
        ("latency.ideal", r.ideal),
        ("latency.ideal_temporal", r.computation),
        ("latency.stall_slack_comb", r.stall),
        ("latency.onloading", r.onloading),
        ("latency.offloading", r.offloading),
        ("latency.systolic_drain", r.systolic_drain),
        ("latency.compute_with_stall", with_stall),
        ("latency.with_onload", with_onload),
        ("utilization.spatial", r.ideal / r.computation),
        ("utilization.u0", r.ideal / with_stall),
        ("utilization.u1", r.ideal / with_onload),
        ("utilization.u2", r.ideal / r.cycles()),
    ];
    figures
        .into_iter()
        .map(|(name, value)| Figure {
            name: name.into(),
            value,
        })
        .collect()
}

fn recorded_figures(layer: &Layer) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    let mut add = |name: String, value: f64| figures.push(Figure { name, value });
    add("energy.total".into(), layer.energy.total);
    add("energy.mac".into(), layer.energy.mac);
    add("energy.memory".into(), layer.energy.memory);
    add("operations".into(), layer.total_macs);
    for (name, value) in layer.latency.iter() {
        add(format!("latency.{name}"), *value);
    }
    for (name, value) in layer.utilization.iter() {
        add(format!("utilization.{name}"), *value);
    }
    for (operand, value) in layer.operand_elems.iter() {
        add(format!("elements.{operand}"), *value);
    }
    for (memory, ports) in layer.stall_slack_per_port.iter() {
        for (port, value) in ports.iter() {
            add(format!("stall.{memory}.{port}"), *value);
        }
    }
    for (operand, memories) in layer.memory_levels_inner_to_outer.iter() {
        let known = |what: &str, n: Option<usize>| match n == Some(memories.len()) {
            true => Ok(()),
            false => Err(format!("`{operand}` needs {what} for each of its memories")),
        };
        let energy = layer.energy.per_operand_per_level.get(operand);
        let used = layer.memory_utilization.get(operand);
        let words = layer.memory_word_accesses.get(operand);
        known("an energy", energy.map(Vec::len))?;
        known("a utilization", used.map(Vec::len))?;
        known("word accesses", words.map(Vec::len))?;
        for (i, memory) in memories.iter().enumerate() {
            let at = format!("{operand}.{memory}");
            add(format!("energy.{at}"), energy.map_or(0.0, |e| e[i]));
            add(
                format!("memory utilization.{at}"),
                used.map_or(0.0, |u| u[i]),
            );
            for (name, value) in words.iter().flat_map(|w| w[i].iter()) {
                add(format!("words.{at}.{name}"), *value);
            }
        }
    }
    Ok(figures)
}

/// Reads a layer; its tensors are added to `tensors`.
fn read_layer(
    layer: &Layer,
    hardware: &Hardware,
    tensors: &mut Vec<CaseTensor>,
) -> Result<CaseEinsum, String> {
    let equation = Equation::parse(layer)?;
    let einsum = equation.einsum(layer)?;
    let hierarchy = hierarchy(hardware, layer, &equation.operands)?;
    let mapping = mapping(layer, hardware, &einsum, &hierarchy, &equation.operands)?;
    let mut operands = Vec::new();
    for (i, operand) in equation.operands.iter().enumerate() {
        let output = i == einsum.inputs.len();
        let bits = match output {
            true => layer.precision_final_output_bits,
            false => bits(layer, operand)?,
        };
        operands.push(tensors.len());
        tensors.push(CaseTensor {
            name: format!("{}.{operand}", layer.name),
            bits,
            extents: crate::hierarchy::access_of(&einsum, i).extents.clone(),
        });
    }
    Ok(CaseEinsum {
        name: layer.name.clone(),
        einsum,
        operands,
        hierarchy,
        mapping: Some(mapping),
        constraints: Constraints::default(),
    })
}

fn bits(layer: &Layer, operand: &str) -> Result<f64, String> {
    let bits = layer.precision_bits.get(operand).copied();
    bits.filter(|b| *b > 0.0 && b.is_finite())
        .ok_or_else(|| format!("operand `{operand}` has no precision in bits"))
}

/// An equation `O[b][k] = I[b][c] * W[c][k]`: names of the inputs, then of the output, each with its ranks.
struct Equation {
    operands: Vec<String>,
    ranks: Vec<Vec<String>>,
}

impl Equation {
    fn parse(layer: &Layer) -> Result<Self, String> {
        let fail = || format!("`{}` is no equation", layer.equation);
        let (output, inputs) = layer.equation.split_once('=').ok_or_else(fail)?;
        let (mut operands, mut ranks) = (Vec::new(), Vec::new());
        for text in inputs
            .split('*')
            .chain([output.trim_end().trim_end_matches('+')])
        {
            let mut parts = text
                .split('[')
                .map(|p| p.trim().trim_end_matches(']').trim());
            let name = parts.next().filter(|n| !n.is_empty()).ok_or_else(fail)?;
            operands.push(name.to_string());
            ranks.push(parts.map(str::to_uppercase).collect());
        }
        Ok(Self { operands, ranks })
    }

    fn einsum(&self, layer: &Layer) -> Result<Einsum, String> {
        let sizes = &layer.loop_sizes.0;
        if sizes.len() > 32 {
            return Err("more than 32 dimensions".into());
        }
        if let Some((name, _)) = sizes.iter().find(|(_, s)| *s == 0) {
            return Err(format!("dimension `{name}` has size 0"));
        }
        let dim = |name: &str| {
            let at = sizes.iter().position(|(n, _)| n == name);
            at.map(|i| DimId(i as u32))
                .ok_or_else(|| format!("no loop `{name}`"))
        };
        let rank = |name: &String| match dim(name) {
            Ok(d) => Ok((Affine::dim(d), sizes[d.index()].1)),
            Err(_) => {
                let extent = layer.pr_dims.get(name);
                let extent = extent.ok_or_else(|| format!("no loop and no size `{name}`"))?;
                let mut relations = layer.dimension_relations.iter();
                let sum =
                    relations.find_map(|r| r.split_once('=').filter(|(n, _)| n.trim() == name));
                let (_, sum) = sum.ok_or_else(|| format!("no relation for `{name}`"))?;
                let terms = sum.split('+').map(|term| {
                    let (factor, name) = term.split_once('*').unwrap_or(("1", term));
                    let factor = factor.trim().parse::<i64>();
                    Ok((
                        dim(name.trim())?,
                        factor.map_err(|e| format!("`{term}`: {e}"))?,
                    ))
                });
                let terms = terms.collect::<Result<_, String>>()?;
                Ok((Affine { terms, offset: 0 }, *extent))
            }
        };
        let access = |place: Place, names: &Vec<String>| -> Result<Access, String> {
            let ranks = names.iter().map(rank).collect::<Result<Vec<_>, String>>()?;
            let (ranks, extents) = ranks.into_iter().unzip();
            Ok(Access {
                place,
                ranks,
                extents,
            })
        };
        let inputs = self.ranks[..self.ranks.len() - 1].iter().enumerate();
        let inputs = inputs.map(|(i, names)| access(Place::Input(i as u8), names));
        Ok(Einsum {
            dims: sizes
                .iter()
                .map(|(name, size)| Dim {
                    name: name.clone(),
                    size: *size,
                })
                .collect(),
            inputs: inputs.collect::<Result<_, String>>()?,
            output: access(Place::Output(0), &self.ranks[self.ranks.len() - 1])?,
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
        })
    }
}

/// The accelerator as a layer's operands see it: outer memories, the array, inner memories, compute.
fn hierarchy(hardware: &Hardware, layer: &Layer, operands: &[String]) -> Result<Hierarchy, String> {
    let array = &hardware.operational_array;
    if array.dimensions.len() != array.sizes.len() {
        return Err("the array needs a size for each dimension".into());
    }
    let axes = array.dimensions.iter().zip(&array.sizes);
    let fanout = FanoutLevel {
        name: "array".into(),
        axes: axes
            .map(|(name, size)| Axis {
                name: name.clone(),
                size: *size,
                shares: Mask::ALL,
                shares_overlap: Mask::NONE,
                must_share: Mask::NONE,
                accepts: Mask::ALL,
                min_usage: 0.0,
                systolic: array.systolic_dimensions.contains(name),
            })
            .collect(),
        hop_energy: 0.0,
    };
    let memories = |inside: bool| {
        let all = hardware.memories.0.iter().rev();
        let some = all.filter(move |(_, m)| m.served_dimensions.is_empty() == inside);
        some.map(|(name, m)| Ok(Level::Memory(memory(name, m, layer, operands)?)))
    };
    let mut levels = memories(false).collect::<Result<Vec<_>, String>>()?;
    levels.push(Level::Fanout(fanout));
    levels.extend(memories(true).collect::<Result<Vec<_>, String>>()?);
    levels.push(Level::Compute(ComputeLevel {
        name: "mac".into(),
        energy: array.unit_energy,
        rate: 1.0,
        leakage: 0.0,
    }));
    Ok(Hierarchy {
        name: layer.name.clone(),
        levels,
    })
}

fn memory(
    name: &str,
    m: &Memory,
    layer: &Layer,
    operands: &[String],
) -> Result<MemoryLevel, String> {
    let number = |mem_operand: &str| {
        let links = &layer.operand_to_memory_operand;
        operands
            .iter()
            .position(|o| links.get(o).is_some_and(|l| l == mem_operand))
    };
    let widths = operands.iter().map(|o| bits(layer, o));
    let keeps = m.operands.iter().filter_map(|o| number(o));
    let keeps = keeps.fold(Mask::NONE, Mask::with);
    let mut level = MemoryLevel::unlimited(name, operands.len(), 0.0);
    level.capacity = m.size;
    level.bits = widths.collect::<Result<_, String>>()?;
    level.final_bits = Some(layer.precision_final_output_bits);
    level.keeps = keeps;
    level.must_keep = keeps;
    level.serves = m.served_dimensions.clone();
    level.ports = m
        .ports
        .iter()
        .map(|port| {
            Ok(Port {
                name: port.name.clone(),
                read_rate: port.bandwidth_max,
                write_rate: port.bandwidth_max,
                granule: port.bandwidth_min,
                access_energy: Some([m.r_cost, m.w_cost]),
                carries: carries(m, port, number)?,
            })
        })
        .collect::<Result<_, String>>()?;
    Ok(level)
}

/// What a port carries, operand by operand in the memory's order.
fn carries(
    m: &Memory,
    port: &MemoryPort,
    number: impl Fn(&str) -> Option<usize>,
) -> Result<Vec<(usize, Transfer)>, String> {
    let mut carries = Vec::new();
    for operand in &m.operands {
        for text in &port.allocation {
            let parts = text.split_once(',').map(|(o, t)| (o.trim(), t.trim()));
            let transfer = parts.and_then(|(_, t)| PORTS.iter().position(|p| *p == t));
            let (Some((o, _)), Some(transfer)) = (parts, transfer) else {
                return Err(format!("port `{}`: `{text}` is no transfer", port.name));
            };
            if let (true, Some(number)) = (o == operand, number(o)) {
                carries.push((number, Transfer::ALL[transfer]));
            }
        }
    }
    Ok(carries)
}

/// The loop tree of a layer's temporal and spatial loops.
fn mapping(
    layer: &Layer,
    hardware: &Hardware,
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    operands: &[String],
) -> Result<LoopTree, String> {
    let (order, keeps) = temporal(layer, hierarchy, operands)?;
    let fanout = hierarchy.levels.iter().position(|l| l.fanout().is_some());
    let fanout = fanout.unwrap_or_default();
    let mut tiles = vec![1u64; einsum.dims.len()];
    let mut grow = |name: &str, trips: u64| {
        let dim = einsum.dims.iter().position(|d| d.name == name);
        let dim = dim.ok_or_else(|| format!("no loop `{name}`"))?;
        let tile = tiles[dim];
        let larger = tile.checked_mul(trips).filter(|t| *t > 0);
        tiles[dim] = larger.ok_or_else(|| format!("loops of `{name}` multiply to too much"))?;
        Ok::<_, String>((DimId(dim as u32), tile))
    };
    // From the inside out, and turned round at the end.
    let mut nodes = Vec::new();
    let axes = hardware.operational_array.dimensions.iter().enumerate();
    for (axis, name) in axes.rev() {
        let loops = layer.spatial_mapping.get(name);
        for (dim, trips) in loops
            .iter()
            .flat_map(|l| l.0.iter().rev())
            .filter(|l| l.1 != 1)
        {
            let (dim, tile) = grow(dim, *trips)?;
            nodes.push(Node::Spatial {
                level: fanout,
                axis,
                dim,
                tile,
            });
        }
    }
    for at in 0..=order.len() {
        let mut here: Vec<(usize, usize)> = keeps
            .iter()
            .filter(|k| k.0 == at)
            .map(|k| (k.1, k.2))
            .collect();
        here.sort_unstable_by(|a, b| b.cmp(a));
        nodes.extend(
            here.into_iter()
                .map(|(level, operand)| Node::Keep { level, operand }),
        );
        if let Some((name, trips)) = order.get(at) {
            let (dim, tile) = grow(name, *trips)?;
            nodes.push(Node::Temporal { dim, tile });
        }
    }
    nodes.reverse();
    let tree = LoopTree { nodes };
    check_trips(layer, einsum, &tree)?;
    Ok(tree)
}

/// The loop tree must say what the layer says: tiles cut away trips that reach beyond a dimension.
fn check_trips(layer: &Layer, einsum: &Einsum, tree: &LoopTree) -> Result<(), String> {
    let mut tiles: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    let mut spatial = vec![1u64; einsum.dims.len()];
    for node in &tree.nodes {
        if let Some((dim, tile)) = node.cut() {
            let trips = std::mem::replace(&mut tiles[dim.index()], tile).div_ceil(tile);
            if matches!(node, Node::Spatial { .. }) {
                spatial[dim.index()] = spatial[dim.index()].saturating_mul(trips);
            }
        }
    }
    for (dim, trips) in einsum.dims.iter().zip(spatial) {
        let loops = layer.spatial_mapping.iter().flat_map(|(_, l)| l.iter());
        let given = loops
            .filter(|(name, _)| *name == dim.name)
            .fold(1u64, |all, (_, t)| all.saturating_mul(*t));
        if given != trips {
            return Err(format!(
                "dimension `{}` of {} lies {given} wide over the array; its temporal loops leave {trips}",
                dim.name, dim.size
            ));
        }
    }
    Ok(())
}

/// Temporal loops inner to outer, and for each operand and memory how many of them stand inside it: `(loops, level,
/// operand)`.
type Loops = (Vec<(String, u64)>, Vec<(usize, usize, usize)>);

fn temporal(layer: &Layer, hierarchy: &Hierarchy, operands: &[String]) -> Result<Loops, String> {
    let mut order: Option<Vec<(String, u64)>> = None;
    let mut keeps = Vec::new();
    for (operand, name) in operands.iter().enumerate() {
        let memories = layer.temporal_mapping_inner_to_outer.get(name);
        let memories = memories.ok_or_else(|| format!("`{name}` has no temporal mapping"))?;
        let mut loops: Vec<(String, u64)> = Vec::new();
        for (memory, own) in memories.iter() {
            let level = hierarchy.level(memory);
            let level = level.ok_or_else(|| format!("no memory `{memory}`"))?;
            loops.extend(own.iter().filter(|l| l.1 != 1).cloned());
            keeps.push((loops.len(), level, operand));
        }
        match &order {
            Some(order) if *order != loops => {
                return Err(format!("the loops of `{name}` are not those of the others"));
            }
            _ => order = Some(loops),
        }
    }
    Ok((order.unwrap_or_default(), keeps))
}
