#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use presil_hwmodels::{Chip, FuseGroups, NodeKind};
use presil_numerics::{Bytes, Format, Quantization, Seconds};
use presil_workloads::build::{Attention, Builder, Function, Mask, NormKind};
use presil_workloads::count::op_macs;
use presil_workloads::{Graph, OpId, OpKind, Role, TensorId};

mod halo;

use super::axes::{Group, Kind};
use super::plan::{Cut, Tiling, Way, memories, tile_sizes};
use super::price::Pricing;
use super::step::pieces;
use crate::schedule::residency::{Reserved, Scene, plan};
use crate::schedule::solve::Effort;
use crate::schedule::tests::chip;
use crate::schedule::{
    Memo, PlanOptions, Schedule, ScheduleOptions, engines, schedule_planned, tails,
};
use crate::search::Objective;
use crate::vector::Operands;

fn int8(mut graph: Graph) -> Graph {
    let q = Quantization::from(Format::INT8);
    graph.set_precision(q, q, q);
    graph
}

fn fusing(capacity: u64) -> Chip {
    let mut chip = chip::chip();
    chip.mapspace.fuse_groups = FuseGroups::All;
    chip.mapspace.keep_weights = false;
    if let NodeKind::Memory(m) = &mut chip.nodes[presil_hwmodels::NodeId(1)].kind {
        m.capacity = Bytes(capacity);
    }
    // Without launches small graphs are worth fusing.
    for e in chip.engines.iter_mut() {
        e.launch = Seconds(1e-9);
    }
    chip
}

fn attention(queries: u64, keys: u64, mask: Mask) -> Graph {
    let mut b = Builder::new("attention");
    let a = Attention {
        batch: 1,
        heads: 4,
        kv_heads: 2,
        query_length: queries,
        key_length: keys,
        key_width: 32,
        value_width: 32,
        mask,
    };
    let q = b.input("q", &[1, queries, 128]);
    let k = b.input("k", &[1, keys, 64]);
    let v = b.input("v", &[1, keys, 64]);
    let out = b.attention("a", [q, k, v], &a).unwrap();
    b.output(out);
    int8(b.finish().unwrap())
}

/// Two linears with a function between them.
fn mlp(rows: u64, width: u64, inner: u64) -> Graph {
    let mut b = Builder::new("mlp");
    let x = b.input("x", &[rows, width]);
    let h = b.linear("up", x, inner, false).unwrap();
    let h = b.norm("norm", h, NormKind::Rms, false, false).unwrap();
    let y = b.linear("down", h, width, false).unwrap();
    b.output(y);
    int8(b.finish().unwrap())
}

/// Runs `f` with the scene of a graph, everything at home where the plan has it.
fn with<T>(graph: &Graph, chip: &Chip, f: impl FnOnce(&Pricing, &[OpId]) -> T) -> T {
    let base = tails::bases(graph);
    let choices: Vec<engines::Choice> = graph
        .ops
        .iter()
        .map(|op| {
            let [inputs, outputs] =
                crate::schedule::operands::stored_operands(graph, op, |_| chip.root());
            let operands = Operands {
                inputs: &inputs,
                outputs: &outputs,
            };
            engines::choose(chip, graph, op, operands)
        })
        .collect();
    let tails = tails::find(chip, graph, &choices, &base);
    let scene = Scene {
        chip,
        graph,
        base: &base,
        choices: &choices,
        tails: &tails,
    };
    let residency = plan(&scene, Objective::Latency, Bytes(1), &Reserved::default());
    let options = ScheduleOptions {
        objective: Objective::Latency,
        accumulate: None,
    };
    let memo = Memo::default();
    let pricing = Pricing {
        scene: &scene,
        residency: &residency,
        options: &options,
        memo: &memo,
        effort: Effort::Quick,
        reserved: false,
    };
    let roots: Vec<OpId> = graph
        .ops
        .iter_ids()
        .filter(|(id, op)| op.kind != OpKind::View && tails.into[id.0 as usize].is_none())
        .map(|(id, _)| id)
        .collect();
    f(&pricing, &roots)
}

