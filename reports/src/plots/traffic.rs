//! Traffic by memory.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use presil_sim::run::Phase;

use super::{FONT, Plane, PlotError, SMALL, Shape, inside, line, style, u, width_of, write};
use crate::figures::{self, View};
use crate::palette;
use crate::svg::{Ink, Sheet, UNIT};
use crate::text;

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
