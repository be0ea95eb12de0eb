//! SRAM macros, banked memories and register files.
//!
//! **A bank** (one macro) at 22 nm and above is CACTI 7's row, interpolated log-log over size, then width, then
//! node. The low-power classes have fewer rows, so a figure there is the itrs-hp one times the interpolated ratio
//! of the class at the nearest widths and nodes.
//!
//! **Below 22 nm** CACTI ends. With source `jouppi` the 7 nm read energies of `sram_anchors.csv` stand at 64 bits,
//! log-log in size; below 8 KiB the size dependence, and at other widths the width dependence, is CACTI's at 22 nm;
//! between 22 and 7 nm log-log in the node. With source `stillmaker` the 22 nm figure is scaled as logic. Writes keep
//! CACTI's ratio to reads. Area scales with the bit cell, leakage with a power of it, access time not at all.
//!
//! **A memory** larger than one bank has `n = ceil(capacity / bank size)` banks. An access of a word of `w` bits
//! takes `ceil(w / bank width)` of them in parallel and moves the word over an H-tree:
//!
//! ```text
//! E(word) = parallel E_bank(w / parallel) + w E_wire sqrt(area)
//! area    = n area_bank overhead;  leakage = n leakage_bank;  access = access_bank + delay_wire sqrt(area)
//! ```
//!
//! **Registers**: a bit costs the register's energy to write and to read, and reads pay a multiplexer level for
//! each doubling of the entries.

use presil_numerics::Bytes;
use serde::Deserialize;

use super::table::{ANY, RISING, log_log, rows};
use super::{DeviceClass, Estimate, Scaling, Technology, data, text};

#[derive(Debug, Clone, Deserialize)]
struct CactiRow {
    device: String,
    node_nm: f64,
    size_bytes: f64,
    width_bits: f64,
    #[serde(rename = "read_energy_pJ")]
    read_pj: f64,
    #[serde(rename = "write_energy_pJ")]
    write_pj: f64,
    #[serde(rename = "leakage_mW")]
    leakage_mw: f64,
    area_mm2: f64,
    access_ns: f64,
}

#[derive(Debug, Clone, Deserialize)]
struct AnchorRow {
    node_nm: f64,
    size_bytes: f64,
    read_energy_pj: f64,
}

#[derive(Debug, Clone, Deserialize)]
struct BitcellRow {
    node_nm: f64,
    bitcell_um2: f64,
}

/// A figure of a macro.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Energy of a read access in picojoules.
    Read,
    /// Energy of a write access in picojoules.
    Write,
    /// Leakage in milliwatts.
    Leakage,
    /// Area in square millimetres.
    Area,
    /// Access time in nanoseconds.
    Access,
}

impl CactiRow {
    fn metric(&self, metric: Metric) -> f64 {
        match metric {
            Metric::Read => self.read_pj,
            Metric::Write => self.write_pj,
            Metric::Leakage => self.leakage_mw,
            Metric::Area => self.area_mm2,
            Metric::Access => self.access_ns,
        }
    }
}

/// Rows of one node and width, ascending in size.
#[derive(Debug, Clone)]
struct Series {
    width: f64,
    rows: Vec<CactiRow>,
}

/// Series of one node, ascending in width.
#[derive(Debug, Clone)]
struct Sheet {
    node: f64,
    series: Vec<Series>,
}

/// The SRAM tables. Each list of sheets ascends in the node.
#[derive(Debug, Clone)]
pub(super) struct SramData {
    classes: Vec<(&'static str, Vec<Sheet>)>,
    anchors: Vec<AnchorRow>,
    bitcells: Vec<(f64, f64)>,
}

impl SramData {
    pub(super) fn read() -> Self {
        let mut all: Vec<CactiRow> = rows(text::SRAM_HP);
        all.extend(rows::<CactiRow>(text::SRAM_LOW));
        let classes = [DeviceClass::Hp, DeviceClass::Lop, DeviceClass::Lstp]
            .map(|d| (d.name(), sheets(&all, d.name())));
        let mut bitcells: Vec<(f64, f64)> = rows::<BitcellRow>(text::BITCELLS)
            .iter()
            .map(|b| (b.node_nm, b.bitcell_um2))
            .collect();
        bitcells.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self {
            classes: classes.to_vec(),
            anchors: rows(text::SRAM_ANCHORS),
            bitcells,
        }
    }

