//! Matmuls: MatMul, Gemm, and their quantized forms.
//!
//! A matmul with a fixed operand (a parameter or a constant) is a linear: its activations come first, the fixed
//! operand second, whichever side of the product it stands on. Leading ranks that all operands share, or that
//! only one of them has, are merged.

use presil_numerics::quantization::{Granularity, Scaling, Sparsity};
use presil_numerics::{Format, LanePrimitive as L, Quantization};

use crate::build::single;
use crate::einsum::{Dim, Place};
use crate::expr::Expr;
use crate::formula::Binary;
use crate::op::OpClass;

use super::conv::contraction;
use super::error::Fault;
use super::import::Importer;
use super::lower::Lowered;
use super::node::Node;
use super::shapes;
use super::value::{DType, Value};

/// Which inputs a matmul multiplies, and how.
#[derive(Clone, Copy)]
pub(super) struct Product {
    /// Left operand [.., m, k], or [.., k, m] transposed.
    pub a: usize,
    /// Right operand [.., k, n], or [.., n, k] transposed.
    pub b: usize,
    /// Whether the left one is transposed.
    pub transpose_a: bool,
    /// Whether the right one is transposed.
    pub transpose_b: bool,
    /// Bias, added by the op.
    pub bias: Option<usize>,
    /// Type of the output.
    pub dtype: DType,
    /// Behind the node's name.
    pub part: &'static str,
}

impl<'m> Importer<'m> {
    /// MatMul, and FusedMatMul with its transpositions.
    pub fn matmul(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let dtype = node.input(0)?.dtype;
        let fused = node.op == "FusedMatMul";
        if fused && (node.int("transBatchA", 0) != 0 || node.int("transBatchB", 0) != 0) {
            return Err("transposed batches are not supported".into());
        }
        let flag = |name: &str| fused && node.int(name, 0) != 0;
        let product = Product {
            a: 0,
            b: 1,
            transpose_a: flag("transA"),
            transpose_b: flag("transB"),
            bias: None,
            dtype,
            part: "",
        };
        let out = self.product(node, product)?;
        if let Some(alpha) = node.attribute("alpha").filter(|_| fused) {
            let value = self.product_value(node, &out, &product);
            self.says(&out, value.with(Binary::Multiply, f64::from(alpha.f)));
        }
        Ok(vec![out])
    }

    /// MatMulInteger: 32-bit sums of 8-bit products.
    pub fn matmul_integer(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let product = Product {
            a: 0,
            b: 1,
            transpose_a: false,
            transpose_b: false,
            bias: None,
            dtype: DType::I32,
            part: "",
        };
        let out = self.product(node, product)?;
        let sums = self.integer_product(node, &out, &product, [2, 3]);
        self.says(&out, sums);
        Ok(vec![out])
    }

    /// The exact sums of a product of codes less their zero points: one for all, for each row of the left one or for
    /// each column of the right one.
    fn integer_product(
        &self,
        node: &Node<'m>,
        out: &Value<'m>,
        p: &Product,
        zeros: [usize; 2],
    ) -> Expr {
        let zero = |i: usize, of: usize, row: bool| {
            let zero = self.given(node, zeros[i])?;
            let own = self.expr(node, of);
            Some(beside(&zero, row && own.shape().len() > 1))
        };
        let a = (self.expr(node, p.a), zero(0, p.a, !p.transpose_a));
        let b = (self.expr(node, p.b), zero(1, p.b, p.transpose_b));
        if self.swaps(node, p) {
            self.integer_sums(out, [b, a])
        } else {
            self.integer_sums(out, [a, b])
        }
    }

    /// Codes of a result: the sums times `a scale x b scale / result's scale`, about its zero point.
    fn requantized(
        &self,
        node: &Node<'m>,
        sums: &Expr,
        scales: [(usize, bool); 3],
        zero: usize,
        to: DType,
    ) -> Expr {
        let scales = scales.map(|(i, row)| beside(&self.expr(node, i), row));
        let scale = Expr::formula("x * y / z", &scales.each_ref());
        let quotient = sums.binary(Binary::Multiply, &scale);
        let zero = self.given(node, zero).map(|z| beside(&z, true));
        super::quantize::rounded(&quotient, zero.as_ref(), to, true)
    }