/// Tiles without rows that slide.
fn plain(tiles: &[u64]) -> Cut {
    Cut {
        tiles: tiles.to_vec(),
        kept: None,
    }
}

fn kinds(group: &Group) -> Vec<(String, u64, Kind)> {
    let mut list: Vec<(String, u64, Kind)> = group
        .axes
        .iter()
        .filter(|a| a.size > 1)
        .map(|a| (a.name.clone(), a.size, a.kind))
        .collect();
    list.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(&b.1)));
    list
}

#[test]
fn attention_has_one_axis_for_heads_and_rows_and_keys_that_go_online() {
    let graph = attention(48, 80, Mask::Full);
    with(&graph, &fusing(1 << 20), |p, roots| {
        let group = Group::of(p.scene, roots).unwrap();
        let expected = [
            ("g", 2, Kind::Free),
            ("k", 32, Kind::Fixed),
            ("k", 32, Kind::Fixed),
            ("m", 48, Kind::Free),
            ("n", 80, Kind::Online),
            ("u", 2, Kind::Free),
        ];
        let expected: Vec<(String, u64, Kind)> = expected
            .into_iter()
            .map(|(n, s, k)| (n.to_string(), s, k))
            .collect();
        assert_eq!(kinds(&group), expected);
        assert_eq!(group.inner.len(), 2);
        // Scores alone with their softmax: keys are read again, they can be no loop.
        let two = Group::of(p.scene, &roots[..2]).unwrap();
        assert!(two.axes.iter().all(|a| a.kind != Kind::Online));
    });
}

#[test]
fn a_matmul_behind_another_may_sum_over_what_the_first_makes() {
    let mut b = Builder::new("two");
    let x = b.input("x", &[64, 32]);
    let h = b.linear("up", x, 96, false).unwrap();
    let y = b.linear("down", h, 32, false).unwrap();
    b.output(y);
    let graph = int8(b.finish().unwrap());
    with(&graph, &fusing(1 << 20), |p, roots| {
        let group = Group::of(p.scene, roots).unwrap();
        let of = |size| {
            let axes = group.axes.iter().filter(|a| a.size == size);
            axes.map(|a| a.kind).collect::<Vec<Kind>>()
        };
        assert_eq!(of(64), [Kind::Free]);
        assert_eq!(of(96), [Kind::Sum]);
        assert!(of(32).iter().all(|k| *k == Kind::Fixed));
    });
}

/// Scores pair each row of a sequence with all others: no loop over the rows may cut both.
#[test]
fn queries_and_keys_of_one_sequence_are_not_cut_together() {
    let mut b = Builder::new("self-attention");
    let a = Attention {
        batch: 1,
        heads: 2,
        kv_heads: 2,
        query_length: 48,
        key_length: 48,
        key_width: 32,
        value_width: 32,
        mask: Mask::Full,
    };
    let x = b.input("x", &[1, 48, 64]);
    let x = b.norm("norm", x, NormKind::Rms, false, false).unwrap();
    let q = b.linear("q", x, 64, false).unwrap();
    let k = b.linear("k", x, 64, false).unwrap();
    let s = b.attention_scores("scores", q, k, &a).unwrap();
    b.output(s);
    let graph = int8(b.finish().unwrap());
    with(&graph, &fusing(1 << 20), |p, roots| {
        let group = Group::of(p.scene, roots).unwrap();
        let rows = group.axes.iter().find(|a| a.size == 48).unwrap();
        assert_eq!(rows.kind, Kind::Fixed);
        // Without the keys they are free.
        let group = Group::of(p.scene, &roots[2..]);
        let free = |g: &Group| g.axes.iter().any(|a| a.size == 48 && a.kind == Kind::Free);
        assert!(group.is_none_or(|g| free(&g)));
    });
}

