//! Shapes of results: what a node's attributes and known inputs make of its operands' shapes.

use super::error::Fault;
use super::node::Node;
use super::shapes;

/// The result of Reshape, Flatten, Squeeze or Unsqueeze.
pub(super) fn reshaped(node: &Node) -> Result<Vec<u64>, Fault> {
    let x = node.input(0)?;
    Ok(match node.op {
        "Reshape" => match node.ints("shape") {
            Some(wanted) if node.opset < 5 => shapes::reshape(&x.shape, wanted, false)?,
            _ => shapes::reshape(
                &x.shape,
                &node.known(1, "the extents of its result")?,
                node.int("allowzero", 0) != 0,
            )?,
        },
        "Flatten" => {
            let rank = x.rank() as i64;
            let axis = node.int("axis", 1);
            let at = if axis < 0 {
                axis.saturating_add(rank)
            } else {
                axis
            };
            let at = usize::try_from(at)
                .ok()
                .filter(|a| *a <= x.rank())
                .ok_or_else(|| format!("axis {axis} does not exist in {rank} ranks"))?;
            vec![
                x.shape[..at].iter().product(),
                x.shape[at..].iter().product(),
            ]
        }
        "Squeeze" => {
            let axes = match node.axes(1)? {
                Some(axes) => shapes::axes(&axes, x.rank())?,
                None => (0..x.rank()).filter(|i| x.shape[*i] == 1).collect(),
            };
            if let Some(a) = axes.iter().find(|a| x.shape[**a] != 1) {
                return Err(
                    format!("axis {a} of {:?} is not 1 and cannot be squeezed", x.shape).into(),
                );
            }
            x.shape
                .iter()
                .enumerate()
                .filter(|(i, _)| axes.binary_search(i).is_err())
                .map(|(_, d)| *d)
                .collect()
        }
        _ => {
            let axes = node.axes(1)?.ok_or("it needs axes")?;
            let rank = x.rank() + axes.len();
            let axes = shapes::axes(&axes, rank)?;
            let mut own = x.shape.iter();
            let extents = (0..rank).map(|i| {
                if axes.binary_search(&i).is_ok() {
                    1
                } else {
                    own.next().copied().unwrap_or(1)
                }
            });
            shapes::checked(extents.collect())?
        }
    })
}

/// The permutation of a Transpose.
pub(super) fn permutation(node: &Node, rank: usize) -> Result<Vec<usize>, String> {
    let Some(perm) = node.ints("perm").filter(|p| !p.is_empty() || rank == 0) else {
        return Ok((0..rank).rev().collect());
    };
    let mut seen = vec![false; rank];
    let places: Vec<usize> = perm
        .iter()
        .map(|p| usize::try_from(*p).unwrap_or(rank))
        .collect();
    for p in &places {
        match seen.get_mut(*p) {
            Some(s) if !*s => *s = true,
            _ => return Err(format!("{perm:?} is no permutation of {rank} ranks")),
        }
    }
    if places.len() != rank {
        return Err(format!("{perm:?} is no permutation of {rank} ranks"));
    }
    Ok(places)
}

/// The result of tiling.
pub(super) fn tiled(shape: &[u64], by: &[u64]) -> Result<Vec<u64>, String> {
    if shape.len() != by.len() {
        return Err(format!("{} repeats for {} ranks", by.len(), shape.len()));
    }
    let out: Option<Vec<u64>> = shape
        .iter()
        .zip(by)
        .map(|(d, r)| d.checked_mul(*r))
        .collect();
    shapes::checked(
        out.ok_or_else(|| format!("shape {shape:?} repeated {by:?} times is too large"))?,
    )
}

/// A slice: the shape of its result, and where and in which steps it reads each axis.
pub(super) struct Slice {
    pub shape: Vec<u64>,
    pub starts: Vec<u64>,
    pub steps: Vec<i64>,
}

/// What a Slice reads.
pub(super) fn sliced(node: &Node) -> Result<Slice, Fault> {
    let x = node.input(0)?;
    let list = |name: &str, i: usize| match node.ints(name) {
        Some(v) if node.opset < 10 => Ok(Some(v.to_vec())),
        _ if node.optional(i).is_some() => node.known(i, "the bounds of the slice").map(Some),
        _ => Ok(None),
    };
    let starts = list("starts", 1)?.ok_or("it needs starts")?;
    let ends = list("ends", 2)?.ok_or("it needs ends")?;
    let axes = list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = list("steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err("its starts, ends, axes and steps must be equally many".into());
    }
    shapes::axes(&axes, x.rank())?;
    let (mut shape, mut first, mut by) = (x.shape.clone(), vec![0; x.rank()], vec![1; x.rank()]);
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = shapes::axis(*axis, x.rank())?;
        (first[axis], by[axis], shape[axis]) = shapes::slice(x.shape[axis], *start, *end, *step)?;
    }
    Ok(Slice {
        shape,
        starts: first,
        steps: by,
    })
}

/// Axis and result of a Concat.
pub(super) fn concatenated(node: &Node) -> Result<(usize, Vec<u64>), Fault> {
    let first = node.input(0)?;
    let axis = shapes::axis(node.int("axis", 0), first.rank())?;
    let mut shape = first.shape.clone();
    for part in node.inputs.iter().skip(1).flatten() {
        let fits = part.rank() == shape.len()
            && (0..shape.len()).all(|i| i == axis || part.shape[i] == shape[i]);
        if !fits {
            return Err(format!(
                "{:?} does not concatenate with {:?} along axis {axis}",
                part.shape, first.shape
            )
            .into());
        }
        shape[axis] = shape[axis]
            .checked_add(part.shape[axis])
            .ok_or("its result is too large")?;
    }
    Ok((axis, shapes::checked(shape)?))
}

/// Axis and extents of the parts of a Split.
pub(super) fn split(node: &Node) -> Result<(usize, Vec<u64>), Fault> {
    let x = node.input(0)?;
    let axis = shapes::axis(node.int("axis", 0), x.rank())?;
    let extent = x.shape[axis];
    let outputs = node.proto.output.len().max(1) as u64;
    let given = match node.ints("split") {
        Some(parts) => Some(parts.to_vec()),
        None if node.optional(1).is_some() => Some(node.known(1, "the extents of its parts")?),
        None => None,
    };
    let parts: Vec<u64> = match given {
        Some(parts) => parts
            .iter()
            .map(|p| u64::try_from(*p).map_err(|_| format!("a part of extent {p}")))
            .collect::<Result<_, _>>()?,
        None => {
            let each = extent.div_ceil(outputs);
            (0..outputs)
                .map(|i| each.min(extent.saturating_sub(i.saturating_mul(each))))
                .collect()
        }
    };
    if parts.len() as u64 != outputs
        || parts.iter().try_fold(0u64, |n, p| n.checked_add(*p)) != Some(extent)
    {
        return Err(format!(
            "parts {parts:?} for {outputs} outputs do not make up axis {axis} of {:?}",
            x.shape
        )
        .into());
    }
    Ok((axis, parts))
}

/// The axes of a reduction.
pub(super) fn reduced(node: &Node) -> Result<Vec<usize>, Fault> {
    let rank = node.input(0)?.rank();
    match node.axes(1)?.filter(|a| !a.is_empty()) {
        Some(axes) => Ok(shapes::axes(&axes, rank)?),
        None if node.int("noop_with_empty_axes", 0) != 0 => Ok(vec![]),
        None => Ok((0..rank).collect()),
    }
}
