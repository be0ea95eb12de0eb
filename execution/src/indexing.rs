//! Elements by index: taken along an axis, looked up, written, cut to a band. Negative indices count from the end; those
//! outside give no result.

use presil_workloads::{Meaning, ReduceOperator};

use crate::array::{Array, strides};

/// The result of a look-up or a write into a shape.
pub fn indexed(meaning: &Meaning, inputs: &[&Array], shape: &[usize]) -> Option<Array> {
    let x = *inputs.first()?;
    match meaning {
        Meaning::Take { axis, places, fill } => take(x, *axis, places, *fill as f32, shape),
        Meaning::Band {
            least,
            most,
            outside,
        } => band(x, *least, *most, *outside as f32),
        Meaning::GatherElements { axis } => {
            let index = *inputs.get(1)?;
            let values: Option<Vec<f32>> = element_places(x, index, *axis)?
                .map(|p| x.values().get(p?).copied())
                .collect();
            Array::new(shape.to_vec(), values?).ok()
        }
        Meaning::GatherVectors { batch } => gather_vectors(x, inputs.get(1)?, *batch, shape),
        Meaning::ScatterElements { axis, reduction } => {
            let (index, updates) = (*inputs.get(1)?, *inputs.get(2)?);
            let mut out = x.clone();
            for (place, update) in element_places(x, index, *axis)?.zip(updates.values()) {
                meet(out.values_mut().get_mut(place?)?, *update, *reduction);
            }
            Some(out)
        }
        Meaning::ScatterVectors { reduction } => {
            let (index, updates) = (*inputs.get(1)?, *inputs.get(2)?);
            let (firsts, run) = vector_places(x, index, 0)?;
            if updates.values().len() != firsts.len() * run {
                return None;
            }
            let mut out = x.clone();
            for (first, updates) in firsts.iter().zip(updates.values().chunks(run.max(1))) {
                let values = out.values_mut().get_mut(*first..first + run)?;
                for (value, update) in values.iter_mut().zip(updates) {
                    meet(value, *update, *reduction);
                }
            }
            Some(out)
        }
        _ => None,
    }
}

fn take(
    x: &Array,
    axis: usize,
    places: &[Option<usize>],
    fill: f32,
    shape: &[usize],
) -> Option<Array> {
    let outer: usize = x.shape().get(..axis)?.iter().product();
    let extent = *x.shape().get(axis)?;
    let inner: usize = x.shape().get(axis + 1..)?.iter().product();
    let mut values = Vec::with_capacity(outer * places.len() * inner);
    for o in 0..outer {
        for place in places {
            match place {
                Some(place) if *place < extent => {
                    let first = (o * extent + place) * inner;
                    values.extend_from_slice(&x.values()[first..first + inner]);
                }
                Some(_) => return None,
                None => values.extend(std::iter::repeat_n(fill, inner)),
            }
        }
    }
    Array::new(shape.to_vec(), values).ok()
}

fn band(x: &Array, least: Option<i64>, most: Option<i64>, outside: f32) -> Option<Array> {
    let [.., rows, columns] = x.shape() else {
        return None;
    };
    let (rows, columns) = (*rows, *columns);
    let mut out = x.clone();
    for (i, row) in out.values_mut().chunks_mut(columns.max(1)).enumerate() {
        let at = (i % rows.max(1)) as i64;
        for (column, value) in row.iter_mut().enumerate() {
            let ahead = column as i64 - at;
            if least.is_some_and(|l| ahead < l) || most.is_some_and(|m| ahead > m) {
                *value = outside;
            }
        }
    }
    Some(out)
}

/// A place that may count from the end.
fn inside(index: f32, extent: usize) -> Option<usize> {
    let at = if index < 0.0 {
        index + extent as f32
    } else {
        index
    };
    (at >= 0.0 && at < extent as f32).then_some(at as usize)
}

/// For each index, the place of its element: its own place with the index along the axis.
fn element_places<'a>(
    x: &'a Array,
    index: &'a Array,
    axis: usize,
) -> Option<impl Iterator<Item = Option<usize>> + 'a> {
    let (own, seen) = (strides(x.shape()), strides(index.shape()));
    let extent = *x.shape().get(axis)?;
    let ranks = x.shape().len();
    let smaller = index.shape().len() == ranks
        && (0..ranks).all(|r| r == axis || index.shape()[r] <= x.shape()[r]);
    if !smaller {
        return None;
    }
    let place = move |(i, value): (usize, &f32)| {
        let mut place = inside(*value, extent)? * own[axis];
        for r in (0..ranks).filter(|r| *r != axis) {
            place += i / seen[r] % index.shape()[r] * own[r];
        }
        Some(place)
    };
    Some(index.values().iter().enumerate().map(place))
}

