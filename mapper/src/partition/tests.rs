#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use presil_hwmodels::{
    Chip, DimSelector, EngineKind, Fanout, FanoutDim, Node, NodeKind, OperandSet,
};
use presil_numerics::{Format, IdVec, JoulesPerBit, Quantization};
use presil_workloads::Graph;
use presil_workloads::build::{Builder, Conv};

use super::sets::{Unit, choose, order};
use super::stages::{Choice, balance};
use super::stationary::{Buffers, cut};
use super::*;
use crate::cost::Resource;
use crate::schedule::ScheduledOp;
use crate::schedule::tests::chip as small;
use crate::search::Objective;

/// The small chip with its array four times, each with a buffer of its own below: `dram - buffer - cores - grid - mac`.
fn four_cores(per_stream: u64) -> Chip {
    let mut chip = small::chip();
    let cores = FanoutDim {
        name: "cores".into(),
        size: 4,
        multicast: OperandSet::ALL,
        reduces: true,
        accepts: vec![
            DimSelector::Pixel,
            DimSelector::OutputChannel,
            DimSelector::Group,
            DimSelector::Reduction,
        ],
        per_stream,
    };
    let mut nodes: Vec<Node> = chip.nodes.iter().cloned().collect();
    let fanout = Fanout {
        dims: vec![cores],
        hop_energy: JoulesPerBit(1e-14),
        network: None,
    };
    nodes.insert(
        2,
        Node {
            name: "cores".into(),
            parent: Some(NodeId(1)),
            instances: 1,
            kind: NodeKind::Fanout(fanout),
        },
    );
    nodes[3].parent = Some(NodeId(2));
    nodes[3].instances = 4;
    nodes[4].parent = Some(NodeId(3));
    nodes[4].instances *= 4;
    chip.nodes = nodes.into_iter().collect::<IdVec<NodeId, Node>>();
    for e in chip.engines.iter_mut() {
        if let EngineKind::Array { compute, .. } = &mut e.kind {
            *compute = NodeId(4);
        }
    }
    chip
}

fn int8(b: Builder) -> Graph {
    let mut graph = b.finish().unwrap();
    let q = Quantization::from(Format::INT8);
    graph.set_precision(q, q, q);
    graph
}

/// Two branches of narrow convolutions that one core fills and four do not.
fn branches(channels: u64, size: u64) -> Graph {
    let mut b = Builder::new("branches");
    let x = b.input("x", &[1, 16, size, size]);
    let l1 = b.conv2d("l1", x, &Conv::square(channels, 1, 1, 0)).unwrap();
    let r1 = b.conv2d("r1", x, &Conv::square(channels, 3, 1, 1)).unwrap();
    let l2 = b
        .conv2d("l2", l1, &Conv::square(channels, 1, 1, 0))
        .unwrap();
    let r2 = b
        .conv2d("r2", r1, &Conv::square(channels, 1, 1, 0))
        .unwrap();
    let y = b.add("y", l2, r2).unwrap();
    b.output(y);
    int8(b)
}

fn options(objective: Objective) -> ScheduleOptions {
    ScheduleOptions {
        objective,
        accumulate: None,
    }
}

/// The schedules of a graph on a chip: that op by op, and where it pays one with sets.
fn both(graph: &Graph, chip: &Chip, objective: Objective) -> Vec<Schedule> {
    let plan = PlanOptions::default();
    schedules(graph, chip, &options(objective), &plan, &Memo::default()).unwrap()
}

#[test]
fn cores_are_what_the_chip_file_says() {
    assert_eq!(Cores::of(&four_cores(4)), None);
    assert_eq!(Cores::of(&small::chip()), None);
    let chip = four_cores(2);
    let cores = Cores::of(&chip).unwrap();
    assert_eq!((cores.count, cores.instances), (2, 2));
    let one = cores.share(&chip, 1);
    let instances = |c: &Chip| c.nodes.iter().map(|n| n.instances).collect::<Vec<_>>();
    assert_eq!(instances(&chip), [1, 1, 1, 4, 1024]);
    assert_eq!(instances(&one), [1, 1, 1, 2, 512]);
    assert!(cores.is_private(&chip, NodeId(4)) && cores.is_private(&chip, NodeId(3)));
    assert!(!cores.is_private(&chip, NodeId(2)) && !cores.is_private(&chip, NodeId(1)));
}

