//! Figures worked out by hand.

#![expect(clippy::unwrap_used, reason = "tests")]

use presil_numerics::ids::Id;
use presil_workloads::einsum::Place;
use presil_workloads::{Access, Affine, Dim, Domain, Einsum, MapOperator, ReduceOperator};

use crate::conventions::{Convention, ConventionError, Evaluation, evaluate};
use crate::hierarchy::{
    Axis, ComputeLevel, FanoutLevel, Hierarchy, Level, Mask, MemoryLevel, Port, Transfer,
};
use crate::looptree::{LoopTree, LoopTreeError, Node};

const INPUT: usize = 0;
const WEIGHT: usize = 1;
const OUTPUT: usize = 2;
const P: usize = 0;
const R: usize = 1;

/// `O[p] = sum_r I[p + r] W[r]`, eight positions, three taps, ten inputs.
fn filter() -> Einsum {
    let dims = [("p", 8), ("r", 3)].map(|(name, size)| Dim {
        name: name.into(),
        size,
    });
    let access = |place, ranks: Affine, extent| Access {
        place,
        ranks: vec![ranks],
        extents: vec![extent],
    };
    let window = Affine {
        terms: vec![(Id::new(P), 1), (Id::new(R), 1)],
        offset: 0,
    };
    Einsum {
        dims: dims.to_vec(),
        inputs: vec![
            access(Place::Input(0), window, 10),
            access(Place::Input(1), Affine::dim(Id::new(R)), 3),
        ],
        output: access(Place::Output(0), Affine::dim(Id::new(P)), 8),
        map: MapOperator::MultiplyAccumulate,
        reduce: ReduceOperator::Sum,
        domain: Domain::Dense,
    }
}

fn port(name: &str, rate: f64, granule: f64, reads: bool) -> Port {
    let carries = (0..3).flat_map(|o| Transfer::ALL.map(|t| (o, t)));
    Port {
        name: name.into(),
        read_rate: rate,
        write_rate: rate,
        granule,
        carries: carries.filter(|c| c.1.reads() == reads).collect(),
        access_energy: None,
    }
}

/// A buffer over four units with registers; outputs are twice as wide as inputs and weights.
fn machine(shares: Mask, shares_overlap: Mask) -> Hierarchy {
    let memory = |name: &str| MemoryLevel {
        bits: vec![8.0, 8.0, 16.0],
        ..MemoryLevel::unlimited(name, 3, 8.0)
    };
    let axis = Axis {
        name: "x".into(),
        size: 4,
        shares,
        shares_overlap,
        must_share: Mask::NONE,
        accepts: Mask::ALL,
        min_usage: 0.0,
        systolic: false,
    };
    Hierarchy {
        name: "machine".into(),
        levels: vec![
            Level::Memory(MemoryLevel {
                block: 4,
                read_energy: 1.0,
                write_energy: 5.0,
                update_energy: 2.0,
                leakage: 2.0,
                ports: vec![
                    port("read", 4.0, 32.0, true),
                    port("write", 32.0, 1.0, false),
                ],
                ..memory("buffer")
            }),
            Level::Fanout(FanoutLevel {
                name: "units".into(),
                axes: vec![axis],
                hop_energy: 0.25,
            }),
            Level::Memory(MemoryLevel {
                read_energy: 0.5,
                write_energy: 0.25,
                update_energy: 0.125,
                leakage: 0.5,
                ports: vec![port("write", 8.0, 0.0, false)],
                ..memory("registers")
            }),
            Level::Compute(ComputeLevel {
                name: "mac".into(),
                energy: 3.0,
                rate: 1.0,
                leakage: 0.25,
            }),
        ],
    }
}

/// Two positions in each unit, which walks them and then the taps.
fn positions_apart() -> LoopTree {
    let keep = |level| (0..3).map(move |operand| Node::Keep { level, operand });
    let spatial = Node::Spatial {
        level: 1,
        axis: 0,
        dim: Id::new(P),
        tile: 2,
    };
    let temporal = [P, R].map(|d| Node::Temporal {
        dim: Id::new(d),
        tile: 1,
    });
    let nodes = keep(0).chain([spatial]).chain(keep(2)).chain(temporal);
    LoopTree {
        nodes: nodes.collect(),
    }
}

