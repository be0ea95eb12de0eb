//! Networks of cores: one transfer against its closed form, and cores that share links.

use presil_hwmodels::load::from_text;
use presil_mapper::analysis::crossing::Wires;
use presil_workloads::DimId;

use super::*;

/// Four cores on a row of routers under a slow link.
fn cores(topology: &str, hop: &str, link: &str) -> Chip {
    let text = format!(
        r#"
name = "cores"
description = "Four cores on a network."
status = "assumed"
source = "test"
[technology]
node = "22 nm"
[[clock]]
name = "core"
frequency = "1 GHz"
[[memory]]
name = "dram"
kind = "sram"
capacity = "1 GiB"
word = "64 B"
clock = "core"
latency = "100 ns"
[[fanout]]
name = "net"
parent = "dram"
network = {{ topology = "{topology}", hop_latency = "{hop}", link_bandwidth = "{link}" }}
[[fanout.dim]]
name = "cores"
size = 4
instances_per_stream = 1
multicast = ["input"]
accepts = ["output_channel"]
[[memory]]
name = "buffer"
parent = "net"
kind = "sram"
capacity = "1 MiB"
word = "64 B"
clock = "core"
latency = "0 ns"
buffering = 2
[[fanout]]
name = "pes"
parent = "buffer"
[[fanout.dim]]
name = "rows"
size = 8
multicast = ["input"]
reduces = true
accepts = ["reduction"]
[[compute]]
name = "mac"
parent = "pes"
clock = "core"
mode = [{{ input = "int8", weight = "int8", accumulate = "int32", macs_per_cycle = 1 }}]
[[array]]
name = "array"
compute = "mac"
[host]
cores = 1
frequency = "1 GHz"
operations_per_cycle = 1
efficiency = 1
bandwidth = "1 GB/s"
handover = "1 us"
[mapspace]
prefetch_weights = false
"#
    );
    from_text("cores.toml", &text, None, &[]).unwrap()
}

/// Time by events and by the closed form, and the tiles, of a linear whose outputs are spread over the cores.
fn spread(chip: &Chip, [rows, features, out]: [u64; 3]) -> (f64, f64, Tiles) {
    let graph = linear(rows, features, out);
    let node = |name: &str| chip.node(name).unwrap();
    let keep = |memory: &str| {
        Operand::ALL.map(|operand| Cut::Store {
            memory: node(memory),
            operand,
        })
    };
    let space = |fanout: &str, dim: usize, tile: u64| Cut::Spatial {
        fanout: node(fanout),
        axis: 0,
        dim: DimId::new(dim),
        tile,
    };
    let time = |dim: usize, tile: u64| Cut::Temporal {
        dim: DimId::new(dim),
        tile,
    };
    let mut steps = keep("dram").to_vec();
    steps.push(space("net", 1, out / 4));
    steps.extend(keep("buffer"));
    steps.extend([time(0, 1), time(1, 1), time(2, 8), space("pes", 2, 1)]);
    let s = by_hand(&graph, chip, steps);
    let lowering = Lowering {
        graph: &graph,
        chip,
        schedule: &s,
        cold: false,
        ahead: Vec::new(),
        parts: Parts::new(chip, None),
    };
    let (_, tiles) = lowering.tiles(OpId(0)).unwrap();
    let times = run(&lower(&graph, chip, &s, false), Pace::EveryEvent).unwrap();
    (times.end.seconds().0, s.ops[OpId(0)].cost.time.0, tiles)
}

/// All inputs and weights over the first link, inputs once for all cores; the work; all outputs back.
#[test]
fn hops_and_serialization_are_those_of_the_closed_form() {
    for (topology, hops) in [("bus", 1.0), ("mesh", 4.0), ("tree", 3.0)] {
        let chip = cores(topology, "20 ns", "1 GB/s");
        let (simulated, analytic, tiles) = spread(&chip, [8, 64, 64]);
        let hops = hops * 20e-9;
        let down = (8.0 * 64.0 + 64.0 * 64.0) / 1e9;
        let cycles = 8.0 * 64.0 * 64.0 / 32.0 / 1e9;
        let expected = 100e-9 + hops + down + cycles + 8.0 * 64.0 / 1e9 + hops;
        for time in [simulated, analytic] {
            let apart = (time - expected).abs();
            assert!(apart < 1e-13, "{topology}: {time}, by hand {expected}");
        }
        for edge in &tiles.edges {
            let way = edge.down.as_ref().or(edge.up.as_ref()).unwrap();
            assert!((way.latency.0 - hops).abs() < 1e-15, "{topology}");
        }
    }
}

/// One transfer alone is its closed form to the femtosecond.
#[test]
fn one_transfer_is_its_closed_form() {
    let chip = cores("mesh", "20 ns", "3 GB/s");
    let mut parts = Parts::new(&chip, None);
    let net = chip.node("net").unwrap();
    let bytes = 6000.0;
    let ports = [
        (chip.root(), Port::Read, bytes / 64e9),
        (net, Port::Link(Wires::Down), bytes / 3e9),
    ];
    let flow = parts.flow(0, &ports, 0.0);
    let work = parts.work(Work {
        flow,
        tail: femto(100e-9 + 4.0 * 20e-9),
        ..Work::default()
    });
    let mut steps = Steps::default();
    steps.push(Who::Move, work);
    let end = run(&parts.program(steps, 1), Pace::EveryEvent).unwrap().end;
    assert_eq!(end.0, 2_000_000_000 + 180_000_000);
}

/// Slower links and more distant cores take longer, in both models; links that limit nothing change nothing.
#[test]
fn faster_networks_are_no_slower() {
    let of = |hop: &str, link: &str| {
        let (simulated, analytic, _) = spread(&cores("mesh", hop, link), [32, 128, 256]);
        [simulated, analytic]
    };
    let (free, near, far) = (
        of("0 ns", "100000 GB/s"),
        of("10 ns", "2 GB/s"),
        of("50 ns", "2 GB/s"),
    );
    let mut bare = cores("mesh", "0 ns", "2 GB/s");
    let net = bare.node("net").unwrap();
    if let NodeKind::Fanout(f) = &mut bare.nodes[net].kind {
        f.network = None;
    }
    let (simulated, analytic, _) = spread(&bare, [32, 128, 256]);
    for (model, none) in [simulated, analytic].into_iter().enumerate() {
        assert!((free[model] - none).abs() < 1e-12);
        assert!(free[model] < near[model] && near[model] < far[model]);
        assert!((far[model] - near[model] - 2.0 * 4.0 * 40e-9).abs() < 1e-12);
    }
}
