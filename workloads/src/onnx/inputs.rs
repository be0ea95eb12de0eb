//! Shapes of a model's inputs: declared, asked for, or assumed for batches.
//!
//! An open extent (a name such as `N`, or nothing) is, in this order: what `--shape INPUT=..` gives for the
//! input, or for another input that uses the same name; the batch, if it is the first extent and its name is
//! used nowhere but there (stated as an assumption). Any other open extent is an error that names the input.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::model::Request;

use super::error::OnnxError;
use super::proto::{DimensionProto, ValueInfoProto};
use super::value::{DType, MOST_RANKS, elements};

/// Type and extents of a declared value, or `None` if it is no tensor or has no shape. Extents below 0 and types
/// that do not exist are errors.
fn typed(info: &ValueInfoProto) -> Result<Option<(DType, &[DimensionProto])>, OnnxError> {
    let fail = |reason: String| OnnxError::Tensor {
        name: info.name.clone(),
        reason,
    };
    let Some(tensor) = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) else {
        return Ok(None);
    };
    let Some(shape) = &tensor.shape else {
        return Ok(None);
    };
    if let Some(d) = shape
        .dim
        .iter()
        .filter_map(|d| d.dim_value)
        .find(|d| *d < 0)
    {
        return Err(fail(format!("its declared extent {d} is negative")));
    }
    if shape.dim.len() > MOST_RANKS {
        return Err(fail(format!(
            "it has {} ranks; {MOST_RANKS} are supported",
            shape.dim.len()
        )));
    }
    match DType::of(tensor.elem_type) {
        Some(dtype) => Ok(Some((dtype, &shape.dim))),
        None => Err(fail(format!(
            "its element type {} is none that ONNX defines",
            tensor.elem_type
        ))),
    }
}

/// Type and shape of a declared value, if all of it is given.
pub(super) fn declared(info: &ValueInfoProto) -> Result<Option<(DType, Vec<u64>)>, OnnxError> {
    // Exporters leave the type of intermediate values undefined at times; that is no contradiction.
    if info
        .r#type
        .as_ref()
        .and_then(|t| t.tensor_type.as_ref())
        .is_some_and(|t| t.elem_type == 0)
    {
        return Ok(None);
    }
    let Some((dtype, dims)) = typed(info)? else {
        return Ok(None);
    };
    let shape: Option<Vec<u64>> = dims
        .iter()
        .map(|d| d.dim_value.and_then(|v| u64::try_from(v).ok()))
        .collect();
    Ok(shape.filter(|s| elements(s).is_some()).map(|s| (dtype, s)))
}

