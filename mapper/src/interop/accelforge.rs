//! Reference optima of AccelForge: architectures, workloads and the optimum that its mapper found, as JSON.
//!
//! Two forms, told apart by their keys:
//!
//! - **optima**: a list of cases, each with its architecture (levels outermost first, bits and cycles), workload
//!   (einsums as text) and optimum;
//! - **regression**: named architectures and workloads as AccelForge's front end evaluates them (joules, seconds,
//!   actions with throughputs), and rows that name one of each.
//!
//! Either becomes the JSON form of a case file and is read as one, so what these files say a case file can say:
//!
//! | AccelForge | case |
//! |---|---|
//! | `keep`, `may_keep` | `must_keep`, `keeps` (what may or must be kept) |
//! | `~DRAM.tensors`, `~DRAM` | the same set |
//! | `spatial` of a container, or of a memory (of which there are so many) | a fanout, in front of the memory |
//! | `reuse` / `must_reuse`, `may_reuse` | `must_reuse`, `may_reuse` |
//! | `total_latency` sum / max over actions | `latency` |
//! | a second compute node in the middle | a compute level for the einsums that run on it |
//!
//! Sets of the regression form are dumped as evaluated for the first einsum, `T1 = T0 x W0`: `{T0, W0}` is
//! `~Intermediates` (everything but the intermediate T1) of a memory and everything else reads by roles, T0 the
//! input, W0 the weight, T1 the output. A row that is not fused keeps every tensor in the outermost memory. Which
//! einsums run on a second compute node is read from the row's own list of components. A copy einsum is free in
//! AccelForge where both of its tensors live in one memory; it is left out here, and its readers read its input.
//!
//! Energies of the regression form are joules and its times seconds: the clock is the throughput of the last
//! compute node (1 Hz if that is unlimited), so that a cycle is one operation, and figures become picojoules and
//! cycles.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::case::Case;
use crate::case::read::{CaseError, read as read_case};

/// A case with the optimum that AccelForge found.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// Its name in the file.
    pub id: String,
    /// The case.
    pub case: Case,
    /// Whether intermediates may stay on chip between einsums.
    pub fused: bool,
    /// The optimum.
    pub expected: Expected,
    /// Einsums that copy, which the case leaves out.
    pub copies: Vec<String>,
}

/// What AccelForge says of its optimum.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expected {
    /// Picojoules in all.
    pub energy: f64,
    /// Cycles in all.
    pub cycles: f64,
    /// Picojoules and cycles of each einsum of the case, in its order, where they are told.
    pub einsums: Vec<(f64, f64)>,
    /// Bits read and written, by einsum, level, tensor and action.
    pub actions: Vec<Action>,
}

/// Bits that an action moves.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Name of the einsum (of its output, in the optima form).
    pub einsum: String,
    /// Name of the level.
    pub level: String,
    /// Name of the tensor; none of a compute.
    pub tensor: Option<String>,
    /// "read", "write", "compute".
    pub action: String,
    /// Bits; operations of a compute.
    pub bits: f64,
}

/// All cases of a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct References {
    /// Those that can be read.
    pub cases: Vec<Reference>,
    /// Those that lack their architecture or workload: name and what is missing.
    pub skipped: Vec<(String, String)>,
}

/// Why a file of references cannot be read.
#[derive(Debug, Error)]
pub enum AccelForgeError {
    /// No JSON, or JSON of another form.
    #[error("no file of AccelForge optima: {0}")]
    Form(String),
    /// A case that does not mean anything.
    #[error("case {id}: {error}")]
    Case {
        /// Its name.
        id: String,
        /// What is wrong.
        error: CaseError,
    },
}

