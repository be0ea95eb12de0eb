//! The tilings of a group that are looked at: those that may fit a memory, of fewest iterations.
//!
//! ```text
//! tiles     of 1, 2, 3, 4, 6, 8, 12 .. iterations of each loop, all factors of short ones
//! windows   columns are cut only where rows are; where tiles overlap, rows are made again or kept along one of the loops
//! filled    = intermediates that one op touches, as much of them as is there in an iteration, and all rows that are kept
//! ```
//!
//! Rewritten or not; rows cut, and then kept or not; with much room left or little: of each class those of fewest
//! iterations.

use presil_hwmodels::NodeId;

use super::TILINGS;
use super::axes::{Group, Kind};
use super::plan::{Cut, tile_sizes};
use super::ways::ROOMS;
use super::windows::Slides;
use crate::schedule::residency::Scene;

/// Forms of tilings that cut rows: those are made again, or kept.
const KEPT: usize = 2;
const AGAIN: usize = 3;
/// Tilings of each of those forms and of each class of room.
const SLIDING: usize = 6;

/// An intermediate, whole.
struct Inner {
    bytes: f64,
    /// Its axes outside of windows.
    axes: Vec<usize>,
    /// The site that makes it.
    maker: usize,
    /// Ops that make or read it.
    members: Vec<usize>,
}

/// The iterations of a window for each tile size, with rows made again and kept.
type Known = Vec<(u64, [Option<Slides>; 2])>;

/// Iterations of a tiling, its tiles, and the window along which rows are kept.
type Counted = (u64, Vec<u64>, Option<usize>);

/// Tilings that may fit a memory.
pub(super) fn cuts(scene: &Scene, group: &Group, memory: NodeId) -> Vec<Cut> {
    let capacity = scene.chip.nodes[memory]
        .memory()
        .map_or(0, |m| m.capacity.0);
    let inner = inner(scene, group);
    let known: Vec<Known> = (0..group.windows.len()).map(|w| known(group, w)).collect();
    let mut classes: Vec<Vec<Counted>> = vec![Vec::new(); 4 * ROOMS.len()];
    for (n, tiles) in tilings(group) {
        let online = group.axes.iter().zip(&tiles);
        let online = online
            .clone()
            .any(|(a, t)| a.kind == Kind::Online && *t < a.size);
        for kept in kept(group, &known, &tiles) {
            let left = 1.0 - filled(group, &inner, &known, &tiles, kept) / capacity as f64;
            if left > 0.0 {
                let room = ROOMS.iter().position(|r| left >= *r).unwrap_or(0);
                let form = match (group.slides(&tiles), kept, online) {
                    (true, None, _) => AGAIN,
                    (_, Some(_), _) => KEPT,
                    (false, None, online) => usize::from(online),
                };
                classes[4 * room + form].push((n, tiles.clone(), kept));
            }
        }
    }
    let mut chosen = Vec::new();
    for (i, class) in classes.iter_mut().enumerate() {
        class.sort();
        let most = match i % 4 {
            AGAIN | KEPT => SLIDING,
            _ => TILINGS / ROOMS.len(),
        };
        let few = class.drain(..).take(most);
        chosen.extend(few.map(|(_, tiles, kept)| Cut { tiles, kept }));
    }
    chosen
}

/// All tile sizes of all loops, with the iterations.
fn tilings(group: &Group) -> Vec<(u64, Vec<u64>)> {
    let start: Vec<u64> = group.axes.iter().map(|a| a.size).collect();
    let mut list = vec![(1u64, start)];
    let rows = group.windows.first().map(|w| w.axis);
    for (axis, a) in group.axes.iter().enumerate() {
        if a.kind == Kind::Fixed || Some(axis) == rows {
            continue;
        }
        list = longer(&list, axis, a.size, |_| true);
    }
    let Some(rows) = rows else { return list };
    let others: Vec<usize> = group.windows.iter().skip(1).map(|w| w.axis).collect();
    let whole = |tiles: &[u64]| others.iter().all(|o| tiles[*o] == group.axes[*o].size);
    let size = group.axes[rows].size;
    longer(&list, rows, size, |tiles| {
        tiles[rows] < size || whole(tiles)
    })
}