/// All ordered sequences of antichains that respect dependences, by brute force.
fn brute(units: &[Unit], done: u32, most: usize, cost: &dyn Fn(&[usize]) -> f64) -> f64 {
    let n = units.len();
    if done.count_ones() as usize == n {
        return 0.0;
    }
    let ready: Vec<usize> = (0..n)
        .filter(|i| done >> i & 1 == 0 && units[*i].before.iter().all(|b| done >> b & 1 == 1))
        .collect();
    let mut best = f64::INFINITY;
    for mask in 1u32..1 << ready.len() {
        let set: Vec<usize> = ready
            .iter()
            .enumerate()
            .filter(|(i, _)| mask >> i & 1 == 1)
            .map(|(_, u)| *u)
            .collect();
        let step = match set.as_slice() {
            [one] => units[*one].alone,
            _ if set.len() <= most && set.iter().all(|u| units[*u].able) => cost(&set),
            _ => continue,
        };
        let bits = set.iter().fold(done, |d, u| d | 1 << u);
        if step.is_finite() {
            best = best.min(step + brute(units, bits, most, cost));
        }
    }
    best
}

#[test]
fn chosen_sets_are_as_good_as_any() {
    let mut seed = 7u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % n
    };
    let mut with_sets = 0;
    for _ in 0..300 {
        let n = 2 + below(6) as usize;
        let units: Vec<Unit> = (0..n)
            .map(|i| Unit {
                before: (0..i).filter(|_| below(4) == 0).collect(),
                alone: 1.0 + below(8) as f64,
                able: below(5) > 0,
            })
            .collect();
        let salt = below(1000);
        // Sets cost between the longest member and somewhat more than their sum; some are impossible.
        let cost = |set: &[usize]| {
            let hash = set
                .iter()
                .fold(salt, |h, u| (h * 31 + *u as u64 + 7) % 1009);
            let sum: f64 = set.iter().map(|u| units[*u].alone).sum();
            if hash.is_multiple_of(5) {
                f64::INFINITY
            } else {
                sum * (0.4 + (hash % 80) as f64 / 100.0)
            }
        };
        let most = 2 + below(2) as usize;
        let sets = choose(&units, most, cost).unwrap();
        let mut total: f64 = sets.iter().map(|s| cost(s)).sum();
        for (i, u) in units.iter().enumerate() {
            if !sets.iter().any(|s| s.contains(&i)) {
                total += u.alone;
            }
        }
        let best = brute(&units, 0, most, &cost);
        assert!((total - best).abs() < 1e-9, "{total} {best} {units:?}");
        let sequence = order(&units, &sets).unwrap();
        let mut done = vec![false; n];
        for group in &sequence {
            assert!(
                group
                    .iter()
                    .flat_map(|u| &units[*u].before)
                    .all(|b| done[*b])
            );
            group.iter().for_each(|u| done[*u] = true);
        }
        assert!(done.iter().all(|d| *d));
        with_sets += usize::from(!sets.is_empty());
    }
    assert!(with_sets > 100, "{with_sets}");
}

