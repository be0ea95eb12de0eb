//! Rows that slide: what iterations make, keep and fetch against walks over them, row by row.

use std::collections::BTreeSet;

use presil_hwmodels::NodeId;
use presil_workloads::build::{Builder, Conv, Function, PoolKind};
use presil_workloads::count::op_macs;
use presil_workloads::{Graph, OpId};

use super::super::axes::{Group, Kind};
use super::super::plan::{Cut, Tiling, Way, memories};
use super::super::price::{Priced, Pricing};
use super::super::windows::Window;
use super::{Numbers, fits, fusing, int8, root_bits, scheduled, total, with};
use crate::schedule::Schedule;
use crate::search::Objective;

/// A layer of a chain, by what a row of its output reads.
#[derive(Debug, Clone, Copy)]
struct Layer {
    taps: u64,
    stride: u64,
    dilation: u64,
    padding: u64,
    kind: What,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum What {
    Conv,
    Depthwise,
    Pool,
    Function,
    /// Adds what an earlier layer made (0 is the chain's input).
    Add(usize),
}

/// A chain on an image, and the rows of the input and of each layer.
struct Chain {
    layers: Vec<Layer>,
    rows: Vec<u64>,
    graph: Graph,
}

fn layer(kind: What, taps: u64, stride: u64, padding: u64) -> Layer {
    Layer {
        taps,
        stride,
        dilation: 1,
        padding,
        kind,
    }
}

fn conv(taps: u64) -> Layer {
    layer(What::Conv, taps, 1, taps / 2)
}

fn chain(layers: &[Layer], channels: u64, size: u64) -> Option<Chain> {
    let mut b = Builder::new("chain");
    let mut made = vec![b.input("x", &[1, channels, size, size])];
    let mut rows = vec![size];
    for (i, l) in layers.iter().enumerate() {
        let name = format!("l{i}");
        let x = *made.last()?;
        let conv = Conv {
            out_channels: channels,
            kernel: [l.taps; 2],
            stride: [l.stride; 2],
            padding: [l.padding; 4],
            dilation: [l.dilation; 2],
            groups: if l.kind == What::Depthwise {
                channels
            } else {
                1
            },
            bias: false,
        };
        let padded = rows.last()? + 2 * l.padding;
        let room = padded.checked_sub(l.dilation * (l.taps - 1) + 1)?;
        let y = match l.kind {
            What::Conv | What::Depthwise => b.conv2d(&name, x, &conv).ok()?,
            What::Pool => {
                let (k, s, p) = ([l.taps; 2], [l.stride; 2], [l.padding; 4]);
                b.pool2d(&name, x, PoolKind::Max, k, s, p, false).ok()?
            }
            What::Function => b.function(&name, x, Function::Gelu).ok()?,
            What::Add(from) => {
                if rows[from] != *rows.last()? {
                    return None;
                }
                b.add(&name, x, made[from]).ok()?
            }
        };
        made.push(y);
        rows.push(room / l.stride + 1);
    }
    b.output(*made.last()?);
    Some(Chain {
        layers: layers.to_vec(),
        rows,
        graph: int8(b.finish().ok()?),
    })
}

fn random(numbers: &mut Numbers) -> Option<Chain> {
    let length = 2 + numbers.below(3);
    let mut layers = Vec::new();
    for i in 0..length {
        let taps = numbers.of(&[1, 2, 3, 3, 5]);
        let dilation = numbers.of(&[1, 1, 2]);
        let kind = match numbers.below(6) {
            0 => What::Depthwise,
            1 => What::Pool,
            2 => What::Function,
            3 => What::Add(numbers.below(i + 1)),
            _ => What::Conv,
        };
        let windows = matches!(kind, What::Conv | What::Depthwise);
        let sized = windows || kind == What::Pool;
        layers.push(Layer {
            taps: if sized { taps } else { 1 },
            stride: if sized {
                numbers.of(&[1, 1, 1, 2, 3])
            } else {
                1
            },
            dilation: if windows { dilation } else { 1 },
            padding: if sized {
                numbers.below(taps as usize) as u64
            } else {
                0
            },
            kind,
        });
    }
    chain(&layers, 4, numbers.of(&[9, 12, 17, 24]))
}

impl Chain {
    /// Rows of the layers' input (0 is the chain's) that rows of a layer's output read, by layer read.
    fn reads(&self, layer: usize, rows: &BTreeSet<u64>) -> Vec<(usize, BTreeSet<u64>)> {
        let l = self.layers[layer];
        let size = self.rows[layer] as i64;
        let at = |p: &u64| {
            let p = *p;
            (0..l.taps).map(move |t| (p * l.stride + t * l.dilation) as i64 - l.padding as i64)
        };
        let read = rows.iter().flat_map(at);
        let inside = read.filter(|r| (0..size).contains(r)).map(|r| r as u64);
        let mut list = vec![(layer, inside.collect())];
        if let What::Add(from) = l.kind {
            list.push((from, rows.clone()));
        }
        list
    }

