//! The roofline: MAC rate over intensity.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use presil_sim::run::Phase;

use super::{
    Drawn, LogPlane, PlotError, SMALL, Shape, decades, inside, line, style, times, u, width_of,
    write,
};
use crate::figures::{self, View};
use crate::palette;
use crate::svg::{Ink, Sheet, UNIT};
use crate::text;

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