#[test]
fn narrow_branches_run_side_by_side() {
    let chip = four_cores(1);
    let graph = branches(16, 4);
    let all = both(&graph, &chip, Objective::Latency);
    let [plain, apart] = all.as_slice() else {
        panic!("nothing runs at once")
    };
    assert!(plain.partition.sets.is_empty());
    let name = |m: &Member| graph.ops[m.op].name.as_str();
    assert!(!apart.partition.sets.is_empty());
    let cores = apart.partition.cores.unwrap();
    for set in &apart.partition.sets {
        assert!(set.members.len() >= 2);
        assert!(set.members.iter().map(|m| m.cores).sum::<u64>() <= cores.count);
        let ops: Vec<&ScheduledOp> = set.members.iter().map(|m| &apart.ops[m.op]).collect();
        let one = together(&chip, cores, &ops).unwrap();
        let busy = |op: &ScheduledOp, r: Resource| {
            op.cost
                .busy
                .iter()
                .filter(|b| b.0 == r)
                .map(|b| b.1.0)
                .sum::<f64>()
        };
        // Shared: sums; private: the longest; as long as the longest member at least, MACs of all.
        for r in [
            Resource::Memory(NodeId(0)),
            Resource::Memory(NodeId(1)),
            Resource::Vector,
        ] {
            let sum: f64 = ops.iter().map(|o| busy(o, r)).sum();
            assert!((busy(&one, r) - sum).abs() <= 1e-12 * sum, "{r:?}");
            assert!(one.cost.time.0 >= sum);
        }
        let most = ops
            .iter()
            .map(|o| busy(o, Resource::Compute))
            .fold(0.0, f64::max);
        assert_eq!(busy(&one, Resource::Compute), most);
        for o in &ops {
            assert!(one.cost.time.0 >= o.cost.time.0 * (1.0 - 1e-12));
        }
        let macs: u128 = ops.iter().map(|o| o.cost.executed_macs).sum();
        assert_eq!(one.cost.executed_macs, macs);
        // In the plain schedule the members took longer one after the other.
        let before: f64 = set
            .members
            .iter()
            .map(|m| plain.ops[m.op].cost.time.0)
            .sum();
        assert!(
            one.cost.time.0 < before,
            "{:?}",
            set.members.iter().map(name).collect::<Vec<_>>()
        );
    }
    let macs = |s: &Schedule| s.ops.iter().map(|o| o.cost.executed_macs).sum::<u128>();
    assert_eq!(macs(plain), macs(apart));
    // Every op once, in an order that keeps dependences.
    let mut order: Vec<OpId> = apart.order.clone();
    order.sort_unstable();
    assert!(order.iter().copied().eq(graph.ops.ids()));

    // Nothing where all instances run one op; the same again gives the same.
    let bound = schedules(
        &graph,
        &four_cores(4),
        &options(Objective::Latency),
        &PlanOptions::default(),
        &Memo::default(),
    );
    assert_eq!(bound.unwrap().len(), 1);
    let again = both(&graph, &chip, Objective::Latency);
    assert_eq!(again[1], all[1]);
}

#[test]
fn ops_that_fill_the_array_run_alone() {
    // 64 x 64 pixels of 64 channels: 256 instances a core have work for thousands of cycles.
    let mut b = Builder::new("wide");
    let x = b.input("x", &[1, 64, 64, 64]);
    let l = b.conv2d("l", x, &Conv::square(64, 3, 1, 1)).unwrap();
    let r = b.conv2d("r", x, &Conv::square(64, 3, 1, 1)).unwrap();
    b.output(l);
    b.output(r);
    let all = schedules(
        &int8(b),
        &four_cores(1),
        &options(Objective::Latency),
        &PlanOptions::default(),
        &Memo::default(),
    );
    assert_eq!(all.unwrap().len(), 1);
}

#[test]
fn a_set_of_one_is_the_op_itself() {
    let chip = four_cores(1);
    let graph = branches(16, 8);
    let all = both(&graph, &chip, Objective::Edp);
    let cores = Cores::of(&chip).unwrap();
    for op in all[0].ops.iter().filter(|o| o.execution.is_mapped()) {
        let one = together(&chip, cores, &[op]).unwrap();
        assert!((one.cost.time.0 - op.cost.time.0).abs() < 1e-12 * op.cost.time.0);
        assert!((one.cost.latency.0 - op.cost.latency.0).abs() < 1e-12 * op.cost.time.0);
        assert_eq!(one.cost.energy, op.cost.energy);
        assert_eq!(one.cost.counts, op.cost.counts);
    }
    assert_eq!(together(&chip, cores, &[]), None);
}

#[test]
fn members_have_room_side_by_side() {
    for objective in [Objective::Latency, Objective::Energy, Objective::Edp] {
        let chip = four_cores(1);
        let graph = branches(16, 4);
        let all = schedules(
            &graph,
            &chip,
            &options(objective),
            &PlanOptions::default(),
            &Memo::default(),
        )
        .unwrap();
        for s in &all {
            for pad in &s.memory.memories {
                assert!(pad.peak <= pad.capacity);
                for (i, a) in pad.regions.iter().enumerate() {
                    for b in &pad.regions[..i] {
                        let tiles = |r: &crate::schedule::memory_plan::Region| {
                            matches!(r.holds, crate::schedule::memory_plan::Holds::Tile(..))
                        };
                        let meet = a.live.iter().any(|x| b.live.iter().any(|y| x.meets(*y)));
                        let over = a.offset.0 < b.offset.0 + b.bytes.0
                            && b.offset.0 < a.offset.0 + a.bytes.0;
                        assert!(!(tiles(a) && tiles(b) && meet && over), "{a:?} {b:?}");
                    }
                }
            }
        }
    }
}

