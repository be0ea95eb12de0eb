//! A mapping on a chip as text, 80 columns wide.

use std::fmt::Write;

use presil_mapper::explain::OperandUse;
use presil_mapper::search::{Certificate, Objective, Proof};
use presil_reports::text::{bytes, joules, number, percent, seconds, si};

use super::show_explain;
use super::told::{Axis, ChipMapping, FrontProof, Level, Near};
use crate::eval::text::table;

/// Columns of the text.
pub(super) const WIDTH: usize = 80;

/// As text.
pub fn text(m: &ChipMapping) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{} on {}", m.name, m.chip);
    let [input, weight, output] = &m.homes;
    let _ = writeln!(text, "{}: {}, array `{}`", m.shape, m.mode, m.engine);
    let _ = writeln!(
        text,
        "input from {input}, weight from {weight}, output to {output}\n"
    );
    for line in &m.nest {
        let _ = writeln!(text, "  {line}");
    }
    let _ = writeln!(text, "\n{}", levels(&m.levels));
    let _ = writeln!(text, "{}", axes(&m.axes));
    text.push_str(&time(m));
    let _ = writeln!(text, "\n{}", energy(m));
    text.push_str(&wrapped(&proof(m), ""));
    if let Some(prices) = &m.prices {
        text.push_str(&show_explain::prices(prices, m.objective));
    }
    if let Some(why) = &m.why {
        text.push_str(&show_explain::why(why));
    }
    if !m.near.is_empty() {
        text.push_str(&near(&m.near, m.front.as_ref()));
    }
    for note in &m.notes {
        text.push_str(&wrapped(&format!("\nnote: {note}\n"), ""));
    }
    text
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

fn count(n: u128) -> String {
    si(n as f64, "").replace(' ', "")
}

fn levels(levels: &[Level]) -> String {
    let heads = [
        "memory", "operand", "tile", "room", "reads", "writes", "moved", "port",
    ];
    let mut rows = vec![row(&heads)];
    for level in levels {
        for (i, o) in level.operands.iter().enumerate() {
            let first = |text: String| if i == 0 { text } else { String::new() };
            rows.push(vec![
                first(level.memory.clone()),
                o.operand.name().into(),
                bytes(o.tile_bytes),
                room(level, o),
                count(o.reads),
                count(o.writes),
                bytes(o.read_bytes + o.write_bytes),
                first(percent(level.port)),
            ]);
        }
    }
    table(&rows, 2)
}

/// Share of the capacity that an operand's tiles take; whole tensors at home take none.
fn room(level: &Level, o: &OperandUse) -> String {
    if o.home {
        return "home".into();
    }
    let taken = o.tile_bytes * f64::from(level.buffering);
    percent(taken / (level.capacity_bytes as f64).max(1.0))
}

/// "c 3 x k 16".
pub(super) fn along(axis: &Axis) -> String {
    let loops: Vec<String> = axis.loops.iter().map(|(d, n)| format!("{d} {n}")).collect();
    match loops.is_empty() {
        true => "nothing".into(),
        false => loops.join(" x "),
    }
}

fn axes(axes: &[Axis]) -> String {
    if axes.is_empty() {
        return String::new();
    }
    let mut rows = vec![row(&["axis", "along it", "used", "of", "share"])];
    rows.extend(axes.iter().map(|a| {
        vec![
            a.name.clone(),
            along(a),
            a.used.to_string(),
            a.size.to_string(),
            percent(a.used as f64 / a.size.max(1) as f64),
        ]
    }));
    table(&rows, 2)
}

fn time(m: &ChipMapping) -> String {
    let mut rows = vec![row(&["resource", "busy", "of the time", ""])];
    for (name, s) in &m.time {
        let mark = match *name == m.bound_by {
            true => "binds",
            false if name == "latency" => "overlaps with nothing",
            false => "",
        };
        rows.push(vec![
            name.clone(),
            seconds(*s),
            percent(s / m.latency_s),
            mark.into(),
        ]);
    }
    rows.push(vec![
        "total".into(),
        seconds(m.latency_s),
        String::new(),
        format!("{} of the array's peak", percent(m.utilization)),
    ]);
    table(&rows, 1)
}

