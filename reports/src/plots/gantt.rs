//! Who does what when: one row for each engine and mover of tiles.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use presil_sim::run::{Phase, Timeline, TimelineSlice};

use super::{FONT, PlotError, SMALL, Shape, line, style, ticks, u, width_of, write};
use crate::palette;
use crate::svg::{Ink, Sheet};
use crate::text;

/// A stretch of time, in seconds.
pub type Window = (f64, f64);

/// The longest run of an op.
pub fn longest(timeline: &Timeline) -> Option<(usize, Window)> {
    let runs = timeline.ops.iter().filter_map(|s| Some((s.op?, s)));
    let length = |s: &TimelineSlice| s.end_s - s.start_s;
    let longest = runs.reduce(|a, b| if length(b.1) > length(a.1) { b } else { a });
    longest.map(|(op, s)| (op, (s.start_s, s.end_s)))
}

/// The rows of a phase's timeline in a window; `classes` gives ops their colours.
pub fn gantt(
    phase: &Phase,
    timeline: &Timeline,
    window: Window,
    classes: &[(&str, Ink)],
    shape: Shape,
) -> Result<String, PlotError> {
    let wide = shape == Shape::Wide;
    let width = f64::from(shape.width());
    let inside = |s: &&TimelineSlice| s.end_s > window.0 && s.start_s < window.1;
    let mut rows: Vec<(&str, Vec<&TimelineSlice>)> =
        vec![("ops", timeline.ops.iter().filter(inside).collect())];
    for track in &timeline.tracks {
        let slices: Vec<_> = track.slices.iter().filter(inside).collect();
        if !slices.is_empty() {
            rows.push((&track.name, slices));
        }
    }
    let names = rows
        .iter()
        .map(|r| width_of(&text::shorten(r.0, 34), FONT))
        .fold(0.0, f64::max);
    let left = if wide { names + 16.0 } else { 2.0 };
    let (pitch, head) = if wide { (24.0, 4.0) } else { (38.0, 20.0) };
    let (right, top, bottom) = (10.0, 6.0, 40.0);
    let height = top + bottom + pitch * rows.len() as f64;
    let sheet = Sheet::new(shape.width(), height.ceil() as u32);
    let span = (window.1 - window.0).max(1e-15);
    let scale = (width - left - right) / span;
    let x_of = |t: f64| left + (t.clamp(window.0, window.1) - window.0) * scale;
    for t in ticks(span, if wide { 8 } else { 4 }) {
        if t > span * 1.000_001 {
            continue;
        }
        let x = left + t * scale;
        line(&sheet, Ink::GRID, 1.0, (x, top), (x, height - bottom))?;
        let h = if t == 0.0 { HPos::Left } else { HPos::Center };
        let said = text::typeset(&text::seconds(t));
        let muted = style(Ink::MUTED, SMALL, h, VPos::Top);
        write(&sheet, &said, &muted, (x, height - bottom + 6.0))?;
    }
    let note = "time in the window";
    let muted = style(Ink::MUTED, SMALL, HPos::Right, VPos::Bottom);
    write(&sheet, note, &muted, (width - right, height - 3.0))?;
    for (i, (name, slices)) in rows.iter().enumerate() {
        let y = top + pitch * i as f64;
        let (at, h, v) = match wide {
            true => ((left - 10.0, y + pitch / 2.0), HPos::Right, VPos::Center),
            false => ((left, y + 16.0), HPos::Left, VPos::Bottom),
        };
        let said = text::shorten(name, if wide { 34 } else { 44 });
        write(&sheet, &said, &style(Ink::TEXT, FONT, h, v), at)?;
        for bar in merged(slices, 0.6 / scale) {
            let op = bar.op.and_then(|o| phase.ops.get(o));
            let ink = op.map_or(Ink::MUTED, |o| palette::class(classes, &o.class));
            let what = op.map_or("several ops", |o| o.name.as_str());
            let time = text::typeset(&text::seconds(bar.end_s - bar.start_s));
            sheet.open(
                &format!("{name}: {what}, {} tiles, {time}", bar.tiles),
                None,
            );
            let (a, b) = (
                x_of(bar.start_s),
                x_of(bar.end_s).max(x_of(bar.start_s) + 0.4),
            );
            let corners = [(u(a), u(y + head)), (u(b), u(y + pitch - 4.0))];
            // A single tile stands out from stretches in which many follow each other.
            let ink = ink.mix(if bar.tiles > 1 { 0.55 } else { 1.0 });
            sheet.area.draw(&Rectangle::new(corners, ink.filled()))?;
            sheet.close();
        }
    }
    let label = "Who does what when";
    Ok(sheet.finish(shape.class(), label))
}

/// Slices that are closer than can be seen are one, of several ops if they are of several.
fn merged(slices: &[&TimelineSlice], close: f64) -> Vec<TimelineSlice> {
    let mut bars: Vec<TimelineSlice> = Vec::new();
    for s in slices {
        match bars.last_mut() {
            Some(last)
                if s.start_s - last.end_s < close
                    && (s.op == last.op || last.end_s - last.start_s < close)
                    && (s.end_s - s.start_s < close || last.end_s - last.start_s < close) =>
            {
                if s.end_s - s.start_s > last.end_s - last.start_s {
                    last.op = s.op;
                }
                last.end_s = s.end_s;
                last.tiles += s.tiles;
            }
            _ => bars.push(**s),
        }
    }
    bars
}