/// One op over all cores, along any dimension: with reduction on the way up where nothing else is wide enough.
#[test]
fn one_op_splits_over_cores_along_any_dimension() {
    use crate::mapping::Step;
    let along = |b: Builder| {
        let graph = int8(b);
        let mut chip = four_cores(1);
        // Memories that never limit: the array does.
        small::dram(&mut chip).read_rate.0 = 1e14;
        small::buffer(&mut chip).read_rate.0 = 1e14;
        small::buffer(&mut chip).write_rate.0 = 1e14;
        let s = crate::schedule::schedule(&graph, &chip, &options(Objective::Latency)).unwrap();
        let op = s
            .ops
            .iter()
            .find(|o| o.execution.is_mapped())
            .unwrap()
            .clone();
        let crate::schedule::Execution::Mapped { mapping, .. } = &op.execution else {
            panic!("not mapped")
        };
        let einsum = graph.ops.iter().find_map(|o| o.contraction()).unwrap();
        let names: Vec<String> = mapping
            .steps()
            .iter()
            .filter_map(|s| match s {
                Step::Spatial {
                    fanout: NodeId(2),
                    dim,
                    ..
                } => Some(einsum.dim(*dim).name.clone()),
                _ => None,
            })
            .collect();
        (names, op)
    };
    // One pixel, 16 channels out, 4096 in: only the reduction is left for the cores.
    let mut b = Builder::new("reduction");
    let x = b.input("x", &[1, 4096]);
    let y = b.linear("y", x, 16, false).unwrap();
    b.output(y);
    let (names, op) = along(b);
    assert!(
        !names.is_empty() && names.iter().all(|n| n != "m" && n != "n"),
        "{names:?}"
    );
    assert_eq!(op.cost.executed_macs, 4096 * 16);
    // Partial sums of four cores of 16 rows arrive as one word each: 4096 / 64 times 16 of them.
    let written = op
        .cost
        .counts
        .iter()
        .find(|c| c.memory == NodeId(1) && c.operand == presil_hwmodels::Operand::Output);
    assert!(written.is_none_or(|c| c.writes <= 1024), "{written:?}");
}

/// The same chip with a buffer of weights in each core, of so many bytes.
fn with_buffers(bytes: u64) -> Chip {
    let mut chip = four_cores(1);
    let mut nodes: Vec<Node> = chip.nodes.iter().cloned().collect();
    let NodeKind::Memory(shared) = nodes[1].kind.clone() else {
        panic!("no memory")
    };
    let own = presil_hwmodels::Memory {
        capacity: Bytes(bytes),
        keeps: OperandSet::of(&[presil_hwmodels::Operand::Weight]),
        must_keep: OperandSet::of(&[presil_hwmodels::Operand::Weight]),
        resident: false,
        ..shared
    };
    let node = Node {
        name: "weights".into(),
        parent: Some(NodeId(2)),
        instances: 4,
        kind: NodeKind::Memory(own),
    };
    nodes.insert(3, node);
    nodes[4].parent = Some(NodeId(3));
    nodes[5].parent = Some(NodeId(4));
    chip.nodes = nodes.into_iter().collect::<IdVec<NodeId, Node>>();
    for e in chip.engines.iter_mut() {
        if let EngineKind::Array { compute, .. } = &mut e.kind {
            *compute = NodeId(5);
        }
    }
    chip
}

/// Linear layers of 64 x 64 weights on 64 rows, one behind the other.
fn chain(layers: usize) -> Graph {
    let mut b = Builder::new("chain");
    let mut x = b.input("x", &[64, 64]);
    for i in 0..layers {
        x = b.linear(&format!("l{i}"), x, 64, false).unwrap();
    }
    b.output(x);
    int8(b)
}

