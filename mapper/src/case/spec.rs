//! What a case file says, TOML or JSON: its tables and keys.
//!
//! ```toml
//! name = "gemm"
//! objective = "energy"
//! convention = "accelforge"
//! bits = 8                                     # of an element, of all tensors
//!
//! [ranks]                                      # sizes
//! m = 256
//! n = 256
//! k = 256
//!
//! [[einsum]]
//! name = "G"
//! expression = "O[m, n] = A[m, k] * W[k, n]"
//! renames = { input = "A", weight = "W", output = "O" }
//!
//! [[level]]                                    # outermost first
//! memory = "dram"
//! read_energy = 12.5                           # picojoules per bit
//! write_energy = 12.5
//! bandwidth = 64                               # bits per cycle
//! must_keep = "All"
//!
//! [[level]]
//! memory = "glb"
//! capacity = "64 KiB"
//! must_keep = "All"
//!
//! [[level]]
//! fanout = "pes"
//! axis = [{ name = "x", size = 16, must_reuse = "input" }]
//!
//! [[level]]
//! compute = "mac"
//! energy = 1                                   # picojoules per operation
//! ```
//!
//! Nothing here is checked beyond the type of each key; `resolve` does that.

use presil_hwmodels::Overlap;
use presil_hwmodels::decode::{At, Decode, Entries, decode_names, spec_tables, wrong};
use presil_hwmodels::document::{Item, ItemKind, Place, Problems};
use presil_numerics::Hertz;
use schemars::{Schema, SchemaGenerator, json_schema};

use super::quantity::{Capacity, EnergyPerBit, PerCycle, Rate};
use crate::conventions::Convention;
use crate::hierarchy::Transfer;
use crate::search::Objective;

