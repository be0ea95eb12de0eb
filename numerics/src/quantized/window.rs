//! Windows that slide over images of height and width.
//!
//! ```text
//! input row of tap i at output row o      o x stride + i x dilation - before
//! reach                                   (kernel - 1) x dilation + 1
//! VALID    output = ceil((input - reach + 1) / stride), before = 0
//! SAME     output = ceil(input / stride), padding = max((output - 1) stride + reach - input, 0), before = floor(padding / 2)
//! ```
//!
//! Columns likewise.

/// A window of two axes: rows, columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The image's extents.
    pub input: [usize; 2],
    /// The taps.
    pub kernel: [usize; 2],
    /// Steps between outputs.
    pub stride: [usize; 2],
    /// Steps between taps.
    pub dilation: [usize; 2],
    /// Padding above and to the left.
    pub before: [usize; 2],
    /// The output's extents.
    pub output: [usize; 2],
}

impl Window {
    /// Without padding.
    pub fn valid(
        input: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
    ) -> Self {
        let output = |i: usize| {
            let reach = reach(kernel[i], dilation[i]);
            (input[i] + 1)
                .saturating_sub(reach)
                .div_ceil(stride[i].max(1))
        };
        Self {
            input,
            kernel,
            stride,
            dilation,
            before: [0, 0],
            output: [output(0), output(1)],
        }
    }

    /// Padded so that the output has the input's extents over the strides.
    pub fn same(
        input: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
    ) -> Self {
        let output = [0, 1].map(|i| input[i].div_ceil(stride[i].max(1)));
        let before = [0, 1].map(|i| {
            let steps = output[i].saturating_sub(1).saturating_mul(stride[i]);
            let last = steps.saturating_add(reach(kernel[i], dilation[i]));
            last.saturating_sub(input[i]) / 2
        });
        Self {
            input,
            kernel,
            stride,
            dilation,
            before,
            output,
        }
    }

    /// Output positions.
    pub(super) fn positions(&self) -> usize {
        self.output[0].saturating_mul(self.output[1])
    }

    /// Taps.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0].saturating_mul(self.kernel[1])
    }

    /// The image's position, row by row, under each tap of an output position; `None` in the padding.
    pub(super) fn under(&self, position: usize) -> impl Iterator<Item = Option<usize>> {
        let width = self.output[1].max(1);
        let at = [position / width, position % width];
        let coordinate = move |axis: usize, tap: usize| {
            let steps = at[axis]
                .saturating_mul(self.stride[axis])
                .saturating_add(tap.saturating_mul(self.dilation[axis]));
            let inside = steps.checked_sub(self.before[axis])?;
            (inside < self.input[axis]).then_some(inside)
        };
        (0..self.kernel[0]).flat_map(move |i| {
            let row = coordinate(0, i);
            (0..self.kernel[1]).map(move |j| Some(row? * self.input[1] + coordinate(1, j)?))
        })
    }
}

fn reach(kernel: usize, dilation: usize) -> usize {
    kernel
        .saturating_sub(1)
        .saturating_mul(dilation)
        .saturating_add(1)
}
