//! Random einsums, hierarchies and loop trees, small enough to walk.

use presil_hwmodels::Overlap;
use presil_numerics::ids::Id;
use presil_workloads::einsum::Place;
use presil_workloads::{Access, Affine, Dim, DimId, Domain, Einsum, MapOperator, ReduceOperator};

use crate::hierarchy::{Axis, ComputeLevel, FanoutLevel, Hierarchy, Level, Mask, MemoryLevel};
use crate::looptree::{LoopTree, Node};

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
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
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
fn contraction(
    dims: Vec<Dim>,
    input: Access,
    weight: Access,
    output: Access,
    domain: Domain,
) -> Einsum {
    product(dims, vec![input, weight], output, domain)
}

/// A sum of products of any number of inputs.
fn product(dims: Vec<Dim>, inputs: Vec<Access>, output: Access, domain: Domain) -> Einsum {
    let (map, reduce) = (MapOperator::MultiplyAccumulate, ReduceOperator::Sum);
    Einsum {
        dims,
        inputs,
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

/// What a random einsum is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Gemm,
    Batched,
    Convolution,
    Depthwise,
    Transposed,
    /// Attention scores and values under causal and banded masks.
    Causal,
    Banded,
    /// Weights by clipped relative position.
    Relative,
    /// Tokens over experts.
    Ragged,
    /// One input: a pooling window, or a row sum.
    Pooling,
    /// Three inputs.
    Triple,
}

impl Kind {
    pub(crate) const ALL: &[Self] = &[
        Self::Gemm,
        Self::Batched,
        Self::Convolution,
        Self::Depthwise,
        Self::Transposed,
        Self::Causal,
        Self::Banded,
        Self::Relative,
        Self::Ragged,
        Self::Pooling,
        Self::Triple,
    ];
    /// Those of two inputs.
    pub(crate) const CONTRACTIONS: &[Self] = Self::ALL.split_at(9).0;
}

/// A random small einsum of a kind.
pub(crate) fn einsum(r: &mut Random, kind: Kind) -> Einsum {
    match kind {
        Kind::Gemm => matmul(r.int(1, 9), r.int(1, 9), r.int(1, 9)),
        Kind::Batched => {
            let d = dims(&[
                ("b", r.int(1, 4)),
                ("m", r.int(1, 6)),
                ("n", r.int(1, 6)),
                ("k", r.int(1, 6)),
            ]);
            let (i, w, o) = (
                plain(Place::Input(0), &d, &[0, 1, 3]),
                plain(Place::Input(1), &d, &[0, 2, 3]),
                plain(Place::Output(0), &d, &[0, 1, 2]),
            );
            contraction(d, i, w, o, Domain::Dense)
        }
        Kind::Convolution => convolution(r, false),
        Kind::Depthwise => convolution(r, true),
        Kind::Transposed => transposed(r),
        Kind::Causal | Kind::Banded => attention(r, kind == Kind::Causal),
        Kind::Relative => relative(r),
        Kind::Ragged => ragged(r),
        Kind::Pooling => pooling(r),
        Kind::Triple => triple(r),
    }
}

/// Scores (`S = Q K`) or values (`O = P V`) of attention.
fn attention(r: &mut Random, causal: bool) -> Einsum {
    let d = dims(&[
        ("b", r.int(1, 2)),
        ("i", r.int(1, 7)),
        ("j", r.int(1, 7)),
        ("d", r.int(1, 3)),
    ]);
    let domain = attention_mask(r, 1, 2, causal);
    let (i, o): (&[u32], &[u32]) = if r.chance(50) {
        (&[0, 1, 3], &[0, 1, 2])
    } else {
        (&[0, 1, 2], &[0, 1, 3])
    };
    let (i, w, o) = (
        plain(Place::Input(0), &d, i),
        plain(Place::Input(1), &d, &[0, 2, 3]),
        plain(Place::Output(0), &d, o),
    );
    contraction(d, i, w, o, domain)
}

/// Weights by relative position, clipped; the input has the query twice.
fn relative(r: &mut Random) -> Einsum {
    let d = dims(&[("i", r.int(1, 5)), ("j", r.int(1, 5)), ("d", r.int(1, 3))]);
    let domain = if r.chance(30) {
        Domain::Dense
    } else {
        let causal = r.chance(50);
        attention_mask(r, 0, 1, causal)
    };
    let relative: &[(u32, i64)] = &[(1, 1), (0, -1)];
    let w = ranks(
        Place::Input(1),
        &[(relative, 2, r.int(1, 8)), (&[(2, 1)], 0, d[2].size)],
    );
    let (i, o) = (
        plain(Place::Input(0), &d, &[0, 0, 2]),
        plain(Place::Output(0), &d, &[0, 1]),
    );
    contraction(d, i, w, o, domain)
}

fn ragged(r: &mut Random) -> Einsum {
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
        let extent = groups * height;
        let columns: &[(u32, i64)] = &[(other, 1)];
        ranks(
            place,
            &[(rows, 0, extent), (columns, 0, d[other as usize].size)],
        )
    };
    let (i0, o0) = (Place::Input(0), Place::Output(0));
    let (i, o) = if r.chance(50) {
        (joint(i0, 3), joint(o0, 2))
    } else {
        (plain(i0, &d, &[0, 1, 3]), plain(o0, &d, &[0, 1, 2]))
    };
    let w = plain(Place::Input(1), &d, &[0, 2, 3]);
    contraction(d, i, w, o, domain)
}