spec_tables! {
    /// A case: einsums, the machine that runs them, what a mapping must obey, and perhaps the mapping.
    pub struct CaseSpec {
        /// Name.
        pub name: At<String>,
        /// One sentence.
        pub description: Option<String>,
        /// What a search makes small; latency if nothing is said.
        pub objective: Option<Objective>,
        /// The convention that the figures are meant in; physical if nothing is said.
        pub convention: Option<Convention>,
        /// Clock, such as "1 GHz", for figures in seconds.
        pub clock: Option<Hertz>,
        /// Whether every tile must divide the one around it, the outermost included.
        pub perfect: Option<bool>,
        /// Sizes of the ranks that the einsums loop over.
        pub ranks: Entries<At<u64>>,
        /// Bits of an element: a number for all tensors, or a table from tensor sets to bits, where a later line
        /// overrides an earlier one.
        pub bits: Option<BitsSpec>,
        /// Extents of tensors whose einsums do not tell them (padding: indices outside are zero).
        pub shapes: Entries<At<Vec<u64>>>,
        /// Einsums, in order: each may read what earlier ones made.
        pub einsum: Vec<EinsumSpec>,
        /// Levels of the machine, outermost first: memories and fanouts, and the compute units last.
        pub level: Vec<LevelSpec>,
        /// Constraints of single levels.
        pub constraint: Vec<ConstraintSpec>,
    }

    /// An einsum.
    pub struct EinsumSpec {
        /// Name; that of its output if nothing is said.
        pub name: Option<At<String>>,
        /// The einsum: "O[m, n] = A[m, k] * W[k, n]", "O[p, q] = I[H: 2 * p + r, W: q + s] * F[r, s]".
        pub expression: At<String>,
        /// Roles of its tensors, as tensor sets, for the sets of the machine. If nothing is said, the output is
        /// "output", the last of several inputs "weight", and the others "input".
        pub renames: Entries<At<String>>,
        /// The mapping, a line a node from the outside in: "dram: keep A, W, O", "for m in 4",
        /// "for k in 16 (tile 4) across pes.x".
        pub mapping: Option<NestSpec>,
    }

    /// A memory.
    pub struct MemorySpec {
        /// Name.
        pub memory: At<String>,
        /// What an instance holds; unlimited if nothing is said.
        pub capacity: Option<At<Capacity>>,
        /// Tiles held for each kept one (2: double buffering); 1 if nothing is said.
        pub buffering: Option<At<f64>>,
        /// Elements that one access moves together; 1 if nothing is said.
        pub block: Option<At<u64>>,
        /// Instances that share one physical array: an access of all of them together is paid once; 1 if nothing is
        /// said.
        pub cluster: Option<At<u64>>,
        /// Bits of a finished element of the output as stored here, where it is narrower than a partial sum.
        pub final_bits: Option<At<f64>>,
        /// Bits of an element as stored here, by tensor set, where they differ from the tensor's.
        pub bits: Entries<At<f64>>,
        /// Energy of reading a bit, in picojoules; 0 if nothing is said.
        pub read_energy: Option<EnergyPerBit>,
        /// Energy of writing a bit, in picojoules; 0 if nothing is said.
        pub write_energy: Option<EnergyPerBit>,
        /// Energy of writing a bit from below (partial sums); that of writing if nothing is said.
        pub update_energy: Option<EnergyPerBit>,
        /// Picojoules that an instance leaks in a cycle.
        pub leakage: Option<f64>,
        /// Bits per cycle of an instance, reading and writing; never limits if nothing is said.
        pub bandwidth: Option<Rate>,
        /// Bits per cycle when reading.
        pub read_bandwidth: Option<Rate>,
        /// Bits per cycle when writing.
        pub write_bandwidth: Option<Rate>,
        /// Whether reads and writes take turns (sum) or go side by side (max); sum if nothing is said.
        pub latency: Option<LatencyRule>,
        /// Ports, where one bandwidth does not tell it.
        pub port: Vec<PortSpec>,
        /// Tensors that may be kept here, as a set; All if nothing is said.
        pub keeps: Option<At<String>>,
        /// Tensors that every mapping keeps here, as a set; "~dram.tensors": those that `dram` does not keep.
        pub must_keep: Option<At<String>>,
        /// Tensors that every mapping keeps here or above, as a set.
        pub must_keep_unless_above: Option<At<String>>,
        /// What happens to halos of sliding windows; they are kept if nothing is said.
        pub overlap: Option<Overlap>,
        /// Fan-out axes that one instance serves, where its place in the path does not tell it.
        pub serves: Vec<String>,
    }

    /// A port of a memory: its transfers take turns, ports work side by side.
    pub struct PortSpec {
        /// Name.
        pub name: String,
        /// Bits per cycle, reading and writing.
        pub bandwidth: Option<Rate>,
        /// Bits per cycle when reading.
        pub read_bandwidth: Option<Rate>,
        /// Bits per cycle when writing.
        pub write_bandwidth: Option<Rate>,
        /// Bits of the smallest access; 1 if nothing is said.
        pub granule: Option<f64>,
        /// Picojoules of reading once in full width, where accesses are priced and not bits.
        pub read_access_energy: Option<f64>,
        /// Picojoules of writing once in full width, where accesses are priced and not bits.
        pub write_access_energy: Option<f64>,
        /// Transfers that it carries, by tensor set.
        pub carries: Entries<Transfers>,
    }

    /// A spatial fanout.
    pub struct FanoutSpec {
        /// Name.
        pub fanout: At<String>,
        /// Its axes.
        pub axis: Vec<AxisSpec>,
        /// Energy of moving a bit between the level above and one instance, in picojoules; 0 if nothing is said.
        pub hop_energy: Option<EnergyPerBit>,
    }

    /// An axis of a fanout.
    pub struct AxisSpec {
        /// Name.
        pub name: At<String>,
        /// Instances along it.
        pub size: At<u64>,
        /// Tensors of which one read serves all instances that need the same (of an output: whose partial sums are
        /// added on the way up), as a set; All if nothing is said.
        pub may_reuse: Option<At<String>>,
        /// Tensors of which one read also serves what the tiles of several instances have in common (halos of
        /// neighbours), as a set; Nothing if nothing is said.
        pub may_reuse_overlap: Option<At<String>>,
        /// Tensors that must be the same for all instances, as a set.
        pub must_reuse: Option<At<String>>,
        /// Ranks that may be laid along it; all if nothing is said.
        pub accepts: Option<Vec<At<String>>>,
        /// Least share of its instances that a mapping uses.
        pub min_usage: Option<f64>,
        /// Whether operands move along it by one instance a cycle and are not broadcast.
        pub systolic: Option<bool>,
    }

    /// Compute units: the innermost level. One that names einsums stands further out, and ends their path.
    pub struct ComputeSpec {
        /// Name.
        pub compute: At<String>,
        /// Einsums that run here, where others go on to a level further in.
        pub einsums: Option<Vec<At<String>>>,
        /// Picojoules of an operation.
        pub energy: Option<f64>,
        /// Operations of a unit in a cycle; 1 if nothing is said.
        pub rate: Option<PerCycle>,
        /// Picojoules that a unit leaks in a cycle.
        pub leakage: Option<f64>,
    }

    /// What the loops of a level must obey: those directly below a memory's kept tiles, or on a fanout.
    pub struct ConstraintSpec {
        /// The level.
        pub level: At<String>,
        /// The einsum; all if nothing is said.
        pub einsum: Option<At<String>>,
        /// Trips that are given, by rank.
        pub trips: Entries<At<u64>>,
        /// Ranks that are not iterated here.
        pub forbidden: Vec<At<String>>,
        /// Order of loops, innermost first, as far as it is given.
        pub order: Vec<At<String>>,
        /// Least share of the memory's capacity, or of the fanout's instances, that a mapping uses.
        pub min_utilization: Option<f64>,
    }
}

