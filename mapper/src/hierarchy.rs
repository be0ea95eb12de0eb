//! The machine as the loop nest of one einsum sees it: one path of levels, from the outermost memory to the
//! compute units.
//!
//! ```text
//! memory dram ── memory glb ── fanout pes (x, y) ── memory rf ── compute mac
//! ```
//!
//! A [`Hierarchy`] is what peers' architecture files, case files and a chip's path all reduce to; the named
//! [`crate::conventions`] count on it. Units: bits, cycles, picojoules. Figures are of one instance unless said
//! otherwise; everything below a fanout exists once per instance of it. Operands are numbered as in the einsum:
//! its inputs in order, then its output ([`operand_count`], [`access_of`]).

use presil_hwmodels::Overlap;
use presil_workloads::{Access, Einsum};

/// A set of an einsum's operands, or of its dimensions: bit `i` is number `i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mask(pub u32);

impl Mask {
    /// None.
    pub const NONE: Self = Self(0);
    /// All there can be.
    pub const ALL: Self = Self(u32::MAX);

    /// The set of one number.
    pub fn one(i: usize) -> Self {
        Self(1 << (i & 31))
    }
    /// Whether number `i` is in it.
    pub fn has(self, i: usize) -> bool {
        i < 32 && self.0 & (1 << i) != 0
    }
    /// With number `i`.
    pub fn with(self, i: usize) -> Self {
        Self(self.0 | Self::one(i).0)
    }
    /// In both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    /// In either.
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// In this one and not in the other.
    pub fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// How many operands an einsum has: inputs and the output.
pub fn operand_count(einsum: &Einsum) -> usize {
    einsum.inputs.len() + 1
}

/// The access of operand `i`: input `i`, or the output, which is the last.
pub fn access_of(einsum: &Einsum, operand: usize) -> &Access {
    einsum.inputs.get(operand).unwrap_or(&einsum.output)
}

/// What a port carries, seen from its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transfer {
    /// Writes from the level above (fills).
    FromAbove,
    /// Reads to the level above (drains of outputs).
    ToAbove,
    /// Reads to the level below.
    ToBelow,
    /// Writes from the level below (updates of outputs).
    FromBelow,
}

impl Transfer {
    /// All four.
    pub const ALL: [Self; 4] = [
        Self::FromAbove,
        Self::ToAbove,
        Self::ToBelow,
        Self::FromBelow,
    ];
    /// Whether it reads the memory.
    pub fn reads(self) -> bool {
        matches!(self, Self::ToAbove | Self::ToBelow)
    }
}

/// A port of a memory: what it carries, and how fast. Transfers of one port take turns; ports work side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// Name, for reports.
    pub name: String,
    /// Bits per cycle when reading, of one instance; infinite if it never limits.
    pub read_rate: f64,
    /// Bits per cycle when writing.
    pub write_rate: f64,
    /// Bits of the smallest access: traffic is rounded up to it where a convention says so.
    pub granule: f64,
    /// Picojoules of one access of the full width (the rate's bits), reading and writing, where accesses are
    /// priced and not bits; none: the memory's energies per bit.
    pub access_energy: Option<[f64; 2]>,
    /// What it carries, by operand.
    pub carries: Vec<(usize, Transfer)>,
}

/// A memory.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryLevel {
    /// Name.
    pub name: String,
    /// Bits of one instance; infinite if it never limits.
    pub capacity: f64,
    /// Tiles held for each kept one: the capacity for tiles is `capacity / buffering`.
    pub buffering: f64,
    /// Bits of an element of each operand as it is stored here (partial sums may be wider than results).
    pub bits: Vec<f64>,
    /// Bits of an element of the output here once it is finished, where a convention tells it from a partial sum
    /// (which takes `bits`); none: the same.
    pub final_bits: Option<f64>,
    /// Elements that one access moves together.
    pub block: u64,
    /// Instances that share one physical array: an access of all of them together is paid once (1: none share).
    pub cluster: u64,
    /// Picojoules of reading a bit.
    pub read_energy: f64,
    /// Picojoules of writing a bit from above.
    pub write_energy: f64,
    /// Picojoules of writing a bit from below (an update of a partial sum).
    pub update_energy: f64,
    /// Picojoules that an instance leaks in a cycle.
    pub leakage: f64,
    /// Its ports; none if it never limits.
    pub ports: Vec<Port>,
    /// Operands that may be kept here.
    pub keeps: Mask,
    /// Operands that every mapping keeps here.
    pub must_keep: Mask,
    /// Operands that every mapping keeps here or at a level above.
    pub must_keep_unless_above: Mask,
    /// What happens to halos of sliding windows.
    pub overlap: Overlap,
    /// Fan-out axes that one instance serves (by axis name), where instances are shared in a way that its place
    /// in the path does not tell; empty: all fanouts below it.
    pub serves: Vec<String>,
}

