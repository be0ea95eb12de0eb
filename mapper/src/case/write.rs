//! A case as the text of a case file (TOML), with its mappings. Reading it gives the case back.

use std::fmt::Write;

use presil_hwmodels::Overlap;
use presil_numerics::ids::Id;
use presil_workloads::{Access, Domain, Einsum, ReduceOperator};
use thiserror::Error;

use super::nest::{self, Names};
use super::spec::Transfers;
use super::{Case, CaseEinsum};
use crate::hierarchy::{
    Axis, ComputeLevel, FanoutLevel, Level, Mask, MemoryLevel, Port, Transfer, access_of,
};
use crate::looptree::LoopTree;

/// Why a case cannot be written as a case file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The form has one machine for all einsums.
    #[error("einsum `{einsum}` runs on a machine of its own (level `{level}` differs)")]
    Machines {
        /// The einsum.
        einsum: String,
        /// The level that differs.
        level: String,
    },
    /// An einsum that is no sum of products over a box.
    #[error("einsum `{0}` is no plain sum of products, which is all that a case file can say")]
    Einsum(String),
    /// Extents that the form cannot tell.
    #[error("the extents of tensor `{0}` differ between einsums")]
    Shape(String),
    /// A name with characters that the small languages of the form read as signs.
    #[error("the name `{0}` cannot be written: use letters, digits and `_`")]
    Name(String),
}

/// The text of a case; `mappings` (one for each einsum, where there is one) replace those of the case.
///
/// # Errors
/// If the case holds something that the form cannot say.
pub fn write(case: &Case, mappings: &[Option<LoopTree>]) -> Result<String, WriteError> {
    check(case)?;
    let mut out = String::new();
    let _ = writeln!(out, "name = {}", quoted(&case.name));
    let _ = writeln!(out, "objective = \"{}\"", case.objective.name());
    let _ = writeln!(out, "convention = \"{}\"", case.convention.name());
    if let Some(hz) = case.clock_hz {
        let _ = writeln!(out, "clock = \"{} Hz\"", number_text(hz));
    }
    if case.einsums.iter().any(|e| e.constraints.perfect) {
        out.push_str("perfect = true\n");
    }
    ranks(&mut out, case);
    bits(&mut out, case);
    shapes(&mut out, case)?;
    for (i, e) in case.einsums.iter().enumerate() {
        let given = mappings.get(i).and_then(Option::as_ref);
        einsum(&mut out, case, i, given.or(e.mapping.as_ref()))?;
    }
    for (l, level) in longest(case).iter().enumerate() {
        side_computes(&mut out, case, l);
        match level {
            Level::Memory(m) => memory(&mut out, case, l, m),
            Level::Fanout(f) => fanout(&mut out, case, l, f),
            Level::Compute(c) => compute(&mut out, c),
        }
    }
    constraints(&mut out, case);
    Ok(out)
}

/// The levels of the einsum whose path is longest; those of the others end further out.
fn longest(case: &Case) -> &[Level] {
    let mut longest: &[Level] = &[];
    for e in &case.einsums {
        if e.hierarchy.levels.len() > longest.len() {
            longest = &e.hierarchy.levels;
        }
    }
    longest
}

fn compute(out: &mut String, c: &ComputeLevel) {
    let _ = writeln!(out, "\n[[level]]\ncompute = {}", quoted(&c.name));
    key(out, "energy", c.energy, 0.0);
    key(out, "rate", c.rate, 1.0);
    key(out, "leakage", c.leakage, 0.0);
}

/// Compute units that stand in front of level `level`, with the einsums whose path ends there.
fn side_computes(out: &mut String, case: &Case, level: usize) {
    let most = longest(case).len();
    let ends_here = |e: &CaseEinsum| e.hierarchy.levels.len() == level + 1 && level + 1 < most;
    let mut told: Vec<&ComputeLevel> = Vec::new();
    for e in case.einsums.iter().filter(|e| ends_here(e)) {
        let Some(c) = e.hierarchy.compute().filter(|c| !told.contains(c)) else {
            continue;
        };
        told.push(c);
        let same = |e: &&CaseEinsum| ends_here(e) && e.hierarchy.compute() == Some(c);
        let names: Vec<&str> = case
            .einsums
            .iter()
            .filter(same)
            .map(|e| &e.name[..])
            .collect();
        compute(out, c);
        let _ = writeln!(out, "einsums = {names:?}");
    }
}

