//! The levels of a case file as the hierarchy of one einsum: tensor sets become sets of its operands.

use presil_hwmodels::Overlap;
use presil_hwmodels::decode::{At, Entries};
use presil_hwmodels::document::{Problems, list};
use presil_numerics::diagnostic::nearest_names;

use super::quantity::{Capacity, Rate};
use super::sets::{self, Scope, Value};
use super::spec::{
    AxisSpec, ComputeSpec, FanoutSpec, LatencyRule, LevelSpec, MemorySpec, PortSpec, place_within,
};
use crate::hierarchy::{
    Axis, ComputeLevel, FanoutLevel, Hierarchy, Level, Mask, MemoryLevel, Port, Transfer,
};

/// An einsum as the levels see it.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// What names mean in sets; memories are added on the way in.
    pub scope: Scope,
    /// Bits of each operand's elements.
    pub bits: &'a [f64],
    /// Names of its dimensions.
    pub dims: &'a [String],
    /// All ranks of the case.
    pub ranks: &'a [&'a str],
}

/// Resolves the levels for an einsum. Mistakes become problems (the same one once, however many einsums meet it).
pub fn resolve(
    name: &str,
    levels: &[LevelSpec],
    mut seen: Seen<'_>,
    problems: &mut Problems,
) -> Hierarchy {
    let mut resolved: Vec<Level> = Vec::new();
    for spec in levels {
        let level = match spec {
            LevelSpec::Memory(m) => {
                let memory = memory(m, &resolved, &seen, problems);
                seen.scope.memories.push(memory.name.clone());
                Level::Memory(memory)
            }
            LevelSpec::Fanout(f) => Level::Fanout(fanout(f, &seen, problems)),
            LevelSpec::Compute(c) => Level::Compute(compute(c)),
        };
        resolved.push(level);
    }
    Hierarchy {
        name: name.into(),
        levels: resolved,
    }
}

/// The value of a set.
pub fn set(text: &At<String>, scope: &Scope, problems: &mut Problems) -> Value {
    match sets::resolve(&text.value, scope) {
        Ok(value) => value,
        Err(wrong) => {
            let place = place_within(&text.place, &text.value, problems, wrong.span);
            problems.at(&place, wrong.message, wrong.help);
            Value::default()
        }
    }
}

/// The value of a set that no mapping may change.
pub fn fixed_set(text: &At<String>, scope: &Scope, problems: &mut Problems) -> Mask {
    let value = set(text, scope, problems);
    if value.if_kept != value.if_not {
        let message = "what a memory keeps cannot decide this";
        let help = "name tensors and roles only; `MEMORY.tensors` stands in `must_keep`";
        problems.at(&text.place, message, help);
    }
    value.always()
}

fn fixed_or(text: Option<&At<String>>, none: Mask, seen: &Seen<'_>, p: &mut Problems) -> Mask {
    text.map_or(none, |text| fixed_set(text, &seen.scope, p))
}

/// A table from sets to values as a value for each operand; later entries override earlier ones.
pub fn by_operand<T: Clone>(
    entries: &Entries<T>,
    values: &mut [T],
    scope: &Scope,
    problems: &mut Problems,
) {
    for (key, value) in &entries.0 {
        let mask = fixed_set(key, scope, problems);
        for (operand, slot) in values.iter_mut().enumerate() {
            if mask.has(operand) {
                *slot = value.clone();
            }
        }
    }
}

