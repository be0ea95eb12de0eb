//! Random einsums, chips and mappings, small enough to walk.

use presil_hwmodels::{
    Chip, Clock, ClockId, Compute, DimSelector, Engine, EngineId, EngineKind, Fanout, FanoutDim,
    MacMode, Mapspace, Memory, MemoryKind, Node, NodeId, NodeKind, Numerics, Operand, OperandSet,
    Overlap,
};
use presil_numerics::ids::Id;
use presil_numerics::{
    Bytes, BytesPerSecond, ClockDomain, Format, Hertz, Joules, JoulesPerBit, Seconds, SquareMm,
    Watts,
};
use presil_workloads::einsum::Place;
use presil_workloads::{Access, Affine, Dim, DimId, Domain, Einsum, MapOperator, ReduceOperator};

use crate::mapping::Step;
use crate::problem::Problem;

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// In `from..=to`.
    pub(crate) fn int(&mut self, from: u64, to: u64) -> u64 {
        from + self.bits() % (to - from + 1)
    }
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.bits() % 100 < percent
    }
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.int(0, i as u64) as usize);
        }
    }
}

fn dims(list: &[(&str, u64)]) -> Vec<Dim> {
    list.iter()
        .map(|(name, size)| Dim {
            name: (*name).into(),
            size: *size,
        })
        .collect()
}

/// Terms, offset and extent of a rank.
type Indexed<'a> = (&'a [(u32, i64)], i64, u64);

/// An access whose ranks are `sum(coefficient x dimension) + offset` within an extent.
fn ranks(place: Place, list: &[Indexed]) -> Access {
    let rank = |(terms, offset, _): &Indexed| Affine {
        terms: terms.iter().map(|(d, c)| (DimId(*d), *c)).collect(),
        offset: *offset,
    };
    Access {
        place,
        ranks: list.iter().map(rank).collect(),
        extents: list.iter().map(|l| l.2).collect(),
    }
}

fn plain(place: Place, dims: &[Dim], list: &[u32]) -> Access {
    let ranks = list.iter().map(|d| Affine::dim(DimId(*d))).collect();
    Access {
        place,
        ranks,
        extents: list.iter().map(|d| dims[*d as usize].size).collect(),
    }
}

/// An einsum of one multiply-accumulate at each point.
pub(crate) fn contraction(
    dims: Vec<Dim>,
    input: Access,
    weight: Access,
    output: Access,
    domain: Domain,
) -> Einsum {
    let (map, reduce) = (MapOperator::MultiplyAccumulate, ReduceOperator::Sum);
    Einsum {
        dims,
        inputs: vec![input, weight],
        output,
        map,
        reduce,
        domain,
    }
}

/// `O[m,n] = sum_k I[m,k] W[k,n]`.
pub(crate) fn matmul(m: u64, n: u64, k: u64) -> Einsum {
    let d = dims(&[("m", m), ("n", n), ("k", k)]);
    let a = |place, list: &[u32]| plain(place, &d, list);
    let (i, w, o) = (
        a(Place::Input(0), &[0, 2]),
        a(Place::Input(1), &[2, 1]),
        a(Place::Output(0), &[0, 1]),
    );
    contraction(d, i, w, o, Domain::Dense)
}