fn piped(graph: &Graph, chip: &Chip, objective: Objective) -> (Schedule, Option<Pipeline>) {
    let mut all = schedules(
        graph,
        chip,
        &options(objective),
        &PlanOptions::default(),
        &Memo::default(),
    )
    .unwrap();
    let plain = all.remove(0);
    let pipeline = plain.partition.pipeline.clone();
    (plain, pipeline)
}

#[test]
fn equal_layers_are_equal_stages() {
    let chip = with_buffers(64 << 10);
    let graph = chain(4);
    let (plain, found) = piped(&graph, &chip, Objective::Latency);
    let p = found.unwrap();
    // One layer on one core: 64 rows x 4 x 4 tiles of 16 x 16 weights take 1024 cycles of 1 ns; launch takes 100 ns,
    // fill and drain 32 ns; 3 x 4 KiB cross the buffer at 256 B/ns in far less.
    assert_eq!(p.stages.len(), 4);
    let first = p.stages[0].time.0;
    for (s, op) in p.stages.iter().zip(graph.ops.ids()) {
        assert_eq!(
            (s.cores, s.weights, s.ops.as_slice()),
            (1, Bytes(4096), [op].as_slice())
        );
        assert!(s.time.0 >= 1156e-9 - 1e-15, "{:?}", s.time);
    }
    // Inner layers neither read nor write DRAM, and are equal.
    assert_eq!(p.stages[1].time, p.stages[2].time);
    assert!(p.stages[1].time.0 < 1500e-9, "{:?}", p.stages[1].time);
    let sum: f64 = p.stages.iter().map(|s| s.time.0).sum();
    assert!((p.latency.0 - sum).abs() < 1e-15);
    let longest = p.stages.iter().map(|s| s.time.0).fold(first, f64::max);
    assert_eq!((p.interval.0, p.bound_by), (longest, None));
    assert_eq!(p.executed_macs, 4 * 64 * 64 * 64);
    // Of DRAM an inference needs the first input and the last output, no weights.
    assert!(plain.ops.iter().all(|o| o.execution.is_mapped()));
    let mut dear = chip.clone();
    small::dram(&mut dear).read_energy.0 += 1e-9;
    small::dram(&mut dear).write_energy.0 += 1e-9;
    let more = piped(&graph, &dear, Objective::Latency).1.unwrap();
    let bits = 2.0 * 4096.0 * 8.0;
    let difference = more.energy.0 - p.energy.0;
    assert!(
        (difference - bits * 1e-9).abs() < 1e-6 * difference,
        "{difference}"
    );
}

#[test]
fn a_slow_shared_memory_sets_the_interval() {
    let mut chip = with_buffers(64 << 10);
    let buffer = small::buffer(&mut chip);
    buffer.read_rate.0 = 2e9;
    buffer.write_rate.0 = 2e9;
    let (_, found) = piped(&chain(4), &chip, Objective::Latency);
    let p = found.unwrap();
    // Each layer reads its input of 4 KiB at 2 B/ns at least.
    assert!(
        p.interval.0 >= 3.0 * 4096.0 / 2e9 * (1.0 - 1e-9),
        "{:?}",
        p.interval
    );
    assert_eq!(p.bound_by, Some(Resource::Memory(NodeId(1))));
    assert!(p.stages.iter().all(|s| s.time < p.interval));
}

#[test]
fn there_is_no_pipeline_where_weights_do_not_fit() {
    // Two layers a core need 8 KiB of each; without cores nothing is laid out.
    let fits = |bytes, layers| piped(&chain(layers), &with_buffers(bytes), Objective::Energy).1;
    let tight = fits(8192, 8).unwrap();
    assert!(tight.stages.iter().map(|s| s.ops.len()).sum::<usize>() == 8);
    for s in &tight.stages {
        assert!(s.weights.0 <= 8192 * s.cores);
    }
    assert_eq!(fits(8191, 8), None);
    let mut bound = with_buffers(8192);
    if let NodeKind::Fanout(f) = &mut bound.nodes[NodeId(2)].kind {
        f.dims[0].per_stream = 4;
    }
    assert_eq!(piped(&chain(4), &bound, Objective::Latency).1, None);
    assert_eq!(piped(&chain(4), &four_cores(1), Objective::Latency).1, None);
}