fn energy(m: &ChipMapping) -> String {
    let mut rows = vec![row(&["component", "action", "energy", "share"])];
    rows.extend(m.energy.iter().map(|(component, action, j)| {
        vec![
            component.clone(),
            action.clone(),
            joules(*j),
            percent(j / m.energy_j),
        ]
    }));
    rows.push(vec!["total".into(), String::new(), joules(m.energy_j)]);
    table(&rows, 2)
}

/// A figure of an objective with its unit.
pub(super) fn figure(objective: Objective, value: f64) -> String {
    match objective {
        Objective::Latency => seconds(value),
        Objective::Energy => joules(value),
        Objective::Edp => format!("{} nJ s", number(value * 1e9)),
    }
}

fn proof(m: &ChipMapping) -> String {
    let Certificate { objective, other } = &m.certificate;
    let second = match m.objective {
        Objective::Energy => Objective::Latency,
        _ => Objective::Energy,
    };
    let told = |of: Objective, p: &Proof| match p.proven {
        true => format!("least {} {}, proven", of.name(), figure(of, p.found)),
        false => format!(
            "least {} found {}, not proven: nothing goes below {} (gap {})",
            of.name(),
            figure(of, p.found),
            figure(of, p.lower_bound),
            percent(p.gap())
        ),
    };
    format!(
        "{}\nwithin 0.5 % of it, {}\n{} bounds and {} exact analyses computed, {} subtrees cut off\n",
        told(m.objective, objective),
        told(second, other),
        objective.expanded + other.expanded,
        objective.analysed + other.analysed,
        objective.pruned + other.pruned,
    )
}

fn near(all: &[Near], front: Option<&FrontProof>) -> String {
    let mut heads = vec!["", "latency", "energy", "EDP"];
    let open = front.filter(|f| !f.proven);
    if open.is_some() {
        heads.push("faster by at most");
    }
    let mut rows = vec![row(&heads)];
    rows.extend(all.iter().enumerate().map(|(i, m)| {
        let mut cells = vec![
            (i + 1).to_string(),
            seconds(m.latency_s),
            joules(m.energy_j),
            figure(Objective::Edp, m.latency_s * m.energy_j),
        ];
        if open.is_some() {
            let least = m.least_s.unwrap_or(m.latency_s);
            cells.push(percent(1.0 - least / m.latency_s));
        }
        cells
    }));
    let title = if front.is_some() {
        "Front"
    } else {
        "Several mappings"
    };
    let mut text = format!("\n{title}\n{}", table(&rows, 0));
    if let Some(f) = front {
        text.push_str(&wrapped(&of_front(f), ""));
    }
    for (i, m) in all.iter().enumerate() {
        let _ = writeln!(text, "\n{}", i + 1);
        for line in &m.nest {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// What is proven of a front.
fn of_front(f: &FrontProof) -> String {
    let work = format!(
        "{} searches, {} bounds and {} exact analyses computed",
        f.searches, f.bounds, f.analysed
    );
    if f.proven {
        return format!(
            "proven: every other mapping is no better than one of these in both figures; {work}\n"
        );
    }
    let energy = match f.energy_gap > 0.0 {
        true => format!(
            ", and nothing needs less than {} (gap {})",
            joules(f.least_energy_j),
            percent(f.energy_gap)
        ),
        false => ", and none needs less energy than the last".into(),
    };
    format!(
        "not proven: mappings may be missing, but none that needs less energy than the one before a row is faster than the row by more \
         than what the last column says{energy}; {work}; --work or --budget looks further\n"
    )
}

/// Text with its lines broken at spaces, further ones behind `indent`.
pub(super) fn wrapped(text: &str, indent: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut column = 0;
        for word in line.split_inclusive(' ') {
            let width = word.trim_end().chars().count();
            if column > indent.len() && column + width > WIDTH {
                out.truncate(out.trim_end_matches(' ').len());
                let _ = write!(out, "\n{indent}");
                column = indent.len();
            }
            out.push_str(word);
            column += word.chars().count();
        }
        out.push('\n');
    }
    out
}
