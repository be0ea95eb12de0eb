//! Multipliers, adders, their area, and leakage of logic.
//!
//! A MAC is one product and one addition into the accumulator:
//!
//! ```text
//! E_mac = E_mul(x_mul) + E_add(x_add)
//! x_mul = b1 b2                  two integers of b1 and b2 bits                        class mul_int
//!         (m1 + 1) (m2 + 1)      two floats of m1 and m2 stored mantissa bits          class mul_float
//!         (m + 1) b              a float and an integer                                class mul_float
//! x_add = b of an integer accumulator (add_int), m + 1 of a float one (add_float)
//! ```
//!
//! `E(x)` is interpolated log-log between the anchors of `operations.csv` at 45 nm (Horowitz, ISSCC 2014) and at
//! 7 nm (Jouppi et al., ISCA 2021): about `x^1.0` for integer products and `x^0.8` for floats, whose exponent
//! handling and rounding cost relatively more in small formats. The exponent's width is not seen. Between the two
//! nodes each operation is interpolated log-log in the node; above 45 nm and, with the other source everywhere, the
//! polynomials of Stillmaker and Baas scale the 45 nm figure; below 7 nm the square root of the node. Operand and
//! pipeline registers are not part of a MAC: they are register memories of the tree.
//!
//! Areas are the 45 nm anchors with the area ratios of `nodes.csv`, divided by the cell utilization.

use presil_numerics::Format;
use serde::Deserialize;

use super::table::{ANY, log_log};
use super::{DeviceClass, Estimate, Scaling, Technology, data};

/// A kind of arithmetic with anchors of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Class {
    MulInt,
    AddInt,
    MulFloat,
    AddFloat,
}

/// An anchor.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct OperationRow {
    class: Class,
    x: f64,
    node_nm: f64,
    energy_pj: f64,
    area_um2: Option<f64>,
}

/// Nodes of the anchors: arithmetic of 45 nm and of 7 nm.
const ANCHORS: (f64, f64) = (7.0, 45.0);

fn anchors(class: Class, node: f64) -> Vec<(f64, f64)> {
    let rows = data()
        .operations
        .iter()
        .filter(|r| r.class == class && r.node_nm == node);
    rows.map(|r| (r.x, r.energy_pj)).collect()
}

/// Bits of a significand, the leading one included; of an integer all bits. `None` for formats without arithmetic.
pub fn significand(format: Format) -> Option<f64> {
    match format {
        Format::Int { bits, .. } => Some(f64::from(bits)),
        Format::Float { mantissa, .. } => Some(f64::from(mantissa) + 1.0),
        _ => None,
    }
}

fn product(a: Format, b: Format) -> (Class, f64) {
    let class = if a.is_int() && b.is_int() {
        Class::MulInt
    } else {
        Class::MulFloat
    };
    (
        class,
        significand(a).unwrap_or(8.0) * significand(b).unwrap_or(8.0),
    )
}

fn sum(format: Format) -> (Class, f64) {
    let class = if format.is_int() {
        Class::AddInt
    } else {
        Class::AddFloat
    };
    (class, significand(format).unwrap_or(8.0))
}

impl Technology {
    /// Energy of an operation in picojoules by one scaling source.
    pub(super) fn operation(&self, class: Class, x: f64, scaling: Scaling) -> f64 {
        let (fine, coarse) = ANCHORS;
        let at_coarse = log_log(&anchors(class, coarse), x, ANY);
        if scaling == Scaling::Stillmaker {
            return at_coarse * self.stillmaker();
        }
        if self.node.0 > coarse {
            return at_coarse * self.stillmaker();
        }
        let at_fine = log_log(&anchors(class, fine), x, ANY);
        let nominal = log_log(
            &[(fine, at_fine), (coarse, at_coarse)],
            self.node.0.max(fine),
            ANY,
        );
        nominal * (self.node.0 / fine).min(1.0).sqrt() * self.voltage_factor()
    }

    fn operation_estimate(&self, (class, x): (Class, f64)) -> Estimate {
        let value = self.operation(class, x, self.scaling);
        let other = self.operation(class, x, self.other_scaling());
        Estimate::spread(value * 1e-12, &[other * 1e-12], "")
    }

    /// Energy of a product of two formats, in joules.
    pub fn multiply(&self, a: Format, b: Format) -> Estimate {
        self.operation_estimate(product(a, b))
            .because(self.logic_source())
    }

    /// Energy of an addition in a format, in joules.
    pub fn add(&self, format: Format) -> Estimate {
        self.operation_estimate(sum(format))
            .because(self.logic_source())
    }

    /// Energy of a MAC, in joules.
    pub fn mac(&self, input: Format, weight: Format, accumulate: Format) -> Estimate {
        self.multiply(input, weight).plus(&self.add(accumulate))
    }

    fn logic_source(&self) -> String {
        format!(
            "logic model ({} scaling of Horowitz ISSCC 2014 and Jouppi et al. ISCA 2021)",
            self.scaling.name()
        )
    }

    fn operation_area(&self, (class, x): (Class, f64)) -> f64 {
        let rows = data().operations.iter().filter(|r| r.class == class);
        let points: Vec<(f64, f64)> = rows.filter_map(|r| Some((r.x, r.area_um2?))).collect();
        log_log(&points, x, ANY) * self.logic_area_ratio(ANCHORS.1) * 1e-6
    }

    /// Area of a MAC, in square millimetres.
    pub fn mac_area(&self, input: Format, weight: Format, accumulate: Format) -> Estimate {
        let cells =
            self.operation_area(product(input, weight)) + self.operation_area(sum(accumulate));
        let utilization = self.constant("cell_utilization");
        let overhead = self.constant("mac_area_overhead");
        Estimate {
            value: cells / utilization.value * overhead.value,
            low: cells / utilization.high * overhead.low,
            high: cells / utilization.low * overhead.high,
            source: "logic model: 45 nm cell areas (Horowitz ISSCC 2014), area ratios of Stillmaker and Baas 2017".into(),
        }
    }

    /// Leakage of logic of an area, in watts: the class's density in `constants.csv`, times the voltage.
    pub fn logic_leakage(&self, area: f64) -> Estimate {
        let name = match self.device {
            DeviceClass::Hp => "logic_leakage_hp",
            DeviceClass::Lop => "logic_leakage_lop",
            DeviceClass::Lstp => "logic_leakage_lstp",
        };
        self.constant(name)
            .times(area * 1e-3 * self.voltage_factor().sqrt())
    }
}