    fn class(&self, device: DeviceClass) -> &[Sheet] {
        self.classes
            .iter()
            .find(|(name, _)| *name == device.name())
            .map_or(&[], |(_, sheets)| sheets)
    }
}

fn sheets(all: &[CactiRow], device: &str) -> Vec<Sheet> {
    let mut own: Vec<CactiRow> = all.iter().filter(|r| r.device == device).cloned().collect();
    own.sort_by(|a, b| {
        let key = |r: &CactiRow| (r.node_nm, r.width_bits, r.size_bytes);
        let ((n1, w1, s1), (n2, w2, s2)) = (key(a), key(b));
        n1.total_cmp(&n2)
            .then(w1.total_cmp(&w2))
            .then(s1.total_cmp(&s2))
    });
    // The low-power runs contain some points twice.
    own.dedup_by(|a, b| {
        a.node_nm == b.node_nm && a.width_bits == b.width_bits && a.size_bytes == b.size_bytes
    });
    let by_node = own.chunk_by(|a, b| a.node_nm == b.node_nm);
    by_node
        .filter_map(|node| {
            let series: Vec<Series> = node
                .chunk_by(|a, b| a.width_bits == b.width_bits)
                .filter(|rows| rows.len() > 1)
                .filter_map(|rows| {
                    Some(Series {
                        width: rows.first()?.width_bits,
                        rows: rows.to_vec(),
                    })
                })
                .collect();
            Some(Sheet {
                node: node.first()?.node_nm,
                series,
            })
        })
        .collect()
}

/// Interpolates a table at a size and width; one curve over the nodes is left.
fn over_nodes(sheets: &[Sheet], metric: Metric, size: f64, width: f64) -> Vec<(f64, f64)> {
    let limits = if metric == Metric::Access {
        ANY
    } else {
        RISING
    };
    let at_node = |sheet: &Sheet| {
        let curve: Vec<(f64, f64)> = sheet
            .series
            .iter()
            .map(|s| {
                let points: Vec<(f64, f64)> = s
                    .rows
                    .iter()
                    .map(|r| (r.size_bytes, r.metric(metric)))
                    .collect();
                (s.width, log_log(&points, size, limits))
            })
            .collect();
        (sheet.node, log_log(&curve, width, limits))
    };
    sheets.iter().map(at_node).collect()
}

/// Ends of a low-power class's grid in one coordinate: outside of it its ratio to itrs-hp stays.
fn clamp_to(sheets: &[Sheet], size: f64, width: f64) -> (f64, f64) {
    let series = || sheets.iter().flat_map(|s| &s.series);
    let widths = series()
        .map(|s| s.width)
        .fold((f64::MAX, 0.0_f64), |(lo, hi), w| (lo.min(w), hi.max(w)));
    let sizes = series().flat_map(|s| &s.rows).map(|r| r.size_bytes);
    let sizes = sizes.fold((f64::MAX, 0.0_f64), |(lo, hi), s| (lo.min(s), hi.max(s)));
    (
        size.clamp(sizes.0.min(sizes.1), sizes.1),
        width.clamp(widths.0.min(widths.1), widths.1),
    )
}

/// CACTI's figure at 22 nm or above.
pub(super) fn cacti(device: DeviceClass, node: f64, size: f64, width: f64, metric: Metric) -> f64 {
    let tables = &data().sram;
    let hp = log_log(
        &over_nodes(tables.class(DeviceClass::Hp), metric, size, width),
        node,
        ANY,
    );
    if device == DeviceClass::Hp {
        return hp;
    }
    // Only the widths that every node of the class has.
    let common: Vec<Sheet> = tables
        .class(device)
        .iter()
        .map(|s| Sheet {
            node: s.node,
            series: s
                .series
                .iter()
                .filter(|x| x.width == 64.0 || x.width == 256.0)
                .cloned()
                .collect(),
        })
        .collect();
    let (s, w) = clamp_to(&common, size, width);
    let own = over_nodes(&common, metric, s, w);
    let nodes = own.iter().map(|p| p.0);
    let (low, high) = nodes.fold((f64::MAX, 0.0_f64), |(lo, hi), n| (lo.min(n), hi.max(n)));
    let n = node.clamp(low.min(high), high);
    let reference = log_log(
        &over_nodes(tables.class(DeviceClass::Hp), metric, s, w),
        n,
        ANY,
    );
    hp * log_log(&own, n, ANY) / reference
}

/// The node where CACTI ends.
const CACTI_END: f64 = 22.0;

/// Figures of a memory: one instance, one access of a whole word.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryFigures {
    /// Energy of reading a word, in joules.
    pub read: Estimate,
    /// Energy of writing a word, in joules.
    pub write: Estimate,
    /// Leakage in watts.
    pub leakage: Estimate,
    /// Area in square millimetres.
    pub area: Estimate,
    /// Access time in seconds.
    pub access: Estimate,
}

