//! The tree: order, instances, and the figures of each node.

use presil_numerics::{IdVec, Joules, JoulesPerBit, SquareMm, Watts};

use super::memory::memory;
use super::{Context, data, movement};
use crate::chip::{Compute, Fanout, FanoutDim, MacMode, Node, NodeId, NodeKind, OperandSet};
use crate::decode::At;
use crate::sourced::Status;
use crate::spec::{ComputeSpec, FanoutSpec, MemorySpec};
use crate::technology::Estimate;
use crate::technology::logic::significand;

/// Most instances of a node.
const MAX_INSTANCES: u64 = 1 << 32;

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
                    network: None,
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
    let spec = cx.spec;
    let parents = spec.memory.iter().filter_map(|m| m.parent.as_ref());
    let parents = parents.chain(spec.fanout.iter().map(|x| &x.parent));
    let mut parents = parents.chain(spec.compute.iter().map(|c| &c.parent));
    if !parents.any(|p| p.value == *name) {
        let message = format!("nothing stands below the fanout `{name}`");
        let help = format!("give a memory or a compute node `parent = \"{name}\"`");
        cx.problems.at(&f.name.place, message, help);
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
        let per_stream = d.instances_per_stream.as_ref().map_or(size, |s| {
            let path = format!("{name}.{}.instances_per_stream", d.name.value);
            let driven = cx.count(&path, s);
            if driven > 0 && !size.is_multiple_of(driven) {
                let message = format!("{size} instances are no whole number of groups of {driven}");
                let help = format!(
                    "write a divisor of {size}, or change `{name}.{}.size`",
                    d.name.value
                );
                cx.problems.at(&s.place, message, &help);
            }
            driven.max(1)
        });
        dims.push(FanoutDim {
            name: d.name.value.clone(),
            size,
            multicast: OperandSet::of(&d.multicast),
            reduces: d.reduces.unwrap_or(false),
            accepts: d.accepts.clone(),
            per_stream,
        });
    }
    let hop_energy = f.hop_energy.as_ref().map_or(JoulesPerBit::ZERO, |e| {
        cx.constant(&format!("{name}.hop_energy"), e)
    });
    let network = f
        .network
        .as_ref()
        .and_then(|n| movement::network(cx, name, n, &dims));
    Fanout {
        dims,
        hop_energy,
        network,
    }
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
        let structured = mode
            .structured
            .as_ref()
            .and_then(|s| data::structured(cx, s));
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
            structured,
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
    let gating = c.gating.as_ref().map(|g| data::gating(cx, name, g));
    Some(Compute {
        clock: clock?,
        modes,
        area,
        static_power,
        gating,
    })
}
