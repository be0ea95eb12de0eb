//! What runs along an axis: weighted sums, cumulative sums, orders.

use rayon::prelude::*;

use crate::array::Array;
use crate::vector::VectorUnit;

/// A tensor seen as [outer, extent, inner] about an axis.
fn around(shape: &[usize], axis: usize) -> Option<[usize; 3]> {
    let outer = shape.get(..axis)?.iter().product();
    let inner = shape.get(axis + 1..)?.iter().product();
    Some([outer, *shape.get(axis)?, inner])
}

/// Sums of elements times weights along an axis.
pub fn blend(
    unit: &VectorUnit,
    x: &Array,
    axis: usize,
    taps: &[Vec<(usize, f64)>],
    shape: &[usize],
) -> Option<Array> {
    let [_, extent, inner] = around(x.shape(), axis)?;
    let is_inside = taps.iter().flatten().all(|(place, _)| *place < extent);
    let fits = x.shape().len() == shape.len()
        && (0..shape.len()).all(|r| shape[r] == if r == axis { taps.len() } else { x.shape()[r] });
    if !is_inside || !fits {
        return None;
    }
    let mut out = Array::zeros(shape);
    let row = |(i, row): (usize, &mut [f32])| {
        let (outer, taps) = (i / taps.len(), &taps[i % taps.len()]);
        for (column, y) in row.iter_mut().enumerate() {
            let sum = taps.iter().fold(0.0, |sum, (place, weight)| {
                let x = f64::from(x.values()[(outer * extent + place) * inner + column]);
                unit.step(x.mul_add(*weight, sum))
            });
            *y = sum as f32;
        }
    };
    out.values_mut()
        .par_chunks_mut(inner.max(1))
        .enumerate()
        .for_each(row);
    Some(out)
}

/// Sums or products of the elements up to each.
pub fn cumulative(
    unit: &VectorUnit,
    x: &Array,
    axis: usize,
    product: bool,
    (exclusive, reverse): (bool, bool),
) -> Option<Array> {
    let [outer, extent, inner] = around(x.shape(), axis)?;
    let mut out = x.clone();
    let values = out.values_mut();
    for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
        let mut so_far = if product { 1.0 } else { 0.0 };
        for k in 0..extent {
            let k = if reverse { extent - 1 - k } else { k };
            let place = &mut values[(o * extent + k) * inner + i];
            let own = f64::from(*place);
            let next = unit.step(if product { so_far * own } else { so_far + own });
            *place = if exclusive { so_far } else { next } as f32;
            so_far = next;
        }
    }
    Some(out)
}

/// The places of the largest or smallest elements along an axis.
pub fn order(
    x: &Array,
    axis: usize,
    count: usize,
    (largest, last): (bool, bool),
    shape: &[usize],
) -> Option<Array> {
    let [outer, extent, inner] = around(x.shape(), axis)?;
    if count > extent || shape.iter().product::<usize>() != outer * count * inner {
        return None;
    }
    let mut out = Array::zeros(shape);
    let mut places: Vec<usize> = Vec::with_capacity(extent);
    for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
        let at = |k: usize| x.values()[(o * extent + k) * inner + i];
        let compare = |a: &usize, b: &usize| {
            let by_value = if largest {
                at(*b).total_cmp(&at(*a))
            } else {
                at(*a).total_cmp(&at(*b))
            };
            // -0 and 0 are equal.
            let by_value = if at(*a) == at(*b) {
                std::cmp::Ordering::Equal
            } else {
                by_value
            };
            by_value.then(if last { b.cmp(a) } else { a.cmp(b) })
        };
        places.clear();
        places.extend(0..extent);
        if count < extent && count > 0 {
            places.select_nth_unstable_by(count - 1, compare);
        }
        places.truncate(count);
        places.sort_unstable_by(compare);
        for (k, place) in places.iter().enumerate() {
            out.values_mut()[(o * count + k) * inner + i] = *place as f32;
        }
    }
    Some(out)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn array(shape: &[usize], values: &[f32]) -> Array {
        Array::new(shape.to_vec(), values.to_vec()).unwrap()
    }

    #[test]
    fn sums_run_from_either_end_with_or_without_the_element() {
        let x = array(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
        let unit = VectorUnit::default();
        let of = |axis, product, how| {
            let y = cumulative(&unit, &x, axis, product, how).unwrap();
            y.values().to_vec()
        };
        assert_eq!(of(1, false, (false, false)), [1., 3., 6., 4., 9., 15.]);
        assert_eq!(of(1, false, (true, false)), [0., 1., 3., 0., 4., 9.]);
        assert_eq!(of(1, false, (false, true)), [6., 5., 3., 15., 11., 6.]);
        assert_eq!(of(0, true, (false, false)), [1., 2., 3., 4., 10., 18.]);
    }

    #[test]
    fn orders_name_places_and_resolve_equals_by_them() {
        let x = array(&[1, 5], &[2., 7., 7., -1., 3.]);
        let of = |count, how| {
            let y = order(&x, 1, count, how, &[1, count]).unwrap();
            y.values().to_vec()
        };
        assert_eq!(of(3, (true, false)), [1., 2., 4.]);
        assert_eq!(of(1, (true, true)), [2.]);
        assert_eq!(of(2, (false, false)), [3., 0.]);
        assert!(order(&x, 1, 6, (true, false), &[1, 6]).is_none());
    }

    #[test]
    fn blends_weigh_elements_of_their_axis() {
        let x = array(&[2, 2], &[1., 2., 3., 5.]);
        let taps = [vec![(0, 0.5), (1, 0.5)], vec![(1, 2.0)], vec![]];
        let y = blend(&VectorUnit::default(), &x, 1, &taps, &[2, 3]).unwrap();
        assert_eq!(y.values(), [1.5, 4., 0., 4., 10., 0.]);
        let y = blend(&VectorUnit::default(), &x, 0, &taps, &[3, 2]).unwrap();
        assert_eq!(y.values(), [2., 3.5, 6., 10., 0., 0.]);
        assert!(blend(&VectorUnit::default(), &x, 0, &[vec![(2, 1.0)]], &[1, 2]).is_none());
    }
}