/// Whatever the mask and the tiles: MACs, scores and rows over all iterations are those of the whole ops.
#[test]
fn iterations_add_up_to_the_ops() {
    let masks = [
        Mask::Full,
        Mask::Causal { past: 0 },
        Mask::Causal { past: 16 },
        Mask::Sliding { past: 0, window: 9 },
        Mask::Sliding {
            past: 16,
            window: 20,
        },
    ];
    let mut checked = 0;
    for mask in masks {
        let keys = match mask {
            Mask::Causal { past } | Mask::Sliding { past, .. } => 48 + past,
            Mask::Full => 40,
        };
        let graph = attention(48, keys, mask);
        with(&graph, &fusing(1 << 20), |p, roots| {
            let group = Group::of(p.scene, roots).unwrap();
            let axis = |name: &str| group.axes.iter().position(|a| a.name == name).unwrap();
            for (m, n) in [
                (48, keys),
                (16, keys),
                (12, keys),
                (7, keys),
                (1, keys),
                (16, 16),
                (12, 24),
                (48, 16),
                (10, 7),
            ] {
                let mut tiles: Vec<u64> = group.axes.iter().map(|a| a.size).collect();
                tiles[axis("m")] = m;
                tiles[axis("n")] = n.min(keys);
                tiles[axis("g")] = 1;
                let Some(_) = pieces(&group, &tiles, &[], false) else {
                    continue;
                };
                checked += 1;
                let tiling = Tiling::new(p.scene, &group, &plain(&tiles), None, false).unwrap();
                for (member, id) in group.ops.iter().enumerate() {
                    let at = OpId(member as u32);
                    let macs: u128 = tiling
                        .pieces
                        .iter()
                        .map(|(piece, step)| op_macs(&step.graph, at).1 * u128::from(piece.weight))
                        .sum();
                    assert_eq!(macs, op_macs(&graph, *id).1, "{mask:?} {m} {n}");
                    let OpKind::Cascade(whole) = &graph.ops[*id].kind else {
                        panic!()
                    };
                    let exponentials: u64 = tiling
                        .pieces
                        .iter()
                        .map(|(piece, step)| {
                            let OpKind::Cascade(list) = &step.graph.ops[at].kind else {
                                panic!()
                            };
                            let e = list.get(1).unwrap_or(&list[0]);
                            piece.weight * e.executed_points().unwrap()
                        })
                        .sum();
                    let e = whole.get(1).unwrap_or(&whole[0]);
                    assert_eq!(
                        exponentials,
                        e.executed_points().unwrap(),
                        "{mask:?} {m} {n}"
                    );
                }
            }
        });
    }
    assert!(checked > 25, "{checked}");
}

fn options(objective: Objective) -> ScheduleOptions {
    ScheduleOptions {
        objective,
        accumulate: None,
    }
}

fn scheduled(graph: &Graph, chip: &Chip, objective: Objective, fuse: bool) -> Schedule {
    let plan = PlanOptions {
        fuse,
        ..PlanOptions::default()
    };
    schedule_planned(graph, chip, &options(objective), &plan, &Memo::default()).unwrap()
}

fn total(s: &Schedule) -> f64 {
    s.ops.iter().map(|o| o.cost.time.0).sum()
}

/// Bits of the root memory, read and written.
fn root_bits(s: &Schedule) -> (f64, f64) {
    let counts = s.ops.iter().flat_map(|o| &o.cost.counts);
    let own = counts.filter(|c| c.memory == presil_hwmodels::NodeId(0));
    own.fold((0.0, 0.0), |(r, w), c| (r + c.read_bits, w + c.write_bits))
}

