//! A plotters backend that writes SVG to be put inside a page.
//!
//! What it does for a page that plotters' own SVG backend does not: colours are class names, so that the style
//! sheet decides them, in light and in dark; shapes are grouped under a title, which browsers show as a tooltip
//! and readers read out; fonts are the page's; and one drawing unit is a tenth of a pixel ([`UNIT`]), so that
//! plotters' integer coordinates do not round thin segments away.
//!
//! A colour is an [`Ink`]. The classes are `s<n>` for the ink with `f` for filled and `l` for lines; a style sheet
//! gives `s<n>` its colour as the variable `--c`.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io;
use std::rc::Rc;

use plotters::prelude::{Color, DrawingArea, IntoDrawingArea};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontStyle, FontTransform,
};

/// Drawing units in a pixel.
pub const UNIT: i32 = 10;

/// A colour by its role; the style sheet says what it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ink(pub u8);

impl Ink {
    /// Text.
    pub const TEXT: Ink = Ink(0);
    /// Text of second rank.
    pub const MUTED: Ink = Ink(1);
    /// Grid lines.
    pub const GRID: Ink = Ink(2);
    /// Axes and roofs.
    pub const AXIS: Ink = Ink(3);
    /// Dashed guide lines.
    pub const GUIDE: Ink = Ink(4);
    /// Invisible areas that take the pointer.
    pub const HIT: Ink = Ink(5);
    /// The first series; series `n` is `SERIES + n`.
    pub const SERIES: u8 = 10;
}

impl Color for Ink {
    fn to_backend_color(&self) -> BackendColor {
        BackendColor {
            alpha: 1.0,
            rgb: (self.0, 0, 0),
        }
    }
}

/// Escapes text for element content and quoted attributes of HTML and SVG. Control characters, which XML does not
/// allow, become replacement characters.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The backend. [`Sheet`] makes one.
#[derive(Debug)]
pub struct Svg {
    body: Rc<RefCell<String>>,
    size: (u32, u32),
}

/// A drawing: a plotters area on an [`Svg`] and what plotters has no word for, groups with titles.
pub struct Sheet {
    body: Rc<RefCell<String>>,
    size: (u32, u32),
    /// The whole drawing, in tenths of a pixel.
    pub area: DrawingArea<Svg, plotters::coord::Shift>,
}

impl Sheet {
    /// An empty drawing of a size in pixels.
    pub fn new(width: u32, height: u32) -> Self {
        let body = Rc::new(RefCell::new(String::new()));
        let unit = UNIT.unsigned_abs();
        let backend = Svg {
            body: Rc::clone(&body),
            size: (width.saturating_mul(unit), height.saturating_mul(unit)),
        };
        Self {
            body,
            size: (width, height),
            area: backend.into_drawing_area(),
        }
    }

    /// Opens a group with a title. `reference` is kept in `data-op` for scripts.
    pub fn open(&self, title: &str, reference: Option<&str>) {
        let mut body = self.body.borrow_mut();
        match reference {
            Some(r) => {
                let _ = write!(body, "<g class=\"op\" data-op=\"{}\">", escape(r));
            }
            None => body.push_str("<g>"),
        }
        let _ = writeln!(body, "<title>{}</title>", escape(title));
    }

    /// Closes the group.
    pub fn close(&self) {
        self.body.borrow_mut().push_str("</g>\n");
    }

    /// The drawing as an `svg` element that scales with its container. `label` says what it shows.
    pub fn finish(self, class: &str, label: &str) -> String {
        let (w, h) = self.size;
        format!(
            "<svg class=\"{}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{}\" xmlns=\"http://www.w3.org/2000/svg\">\n{}</svg>\n",
            escape(class),
            escape(label),
            self.body.borrow()
        )
    }
}

/// Drawing units as pixels, without needless digits.
fn px(v: i32) -> String {
    let (sign, v) = (if v < 0 { "-" } else { "" }, v.unsigned_abs());
    let (whole, tenth) = (v / UNIT.unsigned_abs(), v % UNIT.unsigned_abs());
    if tenth == 0 {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{tenth}")
    }
}

fn opacity(color: BackendColor) -> String {
    if color.alpha < 1.0 {
        format!(" opacity=\"{}\"", color.alpha)
    } else {
        String::new()
    }
}

fn width<S: BackendStyle>(style: &S) -> String {
    px(i32::try_from(style.stroke_width()).unwrap_or(UNIT))
}

type Drawn = Result<(), DrawingErrorKind<io::Error>>;

