//! Quantities of case files. A plain number is in the unit that the key's documentation names (bits, picojoules
//! per bit, bits per cycle); a text states its own; `"inf"` is what never limits.

use presil_hwmodels::decode::{Decode, wrong};
use presil_hwmodels::document::{Item, ItemKind, Problems};
use presil_numerics::{Bits, Bytes, Diagnostic, JoulesPerBit};
use schemars::{Schema, SchemaGenerator, json_schema};

/// The number of an item that is a plain number or "inf"; none if it is a text of another form.
fn plain(item: &Item) -> Option<f64> {
    match &item.kind {
        ItemKind::Integer(i) => Some(*i as f64),
        ItemKind::Float(f) => Some(*f),
        ItemKind::Text(t) if t.trim() == "inf" => Some(f64::INFINITY),
        _ => None,
    }
}

/// Checks that a number is not negative (and, where `zero` is false, not zero).
fn checked(value: f64, zero: bool, item: &Item, problems: &mut Problems) -> Option<f64> {
    let right = if zero { value >= 0.0 } else { value > 0.0 };
    if right {
        return Some(value);
    }
    let least = if zero { "at least" } else { "more than" };
    problems.at(
        &item.place,
        format!("the number must be {least} 0"),
        format!("write a number of {least} 0"),
    );
    None
}

fn anyof(text: &str) -> Schema {
    json_schema!({
        "anyOf": [{ "type": "number", "minimum": 0 }, { "type": "string" }],
        "description": text
    })
}

/// How much an instance of a memory holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Capacity {
    /// Bits; infinite if it never limits.
    Bits(f64),
    /// So many elements of a tensor: a register is `"bits_per_value(weight)"`, a small file of them
    /// `"16 * bits_per_value(weight)"`.
    Elements {
        /// How many.
        count: f64,
        /// A tensor set of one operand.
        of: String,
    },
}

impl Decode for Capacity {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        if let Some(value) = plain(item) {
            return checked(value, false, item, problems).map(Self::Bits);
        }
        let Some(text) = item.text() else {
            wrong(item, problems, "a capacity");
            return None;
        };
        if let Some((count, rest)) = text.split_once("bits_per_value(") {
            let count = match count.trim().trim_end_matches('*').trim() {
                "" => Some(1.0),
                n => n.parse::<f64>().ok().filter(|n| n.is_finite()),
            };
            if let (Some(count), Some(of)) = (count, rest.trim().strip_suffix(')')) {
                let count = checked(count, false, item, problems)?;
                let of = of.trim().to_string();
                return Some(Self::Elements { count, of });
            }
        }
        let bits = text.parse::<Bits>().map(|b| b.0 as f64);
        match bits.or_else(|_| text.parse::<Bytes>().map(|b| 8.0 * b.0 as f64)) {
            Ok(bits) => checked(bits, false, item, problems).map(Self::Bits),
            Err(error) => {
                let expected = "write bits as a number, a size such as \"64 KiB\", \"inf\", or \"bits_per_value(weight)\"";
                problems.at(&item.place, error.to_string(), expected);
                None
            }
        }
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        anyof("bits, a size such as \"64 KiB\", \"inf\", or \"bits_per_value(weight)\"")
    }
}

/// Picojoules per bit, or `"0.8 pJ/bit"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EnergyPerBit(pub f64);

impl Decode for EnergyPerBit {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        if let Some(value) = plain(item).filter(|v| v.is_finite()) {
            return checked(value, true, item, problems).map(Self);
        }
        let Some(text) = item.text() else {
            wrong(item, problems, "an energy per bit");
            return None;
        };
        match text.parse::<JoulesPerBit>() {
            Ok(energy) => Some(Self(energy.0 * 1e12)),
            Err(error) => {
                problems.add(&item.place, Diagnostic::new(error.to_string()));
                None
            }
        }
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        anyof("picojoules per bit, or an energy such as \"0.8 pJ/bit\"")
    }
}

/// Bits per cycle, `"16 B/cycle"`, or `"inf"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(pub f64);

impl Decode for Rate {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        if let Some(value) = plain(item) {
            return checked(value, false, item, problems).map(Self);
        }
        let text = item.text().unwrap_or_default().trim();
        let units = [("bits/cycle", 1.0), ("bit/cycle", 1.0), ("B/cycle", 8.0)];
        let value = units.iter().find_map(|(unit, bits)| {
            let number = text.strip_suffix(unit)?.trim().parse::<f64>().ok()?;
            Some(number * bits)
        });
        if let Some(value) = value.filter(|v| v.is_finite()) {
            return checked(value, false, item, problems).map(Self);
        }
        problems.at(
            &item.place,
            format!(
                "expected bits per cycle, found {}",
                match item.text() {
                    Some(text) => format!("`{text}`"),
                    None => item.noun().to_string(),
                }
            ),
            "write bits per cycle as a number, \"16 B/cycle\" or \"inf\"",
        );
        None
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        anyof("bits per cycle, a rate such as \"16 B/cycle\", or \"inf\"")
    }
}

/// A count per cycle, or `"inf"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PerCycle(pub f64);

impl Decode for PerCycle {
    fn decode(item: &Item, problems: &mut Problems) -> Option<Self> {
        if let Some(value) = plain(item) {
            return checked(value, false, item, problems).map(Self);
        }
        wrong(item, problems, "a number per cycle, or \"inf\"");
        None
    }
    fn schema(_: &mut SchemaGenerator) -> Schema {
        anyof("a number, or \"inf\"")
    }
}
