//! Energy, area and leakage of what chips are made of, at a node, device class and voltage.
//!
//! Everything here is an [`Estimate`]: a value, what it may lie between, and what it rests on. The data are the
//! tables of `configs/technologies`; the code has no constant of its own. Models, each documented where it stands:
//!
//! - [`sram`]: CACTI rows with log-log interpolation, explicit banks and wires, anchors below 22 nm; register files;
//! - [`logic`]: multipliers and adders of any integer or float width, areas, leakage;
//! - [`lanes`]: lane primitives and vector units;
//! - [`dram`]: parts with peak rate, streaming efficiency and energy split.
//!
//! Between nodes two sources disagree by up to a factor of three, so both are here and the one not chosen gives
//! the range ([`Scaling`]).

pub mod dram;
pub mod lanes;
pub mod logic;
pub mod sram;
pub mod table;

use std::sync::OnceLock;

use presil_numerics::{Nanometres, Volts};
use serde::Deserialize;

use table::{ANY, log_log, rows};

/// Transistor class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceClass {
    /// High performance: fast and leaking.
    Hp,
    /// Low operating power.
    Lop,
    /// Low standby power.
    Lstp,
}

impl DeviceClass {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hp => "itrs-hp",
            Self::Lop => "itrs-lop",
            Self::Lstp => "itrs-lstp",
        }
    }
}

/// Which source scales energies between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scaling {
    /// Between the 45 nm and 7 nm figures of Jouppi et al., ISCA 2021, each operation with its own exponent.
    Jouppi,
    /// From 45 nm with the polynomials of Stillmaker and Baas, 2017.
    Stillmaker,
}

impl Scaling {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jouppi => "jouppi",
            Self::Stillmaker => "stillmaker",
        }
    }
}

/// A modelled quantity, in the unit that the function says.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// It may be as low as this.
    pub low: f64,
    /// It may be as high as this.
    pub high: f64,
    /// What it rests on.
    pub source: String,
}

impl Estimate {
    /// A value whose range is the spread of some figures, itself included.
    fn spread(value: f64, others: &[f64], source: impl Into<String>) -> Self {
        let low = others.iter().copied().fold(value, f64::min);
        let high = others.iter().copied().fold(value, f64::max);
        Self {
            value,
            low,
            high,
            source: source.into(),
        }
    }
    /// All three figures multiplied.
    #[must_use]
    pub fn times(mut self, factor: f64) -> Self {
        self.value *= factor;
        self.low *= factor;
        self.high *= factor;
        self
    }
    /// The sum, low with low and high with high, under this estimate's source.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.value += other.value;
        self.low += other.low;
        self.high += other.high;
        self
    }
    /// The same figures on another footing.
    #[must_use]
    pub fn because(mut self, source: impl Into<String>) -> Self {
        self.source = source.into();
        self
    }
}

/// A node of the scaling table.
#[derive(Debug, Clone, Deserialize)]
struct NodeRow {
    node_nm: f64,
    voltage_v: f64,
    energy_v2: Option<f64>,
    energy_v1: Option<f64>,
    energy_v0: Option<f64>,
    area_vs_45: f64,
}

#[derive(Debug, Clone, Deserialize)]
struct ConstantRow {
    name: String,
    value: f64,
    low: f64,
    high: f64,
    node_nm: f64,
    source: String,
}

/// All tables, read once.
struct Data {
    /// Ascending in the node.
    nodes: Vec<NodeRow>,
    constants: Vec<ConstantRow>,
    sram: sram::SramData,
    operations: Vec<logic::OperationRow>,
    primitives: Vec<lanes::PrimitiveRow>,
    parts: Vec<dram::DramPart>,
}

fn data() -> &'static Data {
    static DATA: OnceLock<Data> = OnceLock::new();
    DATA.get_or_init(|| {
        let mut nodes: Vec<NodeRow> = rows(text::NODES);
        nodes.sort_by(|a, b| a.node_nm.total_cmp(&b.node_nm));
        Data {
            nodes,
            constants: rows(text::CONSTANTS),
            sram: sram::SramData::read(),
            operations: rows(text::OPERATIONS),
            primitives: rows(text::PRIMITIVES),
            parts: rows(text::DRAM),
        }
    })
}

/// The tables as text.
mod text {
    macro_rules! table {
        ($($name:ident = $file:literal),+ $(,)?) => {
            $(pub const $name: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/technologies/", $file));)+
        };
    }
    table! {
        NODES = "nodes.csv",
        CONSTANTS = "constants.csv",
        OPERATIONS = "operations.csv",
        PRIMITIVES = "lane_primitives.csv",
        DRAM = "dram.csv",
        SRAM_HP = "sram_cacti.csv",
        SRAM_LOW = "sram_cacti_lowpower.csv",
        SRAM_ANCHORS = "sram_anchors.csv",
        BITCELLS = "sram_bitcells.csv",
    }
}

/// Nodes that the tables reach, in nanometres, from the finest to the coarsest.
pub const NODE_RANGE: (f64, f64) = (2.0, 130.0);

/// A technology: what a chip's `technology` section says, resolved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Technology {
    /// Process node.
    pub node: Nanometres,
    /// Transistor class.
    pub device: DeviceClass,
    /// Supply voltage.
    pub voltage: Volts,
    /// Source of node scaling.
    pub scaling: Scaling,
}

