//! Exact fast-forward.
//!
//! What a machine does next depends on its *state*: where each queue stands, what is set up, moving and draining and how
//! much of it is left, tokens. Nothing depends on the moment itself or on how often a loop has run, as long as no loop ends.
//! So if a state comes again, each queue having gone on by whole iterations of one of its loops, all that happened between
//! happens again, to the femtosecond, until one of these loops ends:
//!
//! ```text
//! periods = min over queues  floor((count - 1 - iteration) / iterations gone on by)
//! ```
//!
//! All of them are skipped at once: moments and iterations move on, and sums (which are linear in what happens) grow, by as many times what the
//! period took and added. States are compared whole, so hashes only say when to look.
//!
//! States are taken when a leading queue begins another iteration of a loop. A state that was seen among the last [`RECENT`] of its loop is
//! kept with its sums; when it comes again, the period is known. Inner loops are skipped first, then the loops around them: periods
//! of those hold skipped ones.

use std::hash::{Hash, Hasher};

use rustc_hash::{FxHashMap, FxHasher};

use super::machine::{Machine, Pace, Seen, Stuck};

/// States of a loop that are remembered: the longest period, in its iterations.
const RECENT: usize = 32;

/// Loops that are watched, and what has been skipped.
pub(super) struct Skipper {
    pace: Pace,
    loops: FxHashMap<(u32, u32), Watch>,
    state: Vec<u64>,
    pub(super) skipped: u64,
}

#[derive(Default)]
struct Watch {
    recent: [u64; RECENT],
    seen: usize,
    kept: Option<Kept>,
}

/// A state with what has become of the program until then.
struct Kept {
    state: Vec<u64>,
    now: u64,
    /// Iterations of the loops that queues are in, queue by queue.
    iterations: Vec<u64>,
    sums: Vec<u64>,
    /// States of its loop since.
    age: usize,
}

impl Skipper {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            loops: FxHashMap::default(),
            state: Vec::new(),
            skipped: 0,
        }
    }

    /// Skips periods, if the machine is in a state that it has been in.
    pub(super) fn look(&mut self, machine: &mut Machine) -> Option<Result<Seen, Stuck>> {
        if self.pace == Pace::EveryEvent || machine.wrapped.is_empty() {
            return None;
        }
        state(machine, &mut self.state);
        let mut hasher = FxHasher::default();
        self.state.hash(&mut hasher);
        let hash = hasher.finish();
        for at in 0..machine.wrapped.len() {
            let watch = self.loops.entry(machine.wrapped[at]).or_default();
            let Some(kept) = watch.look(hash, &self.state, machine) else {
                continue;
            };
            if let Some(periods) = periods(&kept, machine) {
                let length = machine.now - kept.now;
                let Some(time) = length
                    .checked_mul(periods)
                    .filter(|t| machine.now.checked_add(*t).is_some())
                else {
                    return Some(Err(Stuck::TooLong));
                };
                let start = machine.now;
                advance(machine, &kept, periods, time);
                self.skipped += time;
                return Some(Ok(Seen::Skipped {
                    start,
                    end: machine.now,
                    periods,
                }));
            }
            watch.keep(&self.state, machine);
        }
        None
    }
}

impl Watch {
    /// The same state as before, if it was kept. Else remembers this one.
    fn look(&mut self, hash: u64, state: &[u64], machine: &Machine) -> Option<Kept> {
        if let Some(kept) = &mut self.kept {
            kept.age += 1;
            if kept.state == state {
                return self.kept.take();
            }
        }
        let known = self.recent[..self.seen.min(RECENT)].contains(&hash);
        if known && self.kept.as_ref().is_none_or(|k| k.age > RECENT) {
            self.keep(state, machine);
        }
        self.recent[self.seen % RECENT] = hash;
        self.seen += 1;
        None
    }

    fn keep(&mut self, state: &[u64], machine: &Machine) {
        self.kept = Some(Kept {
            state: state.to_vec(),
            now: machine.now,
            iterations: iterations(machine).collect(),
            sums: machine.sums.row.clone(),
            age: 0,
        });
    }
}

fn iterations<'m>(machine: &'m Machine) -> impl Iterator<Item = u64> + 'm {
    let frames = machine.lanes.iter().flat_map(|l| &l.frames);
    frames.map(|f| f.iteration)
}

/// All that the future depends on, relative to now and but for the iterations of loops.
fn state(machine: &Machine, into: &mut Vec<u64>) {
    into.clear();
    let now = machine.now;
    let ahead = |t: u64| t.saturating_sub(now);
    for lane in &machine.lanes {
        into.push(
            u64::from(lane.at) << 32 | lane.tag.map_or(u64::from(u32::MAX), |t| u64::from(t.0)),
        );
        into.push((lane.setups.len() as u64) << 32 | lane.tails.len() as u64);
        for (work, at) in lane.setups.iter().chain(&lane.tails) {
            into.extend([u64::from(*work), ahead(*at)]);
        }
        into.push(ahead(lane.last));
        let Some(m) = &lane.moving else {
            into.push(u64::MAX);
            continue;
        };
        into.extend([u64::from(m.work), ahead(m.cycles)]);
        if let Some(f) = &m.flow {
            into.extend([f.left, now - f.since, ahead(f.end)]);
        }
    }
    into.extend(&machine.pools);
}

/// How often what happened since can happen again before a loop ends; none if not once, or if a queue went on otherwise than by whole
/// iterations of one loop.
fn periods(kept: &Kept, machine: &Machine) -> Option<u64> {
    let mut before = kept.iterations.iter();
    let mut periods = u64::MAX;
    for lane in &machine.lanes {
        let mut moved = false;
        for frame in &lane.frames {
            let on = frame.iteration.checked_sub(*before.next()?)?;
            if on == 0 {
                continue;
            }
            if moved {
                return None;
            }
            moved = true;
            periods = periods.min((frame.count - 1 - frame.iteration) / on);
        }
    }
    (periods > 0 && periods < u64::MAX).then_some(periods)
}

fn advance(machine: &mut Machine, kept: &Kept, periods: u64, time: u64) {
    machine.now += time;
    let mut before = kept.iterations.iter();
    for lane in &mut machine.lanes {
        for (frame, before) in lane.frames.iter_mut().zip(&mut before) {
            frame.iteration += periods * (frame.iteration - before);
        }
        let later = lane.setups.iter_mut().chain(&mut lane.tails);
        later.for_each(|(_, at)| *at = at.saturating_add(time));
        lane.last = lane.last.saturating_add(time);
        if let Some(m) = &mut lane.moving {
            m.start += time;
            m.cycles = m.cycles.saturating_add(time);
            if let Some(f) = &mut m.flow {
                f.since += time;
                f.end = f.end.saturating_add(time);
            }
        }
    }
    for (sum, before) in machine.sums.row.iter_mut().zip(&kept.sums) {
        *sum += periods * (*sum - before);
    }
}