impl Svg {
    fn put(&self, element: &str) -> Drawn {
        let mut body = self.body.borrow_mut();
        body.push_str(element);
        body.push('\n');
        Ok(())
    }

    fn points(path: impl IntoIterator<Item = BackendCoord>) -> String {
        path.into_iter()
            .map(|(x, y)| format!("{},{}", px(x), px(y)))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl DrawingBackend for Svg {
    type ErrorType = io::Error;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, point: BackendCoord, color: BackendColor) -> Drawn {
        self.draw_rect(point, (point.0 + 1, point.1 + 1), &color, true)
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Drawn {
        let c = style.color();
        self.put(&format!(
            "<line class=\"l s{}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" stroke-width=\"{}\"{}/>",
            c.rgb.0,
            px(from.0),
            px(from.1),
            px(to.0),
            px(to.1),
            width(style),
            opacity(c)
        ))
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let c = style.color();
        let (w, h) = (bottom_right.0 - upper_left.0, bottom_right.1 - upper_left.1);
        self.put(&format!(
            "<rect class=\"{} s{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{}/>",
            if fill { "f" } else { "l" },
            c.rgb.0,
            px(upper_left.0),
            px(upper_left.1),
            px(w.max(0)),
            px(h.max(0)),
            opacity(c)
        ))
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let c = style.color();
        self.put(&format!(
            "<polyline class=\"l s{}\" points=\"{}\" stroke-width=\"{}\"{}/>",
            c.rgb.0,
            Self::points(path),
            width(style),
            opacity(c)
        ))
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        center: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let c = style.color();
        let stroke = if fill {
            String::new()
        } else {
            format!(" stroke-width=\"{}\"", width(style))
        };
        self.put(&format!(
            "<circle class=\"{} s{}\" cx=\"{}\" cy=\"{}\" r=\"{}\"{stroke}{}/>",
            if fill { "f" } else { "l" },
            c.rgb.0,
            px(center.0),
            px(center.1),
            px(i32::try_from(radius).unwrap_or(0)),
            opacity(c)
        ))
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let c = style.color();
        self.put(&format!(
            "<polygon class=\"f s{}\" points=\"{}\"{}/>",
            c.rgb.0,
            Self::points(path),
            opacity(c)
        ))
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        pos: BackendCoord,
    ) -> Drawn {
        let c = style.color();
        let anchor = style.anchor();
        let h = match anchor.h_pos {
            HPos::Left => "start",
            HPos::Center => "middle",
            HPos::Right => "end",
        };
        let dy = match anchor.v_pos {
            VPos::Top => "0.8em",
            VPos::Center => "0.35em",
            VPos::Bottom => "-0.25em",
        };
        let (x, y) = (px(pos.0), px(pos.1));
        let turn = match style.transform() {
            FontTransform::None => String::new(),
            FontTransform::Rotate90 => format!(" transform=\"rotate(90 {x} {y})\""),
            FontTransform::Rotate180 => format!(" transform=\"rotate(180 {x} {y})\""),
            FontTransform::Rotate270 => format!(" transform=\"rotate(270 {x} {y})\""),
        };
        let weight = if matches!(style.style(), FontStyle::Bold) {
            " font-weight=\"600\""
        } else {
            ""
        };
        let size = style.size() / f64::from(UNIT);
        self.put(&format!(
            "<text class=\"f s{}\" x=\"{x}\" y=\"{y}\" dy=\"{dy}\" text-anchor=\"{h}\" font-size=\"{size}\"{weight}{turn}{}>{}</text>",
            c.rgb.0,
            opacity(c),
            escape(text)
        ))
    }

    /// An estimate: glyphs of common sans-serif faces are little over half an em wide on average.
    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<io::Error>> {
        let width = text.chars().count() as f64 * style.size() * EM;
        Ok((width.ceil() as u32, style.size().ceil() as u32))
    }
}

/// Mean width of a glyph in ems.
pub const EM: f64 = 0.55;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_have_one_decimal_at_most() {
        assert_eq!(px(120), "12");
        assert_eq!(px(125), "12.5");
        assert_eq!(px(-5), "-0.5");
    }

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(
            escape("<a b='c'>&\"\u{1b}"),
            "&lt;a b=&#39;c&#39;&gt;&amp;&quot;\u{fffd}"
        );
        let sheet = Sheet::new(10, 10);
        sheet.open("</title><script>", Some("\"><script>"));
        sheet.close();
        let svg = sheet.finish("x", "\"><script>");
        assert!(!svg.contains("<script>"), "{svg}");
    }
}
