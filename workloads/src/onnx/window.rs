//! Windows that slide over spatial ranks: convolutions and poolings.

use crate::einsum::{Affine, DimId};

use super::error::Fault;
use super::node::Node;

/// Strides, dilations and paddings up to this are taken; it keeps index arithmetic in range.
pub(super) const LARGEST_STEP: u64 = 1 << 31;

/// A sliding window over spatial ranks.
#[derive(Debug, Clone)]
pub(super) struct Window {
    /// Input extents.
    pub extents: Vec<u64>,
    /// Filter taps.
    pub kernel: Vec<u64>,
    /// Steps between outputs.
    pub stride: Vec<u64>,
    /// Steps between taps.
    pub dilation: Vec<u64>,
    /// Padding in front.
    pub before: Vec<u64>,
    /// Padding behind.
    pub after: Vec<u64>,
    /// Whether output extents are rounded up.
    pub ceil: bool,
    /// How the padding follows from the sizes: SAME_UPPER, SAME_LOWER, or as given.
    pub auto: Option<bool>,
}

impl Window {
    /// The window that a node's attributes describe over an input [n, c, spatial..].
    pub fn of(node: &Node, input: &[u64], kernel: &[i64], ceil: bool) -> Result<Self, Fault> {
        let rank = kernel.len();
        if input.len() != rank + 2 || !(1..=3).contains(&rank) {
            return Err(format!("a filter of {rank} ranks over an input of shape {input:?}; one to three ranks behind batch and channels are supported").into());
        }
        let list =
            |name: &str, default: u64, least: u64, count: usize| -> Result<Vec<u64>, Fault> {
                let Some(given) = node.ints(name).filter(|g| !g.is_empty()) else {
                    return Ok(vec![default; count]);
                };
                if given.len() != count {
                    return Err(format!("{name} {given:?} must have {count} numbers").into());
                }
                let one = |v: &i64| {
                    u64::try_from(*v)
                        .ok()
                        .filter(|v| (least..LARGEST_STEP).contains(v))
                };
                let all: Option<Vec<u64>> = given.iter().map(one).collect();
                all.ok_or_else(|| format!("{name} {given:?} must be {least} or more").into())
            };
        let kernel: Option<Vec<u64>> = kernel
            .iter()
            .map(|k| {
                u64::try_from(*k)
                    .ok()
                    .filter(|k| (1..LARGEST_STEP).contains(k))
            })
            .collect();
        let pads = list("pads", 0, 0, 2 * rank)?;
        let mut window = Self {
            extents: input[2..].to_vec(),
            kernel: kernel.ok_or("its filter extents must be 1 or more")?,
            stride: list("strides", 1, 1, rank)?,
            dilation: list("dilations", 1, 1, rank)?,
            before: pads[..rank].to_vec(),
            after: pads[rank..].to_vec(),
            ceil,
            auto: None,
        };
        match node.text("auto_pad") {
            "" | "NOTSET" => {}
            "VALID" => {
                window.before.fill(0);
                window.after.fill(0);
            }
            side @ ("SAME_UPPER" | "SAME_LOWER") => window.auto = Some(side == "SAME_UPPER"),
            other => {
                return Err(format!(
                    "auto_pad `{other}` is none of NOTSET, VALID, SAME_UPPER and SAME_LOWER"
                )
                .into());
            }
        }
        if let Some(upper) = window.auto {
            for i in 0..rank {
                // The output has ceil(input / stride) positions; what the last window lacks is padded.
                let positions = window.extents[i].div_ceil(window.stride[i]).max(1);
                let reach = (positions - 1) * window.stride[i] + window.span(i);
                let total = reach.saturating_sub(window.extents[i]);
                let (small, large) = (total / 2, total - total / 2);
                (window.before[i], window.after[i]) = if upper {
                    (small, large)
                } else {
                    (large, small)
                };
            }
        }
        Ok(window)
    }

    /// Extent of the dilated filter.
    pub fn span(&self, i: usize) -> u64 {
        (self.kernel[i] - 1) * self.dilation[i] + 1
    }

    /// Output extents.
    pub fn outputs(&self) -> Result<Vec<u64>, Fault> {
        let one = |i: usize| {
            let padded = self.extents[i]
                .checked_add(self.before[i])?
                .checked_add(self.after[i])?;
            let room = padded.checked_sub(self.span(i))?;
            let steps = if self.ceil {
                room.div_ceil(self.stride[i])
            } else {
                room / self.stride[i]
            };
            // A window that would start in the padding behind is dropped.
            let beyond =
                self.ceil && steps.checked_mul(self.stride[i])? >= self.extents[i] + self.before[i];
            Some(if beyond { steps } else { steps + 1 })
        };
        let all: Option<Vec<u64>> = (0..self.kernel.len()).map(one).collect();
        all.ok_or_else(|| {
            format!(
                "the filter {:?} is larger than the padded input {:?}",
                self.kernel, self.extents
            )
            .into()
        })
    }

    /// The extents of the input that a pooling with this window made its output, `extents`, from.
    pub fn inverse(&self) -> Result<Vec<u64>, Fault> {
        let one = |i: usize| {
            let reach = self.extents[i]
                .checked_sub(1)?
                .checked_mul(self.stride[i])?
                .checked_add(self.kernel[i])?;
            reach.checked_sub(self.before[i] + self.after[i])
        };
        let all: Option<Vec<u64>> = (0..self.kernel.len()).map(one).collect();
        all.ok_or_else(|| "its padding leaves no output".into())
    }

    /// The index of an input (of the output, for transposed convolutions): `stride x out + dilation x tap - before`.
    pub fn affine(&self, i: usize, out: DimId, tap: DimId) -> Affine {
        Affine {
            terms: vec![(out, self.stride[i] as i64), (tap, self.dilation[i] as i64)],
            offset: -(self.before[i] as i64),
        }
    }

    /// As one of at least two ranks: a 1-D window has height 1.
    pub fn at_least_2d(mut self) -> Self {
        if self.kernel.len() == 1 {
            for list in [
                &mut self.extents,
                &mut self.kernel,
                &mut self.stride,
                &mut self.dilation,
            ] {
                list.insert(0, 1);
            }
            self.before.insert(0, 0);
            self.after.insert(0, 0);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Output extents against a walk over window positions.
        #[test]
        fn windows_have_as_many_positions_as_fit(
            extent in 1u64..30, kernel in 1u64..6, stride in 1u64..5, dilation in 1u64..4, before in 0u64..4, after in 0u64..4, ceil: bool,
        ) {
            let window = Window {
                extents: vec![extent], kernel: vec![kernel], stride: vec![stride], dilation: vec![dilation],
                before: vec![before], after: vec![after], ceil, auto: None,
            };
            let padded = extent + before + after;
            let span = (kernel - 1) * dilation + 1;
            // Frameworks refuse paddings that a window could lie in.
            prop_assume!(before < span && after < span);
            let starts = (0..padded).step_by(stride as usize);
            let whole = starts.clone().filter(|s| s + span <= padded).count() as u64;
            // Rounded up, one more window may hang over, if it starts before the padding behind.
            let next = whole * stride;
            let hangs = ceil && whole > 0 && (whole - 1) * stride + span < padded && next < extent + before;
            match window.outputs() {
                Ok(out) => prop_assert_eq!(out, vec![whole + u64::from(hangs)]),
                Err(_) => prop_assert_eq!(whole, 0),
            }
        }
    }
}