/// Bits of elements.
#[derive(Debug, Clone, PartialEq)]
pub enum BitsSpec {
    /// Of all tensors.
    All(At<f64>),
    /// By tensor set.
    Sets(Entries<At<f64>>),
}

impl Decode for BitsSpec {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        match item.kind {
            ItemKind::Table(_) => Entries::decode(item, problems).map(Self::Sets),
            _ => At::decode(item, problems).map(Self::All),
        }
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let (all, sets) = (f64::schema(generator), Entries::<f64>::schema(generator));
        json_schema!({ "anyOf": [all, sets] })
    }
}

/// How the times of a memory's reads and writes make its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatencyRule {
    /// They take turns.
    Sum,
    /// They go side by side.
    Max,
}

decode_names! {
    LatencyRule: "latency rule" ["sum" => LatencyRule::Sum, "max" => LatencyRule::Max],
    Objective: "objective" [
        "latency" => Objective::Latency,
        "energy" => Objective::Energy,
        "edp" => Objective::Edp,
    ],
    Convention: "convention" [
        "physical" => Convention::Physical,
        "timeloop" => Convention::Timeloop,
        "accelforge" => Convention::AccelForge,
        "zigzag" => Convention::ZigZag,
        "scalesim" => Convention::ScaleSim,
    ],
}

/// A level: a table whose first key says what it is.
#[derive(Debug, Clone, PartialEq)]
pub enum LevelSpec {
    /// A memory.
    Memory(Box<MemorySpec>),
    /// A fanout.
    Fanout(FanoutSpec),
    /// The compute units.
    Compute(ComputeSpec),
}

impl LevelSpec {
    /// Its name.
    pub fn name(&self) -> &At<String> {
        match self {
            Self::Memory(m) => &m.memory,
            Self::Fanout(f) => &f.fanout,
            Self::Compute(c) => &c.compute,
        }
    }
}

impl Decode for LevelSpec {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        if item.get("memory").is_some() {
            return MemorySpec::decode(item, problems).map(|m| Self::Memory(Box::new(m)));
        }
        if item.get("fanout").is_some() {
            return FanoutSpec::decode(item, problems).map(Self::Fanout);
        }
        if item.get("compute").is_some() {
            return ComputeSpec::decode(item, problems).map(Self::Compute);
        }
        problems.at(
            &item.place,
            "this level says not what it is",
            "name it with `memory = \"...\"`, `fanout = \"...\"` or `compute = \"...\"`",
        );
        None
    }
    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let memory = MemorySpec::schema(generator);
        let fanout = FanoutSpec::schema(generator);
        let compute = ComputeSpec::schema(generator);
        json_schema!({ "anyOf": [memory, fanout, compute] })
    }
}