    /// Whether the right operand is fixed only in the sense that the left one is: it comes second.
    fn swaps(&self, node: &Node<'m>, p: &Product) -> bool {
        let fixed = |i: usize| node.optional(i).is_some_and(Value::is_fixed);
        fixed(p.a) && !fixed(p.b)
    }

    /// The value of a product, with its bias.
    fn product_value(&mut self, node: &Node<'m>, out: &Value<'m>, p: &Product) -> Expr {
        let (a, b) = (self.expr(node, p.a), self.expr(node, p.b));
        let operands = if self.swaps(node, p) { [b, a] } else { [a, b] };
        let bias = p.bias.and_then(|i| self.given(node, i));
        let bias = bias.map(|b| {
            let count = b.shape().iter().product();
            b.reshape(&[count])
        });
        let rank = out.shape.len().saturating_sub(1);
        self.contracted(out, operands, bias, rank)
    }

    /// QLinearMatMul: a, its scale and zero point, b, its scale and zero point, those of the output.
    pub fn q_linear_matmul(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let dtype = node.input(0)?.dtype;
        self.merge_scales(node, 3, 4, 5, -1)?;
        let product = Product {
            a: 0,
            b: 3,
            transpose_a: false,
            transpose_b: false,
            bias: None,
            dtype,
            part: "",
        };
        let out = self.product(node, product)?;
        let sums = self.integer_product(node, &out, &product, [2, 5]);
        let row = node.input(0)?.rank() > 1;
        let scales = [(1, row), (4, false), (6, row)];
        let codes = self.requantized(node, &sums, scales, 7, dtype);
        self.says(&out, codes);
        Ok(vec![out])
    }

    /// Integer matmuls that give floats: DynamicQuantizeMatMul (a float, b, scale, zero point, bias) and
    /// MatMulIntegerToFloat (a, b, scales, zero points, bias).
    pub fn matmul_to_float(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let bias = if node.op == "DynamicQuantizeMatMul" {
            4
        } else {
            6
        };
        let bias = node.optional(bias).map(|_| bias);
        let product = Product {
            a: 0,
            b: 1,
            transpose_a: false,
            transpose_b: false,
            bias,
            dtype: DType::F32,
            part: "",
        };
        let out = self.product(node, product)?;
        let product = Product {
            bias: None,
            ..product
        };
        let mut value = if node.op == "MatMulIntegerToFloat" {
            let sums = self.integer_product(node, &out, &product, [4, 5]);
            let row = node.input(0)?.rank() > 1;
            let scales = [(2, row), (3, false)].map(|(i, row)| beside(&self.expr(node, i), row));
            Expr::formula("x * (y * z)", &[&sums, &scales[0], &scales[1]])
        } else {
            let [codes, scale, zero] = super::quantize::dynamic(&self.expr(node, 0));
            let own = (codes, Some(zero));
            let zero = self.given(node, 3).map(|z| beside(&z, false));
            let sums = self.integer_sums(&out, [own, (self.expr(node, 1), zero)]);
            let scale_b = beside(&self.expr(node, 2), false);
            Expr::formula("x * (y * z)", &[&sums, &scale, &scale_b])
        };
        if let Some(bias) = bias {
            value = value.binary(Binary::Add, &self.expr(node, bias));
        }
        self.says(&out, value);
        Ok(vec![out])
    }

    /// Gemm: alpha A B + beta C.
    pub fn gemm(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let dtype = node.input(0)?.dtype;
        self.general(
            node,
            1,
            Some(2).filter(|i| node.optional(*i).is_some()),
            dtype,
        )
    }

