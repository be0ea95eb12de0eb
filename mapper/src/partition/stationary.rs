//! An op on some cores whose weights stay in the cores' own buffers from one inference to the next.
//!
//! ```text
//! M           the outermost memory below the axis of cores that weights pass through
//! F           the fanout dimensions between the root and M, the axis of cores among them
//! n(a, d)     parts that dimension d is cut into along a of F;  n(a) = product over d, at most the instances along a
//! part        the op with every dimension cut: size_d = ceil(size_d / product over a of n(a, d))
//! weights     of the part: what each instance of M keeps
//! ```
//!
//! Of all cuts into one or two dimensions along each axis (as the axis accepts them; of a reduction only where it sums on the way
//! up; not of dimensions that a mask couples) the one is taken whose part has fewest points, then fewest weights, then
//! least traffic above. The part is mapped by the search on a chip with one instance along F, its weights at home in
//! M. The op costs what its parts cost side by side:
//!
//! ```text
//! busy(below F)   that of the part, which is the largest
//! bits(above F)   those of the part times the groups that are served one by one: n(a, d) of them if the operand has d, or if a
//!                 does not multicast it (for outputs: does not sum them); else one
//! energy          of what is below F and of wires: times the MACs of the op over those of the part
//! L               F + (L - F) x mean number of groups: first tiles of all instances queue at the shared memories
//! ```

use presil_hwmodels::{Chip, FanoutDim, NodeId, NodeKind, Operand};
use presil_numerics::{Bytes, Seconds};
use presil_workloads::{Access, DimId, Domain, Einsum};

use super::Cores;
use crate::cost::{Cost, MemoryCount, Resource};
use crate::ledger;
use crate::mapping::selects;
use crate::touched::touched;

/// A fanout dimension above the buffer of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) fanout: NodeId,
    pub(super) axis: usize,
    /// Instances that may be used.
    pub(super) size: u64,
}

/// Parts of dimensions along an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) axis: Axis,
    pub(super) parts: Vec<(DimId, u64)>,
}

/// Where weights stay, and what stands between it and the root.
#[derive(Debug, Clone)]
pub(super) struct Buffers {
    pub(super) memory: NodeId,
    pub(super) axes: Vec<Axis>,
    /// Bytes of each instance that weights may take.
    pub(super) room: Bytes,
    /// Instances a core.
    pub(super) per_core: u64,
}

impl Buffers {
    /// The buffers on the path to a compute node; none if weights pass through no memory below the axis.
    pub(super) fn of(chip: &Chip, cores: Cores, compute: NodeId) -> Option<Self> {
        let path = chip.path(compute);
        let keeps = |n: &NodeId| {
            let memory = chip.nodes[*n].memory();
            cores.is_private(chip, *n) && memory.is_some_and(|m| m.keeps.has(Operand::Weight))
        };
        let memory = path.iter().copied().find(keeps)?;
        let m = chip.nodes[memory].memory()?;
        let mut axes = Vec::new();
        for fanout in path.iter().copied().take_while(|n| *n != memory) {
            if let NodeKind::Fanout(f) = &chip.nodes[fanout].kind {
                axes.extend(f.dims.iter().enumerate().map(|(axis, d)| Axis {
                    fanout,
                    axis,
                    size: d.size,
                }));
            }
        }
        // Tiles of what else is kept there need room as well.
        let alone = Operand::ALL
            .iter()
            .all(|o| *o == Operand::Weight || !m.keeps.has(*o));
        let room = if alone {
            m.capacity.0
        } else {
            m.capacity.0 / 2
        };
        Some(Self {
            memory,
            axes,
            room: Bytes(room),
            per_core: chip.nodes[memory].instances / cores.count.max(1),
        })
    }

    /// The axes with so many of the cores.
    pub(super) fn on(&self, cores: Cores, share: u64) -> Vec<Axis> {
        let one = |a: &Axis| {
            let mine = a.fanout == cores.fanout && a.axis == cores.axis;
            Axis {
                size: if mine {
                    share * cores.instances
                } else {
                    a.size
                },
                ..*a
            }
        };
        self.axes.iter().map(one).collect()
    }

