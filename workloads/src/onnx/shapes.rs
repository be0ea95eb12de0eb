//! Shape rules that evaluation and lowering share.

use super::value::{MOST_RANKS, elements};

/// Checks that a shape's size fits.
pub(super) fn checked(shape: Vec<u64>) -> Result<Vec<u64>, String> {
    if shape.len() > MOST_RANKS {
        return Err(format!(
            "a result of {} ranks; {MOST_RANKS} are supported",
            shape.len()
        ));
    }
    match elements(&shape) {
        Some(_) => Ok(shape),
        None => Err(format!(
            "shape {shape:?} is too large: its size does not fit 64 bits"
        )),
    }
}

/// An axis that may count from the end.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let at = if axis < 0 {
        axis.checked_add(rank as i64)
    } else {
        Some(axis)
    };
    match at
        .and_then(|a| usize::try_from(a).ok())
        .filter(|a| *a < rank)
    {
        Some(a) => Ok(a),
        None => Err(format!("axis {axis} does not exist in {rank} ranks")),
    }
}

/// Axes that may count from the end, sorted, each once.
pub(super) fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut all: Vec<usize> = list
        .iter()
        .map(|a| axis(*a, rank))
        .collect::<Result<_, _>>()?;
    all.sort_unstable();
    if all.windows(2).any(|w| w[0] == w[1]) {
        return Err(format!("axes {list:?} name an axis twice"));
    }
    Ok(all)
}

/// The common shape of shapes that broadcast.
pub(super) fn broadcast<'a>(
    shapes: impl IntoIterator<Item = &'a [u64]>,
) -> Result<Vec<u64>, String> {
    let mut out: Vec<u64> = Vec::new();
    for shape in shapes {
        if shape.len() > out.len() {
            let missing = shape.len() - out.len();
            out.splice(0..0, std::iter::repeat_n(1, missing));
        }
        let skip = out.len() - shape.len();
        for (o, d) in out.iter_mut().skip(skip).zip(shape) {
            if *o != *d && *o != 1 && *d != 1 {
                return Err(format!("extents {o} and {d} do not broadcast"));
            }
            *o = if *o == 1 { *d } else { *o };
        }
    }
    checked(out)
}

/// The shape that a Reshape asks for: 0 copies an extent (unless `allow_zero`), one -1 takes what is left.
pub(super) fn reshape(from: &[u64], wanted: &[i64], allow_zero: bool) -> Result<Vec<u64>, String> {
    let fail = || format!("{from:?} does not reshape to {wanted:?}");
    let mut open = None;
    let mut shape = Vec::with_capacity(wanted.len().min(MOST_RANKS));
    if wanted.len() > MOST_RANKS {
        return Err(format!(
            "a result of {} ranks; {MOST_RANKS} are supported",
            wanted.len()
        ));
    }
    for (i, &w) in wanted.iter().enumerate() {
        shape.push(match w {
            0 if !allow_zero => *from.get(i).ok_or_else(fail)?,
            -1 if open.is_none() => {
                open = Some(i);
                1
            }
            w => u64::try_from(w).map_err(|_| fail())?,
        });
    }
    let have = elements(from).ok_or_else(fail)?;
    let rest = elements(&shape).ok_or_else(fail)?;
    if let Some(i) = open {
        let left = have.checked_div(rest).ok_or_else(fail)?;
        shape[i] = left;
    }
    if elements(&shape) != Some(have) {
        return Err(fail());
    }
    Ok(shape)
}

/// Start, step and number of elements of a slice of an axis.
pub(super) fn slice(
    extent: u64,
    start: i64,
    end: i64,
    step: i64,
) -> Result<(u64, i64, u64), String> {
    let n = i128::from(extent);
    let (start, end, step) = (i128::from(start), i128::from(end), i128::from(step));
    let wrap = |x: i128| if x < 0 { x + n } else { x };
    let (start, end) = match step {
        0 => return Err("a slice's step is 0; it must not be".into()),
        1.. => (wrap(start).clamp(0, n), wrap(end).clamp(0, n)),
        _ => (
            wrap(start).clamp(0, (n - 1).max(0)),
            wrap(end).clamp(-1, n - 1),
        ),
    };
    let span = if step > 0 { end - start } else { start - end };
    let count = if span <= 0 || n == 0 {
        0
    } else {
        (span - 1) / step.abs() + 1
    };
    let fits = |x: i128| u64::try_from(x).map_err(|_| "a slice out of range".to_string());
    Ok((
        fits(start)?,
        step.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64,
        fits(count)?,
    ))
}

