#![expect(clippy::unwrap_used, reason = "tests")]

use presil_numerics::ids::Id;
use presil_workloads::einsum::Place;
use presil_workloads::{Access, Affine, Dim, DimId, Domain, Einsum, MapOperator, ReduceOperator};
use proptest::prelude::*;

use super::timing::{borrow, open};
use super::*;
use crate::conventions::{Convention, evaluate as evaluate_in};
use crate::hierarchy::{Axis, ComputeLevel, FanoutLevel, Level, Mask, MemoryLevel};
use crate::looptree::Node;

fn einsum(dims: &[(&str, u64)], inputs: Vec<Access>, output: Access) -> Einsum {
    Einsum {
        dims: dims
            .iter()
            .map(|(name, size)| Dim {
                name: (*name).into(),
                size: *size,
            })
            .collect(),
        inputs,
        output,
        map: MapOperator::MultiplyAccumulate,
        reduce: ReduceOperator::Sum,
        domain: Domain::Dense,
    }
}

fn access(place: Place, ranks: &[(&[(u32, i64)], u64)]) -> Access {
    Access {
        place,
        ranks: ranks
            .iter()
            .map(|(terms, _)| Affine {
                terms: terms.iter().map(|(d, c)| (DimId(*d), *c)).collect(),
                offset: 0,
            })
            .collect(),
        extents: ranks.iter().map(|r| r.1).collect(),
    }
}

/// `O[b, k] = sum_c I[b, c] W[c, k]`, dimensions b, c, k.
fn gemm(b: u64, c: u64, k: u64) -> Einsum {
    einsum(
        &[("b", b), ("c", c), ("k", k)],
        vec![
            access(Place::Input(0), &[(&[(0, 1)], b), (&[(1, 1)], c)]),
            access(Place::Input(1), &[(&[(1, 1)], c), (&[(2, 1)], k)]),
        ],
        access(Place::Output(0), &[(&[(0, 1)], b), (&[(2, 1)], k)]),
    )
}

const I: usize = 0;
const W: usize = 1;
const O: usize = 2;

fn port(
    name: &str,
    width: f64,
    least: f64,
    price: [f64; 2],
    carries: &[(usize, Transfer)],
) -> Port {
    Port {
        name: name.into(),
        read_rate: width,
        write_rate: width,
        granule: least,
        access_energy: Some(price),
        carries: carries.to_vec(),
    }
}

fn memory(name: &str, capacity: f64, ports: Vec<Port>) -> Level {
    let mut m = MemoryLevel::unlimited(name, 3, 8.0);
    m.bits[O] = 16.0;
    m.final_bits = Some(8.0);
    m.capacity = capacity;
    m.ports = ports;
    Level::Memory(m)
}

fn axis(name: &str, size: u64, systolic: bool) -> Axis {
    Axis {
        name: name.into(),
        size,
        shares: Mask::ALL,
        shares_overlap: Mask::NONE,
        must_share: Mask::NONE,
        accepts: Mask::ALL,
        min_usage: 0.0,
        systolic,
    }
}

fn array(axes: Vec<Axis>) -> Level {
    Level::Fanout(FanoutLevel {
        name: "array".into(),
        hop_energy: 0.0,
        axes,
    })
}

fn mac() -> Level {
    Level::Compute(ComputeLevel {
        name: "mac".into(),
        energy: 0.5,
        rate: 1.0,
        leakage: 0.0,
    })
}

fn hierarchy(levels: Vec<Level>) -> Hierarchy {
    Hierarchy {
        name: "test".into(),
        levels,
    }
}

use Transfer::{FromAbove, FromBelow, ToAbove, ToBelow};

/// DRAM with one port of 16 bits, two instances along a systolic axis, an output register in each.
fn two_registers() -> Hierarchy {
    let all = [(I, ToBelow), (W, ToBelow), (O, FromBelow), (O, ToBelow)];
    let own = |name, t| port(name, 16.0, 16.0, [1.0, 2.0], &[(O, t)]);
    hierarchy(vec![
        memory("dram", 1e9, vec![port("rw", 16.0, 8.0, [10.0, 20.0], &all)]),
        array(vec![axis("x", 2, true)]),
        memory(
            "reg",
            16.0,
            vec![
                own("in", FromAbove),
                own("out", ToAbove),
                own("sum out", ToBelow),
                own("sum in", FromBelow),
            ],
        ),
        mac(),
    ])
}

