//! Ops that move elements and change none.

use presil_workloads::Meaning;

use crate::array::{Array, strides};

/// The result of a movement of some inputs into a shape, in repetition `step` of its block; `None` where the meaning is
/// another, or does not fit the inputs.
pub fn moved(meaning: &Meaning, inputs: &[&Array], shape: &[usize], step: usize) -> Option<Array> {
    let x = *inputs.first()?;
    match meaning {
        Meaning::Reshape => x.clone().reshaped(shape).ok(),
        Meaning::Slice {
            starts,
            sizes,
            steps,
        } => {
            let of = |list: &[u64]| -> Option<Vec<i64>> {
                list.iter().map(|s| i64::try_from(*s).ok()).collect()
            };
            let sizes: Vec<usize> = of(sizes)?.iter().map(|s| *s as usize).collect();
            strided(x, &of(starts)?, steps, &sizes)?
                .reshaped(shape)
                .ok()
        }
        Meaning::Step { axis } => {
            let mut sizes = x.shape().to_vec();
            *sizes.get_mut(*axis)? = 1;
            let mut starts = vec![0; sizes.len()];
            starts[*axis] = i64::try_from(step).ok()?;
            strided(x, &starts, &vec![1; sizes.len()], &sizes)?
                .reshaped(shape)
                .ok()
        }
        Meaning::Transpose { order } => {
            let own = strides(x.shape());
            let steps: Option<Vec<i64>> = order
                .iter()
                .map(|r| own.get(*r).map(|s| *s as i64))
                .collect();
            Array::new(shape.to_vec(), walk(x.values(), 0, &steps?, shape)?).ok()
        }
        Meaning::Enlarge { factors } => {
            let own = strides(x.shape());
            let places = places(shape, |rank, index| {
                let factor = usize::try_from(*factors.get(rank)?)
                    .ok()
                    .filter(|f| *f > 0)?;
                Some(index / factor * own.get(rank)?)
            })?;
            pick(x, &places, shape)
        }
        Meaning::Concat { axis } => concat(inputs, *axis, shape),
        Meaning::Pad { before, value } => pad(x, before, *value, shape),
        Meaning::Gather { axis } => gather(x, inputs.get(1)?, *axis, shape),
        _ => None,
    }
}

/// The offset of each place of a shape, the sum over its ranks of what an index adds.
fn places(shape: &[usize], offset: impl Fn(usize, usize) -> Option<usize>) -> Option<Vec<usize>> {
    let mut places = vec![0usize];
    for (rank, extent) in shape.iter().enumerate() {
        let added: Option<Vec<usize>> = (0..*extent).map(|i| offset(rank, i)).collect();
        let added = added?;
        places = places
            .iter()
            .flat_map(|p| added.iter().map(move |a| p + a))
            .collect();
    }
    Some(places)
}

fn pick(x: &Array, places: &[usize], shape: &[usize]) -> Option<Array> {
    let values: Option<Vec<f32>> = places.iter().map(|p| x.values().get(*p).copied()).collect();
    Array::new(shape.to_vec(), values?).ok()
}

/// Elements from `start` on at `steps` of each rank.
fn walk(values: &[f32], start: i64, steps: &[i64], shape: &[usize]) -> Option<Vec<f32>> {
    let mut places = vec![start];
    for (step, extent) in steps.iter().zip(shape) {
        places = places
            .iter()
            .flat_map(|p| (0..*extent as i64).map(move |i| p + i * step))
            .collect();
    }
    let at = |p: &i64| values.get(usize::try_from(*p).ok()?).copied();
    places.iter().map(at).collect()
}

/// The part of a tensor from `starts` on, at `steps` of each rank.
fn strided(x: &Array, starts: &[i64], steps: &[i64], sizes: &[usize]) -> Option<Array> {
    let own = strides(x.shape());
    if [starts.len(), steps.len(), sizes.len()] != [own.len(); 3] {
        return None;
    }
    for (rank, extent) in x.shape().iter().enumerate() {
        let last = starts[rank] + steps[rank] * (sizes[rank] as i64 - 1);
        let inside = |i: i64| (0..*extent as i64).contains(&i);
        if sizes[rank] > 0 && !(inside(starts[rank]) && inside(last)) {
            return None;
        }
    }
    let start = starts.iter().zip(&own).map(|(s, o)| s * *o as i64).sum();
    let steps: Vec<i64> = steps.iter().zip(&own).map(|(s, o)| s * *o as i64).collect();
    Array::new(sizes.to_vec(), walk(x.values(), start, &steps, sizes)?).ok()
}

fn concat(inputs: &[&Array], axis: usize, shape: &[usize]) -> Option<Array> {
    let outer: usize = shape.get(..axis)?.iter().product();
    let inner: usize = shape.get(axis + 1..)?.iter().product();
    let mut values = Vec::with_capacity(shape.iter().product());
    for o in 0..outer {
        for x in inputs {
            let run = x.shape().get(axis)? * inner;
            values.extend_from_slice(x.values().get(o * run..(o + 1) * run)?);
        }
    }
    Array::new(shape.to_vec(), values).ok()
}

