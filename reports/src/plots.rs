//! The figures of the page: roofline, time and energy by layer, traffic by memory.
//!
//! Each comes in two shapes, [`Shape::Wide`] for desks and paper and [`Shape::Narrow`] for phones, so that text has
//! the same size on both. Legends are the page's business; colours are [`crate::palette`]'s. Axes are linear from
//! zero unless their label says that they are logarithmic.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use presil_sim::run::Phase;
use thiserror::Error;

use crate::figures::{self, Part, View};
use crate::palette;
use crate::svg::{EM, Ink, Sheet, Svg, UNIT};
use crate::text;

/// Why a figure could not be drawn.
#[derive(Debug, Error)]
#[error("the figure could not be drawn: {0}")]
pub struct PlotError(String);

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(e: DrawingAreaErrorKind<E>) -> Self {
        Self(e.to_string())
    }
}

type Drawn = Result<(), PlotError>;
type Plane<X> = DrawingArea<Svg, Cartesian2d<X, RangedCoordf64>>;
type LogPlane = DrawingArea<Svg, Cartesian2d<LogCoord<f64>, LogCoord<f64>>>;

/// What a figure is laid out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// 1120 pixels.
    Wide,
    /// 360 pixels.
    Narrow,
}

impl Shape {
    fn width(self) -> u32 {
        match self {
            Shape::Wide => 1120,
            Shape::Narrow => 360,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Shape::Wide => "plot wide",
            Shape::Narrow => "plot narrow",
        }
    }
}

const FONT: f64 = 12.0;
const SMALL: f64 = 11.0;

fn u(pixels: f64) -> i32 {
    (pixels * f64::from(UNIT)).round() as i32
}

fn style(ink: Ink, size: f64, h: HPos, v: VPos) -> TextStyle<'static> {
    TextStyle {
        font: ("sans-serif", size * f64::from(UNIT)).into_font(),
        color: ink.to_backend_color(),
        pos: Pos::new(h, v),
    }
}

