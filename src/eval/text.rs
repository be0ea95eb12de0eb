//! Evaluations as text: the nest, accesses by level and operand, energy by level and action, and the time.

use std::fmt::Write;

use presil_mapper::case::Case;
use presil_mapper::conventions::{Accesses, Evaluation};

use super::Report;

/// A report: one table a convention, or all side by side.
pub fn report(report: &Report) -> String {
    let mut text = String::new();
    let case = &report.case;
    for (i, told) in report.einsums.iter().enumerate() {
        let e = &case.einsums[i];
        if i > 0 {
            text.push('\n');
        }
        let _ = writeln!(text, "{}: einsum {}\n", case.name, e.name);
        if let Some(tree) = &e.mapping {
            let nest = tree.describe(&e.einsum, &e.hierarchy, &case.operand_names(i));
            text.push_str(&indented(&nest));
            text.push('\n');
        }
        match told.as_slice() {
            [Ok(evaluation)] => {
                let _ = writeln!(text, "convention {}\n", report.conventions[0].name());
                text.push_str(&one(case, i, evaluation));
            }
            _ => text.push_str(&side_by_side(report, i)),
        }
    }
    if report.einsums.len() > 1 {
        for (c, convention) in report.conventions.iter().enumerate() {
            if let Some((energy, cycles)) = report.totals(c) {
                let _ = writeln!(
                    text,
                    "\nall einsums, {}: {} pJ, {}",
                    convention.name(),
                    figure(energy),
                    time(case, cycles)
                );
            }
        }
    }
    for note in &report.notes {
        let _ = writeln!(text, "\nnote: {note}");
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|l| format!("  {l}\n")).collect()
}

/// Cycles, and seconds where the clock is known.
fn time(case: &Case, cycles: f64) -> String {
    let mut text = format!("{} cycles", figure(cycles));
    if let Some(hz) = case.clock_hz {
        let _ = write!(text, " ({})", presil_numerics::Seconds(cycles / hz));
    }
    text
}

/// What a mapping costs in one convention.
pub fn one(case: &Case, einsum: usize, evaluation: &Evaluation) -> String {
    let hierarchy = &case.einsums[einsum].hierarchy;
    let level = |l: usize| {
        hierarchy
            .levels
            .get(l)
            .map_or("?", |l| l.name())
            .to_string()
    };
    let names = case.operand_names(einsum);
    let tensor = |o: Option<usize>| o.and_then(|o| names.get(o).cloned()).unwrap_or_default();
    let heads = [
        "level",
        "tensor",
        "tile",
        "instances",
        "reads",
        "fills",
        "updates",
        "drains",
    ];
    let mut rows = vec![heads.map(String::from).to_vec()];
    rows.extend(evaluation.accesses.iter().map(|a| {
        let mut row = vec![level(a.level), tensor(Some(a.operand))];
        row.extend(counts(a).map(|(_, count)| figure(count)));
        row
    }));
    let mut text = table(&rows, 2);
    let total = evaluation.energy_total();
    let mut rows = vec![
        ["level", "tensor", "action", "pJ", "share"]
            .map(String::from)
            .to_vec(),
    ];
    for e in evaluation.energy.iter().filter(|e| e.energy != 0.0) {
        rows.push(vec![
            level(e.level),
            tensor(e.operand),
            e.action.into(),
            figure(e.energy),
            format!("{:.1} %", 100.0 * e.energy / total),
        ]);
    }
    rows.push(vec![
        "total".into(),
        String::new(),
        String::new(),
        figure(total),
    ]);
    text.push('\n');
    text.push_str(&table(&rows, 3));
    let mut rows = vec![["part of the time", "cycles"].map(String::from).to_vec()];
    rows.extend(
        evaluation
            .parts
            .iter()
            .map(|p| vec![p.name.clone(), figure(p.cycles)]),
    );
    text.push('\n');
    text.push_str(&table(&rows, 1));
    let _ = writeln!(
        text,
        "\n  {}, {} operations on {} compute instances",
        time(case, evaluation.cycles),
        figure(evaluation.operations),
        figure(evaluation.instances_used)
    );
    text
}

