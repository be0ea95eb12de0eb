//! Operating points and periods as sentences, for the terminal and the page.

use presil_sim::run::{Duty, PointUse, PowerUse};

use crate::text;

/// What a Run says of them; nothing where nothing was asked.
pub(crate) fn sentences(power: &PowerUse) -> Vec<String> {
    let mut out = Vec::new();
    if let (Some(limit), Some(taken)) = (power.limit_w, &power.point) {
        let limit = text::watts(limit);
        let holds = power.points.iter().any(|p| p.name == *taken && p.holds);
        out.push(match holds {
            true => format!("the fastest operating point within {limit} is {taken}"),
            false => format!("no operating point keeps to {limit}; {taken} draws least"),
        });
        out.extend(power.points.iter().map(point));
    }
    if let Some(duty) = &power.duty {
        out.extend(of_duty(duty));
    }
    out
}

fn point(p: &PointUse) -> String {
    let verdict = if p.holds { "" } else { ", over the limit" };
    format!(
        "{} ({} V): {}, {}, {} on average{verdict}",
        p.name,
        text::number(p.voltage_v),
        text::seconds(p.latency_s),
        text::joules(p.energy_j),
        text::watts(p.power_w),
    )
}

fn of_duty(duty: &Duty) -> Vec<String> {
    let period = text::seconds(duty.period_s);
    let power = text::watts(duty.average_power_w);
    let mut out = vec![match &duty.taken {
        Some(rest) => format!("every {period}: {power} on average, {rest} in between"),
        None => {
            format!("it takes longer than its period of {period}; run after run it draws {power}")
        }
    }];
    for way in &duty.ways {
        out.push(match way.busy_s <= duty.period_s {
            true => format!(
                "{} in between ({}): {} busy, {} a period, {} on average",
                way.name,
                text::watts(way.power_w),
                text::seconds(way.busy_s),
                text::joules(way.energy_j),
                text::watts(way.energy_j / duty.period_s),
            ),
            false => format!(
                "{} in between: {} busy, too long",
                way.name,
                text::seconds(way.busy_s)
            ),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use presil_sim::run::Rest;

    use super::*;

    #[test]
    fn limits_and_periods_are_told() {
        let point = |name: &str, power_w, holds| PointUse {
            name: name.into(),
            voltage_v: 0.6,
            latency_s: 2e-3,
            energy_j: 2e-3 * power_w,
            power_w,
            holds,
        };
        let rest = |name: &str, busy_s| Rest {
            name: name.into(),
            power_w: 0.05,
            busy_s,
            energy_j: 5e-3,
        };
        let power = PowerUse {
            limit_w: Some(1.5),
            points: vec![point("fast", 2.0, false), point("low", 1.0, true)],
            point: Some("low".into()),
            duty: Some(Duty {
                period_s: 0.1,
                taken: Some("idle".into()),
                average_power_w: 0.05,
                ways: vec![rest("idle", 0.002), rest("asleep", 0.2)],
            }),
        };
        assert_eq!(
            sentences(&power),
            [
                "the fastest operating point within 1.5 W is low",
                "fast (0.6 V): 2 ms, 4 mJ, 2 W on average, over the limit",
                "low (0.6 V): 2 ms, 2 mJ, 1 W on average",
                "every 100 ms: 50 mW on average, idle in between",
                "idle in between (50 mW): 2 ms busy, 5 mJ a period, 50 mW on average",
                "asleep in between: 200 ms busy, too long",
            ]
        );
        assert!(sentences(&PowerUse::default()).is_empty());
    }
}