/// A walk over the loops of a way with a buffer that has what it was told to hold: bits fetched by each operand.
fn walked(
    tiling: &Tiling,
    way: &Way,
    axes: &[usize],
    group: &Group,
    bits: f64,
    elements: u64,
) -> f64 {
    let mut at = vec![0u64; way.loops.len()];
    let mut held: Option<Vec<(usize, u64)>> = None;
    let mut fetched = 0.0;
    loop {
        let index: Vec<(usize, u64)> = way
            .loops
            .iter()
            .zip(&at)
            .filter(|(l, _)| axes.contains(&l.axis))
            .map(|(l, i)| (l.axis, *i))
            .collect();
        if held.as_ref() != Some(&index) {
            // The tile's share of the operand.
            let share: f64 = axes
                .iter()
                .map(|a| {
                    let size = group.axes[*a].size;
                    let tile = tiling.cut.tiles[*a];
                    let i = index.iter().find(|x| x.0 == *a).map_or(0, |x| x.1);
                    tile.min(size - i * tile) as f64 / size as f64
                })
                .product();
            fetched += share * elements as f64 * bits;
            held = Some(index);
        }
        let mut l = way.loops.len();
        loop {
            if l == 0 {
                return fetched;
            }
            l -= 1;
            at[l] += 1;
            if at[l] < way.loops[l].trips {
                break;
            }
            at[l] = 0;
        }
    }
}

#[test]
fn what_is_held_is_fetched_as_a_buffer_would() {
    let graph = attention(48, 40, Mask::Full);
    with(&graph, &fusing(1 << 20), |p, roots| {
        let group = Group::of(p.scene, roots).unwrap();
        let axis = |name: &str| group.axes.iter().position(|a| a.name == name).unwrap();
        let mut tiles: Vec<u64> = group.axes.iter().map(|a| a.size).collect();
        tiles[axis("m")] = 20;
        tiles[axis("g")] = 1;
        tiles[axis("u")] = 1;
        let tiling = Tiling::new(p.scene, &group, &plain(&tiles), None, true).unwrap();
        assert_eq!(tiling.outside.len(), 3);
        let mut seen = std::collections::BTreeSet::new();
        for loops in tiling.orders() {
            let way = Way {
                memory: presil_hwmodels::NodeId(1),
                loops,
                held: Vec::new(),
            };
            for o in &tiling.outside {
                let expected = walked(&tiling, &way, &o.axes, &group, o.bits, o.elements);
                let counted = way.rounds(&o.axes) as f64 * o.elements as f64 * o.bits;
                assert!(
                    (expected - counted).abs() <= 1e-9 * expected,
                    "{expected} {counted}"
                );
                seen.insert(way.rounds(&o.axes));
            }
        }
        assert_eq!(tiling.orders().len(), 6);
        assert!(seen.len() > 2, "{seen:?}");
    });
}

/// A fixed sequence of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n.max(1)
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// Random ways of random groups against what any hardware must do: all MACs; each operand that is held as often as a
/// walk over the loops fetches it, each that is streamed at least as often as its tiles change; outputs once; no time
/// below what the array's peak and the root memory's rate allow; no energy below that of those words.
#[test]
fn prices_of_random_ways_cover_what_a_walk_counts() {
    let mut numbers = Numbers(11);
    let (mut priced, mut all_held) = (0, 0);
    for case in 0..40 {
        let graph = match case % 4 {
            0 => mlp(numbers.of(&[96, 100, 256]), 32, numbers.of(&[48, 64, 100])),
            1 => two(numbers.of(&[64, 90]), numbers.of(&[96, 60])),
            2 => attention(numbers.of(&[24, 48]), numbers.of(&[40, 64]), Mask::Full),
            _ => {
                let past = numbers.of(&[0, 16]);
                attention(48, 48 + past, Mask::Causal { past })
            }
        };
        let chip = fusing(256 << 10);
        with(&graph, &chip, |p, roots| {
            let group = Group::of(p.scene, roots).unwrap();
            let memory = memories(p.scene, &group)[0];
            for _ in 0..6 {
                let size = |a: &super::axes::Axis| match a.kind {
                    Kind::Fixed => vec![a.size],
                    _ => tile_sizes(a.size),
                };
                let sizes: Vec<Vec<u64>> = group.axes.iter().map(size).collect();
                let tiles: Vec<u64> = sizes
                    .iter()
                    .map(|s| s[numbers.below(s.len().min(6))])
                    .collect();
                let Some(tiling) = Tiling::new(p.scene, &group, &plain(&tiles), None, false) else {
                    continue;
                };
                let orders = tiling.orders();
                let set = numbers.below(1 << (tiling.outside.len() + 1));
                let held = |i: usize| set >> tiling.outside.len() & 1 == 1 || set >> i & 1 == 1;
                let way = Way {
                    memory,
                    loops: orders[numbers.below(orders.len())].clone(),
                    held: (0..tiling.outside.len())
                        .filter(|i| held(*i))
                        .map(|i| tiling.outside[i].tensor)
                        .collect(),
                };
                if p.room(&group, &tiling, &way) <= 0.0 {
                    continue;
                }
                let Some(found) = p.price(&group, &tiling, &way) else {
                    continue;
                };
                priced += 1;
                all_held += u32::from(way.held.len() == tiling.outside.len());
                covers(p, &group, &tiling, &way, &found);
            }
        });
    }
    assert!(priced > 100 && all_held > 30, "{priced} {all_held}");
}