fn keep(level: usize, operand: usize) -> Node {
    Node::Keep { level, operand }
}

fn time(dim: u32, tile: u64) -> Node {
    Node::Temporal {
        dim: DimId(dim),
        tile,
    }
}

fn space(level: usize, axis: usize, dim: u32, tile: u64) -> Node {
    Node::Spatial {
        level,
        axis,
        dim: DimId(dim),
        tile,
    }
}

fn tree(nodes: &[Node]) -> LoopTree {
    LoopTree {
        nodes: nodes.to_vec(),
    }
}

/// Rows outside, k across the array, c inside the registers.
fn by_rows() -> LoopTree {
    tree(&[
        keep(0, I),
        keep(0, W),
        keep(0, O),
        time(0, 1),
        space(1, 0, 2, 1),
        keep(2, O),
        time(1, 1),
    ])
}

fn level(r: &Report, operand: usize, level: usize) -> &LevelReport {
    let mut levels = r.levels.iter();
    levels
        .find(|l| (l.operand, l.level) == (operand, level))
        .unwrap()
}

/// 4 rows of 2 x 2 products, in 8 cycles. Each cycle reads one input (8 of 16 bits: half a word) and two weights (a
/// word). A register reads and writes its partial sum each cycle, and hands 8 bits of result up every 2 cycles; two
/// of those make a word of DRAM.
#[test]
fn words_of_a_small_product() {
    let r = report(&gemm(4, 2, 2), &two_registers(), &by_rows()).unwrap();
    // From above, to above, to below, from below.
    assert_eq!(level(&r, I, 0).words, [0.0, 0.0, 4.0, 0.0]);
    assert_eq!(level(&r, W, 0).words, [0.0, 0.0, 8.0, 0.0]);
    assert_eq!(level(&r, O, 2).words, [0.0, 8.0, 16.0, 16.0]);
    assert_eq!(level(&r, O, 0).words, [0.0, 0.0, 0.0, 4.0]);
    assert_eq!(level(&r, O, 0).elements, [0.0, 0.0, 0.0, 8.0]);
    let dram = 4.0 * 10.0 + 8.0 * 10.0 + 4.0 * 20.0;
    let registers = (8.0 + 16.0) * 1.0 + 16.0 * 2.0;
    assert_eq!(r.memory_energy(), dram + registers);
    assert_eq!(r.operation_energy, 16.0 * 0.5);
    assert_eq!(level(&r, O, 2).utilization, 8.0 / 16.0);
    assert_eq!(level(&r, W, 0).utilization, 4.0 * 8.0 / 1e9);
}

/// On the DRAM port, inputs and weights take every cycle (1 of 1, 8 times: windows of 7 each), results 1 of 2 cycles
/// (a half-full register is double-buffered), 4 times: spare 3, windows 6. All cycles are open, so
/// `max(0, 7 + 7 + 6 - 3 - 8) = 9`. The last result leaves the array a cycle after its neighbour, and is stored in one.
#[test]
fn stalls_of_a_small_product() {
    let r = report(&gemm(4, 2, 2), &two_registers(), &by_rows()).unwrap();
    assert_eq!(r.computation, 8.0);
    let stalls: Vec<f64> = r.ports.iter().map(|p| p.stall).collect();
    assert_eq!(stalls, [9.0, 0.0, -3.0, 0.0, 0.0]);
    let parts = (r.stall, r.onloading, r.offloading, r.systolic_drain);
    assert_eq!(parts, (9.0, 0.0, 1.0, 1.0));
    assert_eq!(r.cycles(), 19.0);
    assert_eq!(r.ideal, 8.0);
}

/// With c outside, partial sums go to DRAM and come back, all 8 times, 16 bits each, and the registers hold 16 bits.
#[test]
fn partial_sums_come_back_every_time() {
    let nodes = [
        keep(0, I),
        keep(0, W),
        keep(0, O),
        time(1, 1),
        time(0, 1),
        space(1, 0, 2, 1),
        keep(2, O),
    ];
    let r = report(&gemm(4, 2, 2), &two_registers(), &tree(&nodes)).unwrap();
    assert_eq!(level(&r, O, 2).words, [16.0, 16.0, 16.0, 16.0]);
    assert_eq!(level(&r, O, 0).words, [0.0, 0.0, 16.0, 16.0]);
    assert_eq!(level(&r, O, 2).utilization, 1.0);
    // Weights do not depend on b, which runs innermost: read twice.
    assert_eq!(level(&r, W, 0).words, [0.0, 0.0, 2.0, 0.0]);
}