/// For each index vector, where its part begins; and elements of a part.
fn vector_places(x: &Array, index: &Array, batch: usize) -> Option<(Vec<usize>, usize)> {
    let own = strides(x.shape());
    let (&width, outer) = index.shape().split_last()?;
    let run: usize = x.shape().get(batch + width..)?.iter().product();
    let batches: usize = outer.get(..batch)?.iter().product();
    let each: usize = outer[batch..].iter().product();
    let step: usize = x.shape().get(batch..)?.iter().product();
    let vectors = index.values().chunks(width.max(1)).enumerate();
    let first = |(i, vector): (usize, &[f32])| {
        let start = i / each.max(1) % batches.max(1) * step;
        vector.iter().enumerate().try_fold(start, |place, (r, v)| {
            Some(place + inside(*v, x.shape()[batch + r])? * own[batch + r])
        })
    };
    Some((vectors.map(first).collect::<Option<_>>()?, run))
}

fn gather_vectors(x: &Array, index: &Array, batch: usize, shape: &[usize]) -> Option<Array> {
    let (firsts, run) = vector_places(x, index, batch)?;
    let mut values = Vec::with_capacity(firsts.len() * run);
    for first in firsts {
        values.extend_from_slice(x.values().get(first..first + run)?);
    }
    Array::new(shape.to_vec(), values).ok()
}

fn meet(value: &mut f32, update: f32, reduction: Option<ReduceOperator>) {
    *value = match reduction {
        None => update,
        Some(ReduceOperator::Sum) => *value + update,
        Some(ReduceOperator::Product) => *value * update,
        Some(ReduceOperator::Max) => value.max(update),
        Some(ReduceOperator::Min) => value.min(update),
    };
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn array(shape: &[usize], values: &[f32]) -> Array {
        Array::new(shape.to_vec(), values.to_vec()).unwrap()
    }

    #[test]
    fn elements_are_looked_up_along_their_axis() {
        let x = array(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
        let index = array(&[1, 3], &[1., 0., -1.]);
        let meaning = Meaning::GatherElements { axis: 0 };
        let y = indexed(&meaning, &[&x, &index], &[1, 3]).unwrap();
        assert_eq!(y.values(), [4., 2., 6.]);
        let updates = array(&[1, 3], &[10., 20., 30.]);
        let meaning = Meaning::ScatterElements {
            axis: 0,
            reduction: Some(ReduceOperator::Sum),
        };
        let y = indexed(&meaning, &[&x, &index, &updates], &[2, 3]).unwrap();
        assert_eq!(y.values(), [1., 22., 3., 14., 5., 36.]);
        let beyond = array(&[1, 3], &[2., 0., 0.]);
        assert!(indexed(&meaning, &[&x, &beyond, &updates], &[2, 3]).is_none());
    }

    #[test]
    fn parts_are_looked_up_by_vectors_of_each_batch() {
        let x = array(&[2, 2, 2], &[0., 1., 2., 3., 4., 5., 6., 7.]);
        let of = |batch, index: &Array, shape: &[usize]| {
            let meaning = Meaning::GatherVectors { batch };
            indexed(&meaning, &[&x, index], shape).map(|y| y.values().to_vec())
        };
        let pairs = array(&[2, 2], &[0., 1., 1., 0.]);
        assert_eq!(of(0, &pairs, &[2, 2]).unwrap(), [2., 3., 4., 5.]);
        let rows = array(&[2, 1], &[1., 0.]);
        assert_eq!(of(1, &rows, &[2, 2]).unwrap(), [2., 3., 4., 5.]);
        let meaning = Meaning::ScatterVectors { reduction: None };
        let updates = array(&[2, 2], &[9., 8., 7., 6.]);
        let y = indexed(&meaning, &[&x, &pairs, &updates], &[2, 2, 2]).unwrap();
        assert_eq!(y.values(), [0., 1., 9., 8., 7., 6., 6., 7.]);
    }

    #[test]
    fn bands_and_takes_put_something_outside() {
        let x = array(&[2, 3], &[1., 2., 3., 4., 5., 6.]);
        let meaning = Meaning::Band {
            least: Some(0),
            most: Some(1),
            outside: -1.0,
        };
        let y = indexed(&meaning, &[&x], &[2, 3]).unwrap();
        assert_eq!(y.values(), [1., 2., -1., -1., 5., 6.]);
        let meaning = Meaning::Take {
            axis: 1,
            places: vec![Some(2), None, Some(0), Some(0)],
            fill: 9.0,
        };
        let y = indexed(&meaning, &[&x], &[2, 4]).unwrap();
        assert_eq!(y.values(), [3., 9., 1., 1., 6., 9., 4., 4.]);
    }
}
