//! Resizing.
//!
//! An element of the result lies at a place of the input along each axis, as `coordinate_transformation_mode` says; it is
//! the nearest element there, or a weighted sum of the two (linear) or four (cubic) around it. Axes are independent.

use presil_numerics::LanePrimitive as L;

use crate::build::single;
use crate::einsum::{Access, Affine, DimId, Place, ReduceOperator};
use crate::expr::Expr;
use crate::op::{OpClass, OpKind};

use super::error::Fault;
use super::import::Importer;
use super::lower::{Lowered, lanes};
use super::node::Node;
use super::shapes;
use super::value::Value;

/// Elements of an axis whose places are stated.
const LONGEST_AXIS: u64 = 1 << 16;

impl<'m> Importer<'m> {
    /// Resizing: nearest neighbours only move; linear interpolation takes two taps a resized axis, cubic four.
    /// Each resized axis reads whole input rows: an output index is `input index x factor + part` where it grows,
    /// an input index `output index x step` where it shrinks; factors that are no integers are rounded up.
    pub fn resize(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let x = node.input(0)?.clone();
        let shape = self.resized(node, &x)?;
        let t = self.operand(node, 0)?;
        let mode = node.text("mode");
        let changed = shape.iter().zip(&x.shape).filter(|(a, b)| a != b).count() as u32;
        if changed == 0 {
            return self.same(node);
        }
        if mode.is_empty() || mode == "nearest" || shape.contains(&0) || x.shape.contains(&0) {
            let kind = OpKind::Move {
                elements: shape.iter().product(),
            };
            let out = self.emit(node, "", OpClass::Move, kind, vec![t], &shape, x.dtype)?;
            self.store_as(&out, t);
            let value = self.resized_value(node, &shape);
            self.says(&out, value);
            return Ok(vec![out]);
        }
        let taps = if mode == "cubic" { 4usize } else { 2 }.pow(changed.min(4));
        let mut all: Vec<crate::Dim> = Vec::new();
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for (i, (&want, &have)) in shape.iter().zip(&x.shape).enumerate() {
            let d = DimId(all.len() as u32);
            if want > have {
                let factor = want.div_ceil(have);
                all.push(crate::Dim {
                    name: format!("x{i}"),
                    size: have.min(want.div_ceil(factor)),
                });
                all.push(crate::Dim {
                    name: format!("u{i}"),
                    size: factor,
                });
                from.push(Affine::dim(d));
                to.push(Affine {
                    terms: vec![(d, factor as i64), (DimId(d.0 + 1), 1)],
                    offset: 0,
                });
            } else {
                all.push(crate::Dim {
                    name: format!("x{i}"),
                    size: want,
                });
                from.push(Affine {
                    terms: vec![(d, (have / want) as i64)],
                    offset: 0,
                });
                to.push(Affine::dim(d));
            }
        }
        let input = Access {
            place: Place::Input(0),
            ranks: from,
            extents: x.shape.clone(),
        };
        let output = Access {
            place: Place::Output(0),
            ranks: to,
            extents: shape.clone(),
        };
        let einsum = lanes(
            vec![input],
            output,
            &all,
            &vec![L::Fma; taps],
            ReduceOperator::Sum,
        );
        let out = self.emit(
            node,
            "",
            OpClass::Elementwise,
            single(einsum),
            vec![t],
            &shape,
            x.dtype,
        )?;
        let value = self.resized_value(node, &shape);
        self.says(&out, value);
        Ok(vec![out])
    }