/// All weights wait in a buffer of their own: 4 x 8 bits over ports of 16 take 2 cycles before the start. Its link
/// shares DRAM's port with the inputs.
#[test]
fn a_first_load_is_visible() {
    let mut machine = two_registers();
    let own = |name, t| port(name, 16.0, 16.0, [3.0, 4.0], &[(W, t)]);
    let buffer = memory(
        "buffer",
        64.0,
        vec![own("in", FromAbove), own("out", ToBelow)],
    );
    machine.levels.insert(1, buffer);
    let nodes = [
        keep(0, I),
        keep(0, W),
        keep(0, O),
        keep(1, W),
        time(0, 1),
        space(2, 0, 2, 1),
        keep(3, O),
        time(1, 1),
    ];
    let r = report(&gemm(4, 2, 2), &machine, &tree(&nodes)).unwrap();
    assert_eq!(level(&r, W, 0).words, [0.0, 0.0, 2.0, 0.0]);
    assert_eq!(level(&r, W, 1).words, [2.0, 0.0, 8.0, 0.0]);
    assert_eq!(r.onloading, 2.0);
}

/// 5 columns on 2 instances: 3 times, 5/3 instances on average, 1 by whole instances.
#[test]
fn a_dimension_that_does_not_fill_the_array_counts_by_its_mean() {
    let nodes = [
        keep(0, I),
        keep(0, W),
        keep(0, O),
        time(2, 2),
        time(0, 1),
        time(1, 1),
        keep(2, O),
        space(1, 0, 2, 1),
    ];
    let r = report(&gemm(4, 2, 5), &two_registers(), &tree(&nodes)).unwrap();
    assert_eq!(r.computation, 24.0);
    assert_eq!(r.instances_used, 40.0 / 24.0);
    assert_eq!(r.systolic_drain, 1.0);
    // 8 bits of one weight each cycle at 16 bits, as energy rounds 5/3 to 2 weights: a word each cycle.
    assert_eq!(level(&r, W, 0).words[2], 24.0);
}

#[test]
fn windows_count_distinct_elements() {
    let einsum = einsum(
        &[("p", 4), ("r", 3)],
        vec![
            access(Place::Input(0), &[(&[(0, 2), (1, 1)], 8)]),
            access(Place::Input(1), &[(&[(1, 1)], 3)]),
        ],
        access(Place::Output(0), &[(&[(0, 1)], 4)]),
    );
    let nodes = [
        keep(0, I),
        keep(0, W),
        keep(0, O),
        time(0, 1),
        keep(2, O),
        time(1, 1),
    ];
    let r = report(&einsum, &two_registers(), &tree(&nodes)).unwrap();
    // 2p + r touches 9 positions, of which one is padding.
    assert_eq!(level(&r, I, 0).tile, 8.0);
    // Each of the 12 cycles reads one.
    assert_eq!(level(&r, I, 0).elements[2], 12.0);
}

#[test]
fn what_has_no_rule_is_told() {
    let said = |einsum: &Einsum, machine: &Hierarchy, nodes: &[Node]| {
        let r = report(einsum, machine, &tree(nodes));
        r.unwrap_err().to_string()
    };
    let nodes = by_rows().nodes;
    let mut causal = gemm(4, 2, 2);
    causal.domain = Domain::Causal {
        query: DimId(0),
        key: DimId(1),
        offset: 0,
    };
    let machine = two_registers();
    assert!(said(&causal, &machine, &nodes).contains("dense"));
    let inside: Vec<Node> = [&nodes[3..4], &nodes[..3], &nodes[4..]].concat();
    assert!(said(&gemm(4, 2, 2), &machine, &inside).contains("outside all loops"));
    // A remainder in time.
    let mut partial = nodes.clone();
    partial.splice(3..4, [time(0, 3), time(0, 1)]);
    assert!(said(&gemm(4, 2, 2), &machine, &partial).contains("multiply to 4"));
    // Ports.
    let mut no_port = two_registers();
    if let Level::Memory(m) = &mut no_port.levels[0] {
        m.ports[0].carries.retain(|c| *c != (W, ToBelow));
    }
    assert!(said(&gemm(4, 2, 2), &no_port, &nodes).contains("`dram` needs one"));
    let mut apart = two_registers();
    if let Level::Fanout(f) = &mut apart.levels[1] {
        f.axes[0].shares = Mask::NONE;
    }
    assert!(said(&gemm(4, 2, 2), &apart, &nodes).contains("must share operand 0"));
    // A mapping that is none.
    assert!(said(&gemm(4, 2, 3), &machine, &nodes).contains("`array.x` has 2"));
}