/// Reads either form.
///
/// # Errors
/// If the text is of neither form, or a case of it means nothing.
pub fn read(text: &str) -> Result<References, AccelForgeError> {
    let file: Value = serde_json::from_str(text).map_err(|e| form(e.to_string()))?;
    let rows = file.get("cases").and_then(Value::as_array);
    let rows = rows.ok_or_else(|| form("it has no list `cases`".into()))?;
    let mut references = References::default();
    for row in rows {
        let id = text_of(row, "id")?.to_string();
        if row.get("optimum").is_some() {
            references.cases.push(optimum_case(id, row)?);
            continue;
        }
        let part = |table: &str, key: &str| -> Result<Result<&Value, String>, AccelForgeError> {
            let name = text_of(row, key)?;
            let found = file.get(table).and_then(|t| t.get(name));
            Ok(found.ok_or_else(|| format!("the file has no {key} `{name}`")))
        };
        match (part("archs", "arch")?, part("workloads", "workload")?) {
            (Ok(arch), Ok(workload)) => {
                match regression_case(id.clone(), row, arch, workload) {
                    Ok(reference) => references.cases.push(reference),
                    // The other rows are no worse for it.
                    Err(error) => references.skipped.push((id, error.to_string())),
                }
            }
            (Err(reason), _) | (_, Err(reason)) => references.skipped.push((id, reason)),
        }
    }
    Ok(references)
}

fn form(reason: String) -> AccelForgeError {
    AccelForgeError::Form(reason)
}

fn text_of<'v>(value: &'v Value, key: &str) -> Result<&'v str, AccelForgeError> {
    let text = value.get(key).and_then(Value::as_str);
    text.ok_or_else(|| form(format!("a case lacks the text `{key}`")))
}

fn number_of(value: &Value, key: &str) -> Result<f64, AccelForgeError> {
    let number = value.get(key).and_then(Value::as_f64);
    number.ok_or_else(|| form(format!("a case lacks the number `{key}`")))
}

fn array_of<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], |a| a)
}

fn entries_of<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    value
        .get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn case_of(id: &str, mut file: Map<String, Value>) -> Result<Case, AccelForgeError> {
    file.insert("name".into(), id.into());
    file.insert("convention".into(), "accelforge".into());
    file.insert("perfect".into(), true.into());
    let text = Value::from(file).to_string();
    read_case(id, &text, None).map_err(|error| AccelForgeError::Case {
        id: id.into(),
        error,
    })
}

/// A case of the optima form.
fn optimum_case(id: String, row: &Value) -> Result<Reference, AccelForgeError> {
    let (arch, workload) = (&row["arch"], &row["workload"]);
    let optimum = &row["optimum"];
    let einsums = array_of(workload, "einsums")
        .iter()
        .map(|e| json!({ "name": e["name"], "expression": e["expr"], "renames": e["renames"] }));
    let einsums: Vec<Value> = einsums.collect();
    let levels: Vec<Value> = array_of(arch, "levels")
        .iter()
        .map(level_of_optima)
        .collect();
    let mut file = Map::new();
    file.insert("objective".into(), row["objective"].clone());
    file.insert("bits".into(), workload["bits"].clone());
    file.insert("ranks".into(), workload["ranks"].clone());
    file.insert("einsum".into(), einsums.into());
    file.insert("level".into(), levels.into());
    let case = case_of(&id, file)?;
    let mut expected = Expected {
        energy: number_of(optimum, "energy")?,
        cycles: number_of(optimum, "latency_cycles")?,
        ..Expected::default()
    };
    // The figures are told by the name of the einsum's output.
    for e in &case.einsums {
        let output = e.operands.last().and_then(|t| case.tensors.get(*t));
        let figure = |key: &str| output.and_then(|o| optimum[key].get(&o.name)?.as_f64());
        let (energy, cycles) = (figure("energy_per_einsum"), figure("latency_per_einsum"));
        expected.einsums.extend(energy.zip(cycles));
    }
    for (key, bits) in entries_of(optimum, "actions_in_bits") {
        let parts: Vec<&str> = key.split('|').collect();
        expected.actions.extend(action(&parts, bits));
    }
    Ok(Reference {
        fused: case.einsums.len() > 1,
        id,
        case,
        expected,
        copies: Vec::new(),
    })
}

fn action(parts: &[&str], bits: &Value) -> Option<Action> {
    let [einsum, level, tensor, action] = parts else {
        return None;
    };
    Some(Action {
        einsum: (*einsum).into(),
        level: (*level).into(),
        tensor: (*tensor != "None").then(|| (*tensor).into()),
        action: (*action).into(),
        bits: bits.as_f64()?,
    })
}

/// What may be kept: what may or must.
fn keeps(may: &str, must: &str) -> String {
    format!("({may}) | ({must})")
}