fn memory(
    spec: &MemorySpec,
    above: &[Level],
    seen: &Seen<'_>,
    problems: &mut Problems,
) -> MemoryLevel {
    let operands = seen.bits.len();
    let mut bits: Vec<At<f64>> = seen
        .bits
        .iter()
        .map(|b| At {
            value: *b,
            place: spec.place.clone(),
        })
        .collect();
    by_operand(&spec.bits, &mut bits, &seen.scope, problems);
    for stored in bits.iter().filter(|b| b.value <= 0.0) {
        let help = "write how many bits an element takes";
        problems.at(&stored.place, "an element has at least some bits", help);
    }
    let bits: Vec<f64> = bits.iter().map(|b| b.value).collect();
    let keeps = fixed_or(spec.keeps.as_ref(), seen.scope.all, seen, problems);
    let must = spec.must_keep.as_ref();
    let value = must.map_or(Value::default(), |m| set(m, &seen.scope, problems));
    let unless = fixed_or(
        spec.must_keep_unless_above.as_ref(),
        Mask::NONE,
        seen,
        problems,
    );
    if let Some(must) = must {
        check_conditional(must, &value, above, problems);
    }
    let capacity = spec.capacity.as_ref();
    let buffering = spec.buffering.as_ref().map_or(1.0, |b| b.value);
    if let Some(b) = spec.buffering.as_ref().filter(|b| b.value < 1.0) {
        let help = "write 2 for double buffering";
        problems.at(&b.place, "a memory holds each tile at least once", help);
    }
    if let Some(block) = spec.block.as_ref().filter(|b| b.value == 0) {
        let help = "write the elements that an access moves";
        problems.at(&block.place, "a block has at least one element", help);
    }
    if let Some(cluster) = spec.cluster.as_ref().filter(|c| c.value == 0) {
        let help = "write how many instances share an array";
        problems.at(&cluster.place, "a cluster has at least one instance", help);
    }
    if let Some(bits) = spec.final_bits.as_ref().filter(|b| b.value <= 0.0) {
        let help = "write how many bits an element takes";
        problems.at(&bits.place, "an element has at least some bits", help);
    }
    let write_energy = spec.write_energy.map_or(0.0, |e| e.0);
    MemoryLevel {
        name: spec.memory.value.clone(),
        capacity: capacity.map_or(f64::INFINITY, |c| bits_of(c, &bits, seen, problems)),
        buffering: buffering.max(1.0),
        block: spec.block.as_ref().map_or(1, |b| b.value.max(1)),
        cluster: spec.cluster.as_ref().map_or(1, |c| c.value.max(1)),
        final_bits: spec.final_bits.as_ref().map(|b| b.value),
        read_energy: spec.read_energy.map_or(0.0, |e| e.0),
        write_energy,
        update_energy: spec.update_energy.map_or(write_energy, |e| e.0),
        leakage: spec.leakage.unwrap_or(0.0),
        ports: ports(spec, operands, seen, problems),
        keeps: keeps.or(value.always()).or(unless).or(value.unless_kept()),
        must_keep: value.always(),
        must_keep_unless_above: value.unless_kept().or(unless),
        overlap: spec.overlap.unwrap_or(Overlap::Keep),
        serves: spec.serves.clone(),
        bits,
    }
}

/// "Kept unless at that memory" is "kept here or above" only where no other memory above can keep it.
fn check_conditional(text: &At<String>, value: &Value, above: &[Level], problems: &mut Problems) {
    if !value.only_if_kept().is_empty() {
        let message = "a memory cannot have to keep what another one keeps";
        let help = "write `~MEMORY.tensors` for what that memory does not keep";
        problems.at(&text.place, message, help);
    }
    let conditional = value.unless_kept();
    let memories = above.iter().filter_map(Level::memory);
    let others: Vec<&str> = memories
        .filter(|m| Some(&m.name) != value.memory.as_ref())
        .filter(|m| !m.keeps.and(conditional).is_empty())
        .map(|m| m.name.as_str())
        .collect();
    if !others.is_empty() {
        let message = format!("{} may keep these tensors as well", list(&others));
        let help = "write `must_keep_unless_above` for what is kept here or at any memory above";
        problems.at(&text.place, message, help);
    }
}

fn bits_of(capacity: &At<Capacity>, bits: &[f64], seen: &Seen<'_>, problems: &mut Problems) -> f64 {
    match &capacity.value {
        Capacity::Bits(bits) => *bits,
        Capacity::Elements { count, of } => {
            let text = At {
                value: of.clone(),
                place: capacity.place.clone(),
            };
            let mask = fixed_set(&text, &seen.scope, problems);
            let widest = (0..bits.len()).filter(|o| mask.has(*o)).map(|o| bits[o]);
            // Without such a tensor there is nothing to hold.
            count * widest.fold(0.0, f64::max)
        }
    }
}

fn ports(
    spec: &MemorySpec,
    operands: usize,
    seen: &Seen<'_>,
    problems: &mut Problems,
) -> Vec<Port> {
    let rates = (spec.bandwidth, spec.read_bandwidth, spec.write_bandwidth);
    if !spec.port.is_empty() {
        if rates != (None, None, None) || spec.latency.is_some() {
            let message = "a memory has either ports or one bandwidth";
            let help = "give each port its bandwidth, and leave the memory's out";
            problems.at(&spec.memory.place, message, help);
        }
        let port = |p: &PortSpec| named_port(p, operands, seen, problems);
        return spec.port.iter().map(port).collect();
    }
    let (read_rate, write_rate) = read_write(rates);
    if read_rate.is_infinite() && write_rate.is_infinite() {
        return Vec::new();
    }
    let port = |name: &str, transfers: &[Transfer]| Port {
        name: name.into(),
        read_rate,
        write_rate,
        granule: 1.0,
        access_energy: None,
        carries: (0..operands)
            .flat_map(|o| transfers.iter().map(move |t| (o, *t)))
            .collect(),
    };
    match spec.latency.unwrap_or(LatencyRule::Sum) {
        LatencyRule::Sum => vec![port("port", &Transfer::ALL)],
        LatencyRule::Max => {
            let (reads, writes): (Vec<Transfer>, Vec<Transfer>) =
                Transfer::ALL.iter().partition(|t| t.reads());
            vec![port("read", &reads), port("write", &writes)]
        }
    }
}

