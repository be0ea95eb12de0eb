//! The tree: order, instances, and the figures of each node.

use presil_numerics::{
    Bytes, BytesPerSecond, IdVec, Joules, JoulesPerBit, Seconds, SquareMm, Watts,
};

use super::Context;
use crate::chip::{
    Compute, Fanout, FanoutDim, MacMode, Memory, MemoryKind, Node, NodeId, NodeKind, OperandSet,
    Overlap,
};
use crate::decode::{At, Constant};
use crate::sourced::Status;
use crate::spec::{ComputeSpec, FanoutSpec, MemorySpec, Ports};
use crate::technology::Estimate;
use crate::technology::dram::{self, DramPart};
use crate::technology::logic::significand;
use crate::technology::sram::MemoryFigures;

/// Most instances of a node.
const MAX_INSTANCES: u64 = 1 << 32;
/// Most tiles that a memory holds for each kept one.
const MAX_BUFFERING: u64 = 64;

/// A node as written.
#[derive(Clone, Copy)]
enum Written<'a> {
    Memory(&'a MemorySpec),
    Fanout(&'a FanoutSpec),
    Compute(&'a ComputeSpec),
}

impl<'a> Written<'a> {
    fn name(self) -> &'a At<String> {
        match self {
            Self::Memory(m) => &m.name,
            Self::Fanout(f) => &f.name,
            Self::Compute(c) => &c.name,
        }
    }
    fn parent(self) -> Option<&'a At<String>> {
        match self {
            Self::Memory(m) => m.parent.as_ref(),
            Self::Fanout(f) => Some(&f.parent),
            Self::Compute(c) => Some(&c.parent),
        }
    }
}

/// Resolves all nodes, parents first.
pub(super) fn resolve(cx: &mut Context<'_>) -> Option<IdVec<NodeId, Node>> {
    let spec = cx.spec;
    let memories = spec.memory.iter().map(Written::Memory);
    let fanouts = spec.fanout.iter().map(Written::Fanout);
    let written: Vec<Written<'_>> = memories
        .chain(fanouts)
        .chain(spec.compute.iter().map(Written::Compute))
        .collect();
    let order = order(cx, &written);
    let mut nodes: IdVec<NodeId, Node> = IdVec::new();
    let mut complete = order.is_some();
    for (node, parent) in order.unwrap_or_else(|| written.iter().map(|w| (*w, None)).collect()) {
        let instances = match parent.and_then(|p| nodes.get(p)) {
            None => 1,
            Some(above) => {
                let fan = match &above.kind {
                    NodeKind::Fanout(f) => {
                        f.dims.iter().fold(1u64, |n, d| n.saturating_mul(d.size))
                    }
                    _ => 1,
                };
                above.instances.saturating_mul(fan)
            }
        };
        if instances > MAX_INSTANCES {
            let message = format!("`{}` would exist {instances} times", node.name().value);
            cx.problems.at(
                &node.name().place,
                message,
                "make the fanouts above it smaller",
            );
            complete = false;
        }
        let kind = match node {
            Written::Memory(m) => memory(cx, m).map(NodeKind::Memory),
            Written::Fanout(f) => Some(NodeKind::Fanout(fanout(cx, f))),
            Written::Compute(c) => compute(cx, c).map(NodeKind::Compute),
        };
        match kind {
            Some(kind) => {
                nodes.push(Node {
                    name: node.name().value.clone(),
                    parent,
                    instances,
                    kind,
                });
            }
            None => {
                complete = false;
                // Stands in for the node so that the ids of the others stay right.
                let none = Fanout {
                    dims: Vec::new(),
                    hop_energy: JoulesPerBit::ZERO,
                };
                nodes.push(Node {
                    name: node.name().value.clone(),
                    parent,
                    instances,
                    kind: NodeKind::Fanout(none),
                });
            }
        }
    }
    hop_energies(cx, &mut nodes);
    complete.then_some(nodes)
}

