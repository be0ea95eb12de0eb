//! The figures of the page: roofline, time and energy by layer, who does what when, traffic by memory.
//!
//! Each comes in two shapes, [`Shape::Wide`] for desks and paper and [`Shape::Narrow`] for phones, so that text has
//! the same size on both. Legends are the page's business; colours are [`crate::palette`]'s. Axes are linear from
//! zero unless their label says that they are logarithmic.

mod bars;
mod gantt;
mod roofline;
mod traffic;

pub use bars::{Bar, bars, stacked};
pub use gantt::{gantt, longest};
pub use roofline::roofline;
pub use traffic::traffic;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use thiserror::Error;

use crate::svg::{EM, Ink, Sheet, Svg, UNIT};

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

fn times(repeat: u64) -> String {
    if repeat > 1 {
        format!(" \u{d7}{repeat}")
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::bars::{MAX_COLUMNS, merged};
    use super::*;
    use crate::figures::{self, View};
    use crate::palette;
    use crate::sample;
    use crate::text;
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