fn level_of_optima(level: &Value) -> Value {
    let set = |key: &str| level[key].as_str().unwrap_or("Nothing");
    match level["kind"].as_str() {
        Some("memory") => json!({
            "memory": level["name"],
            "capacity": level["size_bits"],
            "read_energy": level["read_energy_per_bit"],
            "write_energy": level["write_energy_per_bit"],
            "read_bandwidth": level["read_bw_bits_per_cycle"],
            "write_bandwidth": level["write_bw_bits_per_cycle"],
            "latency": level["latency_rule"],
            "must_keep": set("must_keep"),
            "keeps": keep_set(set("may_keep"), set("must_keep")),
        }),
        Some("fanout") => fanout(&level["name"], array_of(level, "spatial"), &|set| {
            set.as_str().unwrap_or("Nothing").to_string()
        }),
        _ => json!({
            "compute": level["name"],
            "energy": level["energy_per_op"],
            "rate": level["ops_per_cycle"],
        }),
    }
}

/// `keeps` must not depend on what other memories keep; a memory that must keep what another does not may keep all.
fn keep_set(may: &str, must: &str) -> String {
    let conditional = must.contains(".tensors");
    if conditional {
        return "All".into();
    }
    keeps(may, must)
}

fn fanout(name: &Value, spatial: &[Value], set: &dyn Fn(&Value) -> String) -> Value {
    let axis = |a: &Value| {
        let must = a.get("must_reuse").or_else(|| a.get("reuse"));
        // `min_usage` is left out. AccelForge documents it as a share that a mapping must use, or, where none does, the
        // most that any reaches; its mapper takes "any" of the mappings of one template (one order of storages and
        // loops), among those that it still holds. Which those are is no property of the case: the most that the shape
        // allows would forbid its own optimum of a fused decode. Without it the search has all of its mappings and
        // some more, so it may use less where that costs less, as it does in one row of `three_matmuls`.
        json!({
            "name": a["name"],
            "size": a["fanout"].as_f64().unwrap_or(1.0) as u64,
            "must_reuse": must.map_or("Nothing".into(), set),
            "may_reuse": set(&a["may_reuse"]),
        })
    };
    let axes: Vec<Value> = spatial.iter().map(axis).collect();
    json!({ "fanout": name, "axis": axes })
}

/// A row of the regression form.
fn regression_case(
    id: String,
    row: &Value,
    arch: &Value,
    workload: &Value,
) -> Result<Reference, AccelForgeError> {
    let fused = row["fused"].as_bool().unwrap_or(false);
    let nodes = arch.as_array().map_or(&[][..], |a| a);
    let clock = clock_of(nodes);
    let copies = copies(workload);
    let mut components = components(row);
    components.retain(|einsum, _| !copies.iter().any(|c| c.name == *einsum));
    let mut levels = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let last = i + 1 == nodes.len();
        node_levels(node, i == 0, last, fused, clock, &components, &mut levels);
    }
    let (einsums, ranks) = einsums(workload, &copies)?;
    let mut file = Map::new();
    file.insert("objective".into(), row["objective"].clone());
    file.insert("clock".into(), format!("{clock} Hz").into());
    file.insert("bits".into(), workload["bits_per_value"].clone());
    file.insert("ranks".into(), ranks.into());
    file.insert("einsum".into(), einsums.into());
    file.insert("level".into(), levels.into());
    let case = case_of(&id, file)?;
    let names: Vec<&str> = case.einsums.iter().map(|e| e.name.as_str()).collect();
    let expected = Expected {
        energy: number_of(row, "energy")? * 1e12,
        cycles: number_of(row, "latency")? * clock,
        einsums: per_einsum(row, &names, clock),
        actions: actions(row),
    };
    Ok(Reference {
        id,
        case,
        fused,
        expected,
        copies: copies.iter().map(|c| c.name.clone()).collect(),
    })
}

/// The clock that makes an operation of the last compute node a cycle.
fn clock_of(nodes: &[Value]) -> f64 {
    let rate = nodes.last().and_then(|n| throughput(n, "compute"));
    rate.filter(|r| r.is_finite() && *r > 0.0).unwrap_or(1.0)
}

fn action_of<'v>(node: &'v Value, name: &str) -> Option<&'v Value> {
    array_of(node, "actions").iter().find(|a| a["name"] == name)
}