/// Read and write rate of (both, read, write) as written.
fn read_write((both, read, write): (Option<Rate>, Option<Rate>, Option<Rate>)) -> (f64, f64) {
    let rate = |one: Option<Rate>| one.or(both).map_or(f64::INFINITY, |r| r.0);
    (rate(read), rate(write))
}

fn named_port(spec: &PortSpec, operands: usize, seen: &Seen<'_>, p: &mut Problems) -> Port {
    let (read_rate, write_rate) =
        read_write((spec.bandwidth, spec.read_bandwidth, spec.write_bandwidth));
    let mut carries = Vec::new();
    for (set, transfers) in &spec.carries.0 {
        let mask = fixed_set(set, &seen.scope, p);
        for operand in (0..operands).filter(|o| mask.has(*o)) {
            for transfer in &transfers.0 {
                if !carries.contains(&(operand, *transfer)) {
                    carries.push((operand, *transfer));
                }
            }
        }
    }
    if spec.carries.0.is_empty() {
        carries.extend((0..operands).flat_map(|o| Transfer::ALL.map(|t| (o, t))));
    }
    carries.sort_by_key(|(o, t)| (*o, Transfer::ALL.iter().position(|x| x == t)));
    Port {
        name: spec.name.clone(),
        read_rate,
        write_rate,
        granule: spec.granule.unwrap_or(1.0),
        access_energy: access_energy(spec),
        carries,
    }
}

/// Reading and writing, where either is told.
fn access_energy(spec: &PortSpec) -> Option<[f64; 2]> {
    let (read, write) = (spec.read_access_energy, spec.write_access_energy);
    let told = read.is_some() || write.is_some();
    told.then(|| [read.unwrap_or(0.0), write.unwrap_or(0.0)])
}

fn fanout(spec: &FanoutSpec, seen: &Seen<'_>, problems: &mut Problems) -> FanoutLevel {
    for (i, axis) in spec.axis.iter().enumerate() {
        if spec.axis[..i]
            .iter()
            .any(|a| a.name.value == axis.name.value)
        {
            let message = format!("there are two axes `{}`", axis.name.value);
            problems.at(&axis.name.place, message, "give each a name of its own");
        }
    }
    FanoutLevel {
        name: spec.fanout.value.clone(),
        axes: spec.axis.iter().map(|a| axis(a, seen, problems)).collect(),
        hop_energy: spec.hop_energy.map_or(0.0, |e| e.0),
    }
}

fn axis(spec: &AxisSpec, seen: &Seen<'_>, problems: &mut Problems) -> Axis {
    if spec.size.value == 0 {
        let help = "write how many instances there are";
        problems.at(&spec.size.place, "an axis has at least one instance", help);
    }
    let must_share = fixed_or(spec.must_reuse.as_ref(), Mask::NONE, seen, problems);
    let may_share = fixed_or(spec.may_reuse.as_ref(), seen.scope.all, seen, problems);
    Axis {
        name: spec.name.value.clone(),
        size: spec.size.value.max(1),
        shares: may_share.or(must_share),
        shares_overlap: fixed_or(spec.may_reuse_overlap.as_ref(), Mask::NONE, seen, problems),
        must_share,
        accepts: spec
            .accepts
            .as_ref()
            .map_or(Mask::ALL, |names| ranks(names, seen, problems)),
        min_usage: spec.min_usage.unwrap_or(0.0),
        systolic: spec.systolic.unwrap_or(false),
    }
}

/// A set of an einsum's dimensions by name; ranks of other einsums are in none.
pub fn ranks(names: &[At<String>], seen: &Seen<'_>, problems: &mut Problems) -> Mask {
    let dims: Vec<Option<usize>> = names.iter().map(|n| rank(n, seen, problems)).collect();
    dims.into_iter().flatten().fold(Mask::NONE, Mask::with)
}

/// The einsum's dimension of a rank, if it has it.
pub fn rank(name: &At<String>, seen: &Seen<'_>, problems: &mut Problems) -> Option<usize> {
    if !seen.ranks.contains(&name.value.as_str()) {
        unknown(name, "rank of this case", seen.ranks, problems);
    }
    seen.dims.iter().position(|d| *d == name.value)
}

/// Records that a name is none of the known ones.
pub fn unknown(name: &At<String>, noun: &str, known: &[&str], problems: &mut Problems) {
    let help = match nearest_names(&name.value, known.iter().copied()).first() {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there is {}", list(known)),
    };
    let message = format!("`{}` is no {noun}", name.value);
    problems.at(&name.place, message, help);
}

fn compute(spec: &ComputeSpec) -> ComputeLevel {
    ComputeLevel {
        name: spec.compute.value.clone(),
        energy: spec.energy.unwrap_or(0.0),
        rate: spec.rate.map_or(1.0, |r| r.0),
        leakage: spec.leakage.unwrap_or(0.0),
    }
}