#[test]
fn the_evaluation_holds_the_report() {
    let (einsum, machine, tree) = (gemm(4, 2, 2), two_registers(), by_rows());
    let r = report(&einsum, &machine, &tree).unwrap();
    let e = evaluate_in(Convention::ZigZag, &einsum, &machine, &tree).unwrap();
    let energy = r.memory_energy() + r.operation_energy;
    assert!((e.energy_total() - energy).abs() < 1e-9);
    assert_eq!(e.cycles, 19.0);
    assert_eq!(e.cycles, e.parts.iter().map(|p| p.cycles).sum::<f64>());
    let registers = e
        .words
        .iter()
        .find(|a| (a.level, a.operand) == (2, O))
        .unwrap();
    let words = (
        registers.fills,
        registers.drains,
        registers.reads,
        registers.updates,
    );
    assert_eq!(words, (0.0, 8.0, 16.0, 16.0));
    assert_eq!(e.at(0, I).unwrap().reads, 8.0);
    let scalesim = evaluate_in(Convention::ScaleSim, &einsum, &machine, &tree);
    assert!(scalesim.unwrap_err().to_string().contains("topology .csv"));
}

#[test]
fn borrowing_takes_from_the_longest_first() {
    let mut cycles = [5.0, 9.0, 2.0];
    borrow(&mut cycles, &[1.0, 4.0, 2.0], 7.0);
    assert_eq!(cycles, [3.0, 4.0, 2.0]);
    borrow(&mut cycles, &[1.0, 4.0, 2.0], 70.0);
    assert_eq!(cycles, [1.0, 4.0, 2.0]);
    borrow(&mut cycles, &[0.0; 3], -1.0);
    assert_eq!(cycles, [1.0, 4.0, 2.0]);
}

proptest! {
    /// Open cycles, counted one by one. Each period divides the next.
    #[test]
    fn windows_open_as_often_as_cycles_say(
        parts in prop::collection::vec((1u64..5, 0u64..30), 1..5),
        cycles in 0u64..200,
    ) {
        let mut period = 1;
        let windows: Vec<(u64, u64)> = parts
            .iter()
            .map(|(factor, width)| {
                period *= factor;
                (period, *width.min(&period))
            })
            .collect();
        let counted = (0..cycles).filter(|c| windows.iter().any(|(p, w)| c % p < *w)).count();
        prop_assert_eq!(open(&windows, cycles), counted as u64);
    }
}

/// A random nest of a convolution over a row: `O[k, p] = sum_{c, r} I[c, s p + r] W[k, c, r]` on DRAM, a shared
/// buffer, two axes and registers for each operand in each instance.
#[derive(Debug, Clone)]
struct Random {
    einsum: Einsum,
    tree: LoopTree,
    /// Temporal loops, outer to inner: dimension and trips.
    loops: Vec<(usize, u64)>,
    /// Spatial trips by axis: dimension and trips.
    laid: Vec<(usize, u64)>,
    /// For each operand, how many loops stand outside its buffer and its register.
    cuts: Vec<[usize; 2]>,
}

const BUFFER: usize = 1;
const REGISTERS: usize = 3;

fn random_machine() -> Hierarchy {
    let wide = |name: &str| {
        let all = |o| Transfer::ALL.map(|t| (o, t));
        let carries = [all(I), all(W), all(O)].concat();
        vec![port(name, 64.0, 8.0, [1.0, 1.0], &carries)]
    };
    hierarchy(vec![
        memory("dram", 1e9, wide("dram")),
        memory("buffer", 1e6, wide("buffer")),
        array(vec![axis("x", 4, false), axis("y", 4, false)]),
        memory("registers", 1e3, wide("registers")),
        mac(),
    ])
}