/// The shapes of the inputs.
pub(super) fn resolve(
    inputs: &[&ValueInfoProto],
    request: &Request,
    assumptions: &mut Vec<String>,
) -> Result<Vec<(DType, Vec<u64>)>, OnnxError> {
    if let Some((name, _)) = request
        .shapes
        .iter()
        .find(|(n, _)| inputs.iter().all(|i| i.name != *n))
    {
        let names: Vec<String> = inputs.iter().map(|i| format!("`{}`", i.name)).collect();
        return Err(OnnxError::NoSuchInput {
            name: name.clone(),
            inputs: names.join(", "),
        });
    }
    let mut types = Vec::new();
    for info in inputs {
        let none = || {
            OnnxError::Input { name: info.name.clone(), reason: "it is no tensor with a shape; sequences, maps and shapeless inputs are not supported".into() }
        };
        types.push((*info, typed(info)?.ok_or_else(none)?));
    }
    // Names bound by the shapes that were given.
    let mut bound: FxHashMap<&str, u64> = FxHashMap::default();
    for (info, (_, dims)) in &types {
        let Some((_, given)) = request.shapes.iter().find(|(n, _)| *n == info.name) else {
            continue;
        };
        let fail = |reason: String| {
            Err(OnnxError::Input {
                name: info.name.clone(),
                reason,
            })
        };
        if given.len() != dims.len() {
            return fail(format!(
                "it has {} ranks, the shape given for it has {}",
                dims.len(),
                given.len()
            ));
        }
        for (dim, &extent) in dims.iter().zip(given) {
            match (fixed(dim), named(dim)) {
                (Some(own), _) if own != extent => {
                    return fail(format!(
                        "the file fixes {:?}, so it cannot be {given:?}; export the model with open extents",
                        written(dims)
                    ));
                }
                (None, Some(name)) if *bound.entry(name).or_insert(extent) != extent => {
                    return fail(format!(
                        "`{name}` would be {} and {extent} at once",
                        bound.get(name).copied().unwrap_or(0)
                    ));
                }
                _ => {}
            }
        }
    }
    let batch_names = batch_names(&types);
    let mut seen: FxHashSet<String> = FxHashSet::default();
    let mut assumed: Vec<String> = Vec::new();
    let mut out = Vec::new();
    for (info, (dtype, dims)) in &types {
        let given = request
            .shapes
            .iter()
            .find(|(n, _)| *n == info.name)
            .map(|(_, s)| s);
        let mut shape = Vec::with_capacity(dims.len());
        for (at, dim) in dims.iter().enumerate() {
            let extent = match (fixed(dim), given.and_then(|g| g.get(at)), named(dim)) {
                (Some(own), _, _) => own,
                (None, Some(given), _) => *given,
                (None, None, Some(name)) if bound.contains_key(name) => {
                    bound.get(name).copied().unwrap_or(1)
                }
                (None, None, name)
                    if name.map_or(at == 0, |n| batch_names.get(n) == Some(&true)) =>
                {
                    let what = name.map_or_else(
                        || format!("the first extent of `{}`", info.name),
                        |n| format!("`{n}`"),
                    );
                    if seen.insert(what.clone()) {
                        assumed.push(what);
                    }
                    request.batch
                }
                (None, None, _) => {
                    let reason = format!(
                        "its shape {} is open; give it as --shape {}={}",
                        written(dims),
                        info.name,
                        example(dims)
                    );
                    return Err(OnnxError::Input {
                        name: info.name.clone(),
                        reason,
                    });
                }
            };
            shape.push(extent);
        }
        if elements(&shape).is_none() {
            return Err(OnnxError::Input {
                name: info.name.clone(),
                reason: format!("shape {shape:?} is too large: its size does not fit 64 bits"),
            });
        }
        out.push((*dtype, shape));
    }
    if !assumed.is_empty() {
        assumptions.push(format!(
            "batch: {} taken as {}",
            assumed.join(" and "),
            request.batch
        ));
    } else if request.batch != 1
        && request.shapes.is_empty()
        && let Some(((info, (_, dims)), _)) = types
            .iter()
            .zip(&out)
            .find(|(_, (_, s))| s.first().is_some_and(|b| *b != request.batch))
    {
        let reason = format!(
            "a batch of {} was asked for, but the file fixes its shape {}; export it with an open batch or leave the batch at 1",
            request.batch,
            written(dims)
        );
        return Err(OnnxError::Input {
            name: info.name.clone(),
            reason,
        });
    }
    Ok(out)
}

fn fixed(dim: &DimensionProto) -> Option<u64> {
    dim.dim_value.and_then(|v| u64::try_from(v).ok())
}

fn named(dim: &DimensionProto) -> Option<&str> {
    dim.dim_param.as_deref().filter(|p| !p.is_empty())
}

/// For each name of an extent, whether it means the batch: called so, or used as first extents only.
fn batch_names<'a>(
    types: &[(&ValueInfoProto, (DType, &'a [DimensionProto]))],
) -> FxHashMap<&'a str, bool> {
    let called = |n: &str| {
        n.eq_ignore_ascii_case("n")
            || n.eq_ignore_ascii_case("b")
            || n.eq_ignore_ascii_case("bs")
            || n.to_ascii_lowercase().starts_with("batch")
    };
    let mut names = FxHashMap::default();
    for (_, (_, dims)) in types {
        for (at, name) in dims
            .iter()
            .enumerate()
            .filter_map(|(i, d)| named(d).map(|n| (i, n)))
        {
            *names.entry(name).or_insert(true) &= at == 0 || called(name);
        }
    }
    names
}

/// A shape as the file writes it: `N x 3 x ? x 224`.
fn written(dims: &[DimensionProto]) -> String {
    let one = |d: &DimensionProto| {
        fixed(d)
            .map(|v| v.to_string())
            .or_else(|| named(d).map(String::from))
            .unwrap_or_else(|| "?".into())
    };
    dims.iter().map(one).collect::<Vec<_>>().join(" x ")
}

/// The shape to give, with a number in the place of each open extent.
fn example(dims: &[DimensionProto]) -> String {
    let one = |d: &DimensionProto| {
        fixed(d).map_or_else(
            || format!("<{}>", named(d).unwrap_or("n")),
            |v| v.to_string(),
        )
    };
    dims.iter().map(one).collect::<Vec<_>>().join("x")
}
