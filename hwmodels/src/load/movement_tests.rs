//! Networks of fanouts and `[movement]`: what files say, and what they may not say.

#![expect(clippy::panic, reason = "tests")]

use presil_numerics::Seconds;

use super::*;
use crate::chip::NodeKind;
use crate::network::{Movement, Topology};

fn text(network: &str, movement: &str) -> String {
    format!(
        r#"
name = "cores"
description = "Cores on a network."
status = "assumed"
source = "test"
[technology]
node = "22 nm"
[[clock]]
name = "core"
frequency = "500 MHz"
[[memory]]
name = "dram"
kind = "sram"
capacity = "1 GiB"
word = "32 B"
clock = "core"
latency = "64 ns"
[[fanout]]
name = "net"
parent = "dram"
{network}
[[fanout.dim]]
name = "x"
size = 3
accepts = ["reduction"]
[[fanout.dim]]
name = "y"
size = 4
accepts = ["output_channel"]
[[compute]]
name = "mac"
parent = "net"
clock = "core"
mode = [{{ input = "int8", weight = "int8", accumulate = "int32", macs_per_cycle = 1 }}]
[[array]]
name = "array"
compute = "mac"
{movement}
"#
    )
}

fn read(network: &str, movement: &str) -> Result<Chip, String> {
    from_text("cores.toml", &text(network, movement), None, &[]).map_err(|e| e.to_string())
}

fn network(line: &str) -> crate::network::Network {
    let chip = read(line, "").unwrap_or_else(|e| panic!("{e}"));
    match chip.node("net").map(|n| &chip.nodes[n].kind) {
        Some(NodeKind::Fanout(f)) => f.network.unwrap_or_else(|| panic!("no network")),
        _ => panic!("no fanout"),
    }
}

#[test]
fn networks_are_read() {
    let mesh = network(
        r#"network = { topology = "mesh", hop_latency = "2 ns", link_width = "16 B", clock = "core", entrances = 3 }"#,
    );
    let topology = Topology::Mesh {
        columns: 4,
        entrances: 3,
    };
    assert_eq!(mesh.topology, topology);
    assert_eq!(mesh.hop_latency, Seconds(2e-9));
    assert!(mesh.link_rate.is_some_and(|r| (r.0 - 8e9).abs() < 1.0));
    let tree = network(r#"network = { topology = "tree", link_bandwidth = "1 GB/s" }"#);
    assert_eq!(tree.topology, Topology::Tree { radix: 2 });
    assert_eq!(network(r#"network = { topology = "bus" }"#).link_rate, None);
}

#[test]
fn wrong_networks_are_told() {
    for (line, told) in [
        (r#"network = { topology = "ring" }"#, "topology"),
        (
            r#"network = { topology = "bus", columns = 2 }"#,
            "`columns` belongs to topology \"mesh\"",
        ),
        (
            r#"network = { topology = "mesh", entrances = 4 }"#,
            "4 entrances into 3 rows",
        ),
        (
            r#"network = { topology = "tree", radix = 1 }"#,
            "a switch with 1 links below it",
        ),
        (
            r#"network = { topology = "bus", link_width = "4 B" }"#,
            "a link's width without its clock",
        ),
        (
            r#"network = { topology = "bus", link_width = "4 B", link_bandwidth = "1 GB/s" }"#,
            "a link with a width and a bandwidth",
        ),
    ] {
        match read(line, "") {
            Ok(_) => panic!("loaded: {line}"),
            Err(e) => assert!(e.contains(told), "{line}: {e}"),
        }
    }
}

#[test]
fn movement_has_defaults_that_are_shown() {
    let chip = read("", "").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(chip.movement, Movement::DEFAULT);
    for key in ["loads", "stores", "credits", "strips"] {
        let path = format!("movement.{key}");
        assert!(chip.provenance.iter().any(|p| p.path == path), "{key}");
    }
    let own = read(
        "",
        "[movement]\nloads = 8\nstores = 4\ncredits = 32\nstrips = 1",
    );
    let own = own.unwrap_or_else(|e| panic!("{e}")).movement;
    assert_eq!(
        (own.loads, own.stores, own.credits, own.strips),
        (8, 4, 32, 1)
    );
    for wrong in ["loads = 0", "loads = 5000", "credits = 721"] {
        assert!(
            read("", &format!("[movement]\n{wrong}")).is_err(),
            "{wrong}"
        );
    }
}
