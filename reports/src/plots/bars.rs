//! Time or energy by layer: one bar for each op, stacked by what it goes to.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use presil_sim::run::Phase;

use super::{
    FONT, Plane, PlotError, SMALL, Shape, inside, line, style, ticks, times, u, upright, width_of,
    write,
};
use crate::figures::{self, Part, View};
use crate::palette;
use crate::svg::{EM, Ink, Sheet, UNIT};
use crate::text;

/// One bar: a label, what its tooltip says, and its parts from the axis outwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Short name.
    pub label: String,
    /// The tooltip.
    pub title: String,
    /// What it stands for ("0-12": phase 0, op 12).
    pub reference: String,
    /// Colours and sizes.
    pub parts: Vec<(Ink, f64)>,
}

impl Bar {
    pub(super) fn total(&self) -> f64 {
        self.parts.iter().map(|p| p.1.max(0.0)).sum()
    }
}

/// The bars of one phase, one per op that takes time or energy, of what `parts` splits it into; `unit` prints it.
pub fn bars<'a>(
    view: &View<'_>,
    index: usize,
    phase: &'a Phase,
    parts: impl Fn(&'a presil_sim::run::OpRun) -> Vec<Part>,
    unit: fn(f64) -> String,
) -> Vec<Bar> {
    let split: Vec<Vec<Part>> = phase.ops.iter().map(parts).collect();
    let total: f64 = split.iter().flatten().map(|p| p.value).sum();
    phase
        .ops
        .iter()
        .zip(split)
        .enumerate()
        .filter(|(_, (op, _))| !figures::is_free(op))
        .map(|(i, (op, parts))| bar(view, (index, i), op, &parts, total, unit))
        .collect()
}

fn bar(
    view: &View<'_>,
    (phase, index): (usize, usize),
    op: &presil_sim::run::OpRun,
    parts: &[Part],
    total: f64,
    unit: fn(f64) -> String,
) -> Bar {
    let own: f64 = parts.iter().map(|p| p.value).sum();
    let share = figures::ratio(own, total)
        .map(|s| format!(" ({})", text::percent(s)))
        .unwrap_or_default();
    let mut title = format!(
        "{}{}\n{}{share}",
        op.name,
        times(op.repeat),
        text::typeset(&unit(own))
    );
    for p in parts.iter().filter(|p| p.value > 0.0) {
        title.push_str(&format!(
            "\n{} {}",
            p.label(),
            text::typeset(&unit(p.value))
        ));
    }
    Bar {
        label: format!("{}{}", op.name, times(op.repeat)),
        title,
        reference: format!("{phase}-{index}"),
        parts: parts
            .iter()
            .map(|p| (palette::ink(view, p), p.value))
            .collect(),
    }
}

/// Bars of all ops: columns in execution order where wide, the largest ones as rows where narrow.
pub fn stacked(
    bars: &[Bar],
    shape: Shape,
    label: &str,
    unit: fn(f64) -> String,
) -> Result<String, PlotError> {
    match shape {
        Shape::Wide => columns(bars, label, unit),
        Shape::Narrow => rows(bars, label, unit),
    }
}

/// Most columns that are drawn one by one; of more, neighbours are added up.
pub(super) const MAX_COLUMNS: usize = 900;

/// Adds up neighbours so that no more than [`MAX_COLUMNS`] remain.
pub(super) fn merged(bars: &[Bar]) -> Vec<Bar> {
    let group = bars.len().div_ceil(MAX_COLUMNS).max(1);
    if group == 1 {
        return bars.to_vec();
    }
    let add = |chunk: &[Bar]| {
        let mut parts: Vec<(Ink, f64)> = Vec::new();
        for p in chunk.iter().flat_map(|b| &b.parts) {
            match parts.iter_mut().find(|x| x.0 == p.0) {
                Some(x) => x.1 += p.1,
                None => parts.push(*p),
            }
        }
        let first = chunk.first().cloned().unwrap_or(Bar {
            label: String::new(),
            title: String::new(),
            reference: String::new(),
            parts: vec![],
        });
        let last = chunk.last().map(|b| b.label.clone()).unwrap_or_default();
        let title = format!("{} ops: {} to {last}", chunk.len(), first.label);
        Bar {
            title,
            parts,
            ..first
        }
    };
    bars.chunks(group).map(add).collect()
}

