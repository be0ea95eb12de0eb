//! `problem`: a shape (dimensions, coefficients, data spaces with their projections) and an instance (sizes).
//!
//! ```yaml
//! problem:
//!   shape:
//!     name: Conv1D
//!     dimensions: [R, P]
//!     coefficients: [{name: Stride, default: 1}]
//!     data_spaces:
//!     - {name: Weights, projection: [[[R]]]}
//!     - {name: Inputs, projection: [[[R], [P, Stride]]]}        # rank R + Stride x P
//!     - {name: Outputs, projection: [[[P]]], read_write: true}
//!   instance: {R: 3, P: 16, Stride: 2}
//! ```
//!
//! A problem is one einsum: the data spaces that are only read are its inputs, in order, and the one that is
//! `read_write` its output. The shape `cnn-layer` of early sets is known by name, with sizes beside it.

use presil_numerics::ids::Id;
use presil_workloads::einsum::Place;
use presil_workloads::{Access, Affine, Dim, DimId, Domain, Einsum, MapOperator, ReduceOperator};

use super::TimeloopError;
use super::tree::Cursor;
use crate::case::CaseTensor;
use crate::hierarchy::access_of;
use crate::looptree::tile_shape;

/// Largest coefficient.
const LARGEST_COEFFICIENT: i64 = 1 << 20;
/// Most points: sizes and counts stay well inside 64 bits.
const MOST_POINTS: u64 = 1 << 62;

/// A problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The shape's name.
    pub name: String,
    /// The einsum.
    pub einsum: Einsum,
    /// Names of its operands: inputs in order, then the output.
    pub operands: Vec<String>,
}

impl Problem {
    /// The index of a dimension's name.
    pub fn dim(&self, name: &str) -> Option<usize> {
        self.einsum.dims.iter().position(|d| d.name == name)
    }

    /// The operand of a data space's name.
    pub fn operand(&self, name: &str) -> Option<usize> {
        self.operands.iter().position(|o| o == name)
    }

    /// The operands as tensors of a case.
    pub(super) fn tensors(&self, bits: f64) -> Vec<CaseTensor> {
        let names = self.operands.iter().enumerate();
        names
            .map(|(i, name)| CaseTensor {
                name: name.clone(),
                bits,
                extents: access_of(&self.einsum, i).extents.clone(),
            })
            .collect()
    }

    pub(super) fn read(problem: &Cursor<'_>) -> Result<Self, TimeloopError> {
        let shape = problem.need("shape")?;
        let sizes = problem.get("instance").unwrap_or_else(|| problem.clone());
        check_density(&sizes)?;
        if let Ok(name) = shape.text() {
            return Self::cnn_layer(name, &shape, &sizes);
        }
        let name = match shape.get("name") {
            Some(name) => name.text()?.to_string(),
            None => "problem".into(),
        };
        let dims = read_dims(&shape.need("dimensions")?, &sizes)?;
        let coefficients = match shape.get("coefficients") {
            Some(list) => read_coefficients(&list, &sizes)?,
            None => Vec::new(),
        };
        let mut inputs = Vec::new();
        let mut output = None;
        for space in shape.need("data_spaces")?.items()? {
            let name = space.need("name")?.text()?.to_string();
            let ranks = read_projection(&space.need("projection")?, &dims, &coefficients)?;
            let written = match space.get("read_write") {
                Some(flag) => flag.truth()?,
                None => false,
            };
            if !written {
                inputs.push((name, ranks));
            } else if output.replace((name, ranks)).is_some() {
                return Err(
                    space.fail("is a second read_write data space; a problem has one output")
                );
            }
        }
        let Some(output) = output else {
            return Err(shape.fail("no data space is read_write; mark the output"));
        };
        Self::new(name, dims, inputs, output, problem)
    }

    fn new(
        name: String,
        dims: Vec<Dim>,
        inputs: Vec<(String, Vec<Affine>)>,
        output: (String, Vec<Affine>),
        at: &Cursor<'_>,
    ) -> Result<Self, TimeloopError> {
        if dims.is_empty() || dims.len() > 31 || inputs.len() > 30 {
            return Err(at.fail("needs 1 to 31 dimensions and at most 30 inputs"));
        }
        let access = |place, ranks: Vec<Affine>| Access {
            place,
            extents: vec![1; ranks.len()],
            ranks,
        };
        let mut operands: Vec<String> = inputs.iter().map(|(n, _)| n.clone()).collect();
        operands.push(output.0);
        let inputs = inputs.into_iter().enumerate();
        let mut einsum = Einsum {
            inputs: inputs
                .map(|(i, (_, r))| access(Place::Input(i as u8), r))
                .collect(),
            output: access(Place::Output(0), output.1),
            map: MapOperator::MultiplyAccumulate,
            reduce: ReduceOperator::Sum,
            domain: Domain::Dense,
            dims,
        };
        if einsum.points().is_none_or(|p| p > MOST_POINTS) {
            return Err(at.fail("has more than 2^62 points"));
        }
        // An index starts at its least value, so that it never is negative.
        let whole: Vec<u64> = einsum.dims.iter().map(|d| d.size).collect();
        for operand in 0..operands.len() {
            let extents = tile_shape(&einsum, operand, &whole);
            let access = match einsum.inputs.get_mut(operand) {
                Some(input) => input,
                None => &mut einsum.output,
            };
            access.extents = extents;
            for rank in &mut access.ranks {
                let below = rank.terms.iter().filter(|(_, c)| *c < 0);
                rank.offset = below.map(|(d, c)| -c * (whole[d.index()] as i64 - 1)).sum();
            }
        }
        Ok(Self {
            name,
            einsum,
            operands,
        })
    }

