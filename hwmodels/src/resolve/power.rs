//! The section `[power]`.

use presil_numerics::{ClockDomain, Joules, Seconds, Volts};

use super::Context;
use crate::power::{OperatingPoint, PowerStates, Sleep};
use crate::spec::{PointSpec, PowerSpec};

/// Supply voltages that a point may have.
const VOLTS: std::ops::RangeInclusive<f64> = 0.3..=2.0;

/// What the chip can do to draw less; `nominal` is the voltage that its figures hold for.
pub(super) fn resolve(
    cx: &mut Context<'_>,
    spec: Option<&PowerSpec>,
    nominal: Volts,
) -> PowerStates {
    let mut states = PowerStates {
        voltage: nominal,
        ..PowerStates::default()
    };
    let Some(spec) = spec else {
        return states;
    };
    states.idle = spec.idle.as_ref().map(|p| cx.constant("power.idle", p));
    states.sleep = sleep(cx, spec);
    for point in &spec.point {
        if states.points.iter().any(|p| p.name == point.name.value) {
            let message = format!("the point `{}` is there twice", point.name.value);
            cx.problems.at(&point.name.place, message, "remove one");
            continue;
        }
        let resolved = operating_point(cx, point);
        states.points.extend(resolved);
    }
    states
}

fn sleep(cx: &mut Context<'_>, spec: &PowerSpec) -> Option<Sleep> {
    let Some(power) = &spec.sleep else {
        let wakes = spec.wake.as_ref().map(|w| &w.place);
        if let Some(place) = wakes.or(spec.wake_energy.as_ref().map(|w| &w.place)) {
            let help = "add `sleep`, the power of the chip while it sleeps";
            cx.problems.at(place, "it never sleeps", help);
        }
        return None;
    };
    let wake = spec.wake.as_ref();
    let energy = spec.wake_energy.as_ref();
    Some(Sleep {
        power: cx.constant("power.sleep", power),
        wake: wake.map_or(Seconds::ZERO, |w| cx.constant("power.wake", w)),
        wake_energy: energy.map_or(Joules::ZERO, |e| cx.constant("power.wake_energy", e)),
        retains: spec.retains.unwrap_or(false),
    })
}

fn operating_point(cx: &mut Context<'_>, point: &PointSpec) -> Option<OperatingPoint> {
    let name = &point.name.value;
    let voltage = cx.constant(&format!("power.{name}.voltage"), &point.voltage);
    if !VOLTS.contains(&voltage.0) {
        let message = "a supply voltage lies between 0.3 V and 2 V";
        cx.problems.at(
            &point.voltage.place,
            message,
            "write a voltage such as `0.6 V`",
        );
        return None;
    }
    let mut clocks = Vec::new();
    for (clock, frequency) in &point.clocks.0 {
        let id = cx.clock(clock)?;
        let hertz = cx.constant(&format!("power.{name}.{}", clock.value), frequency);
        if ClockDomain::new(hertz).is_none() {
            let message = "a clock's period lies between 1 fs and 1 s";
            let help = "write a frequency such as `1.2 GHz`";
            cx.problems.at(&frequency.place, message, help);
            return None;
        }
        clocks.push((id, hertz));
    }
    Some(OperatingPoint {
        name: name.clone(),
        voltage,
        clocks,
    })
}