impl Technology {
    /// A figure of one macro, in the metric's unit, by one scaling source.
    pub fn bank(&self, size: f64, width: f64, metric: Metric, scaling: Scaling) -> f64 {
        let voltage = self.voltage_factor();
        let cacti_at = |node: f64, size: f64, width: f64, metric: Metric| {
            cacti(self.device, node, size, width, metric)
        };
        let node = self.node.0;
        if node >= CACTI_END {
            let base = cacti_at(node, size, width, metric);
            return match metric {
                Metric::Read | Metric::Write => base * voltage,
                Metric::Leakage => base * voltage.sqrt(),
                Metric::Area | Metric::Access => base,
            };
        }
        let base = cacti_at(CACTI_END, size, width, metric);
        let cells = |n: f64| log_log(&data().sram.bitcells, n, ANY);
        let cell = cells(node) / cells(CACTI_END);
        match metric {
            Metric::Access => base,
            Metric::Area => base * cell,
            Metric::Leakage => {
                base * cell.powf(self.constant("sram_leakage_exponent").value) * voltage.sqrt()
            }
            Metric::Read | Metric::Write if scaling == Scaling::Stillmaker => {
                base * self.logic_ratio_of(scaling)
            }
            Metric::Read | Metric::Write => {
                let Some(end) = data()
                    .sram
                    .anchors
                    .iter()
                    .map(|a| a.node_nm)
                    .reduce(f64::min)
                else {
                    return base;
                };
                let own = data().sram.anchors.iter().filter(|a| a.node_nm == end);
                let points: Vec<(f64, f64)> =
                    own.map(|a| (a.size_bytes, a.read_energy_pj)).collect();
                let smallest = points.first().map_or(size, |p| p.0);
                let shape = base / cacti_at(CACTI_END, size.max(smallest), 64.0, Metric::Read);
                let anchored = log_log(&points, size.max(smallest), RISING) * shape;
                let nominal = log_log(&[(end, anchored), (CACTI_END, base)], node.max(end), ANY);
                nominal * (node / end).min(1.0).sqrt() * voltage
            }
        }
    }

    fn logic_ratio_of(&self, scaling: Scaling) -> f64 {
        Self { scaling, ..*self }.logic_energy_ratio(CACTI_END)
    }