/// Nodes with the ids of their parents, parents first: a walk from the root, children in the order of the file.
fn order<'a>(
    cx: &mut Context<'_>,
    written: &[Written<'a>],
) -> Option<Vec<(Written<'a>, Option<NodeId>)>> {
    let roots: Vec<Written<'a>> = written
        .iter()
        .copied()
        .filter(|w| w.parent().is_none())
        .collect();
    let [root] = roots.as_slice() else {
        match roots.get(1) {
            None => cx.whole(
                "the chip has no root",
                "leave out `parent` of one memory: the one that holds whole tensors",
            ),
            Some(second) => {
                let message = format!(
                    "`{}` has no parent, and so has an earlier memory",
                    second.name().value
                );
                cx.problems.at(
                    &second.name().place,
                    message,
                    "add `parent`: a chip has one root memory",
                );
            }
        }
        return None;
    };
    let names: Vec<String> = written.iter().map(|w| w.name().value.clone()).collect();
    let mut complete = true;
    for parent in written.iter().filter_map(|w| w.parent()) {
        if !names.contains(&parent.value) {
            cx.unknown("node", parent, &names);
            complete = false;
        }
    }
    let leaves: Vec<&str> = written
        .iter()
        .filter_map(|w| {
            if let Written::Compute(c) = w {
                Some(c.name.value.as_str())
            } else {
                None
            }
        })
        .collect();
    for node in written {
        if let Some(parent) = node.parent().filter(|p| leaves.contains(&p.value.as_str())) {
            let message = format!(
                "`{}` stands below the compute node `{}`",
                node.name().value,
                parent.value
            );
            cx.problems.at(
                &parent.place,
                message,
                "compute nodes are the leaves of the tree",
            );
            complete = false;
        }
    }
    let mut out: Vec<(Written<'a>, Option<NodeId>)> = vec![(*root, None)];
    let mut at = 0;
    while let Some((above, _)) = out.get(at).copied() {
        let id = NodeId(u32::try_from(at).unwrap_or(u32::MAX));
        let name = &above.name().value;
        let children = written
            .iter()
            .filter(|w| w.parent().is_some_and(|p| p.value == *name));
        out.extend(children.map(|w| (*w, Some(id))));
        at += 1;
        if out.len() > written.len() {
            // Two nodes of one name: reported with the names.
            return None;
        }
    }
    if complete {
        for lost in written
            .iter()
            .filter(|w| !out.iter().any(|(o, _)| o.name() == w.name()))
        {
            let message = format!("`{}` is its own ancestor", lost.name().value);
            cx.problems.at(
                &lost.name().place,
                message,
                "every chain of parents must end at the root",
            );
            complete = false;
        }
    }
    complete.then_some(out)
}

fn fanout(cx: &mut Context<'_>, f: &FanoutSpec) -> Fanout {
    let name = &f.name.value;
    if f.dim.is_empty() {
        let help = format!("add a [[fanout.dim]] with name, size and accepts, or remove `{name}`");
        cx.problems.at(
            &f.name.place,
            format!("the fanout `{name}` has no dimension"),
            help,
        );
    }
    let mut dims: Vec<FanoutDim> = Vec::new();
    for d in &f.dim {
        if dims.iter().any(|x| x.name == d.name.value) {
            let message = format!("the dimension `{}` is there twice", d.name.value);
            cx.problems.at(&d.name.place, message, "rename one");
        }
        let size = cx.count(&format!("{name}.{}.size", d.name.value), &d.size);
        if d.accepts.is_empty() {
            let message = format!("nothing may be laid along `{}`", d.name.value);
            cx.problems.at(
                &d.name.place,
                message,
                "add `accepts = [\"reduction\", ...]`",
            );
        }
        dims.push(FanoutDim {
            name: d.name.value.clone(),
            size,
            multicast: OperandSet::of(&d.multicast),
            reduces: d.reduces.unwrap_or(false),
            accepts: d.accepts.clone(),
        });
    }
    let hop_energy = f.hop_energy.as_ref().map_or(JoulesPerBit::ZERO, |e| {
        cx.constant(&format!("{name}.hop_energy"), e)
    });
    Fanout { dims, hop_energy }
}

/// Fills in hop energies that the file leaves out: a wire over the pitch of an instance,
/// `E = E_wire sqrt(area below / instances)`.
fn hop_energies(cx: &mut Context<'_>, nodes: &mut IdVec<NodeId, Node>) {
    for f in cx.spec.fanout.iter().filter(|f| f.hop_energy.is_none()) {
        let Some(id) = super::node_named(nodes, &f.name.value) else {
            continue;
        };
        let below = |mut at: NodeId| {
            while let Some(parent) = nodes.get(at).and_then(|n| n.parent) {
                if parent == id {
                    return true;
                }
                at = parent;
            }
            false
        };
        let area: f64 = nodes
            .iter_ids()
            .filter(|(n, _)| below(*n))
            .map(|(_, n)| match &n.kind {
                NodeKind::Memory(m) => m.area.0 * n.instances as f64,
                NodeKind::Compute(c) => c.area.0 * n.instances as f64,
                NodeKind::Fanout(_) => 0.0,
            })
            .sum();
        let Some(node) = nodes.get(id) else { continue };
        let NodeKind::Fanout(fan) = &node.kind else {
            continue;
        };
        let instances =
            fan.dims.iter().map(|d| d.size as f64).product::<f64>() * node.instances as f64;
        let pitch = (area / instances.max(1.0)).sqrt();
        let source = format!("wire model: {:.3} mm, the pitch of an instance", pitch);
        let energy = cx.technology.wire_energy().times(pitch).because(source);
        let value = cx.modelled(
            &format!("{}.hop_energy", f.name.value),
            &energy,
            Status::Scaled,
            JoulesPerBit,
        );
        if let Some(NodeKind::Fanout(fan)) =
            nodes.iter_mut().nth(id.0 as usize).map(|n| &mut n.kind)
        {
            fan.hop_energy = value;
        }
    }
}

fn compute(cx: &mut Context<'_>, c: &ComputeSpec) -> Option<Compute> {
    let name = &c.name.value;
    let clock = cx.clock(&c.clock);
    if c.mode.is_empty() {
        cx.problems.at(
            &c.name.place,
            format!("`{name}` multiplies nothing"),
            "add a [[compute.mode]]",
        );
        return None;
    }
    let mut modes = Vec::new();
    let mut widest = Estimate {
        value: 0.0,
        low: 0.0,
        high: 0.0,
        source: String::new(),
    };
    for mode in &c.mode {
        let path = format!("{name}.{}x{}", mode.input, mode.weight);
        let formats = [mode.input, mode.weight, mode.accumulate];
        if let Some(bad) = formats.iter().find(|f| significand(**f).is_none()) {
            let help =
                "use integers and floats; tensors in code books are converted on their way in";
            cx.problems
                .at(&mode.place, format!("`{bad}` has no arithmetic"), help);
            continue;
        }
        let rate = cx.positive(&format!("{path}.macs_per_cycle"), &mode.macs_per_cycle);
        let estimate = cx.technology.mac(mode.input, mode.weight, mode.accumulate);
        let energy = cx.or_modelled(
            &format!("{path}.energy"),
            mode.energy.as_ref(),
            &estimate,
            Joules,
        );
        // One multiplier array serves all modes; the one that needs most decides.
        let area = cx
            .technology
            .mac_area(mode.input, mode.weight, mode.accumulate)
            .times(rate);
        if area.value > widest.value {
            widest = area;
        }
        modes.push(MacMode {
            input: mode.input,
            weight: mode.weight,
            accumulate: mode.accumulate,
            macs_per_cycle: rate,
            energy,
        });
    }
    let area = cx.or_modelled(&format!("{name}.area"), c.area.as_ref(), &widest, SquareMm);
    let leakage = cx.technology.logic_leakage(area.0);
    let static_power = cx.or_modelled(
        &format!("{name}.static_power"),
        c.static_power.as_ref(),
        &leakage,
        Watts,
    );
    Some(Compute {
        clock: clock?,
        modes,
        area,
        static_power,
    })
}

/// Default port width of on-chip memories.
const DEFAULT_WORD: Bytes = Bytes(8);

fn memory(cx: &mut Context<'_>, m: &MemorySpec) -> Option<Memory> {
    let name = m.name.value.clone();
    let path = |field: &str| format!("{name}.{field}");
    let on_chip = matches!(m.kind, MemoryKind::Sram | MemoryKind::Register);
    let part = part(cx, m)?;
    let capacity = cx.positive(&path("capacity"), &m.capacity);
    let word = match (&m.word, part) {
        (Some(word), _) => cx.positive(&path("word"), word),
        (None, Some((part, _))) => Bytes(part.burst_bytes),
        (None, None) => DEFAULT_WORD,
    };
    if word > capacity {
        let place = m.word.as_ref().map_or(&m.capacity.place, |w| &w.place);
        cx.problems.at(
            place,
            format!("a word of {word} does not fit into {capacity}"),
            "make the word smaller",
        );
    }
    let ports = m.ports.as_ref().map_or(
        Ports {
            read: 1,
            write: 1,
            shared: !on_chip,
        },
        |p| p.value,
    );
    let (read_rate, write_rate) = rates(cx, m, word, ports, part)?;
    let banks = m.banks.as_ref().map(|b| cx.count(&path("banks"), b));
    let energies = energies(cx, m, capacity, word, banks, part);
    let keeps = m
        .keeps
        .as_ref()
        .map_or(OperandSet::ALL, |k| OperandSet::of(k));
    let must_keep = OperandSet::of(&m.must_keep);
    if must_keep.0 & !keeps.0 != 0 {
        let help = "add the operand to `keeps`, or remove it from `must_keep`";
        cx.problems.at(
            &m.name.place,
            format!("`{name}` must keep an operand that it does not keep"),
            help,
        );
    }
    if m.parent.is_none() && keeps != OperandSet::ALL {
        cx.problems.at(
            &m.name.place,
            "the root memory keeps all operands",
            "remove `keeps`",
        );
    }
    let buffering = m.buffering.as_ref().map_or(1, |b| b.value);
    if let Some(b) = m
        .buffering
        .as_ref()
        .filter(|b| !(1..=MAX_BUFFERING).contains(&b.value))
    {
        cx.problems.at(
            &b.place,
            format!("a memory holds 1 to {MAX_BUFFERING} tiles for each kept one"),
            "2 is double buffering",
        );
    }
    let efficiency = match (&m.streaming_efficiency, part) {
        (Some(e), _) => {
            if !(e.value > 0.0 && e.value <= 1.0) {
                cx.problems.at(
                    &e.place,
                    "an efficiency lies above 0 and at most at 1",
                    "write 0.9 for 90 %",
                );
            }
            cx.constant(&path("streaming_efficiency"), e)
        }
        (None, Some((part, _))) => {
            let e = part.streaming_efficiency;
            cx.modelled(
                &path("streaming_efficiency"),
                &of_part(part, e),
                part.status,
                |v| v,
            )
        }
        (None, None) => 1.0,
    };
    let latency = match (&m.latency, part) {
        (Some(l), _) => cx.constant(&path("latency"), l),
        (None, Some((part, _))) => cx.modelled(
            &path("latency"),
            &of_part(part, part.latency_ns * 1e-9),
            part.status,
            Seconds,
        ),
        (None, None) if m.kind == MemoryKind::Sram => {
            let access = energies.access.clone();
            cx.modelled(&path("latency"), &access, Status::Scaled, Seconds)
        }
        (None, None) => Seconds::ZERO,
    };
    let setup = m
        .setup
        .as_ref()
        .map_or(Seconds::ZERO, |s| cx.constant(&path("setup"), s));
    let burst = match (&m.burst, part) {
        (Some(b), _) => cx.positive(&path("burst"), b),
        (None, Some((part, _))) => Bytes(part.burst_bytes),
        (None, None) => word,
    };
    Some(Memory {
        kind: m.kind,
        capacity,
        word,
        read_rate,
        write_rate,
        shared_port: ports.shared,
        streaming_efficiency: efficiency,
        read_energy: energies.read,
        write_energy: energies.write,
        static_power: energies.static_power,
        area: energies.area,
        keeps,
        must_keep,
        buffering: u32::try_from(buffering).unwrap_or(1),
        resident: m.resident.unwrap_or(!on_chip),
        overlap: m.overlap.unwrap_or(Overlap::Keep),
        latency,
        setup,
        burst,
    })
}

/// The DRAM part and its channels, if the file names one. `None` where the name is wrong.
fn part(cx: &mut Context<'_>, m: &MemorySpec) -> Option<Option<(&'static DramPart, u64)>> {
    let name = &m.name.value;
    let Some(part_name) = &m.part else {
        if let Some(c) = &m.channels {
            cx.problems.at(
                &c.place,
                "channels of what?",
                "add `part = \"LPDDR5-6400\"`, or give `bandwidth`",
            );
        }
        return Some(None);
    };
    if matches!(m.kind, MemoryKind::Sram | MemoryKind::Register) {
        cx.problems.at(
            &part_name.place,
            "only off-chip memories are parts",
            "remove `part`, or write `kind = \"dram\"`",
        );
        return None;
    }
    let Some(found) = dram::part(&part_name.value) else {
        let known: Vec<String> = dram::part_names().iter().map(ToString::to_string).collect();
        cx.unknown("DRAM part", part_name, &known);
        return None;
    };
    let channels = m
        .channels
        .as_ref()
        .map_or(1, |c| cx.count(&format!("{name}.channels"), c));
    Some(Some((found, channels)))
}

fn of_part(part: &DramPart, value: f64) -> Estimate {
    Estimate {
        value,
        low: value,
        high: value,
        source: format!("{}: {}", part.part, part.source),
    }
}

/// Rates of reads and writes: as written, else word x ports x clock, else the part's.
fn rates(
    cx: &mut Context<'_>,
    m: &MemorySpec,
    word: Bytes,
    ports: Ports,
    part: Option<(&DramPart, u64)>,
) -> Option<(BytesPerSecond, BytesPerSecond)> {
    let name = m.name.value.clone();
    if let (Some(_), Some(one)) = (
        &m.bandwidth,
        m.read_bandwidth.as_ref().or(m.write_bandwidth.as_ref()),
    ) {
        cx.problems.at(
            &one.place,
            "`bandwidth` gives the rate of reads and of writes already",
            "remove one of them",
        );
    }
    let clock = match &m.clock {
        Some(clock) => Some(cx.clock(clock)?),
        None => None,
    };
    let port_rate = |cx: &mut Context<'_>, field: &str, count: u64| -> Option<BytesPerSecond> {
        let clock = cx.clocks.get(clock?)?;
        let rate = word.0 as f64 * count as f64 * clock.domain.frequency.0;
        let source = format!("{word} x {count} port(s) x {}", clock.domain.frequency);
        let estimate = Estimate {
            value: rate,
            low: rate,
            high: rate,
            source,
        };
        Some(cx.modelled(
            &format!("{name}.{field}"),
            &estimate,
            Status::Derived,
            BytesPerSecond,
        ))
    };
    let mut one = |field: &str,
                   written: Option<&Constant<BytesPerSecond>>,
                   count: u64|
     -> Option<BytesPerSecond> {
        if let Some(c) = written {
            return Some(cx.positive(&format!("{name}.{field}"), c));
        }
        if let Some(rate) = port_rate(cx, field, count) {
            return Some(rate);
        }
        if let Some((part, channels)) = part {
            let peak = part.peak_gb_s * 1e9 * channels as f64;
            let estimate =
                of_part(part, peak).because(format!("{channels} x {} of {}", part.unit, part.part));
            return Some(cx.modelled(
                &format!("{name}.{field}"),
                &estimate,
                Status::Derived,
                BytesPerSecond,
            ));
        }
        let help = "add `bandwidth`, or `word` and `clock`, or a DRAM `part` and its `channels`";
        cx.problems
            .at(&m.name.place, format!("`{name}` has no rate"), help);
        None
    };
    if let Some(both) = &m.bandwidth {
        let rate = one("bandwidth", Some(both), 1)?;
        return Some((rate, rate));
    }
    if m.read_bandwidth.is_none() && m.write_bandwidth.is_none() && ports.read == ports.write {
        let rate = one("bandwidth", None, ports.read)?;
        return Some((rate, rate));
    }
    let read = one("read_bandwidth", m.read_bandwidth.as_ref(), ports.read);
    let write = one("write_bandwidth", m.write_bandwidth.as_ref(), ports.write);
    Some((read?, write?))
}