/// Trips of a loop order and of two axes, as a loop tree.
fn random() -> impl Strategy<Value = Random> {
    let loops = prop::collection::vec((0usize..4, 2u64..4), 1..6);
    let laid = [(0usize..4, 1u64..4), (0usize..4, 1u64..4)];
    let cuts = prop::collection::vec([0usize..100, 0usize..100], 3);
    (loops, laid, cuts, 1i64..3).prop_map(|(loops, laid, cuts, stride)| {
        let mut sizes = [1u64; 4];
        for (d, trips) in loops.iter().chain(&laid) {
            sizes[*d] *= trips;
        }
        let [k, c, p, r] = sizes;
        let extent = (p - 1) * stride as u64 + r;
        let einsum = einsum(
            &[("k", k), ("c", c), ("p", p), ("r", r)],
            vec![
                access(
                    Place::Input(0),
                    &[(&[(1, 1)], c), (&[(2, stride), (3, 1)], extent)],
                ),
                access(
                    Place::Input(1),
                    &[(&[(0, 1)], k), (&[(1, 1)], c), (&[(3, 1)], r)],
                ),
            ],
            access(Place::Output(0), &[(&[(0, 1)], k), (&[(2, 1)], p)]),
        );
        let cuts: Vec<[usize; 2]> = cuts
            .iter()
            .map(|cut| {
                let mut cut = cut.map(|c| c % (loops.len() + 1));
                cut.sort_unstable();
                cut
            })
            .collect();
        let mut tiles = sizes;
        let mut nodes = vec![keep(0, I), keep(0, W), keep(0, O)];
        for at in 0..=loops.len() {
            for (level, which) in [(BUFFER, 0), (REGISTERS, 1)] {
                let here = (0..3).filter(|o| cuts[*o][which] == at);
                nodes.extend(here.map(|o| keep(level, o)));
            }
            if let Some((d, trips)) = loops.get(at) {
                tiles[*d] /= trips;
                nodes.push(time(*d as u32, tiles[*d]));
            }
        }
        for (axis, (d, trips)) in laid.iter().enumerate() {
            tiles[*d] /= trips;
            nodes.push(space(2, axis, *d as u32, tiles[*d]));
        }
        Random {
            einsum,
            tree: LoopTree { nodes },
            loops,
            laid: laid.to_vec(),
            cuts,
        }
    })
}

impl Random {
    /// The element of an operand that an iteration touches.
    fn element(&self, operand: usize, at: &[u64; 4]) -> Vec<u64> {
        let access = crate::hierarchy::access_of(&self.einsum, operand);
        let index = |r: &Affine| r.terms.iter().map(|(d, c)| at[d.index()] * *c as u64).sum();
        access.ranks.iter().map(index).collect()
    }

    /// Elements that pass between a level and the one above, over all its instances: for each instance, walk the
    /// loops outside the level; whenever an index of the operand changes, everything that the loops inside touch.
    fn passed(&self, operand: usize, level: usize) -> f64 {
        let cut = self.cuts[operand][usize::from(level == REGISTERS)];
        let names = |d: usize| {
            let access = crate::hierarchy::access_of(&self.einsum, operand);
            Einsum::names(access, DimId(d as u32))
        };
        // The array stands inside the buffer, and takes every so many positions of the registers' own loops.
        let mut nest = self.loops.clone();
        if level == BUFFER {
            nest.extend(&self.laid);
        }
        let outside: Vec<usize> = (0..cut).collect();
        let inside: Vec<usize> = (cut..nest.len()).collect();
        let mut touched = std::collections::BTreeSet::new();
        walk(&nest, &inside, &mut |at| {
            touched.insert(self.element(operand, at));
        });
        let mut changes = 0u64;
        let mut last: Option<Vec<u64>> = None;
        walk(&nest, &outside, &mut |at| {
            let index: Vec<u64> = (0..4).filter(|d| names(*d)).map(|d| at[d]).collect();
            if last.as_ref() != Some(&index) {
                changes += 1;
                last = Some(index);
            }
        });
        let instances: u64 = match level {
            BUFFER => 1,
            _ => self.laid.iter().map(|l| l.1).product(),
        };
        (changes * touched.len() as u64 * instances) as f64
    }
}