/// Nominal supply voltage of a node, interpolated in the table.
pub fn nominal_voltage(node: Nanometres) -> Volts {
    let points: Vec<(f64, f64)> = data()
        .nodes
        .iter()
        .map(|n| (n.node_nm, n.voltage_v))
        .collect();
    Volts(log_log(&points, node.0, (0.0, 0.0)))
}

impl Technology {
    /// The same at another device class.
    #[must_use]
    pub fn with_device(mut self, device: Option<DeviceClass>) -> Self {
        self.device = device.unwrap_or(self.device);
        self
    }

    /// `(V / nominal V)^2`: dynamic energy against the nominal voltage.
    fn voltage_factor(&self) -> f64 {
        (self.voltage.0 / nominal_voltage(self.node).0).powi(2)
    }

    /// A constant of the table, as it stands there.
    fn constant(&self, name: &str) -> Estimate {
        let row = data().constants.iter().find(|c| c.name == name);
        row.map_or(
            Estimate {
                value: 1.0,
                low: 1.0,
                high: 1.0,
                source: format!("no constant `{name}`"),
            },
            |c| Estimate {
                value: c.value,
                low: c.low,
                high: c.high,
                source: c.source.clone(),
            },
        )
    }

    /// An energy of the constants table, scaled as logic from the node where it stands.
    fn scaled_constant(&self, name: &str) -> Estimate {
        let from = data()
            .constants
            .iter()
            .find(|c| c.name == name)
            .map_or(45.0, |c| c.node_nm);
        let base = self.constant(name);
        let factor = self.logic_energy_ratio(from);
        let other = Self {
            scaling: self.other_scaling(),
            ..*self
        }
        .logic_energy_ratio(from);
        let (least, most) = (factor.min(other), factor.max(other));
        Estimate {
            value: base.value * factor,
            low: base.low * least,
            high: base.high * most,
            source: base.source,
        }
    }

    fn other_scaling(&self) -> Scaling {
        match self.scaling {
            Scaling::Jouppi => Scaling::Stillmaker,
            Scaling::Stillmaker => Scaling::Jouppi,
        }
    }

    /// Logic energy of this technology against that of another node at its nominal voltage.
    fn logic_energy_ratio(&self, from: f64) -> f64 {
        let nominal = Self {
            node: Nanometres(from),
            voltage: nominal_voltage(Nanometres(from)),
            ..*self
        };
        match self.scaling {
            Scaling::Stillmaker => self.stillmaker() / nominal.stillmaker(),
            // An int32 addition stands for logic at large.
            Scaling::Jouppi => {
                self.operation(logic::Class::AddInt, 32.0, self.scaling)
                    / nominal.operation(logic::Class::AddInt, 32.0, self.scaling)
            }
        }
    }

    /// Energy of logic by Stillmaker and Baas, in units of the 45 nm node at its nominal voltage:
    /// `p_node(V) / p_45(V_45)` with `p(V) = a V^2 + b V + c`, log-log between the table's nodes, each taken at
    /// its nominal voltage times this technology's overdrive; below 7 nm by the square root of the node.
    fn stillmaker(&self) -> f64 {
        let overdrive = self.voltage.0 / nominal_voltage(self.node).0;
        let value =
            |n: &NodeRow, v: f64| Some(n.energy_v2? * v * v + n.energy_v1? * v + n.energy_v0?);
        let points: Vec<(f64, f64)> = data()
            .nodes
            .iter()
            .filter_map(|n| Some((n.node_nm, value(n, n.voltage_v * overdrive)?)))
            .collect();
        let reference = data()
            .nodes
            .iter()
            .find(|n| n.node_nm == 45.0)
            .and_then(|n| value(n, n.voltage_v));
        let floor = points.first().map_or(1.0, |p| p.0);
        let at = log_log(&points, self.node.0.max(floor), ANY);
        at / reference.unwrap_or(1.0) * (self.node.0 / floor).min(1.0).sqrt()
    }

    /// Area of logic against that of another node: Stillmaker and Baas' ratios to 7 nm, foundry densities below.
    fn logic_area_ratio(&self, from: f64) -> f64 {
        let points: Vec<(f64, f64)> = data()
            .nodes
            .iter()
            .map(|n| (n.node_nm, n.area_vs_45))
            .collect();
        log_log(&points, self.node.0, ANY) / log_log(&points, from, ANY)
    }

    /// Energy of a bit over a millimetre of on-chip wire, in joules: the table's at its node's nominal voltage,
    /// times the voltage squared; wire capacitance per length does not scale.
    pub fn wire_energy(&self) -> Estimate {
        let from = data()
            .constants
            .iter()
            .find(|c| c.name == "wire_energy")
            .map_or(7.0, |c| c.node_nm);
        let factor = (self.voltage.0 / nominal_voltage(Nanometres(from)).0).powi(2);
        self.constant("wire_energy").times(factor * 1e-12)
    }

    /// Energy of one operation of a general processor, in joules.
    pub fn host_operation(&self) -> Estimate {
        self.scaled_constant("host_operation").times(1e-12)
    }
}

#[cfg(test)]
mod tests;