fn upright(style: TextStyle<'static>) -> TextStyle<'static> {
    style.transform(FontTransform::Rotate270)
}

fn write(sheet: &Sheet, text: &str, style: &TextStyle<'_>, at: (f64, f64)) -> Drawn {
    Ok(sheet.area.draw_text(text, style, (u(at.0), u(at.1)))?)
}

fn line(sheet: &Sheet, ink: Ink, width: f64, from: (f64, f64), to: (f64, f64)) -> Drawn {
    let style = ink.stroke_width(u(width).unsigned_abs());
    let ends = vec![(u(from.0), u(from.1)), (u(to.0), u(to.1))];
    Ok(sheet.area.draw(&PathElement::new(ends, style))?)
}

/// The part of the sheet that margins of top, right, bottom and left leave, in pixels.
fn inside(sheet: &Sheet, top: f64, right: f64, bottom: f64, left: f64) -> DrawingArea<Svg, Shift> {
    sheet.area.margin(u(top), u(bottom), u(left), u(right))
}

/// Round numbers from zero to a little over `max`, about `count` of them.
fn ticks(max: f64, count: usize) -> Vec<f64> {
    if !(max.is_finite() && max > 0.0) {
        return vec![0.0, 1.0];
    }
    let raw = max / count.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .map(|s| s * power)
        .into_iter()
        .find(|s| *s >= raw * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let n = (max / step * 0.999_999).ceil().max(1.0) as u32;
    (0..=n).map(|i| f64::from(i) * step).collect()
}

/// Powers of ten from below `low` to above `high`, at most 30.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let (a, b) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    (a..=b.max(a + 1).min(a + 30))
        .map(|e| 10f64.powi(e))
        .collect()
}

fn width_of(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * EM
}

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
    fn total(&self) -> f64 {
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

fn times(repeat: u64) -> String {
    if repeat > 1 {
        format!(" \u{d7}{repeat}")
    } else {
        String::new()
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
const MAX_COLUMNS: usize = 900;

/// Adds up neighbours so that no more than [`MAX_COLUMNS`] remain.
fn merged(bars: &[Bar]) -> Vec<Bar> {
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

/// Bytes read and written of each memory of a phase, on a logarithmic axis.
pub fn traffic(view: &View<'_>, phase: &Phase, shape: Shape) -> Result<String, PlotError> {
    let flows: Vec<(&str, [(&str, f64); 2])> = phase
        .traffic
        .iter()
        .map(|t| {
            let pair = [
                ("read", figures::finite(t.read_bytes)),
                ("written", figures::finite(t.write_bytes)),
            ];
            (t.memory.as_str(), pair)
        })
        .collect();
    let width = f64::from(shape.width());
    let sizes = || {
        flows
            .iter()
            .flat_map(|f| f.1.iter().map(|v| v.1))
            .filter(|v| *v >= 1.0)
    };
    let low = sizes().fold(f64::INFINITY, f64::min).clamp(1.0, 1e15);
    let high = sizes().fold(10.0, f64::max);
    // Powers of 32 of a byte, so that every other tick is a binary unit.
    let exponent = |v: f64| v.log2() / 5.0;
    let (a, b) = (
        (exponent(low) - 0.3).floor().max(0.0) as i32,
        exponent(high).ceil().max(1.0) as i32,
    );
    let ticks: Vec<f64> = (a..=b.max(a + 1)).map(|e| 32f64.powi(e)).collect();
    let (first, last) = (
        ticks.first().copied().unwrap_or(1.0),
        ticks.last().copied().unwrap_or(32.0),
    );

    let wide = shape == Shape::Wide;
    let names = flows
        .iter()
        .map(|f| width_of(&text::shorten(f.0, 22), FONT))
        .fold(0.0, f64::max);
    let (left, right, top, bottom) = if wide {
        (names + 20.0, 120.0, 6.0, 40.0)
    } else {
        (2.0, 12.0, 6.0, 40.0)
    };
    let pitch = if wide { 46.0 } else { 64.0 };
    let head = if wide { 8.0 } else { 22.0 };
    let height = top + bottom + pitch * flows.len().max(1) as f64;
    let sheet = Sheet::new(shape.width(), height.ceil() as u32);
    let plane: Plane<LogCoord<f64>> =
        inside(&sheet, top, right, bottom, left).apply_coord_spec(Cartesian2d::new(
            (first..last).log_scale(),
            0.0..height,
            (u(left)..u(width - right), u(0.0)..u(height)),
        ));
    let x_of = |v: f64| f64::from(plane.map_coordinate(&(v, 0.0)).0) / f64::from(UNIT);
    let every = if wide {
        1
    } else {
        ticks.len().div_ceil(5).max(1)
    };
    for (i, t) in ticks.iter().enumerate() {
        let x = x_of(*t);
        line(&sheet, Ink::GRID, 1.0, (x, top), (x, height - bottom))?;
        if i % every == 0 {
            let h = if i == 0 { HPos::Left } else { HPos::Center };
            let text = text::typeset(&text::bytes(*t));
            write(
                &sheet,
                &text,
                &style(Ink::MUTED, SMALL, h, VPos::Top),
                (x, height - bottom + 6.0),
            )?;
        }
    }
    let note = "bytes of one pass, logarithmic";
    write(
        &sheet,
        note,
        &style(Ink::MUTED, SMALL, HPos::Right, VPos::Bottom),
        (width - right, height - 3.0),
    )?;
    for (i, (memory, pair)) in flows.iter().enumerate() {
        let y = top + pitch * i as f64;
        let ink = palette::memory(view, memory);
        if wide {
            let name = text::shorten(memory, 22);
            let at = (left - 12.0, y + pitch / 2.0);
            write(
                &sheet,
                &name,
                &style(Ink::TEXT, FONT, HPos::Right, VPos::Center),
                at,
            )?;
        } else {
            let name = text::shorten(memory, 40);
            write(
                &sheet,
                &name,
                &style(Ink::TEXT, FONT, HPos::Left, VPos::Bottom),
                (left, y + 18.0),
            )?;
        }
        for (k, (word, value)) in pair.iter().enumerate() {
            let at = y + head + 16.0 * k as f64;
            let said = format!("{} {word}", text::typeset(&text::bytes(*value)));
            sheet.open(&format!("{memory}: {said}"), None);
            let end = if *value >= first { x_of(*value) } else { left };
            // Written bytes are the paler bar.
            let color = if k == 0 { ink.mix(1.0) } else { ink.mix(0.55) };
            let corners = [(u(left), u(at)), (u(end), u(at + 13.0))];
            sheet.area.draw(&Rectangle::new(corners, color.filled()))?;
            let after = end + 8.0 + width_of(&said, SMALL) <= width;
            let (h, x) = if after {
                (HPos::Left, end + 6.0)
            } else {
                (HPos::Right, end - 6.0)
            };
            let over = if after { Ink::MUTED } else { Ink::TEXT };
            write(
                &sheet,
                &said,
                &style(over, SMALL, h, VPos::Center),
                (x, at + 6.5),
            )?;
            sheet.close();
        }
    }
    if wide {
        line(&sheet, Ink::AXIS, 1.0, (left, top), (left, height - bottom))?;
    }
    Ok(sheet.finish(shape.class(), "Bytes read and written of each memory"))
}

/// One dot of a roofline.
struct Dot<'a> {
    op: &'a presil_sim::run::OpRun,
    reference: String,
    /// MACs per byte and MACs per second.
    at: (f64, f64),
    share: f64,
}

/// The roofline of a phase: MAC rate over intensity, ops as dots whose area is their share of the time.
///
/// `None` if no op has both MACs and root traffic, or the chip has no peak.
pub fn roofline(
    view: &View<'_>,
    index: usize,
    phase: &Phase,
    classes: &[(&str, Ink)],
    shape: Shape,
) -> Result<Option<String>, PlotError> {
    let run = view.run;
    let Some(ridge) = figures::ridge(run) else {
        return Ok(None);
    };
    let total: f64 = phase
        .ops
        .iter()
        .map(|op| figures::finite(op.time.total_s))
        .sum();
    let mut dots: Vec<Dot<'_>> = phase
        .ops
        .iter()
        .enumerate()
        .filter_map(|(i, op)| {
            let x = view
                .intensity(op.executed_macs, &op.traffic)
                .filter(|x| *x > 0.0)?;
            let y =
                figures::ratio(op.executed_macs as f64, op.time.total_s).filter(|y| *y > 0.0)?;
            let share = figures::ratio(op.time.total_s, total)?;
            Some(Dot {
                op,
                reference: format!("{index}-{i}"),
                at: (x, y),
                share,
            })
        })
        .collect();
    if dots.is_empty() {
        return Ok(None);
    }
    // Large dots first, so that small ones stay in sight.
    dots.sort_by(|a, b| b.share.total_cmp(&a.share));

    let wide = shape == Shape::Wide;
    let width = f64::from(shape.width());
    let height = if wide { 440.0 } else { 340.0 };
    let (left, right, top, bottom) = if wide {
        (86.0, 20.0, 26.0, 46.0)
    } else {
        (40.0, 10.0, 26.0, 42.0)
    };
    let peak = run.peak_macs_per_s;
    let xs = |f: fn(f64, f64) -> f64, start: f64| dots.iter().map(|d| d.at.0).fold(start, f);
    let xs_decades = decades(
        xs(f64::min, ridge / 8.0) / 1.5,
        xs(f64::max, ridge * 8.0) * 1.5,
    );
    let lowest = dots
        .iter()
        .map(|d| d.at.1)
        .fold(peak / 10.0, f64::min)
        .max(peak * 1e-6);
    let ys_decades = decades(lowest / 1.5, peak * 1.05);
    let range = |d: &[f64]| d.first().copied().unwrap_or(1.0)..d.last().copied().unwrap_or(10.0);
    let (xr, yr) = (range(&xs_decades), range(&ys_decades));

    let sheet = Sheet::new(shape.width(), height as u32);
    let plane: LogPlane =
        inside(&sheet, top, right, bottom, left).apply_coord_spec(Cartesian2d::new(
            xr.clone().log_scale(),
            yr.clone().log_scale(),
            (u(left)..u(width - right), u(height - bottom)..u(top)),
        ));
    let px = |x: f64, y: f64| {
        let at = (x.clamp(xr.start, xr.end), y.clamp(yr.start, yr.end));
        let (a, b) = plane.map_coordinate(&at);
        (
            f64::from(a) / f64::from(UNIT),
            f64::from(b) / f64::from(UNIT),
        )
    };
    let every = |n: usize, most: usize| n.div_ceil(most).max(1);
    let (ex, ey) = (
        every(xs_decades.len(), if wide { 14 } else { 6 }),
        every(ys_decades.len(), 8),
    );
    for (i, x) in xs_decades.iter().enumerate() {
        let (at, _) = px(*x, yr.start);
        line(&sheet, Ink::GRID, 1.0, (at, top), (at, height - bottom))?;
        if i % ex == 0 {
            let label = text::si(*x, "");
            write(
                &sheet,
                &label,
                &style(Ink::MUTED, SMALL, HPos::Center, VPos::Top),
                (at, height - bottom + 6.0),
            )?;
        }
    }
    for (i, y) in ys_decades.iter().enumerate() {
        let (_, at) = px(xr.start, *y);
        line(&sheet, Ink::GRID, 1.0, (left, at), (width - right, at))?;
        if i % ey == 0 {
            let label = text::si(*y, "");
            write(
                &sheet,
                &label,
                &style(Ink::MUTED, SMALL, HPos::Right, VPos::Center),
                (left - 7.0, at),
            )?;
        }
    }
    let muted = |h, v| style(Ink::MUTED, SMALL, h, v);
    let root = view.root().unwrap_or("the root memory");
    let said = format!("executed MACs per byte of {}", text::shorten(root, 24));
    write(
        &sheet,
        &said,
        &muted(HPos::Right, VPos::Bottom),
        (width - right, height - 4.0),
    )?;
    write(
        &sheet,
        "MACs per second",
        &muted(HPos::Left, VPos::Bottom),
        (4.0, top - 10.0),
    )?;

    let corner = px(ridge, peak);
    line(&sheet, Ink::GUIDE, 1.0, corner, (corner.0, height - bottom))?;
    for dot in &dots {
        dot_on(
            &sheet,
            run,
            dot,
            px(dot.at.0, dot.at.1),
            palette::class(classes, &dot.op.class),
            wide,
        )?;
    }
    let start = xr.start.max(yr.start / run.dram_streaming_bytes_per_s);
    let roof = [
        px(start, figures::roof(run, start)),
        corner,
        px(xr.end, peak),
    ];
    let roof: Vec<(i32, i32)> = roof.iter().map(|p| (u(p.0), u(p.1))).collect();
    sheet.area.draw(&PathElement::new(
        roof,
        Ink::AXIS.stroke_width(u(2.0).unsigned_abs()),
    ))?;

    let strong = |h, v| style(Ink::TEXT, SMALL, h, v);
    let flat = format!("peak {}", text::typeset(&text::si(peak, "MAC/s")));
    write(
        &sheet,
        &flat,
        &strong(HPos::Right, VPos::Bottom),
        (width - right, corner.1 - 5.0),
    )?;
    let foot = format!("ridge {} MAC/B", text::number(ridge));
    let room = corner.0 + 10.0 + width_of(&foot, SMALL) < width - right;
    let (h, x) = if room {
        (HPos::Left, corner.0 + 6.0)
    } else {
        (HPos::Right, corner.0 - 6.0)
    };
    write(
        &sheet,
        &foot,
        &strong(h, VPos::Bottom),
        (x, height - bottom - 5.0),
    )?;
    let middle = (start * ridge).sqrt();
    let at = px(middle, figures::roof(run, middle));
    let slope = text::typeset(&text::rate(run.dram_streaming_bytes_per_s));
    let (slope, gap) = (
        if wide {
            format!("{slope} streaming")
        } else {
            slope
        },
        8.0,
    );
    if at.0 - gap - width_of(&slope, SMALL) > left {
        write(
            &sheet,
            &slope,
            &strong(HPos::Right, VPos::Bottom),
            (at.0 - gap, at.1 + 2.0),
        )?;
    }
    let mut taken: Vec<[f64; 4]> = Vec::new();
    let whole = view.intensity(phase.executed_macs, &phase.traffic);
    let speed = figures::ratio(phase.executed_macs as f64, phase.latency_s);
    if let (Some(x), Some(y)) = (whole, speed) {
        let (cx, cy) = px(x, y);
        sheet.open(
            &format!(
                "{} as a whole\n{}",
                figures::phase_title(run, phase),
                spot(x, y)
            ),
            None,
        );
        let arm = if wide { 8.0 } else { 6.0 };
        taken.push([cx - arm, cx + arm, cy - arm, cy + arm]);
        line(&sheet, Ink::TEXT, 2.0, (cx - arm, cy), (cx + arm, cy))?;
        line(&sheet, Ink::TEXT, 2.0, (cx, cy - arm), (cx, cy + arm))?;
        sheet.close();
    }
    if wide {
        names(
            &sheet,
            &dots,
            &px,
            taken,
            (left, width - right, top, height - bottom),
        )?;
    }
    Ok(Some(sheet.finish(
        shape.class(),
        "Roofline: MAC rate over operational intensity, one dot for each op",
    )))
}

fn spot(x: f64, y: f64) -> String {
    format!(
        "{} at {} MAC/B",
        text::typeset(&text::si(y, "MAC/s")),
        text::number(x)
    )
}

fn radius(share: f64, wide: bool) -> f64 {
    let most = if wide { 26.0 } else { 16.0 };
    (share.clamp(0.0, 1.0).sqrt() * most * 1.6).clamp(2.5, most)
}

fn dot_on(
    sheet: &Sheet,
    run: &presil_sim::Run,
    dot: &Dot<'_>,
    at: (f64, f64),
    ink: Ink,
    wide: bool,
) -> Drawn {
    let op = dot.op;
    let title = format!(
        "{}{}\n{} ({} of time)\n{}\n{} of the roof, bound by {}",
        op.name,
        times(op.repeat),
        text::typeset(&text::seconds(op.time.total_s)),
        text::percent(dot.share),
        spot(dot.at.0, dot.at.1),
        text::percent(figures::ratio(dot.at.1, figures::roof(run, dot.at.0)).unwrap_or(0.0)),
        op.bottleneck
    );
    sheet.open(&title, Some(&dot.reference));
    let (x, y, r) = (u(at.0), u(at.1), u(radius(dot.share, wide)));
    sheet
        .area
        .draw(&Circle::new((x, y), r, ink.mix(0.55).filled()))?;
    sheet.area.draw(&Circle::new(
        (x, y),
        r,
        ink.stroke_width(u(1.0).unsigned_abs()),
    ))?;
    sheet.close();
    Ok(())
}

/// Names the dots that take most of the time, where there is room beside them.
fn names(
    sheet: &Sheet,
    dots: &[Dot<'_>],
    px: &impl Fn(f64, f64) -> (f64, f64),
    mut taken: Vec<[f64; 4]>,
    (left, right, top, bottom): (f64, f64, f64, f64),
) -> Drawn {
    for dot in dots {
        let (x, y) = px(dot.at.0, dot.at.1);
        // The square inside the circle: a name may touch the rim.
        let r = 0.7 * radius(dot.share, true);
        taken.push([x - r, x + r, y - r, y + r]);
    }
    let mut said: Vec<(f64, f64)> = Vec::new();
    let near = |a: (f64, f64), b: (f64, f64)| (a.0 - b.0).hypot(a.1 - b.1) < 12.0;
    for (i, dot) in dots
        .iter()
        .enumerate()
        .take(12)
        .filter(|d| d.1.share >= 0.01)
    {
        let (cx, cy) = px(dot.at.0, dot.at.1);
        // Dots on top of each other have one name.
        if said.iter().any(|s| near(*s, (cx, cy))) {
            continue;
        }
        said.push((cx, cy));
        let r = radius(dot.share, true);
        let others = dots
            .iter()
            .skip(i + 1)
            .filter(|d| near(px(d.at.0, d.at.1), (cx, cy)))
            .count();
        let more = if others > 0 {
            format!(" and {others} more")
        } else {
            String::new()
        };
        let name = text::tail(&format!("{}{}", dot.op.name, times(dot.op.repeat)), 26) + &more;
        let w = width_of(&name, SMALL);
        let half = SMALL * 0.6;
        let beside = [
            (
                HPos::Left,
                cx + r + 4.0,
                cy,
                [cx + r + 4.0, cx + r + 4.0 + w],
            ),
            (
                HPos::Right,
                cx - r - 4.0,
                cy,
                [cx - r - 4.0 - w, cx - r - 4.0],
            ),
            (
                HPos::Center,
                cx,
                cy + r + half + 3.0,
                [cx - w / 2.0, cx + w / 2.0],
            ),
            (
                HPos::Center,
                cx,
                cy - r - half - 3.0,
                [cx - w / 2.0, cx + w / 2.0],
            ),
        ];
        let free = |y: f64, x: [f64; 2]| {
            let [x0, x1] = x;
            let inside = x0 > left && x1 < right && y - half > top && y + half < bottom;
            let apart = |b: &[f64; 4]| x1 < b[0] || x0 > b[1] || y + half < b[2] || y - half > b[3];
            inside && taken.iter().all(apart)
        };
        if let Some((h, x, y, span)) = beside.into_iter().find(|b| free(b.2, b.3)) {
            write(
                sheet,
                &name,
                &style(Ink::TEXT, SMALL, h, VPos::Center),
                (x, y),
            )?;
            taken.push([span[0], span[1], y - half, y + half]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::sample;
    use proptest::prelude::*;

    #[test]
    fn every_sample_can_be_drawn() {
        for run in sample::all() {
            let view = View::new(&run);
            let classes = palette::classes(&run);
            for (i, phase) in run.phases.iter().enumerate() {
                for shape in [Shape::Wide, Shape::Narrow] {
                    let bars = bars(&view, i, phase, |op| view.op_time(op), text::seconds);
                    let mut all = vec![stacked(&bars, shape, "time", text::seconds).unwrap()];
                    all.push(traffic(&view, phase, shape).unwrap());
                    all.extend(roofline(&view, i, phase, &classes, shape).unwrap());
                    for svg in all {
                        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
                        assert!(!svg.contains("<script") && !svg.contains("<img"), "{svg}");
                        assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
                    }
                }
            }
        }
    }

    #[test]
    fn a_roofline_needs_macs_and_a_peak() {
        let run = sample::zeros();
        let view = View::new(&run);
        assert!(
            roofline(&view, 0, &run.phases[0], &[], Shape::Wide)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn no_op_of_the_samples_beats_the_roof() {
        // The samples take at least their traffic's time at the streaming rate, so each dot lies under the roof.
        for run in [sample::cnn(), sample::llm(), sample::many()] {
            let view = View::new(&run);
            for op in run.phases.iter().flat_map(|p| &p.ops) {
                if let Some(x) = view.intensity(op.executed_macs, &op.traffic) {
                    let y = op.executed_macs as f64 / op.time.total_s;
                    assert!(y <= figures::roof(&run, x) * (1.0 + 1e-9), "{}", op.name);
                }
            }
        }
    }

    #[test]
    fn merged_columns_keep_their_sum() {
        let part = |v: f64| vec![(Ink(10), v), (Ink(11), 1.0)];
        let bars: Vec<Bar> = (0..3001)
            .map(|i| Bar {
                label: i.to_string(),
                title: String::new(),
                reference: String::new(),
                parts: part(f64::from(i)),
            })
            .collect();
        let few = merged(&bars);
        assert!(few.len() <= MAX_COLUMNS);
        let sum = |b: &[Bar]| b.iter().map(Bar::total).sum::<f64>();
        assert_eq!(sum(&few), sum(&bars));
    }

    proptest! {
        #[test]
        fn ticks_are_round_and_cover(max in 1e-15f64..1e15, count in 1usize..10) {
            let t = ticks(max, count);
            prop_assert!(t.len() >= 2 && t.len() <= count + 3);
            let (last, step) = (t[t.len() - 1], t[1]);
            prop_assert!(last >= max * 0.999 && last - step < max);
            let mantissa = step / 10f64.powf(step.log10().floor());
            prop_assert!([1.0, 2.0, 2.5, 5.0, 10.0].iter().any(|m| (mantissa - m).abs() < 1e-6));
        }
    }
}