/// Row-major strides of a shape whose size is checked.
pub(super) fn strides(shape: &[u64]) -> Vec<usize> {
    let mut out = vec![1usize; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i].saturating_mul(shape[i] as usize);
    }
    out
}

/// For each element of `shape` in order, the place that `offset + sum(index x stride)` gives. The caller bounds
/// the number of elements.
pub(super) fn places(shape: &[u64], steps: &[i64], offset: i64) -> Vec<usize> {
    let count = elements(shape).unwrap_or(0) as usize;
    let mut out = Vec::with_capacity(count);
    let mut index = vec![0u64; shape.len()];
    let mut place = offset;
    for _ in 0..count {
        // A place below 0 does not occur with strides from the shape itself; it would be out of range anyway.
        out.push(usize::try_from(place).unwrap_or(usize::MAX));
        for r in (0..shape.len()).rev() {
            index[r] += 1;
            place = place.wrapping_add(steps[r]);
            if index[r] < shape[r] {
                break;
            }
            place = place.wrapping_sub(steps[r].wrapping_mul(shape[r] as i64));
            index[r] = 0;
        }
    }
    out
}

/// Strides that read a tensor of shape `from` as if it were broadcast to `to`.
pub(super) fn broadcast_steps(from: &[u64], to: &[u64]) -> Vec<i64> {
    let own = strides(from);
    let skip = to.len() - from.len().min(to.len());
    let step = |r: usize| match r.checked_sub(skip) {
        Some(i) if from[i] != 1 => own[i] as i64,
        _ => 0,
    };
    (0..to.len()).map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_count_as_numpy_does() {
        let cases = [
            ((10, 0, 10, 1), (0, 10)),
            ((10, 2, -1, 3), (2, 3)),
            ((10, -1, i64::MIN, -1), (9, 10)),
            ((10, 8, 2, -2), (8, 3)),
            ((10, 5, 5, 1), (5, 0)),
            ((10, 0, i64::MAX, 4), (0, 3)),
            ((0, 0, 5, 1), (0, 0)),
        ];
        for ((extent, start, end, step), (first, count)) in cases {
            let got = slice(extent, start, end, step);
            assert_eq!(
                got.map(|(s, _, n)| (s, n)),
                Ok((first, count)),
                "{extent} {start}:{end}:{step}"
            );
        }
        assert!(slice(4, 0, 4, 0).is_err());
    }

    #[test]
    fn reshapes_take_zeros_and_one_open_extent() {
        assert_eq!(reshape(&[2, 3, 4], &[0, -1], false), Ok(vec![2, 12]));
        assert_eq!(reshape(&[2, 3, 4], &[4, 6], false), Ok(vec![4, 6]));
        assert!(reshape(&[2, 3, 4], &[-1, -1], false).is_err());
        assert!(reshape(&[2, 3, 4], &[5, -1], false).is_err());
        assert!(reshape(&[2, 3], &[0, 0, 0], false).is_err());
        assert_eq!(reshape(&[0, 3], &[0, 7], true), Ok(vec![0, 7]));
    }

    #[test]
    fn broadcasting_follows_the_last_ranks() {
        assert_eq!(broadcast([&[3, 1, 4][..], &[2, 4][..]]), Ok(vec![3, 2, 4]));
        assert!(broadcast([&[3][..], &[4][..]]).is_err());
        assert_eq!(
            places(&[2, 3], &broadcast_steps(&[3], &[2, 3]), 0),
            [0, 1, 2, 0, 1, 2]
        );
    }
}
