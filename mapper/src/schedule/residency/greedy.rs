//! Greedy choices: what the dynamic programme is compared with where it drops states.

use super::load::Load;
use super::select::{Choices, Share};

/// Adds items to what is at home on chip, those of most value for each byte and position first (or for each
/// position), each to the memory of most value that has room; `None` if what was there did not fit. `load`: that of what is at home, with what fixed
/// items share taken off.
pub(super) fn fill(
    choices: &Choices,
    mut load: Load,
    fixed: &[Option<usize>],
    mut homes: Vec<Option<usize>>,
    dense: bool,
) -> Option<Vec<Option<usize>>> {
    let n = homes.len();
    let mut shares: Vec<Vec<Share>> = vec![Vec::new(); n];
    for s in &choices.shares {
        shares[s.from.0].push(*s);
        if s.to.0 != s.from.0 {
            shares[s.to.0].push(*s);
        }
        // Those of fixed items are taken off.
        let both = fixed[s.from.0].is_some() && fixed[s.to.0].is_some();
        if let (false, Some(a), Some(b)) = (both, homes[s.from.0], homes[s.to.0])
            && a == b
        {
            load.share(choices, s, a, true);
        }
    }
    let score = |i: usize| {
        let item = &choices.items[i];
        item.best().map_or(0.0, |(m, value)| {
            let positions: usize = item.spans().map(|s| s.to - s.from + 1).sum();
            let bytes = if dense { item.bytes(m).max(1) } else { 1 };
            value / (positions.max(1) as f64 * bytes as f64)
        })
    };
    let mut order: Vec<usize> = (0..n).filter(|i| homes[*i].is_none()).collect();
    order.sort_by(|a, b| score(*b).total_cmp(&score(*a)).then(a.cmp(b)));
    for i in order {
        let item = &choices.items[i];
        let mut able: Vec<(usize, f64)> = item
            .value
            .iter()
            .enumerate()
            .filter_map(|(m, v)| v.filter(|v| *v > 0.0).map(|v| (m, v)))
            .collect();
        able.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for (m, _) in able {
            homes[i] = Some(m);
            let new: Vec<Share> = shares[i]
                .iter()
                .filter(|s| homes[s.from.0] == Some(m) && homes[s.to.0] == Some(m))
                .copied()
                .collect();
            load.add(item, Some(m));
            new.iter().for_each(|s| load.share(choices, s, m, true));
            let mut positions = item.spans().flat_map(|s| s.from..=s.to);
            if positions.all(|p| !load.excess(&choices.memories[m], m, p)) {
                break;
            }
            new.iter().for_each(|s| load.share(choices, s, m, false));
            load.remove(item, m);
            homes[i] = None;
        }
    }
    load.fits(choices).then_some(homes)
}