/// A random small einsum.
pub(crate) fn einsum(r: &mut Random) -> Einsum {
    let (i0, i1, o0) = (Place::Input(0), Place::Input(1), Place::Output(0));
    match r.int(0, 8) {
        0 => matmul(r.int(1, 9), r.int(1, 9), r.int(1, 9)),
        1 => {
            let d = dims(&[
                ("b", r.int(1, 4)),
                ("m", r.int(1, 6)),
                ("n", r.int(1, 6)),
                ("k", r.int(1, 6)),
            ]);
            let (i, w, o) = (
                plain(i0, &d, &[0, 1, 3]),
                plain(i1, &d, &[0, 2, 3]),
                plain(o0, &d, &[0, 1, 2]),
            );
            contraction(d, i, w, o, Domain::Dense)
        }
        2 | 3 => convolution(r),
        4 => transposed(r),
        5 => {
            let d = dims(&[
                ("b", r.int(1, 2)),
                ("i", r.int(1, 7)),
                ("j", r.int(1, 7)),
                ("d", r.int(1, 3)),
            ]);
            let domain = attention_mask(r, 1, 2);
            let (i, w, o) = (
                plain(i0, &d, &[0, 1, 3]),
                plain(i1, &d, &[0, 2, 3]),
                plain(o0, &d, &[0, 1, 2]),
            );
            contraction(d, i, w, o, domain)
        }
        6 => {
            let d = dims(&[
                ("b", r.int(1, 2)),
                ("i", r.int(1, 7)),
                ("j", r.int(1, 7)),
                ("d", r.int(1, 3)),
            ]);
            let domain = attention_mask(r, 1, 2);
            let (i, w, o) = (
                plain(i0, &d, &[0, 1, 2]),
                plain(i1, &d, &[0, 2, 3]),
                plain(o0, &d, &[0, 1, 3]),
            );
            contraction(d, i, w, o, domain)
        }
        7 => {
            // Weights by relative position, clipped; the input has the query twice.
            let d = dims(&[("i", r.int(1, 5)), ("j", r.int(1, 5)), ("d", r.int(1, 3))]);
            let domain = if r.chance(30) {
                Domain::Dense
            } else {
                attention_mask(r, 0, 1)
            };
            let relative: &[(u32, i64)] = &[(1, 1), (0, -1)];
            let w = ranks(i1, &[(relative, 2, r.int(1, 8)), (&[(2, 1)], 0, d[2].size)]);
            let (i, o) = (plain(i0, &d, &[0, 0, 2]), plain(o0, &d, &[0, 1]));
            contraction(d, i, w, o, domain)
        }
        _ => {
            let (groups, height) = (r.int(1, 5), r.int(1, 5));
            let rows = r.int(groups * (height - 1) + 1, groups * height);
            let d = dims(&[
                ("e", groups),
                ("m", height),
                ("n", r.int(1, 4)),
                ("k", r.int(1, 4)),
            ]);
            let distinct = if r.chance(50) {
                groups as f64
            } else {
                groups as f64 - 0.4
            };
            let domain = Domain::Ragged {
                group: DimId(0),
                row: DimId(1),
                rows,
                distinct,
            };
            let joint = |place, other: u32| {
                let rows: &[(u32, i64)] = &[(0, height as i64), (1, 1)];
                ranks(
                    place,
                    &[
                        (rows, 0, rows_extent(groups, height)),
                        (&[(other, 1)], 0, d[other as usize].size),
                    ],
                )
            };
            let (i, o) = if r.chance(50) {
                (joint(i0, 3), joint(o0, 2))
            } else {
                (plain(i0, &d, &[0, 1, 3]), plain(o0, &d, &[0, 1, 2]))
            };
            let w = plain(i1, &d, &[0, 2, 3]);
            contraction(d, i, w, o, domain)
        }
    }
}

fn rows_extent(groups: u64, height: u64) -> u64 {
    groups * height
}

fn attention_mask(r: &mut Random, query: u32, key: u32) -> Domain {
    let (query, key, offset) = (DimId(query), DimId(key), r.int(0, 7) as i64 - 3);
    if r.chance(50) {
        Domain::Causal { query, key, offset }
    } else {
        Domain::Banded {
            query,
            key,
            offset,
            window: r.int(1, 6),
        }
    }
}