    /// The shape that early sets name only.
    fn cnn_layer(
        name: &str,
        shape: &Cursor<'_>,
        sizes: &Cursor<'_>,
    ) -> Result<Self, TimeloopError> {
        if !matches!(name.replace('_', "-").as_str(), "cnn-layer") {
            return Err(shape.fail(format!(
                "no shape `{name}` is built in; write the shape out"
            )));
        }
        let mut dims = Vec::new();
        for name in ["R", "S", "P", "Q", "C", "K", "N"] {
            dims.push(Dim {
                name: name.into(),
                size: sizes.need(name)?.count()?,
            });
        }
        let coefficient = |key: &str| match sizes.get(key) {
            Some(c) => read_coefficient(&c),
            None => Ok(1),
        };
        let (r, s, p, q, c, k, n) = (0, 1, 2, 3, 4, 5, 6);
        let one = |d: usize| Affine::dim(DimId::new(d));
        let window = |filter: usize, dilation: i64, output: usize, stride: i64| Affine {
            terms: vec![(DimId::new(filter), dilation), (DimId::new(output), stride)],
            offset: 0,
        };
        let rows = window(r, coefficient("Wdilation")?, p, coefficient("Wstride")?);
        let columns = window(s, coefficient("Hdilation")?, q, coefficient("Hstride")?);
        let weights = vec![one(c), one(k), one(r), one(s)];
        let inputs = vec![one(n), one(c), rows, columns];
        let outputs = vec![one(n), one(k), one(q), one(p)];
        Self::new(
            "cnn-layer".into(),
            dims,
            vec![("Weights".into(), weights), ("Inputs".into(), inputs)],
            ("Outputs".into(), outputs),
            shape,
        )
    }
}

fn check_density(sizes: &Cursor<'_>) -> Result<(), TimeloopError> {
    let Some(densities) = sizes.first(&["densities", "common_densities"]) else {
        return Ok(());
    };
    if densities.is_empty() {
        return Ok(());
    }
    for (_, density) in densities.entries()? {
        let share = density.get("density").unwrap_or_else(|| density.clone());
        if share.number()? != 1.0 {
            return Err(
                share.fail("sparse operands are not told in this convention; use density 1")
            );
        }
    }
    Ok(())
}

fn read_dims(list: &Cursor<'_>, sizes: &Cursor<'_>) -> Result<Vec<Dim>, TimeloopError> {
    let mut dims: Vec<Dim> = Vec::new();
    for name in list.words()? {
        if dims.iter().any(|d| d.name == name) {
            return Err(list.fail(format!("dimension `{name}` stands twice")));
        }
        let size = match sizes.get(&name) {
            Some(size) => size.count()?,
            None => return Err(sizes.fail(format!("gives no size of dimension `{name}`"))),
        };
        dims.push(Dim { name, size });
    }
    Ok(dims)
}

fn read_coefficient(value: &Cursor<'_>) -> Result<i64, TimeloopError> {
    let n = value.number()?;
    if n.fract() != 0.0 || n == 0.0 || n.abs() > LARGEST_COEFFICIENT as f64 {
        return Err(value.fail(format!(
            "is {n}; a coefficient is a whole number up to {LARGEST_COEFFICIENT}, not 0"
        )));
    }
    Ok(n as i64)
}

fn read_coefficients(
    list: &Cursor<'_>,
    sizes: &Cursor<'_>,
) -> Result<Vec<(String, i64)>, TimeloopError> {
    let mut coefficients = Vec::new();
    for item in list.items()? {
        let name = item.need("name")?.text()?;
        let value = match sizes.get(name) {
            Some(value) => read_coefficient(&value)?,
            None => match item.get("default") {
                Some(default) => read_coefficient(&default)?,
                None => return Err(item.fail(format!("the instance gives no `{name}`"))),
            },
        };
        coefficients.push((name.to_string(), value));
    }
    Ok(coefficients)
}

fn read_projection(
    projection: &Cursor<'_>,
    dims: &[Dim],
    coefficients: &[(String, i64)],
) -> Result<Vec<Affine>, TimeloopError> {
    let mut ranks = Vec::new();
    for rank in projection.items()? {
        let mut affine = Affine::zero();
        for term in rank.items()? {
            let mut dim = None;
            let mut factor = 1i64;
            for name in term.words()? {
                if let Some(d) = dims.iter().position(|d| d.name == name) {
                    if dim.replace(DimId::new(d)).is_some() {
                        return Err(
                            term.fail("multiplies two dimensions; an index is a sum of dimensions")
                        );
                    }
                } else if let Some((_, c)) = coefficients.iter().find(|(n, _)| *n == name) {
                    factor = factor.saturating_mul(*c);
                } else {
                    return Err(term.fail(format!("`{name}` is no dimension and no coefficient")));
                }
            }
            let Some(dim) = dim else {
                return Err(term.fail("names no dimension"));
            };
            match affine.terms.iter_mut().find(|(d, _)| *d == dim) {
                Some((_, c)) => *c = c.saturating_add(factor),
                None => affine.terms.push((dim, factor)),
            }
        }
        let large = affine
            .terms
            .iter()
            .any(|(_, c)| c.abs() > LARGEST_COEFFICIENT);
        if large {
            return Err(rank.fail(format!("has a coefficient above {LARGEST_COEFFICIENT}")));
        }
        affine.terms.retain(|(_, c)| *c != 0);
        ranks.push(affine);
    }
    Ok(ranks)
}