fn told(hierarchy: &Hierarchy) -> Evaluation {
    evaluate(
        Convention::Physical,
        &filter(),
        hierarchy,
        &positions_apart(),
    )
    .unwrap()
}

fn counts(e: &Evaluation, level: usize, operand: usize) -> [f64; 4] {
    let a = e.at(level, operand).unwrap();
    [a.reads, a.fills, a.updates, a.drains]
}

#[test]
fn neighbours_read_their_common_halo_once_where_the_axis_shares_overlaps() {
    let multicast = Mask::one(WEIGHT);
    // Each unit needs four inputs; neighbours have two of them in common, and all ten are needed once.
    let apart = told(&machine(multicast, Mask::NONE));
    assert_eq!(counts(&apart, 0, INPUT), [16.0, 0.0, 0.0, 0.0]);
    assert_eq!(counts(&apart, 2, INPUT), [24.0, 16.0, 0.0, 0.0]);
    let shared = told(&machine(multicast, Mask::one(INPUT)));
    assert_eq!(counts(&shared, 0, INPUT), [10.0, 0.0, 0.0, 0.0]);
    assert_eq!(counts(&shared, 2, INPUT), [24.0, 16.0, 0.0, 0.0]);
    // The weights are the same for all units; each output has its own.
    for e in [&apart, &shared] {
        assert_eq!(counts(e, 0, WEIGHT), [3.0, 0.0, 0.0, 0.0]);
        assert_eq!(counts(e, 2, WEIGHT), [24.0, 12.0, 0.0, 0.0]);
        assert_eq!(counts(e, 0, OUTPUT), [0.0, 0.0, 8.0, 0.0]);
        assert_eq!(counts(e, 2, OUTPUT), [16.0, 0.0, 24.0, 8.0]);
    }
    // What is not shared under a loop that it does not have is shared where its overlap is.
    let overlap = told(&machine(Mask::NONE, Mask::one(WEIGHT)));
    assert_eq!(counts(&overlap, 0, WEIGHT), [3.0, 0.0, 0.0, 0.0]);
    let nothing = told(&machine(Mask::NONE, Mask::NONE));
    assert_eq!(counts(&nothing, 0, WEIGHT), [12.0, 0.0, 0.0, 0.0]);
}

#[test]
fn energy_counts_whole_blocks_and_words_as_wide_as_they_are_stored() {
    let e = told(&machine(Mask::one(WEIGHT), Mask::one(INPUT)));
    let energy = |level, operand, action| -> f64 {
        let mine = |a: &&crate::conventions::ActionEnergy| {
            (a.level, a.operand, a.action) == (level, operand, action)
        };
        e.energy.iter().filter(mine).map(|a| a.energy).sum()
    };
    // Ten inputs in three blocks of four bytes; three weights in one; eight outputs of 16 bits in two.
    assert_eq!(energy(0, Some(INPUT), "read"), 12.0 * 8.0);
    assert_eq!(energy(0, Some(WEIGHT), "read"), 4.0 * 8.0);
    assert_eq!(energy(0, Some(OUTPUT), "update"), 8.0 * 16.0 * 2.0);
    assert_eq!(energy(2, Some(INPUT), "write"), 16.0 * 8.0 * 0.25);
    assert_eq!(energy(2, Some(OUTPUT), "read"), 16.0 * 16.0 * 0.5);
    assert_eq!(energy(2, Some(OUTPUT), "drain"), 8.0 * 16.0 * 0.5);
    assert_eq!(energy(2, Some(OUTPUT), "update"), 24.0 * 16.0 * 0.125);
    // Every unit reached pays for its wires: 16 inputs, 12 weights, 8 outputs.
    assert_eq!(energy(1, Some(INPUT), "hop"), 16.0 * 8.0 * 0.25);
    assert_eq!(energy(1, Some(WEIGHT), "hop"), 12.0 * 8.0 * 0.25);
    assert_eq!(energy(1, Some(OUTPUT), "hop"), 8.0 * 16.0 * 0.25);
    assert_eq!(energy(3, None, "compute"), 24.0 * 3.0);
    // Every instance leaks all the time.
    assert_eq!(energy(0, None, "leak"), 2.0 * e.cycles);
    assert_eq!(energy(2, None, "leak"), 4.0 * 0.5 * e.cycles);
    assert_eq!(energy(3, None, "leak"), 4.0 * 0.25 * e.cycles);
}