/// Bits (operations of a compute) per second; infinite where it says so.
fn throughput(node: &Value, action: &str) -> Option<f64> {
    let action = action_of(node, action)?;
    let bits = action.get("bits_per_action").and_then(Value::as_f64);
    let rate = action["throughput"].as_f64().unwrap_or(f64::INFINITY);
    Some(rate * bits.unwrap_or(1.0))
}

/// Picojoules per bit (operation).
fn energy(node: &Value, action: &str) -> f64 {
    let Some(action) = action_of(node, action) else {
        return 0.0;
    };
    let bits = action.get("bits_per_action").and_then(Value::as_f64);
    action["energy"].as_f64().unwrap_or(0.0) / bits.unwrap_or(1.0) * 1e12
}

/// Bits of a memory. The dump evaluates sizes for its first workload, whose elements have 8 bits: a memory of 8 bits
/// is one of a single weight, whatever its width.
fn capacity(size: &Value) -> Value {
    if size.as_f64() == Some(8.0) {
        "bits_per_value(weight)".into()
    } else {
        size.clone()
    }
}

/// A number, or "inf".
fn finite(value: f64) -> Value {
    if value.is_finite() {
        value.into()
    } else {
        "inf".into()
    }
}

/// A dumped set as an expression (see the module's documentation).
fn dumped(set: &str, memory: bool) -> String {
    let Some(inner) = set.strip_prefix("InvertibleSet(frozenset(") else {
        return set.to_string();
    };
    let has = |t: &str| inner.contains(&format!("'{t}'"));
    match (has("T0"), has("W0"), has("T1")) {
        (true, true, true) => "All".into(),
        (true, true, false) if memory => "~Intermediates".into(),
        (false, false, false) => "Nothing".into(),
        (input, weight, output) => {
            let roles = [(input, "input"), (weight, "weight"), (output, "output")];
            let roles: Vec<&str> = roles.iter().filter(|r| r.0).map(|r| r.1).collect();
            roles.join(" | ")
        }
    }
}

/// The levels of a node: a fanout if it has instances side by side, and itself.
fn node_levels(
    node: &Value,
    outermost: bool,
    last: bool,
    fused: bool,
    clock: f64,
    components: &BTreeMap<String, Vec<String>>,
    levels: &mut Vec<Value>,
) {
    let kind = node["kind"].as_str().unwrap_or("");
    let name = node["name"].as_str().unwrap_or("");
    let spatial = array_of(node, "spatial");
    if !spatial.is_empty() {
        let fanout_name = match kind {
            "Container" => name.to_string(),
            _ => format!("{name}s"),
        };
        let set = |s: &Value| dumped(s.as_str().unwrap_or(""), false);
        levels.push(fanout(&fanout_name.into(), spatial, &set));
    }
    match kind {
        "Memory" => {
            let text = |key: &str| node[key].as_str().unwrap_or("");
            let must = match outermost && !fused {
                true => "All".to_string(),
                false => dumped(text("keep"), true).replace("~MainMemory.tensors", "~MainMemory"),
            };
            let conditional = must.contains("MainMemory");
            let may = dumped(text("may_keep"), true);
            let rate = |action: &str| {
                finite(throughput(node, action).map_or(f64::INFINITY, |r| r / clock))
            };
            let maximum = text("total_latency").starts_with("max");
            levels.push(json!({
                "memory": name,
                "capacity": capacity(&node["size"]),
                "read_energy": energy(node, "read"),
                "write_energy": energy(node, "write"),
                "read_bandwidth": rate("read"),
                "write_bandwidth": rate("write"),
                "latency": if maximum { "max" } else { "sum" },
                "keeps": if conditional { "All".into() } else { keeps(&may, &must) },
                "must_keep": must,
            }));
        }
        "Compute" => {
            let mut level = json!({
                "compute": name,
                "energy": energy(node, "compute"),
                "rate": finite(throughput(node, "compute").unwrap_or(f64::INFINITY) / clock),
            });
            if !last {
                let runs = |parts: &&String| {
                    let parts = components.get(*parts);
                    parts.is_some_and(|p| p.iter().any(|c| c == name))
                };
                let here: Vec<&String> = components.keys().filter(runs).collect();
                if here.is_empty() {
                    return;
                }
                level["einsums"] = json!(here);
            }
            levels.push(level);
        }
        _ => {}
    }
}