/// Two linears.
fn two(rows: u64, inner: u64) -> Graph {
    let mut b = Builder::new("two");
    let x = b.input("x", &[rows, 32]);
    let h = b.linear("up", x, inner, false).unwrap();
    let y = b.linear("down", h, 32, false).unwrap();
    b.output(y);
    int8(b.finish().unwrap())
}

/// Everything that is there at one time fits into a group's memory.
fn fits(
    p: &Pricing,
    group: &Group,
    tiling: &Tiling,
    way: &Way,
    found: &super::price::Priced,
    what: &str,
) {
    let live = tiling.live(p.scene, group, way);
    let capacity = p.scene.chip.nodes[way.memory].memory().unwrap().capacity.0;
    for member in 0..group.ops.len() {
        let now = live.iter().filter(|l| (l.2..=l.3).contains(&member));
        let tiles: u64 = found.tiles[member]
            .iter()
            .filter(|t| t.memory == way.memory)
            .map(|t| t.bytes * t.copies)
            .sum();
        assert!(now.map(|l| l.1).sum::<u64>() + tiles <= capacity, "{what}");
    }
}

fn covers(p: &Pricing, group: &Group, tiling: &Tiling, way: &Way, found: &super::price::Priced) {
    let scene = p.scene;
    let (chip, root) = (scene.chip, scene.chip.root());
    let what = format!("{} {:?} {:?}", scene.graph.name, way, tiling.cut);
    let macs = |o: &OpId| op_macs(scene.graph, *o).1;
    let executed: u128 = group.ops.iter().map(macs).sum();
    let counted: u128 = found.ops.iter().map(|o| o.cost.executed_macs).sum();
    assert_eq!(counted, executed, "{what}");
    let counts = || found.ops.iter().flat_map(|o| &o.cost.counts);
    let own = || counts().filter(|c| c.memory == root);
    let read: f64 = own().map(|c| c.read_bits).sum();
    let written: f64 = own().map(|c| c.write_bits).sum();
    let mut fetched = 0.0;
    for o in &tiling.outside {
        fetched += match way.held.contains(&o.tensor) || group.mask.is_none() {
            true => walked(tiling, way, &o.axes, group, o.bits, o.elements),
            // Under a mask a stream may leave tiles out.
            false => o.bits * o.elements as f64,
        };
    }
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b;
    assert!(
        read >= fetched * (1.0 - 1e-9),
        "{what}: {read} of {fetched}"
    );
    if way.held.len() == tiling.outside.len() {
        assert!(close(read, fetched), "{what}: {read} for {fetched}");
    }
    let last = *group.ops.last().unwrap();
    let out = &scene.graph.tensors[scene.output_of(last).unwrap()];
    assert!(close(written, out.bits().0 as f64), "{what}: {written}");
    let peak = crate::schedule::peak_macs_per_second(scene.graph, chip);
    let compute = executed as f64 / peak;
    let port = crate::ledger::port_time(chip, root, read, written).0;
    assert!(
        found.time >= compute * (1.0 - 1e-9),
        "{what}: {}",
        found.time
    );
    assert!(
        found.time >= port * (1.0 - 1e-9),
        "{what}: {} {port}",
        found.time
    );
    let m = chip.nodes[root].memory().unwrap();
    let least = read * m.read_energy.0 + written * m.write_energy.0;
    assert!(found.energy >= least * (1.0 - 1e-9), "{what}");
    fits(p, group, tiling, way, found, &what);
}