/// Transfers of a port: a name, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfers(pub Vec<Transfer>);

impl Transfers {
    const NAMES: [(&str, &[Transfer]); 7] = [
        ("all", &Transfer::ALL),
        ("reads", &[Transfer::ToAbove, Transfer::ToBelow]),
        ("writes", &[Transfer::FromAbove, Transfer::FromBelow]),
        ("from_above", &[Transfer::FromAbove]),
        ("to_above", &[Transfer::ToAbove]),
        ("to_below", &[Transfer::ToBelow]),
        ("from_below", &[Transfer::FromBelow]),
    ];
    /// The name of one transfer.
    pub fn name(transfer: Transfer) -> &'static str {
        let named = Self::NAMES.iter().find(|(_, t)| **t == [transfer]);
        named.map_or("all", |(name, _)| name)
    }
    fn named(item: &Item, problems: &mut Problems) -> Option<&'static [Transfer]> {
        presil_hwmodels::decode::one_of(item, problems, "transfer", &Self::NAMES)
    }
}

impl Decode for Transfers {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        let items = match &item.kind {
            ItemKind::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(item),
        };
        let mut all: Vec<Transfer> = Vec::new();
        for item in items {
            for transfer in Self::named(item, problems)? {
                if !all.contains(transfer) {
                    all.push(*transfer);
                }
            }
        }
        Some(Self(all))
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        let names = Self::NAMES.map(|(name, _)| name);
        json_schema!({ "anyOf": [
            { "enum": names },
            { "type": "array", "items": { "enum": names } }
        ] })
    }
}

/// The lines of a mapping: a text of several lines, or an array of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct NestSpec {
    /// Lines that are not empty, without comments.
    pub lines: Vec<At<String>>,
    /// Where all of it stands.
    pub place: Place,
}

impl Decode for NestSpec {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        let items = match &item.kind {
            ItemKind::Array(items) => items.as_slice(),
            ItemKind::Text(_) => std::slice::from_ref(item),
            _ => {
                wrong(item, problems, "the lines of a mapping");
                return None;
            }
        };
        let mut lines = Vec::new();
        for item in items {
            let Some(text) = item.text() else {
                wrong(item, problems, "a line of a mapping");
                return None;
            };
            let mut at = 0;
            for line in text.split('\n') {
                let content = line.split('#').next().unwrap_or("");
                let value = content.trim();
                let start = at + content.len() - content.trim_start().len();
                if !value.is_empty() {
                    lines.push(At {
                        value: value.to_string(),
                        place: within(item, problems, start..start + value.len()),
                    });
                }
                at += line.len() + 1;
            }
        }
        Some(Self {
            lines,
            place: item.place.clone(),
        })
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" } }
        ] })
    }
}

/// The place of a part of a text item.
fn within(item: &Item, problems: &Problems, part: std::ops::Range<usize>) -> Place {
    place_within(&item.place, item.text().unwrap_or(""), problems, part)
}

/// The place of a part of a text whose place is known: exact if the source writes it without escapes, else all of it.
pub(super) fn place_within(
    place: &Place,
    text: &str,
    problems: &Problems,
    part: std::ops::Range<usize>,
) -> Place {
    let source = problems.sources.get(place.source);
    let raw = source.and_then(|s| s.text.get(place.span.clone()));
    match raw.and_then(|r| r.find(text)) {
        Some(at) if !text.is_empty() => {
            let all = source.map_or("", |s| s.text.as_str());
            let base = place.span.start + at;
            let start = all.floor_char_boundary(base + part.start);
            // An empty span would stand for the whole text.
            let end = all.ceil_char_boundary((base + part.end).max(start + 1));
            Place {
                source: place.source,
                span: start..end,
            }
        }
        _ => place.clone(),
    }
}