#[test]
fn time_is_that_of_the_busiest_port_or_of_the_compute() {
    let e = told(&machine(Mask::one(WEIGHT), Mask::one(INPUT)));
    let cycles = |name: &str| e.parts.iter().find(|p| p.name == name).unwrap().cycles;
    // Reads in granules of 32 bits at 4 bits a cycle: 80 bits of inputs are 96, 24 of weights 32.
    assert_eq!(cycles("buffer read"), (96.0 + 32.0) / 4.0);
    assert_eq!(cycles("buffer write"), 8.0 * 16.0 / 32.0);
    // One unit takes four inputs and three weights, and six updates of its two outputs.
    assert_eq!(cycles("registers write"), (7.0 * 8.0 + 6.0 * 16.0) / 8.0);
    assert_eq!(cycles("mac"), 6.0);
    assert_eq!(e.cycles, 32.0);
    assert_eq!(e.operations, 24.0);
    assert_eq!(e.instances_used, 4.0);
}

#[test]
fn tiles_must_fit() {
    // Registers keep four inputs, three weights and two outputs: 7 x 8 + 2 x 16 bits, two of each.
    let with = |bits: f64| {
        let mut h = machine(Mask::NONE, Mask::NONE);
        let Level::Memory(m) = &mut h.levels[2] else {
            unreachable!()
        };
        (m.capacity, m.buffering) = (bits, 2.0);
        evaluate(Convention::Physical, &filter(), &h, &positions_apart())
    };
    assert!(with(176.0).is_ok());
    let refused = LoopTreeError::Capacity {
        memory: "registers".into(),
        needed_bits: 176,
        available_bits: 175,
    };
    assert_eq!(with(175.0), Err(ConventionError::Mapping(refused)));
}

#[test]
fn what_the_convention_has_no_rule_for_is_refused() {
    let refused = |h: &Hierarchy, tree: &LoopTree| {
        evaluate(Convention::Physical, &filter(), h, tree)
            .unwrap_err()
            .to_string()
    };
    // Taps apart, and the outputs at home in each unit: nothing adds up what the units have.
    let mut tree = positions_apart();
    tree.nodes[3] = Node::Spatial {
        level: 1,
        axis: 0,
        dim: Id::new(R),
        tile: 1,
    };
    tree.nodes.truncate(7);
    tree.nodes.push(Node::Temporal {
        dim: Id::new(P),
        tile: 1,
    });
    let machine = machine(Mask::ALL, Mask::NONE);
    assert!(evaluate(Convention::Physical, &filter(), &machine, &tree).is_ok());
    tree.nodes.remove(2);
    assert_eq!(
        refused(&machine, &tree),
        "convention `physical` needs the output kept above the spatial loops that split its sums"
    );
    let mut narrow = machine.clone();
    let Level::Memory(m) = &mut narrow.levels[2] else {
        unreachable!()
    };
    m.bits.pop();
    assert_eq!(
        refused(&narrow, &positions_apart()),
        "convention `physical` needs the bits of all 3 operands at memory `registers`, which has 2"
    );
    let mut served = machine.clone();
    let serve = |h: &mut Hierarchy, axes: &[&str]| {
        if let Level::Memory(m) = &mut h.levels[0] {
            m.serves = axes.iter().map(|a| (*a).into()).collect();
        }
    };
    serve(&mut served, &["x"]);
    assert!(evaluate(Convention::Physical, &filter(), &served, &positions_apart()).is_ok());
    serve(&mut served, &["y"]);
    assert_eq!(
        refused(&served, &positions_apart()),
        "convention `physical` takes memory `buffer` to serve all axes below it on the path; move it to where it \
         belongs"
    );
    let open = LoopTree {
        nodes: positions_apart().nodes[..7].to_vec(),
    };
    let einsum = filter();
    let evaluator = super::Evaluator::new(&einsum, &machine).unwrap();
    assert!(matches!(
        evaluator.evaluate(&open),
        Err(ConventionError::Mapping(LoopTreeError::Open { .. }))
    ));
}