    /// The chip with one instance along each axis.
    pub(super) fn single(&self, chip: &Chip, cores: Cores) -> Chip {
        let mut one = chip.clone();
        for a in &self.axes {
            if let NodeKind::Fanout(f) = &mut one.nodes[a.fanout].kind
                && let Some(d) = f.dims.get_mut(a.axis)
            {
                d.size = 1;
                d.per_stream = 1;
            }
        }
        let all = chip.nodes[self.memory].instances.max(1);
        let below: Vec<NodeId> = chip
            .nodes
            .ids()
            .filter(|n| cores.is_private(chip, *n))
            .collect();
        for n in below {
            let node = &mut one.nodes[n];
            node.instances = (node.instances / all).max(1);
        }
        one
    }
}

fn dim_of<'a>(chip: &'a Chip, a: &Axis) -> Option<&'a FanoutDim> {
    match &chip.nodes[a.fanout].kind {
        NodeKind::Fanout(f) => f.dims.get(a.axis),
        _ => None,
    }
}

/// Dimensions that a mask couples: they are not cut.
fn coupled(domain: &Domain) -> Vec<DimId> {
    match *domain {
        Domain::Dense => Vec::new(),
        Domain::Causal { query, key, .. } | Domain::Banded { query, key, .. } => vec![query, key],
        Domain::Ragged { group, row, .. } => vec![group, row],
    }
}

/// The part of an op, and how it is cut.
pub(super) fn cut(chip: &Chip, einsum: &Einsum, axes: &[Axis]) -> (Einsum, Vec<Cut>) {
    let mut part = einsum.clone();
    let mut cuts = Vec::new();
    // The axis of cores is the outermost: cores first, what is within them next.
    for axis in axes {
        let best = candidates(chip, &part, axis)
            .into_iter()
            .map(|parts| (score(chip, &part, axis, &parts), parts))
            .min_by(|a, b| a.0.cmp(&b.0));
        let parts = best.map(|b| b.1).unwrap_or_default();
        for (d, n) in &parts {
            let size = part.dim(*d).size.div_ceil(*n);
            part.dims[d.0 as usize].size = size;
        }
        cuts.push(Cut { axis: *axis, parts });
    }
    (part, cuts)
}

fn candidates(chip: &Chip, einsum: &Einsum, axis: &Axis) -> Vec<Vec<(DimId, u64)>> {
    let Some(fan) = dim_of(chip, axis) else {
        return vec![Vec::new()];
    };
    let bound = coupled(&einsum.domain);
    let free: Vec<DimId> = einsum
        .dim_ids()
        .filter(|d| {
            fan.accepts.iter().any(|s| selects(einsum, s, *d))
                && !bound.contains(d)
                && (fan.reduces || Einsum::names(&einsum.output, *d))
        })
        .collect();
    let mut list = vec![Vec::new()];
    for (i, a) in free.iter().enumerate() {
        let most = einsum.dim(*a).size.min(axis.size);
        for n in 2..=most {
            // Fewer parts of the same size leave instances to another dimension.
            let size = einsum.dim(*a).size;
            if size.div_ceil(size.div_ceil(n)) != n {
                continue;
            }
            list.push(vec![(*a, n)]);
            for b in &free[i + 1..] {
                let size = einsum.dim(*b).size;
                let m = (axis.size / n).min(size);
                if m > 1 {
                    list.push(vec![(*a, n), (*b, size.div_ceil(size.div_ceil(m)))]);
                }
            }
        }
    }
    list
}

/// Points of the part, its weights, and elements that cross from above: what is made small, in this order.
fn score(
    chip: &Chip,
    einsum: &Einsum,
    axis: &Axis,
    parts: &[(DimId, u64)],
) -> (u64, u64, u128, usize) {
    let mut part = einsum.clone();
    for (d, n) in parts {
        part.dims[d.0 as usize].size = part.dims[d.0 as usize].size.div_ceil(*n);
    }
    let one = Cut {
        axis: *axis,
        parts: parts.to_vec(),
    };
    let crossing = einsum
        .operands()
        .zip(Operand::ALL)
        .map(|(access, operand)| {
            u128::from(touched(&part, access))
                * u128::from(groups(chip, std::slice::from_ref(&one), access, operand))
        });
    let weights = einsum.inputs.get(1).map_or(0, |a| touched(&part, a));
    let points = part.points().unwrap_or(u64::MAX);
    (points, weights, crossing.sum(), parts.len())
}