    /// QGemm: a, its scale and zero point, b, its scale and zero point, c, scale and zero point of the output.
    pub fn q_gemm(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let dtype = if node.optional(7).is_some() {
            node.input(0)?.dtype
        } else {
            DType::F32
        };
        self.merge_scales(
            node,
            3,
            4,
            5,
            if node.int("transB", 0) != 0 { 0 } else { 1 },
        )?;
        self.general(
            node,
            3,
            Some(6).filter(|i| node.optional(*i).is_some()),
            dtype,
        )
    }

    fn general(
        &mut self,
        node: &Node<'m>,
        b: usize,
        c: Option<usize>,
        dtype: DType,
    ) -> Lowered<'m> {
        for i in [0, b] {
            if node.input(i)?.rank() != 2 {
                return Err(format!(
                    "it needs matrices, input {i} has shape {:?}",
                    node.input(i)?.shape
                )
                .into());
            }
        }
        let number = |name: &str| node.attribute(name).map_or(1.0, |a| f64::from(a.f));
        let (alpha, beta) = (number("alpha"), number("beta"));
        let (transpose_a, transpose_b) = (node.int("transA", 0) != 0, node.int("transB", 0) != 0);
        // A vector over the columns is a bias of the op; anything else is an addition of its own.
        let n = node.input(b)?.shape[usize::from(!transpose_b)];
        let vector = |i: &usize| {
            node.optional(*i)
                .is_some_and(|v| v.is_fixed() && (v.shape == [n] || v.shape == [1, n]))
        };
        let bias = c.filter(vector);
        let product = Product {
            a: 0,
            b,
            transpose_a,
            transpose_b,
            bias,
            dtype,
            part: "",
        };
        let out = self.product(node, product)?;
        let scaled = |x: Expr, by: f64| {
            if by == 1.0 {
                x
            } else {
                x.with(Binary::Multiply, by)
            }
        };
        let added = match node.op {
            // a, its scale and zero point, b, its scale and zero point, c, scale and zero point of the result.
            "QGemm" => {
                let mut sums = self.integer_product(node, &out, &product, [2, 5]);
                if let Some(c) = c.filter(|_| bias.is_some()) {
                    sums = sums.binary(Binary::Add, &self.expr(node, c));
                }
                let codes = match node.optional(7) {
                    Some(_) => {
                        let scales = [(1, false), (4, false), (7, false)];
                        self.requantized(node, &scaled(sums, alpha), scales, 8, dtype)
                    }
                    None => {
                        let scales = [1, 4].map(|i| beside(&self.expr(node, i), false));
                        Expr::formula("x * y * z", &[&sums, &scales[0], &scales[1]])
                    }
                };
                // Another C would have to be added before the result becomes codes.
                let whole = c.is_none() || bias.is_some();
                let value = if whole {
                    codes
                } else {
                    Expr::unknown(&out.shape)
                };
                self.says(&out, value);
                Expr::unknown(&out.shape)
            }
            _ => {
                let plain = alpha == 1.0 && (beta == 1.0 || bias.is_none());
                if !plain {
                    let products = Product {
                        bias: None,
                        ..product
                    };
                    let mut value = scaled(self.product_value(node, &out, &products), alpha);
                    if let Some(i) = bias {
                        let added = scaled(self.expr(node, i), beta);
                        value = value.binary(Binary::Add, &added);
                    }
                    self.says(&out, value);
                }
                match c {
                    Some(i) => {
                        let added = scaled(self.expr(node, i), beta);
                        self.what(&out).binary(Binary::Add, &added)
                    }
                    None => Expr::unknown(&out.shape),
                }
            }
        };
        let Some(i) = c.filter(|_| bias.is_none()) else {
            return self.fused_activation(node, out);
        };
        let own = node.input(i)?.shape.clone();
        if shapes::broadcast([&own[..], &out.shape]).as_ref() != Ok(&out.shape) {
            return Err(format!("C of shape {own:?} does not broadcast to {:?}", out.shape).into());
        }
        let operands = [
            (out.tensor.ok_or("it has no output")?, out.shape.clone()),
            (self.operand(node, i)?, own),
        ];
        let sum = self.lanes(
            node,
            ".add",
            OpClass::Elementwise,
            &operands,
            &[L::Add],
            dtype,
        )?;
        self.says(&sum, added);
        self.fused_activation(node, sum)
    }

    /// MatMulNBits: a [.., k], b stored as [n, blocks, bytes], scales, zero points, group index, bias.
    pub fn matmul_n_bits(&mut self, node: &Node<'m>) -> Lowered<'m> {
        let positive = |name: &str, default: i64| {
            u64::try_from(node.int(name, default))
                .ok()
                .filter(|v| *v > 0 && *v < 1 << 31)
                .ok_or_else(|| format!("{name} must be 1 or more"))
        };
        let (k, n, bits, block) = (
            positive("K", 0)?,
            positive("N", 0)?,
            positive("bits", 4)?,
            positive("block_size", 32)?,
        );
        let x = node.input(0)?.clone();
        if x.shape.last() != Some(&k) {
            return Err(format!(
                "inputs of shape {:?} do not fit weights of width {k}",
                x.shape
            )
            .into());
        }
        let stored = node.input(1)?.elements();
        let bytes = n * k.div_ceil(block) * (block * bits).div_ceil(8);
        if stored != bytes || ![2, 4, 8].contains(&bits) {
            return Err(format!("{n} x {k} weights of {bits} bits in blocks of {block} take {bytes} bytes, not {stored}").into());
        }
        let w = self.operand(node, 1)?;
        let zero_point = node.optional(3).map(|_| Format::Int {
            bits: bits as u8,
            signed: false,
        });
        let scale = node.input(2)?.dtype.format();
        let scaling = Scaling {
            granularity: Granularity::Block {
                axis: -1,
                size: block as u32,
            },
            scale,
            zero_point,
            outer: None,
        };
        // The tensor takes the shape that its codes have; scales and zero points are part of its storage.
        let tensor = &mut self.builder.graph.tensors[w];
        tensor.shape = vec![n, k];
        tensor.quantization = Quantization {
            format: Format::Int {
                bits: bits as u8,
                signed: false,
            },
            scaling: Some(scaling),
            sparsity: Sparsity::Dense,
        };
        for i in [2, 3] {
            self.absorb(node, i);
        }
        let rows = x.elements() / k.max(1);
        let dims = crate::build::dims(&[("m", rows), ("n", n), ("k", k)]);
        let at = |place, ranks: &[u32]| crate::build::plain(place, &dims, ranks);
        let einsum = contraction(
            dims.clone(),
            at(Place::Input(0), &[0, 2]),
            at(Place::Input(1), &[1, 2]),
            at(Place::Output(0), &[0, 1]),
        );
        let mut tensors = vec![self.operand(node, 0)?, w];
        if node.optional(5).is_some() {
            tensors.push(self.operand(node, 5)?);
        }
        let mut shape = x.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = n;
        }
        Ok(vec![self.emit(
            node,
            "",
            OpClass::Linear,
            single(einsum),
            tensors,
            &shape,
            x.dtype,
        )?])
    }

    /// The product of two inputs, broadcast over their leading ranks.
    pub fn product(&mut self, node: &Node<'m>, p: Product) -> Result<Value<'m>, Fault> {
        let (a, b) = (node.input(p.a)?.clone(), node.input(p.b)?.clone());
        let fits = || {
            format!(
                "operands of shape {:?} and {:?} do not fit: the extents that they sum over must be equal",
                a.shape, b.shape
            )
        };
        // A vector is a row on the left and a column on the right.
        let row = if a.rank() == 1 {
            vec![1, a.shape[0]]
        } else {
            a.shape.clone()
        };
        let column = if b.rank() == 1 {
            vec![b.shape[0], 1]
        } else {
            b.shape.clone()
        };
        let ([outer_a @ .., a0, a1], [outer_b @ .., b0, b1]) = (row.as_slice(), column.as_slice())
        else {
            return Err(fits().into());
        };
        let (m, k) = if p.transpose_a {
            (*a1, *a0)
        } else {
            (*a0, *a1)
        };
        let (kb, n) = if p.transpose_b {
            (*b1, *b0)
        } else {
            (*b0, *b1)
        };
        if k != kb {
            return Err(fits().into());
        }
        let outer = shapes::broadcast([outer_a, outer_b])?;
        let mut shape = outer.clone();
        shape.extend((a.rank() > 1).then_some(m));
        shape.extend((b.rank() > 1).then_some(n));

        // Leading ranks, merged while the same operands have them.
        let has = |own: &[u64], i: usize| {
            i + own.len() >= outer.len() && own[i + own.len() - outer.len()] != 1
        };
        let mut groups: Vec<(u64, bool, bool)> = Vec::new();
        for (i, &extent) in outer.iter().enumerate().filter(|(_, d)| **d != 1) {
            let kind = (has(outer_a, i), has(outer_b, i));
            match groups.last_mut() {
                Some((size, in_a, in_b)) if (*in_a, *in_b) == kind => {
                    *size = size.saturating_mul(extent)
                }
                _ => groups.push((extent, kind.0, kind.1)),
            }
        }
        // Rows of the left operand that all meet the same matrix are one long matrix.
        let mut m = m;
        if !p.transpose_a && groups.iter().all(|(_, _, in_b)| !in_b) {
            m = groups
                .drain(..)
                .fold(m, |m, (size, ..)| m.saturating_mul(size));
        }
        let mut dims: Vec<Dim> = Vec::new();
        for (i, (size, ..)) in groups.iter().enumerate() {
            let name = ["b", "g"]
                .get(i)
                .map_or_else(|| format!("b{i}"), |n| (*n).to_string());
            dims.push(Dim { name, size: *size });
        }
        let base = dims.len() as u32;
        dims.extend(crate::build::dims(&[("m", m), ("n", n), ("k", k)]));
        let (dm, dn, dk) = (base, base + 1, base + 2);
        let batch = |in_operand: &dyn Fn(&(u64, bool, bool)) -> bool| {
            groups
                .iter()
                .enumerate()
                .filter(|(_, g)| in_operand(g))
                .map(|(i, _)| i as u32)
                .collect::<Vec<u32>>()
        };
        let mut ranks_a = batch(&|g| g.1);
        ranks_a.extend(if p.transpose_a { [dk, dm] } else { [dm, dk] });
        let mut ranks_b = batch(&|g| g.2);
        ranks_b.extend(if p.transpose_b { [dn, dk] } else { [dk, dn] });
        let mut ranks_out = batch(&|_| true);
        ranks_out.extend([dm, dn]);

        let swapped = a.is_fixed() && !b.is_fixed();
        let linear = a.is_fixed() || b.is_fixed();
        let (first, second) = if swapped {
            ((p.b, ranks_b), (p.a, ranks_a))
        } else {
            ((p.a, ranks_a), (p.b, ranks_b))
        };
        let at = |place, ranks: &[u32]| crate::build::plain(place, &dims, ranks);
        let (x, y, z) = (
            at(Place::Input(0), &first.1),
            at(Place::Input(1), &second.1),
            at(Place::Output(0), &ranks_out),
        );
        let einsum = contraction(dims, x, y, z);
        let mut tensors = vec![self.operand(node, first.0)?, self.operand(node, second.0)?];
        if let Some(bias) = p.bias {
            tensors.push(self.operand(node, bias)?);
        }
        let class = if linear {
            OpClass::Linear
        } else {
            OpClass::Matmul
        };
        let out = self.emit(
            node,
            p.part,
            class,
            single(einsum),
            tensors,
            &shape,
            p.dtype,
        )?;
        let value = self.product_value(node, &out, &p);
        self.says(&out, value);
        Ok(out)
    }
}

/// A scale or a zero point of a product's operand: one for all, or one for each column, or each row.
fn beside(parameter: &Expr, row: bool) -> Expr {
    let count: u64 = parameter.shape().iter().product();
    match (count, parameter.shape().len()) {
        (1, _) => parameter.reshape(&[]),
        (_, 0 | 1) if row => parameter.reshape(&[count, 1]),
        _ => parameter.clone(),
    }
}