/// Visits the indices of some loops (outer to inner) of a nest; the others stay at 0.
fn walk(nest: &[(usize, u64)], which: &[usize], visit: &mut impl FnMut(&[u64; 4])) {
    let total: u64 = which.iter().map(|i| nest[*i].1).product();
    for mut step in 0..total {
        let mut at = [0u64; 4];
        for i in which.iter().rev() {
            let (d, trips) = nest[*i];
            // What one step of this loop is worth: the trips of the same dimension further inside.
            let worth: u64 = nest[i + 1..]
                .iter()
                .filter(|l| l.0 == d)
                .map(|l| l.1)
                .product();
            at[d] += step % trips * worth;
            step /= trips;
        }
        visit(&at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Transfers, counted on the loops themselves.
    #[test]
    fn transfers_are_those_of_the_loops(case in random()) {
        let r = report(&case.einsum, &random_machine(), &case.tree).unwrap();
        for l in r.levels.iter().filter(|l| l.level != 0) {
            let passed = case.passed(l.operand, l.level);
            let [from_above, to_above, ..] = l.elements;
            if l.operand == O {
                prop_assert_eq!(to_above, passed);
                prop_assert!(from_above == 0.0 || from_above == passed);
                let cut = case.cuts[O][usize::from(l.level == REGISTERS)];
                let mut outside: Vec<(usize, u64)> = case.loops[..cut].to_vec();
                if l.level == REGISTERS {
                    // Instances that add up the same output count as a loop outside them.
                    outside.extend(&case.laid);
                }
                let reduces = outside.iter().any(|(d, trips)| [1, 3].contains(d) && *trips > 1);
                let stationary = case.loops[..cut].iter().rev().take_while(|l| [1, 3].contains(&l.0)).count();
                let left = case.loops[..cut - stationary].iter().any(|l| [1, 3].contains(&l.0));
                prop_assert!(reduces || from_above == 0.0);
                prop_assert!(!left || from_above == passed);
            } else {
                prop_assert_eq!(from_above, passed);
                prop_assert_eq!(to_above, 0.0);
            }
        }
        prop_assert_eq!(r.operations, case.einsum.points().unwrap() as f64);
    }

    /// Where spatial loops stand says nothing.
    #[test]
    fn spatial_loops_stand_anywhere(case in random()) {
        let machine = random_machine();
        let there = report(&case.einsum, &machine, &case.tree).unwrap();
        let mut nodes: Vec<Node> = Vec::new();
        let mut tiles: Vec<u64> = case.einsum.dims.iter().map(|d| d.size).collect();
        for (axis, (d, trips)) in case.laid.iter().enumerate() {
            tiles[*d] /= trips;
            nodes.push(space(2, axis, *d as u32, tiles[*d]));
        }
        for node in &case.tree.nodes {
            match *node {
                Node::Spatial { .. } => {}
                Node::Keep { .. } => nodes.push(*node),
                Node::Temporal { dim, tile } => {
                    let outer = case.laid.iter().filter(|l| l.0 == dim.index()).map(|l| l.1).product::<u64>();
                    nodes.push(Node::Temporal { dim, tile: tile / outer });
                }
            }
        }
        let here = report(&case.einsum, &machine, &LoopTree { nodes }).unwrap();
        prop_assert_eq!(there, here);
    }

    /// Words carry at least the bits, and less than a word more each time.
    #[test]
    fn words_carry_the_bits(case in random()) {
        let r = report(&case.einsum, &random_machine(), &case.tree).unwrap();
        for l in &r.levels {
            for (elements, words) in l.elements.iter().zip(l.words) {
                prop_assert!(words * 64.0 <= elements * 16.0 + 64.0 * elements);
                prop_assert!(*elements == 0.0 || (words + 1.0) * 64.0 >= elements * 8.0);
            }
        }
        let sum = r.computation + r.stall + r.onloading + r.offloading + r.systolic_drain;
        prop_assert_eq!(r.cycles(), sum);
        prop_assert!(r.stall >= 0.0 && r.onloading >= 0.0 && r.offloading >= 0.0);
    }
}