/// Groups of instances that what is above serves one by one.
fn groups(chip: &Chip, cuts: &[Cut], access: &Access, operand: Operand) -> u64 {
    let of = |cut: &Cut| {
        let Some(fan) = dim_of(chip, &cut.axis) else {
            return 1;
        };
        let together = match operand {
            Operand::Output => fan.reduces,
            _ => fan.multicast.has(operand),
        };
        let apart = |(d, n): &(DimId, u64)| {
            if Einsum::names(access, *d) || !together {
                *n
            } else {
                1
            }
        };
        cut.parts.iter().map(apart).product()
    };
    cuts.iter().map(of).product()
}

/// The cost of an op from that of its part.
pub(super) fn whole(
    chip: &Chip,
    cores: Cores,
    einsum: &Einsum,
    cuts: &[Cut],
    part: &Cost,
    side_by_side: Seconds,
) -> Cost {
    let instances: u64 = cuts
        .iter()
        .flat_map(|c| c.parts.iter().map(|p| p.1))
        .product();
    let macs = u128::from(einsum.executed_points().unwrap_or(0));
    // The last parts may be smaller.
    let times = macs as f64 / (part.executed_macs as f64).max(1.0);
    let groups_of = |o: Operand| {
        let access = einsum.operands().nth(o.index());
        access.map_or(1, |a| groups(chip, cuts, a, o)) as f64
    };
    let private = |m: NodeId| cores.is_private(chip, m);
    let mut counts = Vec::new();
    let (mut before, mut after) = (0.0, 0.0);
    for c in &part.counts {
        let n = if private(c.memory) {
            times
        } else {
            let n = groups_of(c.operand);
            before += c.read_bits + c.write_bits;
            after += n * (c.read_bits + c.write_bits);
            n
        };
        counts.push(MemoryCount {
            reads: (c.reads as f64 * n).round() as u128,
            writes: (c.writes as f64 * n).round() as u128,
            read_bits: c.read_bits * n,
            write_bits: c.write_bits * n,
            ..*c
        });
    }
    let queue = if before > 0.0 { after / before } else { 1.0 };
    let mut busy: Vec<(Resource, Seconds)> = part
        .busy
        .iter()
        .filter(|b| !matches!(b.0, Resource::Memory(m) if !private(m)))
        .copied()
        .collect();
    for (id, node) in chip.nodes.iter_ids() {
        if node.memory().is_none() || private(id) {
            continue;
        }
        let (read, written) = ledger::bits(&counts, id);
        let time = ledger::port_time(chip, id, read, written);
        if time.0 > 0.0 {
            busy.push((Resource::Memory(id), time));
        }
    }
    let shared = |name: &str| {
        chip.nodes
            .iter_ids()
            .any(|(id, n)| n.name == name && n.memory().is_some() && !private(id))
    };
    let mut energy = part.energy.clone();
    energy.retain(|e| !shared(&e.component));
    for e in &mut energy {
        e.energy = e.energy * times;
    }
    for (id, node) in chip.nodes.iter_ids() {
        if let (Some(m), false) = (node.memory(), private(id)) {
            let (read, written) = ledger::bits(&counts, id);
            ledger::add_energy(&mut energy, &node.name, "read", m.read_energy.0 * read);
            ledger::add_energy(&mut energy, &node.name, "write", m.write_energy.0 * written);
        }
    }
    let fixed = side_by_side.0.min(part.latency.0);
    let latency = Seconds(fixed + (part.latency.0 - fixed) * queue.max(1.0));
    Cost {
        executed_macs: macs,
        compute_cycles: part.compute_cycles,
        instances_used: part.instances_used.saturating_mul(instances),
        time: latency + ledger::longest(&busy),
        counts,
        busy,
        latency,
        energy,
    }
}