/// Whether the form can say the case.
fn check(case: &Case) -> Result<(), WriteError> {
    check_names(case)?;
    let base = longest(case);
    let base_of = case.einsums.iter().find(|e| e.hierarchy.levels == base);
    for e in &case.einsums {
        let sum = e.einsum.reduce == ReduceOperator::Sum && e.einsum.domain == Domain::Dense;
        let named = |d| e.einsum.operands().any(|o| Einsum::names(o, d));
        let loose = e
            .einsum
            .dim_ids()
            .find(|d| !named(*d) && e.einsum.dim(*d).size > 1);
        if !sum || loose.is_some() {
            return Err(WriteError::Einsum(e.name.clone()));
        }
        let (levels, mut same) = (&e.hierarchy.levels, base.len());
        if levels.len() < base.len() {
            // Its path may end at compute units of its own.
            same = levels.len().saturating_sub(1);
        }
        let other = base_of.map_or(&e.einsum, |b| &b.einsum);
        let differs = base[..same]
            .iter()
            .zip(levels)
            .find(|(x, y)| !same_but_sets(x, y) || accept_differently((x, other), (y, &e.einsum)));
        if let Some((_, level)) = differs {
            return Err(WriteError::Machines {
                einsum: e.name.clone(),
                level: level.name().into(),
            });
        }
    }
    Ok(())
}

/// Whether every name is one word of the small languages of the form.
fn check_names(case: &Case) -> Result<(), WriteError> {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut words: Vec<&str> = case.tensors.iter().map(|t| t.name.as_str()).collect();
    let mut levels: Vec<&str> = Vec::new();
    for e in &case.einsums {
        words.push(&e.name);
        words.extend(e.einsum.dims.iter().map(|d| d.name.as_str()));
        levels.extend(e.hierarchy.levels.iter().map(Level::name));
        let fanouts = e.hierarchy.levels.iter().filter_map(Level::fanout);
        levels.extend(fanouts.flat_map(|f| &f.axes).map(|a| a.name.as_str()));
    }
    let word = |n: &&str| !n.is_empty() && n.chars().all(letter);
    let level = |n: &&str| !n.is_empty() && n.chars().all(|c| letter(c) || matches!(c, '-' | '.'));
    let bad_word = words.into_iter().find(|n| !word(n));
    match bad_word.or_else(|| levels.into_iter().find(|n| !level(n))) {
        Some(name) => Err(WriteError::Name(name.into())),
        None => Ok(()),
    }
}

/// Whether an axis of a fanout accepts a rank in one einsum and not in the other.
fn accept_differently(a: (&Level, &Einsum), b: (&Level, &Einsum)) -> bool {
    let (Some(x), Some(y)) = (a.0.fanout(), b.0.fanout()) else {
        return false;
    };
    let accepts = |axis: &Axis, einsum: &Einsum, name: &str| {
        let dim = einsum.dims.iter().position(|d| d.name == name);
        dim.map(|d| axis.accepts.has(d))
    };
    let ranks = a.1.dims.iter().map(|d| d.name.as_str());
    let mut shared = ranks.filter(|n| b.1.dims.iter().any(|d| d.name == *n));
    shared.any(|n| {
        let mut axes = x.axes.iter().zip(&y.axes);
        axes.any(|(p, q)| accepts(p, a.1, n) != accepts(q, b.1, n))
    })
}