/// Root memory traffic of a fused pair, by hand: the input and both weights once, the output once, nothing else.
#[test]
fn a_fused_pair_moves_only_its_ends() {
    let (rows, width, inner) = (4096u64, 64u64, 256u64);
    let graph = mlp(rows, width, inner);
    let chip = fusing(256 << 10);
    let plain = scheduled(&graph, &chip, Objective::Latency, false);
    let fused = scheduled(&graph, &chip, Objective::Latency, true);
    assert_eq!(fused.groups.len(), 1, "{:?}", fused.groups);
    let group = &fused.groups[0];
    assert_eq!(group.ops.len(), 3);
    let (read, written) = root_bits(&fused);
    let ends = 8.0 * (rows * width) as f64;
    assert!((written - ends).abs() <= 1e-6 * ends, "{written}");
    // Weights are held, or streamed in each iteration.
    let weights = 8.0 * 2.0 * (width * inner) as f64;
    let least = ends + weights;
    let most = ends + weights * group.iterations as f64;
    assert!(
        read >= least * (1.0 - 1e-9) && read <= most * (1.0 + 1e-9),
        "{read} {least} {most}"
    );
    assert!(total(&fused) < total(&plain));
    let macs = |s: &Schedule| s.ops.iter().map(|o| o.cost.executed_macs).sum::<u128>();
    assert_eq!(macs(&fused), macs(&plain));
    // Nothing of the intermediates is left as a tensor; their tiles are in the plan.
    let regions = &fused.memory.memories[0].regions;
    let tile = |t: &TensorId| {
        let holds = crate::schedule::memory_plan::Holds::GroupTile(*t);
        regions.iter().any(|r| r.holds == holds)
    };
    assert!(group.tiles.iter().all(|(t, _)| tile(t)) && !group.tiles.is_empty());
    let spilled = |t: &TensorId| fused.memory.spills.iter().any(|s| s.tensor == *t);
    assert!(!group.tiles.iter().any(|(t, _)| spilled(t)));
}

/// Every way of every run, priced, against what the bounds let through.
#[test]
fn the_choice_is_near_the_best_of_all_ways() {
    let cases = [
        (mlp(1024, 64, 128), fusing(64 << 10)),
        (attention(48, 64, Mask::Full), fusing(16 << 10)),
        (
            attention(48, 48, Mask::Causal { past: 0 }),
            fusing(16 << 10),
        ),
    ];
    for (graph, chip) in cases {
        with(&graph, &chip, |p, roots| {
            let alone = scheduled(&graph, &chip, Objective::Latency, false);
            let order: Vec<OpId> = graph.ops.ids().collect();
            let chosen = super::choose(p, &order, &alone.ops, |_| false);
            let mut of_group: Vec<(usize, usize, f64)> = Vec::new();
            for from in 0..roots.len() {
                for to in from + 2..=roots.len() {
                    if let Some(best) = brute(p, &roots[from..to]) {
                        of_group.push((from, to, best));
                    }
                }
            }
            let mut least = vec![0.0f64];
            for end in 1..=roots.len() {
                let single = least[end - 1] + alone.ops[roots[end - 1]].cost.time.0;
                let grouped = of_group
                    .iter()
                    .filter(|g| g.1 == end)
                    .map(|g| least[g.0] + g.2);
                least.push(grouped.fold(single, f64::min));
            }
            let best = least[roots.len()];
            let inside: Vec<OpId> = chosen.iter().flat_map(|c| c.group.ops.clone()).collect();
            let outside = roots.iter().filter(|r| !inside.contains(r));
            let found: f64 = outside.map(|r| alone.ops[*r].cost.time.0).sum::<f64>()
                + chosen.iter().map(|c| c.priced.time).sum::<f64>();
            assert!(!of_group.is_empty() && !chosen.is_empty(), "{}", graph.name);
            assert!(
                found >= best * (1.0 - 1e-9),
                "{}: {found} below {best}",
                graph.name
            );
            // Short searches rank the ways, not all tilings are looked at, and half a percent is given up for energy: the
            // choice is no optimum. Attention with full rows is 2.2 % above it, the others less than 0.2 %.
            assert!(
                found <= best * 1.03,
                "{}: {found} against {best}",
                graph.name
            );
        });
    }
}