#[test]
fn cuts_make_the_largest_part_small() {
    let chip = with_buffers(64 << 10);
    let cores = Cores::of(&chip).unwrap();
    let buffers = Buffers::of(&chip, cores, NodeId(5)).unwrap();
    assert_eq!(
        (buffers.memory, buffers.room, buffers.per_core),
        (NodeId(3), Bytes(64 << 10), 1)
    );
    let graph = chain(1);
    let einsum = graph.ops.iter().find_map(|o| o.contraction()).unwrap();
    for share in 1..=4 {
        let (part, cuts) = cut(&chip, einsum, &buffers.on(cores, share));
        // 64 rows, 64 outputs or 64 inputs over three cores: 22 is the largest part.
        let points = [64 * 64 * 64, 32 * 64 * 64, 22 * 64 * 64, 16 * 64 * 64][share as usize - 1];
        assert_eq!(part.points(), Some(points));
        let parts: u64 = cuts
            .iter()
            .flat_map(|c| c.parts.iter().map(|p| p.1))
            .product();
        assert_eq!(parts, share);
        // Weights are cut too: fewer of them in each core.
        assert_eq!(crate::touched::touched(&part, &part.inputs[1]), points / 64);
    }
}

#[test]
fn stages_are_balanced_as_well_as_any() {
    let mut seed = 11u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % n
    };
    let mut found = 0;
    for _ in 0..400 {
        let units = 1 + below(6) as usize;
        let all = 1 + below(4);
        let counts: Vec<u64> = (1..=all).collect();
        let room = 10 + below(20);
        let table: Vec<Vec<Choice>> = (0..units)
            .map(|_| {
                let (time, weights) = (1.0 + below(50) as f64, below(16));
                counts
                    .iter()
                    .map(|c| Choice {
                        time: if below(9) == 0 {
                            f64::INFINITY
                        } else {
                            time / *c as f64 + 1.0
                        },
                        weights: weights.div_ceil(*c),
                    })
                    .collect()
            })
            .collect();
        // Longest stage of the best layout of the units from `start` on, with so many cores left.
        fn brute(table: &[Vec<Choice>], room: u64, start: usize, left: u64) -> f64 {
            if start == table.len() {
                return 0.0;
            }
            let mut best = f64::INFINITY;
            for end in start + 1..=table.len() {
                for c in 1..=left {
                    let stage = || table[start..end].iter().map(|t| t[c as usize - 1]);
                    if stage().map(|u| u.weights).sum::<u64>() <= room {
                        let time: f64 = stage().map(|u| u.time).sum();
                        best = best.min(time.max(brute(table, room, end, left - c)));
                    }
                }
            }
            best
        }
        let best = brute(&table, room, 0, all);
        match balance(&table, &counts, all, room) {
            None => assert!(best.is_infinite()),
            Some(stages) => {
                found += 1;
                assert!(stages.iter().map(|s| s.2).sum::<u64>() <= all);
                let time = |s: &(usize, usize, u64)| -> f64 {
                    table[s.0..s.1]
                        .iter()
                        .map(|t| t[s.2 as usize - 1].time)
                        .sum()
                };
                let longest = stages.iter().map(time).fold(0.0, f64::max);
                assert!((longest - best).abs() < 1e-9, "{longest} {best}");
            }
        }
    }
    assert!(found > 150, "{found}");
}

/// Nothing is searched on shares of the cores for a network whose layers fill the array one by one.
#[test]
fn networks_that_cannot_gain_cost_no_search() {
    let chip = presil_hwmodels::load("edge-npu", &[]).unwrap();
    let mut graph = presil_workloads::Model::find("resnet50")
        .unwrap()
        .graph(&presil_workloads::Request::default())
        .unwrap();
    let q = Quantization::from(Format::INT8);
    graph.set_precision(q, q, q);
    let memo = Memo::default();
    let all = schedules(
        &graph,
        &chip,
        &options(Objective::Latency),
        &PlanOptions::default(),
        &memo,
    )
    .unwrap();
    assert_eq!(all.len(), 1);
    assert!(memo.problems() > 10);
    let extra: usize = (0..=4).map(|k| memo.share_problems(k)).sum();
    assert_eq!(extra, 0);
}