    /// Rows that an iteration makes again of each layer's output, and wants of the input (first).
    fn again(&self, tile: &BTreeSet<u64>) -> Vec<BTreeSet<u64>> {
        let n = self.layers.len();
        let mut made = vec![BTreeSet::new(); n + 1];
        made[n] = tile.clone();
        for layer in (0..n).rev() {
            // Without gaps.
            if let (Some(from), Some(to)) = (made[layer + 1].first(), made[layer + 1].last()) {
                made[layer + 1] = (*from..=*to).collect();
            }
            for (read, rows) in self.reads(layer, &made[layer + 1].clone()) {
                made[read].extend(rows);
            }
        }
        if let (Some(from), Some(to)) = (made[0].first(), made[0].last()) {
            made[0] = (*from..=*to).collect();
        }
        made
    }

    fn tiles(&self, tile: u64) -> Vec<BTreeSet<u64>> {
        let size = *self.rows.last().unwrap();
        let of = |i: u64| (i * tile..((i + 1) * tile).min(size)).collect();
        (0..size.div_ceil(tile)).map(of).collect()
    }
}

/// The node of a window that a layer's output (or the chain's input, 0) is. Layers that run in an epilogue come in
/// the same order.
fn node(window: &Window, layer: usize) -> usize {
    match layer {
        0 => window.of_site.len(),
        _ => layer - 1,
    }
}

fn groups(
    numbers: &mut Numbers,
    mut f: impl FnMut(&Pricing, &Chain, &Group, &mut Numbers),
) -> usize {
    let mut found = 0;
    for _ in 0..120 {
        let Some(chain) = random(numbers) else {
            continue;
        };
        with(&chain.graph, &fusing(64 << 10), |p, roots| {
            if roots.len() < 2 {
                return;
            }
            let Some(group) = Group::of(p.scene, roots) else {
                return;
            };
            if group.windows.is_empty() {
                return;
            }
            found += 1;
            f(p, &chain, &group, numbers);
        });
    }
    found
}

#[test]
fn rows_of_a_convolution_chain_are_a_loop() {
    let layers = [conv(1), conv(3), conv(1), layer(What::Add(0), 1, 1, 0)];
    let chain = chain(&layers, 8, 16).unwrap();
    with(&chain.graph, &fusing(1 << 20), |p, roots| {
        let group = Group::of(p.scene, roots).unwrap();
        assert_eq!(group.windows.len(), 2);
        let kinds: Vec<Kind> = group
            .windows
            .iter()
            .map(|w| group.axes[w.axis].kind)
            .collect();
        assert_eq!(kinds, [Kind::Window; 2]);
        // The skip reads rows in step with the last convolution, one row behind what the 3x3 window has reached.
        let slides = group.windows[0].slides(4, true).unwrap();
        let x = node(&group.windows[0], 0);
        assert_eq!(slides.most.there[x].count, 5);
        assert_eq!(
            group.windows[0].slides(4, false).unwrap().most.there[x].count,
            6
        );
    });
}

/// What is read from outside slides; rows of no op overlap.
#[test]
fn rows_of_a_convolution_before_pointwise_ones_are_a_loop() {
    let layers = [conv(3), conv(1), layer(What::Function, 1, 1, 0), conv(1)];
    let chain = chain(&layers, 8, 16).unwrap();
    with(&chain.graph, &fusing(1 << 20), |p, roots| {
        let group = Group::of(p.scene, roots).unwrap();
        assert_eq!(group.windows.len(), 2);
        for window in &group.windows {
            assert_eq!(group.axes[window.axis].kind, Kind::Window);
            let slides = window.slides(4, false).unwrap();
            for layer in 1..=layers.len() {
                assert_eq!(slides.made[node(window, layer)], 16);
            }
            // 5 + 6 + 6 + 5 rows of the input: one more on each side that is no edge.
            assert_eq!(slides.made[node(window, 0)], 22);
        }
    });
    // Of pointwise ones alone nothing overlaps.
    let plain = super::halo::chain(&[conv(1), conv(1)], 8, 16).unwrap();
    with(&plain.graph, &fusing(1 << 20), |p, roots| {
        let group = Group::of(p.scene, roots).unwrap();
        assert_eq!(group.windows.len(), 2);
        let slides = group.windows[0].slides(4, false).unwrap();
        assert_eq!(slides.made, [16; 3]);
    });
}

/// Rows made again are those of a walk, and what each reads is there exactly where the whole op reads it.
#[test]
fn rows_made_again_are_those_of_a_walk() {
    let mut numbers = Numbers(5);
    let mut checked = 0;
    let found = groups(&mut numbers, |p, chain, group, numbers| {
        for window in &group.windows {
            let tile = 1 + numbers.below(*chain.rows.last().unwrap() as usize) as u64;
            let slides = window.slides(tile, false).unwrap();
            let walk: Vec<Vec<BTreeSet<u64>>> =
                chain.tiles(tile).iter().map(|t| chain.again(t)).collect();
            for layer in 0..=chain.layers.len() {
                let expected: u64 = walk.iter().map(|i| i[layer].len() as u64).sum();
                let counted: u64 = slides
                    .classes
                    .iter()
                    .map(|(n, s)| n * s.made[node(window, layer)].count)
                    .sum();
                assert_eq!(counted, expected, "{:?} {tile} layer {layer}", chain.layers);
                assert_eq!(slides.made[node(window, layer)], expected);
            }
            inside(window, &slides.classes);
            checked += 1;
        }
        let _ = p;
    });
    assert!(found > 40 && checked > 80, "{found} {checked}");
}

/// Each tap of each row made falls on what is there exactly if it is no padding.
fn inside(window: &Window, classes: &[(u64, super::super::windows::Slide)]) {
    for (_, slide) in classes {
        for read in &window.reads {
            let (made, there) = (slide.made[read.site], slide.there[read.node]);
            for row in 0..made.count as i64 {
                for tap in (0..read.span).step_by(read.dilation as usize) {
                    let whole = (made.from + row) * read.stride + read.offset + tap;
                    let local = read.local(slide) + row * read.stride + tap;
                    let real = (0..window.sizes[read.node] as i64).contains(&whole);
                    let here = (0..there.count as i64).contains(&local);
                    assert_eq!(real, here, "{window:?} {slide:?}");
                    assert!(!here || whole == there.from + local);
                }
            }
        }
    }
}

/// With rows kept each is made once, in order; what a walk over all iterations finds missing was never dropped.
#[test]
fn rows_that_are_kept_are_made_once_and_there_when_read() {
    let mut numbers = Numbers(6);
    let mut held_some = 0;
    let found = groups(&mut numbers, |_, chain, group, numbers| {
        let window = &group.windows[0];
        let tile = 1 + numbers.below(*chain.rows.last().unwrap() as usize) as u64;
        let slides = window.slides(tile, true).unwrap();
        held_some += u32::from(slides.kept.contains(&true));
        inside(window, &slides.classes);
        let n = chain.layers.len();
        for layer in 1..=n {
            assert_eq!(
                slides.made[node(window, layer)],
                chain.rows[layer],
                "{:?} {tile}",
                chain.layers
            );
        }
        // A buffer of as many rows as are there at most, with the rows made last: nothing older is read.
        let mut made: Vec<u64> = vec![0; n + 1];
        for (i, rows) in chain.tiles(tile).iter().enumerate() {
            let last = i + 1 == chain.tiles(tile).len();
            let before = made.clone();
            let want = chain.again(rows);
            for layer in 0..=n {
                let end = want[layer].last().map_or(0, |r| r + 1);
                made[layer] = made[layer].max(end);
                if last && layer > 0 {
                    made[layer] = chain.rows[layer];
                }
            }
            // Rows that only the last rows of layers need.
            if last {
                for layer in (0..n).rev() {
                    let all: BTreeSet<u64> = (0..made[layer + 1]).collect();
                    for (read, rows) in chain.reads(layer, &all) {
                        made[read] = made[read].max(rows.last().map_or(0, |r| r + 1));
                    }
                }
            }
            for layer in 0..n {
                let new: BTreeSet<u64> = (before[layer + 1]..made[layer + 1]).collect();
                for (read, rows) in chain.reads(layer, &new) {
                    let (Some(first), Some(end)) = (rows.first(), rows.last()) else {
                        continue;
                    };
                    assert!(*end < made[read], "{:?} {tile} {layer}", chain.layers);
                    let held = slides.most.there[node(window, read)].count;
                    assert!(
                        made[read] - first <= held,
                        "{:?} {tile} {layer}",
                        chain.layers
                    );
                }
            }
        }
    });
    assert!(found > 40 && held_some > 15, "{found} {held_some}");
}

fn cut(group: &Group, tiles: [u64; 2], kept: Option<usize>) -> Cut {
    let mut all: Vec<u64> = group.axes.iter().map(|a| a.size).collect();
    for (w, tile) in group.windows.iter().zip(tiles) {
        all[w.axis] = tile.min(all[w.axis]);
    }
    Cut { tiles: all, kept }
}

/// MACs of an op over all pieces of a tiling.
fn macs(tiling: &Tiling, member: usize) -> u128 {
    let pieces = tiling.pieces.iter();
    pieces
        .map(|(piece, step)| op_macs(&step.graph, OpId(member as u32)).1 * u128::from(piece.weight))
        .sum()
}

/// MACs of iterations: with rows kept those of the whole ops; made again, the rows of a walk by those of columns.
#[test]
fn macs_of_iterations_are_those_of_a_walk() {
    let mut numbers = Numbers(7);
    let mut more = 0;
    let found = groups(&mut numbers, |p, chain, group, numbers| {
        let size = *chain.rows.last().unwrap() as usize;
        let tiles = [(); 2].map(|()| 1 + numbers.below(size) as u64);
        for kept in [None, Some(0)] {
            let tiles = [
                tiles[0],
                if kept.is_some() {
                    size as u64
                } else {
                    tiles[1]
                },
            ];
            let Some(tiling) = Tiling::new(p.scene, group, &cut(group, tiles, kept), None, false)
            else {
                continue;
            };
            let rows = |tile: u64, layer: usize| -> u128 {
                let of = |t: &BTreeSet<u64>| chain.again(t)[layer].len() as u128;
                chain.tiles(tile).iter().map(of).sum()
            };
            for (member, id) in group.ops.iter().enumerate() {
                let whole = op_macs(p.scene.graph, *id).1;
                // Ops are made in the order of layers.
                let layer = id.0 as usize + 1;
                let all = u128::from(chain.rows[layer]).pow(2);
                let expected = match kept {
                    Some(_) => whole,
                    None => {
                        let part = |w: usize| match tiles[w] < size as u64 {
                            true => rows(tiles[w], layer),
                            false => u128::from(chain.rows[layer]),
                        };
                        whole / all * part(0) * part(1)
                    }
                };
                more += u32::from(expected > whole);
                assert_eq!(
                    macs(&tiling, member),
                    expected,
                    "{:?} {tiles:?} {kept:?}",
                    chain.layers
                );
            }
        }
    });
    assert!(found > 40 && more > 20, "{found} {more}");
}

/// Random ways of random chains: work, words of the root memory and room, against walks.
#[test]
fn prices_of_random_chains_cover_what_a_walk_counts() {
    let mut numbers = Numbers(8);
    let mut priced = [0; 3];
    groups(&mut numbers, |p, chain, group, numbers| {
        let memory = memories(p.scene, group)[0];
        let size = *chain.rows.last().unwrap() as usize;
        for _ in 0..3 {
            let tiles = [(); 2].map(|()| 1 + numbers.below(size) as u64);
            let kept = numbers.of(&[None, Some(0), Some(1)]);
            let cut = cut(group, tiles, kept);
            if kept.is_some_and(|w| cut.tiles[group.windows[w].axis] == size as u64) {
                continue;
            }
            let Some(tiling) = Tiling::new(p.scene, group, &cut, None, false) else {
                continue;
            };
            let orders = tiling.orders();
            if tiling.loops.is_empty() || orders.is_empty() {
                continue;
            }
            let all = numbers.below(2) == 1;
            let way = Way {
                memory,
                loops: orders[numbers.below(orders.len())].clone(),
                held: match all {
                    true => tiling.outside.iter().map(|o| o.tensor).collect(),
                    false => Vec::new(),
                },
            };
            if p.room(group, &tiling, &way) <= 0.0 {
                continue;
            }
            let Some(found) = p.price(group, &tiling, &way) else {
                continue;
            };
            priced[kept.map_or(0, |_| 1)] += 1;
            priced[2] += usize::from(all);
            covers(p, chain, group, &tiling, &way, &found, all);
        }
    });
    assert!(priced.iter().all(|n| *n > 25), "{priced:?}");
}

fn covers(
    p: &Pricing,
    chain: &Chain,
    group: &Group,
    tiling: &Tiling,
    way: &Way,
    found: &Priced,
    all: bool,
) {
    let scene = p.scene;
    let (chip, root) = (scene.chip, scene.chip.root());
    let what = format!("{:?} {:?} {:?}", chain.layers, way, tiling.cut);
    let work: u128 = (0..group.ops.len()).map(|m| macs(tiling, m)).sum();
    let counted: u128 = found.ops.iter().map(|o| o.cost.executed_macs).sum();
    assert_eq!(counted, work, "{what}");
    let own = || {
        found
            .ops
            .iter()
            .flat_map(|o| &o.cost.counts)
            .filter(|c| c.memory == root)
    };
    let read: f64 = own().map(|c| c.read_bits).sum();
    let written: f64 = own().map(|c| c.write_bits).sum();
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b;
    let last = *group.ops.last().unwrap();
    let out = &scene.graph.tensors[scene.output_of(last).unwrap()];
    assert!(close(written, out.bits().0 as f64), "{what}: {written}");
    // Weights once; rows of the input as a walk over the tiles fetches them.
    let weights: f64 = scene
        .graph
        .tensors
        .iter()
        .filter(|t| t.role == presil_workloads::Role::Weight)
        .map(|t| t.bits().0 as f64)
        .sum();
    let row_sets = |w: usize| -> Vec<u64> {
        let tile = tiling.cut.tiles[group.windows[w].axis];
        let size = *chain.rows.last().unwrap();
        if tile == size {
            return vec![chain.rows[0]];
        }
        let fetched = |t: &BTreeSet<u64>| chain.again(t)[0].clone();
        let sets: Vec<BTreeSet<u64>> = chain.tiles(tile).iter().map(fetched).collect();
        match tiling.cut.kept == Some(w) {
            false => sets.iter().map(|s| s.len() as u64).collect(),
            true => {
                let slides = group.windows[w].slides(tile, true).unwrap();
                vec![slides.made[group.windows[w].of_site.len()]]
            }
        }
    };
    let rows = row_sets(0).iter().sum::<u64>() * row_sets(1).iter().sum::<u64>();
    let input = rows as f64 * 4.0 * 8.0;
    if all {
        assert!(
            close(read, weights + input),
            "{what}: {read} for {weights} and {input}"
        );
    } else {
        assert!(read >= weights * (1.0 - 1e-9), "{what}: {read}");
    }
    let peak = crate::schedule::peak_macs_per_second(scene.graph, chip);
    assert!(
        work == 0 || found.time >= work as f64 / peak * (1.0 - 1e-9),
        "{what}: {}",
        found.time
    );
    let port = crate::ledger::port_time(chip, root, read, written).0;
    assert!(
        found.time >= port * (1.0 - 1e-9),
        "{what}: {} {port}",
        found.time
    );
    fits(p, group, tiling, way, found, &what);
    // The bound is one.
    let base = super::super::bound::base(scene, group, tiling, memory_of(way), p.residency, true);
    let floor = base.floor(chip, tiling, way, p.residency, 0.0);
    assert!(
        found.time >= floor.time * (1.0 - 1e-9),
        "{what}: {} {floor:?}",
        found.time
    );
    assert!(
        found.energy >= floor.energy * (1.0 - 1e-9),
        "{what}: {} {floor:?}",
        found.energy
    );
    let best = base.best(chip, tiling, 0.0);
    assert!(best.time <= floor.time * (1.0 + 1e-9) && best.energy <= floor.energy * (1.0 + 1e-9));
}

fn memory_of(way: &Way) -> NodeId {
    way.memory
}

fn executed(s: &Schedule) -> u128 {
    s.ops.iter().map(|o| o.cost.executed_macs).sum()
}

/// Two 3x3 convolutions whose images do not fit: only the ends move, and no MAC is made twice if rows are kept.
#[test]
fn a_convolution_chain_moves_only_its_ends() {
    let chain = chain(&[conv(3), conv(3)], 32, 64).unwrap();
    let chip = fusing(96 << 10);
    let plain = scheduled(&chain.graph, &chip, Objective::Latency, false);
    let fused = scheduled(&chain.graph, &chip, Objective::Latency, true);
    assert_eq!(fused.groups.len(), 1);
    let (read, written) = root_bits(&fused);
    let image = 8.0 * 32.0 * 64.0 * 64.0;
    assert!((written - image).abs() <= 1e-6 * image, "{written}");
    let (all, _) = root_bits(&plain);
    assert!(read < all && read >= image, "{read} {all}");
    assert!(total(&fused) < total(&plain));
    assert!(executed(&fused) >= executed(&plain));
}