/// A window slides over the one input; or each row of it is summed, perhaps under a mask.
fn pooling(r: &mut Random) -> Einsum {
    if r.chance(30) {
        let d = dims(&[("i", r.int(1, 7)), ("j", r.int(1, 7))]);
        let domain = if r.chance(50) {
            Domain::Dense
        } else {
            let causal = r.chance(50);
            attention_mask(r, 0, 1, causal)
        };
        let (i, o) = (
            plain(Place::Input(0), &d, &[0, 1]),
            plain(Place::Output(0), &d, &[0]),
        );
        return product(d, vec![i], o, domain);
    }
    let d = dims(&[
        ("c", r.int(1, 3)),
        ("p", r.int(1, 5)),
        ("q", r.int(1, 4)),
        ("r", r.int(1, 3)),
        ("s", r.int(1, 3)),
    ]);
    let (y, x) = (window(r, &d, 1, 3), window(r, &d, 2, 4));
    let channel: &[(u32, i64)] = &[(0, 1)];
    let input = ranks(
        Place::Input(0),
        &[(channel, 0, d[0].size), (&y.0, y.1, y.2), (&x.0, x.1, x.2)],
    );
    let output = plain(Place::Output(0), &d, &[0, 1, 2]);
    product(d, vec![input], output, Domain::Dense)
}

/// `O[i,j] = sum_{k,l} A[i,k,l] B[k,j] C[l,j]`, or with a scale of its own for each row and block of columns.
fn triple(r: &mut Random) -> Einsum {
    let d = dims(&[
        ("i", r.int(1, 5)),
        ("j", r.int(1, 5)),
        ("k", r.int(1, 4)),
        ("l", r.int(1, 4)),
    ]);
    let place = |i| Place::Input(i);
    let third = if r.chance(50) { [3, 1] } else { [0, 3] };
    let inputs = vec![
        plain(place(0), &d, &[0, 2, 3]),
        plain(place(1), &d, &[2, 1]),
        plain(place(2), &d, &third),
    ];
    let domain = if r.chance(30) {
        let causal = r.chance(50);
        attention_mask(r, 0, 2, causal)
    } else {
        Domain::Dense
    };
    let output = plain(Place::Output(0), &d, &[0, 1]);
    product(d, inputs, output, domain)
}