impl MemoryLevel {
    /// A memory without limits, energies and ports, that may keep everything; `operands` elements of `bits` bits.
    pub fn unlimited(name: impl Into<String>, operands: usize, bits: f64) -> Self {
        Self {
            name: name.into(),
            capacity: f64::INFINITY,
            buffering: 1.0,
            bits: vec![bits; operands],
            final_bits: None,
            block: 1,
            cluster: 1,
            read_energy: 0.0,
            write_energy: 0.0,
            update_energy: 0.0,
            leakage: 0.0,
            ports: Vec::new(),
            keeps: Mask::ALL,
            must_keep: Mask::NONE,
            must_keep_unless_above: Mask::NONE,
            overlap: Overlap::Keep,
            serves: Vec::new(),
        }
    }
}

/// One axis of a fanout.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Name.
    pub name: String,
    /// Instances along it.
    pub size: u64,
    /// Operands of which one read of the parent serves all instances that need the same; of the output: whose
    /// partial sums are added on the way up.
    pub shares: Mask,
    /// Operands of which one read of the parent also serves what the tiles of several instances have in common
    /// (halos of neighbours), whatever loop lies along the axis; of the output: whose common elements are added on
    /// the way up. Only [`crate::conventions::Convention::Physical`] knows it.
    pub shares_overlap: Mask,
    /// Operands that must be the same for all instances: only loops that do not index them may lie along it.
    pub must_share: Mask,
    /// Dimensions that may be laid along it.
    pub accepts: Mask,
    /// Least share of its instances that a mapping uses.
    pub min_usage: f64,
    /// Whether operands move along it by one instance a cycle, and are not broadcast.
    pub systolic: bool,
}

/// A spatial fanout.
#[derive(Debug, Clone, PartialEq)]
pub struct FanoutLevel {
    /// Name.
    pub name: String,
    /// Its axes.
    pub axes: Vec<Axis>,
    /// Picojoules of moving a bit between the level above and one instance; one that serves several pays once for
    /// each.
    pub hop_energy: f64,
}

/// Compute units, the innermost level.
#[derive(Debug, Clone, PartialEq)]
pub struct ComputeLevel {
    /// Name.
    pub name: String,
    /// Picojoules of one operation (a MAC).
    pub energy: f64,
    /// Operations of one instance in a cycle.
    pub rate: f64,
    /// Picojoules that an instance leaks in a cycle.
    pub leakage: f64,
}

/// A level of a hierarchy.
#[derive(Debug, Clone, PartialEq)]
pub enum Level {
    /// Keeps operands.
    Memory(MemoryLevel),
    /// Multiplies what is below it.
    Fanout(FanoutLevel),
    /// Computes.
    Compute(ComputeLevel),
}

impl Level {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Memory(m) => &m.name,
            Self::Fanout(f) => &f.name,
            Self::Compute(c) => &c.name,
        }
    }
    /// The memory, if it is one.
    pub fn memory(&self) -> Option<&MemoryLevel> {
        match self {
            Self::Memory(m) => Some(m),
            _ => None,
        }
    }
    /// The fanout, if it is one.
    pub fn fanout(&self) -> Option<&FanoutLevel> {
        match self {
            Self::Fanout(f) => Some(f),
            _ => None,
        }
    }
    /// The compute units, if it is them.
    pub fn compute(&self) -> Option<&ComputeLevel> {
        match self {
            Self::Compute(c) => Some(c),
            _ => None,
        }
    }
}

/// A path of levels, outermost first. The first is a memory, the last computes, and no other one does.
#[derive(Debug, Clone, PartialEq)]
pub struct Hierarchy {
    /// Name.
    pub name: String,
    /// Its levels.
    pub levels: Vec<Level>,
}

impl Hierarchy {
    /// The index of a level's name.
    pub fn level(&self, name: &str) -> Option<usize> {
        self.levels.iter().position(|l| l.name() == name)
    }
    /// The compute units.
    pub fn compute(&self) -> Option<&ComputeLevel> {
        self.levels.last().and_then(Level::compute)
    }
    /// Indices of the memories, outermost first.
    pub fn memories(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.levels.len()).filter(|l| self.levels[*l].memory().is_some())
    }
}