fn convolution(r: &mut Random) -> Einsum {
    let depthwise = r.chance(30);
    let channels = if depthwise { 1 } else { r.int(1, 3) };
    let d = dims(&[
        ("n", r.int(1, 2)),
        ("g", r.int(1, if depthwise { 4 } else { 2 })),
        ("k", if depthwise { 1 } else { r.int(1, 3) }),
        ("c", channels),
        ("p", r.int(1, 6)),
        ("q", r.int(1, 3)),
        ("r", r.int(1, 4)),
        ("s", r.int(1, 2)),
    ]);
    let axis = |r: &mut Random, out: u32, tap: u32| {
        let (stride, dilation, pad) = (r.int(1, 3) as i64, r.int(1, 3) as i64, r.int(0, 2));
        let reach = stride as u64 * (d[out as usize].size - 1)
            + dilation as u64 * (d[tap as usize].size - 1)
            + 1;
        let after = r.int(0, 2);
        let extent = reach.saturating_sub(pad + after).max(1);
        (vec![(out, stride), (tap, dilation)], -(pad as i64), extent)
    };
    let (y, x) = (axis(r, 4, 6), axis(r, 5, 7));
    let size = |i: usize| d[i].size;
    let input = ranks(
        Place::Input(0),
        &[
            (&[(0, 1)], 0, size(0)),
            (&[(1, 1)], 0, size(1)),
            (&[(3, 1)], 0, size(3)),
            (&y.0, y.1, y.2),
            (&x.0, x.1, x.2),
        ],
    );
    let weight = plain(Place::Input(1), &d, &[1, 2, 3, 6, 7]);
    let output = plain(Place::Output(0), &d, &[0, 1, 2, 4, 5]);
    contraction(d, input, weight, output, Domain::Dense)
}

fn transposed(r: &mut Random) -> Einsum {
    let d = dims(&[
        ("k", r.int(1, 3)),
        ("c", r.int(1, 3)),
        ("p", r.int(1, 6)),
        ("r", r.int(1, 4)),
    ]);
    let (stride, pad) = (r.int(1, 3), r.int(0, 1));
    let reach = stride * (d[2].size - 1) + d[3].size;
    let extent = reach.saturating_sub(2 * pad).max(1);
    let output = ranks(
        Place::Output(0),
        &[
            (&[(0, 1)], 0, d[0].size),
            (&[(2, stride as i64), (3, 1)], -(pad as i64), extent),
        ],
    );
    let (i, w) = (
        plain(Place::Input(0), &d, &[1, 2]),
        plain(Place::Input(1), &d, &[1, 0, 3]),
    );
    contraction(d, i, w, output, Domain::Dense)
}

/// A memory that keeps everything, with round figures.
pub(crate) fn memory() -> Memory {
    Memory {
        kind: MemoryKind::Sram,
        capacity: Bytes(1 << 30),
        word: Bytes(8),
        read_rate: BytesPerSecond(1e9),
        write_rate: BytesPerSecond(1e9),
        shared_port: false,
        streaming_efficiency: 1.0,
        read_energy: JoulesPerBit(0.0),
        write_energy: JoulesPerBit(0.0),
        static_power: Watts(0.0),
        area: SquareMm(0.0),
        keeps: OperandSet::ALL,
        must_keep: OperandSet::NONE,
        buffering: 2,
        resident: true,
        overlap: Overlap::Keep,
        latency: Seconds(0.0),
        setup: Seconds(0.0),
        burst: Bytes(1),
    }
}

/// A fanout dimension that accepts everything.
pub(crate) fn axis(size: u64, multicast: OperandSet, reduces: bool) -> FanoutDim {
    use DimSelector::{Group, OutputChannel, Pixel, Reduction};
    let accepts = vec![Reduction, OutputChannel, Pixel, Group];
    FanoutDim {
        name: "x".into(),
        size,
        multicast,
        reduces,
        accepts,
    }
}