    /// Figures of a software-managed memory. `banks`: as given, or as many as the table's bank size needs.
    pub fn sram(&self, capacity: Bytes, word: Bytes, banks: Option<u64>) -> MemoryFigures {
        let (size, width) = (capacity.0.max(1) as f64, (word.0.max(1) * 8) as f64);
        let banks = banks
            .map_or_else(
                || (size / self.constant("bank_size").value).ceil(),
                |b| b as f64,
            )
            .max(1.0);
        let parallel = (width / self.constant("bank_width").value)
            .ceil()
            .clamp(1.0, banks);
        let (bank_size, bank_width) = (size / banks, width / parallel);
        let overhead = if banks > 1.0 {
            self.constant("bank_area_overhead")
        } else {
            self.unity()
        };
        let area = banks * self.bank(bank_size, bank_width, Metric::Area, self.scaling);
        let distance = if banks > 1.0 {
            (area * overhead.value).sqrt()
        } else {
            0.0
        };
        let wire = self.wire_energy().times(width * distance);
        let energy = |metric: Metric| {
            let by = |scaling: Scaling| {
                parallel * self.bank(bank_size, bank_width, metric, scaling) * 1e-12
            };
            let source = format!(
                "SRAM model: {banks} bank(s) of {:.0} B, {parallel} of {bank_width:.0} bit in parallel, {distance:.2} mm of wire; {}, {}",
                bank_size,
                self.device.name(),
                self.scaling.name()
            );
            Estimate::spread(by(self.scaling), &[by(self.other_scaling())], source).plus(&wire)
        };
        let leakage =
            banks * self.bank(bank_size, bank_width, Metric::Leakage, self.scaling) * 1e-3;
        let access = self.bank(bank_size, bank_width, Metric::Access, self.scaling)
            + self.constant("wire_delay").value * distance;
        let source = format!(
            "SRAM model: CACTI 7, {}, {banks} bank(s)",
            self.device.name()
        );
        let figure = |value: f64, factor: &Estimate| Estimate {
            value: value * factor.value,
            low: value * factor.low,
            high: value * factor.high,
            source: source.clone(),
        };
        MemoryFigures {
            read: energy(Metric::Read),
            write: energy(Metric::Write),
            leakage: figure(leakage, &self.constant("sram_temperature")),
            area: figure(area, &overhead),
            access: figure(access * 1e-9, &self.constant("sram_access")),
        }
    }

    fn unity(&self) -> Estimate {
        Estimate {
            value: 1.0,
            low: 1.0,
            high: 1.0,
            source: String::new(),
        }
    }

    /// Figures of a register file.
    pub fn registers(&self, capacity: Bytes, word: Bytes) -> MemoryFigures {
        let bits = (word.0.max(1) * 8) as f64;
        let entries = (capacity.0.max(1) as f64 / word.0.max(1) as f64).max(1.0);
        let source = format!("register model: {entries:.0} entries of {bits:.0} bit");
        let bit = self
            .scaled_constant("register_energy")
            .times(1e-12 * bits)
            .because(&source);
        let level = self.constant("register_mux_level");
        let levels = entries.log2();
        let read = Estimate {
            value: bit.value * (1.0 + level.value * levels),
            low: bit.low * (1.0 + level.low * levels),
            high: bit.high * (1.0 + level.high * levels),
            source: source.clone(),
        };
        let from = data()
            .constants
            .iter()
            .find(|c| c.name == "register_area")
            .map_or(40.0, |c| c.node_nm);
        let area = self
            .constant("register_area")
            .times(capacity.0 as f64 * 8e-6 * self.logic_area_ratio(from));
        let leakage = self
            .logic_leakage(area.value)
            .times(self.constant("register_gating").value)
            .because(&source);
        let none = Estimate {
            value: 0.0,
            low: 0.0,
            high: 0.0,
            source: source.clone(),
        };
        MemoryFigures {
            read,
            write: bit,
            leakage,
            area: area.because(source),
            access: none,
        }
    }
}