fn columns(bars: &[Bar], label: &str, unit: fn(f64) -> String) -> Result<String, PlotError> {
    let bars = merged(bars);
    let (width, left, right, top) = (f64::from(Shape::Wide.width()), 72.0, 8.0, 14.0);
    let pitch = (width - left - right) / bars.len().max(1) as f64;
    let named = named(&bars, pitch);
    let longest = 24;
    let labels: Vec<String> = bars.iter().map(|b| text::tail(&b.label, longest)).collect();
    let used = labels
        .iter()
        .zip(&named)
        .filter(|(_, n)| **n)
        .map(|(l, _)| width_of(l, SMALL));
    let bottom = used.fold(12.0, f64::max) + 14.0;
    let height = 250.0 + top + bottom;

    let sheet = Sheet::new(Shape::Wide.width(), height.ceil() as u32);
    let max = bars.iter().map(Bar::total).fold(0.0, f64::max);
    let ticks = ticks(max, 5);
    let ceiling = ticks.last().copied().unwrap_or(1.0);
    let plane: Plane<RangedCoordf64> =
        inside(&sheet, top, right, bottom, left).apply_coord_spec(Cartesian2d::new(
            0.0..bars.len().max(1) as f64,
            0.0..ceiling,
            (u(left)..u(width - right), u(height - bottom)..u(top)),
        ));
    let y_of = |v: f64| f64::from(plane.map_coordinate(&(0.0, v)).1) / f64::from(UNIT);
    for t in &ticks {
        let y = y_of(*t);
        line(
            &sheet,
            if *t == 0.0 { Ink::AXIS } else { Ink::GRID },
            1.0,
            (left, y),
            (width - right, y),
        )?;
        let text = text::typeset(&unit(*t));
        write(
            &sheet,
            &text,
            &style(Ink::MUTED, SMALL, HPos::Right, VPos::Center),
            (left - 8.0, y),
        )?;
    }
    // A gap between wide columns; thin ones touch.
    let thick = if pitch > 6.0 {
        (0.78f64).min(40.0 / pitch)
    } else {
        1.0
    };
    for (i, bar) in bars.iter().enumerate() {
        let middle = i as f64 + 0.5;
        sheet.open(&bar.title, Some(&bar.reference));
        let hit = [(i as f64, 0.0), (i as f64 + 1.0, ceiling)];
        plane.draw(&Rectangle::new(hit, Ink::HIT.filled()))?;
        let mut base = 0.0;
        for (ink, value) in &bar.parts {
            let end = base + value.max(0.0);
            if end > base && y_of(base) - y_of(end) >= 0.1 {
                let corners = [(middle - thick / 2.0, base), (middle + thick / 2.0, end)];
                plane.draw(&Rectangle::new(corners, ink.filled()))?;
            }
            base = end;
        }
        sheet.close();
    }
    for (i, label) in labels
        .iter()
        .enumerate()
        .filter(|(i, _)| named.get(*i).copied().unwrap_or(false))
    {
        let x = left + (i as f64 + 0.5) * pitch;
        let y = height - bottom;
        line(&sheet, Ink::AXIS, 1.0, (x, y), (x, y + 3.0))?;
        let style = upright(style(Ink::MUTED, SMALL, HPos::Right, VPos::Center));
        write(&sheet, label, &style, (x, y + 7.0))?;
    }
    Ok(sheet.finish(Shape::Wide.class(), label))
}

/// Which columns have room for a name: all if they are wide enough, else the tallest ones, a line apart.
fn named(bars: &[Bar], pitch: f64) -> Vec<bool> {
    let apart = SMALL + 2.0;
    if pitch >= apart {
        return vec![true; bars.len()];
    }
    let mut order: Vec<usize> = (0..bars.len()).collect();
    let height = |i: &usize| bars.get(*i).map_or(0.0, Bar::total);
    order.sort_by(|a, b| height(b).total_cmp(&height(a)).then(a.cmp(b)));
    let mut chosen: Vec<usize> = Vec::new();
    for i in order.into_iter().take(60) {
        let clear = chosen.iter().all(|c| c.abs_diff(i) as f64 * pitch >= apart);
        if clear && chosen.len() < 24 && height(&i) > 0.0 {
            chosen.push(i);
        }
    }
    (0..bars.len()).map(|i| chosen.contains(&i)).collect()
}

/// Most rows of a narrow figure.
const MAX_ROWS: usize = 16;

fn rows(bars: &[Bar], label: &str, unit: fn(f64) -> String) -> Result<String, PlotError> {
    let mut order: Vec<&Bar> = bars.iter().filter(|b| b.total() > 0.0).collect();
    order.sort_by(|a, b| {
        b.total()
            .total_cmp(&a.total())
            .then(a.reference.len().cmp(&b.reference.len()))
    });
    let hidden = order.len().saturating_sub(MAX_ROWS);
    let rest: f64 = order.iter().skip(MAX_ROWS).map(|b| b.total()).sum();
    order.truncate(MAX_ROWS);
    let (width, pitch, top) = (f64::from(Shape::Narrow.width()), 34.0, 4.0);
    let foot = if hidden > 0 { 24.0 } else { 4.0 };
    let height = top + foot + pitch * order.len().max(1) as f64;
    let sheet = Sheet::new(Shape::Narrow.width(), height.ceil() as u32);
    let max = order.first().map_or(1.0, |b| b.total());
    let plane: Plane<RangedCoordf64> = sheet.area.apply_coord_spec(Cartesian2d::new(
        0.0..max,
        0.0..height,
        (u(0.0)..u(width), u(0.0)..u(height)),
    ));
    for (i, bar) in order.iter().enumerate() {
        let y = top + pitch * i as f64;
        sheet.open(&bar.title, Some(&bar.reference));
        let value = text::typeset(&unit(bar.total()));
        let room = ((width - width_of(&value, FONT) - 12.0) / (FONT * EM)) as usize;
        let name = text::tail(&bar.label, room);
        write(
            &sheet,
            &name,
            &style(Ink::TEXT, FONT, HPos::Left, VPos::Bottom),
            (0.0, y + 14.0),
        )?;
        write(
            &sheet,
            &value,
            &style(Ink::MUTED, FONT, HPos::Right, VPos::Bottom),
            (width, y + 14.0),
        )?;
        let mut base = 0.0;
        for (ink, part) in &bar.parts {
            let end = base + part.max(0.0);
            if end > base {
                plane.draw(&Rectangle::new(
                    [(base, y + 16.0), (end, y + 27.0)],
                    ink.filled(),
                ))?;
            }
            base = end;
        }
        sheet.close();
    }
    if hidden > 0 {
        let text = format!(
            "and {hidden} more ops with {} together",
            text::typeset(&unit(rest))
        );
        write(
            &sheet,
            &text,
            &style(Ink::MUTED, FONT, HPos::Left, VPos::Bottom),
            (0.0, height - 6.0),
        )?;
    }
    Ok(sheet.finish(Shape::Narrow.class(), label))
}