    fn resized(&self, node: &Node<'m>, x: &Value<'m>) -> Result<Vec<u64>, Fault> {
        // Upsample: scales as attribute (7) or input 1 (9); Resize: input 1 (10), inputs 2 and 3 (11 on).
        let (scales, sizes) = match (node.op, node.opset) {
            ("Resize", 11..) => (2, Some(3)),
            _ => (1, None),
        };
        let axes = match node.ints("axes") {
            Some(axes) => axes
                .iter()
                .map(|a| shapes::axis(*a, x.rank()))
                .collect::<Result<Vec<_>, _>>()?,
            None => (0..x.rank()).collect(),
        };
        let mut shape = x.shape.clone();
        if let Some(i) = sizes.filter(|i| node.optional(*i).is_some_and(|v| v.elements() > 0)) {
            let sizes = node.known(i, "the extents of its result")?;
            if sizes.len() != axes.len() {
                return Err(format!("{} sizes for {} axes", sizes.len(), axes.len()).into());
            }
            let wanted: Vec<u64> = sizes
                .iter()
                .map(|s| u64::try_from(*s).map_err(|_| format!("extent {s} is negative")))
                .collect::<Result<_, _>>()?;
            let ratio = |(a, w): (&usize, &u64)| *w as f64 / x.shape[*a].max(1) as f64;
            let ratios = axes.iter().zip(&wanted).map(ratio);
            let common = match node.text("keep_aspect_ratio_policy") {
                "not_larger" => Some(ratios.fold(f64::INFINITY, f64::min)),
                "not_smaller" => Some(ratios.fold(0.0, f64::max)),
                _ => None,
            };
            for (a, w) in axes.iter().zip(&wanted) {
                shape[*a] = common.map_or(*w, |r| (x.shape[*a] as f64 * r).round() as u64);
            }
            return Ok(shapes::checked(shape)?);
        }
        let factors: Vec<f64> = match node.floats("scales") {
            Some(f) => f.iter().map(|v| f64::from(*v)).collect(),
            None => {
                let given = node.input(scales)?;
                let few = (given.elements() <= x.rank() as u64)
                    .then(|| given.data())
                    .flatten();
                let data = few.ok_or("its scales depend on the data, so the shape is unknown; export the model with fixed shapes")?;
                data.floats()
            }
        };
        if factors.len() != axes.len() {
            return Err(format!("{} scales for {} axes", factors.len(), axes.len()).into());
        }
        for (a, f) in axes.iter().zip(&factors) {
            // Scales are f32 in the file; their product with an extent is rounded down.
            let extent = x.shape[*a] as f64 * f;
            if !(0.0..1e15).contains(&extent) {
                return Err(format!("scale {f} of extent {} is out of range", x.shape[*a]).into());
            }
            shape[*a] = extent.floor() as u64;
        }
        Ok(shapes::checked(shape)?)
    }

    /// What a resized tensor is, where its places can be said.
    fn resized_value(&self, node: &Node<'m>, shape: &[u64]) -> Expr {
        let mut value = self.expr(node, 0);
        let own = value.shape().to_vec();
        let stretched = matches!(node.text("keep_aspect_ratio_policy"), "" | "stretch");
        if !stretched
            || own.len() != shape.len()
            || shape.iter().chain(&own).any(|d| *d > LONGEST_AXIS)
        {
            return Expr::unknown(shape);
        }
        let scales = self.scales(node, &own, shape);
        for axis in 0..own.len() {
            if own[axis] == shape[axis] && scales[axis] == 1.0 {
                continue;
            }
            let rule = Rule {
                own: own[axis] as f64,
                wanted: shape[axis] as f64,
                scale: scales[axis],
                transformation: match node.text("coordinate_transformation_mode") {
                    // Before version 11 there was no choice.
                    "" if node.opset < 11 => "asymmetric",
                    "" => "half_pixel",
                    given => given,
                },
                nearest: match node.text("nearest_mode") {
                    "" if node.opset < 11 => "floor",
                    "" => "round_prefer_floor",
                    given => given,
                },
                cubic: node
                    .attribute("cubic_coeff_a")
                    .map_or(-0.75, |a| f64::from(a.f)),
                exclude_outside: node.int("exclude_outside", 0) != 0,
            };
            value = match rule.apply(&value, axis, node.text("mode")) {
                Some(value) if node.int("antialias", 0) == 0 => value,
                _ => return Expr::unknown(shape),
            };
        }
        value
    }