/// Whether two levels differ in nothing but sets of operands and dimensions.
fn same_but_sets(a: &Level, b: &Level) -> bool {
    let port = |p: &Port| Port {
        carries: Vec::new(),
        ..p.clone()
    };
    let memory = |m: &MemoryLevel| MemoryLevel {
        bits: Vec::new(),
        ports: m.ports.iter().map(port).collect(),
        keeps: Mask::NONE,
        must_keep: Mask::NONE,
        must_keep_unless_above: Mask::NONE,
        ..m.clone()
    };
    let axis = |a: &Axis| Axis {
        shares: Mask::NONE,
        shares_overlap: Mask::NONE,
        must_share: Mask::NONE,
        accepts: Mask::NONE,
        ..a.clone()
    };
    match (a, b) {
        (Level::Memory(a), Level::Memory(b)) => memory(a) == memory(b),
        (Level::Fanout(a), Level::Fanout(b)) => {
            (&a.name, a.hop_energy) == (&b.name, b.hop_energy)
                && a.axes.iter().map(axis).eq(b.axes.iter().map(axis))
        }
        (a, b) => a == b,
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A number that reads back as itself.
fn number_text(value: f64) -> String {
    if value.is_infinite() {
        "\"inf\"".into()
    } else if value == 0.0 || (1e-5..1e15).contains(&value.abs()) {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}

fn key(out: &mut String, name: &str, value: f64, default: f64) {
    if value != default {
        let _ = writeln!(out, "{name} = {}", number_text(value));
    }
}

fn ranks(out: &mut String, case: &Case) {
    out.push_str("\n[ranks]\n");
    let mut told: Vec<&str> = Vec::new();
    for e in &case.einsums {
        let named = |d| e.einsum.operands().any(|o| Einsum::names(o, d));
        for dim in e.einsum.dim_ids().filter(|d| named(*d)) {
            let dim = e.einsum.dim(dim);
            if !told.contains(&dim.name.as_str()) {
                told.push(&dim.name);
                let _ = writeln!(out, "{} = {}", dim.name, dim.size);
            }
        }
    }
}

fn bits(out: &mut String, case: &Case) {
    out.push_str("\n[bits]\n");
    let most = case.tensors.first().map_or(8.0, |t| t.bits);
    let _ = writeln!(out, "All = {}", number_text(most));
    for t in case.tensors.iter().filter(|t| t.bits != most) {
        let _ = writeln!(out, "{} = {}", t.name, number_text(t.bits));
    }
}

/// Extents that the indices reach.
fn reached(einsum: &Einsum, access: &Access) -> Vec<u64> {
    let high = |r: &presil_workloads::Affine| {
        let terms = r.terms.iter().map(|(d, c)| {
            let steps = einsum.dim(*d).size.saturating_sub(1);
            i128::from(*c).max(0) * i128::from(steps)
        });
        i128::from(r.offset) + terms.sum::<i128>() + 1
    };
    let to_u64 = |n: i128| u64::try_from(n).unwrap_or(0);
    access.ranks.iter().map(|r| to_u64(high(r))).collect()
}

fn shapes(out: &mut String, case: &Case) -> Result<(), WriteError> {
    let mut told = false;
    for (t, tensor) in case.tensors.iter().enumerate() {
        let mut uses = Vec::new();
        for e in &case.einsums {
            let here = e.operands.iter().enumerate().filter(|(_, x)| **x == t);
            uses.extend(here.map(|(o, _)| (&e.einsum, access_of(&e.einsum, o))));
        }
        let stated = |(e, a): &(&Einsum, &Access)| {
            let below =
                |r: &presil_workloads::Affine| r.offset < 0 || r.terms.iter().any(|(_, c)| *c < 0);
            a.extents != reached(e, a) || a.ranks.iter().any(below)
        };
        if !uses.iter().any(stated) {
            continue;
        }
        if uses.iter().any(|(_, a)| a.extents != tensor.extents) {
            return Err(WriteError::Shape(tensor.name.clone()));
        }
        if !std::mem::replace(&mut told, true) {
            out.push_str("\n[shapes]\n");
        }
        let _ = writeln!(out, "{} = {:?}", tensor.name, tensor.extents);
    }
    Ok(())
}

fn operand_text(case: &Case, e: &CaseEinsum, operand: usize) -> String {
    let tensor = e.operands.get(operand).and_then(|t| case.tensors.get(*t));
    let ranks = access_of(&e.einsum, operand).ranks.iter().map(|r| {
        let mut text = String::new();
        for (dim, c) in &r.terms {
            let name = &e.einsum.dim(*dim).name;
            let sign = match (text.is_empty(), *c < 0) {
                (true, false) => "",
                (true, true) => "-",
                (false, false) => " + ",
                (false, true) => " - ",
            };
            let factor = match c.unsigned_abs() {
                1 => String::new(),
                n => format!("{n} * "),
            };
            text.push_str(&format!("{sign}{factor}{name}"));
        }
        match (text.is_empty(), r.offset) {
            (false, 0) => {}
            (true, n) => text = n.to_string(),
            (false, n) if n < 0 => text.push_str(&format!(" - {}", n.unsigned_abs())),
            (false, n) => text.push_str(&format!(" + {n}")),
        }
        text
    });
    let ranks: Vec<String> = ranks.collect();
    format!("{}[{}]", tensor.map_or("?", |t| &t.name), ranks.join(", "))
}

fn einsum(
    out: &mut String,
    case: &Case,
    i: usize,
    mapping: Option<&LoopTree>,
) -> Result<(), WriteError> {
    let e = &case.einsums[i];
    let last = e.operands.len() - 1;
    let inputs: Vec<String> = (0..last).map(|o| operand_text(case, e, o)).collect();
    let text = format!("{} = {}", operand_text(case, e, last), inputs.join(" * "));
    let _ = writeln!(out, "\n[[einsum]]\nname = {}", quoted(&e.name));
    let _ = writeln!(out, "expression = {}", quoted(&text));
    if let Some(tree) = mapping {
        let operands = case.operand_names(i);
        let names = Names {
            einsum: &e.einsum,
            hierarchy: &e.hierarchy,
            operands: &operands,
        };
        let lines = nest::write(tree, names);
        let _ = writeln!(out, "mapping = \"\"\"\n{}\n\"\"\"", lines.join("\n"));
    }
    Ok(())
}

/// The set that holds these operands in each einsum: `All`, `Nothing`, tensors, or `EINSUM.TENSOR` where a tensor
/// is in it in one einsum only.
///
/// An einsum without the level (`None`) has no say.
fn set(case: &Case, of: impl Fn(&CaseEinsum) -> Option<Mask>) -> String {
    let mut uses: Vec<(&str, usize, bool)> = Vec::new();
    for e in &case.einsums {
        let Some(mask) = of(e) else {
            continue;
        };
        let operands = e.operands.iter().enumerate();
        uses.extend(operands.map(|(o, t)| (e.name.as_str(), *t, mask.has(o))));
    }
    if uses.iter().all(|u| u.2) {
        return "All".into();
    }
    let mut atoms: Vec<String> = Vec::new();
    for (einsum, t, _) in uses.iter().filter(|u| u.2) {
        let name = case.tensors.get(*t).map_or("?", |t| &t.name);
        let everywhere = uses.iter().filter(|u| u.1 == *t).all(|u| u.2);
        let atom = match everywhere {
            true => name.to_string(),
            false => format!("{einsum}.{name}"),
        };
        if !atoms.contains(&atom) {
            atoms.push(atom);
        }
    }
    if atoms.is_empty() {
        return "Nothing".into();
    }
    atoms.join(" | ")
}

fn memory_of(e: &CaseEinsum, level: usize) -> Option<&MemoryLevel> {
    e.hierarchy.levels.get(level).and_then(Level::memory)
}

fn memory(out: &mut String, case: &Case, level: usize, m: &MemoryLevel) {
    let _ = writeln!(out, "\n[[level]]\nmemory = {}", quoted(&m.name));
    key(out, "capacity", m.capacity, f64::INFINITY);
    key(out, "buffering", m.buffering, 1.0);
    key(out, "block", m.block as f64, 1.0);
    key(out, "cluster", m.cluster as f64, 1.0);
    if let Some(bits) = m.final_bits {
        let _ = writeln!(out, "final_bits = {}", number_text(bits));
    }
    key(out, "read_energy", m.read_energy, 0.0);
    key(out, "write_energy", m.write_energy, 0.0);
    key(out, "update_energy", m.update_energy, m.write_energy);
    key(out, "leakage", m.leakage, 0.0);
    if m.overlap == Overlap::Refetch {
        out.push_str("overlap = \"refetch\"\n");
    }
    if !m.serves.is_empty() {
        let _ = writeln!(out, "serves = {:?}", m.serves);
    }
    let mask = |of: fn(&MemoryLevel) -> Mask| set(case, |e| memory_of(e, level).map(of));
    let sets = [
        ("keeps", mask(|m| m.keeps), "All"),
        ("must_keep", mask(|m| m.must_keep), "Nothing"),
        (
            "must_keep_unless_above",
            mask(|m| m.must_keep_unless_above),
            "Nothing",
        ),
    ];
    for (name, set, default) in sets {
        if set != default {
            let _ = writeln!(out, "{name} = {}", quoted(&set));
        }
    }
    stored_bits(out, case, level);
    for (p, port) in m.ports.iter().enumerate() {
        port_text(out, case, level, p, port);
    }
}

/// Widths that differ from the tensors' own.
fn stored_bits(out: &mut String, case: &Case, level: usize) {
    let mut widths: Vec<f64> = Vec::new();
    let differs = |e: &CaseEinsum, o: usize| {
        let own = e.operands.get(o).and_then(|t| case.tensors.get(*t));
        let stored = memory_of(e, level).and_then(|m| m.bits.get(o).copied());
        stored.filter(|b| own.is_some_and(|t| t.bits != *b))
    };
    for e in &case.einsums {
        for bits in (0..e.operands.len()).filter_map(|o| differs(e, o)) {
            if !widths.contains(&bits) {
                widths.push(bits);
            }
        }
    }
    for bits in widths {
        let here = |e: &CaseEinsum| {
            let those = (0..e.operands.len()).filter(|o| differs(e, *o) == Some(bits));
            let those = those.fold(Mask::NONE, Mask::with);
            memory_of(e, level).map(|_| those)
        };
        let set = set(case, here);
        let _ = writeln!(out, "bits.{} = {}", quoted(&set), number_text(bits));
    }
}

fn port_text(out: &mut String, case: &Case, level: usize, p: usize, port: &Port) {
    let _ = writeln!(out, "[[level.port]]\nname = {}", quoted(&port.name));
    key(out, "read_bandwidth", port.read_rate, f64::INFINITY);
    key(out, "write_bandwidth", port.write_rate, f64::INFINITY);
    key(out, "granule", port.granule, 1.0);
    if let Some([read, write]) = port.access_energy {
        let _ = writeln!(out, "read_access_energy = {}", number_text(read));
        let _ = writeln!(out, "write_access_energy = {}", number_text(write));
    }
    let by_transfer = Transfer::ALL.map(|transfer| {
        let carried = set(case, |e| {
            let port = memory_of(e, level)?.ports.get(p)?;
            let those = port.carries.iter().filter(|(_, t)| *t == transfer);
            Some(those.fold(Mask::NONE, |m, (o, _)| m.with(*o)))
        });
        (transfer, carried)
    });
    let mut told: Vec<&str> = Vec::new();
    for (_, set) in &by_transfer {
        if set == "Nothing" || told.contains(&set.as_str()) {
            continue;
        }
        told.push(set);
        let those = by_transfer.iter().filter(|(_, s)| s == set);
        let names: Vec<&str> = those.map(|(t, _)| Transfers::name(*t)).collect();
        let _ = writeln!(out, "carries.{} = {names:?}", quoted(set));
    }
}

fn fanout(out: &mut String, case: &Case, level: usize, fanout: &FanoutLevel) {
    let _ = writeln!(out, "\n[[level]]\nfanout = {}", quoted(&fanout.name));
    key(out, "hop_energy", fanout.hop_energy, 0.0);
    for (a, axis) in fanout.axes.iter().enumerate() {
        let axis_of = |e: &CaseEinsum| {
            let level = e.hierarchy.levels.get(level).and_then(Level::fanout)?;
            level.axes.get(a).cloned()
        };
        let mask = |of: fn(&Axis) -> Mask| set(case, |e| axis_of(e).map(|axis| of(&axis)));
        let _ = writeln!(out, "[[level.axis]]\nname = {}", quoted(&axis.name));
        let _ = writeln!(out, "size = {}", axis.size);
        let sets = [
            ("may_reuse", mask(|a| a.shares), "All"),
            ("must_reuse", mask(|a| a.must_share), "Nothing"),
            ("may_reuse_overlap", mask(|a| a.shares_overlap), "Nothing"),
        ];
        for (name, set, default) in sets {
            if set != default {
                let _ = writeln!(out, "{name} = {}", quoted(&set));
            }
        }
        let mut accepted: Vec<&str> = Vec::new();
        let mut all = true;
        for e in &case.einsums {
            let mask = axis_of(e).map_or(Mask::ALL, |a| a.accepts);
            for dim in e.einsum.dim_ids() {
                let name = e.einsum.dim(dim).name.as_str();
                if !mask.has(dim.index()) {
                    all = false;
                } else if !accepted.contains(&name) {
                    accepted.push(name);
                }
            }
        }
        if !all {
            let _ = writeln!(out, "accepts = {accepted:?}");
        }
        key(out, "min_usage", axis.min_usage, 0.0);
        if axis.systolic {
            out.push_str("systolic = true\n");
        }
    }
}

fn constraints(out: &mut String, case: &Case) {
    for e in &case.einsums {
        let name = |d: &usize| e.einsum.dims.get(*d).map_or("?", |d| d.name.as_str());
        for c in &e.constraints.levels {
            let level = e.hierarchy.levels.get(c.level).map_or("?", Level::name);
            let _ = writeln!(out, "\n[[constraint]]\nlevel = {}", quoted(level));
            if case.einsums.len() > 1 {
                let _ = writeln!(out, "einsum = {}", quoted(&e.name));
            }
            for (dim, trips) in &c.trips {
                let _ = writeln!(out, "trips.{} = {trips}", name(dim));
            }
            let dims = 0..e.einsum.dims.len();
            let forbidden: Vec<usize> = dims.filter(|d| c.forbidden.has(*d)).collect();
            for (key, dims) in [("forbidden", &forbidden), ("order", &c.order)] {
                let names: Vec<&str> = dims.iter().map(name).collect();
                if !names.is_empty() {
                    let _ = writeln!(out, "{key} = {names:?}");
                }
            }
            key(out, "min_utilization", c.min_utilization, 0.0);
        }
    }
}