/// Components that take time, by einsum.
fn components(row: &Value) -> BTreeMap<String, Vec<String>> {
    let mut components: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, _) in entries_of(row, "latency_per_component") {
        if let [einsum, component] = tuple(key).as_slice() {
            let parts = components.entry((*einsum).to_string()).or_default();
            parts.push((*component).to_string());
        }
    }
    components
}

/// The parts of "('a', 'b', 'c')".
fn tuple(key: &str) -> Vec<&str> {
    let inner = key.trim_start_matches('(').trim_end_matches(')');
    inner.split(", ").map(|p| p.trim_matches('\'')).collect()
}

/// An einsum that copies a tensor.
struct Copy {
    name: String,
    from: String,
    to: String,
}

fn copies(workload: &Value) -> Vec<Copy> {
    let copy = |e: &Value| {
        let tensor = |output: bool| {
            let mut tensors = array_of(e, "tensors").iter();
            let found = tensors.find(|t| t["output"] == output)?;
            Some(found["name"].as_str()?.to_string())
        };
        Some(Copy {
            name: e["name"].as_str()?.to_string(),
            from: tensor(false)?,
            to: tensor(true)?,
        })
    };
    let einsums = array_of(workload, "einsums").iter();
    einsums
        .filter(|e| e["is_copy"] == true)
        .filter_map(copy)
        .collect()
}

/// Einsums as text, and the sizes of their ranks.
fn einsums(
    workload: &Value,
    copies: &[Copy],
) -> Result<(Vec<Value>, Map<String, Value>), AccelForgeError> {
    let mut einsums = Vec::new();
    let mut ranks = Map::new();
    for e in array_of(workload, "einsums") {
        let name = text_of(e, "name")?;
        if copies.iter().any(|c| c.name == name) {
            continue;
        }
        let operand = |t: &Value| {
            let tensor = t["name"].as_str().unwrap_or("?");
            let copied = copies.iter().find(|c| c.to == tensor);
            let tensor = copied.map_or(tensor, |c| &c.from);
            let index = |(rank, index): (&String, &Value)| {
                format!("{rank}: {}", index.as_str().unwrap_or("?"))
            };
            let indices: Vec<String> = entries_of(t, "projection").map(index).collect();
            format!("{tensor}[{}]", indices.join(", "))
        };
        let tensors = array_of(e, "tensors").iter();
        let (outputs, inputs): (Vec<&Value>, Vec<&Value>) =
            tensors.partition(|t| t["output"] == true);
        let output = outputs.first().map(|t| operand(t)).unwrap_or_default();
        let inputs: Vec<String> = inputs.into_iter().map(operand).collect();
        let expression = format!("{output} = {}", inputs.join(" * "));
        einsums.push(json!({ "name": name, "expression": expression }));
        for condition in text_of(e, "iteration_space")?.split(" and ") {
            let (rank, size) = bound(condition)
                .ok_or_else(|| form(format!("`{condition}` is no bound of einsum {name}")))?;
            if rank.chars().all(|c| c.is_alphanumeric() || c == '_') {
                ranks.insert(rank.to_string(), size.into());
            }
        }
    }
    Ok((einsums, ranks))
}

/// Of "0 <= m < 64" the index and its upper bound.
fn bound(condition: &str) -> Option<(&str, u64)> {
    let (_, rest) = condition.split_once("<=")?;
    let (index, size) = rest.split_once('<')?;
    Some((index.trim(), size.trim().parse().ok()?))
}

/// Picojoules and cycles of each einsum.
fn per_einsum(row: &Value, names: &[&str], clock: f64) -> Vec<(f64, f64)> {
    let of = |name: &str| {
        let mut figures = (0.0, 0.0f64);
        for (key, value) in entries_of(row, "energy_per_component") {
            if tuple(key).first() == Some(&name) {
                figures.0 += value.as_f64().unwrap_or(0.0) * 1e12;
            }
        }
        for (key, value) in entries_of(row, "latency_per_component") {
            if tuple(key).first() == Some(&name) {
                figures.1 = figures.1.max(value.as_f64().unwrap_or(0.0) * clock);
            }
        }
        figures
    };
    names.iter().map(|n| of(n)).collect()
}

fn actions(row: &Value) -> Vec<Action> {
    let of = |(key, bits): (&String, &Value)| action(&tuple(key), bits);
    entries_of(row, "actions").filter_map(of).collect()
}

#[cfg(test)]
mod tests;
