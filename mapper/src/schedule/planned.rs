//! Order, homes and addresses: what is decided before mappings are searched.

use presil_hwmodels::Chip;
use presil_numerics::Bytes;
use presil_workloads::{Graph, OpId, TensorId};

use super::asked::Asked;
use super::engines::Choice;
use super::order;
use super::residency::{self, Reserved, Residency, Scene};
use super::tails::Tails;
use crate::search::Objective;

/// Which order ops run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The graph's.
    Given,
    /// The graph's; where that spills for want of room, one in which less is alive at once if it saves more root
    /// memory cost.
    #[default]
    WhereItSaves,
    /// One in which least is alive at once.
    LowestPeak,
}

/// How memories are planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanOptions {
    /// Which order ops run in.
    pub order: Order,
    /// Offsets and sizes of tensors in resident memories are multiples of it, and of the memory's word.
    pub alignment: Bytes,
    /// Whether groups of ops may be fused where the chip's compiler does that.
    pub fuse: bool,
    /// Constraints of mappings.
    pub asked: Option<Asked>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            order: Order::default(),
            alignment: Bytes(1),
            fuse: true,
            asked: None,
        }
    }
}

/// What was decided.
pub(crate) struct Planned {
    pub(crate) residency: Residency,
    /// With positions in the order chosen.
    pub(crate) tails: Tails,
    pub(crate) order: Vec<OpId>,
    pub(crate) reordered: bool,
}

/// Decides for a graph whose epilogues are known.
pub(super) fn plan(
    chip: &Chip,
    graph: &Graph,
    base: &[TensorId],
    choices: &[Choice],
    tails: Tails,
    objective: Objective,
    options: &PlanOptions,
) -> Planned {
    let homes = |tails: &Tails| {
        let scene = Scene {
            chip,
            graph,
            base,
            choices,
            tails,
        };
        residency::plan(&scene, objective, options.alignment, &Reserved::default())
    };
    let residency = homes(&tails);
    let wanted = match options.order {
        Order::Given => None,
        Order::WhereItSaves => residency.short().then(|| roomy(chip)),
        Order::LowestPeak => Some(0),
    };
    let found = wanted.and_then(|enough| order::lower_peak(graph, base, &tails, enough));
    if let Some(order) = found {
        let moved = tails.placed(&order);
        let other = homes(&moved);
        if options.order == Order::LowestPeak || other.saved > residency.saved {
            return Planned {
                residency: other,
                tails: moved,
                order,
                reordered: true,
            };
        }
    }
    Planned {
        residency,
        tails,
        order: graph.ops.ids().collect(),
        reordered: false,
    }
}

/// Bytes of activations that fit into some resident memory beside any op's tiles.
fn roomy(chip: &Chip) -> u64 {
    let resident = chip
        .nodes
        .iter()
        .filter_map(|n| n.memory().filter(|m| m.resident));
    resident.map(|m| m.capacity.0 / 2).max().unwrap_or(0)
}
