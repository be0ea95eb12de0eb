//! Networks of fanouts, and how far ahead data moves.

use presil_numerics::{BytesPerSecond, Seconds};

use super::Context;
use crate::chip::FanoutDim;
use crate::decode::Sourced;
use crate::network::{Movement, Network, Topology};
use crate::sourced::{Provenance, Status};
use crate::spec::{NetworkSpec, TopologyName};

/// Most works of one queue that are under way.
const MOST_TRANSFERS: u64 = 1024;
/// Most parts of a room, most strips of an op.
const MOST_PARTS: u64 = 720;

/// The network of a fanout of some dimensions.
pub(super) fn network(
    cx: &mut Context<'_>,
    fanout: &str,
    n: &NetworkSpec,
    dims: &[FanoutDim],
) -> Option<Network> {
    let path = |key: &str| format!("{fanout}.network.{key}");
    let hop_latency = n
        .hop_latency
        .as_ref()
        .map_or(Seconds::ZERO, |c| cx.constant(&path("hop_latency"), c));
    let rate = link_rate(cx, &path, n);
    for (key, place, only, name) in [
        (
            "columns",
            n.columns.as_ref().map(|c| &c.place),
            TopologyName::Mesh,
            "mesh",
        ),
        (
            "entrances",
            n.entrances.as_ref().map(|c| &c.place),
            TopologyName::Mesh,
            "mesh",
        ),
        (
            "radix",
            n.radix.as_ref().map(|c| &c.place),
            TopologyName::Tree,
            "tree",
        ),
    ] {
        if let Some(place) = place.filter(|_| n.topology.value != only) {
            let message = format!("`{key}` belongs to topology \"{name}\"");
            cx.problems.at(place, message, "remove it");
        }
    }
    let instances: u64 = dims.iter().map(|d| d.size).product();
    let topology = match n.topology.value {
        TopologyName::Bus => Topology::Bus,
        TopologyName::Systolic => Topology::Systolic,
        TopologyName::Tree => {
            let radix = n.radix.as_ref();
            if let Some(r) = radix.filter(|r| r.value < 2) {
                let message = format!("a switch with {} links below it", r.value);
                cx.problems.at(&r.place, message, "write at least 2");
            }
            Topology::Tree {
                radix: radix.map_or(2, |r| cx.count(&path("radix"), r)).max(2),
            }
        }
        TopologyName::Mesh => {
            let columns = match &n.columns {
                Some(c) => cx.count(&path("columns"), c),
                None => dims.last().map_or(1, |d| d.size),
            };
            let columns = columns.max(1);
            let rows = instances.div_ceil(columns).max(1);
            let entrances = n
                .entrances
                .as_ref()
                .map_or(1, |e| cx.count(&path("entrances"), e));
            if let Some(e) = n.entrances.as_ref().filter(|e| e.value > rows) {
                let message = format!("{} entrances into {rows} rows", e.value);
                cx.problems
                    .at(&e.place, message, "write at most one for each row");
            }
            Topology::Mesh {
                columns,
                entrances: entrances.clamp(1, rows),
            }
        }
    };
    Some(Network {
        topology,
        hop_latency,
        link_rate: rate,
    })
}

fn link_rate(
    cx: &mut Context<'_>,
    path: &impl Fn(&str) -> String,
    n: &NetworkSpec,
) -> Option<BytesPerSecond> {
    if let Some(rate) = &n.link_bandwidth {
        if let Some(width) = &n.link_width {
            let help = "leave one of them out";
            cx.problems
                .at(&width.place, "a link with a width and a bandwidth", help);
        }
        return Some(cx.positive(&path("link_bandwidth"), rate));
    }
    let width = n.link_width.as_ref()?;
    let Some(clock) = &n.clock else {
        cx.problems.at(
            &width.place,
            "a link's width without its clock",
            "add `clock`, or write `link_bandwidth`",
        );
        return None;
    };
    let width = cx.positive(&path("link_width"), width);
    let clock = cx.clock(clock)?;
    let frequency = cx.clocks[clock].domain.frequency.0;
    let rate = BytesPerSecond(width.0 as f64 * frequency);
    cx.provenance.push(Provenance {
        path: path("link_bandwidth"),
        value: rate.to_string(),
        range: None,
        status: Status::Derived,
        source: "width x clock".into(),
        group: None,
    });
    Some(rate)
}

/// How far ahead and in which pieces data moves.
pub(super) fn resolve(cx: &mut Context<'_>) -> Movement {
    let spec = cx.spec.movement.as_ref();
    let default = Movement::DEFAULT;
    let of = |get: fn(&crate::spec::MovementSpec) -> Option<&Sourced<u64>>| spec.and_then(get);
    let loads = counted(
        cx,
        "loads",
        of(|m| m.loads.as_ref()),
        u64::from(default.loads),
        MOST_TRANSFERS,
    );
    let stores = counted(
        cx,
        "stores",
        of(|m| m.stores.as_ref()),
        u64::from(default.stores),
        MOST_TRANSFERS,
    );
    let credits = of(|m| m.credits.as_ref());
    let strips = of(|m| m.strips.as_ref());
    Movement {
        loads: u32::try_from(loads).unwrap_or(default.loads),
        stores: u32::try_from(stores).unwrap_or(default.stores),
        credits: counted(cx, "credits", credits, default.credits, MOST_PARTS),
        strips: counted(cx, "strips", strips, default.strips, MOST_PARTS),
    }
}

/// A count of the section, within bounds and recorded.
fn counted(
    cx: &mut Context<'_>,
    key: &str,
    written: Option<&Sourced<u64>>,
    default: u64,
    most: u64,
) -> u64 {
    let path = format!("movement.{key}");
    let Some(c) = written else {
        cx.provenance.push(Provenance {
            path,
            value: default.to_string(),
            range: None,
            status: Status::Assumed,
            source: "default of the file form".into(),
            group: None,
        });
        return default;
    };
    let value = cx.count(&path, c);
    if value > most {
        let message = format!("`{path}` is {value}");
        let help = format!("write at most {most}");
        cx.problems.at(&c.place, message, help);
    }
    value.clamp(1, most)
}
