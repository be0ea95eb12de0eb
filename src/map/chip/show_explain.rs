//! Prices and reasons as text.

use std::fmt::Write;

use presil_mapper::explain::{Gain, Price, Prices, Reason};
use presil_mapper::search::Objective;
use presil_reports::text::percent;

use super::show::{along, figure, wrapped};
use super::told::{AxisReasons, selector};
use crate::eval::text::table;

/// Changes below this share are told as nothing.
const NOTHING: f64 = 5e-6;

/// What one more of each resource would give; those that give nothing in one sentence.
pub(super) fn prices(prices: &Prices, objective: Objective) -> String {
    let least: Vec<String> = [Objective::Latency, Objective::Energy, Objective::Edp]
        .into_iter()
        .zip(prices.base)
        .map(|(o, value)| format!("{} {}", o.name(), figure(o, value)))
        .collect();
    let mut text = format!(
        "\nWhat one more would give, by {}\n{}",
        objective.name(),
        wrapped(
            &format!("Each solved again for the least {}.\n", least.join(", ")),
            ""
        )
    );
    let gives = |p: &&Price| p.gains.iter().any(|g| g.relative < -NOTHING);
    let mut rows = vec![["", "latency", "energy", "EDP"].map(String::from).to_vec()];
    for price in prices.prices.iter().filter(gives) {
        let mut row = vec![price.name.clone()];
        row.extend(price.gains.iter().map(gain));
        rows.push(row);
    }
    if rows.len() > 1 {
        text.push_str(&table(&rows, 1));
    }
    let nothing = prices.prices.iter().filter(|p| !gives(p));
    let nothing: Vec<&str> = nothing.map(|p| p.name.as_str()).collect();
    if !nothing.is_empty() {
        let told = format!("Nothing: {}.\n", grouped(&nothing));
        text.push_str(&wrapped(&told, "  "));
    }
    if prices
        .prices
        .iter()
        .flat_map(|p| &p.gains)
        .any(|g| !g.proven)
    {
        text.push_str(&wrapped(
            "* not proven: the least found, of all mappings found for any of these; --work looks further.\n",
            "  ",
        ));
    }
    text
}

/// "sram: 1 KiB more, 10 % more capacity; acc: ...": what begins alike together.
fn grouped(names: &[&str]) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for name in names {
        let (of, what) = name.split_once(": ").unwrap_or(("", name));
        match groups.iter_mut().find(|g| g.0 == of) {
            Some(g) => g.1.push(what),
            None => groups.push((of, vec![what])),
        }
    }
    let told = |(of, what): &(&str, Vec<&str>)| match of.is_empty() {
        true => what.join(", "),
        false => format!("{of}: {}", what.join(", ")),
    };
    groups.iter().map(told).collect::<Vec<_>>().join("; ")
}

fn gain(g: &Gain) -> String {
    let mark = if g.proven { ' ' } else { '*' };
    match g.relative < -NOTHING {
        true => format!("{:+.3} %{mark}", 100.0 * g.relative),
        false => format!("nothing{mark}"),
    }
}

/// Why axes are not used more.
pub(super) fn why(all: &[AxisReasons]) -> String {
    let mut text = String::from("\nWhy no more of each axis\n");
    for a in all {
        let (used, size) = (a.axis.used, a.axis.size);
        let _ = writeln!(
            text,
            "  {}: {used} of {size}, along it {}",
            a.axis.name,
            along(&a.axis)
        );
        if used >= size {
            continue;
        }
        // Dimensions of the same reason share a line.
        let mut told: Vec<(String, Vec<&str>)> = Vec::new();
        for (dim, r) in &a.reasons {
            let words = reason(r, used, size);
            match told.iter_mut().find(|t| t.0 == words) {
                Some(t) => t.1.push(dim),
                None => told.push((words, vec![dim])),
            }
        }
        for (words, dims) in told {
            let line = format!("    {}: {words}\n", dims.join(", "));
            text.push_str(&wrapped(&line, "      "));
        }
    }
    text
}

pub(super) fn reason(reason: &Reason, used: u64, size: u64) -> String {
    match reason {
        Reason::Accepts(takes) => {
            let takes: Vec<String> = takes.iter().map(selector).collect();
            format!("not accepted: the axis takes {}", takes.join(", "))
        }
        Reason::Spent => "nothing is left of it to lay in space".into(),
        Reason::Room => format!("no room: twice as much would need {} of {size}", 2 * used),
        Reason::Factor => "no tile divides the ones around it".into(),
        Reason::Capacity {
            memory,
            needed,
            available,
        } => format!("{memory} would need {needed} of tiles and has {available}"),
        Reason::Asked => "a constraint does not allow it".into(),
        Reason::Costs { used, time, energy } => format!(
            "{used} would be legal, for {} time and {} energy",
            signed(*time),
            signed(*energy)
        ),
    }
}

fn signed(change: f64) -> String {
    match change {
        c if c.abs() < NOTHING => "the same".into(),
        c if c > 0.0 => format!("{} more", percent(c)),
        c => format!("{} less", percent(-c)),
    }
}