/// A chip that is a chain of nodes under which int8 MACs run at 1 GHz, one a cycle.
pub(crate) fn chip(kinds: Vec<NodeKind>) -> Chip {
    let mac = MacMode {
        input: int(8),
        weight: int(8),
        accumulate: int(32),
        macs_per_cycle: 1.0,
        energy: Joules(0.0),
    };
    let compute = Compute {
        clock: ClockId(0),
        modes: vec![mac],
        area: SquareMm(0.0),
        static_power: Watts(0.0),
    };
    let mut chip = Chip {
        name: "test".into(),
        description: String::new(),
        node_nm: 7.0,
        clocks: Default::default(),
        nodes: Default::default(),
        engines: Default::default(),
        mapspace: Mapspace {
            prefetch_weights: false,
            keep_activations: false,
            keep_weights: false,
            fuse_cascades: false,
        },
        numerics: Numerics::default(),
        other_power: Watts(0.0),
        other_area: SquareMm(0.0),
        provenance: vec![],
        hash: String::new(),
    };
    let domain = ClockDomain::new(Hertz(1e9)).unwrap();
    chip.clocks.push(Clock {
        name: "core".into(),
        domain,
    });
    let mut instances = 1;
    let mut parent = None;
    for (i, kind) in kinds
        .into_iter()
        .chain([NodeKind::Compute(compute)])
        .enumerate()
    {
        let below = if let NodeKind::Fanout(f) = &kind {
            f.instances()
        } else {
            1
        };
        parent = Some(chip.nodes.push(Node {
            name: format!("n{i}"),
            parent,
            instances,
            kind,
        }));
        instances *= below;
    }
    let kind = EngineKind::Array {
        compute: parent.unwrap(),
        fill_cycles: 0,
        drain_cycles: 0,
    };
    let (area, static_power, launch) = (SquareMm(0.0), Watts(0.0), Seconds(0.0));
    chip.engines.push(Engine {
        name: "array".into(),
        kind,
        area,
        static_power,
        launch,
    });
    chip
}

/// A random chain of one to four memories and up to two fanouts.
pub(crate) fn random_chip(r: &mut Random) -> Chip {
    let (memories, fanouts) = (r.int(0, 3), r.int(0, 2));
    let mut kinds: Vec<NodeKind> = Vec::new();
    for _ in 0..memories {
        let overlap = if r.chance(70) {
            Overlap::Keep
        } else {
            Overlap::Refetch
        };
        let keeps = if r.chance(60) {
            OperandSet::ALL
        } else {
            OperandSet(r.int(1, 7) as u8)
        };
        kinds.push(NodeKind::Memory(Memory {
            overlap,
            keeps,
            ..memory()
        }));
    }
    for _ in 0..fanouts {
        let dims = (0..r.int(1, 2))
            .map(|_| axis(r.int(2, 5), OperandSet(r.int(0, 7) as u8), r.chance(50)))
            .collect();
        kinds.push(NodeKind::Fanout(Fanout {
            dims,
            hop_energy: JoulesPerBit(1.0),
        }));
    }
    r.shuffle(&mut kinds);
    kinds.insert(0, NodeKind::Memory(memory()));
    chip(kinds)
}

/// The problem of an einsum on a chip, all operands at home in the root.
pub(crate) fn problem<'a>(einsum: &'a Einsum, chip: &'a Chip) -> Problem<'a> {
    let EngineKind::Array { compute, .. } = chip.engines[EngineId(0)].kind else {
        unreachable!()
    };
    let path = chip.path(compute);
    let capacity = path.iter().map(|_| Bytes(1 << 30)).collect();
    Problem {
        einsum,
        chip,
        engine: EngineId(0),
        path,
        bits: [8.0; 3],
        accumulate: int(32),
        mode: 0,
        home: [NodeId(0); 3],
        capacity,
    }
}

#[derive(Clone, Copy)]
enum Token {
    Loop(usize),
    Store(NodeId, Operand),
}

