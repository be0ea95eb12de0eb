//! A chain cut into stages, exactly: the least of the longest stage.
//!
//! ```text
//! T(j, i, c)   time of units j..i on c cores: the sum of theirs, infinite where their weights do not fit
//! best(i, k)   = min over j < i, c <= k of max(best(j, k - c), T(j, i, c))
//! ```
//!
//! Among equal ones the one of the least sum of times wins, then fewer cores and stages.

/// A unit of the chain on one of the numbers of cores that are looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    /// Seconds; infinite where it cannot run so.
    pub(super) time: f64,
    /// Bytes of weights in each buffer.
    pub(super) weights: u64,
}

/// Longest stage and sum of times, and the first unit and the cores of the last stage.
type Reached = ((f64, f64), usize, u64);

/// A stage: units from and up to without, and its cores.
pub(super) type Stage = (usize, usize, u64);

/// The stages of a chain: `table[u][n]` is unit `u` on `counts[n]` cores; `all`: cores there are; `room`: bytes of a buffer.
pub(super) fn balance(
    table: &[Vec<Choice>],
    counts: &[u64],
    all: u64,
    room: u64,
) -> Option<Vec<Stage>> {
    let units = table.len();
    let all = usize::try_from(all).ok()?;
    let mut best: Vec<Vec<Option<Reached>>> = vec![vec![None; all + 1]; units + 1];
    for slot in &mut best[0] {
        *slot = Some(((0.0, 0.0), 0, 0));
    }
    for end in 1..=units {
        for (n, &cores) in counts.iter().enumerate() {
            let c = cores as usize;
            let (mut time, mut weights) = (0.0, 0u64);
            for start in (0..end).rev() {
                let unit = table.get(start).and_then(|t| t.get(n))?;
                time += unit.time;
                weights = weights.saturating_add(unit.weights);
                if weights > room || !time.is_finite() {
                    break;
                }
                for k in c..=all {
                    let Some((before, _, _)) = best[start][k - c] else {
                        continue;
                    };
                    let value = (before.0.max(time), before.1 + time);
                    let slot = &mut best[end][k];
                    let better = match slot {
                        Some((old, _, _)) => less(value, *old),
                        None => true,
                    };
                    if better {
                        *slot = Some((value, start, cores));
                    }
                }
            }
        }
    }
    // Fewest cores that reach the best.
    let last = best[units].iter().flatten().map(|s| s.0);
    let target = last.reduce(|a, b| if less(b, a) { b } else { a })?;
    let mut k = (0..=all).find(|k| best[units][*k].is_some_and(|s| !less(target, s.0)))?;
    let mut stages = Vec::new();
    let mut end = units;
    while end > 0 {
        let (_, start, cores) = best[end][k]?;
        stages.push((start, end, cores));
        k -= cores as usize;
        end = start;
    }
    stages.reverse();
    Some(stages)
}

/// Whether a pair is less than another, by more than rounding.
fn less(a: (f64, f64), b: (f64, f64)) -> bool {
    let near = |x: f64, y: f64| (x - y).abs() <= 1e-12 * x.abs().max(y.abs());
    if near(a.0, b.0) {
        a.1 < b.1 && !near(a.1, b.1)
    } else {
        a.0 < b.0
    }
}