fn pad(x: &Array, before: &[u64], value: f64, shape: &[usize]) -> Option<Array> {
    let own = strides(x.shape());
    let outside = usize::MAX >> 8;
    let places = places(shape, |rank, index| {
        let first = usize::try_from(*before.get(rank)?).ok()?;
        let inside = index.checked_sub(first).filter(|i| i < &x.shape()[rank]);
        Some(inside.map_or(outside, |i| i * own[rank]))
    })?;
    let at = |p: &usize| x.values().get(*p).copied().unwrap_or(value as f32);
    Array::new(shape.to_vec(), places.iter().map(at).collect()).ok()
}

fn gather(table: &Array, indices: &Array, axis: usize, shape: &[usize]) -> Option<Array> {
    let outer: usize = table.shape().get(..axis)?.iter().product();
    let entries = *table.shape().get(axis)?;
    let inner: usize = table.shape().get(axis + 1..)?.iter().product();
    let mut values = Vec::with_capacity(shape.iter().product());
    for o in 0..outer {
        for index in indices.values() {
            // Negative places count from the end.
            let at = if *index < 0.0 {
                *index + entries as f32
            } else {
                *index
            };
            let row = o * entries + (at >= 0.0 && at < entries as f32).then_some(at as usize)?;
            values.extend_from_slice(&table.values()[row * inner..(row + 1) * inner]);
        }
    }
    Array::new(shape.to_vec(), values).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn counted(shape: &[usize]) -> Array {
        let n: usize = shape.iter().product();
        Array::new(shape.to_vec(), (0..n).map(|i| i as f32).collect()).unwrap()
    }

    #[test]
    fn movements_put_elements_where_their_index_says() {
        let x = counted(&[2, 3, 4]);
        let at = |i: usize, j: usize, k: usize| (i * 12 + j * 4 + k) as f32;
        let order = vec![2, 0, 1];
        let t = moved(&Meaning::Transpose { order }, &[&x], &[4, 2, 3], 0).unwrap();
        let s = Meaning::Slice {
            starts: vec![0, 2, 1],
            sizes: vec![2, 2, 2],
            steps: vec![1, -1, 2],
        };
        let s = moved(&s, &[&x], &[2, 2, 2], 0).unwrap();
        let e = moved(
            &Meaning::Enlarge {
                factors: vec![1, 2, 3],
            },
            &[&x],
            &[2, 6, 12],
            0,
        )
        .unwrap();
        let p = Meaning::Pad {
            before: vec![0, 1, 2],
            value: -1.0,
        };
        let p = moved(&p, &[&x], &[2, 5, 7], 0).unwrap();
        let step = moved(&Meaning::Step { axis: 1 }, &[&x], &[2, 4], 2).unwrap();
        for (i, j, k) in
            (0..2).flat_map(|i| (0..3).flat_map(move |j| (0..4).map(move |k| (i, j, k))))
        {
            assert_eq!(t.values()[k * 6 + i * 3 + j], at(i, j, k));
            assert_eq!(
                e.values()[i * 72 + (2 * j + 1) * 12 + 3 * k + 2],
                at(i, j, k)
            );
            assert_eq!(p.values()[i * 35 + (j + 1) * 7 + k + 2], at(i, j, k));
        }
        assert_eq!(p.values().iter().filter(|v| **v == -1.0).count(), 70 - 24);
        assert_eq!(
            s.values(),
            [
                at(0, 2, 1),
                at(0, 2, 3),
                at(0, 1, 1),
                at(0, 1, 3),
                at(1, 2, 1),
                at(1, 2, 3),
                at(1, 1, 1),
                at(1, 1, 3)
            ]
        );
        assert_eq!(step.values()[5], at(1, 2, 1));
    }

    #[test]
    fn parts_are_joined_and_looked_up() {
        let (x, y) = (counted(&[2, 1, 2]), counted(&[2, 2, 2]));
        let joined = moved(&Meaning::Concat { axis: 1 }, &[&x, &y], &[2, 3, 2], 0).unwrap();
        assert_eq!(
            joined.values(),
            [0., 1., 0., 1., 2., 3., 2., 3., 4., 5., 6., 7.]
        );
        let rows = Array::new(vec![3], vec![1.0, 0.0, -1.0]).unwrap();
        let found = moved(&Meaning::Gather { axis: 0 }, &[&y, &rows], &[3, 2, 2], 0).unwrap();
        assert_eq!(
            found.values(),
            [4., 5., 6., 7., 0., 1., 2., 3., 4., 5., 6., 7.]
        );
        let beyond = Array::new(vec![1], vec![2.0]).unwrap();
        assert!(moved(&Meaning::Gather { axis: 0 }, &[&y, &beyond], &[1, 2, 2], 0).is_none());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = counted(&[2, 3]);
        let part = |start, size| Meaning::Slice {
            starts: vec![0, start],
            sizes: vec![2, size],
            steps: vec![1, 1],
        };
        assert!(moved(&part(1, 3), &[&x], &[2, 3], 0).is_none());
        assert!(moved(&part(1, 2), &[&x], &[2, 3], 0).is_none());
        assert!(moved(&Meaning::Reshape, &[&x], &[7], 0).is_none());
        assert!(moved(&Meaning::Step { axis: 1 }, &[&x], &[2], 3).is_none());
    }
}