/// Energies, leakage, area and access time of a memory.
struct Energies {
    read: JoulesPerBit,
    write: JoulesPerBit,
    static_power: Watts,
    area: SquareMm,
    access: Estimate,
}

fn energies(
    cx: &mut Context<'_>,
    m: &MemorySpec,
    capacity: Bytes,
    word: Bytes,
    banks: Option<u64>,
    part: Option<(&DramPart, u64)>,
) -> Energies {
    let technology = cx.technology.with_device(m.device);
    let figures = match (m.kind, part) {
        (MemoryKind::Register, _) => technology.registers(capacity, word),
        (MemoryKind::Sram, _) => technology.sram(capacity, word, banks),
        (_, Some((part, channels))) => {
            let word_bits = (word.0 * 8) as f64;
            let power = part.background_mw * 1e-3 * channels as f64;
            let nothing = Estimate {
                value: 0.0,
                low: 0.0,
                high: 0.0,
                source: "off chip".into(),
            };
            MemoryFigures {
                read: part.energy().times(word_bits),
                write: part.energy().times(word_bits),
                leakage: Estimate {
                    low: power * 0.5,
                    high: power * 2.0,
                    ..of_part(part, power)
                },
                area: nothing.clone(),
                access: nothing,
            }
        }
        (_, None) => {
            let nothing = Estimate {
                value: 0.0,
                low: 0.0,
                high: 0.0,
                source: "off chip".into(),
            };
            if m.energy.is_none() && (m.read_energy.is_none() || m.write_energy.is_none()) {
                let help = "add `energy = \"... pJ/bit\"`, or a DRAM `part`";
                cx.problems.at(
                    &m.name.place,
                    format!("`{}` has no energy per bit", m.name.value),
                    help,
                );
            }
            MemoryFigures {
                read: nothing.clone(),
                write: nothing.clone(),
                leakage: nothing.clone(),
                area: nothing.clone(),
                access: nothing,
            }
        }
    };
    let name = m.name.value.clone();
    let bits = (word.0.max(1) * 8) as f64;
    let per_bit = |e: &Estimate| e.clone().times(1.0 / bits);
    let status = part.map_or(Status::Scaled, |(p, _)| p.status);
    let mut energy =
        |field: &str, written: Option<&Constant<JoulesPerBit>>, model: &Estimate| match written {
            Some(c) => cx.constant(&format!("{name}.{field}"), c),
            None => cx.modelled(&format!("{name}.{field}"), model, status, JoulesPerBit),
        };
    let read = energy(
        "read_energy",
        m.read_energy.as_ref().or(m.energy.as_ref()),
        &per_bit(&figures.read),
    );
    let write = energy(
        "write_energy",
        m.write_energy.as_ref().or(m.energy.as_ref()),
        &per_bit(&figures.write),
    );
    let static_power = match &m.static_power {
        Some(c) => cx.constant(&format!("{name}.static_power"), c),
        None => cx.modelled(
            &format!("{name}.static_power"),
            &figures.leakage,
            status,
            Watts,
        ),
    };
    let area = cx.or_modelled(
        &format!("{name}.area"),
        m.area.as_ref(),
        &figures.area,
        SquareMm,
    );
    Energies {
        read,
        write,
        static_power,
        area,
        access: figures.access,
    }
}