fn longer(
    list: &[(u64, Vec<u64>)],
    axis: usize,
    size: u64,
    wanted: impl Fn(&[u64]) -> bool,
) -> Vec<(u64, Vec<u64>)> {
    let mut next = Vec::new();
    for (n, tiles) in list {
        for tile in tile_sizes(size) {
            let mut tiles = tiles.clone();
            tiles[axis] = tile;
            if wanted(&tiles) {
                next.push((n.saturating_mul(size.div_ceil(tile)), tiles));
            }
        }
    }
    next
}

fn known(group: &Group, window: usize) -> Known {
    let w = &group.windows[window];
    let size = group.axes[w.axis].size;
    let cut = tile_sizes(size).into_iter().filter(|t| *t < size);
    cut.map(|t| (t, [w.slides(t, false), w.slides(t, true)]))
        .collect()
}

/// The iterations of a window in a tiling; none where it is not cut.
fn slides<'a>(
    group: &Group,
    known: &'a [Known],
    window: usize,
    tiles: &[u64],
    kept: bool,
) -> Option<&'a Slides> {
    let tile = tiles[group.windows[window].axis];
    let of = known[window].iter().find(|k| k.0 == tile)?;
    of.1[usize::from(kept)].as_ref()
}

/// Rows made again, and kept along each window whose tiles overlap.
fn kept(group: &Group, known: &[Known], tiles: &[u64]) -> Vec<Option<usize>> {
    let overlaps =
        |w: &usize| slides(group, known, *w, tiles, true).is_some_and(|s| s.kept.contains(&true));
    let windows = (0..group.windows.len()).filter(overlaps).map(Some);
    std::iter::once(None).chain(windows).collect()
}

/// Bytes that are there at one time at most: what an op reads and what it makes, and what stays.
fn filled(
    group: &Group,
    inner: &[Inner],
    known: &[Known],
    tiles: &[u64],
    kept: Option<usize>,
) -> f64 {
    let cut = |w: usize| slides(group, known, w, tiles, kept == Some(w));
    let windows = 0..group.windows.len();
    let bytes = |i: &Inner| {
        let plain = i
            .axes
            .iter()
            .map(|a| tiles[*a] as f64 / group.axes[*a].size as f64);
        let rows = windows.clone().filter_map(|w| {
            let there = cut(w)?.most.there[i.maker].count;
            Some(there as f64 / group.windows[w].sizes[i.maker] as f64)
        });
        i.bytes * plain.product::<f64>() * rows.product::<f64>()
    };
    let stays = |i: &Inner| {
        let slides = kept.and_then(cut);
        slides.is_some_and(|s| s.kept[i.maker])
    };
    let members = 0..group.ops.len();
    let of = |m: usize| {
        let own = inner.iter().filter(|i| i.members.contains(&m) || stays(i));
        own.map(bytes).sum::<f64>()
    };
    members.map(of).fold(0.0, f64::max)
}

/// The intermediates of a group, whole.
fn inner(scene: &Scene, group: &Group) -> Vec<Inner> {
    let of = |t: &presil_workloads::TensorId| {
        let touches = |m: &usize| {
            let op = &scene.graph.ops[group.ops[*m]];
            let mut all = op.inputs.iter().chain(&op.outputs);
            all.any(|x| scene.stored(*x) == t.0 as usize)
        };
        let maker = group.maker(scene, *t)?;
        let rows: Vec<usize> = group.windows.iter().map(|w| w.of_site[maker]).collect();
        let axes = group.named(maker, &group.einsum(scene, maker).output);
        Some(Inner {
            bytes: scene.graph.tensors[*t].bits().0 as f64 / 8.0,
            axes: axes.into_iter().filter(|a| !rows.contains(a)).collect(),
            maker,
            members: (0..group.ops.len()).filter(touches).collect(),
        })
    };
    group.inner.iter().filter_map(of).collect()
}
