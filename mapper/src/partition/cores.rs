//! Which axis of a chip has cores, and chips with fewer of them.
//!
//! The axis is the first one on the path from the root to an array with more than one instruction stream. Where
//! several axes have streams of their own (chiplets of cores), the outermost counts: a chiplet is then one core.

use presil_hwmodels::{Chip, EngineKind, NodeId, NodeKind};

use crate::mapping::{Mapping, Step};

/// The axis of a chip whose groups of instances run ops of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// The fanout.
    pub fanout: NodeId,
    /// Which of its dimensions.
    pub axis: usize,
    /// Cores.
    pub count: u64,
    /// Instances of each.
    pub instances: u64,
}

impl Cores {
    /// The cores of a chip; none where all instances run one op.
    pub fn of(chip: &Chip) -> Option<Self> {
        let paths = chip.engines.iter().filter_map(|e| match e.kind {
            EngineKind::Array { compute, .. } => Some(chip.path(compute)),
            _ => None,
        });
        paths.flatten().find_map(|node| {
            let NodeKind::Fanout(f) = &chip.nodes[node].kind else {
                return None;
            };
            f.dims.iter().enumerate().find_map(|(axis, d)| {
                let count = d.size.checked_div(d.per_stream)?;
                (count > 1).then_some(Self {
                    fanout: node,
                    axis,
                    count,
                    instances: d.per_stream,
                })
            })
        })
    }

    /// The name of the axis.
    pub fn name(self, chip: &Chip) -> String {
        match &chip.nodes[self.fanout].kind {
            NodeKind::Fanout(f) => f
                .dims
                .get(self.axis)
                .map_or_else(String::new, |d| d.name.clone()),
            _ => String::new(),
        }
    }

    /// Whether each core has a node of its own: it stands below the axis.
    pub fn is_private(self, chip: &Chip, node: NodeId) -> bool {
        node != self.fanout && chip.path(node).contains(&self.fanout)
    }

    /// The chip with so many of its cores.
    pub fn share(self, chip: &Chip, cores: u64) -> Chip {
        let mut small = chip.clone();
        let mut all = 1;
        if let NodeKind::Fanout(f) = &mut small.nodes[self.fanout].kind
            && let Some(d) = f.dims.get_mut(self.axis)
        {
            all = d.size.max(1);
            d.size = cores.saturating_mul(self.instances).clamp(1, all);
        }
        let size = cores.saturating_mul(self.instances).clamp(1, all);
        let below: Vec<NodeId> = chip
            .nodes
            .ids()
            .filter(|n| self.is_private(chip, *n))
            .collect();
        for n in below {
            let node = &mut small.nodes[n];
            node.instances = node.instances / all * size;
        }
        small
    }
}

/// The chip with so many of its cores and as great a part of the rates of what they share: what a mapping of one
/// of several ops that run at once is searched for, so that none takes more than its part of a shared memory for free.
pub(crate) fn fair(cores: Cores, chip: &Chip, share: u64) -> Chip {
    let mut small = cores.share(chip, share);
    let part = share as f64 / cores.count.max(1) as f64;
    for n in chip.nodes.ids().filter(|n| !cores.is_private(chip, *n)) {
        if let NodeKind::Memory(m) = &mut small.nodes[n].kind {
            m.take_part(part);
        }
    }
    small
}

/// Instances along the axis of cores that a mapping uses.
pub fn used(cores: Cores, mapping: &Mapping, sizes: &[u64]) -> u64 {
    let mut tiles = sizes.to_vec();
    let mut trips = 1u64;
    for step in mapping.steps() {
        let (Step::Temporal { dim, tile } | Step::Spatial { dim, tile, .. }) = *step else {
            continue;
        };
        let Some(outer) = tiles.get_mut(dim.0 as usize) else {
            continue;
        };
        let n = outer.div_ceil(tile.max(1));
        *outer = tile;
        if let Step::Spatial { fanout, axis, .. } = *step
            && fanout == cores.fanout
            && usize::from(axis) == cores.axis
        {
            trips = trips.saturating_mul(n);
        }
    }
    trips
}