/// The least time of all ways to run a group.
fn brute(p: &Pricing, roots: &[OpId]) -> Option<f64> {
    let group = Group::of(p.scene, roots)?;
    let mut best: Option<f64> = None;
    let mut all: Vec<Vec<u64>> = vec![Vec::new()];
    for a in &group.axes {
        let sizes = match a.kind {
            Kind::Fixed => vec![a.size],
            // Smaller tiles only add iterations.
            _ => tile_sizes(a.size)
                .into_iter()
                .filter(|t| *t * 8 >= a.size)
                .collect(),
        };
        let longer = |t: &Vec<u64>, s: &u64| t.iter().copied().chain([*s]).collect::<Vec<u64>>();
        all = all
            .iter()
            .flat_map(|t| sizes.iter().map(move |s| longer(t, s)))
            .collect();
    }
    for memory in memories(p.scene, &group) {
        for tiles in &all {
            let Some(tiling) = Tiling::new(p.scene, &group, &plain(tiles), None, true) else {
                continue;
            };
            // Without a loop it is no group: nothing but another home for what passes.
            for loops in tiling.orders().into_iter().filter(|o| !o.is_empty()) {
                for set in 0..1usize << tiling.outside.len() {
                    let held = tiling
                        .outside
                        .iter()
                        .enumerate()
                        .filter(|(i, _)| set >> i & 1 == 1);
                    let way = Way {
                        memory,
                        loops: loops.clone(),
                        held: held.map(|(_, o)| o.tensor).collect(),
                    };
                    if p.room(&group, &tiling, &way) <= 0.0 {
                        continue;
                    }
                    if let Some(priced) = p.price(&group, &tiling, &way) {
                        best = Some(best.map_or(priced.time, |b| b.min(priced.time)));
                    }
                }
            }
        }
    }
    best
}

/// Whether the group of all three ops of an attention needs the rewrite, where there is one.
fn rewritten(graph: &Graph, capacity: u64) -> Option<bool> {
    let s = scheduled(graph, &fusing(capacity), Objective::Latency, true);
    let whole = s.groups.iter().find(|g| g.ops.len() == 3);
    whole.map(|g| g.rewrite.is_some())
}

#[test]
fn keys_go_online_where_rows_do_not_fit_and_not_where_they_do() {
    // A row of scores and one of probabilities: 128 KiB.
    let long = attention(64, 65536, Mask::Full);
    assert_eq!(rewritten(&long, 96 << 10), Some(true));
    // Where half of all scores fit, rows do.
    let short = attention(2048, 256, Mask::Full);
    assert_eq!(rewritten(&short, 512 << 10), Some(false));
}

