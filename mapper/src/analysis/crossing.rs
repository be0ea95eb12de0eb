//! What edges of a mapping make the links of networks carry.
//!
//! ```text
//! words entering a network = those that are read above it once for each group that it serves together
//! bits over links          = bits entering x links of a tree                  energy = these x energy of a link
//! busy(link)               = bits entering x share of the busiest link / link rate, of the busiest fanout
//! latency                  = hops x hop latency
//! ```
//!
//! Old values of partial sums that go down reach one instance of each group, by the links of the nearest.

use presil_hwmodels::{Fanout, Network, NodeKind, Topology};

use super::counts::{Counts, Edge};
use super::nest::Nest;
use super::network::{Spread, reach};
use super::traffic;
use crate::problem::Problem;

/// Wires of a network that all data on them shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wires {
    /// To the instances.
    Down,
    /// From them.
    Up,
    /// Both ways: a bus.
    Both,
    /// An operand's own, by number.
    Own(u8),
}

/// Words of an edge in one direction.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Way {
    /// Bits times links that they cross, of all instances of the fanout.
    pub(crate) link_bits: f64,
    /// Of the busiest link.
    pub(crate) seconds: f64,
    /// Of one word.
    pub(crate) latency: f64,
}

/// An edge on the network of a fanout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crossing {
    /// Number of the edge.
    pub(crate) edge: usize,
    /// The fanout's place on the path.
    pub(crate) place: usize,
    /// Wires down and up.
    pub(crate) wires: [Wires; 2],
    /// Down and up.
    pub(crate) ways: [Way; 2],
}

/// The fanout at a place of the path, if it has a network.
pub(crate) fn network_at<'a>(
    problem: &Problem<'a>,
    place: usize,
) -> Option<(&'a Fanout, &'a Network)> {
    match &problem.chip.nodes[*problem.path.get(place)?].kind {
        NodeKind::Fanout(f) => Some((f, f.network.as_ref()?)),
        _ => None,
    }
}

/// All edges on all networks of the path.
pub(crate) fn crossings(problem: &Problem, nest: &Nest, counts: &Counts) -> Vec<Crossing> {
    let mut all = Vec::new();
    for place in 0..problem.path.len() {
        let Some((fanout, network)) = network_at(problem, place) else {
            continue;
        };
        for (number, edge, entering) in counts.entering(place) {
            let operand = edge.operand;
            let loops: Vec<Spread> = nest.loops[..edge.to]
                .iter()
                .filter_map(|l| {
                    let n = l.network.filter(|n| n.level == place)?;
                    Some(Spread {
                        axis: n.axis,
                        trips: l.trips,
                        same: n.serves.has(operand),
                    })
                })
                .collect();
            let reach = reach(fanout, network, &loops);
            let share = edge.parent_share / between(nest, edge, place);
            let way = |bits: f64, links: f64| Way {
                link_bits: bits * links,
                seconds: network
                    .link_rate
                    .map_or(0.0, |rate| bits * share * reach.busiest / 8.0 / rate.0),
                latency: match bits > 0.0 {
                    true => reach.hops as f64 * network.hop_latency.0,
                    false => 0.0,
                },
            };
            let words = way(traffic::word_bits(problem, edge, entering), reach.links);
            let wires = match network.topology {
                Topology::Bus => [Wires::Both; 2],
                Topology::Systolic => [Wires::Own(operand as u8); 2],
                Topology::Tree { .. } | Topology::Mesh { .. } => [Wires::Down, Wires::Up],
            };
            let ways = match edge.output {
                false => [words, Way::default()],
                true => [
                    way(traffic::returned_bits(problem, edge), reach.single),
                    words,
                ],
            };
            all.push(Crossing {
                edge: number,
                place,
                wires,
                ways,
            });
        }
    }
    all
}

/// Bits times links on the network at a place.
pub(crate) fn link_bits(crossings: &[Crossing], place: usize) -> f64 {
    let own = crossings.iter().filter(|c| c.place == place);
    own.flat_map(|c| c.ways).map(|w| w.link_bits).sum()
}

/// Fanouts of one place that a parent's instance has below it.
fn between(nest: &Nest, edge: &Edge, place: usize) -> f64 {
    let above = nest.loops[edge.from..edge.to].iter();
    let above = above.filter(|l| l.network.is_some_and(|n| n.level < place));
    above.map(|l| l.trips as f64).product()
}