fn attention_mask(r: &mut Random, query: u32, key: u32, causal: bool) -> Domain {
    let (query, key, offset) = (DimId(query), DimId(key), r.int(0, 7) as i64 - 3);
    if causal {
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

/// Terms, offset and extent of a rank of windows: strided, dilated and padded at both ends.
fn window(r: &mut Random, d: &[Dim], out: u32, tap: u32) -> (Vec<(u32, i64)>, i64, u64) {
    let (stride, dilation, pad) = (r.int(1, 3), r.int(1, 3), r.int(0, 2));
    let last = |dim: u32| d[dim as usize].size - 1;
    let reach = stride * last(out) + dilation * last(tap) + 1;
    let after = r.int(0, 2);
    let extent = reach.saturating_sub(pad + after).max(1);
    let terms = vec![(out, stride as i64), (tap, dilation as i64)];
    (terms, -(pad as i64), extent)
}

fn convolution(r: &mut Random, depthwise: bool) -> Einsum {
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
    let (y, x) = (window(r, &d, 4, 6), window(r, &d, 5, 7));
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

/// An axis that accepts everything and shares nothing.
pub(crate) fn axis(size: u64) -> Axis {
    Axis {
        name: "x".into(),
        size,
        shares: Mask::NONE,
        shares_overlap: Mask::NONE,
        must_share: Mask::NONE,
        accepts: Mask::ALL,
        min_usage: 0.0,
        systolic: false,
    }
}

/// A fanout without axes.
pub(crate) fn fanout() -> FanoutLevel {
    FanoutLevel {
        name: "f".into(),
        axes: vec![],
        hop_energy: 0.0,
    }
}

/// Units of one operation a cycle.
pub(crate) fn compute() -> ComputeLevel {
    ComputeLevel {
        name: "mac".into(),
        energy: 0.0,
        rate: 1.0,
        leakage: 0.0,
    }
}

/// A random chain of one to four memories and up to two fanouts.
pub(crate) fn hierarchy(r: &mut Random, operands: usize) -> Hierarchy {
    let all = (1u64 << operands) - 1;
    let some = |r: &mut Random| Mask(r.int(0, all) as u32);
    let (memories, fanouts) = (r.int(0, 3), r.int(0, 2));
    let mut levels: Vec<Level> = Vec::new();
    for _ in 0..memories {
        let (refetches, narrow) = (r.chance(30), r.chance(40));
        levels.push(Level::Memory(MemoryLevel {
            overlap: if refetches {
                Overlap::Refetch
            } else {
                Overlap::Keep
            },
            keeps: if narrow { some(r) } else { Mask::ALL },
            ..MemoryLevel::unlimited("m", operands, 8.0)
        }));
    }
    for _ in 0..fanouts {
        let axis = |r: &mut Random| Axis {
            shares: some(r),
            shares_overlap: if r.chance(40) { some(r) } else { Mask::NONE },
            ..axis(r.int(2, 5))
        };
        let axes = (0..r.int(1, 2)).map(|_| axis(r)).collect();
        levels.push(Level::Fanout(FanoutLevel { axes, ..fanout() }));
    }
    r.shuffle(&mut levels);
    levels.insert(
        0,
        Level::Memory(MemoryLevel::unlimited("home", operands, 8.0)),
    );
    levels.push(Level::Compute(compute()));
    Hierarchy {
        name: "random".into(),
        levels,
    }
}

#[derive(Clone, Copy)]
enum Token {
    Loop(usize),
    Keep(usize, usize),
}

/// A random loop tree; `homes` has a place for each operand: operands with a home start there before any loop, the others at the outermost memory that
/// is drawn for them.
pub(crate) fn tree(
    r: &mut Random,
    einsum: &Einsum,
    hierarchy: &Hierarchy,
    homes: &[Option<usize>],
) -> LoopTree {
    let sizes: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
    let mut tiles = sizes.clone();
    let mut nodes: Vec<Node> = Vec::new();
    for (operand, home) in homes.iter().enumerate() {
        nodes.extend(home.map(|level| Node::Keep { level, operand }));
    }
    let mut tokens: Vec<Token> = Vec::new();
    for (index, level) in hierarchy.levels.iter().enumerate() {
        match level {
            Level::Memory(m) => {
                for (operand, home) in homes.iter().enumerate() {
                    let inside = home.is_none_or(|h| h < index);
                    if inside && m.keeps.has(operand) && r.chance(70) {
                        tokens.push(Token::Keep(index, operand));
                    }
                }
            }
            Level::Fanout(f) => {
                emit(r, &mut nodes, &mut tokens, &mut tiles, &sizes, false);
                for (axis, a) in f.axes.iter().enumerate() {
                    let mut room = a.size;
                    for _ in 0..r.int(0, 2) {
                        let dim = r.int(0, sizes.len() as u64 - 1) as usize;
                        let legal: Vec<u64> = (1..=tiles[dim])
                            .filter(|t| {
                                tiles[dim].div_ceil(*t) <= room
                                    && (tiles[dim] == sizes[dim] || tiles[dim].is_multiple_of(*t))
                            })
                            .collect();
                        if a.accepts.has(dim) {
                            // The last one leaves the dimension whole: no loop at all.
                            let apart = r.chance(80) && legal.len() > 1;
                            let last = legal.len() as u64 - 1 - u64::from(apart);
                            let tile = legal[r.int(0, last) as usize];
                            room /= tiles[dim].div_ceil(tile);
                            tiles[dim] = tile;
                            nodes.push(Node::Spatial {
                                level: index,
                                axis,
                                dim: Id::new(dim),
                                tile,
                            });
                        }
                    }
                }
            }
            Level::Compute(_) => emit(r, &mut nodes, &mut tokens, &mut tiles, &sizes, true),
        }
    }
    LoopTree { nodes }
}

/// Writes out storage and random temporal loops in random order.
fn emit(
    r: &mut Random,
    nodes: &mut Vec<Node>,
    tokens: &mut Vec<Token>,
    tiles: &mut [u64],
    sizes: &[u64],
    close: bool,
) {
    for d in 0..sizes.len() {
        for _ in 0..r.int(u64::from(close), 2) {
            tokens.push(Token::Loop(d));
        }
    }
    let mut kept: Vec<(usize, usize)> = Vec::new();
    for t in tokens.iter() {
        if let Token::Keep(level, operand) = *t {
            kept.push((level, operand));
        }
    }
    r.shuffle(tokens);
    for i in 0..tokens.len() {
        match tokens[i] {
            // Storage of an operand stays in the order of the path.
            Token::Keep(_, operand) => {
                let next = kept.iter().position(|k| k.1 == operand).unwrap();
                let (level, operand) = kept.remove(next);
                nodes.push(Node::Keep { level, operand });
            }
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
                nodes.push(Node::Temporal {
                    dim: Id::new(d),
                    tile,
                });
            }
        }
    }
    tokens.clear();
}