fn counts(a: &Accesses) -> [(&'static str, f64); 6] {
    [
        ("tile", a.tile),
        ("instances", a.instances),
        ("reads", a.reads),
        ("fills", a.fills),
        ("updates", a.updates),
        ("drains", a.drains),
    ]
}

/// One row a count, one column a convention; below, why those without figures have none.
fn side_by_side(report: &Report, einsum: usize) -> String {
    let case = &report.case;
    let hierarchy = &case.einsums[einsum].hierarchy;
    let names = case.operand_names(einsum);
    let told = &report.einsums[einsum];
    let mut head = vec!["level".to_string(), "tensor".into(), "count".into()];
    head.extend(report.conventions.iter().map(|c| c.name().to_string()));
    let mut rows = vec![head];
    let cells = |of: &dyn Fn(&Evaluation) -> Option<f64>| -> Vec<String> {
        let cell = |t: &Result<Evaluation, _>| t.as_ref().ok().and_then(of);
        told.iter()
            .map(|t| cell(t).map_or("-".into(), figure))
            .collect()
    };
    for level in hierarchy.memories() {
        for (operand, name) in names.iter().enumerate() {
            for count in ["reads", "fills", "updates", "drains"] {
                let of = |e: &Evaluation| {
                    let all = counts(e.at(level, operand)?);
                    all.iter().find(|(n, _)| *n == count).map(|(_, v)| *v)
                };
                let cells = cells(&of);
                let nothing = |c: &String| c == "-" || c == "0";
                if !cells.iter().all(nothing) {
                    let name = [hierarchy.levels[level].name(), name, count].map(String::from);
                    rows.push(name.into_iter().chain(cells).collect());
                }
            }
        }
    }
    let mut total = |name: &str, of: &dyn Fn(&Evaluation) -> f64| {
        let name = ["total", "", name].map(String::from);
        rows.push(name.into_iter().chain(cells(&|e| Some(of(e)))).collect());
    };
    total("energy, pJ", &Evaluation::energy_total);
    total("cycles", &|e| e.cycles);
    total("operations", &|e| e.operations);
    let mut text = table(&rows, 3);
    for (convention, error) in report.conventions.iter().zip(told) {
        if let Err(error) = error {
            let _ = writeln!(text, "\n  {}: {error}", convention.name());
        }
    }
    text
}

/// Digits in groups of three; two digits behind the point where there is a fraction.
pub fn figure(value: f64) -> String {
    if !value.is_finite() || value.abs() >= 1e15 {
        return format!("{value:.6e}");
    }
    let rounded = format!("{:.2}", value.abs());
    let (whole, fraction) = rounded.split_once('.').unwrap_or((&rounded, ""));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if value < 0.0 { "-" } else { "" };
    match value.fract() == 0.0 {
        true => format!("{sign}{grouped}"),
        false => format!("{sign}{grouped}.{fraction}"),
    }
}

/// Columns as wide as their widest cell; the first `names` are aligned left, the others right.
pub fn table(rows: &[Vec<String>], names: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        let cells = rows.iter().filter_map(|r| r.get(c));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (c, cell) in row.iter().enumerate() {
            let width = widths[c];
            let _ = match c < names {
                true => write!(line, " {cell:<width$} "),
                false => write!(line, " {cell:>width$} "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped() {
        for (value, text) in [
            (0.0, "0"),
            (999.0, "999"),
            (1000.0, "1,000"),
            (446_824_448.0, "446,824,448"),
            (1234.5, "1,234.50"),
            (-12_345.0, "-12,345"),
            (0.005, "0.01"),
            (2e15, "2.000000e15"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [
            vec!["a", "bb", "c"],
            vec!["ccc", "1"],
            vec!["d", "22", "333"],
        ];
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|r| r.iter().map(ToString::to_string).collect())
            .collect();
        assert_eq!(
            table(&rows, 1),
            "  a    bb    c\n  ccc   1\n  d    22  333\n"
        );
    }
}
