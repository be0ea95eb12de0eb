//! Power over a period: what a chip that works a part of the time draws on average.
//!
//! Work of `t` seconds and `E` joules (static energy included) comes every `T` seconds. In between the chip
//!
//! | rests | draws | the work is | energy of a period |
//! |---|---|---|---|
//! | on | its static power `S` | warm | `E + S (T - t)` |
//! | idle | `P_idle` | warm | `E + P_idle (T - t)` |
//! | asleep | `P_sleep` | late by the wake-up `w`; with cold weights where nothing is kept: `t_c`, `E_c` | `E_c + E_wake + S w + P_sleep (T - t_c - w)` |
//!
//! It rests in the way that takes least energy among those in which the work is done in time. Going to sleep takes no time of its own
//! (its energy is part of `E_wake`); of an LLM's request only the prefill finds cold weights.

use presil_hwmodels::{Chip, PowerStates};

use crate::run::{Duty, Phase, PointUse, Rest};

/// Time and energy of all passes of a run, warm, and what a cold first pass takes more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Time of all passes in seconds.
    pub time_s: f64,
    /// Their energy in joules.
    pub energy_j: f64,
    /// Time that the first pass takes longer with cold weights.
    pub cold_time_s: f64,
    /// Energy that it takes more.
    pub cold_energy_j: f64,
}

/// What the phases of a run take together.
pub fn work(phases: &[Phase]) -> Work {
    let sum = |f: fn(&Phase) -> f64| phases.iter().map(|p| f(p) * p.steps as f64).sum();
    let first = phases.first();
    Work {
        time_s: sum(|p| p.latency_s),
        energy_j: sum(|p| p.energy_j),
        cold_time_s: first.map_or(0.0, |p| p.cold_latency_s - p.latency_s),
        cold_energy_j: first.map_or(0.0, |p| p.cold_energy_j - p.energy_j),
    }
}

/// What is drawn where work comes every `period_s` seconds.
pub fn duty(chip: &Chip, work: &Work, period_s: f64) -> Duty {
    let on: f64 = chip.static_power().iter().map(|p| p.1.0).sum();
    let ways = rests(&chip.power, on, work, period_s);
    let in_time = ways.iter().filter(|r| r.busy_s <= period_s);
    let least = in_time.reduce(|best, r| match r.energy_j < best.energy_j {
        true => r,
        false => best,
    });
    Duty {
        period_s,
        taken: least.map(|r| r.name.clone()),
        average_power_w: match least {
            Some(r) => r.energy_j / period_s,
            None => work.energy_j / work.time_s,
        },
        ways,
    }
}

fn rests(states: &PowerStates, on: f64, work: &Work, period_s: f64) -> Vec<Rest> {
    let way = |name: &str, busy_s: f64, energy_j: f64, power_w: f64| Rest {
        name: name.into(),
        power_w,
        busy_s,
        energy_j: energy_j + power_w * (period_s - busy_s).max(0.0),
    };
    let mut ways = vec![way("on", work.time_s, work.energy_j, on)];
    let idle = states
        .idle
        .map(|p| way("idle", work.time_s, work.energy_j, p.0));
    ways.extend(idle);
    if let Some(sleep) = states.sleep {
        let (more_s, more_j) = match sleep.retains {
            true => (0.0, 0.0),
            false => (work.cold_time_s, work.cold_energy_j),
        };
        let energy = work.energy_j + more_j + sleep.wake_energy.0 + on * sleep.wake.0;
        let busy = work.time_s + more_s + sleep.wake.0;
        ways.push(way("asleep", busy, energy, sleep.power.0));
    }
    ways
}

/// What a run takes at an operating point. `limit_w`: what it may draw on average in each phase.
pub fn point(name: &str, chip: &Chip, phases: &[Phase], limit_w: f64) -> PointUse {
    let work = work(phases);
    let power = |p: &Phase| p.energy_j / p.latency_s;
    let most = phases
        .iter()
        .filter(|p| p.latency_s > 0.0)
        .map(power)
        .fold(0.0, f64::max);
    PointUse {
        name: name.into(),
        voltage_v: chip.power.voltage.0,
        latency_s: work.time_s,
        energy_j: work.energy_j,
        power_w: most,
        holds: most <= limit_w,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use presil_hwmodels::{Sleep, load};
    use presil_numerics::{Joules, Seconds, Watts};

    use super::*;

    const WORK: Work = Work {
        time_s: 0.01,
        energy_j: 0.02,
        cold_time_s: 0.002,
        cold_energy_j: 0.003,
    };

    fn chip(retains: bool) -> (Chip, f64) {
        let mut chip = load("edge-npu", &[]).unwrap();
        chip.power.idle = Some(Watts(0.05));
        chip.power.sleep = Some(Sleep {
            power: Watts(0.001),
            wake: Seconds(0.005),
            wake_energy: Joules(0.004),
            retains,
        });
        let on = chip.static_power().iter().map(|p| p.1.0).sum();
        (chip, on)
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }

    #[test]
    fn long_periods_are_slept_through_and_short_ones_are_not() {
        let (chip, on) = chip(false);
        let long = duty(&chip, &WORK, 10.0);
        assert_eq!(long.taken.as_deref(), Some("asleep"));
        let slept = 0.02 + 0.003 + 0.004 + on * 0.005 + 0.001 * (10.0 - 0.01 - 0.002 - 0.005);
        close(long.average_power_w, slept / 10.0);
        let short = duty(&chip, &WORK, 0.02);
        assert_eq!(short.taken.as_deref(), Some("idle"));
        close(short.average_power_w, (0.02 + 0.05 * 0.01) / 0.02);
        close(short.ways[0].energy_j, 0.02 + on * 0.01);
    }

    #[test]
    fn memories_that_keep_what_they_hold_wake_up_warm() {
        let (chip, on) = chip(true);
        let d = duty(&chip, &WORK, 10.0);
        close(d.ways[2].busy_s, 0.015);
        close(
            d.ways[2].energy_j,
            0.02 + 0.004 + on * 0.005 + 0.001 * 9.985,
        );
    }

    #[test]
    fn work_that_takes_longer_than_its_period_is_told() {
        let (chip, _) = chip(false);
        let d = duty(&chip, &WORK, 0.009);
        assert_eq!(d.taken, None);
        close(d.average_power_w, 2.0);
        // Awake it is in time, after a sleep it is not.
        let d = duty(&chip, &WORK, 0.012);
        assert_eq!(d.taken.as_deref(), Some("idle"));
    }
}
