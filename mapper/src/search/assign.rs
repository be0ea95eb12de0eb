//! Which dimensions lie along which axes, and with how many trips: every assignment there is.

use super::model::{DIMS, Model};

/// A loop in space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spread {
    pub axis: u8,
    pub dim: u8,
    pub trips: u32,
}

/// An assignment of dimensions to axes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    /// In order of the axes; on one axis in order of the dimensions.
    pub spreads: Vec<Spread>,
    /// Trips in space of each dimension.
    pub spread: [u32; DIMS],
}

/// All assignments whose iterations alone may take less than `cycles` points on each instance, at most `most` of
/// them; whether those are all.
pub(super) fn all(model: &Model, cycles: f64, most: usize) -> (Vec<Assignment>, bool) {
    let mut found = vec![Assignment {
        spreads: Vec::new(),
        spread: [1; DIMS],
    }];
    let mut whole = true;
    for (a, axis) in model.frame.axes.iter().enumerate() {
        let mut dims = axis.accepts.clone();
        dims.sort_unstable();
        let mut next = Vec::new();
        for base in &found {
            let room: f64 = model.frame.axes[a + 1..].iter().map(|x| x.size as f64).product();
            let fast = |x: &Assignment| x.iterations(model) / room <= cycles;
            fill(model, a as u8, &dims, axis.size, base.clone(), &fast, &mut next);
            if next.len() > most {
                whole = false;
                break;
            }
        }
        next.truncate(most);
        found = next;
    }
    (found, whole)
}

fn fill(
    model: &Model,
    axis: u8,
    dims: &[usize],
    room: u64,
    base: Assignment,
    fast: &impl Fn(&Assignment) -> bool,
    found: &mut Vec<Assignment>,
) {
    if let Some((&dim, rest)) = dims.split_first() {
        let left = u64::from(model.sizes[dim].div_ceil(base.spread[dim]));
        for trips in model.chains[dim].trips(room.min(left)) {
            let mut next = base.clone();
            next.spreads.push(Spread {
                axis,
                dim: dim as u8,
                trips,
            });
            next.spread[dim] *= trips;
            fill(model, axis, rest, room / u64::from(trips), next, fast, found);
        }
        fill(model, axis, rest, room, base, fast, found);
    } else if fast(&base) {
        found.push(base);
    }
}

impl Assignment {
    /// Points of the box that the busiest instance runs, at least.
    pub fn iterations(&self, model: &Model) -> f64 {
        let each = model.sizes.iter().zip(&self.spread);
        let points: f64 = each.map(|(n, s)| f64::from(n.div_ceil(*s))).product();
        points * model.density
    }
}
