//! Lane primitives and vector units.
//!
//! A primitive is made of products, additions and table accesses (`lane_primitives.csv`):
//!
//! ```text
//! E = (muls E_mul(f, f) + adds E_add(f) + lookups E_table(f)) (1 + control)
//!     + 3 E_register(f)                                         two operands read, one result written
//! ```
//!
//! An integer lane keeps intermediate products in the width of its format.

use presil_numerics::{Bytes, Format, LanePrimitive};
use serde::Deserialize;

use super::{Estimate, Technology, data};

/// What a primitive is made of.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct PrimitiveRow {
    primitive: LanePrimitive,
    muls: f64,
    adds: f64,
    lookups: f64,
    latency_cycles: f64,
}

impl Technology {
    /// Energy of one operation of a lane primitive, in joules.
    pub fn lane(&self, primitive: LanePrimitive, format: Format) -> Estimate {
        let Some(row) = data().primitives.iter().find(|r| r.primitive == primitive) else {
            return Estimate {
                value: 0.0,
                low: 0.0,
                high: 0.0,
                source: "no such primitive".into(),
            };
        };
        let bytes = format.bits().div_ceil(8).max(1);
        let entries = self.constant("lane_table_entries").value as u64;
        let table = self.registers(Bytes(bytes * entries), Bytes(bytes)).read;
        let register = self.registers(Bytes(bytes), Bytes(bytes)).read;
        let work = self.multiply(format, format).times(row.muls);
        let work = work
            .plus(&self.add(format).times(row.adds))
            .plus(&table.times(row.lookups));
        let control = self.constant("lane_control_energy");
        let source =
            "lane model: multipliers, adders and tables of the logic model, registers and control";
        Estimate {
            value: work.value * (1.0 + control.value),
            low: work.low * (1.0 + control.low),
            high: work.high * (1.0 + control.high),
            source: source.into(),
        }
        .plus(&register.times(3.0))
    }

    /// Cycles from operand to result.
    pub fn lane_latency(&self, primitive: LanePrimitive) -> f64 {
        data()
            .primitives
            .iter()
            .find(|r| r.primitive == primitive)
            .map_or(1.0, |r| r.latency_cycles)
    }

    /// Area of one lane of a format, in square millimetres: its multiply-add times the overhead of the rest.
    pub fn lane_area(&self, format: Format) -> Estimate {
        let mac = self.mac_area(format, format, format);
        let overhead = self.constant("lane_area_overhead");
        Estimate {
            value: mac.value * overhead.value,
            low: mac.low * overhead.low,
            high: mac.high * overhead.high,
            source: "lane model: a multiply-add and the registers, tables and crossbar around it"
                .into(),
        }
    }
}