#[test]
fn sigmoid_attention_sums_over_keys_without_a_state() {
    let mut b = Builder::new("sigmoid");
    let a = Attention {
        batch: 1,
        heads: 2,
        kv_heads: 2,
        query_length: 512,
        key_length: 16384,
        key_width: 32,
        value_width: 32,
        mask: Mask::Full,
    };
    let q = b.input("q", &[1, 512, 64]);
    let k = b.input("k", &[1, 16384, 64]);
    let v = b.input("v", &[1, 16384, 64]);
    let s = b.attention_scores("scores", q, k, &a).unwrap();
    let p = b.function("sigmoid", s, Function::Sigmoid).unwrap();
    let out = b.attention_values("values", p, v, &a).unwrap();
    b.output(out);
    let graph = int8(b.finish().unwrap());
    // Not a row of scores fits.
    let chip = fusing(8 << 10);
    with(&graph, &chip, |p, roots| {
        let group = Group::of(p.scene, roots).unwrap();
        let keys = group.axes.iter().find(|a| a.size == 16384).unwrap();
        assert_eq!(keys.kind, Kind::Sum);
    });
    let s = scheduled(&graph, &chip, Objective::Latency, true);
    assert_eq!(s.groups.len(), 1);
    let over_keys = |l: &crate::schedule::SharedLoop| l.trips * l.tile >= 16384;
    assert!(s.groups[0].rewrite.is_none() && s.groups[0].loops.iter().any(over_keys));
}

#[test]
fn nothing_is_fused_where_everything_fits_or_a_compiler_does_not() {
    let graph = mlp(64, 64, 128);
    let fits = scheduled(&graph, &fusing(1 << 20), Objective::Latency, true);
    assert!(fits.groups.is_empty());
    let mut chip = fusing(64 << 10);
    chip.mapspace.fuse_groups = FuseGroups::None;
    let graph = mlp(4096, 64, 256);
    assert!(
        scheduled(&graph, &chip, Objective::Latency, true)
            .groups
            .is_empty()
    );
}

#[test]
fn a_compiler_of_attention_fuses_nothing_else() {
    let fused = |graph: &Graph, groups: FuseGroups| {
        let mut chip = fusing(512 << 10);
        chip.mapspace.fuse_groups = groups;
        scheduled(graph, &chip, Objective::Latency, true).groups
    };
    let mlp = mlp(8192, 64, 512);
    assert!(!fused(&mlp, FuseGroups::All).is_empty());
    assert!(fused(&mlp, FuseGroups::Attention).is_empty());
    let attention = attention(2048, 256, Mask::Full);
    let groups = fused(&attention, FuseGroups::Attention);
    let [group] = groups.as_slice() else {
        panic!("{groups:?}");
    };
    let product = |id: &&OpId| attention.ops[**id].contraction().is_some();
    assert_eq!(group.ops.iter().filter(product).count(), 2);
}

#[test]
fn a_group_is_launched_once_or_for_each_op_of_each_tile() {
    let graph = mlp(4096, 64, 256);
    let mut chip = fusing(256 << 10);
    for e in chip.engines.iter_mut() {
        e.launch = Seconds(20e-6);
    }
    chip.mapspace.launch_groups_once = true;
    let once = scheduled(&graph, &chip, Objective::Latency, true);
    assert_eq!(once.groups.len(), 1);
    let plain = scheduled(&graph, &chip, Objective::Latency, false);
    let latency = |s: &Schedule| s.ops.iter().map(|o| o.cost.latency.0).sum::<f64>();
    assert!(latency(&once) < latency(&plain) - 30e-6);
    chip.mapspace.launch_groups_once = false;
    let each = scheduled(&graph, &chip, Objective::Latency, true);
    for g in &each.groups {
        let launches = 20e-6 * 2.0 * g.iterations as f64;
        assert!(latency(&each) >= launches, "{} iterations", g.iterations);
    }
    assert!(total(&each) >= total(&once));
}

#[test]
fn role_of_a_leaving_tensor_is_kept() {
    let graph = mlp(128, 16, 32);
    with(&graph, &fusing(1 << 20), |p, roots| {
        let group = Group::of(p.scene, roots).unwrap();
        let tiles: Vec<u64> = group.axes.iter().map(|a| a.size).collect();
        let tiling = Tiling::new(p.scene, &group, &plain(&tiles), None, false).unwrap();
        let roles: Vec<Role> = tiling
            .largest
            .graph
            .tensors
            .iter()
            .map(|t| t.role)
            .collect();
        assert_eq!(roles.iter().filter(|r| **r == Role::Output).count(), 1);
        assert_eq!(roles.iter().filter(|r| **r == Role::Activation).count(), 2);
    });
}