/// A random legal mapping.
pub(crate) fn mapping(r: &mut Random, problem: &Problem) -> Vec<Step> {
    let sizes: Vec<u64> = problem.einsum.dims.iter().map(|d| d.size).collect();
    let mut tiles = sizes.clone();
    let mut steps: Vec<Step> = Operand::ALL
        .iter()
        .map(|o| Step::Store {
            memory: problem.home[o.index()],
            operand: *o,
        })
        .collect();
    let mut tokens: Vec<Token> = Vec::new();
    for node in problem.path.iter().skip(1) {
        match &problem.chip.nodes[*node].kind {
            NodeKind::Memory(_) => {
                for operand in Operand::ALL {
                    if problem.levels_below_home(operand).contains(node) && r.chance(70) {
                        tokens.push(Token::Store(*node, operand));
                    }
                }
            }
            NodeKind::Fanout(f) => {
                emit(r, &mut steps, &mut tokens, &mut tiles, &sizes, false);
                for (axis, a) in f.dims.iter().enumerate() {
                    let mut room = a.size;
                    for _ in 0..r.int(0, 2) {
                        let dim = r.int(0, sizes.len() as u64 - 1) as usize;
                        let accepted = a
                            .accepts
                            .iter()
                            .any(|s| crate::mapping::selects(problem.einsum, s, Id::new(dim)));
                        let legal: Vec<u64> = (1..=tiles[dim])
                            .filter(|t| {
                                tiles[dim].div_ceil(*t) <= room
                                    && (tiles[dim] == sizes[dim] || tiles[dim].is_multiple_of(*t))
                            })
                            .collect();
                        if accepted {
                            let tile = legal[r.int(0, legal.len() as u64 - 1) as usize];
                            room /= tiles[dim].div_ceil(tile);
                            tiles[dim] = tile;
                            steps.push(Step::Spatial {
                                fanout: *node,
                                axis: axis as u8,
                                dim: Id::new(dim),
                                tile,
                            });
                        }
                    }
                }
            }
            NodeKind::Compute(_) => emit(r, &mut steps, &mut tokens, &mut tiles, &sizes, true),
        }
    }
    steps
}

/// Writes out storage and random temporal loops in random order.
fn emit(
    r: &mut Random,
    steps: &mut Vec<Step>,
    tokens: &mut Vec<Token>,
    tiles: &mut [u64],
    sizes: &[u64],
    close: bool,
) {
    let stores: Vec<(NodeId, Operand)> = tokens
        .iter()
        .filter_map(|t| {
            if let Token::Store(n, o) = t {
                Some((*n, *o))
            } else {
                None
            }
        })
        .collect();
    for d in 0..sizes.len() {
        for _ in 0..r.int(u64::from(close), 2) {
            tokens.push(Token::Loop(d));
        }
    }
    r.shuffle(tokens);
    // Storage of an operand stays in the order of the path.
    for operand in Operand::ALL {
        let mut mine = stores.iter().filter(|s| s.1 == operand);
        for t in tokens.iter_mut() {
            if matches!(t, Token::Store(_, o) if *o == operand)
                && let Some(s) = mine.next()
            {
                *t = Token::Store(s.0, s.1);
            }
        }
    }
    for i in 0..tokens.len() {
        match tokens[i] {
            Token::Store(memory, operand) => steps.push(Step::Store { memory, operand }),
            Token::Loop(d) => {
                let more = tokens[i + 1..]
                    .iter()
                    .any(|t| matches!(t, Token::Loop(x) if *x == d));
                let whole = tiles[d] == sizes[d];
                let legal: Vec<u64> = (1..=tiles[d])
                    .filter(|t| whole || tiles[d].is_multiple_of(*t))
                    .collect();
                let tile = if close && !more {
                    1
                } else {
                    legal[r.int(0, legal.len() as u64 - 1) as usize]
                };
                tiles[d] = tile;
                steps.push(Step::Temporal {
                    dim: Id::new(d),
                    tile,
                });
            }
        }
    }
    tokens.clear();
}

fn int(bits: u8) -> Format {
    Format::Int { bits, signed: true }
}