    /// By how much each axis is scaled: as given, or as its extents say.
    fn scales(&self, node: &Node<'m>, own: &[u64], shape: &[u64]) -> Vec<f64> {
        let ratio = |i: usize| shape[i] as f64 / own[i].max(1) as f64;
        let mut scales: Vec<f64> = (0..own.len()).map(ratio).collect();
        let place = match (node.op, node.opset) {
            ("Resize", 11..) => 2,
            _ => 1,
        };
        let given: Option<Vec<f64>> = match node.floats("scales") {
            Some(f) => Some(f.iter().map(|v| f64::from(*v)).collect()),
            None => node
                .optional(place)
                .filter(|v| v.dtype.is_float() && (1..=own.len() as u64).contains(&v.elements()))
                .and_then(|v| v.data().map(|d| d.floats())),
        };
        let axes: Vec<usize> = match node.ints("axes") {
            Some(axes) => axes
                .iter()
                .filter_map(|a| shapes::axis(*a, own.len()).ok())
                .collect(),
            None => (0..own.len()).collect(),
        };
        if let Some(given) = given.filter(|g| g.len() == axes.len()) {
            for (axis, scale) in axes.into_iter().zip(given) {
                scales[axis] = scale;
            }
        }
        scales
    }
}

/// How an axis is resized.
struct Rule<'n> {
    own: f64,
    wanted: f64,
    scale: f64,
    transformation: &'n str,
    nearest: &'n str,
    cubic: f64,
    exclude_outside: bool,
}

impl Rule<'_> {
    fn apply(&self, x: &Expr, axis: usize, mode: &str) -> Option<Expr> {
        let places: Option<Vec<f64>> = (0..self.wanted as u64)
            .map(|i| self.place(i as f64))
            .collect();
        let places = places?;
        let inside = |p: f64| p.clamp(0.0, self.own - 1.0) as usize;
        match mode {
            "" | "nearest" => {
                let nearest = |p: &f64| {
                    let whole = match self.nearest {
                        "floor" => p.floor(),
                        "ceil" => p.ceil(),
                        "round_prefer_ceil" => (p + 0.5).floor(),
                        _ => (p - 0.5).ceil(),
                    };
                    Some(inside(whole))
                };
                Some(x.take(axis, places.iter().map(nearest).collect(), 0.0))
            }
            "linear" | "bilinear" => {
                let taps = |p: &f64| {
                    let low = p.floor();
                    self.weighted(&[(low, 1.0 - (p - low)), (low + 1.0, p - low)])
                };
                Some(x.blend(axis, places.iter().map(taps).collect()))
            }
            "cubic" => {
                let a = self.cubic;
                let near = |d: f64| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
                let far = |d: f64| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
                let taps = |p: &f64| {
                    let low = p.floor();
                    let d = p - low;
                    self.weighted(&[
                        (low - 1.0, far(d + 1.0)),
                        (low, near(d)),
                        (low + 1.0, near(1.0 - d)),
                        (low + 2.0, far(2.0 - d)),
                    ])
                };
                Some(x.blend(axis, places.iter().map(taps).collect()))
            }
            _ => None,
        }
    }

    /// Taps with those outside moved to the border, or left out and the others scaled up.
    fn weighted(&self, taps: &[(f64, f64)]) -> Vec<(usize, f64)> {
        let is_inside = |p: f64| (0.0..self.own).contains(&p);
        let kept = |p: f64| !self.exclude_outside || is_inside(p);
        let all: f64 = taps.iter().filter(|t| kept(t.0)).map(|t| t.1).sum();
        let share = if self.exclude_outside { 1.0 / all } else { 1.0 };
        let taps = taps.iter().filter(|t| kept(t.0) && t.1 != 0.0);
        taps.map(|(p, w)| (p.clamp(0.0, self.own - 1.0) as usize, w * share))
            .collect()
    }

    /// Where an element of the result lies in the input.
    fn place(&self, i: f64) -> Option<f64> {
        Some(match self.transformation {
            "half_pixel" => (i + 0.5) / self.scale - 0.5,
            "pytorch_half_pixel" if self.wanted > 1.0 => (i + 0.5) / self.scale - 0.5,
            "pytorch_half_pixel" => 0.0,
            "asymmetric" => i / self.scale,
            "align_corners" if self.wanted > 1.0 => i * (self.own - 1.0) / (self.wanted - 1.0),
            "align_corners" => 0.0,
            "half_pixel_symmetric" => {
                // Centred: what the rounding of the extent takes off is split between both ends.
                let adjustment = self.wanted / (self.scale * self.own);
                let offset = self.own / 2.0 * (1.0 - adjustment);
                offset + (i + 0.5) / self.scale - 0.5
            }
            _ => return None,
        })
    }
}
